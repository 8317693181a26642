"""Sources: where samples come from, and how they reach the trainer, a stretch at a time."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np

from .._support import checks
from .._support.checks import ROUNDING
from ..engines.trainer import Trainer
from ..model.scaling import Moments, check, standardised
from ..reference import REACH, TERMS, Targets
from . import class_weights, columns
from .ranks import Ranks, Shard
from .recipe import Data, Learner, Recipe

# Of a memory map, so much is copied and indexed at once: little beside the 70 MB that Python and
# the kernels take. An epoch in larger windows is hardly sooner done, in those of 2 MB a quarter
# to three quarters later.
WINDOW_BYTES = 2**23
WINDOW_COPIES = 1  # of the parameters: a window costs one, and is no smaller
FEW = 512  # samples from all over, by which a trainer chooses its path
NO_CHUNKS = "chunks must hold at least one pair (X, y); got none"
_warned: WeakSet[Any] = WeakSet()  # the networks of whose targets it was said


class Stretch(NamedTuple):
    """Steps of an epoch whose samples are loaded; this rank's part of them.

    All of an array, a window of rows of a memory map, or one chunk of an iterable.
    """

    order: np.ndarray  # int64, in which the loaded samples are learned
    places: int  # samples of a step
    before: int  # steps of the epoch that come before
    steps: int
    samples: int  # of all ranks
    batch: int  # of all ranks, in a step
    last: bool = True  # whether it ends the epoch

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Return where the samples of some steps begin and end in the order."""
        end = len(self.order)
        return min(end, first * self.places), min(end, last * self.places)

    def samples_of(self, first: int, last: int) -> int:
        """Return how many samples all ranks learn in some steps."""
        return min(self.samples, last * self.batch) - min(self.samples, first * self.batch)


