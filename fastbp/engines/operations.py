"""The operations of one layer: logical arrays, checked alike for both backends, in, new arrays out.

Arrays are float32 or float64, all of one dtype, in any memory order; integers, lists and other byte
orders are converted. Dimensions of one name are equal, and at least 1. What does not fit raises
TypeError or ValueError, before a kernel makes a pointer of it.
"""

import math
import numbers
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from .. import reference
from .._support import checks

Array = np.ndarray
_FLOATS = np.dtype(np.float32), np.dtype(np.float64)  # of native byte order
# The dimensions of arguments. Those of `p` and what is kept for it are all as those of the first.
_SHAPES = {
    **dict.fromkeys(("x", "a_prev"), ("batch", "n_in")),
    **dict.fromkeys(("z", "a", "y", "delta"), ("batch", "n_out")),
    "W": ("n_out", "n_in"), "b": ("n_out",),
    "W_next": ("n_next", "n_out"), "delta_next": ("batch", "n_next"),
}  # fmt: skip
_ONE_SAMPLE = {"a_prev": ("n_in",), "delta": ("n_out",)}


@lru_cache(maxsize=1024)
def _check_shapes(names: tuple[str, ...], one_sample: bool, *shapes: tuple[int, ...]) -> None:
    """Raise ValueError unless the arrays of an operation have shapes that fit together."""
    known: dict[str, tuple[int, str]] = {}
    for name, shape in zip(names, shapes, strict=True):
        dims = (one_sample and _ONE_SAMPLE.get(name)) or _SHAPES.get(name)
        if dims is None:
            if shape != shapes[0]:
                wanted = f"of the shape of {names[0]}, {shapes[0]}"
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


@lru_cache(maxsize=256)
def _common(names: tuple[str, ...], *dtypes: np.dtype) -> np.dtype:
    """Return the dtype of an operation; integers, which take any, are float64 among themselves."""
    floats = {dtype for dtype in dtypes if dtype.kind == "f"}
    if len(floats) > 1:
        got = ", ".join(map(str, dtypes))
        raise TypeError(f"{', '.join(names)} must be of one dtype, float32 or float64; got {got}")
    return floats.pop() if floats else _FLOATS[1]


def numbers_of(name: str, value: Any) -> Array:
    """Return value as an array of integers, float32 or float64."""
    array = checks.numbers_array(name, value)
    if array.dtype.kind == "f" and array.dtype not in _FLOATS:  # as it stands in a file
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    return array


def _in_place(name: str, value: Any) -> Array:
    """Return what an operation changes, as a plain array."""
    if not isinstance(value, np.ndarray) or value.dtype not in _FLOATS:
        got = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{name} is changed in place: a float32 or float64 array; got {got}")
    if not value.flags.writeable:
        raise ValueError(f"{name} is changed in place, and must be writable; got a read-only array")
    return value.view(np.ndarray)


def _fitting(given: dict[str, Any], written: int, one_sample: bool = False) -> list[Array]:
    """Return the arrays of an operation, of which the first are `written`, if they fit together."""
    names = tuple(given)
    arrays = [
        _in_place(name, value) if i < written else numbers_of(name, value)
        for i, (name, value) in enumerate(given.items())
    ]
    _check_shapes(names, one_sample, *[array.shape for array in arrays])
    dtype = _common(names, *[array.dtype for array in arrays])
    for i in range(written):
        for j in range(i + 1, len(arrays)):
            if np.shares_memory(arrays[i], arrays[j]):
                raise ValueError(f"{names[i]} and {names[j]} must be different arrays: got one")
    return [array.astype(dtype, copy=False) for array in arrays]


def number(name: str, value: Any, lowest: float = -math.inf, below: float = math.inf) -> float:
    """Return a finite number, lowest <= value < below."""
    real = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
    if not (real and math.isfinite(value) and lowest <= value < below):
        ends = f", from {lowest:g}" * (lowest > -math.inf) + f", below {below:g}" * (below < 1e300)
        raise ValueError(f"{name} must be a finite number{ends}; got {value!r}")
    return float(value)


