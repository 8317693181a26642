"""MPI: ranks that agree, reduce one flat buffer, and know which samples are theirs.

It knows nothing of networks. Nothing is imported from mpi4py but where a program asks for it.
"""

import logging
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from .._support.signals import TERMINATED
from ..errors import RankError

logger = logging.getLogger("fastbp")

_Error = TypeVar("_Error", bound=BaseException)

INSTALL = "pip install 'fastbp[mpi]'"
STARTED = "mpiexec -n 4 fastbp train --distributed ..."


def world() -> Any:
    """Return MPI's communicator of all ranks that were started together.

    Raises
    ------
    ImportError
        If mpi4py, or an MPI library that it can load, is missing.
    """
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(f"training over MPI needs mpi4py: {INSTALL} ({error})") from None
    except RuntimeError as error:  # there is no libmpi that it can load
        raise ImportError(f"mpi4py found no MPI library: {INSTALL} ({error})") from None
    return MPI.COMM_WORLD


# -- ranks -----------------------------------------------------------------------------------------


class Ranks:
    """The ranks of a communicator, each a process; all of them call the same methods in turn.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        It is duplicated, so that messages of others never meet those of here.

    Attributes
    ----------
    rank, size : int

    Raises
    ------
    TypeError
        If it is no communicator.
    ValueError
        If it holds one rank only.
    """

    def __init__(self, comm: Any) -> None:
        if not hasattr(comm, "Allreduce"):
            raise TypeError(f"comm must be mpi4py's, such as MPI.COMM_WORLD; found {comm!r}")
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        if self.size == 1:
            raise ValueError(
                f"there is one rank only: start several, as by `{STARTED}`, or train without MPI. "
                "If you did start several, that mpiexec belongs to another MPI than mpi4py's: "
                f"take the one beside this Python, {sys.prefix}/bin/mpiexec"
            )
        self._comm = comm.Dup()
        if self.rank:
            _hush_agreed_errors()

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which alone prints, saves and draws."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return this rank's share of n things in a row."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def reduce(self, buffer: np.ndarray) -> None:
        """Replace a flat buffer by its sum over the ranks: the same bits on each.

        By one Allreduce. The same ranks add up in the same order each time; 12 runs each of 18
        sizes and dtypes with 2, 3 and 4 delayed ranks gave one result.
        """
        from mpi4py import MPI

        self._comm.Allreduce(MPI.IN_PLACE, buffer)

    def first(self, value: Any) -> Any:
        """Return rank 0's value."""
        return self._comm.bcast(value)

    def overwrite(self, buffer: np.ndarray) -> None:
        """Replace a flat buffer by rank 0's."""
        self._comm.Bcast(buffer)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order."""
        return self._comm.allgather(value)

    def close(self) -> None:
        """Give the duplicate back; all ranks do."""
        self._comm.Free()

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Raise on all ranks what any of them raises within, so that none waits for another.

        If all fail alike, each raises its own error; else each raises one that names the first
        rank that failed. Only rank 0's traceback is shown.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as found:
            error = found
        texts = self.gather(None if error is None else _text(error))
        if not any(texts):
            return
        if error is None or len(set(texts)) > 1:
            failed = next(rank for rank, text in enumerate(texts) if text)
            error = RankError(f"rank {failed} of {self.size}: {texts[failed]}")
        raise _told(error)

    def call_first(self, call: Callable[[], Any]) -> Any:
        """Return what a call returns on rank 0; the others do not call."""
        value: Any = None
        if self.is_first:
            try:
                value = call()
            except Exception as error:
                value = _Raised(_carried(error))
        value = self.first(value)
        if isinstance(value, _Raised):
            raise _told(value.error)
        return value

    @contextmanager
    def ended_together(self, *alike: type[BaseException]) -> Iterator[None]:
        """End all ranks at once if this one raises within; the others might wait for it for ever.

        Errors of the kinds `alike`, and those that were agreed, are raised: all ranks meet them.
        """
        try:
            yield
        except BaseException as error:
            if isinstance(error, alike) or hasattr(error, TOLD):
                _told(error)
                raise
            self.abort(error)

    def interrupt(self, terminated: bool) -> BaseException:
        """Return what all ranks raise after Ctrl-C, or SIGTERM, came to one of them."""
        return _told(SystemExit(TERMINATED) if terminated else KeyboardInterrupt())

    def abort(self, error: BaseException) -> None:
        """Say what happened and end all ranks."""
        interrupted = isinstance(error, KeyboardInterrupt)
        text = "interrupted" if interrupted else "".join(traceback.format_exception(error))
        logger.error("rank %d of %d: %s; all ranks are ended", self.rank, self.size, text.strip())
        self._comm.Abort(130 if interrupted else 1)

    def same(self, facts: dict[str, str]) -> None:
        """Raise unless all ranks have the same facts.

        Raises
        ------
        RankError
            On all ranks; it names what differs.
        """
        found = self.gather(facts)
        for rank, theirs in enumerate(found):
            for name in facts:
                if theirs.get(name) != found[0].get(name):
                    raise _told(
                        RankError(
                            f"the ranks disagree: rank {rank} has {name} {theirs.get(name)}, rank "
                            f"0 has {found[0].get(name)}. Give all of them the same program, "
                            "arguments, data and version"
                        )
                    )


class _Raised:
    """An error on its way to the other ranks."""

    def __init__(self, error: Exception) -> None:
        self.error = error


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


TOLD = "_told_by_rank_0"  # marks errors that all ranks raise


def _told(error: _Error) -> _Error:
    setattr(error, TOLD, True)
    return error


def _hush_agreed_errors() -> None:
    """Let rank 0 alone show the traceback of what all ranks raise."""
    if getattr(sys.excepthook, "of_fastbp", False):
        return
    before = sys.excepthook

    def hook(kind: Any, error: Any, trace: Any) -> None:
        if not hasattr(error, TOLD):
            before(kind, error, trace)

    hook.of_fastbp = True  # type: ignore[attr-defined]
    sys.excepthook = hook


# -- shards ----------------------------------------------------------------------------------------


class Shard:
    """Which samples are a rank's, of each batch and of all.

    The samples, as they lie, are cut into as many stretches as a batch has places, of equal length
    or one more; a batch takes one sample of each. Rank r has the places from r * batch // ranks on,
    and reads their stretches alone. So a batch is the same for any number of ranks, each rank's
    part of it is as large as the others' or smaller by one, and a step's place in the epoch says
    who learns what.

    Parameters
    ----------
    n, batch : int
        Samples in all, and of a batch of all ranks.
    rank, size : int

    Attributes
    ----------
    rows : slice
        The rank's samples, in one piece.
    places : int
        How many of a batch are the rank's; the last batch may hold fewer.

    Examples
    --------
    >>> shard = Shard(n=11, batch=4, rank=1, size=2)
    >>> shard.rows, shard.places, shard.steps
    (slice(5, 11, None), 2, 3)
    >>> Shard(11, 4, 0, 1).order(np.arange(11))
    array([ 0,  2,  5,  8,  1,  3,  6,  9,  4,  7, 10])
    """

    def __init__(self, n: int, batch: int, rank: int, size: int) -> None:
        self.n, self.batch = n, batch
        places = np.arange(rank * batch // size, (rank + 1) * batch // size + 1)
        self._starts = places * n // batch
        self.places = len(places) - 1
        self.rows = slice(int(self._starts[0]), int(self._starts[-1]))
        self.steps = -(-n // batch)

    def order(self, permutation: np.ndarray) -> np.ndarray:
        """Return the order in which the rank learns its samples, counted from its first.

        Parameters
        ----------
        permutation : (n,) array
            Of range(n), the same on all ranks; each stretch keeps its samples in this order.
        """
        starts = self._starts
        mine = permutation[(permutation >= starts[0]) & (permutation < starts[-1])]
        # Sixteen bits are sorted by counting.
        kind = np.min_scalar_type(self.places)
        stretch = (np.searchsorted(starts, mine, side="right") - 1).astype(kind)
        mine = mine[np.argsort(stretch, kind="stable")]
        lengths = np.diff(starts)
        stretch = np.repeat(np.arange(self.places), lengths)
        depth = np.arange(len(mine)) - np.repeat(starts[:-1] - starts[0], lengths)
        whole = self.n // self.batch
        # In the last batch there are the longer stretches only.
        place = np.where(depth < whole, stretch, (np.cumsum(lengths > whole) - 1)[stretch])
        order = np.empty(len(mine), np.int64)
        order[depth * self.places + place] = mine - starts[0]
        return order

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Return where the rank's samples of some steps begin and end in its order."""
        end = self.rows.stop - self.rows.start
        return min(end, first * self.places), min(end, last * self.places)

    def samples(self, first: int, last: int) -> int:
        """Return how many samples all ranks learn in some steps."""
        return min(self.n, last * self.batch) - min(self.n, first * self.batch)

    def stretches(self) -> list[tuple[int, int]]:
        """Return where the rank's stretches begin and end, counted from its first sample."""
        starts = (self._starts - self._starts[0]).tolist()
        return list(pairwise(starts))