class Slice(NamedTuple):
    """The steps first <= step < last of a stretch, which one call takes, in each of the epochs."""

    stretch: Stretch
    first: int
    last: int
    rate: float | np.ndarray  # or those of all steps of the epoch
    epochs: int = 1

    def runs(self, first: int, last: int, unit: int) -> Iterator[tuple[int, int, float]]:
        """Cut some steps where the rate changes; yield where each run begins and ends, its rate."""
        if not isinstance(self.rate, np.ndarray):
            yield first, last, self.rate
            return
        before = self.stretch.before
        rates = self.rate[before + first : before + last]
        changes = first + 1 + np.flatnonzero(np.diff(rates))
        # A trainer takes `unit` steps together, counted from where it begins. So that slices do not
        # show, which begin at multiples of it, those after a change go on from the next multiple.
        ends = np.union1d(changes, -(-changes // unit) * unit)
        for end in [*ends[ends < last].tolist(), last]:
            yield first, end, float(self.rate[before + first])
            first = end

    def rate_at(self, step: int) -> float:
        """Return the rate of a step."""
        each = isinstance(self.rate, np.ndarray)
        return float(self.rate[self.stretch.before + step] if each else self.rate)  # type: ignore[index]


def part(
    data: Data, rows: slice, config: Any, names: tuple[str, str], look: bool = True
) -> tuple[Any, Targets]:  # fmt: skip
    """Return some samples and their targets, checked."""
    X, y, where = data.X, data.y, ""
    if (rows.start, rows.stop) != (0, data.n):
        X, y, where = X[rows], y[rows], f"[{rows.start}:{rows.stop}]"
    X, targets = checks.batch(X, y, config, (names[0] + where, names[1] + where), look)
    if data.weights is not None:
        targets = targets._replace(weights=data.weights[rows])
    return X, targets


def warn_out_of_reach(learner: Learner, values: np.ndarray, name: str, ranks: Ranks) -> None:
    """Warn, once for each network, of targets that its output does not come to."""
    (loss, output), found = learner.config.kind, ""
    if loss not in TERMS or output not in REACH or learner.net in _warned:
        return
    low, high = REACH[output]
    if (place := checks.outside(values, low - ROUNDING, high + ROUNDING)) is not None:
        found = checks.value_at(name, values, place)
    if not (found := max(ranks.gather(found))):
        return
    _warned.add(learner.net)
    if ranks.rank == 0:
        limits = f"at least {low:g}" if high == np.inf else f"from {low:g} to {high:g}"
        checks.warn(
            f"targets out of reach: output {output!r} is {limits}, and y holds {found}. For "
            'regression pass output="identity" to Network, or scale y'
        )


def key_of(learner: Learner) -> Callable[[], int]:
    """Return what draws the keys of dropout; without dropout, nothing is drawn."""
    if not learner.config.rates:
        return lambda: 0
    return lambda: int(learner.rng.integers(2**64, dtype=np.uint64))


def _rows(array: Any, rows: np.ndarray) -> Any:
    # `take` is seven times as fast as an index, but of any other array it makes a copy first.
    plain = not checks.is_sparse(array) and array.flags.c_contiguous and array.flags.aligned
    return array.take(rows, axis=0) if plain and array.dtype.isnative else array[rows]


def _targets(targets: Targets, rows: np.ndarray) -> Targets:
    labels, values, weights = (_rows(a, rows) if a.size else a for a in targets[:3])
    return Targets(labels, values, weights, targets.flags)


def _trainer(
    learner: Learner, ranks: Ranks, recipe: Recipe, places: int, X: Any, targets: Targets,
    few: bool, taken: Callable[[Any], Any] = lambda rows: rows,
) -> Trainer:  # fmt: skip
    """Return a trainer of samples, or of a few from all over: it chooses its path as for all."""
    if few:
        some = np.arange(0, X.shape[0], max(1, X.shape[0] // FEW))[:FEW]
        X, targets = _rows(X, some), _targets(targets, some)
    X = taken(X)
    return learner.engine.trainer(  # type: ignore[no-any-return]
        learner.params, X, targets, places, recipe.threads, rule=recipe.rule,
        memory=recipe.memory, shared=not ranks.alone and recipe.sync_every == 1,
    )  # fmt: skip


class Arrays:
    """The source of samples in arrays and memory maps, of which each rank loads its own."""

    # What is mapped is loaded a window at a time, to the same bits: an array is indexed whole, and
    # converted whole if its dtype differs, too much for a file larger than memory.

    @np.errstate(all="ignore")
    def __init__(self, learner: Learner, ranks: Ranks, recipe: Recipe) -> None:
        assert recipe.data is not None
        self.n, self._alone, self._rows = recipe.data.trained, ranks.alone, recipe.data.rows
        self.shard = Shard(self.n, recipe.batch_size, ranks.rank, ranks.size)
        self.steps = self.shard.steps  # of an epoch
        shuffled = recipe.shuffle and recipe.batch_size < self.n
        self._draw = recipe.order or (learner.rng.permutation if shuffled else None)
        self._key = key_of(learner)
        with ranks.agreed():
            rows = slice(0, recipe.data.n) if ranks.alone else self.shard.rows
            self.X, self.targets = part(
                recipe.data, rows, learner.config, ("X", "y"), look=not ranks.alone
            )
        self.classes = all(ranks.gather(self.targets.classes))
        where = "" if ranks.alone else f"[{rows.start}:{rows.stop}]"  # as `part` names them
        warn_out_of_reach(learner, self.targets.values, "y" + where, ranks)
        self.scaling, dtype = learner.scaling, learner.params.dtype
        if learner.config.scale is not None and self.scaling is None:
            moments = (columns.moments(X, "X" + where, self._rows) for X in [self.X])
            self.scaling = columns.fitted(moments, ranks)
        self._taken = partial(standardised, self.scaling, dtype=dtype, name="X" + where)
        self._window = self._steps_at_once(learner, ranks, recipe)
        whole = self._window >= self.shard.steps
        # Whether all samples stay loaded, and every epoch takes them alike, as they lie.
        self.fixed = self._draw is None and ranks.alone and whole and not learner.config.rates
        with ranks.agreed():
            places, few = self.shard.places, not whole
            samples = self.X, self.targets
            self.trainer = _trainer(learner, ranks, recipe, places, *samples, few, self._taken)
            if ranks.alone:  # others cut at their meetings
                self._window += -self._window % self.trainer.unit
            if self.scaling is not None:
                if not whole:
                    check(self.scaling, self.X, dtype, "X" + where)
            elif ranks.alone and not (whole and self.trainer.surely_finite):
                checks.finite("X", self.X, dtype, learner.config.input_scale)
        columns.warn_unlike(learner, self.X, recipe.data.names, ranks)

    def _steps_at_once(self, learner: Learner, ranks: Ranks, recipe: Recipe) -> int:
        """Return how many steps a window holds, the same on all ranks; all if nothing is mapped."""
        arrays = self.X, self.targets.values
        mapped = sum(array.nbytes for array in arrays if checks.is_mapped(array))
        size = max(WINDOW_BYTES, WINDOW_COPIES * learner.params.nbytes)
        if not any(ranks.gather(mapped > size)):
            return self.shard.steps
        sample = max(ranks.gather(self.X[:1].nbytes + self.targets.values[:1].nbytes))
        places = -(-recipe.batch_size // ranks.size)
        return int(max(1, size // sample // places // recipe.sync_every)) * recipe.sync_every

    def epoch(self, number: int, position: int = 0) -> Iterator[Stretch]:
        """Yield the stretches of an epoch, from a position on, while their samples are loaded."""
        shard = self.shard
        order = np.arange(self.n) if self._draw is None else self._draw(self.n)
        key = self._key()
        if self._rows is not None:
            order = self._rows[order]
        first_row = 0 if self._alone else shard.rows.start
        if not self._alone:
            order = shard.order(order)
        self.trainer.draw_masks(key, first_row)
        whole = Stretch(order, shard.places, 0, shard.steps, self.n, shard.batch)
        for first in range(position // shard.batch, shard.steps, self._window):
            last = min(shard.steps, first + self._window)
            rows = order[slice(*whole.span(first, last))]
            if self._window < shard.steps:
                self.trainer.forget()
                self.trainer.load(self._taken(_rows(self.X, rows)), _targets(self.targets, rows))
                self.trainer.draw_masks(key, first_row + rows)
                rows = np.arange(len(rows))
            samples, ends = whole.samples_of(first, last), last == shard.steps
            yield Stretch(rows, shard.places, first, last - first, samples, shard.batch, ends)


class Chunks:
    """The source of samples in an iterable of chunks (X, y), of which one is loaded at a time."""

    fixed = False
    steps = 0  # not known before an epoch

    def __init__(self, learner: Learner, ranks: Ranks, recipe: Recipe) -> None:
        self._learner, self._ranks, self._chunks = learner, ranks, recipe.chunks
        self._draw = learner.rng.permutation if recipe.shuffle else None
        self._key = key_of(learner)
        self._batch, self.n = recipe.batch_size, 0  # until they are counted
        self._by_class = recipe.class_weight
        self.scaling = learner.scaling
        if learner.config.scale is not None and self.scaling is None:
            self.scaling = columns.fitted(self._moments(), ranks)
        chunks = self._checked()
        first = next(chunks, None)
        if first is None:
            raise ValueError(NO_CHUNKS)
        self._begun: Iterator[Any] | None = itertools.chain([first], chunks)
        self.classes = first[1].classes
        columns.warn_unlike(learner, first[0], None, ranks)
        self.trainer = _trainer(learner, ranks, recipe, self._batch, *first, few=True)

    def _checked(self) -> Iterator[tuple[Any, Targets]]:
        for number, chunk in enumerate(self._chunks, start=1):
            pair = checks.pair(f"chunk {number}", chunk)
            names = f"X of chunk {number}", f"y of chunk {number}"
            X, targets = checks.batch(*pair, config := self._learner.config, names)
            warn_out_of_reach(self._learner, targets.values, names[1], self._ranks)
            if self._by_class is not None:
                weights = class_weights.by_sample(self._by_class, targets, config, names[1])
                targets = targets._replace(weights=weights)
            yield standardised(self.scaling, X, self._learner.params.dtype, names[0]), targets

    def _moments(self) -> Iterator[Moments]:
        number = 0
        for number, chunk in enumerate(self._chunks, start=1):
            name, (X, _) = f"X of chunk {number}", checks.pair(f"chunk {number}", chunk)
            yield columns.moments(checks.samples(X, self._learner.config.sizes[0], name), name)
        if not number:
            raise ValueError(NO_CHUNKS)

    def epoch(self, number: int, position: int = 0) -> Iterator[Stretch]:
        """Yield a stretch for each chunk, in an order of its own."""
        chunks, self._begun = self._begun or self._checked(), None
        samples, steps, classes = 0, 0, True
        for X, targets in chunks:
            n = X.shape[0]
            self.trainer.load(X, targets)
            classes = classes and targets.classes
            order = np.arange(n)
            if self._draw is not None and n > self._batch:  # a batch of all samples has no order
                order = self._draw(n)
            self.trainer.draw_masks(self._key())
            yield Stretch(order, self._batch, steps, -(-n // self._batch), n, self._batch)
            samples, steps = samples + n, steps - (-n // self._batch)
        if not samples:
            found = f"got no chunk in epoch {number + 1}"
            raise ValueError(f"the iterable of chunks must start anew for each epoch; {found}")
        self.n, self.classes = samples, classes


Source = Arrays | Chunks
