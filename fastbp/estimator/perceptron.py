"""What `MLPClassifier` and `MLPRegressor` share: parameters, weights, training, prediction."""

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Integral, Interval
from sklearn.utils.fixes import _get_additional_lbfgs_options_dict
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ..errors import DivergenceError
from ..interchange.estimators import ACTIVATIONS, OUTPUTS
from ..network import Network
from .epochs import NOT_FINITE, Losses, Shuffles, Watch, solver_of

STOCHASTIC = ("sgd", "adam")
HIDDEN = {theirs: ours for ours, theirs in ACTIVATIONS.items()}
BATCH_SIZE = 200  # at most, for "auto"


class Body:
    """A network, and its parameters as scikit-learn shows them: views into its buffer."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config, self.net = config, Network(**config, seed=0)
        self.coefs = [W.T for W in self.net.weights]
        self.intercepts = list(self.net.biases)

    def take(self, coefs: Sequence[np.ndarray], intercepts: Sequence[np.ndarray]) -> Network:
        """Return the network with these parameters; those that are its own views are there."""
        own = [*self.coefs, *self.intercepts]
        for view, part in zip(own, [*coefs, *intercepts], strict=True):
            if part is not view:
                view[...] = part
        return self.net


def _packed(coefs: Sequence[np.ndarray], intercepts: Sequence[np.ndarray]) -> np.ndarray:
    """Return all parameters, or their gradients, in scikit-learn's order."""
    return np.concatenate([part.ravel() for part in (*coefs, *intercepts)])


def _fill(parts: Sequence[np.ndarray], packed: np.ndarray) -> None:
    """Write what `_packed` returned back into its parts."""
    done = 0
    for part in parts:
        part[...] = packed[done : done + part.size].reshape(part.shape)
        done += part.size


