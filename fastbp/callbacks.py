"""Callbacks for `fit(..., callbacks=[...])`: early stopping, checkpoints, logs.

A callback is any object with a method `on_epoch_end(net, history)`; `Callback` lists the other
methods that `fit` calls. Setting `history.stopped` to a reason ends the training after the epoch,
when all callbacks were called. Callbacks start afresh with each `fit`, can be pickled, and do not
change what is learned. If several restore weights, the last one in the list wins.
"""

import errno
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ._support import checks, files
from ._support.shown import Called
from .history import NAMES, Best, History
from .model import choices
from .model import file as model_file
from .network import Network

__all__ = ["CSVLog", "Callback", "Checkpoint", "EarlyStopping", "JSONLog", "StopOnDivergence"]


def __dir__() -> list[str]:
    return __all__


FilePath = str | os.PathLike[str]


class Callback(Called):
    """Base class of callbacks, with all methods that `fit` calls; each does nothing.

    Examples
    --------
    >>> import fastbp
    >>> class StopAtAccuracy(fastbp.callbacks.Callback):
    ...     def on_epoch_end(self, net, history):
    ...         if history.accuracy[-1] >= 0.9:
    ...             history.stopped = "accuracy 0.9 is reached"
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> net.fit(X, y, epochs=9, batch_size=9, learning_rate=1, callbacks=[StopAtAccuracy()]).stopped
    'accuracy 0.9 is reached'
    """

    def on_fit_begin(self, net: Network, history: History) -> None:
        """Run before training; the history is empty unless the training is resumed."""

    def on_epoch_end(self, net: Network, history: History) -> None:
        """Run after each epoch."""

    def on_divergence(self, net: Network, history: History, error: ValueError) -> None:
        """Run when an epoch, not in `history`, diverges; set `stopped` there to avert the error."""

    def on_fit_end(self, net: Network, history: History) -> None:
        """Run after training; not called if `fit` raises an error."""

    def state(self) -> dict[str, np.ndarray]:
        """Return the memory for a checkpoint: float arrays by name; {} if there never is any."""
        return {}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned; called after `on_fit_begin`."""


class _Monitor(Callback):  # remembers the best value of a field, perhaps the weights of its epoch
    _best: Best | None
    _weights: np.ndarray | None = None
    _restores = True

    def on_fit_begin(self, net: Network, history: History) -> None:
        if self._best:
            self._best.forget()
        self._weights = None

    def on_fit_end(self, net: Network, history: History) -> None:
        if self._restores and self._weights is not None:
            net.from_vector(self._weights)
            history.restored = self._best.epoch if self._best else 0

    def state(self) -> dict[str, np.ndarray]:
        best = {"best": self._best.state()} if self._best else {}
        return best if self._weights is None else {**best, "weights": self._weights}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if self._best:
            self._best.set_state(state["best"])
        self._weights = state.get("weights")


class EarlyStopping(_Monitor):
    """Stops training when a quantity no longer improves; `fit` always ends with the best weights.

    Parameters
    ----------
    monitor : str, default "val_loss"
        The field of `History` that should improve.
    patience : int, default 10
        Number of epochs without improvement after which training stops.
    min_delta : float, default 0.0
        Only a value that is better by more than this is an improvement.

    Attributes
    ----------
    best : Best
        Value and number of the best epoch.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or the history lacks the field, as without `validation_data`.

    References
    ----------
    Prechelt, *Early Stopping - But When?*, 1998.

    Examples
    --------
    >>> import fastbp
    >>> X, y, *validation = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> stopping = fastbp.callbacks.EarlyStopping(patience=3)
    >>> history = net.fit(
    ...     X, y, epochs=500, batch_size=10, learning_rate=0.5, validation_data=validation,
    ...     callbacks=[stopping],
    ... )
    >>> stopping.best.epoch == len(history) - 3, net.loss(*validation) == stopping.best.value
    (True, True)
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 10, min_delta: float = 0.0
    ) -> None:
        self.patience = checks.positive_int("patience", patience)
        self.best = self._best = Best(monitor, min_delta)

    def _arguments(self) -> dict[str, Any]:
        best = self.best
        return {"monitor": best.monitor, "patience": self.patience, "min_delta": best.min_delta}

    def on_epoch_end(self, net: Network, history: History) -> None:
        """Keep the weights if they are the best; stop once patience runs out."""
        if self.best.improves(history):
            self._weights = net.to_vector()
        elif len(history) - self.best.epoch >= self.patience:
            name, value, epoch = self.best.monitor, self.best.value, self.best.epoch
            history.stopped = f"no better {name} than {value:.4g} since epoch {epoch}"


