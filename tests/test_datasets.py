"""The data loaders: what they read, what they refuse, and how much memory a refusal costs."""

import contextlib
import functools
import gzip
import hashlib
import os
import pickle
import re
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastbp
from corpora import MIB, TERA
from corpora.datasets import CORPUS, write_attack
from corpora.idx import IDX_CODES, IDX_NAMES, arrays, idx, write_folder
from corpora.npz import KEYS, PLAIN, evil_npy, good_members, header, npy, npz
from corpora.pickles import (
    CANARY,
    PYTHON2_PICKLE,
    TOUCH,
    TOUCH_BY_INST,
    TOUCH_BY_OBJ,
    array_of,
    shape_of,
    three,
)
from fastbp import datasets
from fastbp.datasets import DataError, load, load_pickle, loading, untrusted

MNIST_SHA256 = (  # of the decompressed files
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


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
    import make_digits

    X, y = sklearn_datasets.load_digits(return_X_y=True)
    test = np.zeros(len(y), bool)
    for label in range(10):  # every fifth of each class
        test[[i for k, i in enumerate(np.flatnonzero(y == label)) if k % 5 == 4]] = True
    expected = datasets.Dataset(X[~test], y[~test], X[test], y[test])
    for got, original in zip(load("digits"), expected, strict=True):
        np.testing.assert_array_equal(got, original)

    make_digits.main(tmp_path / "once.npz")
    make_digits.main(tmp_path / "again.npz")
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


def test_npz_of_python_2(tmp_path):
    path = write_attack(tmp_path, "a.npz", evil_npy(
        x_train=header(shape="(6L, 5L, 4L)") + arrays()[0].tobytes()
    ))  # fmt: skip
    expect(load(path), arrays())


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


# --- Names and labels of other data sets --------------------------------------------------------


@pytest.mark.parametrize("keys", [
    ("X_train", "Y_train", "X_test", "Y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST, with val_
    ("training_images", "training_labels", "testing_images", "testing_labels"),
    ("train-images", "train-labels", "t10k-images", "t10k-labels"),
    ("xtrain", "ytrain", "xtest", "ytest"),
    ("train_x", "train_y", "test_x", "test_y"),
    ("trainX", "trainY", "testX", "testY"),
    ("train_data", "train_target", "test_data", "test_target"),
    ("images_train", "labels_train", "images_test", "labels_test"),
    ("arr_0", "arr_1", "arr_2", "arr_3"),
])  # fmt: skip
def test_npz_under_usual_names(tmp_path, keys):
    four = arrays()
    more = {} if keys[0] == "arr_0" else {"val_images": four[2], "val_labels": four[3]}
    np.savez(tmp_path / "a.npz", **more, **dict(zip(keys, four, strict=True)))
    expect(load(tmp_path / "a.npz"), four)


def test_npz_without_names_as_scikit_learn_splits(tmp_path):
    X_train, y_train, X_test, y_test = four = arrays()
    np.savez(tmp_path / "a.npz", X_train, X_test, y_train, y_test)
    expect(load(tmp_path / "a.npz"), four)


@pytest.mark.parametrize(
    "keys", [("X", "y"), ("images", "labels"), ("data", "target"), ("x", "Y"), ("arr_0", "arr_1")]
)
@pytest.mark.parametrize("shape", [(64,), (8, 8), (8, 8, 1), (1, 8, 8)])
def test_npz_without_a_test_part_is_divided_as_the_digits_are(tmp_path, digits, keys, shape):
    X = np.zeros((20, *shape), "u1")
    X.reshape(20, -1)[:, 0] = range(20)
    y = np.arange(20) % 2
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (X, y), strict=True)))
    data = load(tmp_path / "a.npz")
    assert data.X_test[:, 0].tolist() == [8, 9, 18, 19]
    assert data.y_test.tolist() == [0, 1, 0, 1]
    assert data.X_train[:, 0].tolist() == [n for n in range(20) if n not in (8, 9, 18, 19)]
    assert data.X_train.shape == (16, 64)
    np.savez(tmp_path / "b.npz", **dict(zip(keys, (X[:8], y[:8]), strict=True)))
    with pytest.raises(DataError, match="a class must have five samples or more"):
        load(tmp_path / "b.npz")


@pytest.mark.parametrize(("keys", "words"), [
    (("a", "b", "c", "d"), "one array 'x_train' .*; got .'a', 'b', 'c', 'd'."),
    (("images", "data"), "one array 'x' .*; got .'images', 'data'."),
    (("train_images", "train_labels", "X_train", "test_images"), "'x_train' .*images', 'X_train'"),
    (("X_train", "y_train", "X_val", "y_val"), "one array 'x_test' .*; got"),
    (("X",), "one array 'y' "),
    (("arr_0", "arr_1", "arr_2"), "one array 'x_train'"),
])  # fmt: skip
def test_npz_under_unknown_names_says_what_there_is(tmp_path, keys, words):
    np.savez(tmp_path / "a.npz", **dict.fromkeys(keys, np.ones((4, 2))))
    with pytest.raises(DataError, match=words) as caught:
        load(tmp_path / "a.npz")
    assert "intact copy" not in str(caught.value)


