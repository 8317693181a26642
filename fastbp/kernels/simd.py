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
# Zero-skipping input has tiles of one row, and sums in twice as many parts as fill these columns.
SPARSE_COLUMNS = 4
# One accumulator per vector would leave a one-row tile waiting for each FMA's four cycles: narrow
# tiles split the sum over k into this many. It depends on the rows alone, so that an element is
# summed in the same order whatever its neighbours.
K_SPLIT = {1: 4, 2: 2}

I64 = ir.IntType(64)


# -- vectors ---------------------------------------------------------------------------------------


def lanes(dtype):
    """Return how many elements of a Numba float type one vector holds."""
    return vector_bytes() * 8 // dtype.bitwidth


def _element(dtype):
    return {32: ir.FloatType(), 64: ir.DoubleType()}[dtype.bitwidth]


class Vec:
    """An LLVM vector in the making: Python's operators emit instructions."""

    def __init__(self, builder, value):
        self.builder = builder
        self.value = value

    def _lift(self, other):
        if isinstance(other, Vec):
            return other.value
        return ir.Constant(self.value.type, [other] * self.value.type.count)

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

    def fold(self, op):
        """Combine all lanes into a scalar by halves, always in the same order."""
        value, n = self.value, self.value.type.count
        while n > 1:
            n //= 2
            low = _shuffle(self.builder, value, value, range(n))
            high = _shuffle(self.builder, value, value, range(n, 2 * n))
            value = op(Vec(self.builder, low), Vec(self.builder, high)).value
        return self.builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


def _shuffle(builder, a, b, order):
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))
    return builder.shuffle_vector(a, b, mask)


def _splat(builder, dtype, scalar):
    vec = ir.VectorType(_element(dtype), lanes(dtype))
    one = builder.insert_element(ir.Constant(vec, ir.Undefined), scalar, ir.IntType(32)(0))
    return Vec(builder, _shuffle(builder, one, one, [0] * lanes(dtype)))


def _vector_pointer(builder, dtype, ptr):
    return builder.bitcast(ptr, ir.VectorType(_element(dtype), lanes(dtype)).as_pointer())


