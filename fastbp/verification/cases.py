"""A random network with data, what the reference makes of it, and how far rounding may carry that.

Where terms cancel, a result's last digits are those of its terms. Two sound programs may then
differ by more than any fixed part of the result, and a comparison has to know by how much.

References
----------
Higham, *Accuracy and Stability of Numerical Algorithms*, ch. 2.8 and 3.3: roundings as independent
random errors; running error analysis.
"""

from typing import NamedTuple

import numpy as np

from .._support import checks
from ..engines import get_backend
from ..model.layout import Layout

ROUNDINGS = 8  # standard errors that two sound programs may be apart
KINK = 1e-4  # a ReLU nearer to zero might fall to either side by rounding
# How much an error of a moves the slope that is taken from a, at most.
BENDS = {"sigmoid": 1, "tanh": 2, "relu": 0, "identity": 0}


class Rounding(NamedTuple):
    """Standard errors if every term is rounded once, to be multiplied by the dtype's epsilon.

    Attributes
    ----------
    outputs : (batch, n_out) array
    loss : float
        Of the mean loss.
    weights, biases : lists of arrays
        Of the gradient of the mean loss.
    """

    outputs: np.ndarray
    loss: float
    weights: list
    biases: list


def rounding(model, weights, biases, X, y):
    """Return how far rounding may be expected to carry the outputs and the gradient of a network.

    The variance v(x) of a quantity x passes through each operation by the square of its derivative,
    and the operation adds the squares of its own terms: v(W a + b) = W^2 (v(a) + a^2) + b^2, and so
    on, forth and back, in float64.

    Parameters
    ----------
    model : reference.Model
    weights, biases : sequences of arrays, one per layer above the inputs
    X : (batch, n_in) array
    y : (batch, n_out) array
        Targets; one-hot where there are labels.

    Returns
    -------
    Rounding

    Examples
    --------
    >>> from fastbp.reference import Model
    >>> model = Model((2, 1), ("identity",), "quadratic", True, 1.0)
    >>> W, b = np.array([[3.0, -4.0]]), np.zeros(1)
    >>> rounding(model, [W], [b], np.array([[4.0, 3.0]]), np.zeros((1, 1))).outputs  # of 12 - 12
    array([[24.]])
    """
    weights, biases = ([np.asarray(p, np.float64) for p in parts] for parts in (weights, biases))
    a, v_a, z, v_z = _forward(model, weights, biases, X.astype(np.float64) * model.scale)
    y = y.astype(np.float64)
    output = get_backend("numpy").output_delta(model.loss, model.activations[-1], z, y)
    _, delta, losses = output
    v_loss = (delta**2 * v_z).sum() / len(X) ** 2 + losses.mean() ** 2
    total = np.maximum(1, np.abs(y).sum(axis=1, keepdims=True))  # the factor of a in a sum(y) - y
    v_delta = (v_a[-1] + a[-1] ** 2 + y**2) * total**2
    return Rounding(
        np.sqrt(v_a[-1]), float(np.sqrt(v_loss)), *_backward(model, weights, a, v_a, delta, v_delta)
    )


def _forward(model, weights, biases, X):
    """Return activations and their variances, layer by layer, and those of the last z."""
    slow = get_backend("numpy")
    a, v_a = [X], [X**2]
    for W, b, name in zip(weights, biases, model.activations, strict=True):
        z = slow.affine(a[-1], W, b)
        v_z = slow.affine(v_a[-1] + a[-1] ** 2, W**2, b**2)
        a.append(getattr(slow, name)(z))
        if name == "softmax":
            from_z = v_z + (a[-1] ** 2 * v_z).sum(axis=1, keepdims=True) + 1
            v_a.append(a[-1] ** 2 * (from_z + 1))
        else:
            v_a.append(_slope(name, a[-1]) ** 2 * v_z + a[-1] ** 2)
    return a, v_a, z, v_z


