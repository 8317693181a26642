"""Register tiles: everything that multiplies matrices, dense or zero-skipping.

There is one generator, `_emit_tile`: C[r, :] = epilogue(sum over k of A[r, k] * B[k, :]) with the
sums in registers; around it loops over rows, and over panels of columns.

Rows of a matrix that tiles write are whole vectors long: storage is padded to lines of 64 bytes.
In the comments on shapes, `width` and strides are in elements; `width` is whole vectors.
"""

from .. import machine
from ..machine import ENTRY_GROUP, TILE_ROWS
from .memory import prefetch_line
from .vectors import I64, emitted, spread


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

    def b_places(self, k, v, columns):
        """Return the addresses of `columns` vectors of B[k, :] from column v on."""
        b = self.builder
        if self.index is not None:
            k = b.zext(b.load(self.e.at(self.index, k)), I64)
        return self.e.beside(self.e.at(self.b, b.add(b.mul(k, self.b_row), v)), columns)

    def b_vectors(self, k, v, columns):
        """Return `columns` vectors of B[k, :] from column v on."""
        places = self.b_places(k, v, columns)
        vecs = [self.e.load(place) for place in places]
        if self.advance is not None:
            vecs = self.advance(k, vecs)
            for place, vec in zip(places, vecs, strict=True):
                self.e.store(place, vec)
        return vecs

    def panels(self, width, panel, most=machine.TILE_COLUMNS):
        """Emit `panel(columns, v)` over all panels of columns, the widest first."""
        b, lane = self.builder, I64(self.e.lanes)
        vectors = b.sdiv(width, lane)
        _all_others(self.e, vectors, most, lambda i, columns: panel(columns, b.mul(i, lane)))


def _emit_tile(t, epilogue, rows, columns, i, v, depth, split=None):
    """Emit one tile: `rows` x `columns` vectors of C at row i, column v, summed over depth."""
    # "bias": C = bias + A B, with the bias a row; "row_bias": with a number for each row of C;
    # "store": C = A B; "axpy": C += alpha A B. The bias, or alpha, is `extra`. With an index the
    # depth is a multiple of the split.
    b, e = t.builder, t.e
    split = split or machine.K_SPLIT.get(rows, 1)
    n = rows * columns
    if epilogue == "bias":
        sums = [e.load(place) for place in e.beside(e.at(t.extra, v), columns)] * rows
    elif epilogue == "row_bias":
        biases = [e.broadcast(e.at(t.extra, b.add(i, I64(r)))) for r in range(rows)]
        sums = [bias for bias in biases for _ in range(columns)]
    else:
        sums = [e.zero()] * n
    sums += [e.zero()] * (n * (split - 1))
    a_at = t.a_rows(i, rows)

    def step(k, *sums):
        bs = t.b_vectors(k, v, columns)
        xs = [t.value(place) for place in a_at(k)]
        pairs = [(x, y) for x in xs for y in bs]
        return [x.fma(y, total) for (x, y), total in zip(pairs, sums, strict=True)]

    def unrolled(k, *sums):
        new = [step(b.add(k, I64(s)), *sums[s * n : (s + 1) * n]) for s in range(split)]
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
        for c, place in enumerate(e.beside(row, columns)):
            total = totals[r * columns + c]
            if epilogue == "axpy":
                total = total.fma(e.splat(t.extra), e.load(place))
            e.store(place, total)


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


def _whole(e, count, most, body):
    """Emit `body(i, most)` as often as `most` fits into `count`; return the first that is left."""
    whole = e.builder.sub(count, e.builder.srem(count, I64(most)))
    with e.over(whole, most) as i:
        body(i, most)
    return whole


def _all_others(e, count, most, body):
    """Emit `body(i, size)` over `count` things: as many as fit of `most`, then all the others."""
    b, whole = e.builder, _whole(e, count, most, body)
    for size in range(1, most):
        with b.if_then(b.icmp_signed("==", b.sub(count, whole), I64(size))):
            body(whole, size)


def _halves(e, count, most, body):
    """Emit `body(i, size)` over `count` things: as many as fit of `most`, then halves."""
    b, done, size = e.builder, _whole(e, count, most, body), most // 2
    while size:
        present = b.and_(count, I64(size))
        with b.if_then(b.icmp_signed("!=", present, I64(0))):
            body(done, size)
        done, size = b.add(done, present), size // 2


