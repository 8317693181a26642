"""How kernels are compiled.

`kernel` for what Python calls (cached on disk), `inner` for what only kernels call, `by_type` for
what depends on the types of its arguments. LLVM decides what is inlined: to let Numba do it, whose
copies are typed again, took a fifth more of the time to compile.
"""

import logging
from functools import cache, wraps

import numba
from numba.core import config
from numba.extending import overload

from .cache import keep_by_numba, stamp

if config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set, which turns the compiler off: unset it")

logger = logging.getLogger("fastbp")
# `fastmath` is `contract` alone: anything more would break the range reduction of exp and make
# `isfinite(nan)` true.
OPTIONS = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy", "boundscheck": False}
NOT_FROM_PYTHON = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
KERNELS: dict = {}  # every compiled entry point by name
ADDRESSED: list = []  # what they call by its address
_IN_USE: list = []  # of what is not kept elsewhere

try:
    from . import numba_link
    from .numba_cache import cached

    # Nothing is allocated in kernels: references to arrays need no counts.
    WHOLE = {"pipeline_class": numba_link.KernelCompiler, "_nrt": False, "no_cfunc_wrapper": True}
    PART = {"pipeline_class": numba_link.PartCompiler, "_nrt": False}
    UNIT = {"pipeline_class": numba_link.UnitCompiler, "_nrt": False}
    USERS = {"pipeline_class": numba_link.UserCompiler}
except ImportError as error:
    cached = numba_link = None
    WHOLE, PART, UNIT, USERS = {}, {}, {}, {}
    logger.warning(
        "the kernel cache does not know Numba %s (%s); Numba's own is used. Kernels are loaded "
        "0.2 s later in each process, and a damaged cache file or a full disk is an error.",
        numba.__version__, error,
    )  # fmt: skip


def inner(function):
    """Compile a function that only kernels call."""
    return numba.njit(**NOT_FROM_PYTHON, **PART, **OPTIONS)(function)


def inlined(function):
    """Compile a function of numbers, maybe the user's, which is inlined wherever it is called."""
    return numba.njit(**NOT_FROM_PYTHON, **USERS, **OPTIONS, forceinline=True)(function)


def unit(function):
    """Compile a function that only kernels call, as machine code that they share."""
    # For what takes a kernel long to compile, or would be compiled for several.
    return numba.njit(**NOT_FROM_PYTHON, **UNIT, **OPTIONS)(function)


def by_type(choose):
    """Let the types of the arguments choose what a function does."""
    # The decorated function takes the types of the arguments, as Numba names them, and returns what
    # is compiled for them: a function of arguments of the same names.

    @wraps(choose)
    def chosen(*arguments):
        raise TypeError(f"{choose.__name__} can be called by kernels only")

    overload(chosen, jit_options=PART)(choose)
    return chosen


def kernel(function):
    """Compile a function that Python calls; its machine code is kept on disk."""
    dispatcher = cached(function, WHOLE | OPTIONS) if cached else numba.njit(**OPTIONS)(function)
    KERNELS[function.__name__] = dispatcher
    return dispatcher


def addressed(function, name=None):
    """Compile a function that kernels call by its address, which it returns for argument types."""
    # The cache knows it by its name, which those have to be given that a function makes.
    if name:
        function.__name__ = function.__qualname__ = name
    options = WHOLE | OPTIONS | {"no_cpython_wrapper": True}
    dispatcher = cached(function, options) if cached else numba.njit(**options)(function)
    ADDRESSED.append(dispatcher)

    @cache
    def address(*kinds):
        found = dispatcher.get_compile_result(numba.void(*kinds))
        return found.library.get_pointer_to_function(found.fndesc.llvm_func_name)

    return address


def compiled_once(name, define):
    """Return the addresses of functions that kernels call, whose machine code has this name.

    `define()` returns functions, each with the types of its arguments, where there is no such code
    yet; without a name it is not kept.
    """

    def compiled():
        options = WHOLE | OPTIONS | {"no_cpython_wrapper": True}
        for function, kinds in define():
            function.__qualname__ = f"{function.__name__}_{name}"
            found = numba.njit(**options)(function).get_compile_result(numba.void(*kinds))
            yield found.fndesc.llvm_func_name, found.library

    if name and numba_link:
        return numba_link.kept_functions(name, compiled)
    pairs = [*compiled()]
    _IN_USE.extend(pairs)
    return tuple(library.get_pointer_to_function(symbol) for symbol, library in pairs)


def routine(name, emit):
    """Return the library of a routine: code that `emit(module)` emits, compiled once for all."""
    # Or None, where only Numba's public means are at hand: it is emitted where it is called.
    return numba_link and numba_link.routine(name, emit, OPTIONS["fastmath"])


def all_defined():
    """Note what the kernels are, now that all of them are imported."""
    stamp()
    if cached is None:
        keep_by_numba([*KERNELS.values(), *ADDRESSED])
