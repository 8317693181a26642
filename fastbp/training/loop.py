"""The fit loop: epochs, time slices, schedules, validation, callbacks.

It works on a trainer (see `backend`), whose `run` learns a stretch of an epoch in one compiled
call, or many short epochs. Stretches are short, so that Ctrl-C, the progress bar and the check for
divergence get their turn; they do not show in the result.
"""

import math
import time
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._support.signals import dropped_interrupts_return, interrupts_wait
from ..errors import DivergenceError
from ..history import History
from ..schedules import Constant, rate_of
from . import divergence as faults
from .progress import progress_bar

SLICE_SECONDS = 0.05  # Ctrl-C is answered within two of these


class Begun(NamedTuple):
    """What an epoch begins with, besides what a step changes."""

    done: int  # epochs before it
    rng: Any  # state of the generator that draws its order
    states: list[dict[str, np.ndarray]]  # of the schedule and the callbacks, of those that remember
    stopped: str  # why there is no such epoch, if a callback said so


class Mark(NamedTuple):
    """Where a training stands between two steps: all that the rest of it follows from."""

    begun: Begun
    position: int  # samples of the epoch's order that have been learnt
    seconds: float  # that the epoch took so far
    arrays: list[np.ndarray]  # the parameters, the epoch's totals, the optimiser's memory


class Keeper(Protocol):
    """Keeps marks in a file; see `resuming`."""

    def keep(self, mark: Mark, history: History) -> None:
        """Keep the mark, and of the history as many epochs as it has done."""

    def look(self, mark: Mark, history: History) -> None:
        """Keep the mark if it is time for it."""


def remembering(schedule: Any, callbacks: Any) -> list[Any]:
    """Return those of the schedule and the callbacks that remember what they saw."""
    return [x for x in (schedule, *callbacks) if hasattr(x, "set_state") and x.state()]


