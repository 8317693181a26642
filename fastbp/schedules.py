"""How the learning rate changes from epoch to epoch, or from step to step.

Pass one to `fit(..., learning_rate=schedule)`.

A schedule is any object with a method `rate(epoch, history)`, which is called before each epoch and
returns its learning rate. Epochs count from 0; the history holds the epochs before. A schedule with
a memory also has `state()` and `set_state(state)`, arrays by name, so that a training can be
resumed. One whose rate changes within an epoch also has `step_rates(epoch, steps, history)`, which
is called before each epoch in place of `rate`, and returns an array, a rate for each of its steps.
"""

import math
from typing import Any, Protocol

import numpy as np

from ._support import checks
from ._support.shown import Called
from .history import Best, History

__all__ = [
    "ByStep", "Constant", "Cosine", "Exponential", "OnPlateau", "Schedule", "Step", "Warmup",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__


class Schedule(Protocol):
    """A learning rate that changes, as `fit` takes it.

    Examples
    --------
    >>> import fastbp
    >>> class Harmonic:
    ...     def rate(self, epoch, history): return 0.5 / (epoch + 1)
    >>> net, X, y = fastbp.Network([2, 2], seed=0), [[0, 1], [1, 0]], [0, 1]
    >>> net.fit(X, y, epochs=4, batch_size=1, learning_rate=Harmonic()).learning_rate[::3]
    [0.5, 0.125]
    """

    def rate(self, epoch: int, history: History) -> float:
        """Return the learning rate of an epoch, from 0; the history holds those before it."""


class Constant(Called):
    """The same rate for all epochs; `fit` makes one of a number.

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


class Step(Called):
    """The rate falls every few epochs: learning_rate * factor**(epoch // every).

    Parameters
    ----------
    learning_rate : float
    every : int, default 10
    factor : float between 0 and 1, default 0.5

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> [Step(0.8, every=2, factor=0.5).rate(epoch, History()) for epoch in range(5)]
    [0.8, 0.8, 0.4, 0.4, 0.2]
    """

    def __init__(self, learning_rate: float, every: int = 10, factor: float = 0.5) -> None:
        self.learning_rate = checks.positive_float("learning_rate", learning_rate)
        self.every = checks.positive_int("every", every)
        self.factor = checks.fraction("factor", factor)

    def rate(self, epoch: int, history: History) -> float:
        """Return the rate of an epoch."""
        return self.learning_rate * self.factor ** (epoch // self.every)


class Exponential(Called):
    """The rate falls each epoch: learning_rate * factor**epoch.

    Parameters
    ----------
    learning_rate : float
    factor : float between 0 and 1, default 0.95

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> [Exponential(1.0, factor=0.5).rate(epoch, History()) for epoch in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    """

    def __init__(self, learning_rate: float, factor: float = 0.95) -> None:
        self.learning_rate = checks.positive_float("learning_rate", learning_rate)
        self.factor = checks.fraction("factor", factor)

    def rate(self, epoch: int, history: History) -> float:
        """Return the rate of an epoch."""
        return self.learning_rate * self.factor**epoch


class Cosine(Called):
    """The rate falls along half a cosine without restarts, slowly at the start and at the end.

    rate = end + (learning_rate - end) * (1 + cos(pi * epoch / epochs)) / 2

    Parameters
    ----------
    learning_rate : float
    epochs : int
        The epoch, counted from 0, at which the rate reaches `end`; it stays there.
    end : float from 0 to `learning_rate`, default 0.0

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    References
    ----------
    Loshchilov and Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts*, 2017.

    Examples
    --------
    >>> [round(Cosine(1.0, epochs=4).rate(epoch, History()), 3) for epoch in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(self, learning_rate: float, epochs: int, end: float = 0.0) -> None:
        self.learning_rate = checks.positive_float("learning_rate", learning_rate)
        self.epochs = checks.positive_int("epochs", epochs)
        self.end = checks.not_negative_float("end", end)
        if self.end > self.learning_rate:
            most = f"the learning_rate, {self.learning_rate:g}"
            raise ValueError(f"end must be at most {most}; got {end:g}")

    def rate(self, epoch: int, history: History) -> float:
        """Return the rate of an epoch."""
        share = min(epoch, self.epochs) / self.epochs
        return self.end + (self.learning_rate - self.end) * (1 + math.cos(math.pi * share)) / 2


class OnPlateau(Called):
    """The rate is multiplied by a factor whenever training stops improving.

    Parameters
    ----------
    learning_rate : float
        Of the first epochs of each `fit`.
    factor : float between 0 and 1, default 0.5
    patience : int, default 5
        The number of epochs without improvement after which the rate is multiplied.
    monitor : str, default "loss"
        The field of `History` that should improve.
    min_delta : float, default 0.0
        Only a value better by more than this is an improvement.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or, after the first epoch, the history lacks the field.

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

    def _arguments(self) -> dict[str, Any]:
        watched = {"monitor": self.best.monitor, "min_delta": self.best.min_delta}
        return {**super()._arguments(), **watched}

    def rate(self, epoch: int, history: History) -> float:
        """Return the rate of an epoch; to be called once for each epoch, in order."""
        if epoch == 0:
            self.best.forget()
            self._now, self._waited = self.learning_rate, 0
            return self._now
        self._waited = 0 if self.best.improves(history) else self._waited + 1
        if self._waited == self.patience:
            self._now, self._waited = self._now * self.factor, 0
        return self._now

    def state(self) -> dict[str, np.ndarray]:
        """Return the best value and the present rate, for `set_state`."""
        return {"best": self.best.state(), "now": np.array([self._now, self._waited], np.float64)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from what `state` returned."""
        self.best.set_state(state["best"])
        self._now, self._waited = float(state["now"][0]), int(state["now"][1])


class ByStep(Called):
    """Another schedule, whose rate follows its curve from step to step.

    Step i of the m steps of an epoch has `schedule.rate(epoch + i / m, history)`. Steps whose rates
    differ are calls of their own, which costs about 10 us a step.

    Parameters
    ----------
    schedule : Schedule
        `Exponential`, `Cosine`, or another that takes fractions of epochs and has no memory.

    Raises
    ------
    TypeError
        If the schedule is none or, as `OnPlateau`, counts its calls.

    Examples
    --------
    >>> schedule = ByStep(Exponential(1.0, factor=0.25))
    >>> [schedule.step_rates(epoch, 2, History()).tolist() for epoch in (0, 1)]
    [[1.0, 0.5], [0.25, 0.125]]
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = _schedule("schedule", schedule, np.float64)
        if getattr(schedule, "state", dict)():
            raise TypeError(
                "schedule must have no memory, for it is asked at each step; got "
                f"{schedule!r}, which is to be asked once for each epoch"
            )

    def rate(self, epoch: float, history: History) -> float:
        """Return the rate at a fraction of an epoch."""
        return self.schedule.rate(epoch, history)  # type: ignore[arg-type]

    def step_rates(self, epoch: int, steps: int, history: History) -> np.ndarray:
        """Return the rates of the steps of an epoch, (steps,) float64."""
        return np.array([self.rate(epoch + step / steps, history) for step in range(steps)])


class Warmup(Called):
    """The rate grows in the first epochs, from step to step, to that of another schedule.

    Step i of the m steps of an epoch has the share min(1, start + (1 - start) t / epochs) of the
    schedule's rate, where t = epoch + i / m.

    Parameters
    ----------
    learning_rate : float or Schedule
        The schedule's epochs count from 0, warm-up or not.
    epochs : float, default 1.0
        How long the warm-up lasts; may be less than an epoch.
    start : float from 0 to below 1, default 0.1
        The share of the rate that the first step has.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    References
    ----------
    Goyal et al., *Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour*, 2017.

    Examples
    --------
    >>> schedule = Warmup(Step(8.0, every=2), epochs=2, start=0.5)
    >>> [schedule.step_rates(epoch, 4, History()).tolist() for epoch in (0, 1, 2)]
    [[4.0, 4.5, 5.0, 5.5], [6.0, 6.5, 7.0, 7.5], [4.0, 4.0, 4.0, 4.0]]
    """

    def __init__(
        self, learning_rate: float | Schedule, epochs: float = 1.0, start: float = 0.1
    ) -> None:
        self.learning_rate = _schedule("learning_rate", learning_rate, np.float64)
        self.epochs = checks.positive_float("epochs", epochs)
        self.start = checks.share("start", start)

    def rate(self, epoch: float, history: History) -> float:
        """Return the rate at the start of an epoch, or at a fraction of it."""
        rate = self.learning_rate.rate(epoch, history)  # type: ignore[arg-type]
        return rate * float(self._share(epoch))

    def step_rates(self, epoch: int, steps: int, history: History) -> np.ndarray:
        """Return the rates of the steps of an epoch, (steps,) float64."""
        rates = _rates(self.learning_rate, epoch, steps, history)
        return np.asarray(rates * self._share(epoch + np.arange(steps) / steps))

    def _share(self, t: Any) -> Any:
        return np.minimum(1, self.start + (1 - self.start) * t / self.epochs)

    def state(self) -> dict[str, np.ndarray]:
        """Return the state of the schedule, if it has one."""
        found: dict[str, np.ndarray] = getattr(self.learning_rate, "state", dict)()
        return found

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from what `state` returned."""
        if state:
            self.learning_rate.set_state(state)  # type: ignore[attr-defined]


def by_step(schedule: Schedule) -> bool:
    """Return whether the rate changes within an epoch."""
    return callable(getattr(schedule, "step_rates", None))


def schedule(name: str, value: Any, dtype: Any) -> Schedule:
    """Return a schedule: the one given, or a `Constant` for a number that is finite in dtype."""
    if callable(getattr(checks.instance(name, value), "rate", None)):
        found: Schedule = value
        return found
    try:
        return Constant(checks.positive_float(name, value, dtype))
    except TypeError:
        wanted = "a positive number, or a schedule with rate(epoch, history)"
        raise TypeError(f"{name} must be {wanted}; got {value!r}") from None


_schedule = schedule  # for those whose argument has its name


def _rates(schedule: Schedule, epoch: int, steps: int, history: History) -> Any:
    """Return the rate of an epoch, or an array of those of its steps; not checked."""
    if by_step(schedule):
        return schedule.step_rates(epoch, steps, history)  # type: ignore[attr-defined]
    return schedule.rate(epoch, history)


def rate_of(schedule: Schedule, history: History, steps: int, dtype: Any) -> float | np.ndarray:
    """Return the rate of the next epoch or, (steps,), of each of its steps; they may be zero."""
    name = f"learning_rate, the schedule's for epoch {len(history) + 1},"
    found = _rates(schedule, len(history), steps, history)
    if not by_step(schedule):
        return checks.not_negative_float(name, found, dtype)
    rates = checks.numbers_array(name, found).astype(np.float64)
    if rates.shape != (steps,):
        raise ValueError(f"{name} must have shape {(steps,)}, one per step; got {rates.shape}")
    with np.errstate(over="ignore"):
        wrong = ~((rates >= 0) & np.isfinite(rates.astype(dtype)))
    for step in np.flatnonzero(wrong)[:1]:
        checks.not_negative_float(f"{name} step {step + 1},", rates[step], dtype)
    return rates
