"""Images and labels from IDX files, ``.npz``, ``mnist.pkl.gz``, CSV; the bundled digits.

MNIST and Fashion-MNIST are downloaded where they are nowhere on the machine (see `downloads`).
Every file is taken for hostile: no file runs code, or makes the loader allocate more than it holds
(see `untrusted` and `pickles`). ``.npy`` headers are matched, never evaluated.
"""

import os
import re
import reprlib
import struct
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from . import download as downloads
from .csv import read_csv
from .pickle import read_pickle
from .untrusted import (
    DEFLATE_RATIO,
    MAX_UNPACKED,
    DataError,
    Order,
    blaming,
    byte_count,
    opened,
    plain_dtype,
    read_array,
    read_exactly,
    unpacked,
)

__all__ = ["Dataset", "hold_out", "load", "load_pickle", "map_npy", "read_csv"]

_Pair: TypeAlias = tuple[np.ndarray, np.ndarray]
_Loader: TypeAlias = Callable[[Path], tuple[_Pair, _Pair]]

MAX_LABEL = 65_535  # a label sizes a network's output layer: one wild value must not ask for GiB

_DIGITS = Path(__file__).parent / "digits.npz"
# Data sets of four IDX files, and where the system may have them.
_SYSTEM_FOLDERS: dict[str, tuple[Path, ...]] = {
    "mnist": (),
    "fashion-mnist": (Path("/usr/share/datasets/fashion-mnist"),),  # Debian: dataset-fashion-mnist
}
NAMES = ("digits", *_SYSTEM_FOLDERS)
_CACHES = {  # sys.platform: (variable that names the cache folder, the folder below home)
    "win32": ("LOCALAPPDATA", "AppData/Local"),
    "darwin": ("", "Library/Caches"),
    "": ("XDG_CACHE_HOME", ".cache"),  # all others
}
_IDX_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_NPZ_RATIOS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: DEFLATE_RATIO}
_NPY_MAGIC = b"\x93NUMPY\x01\x00"  # version 1: later ones serve structured dtypes alone
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>=|])(\w+)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,19}L?,? ?){1,4})\), \}\s*"
)


class Dataset(NamedTuple):
    """Images and labels, for training and for testing; unpacks into four arrays.

    ``X`` is (n, n_in), C-contiguous, of the dtype found; ``y`` is (n,), int64.

    Examples
    --------
    >>> from fastbp import datasets
    >>> data = datasets.load("digits")
    >>> data.X_train.shape, data.y_train.shape
    ((1442, 64), (1442,))
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
        ``"digits"``: 1,797 images of 8x8 pixels, 0 to 16, which come with the package; in each
        class, every fifth image is for testing. ``"mnist"`` or ``"fashion-mnist"``: four IDX
        files, which are looked for, and else downloaded to the folder ``fastbp/<name>`` of the
        user's cache (needs pooch). Or a path: a folder of IDX files (plain or ``.gz``), a
        Keras-style ``.npz`` (``x_train, y_train, x_test, y_test``), the classic ``mnist.pkl.gz``,
        whose training and test parts are returned, or a ``.csv`` with a header, of which every
        fifth line in each class is for testing (needs pandas). A name goes before a path; write
        ``./mnist`` for a folder of that name.
    data_dir : str or os.PathLike, optional
        Where to look first for ``mnist`` and ``fashion-mnist``: a folder that holds the files,
        or has a subfolder with the data set's name. Then come ``$FASTBP_DATA``, read in the same
        way, the folder ``fastbp/<name>`` of the user's cache, and for ``fashion-mnist`` that of
        Debian's package ``dataset-fashion-mnist``.
    label : str, optional
        The column of a ``.csv`` that holds the classes, 0, 1, 2, ...
    progress : bool
        Show a progress bar while downloading.
    mapped : bool
        Map the images of IDX files that are not compressed instead of reading them: what is not
        looked at is never read. The files must stay as they are meanwhile.

    Returns
    -------
    Dataset
        ``X_train, y_train, X_test, y_test``. Pixels keep the dtype found (uint8 in IDX, float32
        in ``mnist.pkl.gz``; bool comes as uint8) in native byte order, and nothing is scaled.

    Raises
    ------
    FileNotFoundError
        Nothing is there, nor could it be downloaded; the message says why, and where which files
        belong.
    DataError
        A file is damaged or of another kind. It is a ValueError.
    ImportError
        pandas, which reads ``.csv``, is missing.
    ValueError
        The name is unknown, and no path; or a label is missing, or named where there is none.
    PermissionError
        The file may not be read.

    Examples
    --------
    >>> from fastbp import datasets
    >>> X_train, y_train, X_test, y_test = datasets.load("digits")
    >>> X_train.shape, X_test.shape, str(X_train.dtype)
    ((1442, 64), (355, 64), 'uint8')
    """
    path, loader = _choose(name_or_path, data_dir, progress)
    if label is not None and loader is not _load_csv:
        raise ValueError(f"label names a column of a .csv file; {path} is none")
    if loader is _load_csv:
        loader = partial(_load_csv, label=label)
    elif loader is _load_folder:
        loader = partial(_load_folder, mapped=mapped)
    with blaming(path):
        return _dataset(*loader(path))


