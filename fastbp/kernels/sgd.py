"""A whole stretch of training in one call, and the other walks over many samples.

A batch takes three stages: forward in the first layer; then, sample by sample, all that follows up
to the deltas; then update. Threads meet at barriers between them. In the first layer, where W is
large, a thread owns columns of W through forward and update, so that W stays in its cache; deltas
are small and travel. Each element of every sum is added up by one thread in one order, so the bits
do not depend on how many there are.

`target` is where `alpha * gradient` is added: the parameters themselves for a fused step (alpha =
-learning_rate / batch; no gradient buffer, no second pass), or a gradient buffer.
"""

import math

import numpy as np
from numba.extending import overload

from . import sparse
from ._jit import inlined, inner, kernel
from .activations import activate, scale_by_slope
from .dense import add_product, add_rows, advance, multiply, multiply_bias
from .losses import apply_output, output_rows
from .parallel import BLOCK, STOPPED, SYNC_SIZE, asked_to_stop, barrier, share, stop, stopped
from .plan import (
    ONE,
    SCALE,
    TOTALS,
    Dense,
    Samples,
    Targets,
    Team,
    Work,
    add_scaled,
    all_finite,
    count,
    fill,
    lean,
    ledger,
    read,
)
from .simd import TILE_ROWS, at, delta_and_update, pointer, prefetch, transpose, vector_lanes

# A number that is no literal: for each literal argument everything below would be compiled anew.
NUM = np.int64
UPDATE_ROWS = 8  # rows of W are dealt out in whole tiles
SQUARE = 16  # rows of W are transposed in squares of up to so many


# -- first layer, by kind of input -----------------------------------------------------------------


@inner
def _convert(plan, X, which, r0, r1, scratch, slot):
    """Copy samples into the scratch from row `slot` on, scaled."""
    n = plan.sizes[0]
    for r in range(r0, r1):
        row = at(scratch, plan.a[0] + (slot + r) * plan.strides[0])
        sample = at(X, which[r] * n)
        for i in range(n):
            row[i] = sample[i]
        for i in range(n):
            row[i] *= scratch[SCALE]


def _rows(plan, data, which, work):
    """Return where the samples are multiplied: first element, distance, and their numbers there."""


@overload(_rows, inline="always")
def _rows_of(plan, data, which, work):
    def as_they_lie(plan, data, which, work):
        if work.scratch[SCALE] == 1:
            return data.X, plan.sizes[0], which
        return at(work.scratch, plan.a[0]), plan.strides[0], at(work.marks, SYNC_SIZE)

    def converted(plan, data, which, work):
        return at(work.scratch, plan.a[0]), plan.strides[0], at(work.marks, SYNC_SIZE)

    return as_they_lie if _same_dtype(data, work) else converted


def _same_dtype(data, work):
    return data.types[0].dtype == work.types[0].dtype


@inner
def _columns(plan, weights, team):
    """Return this thread's columns of the first layer, in whole vectors."""
    return share(plan.widths[1], vector_lanes(weights), team.thread, team.size)


def _forward_first(plan, data, params, samples, m, work, team):
    """Write this thread's columns of the first layer's weighted inputs."""


@overload(_forward_first, inline="always")
def _forward_first_of(plan, data, params, samples, m, work, team):
    if data.instance_class is not Dense:

        def zero_skipping(plan, data, params, samples, m, work, team):
            v, end = _columns(plan, params, team)
            sparse.forward(
                data, plan.blocks, samples, m, end - v, at(params, plan.w[1] + v),
                plan.strides[1], at(work.scratch, plan.a[1] + v), at(params, plan.b[1] + v),
            )  # fmt: skip

        return zero_skipping

    same = _same_dtype(data, work)

    def dense(plan, data, params, samples, m, work, team):
        if not same or work.scratch[SCALE] != 1:
            r0, r1 = share(m, BLOCK, team.thread, team.size)
            _convert(plan, data.X, samples.now, r0, r1, work.scratch, NUM(0))
            barrier(work.marks, team.size)
        x, x_row, table = _rows(plan, data, samples.now, work)
        ahead = _rows(plan, data, samples.ahead, work)[2]
        v, end = _columns(plan, params, team)
        multiply_bias(
            m, end - v, plan.sizes[0], x, x_row, table, ahead,
            at(params, plan.w[1] + v), plan.strides[1],
            at(work.scratch, plan.a[1] + v), plan.strides[1], at(params, plan.b[1] + v),
        )  # fmt: skip

    return dense


