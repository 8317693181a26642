"""The FMA peak: as many multiplications and additions a second as a core can do.

The loop has nothing but independent fused multiply-adds of vectors in registers. If a tile beats
it, it is wrong. Benchmarks and the arena of `scripts/compare_peers.py` are set against it.
"""

from functools import partial

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from fastbp.kernels.cpu import this_cpu
from fastbp.kernels.ir.vectors import I64, Emitter, Vec, lanes

# Enough to cover the latency of two units (4 or 5 cycles x 2), and one register less than there are
# for the factor: of 32, 12 lost 4 %; of 16, more than 15 are stored and loaded again each round.
ACCUMULATORS = 24 if this_cpu().registers == 32 else 12


@intrinsic
def fma_rounds(typingctx, rounds, x):
    """Return the sum of the accumulators after so many rounds of x * x + accumulator."""

    def codegen(context, builder, signature, args):
        e = Emitter(builder, x)
        factor = e.splat(args[1])
        first = [e.zero().const(float(i)) for i in range(ACCUMULATORS)]

        def body(k, *sums):
            # acc = x * acc + x: the chains stay apart, and with |x| < 1 nothing overflows.
            return [factor.fma(acc, factor) for acc in sums]

        total, *others = e.loop(I64(0), args[0], 1, first, body)
        for acc in others:
            total = total + acc
        return total.fold(Vec.__add__).value

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
