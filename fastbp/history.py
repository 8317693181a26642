"""`History`: what a training saw, one entry per epoch; `Best`: which of its epochs was the best."""

import math
from dataclasses import dataclass, field, fields

import numpy as np

from ._support import checks


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
    learning_rate : list of float
    seconds : list of float
        Training time, validation not included. Epochs that ran in one compiled call share its time.
    samples_per_second : list of float
    stopped : str
        Why a callback ended the training; empty if none did. A callback that sets it ends the
        training after this epoch.

    Examples
    --------
    >>> history = History(loss=[0.9, 0.4])
    >>> len(history), history.stopped
    (2, '')
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    penalty: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    samples_per_second: list[float] = field(default_factory=list)

    stopped = ""  # without annotation it is no field: the fields are what has an entry per epoch

    def __len__(self) -> int:
        """Return the number of epochs."""
        return len(self.loss)

    def last(self) -> dict[str, float]:
        """Return the newest epoch's entries by name, those that there are.

        Examples
        --------
        >>> History(loss=[0.9, 0.4], accuracy=[0.7, 0.9]).last()
        {'loss': 0.4, 'accuracy': 0.9}
        """
        return self.row(-1)

    def row(self, index: int) -> dict[str, float]:
        """Return the entries of an epoch by name, those that there are; index 0 is the first."""
        return {name: getattr(self, name)[index] for name in NAMES if getattr(self, name)}


NAMES = tuple(series.name for series in fields(History))
HIGHER_IS_BETTER = ("accuracy", "val_accuracy", "samples_per_second")


class Best:
    """Follows one quantity of a `History`: what was best, and when.

    Parameters
    ----------
    monitor : str
        A field of `History`; of accuracies and samples per second the largest is the best, of all
        else the smallest.
    min_delta : float
        By how much a value must be better than the best before, to count.

    Attributes
    ----------
    value : float
        The best so far; NaN before the first.
    epoch : int
        When it was, from 1; 0 before the first.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> best = Best("loss")
    >>> best.improves(History(loss=[0.9])), best.improves(History(loss=[0.9, 1.2]))
    (True, False)
    >>> best.value, best.epoch
    (0.9, 1)
    """

    def __init__(self, monitor: str, min_delta: float = 0.0) -> None:
        self.monitor = checks.one_of("monitor", monitor, NAMES)
        self.min_delta = checks.not_negative_float("min_delta", min_delta)
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self.value, self.epoch = math.nan, 0

    def state(self) -> np.ndarray:
        """Return value and epoch, for `set_state`."""
        return np.array([self.value, self.epoch], np.float64)

    def set_state(self, state: np.ndarray) -> None:
        """Go on from what `state` returned."""
        self.value, self.epoch = float(state[0]), int(state[1])

    def improves(self, history: History) -> bool:
        """Look at the newest epoch; return whether it is the best so far.

        Raises
        ------
        ValueError
            If the history does not hold the quantity, or it is no number because the targets are
            no classes.
        """
        value = self._newest(history)
        gain = value - self.value if self.monitor in HIGHER_IS_BETTER else self.value - value
        if self.epoch and not gain > self.min_delta:
            return False
        self.value, self.epoch = value, len(history)
        return True

    def _newest(self, history: History) -> float:
        values = getattr(history, self.monitor)
        if not values:
            raise ValueError(f"monitor {self.monitor!r} needs validation_data; fit was given none")
        if "accuracy" in self.monitor and math.isnan(values[-1]):
            raise ValueError(
                f"monitor {self.monitor!r} needs targets that are classes: labels or one-hot rows"
            )
        return values[-1]
