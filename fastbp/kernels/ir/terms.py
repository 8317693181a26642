"""Losses that any output may have, and cross-entropy with smoothed targets.

What is a sum of terms, one of each output, finds a = f(z) and, where delta will stand, f'(z): a
term gives its part of C and dC/da, by which it multiplies. So each loss is written once for all
activations. Routines take a code, and the loss's setting as the bits of a float64.
"""

from functools import partial

from .losses import (
    add_lanes,
    each_row,
    larger,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    store_loss,
)  # fmt: skip
from .samples import DOUBLE, SampleLanes, double, narrowed
from .vectors import I64, element, emitted, spread


def _quadratic(a, t, _):
    rest = a - t
    wide = double(rest)
    return wide * wide * 0.5, rest


def _absolute(a, t, _):
    rest = a - t  # NaN and 0 are their own sign
    return abs(double(rest)), rest.where("<", 0.0, -1.0, rest.where(">", 0.0, 1.0, rest))


def _huber(a, t, width):
    wide = double(a - t)
    near = wide.where("<", -width, -width, wide.where(">", width, width, wide))
    return near * (wide - near * 0.5), near


def _quantile(a, t, q):
    rest, rise = double(t) - double(a), q.const(1.0) - q
    slope = rest.where(">", 0.0, -q, rest.where("<", 0.0, rise, rest))
    return larger(q * rest, -(rise * rest)), slope


# C of each output, in double precision, and dC/da, from a, the target and the setting.
TERMS = {"quadratic": _quadratic, "absolute": _absolute, "huber": _huber, "quantile": _quantile}


def by_terms(terms, setting, row):
    """Sum of the terms of a loss; delta, where f'(z) is, is multiplied by dC/da."""

    def body(v, inside, total):
        part, slope = terms(row.load(v), row.target(v, inside), setting)
        row.store_delta(v, inside, row.load_delta(v) * narrowed(slope, row.e.dtype))
        return [total + part.keep(inside, 0.0)]

    return row.sums(1, body)[0]


def _smooth_softmax(setting, row):
    """Cross-entropy of targets of which a share is spread over all outputs."""
    (total,) = row.sums(1, lambda v, inside, total: [total + double(row.target(v, inside))])
    count = row.e.builder.sitofp(row.n, element(row.e.dtype))
    row.smooth(narrowed(setting, row.e.dtype), row.everywhere(total) / row.e.splat(count))
    return softmax_cross_entropy(row)


def _smooth_sigmoid(setting, row):
    """Cross-entropy of targets of which a share is 1/2."""
    share = narrowed(setting, row.e.dtype)
    row.smooth(share, share.const(0.5))
    return sigmoid_cross_entropy(row)


# By their codes.
_LOSSES = (*(partial(by_terms, f) for f in TERMS.values()), _smooth_softmax, _smooth_sigmoid)
SMOOTH_SOFTMAX, SMOOTH_SIGMOID = range(len(TERMS), len(_LOSSES))


def _switch(e, code, bits, body):
    """Emit `body(loss)` for the loss of this code; bits are those of its setting, a float64."""
    setting = e.vec(spread(e.builder, e.builder.bitcast(bits, DOUBLE), e.lanes))
    cases = {number: partial(body, partial(f, setting)) for number, f in enumerate(_LOSSES)}
    e.switch(code, cases)


@emitted(apart=True)
def term_rows(
    e, code, bits, rows, n, a, a_row, which, labels, values, labelled, delta, delta_row,
    losses, hits,
):  # fmt: skip
    """Do as `losses.output_rows` does; without a label, no sample is a hit."""
    targets = which, labels, values, labelled

    def body(loss):
        with each_row(e, rows, n, (a, a_row), targets, (delta, delta_row)) as (r, sample):
            store_loss(e, loss, sample, r, labelled, losses, hits)

    _switch(e, code, bits, body)


@emitted(apart=True)
def term_lanes(e, code, bits, n, m, row, a, targets, labelled, delta, sums):
    """Do as `losses.output_lanes` does; without a label, no sample is a hit."""

    def add(place, value):
        add_lanes(e, n, m, row, (a, delta, targets), value, e.at(sums, place))

    _switch(e, code, bits, partial(add, 0))
    with e.builder.if_then(labelled):
        add(1, SampleLanes.hit)


@emitted(apart=True)
def side_rows(e, rows, n, a, a_row, which, values, hits):
    """Say of each sample, whose targets are values, whether all sigmoids are on their side."""
    targets = which, which, values, e.builder.icmp_signed("<", I64(0), I64(0))
    with each_row(e, rows, n, (a, a_row), targets, (a, a_row)) as (r, sample):
        e.builder.store(sample.hit_by_sides().value, e.at(hits, r))


@emitted(apart=True)
def side_lanes(e, n, m, row, a, targets, sums):
    """Do the same for m samples in the lanes; add them to sums[1]."""
    add_lanes(e, n, m, row, (a, a, targets), SampleLanes.hit_by_sides, e.at(sums, 1))
