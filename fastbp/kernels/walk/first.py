"""The first layer, where W is large and inputs may be rows, bytes, or compressed rows.

A thread owns columns of W through forward and update, so that W stays in its cache.
"""

import numpy as np
from numba.extending import overload

from ..ir.vectors import at, prefetch, vector_lanes
from ..jit import inlined, inner
from . import sparse
from .dense import add_product, advance, multiply_bias
from .records import SCALE, Dense, Samples
from .team import BLOCK, SYNC_SIZE, barrier, share

# A number that is no literal: for each literal argument everything below would be compiled anew.
NUM = np.int64


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
def columns(plan, weights, team):
    """Return this thread's columns of the first layer, in whole vectors."""
    return share(plan.widths[1], vector_lanes(weights), team.thread, team.size)


def forward_first(plan, data, params, samples, m, work, team):
    """Write this thread's columns of the first layer's weighted inputs."""


@overload(forward_first, inline="always")
def _forward_first_of(plan, data, params, samples, m, work, team):
    if data.instance_class is not Dense:

        def zero_skipping(plan, data, params, samples, m, work, team):
            v, end = columns(plan, params, team)
            sparse.forward(
                data, plan.blocks, samples, m, end - v, at(params, plan.w[1] + v),
                plan.strides[1], at(work.scratch, plan.a[1] + v), at(params, plan.b[1] + v),
                team.size,
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
        v, end = columns(plan, params, team)
        multiply_bias(
            m, end - v, plan.sizes[0], x, x_row, table, ahead,
            at(params, plan.w[1] + v), plan.strides[1],
            at(work.scratch, plan.a[1] + v), plan.strides[1], at(params, plan.b[1] + v),
        )  # fmt: skip

    return dense


def update_first(plan, data, samples, m, target, alpha, work, team):
    """Add alpha * gradient to this thread's columns of the first layer's weights."""


@overload(update_first, inline="always")
def _update_first_of(plan, data, samples, m, target, alpha, work, team):
    if data.instance_class is Dense:

        def dense(plan, data, samples, m, target, alpha, work, team):
            x, x_row, table = _rows(plan, data, samples.now, work)
            v, end = columns(plan, target, team)
            stride = plan.strides[1]
            add_product(
                plan.sizes[0], end - v, m, x, x_row, table,
                at(work.scratch, plan.delta[1] + v), stride,
                at(target, plan.w[1] + v), stride, alpha,
            )  # fmt: skip

        return dense

    def zero_skipping(plan, data, samples, m, target, alpha, work, team):
        v, end = columns(plan, target, team)
        stride = plan.strides[1]
        sparse.update(
            data, plan.blocks, samples, m, end - v, at(work.scratch, plan.delta[1] + v),
            at(target, plan.w[1] + v), stride, alpha, team.size,
        )  # fmt: skip

    return zero_skipping


def update_first_block(plan, data, j, samples, m, target, alpha, work):
    """Add alpha * gradient to the weights of one block of inputs; zero-skipping input alone."""


@overload(update_first_block, inline="always")
def _update_first_block_of(plan, data, j, samples, m, target, alpha, work):
    if data.instance_class is Dense:
        return lambda plan, data, j, samples, m, target, alpha, work: None
    return lambda plan, data, j, samples, m, target, alpha, work: sparse.update_block(
        data, plan.blocks, j, samples, m, plan.widths[1], at(work.scratch, plan.delta[1]),
        at(target, plan.w[1]), plan.strides[1], alpha,
    )  # fmt: skip


def in_blocks(plan, data):
    """Return whether input is zero-skipping, and in more than one block."""


@overload(in_blocks)
def _in_blocks_of(plan, data):
    if data.instance_class is Dense:
        return lambda plan, data: False
    return lambda plan, data: plan.blocks > 1


@inner
def samples_at(order, p, m, n):
    """Return the samples of the batch at p, and those that follow as far as there are enough."""
    now = at(order, p)
    ahead = at(now, m) if p + 2 * m <= n else now
    return Samples(now, ahead, at(now, 2 * m) if p + 3 * m <= n else ahead)


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
    v, end = columns(plan, params, team)
    advance(
        end - v, plan.sizes[0], before, alpha, at(work.scratch, plan.delta[1] + v), x,
        at(params, plan.w[1] + v), plan.strides[1], at(work.scratch, plan.a[1] + v),
        at(params, plan.b[1] + v),
    )  # fmt: skip


def forward_one(plan, data, params, samples, slot, fresh, alpha, work, team):
    """Write the first layer's weighted inputs; on dense input after the update still owed.

    On dense input the update of a sample waits for the forward pass of the next, unless `fresh`:
    one pass over W does both.
    """


@overload(forward_one, inline="always")
def _forward_one_of(plan, data, params, samples, slot, fresh, alpha, work, team):
    if data.instance_class is not Dense:

        def zero_skipping(plan, data, params, samples, slot, fresh, alpha, work, team):
            forward_first(plan, data, params, samples, NUM(1), work, team)

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
        v, end = columns(plan, params, team)
        rows = at(work.marks, SYNC_SIZE)
        multiply_bias(
            NUM(1), end - v, n_in, x, NUM(0), rows, rows, at(params, plan.w[1] + v),
            plan.strides[1], at(work.scratch, plan.a[1] + v), NUM(0), at(params, plan.b[1] + v),
        )  # fmt: skip

    return dense


def update_one(plan, data, params, samples, alpha, work, team):
    """Learn a sample in the first layer; on dense input that waits for the next sample."""


@overload(update_one, inline="always")
def _update_one_of(plan, data, params, samples, alpha, work, team):
    if data.instance_class is Dense:
        return lambda plan, data, params, samples, alpha, work, team: None
    return lambda plan, data, params, samples, alpha, work, team: update_first(
        plan, data, samples, NUM(1), params, alpha, work, team
    )


def settle(plan, data, params, s, slot, alpha, work, team):
    """Take the update of sample s that is still owed."""


@overload(settle, inline="always")
def _settle_of(plan, data, params, s, slot, alpha, work, team):
    if data.instance_class is not Dense:
        return lambda plan, data, params, s, slot, alpha, work, team: None

    def dense(plan, data, params, s, slot, alpha, work, team):
        x = _place(plan, data, s, slot, work)
        _advance(plan, params, x, x, alpha, work, team)

    return dense