class StopOnDivergence(_Monitor):
    """Stops training that diverges, and restores the best weights; `fit` raises no error.

    Training diverges if an epoch's loss exceeds `factor` times the smallest, or `fit` would raise
    `DivergenceError`. The network then gets the weights of the epoch with the smallest loss, or
    those from before `fit` if no epoch was completed. Poisson's loss may be negative, and so may
    one of your own: they may rise from their smallest by `factor - 1` times their fall so far, or
    times its size if that is more.

    Parameters
    ----------
    factor : float above 1, default 10.0

    Raises
    ------
    TypeError, ValueError
        If the factor is invalid.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([1, 1], output="identity", bias=False, seed=0)
    >>> stop = fastbp.callbacks.StopOnDivergence()
    >>> net.fit([[1]], [[0]], epochs=9, batch_size=1, learning_rate=3, callbacks=[stop]).stopped
    'loss 0.1265 is above 10 times the smallest, 0.007904'
    """

    def __init__(self, factor: float = 10.0) -> None:
        self.factor = checks.positive_float("factor", factor)
        if self.factor <= 1:
            raise ValueError(f"factor must be above 1; got {factor}")
        self._best: Best = Best("loss")
        self._restores = False  # unless the training diverges

    def on_fit_begin(self, net: Network, history: History) -> None:
        """Keep the initial weights."""
        super().on_fit_begin(net, history)
        self._restores, self._weights = False, net.to_vector()

    def on_epoch_end(self, net: Network, history: History) -> None:
        """Keep the weights if they are the best; stop if the loss is far above its minimum."""
        if self._best.improves(history):
            self._weights = net.to_vector()
        # Below the resolution of the dtype, a loss is rounding error.
        best, loss = self._best.value, history.loss[-1]
        limit = self.factor * max(best, float(np.finfo(net.dtype).eps))
        words = f"{self.factor:g} times the smallest, {best:.4g}"
        if choices.loss_name(net.config["loss"]) in ("poisson", choices.OWN):
            limit = best + (self.factor - 1) * max(abs(best), history.loss[0] - best)
            words = f"{limit:.4g}, far above the smallest, {best:.4g}"
        if not loss <= limit:
            history.stopped = f"loss {loss:.4g} is above {words}"
            self._restores = True

    def on_divergence(self, net: Network, history: History, error: ValueError) -> None:
        """Stop instead of raising the error."""
        self._restores = True
        history.stopped = f"epoch {len(history) + 1} gave a loss or weights that are not finite"

    def state(self) -> dict[str, np.ndarray]:
        """Return value and epoch of the best, its weights, and whether the training diverged."""
        return {**super().state(), "diverged": np.array([self._restores], np.float64)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        super().set_state(state)
        self._restores = bool(state["diverged"][0])


class Checkpoint(_Monitor):
    """Saves the network every few epochs by `net.save`, which writes each file whole or not at all.

    Parameters
    ----------
    path : path-like
        The file name may contain `{epoch}`, counted from 1, as in "net-{epoch:03d}.safetensors";
        without it, each file replaces the previous one.
    every : int, default 1
        Number of epochs between files.
    monitor : str, optional
        Save only if this field of `History` is better than at every earlier save.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or, after the first epoch, the history lacks the field.
    OSError
        From `fit`: before training if there is no such folder; after an epoch if writing fails.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> net, folder = fastbp.Network([2, 2], seed=0), tempfile.mkdtemp()
    >>> each = fastbp.callbacks.Checkpoint(os.path.join(folder, "net-{epoch:02d}"), every=2)
    >>> best = fastbp.callbacks.Checkpoint(os.path.join(folder, "best"), monitor="loss")
    >>> _ = net.fit([[0, 1]], [0], epochs=5, batch_size=1, learning_rate=1, callbacks=[each, best])
    >>> sorted(os.listdir(folder))
    ['best', 'net-02', 'net-04']
    """

    def __init__(self, path: FilePath, every: int = 1, monitor: str | None = None) -> None:
        folder, self._name = os.path.split(_file_path(path))
        self._folder = Path(folder)
        self.every = checks.positive_int("every", every)
        self.best = self._best = None if monitor is None else Best(monitor)
        model_file.check_name(self.path(1))

    def _arguments(self) -> dict[str, Any]:
        path, monitor = str(self._folder / self._name), self.best and self.best.monitor
        return {"path": path, "every": self.every, "monitor": monitor}

    def path(self, epoch: int) -> Path:
        """Return the file of an epoch."""
        try:
            return self._folder / self._name.format(epoch=epoch)
        except (LookupError, ValueError, TypeError, AttributeError):
            expected = "a file name with {epoch} or {epoch:03d}, and all other braces doubled"
            raise ValueError(f"path must be {expected}; got {self._name!r}") from None

    def on_fit_begin(self, net: Network, history: History) -> None:
        """Raise an error if files cannot be written there, before any time is spent."""
        super().on_fit_begin(net, history)
        check_place(self.path(self.every))

    def on_epoch_end(self, net: Network, history: History) -> None:
        """Save the network if this epoch is due."""
        epoch = len(history)
        if epoch % self.every == 0 and (self.best is None or self.best.improves(history)):
            net.save(self.path(epoch))


def check_place(path: FilePath) -> None:
    """Raise FileNotFoundError or IsADirectoryError if no file can be written to `path`."""
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "its folder does not exist", os.fspath(path))
    if Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, "expected a file, got a folder", os.fspath(path))


