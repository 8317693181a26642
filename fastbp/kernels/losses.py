"""Losses that are called by their addresses: what a network's plan holds of them is a table.

Its numbers: ROWS and LANES, the addresses of

    rows(setting, rows, n, a, a_row, which, labels, values, labelled, delta, delta_row, losses, hits)
    lanes(setting, n, m, row, a, targets, labelled, delta, sums)

which do as `ir.losses.output_rows` and `output_lanes` do, but that a holds f(z) and delta f'(z)
where the table says ACTIVATED, and that a sample without a label is no hit; SETTING, the bits of a
float64; and for outputs whose side of 1/2 counts SIDE_ROWS and SIDE_LANES, which find those hits.
Each is compiled when a network first uses it, and its machine code is kept, as that of kernels.
"""

import struct
from functools import cache

import numpy as np
from numba import from_dtype, types

from ..reference import SETTINGS
from .ir import terms
from .ir.activations import ACTIVATION_CODES
from .ir.losses import LOSS_CODES, WRITTEN_OUT
from .ir.memory import bits_of
from .jit import addressed
from .walk.losses import TABLE_SIZE

_TABLES: dict[tuple[int, ...], np.ndarray] = {}  # which stay where they are


def rows_kinds(dtype):
    """Return the types of the arguments of `rows`, for a dtype."""
    n, numbers = types.int64, types.CPointer(from_dtype(np.dtype(dtype)))
    integers, doubles = types.CPointer(types.int64), types.CPointer(types.float64)
    targets = integers, integers, numbers, types.boolean
    return types.float64, n, n, numbers, n, *targets, numbers, n, doubles, doubles


def lanes_kinds(dtype):
    """Return the types of the arguments of `lanes`."""
    n, numbers = types.int64, types.CPointer(from_dtype(np.dtype(dtype)))
    matrices = numbers, numbers, types.boolean, numbers
    return types.float64, n, n, n, *matrices, types.CPointer(types.float64)


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

    return _named(f"rows_{code}", rows), _named(f"lanes_{code}", lanes)


@cache
def _sides():
    """Return what compiles the same of hits by sides."""

    def rows(rows, n, a, a_row, which, values, hits):
        terms.side_rows(rows, n, a, a_row, which, values, hits)

    def lanes(n, m, row, a, targets, sums):
        terms.side_lanes(n, m, row, a, targets, sums)

    return _named("side_rows", rows), _named("side_lanes", lanes)


def _named(name, function):
    """Return a function that is called by address; the cache knows it by its name."""
    function.__name__ = function.__qualname__ = name
    return addressed(function)


def _entries(loss, activation, dtype):
    """Return the addresses of `rows` and `lanes`."""
    if not isinstance(loss, str):
        from .own import loss_entries

        return loss_entries(loss, dtype)
    smooth = {"softmax": terms.SMOOTH_SOFTMAX, "sigmoid": terms.SMOOTH_SIGMOID}
    code = smooth[activation] if loss == "cross-entropy" else list(terms.TERMS).index(loss)
    rows, lanes = _routines(code)
    return rows(*rows_kinds(dtype)), lanes(*lanes_kinds(dtype))


def _side_entries(dtype):
    n, numbers = types.int64, types.CPointer(from_dtype(np.dtype(dtype)))
    doubles, (rows, lanes) = types.CPointer(types.float64), _sides()
    which = types.CPointer(n)
    return rows(n, n, numbers, n, which, numbers, doubles), lanes(n, n, n, numbers, numbers, doubles)


def loss_code(loss, activation, setting, dtype):
    """Return the code of a loss in a plan: a number, or the address of a table.

    `loss` and `activation` are names or functions of the user's; `setting` None is the default.
    """
    known = LOSS_CODES.get(loss), ACTIVATION_CODES.get(activation)
    usual = SETTINGS.get(loss, ("", 0.0))[1]
    setting = usual if setting is None else setting
    if known in WRITTEN_OUT and setting == usual:
        return known[0]
    sides = _side_entries(dtype) if activation == "sigmoid" else (0, 0)
    (bits,) = struct.unpack("q", struct.pack("d", setting))
    numbers = *_entries(loss, activation, dtype), bits, loss != "cross-entropy", *sides
    return _TABLES.setdefault(numbers, np.array(numbers, np.int64)).ctypes.data
