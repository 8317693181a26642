"""Register tiles: everything that multiplies matrices, dense or zero-skipping.

There is one generator, `_emit_tile`: C[r, :] = epilogue(sum over k of A[r, k] * B[k, :]) with the
sums in registers; around it loops over rows, and over panels of columns.

Rows of a matrix that tiles write are whole vectors long: storage is padded to lines of 64 bytes.
"""

from functools import partial

from numba import types
from numba.extending import intrinsic

from ..jit import vector_bytes
from .vectors import I64, LINE, Vec, lanes, load, loop, prefetch_line, splat, spread, store, zero

# Rows of a tile, and its columns in vectors. 8x3 reaches the FMA peak with 32 registers; 4x3 is
# what 16 registers hold (12 accumulators, 3 vectors of B, one broadcast).
TILE_ROWS = 8 if vector_bytes() == LINE else 4
TILE_COLUMNS = 3
# Zero-skipping input has tiles of one row. Its entries come in whole groups, filled up with zeros:
# they are summed in as many parts, and no loop has a remainder, whose exit would be mispredicted.
SPARSE_COLUMNS = 4
GROUP = 4
# Rows and columns of a tile of dot products: 2x8 gave 230 GFLOP/s, 4x4 and 3x8 gave 190 and 215.
DOT_ROWS = 2
DOT_COLUMNS = 8 if vector_bytes() == LINE else 4
# One accumulator per vector would leave a one-row tile waiting for each FMA's four cycles: narrow
# tiles split the sum over k into this many. It depends on the rows alone, so that an element is
# summed in the same order whatever its neighbours.
K_SPLIT = {1: 4, 2: 2}


def _no_stream(n):
    """Return the numbers below n in the order in which neighbouring lines should be asked for.

    Three lines in a row are a stream to the CPU, which then fetches the next ones too. Those may be
    columns of another thread, which has to ask for them again before it writes: for what one thread
    does in 79 us, two took 99, and take 47 in this order (100 samples of MNIST, 784-96).
    """
    return [*range(0, n, 2), *range(1, n, 2)]


class _Tile:
    """Operands of C[r, :] = epilogue(sum over k of A[r, k] * B[k, :]), in elements.

    The rows of A are found by number: the i-th of them starts at `a + table[i] * a_row`, so that
    samples are multiplied where they lie in the data set. They are the rows of the tile, or, where
    `transposed`, its depth: A[r, k] is then element r of the k-th row. B[k, :] lies at
    `b + k * b_row`, or with an index at `b + index[k] * b_row`; C[r, :] at `c + r * c_row`.
    """

    transposed = False
    index = None
    ahead = None  # numbers of the rows of A that will be asked for next
    palette = None  # where A holds places in it instead of values
    advance = None  # see `update_and_forward`

    def __init__(self, builder, dtype, a, a_row, table, b, b_row, c, c_row, extra):
        self.builder, self.dtype = builder, dtype
        self.a, self.a_row, self.table = a, a_row, table
        self.b, self.b_row = b, b_row
        self.c, self.c_row, self.extra = c, c_row, extra

    def a_from(self, table, i):
        """Return the address of the i-th row of A; without a table rows are taken as they lie."""
        b = self.builder
        if table is not None:
            i = b.load(b.gep(table, [i]))
        return b.gep(self.a, [b.mul(i, self.a_row)])

    def a_rows(self, i, rows):
        """Return a function of k that gives the addresses of A[i + r, k] for each r."""
        b = self.builder
        steps = [b.add(i, I64(r)) for r in range(rows)]
        if self.transposed:

            def at_k(k):
                row = self.a_from(self.table, k)
                return [b.gep(row, [step]) for step in steps]

            return at_k
        starts = [self.a_from(self.table, step) for step in steps]
        return lambda k: [b.gep(start, [k]) for start in starts]

    def value(self, place):
        """Return the number at an address of A, in every lane."""
        x = self.builder.load(place)
        if self.palette is not None:
            x = self.builder.load(self.builder.gep(self.palette, [self.builder.zext(x, I64)]))
        return splat(self.builder, self.dtype, x)

    def b_at(self, k, v):
        b = self.builder
        if self.index is not None:
            k = b.zext(b.load(b.gep(self.index, [k])), I64)
        return b.gep(self.b, [b.add(b.mul(k, self.b_row), v)])

    def b_row_at(self, k, v, columns):
        """Return `columns` vectors of B[k, :] from column v on."""
        b, lane = self.builder, lanes(self.dtype)
        base = self.b_at(k, v)
        places = [b.gep(base, [I64(c * lane)]) for c in range(columns)]
        loaded = {c: load(b, self.dtype, places[c]) for c in _no_stream(columns)}
        vecs = [loaded[c] for c in range(columns)]
        if self.advance is not None:
            vecs = self.advance(k, v, vecs)
            for place, vec in zip(places, vecs, strict=True):
                store(b, self.dtype, place, vec)
        return vecs

    def c_at(self, i, r, v, column):
        b = self.builder
        row = b.mul(b.add(i, I64(r)), self.c_row)
        return b.gep(self.c, [b.add(row, b.add(v, I64(column * lanes(self.dtype))))])


