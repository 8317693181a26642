"""Transposes, by squares of vectors that stay in registers."""

import math

from ..machine import FEW_COLUMNS
from .vectors import I64, emitted, first_of, join, shuffle


def _transposed(e, rows):
    """Transpose a square of vectors in log2(lanes) rounds of pairwise interleaving."""
    n = len(rows)
    for level in range(int(math.log2(n))):
        s = 1 << level
        low = [j if not j & s else n + (j ^ s) for j in range(n)]
        high = [j ^ s if not j & s else n + j for j in range(n)]
        new = list(rows)
        for i in range(n):
            if not i & s:
                new[i] = shuffle(e.builder, rows[i], rows[i | s], low)
                new[i | s] = shuffle(e.builder, rows[i], rows[i | s], high)
        rows = new
    return rows


def _transpose(e, rows, cols, load_at, dst, dst_row):
    """dst[c, r] = src[r, c] by squares of vectors; `load_at(r, c)` loads src[r, c:] as a vector."""
    # dst has whole squares; what lies beyond `rows` is written as zero. The last square reads its
    # missing rows from the last real one and drops them.
    b, n = e.builder, e.lanes
    with e.over(rows, n) as r, e.over(cols, n) as c:
        square = []
        for j in range(n):
            rj = b.add(r, I64(j))
            inside = b.icmp_signed("<", rj, rows)
            v = load_at(b.select(inside, rj, b.sub(rows, I64(1))), c)
            square.append(b.select(inside, v.value, v.const(0.0).value))
        for j, column in enumerate(_transposed(e, square)):
            e.store(e.at(dst, b.add(b.mul(b.add(c, I64(j)), dst_row), r)), e.vec(column))


@emitted(apart=True)
def transpose(e, rows, cols, src, src_row, dst, dst_row):
    """dst[c, r] = src[r, c], where src rows are whole vectors long."""
    # src: (rows, cols), its rows src_row apart; dst: (cols, rows), its rows dst_row apart.

    def load_at(r, c):
        return e.load(e.at(e.row(src, r, src_row), c))

    _transpose(e, rows, cols, load_at, dst, dst_row)


@emitted(apart=True)
def transpose_samples(e, rows, cols, src, table, scale, dst, dst_row):
    """dst[c, r] = scale * src[table[r], c], where src rows are `cols` long and nothing follows."""
    b, factor = e.builder, e.splat(scale)

    def load_at(r, c):
        start = b.mul(b.load(e.at(table, r)), cols)
        mask = e.first_lanes(b.sub(cols, c))
        return e.masked_load(e.at(src, b.add(start, c)), mask) * factor

    _transpose(e, rows, cols, load_at, dst, dst_row)


@emitted(apart=True)
def transpose_few(e, rows, cols, src, table, scale, dst, dst_row):
    """Do as `transpose_samples` does, for up to FEW_COLUMNS columns."""
    b, n, few = e.builder, e.lanes, FEW_COLUMNS
    factor, mask = e.splat(scale), first_of(e.builder, cols, few)

    def sample(r):
        inside = b.icmp_signed("<", r, rows)
        start = b.mul(b.load(e.at(table, b.select(inside, r, b.sub(rows, I64(1))))), cols)
        found = e.masked_load(e.at(src, start), mask).value
        return b.select(inside, found, found.type([0.0] * few))

    with e.over(rows, n) as r:
        vecs = [sample(b.add(r, I64(j))) for j in range(n)]
        while len(vecs) > 1:
            vecs = [join(b, x, y) for x, y in zip(vecs[::2], vecs[1::2], strict=True)]
        for i in range(few):
            column = e.vec(shuffle(b, vecs[0], vecs[0], range(i, few * n, few)))
            with b.if_then(b.icmp_signed("<", I64(i), cols)):
                e.store(e.at(dst, b.add(b.mul(I64(i), dst_row), r)), column * factor)
