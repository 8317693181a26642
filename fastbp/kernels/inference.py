"""Walks over many samples that lie one after the other: gradient, evaluate, feedforward.

An array costs 65 ns to hand over, a call on one sample 600 in all. So what calls share comes as the
address of a table, see `walk.records.opened`, and the others one by one, not in records.
Shapes: X (samples, n_in), or `records.Sparse` in one block of inputs, which stays within what is
not zero; labels (samples,) or (0,); values (samples, n_out) or (0, n_out); weights (samples,) or
(0,); params and grads flat; out (samples * n_out,).
"""

import math

import numpy as np

from .ir.memory import at, pointer, pointers, put
from .jit import by_type, inner, kernel
from .machine import TILE_ROWS
from .walk import first, narrow, records, upper
from .walk.activations import apply_output
from .walk.batch import learn_upper, output, sum_of, targets_from, weighted_shares
from .walk.first_sparse import forward_row
from .walk.records import (
    NUM,
    SCALE,
    TOTALS,
    Batch,
    Dense,
    Sparse,
    TargetArrays,
    Team,
    is_dense,
)  # fmt: skip
from .walk.stores import as_stored, lone_job
from .walk.team import STOPPED


@inner
def _in_order(work, m, alpha, share_of_loss, target):
    """Return a batch of samples that lie one after the other; ahead are those of the next tile."""
    rows = records.numbers(work)
    return Batch(rows, at(rows, TILE_ROWS), rows, m, alpha, share_of_loss, target, NUM(0))


@inner
def _nothing(work):
    """Return no targets."""
    return TargetArrays(work.integers, work.scratch, False, work.scratch, False)


def _is_rows(X):
    return not hasattr(X, "instance_class")  # which Numba's types of records have


@by_type
def _count(X):
    """Return the number of samples."""
    return (lambda X: X.shape[0]) if _is_rows(X) else (lambda X: X.start.size - TILE_ROWS - 1)


@by_type
def _data_from(X, first, n_in):
    """Return the samples from the first one on."""
    if _is_rows(X):
        return lambda X, first, n_in: Dense(at(pointer(X), first * n_in))

    def compressed(X, first, n_in):
        p = pointers(X)
        return Sparse(at(p.start, first), p.position, p.value, p.palette, p.fetched)

    return compressed


@by_type
def _begin(data, job, value, position):
    """Begin with a row that comes alone, if that pays; return whether."""
    # On compressed rows it does not: they are indexed.
    if is_dense(data):
        return lambda data, job, value, position: forward_row(data, job, value, position)
    return lambda data, job, value, position: False


@inner
def _learn(data, job, batch):
    """Do what `learn_chunk` does, with input of a known kind: a call by address cost more there."""
    first.forward_from(data, job, batch)
    if not learn_upper(job, batch):
        return False
    first.update_from(data, job, batch, NUM(0), job.plan.blocks)
    return True


@kernel
def gradient(table, params, X, labels, values, weights, grads):
    """Twin of `reference.gradient`: grads is the mean over the batch, sums[0] / n the loss."""
    # Return the loss, or NaN if not all is finite: an input that is not makes its own gradients so
    # (the product of infinity and a delta of zero is NaN), and a target the loss.
    (net, work, _), n = records.opened(table, params, grads), _count(X)
    target = as_stored(net, work.grads, Team(NUM(0), NUM(1)))
    records.fill(work.sums, 0, 2, 0)
    put(work.integers, STOPPED, 0)
    records.fill(work.grads, 0, grads.size, 0)
    share_of_each, share_of_loss = 1.0 / n, 1.0
    n_out, weighted = net.sizes[net.last], weights.size > 0
    if weighted:
        share_of_each, share_of_loss = weighted_shares(weights.sum(), n)
    for done in range(0, n, net.chunk):
        m = min(net.chunk, n - done)
        data = _data_from(X, done, net.sizes[0])
        targets = targets_from(done, n_out, labels, values, pointer(weights), weighted)
        job = lone_job(net, pointer(params), targets, work)
        if not _learn(data, job, _in_order(work, m, share_of_each, share_of_loss, target)):
            records.fill(work.grads, 0, grads.size, np.nan)  # as the loss is
            put(work.sums, 0, np.nan)
            break
    return _finite_loss(work, n, grads.size)


