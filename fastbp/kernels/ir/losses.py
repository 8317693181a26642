"""The output layer: activation, loss, hit and delta of each sample, from the weighted inputs z.

Losses start from z, not from a: log(a) of a saturated output is lost, log1p of the rest is not.
Sums are carried in double precision whatever the dtype. All is done vector by vector on storage
rows; scalar loops took 60 to 100 ns a sample.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..jit import inner, kernel
from .activations import EXP, IDENTITY, RELU, SIGMOID, SOFTMAX, TABLE, TANH, activate, exponential
from .vectors import (
    I64,
    Vec,
    at,
    first_lanes,
    lanes,
    load,
    loop,
    masked_load,
    pointer,
    splat,
    store,
)
from .vectors import zero as zero_vector

QUADRATIC, CROSS_ENTROPY, POISSON = range(3)
CODES = {"quadratic": QUADRATIC, "cross-entropy": CROSS_ENTROPY, "poisson": POISSON}

DOUBLE = ir.DoubleType()
ONE = DOUBLE(1.0)
# Columns whose log1p is taken at once: a product of that many factors up to 2 is still finite.
SEGMENT = 512


# -- one sample, or a vector of them ---------------------------------------------------------------


class _Row:
    """One sample, its outputs side by side: z, which becomes a, the target, and the delta.

    Lanes beyond n hold no output: `inside` is the mask of the others. Sums are scalars.
    """

    def __init__(self, builder, dtype, n, z, delta=None, label=None, values=None):
        self.builder, self.dtype, self.n = builder, dtype, n
        self.z, self.delta, self.label, self.values = z, delta, label, values

    def each(self, carried, body, first=None, last=None):
        """Emit `carried = body(v, inside, *carried)` over all outputs; return the last."""
        b = self.builder

        def step(v, values):
            inside = first_lanes(b, self.dtype, b.sub(self.n, v))
            return [x.value for x in body(v, inside, *(Vec(b, x) for x in values))]

        start = [x.value for x in carried]
        first, last = first or I64(0), last or self.n
        end = loop(b, first, last, I64(lanes(self.dtype)), start, step)
        return [Vec(b, x) for x in end]

    def load(self, v):
        """Return z, or a once it is stored, from column v on."""
        return load(self.builder, self.dtype, self.builder.gep(self.z, [v]))

    def store(self, v, a):
        """Store the activation from column v on."""
        store(self.builder, self.dtype, self.builder.gep(self.z, [v]), a)

    def store_delta(self, v, inside, delta):
        """Store the delta from column v on, zero outside."""
        place = self.builder.gep(self.delta, [v])
        store(self.builder, self.dtype, place, delta.keep(inside, 0.0))

    def _before_label(self, v, more=0):
        """Return the mask of the columns from v on that stand before the label (and `more`)."""
        b = self.builder
        return first_lanes(b, self.dtype, b.sub(b.add(self.label, I64(more)), v))

    def target(self, v, inside):
        """Return the targets from column v on: one-hot where there is a label, else as given."""
        b = self.builder
        given = b.icmp_signed("<", self.label, I64(0))
        none = ir.Constant(inside.type, [0] * inside.type.count)
        mask = b.select(given, inside, none)
        values = masked_load(b, self.dtype, b.gep(self.values, [v]), mask)
        at_label = b.xor(self._before_label(v), self._before_label(v, 1))
        return values.const(1.0).keep(at_label, values)

    def zero(self):
        """Return zeros in the row's precision."""
        return zero_vector(self.builder, self.dtype)

    def total(self, vec):
        """Return a sum over all outputs."""
        return Vec(self.builder, vec.fold(Vec.__add__))

    def product(self, vec):
        """Return what `_joined` makes of all outputs."""
        return Vec(self.builder, vec.fold(_joined))

    def largest(self, vec):
        """Return the largest of all outputs, everywhere."""
        return splat(self.builder, self.dtype, vec.fold(_larger))

    def everywhere(self, x):
        """Return a total in the row's precision, everywhere."""
        return splat(self.builder, self.dtype, _narrowed(x, self.dtype).value)

    def log1p(self, x):
        """Return log1p of a total."""
        return Vec(self.builder, _log1p(self.builder, x.value))

    def hit(self):
        """Return 1.0 if the first of the largest outputs is the labelled one, else 0.0."""
        b = self.builder
        top = splat(b, self.dtype, b.load(b.gep(self.z, [self.label]))).value

        def count(v, inside, rivals):
            a, before = self.load(v).value, self._before_label(v)
            equal = b.and_(before, b.fcmp_unordered(">=", a, top))
            ahead = b.or_(equal, b.fcmp_unordered(">", a, top))
            return [rivals + rivals.const(1.0).keep(b.and_(inside, ahead), 0.0)]

        (rivals,) = self.each([self.zero()], count)
        rivals = rivals.fold(Vec.__add__)
        return b.select(b.fcmp_ordered("==", rivals, rivals.type(0.0)), ONE, DOUBLE(0.0))


