"""What schedules and callbacks were made with, as JSON holds it: to tell a training from others."""

import copyreg
import hashlib
import inspect
import json
import math
import reprlib
import types
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

import numpy as np

from ..history import Best
from .state import digest

LONGEST = 400  # characters of a setting; of a longer one a hash is kept
_SCALARS = bool, int, float, str
_DATA = *_SCALARS, Mapping, list, tuple, Set, np.ndarray, np.generic


class _Reader:
    """Describes settings; in those that nothing can be said of, `strict` raises a TypeError."""

    def __init__(self, strict: bool) -> None:
        self._strict, self._inside = strict, list[int]()

    def thing(self, thing: Any, where: str) -> dict[str, Any]:
        """Return class and attributes of an object, and how its class is defined, if a user's."""
        found: dict[str, Any] = {"class": type(thing).__name__}
        # What is told to a checkpoint by itself is no setting; a private name may be part of it.
        memory = thing.state() if hasattr(thing, "set_state") else None
        private: dict[str, Any] = {}
        for name, value in _attributes(thing):
            kept = (
                memory is not None and name in memory and not isinstance(value, (*_SCALARS, Best))
            )
            if name[0] != "_" and not kept:
                found[name] = self.value(value, f"{where}.{name}")
            elif memory is None:
                private[name] = self.value(value, f"{where}.{name}")
        plain: Any = object.__reduce__
        if type(thing).__reduce__ is not plain:  # it holds more than attributes
            private["parts"] = self.each(_reduced(thing) or (), where)
        own = _definition(type(thing))
        if definition := private | {k: _Reader(False).value(v, k) for k, v in own.items()}:
            found["definition"] = _short(definition)
        return found

    def value(self, value: Any, where: str) -> Any:
        """Return what JSON can hold of a value."""
        if id(value) in self._inside:
            return "itself"
        self._inside.append(id(value))
        try:
            for kinds, describe in _KINDS:
                if isinstance(value, kinds):
                    return _short(describe(self, value, where))
            parts = _reduced(value)
            return _short(self.each(parts, where)) if parts else self._unknown(value, where)
        finally:
            self._inside.pop()

    def each(self, values: Any, where: str) -> list[Any]:
        """Return the descriptions of several values."""
        return [self.value(value, f"{where}[{i}]") for i, value in enumerate(values)]

    def pairs(self, values: Mapping[Any, Any], where: str) -> list[Any]:
        """Return the descriptions of keys and values."""
        return [[self.value(k, where), self.value(v, f"{where}[{k!r}]")] for k, v in values.items()]

    def function(self, function: types.FunctionType, where: str) -> list[Any]:
        """Return a digest of a function's code, and what it knows from outside."""
        known = inspect.getclosurevars(function)
        data = {name: value for name, value in known.globals.items() if isinstance(value, _DATA)}
        outside = [function.__defaults__, function.__kwdefaults__, known.nonlocals]
        rest = _Reader(False).value(data, where)
        return [_code(function.__code__), self.value(outside, where), rest]

    def builtin(self, function: Any, where: str) -> Any:
        """Return the name of a function that has nothing to remember."""
        bound = getattr(function, "__self__", None)
        if bound is None or inspect.ismodule(bound):
            return f"{function.__module__}.{function.__qualname__}"
        return self._unknown(function, where)

    def array(self, array: Any, where: str) -> Any:
        """Return a digest of an array, or of the objects in it."""
        return self.each(array.tolist(), where) if array.dtype.hasobject else digest(array[None])

    def _unknown(self, value: Any, where: str) -> str:
        if self._strict:
            raise TypeError(
                f"{where} is {reprlib.repr(value)}: a training checkpoint can keep nothing of it "
                "that tells it from others. Use numbers, texts, lists, dicts, arrays or functions "
                "there, or train without checkpoint and resume"
            )
        return type(value).__qualname__


_NAMED = type, types.ModuleType, np.ufunc
# How values are described, by their kinds.
_KINDS: list[tuple[Any, Callable[[_Reader, Any, str], Any]]] = [
    (float, lambda to, x, where: float(x) if math.isfinite(x) else repr(float(x))),
    ((*_SCALARS, type(None)), lambda to, x, where: x),
    (np.number | np.bool_, lambda to, x, where: to.value(x.item(), where)),
    (Best, lambda to, x, where: {"monitor": x.monitor, "min_delta": x.min_delta}),
    (Mapping, lambda to, x, where: to.pairs(x, where)),
    ((list, tuple), lambda to, x, where: to.each(x, where)),
    (Set, lambda to, x, where: sorted(map(json.dumps, to.each(x, where)))),
    (np.ndarray, lambda to, x, where: to.array(x, where)),
    (types.FunctionType, lambda to, x, where: to.function(x, where)),
    (types.MethodType, lambda to, x, where: to.each([x.__self__, x.__func__], where)),
    (types.BuiltinFunctionType, lambda to, x, where: to.builtin(x, where)),
    (_NAMED, lambda to, x, where: f"{getattr(x, '__module__', '')}.{x.__name__}"),
    ((bytes, complex, range, slice, np.generic), lambda to, x, where: repr(x)),
]  # fmt: skip


def settings(thing: Any, where: str = "", strict: bool = False) -> dict[str, Any]:
    """Return the class of a schedule or callback, and what it was made with."""
    return _Reader(strict).thing(thing, where)


def _reduced(value: Any) -> list[Any]:
    """Return what pickle would make a value of; nothing if it cannot, or reading uses it up."""
    table: dict[Any, Callable[[Any], Any]] = copyreg.dispatch_table
    reduce = table.get(type(value), lambda value: value.__reduce_ex__(4))
    try:
        parts = "" if hasattr(value, "__next__") else reduce(value)
    except (TypeError, AttributeError):
        return []
    return (
        [parts]
        if isinstance(parts, str) and parts
        else [list(part) if hasattr(part, "__next__") else part for part in parts]
    )


def _slots(thing: Any) -> list[str]:
    found = [vars(kind).get("__slots__", ()) for kind in type(thing).__mro__]
    return [name for slots in found for name in ([slots] if isinstance(slots, str) else slots)]


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, (list, tuple, dict)):
        yield "items", dict(thing) if isinstance(thing, dict) else list(thing)
    yield from getattr(thing, "__dict__", {}).items()
    for name in _slots(thing):
        if not name.startswith("__") and hasattr(thing, name):
            yield name, getattr(thing, name)


def _definition(kind: type) -> dict[str, Any]:
    """Return what a user's class says for all its objects: values, and how it finds a rate."""
    found: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        if one.__module__.partition(".")[0] in ("fastbp", "builtins", "typing", "abc"):
            continue
        for name, value in vars(one).items():
            if name == "rate" or (isinstance(value, _DATA) and not name.startswith("__")):
                found[name] = getattr(value, "__func__", value)  # of a static method
    return found


def _code(code: types.CodeType) -> str:
    consts = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return hashlib.sha256(repr((code.co_code, code.co_names, consts)).encode()).hexdigest()[:16]


def _short(found: Any) -> Any:
    if isinstance(found, _SCALARS) or len(text := json.dumps(found)) <= LONGEST:
        return found
    return hashlib.sha256(text.encode()).hexdigest()
