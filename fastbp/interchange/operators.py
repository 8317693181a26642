"""Activations as operators of ONNX: what writes them, and what recognises them in other graphs.

An expression is Z, a number, or an operator and its inputs: ("Mul", Z, ("Sigmoid", Z)) is SiLU.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import reference
from ..reference.activations import LEAK

Z = "z"
Expression = Any

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _known(name: str) -> Callable[[Any], Any]:
    def function(z: Any) -> Any:
        z = np.asarray(z, np.float64)
        reference.activate(name, z, out := np.empty_like(z))
        return out

    return function


# What works number by number, and how many inputs it has. What has an attribute is as its default.
POINTWISE: dict[str, tuple[Callable[..., Any], int]] = {
    "Abs": (np.abs, 1), "Add": (np.add, 2), "Cast": (np.positive, 1), "Cos": (np.cos, 1),
    "Div": (np.divide, 2), "Elu": (_known("elu"), 1), "Equal": (np.equal, 2), "Erf": (_erf, 1),
    "Exp": (np.exp, 1), "Gelu": (_known("gelu"), 1), "Greater": (np.greater, 2),
    "GreaterOrEqual": (np.greater_equal, 2), "Identity": (np.positive, 1),
    "LeakyRelu": (_known("leaky_relu"), 1), "Less": (np.less, 2),
    "LessOrEqual": (np.less_equal, 2), "Log": (np.log, 1), "Max": (np.maximum, 2),
    "Min": (np.minimum, 2), "Mul": (np.multiply, 2), "Neg": (np.negative, 1), "Pow": (np.power, 2),
    "Reciprocal": (lambda z: 1 / z, 1), "Relu": (_known("relu"), 1),
    "Sigmoid": (_known("sigmoid"), 1), "Sin": (np.sin, 1), "Softplus": (_known("softplus"), 1),
    "Sqrt": (np.sqrt, 1), "Sub": (np.subtract, 2), "Swish": (_known("silu"), 1),
    "Tanh": (_known("tanh"), 1), "Where": (np.where, 3),
}  # fmt: skip

# Operators with a constant c: what a layer is multiplied by, and what is added; what becomes of the
# mean and the divisor of the inputs; and the power of c in a scale.
AFFINE: dict[str, Callable[[np.ndarray], tuple[np.ndarray | None, np.ndarray | float]]] = {
    "Add": lambda c: (None, c),
    "Sub": lambda c: (None, -c),
    "Mul": lambda c: (c, 0.0),
    "Div": lambda c: (1 / c, 0.0),
}
STANDARDISED: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "Add": lambda mean, divisor, c: (mean - c * divisor, divisor),
    "Sub": lambda mean, divisor, c: (mean + c * divisor, divisor),
    "Mul": lambda mean, divisor, c: (mean, divisor / c),
    "Div": lambda mean, divisor, c: (mean, divisor * c),
}
POWERS = {"Mul": 1, "Div": -1}

_NORMAL = ("Add", ("Erf", ("Div", Z, math.sqrt(2))), 1.0)
EXPRESSIONS: dict[str, Expression] = {
    "sigmoid": ("Sigmoid", Z),
    "tanh": ("Tanh", Z),
    "relu": ("Relu", Z),
    "exp": ("Exp", Z),
    "leaky_relu": ("LeakyRelu", Z),  # its slope is 0.01 by default
    "elu": ("Elu", Z),
    "softplus": ("Softplus", Z),
    "silu": ("Mul", Z, ("Sigmoid", Z)),
    "gelu": ("Mul", ("Mul", Z, 0.5), _NORMAL),  # as PyTorch writes it; Gelu is newer than OPSET
}
# In float64 onnxruntime (1.32) has neither of these, nor slopes of more than seven digits. Erf it
# has for float32 alone, which the writer sees to.
_NEGATIVE = ("Min", Z, 0.0)
DOUBLE = EXPRESSIONS | {
    "leaky_relu": ("Max", Z, ("Mul", Z, LEAK)),
    "elu": ("Add", ("Relu", Z), ("Sub", ("Exp", _NEGATIVE), 1.0)),
    "softplus": ("Add", ("Relu", Z), ("Log", ("Add", ("Exp", ("Neg", ("Abs", Z))), 1.0))),
}

# Where functions are compared: near 0 and far from it, on both sides.
_SIZES = np.concatenate([np.geomspace(1e-4, 1, 40), np.linspace(1, 30, 80)])
PROBES = np.concatenate([-_SIZES[::-1], [0.0], _SIZES])
_TOLERANCE = 1e-6  # graphs hold constants in float32


def values(expression: Expression) -> Any:
    """Return the values of an expression at PROBES."""
    if not isinstance(expression, tuple):
        return PROBES if expression == Z else expression
    operator, *inputs = expression
    return POINTWISE[operator][0](*map(values, inputs))


def same(one: Any, other: Any) -> bool:
    """Return whether values at PROBES are those of the same function, up to float32's rounding."""
    return bool(np.allclose(one, other, _TOLERANCE, _TOLERANCE))


def recognised(found: Any, own: Iterable[Any] = ()) -> Any:
    """Return the activation, by its name or of the user's, that has these values; None if none."""
    names = (name for name in reference.ACTIVATIONS if name != "softmax")
    for activation in (*names, *own):
        reference.activate(activation, PROBES, out := np.empty_like(PROBES))
        if same(found, out):
            return activation
    return None


class Curve:
    """A function of one number, followed through the nodes that compute it, by its values."""

    def __init__(self, start: str) -> None:
        self.values: dict[str, Any] = {start: PROBES}  # by the names of outputs

    def take(self, operator: str, inputs: Sequence[Any], output: str) -> None:
        """Follow a node; inputs are names of these, or numbers."""
        function, _ = POINTWISE[operator]
        self.values[output] = function(*(self.values.get(i, i) for i in inputs))

    def end(self, uses: Mapping[str, int], own: Iterable[Any]) -> tuple[str, Any]:
        """Return the name of its one end, and the activation it is; None if it is none."""
        live = [name for name in self.values if uses.get(name, 0) > 0]
        if len(live) != 1:
            raise ValueError("the graph must be a chain; it has a branch around a layer")
        return live[0], recognised(self.values[live[0]], own)
