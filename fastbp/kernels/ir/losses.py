"""The output layer: activation, loss, hit and delta of each sample, from the weighted inputs z.

Each loss turns z into a, writes delta and returns the loss. Losses start from z, not from a: log(a)
of a saturated output is lost, log1p of the rest is not. Sums are carried in double precision
whatever the dtype. All is done vector by vector; scalar loops took 60 to 100 ns a sample.
"""

from contextlib import contextmanager
from functools import partial

from .activations import EXP, FORMULAS, SIGMOID, SOFTMAX, exponential
from .samples import DOUBLE, SampleLanes, SampleRow, double
from .vectors import I64, Vec, emitted

QUADRATIC, CROSS_ENTROPY, POISSON = range(3)
LOSS_CODES = {"quadratic": QUADRATIC, "cross-entropy": CROSS_ENTROPY, "poisson": POISSON}
# Columns whose log1p is taken at once: a product of that many factors up to 2 is still finite.
FACTORS = 512


def larger(x, y):
    """Return the larger of each two lanes; NaN of y passes."""
    return x.where(">", y, x, y)


def _joined(p, e):
    """(1 + p) (1 + e) - 1, without cancellation."""
    return p + e + p * e


def _elementwise_quadratic(code, row):
    """Sum of (a - t)**2 / 2."""
    value, slope = FORMULAS[code]

    def body(v, inside, squares):
        a = value(row.load(v)).keep(inside, 0.0)
        rest = a - row.target(v, inside)
        row.store(v, a)
        row.store_delta(v, inside, rest * slope(a))
        wide = double(rest)
        return [wide.fma(wide, squares)]

    return row.sums(1, body)[0] * 0.5


def _largest(row):
    """Return the largest z, everywhere."""

    def body(v, inside, top):
        return [larger(top, row.load(v).keep(inside, float("-inf")))]

    (top,) = row.each([row.e.zero().const(float("-inf"))], body)
    return row.everywhere(row.combine(top, larger))


def _softmax(row, top):
    """Replace z by softmax(z); return the sum of the exponentials but that of the largest."""
    # The largest's is 1: log1p of the others is the loss to the last bit where the softmax is
    # saturated.
    b = row.e.builder

    def body(v, inside, others, tops):
        z = row.load(v)
        e = exponential(z - top).keep(inside, 0.0)
        row.store(v, e)
        is_top = b.and_(inside, b.fcmp_ordered("==", z.value, top.value))
        one = e.const(1.0).keep(is_top, 0.0)
        return [others + double(e.const(0.0).keep(is_top, e)), tops + double(one)]

    others, tops = row.sums(2, body)
    rest = others + (tops - 1.0)
    inverse = row.everywhere(rest.const(1.0) / (rest + 1.0))

    with row.steps() as (v, _):
        row.store(v, row.load(v) * inverse)
    return rest


def _quadratic_softmax(row):
    _softmax(row, _largest(row))

    def sums(v, inside, squares, products):
        a = row.load(v)
        wide = double(a - row.target(v, inside))
        return [wide.fma(wide, squares), wide.fma(double(a), products)]

    squares, products = row.sums(2, sums)
    along = row.everywhere(products)

    with row.steps() as (v, inside):
        a = row.load(v)
        row.store_delta(v, inside, a * (a - row.target(v, inside) - along))
    return squares * 0.5


def softmax_cross_entropy(row):
    """Sum of t (largest - z), plus sum of t times log1p(the other exponentials)."""
    top = _largest(row)

    def sums(v, inside, below, total):
        t = double(row.target(v, inside))
        far = (double(top) - double(row.load(v))).keep(inside, 0.0)
        return [t.fma(far, below), total + t]

    below, total = row.sums(2, sums)
    rest = _softmax(row, top)
    weight = row.everywhere(total)

    with row.steps() as (v, inside):
        row.store_delta(v, inside, row.load(v) * weight - row.target(v, inside))
    return below + total * row.log1p(rest)


def _output_that_fits(row, v, inside, code):
    """Store a = f(z) and delta = a - t, as where the activation fits the loss; return z, t, a."""
    z, t = row.load(v), row.target(v, inside)
    a = FORMULAS[code][0](z).keep(inside, 0.0)
    row.store(v, a)
    row.store_delta(v, inside, a - t)
    return z, t, a


def sigmoid_cross_entropy(row):
    """Sum of max(z, 0) - t z + log1p(exp(-|z|)), the logarithms taken at once of a product."""
    b, none = row.e.builder, double(row.e.zero())

    def body(v, inside, linear, product):
        z, t, _ = _output_that_fits(row, v, inside, SIGMOID)
        e = double(exponential(-abs(z)).keep(inside, 0.0))
        wide = double(z)
        part = wide.where(">", 0.0, wide, 0.0) - double(t) * wide
        return [linear + part.keep(inside, 0.0), _joined(product, e)]

    def stretch(first, loss):
        last = b.add(first, I64(FACTORS))
        last = b.select(b.icmp_signed("<", last, row.n), last, row.n)
        linear, product = row.each([none, none], body, first, last)
        return [loss + (row.total(linear) + row.log1p(row.combine(product, _joined)))]

    (loss,) = row.e.loop(I64(0), row.n, FACTORS, [row.total(none)], stretch)
    return loss