class Perceptron(BaseEstimator):
    """What `MLPClassifier` and `MLPRegressor` share."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMultilayerPerceptron._parameter_constraints,
        "n_threads": [Interval(Integral, 1, None, closed="left")],
    }
    _score_function: Callable[..., float]
    _body: Body | None = None
    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]

    def __init__(self, settings: dict[str, Any]) -> None:
        for name in self._get_param_names():
            setattr(self, name, settings[name])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_body"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "coefs_"):
            self._bind()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # -- the network -------------------------------------------------------------------------------

    def _network(self) -> Network:
        """Return the network of `coefs_` and `intercepts_`, whatever was written there."""
        return self._made().take(self.coefs_, self.intercepts_)

    def _made(self) -> Body:
        """Return the body for parameters of these shapes; a new one if the last does not fit."""
        output, loss = OUTPUTS[self.out_activation_]
        dtype = np.result_type(*self.coefs_, *self.intercepts_)
        config = {
            "sizes": [len(self.coefs_[0]), *(W.shape[1] for W in self.coefs_)],
            "activation": HIDDEN[self.activation], "output": output, "loss": loss,
            "dtype": "float32" if dtype == np.float32 else "float64",
        }  # fmt: skip
        if self._body is None or self._body.config != config:
            self._body = Body(config)
        return self._body

    def _bind(self) -> Network:
        """Return the network; from now on `coefs_` and `intercepts_` are views into it."""
        body = self._made()
        net = body.take(self.coefs_, self.intercepts_)
        self.coefs_, self.intercepts_ = list(body.coefs), list(body.intercepts)
        return net

    def _initialize(self, layer_units: Sequence[int], dtype: Any) -> None:
        """Set what is learnt, and what is noted of it, to their start, in arrays of their own."""
        self._body = None
        self.n_iter_, self.t_ = 0, 0
        self.n_layers_ = len(layer_units)
        self.out_activation_ = self._out_activation()
        parts = [self._init_layer(*fans, dtype) for fans in pairwise(layer_units)]
        self.coefs_, self.intercepts_ = (list(part) for part in zip(*parts, strict=True))
        if self.solver in STOCHASTIC:
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            stops = bool(self.early_stopping)
            self.validation_scores_: list[float] | None = [] if stops else None
            self.best_validation_score_ = -np.inf if stops else None
            self.best_loss_ = None if stops else np.inf

    def _init_layer(self, fan_in: int, fan_out: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights and biases that a layer starts with.

        Glorot and Bengio, *Understanding the difficulty of training deep feedforward neural
        networks*, 2010.
        """
        bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / (fan_in + fan_out))
        W, b = (
            self._random_state.uniform(-bound, bound, shape)
            for shape in ((fan_in, fan_out), (fan_out,))
        )
        return W.astype(dtype, copy=False), b.astype(dtype, copy=False)

    # -- training ----------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train anew, or go on with `warm_start`.

        Parameters
        ----------
        X : (n, n_features) array or sparse matrix
            float32 is kept; everything else becomes float64.
        y : (n,) or (n, n_outputs) array
            Classes, or numbers for a regressor.
        sample_weight : (n,) array, optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data do not fit, in scikit-learn's words, or if the weights would
            no longer be finite; they are then those from before.
        """
        return self._fit(X, y, sample_weight)

    def _fit(self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False) -> Self:
        hidden = self._hidden_sizes()
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._validate_input(X, y, incremental, reset=first_pass)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        y = y.reshape(-1, 1) if y.ndim == 1 else y
        sample_weight = self._weigh(y, sample_weight, incremental)
        self.n_outputs_ = y.shape[1]
        self._random_state = check_random_state(self.random_state)
        if first_pass:
            self._initialize([X.shape[1], *hidden, self.n_outputs_], X.dtype)
        if self.solver in STOCHASTIC:
            self._fit_stochastic(X, y, sample_weight, incremental)
        else:
            self._fit_lbfgs(X, y, sample_weight)
        if not all(np.isfinite(part).all() for part in (*self.coefs_, *self.intercepts_)):
            raise ValueError(NOT_FINITE)
        return self

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _weigh(self, y: np.ndarray, sample_weight: Any, incremental: bool) -> Any:
        """Return how much each sample counts; None for all alike."""
        return sample_weight

    def _targets(self, y: np.ndarray, net: Network) -> np.ndarray:
        """Return y as a network takes it."""
        return y.argmax(axis=1) if self.out_activation_ == "softmax" else y.astype(net.dtype)

    def _fit_stochastic(self, X: Any, y: np.ndarray, weights: Any, incremental: bool) -> None:
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = solver_of(self)
        rule = self._optimizer.rule
        rule.l2, rule.l2_over_sum = float(self.alpha), True
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        net, validation = self._bind(), None
        if self.early_stopping:
            X, y, weights, validation = self._split(X, y, weights)
        n = X.shape[0]
        batch_size, order = self._batch_size(n), Shuffles(n, self._random_state)
        watch = Watch(self, Losses(self.loss, y, weights), order, batch_size, validation)
        if validation and not self.t_:  # a start that no score is above is what is kept
            watch.best = net.to_vector()
        self.n_iter_ = 0
        try:
            history = net.fit(
                X, self._targets(y, net), epochs=1 if incremental else self.max_iter,
                batch_size=batch_size, learning_rate=self._optimizer, optimizer=rule,
                shuffle=False, order=order if self.shuffle else None, callbacks=[watch],
                sample_weight=weights, threads=self.n_threads,
            )  # fmt: skip
            if not (incremental or history.stopped):
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                    "optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
        except DivergenceError as error:
            raise ValueError(NOT_FINITE) from error
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        if watch.best is not None:
            net.from_vector(watch.best)

    def _split(self, X: Any, y: np.ndarray, weights: Any) -> tuple[Any, ...]:
        """Set samples aside: return X, y and weights to train on, and those to validate on."""
        given = [X, y] if weights is None else [X, y, weights]
        parts = train_test_split(
            *given, random_state=self._random_state, test_size=self.validation_fraction,
            stratify=y if is_classifier(self) and self.n_outputs_ == 1 else None,
        )  # fmt: skip
        X, y, *weights = parts[::2]
        X_val, y_val, *weights_val = parts[1::2]
        if X_val.shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        validation = X_val, self._labels(y_val), *weights_val
        return X, y, weights[0] if weights else None, validation

    def _labels(self, y: np.ndarray) -> np.ndarray:
        """Return targets as the user has them."""
        return y

    def _batch_size(self, n: int) -> int:
        if self.batch_size == "auto":
            return min(BATCH_SIZE, n)
        if self.batch_size > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=2,
            )
        return min(self.batch_size, n)

    def _fit_lbfgs(self, X: Any, y: np.ndarray, weights: Any) -> None:
        # In double precision whatever X is, and in new arrays, as scikit-learn's are.
        self._body = None
        self.coefs_ = [W.astype(np.float64, copy=False) for W in self.coefs_]
        self.intercepts_ = [b.astype(np.float64, copy=False) for b in self.intercepts_]
        net = self._bind()
        X, y_net = X.astype(np.float64, copy=False), self._targets(y, net)
        n = X.shape[0]
        total = n if weights is None else weights.sum(dtype=np.float64)
        losses, order = Losses(self.loss, y, weights), np.arange(n)
        parts = [*self.coefs_, *self.intercepts_]

        def loss_and_gradient(packed: np.ndarray) -> tuple[float, np.ndarray]:
            _fill(parts, packed)
            found = net.gradient(X, y_net, weights)
            squares = sum(np.vdot(W, W) for W in self.coefs_)
            loss = losses.of(found.loss, 0.5 * self.alpha * squares / total, order, n)
            pairs = zip(found.weights, self.coefs_, strict=True)
            grads = [dW.T + self.alpha * W / total for dW, W in pairs]
            return loss, _packed(grads, found.biases)

        verbosity = 1 if self.verbose is True or self.verbose >= 1 else -1
        found = minimize(
            loss_and_gradient, _packed(self.coefs_, self.intercepts_), method="L-BFGS-B", jac=True,
            options={
                "maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol,
                **_get_additional_lbfgs_options_dict("iprint", verbosity),
            },
        )  # fmt: skip
        self.n_iter_ = _check_optimize_result("lbfgs", found, self.max_iter)
        self.loss_ = found.fun
        _fill(parts, found.x)

    def _check_solver(self) -> bool:
        if self.solver not in STOCHASTIC:
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    # -- prediction --------------------------------------------------------------------------------

    def _outputs(self, X: Any, check_input: bool = True) -> np.ndarray:
        """Return the network's outputs, in the precision that a product of arrays would have."""
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        net = self._network()
        outputs = net.feedforward(X, self.n_threads)
        return outputs.astype(np.result_type(X.dtype, net.dtype), copy=False)

    def predict(self, X: Any) -> np.ndarray:
        """Return the classes of samples, or a regressor's numbers.

        Parameters
        ----------
        X : (n, n_features) array or sparse matrix

        Returns
        -------
        (n,) or (n, n_outputs) array
        """
        check_is_fitted(self)
        return self._predict(X)

    def _score(self, X: Any, y: np.ndarray, sample_weight: Any = None) -> float:
        """Return the score of validation samples; NaN where predictions are not finite."""
        predicted = self._predict(X, check_input=False)
        if np.issubdtype(predicted.dtype, np.floating) and not np.isfinite(predicted).all():
            return np.nan
        return type(self)._score_function(y, predicted, sample_weight=sample_weight)
