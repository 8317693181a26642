"""Activations and losses of your own: two functions each, checked, compiled and kept.

## An activation

Write f and its slope as for one number. Functions of `math` and NumPy, conditionals, numbers of
your module and other such functions are at hand:

>>> import math
>>> import numpy as np
>>> import fastbp
>>> def softsign(z):
...     return z / (1 + abs(z))
>>> def softsign_slope(z):
...     return 1 / (1 + abs(z)) ** 2
>>> own = fastbp.Activation(softsign, softsign_slope)

It goes wherever the name of an activation does, for hidden layers and for the output:

>>> X, y, *_ = fastbp.datasets.load("digits")
>>> net = fastbp.Network(
...     [64, 30, 20, 10], activation=[own, "relu"], loss="cross-entropy", input_scale=1 / 16, seed=0
... )
>>> net.fit(X, y, epochs=5, batch_size=10, learning_rate=0.1).loss[-1] < 0.3
True

Where the slope follows more cheaply from the value, it may take both, z and a = f(z):

>>> own_tanh = fastbp.Activation(math.tanh, lambda z, a: 1 - a * a)

Expressions of NumPy that work on arrays are the fastest on `backend="numpy"`, and as fast as
conditionals on "numba". In `np.where` both sides are computed:

>>> leaky = fastbp.Activation(
...     lambda z: np.where(z > 0, z, 0.1 * z), lambda z: np.where(z > 0, 1.0, 0.1), name="leaky"
... )

## A loss

value(a, y) of one output and its target, and its derivative in a, delta(a, y). The loss of a sample
is the sum over its outputs, whose activation is the identity unless you name another:

>>> log_cosh = fastbp.Loss(
...     lambda a, y: abs(a - y) + math.log1p(math.exp(-2 * abs(a - y))) - math.log(2),
...     lambda a, y: math.tanh(a - y),
...     name="log-cosh",
... )
>>> net = fastbp.Network([64, 30, 1], activation=own, loss=log_cosh, input_scale=1 / 16, seed=0)
>>> net.config["output"]
'identity'

## What is checked

All of it when the pair is made, before anything trains. A wrong slope is refused with the place,
and so is what cannot be compiled, raises an error, is not finite somewhere between -30 and 30, is
no float, or differs from call to call:

>>> fastbp.Activation(softsign, lambda z: 1 / (1 + abs(z)))
Traceback (most recent call last):
ValueError: slope is 0.696927 at z = -0.434871, but f changes by 0.485707 there: it must be the \
derivative of f in z
>>> fastbp.Activation(math.sqrt, lambda z, a: 0.5 / a)
Traceback (most recent call last):
ValueError: f raises ValueError: math domain error, at z = -0.434871

`gradcheck` and `verify` take networks that have them.

## How fast they are

They are compiled into loops over the lanes of vectors, on the same paths as fastbp's own. `exp` and
`tanh`, of `math` or NumPy, are computed by the kernels' formulas. On one core of an EPYC (Zen 4), a
leaky ReLU written so trains 784-30-10 at batches of 10 at 0.98 of the speed of "leaky_relu", and
784-512-512-10 at batches of 128 at 0.99; a tanh by `math.tanh` or `np.tanh` at 0.92 to 0.97, and
0.98, of that of "tanh". Other functions, such as `log`, `sin` or `erf`, are calls of the C library
for each number, 10 to 20 ns each: a GELU by `math.erf` trains both at half the speed of "gelu".

The machine code is kept on disk under a digest of what the functions do: their code, constants, the
values around them, and the globals and functions they use. A second process compiles nothing, and
an edited function is compiled anew. Globals are those of the time when it was compiled.

## Where they go

Other processes find functions by module and name: define them by `def` at the top level of a module
if they are to be pickled, or for several ranks. `Network.save` writes such a name alone, and
`fastbp.load(path, functions=[own])` asks for them. `write_onnx` writes an activation that is made
of operators of ONNX; see `fastbp.interchange`.
"""

import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from .._support.texts import said
from ..reference import own_code
from ..reference.records import Array
from . import checks
from .checks import PAIRS, PLACES, Role