def hold_out(
    X: np.ndarray, y: np.ndarray, share: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return samples without some of them, drawn at random, and those: what is held out.

    Parameters
    ----------
    X : (n, ...) array
    y : (n, ...) array
    share : float
        Of the samples, above 0 and below 1; at least one is held out, and one stays.
    seed : int

    Returns
    -------
    X, y, X_held_out, y_held_out : arrays
        Copies, in the order that they had.

    Raises
    ------
    ValueError
        If X and y are not of one length, hold fewer than two samples, or the share does not fit.

    Examples
    --------
    >>> X, y, *_ = load("digits")
    >>> X, y, X_val, y_val = hold_out(X, y)
    >>> len(X), len(X_val)
    (1298, 144)
    """
    n = len(X)
    if len(y) != n or n < 2:
        raise ValueError(f"X and y must hold as many samples, two or more; found {n} and {len(y)}")
    if not 0 < share < 1:
        raise ValueError(f"share must be a number above 0 and below 1; found {share!r}")
    drawn = np.zeros(n, bool)
    count = min(max(1, round(share * n)), n - 1)
    drawn[np.random.default_rng(seed).permutation(n)[:count]] = True
    return X[~drawn], y[~drawn], X[drawn], y[drawn]


def load_pickle(path: str | os.PathLike[str]) -> tuple[_Pair, _Pair, _Pair]:
    """Read all three parts of ``mnist.pkl.gz``: ``((X, y), (X, y), (X, y))``.

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
    FileNotFoundError, PermissionError
        The file is not there, or may not be read.
    DataError
        It is damaged, or asks for anything but plain numeric arrays in tuples.

    Examples
    --------
    >>> import os, pickle, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "mnist.pkl")
    >>> with open(path, "wb") as file:
    ...     pickle.dump(((np.ones((2, 3)), np.array([0, 1])),) * 3, file)
    >>> train, validation, test = load_pickle(path)
    >>> test[0].shape
    (2, 3)
    """
    with blaming(path):
        train, validation, test = (_pair(X, y) for X, y in read_pickle(path))
        return train, validation, test


# --- Finding ------------------------------------------------------------------------------------


def _choose(
    name_or_path: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None, progress: bool
) -> tuple[Path, _Loader]:
    """Find the path that is meant, and the loader for it."""
    if isinstance(name_or_path, str) and name_or_path in NAMES:
        if name_or_path == "digits":
            return _DIGITS, _load_npz
        return _find(name_or_path, data_dir, progress), _load_folder
    path = Path(name_or_path)
    if path.is_dir():
        return path, _load_folder
    if path.exists():
        for suffix, loader in _LOADERS.items():
            if path.name.lower().endswith(suffix):
                return path, loader
        raise DataError(
            f"{path}: cannot tell what kind of file this is; expected {', '.join(_LOADERS)}, or "
            "the folder of four IDX files"
        )
    known = f"a known name ({', '.join(NAMES)}) nor a path"
    if isinstance(name_or_path, str) and path.name == name_or_path and not path.suffix:
        raise ValueError(f"no data set {name_or_path!r}: this is neither {known}")
    raise FileNotFoundError(f"{path}: no such file or folder; this is neither {known}")


def _find(name: str, data_dir: str | os.PathLike[str] | None, progress: bool) -> Path:
    """Return the first folder that holds IDX files of data set `name`; if need be, download it."""
    if data_dir is not None and not os.path.isdir(data_dir):
        raise FileNotFoundError(f"data_dir={os.fspath(data_dir)!r} is no folder")
    roots = [Path(root) for root in (data_dir, os.environ.get("FASTBP_DATA")) if root]
    folders = [folder for root in roots for folder in (root / name, root)]
    # A root called mnist that holds the files itself must not be taken for fashion-mnist.
    others = set(_SYSTEM_FOLDERS) - {name}
    folders = [f for f in folders if os.path.basename(os.path.realpath(f)) not in others]
    caches = _cache_folders(name)
    folders += [*caches, *_SYSTEM_FOLDERS[name]]
    for folder in folders:
        missing = [stem for stem in _IDX_FILES if not _idx_path(folder, stem)]
        # Of a cache that holds a part, the rest may still come: a download was interrupted.
        if not missing or (len(missing) < len(_IDX_FILES) and folder not in caches):
            return folder
    return _fetch(name, folders, caches, progress)


def _fetch(name: str, looked: list[Path], caches: tuple[Path, ...], progress: bool) -> Path:
    """Download a data set to the user's cache; return the folder."""
    reason = "there is no home folder to download it to"
    for folder in caches:
        try:
            missing = [stem for stem in _IDX_FILES if not _idx_path(folder, stem)]
            downloads.fetch(name, folder, missing, progress)
            return folder
        except downloads.DownloadError as error:
            reason = str(error)
    places = "".join(f"\n  {folder}" for folder in looked)
    files = ", ".join(f"{stem}-ubyte" for stem in _IDX_FILES)
    raise FileNotFoundError(
        f"{name} was not found, nor downloaded: {reason}. Put the four files {files} (plain or "
        f".gz) into a folder, and name it by --data-dir (data_dir=) or $FASTBP_DATA. Looked in:"
        f"{places or ' no folder at all'}"
    )


