"""Passes over weights that learn single samples: W is read and written once for delta and update.

Shapes are in elements, as for tiles.
"""

from .. import machine
from ..machine import DOT_GROUP
from .tiles import Tile, emit_tile, in_sizes
from .vectors import I64, Vec, emitted, join


class _FewTile(Tile):
    """A tile of a few rows of A, of which `count` are there: the last stands for the others."""

    count, fetching = None, machine.PASS_SAMPLES

    def a_from(self, table, i):
        b = self.builder
        last = b.sub(self.count, I64(1))
        return super().a_from(table, b.select(b.icmp_signed("<", i, last), i, last))


@emitted(apart=True)
def update_and_forward(
    e, width, depth, alpha, due, old, old_which, x, which, ahead, count, x_row, delta, w, w_row,
    out, out_row, bias,
):  # fmt: skip
    """W += alpha old^T delta, then out = bias + x W, for PASS_SAMPLES rows at most."""
    # The update of some samples and the forward pass of the next ones: W is read and written once
    # for both. Of the first `due` rows count, of the others `count`; `out` has room for all.
    # W: (depth, width); delta, out: (PASS_SAMPLES, width), out_row from row to row. Rows of `old`
    # and `x`, (depth,), are found by number, and those `ahead` are asked for meanwhile.
    b, some = e.builder, range(machine.PASS_SAMPLES)
    t = _FewTile(e, x, x_row, w, w_row, out, out_row, bias, table=which, ahead=ahead, count=count)
    there = [b.icmp_signed("<", I64(s), due) for s in some]
    places = [e.at(old_which, b.select(is_due, I64(s), I64(0))) for s, is_due in enumerate(there)]
    olds = [e.row(old, b.load(place), x_row) for place in places]

    scale = e.splat(alpha)

    def step(s, v, columns):
        places = e.beside(e.at(e.row(delta, I64(s), out_row), v), len(columns))
        return [(e.load(place) * scale).keep(there[s], 0.0) for place in places]

    def panel(columns, v):
        steps = [step(s, v, columns) for s in some]

        def advance(k, vecs):
            for row, own in zip(olds, steps, strict=True):
                x = e.broadcast(e.at(row, k))
                vecs = [d.fma(x, old) for d, old in zip(own, vecs, strict=True)]
            return vecs

        t.advance = advance
        emit_tile(t, "bias", machine.PASS_SAMPLES, columns, I64(0), v, depth, 1)

    t.panels(width, panel, machine.PASS_COLUMNS)


@emitted(apart=True)
def products_of_rows(e, depth, x, x_row, which, count, out):
    """out[i, j] = x[i] . x[j] for i < j < count; out: (PASS_SAMPLES, PASS_SAMPLES)."""
    # The rows of x, (depth,), are found by number, PASS_SAMPLES at most.
    b, n = e.builder, machine.PASS_SAMPLES
    t = _FewTile(e, x, x_row, None, None, None, None, None, count=count)
    starts = [t.a_from(which, I64(s)) for s in range(n)]
    pairs = [(i, j) for j in range(n) for i in range(j)]

    def add(rows, sums):
        return [rows[i].fma(rows[j], total) for (i, j), total in zip(pairs, sums, strict=True)]

    def whole_vectors(k, *sums):
        return add([e.load(e.at(start, k)) for start in starts], sums)

    whole = b.sub(depth, b.srem(depth, I64(e.lanes)))
    sums = e.loop(I64(0), whole, e.lanes, [e.zero()] * len(pairs), whole_vectors)
    mask = e.first_lanes(b.sub(depth, whole))
    sums = add([e.masked_load(e.at(start, whole), mask) for start in starts], sums)
    for (i, j), total in zip(pairs, sums, strict=True):
        b.store(total.fold(Vec.__add__).value, e.at(out, i * n + j))


