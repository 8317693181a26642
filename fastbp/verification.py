"""Gradient checking: back-propagation against central differences."""

from dataclasses import dataclass

import numpy as np

from .network import Network

# Of a central difference in float64: the best step is near eps**(1/3), scaled to the parameter.
STEP = 6e-6
TOLERANCE = 1e-7  # on max|analytic - numerical| / max|analytic| of an array


@dataclass(frozen=True)
class LayerCheck:
    """One array's comparison.

    Attributes
    ----------
    name : str
    size : int
        Number of parameters, all of them checked.
    error : float
        Largest difference over the largest analytic gradient of the array.
    index : tuple of int
        Where the largest difference is.
    analytic, numerical : float
        The two values there.
    """

    name: str
    size: int
    error: float
    index: tuple
    analytic: float
    numerical: float


@dataclass(frozen=True)
class GradientReport:
    """What `gradcheck` found; print it for a table.

    Attributes
    ----------
    layers : tuple of LayerCheck
    tolerance : float
    """

    layers: tuple
    tolerance: float

    @property
    def max_error(self):
        """The largest relative error of any layer."""
        return max(layer.error for layer in self.layers)

    @property
    def ok(self):
        """Whether every layer is within the tolerance; never with a NaN."""
        return all(layer.error <= self.tolerance for layer in self.layers)

    def __str__(self):
        """Return a table, one line per array."""
        lines = [
            f"{'parameter':<12}{'count':>8}  {'error':>9}  {'worst at':<12}"
            f"{'backprop':>14}{'numerical':>14}"
        ]
        for c in self.layers:
            mark = "" if c.error <= self.tolerance else "  <-- differs"
            lines.append(
                f"{c.name:<12}{c.size:>8}  {c.error:>9.2e}  {c.index!s:<12}"
                f"{c.analytic:>14.6e}{c.numerical:>14.6e}{mark}"
            )
        verdict = "ok" if self.ok else "NOT ok"
        lines.append(f"{verdict}: largest error {self.max_error:.2e}, allowed {self.tolerance:.0e}")
        return "\n".join(lines)


def gradcheck(net, X, y, tolerance=TOLERANCE):
    """Compare back-propagation with central differences, for every parameter, in float64.

    dC/dw is compared with (C(w + h) - C(w - h)) / 2h.

    Parameters
    ----------
    net : Network
        Left as it is; a copy in float64, on the same backend, is checked.
    X : (batch, n_in) array
        A few samples: the cost is two evaluations per parameter.
    y : (batch,) integer labels, or (batch, n_out) targets
    tolerance : float
        On `max|analytic - numerical| / max|analytic|` of each array.

    Returns
    -------
    GradientReport
        With `ok`, `max_error`, `layers`; `str()` gives a table.

    Raises
    ------
    TypeError, ValueError
        If `net` is no Network, or X and y do not fit it.

    Notes
    -----
    At the kink of ReLU the derivative does not exist: a parameter whose step crosses it shows an
    error that is not the network's. Check with other samples then.

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> net = fastbp.Network([3, 4, 2], seed=0)
    >>> fastbp.gradcheck(net, np.eye(3), [0, 1, 0]).ok
    True
    """
    if not isinstance(net, Network):
        raise TypeError(f"net must be a fastbp.Network; found {type(net).__name__}")
    copy = _in_float64(net)
    gradient = copy.gradient(X, y)
    arrays = [(f"W{l}", W, dW) for l, (W, dW) in _numbered(copy.weights, gradient.weights)]
    arrays += [(f"b{l}", b, db) for l, (b, db) in _numbered(copy.biases, gradient.biases)]
    checks = [
        _compare(name, analytic, _central_differences(parameter, lambda: copy.loss(X, y)))
        for name, parameter, analytic in arrays
    ]
    return GradientReport(tuple(checks), tolerance)


def _numbered(parameters, gradients):
    return enumerate(zip(parameters, gradients, strict=True), start=1)


def _in_float64(net):
    copy = Network(**{**net.config, "dtype": "float64"}, backend=net.backend)
    copy.from_vector(net.to_vector())
    return copy


def _central_differences(parameter, loss):
    numerical = np.empty(parameter.shape)
    for index in np.ndindex(parameter.shape):
        value = parameter[index]
        step = STEP * max(1.0, abs(value))
        parameter[index] = value + step
        above, high = loss(), parameter[index]
        parameter[index] = value - step
        below, low = loss(), parameter[index]
        parameter[index] = value
        numerical[index] = (above - below) / (high - low)
    return numerical


def _compare(name, analytic, numerical):
    difference = np.abs(analytic - numerical)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    scale = max(np.abs(analytic).max(), np.abs(numerical).max())
    error = difference[worst] / scale if scale else 0.0
    return LayerCheck(
        name, analytic.size, float(error), tuple(int(i) for i in worst),
        float(analytic[worst]), float(numerical[worst]),
    )  # fmt: skip
