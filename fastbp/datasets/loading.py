"""Where data sets lie, the reader of each file, and checks of what it returns."""

import logging
import os
import re
import reprlib
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .._support import checks, split
from .._support.shown import html
from . import arrays, download
from .columns import REGRESSION, TASKS
from .csv import read_numbered
from .dialect import Dialect
from .pickle import read_pickle
from .untrusted import DataError, blaming

logger = logging.getLogger("fastbp")

MAX_LABEL = 65_535  # a label sizes a network's output layer: one wild value must not ask for GiB

# Data sets of four IDX files, and where the system may have them.
SYSTEM_FOLDERS: dict[str, tuple[Path, ...]] = {
    "mnist": (),
    "fashion-mnist": (Path("/usr/share/datasets/fashion-mnist"),),  # Debian: dataset-fashion-mnist
}
NAMES = ("digits", *SYSTEM_FOLDERS)
# Where their files may lie below a folder that the user names; and, as torchvision has it, in `raw`
# below that.
_LAYOUTS = {
    "mnist": ("mnist", "MNIST", ""),
    "fashion-mnist": ("fashion-mnist", "FashionMNIST", ""),
}
# Folders of these names, but for letters' case and "-", hold other images in files of equal names.
_ALIKE = ("mnist", "fashionmnist", "fashion", "kmnist", "kuzushijimnist", "qmnist", "emnist")
# The variable that names the cache folder, and its default below the home folder, by sys.platform.
# Not `pooch.os_cache`: files in the cache are found without pooch, and on Windows it has others.
_CACHES = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")}
_Path: TypeAlias = str | os.PathLike[str]
_Pair: TypeAlias = tuple[np.ndarray, np.ndarray]


class _Arrays(NamedTuple):
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


class Dataset(_Arrays):
    """Samples and what is to be predicted, to train and to test; unpacks into four arrays.

    ``X`` is (n, n_in), C-contiguous, of the dtype found; ``y`` is (n,), int64 classes, or float64
    for a regression. ``notes`` holds what a table says beside its numbers: ``columns``, the names
    of the inputs; ``label``, the column of y; ``task``, "classification" or "regression"; and for
    a classification ``classes``, the sorted labels that y numbers from 0. Assign a copy of it to
    `Network.notes`, and the model's commands put the columns of other files in order.

    Examples
    --------
    >>> from fastbp import datasets
    >>> datasets.load("digits").X_train.shape
    (1442, 64)
    """

    notes: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self) -> str:
        parts = (f"{name} {part.shape} {part.dtype}" for name, part in self._asdict().items())
        return f"<Dataset: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        rows = [(name, part.shape, part.dtype) for name, part in self._asdict().items()]
        label = self.notes.get("label")
        return html(("array", "shape", "dtype"), rows, below=f"y: column {label}" if label else "")


