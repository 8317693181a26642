"""What networks of other activations need: functions that kernels call by address.

Each is compiled when a network first uses it, and its machine code is kept, as that of kernels. No
kernel is compiled anew for them.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import from_dtype, types

from .ir import dropout
from .ir.activations import ACTIVATION_CODES
from .ir.linear_units import FORMULAS, one_by, rows_by
from .ir.tiles import gemm_times, gemm_times_lanes
from .jit import addressed
from .own import activation_entries
from .walk import kept
from .walk.activations import ACTIVATE, ACTIVATE_ONE, TABLE_SIZE
from .walk.records import job_kinds


def _activate(name, formula):
    emit = rows_by(lambda z: formula(z)[0])

    def activate(rows, n, z, z_row, out, out_row):
        emit(rows, n, z, z_row, out, out_row)

    return addressed(activate, f"activate_{name}")


def _activate_one(name, formula):
    emit = one_by(formula)

    def activate_one(n, z, a, slope):
        emit(n, z, a, slope)

    return addressed(activate_one, f"activate_one_{name}")


def _times(name, emit):
    def times(rows, width, depth, a, a_row, b, b_row, c, c_row):
        emit(rows, width, depth, a, a_row, b, b_row, c, c_row)

    return addressed(times, name)


_ACTIVATIONS = {
    name: (_activate(name, formula), _activate_one(name, formula))
    for name, formula in FORMULAS.items()
}
_TIMES = _times("times", gemm_times), _times("times_lanes", gemm_times_lanes)


@addressed
def keep_rows(job, batch, l, r0, r1, alone):
    """Do what `kept.activate_rows` does."""
    kept.activate_rows(job, batch, l, r0, r1, alone)


@addressed
def keep_lanes(job, which, m, l, s, width, scratch):
    """Do what `kept.activate_lanes` does."""
    kept.activate_lanes(job, which, m, l, s, width, scratch)


@addressed
def drop_rows(by, l, threshold, rows, n, v, which, a, a_row, slope, slope_row):
    """Do what the routine of `ir.dropout` does."""
    dropout.drop_rows(by, l, threshold, rows, n, v, which, a, a_row, slope, slope_row)


@addressed
def drop_lanes(by, l, threshold, n, m, which, a, slope, row):
    """Do what the routine of `ir.dropout` does."""
    dropout.drop_lanes(by, l, threshold, n, m, which, a, slope, row)


def _kinds(dtype: Any) -> tuple[Any, Any]:
    """Return the types of an integer and of a pointer to numbers."""
    return types.int64, types.CPointer(from_dtype(np.dtype(dtype)))


@cache
def _table(activation: Any, dtype: Any) -> np.ndarray:
    """Return the table of an activation's functions, which stays where it is."""
    n, p = _kinds(dtype)
    table = np.zeros(TABLE_SIZE, np.int64)
    if isinstance(activation, str):
        rows, one = _ACTIVATIONS[activation]
        table[ACTIVATE], table[ACTIVATE_ONE] = rows(n, n, p, n, p, n), one(n, p, p, p)
    else:
        table[ACTIVATE], table[ACTIVATE_ONE] = activation_entries(activation, dtype)
    return table


def activation_code(activation: Any, dtype: Any) -> int:
    """Return the code of an activation in a plan, see `walk.activations`."""
    if activation in ACTIVATION_CODES:
        return ACTIVATION_CODES[activation]
    return _table(activation, np.dtype(dtype)).ctypes.data


def keep(dtype: Any, narrow: bool) -> int:
    """Return the address of what activates layers that keep slopes."""
    (n, p), (job, batch, _) = _kinds(dtype), job_kinds(from_dtype(np.dtype(dtype)))
    if narrow:
        return keep_lanes(job, types.CPointer(n), n, n, n, n, p)
    return keep_rows(job, batch, n, n, n, n)


def times(dtype: Any, narrow: bool) -> int:
    """Return the address of the product of plans whose layers keep slopes."""
    n, p = _kinds(dtype)
    return _TIMES[narrow](n, n, n, p, n, p, n, p, n)


def drop(dtype: Any, narrow: bool) -> int:
    """Return the address of what drops activations, in plans with dropout."""
    (n, p), some = _kinds(dtype), types.CPointer(types.int64)
    if narrow:
        return drop_lanes(some, n, n, n, n, some, p, p, n)
    return drop_rows(some, n, n, n, n, n, some, p, n, p, n)
