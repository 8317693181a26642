"""The three stages on dense input: forward, delta, update; each one matrix product on tiles.

Matrices of weights are storage, `(n_in, stride)`: one row of outputs per input, so that forward and
update read and write them along their rows. Only delta needs the transpose, which is made once a
batch, by squares of vectors: 0.2 cycles a weight where scalar code would take one or more.

Samples are multiplied where they lie: `table` numbers the rows of A. Copying them first cost 200 to
300 ns a sample of 784 inputs.
"""

from ..ir.activations import scale_by_slope
from ..ir.tiles import gemm_axpy, gemm_bias, gemm_store, update_and_forward
from ..ir.transpose import transpose
from ..ir.vectors import pointer
from ..jit import inner, kernel


# Each product is a function of its own: the generated tiles are large, and are compiled once.
@inner
def multiply_bias(rows, width, depth, a, a_row, table, ahead, b, b_row, c, c_row, bias):
    """C = A B + bias."""
    gemm_bias(rows, width, depth, a, a_row, table, ahead, b, b_row, c, c_row, bias)


@inner
def multiply(rows, width, depth, a, a_row, b, b_row, c, c_row):
    """C = A B."""
    gemm_store(rows, width, depth, a, a_row, None, None, b, b_row, c, c_row, 0.0)


@inner
def add_product(rows, width, depth, a, a_row, table, b, b_row, c, c_row, alpha):
    """C += alpha A^T B."""
    gemm_axpy(rows, width, depth, a, a_row, table, None, b, b_row, c, c_row, alpha)


@inner
def add_rows(width, depth, d, d_row, table, alpha, one, target):
    """Target += alpha * (sum of the rows of d); `one` points to 1.0."""
    none = width - width  # no literal: the tiles would be compiled anew
    add_product(none + 1, width, depth, one, none, table, d, d_row, target, none, alpha)


@inner
def advance(width, depth, now, alpha, delta, following, w, w_row, out, bias):
    """The update of one sample, and the forward pass of the next, in one pass over W."""
    update_and_forward(width, depth, now, alpha, delta, following, w, w_row, out, bias)


@kernel
def affine(x, W, b, out):
    """Twin of `reference.affine`; W and out in storage rows."""
    stride = W.shape[1]
    multiply_bias(
        x.shape[0], stride, x.shape[1], pointer(x), x.shape[1], None, None, pointer(W), stride,
        pointer(out), stride, pointer(b),
    )  # fmt: skip


@kernel
def backprop_delta(W_next, delta_next, a, activation, out, scratch):
    """Twin of `reference.backprop_delta`; scratch holds the transpose of W_next."""
    n, stride_next = W_next.shape
    stride = out.shape[1]
    flipped = pointer(scratch)
    transpose(n, stride_next, pointer(W_next), stride_next, flipped, stride)
    multiply(
        out.shape[0], stride, stride_next, pointer(delta_next), stride_next, flipped, stride,
        pointer(out), stride,
    )  # fmt: skip
    scale_by_slope(activation, out.shape[0], n, pointer(a), a.shape[1], pointer(out), stride)


@kernel
def weight_gradient(a_prev, delta, dW):
    """Twin of `reference.weight_gradient` (BP4); dW in storage rows."""
    batch, n_in = a_prev.shape
    stride = dW.shape[1]
    dW[:] = 0
    add_product(
        n_in, stride, batch, pointer(a_prev), n_in, None, pointer(delta), stride,
        pointer(dW), stride, 1 / batch,
    )  # fmt: skip


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
def outer_update(W, b, a_prev, delta, learning_rate):
    """Twin of `reference.outer_update`: one sample, in place."""
    n_in, stride = W.shape
    alpha = -learning_rate
    add_product(
        n_in, stride, 1, pointer(a_prev), n_in, None, pointer(delta), stride, pointer(W), stride,
        alpha,
    )  # fmt: skip
    for j in range(stride):
        b[j] += alpha * delta[j]


@kernel
def batch_update(W, b, a_prev, delta, learning_rate):
    """Twin of `reference.batch_update`: the mean over a batch, in place."""
    batch, n_in = a_prev.shape
    stride = W.shape[1]
    alpha = -learning_rate / batch
    add_product(
        n_in, stride, batch, pointer(a_prev), n_in, None, pointer(delta), stride,
        pointer(W), stride, alpha,
    )  # fmt: skip
    for j in range(stride):
        total = 0.0
        for r in range(batch):
            total += delta[r, j]
        b[j] += alpha * total
