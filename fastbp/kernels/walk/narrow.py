"""Narrow networks in large batches: lanes over the batch.

A layer of 4 neurons would leave 12 of 16 lanes empty if lanes were neurons. Here activations lie
output by output, a row of samples each, so every lane holds a sample, output and loss need no
horizontal sums, and delta needs no transposed weights. W is read element by element.

A row of ones below the activations makes the bias, which is stored as the last row of W, a weight
like any other. The samples of a batch go through in chunks that stay in the second cache level. A
chunk's gradient is summed by one thread, and chunks are added up in their order, so the bits do not
depend on how many threads there are.
"""

import math

from ..ir.activations import activate
from ..ir.along import dots_axpy
from ..ir.memory import at, call_address, put, vector_lanes
from ..ir.tiles import gemm_row_bias, gemm_sloped
from ..ir.transpose import transpose_few, transpose_samples
from ..jit import by_type, inner, unit
from ..machine import FEW_COLUMNS, NARROW_BLOCK, ROUND, UPDATE_UNIT
from .batch import may_go_on
from .losses import output_lanes
from .products import multiply_slopes
from .records import (
    FORWARD,
    ONE,
    SCALE,
    TOTALS,
    VALUE,
    Matrix,
    add_scaled,
    count,
    fill,
    reset,
    size_of,
)  # fmt: skip
from .team import asked_to_stop, barrier, meet, next_number, restart_numbers, share, stop


