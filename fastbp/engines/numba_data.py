"""Arrays as kernels take them: read-only rows, compressed rows, targets, and memory to work in."""

from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from .._support.checks import is_sparse
from ..kernels import machine
from ..kernels.walk import records
from ..kernels.walk.team import SYNC_SIZE
from ..model.layout import LINE, aligned
from ..reference import Targets

Array = np.ndarray


def read_only(array: Array) -> Array:
    """Return a read-only view: kernels then see one type for all inputs, memory maps included."""
    view = array.view(np.ndarray)
    view.setflags(write=False)
    return view


def contiguous(array: Array) -> Array:
    """Return a read-only view, or copy, in C order."""
    return read_only(np.ascontiguousarray(array))


def _writable(array: Array, dtype: np.dtype) -> Array:
    """Return the array if it is as kernels take targets, else a copy that is."""
    if array.dtype == dtype and array.flags.carray:
        return array
    with np.errstate(all="ignore"):
        return np.array(array, dtype, order="C")


def kernel_targets(targets: Targets, dtype: np.dtype) -> records.TargetArrays:
    """Return targets as kernels take them."""
    labels, values = _writable(targets.labels, np.dtype(np.int64)), _writable(targets.values, dtype)
    weights = _writable(targets.weights, dtype)
    return records.TargetArrays(labels, values, bool(labels.size), weights, bool(weights.size))


def dense_rows(X: Array, dtype: np.dtype) -> Array:
    """Return X as kernels take it: contiguous, uint8 or the network's dtype."""
    if X.dtype is not dtype and X.dtype not in (dtype, np.uint8):
        with np.errstate(all="ignore"):  # callers look at X if the kernels saw infinity
            X = X.astype(dtype)
    flags = X.flags
    if type(X) is np.ndarray and flags.carray:
        return X  # at once: a call on one sample takes 2 us in all
    if not (flags.c_contiguous and flags.aligned):
        X = np.array(X, order="C")
    return X.view(np.ndarray)


