"""All that fastbp uses of scikit-learn's private parts, each with its reason.

They may change in any minor release, so the extra `sklearn` caps its version at the last
one that the tests have seen. `BaseEstimator._validate_params` reads `_parameter_constraints` too.
"""

from typing import Any

import numpy as np
from sklearn import base, neural_network, tree
from sklearn.neural_network import _base
from sklearn.utils import _param_validation, multiclass, optimize, validation

from .. import losses, reference
from ..functions import Activation, Loss
from ..interchange.words import HIDDEN, LOSSES

# Validates the parameters before `fit`, unless a caller such as GridSearchCV has done so, and opens
# the context of scikit-learn's callbacks.
validating = base._fit_context(prefer_skip_nested_validation=True)

# Compares values with constraints; an estimator gives it the values of `get_params`, ours all.
validate_parameters = _param_validation.validate_parameter_constraints

# These three raise and warn in scikit-learn's words. The first sets `classes_` in the first
# `partial_fit`; the second returns the number of iterations of L-BFGS; the third, unlike
# `check_array`, takes a number too, and compares the length with that of X.
first_partial_fit = multiclass._check_partial_fit_first_call
check_optimize_result = optimize._check_optimize_result
check_sample_weight = validation._check_sample_weight

# The mean losses of (n, n_out) targets and outputs, with weights: those of validation samples are
# scikit-learn's own numbers.
_LOSSES = {**_base.LOSS_FUNCTIONS, "log_loss, logistic": _base.binary_log_loss}


def mean_loss(m: Any, y: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None) -> float:
    """Return the loss of an estimator's outputs, without the penalty."""
    names = [name for name in (f"{m.loss}, {m.out_activation_}", m.loss) if name in _LOSSES]
    with np.errstate(all="ignore"):
        if names:
            return float(_LOSSES[names[0]](y, outputs, weights))
        return float(np.average(_losses(m.loss, y, outputs), weights=weights))


def _losses(loss: Any, y: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return the loss of each sample, the sum over its outputs, where scikit-learn has none."""
    found, scratch = np.empty(len(y)), np.empty_like(outputs)
    name, setting = losses.in_parts(LOSSES[loss] if isinstance(loss, str) else loss)
    y = y.astype(outputs.dtype, copy=False)
    reference.output_delta(name, "identity", outputs, y, scratch, scratch.copy(), found, setting)
    return found


def has_callbacks(m: Any) -> bool:
    """Return whether `set_callbacks`, or a meta-estimator, gave an estimator callbacks."""
    return hasattr(m, "_skl_callbacks")


# The values that each parameter may have. The classes for ranges and options are private as well,
# so those of our additions are taken from parameters that allow the same values.
_options = _param_validation.StrOptions
_SHARED: dict[str, Any] = {
    "activation": [_options(set(HIDDEN)), list, tuple, Activation],
    "dropout": [*neural_network.MLPRegressor._parameter_constraints["beta_1"], list, tuple],
    "n_threads": neural_network.MLPRegressor._parameter_constraints["max_iter"],
}
REGRESSOR_CONSTRAINTS: dict[str, Any] = {
    **neural_network.MLPRegressor._parameter_constraints,
    **_SHARED,
    "loss": [_options({*LOSSES, "poisson"}), losses.Huber, losses.Quantile, Loss],
}
CLASSIFIER_CONSTRAINTS: dict[str, Any] = {
    **neural_network.MLPClassifier._parameter_constraints,
    **_SHARED,
    "class_weight": tree.DecisionTreeClassifier._parameter_constraints["class_weight"],
}
