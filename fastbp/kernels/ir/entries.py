"""Zero-skipping input: its entries, what is not zero and where, side by side, and their products.

AVX-512 packs the lanes of a mask. Without a branch for each vector of inputs, or for each entry,
nothing waits for what cannot be foreseen.
"""

from llvmlite import ir
from numba import types

from .. import machine
from ..machine import ENTRY_GROUP, LINE
from .memory import FIRST_LEVEL, prefetch_line
from .tiles import Tile, emit_tile
from .vectors import I32, I64, call, emitted, first_of, not_zero, spread


@emitted(types.int64, apart=True)
def pack_nonzeros(e, x, first, last, scale, position, value, k):
    """Write the entries of the inputs first <= i < last from place k on; return the next place."""
    # x: (last,), bytes or numbers. position, value: room for an entry of each input. Bytes that
    # stay bytes are not multiplied by `scale`.
    b, kind = e.builder, value.type.pointee
    coded = isinstance(kind, ir.IntType)
    lanes = LINE * 8 // (32 if coded else e.dtype.bitwidth)
    iota = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))

    def scaled(found):
        """Return what is packed: bytes by lanes of 32 bits."""
        if coded:
            return b.zext(found, iota.type)
        if isinstance(found.type.element, ir.IntType):
            found = b.uitofp(found, ir.VectorType(kind, lanes))
        return b.fmul(found, spread(b, scale, lanes))

    def pack(i, k, inside=None):
        found = _load(b, e.at(x, i), lanes, inside)
        mask = not_zero(b, found)
        bits = b.bitcast(mask, ir.IntType(lanes))
        count = b.zext(call(b, f"llvm.ctpop.i{lanes}", bits.type, [bits]), I64)
        head = None if inside is None else first_of(b, count, lanes)
        places = b.add(spread(b, b.trunc(i, I32), lanes), iota)
        _store(b, _packed(b, places, mask), e.at(position, k), head)
        _store(b, _packed(b, scaled(found), mask), e.at(value, k), head)
        return [e.vec(b.add(k, count))]

    whole = b.sub(last, b.srem(b.sub(last, first), I64(lanes)))
    carried = e.loop(first, whole, lanes, [e.vec(k)], lambda i, k: pack(i, k.value))

    def rest(i, k):  # neither reads nor writes beyond the end
        return pack(i, k.value, first_of(b, b.sub(last, i), lanes))

    return e.loop(whole, last, lanes, carried, rest)[0].value


def _letters(kind):
    """Return a type of elements as names of LLVM's functions have it."""
    if isinstance(kind, ir.IntType):
        return f"i{kind.width}"
    return "f32" if isinstance(kind, ir.FloatType) else "f64"


def _load(b, place, lanes, mask):
    """Load so many elements, or those of the mask, and zeros."""
    element = place.type.pointee
    kind = ir.VectorType(element, lanes)
    place = b.bitcast(place, kind.as_pointer())
    if mask is None:
        return b.load(place, align=1)
    name = f"llvm.masked.load.v{lanes}{_letters(element)}.p0"
    return call(b, name, kind, [place, I32(1), mask, ir.Constant(kind, [0] * lanes)])


def _packed(b, x, mask):
    """Return the lanes of the mask, side by side from the first lane on."""
    name = f"llvm.experimental.vector.compress.v{x.type.count}{_letters(x.type.element)}"
    return call(b, name, x.type, [x, mask, ir.Constant(x.type, ir.Undefined)])


def _store(b, x, place, mask):
    """Store a vector, or its lanes in the mask, as elements of the place's type."""
    element, lanes = place.type.pointee, x.type.count
    kind = ir.VectorType(element, lanes)
    if isinstance(element, ir.IntType) and element.width != 32:
        x = b.trunc(x, kind) if element.width < 32 else b.zext(x, kind)
    place = b.bitcast(place, kind.as_pointer())
    if mask is None:
        b.store(x, place, align=1)
    else:
        name = f"llvm.masked.store.v{lanes}{_letters(element)}.p0"
        call(b, name, ir.VoidType(), [x, place, I32(1), mask])


# -- products --------------------------------------------------------------------------------------

# A last column that is half a vector goes with all others of its panel: two loops over the entries,
# as tiles that load each row once for many others have them, cost a step of 784-100-10 at batch 200
# 4 % (Zen 4).
_HALVES = machine.SPARSE_COLUMNS if machine.HALF_TAILS else 0


@emitted(apart=True)
def gather_bias(e, width, depth, a, palette, index, b, b_row, c, extra):
    """c = extra + sum over k of a[k] * B[index[k], :]."""
    # a, index: (depth,), a multiple of ENTRY_GROUP; c, extra: (width,). With a palette the values
    # are `palette[a[k]]`.
    t = Tile(e, a, I64(0), b, b_row, c, I64(0), extra, index=index, palette=palette)

    def panel(columns, v):
        emit_tile(t, "bias", 1, columns, I64(0), v, depth, machine.ENTRY_SUMS)

    t.panels(width, panel, machine.SPARSE_COLUMNS, _HALVES)


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


class _ListTile(Tile):
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
        emit_tile(t, "axpy", 1, columns, I64(0), v, depth, machine.LIST_SPLIT)

    t.panels(width, panel, machine.SPARSE_COLUMNS, _HALVES)


@emitted(apart=True)
def scatter_axpy(e, width, count, a, palette, index, alpha, b, c, c_row):
    """C[index[k], :] += a[k] * (alpha * b) for each k: a sample's update of its nonzeros' rows."""
    # a, index: (count,), a multiple of ENTRY_GROUP; b: (width,). With a palette the values are
    # `palette[a[k]]`.
    t = Tile(e, a, I64(0), c, c_row, c, c_row, None, index=index, palette=palette)

    def panel(columns, v):
        places = zip(e.beside(e.at(b, v), len(columns)), columns, strict=True)
        rows = [e.load(place, size) * e.splat(alpha, size) for place, size in places]
        with e.over(count, ENTRY_GROUP) as first:
            for s in range(ENTRY_GROUP):
                k = e.builder.add(first, I64(s))
                x = t.value(e.at(a, k))
                places = t.b_places(k, v, columns)
                for place, row, size in zip(places, rows, columns, strict=True):
                    e.store(place, row.fma(x.part(size), e.load(place, size)), size)

    t.panels(width, panel, machine.SPARSE_COLUMNS, _HALVES)
