"""What a batch takes: forward, sample by sample up to the deltas, update.

Threads meet at barriers between the three. Each element of every sum is added up by one thread in
one order, so the bits do not depend on how many there are.

`target` is where `alpha * gradient` is added: the parameters themselves for a fused step (alpha =
-learning_rate / batch; no gradient buffer, no second pass), or a gradient buffer.
"""

import math

from numba.extending import overload

from ..ir.activations import activate, scale_by_slope
from ..ir.losses import output_rows
from ..ir.transpose import transpose
from ..ir.vectors import at, prefetch, vector_lanes
from ..jit import inlined, inner
from .dense import add_product, add_rows, multiply, multiply_bias
from .first import forward_first, update_first
from .records import ONE, TOTALS, count, scale
from .team import BLOCK, SYNC_SIZE, asked_to_stop, barrier, share, stop, stopped

UPDATE_ROWS = 8  # rows of W are dealt out in whole tiles
SQUARE = 16  # rows of W are transposed in squares of up to so many


@inlined
def _forward_layer(plan, l, params, r0, r1, work):
    """z of layer l for the samples r0 <= r < r1."""
    below, here = plan.strides[l - 1], plan.strides[l]
    scratch, rows = work.scratch, at(work.marks, SYNC_SIZE)
    multiply_bias(
        r1 - r0, plan.widths[l], plan.sizes[l - 1],
        at(scratch, plan.a[l - 1] + r0 * below), below, rows, rows,
        at(params, plan.w[l]), here,
        at(scratch, plan.a[l] + r0 * here), here, at(params, plan.b[l]),
    )  # fmt: skip


@inner
def forward_rest(plan, params, r0, r1, work):
    """Forward pass from the first layer's z up to the output's z."""
    for l in range(1, plan.last):
        row = plan.strides[l]
        a = at(work.scratch, plan.a[l] + r0 * row)
        activate(plan.activations[l], r1 - r0, plan.sizes[l], a, row, a, row)
        _forward_layer(plan, l + 1, params, r0, r1, work)


@inner
def output(plan, targets, samples, r0, r1, work):
    """Output, loss, hit and delta of each sample."""
    last, scratch = plan.last, work.scratch
    row = plan.strides[last]
    for r in range(r0, r1):  # the next ones' targets come from main memory, too
        if targets.labelled:
            prefetch(at(targets.labels, samples.ahead[r]), 1)
        else:
            prefetch(at(targets.values, samples.ahead[r] * plan.sizes[last]), plan.sizes[last])
    output_rows(
        plan.loss, plan.activations[last], r1 - r0, plan.sizes[last],
        at(scratch, plan.a[last] + r0 * row), row, at(samples.now, r0), targets.labels,
        targets.values, targets.labelled, at(scratch, plan.delta[last] + r0 * row), row,
        at(work.sums, TOTALS + r0), at(work.sums, TOTALS + plan.chunk + r0),
    )  # fmt: skip
    _weigh(plan, targets, samples, r0, r1, work)


def _weigh(plan, targets, samples, r0, r1, work):
    """Multiply deltas and losses by the weights of their samples, where they have any."""


@overload(_weigh)
def _weigh_of(plan, targets, samples, r0, r1, work):
    if not is_weighted(targets):
        return lambda plan, targets, samples, r0, r1, work: None

    def weighted(plan, targets, samples, r0, r1, work):
        last = plan.last
        for r in range(r0, r1):
            weight = targets.weights[samples.now[r]]
            delta = at(work.scratch, plan.delta[last] + r * plan.strides[last])
            scale(delta, 0, plan.sizes[last], weight)
            scale(work.sums, TOTALS + r, TOTALS + r + 1, weight)

    return weighted


def is_weighted(targets):
    """Return, of the type, whether the samples have weights."""
    return str(targets.types[3]) != "none"


def shares(targets, which, m):
    """Return what the gradients of a batch, and what its losses, are multiplied by for their mean.

    Losses become a mean times m, as if all weights were one.
    """


@overload(shares)
def _shares_of(targets, which, m):
    if not is_weighted(targets):
        return lambda targets, which, m: (1.0 / m, 1.0)

    def weighted(targets, which, m):
        total = 0.0
        for r in range(m):
            total += targets.weights[which[r]]
        return weighted_shares(total, m)

    return weighted


@inner
def weighted_shares(total, m):
    """Return `shares` of m samples whose weights sum up to `total`."""
    if total == 0:  # nobody counts: nothing is learnt
        return 0.0, 0.0
    return 1.0 / total, m / total


