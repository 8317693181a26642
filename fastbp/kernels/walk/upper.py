"""The layers above the first, which are small: each is walked by samples or rows, not by columns.

Threads share out samples in forward and delta, and rows of W in the update; or each does all of it
(see `stores`). The first layer's z come from the columns of all threads, and deltas go there.
"""

from ..ir import activations as formulas
from ..ir.activations import scale_by_slope
from ..ir.memory import add_row, at, call_address, put, vector_lanes
from ..ir.single import delta_and_update, delta_and_update_one, multiply_one
from ..ir.tiles import pack
from ..ir.transpose import transpose
from ..jit import inner, unit
from ..machine import ROWS_UNIT, TURNED
from .activations import activate
from .products import (
    add_packed,
    add_product,
    multiply,
    multiply_bias,
    multiply_slopes,
    packed_at,
)  # fmt: skip
from .records import NUM, ONE, Matrix, Rows, copy, numbers
from .stores import columns, columns_of, own_scratch, owners, panel, whole_width
from .team import share


@inner
def _rows(work, first, row):
    """Return the matrix that starts at scratch[first], its rows as they lie."""
    in_order = numbers(work)
    return Rows(at(work.scratch, first), row, in_order, in_order)


@inner
def _activate(job, l, r0, r1, turn):
    """Activations of layer l; those of the first are gathered from the columns of all threads."""
    plan, scratch = job.plan, job.work.scratch
    row = plan.strides[l]
    a = at(scratch, plan.a[l] + r0 * row)
    for thread in range(job.team.size if l == 1 else 1):
        v, n, z, z_row = NUM(0), plan.sizes[l], a, row
        if l == 1:
            c = columns_of(job, thread, turn)
            v, n, z, z_row = c.first, min(c.width, n - c.first), at(c.z, r0 * c.row), c.row
        formulas.activate(plan.activations[l], r1 - r0, n, z, z_row, at(a, v), row)


@inner
def _gather(job, r0, r1, turn):
    """Copy the first layer's z from the columns of all threads to where activations are."""
    for thread in range(job.team.size):
        c = columns_of(job, thread, turn)
        for r in range(r0, r1):
            place = job.plan.a[1] + r * job.plan.strides[1] + c.first
            copy(at(job.work.scratch, place), at(c.z, r * c.row), c.width)


@inner
def _hand_out(job, r0, r1):
    """Copy the output's deltas, and the zeros behind, to the columns of who learns from them."""
    first, last = owners(job, 1)
    for thread in range(first, last):
        c = columns_of(job, thread, NUM(0))
        width = whole_width(job, c)
        for r in range(r0, r1):
            place = job.plan.delta[1] + r * job.plan.strides[1] + c.first
            copy(at(c.delta, r * c.row), at(job.work.scratch, place), width)


@inner
def forward_rest(job, batch, r0, r1):
    """Forward pass from the first layer's z up to the output's z, of samples r0 <= r < r1."""
    plan = job.plan
    if plan.last == 1 and job.team.size > 1:
        _gather(job, r0, r1, batch.turn)
    for l in range(1, plan.last):
        if plan.kept[l]:
            call_address(plan.keep, (job, batch, l, r0, r1, NUM(0)))
        else:
            _activate(job, l, r0, r1, batch.turn)
        _multiply(job, l, r0, r1)


@unit
def predict_rest(job, m):
    """Do as `forward_rest` does for m samples that are not learnt, on one thread."""
    plan = job.plan
    for l in range(1, plan.last):
        row, a = plan.strides[l], at(job.work.scratch, plan.a[l])
        activate(plan.activations[l], m, plan.sizes[l], a, row, a, row)
        _multiply(job, l, NUM(0), m)


@inner
def _multiply(job, l, r0, r1):
    """z of the layer above l, of samples r0 <= r < r1."""
    plan, params, work = job.plan, job.params.flat, job.work
    row, above = plan.strides[l], plan.strides[l + 1]
    multiply_bias(
        r1 - r0, plan.widths[l + 1], plan.sizes[l], _rows(work, plan.a[l] + r0 * row, row),
        Matrix(at(params, plan.w[l + 1]), above),
        Matrix(at(work.scratch, plan.a[l + 1] + r0 * above), above),
        at(params, plan.b[l + 1]), panel(job),
    )  # fmt: skip


