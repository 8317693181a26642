"""The fit loop: epochs, time slices, schedules, validation, callbacks.

It works on a trainer (see `backend`), whose `run` learns a stretch of an epoch in one compiled
call, or many short epochs. Stretches are short, so that Ctrl-C, the progress bar and the check for
divergence get their turn; they do not show in the result.
"""

import time

import numpy as np

from .errors import DivergenceError
from .history import History
from .progress import progress_bar
from .schedules import Constant, rate_of

SLICE_SECONDS = 0.05  # Ctrl-C is answered within two of these


class Epochs:
    """Runs epochs of a trainer in time slices."""

    def __init__(self, trainer, params, batch_size):
        self.trainer, self.params, self.batch_size = trainer, params, batch_size
        self.batches = 1  # per slice; grows until a slice takes its time

    def at_once(self, n, left):
        """Return how many epochs of n samples, on one order, a slice may hold."""
        return max(1, min(left, len(self.trainer.totals), self.batches * self.batch_size // n))

    def run_many(self, epoch, epochs, order, learning_rate, progress):
        """Train several epochs on one order; return the sums of losses and hits of each."""
        if epochs == 1:
            return self.run(epoch, order, learning_rate, progress)[None]
        before = self._state()
        self.trainer.totals[0] = 0
        started = time.perf_counter()
        self.trainer.run(order, 0, len(order), learning_rate, epochs)
        self._pace(time.perf_counter() - started)
        if self._healthy():
            progress(epochs * len(order))
            return self.trainer.totals[:epochs].copy()
        self._restore(before)
        ends = [self.run(epoch + e, order, learning_rate, progress) for e in range(epochs)]
        return np.array(ends)

    def run(self, epoch, order, learning_rate, progress):
        """Train on the samples of `order`; return the sums of losses and hits."""
        self.trainer.totals[0] = 0
        first = 0
        while first < len(order):
            last = min(len(order), first + self.batches * self.batch_size)
            before = self._state()
            started = time.perf_counter()
            self.trainer.run(order, first, last, learning_rate)
            seconds = time.perf_counter() - started
            if not self._healthy():
                step = self._rewind(before, order, first, last, learning_rate)
                raise DivergenceError(
                    f"loss or weights were no longer finite in epoch {epoch + 1}, step {step + 1}, "
                    f"at learning rate {learning_rate:g}; the network keeps the weights from "
                    "before that step. Try a smaller learning rate or scaled inputs."
                )
            progress(last - first)
            first = last
            self._pace(seconds)
        return self.trainer.totals[0].copy()

    def _pace(self, seconds):
        """Make the next slice longer or shorter, after one that took so long."""
        if seconds < SLICE_SECONDS / 2:
            self.batches *= 2
        elif seconds > SLICE_SECONDS:
            self.batches = max(1, self.batches // 2)

    def _arrays(self):
        """All that a step changes."""
        return self.params, self.trainer.totals[0], *self.trainer.memory

    def _state(self):
        return [array.copy() for array in self._arrays()]

    def _restore(self, state):
        for array, before in zip(self._arrays(), state, strict=True):
            array[...] = before
        self.trainer.stopped = False

    def _healthy(self):
        return not self.trainer.stopped and bool(np.isfinite(self.params).all())

    def _rewind(self, before, order, first, last, learning_rate):
        """Go back to before the first step that was not finite, by bisection; return its number.

        The same steps give the same bits, so running them again finds it, and training itself pays
        nothing for the check.
        """
        while last - first > self.batch_size:
            middle = first + (last - first) // self.batch_size // 2 * self.batch_size
            middle = max(middle, first + self.batch_size)
            self._restore(before)
            self.trainer.run(order, first, middle, learning_rate)
            if self._healthy():
                before, first = self._state(), middle
            else:
                last = middle
        self._restore(before)
        return first // self.batch_size


def fit(
    net, trainer, params, n, *, epochs, batch_size, learning_rate, rng, shuffle, classes, validate,
    callbacks, progress,
):  # fmt: skip
    """Run epochs and record them.

    Parameters
    ----------
    net : object
        Handed to the callbacks.
    trainer : trainer of a backend's engine
    params : flat array
        What the trainer trains.
    n : int
        Number of samples.
    learning_rate : schedule
        See `schedules`.
    classes : bool
        Whether the targets are classes, so that hits make an accuracy.
    validate : callable or None
        Returns loss and accuracy after an epoch.
    callbacks : sequence
        See `callbacks`; what a callback does not have is not called.

    Returns
    -------
    History
    """
    history = History()
    runner = Epochs(trainer, params, batch_size)
    order = np.arange(n)
    _tell(callbacks, "on_fit_begin", net, history)
    trainer.run(np.arange(0), 0, 0, 0.0)  # loads the kernels, before the clock starts
    shuffle = shuffle and batch_size < n  # a batch of all samples has no order
    watched = shuffle or validate or callbacks or not isinstance(learning_rate, Constant)
    with progress_bar(progress, epochs * n, n, classes, trainer.totals) as bar:
        while len(history) < epochs and not history.stopped:
            rate = rate_of(learning_rate, history, params.dtype)
            started = time.perf_counter()
            if shuffle:
                order = rng.permutation(n)
            many = 1 if watched else runner.at_once(n, epochs - len(history))
            try:
                totals = runner.run_many(len(history), many, order, rate, bar.update)
            except DivergenceError as error:
                _tell(callbacks, "on_divergence", net, history, error)
                if not history.stopped:
                    raise
                break
            seconds = (time.perf_counter() - started) / many
            history.loss += ((totals[:, 0] + totals[:, 2]) / n).tolist()
            history.penalty += (totals[:, 2] / n).tolist()
            history.accuracy += (totals[:, 1] / n if classes else np.full(many, np.nan)).tolist()
            history.learning_rate += [rate] * many
            history.seconds += [seconds] * many
            history.samples_per_second += [n / seconds] * many
            if validate:
                val_loss, val_accuracy = validate()
                history.val_loss.append(val_loss)
                history.val_accuracy.append(val_accuracy)
            bar.end_epoch(history)
            _tell(callbacks, "on_epoch_end", net, history)
    _tell(callbacks, "on_fit_end", net, history)
    return history


def _tell(callbacks, event, *args):
    """Call each callback that wants to know."""
    for callback in callbacks:
        if hasattr(callback, event):
            getattr(callback, event)(*args)
