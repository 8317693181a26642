"""Vectors, register tiles and transposes, written as LLVM IR behind `numba.extending.intrinsic`.

Kernels work on pointers: `pointer(array)` gives one, `at(p, i)` moves it by i elements, and `p[i]`
reads or writes a scalar. `Vec` wraps an LLVM vector so that the code which emits a formula reads
like the formula. There is one generator of register tiles, `_emit_tile`; everything that multiplies
matrices, dense or zero-skipping, is written around it.

Rows of a matrix that tiles write are whole vectors long: storage is padded to lines of 64 bytes.
"""

import math
from functools import partial

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import vector_bytes

LINE = 64  # bytes; storage rows are whole lines on every CPU

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

# Inputs looked at together for what is not zero.
MASK_BITS = 32
# Columns that are turned without squares of vectors.
FEW = 4
# Vectors that a long formula is worked out for at once.
GROUPED = 4

I64 = ir.IntType(64)


# -- vectors ---------------------------------------------------------------------------------------


def lanes(dtype):
    """Return how many elements of a Numba float type one vector holds."""
    return vector_bytes() * 8 // dtype.bitwidth


def _element(dtype):
    return {32: ir.FloatType(), 64: ir.DoubleType()}[dtype.bitwidth]


class Vec:
    """An LLVM vector, or scalar, in the making: Python's operators emit instructions."""

    def __init__(self, builder, value):
        self.builder = builder
        self.value = value

    def _lift(self, other):
        if isinstance(other, Vec):
            return other.value
        kind = self.value.type
        return ir.Constant(kind, [other] * kind.count if hasattr(kind, "count") else other)

    def _binary(self, other, op):
        return Vec(self.builder, getattr(self.builder, op)(self.value, self._lift(other)))

    def __add__(self, other):
        return self._binary(other, "fadd")

    def __sub__(self, other):
        return self._binary(other, "fsub")

    def __mul__(self, other):
        return self._binary(other, "fmul")

    def __truediv__(self, other):
        return self._binary(other, "fdiv")

    def __neg__(self):
        return Vec(self.builder, self.builder.fneg(self.value))

    def __abs__(self):
        return self.call("fabs")

    def const(self, x):
        """Return the number x in every lane."""
        return Vec(self.builder, self._lift(x))

    def fma(self, factor, addend):
        """Return self * factor + addend, rounded once where the CPU can."""
        return self.call("fmuladd", factor, addend)

    def call(self, name, *others):
        """Call the LLVM intrinsic of this name on vectors of this type."""
        t = self.value.type
        kind = "f32" if isinstance(t.element, ir.FloatType) else "f64"
        args = [self.value, *map(self._lift, others)]
        fn = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(t, [t] * len(args)),
            f"llvm.{name}.v{t.count}{kind}",
        )
        return Vec(self.builder, self.builder.call(fn, args))

    def where(self, op, bound, yes, no):
        """Return `yes` in the lanes where `self op bound` holds (never for NaN), else `no`."""
        mask = self.builder.fcmp_ordered(op, self.value, self._lift(bound))
        return Vec(self.builder, self.builder.select(mask, self._lift(yes), self._lift(no)))

    def keep(self, mask, other):
        """Return self in the lanes of the mask, else `other`."""
        return Vec(self.builder, self.builder.select(mask, self.value, self._lift(other)))

    def fold(self, op):
        """Combine all lanes into a scalar by halves, always in the same order."""
        value, n = self.value, self.value.type.count
        while n > 1:
            n //= 2
            low = _shuffle(self.builder, value, value, range(n))
            high = _shuffle(self.builder, value, value, range(n, 2 * n))
            value = op(Vec(self.builder, low), Vec(self.builder, high)).value
        return self.builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    def sums_beside(self, others):
        """Return one vector of the sums of this vector's lanes and of each other vector's.

        Halves are added up as in `fold`, of all vectors at once: a fifth of the instructions.
        """
        b, vecs = self.builder, [self.value, *(x.value for x in others)]
        group = self.value.type.count  # lanes that make up one sum

        def halved(pieces):
            """Add the first half of each group to its second, over the vectors of `pieces`."""
            n = pieces[0].type.count
            places = [j for part in range(len(pieces)) for j in range(part * n, (part + 1) * n)]
            low = [j for j in places if j % group < group // 2]
            high = [j for j in places if j % group >= group // 2]
            return b.fadd(*(_shuffle(b, pieces[0], pieces[-1], half) for half in (low, high)))

        while len(vecs) > 1:
            pairs = list(zip(vecs[::2], vecs[1::2], strict=True))
            if group > 1:
                vecs, group = [halved(pair) for pair in pairs], group // 2
            else:
                vecs = [_shuffle(b, x, y, range(2 * x.type.count)) for x, y in pairs]
        while group > 1:
            vecs, group = [halved(vecs)], group // 2
        return Vec(b, vecs[0])


def _shuffle(builder, a, b, order):
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))
    return builder.shuffle_vector(a, b, mask)