def _backward(model, weights, a, v_a, delta, v_delta):
    """Return the standard errors of the gradient in all weights, and in all biases."""
    slow, batch = get_backend("numpy"), len(delta)
    e_W, e_b = [], []
    for l in range(len(weights) - 1, -1, -1):
        square, terms = delta**2, delta**2 + v_delta
        v_W = slow.weight_gradient(a[l] ** 2, terms) + slow.weight_gradient(v_a[l], square)
        e_W.insert(0, np.sqrt(v_W / batch))
        e_b.insert(0, np.sqrt(slow.bias_gradient(terms) / batch))
        if l:
            name, none = model.activations[l - 1], np.zeros(weights[l].shape[1])
            slope, bend = _slope(name, a[l]), BENDS[name]
            back = slow.affine(delta, weights[l].T, none)
            v_back = slow.affine(terms, weights[l].T ** 2, none)
            v_delta = v_back * slope**2 + (bend * back) ** 2 * (v_a[l] + 1)
            delta = back * slope
    return e_W, e_b


def _slope(name, a):
    if name == "exp":
        return a
    return getattr(get_backend("numpy"), f"{name}_prime_from_a")(a)


class Case:
    """A random network with data, as the engines take it."""

    def __init__(self, rng, model, dtype, batch, labels):
        self.model, self.layout = model, Layout(model.sizes, dtype, model.bias)
        self.dtype, self.batch, self.params = dtype, batch, self.layout.zeros()
        for W, b in zip(*self.layout.views(self.params), strict=True):
            W[...] = rng.standard_normal(W.shape) / np.sqrt(W.shape[1])
            b[...] = rng.standard_normal(b.shape) / 2 if model.bias else 0
        self.X = self._inputs(rng, batch)
        n_out = model.sizes[-1]
        y = rng.integers(n_out, size=batch) if labels and n_out > 1 else rng.random((batch, n_out))
        self.targets = checks.targets(y, batch, n_out, dtype)
        self.fast, self.slow = (
            get_backend(name).engine(model, self.layout) for name in ("numba", "numpy")
        )
        self.grads, self.loss, _ = self.slow.gradient(self.params, self.X, self.targets)
        self.right = self.slow.evaluate(self.params, self.X, self.targets)[1]
        self.slack = self._slack()
        self.where = (
            f"{'-'.join(map(str, model.sizes))}, {model.activations[0]}, {model.activations[-1]}, "
            f"{model.loss}, bias {model.bias}, batch {batch}"
        )

    def _inputs(self, rng, batch):
        """Return random inputs, some zero, none of which brings a ReLU near its kink."""
        dtype = np.uint8 if self.model.scale != 1 else self.dtype

        def draw(rows):
            lit = rng.random((rows, self.model.sizes[0])) < 0.4
            return (lit * rng.standard_normal(lit.shape) / self.model.scale).astype(dtype)

        X = draw(batch)
        for _ in range(100):
            near = self._near_a_kink(X)
            if not near.any():
                break
            X[near] = draw(int(near.sum()))
        return X

    def _near_a_kink(self, X):
        """Return which rows bring a ReLU so near to zero that rounding may decide its side."""
        slow, near = get_backend("numpy"), np.zeros(len(X), bool)
        a = X.astype(np.float64) * self.model.scale
        layers = zip(*self.layout.views(self.params), self.model.activations, strict=True)
        for W, b, name in layers:
            z = slow.affine(a, W.astype(np.float64), b)
            if name == "relu":
                near |= ((np.abs(z) < KINK) & (z != 0)).any(axis=1)
            a = getattr(slow, name)(z)
        return near

    def _slack(self):
        """Return what rounding explains, of outputs, loss and gradient."""
        y = self.targets.rows(slice(None), self.model.sizes[-1])
        found = rounding(self.model, *self.layout.views(self.params), self.X, y)
        unit = ROUNDINGS * np.finfo(self.dtype).eps
        return {
            "outputs": unit * found.outputs, "loss": unit * found.loss,
            **{f"W{l}": unit * e for l, e in enumerate(found.weights, start=1)},
            **{f"b{l}": unit * e for l, e in enumerate(found.biases, start=1)},
        }  # fmt: skip

    def parts(self, flat):
        """Return the arrays of a buffer that are learnt, by name."""
        weights, biases = self.layout.views(flat)
        named = {f"W{l}": W for l, W in enumerate(weights, start=1)}
        return named | {f"b{l}": b for l, b in enumerate(biases, start=1) if self.model.bias}

    def copy(self):
        """Return a copy of the parameters, aligned."""
        params = self.layout.zeros()
        params[:] = self.params
        return params

    def rate(self):
        """Return a learning rate, a power of two, whose step is as large as the weights."""
        step = np.abs(self.grads).max()
        return 2.0 ** round(np.log2(np.abs(self.params).max() / step)) if step else 1.0
