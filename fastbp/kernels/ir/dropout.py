"""Dropout: activations and their slopes times masks that a generator draws where they lie.

Twin of `reference.masks`. Counters are taken COUNTERS at a time on every CPU, whose vectors may
hold more or fewer: which neurons are left out depends on none of that.

With dropout, and slopes that are kept for it, 784-30-10 takes 4.5 % longer in batches of 10 and 7 %
in those of one, 784-512-512-10 2 % in batches of 128, and 4-32-16-4, in lanes over the batch, 40 %
(images of MNIST, float32, Zen 4).
"""

from llvmlite import ir

from .vectors import I32, I64, call, emitted, shuffle, spread

# Threefry-2x32 as the reference has it; 13 rounds take 12 ns for 32 neurons, 20 took 18 (Zen 4).
ROUNDS, ROTATIONS, PARITY = 13, (13, 15, 26, 6, 17, 29, 16, 24), 0x1BD11BDA
COUNTERS = 16
NEURONS = 2 * COUNTERS  # of a sample, which their words are for
KEY, FIRST, TABLE = range(3)  # of what is drawn by, integers: see `Draw`
_WORDS = ir.VectorType(I32, COUNTERS)
_DOUBLE = ir.DoubleType()


def _constant(number):
    return ir.Constant(_WORDS, [number] * COUNTERS)


class _Draw:
    """Draws the masks of layer l; `by` is where the key of the epoch stands, and what follows."""

    # Behind the key, 64 bits, stands what is added to the numbers of samples, and the address of a
    # table in which they are found by their places, or zero: the numbers are the places.

    def __init__(self, e, by, l, threshold):
        b, self.e, self.by = e.builder, e, by
        key = b.load(by)
        low, high = b.trunc(key, I32), b.trunc(b.add(b.lshr(key, I64(32)), l), I32)
        third = b.xor(b.xor(low, high), I32(PARITY))
        self.keys = [spread(b, word, COUNTERS) for word in (low, high, third)]
        self.threshold = b.trunc(threshold, I32)
        left = b.fdiv(b.uitofp(threshold, _DOUBLE), _DOUBLE(2.0**32))
        factor = b.fdiv(_DOUBLE(1.0), b.fsub(_DOUBLE(1.0), left))
        self.factor = factor if e.dtype.bitwidth == 64 else b.fptrunc(factor, ir.FloatType())

    def sample(self, place):
        """Return the number of a sample, 32 bits of it, by its place among those loaded."""
        b, table = self.e.builder, self.e.builder.load(self.e.at(self.by, TABLE))
        here = b.block
        with b.if_then(b.icmp_unsigned("!=", table, I64(0))):
            numbers = b.inttoptr(table, I64.as_pointer())
            found, there = b.load(self.e.at(numbers, place)), b.block
        number = b.phi(I64)
        number.add_incoming(place, here)
        number.add_incoming(found, there)
        return b.trunc(b.add(number, b.load(self.e.at(self.by, FIRST))), I32)

    def words(self, x, y):
        """Return both words of Threefry-2x32 for vectors of counters."""
        b, keys = self.e.builder, self.keys
        x, y = b.add(x, keys[0]), b.add(y, keys[1])
        for number in range(ROUNDS):
            x = b.add(x, y)
            turned = [y, y, _constant(ROTATIONS[number % 8])]
            y = b.xor(call(b, f"llvm.fshl.v{COUNTERS}i32", _WORDS, turned), x)
            if number % 4 == 3:
                turn = number // 4 + 1
                x = b.add(x, keys[turn % 3])
                y = b.add(y, b.add(keys[(turn + 1) % 3], _constant(turn)))
        return x, y

    def multiply(self, words, places, first, end):
        """Multiply what lies at places by the masks of words, whole vectors of first <= j < end."""
        # `first` and `end` are counted from where the words begin.
        e, b, lanes = self.e, self.e.builder, self.e.lanes
        limit, factor = spread(b, self.threshold, lanes), e.splat(self.factor)
        for j in range(0, words.type.count, lanes):
            inside = b.icmp_signed(">", end, I64(j))
            if first is not None:
                inside = b.and_(inside, b.icmp_signed("<=", first, I64(j)))
            with b.if_then(inside):
                some = shuffle(b, words, words, range(j, j + lanes))
                mask = factor.keep(b.icmp_unsigned(">=", some, limit), 0.0)
                for place in places:
                    e.store(e.at(place, j), e.load(e.at(place, j)) * mask)


@emitted(apart=True)
def drop_rows(e, by, l, threshold, rows, n, v, which, a, a_row, slope, slope_row):
    """a *= mask, slope *= mask, for samples by number, and neurons from v on, in whole vectors."""
    # a, slope: (rows, n), in rows of whole vectors; v is a multiple of a vector's lanes.
    b, draw = e.builder, _Draw(e, by, l, threshold)
    iota = ir.Constant(_WORDS, list(range(COUNTERS)))
    order = [k // 2 + k % 2 * COUNTERS for k in range(NEURONS)]
    before = b.srem(v, I64(NEURONS))
    with e.over(rows) as r:
        number = spread(b, draw.sample(b.load(e.at(which, r))), COUNTERS)
        starts = [e.row(a, r, a_row), e.row(slope, r, slope_row)]
        # Neurons whose words come together begin at multiples of so many, v before or amid them.
        with e.over(b.add(before, n), NEURONS) as j:
            begin = b.sub(j, before)  # from v
            counter = b.trunc(b.sdiv(b.add(v, begin), I64(2)), I32)
            words = draw.words(b.add(spread(b, counter, COUNTERS), iota), number)
            places = [e.at(start, begin) for start in starts]
            some = shuffle(b, *words, order)
            draw.multiply(some, places, b.neg(begin), b.sub(n, begin))


@emitted(apart=True)
def drop_lanes(e, by, l, threshold, n, m, which, a, slope, row):
    """Do as `drop_rows` does for n rows, one for each neuron, of m samples by number."""
    # a, slope: (n, row); what stands behind the samples up to a whole vector changes too.
    b, draw = e.builder, _Draw(e, by, l, threshold)
    last = b.sub(m, I64(1))
    with e.over(m, COUNTERS) as s:
        numbers = ir.Constant(_WORDS, ir.Undefined)
        for k in range(COUNTERS):
            place = b.add(s, I64(k))
            place = b.select(b.icmp_signed("<", place, last), place, last)
            number = draw.sample(b.load(e.at(which, place)))
            numbers = b.insert_element(numbers, number, I32(k))
        with e.over(n, 2) as first:
            counter = spread(b, b.trunc(b.sdiv(first, I64(2)), I32), COUNTERS)
            for k, words in enumerate(draw.words(counter, numbers)):
                j = b.add(first, I64(k))
                with b.if_then(b.icmp_signed("<", j, n)):
                    places = [e.at(e.row(x, j, row), s) for x in (a, slope)]
                    draw.multiply(words, places, None, b.sub(m, s))
