"""What an estimator computes: scikit-learn's words for it, and a `Network`'s."""

from typing import Any

from .._support import checks
from ..model import choices

ACTIVATIONS = {"sigmoid": "logistic", "tanh": "tanh", "relu": "relu", "identity": "identity"}
# The output of an estimator: the output of a network, and the loss that fits it.
OUTPUTS = {
    "softmax": ("softmax", "cross-entropy"),
    "logistic": ("sigmoid", "cross-entropy"),
    "identity": ("identity", "quadratic"),
    "exp": ("exp", "poisson"),
}
# The names that estimators take for what hidden layers may have, and for losses of any output:
# scikit-learn's words where it has them, in whatever estimator.
HIDDEN = {ACTIVATIONS.get(name, name): name for name in choices.HIDDEN}
LOSSES = {
    "squared_error": "quadratic",
    "absolute_error": "absolute",
    "huber": "huber",
    "quantile": "quantile",
}


def activation(given: Any) -> Any:
    """Return an estimator's activation, or list of these, as `Network` takes it."""
    if isinstance(given, (list, tuple)):
        return [_activation(f"activation[{l}]", entry) for l, entry in enumerate(given)]
    return _activation("activation", given)


def _activation(name: str, given: Any) -> Any:
    return given if choices.is_own(given) else HIDDEN[checks.one_of(name, given, HIDDEN)]


def functions(estimator: Any, outputs: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return activation, output, loss and dropout of a fitted estimator as `Network` takes them."""
    output, loss = outputs[checks.one_of("out_activation_", estimator.out_activation_, outputs)]
    if loss == "quadratic":
        loss = _loss(estimator.loss)
    found = {"activation": activation(estimator.activation), "output": output, "loss": loss}
    return {**found, "dropout": getattr(estimator, "dropout", 0.0)}


def _loss(given: Any) -> Any:
    """Return a loss of any output; of others, which it has after `set_params`, the usual one."""
    return LOSSES.get(given, "quadratic") if isinstance(given, str) else given