@by_type
def transposed(X, which, m, n, scale, out, row):
    """out[i, s] = scale * X[which[s], i], zeros up to the end of the last vector."""

    def converting(X, which, m, n, scale, out, row):
        lanes = vector_lanes(out)
        for i in range(n):
            for s in range(m):
                put(out, i * row + s, X[which[s] * n + i] * scale)
            for s in range(m, (m + lanes - 1) // lanes * lanes):
                put(out, i * row + s, 0)

    def by_vectors(X, which, m, n, scale, out, row):
        if n <= FEW_COLUMNS:
            transpose_few(m, n, X, which, scale, out, row)
        else:
            transpose_samples(m, n, X, which, scale, out, row)

    return by_vectors if X.dtype == out.dtype else converting


@inner
def load_inputs(job, which, m, scratch):
    """Write the inputs of m samples, a row of samples for each; by the function made for them."""
    plan, inputs, out = job.plan, job.inputs, at(scratch, job.plan.a[0])
    arguments = inputs[VALUE], which, m, plan.sizes[0], scratch[SCALE], out, plan.chunk
    call_address(inputs[FORWARD], arguments)


@inner
def _load_targets(plan, targets, which, m, scratch):
    """Write the targets of m samples, a row of samples for each output."""
    row, n = plan.chunk, plan.sizes[plan.last]
    y = at(scratch, plan.transposed[plan.last])
    if targets.labelled:
        for i in range(n * row):
            put(y, i, 0)
        for s in range(m):
            put(y, targets.labels[which[s]] * row + s, 1)
    else:
        transposed(targets.values, which, m, n, scratch[ONE], y, row)


@inner
def _forward(job, which, m, width, scratch):
    plan, params = job.plan, job.params.flat
    row, block = plan.chunk, NARROW_BLOCK * vector_lanes(params)
    for l in range(1, plan.last + 1):
        below, n = at(scratch, plan.a[l - 1]), plan.sizes[l - 1]
        fill(below, n * row, n * row + width, 1)
        for s in range(0, width, block):
            a, some = at(scratch, plan.a[l] + s), min(block, width - s)
            gemm_row_bias(
                plan.sizes[l], some, n, at(params, plan.w[l]), plan.strides[l], None, None,
                at(below, s), row, a, row, at(params, plan.b[l]), None,
            )  # fmt: skip
            if l == plan.last:
                continue
            if plan.kept[l]:  # what the first cache level still holds
                call_address(plan.keep, (job, which, m, l, s, some, scratch))
            else:
                activate(plan.activations[l], plan.sizes[l], some, a, row, a, row)


@inner
def _backward(plan, params, width, scratch):
    row = plan.chunk
    for l in range(plan.last, 1, -1):
        if plan.kept[l - 1]:
            w = Matrix(at(params, plan.w[l]), plan.strides[l])
            deltas = Matrix(at(scratch, plan.delta[l]), row)
            below = Matrix(at(scratch, plan.delta[l - 1]), row)
            n, n_below = plan.sizes[l], plan.sizes[l - 1]
            multiply_slopes(plan.times, n_below, width, n, w, deltas, below)
            continue
        gemm_sloped(
            plan.activations[l - 1], plan.sizes[l - 1], width, plan.sizes[l],
            at(params, plan.w[l]), plan.strides[l], at(scratch, plan.delta[l]), row,
            at(scratch, plan.delta[l - 1]), row, at(scratch, plan.a[l - 1]), row,
        )  # fmt: skip


@inner
def update(plan, width, target, alpha, scratch):
    """Add alpha * gradient to target."""
    row = plan.chunk
    for l in range(1, plan.last + 1):
        dots_axpy(
            plan.sizes[l - 1] + plan.bias, plan.sizes[l], width, at(scratch, plan.a[l - 1]), row,
            at(scratch, plan.delta[l]), row, at(target, plan.w[l]), plan.strides[l], alpha,
        )  # fmt: skip


@unit
def forward_and_backward(job, which, m, scratch, sums):
    """Forward and backward pass of m samples, whose inputs are loaded. Return the padded m."""
    # Loss and hits go to sums.
    plan, params, targets = job.plan, job.params.flat, job.targets
    lanes, last = vector_lanes(params), plan.last
    width = (m + lanes - 1) // lanes * lanes
    _load_targets(plan, targets, which, m, scratch)
    _forward(job, which, m, width, scratch)
    fill(sums, 0, 2, 0)
    output_lanes(
        (plan.loss, plan.activations[last]), plan.sizes[last], m, plan.chunk,
        at(scratch, plan.a[last]), at(scratch, plan.delta[last]),
        (at(scratch, plan.transposed[last]), targets.labelled), sums,
    )  # fmt: skip
    _backward(plan, params, width, scratch)
    return width


@inner
def chunk_of(plan, params, m):
    """Return the samples of each chunk of m: equally many, so that the last is no tiny one."""
    # One chunk, or an even number, for two threads.
    chunks, lanes = (m + plan.chunk - 1) // plan.chunk, vector_lanes(params)
    chunks += chunks > 1 and chunks % 2
    return ((m + chunks - 1) // chunks + lanes - 1) // lanes * lanes


@inner
def _learn_chunk(job, which, m, alpha):
    """Take one step on a batch that is one chunk; False if its loss is not finite."""
    plan, params, work, team = job.plan, job.params.flat, job.work, job.team
    refused = False
    if team.thread == 0:
        sums = at(work.sums, TOTALS)
        load_inputs(job, which, m, work.scratch)
        width = forward_and_backward(job, which, m, work.scratch, sums)
        refused = asked_to_stop(work.integers) or not math.isfinite(sums[0])
        if not refused:
            count(work.sums, sums[0], sums[1])
            update(plan, width, params, alpha, work.scratch)
    if meet(work.integers, team, refused):
        stop(work.integers)
        return False
    return True


@inner
def _learn_round(job, order, m, step, alpha):
    """Add alpha * (sum of the gradients of a round of chunks) to work.grads."""
    # Each chunk is `step` samples. A thread that is done with one takes the next, so that none
    # waits for a slower core.
    plan, work, team = job.plan, job.work, job.team
    size, chunks = size_of(plan), (m + step - 1) // step
    scratch = at(work.scratch, team.thread * plan.thread_scratch)
    slot = next_number(work.integers)
    while slot < chunks:
        target = at(work.grads, (1 + slot) * size)
        fill(target, 0, size, 0)
        which, size_here = at(order, slot * step), min(step, m - slot * step)
        sums = at(work.sums, TOTALS + 2 * slot)
        load_inputs(job, which, size_here, scratch)
        width = forward_and_backward(job, which, size_here, scratch, sums)
        update(plan, width, target, alpha, scratch)
        slot = next_number(work.integers)
    asked = meet(work.integers, team, asked_to_stop(work.integers))
    restart_numbers(work.integers, team)
    loss, hits = 0.0, 0.0
    for slot in range(chunks):
        loss += work.sums[TOTALS + 2 * slot]
        hits += work.sums[TOTALS + 2 * slot + 1]
    if not may_go_on(asked, loss, hits, 1.0, work, team):
        return False
    low, high = share(size, UPDATE_UNIT, team.thread, team.size)
    for slot in range(1, chunks + 1):
        add_scaled(work.grads, low, high, 1, at(work.grads, slot * size))
    barrier(work.integers, team)
    return True


@unit
def learn_rounds(job, order, m):
    """Fill work.grads with the mean gradient of a batch; False if its loss is not finite."""
    plan, work, team = job.plan, job.work, job.team
    low, high = share(size_of(plan), UPDATE_UNIT, team.thread, team.size)
    fill(work.grads, low, high, 0)
    step = chunk_of(plan, work.grads, m)
    loss, hits = work.sums[0], work.sums[1]
    for done in range(0, m, ROUND * step):
        size = min(ROUND * step, m - done)
        if not _learn_round(job, at(order, done), size, step, 1.0 / m):
            reset(work, loss, hits, team)
            return False
    return True


@inner
def learn_narrow(job, which, m, rate):
    """Take one step on a batch of m samples; False if its loss is not finite."""
    if m <= job.plan.chunk:
        return _learn_chunk(job, which, m, -rate / m)
    if not learn_rounds(job, which, m):
        return False
    work, team = job.work, job.team
    low, high = share(size_of(job.plan), UPDATE_UNIT, team.thread, team.size)
    add_scaled(job.params.flat, low, high, -rate, work.grads)
    barrier(work.integers, team)
    return True