def letters(folder, names, four=None, packed=False):
    all_names = [name.replace("images-idx3", kind) for name in names for kind in KINDS]
    return write_folder(folder, four or arrays(), all_names, packed)


KINDS = "images-idx3", "labels-idx1"
EMNIST = "emnist-{}-train-images-idx3-ubyte", "emnist-{}-test-images-idx3-ubyte"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "raw"])
def test_emnist_is_turned_upright(tmp_path, packed, below):
    X_train, _, X_test, _ = arrays(rows=5, cols=5)
    y_train, y_test = np.arange(1, 7, dtype="u1"), np.array([1, 26, 3], "u1")
    upright = X_train, y_train, X_test, y_test
    turned = X_train.swapaxes(1, 2), y_train, X_test.swapaxes(1, 2), y_test
    folder = tmp_path / below
    letters(folder, [name.format("letters") for name in EMNIST], turned, packed)
    for path in (tmp_path, tmp_path / "emnist-letters"):
        for mapped in (False, True):
            expect(map(np.array, load(path, mapped=mapped)), upright)
    letters(folder, [name.format("digits") for name in EMNIST], turned, packed)
    choices = f"{tmp_path / 'emnist-digits'}, {tmp_path / 'emnist-letters'}"
    with pytest.raises(DataError, match=re.escape(f"several data sets; name one: {choices}")):
        load(tmp_path)
    expect(load(tmp_path / "emnist-digits"), upright)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load(tmp_path / "emnist-balanced")
    next(folder.glob("emnist-letters-test-labels*")).unlink()
    with pytest.raises(FileNotFoundError, match="lacks y_test of emnist-letters"):
        load(tmp_path / "emnist-letters")
    expect(load(tmp_path), upright)  # the one that is whole


def test_mnist_s_names_go_before_others(tmp_path):
    letters(tmp_path, [name.format("mnist") for name in EMNIST])
    expect(load(write_folder(tmp_path, arrays())), arrays())


@pytest.mark.parametrize("names", [
    ["kmnist-train-imgs", "kmnist-train-labels", "kmnist-test-imgs", "kmnist-test-labels"],
    ["k49-train-imgs", "k49-train-labels", "k49-test-imgs", "k49-test-labels"],
    ["x_train", "y_train", "x_test", "y_test"], ["train_X", "train_Y", "test_X", "test_Y"],
])  # fmt: skip
def test_kmnist_s_four_files_of_one_array(tmp_path, names):
    (tmp_path / "kmnist_classmap.csv").write_text("index,codepoint,char\n")
    for name, array in zip(names, arrays(), strict=True):
        np.savez_compressed(tmp_path / f"{name}.npz", array)
    expect(load(tmp_path), arrays())
    for name, array in zip(names, arrays(), strict=True):
        (tmp_path / f"{name}.npz").unlink()
        np.save(tmp_path / f"{name}.npy", array)
    expect(load(tmp_path), arrays())
    np.savez(tmp_path / f"{names[0]}.npz", *arrays())
    (tmp_path / f"{names[0]}.npy").unlink()
    with pytest.raises(DataError, match=r"it must hold one array; got .'arr_0', "):
        load(tmp_path)


@pytest.mark.parametrize("written", ["npz", "IDX", "pickle"])
@pytest.mark.parametrize("as_labels", {
    "float32": lambda y: y.astype("f4"), "float64": lambda y: y.astype("f8"),
    "one-hot bytes": lambda y: np.eye(10, dtype="u1")[y], "one-hot floats": lambda y: np.eye(10)[y],
    "a column": lambda y: y[:, None], "a float column": lambda y: y[:, None].astype("f4"),
}.values())  # fmt: skip
def test_labels_of_any_kind_become_integers(tmp_path, written, as_labels):
    X, y, X_test, y_test = arrays()
    four = X, as_labels(y), X_test, as_labels(y_test)
    path = tmp_path / {"npz": "a.npz", "IDX": "", "pickle": "a.pkl"}[written]
    if written == "npz":
        np.savez(path, **dict(zip(KEYS, four, strict=True)))
    elif written == "IDX":
        write_folder(path, four)
    else:
        path.write_bytes(pickle.dumps((four[:2], four[:2], four[2:]), 4))
    expect(load(path), (X, y, X_test, y_test))


def test_labels_that_are_true_or_false(tmp_path):
    X, y, *_ = arrays()
    np.savez(tmp_path / "a.npz", **dict(zip(KEYS, (X, y > 4) * 2, strict=True)))
    expect(load(tmp_path / "a.npz"), (X, (y > 4).astype(int)) * 2)


