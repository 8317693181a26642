"""The norms of a network's layers, recorded while it is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import reference
from .._support import checks
from .._support.shown import Called
from ..engines import get_backend
from ..history import History
from ..model.config import Config
from ..model.scaling import known, standardised
from ..network import Network
from .metrics import targets_of

_Layers = list[np.ndarray]
ROWS_AT_ONCE = 4096  # of samples by which dead neurons are found


class Norms(Called):
    """A callback of `Network.fit` that records the norms of each layer on a fixed probe batch.

    Before training and after each epoch, the mean over the probe's samples of the Euclidean norms
    |a_l| and |delta_l|, where delta_l = dC/dz_l is the error of one sample's own loss, without
    dropout. Deltas that shrink from layer to layer towards the inputs by a constant factor are
    vanishing gradients.

    Parameters
    ----------
    X : (batch, n_in) array
        The probe: a few hundred samples suffice. Both are copied.
    y : (batch,) integer labels, or (batch, n_out) targets

    Attributes
    ----------
    activations, deltas : list of tuple of float
        One entry before training and one per epoch, each with one norm for each layer of weights,
        the output last. A wider layer has larger norms. Norms that overflow are infinite. With a
        second `fit` they go on.
    first_epoch : int
        The epoch of the first entry: 0, the state before training.

    Raises
    ------
    TypeError, ValueError
        If X and y are not numbers for a batch of samples; from `fit`, before training, if they do
        not fit the network; after the first epoch, if it has another number of layers than the one
        before.

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
    >>> len(norms.deltas)  # before training, and after each epoch
    4
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
        self._first = 1  # unless `fit` tells when it begins

    def _arguments(self) -> dict[str, Any]:
        return {"X": self._X, "y": self._y}

    @property
    def first_epoch(self) -> int:
        """The epoch of the first entry: 0, before training, if `fit` called all methods."""
        return self._first

    def on_fit_begin(self, net: Network, history: History) -> None:
        """Record the norms before training; of a second `fit`, they are there already."""
        if not self.deltas and not len(history):
            self.on_epoch_end(net, history)
            self._first = 0

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
        kept = {name: np.array(values, np.float64) for name, values in series.items()}
        return {**kept, "first_epoch": np.array([self._first], np.float64)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        self.activations = list(map(tuple, state["activations"].tolist()))
        self.deltas = list(map(tuple, state["deltas"].tolist()))
        self._first = int(state.get("first_epoch", [1])[0])  # 0.2 recorded none before training


def backprop(net: Network, X: Any, y: np.ndarray) -> tuple[_Layers, _Layers]:
    """Return the activations and the deltas of all layers, computed by the network's backend."""
    backend, config = get_backend(net.backend), Config.checked(**net.config)
    a, zs = [_inputs(net, X)], _Layers()
    y = targets_of(net, y, a[0].shape[0], "y").rows(slice(None), net.sizes[-1])
    for l, activation in enumerate(config.hidden):
        zs.append(_affine(net, l, a[-1]))
        a.append(_mapped(backend, activation, "", zs[-1]))
    output, *deltas = _output_delta(backend, config, _affine(net, -1, a[-1]), y)
    below = zip(net.weights[1:], config.hidden, zs, a[1:], strict=True)
    for W_next, activation, z, a_here in reversed([*below]):
        known = activation if activation in reference.DERIVATIVES else "identity"
        delta = backend.backprop_delta(W_next, deltas[-1], a_here, known)
        if known != activation:  # whose slope does not follow from a
            delta *= _mapped(backend, activation, "_prime", z)
        deltas.append(delta)
    return [*a[1:], output], deltas[::-1]


def _mapped(backend: Any, activation: Any, form: str, z: np.ndarray) -> np.ndarray:
    """Return f(z), or f'(z) for the form "_prime"; functions of the user's by the reference."""
    if isinstance(activation, str):
        return np.asarray(getattr(backend, activation + form)(z))
    (reference.slope if form else reference.activate)(activation, z, out := np.empty_like(z))
    return out


def _output_delta(backend: Any, config: Config, z: np.ndarray, y: np.ndarray) -> _Layers:
    """Return the output and its delta."""
    if config.kind == (config.loss, config.output):
        return list(backend.output_delta(config.loss, config.output, z, y)[:2])
    a, delta, losses = np.empty_like(z), np.empty_like(z), np.empty(len(z))
    model = config.model()
    reference.output_delta(model.loss, config.output, z, y, a, delta, losses, model.setting)
    return [a, delta]


def dead(net: Network, X: ArrayLike | None = None) -> np.ndarray:
    """Return which neurons of the first layer are dead, as (n,) bool.

    Their weights are all zero; or, if there are samples X, more than one, their output is the same
    for all of them, as of a relu that never fires.
    """
    silent: np.ndarray = np.logical_not(net.weights[0].any(axis=1))
    if X is not None:
        rows = checks.samples(X, net.sizes[0])
        backend, hidden = get_backend(net.backend), Config.checked(**net.config).hidden
        alike, first = np.full(len(silent), rows.shape[0] > 1), None
        for start in range(0, rows.shape[0], ROWS_AT_ONCE):
            z = _affine(net, 0, _inputs(net, rows[start : start + ROWS_AT_ONCE]))
            a = _mapped(backend, hidden[0], "", z) if hidden else z
            first = a[0] if first is None else first
            alike = np.logical_and(alike, (a == first).all(axis=0))
        silent = np.logical_or(silent, alike)
    return silent


def _inputs(net: Network, X: Any) -> Any:
    """Return what the first layer takes, of the network's dtype."""
    scale, scaling = net.config["input_scale"], known(net.config["scale"], net.scaling)
    X = standardised(scaling, checks.samples(X, net.sizes[0]), net.dtype)
    checks.finite("X", X, net.dtype, scale)
    return X.astype(net.dtype) * net.dtype.type(scale)


def _affine(net: Network, l: int, a: Any) -> np.ndarray:
    W = net.weights[l]
    b = net.biases[l] if net.biases else np.zeros(len(W), net.dtype)
    if checks.is_sparse(a):  # sparse inputs stay sparse
        return np.asarray(a @ W.T + b)
    z: np.ndarray = get_backend(net.backend).affine(a, W, b)
    return z


def _mean_norm(rows: np.ndarray) -> float:
    return float(np.linalg.norm(rows.astype(np.float64), axis=1).mean())
