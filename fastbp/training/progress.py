"""How a person follows a training: a progress bar, and a line for each epoch."""

import logging
import math
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import numpy as np

from .._support.shown import number
from ..history import History
from .loop import Loop

logger = logging.getLogger("fastbp")
MOST_BARS = 30  # of a training; a notebook with thousands can hardly be opened
BAR = "{l_bar}{bar}| {elapsed}<{remaining}, {rate_fmt}{postfix}"  # about 100 columns


def epoch_line(history: History, epochs: int) -> str:
    """Return the newest epoch as a line; what was not measured is left out."""
    last = history.last()
    parts = results(last) + [words(last[name]) for name, words in _OTHERS.items() if name in last]
    return f"epoch {len(history):{len(str(epochs))}}/{epochs}: {', '.join(parts)}"


def results(measured: dict[str, float]) -> list[str]:
    """Return loss and accuracy in words, with those of validation; NaN is left out."""
    known = {name: number(value) for name, value in measured.items() if not math.isnan(value)}
    beside = {name: f" (val {known[f'val_{name}']})" for name in known if f"val_{name}" in known}
    return [f"{k} {known[k]}{beside.get(k, '')}" for k in ("loss", "accuracy") if k in known]


_OTHERS: dict[str, Callable[[float], str]] = {
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
    """The callback that counts samples; beside them, loss and accuracy of the epoch so far.

    A few epochs have a bar each, which stays, with what the epoch came to; many share one.
    """

    def __init__(self, loop: Loop, tqdm: Any) -> None:
        self._loop, self._tqdm, self._seen = loop, tqdm, 0  # samples of the epoch
        self._bar: Any = None
        self._each = loop.recipe.epochs <= MOST_BARS

    def on_epoch_begin(self, net: Any, history: History) -> None:
        """Open a bar, unless there is one, or name the epoch at that."""
        loop, n = self._loop, self._loop.source.n
        if len(history) >= loop.recipe.epochs or history.stopped:
            return
        if self._bar is not None:
            self._bar.set_description_str(self._epoch(len(history) + 1), refresh=False)
        else:
            self._seen = loop.position
            before = 0 if self._each else len(history) * n
            self._bar = self._tqdm(
                total=self._total(), initial=before + self._seen, unit="", unit_scale=True,
                dynamic_ncols=True, bar_format=BAR, desc=self._epoch(len(history) + 1),
                file=_stream(),
            )  # fmt: skip

    def on_slice_end(self, net: Any, history: History) -> None:
        """Count the samples of the slice."""
        loop, n = self._loop, self._loop.source.n
        self._seen += loop.slice_samples
        if not n or self._seen < n:  # of many short epochs at once only the end is shown
            loss, hits, penalty = loop.slices.steps.totals[0]
            accuracy = hits / self._seen if loop.source.classes else math.nan
            before = history.last() if len(history) and not self._each else {}  # for the validation
            self._show({**before, "loss": (loss + penalty) / self._seen, "accuracy": accuracy})
        self._bar.update(loop.slice_samples)

    def on_epoch_end(self, net: Any, history: History) -> None:
        """Show what the epoch came to."""
        # Of chunks it is known only now; of many short epochs at once the bar is that of the last.
        self._bar.total = self._seen if self._each else self._total()
        self._seen = 0
        self._bar.set_description_str(self._epoch(len(history)), refresh=False)
        self._show(history.last())
        if self._each:
            self._close()

    def on_fit_end(self, net: Any, history: History) -> None:
        """Fill the bar of a training that was ended early on purpose."""
        if history.stopped and not self._each:
            self._bar.total = self._bar.n

    def on_exit(self, net: Any, history: History) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._close()

    def _close(self) -> None:
        self._bar.close()
        self._bar = None

    def _total(self) -> int | None:
        epochs = 1 if self._each else self._loop.recipe.epochs
        return epochs * self._loop.source.n or None

    def _epoch(self, number: int) -> str:
        epochs = self._loop.recipe.epochs
        return f"epoch {number:{len(str(epochs))}}/{epochs}"

    def _show(self, measured: dict[str, float]) -> None:
        self._bar.set_postfix_str(", ".join(results(measured)), refresh=False)


def _stream() -> Any:
    # Text that a notebook gets from stderr stands on red, as if something were wrong.
    return sys.stdout if type(sys.stderr).__module__.startswith("ipykernel.") else sys.stderr


def tqdm_class() -> Any:
    """Return tqdm's bar, or None with a warning where tqdm is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets, a notebook's bars are text
            from tqdm.auto import tqdm
    except ImportError:
        logger.warning("no progress bar: tqdm is missing (pip install tqdm)")
        return None
    return tqdm
