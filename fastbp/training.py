"""The fit loop: epochs, time slices, validation, history.

It works on a trainer (see `backend`), whose `run` learns a stretch of an epoch in one compiled
call, or many short epochs. Stretches are short, so that Ctrl-C, the progress bar and the check for
divergence get their turn; they do not show in the result.
"""

import logging
import time
from dataclasses import dataclass, field

import numpy as np

from .errors import DivergenceError

logger = logging.getLogger("fastbp")

SLICE_SECONDS = 0.05  # Ctrl-C is answered within two of these


@dataclass
class History:
    """What `fit` saw: one entry per epoch.

    Attributes
    ----------
    loss, accuracy : list of float
        Means over the epoch's samples as they were seen, each before its own step. The accuracy is
        NaN where the targets are no classes.
    penalty : list of float
        The part of the loss that is the optimiser's penalty on large weights.
    val_loss, val_accuracy : list of float
        On the validation data, after the epoch; empty without.
    seconds : list of float
        Training time, validation not included. Epochs that ran in one compiled call share its time.
    samples_per_second : list of float
    """

    loss: list = field(default_factory=list)
    accuracy: list = field(default_factory=list)
    penalty: list = field(default_factory=list)
    val_loss: list = field(default_factory=list)
    val_accuracy: list = field(default_factory=list)
    seconds: list = field(default_factory=list)
    samples_per_second: list = field(default_factory=list)

    def __len__(self):
        """Return the number of epochs."""
        return len(self.loss)


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
    classes : bool
        Whether the targets are classes, so that hits make an accuracy.
    validate : callable or None
        Returns loss and accuracy after an epoch.

    Returns
    -------
    History
    """
    history = History()
    runner = Epochs(trainer, params, batch_size)
    order = np.arange(n)
    trainer.run(np.arange(0), 0, 0, learning_rate)  # loads the kernels, before the clock starts
    shuffle = shuffle and batch_size < n  # a batch of all samples has no order
    watched = shuffle or validate or callbacks
    with _progress_bar(progress, epochs * n) as bar:
        while len(history) < epochs:
            started = time.perf_counter()
            if shuffle:
                order = rng.permutation(n)
            many = 1 if watched else runner.at_once(n, epochs - len(history))
            totals = runner.run_many(len(history), many, order, learning_rate, bar.update)
            seconds = (time.perf_counter() - started) / many
            history.loss += ((totals[:, 0] + totals[:, 2]) / n).tolist()
            history.penalty += (totals[:, 2] / n).tolist()
            history.accuracy += (totals[:, 1] / n if classes else np.full(many, np.nan)).tolist()
            history.seconds += [seconds] * many
            history.samples_per_second += [n / seconds] * many
            if validate:
                val_loss, val_accuracy = validate()
                history.val_loss.append(val_loss)
                history.val_accuracy.append(val_accuracy)
            for callback in callbacks:
                callback.on_epoch_end(net, history)
    return history


class _NoBar:
    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def update(self, samples):
        pass


def _progress_bar(wanted, total):
    if not wanted:
        return _NoBar()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        logger.warning("no progress bar: tqdm is missing (pip install fastbp[progress])")
        return _NoBar()
    return tqdm(total=total, unit="samples", unit_scale=True, leave=False)