class Operations:
    """The operations of one layer; what computes them has the same names behind an underscore."""

    name: str
    _elementwise: Callable[[str, Array], Array]

    def __getattr__(self, name: str) -> Callable[[Any], Array]:
        if name not in reference.ELEMENTWISE:
            raise AttributeError(name)
        return partial(self._map, name)

    def _map(self, name: str, z: Any) -> Array:
        (z,) = _fitting({"p": z}, 0)  # of any shape
        with np.errstate(all="ignore"):
            return self._elementwise(name, z)

    def _run(
        self, name: str, given: dict[str, Any], *others: Any, before: Any = (), written: int = 0
    ) -> Array:
        """Check the arrays that are `given` by their names, and compute with what else there is."""
        arrays = _fitting(given, written, name == "outer_update")
        with np.errstate(all="ignore"):  # whatever the caller has: kernels have no such state
            return getattr(self, f"_{name}")(*before, *arrays, *others)  # type: ignore[no-any-return]

    def softmax(self, z: Any) -> Array:
        """Return softmax of each row."""
        return self._run("softmax", {"z": z})

    def affine(self, x: Any, W: Any, b: Any) -> Array:
        """Return x W^T + b."""
        return self._run("affine", {"x": x, "W": W, "b": b})

    def backprop_delta(self, W_next: Any, delta_next: Any, a: Any, activation: str) -> Array:
        """Return the delta of the layer below."""
        checks.one_of("activation", activation, reference.DERIVATIVES)
        given = {"W_next": W_next, "delta_next": delta_next, "a": a}
        return self._run("backprop_delta", given, activation)

    def weight_gradient(self, a_prev: Any, delta: Any) -> Array:
        """Return delta^T a_prev / batch."""
        given = {"a_prev": a_prev, "delta": delta}
        return self._run("weight_gradient", given)

    def bias_gradient(self, delta: Any) -> Array:
        """Return the mean of delta over the batch."""
        return self._run("bias_gradient", {"delta": delta})

    def output_delta(
        self, loss: str, activation: str, z: Any, y: Any
    ) -> tuple[Array, Array, Array]:
        """Return output, delta and losses of the last layer."""
        if (loss, activation) not in reference.LOSSES:
            known = ", ".join(map(" with ".join, reference.LOSSES))
            got = f"{loss!r} with {activation!r}"
            raise ValueError(f"loss and activation must be one of {known}; got {got}")
        before, given = (loss, activation), {"z": z, "y": y}
        return self._run("output_delta", given, before=before)  # type: ignore[return-value]

    # In place.

    def outer_update(self, W: Any, b: Any, a_prev: Any, delta: Any, learning_rate: float) -> None:
        """Learn from one sample, in place."""
        self._update("outer_update", W, b, a_prev, delta, learning_rate)

    def batch_update(self, W: Any, b: Any, a_prev: Any, delta: Any, learning_rate: float) -> None:
        """Learn from the mean over a batch, in place."""
        self._update("batch_update", W, b, a_prev, delta, learning_rate)

    def _update(self, name: str, W: Any, b: Any, a_prev: Any, delta: Any, rate: float) -> None:
        given = {"W": W, "b": b, "a_prev": a_prev, "delta": delta}
        self._run(name, given, number("learning_rate", rate), written=2)

    def momentum_update(
        self, p: Any, velocity: Any, g: Any, learning_rate: float, momentum: float
    ) -> None:
        """Take a step with momentum, in place."""
        self._step("momentum_update", p, velocity, g, learning_rate, momentum)

    def nesterov_update(
        self, p: Any, velocity: Any, g: Any, learning_rate: float, momentum: float
    ) -> None:
        """Take a step with Nesterov's momentum, in place."""
        self._step("nesterov_update", p, velocity, g, learning_rate, momentum)

    def _step(self, name: str, p: Any, velocity: Any, g: Any, rate: float, momentum: float) -> None:
        others = number("learning_rate", rate), number("momentum", momentum)
        self._run(name, {"p": p, "velocity": velocity, "g": g}, *others, written=2)

    def adam_update(
        self, p: Any, first: Any, second: Any, g: Any,
        learning_rate: float, beta_1: float, beta_2: float, epsilon: float, t: float,
    ) -> None:  # fmt: skip
        """Take a step of Adam, number t = 1, 2, ..., in place."""
        others = (
            number("learning_rate", learning_rate), number("beta_1", beta_1, 0, 1),
            number("beta_2", beta_2, 0, 1), number("epsilon", epsilon, 0), number("t", t, 1),
        )  # fmt: skip
        given = {"p": p, "first": first, "second": second, "g": g}
        self._run("adam_update", given, *others, written=3)
