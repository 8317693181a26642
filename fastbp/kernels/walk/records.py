"""What kernels are told: records of pointers, and the one table that a network's plan travels in.

An array costs 65 ns to hand to a kernel and a tuple of arrays ten times that, so a plan, which
would be nine arrays, is one; inside, an array is seven words to every call and counts its
references, so inside there are pointers.
"""

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from ..ir.vectors import at, pointer
from ..jit import inner


class Plan(NamedTuple):
    """What a kernel must know of a network and its storage; offsets and widths in elements."""

    last: int  # the output layer
    loss: int
    bias: int
    chunk: int  # samples that the scratch holds
    blocks: int  # of inputs, in the index of a zero-skipping data set
    scratch: int  # elements of it that a thread has to itself, in `narrow`
    sizes: np.ndarray  # neurons per layer, the inputs being layer 0
    strides: np.ndarray  # length of a layer's rows in storage
    widths: np.ndarray  # the part of a row that tiles compute: whole vectors
    w: np.ndarray  # where layer l's weights start in the parameters
    b: np.ndarray  # where its biases start
    a: np.ndarray  # where its activations start in the scratch
    delta: np.ndarray  # where its deltas start
    flipped: np.ndarray  # where its transposed weights start
    activations: np.ndarray  # codes


NUMBERS = 6  # the fields before the first array


def pack(plan):
    """Return a plan as one array: the numbers, then the arrays, each with an entry per layer."""
    return np.concatenate([np.atleast_1d(np.asarray(field, np.int64)) for field in plan])


@inner
def read(table):
    """Return the plan in a table, with pointers in place of arrays."""
    p = pointer(table)
    n = p[0] + 1
    first = at(p, NUMBERS)
    return Plan(
        p[0], p[1], p[2], p[3], p[4], p[5],
        first, at(first, n), at(first, 2 * n), at(first, 3 * n), at(first, 4 * n),
        at(first, 5 * n), at(first, 6 * n), at(first, 7 * n), at(first, 8 * n),
    )  # fmt: skip


class Dense(NamedTuple):
    """Input as rows."""

    X: np.ndarray


class Sparse(NamedTuple):
    """Input as compressed rows of what is not zero, scaled already; see `sparse.index_rows`."""

    start: np.ndarray
    position: np.ndarray
    value: np.ndarray
    palette: np.ndarray | None  # what bytes in `value` stand for
    typical: int  # entries of a sample; what is asked for ahead of time


class Samples(NamedTuple):
    """Numbers of the samples of a batch, and of those of the two batches that follow."""

    now: np.ndarray
    ahead: np.ndarray
    later: np.ndarray


class Targets(NamedTuple):
    """Labels, or rows of values; the other of the two is empty."""

    labels: np.ndarray
    values: np.ndarray
    labelled: bool
    weights: np.ndarray | None = None  # of the samples


class Work(NamedTuple):
    """Memory that kernels write: nothing is allocated inside them."""

    scratch: np.ndarray  # begins with the constants below
    sums: np.ndarray  # loss, hits and penalty so far; each loss, then each hit of a chunk
    marks: np.ndarray  # where threads meet, then the numbers 0, 1, 2, ... up to the chunk; at its
    # end room for the positions of one sample's entries
    grads: np.ndarray


ONE, SCALE = range(2)  # constants in the scratch: 1.0, and what inputs are multiplied by
TOTALS = 3  # entries of `sums` before those of the first sample: the totals of an epoch


class Span(NamedTuple):
    """Which part of the order to train on, and how."""

    first: int
    last: int
    batch: int
    learning_rate: float
    epochs: int  # how often, each time with totals of its own


MOST_EPOCHS = 256  # of a span


class Rule(NamedTuple):
    """An optimiser at work."""

    numbers: np.ndarray  # float64, by the names below
    clock: np.ndarray  # float64: the steps taken
    state: np.ndarray  # what it remembers of each parameter: velocities, or moments
    parts: np.ndarray  # float64, for sums of squares


KIND, FIRST, SECOND, EPSILON, CORRECTED, L2, OVER_SUM, CLIP = range(8)
PLAIN, MOMENTUM, NESTEROV, ADAM = range(4)
KINDS = {"sgd": PLAIN, "momentum": MOMENTUM, "nesterov": NESTEROV, "adam": ADAM}
# Sums of squares are taken in segments, or in pieces of the groups that a step is taken in: for the
# same bits with any number of threads.
SEGMENTS, PIECES = 64, 16


class Team(NamedTuple):
    """Which thread this is, of how many."""

    thread: int
    size: int


def lean(record):
    """Return one of the records of arrays with pointers in place of arrays."""


@overload(lean)
def _lean_of(record):
    return _LEAN[record.instance_class](record)


def _lean_sparse(record):
    if len(record.types) and str(record.types[3]) == "none":
        return lambda record: Sparse(
            pointer(record.start), pointer(record.position), pointer(record.value), None,
            record.typical,
        )  # fmt: skip
    return lambda record: Sparse(
        pointer(record.start), pointer(record.position), pointer(record.value),
        pointer(record.palette), record.typical,
    )  # fmt: skip


def _lean_targets(record):
    if str(record.types[3]) == "none":
        return lambda record: Targets(
            pointer(record.labels), pointer(record.values), record.labelled, None
        )
    return lambda record: Targets(
        pointer(record.labels), pointer(record.values), record.labelled, pointer(record.weights)
    )


_LEAN = {
    Dense: lambda _: lambda record: Dense(pointer(record.X)),
    Sparse: _lean_sparse,
    Targets: _lean_targets,
    Rule: lambda _: (
        lambda record: Rule(
            pointer(record.numbers),
            pointer(record.clock),
            pointer(record.state),
            pointer(record.parts),
        )
    ),
    Work: lambda _: (
        lambda record: Work(
            pointer(record.scratch),
            pointer(record.sums),
            pointer(record.marks),
            pointer(record.grads),
        )
    ),
}


# Stores of functions that are compiled into their callers; see `_jit.inlined`.


@inner
def fill(p, low, high, value):
    """p[i] = value for low <= i < high."""
    for i in range(low, high):
        p[i] = value


@inner
def add_scaled(p, low, high, alpha, other):
    """p[i] += alpha * other[i] for low <= i < high."""
    for i in range(low, high):
        p[i] += alpha * other[i]


@inner
def scale(p, low, high, factor):
    """p[i] *= factor for low <= i < high."""
    for i in range(low, high):
        p[i] *= factor


@inner
def count(sums, loss, hits):
    """Add loss and hits to the totals."""
    sums[0] += loss
    sums[1] += hits


@inner
def reset(work, loss, hits, team):
    """Set the totals to what they were before a batch that was refused."""
    if team.thread == 0:
        work.sums[0] = loss
        work.sums[1] = hits


@inner
def ledger(work, epoch, team):
    """Return the work with `sums` moved to the totals of an epoch, which begin at zero."""
    sums = at(work.sums, TOTALS * epoch)
    if epoch > 0 and team.thread == 0:  # the first goes on from the span before
        fill(sums, 0, TOTALS, 0)
    return Work(work.scratch, sums, work.marks, work.grads)


@inner
def all_finite(p, count):
    """Return whether the first numbers at p are finite."""
    bad = 0
    for i in range(count):
        bad += not p[i] - p[i] == 0  # which costs nothing where they are bytes
    return bad == 0
