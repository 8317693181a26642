"""What `fit(..., callbacks=[...])` calls, epoch by epoch.

A callback is any object with `on_epoch_end(net, history)`; `Callback` lists what else it may have.
One that sets `history.stopped` to its reason ends the training after that epoch: the others are
still called, and `fit` returns its history. Callbacks start anew with each `fit`, can be pickled,
and do not change what is learnt; of several that put weights back, the last in the list has the
last word. Those that remember have `state()` and `set_state(state)`, by which a training that is
resumed goes on as if it had never stopped.
"""

import csv
import errno
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._support import checks
from .history import NAMES, Best, History

if TYPE_CHECKING:
    from .network import Network

__all__ = ["CSVLog", "Callback", "Checkpoint", "EarlyStopping", "JSONLog", "StopOnDivergence"]

FilePath = str | os.PathLike[str]


class Callback:
    """All that `fit` may call; derive from it, or have some of the methods.

    Examples
    --------
    >>> import fastbp
    >>> class Until(fastbp.callbacks.Callback):
    ...     def __init__(self, accuracy):
    ...         self.accuracy = accuracy
    ...
    ...     def on_epoch_end(self, net, history):
    ...         if history.accuracy[-1] >= self.accuracy:
    ...             history.stopped = f"accuracy {self.accuracy} is reached"
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> history = net.fit(
    ...     X, y, epochs=100, batch_size=10, learning_rate=0.5, callbacks=[Until(0.9)]
    ... )
    >>> len(history) < 20, history.stopped
    (True, 'accuracy 0.9 is reached')
    """

    def on_fit_begin(self, net: "Network", history: History) -> None:
        """Look at the network before the training.

        The history is empty, unless the training is resumed.
        """

    def on_epoch_end(self, net: "Network", history: History) -> None:
        """Look at the network after an epoch."""

    def on_divergence(self, net: "Network", history: History, error: ValueError) -> None:
        """Learn that `error`, a `DivergenceError`, cut an epoch short, which is not in the history.

        It is raised unless a callback sets `history.stopped`.
        """

    def on_fit_end(self, net: "Network", history: History) -> None:
        """Look at the network after the training; not called where `fit` raises an error."""

    def state(self) -> dict[str, np.ndarray]:
        """Return what it remembers from epoch to epoch, for a checkpoint: float arrays by name.

        Always something, from the start, if it ever remembers anything.
        """
        return {}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned; called after `on_fit_begin`."""


class EarlyStopping(Callback):
    """Ends training that no longer gets better, and puts the best weights back.

    However many epochs there were, the network leaves `fit` with the weights of the best.

    Parameters
    ----------
    monitor : str
        What should improve: a field of `History`. "val_loss" and "val_accuracy" need
        `validation_data`.
    patience : int
        Stop after so many epochs without improvement.
    min_delta : float
        Only a value better by more than this is an improvement.

    Attributes
    ----------
    best : Best
        Value and epoch of the best.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or, after the first epoch, if the history does not hold what
        is monitored.

    References
    ----------
    Prechelt, *Early Stopping - But When?*, 1998.

    Examples
    --------
    >>> import fastbp
    >>> X, y, X_test, y_test = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> stopping = fastbp.callbacks.EarlyStopping(patience=3)
    >>> history = net.fit(
    ...     X[200:], y[200:], epochs=500, batch_size=10, learning_rate=0.5,
    ...     validation_data=(X[:200], y[:200]), callbacks=[stopping],
    ... )
    >>> len(history) == stopping.best.epoch + 3 < 500
    True
    >>> net.loss(X[:200], y[:200]) == stopping.best.value == min(history.val_loss)
    True
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 10, min_delta: float = 0.0
    ) -> None:
        self.patience = checks.positive_int("patience", patience)
        self.best = Best(monitor, min_delta)
        self._weights: np.ndarray | None = None

    def on_fit_begin(self, net: "Network", history: History) -> None:
        """Forget the training before."""
        self.best.forget()
        self._weights = None

    def on_epoch_end(self, net: "Network", history: History) -> None:
        """Keep the weights if they are the best; stop if none were for long."""
        if self.best.improves(history):
            self._weights = net.to_vector()
        elif len(history) - self.best.epoch >= self.patience:
            history.stopped = (
                f"no better {self.best.monitor} than {self.best.value:.4g} since epoch "
                f"{self.best.epoch}"
            )

    def on_fit_end(self, net: "Network", history: History) -> None:
        """Put the best weights back."""
        if self._weights is not None:
            net.from_vector(self._weights)

    def state(self) -> dict[str, np.ndarray]:
        """Return the best weights, and whose they are."""
        return _without_none(best=self.best.state(), weights=self._weights)

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.best.set_state(state["best"])
        self._weights = state.get("weights")


