"""Reading files that may be damaged or hostile: memory grows with what arrives.

Sizes that a file declares are compared with what it can hold at most, before anything is read. What
is wrong with a file is a ValueError; `blaming` makes it a `DataError` that names the file.
"""

import gzip
import math
import os
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

import numpy as np

from .._support import files
from .._support.texts import said

MAX_UNPACKED = 1 << 30  # bytes that a compressed file may unpack to; MNIST as float32 needs 220 MB
DEFLATE_RATIO = 1032  # deflate's densest code: 258 bytes from two bits
PIECE = 1 << 18  # bytes
_PLAIN_DTYPES = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())


class DataError(ValueError):
    """A data file is damaged, hostile, or of another kind than its name says.

    Examples
    --------
    >>> import tempfile
    >>> from fastbp import datasets
    >>> try:
    ...     datasets.map_npy(tempfile.mkstemp(".npy")[1])  # an empty file
    ... except datasets.DataError as error:
    ...     print("not a numeric array" in str(error))
    True
    """


@contextmanager
def blaming(
    path: str | os.PathLike[str], advice: str = " Get an intact copy, or name another file."
) -> Iterator[None]:
    """Turn whatever a file makes go wrong inside into a DataError that names `path`."""
    try:
        yield
    # A file that makes us ask for too much memory is a defect of ours.
    except (DataError, FileNotFoundError, PermissionError, MemoryError, ImportError):
        raise
    except Exception as error:  # gzip, zipfile and pickle raise a dozen kinds on damaged input
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise DataError(f"{path}: {kind}{said(error, 500)}.{advice}") from error


class _PieceReader(BufferedReader):
    # Refuses to read much at once: zipfile reads the directory of an archive in a single call.
    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = PIECE  # zipfile: "to the end", from at most 64 KiB before it
        if size > PIECE:
            raise ValueError(f"the file makes its reader ask for {size:,} bytes at once")
        return super().read(size)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[_PieceReader]:
    """Open a regular file for reading."""
    with blaming(path):
        if Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait for ever
            raise ValueError("not a regular file")
        with _PieceReader(FileIO(path)) as file:
            if found := files.instead(file.peek(99)):
                raise ValueError(f"it is {found}")
            yield file


@contextmanager
def unpacked(path: str | os.PathLike[str]) -> Iterator[tuple[Any, int]]:
    """Give the stream in a plain or gzip file, and how many bytes it can hold at most."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if file.peek(2)[:2] != b"\x1f\x8b":  # not by the suffix: browsers unpack and keep the name
            yield file, size
            return
        with gzip.GzipFile(fileobj=file) as stream:
            yield stream, min(size * DEFLATE_RATIO, MAX_UNPACKED)


def read_exactly(stream: Any, size: int, limit: int) -> bytearray:
    """Read exactly `size` bytes, growing only with what arrives."""
    if size > limit:
        most = f"at most {limit:,} can follow ({MAX_UNPACKED:,} in compressed files: unpack larger)"
        raise ValueError(f"it declares {size:,} bytes where {most}")
    data = bytearray()
    while len(data) < size:
        piece = stream.read(min(size - len(data), PIECE))
        if not piece:
            raise ValueError(f"it ends after {len(data):,} of {size:,} declared bytes")
        data += piece
    return data


def expect_end(stream: Any) -> None:
    """Refuse trailing bytes; reaching the end also makes gzip and zip verify their checksum."""
    if stream.read(1):
        raise ValueError("there are bytes after the end of the data")


def read_array(stream: Any, dtype: np.dtype, shape: Any, limit: int, fortran: bool) -> np.ndarray:
    """Read an array, with which the file must end."""
    data = read_exactly(stream, byte_count(shape, dtype), limit)
    expect_end(stream)
    return as_array(data, dtype, shape, fortran)


def plain_dtype(code: str, order: str) -> np.dtype:
    """Return the dtype of a type code such as ``f4``, which must be of plain numbers."""
    if code not in _PLAIN_DTYPES or order not in ("<", ">", "=", "|"):
        raise ValueError(f"dtype {reprlib.repr(code)} is not a plain bool, integer or float")
    return np.dtype(order + code.replace("b", "u"))  # any byte is a uint8, but not a bool


def byte_count(shape: Any, dtype: np.dtype) -> int:
    """Return the size of an array in bytes, as a Python integer; the array must not be empty."""
    if type(shape) is not tuple or len(shape) > 4 or {type(d) for d in shape} != {int}:
        raise ValueError("an array's shape must be a tuple of 1 to 4 integers")
    if min(shape) < 1:
        raise ValueError(f"an array of shape {shape} is empty; expected data")
    return math.prod(shape) * dtype.itemsize


def as_array(data: bytearray, dtype: np.dtype, shape: Any, fortran: bool) -> np.ndarray:
    """View bytes as an array, if they are exactly as many as dtype and shape say."""
    if len(data) != byte_count(shape, dtype):
        raise ValueError(f"{len(data):,} bytes of data do not make shape {shape} of {dtype}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
