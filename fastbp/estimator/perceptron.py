"""What `MLPClassifier` and `MLPRegressor` share: parameters, weights, training, prediction."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, is_classifier
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d, validation

from .._support import checks
from ..errors import DivergenceError
from ..history import History
from ..interchange import words
from ..model import choices
from ..model.config import Config
from ..network import Network
from ..training import columns
from ..training.state import EpochCallback
from . import sklearn_private
from .epochs import NOT_FINITE, Losses, Solver, Validation, Watch
from .tasks import Tasks

STOCHASTIC = ("sgd", "adam")
# With those that no estimator begins with, but whoever sets `out_activation_` may.
OUTPUTS = {**words.OUTPUTS, **{name: (name, "quadratic") for name in ("tanh", "relu")}}


class _Stopped(Exception):
    """A callback ends the iterations of SciPy, whose versions differ in how they take that."""


class Perceptron(CallbackSupportMixin, BaseEstimator):
    """What `MLPClassifier` and `MLPRegressor` share."""

    _out_activation: Callable[[], str]  # scikit-learn's name of it
    _score_function: Callable[..., float]
    _net: Network | None = None
    _made: dict[str, Any] = {}  # noqa: RUF012  what it was made by
    _masks: np.random.Generator | None = None  # draws dropout, from one training to the next
    _views: Sequence[np.ndarray] = ()  # the network's parameters, as scikit-learn shows them
    _random_state: Any
    n_outputs_: int
    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]

    def __init__(self, settings: dict[str, Any]) -> None:
        left_out = "self", "__class__"  # of the `locals()` of a constructor that calls super()
        self.__dict__.update({name: x for name, x in settings.items() if name not in left_out})

    def __getstate__(self) -> dict[str, Any]:
        made = "_net", "_made", "_views"
        return {k: x for k, x in super().__getstate__().items() if k not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "coefs_"):
            self._bind()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _validate_params(self) -> None:
        # Also what a subclass fixes, so that it is none of its parameters.
        limits, name = self._parameter_constraints, type(self).__name__
        values = {k: getattr(self, k) for k in limits if hasattr(self, k)}
        sklearn_private.validate_parameters(limits, values, name)

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        given, numeric = (X, y), not is_classifier(self)
        X, y = validation.validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=numeric,
            dtype=(np.float64, np.float32), reset=reset,
        )  # fmt: skip
        _check_numbers(given[0])
        (checks.numbers_array if numeric else checks.not_masked)("y", given[1])
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _encode_validation(self, y: np.ndarray) -> np.ndarray:
        """Return the targets of validation samples in the form of those for training."""
        return y

    def _validation(self, X: Any, y: Any, sample_weight: Any) -> Validation | None:
        """Return the user's validation set, checked; None if there is none."""
        if X is None and y is None and sample_weight is None:
            return None
        if X is None or y is None:
            missing = "X_val" if X is None else "y_val"
            raise ValueError(f"X_val and y_val must be given together; got no {missing}")
        with _naming("X_val, y_val"):
            X, y = Perceptron._validate_input(self, X, y, incremental=True, reset=False)
            if X.shape[0] < 2:
                raise ValueError(f"must hold at least 2 samples; got {X.shape[0]}")
            y = self._encode_validation(y)
            y = y.reshape(-1, 1) if y.ndim == 1 else y
            if y.shape[1] != self.n_outputs_:
                raise ValueError(f"y must have {self.n_outputs_} columns; got {y.shape[1]}")
        if sample_weight is not None:
            name = "sample_weight_val"
            sample_weight = checks.sample_weight(name, sample_weight, X.shape[0], np.float64)
        return self._validated(X, y, sample_weight)

    def _validated(self, X: Any, y: np.ndarray, weights: Any) -> Validation:
        """Return the samples with what judges them; y is (n, n_outputs)."""
        labels = self._labels(y)  # as the user's y

        def judge() -> tuple[float, float]:
            outputs = self._outputs(X, check_input=False)
            loss = sklearn_private.mean_loss(self, y, outputs, weights)
            return loss, self._score(outputs, labels, weights)

        return Validation(self, judge)

    def _weigh(self, y: np.ndarray, sample_weight: Any, incremental: bool) -> Any:
        return sample_weight  # None if all are equal

    def _labels(self, y: np.ndarray) -> np.ndarray:
        """Return outputs or targets in the form of the user's y."""
        return y

    @property
    def _parameters(self) -> list[np.ndarray]:
        return [np.asarray(part) for part in (*self.coefs_, *self.intercepts_)]

    def _synced(self) -> Network:
        """Return the network, with the values that `coefs_` and `intercepts_` have now."""
        dtype = np.result_type(*self._parameters)
        config: dict[str, Any] = {
            "sizes": [len(self.coefs_[0]), *(np.shape(W)[1] for W in self.coefs_)],
            "dtype": "float32" if dtype == np.float32 else "float64",
            **words.functions(self, OUTPUTS),
        }
        if self._net is None or config != self._made:
            self._net, self._made = Network(**config, seed=0), config
            columns.compared.add(self._net)  # theirs does not warn of columns either
            self._views = [*(W.T for W in self._net.weights), *self._net.biases]
        for view, part in zip(self._views, self._parameters, strict=True):
            if part is not view:
                view[...] = part
        return self._net

    def _bind(self) -> Network:
        """Return the network; from now on `coefs_` and `intercepts_` are views into it."""
        net, layers = self._synced(), len(self.coefs_)
        self.coefs_, self.intercepts_ = list(self._views[:layers]), list(self._views[layers:])
        return net

    def _initialize(self, layer_units: Sequence[int], dtype: Any) -> None:
        """Set weights and records to their start; the weights in new arrays."""
        self._net, self.n_iter_, self.t_, self.n_layers_ = None, 0, 0, len(layer_units)
        self.out_activation_ = self._out_activation()
        self.coefs_, self.intercepts_, self._masks = [], [], None
        for l, (fan_in, fan_out) in enumerate(pairwise(layer_units)):
            # Glorot and Bengio, *Understanding the difficulty of training deep feedforward neural
            # networks*, 2010.
            of_sigmoid = self._activation_of(l) == "logistic"
            bound = np.sqrt((2.0 if of_sigmoid else 6.0) / (fan_in + fan_out))
            for parts, shape in ((self.coefs_, (fan_in, fan_out)), (self.intercepts_, fan_out)):
                drawn = self._random_state.uniform(-bound, bound, shape)
                parts.append(drawn.astype(dtype, copy=False))

    def _activation_of(self, layer: int) -> Any:
        """Return what a layer begins by: its activation, or for the output that of the last one."""
        if isinstance(self.activation, (list, tuple)):
            return [*self.activation, *self.activation[-1:], None][layer]
        return self.activation

    def _begin_records(self, stops: bool) -> None:
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.validation_scores_: list[float] | None = [] if stops else None
        self.validation_loss_curve_: list[float] | None = [] if stops else None
        self.best_validation_score_ = -np.inf if stops else None
        self.best_loss_ = None if stops else np.inf

    def _begin_validation(self) -> None:
        """Let validation curves begin or go on, with NaN for epochs that were not scored."""
        for name in ("validation_scores_", "validation_loss_curve_"):
            curve = getattr(self, name, None) or []
            setattr(self, name, curve + [np.nan] * (len(self.loss_curve_) - len(curve)))
        if self.best_validation_score_ is None:
            self.best_validation_score_ = -np.inf

    @property
    def history_(self) -> History:
        """The curves as a `fastbp.History`, with `plot` and `to_frame`.

        `val_accuracy` holds the validation scores of a classifier.
        """
        validation.check_is_fitted(self)
        val_losses = getattr(self, "validation_loss_curve_", None) or []
        if self.solver not in STOCHASTIC and not val_losses:
            raise AttributeError("'lbfgs' records curves only if fit gets X_val and y_val")
        losses, scores = list(self.loss_curve_), self.validation_scores_ or []
        val_losses, accuracies = (
            curve + [np.nan] * (len(losses) - len(curve)) if curve else []
            for curve in (val_losses, scores if is_classifier(self) else [])
        )
        history = History(loss=losses, val_loss=val_losses, val_accuracy=accuracies)
        stopped = self.solver in STOCHASTIC and self.best_loss_ is None  # by the best score
        if stopped and not np.isnan(scores).all():
            history.restored = int(np.nanargmax(scores)) + 1
        return history

    @sklearn_private.validating
    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, X_val: Any = None,
        y_val: ArrayLike | None = None, sample_weight_val: ArrayLike | None = None,
    ) -> Self:  # fmt: skip
        """Train from a new start, or from the last weights with `warm_start`.

        Parameters
        ----------
        X : (n, n_features) array or sparse matrix
            float32 is kept; everything else becomes float64.
        y : (n,) or (n, n_outputs) array of classes, or of numbers for a regressor
        sample_weight : (n,) array, default None, which weighs all samples equally
        X_val, y_val, sample_weight_val : like X, y and sample_weight, default None
            A validation set of your own, scored after each epoch, or iteration of "lbfgs". With
            `early_stopping`, it takes the place of the samples that would be set aside; without,
            weights and losses are those of a training without it.

        Raises
        ------
        ValueError
            In scikit-learn's words, if a parameter or the data do not fit, or if the weights would
            no longer be finite; the estimator then keeps the last finite ones.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation_set: tuple[Any, Any, Any],
        incremental: bool = False,
    ) -> Self:  # fmt: skip
        hidden = np.atleast_1d(self.hidden_layer_sizes).tolist()
        if min(hidden, default=1) <= 0:
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        choices.hidden(words.activation(self.activation), len(hidden))
        if choices.dropout(self.dropout, len(hidden)) and self.solver not in STOCHASTIC:
            raise ValueError(
                f"dropout must be 0 with solver {self.solver!r}, whose steps all need the same "
                f"loss; got {self.dropout!r}. Use 'adam' or 'sgd'"
            )
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._validate_input(X, y, incremental, reset=first_pass)
        if sample_weight is not None:
            checks.numbers_array("sample_weight", sample_weight)
            sample_weight = sklearn_private.check_sample_weight(sample_weight, X)
            checks.sample_weight("sample_weight", sample_weight, X.shape[0], X.dtype)
        y = y.reshape(-1, 1) if y.ndim == 1 else y
        if not first_pass and y.shape[1] != self.n_outputs_:
            raise ValueError(f"y must have {self.n_outputs_} columns, as before; got {y.shape[1]}")
        weights, self.n_outputs_ = self._weigh(y, sample_weight, incremental), y.shape[1]
        held_out = self._validation(*validation_set)
        self._random_state = check_random_state(self.random_state)
        if first_pass:
            self._initialize([X.shape[1], *hidden, self.n_outputs_], X.dtype)
        tasks = 1 if incremental and self.solver in STOCHASTIC else self.max_iter
        context = self._init_callback_context(max_subtasks=tasks)
        told = self._told(X, y, sample_weight)
        context.call_on_fit_task_begin(**told)
        if self.solver in STOCHASTIC:
            # Anew too where the solver or `early_stopping` was another one before.
            stops, known = bool(self.early_stopping), hasattr(self, "best_loss_")
            if first_pass or not known or stops != (self.best_loss_ is None):
                self._begin_records(stops)
            self._fit_stochastic(X, y, weights, held_out, context, incremental)
        else:
            self._fit_lbfgs(X, y, weights, held_out, context)
        if not all(np.isfinite(part).all() for part in self._parameters):
            raise ValueError(NOT_FINITE)
        context.call_on_fit_task_end(**told, reconstruction_attributes={})
        return self

    def _told(self, X: Any, y: np.ndarray, weights: Any) -> dict[str, Any]:
        """Return what scikit-learn's callbacks are told, with y as the user's."""
        metadata = None if weights is None else {"sample_weight": weights}
        return {"estimator": self, "X": X, "y": lambda: self._shown(y), "metadata": metadata}

    def _targets(self, y: np.ndarray, net: Network) -> Any:
        if self.out_activation_ == "softmax":
            return y.argmax(axis=1)
        y = y[:, 0] if y.shape[1] == 1 else y
        return y.astype(net.dtype) if y.dtype == bool else y

    def _fit_stochastic(
        self, X: Any, y: np.ndarray, weights: Any, held_out: Validation | None, context: Any,
        incremental: bool,
    ) -> None:  # fmt: skip
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = Solver(self)
        rule = self._optimizer.rule
        rule.l2, rule.l2_over_sum = float(self.alpha), True
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        net, stops = self._bind(), bool(self.early_stopping)
        if net.config["dropout"]:
            if self._masks is None:
                seed = self._random_state.randint(np.iinfo(np.int32).max)
                self._masks = np.random.default_rng(seed)
            net.rng = self._masks
        if stops and held_out is None:
            # As a whole, so that errors name the user's rows.
            checks.batch(X, self._targets(y, net), Config.checked(**net.config))
            X, y, weights, held_out = self._split(X, y, weights)
        if held_out:
            self._begin_validation()
        batch_size = self._batch_size(n := X.shape[0])
        watch = Watch(
            self, self._optimizer, Losses(self.loss, y, weights), np.arange(n), self._random_state,
            batch_size, held_out, stops, self._no_improvement_count,
        )  # fmt: skip
        epochs = 1 if incremental else self.max_iter
        callbacks: list[EpochCallback] = [watch]
        if sklearn_private.has_callbacks(self):
            told = self._told(X, y, weights)
            callbacks.append(Tasks(context, "epoch", epochs, told, watch, Perceptron._bind))
        if stops and not self.t_:  # if no score is above -inf, the start is kept
            watch.best = net.to_vector()
        self.n_iter_ = 0
        try:
            history = net.fit(
                X, self._targets(y, net), epochs=epochs,
                batch_size=batch_size, learning_rate=self._optimizer, optimizer=rule,
                shuffle=False, order=watch.order if self.shuffle else None, callbacks=callbacks,
                sample_weight=weights, threads=self.n_threads,
            )  # fmt: skip
            if not (incremental or history.stopped):
                reached = f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached"
                message = f"{reached} and the optimization hasn't converged yet."
                warnings.warn(message, ConvergenceWarning, stacklevel=2)
        except DivergenceError as error:
            raise ValueError(NOT_FINITE) from error
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        finally:
            self._no_improvement_count = watch.stalled
        if watch.best is not None:
            net.from_vector(watch.best)

    def _split(self, X: Any, y: np.ndarray, weights: Any) -> tuple[Any, ...]:
        """Set samples aside; return X, y and weights of the others, and these."""
        given = [X, y] if weights is None else [X, y, weights]
        parts = train_test_split(
            *given, random_state=self._random_state, test_size=self.validation_fraction,
            stratify=y if is_classifier(self) and self.n_outputs_ == 1 else None,
        )  # fmt: skip
        X, y, *weights = parts[::2]
        X_val, y_val, *weights_val = parts[1::2]
        if X_val.shape[0] < 2:
            advice = "Increase 'validation_fraction' or the size of your dataset."
            raise ValueError(f"The validation set is too small. {advice}")
        if not all(part.any() for part in (*weights, *weights_val)):
            nothing = "sample_weight is 0 for all samples of the validation set, or for all others"
            advice = "Give weight to more samples, or change validation_fraction or random_state."
            raise ValueError(f"{nothing}. {advice}")
        held_out = self._validated(X_val, y_val, weights_val[0] if weights_val else None)
        return X, y, weights[0] if weights else None, held_out

    def _batch_size(self, n: int) -> int:
        if self.batch_size == "auto":
            return min(200, n)
        if self.batch_size > n:
            message = "Got `batch_size` less than 1 or larger than sample size. It is going to be"
            warnings.warn(f"{message} clipped", stacklevel=2)
        return min(int(self.batch_size), n)

    def _fit_lbfgs(
        self, X: Any, y: np.ndarray, weights: Any, held_out: Validation | None, context: Any
    ) -> None:
        # In double precision whatever X is, and in new arrays, as scikit-learn's are.
        self._net, n = None, X.shape[0]
        self.coefs_ = [W.astype(np.float64, copy=False) for W in self.coefs_]
        self.intercepts_ = [b.astype(np.float64, copy=False) for b in self.intercepts_]
        net = self._bind()
        X, y_net = X.astype(np.float64, copy=False), self._targets(y, net)
        total = n if weights is None else weights.sum(dtype=np.float64)
        losses, order = Losses(self.loss, y, weights), np.arange(n)

        def loss_and_gradient(packed: np.ndarray) -> tuple[float, np.ndarray]:
            _unpack(packed, self._parameters)
            found = net.gradient(X, y_net, weights)
            penalty = 0.5 * self.alpha * sum(np.vdot(W, W) for W in self.coefs_) / total
            pairs = zip(found.weights, self.coefs_, strict=True)
            grads = [dW.T + self.alpha * W / total for dW, W in pairs]
            self.loss_ = losses.of(found.loss, penalty, order, n)
            return self.loss_, _pack([*grads, *found.biases])

        if not held_out and getattr(self, "validation_loss_curve_", None):  # of a fit before
            self.loss_curve_, self.validation_scores_, self.validation_loss_curve_ = [], None, None
        tasks = None
        if sklearn_private.has_callbacks(self):
            told = self._told(X, y, weights)
            tasks = Tasks(context, "lbfgs-iter", self.max_iter, told)
            tasks.begin()
        follow = self._iteration_follower(held_out, tasks) if held_out or tasks else None
        try:
            found = minimize(
                loss_and_gradient, _pack(self._parameters), method="L-BFGS-B", jac=True,
                callback=follow,
                options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
            )  # fmt: skip
        except _Stopped:  # weights, loss and number of iterations are those of the last iteration
            return
        self.n_iter_ = sklearn_private.check_optimize_result("lbfgs", found, self.max_iter)
        self.loss_ = found.fun
        _unpack(found.x, self._parameters)
        if tasks:
            tasks.close()

    def _iteration_follower(
        self, held_out: Validation | None, tasks: Tasks | None
    ) -> Callable[[np.ndarray], None]:
        """Return what follows each iteration of L-BFGS."""
        self.n_iter_ = 0
        if held_out:
            self.loss_curve_ = []
            self.validation_scores_, self.validation_loss_curve_ = [], []
            self.best_validation_score_ = -np.inf

        def follow(packed: np.ndarray) -> None:
            _unpack(packed, self._parameters)
            self.n_iter_ += 1
            if held_out:
                self.loss_curve_.append(self.loss_)  # of the newest evaluation, which is of these
                held_out.follow()
            if tasks:
                if tasks.end():
                    raise _Stopped
                tasks.begin()

        return follow

    def _outputs(self, X: Any, check_input: bool = True) -> np.ndarray:
        """Return the outputs of the network, in the precision that X @ W would have."""
        if check_input:
            given = X
            X = validation.validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
            _check_numbers(given)
        net = self._synced()
        outputs = net.feedforward(X, self.n_threads)
        return outputs.astype(np.result_type(X.dtype, net.dtype), copy=False)

    def _shown(self, y: np.ndarray) -> np.ndarray:
        """Return (n, n_outputs) outputs or targets as the user's y."""
        return self._labels(y.ravel() if y.shape[1] == 1 else y)

    def predict(self, X: Any) -> np.ndarray:
        """Return the classes, or a regressor's numbers, (n,) or (n, n_outputs); X as for `fit`."""
        validation.check_is_fitted(self)
        return self._shown(self._outputs(X))

    def _score(self, outputs: np.ndarray, y: np.ndarray, sample_weight: Any = None) -> float:
        """Return the score of outputs; NaN where they are not finite."""
        predicted = self._shown(outputs)
        if np.issubdtype(predicted.dtype, np.floating) and not np.isfinite(predicted).all():
            return np.nan
        return type(self)._score_function(y, predicted, sample_weight=sample_weight)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Put what is wrong before the words of an error."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{what}: {error}") from error


def _check_numbers(X: Any) -> None:
    """Raise an error for texts, dates and masked values, of which scikit-learn makes numbers."""
    if not checks.is_sparse(X):
        checks.numbers_array("X", X)


def _pack(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.ravel() for part in parts])  # in scikit-learn's order


def _unpack(packed: np.ndarray, parts: Sequence[np.ndarray]) -> None:
    """Write a vector of `_pack` back into the parts."""
    ends = np.cumsum([part.size for part in parts])
    for part, values in zip(parts, np.split(packed, ends[:-1]), strict=True):
        part[...] = values.reshape(part.shape)