class _Pair:
    """Two functions that go together: one, and its slope in the first argument."""

    _NAMES: ClassVar[tuple[str, str]]

    def __init__(
        self, functions: tuple[Any, Any], roles: tuple[Role, Role], places: np.ndarray,
        name: str | None,
    ) -> None:  # fmt: skip
        self.roles, self._functions = roles, functions
        self.name = _name(name, functions[0])
        one, slope = roles
        values = checks.steady_values(one, places)
        for_slope = self._for_slope(places, values)
        slopes = checks.steady_values(slope, for_slope)
        checks.check_slope(one, slope, places, slopes)
        self._check_compiled(places, values, slopes)
        self._on_arrays = _whole(one, places, values), _whole(slope, for_slope, slopes)

    def _for_slope(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the places as the second function takes them."""
        return places

    def _check_compiled(self, places: np.ndarray, *found: np.ndarray) -> None:
        try:
            from ..kernels.own import compiled_values
        except ImportError:  # the compiler is turned off, and the reference is all there is
            return
        compiled = compiled_values(self, places)
        for role, in_python, values in zip(self.roles, found, compiled, strict=True):
            checks.check_same(role, places, in_python, values)

    def _apply(self, which: int, *arrays: Array) -> Any:
        """Return the first or the second function of arrays."""
        with np.errstate(all="ignore"):
            return self._on_arrays[which](*arrays[: self.roles[which].count])

    @property
    def reference(self) -> str:
        """The name by which files refer to this: the module of the first function, and the name."""
        return f"{own_code.plain(self._functions[0]).__module__}:{self.name}"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._functions == other._functions

    def __hash__(self) -> int:
        return hash((type(self), self._functions))

    def __repr__(self) -> str:
        shown = [
            getattr(f, "__name__", "?").strip("<>") for f in map(own_code.plain, self._functions)
        ]
        if self.name != _name(None, self._functions[0]):
            shown.append(f"name={self.name!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __str__(self) -> str:
        return self.name

    def __copy__(self) -> "_Pair":
        return self

    def __deepcopy__(self, memo: Any) -> "_Pair":
        return self

    def __reduce__(self) -> Any:
        for role, function in zip(self._NAMES, self._functions, strict=True):
            _check_found(role, function)
        return type(self), (*self._functions, self.name)


def _whole(role: Role, places: np.ndarray, values: np.ndarray) -> Callable[..., Any]:
    """Return a function for arrays: the user's where it takes them, else element by element."""
    function = own_code.on_arrays(role.call)

    def each(*arrays: Array) -> Any:
        columns = [np.asarray(x, np.float64).ravel() for x in arrays]
        found = (float(function(*place)) for place in zip(*columns, strict=True))
        return np.fromiter(found, np.float64, arrays[0].size).reshape(arrays[0].shape)

    with np.errstate(all="ignore"):
        try:
            found = np.asarray(function(*places.T[: role.count]))
        except Exception:  # of any kind: of a conditional, or what the user's program raises
            return each
    takes_arrays = found.shape in ((), values.shape) and found.dtype.kind in "iuf"
    return function if takes_arrays and checks.are_same(found, values).all() else each


def _name(name: Any, function: Any) -> str:
    if name is None:
        return getattr(own_code.plain(function), "__name__", "").strip("<>")
    if not (isinstance(name, str) and name.isprintable() and name.strip() and ":" not in name):
        raise ValueError(f"name must be a text without colons; got {said(repr(name))}")
    return name


def _check_found(role: str, function: Any) -> None:
    """Raise unless another process finds a function by its module and name."""
    try:
        pickle.dumps(function)
    except Exception as error:
        python = own_code.plain(function)
        raise pickle.PicklingError(
            f"{role} cannot be pickled: it is found by its name in other processes, and "
            f"{python.__qualname__} has none in {python.__module__}; define it by `def` at the top "
            "level of a module"
        ) from error


class Activation(_Pair):
    """An activation of your own: a = f(z), and its slope f'(z).

    Both are functions of one number that Numba compiles: with functions of `math` or NumPy,
    conditionals, numbers of the module, and other such functions. Both backends take it wherever
    they take the name of an activation. See the guide, `fastbp.functions`.

    Parameters
    ----------
    f : function
        a = f(z).
    slope : function
        f'(z), of z, or of z and a. At a kink any value between the slopes of both sides will do.
    name : str, optional
        In summaries and files; the function's own by default.

    Raises
    ------
    TypeError, ValueError
        If the functions cannot be compiled, raise errors, return anything but finite floats at
        ordinary places, -30 to 30, differ from call to call, or if slope is not that of f. The
        message says which, and where.

    Examples
    --------
    >>> import fastbp
    >>> import numpy as np
    >>> leaky = fastbp.Activation(
    ...     lambda z: np.where(z > 0, z, 0.1 * z), lambda z: np.where(z > 0, 1.0, 0.1), "leaky"
    ... )
    >>> leaky.name
    'leaky'
    """

    _NAMES = "f", "slope"

    def __init__(self, f: Any, slope: Any, name: str | None = None) -> None:
        roles = Role("f", f, "z"), Role("slope", slope, "za", 1)
        super().__init__((f, slope), roles, PLACES[:, None], name)

    def _for_slope(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.column_stack([places, values])

    def value(self, z: Array, out: Array) -> None:
        """out = f(z), element by element."""
        out[...] = self._apply(0, z)

    def prime(self, z: Array, out: Array) -> None:
        """out = f'(z), element by element."""
        a = np.empty_like(z)
        if self.roles[1].count == 2:
            self.value(z, a)
        out[...] = self._apply(1, z, a)


class Loss(_Pair):
    """A loss of your own: value(a, y) of an output and its target, and its derivative in a.

    The loss of a sample is the sum over its outputs. The error of the output layer is delta(a, y)
    times the slope of its activation, which is the identity unless another is named.

    Both are functions of two numbers that Numba compiles, as for `Activation`.

    Parameters
    ----------
    value : function
        value(a, y).
    delta : function
        The derivative of value in a, delta(a, y).
    name : str, optional
        In summaries and files; the function's own by default.

    Raises
    ------
    TypeError, ValueError
        As by `Activation`; the places are pairs of outputs and targets, each from -30 to 30.

    Examples
    --------
    >>> import fastbp
    >>> import math
    >>> log_cosh = fastbp.Loss(
    ...     lambda a, y: abs(a - y) + math.log1p(math.exp(-2.0 * abs(a - y))) - math.log(2.0),
    ...     lambda a, y: math.tanh(a - y),
    ...     "log-cosh",
    ... )
    >>> log_cosh.name
    'log-cosh'
    """

    _NAMES = "value", "delta"

    def __init__(self, value: Any, delta: Any, name: str | None = None) -> None:
        roles = Role("value", value, "ay"), Role("delta", delta, "ay")
        super().__init__((value, delta), roles, PAIRS, name)

    def terms(self, a: Array, y: Array, setting: Any = None) -> tuple[Any, Any]:
        """Return the loss of each output, float64, and its derivative in a."""
        parts = np.asarray(self._apply(0, a.astype(np.float64), y.astype(np.float64)))
        slopes = np.asarray(self._apply(1, a, y), a.dtype)
        return np.broadcast_to(parts, a.shape), np.broadcast_to(slopes, a.shape)
