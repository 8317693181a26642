"""scikit-learn's `MLPClassifier` and `MLPRegressor`, trained by fastbp: change one import.

Parameters, attributes, methods, warnings and errors are those of scikit-learn 1.9, and so is the
use of random numbers: the same `random_state` gives the same start, validation set and orders of
samples. Training is `Network.fit`, or SciPy's L-BFGS on `Network.gradient`. scikit-learn is an
extra.
"""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "estimators need scikit-learn, install it with: pip install 'fastbp[sklearn]'",
        name=error.name,
    ) from error
from sklearn.base import ClassifierMixin, RegressorMixin, _fit_context
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from .perceptron import Perceptron

__all__ = ["MLPClassifier", "MLPRegressor"]


class MLPClassifier(ClassifierMixin, Perceptron):
    """A multi-layer perceptron that learns classes, in place of scikit-learn's.

    Two classes have one sigmoid output, more have softmax, several labels a sigmoid each. The loss
    is cross-entropy, plus `alpha` / 2 times the sum of squared weights over the sum of the weights
    of a batch's samples.

    It differs from scikit-learn's in this: the loss of an output that is wrong to the last bit is
    exact, where scikit-learn cuts probabilities at the dtype's precision; samples must not weigh
    less than 0, and a batch in which none counts is left out; training ends where weights would no
    longer be finite, and keeps the last that are.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int
        Neurons of the hidden layers.
    activation : {"identity", "logistic", "tanh", "relu"}
        Of the hidden layers.
    solver : {"adam", "sgd", "lbfgs"}
        "lbfgs" is SciPy's, on all samples at once, in float64.
    alpha : float
        Strength of the penalty on large weights.
    batch_size : int or "auto"
        "auto" is 200, or all samples if they are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}
        Of "sgd": the same all the time; `learning_rate_init / t**power_t` after t samples; or
        divided by 5 whenever training no longer gets better.
    learning_rate_init, power_t : float
    max_iter : int
        Epochs; of "lbfgs" iterations.
    shuffle : bool
        A new order of samples for each epoch.
    random_state : int, RandomState or None
        Of the start, of the validation set and of the orders.
    tol, n_iter_no_change : float, int
        Training no longer gets better if the loss, or the validation score, has not by more than
        `tol` for more than `n_iter_no_change` epochs.
    verbose : bool
        Print each epoch.
    warm_start : bool
        `fit` goes on from the weights that there are.
    momentum, nesterovs_momentum : float, bool
        Of "sgd".
    early_stopping, validation_fraction : bool, float
        Set this share of the samples aside, stop by their score, and keep the weights of the best.
    beta_1, beta_2, epsilon : float
        Of "adam".
    max_fun : int
        How often "lbfgs" may ask for the loss.
    class_weight : dict, "balanced", list of dict, or None
        How much samples of each class count. scikit-learn's has no such parameter.
    n_threads : int
        How many threads may take part, in all but "lbfgs"; the results have the same bits for any
        number. scikit-learn's has no such parameter.

    Attributes
    ----------
    classes_ : array, or list of arrays
    loss_ : float
        Of the last epoch: the mean over its batches as they were seen, with the penalty.
    best_loss_ : float or None
    loss_curve_ : list of float
    validation_scores_, best_validation_score_ : list of float, float, or None
        Accuracies.
    t_ : int
        Samples seen.
    coefs_, intercepts_ : list of (n_in, n_out) arrays, list of (n_out,) arrays
        Write into them, or put others in their place: `predict` and further training use them.
    n_features_in_, feature_names_in_, n_iter_, n_layers_, n_outputs_, out_activation_

    References
    ----------
    https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPClassifier.html

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.estimator import MLPClassifier
    >>> X_train, y_train, X_test, y_test = fastbp.datasets.load("digits")
    >>> model = MLPClassifier([30], learning_rate_init=0.01, early_stopping=True, random_state=0)
    >>> model.fit(X_train / 16, y_train).score(X_test / 16, y_test) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Perceptron._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }
    _score_function = staticmethod(accuracy_score)
    loss = "log_loss"

    def __init__(
        self, hidden_layer_sizes: Any = (100,), activation: str = "relu", *, solver: str = "adam",
        alpha: float = 0.0001, batch_size: int | str = "auto", learning_rate: str = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200,
        shuffle: bool = True, random_state: Any = None, tol: float = 1e-4, verbose: Any = False,
        warm_start: bool = False, momentum: float = 0.9, nesterovs_momentum: bool = True,
        early_stopping: bool = False, validation_fraction: float = 0.1, beta_1: float = 0.9,
        beta_2: float = 0.999, epsilon: float = 1e-8, n_iter_no_change: float = 10,
        max_fun: int = 15000, class_weight: Any = None, n_threads: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _out_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _labels(self, y: np.ndarray) -> np.ndarray:
        return self._label_binarizer.inverse_transform(y)

    def _validate_input(
        self, X: Any, y: Any, incremental: bool, reset: bool
    ) -> tuple[Any, np.ndarray]:
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True,
            dtype=(np.float64, np.float32), reset=reset,
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._compare_classes(unique_labels(y))
        return X, self._label_binarizer.transform(y).astype(bool)

    def _compare_classes(self, classes: np.ndarray) -> None:
        """Raise if the classes are not those from before."""
        if self.warm_start and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {classes}"
            )
        if len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"'y' has {classes}."
            )

    def _weigh(self, y: np.ndarray, sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which sees a part of "
                "the samples: pass a dict, as compute_class_weight('balanced', classes=classes, "
                "y=y) of all samples gives it"
            )
        if self._label_binarizer.y_type_.startswith("multilabel"):
            weights = compute_sample_weight(self.class_weight, y.astype(int))
        else:
            places = y[:, 0].astype(int) if y.shape[1] == 1 else y.argmax(axis=1)
            by_class = compute_class_weight(
                self.class_weight, classes=self.classes_, y=self.classes_[places]
            )
            weights = by_class[places]
        return weights if sample_weight is None else weights * sample_weight

    @available_if(lambda self: self._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:  # fmt: skip
        """Train for one epoch more; the optimiser goes on where it was.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : (n_classes,) array, optional
            All classes there are; needed in the first call, in which y may lack some.

        Returns
        -------
        self
        """
        if _check_partial_fit_first_call(self, classes):
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def _predict(self, X: Any, check_input: bool = True) -> np.ndarray:
        outputs = self._outputs(X, check_input)
        return self._labels(outputs.ravel() if self.n_outputs_ == 1 else outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : (n, n_features) array or sparse matrix

        Returns
        -------
        (n, n_classes) array
            Classes are ordered as in `classes_`.
        """
        check_is_fitted(self)
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of what `predict_proba` returns."""
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)


class MLPRegressor(RegressorMixin, Perceptron):
    """A multi-layer perceptron that learns numbers, in place of scikit-learn's.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}
        Half the squared error, or half Poisson's deviance, for y of at least 0; the output is then
        exp.
    hidden_layer_sizes, activation, ...
        As for `MLPClassifier`, without `class_weight`. Samples set aside for early stopping are
        scored by R squared.

    Attributes
    ----------
    loss_, best_loss_, ...
        As of `MLPClassifier`, without `classes_`.

    References
    ----------
    https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPRegressor.html

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.estimator import MLPRegressor
    >>> X = np.linspace(-1, 1, 200).reshape(100, 2)
    >>> model = MLPRegressor(hidden_layer_sizes=[20], solver="lbfgs", max_iter=1000, random_state=0)
    >>> model.fit(X, np.sin(3 * X[:, 0])).score(X, np.sin(3 * X[:, 0])) > 0.99
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Perceptron._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }
    _score_function = staticmethod(r2_score)

    def __init__(
        self, loss: str = "squared_error", hidden_layer_sizes: Any = (100,),
        activation: str = "relu", *, solver: str = "adam", alpha: float = 0.0001,
        batch_size: int | str = "auto", learning_rate: str = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200,
        shuffle: bool = True, random_state: Any = None, tol: float = 1e-4, verbose: Any = False,
        warm_start: bool = False, momentum: float = 0.9, nesterovs_momentum: bool = True,
        early_stopping: bool = False, validation_fraction: float = 0.1, beta_1: float = 0.9,
        beta_2: float = 0.999, epsilon: float = 1e-8, n_iter_no_change: float = 10,
        max_fun: int = 15000, n_threads: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(locals())

    def _out_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _validate_input(
        self, X: Any, y: Any, incremental: bool, reset: bool
    ) -> tuple[Any, np.ndarray]:
        X, y = validate_data(
            self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True,
            dtype=(np.float64, np.float32), reset=reset,
        )  # fmt: skip
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    # The method itself is true: scikit-learn's regressor, too, has it with "lbfgs", and then runs
    # that from the weights that there are.
    @available_if(lambda self: self._check_solver)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train for one epoch more; the optimiser goes on where it was.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _predict(self, X: Any, check_input: bool = True) -> np.ndarray:
        outputs = self._outputs(X, check_input)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
