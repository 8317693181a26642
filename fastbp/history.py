"""`History`: the record of a training, one entry per epoch; `Best`: its best epoch so far."""

import math
from dataclasses import dataclass, field, fields

import numpy as np

from ._support import checks


@dataclass
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
        On the validation data, after the epoch; empty without validation data.
    learning_rate, seconds, samples_per_second : list of float
        `seconds` is training time, without validation; epochs of one compiled call share it.
    stopped : str
        Why a callback ended the training, which it does by setting it; otherwise empty.
    restored : int
        The epoch, counted from 1, whose weights a callback gave back to the network; otherwise 0.

    Examples
    --------
    >>> history = History(loss=[0.9, 0.4])
    >>> len(history), history.last()
    (2, {'loss': 0.4})
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


NAMES = tuple(series.name for series in fields(History))
HIGHER_IS_BETTER = ("accuracy", "val_accuracy", "samples_per_second")


class Best:
    """The best `value` so far of a field of a `History`, and its `epoch`, counted from 1."""

    def __init__(self, monitor: str, min_delta: float = 0.0) -> None:
        self.monitor = checks.one_of("monitor", monitor, NAMES)
        self.min_delta = checks.not_negative_float("min_delta", min_delta)
        self.forget()

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
            raise ValueError(f"monitor {self.monitor!r} needs validation_data; got none")
        value = values[-1]
        if "accuracy" in self.monitor and math.isnan(value):
            classes = "targets that are classes: labels, one-hot rows, 0 or 1 for sigmoids"
            raise ValueError(f"monitor {self.monitor!r} needs {classes}")
        gain = value - self.value if self.monitor in HIGHER_IS_BETTER else self.value - value
        if self.epoch and not gain > self.min_delta:
            return False
        self.value, self.epoch = value, len(history)
        return True
