"""Gradient checking for anybody's code: an analytic gradient against central differences.

A `Network`, a `Sequential`, a graph node, or two plain functions: an adapter turns each into named
arrays that can be moved and a value that follows. Everything after that is the same.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from ..network import Network
from .differences import ArrayCheck, compare, number

TOLERANCE = 1e-7  # on max|analytic - numerical| / max|analytic| of an array
ACCEPTED = (
    "a fastbp.Network, an object with params, loss(X, y) and gradient(X, y), a layer with "
    "forward(x) and backward(dout), or a pair (function, gradient)"
)
_NOTES = {
    "ok": "",
    "kink": "  on kinks: {kinks}",
    "differs": "  <-- differs",
    "overwritten": "  <-- overwritten: before, after",
    "not finite": "  <-- not finite",
}


@dataclass(frozen=True)
class GradientReport:
    """What `gradcheck` found; print it for a table.

    Attributes
    ----------
    layers : tuple of ArrayCheck
        Each with `name`, `size`, `checked`, `status`, `error`, `index`, `analytic`, `numerical`,
        `kinks` and `ok`.
    tolerance : float
    """

    layers: tuple[ArrayCheck, ...]
    tolerance: float

    @property
    def max_error(self) -> float:
        """The largest relative error of any array."""
        return max(array.error for array in self.layers)

    @property
    def ok(self) -> bool:
        """Whether every array is within the tolerance, and none was overwritten."""
        return not self.failures

    @property
    def failures(self) -> tuple[ArrayCheck, ...]:
        """The arrays that are not ok."""
        return tuple(array for array in self.layers if not array.ok)

    def __str__(self) -> str:
        """Return a table, one line per array."""
        lines = [
            f"{'parameter':<12}{'count':>8}  {'checked':<18}{'error':>9}  {'worst at':<14}"
            f"{'analytic':>14}{'numerical':>14}"
        ]
        for c in self.layers:
            place = "a direction" if c.index is None else str(c.index)
            note = _NOTES[c.status].format(kinks=_shortened(c.kinks))
            lines.append(
                f"{c.name:<12}{c.size:>8}  {c.checked:<18}{c.error:>9.2e}  {place:<14}"
                f"{c.analytic:>14.6e}{c.numerical:>14.6e}{note}"
            )
        verdict = "ok" if self.ok else "NOT ok"
        lines.append(f"{verdict}: largest error {self.max_error:.2e}, allowed {self.tolerance:.0e}")
        return "\n".join(lines)


def _shortened(kinks: tuple[tuple[int, ...], ...], shown: int = 3) -> str:
    more = f" and {len(kinks) - shown} more" if len(kinks) > shown else ""
    return ", ".join(map(str, kinks[:shown])) + more or "all directions"


def gradcheck(
    target: Any,
    X: Any = None,
    y: ArrayLike | None = None,
    tolerance: float = TOLERANCE,
    *,
    max_entries: int = 1000,
    directions: int = 10,
    seed: int = 0,
) -> GradientReport:
    """Compare an analytic gradient with central differences, in float64.

    df/dp is compared with (f(p + h) - f(p - h)) / 2h: entry by entry in arrays of up to
    `max_entries`; in larger ones at a few random entries and along random directions, where a
    mismatch is traced to an entry by halving.

    Parameters
    ----------
    target : Network, Sequential-like, layer, or (function, gradient)
        - A `Network`; a copy in float64, on the same backend, is checked.
        - An object with `params` (a dict of float64 arrays that it computes with), `loss(X, y)`,
          and `gradient(X, y)` (a dict with the keys of `params`). Of a `Sequential`, a copy in
          float64 is checked.
        - A layer with `forward(x)` and `backward(dout)`, which returns dx: a random weighting of
          its outputs is differentiated. X is the input, or a tuple of inputs; y, if given, is
          passed to `forward` last and not varied. Attributes `W` with a partner `dW` are
          parameters.
        - `function(params)` gives a number, `gradient(params)` arrays structured as params.

        The target is left as it is.
    X : array, or tuple of arrays; for a pair: array, or dict, list or tuple of arrays
        A few samples; for a pair the parameters, where the check takes place.
    y : array, optional
        Labels or targets.
    tolerance : float
        On `max|analytic - numerical| / max|analytic|` of each array. The denominator is at least
        1e-5 of the function's value, below which its rounding hides a gradient.
    max_entries : int
    directions : int
        How many for each large array.
    seed : int
        Of the random directions and entries.

    Returns
    -------
    GradientReport
        With `ok`, `max_error`, `layers`, `failures`; `str()` gives a table.

    Raises
    ------
    TypeError
        If the target is none of these, or something is not made of numbers in float64.
    ValueError
        If there is nothing sound to compare: an array without entries, a value that is not finite
        or no scalar, a gradient that lacks an array or whose shape is not its parameter's. (A
        gradient that is not finite is no error: the report names the place.)

    Notes
    -----
    At the kink of ReLU there is no derivative. An entry whose step crosses a kink is looked at
    again with other steps; one that sits on a kink passes if its gradient lies between the two
    sides, and is listed.

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> net = fastbp.Network([3, 4, 2], seed=0)
    >>> fastbp.gradcheck(net, np.eye(3), [0, 1, 0]).ok
    True
    >>> pair = (lambda p: np.sum(p["a"] ** 3), lambda p: {"a": 3 * p["a"]})
    >>> report = fastbp.gradcheck(pair, {"a": np.array([1.0, 3.0])})
    >>> [(c.name, c.index, c.analytic, round(c.numerical, 4)) for c in report.failures]
    [('a', (1,), 9.0, 27.0)]
    """
    tolerance = checks.positive_float("tolerance", tolerance)
    max_entries = checks.positive_int("max_entries", max_entries)
    directions = checks.positive_int("directions", directions)
    problem = _problem(target, X, y)
    problem, analytic, spoilt = _first_calls(problem)
    rng = np.random.default_rng(seed)
    settings = problem.function, tolerance, max_entries, directions, rng
    rows = {
        name: compare(name, array, analytic[name], *settings)
        for name, array in problem.arrays.items()
    }
    for name, (before, after) in spoilt.items():
        blank = ArrayCheck(name, before.size, "all", "ok", 0.0, (), 0.0, 0.0)
        place = tuple(int(i) for i in np.argwhere(before != after)[0])
        rows[name] = replace(
            rows.get(name, blank), status="overwritten", index=place,
            analytic=float(before[place]), numerical=float(after[place]),
        )  # fmt: skip
    return GradientReport(tuple(rows.values()), tolerance)


_Arrays: TypeAlias = dict[str, np.ndarray]
_Spoilt: TypeAlias = dict[str, tuple[np.ndarray, np.ndarray]]  # before and after


class _Problem(NamedTuple):
    """What an adapter makes of a target."""

    arrays: _Arrays  # by name, float64: `function` follows what is written into them
    function: Callable[[], Any]  # () -> a number
    gradient: Callable[[], tuple[Mapping[str, Any], _Spoilt]]  # arrays, and spoilt ones


def _problem(target: Any, X: Any, y: Any) -> _Problem:
    for accepts, adapt in _ADAPTERS:
        if accepts(target) and not isinstance(target, type):
            problem = adapt(target, X, y)
            break
    else:
        raise TypeError(f"target must be {ACCEPTED}; found {type(target).__name__}")
    if not problem.arrays:
        raise ValueError("there is nothing to check: no parameters")
    for name, array in problem.arrays.items():
        if not array.size:
            raise ValueError(f"{name} has no entries: its shape is {array.shape}")
        checks.finite(name, np.atleast_1d(array))
    return problem


def _first_calls(problem: _Problem) -> tuple[_Problem, _Arrays, _Spoilt]:
    """Return a problem safe to go on with, its gradient, and what the code overwrote."""
    before = {name: array.copy() for name, array in problem.arrays.items()}
    number(problem.function())
    found, spoilt = problem.gradient()
    analytic = _checked(found, before)
    for name, array in problem.arrays.items():
        if not np.array_equal(before[name], array):
            spoilt = {name: (before[name], array.copy()), **spoilt}
            array[...] = before[name]
    if spoilt:
        problem = problem._replace(function=_repaired(problem))
    return problem, analytic, spoilt


def _repaired(problem: _Problem) -> Callable[[], Any]:
    """Return the function, made to leave the arrays as they were."""

    def function() -> Any:
        before = {name: array.copy() for name, array in problem.arrays.items()}
        value = problem.function()
        for name, array in problem.arrays.items():
            array[...] = before[name]
        return value

    return function


def _checked(gradient: Mapping[str, Any], arrays: _Arrays) -> _Arrays:
    """Return the gradient's arrays, named and shaped as the parameters."""
    missing = [name for name in arrays if name not in gradient]
    unknown = [str(name) for name in gradient if name not in arrays]
    if missing or unknown:
        raise ValueError(
            f"gradient must have the entries {', '.join(arrays)}; "
            f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}"
        )
    slopes = {name: _float64(f"gradient of {name}", gradient[name]) for name in arrays}
    for name, slope in slopes.items():
        if slope.shape != arrays[name].shape:
            raise ValueError(
                f"gradient of {name} must have its shape {arrays[name].shape}; found {slope.shape}"
            )
    return slopes


