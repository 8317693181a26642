import errno
import json
import os
import threading

import numpy as np
import pytest

from corpora.checkpoints import DAMAGED, WRONG, file_of
from fastbp import History, Network, callbacks, interchange
from fastbp._support import files
from fastbp.errors import ModelFileError
from fastbp.model import file as checkpoint

ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([0.1, -1e300])}
CONFIG = {"sizes": [3, 2], "activation": "sigmoid", "bias": True, "scale": 1 / 3, "text": "ä\n\"'"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


# -- only what can be read is written ------------------------------------------------------------

WRITERS = {
    "save": lambda net, path: net.save(path),
    "PyTorch": lambda net, path: interchange.write_torch(net, path),
    "ONNX": lambda net, path: interchange.write_onnx(net, path),
    "scikit-learn": lambda net, path: interchange.to_sklearn(net),
    "callback": lambda net, path: callbacks.Checkpoint(path).on_epoch_end(net, History([0.5])),
}
PACKAGES = {"ONNX": "onnx", "scikit-learn": "sklearn"}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_that_no_reader_takes_are_not_written(writer, value, path):
    if writer in PACKAGES:
        pytest.importorskip(PACKAGES[writer])
    if writer == "ONNX":
        path = path.with_suffix(".onnx")
    net = Network([3, 4, 2], "relu", loss="cross-entropy", seed=0)
    path.write_bytes(before := b"an earlier file")
    net.biases[1][1] = value
    with pytest.raises(ValueError, match=rf"biases\[1\]\[1\] is {value}: only finite parameters"):
        WRITERS[writer](net, path)
    assert path.read_bytes() == before
    net.biases[1][1], net.weights[0][3, 2] = 0, value
    with pytest.raises(ValueError, match=rf"weights\[0\]\[3, 2\] is {value}"):
        WRITERS[writer](net, path)
    assert path.read_bytes() == before


# -- round trip ----------------------------------------------------------------------------------


def test_round_trip_is_exact(path):
    checkpoint.write(path, ARRAYS, CONFIG)
    arrays, config = checkpoint.read(str(path))
    assert_same(arrays, ARRAYS)
    assert config == CONFIG


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[::2, ::-1],
        lambda x: x[:, :2].T,
        np.asfortranarray,
        lambda x: x.astype(x.dtype.newbyteorder(">")),
        lambda x: x[1, 2],
        lambda x: x[:0],
    ],
    ids=["transposed", "strided", "padded", "fortran", "big-endian", "scalar", "empty"],
)
def test_memory_order_does_not_matter(path, view, dtype):
    array = np.asarray(view(np.arange(20, dtype=dtype).reshape(4, 5)))
    checkpoint.write(path, {"w": array}, {})
    (found,) = checkpoint.read(path)[0].values()
    assert found.flags.c_contiguous
    assert found.dtype == dtype  # in native order
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_special_values_survive(path):
    values = np.array([np.nan, np.inf, -0.0, 5e-324, np.finfo(float).max])
    checkpoint.write(path, {"w": values}, {})
    assert checkpoint.read(path)[0]["w"].tobytes() == values.tobytes()


def test_same_content_gives_the_same_bytes(tmp_path):
    for k in range(10):  # safetensors alone writes the metadata in a random order
        checkpoint.write(tmp_path / f"{k}", ARRAYS, CONFIG)
    assert len({(tmp_path / f"{k}").read_bytes() for k in range(10)}) == 1


def test_safetensors_itself_reads_the_file(path):
    from safetensors import safe_open

    checkpoint.write(path, ARRAYS, CONFIG)
    with safe_open(path, "np") as file:
        assert file.metadata()["format"] == "fastbp"
        assert file.metadata()["format_version"] == "1"
        assert json.loads(file.metadata()["config"]) == CONFIG
        assert_same(file.get_tensors(), ARRAYS)


# -- what is not written -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "config", "error", "part"),
    [
        ({"w": np.zeros(2, "int64")}, {}, TypeError, "array 'w' must be float32 or float64"),
        ({"w": np.array([None])}, {}, TypeError, "got object"),
        ({}, {"scale": float("nan")}, ValueError, "JSON"),
        ({}, {"a": object()}, TypeError, "JSON"),
        ({}, {"a": "x" * 2**20}, ValueError, "config must be at most 1048576 characters"),
    ],
)
def test_what_cannot_be_written_is_refused(path, arrays, config, error, part):
    checkpoint.write(path, ARRAYS, CONFIG)
    with pytest.raises(error, match=part):
        checkpoint.write(path, arrays, config)
    assert_same(checkpoint.read(path)[0], ARRAYS)


@pytest.mark.parametrize(
    ("name", "error", "part"),
    [
        ("nowhere/model", FileNotFoundError, "folder does not exist"),
        ("file/model", NotADirectoryError, "folder does not exist"),
        ("folder", IsADirectoryError, "Is a directory"),
        ("x" * 300, OSError, "File name too long"),
    ],
)
def test_a_place_that_cannot_hold_a_file(tmp_path, name, error, part):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(error, match=part) as caught:
        checkpoint.write(tmp_path / name, ARRAYS, CONFIG)
    assert caught.value.filename == str(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError, match="cannot write the file"):
        checkpoint.write(tmp_path / "model", ARRAYS, CONFIG)