def _gemm(epilogue, transposed=False):
    # C = epilogue(A B). A: (rows, depth), or (depth, rows) where `transposed`; B: (depth, width);
    # C: (rows, width). `table` numbers the rows of A, `ahead` those that will be asked for next;
    # both may be None.

    @emitted()
    def gemm(e, rows, width, depth, a, a_row, table, ahead, b, b_row, c, c_row, extra):
        t = _Tile(
            e, a, a_row, b, b_row, c, c_row, extra, table=table, ahead=ahead, transposed=transposed
        )

        def panel(columns, v):
            def tile(i, size):
                _emit_tile(t, epilogue, size, columns, i, v, depth)

            _halves(e, rows, TILE_ROWS, tile)

        t.panels(width, panel)

    return gemm


gemm_bias = _gemm("bias")
gemm_store = _gemm("store")
gemm_row_bias = _gemm("row_bias", transposed=True)  # C = A^T B, plus a bias per row of C
gemm_axpy = _gemm("axpy", transposed=True)  # C += alpha A^T B


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


@emitted()
def dots_axpy(e, rows, columns, depth, a, a_row, b, b_row, c, c_row, alpha):
    """C[i, j] += alpha * (A[i, :] . B[j, :]), rows of whole vectors: sums over the lanes."""
    # A: (rows, depth); B: (columns, depth); C: (rows, columns).
    t = _Tile(e, a, a_row, b, b_row, c, c_row, alpha)

    def some_rows(i, height):
        def tile(j, width):
            _emit_dots(t, height, width, i, j, depth)

        _halves(e, columns, machine.DOT_COLUMNS, tile)

    _all_others(e, rows, machine.DOT_ROWS, some_rows)


@emitted()
def gather_bias(e, width, depth, a, palette, index, b, b_row, c, extra):
    """c = extra + sum over k of a[k] * B[index[k], :]."""
    # a, index: (depth,), a multiple of ENTRY_GROUP; c, extra: (width,). With a palette the values
    # are `palette[a[k]]`.
    t = _Tile(e, a, I64(0), b, b_row, c, I64(0), extra, index=index, palette=palette)

    def panel(columns, v):
        _emit_tile(t, "bias", 1, columns, I64(0), v, depth, ENTRY_GROUP)

    t.panels(width, panel, machine.SPARSE_COLUMNS)


@emitted()
def scatter_axpy(e, width, count, a, palette, index, alpha, b, c, c_row):
    """C[index[k], :] += a[k] * (alpha * b) for each k: a sample's update of its nonzeros' rows."""
    # a, index: (count,), a multiple of ENTRY_GROUP; b: (width,). With a palette the values are
    # `palette[a[k]]`.
    t = _Tile(e, a, I64(0), c, c_row, c, c_row, None, index=index, palette=palette)
    scale = e.splat(alpha)

    def panel(columns, v):
        rows = [e.load(place) * scale for place in e.beside(e.at(b, v), columns)]
        with e.over(count, ENTRY_GROUP) as first:
            for s in range(ENTRY_GROUP):
                k = e.builder.add(first, I64(s))
                x = t.value(e.at(a, k))
                places = t.b_places(k, v, columns)
                for place, row in zip(places, rows, strict=True):
                    e.store(place, row.fma(x, e.load(place)))

    t.panels(width, panel, machine.SPARSE_COLUMNS)


@emitted()
def update_and_forward(e, width, depth, now, alpha, delta, following, w, w_row, out, bias):
    """W[k] += now[k] * (alpha * delta); out = bias + sum over k of following[k] * W[k]."""
    # The update of one sample and the forward pass of the next: W is read and written once a sample
    # rather than read twice. The sum is added up as a tile of one row does.
    # W: (depth, width); now, following: (depth,); delta, out, bias: (width,).
    t = _Tile(e, following, I64(0), w, w_row, out, I64(0), bias)
    scale = e.splat(alpha)

    def panel(columns, v):
        steps = [e.load(place) * scale for place in e.beside(e.at(delta, v), columns)]

        def advance(k, vecs):
            x = e.broadcast(e.at(now, k))
            return [step.fma(x, old) for step, old in zip(steps, vecs, strict=True)]

        t.advance = advance
        _emit_tile(t, "bias", 1, columns, I64(0), v, depth)

    t.panels(width, panel)


@emitted()
def delta_and_update(e, rows, width, w, w_row, delta, a, alpha, out):
    """out[i] = W[i] . delta, then W[i] += alpha a[i] delta, for one sample."""
    # The dot products take rows before their update. W: (rows, width); delta: (width,); a, out:
    # (rows,).
    b, most = e.builder, machine.DELTA_ROWS

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