@inner
def _finite_loss(work, n, size):
    """Return the mean loss, or NaN if it is not finite, or a gradient is not."""
    fine = math.isfinite(work.sums[0]) and records.all_finite(work.grads, size)
    return work.sums[0] / n if fine else np.nan


@kernel
def narrow_gradient(table, params, X, labels, values, grads):
    """Twin of `reference.gradient`, as `gradient` is, for narrow networks."""
    (net, work, _), n = records.opened(table, params, grads), X.shape[0]
    which, total = records.numbers(work), at(work.sums, TOTALS)
    records.fill(work.grads, 0, grads.size, 0)
    put(work.sums, 0, 0)
    step, n_out = narrow.chunk_of(net, work.grads, n), net.sizes[net.last]
    for done in range(0, n, step):
        m = min(step, n - done)
        x, a, scale = at(pointer(X), done * net.sizes[0]), net.a[0], work.scratch[SCALE]
        narrow.transposed(x, which, m, net.sizes[0], scale, at(work.scratch, a), net.chunk)
        targets = targets_from(done, n_out, labels, values, work.scratch, False)
        job = lone_job(net, pointer(params), targets, work)
        width = narrow.forward_and_backward(job, which, m, work.scratch, total)
        put(work.sums, 0, work.sums[0] + total[0])
        narrow.update(net, width, work.grads, 1.0 / n, work.scratch)
    return _finite_loss(work, n, grads.size)


@inner
def _forward_chunk(data, job, m, begun):
    """Forward pass of m samples that lie one after the other, up to the output's z."""
    # If it has `begun`, the first layer's z are there. Return whether all inputs were finite: one
    # that is not makes every z of its sample so.
    plan, work = job.plan, job.work
    if not begun:
        first.forward_from(data, job, _in_order(work, m, 0.0, 0.0, job.params))
    z = at(work.scratch, plan.a[1])
    fine = True
    for r in range(m):
        fine &= math.isfinite(z[r * plan.strides[1]])
    upper.predict_rest(job, m)
    return fine


@kernel
def evaluate(table, params, X, labels, values):
    """Twin of `reference.evaluate`: the sums of losses and hits, in sums[0] and sums[1]."""
    net, work, _ = records.opened(table, params, params)  # no gradient is written
    records.fill(work.sums, 0, 2, 0)
    n_out = net.sizes[net.last]
    for done in range(0, _count(X), net.chunk):
        m = min(net.chunk, _count(X) - done)
        data = _data_from(X, done, net.sizes[0])
        targets = targets_from(done, n_out, labels, values, work.scratch, False)
        job = lone_job(net, pointer(params), targets, work)
        _forward_chunk(data, job, m, False)
        output(net, targets, _in_order(work, m, 0.0, 0.0, job.params), NUM(0), m, work)
        loss, hits = sum_of(net, m, work)
        records.count(work.sums, loss, hits)


@kernel
def feedforward(table, params, X, out):
    """Twin of `reference.feedforward`; return whether all inputs were surely finite."""
    # X, if it is rows, and out are flat, so that a sample and its outputs are taken as they are.
    # The zeros of a row that comes alone are skipped: a digit of MNIST took 784-30-10 0.7 us, and
    # takes 0.4; 784-512-10 took 18 us, and takes 3.
    net, work, room = records.opened(table, params, params)
    n, row = net.sizes[net.last], net.strides[net.last]
    samples = out.size // n
    z = at(work.scratch, net.a[net.last])
    first_rows = _data_from(X, NUM(0), net.sizes[0])
    job = lone_job(net, pointer(params), _nothing(work), work)
    begun, fine = False, True
    if samples == 1:
        begun = _begin(first_rows, job, at(work.scratch, net.a[0]), room)
    for done in range(0, samples, net.chunk):
        m = min(net.chunk, samples - done)
        data = _data_from(X, done, net.sizes[0])
        fine &= _forward_chunk(data, job, m, begun)
        apply_output(net.activations[net.last], m, n, z, row)
        for r in range(m):
            for j in range(n):
                out[(done + r) * n + j] = z[r * row + j]
    return fine
