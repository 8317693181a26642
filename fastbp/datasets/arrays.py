"""IDX files, the format of MNIST, and NumPy's: ``.npz``, and ``.npy`` mapped; their names."""

import os
import re
import reprlib
import struct
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from . import untrusted

PARTS = ("X_train", "y_train", "X_test", "y_test")
FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")  # MNIST
# Words in the names of files and of arrays. Others, such as "val", are not looked at.
_KINDS = {
    **dict.fromkeys("x images image imgs img data features inputs".split(), "X"),
    **dict.fromkeys("y labels label targets target classes".split(), "y"),
}
_SPLITS = {"train": "train", "training": "train", "t10k": "test", "test": "test", "testing": "test"}
_KIND, _SPLIT = (f"({'|'.join(words)})" for words in (_KINDS, _SPLITS))
# x_train, train-images, emnist-letters-test-labels: perhaps a prefix, then both words.
_PART = re.compile(f"(?:(.*?)[-_. ])?(?:{_SPLIT}[-_. ]?{_KIND}|{_KIND}[-_. ]?{_SPLIT})")
_FILE = re.compile(r"(.+?)(?:[-.]idx[13]-ubyte(?:\.gz)?|\.np[yz])")
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_RATIOS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: untrusted.DEFLATE_RATIO}
_MAX_HEADER = 1024  # characters; from 4,000 on, Python's parser can run out of its stack


def _part(name: str) -> tuple[str, str] | None:
    """Return prefix and part that a name means, "" and "X_train" for x_train; None for others."""
    if not (found := _PART.fullmatch(name.lower())):
        return None
    prefix, split, kind, kind_first, split_last = found.groups()
    return prefix or "", f"{_KINDS[kind or kind_first]}_{_SPLITS[split or split_last]}"


def sets_in(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the files of each data set in a folder, or in `raw` below: by prefix, then by part."""
    found: dict[str, dict[str, Path]] = {}
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for name in sorted(names, key=lambda name: (not name.endswith("-ubyte"), name)):
        stem = _FILE.fullmatch(name.lower())
        part = stem and _part(stem[1])
        # Path.is_file() raises if a folder above may not be entered
        if part and os.path.isfile(folder / name):
            found.setdefault(part[0], {}).setdefault(part[1], folder / name)
    return found or (sets_in(folder / "raw") if "raw" in names else {})


def missing(folder: Path) -> list[str]:
    """Return which of the four files of MNIST's names are not in a folder."""
    try:
        found = sets_in(folder).get("", {})
    except OSError:
        found = {}
    return [stem for stem, part in zip(FILES, PARTS, strict=True) if part not in found]


def read_folder(path: Path, mapped: bool = False) -> Sequence[np.ndarray]:
    """Read the data set in a folder or, of several, the one that the last part of a path names."""
    folder, wanted = (path, "") if path.is_dir() else (path.parent, path.name.lower())
    found = sets_in(folder)
    whole = [name for name, files in found.items() if len(files) == len(PARTS)]
    name = whole[0] if len(whole) == 1 and not wanted and "" not in found else wanted
    if name not in whole:
        if len(whole) > 1 and not wanted:
            choices = ", ".join(str(folder / name) for name in sorted(whole))
            raise ValueError(f"this folder holds several data sets; name one: {choices}")
        name = name or next(iter(found), "")
        there = found.get(name, {})
        files = zip(FILES, PARTS, strict=True)
        absent = [p if name else f"{file}-ubyte" for file, p in files if p not in there]
        whose = f"{', '.join(absent)} of {name}" if name else f"{', '.join(absent)} (plain or .gz)"
        raise FileNotFoundError(f"{folder}: this folder lacks {whose}")
    arrays = [_read(found[name][part], mapped) for part in PARTS]
    if name.startswith("emnist"):  # its images lie on their side
        arrays[::2] = [X.swapaxes(1, 2) if X.ndim == 3 else X for X in arrays[::2]]
    return arrays


def _read(path: Path, mapped: bool) -> np.ndarray:
    match path.suffix.lower():
        case ".npy":
            return np.array(map_npy(path))
        case ".npz":
            return read_npz(path, alone=True)[0]
    return read_idx(path, mapped)


def read_idx(path: Path, mapped: bool = False) -> np.ndarray:
    """Read one file: two zero bytes, dtype, rank, sizes, data; all big-endian."""
    with untrusted.unpacked(path) as (stream, limit):
        zeros, code, rank = struct.unpack(">HBB", untrusted.read_exactly(stream, 4, limit))
        if zeros or code not in _DTYPES or not 1 <= rank <= 4:
            got = f"0x{zeros:04x}{code:02x}{rank:02x}"
            raise ValueError(f"the magic number of IDX must be as 0x00000803; got {got}")
        shape = struct.unpack(f">{rank}I", untrusted.read_exactly(stream, 4 * rank, limit))
        dtype, start = np.dtype(_DTYPES[code]), 4 + 4 * rank
        size = start + untrusted.byte_count(shape, dtype)
        if mapped and rank > 1 and limit == size:  # not compressed
            return np.memmap(path, dtype, "r", start, shape)
        return untrusted.read_array(stream, dtype, shape, limit, fortran=False)


def map_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Map a ``.npy`` file of plain numbers, read-only: only what is used is read.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    (n, ...) array
        Of the dtype found; bool becomes uint8.

    Raises
    ------
    FileNotFoundError, PermissionError, DataError
        The file is missing, damaged, empty, or holds anything but plain numbers.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "X.npy")
    >>> np.save(path, np.eye(2))
    >>> map_npy(path).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    with untrusted.opened(path) as file:
        dtype, shape, fortran, start = _header(file, os.fstat(file.fileno()).st_size, "it")
        return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")


