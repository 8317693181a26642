"""scikit-learn's `MLPClassifier` and `MLPRegressor`, trained by fastbp: change one import.

>>> from fastbp.estimator import MLPClassifier  # not sklearn.neural_network
>>> from sklearn.datasets import load_wine
>>> from sklearn.model_selection import GridSearchCV
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import StandardScaler
>>> X, y = load_wine(return_X_y=True)
>>> network = MLPClassifier([20], early_stopping=True, max_iter=200, random_state=0)
>>> model = make_pipeline(StandardScaler(), network)
>>> search = GridSearchCV(model, {"mlpclassifier__learning_rate_init": [0.01, 0.03]}, cv=3)
>>> bool(search.fit(X, y).best_score_ > 0.9)
True

Parameters, attributes, methods, warnings and errors are those of scikit-learn 1.9 (the extra
`sklearn`). Random numbers are drawn in the same way too: the same `random_state` gives the same
initial weights, validation set and orders of samples, and so the same weights and losses, up to
rounding. `coefs_` and `intercepts_` are views that you may write into. Sparse matrices are trained
on without their zeros. More activations, one for each layer, more losses, `dropout`,
`class_weight`, `n_threads`, validation sets, their curves and callbacks are additions, off by
default. What differs is listed in the docstring of `MLPClassifier`.

Training is `Network.fit`, or SciPy's L-BFGS on `Network.gradient`. With `n_jobs`, joblib's
processes share the cache of compiled kernels; `scripts/search.py` shows a search of that kind.
`fastbp.interchange.from_sklearn` makes a `Network` of a fitted estimator, and `to_sklearn` the
reverse.

## Activations, losses and dropout

`activation` also takes "leaky_relu", "elu", "softplus", "silu" and "gelu", and a list with one for
each of the `hidden_layer_sizes`; `dropout` a number, or such a list. The `loss` of a regressor may
be one that outliers move less, "absolute_error" or "huber", or a quantile: here the level that
nine targets in ten stay below. Searches go over all of these as over other parameters.

>>> import numpy as np
>>> from fastbp import losses
>>> from fastbp.estimator import MLPRegressor
>>> rng = np.random.default_rng(0)
>>> x = rng.uniform(size=(500, 1))
>>> waiting = rng.exponential(1 + x[:, 0])
>>> level = MLPRegressor(losses.Quantile(0.9), [8, 8], ["gelu", "tanh"], random_state=0,
...                      learning_rate_init=0.01, max_iter=300).fit(x, waiting)
>>> bool(abs(np.mean(waiting < level.predict(x)) - 0.9) < 0.03)
True

## A validation set of your own

`fit` and `partial_fit` take `X_val`, `y_val` and `sample_weight_val`, as `fit` of scikit-learn's
`HistGradientBoostingClassifier` does. They are scored after each epoch, or each iteration of
L-BFGS. With `early_stopping` they take the place of the samples that would be set aside; without,
the training is the same as without them.

>>> from sklearn.model_selection import train_test_split
>>> X, X_val, y, y_val = train_test_split(X, y, random_state=0, stratify=y)
>>> scaler = StandardScaler().fit(X)
>>> network = MLPClassifier([20], early_stopping=True, learning_rate_init=0.03, random_state=0)
>>> model = network.fit(scaler.transform(X), y, X_val=scaler.transform(X_val), y_val=y_val)
>>> len(model.validation_loss_curve_) == len(model.validation_scores_) == model.n_iter_
True

`validation_loss_curve_` is the loss without the penalty, as `sklearn.metrics.log_loss` computes it
or as half the squared error. `early_stopping` alone records it too. A pipeline transforms `X_val`
as it does `X`, by scikit-learn's metadata routing:

>>> import sklearn
>>> with sklearn.config_context(enable_metadata_routing=True):
...     network = network.set_fit_request(X_val=True, y_val=True)
...     pipeline = make_pipeline(StandardScaler(), network, transform_input=["X_val"])
...     pipeline.fit(X, y, X_val=X_val, y_val=y_val).score(X_val, y_val) > 0.9
True

## Curves

`history_` holds the curves as a `fastbp.History`, which draws itself; several estimators are
compared by `fastbp.plots.learning_curves({"first": model, "second": other})`.

>>> figure = model.history_.plot()
>>> list(model.history_.to_frame().columns)
['loss', 'val_loss', 'val_accuracy']

## Callbacks

`set_callbacks` takes the callbacks of scikit-learn 1.9: its `ProgressBar` and `ScoringMonitor`
(`sklearn.callback`), or objects of your own with these four methods. Each epoch is a task named
"epoch" below the task "fit", and each iteration of L-BFGS one named "lbfgs-iter". To return True at
the end of one ends the training. Hooks that have keyword-only arguments `X`, `y`, `metadata` (the
sample weights) or `fitted_estimator` get these too; the last is a copy, as if the training had
ended there.

>>> class StopAtLoss:
...     def setup(self, estimator, context):
...         "Before the training."
...     def on_fit_task_begin(self, estimator, context):
...         "Before each task."
...     def on_fit_task_end(self, estimator, context):
...         return context.task_name == "epoch" and estimator.loss_ < 0.3
...     def teardown(self, estimator, context):
...         "After the training, also one that failed."
>>> model = MLPClassifier([20], learning_rate_init=0.01, random_state=0)
>>> model.set_callbacks(StopAtLoss()).fit(scaler.transform(X), y).loss_ < 0.3
True

They are no parameters: `clone`, pipelines and searches keep them, and a callback that has
`max_propagation_depth` is passed on from a pipeline or a search.

## Beside other libraries

| | fastbp | scikit-learn | Keras | skorch | SimpleChains.jl |
|---|---|---|---|---|---|
| pipelines, searches and `clone` of scikit-learn | yes | yes | yes | yes | no |
| the weights of `MLPClassifier` for a `random_state` | yes | yes | no | no | no |
| leaky ReLU, ELU, softplus, SiLU and GELU by name | yes | no | yes | yes | no |
| an activation for each layer | yes | no | yes | yes | yes |
| an activation of your own | yes | no | yes | yes | yes |
| the absolute loss | yes | no | yes | yes | yes |
| Huber's loss | yes | no | yes | yes | no |
| the quantile loss | yes | no | no | no | no |
| a loss of your own | yes | no | yes | yes | yes |
| label smoothing | yes | no | yes | yes | no |
| sample weights | yes | yes | yes | no | no |
| class weights | yes | no | yes | yes | no |
| dropout | yes | no | yes | yes | yes |
| an L1 penalty | yes | no | yes | no | yes |
| AdamW and RMSprop | yes | no | yes | yes | no |
| learning rates that warm up | yes | no | yes | yes | no |
| initial weights by He and by Glorot | yes | no | yes | yes | no |
| frozen layers | yes | no | yes | yes | no |
| a validation set of your own | yes | no | yes | yes | no |
| validation score of each epoch | yes | yes | yes | yes | no |
| validation loss of each epoch | yes | no | yes | yes | no |
| callbacks that see each epoch, and end the training | yes | no | yes | yes | no |
| curves in one call | yes | no | no | no | no |
| threads that share a batch, with the same bits | yes | no | no | no | no |

`tests/test_features.py` fills it, by training with each library: with the estimators, or with
`Network` where these lack it. Keras 3.15 and skorch 1.4 run on PyTorch 2.13; what they lack takes
code of your own. The column of SimpleChains.jl 0.4.8 was read in its sources and documentation,
not run; `tests/features/simplechains.toml` says where each cell stands there. The same bits are
those of a batch of 60,000, which PyTorch adds up in parts, as SimpleChains.jl does.

## Speed

How much faster that is than scikit-learn depends on the batch; measured figures stand in
`asv_benchmarks/README.md`.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

try:
    from sklearn import base, metrics, preprocessing
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "estimators need scikit-learn: pip install 'scikit-learn>=1.9,<1.10'",
        name=error.name,
    ) from error
from sklearn.utils import class_weight as weighting
from sklearn.utils import metaestimators, multiclass, validation

from .._support import checks
from . import sklearn_private
from .perceptron import STOCHASTIC, Perceptron

__all__ = ["MLPClassifier", "MLPRegressor"]


def _has_partial_fit(classifier: Any) -> bool:
    if classifier.solver not in STOCHASTIC:
        available = "partial_fit is only available for stochastic optimizers."
        raise AttributeError(f"{available} {classifier.solver} is not stochastic.")
    return True


class MLPClassifier(base.ClassifierMixin, Perceptron):
    """A multi-layer perceptron that learns classes, in place of scikit-learn's.

    Two classes have one sigmoid output, more classes softmax, several labels a sigmoid each. The
    loss is cross-entropy plus a penalty: `alpha` / 2 times the sum of the squared weights, divided
    by the sum of the sample weights of a batch. More in the
    [documentation of the original][1].

    [1]: https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPClassifier.html

    It differs from scikit-learn's in four points. Texts, dates and masked values are no numbers.
    The loss of a saturated wrong output is exact, where scikit-learn clips probabilities at the
    precision of the dtype. Sample weights must be at least 0, and a batch whose weights are all 0
    is skipped. Training ends before weights become non-finite, and keeps the last finite ones.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default (100,)
    activation : str, `fastbp.Activation`, or list with one for each hidden layer, default "relu"
        "identity", "logistic", "tanh", "relu", and those that scikit-learn lacks: "leaky_relu",
        "elu", "softplus", "silu", "gelu", an activation of your own, a list.
    solver : {"adam", "sgd", "lbfgs"}, default "adam"
        "lbfgs" is SciPy's, on all samples at once, in float64.
    alpha : float, default 1e-4
    batch_size : int or "auto" (200, or the number of samples if smaller), default "auto"
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        Of "sgd". "invscaling" is `learning_rate_init / t**power_t` after t samples; "adaptive"
        divides the rate by 5 whenever training stops improving.
    learning_rate_init, power_t : float, defaults 0.001 and 0.5
    max_iter : int, default 200 epochs, or iterations of "lbfgs"
    shuffle : bool, default True; draws a new order of samples for each epoch
    random_state : int, RandomState or None, default None
        Of the initial weights, the validation set and the orders.
    tol, n_iter_no_change : float, int, defaults 1e-4 and 10
        Training stops improving if the loss, or the validation score, has not improved by more than
        `tol` for more than `n_iter_no_change` epochs.
    verbose : bool, default False; True prints each epoch
    warm_start : bool, default False; True lets `fit` continue from the present weights
    momentum, nesterovs_momentum : float, bool, defaults 0.9 and True, of "sgd"
    early_stopping, validation_fraction : bool, float, defaults False and 0.1
        Set this share of the samples aside, stop by their score, and keep the best weights.
    beta_1, beta_2, epsilon : float, defaults 0.9, 0.999 and 1e-8, of "adam"
    max_fun : int, default 15000, at most so many evaluations of the loss by "lbfgs"
    class_weight : dict, "balanced", list of dict or None, default None
        Weight of the samples of each class, by its name in `y`. scikit-learn lacks this parameter
        and the next two.
    n_threads : int, default 1
        Threads, at most, for all but "lbfgs"; results have the same bits for any number.
    dropout : float of at least 0 and below 1, or list with one for each hidden layer, default 0.0
        Share of the neurons that each step of "sgd" and "adam" leaves out, drawn by `random_state`.

    Attributes
    ----------
    classes_ : array, or list of arrays
    loss_ : float
        Of the last epoch: the mean over its batches during training, with penalty and dropout.
    best_loss_, loss_curve_ : float or None, list of float
    validation_scores_, best_validation_score_ : list of accuracies, the best, or None
    validation_loss_curve_ : list of losses of the validation samples, without penalty, or None
    history_ : fastbp.History of the curves
    t_ : int, the number of samples seen
    coefs_, intercepts_ : list of (n_in, n_out) arrays, list of (n_out,) arrays
        Write into them or replace them: `predict` and further training use what they hold.
    n_features_in_, feature_names_in_, n_iter_, n_layers_, n_outputs_, out_activation_

    Examples
    --------
    >>> import fastbp
    >>> from fastbp.estimator import MLPClassifier
    >>> X_train, y_train, X_test, y_test = fastbp.datasets.load("digits")
    >>> model = MLPClassifier([30], learning_rate_init=0.01, early_stopping=True, random_state=0)
    >>> model.fit(X_train / 16, y_train).score(X_test / 16, y_test) > 0.9
    True
    """

    _parameter_constraints = sklearn_private.CLASSIFIER_CONSTRAINTS
    _score_function = staticmethod(metrics.accuracy_score)
    loss = "log_loss"

    def __init__(
        self, hidden_layer_sizes: Any = (100,), activation: Any = "relu", *, solver: str = "adam",
        alpha: float = 0.0001, batch_size: int | str = "auto", learning_rate: str = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200,
        shuffle: bool = True, random_state: Any = None, tol: float = 1e-4, verbose: Any = False,
        warm_start: bool = False, momentum: float = 0.9, nesterovs_momentum: bool = True,
        early_stopping: bool = False, validation_fraction: float = 0.1, beta_1: float = 0.9,
        beta_2: float = 0.999, epsilon: float = 1e-8, n_iter_no_change: float = 10,
        max_fun: int = 15000, class_weight: Any = None, n_threads: int = 1, dropout: Any = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _out_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _labels(self, y: np.ndarray) -> np.ndarray:
        labels: np.ndarray = self._label_binarizer.inverse_transform(y)
        return labels

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        X, y = super()._validate_input(X, y, incremental, reset)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = preprocessing.LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._compare_classes(multiclass.unique_labels(y))
        return X, self._label_binarizer.transform(y).astype(bool)

    def _encode_validation(self, y: np.ndarray) -> np.ndarray:
        known, several = self.classes_.tolist(), self._label_binarizer.y_type_[:10] == "multilabel"
        if several != multiclass.type_of_target(y).startswith("multilabel"):
            raise ValueError(f"must hold {'rows of labels' if several else 'classes'}, as y does")
        unknown = [c for c in multiclass.unique_labels(y).tolist() if c not in known]
        if unknown:
            raise ValueError(f"must hold the classes of y, {known}; got {unknown} too")
        return np.asarray(self._label_binarizer.transform(y).astype(bool))

    def _compare_classes(self, classes: np.ndarray) -> None:
        known = self.classes_
        if self.warm_start and set(classes) != set(known):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {known}, `y` has {classes}"
            )
        if len(np.setdiff1d(classes, known, assume_unique=True)):
            has = f"`self.classes_` has {known}. 'y' has {classes}."
            raise ValueError(f"`y` has classes not in `self.classes_`. {has}")

    def _weigh(self, y: np.ndarray, sample_weight: Any, incremental: bool) -> Any:
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which sees only a part: "
                "pass a dict of compute_class_weight('balanced', classes=classes, y=y) for all y"
            )
        places: Any = slice(None)
        if self._label_binarizer.y_type_.startswith("multilabel"):
            found = weighting.compute_sample_weight(self.class_weight, y.astype(int))
        else:
            places = y[:, 0].astype(int) if y.shape[1] == 1 else y.argmax(axis=1)
            found = weighting.compute_class_weight(
                self.class_weight, classes=self.classes_, y=self.classes_[places]
            )
        checks.sample_weight("class_weight", found, len(found), np.float64)
        weights = found[places]
        return weights if sample_weight is None else weights * sample_weight

    @metaestimators.available_if(_has_partial_fit)
    @sklearn_private.validating
    def partial_fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None, *, X_val: Any = None, y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:  # fmt: skip
        """Train for one more epoch, as `fit` does; the optimiser continues where it was.

        The first call needs all classes, an (n_classes,) array, because y may lack some.
        """
        if sklearn_private.first_partial_fit(self, classes):
            labels = y if multiclass.type_of_target(y).startswith("multilabel") else classes
            self._label_binarizer = preprocessing.LabelBinarizer().fit(labels)
        validation_set = X_val, y_val, sample_weight_val
        return self._fit(X, y, sample_weight, validation_set, incremental=True)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the (n, n_classes) probabilities for X as for `fit`, in order of `classes_`."""
        validation.check_is_fitted(self)
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`, with the same parameters and shape."""
        return np.asarray(np.log(self.predict_proba(X)))


class MLPRegressor(base.RegressorMixin, Perceptron):
    """A multi-layer perceptron that learns numbers, in place of scikit-learn's.

    See the [documentation of the original][1].

    [1]: https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPRegressor.html

    Parameters
    ----------
    loss : str, object of `fastbp.losses`, or `fastbp.Loss`, default "squared_error"
        Half the squared error, or "poisson", half Poisson's deviance, which needs y of at least 0
        and has exp as its output. scikit-learn lacks the others: "absolute_error"; "huber",
        quadratic up to a distance of 1, or of w with `losses.Huber(w)`; "quantile", the median, or
        the quantile q with `losses.Quantile(q)`; a loss of your own. `loss_` is the sum of these
        over several outputs, as that of "poisson" is.
    hidden_layer_sizes, activation, ...
        As for `MLPClassifier`, as the attributes are, without `class_weight` and `classes_`. Early
        stopping scores by R squared, whatever the loss.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.estimator import MLPRegressor
    >>> X = np.linspace(-1, 1, 200).reshape(100, 2)
    >>> model = MLPRegressor(hidden_layer_sizes=[20], solver="lbfgs", max_iter=1000, random_state=0)
    >>> model.fit(X, np.sin(3 * X[:, 0])).score(X, np.sin(3 * X[:, 0])) > 0.99
    True
    """

    _parameter_constraints = sklearn_private.REGRESSOR_CONSTRAINTS
    _score_function = staticmethod(metrics.r2_score)

    def __init__(
        self, loss: Any = "squared_error", hidden_layer_sizes: Any = (100,),
        activation: Any = "relu", *, solver: str = "adam", alpha: float = 0.0001,
        batch_size: int | str = "auto", learning_rate: str = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200,
        shuffle: bool = True, random_state: Any = None, tol: float = 1e-4, verbose: Any = False,
        warm_start: bool = False, momentum: float = 0.9, nesterovs_momentum: bool = True,
        early_stopping: bool = False, validation_fraction: float = 0.1, beta_1: float = 0.9,
        beta_2: float = 0.999, epsilon: float = 1e-8, n_iter_no_change: float = 10,
        max_fun: int = 15000, n_threads: int = 1, dropout: Any = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(locals())

    def _out_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        X, y = super()._validate_input(X, y, incremental, reset)
        return X, self._encode_validation(y)

    def _encode_validation(self, y: np.ndarray) -> np.ndarray:
        if self.loss == "poisson":
            checks.in_domain("y", y, ("poisson", "exp"))
        return y

    # Without `available_if`: scikit-learn's regressor has this method with "lbfgs" too, which then
    # continues from the present weights.
    @sklearn_private.validating
    def partial_fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *,
        X_val: Any = None, y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:  # fmt: skip
        """Train for one more epoch, as `fit` does; the optimiser continues where it was."""
        validation_set = X_val, y_val, sample_weight_val
        return self._fit(X, y, sample_weight, validation_set, incremental=True)

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R squared of the predictions for X; takes what `fit` takes."""
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                checks.numbers_array(name, value)
        return float(super().score(X, y, sample_weight))