class _Lanes:
    """As many samples as a vector has lanes, output by output; `inside` masks the real ones.

    Matrices have a row of samples per output, `row` long. What is a total for `_Row` has a lane per
    sample here, so that the losses below are written once.
    """

    def __init__(self, builder, dtype, n, row, inside, z, delta=None, target=None):
        self.builder, self.dtype, self.n, self.row = builder, dtype, n, row
        self.inside, self.z, self.delta, self.targets = inside, z, delta, target

    def _place(self, matrix, j):
        return self.builder.gep(matrix, [self.builder.mul(j, self.row)])

    def each(self, carried, body, first=None, last=None):
        """Emit `carried = body(j, inside, *carried)` over all outputs; return the last."""
        b = self.builder

        def step(j, values):
            return [x.value for x in body(j, self.inside, *(Vec(b, x) for x in values))]

        start = [x.value for x in carried]
        end = loop(b, first or I64(0), last or self.n, I64(1), start, step)
        return [Vec(b, x) for x in end]

    def load(self, j):
        """Return z, or a once it is stored, of output j."""
        return load(self.builder, self.dtype, self._place(self.z, j))

    def store(self, j, a):
        """Store the activation of output j."""
        store(self.builder, self.dtype, self._place(self.z, j), a)

    def store_delta(self, j, inside, delta):
        """Store the delta of output j, zero outside."""
        store(self.builder, self.dtype, self._place(self.delta, j), delta.keep(inside, 0.0))

    def target(self, j, inside):
        """Return the targets of output j."""
        return load(self.builder, self.dtype, self._place(self.targets, j))

    def zero(self):
        """Return zeros in the precision of the outputs."""
        return zero_vector(self.builder, self.dtype)

    def total(self, vec):
        """Return a sum over all outputs."""
        return vec

    product = largest = total

    def everywhere(self, x):
        """Return a total in the precision of the outputs."""
        return _narrowed(x, self.dtype)

    def log1p(self, x):
        """Return log1p of a total."""
        b, found = self.builder, x.value
        for lane in range(lanes(self.dtype)):
            place = ir.IntType(32)(lane)
            log = _log1p(b, b.extract_element(x.value, place))
            found = b.insert_element(found, log, place)
        return Vec(b, found)

    def hit(self):
        """Return the target at the first of the largest outputs: 1.0 if that is the label."""
        b = self.builder

        def body(j, inside, top, found):
            a = self.load(j)
            better = b.fcmp_ordered(">", a.value, top.value)
            return [a.keep(better, top), self.target(j, inside).keep(better, found)]

        _, found = self.each([self.zero().const(float("-inf")), self.zero()], body)
        return _double(found)


def _double(vec):
    """Return the vector in double precision."""
    kind = ir.VectorType(DOUBLE, vec.value.type.count)
    return vec if vec.value.type == kind else Vec(vec.builder, vec.builder.fpext(vec.value, kind))


def _narrowed(x, dtype):
    """Return doubles in a dtype."""
    if dtype.bitwidth == 64:
        return x
    kind = ir.FloatType()
    if isinstance(x.value.type, ir.VectorType):
        kind = ir.VectorType(kind, x.value.type.count)
    return Vec(x.builder, x.builder.fptrunc(x.value, kind))


def _log1p(builder, x):
    kind = ir.FunctionType(DOUBLE, [DOUBLE])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "log1p"), [x])


def _larger(x, y):
    return x.where(">", y, x, y)


# -- losses: each turns z into a, writes delta and returns the loss --------------------------------


def _element_wise_quadratic(code):
    value, slope = TABLE[code]

    def emit(row):
        def body(v, inside, squares):
            a = value(row.load(v)).keep(inside, 0.0)
            rest = a - row.target(v, inside)
            row.store(v, a)
            row.store_delta(v, inside, rest * slope(a))
            wide = _double(rest)
            return [wide.fma(wide, squares)]

        (squares,) = row.each([_double(row.zero())], body)
        return row.total(squares) * 0.5

    return emit


def _largest(row):
    """Return the largest z, everywhere."""

    def body(v, inside, top):
        return [_larger(top, row.load(v).keep(inside, float("-inf")))]

    (top,) = row.each([row.zero().const(float("-inf"))], body)
    return row.largest(top)


