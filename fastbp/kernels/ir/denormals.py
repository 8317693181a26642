"""Denormal numbers, which some CPUs are slow with, taken for zeros for a while.

Moments and velocities of inputs that are seldom lit decay by a factor a step, and rounding keeps
them from ever reaching zero: after 1,800 steps of Adam on MNIST every eighth vector of the first
moments held some. On an Intel Xeon (Emerald Rapids) the 24th epoch of it, with a penalty, took 1.75
times as long as the fastest, and takes 1.3 times; Zen 4 is as fast either way. Other CPUs than x86
do without this.
"""

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import I32, call

_ZERO_RESULTS, _ZERO_OPERANDS = 1 << 15, 1 << 6  # bits of x86's MXCSR
X86 = platform.machine().lower() in ("x86_64", "amd64")


def _access(builder, name, place):
    address = builder.bitcast(place, ir.IntType(8).as_pointer())
    call(builder, f"llvm.x86.sse.{name}mxcsr", ir.VoidType(), [address])


@intrinsic
def flush_denormals(typingctx):
    """Take denormal numbers for zeros from now on; return what `restore_denormals` wants."""

    def codegen(context, builder, signature, args):
        if not X86:
            return I32(0)
        before, after = (cgutils.alloca_once(builder, I32) for _ in range(2))
        _access(builder, "st", before)
        mode = builder.load(before)
        builder.store(builder.or_(mode, I32(_ZERO_RESULTS | _ZERO_OPERANDS)), after)
        _access(builder, "ld", after)
        return mode

    return types.int32(), codegen


@intrinsic
def restore_denormals(typingctx, mode):
    """Treat denormal numbers as before `flush_denormals`, which returned the mode."""

    def codegen(context, builder, signature, args):
        if X86:
            place = cgutils.alloca_once_value(builder, args[0])
            _access(builder, "ld", place)
        return context.get_dummy_value()

    return types.void(types.int32), codegen
