"""What threads that meet inside a kernel need: atomic reads, writes and sums, and waiting."""

import ctypes
import os
import platform

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types

from .vectors import I32, call, emitted

_os_yield = (
    ctypes.CDLL("kernel32").SwitchToThread if os.name == "nt" else ctypes.CDLL(None).sched_yield
)
llvm.add_symbol("fastbp_yield", ctypes.cast(_os_yield, ctypes.c_void_p).value)


@emitted(types.int64)
def atomic_add(e, counters, slot, value):
    """Add to a counter; return what it was before."""
    return e.builder.atomic_rmw("add", e.at(counters, slot), value, "seq_cst")


@emitted(types.int64)
def atomic_read(e, counters, slot):
    """Return a counter."""
    return e.builder.load_atomic(e.at(counters, slot), "seq_cst", 8)


@emitted()
def atomic_write(e, counters, slot, value):
    """Set a counter."""
    e.builder.store_atomic(value, e.at(counters, slot), "seq_cst", 8)


@emitted()
def pause(e):
    """Tell the CPU that this thread spins."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        call(e.builder, "llvm.x86.sse2.pause", ir.VoidType(), [])


@emitted()
def offer_core(e):
    """Let another thread run on this core, if one waits."""
    call(e.builder, "fastbp_yield", I32, [])
