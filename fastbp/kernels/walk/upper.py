"""The layers above the first, which are small: each is walked by samples or rows, not by columns.

Threads share out samples in forward and delta, and rows of W in the update.
"""

from ..ir.activations import activate, scale_by_slope
from ..ir.memory import at, vector_lanes
from ..ir.tiles import delta_and_update
from ..ir.transpose import transpose
from ..jit import inner
from ..machine import TRANSPOSE_UNIT, UPDATE_UNIT
from .products import add_product, multiply, multiply_bias
from .records import NUM, ONE, Matrix, Rows, fill, numbers
from .team import share


@inner
def _rows(work, first, row):
    """Return the matrix that starts at scratch[first], its rows as they lie."""
    in_order = numbers(work)
    return Rows(at(work.scratch, first), row, in_order, in_order)


@inner
def forward_rest(plan, params, r0, r1, work):
    """Forward pass from the first layer's z up to the output's z, of samples r0 <= r < r1."""
    scratch, n = work.scratch, r1 - r0
    for l in range(1, plan.last):
        row, above = plan.strides[l], plan.strides[l + 1]
        place = plan.a[l] + r0 * row
        a = at(scratch, place)
        activate(plan.activations[l], n, plan.sizes[l], a, row, a, row)
        multiply_bias(
            n, plan.widths[l + 1], plan.sizes[l], _rows(work, place, row),
            Matrix(at(params, plan.w[l + 1]), above),
            Matrix(at(scratch, plan.a[l + 1] + r0 * above), above), at(params, plan.b[l + 1]),
        )  # fmt: skip


@inner
def transpose_weights(plan, params, scratch, team):
    """Transpose the weights of all layers, each thread its share of rows."""
    for l in range(2, plan.last + 1):
        low, high = share(plan.sizes[l - 1], TRANSPOSE_UNIT, team.thread, team.size)
        if low < high:
            transpose(
                high - low, plan.widths[l], at(params, plan.w[l] + low * plan.strides[l]),
                plan.strides[l], at(scratch, plan.transposed[l] + low), plan.strides[l - 1],
            )  # fmt: skip


@inner
def backward(plan, r0, r1, scratch):
    """Deltas of the hidden layers, of samples r0 <= r < r1."""
    for l in range(plan.last, 1, -1):
        here, below = plan.strides[l], plan.strides[l - 1]
        delta = Matrix(at(scratch, plan.delta[l - 1] + r0 * below), below)
        multiply(
            r1 - r0, plan.widths[l - 1], plan.sizes[l],
            Matrix(at(scratch, plan.delta[l] + r0 * here), here),
            Matrix(at(scratch, plan.transposed[l]), below), delta,
        )  # fmt: skip
        a = at(scratch, plan.a[l - 1] + r0 * below)
        scale_by_slope(
            plan.activations[l - 1], r1 - r0, plan.sizes[l - 1], a, below, delta.start, below
        )


@inner
def update_layers(plan, m, target, alpha, work, team):
    """Add alpha * gradient to this thread's rows of the weights of all layers."""
    for l in range(2, plan.last + 1):
        here, below = plan.strides[l], plan.strides[l - 1]
        low, high = share(plan.sizes[l - 1], UPDATE_UNIT, team.thread, team.size)
        add_product(
            high - low, plan.widths[l], m, _rows(work, plan.a[l - 1] + low, below),
            Matrix(at(work.scratch, plan.delta[l]), here),
            Matrix(at(target, plan.w[l] + low * here), here), alpha,
        )  # fmt: skip


@inner
def update_biases(plan, m, target, alpha, work, team):
    """Add alpha * gradient to this thread's columns of the biases of all layers, the first too."""
    # The gradient is the product of a row of ones, all of them the same, and the deltas.
    for l in range(1, plan.last + 1):
        v, end = share(plan.widths[l], vector_lanes(target), team.thread, team.size)
        add_product(
            NUM(1), end - v, m, _rows(work, NUM(ONE), NUM(0)),
            Matrix(at(work.scratch, plan.delta[l] + v), plan.strides[l]),
            Matrix(at(target, plan.b[l] + v), NUM(0)), alpha,
        )  # fmt: skip


@inner
def backward_and_update_one(plan, params, alpha, scratch):
    """Learn one sample: each layer is read once, for its delta and its update."""
    for l in range(plan.last, 1, -1):
        n = plan.sizes[l - 1]
        delta, a = at(scratch, plan.delta[l - 1]), at(scratch, plan.a[l - 1])
        delta_and_update(
            n, plan.widths[l], at(params, plan.w[l]), plan.strides[l],
            at(scratch, plan.delta[l]), a, alpha, delta,
        )  # fmt: skip
        fill(delta, n, plan.widths[l - 1], 0)
        scale_by_slope(plan.activations[l - 1], 1, n, a, 0, delta, 0)
