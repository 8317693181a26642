"""What threads that meet inside a kernel need: atomic reads, writes and sums, and waiting."""

import ctypes
import os
import time

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .vectors import I32, I64, call, emitted

WINDOWS = os.name == "nt"
_FUNCTIONS = {  # of the operating system, by our name
    "fastbp_yield": "SwitchToThread" if WINDOWS else "sched_yield",
    "fastbp_sleep": "Sleep" if WINDOWS else "usleep",
    "fastbp_clock": "GetTickCount64" if WINDOWS else "clock_gettime",
}
for _name, _function in _FUNCTIONS.items():
    _found = getattr(ctypes.CDLL("kernel32" if WINDOWS else None), _function)
    llvm.add_symbol(_name, ctypes.cast(_found, ctypes.c_void_p).value)


@emitted(types.int64)
def atomic_add(e, counters, slot, value):
    """Add to a counter; return what it was before."""
    return e.builder.atomic_rmw("add", e.at(counters, slot), value, "seq_cst")


@emitted(types.int64)
def atomic_read(e, counters, slot):
    """Return a counter; what its writer wrote before it is then seen, too."""
    return e.builder.load_atomic(e.at(counters, slot), "acquire", 8)


@emitted()
def atomic_write(e, counters, slot, value):
    """Set a counter, after all that was written before."""
    # In sequential consistency x86 would wait here for the line to come from another core.
    e.builder.store_atomic(value, e.at(counters, slot), "release", 8)


def emit_pause(e):
    """Tell the CPU that this thread spins."""
    cpu = e.builder.module.triple.partition("-")[0]
    if cpu == "x86_64":
        call(e.builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
    elif cpu in ("aarch64", "arm64"):  # where `yield` mostly does nothing
        call(e.builder, "llvm.aarch64.isb", ir.VoidType(), [I32(15)])


pause = emitted()(emit_pause)


@emitted(types.int64)
def nanoseconds(e):
    """Return the time, of a clock that is never set."""
    if WINDOWS:
        return e.builder.mul(call(e.builder, "fastbp_clock", I64, []), I64(10**6))
    place = cgutils.alloca_once(e.builder, ir.ArrayType(I64, 2))
    call(e.builder, "fastbp_clock", I32, [I32(time.CLOCK_MONOTONIC), place])
    now = e.builder.load(place)
    seconds, rest = (e.builder.extract_value(now, i) for i in (0, 1))
    return e.builder.add(e.builder.mul(seconds, I64(10**9)), rest)


@emitted()
def offer_core(e):
    """Let another thread run on this core, if one waits."""
    call(e.builder, "fastbp_yield", I32, [])


@emitted()
def sleep(e):
    """Leave the core for about 0.1 ms."""
    call(e.builder, "fastbp_sleep", I32, [I32(1 if WINDOWS else 50)])
