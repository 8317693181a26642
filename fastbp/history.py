"""`History`: the record of a training, one entry per epoch; `Best`: its best epoch so far."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from ._support import checks, extras
from ._support.shown import ends, html, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(repr=False)
class History:
    """The record of a training: one entry per epoch.

    Attributes
    ----------
    loss, accuracy : list of float
        Means over the samples, each before its own step. The accuracy, of what `Network.evaluate`
        counts, is NaN where targets are no classes.
    penalty : list of float
        The part of the loss that is the optimiser's penalty on large weights.
    val_loss, val_accuracy : list of float
        On the validation data, after the epoch; empty without validation data. The loss is the one
        that is trained on, with its setting: label smoothing is in both.
    learning_rate, seconds, samples_per_second : list of float
        `learning_rate` is that of the epoch's last step. `seconds` is training time, without
        validation; epochs of one compiled call share it.
    stopped : str
        Why a callback ended the training, which it does by setting it; otherwise empty.
    restored : int
        The epoch, counted from 1, whose weights a callback gave back to the network; otherwise 0.

    Examples
    --------
    >>> history = History(loss=[0.9, 0.4])
    >>> len(history), history.last()
    (2, {'loss': 0.4})
    >>> history
    <History of 2 epochs: loss 0.4000>
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    penalty: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    samples_per_second: list[float] = field(default_factory=list)

    # Without annotations, they are no fields: fields have an entry per epoch.
    stopped = ""
    restored = 0

    def __len__(self) -> int:
        """Return the number of epochs."""
        return len(self.loss)

    def last(self) -> dict[str, float]:
        """Return the newest epoch's entries by name, without the fields that are empty."""
        return self.row(-1)

    def row(self, index: int) -> dict[str, float]:
        """Return an epoch's entries by name, without the fields that are empty; 0 is the first."""
        return {name: getattr(self, name)[index] for name in NAMES if getattr(self, name)}

    def to_frame(self) -> Any:
        """Return the record as a DataFrame of pandas, which is an extra, `csv`.

        Returns
        -------
        pandas.DataFrame
            One row per epoch, the index, which counts from 1; one column per field that is not
            empty.

        Raises
        ------
        ImportError
            If pandas is missing.

        Examples
        --------
        >>> History(loss=[0.9, 0.4]).to_frame().loc[2, "loss"]
        np.float64(0.4)
        """
        pandas = extras.required("pandas", "pandas", "tables")
        epochs = pandas.RangeIndex(1, len(self) + 1, name="epoch")
        columns = {name: getattr(self, name) for name in NAMES if getattr(self, name)}
        return pandas.DataFrame(columns, epochs)

    def plot(
        self, path: str | os.PathLike[str] | None = None, title: str | None = None
    ) -> "Figure":
        """Draw loss and accuracy over the epochs, as `plots.learning_curves` does.

        Parameters
        ----------
        path, title : optional
            Where to write the picture; its title.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError, OSError, ValueError
            As for `plots.learning_curves`.

        Examples
        --------
        >>> figure = History(loss=[0.9, 0.4]).plot()
        """
        # By name, when it is asked for: a record is below all pictures.
        figure: Figure = import_module("fastbp.plots").learning_curves(self, path, title)
        return figure

    def __repr__(self) -> str:
        last = self.last() if len(self) else {}
        parts = (f"{name} {number(last[name])}" for name in _RESULTS if _known(last.get(name)))
        epochs = f"{len(self)} epoch{'s' * (len(self) != 1)}"
        return f"<History of {epochs}{': ' * bool(last)}{', '.join(parts)}>"

    def _repr_html_(self) -> str:
        names = [name for name in NAMES if any(map(_known, getattr(self, name)))]
        names = [name for name in names if name != "penalty" or any(self.penalty)]

        def cells(epoch: int) -> list[object]:
            values = ((name, getattr(self, name)[epoch - 1]) for name in names)
            return [epoch, *(_FORMATS.get(name, number)(value) for name, value in values)]

        epochs = ends(range(1, len(self) + 1))
        rows = [None if epoch is None else cells(epoch) for epoch in epochs]
        return html(["epoch", *names], rows, below=self.stopped, words=0)


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


NAMES = tuple(series.name for series in fields(History))
_RESULTS = "loss", "accuracy", "val_loss", "val_accuracy"
_FORMATS: dict[str, Callable[[float], str]] = {
    "learning_rate": "{:.3g}".format,
    "seconds": "{:.3f}".format,
    "samples_per_second": "{:,.0f}".format,
}
HIGHER_IS_BETTER = ("accuracy", "val_accuracy", "samples_per_second")


class Best:
    """The best `value` so far of a field of a `History`, and its `epoch`, counted from 1."""

    def __init__(self, monitor: str, min_delta: float = 0.0) -> None:
        self.monitor = checks.one_of("monitor", monitor, NAMES)
        self.min_delta = checks.not_negative_float("min_delta", min_delta)
        self.forget()

    def __repr__(self) -> str:
        return f"<Best {self.monitor}: {number(self.value)} in epoch {self.epoch}>"

    def forget(self) -> None:
        """Start afresh."""
        self.value, self.epoch = math.nan, 0

    def state(self) -> np.ndarray:
        """Return value and epoch, for `set_state`."""
        return np.array([self.value, self.epoch], np.float64)

    def set_state(self, state: np.ndarray) -> None:
        """Continue from what `state` returned."""
        self.value, self.epoch = float(state[0]), int(state[1])

    def improves(self, history: History) -> bool:
        """Take the newest epoch into account; return whether it is the best so far."""
        values: list[float] = getattr(history, self.monitor)
        if not values:
            wanted = "validation_data or validation_split"
            raise ValueError(f"monitor {self.monitor!r} needs {wanted}; got none")
        value = values[-1]
        if "accuracy" in self.monitor and math.isnan(value):
            classes = "targets that are classes: labels, one-hot rows, 0 or 1 for sigmoids"
            raise ValueError(f"monitor {self.monitor!r} needs {classes}")
        gain = value - self.value if self.monitor in HIGHER_IS_BETTER else self.value - value
        if self.epoch and not gain > self.min_delta:
            return False
        self.value, self.epoch = value, len(history)
        return True
