"""`Sequential`: a chain of nodes with a loss at its end; see `fastbp.layers`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._support import checks, differences
from ..model import choices
from . import activations, losses, nodes
from .dropout import Dropout

_HIDDEN: dict[str, type[activations.Activation] | None] = {
    "sigmoid": activations.Sigmoid, "tanh": activations.Tanh, "relu": activations.ReLU,
    "identity": None, "leaky_relu": activations.LeakyReLU, "elu": activations.ELU,
    "softplus": activations.Softplus, "silu": activations.SiLU, "gelu": activations.GELU,
}  # fmt: skip


class _Parameters(MutableMapping[str, np.ndarray]):
    """The parameters of the layers by name, in order; see `Sequential.params`."""

    def __init__(self, layers: Sequence[Any]) -> None:
        learning = [layer for layer in layers if getattr(layer, "parameters", ())]
        self._places = {
            f"{name}{l}": (layer, name)
            for l, layer in enumerate(learning, start=1)
            for name in layer.parameters
        }

    def __getitem__(self, key: str) -> np.ndarray:
        array: np.ndarray = getattr(*self._places[key])
        return array

    @np.errstate(all="ignore")
    def __setitem__(self, key: str, new: ArrayLike) -> None:
        if key not in self._places:
            raise KeyError(f"params has the keys {', '.join(self)}; got {key!r}")
        array = self[key]
        if new is array:  # `params[key] -= step` has already written into it
            return
        new = checks.numbers_array(key, new)
        if new.shape != array.shape:
            raise ValueError(f"{key} must keep its shape, {array.shape}; got {new.shape}")
        array[...] = checks.finite(key, new, array.dtype)

    def __delitem__(self, key: str) -> None:
        raise TypeError(f"params belong to the layers; {key!r} cannot be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{key!r}: {value.shape}' for key, value in self.items())}}}"

    def gradients(self) -> dict[str, np.ndarray]:
        """Return the gradients of the last backward pass, by the same names."""
        return {key: getattr(layer, f"d{name}") for key, (layer, name) in self._places.items()}


class Sequential:
    """A chain of layers with a loss at its end: the book's network of layers.

    Its methods take a batch x, (..., n_in), and y, either (...) integer labels or (..., n_out)
    targets. They raise TypeError or ValueError if these do not fit.

    Parameters
    ----------
    layers : sequence of nodes
        Nodes of one input: `Affine`, `ReLU`, `Dropout`, or any object with `forward(x)` and
        `backward(dout)`. A layer of your own names its learned arrays in an attribute `parameters`,
        such as ("W", "b"), and writes their gradients into `dW`, `db`. Each node may be used once,
        and takes as many inputs as the layer before it has outputs.
    loss : node, default `SoftmaxWithLoss` on the backend of the first layer
        An object with `forward(scores, y)` and `backward()`.

    Attributes
    ----------
    layers, loss_layer : tuple of nodes, node
    params : mapping
        `W1, b1, W2, b2, ...`, in this order: the arrays that the layers compute with, so that
        writing into one takes effect at once. Assigning to an item writes into the array as well:
        `params["W1"] = new` is `params["W1"][...] = new`. Shapes and dtypes stay.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [0, 1, 1, 0]
    >>> net = Sequential.mlp([2, 8, 2], activation="tanh", weight_init_std=1.0, seed=0)
    >>> for step in range(500):
    ...     for key, slope in net.gradient(X, y).items():
    ...         net.params[key] -= 0.5 * slope
    >>> net.accuracy(X, y)
    1.0
    >>> net.params
    {'W1': (2, 8), 'b1': (8,), 'W2': (8, 2), 'b2': (2,)}
    """

    def __init__(self, layers: Iterable[Any], loss: Any = None) -> None:
        try:
            self.layers = tuple(layers)
        except TypeError:
            raise TypeError(f"layers must be a sequence of nodes; got {layers!r}") from None
        if not self.layers:
            raise ValueError("layers must hold at least one node; got none")
        backend = getattr(self.layers[0], "backend", "numba")
        self.loss_layer = losses.SoftmaxWithLoss(backend) if loss is None else loss
        _check_chain(self.layers, self.loss_layer)

    @classmethod
    @np.errstate(all="ignore")
    def mlp(
        cls, sizes: Sequence[int], activation: str | Sequence[str] = "relu",
        weight_init_std: float = 0.01, dtype: DTypeLike = "float64", backend: str = "numba",
        seed: int | np.random.Generator | None = None,
    ) -> Self:  # fmt: skip
        """Return a multi-layer perceptron: `Affine` layers, with activations between them.

        Parameters
        ----------
        sizes : sequence of int
            Neurons per layer, the inputs first: with [784, 50, 10], `W1` is (784, 50).
        activation : str, or list with one for each hidden layer, default "relu"
            A name that `Network` takes for hidden layers.
        weight_init_std : float, default 0.01
            Standard deviation of the normal distribution of the first weights; biases are zero.
        dtype : {"float32", "float64"}, default "float64"
        backend : {"numba", "numpy"}, default "numba"
        seed : int, numpy.random.Generator or None, default None
            A seed gives the same start as that of a `Network` with `init=weight_init_std`.
        """
        sizes = checks.layer_sizes(sizes)
        names = choices.for_each(choices.hidden(activation, len(sizes) - 2), len(sizes) - 2)
        hidden = [_HIDDEN[checks.one_of("activation", name, _HIDDEN)] for name in names]
        std = checks.positive_float("weight_init_std", weight_init_std)
        dtype = checks.dtype_name(dtype)
        try:
            rng = np.random.default_rng(seed)
        except (TypeError, ValueError) as error:
            message = f"seed must be a non-negative integer, a Generator or None; got {seed!r}"
            raise type(error)(message) from None
        layers: list[Any] = []
        for l, (n_in, n_out) in enumerate(pairwise(sizes)):
            if l and (node := hidden[l - 1]):
                layers.append(node(backend))
            W = std * rng.standard_normal((n_out, n_in)).T  # in the order of Network's draws
            layers.append(nodes.Affine(W.astype(dtype, "C"), np.zeros(n_out, dtype), backend))
        return cls(layers)

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}], {self.loss_layer!r})"

    @property
    def params(self) -> MutableMapping[str, np.ndarray]:
        """The parameters by name, `W1, b1, W2, b2, ...`; see the class."""
        return _Parameters(self.layers)

    def predict(self, x: ArrayLike) -> np.ndarray:
        """Return the scores, (..., n_out), before softmax, as the book does.

        The class is the index of the largest: `net.predict(x).argmax(axis=-1)`. (`Network` has
        `feedforward` for outputs, and `predict` for classes.)
        """
        x = checks.numbers_array("x", x)
        if not x.ndim or not x.size:
            raise ValueError(f"x must hold at least one sample; got shape {x.shape}")
        dtypes = (nodes.floats(key, array).dtype for key, array in self.params.items())
        dtype = next(dtypes, np.float64)
        value = checks.finite("x", x, dtype)
        for layer in self.layers:
            value = layer.forward(value)
        return value

    def loss(self, x: ArrayLike, y: ArrayLike) -> float:
        """Return the mean loss over a batch."""
        return float(self.loss_layer.forward(self.predict(x), y))

    def accuracy(self, x: ArrayLike, labels: ArrayLike) -> float:
        """Return the share of rightly classified samples; labels (...), or one-hot (..., n_out)."""
        scores = self.predict(x)
        targets = losses.targets_of(labels, scores, "labels")
        checks.classes(targets, labels, losses.KIND)
        return float((scores.argmax(axis=-1).reshape(-1) == targets.labels).mean())

    def gradient(self, x: ArrayLike, y: ArrayLike) -> dict[str, np.ndarray]:
        """Return the gradient of the mean loss, by a backward pass: a dict shaped as `params`."""
        self.loss(x, y)
        dout = self.loss_layer.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return _Parameters(self.layers).gradients()

    @np.errstate(all="ignore")
    def numerical_gradient(self, x: ArrayLike, y: ArrayLike) -> dict[str, np.ndarray]:
        """Return what `gradient` does, by central differences; `params` are left as they were.

        dC/dw = (C(w + h) - C(w - h)) / 2h, h near the cube root of the precision of the dtype

        An independent check of `gradient`, of two losses for each parameter; worth comparing in
        float64 only. The gradients differ for a parameter whose step crosses the kink of ReLU.

        Examples
        --------
        >>> import numpy as np
        >>> net = Sequential.mlp([3, 4, 2], weight_init_std=0.5, seed=0)
        >>> exact = net.gradient(np.eye(3), [0, 1, 0])
        >>> numerical = net.numerical_gradient(np.eye(3), [0, 1, 0])
        >>> all(np.allclose(exact[key], numerical[key], atol=1e-9) for key in exact)
        True
        """
        self.loss(x, y)  # which makes floats of what was assigned to layers
        arrays, slopes = self.params.items(), differences.numerical_gradient
        return {key: slopes(lambda: self.loss(x, y), array) for key, array in arrays}


def _check_chain(layers: Sequence[Any], loss: Any) -> None:
    """Raise if one of these is not a node, or the widths of neighbours do not fit."""
    named = [(f"layers[{l}]", layer) for l, layer in enumerate(layers)] + [("loss", loss)]
    for name, node in named:
        for method in ("forward", "backward"):
            if isinstance(node, type) or not callable(getattr(node, method, None)):
                raise TypeError(f"{name} must be a node with a method {method}; got {node!r}")
    if len({id(node) for _, node in named}) < len(named):
        raise ValueError("layers must be different nodes; got one node in two places")
    width = None  # unknown
    for name, layer in named:
        if isinstance(layer, nodes.Affine):
            if width not in (None, len(layer.W)):
                wanted = f"{width} inputs, the outputs of the layer before"
                raise ValueError(f"{name} must take {wanted}; got W of shape {layer.W.shape}")
            width = layer.W.shape[1]
        elif not isinstance(layer, (activations.Activation, Dropout)):
            width = None
