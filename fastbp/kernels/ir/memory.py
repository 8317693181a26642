"""Memory as kernels see it: pointers, and what is loaded, stored or asked for through them.

Kernels work on pointers: `pointer(array)` gives one, `at(p, i)` moves it by i elements, `p[i]`
reads an element and `put(p, i, value)` writes one.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..machine import HALF_TAILS, LINE, MASK_BITS
from .vectors import I32, I64, Vec, call, emitted, first_of, not_zero


@intrinsic
def pointer(typingctx, array):
    """Return the address of a contiguous array's first element."""

    def codegen(context, builder, signature, args):
        return cgutils.create_struct_proxy(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def pointers(typingctx, record):
    """Return the NamedTuple with a pointer in place of each array; other fields stay."""
    # An array is seven words to every call and counts its references.
    kinds = [types.CPointer(k.dtype) if isinstance(k, types.Array) else k for k in record.types]
    result = types.BaseTuple.from_types(kinds, record.instance_class)

    def codegen(context, builder, signature, args):
        fields = [builder.extract_value(args[0], i) for i in range(len(kinds))]
        for i, kind in enumerate(record.types):
            if isinstance(kind, types.Array):
                fields[i] = cgutils.create_struct_proxy(kind)(context, builder, fields[i]).data
        return context.make_tuple(builder, result, fields)

    return result(record), codegen


@intrinsic
def at(typingctx, ptr, offset):
    """Return the pointer moved by `offset` elements."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return ptr(ptr, types.int64), codegen


@intrinsic
def put(typingctx, ptr, index, value):
    """Store `value`, converted to the pointer's type, at `ptr[index]`."""
    # `ptr[index] = value` would do the same, but may be lost. Where a function calls an overload
    # with `inline="always"`, Numba (0.68: `InlineOverloads.run_pass`, `ir_utils.remove_dead_block`)
    # ends by removing each `SetItem`, a store with an index that is no constant, whose target is
    # not used afterwards and is no alias of such a variable or of an argument. What an intrinsic
    # returns is an alias of nothing, so the last store through `p = pointer(array)` or `p = at(q,
    # i)` is gone. That happens to functions that are inlined themselves too, in their callers.
    # Calls stay.

    def codegen(context, builder, signature, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(ptr, types.int64, ptr.dtype), codegen


@intrinsic
def put_pair(typingctx, ptr, place, value, n):
    """Store a value, and the integer n beside it, as pair number `place` from `ptr` on."""
    # One store for both: lists are filled at the rate of stores.

    def codegen(context, builder, signature, args):
        bits = ptr.dtype.bitwidth
        half, whole = ir.IntType(bits), ir.IntType(2 * bits)
        low = builder.zext(builder.bitcast(args[2], half), whole)
        wide = builder.zext(builder.trunc(args[3], half) if bits < 64 else args[3], whole)
        pair = builder.or_(low, builder.shl(wide, whole(bits)))
        target = builder.bitcast(
            builder.gep(args[0], [builder.shl(args[1], I64(1))]), whole.as_pointer()
        )
        builder.store(pair, target, align=bits // 8)
        return context.get_dummy_value()

    return types.void(ptr, types.int64, ptr.dtype, types.int64), codegen


@intrinsic
def integers_at(typingctx, ptr):
    """Return the address as that of int64 numbers."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], I64.as_pointer())

    return types.CPointer(types.int64)(ptr), codegen


@intrinsic
def doubles_at(typingctx, ptr):
    """Return the address as that of float64 numbers."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(ptr), codegen


@intrinsic
def bits_of(typingctx, x):
    """Return the bits of a float64 as an integer: what is emitted takes floats of one dtype."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], I64)

    return types.int64(types.float64), codegen


@intrinsic
def like(typingctx, ptr, address):
    """Return an address, which is a number, as a pointer of the first one's type."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[1], args[0].type)

    return ptr(ptr, types.int64), codegen


@intrinsic
def call_address(typingctx, address, arguments):
    """Call a compiled function that returns nothing by its address, with a tuple of arguments."""
    # An address among the arguments is passed as a number: to the machine they are alike.
    kinds, nothing = tuple(arguments.types), types.none

    def codegen(context, builder, signature, args):
        values = cgutils.unpack_tuple(builder, args[1])
        function = context.call_conv.get_function_type(nothing, kinds).as_pointer()
        place = builder.inttoptr(args[0], function)
        context.call_conv.call_function(builder, place, nothing, kinds, values)
        return context.get_dummy_value()

    return nothing(types.int64, arguments), codegen


@intrinsic
def number(typingctx, ptr, x):
    """Return x as a number of the pointer's type."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], x, ptr.dtype)

    return ptr.dtype(ptr, x), codegen


@emitted(types.int64)
def vector_lanes(e, ptr):
    """Return how many elements of the pointer's type one vector holds."""
    return I64(e.lanes)


FIRST_LEVEL, SECOND_LEVEL = 3, 2  # of the caches, as LLVM counts


def prefetch_line(builder, place, level=SECOND_LEVEL, write=False):
    """Ask for the cache line of an address."""
    byte = builder.bitcast(place, ir.IntType(8).as_pointer())
    # to read or write, into this cache, data
    args = [byte, I32(int(write)), I32(level), I32(1)]
    call(builder, "llvm.prefetch.p0", ir.VoidType(), args)


@emitted()
def prefetch(e, ptr, count):
    """Ask for the cache lines of `count` elements; harmless wherever they lie."""
    with e.over(count, LINE * 8 // e.dtype.bitwidth) as k:
        prefetch_line(e.builder, e.at(ptr, k))


@emitted(types.int64)
def nonzero_mask(e, ptr, count):
    """Return a bit for each of the next MASK_BITS elements that is not zero, up to `count`."""
    return _bits(e.builder, e.masked_load(ptr, first_of(e.builder, count, MASK_BITS), 0).value)


@emitted(types.int64)
def nonzero_bits(e, ptr):
    """Return a bit for each of the next MASK_BITS elements that is not zero."""
    # AVX2 has no masks: a masked load is taken apart, with a branch for each byte.
    return _bits(e.builder, e.load(ptr, MASK_BITS / e.lanes).value)


def _bits(b, x):
    """Return a bit for each lane that is not zero."""
    return b.zext(b.bitcast(not_zero(b, x), ir.IntType(x.type.count)), I64)


@emitted(types.int64)
def lowest_bit(e, mask):
    """Return the place of the lowest bit that is set."""
    return e.builder.cttz(mask, ir.IntType(1)(1))


@emitted(types.int64)
def count_bits(e, mask):
    """Return how many bits are set."""
    return e.builder.ctpop(mask)


@emitted()
def add_row(e, width, alpha, x, y):
    """y += alpha * x, for rows of one sample: a tile for a single product takes 12 ns."""
    # x, y: (width,), in whole vectors, or a half at the end.
    size = 0.5 if HALF_TAILS else 1
    with e.over(width, int(size * e.lanes)) as j:
        place = e.at(y, j)
        product = e.load(e.at(x, j), size).fma(e.splat(alpha, size), e.load(place, size))
        e.store(place, product, size)


def _sum(e, ptr, row, rows, added):
    """Emit the sum of what `added(x, total)` adds of a vector of each row, in one order."""

    def add(k, *totals):
        places = (e.at(ptr, e.builder.mul(e.builder.add(k, I64(i)), row)) for i in range(4))
        return [added(e.load(p), total) for p, total in zip(places, totals, strict=False)]

    fours = e.builder.and_(rows, I64(-4))
    totals = e.loop(I64(0), fours, 4, [e.zero()] * 4, add)
    rest = e.loop(fours, rows, 1, totals[:1], add)
    return (rest[0] + totals[1] + (totals[2] + totals[3])).fold(Vec.__add__).value


@emitted(float)
def sum_of_squares(e, ptr, row, rows):
    """Return the sum of the squares of a vector of each row, always added in the same order."""
    return _sum(e, ptr, row, rows, lambda x, total: x.fma(x, total))


@emitted(float)
def sum_of_sizes(e, ptr, row, rows):
    """Return the sum of the absolute values of a vector of each row, always in the same order."""
    return _sum(e, ptr, row, rows, lambda x, total: total + abs(x))
