"""What a batch takes: forward, sample by sample up to the deltas, update.

Threads meet at barriers between the three. Each element of every sum is added up by one thread in
one order, so the bits do not depend on how many there are.
"""

import math

from ..ir.memory import at, number, pointer, prefetch
from ..jit import inner, unit
from . import first, first_sparse, records, upper
from .losses import output_rows
from .records import NUM, TOTALS, Matrix, batch_at
from .stores import gradient_store
from .team import SAMPLES_UNIT, asked_to_stop, barrier, meet, share, stop

# -- targets, and weights of samples ---------------------------------------------------------------


@inner
def shares(targets, which, m):
    """Return the factors of the gradients and of the losses of m samples for a mean."""
    # Losses become a mean times m, as if all weights were one.
    if not targets.weighted:
        return 1.0 / m, 1.0
    total = 0.0
    for r in range(m):
        total += targets.weights[which[r]]
    return weighted_shares(total, m)


@inner
def weighted_shares(total, m):
    """Return `shares` of m samples whose weights sum up to `total`."""
    if total == 0:  # no sample counts: nothing is learnt
        return 0.0, 0.0
    return 1.0 / total, m / total


@inner
def _weigh(plan, weights, now, r0, r1, work):
    """Multiply deltas and losses by the weights of their samples."""
    last = plan.last
    for r in range(r0, r1):
        delta = at(work.scratch, plan.delta[last] + r * plan.strides[last])
        records.scale(delta, 0, plan.sizes[last], weights[now[r]])
        records.scale(work.sums, TOTALS + r, TOTALS + r + 1, weights[now[r]])


@inner
def targets_from(first, n_out, labels, values, weights, weighted):
    """Return the targets of the samples from the first one on; labels count where there are any."""
    labelled = labels.size > 0
    start = 0 if labelled else first * n_out
    return records.TargetArrays(
        at(pointer(labels), first), at(pointer(values), start), labelled,
        at(weights, first), weighted,
    )  # fmt: skip


# -- the output layer ------------------------------------------------------------------------------


@inner
def output(plan, targets, batch, r0, r1, work):
    """Output, loss, hit and delta of samples r0 <= r < r1."""
    last, scratch = plan.last, work.scratch
    row = plan.strides[last]
    for r in range(r0, r1):  # the next ones' targets come from main memory, too
        if targets.labelled:
            prefetch(at(targets.labels, batch.ahead[r]), 1)
        else:
            prefetch(at(targets.values, batch.ahead[r] * plan.sizes[last]), plan.sizes[last])
    output_rows(
        (plan.loss, plan.activations[last]), r1 - r0, plan.sizes[last],
        Matrix(at(scratch, plan.a[last] + r0 * row), row),
        Matrix(at(scratch, plan.delta[last] + r0 * row), row), targets, at(batch.now, r0),
        (at(work.sums, TOTALS + r0), at(work.sums, TOTALS + plan.chunk + r0)),
    )  # fmt: skip
    if targets.weighted:
        _weigh(plan, targets.weights, batch.now, r0, r1, work)


@inner
def sum_of(plan, m, work):
    """Return the losses and hits of a chunk, added up in order."""
    loss, hits = 0.0, 0.0
    for r in range(m):
        loss += work.sums[TOTALS + r]
        hits += work.sums[TOTALS + plan.chunk + r]
    return loss, hits


# -- a chunk ---------------------------------------------------------------------------------------


@inner
def may_go_on(asked, loss, hits, share_of_loss, work, team):
    """Add losses and hits to the totals; return whether to go on."""
    # Each thread has added up all losses, so that all come to one answer.
    if asked or not math.isfinite(loss):
        stop(work.integers)
        return False
    if team.thread == 0:
        records.count(work.sums, loss * share_of_loss, hits)
    return True


