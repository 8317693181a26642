"""Leaky ReLU, and what else bends a line at zero: vector formulas of the value and the slope.

Each takes z, as the slopes of most do not follow from the value.
"""

from .activations import map_one, map_row
from .vectors import emitted

LEAK = 0.01


def leaky_relu(z):
    """z above zero, else 0.01 z."""
    return z.where(">", 0.0, z, z * LEAK), z.where(">", 0.0, 1.0, LEAK)


def rows_by(formula):
    """Return an intrinsic: out = formula(z) for matrices of (rows, n)."""

    def map_rows(e, rows, n, z, z_row, out, out_row):
        with e.over(rows) as r:
            map_row(e, n, formula, [e.row(z, r, z_row)], e.row(out, r, out_row))

    return emitted()(map_rows)


def one_by(both):
    """Return an intrinsic: a, slope = both(z), for one sample in whole vectors, see `map_one`."""

    def map_both(e, n, z, a, slope):
        map_one(e, n, both, z, a, slope)

    return emitted()(map_both)


FORMULAS = {f.__name__: f for f in (leaky_relu,)}
