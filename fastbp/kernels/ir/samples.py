"""The outputs of samples, in two layouts behind one interface, so that each loss is written once.

`each` walks over the outputs, `load`, `store`, `target`, `load_delta` and `store_delta` reach one
step of it, and `combine` makes of what a step carried a value per sample. Sums are carried in
double precision.
"""

from contextlib import contextmanager

from llvmlite import ir

from .vectors import I32, I64, Vec, call

DOUBLE = ir.DoubleType()


class _Samples:
    """What both layouts share: z, which becomes a, and delta."""

    def __init__(self, e, n, z, delta=None):
        self.e, self.n, self.z, self.delta = e, n, z, delta
        self.share = self.even = None

    def load(self, v):
        """Return z, or a once it is stored, of step v."""
        return self.e.load(self._place(self.z, v))

    def store(self, v, a):
        """Store the activation of step v."""
        self.e.store(self._place(self.z, v), a)

    def smooth(self, share, even):
        """Spread this share of the targets evenly: `even` takes its place."""
        self.share, self.even = share, even

    def target(self, v, inside):
        """Return the targets of step v, one-hot where there are labels."""
        given = self._given(v, inside)
        if self.share is None:
            return given
        return self.share.fma(self.even - given, given).keep(inside, 0.0)

    def load_delta(self, v):
        """Return what stands where the delta of step v will."""
        return self.e.load(self._place(self.delta, v))

    def store_delta(self, v, inside, delta):
        """Store the delta of step v, zero outside."""
        self.e.store(self._place(self.delta, v), delta.keep(inside, 0.0))

    def each(self, carried, body, first=None, last=None):
        """Emit `carried = body(v, inside, *carried)` over all outputs; return the last."""

        def masked(v, *values):
            return body(v, self._inside(v), *values)

        return self.e.loop(first or I64(0), last or self.n, self.step, carried, masked)

    @contextmanager
    def steps(self):
        """Emit what is inside for all outputs; yields v and the mask of the lanes that count."""
        with self.e.over(self.n, self.step) as v:
            yield v, self._inside(v)

    def sums(self, count, body):
        """Return the sums over all outputs of what `body` carries on, in double precision."""
        found = self.each([double(self.e.zero())] * count, body)
        return [self.total(x) for x in found]

    def total(self, vec):
        """Return the sum over all outputs of what a step carried."""
        return self.combine(vec, Vec.__add__)

    def hit_by_sides(self):
        """Return 1.0 if all outputs are on their targets' side of 1/2, else 0.0."""

        def body(v, inside, wrong):
            values = self.load(v), self.target(v, inside)
            above, wanted = (x.where(">", 0.5, 1.0, 0.0) for x in values)
            return [wrong + double(abs(above - wanted).keep(inside, 0.0))]

        return self.sums(1, body)[0].where("==", 0.0, 1.0, 0.0)


class SampleRow(_Samples):
    """One sample, its outputs side by side: each step is a vector of them."""

    # Lanes beyond n hold no output: `inside` masks the others. A combined value is a scalar.
    def __init__(self, e, n, z, delta=None, label=None, values=None):
        super().__init__(e, n, z, delta)
        self.label, self.values, self.step = label, values, e.lanes

    def _place(self, row, v):
        return self.e.at(row, v)

    def _inside(self, v):
        return self.e.first_lanes(self.e.builder.sub(self.n, v))

    def _before_label(self, v, more=0):
        """Return the mask of the columns from v on that stand before the label (and `more`)."""
        b = self.e.builder
        return self.e.first_lanes(b.sub(b.add(self.label, I64(more)), v))

    def _given(self, v, inside):
        # From column v on, one-hot where there is a label.
        b = self.e.builder
        given = b.icmp_signed("<", self.label, I64(0))
        mask = b.select(given, inside, ir.Constant(inside.type, [0] * inside.type.count))
        values = self.e.masked_load(self._place(self.values, v), mask)
        at_label = b.xor(self._before_label(v), self._before_label(v, 1))
        return values.const(1.0).keep(at_label, values)

    def combine(self, vec, op):
        """Return all lanes combined by an operator."""
        return vec.fold(op)

    def everywhere(self, x):
        """Return a combined value in the row's precision, in every lane."""
        return self.e.splat(narrowed(x, self.e.dtype).value)

    def log1p(self, x):
        """Return log1p of a combined value."""
        return self.e.vec(call(self.e.builder, "log1p", DOUBLE, [x.value]))

    def hit(self):
        """Return 1.0 if the first of the largest outputs is the labelled one, else 0.0."""
        e, b = self.e, self.e.builder
        top = e.broadcast(self._place(self.z, self.label)).value

        def count(v, inside, rivals):
            a, before = self.load(v).value, self._before_label(v)
            equal = b.and_(before, b.fcmp_unordered(">=", a, top))
            ahead = b.or_(equal, b.fcmp_unordered(">", a, top))
            return [rivals + rivals.const(1.0).keep(b.and_(inside, ahead), 0.0)]

        (rivals,) = self.each([e.zero()], count)
        rivals = self.total(rivals).value
        return b.select(b.fcmp_ordered("==", rivals, rivals.type(0.0)), DOUBLE(1.0), DOUBLE(0.0))


class SampleLanes(_Samples):
    """As many samples as a vector has lanes: each step is an output of all of them."""

    # Matrices have a row of samples per output, `row` elements apart. `inside` is the mask of the
    # lanes that hold a sample. A combined value has a lane per sample.
    step = 1

    def __init__(self, e, n, row, inside, z, delta=None, targets=None):
        super().__init__(e, n, z, delta)
        self.row, self.inside, self.targets = row, inside, targets

    def _place(self, matrix, j):
        return self.e.row(matrix, j, self.row)

    def _inside(self, j):
        return self.inside

    def _given(self, j, inside):
        return self.e.load(self._place(self.targets, j))

    def combine(self, vec, op):
        """Return what was carried: each lane has seen all outputs of its sample."""
        return vec

    def everywhere(self, x):
        """Return a combined value in the precision of the outputs."""
        return narrowed(x, self.e.dtype)

    def log1p(self, x):
        """Return log1p of a combined value."""
        b, found = self.e.builder, x.value
        for lane in range(self.e.lanes):
            log = call(b, "log1p", DOUBLE, [b.extract_element(x.value, I32(lane))])
            found = b.insert_element(found, log, I32(lane))
        return self.e.vec(found)

    def hit(self):
        """Return the target at the first of the largest outputs: 1.0 if that is the label."""

        def body(j, inside, top, found):
            a = self.load(j)
            better = self.e.builder.fcmp_ordered(">", a.value, top.value)
            return [a.keep(better, top), self.target(j, inside).keep(better, found)]

        zero = self.e.zero()
        _, found = self.each([zero.const(float("-inf")), zero], body)
        return double(found)


def double(vec):
    """Return the vector in double precision."""
    kind = ir.VectorType(DOUBLE, vec.value.type.count)
    return vec if vec.value.type == kind else Vec(vec.builder, vec.builder.fpext(vec.value, kind))


def narrowed(x, dtype):
    """Return a vector or scalar in the precision of a dtype."""
    vector = isinstance(x.value.type, ir.VectorType)
    if dtype.bitwidth == 64 or (x.value.type.element if vector else x.value.type) != DOUBLE:
        return x
    kind = ir.VectorType(ir.FloatType(), x.value.type.count) if vector else ir.FloatType()
    return Vec(x.builder, x.builder.fptrunc(x.value, kind))
