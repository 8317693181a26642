"""How a person follows a training: a progress bar, and a line for each epoch."""

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np

from ..history import History
from .loop import Loop

logger = logging.getLogger("fastbp")


def epoch_line(history: History, epochs: int) -> str:
    """Return the newest epoch as a line; what was not measured is left out."""
    last = {name: value for name, value in history.last().items() if not math.isnan(value)}
    parts = []
    for name, words in _WORDS.items():
        if name in last:
            validation = last.get(f"val_{name}")
            beside = "" if validation is None else f" (val {_number(validation)})"
            parts.append(words(last[name]) + beside)
    return f"epoch {len(history):{len(str(epochs))}}/{epochs}: {', '.join(parts)}"


def _number(value: float) -> str:
    """Return four digits behind the point, or three significant ones where those would be zeros."""
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 1e6 else f"{value:.2e}"


_WORDS: dict[str, Callable[[float], str]] = {
    "loss": lambda value: f"loss {_number(value)}",
    "accuracy": lambda value: f"accuracy {_number(value)}",
    "learning_rate": "rate {:.3g}".format,
    "seconds": "{:.3f} s".format,
    "samples_per_second": "{:,.0f} samples/s".format,
}


class EpochLines:
    """Says a line after each of so many epochs; tqdm's bar, if there is one, makes room for it."""

    def __init__(self, epochs: int, say: Callable[[str], object], bar: bool = False) -> None:
        self.epochs, self.say = epochs, say
        self.room: Any = nullcontext
        if bar:
            with suppress(ImportError):
                from tqdm import tqdm

                self.room = tqdm.external_write_mode

    def on_epoch_end(self, net: Any, history: History) -> None:
        """Say how the epoch went."""
        with self.room():
            self.say(epoch_line(history, self.epochs))

    def on_fit_end(self, net: Any, history: History) -> None:
        """Say why the training ended early, if it did."""
        if history.stopped:
            with self.room():
                self.say(f"ended after epoch {len(history)}: {history.stopped}")


def say(line: str) -> None:
    """Write a line of a verbose training: to the log, else to stdout."""
    if logger.hasHandlers():
        # At level INFO, whatever level the logger "fastbp" shows by itself: lines were asked for.
        logger.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 0, line, (), None))
    else:
        print(line)


class BookLines:
    """Writes a line after each epoch as the book's program does: `Epoch 0: 9129 / 10000`."""

    def __init__(self, X: Any, labels: Any) -> None:
        self.X, self.labels = X, labels

    def on_epoch_end(self, net: Any, history: History) -> None:
        """Evaluate the network on the test data."""
        right = net.evaluate(self.X, self.labels)
        logger.info("Epoch %d: %d / %d", len(history) - 1, right, np.shape(self.X)[0])


class ProgressBar:
    """The callback that counts samples; beside them, loss and accuracy of the epoch so far."""

    def __init__(self, loop: Loop, tqdm: Any) -> None:
        self._loop, self._tqdm, self._seen = loop, tqdm, 0  # samples of the epoch
        self._bar: Any = None

    def on_epoch_begin(self, net: Any, history: History) -> None:
        """Open the bar, where the training begins."""
        if self._bar is None:
            loop, n = self._loop, self._loop.source.n
            self._seen = loop.position
            self._bar = self._tqdm(
                total=loop.recipe.epochs * n or None, initial=len(history) * n + self._seen,
                unit=" samples", unit_scale=True, leave=False, dynamic_ncols=True,
            )  # fmt: skip

    def on_slice_end(self, net: Any, history: History) -> None:
        """Count the samples of the slice."""
        loop, n = self._loop, self._loop.source.n
        self._seen += loop.slice_samples
        if not n or self._seen < n:  # of many short epochs at once only the end is shown
            loss, hits, penalty = loop.slices.steps.totals[0]
            self._show((loss + penalty) / self._seen, hits / self._seen)
        self._bar.update(loop.slice_samples)

    def on_epoch_end(self, net: Any, history: History) -> None:
        """Show the means of the epoch."""
        self._bar.total = self._loop.recipe.epochs * self._loop.source.n  # of chunks known only now
        self._seen = 0
        self._show(history.loss[-1], history.accuracy[-1])

    def on_exit(self, net: Any, history: History) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _show(self, loss: float, accuracy: float) -> None:
        beside = f", accuracy {_number(accuracy)}" if self._loop.source.classes else ""
        self._bar.set_postfix_str(f"loss {_number(loss)}{beside}", refresh=False)


def tqdm_class() -> Any:
    """Return tqdm's bar, or None with a warning where tqdm is missing."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        logger.warning("no progress bar: tqdm is missing (pip install 'fastbp[progress]')")
        return None
    return tqdm
