"""What kernels are told: records of pointers, and the one table that a network's plan travels in.

An array costs 65 ns to hand to a kernel and a tuple of arrays ten times that, so a plan, which
would be nine arrays, is one. The first records below come from Python. Inside, with pointers for
arrays, most functions take a `Job`, the same during a call, and a `Batch`, which is not.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import types

from ..ir.memory import at, doubles_at, integers_at, like, pointer, put
from ..ir.tables import Table, as_table
from ..jit import inner
from ..machine import ROUND
from .team import SYNC_SIZE

# A number that is no literal: for each literal argument a function would be compiled anew.
NUM = np.int64

# -- from Python -----------------------------------------------------------------------------------


class Plan(NamedTuple):
    """What a kernel must know of a network and its storage; offsets and widths in elements."""

    last: int  # the output layer
    loss: int
    bias: int
    chunk: int  # samples that the scratch holds
    blocks: int  # of inputs, in the index of a zero-skipping data set
    lists: int  # pairs that each list of an input's samples has room for; 0: there are none
    # Where a batch packed for the update's tiles starts in the scratch, or 0: its inputs, and what
    # comes out of one hidden layer after the other.
    packed: int
    packed_above: int
    panel: int  # where products may copy columns of a matrix side by side; 0: nowhere
    thread_scratch: int  # elements of the scratch that each thread of a team has to itself
    thread_sums: int  # and of the sums; `whole` only
    whole: int  # whether each thread does all that is above the first layer, on a copy of its own
    # Of a team: where each thread's columns of the first layer lie in what it has to itself, in
    # rows of `row` elements.
    row: int
    z: int  # weighted inputs, and those of the next batch `turn` elements behind
    turn: int
    columns_delta: int
    local: int  # where its copy of the parameters starts; 0 where they stay as stored
    local_size: int  # elements of that copy
    # The first layer's weights lie output by output in it, in rows of so many elements; 0: as
    # stored.
    turned: int
    # Addresses of functions, 0 where no layer needs them: the product that multiplies slopes, and
    # what drops activations.
    keep: int
    times: int
    drop: int
    sizes: Sequence[int]  # neurons per layer, the inputs being layer 0
    strides: Sequence[int]  # length of a layer's rows in storage
    widths: Sequence[int]  # the part of a row that tiles compute: whole vectors
    w: Sequence[int]  # where layer l's weights start in the parameters
    b: Sequence[int]  # where its biases start
    a: Sequence[int]  # where its activations start in the scratch
    delta: Sequence[int]  # where its deltas start
    transposed: Sequence[int]  # where its transposed weights start; `narrow`: the last's targets
    activations: Sequence[int]  # codes, see `walk.activations`
    # Whether a layer keeps its slopes from the forward pass on, where its deltas will be: where
    # they do not follow from the activations.
    kept: Sequence[int]
    threshold: Sequence[int]  # of a layer's random bits, below which an activation is dropped


NUMBERS = 22  # the fields before the first array


def pack(plan: Plan) -> np.ndarray:
    """Return a plan as one array: the numbers, then the arrays, each with an entry per layer."""
    return np.concatenate([np.atleast_1d(np.asarray(field, np.int64)) for field in plan])


_as_plan = as_table(Plan, NUMBERS)


@inner
def unpack(table):
    """Return the plan in a table: its fields by name, with pointers in place of arrays."""
    return _as_plan(pointer(table))


@inner
def opened(table, params, grads):
    """Return the plan and the memory of a table of addresses; the address of the table is given."""
    p = pointer(params)
    numbers = integers_at(p)
    found = like(numbers, table)
    scratch, sums = like(p, found[SCRATCH]), like(doubles_at(p), found[SUMS])
    work = Work(scratch, sums, like(numbers, found[INTEGERS]), pointer(grads))
    return _as_plan(like(numbers, found[PLAN])), work, like(numbers, found[ROOM])


# A kernel of training takes its input as a table of addresses: of the arrays below, and of the
# functions that are compiled for them. So it is compiled once for all kinds of input.
FORWARD, UPDATE, LEARN_ONES, VALUE, POSITION, START, PALETTE, FETCHED = range(8)
INPUTS_SIZE = 8


class Dense(NamedTuple):
    """Input as rows."""

    X: np.ndarray  # (samples, n_in)


class Sparse(NamedTuple):
    """Input as compressed rows of what is not zero, scaled already; see `epochs.index_rows`."""

    start: np.ndarray  # (samples * blocks + 1,)
    position: np.ndarray  # (entries,)
    value: np.ndarray  # (entries,)
    palette: np.ndarray | None  # (256,), what bytes in `value` stand for
    fetched: int  # entries of a sample that are asked for ahead of time


class TargetArrays(NamedTuple):
    """Labels, or rows of values; the other of the two is empty."""

    labels: np.ndarray  # (samples,)
    values: np.ndarray  # (samples, n_out)
    labelled: bool
    weights: np.ndarray  # (samples,); empty unless `weighted`
    weighted: bool


class Work(NamedTuple):
    """Memory that kernels write: nothing is allocated inside them."""

    scratch: np.ndarray  # begins with the constants below
    sums: np.ndarray  # totals; then the loss of each sample of a chunk, then the hit of each
    # Where a plan is `whole`, each thread has its own.
    # The counters of `team`, SYNC_SIZE of them; then the numbers 0, 1, 2, ... up to the chunk; at
    # the end room for the positions of one sample's entries.
    integers: np.ndarray
    grads: np.ndarray  # as the parameters


# Walks over samples that lie in order are called for a few microseconds, and take the addresses of
# all that their calls share as one table: of the plan, of the first three above, and of the room.
PLAN, SCRATCH, SUMS, INTEGERS, ROOM = range(5)


def sums_size(chunk: int) -> int:
    """Return how many sums a thread needs."""
    return TOTALS * MOST_EPOCHS + 2 * max(chunk, ROUND)


ONE, SCALE = range(2)  # constants in the scratch: 1.0, and what inputs are multiplied by
TOTALS = 3  # loss, hits and penalty of an epoch
MOST_EPOCHS = 256  # of a span, each with totals of its own


class Span(NamedTuple):
    """Which part of the order to train on, and how."""

    first: int
    last: int
    batch: int
    learning_rate: float
    epochs: int  # how often


class Team(NamedTuple):
    """Which thread this is, of how many."""

    thread: int
    size: int


# -- inside ----------------------------------------------------------------------------------------


class Store(NamedTuple):
    """Parameters, or a gradient, and in them this thread's columns of the first layer."""

    # The columns lie in rows as stored, or, while a team trains, in a panel far from those of
    # others: CPUs fetch neighbouring lines on their own, and take them from the thread that writes
    # them. On Emerald Rapids two threads were up to 1.9 times slower than one for that.
    flat: np.ndarray  # what is above the first layer, where the plan says
    W: np.ndarray  # (n_in, row)
    bias: np.ndarray  # (row,)
    row: int