def load(builder, dtype, ptr):
    """Load one vector from any element's address."""
    return Vec(
        builder,
        builder.load(_vector_pointer(builder, dtype, ptr), align=dtype.bitwidth // 8),
    )


def store(builder, dtype, ptr, vec):
    """Store one vector at any element's address."""
    builder.store(vec.value, _vector_pointer(builder, dtype, ptr), align=dtype.bitwidth // 8)


def _tail_mask(builder, dtype, n):
    """Return the mask of the first n lanes."""
    index = ir.VectorType(I64, lanes(dtype))
    iota = ir.Constant(index, list(range(lanes(dtype))))
    one = builder.insert_element(ir.Constant(index, ir.Undefined), n, ir.IntType(32)(0))
    return builder.icmp_signed("<", iota, _shuffle(builder, one, one, [0] * lanes(dtype)))


def _masked(builder, dtype, name, result, args):
    t = ir.VectorType(_element(dtype), lanes(dtype))
    fn = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(result, [a.type for a in args]),
        f"llvm.masked.{name}.v{t.count}f{dtype.bitwidth}.p0",
    )
    return builder.call(fn, args)


def map_row(builder, dtype, n, body, sources, target, fill=0.0):
    """Emit `target[j] = body(source[j], ...)` for j < n; no byte beyond n is read or written.

    The last, partial vector is masked; lanes without data hold `fill`.
    """
    width = I64(lanes(dtype))
    vec = ir.VectorType(_element(dtype), lanes(dtype))
    whole = builder.sub(n, builder.srem(n, width))

    def full(j, _):
        xs = [load(builder, dtype, builder.gep(s, [j])) for s in sources]
        store(builder, dtype, builder.gep(target, [j]), body(*xs))
        return []

    loop(builder, I64(0), whole, width, [], full)
    with builder.if_then(builder.icmp_signed("<", whole, n)):
        mask = _tail_mask(builder, dtype, builder.sub(n, whole))
        align = ir.IntType(32)(dtype.bitwidth // 8)
        empty = ir.Constant(vec, [fill] * vec.count)
        xs = [
            Vec(
                builder,
                _masked(
                    builder,
                    dtype,
                    "load",
                    vec,
                    [_vector_pointer(builder, dtype, builder.gep(s, [whole])), align, mask, empty],
                ),
            )
            for s in sources
        ]
        out = _vector_pointer(builder, dtype, builder.gep(target, [whole]))
        _masked(builder, dtype, "store", ir.VoidType(), [body(*xs).value, out, align, mask])


# -- loops -----------------------------------------------------------------------------------------


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
    builder.branch(head)
    for phi, first, again in zip([k, *phis], [start, *carried], [advanced, *new], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(again, end)
    builder.position_at_end(after)
    return phis


# -- register tiles --------------------------------------------------------------------------------


class _Tile:
    """Operands of C[r, :] = epilogue(sum over k of A[r, k] * B[k, :]) in elements.

    A[r, k] lies at `a + r * a_row + k * a_k`, B[k, :] at `b + k * b_row` or, with an index, at
    `b + index[k] * b_row`; C[r, :] at `c + r * c_row`.
    """

    def __init__(self, builder, dtype, a, a_row, a_k, b, b_row, c, c_row, extra, index=None):
        self.builder, self.dtype = builder, dtype
        self.a, self.a_row, self.a_k = a, a_row, a_k
        self.b, self.b_row, self.index = b, b_row, index
        self.c, self.c_row, self.extra = c, c_row, extra

    def a_at(self, i, r, k):
        b = self.builder
        row = b.mul(b.add(i, I64(r)), self.a_row)
        return b.gep(self.a, [b.add(row, b.mul(k, self.a_k))])

    def b_row_at(self, k, v):
        b = self.builder
        if self.index is not None:
            k = b.zext(b.load(b.gep(self.index, [k])), I64)
        return b.gep(self.b, [b.add(b.mul(k, self.b_row), v)])

    def c_at(self, i, r, v, column):
        b = self.builder
        row = b.mul(b.add(i, I64(r)), self.c_row)
        return b.gep(self.c, [b.add(row, b.add(v, I64(column * lanes(self.dtype))))])


def _start_from_bias(t, v, column):
    """C = bias + A B: the bias row is `extra`."""
    return load(t.builder, t.dtype, t.builder.gep(t.extra, [_column(t, v, column)]))


def _start_from_zero(t, v, column):
    return _zero(t)


def _plain(t, target, acc):
    store(t.builder, t.dtype, target, acc)


def _add_scaled(t, target, acc):
    """C += alpha A B: alpha is `extra`."""
    alpha = _splat(t.builder, t.dtype, t.extra)
    store(t.builder, t.dtype, target, acc.fma(alpha, load(t.builder, t.dtype, target)))


# What a tile starts its sums from, and what it does with them.
EPILOGUES = {
    "bias": (_start_from_bias, _plain),
    "store": (_start_from_zero, _plain),
    "axpy": (_start_from_zero, _add_scaled),
}


def _zero(t):
    vec = ir.VectorType(_element(t.dtype), lanes(t.dtype))
    return Vec(t.builder, ir.Constant(vec, [0.0] * vec.count))


def _column(t, v, column):
    return t.builder.add(v, I64(column * lanes(t.dtype)))


def _emit_tile(t, epilogue, rows, columns, i, v, depth, split=None):
    """Emit one tile: `rows` x `columns` vectors of C at row i, column v, summed over depth."""
    b, dtype = t.builder, t.dtype
    start, finish = EPILOGUES[epilogue]
    split = split or K_SPLIT.get(rows, 1)
    first = [start(t, v, c).value for _ in range(rows) for c in range(columns)]
    others = [_zero(t).value] * (rows * columns * (split - 1))

    def step(k, sums):
        base = t.b_row_at(k, v)
        bs = [load(b, dtype, b.gep(base, [I64(c * lanes(dtype))])).value for c in range(columns)]
        out = []
        for r in range(rows):
            a = _splat(b, dtype, b.load(t.a_at(i, r, k)))
            for c in range(columns):
                acc = Vec(b, sums[r * columns + c])
                out.append(a.fma(Vec(b, bs[c]), acc).value)
        return out

    def unrolled(k, sums):
        n = rows * columns
        parts = [step(b.add(k, I64(s)), sums[s * n : (s + 1) * n]) for s in range(split)]
        return [x for part in parts for x in part]

    whole = b.sub(depth, b.srem(depth, I64(split)))
    sums = loop(b, I64(0), whole, I64(split), first + others, unrolled)
    n = rows * columns
    if split > 1:
        last = loop(b, whole, depth, I64(1), sums[:n], step)
        sums = [*last, *sums[n:]]
    for r in range(rows):
        for c in range(columns):
            acc = Vec(b, sums[r * columns + c])
            for s in range(1, split):
                acc = acc + Vec(b, sums[s * n + r * columns + c])
            finish(t, t.c_at(i, r, v, c), acc)


def _emit_rows(t, epilogue, rows, depth, columns, v):
    """Emit the tiles of one panel of columns: whole tiles, then halves down to a single row."""
    b = t.builder
    whole = b.sub(rows, b.srem(rows, I64(TILE_ROWS)))

    def body(i, _):
        _emit_tile(t, epilogue, TILE_ROWS, columns, i, v, depth)
        return []

    loop(b, I64(0), whole, I64(TILE_ROWS), [], body)
    done, size = whole, TILE_ROWS // 2
    while size:
        present = b.and_(rows, I64(size))
        with b.if_then(b.icmp_signed("!=", present, I64(0))):
            _emit_tile(t, epilogue, size, columns, done, v, depth)
        done, size = b.add(done, present), size // 2


def _emit_panels(t, width, panel, most=TILE_COLUMNS):
    """Emit `panel(columns, v)` over all panels of columns, the widest first."""
    b, lane = t.builder, lanes(t.dtype)
    per_panel = I64(most * lane)
    whole = b.sub(width, b.srem(width, per_panel))

    def body(v, _):
        panel(most, v)
        return []

    loop(b, I64(0), whole, per_panel, [], body)
    for columns in range(1, most):
        with b.if_then(b.icmp_signed("==", b.sub(width, whole), I64(columns * lane))):
            panel(columns, whole)


def _gemm(epilogue):
    """Make the intrinsic C = epilogue(A B) of (rows, width, depth, A.., B.., C.., extra).

    `width` is in elements, whole vectors.
    """

    @intrinsic
    def gemm(typingctx, rows, width, depth, a, a_row, a_k, b, b_row, c, c_row, extra):
        dtype = a.dtype

        def codegen(context, builder, signature, args):
            rows, width, depth, *rest = args
            t = _Tile(builder, dtype, *rest)
            _emit_panels(t, width, partial(_emit_rows, t, epilogue, rows, depth))
            return context.get_dummy_value()

        ints = [types.int64] * 3
        last = types.CPointer(dtype) if epilogue == "bias" else dtype
        ptr = types.CPointer(dtype)
        return types.void(
            *ints, ptr, types.int64, types.int64, ptr, types.int64, ptr, types.int64, last
        ), codegen

    return gemm


gemm_bias = _gemm("bias")
gemm_store = _gemm("store")
gemm_axpy = _gemm("axpy")


@intrinsic
def gather_bias(typingctx, width, depth, a, index, b, b_row, c, extra):
    """c = extra + sum over k of a[k] * B[index[k], :], one row of `width` elements."""
    dtype = a.dtype

    def codegen(context, builder, signature, args):
        width, depth, a, index, b, b_row, c, extra = args
        t = _Tile(builder, dtype, a, I64(0), I64(1), b, b_row, c, I64(0), extra, index)

        def panel(columns, v):
            split = 2 * SPARSE_COLUMNS // columns
            _emit_tile(t, "bias", 1, columns, I64(0), v, depth, split)

        _emit_panels(t, width, panel, SPARSE_COLUMNS)
        return context.get_dummy_value()

    ptr = types.CPointer(dtype)
    return types.void(types.int64, types.int64, ptr, index, ptr, types.int64, ptr, ptr), codegen


@intrinsic
def scatter_axpy(typingctx, width, count, a, index, alpha, b, c, c_row):
    """C[index[k], :] += alpha * a[k] * b for each k: one sample's update of the rows it lights."""
    dtype = a.dtype

    def codegen(context, builder, signature, args):
        width, count, a, index, alpha, b, c, c_row = args
        t = _Tile(builder, dtype, a, I64(0), I64(1), c, c_row, c, c_row, None, index)

        def panel(columns, v):
            rows = [
                load(builder, dtype, builder.gep(b, [_column(t, v, j)])) for j in range(columns)
            ]

            def body(k, _):
                x = builder.fmul(alpha, builder.load(builder.gep(a, [k])))
                base = t.b_row_at(k, v)
                for j, row in enumerate(rows):
                    target = builder.gep(base, [I64(j * lanes(dtype))])
                    old = load(builder, dtype, target)
                    store(builder, dtype, target, row.fma(_splat(builder, dtype, x), old))
                return []

            loop(builder, I64(0), count, I64(1), [], body)

        _emit_panels(t, width, panel, SPARSE_COLUMNS)
        return context.get_dummy_value()

    ptr = types.CPointer(dtype)
    signature = types.void(types.int64, types.int64, ptr, index, dtype, ptr, ptr, types.int64)
    return signature, codegen


@intrinsic
def delta_and_update(typingctx, rows, width, w, w_row, delta, a, target, alpha, out):
    """One pass over W for one sample: out[i] = W[i] . delta, then target[i] += alpha a[i] delta.

    The dot product takes the row before its update, also where `target` is W itself.
    """
    dtype = delta.dtype

    def codegen(context, builder, signature, args):
        rows, width, w, w_row, delta, a, target, alpha, out = args
        b, lane = builder, I64(lanes(dtype))
        zero = Vec(
            b, ir.Constant(ir.VectorType(_element(dtype), lanes(dtype)), [0.0] * lanes(dtype))
        )

        def row(i, _):
            offset = b.mul(i, w_row)
            x = _splat(b, dtype, b.fmul(alpha, b.load(b.gep(a, [i]))))

            def column(v, sums):
                at_v = b.add(offset, v)
                d = load(b, dtype, b.gep(delta, [v]))
                old = load(b, dtype, b.gep(w, [at_v]))
                place = b.gep(target, [at_v])
                store(b, dtype, place, d.fma(x, load(b, dtype, place)))
                return [old.fma(d, Vec(b, sums[0])).value]

            (total,) = loop(b, I64(0), width, lane, [zero.value], column)
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


@intrinsic
def transpose(typingctx, rows, cols, src, src_row, dst, dst_row):
    """dst[c, r] = src[r, c], by squares of lanes x lanes.

    dst has whole squares; what lies beyond `rows` is written as zero, and src rows are whole
    vectors long. The last square reads its missing rows from the last real one and drops them.
    """
    dtype = src.dtype

    def codegen(context, builder, signature, args):
        rows, cols, src, src_row, dst, dst_row = args
        b, n = builder, lanes(dtype)

        def square(r, c):
            vecs = []
            for j in range(n):
                rj = b.add(r, I64(j))
                inside = b.icmp_signed("<", rj, rows)
                safe = b.select(inside, rj, b.sub(rows, I64(1)))
                v = load(b, dtype, b.gep(src, [b.add(b.mul(safe, src_row), c)]))
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
        return context.get_dummy_value()

    ptr, i64 = types.CPointer(dtype), types.int64
    return types.void(i64, i64, ptr, i64, ptr, i64), codegen


@intrinsic
def prefetch(typingctx, ptr, count):
    """Ask for the cache lines of `count` elements; harmless wherever they lie."""
    itemsize = ptr.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        i32, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        fn = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")

        def line(k, _):
            place = builder.bitcast(builder.gep(args[0], [k]), byte)
            builder.call(fn, [place, i32(0), i32(2), i32(1)])  # to read, second level, data
            return []

        loop(builder, I64(0), args[1], I64(LINE // itemsize), [], line)
        return context.get_dummy_value()

    return types.void(ptr, types.int64), codegen


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
