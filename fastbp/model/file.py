"""Files of models and of trainings: arrays and a configuration, written and read.

The format is `safetensors`; its metadata holds `format`, `format_version` and, as JSON, the
configuration and a model's notes, if it has any. Nothing in a file is trusted when it is read: it
can run no code, nor allocate more than a small multiple of its size.
"""

import contextlib
import errno
import json
import os
import reprlib
import stat
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .._support import files
from .._support import notes as kept
from .._support.texts import said
from ..errors import ModelFileError
from . import choices
from .config import Config
from .scaling import Scaling, checked

FORMAT, TRAINING = "fastbp", "fastbp-training"
# Of both. Files say the first that can hold them: older readers take what they know.
PLAIN, SCALED, CHOSEN = 1, 2, 3
NEWEST = CHOSEN
# What networks of the first two are made of; activations and losses were names.
_OLDER = {
    "activation": ("sigmoid", "tanh", "relu", "identity"),
    "loss": ("quadratic", "cross-entropy", "poisson"),
    "dropout": (0.0,),
}
_OLDER["output"] = (*_OLDER["activation"], "exp", "softmax")
_KINDS = {
    FORMAT: ("model", "fastbp.load reads it"),
    TRAINING: ("training checkpoint", "fit(..., resume=...) goes on from it"),
}
# By their first bytes, beside what `files.instead` knows.
_PICKLE = (
    "a pickle, as torch.save writes, which can run any code; write the file by "
    "safetensors.torch.save_file(model.state_dict(), PATH)"
)
_OTHERS = {
    b"PK\3\4": f"a zip archive; perhaps {_PICKLE}",
    b"\x80\2\x8a\nl\xfc\x9cF": _PICKLE,  # of older PyTorch
    b"\x80\4\x95": _PICKLE,
    b"\x80\5\x95": _PICKLE,
    b"\x1f\x8b": "compressed by gzip, which is not read; unpack it",
    b"\x89HDF": "HDF5, as older Keras writes; export the model as ONNX",
}
_SCALING = "inputs.mean", "inputs.deviation"
DTYPES = {"F32": np.dtype(np.float32), "F64": np.dtype(np.float64)}
# Characters, enough for a hundred thousand layers. As Python objects JSON takes some twenty times
# the memory of its text, so the text is checked before it is parsed.
MOST_CONFIG = 2**20
_Path = str | os.PathLike[str]
_Arrays = Mapping[str, np.ndarray]


def write(
    path: _Path, arrays: _Arrays, config: dict[str, Any], kind: str = FORMAT,
    version: int = PLAIN, **more: str,
) -> None:  # fmt: skip
    """Write arrays of floats, a configuration and more metadata; the same give the same bytes."""
    text = json.dumps(config, allow_nan=False)
    if len(text) > MOST_CONFIG:
        raise ValueError(f"config must be at most {MOST_CONFIG} characters; got {len(text)}")
    metadata = {"format": kind, "format_version": str(version), "config": text}
    write_arrays(path, arrays, metadata | more)


def check_name(path: _Path) -> None:
    """Raise a ValueError if a name says that the file is none of safetensors."""
    files.check_name(path, ".safetensors", hint=" (`fastbp export` makes ONNX of a model)")


def write_arrays(path: _Path, arrays: _Arrays, metadata: dict[str, str]) -> None:
    """Write arrays and any metadata to a safetensors file."""
    check_name(path)
    dense = {}
    for name, array in arrays.items():
        dtype = array.dtype.newbyteorder("=")
        if dtype not in DTYPES.values():
            raise TypeError(f"array {name!r} must be float32 or float64; got {array.dtype}")
        # safetensors writes memory in its order, which would scramble a transposed view.
        dense[name] = np.asarray(array, dtype, order="C")
    blob = safetensors.numpy.save(dense, metadata)
    end = 8 + struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8:end])  # with its metadata in random order
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # keeps the data aligned
    files.write_bytes(path, struct.pack("<Q", len(text)) + text + blob[end:])


