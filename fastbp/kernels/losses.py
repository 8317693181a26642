"""Losses that are called by their addresses: what a network's plan holds of them is a table.

What such a table holds, see `walk.losses`. Each is compiled when a network first uses it, and its
machine code is kept, as that of kernels.
"""

import struct
from functools import cache
from typing import Any

import numpy as np
from numba import from_dtype, types

from .ir import terms
from .ir.activations import ACTIVATION_CODES
from .ir.losses import LOSS_CODES, WRITTEN_OUT
from .ir.memory import bits_of
from .jit import addressed
from .own import loss_entries
from .walk import losses as walk
from .walk.losses import lanes_kinds, rows_kinds

_TABLES: dict[tuple[int, ...], np.ndarray] = {}  # which stay where they are


@cache
def _routines(code):
    """Return what compiles `rows` and `lanes` of a loss of this code."""

    def rows(
        setting, rows, n, a, a_row, which, labels, values, labelled, delta, delta_row, losses, hits
    ):
        terms.term_rows(
            code, bits_of(setting), rows, n, a, a_row, which, labels, values, labelled, delta,
            delta_row, losses, hits,
        )  # fmt: skip

    def lanes(setting, n, m, row, a, targets, labelled, delta, sums):
        terms.term_lanes(code, bits_of(setting), n, m, row, a, targets, labelled, delta, sums)

    return addressed(rows, f"rows_{code}"), addressed(lanes, f"lanes_{code}")


@cache
def _sides():
    """Return what compiles the same of hits by sides."""

    def rows(rows, n, a, a_row, which, values, hits):
        terms.side_rows(rows, n, a, a_row, which, values, hits)

    def lanes(n, m, row, a, targets, sums):
        terms.side_lanes(n, m, row, a, targets, sums)

    return addressed(rows, "side_rows"), addressed(lanes, "side_lanes")


@addressed
def by_rows(codes, rows, n, z, delta, targets, which, sums):
    """Do what `walk.losses.rows_by_table` does."""
    walk.rows_by_table(codes, rows, n, z, delta, targets, which, sums)


@addressed
def by_lanes(codes, n, m, row, z, delta, targets, sums):
    """Do what `walk.losses.lanes_by_table` does."""
    walk.lanes_by_table(codes, n, m, row, z, delta, targets, sums)


def _entries(loss, activation, dtype):
    """Return the addresses of `rows` and `lanes`."""
    if not isinstance(loss, str):
        return loss_entries(loss, dtype)
    smooth = {"softmax": terms.SMOOTH_SOFTMAX, "sigmoid": terms.SMOOTH_SIGMOID}
    code = smooth[activation] if loss == "cross-entropy" else list(terms.TERMS).index(loss)
    rows, lanes = _routines(code)
    return rows(*rows_kinds(dtype)), lanes(*lanes_kinds(dtype))


def _side_entries(dtype):
    """Return the addresses of what finds hits by sides."""
    n, p = types.int64, types.CPointer(from_dtype(np.dtype(dtype)))
    which, doubles, (rows, lanes) = types.CPointer(n), types.CPointer(types.float64), _sides()
    return rows(n, n, p, n, which, p, doubles), lanes(n, n, n, p, p, doubles)


def loss_code(loss: Any, activation: Any, setting: float, dtype: Any) -> int:
    """Return the code of a loss in a plan: a number, or the address of a table.

    `loss` and `activation` are names or functions of the user's.
    """
    known = LOSS_CODES.get(loss), ACTIVATION_CODES.get(activation)
    if known in WRITTEN_OUT and setting == 0:
        return known[0]
    sides = _side_entries(dtype) if activation == "sigmoid" else (0, 0)
    (bits,) = struct.unpack("q", struct.pack("d", setting))
    all_of_it = by_rows(*walk.by_rows_kinds(dtype)), by_lanes(*walk.by_lanes_kinds(dtype))
    numbers = *all_of_it, *_entries(loss, activation, dtype), bits, loss != "cross-entropy", *sides
    return _TABLES.setdefault(numbers, np.array(numbers, np.int64)).ctypes.data
