"""Register tiles: everything that multiplies matrices.

There is one generator, `emit_tile`: C[r, :] = epilogue(sum over k of A[r, k] * B[k, :]) with the
sums in registers; around it loops over rows, and over panels of columns.

Rows of a matrix that tiles write are whole vectors long: storage is padded to lines of 64 bytes.
In the comments on shapes, `width` and strides are in elements; `width` is whole vectors.
"""

from functools import partial

from .. import machine
from ..machine import PACKED_ROWS, TILE_ROWS
from .activations import EXP, FORMULAS, IDENTITY
from .memory import FIRST_LEVEL, prefetch_line
from .vectors import I64, emitted, shuffle


class Tile:
    """Operands of C[r, :] = epilogue(sum over k of A[r, k] * B[k, :])."""

    # The rows of A are found by number: the i-th of them starts at `a + table[i] * a_row`, so that
    # samples are multiplied where they lie in the data set. They are the rows of the tile, or,
    # where `transposed`, its depth: A[r, k] is then element r of the k-th row. B[k, :] lies at
    # `b + k * b_row`, or with an index at `b + index[k] * b_row`; C[r, :] at `c + r * c_row`.
    transposed = False
    table = None  # numbers of the rows of A; without it they are taken as they lie
    index = None
    ahead = None  # numbers of the rows of A that will be asked for next
    fetching = TILE_ROWS  # rows of the tiles that ask for them
    palette = None  # where A holds places in it instead of values
    apart = 1  # elements of A from one entry to the next
    panel = None  # room for a copy of a panel's columns of B, which it is while `copying`
    copying = False
    advance = None  # changes rows of B as they are read; see `update_and_forward`
    finish = None  # takes the sums, a list for each row, where they are not just stored

    def __init__(self, e, a, a_row, b, b_row, c, c_row, extra, **options):
        self.e, self.builder, self.extra = e, e.builder, extra
        self.a, self.a_row, self.b, self.b_row, self.c, self.c_row = a, a_row, b, b_row, c, c_row
        vars(self).update(options)

    def a_from(self, table, i):
        """Return where row i of A starts; with a table, the row whose number stands there."""
        if table is not None:
            i = self.builder.load(self.e.at(table, i))
        return self.e.row(self.a, i, self.a_row)

    def a_rows(self, i, rows):
        """Return a function of k that gives the addresses of A[i + r, k] for each r."""
        steps = [self.builder.add(i, I64(r)) for r in range(rows)]
        starts = [] if self.transposed else [self.a_from(self.table, step) for step in steps]

        def at_k(k):
            if not self.transposed:
                return [self.e.at(start, k) for start in starts]
            row = self.a_from(self.table, k)
            return [self.e.at(row, step) for step in steps]

        return at_k

    def value(self, place):
        """Return the number at an address of A, in every lane."""
        if self.palette is not None:
            code = self.builder.load(place)
            place = self.e.at(self.palette, self.builder.zext(code, I64))
        return self.e.broadcast(place)

    def values(self, k, count):
        """Return, for each of the `count` entries from k on, its value in every lane, alone."""
        e, b, apart = self.e, self.builder, self.apart
        place = e.at(self.a, b.mul(k, I64(apart)))
        x = e.load(place, count * apart / e.lanes).in_register().value
        return [[e.vec(shuffle(b, x, x, [s * apart] * e.lanes))] for s in range(count)]

    def b_places(self, k, v, columns):
        """Return the addresses of the columns of B[k, :] from v on."""
        b = self.builder
        if self.index is not None:
            k = b.zext(b.load(self.e.at(self.index, k)), I64)
        return self.e.beside(self.e.at(self.b, b.add(b.mul(k, self.b_row), v)), len(columns))

    def b_vectors(self, k, v, columns):
        """Return the columns of B[k, :] from v on."""
        places = self.b_places(k, v, columns)
        vecs = [self.e.load(place, size) for place, size in zip(places, columns, strict=True)]
        if self.advance is not None:
            vecs = self.advance(k, vecs)
            for place, vec in zip(places, vecs, strict=True):
                self.e.store(place, vec)
        if self.copying:
            row = self.e.row(self.panel, k, I64(len(columns) * self.e.lanes))
            for place, vec in zip(self.e.beside(row, len(columns)), vecs, strict=True):
                self.e.store(place, vec)
        return vecs

    def store(self, i, v, totals):
        """Store whole vectors, a list for each row, in C from row i and column v on."""
        for r, total in enumerate(totals):
            row = self.e.at(self.e.row(self.c, self.builder.add(i, I64(r)), self.c_row), v)
            for vec, place in zip(total, self.e.beside(row, len(total)), strict=True):
                self.e.store(place, vec)

    def ask_for(self, i, v, rows, columns):
        """Ask for the lines of rows of C, which are added to once the sums are there."""
        for r in range(rows):
            row = self.e.at(self.e.row(self.c, self.builder.add(i, I64(r)), self.c_row), v)
            for place in self.e.beside(row, len(columns)):
                prefetch_line(self.builder, place, FIRST_LEVEL)

    def panels(self, width, panel, most=machine.TILE_COLUMNS, halves=0):
        """Emit `panel(columns, v)` over all panels of columns, the widest first.

        Columns are their sizes in vectors; the last may be half of one in panels of `halves`.
        """
        b, lanes = self.builder, I64(self.e.lanes)
        vectors = b.sdiv(b.add(width, b.sub(lanes, I64(1))), lanes)
        # A single column leaves tiles waiting for loads and additions: it is taken with half of the
        # panel before, and half a column with the one before it.
        tail = self._half_tail(width, vectors, most, halves) if halves else I64(0)
        vectors = b.sub(vectors, tail)
        rest = b.srem(vectors, I64(most))
        full = b.sub(vectors, rest)
        if most > 2:
            alone = b.icmp_signed("==", rest, I64(1))
            alone = b.and_(alone, b.icmp_signed(">", vectors, I64(most)))
            full = b.sub(full, b.select(alone, I64(most), I64(0)))

        def whole(i, columns):
            panel([1] * columns, b.mul(i, lanes))

        with self.e.over(full, most) as i:
            whole(i, most)
        in_sizes(self.e, vectors, range(most - 1, 0, -1), whole, full)
        for size in range(2, halves + 1):
            with b.if_then(b.icmp_signed("==", tail, I64(size))):
                panel([1] * (size - 1) + [0.5], b.mul(vectors, lanes))

    def _half_tail(self, width, vectors, most, halves):
        """Return how many columns at the end are taken together: 0 if the last is a whole one."""
        b, lanes = self.builder, self.e.lanes
        last = b.srem(width, I64(lanes))
        half = b.and_(b.icmp_signed(">", last, I64(0)), b.icmp_signed("<=", last, I64(lanes // 2)))
        size = I64(2)
        for rest in range(3, halves + 1):
            fits = b.icmp_signed("==", b.srem(vectors, I64(most)), I64(rest % most))
            size = b.select(fits, I64(rest), size)
        return b.select(b.and_(half, b.icmp_signed(">", vectors, I64(1))), size, I64(0))


class _PackedTile(Tile):
    """A tile whose A is packed by `pack`."""

    def a_rows(self, i, rows):
        start = self.e.row(self.a, i, self.a_row)

        def at_k(k):
            row = self.e.row(start, k, I64(PACKED_ROWS))
            return [self.e.at(row, r) for r in range(rows)]

        return at_k


def emit_tile(t, epilogue, rows, columns, i, v, depth, split=None):
    """Emit one tile: `rows` of C from row i on, its columns from v on, summed over depth."""
    # "bias": C = bias + A B, with the bias a row; "row_bias": with a number for each row of C;
    # "store": C = A B; "axpy": C += alpha A B. The bias, or alpha, is `extra`. With an index the
    # depth is a multiple of the split.
    b, e = t.builder, t.e
    split = split or machine.K_SPLIT.get(rows, 1)
    n = rows * len(columns)
    zeros = [e.zero(size) for size in columns] * rows
    if epilogue == "bias":
        places = e.beside(e.at(t.extra, v), len(columns))
        sums = [e.load(place, size) for place, size in zip(places, columns, strict=True)] * rows
    elif epilogue == "row_bias":
        biases = [b.load(e.at(t.extra, b.add(i, I64(r)))) for r in range(rows)]
        sums = [e.splat(bias, size) for bias in biases for size in columns]
    else:
        sums = zeros
    sums = sums + zeros * (split - 1)
    a_at = t.a_rows(i, rows)
    spreads = machine.ENTRIES_SPREAD and t.index is not None and t.palette is None

    def step(k, *sums, xs=None):
        bs = t.b_vectors(k, v, columns)
        xs = xs or [t.value(place) for place in a_at(k)]
        if columns[-1] != 1:
            xs = [x.in_register() for x in xs]
        pairs = [(x.part(size), y) for x in xs for y, size in zip(bs, columns, strict=True)]
        return [x.fma(y, total) for (x, y), total in zip(pairs, sums, strict=True)]

    def unrolled(k, *sums):
        xs = t.values(k, split) if spreads else [None] * split
        new = [step(b.add(k, I64(s)), *sums[s * n : (s + 1) * n], xs=x) for s, x in enumerate(xs)]
        return [total for totals in new for total in totals]

    whole = depth if t.index is not None else b.sub(depth, b.srem(depth, I64(split)))
    first = I64(0)
    if t.ahead is not None and rows == t.fetching:
        first, sums = _emit_fetching(t, unrolled, i, rows, whole, sums)
    sums = e.loop(first, whole, split, sums, unrolled)
    if split > 1 and t.index is None:
        sums[:n] = e.loop(whole, depth, 1, sums[:n], step)
    totals = sums[:n]
    for s in range(1, split):  # always in the same order
        totals = [x + sums[s * n + j] for j, x in enumerate(totals)]
    if t.finish is not None:
        return t.finish(i, v, [totals[r * len(columns) :][: len(columns)] for r in range(rows)])
    for r in range(rows):
        row = e.at(e.row(t.c, b.add(i, I64(r)), t.c_row), v)
        for c, place in enumerate(e.beside(row, len(columns))):
            total = totals[r * len(columns) + c]
            if epilogue == "axpy":
                total = total.fma(e.splat(t.extra, columns[c]), e.load(place, columns[c]))
            e.store(place, total, columns[c])


def _emit_fetching(t, step, i, rows, depth, sums):
    """Emit the whole lines of a tile's depth, asking for one line of each row ahead per line."""
    # In shuffled order each sample comes from main memory. Asked for at the pace at which the tile
    # consumes, the next batch arrives while this one is multiplied.
    b, e = t.builder, t.e
    line = machine.LINE * 8 // e.dtype.bitwidth
    lines = b.sub(depth, b.srem(depth, I64(line)))
    aheads = [t.a_from(t.ahead, b.add(i, I64(r))) for r in range(rows)]

    def body(k, *sums):
        for row in aheads:
            prefetch_line(b, e.at(row, k))
        return e.loop(k, b.add(k, I64(line)), 1, sums, step)

    return lines, e.loop(I64(0), lines, line, sums, body)


ZERO = I64(0)


def in_sizes(e, count, sizes, body, done=ZERO):
    """Emit `body(i, size)` over `count` things: of each size in turn as many as fit in the rest."""
    _in_units(e, count, {size: size for size in sizes}, body, done)


def _in_units(e, count, sizes, body, done=ZERO):
    """Emit `body(i, size)` over `count` things, by units of which each holds things of one size."""
    b = e.builder
    for unit, size in sizes.items():
        rest = b.srem(b.sub(count, done), I64(unit))
        last = b.sub(count, rest)
        with e.over(last, size, done) as i:
            body(i, size)
        done = last


# Heights of tiles by the rows that they are taken for, and the most columns.
_FORWARD = {machine.TILE_UNIT: TILE_ROWS, 4: 4, 2: 2, 1: 1}, machine.TILE_COLUMNS
_UPDATE = {machine.UPDATE_TILE_UNIT: machine.UPDATE_ROWS, 4: 4, 2: 2, 1: 1}, machine.UPDATE_COLUMNS
# Rows of the tile that copies a panel: with others, other rows would be left over for low tiles.
_FIRST = TILE_ROWS if machine.TILE_UNIT == TILE_ROWS else 4
_LANES = {n: n for n in (8, 4, 2, 1) if n <= machine.LANE_ROWS}, 2


def _emit_tiles(t, epilogue, rows, width, depth, shape, halves=0):
    """Emit all tiles of a product."""
    heights, most = shape

    def panel(columns, v):
        def tile(i, size):
            emit_tile(t, epilogue, size, columns, i, v, depth)

        done, stored = ZERO, (t.b, t.b_row)
        if t.panel is not None and columns == [1] * most:
            done = _emit_copying(t, rows, most, v, depth, tile)
        _in_units(t.e, rows, heights, tile, done)
        t.b, t.b_row = stored

    t.panels(width, panel, most, halves)


def _emit_copying(t, rows, columns, v, depth, tile):
    """Emit the first tile of a panel, if it pays that it copies its columns of B for the others.

    Return how many rows of C are done.
    """
    b = t.builder
    pays = b.icmp_unsigned("!=", b.ptrtoint(t.panel, I64), I64(0))
    pays = b.and_(pays, b.icmp_signed(">=", rows, I64(machine.PANEL_BATCH)))
    large = I64(machine.PANEL_BYTES * 8 // t.e.dtype.bitwidth)
    pays = b.and_(pays, b.icmp_signed(">=", b.mul(depth, t.b_row), large))
    t.copying = True
    with b.if_then(pays):
        tile(I64(0), _FIRST)
    t.copying = False
    t.b = b.select(pays, t.e.at(t.panel, b.neg(v)), t.b)
    t.b_row = b.select(pays, I64(columns * t.e.lanes), t.b_row)
    return b.select(pays, I64(_FIRST), ZERO)


def _gemm(epilogue, transposed=False, shape=_FORWARD, halves=0):
    # C = epilogue(A B). A: (rows, depth), or (depth, rows) where `transposed`; B: (depth, width);
    # C: (rows, width). `table` numbers the rows of A, `ahead` those that will be asked for next;
    # both may be None. `panel` has room for `depth` rows of a panel's columns of B, or is null.

    def gemm(e, rows, width, depth, a, a_row, table, ahead, b, b_row, c, c_row, extra, panel):
        t = Tile(
            e, a, a_row, b, b_row, c, c_row, extra, table=table, ahead=ahead,
            transposed=transposed, panel=panel if machine.PANEL_BYTES else None,
        )  # fmt: skip
        _emit_tiles(t, epilogue, rows, width, depth, shape, halves)

    gemm.__name__ = f"gemm_{epilogue}"
    return emitted(apart=True)(gemm)


HALVES = 2 if machine.HALF_TAILS else 0
gemm_bias = _gemm("bias", halves=HALVES)
gemm_store = _gemm("store")
gemm_row_bias = _gemm("row_bias", True, _LANES)  # C = A^T B, plus a bias per row of C
gemm_axpy = _gemm("axpy", True, _UPDATE, HALVES)  # C += alpha A^T B


@emitted(apart=True)
def pack(e, first, last, cols, x, x_row, table, out, out_row):
    """out[i * out_row + k * PACKED_ROWS + j] = x[table[k], i + j]: rows of a tile side by side."""
    # x: (samples, cols), of which first <= k < last are packed, and cols in whole PACKED_ROWS.
    b = e.builder
    size = PACKED_ROWS / e.lanes
    whole = b.sub(cols, b.srem(cols, I64(PACKED_ROWS)))
    with e.over(last, 1, first) as k:
        row, target = e.row(x, b.load(e.at(table, k)), x_row), e.row(out, k, I64(PACKED_ROWS))
        with e.over(whole, PACKED_ROWS) as i:
            e.store(e.row(target, i, out_row), e.load(e.at(row, i), size), size)


@emitted(apart=True)
def gemm_packed(e, rows, width, depth, a, a_row, b, b_row, c, c_row, alpha):
    """C += alpha A^T B, with A packed by `pack`; rows are whole PACKED_ROWS."""
    # A: (rows / PACKED_ROWS, depth, PACKED_ROWS), a_row * PACKED_ROWS elements from one to the
    # next; B: (depth, width); C: (rows, width).
    t = _PackedTile(e, a, a_row, b, b_row, c, c_row, alpha)

    def panel(columns, v):
        with e.over(rows, PACKED_ROWS) as i:
            t.ask_for(i, v, PACKED_ROWS, columns)
            emit_tile(t, "axpy", PACKED_ROWS, columns, i, v, depth, 1)

    t.panels(width, panel, machine.PACKED_COLUMNS, HALVES)


class _Steps(Tile):
    """C += alpha A^T B, some rows of B at a time, which are held in registers: steps of C."""

    def steps(self, i, rows, v, columns):
        """Return alpha B[i + r, v:] for each r."""
        e, b = self.e, self.builder
        scales = [e.splat(self.extra, size) for size in columns]

        def step(r):
            places = e.beside(e.at(e.row(self.b, b.add(i, I64(r)), self.b_row), v), len(columns))
            pairs = zip(places, columns, scales, strict=True)
            return [e.load(place, size) * scale for place, size, scale in pairs]

        return [step(r) for r in range(rows)]

    def take(self, k, v, columns, xs, steps):
        """Add to C[k, v:] each of the steps, times what the row of A has there."""
        e = self.e
        places = e.beside(e.at(e.row(self.c, k, self.c_row), v), len(columns))
        vecs = [e.load(place, size) for place, size in zip(places, columns, strict=True)]
        for row, step in zip(xs, steps, strict=True):
            x = e.broadcast(e.at(row, k))
            x = x.in_register() if columns[-1] != 1 else x
            parts = [x.part(size) for size in columns]
            vecs = [d.fma(y, old) for d, y, old in zip(step, parts, vecs, strict=True)]
        for place, vec, size in zip(places, vecs, columns, strict=True):
            e.store(place, vec, size)


@emitted(apart=True)
def add_by_steps(e, rows, width, depth, a, a_row, table, ahead, b, b_row, c, c_row, alpha):
    """C += alpha A^T B, as `gemm_axpy`; C is read and written for every STEP_ROWS of depth."""
    # Rows of A are read along, and those `ahead` are asked for meanwhile.
    t, build = _Steps(e, a, a_row, b, b_row, c, c_row, alpha), e.builder
    line = machine.LINE * 8 // e.dtype.bitwidth

    def panel(columns, v):
        def some(i, size):
            numbers = [build.add(i, I64(r)) for r in range(size)]
            xs, nexts = ([t.a_from(which, n) for n in numbers] for which in (table, ahead))
            steps = t.steps(i, size, v, columns)
            with e.over(rows, line) as first:
                for row in nexts:
                    prefetch_line(build, e.at(row, first))
                last = build.add(first, I64(line))
                last = build.select(build.icmp_signed("<", last, rows), last, rows)
                with e.over(last, 1, first) as k:
                    t.take(k, v, columns, xs, steps)

        in_sizes(e, depth, machine.STEP_ROWS, some)

    most = machine.STEP_COLUMNS
    t.panels(width, panel, most, most if machine.HALF_TAILS else 0)


def _gemm_times(shape):
    # C = (A B) * C, element by element. A: (rows, depth); B: (depth, width); C: (rows, width).

    def gemm_times(e, rows, width, depth, a, a_row, b, b_row, c, c_row):
        t = Tile(e, a, a_row, b, b_row, c, c_row, None)

        def finish(i, v, totals):
            for r, total in enumerate(totals):
                n = e.builder.add(i, I64(r))
                places = e.beside(e.at(e.row(c, n, c_row), v), len(total))
                t.store(n, v, [[x * e.load(p) for x, p in zip(total, places, strict=True)]])

        t.finish = finish
        _emit_tiles(t, "store", rows, width, depth, shape)

    return emitted()(gemm_times)


gemm_times = _gemm_times(_FORWARD)  # lanes over neurons
gemm_times_lanes = _gemm_times(_LANES)  # lanes over the batch


def _hidden(case):
    """Return `case` of activation and slope, by the codes of hidden layers but IDENTITY."""
    return {code: partial(case, *FORMULAS[code]) for code in range(EXP) if code != IDENTITY}


@emitted(apart=True)
def gemm_sloped(e, code, rows, width, depth, a, a_row, b, b_row, c, c_row, act, act_row):
    """C = (A B) * f'(z), computed from act = f(z), by the activation's code."""
    # A: (rows, depth); B: (depth, width); C, act: (rows, width).
    builder = e.builder
    t = Tile(e, a, a_row, b, b_row, c, c_row, None)

    def finish(i, v, totals):
        def case(f, slope):
            for r, total in enumerate(totals):
                n = builder.add(i, I64(r))
                places = e.beside(e.at(e.row(act, n, act_row), v), len(total))
                new = [x * slope(e.load(p)) for x, p in zip(total, places, strict=True)]
                t.store(n, v, [new])

        e.switch(code, _hidden(case) | {IDENTITY: partial(t.store, i, v, totals)})

    t.finish = finish
    _emit_tiles(t, "store", rows, width, depth, _LANES)
