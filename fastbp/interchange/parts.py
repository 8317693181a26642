"""What every layout is made of: weights, biases, and the names of the functions between them."""

import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..errors import ModelFileError
from ..network import Network


class Parts(NamedTuple):
    """The dense arrays of a network, layer by layer."""

    weights: list[np.ndarray]  # (n_out, n_in)
    biases: list[np.ndarray]  # (n_out,); empty without


def folded(net: Network) -> Parts:
    """Return copies of a network's parts with `input_scale` multiplied into the first weights.

    W (scale x) = (scale W) x: for layouts that cannot say that inputs are scaled.
    """
    weights = [W.copy() for W in net.weights]
    with np.errstate(over="ignore"):
        weights[0][...] = weights[0] * float(net.config["input_scale"])
    if not np.isfinite(weights[0]).all():
        raise ValueError(
            f"weights[0] times input_scale, {net.config['input_scale']:g}, must be finite in "
            f"{net.dtype}; use a network of float64"
        )
    return Parts(weights, [b.copy() for b in net.biases])


def network(
    source: str | os.PathLike[str], parts: Parts, names: Sequence[str] = (), **config: Any
) -> Network:
    """Return the network made of parts that came from elsewhere.

    Parameters
    ----------
    source : path-like
        What to name where something does not fit.
    parts : Parts
        Of one floating dtype.
    names : sequence of str, optional
        What the source calls its layers.
    config : dict
        `activation`, `output`, `loss`, `input_scale`, as `Network` takes them.

    Raises
    ------
    ModelFileError
        If the arrays do not make a chain of layers, hold NaN or infinity, or no network has these
        functions.
    """
    weights, biases = parts
    names = names or [f"layer {l}" for l in range(len(weights))]
    _check(source, parts, names)
    sizes = [weights[0].shape[1], *(len(W) for W in weights)]
    try:
        net = Network(sizes, bias=bool(biases), dtype=weights[0].dtype.name, seed=0, **config)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{os.fspath(source)}: {error!s:.1000}") from None
    for target, array in zip([*net.weights, *net.biases], [*weights, *biases], strict=True):
        target[...] = array
    return net


def _check(source: str | os.PathLike[str], parts: Parts, names: Sequence[str]) -> None:
    """Raise if the arrays do not make a network; before one of that size takes its memory."""
    for fault in _faults(parts, names):
        raise ModelFileError(f"{os.fspath(source)}: {fault}")


def _faults(parts: Parts, names: Sequence[str]) -> Iterable[str]:
    weights, biases = parts
    if not weights:
        yield "it has no layer with weights"
    if biases and len(biases) != len(weights):
        yield f"{len(weights)} layers have {len(biases)} biases; all must have one, or none"
    for name, W in zip(names, weights, strict=True):
        if W.ndim != 2 or not W.size:
            yield f"the weights of {name} must be a matrix, (n_out, n_in); found shape {W.shape}"
    for (below, W), (above, W_next) in pairwise(zip(names, weights, strict=True)):
        if W_next.shape[1] != len(W):
            yield (
                f"{above} takes {W_next.shape[1]} inputs where {below} gives {len(W)}: the layers "
                "do not make a chain"
            )
    for name, W, b in zip(names, weights, biases, strict=False):
        if b.shape != (len(W),):
            yield f"the biases of {name} must have shape ({len(W)},); found {b.shape}"
    for name, array in zip([*names, *names], [*weights, *biases], strict=False):
        if array.dtype != weights[0].dtype or array.dtype not in (np.float32, np.float64):
            yield (
                f"all arrays must be float32, or all float64; found {array.dtype} in {name}, "
                f"{weights[0].dtype} in {names[0]}"
            )
        if not np.isfinite(array).all():
            yield f"{name} holds values that are not finite"
