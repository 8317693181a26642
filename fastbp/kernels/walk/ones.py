"""Batches of one on dense input: some at a time, so that W is read and written once for all.

A sample's weighted inputs follow from the weights before its block, and from what the samples of
the block before it have changed since:

    z[j] = bias + x[j] W + sum over i < j of alpha (x[i] . x[j] + 1) delta[i]

(1 for the bias). So all samples of a block are multiplied by W at once, in one pass over it that
also takes the update still due of the block before. Sample by sample, W came from the second level
and went back there each time: 784-100 took 4.1 us a sample, and takes 3.0; 784-30 1.16, now 0.86
(Zen 4, where FMAs alone take 3.0 and 0.86).

Blocks are counted from the beginning of a span: where an epoch is cut into spans, it is cut between
blocks, so that its bits do not depend on that.
"""

from ..ir.memory import at, number, put
from ..ir.single import products_of_rows
from ..jit import by_type, inner, unit
from ..machine import PASS_SAMPLES
from . import first, upper
from .batch import learn_sparse_ones, may_go_on, output
from .records import NUM, TOTALS, add_scaled, batch_at, copy, is_dense
from .stores import columns_of
from .team import asked_to_stop, barrier, meet, stop


@inner
def _factors(job):
    """Return where the factors of deltas stand, PASS_SAMPLES in a row: inputs have no deltas."""
    return at(job.work.scratch, job.plan.delta[0])


@inner
def _fill_factors(job, x, count, alpha):
    """Write alpha (x[i] . x[j] + 1) for i < j; return before which sample they are all finite."""
    # Where products overflow, deltas of zero would make NaN: the block ends there.
    factors = _factors(job)
    products_of_rows(job.plan.sizes[0], x.start, x.row, x.which, count, factors)
    for j in range(1, count):
        for i in range(j):
            place = i * PASS_SAMPLES + j
            put(factors, place, alpha * (factors[place] + job.plan.bias))
            if not factors[place] - factors[place] == 0:
                return j
    return count


@inner
def _gather(job, j, turn):
    """Write all of the weighted inputs of sample j of a block."""
    plan, scratch, factors = job.plan, job.work.scratch, _factors(job)
    row = plan.strides[1]
    for thread in range(job.team.size):
        c = columns_of(job, thread, turn)
        z = at(scratch, plan.a[1] + j * row + c.first)
        if job.team.size > 1:
            copy(z, at(c.z, j * c.row), c.width)
        for i in range(j):
            delta = at(scratch, plan.delta[1] + i * row + c.first)
            add_scaled(z, 0, c.width, factors[i * PASS_SAMPLES + j], delta)


@inner
def _learn_one(job, batch, j):
    """Learn sample j of a block, but for the weights of the first layer; False if not finite."""
    plan, work = job.plan, job.work
    _gather(job, j, batch.turn)
    if plan.last > 1:
        upper.activate_one_at(job, batch, NUM(1), j)
        upper.forward_above_one(job, batch, j)
    output(plan, job.targets, batch, j, j + 1, work)
    loss, hits = work.sums[TOTALS + j], work.sums[TOTALS + plan.chunk + j]
    if not may_go_on(False, loss, hits, 1.0, work, job.upper):
        return False
    upper.backward_and_update_one(job, j, batch.alpha)
    return True


@unit
def _learn_block(job, batch, size):
    """Learn a block's samples, but for the weights of the first layer; return how many."""
    sync = job.work.integers
    if meet(sync, job.team, asked_to_stop(sync)):
        stop(sync)
        return 0
    for j in range(size):
        if not _learn_one(job, batch, j):
            return j
    return size


def _learn_dense_ones(data, job, order, n, span):
    # Each thread of a team does all that is above the first layer.
    alpha = number(job.memory, -span.learning_rate / span.batch)
    p, due, turn = span.first, NUM(0), NUM(0)
    old = first.block(data, job, at(order, p), at(order, p), NUM(0), turn)
    upper.transpose_weights(job)
    while p < span.last:
        most = min(PASS_SAMPLES - (p - span.first) % PASS_SAMPLES, span.last - p)
        batch = batch_at(order, p, most, n, alpha, 1.0, job.params, turn)
        x = first.block(data, job, batch.now, batch.ahead, most, turn)
        size = _fill_factors(job, x, most, alpha)
        first.learn_and_forward(job, x if due == 0 else old, due, x, size, turn, alpha)
        done = _learn_block(job, batch, size)
        p, due, turn, old = p + done, done, 1 - turn, x
        if done < size:
            break
    upper.return_weights(job)
    if due > 0:  # the z that nobody asked for go where no other thread still reads
        first.learn_and_forward(job, old, due, old, due, turn, alpha)
    barrier(job.work.integers, job.team)


@by_type
def learn_ones(data, job, order, n, span):
    """Take a step on each sample of a span, one after the other."""
    return _learn_dense_ones if is_dense(data) else learn_sparse_ones