# --- Real data ----------------------------------------------------------------------------------


def test_real_mnist(mnist):
    shapes = (60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,)
    for array, shape, digest in zip(mnist, shapes, MNIST_SHA256, strict=True):
        file = idx(array.astype("u1", copy=False).reshape(shape))
        assert hashlib.sha256(file).hexdigest() == digest
    assert mnist.X_train.dtype == np.uint8


def test_real_fashion_mnist():
    if not loading.SYSTEM_FOLDERS["fashion-mnist"][0].is_dir():
        pytest.skip("no Fashion-MNIST here; Debian has it: apt install dataset-fashion-mnist")
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
    monkeypatch.setattr(loading, "SYSTEM_FOLDERS", system)
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


def test_a_named_folder_without_the_files_is_an_error(nowhere, monkeypatch):
    """No other copy is read, and nothing is downloaded: an error says where it looked."""
    monkeypatch.setattr(loading.download, "fetch", lambda *_: pytest.fail("a download"))
    numbered(nowhere / "cache" / "fastbp" / "mnist", 1)
    monkeypatch.setenv("FASTBP_DATA", str(numbered(nowhere / "env", 2)))
    (empty := nowhere / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="mnist was not found in ") as caught:
        load("mnist", empty)
    for part in (*IDX_NAMES, f"{empty / 'mnist'} and ", str(empty / "MNIST" / "raw")):
        assert part in str(caught.value)
    for variable in (str(nowhere / "typo"), str(empty / "file")):
        monkeypatch.setenv("FASTBP_DATA", variable)
        with pytest.raises(FileNotFoundError, match=r"\$FASTBP_DATA must be a folder; got"):
            load("mnist")
    for other in ("digits", numbered(nowhere / "folder", 3)):
        with pytest.raises(ValueError, match="is for mnist and fashion-mnist; got it for"):
            load(other, empty)


def test_another_copy_than_that_of_the_variable_is_named(nowhere, monkeypatch, caplog):
    cache = numbered(nowhere / "cache" / "fastbp" / "mnist", 1)
    monkeypatch.setenv("FASTBP_DATA", str(nowhere))
    assert load("mnist").X_train[0, 0] == 1
    assert caplog.messages == [f"mnist is not in $FASTBP_DATA, {nowhere}; reading {cache}"]
    (nowhere / "mnist").symlink_to(numbered(nowhere / "x", 2))
    assert load("mnist").X_train[0, 0] == 2
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(("name", "torchvision"), [
    ("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"),
])  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_torchvision_s_layout(nowhere, monkeypatch, name, torchvision, packed):
    for folder in ("MNIST", "FashionMNIST", "KMNIST", "QMNIST"):
        X, y = np.full((2, 3, 3), len(folder), "u1"), np.zeros(2, "u1")
        write_folder(nowhere / folder / "raw", (X, y, X, y), packed=packed)
    (nowhere / "home").mkdir()
    monkeypatch.setenv("HOME", str(nowhere / "home"))
    (nowhere / "home" / "data").symlink_to(nowhere)
    monkeypatch.chdir(nowhere)
    right = nowhere / torchvision
    for data_dir in (nowhere, ".", right, right / "raw", "~/data", f"~/data/{torchvision}/"):
        assert load(name, data_dir).X_train[0, 0] == len(torchvision), data_dir
        assert loading.locate(name, data_dir).samefile(right / "raw")
    monkeypatch.setenv("FASTBP_DATA", str(nowhere))
    assert load(name).X_train[0, 0] == len(torchvision)
    assert load(right).X_train[0, 0] == len(torchvision)
    for folder in {"MNIST", "FashionMNIST", "KMNIST", "QMNIST"} - {torchvision}:
        for wrong in (nowhere / folder, nowhere / folder / "raw"):
            with pytest.raises(FileNotFoundError, match=f"{name} was not found in"):
                load(name, wrong)


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
    (nowhere / "env").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        load("mnist")
    message = str(caught.value)
    folders = nowhere / "env", nowhere / "env" / "mnist", nowhere / "cache" / "fastbp" / "mnist"
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
        assert loading.cache_folder("mnist") == tmp_path / "set" / "fastbp" / "mnist"
        for unusable in ("", "relative"):
            monkeypatch.setenv(variable, unusable)
            assert loading.cache_folder("mnist") == tmp_path / below_home / "fastbp" / "mnist"
    assert loading.cache_folder("mnist") == tmp_path / below_home / "fastbp" / "mnist"


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
    with pytest.raises(FileNotFoundError, match="data_dir must be a folder"):
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


