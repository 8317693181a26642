"""Dropout while a network is walked: a layer's activations and slopes, times its masks."""

from ..ir.memory import at, call_address
from ..jit import inner
from .team import DRAW


@inner
def drop_rows(job, batch, l, r0, r1, neurons, a, slope):
    """Multiply neurons of layer l, from one on so many, by the masks of samples r0 <= r < r1."""
    # a, slope: each a `Matrix`, (samples, n). What multiplies is compiled for networks with dropout
    # alone, and called by its address.
    plan, (v, n) = job.plan, neurons
    if plan.threshold[l] > 0:
        some = at(a.start, r0 * a.row), a.row, at(slope.start, r0 * slope.row), slope.row
        by, which = at(job.work.integers, DRAW), at(batch.now, r0)
        call_address(plan.drop, (by, l, plan.threshold[l], r1 - r0, n, v, which, *some))


@inner
def drop_lanes(job, l, m, which, a, slope):
    """Do as `drop_rows` does for m samples by number, each in a lane of a row for each neuron."""
    # a, slope: (n, plan.chunk).
    plan = job.plan
    if plan.threshold[l] > 0:
        by, n = at(job.work.integers, DRAW), plan.sizes[l]
        call_address(plan.drop, (by, l, plan.threshold[l], n, m, which, a, slope, plan.chunk))