def _start_from_bias(t, row, v, column):
    """C = bias + A B: the bias row is `extra`."""
    return load(t.builder, t.dtype, t.builder.gep(t.extra, [_column(t, v, column)]))


def _start_from_row_bias(t, row, v, column):
    """C[r, :] = bias[r] + (A B)[r, :]."""
    return splat(t.builder, t.dtype, t.builder.load(t.builder.gep(t.extra, [row])))


def _start_from_zero(t, row, v, column):
    return zero(t.builder, t.dtype)


def _plain(t, target, acc):
    store(t.builder, t.dtype, target, acc)


def _add_scaled(t, target, acc):
    """C += alpha A B: alpha is `extra`."""
    alpha = splat(t.builder, t.dtype, t.extra)
    store(t.builder, t.dtype, target, acc.fma(alpha, load(t.builder, t.dtype, target)))


# What a tile starts its sums from, and what it does with them.
EPILOGUES = {
    "bias": (_start_from_bias, _plain),
    "row_bias": (_start_from_row_bias, _plain),
    "store": (_start_from_zero, _plain),
    "axpy": (_start_from_zero, _add_scaled),
}


def _column(t, v, column):
    return t.builder.add(v, I64(column * lanes(t.dtype)))


def _summed(t, sums, parts):
    """Add up `parts` partial sums, always in the same order."""
    n = len(sums) // parts
    totals = [Vec(t.builder, x) for x in sums[:n]]
    for part in range(1, parts):
        totals = [x + Vec(t.builder, sums[part * n + j]) for j, x in enumerate(totals)]
    return totals


