"""How well a network predicts, of each class or of numbers; and the norms of its layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from .._support.shown import Called
from ..engines import get_backend
from ..history import History
from ..model.scaling import known, standardised
from ..network import Network
from ..reference import Targets
from ..reference.records import NUMBERS, predicts

_Layers = list[np.ndarray]
MOST_CLASSES = 1000  # a larger matrix takes GiB of memory, and nobody could read it


def confusion(net: Network, X: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return counts[i, j]: how many samples of class i the network predicts as class j."""
    classes = max(2, net.sizes[-1])
    if classes > MOST_CLASSES:
        raise ValueError(f"a confusion matrix shows up to {MOST_CLASSES} classes; got {classes}")
    outputs, true = _outputs(net, X, labels)
    pairs = true * classes + outputs.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


class PerClass(NamedTuple):
    """Figures of each class; NaN where there is nothing to divide by."""

    samples: np.ndarray  # (n,) int64: samples of the class
    right: np.ndarray  # (n,) int64: those of them that are classified right
    precision: np.ndarray  # (n,) float64: right / predicted as the class
    recall: np.ndarray  # (n,) float64: right / samples
    f1: np.ndarray  # (n,) float64: harmonic mean, 2 right / (samples + predicted as the class)


def per_class(counts: np.ndarray) -> PerClass:
    """Return the figures of each class, from what `confusion` returns."""
    samples, predicted, right = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    with np.errstate(all="ignore"):
        f1 = 2 * right / (samples + predicted)
        return PerClass(samples, right, right / predicted, right / samples, f1)


class Mistakes(NamedTuple):
    """The samples that a network is most confidently wrong about, the worst first."""

    indices: np.ndarray  # (k,) int64: rows of X
    labels: np.ndarray  # (k,) int64: true classes
    predicted: np.ndarray  # (k,) int64: predicted classes
    # (k,) float: output of the predicted class; a probability with softmax and with one sigmoid
    confidence: np.ndarray
    total: int  # number of all mistakes


def mistakes(net: Network, X: ArrayLike, labels: ArrayLike, most: int) -> Mistakes:
    """Return up to `most` samples that are classified wrong with the largest outputs."""
    outputs, true = _outputs(net, X, labels)
    predicted, confidence = outputs.argmax(axis=1), outputs.max(axis=1)
    wrong = np.flatnonzero(predicted != true)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return Mistakes(worst, true[worst], predicted[worst], confidence[worst], len(wrong))


class Regression(NamedTuple):
    """How near predicted numbers come to the true ones; of several outputs, the means."""

    r2: float  # 1 - sum((y - a)**2) / sum((y - mean(y))**2): 1 is perfect, 0 is a constant's
    mae: float  # mean of |y - a|, in the unit of y
    rmse: float  # root of the mean of (y - a)**2, in the unit of y
    baseline_mae: float  # the MAE of a constant: the mean of the targets that were trained on
    samples: int


def regression(
    net: Network, X: ArrayLike, y: ArrayLike, mean: float | ArrayLike | None = None
) -> Regression:
    """Compare the numbers that a network predicts with the true ones.

    Parameters
    ----------
    net : Network
        One that predicts numbers.
    X : (n, n_in) array
    y : (n,) array for one output, or (n, n_out)
    mean : float or (n_out,) array, optional
        What the baseline predicts: the mean of the training targets; by default that of y.

    Returns
    -------
    Regression
        R2 as of scikit-learn's `r2_score`: where all of y is equal, 1 if the predictions are
        exact, else 0; NaN for a single sample.

    Raises
    ------
    ValueError
        If the network predicts classes, or the shapes do not fit.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([1, 1], output="identity", seed=0)
    >>> net.from_vector([2, 0])  # a = 2 x
    >>> regression(net, [[0], [1], [2]], [0, 2, 5]).mae
    0.3333333333333333
    """
    if not predicts_numbers(net):
        raise ValueError(f"R2 and MAE are for a network that predicts numbers; got {net}")
    rows = checks.samples(X, net.sizes[0])
    # As float64: in a network's float32, the squares of a target around 1e6 lose its deviation.
    y = checks.finite("y", checks.numbers_array("y", y)).astype(np.float64)
    outputs = net.feedforward(rows).astype(np.float64)
    if y.shape != outputs.shape and y.shape != (outputs.size,):
        raise ValueError(f"y must have shape {outputs.shape}; got {y.shape}")
    y = y.reshape(outputs.shape)
    error, spread = outputs - y, y - y.mean(axis=0)
    squares, total = (error**2).sum(axis=0), (spread**2).sum(axis=0)
    constant = total == 0
    r2 = np.where(constant, squares == 0, 1 - squares / np.where(constant, 1, total))
    base = spread if mean is None else y - np.asarray(mean, np.float64)
    n = len(y)
    return Regression(
        float(r2.mean()) if n > 1 else float("nan"), float(np.abs(error).mean()),
        float(np.sqrt((error**2).mean(axis=0)).mean()), float(np.abs(base).mean()), n,
    )  # fmt: skip


def predicts_numbers(net: Network) -> bool:
    """Return whether a network predicts numbers, not classes."""
    config = net.config
    return predicts(config["loss"], config["output"], net.sizes[-1]) == NUMBERS


