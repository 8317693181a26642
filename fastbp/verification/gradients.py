"""Gradient checking for anybody's code: an analytic gradient against central differences."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .. import reference
from .._support import checks
from .._support.differences import KINK, SAME, STEP, ArrayCheck, Comparison, number, steady
from .._support.shown import html
from ..model.config import Config
from ..model.scaling import standardised
from ..network import Network
from .cases import named
from .kinks import Held, Sides, holding
from .masked import Masked

TOLERANCE = 1e-7  # on max|analytic - numerical| / max|analytic| of an array
_HEAD = "parameter", "count", "checked", "error", "worst at", "analytic", "numerical"
_LINE = "{:<12}{:>8}  {:<18}{:>9}  {:<14}{:>14}{:>14}{}"


@dataclass(frozen=True, repr=False)
class GradientReport:
    """What `gradcheck` found; print it for a table.

    Attributes
    ----------
    layers : tuple of ArrayCheck
        One per array, with `name`, `size`, `checked`, `status`, `error`, `index`, `analytic`,
        `numerical`, `kinks` and `ok`.
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
        """Whether nothing is wrong: no array differs, and none was overwritten.

        Arrays in `undecided` are not wrong as far as differences can decide; see `verdict`.
        """
        return not self.failures

    @property
    def verdict(self) -> str:
        """`"ok"`, `"undecided at a kink"` if nothing is wrong but for what it names, `"NOT ok"`."""
        return ("ok" if not self.undecided else KINK) if self.ok else "NOT ok"

    @property
    def failures(self) -> tuple[ArrayCheck, ...]:
        """The arrays that are not ok."""
        return tuple(array for array in self.layers if not array.ok)

    @property
    def undecided(self) -> tuple[ArrayCheck, ...]:
        """The arrays with entries, `kinks`, at which differences cannot decide."""
        return tuple(array for array in self.layers if array.status == KINK)

    def __str__(self) -> str:
        """Return a table, one line per array."""
        notes = [note and f"  {note}" for note in map(_note, self.layers)]
        rows = [(*row, note) for row, note in zip(map(_row, self.layers), notes, strict=True)]
        return "\n".join([*(_LINE.format(*row) for row in [(*_HEAD, ""), *rows]), self._result()])

    def _result(self) -> str:
        largest = f"largest error {self.max_error:.2e}, allowed {self.tolerance:.0e}"
        return f"{self.verdict}: {largest}"

    def __repr__(self) -> str:
        return f"<GradientReport of {len(self.layers)} arrays, {self._result()}>"

    def _repr_html_(self) -> str:
        rows = [(*_row(c), _note(c)) for c in self.layers]
        return html((*_HEAD, ""), rows, below=self._result())


def _row(c: ArrayCheck) -> tuple[object, ...]:
    place = "a direction" if c.index is None else str(c.index)
    values = f"{c.analytic:.6e}", f"{c.numerical:.6e}"
    return c.name, c.size, c.checked, f"{c.error:.2e}", place, *values


def _note(c: ArrayCheck) -> str:
    if c.status != KINK:
        values = ": before, after" if c.status == "overwritten" else ""
        return "" if c.ok else f"<-- {c.status}{values}"
    more = f" and {len(c.kinks) - 3} more" if len(c.kinks) > 3 else ""
    return f"{KINK}: {', '.join(map(str, c.kinks[:3])) or 'directions'}{more}"


