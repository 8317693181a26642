"""A whole stretch of training in one call, and the other walks over many samples.

A batch takes three stages: forward and delta on the thread's own samples, then update on its own
rows of W. Threads meet at barriers between them. Each element of every sum is added up by one
thread in one order, so the bits do not depend on how many there are.

`target` is where `alpha * gradient` is added: the parameters themselves for a fused step (alpha =
-learning_rate / batch; no gradient buffer, no second pass), or a gradient buffer.
"""

import math
from typing import NamedTuple

import numpy as np
from numba.extending import overload

from . import sparse
from ._jit import inner, kernel
from .activations import activate, scale_by_slope
from .dense import add_product, add_rows, multiply, multiply_bias
from .losses import apply_output, largest_at, output_row
from .parallel import asked_to_stop, barrier, share, stop, stopped
from .simd import at, delta_and_update, pointer, transpose


class Plan(NamedTuple):
    """What a kernel must know of a network and its storage; offsets and widths in elements."""

    sizes: np.ndarray  # neurons per layer, the inputs being layer 0
    strides: np.ndarray  # length of a layer's rows in storage
    widths: np.ndarray  # the part of a row that tiles compute: whole vectors
    w: np.ndarray  # where layer l's weights start in the parameters
    b: np.ndarray  # where its biases start
    a: np.ndarray  # where its activations start in the scratch
    delta: np.ndarray  # where its deltas start
    flipped: np.ndarray  # where its transposed weights start
    activations: np.ndarray  # codes
    last: int  # the output layer
    loss: int
    bias: bool
    chunk: int  # samples that the scratch holds
    blocks: int  # of inputs, in the index of a zero-skipping data set
    panel: int  # columns of the first layer that go through a block together
    scale: float  # inputs are multiplied by it


class Dense(NamedTuple):
    """Input as rows."""

    X: np.ndarray


class Sparse(NamedTuple):
    """Input as compressed rows of what is not zero, scaled already."""

    start: np.ndarray
    position: np.ndarray
    value: np.ndarray


class Targets(NamedTuple):
    """Labels, or rows of values; the other of the two is empty."""

    labels: np.ndarray
    values: np.ndarray
    labelled: bool


class Work(NamedTuple):
    """Memory that kernels write: nothing is allocated inside them."""

    scratch: np.ndarray  # element 0 holds 1.0
    grads: np.ndarray
    losses: np.ndarray  # one per sample of a chunk
    hits: np.ndarray  # likewise
    sync: np.ndarray
    totals: np.ndarray  # loss and hits, carried across calls


class Span(NamedTuple):
    """Which part of the order to train on, and how."""

    first: int
    last: int
    batch: int
    learning_rate: float


class Team(NamedTuple):
    """Which thread this is, of how many."""

    thread: int
    size: int


def lean(record):
    """Return one of the records above with pointers in place of arrays.

    An array is seven words to every call that takes it, and counts its references.
    """


@overload(lean)
def _lean_of(record):
    return _LEAN[record.instance_class]


_LEAN = {
    Plan: lambda record: Plan(
        pointer(record.sizes), pointer(record.strides), pointer(record.widths),
        pointer(record.w), pointer(record.b), pointer(record.a), pointer(record.delta),
        pointer(record.flipped), pointer(record.activations),
        record.last, record.loss, record.bias, record.chunk, record.blocks, record.panel,
        record.scale,
    ),
    Dense: lambda record: Dense(pointer(record.X)),
    Sparse: lambda record: Sparse(
        pointer(record.start), pointer(record.position), pointer(record.value)
    ),
    Targets: lambda record: Targets(
        pointer(record.labels), pointer(record.values), record.labelled
    ),
    Work: lambda record: Work(
        pointer(record.scratch), pointer(record.grads), pointer(record.losses),
        pointer(record.hits), pointer(record.sync), pointer(record.totals),
    ),
}  # fmt: skip


# -- first layer, by kind of input -----------------------------------------------------------------


@inner
def _gather_rows(plan, X, order, first, r0, r1, scratch):
    """Copy samples into the scratch, scaled; return how many inputs are not finite."""
    n = plan.sizes[0]
    bad = 0
    for r in range(r0, r1):
        s = order[first + r]
        row = at(scratch, plan.a[0] + r * plan.strides[0])
        for i in range(n):
            row[i] = X[s * n + i]
        for i in range(n):
            row[i] *= plan.scale
            bad += not abs(row[i]) < np.inf
    return bad