def density(X: Any) -> float:
    """Return the share of inputs that are not zero, of a sample of rows."""
    if is_sparse(X):
        return float(X.nnz / (X.shape[0] * X.shape[1]))
    sample = X[:: max(1, len(X) // machine.DENSITY_SAMPLE)][: machine.DENSITY_SAMPLE]
    # Bools are counted fast, and numbers one by one: of MNIST that took 0.8 ms, and takes 0.3.
    return float(np.count_nonzero(sample != 0) / sample.size)


def _grown(array: Array, size: int) -> Array:
    longer = np.empty(size, array.dtype)
    longer[: array.size] = array
    return longer


@np.errstate(all="ignore")  # of bytes times the scale
def sparse_rows(X: Any, blocks: int, scale: float, dtype: np.dtype) -> tuple[records.Sparse, bool]:
    """Return X as compressed rows, cut into blocks of inputs, and whether all of it is finite."""
    n, n_in = X.shape
    coded = X.dtype == np.uint8  # bytes stay bytes: a third of the memory to fetch
    factor = dtype.type(scale)
    palette = np.arange(256, dtype=dtype) * factor if coded else None
    start = np.zeros(n * blocks + 1, np.int64)
    position_kind = np.uint16 if n_in <= np.iinfo(np.uint16).max else np.uint32
    position, value = np.empty(0, position_kind), np.empty(0, X.dtype if coded else dtype)
    factor = X.dtype.type(1) if coded else factor
    index = _index_entries if is_sparse(X) else _index_rows
    position, value, fine = index(X, factor, blocks, start, position, value)
    return records.Sparse(start, position, value, palette, _fetched(np.diff(start[::blocks]))), fine


def _fetched(counts: Array) -> int:
    """Return how many entries of a sample are asked for ahead of time: all that most have."""
    # A tenth more than the mean, which a third of MNIST's samples exceed, cost `nielsen` 8 % and
    # `online` 3 % on Zen 4: what is missing comes from main memory.
    return int(counts.mean() + 2 * counts.std())


def _index_rows(
    X: Array, factor: Any, blocks: int, start: Array, position: Array, value: Array
) -> tuple[Array, Array, bool]:
    """Index dense rows, in arrays that grow."""
    n, n_in = X.shape
    padding = blocks * machine.ENTRY_GROUP
    worst = n_in + padding  # entries of one sample
    room = int(1.05 * n * (density(X) * n_in + padding)) + worst
    done = np.zeros(2, np.int64)
    while done[0] < n:
        if start[done[0] * blocks] + worst > position.size:
            # Pages that are never written cost no memory.
            position, value = _grown(position, room), _grown(value, room)
            room = room * 5 // 4 + worst
        kernels.index_rows(X, factor, blocks, done, start, position, value)
    return position, value, not done[1]


def _index_entries(
    X: Any, factor: Any, blocks: int, start: Array, position: Array, value: Array
) -> tuple[Array, Array, bool]:
    """Index a sparse matrix by its entries, `ROWS_AT_ONCE` rows at a time."""
    n, fine = X.shape[0], True
    padding = (machine.ENTRY_GROUP - 1) * min(n * blocks, X.nnz)
    position, value = _grown(position, X.nnz + padding), _grown(value, X.nnz + padding)
    for first in range(0, n, machine.ROWS_AT_ONCE):
        places = contiguous(X.indptr[first : first + machine.ROWS_AT_ONCE + 1].astype(np.int64))
        some = slice(places[0], places[-1])
        column, entry = contiguous(X.indices[some].astype(np.int64)), contiguous(X.data[some])
        here = start[first * blocks : (first + len(places) - 1) * blocks + 1]
        fine &= kernels.index_entries(
            contiguous(places - places[0]), column, entry, factor, X.shape[1], here, position, value
        )
    return position, value, fine


@np.errstate(all="ignore")
def in_order(X: Any, dtype: np.dtype) -> Any:
    """Return a sparse matrix as kernels take it: entries in order, no place twice."""
    if not X.has_canonical_format:
        X = X.astype(np.float64)  # a copy, in which sums of bytes are no bytes
        X.sum_duplicates()
    return X if X.dtype in (dtype, np.uint8) else X.astype(dtype)


def inputs(X: Any, scale: float, dtype: np.dtype) -> Any:
    """Return X as kernels of inference take it: rows, or compressed rows."""
    if not is_sparse(X):
        return dense_rows(X, dtype)
    found, _ = sparse_rows(in_order(X, dtype), 1, scale, dtype)
    ahead = np.full(machine.TILE_ROWS, found.start[-1])  # starts of rows that are fetched, not read
    return found._replace(start=np.concatenate([found.start, ahead]))


def part_of(X: Any, part: slice) -> Any:
    """Return some of the samples that `inputs` returned."""
    if not isinstance(X, records.Sparse):
        return X[part]
    return X._replace(start=X.start[part.start : part.stop + machine.TILE_ROWS + 1])


class Piece(NamedTuple):
    """Memory for a call, and the address by which kernels find it."""

    table: int  # the address of `addresses`, which `records.opened` reads
    work: records.Work
    addresses: Array


class Workspace:
    """A packed plan, and memory to work in, one piece for each call that is under way."""

    # No reference to the engine, which holds its workspaces: all are freed when the network is.
    def __init__(self, plan: records.Plan, size: int, scale: float, dtype: np.dtype) -> None:
        self.plan, self.size, self.chunk = records.pack(plan), size, max(plan.chunk, 2)
        self.thread_sums = plan.thread_sums
        self.n_in, self.scale, self.dtype = plan.sizes[0], scale, dtype
        self._idle: list[Piece] = []

    def make(self, grads: Array | None = None, team: int = 1) -> records.Work:
        """Return memory for a team."""
        scratch = aligned(self.size * team, self.dtype, machine.PAGE if team > 1 else LINE)
        for thread in range(team):
            scratch[thread * self.size + records.ONE] = 1
            scratch[thread * self.size + records.SCALE] = self.scale
        rows, nonzeros = self.chunk + machine.TILE_ROWS, self.n_in + machine.ENTRY_GROUP
        integers = aligned(SYNC_SIZE + rows + nonzeros, np.int64, machine.APART)
        integers[:] = 0
        integers[SYNC_SIZE : SYNC_SIZE + rows] = np.arange(rows)
        sums = aligned(max(records.sums_size(self.chunk), team * self.thread_sums), np.float64)
        sums[:] = 0
        return records.Work(scratch, sums, integers, scratch if grads is None else grads)

    def _piece(self) -> Piece:
        work = self.make()
        room = work.integers[-self.n_in - machine.ENTRY_GROUP :]
        arrays = self.plan, *work[:3], room
        addresses = np.array([array.ctypes.data for array in arrays], np.int64)
        return Piece(addresses.ctypes.data, work, addresses)

    def acquire(self) -> Piece:
        """Return memory that no other thread uses; `release` it."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._piece()

    def release(self, piece: Piece) -> None:
        """Keep memory for the next call."""
        self._idle.append(piece)
