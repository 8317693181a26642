"""How kernels are compiled.

`kernel` for what Python calls (cached on disk), `inner` for what only kernels call, `inlined` for
what is compiled into its callers, `by_type` for what depends on the types of its arguments.
"""

import logging
from functools import wraps

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
KERNELS: dict = {}  # every compiled entry point by name

try:
    from .numba_cache import cached
except ImportError as error:
    cached = None
    logger.warning(
        "the kernel cache does not know Numba %s (%s); Numba's own is used. Kernels are loaded "
        "0.2 s later in each process, and a damaged cache file or a full disk is an error.",
        numba.__version__, error,
    )  # fmt: skip


def inner(function):
    """Compile a function that only kernels call."""
    return numba.njit(**OPTIONS)(function)


def inlined(function):
    """Compile a function into its callers."""
    # Each compiled function carries the machine code of all that it calls, compiled again: chains
    # of functions around the tiles cost six seconds at first use. Stores are written with
    # `memory.put`.
    return numba.njit(inline="always", **OPTIONS)(function)


def by_type(choose=None, *, inline="never"):
    """Let the types of the arguments choose what a function does."""
    # The decorated function takes the types of the arguments, as Numba names them, and returns what
    # is compiled for them: a function of arguments of the same names.
    if choose is None:
        return lambda choose: by_type(choose, inline=inline)

    @wraps(choose)
    def chosen(*arguments):
        raise TypeError(f"{choose.__name__} can be called by kernels only")

    overload(chosen, inline=inline)(choose)
    return chosen


def kernel(function):
    """Compile a function that Python calls; its machine code is kept on disk."""
    dispatcher = cached(function, OPTIONS) if cached else inner(function)
    KERNELS[function.__name__] = dispatcher
    return dispatcher


def all_defined():
    """Note what the kernels are, now that all of them are imported."""
    stamp()
    if cached is None:
        keep_by_numba(KERNELS.values())