def _forward_first(plan, data, params, order, first, r0, r1, scratch):
    """Write the first layer's weighted inputs; return how many inputs are not finite."""


@overload(_forward_first, inline="never")
def _forward_first_of(plan, data, params, order, first, r0, r1, scratch):
    if data.instance_class is Dense:

        def dense(plan, data, params, order, first, r0, r1, scratch):
            bad = _gather_rows(plan, data.X, order, first, r0, r1, scratch)
            _forward_layer(plan, 1, params, r0, r1, scratch)
            return bad

        return dense

    def zero_skipping(plan, data, params, order, first, r0, r1, scratch):
        sparse.forward(
            data, plan.blocks, plan.panel, order, first + r0, r1 - r0, plan.widths[1],
            at(params, plan.w[1]), plan.strides[1],
            at(scratch, plan.a[1] + r0 * plan.strides[1]), at(params, plan.b[1]),
        )  # fmt: skip
        return 0

    return zero_skipping


def _update_first(plan, data, order, first, m, target, alpha, work, team):
    """Add alpha * gradient to this thread's rows of the first layer's weights."""


@overload(_update_first, inline="never")
def _update_first_of(plan, data, order, first, m, target, alpha, work, team):
    if data.instance_class is Dense:

        def dense(plan, data, order, first, m, target, alpha, work, team):
            _update_layer(plan, 1, m, target, alpha, work, team)

        return dense

    def zero_skipping(plan, data, order, first, m, target, alpha, work, team):
        stride = plan.strides[1]
        sparse.update(
            data, plan.blocks, plan.blocks * team.thread // team.size,
            plan.blocks * (team.thread + 1) // team.size, plan.panel, order, first, m,
            plan.widths[1], at(work.scratch, plan.delta[1]), at(target, plan.w[1]), stride, alpha,
        )  # fmt: skip

    return zero_skipping


def _fetch_next(plan, data, order, first, m, n):
    """Ask for the samples of the next batch ahead of time."""


@overload(_fetch_next, inline="never")
def _fetch_next_of(plan, data, order, first, m, n):
    if data.instance_class is Dense:
        return lambda plan, data, order, first, m, n: None

    def zero_skipping(plan, data, order, first, m, n):
        for p in range(first + m, min(first + 2 * m, n)):
            sparse.fetch(data, plan.blocks, order[p])

    return zero_skipping


# -- the stages of a chunk -------------------------------------------------------------------------


@inner
def _forward_layer(plan, l, params, r0, r1, scratch):
    """z of layer l for the samples r0 <= r < r1."""
    below, here = plan.strides[l - 1], plan.strides[l]
    multiply_bias(
        r1 - r0, plan.widths[l], plan.sizes[l - 1],
        at(scratch, plan.a[l - 1] + r0 * below), below, 1,
        at(params, plan.w[l]), here,
        at(scratch, plan.a[l] + r0 * here), here, at(params, plan.b[l]),
    )  # fmt: skip


@inner
def _forward(plan, data, params, order, first, r0, r1, scratch):
    """Forward pass up to the output's z."""
    last = plan.last
    bad = _forward_first(plan, data, params, order, first, r0, r1, scratch)
    for l in range(1, last + 1):
        if l > 1:
            _forward_layer(plan, l, params, r0, r1, scratch)
        if l < last:
            row = plan.strides[l]
            a = at(scratch, plan.a[l] + r0 * row)
            activate(plan.activations[l], r1 - r0, plan.sizes[l], a, row, a, row)
    return bad


@inner
def _output(plan, targets, order, first, r0, r1, work):
    """Output, loss, hit and delta of each sample."""
    last = plan.last
    n, row, code = plan.sizes[last], plan.strides[last], plan.activations[last]
    scratch = work.scratch
    for r in range(r0, r1):
        s = order[first + r]
        label = targets.labels[s] if targets.labelled else -1
        y = at(targets.values, s * n if label < 0 else 0)
        z = at(scratch, plan.a[last] + r * row)
        delta = at(scratch, plan.delta[last] + r * row)
        work.losses[r] = output_row(plan.loss, code, n, plan.widths[last], z, label, y, delta)
        work.hits[r] = largest_at(n, z) == label


