"""The operations of one layer: logical arrays, checked alike for both backends, in, new arrays out.

Arrays are float32 or float64, all of one dtype, in any memory order; integers, lists and other byte
orders are converted. Dimensions of one name are equal, and at least 1. What does not fit raises
TypeError or ValueError, before a kernel makes a pointer of it.
"""

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import reference
from .._support import checks
from ..model import choices

Array = np.ndarray
MOST = sys.float_info.max
_FLOATS = np.dtype(np.float32), np.dtype(np.float64)  # of native byte order
# The arrays of each operation, and how many of the first it changes in place.
_ARRAYS = {
    "softmax": (("z",), 0),
    "affine": (("x", "W", "b"), 0),
    "backprop_delta": (("W_next", "delta_next", "a"), 0),
    "weight_gradient": (("a_prev", "delta"), 0),
    "bias_gradient": (("delta",), 0),
    "output_delta": (("z", "y"), 0),
    "outer_update": (("W", "b", "a_prev", "delta"), 2),
    "batch_update": (("W", "b", "a_prev", "delta"), 2),
    "momentum_update": (("p", "velocity", "g"), 2),
    "nesterov_update": (("p", "velocity", "g"), 2),
    "adam_update": (("p", "first", "second", "g"), 3),
    "rmsprop_update": (("p", "second", "g"), 2),
}
# The dimensions of arrays; others have the shape of the first, whatever it is.
_SHAPES = {
    **dict.fromkeys(("x", "a_prev"), ("batch", "n_in")),
    **dict.fromkeys(("z", "a", "y", "delta"), ("batch", "n_out")),
    "W": ("n_out", "n_in"), "b": ("n_out",),
    "W_next": ("n_next", "n_out"), "delta_next": ("batch", "n_next"),
}  # fmt: skip
_ONE_SAMPLE = {**_SHAPES, "a_prev": ("n_in",), "delta": ("n_out",)}  # of `outer_update`
_OUTPUTS = frozenset(reference.LOSSES)
# Operations with types, shapes and dtypes that fit as they are: small ones take a few microseconds.
_FITTING: set[tuple[Any, ...]] = set()
_MOST_FITTING = 1024


def numbers_of(name: str, value: Any) -> Array:
    """Return value as an array of integers, float32 or float64."""
    array = checks.numbers_array(name, value)
    if array.dtype.kind == "f" and array.dtype not in _FLOATS:  # as it stands in a file
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    return array


def _floats(names: Sequence[str], arrays: list[Array]) -> list[Array]:
    """Return arrays of one dtype; integers take any, and are float64 among themselves."""
    dtypes = {array.dtype for array in arrays if array.dtype.kind == "f"}
    if len(dtypes) > 1:
        got = ", ".join(str(array.dtype) for array in arrays)
        raise TypeError(f"{', '.join(names)} must be of one dtype, float32 or float64; got {got}")
    dtype = dtypes.pop() if dtypes else _FLOATS[1]
    return [array.astype(dtype, copy=False) for array in arrays]


def _check_shapes(operation: str, names: Sequence[str], arrays: list[Array]) -> None:
    table = _ONE_SAMPLE if operation == "outer_update" else _SHAPES
    known: dict[str, tuple[int, str]] = {}
    for name, array in zip(names, arrays, strict=True):
        dims, shape = table.get(name), array.shape
        if dims is None:
            if shape != arrays[0].shape:
                wanted = f"of the shape of {names[0]}, {arrays[0].shape}"
                raise ValueError(f"{name} must be {wanted}; got {shape}")
            continue
        wanted = f"({', '.join(dims)}{',' * (len(dims) == 1)})"
        if len(shape) != len(dims) or 0 in shape:
            raise ValueError(f"{name} must be {wanted}, none of them 0; got {shape}")
        for dim, size in zip(dims, shape, strict=True):
            n, where = known.setdefault(dim, (size, name))
            if n != size:
                as_there = f"with {dim} {n} as in {where}"
                raise ValueError(f"{name} must be {wanted}, {as_there}; got {shape}")


def _in_place(name: str, value: Any) -> Array:
    """Return what an operation changes, as a plain array."""
    if not isinstance(value, np.ndarray) or value.dtype not in _FLOATS:
        got = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{name} is changed in place: a float32 or float64 array; got {got}")
    return np.asarray(value)


