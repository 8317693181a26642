"""Transposes, by squares of vectors that stay in registers."""

import math

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import (
    I64,
    Vec,
    element,
    first_lanes,
    lanes,
    load,
    loop,
    masked_load,
    shuffle,
    splat,
    spread,
    store,
)

# Columns that are turned without squares of vectors.
FEW = 4


def _butterfly(builder, rows):
    """Transpose a square of vectors in log2(lanes) rounds of pairwise interleaving."""
    n = len(rows)
    for level in range(int(math.log2(n))):
        s = 1 << level
        low = [j if not j & s else n + (j ^ s) for j in range(n)]
        high = [j ^ s if not j & s else n + j for j in range(n)]
        new = list(rows)
        for i in range(n):
            if not i & s:
                new[i] = shuffle(builder, rows[i], rows[i | s], low)
                new[i | s] = shuffle(builder, rows[i], rows[i | s], high)
        rows = new
    return rows


def _emit_transpose(builder, dtype, rows, cols, row_at, dst, dst_row):
    """dst[c, r] = src[r, c] by squares of vectors; `row_at(r, c)` loads src[r, c:] as a vector.

    dst has whole squares; what lies beyond `rows` is written as zero. The last square reads its
    missing rows from the last real one and drops them.
    """
    b, n = builder, lanes(dtype)

    def square(r, c):
        vecs = []
        for j in range(n):
            rj = b.add(r, I64(j))
            inside = b.icmp_signed("<", rj, rows)
            v = row_at(b.select(inside, rj, b.sub(rows, I64(1))), c)
            vecs.append(b.select(inside, v.value, v.const(0.0).value))
        for j, v in enumerate(_butterfly(b, vecs)):
            place = b.gep(dst, [b.add(b.mul(b.add(c, I64(j)), dst_row), r)])
            store(b, dtype, place, Vec(b, v))

    def over_columns(r, _):
        def body(c, _):
            square(r, c)
            return []

        loop(b, I64(0), cols, I64(n), [], body)
        return []

    loop(b, I64(0), rows, I64(n), [], over_columns)


@intrinsic
def transpose(typingctx, rows, cols, src, src_row, dst, dst_row):
    """dst[c, r] = src[r, c], where src rows are whole vectors long."""
    dtype = src.dtype

    def codegen(context, builder, signature, args):
        rows, cols, src, src_row, dst, dst_row = args

        def row_at(r, c):
            place = builder.gep(src, [builder.add(builder.mul(r, src_row), c)])
            return load(builder, dtype, place)

        _emit_transpose(builder, dtype, rows, cols, row_at, dst, dst_row)
        return context.get_dummy_value()

    ptr, i64 = types.CPointer(dtype), types.int64
    return types.void(i64, i64, ptr, i64, ptr, i64), codegen


@intrinsic
def transpose_samples(typingctx, rows, cols, src, table, scale, dst, dst_row):
    """dst[c, r] = scale * src[table[r], c], where src rows are `cols` long and nothing follows."""
    dtype = src.dtype

    def codegen(context, builder, signature, args):
        rows, cols, src, table, scale, dst, dst_row = args
        factor = splat(builder, dtype, scale)

        def row_at(r, c):
            start = builder.mul(builder.load(builder.gep(table, [r])), cols)
            mask = first_lanes(builder, dtype, builder.sub(cols, c))
            place = builder.gep(src, [builder.add(start, c)])
            return masked_load(builder, dtype, place, mask) * factor

        _emit_transpose(builder, dtype, rows, cols, row_at, dst, dst_row)
        return context.get_dummy_value()

    ptr, i64 = types.CPointer(dtype), types.int64
    return types.void(i64, i64, ptr, table, dtype, ptr, i64), codegen


@intrinsic
def transpose_few(typingctx, rows, cols, src, table, scale, dst, dst_row):
    """`transpose_samples` for up to FEW columns, where a square of vectors would be half empty."""
    dtype = src.dtype

    def codegen(context, builder, signature, args):
        rows, cols, src, table, scale, dst, dst_row = args
        b, n = builder, lanes(dtype)
        few = ir.VectorType(element(dtype), FEW)
        factor = splat(b, dtype, scale)
        iota = ir.Constant(ir.VectorType(I64, FEW), list(range(FEW)))
        mask = b.icmp_signed("<", iota, spread(b, cols, FEW))
        load_few = cgutils.get_or_insert_function(
            b.module,
            ir.FunctionType(few, [few.as_pointer(), ir.IntType(32), mask.type, few]),
            f"llvm.masked.load.v{FEW}f{dtype.bitwidth}.p0",
        )

        def sample(r):
            inside = b.icmp_signed("<", r, rows)
            last = b.sub(rows, I64(1))
            start = b.mul(b.load(b.gep(table, [b.select(inside, r, last)])), cols)
            place = b.bitcast(b.gep(src, [start]), few.as_pointer())
            none = ir.Constant(few, [0.0] * FEW)
            align = ir.IntType(32)(dtype.bitwidth // 8)
            found = b.call(load_few, [place, align, mask, none])
            return b.select(inside, found, none)

        def vector(r, _):
            parts = [sample(b.add(r, I64(j))) for j in range(n)]
            while len(parts) > 1:
                pairs = zip(parts[::2], parts[1::2], strict=True)
                parts = [shuffle(b, x, y, range(2 * x.type.count)) for x, y in pairs]
            for i in range(FEW):
                column = shuffle(b, parts[0], parts[0], range(i, FEW * n, FEW))
                with b.if_then(b.icmp_signed("<", I64(i), cols)):
                    place = b.gep(dst, [b.add(b.mul(I64(i), dst_row), r)])
                    store(b, dtype, place, Vec(b, column) * factor)
            return []

        loop(b, I64(0), rows, I64(n), [], vector)
        return context.get_dummy_value()

    ptr, i64 = types.CPointer(dtype), types.int64
    return types.void(i64, i64, ptr, table, dtype, ptr, i64), codegen
