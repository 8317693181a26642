"""What an estimator does between epochs: learning rates, orders, losses, scores, stops."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import shuffle

from ..errors import DivergenceError
from ..history import History
from ..network import Network
from ..optimizers import SGD, Adam, Optimizer

SLOWEST = 1e-6  # an adaptive learning rate at or below it ends the training
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


@dataclass
class Solver:
    """An optimiser of fastbp's, and how its learning rate moves between epochs.

    It is also the schedule that `Network.fit` asks for the rate.
    """

    rule: Optimizer
    initial: float
    schedule: str = "constant"
    power_t: float = 0.5
    learning_rate: float = field(init=False)

    def __post_init__(self) -> None:
        self.learning_rate = float(self.initial)

    def rate(self, epoch: int, history: History) -> float:
        """Return the learning rate of the next epoch."""
        return self.learning_rate

    def iteration_ends(self, samples: int) -> None:
        """Follow the count of samples that were seen."""
        if self.schedule == "invscaling":
            self.learning_rate = float(self.initial) / (samples + 1) ** self.power_t

    def on_plateau(self) -> tuple[bool, str]:
        """Slow down, or return that it is time to stop, and words for it."""
        if self.schedule != "adaptive":
            return True, "Stopping."
        if self.learning_rate <= SLOWEST:
            return True, "Learning rate too small. Stopping."
        self.learning_rate /= 5.0
        return False, f"Setting learning rate to {self.learning_rate:f}"


class Shuffles:
    """scikit-learn's orders of samples: each epoch shuffles that of the epoch before."""

    def __init__(self, n: int, random_state: np.random.RandomState) -> None:
        self.samples, self.random_state = np.arange(n), random_state

    def __call__(self, n: int) -> np.ndarray:
        """Return the next order."""
        self.samples = shuffle(self.samples, random_state=self.random_state)
        return self.samples


class Losses:
    """scikit-learn's losses from fastbp's.

    The squared error is a mean over the outputs, where fastbp has their sum; both follow the
    gradient of the sum. Poisson's deviance holds a term of the targets alone.
    """

    def __init__(self, name: str, y: np.ndarray, sample_weight: np.ndarray | None) -> None:
        self.share = 1 / y.shape[1] if name == "squared_error" else 1.0
        self.terms = (xlogy(y, y) - y).sum(axis=1, dtype=np.float64) if name == "poisson" else None
        self.weights = np.ones(len(y)) if sample_weight is None else sample_weight

    def of(self, loss: float, penalty: float, order: np.ndarray, batch_size: int) -> float:
        """Return the loss of an epoch, for the means of fastbp's loss and of its penalty."""
        return float(loss * self.share + penalty + self._constant(order, batch_size))

    def _constant(self, order: np.ndarray, batch_size: int) -> float:
        """Return the mean of the terms over an epoch: that of each batch is a weighted one."""
        if self.terms is None:
            return 0.0
        firsts = np.arange(0, len(order), batch_size)
        weights = self.weights[order].astype(np.float64)
        sums, totals = (np.add.reduceat(x, firsts) for x in (weights * self.terms[order], weights))
        means = np.divide(sums, totals, out=np.zeros_like(sums), where=totals != 0)
        return float(means @ np.diff(firsts, append=len(order)) / len(order))


class Watch:
    """What scikit-learn does after each epoch: counts, prints, scores, slows down or stops.

    `best` are the weights with the best validation score, if that is one of this training's.
    """

    def __init__(
        self, estimator: Any, losses: Losses, order: Shuffles, batch_size: int, validation: Any
    ) -> None:
        self.estimator, self.losses, self.order = estimator, losses, order
        self.batch_size, self.validation = batch_size, validation
        self.best: np.ndarray | None = None

    def on_epoch_end(self, net: Network, history: History) -> None:
        """Follow an epoch."""
        penalty = history.penalty[-1]
        samples = self.order.samples
        loss = self.losses.of(history.loss[-1] - penalty, penalty, samples, self.batch_size)
        self._count(loss)
        m = self.estimator
        if self.validation is None:
            self._follow_loss(loss)
        else:
            self._follow_score(net, m._score(*self.validation))
        m._optimizer.iteration_ends(m.t_)
        if m._no_improvement_count > m.n_iter_no_change:
            self._on_plateau(history)

    def on_divergence(self, net: Network, history: History, error: DivergenceError) -> None:
        """With early stopping, end with what was the best; else the error is raised."""
        if self.validation is not None:
            self._count(np.nan)
            self._follow_score(net, np.nan)
            warnings.warn(NOT_FINITE, ConvergenceWarning, stacklevel=2)
            history.stopped = NOT_FINITE

    def _count(self, loss: float) -> None:
        m = self.estimator
        m.n_iter_ += 1
        m.t_ += len(self.order.samples)
        m.loss_ = loss
        m.loss_curve_.append(loss)
        if m.verbose:
            print(f"Iteration {m.n_iter_}, loss = {loss:.8f}")

    def _follow_score(self, net: Network, score: float) -> None:
        m = self.estimator
        m.validation_scores_.append(score)
        if m.verbose:
            print(f"Validation score: {score:f}")
        self._improved(not score < m.best_validation_score_ + m.tol)
        if score > m.best_validation_score_:
            m.best_validation_score_ = score
            self.best = net.to_vector()

    def _follow_loss(self, loss: float) -> None:
        m = self.estimator
        self._improved(not loss > m.best_loss_ - m.tol)
        m.best_loss_ = min(m.best_loss_, loss)

    def _improved(self, improved: bool) -> None:
        m = self.estimator
        m._no_improvement_count = 0 if improved else m._no_improvement_count + 1

    def _on_plateau(self, history: History) -> None:
        m = self.estimator
        what = (
            "Training loss did not improve" if self.validation is None
            else "Validation score did not improve"
        )  # fmt: skip
        since = f"{what} more than tol={m.tol:f} for {m.n_iter_no_change} consecutive epochs."
        stopping, words = m._optimizer.on_plateau()
        if m.verbose:
            print(f"{since} {words}")
        if stopping:
            history.stopped = since
        else:
            m._no_improvement_count = 0


def solver_of(estimator: Any) -> Solver:
    """Return the solver of an estimator's parameters."""
    m = estimator
    if m.solver == "adam":
        adam = Adam(float(m.beta_1), float(m.beta_2), float(m.epsilon), epsilon_corrected=False)
        return Solver(adam, m.learning_rate_init)
    sgd = SGD(float(m.momentum), bool(m.nesterovs_momentum))
    return Solver(sgd, m.learning_rate_init, m.learning_rate, m.power_t)