def _checked(operation: str, values: Sequence[Any]) -> list[Array]:
    """Return the arrays of an operation, if they fit together."""
    names, written = _ARRAYS[operation]
    arrays = [
        (_in_place if i < written else numbers_of)(name, value)
        for i, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    _check_shapes(operation, names, arrays)
    return _floats(names, arrays)


def _check_places(operation: str, arrays: Sequence[Array], written: int) -> None:
    """Check that what is changed in place can be, and is nothing else's place."""
    names = _ARRAYS[operation][0]
    for i in range(written):
        one = arrays[i]
        if not one.flags.writeable:
            raise ValueError(f"{names[i]} is changed in place, and must be writable")
        for j in range(i + 1, len(arrays)):
            other = arrays[j]
            owners = one.base is None and other.base is None  # of their memory
            if one is other if owners else np.shares_memory(one, other):
                raise ValueError(f"{names[i]} and {names[j]} must be different arrays: got one")


def number(name: str, value: Any, lowest: float = -MOST, below: float = math.inf) -> float:
    """Return a finite number, lowest <= value < below."""
    if type(value) is float and lowest <= value < below:
        return value
    if not (checks.is_real(value) and lowest <= value < below):
        ends = f", from {lowest:g}" * (lowest > -MOST) + f", below {below:g}" * (below < MOST)
        raise ValueError(f"{name} must be a finite number{ends}; got {value!r}")
    return float(value)


class Operations:
    """The operations of one layer; what computes them has the same names behind an underscore."""

    name: str

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in reference.ELEMENTWISE:
            raise AttributeError(name)
        return partial(self._map, name)

    def _map(self, name: str, z: Any) -> Any:
        if type(z) is not np.ndarray or z.dtype not in _FLOATS:
            (z,) = _floats(("z",), [numbers_of("z", z)])
        return self._elementwise(name, z)

    def _run(
        self, name: str, compute: Callable[..., Any], arrays: Sequence[Any], *others: Any
    ) -> Any:
        """Compute with arrays that fit together, and what else there is."""
        try:
            key = (name, *[(type(x), x.shape, x.dtype) for x in arrays])
        except AttributeError:
            key = ()
        if key not in _FITTING:
            given, arrays = arrays, _checked(name, arrays)
            if all(a is b for a, b in zip(given, arrays, strict=True)):  # as they are
                if len(_FITTING) > _MOST_FITTING:
                    _FITTING.clear()
                _FITTING.add(key)
        if written := _ARRAYS[name][1]:
            _check_places(name, arrays, written)
        return compute(*arrays, *others)

    def softmax(self, z: Any) -> Any:
        """Return softmax of each row."""
        return self._run("softmax", self._softmax, (z,))

    def affine(self, x: Any, W: Any, b: Any) -> Any:
        """Return x W^T + b."""
        return self._run("affine", self._affine, (x, W, b))

    def backprop_delta(self, W_next: Any, delta_next: Any, a: Any, activation: str) -> Any:
        """Return the delta of the layer below."""
        checks.one_of("activation", activation, reference.DERIVATIVES)
        arrays = W_next, delta_next, a
        return self._run("backprop_delta", self._backprop_delta, arrays, activation)

    def weight_gradient(self, a_prev: Any, delta: Any) -> Any:
        """Return delta^T a_prev / batch."""
        return self._run("weight_gradient", self._weight_gradient, (a_prev, delta))

    def bias_gradient(self, delta: Any) -> Any:
        """Return the mean of delta over the batch."""
        return self._run("bias_gradient", self._bias_gradient, (delta,))

    def output_delta(self, loss: Any, activation: Any, z: Any, y: Any) -> Any:
        """Return output, delta and losses of the last layer.

        `loss` and `activation` are what `Network` takes as `loss` and `output`: names, objects of
        `fastbp.losses`, or functions of the user's.
        """
        setting, names = None, isinstance(loss, str) and isinstance(activation, str)
        if not (names and (loss, activation) in _OUTPUTS):
            from ..losses import in_parts

            loss = choices.loss(loss)
            activation = choices.output(activation, loss, None)
            loss, setting = in_parts(loss)
        return self._run("output_delta", self._output_delta, (z, y), loss, activation, setting)

    # In place.

    def outer_update(self, W: Any, b: Any, a_prev: Any, delta: Any, learning_rate: float) -> None:
        """Learn from one sample, in place."""
        rate = number("learning_rate", learning_rate)
        self._run("outer_update", self._outer_update, (W, b, a_prev, delta), rate)

    def batch_update(self, W: Any, b: Any, a_prev: Any, delta: Any, learning_rate: float) -> None:
        """Learn from the mean over a batch, in place."""
        rate = number("learning_rate", learning_rate)
        self._run("batch_update", self._batch_update, (W, b, a_prev, delta), rate)

    def momentum_update(
        self, p: Any, velocity: Any, g: Any, learning_rate: float, momentum: float
    ) -> None:
        """Take a step with momentum, in place."""
        others = number("learning_rate", learning_rate), number("momentum", momentum)
        self._run("momentum_update", self._momentum_update, (p, velocity, g), *others)

    def nesterov_update(
        self, p: Any, velocity: Any, g: Any, learning_rate: float, momentum: float
    ) -> None:
        """Take a step with Nesterov's momentum, in place."""
        others = number("learning_rate", learning_rate), number("momentum", momentum)
        self._run("nesterov_update", self._nesterov_update, (p, velocity, g), *others)

    def adam_update(
        self, p: Any, first: Any, second: Any, g: Any,
        learning_rate: float, beta_1: float, beta_2: float, epsilon: float, t: float,
    ) -> None:  # fmt: skip
        """Take a step of Adam, number t = 1, 2, ..., in place."""
        others = (
            number("learning_rate", learning_rate), number("beta_1", beta_1, 0, 1),
            number("beta_2", beta_2, 0, 1), number("epsilon", epsilon, 0), number("t", t, 1),
        )  # fmt: skip
        self._run("adam_update", self._adam_update, (p, first, second, g), *others)

    def rmsprop_update(
        self, p: Any, second: Any, g: Any, learning_rate: float, rho: float, epsilon: float
    ) -> None:
        """Take a step of RMSprop, in place."""
        rate, least = number("learning_rate", learning_rate), number("epsilon", epsilon, 0)
        others = rate, number("rho", rho, 0, 1), least
        self._run("rmsprop_update", self._rmsprop_update, (p, second, g), *others)
