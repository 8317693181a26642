"""The FMA peak: as many multiplications and additions a second as a core can do.

The loop has nothing but independent fused multiply-adds of vectors in registers. If a tile beats
it, it is wrong. Benchmarks and the arena of `scripts/compare_peers.py` are set against it.
"""

from functools import partial

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.ir.vectors import I64, Vec, lanes, loop

# Enough to cover the latency of two units (4 cycles x 2), few enough for 32 registers. 12 lost 4 %.
ACCUMULATORS = 24


@intrinsic
def fma_rounds(typingctx, rounds, x):
    """Return the sum of the accumulators after so many rounds of x * x + accumulator."""

    def codegen(context, builder, signature, args):
        element = {32: ir.FloatType(), 64: ir.DoubleType()}[x.bitwidth]
        kind = ir.VectorType(element, lanes(x))
        factor = Vec(builder, ir.Constant(kind, ir.Undefined))
        for lane in range(kind.count):
            value = builder.insert_element(factor.value, args[1], ir.IntType(32)(lane))
            factor = Vec(builder, value)
        first = [ir.Constant(kind, [float(i)] * kind.count) for i in range(ACCUMULATORS)]

        def body(k, sums):
            # acc = x * acc + x: the chains stay apart, and with |x| < 1 nothing overflows.
            return [factor.fma(Vec(builder, acc), factor).value for acc in sums]

        total, *others = (
            Vec(builder, acc) for acc in loop(builder, I64(0), args[0], I64(1), first, body)
        )
        for acc in others:
            total = total + acc
        return total.fold(Vec.__add__)

    return x(types.int64, x), codegen


@numba.njit(nogil=True)
def spin(rounds, x):
    """Compute for so many rounds."""
    return fma_rounds(rounds, x)


def spinning(dtype, rounds):
    """Return a call that computes for so many rounds, and its floating-point operations."""
    x = np.dtype(dtype).type(0.5)
    spin(1, x)  # compile
    return partial(spin, rounds, x), 2 * lanes(numba.typeof(x)) * ACCUMULATORS * rounds
