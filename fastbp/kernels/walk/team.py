"""Threads that meet inside one kernel: a spinning barrier, and who owns which share of the work.

The threads are plain Python threads inside a kernel that has released the GIL. A barrier costs
50 to 65 ns on two cores, where a parallel region of a threading layer costs microseconds.
"""

import ctypes
import os
import platform

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..jit import inner

# Samples are dealt out in blocks of this many. Tiles of so many rows or more add up in one order
# (see K_SPLIT), and fewer are left over at the end of a batch only: the order of an element's
# additions is then the same for any number of threads.
BLOCK = 4
SPINS = 2000  # about 20 microseconds, then the core is offered to others
_ARRIVED, _GENERATION, STOPPED, ASKED, _DEALT = 0, 8, 16, 24, 32  # each on a cache line of its own
SYNC_SIZE = 40

I64 = ir.IntType(64)
_sync = types.CPointer(types.int64)
_os_yield = (
    ctypes.CDLL("kernel32").SwitchToThread if os.name == "nt" else ctypes.CDLL(None).sched_yield
)
llvm.add_symbol("fastbp_yield", ctypes.cast(_os_yield, ctypes.c_void_p).value)


@intrinsic
def _add(typingctx, sync, slot, value):
    def codegen(context, builder, signature, args):
        sync, slot, value = args
        return builder.atomic_rmw("add", builder.gep(sync, [slot]), value, "seq_cst")

    return types.int64(_sync, types.int64, types.int64), codegen


@intrinsic
def _read(typingctx, sync, slot):
    def codegen(context, builder, signature, args):
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "seq_cst", 8)

    return types.int64(_sync, types.int64), codegen


@intrinsic
def _write(typingctx, sync, slot, value):
    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(_sync, types.int64, types.int64), codegen


@intrinsic
def _pause(typingctx):
    def codegen(context, builder, signature, args):
        if platform.machine().lower() in ("x86_64", "amd64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _yield(typingctx):
    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "fastbp_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@inner
def barrier(sync, team):
    """Wait until all `team` threads have arrived."""
    if team == 1:
        return
    generation = _read(sync, _GENERATION)
    if _add(sync, _ARRIVED, 1) == team - 1:
        _write(sync, _ARRIVED, 0)
        _write(sync, _GENERATION, generation + 1)
        return
    spins = 0
    while _read(sync, _GENERATION) == generation:
        spins += 1
        if spins < SPINS:
            _pause()
        else:
            _yield()


@inner
def deal(sync):
    """Return the next number, from 0 on, that no other thread gets."""
    return _add(sync, _DEALT, 1)


@inner
def deal_anew(sync, team):
    """Let the numbers begin at 0 again; between two barriers."""
    if team.thread == 0:
        _write(sync, _DEALT, 0)


@inner
def stop(sync):
    """Tell all threads, from their next barrier on, that this step must not be taken."""
    _write(sync, STOPPED, 1)


@inner
def asked_to_stop(sync):
    """Return whether somebody outside wants an end; one thread asks, and stops all."""
    return _read(sync, ASKED) != 0


@inner
def stopped(sync):
    """Return whether a step was refused."""
    return _read(sync, STOPPED) != 0


@inner
def share(count, unit, thread, team):
    """Return a thread's share of `count` things dealt in whole units: the first, and one past."""
    units = (count + unit - 1) // unit
    first = units * thread // team * unit
    last = min(count, units * (thread + 1) // team * unit)
    return first, last
