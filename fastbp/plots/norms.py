"""`Norms`: how large activations and deltas are in each layer, epoch by epoch."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from ..engines import get_backend

if TYPE_CHECKING:
    from ..history import History
    from ..network import Network


class Norms:
    """A callback of `Network.fit` that records the norms of each layer on a fixed probe batch.

    After each epoch, the mean over the probe's samples of |a_l| and of |delta_l|, Euclidean, where
    delta_l = dC/dz_l is the error of one sample's own loss. Deltas that shrink by a factor from
    layer to layer, towards the inputs, are gradients that vanish.

    Parameters
    ----------
    X : (batch, n_in) array
        The probe: a few hundred samples are enough. Copied.
    y : (batch,) integer labels, or (batch, n_out) targets
        Copied.

    Attributes
    ----------
    activations, deltas : list of tuple of float
        One entry an epoch, in it one norm for each layer of weights, the output last. A wider
        layer has larger norms. What overflows is infinite.

    Raises
    ------
    TypeError
        If X or y does not hold numbers.
    ValueError
        If X is no batch of samples, or y has not one entry for each; in training, at the end of
        the first epoch, if they do not fit the network.

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
    >>> len(norms.deltas), len(norms.deltas[0])
    (3, 3)
    >>> norms.deltas[0][0] < norms.deltas[0][1] < norms.deltas[0][2]
    True
    """

    def __init__(self, X: ArrayLike, y: ArrayLike) -> None:
        rows = _dense(X)
        self._X = checks.samples(rows, rows.shape[-1] if rows.ndim else 1).copy()
        self._y = checks.numbers_array("y", y).copy()
        if len(self._y) != len(self._X) if self._y.ndim else True:
            raise ValueError(
                f"y must have one entry per sample, {len(self._X)}; found shape {self._y.shape}"
            )
        self.activations: list[tuple[float, ...]] = []
        self.deltas: list[tuple[float, ...]] = []

    def on_epoch_end(self, net: "Network", history: "History") -> None:
        """Record the norms of the network as it is now.

        Parameters
        ----------
        net : fastbp.Network
            Of the same number of layers each time.
        history : fastbp.History
            Not looked at.

        Raises
        ------
        ValueError
            If the probe does not fit the network, or the network has another number of layers
            than before.
        """
        layers = net.num_layers - 1
        if self.deltas and len(self.deltas[-1]) != layers:
            raise ValueError(
                f"norms hold networks of {len(self.deltas[-1])} layers; found one of {layers}: "
                "record it by a Norms of its own"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            activations, deltas = _backprop(net, self._X, self._y)
        self.activations.append(tuple(map(_mean_norm, activations)))
        self.deltas.append(tuple(map(_mean_norm, deltas)))

    def state(self) -> dict[str, np.ndarray]:
        """Return all norms, for a training that is resumed."""
        return {name: np.array(getattr(self, name), np.float64) for name in _SERIES}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        for name in _SERIES:
            setattr(self, name, [tuple(row) for row in state[name].tolist()])


_SERIES = "activations", "deltas"


def _dense(X: Any) -> np.ndarray:
    return X.toarray() if checks.is_sparse(X) else checks.numbers_array("X", X)


def _backprop(
    net: "Network", X: np.ndarray, y: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the activations and the deltas of all layers, by the backend's operations."""
    backend, config = get_backend(net.backend), net.config
    X = checks.finite("X", checks.samples(X, net.sizes[0]), net.dtype, config["input_scale"])
    y = checks.targets(y, len(X), net.sizes[-1], net.dtype).rows(slice(None), net.sizes[-1])
    biases = net.biases or [np.zeros(len(W), net.dtype) for W in net.weights]
    a = [X.astype(net.dtype) * net.dtype.type(config["input_scale"])]
    for W, b in zip(net.weights[:-1], biases[:-1], strict=True):
        a.append(getattr(backend, config["activation"])(backend.affine(a[-1], W, b)))
    z = backend.affine(a[-1], net.weights[-1], biases[-1])
    output, delta, _ = backend.output_delta(config["loss"], config["output"], z, y)
    deltas = [delta]
    for W_next, a_here in zip(net.weights[:0:-1], a[:0:-1], strict=True):
        deltas.append(backend.backprop_delta(W_next, deltas[-1], a_here, config["activation"]))
    return [*a[1:], output], deltas[::-1]


def _mean_norm(rows: np.ndarray) -> float:
    return float(np.linalg.norm(rows.astype(np.float64), axis=1).mean())
