"""scikit-learn's `MLPClassifier` and `MLPRegressor`. The package is an extra."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..network import Network
from .parts import Parts, folded, network

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

ACTIVATIONS = {"sigmoid": "logistic", "tanh": "tanh", "relu": "relu", "identity": "identity"}
# The output of an estimator: that of a network, and its loss.
OUTPUTS = {
    "softmax": ("softmax", "cross-entropy"),
    "logistic": ("sigmoid", "cross-entropy"),
    "identity": ("identity", "quadratic"),
    "exp": ("exp", "poisson"),
}


def _neural_network() -> Any:
    try:
        import sklearn.neural_network
    except ImportError as error:
        raise ImportError(
            "estimators need scikit-learn, install it with: pip install 'fastbp[sklearn]'"
        ) from error
    return sklearn.neural_network


# -- to an estimator -------------------------------------------------------------------------------


def to_sklearn(net: Network) -> "MLPClassifier | MLPRegressor":
    """Return a scikit-learn estimator that predicts what a network predicts.

    A softmax output makes an `MLPClassifier` of the classes 0, 1, ...; a sigmoid output one of
    two classes, or of several labels at once where there are several outputs; an identity output
    an `MLPRegressor`, and exp one with the loss of Poisson. `predict_proba`, or `predict` of the
    regressor, gives the outputs.

    `input_scale` is multiplied into the first weights. Of two softmax outputs, scikit-learn has
    one sigmoid of their difference, which is the same function. `fit` starts anew, as it always
    does.

    Parameters
    ----------
    net : Network

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor

    Raises
    ------
    ImportError
        If scikit-learn is missing.
    ValueError
        If scikit-learn has no such output: tanh, relu, or the softmax of a single output.
    TypeError
        If the output is exp, and scikit-learn is older than 1.7.

    References
    ----------
    https://scikit-learn.org/stable/modules/neural_networks_supervised.html

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> net = fastbp.Network([3, 4, 3], loss="cross-entropy", dtype="float64", seed=0)
    >>> estimator, X = to_sklearn(net), np.eye(3)
    >>> bool(np.allclose(estimator.predict_proba(X), net.feedforward(X)))
    True
    """
    output, n_out = net.config["output"], net.sizes[-1]
    if output not in _BLANKS or (output, n_out) == ("softmax", 1):
        raise ValueError(
            f"net must have an output of {', '.join(_BLANKS)} for scikit-learn, softmax of two "
            f"outputs or more; found {output} of {n_out}"
        )
    weights, biases = folded(net)
    biases = biases or [np.zeros(len(W), net.dtype) for W in weights]
    if (output, n_out) == ("softmax", 2):
        weights[-1], biases[-1] = np.diff(weights[-1], axis=0), np.diff(biases[-1])
    estimator = _BLANKS[output](_neural_network(), net)
    for targets, arrays in ((estimator.coefs_, weights), (estimator.intercepts_, biases)):
        for target, array in zip(targets, arrays, strict=True):
            target[...] = array.T
    return estimator


def _settings(net: Network) -> dict[str, Any]:
    activation = ACTIVATIONS[net.config["activation"]]
    return {"hidden_layer_sizes": net.sizes[1:-1], "activation": activation, "random_state": 0}


def _classifier(sklearn: Any, net: Network) -> Any:
    """Return a classifier of these shapes: one step of training is what makes its arrays."""
    n_in, n_out = net.sizes[0], net.sizes[-1]
    several = net.config["output"] == "sigmoid" and n_out > 1
    y = np.zeros((1, n_out), int) if several else np.zeros(1, int)
    blank = sklearn.MLPClassifier(**_settings(net))
    return blank.partial_fit(np.zeros((1, n_in), net.dtype), y, classes=np.arange(max(n_out, 2)))


def _regressor(sklearn: Any, net: Network) -> Any:
    n_in, n_out = net.sizes[0], net.sizes[-1]
    y = np.zeros((1, n_out) if n_out > 1 else 1, net.dtype)
    loss = {"loss": "poisson"} if net.config["output"] == "exp" else {}
    blank = sklearn.MLPRegressor(**_settings(net), **loss)
    return blank.partial_fit(np.zeros((1, n_in), net.dtype), y)


_BLANKS = {
    "softmax": _classifier, "sigmoid": _classifier, "identity": _regressor, "exp": _regressor,
}  # fmt: skip


# -- from an estimator -----------------------------------------------------------------------------


def from_sklearn(estimator: "MLPClassifier | MLPRegressor") -> Network:
    """Return the network that a fitted scikit-learn estimator is.

    A classifier of two classes has one sigmoid output there; here it has two softmax outputs, 0
    and z, which is the same function: `feedforward` gives what `predict_proba` gives. Output k is
    the class `estimator.classes_[k]`.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
        Fitted; its arrays are copied.

    Returns
    -------
    Network
        With cross-entropy for a classifier, the quadratic loss or that of Poisson for a regressor,
        in the dtype of the estimator's weights.

    Raises
    ------
    ImportError
        If scikit-learn is missing.
    TypeError
        If it is no such estimator.
    ValueError
        If it is not fitted, or has an output that networks here have not.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> X = np.linspace(0, 1, 20).reshape(10, 2)
    >>> estimator = MLPRegressor(hidden_layer_sizes=[4], solver="lbfgs", random_state=0)
    >>> net = from_sklearn(estimator.fit(X, X.sum(axis=1)))
    >>> bool(np.allclose(net.feedforward(X)[:, 0], estimator.predict(X)))
    True
    """
    sklearn = _neural_network()
    if not isinstance(estimator, (sklearn.MLPClassifier, sklearn.MLPRegressor)):
        raise TypeError(
            "estimator must be an MLPClassifier or MLPRegressor of scikit-learn; found "
            f"{type(estimator).__name__}"
        )
    if not hasattr(estimator, "coefs_"):
        raise ValueError("estimator must be fitted: call its fit first")
    if estimator.out_activation_ not in OUTPUTS:
        raise ValueError(
            f"estimator must have an output of {', '.join(OUTPUTS)}; found "
            f"{estimator.out_activation_}"
        )
    output, loss = OUTPUTS[estimator.out_activation_]
    weights, biases = [W.T for W in estimator.coefs_], list(estimator.intercepts_)
    if output == "sigmoid" and len(weights[-1]) == 1:
        output = "softmax"
        weights[-1], biases[-1] = _beside_zero(weights[-1]), _beside_zero(biases[-1])
    activation = next(
        ours for ours, theirs in ACTIVATIONS.items() if theirs == estimator.activation
    )
    return network(
        type(estimator).__name__, Parts(weights, biases), activation=activation, output=output,
        loss=loss,
    )  # fmt: skip


def _beside_zero(row: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(row), row])