class Job(NamedTuple):
    """What stays the same during a call."""

    plan: Plan
    params: Store
    inputs: np.ndarray  # see FORWARD
    targets: TargetArrays
    work: Work  # the thread's own, where it does all that is above the first layer
    team: Team  # whose threads own columns of the first layer
    upper: Team  # who shares what is above it: the team, or this thread alone
    memory: np.ndarray  # the scratch of the team


class Batch(NamedTuple):
    """What changes from batch to batch, or from chunk to chunk of a large one."""

    now: np.ndarray  # (size,), the numbers of its samples
    ahead: np.ndarray  # those of the next batch, which are fetched already
    later: np.ndarray  # and of the one after that
    size: int
    alpha: float
    share_of_loss: float  # losses are multiplied by it
    # Where `alpha * gradient` is added: the parameters themselves for a fused step (alpha =
    # -learning_rate / batch; no gradient buffer, no second pass), or a gradient buffer.
    target: Store
    turn: int  # 0 or 1, in turns: which of two places z has


class Matrix(NamedTuple):
    """Where a matrix begins, and from row to row."""

    start: np.ndarray
    row: int


class Rows(NamedTuple):
    """A matrix whose rows are found by number, and those of the rows to fetch meanwhile."""

    start: np.ndarray
    row: int
    which: np.ndarray
    ahead: np.ndarray


