"""Ranks: the processes that train together, each on its part of every batch; or one, alone."""

import logging
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from .._support import checks
from .._support.signals import TERMINATED
from ..errors import DivergenceError, RankError

logger = logging.getLogger("fastbp")

TOLD = "_told_by_rank_0"  # marks errors that all ranks raise
TERMINATION = 2.0**20  # what SIGTERM adds to a message; Ctrl-C adds one


def world() -> Any:
    """Return MPI's communicator of all ranks that were started together."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the latter where there is no MPI library
        needed = "mpi4py and an MPI library: pip install mpi4py mpich"
        raise ImportError(f"training over MPI needs {needed} ({error})") from None
    return MPI.COMM_WORLD


@contextmanager
def joined(comm: Any, interrupts: list[int]) -> Iterator["Ranks"]:
    """Yield the ranks of mpi4py's communicator; without one, a rank that is alone."""
    ranks = Ranks(comm, interrupts)
    try:
        yield ranks
    except BaseException as error:
        if ranks.alone:
            raise
        if isinstance(error, DivergenceError) or hasattr(error, TOLD):  # all ranks meet these
            _raise_told(error)
        ranks.abort(error)
    finally:
        ranks.close()


class Ranks:
    """The ranks of an MPI communicator, each a process; all call the same methods in turn."""

    # Without a communicator this rank is alone, and all that they do together costs nothing.
    # `interrupts` are the signals that came and wait until the ranks meet.

    def __init__(self, comm: Any = None, interrupts: list[int] | None = None) -> None:
        self.rank, self.size, self.alone, self._comm = 0, 1, comm is None, comm
        self._interrupts = [] if interrupts is None else interrupts
        if comm is None:
            return
        if not hasattr(comm, "Allreduce"):
            raise TypeError(f"comm must be mpi4py's, such as MPI.COMM_WORLD; got {comm!r}")
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        if self.size == 1:
            raise ValueError(
                "there is one rank only: start several, as by `mpiexec -n 4 fastbp train "
                "--distributed ...`, or train without MPI. If you did start several, that mpiexec "
                "belongs to another MPI than mpi4py's: take the one beside this Python, "
                f"{sys.prefix}/bin/mpiexec"
            )
        self._comm = comm.Dup()  # so that messages of others never meet those of here
        # Rank 0 alone shows the traceback of what all ranks raise, prints, saves, calls callbacks.
        if self.rank and getattr(sys.excepthook, "func", None) is not _show_unless_told:
            sys.excepthook = partial(_show_unless_told, sys.excepthook)

    def batch_size(self, value: Any, n: int) -> int:
        """Return the size of a batch of all ranks, checked, for n samples."""
        if n < self.size:
            raise ValueError(f"there are more ranks, {self.size}, than samples, {n}: start fewer")
        size = min(n, checks.positive_int("batch_size", value))
        if self.rank == 0:
            checks.batch_size("batch_size", value, n)  # which warns
        if size < self.size:
            least = f"the {self.size} ranks, which share each batch"
            raise ValueError(f"batch_size must be at least {least}; got {value}")
        return size

    def share(self, n: int) -> slice:
        """Return this rank's share of n things in a row."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def reduce(self, buffer: np.ndarray) -> None:
        """Replace a flat buffer by its sum over the ranks: the same bits on each."""
        # By one Allreduce. The same ranks add up in the same order each time; 12 runs each of 18
        # sizes and dtypes with 2, 3 and 4 delayed ranks gave one result.
        if not self.alone:
            from mpi4py import MPI

            self._comm.Allreduce(MPI.IN_PLACE, buffer)

    def meet(self, message: np.ndarray) -> None:
        """Sum up a message; its last number tells of interrupts, which then reach all ranks."""
        terminated = signal.SIGTERM in self._interrupts
        message[-1] = TERMINATION if terminated else bool(self._interrupts)
        self.reduce(message)
        if message[-1]:
            self._interrupts.clear()
            ended = SystemExit(TERMINATED) if message[-1] >= TERMINATION else KeyboardInterrupt()
            _raise_told(ended)

    def first(self, value: Any) -> Any:
        """Return rank 0's value."""
        return value if self.alone else self._comm.bcast(value)

    def overwrite(self, buffer: np.ndarray) -> None:
        """Replace a flat buffer by rank 0's."""
        if not self.alone:
            self._comm.Bcast(buffer)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order."""
        return [value] if self.alone else list(self._comm.allgather(value))

    def close(self) -> None:
        """Free the duplicate; all ranks do."""
        if not self.alone:
            self._comm.Free()

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Raise on all ranks what any of them raises within, so that none waits for another."""
        if self.alone:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Exception as found:
            error = found
        texts = self.gather(None if error is None else _text(error))
        if not any(texts):
            return
        if error is None or len(set(texts)) > 1:  # else each raises its own
            failed = next(rank for rank, text in enumerate(texts) if text)
            error = RankError(f"rank {failed} of {self.size}: {texts[failed]}")
        _raise_told(error)

    def call_first(self, call: Callable[[], Any]) -> Any:
        """Return what a call returns on rank 0; the others do not call."""
        if self.alone:
            return call()
        value, error = None, None
        if self.rank == 0:
            try:
                value = call()
            except Exception as found:
                error = _carried(found)
        value, error = self.first((value, error))
        if error is not None:
            _raise_told(error)
        return value

    def abort(self, error: BaseException) -> None:
        """End all ranks at once after an error on this one; the others might wait for ever."""
        interrupted = isinstance(error, KeyboardInterrupt)
        text = "interrupted" if interrupted else "".join(traceback.format_exception(error))
        logger.error(f"rank {self.rank} of {self.size}: {text.strip()}; all ranks are ended")
        self._comm.Abort(130 if interrupted else 1)

    def same(self, facts: dict[str, str]) -> None:
        """Raise a `RankError` on all ranks unless all have the same facts."""
        found = self.gather(facts)
        for rank, theirs in enumerate(found):
            for name, value in found[0].items():
                if theirs.get(name) != value:
                    differ = f"rank {rank} has {name} {theirs.get(name)}, rank 0 has {value}"
                    remedy = "Give all of them the same program, arguments, data and version"
                    _raise_told(RankError(f"the ranks disagree: {differ}. {remedy}"))


