"""Arrays and a configuration in, a file out, and back. Knows nothing of networks.

The file is `safetensors`: dense arrays behind a JSON header, no code. The header's metadata holds
`format`, `format_version` and the configuration as one JSON string; other layouts have metadata of
their own (`write_arrays`, `read_arrays`). A file is written whole or not at all, and read as if a
stranger had sent it.
"""

import contextlib
import errno
import json
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .._support import files
from ..errors import ModelFileError

FORMAT, TRAINING = "fastbp", "fastbp-training"
FORMAT_VERSION = 1  # of either
DTYPES = {"F32": np.dtype(np.float32), "F64": np.dtype(np.float64)}
# Room for a hundred thousand layers. JSON grows some twentyfold as Python objects, so that the
# text is bounded before it is parsed.
MOST_CONFIG = 2**20  # characters


# -- write -----------------------------------------------------------------------------------------


def write(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], config: dict[str, Any],
    kind: str = FORMAT,
) -> None:  # fmt: skip
    """Write arrays and a configuration to a file, whole or not at all.

    If anything fails on the way, what lay at `path` before still lies there; see
    `fastbp._support.files.write_bytes`. The same arrays and configuration give the same bytes.

    Parameters
    ----------
    path : str or os.PathLike
        Where to write. An existing file is replaced and its permissions are kept; through a
        symbolic link, the file that it points to.
    arrays : dict of str to ndarray
        float32 or float64, of any shape and memory order.
    config : dict
        What JSON can hold; neither NaN nor infinity.
    kind : str
        `FORMAT` for a model, `TRAINING` for a training under way.

    Raises
    ------
    OSError
        If the folder is missing or not writable, or the disk is full.
    TypeError
        If an array has another dtype, or JSON cannot hold the configuration.
    ValueError
        If the configuration holds NaN or infinity, or is longer than 1 MiB.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> write(path, {"w": np.ones((2, 3))}, {"sizes": [3, 2]})
    >>> arrays, config = read(path)
    >>> arrays["w"].shape, config
    ((2, 3), {'sizes': [3, 2]})
    """
    text = json.dumps(config, allow_nan=False)
    if len(text) > MOST_CONFIG:
        raise ValueError(
            f"config must be at most {MOST_CONFIG} characters of JSON; {len(text)} found"
        )
    metadata = {"format": kind, "format_version": str(FORMAT_VERSION), "config": text}
    write_arrays(path, arrays, metadata)


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Write arrays and any metadata to a safetensors file, whole or not at all; see `write`."""
    dense = {}
    for name, array in arrays.items():
        dtype = array.dtype.newbyteorder("=")
        if dtype not in DTYPES.values():
            raise TypeError(f"array {name!r} must be float32 or float64; found {array.dtype}")
        # safetensors writes the memory as it lies: a transposed view would be scrambled.
        dense[name] = np.asarray(array, dtype, order="C")
    files.write_bytes(path, _sorted_metadata(safetensors.numpy.save(dense, metadata)))


def _sorted_metadata(blob: bytes) -> bytes:
    """Return the file with its metadata in order; safetensors puts them down in a random one."""
    end = 8 + struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data stay aligned
    return struct.pack("<Q", len(text)) + text + blob[end:]


# -- read ------------------------------------------------------------------------------------------


def read(
    path: str | os.PathLike[str], kind: str = FORMAT
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write` wrote.

    No file can run code, or make this allocate more than a small multiple of what it holds. What
    the arrays and the configuration say is for the caller to check.

    Parameters
    ----------
    path : str or os.PathLike
    kind : str
        As it was written.

    Returns
    -------
    arrays : dict of str to ndarray
        float32 or float64, C-contiguous.
    config : dict

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it cannot be read.
    ModelFileError
        If it is damaged, truncated, no file of fastbp's, or of a newer format version.
    """
    path = os.fspath(path)
    with _opened(path) as file:
        config = _config(file.metadata() or {}, path, kind)
        return {name: _array(file, name, path) for name in file.keys()}, config


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of any safetensors file.

    As careful as `read`, and raising as it does, but whatever the metadata say is for the caller
    to check.
    """
    path = os.fspath(path)
    with _opened(path) as file:
        metadata = file.metadata() or {}
        return {name: _array(file, name, path) for name in file.keys()}, metadata


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise unless the path is that of a regular file."""
    path = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, "there is no such file", path) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a model file was expected, not a folder", path)
    if not stat.S_ISREG(mode):  # a pipe would make us wait
        raise ModelFileError(f"{path} is not a regular file")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open a safetensors file; what is wrong with it inside becomes a ModelFileError."""
    check_regular(path)
    try:
        # Checks the header's length, offsets and sizes against the file before it allocates.
        with safetensors.safe_open(path, framework="np") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise ModelFileError(
            f"{path} is damaged, or is no safetensors file: {error!s:.300}"
        ) from error


_WORDS = {FORMAT: "model", TRAINING: "training checkpoint"}
_READERS = {
    FORMAT: "It is a model: fastbp.load reads it",
    TRAINING: "It is a training checkpoint: fit(..., resume=...) goes on from it",
}


def _config(metadata: dict[str, str], path: str, kind: str) -> dict[str, Any]:
    found = metadata.get("format", "no format")
    if found != kind:
        raise ModelFileError(
            f"{path} is no {_WORDS[kind]} of fastbp: its metadata must say format {kind!r}; "
            f"found {short(found)}. {_READERS.get(found, '`fastbp convert` reads other layouts')}"
        )
    version = metadata.get("format_version", "")
    if not (version.isascii() and version.isdigit() and len(version) < 9 and int(version) > 0):
        raise ModelFileError(f"{path} is damaged: {short(version)} is no format version")
    if int(version) > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} was written by a newer fastbp: it has format version {int(version)}, "
            f"this one reads up to {FORMAT_VERSION}. Upgrade with: pip install -U fastbp"
        )
    text = metadata.get("config", "")
    if len(text) > MOST_CONFIG:
        raise ModelFileError(
            f"{path} is damaged: its configuration has {len(text)} characters, "
            f"more than {MOST_CONFIG}"
        )
    try:
        config = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is damaged: its configuration is no JSON: {error!s:.300}"
        ) from error
    if not isinstance(config, dict):
        raise ModelFileError(f"{path} is damaged: its configuration is no JSON object")
    return config


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name appears twice")
    return dict(pairs)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed")


def short(text: str) -> str:
    """Return what a file says, fit for an error message."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _array(file: Any, name: str, path: str) -> np.ndarray:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in DTYPES:
        raise ModelFileError(
            f"{path}: array {short(name)} must be one of {', '.join(DTYPES)}; found {dtype}. "
            "Save it in one of these, from PyTorch as of `model.float()`"
        )
    try:
        return file.get_tensor(name)
    except (ValueError, MemoryError) as error:  # shapes such as (0, 2**62), or of a hundred axes
        raise ModelFileError(f"{path} is damaged: array {short(name)}: {error!s:.300}") from error