@inner
def activate_one_at(job, batch, l, r):
    """Activations of layer l for sample r; its slopes go where its deltas will be."""
    plan, scratch = job.plan, job.work.scratch
    if plan.kept[l]:
        call_address(plan.keep, (job, batch, l, r, r + 1, NUM(1)))
        return
    row = r * plan.strides[l]
    a, slope = at(scratch, plan.a[l] + row), at(scratch, plan.delta[l] + row)
    formulas.activate_one(plan.activations[l], plan.sizes[l], a, a, slope)


@inner
def _activate_columns_one(job, batch):
    """Do as `activate_one_at` does for a sample whose z lie in the columns of all threads."""
    plan, scratch = job.plan, job.work.scratch
    if plan.kept[1]:
        _gather(job, NUM(0), NUM(1), batch.turn)
        activate_one_at(job, batch, NUM(1), NUM(0))
        return
    a, slope = at(scratch, plan.a[1]), at(scratch, plan.delta[1])
    for thread in range(job.team.size):
        c = columns_of(job, thread, batch.turn)
        v, n = c.first, min(c.width, plan.sizes[1] - c.first)
        formulas.activate_one(plan.activations[1], n, c.z, at(a, v), at(slope, v))


@inner
def forward_one(job, batch):
    """Do as `forward_rest` does for one sample."""
    if job.plan.last > 1:
        _activate_columns_one(job, batch)
    elif job.team.size > 1:
        _gather(job, NUM(0), NUM(1), batch.turn)
    forward_above_one(job, batch, NUM(0))


@inner
def forward_above_one(job, batch, r):
    """Forward pass of sample r from the first layer's activations up to the output's z."""
    # Slopes are made as soon as they can be: nothing waits for them, and where deltas are summed up
    # they are at hand. With whole vectors it gave 10 % of 784-30-10 (Zen 4).
    for l in range(1, job.plan.last):
        if l > 1:
            activate_one_at(job, batch, l, r)
        if _is_turned(job.plan, l + 1):
            _multiply_one(job, l, r)
        else:
            _multiply(job, l, r, r + 1)


@inner
def _is_turned(plan, l):
    """Return whether the weights of layer l lie transposed while single samples are learned."""
    return plan.sizes[l] <= TURNED


@inner
def _multiply_one(job, l, r):
    """Do as `_multiply` does for sample r, on transposed weights."""
    plan, scratch, row = job.plan, job.work.scratch, job.plan.strides[l]
    multiply_one(
        plan.sizes[l + 1], plan.widths[l], at(scratch, plan.transposed[l + 1]), row,
        at(scratch, plan.a[l] + r * row), at(job.params.flat, plan.b[l + 1]),
        at(scratch, plan.a[l + 1] + r * plan.strides[l + 1]),
    )  # fmt: skip


@unit
def return_weights(job):
    """Copy back what single samples have learned on transposed weights."""
    plan, params, scratch = job.plan, job.params.flat, job.work.scratch
    for l in range(2, plan.last + 1):
        if _is_turned(plan, l):
            for k in range(plan.sizes[l]):
                row = at(scratch, plan.transposed[l] + k * plan.strides[l - 1])
                for i in range(plan.sizes[l - 1]):
                    put(params, plan.w[l] + i * plan.strides[l] + k, row[i])


@unit
def transpose_weights(job):
    """Transpose the weights of all layers, each thread the rows that it updates."""
    plan, params, scratch, team = job.plan, job.params.flat, job.work.scratch, job.upper
    for l in range(2, plan.last + 1):
        low, high = share(plan.sizes[l - 1], ROWS_UNIT, team.thread, team.size)
        if low < high:
            transpose(
                high - low, plan.widths[l], at(params, plan.w[l] + low * plan.strides[l]),
                plan.strides[l], at(scratch, plan.transposed[l] + low), plan.strides[l - 1],
            )  # fmt: skip