def gradcheck(
    target: Any, X: Any = None, y: ArrayLike | None = None, tolerance: float = TOLERANCE, *,
    max_entries: int = 1000, directions: int = 10, seed: int = 0,
) -> GradientReport:  # fmt: skip
    """Compare an analytic gradient with central differences, in float64.

    df/dp is compared with (f(p + h) - f(p - h)) / 2h: entry by entry in arrays of up to
    `max_entries`; larger ones at a few random entries and along random directions, where a
    mismatch is traced to an entry by halving.

    Parameters
    ----------
    target : Network, Sequential-like, layer, or (function, gradient)
        What is checked; it is not changed.

        - A `Network`, which is checked in float64 on the same backend.
        - An object with `params` (a dict of float64 arrays that it computes with), `loss(X, y)`,
          and `gradient(X, y)` (a dict with the keys of `params`). A `Sequential` is converted.
        - A layer with `forward(x)` and `backward(dout)`, which returns dx: a random weighting of
          its outputs is differentiated. X is the input, or a tuple of inputs; y, if given, is
          passed to `forward` last. Each attribute `W` that has a partner `dW` is a parameter.
        - `function(params)` returns a number, `gradient(params)` arrays structured as params.
    X : array, or tuple of arrays; for a pair: array, or dict, list or tuple of arrays
        A few samples; for a pair the parameters at which it is checked.
    y : array, optional
        Labels or targets.
    tolerance : float, default 1e-7
        On `max|analytic - numerical| / max|analytic|` of each array. The denominator is at least
        1e-5 of the function's value, because rounding hides smaller gradients.
    max_entries : int, default 1000
    directions : int, default 10
        Number of random directions for each large array.
    seed : int, default 0
        Seed of the random directions and entries.

    Returns
    -------
    GradientReport
        With `verdict`, `ok`, `max_error`, `layers`, `failures`, `undecided`; `str()` gives a table.

    Raises
    ------
    TypeError
        If the target is of another kind, or something does not consist of float64 numbers.
    ValueError
        If an array has no entries, a value is not finite or not a scalar, function or gradient
        give different values for the same parameters or the function jumps, or the gradient lacks
        an array or has another shape than its parameter. (A gradient that is not finite raises
        nothing: the report gives its place.)

    Notes
    -----
    Of a network with dropout, loss and gradient are those of a step of training, which leaves out
    the same neurons each time.

    An entry whose step crosses a kink, as that of ReLU, is checked again: in a `Network`, and in
    the nodes of `fastbp.layers`, with each function held on its side, which decides it; in other
    code, and for functions of your own, with smaller steps. Where the kink is nearer than any step
    that rounding leaves, a gradient between the two sides is "undecided at a kink": the verdict
    says so, and the entry is listed in `kinks`. That is no failure; other parameters or samples may
    decide.

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
    effort = (
        checks.positive_float("tolerance", tolerance),
        checks.positive_int("max_entries", max_entries),
        checks.positive_int("directions", directions),
        np.random.default_rng(seed),
    )
    problem, analytic, overwritten = _first_calls(_problem(target, X, y))
    held = problem.held() if problem.held else (problem.function, False)
    arrays, how = problem.arrays, (problem.function, *held, *effort)
    rows = {k: Comparison(k, x, analytic[k], *how).row() for k, x in arrays.items()}
    for name, (before, after) in overwritten.items():
        place = tuple(int(i) for i in np.argwhere(before != after)[0])
        row = rows.get(name) or ArrayCheck(name, before.size, "all", "ok", 0.0, (), 0.0, 0.0)
        found: dict[str, Any] = {"analytic": float(before[place]), "numerical": float(after[place])}
        rows[name] = replace(row, status="overwritten", index=place, **found)
    return GradientReport(tuple(rows.values()), effort[0])


_Arrays: TypeAlias = dict[str, np.ndarray]
_Overwritten: TypeAlias = dict[str, tuple[np.ndarray, np.ndarray]]  # before and after


class _Problem(NamedTuple):
    """What an adapter makes of a target; the rest is common to all targets."""

    arrays: _Arrays  # by name, float64: `function` depends on what is written into them
    function: Callable[[], Any]  # returns a number
    gradient: Callable[[], Mapping[str, Any]]
    overwritten: _Overwritten  # arrays of the caller that `gradient` found changed
    # Returns the function with what has a kink held on its side, and whether something is at one.
    held: Callable[[], Held] | None = None


def _problem(target: Any, X: Any, y: Any) -> _Problem:
    def has(*names: str) -> bool:
        return not isinstance(target, type) and all(hasattr(target, name) for name in names)

    if isinstance(target, Network):
        problem = _network_problem(target, X, y)
    elif isinstance(target, (tuple, list)) and len(target) == 2 and all(map(callable, target)):
        problem = _pair_problem(target, X, y)
    elif has("params", "loss", "gradient"):
        problem = _model_problem(target, X, y)
    elif has("forward", "backward"):
        problem = _layer_problem(target, X, y)
    else:
        raise TypeError(
            "target must be a fastbp.Network, an object with params, loss(X, y) and "
            "gradient(X, y), a layer with forward(x) and backward(dout), or a pair (function, "
            f"gradient); got {type(target).__name__}"
        )
    if not problem.arrays:
        raise ValueError("there is nothing to check: no parameters")
    for name, array in problem.arrays.items():
        if not array.size:
            raise ValueError(f"{name} has no entries: its shape is {array.shape}")
        checks.finite(name, np.atleast_1d(array))
    return problem


def _first_calls(problem: _Problem) -> tuple[_Problem, _Arrays, _Overwritten]:
    """Return a problem safe to go on with, its gradient, and what the code overwrote."""
    arrays, overwritten = problem.arrays, dict[str, tuple[np.ndarray, np.ndarray]]()

    def restoring(call: Callable[[], Any]) -> Any:
        before = copy.deepcopy(arrays)
        value = call()
        for name, array in arrays.items():
            if not np.array_equal(before[name], array):
                overwritten.setdefault(name, (before[name], array.copy()))
                array[...] = before[name]
        return value

    def function() -> Any:
        return restoring(problem.function)

    value = number(function())
    _check_values(function, value, arrays)
    first, again = (restoring(lambda: _checked(problem.gradient(), arrays)) for _ in range(2))
    for name, slope in first.items():
        with np.errstate(all="ignore"):
            apart = np.abs(slope - again[name]) > SAME * np.abs(slope).max()
        if apart.any():
            raise ValueError(
                f"the gradient of {name} is different for the same parameters, such as "
                f"{float(slope[apart][0])} and {float(again[name][apart][0])}: let each call begin "
                "anew, with the same random numbers"
            )
    steady(function, value)  # after the gradient, which may have changed what it must not
    overwritten |= problem.overwritten
    return problem._replace(function=function) if overwritten else problem, first, overwritten


def _check_values(function: Callable[[], Any], value: float, arrays: _Arrays) -> None:
    """Raise if a function is random, there or nearby, or knows no more digits than float32."""
    before, rng = copy.deepcopy(arrays), np.random.default_rng(0)
    steady(function, value)
    nearby = []
    for sign in (1, -1):
        for array in arrays.values():
            array += sign * STEP * rng.uniform(1, 2, array.shape)
        nearby.append(steady(function))
        for name, array in arrays.items():
            array[...] = before[name]
    with np.errstate(all="ignore"):
        single = all(float(np.float32(v)) == v for v in (value, *nearby))
    if single and value not in nearby and any(v % 1 for v in nearby):
        raise TypeError(
            "function must compute in float64; its values have no more digits than float32"
        )


def _checked(gradient: Mapping[str, Any], arrays: _Arrays) -> _Arrays:
    """Return the gradient's arrays, named and shaped as the parameters."""
    if set(arrays) != set(gradient):
        missing = ", ".join(name for name in arrays if name not in gradient) or "none"
        unknown = ", ".join(str(name) for name in gradient if name not in arrays) or "none"
        wanted = f"gradient must have the entries {', '.join(arrays)}"
        raise ValueError(f"{wanted}; missing: {missing}, unknown: {unknown}")
    slopes = {name: _float64(f"gradient of {name}", gradient[name]) for name in arrays}
    for name, slope in slopes.items():
        if slope.shape != (shape := arrays[name].shape):
            raise ValueError(f"gradient of {name} must have its shape {shape}; got {slope.shape}")
    return slopes