class Epochs:
    """Runs epochs of a trainer in time slices."""

    def __init__(self, trainer, params, batch_size):
        self.trainer, self.params, self.batch_size = trainer, params, batch_size
        self.batches = 1  # per slice; grows until a slice takes its time
        self.begun = None  # of the marks to come; none are made without
        # Replaced whole: an interrupt may come between any two instructions.
        self.mark = None
        self.samples = 0  # that an epoch had

    def at_once(self, n, left):
        """Return how many epochs of n samples, on one order, a slice may hold."""
        return max(1, min(left, len(self.trainer.totals), self.batches * self.batch_size // n))

    def run_many(self, epoch, epochs, order, learning_rate, progress, start=(0, 0.0)):
        """Train several epochs on one order; return the sums of losses and hits of each.

        Only the first, where one of them would diverge. `start` is as for `run`.
        """
        self.samples = len(order)
        if epochs > 1:
            self.trainer.totals[0] = 0
            before = self._state()
            self.set_mark(0, 0.0, before)
            if self._learn(before, order, 0, len(order), learning_rate, epochs):
                progress(epochs * len(order))
                return self.trainer.totals[:epochs].copy()
            self.batches = 1  # one epoch after the other, up to the bad step
        return self.run(epoch, order, learning_rate, progress, start)[None]

    def run(self, epoch, order, learning_rate, progress, start=(0, 0.0)):
        """Train on the samples of `order`; return the sums of losses and hits.

        `start` is where to go on in an epoch that was begun before: position and seconds so far.
        """
        if start[0] == 0:
            self.trainer.totals[0] = 0
        self.go_on(epoch, order, learning_rate, progress, *start)
        return self.trainer.totals[0].copy()

    def go_on(self, epoch, order, learning_rate, progress, first=0, spent=0.0, steps=0):
        """Train on the samples of `order` from `first` on, so many steps after others."""
        begun = time.perf_counter() - spent
        while first < len(order):
            last = min(len(order), first + self.batches * self.batch_size)
            before = self._state()
            self.set_mark(first, time.perf_counter() - begun, before)
            if not self._learn(before, order, first, last, learning_rate):
                self._diverge(epoch, before, order, first, last, learning_rate, steps)
            progress(last - first)
            first = last

    def _learn(self, before, order, first, last, learning_rate, epochs=1):
        """Train on a slice; return whether all is finite, and go back if it is not."""
        started = time.perf_counter()
        with self._whole(before):
            self.trainer.run(order, first, last, learning_rate, epochs)
            fine = not self.trainer.stopped and self._finite(epochs)
            if not fine:
                self.restore(before)
        self._pace(time.perf_counter() - started)
        return fine

    @contextmanager
    def _whole(self, before):
        """Go back if something like Ctrl-C comes: it may come amid a step."""
        try:
            yield
        except BaseException:
            with interrupts_wait():
                self.trainer.end()
                self.restore(before)
            raise

    def _diverge(self, epoch, before, order, first, last, learning_rate, steps):
        """Say which step of a slice was the first that is not finite; stay before it.

        So many `steps` of the epoch were taken before those of the order.
        """
        step = self._rewind(before, order, first, last, learning_rate)
        what, layer, layers = self._fault(order, step * self.batch_size, learning_rate)
        raise DivergenceError(
            f"{what} no longer finite in epoch {epoch + 1}, step {steps + step + 1}, "
            f"layer {layer} of {layers}, at learning rate {learning_rate:g}; the network keeps the "
            "weights from before that step. Try a smaller learning rate or scaled inputs."
        )

    def _fault(self, order, first, learning_rate):
        """Take the bad step once more, and go back; return what it makes infinite, and where."""
        before, trainer = self._state(), self.trainer
        with self._whole(before):
            trainer.run(order, first, first + 1, learning_rate)
            after = self._state()
            self.restore(before)
        model, layout = trainer.engine.model, trainer.engine.layout
        batch = trainer.rows(order[first : first + self.batch_size])
        return *faults.find(model, layout, batch, before, after), len(model.activations)

    def set_mark(self, position, seconds, state=None):
        """Note where the training stands, if that is to be kept."""
        if self.begun is not None:
            self.mark = Mark(self.begun, position, seconds, state or self._state())

    def _pace(self, seconds):
        """Make the next slice longer or shorter, after one that took so long."""
        if seconds < SLICE_SECONDS / 2:
            self.batches *= 8 if seconds < SLICE_SECONDS / 16 else 2
        elif seconds > SLICE_SECONDS:
            self.batches = max(1, self.batches // 2)

    def _arrays(self):
        """All that a step changes."""
        return self.params, self.trainer.totals[0], *self.trainer.memory

    def _state(self):
        return [array.copy() for array in self._arrays()]

    def restore(self, state):
        """Go back to a state, or on from that of another training."""
        for array, before in zip(self._arrays(), state, strict=True):
            array[...] = before
        self.trainer.stopped = False

    def _finite(self, epochs=1):
        """Return whether all is finite: an overflow in Adam's memory would only stop learning."""
        arrays = [array for array in self.trainer.memory[:1] if array.size]
        if epochs > 1:
            arrays.append(self.trainer.totals[:epochs])
        elif not math.isfinite(self.trainer.totals[0, 2]):  # losses are finite, or stop the trainer
            return False
        return all(np.isfinite(array).all() for array in (self.params, *arrays))

    def _rewind(self, before, order, first, last, learning_rate):
        """Go back to before the first step that was not finite, by bisection; return its number.

        The same steps give the same bits, so running them again finds it, and training itself pays
        nothing for the check.
        """
        while last - first > self.batch_size:
            middle = first + (last - first) // self.batch_size // 2 * self.batch_size
            middle = max(middle, first + self.batch_size)
            if self._learn(before, order, first, middle, learning_rate):
                before, first = self._state(), middle
            else:
                last = middle
        return first // self.batch_size


def fit(
    net, trainer, *, params, n, epochs, batch_size, learning_rate, rng, order, classes, validate,
    callbacks, progress, keeper=None, resumed=None, runner=None,
):  # fmt: skip
    """Run epochs and record them.

    Parameters
    ----------
    net : object
        Handed to the callbacks.
    trainer : trainer of a backend's engine
    params : flat array
        What the trainer trains.
    n : int or None
        Number of samples, if it is known.
    learning_rate : schedule
        See `schedules`.
    order : callable or None
        `order(n)` returns the order of samples of the next epoch; without, they are taken as they
        lie.
    classes : bool
        Whether the targets are classes, so that hits make an accuracy.
    validate : callable or None
        Returns loss and accuracy after an epoch.
    callbacks : sequence
        See `callbacks`; what a callback does not have is not called.
    keeper : Keeper, optional
        Keeps a mark at the start, when it wants to after a slice, at an interrupt and at the end.
    resumed : (Mark, History), optional
        To go on from.
    runner : Epochs, optional
        One that finds its samples by itself.

    Returns
    -------
    History
    """
    mark, history = resumed or (None, History())
    runner = runner or Epochs(trainer, params, batch_size)
    states = remembering(learning_rate, callbacks)
    if mark:
        runner.restore(mark.arrays)
        rng.bit_generator.state = mark.begun.rng
    samples = np.arange(n or 0)
    _tell(callbacks, "on_fit_begin", net, history)
    if mark:
        for remembers, state in zip(states, mark.begun.states, strict=True):
            remembers.set_state(state)
        history.stopped = mark.begun.stopped
    start = (mark.position, mark.seconds) if mark else (0, 0.0)

    def begin():
        if keeper:
            kept = [remembers.state() for remembers in states]
            runner.begun = Begun(len(history), rng.bit_generator.state, kept, history.stopped)

    begin()
    runner.set_mark(*start)
    trainer.run(np.arange(0), 0, 0, 0.0)  # loads the kernels, before the clock starts
    watched = order or validate or callbacks or not isinstance(learning_rate, Constant)
    seen = len(history) * n + start[0] if n else 0
    with (
        progress_bar(progress, epochs, n, classes, trainer.totals, seen) as bar,
        _kept(keeper, runner, history) as look,
        dropped_interrupts_return() as look_again,
    ):

        def after_slice(samples):
            look_again()
            bar.update(samples)
            look()

        while len(history) < epochs and not history.stopped:
            rate = rate_of(learning_rate, history, params.dtype)
            started = time.perf_counter() - start[1]
            if order:
                samples = order(n)
            many = 1 if watched or start[0] else runner.at_once(n, epochs - len(history))
            try:
                totals = runner.run_many(len(history), many, samples, rate, after_slice, start)
            except DivergenceError as error:
                _tell(callbacks, "on_divergence", net, history, error)
                if not history.stopped:
                    raise
                break
            start, n = (0, 0.0), runner.samples
            _record(history, totals, n, classes, rate, time.perf_counter() - started)
            if validate:
                val_loss, val_accuracy = validate()
                history.val_loss.append(val_loss)
                history.val_accuracy.append(val_accuracy)
            bar.end_epoch(history)
            _tell(callbacks, "on_epoch_end", net, history)
            begin()
        else:
            runner.set_mark(0, 0.0)
    _tell(callbacks, "on_fit_end", net, history)
    return history


def _record(history, totals, n, classes, rate, seconds):
    """Add the epochs of which there are totals."""
    many = len(totals)
    history.loss += ((totals[:, 0] + totals[:, 2]) / n).tolist()
    history.penalty += (totals[:, 2] / n).tolist()
    history.accuracy += (totals[:, 1] / n if classes else np.full(many, np.nan)).tolist()
    history.learning_rate += [rate] * many
    history.seconds += [seconds / many] * many
    history.samples_per_second += [n * many / seconds] * many


@contextmanager
def _kept(keeper, runner, history):
    """Keep a mark on the way in and out, however that comes; yield what to call in between."""
    if keeper is None:
        yield lambda: None
        return
    try:
        keeper.keep(runner.mark, history)
        yield lambda: keeper.look(runner.mark, history)
        keeper.keep(runner.mark, history)
    except (KeyboardInterrupt, SystemExit):
        keeper.keep(runner.mark, history)
        raise


def _tell(callbacks, event, *args):
    """Call each callback that wants to know."""
    for callback in callbacks:
        if hasattr(callback, event):
            getattr(callback, event)(*args)