class Columns(NamedTuple):
    """A thread's columns of the first layer, whole vectors, in rows `row` elements apart."""

    first: int
    width: int
    row: int
    z: np.ndarray  # (chunk, width)
    delta: np.ndarray  # (chunk, width)


def kind(record, *names):
    """Return, of the type of a record, that of its field; of several names, that of a field's."""
    for name in names:
        record = record.types[record.fields.index(name)]
    return record


def is_dense(data):
    """Return, of the type of input, whether it is rows."""
    return data.instance_class is Dense


def job_kinds(dtype):
    """Return the types of a job, a batch and a span, as kernels of a dtype have them."""

    def record(name, *fields):
        return types.BaseTuple.from_types(fields, name)

    number, numbers, integers = types.int64, types.CPointer(dtype), types.CPointer(types.int64)
    store = record(Store, numbers, numbers, numbers, number)
    targets = record(TargetArrays, integers, numbers, types.boolean, numbers, types.boolean)
    work = record(Work, numbers, types.CPointer(types.float64), integers, numbers)
    team = record(Team, number, number)
    job = record(Job, Table(Plan, NUMBERS), store, integers, targets, work, team, team, numbers)
    factors = types.float64, types.float64
    batch = record(Batch, *[integers] * 3, number, *factors, store, number)
    return job, batch, record(Span, number, number, number, dtype, number)


@inner
def batch_at(order, p, size, n, alpha, share_of_loss, target, turn):
    """Return the batch at p, with those that follow as far as there are enough samples."""
    now = at(order, p)
    ahead = at(now, size) if p + 2 * size <= n else now
    later = at(now, 2 * size) if p + 3 * size <= n else ahead
    return Batch(now, ahead, later, size, alpha, share_of_loss, target, turn)


@inner
def with_target(batch, target):
    """Return the batch with another place for its gradient."""
    b = batch
    return Batch(b.now, b.ahead, b.later, b.size, b.alpha, b.share_of_loss, target, b.turn)


@inner
def numbers(work):
    """Return the numbers 0, 1, 2, ...: rows as they lie."""
    return at(work.integers, SYNC_SIZE)


@inner
def size_of(plan):
    """Return how many parameters there are, padding included."""
    return plan.b[plan.last] + plan.strides[plan.last]


@inner
def fill(p, low, high, value):
    """p[i] = value for low <= i < high."""
    for i in range(low, high):
        put(p, i, value)


@inner
def copy(p, q, count):
    """p[i] = q[i] for i < count."""
    for i in range(count):
        put(p, i, q[i])


@inner
def add_scaled(p, low, high, alpha, other):
    """p[i] += alpha * other[i] for low <= i < high."""
    for i in range(low, high):
        put(p, i, p[i] + alpha * other[i])


@inner
def scale(p, low, high, factor):
    """p[i] *= factor for low <= i < high."""
    for i in range(low, high):
        put(p, i, p[i] * factor)


@inner
def count(sums, loss, hits):
    """Add loss and hits to the totals."""
    put(sums, 0, sums[0] + loss)
    put(sums, 1, sums[1] + hits)


@inner
def reset(work, loss, hits, team):
    """Set the totals to what they were before a batch that was refused."""
    if team.thread == 0:
        put(work.sums, 0, loss)
        put(work.sums, 1, hits)


@inner
def in_epoch(job, epoch):
    """Return the job with its sums at the totals of this epoch, which begin at zero."""
    work = job.work
    sums = at(work.sums, TOTALS * epoch)
    if epoch > 0 and job.upper.thread == 0:  # the first goes on from the span before
        fill(sums, 0, TOTALS, 0)
    here = Work(work.scratch, sums, work.integers, work.grads)
    return Job(job.plan, job.params, job.inputs, job.targets, here, job.team, job.upper, job.memory)


@inner
def all_finite(p, count):
    """Return whether the first numbers at p are finite."""
    bad = 0
    for i in range(count):
        bad += not p[i] - p[i] == 0  # which costs nothing where they are bytes
    return bad == 0
