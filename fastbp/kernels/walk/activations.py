"""Activations by their codes: formulas that kernels hold, or tables of functions.

Up to SOFTMAX a code is that of a formula. Any other is the address of a table, which holds the
addresses of two functions: they are compiled when a network first uses them, see `..functions`.
"""

from ..ir import activations as formulas
from ..ir.activations import SOFTMAX
from ..ir.losses import softmax_rows
from ..ir.memory import call_address, integers_at, like
from ..jit import inner

ACTIVATE, ACTIVATE_ONE = range(2)  # places in a table
TABLE_SIZE = 2


@inner
def _table(code, ptr):
    """Return the table at an address; any pointer will do to make one of it."""
    return like(integers_at(ptr), code)


@inner
def activate(code, rows, n, z, z_row, out, out_row):
    """out = f(z) for matrices of (rows, n); out may be z."""
    if code <= SOFTMAX:
        formulas.activate(code, rows, n, z, z_row, out, out_row)
    else:
        call_address(_table(code, z)[ACTIVATE], (rows, n, z, z_row, out, out_row))


@inner
def activate_one(code, n, z, a, slope):
    """a = f(z), slope = f'(z), for one sample, in whole vectors: both are zero from n on."""
    if code <= SOFTMAX:
        formulas.activate_one(code, n, z, a, slope)
    else:
        call_address(_table(code, z)[ACTIVATE_ONE], (n, z, a, slope))


@inner
def apply_output(code, rows, n, z, z_row):
    """Replace z, (rows, n), by the output's activation."""
    if code == SOFTMAX:
        softmax_rows(rows, n, z, z_row)
    else:
        activate(code, rows, n, z, z_row, z, z_row)