class StopOnDivergence(Callback):
    """Ends training that diverges, and puts the best weights back; `fit` raises nothing.

    Training diverges where the loss of an epoch is above `factor` times the smallest before, or
    where `fit` would raise `DivergenceError` since loss or weights are no longer finite. The
    network then gets the weights of the epoch with the smallest loss, or, if not one epoch was
    completed, those from before `fit`; in that case the history is empty.

    Parameters
    ----------
    factor : float
        Above 1.

    Raises
    ------
    TypeError, ValueError
        If the factor does not fit.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([1, 1], output="identity", bias=False, seed=0)
    >>> history = net.fit(
    ...     [[1.0]], [[0.0]], epochs=9, batch_size=1, learning_rate=3.0,
    ...     callbacks=[fastbp.callbacks.StopOnDivergence()],
    ... )
    >>> len(history), history.stopped
    (3, 'loss 0.1265 is above 10 times the smallest, 0.007904')
    """

    def __init__(self, factor: float = 10.0) -> None:
        self.factor = checks.positive_float("factor", factor)
        if self.factor <= 1:
            raise ValueError(f"factor must be above 1; found {factor}")
        self._best, self._diverged = Best("loss"), False
        self._weights: np.ndarray | None = None

    def on_fit_begin(self, net: "Network", history: History) -> None:
        """Keep the weights of the start."""
        self._best.forget()
        self._diverged, self._weights = False, net.to_vector()

    def on_epoch_end(self, net: "Network", history: History) -> None:
        """Keep the weights if they are the best; stop if the loss is far from its smallest."""
        if self._best.improves(history):
            self._weights = net.to_vector()
        # A loss below what the dtype resolves is rounding.
        smallest = max(self._best.value, float(np.finfo(net.dtype).eps))
        if not history.loss[-1] <= self.factor * smallest:
            self._stop(
                history,
                f"loss {history.loss[-1]:.4g} is above {self.factor:g} times the smallest, "
                f"{self._best.value:.4g}",
            )

    def on_divergence(self, net: "Network", history: History, error: ValueError) -> None:
        """Stop instead of raising the error."""
        self._stop(history, f"epoch {len(history) + 1} gave a loss or weights that are not finite")

    def _stop(self, history: History, reason: str) -> None:
        self._diverged, history.stopped = True, reason

    def on_fit_end(self, net: "Network", history: History) -> None:
        """Put the best weights back if the training diverged."""
        if self._diverged and self._weights is not None:
            net.from_vector(self._weights)

    def state(self) -> dict[str, np.ndarray]:
        """Return the best weights, whose they are, and whether they are wanted back."""
        diverged = np.array([self._diverged], np.float64)
        return _without_none(best=self._best.state(), diverged=diverged, weights=self._weights)

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self._best.set_state(state["best"])
        self._diverged, self._weights = bool(state["diverged"][0]), state["weights"]


class Checkpoint(Callback):
    """Saves the network every so many epochs, by `net.save`: each file whole, or not there.

    Parameters
    ----------
    path : path-like
        Its last part may hold `{epoch}`, counted from 1, as in "net-{epoch:03d}.safetensors";
        without, each file replaces the one before.
    every : int
        Epochs.
    monitor : str, optional
        Save only what is better than all that was saved before, by this field of `History`.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or, after the first epoch, if the history does not hold what
        is monitored.
    OSError
        From `fit`: before the training if there is no such folder; after an epoch if the file
        cannot be written.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> each = fastbp.callbacks.Checkpoint(os.path.join(folder, "net-{epoch:02d}"), every=2)
    >>> best = fastbp.callbacks.Checkpoint(os.path.join(folder, "best"), monitor="loss")
    >>> _ = net.fit(X, y, epochs=5, batch_size=10, learning_rate=0.5, callbacks=[each, best])
    >>> sorted(os.listdir(folder))
    ['best', 'net-02', 'net-04']
    """

    def __init__(self, path: FilePath, every: int = 1, monitor: str | None = None) -> None:
        folder, self._name = os.path.split(_path(path))
        self._folder = Path(folder)
        self.every = checks.positive_int("every", every)
        self.best = None if monitor is None else Best(monitor)
        self.path(1)

    def path(self, epoch: int) -> Path:
        """Return the file of an epoch."""
        try:
            return self._folder / self._name.format(epoch=epoch)
        except (LookupError, ValueError, TypeError, AttributeError):
            raise ValueError(
                "path must be a file's, with {epoch}, as in 'net-{epoch:03d}.safetensors', and no "
                f"other braces but doubled ones; found {self._name!r}"
            ) from None

    def on_fit_begin(self, net: "Network", history: History) -> None:
        """Say now, not after some epochs, that files would have no place."""
        if self.best:
            self.best.forget()
        path = self.path(self.every)
        if not self._folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "its folder does not exist", str(path))
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a file was expected, not a folder", str(path))

    def on_epoch_end(self, net: "Network", history: History) -> None:
        """Save the network, if it is its turn."""
        epoch = len(history)
        if epoch % self.every == 0 and (self.best is None or self.best.improves(history)):
            net.save(self.path(epoch))

    def state(self) -> dict[str, np.ndarray]:
        """Return what was best."""
        return {"best": self.best.state()} if self.best else {}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        if self.best:
            self.best.set_state(state["best"])


