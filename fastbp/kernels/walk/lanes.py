"""Narrow networks in large batches: lanes over the batch.

A layer of 4 neurons would leave 12 of 16 lanes empty if lanes were neurons. Here activations lie
output by output, a row of samples each, so every lane holds a sample, output and loss need no
horizontal sums, and delta needs no transposed weights. W is read element by element.

A row of ones below the activations makes the bias, which is stored as the last row of W, a weight
like any other. The samples of a batch go through in chunks that stay in the first cache levels. A
chunk's gradient is summed by one thread, and chunks are added up in their order, so the bits do not
depend on how many threads there are.
"""

import math

from numba.extending import overload

from ..inference import targets_from
from ..ir.activations import activate, scale_by_slope
from ..ir.losses import output_lanes
from ..ir.tiles import dots_axpy, gemm_row_bias, gemm_store
from ..ir.transpose import FEW, transpose_few, transpose_samples
from ..ir.vectors import at, pointer, vector_lanes
from ..jit import inlined, inner, kernel
from .batch import UPDATE_ROWS, size_of
from .optimizers import take_step
from .records import (
    ONE,
    SCALE,
    TOTALS,
    Dense,
    add_scaled,
    all_finite,
    count,
    fill,
    lean,
    ledger,
    read,
    reset,
)
from .team import SYNC_SIZE, asked_to_stop, barrier, deal, deal_anew, share, stop, stopped

ROUND = 32  # chunks whose gradients are kept apart until they are added up


# -- one chunk -------------------------------------------------------------------------------------


def _turn(X, which, m, n, scale, out, row):
    """out[i, s] = scale * X[which[s], i], zeros up to the end of the last vector."""