@inlined
def _flip_weights(plan, params, scratch, team):
    """Transpose the weights of the layers above the first, each thread its share of rows."""
    for l in range(2, plan.last + 1):
        low, high = share(plan.sizes[l - 1], SQUARE, team.thread, team.size)
        if low < high:
            transpose(
                high - low, plan.widths[l], at(params, plan.w[l] + low * plan.strides[l]),
                plan.strides[l], at(scratch, plan.flipped[l] + low), plan.strides[l - 1],
            )  # fmt: skip


@inlined
def _backward(plan, r0, r1, scratch):
    """Deltas of the hidden layers for this thread's samples."""
    for l in range(plan.last, 1, -1):
        here, below = plan.strides[l], plan.strides[l - 1]
        delta = at(scratch, plan.delta[l - 1] + r0 * below)
        multiply(
            r1 - r0, plan.widths[l - 1], plan.sizes[l],
            at(scratch, plan.delta[l] + r0 * here), here,
            at(scratch, plan.flipped[l]), below, delta, below,
        )  # fmt: skip
        a = at(scratch, plan.a[l - 1] + r0 * below)
        scale_by_slope(plan.activations[l - 1], r1 - r0, plan.sizes[l - 1], a, below, delta, below)


@inlined
def _update_layer(plan, l, m, target, alpha, work, team):
    """Add alpha * gradient to this thread's rows of layer l's weights."""
    low, high = share(plan.sizes[l - 1], UPDATE_ROWS, team.thread, team.size)
    scratch = work.scratch
    add_product(
        high - low, plan.widths[l], m,
        at(scratch, plan.a[l - 1] + low), plan.strides[l - 1], at(work.marks, SYNC_SIZE),
        at(scratch, plan.delta[l]), plan.strides[l],
        at(target, plan.w[l] + low * plan.strides[l]), plan.strides[l], alpha,
    )  # fmt: skip


@inner
def update_biases(plan, m, target, alpha, work, team):
    """Add alpha * gradient to this thread's columns of the biases of all layers."""
    scratch = work.scratch
    for l in range(1, plan.last + 1):
        v, end = share(plan.widths[l], vector_lanes(target), team.thread, team.size)
        add_rows(
            end - v, m, at(scratch, plan.delta[l] + v), plan.strides[l],
            at(work.marks, SYNC_SIZE), alpha, at(scratch, ONE), at(target, plan.b[l] + v),
        )  # fmt: skip


@inner
def sum_of(plan, m, work):
    """Return the losses and hits of a chunk, added up in order."""
    loss, hits = 0.0, 0.0
    for r in range(m):
        loss += work.sums[TOTALS + r]
        hits += work.sums[TOTALS + plan.chunk + r]
    return loss, hits


@inner
def _fine(plan, m, work, share_of_loss, team):
    """Add the chunk's losses and hits to the totals, in order; return whether to go on.

    Each thread adds up all losses, so that all come to one answer.
    """
    loss, hits = sum_of(plan, m, work)
    if stopped(work.marks) or not math.isfinite(loss):
        stop(work.marks)
        return False
    if team.thread == 0:
        count(work.sums, loss * share_of_loss, hits)
    return True


@inner
def _meet(work, team):
    """Wait for all; a wish to stop that came before is from then on known to all."""
    if team.thread == 0 and asked_to_stop(work.marks):
        stop(work.marks)
    barrier(work.marks, team.size)


@inner
def learn_chunk(plan, params, data, targets, samples, m, work, target, alpha, share_of_loss, team):
    """Add alpha * (sum of m samples' gradients) to target; False if the loss is not finite."""
    if not learn_upper(
        plan, params, data, targets, samples, m, work, target, alpha, share_of_loss, team
    ):
        return False
    update_first(plan, data, samples, m, target, alpha, work, team)
    barrier(work.marks, team.size)
    return True


@inner
def learn_upper(plan, params, data, targets, samples, m, work, target, alpha, share_of_loss, team):
    """What `learn_chunk` does, but for the weights of the first layer and the last barrier."""
    _flip_weights(plan, params, work.scratch, team)
    forward_first(plan, data, params, samples, m, work, team)
    barrier(work.marks, team.size)
    r0, r1 = share(m, BLOCK, team.thread, team.size)
    if r0 < r1:
        forward_rest(plan, params, r0, r1, work)
        output(plan, targets, samples, r0, r1, work)
        _backward(plan, r0, r1, work.scratch)
    _meet(work, team)
    if not _fine(plan, m, work, share_of_loss, team):
        return False
    for l in range(2, plan.last + 1):
        _update_layer(plan, l, m, target, alpha, work, team)
    if plan.bias:
        update_biases(plan, m, target, alpha, work, team)
    return True


@inner
def size_of(plan):
    """Return how many parameters there are, padding included."""
    return plan.b[plan.last] + plan.strides[plan.last]
