"""How the learning rate changes from epoch to epoch: `fit(..., learning_rate=schedule)`.

A schedule is any object with `rate(epoch, history)`: it is asked before each epoch for the rate of
that epoch. Epochs count from 0; the history holds those that are done. One that remembers what it
saw has `state()` and `set_state(state)` as well, arrays by name, for a training that is resumed.
"""

import math
from typing import Any, Protocol

import numpy as np

from ._support import checks
from .history import Best, History

__all__ = ["Constant", "Cosine", "Exponential", "OnPlateau", "Schedule", "Step"]


class Schedule(Protocol):
    """What `fit` takes as a learning rate that changes.

    Examples
    --------
    >>> import fastbp
    >>> class WarmUp:
    ...     def rate(self, epoch, history):
    ...         return 0.5 * min(1, (epoch + 1) / 4)
    >>> net = fastbp.Network([2, 2], seed=0)
    >>> X, y = [[0, 1], [1, 0]], [0, 1]
    >>> net.fit(X, y, epochs=5, batch_size=1, learning_rate=WarmUp()).learning_rate
    [0.125, 0.25, 0.375, 0.5, 0.5]
    """

    def rate(self, epoch: int, history: History) -> float:
        """Return the learning rate of an epoch.

        Parameters
        ----------
        epoch : int
            From 0.
        history : History
            Of the epochs before it in this `fit`.
        """


class Constant:
    """The same rate for all epochs; what a number becomes.

    Parameters
    ----------
    learning_rate : float

    Examples
    --------
    >>> Constant(0.5).rate(7, History())
    0.5
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = checks.positive_float("learning_rate", learning_rate)

    def rate(self, epoch: int, history: History) -> float:
        """Return the rate."""
        return self.learning_rate


class Step:
    """The rate is multiplied by a factor every so many epochs.

    rate = learning_rate * factor**(epoch // every)

    Parameters
    ----------
    learning_rate : float
        Of the first epochs.
    every : int
        Epochs.
    factor : float
        Above 0 and below 1.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> schedule = Step(0.8, every=2, factor=0.5)
    >>> [schedule.rate(epoch, History()) for epoch in range(5)]
    [0.8, 0.8, 0.4, 0.4, 0.2]
    """

    def __init__(self, learning_rate: float, every: int = 10, factor: float = 0.5) -> None:
        self.learning_rate = checks.positive_float("learning_rate", learning_rate)
        self.every = checks.positive_int("every", every)
        self.factor = checks.fraction("factor", factor)

    def rate(self, epoch: int, history: History) -> float:
        """Return the rate of an epoch."""
        return self.learning_rate * self.factor ** (epoch // self.every)


class Exponential:
    """The rate is multiplied by a factor each epoch.

    rate = learning_rate * factor**epoch

    Parameters
    ----------
    learning_rate : float
        Of the first epoch.
    factor : float
        Above 0 and below 1.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> schedule = Exponential(1.0, factor=0.5)
    >>> [schedule.rate(epoch, History()) for epoch in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """

    def __init__(self, learning_rate: float, factor: float = 0.95) -> None:
        self.learning_rate = checks.positive_float("learning_rate", learning_rate)
        self.factor = checks.fraction("factor", factor)

    def rate(self, epoch: int, history: History) -> float:
        """Return the rate of an epoch."""
        return self.learning_rate * self.factor**epoch


class Cosine:
    """The rate falls along half a cosine, slowly at first and at last.

    rate = end + (learning_rate - end) * (1 + cos(pi * epoch / epochs)) / 2

    Parameters
    ----------
    learning_rate : float
        Of the first epoch.
    epochs : int
        When `end` is reached, were there one epoch more; from there on it stays.
    end : float
        At least 0, at most `learning_rate`.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    References
    ----------
    Loshchilov and Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts*, 2017; without
    the restarts.

    Examples
    --------
    >>> schedule = Cosine(1.0, epochs=4)
    >>> [round(schedule.rate(epoch, History()), 3) for epoch in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(self, learning_rate: float, epochs: int, end: float = 0.0) -> None:
        self.learning_rate = checks.positive_float("learning_rate", learning_rate)
        self.epochs = checks.positive_int("epochs", epochs)
        self.end = checks.not_negative_float("end", end)
        if self.end > self.learning_rate:
            raise ValueError(
                f"end must be at most the learning_rate, {self.learning_rate:g}; found {end:g}"
            )

    def rate(self, epoch: int, history: History) -> float:
        """Return the rate of an epoch."""
        share = min(epoch, self.epochs) / self.epochs
        return self.end + (self.learning_rate - self.end) * (1 + math.cos(math.pi * share)) / 2


class OnPlateau:
    """The rate is multiplied by a factor whenever training no longer gets better.

    It remembers what it saw, and starts anew with each `fit`.

    Parameters
    ----------
    learning_rate : float
        Of the first epochs.
    factor : float
        Above 0 and below 1.
    patience : int
        Multiply after so many epochs without improvement.
    monitor : str
        What should improve: a field of `History`, such as "loss" or "val_loss".
    min_delta : float
        Only a value better by more than this is an improvement.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or, after the first epoch, if the history does not hold what
        is monitored.

    Examples
    --------
    >>> schedule, history = OnPlateau(0.8, factor=0.5, patience=2), History()
    >>> for epoch, loss in enumerate([0.9, 0.5, 0.6, 0.5, 0.4]):
    ...     history.learning_rate.append(schedule.rate(epoch, history))
    ...     history.loss.append(loss)
    >>> history.learning_rate
    [0.8, 0.8, 0.8, 0.8, 0.4]
    """

    def __init__(
        self,
        learning_rate: float,
        factor: float = 0.5,
        patience: int = 5,
        monitor: str = "loss",
        min_delta: float = 0.0,
    ) -> None:
        self.learning_rate = checks.positive_float("learning_rate", learning_rate)
        self.factor = checks.fraction("factor", factor)
        self.patience = checks.positive_int("patience", patience)
        self.best = Best(monitor, min_delta)
        self._now, self._waited = self.learning_rate, 0

    def rate(self, epoch: int, history: History) -> float:
        """Return the rate of an epoch; to be asked once for each, in turn."""
        if epoch == 0:
            self.best.forget()
            self._now, self._waited = self.learning_rate, 0
            return self._now
        self._waited = 0 if self.best.improves(history) else self._waited + 1
        if self._waited == self.patience:
            self._now, self._waited = self._now * self.factor, 0
        return self._now

    def state(self) -> dict[str, np.ndarray]:
        """Return what it remembers, for `set_state`."""
        return {"best": self.best.state(), "now": np.array([self._now, self._waited], np.float64)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.best.set_state(state["best"])
        self._now, self._waited = float(state["now"][0]), int(state["now"][1])


def schedule(name: str, value: Any, dtype: Any) -> Schedule:
    """Return a schedule: the one given, or a `Constant` for a number that is finite in dtype."""
    if callable(getattr(value, "rate", None)) and not isinstance(value, type):
        return value
    try:
        return Constant(checks.positive_float(name, value, dtype))
    except TypeError:
        raise TypeError(
            f"{name} must be a positive number, or a schedule such as "
            f"fastbp.schedules.Step(0.1), with rate(epoch, history); found {value!r}"
        ) from None


def rate_of(schedule: Schedule, history: History, dtype: Any) -> float:
    """Return the rate of the next epoch, checked. A rate may sink to zero."""
    epoch = len(history)
    name = f"learning_rate, the schedule's for epoch {epoch + 1},"
    return checks.not_negative_float(name, schedule.rate(epoch, history), dtype)
