"""Functions whose slope jumps somewhere, held on the side where they are, so that they are smooth.

Where the curvature jumps instead, as that of ELU and of Huber's loss, differences that cross the
place have fewer digits: these functions are held, too.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from .. import reference
from ..layers import ELU, LeakyReLU, MeanLoss, ReLU
from ..layers.losses import targets_of

_Array: TypeAlias = np.ndarray

# Activations that are z above 0, by what they are below.
_BELOW: dict[Any, Callable[[_Array], Any]] = {
    "relu": np.zeros_like,
    "leaky_relu": lambda z: reference.activations.LEAK * z,
    "elu": np.expm1,
}
# Losses of the rest r = a - y on a side of their places, and of the setting.
_OF_REST: dict[Any, Callable[[_Array, _Array, float], Any]] = {
    "quadratic": lambda r, side, _: r * r / 2,
    "absolute": lambda r, side, _: side * r,
    "quantile": lambda r, side, q: np.where(side > 0, 1 - q, -q * (side < 0)) * r,
    "huber": lambda r, side, d: np.where(side == 0, r * r / 2, d * (side * r - d / 2)),
}
_JUMPS = "relu", "leaky_relu", "absolute", "quantile"  # at zero the slope itself does


class Sides:
    """The sides on which functions were when they were first computed.

    `at_kink` says whether one of them was at a place where its slope jumps.
    """

    def __init__(self) -> None:
        self._sides = dict[int, _Array]()
        self.at_kink = False

    def activate(self, l: int, activation: Any, z: _Array) -> _Array:
        """Return the activations of the l-th function."""
        a = np.empty_like(z)
        if activation in _BELOW:
            a[...] = np.where(self._of(l, activation, np.sign(z)) > 0, z, _BELOW[activation](z))
        else:
            reference.activate(activation, z, a)
        return a

    def mean_loss(self, model: reference.Model, z: _Array, y: _Array) -> float:
        """Return the mean loss of a batch, from the last layer's z."""
        loss, activation = model.loss, model.activations[-1]
        if loss in _OF_REST and activation != "softmax":
            a = self.activate(len(model.activations) - 1, activation, z)
            return self.mean_of_rest(loss, model.setting, a - y)
        losses = np.empty(len(z))
        arrays = np.empty_like(z), np.empty_like(z), losses
        reference.output_delta(loss, activation, z, y, *arrays, model.setting)
        return float(losses.mean())

    def mean_of_rest(self, loss: str, setting: float | None, rest: _Array) -> float:
        """Return the mean loss of a - y, (batch, n_out)."""
        told = reference.losses.setting_of(loss, setting)
        place = told if loss == "huber" else 0.0
        side = self._of(-1, loss, np.sign(rest) * (np.abs(rest) > place))
        return float(_OF_REST[loss](rest, side, told).sum(axis=1).mean())

    def _of(self, l: int, function: Any, side: _Array) -> _Array:
        if l not in self._sides:
            self._sides[l] = side
            self.at_kink |= function in _JUMPS and bool((side == 0).any())
        return self._sides[l]


_BENT: dict[type, str] = {ReLU: "relu", LeakyReLU: "leaky_relu", ELU: "elu"}
Held: TypeAlias = tuple[Callable[[], Any], bool]


def holding(nodes: Iterable[Any], function: Callable[[], Any]) -> Callable[[], Held]:
    """Return what returns the function with nodes of a graph held on their sides of kinks."""
    sides, forwards = Sides(), dict[Any, Any]()
    for l, node in enumerate(nodes):
        if type(node) in _BENT:
            forwards[node] = partial(_activated, sides, l, _BENT[type(node)])
        elif type(node) is MeanLoss and node.kind[0] in _OF_REST:
            forwards[node] = partial(_mean_loss, sides, node)

    def held() -> Any:
        for node, forward in forwards.items():
            vars(node)["forward"] = forward
        try:
            return function()
        finally:
            for node in forwards:
                del vars(node)["forward"]

    return lambda: (held, held() is None or sides.at_kink)


def _activated(sides: Sides, l: int, name: str, x: Any) -> Any:
    return sides.activate(l, name, np.asarray(x))[()]


def _mean_loss(sides: Sides, node: MeanLoss, x: _Array, y: Any) -> float:
    y = targets_of(y, x, kind=node.kind).rows(slice(None), x.shape[-1])
    return sides.mean_of_rest(node.kind[0], node.setting, x.reshape(y.shape) - y)