def read_npz(path: Path, alone: bool = False) -> Sequence[np.ndarray]:
    """Read four arrays, or two without a test part; of an `alone` array that one."""
    most = untrusted.MAX_UNPACKED
    with untrusted.opened(path) as file:
        if (start := file.peek(2)[:2]) != b"PK":
            raise ValueError(f"an archive of NumPy must begin with b'PK'; got {start!r}")
        with zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            members = [_member(archive, key) for key in (names if alone else _keys(names))]
            if alone and len(members) != 1:
                raise ValueError(f"it must hold one array; got {reprlib.repr(names)}")
            if sum(m.compress_size for m in members) > os.fstat(file.fileno()).st_size:
                raise untrusted.Damage("its members overlap or are cut off")
            if sum(m.file_size for m in members if m.compress_type) > most:
                raise ValueError(f"it unpacks to over {most:,} bytes; save it uncompressed")
            arrays = [_array(archive, member) for member in members]
    # Without names: X, y, X_test, y_test; or X, X_test, y, y_test, as scikit-learn splits.
    unnamed = members[0].filename == "arr_0.npy" and len(arrays) == len(PARTS)
    if unnamed and arrays[0].shape[1:] == arrays[1].shape[1:]:
        return [arrays[k] for k in (0, 2, 1, 3)]
    return arrays


def _keys(names: list[str]) -> list[str]:
    """Return the names of a data set's arrays, in the order of `PARTS`; or of X and y alone."""
    unnamed = [f"arr_{k}" for k in range(len(names))]
    if sorted(names) == sorted(unnamed) and len(names) in (2, len(PARTS)):
        return unnamed
    found: dict[str, list[str]] = {}
    for name in names:
        prefix, part = _part(name[:99]) or ("", _KINDS.get(name.lower(), ""))
        if part and not prefix:
            found.setdefault(part, []).append(name)
    wanted = ["X", "y"] if found.keys() <= {"X", "y"} and found else PARTS
    for part in wanted:
        usual = part.lower()
        among = found.get(part, [])
        if usual not in among and len(among) != 1:
            got = reprlib.repr(among or names)
            raise ValueError(f"it must hold one array {usual!r} (or a usual name of it); got {got}")
    return [min(found[part], key=lambda name: name != part.lower()) for part in wanted]


def testing(y: np.ndarray) -> np.ndarray:
    """Return which samples are for testing: every fifth of each class, or of all numbers by size.

    Both parts then have the whole range of a target, in whatever order the samples are.
    """
    place, what = np.arange(len(y)), "a data set"
    if y.dtype.kind != "f":
        counts, what = np.unique(y, return_counts=True)[1], "a class"
        place -= np.repeat(np.cumsum(counts) - counts, counts)  # now in its class
    test = np.zeros(len(y), bool)
    test[np.argsort(y, kind="stable")] = place % 5 == 4
    if not test.any():
        raise ValueError(f"{what} must have five samples or more: every fifth is for testing")
    return test


def _member(archive: zipfile.ZipFile, key: str) -> zipfile.ZipInfo:
    members = [m for m in archive.infolist() if m.filename == f"{key}.npy"]
    if len(members) != 1:
        names = reprlib.repr(archive.namelist())
        raise ValueError(f"it must hold one array {key!r}; got {len(members)} among {names}")
    if members[0].compress_type not in _RATIOS:  # LZMA's header, for one, sizes a dictionary
        raise ValueError(f"{key!r} must be stored or deflated")
    return members[0]


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    limit = min(member.file_size, member.compress_size * _RATIOS[member.compress_type])
    with archive.open(member) as stream:
        dtype, shape, fortran, _ = _header(stream, member.file_size, member.filename)
        return untrusted.read_array(stream, dtype, shape, limit, fortran)


def _header(stream: Any, total: int, name: str) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    # dtype, shape, Fortran order and own size; file and header must agree in the total bytes
    try:
        if npy.read_magic(stream) != (1, 0):  # later versions are for structured dtypes
            raise ValueError
        with warnings.catch_warnings(action="ignore"):  # about files that Python 2 wrote
            shape, fortran, found = npy.read_array_header_1_0(stream, max_header_size=_MAX_HEADER)
    except ValueError:
        raise ValueError(f"{name} is not a numeric array of npy version 1.0") from None
    dtype, start = untrusted.plain_dtype(found.str[1:], found.str[0]), stream.tell()
    size = start + untrusted.byte_count(shape, dtype)
    if size != total:
        raise untrusted.Damage(f"{name} has {total:,} bytes, not {size:,}")
    return dtype, shape, fortran, start
