"""The data loaders: what they read, what they refuse, and how much memory a refusal costs."""

import base64
import contextlib
import functools
import gzip
import hashlib
import io
import os
import pickle
import re
import runpy
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastbp import datasets, untrusted
from fastbp.datasets import DataError, load, load_pickle

ROOT = Path(__file__).resolve().parents[1]
MNIST_SHA256 = (  # of the decompressed files
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
# What CPython 2.7.18 with NumPy 1.16.6 writes: cPickle.dumps((pair(3), pair(1), pair(2)), 2)
# where pair(n) is (-np.arange(3 * n, dtype="f4").reshape(n, 3) / 8, np.arange(n, dtype="i8")).
PYTHON2_PICKLE = base64.b64decode(
    "gAJjbnVtcHkuY29yZS5tdWx0aWFycmF5Cl9yZWNvbnN0cnVjdApxAWNudW1weQpuZGFycmF5CnECSwCFVQFi"
    "h1JxAyhLAUsDSwOGY251bXB5CmR0eXBlCnEEVQJmNEsASwGHUnEFKEsDVQE8Tk5OSv////9K/////0sAdGKJ"
    "VSQAAACAAAAAvgAAgL4AAMC+AAAAvwAAIL8AAEC/AABgvwAAgL90YmgBaAJLAIVVAWKHUnEGKEsBSwOFaARV"
    "Amk4SwBLAYdScQcoSwNVATxOTk5K/////0r/////SwB0YolVGAAAAAAAAAAAAQAAAAAAAAACAAAAAAAAAHRi"
    "hmgBaAJLAIVVAWKHUnEIKEsBSwFLA4ZoBYlVDAAAAIAAAAC+AACAvnRiaAFoAksAhVUBYodScQkoSwFLAYVo"
    "B4lVCAAAAAAAAAAAdGKGaAFoAksAhVUBYodScQooSwFLAksDhmgFiVUYAAAAgAAAAL4AAIC+AADAvgAAAL8A"
    "ACC/dGJoAWgCSwCFVQFih1JxCyhLAUsChWgHiVUQAAAAAAAAAAABAAAAAAAAAHRihocu"
)
IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
IDX_CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


# --- Writers ------------------------------------------------------------------------------------


def idx_header(code, *shape):
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)


def idx(array):
    kind = array.dtype.str[1:]
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    return idx_header(IDX_CODES[kind], *array.shape) + big_endian.tobytes()


def arrays(dtype="u1", rows=5, cols=4):
    """Images and labels of 6 training and 3 test samples; rows != cols, and no symmetry."""
    X = (np.arange(9 * rows * cols) % 101).astype(dtype).reshape(9, rows, cols)
    y = (np.arange(9) * 7 % 10).astype("u1")
    return X[:6], y[:6], X[6:], y[6:]


def expect(data, originals):
    for got, original, kind in zip(data, originals, "XyXy", strict=True):
        if kind == "X":
            original = original.reshape(len(original), -1)
            assert got.dtype == original.dtype.newbyteorder("=")
        else:
            assert got.dtype == np.int64
        assert got.dtype.isnative
        assert got.flags.c_contiguous
        assert got.flags.writeable
        np.testing.assert_array_equal(got, original.reshape(got.shape))


def write_folder(folder, four, names=IDX_NAMES, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, four, strict=True):
        content = array if isinstance(array, bytes) else idx(array)
        path = folder / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(content, 1) if packed else content)
    return folder