# -- atomic --------------------------------------------------------------------------------------


class FullDisk:
    """A file that takes some bytes and then no more."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def write(self, blob):
        self.file.write(blob[: len(blob) // 2])
        self.file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail(error):
    def function(*arguments, **keywords):
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("os.fsync", OSError(errno.EIO, "Input/output error")),
        ("os.replace", OSError(errno.EACCES, "Permission denied")),
        ("os.fsync", KeyboardInterrupt()),
        ("os.replace", MemoryError()),
    ],
)
@pytest.mark.parametrize("existing", [True, False])
def test_any_failure_leaves_the_old_file_and_nothing_else(
    path, monkeypatch, function, error, existing
):
    if existing:
        checkpoint.write(path, {"old": np.zeros(3)}, {})
    before = path.read_bytes() if existing else None
    monkeypatch.setattr(function, fail(error))
    with pytest.raises(type(error)):
        checkpoint.write(path, ARRAYS, CONFIG)
    assert os.listdir(path.parent) == ([path.name] if existing else [])
    assert (path.read_bytes() if existing else None) == before


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    checkpoint.write(path, {"old": np.zeros(3)}, {})
    real = open

    def full(*arguments, **keywords):
        return FullDisk(real(*arguments, **keywords))

    monkeypatch.setattr(files, "open", full, raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoint.write(path, ARRAYS, CONFIG)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(path.parent) == [path.name]
    assert set(checkpoint.read(path)[0]) == {"old"}


def test_the_file_is_synchronised_before_it_is_renamed(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    checkpoint.write(path, ARRAYS, CONFIG)
    assert calls == ["fsync", "replace", "fsync"]  # the file; its new name; the folder


def test_a_reader_sees_the_old_or_the_new_file_and_never_a_part(path):
    sizes = (10, 50_000)
    checkpoint.write(path, {"w": np.zeros(sizes[0])}, {"n": sizes[0]})
    done = threading.Event()

    def write_many():
        try:
            for k in range(60):
                n = sizes[k % 2]
                checkpoint.write(path, {"w": np.full(n, float(n))}, {"n": n})
        finally:
            done.set()

    writer = threading.Thread(target=write_many)
    writer.start()
    while not done.is_set():
        arrays, config = checkpoint.read(path)
        assert arrays["w"].size == config["n"]
    writer.join()


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and links")
def test_permissions_and_links_are_respected(path, tmp_path):
    old = os.umask(0o027)
    try:
        checkpoint.write(path, ARRAYS, CONFIG)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o604)
    link = tmp_path / "link"
    link.symlink_to(path)
    checkpoint.write(link, {"new": np.zeros(1)}, {})
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o604
    assert set(checkpoint.read(path)[0]) == {"new"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_device_is_written_to_and_not_replaced(tmp_path):
    link = tmp_path / "pipe"  # stands for /dev/null, which a failing test would harm
    os.mkfifo(link)
    reader = threading.Thread(target=lambda: seen.append(link.read_bytes()), daemon=True)
    seen = []
    reader.start()
    checkpoint.write(link, ARRAYS, CONFIG)
    assert link.is_fifo()
    reader.join(10)
    (blob,) = seen
    (tmp_path / "copy").write_bytes(blob)
    assert_same(checkpoint.read(tmp_path / "copy")[0], ARRAYS)


# -- files from others ---------------------------------------------------------------------------


def test_a_missing_file_is_named(path):
    with pytest.raises(FileNotFoundError, match="there is no such file") as caught:
        checkpoint.read(path)
    assert caught.value.filename == str(path)


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(IsADirectoryError, match="not a folder"):
        checkpoint.read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_does_not_make_us_wait(path):
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)  # so that this test fails rather than waits
    try:
        with pytest.raises(ModelFileError, match="not a regular file"):
            checkpoint.read(path)
    finally:
        os.close(writer)


@pytest.mark.parametrize("blob", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused(path, blob):
    path.write_bytes(blob)
    with pytest.raises(ModelFileError, match="damaged") as caught:
        checkpoint.read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000, "a message as long as what the file says"


@pytest.mark.parametrize(("header", "part"), WRONG.values(), ids=WRONG)
def test_a_foreign_file_is_refused(path, header, part):
    path.write_bytes(file_of(header, bytes(header["a"]["data_offsets"][1])))
    with pytest.raises(ModelFileError, match=part) as caught:
        checkpoint.read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_every_truncation_is_noticed(path):
    checkpoint.write(path, ARRAYS, CONFIG)
    blob = path.read_bytes()
    for length in range(len(blob)):
        path.write_bytes(blob[:length])
        with pytest.raises(ModelFileError):
            checkpoint.read(path)


def test_a_flipped_byte_is_refused_or_read_and_nothing_else(path):
    checkpoint.write(path, ARRAYS, CONFIG)
    blob = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(blob), size=400):
        broken = bytearray(blob)
        broken[place] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        try:
            checkpoint.read(path)
        except ModelFileError:
            pass
