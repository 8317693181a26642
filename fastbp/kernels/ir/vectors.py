"""Vectors and loops, written as LLVM IR behind `numba.extending.intrinsic`.

Kernels work on pointers: `pointer(array)` gives one, `at(p, i)` moves it by i elements, and `p[i]`
reads or writes a scalar. `Vec` wraps an LLVM vector so that the code which emits a formula reads
like the formula.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..jit import vector_bytes

LINE = 64  # bytes; storage rows are whole lines on every CPU
# Inputs looked at together for what is not zero. The end of their ones is mispredicted each time:
# with 32 of them, the index of MNIST took 26 ms, and takes 21.
MASK_BITS = 64
# Vectors that a long formula is worked out for at once.
GROUPED = 4

I64 = ir.IntType(64)


# -- vectors ---------------------------------------------------------------------------------------


def lanes(dtype):
    """Return how many elements of a Numba float type one vector holds."""
    return vector_bytes() * 8 // dtype.bitwidth


def element(dtype):
    """Return the LLVM type of a Numba float type."""
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
            low = shuffle(self.builder, value, value, range(n))
            high = shuffle(self.builder, value, value, range(n, 2 * n))
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
            return b.fadd(*(shuffle(b, pieces[0], pieces[-1], half) for half in (low, high)))

        while len(vecs) > 1:
            pairs = list(zip(vecs[::2], vecs[1::2], strict=True))
            if group > 1:
                vecs, group = [halved(pair) for pair in pairs], group // 2
            else:
                vecs = [shuffle(b, x, y, range(2 * x.type.count)) for x, y in pairs]
        while group > 1:
            vecs, group = [halved(vecs)], group // 2
        return Vec(b, vecs[0])


def shuffle(builder, a, b, order):
    """Return the lanes of a and b, counted through, in this order."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))
    return builder.shuffle_vector(a, b, mask)


def spread(builder, scalar, count):
    """Return `count` lanes of a scalar of any type."""
    empty = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
    one = builder.insert_element(empty, scalar, ir.IntType(32)(0))
    return shuffle(builder, one, one, [0] * count)


def splat(builder, dtype, scalar):
    """Return a vector of one number."""
    return Vec(builder, spread(builder, scalar, lanes(dtype)))


def zero(builder, dtype):
    """Return a vector of zeros."""
    vec = ir.VectorType(element(dtype), lanes(dtype))
    return Vec(builder, ir.Constant(vec, [0.0] * vec.count))


def vector(dtype, vectors=1):
    """Return the LLVM type of a vector, or of some vectors as one."""
    return ir.VectorType(element(dtype), lanes(dtype) * vectors)


def _vector_pointer(builder, dtype, ptr, vectors=1):
    return builder.bitcast(ptr, vector(dtype, vectors).as_pointer())


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
    vec = vector(dtype, vectors)
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


# -- cache lines -----------------------------------------------------------------------------------


def prefetch_line(builder, place):
    """Ask for the cache line of an address."""
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
            prefetch_line(builder, builder.gep(args[0], [k]))
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


@intrinsic
def bits(typingctx, mask):
    """Return how many bits are set."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

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
def sum_of_squares(typingctx, ptr, count):
    """Return the sum of the squares of `count` elements, always added in the same order."""
    dtype = ptr.dtype

    def codegen(context, builder, signature, args):
        b, (place, count), group = builder, args, I64(lanes(dtype) * GROUPED)

        def add(k, sums):
            inside = first_lanes(b, dtype, b.sub(count, k), GROUPED)
            x = masked_load(b, dtype, b.gep(place, [k]), inside, GROUPED)
            return [x.fma(x, Vec(b, sums[0])).value]

        start = ir.Constant(vector(dtype, GROUPED), [0.0] * (lanes(dtype) * GROUPED))
        (total,) = loop(b, I64(0), count, group, [start], add)
        return Vec(b, total).fold(Vec.__add__)

    return dtype(ptr, types.int64), codegen


@intrinsic
def number(typingctx, ptr, x):
    """Return x as a number of the pointer's type."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], x, ptr.dtype)

    return ptr.dtype(ptr, x), codegen


@intrinsic
def vector_lanes(typingctx, ptr):
    """Return how many elements of the pointer's type one vector holds."""

    def codegen(context, builder, signature, args):
        return I64(lanes(ptr.dtype))

    return types.int64(ptr), codegen