def npz(members, method=zipfile.ZIP_DEFLATED):
    """Bytes of a zip file of (name, content) pairs, a name as often as it is given."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content, method)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0))
    return file.getvalue()


def npy_header(text, version=1, length=None):
    text = text.encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


KEYS = ("x_train", "y_train", "x_test", "y_test")


def good_members(**replace):
    contents = dict(zip(KEYS, map(npy, arrays()), strict=True)) | replace
    return list(contents.items())


# --- What is read -------------------------------------------------------------------------------


def test_digits():
    data = load("digits")
    X_train, y_train, X_test, y_test = data
    assert X_train.shape == (1442, 64)
    assert X_test.shape == (355, 64)
    assert X_train.dtype == X_test.dtype == np.uint8
    assert y_train.dtype == y_test.dtype == np.int64
    assert X_train.min() == X_test.min() == 0
    assert X_train.max() == X_test.max() == 16
    assert set(np.bincount(y_test)) == {34, 35, 36}


def test_digits_are_those_of_scikit_learn(tmp_path):
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    script = ROOT / "scripts" / "make_digits.py"
    if not script.exists():
        pytest.skip("scripts/make_digits.py is not part of an installed package")
    X, y = sklearn_datasets.load_digits(return_X_y=True)
    test = np.zeros(len(y), bool)
    for label in range(10):  # every fifth of each class
        test[[i for k, i in enumerate(np.flatnonzero(y == label)) if k % 5 == 4]] = True
    expected = datasets.Dataset(X[~test], y[~test], X[test], y[test])
    for got, original in zip(load("digits"), expected, strict=True):
        np.testing.assert_array_equal(got, original)

    make = runpy.run_path(str(script))["main"]
    make(tmp_path / "once.npz")
    make(tmp_path / "again.npz")
    assert (tmp_path / "once.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    expect(load(tmp_path / "once.npz"), load("digits"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("names", [IDX_NAMES, [n.replace("-idx", ".idx") for n in IDX_NAMES]])
def test_idx_folder(tmp_path, names, packed):
    write_folder(tmp_path, arrays(), names, packed)
    expect(load(tmp_path), arrays())
    expect(load(str(tmp_path)), arrays())


@pytest.mark.parametrize("dtype", IDX_CODES)
def test_idx_dtypes(tmp_path, dtype):
    X_train, y_train, X_test, y_test = arrays(dtype)
    label_dtype = dtype if dtype[0] in "ui" else "i4"
    four = X_train, y_train.astype(label_dtype), X_test, y_test.astype(label_dtype)
    expect(load(write_folder(tmp_path, four)), four)


def test_idx_unpacked_under_its_packed_name(tmp_path):
    write_folder(tmp_path, arrays(), [f"{name}.gz" for name in IDX_NAMES])
    expect(load(tmp_path), arrays())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["u1", ">i2", "<f4", ">f8", "f2"])
def test_npz(tmp_path, save, dtype):
    X_train, y_train, X_test, y_test = arrays(dtype)
    four = np.asfortranarray(X_train), y_train.reshape(-1, 1), X_test, y_test.astype(">i4")
    save(tmp_path / "a.npz", unwanted=np.array([{}]), **dict(zip(KEYS, four, strict=True)))
    expect(load(tmp_path / "a.npz"), four)


def test_npz_bool_pixels_become_uint8(tmp_path):
    X_train, y_train, X_test, y_test = arrays()
    four = X_train > 50, y_train, X_test > 50, y_test
    np.savez(tmp_path / "a.npz", **dict(zip(KEYS, four, strict=True)))
    X = load(tmp_path / "a.npz").X_train
    assert X.dtype == np.uint8
    np.testing.assert_array_equal(X, four[0].reshape(6, -1))


@pytest.mark.parametrize("suffix", [".pkl", ".pkl.gz"])
def test_pickle_of_python_2(tmp_path, suffix):
    path = tmp_path / f"mnist{suffix}"
    path.write_bytes(gzip.compress(PYTHON2_PICKLE) if suffix == ".pkl.gz" else PYTHON2_PICKLE)
    pairs = [
        (-np.arange(3 * n, dtype="f4").reshape(n, 3) / 8, np.arange(n, dtype="i8"))
        for n in (3, 1, 2)
    ]
    for pair, original in zip(load_pickle(path), pairs, strict=True):
        expect(2 * pair, 2 * original)
    expect(load(path), pairs[0] + pairs[2])


@pytest.mark.parametrize("protocol", range(1, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1", "bool"])
def test_pickle_of_today(tmp_path, protocol, dtype):
    X_train, y_train, X_test, y_test = arrays(dtype, rows=9, cols=9)
    X_test = np.asfortranarray(X_test)
    X_test.flags.writeable = False  # protocol 5 writes bytes, not a bytearray
    root = (X_train, y_train.astype("i8")), (X_train, y_train), (X_test, y_test)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(root, protocol))
    four = X_train, y_train, X_test, y_test
    if dtype == "bool":
        four = X_train.view("u1"), y_train, X_test.view("u1"), y_test
    expect(load(path), four)


# --- Real data ----------------------------------------------------------------------------------


def test_real_mnist():
    folder = Path(os.environ.get("FASTBP_DATA") or ROOT.parent / "shared" / "data")
    try:
        data = load("mnist", folder if folder.is_dir() else None)
    except FileNotFoundError as error:
        pytest.skip(f"the real MNIST is not here: {error}")
    shapes = (60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,)
    for array, shape, digest in zip(data, shapes, MNIST_SHA256, strict=True):
        file = idx(array.astype("u1", copy=False).reshape(shape))
        assert hashlib.sha256(file).hexdigest() == digest
    assert data.X_train.dtype == np.uint8


def test_real_fashion_mnist():
    if not datasets._SYSTEM_FOLDERS["fashion-mnist"][0].is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    data = load("fashion-mnist")
    assert data.X_train.shape == (60_000, 784)
    assert data.X_test.shape == (10_000, 784)
    assert data.X_train.dtype == np.uint8
    assert (np.bincount(data.y_train) == 6_000).all()
    assert (np.bincount(data.y_test) == 1_000).all()


# --- Finding ------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without data, whose cache is in `tmp_path`."""
    monkeypatch.delenv("FASTBP_DATA", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    system = {"mnist": (), "fashion-mnist": (tmp_path / "debian",)}
    monkeypatch.setattr(datasets, "_SYSTEM_FOLDERS", system)
    return tmp_path


def numbered(folder, number):
    """A data set that is known by its pixels."""
    X, y = np.full((2, 3, 3), number, "u1"), np.zeros(2, "u1")
    return write_folder(folder, (X, y, X, y))


def test_search_order(nowhere, monkeypatch):
    def found(data_dir=None):
        return load("fashion-mnist", data_dir).X_train[0, 0]

    numbered(nowhere / "debian", 1)
    assert found() == 1
    numbered(nowhere / "cache" / "fastbp" / "fashion-mnist", 2)
    assert found() == 2
    monkeypatch.setenv("FASTBP_DATA", str(numbered(nowhere / "env", 3)))
    assert found() == 3
    numbered(nowhere / "env" / "fashion-mnist", 4)
    assert found() == 4
    given = numbered(nowhere / "given", 5)
    assert found(given) == 5
    assert found(numbered(given / "fashion-mnist", 6)) == 6
    assert found(given) == 6
    (nowhere / "empty").mkdir()
    assert found(nowhere / "empty") == 4


def test_mnist_is_not_taken_for_fashion_mnist(nowhere, monkeypatch):
    folder = numbered(nowhere / "mnist", 1)
    assert load("mnist", folder).X_train[0, 0] == 1
    with pytest.raises(FileNotFoundError, match="fashion-mnist was not found"):
        load("fashion-mnist", folder)
    monkeypatch.chdir(folder)
    with pytest.raises(FileNotFoundError, match="fashion-mnist was not found"):
        load("fashion-mnist", ".")


def test_not_found_says_what_to_do(nowhere, monkeypatch):
    monkeypatch.setenv("FASTBP_DATA", str(nowhere / "env"))
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist", nowhere)
    message = str(caught.value)
    folders = nowhere, nowhere / "mnist", nowhere / "env", nowhere / "cache" / "fastbp" / "mnist"
    for part in (*IDX_NAMES, "--data-dir", "$FASTBP_DATA", *map(str, folders)):
        assert part in message


@pytest.mark.parametrize(
    ("platform", "variable", "below_home"),
    [
        ("linux", "XDG_CACHE_HOME", ".cache"),
        ("darwin", None, "Library/Caches"),
        ("win32", "LOCALAPPDATA", "AppData/Local"),
    ],
)
def test_cache_folder(tmp_path, monkeypatch, platform, variable, below_home):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "set"))
        assert datasets._cache_folders("mnist") == (tmp_path / "set" / "fastbp" / "mnist",)
        for unusable in ("", "relative"):
            monkeypatch.setenv(variable, unusable)
            expected = (tmp_path / below_home / "fastbp" / "mnist",)
            assert datasets._cache_folders("mnist") == expected
    assert datasets._cache_folders("mnist") == (tmp_path / below_home / "fastbp" / "mnist",)


