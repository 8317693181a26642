"""The input of training: its arrays, and what the first layer does with them, as addresses.

The functions below are compiled for each kind of input, with nothing else in them. Kernels get them
by address, in a table beside the arrays, and so are compiled once for all kinds.
"""

from typing import Any

import numpy as np
from numba import from_dtype, types

from .ir.memory import like
from .jit import addressed, by_type
from .walk import first, narrow, ones
from .walk.records import (
    FETCHED,
    FORWARD,
    INPUTS_SIZE,
    LEARN_ONES,
    PALETTE,
    POSITION,
    START,
    UPDATE,
    VALUE,
    Dense,
    Sparse,
    job_kinds,
)  # fmt: skip


@by_type
def _palette(value, job):
    if value.dtype == types.uint8:
        return lambda value, job: like(job.memory, job.inputs[PALETTE])
    return lambda value, job: None


@by_type
def _data(value, position, job):
    """Return the input: rows where there are no positions, or compressed rows."""
    if position is types.voidptr:
        return lambda value, position, job: Dense(value)

    def compressed(value, position, job):
        t = job.inputs
        start = like(job.inputs, t[START])
        return Sparse(start, position, value, _palette(value, job), t[FETCHED])

    return compressed


@addressed
def forward(value, position, job, some):
    """Do what `first.forward_from` does."""
    first.forward_from(_data(value, position, job), job, some)


@addressed
def update(value, position, job, some, first_block, last_block):
    """Do what `first.update_from` does."""
    first.update_from(_data(value, position, job), job, some, first_block, last_block)


@addressed
def learn_ones(value, position, job, order, n, span):
    """Do what `ones.learn_ones` does, with all that is called for each sample."""
    ones.learn_ones(_data(value, position, job), job, order, n, span)


@addressed
def narrow_load(X, which, m, n, scale, out, row):
    """Do what `narrow.transposed` does."""
    narrow.transposed(X, which, m, n, scale, out, row)


def _pointer(array):
    return types.voidptr if array is None else types.CPointer(from_dtype(array.dtype))


def of_batches(data: Any, dtype: Any, ones: bool) -> np.ndarray:
    """Return the table for training on rows or compressed rows; `ones`: in batches of one."""
    n, table = types.int64, np.zeros(INPUTS_SIZE, np.int64)
    if isinstance(data, Dense):
        value, position = data.X, None
    else:
        value, position = data.value, data.position
        table[POSITION], table[START] = position.ctypes.data, data.start.ctypes.data
        table[PALETTE] = 0 if data.palette is None else data.palette.ctypes.data
        table[FETCHED] = data.fetched
    table[VALUE] = value.ctypes.data
    arrays, (job, some, span) = (_pointer(value), _pointer(position)), job_kinds(from_dtype(dtype))
    if ones:
        table[LEARN_ONES] = learn_ones(*arrays, job, types.CPointer(n), n, span)
    else:
        table[FORWARD] = forward(*arrays, job, some)
        table[UPDATE] = update(*arrays, job, some, n, n)
    return table


def of_narrow(data: Any, dtype: Any) -> np.ndarray:
    """Return the table for training narrow networks on rows."""
    table, n, number = np.zeros(INPUTS_SIZE, np.int64), types.int64, from_dtype(dtype)
    kind, numbers = _pointer(data.X), types.CPointer(number)
    table[VALUE] = data.X.ctypes.data
    table[FORWARD] = narrow_load(kind, types.CPointer(n), n, n, number, numbers, n)
    return table