def json_line(history: History, epoch: int, **more: tuple[float, ...]) -> str:
    """Return an epoch, counted from 0, as a line of JSON; `more` adds lists of numbers."""
    entries = {name: _finite(value) for name, value in history.row(epoch).items()}
    lists = {name: [*map(_finite, values)] for name, values in more.items()}
    return json.dumps({"epoch": epoch + 1, **entries, **lists}, allow_nan=False) + "\n"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


class _Log(Callback):
    _head = ""
    _ends: tuple[str, ...]
    _line: Callable[[History, int], str]

    def __init__(self, path: FilePath) -> None:
        self.path = _file_path(path)
        files.check_name(self.path, *self._ends)

    def on_fit_begin(self, net: Network, history: History) -> None:
        earlier = (self._line(history, epoch) for epoch in range(len(history)))
        self._write("w", "".join([self._head, *earlier]))

    def on_epoch_end(self, net: Network, history: History) -> None:
        self._write("a", self._line(history, len(history) - 1))

    def _write(self, mode: str, text: str) -> None:
        with open(self.path, mode, encoding="utf-8", newline="") as file:
            file.write(text)


class CSVLog(_Log):
    """Writes a CSV file with a row for each epoch: `epoch`, from 1, and the fields of `History`.

    Fields that were not measured are empty. The file is replaced when training begins, except for
    the earlier epochs of a resumed training, and complete after each epoch.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    TypeError, ValueError, OSError
        If `path` is not a path, or is named as another format; from `fit`, before training, if the
        file cannot be written.

    Examples
    --------
    >>> import fastbp, numpy, os, tempfile
    >>> net, path = fastbp.Network([2, 2], seed=0), os.path.join(tempfile.mkdtemp(), "log.csv")
    >>> log = fastbp.callbacks.CSVLog(path)
    >>> _ = net.fit([[0, 1]], [0], epochs=3, batch_size=1, learning_rate=0.5, callbacks=[log])
    >>> numpy.genfromtxt(path, delimiter=",", names=True)["epoch"]
    array([1., 2., 3.])
    """

    _head = ",".join(["epoch", *NAMES]) + "\n"
    _ends = (".csv", ".txt")

    @staticmethod
    def _line(history: History, epoch: int) -> str:
        row = {"epoch": epoch + 1, **history.row(epoch)}
        return ",".join(str(row.get(name, "")) for name in ("epoch", *NAMES)) + "\n"


class JSONLog(_Log):
    """Writes a line of JSON for each epoch, as `CSVLog` writes a row.

    Fields that were not measured are left out; null stands for NaN and infinity.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    TypeError, ValueError, OSError
        As for `CSVLog`.

    Examples
    --------
    >>> import fastbp, json, pathlib, tempfile
    >>> net, path = fastbp.Network([2, 2], seed=0), pathlib.Path(tempfile.mkdtemp(), "log.jsonl")
    >>> log = fastbp.callbacks.JSONLog(path)
    >>> history = net.fit([[0, 1]], [0], epochs=3, batch_size=1, learning_rate=0.5, callbacks=[log])
    >>> [json.loads(line)["loss"] for line in path.read_text().splitlines()] == history.loss
    True
    """

    _ends = (".jsonl", ".json", ".txt")
    _line = staticmethod(json_line)


def _file_path(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not path:
        raise TypeError(f"path must be the path of a file, str or os.PathLike; got {value!r}")
    return path
