"""The matrix products of forward, delta and update: register tiles, each compiled once.

Weights are storage, `(n_in, stride)`: forward and update read and write them along their rows. Only
delta needs the transpose, made once a batch by squares of vectors: 0.2 cycles a weight where scalar
code would take one or more. Samples are multiplied where they lie, found by number: copying them
first cost 200 to 300 ns a sample of 784 inputs.
"""

from ..ir.along import add_samples, dots_bias
from ..ir.memory import at, call_address
from ..ir.tiles import add_by_steps, gemm_axpy, gemm_bias, gemm_packed, gemm_store
from ..jit import inner
from ..machine import PACKED_ROWS
from .records import Matrix, Rows


@inner
def multiply_bias(rows, width, depth, a, b, c, bias, panel):
    """C = A B + bias; A is `Rows`, B `(depth, width)` and C `(rows, width)` each a `Matrix`."""
    # `panel` is what `stores.panel` returns.
    gemm_bias(
        rows, width, depth, a.start, a.row, a.which, a.ahead, b.start, b.row, c.start, c.row, bias,
        panel,
    )  # fmt: skip


@inner
def multiply(rows, width, depth, a, b, c, panel):
    """C = A B; A `(rows, depth)`, B `(depth, width)` and C `(rows, width)` each a `Matrix`."""
    gemm_store(
        rows, width, depth, a.start, a.row, None, None, b.start, b.row, c.start, c.row, 0.0, panel
    )


@inner
def multiply_slopes(times, rows, width, depth, a, b, c):
    """C = (A B) * C, by the address of the product; shapes as those of `multiply`."""
    arguments = rows, width, depth, a.start, a.row, b.start, b.row, c.start, c.row
    call_address(times, arguments)


@inner
def add_product(rows, width, depth, a, b, c, alpha):
    """C += alpha A^T B; A is `Rows` `(depth, rows)`, B `(depth, width)` a `Matrix`, and so is C."""
    gemm_axpy(
        rows, width, depth, a.start, a.row, a.which, None, b.start, b.row, c.start, c.row, alpha,
        None,
    )  # fmt: skip


@inner
def packed_at(plan, scratch, start):
    """Return the place of a batch that is packed from `start` on."""
    # An odd number of groups of a tile's rows apart: 4 KiB would be the same sets of the cache.
    return Matrix(at(scratch, start), plan.chunk | 1)


@inner
def add_product_by_steps(rows, width, depth, a, b, c, alpha):
    """Do as `add_product` does, asking for the rows of A that come next."""
    add_by_steps(
        rows, width, depth, a.start, a.row, a.which, a.ahead, b.start, b.row, c.start, c.row, alpha
    )


@inner
def multiply_turned(rows, outputs, depth, a, w, c, bias):
    """Do as `multiply_bias` does, with W output by output: `(outputs, depth)`."""
    dots_bias(rows, outputs, depth, a.start, a.row, a.which, w.start, w.row, c.start, c.row, bias)


@inner
def add_product_turned(rows, outputs, depth, a, b, w, alpha):
    """Do as `add_product` does, with W output by output, asking for the rows of A that come next.

    A is `Rows` `(depth, rows)`, B `(depth, outputs)`, and W `(outputs, rows)`.
    """
    add_samples(
        outputs, rows, depth, b.start, b.row, a.start, a.row, a.which, a.ahead, w.start, w.row,
        alpha,
    )  # fmt: skip


@inner
def add_packed(rows, width, depth, packed, a, b, c, alpha):
    """Do as `add_product` does, with A also packed, a `Matrix`, as far as its rows fill tiles."""
    whole = rows - rows % PACKED_ROWS
    gemm_packed(
        whole, width, depth, packed.start, packed.row, b.start, b.row, c.start, c.row, alpha
    )
    if whole < rows:
        rest = Rows(at(a.start, whole), a.row, a.which, a.ahead)
        add_product(
            rows - whole, width, depth, rest, b, Matrix(at(c.start, whole * c.row), c.row), alpha
        )
