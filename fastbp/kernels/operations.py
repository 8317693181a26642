"""Twins of the reference, one layer each.

Weights `W` are storage, (n_in, stride), and so is what is multiplied by them, (batch, stride);
padding in it is zero. `rows` holds 0, 1, 2, ..., the numbers of the samples: tiles take samples by
number, and others would be compiled for rows as they lie.
"""

from .ir.activations import ACTIVATION_NAMES, EXP, activate, scale_by_slope, slopes
from .ir.linear_units import FORMULAS, rows_by
from .ir.losses import softmax_rows
from .ir.memory import at, like, number, pointer
from .ir.tiles import gemm_axpy, gemm_bias, gemm_store
from .ir.transpose import transpose
from .jit import inner, kernel
from .walk.losses import output_rows
from .walk.optimizers import (
    AdamFactors,
    StepFactors,
    adam_numbers,
    step_adam,
    step_momentum,
    step_nesterov,
    step_rmsprop,
)
from .walk.records import Matrix, TargetArrays


@inner
def _apply(code, z, out):
    activate(code, 1, z.size, pointer(z), 0, pointer(out), 0)


@inner
def _slope_from_a(code, a, out):
    slopes(code, 1, a.size, pointer(a), 0, pointer(out), 0)


@inner
def _slope_from_z(code, z, out):
    _apply(code, z, out)
    _slope_from_a(code, out, out)


# What follows the activation's name in that of an operation, and how the operation is made.
_OPERATIONS = {
    "": lambda code: lambda z, out: _apply(code, z, out),
    "_prime": lambda code: lambda z, out: _slope_from_z(code, z, out),
    "_prime_from_a": lambda code: lambda a, out: _slope_from_a(code, a, out),
}


def _elementwise(name, operation):
    """Compile the twin of the reference's function; the cache knows it by its name."""
    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = f"Twin of `reference.{name}`."
    kernel(operation)


def _by_code(name):
    activation, prime, given = name.partition("_prime")
    return _OPERATIONS[prime + given](ACTIVATION_NAMES.index(activation))


def _by_formula(name):
    activation, prime, _ = name.partition("_prime")
    place = 1 if prime else 0
    emit = rows_by(lambda z: FORMULAS[activation](z)[place])
    return lambda z, out: emit(1, z.size, pointer(z), 0, pointer(out), 0)


_BY_CODE = ("exp", *(name + end for name in ACTIVATION_NAMES[:EXP] for end in _OPERATIONS))
_BY_FORMULA = tuple(name + end for name in FORMULAS for end in ("", "_prime"))
ELEMENTWISE = _BY_CODE + _BY_FORMULA
for _names, _operation in ((_BY_CODE, _by_code), (_BY_FORMULA, _by_formula)):
    for _name in _names:
        _elementwise(_name, _operation(_name))


@inner
def _to_rows(source, rows):
    rows[:] = 0
    for r in range(source.shape[0]):
        for j in range(source.shape[1]):
            rows[r, j] = source[r, j]


@kernel
def softmax(z, out):
    """Twin of `reference.softmax`; out in storage rows."""
    _to_rows(z, out)
    softmax_rows(z.shape[0], z.shape[1], pointer(out), out.shape[1])


@kernel
def output_delta(loss, activation, z, y, rows, a, delta, losses):
    """Twin of `reference.output_delta`; a and delta in storage rows."""
    # `losses` has room for as many hits.
    _to_rows(z, a)
    delta[:] = 0
    targets = TargetArrays(pointer(rows), pointer(y), False, pointer(y), False)
    output_rows(
        (loss, activation), z.shape[0], z.shape[1], Matrix(pointer(a), a.shape[1]),
        Matrix(pointer(delta), delta.shape[1]), targets, pointer(rows),
        (pointer(losses), at(pointer(losses), z.shape[0])),
    )  # fmt: skip


@kernel
def affine(x, W, b, rows, out):
    """Twin of `reference.affine`; W and out in storage rows."""
    stride, numbers = W.shape[1], pointer(rows)
    gemm_bias(
        x.shape[0], stride, x.shape[1], pointer(x), x.shape[1], numbers, numbers, pointer(W),
        stride, pointer(out), stride, pointer(b), like(pointer(out), 0),
    )  # fmt: skip