def _update_first(plan, data, samples, m, target, alpha, work, team):
    """Add alpha * gradient to this thread's columns of the first layer's weights."""


@overload(_update_first, inline="always")
def _update_first_of(plan, data, samples, m, target, alpha, work, team):
    if data.instance_class is Dense:

        def dense(plan, data, samples, m, target, alpha, work, team):
            x, x_row, table = _rows(plan, data, samples.now, work)
            v, end = _columns(plan, target, team)
            stride = plan.strides[1]
            add_product(
                plan.sizes[0], end - v, m, x, x_row, table,
                at(work.scratch, plan.delta[1] + v), stride,
                at(target, plan.w[1] + v), stride, alpha,
            )  # fmt: skip

        return dense

    def zero_skipping(plan, data, samples, m, target, alpha, work, team):
        v, end = _columns(plan, target, team)
        stride = plan.strides[1]
        sparse.update(
            data, plan.blocks, samples, m, end - v, at(work.scratch, plan.delta[1] + v),
            at(target, plan.w[1] + v), stride, alpha,
        )  # fmt: skip

    return zero_skipping


@inner
def _samples(order, p, m, n):
    """Return the samples of the batch at p, and those that follow as far as there are enough."""
    now = at(order, p)
    ahead = at(now, m) if p + 2 * m <= n else now
    return Samples(now, ahead, at(now, 2 * m) if p + 3 * m <= n else ahead)


# -- the stages of a chunk -------------------------------------------------------------------------


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
def _forward_rest(plan, params, r0, r1, work):
    """Forward pass from the first layer's z up to the output's z."""
    for l in range(1, plan.last):
        row = plan.strides[l]
        a = at(work.scratch, plan.a[l] + r0 * row)
        activate(plan.activations[l], r1 - r0, plan.sizes[l], a, row, a, row)
        _forward_layer(plan, l + 1, params, r0, r1, work)


@inner
def _output(plan, targets, samples, r0, r1, work):
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
def _update_biases(plan, m, target, alpha, work):
    scratch = work.scratch
    for l in range(1, plan.last + 1):
        add_rows(
            plan.widths[l], m, at(scratch, plan.delta[l]), plan.strides[l],
            at(work.marks, SYNC_SIZE), alpha, at(scratch, ONE), at(target, plan.b[l]),
        )  # fmt: skip


@inner
def _sum_of(plan, m, work):
    """Return the losses and hits of a chunk, added up in order."""
    loss, hits = 0.0, 0.0
    for r in range(m):
        loss += work.sums[TOTALS + r]
        hits += work.sums[TOTALS + plan.chunk + r]
    return loss, hits


@inner
def _fine(plan, m, work, team):
    """Add the chunk's losses and hits to the totals, in order; return whether to go on.

    Each thread adds up all losses, so that all come to one answer.
    """
    loss, hits = _sum_of(plan, m, work)
    if stopped(work.marks) or not math.isfinite(loss):
        stop(work.marks)
        return False
    if team.thread == 0:
        count(work.sums, loss, hits)
    return True


@inner
def _meet(work, team):
    """Wait for all; a wish to stop that came before is from then on known to all."""
    if team.thread == 0 and asked_to_stop(work.marks):
        stop(work.marks)
    barrier(work.marks, team.size)