def _outputs(net: Network, X: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return an output for each class, and the labels; one sigmoid is of the classes 0 and 1."""
    rows = checks.samples(X, net.sizes[0])
    net.evaluate(rows, labels)  # raises for what are no classes
    targets, outputs = _targets(net, labels, rows.shape[0], "labels"), net.feedforward(rows)
    if net.sizes[-1] == 1:
        return np.hstack([1 - outputs, outputs]), targets.values[:, 0].astype(np.int64)
    if not targets.labels.size:
        raise ValueError("labels must be one class of each sample, (n,) integers; got rows")
    return outputs, targets.labels


def _targets(net: Network, y: ArrayLike, n: int, name: str) -> Targets:
    kind = net.config["loss"], net.config["output"]
    return checks.targets(y, n, net.sizes[-1], net.dtype, name, kind=kind)


class Norms(Called):
    """A callback of `Network.fit` that records the norms of each layer on a fixed probe batch.

    After each epoch, the mean over the probe's samples of the Euclidean norms |a_l| and |delta_l|,
    where delta_l = dC/dz_l is the error of one sample's own loss. Deltas that shrink from layer to
    layer towards the inputs by a constant factor are vanishing gradients.

    Parameters
    ----------
    X : (batch, n_in) array
        The probe: a few hundred samples suffice. Both are copied.
    y : (batch,) integer labels, or (batch, n_out) targets

    Attributes
    ----------
    activations, deltas : list of tuple of float
        One entry per epoch, with one norm for each layer of weights, the output last. A wider
        layer has larger norms. Norms that overflow are infinite.

    Raises
    ------
    TypeError, ValueError
        If X and y are not numbers for a batch of samples; after the first epoch of a training, if
        they do not fit the network, or if it has another number of layers than the one before.

    References
    ----------
    Nielsen, *Neural Networks and Deep Learning*, ch. 5: the vanishing gradient problem.

    Examples
    --------
    >>> import fastbp
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 30, 10], input_scale=1 / 16, seed=0)
    >>> norms = Norms(X[:200], y[:200])
    >>> history = net.fit(X, y, epochs=3, batch_size=10, learning_rate=0.5, callbacks=[norms])
    >>> norms.deltas[0][0] < norms.deltas[0][1] < norms.deltas[0][2]
    True
    """

    def __init__(self, X: ArrayLike, y: ArrayLike) -> None:
        rows: Any = X if checks.is_sparse(X) else checks.numbers_array("X", X)
        self._X = checks.samples(rows, rows.shape[-1] if rows.ndim else 1).copy()
        self._y = checks.numbers_array("y", y).copy()
        n = self._X.shape[0]
        if self._y.shape[:1] != (n,):
            raise ValueError(f"y must have one entry per sample, {n}; got shape {self._y.shape}")
        self.activations: list[tuple[float, ...]] = []
        self.deltas: list[tuple[float, ...]] = []

    def _arguments(self) -> dict[str, Any]:
        return {"X": self._X, "y": self._y}

    def on_epoch_end(self, net: Network, history: History) -> None:
        """Record the norms of the network as it is now."""
        layers = net.num_layers - 1
        if self.deltas and (known := len(self.deltas[-1])) != layers:
            raise ValueError(
                f"norms hold networks of {known} layers; got one of {layers}: use another Norms"
            )
        with np.errstate(all="ignore"):
            activations, deltas = backprop(net, self._X, self._y)
            self.activations.append(tuple(map(_mean_norm, activations)))
            self.deltas.append(tuple(map(_mean_norm, deltas)))

    def state(self) -> dict[str, np.ndarray]:
        """Return all norms, for a training that is resumed."""
        series = {"activations": self.activations, "deltas": self.deltas}
        return {name: np.array(values, np.float64) for name, values in series.items()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.activations = list(map(tuple, state["activations"].tolist()))
        self.deltas = list(map(tuple, state["deltas"].tolist()))


def backprop(net: Network, X: Any, y: np.ndarray) -> tuple[_Layers, _Layers]:
    """Return the activations and the deltas of all layers, computed by the network's backend."""
    backend, config = get_backend(net.backend), net.config

    def affine(x: Any, W: np.ndarray, b: np.ndarray) -> np.ndarray:  # sparse inputs stay sparse
        z: np.ndarray = x @ W.T + b if checks.is_sparse(x) else backend.affine(x, W, b)
        return z

    scaling, X = known(config["scale"], net.scaling), checks.samples(X, net.sizes[0])
    X = standardised(scaling, X, net.dtype)
    checks.finite("X", X, net.dtype, config["input_scale"])
    y = _targets(net, y, X.shape[0], "y").rows(slice(None), net.sizes[-1])
    biases = net.biases or [np.zeros(len(W), net.dtype) for W in net.weights]
    a = [X.astype(net.dtype) * net.dtype.type(config["input_scale"])]
    for W, b in zip(net.weights[:-1], biases[:-1], strict=True):
        a.append(getattr(backend, config["activation"])(affine(a[-1], W, b)))
    z = affine(a[-1], net.weights[-1], biases[-1])
    output, *deltas, _ = backend.output_delta(config["loss"], config["output"], z, y)
    for W_next, a_here in zip(net.weights[:0:-1], a[:0:-1], strict=True):
        deltas.append(backend.backprop_delta(W_next, deltas[-1], a_here, config["activation"]))
    return [*a[1:], output], deltas[::-1]


def _mean_norm(rows: np.ndarray) -> float:
    return float(np.linalg.norm(rows.astype(np.float64), axis=1).mean())
