"""How a person follows a training: a bar, in a terminal or a notebook, and a line after each epoch.

Neither shows in the result.
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..history import History

logger = logging.getLogger("fastbp")


def epoch_line(history: History, epochs: int) -> str:
    """Return the newest epoch as a line; what was not measured is left out.

    Examples
    --------
    >>> history = History(loss=[0.61234], accuracy=[0.81], val_loss=[0.7], val_accuracy=[0.79])
    >>> epoch_line(history, 20)
    'epoch  1/20: loss 0.6123 (val 0.7000), accuracy 0.8100 (val 0.7900)'
    """
    last = {name: value for name, value in history.last().items() if not math.isnan(value)}
    parts = [_beside_validation(last, name) for name in ("loss", "accuracy")]
    parts += [words(last[name]) for name, words in _WORDS.items() if name in last]
    count = f"{len(history):{len(str(epochs))}}/{epochs}"
    return f"epoch {count}: {', '.join(filter(None, parts))}"


_WORDS: dict[str, Callable[[float], str]] = {
    "learning_rate": "rate {:.3g}".format,
    "seconds": "{:.3f} s".format,
    "samples_per_second": "{:,.0f} samples/s".format,
}


def _beside_validation(last, name):
    """Return a quantity as seen in training, and on validation data where there are any."""
    if name not in last:
        return ""
    validation = f"val_{name}"
    beside = f" (val {_number(last[validation])})" if validation in last else ""
    return f"{name} {_number(last[name])}{beside}"


def _number(value):
    """Return four digits behind the point, or three significant ones where those would be zeros."""
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 1e6 else f"{value:.2e}"


class EpochLines:
    """Says a line after each epoch, above the progress bar if there is one.

    Parameters
    ----------
    epochs : int
        Of the whole training.
    say : callable
        Takes a line.
    bar : bool
        Whether there is a progress bar.
    """

    def __init__(self, epochs: int, say: Callable[[str], object], bar: bool = False) -> None:
        self.epochs, self.say, self.bar = epochs, say, bar

    def on_epoch_end(self, net: Any, history: History) -> None:
        """Say how the epoch went."""
        with _bar_aside(self.bar):
            self.say(epoch_line(history, self.epochs))

    def on_fit_end(self, net: Any, history: History) -> None:
        """Say why the training ended early, if it did."""
        if history.stopped:
            with _bar_aside(self.bar):
                self.say(f"ended after epoch {len(history)}: {history.stopped}")


@contextmanager
def _bar_aside(bar):
    try:
        from tqdm import tqdm
    except ImportError:
        bar = False
    if bar:
        with tqdm.external_write_mode():
            yield
    else:
        yield


@contextmanager
def logged_lines(wanted: bool, epochs: int, bar: bool) -> Iterator[list[EpochLines]]:
    """Yield the callbacks of a verbose training: they log each epoch at level INFO.

    Where the program has no handler for logs, as in a notebook, lines go to stdout meanwhile.
    """
    if not wanted:
        yield []
        return
    level, handler = logger.level, logging.StreamHandler(sys.stdout)
    handled = logger.hasHandlers()
    if not handled:
        logger.addHandler(handler)
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
    try:
        yield [EpochLines(epochs, logger.info, bar)]
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _NoBar:
    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def update(self, samples):
        pass

    def end_epoch(self, history):
        pass


class _Bar:
    """Counts samples; beside them, loss and accuracy of what was seen of the epoch."""

    def __init__(self, tqdm, epochs, n, classes, totals, seen):
        self.epochs, self.n, self.classes, self.totals = epochs, n, classes, totals
        self.seen = seen % n if n else 0
        self.tqdm = tqdm(
            total=n and epochs * n, initial=seen, unit=" samples", unit_scale=True, leave=False,
            dynamic_ncols=True,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.tqdm.close()

    def update(self, samples):
        self.seen += samples
        if not self.n or self.seen < self.n:  # many short epochs at once have but their ends
            loss, hits, penalty = self.totals[0]
            self._show((loss + penalty) / self.seen, hits / self.seen)
        self.tqdm.update(samples)

    def end_epoch(self, history):
        if not self.n:  # only now it is known
            self.n, self.tqdm.total = self.seen, self.epochs * self.seen
        self.seen = 0
        self._show(history.loss[-1], history.accuracy[-1])

    def _show(self, loss, accuracy):
        beside = f", accuracy {_number(accuracy)}" if self.classes else ""
        self.tqdm.set_postfix_str(f"loss {_number(loss)}{beside}", refresh=False)


def progress_bar(wanted, epochs, n, classes, totals, seen=0):
    """Return a bar over epochs of n samples, or of as many as the first will have had.

    `totals` is what a trainer sums up; `seen` says of a training that goes on how many samples it
    has learnt before.
    """
    if not wanted:
        return _NoBar()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        logger.warning("no progress bar: tqdm is missing (pip install 'fastbp[progress]')")
        return _NoBar()
    return _Bar(tqdm, epochs, n, classes, totals, seen)
