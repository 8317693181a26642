"""The loop: epochs, cut into slices of time, on the stretches that a source brings."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import reference
from .._support.signals import Interrupts, interrupts_wait
from ..errors import DivergenceError
from ..history import History
from ..schedules import Constant, rate_of
from .ranks import Ranks
from .recipe import Learner, Recipe
from .sources import Slice, Source, Stretch
from .state import PUBLIC_EVENTS, EpochStart, Snapshot, State, remembering, tell
from .steps import Steps

# A slice is one compiled call, so short that Ctrl-C (answered within two of them), the progress bar
# and the check for divergence get their turn; slices do not show in the result.
SLICE_SECONDS = 0.05
LOSS = "the loss was"
Rate = float | np.ndarray  # of an epoch, or of each of its steps


class Slices:
    """Trains stretches in slices of time, and goes back where a slice fails."""

    def __init__(self, params: np.ndarray, ranks: Ranks, steps: Steps) -> None:
        self._ranks, self.steps = ranks, steps
        self.state = State(params, steps.totals[0], steps.trainer.memory)
        self.size = 1  # of a slice, in units of steps; grows until it takes its time
        self.start: EpochStart | None = None
        # From before the newest slice; replaced whole, for an interrupt may come at any moment.
        self.snapshot = Snapshot(None, 0, 0.0, [])

    def note(self, position: int = 0, seconds: float = 0.0) -> None:
        """Take a snapshot."""
        self.snapshot = Snapshot(self.start, position, seconds, self.state.copy())

    def run(self, epoch: int, stretch: Stretch, rate: Rate, begun: float) -> Iterator[int]:
        """Train a stretch of an epoch that has `begun` then; yield the samples of each slice."""
        first = 0
        while first < stretch.steps:
            last = min(stretch.steps, first + self.size * self.steps.unit)
            self.note((stretch.before + first) * stretch.batch, time.perf_counter() - begun)
            slice_ = Slice(stretch, first, last, rate)
            if not self._learn(before := self.snapshot.arrays, slice_):
                raise self._divergence(epoch, self._rewind(before, slice_))
            yield stretch.samples_of(first, last)
            first = last

    def run_many(self, epochs: int, stretch: Stretch, rate: Rate) -> bool:
        """Train several epochs in one call; return whether all is finite, else undo them."""
        self.note()
        return self._learn(self.snapshot.arrays, Slice(stretch, 0, stretch.steps, rate, epochs))

    def restore(self, arrays: list[np.ndarray]) -> None:
        """Go back to a state, or on from that of another training."""
        self.state.restore(arrays)
        self.steps.trainer.stopped = False

    @np.errstate(all="ignore")  # callbacks have what their caller has
    def _learn(self, before: list[np.ndarray], slice_: Slice) -> bool:
        """Train a slice; return whether all is finite, and go back if it is not."""
        started = time.perf_counter()
        with self._undone_if_interrupted(before):
            self.steps.run(slice_)
            # The losses of a single epoch are finite, or have stopped the trainer.
            many = slice_.epochs > 1
            totals = self.steps.totals[: slice_.epochs] if many else self.steps.totals[0, 2:]
            finite = bool(np.isfinite(totals).all()) and self.state.is_finite()
            fine = finite and not self.steps.trainer.stopped
            if not fine:
                self.restore(before)
        self._pace(self._ranks.first(time.perf_counter() - started))
        return fine

    @contextmanager
    def _undone_if_interrupted(self, before: list[np.ndarray]) -> Iterator[None]:
        """Go back if something like Ctrl-C comes: it may come amid a step."""
        try:
            yield
        except BaseException:
            with interrupts_wait():
                self.steps.trainer.end()
                self.restore(before)
            raise

    def _pace(self, seconds: float) -> None:
        """Make the next slice longer or shorter, after one that took so long."""
        if seconds < SLICE_SECONDS / 2:
            self.size *= 8 if seconds < SLICE_SECONDS / 16 else 2
        elif seconds > SLICE_SECONDS:
            self.size = max(1, self.size // 2)

    def _rewind(self, before: list[np.ndarray], slice_: Slice) -> Slice:
        """Go back to before the first step that was not finite, by bisection; return that step."""
        # The same steps give the same bits, so running them again finds it, and training itself
        # pays nothing for the check.
        together, unit = self.steps.together, self.steps.unit
        while (steps := slice_.last - slice_.first) > together:
            some = unit if steps > unit else together
            middle = slice_.first + max(1, steps // some // 2) * some
            if self._learn(before, slice_._replace(last=middle)):
                before, slice_ = self.state.copy(), slice_._replace(first=middle)
            else:
                slice_ = slice_._replace(last=middle)
        return slice_

    def _divergence(self, epoch: int, slice_: Slice) -> DivergenceError:
        """Return the error that names what the step makes infinite; the state is left as it is."""
        before, engine = self.state.copy(), self.steps.trainer.engine
        with self._undone_if_interrupted(before):
            self.steps.run(slice_)
            after = self.state.copy()
            self.restore(before)
        stretch, step = slice_.stretch, slice_.stretch.before + slice_.first + 1
        order = stretch.order[slice(*stretch.span(slice_.first, slice_.last))]
        trainer = self.steps.trainer
        found = _not_finite(engine, trainer.rows(order), trainer.masks(order), before, after)
        # What that rank found which saw most of it.
        what, layer = min(self._ranks.gather(found), key=lambda one: one[0] == LOSS)
        rate = slice_.rate_at(slice_.first)
        return DivergenceError(
            f"{what} no longer finite in epoch {epoch + 1}, step {step}, layer {layer} of "
            f"{len(engine.model.activations)}, at learning rate {rate:g}; the network keeps "
            "the weights from before that step. Try a smaller learning rate or scaled inputs."
        )


def _not_finite(
    engine: Any, X: Any, masks: reference.Masks, before: list[Any], after: list[Any]
) -> tuple[str, int]:
    """Return what was not finite in a step on X, in words, and its layer, counted from 1."""
    # Activations overflow from the inputs upwards, gradients from the output downwards: the layer
    # is the first on that way. `before` and `after` the step are the arrays of a `State`.
    model, layout = engine.model, engine.layout
    last = len(model.sizes) - 1
    with np.errstate(all="ignore"):
        weights, biases = layout.views(before[0])
        a, z = reference.forward(model, weights, biases, X, masks)
        for l, values in enumerate([*a[1:-1], z[-1]], 1):
            if not np.isfinite(values).all():
                return "activations were", l
        params, totals, slots, _ = after
        for l in range(last, 0, -1):
            for what, flats in (("weights were", [params]), ("gradients were", slots)):
                parts = [view(flat, l) for flat in flats for view in (layout.matrix, layout.row)]
                if not all(np.isfinite(part).all() for part in parts):
                    return what, l
        if not np.isfinite(totals[..., 2]).all():
            return "the penalty was", 1 + int(np.argmax([np.abs(W).max() for W in weights]))
    return LOSS, last


class Loop:
    """Runs the epochs of a recipe, records them, and tells callbacks."""

    def __init__(
        self, learner: Learner, recipe: Recipe, source: Source, slices: Slices,
        validate: Callable[[], tuple[float, float]] | None, callbacks: tuple[Any, ...],
        interrupts: Interrupts,
    ) -> None:  # fmt: skip
        self.learner, self.recipe, self.source, self.slices = learner, recipe, source, slices
        self.history, self.slice_samples = History(), 0  # samples of the newest slice
        self.own: list[Any] = []  # the training's own callbacks, told of all events, before users'
        self.remembering = remembering((recipe.schedule, *callbacks))
        self._validate, self._callbacks, self._interrupts = validate, callbacks, interrupts
        self.position, self._seconds = 0, 0.0

    def run(self, resumed: tuple[Snapshot, History] | None = None) -> History:
        """Train, or go on from where another training stood; return the history."""
        position, seconds, states = 0, 0.0, list[Any]()
        if resumed:
            (start, position, seconds, arrays), self.history = resumed
            assert start is not None
            self.slices.restore(arrays)
            self.learner.rng.bit_generator.state = start.rng
            self.history.stopped, states = start.stopped, start.states
        self._tell("on_fit_begin")
        for thing, state in zip(self.remembering, states, strict=False):
            thing.set_state(state)
        self.slices.steps.load_kernels()
        try:
            self._begin_epoch(position, seconds)
            while len(self.history) < self.recipe.epochs and not self.history.stopped:
                self._epoch()
            self._tell("on_fit_end")
        except (KeyboardInterrupt, SystemExit):
            self._tell("on_interrupt")
            raise
        finally:
            self._tell("on_exit")
        return self.history

    def _begin_epoch(self, position: int = 0, seconds: float = 0.0) -> None:
        """Note what the epoch begins with, for snapshots, if any are kept."""
        self.position, self._seconds = position, seconds
        self.learner.engine.layout.clear_padding(self.learner.params)
        if self.recipe.checkpoint is not None:
            states = [thing.state() for thing in self.remembering]
            rng = self.learner.rng.bit_generator.state
            self.slices.start = EpochStart(len(self.history), rng, states, self.history.stopped)
            self.slices.note(position, seconds)
        self._tell("on_epoch_begin")

    def _epoch(self) -> None:
        history = self.history
        dtype = self.learner.params.dtype
        rate = rate_of(self.recipe.schedule, history, self.source.steps, dtype)
        begun = time.perf_counter() - self._seconds
        try:
            totals = self._train(rate, begun)
        except DivergenceError as error:
            self._tell("on_divergence", error)
            if not history.stopped:
                raise
            return
        self._record(totals, rate, time.perf_counter() - begun)
        if self._validate:
            val_loss, val_accuracy = self._validate()
            history.val_loss.append(val_loss)
            history.val_accuracy.append(val_accuracy)
        self._tell("on_epoch_end")
        self._begin_epoch()

    def _train(self, rate: Rate, begun: float) -> np.ndarray:
        """Train an epoch, or many; return a row of sums of losses, hits, penalties for each."""
        slices, totals = self.slices, self.slices.steps.totals
        epoch, many = len(self.history), self._epochs_at_once()
        if self.position == 0:
            totals[0] = 0
        for stretch in self.source.epoch(epoch, self.position):
            if many > 1:
                if slices.run_many(many, stretch, rate):
                    self._end_slice(many * stretch.samples)
                    return totals[:many].copy()
                slices.size = 1  # one epoch after the other, up to the bad step
            for samples in slices.run(epoch, stretch, rate, begun):
                self._end_slice(samples)
        return totals[:1].copy()

    def _epochs_at_once(self) -> int:
        """Return how many epochs one call may take: several, if nobody looks between them."""
        watched = self._validate or self._callbacks or self.position
        if watched or not (self.source.fixed and isinstance(self.recipe.schedule, Constant)):
            return 1
        left = self.recipe.epochs - len(self.history)
        steps = self.slices.size * self.slices.steps.unit
        fitting = steps * self.recipe.batch_size // self.source.n
        return max(1, min(left, len(self.slices.steps.totals), fitting))

    def _end_slice(self, samples: int) -> None:
        self._interrupts.look()
        self.slice_samples = samples
        self._tell("on_slice_end")

    @np.errstate(all="ignore")
    def _record(self, totals: np.ndarray, rate: Rate, seconds: float) -> None:
        """Add the epochs of which there are totals to the history."""
        history, n, many = self.history, self.source.n, len(totals)
        hits = totals[:, 1] / n if self.source.classes else np.full(many, math.nan)
        history.loss += ((totals[:, 0] + totals[:, 2]) / n).tolist()
        history.penalty += (totals[:, 2] / n).tolist()
        history.accuracy += hits.tolist()
        history.learning_rate += [float(np.ravel(rate)[-1])] * many
        history.seconds += [seconds / many] * many
        history.samples_per_second += [n * many / seconds] * many

    def _tell(self, event: str, *args: Any) -> None:
        tell(self.own, event, self.learner.net, self.history, *args)
        if event in PUBLIC_EVENTS:
            tell(self._callbacks, event, self.learner.net, self.history, *args)