@kernel
def backprop_delta(W_next, delta_next, a, activation, out, scratch):
    """Twin of `reference.backprop_delta`; scratch holds the transpose of W_next."""
    n, stride_next = W_next.shape
    stride = out.shape[1]
    W_T = pointer(scratch)
    transpose(n, stride_next, pointer(W_next), stride_next, W_T, stride)
    gemm_store(
        out.shape[0], stride, stride_next, pointer(delta_next), stride_next, None, None,
        W_T, stride, pointer(out), stride, 0.0, like(W_T, 0),
    )  # fmt: skip
    scale_by_slope(activation, out.shape[0], n, pointer(a), a.shape[1], pointer(out), stride)


@inner
def _add_product(a_prev, delta, rows, alpha, W):
    """W += alpha * a_prev^T delta, of (batch, n_in) and (batch, stride)."""
    batch, n_in = a_prev.shape
    stride = W.shape[1]
    gemm_axpy(
        n_in, stride, batch, pointer(a_prev), n_in, pointer(rows), None, pointer(delta), stride,
        pointer(W), stride, alpha, None,
    )  # fmt: skip


@kernel
def weight_gradient(a_prev, delta, rows, dW):
    """Twin of `reference.weight_gradient` (BP4); dW in storage rows."""
    dW[:] = 0
    _add_product(a_prev, delta, rows, 1 / a_prev.shape[0], dW)


@kernel
def bias_gradient(delta, db):
    """Twin of `reference.bias_gradient` (BP3)."""
    db[:] = 0
    for r in range(delta.shape[0]):
        for j in range(db.size):
            db[j] += delta[r, j]
    for j in range(db.size):
        db[j] /= delta.shape[0]


@kernel
def outer_update(W, b, a_prev, delta, rows, learning_rate):
    """Twin of `reference.outer_update`: one sample, in place."""
    n_in, stride = W.shape
    alpha = -learning_rate
    gemm_axpy(
        n_in, stride, 1, pointer(a_prev), n_in, pointer(rows), None, pointer(delta), stride,
        pointer(W), stride, alpha, None,
    )  # fmt: skip
    for j in range(stride):
        b[j] += alpha * delta[j]


@kernel
def batch_update(W, b, a_prev, delta, rows, learning_rate):
    """Twin of `reference.batch_update`: the mean over a batch, in place."""
    batch, stride = delta.shape
    alpha = -learning_rate / batch
    _add_product(a_prev, delta, rows, alpha, W)
    for j in range(stride):
        total = 0.0
        for r in range(batch):
            total += delta[r, j]
        b[j] += alpha * total


@inner
def _plain_step(w, learning_rate):
    none = number(w, 0)
    return StepFactors(number(w, learning_rate), number(w, 1), none, none, none)


@kernel
def momentum_update(p, velocity, g, learning_rate, momentum):
    """Twin of `reference.momentum_update`."""
    w, step = pointer(p), _plain_step(pointer(p), learning_rate)
    step_momentum(w, pointer(velocity), pointer(g), 0, p.size, step, number(w, momentum))


@kernel
def nesterov_update(p, velocity, g, learning_rate, momentum):
    """Twin of `reference.nesterov_update`."""
    w, step = pointer(p), _plain_step(pointer(p), learning_rate)
    step_nesterov(w, pointer(velocity), pointer(g), 0, p.size, step, number(w, momentum))


@kernel
def adam_update(p, first, second, g, learning_rate, beta_1, beta_2, epsilon, t):
    """Twin of `reference.adam_update`."""
    w, moments = pointer(p), (pointer(first), pointer(second))
    adam = adam_numbers(w, learning_rate, beta_1, beta_2, epsilon, True, t)
    step_adam(w, moments, pointer(g), 0, p.size, _plain_step(w, learning_rate), adam)


@kernel
def rmsprop_update(p, second, g, learning_rate, rho, epsilon):
    """Twin of `reference.rmsprop_update`."""
    w, none = pointer(p), number(pointer(p), 0)
    factors = AdamFactors(none, none, number(w, epsilon), 0.0, rho)
    step_rmsprop(w, pointer(second), pointer(g), 0, p.size, _plain_step(w, learning_rate), factors)
