"""No kernel touches memory that is not its own: tests run again with a fence beside each array.

What the fences are is in `fences.py`. By default a part of the tests runs between them, with
`-m long` all of them.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="no mprotect")

# All shapes, losses, activations, densities, paths, teams and optimisers.
MATRIX = [
    "test_operations.py",
    "test_losses.py",
    "test_activations.py",
    "test_first_sparse.py",
    "test_epochs.py",
    "test_walk_losses.py",
]
OPTIMISERS = ["../test_optimizers.py"]
# At other widths, one test for each way through the kernels.
SELECTION = [
    *MATRIX[:4], MATRIX[-1],
    *(f"test_epochs.py::test_{name}" for name in (
        "topologies_and_widths",
        "inputs_of_any_density",
        "every_kind_of_input",
        "a_batch_in_chunks_learns_what_the_fused_one_does",
        "walks_over_a_set_are_the_reference",
        "ten_steps_and_a_smaller_last_batch",
    )),
    "../test_optimizers.py::test_an_epoch_is_the_reference_s_on_any_path_with_any_team",
]  # fmt: skip

SOME = [*MATRIX[:4], "test_epochs.py::test_topologies_and_widths"]
ALL_CASES = ("-m", "long or not long")


def fenced(tests, *options, **environment):
    """Run tests in a process of their own, which a touched fence may kill."""
    return subprocess.run(
        [
            sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-x",
            "-p", "no:cacheprovider", "-p", "fences", *options, *(str(FOLDER / t) for t in tests),
        ],
        env=os.environ | {"PYTHONPATH": str(FOLDER), **environment},
        cwd=ROOT, capture_output=True, text=True, timeout=880,
    )  # fmt: skip


def calls(done):
    """How many calls stood between fences."""
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return int(re.search(r"fences: calls (\d+)", done.stdout)[1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_some_of_each_between_fences():
    assert calls(fenced(SOME)) > 5_000


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_matrix_between_fences():
    assert calls(fenced(MATRIX, *ALL_CASES)) > 50_000


@pytest.mark.long
@pytest.mark.timeout(900)
def test_optimisers_between_fences():
    assert calls(fenced(OPTIMISERS, *ALL_CASES)) > 5_000


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("width", [16, 32, 64])
def test_a_selection_between_fences_at_any_vector_width(width):
    assert calls(fenced(SELECTION, FASTBP_VECTOR_BYTES=str(width))) > 10_000


# -- the fences hold -------------------------------------------------------------------------------


def trespass(dtype, place, how):
    """Run a test whose kernel reads or writes one number of memory at `place` of an array of 5."""
    return fenced(["../programs/trespass.py"], TRESPASS=f"{dtype} {place} {how}")


def few_and_many(few, many):
    return [*few, *(pytest.param(*case, marks=pytest.mark.long) for case in many)]


@pytest.mark.parametrize(
    ("dtype", "place"),
    few_and_many(
        [("float32", -1), ("float64", 5)],
        [("float32", 5), ("float64", -1), ("int64", -1), ("int64", 5)],
    ),
)
def test_a_fence_holds_off_a_reader(dtype, place):
    done = trespass(dtype, place, "read")
    assert done.returncode == -signal.SIGSEGV, done.stdout
    assert "test_it" in done.stderr  # faulthandler says where


@pytest.mark.parametrize(("place", "code"), few_and_many([(-1, 1), (5, 1)], [(0, 0)]))
def test_canaries_tell_of_a_writer_on_the_other_side(place, code):
    """A fence would kill it; the first call's canaries lie behind, the second's in front."""
    done = trespass("float32", place, "write")
    assert done.returncode == code, done.stdout + done.stderr
    assert ("trespass: bytes beside an array were written" in done.stdout) == bool(code)
