"""Activations of the user's as expressions of ONNX's operators: what f does with a symbol."""

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import reference
from .._support.texts import said
from ..reference import own_code
from .operators import PROBES, Expression, Z, same, values

MOST = 8  # comparisons on which one outcome depends
_OPERATORS = {
    "abs": "Abs", "absolute": "Abs", "cos": "Cos", "erf": "Erf", "exp": "Exp", "fabs": "Abs",
    "log": "Log", "max": "Max", "maximum": "Max", "min": "Min", "minimum": "Min",
    "negative": "Neg", "pow": "Pow", "power": "Pow", "reciprocal": "Reciprocal", "sin": "Sin",
    "sqrt": "Sqrt", "tanh": "Tanh", "where": "Where",
}  # fmt: skip
_MADE: dict[str, Callable[[Any], Any]] = {
    "erfc": lambda x: 1.0 - _applied("Erf", x),
    "expm1": lambda x: _applied("Exp", x) - 1.0,
    "log1p": lambda x: _applied("Log", x + 1.0),
    "square": lambda x: x * x,
}
_COMPARISONS = "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"


def traced(activation: Any) -> Expression:
    """Return the expression of a user's activation; ValueError if operators of ONNX make none."""
    try:
        found = _explored(own_code.Copies(_symbolic).of(activation.roles[0].call), {})
        reference.activate(activation, PROBES, out := np.empty_like(PROBES))
        with np.errstate(all="ignore"):
            if not same(values(found), out):
                raise ValueError("its operators give other values")
    except Exception as error:  # of any kind: the function is the user's
        known = ", ".join(sorted({*_OPERATORS, *_MADE}))
        raise ValueError(
            f"{activation!r} cannot be written in ONNX, {said(error, 80)}: its f must be made of "
            f"+ - * / **, comparisons and {known}"
        ) from error
    return found


def _explored(function: Callable[[Any], Any], decided: dict[Expression, bool]) -> Expression:
    """Return what a function comes to, where these comparisons have these outcomes."""
    try:
        return _part(function(_Symbol(Z, decided)))
    except _Undecided as undecided:
        (condition,) = undecided.args
    if len(decided) == MOST:
        raise ValueError(f"it has more than {MOST} comparisons one after another")
    yes, no = (_explored(function, {**decided, condition: known}) for known in (True, False))
    return "Where", condition, yes, no


class _Undecided(Exception):
    """A function asks for the outcome of a comparison."""


def _operation(operator: str, swapped: bool = False) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        return _applied(operator, other, self) if swapped else _applied(operator, self, other)

    return method


class _Symbol:
    """A number that is not known: what is done with it becomes an expression."""

    __array_ufunc__ = None  # NumPy's numbers leave operations to it
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, expression: Expression, decided: dict[Expression, bool]) -> None:
        self.expression, self.decided = expression, decided

    def __bool__(self) -> bool:
        if self.expression not in self.decided:
            raise _Undecided(self.expression)
        return self.decided[self.expression]

    def __pos__(self) -> Any:
        return self

    def __neg__(self) -> Any:
        return _applied("Neg", self)

    def __abs__(self) -> Any:
        return _applied("Abs", self)

    __add__, __radd__ = _operation("Add"), _operation("Add", True)
    __sub__, __rsub__ = _operation("Sub"), _operation("Sub", True)
    __mul__, __rmul__ = _operation("Mul"), _operation("Mul", True)
    __truediv__, __rtruediv__ = _operation("Div"), _operation("Div", True)
    __pow__, __rpow__ = _operation("Pow"), _operation("Pow", True)
    __gt__, __ge__ = _operation("Greater"), _operation("GreaterOrEqual")
    __lt__, __le__ = _operation("Less"), _operation("LessOrEqual")
    __eq__ = _operation("Equal")

    def __ne__(self, other: object) -> Any:
        return not self == other


def _applied(operator: str, *inputs: Any) -> Any:
    """Return the symbol of what an operator gives; `max` and `min` take any number of inputs."""
    first, *others = inputs
    if operator in ("Max", "Min") and len(others) > 1:
        others = [_applied(operator, *others)]
    decided = next(x.decided for x in inputs if isinstance(x, _Symbol))
    condition = (_part(first, truth=True),) if operator == "Where" else (_part(first),)
    return _Symbol((operator, *condition, *map(_part, others)), decided)


def _part(value: Any, truth: bool = False) -> Expression:
    """Return a value as a part of an expression: a number, unless a truth value is wanted."""
    if isinstance(value, (int, float, np.integer, np.floating)):
        return float(value)
    if not isinstance(value, _Symbol):
        raise TypeError(f"it computes with {type(value).__name__}")
    if value.expression[0] in _COMPARISONS and not truth:
        return "Where", value.expression, 1.0, 0.0
    return value.expression


def _symbolic(value: Any) -> Any:
    """Return what takes the place of a function of Python's or NumPy's."""
    name = getattr(value, "__name__", None)
    if not isinstance(name, str) or name not in {*_OPERATORS, *_MADE}:
        return value
    if not any(getattr(module, name, None) is value for module in (math, np, builtins)):
        return value
    make = _MADE.get(name) or (lambda *inputs: _applied(_OPERATORS[name], *inputs))

    def function(*inputs: Any) -> Any:
        symbols = any(isinstance(x, _Symbol) for x in inputs)
        return make(*inputs) if symbols else value(*inputs)

    return function