def _softmax(row, top):
    """Replace z by softmax(z); return the sum of the exponentials but that of the largest.

    The largest's is 1: log1p of the others is the loss to the last bit where the softmax is
    saturated.
    """
    b, none = row.builder, _double(row.zero())

    def body(v, inside, others, tops):
        z = row.load(v)
        e = exponential(z - top).keep(inside, 0.0)
        row.store(v, e)
        is_top = b.and_(inside, b.fcmp_ordered("==", z.value, top.value))
        one = e.const(1.0).keep(is_top, 0.0)
        return [others + _double(e.const(0.0).keep(is_top, e)), tops + _double(one)]

    others, tops = (row.total(x) for x in row.each([none, none], body))
    rest = others + (tops - 1.0)
    inverse = row.everywhere(rest.const(1.0) / (rest + 1.0))

    def scale(v, inside):
        row.store(v, row.load(v) * inverse)
        return []

    row.each([], scale)
    return rest


def _quadratic_softmax(row):
    _softmax(row, _largest(row))
    none = _double(row.zero())

    def sums(v, inside, squares, products):
        a = row.load(v)
        wide = _double(a - row.target(v, inside))
        return [wide.fma(wide, squares), wide.fma(_double(a), products)]

    squares, products = (row.total(x) for x in row.each([none, none], sums))
    along = row.everywhere(products)

    def delta(v, inside):
        a = row.load(v)
        row.store_delta(v, inside, a * (a - row.target(v, inside) - along))
        return []

    row.each([], delta)
    return squares * 0.5


def _softmax_cross_entropy(row):
    """Sum of t (largest - z), plus sum of t times log1p(the other exponentials)."""
    top, none = _largest(row), _double(row.zero())

    def sums(v, inside, below, total):
        t = _double(row.target(v, inside))
        far = (_double(top) - _double(row.load(v))).keep(inside, 0.0)
        return [t.fma(far, below), total + t]

    below, total = (row.total(x) for x in row.each([none, none], sums))
    rest = _softmax(row, top)
    weight = row.everywhere(total)

    def delta(v, inside):
        row.store_delta(v, inside, row.load(v) * weight - row.target(v, inside))
        return []

    row.each([], delta)
    return below + total * row.log1p(rest)


def _joined(p, e):
    """(1 + p) (1 + e) - 1, without cancellation."""
    return p + e + p * e


def _sigmoid_cross_entropy(row):
    """Sum of max(z, 0) - t z + log1p(exp(-|z|)), the logarithms taken at once of a product."""
    value, _ = TABLE[SIGMOID]
    b, none = row.builder, _double(row.zero())

    def body(v, inside, linear, product):
        z, t = row.load(v), row.target(v, inside)
        a = value(z).keep(inside, 0.0)
        row.store(v, a)
        row.store_delta(v, inside, a - t)
        e = _double(exponential(-abs(z)).keep(inside, 0.0))
        wide = _double(z)
        part = wide.where(">", 0.0, wide, 0.0) - _double(t) * wide
        return [linear + part.keep(inside, 0.0), _joined(product, e)]

    def segment(first, sums):
        last = b.add(first, I64(SEGMENT))
        last = b.select(b.icmp_signed("<", last, row.n), last, row.n)
        linear, product = row.each([none, none], body, first, last)
        loss = row.total(linear) + row.log1p(row.product(product))
        return [(Vec(b, sums[0]) + loss).value]

    start = row.total(none).value
    (loss,) = loop(b, I64(0), row.n, I64(SEGMENT), [start], segment)
    return Vec(b, loss)


def _poisson(row):
    """Sum of a - t z, with a = exp(z)."""
    value, _ = TABLE[EXP]

    def body(v, inside, loss):
        z, t = row.load(v), row.target(v, inside)
        a = value(z).keep(inside, 0.0)
        row.store(v, a)
        row.store_delta(v, inside, a - t)
        part = _double(a) - _double(t) * _double(z)
        return [loss + part.keep(inside, 0.0)]

    (loss,) = row.each([_double(row.zero())], body)
    return row.total(loss)


_LOSSES = {
    **{
        (QUADRATIC, code): _element_wise_quadratic(code) for code in (SIGMOID, TANH, RELU, IDENTITY)
    },
    (QUADRATIC, SOFTMAX): _quadratic_softmax,
    (CROSS_ENTROPY, SOFTMAX): _softmax_cross_entropy,
    (CROSS_ENTROPY, SIGMOID): _sigmoid_cross_entropy,
    (POISSON, EXP): _poisson,
}


# -- many samples ----------------------------------------------------------------------------------


def _switch(builder, loss, code, body):
    """Emit `body(emit)` for the loss of this code behind the activation of that code."""
    after = builder.append_basic_block("after_output")
    switch = builder.switch(builder.add(builder.mul(loss, I64(8)), code), after)
    for (loss_code, activation), emit in _LOSSES.items():
        case = builder.append_basic_block("output")
        switch.add_case(I64(loss_code * 8 + activation), case)
        builder.position_at_end(case)
        body(emit)
        builder.branch(after)
    builder.position_at_end(after)


