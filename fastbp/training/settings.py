"""What schedules and callbacks were made with, as JSON holds it: to tell a training from others."""

import functools
import hashlib
import json
import math
import reprlib
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

import numpy as np

from ..history import Best
from .state import digest

LONGEST = 400  # characters of a setting; of a longer one a hash is kept
_SCALARS = bool, int, float, str
_NAMED = type, types.ModuleType, np.ufunc, types.BuiltinFunctionType
_Say = Callable[[Any, str], Any]  # describes a part of a value, of which it gets the place


def settings(thing: Any, where: str = "", strict: bool = False) -> dict[str, Any]:
    """Return the class of a schedule or callback, and what it was made with.

    Of what says nothing of itself, such as a lock, only the type is returned; `strict` raises.
    """
    inside: list[int] = []  # the values around, for one may hold itself

    def say(value: Any, where: str) -> Any:
        if id(value) in inside:
            return "itself"
        inside.append(id(value))
        kinds = (describe for kinds, describe in _KINDS if isinstance(value, kinds))
        found = next(kinds, _object)(value, where, say)
        inside.pop()
        if found is _NOTHING and strict:
            raise TypeError(
                f"{where} is {reprlib.repr(value)}: a training checkpoint can keep nothing of it "
                "that tells it from others. Use numbers, texts, lists, dicts, arrays or functions "
                "there, or train without checkpoint and resume"
            )
        return type(value).__qualname__ if found is _NOTHING else _short(found)

    return {
        "class": type(thing).__name__,
        **{name: say(value, f"{where}.{name}") for name, value in _lasting(thing)},
    }


def code_digest(function: Any) -> str | None:
    """Return a digest of what an `Activation` or `Loss` computes; None if nothing tells it."""
    from ..reference.own_code import key  # with the few networks that have such functions

    text = key(*(role.call for role in function.roles))
    return text and hashlib.sha256(text.encode()).hexdigest()


def _lasting(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object was made with: of one with a memory, not what it remembers."""
    remembers = hasattr(thing, "set_state") and hasattr(thing, "state")
    memory = thing.state() if remembers else None
    for name, value in _attributes(thing):
        # What is told to a checkpoint by itself is no setting; else a private name may be one.
        told = memory is not None and name in memory and not isinstance(value, (*_SCALARS, Best))
        if not told and (memory is None or name[0] != "_"):
            yield name, value


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds, and what a user's class holds for all its objects."""
    for kind in reversed(type(thing).__mro__):
        if kind.__module__.partition(".")[0] in ("fastbp", "builtins", "typing", "abc"):
            continue
        for name, value in vars(kind).items():
            if isinstance(value, types.MemberDescriptorType):  # of __slots__
                if hasattr(thing, name):
                    yield name, getattr(thing, name)
            elif name == "rate" or not (name.startswith("__") or hasattr(value, "__get__")):
                yield name, getattr(value, "__func__", value)  # of a static method
    if isinstance(thing, (list, tuple, Mapping)):
        yield "items", dict(thing) if isinstance(thing, Mapping) else list(thing)
    yield from getattr(thing, "__dict__", {}).items()


def _short(found: Any) -> Any:
    if isinstance(found, _SCALARS) or len(text := json.dumps(found)) <= LONGEST:
        return found
    return hashlib.sha256(text.encode()).hexdigest()


def _each(values: Any, where: str, say: _Say) -> list[Any]:
    return [say(value, f"{where}[{i}]") for i, value in enumerate(values)]


def _pairs(values: Any, where: str, say: _Say) -> list[Any]:
    return [[say(key, where), say(value, f"{where}[{key!r}]")] for key, value in values.items()]


def _array(array: np.ndarray, where: str, say: _Say) -> Any:
    return _each(array.tolist(), where, say) if array.dtype.hasobject else digest(array[None])


def _function(function: Any, where: str, say: _Say) -> list[Any]:
    """Describe a function by its code, its defaults, and the variables around it."""
    code, cells = function.__code__, function.__closure__ or ()
    consts = [c.co_code.hex() if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    around = [cell.cell_contents for cell in cells]
    known = say([function.__defaults__, function.__kwdefaults__, around], where)
    return [code.co_code.hex(), list(code.co_names), consts, known]


def _object(value: Any, where: str, say: _Say) -> Any:
    plain: Any = object.__reduce__
    attributes = dict(_lasting(value))
    if not attributes or type(value).__reduce__ is not plain:  # it holds nothing, or more
        return _NOTHING
    return [type(value).__qualname__, _pairs(attributes, where, say)]


_NOTHING = object()
# How values are described, by the first of their kinds.
_KINDS: list[tuple[Any, Callable[[Any, str, _Say], Any]]] = [
    (float, lambda x, where, say: float(x) if math.isfinite(x) else repr(float(x))),
    ((*_SCALARS, type(None)), lambda x, where, say: x),
    ((np.number, np.bool_), lambda x, where, say: say(x.item(), where)),
    (Best, lambda x, where, say: {"monitor": x.monitor, "min_delta": x.min_delta}),
    (Mapping, _pairs),
    ((list, tuple, deque), _each),
    (Set, lambda x, where, say: sorted(map(json.dumps, _each(x, where, say)))),
    (np.ndarray, _array),
    (types.FunctionType, _function),
    (types.MethodType, lambda x, where, say: _each([x.__self__, x.__func__], where, say)),
    (functools.partial, lambda x, where, say: _each([x.func, x.args, x.keywords], where, say)),
    (np.random.Generator, lambda x, where, say: say(x.bit_generator.state, where)),
    (_NAMED, lambda x, where, say: f"{getattr(x, '__module__', '')}.{x.__name__}"),
    ((bytes, complex, range, slice, np.generic), lambda x, where, say: repr(x)),
]
