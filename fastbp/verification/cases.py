"""Random networks with data, what the reference makes of them, and how far rounding carries it."""

from collections.abc import Iterator, Sequence
from itertools import cycle, product
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .. import reference
from .._support import checks
from ..engines import get_backend
from ..model.layout import Layout
from ..reference import Model

BACKENDS = ("numpy", "numba")
DTYPES = ("float32", "float64")
PATHS = ("dense", "sparse", "narrow")
HIDDEN = tuple(reference.DERIVATIVES)
OUTPUTS = tuple(reference.LOSSES)  # pairs (loss, output activation)
WIDE = (300, 130, 17)  # several blocks of inputs and panels of columns where zeros are skipped
ROUNDINGS = 8  # standard errors that two correct programs may be apart
KINK = 1e-4  # a ReLU nearer to zero might fall to either side by rounding
# At most how much an error of a moves the slope that is computed from a.
BENDS = {"sigmoid": 1, "tanh": 2, "relu": 0, "identity": 0}

SLOW = get_backend("numpy")

Rng: TypeAlias = np.random.Generator
_Arrays: TypeAlias = Sequence[np.ndarray]
_Views: TypeAlias = tuple[_Arrays, _Arrays]  # weights and biases


class Scope(NamedTuple):
    """How much is compared."""

    widths: tuple[int, ...]  # of single layers
    batches: tuple[int, ...]
    networks: tuple[Any, ...]  # (sizes, batch) for every activation, loss and bias
    large: tuple[Any, ...]  # likewise, for a few: wide ones, and batches larger than the scratch
    both_targets: bool  # labels and real values for each network, instead of in turns


_FEW = (((17, 7, 3), 6), ((5, 3, 2, 2), 1))
_LARGE = (((7, 5, 3), 1030), (WIDE, 20))
QUICK = Scope((1, 7, 17, 64), (1, 6), _FEW, _LARGE, False)
FULL = Scope(
    (1, 2, 7, 17, 64, 100), (1, 2, 6, 33),
    (*_FEW, ((1, 1, 1), 1), ((64, 100, 17), 33), ((100, 2), 7), ((7, 64, 1, 17, 100, 2), 9)),
    (*_LARGE, ((100, 17, 4), 2100), ((70_000, 2), 3)), True,
)  # fmt: skip


def models(sizes: Sequence[int]) -> Iterator[Model]:
    """Yield the model for every activation, loss, output and bias; every third takes bytes."""
    scales = cycle((1.0, 1 / 256, 1.0))
    # The softmax of a single output is constant: its gradient would consist of rounding.
    outputs = [pair for pair in OUTPUTS if sizes[-1] > 1 or pair[1] != "softmax"]
    for hidden, (loss, output), bias in product(HIDDEN, outputs, (True, False)):
        names = (*[hidden] * (len(sizes) - 2), output)
        yield Model(tuple(sizes), names, loss, bias, next(scales))


