"""Losses by their codes: written out with their outputs' activations, or tables of functions.

Up to POISSON a code is that of a loss that `ir.losses` knows with the activation it is behind. Any
other is the address of a table: so losses and activations go together in any way, and networks
without them are compiled as if they were not. The table holds in BY_ROWS and BY_LANES the addresses
of what does all that is done by a table, and in ROWS and LANES those of

    rows(setting, rows, n, a, a_row, which, labels, values, labelled, delta, delta_row, losses,
         hits)
    lanes(setting, n, m, row, a, targets, labelled, delta, sums)

which do as `ir.losses.output_rows` and `output_lanes` do, but that a holds f(z) and delta f'(z)
where the table says ACTIVATED, and that a sample without a label is no hit; in SETTING the bits of
a float64; and for outputs whose side of 1/2 counts the addresses of what finds those hits.
"""

import numpy as np
from numba import from_dtype, types

from ..ir import losses as formulas
from ..ir.losses import POISSON
from ..ir.memory import at, call_address, doubles_at, integers_at, like
from ..jit import inner
from .activations import activate_one
from .records import Matrix, TargetArrays

# Places in a table.
BY_ROWS, BY_LANES, ROWS, LANES, SETTING, ACTIVATED, SIDE_ROWS, SIDE_LANES = range(8)


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


def by_rows_kinds(dtype):
    """Return the types of the arguments of `output_rows`."""
    n, numbers = types.int64, types.CPointer(from_dtype(np.dtype(dtype)))
    integers, sums = types.CPointer(n), types.CPointer(types.float64)
    matrix = types.BaseTuple.from_types((numbers, n), Matrix)
    fields = integers, numbers, types.boolean, numbers, types.boolean
    targets = types.BaseTuple.from_types(fields, TargetArrays)
    return types.UniTuple(n, 2), n, n, matrix, matrix, targets, integers, types.UniTuple(sums, 2)


def by_lanes_kinds(dtype):
    """Return the types of the arguments of `output_lanes`."""
    n, numbers = types.int64, types.CPointer(from_dtype(np.dtype(dtype)))
    targets = types.Tuple((numbers, types.boolean))
    sums = types.CPointer(types.float64)
    return types.UniTuple(n, 2), n, n, n, numbers, numbers, targets, sums


@inner
def output_rows(codes, rows, n, z, delta, targets, which, sums):
    """Replace z by a; write delta, loss and hit of each sample, from the targets of which[r]."""
    # codes: of the loss, and of the activation. z, delta: each a `Matrix`, (rows, n). sums: where
    # the losses go, and the hits, (rows,).
    if codes[0] <= POISSON:
        given = which, targets.labels, targets.values, targets.labelled
        formulas.output_rows(
            codes[0], codes[1], rows, n, z.start, z.row, *given, delta.start, delta.row, *sums
        )
    else:
        table = like(integers_at(z.start), codes[0])
        call_address(table[BY_ROWS], (codes, rows, n, z, delta, targets, which, sums))


@inner
def output_lanes(codes, n, m, row, z, delta, targets, sums):
    """Do the same for m samples in the lanes; add losses and hits to sums[0] and sums[1]."""
    # z, delta: (n, row). targets: where they are, likewise, and whether they are of labels.
    if codes[0] <= POISSON:
        formulas.output_lanes(codes[0], codes[1], n, m, row, z, *targets, delta, sums)
    else:
        table = like(integers_at(z), codes[0])
        call_address(table[BY_LANES], (codes, n, m, row, z, delta, targets, sums))


# -- what the table's first two functions do, compiled for networks that have one ------------------


@inner
def rows_by_table(codes, rows, n, z, delta, targets, which, sums):
    """Do as `output_rows` does, by the functions of a table."""
    table, (losses, hits) = like(integers_at(z.start), codes[0]), sums
    if table[ACTIVATED]:
        for r in range(rows):
            place = at(z.start, r * z.row)
            activate_one(codes[1], n, place, place, at(delta.start, r * delta.row))
    given = which, targets.labels, targets.values, targets.labelled
    setting, rest = doubles_at(table)[SETTING], (delta.start, delta.row, losses, hits)
    call_address(table[ROWS], (setting, rows, n, z.start, z.row, *given, *rest))
    if table[SIDE_ROWS] and not targets.labelled:
        call_address(table[SIDE_ROWS], (rows, n, z.start, z.row, which, targets.values, hits))


@inner
def lanes_by_table(codes, n, m, row, z, delta, targets, sums):
    """Do as `output_lanes` does, by the functions of a table."""
    table, (y, labelled) = like(integers_at(z), codes[0]), targets
    if table[ACTIVATED]:
        for j in range(n):
            place = at(z, j * row)
            activate_one(codes[1], m, place, place, at(delta, j * row))
    setting = doubles_at(table)[SETTING]
    call_address(table[LANES], (setting, n, m, row, z, y, labelled, delta, sums))
    if table[SIDE_LANES] and not labelled:
        call_address(table[SIDE_LANES], (n, m, row, z, y, sums))