def _carried(error: Exception) -> Exception:
    """Return the error if it can travel, else one that says as much."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RankError(_text(error))
    return error


def _text(error: Exception) -> str:
    kind = type(error).__name__
    return str(error) if isinstance(error, (ValueError, OSError)) else f"{kind}: {error}"


def _raise_told(error: BaseException) -> NoReturn:
    setattr(error, TOLD, True)
    raise error


def _show_unless_told(show: Callable[..., object], kind: Any, error: Any, trace: Any) -> None:
    if not hasattr(error, TOLD):
        show(kind, error, trace)


class Shard:
    """Which samples are a rank's, of each batch and of all.

    >>> Shard(11, 4, 0, 1).order(np.arange(11))
    array([ 0,  2,  5,  8,  1,  3,  6,  9,  4,  7, 10])
    """

    # The samples, as they lie, are cut into as many strips as a batch has places, of equal length
    # or one more; a batch takes one sample of each. Rank r has the places from r * batch // ranks
    # on, and reads their strips alone. So a batch is the same for any number of ranks, each rank's
    # part of it is as large as the others' or smaller by one, and a step's place in the epoch says
    # who learns what.

    def __init__(self, n: int, batch: int, rank: int, size: int) -> None:
        self.n, self.batch = n, batch  # samples in all, and of a batch of all ranks
        places = np.arange(rank * batch // size, (rank + 1) * batch // size + 1)
        self._starts = places * n // batch
        self.places = len(places) - 1  # of a batch; the last may hold fewer
        self.rows = slice(int(self._starts[0]), int(self._starts[-1]))
        self.steps = -(-n // batch)

    def order(self, permutation: np.ndarray) -> np.ndarray:
        """Return the order in which the rank learns its samples, counted from its first."""
        # The permutation of range(n) is the same on all ranks; each strip keeps its samples in it.
        starts, lengths = self._starts, np.diff(self._starts)
        mine = permutation[(permutation >= starts[0]) & (permutation < starts[-1])]
        kind = np.min_scalar_type(self.places)  # sixteen bits are sorted by counting
        strip = (np.searchsorted(starts, mine, side="right") - 1).astype(kind)
        mine = mine[np.argsort(strip, kind="stable")]
        strip = np.repeat(np.arange(self.places), lengths)
        depth = np.arange(len(mine)) - np.repeat(starts[:-1] - starts[0], lengths)
        whole = self.n // self.batch
        # In the last batch there are the longer strips only.
        place = np.where(depth < whole, strip, (np.cumsum(lengths > whole) - 1)[strip])
        order = np.empty(len(mine), np.int64)
        order[depth * self.places + place] = mine - starts[0]
        return order

    def strips(self) -> list[tuple[int, int]]:
        """Return where the rank's strips begin and end, counted from its first sample."""
        return list(pairwise((self._starts - self._starts[0]).tolist()))