@intrinsic
def output_rows(
    typingctx,
    loss,
    code,
    rows,
    n,
    z,
    z_row,
    which,
    labels,
    values,
    labelled,
    delta,
    delta_row,
    losses,
    hits,
):
    """Output, delta, loss and hit of each sample. Targets are those of sample which[r]."""
    dtype = z.dtype

    def codegen(context, builder, signature, args):
        loss, code, rows, n, z, z_row, which, labels, values, labelled, delta, delta_row = args[:12]
        losses, hits = args[12:]
        b = builder

        def row(emit, r):
            s = b.load(b.gep(which, [r]))
            # Without labels there is no array of them to read from.
            label = b.load(b.select(labelled, b.gep(labels, [s]), which))
            label = b.select(labelled, label, I64(-1))
            y = b.select(labelled, values, b.gep(values, [b.mul(s, n)]))
            z_r, delta_r = b.gep(z, [b.mul(r, z_row)]), b.gep(delta, [b.mul(r, delta_row)])
            sample = _Row(b, dtype, n, z_r, delta_r, label, y)
            b.store(emit(sample).value, b.gep(losses, [r]))
            b.store(DOUBLE(0.0), b.gep(hits, [r]))
            with b.if_then(labelled):
                b.store(sample.hit(), b.gep(hits, [r]))
            return []

        _switch(
            b, loss, code, lambda emit: loop(b, I64(0), rows, I64(1), [], lambda r, _: row(emit, r))
        )
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(
        i64, i64, i64, i64, z, i64, which, labels, values, types.boolean, delta, i64, losses, hits
    ), codegen


@intrinsic
def output_lanes(typingctx, loss, code, n, m, row, z, target, labelled, delta, sums):
    """Output and delta of m samples in the lanes; the sums of losses and hits go to `sums`."""
    dtype = z.dtype

    def codegen(context, builder, signature, args):
        loss, code, n, m, row, z, target, labelled, delta, sums = args
        b = builder

        def each(emit):
            def body(s, carried):
                inside = first_lanes(b, dtype, b.sub(m, s))
                places = (b.gep(p, [s]) for p in (z, delta, target))
                samples = _Lanes(b, dtype, n, row, inside, *places)
                loss, hit = emit(samples).keep(inside, 0.0), samples.hit().keep(inside, 0.0)
                return [(Vec(b, x) + y).value for x, y in zip(carried, (loss, hit), strict=True)]

            start = [_double(zero_vector(b, dtype)).value] * 2
            for j, x in enumerate(loop(b, I64(0), m, I64(lanes(dtype)), start, body)):
                found = Vec(b, x).fold(Vec.__add__)
                if j == 1:
                    found = b.select(labelled, found, DOUBLE(0.0))
                b.store(found, b.gep(sums, [I64(j)]))

        _switch(b, loss, code, each)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(i64, i64, i64, i64, i64, z, z, types.boolean, z, sums), codegen


@intrinsic
def softmax_rows(typingctx, rows, n, z, z_row):
    """Replace each row of z by its softmax."""
    dtype = z.dtype

    def codegen(context, builder, signature, args):
        rows, n, z, z_row = args

        def body(r, _):
            row = _Row(builder, dtype, n, builder.gep(z, [builder.mul(r, z_row)]))
            _softmax(row, _largest(row))
            return []

        loop(builder, I64(0), rows, I64(1), [], body)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, z, types.int64), codegen


@inner
def apply_output(code, rows, n, z, z_row):
    """Replace z by the output's activation."""
    if code == SOFTMAX:
        softmax_rows(rows, n, z, z_row)
    else:
        activate(code, rows, n, z, z_row, z, z_row)


@inner
def _copy(source, target):
    """Write the rows of source, without padding, into storage rows."""
    target[:] = 0
    for r in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[r, j] = source[r, j]


@kernel
def softmax(z, out):
    """Twin of `reference.softmax`; out in storage rows."""
    _copy(z, out)
    softmax_rows(z.shape[0], z.shape[1], pointer(out), out.shape[1])


@kernel
def output_delta(loss, activation, z, y, rows, a, delta, losses):
    """Twin of `reference.output_delta`; a and delta in storage rows.

    `rows` numbers the samples: 0, 1, 2, ... `losses` has room for as many hits, of which there are
    none without labels.
    """
    _copy(z, a)
    delta[:] = 0
    output_rows(
        loss, activation, z.shape[0], z.shape[1], pointer(a), a.shape[1], pointer(rows),
        pointer(rows), pointer(y), False, pointer(delta), delta.shape[1],
        pointer(losses), at(pointer(losses), z.shape[0]),
    )  # fmt: skip