def rounding(model: Model, views: _Views, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return the standard errors of outputs, loss and gradient, in units of the dtype's epsilon."""
    # Where terms cancel, two correct programs may differ by more than any fixed fraction of the
    # result: Higham, *Accuracy and Stability of Numerical Algorithms*, ch. 2.8 and 3.3. Every term
    # is rounded once. The variance v(x) of a quantity x passes through each operation by the square
    # of its derivative, and the operation adds the squares of its own terms:
    # v(W a + b) = W^2 (v(a) + a^2) + b^2, and so on, forward and backward, in float64.
    a, v_a, zs, v_z = _forward(model, views, X)
    y, batch = y.astype(np.float64), len(X)  # (batch, n_out), one-hot where there are labels
    _, delta, losses = SLOW.output_delta(model.loss, model.activations[-1], zs[-1], y)
    v_loss = (delta**2 * v_z).sum() / batch**2 + losses.mean() ** 2
    total = np.maximum(1, np.abs(y).sum(axis=1, keepdims=True))  # the factor of a in a sum(y) - y
    v_delta = (v_a[-1] + a[-1] ** 2 + y**2) * total**2
    errors = {"outputs": np.sqrt(v_a[-1]), "loss": float(np.sqrt(v_loss))}
    for l in reversed(range(len(model.activations))):
        square, terms = delta**2, delta**2 + v_delta
        v_W = SLOW.weight_gradient(a[l] ** 2, terms) + SLOW.weight_gradient(v_a[l], square)
        errors[f"W{l + 1}"] = np.sqrt(v_W / batch)
        errors[f"b{l + 1}"] = np.sqrt(SLOW.bias_gradient(terms) / batch)
        if l:
            name, W_T = model.activations[l - 1], views[0][l].T.astype(np.float64)
            slope, no_bias = _slope(name, a[l]), np.zeros(len(W_T))
            back = SLOW.affine(delta, W_T, no_bias)
            v_back = SLOW.affine(terms, W_T**2, no_bias)
            v_delta = v_back * slope**2 + (BENDS[name] * back) ** 2 * (v_a[l] + 1)
            delta = back * slope
    return errors


def _forward(model: Model, views: _Views, X: np.ndarray) -> tuple[_Arrays, _Arrays, _Arrays, Any]:
    """Return activations, their variances, and z of each layer; and the variance of the last z."""
    zs, a = [], [X.astype(np.float64) * model.scale]
    v_a = [a[0] ** 2]
    for W, b, name in zip(*views, model.activations, strict=True):
        W, b = W.astype(np.float64), b.astype(np.float64)
        zs.append(SLOW.affine(a[-1], W, b))
        v_z = SLOW.affine(v_a[-1] + a[-1] ** 2, W**2, b**2)
        a.append(getattr(SLOW, name)(zs[-1]))
        if name == "softmax":
            from_z = v_z + (a[-1] ** 2 * v_z).sum(axis=1, keepdims=True) + 1
            v_a.append(a[-1] ** 2 * (from_z + 1))
        else:
            v_a.append(_slope(name, a[-1]) ** 2 * v_z + a[-1] ** 2)
    return a, v_a, zs, v_z


def _slope(name: str, a: np.ndarray) -> np.ndarray:
    slope = getattr(SLOW, f"{name}_prime_from_a", np.copy)  # exp is its own slope
    return np.asarray(slope(a))


def named(weights: _Arrays, biases: _Arrays) -> dict[str, np.ndarray]:
    """Return the arrays of all layers by name: W1, W2, ..., b1, b2, ..."""
    parts = {"W": weights, "b": biases}
    return {f"{k}{l}": array for k, arrays in parts.items() for l, array in enumerate(arrays, 1)}


class Case:
    """A random network with data, as the engines take it."""

    def __init__(self, rng: Rng, model: Model, dtype: str, batch: int, labels: bool) -> None:
        self.model, self.layout = model, Layout(model.sizes, dtype, model.bias)
        self.dtype, self.batch, self.params = dtype, batch, self.layout.zeros()
        views, n_out = self.layout.views(self.params), model.sizes[-1]
        for W, b in zip(*views, strict=True):
            W[...] = rng.standard_normal(W.shape) / np.sqrt(W.shape[1])
            b[...] = rng.standard_normal(b.shape) / 2 if model.bias else 0
        self.X = self._inputs(rng)
        y = rng.integers(n_out, size=batch) if labels and n_out > 1 else rng.random((batch, n_out))
        outputs = model.loss, model.activations[-1]
        self.targets = checks.targets(y, batch, n_out, dtype, kind=outputs)
        self.engines = {name: get_backend(name).engine(model, self.layout) for name in BACKENDS}
        self.both = self.slow, self.fast = [self.engines[name] for name in BACKENDS]
        self.grads, self.loss, _ = self.slow.gradient(self.params, self.X, self.targets)
        self.right = self.slow.evaluate(self.params, self.X, self.targets)[1]
        # What rounding explains.
        unit, rows = ROUNDINGS * np.finfo(dtype).eps, self.targets.rows(slice(None), n_out)
        errors = rounding(model, views, self.X, rows)
        self.slack = {name: unit * error for name, error in errors.items()}
        kind = f"{model.activations[0]}, {model.activations[-1]}, {model.loss}, bias {model.bias}"
        self.where = f"{'-'.join(map(str, model.sizes))}, {kind}, batch {batch}"

    def _inputs(self, rng: Rng) -> np.ndarray:
        """Return random inputs, some zero, none of which brings a ReLU near its kink."""
        model, dtype = self.model, np.uint8 if self.model.scale != 1 else self.dtype

        def draw(rows: int) -> np.ndarray:
            nonzero = rng.random((rows, model.sizes[0])) < 0.4
            return (nonzero * rng.standard_normal(nonzero.shape) / model.scale).astype(dtype)

        X = draw(self.batch)
        for _ in range(100 if "relu" in model.activations else 0):
            zs = _forward(model, self.layout.views(self.params), X)[2]
            relus = [z for z, name in zip(zs, model.activations, strict=True) if name == "relu"]
            near = np.any([((np.abs(z) < KINK) & (z != 0)).any(axis=1) for z in relus], axis=0)
            if not near.any():
                break
            X[near] = draw(int(near.sum()))
        return X

    def parts(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays of a buffer that are learnt, by name."""
        weights, biases = self.layout.views(flat)
        return named(weights, biases if self.model.bias else ())

    def padding(self, flat: np.ndarray) -> np.ndarray:
        """Return a copy of a buffer, with zeros for all that is learnt."""
        flat = flat.copy()
        for part in self.parts(flat).values():
            part[...] = 0
        return flat

    def copy(self) -> np.ndarray:
        """Return a copy of the parameters, aligned."""
        params = self.layout.zeros()
        params[:] = self.params
        return params

    def rate(self) -> float:
        """Return a learning rate, a power of two, whose step is as large as the weights."""
        step = np.abs(self.grads).max()
        return 2.0 ** round(np.log2(np.abs(self.params).max() / step)) if step else 1.0

    def trainer(self, backend: str, params: np.ndarray, size: int = 0, **options: Any) -> Any:
        """Return a trainer of `params` on the data of this case; by default, in one batch."""
        if backend == "numpy":
            options.pop("path", None)
        args = params, self.X, self.targets, size or self.batch
        return self.engines[backend].trainer(*args, **options)