def _float64(name: str, value: Any) -> np.ndarray:
    return np.array(checks.numbers_array(name, value), np.float64, order="C")


def _network_problem(net: Network, X: Any, y: Any) -> _Problem:
    alike = {**net.config, "dtype": "float64", "scale": net.scaling or net.config["scale"]}
    twin = Network(**alike, backend=net.backend)
    twin.from_vector(net.to_vector())
    arrays = named(twin.weights, twin.biases)
    if twin.config["dropout"]:
        masked = Masked(twin, X, y)
        function, find, masks = masked.loss, masked.gradient, masked.masks
    else:
        function, find, masks = (lambda: twin.loss(X, y)), (lambda: twin.gradient(X, y)), None

    def gradient() -> Mapping[str, Any]:
        found = find()
        return named(found.weights, found.biases)

    return _Problem(arrays, function, gradient, {}, lambda: _held(twin, X, y, function, masks))


def _held(
    net: Network, X: Any, y: Any, function: Callable[[], float], masks: reference.Masks
) -> Held:
    """Return a network's loss with each function held on its side of its kink."""
    config, sides = Config.checked(**net.config), Sides()
    rows, targets = checks.batch(X, y, config)
    rows = standardised(net.scaling, rows, net.dtype)
    model, values = config.model(), targets.rows(slice(None), config.sizes[-1])
    biases = net.biases or [np.zeros(n) for n in config.sizes[1:]]

    def loss() -> float:
        a = rows * config.input_scale
        for l, (W, b) in enumerate(zip(net.weights, biases, strict=True)):
            z = a @ W.T + b
            if l < len(biases) - 1:
                a = sides.activate(l, model.activations[l], z)
                if masks and (mask := masks[l]) is not None:
                    a *= mask
        return sides.mean_loss(model, z, values)

    if not np.isclose(loss(), value := function(), rtol=1e-9, atol=1e-9 * abs(value)):
        return function, False  # it is not this loss that is differentiated
    return loss, sides.at_kink