@inner
def _learn_chunk(plan, params, data, targets, samples, m, work, target, alpha, team):
    """Add alpha * (sum of m samples' gradients) to target; False if the loss is not finite."""
    _flip_weights(plan, params, work.scratch, team)
    _forward_first(plan, data, params, samples, m, work, team)
    barrier(work.marks, team.size)
    r0, r1 = share(m, BLOCK, team.thread, team.size)
    if r0 < r1:
        _forward_rest(plan, params, r0, r1, work)
        _output(plan, targets, samples, r0, r1, work)
        _backward(plan, r0, r1, work.scratch)
    _meet(work, team)
    if not _fine(plan, m, work, team):
        return False
    for l in range(2, plan.last + 1):
        _update_layer(plan, l, m, target, alpha, work, team)
    _update_first(plan, data, samples, m, target, alpha, work, team)
    if plan.bias and team.thread == team.size - 1:
        _update_biases(plan, m, target, alpha, work)
    barrier(work.marks, team.size)
    return True


@inlined
def _learn_chunks(plan, params, data, targets, order, m, work, alpha, team):
    """Fill work.grads with alpha * (sum of the gradients of m samples), chunk by chunk."""
    low, high = share(size_of(plan), UPDATE_ROWS, team.thread, team.size)
    fill(work.grads, low, high, 0)
    barrier(work.marks, team.size)
    for done in range(0, m, plan.chunk):
        size = min(plan.chunk, m - done)
        samples = _samples(order, done, size, m)
        if not _learn_chunk(
            plan, params, data, targets, samples, size, work, work.grads, alpha, team
        ):
            return False
    return True


@inner
def size_of(plan):
    """Return how many parameters there are, padding included."""
    return plan.b[plan.last] + plan.strides[plan.last]


# -- batches of one --------------------------------------------------------------------------------


def _place(plan, data, s, slot, work):
    """Return where sample number s is multiplied; a converted one lies in one of two slots."""


@overload(_place, inline="always")
def _place_of(plan, data, s, slot, work):
    def as_it_lies(plan, data, s, slot, work):
        if work.scratch[SCALE] == 1:
            return at(data.X, s * plan.sizes[0])
        return at(work.scratch, plan.a[0] + slot * plan.strides[0])

    def converted(plan, data, s, slot, work):
        return at(work.scratch, plan.a[0] + slot * plan.strides[0])

    return as_it_lies if _same_dtype(data, work) else converted


@inlined
def _advance(plan, params, before, x, alpha, work, team):
    """Learn the sample `before` in the first layer, and write the weighted inputs of x."""
    v, end = _columns(plan, params, team)
    advance(
        end - v, plan.sizes[0], before, alpha, at(work.scratch, plan.delta[1] + v), x,
        at(params, plan.w[1] + v), plan.strides[1], at(work.scratch, plan.a[1] + v),
        at(params, plan.b[1] + v),
    )  # fmt: skip


def _forward_one(plan, data, params, samples, slot, fresh, alpha, work, team):
    """Write the first layer's weighted inputs; on dense input after the update still owed.

    On dense input the update of a sample waits for the forward pass of the next, unless `fresh`:
    one pass over W does both.
    """


@overload(_forward_one, inline="always")
def _forward_one_of(plan, data, params, samples, slot, fresh, alpha, work, team):
    if data.instance_class is not Dense:

        def zero_skipping(plan, data, params, samples, slot, fresh, alpha, work, team):
            _forward_first(plan, data, params, samples, NUM(1), work, team)

        return zero_skipping

    same = _same_dtype(data, work)

    def dense(plan, data, params, samples, slot, fresh, alpha, work, team):
        n_in = plan.sizes[0]
        if not same or work.scratch[SCALE] != 1:
            if team.thread == 0:
                _convert(plan, data.X, samples.now, NUM(0), NUM(1), work.scratch, slot)
            barrier(work.marks, team.size)
        prefetch(at(data.X, samples.ahead[0] * n_in), n_in)
        x = _place(plan, data, samples.now[0], slot, work)
        if not fresh:
            before = _place(plan, data, at(samples.now, -1)[0], 1 - slot, work)
            _advance(plan, params, before, x, alpha, work, team)
            return
        v, end = _columns(plan, params, team)
        rows = at(work.marks, SYNC_SIZE)
        multiply_bias(
            NUM(1), end - v, n_in, x, NUM(0), rows, rows, at(params, plan.w[1] + v),
            plan.strides[1], at(work.scratch, plan.a[1] + v), NUM(0), at(params, plan.b[1] + v),
        )  # fmt: skip

    return dense