@inner
def learn_chunk(job, batch, blocks):
    """Add alpha * (sum of the samples' gradients) to target; False if the loss is not finite."""
    # Where the first layer is frozen, `blocks` is 0, and its gradient is left out.
    first.forward(job, batch)
    if not learn_upper(job, batch):
        return False
    if blocks > 0:
        first.update(job, batch, NUM(0), blocks)
    return True


@unit
def learn_upper(job, batch):
    """What `learn_chunk` does, but for the weights of the first layer, whose z are there."""
    # No barrier at the end: what a thread writes until it comes to the first of the next batch, no
    # other reads before. Where threads share samples and rows, they meet twice; where each does all
    # of what is above the first layer, once, and z alternates between two places.
    plan, work, m = job.plan, job.work, batch.size
    upper.transpose_weights(job)
    asked = meet(work.integers, job.team, asked_to_stop(work.integers))
    r0, r1 = share(m, SAMPLES_UNIT, job.upper.thread, job.upper.size)
    if r0 < r1:
        upper.forward_rest(job, batch, r0, r1)
        output(plan, job.targets, batch, r0, r1, work)
        upper.backward(job, r0, r1)
    if job.upper.size > 1:
        barrier(work.integers, job.upper)
    loss, hits = sum_of(plan, m, work)
    if not may_go_on(asked, loss, hits, batch.share_of_loss, work, job.upper):
        return False
    upper.update_layers(job, m, batch.target, batch.alpha)
    if plan.bias:
        upper.update_biases(job, m, batch.target, batch.alpha)
    return True


@inner
def learn_chunks(job, order, m, alpha, share_of_loss):
    """Add alpha * (sum of the gradients of m samples) to the buffer, chunk by chunk."""
    # Of a batch that is refused nothing stays in the totals.
    work, chunk, grads = job.work, job.plan.chunk, gradient_store(job)
    barrier(work.integers, job.team)
    loss, hits = work.sums[0], work.sums[1]
    for done in range(0, m, chunk):
        size = min(chunk, m - done)
        turn = done // chunk & 1
        batch = batch_at(order, done, size, m, alpha, share_of_loss, grads, turn)
        if not learn_chunk(job, batch, job.plan.blocks):
            records.reset(work, loss, hits, job.upper)
            return False
    barrier(work.integers, job.team)
    return True


# -- a batch of one, zero-skipping; for dense input see `ones` -------------------------------------


@inner
def _learn_one(data, job, batch, slot, fresh):
    """Take one step on one sample; False if its loss is not finite."""
    # Each thread of a team does all that is above the first layer. As a unit that would be compiled
    # once for all kinds of input, in 3 s less, and `online` would take 3 % longer (Zen 4).
    plan, work = job.plan, job.work
    first_sparse.learn_one(data, job, batch, slot, fresh)
    asked = meet(work.integers, job.team, asked_to_stop(work.integers))
    upper.forward_one(job, batch)
    output(plan, job.targets, batch, NUM(0), NUM(1), work)
    loss, hits = work.sums[TOTALS], work.sums[TOTALS + plan.chunk]
    if not may_go_on(asked, loss, hits, 1.0, work, job.upper):
        return False
    upper.backward_and_update_one(job, NUM(0), batch.alpha)
    return True


def learn_sparse_ones(data, job, order, n, span):
    """Take a step on each sample of a span, one after the other, on zero-skipping input."""
    # The update of a sample waits for the forward pass of the next.
    alpha = number(job.memory, -span.learning_rate / span.batch)
    fine, p = True, span.first
    upper.transpose_weights(job)
    while fine and p < span.last:
        batch = batch_at(order, p, span.batch, n, alpha, 1.0, job.params, p & 1)
        fine = _learn_one(data, job, batch, p & 1, p == span.first)
        p += 1
    upper.return_weights(job)
    if fine and span.first < span.last:
        p = span.last - 1
        first_sparse.update_last(data, job, order[p], p & 1, alpha)
        barrier(job.work.integers, job.team)
