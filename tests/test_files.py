"""Files are whole, old or new: after SIGKILL at random moments, and on a full disk."""

import ast
import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp import Network, interchange, plots, report
from fastbp._support import files
from fastbp.cli import main, records
from fastbp.history import History

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "tests" / "programs"
NET = Network([4, 3, 2], loss="cross-entropy", seed=0)
X, LABELS = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
HISTORY = History(loss=[0.5, 0.25], accuracy=[0.5, 1.0])


@pytest.fixture
def offered(tmp_path):
    """A model and samples, for the command line."""
    NET.save(tmp_path / "net.safetensors")
    np.save(tmp_path / "X.npy", X)
    return tmp_path


def _predictions(path, folder):
    command = ["predict", str(folder / "net.safetensors"), "--data", str(folder / "X.npy")]
    if main([*command, "--output", str(path)]):
        raise OSError("the command failed; its message is on stderr")


# Everything that the package writes for keeps, by the end of its name. Logs that grow by a line an
# epoch (`CSVLog`, `JSONLog`) are none of these.
WRITERS = {
    "model.safetensors": lambda path, folder: NET.save(path),
    "torch.safetensors": lambda path, folder: interchange.write_torch(NET, path),
    "net.onnx": lambda path, folder: interchange.write_onnx(NET, path),
    "net.history.jsonl": lambda path, folder: records.write(path, HISTORY),
    "report.html": lambda path, folder: report.write(path, NET, X, LABELS, history=HISTORY),
    "curves.png": lambda path, folder: plots.learning_curves(HISTORY, path),
    "curves.svg": lambda path, folder: plots.learning_curves(HISTORY, path),
    "predictions.csv": _predictions,
}
# One of each kind: where the others differ, it is not in how they write.
KINDS = [name for name in WRITERS if name not in ("torch.safetensors", "curves.svg")]
NEEDS = {"net.onnx": "onnx", "report.html": "matplotlib", "curves.png": "matplotlib"}


def writer(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    return WRITERS[name]


@pytest.mark.parametrize("name", WRITERS)
def test_all_that_is_written_is_synchronised_and_renamed(name, offered, monkeypatch):
    path, calls = offered / name, []
    writer(name)(path, offered)  # kernels are compiled by now, and kept in files of their own
    path.write_bytes(b"old")
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))

    def look(source, target):
        assert path.read_bytes() == b"old"
        calls.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    writer(name)(path, offered)
    assert calls == ["fsync", name, "fsync"]
    assert path.stat().st_size > 3
    assert not list(offered.glob(".fastbp-*"))


def test_nothing_in_the_package_writes_files_in_another_way():
    """By wing, and the words that open or save; each exception stands here with its reason."""
    allowed = {
        ("_support", "open"), ("_support", "write_bytes"),  # the one place that writes
        ("callbacks", "open"),  # logs that grow by a line
        ("cli", "open"),  # of os: /dev/null in place of a pipe that was closed
        ("plots", "savefig"), ("report", "savefig"),  # into memory
        ("cli", "savetxt"),  # into memory
        ("datasets", "open"),  # a member of a zip file, for reading
        ("interchange", "open"),  # weights beside an ONNX file, for reading
        ("model", "open"),  # the first bytes of a file, for reading
    }  # fmt: skip
    writing = re.compile("open|write_text|write_bytes|save|savez|savefig|savetxt|tofile|dump")
    found = set()
    package = ROOT / "fastbp"
    for path in sorted(package.rglob("*.py")):
        wing = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            function = ast.unparse(node.func)
            name = function.rsplit(".", 1)[-1]
            ours = function.startswith(("files.", "figures.", "net.", "safetensors.numpy."))
            if not ours and writing.fullmatch(name):
                found.add((wing, name))
    assert found <= allowed
    assert found >= allowed, "strike what is no longer there"


# -- SIGKILL ---------------------------------------------------------------------------------------

KILLS = 60


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_file(tmp_path):
    """Each kill falls into a save: `killed_while_saving.py` says how."""
    path = tmp_path / "net.safetensors"
    command = [sys.executable, PROGRAMS / "killed_while_saving.py", path]
    torn = 0
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as nursery:
        for _ in range(KILLS):
            nursery.stdin.write("\n")
            nursery.stdin.flush()
            assert int(nursery.stdout.readline()) == signal.SIGALRM
            values = np.unique(fastbp.load(path).to_vector())
            assert len(values) == 1, "a mixture of two saves"
            left = list(tmp_path.glob(".fastbp-*.tmp"))
            torn += len(left)
            for temporary in left:
                temporary.unlink()
        nursery.stdin.close()
    assert sorted(os.listdir(tmp_path)) == [path.name]
    assert torn, "no save was broken off"


# -- a full disk -----------------------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path):
    """A disk of 1 MiB, and what fills it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if done.returncode:
        pytest.skip(f"only root may mount: {done.stderr.strip()}")

    def fill():
        with open(folder / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1024)):
                pass

    yield folder, fill
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk_leaves_the_old_file_and_a_clear_error(name, offered, full_disk, capsys):
    folder, fill = full_disk
    path = folder / name
    path.write_bytes(b"old")
    fill()
    with pytest.raises(OSError, match=r"cannot write the file|the command failed") as caught:
        writer(name)(path, offered)
    message = f"{caught.value}{capsys.readouterr().err}"
    assert "cannot write the file, No space left on device" in message
    assert str(path) in message
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir(folder)) == sorted(["filler", name])
    (folder / "filler").unlink()
    writer(name)(path, offered)  # and with room again, it is written
    assert path.read_bytes() != b"old"


def test_a_limit_on_the_size_of_files_leaves_the_old_one(tmp_path, run_program):
    """What a full disk does, for those who may not mount one: the write breaks off after 4 KiB."""
    pytest.importorskip("resource", reason="this system has no limits on the size of files")
    path = tmp_path / "net.safetensors"
    NET.save(path)
    before = path.read_bytes()
    done = run_program("limited_file_size.py", path)
    assert done.stdout.startswith(f"{errno.EFBIG} ")
    assert "cannot write the file, File too large" in done.stdout
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


# -- what is no file -------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no /dev/stdout here")
def test_a_pipe_by_the_name_of_a_device_is_written_to():
    program = "import fastbp; fastbp._support.files.write_text('/dev/stdout', 'grüße')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("grüße".encode(), b"")


def test_text_is_written_as_it_is(tmp_path):
    files.write_text(tmp_path / "t", "a\r\nb\nä")
    assert (tmp_path / "t").read_bytes() == "a\r\nb\nä".encode()