def test_without_a_home(nowhere, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(FileNotFoundError, match="no folder at all"):
        load("mnist")


def test_wrong_names_and_paths(nowhere, monkeypatch):
    with pytest.raises(ValueError, match=r"'mnits'.*digits, mnist, fashion-mnist") as caught:
        load("mnits")
    assert not isinstance(caught.value, DataError)
    for missing in ("a/b", "b.npz", Path("mnits"), nowhere / "c"):
        with pytest.raises(FileNotFoundError, match="no such file or folder"):
            load(missing)
    with pytest.raises(FileNotFoundError, match="No such file"):
        load_pickle(nowhere / "c.pkl.gz")
    with pytest.raises(FileNotFoundError, match=r"data_dir=.*is no folder"):
        load("mnist", nowhere / "c")
    with pytest.raises(FileNotFoundError, match="lacks train-images-idx3-ubyte, train-labels"):
        load(nowhere)
    numbered(nowhere / "part", 1)
    (nowhere / "part" / IDX_NAMES[3]).unlink()
    with pytest.raises(FileNotFoundError, match="lacks t10k-labels-idx1-ubyte"):
        load("mnist", nowhere / "part")
    (nowhere / "a.txt").write_text("1,2")
    with pytest.raises(DataError, match=r"a\.txt.*\.npz, \.pkl\.gz, \.pkl, \.csv"):
        load(nowhere / "a.txt")
    for no_path in (None, 3, b"mnist"):
        with pytest.raises(TypeError):
            load(no_path)
    with pytest.raises(DataError, match="not a regular file"):
        load_pickle(nowhere)
    (nowhere / "b.npz").write_bytes(b"")

    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(untrusted, "FileIO", closed)  # root may read anything
    with pytest.raises(PermissionError):
        load(nowhere / "b.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(DataError, match="not a regular file"):
        load(tmp_path / "a.npz")


# --- Tables -------------------------------------------------------------------------------------


def test_a_table_gives_every_fifth_row_of_each_class_to_testing(tmp_path):
    pytest.importorskip("pandas", reason="the extra csv is not installed")
    classes = [0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 1, 1]
    rows = [f"{k}.5,{label},{-k}" for k, label in enumerate(classes)]
    path = tmp_path / "t.CSV"
    path.write_text("\n".join(["a,class,b", *rows]))
    data = load(path, label="class")
    np.testing.assert_array_equal(data.X_test, [[6.5, -6], [9.5, -9]])  # the fifth 1, the fifth 0
    np.testing.assert_array_equal(data.y_test, [1, 0])
    assert len(data.X_train) == 10
    assert data.y_train.tolist() == [y for k, y in enumerate(classes) if k not in (6, 9)]
    with pytest.raises(DataError, match=r"t\.CSV: name the column that holds the classes, by --la"):
        load(path)
    with pytest.raises(DataError, match=r"there is no column 'klass'.*'a', 'class', 'b'"):
        load(path, label="klass")
    path.write_text("\n".join(["a,class,b", *rows[:4]]))
    with pytest.raises(DataError, match="no class has five lines or more"):
        load(path, label="class")
    path.write_text("\n".join(["a,class", *["1,65536"] * 5]))
    with pytest.raises(DataError, match=r"t\.CSV: labels run from 65536 to 65536"):
        load(path, label="class")


def test_only_tables_have_a_label(tmp_path):
    for source in ("digits", write_folder(tmp_path / "d", arrays())):
        with pytest.raises(ValueError, match=r"label names a column of a \.csv file; .* is none"):
            load(source, label="class")


# --- Attacks ------------------------------------------------------------------------------------
# Each is refused with a DataError that names the file, and costs no more memory than the file
# holds. Entries: name: (suffix or IDX file name, content, pattern that the message must match).

MIB = 1 << 20
TERA = 10**12


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def integer(value):
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def text(content):
    return b"U" + bytes([len(content)]) + content


def blob(content):
    return b"B" + struct.pack("<I", len(content)) + content


def shape_of(*sizes):
    return b"(" + b"".join(integer(size) for size in sizes) + b"t"


def dtype_of(code=b"f4", structure=b"NNN", order=b"<"):
    new = name("numpy", "dtype") + b"(" + text(code) + b"K\0K\1tR"
    return new + b"(K\3" + text(order) + structure + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"


SHAPE, DTYPE, DATA = shape_of(2, 2), dtype_of(), blob(bytes(16))


def array_of(shape=SHAPE, dtype=DTYPE, data=DATA, first=b"K\0\x85"):
    new = name("numpy.core.multiarray", "_reconstruct") + b"(" + name("numpy", "ndarray")
    new += first + text(b"b") + b"tR"
    return new + b"(K\1" + shape + dtype + b"\x89" + data + b"tb"


IMAGES, LABELS = array_of(), array_of(shape_of(2), dtype_of(b"i8"))


def three(X=IMAGES, y=LABELS):
    """A whole pickle; genuine, if its X and y are."""
    return b"\x80\x02" + (X + y + b"\x86") * 3 + b"\x87."


class Call:
    def __init__(self, function, *args):
        self.args = function, args

    def __reduce__(self):
        return self.args


CANARY = "fastbp-canary"  # a file that hostile pickles would make in the working folder
TOUCH = pickle.dumps(Call(os.mkdir, CANARY), 2)[2:-1]
MAKE = b"(" + text(CANARY.encode()) + b"t"
TOUCH_BY_INST = b"(" + text(CANARY.encode()) + b"iposix\nmkdir\n"
TOUCH_BY_OBJ = b"(" + name("posix", "mkdir") + text(CANARY.encode()) + b"o"
ENCODE = name("_codecs", "encode")
BIG_TEXT = b"X" + struct.pack("<I", MIB) + b"a" * MIB

PICKLES = {
    "calls mkdir": (three(TOUCH), "asks for 'posix.mkdir'|asks for 'nt.mkdir'"),
    "calls mkdir by INST": (three(TOUCH_BY_INST), "opcode 'i'"),
    "calls mkdir by OBJ": (three(TOUCH_BY_OBJ), "asks for 'posix.mkdir'"),
    "calls by NEWOBJ": (three(name("numpy", "dtype") + b")\x81"), "opcode"),
    "calls eval": (three(pickle.dumps(Call(eval, "1"), 4)[2:-1]), "asks for 'builtins.eval'"),
    "names NumPy's loader": (three(name("numpy", "load")), "asks for 'numpy.load'"),
    "names by dots": (three(text(b"numpy") + text(b"ndarray.tofile") + b"\x93"), "must|requires"),
    "names by dots, protocol 4": (
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        "asks for 'numpy.ndarray.tofile'",
    ),
    "extension registry": (three(b"\x82\x01"), "opcode"),
    "persistent id": (three(b"Pid\n"), "opcode 'P'"),
    "out-of-band buffer": (three(b"\x97"), "opcode"),
    "state of a function": (three(ENCODE + b"N}\x86b"), "opcode"),
    "state of a function, tuple": (three(ENCODE + b"NN\x86b"), "no array"),
    "call of an array": (three(array_of() + b")R"), "not callable"),
    "shape in state": (three(array_of(shape_of(TERA))), "do not make shape"),
    "shape in state overflows": (three(array_of(shape_of(2**32, 2**32, 4))), "do not make shape"),
    "shape overflows to the right size": (
        three(array_of(shape_of(2**62 + 4), dtype_of(), blob(bytes(16)))),
        "do not make shape",
    ),
    "shape of 600 digits": (three(array_of(shape_of(2**1999))), "do not make shape"),
    "negative shape": (three(array_of(shape_of(-2, -2))), "empty"),
    "unknown size": (three(array_of(shape_of(-1, 2))), "empty"),
    "empty shape": (three(array_of(shape_of(0, 2), data=blob(b""))), "empty"),
    "five dimensions": (
        three(array_of(shape_of(1, 1, 1, 1, 1), data=blob(bytes(4)))),
        "1 to 4 integers",
    ),
    "no shape": (three(array_of(shape_of(), data=blob(bytes(4)))), "1 to 4 integers"),
    "bools for a shape": (three(array_of(b"(\x88\x88t", data=blob(bytes(4)))), "1 to 4 integers"),
    "bytes for a shape": (three(array_of(blob(bytes(MIB)))), "1 to 4 integers"),
    "much data in a small shape": (three(array_of(shape_of(1, 1))), "do not make shape"),
    "objects": (three(array_of(dtype=dtype_of(b"O8"))), "'O8' is no plain"),
    "void": (three(array_of(dtype=dtype_of(b"V4"))), "'V4' is no plain"),
    "strings": (three(array_of(dtype=dtype_of(b"S4"))), "'S4' is no plain"),
    "dates": (three(array_of(dtype=dtype_of(b"M8"))), "'M8' is no plain"),
    "complex": (three(array_of(dtype=dtype_of(b"c8"))), "'c8' is no plain"),
    "dtype of a terabyte": (three(array_of(dtype=dtype_of(b"(999999,999999)f4"))), "no plain"),
    "dtype with a long code": (three(array_of(dtype=dtype_of(b"f4" * 99))), "no plain"),
    "dtype with fields": (three(array_of(dtype=dtype_of(structure=b"N)N"))), "fields"),
    "dtype with a subarray": (three(array_of(dtype=dtype_of(structure=b")NN"))), "fields"),
    "dtype with a wild order": (three(array_of(dtype=dtype_of(order=b"f4,"))), "no plain"),
    "no dtype": (three(array_of(dtype=b"N")), "array of objects"),
    "text for data": (three(array_of(data=b"\x8c\x04abcd")), "array of objects"),
    "list for data": (three(array_of(data=b"]")), "opcode"),
    "array never filled": (three(array_of()[: array_of().index(b"tR") + 2]), "None"),
    "endless binstring": (three(b"T" + struct.pack("<i", 2**31 - 1)), "can follow"),
    "negative binstring": (three(b"T" + struct.pack("<i", -1)), "negative"),
    "endless binbytes": (three(b"B" + struct.pack("<I", 2**32 - 1)), "can follow"),
    "endless binbytes8": (three(b"\x8e" + struct.pack("<Q", 2**62)), "opcode"),
    "endless bytearray8": (three(b"\x96" + struct.pack("<Q", 2**62)), "can follow"),
    "endless binunicode": (three(b"X" + struct.pack("<I", 2**32 - 1)), "can follow"),
    "endless binunicode8": (three(b"\x8d" + struct.pack("<Q", 2**62)), "opcode"),
    "endless long4": (three(b"\x8b" + struct.pack("<i", 2**31 - 1)), "opcode"),
    "endless frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.", "something else"),
    "endless name": (b"\x80\x02c" + b"a" * MIB, "without an end"),
    "endless integer": (b"\x80\x02I" + b"9" * MIB + b"\n.", "without an end"),
    "memo index of 2**32": (b"\x80\x02Nr\xff\xff\xff\xff.", "something else"),
    "memo index of 10**18": (b"\x80\x02Np1000000000000000000\n.", "opcode 'p'"),
    "memo never set": (b"\x80\x02h\x01.", "not found"),
    "marks without end": (b"\x80\x02" + b"(" * MIB, "far more parts"),
    "empty tuples without end": (b"\x80\x02(" + b")" * MIB + b"t.", "far more parts"),
    "lists without end": (b"\x80\x02" + b"]" * MIB, "opcode"),
    "duplicates without end": (b"\x80\x02N" + b"2" * MIB, "opcode"),
    "deep tuples": (b"\x80\x02N" + b"\x85" * 9_000 + b".", "something else"),
    "doubling tuples": (
        b"\x80\x02)q\0" + b"h\0h\0\x86q\0" * 1_000 + b".",
        "something else",
    ),
    "doubling tuples for a shape": (
        b"\x80\x02()q\0" + b"h\0h\0\x86q\0" * 400 + array_of(b"h\0"),
        "1 to 4 integers",
    ),
    "bytes for arguments": (b"\x80\x02" + ENCODE + blob(bytes(MIB)) + b"R.", "tuple of arg"),
    "bytes for a state": (three(array_of() + blob(bytes(MIB)) + b"b"), "no array"),
    "text encoded again and again": (
        b"\x80\x02(" + ENCODE + b"q\0" + BIG_TEXT + b"q\1\x85\x85"
        b"" + b"h\0(h\1Nt R".replace(b" ", b"") * 100 + b"t.",
        "something else",
    ),
    "text that takes four bytes for each": (
        b"\x80\x02X" + struct.pack("<I", 4 * MIB) + b"a" * (4 * MIB - 4) + "\U0001f600".encode(),
        "latin-1",
    ),
    "two arrays": (b"\x80\x02" + (array_of() + LABELS + b"\x86") * 2 + b"\x86.", "three tuples"),
    "one tuple": (b"\x80\x02" + array_of() + LABELS + b"\x86.", "three tuples"),
    "pairs of three": (b"\x80\x02" + (array_of() + 2 * LABELS + b"\x87") * 3 + b"\x87.", "three"),
    "numbers for arrays": (three(b"K\1"), "three tuples"),
    "trailing bytes": (three() + b"N", "after the end"),
    "protocol of the future": (b"\x80\x63" + three()[2:], "protocol"),
    "float labels": (three(y=array_of(shape_of(2), data=blob(bytes(8)))), "expected integers"),
    "no pickle": (b"world", "opcode 'w'"),
    "nothing": (b"", "needs 1 bytes|ends after 0 of 1 "),
}

IDX_ATTACKS = {
    "nothing": (b"", "needs 4 bytes|ends after 0 of 4 "),
    "half a header": (idx_header(8, 6, 5, 4)[:9], "needs 12 bytes|ends after"),
    "no IDX": (b"hello, world", "magic number 0x68656c6c"),
    "unknown dtype": (idx_header(10, 6, 5, 4) + bytes(120), "magic number 0x00000a03"),
    "rank 0": (idx_header(8) + bytes(120), "magic number"),
    "rank 5": (idx_header(8, 6, 5, 2, 2, 1) + bytes(120), "magic number"),
    "rank 255": (b"\0\0\x08\xff" + bytes(2000), "magic number"),
    "rank 1": (idx_header(8, 6) + bytes(6), "do not fit"),
    "2**128 bytes": (idx_header(8, *4 * [2**32 - 1]), "can follow"),
    "overflows to nothing": (idx_header(8, 2**31, 2**31, 4) + bytes(120), "can follow"),
    "a terabyte": (idx_header(8, 2**20, 2**20), "can follow"),
    "a little less than a gibibyte": (idx_header(8, 2**20, 1000) + bytes(120), "can follow"),
    "cut off": (idx(arrays()[0])[:-1], "ends after 119 of 120|can follow"),
    "trailing byte": (idx(arrays()[0]) + b"\0", "after the end"),
    "no images": (idx_header(8, 0, 5, 4), "empty"),
    "no pixels": (idx_header(8, 6, 0, 4), "empty"),
    "too many images": (idx(np.zeros((7, 5, 4), "u1")), "(7, 5, 4).*(6,)|do not fit"),
    "images of another size": (idx(np.zeros((6, 5, 5), "u1")), "25 pixels.* 20"),
}
LABEL_ATTACKS = {
    "float labels": (idx(np.zeros(6, "f4")), "labels are >f4; expected integers"),
    "labels below zero": (idx(np.full(6, -1, "i1")), "run from -1 to -1"),
    "a label of two milliards": (idx(np.full(6, 2**31 - 1, "i4")), "to 2147483647"),
    "images for labels": (idx(np.zeros((6, 2), "u1")), "do not fit"),
}


def header(descr="'|u1'", shape="(6, 5, 4)", order="False"):
    return npy_header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}")