@emitted(apart=True)
def delta_and_update(e, rows, width, w, w_row, delta, a, alpha, out):
    """out[i] *= W[i] . delta, then W[i] += alpha a[i] delta, for one sample."""
    # The dot products take rows before their update. W: (rows, width); delta: (width,); a, out:
    # (rows,).
    e, b, most = e.with_vectors(machine.PASS_BYTES), e.builder, machine.DELTA_ROWS

    def some_rows(i, size):
        numbers = [b.add(i, I64(r)) for r in range(size)]
        steps = [e.splat(b.fmul(alpha, b.load(e.at(a, n)))) for n in numbers]
        starts = [e.row(w, n, w_row) for n in numbers]

        def column(v, *totals):
            d, places = e.load(e.at(delta, v)), [e.at(start, v) for start in starts]
            olds = [e.load(place) for place in places]
            for step, place, old in zip(steps, places, olds, strict=True):
                e.store(place, d.fma(step, old))
            return [old.fma(d, total) for old, total in zip(olds, totals, strict=True)]

        first, *others = e.loop(I64(0), width, e.lanes, [e.zero()] * size, column)
        sums = first.sums_beside(others)
        place = e.at(out, i)
        e.store(place, sums * e.load(place, size / e.lanes), size / e.lanes)

    # From the end: what the forward pass has read last is still in the first level.
    whole = b.sub(rows, b.srem(rows, I64(most)))
    with e.over(b.sub(rows, whole)) as r:
        some_rows(b.add(whole, r), 1)
    with e.over(whole, most) as done:
        some_rows(b.sub(b.sub(whole, I64(most)), done), most)


# -- one sample, on weights that lie by their outputs ----------------------------------------------

# W: (rows, width), in whole vectors, zero where there is no neuron, as what is multiplied by it.


@emitted(apart=True)
def multiply_one(e, rows, width, w, w_row, a, bias, z):
    """z = bias + W a, as many rows at once as fill a vector of z."""
    # Rows of W to whole vectors of z; a: (width,); bias, z: (rows,).
    b, group = e.builder, min(e.lanes, DOT_GROUP)

    def dots(i):
        """Return the products of a and the rows from i on, side by side."""
        starts = [e.row(w, b.add(i, I64(r)), w_row) for r in range(group)]

        def column(v, *sums):
            x = e.load(e.at(a, v))
            return [x.fma(e.load(e.at(at, v)), s) for at, s in zip(starts, sums, strict=True)]

        first, *others = e.loop(I64(0), width, e.lanes, [e.zero()] * group, column)
        return first.sums_beside(others).value

    with e.over(rows, e.lanes) as i:
        found = [dots(b.add(i, I64(r))) for r in range(0, e.lanes, group)]
        total = e.vec(found[0] if len(found) == 1 else join(b, *found))
        e.store(e.at(z, i), total + e.load(e.at(bias, i)))


@emitted(apart=True)
def delta_and_update_one(e, rows, width, w, w_row, delta, a, alpha, out):
    """out *= W^T delta, then W[k] += alpha delta[k] a."""
    # delta: (rows,); a, out: (width,).
    b, most = e.builder, machine.SPARSE_COLUMNS

    def panel(i, columns):
        v = b.mul(i, I64(e.lanes))
        steps = [e.load(place) * e.splat(alpha) for place in e.beside(e.at(a, v), columns)]

        def row(k, *sums):
            d, places = e.broadcast(e.at(delta, k)), e.beside(e.at(e.row(w, k, w_row), v), columns)
            olds = [e.load(place) for place in places]
            for place, step, old in zip(places, steps, olds, strict=True):
                e.store(place, d.fma(step, old))
            return [d.fma(old, total) for old, total in zip(olds, sums, strict=True)]

        sums = e.loop(I64(0), rows, 1, [e.zero()] * columns, row)
        for place, total in zip(e.beside(e.at(out, v), columns), sums, strict=True):
            e.store(place, total * e.load(place))

    in_sizes(e, b.sdiv(b.add(width, I64(e.lanes - 1)), I64(e.lanes)), range(most, 0, -1), panel)