def _emit_tile(t, epilogue, rows, columns, i, v, depth, split=None):
    """Emit one tile: `rows` x `columns` vectors of C at row i, column v, summed over depth.

    With an index the depth is a multiple of the split.
    """
    b, dtype = t.builder, t.dtype
    start, finish = EPILOGUES[epilogue]
    split = split or K_SPLIT.get(rows, 1)
    n = rows * columns
    starts = [b.add(i, I64(r)) for r in range(rows)]
    sums = [start(t, row, v, c).value for row in starts for c in range(columns)]
    sums += [zero(b, dtype).value] * (n * (split - 1))
    a_at = t.a_rows(i, rows)

    def step(k, sums):
        bs = t.b_row_at(k, v, columns)
        xs = [t.value(place) for place in a_at(k)]
        pairs = [(x, y) for x in xs for y in bs]
        return [x.fma(y, Vec(b, acc)).value for (x, y), acc in zip(pairs, sums, strict=True)]

    def unrolled(k, sums):
        parts = [step(b.add(k, I64(s)), sums[s * n : (s + 1) * n]) for s in range(split)]
        return [x for part in parts for x in part]

    whole = depth if t.index is not None else b.sub(depth, b.srem(depth, I64(split)))
    first = I64(0)
    if t.ahead is not None and rows == TILE_ROWS:
        first, sums = _emit_fetching(t, unrolled, i, rows, whole, sums)
    sums = loop(b, first, whole, I64(split), sums, unrolled)
    if split > 1 and t.index is None:
        sums[:n] = loop(b, whole, depth, I64(1), sums[:n], step)
    for j, acc in enumerate(_summed(t, sums, split)):
        finish(t, t.c_at(i, j // columns, v, j % columns), acc)


def _emit_fetching(t, step, i, rows, depth, sums):
    """Emit the whole lines of a tile's depth, asking for one line of each row ahead per line.

    In shuffled order each sample comes from main memory. Asked for at the pace at which the tile
    consumes, the next batch arrives while this one is multiplied.
    """
    b = t.builder
    line = I64(LINE * 8 // t.dtype.bitwidth)
    lines = b.sub(depth, b.srem(depth, line))
    aheads = [t.a_from(t.ahead, b.add(i, I64(r))) for r in range(rows)]

    def body(k, sums):
        for row in aheads:
            prefetch_line(b, b.gep(row, [k]))
        return loop(b, k, b.add(k, line), I64(1), sums, step)

    return lines, loop(b, I64(0), lines, line, sums, body)


def _remainders(builder, count, most, body):
    """Emit `body(i, size)` over `count` things: as many as fit of `most`, then all the others."""
    whole = builder.sub(count, builder.srem(count, I64(most)))

    def many(i, _):
        body(i, most)
        return []

    loop(builder, I64(0), whole, I64(most), [], many)
    for size in range(1, most):
        with builder.if_then(builder.icmp_signed("==", builder.sub(count, whole), I64(size))):
            body(whole, size)


def _halvings(builder, count, most, body):
    """Emit `body(i, size)` over `count` things: as many as fit of `most`, then halves."""
    whole = builder.sub(count, builder.srem(count, I64(most)))

    def many(i, _):
        body(i, most)
        return []

    loop(builder, I64(0), whole, I64(most), [], many)
    done, size = whole, most // 2
    while size:
        present = builder.and_(count, I64(size))
        with builder.if_then(builder.icmp_signed("!=", present, I64(0))):
            body(done, size)
        done, size = builder.add(done, present), size // 2


def _emit_rows(t, epilogue, rows, depth, columns, v):
    """Emit the tiles of one panel of columns: whole tiles, then halves down to a single row."""
    _halvings(
        t.builder,
        rows,
        TILE_ROWS,
        lambda i, size: _emit_tile(t, epilogue, size, columns, i, v, depth),
    )


def _emit_panels(t, width, panel, most=TILE_COLUMNS):
    """Emit `panel(columns, v)` over all panels of columns, the widest first."""
    lane = I64(lanes(t.dtype))
    _remainders(
        t.builder,
        t.builder.sdiv(width, lane),
        most,
        lambda i, columns: panel(columns, t.builder.mul(i, lane)),
    )


def _gemm(epilogue, transposed=False):
    """Make the intrinsic C = epilogue(A B) of (rows, width, depth, A.., B.., C.., extra).

    `width` is in elements, whole vectors. `table` numbers the rows of A, `ahead` those that will be
    asked for next; both may be None.
    """

    @intrinsic
    def gemm(typingctx, rows, width, depth, a, a_row, table, ahead, b, b_row, c, c_row, extra):
        dtype = a.dtype
        numbered, fetching = (not isinstance(t, types.NoneType) for t in (table, ahead))

        def codegen(context, builder, signature, args):
            rows, width, depth, a, a_row, table, ahead, *rest = args
            t = _Tile(builder, dtype, a, a_row, table if numbered else None, *rest)
            t.transposed = transposed
            t.ahead = ahead if fetching else None
            _emit_panels(t, width, partial(_emit_rows, t, epilogue, rows, depth))
            return context.get_dummy_value()

        i64, ptr = types.int64, types.CPointer(dtype)
        last = ptr if epilogue.endswith("bias") else dtype
        return types.void(i64, i64, i64, ptr, i64, table, ahead, ptr, i64, ptr, i64, last), codegen

    return gemm


gemm_bias = _gemm("bias")
gemm_store = _gemm("store")
gemm_row_bias = _gemm("row_bias", transposed=True)  # C = A^T B, plus a bias per row of C
gemm_axpy = _gemm("axpy", transposed=True)  # C += alpha A^T B


def _emit_dots(t, rows, columns, i, j, depth):
    """Emit C[i:, j:] += alpha A B^T for `rows` x `columns` elements, both operands along rows."""
    b, dtype = t.builder, t.dtype
    lane = I64(lanes(dtype))

    def row_at(base, row, first, count):
        return [b.gep(base, [b.mul(b.add(first, I64(r)), row)]) for r in range(count)]

    a_rows, b_rows = row_at(t.a, t.a_row, i, rows), row_at(t.b, t.b_row, j, columns)

    def step(s, sums):
        xs = [load(b, dtype, b.gep(row, [s])) for row in a_rows]
        out = []
        for c, row in enumerate(b_rows):  # one at a time: the sums leave few registers
            y = load(b, dtype, b.gep(row, [s]))
            out += [x.fma(y, Vec(b, sums[c * rows + r])).value for r, x in enumerate(xs)]
        return out

    start = [zero(b, dtype).value] * (rows * columns)
    sums = [Vec(b, x) for x in loop(b, I64(0), depth, lane, start, step)]
    for r, row in enumerate(row_at(t.c, t.c_row, i, rows)):
        first, *others = sums[r::rows]
        found = first.sums_beside(others)
        place = b.bitcast(b.gep(row, [j]), found.value.type.as_pointer())
        alpha = Vec(b, spread(b, t.extra, columns))
        old = Vec(b, b.load(place, align=dtype.bitwidth // 8))
        b.store(alpha.fma(found, old).value, place, align=dtype.bitwidth // 8)


@intrinsic
def dots_axpy(typingctx, rows, columns, depth, a, a_row, b, b_row, c, c_row, alpha):
    """C[i, j] += alpha * (A[i, :] . B[j, :]), rows of whole vectors: sums over the lanes."""
    dtype = a.dtype

    def codegen(context, builder, signature, args):
        rows, columns, depth, a, a_row, b, b_row, c, c_row, alpha = args
        t = _Tile(builder, dtype, a, a_row, None, b, b_row, c, c_row, alpha)

        def band(i, height):
            def tile(j, width):
                _emit_dots(t, height, width, i, j, depth)

            _halvings(builder, columns, DOT_COLUMNS, tile)

        _remainders(builder, rows, DOT_ROWS, band)
        return context.get_dummy_value()

    ptr, i64 = types.CPointer(dtype), types.int64
    return types.void(i64, i64, i64, ptr, i64, ptr, i64, ptr, i64, dtype), codegen


@intrinsic
def gather_bias(typingctx, width, depth, a, palette, index, b, b_row, c, extra):
    """c = extra + sum over k of a[k] * B[index[k], :], one row of `width` elements.

    The depth is a multiple of GROUP. With a palette the values are `palette[a[k]]`.
    """
    dtype = c.dtype
    coded = not isinstance(palette, types.NoneType)

    def codegen(context, builder, signature, args):
        width, depth, a, palette, index, b, b_row, c, extra = args
        t = _Tile(builder, dtype, a, I64(0), None, b, b_row, c, I64(0), extra)
        t.index, t.palette = index, palette if coded else None
        _emit_panels(
            t,
            width,
            lambda columns, v: _emit_tile(t, "bias", 1, columns, I64(0), v, depth, GROUP),
            SPARSE_COLUMNS,
        )
        return context.get_dummy_value()

    ptr, i64 = types.CPointer(dtype), types.int64
    return types.void(i64, i64, a, palette, index, ptr, i64, ptr, ptr), codegen


@intrinsic
def scatter_axpy(typingctx, width, count, a, palette, index, alpha, b, c, c_row):
    """C[index[k], :] += a[k] * (alpha * b) for each k: one sample's update of the rows it lights.

    The count is a multiple of GROUP. With a palette the values are `palette[a[k]]`.
    """
    dtype = c.dtype
    coded = not isinstance(palette, types.NoneType)

    def codegen(context, builder, signature, args):
        width, count, a, palette, index, alpha, b, c, c_row = args
        t = _Tile(builder, dtype, a, I64(0), None, c, c_row, c, c_row, None)
        t.index, t.palette = index, palette if coded else None
        scale = splat(builder, dtype, alpha)

        def panel(columns, v):
            places = [builder.gep(b, [_column(t, v, j)]) for j in range(columns)]
            rows = [load(builder, dtype, place) * scale for place in places]

            def one(k):
                x = t.value(builder.gep(a, [k]))
                base = t.b_at(k, v)
                for j in _no_stream(columns):
                    target = builder.gep(base, [I64(j * lanes(dtype))])
                    store(builder, dtype, target, rows[j].fma(x, load(builder, dtype, target)))

            def body(k, _):
                for s in range(GROUP):
                    one(builder.add(k, I64(s)))
                return []

            loop(builder, I64(0), count, I64(GROUP), [], body)

        _emit_panels(t, width, panel, SPARSE_COLUMNS)
        return context.get_dummy_value()

    ptr, i64 = types.CPointer(dtype), types.int64
    return types.void(i64, i64, a, palette, index, dtype, ptr, ptr, i64), codegen


@intrinsic
def update_and_forward(typingctx, width, depth, now, alpha, delta, following, w, w_row, out, bias):
    """W[k] += now[k] * (alpha * delta); out = bias + sum over k of following[k] * W[k].

    One pass over W takes the update of one sample and the forward pass of the next: W is read and
    written once a sample rather than read twice. The sum is added up as a tile of one row does.
    """
    dtype = w.dtype

    def codegen(context, builder, signature, args):
        width, depth, now, alpha, delta, following, w, w_row, out, bias = args
        t = _Tile(builder, dtype, following, I64(0), None, w, w_row, out, I64(0), bias)
        scale = splat(builder, dtype, alpha)

        def panel(columns, v):
            steps = [
                load(builder, dtype, builder.gep(delta, [_column(t, v, j)])) * scale
                for j in range(columns)
            ]

            def advance(k, v, vecs):
                x = splat(builder, dtype, builder.load(builder.gep(now, [k])))
                return [step.fma(x, old) for step, old in zip(steps, vecs, strict=True)]

            t.advance = advance
            _emit_tile(t, "bias", 1, columns, I64(0), v, depth)

        _emit_panels(t, width, panel)
        return context.get_dummy_value()

    ptr, i64 = types.CPointer(dtype), types.int64
    return types.void(i64, i64, ptr, dtype, ptr, ptr, ptr, i64, ptr, ptr), codegen


@intrinsic
def delta_and_update(typingctx, rows, width, w, w_row, delta, a, target, alpha, out):
    """One pass over W for one sample: out[i] = W[i] . delta, then target[i] += alpha a[i] delta.

    The dot product takes the row before its update, also where `target` is W itself.
    """
    dtype = delta.dtype

    def codegen(context, builder, signature, args):
        rows, width, w, w_row, delta, a, target, alpha, out = args
        b, lane = builder, I64(lanes(dtype))

        def row(i, _):
            offset = b.mul(i, w_row)
            x = splat(b, dtype, b.fmul(alpha, b.load(b.gep(a, [i]))))

            def column(v, sums):
                at_v = b.add(offset, v)
                d = load(b, dtype, b.gep(delta, [v]))
                old = load(b, dtype, b.gep(w, [at_v]))
                place = b.gep(target, [at_v])
                store(b, dtype, place, d.fma(x, load(b, dtype, place)))
                return [old.fma(d, Vec(b, sums[0])).value]

            (total,) = loop(b, I64(0), width, lane, [zero(b, dtype).value], column)
            b.store(Vec(b, total).fold(Vec.__add__), b.gep(out, [i]))
            return []

        loop(b, I64(0), rows, I64(1), [], row)
        return context.get_dummy_value()

    ptr = types.CPointer(dtype)
    i64 = types.int64
    return types.void(i64, i64, ptr, i64, ptr, ptr, ptr, dtype, ptr), codegen