def _float64(name: str, value: Any) -> np.ndarray:
    """Return a copy of an array, in float64."""
    return np.array(checks.numbers_array(name, value), np.float64, order="C")


# -- adapters --------------------------------------------------------------------------------------


def _network_problem(net: Network, X: Any, y: Any) -> _Problem:
    twin = Network(**{**net.config, "dtype": "float64"}, backend=net.backend)
    twin.from_vector(net.to_vector())
    arrays = {f"W{l}": W for l, W in enumerate(twin.weights, start=1)}
    arrays |= {f"b{l}": b for l, b in enumerate(twin.biases, start=1)}

    def gradient() -> tuple[Mapping[str, Any], _Spoilt]:
        found = twin.gradient(X, y)
        return dict(zip(arrays, [*found.weights, *found.biases], strict=True)), {}

    return _Problem(arrays, lambda: twin.loss(X, y), gradient)


def _model_problem(model: Any, X: Any, y: Any) -> _Problem:
    twin = copy.deepcopy(model)
    for layer in getattr(twin, "layers", ()):
        _in_float64(layer, getattr(layer, "parameters", ()))
    for name, array in twin.params.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.float64:
            found = getattr(array, "dtype", type(array).__name__)
            raise TypeError(f"params[{name!r}] must be a float64 array; found {found}")
    return _Problem(
        dict(twin.params), lambda: twin.loss(X, y), lambda: (twin.gradient(X, y), {})
    )  # fmt: skip