def _update_one(plan, data, params, samples, alpha, work, team):
    """Learn a sample in the first layer; on dense input that waits for the next sample."""


@overload(_update_one, inline="always")
def _update_one_of(plan, data, params, samples, alpha, work, team):
    if data.instance_class is Dense:
        return lambda plan, data, params, samples, alpha, work, team: None
    return lambda plan, data, params, samples, alpha, work, team: _update_first(
        plan, data, samples, NUM(1), params, alpha, work, team
    )


def _settle(plan, data, params, s, slot, alpha, work, team):
    """Take the update of sample s that is still owed."""


@overload(_settle, inline="always")
def _settle_of(plan, data, params, s, slot, alpha, work, team):
    if data.instance_class is not Dense:
        return lambda plan, data, params, s, slot, alpha, work, team: None

    def dense(plan, data, params, s, slot, alpha, work, team):
        x = _place(plan, data, s, slot, work)
        _advance(plan, params, x, x, alpha, work, team)

    return dense


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
        _update_biases(plan, NUM(1), params, alpha, work)


@inlined
def _learn_one(plan, params, data, targets, samples, slot, fresh, alpha, work, team):
    """Take one step on one sample; False if its loss is not finite."""
    _forward_one(plan, data, params, samples, slot, fresh, alpha, work, team)
    barrier(work.marks, team.size)
    if team.thread == 0:
        _forward_rest(plan, params, NUM(0), NUM(1), work)
        _output(plan, targets, samples, NUM(0), NUM(1), work)
        if asked_to_stop(work.marks) or not math.isfinite(work.sums[TOTALS]):
            stop(work.marks)
        else:
            count(work.sums, work.sums[TOTALS], work.sums[TOTALS + plan.chunk])
            _backward_and_update_one(plan, params, alpha, work)
    barrier(work.marks, team.size)
    if stopped(work.marks):
        return False
    _update_one(plan, data, params, samples, alpha, work, team)
    return True


@inlined
def _learn_ones(plan, params, data, targets, order, n, span, work, team):
    """Learn sample after sample."""
    alpha = -span.learning_rate / span.batch  # as precise as that of larger batches
    for p in range(span.first, span.last):
        samples = _samples(order, p, span.batch, n)
        fresh = p == span.first
        if not _learn_one(plan, params, data, targets, samples, p & 1, fresh, alpha, work, team):
            return
    if span.first < span.last:
        p = span.last - 1
        _settle(plan, data, params, order[p], p & 1, alpha, work, team)
        barrier(work.marks, team.size)


# -- entry points ----------------------------------------------------------------------------------


@inlined
def _learn_batches(plan, params, data, targets, order, n, span, work, team):
    low, high = share(size_of(plan), UPDATE_ROWS, team.thread, team.size)
    for p in range(span.first, span.last, span.batch):
        m = min(span.batch, n - p)
        if m <= plan.chunk:
            alpha = -span.learning_rate / m
            samples = _samples(order, p, m, n)
            if not _learn_chunk(plan, params, data, targets, samples, m, work, params, alpha, team):
                return
        else:
            alpha = 1.0 / m
            if not _learn_chunks(plan, params, data, targets, at(order, p), m, work, alpha, team):
                return
            add_scaled(params, low, high, -span.learning_rate, work.grads)
            barrier(work.marks, team.size)


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
        if span.batch == 1:
            _learn_ones(net, w, x, y, which, n, span, here, team)
        else:
            _learn_batches(net, w, x, y, which, n, span, here, team)
        if stopped(hands.marks):
            return