@inner
def backward(job, r0, r1):
    """Deltas of the hidden layers, of samples r0 <= r < r1."""
    plan, scratch = job.plan, job.work.scratch
    if plan.last == 1 and job.team.size > 1:
        _hand_out(job, r0, r1)
    for l in range(plan.last - 1, 0, -1):
        row, above = plan.strides[l], plan.strides[l + 1]
        first, last = owners(job, l)
        for thread in range(first, last):
            v, width, out, out_row = NUM(0), plan.widths[l], at(scratch, plan.delta[l]), row
            if l == 1:
                c = columns_of(job, thread, NUM(0))
                v, width, out, out_row = c.first, c.width, c.delta, c.row
            delta = Matrix(at(out, r0 * out_row), out_row)
            deltas = Matrix(at(scratch, plan.delta[l + 1] + r0 * above), above)
            w, n_above = Matrix(at(scratch, plan.transposed[l + 1] + v), row), plan.sizes[l + 1]
            if plan.kept[l]:
                multiply_slopes(plan.times, r1 - r0, width, n_above, deltas, w, delta)
                continue
            multiply(r1 - r0, width, n_above, deltas, w, delta, panel(job))
            scale_by_slope(
                plan.activations[l], r1 - r0, min(width, plan.sizes[l] - v),
                at(scratch, plan.a[l] + r0 * row + v), row, delta.start, out_row,
            )  # fmt: skip


@inner
def update_layers(job, m, target, alpha):
    """Add alpha * gradient to this thread's rows of the weights of all layers."""
    plan, work, team = job.plan, job.work, job.upper
    for l in range(2, plan.last + 1):
        here, below = plan.strides[l], plan.strides[l - 1]
        low, high = share(plan.sizes[l - 1], ROWS_UNIT, team.thread, team.size)
        a = _rows(work, plan.a[l - 1] + low, below)
        delta = Matrix(at(work.scratch, plan.delta[l]), here)
        w = Matrix(at(target.flat, plan.w[l] + low * here), here)
        if plan.packed_above:  # in a place of the thread's own: others may be at another layer
            packed = packed_at(plan, own_scratch(job), plan.packed_above)
            pack(NUM(0), m, high - low, a.start, a.row, a.which, packed.start, packed.row)
            add_packed(high - low, plan.widths[l], m, packed, a, delta, w, alpha)
        else:
            add_product(high - low, plan.widths[l], m, a, delta, w, alpha)


@inner
def update_biases(job, m, target, alpha):
    """Add alpha * gradient to this thread's columns of the biases of all layers, the first too."""
    # The gradient is the product of a row of ones, all of them the same, and the deltas.
    plan, work, team = job.plan, job.work, job.upper
    for l in range(1, plan.last + 1):
        v, end = share(plan.widths[l], vector_lanes(work.scratch), team.thread, team.size)
        width, row = end - v, plan.strides[l]
        delta, bias = at(work.scratch, plan.delta[l] + v), at(target.flat, plan.b[l] + v)
        if l == 1:
            c = columns(job, NUM(0))
            width, row, delta, bias = c.width, c.row, c.delta, target.bias
        add_product(
            NUM(1), width, m, _rows(work, NUM(ONE), NUM(0)), Matrix(delta, row),
            Matrix(bias, NUM(0)), alpha,
        )  # fmt: skip


@inner
def backward_and_update_one(job, r, alpha):
    """Learn sample r: each layer is read once, for its delta and its update."""
    plan, params, scratch = job.plan, job.params, job.work.scratch
    for l in range(plan.last, 1, -1):
        row, below = plan.strides[l], plan.strides[l - 1]
        delta, out = at(scratch, plan.delta[l] + r * row), plan.delta[l - 1] + r * below
        a = at(scratch, plan.a[l - 1] + r * below)
        if _is_turned(plan, l):
            delta_and_update_one(
                plan.sizes[l], plan.widths[l - 1], at(scratch, plan.transposed[l]), below, delta, a,
                alpha, at(scratch, out),
            )  # fmt: skip
        else:
            delta_and_update(
                plan.sizes[l - 1], plan.widths[l], at(params.flat, plan.w[l]), row, delta, a, alpha,
                at(scratch, out),
            )  # fmt: skip
        if plan.bias:
            add_row(plan.widths[l], alpha, delta, at(params.flat, plan.b[l]))
    if job.team.size > 1:
        _hand_out(job, r, r + 1)
    if plan.bias:
        c = columns(job, NUM(0))
        add_row(c.width, alpha, at(c.delta, r * c.row), params.bias)
