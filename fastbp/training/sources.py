"""Training on more samples than memory holds: from a memory map, or from chunks.

Both bring samples to one trainer, part after part, in the order in which `fit` takes them.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .._support import checks
from ..reference import Targets
from .loop import Epochs

# Of a memory map, so much is copied and indexed at once: little beside the 70 MB that Python and
# the kernels take. An epoch in larger windows is hardly sooner done, in those of 2 MB a quarter
# to three quarters later.
WINDOW_BYTES = 2**23
FEW = 512  # samples from all over, by which a trainer chooses its path

Make = Callable[[Any, Targets], Any]  # what makes a trainer of samples and targets


def _rows(array: Any, rows: np.ndarray) -> Any:
    """Return a copy of these rows."""
    # `take` is seven times as fast as an index, but of any other array it makes a copy first.
    plain = not checks.is_sparse(array) and array.flags.c_contiguous and array.flags.aligned
    return array.take(rows, axis=0) if plain and array.dtype.isnative else array[rows]


def _targets(targets: Targets, rows: np.ndarray) -> Targets:
    """Return the targets of these samples."""
    return Targets(*(_rows(part, rows) if part.size else part for part in targets))


def _trainer_of_few(make: Make, X: Any, targets: Targets) -> Any:
    """Return a trainer that holds a few samples from all over: it chose its path as for all."""
    few = np.arange(0, X.shape[0], max(1, X.shape[0] // FEW))[:FEW]
    return make(_rows(X, few), _targets(targets, few))


# -- memory maps -----------------------------------------------------------------------------------


def trainer(
    make: Make, X: Any, targets: Targets, batch_size: int, windows: type["Windows"] | None = None
) -> Any:
    """Return a trainer of X: by windows, or a kind of them, where more than one lies in a file."""
    mapped = [part for part in (X, targets.values) if checks.is_mapped(part)]
    if sum(part.nbytes for part in mapped) > WINDOW_BYTES:
        return (windows or Windows)(make, X, targets, batch_size)
    return make(X, targets)


class Windows:
    """A trainer of samples in a file, whose rows it copies a window at a time.

    It has a trainer's face, and takes the steps, bit by bit, that the trainer of an array would. An
    array is indexed whole, and converted whole if it has another dtype: of a file larger than
    memory that would be too much.
    """

    def __init__(self, make: Make, X: np.ndarray, targets: Targets, batch_size: int) -> None:
        self._X, self._targets = X, targets
        sample = X[:1].nbytes + targets.values[:1].nbytes
        self._size = max(1, WINDOW_BYTES // sample // batch_size) * batch_size
        self._trainer = _trainer_of_few(make, X, targets)
        self.totals = self._trainer.totals[:1]  # one epoch at a time
        self.surely_finite = False  # most of X is still to be seen
        self.memory = self._trainer.memory

    def __enter__(self) -> "Windows":
        self._trainer.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._trainer.__exit__(*exception)

    @property
    def stopped(self) -> bool:
        """Whether a batch was refused because its loss is not finite."""
        return self._trainer.stopped

    @stopped.setter
    def stopped(self, value: bool) -> None:
        self._trainer.stopped = value

    @property
    def engine(self) -> Any:
        """The engine of the trainer beneath."""
        return self._trainer.engine

    def rows(self, which: np.ndarray) -> np.ndarray:
        """Return some samples as kernels take them."""
        self.load(which)
        return self._trainer.rows(slice(None))

    def load(self, which: np.ndarray) -> None:
        """Bring some samples to the trainer beneath; the window before makes room."""
        self._trainer.forget()
        self._trainer.load(_rows(self._X, which), _targets(self._targets, which))

    def end(self) -> None:
        """End a stretch that an interrupt has left under way."""
        self._trainer.end()

    def run(
        self, order: np.ndarray, first: int, last: int, learning_rate: float, epochs: int = 1
    ) -> None:  # fmt: skip
        """Train on the batches that start at first <= position < last of the order."""
        if not len(order):  # loads the kernels
            self._trainer.run(order, 0, 0, learning_rate)
        for start in range(first, last, self._size):
            rows = order[start : min(start + self._size, last)]
            self.load(rows)
            self._trainer.run(np.arange(len(rows)), 0, len(rows), learning_rate)
            if self.stopped:
                return


# -- chunks ----------------------------------------------------------------------------------------


class Chunks(Epochs):
    """Runs epochs over chunks of samples, of which one is in the trainer at a time.

    Parameters
    ----------
    chunks : iterable
        Gone through anew for each epoch.
    check : callable
        Takes the number of a chunk, from 1, and the chunk; returns samples and targets.
    make : callable
        Makes a trainer of samples and targets.
    params : flat array
    batch_size : int
        No batch has samples of two chunks: the last of a chunk is smaller if need be.
    rng : numpy.random.Generator or None
        Draws the order of the samples in each chunk; None takes them as they lie.

    Attributes
    ----------
    classes : bool
        Whether the targets of the first chunk are classes.
    """

    def __init__(
        self, chunks: Iterable[Any], check: Callable[[int, Any], tuple[Any, Targets]], make: Make,
        params: np.ndarray, batch_size: int, rng: np.random.Generator | None,
    ) -> None:  # fmt: skip
        self._chunks, self._check, self._rng = chunks, check, rng
        rest = self._checked(iter(chunks))
        first = next(rest, None)
        if first is None:
            raise ValueError("chunks must hold at least one pair (X, y); found none")
        self._begun: Iterator[Any] | None = itertools.chain([first], rest)
        self.classes = bool(first[1].labels.size)
        super().__init__(_trainer_of_few(make, *first), params, batch_size)

    def _checked(self, chunks: Iterator[Any]) -> Iterator[tuple[Any, Targets]]:
        return (self._check(number, chunk) for number, chunk in enumerate(chunks, start=1))

    def at_once(self, n: int, left: int) -> int:
        """Return how many epochs a slice may hold."""
        return 1

    def run_many(
        self, epoch: int, epochs: int, order: Any, learning_rate: float, progress: Any,
        start: Any = None,
    ) -> np.ndarray:  # fmt: skip
        """Train an epoch on all chunks, in orders of its own; return the sums over them."""
        chunks, self._begun = self._begun or self._checked(iter(self._chunks)), None
        self.trainer.totals[0], self.samples, steps, classes = 0, 0, 0, True
        for X, targets in chunks:
            self.trainer.load(X, targets)
            classes &= bool(targets.labels.size)
            n = X.shape[0]
            self.go_on(epoch, self._order(n), learning_rate, progress, steps=steps)
            self.samples, steps = self.samples + n, steps + -(-n // self.batch_size)
        if not self.samples:
            raise ValueError(
                f"chunks must be there anew for each epoch; found none in epoch {epoch + 1}"
            )
        totals = self.trainer.totals[:1].copy()
        totals[0, 1] = totals[0, 1] if classes else np.nan  # such an epoch has no accuracy
        return totals

    def _order(self, n: int) -> np.ndarray:
        """Return an order of n samples; a batch of all has none."""
        if self._rng is None or self.batch_size >= n:
            return np.arange(n)
        return self._rng.permutation(n)


def chunks(chunks: Any, epochs: int, sample_weight: Any) -> Iterable[Any]:
    """Return the chunks; refuse what is none, can be gone through only once, or has weights.

    Raises
    ------
    TypeError, ValueError
    """
    if sample_weight is not None:
        raise TypeError("sample_weight needs X and y: samples in chunks count alike")
    if hasattr(chunks, "__array__") or checks.is_sparse(chunks):
        raise TypeError("y is missing: only an iterable of chunks (X, y) goes without")
    try:
        iterator = iter(chunks)
    except TypeError:
        raise TypeError(
            "X must be an array, with y, or an iterable of chunks (X, y), such as a list or an "
            f"object whose __iter__ yields them; found {chunks!r}"
        ) from None
    if iterator is chunks and epochs > 1:
        raise ValueError(
            f"an iterator of chunks can be gone through only once; found epochs={epochs}: pass an "
            "object whose __iter__ yields the chunks anew"
        )
    return chunks
