"""scikit-learn's `MLPClassifier` and `MLPRegressor`. The package is an extra."""

from typing import TYPE_CHECKING

import numpy as np

from .._support import extras
from ..model.choices import called
from ..network import Network
from .parts import folded, naming, network
from .words import ACTIVATIONS, OUTPUTS, functions

if TYPE_CHECKING:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

_REQUIRED = ("sklearn.neural_network", "scikit-learn", "estimators")


def to_sklearn(net: Network) -> "MLPClassifier | MLPRegressor":
    """Return a scikit-learn estimator that predicts what a network predicts.

    A softmax output makes an `MLPClassifier` of the classes 0, 1, ..., and a sigmoid output one of
    two classes, or of as many labels at once as there are outputs. An identity output makes an
    `MLPRegressor`, and exp one with the Poisson loss. `predict_proba`, or `predict` of the
    regressor, returns the outputs. `fit` starts anew. `input_scale` is multiplied into the first
    weights, and `scale` into first weights and biases, as by `write_torch`. Two softmax outputs
    become a sigmoid of their difference, which is the same.

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
        If scikit-learn has no such output, as tanh, or no such activation, or not one for each
        layer; or the network's scale is not known yet.
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
    allowed = [ours for ours, _ in OUTPUTS.values()]
    if output not in allowed:
        wanted = f"an output of {', '.join(allowed)} for scikit-learn"
        raise ValueError(f"net must have {wanted}; got {called(output)}")
    activation = _activation(net)
    weights, biases = folded(net)
    biases = biases or [np.zeros(len(W), net.dtype) for W in weights]
    if (output, n_out) == ("softmax", 2):
        weights[-1], biases[-1] = np.diff(weights[-1], axis=0), np.diff(biases[-1])
    # One step of training makes the arrays of an estimator.
    sklearn, X = extras.required(*_REQUIRED), np.zeros((1, net.sizes[0]), net.dtype)
    y = np.zeros((1, n_out) if n_out > 1 and output != "softmax" else 1, int)
    options = {"hidden_layer_sizes": net.sizes[1:-1], "activation": activation, "random_state": 0}
    if output in ("softmax", "sigmoid"):
        classes = np.arange(max(n_out, 2))
        estimator = sklearn.MLPClassifier(**options).partial_fit(X, y, classes=classes)
    else:
        options |= {"loss": "poisson"} if output == "exp" else {}
        estimator = sklearn.MLPRegressor(**options).partial_fit(X, y.astype(net.dtype))
    targets = [*estimator.coefs_, *estimator.intercepts_]
    for target, array in zip(targets, [*weights, *biases], strict=True):
        target[...] = array.T
    return estimator


def _activation(net: Network) -> str:
    """Return the one activation of all hidden layers, in scikit-learn's word."""
    found = net.config["activation"]
    if net.num_layers == 2:
        return ACTIVATIONS.get(found, "relu")  # of no layer
    if isinstance(found, list) or found not in ACTIVATIONS:
        wanted = f"one activation of {', '.join(ACTIVATIONS)} for scikit-learn"
        raise ValueError(f"net must have {wanted}; got {called(found)}")
    return ACTIVATIONS[found]


def from_sklearn(estimator: "MLPClassifier | MLPRegressor") -> Network:
    """Return a network that computes what a fitted scikit-learn estimator computes.

    `feedforward` returns what `predict_proba` does; output k is the class `estimator.classes_[k]`.
    For a sigmoid of z, which divides two classes, the network has the softmax of 0 and z.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Of sklearn.neural_network or fastbp.estimator. Fitted; its arrays are copied.

    Returns
    -------
    Network
        In the dtype of the weights; with cross-entropy for a classifier, else quadratic or Poisson,
        or what an estimator of fastbp has beyond these.

    Raises
    ------
    ImportError
        If scikit-learn is missing.
    TypeError, ValueError
        If it is another kind of estimator, not fitted, or has an output that `Network` lacks.

    Examples
    --------
    >>> from sklearn.neural_network import MLPRegressor
    >>> X = np.linspace(0, 1, 20).reshape(10, 2)
    >>> estimator = MLPRegressor(hidden_layer_sizes=[4], solver="lbfgs", random_state=0)
    >>> net = from_sklearn(estimator.fit(X, X.sum(axis=1)))
    >>> bool(np.allclose(net.feedforward(X)[:, 0], estimator.predict(X)))
    True
    """
    extras.required(*_REQUIRED)
    kind = type(estimator).__name__
    # By name: the estimators of fastbp, which follow scikit-learn's, are built on this module.
    if not {"MLPClassifier", "MLPRegressor"} & {base.__name__ for base in type(estimator).__mro__}:
        wanted = "MLPClassifier or MLPRegressor of sklearn or fastbp.estimator"
        raise TypeError(f"estimator must be {wanted}; got {kind}")
    if not hasattr(estimator, "coefs_"):
        raise ValueError("estimator must be fitted: call its fit first")
    found = functions(estimator, OUTPUTS)
    weights, biases = [W.T for W in estimator.coefs_], list(estimator.intercepts_)
    if found["output"] == "sigmoid" and len(weights[-1]) == 1:
        found["output"] = "softmax"
        for arrays in (weights, biases):
            arrays[-1] = np.concatenate([np.zeros_like(arrays[-1]), arrays[-1]])
    with naming(kind):
        return network((weights, biases), **found)