def forged(content, key, **fields):
    """Change fields of a member's entry in a zip file's directory."""
    offsets = {"flags": (8, "<H"), "method": (10, "<H"), "packed": (20, "<I"), "size": (24, "<I")}
    content = bytearray(content)
    start = content.rindex(f"{key}.npy".encode()) - 46
    assert content[start : start + 4] == b"PK\x01\x02"
    for field, value in fields.items():
        offset, code = offsets[field]
        struct.pack_into(code, content, start + offset, value)
    return bytes(content)


def overlapping(count=10_000):
    """A zip file whose four entries all point at the same bytes."""
    content = bytearray(npz(good_members(x_train=npy(np.zeros((count, 5, 4), "u1")))))
    first = bytes(content[content.index(b"PK\x01\x02") :][:46])
    start = 0
    for _ in KEYS:
        start = content.index(b"PK\x01\x02", start + 1)
        content[start + 16 : start + 28] = first[16:28]  # checksum and sizes
        content[start + 42 : start + 46] = first[42:46]  # offset of the local header
    return bytes(content)


def big_directory():
    return npz([*good_members(), *((f"{i:04d}" + "a" * 60_000, b"") for i in range(20))])


def evil_npy(**members):
    return npz(good_members(**members))


BODY = bytes(120)
PLAIN = npz(good_members(), zipfile.ZIP_STORED)


