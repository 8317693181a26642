"""IDX files, the format of MNIST, and NumPy's: ``.npz`` as of Keras, and ``.npy`` mapped."""

import itertools
import os
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

FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_RATIOS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: untrusted.DEFLATE_RATIO}
_MAX_HEADER = 1024  # characters; from 4,000 on, Python's parser can run out of its stack


def missing(folder: Path) -> list[str]:
    """Return which of the four files of a data set are not in a folder."""
    return [stem for stem in FILES if not _path(folder, stem)]


def read_folder(folder: Path, mapped: bool = False) -> Sequence[np.ndarray]:
    """Read the four files of a data set."""
    if absent := missing(folder):
        names = ", ".join(f"{stem}-ubyte" for stem in absent)
        raise FileNotFoundError(f"{folder}: this folder lacks {names} (plain or .gz)")
    return [read_idx(path, mapped) for stem in FILES if (path := _path(folder, stem))]


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


def _path(folder: Path, stem: str) -> Path | None:
    names = itertools.product((stem, stem.replace("-idx", ".idx")), ("-ubyte", "-ubyte.gz"))
    paths = (folder / "".join(name) for name in names)
    # Path.is_file() raises if a folder above may not be entered
    return next(filter(os.path.isfile, paths), None)


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


def read_npz(path: Path) -> Sequence[np.ndarray]:
    """Read the four arrays of a data set; other members are not touched."""
    most = untrusted.MAX_UNPACKED
    with untrusted.opened(path) as file, zipfile.ZipFile(file) as archive:
        members = [_member(archive, key) for key in ("x_train", "y_train", "x_test", "y_test")]
        if sum(m.compress_size for m in members) > os.fstat(file.fileno()).st_size:
            raise ValueError("its members overlap or are cut off")
        if sum(m.file_size for m in members if m.compress_type) > most:
            raise ValueError(f"it unpacks to over {most:,} bytes; save it uncompressed")
        return [_array(archive, member) for member in members]


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
        raise ValueError(f"{name} has {total:,} bytes, not {size:,}")
    return dtype, shape, fortran, start
