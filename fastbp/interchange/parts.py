"""What every layout is made of: weights and biases, and a network made of them."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from .._support import checks
from .._support.texts import said
from ..errors import ModelFileError
from ..model import choices
from ..model.config import Config
from ..model.file import MOST_CONFIG, check_finite
from ..model.scaling import NAME, known
from ..network import Network, from_arrays

# By layer: weights (n_out, n_in), and biases (n_out,), which are an empty list without.
Parts: TypeAlias = tuple[list[np.ndarray], list[np.ndarray]]
# What users may say of a file, and the names among it.
ALLOWED = {"activation": choices.HIDDEN, "output": choices.OUTPUT, "loss": choices.LOSSES}


@contextmanager
def naming(source: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what a source makes wrong inside into a ModelFileError that names it."""
    try:
        yield
    except ModelFileError:  # names it already
        raise
    except ValueError as error:
        raise ModelFileError(f"{os.fspath(source)}: {said(error, 1000)}") from error.__cause__


def functions_of_layers(net: Network) -> Iterator[tuple[np.ndarray, Any]]:
    """Return the weights of each layer with its activation, a name or one of the user's."""
    config = Config.checked(**net.config)
    return zip(net.weights, (*config.hidden, config.output), strict=True)


def check_given(given: Mapping[str, Any]) -> None:
    """Raise a ValueError for what is neither None, nor a name, list or object that `Network` takes.

    The rest is checked with the file, as lists are as long as a network has hidden layers.
    """
    for key, value in given.items():
        more = choices.is_own(value) or hasattr(value, "in_file")
        if value is not None and not (more or (key == "activation" and isinstance(value, list))):
            checks.one_of(key, value, ALLOWED[key])


def as_text(value: Any) -> str:
    """Return what `Network` was given as a name, or as JSON in the form of fastbp's own files."""
    (found,) = choices.in_file({"": value}).values()
    return found if isinstance(found, str) else json.dumps(found)


def in_metadata(net: Network, *names: str) -> dict[str, str]:
    """Return arguments of a network as texts; dropout only where there is some."""
    config = {name: net.config[name] for name in (*names, "dropout")}
    return {k: as_text(v) for k, v in config.items() if k != "dropout" or v}


def from_metadata(metadata: Mapping[str, str], functions: Sequence[Any]) -> dict[str, Any]:
    """Return what `in_metadata` described; `functions` are those of the user's that it names."""
    found: dict[str, Any] = {}
    for name, text in metadata.items():
        try:
            found[name] = text if text[:1].isalpha() else json.loads(text[:MOST_CONFIG])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its {name} is damaged: {said(error, 80)}") from None
    try:
        return choices.from_file(found, functions)
    except (TypeError, ModelFileError) as error:  # which does not know the file
        raise ValueError(said(error, 300)) from None


def has_biases(net: Network) -> bool:
    """Return whether `folded` returns biases: a mean becomes some of the first layer."""
    return bool(net.config["bias"] or (net.scaling and net.scaling.mean.any()))


def folded(net: Network) -> Parts:
    """Return copies of a network's arrays, for layouts that cannot say that inputs are scaled."""
    check_finite(net.weights, net.biases)
    weights, scale = [W.copy() for W in net.weights], net.config["input_scale"]
    biases = [b.copy() for b in net.biases]
    if has_biases(net):
        biases = biases or [np.zeros(n, net.dtype) for n in net.sizes[1:]]
    pair, by = known(net.config["scale"], net.scaling), f"times input_scale, {scale:g},"
    with np.errstate(all="ignore"):
        if pair is None:
            weights[0][...] = weights[0] * float(scale)  # W (s x) = (s W) x
        else:
            by = "standardising raw columns"
            weights[0][...], shift = pair.folded(weights[0])
            for b in biases[:1]:
                b += shift
    if not all(np.isfinite(part[0]).all() for part in (weights, biases) if part):
        wanted = f"must be finite in {net.dtype}; use a network of float64"
        raise ValueError(f"weights[0] {by} {wanted}")
    return weights, biases


def network(
    parts: Parts, names: Sequence[str] = (), input_scale: float = 1.0, backend: str = "numba",
    scaling: Any = None, **functions: Any,
) -> Network:  # fmt: skip
    """Return the network of these arrays and functions; names are those of the source's layers."""
    weights, biases = parts
    # Checked first: a network of wrong sizes could take a lot of memory.
    _check(weights, biases, names or [f"layer {l}" for l in range(len(weights))])
    sizes = [weights[0].shape[1], *(len(W) for W in weights)]
    functions |= {"dtype": weights[0].dtype.name, "input_scale": input_scale}
    functions |= {"scale": scaling and NAME}
    config = Config.checked(sizes, bias=bool(biases), **functions)
    return from_arrays(config, [*weights, *biases], backend, seed=0, pair=scaling)


def _check(weights: list[np.ndarray], biases: list[np.ndarray], names: Sequence[str]) -> None:
    if not weights:
        raise ValueError("there is no layer with weights")
    first, n_in = weights[0].dtype, weights[0].shape[-1:]
    for l, (name, W) in enumerate(zip(names, weights, strict=True)):
        check_matrix(name, W)
        if W.shape[1:] != n_in:
            gap = f"{name} takes {W.shape[1]} inputs, but {names[l - 1]} gives {n_in[0]}"
            raise ValueError(f"layers must make a chain; {gap}")
        n_in = W.shape[:1]
        if biases and biases[l].shape != n_in:
            shape = biases[l].shape
            raise ValueError(f"the biases of {name} must have shape {n_in}; got {shape}")
        for array in (W, *biases[l : l + 1]):
            if array.dtype != first or first not in (np.float32, np.float64):
                got = f"{first} in {names[0]}, {array.dtype} in {name}"
                raise ValueError(f"all arrays must be float32, or all float64; got {got}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite; it holds NaN or infinity")


def check_matrix(name: str, W: np.ndarray) -> None:
    """Raise unless these weights are a matrix."""
    if W.ndim != 2 or not W.size:
        raise ValueError(f"the weights of {name} must be a matrix (n_out, n_in); got {W.shape}")