def read(path: _Path, kind: str = FORMAT) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write` wrote; the caller checks the contents of arrays and configuration."""
    return _read(path, kind)[:2]


def _read(path: _Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Return arrays, configuration and notes."""
    with _opened(path) as (file, path):
        metadata = file.metadata() or {}
        config = _config(metadata, path, kind)
        notes = notes_in(metadata, path)
        return {name: _array(file, name, path) for name in file.keys()}, config, notes


def notes_in(metadata: Mapping[str, str], path: _Path) -> dict[str, Any]:
    """Return the notes in a file's metadata."""
    return _json_object(metadata.get("notes", "{}"), os.fspath(path), "its text of notes")


def with_notes(metadata: dict[str, str], notes: dict[str, Any]) -> dict[str, str]:
    """Return metadata that hold a network's notes, if it has any."""
    text = kept.text(notes)
    return metadata if text == "{}" else {**metadata, "notes": text}


def read_arrays(
    path: _Path, check: Callable[[str], object]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of any safetensors file, once their names are checked."""
    with _opened(path) as (file, path):
        metadata = file.metadata() or {}
        if metadata.get("format") in _KINDS:
            found, reader = _KINDS[metadata["format"]]
            raise ModelFileError(f"{path} is a {found} of fastbp already: {reader}")
        names = list(file.keys())
        for name in names:
            check(name)
        return {name: _array(file, name, path) for name in names}, metadata


def check_regular(path: _Path) -> None:
    """Raise unless the path is that of a regular file."""
    path = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, "there is no such file", path) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a model file was expected, not a folder", path)
    if not stat.S_ISREG(mode):  # to open a pipe would wait for its writer
        raise ModelFileError(f"{path} is not a regular file")


def check_head(path: _Path) -> None:
    """Raise if a file is no model at all, such as a Git LFS pointer."""
    head = files.head(path)
    other = next((words for start, words in _OTHERS.items() if head.startswith(start)), None)
    if found := files.instead(head) or other:
        raise ModelFileError(f"{os.fspath(path)} is {found}")


@contextlib.contextmanager
def _opened(path: _Path) -> Iterator[tuple[Any, str]]:
    """Open a safetensors file; damage found while it is read becomes a ModelFileError."""
    path = os.fspath(path)
    check_regular(path)
    try:
        # This checks the header's length, offsets and sizes against the file before it allocates.
        with safetensors.safe_open(path, framework="np") as file:
            yield file, path
    except safetensors.SafetensorError as error:
        check_head(path)
        words = f"{path} is damaged, or not a safetensors file: {error!s:.300}"
        raise ModelFileError(words) from error


def _damaged(path: str, what: str) -> ModelFileError:
    return ModelFileError(f"{path} is damaged: {what}")


def _config(metadata: dict[str, str], path: str, kind: str) -> dict[str, Any]:
    found = metadata.get("format", "no format")
    if found != kind:
        advice = "`fastbp convert` reads other layouts"
        if found in _KINDS:
            advice = "It is a {}: {}".format(*_KINDS[found])
        raise ModelFileError(
            f"{path} is not a {_KINDS[kind][0]} of fastbp: its metadata must say format {kind!r}; "
            f"got {said(found, 40)!r}. {advice}"
        )
    version = metadata.get("format_version", "")
    if not (version.isascii() and version.isdigit() and len(version) < 9 and int(version) > 0):
        raise _damaged(path, f"{said(version, 40)!r} is not a format version")
    if int(version) > NEWEST:
        raise ModelFileError(
            f"{path} was written by a newer fastbp: it has format version {int(version)}, "
            f"this fastbp reads up to {NEWEST}. Install the newer one"
        )
    return _json_object(metadata.get("config", ""), path, "its configuration")


def _json_object(text: str, path: str, what: str) -> dict[str, Any]:
    if len(text) > MOST_CONFIG:
        raise _damaged(path, f"{what} has more than {MOST_CONFIG} characters")
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{what} is not JSON: {error!s:.300}") from error
    if not isinstance(found, dict):
        raise _damaged(path, f"{what} is not a JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name appears twice")
    return dict(pairs)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed")


def _array(file: Any, name: str, path: str) -> np.ndarray:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in DTYPES:
        raise ModelFileError(
            f"{path}: array {said(name, 40)!r} must be one of {', '.join(DTYPES)}; got {dtype}. "
            "Save it as one of these, from PyTorch with `model.float()`"
        )
    try:
        return np.asarray(file.get_tensor(name))
    except (ValueError, MemoryError) as error:  # shapes such as (0, 2**62), or of a hundred axes
        raise _damaged(path, f"array {said(name, 40)!r}: {error!s:.300}") from error


def write_model(
    path: _Path, config: Config, arrays: Sequence[np.ndarray], notes: dict[str, Any],
    scaling: Scaling | None = None,
) -> None:  # fmt: skip
    """Write a network: its arrays in the order of `config.shapes()`."""
    layers = len(config.sizes) - 1
    check_finite(arrays[:layers], arrays[layers:])
    named = dict(zip(config.shapes(), arrays, strict=True)) | scaling_arrays(scaling)
    described = config.in_file()
    choices.check_names(config.own)
    write(path, named, described, version=version_of(config), **with_notes({}, notes))


def version_of(config: Config) -> int:
    """Return the format version of the files of a network."""
    if any(getattr(config, name) not in known for name, known in _OLDER.items()):
        return CHOSEN
    return PLAIN if config.scale is None else SCALED


def scaling_arrays(scaling: Scaling | None) -> dict[str, np.ndarray]:
    """Return a scaling as the arrays of a file."""
    return {} if scaling is None else dict(zip(_SCALING, scaling, strict=True))


def take_scaling(path: _Path, arrays: dict[str, np.ndarray], n_in: int) -> Scaling | None:
    """Take a scaling out of the arrays of a file, if it is there."""
    pair = [arrays.pop(name) for name in _SCALING if name in arrays]
    if not pair:
        return None
    name = "the scaling of the inputs"
    if any(array.dtype != np.float64 for array in pair):
        raise ModelFileError(f"{path}: {name} must be float64")
    try:
        return checked(name, pair, n_in)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: {error!s:.300}") from None


def check_finite(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> None:
    """Raise a ValueError for what no reader takes: parameters that are NaN or infinite."""
    for name, arrays in (("weights", weights), ("biases", biases)):
        for l, array in enumerate(arrays):
            for place in np.argwhere(~np.isfinite(array))[:1].tolist():
                raise ValueError(
                    f"{name}[{l}]{place} is {array[tuple(place)]}: only finite parameters can be "
                    "written to a file. Go back to an earlier file, or train with a smaller "
                    "learning rate"
                )


def read_model(
    path: _Path, functions: Sequence[Any] = ()
) -> tuple[Config, list[np.ndarray], dict[str, Any], Scaling | None]:
    """Return what `write_model` wrote; `functions` are those of the user's that it names."""
    arrays, described, notes = _read(path, FORMAT)
    try:
        config = Config.checked(**choices.from_file(described, functions))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (TypeError, ValueError, RecursionError) as error:  # the last of lists in lists
        words = f"{path}: the configuration is not a network's: {error!s:.1000}"
        raise ModelFileError(words) from None
    scaling = take_scaling(path, arrays, config.sizes[0]) if config.scale else None
    shapes = config.shapes()
    for name in sorted(shapes.keys() | arrays.keys()):
        found = arrays[name].shape if name in arrays else None
        if found != shapes.get(name):  # before a network of that size takes its memory
            raise ModelFileError(
                f"{path}: array {name:.60} must have shape {shapes.get(name)}, for "
                f"sizes {reprlib.repr(list(config.sizes))} and bias {config.bias}; got {found}"
            )
        if arrays[name].dtype != config.dtype or not np.isfinite(arrays[name]).all():
            raise ModelFileError(f"{path}: array {name} must hold finite {config.dtype} values")
    return config, [arrays[name] for name in shapes], notes, scaling