class CSVLog(Callback):
    """Writes each epoch as a row of a CSV file: `epoch`, from 1, and the fields of `History`.

    What was not measured is left empty. The file is replaced when a training begins, and complete
    after each epoch; one that is resumed begins with the epochs before.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    TypeError
        If it is no path.
    OSError
        From `fit`, before the training, if the file cannot be written.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "log.csv")
    >>> net = fastbp.Network([2, 2], seed=0)
    >>> _ = net.fit(
    ...     [[0, 1], [1, 0]], [0, 1], epochs=3, batch_size=1, learning_rate=0.5,
    ...     callbacks=[fastbp.callbacks.CSVLog(path)],
    ... )
    >>> with open(path) as file:
    ...     print(file.readline().strip(), len(file.readlines()))
    epoch,loss,accuracy,penalty,val_loss,val_accuracy,learning_rate,seconds,samples_per_second 3
    """

    def __init__(self, path: FilePath) -> None:
        self.path = _path(path)

    def on_fit_begin(self, net: "Network", history: History) -> None:
        """Begin the file, with the epochs there are."""
        rows = [_csv_row(history, epoch) for epoch in range(len(history))]
        self._write("w", [["epoch", *NAMES], *rows])

    def on_epoch_end(self, net: "Network", history: History) -> None:
        """Add a row."""
        self._write("a", [_csv_row(history, len(history) - 1)])

    def _write(self, mode: str, rows: list[list[Any]]) -> None:
        with open(self.path, mode, encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def _csv_row(history: History, epoch: int) -> list[Any]:
    found = history.row(epoch)
    return [epoch + 1, *(found.get(name, "") for name in NAMES)]


class JSONLog(Callback):
    """Writes each epoch as a line of JSON: an object of `epoch`, from 1, and `History`'s fields.

    What was not measured is left out; null stands for NaN and infinity. The file is replaced when
    a training begins, and complete after each epoch; one that is resumed begins with the epochs
    before.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    TypeError
        If it is no path.
    OSError
        From `fit`, before the training, if the file cannot be written.

    Examples
    --------
    >>> import fastbp, json, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "log.jsonl")
    >>> net = fastbp.Network([2, 2], seed=0)
    >>> history = net.fit(
    ...     [[0, 1], [1, 0]], [0, 1], epochs=3, batch_size=1, learning_rate=0.5,
    ...     callbacks=[fastbp.callbacks.JSONLog(path)],
    ... )
    >>> with open(path) as file:
    ...     [json.loads(line)["loss"] for line in file] == history.loss
    True
    """

    def __init__(self, path: FilePath) -> None:
        self.path = _path(path)

    def on_fit_begin(self, net: "Network", history: History) -> None:
        """Begin the file, with the epochs there are."""
        with open(self.path, "w", encoding="utf-8") as file:
            file.writelines(_json_line(history, epoch) for epoch in range(len(history)))

    def on_epoch_end(self, net: "Network", history: History) -> None:
        """Add a line."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(_json_line(history, len(history) - 1))


def _json_line(history: History, epoch: int) -> str:
    found = history.row(epoch).items()
    row = {name: value if math.isfinite(value) else None for name, value in found}
    return json.dumps({"epoch": epoch + 1, **row}, allow_nan=False) + "\n"


def _without_none(**arrays: Any) -> dict[str, Any]:
    return {name: array for name, array in arrays.items() if array is not None}


def _path(value: Any) -> str:
    try:
        path = os.fspath(value)
    except TypeError:
        path = value
    if not isinstance(path, str) or not path:
        raise TypeError(f"path must be a file's, a str or os.PathLike; found {value!r}")
    return path