@overload(_turn, inline="never")
def _turn_of(X, which, m, n, scale, out, row):
    def converting(X, which, m, n, scale, out, row):
        lanes = vector_lanes(out)
        for i in range(n):
            for s in range(m):
                out[i * row + s] = X[which[s] * n + i] * scale
            for s in range(m, (m + lanes - 1) // lanes * lanes):
                out[i * row + s] = 0

    def turning(X, which, m, n, scale, out, row):
        if n <= FEW:
            transpose_few(m, n, X, which, scale, out, row)
        else:
            transpose_samples(m, n, X, which, scale, out, row)

    return turning if X.dtype == out.dtype else converting


@inner
def _load(plan, data, targets, which, m, scratch):
    """Write inputs and targets of m samples, a row of samples for each input and output."""
    row, n = plan.chunk, plan.sizes[plan.last]
    _turn(data.X, which, m, plan.sizes[0], scratch[SCALE], at(scratch, plan.a[0]), row)
    y = at(scratch, plan.flipped[plan.last])
    if targets.labelled:
        for i in range(n * row):
            y[i] = 0
        for s in range(m):
            y[targets.labels[which[s]] * row + s] = 1
    else:
        _turn(targets.values, which, m, n, scratch[ONE], y, row)


@inner
def _stretch(plan, l, width):
    """Return rows and length of what holds layer l: one long row where there are no gaps."""
    n = plan.sizes[l]
    return (1, n * width) if width == plan.chunk else (n, width)


@inner
def _forward(plan, params, width, scratch):
    """Forward pass up to the output's z."""
    row = plan.chunk
    for l in range(1, plan.last + 1):
        below, n = at(scratch, plan.a[l - 1]), plan.sizes[l - 1]
        for s in range(width):
            below[n * row + s] = 1
        a = at(scratch, plan.a[l])
        gemm_row_bias(
            plan.sizes[l], width, n, at(params, plan.w[l]), plan.strides[l], None, None,
            below, row, a, row, at(params, plan.b[l]),
        )  # fmt: skip
        if l < plan.last:
            rows, long = _stretch(plan, l, width)
            activate(plan.activations[l], rows, long, a, row, a, row)


@inlined
def _backward(plan, params, width, scratch):
    """Deltas of the hidden layers."""
    row = plan.chunk
    for l in range(plan.last, 1, -1):
        delta = at(scratch, plan.delta[l - 1])
        n = plan.sizes[l - 1]
        gemm_store(
            n, width, plan.sizes[l], at(params, plan.w[l]), plan.strides[l], None, None,
            at(scratch, plan.delta[l]), row, delta, row, 0.0,
        )  # fmt: skip
        a = at(scratch, plan.a[l - 1])
        rows, long = _stretch(plan, l - 1, width)
        scale_by_slope(plan.activations[l - 1], rows, long, a, row, delta, row)


@inner
def _update(plan, width, target, alpha, scratch):
    """Add alpha * gradient to target."""
    row = plan.chunk
    for l in range(1, plan.last + 1):
        dots_axpy(
            plan.sizes[l - 1] + plan.bias, plan.sizes[l], width, at(scratch, plan.a[l - 1]), row,
            at(scratch, plan.delta[l]), row, at(target, plan.w[l]), plan.strides[l], alpha,
        )  # fmt: skip


@inner
def _pass(plan, params, data, targets, which, m, scratch, sums):
    """Forward and backward pass of m samples; loss and hits go to sums. Return the padded m."""
    lanes = vector_lanes(params)
    width = (m + lanes - 1) // lanes * lanes
    _load(plan, data, targets, which, m, scratch)
    _forward(plan, params, width, scratch)
    last = plan.last
    output_lanes(
        plan.loss, plan.activations[last], plan.sizes[last], m, plan.chunk,
        at(scratch, plan.a[last]), at(scratch, plan.flipped[last]), targets.labelled,
        at(scratch, plan.delta[last]), sums,
    )  # fmt: skip
    _backward(plan, params, width, scratch)
    return width


# -- batches ---------------------------------------------------------------------------------------


@inner
def _step(plan, params, m):
    """Return the samples of a chunk: equal parts, so that the last is no tiny one."""
    parts, lanes = (m + plan.chunk - 1) // plan.chunk, vector_lanes(params)
    return ((m + parts - 1) // parts + lanes - 1) // lanes * lanes


@inlined
def _learn_chunk(plan, params, data, targets, which, m, work, alpha, team):
    """Take one step on a batch that is one chunk; False if its loss is not finite."""
    if team.thread == 0:
        found = at(work.sums, TOTALS)
        width = _pass(plan, params, data, targets, which, m, work.scratch, found)
        if asked_to_stop(work.marks) or not math.isfinite(found[0]):
            stop(work.marks)
        else:
            count(work.sums, found[0], found[1])
            _update(plan, width, params, alpha, work.scratch)
    barrier(work.marks, team.size)
    return not stopped(work.marks)


@inner
def _fine(chunks, work, team):
    """Add a round's losses and hits to the totals, in order; return whether to go on."""
    loss, hits = 0.0, 0.0
    for slot in range(chunks):
        loss += work.sums[TOTALS + 2 * slot]
        hits += work.sums[TOTALS + 2 * slot + 1]
    if stopped(work.marks) or not math.isfinite(loss):
        stop(work.marks)
        return False
    if team.thread == 0:
        count(work.sums, loss, hits)
    return True


@inlined
def _learn_round(plan, params, data, targets, order, m, step, work, alpha, team):
    """Add alpha * (sum of the gradients of a round of chunks) to work.grads.

    Who is done with a chunk takes the next, so that no thread waits for a slower core.
    """
    size, chunks = size_of(plan), (m + step - 1) // step
    scratch = at(work.scratch, team.thread * plan.scratch)
    slot = deal(work.marks)
    while slot < chunks:
        target = at(work.grads, (1 + slot) * size)
        fill(target, 0, size, 0)
        first = slot * step
        width = _pass(
            plan, params, data, targets, at(order, first), min(step, m - first), scratch,
            at(work.sums, TOTALS + 2 * slot),
        )  # fmt: skip
        _update(plan, width, target, alpha, scratch)
        slot = deal(work.marks)
    if team.thread == 0 and asked_to_stop(work.marks):
        stop(work.marks)
    barrier(work.marks, team.size)
    deal_anew(work.marks, team)
    if not _fine(chunks, work, team):
        return False
    low, high = share(size, UPDATE_ROWS, team.thread, team.size)
    for slot in range(1, chunks + 1):
        add_scaled(work.grads, low, high, 1, at(work.grads, slot * size))
    barrier(work.marks, team.size)
    return True


@inner
def _learn_rounds(plan, params, data, targets, order, m, work, team):
    """Fill work.grads with the mean gradient of a batch; False if its loss is not finite."""
    low, high = share(size_of(plan), UPDATE_ROWS, team.thread, team.size)
    fill(work.grads, low, high, 0)
    step = _step(plan, params, m)
    loss, hits = work.sums[0], work.sums[1]
    for done in range(0, m, ROUND * step):
        if not _learn_round(
            plan, params, data, targets, at(order, done), min(ROUND * step, m - done), step, work,
            1.0 / m, team,
        ):  # fmt: skip
            reset(work, loss, hits, team)
            return False
    return True


@inner
def _descend(plan, params, work, rate, team):
    """Take a step along work.grads."""
    low, high = share(size_of(plan), UPDATE_ROWS, team.thread, team.size)
    add_scaled(params, low, high, -rate, work.grads)
    barrier(work.marks, team.size)


# -- entry points ----------------------------------------------------------------------------------


@inlined
def _learn_batches(plan, params, data, targets, order, n, span, work, team):
    rate = span.learning_rate
    for p in range(span.first, span.last, span.batch):
        m, which = min(span.batch, n - p), at(order, p)
        if m <= plan.chunk:
            if not _learn_chunk(plan, params, data, targets, which, m, work, -rate / m, team):
                return
        else:
            if not _learn_rounds(plan, params, data, targets, which, m, work, team):
                return
            _descend(plan, params, work, rate, team)


@kernel
def narrow_epoch(plan, params, data, targets, order, span, work, team):
    """Twin of `reference.sgd_epoch`, as `sgd.sgd_epoch` is, for narrow networks."""
    net, x, y, hands = read(plan), lean(data), lean(targets), lean(work)
    for epoch in range(span.epochs):
        here = ledger(hands, epoch, team)
        _learn_batches(net, pointer(params), x, y, pointer(order), order.size, span, here, team)
        if stopped(hands.marks):
            return


@inlined
def _learn_by_rule(plan, params, data, targets, order, n, span, work, rule, team):
    for p in range(span.first, span.last, span.batch):
        m, which = min(span.batch, n - p), at(order, p)
        if not _learn_rounds(plan, params, data, targets, which, m, work, team):
            return
        take_step(plan, params, work, rule, span.learning_rate, m, 1.0 / m, team)


@kernel
def narrow_optimizer_epoch(plan, params, data, targets, order, span, work, rule, team):
    """Twin of `reference.sgd_epoch` with an optimiser, for narrow networks."""
    net, x, y, hands, law = read(plan), lean(data), lean(targets), lean(work), lean(rule)
    for epoch in range(span.epochs):
        here = ledger(hands, epoch, team)
        _learn_by_rule(
            net, pointer(params), x, y, pointer(order), order.size, span, here, law, team
        )
        if stopped(hands.marks):
            return


@kernel
def narrow_gradient(plan, params, X, labels, values, scratch, sums, marks, grads):
    """Twin of `reference.gradient`, as `sgd.gradient` is, for narrow networks."""
    net, w, hands, target = read(plan), pointer(params), pointer(scratch), pointer(grads)
    n, total = X.shape[0], pointer(sums)
    rows = at(pointer(marks), SYNC_SIZE)
    fill(target, 0, grads.size, 0)
    total[0] = 0
    step = _step(net, w, n)
    for first in range(0, n, step):
        m = min(step, n - first)
        data = Dense(at(pointer(X), first * net.sizes[0]))
        targets = targets_from(first, net.sizes[net.last], labels, values, None)
        width = _pass(net, w, data, targets, rows, m, hands, at(total, TOTALS))
        total[0] += total[TOTALS]
        _update(net, width, target, 1.0 / n, hands)
    return math.isfinite(total[0]) and all_finite(target, grads.size)