def _layer_problem(layer: Any, X: Any, y: Any) -> _Problem:
    layer, fixed = copy.deepcopy(layer), () if y is None else (y,)
    inputs = [_float64("X", x) for x in (X if isinstance(X, tuple) else (X,))]
    names = list(inspect.signature(layer.forward).parameters)[: len(inputs)]
    parameters = _in_float64(layer, _learnt(layer, inputs, fixed))
    arrays = dict(zip(names, inputs, strict=True)) | parameters
    shape = np.shape(layer.forward(*(x.copy() for x in inputs), *fixed))
    # Near 1, so that no output's gradient is lost, and no two alike.
    weights = np.random.default_rng(1).uniform(0.5, 1.5, shape) if shape else np.array(1.0)

    def gradient() -> tuple[Mapping[str, Any], _Spoilt]:
        out = np.asarray(layer.forward(*inputs, *fixed))
        kept, dout = out.copy(), weights.copy()
        dx = layer.backward(dout[()])
        dx = dx if isinstance(dx, tuple) else (dx,)
        if len(dx) != len(inputs):
            raise ValueError(f"backward must return {len(inputs)} gradients; found {len(dx)}")
        found = dict(zip(names, dx, strict=True))
        found |= {name: getattr(layer, f"d{name}") for name in parameters}
        pairs = {"dout": (weights, dout), "out": (kept, out)}
        return found, {k: pair for k, pair in pairs.items() if not np.array_equal(*pair)}

    return _Problem(
        arrays, lambda: np.sum(weights * layer.forward(*inputs, *fixed)), gradient
    )  # fmt: skip


def _learnt(layer: Any, inputs: list[np.ndarray], fixed: tuple[Any, ...]) -> Sequence[str]:
    """Return the names of a layer's own arrays that have a gradient.

    They are its `parameters`, or every `W` beside a `dW` that does not come anew with each call.
    """

    def run() -> dict[str, Any]:
        out = layer.forward(*(x.copy() for x in inputs), *fixed)
        layer.backward(np.ones(np.shape(out))[()])
        names = [k[1:] for k in vars(layer) if k[:1] == "d" and hasattr(layer, k[1:])]
        return {name: getattr(layer, name) for name in names}

    first, second = run(), run()
    kept = [name for name, array in second.items() if array is first.get(name)]
    return getattr(layer, "parameters", kept)


def _in_float64(layer: Any, names: Iterable[str]) -> _Arrays:
    """Return a layer's arrays by name, made float64 in the layer itself."""
    for name in names:
        setattr(layer, name, _float64(name, getattr(layer, name)))
        if getattr(layer, name).dtype != np.float64:
            raise TypeError(f"{name} must be float64; found {getattr(layer, name).dtype}")
    return {name: getattr(layer, name) for name in names}


def _pair_problem(pair: Any, params: Any, y: Any) -> _Problem:
    if y is not None:
        raise TypeError("y must be None with a pair (function, gradient): X holds the parameters")
    if params is None:
        raise TypeError("X must hold the parameters at which (function, gradient) are checked")
    function, slope = pair
    parts, rebuild = _parts(params)
    arrays = {name: _float64(name, part) for name, part in parts.items()}
    return _Problem(
        arrays, lambda: function(rebuild(arrays)), lambda: (_parts(slope(rebuild(arrays)))[0], {})
    )  # fmt: skip


def _parts(params: Any) -> tuple[dict[str, Any], Callable[[_Arrays], Any]]:
    """Return the arrays of a structure by name, and what rebuilds it from such a dict."""
    if isinstance(params, Mapping):
        names = {str(key): key for key in params}
        parts = {name: params[key] for name, key in names.items()}
        return parts, lambda arrays: {key: arrays[name] for name, key in names.items()}
    if isinstance(params, (list, tuple)) and any(np.ndim(part) for part in params):
        parts = {f"[{i}]": part for i, part in enumerate(params)}
        return parts, lambda arrays: type(params)(arrays.values())
    return {"params": params}, lambda arrays: arrays["params"]


def _is_pair(target: Any) -> bool:
    return isinstance(target, (tuple, list)) and len(target) == 2 and all(map(callable, target))


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda target: all(hasattr(target, name) for name in names)


_ADAPTERS: list[tuple[Callable[[Any], bool], Callable[[Any, Any, Any], _Problem]]] = [
    (lambda target: isinstance(target, Network), _network_problem),
    (_is_pair, _pair_problem),
    (_has("params", "loss", "gradient"), _model_problem),
    (_has("forward", "backward"), _layer_problem),
]