@inner
def targets_from(first, n_out, labels, values):
    """Return the targets of the samples from the first one on; labels count where there are any."""
    labelled = labels.size > 0
    start = 0 if labelled else first * n_out
    return Targets(at(pointer(labels), first), at(pointer(values), start), labelled)


@kernel
def gradient(plan, params, X, labels, values, scratch, sums, marks, grads):
    """Twin of `reference.gradient`: grads is the mean over the batch, sums[0] the loss.

    Return whether all is finite: an input that is not makes its own gradients so (the product of
    infinity and a delta of zero is NaN), and a target the loss.
    """
    net, n = read(plan), X.shape[0]
    work = Work(pointer(scratch), pointer(sums), pointer(marks), pointer(grads))
    sums[0] = sums[1] = 0
    marks[STOPPED] = 0
    fill(work.grads, 0, grads.size, 0)
    for first in range(0, n, net.chunk):
        m = min(net.chunk, n - first)
        data = Dense(at(pointer(X), first * net.sizes[0]))
        targets = targets_from(first, net.sizes[net.last], labels, values)
        if not _learn_chunk(
            net, pointer(params), data, targets, _in_order(work), m, work, work.grads, 1.0 / n,
            Team(0, 1),
        ):  # fmt: skip
            fill(work.grads, 0, grads.size, np.nan)  # as the loss is
            sums[0] = np.nan
            break
    return math.isfinite(sums[0]) and all_finite(work.grads, grads.size)


@inner
def _in_order(work):
    """Return samples that lie one after the other; ahead are those of the next tile."""
    rows = at(work.marks, SYNC_SIZE)
    return Samples(rows, at(rows, TILE_ROWS), rows)


@inlined
def _forward_chunk(plan, params, X, m, work):
    """Forward pass of m samples that lie one after the other, up to the output's z.

    Return whether all inputs were finite: one that is not makes every z of its sample so.
    """
    _forward_first(plan, Dense(X), params, _in_order(work), m, work, Team(0, 1))
    z = at(work.scratch, plan.a[1])
    fine = True
    for r in range(m):
        fine &= math.isfinite(z[r * plan.strides[1]])
    _forward_rest(plan, params, NUM(0), m, work)
    return fine


@kernel
def evaluate(plan, params, X, labels, values, scratch, sums, marks):
    """Twin of `reference.evaluate`: the sums of losses and hits, in sums[0] and sums[1]."""
    net = read(plan)
    work = Work(pointer(scratch), pointer(sums), pointer(marks), pointer(scratch))
    sums[0] = sums[1] = 0
    for first in range(0, X.shape[0], net.chunk):
        m = min(net.chunk, X.shape[0] - first)
        x = at(pointer(X), first * net.sizes[0])
        _forward_chunk(net, pointer(params), x, m, work)
        targets = targets_from(first, net.sizes[net.last], labels, values)
        _output(net, targets, _in_order(work), NUM(0), m, work)
        loss, hits = _sum_of(net, m, work)
        sums[0] += loss
        sums[1] += hits


@kernel
def feedforward(plan, params, X, scratch, marks, out):
    """Twin of `reference.feedforward`; return whether all inputs were surely finite."""
    net = read(plan)
    work = Work(pointer(scratch), pointer(scratch), pointer(marks), pointer(scratch))
    n, row = net.sizes[net.last], net.strides[net.last]
    z = at(work.scratch, net.a[net.last])
    fine = True
    for first in range(0, X.shape[0], net.chunk):
        m = min(net.chunk, X.shape[0] - first)
        x = at(pointer(X), first * net.sizes[0])
        fine &= _forward_chunk(net, pointer(params), x, m, work)
        apply_output(net.activations[net.last], m, n, z, row)
        for r in range(m):
            for j in range(n):
                out[first + r, j] = z[r * row + j]
    return fine