def load(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    label: str | None = None,
    task: str | None = None,
    progress: bool = False,
    mapped: bool = False,
    header: bool = True,
    separator: str | None = None,
    decimal: str | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Dataset:
    """Load a data set by its name, or from a folder or file.

    Parameters
    ----------
    name_or_path : str or os.PathLike
        A name or a path; a name goes first, so write ``./mnist`` for a folder of that name.

        - ``"digits"``: 1,797 images of 8x8 pixels, 0 to 16, which come with the package. Every
          fifth image of each class is for testing.
        - ``"mnist"`` or ``"fashion-mnist"``: four IDX files. If they are not on the machine, they
          are downloaded to the folder ``fastbp/<name>`` of the user's cache (needs pooch).
        - a folder of four IDX files, plain or ``.gz``; or of four ``.npy`` or ``.npz`` files of one
          array each. They are known by their names, as of MNIST, EMNIST and KMNIST, or
          ``x_train.npy`` and so on. Of a folder with several sets, name one by its prefix, as
          ``folder/emnist-letters``. EMNIST's images are turned upright, its letters are 1 to 26.
        - an ``.npz`` file as of Keras: ``x_train, y_train, x_test, y_test``, or other usual names
          (``train_images``, ``X_test``, ``arr_0`` to ``arr_3``); or without a test part (``X, y``,
          ``images, labels``, ``data, target``), every fifth of each class then being for testing.
        - ``mnist.pkl.gz``, of which the training and the test part are returned.
        - a ``.csv`` or ``.tsv`` file (needs pandas), every fifth line of each class for testing;
          for a regression, every fifth in the order of the targets.
    data_dir : str or os.PathLike, optional
        The folder that holds ``mnist`` or ``fashion-mnist``: the files, or a subfolder with the
        data set's name, or ``MNIST/raw`` or ``FashionMNIST/raw`` as of torchvision. No other copy
        is read. Without it, ``$FASTBP_DATA`` is searched in the same way; then, with a warning, the
        user's cache, and for ``fashion-mnist`` Debian's package ``dataset-fashion-mnist``.
    label : str, optional
        The column of a ``.csv`` file that is to be predicted: texts or numbers. Sorted, classes are
        0, 1, 2, ... in y, and ``classes`` in the notes.
    task : {"classification", "regression"}, optional
        Whether that column holds classes or numbers. By default texts are classes; numbers with
        fractions are none; whole numbers are, if at most 10 are different, or at most 100 with ten
        rows or more for each.
    progress : bool, default False
        Show a progress bar while downloading.
    mapped : bool, default False
        Read of uncompressed IDX files only what is used; they must not change meanwhile.
    header, separator, decimal : optional
        How a ``.csv`` file is written, as for `read_csv`.
    notes : dict, optional
        The notes of a model that is to take the samples: columns are put in the order of its inputs
        and classes get the numbers of its outputs. They also name the label and the task.

    Returns
    -------
    Dataset
        Pixels are not scaled and keep their dtype: uint8 in IDX, float32 in ``mnist.pkl.gz``; bool
        becomes uint8. Labels may be whole numbers of any dtype, or one-hot rows; of a ``.csv``
        file also the numbers of a regression.

    Raises
    ------
    FileNotFoundError, PermissionError
        There is no such file, or not in `data_dir`, and it could not be downloaded; or it may not
        be read.
    DataError
        A file is damaged or of another kind. It is a ValueError.
    ImportError
        pandas, which reads ``.csv``, is missing.
    ValueError
        The name is unknown and not a path; or ``label`` is missing, or it or ``task`` is not for a
        ``.csv`` file; or `data_dir` is given for another data set.

    Examples
    --------
    >>> from fastbp import datasets
    >>> [array.shape for array in datasets.load("digits")]
    [(1442, 64), (1442,), (355, 64), (355,)]
    """
    table = _Table(label, task, Dialect(header, separator, decimal), notes)
    if name_or_path == "digits" and data_dir is None:  # which may lie in a zip
        with resources.as_file(resources.files("fastbp.datasets") / "digits.npz") as path:
            return _load(path, table, mapped)
    return _load(locate(name_or_path, data_dir, progress), table, mapped)


class _Table(NamedTuple):
    """What is said of a table, as the arguments of `load`."""

    label: str | None
    task: str | None
    dialect: Dialect
    notes: Mapping[str, Any] | None


def _load(path: Path, table: _Table, mapped: bool) -> Dataset:
    noted: dict[str, Any] = {}
    if table.task is not None:
        checks.one_of("task", table.task, TASKS)
    if not is_table(path) and table[:3] != (None, None, Dialect()):
        option = "header, separator, decimal are"
        if table.label is not None or table.task is not None:
            option = "label and task are of a column"
        raise ValueError(f"{option} of a .csv file; got {path}")
    with blaming(path):
        if is_table(path):
            *found, noted = read_numbered(path, table.label, table.dialect, table.notes, table.task)
        else:
            found = [*_read(path, mapped)]
        pair = _numbers if noted.get("task") == REGRESSION else _pair
        if len(found) == 2:
            X, y = pair(*found)
            chosen = arrays.testing(y)
            found = [X[~chosen], y[~chosen], X[chosen], y[chosen]]
        train, test = pair(*found[:2]), pair(*found[2:])
        a, b = (X.shape[1] for X, _ in (train, test))
        if a != b:
            raise ValueError(f"images must have one size; got {a} pixels to train, {b} to test")
        data = Dataset(*train, *test)
        data.notes = noted
        return data


def _numbers(X: np.ndarray, y: np.ndarray) -> _Pair:
    """Return inputs and targets of a regression, which their reader has checked."""
    return X, y


def is_table(path: _Path) -> bool:
    """Return whether a path names a table."""
    return Path(path).suffix.lower() in (".csv", ".tsv") and not os.path.isdir(path)


def load_pickle(path: str | os.PathLike[str]) -> tuple[_Pair, _Pair, _Pair]:
    """Read all three parts of ``mnist.pkl.gz``.

    Parameters
    ----------
    path : str or os.PathLike
        Plain or compressed by gzip; pickle protocol 1 to 5, written by Python 2 or 3.

    Returns
    -------
    train, validation, test : tuple of (X, y)
        X (n, n_in) of the dtype found, y (n,) int64.

    Raises
    ------
    FileNotFoundError, PermissionError, DataError
        The file is missing, damaged, or holds anything but plain numeric arrays in tuples.

    Examples
    --------
    >>> import pathlib, pickle, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "mnist.pkl")
    >>> _ = path.write_bytes(pickle.dumps(((np.ones((2, 3)), np.array([0, 1])),) * 3))
    >>> train, validation, test = load_pickle(path)
    >>> test[0].shape
    (2, 3)
    """
    with blaming(path):
        train, validation, test = (_pair(X, y) for X, y in read_pickle(path))
        return train, validation, test


def hold_out(
    X: np.ndarray, y: np.ndarray, share: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Divide samples at random into those that are kept and those that are held out.

    Sorted by class, or by target, the samples are cut into as many equal runs as are to be held
    out, and one is drawn of each: every class has its share on either side.

    Parameters
    ----------
    X, y : (n, ...) array
        Of rows of y, the place of the largest entry is taken for the class.
    share : float, default 0.1
        The part that is held out, above 0 and below 1; at least one sample on either side.
    seed : int, default 0

    Returns
    -------
    X, y, X_held_out, y_held_out : arrays
        Copies, in their original order.

    Raises
    ------
    ValueError
        If X and y differ in length or hold fewer than two samples, or `share` is out of range.

    Examples
    --------
    >>> X, y, *_ = load("digits")
    >>> [len(part) for part in hold_out(X, y)]
    [1298, 1298, 144, 144]
    """
    n = len(X)
    if len(y) != n or n < 2:
        raise ValueError(f"X and y must hold the same two or more samples; got {n} and {len(y)}")
    checks.fraction("share", share)
    drawn = split.held_out(y, share, seed)
    return X[~drawn], y[~drawn], X[drawn], y[drawn]


def locate(name_or_path: _Path, data_dir: _Path | None = None, progress: bool = False) -> Path:
    """Return the file or folder that `load` reads; a data set that is nowhere is downloaded."""
    if isinstance(name_or_path, str) and name_or_path in SYSTEM_FOLDERS:
        return _folder(name_or_path, data_dir, progress)
    if data_dir is not None:
        known = " and ".join(SYSTEM_FOLDERS)
        raise ValueError(f"--data-dir (data_dir=) is for {known}; got it for {name_or_path}")
    if name_or_path == "digits":
        return Path(__file__).with_name("digits.npz")
    path = Path(os.path.expanduser(name_or_path))
    if path.exists() or path.name.lower() in arrays.sets_in(path.parent):
        return path
    expected = f"expected a path or one of {', '.join(NAMES)}"
    if isinstance(name_or_path, str) and path.name == name_or_path and not path.suffix:
        raise ValueError(f"there is no data set {name_or_path!r}; {expected}")
    raise FileNotFoundError(f"{path}: no such file or folder; {expected}")


def cache_folder(name: str) -> Path | None:
    """Return ``fastbp/<name>`` in the user's cache; None if there is neither cache nor home."""
    variable, below_home = _CACHES.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    cache = Path(os.environ.get(variable, ""))
    if not cache.is_absolute():  # unset; and XDG says that a relative path is to be ignored
        try:
            cache = Path.home() / below_home
        except RuntimeError:
            return None
    return cache / "fastbp" / name


def _below(name: str, root: Path) -> list[Path]:
    """Return the folders below a root in which a data set may lie."""
    parts = [re.sub("[-_ ]", "", part).lower() for part in Path(os.path.realpath(root)).parts[-2:]]
    inner = parts[0] if parts[-1] == "raw" else parts[-1]
    other = inner in _ALIKE and not name.replace("-", "").startswith(inner)
    return [root / place for place in _LAYOUTS[name] if place or not other]


def _folder(name: str, data_dir: _Path | None, progress: bool) -> Path:
    """Return the first folder that holds a data set; download it if there is none."""
    root = os.environ.get("FASTBP_DATA", "") if data_dir is None else os.fspath(data_dir)
    root = os.path.expanduser(root)
    if (root or data_dir is not None) and not os.path.isdir(root):
        what = "$FASTBP_DATA" if data_dir is None else "data_dir"
        raise FileNotFoundError(f"{what} must be a folder; got {root!r}")
    named = _below(name, Path(root)) if root else []
    cache = cache_folder(name)
    others = [] if data_dir is not None else filter(None, (cache, *SYSTEM_FOLDERS[name]))
    folders = [*named, *others]
    for folder in folders:
        missing = arrays.missing(folder)
        # A cache that holds some of the files had its download interrupted: get the rest.
        if not missing or (len(missing) < len(arrays.FILES) and folder != cache):
            if named and folder not in named:
                logger.warning("%s is not in $FASTBP_DATA, %s; reading %s", name, root, folder)
            return next(iter(arrays.sets_in(folder)[""].values())).parent
    places = "".join(f"\n  {folder} and {folder / 'raw'}" for folder in folders)
    places = places or " no folder at all"
    files = ", ".join(f"{stem}-ubyte" for stem in arrays.FILES)
    if data_dir is not None:
        hint = f"put {files} (or .gz) there, or name another folder"
        raise FileNotFoundError(f"{name} was not found in {root}; {hint}. Looked in:{places}")
    try:
        if cache is None:
            raise download.DownloadError("there is no home folder to download it to")
        download.fetch(name, cache, arrays.missing(cache), progress)
    except (download.DownloadError, ImportError) as error:
        raise FileNotFoundError(
            f"{name} was not found, and could not be downloaded: {error}. Put {files} (or .gz) "
            f"into a folder named by --data-dir (data_dir=) or $FASTBP_DATA. Looked in:{places}"
        ) from error
    return cache


def _read(path: Path, mapped: bool) -> Sequence[np.ndarray]:
    if path.is_dir() or not path.exists():
        return arrays.read_folder(path, mapped)
    if path.name.lower().endswith(".npz"):
        return arrays.read_npz(path)
    if path.name.lower().endswith((".pkl", ".pkl.gz")):
        train, _, test = read_pickle(path)
        return *train, *test
    wanted = "end in one of .npz, .pkl.gz, .pkl, .csv, or be that of a folder of IDX files"
    raise DataError(f"{path}: the name must {wanted}")


def _pair(X: np.ndarray, y: np.ndarray) -> _Pair:
    """Check that images and labels fit; flatten the images and make the labels int64."""
    if X.ndim < 2 or y.ndim not in (1, 2) or len(y) != len(X):
        raise ValueError(f"images must have shape (n, ...), labels (n,); got {X.shape}, {y.shape}")
    labels = _one_hot(y) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)
    if labels.dtype.kind == "f" and (wrong := labels != np.rint(labels)).any():
        got = f"{labels[wrong][0]} at sample {wrong.argmax()}"
        raise ValueError(f"labels must be whole numbers; got {got}")
    if labels.min() < 0 or labels.max() > MAX_LABEL:
        got = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"labels must be from 0 to {MAX_LABEL}; got {got}")
    X = np.ascontiguousarray(X.reshape(len(X), -1), dtype=X.dtype.newbyteorder("="))
    return X, labels.astype(np.int64)


def _one_hot(y: np.ndarray) -> np.ndarray:
    """Return the place of the 1 in each row."""
    wrong = ((y == 1).sum(axis=1) != 1) | ((y != 0).sum(axis=1) != 1)
    if wrong.any():
        got = f"{y.shape}, with row {wrong.argmax()} {reprlib.repr(y[wrong][0].tolist())}"
        raise ValueError(f"labels must have shape (n,), or be one-hot rows; got {got}")
    places: np.ndarray = y.argmax(axis=1)
    return places
