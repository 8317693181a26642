"""A whole stretch of training in one call: batches, one-sample batches, epochs."""

import math

from numba.extending import overload

from .ir.activations import scale_by_slope
from .ir.tiles import delta_and_update
from .ir.vectors import at, pointer
from .jit import inlined, kernel
from .walk.batch import (
    UPDATE_ROWS,
    forward_rest,
    is_weighted,
    learn_chunk,
    output,
    shares,
    size_of,
    update_biases,
)
from .walk.first import NUM, forward_one, samples_at, settle, update_one
from .walk.records import TOTALS, Team, add_scaled, count, fill, lean, ledger, read, reset
from .walk.team import asked_to_stop, barrier, share, stop, stopped

# -- batches of one --------------------------------------------------------------------------------


@inlined
def _backward_and_update_one(plan, params, alpha, work):
    """Each layer above the first is read once, for its delta and its update."""
    scratch = work.scratch
    for l in range(plan.last, 1, -1):
        n = plan.sizes[l - 1]
        delta, a = at(scratch, plan.delta[l - 1]), at(scratch, plan.a[l - 1])
        w = at(params, plan.w[l])
        delta_and_update(
            n, plan.widths[l], w, plan.strides[l], at(scratch, plan.delta[l]), a, w, alpha, delta
        )
        fill(delta, n, plan.widths[l - 1], 0)
        scale_by_slope(plan.activations[l - 1], 1, n, a, 0, delta, 0)
    if plan.bias:
        update_biases(plan, NUM(1), params, alpha, work, Team(0, 1))


@inlined
def _learn_one(plan, params, data, targets, samples, slot, fresh, alpha, work, team):
    """Take one step on one sample; False if its loss is not finite."""
    forward_one(plan, data, params, samples, slot, fresh, alpha, work, team)
    barrier(work.marks, team.size)
    if team.thread == 0:
        forward_rest(plan, params, NUM(0), NUM(1), work)
        output(plan, targets, samples, NUM(0), NUM(1), work)
        if asked_to_stop(work.marks) or not math.isfinite(work.sums[TOTALS]):
            stop(work.marks)
        else:
            count(work.sums, work.sums[TOTALS], work.sums[TOTALS + plan.chunk])
            _backward_and_update_one(plan, params, alpha, work)
    barrier(work.marks, team.size)
    if stopped(work.marks):
        return False
    update_one(plan, data, params, samples, alpha, work, team)
    return True


@inlined
def _learn_ones(plan, params, data, targets, order, n, span, work, team):
    """Learn sample after sample."""
    alpha = -span.learning_rate / span.batch  # as precise as that of larger batches
    for p in range(span.first, span.last):
        samples = samples_at(order, p, span.batch, n)
        fresh = p == span.first
        if not _learn_one(plan, params, data, targets, samples, p & 1, fresh, alpha, work, team):
            return
    if span.first < span.last:
        p = span.last - 1
        settle(plan, data, params, order[p], p & 1, alpha, work, team)
        barrier(work.marks, team.size)


# -- larger batches, and epochs --------------------------------------------------------------------


@inlined
def learn_chunks(plan, params, data, targets, order, m, work, alpha, share_of_loss, team):
    """Add alpha * (sum of the gradients of m samples) to work.grads, chunk by chunk.

    Of a batch that is refused nothing stays in the totals.
    """
    barrier(work.marks, team.size)
    loss, hits = work.sums[0], work.sums[1]
    for done in range(0, m, plan.chunk):
        size = min(plan.chunk, m - done)
        samples = samples_at(order, done, size, m)
        if not learn_chunk(
            plan, params, data, targets, samples, size, work, work.grads, alpha, share_of_loss,
            team,
        ):  # fmt: skip
            reset(work, loss, hits, team)
            return False
    return True


@inlined
def _learn_batches(plan, params, data, targets, order, n, span, work, team):
    low, high = share(size_of(plan), UPDATE_ROWS, team.thread, team.size)
    for p in range(span.first, span.last, span.batch):
        m, which = min(span.batch, n - p), at(order, p)
        share_of_each, share_of_loss = shares(targets, which, m)
        if m <= plan.chunk:
            alpha = -span.learning_rate * share_of_each
            samples = samples_at(order, p, m, n)
            if not learn_chunk(
                plan, params, data, targets, samples, m, work, params, alpha, share_of_loss, team
            ):
                return
        else:
            fill(work.grads, low, high, 0)
            if not learn_chunks(
                plan, params, data, targets, which, m, work, share_of_each, share_of_loss, team
            ):
                return
            add_scaled(params, low, high, -span.learning_rate, work.grads)
            barrier(work.marks, team.size)


def weighted(targets):
    """Return whether the samples have weights."""


@overload(weighted)
def _weighted_of(targets):
    return (lambda targets: True) if is_weighted(targets) else (lambda targets: False)


@kernel
def sgd_epoch(plan, params, data, targets, order, span, work, team):
    """Twin of `reference.sgd_epoch`, for the batches that start in span.first <= p < span.last.

    A batch whose loss is not finite is not learnt: training stops before it, with the flag in
    work.marks.
    """
    net, x, y, hands = read(plan), lean(data), lean(targets), lean(work)
    w, which, n = pointer(params), pointer(order), order.size
    for epoch in range(span.epochs):
        here = ledger(hands, epoch, team)
        if span.batch == 1 and not weighted(targets):
            _learn_ones(net, w, x, y, which, n, span, here, team)
        else:
            _learn_batches(net, w, x, y, which, n, span, here, team)
        if stopped(hands.marks):
            return