def spread(builder, scalar, count):
    """Return `count` lanes of a scalar of any type."""
    empty = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
    one = builder.insert_element(empty, scalar, ir.IntType(32)(0))
    return _shuffle(builder, one, one, [0] * count)


def splat(builder, dtype, scalar):
    """Return a vector of one number."""
    return Vec(builder, spread(builder, scalar, lanes(dtype)))


def zero(builder, dtype):
    """Return a vector of zeros."""
    vec = ir.VectorType(_element(dtype), lanes(dtype))
    return Vec(builder, ir.Constant(vec, [0.0] * vec.count))


def _vector(dtype, vectors=1):
    return ir.VectorType(_element(dtype), lanes(dtype) * vectors)


def _vector_pointer(builder, dtype, ptr, vectors=1):
    return builder.bitcast(ptr, _vector(dtype, vectors).as_pointer())


def load(builder, dtype, ptr, vectors=1):
    """Load from any element's address."""
    place = _vector_pointer(builder, dtype, ptr, vectors)
    return Vec(builder, builder.load(place, align=dtype.bitwidth // 8))


def store(builder, dtype, ptr, vec, vectors=1):
    """Store at any element's address."""
    place = _vector_pointer(builder, dtype, ptr, vectors)
    builder.store(vec.value, place, align=dtype.bitwidth // 8)


def first_lanes(builder, dtype, n, vectors=1):
    """Return the mask of the first n lanes: none where n < 0, all where there are fewer."""
    i32, count = ir.IntType(32), lanes(dtype) * vectors
    iota = ir.Constant(ir.VectorType(i32, count), list(range(count)))
    return builder.icmp_signed("<", iota, spread(builder, builder.trunc(n, i32), count))


def _masked(builder, dtype, name, result, args, vectors):
    fn = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(result, [a.type for a in args]),
        f"llvm.masked.{name}.v{lanes(dtype) * vectors}f{dtype.bitwidth}.p0",
    )
    return builder.call(fn, args)


def masked_load(builder, dtype, ptr, mask, vectors=1, fill=0.0):
    """Load the lanes of the mask; no byte of the others is read, and they hold `fill`."""
    vec = _vector(dtype, vectors)
    align = ir.IntType(32)(dtype.bitwidth // 8)
    empty = ir.Constant(vec, [fill] * vec.count)
    place = _vector_pointer(builder, dtype, ptr, vectors)
    return Vec(builder, _masked(builder, dtype, "load", vec, [place, align, mask, empty], vectors))


def masked_store(builder, dtype, ptr, mask, vec, vectors=1):
    """Store the lanes of the mask; no byte of the others is written."""
    align = ir.IntType(32)(dtype.bitwidth // 8)
    place = _vector_pointer(builder, dtype, ptr, vectors)
    args = [vec.value, place, align, mask]
    _masked(builder, dtype, "store", ir.VoidType(), args, vectors)


def map_row(builder, dtype, n, body, sources, target, fill=0.0):
    """Emit `target[j] = body(source[j], ...)` for j < n; no byte beyond n is read or written.

    What is left over after whole groups of vectors is masked; lanes without data hold `fill`.
    Formulas as long as tanh are taken in groups: a vector twice as long becomes two interleaved
    chains of instructions, which a single long chain leaves room for.
    """

    def stretch(first, vectors):
        left = builder.sub(n, first)
        mask = first_lanes(builder, dtype, left, vectors)
        places = [builder.gep(p, [first]) for p in sources]
        xs = [masked_load(builder, dtype, p, mask, vectors, fill) for p in places]
        masked_store(builder, dtype, builder.gep(target, [first]), mask, body(*xs), vectors)

    def full(j, _):
        xs = [load(builder, dtype, builder.gep(s, [j]), GROUPED) for s in sources]
        store(builder, dtype, builder.gep(target, [j]), body(*xs), GROUPED)
        return []

    group = I64(lanes(dtype) * GROUPED)
    whole = builder.sub(n, builder.srem(n, group))
    loop(builder, I64(0), whole, group, [], full)

    def rest(vectors):
        """The smallest of 1, 2, 4, ... vectors that takes what is left."""
        if vectors == GROUPED:
            return stretch(whole, vectors)
        enough = builder.icmp_signed("<=", builder.sub(n, whole), I64(lanes(dtype) * vectors))
        with builder.if_else(enough) as (then, otherwise):
            with then:
                stretch(whole, vectors)
            with otherwise:
                rest(2 * vectors)

    with builder.if_then(builder.icmp_signed("<", whole, n)):
        rest(1)


# -- loops -----------------------------------------------------------------------------------------


def _never_unroll(builder, branch):
    """Mark a loop's backward branch: what is worth unrolling is emitted unrolled.

    The optimiser would unroll every loop here by eight, for a third more to compile and no gain.
    """
    module = builder.module
    word = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    # A loop's mark must name itself, so that no two loops share one.
    mark = ir.values.MDValue(module, [word], name=str(len(module.metadata)))
    mark.operands = (mark, word)
    branch.set_metadata("llvm.loop", mark)


def loop(builder, start, stop, step, carried, body):
    """Emit `for k in range(start, stop, step): carried = body(k, carried)`; return the last values.

    The carried values are phi nodes, so accumulators stay in registers whatever the optimiser does.
    """
    before = builder.block
    head, inside, after = (builder.append_basic_block(n) for n in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(I64)
    phis = [builder.phi(v.type) for v in carried]
    builder.cbranch(builder.icmp_signed("<", k, stop), inside, after)
    builder.position_at_end(inside)
    new = body(k, phis)
    advanced = builder.add(k, step)
    end = builder.block
    _never_unroll(builder, builder.branch(head))
    for phi, first, again in zip([k, *phis], [start, *carried], [advanced, *new], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(again, end)
    builder.position_at_end(after)
    return phis


# -- register tiles --------------------------------------------------------------------------------


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
        vecs = [load(b, self.dtype, place) for place in places]
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
            _prefetch_line(b, b.gep(row, [k]))
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
                for j, row in enumerate(rows):
                    target = builder.gep(base, [I64(j * lanes(dtype))])
                    store(builder, dtype, target, row.fma(x, load(builder, dtype, target)))

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


# -- transpose -------------------------------------------------------------------------------------


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
                new[i] = _shuffle(builder, rows[i], rows[i | s], low)
                new[i | s] = _shuffle(builder, rows[i], rows[i | s], high)
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
        few = ir.VectorType(_element(dtype), FEW)
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
                parts = [_shuffle(b, x, y, range(2 * x.type.count)) for x, y in pairs]
            for i in range(FEW):
                column = _shuffle(b, parts[0], parts[0], range(i, FEW * n, FEW))
                with b.if_then(b.icmp_signed("<", I64(i), cols)):
                    place = b.gep(dst, [b.add(b.mul(I64(i), dst_row), r)])
                    store(b, dtype, place, Vec(b, column) * factor)
            return []

        loop(b, I64(0), rows, I64(n), [], vector)
        return context.get_dummy_value()

    ptr, i64 = types.CPointer(dtype), types.int64
    return types.void(i64, i64, ptr, table, dtype, ptr, i64), codegen


def _prefetch_line(builder, place):
    i32, byte = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    fn = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    # to read, into the second level, data
    builder.call(fn, [builder.bitcast(place, byte), i32(0), i32(2), i32(1)])


@intrinsic
def prefetch(typingctx, ptr, count):
    """Ask for the cache lines of `count` elements; harmless wherever they lie."""
    itemsize = ptr.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        def line(k, _):
            _prefetch_line(builder, builder.gep(args[0], [k]))
            return []

        loop(builder, I64(0), args[1], I64(LINE // itemsize), [], line)
        return context.get_dummy_value()

    return types.void(ptr, types.int64), codegen


# -- masks of inputs -------------------------------------------------------------------------------


@intrinsic
def nonzero_mask(typingctx, ptr, count):
    """Return a bit for each of the next MASK_BITS elements that is not zero, up to `count`."""
    dtype = ptr.dtype

    def codegen(context, builder, signature, args):
        b, n = builder, MASK_BITS
        kind = context.get_value_type(dtype)
        vec = ir.VectorType(kind, n)
        iota = ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(n)))
        inside = b.icmp_signed("<", iota, spread(b, b.trunc(args[1], ir.IntType(32)), n))
        name = f"llvm.masked.load.v{n}{'f' if isinstance(dtype, types.Float) else 'i'}"
        fn = cgutils.get_or_insert_function(
            b.module,
            ir.FunctionType(vec, [vec.as_pointer(), ir.IntType(32), inside.type, vec]),
            f"{name}{dtype.bitwidth}.p0",
        )
        none = ir.Constant(vec, [0] * n)
        place = b.bitcast(args[0], vec.as_pointer())
        x = b.call(fn, [place, ir.IntType(32)(dtype.bitwidth // 8), inside, none])
        if isinstance(dtype, types.Float):
            found = b.fcmp_unordered("!=", x, none)  # NaN is not zero
        else:
            found = b.icmp_unsigned("!=", x, none)
        return b.zext(b.bitcast(found, ir.IntType(n)), I64)

    return types.int64(ptr, types.int64), codegen


@intrinsic
def lowest_bit(typingctx, mask):
    """Return the place of the lowest bit that is set."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.int64), codegen


# -- pointers --------------------------------------------------------------------------------------


@intrinsic
def pointer(typingctx, array):
    """Return the address of a contiguous array's first element."""

    def codegen(context, builder, signature, args):
        return cgutils.create_struct_proxy(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def at(typingctx, ptr, offset):
    """Return the pointer moved by `offset` elements."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return ptr(ptr, types.int64), codegen


@intrinsic
def vector_lanes(typingctx, ptr):
    """Return how many elements of the pointer's type one vector holds."""

    def codegen(context, builder, signature, args):
        return I64(lanes(ptr.dtype))

    return types.int64(ptr), codegen