def _poisson(row):
    """Sum of a - t z, with a = exp(z)."""

    def body(v, inside, loss):
        z, t, a = _output_that_fits(row, v, inside, EXP)
        part = double(a) - double(t) * double(z)
        return [loss + part.keep(inside, 0.0)]

    return row.sums(1, body)[0]


# By the codes of the loss and of the output's activation.
WRITTEN_OUT = {
    **{(QUADRATIC, f): partial(_elementwise_quadratic, f) for f in range(EXP)},
    (QUADRATIC, SOFTMAX): _quadratic_softmax,
    (CROSS_ENTROPY, SOFTMAX): softmax_cross_entropy,
    (CROSS_ENTROPY, SIGMOID): sigmoid_cross_entropy,
    (POISSON, EXP): _poisson,
}


def _switch(e, loss, code, body):
    """Emit `body(emit, code)` for the loss of this code behind the activation of that code."""
    both = e.builder.add(e.builder.mul(loss, I64(8)), code)
    e.switch(both, {8 * l + f: partial(body, emit, f) for (l, f), emit in WRITTEN_OUT.items()})


@contextmanager
def each_row(e, rows, n, z, targets, delta):
    """Emit what is inside for each row; yields its number and its `SampleRow`."""
    # z and delta: matrices, as (place, length of a row); targets: which, labels, values, labelled.
    b, (which, labels, values, labelled) = e.builder, targets
    with e.over(rows) as r:
        s = b.load(e.at(which, r))
        # Without labels there is no array of them to read from.
        label = b.load(b.select(labelled, e.at(labels, s), which))
        label = b.select(labelled, label, I64(-1))
        y = b.select(labelled, values, e.row(values, s, n))
        z_r, delta_r = e.row(z[0], r, z[1]), e.row(delta[0], r, delta[1])
        yield r, SampleRow(e, n, z_r, delta_r, label, y)


def store_loss(e, emit, sample, r, labelled, losses, hits):
    """Emit the loss of a sample, its delta, and whether it is a hit, which takes a label."""
    b = e.builder
    b.store(emit(sample).value, e.at(losses, r))
    b.store(DOUBLE(0.0), e.at(hits, r))
    with b.if_then(labelled):
        b.store(sample.hit(), e.at(hits, r))


def add_lanes(e, n, m, row, matrices, value, total):
    """Emit `total[0] += value(samples)` over m samples in the lanes."""
    # matrices: z, delta and targets, (n, m), their rows `row` apart.
    b = e.builder

    def step(s, total):
        inside = e.first_lanes(b.sub(m, s))
        samples = SampleLanes(e, n, row, inside, *(e.at(matrix, s) for matrix in matrices))
        return [total + value(samples).keep(inside, 0.0)]

    (found,) = e.loop(I64(0), m, e.lanes, [double(e.zero())], step)
    b.store(b.fadd(b.load(total), found.fold(Vec.__add__).value), total)


@emitted(apart=True)
def output_rows(
    e, loss, code, rows, n, z, z_row, which, labels, values, labelled, delta, delta_row,
    losses, hits,
):  # fmt: skip
    """Replace z by a; write delta, loss and hit of each sample, from the targets of which[r]."""
    # Without labels there are no hits but those of sigmoids, on the targets' side of 1/2.
    # z and delta: (rows, n), their rows z_row and delta_row apart. labels: (samples,), or values:
    # (samples, n), as `labelled` says. losses, hits: (rows,), in double precision.
    b, targets = e.builder, (which, labels, values, labelled)

    def body(emit, f):
        with each_row(e, rows, n, (z, z_row), targets, (delta, delta_row)) as (r, sample):
            store_loss(e, emit, sample, r, labelled, losses, hits)
            if f == SIGMOID:
                with b.if_then(b.not_(labelled)):
                    b.store(sample.hit_by_sides().value, e.at(hits, r))

    _switch(e, loss, code, body)


@emitted(apart=True)
def output_lanes(e, loss, code, n, m, row, z, targets, labelled, delta, sums):
    """Do the same for m samples in the lanes; add losses and hits to sums[0] and sums[1]."""
    # z, targets, delta: (n, m), their rows `row` apart. sums: (2,), in double precision.
    b = e.builder

    def add(place, value):
        add_lanes(e, n, m, row, (z, delta, targets), value, e.at(sums, place))

    _switch(e, loss, code, lambda emit, _: add(0, emit))
    by_sides = b.and_(b.not_(labelled), b.icmp_signed("==", code, I64(SIGMOID)))
    for asked, hit in ((labelled, SampleLanes.hit), (by_sides, SampleLanes.hit_by_sides)):
        with b.if_then(asked):
            add(1, hit)


@emitted(apart=True)
def softmax_rows(e, rows, n, z, z_row):
    """Replace each row of z, (rows, n), by its softmax."""
    with e.over(rows) as r:
        row = SampleRow(e, n, e.row(z, r, z_row))
        _softmax(row, _largest(row))
