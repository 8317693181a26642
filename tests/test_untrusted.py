"""Files of strangers: attacks on every reader, in a process with a limit on its address space.

The attacks stand in `corpora`. Here they meet the readers as `scripts/fuzz_readers.py` calls them:
any error but the documented ones fails, and so does a process started, a socket opened, a file
changed, or code run.
"""

import importlib.util
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="this system has no limits on address space")

import fuzz_readers
from corpora.readers import attacks

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="no word of how much address space is used"
)
READERS = fuzz_readers.readers()
NEEDS = {"onnx": "onnx", "csv": "pandas"}
LACKING = [name for name, package in NEEDS.items() if not importlib.util.find_spec(package)]
# What test_datasets.py gives to `datasets.load`: alone, a part of a data set may be right.
ELSEWHERE = ("idx", "npz", "pickle")
HERE = [name for name in READERS if name not in ELSEWHERE]


def known_attacks(name):
    """The attacks on a reader, by title."""
    return attacks(name, next(iter(READERS[name].seeds())))


@pytest.fixture(scope="module")
def outcomes(run_program, tmp_path_factory):
    """What became of each attack, by reader and title; one process reads them all."""
    folder = tmp_path_factory.mktemp("attacks")
    names = [name for name in HERE if name not in LACKING]
    corpora = {name: known_attacks(name) for name in names}
    for name, corpus in corpora.items():
        (folder / name).mkdir()
        for number, blob in enumerate(corpus.values()):
            (folder / name / str(number)).write_bytes(blob)
    found = json.loads(
        run_program("read_attacks.py", folder, *names, OPENBLAS_NUM_THREADS="1").stdout
    )
    return {name: dict(zip(corpora[name], found[name], strict=True)) for name in names}


@pytest.mark.parametrize("name", HERE)
def test_attacks_are_refused_within_little_memory(name, outcomes):
    if name in LACKING:
        pytest.skip(f"{NEEDS[name]} is not installed")
    assert {title: how for title, how in outcomes[name].items() if how != "refused"} == {}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_has_its_attacks(name):
    if name in LACKING:
        pytest.skip(f"{NEEDS[name]} is not installed")
    assert len(known_attacks(name)) > 5


# -- the watch itself ------------------------------------------------------------------------------

CAUGHT = {
    "code": "Trespass exec",
    "process": "Trespass os.system",
    "fork": "Trespass os.fork",
    "socket": "Trespass socket.",
    "file": "Trespass open",
    "unlink": "Trespass os.remove",
    "memory": "MemoryError",
    "error": "IndexError",
    "message": "Trespass an error message",
}


def test_a_reader_that_does_more_than_read_is_caught(run_program, tmp_path):
    found = json.loads(run_program("rogue_readers.py", tmp_path).stdout)
    assert found.keys() == CAUGHT.keys()
    for deed, outcome in found.items():
        assert outcome.startswith(CAUGHT[deed]), deed


def test_inputs_of_the_fuzzer_stand_for_files():
    """Genuine ones are taken as they are, packed, and built."""
    for reader in (reader for name, reader in READERS.items() if name not in LACKING):
        for seed in islice(reader.seeds(), 2):
            assert fuzz_readers.wrapped(reader, bytes([0]) + seed) == seed
    model = READERS["model"]
    genuine = next(iter(model.seeds()))
    assert fuzz_readers.wrapped(model, bytes([2]) + genuine[8:]) == genuine


def test_the_fuzzer_begins_with_genuine_files_and_attacks():
    seeds = set(fuzz_readers.seeds("rates", READERS["rates"]))
    genuine = list(READERS["rates"].seeds())
    small = [blob for blob in known_attacks("rates").values() if len(blob) < fuzz_readers.LONGEST]
    assert {bytes([0]) + blob for blob in (*genuine, *small)} <= seeds
    assert len(small) > 3


@pytest.mark.slow
def test_the_fuzzer_runs(tmp_path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or system")
    command = [sys.executable, fuzz_readers.__file__, "--runs", "200", "rates"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("inputs, no defect") == 1
