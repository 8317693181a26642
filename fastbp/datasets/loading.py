"""Where data sets lie, the reader of each file, and checks of what it returns."""

import os
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from .._support import checks
from . import arrays, download
from .csv import read_and_split
from .pickle import read_pickle
from .untrusted import DataError, blaming

MAX_LABEL = 65_535  # a label sizes a network's output layer: one wild value must not ask for GiB

# Data sets of four IDX files, and where the system may have them.
SYSTEM_FOLDERS: dict[str, tuple[Path, ...]] = {
    "mnist": (),
    "fashion-mnist": (Path("/usr/share/datasets/fashion-mnist"),),  # Debian: dataset-fashion-mnist
}
NAMES = ("digits", *SYSTEM_FOLDERS)
# The variable that names the cache folder, and its default below the home folder, by sys.platform.
# Not `pooch.os_cache`: files in the cache are found without pooch, and on Windows it has others.
_CACHES = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")}
_Path: TypeAlias = str | os.PathLike[str]
_Pair: TypeAlias = tuple[np.ndarray, np.ndarray]


class Dataset(NamedTuple):
    """Images and labels, for training and for testing; unpacks into four arrays.

    ``X`` is (n, n_in), C-contiguous, of the dtype found; ``y`` is (n,), int64.

    Examples
    --------
    >>> from fastbp import datasets
    >>> datasets.load("digits").X_train.shape
    (1442, 64)
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def load(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    label: str | None = None,
    progress: bool = False,
    mapped: bool = False,
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
        - a folder of four IDX files, plain or ``.gz``.
        - an ``.npz`` file as of Keras: ``x_train, y_train, x_test, y_test``.
        - ``mnist.pkl.gz``, of which the training and the test part are returned.
        - a ``.csv`` file with a header (needs pandas), every fifth line of each class for testing.
    data_dir : str or os.PathLike, optional
        Where to look first for ``mnist`` and ``fashion-mnist``: a folder of the files, or of a
        subfolder with the data set's name. Then comes ``$FASTBP_DATA``, read in the same way, the
        user's cache, and for ``fashion-mnist`` Debian's package ``dataset-fashion-mnist``.
    label : str, optional
        The column of a ``.csv`` file that holds the classes, 0, 1, 2, ...
    progress : bool, default False
        Show a progress bar while downloading.
    mapped : bool, default False
        Read of uncompressed IDX files only what is used; they must not change meanwhile.

    Returns
    -------
    Dataset
        Pixels are not scaled and keep their dtype: uint8 in IDX, float32 in ``mnist.pkl.gz``; bool
        becomes uint8.

    Raises
    ------
    FileNotFoundError, PermissionError
        There is no such file and it could not be downloaded, or it may not be read.
    DataError
        A file is damaged or of another kind. It is a ValueError.
    ImportError
        pandas, which reads ``.csv``, is missing.
    ValueError
        The name is unknown and not a path; or ``label`` is missing, or not for a ``.csv`` file.

    Examples
    --------
    >>> from fastbp import datasets
    >>> [array.shape for array in datasets.load("digits")]
    [(1442, 64), (1442,), (355, 64), (355,)]
    """
    if name_or_path == "digits":  # which may lie in a zip
        with resources.as_file(resources.files("fastbp.datasets") / "digits.npz") as path:
            return _load(path, label, mapped)
    return _load(_locate(name_or_path, data_dir, progress), label, mapped)


def _load(path: Path, label: str | None, mapped: bool) -> Dataset:
    if label is not None and (path.suffix.lower() != ".csv" or path.is_dir()):
        raise ValueError(f"label names a column of a .csv file; got {path}")
    with blaming(path):
        X_train, y_train, X_test, y_test = _read(path, label, mapped)
        train, test = _pair(X_train, y_train), _pair(X_test, y_test)
        a, b = (X.shape[1] for X, _ in (train, test))
        if a != b:
            raise ValueError(f"images must have one size; got {a} pixels to train, {b} to test")
        return Dataset(*train, *test)


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

    Parameters
    ----------
    X, y : (n, ...) array
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
    drawn = np.zeros(n, bool)
    count = min(max(1, round(share * n)), n - 1)
    drawn[np.random.default_rng(seed).permutation(n)[:count]] = True
    return X[~drawn], y[~drawn], X[drawn], y[drawn]


def _locate(name_or_path: _Path, data_dir: _Path | None, progress: bool) -> Path:
    if isinstance(name_or_path, str) and name_or_path in SYSTEM_FOLDERS:
        return _folder(name_or_path, data_dir, progress)
    path = Path(name_or_path)
    if path.exists():
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


def _folder(name: str, data_dir: _Path | None, progress: bool) -> Path:
    """Return the first folder that holds a data set; download it if there is none."""
    if data_dir is not None and not os.path.isdir(data_dir):
        raise FileNotFoundError(f"data_dir must be a folder; got {os.fspath(data_dir)!r}")
    roots = [Path(root) for root in (data_dir, os.environ.get("FASTBP_DATA")) if root]
    folders = [folder for root in roots for folder in (root / name, root)]
    # A root called mnist that holds the files itself must not be taken for fashion-mnist.
    others = set(SYSTEM_FOLDERS) - {name}
    folders = [f for f in folders if os.path.basename(os.path.realpath(f)) not in others]
    cache = cache_folder(name)
    folders += filter(None, (cache, *SYSTEM_FOLDERS[name]))
    for folder in folders:
        missing = arrays.missing(folder)
        # A cache that holds some of the files had its download interrupted: get the rest.
        if not missing or (len(missing) < len(arrays.FILES) and folder != cache):
            return folder
    try:
        if cache is None:
            raise download.DownloadError("there is no home folder to download it to")
        download.fetch(name, cache, arrays.missing(cache), progress)
    except (download.DownloadError, ImportError) as error:
        places = "".join(f"\n  {folder}" for folder in folders) or " no folder at all"
        files = ", ".join(f"{stem}-ubyte" for stem in arrays.FILES)
        raise FileNotFoundError(
            f"{name} was not found, and could not be downloaded: {error}. Put {files} (or .gz) "
            f"into a folder named by --data-dir (data_dir=) or $FASTBP_DATA. Looked in:{places}"
        ) from error
    return cache


def _read(path: Path, label: str | None, mapped: bool) -> Sequence[np.ndarray]:
    if path.is_dir():
        return arrays.read_folder(path, mapped)
    if path.suffix.lower() == ".csv":
        return read_and_split(path, label)
    if path.name.lower().endswith(".npz"):
        return arrays.read_npz(path)
    if path.name.lower().endswith((".pkl", ".pkl.gz")):
        train, _, test = read_pickle(path)
        return *train, *test
    wanted = "end in one of .npz, .pkl.gz, .pkl, .csv, or be that of a folder of IDX files"
    raise DataError(f"{path}: the name must {wanted}")


def _pair(X: np.ndarray, y: np.ndarray) -> _Pair:
    """Check that images and labels fit; flatten the images and make the labels int64."""
    if X.ndim < 2 or y.shape not in ((len(X),), (len(X), 1)):
        raise ValueError(f"images must have shape (n, ...), labels (n,); got {X.shape}, {y.shape}")
    if y.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers; got {y.dtype}")
    if y.min() < 0 or y.max() > MAX_LABEL:
        raise ValueError(f"labels must be from 0 to {MAX_LABEL}; got {y.min()} to {y.max()}")
    X = np.ascontiguousarray(X.reshape(len(X), -1), dtype=X.dtype.newbyteorder("="))
    return X, y.reshape(-1).astype(np.int64)
