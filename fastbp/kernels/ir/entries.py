"""The entries of zero-skipping input: what is not zero, and where, side by side.

AVX-512 packs the lanes of a mask. Without a branch for each vector of inputs, or for each entry,
nothing waits for what cannot be foreseen.
"""

from llvmlite import ir
from numba import types

from ..machine import LINE
from .vectors import I64, call, emitted, first_of, not_zero, spread

I32 = ir.IntType(32)


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