def agreeing(size, method):
    """A zip file whose directory and npy header agree on a size that the file does not have."""
    npy = header(shape=f"({size // 10**6}, {10**6})")
    content = npz(good_members(x_train=npy + BODY), method)
    return forged(content, "x_train", size=len(npy) + size)


GOOD = npy(arrays()[0])
HUGE_HEADER = npy_header(" " * (4 * MIB), version=2)
NPZ_ATTACKS = {
    "nothing": (b"", "BadZipFile"),
    "no zip": (b"hello, world", "BadZipFile"),
    "cut off": (evil_npy()[:-30], "BadZipFile"),
    "a terabyte": (evil_npy(x_train=header(shape=f"({TERA},)") + BODY), "bytes, not 1,000,0"),
    "overflow": (evil_npy(x_train=header(shape=f"({2**32}, {2**32}, 4)") + BODY), "bytes, not"),
    "shape of many digits": (evil_npy(x_train=header(shape=f"({'9' * 4000},)")), "no plain"),
    "negative shape": (evil_npy(x_train=header(shape="(-1, 4)") + BODY), "no plain"),
    "no shape": (evil_npy(x_train=header(shape="()") + b"\0"), "no plain"),
    "four gigabytes, twice": (agreeing(4 * 10**9, zipfile.ZIP_STORED), "can follow"),
    "four gigabytes, packed": (agreeing(4 * 10**9, zipfile.ZIP_DEFLATED), "unpacks to over"),
    "one gigabyte, packed": (agreeing(10**9, zipfile.ZIP_DEFLATED), "can follow"),
    "empty": (evil_npy(x_train=header(shape="(0, 5, 4)")), "empty"),
    "objects": (evil_npy(x_train=header("'|O'") + BODY), "'O' is no plain"),
    "strings": (evil_npy(x_train=header("'<U1'") + BODY * 4), "'U1' is no plain"),
    "fields": (evil_npy(x_train=header("[('a', '|u1')]") + BODY), "no plain"),
    "code in the header": (evil_npy(x_train=header("__import__('os').getcwd()")), "no plain"),
    "brackets in the header": (evil_npy(x_train=npy_header("(" * 60_000)), "no plain"),
    "minuses in the header": (evil_npy(x_train=npy_header("-" * 60_000 + "1")), "no plain"),
    "version 2, huge header": (evil_npy(x_train=HUGE_HEADER), "can follow|no plain"),
    "version 3": (evil_npy(x_train=GOOD.replace(b"Y\1\0", b"Y\3\0")), "no plain"),
    "no npy": (evil_npy(x_train=GOOD.replace(b"NUMPY", b"MUMPS")), "no plain"),
    "cut off array": (evil_npy(x_train=GOOD[:-1]), "247 bytes, not 248"),
    "cut off header": (evil_npy(x_train=GOOD[:50]), "ends after|can follow"),
    "trailing byte": (evil_npy(x_train=GOOD + b"\0"), "249 bytes, not 248"),
    "twice the same name": (npz([*good_members(), good_members()[0]]), "2 arrays 'x_train'"),
    "missing": (npz(good_members()[:3]), "0 arrays 'y_test'"),
    "lzma": (npz(good_members(), zipfile.ZIP_LZMA), "neither stored nor deflated"),
    "bzip2": (npz(good_members(), zipfile.ZIP_BZIP2), "neither stored nor deflated"),
    "encrypted": (forged(evil_npy(), "x_train", flags=1), "RuntimeError|encrypted"),
    "packed size beyond the file": (forged(evil_npy(), "x_train", packed=2**31), "overlap"),
    "size larger than the data": (forged(PLAIN, "x_train", size=2**32 - 2), "bytes, not 248"),
    "size smaller than the data": (forged(PLAIN, "x_train", size=130), "bytes, not|CRC"),
    "damaged": (PLAIN.replace(GOOD[-20:], bytes(20)), "BadZipFile.*CRC"),
    "overlapping": (overlapping(), "overlap"),
    "big directory": (big_directory(), "bytes at once"),
    "float labels": (evil_npy(y_test=npy(np.zeros(3))), "expected integers"),
    "too few labels": (evil_npy(y_test=npy(np.zeros(2, "u1"))), "do not fit"),
    "one-hot labels": (evil_npy(y_test=npy(np.eye(3, dtype="u1"))), "do not fit"),
    "flat images": (evil_npy(x_test=npy(np.zeros(3, "u1"))), "do not fit"),
}


