"""Losses, and the output's error that follows from them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .activations import PRIMES, activate, slope
from .records import Array

Terms = tuple[Any, Any]  # of each output, (batch, n_out): its part of C, float64, and dC/da


def _quadratic(a: Array, y: Array, _: float) -> Terms:
    return 0.5 * np.square(a - y, dtype=np.float64), a - y


def _absolute(a: Array, y: Array, _: float) -> Terms:
    return np.abs(a - y, dtype=np.float64), np.sign(a - y)


def _huber(a: Array, y: Array, width: float) -> Terms:
    rest = a - y
    size = np.abs(rest, dtype=np.float64)
    parts = np.where(size <= width, size * size / 2, width * (size - width / 2))
    return parts, np.clip(rest, -width, width)


def _quantile(a: Array, y: Array, q: float) -> Terms:
    rest = np.subtract(y, a, dtype=np.float64)
    slopes = np.where(rest > 0, -q, np.where(rest < 0, 1 - q, rest))  # NaN, or 0
    return np.maximum(q * rest, (q - 1) * rest), slopes


# Losses of any output that is computed element by element.
TERMS: dict[str, Callable[[Array, Array, float], Terms]] = {
    "quadratic": _quadratic,
    "absolute": _absolute,
    "huber": _huber,
    "quantile": _quantile,
}
# What a loss may be told, and what it is told by default.
SETTINGS = {
    "huber": ("width", 1.0), "quantile": ("q", 0.5), "cross-entropy": ("label_smoothing", 0.0)
}  # fmt: skip


def _softmax_cross_entropy(z: Array, y: Array, a: Array) -> Any:
    below = z.max(axis=1, keepdims=True) - z
    rest = np.exp(-below)
    np.put_along_axis(rest, below.argmin(axis=1)[:, None], 0, axis=1)
    return (y * below).sum(axis=1) + y.sum(axis=1) * np.log1p(rest.sum(axis=1))


def _sigmoid_cross_entropy(z: Array, y: Array, a: Array) -> Any:
    return (np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z)))).sum(axis=1)


def _poisson(z: Array, y: Array, a: Array) -> Any:
    return (a.astype(np.float64) - y * z).sum(axis=1)


# C of each sample from z in float64, y and a, where the output's activation fits the loss: there
# the error is a - y.
_FITTING: dict[tuple[str, str], Callable[[Array, Array, Array], Any]] = {
    ("cross-entropy", "softmax"): _softmax_cross_entropy,
    ("cross-entropy", "sigmoid"): _sigmoid_cross_entropy,
    ("poisson", "exp"): _poisson,
}
# The losses and the activations of outputs that go together.
LOSSES = (
    *((loss, name) for loss in TERMS for name in PRIMES), ("quadratic", "softmax"), *_FITTING,
)  # fmt: skip
# Where a loss has a least value: targets from the first to the second.
DOMAINS = {
    ("cross-entropy", "softmax"): (0.0, np.inf),  # counts of classes, or a distribution
    ("cross-entropy", "sigmoid"): (0.0, 1.0),
    ("poisson", "exp"): (0.0, np.inf),
}
# What an output comes to, where it does not come to every number.
REACH = {
    "sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, np.inf),
    "elu": (-1.0, np.inf), "softplus": (0.0, np.inf),
    "silu": (-0.27846454, np.inf), "gelu": (-0.16997121, np.inf),
}  # fmt: skip


def setting_of(loss: Any, setting: float | None) -> float:
    """Return the setting of a loss, its default for None, 0 where it has none."""
    return SETTINGS.get(loss, ("", 0.0))[1] if setting is None else setting


def _smoothed(y: Array, activation: str, smoothing: float) -> Any:
    """Targets of which the share `smoothing` is spread evenly over the classes."""
    even = y.sum(axis=1, keepdims=True) / y.shape[1] if activation == "softmax" else 0.5
    return y + y.dtype.type(smoothing) * (even - y)


def output_delta(
    loss: Any, activation: Any, z: Array, y: Array, a: Array, delta: Array, losses: Array,
    setting: float | None = None,
) -> None:  # fmt: skip
    """Output, error and losses of the last layer, from its weighted input (BP1).

    ================  ============  ========================================  =================
    loss              activation    C of one sample                           delta = dC/dz
    ================  ============  ========================================  =================
    quadratic         any           sum((a - y)**2) / 2                       (a - y) f'(z)
    absolute          element-wise  sum(abs(a - y))                           sign(a - y) f'(z)
    huber             element-wise  sum(h(a - y))                             h'(a - y) f'(z)
    quantile          element-wise  sum(max(q (y - a), (q - 1) (y - a)))      -q or 1 - q, f'(z)
    cross-entropy     softmax       -sum(y log a)                             a sum(y) - y
    cross-entropy     sigmoid       -sum(y log a + (1 - y) log(1 - a))        a - y
    poisson           exp           sum(a - y log a)                          a - y
    ================  ============  ========================================  =================

    h(r) is r**2 / 2 where abs(r) is at most the width, beyond it width (abs(r) - width / 2). At
    a = y the slope of absolute and quantile is taken for 0. A `Loss` of the user's is a sum of
    value(a, y), with the error delta(a, y) f'(z).

    `setting` is the width of huber, q of quantile, and of cross-entropy the label smoothing s: for
    y stands (1 - s) y + s sum(y) / n_out with softmax, (1 - s) y + s / 2 with sigmoid.

    Losses are computed from z, in float64, and stay exact where a is 0 or 1 to the last bit.

    Huber, *Robust Estimation of a Location Parameter*, 1964; Koenker and Bassett, *Regression
    Quantiles*, 1978; Szegedy et al., *Rethinking the Inception Architecture for Computer Vision*,
    2016, section 7.
    """
    setting = setting_of(loss, setting)
    activate(activation, z, a)
    if (loss, activation) in _FITTING:
        if setting:
            y = _smoothed(y, activation, setting)
        losses[...] = _FITTING[loss, activation](z.astype(np.float64), y, a)
        delta[...] = a * y.sum(axis=1, keepdims=True) - y if activation == "softmax" else a - y
        return
    terms, slopes = (TERMS[loss] if isinstance(loss, str) else loss.terms)(a, y, setting)
    losses[...] = terms.sum(axis=1)
    if activation == "softmax":
        delta[...] = a * (slopes - (slopes * a).sum(axis=1, keepdims=True))
    else:
        slope(activation, z, delta)
        delta *= slopes