def _cache_folders(name: str) -> tuple[Path, ...]:
    """``fastbp/<name>`` in the user's cache; none where there is neither cache nor home."""
    variable, below_home = _CACHES.get(sys.platform, _CACHES[""])
    cache = Path(os.environ.get(variable, ""))
    if not cache.is_absolute():  # unset; and XDG says that a relative path is to be ignored
        try:
            cache = Path.home() / below_home
        except RuntimeError:
            return ()
    return (cache / "fastbp" / name,)


def _idx_path(folder: Path, stem: str) -> Path | None:
    """Path of an IDX file in either spelling, plain or compressed; None if there is none."""
    for spelling in (stem, stem.replace("-idx", ".idx")):
        for suffix in ("-ubyte", "-ubyte.gz"):
            path = folder / (spelling + suffix)
            if os.path.isfile(path):  # Path.is_file() raises where a folder above is closed to us
                return path
    return None


def _pair(X: np.ndarray, y: np.ndarray) -> _Pair:
    """Check that images and labels fit; flatten the images and make the labels int64."""
    if X.ndim < 2 or y.shape not in ((len(X),), (len(X), 1)):
        raise ValueError(
            f"images of shape {X.shape} and labels of shape {y.shape} do not fit; expected "
            "(n, ...) and (n,)"
        )
    if y.dtype.kind not in "iu":
        raise ValueError(f"labels are {y.dtype}; expected integers")
    if y.min() < 0 or y.max() > MAX_LABEL:
        raise ValueError(f"labels run from {y.min()} to {y.max()}; expected 0 to {MAX_LABEL}")
    X = np.ascontiguousarray(X.reshape(len(X), -1), dtype=X.dtype.newbyteorder("="))
    return X, y.reshape(-1).astype(np.int64)


def _dataset(train: _Pair, test: _Pair) -> Dataset:
    """Put two raw pairs together, if their images are of one size."""
    train, test = _pair(*train), _pair(*test)
    if train[0].shape[1] != test[0].shape[1]:
        pixels = f"{train[0].shape[1]} pixels for training and {test[0].shape[1]} for testing"
        raise ValueError(f"images have {pixels}; expected as many")
    return Dataset(*train, *test)


# --- IDX ----------------------------------------------------------------------------------------


def _read_idx(path: Path, mapped: bool = False) -> np.ndarray:
    """Read one IDX file: two zero bytes, dtype, rank, sizes, data; all big-endian."""
    with unpacked(path) as (stream, limit):
        zeros, code, rank = struct.unpack(">HBB", read_exactly(stream, 4, limit))
        if zeros or code not in _IDX_DTYPES or not 1 <= rank <= 4:
            magic = f"0x{zeros:04x}{code:02x}{rank:02x}"
            raise ValueError(f"magic number {magic} is not IDX's, such as 0x00000803 for images")
        shape = struct.unpack(f">{rank}I", read_exactly(stream, 4 * rank, limit))
        dtype, start = np.dtype(_IDX_DTYPES[code]), 4 + 4 * rank
        if mapped and rank > 1 and limit == start + byte_count(shape, dtype):  # not compressed
            return np.memmap(path, dtype, "r", start, shape)
        return read_array(stream, dtype, shape, limit)


def _load_folder(folder: Path, mapped: bool = False) -> tuple[_Pair, _Pair]:
    """Read four IDX files."""
    paths = {stem: _idx_path(folder, stem) for stem in _IDX_FILES}
    missing = ", ".join(f"{stem}-ubyte" for stem, path in paths.items() if not path)
    if missing:
        raise FileNotFoundError(f"{folder}: this folder lacks {missing} (plain or .gz)")
    X_train, y_train, X_test, y_test = (_read_idx(path, mapped) for path in paths.values() if path)
    return (X_train, y_train), (X_test, y_test)


