"""The state of a training, the events that callbacks are told, and facts to compare trainings."""

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._support import checks
from ..history import History
from ..reference.records import Memory

SAMPLED = 64  # rows of a mapped file that are looked at before a training by several ranks


class EpochStart(NamedTuple):
    """What an epoch begins with, besides what a step changes."""

    done: int  # epochs before it
    rng: Any  # state of the generator that draws its order
    states: list[dict[str, np.ndarray]]  # of the schedule and the callbacks that have one
    stopped: str  # why there is no such epoch, if a callback said so


class Snapshot(NamedTuple):
    """Where a training stands between two steps: all that the rest of it follows from."""

    start: EpochStart | None  # None where no snapshot is kept
    position: int  # samples of the epoch's order that have been learned, of all ranks
    seconds: float  # that the epoch took so far
    arrays: list[np.ndarray]  # parameters, totals of the epoch, the optimiser's slots and clock


class State:
    """The arrays that a step changes."""

    def __init__(self, params: np.ndarray, totals: np.ndarray, memory: Memory) -> None:
        self.arrays = [params, totals, *memory]
        self._checked = [params, *(slots for slots in memory[:1] if slots.size)]

    def copy(self) -> list[np.ndarray]:
        """Return a copy of the arrays."""
        return [array.copy() for array in self.arrays]

    def restore(self, arrays: Iterable[np.ndarray]) -> None:
        """Write a copy back."""
        for array, before in zip(self.arrays, arrays, strict=True):
            array[...] = before

    def is_finite(self) -> bool:
        """Return whether parameters and memory are; Adam's overflow would only end the learning."""
        return all(bool(np.isfinite(array).all()) for array in self._checked)


class EpochCallback(Protocol):
    """What users may hand to `fit` as a callback; `fastbp.callbacks` says what else it may have."""

    def on_epoch_end(self, net: Any, history: History) -> object:
        """Look at the network and at what was recorded so far."""


# What `fit` tells callbacks, with the network and the history, and `on_divergence` with an error.
# The training's own get more: on_epoch_begin, on_slice_end, on_interrupt and on_exit.
PUBLIC_EVENTS = ("on_fit_begin", "on_epoch_end", "on_divergence", "on_fit_end")


def tell(callbacks: Iterable[Any], event: str, *args: Any) -> None:
    """Call the method of this name of each callback that has it."""
    for callback in callbacks:
        if hasattr(callback, event):
            getattr(callback, event)(*args)


def remembering(things: Iterable[Any]) -> list[Any]:
    """Return those of schedules and callbacks that remember what they saw."""
    return [thing for thing in things if hasattr(thing, "set_state") and thing.state()]


def numbered(states: Iterable[dict[str, np.ndarray]], prefix: str = "") -> dict[str, np.ndarray]:
    """Return all states in one, each name behind the number of its own; `below` takes it apart."""
    return {
        f"{prefix}{number}.{name}": array
        for number, state in enumerate(states)
        for name, array in state.items()
    }


def below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with a prefix, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def digest(*arrays: Any) -> str:
    """Return a hash of arrays and sparse matrices: their kinds, shapes and values."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape} {array.dtype}".encode())
        parts: Iterable[np.ndarray]
        if checks.is_sparse(array):
            parts = array.data, array.indices.astype(np.int64), array.indptr.astype(np.int64)
        else:  # a copy of so many rows costs no memory to speak of
            rows = checks.ROWS_AT_ONCE
            parts = (array[first : first + rows] for first in range(0, len(array), rows))
        for part in parts:
            found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()


def short_digest(*arrays: Any) -> str:
    """Return a digest for an error message, of a few rows of what is mapped."""

    def few(array: Any) -> Any:  # no rank reads a whole file before the training
        return array[np.linspace(0, len(array) - 1, min(SAMPLED, len(array))).astype(int)]

    return digest(*(few(array) if checks.is_mapped(array) else array for array in arrays))[:12]
