"""What an estimator does between epochs: learning rates, orders, losses, scores, stops."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.exceptions import ConvergenceWarning

from ..errors import DivergenceError
from ..history import History
from ..network import Network
from ..optimizers import SGD, Adam, Optimizer

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


class Solver:
    """An estimator's optimiser and its learning rate: a schedule for `Network.fit`."""

    def __init__(self, m: Any) -> None:
        self.schedule, self.power_t = m.learning_rate, m.power_t
        self.initial = self.learning_rate = float(m.learning_rate_init)
        self.rule: Optimizer = SGD(float(m.momentum), bool(m.nesterovs_momentum))
        if m.solver == "adam":
            betas, self.schedule = (float(m.beta_1), float(m.beta_2)), "constant"
            self.rule = Adam(*betas, float(m.epsilon), epsilon_corrected=False)

    def rate(self, epoch: int, history: History) -> float:
        """Return the learning rate of the next epoch."""
        return self.learning_rate

    def iteration_ends(self, samples: int) -> None:
        """Set the learning rate after so many samples."""
        if self.schedule == "invscaling":
            self.learning_rate = self.initial / (samples + 1) ** self.power_t


class Losses:
    """Converts losses of fastbp to those of scikit-learn."""

    # Its squared error is a mean over the outputs, ours a sum; both follow the gradient of the sum.
    # Poisson's deviance contains a term of the targets alone.
    def __init__(self, name: str, y: np.ndarray, sample_weight: np.ndarray | None) -> None:
        self.share = 1 / y.shape[1] if name == "squared_error" else 1.0
        self.terms = (xlogy(y, y) - y).sum(axis=1, dtype=np.float64) if name == "poisson" else None
        self.weights = np.ones(len(y)) if sample_weight is None else sample_weight

    def of(self, loss: float, penalty: float, order: np.ndarray, batch_size: int) -> float:
        """Return the loss of an epoch, given the means of fastbp's loss and of the penalty."""
        loss = loss * self.share + penalty
        if self.terms is None:
            return float(loss)
        # The mean of the terms, as that of the loss: of the weighted means of the batches.
        firsts = np.arange(0, len(order), batch_size)
        weights = self.weights[order].astype(np.float64)
        sums, totals = (np.add.reduceat(x, firsts) for x in (weights * self.terms[order], weights))
        means = np.divide(sums, totals, out=np.zeros_like(sums), where=totals != 0)
        return float(loss + float(means @ np.diff(firsts, append=len(order)) / len(order)))


@dataclass
class Validation:
    """Samples that are scored after each epoch."""

    estimator: Any
    judge: Callable[[], tuple[float, float]]  # returns their loss and score by the present weights

    def score(self) -> float:
        """Record loss and score of the present weights; return the score."""
        return self.record(*self.judge())

    def follow(self) -> None:
        """Do so where no score stops the training."""
        m = self.estimator
        m.best_validation_score_ = max(m.best_validation_score_, self.score())

    def record(self, loss: float, score: float) -> float:
        """Append to the curves; return the score."""
        m = self.estimator
        m.validation_loss_curve_.append(loss)
        m.validation_scores_.append(score)
        say(m, f"Validation score: {score:f}")
        return score


def say(m: Any, message: str) -> None:
    """Print a line if an estimator is verbose."""
    if m.verbose:
        print(message)


@dataclass
class Watch:
    """The callback that records, prints, slows down and stops as scikit-learn does."""

    estimator: Any
    solver: Solver
    losses: Losses
    samples: np.ndarray  # in the order of the present epoch
    random_state: np.random.RandomState
    batch_size: int
    validation: Validation | None
    stops: bool  # by the score of the validation samples, instead of the loss
    stalled: int  # epochs without an improvement
    best: np.ndarray | None = None  # the weights with the best score, if this training found them

    def order(self, n: int) -> np.ndarray:
        """Return the next order of samples: that of the epoch before, shuffled."""
        # As `sklearn.utils.shuffle` does, whose checks took 5 to 10 % of `fit` on the digits.
        places = np.arange(n)
        self.random_state.shuffle(places)
        self.samples = self.samples[places]
        return self.samples

    def on_epoch_end(self, net: Network, history: History) -> None:
        """Follow an epoch."""
        m, penalty = self.estimator, history.penalty[-1]
        loss = self.losses.of(history.loss[-1] - penalty, penalty, self.samples, self.batch_size)
        self._record(loss)
        if self.stops:
            assert self.validation is not None
            self._compare_score(net, self.validation.score())
        else:
            self.stalled = self.stalled + 1 if loss > m.best_loss_ - m.tol else 0
            m.best_loss_ = min(m.best_loss_, loss)
            if self.validation:
                self.validation.follow()
        self.solver.iteration_ends(m.t_)
        if self.stalled > m.n_iter_no_change:
            self._on_plateau(history)

    def on_divergence(self, net: Network, history: History, error: DivergenceError) -> None:
        """With early stopping, end with the best weights; otherwise let the error be raised."""
        if self.stops:
            assert self.validation is not None
            self._record(np.nan)
            self._compare_score(net, self.validation.record(np.nan, np.nan))
            warnings.warn(NOT_FINITE, ConvergenceWarning, stacklevel=2)
            history.stopped = NOT_FINITE

    def _record(self, loss: float) -> None:
        m = self.estimator
        m.n_iter_, m.t_, m.loss_ = m.n_iter_ + 1, m.t_ + len(self.samples), loss
        m.loss_curve_.append(loss)
        say(m, f"Iteration {m.n_iter_}, loss = {loss:.8f}")

    def _compare_score(self, net: Network, score: float) -> None:
        m = self.estimator
        self.stalled = self.stalled + 1 if score < m.best_validation_score_ + m.tol else 0
        if score > m.best_validation_score_:
            m.best_validation_score_ = score
            self.best = net.to_vector()

    def _on_plateau(self, history: History) -> None:
        m, what = self.estimator, "Validation score" if self.stops else "Training loss"
        limit = f"tol={m.tol:f} for {m.n_iter_no_change} consecutive epochs"
        reason = f"{what} did not improve more than {limit}."
        if self.solver.schedule == "adaptive" and self.solver.learning_rate > 1e-6:
            self.solver.learning_rate /= 5.0
            self.stalled = 0
            say(m, f"{reason} Setting learning rate to {self.solver.learning_rate:f}")
        else:
            history.stopped = reason
            too_small = "Learning rate too small. " if self.solver.schedule == "adaptive" else ""
            say(m, f"{reason} {too_small}Stopping.")