# --- npz ----------------------------------------------------------------------------------------


def _load_npz(path: Path) -> tuple[_Pair, _Pair]:
    """Read a Keras-style npz; members that are not wanted are not touched.

    Not by `numpy.load`: that allocates what a header declares before it reads, and runs Python's
    parser on the header.
    """
    with opened(path) as file, zipfile.ZipFile(file) as archive:
        members = [_npz_member(archive, key) for key in _NPZ_KEYS]
        if sum(m.compress_size for m in members) > os.fstat(file.fileno()).st_size:
            raise ValueError("its members overlap or are cut off")
        if sum(m.file_size for m in members if m.compress_type) > MAX_UNPACKED:
            raise ValueError(f"it unpacks to over {MAX_UNPACKED:,} bytes; save it uncompressed")
        X_train, y_train, X_test, y_test = (_read_npy(archive, member) for member in members)
    return (X_train, y_train), (X_test, y_test)


def _npz_member(archive: zipfile.ZipFile, key: str) -> zipfile.ZipInfo:
    """Directory entry of an array, if it is there once and packed in a way that has a bound."""
    members = [m for m in archive.infolist() if m.filename == f"{key}.npy"]
    if len(members) != 1:
        found = reprlib.repr(archive.namelist())
        raise ValueError(f"{len(members)} arrays {key!r} among {found}; expected {_NPZ_KEYS}")
    if members[0].compress_type not in _NPZ_RATIOS:  # LZMA's header, for one, sizes a dictionary
        raise ValueError(f"{key!r} is neither stored nor deflated")
    return members[0]


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    limit = min(member.file_size, member.compress_size * _NPZ_RATIOS[member.compress_type])
    with archive.open(member) as stream:
        header = _npy_header(stream, limit, member.filename)
        _check_npy_size(header, member.file_size, member.filename)
        return read_array(stream, header.dtype, header.shape, limit, header.order)


class _NpyHeader(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    order: Order
    size: int  # of the header itself, in bytes


def _npy_header(stream: Any, limit: int, name: str) -> _NpyHeader:
    start = bytes(read_exactly(stream, len(_NPY_MAGIC) + 2, limit))
    header = read_exactly(stream, int.from_bytes(start[-2:], "little"), limit)
    fields = _NPY_HEADER.fullmatch(header)
    if not start.startswith(_NPY_MAGIC) or not fields:
        raise ValueError(f"{name} is no plain numeric array of npy version 1.0")
    order, code, fortran, sizes = (bytes(field).decode("ascii") for field in fields.groups())
    shape = tuple(int(size) for size in re.findall(r"\d+", sizes))
    layout: Order = "F" if fortran == "True" else "C"
    return _NpyHeader(plain_dtype(code, order), shape, layout, len(start) + len(header))


def _check_npy_size(header: _NpyHeader, found: int, name: str) -> None:
    size = header.size + byte_count(header.shape, header.dtype)
    if size != found:
        raise ValueError(f"{name} has {found:,} bytes, not {size:,}")


def map_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Map a ``.npy`` file of plain numbers, read-only: nothing is read before it is looked at.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    (n, ...) array
        Of the dtype found; bool comes as uint8.

    Raises
    ------
    FileNotFoundError, PermissionError
        The file is not there, or may not be read.
    DataError
        It is damaged, empty, or holds anything but plain numbers.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "X.npy")
    >>> np.save(path, np.eye(2))
    >>> map_npy(path).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    with blaming(path), opened(path) as file:
        found = os.fstat(file.fileno()).st_size
        header = _npy_header(file, found, "it")
        _check_npy_size(header, found, "it")
        return np.memmap(file, header.dtype, "r", header.size, header.shape, header.order)


def _load_pickle(path: Path) -> tuple[_Pair, _Pair]:
    train, _, test = read_pickle(path)
    return train, test


# --- CSV ----------------------------------------------------------------------------------------


def _load_csv(path: Path, label: str | None = None) -> tuple[_Pair, _Pair]:
    """Read a table; in each class, every fifth line is for testing, as of the digits."""
    if label is None:
        raise DataError(f"{path}: name the column that holds the classes, by --label (label=)")
    X, y = read_csv(path, label)
    assert y is not None
    test = np.zeros(len(y), bool)
    for lines in (np.flatnonzero(y == k) for k in np.unique(y)):
        test[lines[4::5]] = True
    if not test.any():
        raise DataError(
            f"{path}: no class has five lines or more, of which every fifth is for testing"
        )
    return (X[~test], y[~test]), (X[test], y[test])


_LOADERS: dict[str, _Loader] = {  # by end of name
    ".npz": _load_npz, ".pkl.gz": _load_pickle, ".pkl": _load_pickle, ".csv": _load_csv,
}  # fmt: skip
