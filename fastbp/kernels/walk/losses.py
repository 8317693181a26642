"""Losses by their codes: written out with their outputs' activations, or tables of functions.

Up to POISSON a code is that of a loss that `ir.losses` knows with the activation it is behind. Any
other is the address of a table: so losses and activations go together in any way, and networks
without them are compiled as if they were not. The table holds in ROWS and LANES the addresses of

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

ROWS, LANES, SETTING, ACTIVATED, SIDE_ROWS, SIDE_LANES = range(6)  # places in a table


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


@inner
def output_rows(codes, rows, n, z, delta, targets, which, sums):
    """Replace z by a; write delta, loss and hit of each sample, from the targets of which[r]."""
    # codes: of the loss, and of the activation. z, delta: each a `Matrix`, (rows, n). sums: where
    # the losses go, and the hits, (rows,).
    (loss, code), (losses, hits) = codes, sums
    given = which, targets.labels, targets.values, targets.labelled
    if loss <= POISSON:
        formulas.output_rows(
            loss, code, rows, n, z.start, z.row, *given, delta.start, delta.row, losses, hits
        )
        return
    table = like(integers_at(z.start), loss)
    if table[ACTIVATED]:
        for r in range(rows):
            place = at(z.start, r * z.row)
            activate_one(code, n, place, place, at(delta.start, r * delta.row))
    setting, rest = doubles_at(table)[SETTING], (delta.start, delta.row, losses, hits)
    call_address(table[ROWS], (setting, rows, n, z.start, z.row, *given, *rest))
    if table[SIDE_ROWS] and not targets.labelled:
        call_address(table[SIDE_ROWS], (rows, n, z.start, z.row, which, targets.values, hits))


@inner
def output_lanes(codes, n, m, row, z, delta, targets, sums):
    """Do the same for m samples in the lanes; add losses and hits to sums[0] and sums[1]."""
    # z, delta: (n, row). targets: where they are, likewise, and whether they are of labels.
    (loss, code), (y, labelled) = codes, targets
    if loss <= POISSON:
        formulas.output_lanes(loss, code, n, m, row, z, y, labelled, delta, sums)
        return
    table = like(integers_at(z), loss)
    if table[ACTIVATED]:
        for j in range(n):
            place = at(z, j * row)
            activate_one(code, m, place, place, at(delta, j * row))
    setting = doubles_at(table)[SETTING]
    call_address(table[LANES], (setting, n, m, row, z, y, labelled, delta, sums))
    if table[SIDE_LANES] and not labelled:
        call_address(table[SIDE_LANES], (n, m, row, z, y, sums))