def corpus():
    for title, (content, pattern) in PICKLES.items():
        yield f"pickle: {title}", "a.pkl", content, pattern
        yield f"pkl.gz: {title}", "a.pkl.gz", gzip.compress(content, 1), pattern
    for title, (content, pattern) in IDX_ATTACKS.items():
        yield f"images: {title}", IDX_NAMES[0], content, pattern
        yield f"images.gz: {title}", f"{IDX_NAMES[0]}.gz", gzip.compress(content), pattern
    for title, (content, pattern) in LABEL_ATTACKS.items():
        yield f"labels: {title}", IDX_NAMES[1], content, pattern
    for title, (content, pattern) in NPZ_ATTACKS.items():
        yield f"npz: {title}", "a.npz", content, pattern
    damaged = bytearray(gzip.compress(three()))
    damaged[-6] ^= 1
    yield "gzip: checksum", "a.pkl.gz", bytes(damaged), "BadGzipFile|CRC"
    yield "gzip: cut off", "a.pkl.gz", gzip.compress(three())[:-9], "EOFError"
    yield "gzip: header alone", "a.pkl.gz", b"\x1f\x8b", "EOFError|BadGzipFile|ends"
    yield "gzip: garbage", "a.pkl.gz", b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 40, "error"
    bomb = idx_header(8, 2**20, 900) + bytes(4 * MIB)  # more than deflate can pack in so little
    yield "gzip: cannot hold so much", f"{IDX_NAMES[0]}.gz", gzip.compress(bomb), "can follow"
    noise = np.random.default_rng(0).bytes(MIB // 10)
    hollow = idx_header(8, 2**16, 1000) + noise
    yield "gzip: could, but does not", f"{IDX_NAMES[0]}.gz", gzip.compress(hollow), "ends after"


CORPUS = {title: rest for title, *rest in corpus()}


def write_attack(folder, filename, content):
    """Write a hostile file, and innocent ones around it if it is one of four; what to load."""
    folder.mkdir(exist_ok=True)
    if filename.startswith(IDX_NAMES[:2]):
        write_folder(folder, arrays())
        (folder / filename.removesuffix(".gz")).unlink()
    (folder / filename).write_bytes(content)
    return folder if filename.startswith(IDX_NAMES[:2]) else folder / filename


def unpacked_size(filename, content):
    if filename.endswith(".gz"):
        try:
            return len(gzip.decompress(content))
        except (EOFError, OSError, zlib.error):
            return len(content)
    return len(content)


@pytest.mark.parametrize("title", CORPUS)
def test_attack(tmp_path, monkeypatch, title):
    filename, content, pattern = CORPUS[title]
    path = write_attack(tmp_path / "a", filename, content)
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The bound: all bytes twice (a piece on its way), and the parsers' own small objects.
    assert peak < 2.2 * unpacked_size(filename, content) + 3 * MIB
    message = str(caught.value)
    assert message.startswith(str(path))
    assert len(message) < 1_000
    assert re.search(pattern, message.replace(str(path), ""))  # the path has the title in it
    assert not Path(CANARY).exists()


def test_the_builders_of_attacks_build_genuine_files(tmp_path):
    """Else the attacks would be refused for another reason than the one they are there for."""
    path = write_attack(tmp_path, "a.pkl", three())
    X, y = np.zeros((2, 2), "f4"), np.zeros(2, "i8")
    expect(load(path), (X, y, X, y))
    path = write_attack(tmp_path, "a.npz", evil_npy(x_train=header() + arrays()[0].tobytes()))
    expect(load(path), arrays())
    path = write_attack(tmp_path, IDX_NAMES[0], idx(arrays()[0]))
    expect(load(path), arrays())


def test_the_canary_sings(tmp_path, monkeypatch):
    """The hostile pickles do what they are said to do, where they are trusted."""
    monkeypatch.chdir(tmp_path)
    for call in (TOUCH, TOUCH_BY_INST, TOUCH_BY_OBJ):
        pickle.loads(b"\x80\x02" + call + b".")
        Path(CANARY).rmdir()


def test_reconstruction_allocates_nothing(tmp_path):
    """Whatever shape or class _reconstruct is given, only the state counts."""
    path = write_attack(tmp_path, "a.pkl", three(array_of(first=shape_of(TERA, TERA))))
    X, y = np.zeros((2, 2), "f4"), np.zeros(2, "i8")
    expect(load(path), (X, y, X, y))


def test_attacks_under_a_limit_on_address_space(tmp_path):
    """The whole corpus again, in a process that cannot have more than 64 MiB above its start."""
    pytest.importorskip("resource", reason="this system has no limits on address space")
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not say how much address space a process has")
    program = """if True:
        import resource, sys
        from fastbp import datasets, untrusted
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for path in sys.stdin.read().splitlines():
            try:
                datasets.load(path)
                print("loaded", path)
            except datasets.DataError:
                print("refused")
            except BaseException as error:
                print(path, type(error).__name__, error)
        """
    paths = [
        write_attack(tmp_path / str(number), filename, content)
        for number, (filename, content, _) in enumerate(CORPUS.values())
    ]
    search_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.run(
        [sys.executable, "-c", program],
        input="\n".join(map(str, paths)),
        env=os.environ | {"PYTHONPATH": search_path, "OPENBLAS_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert process.stdout.splitlines() == ["refused"] * len(CORPUS)
    assert process.stderr == ""
    assert not (tmp_path / CANARY).exists()


@pytest.mark.parametrize("filename", ["a.pkl.gz", f"{IDX_NAMES[0]}.gz", "a.npz"])
def test_decompression_bomb(tmp_path, monkeypatch, filename):
    """Genuine apart from its size: refused above the cap, before it is unpacked."""
    X = np.zeros((6, 8 * MIB // 6), "u1")
    contents = {
        "a.pkl.gz": gzip.compress(pickle.dumps(((X, arrays()[1]),) * 3, 4), 1),
        f"{IDX_NAMES[0]}.gz": gzip.compress(idx(X), 1),
        "a.npz": npz(good_members(x_train=npy(X), x_test=npy(X[:3]))),
    }
    path = write_attack(tmp_path, filename, contents[filename])
    for module in (datasets, untrusted):
        monkeypatch.setattr(module, "MAX_UNPACKED", 4 * MIB)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"can follow|over 4,194,304 bytes"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("protocol", [2, 5])
def test_pickle_cut_off_anywhere(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    content = pickle.dumps((arrays()[:2],) * 3, 5) if protocol == 5 else PYTHON2_PICKLE
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(DataError):
            load(path)


@functools.cache
def genuine(filename):
    X, y = arrays("f4")[:2]
    contents = {
        "python2.pkl": PYTHON2_PICKLE,
        "protocol4.pkl": pickle.dumps(((X, y),) * 3, 4),
        "protocol5.pkl": pickle.dumps(((X, y),) * 3, 5),
        "small.pkl.gz": gzip.compress(PYTHON2_PICKLE),
        "stored.npz": PLAIN,
        "deflated.npz": evil_npy(),
        IDX_NAMES[0]: idx(arrays()[0]),
        f"{IDX_NAMES[1]}.gz": gzip.compress(idx(arrays()[1])),
    }
    return contents[filename]


FUZZED = ["python2.pkl", "protocol4.pkl", "protocol5.pkl", "small.pkl.gz", "stored.npz"]
FUZZED += ["deflated.npz", IDX_NAMES[0], f"{IDX_NAMES[1]}.gz"]


@pytest.mark.parametrize("filename", FUZZED)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_at_random(tmp_path, filename, data):
    """Bytes changed anywhere: the file is read, or refused as documented."""
    content = bytearray(genuine(filename))
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = value
    path = write_attack(tmp_path, filename, bytes(content))
    with contextlib.suppress(DataError):
        load(path)