def test_what_is_held_out_keeps_its_labels():
    y = np.arange(50)
    X_train, y_train, X, held = datasets.hold_out(y[:, None], y, 0.3, seed=1)
    np.testing.assert_array_equal(X_train[:, 0], y_train)
    np.testing.assert_array_equal(X[:, 0], held)
    assert sorted([*y_train, *held]) == y.tolist()
    assert len(held) == 15


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
    with pytest.raises(DataError, match=r"t\.CSV: .*column.* --label"):
        load(path)
    with pytest.raises(DataError, match=r"label must be one of .*'a', 'class', 'b'.*'klass'"):
        load(path, label="klass")
    path.write_text("\n".join(["a,class,b", *rows[:4]]))
    with pytest.raises(DataError, match="a class must have five samples or more"):
        load(path, label="class")
    path.write_text("\n".join(["a,class", *["1,7"] * 5]))
    with pytest.raises(DataError, match=r"t\.CSV: column 'class' holds one class alone, 7"):
        load(path, label="class")
    path.write_text("\n".join(["a,class", *["1,65536"] * 5]))
    with pytest.raises(DataError, match=r"t\.CSV: labels must be from 0 to 65535; got 65536"):
        load(path, label="class", notes={})


def test_only_tables_have_a_label(tmp_path):
    for source in ("digits", write_folder(tmp_path / "d", arrays())):
        with pytest.raises(ValueError, match=r"label and task are of .*\.csv"):
            load(source, label="class")


# --- What is no data at all ---------------------------------------------------------------------

OTHERS = {
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "run `git lfs pull`"),
    "git-annex": (b"/annex/objects/MD5E-s3--0.npz\n", "run `git annex get`"),
    "page": (b"\n<!DOCTYPE html>\n<title>404</title>", "a page of a web site"),
    "page of HTML": (b"<html lang=en>", "a page of a web site"),
    "xz": (b"\xfd7zXZ\0\0", "compressed by xz"),
    "zst": (b"\x28\xb5\x2f\xfd\0", "compressed by Zstandard"),
    "bz2": (b"BZh91AY&SY", "compressed by bzip2"),
    "nothing": (b"", "empty"),
    "blanks": (b" \n", "empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["a.npz", "a.pkl.gz", "a.csv", IDX_NAMES[0], "a.npy", "a.model"])
@pytest.mark.parametrize(("content", "words"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_data_is_called_by_its_name(tmp_path, name, content, words):
    if name.endswith(".csv"):
        pytest.importorskip("pandas", reason="the extra csv is not installed")
    readers = {
        ".npy": datasets.map_npy, ".model": fastbp.load,
        ".csv": functools.partial(load, label="y"),
    }  # fmt: skip
    read = readers.get(Path(name).suffix, load)
    path = write_attack(tmp_path, name, content)
    with pytest.raises((DataError, fastbp.ModelFileError), match=words) as caught:
        read(path)
    assert "damaged" not in str(caught.value)
    assert "Get an intact" not in str(caught.value)


def test_an_intact_copy_is_advised_where_a_copy_is_damaged(tmp_path):
    """And there alone: not where a file is of another kind, or holds something else."""
    np.savez_compressed(tmp_path / "a.npz", **dict(zip(KEYS, arrays(), strict=True)))
    blob = (tmp_path / "a.npz").read_bytes()
    gz = gzip.compress(PYTHON2_PICKLE)
    damaged = {"a.npz": [blob[:-9], blob[:99] + b"!!" + blob[101:]], "a.pkl.gz": [gz[:-9]]}
    for name, contents in damaged.items():
        for content in contents:
            (tmp_path / name).write_bytes(content)
            with pytest.raises(DataError, match="Get an intact copy, or name another file"):
                load(tmp_path / name)
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    npy = (tmp_path / "x.npy").read_bytes()
    objects = pickle.dumps({"x": [1]}, 4)
    for name, content in (("a.npz", gz), ("a.npz", npy), ("a.pkl", blob), ("b.pkl", objects)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            load(tmp_path / name)
        assert "Get an intact" not in str(caught.value)


# --- Attacks ------------------------------------------------------------------------------------
# Each is refused with a DataError that names the file, and costs no more memory than the file
# holds.


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


def test_attacks_under_a_limit_on_address_space(run_program, tmp_path):
    """The whole corpus again, in a process that cannot have more than 64 MiB above its start."""
    pytest.importorskip("resource", reason="this system has no limits on address space")
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not say how much address space a process has")
    paths = [
        write_attack(tmp_path / str(number), filename, content)
        for number, (filename, content, _) in enumerate(CORPUS.values())
    ]
    done = run_program("load_attacks.py", *paths, cwd=tmp_path, OPENBLAS_NUM_THREADS="1")
    assert done.stdout.splitlines() == ["refused"] * len(CORPUS)
    assert done.stderr == ""
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
    monkeypatch.setattr(untrusted, "MAX_UNPACKED", 4 * MIB)
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
