"""Register tiles: everything that multiplies matrices, dense or zero-skipping.

There is one generator, `_emit_tile`: C[r, :] = epilogue(sum over k of A[r, k] * B[k, :]) with the
sums in registers; around it loops over rows, and over panels of columns.

Rows of a matrix that tiles write are whole vectors long: storage is padded to lines of 64 bytes.
In the comments on shapes, `width` and strides are in elements; `width` is whole vectors.
"""

from llvmlite import ir

from .. import machine
from ..machine import ENTRY_GROUP, PACKED_ROWS, TILE_ROWS
from .memory import FIRST_LEVEL, prefetch_line
from .vectors import I64, emitted, shuffle, spread


class _Tile:
    """Operands of C[r, :] = epilogue(sum over k of A[r, k] * B[k, :])."""

    # The rows of A are found by number: the i-th of them starts at `a + table[i] * a_row`, so that
    # samples are multiplied where they lie in the data set. They are the rows of the tile, or,
    # where `transposed`, its depth: A[r, k] is then element r of the k-th row. B[k, :] lies at
    # `b + k * b_row`, or with an index at `b + index[k] * b_row`; C[r, :] at `c + r * c_row`.
    transposed = False
    table = None  # numbers of the rows of A; without it they are taken as they lie
    index = None
    ahead = None  # numbers of the rows of A that will be asked for next
    palette = None  # where A holds places in it instead of values
    apart = 1  # elements of A from one entry to the next
    advance = None  # changes rows of B as they are read; see `update_and_forward`

    def __init__(self, e, a, a_row, b, b_row, c, c_row, extra, **options):
        self.e, self.builder, self.extra = e, e.builder, extra
        self.a, self.a_row, self.b, self.b_row, self.c, self.c_row = a, a_row, b, b_row, c, c_row
        vars(self).update(options)

    def a_from(self, table, i):
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
        return vecs

    def ask_for(self, i, v, rows, columns):
        """Ask for the lines of rows of C, which are added to once the sums are there."""
        for r in range(rows):
            row = self.e.at(self.e.row(self.c, self.builder.add(i, I64(r)), self.c_row), v)
            for place in self.e.beside(row, len(columns)):
                prefetch_line(self.builder, place, FIRST_LEVEL)

    def panels(self, width, panel, most=machine.TILE_COLUMNS, halves=False):
        """Emit `panel(columns, v)` over all panels of columns, the widest first.

        Columns are their sizes in vectors; with `halves` the last may be half of one.
        """
        b, lanes = self.builder, I64(self.e.lanes)
        vectors = b.sdiv(b.add(width, b.sub(lanes, I64(1))), lanes)
        # A single column leaves tiles waiting for loads and additions: it is taken with half of the
        # panel before, and half a column with the one before it.
        tail = self._half_tail(width, vectors) if halves else I64(0)
        vectors = b.sub(vectors, tail)
        rest = b.srem(vectors, I64(most))
        alone = b.and_(b.icmp_signed("==", rest, I64(1)), b.icmp_signed(">", vectors, I64(most)))
        full = b.sub(b.sub(vectors, rest), b.select(alone, I64(most), I64(0)))

        def whole(i, columns):
            panel([1] * columns, b.mul(i, lanes))

        with self.e.over(full, most) as i:
            whole(i, most)
        _in_sizes(self.e, vectors, range(most - 1, 0, -1), whole, full)
        if halves:
            with b.if_then(b.icmp_signed("!=", tail, I64(0))):
                panel([1, 0.5], b.mul(vectors, lanes))

    def _half_tail(self, width, vectors):
        """Return the columns at the end that are taken together: two if the last is half of one."""
        b, lanes = self.builder, self.e.lanes
        last = b.srem(width, I64(lanes))
        half = b.and_(b.icmp_signed(">", last, I64(0)), b.icmp_signed("<=", last, I64(lanes // 2)))
        return b.select(b.and_(half, b.icmp_signed(">", vectors, I64(1))), I64(2), I64(0))


class _PackedTile(_Tile):
    """A tile whose A is packed by `pack`."""

    def a_rows(self, i, rows):
        start = self.e.row(self.a, i, self.a_row)

        def at_k(k):
            row = self.e.row(start, k, I64(PACKED_ROWS))
            return [self.e.at(row, r) for r in range(rows)]

        return at_k


def _emit_tile(t, epilogue, rows, columns, i, v, depth, split=None):
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
    if t.ahead is not None and rows == TILE_ROWS:
        first, sums = _emit_fetching(t, unrolled, i, rows, whole, sums)
    sums = e.loop(first, whole, split, sums, unrolled)
    if split > 1 and t.index is None:
        sums[:n] = e.loop(whole, depth, 1, sums[:n], step)
    totals = sums[:n]
    for s in range(1, split):  # always in the same order
        totals = [x + sums[s * n + j] for j, x in enumerate(totals)]
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


def _in_sizes(e, count, sizes, body, done=ZERO):
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


def _gemm(epilogue, transposed=False, shape=_FORWARD, halves=False):
    # C = epilogue(A B). A: (rows, depth), or (depth, rows) where `transposed`; B: (depth, width);
    # C: (rows, width). `table` numbers the rows of A, `ahead` those that will be asked for next;
    # both may be None.
    heights, most = shape

    def gemm(e, rows, width, depth, a, a_row, table, ahead, b, b_row, c, c_row, extra):
        t = _Tile(
            e, a, a_row, b, b_row, c, c_row, extra, table=table, ahead=ahead, transposed=transposed
        )

        def panel(columns, v):
            def tile(i, size):
                _emit_tile(t, epilogue, size, columns, i, v, depth)

            _in_units(e, rows, heights, tile)

        t.panels(width, panel, most, halves)

    gemm.__name__ = f"gemm_{epilogue}"
    return emitted(apart=True)(gemm)


gemm_bias = _gemm("bias", halves=machine.HALF_TAILS)
gemm_store = _gemm("store")
gemm_row_bias = _gemm("row_bias", transposed=True)  # C = A^T B, plus a bias per row of C
gemm_axpy = _gemm("axpy", True, _UPDATE, machine.HALF_TAILS)  # C += alpha A^T B


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
            _emit_tile(t, "axpy", PACKED_ROWS, columns, i, v, depth, 1)

    t.panels(width, panel, machine.PACKED_COLUMNS, machine.HALF_TAILS)


def _emit_dots(t, rows, columns, i, j, depth):
    """Emit C[i:, j:] += alpha A B^T for `rows` x `columns` elements, both operands along rows."""
    b, e = t.builder, t.e

    a_rows = [e.row(t.a, b.add(i, I64(r)), t.a_row) for r in range(rows)]
    b_rows = [e.row(t.b, b.add(j, I64(c)), t.b_row) for c in range(columns)]

    def step(s, *sums):
        xs = [e.load(e.at(row, s)) for row in a_rows]
        out = []
        for c, row in enumerate(b_rows):  # one at a time: the sums leave few registers
            y = e.load(e.at(row, s))
            out += [x.fma(y, sums[c * rows + r]) for r, x in enumerate(xs)]
        return out

    sums = e.loop(I64(0), depth, e.lanes, [e.zero()] * (rows * columns), step)
    for r in range(rows):
        row = e.row(t.c, b.add(i, I64(r)), t.c_row)
        first, *others = sums[r::rows]
        found = first.sums_beside(others)
        place = b.bitcast(e.at(row, j), found.value.type.as_pointer())
        alpha = e.vec(spread(b, t.extra, columns))
        old = e.vec(b.load(place, align=e.dtype.bitwidth // 8))
        b.store(alpha.fma(found, old).value, place, align=e.dtype.bitwidth // 8)


@emitted(apart=True)
def dots_axpy(e, rows, columns, depth, a, a_row, b, b_row, c, c_row, alpha):
    """C[i, j] += alpha * (A[i, :] . B[j, :]), rows of whole vectors: sums over the lanes."""
    # A: (rows, depth); B: (columns, depth); C: (rows, columns).
    t = _Tile(e, a, a_row, b, b_row, c, c_row, alpha)

    def some_rows(i, height):
        def tile(j, width):
            _emit_dots(t, height, width, i, j, depth)

        _in_sizes(e, columns, [n for n in (8, 4, 2, 1) if n <= machine.DOT_COLUMNS], tile)

    _in_sizes(e, rows, range(machine.DOT_ROWS, 0, -1), some_rows)


@emitted(apart=True)
def gather_bias(e, width, depth, a, palette, index, b, b_row, c, extra):
    """c = extra + sum over k of a[k] * B[index[k], :]."""
    # a, index: (depth,), a multiple of ENTRY_GROUP; c, extra: (width,). With a palette the values
    # are `palette[a[k]]`.
    t = _Tile(e, a, I64(0), b, b_row, c, I64(0), extra, index=index, palette=palette)

    def panel(columns, v):
        _emit_tile(t, "bias", 1, columns, I64(0), v, depth, machine.ENTRY_SUMS)

    t.panels(width, panel, machine.SPARSE_COLUMNS)


@emitted()
def append_entries(e, count, a, palette, index, n, ends, pairs):
    """Append a[k] and n to the list of each input index[k], as a pair; zeros are left out."""
    # a, index: (count,), a multiple of ENTRY_GROUP, where zeros fill it up; with a palette the
    # values are `palette[a[k]]`. ends: (inputs,), the place of the next pair in each list. Values
    # are compared as bits, and a line of a list is asked for before its first pair; alone, neither
    # showed beside the noise of 1 % of a step (Zen 4).
    b, width = e.builder, e.dtype.bitwidth
    bits, pair = ir.IntType(width), ir.IntType(2 * width)
    high = b.shl(b.zext(b.trunc(n, bits) if width < 64 else n, pair), pair(width))
    with e.over(count, ENTRY_GROUP) as first:
        for s in range(ENTRY_GROUP):
            k = b.add(first, I64(s))
            place, end_place = e.at(a, k), e.at(ends, b.zext(b.load(e.at(index, k)), I64))
            if palette is not None:
                place = e.at(palette, b.zext(b.load(place), I64))
            x, end = b.load(b.bitcast(place, bits.as_pointer())), b.load(end_place)
            target = e.at(pairs, b.shl(end, I64(1)))
            both = b.or_(b.zext(x, pair), high)
            b.store(both, b.bitcast(target, pair.as_pointer()), align=width // 8)
            b.store(b.add(end, b.zext(b.icmp_unsigned("!=", x, bits(0)), I64)), end_place)
            prefetch_line(b, e.at(target, 4), FIRST_LEVEL, write=True)


class _ListTile(_Tile):
    """A tile of one row of A, which is a list: pairs of a value, and where its row of B starts."""

    apart = 2
    index = ()  # rows of B are found by number

    def _part(self, k, part):
        return self.e.at(self.a, self.builder.add(self.builder.shl(k, I64(1)), I64(part)))

    def a_rows(self, i, rows):
        return lambda k: [self._part(k, 0)]

    def b_places(self, k, v, columns):
        b, e = self.builder, self.e
        kind = ir.IntType(e.dtype.bitwidth)
        start = b.load(b.bitcast(self._part(k, 1), kind.as_pointer()))
        start = start if kind.width == 64 else b.zext(start, I64)
        return e.beside(e.at(self.b, b.add(start, v)), len(columns))


@emitted(apart=True)
def gather_axpy(e, width, depth, pairs, b, c, alpha):
    """c += alpha * sum over k of x[k] * B[n[k] :], for `depth` pairs of a value and a place."""
    # pairs: (depth, 2), a multiple of LIST_SPLIT, see `memory.put_pair`; c: (width,).
    t = _ListTile(e, pairs, I64(0), b, I64(0), c, I64(0), alpha)

    def panel(columns, v):
        _emit_tile(t, "axpy", 1, columns, I64(0), v, depth, machine.LIST_SPLIT)

    t.panels(width, panel, machine.SPARSE_COLUMNS)


@emitted(apart=True)
def scatter_axpy(e, width, count, a, palette, index, alpha, b, c, c_row):
    """C[index[k], :] += a[k] * (alpha * b) for each k: a sample's update of its nonzeros' rows."""
    # a, index: (count,), a multiple of ENTRY_GROUP; b: (width,). With a palette the values are
    # `palette[a[k]]`.
    t = _Tile(e, a, I64(0), c, c_row, c, c_row, None, index=index, palette=palette)
    scale = e.splat(alpha)

    def panel(columns, v):
        rows = [e.load(place) * scale for place in e.beside(e.at(b, v), len(columns))]
        with e.over(count, ENTRY_GROUP) as first:
            for s in range(ENTRY_GROUP):
                k = e.builder.add(first, I64(s))
                x = t.value(e.at(a, k))
                places = t.b_places(k, v, columns)
                for place, row in zip(places, rows, strict=True):
                    e.store(place, row.fma(x, e.load(place)))

    t.panels(width, panel, machine.SPARSE_COLUMNS)


@emitted(apart=True)
def update_and_forward(e, width, depth, now, alpha, delta, following, w, w_row, out, bias):
    """W[k] += now[k] * (alpha * delta); out = bias + sum over k of following[k] * W[k]."""
    # The update of one sample and the forward pass of the next: W is read and written once a sample
    # rather than read twice. The sum is added up as a tile of one row does.
    # W: (depth, width); now, following: (depth,); delta, out, bias: (width,).
    e = e.with_vectors(machine.PASS_BYTES)
    t = _Tile(e, following, I64(0), w, w_row, out, I64(0), bias)
    scale = e.splat(alpha)

    def panel(columns, v):
        steps = [e.load(place) * scale for place in e.beside(e.at(delta, v), len(columns))]

        def advance(k, vecs):
            x = e.broadcast(e.at(now, k))
            return [step.fma(x, old) for step, old in zip(steps, vecs, strict=True)]

        t.advance = advance
        _emit_tile(t, "bias", 1, columns, I64(0), v, depth)

    t.panels(width, panel, machine.PASS_COLUMNS)


@emitted(apart=True)
def delta_and_update(e, rows, width, w, w_row, delta, a, alpha, out):
    """out[i] = W[i] . delta, then W[i] += alpha a[i] delta, for one sample."""
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
        sums = first.sums_beside(others).value
        b.store(sums, b.bitcast(e.at(out, i), sums.type.as_pointer()), align=e.dtype.bitwidth // 8)

    # From the end: what the forward pass has read last is still in the first level.
    whole = b.sub(rows, b.srem(rows, I64(most)))
    with e.over(b.sub(rows, whole)) as r:
        some_rows(b.add(whole, r), 1)
    with e.over(whole, most) as done:
        some_rows(b.sub(b.sub(whole, I64(most)), done), most)
