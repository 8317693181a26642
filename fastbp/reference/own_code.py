"""What functions of the user's are made of: what they use, and copies that use other things."""

import builtins
import dis
import math
from collections import ChainMap
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

# Others' functions, which are known by their names and are not looked into.
KNOWN = "builtins", "math", "numba", "numpy"


def plain(function: Any) -> Any:
    """Return the Python function of one that Numba has compiled, or the function itself."""
    return getattr(function, "py_func", function)


def is_library(function: Any) -> bool:
    """Return whether a function is one of Python's or NumPy's, such as math.tanh or np.tanh."""
    return isinstance(function, (BuiltinFunctionType, np.ufunc))


def codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a function's code, and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def texts(code: CodeType) -> Iterator[str]:
    """Yield what a code object does, as text; not where it lies: folders and lines may change."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from texts(constant)
        elif isinstance(constant, frozenset):  # whose order changes from process to process
            yield repr(sorted(map(repr, constant)))
        else:
            yield repr(constant)
    yield repr((code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))
    yield repr((code.co_argcount, code.co_kwonlyargcount, code.co_flags, code.co_exceptiontable))


def is_own(value: Any) -> bool:
    """Return whether a value is a Python function that no known library brings."""
    module = getattr(value, "__module__", None) or ""
    return isinstance(value, FunctionType) and module.partition(".")[0] not in KNOWN


def globals_of(function: FunctionType) -> dict[str, Any]:
    """Return the globals and builtins that a function reads, by name."""
    names = {
        step.argval
        for code in codes(function.__code__)
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    places = ChainMap(function.__globals__, vars(builtins))
    return {name: places[name] for name in sorted(names) if name in places}


def closure_of(function: FunctionType) -> dict[str, Any]:
    """Return what a function reads of the functions around it, by name."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    found = {}
    for name, cell in cells:
        try:
            found[name] = cell.cell_contents
        except ValueError:  # nothing is in it yet
            continue
    return found


def attributes(module: ModuleType, names: set[str]) -> dict[str, Any]:
    """Return what is in a module under any of these names."""
    return {name: getattr(module, name) for name in sorted(names) if hasattr(module, name)}


def names_in(function: FunctionType) -> set[str]:
    """Return the names of globals and attributes that a function reads."""
    return {name for code in codes(function.__code__) for name in code.co_names}


def all_used(function: Any) -> Iterator[FunctionType]:
    """Yield a function and all functions of users' that it calls, directly or not."""
    seen: dict[int, FunctionType] = {}
    waiting = [plain(function)]
    while waiting:
        value = plain(waiting.pop())
        if not is_own(value) or id(value) in seen:
            continue
        seen[id(value)] = value
        yield value
        for found in (globals_of(value) | closure_of(value)).values():
            if isinstance(found, ModuleType) and found.__name__.partition(".")[0] not in KNOWN:
                waiting += attributes(found, names_in(value)).values()
            waiting.append(found)


class Copies:
    """Makes copies of functions in which what they use is changed, as deep as they call others.

    `change(value)` returns what stands for a global, an attribute of a module, or a value of the
    functions around; or the value itself. `constant` does so for constants in the code, but not for
    exponents. `finish` takes each copy, such as to compile it. The originals stay as they are.
    """

    def __init__(
        self, change: Callable[[Any], Any], constant: Callable[[Any], Any] = lambda value: value,
        finish: Callable[[Any], Any] = lambda function: function,
    ) -> None:  # fmt: skip
        self._change, self._constant, self._finish = change, constant, finish
        self._made: dict[int, tuple[Any, Any]] = {}  # the original, kept alive, and its copy

    def of(self, value: Any, names: set[str] | None = None) -> Any:
        """Return the copy of a function; or what stands for another value, in code of `names`."""
        if id(value) in self._made:
            return self._made[id(value)][1]
        changed = self._change(value)
        if changed is not value:
            return changed
        if isinstance(value, ModuleType) and names is not None:
            return self._module(value, names)
        function = plain(value)
        return self._function(value, function) if is_own(function) else value

    def _module(self, module: ModuleType, names: set[str]) -> ModuleType:
        """Return a module that has what the code may read of this one."""
        copy = ModuleType(module.__name__)
        vars(copy).update((k, self.of(v, names)) for k, v in attributes(module, names).items())
        return copy

    def _function(self, value: Any, function: FunctionType) -> Any:
        code, names = self._code(function.__code__), names_in(function)
        cells = tuple(CellType() for _ in code.co_freevars)
        inside: dict[str, Any] = {"__builtins__": builtins}
        inside["__name__"] = function.__module__
        defaults = function.__defaults__ and tuple(map(self._constant, function.__defaults__))
        copy = FunctionType(code, inside, function.__name__, defaults, cells)
        copy.__kwdefaults__ = function.__kwdefaults__
        finished = self._finish(copy)
        self._made[id(value)] = value, finished  # before the rest: functions may call themselves
        inside.update((k, self.of(v, names)) for k, v in globals_of(function).items())
        around = closure_of(function)
        for name, cell in zip(code.co_freevars, cells, strict=True):
            if name in around:
                cell.cell_contents = self.of(around[name], names)
        return finished

    def _code(self, code: CodeType) -> CodeType:
        exponents = {id(exponent) for exponent in _exponents(code)}

        def changed(constant: Any) -> Any:
            if isinstance(constant, CodeType):
                return self._code(constant)
            return constant if id(constant) in exponents else self._constant(constant)

        return code.replace(co_consts=tuple(map(changed, code.co_consts)))