def _model_problem(model: Any, X: Any, y: Any) -> _Problem:
    twin = copy.deepcopy(model)
    layers = getattr(twin, "layers", ())
    for layer in layers:
        _in_float64(layer, getattr(layer, "parameters", ()))
    for name, array in twin.params.items():
        if not isinstance(array, np.ndarray) or array.dtype != np.float64:
            kind = getattr(array, "dtype", type(array).__name__)
            raise TypeError(f"params[{name!r}] must be a float64 array; got {kind}")

    def function() -> Any:
        return twin.loss(X, y)

    nodes = [*layers, getattr(twin, "loss_layer", None)]
    gradient, held = lambda: twin.gradient(X, y), holding(nodes, function)
    return _Problem(dict(twin.params), function, gradient, {}, held)


def _layer_problem(layer: Any, X: Any, y: Any) -> _Problem:
    layer, fixed = copy.deepcopy(layer), () if y is None else (y,)
    inputs = [_float64("X", x) for x in (X if isinstance(X, tuple) else (X,))]
    names = list(inspect.signature(layer.forward).parameters)[: len(inputs)]
    parameters = _in_float64(layer, _learnt(layer, inputs, fixed))
    arrays, data = dict(zip(names, inputs, strict=True)) | parameters, (*inputs, *fixed)
    overwritten: _Overwritten = {}
    shape = np.shape(layer.forward(*(x.copy() for x in inputs), *fixed))
    # Near 1, so that no output's gradient is lost, and no two are equal.
    weights = np.random.default_rng(1).uniform(0.5, 1.5, shape) if shape else np.array(1.0)

    def gradient() -> Mapping[str, Any]:
        out = np.asarray(layer.forward(*data))
        kept, dout = out.copy(), weights.copy()
        dx = layer.backward(dout[()])
        dx = dx if isinstance(dx, tuple) else (dx,)
        if len(dx) != len(inputs):
            raise ValueError(f"backward must return {len(inputs)} gradients; got {len(dx)}")
        pairs = {"dout": (weights, dout), "out": (kept, out)}
        overwritten.update({k: pair for k, pair in pairs.items() if not np.array_equal(*pair)})
        slopes = {name: getattr(layer, f"d{name}") for name in parameters}
        return dict(zip(names, dx, strict=True)) | slopes

    def function() -> Any:
        return np.sum(weights * layer.forward(*data))

    return _Problem(arrays, function, gradient, overwritten, holding([layer], function))


def _learnt(layer: Any, inputs: list[np.ndarray], fixed: tuple[Any, ...]) -> Sequence[str]:
    """Return a layer's `parameters`, or every `W` beside a `dW` that is not replaced at a call."""

    def run() -> dict[str, Any]:
        out = layer.forward(*(x.copy() for x in inputs), *fixed)
        layer.backward(np.ones(np.shape(out))[()])
        names = [k[1:] for k in vars(layer) if k[:1] == "d" and hasattr(layer, k[1:])]
        return {name: getattr(layer, name) for name in names}

    first, second = run(), run()
    kept = [name for name, array in second.items() if array is first.get(name)]
    return getattr(layer, "parameters", kept)


def _in_float64(layer: Any, names: Iterable[str]) -> _Arrays:
    """Convert a layer's arrays to float64 in the layer itself; return them by name."""
    for name in names:
        setattr(layer, name, _float64(name, getattr(layer, name)))
        if getattr(layer, name).dtype != np.float64:
            raise TypeError(f"{name} must be float64; got {getattr(layer, name).dtype}")
    return {name: getattr(layer, name) for name in names}


def _pair_problem(pair: Any, params: Any, y: Any) -> _Problem:
    if y is not None:
        raise TypeError("y must be None with a pair (function, gradient): X holds the parameters")
    if params is None:
        raise TypeError("X must hold the parameters at which (function, gradient) are checked")
    (f, df), (parts, rebuild) = pair, _parts(params)
    arrays = {name: _float64(name, part) for name, part in parts.items()}
    return _Problem(arrays, lambda: f(rebuild(arrays)), lambda: _parts(df(rebuild(arrays)))[0], {})


def _parts(params: Any) -> tuple[dict[str, Any], Callable[[_Arrays], Any]]:
    """Return the arrays of a structure by name, and what rebuilds it from such a dict."""
    if isinstance(params, Mapping):
        parts = {str(key): part for key, part in params.items()}
        return parts, lambda arrays: dict(zip(params, arrays.values(), strict=True))
    if isinstance(params, (list, tuple)) and any(np.ndim(part) for part in params):
        parts = {f"[{i}]": part for i, part in enumerate(params)}
        return parts, lambda arrays: type(params)(arrays.values())
    return {"params": params}, lambda arrays: arrays["params"]
