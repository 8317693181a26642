"""Layers that keep their slopes from the forward pass on: they do not follow from activations.

So it is where an activation comes by address, and with dropout, whose masks multiply both. Slopes
go where deltas will be, so that no path takes more memory. Kernels call this by its address, and
networks without such layers do not compile it.
"""

from ..ir.memory import at
from ..jit import inner
from .activations import activate_one
from .dropout import drop_lanes, drop_rows
from .records import NUM, Matrix
from .stores import columns_of, owners


@inner
def activate_rows(job, batch, l, r0, r1, alone):
    """Activations and slopes of layer l, for samples r0 <= r < r1, neurons side by side."""
    # Weighted inputs of the first layer lie with the owners of its columns, and there go slopes, to
    # those who learn from them; unless `alone`, where both are with those of other layers.
    plan, scratch = job.plan, job.work.scratch
    by_columns = l == 1 and not alone
    first, last = owners(job, l)
    for thread in range(job.team.size if by_columns else 1):
        row = plan.strides[l]
        v, n, z = NUM(0), plan.sizes[l], Matrix(at(scratch, plan.a[l]), row)
        if by_columns:
            c = columns_of(job, thread, batch.turn)
            v, n, z = c.first, min(c.width, n - c.first), Matrix(c.z, c.row)
        a = Matrix(at(scratch, plan.a[l] + v), row)
        # Slopes of columns that others learn from go where nobody looks for them.
        slope = Matrix(at(scratch, plan.delta[l] + v), row)
        if by_columns and first <= thread and thread < last:
            c = columns_of(job, thread, NUM(0))
            slope = Matrix(c.delta, c.row)
        for r in range(r0, r1):
            activate_one(
                plan.activations[l], n, at(z.start, r * z.row), at(a.start, r * row),
                at(slope.start, r * slope.row),
            )  # fmt: skip
        drop_rows(job, batch, l, r0, r1, (v, n), a, slope)


@inner
def activate_lanes(job, which, m, l, s, width, scratch):
    """Do the same neuron by neuron, for `width` of m samples from s on, in the lanes."""
    plan = job.plan
    for i in range(plan.sizes[l]):
        place = i * plan.chunk + s
        a, slope = at(scratch, plan.a[l] + place), at(scratch, plan.delta[l] + place)
        activate_one(plan.activations[l], width, a, a, slope)
    a, slope = at(scratch, plan.a[l] + s), at(scratch, plan.delta[l] + s)
    drop_lanes(job, l, min(width, m - s), at(which, s), a, slope)