def _exponents(code: CodeType) -> Iterator[Any]:
    """Yield the constants that stand as exponents: by integers, powers are products."""
    steps = list(dis.get_instructions(code))
    for before, step in pairwise(steps):
        if step.opname == "BINARY_OP" and step.argrepr in ("**", "**="):
            yield before.argval


class _NoKeyError(Exception):
    """What a function uses cannot be told from other things of its kind."""


def key(*functions: Any) -> str | None:
    """Return a text that says what functions do, with all that they use; None if nothing does."""
    seen: dict[int, int] = {}
    try:
        return "\n".join(text for function in functions for text in _said(function, seen, set()))
    except _NoKeyError:
        return None


def _said(value: Any, seen: dict[int, int], names: set[str]) -> Iterator[str]:
    value = plain(value)
    if is_own(value):
        yield from _function_said(value, seen)
    elif isinstance(value, ModuleType):
        yield value.__name__
        if value.__name__.partition(".")[0] not in KNOWN:
            for name, found in attributes(value, names).items():
                yield name
                yield from _said(found, seen, names)
    elif isinstance(value, np.ndarray) and value.dtype.kind in "buif":
        yield repr((value.dtype.str, value.shape, value.tobytes()))
    elif isinstance(value, tuple):
        yield f"tuple of {len(value)}"
        for part in value:
            yield from _said(part, seen, names)
    elif value is None or isinstance(value, (bool, int, float, str, np.generic)):
        yield repr((type(value).__name__, value))
    elif (module := getattr(value, "__module__", None)) and module.partition(".")[0] in KNOWN:
        yield f"{module}.{getattr(value, '__qualname__', None) or _name(value)}"
    elif isinstance(value, np.ufunc):
        yield f"numpy.{value.__name__}"
    else:
        raise _NoKeyError


def _name(value: Any) -> str:
    if name := getattr(value, "__name__", ""):
        return str(name)
    raise _NoKeyError


def _function_said(function: FunctionType, seen: dict[int, int]) -> Iterator[str]:
    if id(function) in seen:
        yield f"function {seen[id(function)]} again"
        return
    seen[id(function)] = len(seen)
    yield from texts(function.__code__)
    names = names_in(function)
    yield from _said(function.__defaults__, seen, names)
    if function.__kwdefaults__:
        yield from _said(tuple(sorted(function.__kwdefaults__.items())), seen, names)
    for name, value in (globals_of(function) | closure_of(function)).items():
        yield name
        yield from _said(value, seen, names)


# -- on arrays -------------------------------------------------------------------------------------

_NUMPY_NAMES = {
    "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan",
    "atan2": "arctan2", "atanh": "arctanh", "fabs": "abs", "pow": "power",
}  # fmt: skip
_UFUNCS = {name: getattr(np, _NUMPY_NAMES.get(name, name), None) for name in vars(math)}


def _each(function: Callable[[Any], float]) -> Callable[[Any], Any]:
    """Return a function of `math` that NumPy has not, element by element."""
    found = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(found(x), np.float64)[()]


def _extreme(ufunc: Any) -> Callable[..., Any]:
    """Return `max` or `min` of several arguments."""

    def extreme(first: Any, *others: Any) -> Any:
        for other in others:
            first = ufunc(first, other)
        return first

    return extreme


_ON_ARRAYS = {
    id(value): _UFUNCS[name]
    for name, value in vars(math).items()
    if isinstance(_UFUNCS[name], np.ufunc)
}
_ON_ARRAYS |= {id(function): _each(function) for function in (math.erf, math.erfc)}
_ON_ARRAYS |= {id(max): _extreme(np.maximum), id(min): _extreme(np.minimum)}


def on_arrays(function: Any) -> Any:
    """Return a copy of a function that takes NumPy's functions in place of `math`'s.

    It works on arrays if it has no conditionals, and on NumPy's numbers: it then comes to infinity
    or NaN where Python raises an error, and compiled code does not.
    """
    return Copies(lambda value: _ON_ARRAYS.get(id(value), value)).of(function)
