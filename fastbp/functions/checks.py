"""What is asked of functions of the user's before anything trains with them."""

import dis
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._support.differences import LADDER, STEP, Slopes
from .._support.texts import said
from ..reference import own_code

# Where functions are looked at: none of the first is a likely kink, and the others are.
ORDINARY = np.concatenate([k * np.sqrt(2.0) * np.arange(-20.5, 21) for k in (0.015, 0.15, 1.0)])
ROUND = np.array([-30.0, -6.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 6.0, 30.0])
PLACES = np.concatenate([ORDINARY, ROUND])
# Pairs of an output and its target.
TARGETS = np.array([-29.3, -2.2, -1.0, 0.0, 0.3, 1.0, 7.1, 30.0])
PAIRS = np.array([(a, y) for a in np.sort(np.concatenate([PLACES[::3], ROUND])) for y in TARGETS])

TOLERANCE = 1e-6  # of a slope; of one near zero, of this share of the largest, up to 1
LEAST = 1e-3
SAME = 1e-9  # relative: compiled, and on arrays, functions give what Python's give
_RAISES = "RAISE_VARARGS", "LOAD_ASSERTION_ERROR"


class Role:
    """A function of the user's, with the name of the argument and of what it takes."""

    def __init__(self, name: str, function: Any, takes: Sequence[str], least: int = 0) -> None:
        self.name, self.takes = name, takes
        counts = range(least or len(takes), len(takes) + 1)
        self.count = self._count(function, counts)
        self.call = _with_arguments(function, self.count)
        self._check_code()

    def _count(self, function: Any, counts: range) -> int:
        """Return how many arguments a function takes, the most it can."""
        example = f"such as lambda {', '.join(self.takes[: counts[0]])}: ..."
        python = own_code.plain(function)
        if not (own_code.is_library(python) or inspect.isfunction(python)):
            got = said(repr(function))
            raise TypeError(f"{self.name} must be a function, {example}; got {got}")
        if isinstance(python, np.ufunc):
            least = most = python.nin
        else:
            least, most = _positional(python)
        for count in reversed(counts):
            if least <= count <= most:
                return count
        wanted = " or ".join(f"({', '.join(self.takes[:n])})" for n in counts)
        raise TypeError(
            f"{self.name} must take {wanted}, {example}; this one takes "
            f"{least if least == most else f'{least} to {most}'} arguments"
        )

    def _check_code(self) -> None:
        for function in own_code.all_used(self.call):
            for code in own_code.codes(function.__code__):
                for step in dis.get_instructions(code):
                    if step.opname in _RAISES or step.argval is AssertionError:
                        raise ValueError(
                            f"{self.name} has a `raise` or an `assert` in its code, which cannot "
                            f"stop training: let it return a number wherever it is called"
                        )

    def at(self, place: Sequence[float]) -> str:
        """Return a place in words."""
        return f"at {', '.join(f'{n} = {x:.6g}' for n, x in zip(self.takes, place, strict=False))}"

    def values(self, places: np.ndarray) -> np.ndarray:
        """Return the function's values at the rows of `places`; raise where they are none."""
        kinds = set()
        found = np.empty(len(places))
        for i, place in enumerate(places[:, : self.count].tolist()):
            value = self._value(place)
            kinds.add(isinstance(value, (int, np.integer)))
            found[i] = float(value)
            if not math.isfinite(found[i]):
                raise ValueError(f"{self.name} must be finite; it is {value} {self.at(place)}")
        if kinds == {True}:
            raise TypeError(
                f"{self.name} must return a float; it returns int, {value}: write {value}.0"
            )
        return found

    def _value(self, place: Sequence[float]) -> Any:
        try:
            with np.errstate(all="ignore"):
                value = self.call(*place)
        except Exception as error:
            kind = f"{type(error).__name__}: {said(error)}"
            raise ValueError(f"{self.name} raises {kind}, {self.at(place)}") from error
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        real = isinstance(value, (int, float, np.integer, np.floating))
        if isinstance(value, bool) or not real:
            raise TypeError(
                f"{self.name} must return a float; it returns {type(value).__name__}, "
                f"{said(repr(value), 60)}, {self.at(place)}"
            )
        return value


def _positional(function: Any) -> tuple[int, int]:
    """Return how many arguments a function takes by position, at least and at most."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some of Python's own say nothing
        return 1, 1
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    others = [p for p in needed if p not in places and p.kind is not p.VAR_KEYWORD]
    if others:  # by keyword alone
        return len(needed), 0
    return len([p for p in needed if p in places]), len(places)


def _with_arguments(function: Any, count: int) -> Callable[..., Any]:
    """Return the Python function; one that calls it, if it is one of Python's or NumPy's own."""
    function = own_code.plain(function)
    if not own_code.is_library(function):
        return function  # type: ignore[no-any-return]
    if count == 1:
        return lambda z: function(z)
    return lambda z, a: function(z, a)


def steady_values(role: Role, places: np.ndarray) -> np.ndarray:
    """Return a function's values; raise unless it gives the same again."""
    found, again = role.values(places), role.values(places)
    for i in np.flatnonzero(again != found)[:1]:
        raise ValueError(
            f"{role.name} must depend on its arguments alone; two calls give {found[i]:.6g} and "
            f"{again[i]:.6g} {role.at(places[i])}"
        )
    return found


def check_slope(role: Role, given: Role, places: np.ndarray, slopes: np.ndarray) -> None:
    """Raise unless the slopes are those of a function in its first argument."""
    largest = float(np.abs(slopes).max())
    for place, slope in zip(places, slopes.tolist(), strict=True):
        first, *others = place.tolist()

        def along(t: float) -> float:
            return float(role._value([first + t, *others][: role.count]))  # noqa: B023

        h = STEP * max(1.0, abs(first)) * LADDER
        measured = Slopes.of(along, h, along(0.0), np.finfo(float).eps * abs(first) * abs(slope))
        numerical, uncertainty = measured.best()
        scale = max(abs(numerical), LEAST * min(largest, 1.0))
        if not abs(slope - numerical) > TOLERANCE * scale + uncertainty:
            continue
        if (kink := measured.kink()) is not None:
            sides = measured.sides[:, : kink[0] + 1]
            room = TOLERANCE * scale + 1e-3 * abs(slope)
            if ((sides.min(axis=0) - room <= slope) & (slope <= sides.max(axis=0) + room)).any():
                continue
        raise ValueError(
            f"{given.name} is {slope:.6g} {role.at(place)}, but {role.name} changes by "
            f"{numerical:.6g} there: it must be the derivative of {role.name} in {role.takes[0]}"
        )


def are_same(found: np.ndarray, wanted: np.ndarray) -> Any:
    """Return where two ways to compute a function agree."""
    return np.isclose(found, wanted, rtol=SAME, atol=SAME)


def check_same(role: Role, places: np.ndarray, found: np.ndarray, compiled: np.ndarray) -> None:
    """Raise unless compiled code gives what Python gives."""
    for i in np.flatnonzero(~are_same(compiled, found))[:1]:
        raise ValueError(
            f"{role.name} must give the same numbers compiled; it gives {compiled[i]:.6g} "
            f"{role.at(places[i])}, and {found[i]:.6g} in Python"
        )