@inner
def _flip_weights(plan, params, scratch, team):
    """Transpose the weights of the layers above the first, each thread its share of rows."""
    for l in range(2, plan.last + 1):
        # share() deals in BLOCKs of eight, squares may be larger: deal in whole rows of BLOCKs
        low, high = share((plan.sizes[l - 1] + 7) // 8, team.thread, team.size)
        low, high = low * 8, min(high * 8, plan.sizes[l - 1])
        if low < high:
            transpose(
                high - low, plan.widths[l], at(params, plan.w[l] + low * plan.strides[l]),
                plan.strides[l], at(scratch, plan.flipped[l] + low), plan.strides[l - 1],
            )  # fmt: skip


@inner
def _backward(plan, r0, r1, scratch):
    """Deltas of the hidden layers for this thread's samples."""
    for l in range(plan.last, 1, -1):
        here, below = plan.strides[l], plan.strides[l - 1]
        delta = at(scratch, plan.delta[l - 1] + r0 * below)
        multiply(
            r1 - r0, plan.widths[l - 1], plan.sizes[l],
            at(scratch, plan.delta[l] + r0 * here), here, 1,
            at(scratch, plan.flipped[l]), below, delta, below,
        )  # fmt: skip
        a = at(scratch, plan.a[l - 1] + r0 * below)
        scale_by_slope(plan.activations[l - 1], r1 - r0, plan.sizes[l - 1], a, below, delta, below)


@inner
def _update_layer(plan, l, m, target, alpha, work, team):
    """Add alpha * gradient to this thread's rows of layer l's weights."""
    low, high = share(plan.sizes[l - 1], team.thread, team.size)
    scratch = work.scratch
    add_product(
        high - low, plan.widths[l], m,
        at(scratch, plan.a[l - 1] + low), 1, plan.strides[l - 1],
        at(scratch, plan.delta[l]), plan.strides[l],
        at(target, plan.w[l] + low * plan.strides[l]), plan.strides[l], alpha,
    )  # fmt: skip


@inner
def _update_biases(plan, m, target, alpha, scratch):
    for l in range(1, plan.last + 1):
        add_rows(
            plan.widths[l], m, at(scratch, plan.delta[l]), plan.strides[l], alpha, scratch,
            at(target, plan.b[l]),
        )  # fmt: skip


@inner
def _backward_and_update_one(plan, params, target, alpha, scratch):
    """One sample: each layer above the first is read once, for its delta and its update."""
    for l in range(plan.last, 1, -1):
        n = plan.sizes[l - 1]
        delta = at(scratch, plan.delta[l - 1])
        a = at(scratch, plan.a[l - 1])
        delta_and_update(
            n, plan.widths[l], at(params, plan.w[l]), plan.strides[l],
            at(scratch, plan.delta[l]), a, at(target, plan.w[l]), alpha, delta,
        )  # fmt: skip
        for j in range(n, plan.widths[l - 1]):
            delta[j] = 0
        scale_by_slope(plan.activations[l - 1], 1, n, a, 0, delta, 0)


@inner
def _add_up(m, work):
    """Add the chunk's losses and hits to the totals, in order; or stop all."""
    loss, hits = work.totals[0], work.totals[1]
    for r in range(m):
        loss += work.losses[r]
        hits += work.hits[r]
    if math.isfinite(loss) and not asked_to_stop(work.sync):
        work.totals[0], work.totals[1] = loss, hits
    else:
        stop(work.sync)


@inner
def _learn_chunk(plan, params, data, targets, order, first, m, work, target, alpha, team):
    """Add alpha * (sum of m samples' gradients) to target; False if the loss is not finite."""
    scratch, sync = work.scratch, work.sync
    r0, r1 = share(m, team.thread, team.size)
    if m > 1:
        _flip_weights(plan, params, scratch, team)
    if r0 < r1:
        _forward(plan, data, params, order, first, r0, r1, scratch)
        _output(plan, targets, order, first, r0, r1, work)
    barrier(sync, team.size)
    if team.thread == 0:
        _add_up(m, work)
    if m > 1:
        _backward(plan, r0, r1, scratch)
    barrier(sync, team.size)
    if stopped(sync):
        return False
    if m == 1:
        if team.thread == 0:
            _backward_and_update_one(plan, params, target, alpha, scratch)
        barrier(sync, team.size)
    else:
        for l in range(2, plan.last + 1):
            _update_layer(plan, l, m, target, alpha, work, team)
    _update_first(plan, data, order, first, m, target, alpha, work, team)
    if plan.bias and team.thread == 0:
        _update_biases(plan, m, target, alpha, scratch)
    barrier(sync, team.size)
    return True


@inner
def _learn_chunks(plan, params, data, targets, order, first, m, work, alpha, team):
    """Fill work.grads with alpha * (sum of the gradients of m samples), chunk by chunk."""
    size = plan.b[plan.last] + plan.strides[plan.last]
    low, high = share(size, team.thread, team.size)
    for i in range(low, high):
        work.grads[i] = 0
    barrier(work.sync, team.size)
    for done in range(0, m, plan.chunk):
        size = min(plan.chunk, m - done)
        if not _learn_chunk(
            plan, params, data, targets, order, first + done, size, work, work.grads, alpha, team
        ):
            return False
    return True


# -- entry points ----------------------------------------------------------------------------------


@kernel
def sgd_epoch(plan, params, data, targets, order, span, work, team):
    """Twin of `reference.sgd_epoch`, for the batches that start in span.first <= p < span.last.

    A batch whose loss is not finite is not learnt: training stops before it, with the flag in
    work.sync.
    """
    _sgd_epoch(
        lean(plan), pointer(params), params.size, lean(data), lean(targets), pointer(order),
        order.size, span, lean(work), team,
    )  # fmt: skip


@inner
def _sgd_epoch(plan, params, size, data, targets, order, n, span, work, team):
    low, high = share(size, team.thread, team.size)
    for p in range(span.first, span.last, span.batch):
        m = min(span.batch, n - p)
        _fetch_next(plan, data, order, p, m, n)
        if m <= plan.chunk:
            alpha = -span.learning_rate / m
            if not _learn_chunk(
                plan, params, data, targets, order, p, m, work, params, alpha, team
            ):
                return
        else:
            alpha = 1.0 / m
            if not _learn_chunks(plan, params, data, targets, order, p, m, work, alpha, team):
                return
            for i in range(low, high):
                params[i] -= span.learning_rate * work.grads[i]
            barrier(work.sync, team.size)


@kernel
def gradient(plan, params, data, targets, order, work):
    """Twin of `reference.gradient`: work.grads is the mean over the batch, totals[0] the loss."""
    _learn_chunks(
        lean(plan), pointer(params), lean(data), lean(targets), pointer(order), 0, order.size,
        lean(work), 1.0 / order.size, Team(0, 1),
    )  # fmt: skip


@kernel
def evaluate(plan, params, data, targets, order, work):
    """Twin of `reference.evaluate`: the sums of losses and hits, in totals."""
    net, rows, y, hands = lean(plan), lean(data), lean(targets), lean(work)
    for first in range(0, order.size, plan.chunk):
        m = min(plan.chunk, order.size - first)
        _forward(net, rows, pointer(params), pointer(order), first, 0, m, hands.scratch)
        _output(net, y, pointer(order), first, 0, m, hands)
        for r in range(m):
            work.totals[0] += work.losses[r]
            work.totals[1] += work.hits[r]


@kernel
def feedforward(plan, params, data, order, work, out):
    """Twin of `reference.feedforward`; return whether all inputs are finite."""
    net, rows = lean(plan), lean(data)
    last = plan.last
    n, row = plan.sizes[last], plan.strides[last]
    scratch = pointer(work.scratch)
    bad = 0
    for first in range(0, order.size, plan.chunk):
        m = min(plan.chunk, order.size - first)
        bad += _forward(net, rows, pointer(params), pointer(order), first, 0, m, scratch)
        for r in range(m):
            z = at(scratch, plan.a[last] + r * row)
            apply_output(plan.activations[last], n, z)
            for j in range(n):
                out[first + r, j] = z[j]
    return bad == 0
