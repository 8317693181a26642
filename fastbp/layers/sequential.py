"""`Sequential`: nodes of `layers` one after the other, with a loss at the end."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._support import checks
from ..model import activations
from . import Activation, Affine, ReLU, Sigmoid, SoftmaxWithLoss, Tanh, backend_name, targets_of


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
        layer, name = self._places[key]
        return getattr(layer, name)

    def __setitem__(self, key: str, new: ArrayLike) -> None:
        if key not in self._places:
            raise KeyError(f"params has {', '.join(self)}; found {key!r}")
        array = self[key]
        if new is array:  # what `params[key] -= step` assigns
            return
        new = checks.numbers_array(key, new)
        if new.shape != array.shape:
            raise ValueError(f"{key} must keep its shape, {array.shape}; found {new.shape}")
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
        """Return the gradients that the last backward left in the layers, by the same names."""
        return {key: getattr(layer, f"d{name}") for key, (layer, name) in self._places.items()}


_ACTIVATIONS = {"relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh}


class Sequential:
    """Layers one after the other, with a loss at the end: the book's network of layers.

    Parameters
    ----------
    layers : sequence of nodes
        Of one input each: `Affine`, `ReLU`, `Sigmoid`, `Tanh`, or anything with `forward(x)` and
        `backward(dout)`. A layer of your own names what it learns in an attribute `parameters`,
        as ("W", "b"), and leaves the gradients in `dW`, `db`. No node may stand in two places.
    loss : node, optional
        With `forward(scores, y)` and `backward()`; a `SoftmaxWithLoss` by default, on the backend
        of the first layer.

    Attributes
    ----------
    layers : tuple of nodes
    loss_layer : node
    params : mapping
        `W1, b1, W2, b2, ...`, in this order: the arrays that the layers compute with. Writing into
        one is seen at once. To assign to an item is to write into the array as well:
        `params["W1"] = new` and `params["W1"][...] = new` are the same, so that nobody is left
        with an array that is used no more. Shapes and dtypes stay.

    Raises
    ------
    TypeError
        If a layer or the loss lacks `forward` or `backward`.
    ValueError
        If there is no layer, one stands in two places, or a layer's inputs are not as many as the
        outputs of the one before.

    References
    ----------
    Saito, *Deep Learning from Scratch*, ch. 5.7: `TwoLayerNet`.

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [0, 1, 1, 0]
    >>> net = Sequential.mlp([2, 8, 2], activation="tanh", weight_init_std=1.0, seed=0)
    >>> for step in range(500):
    ...     grads = net.gradient(X, y)
    ...     for key in net.params:
    ...         net.params[key] -= 0.5 * grads[key]
    >>> net.accuracy(X, y)
    1.0
    >>> net.params
    {'W1': (2, 8), 'b1': (8,), 'W2': (8, 2), 'b2': (2,)}
    """

    def __init__(self, layers: Iterable[Any], loss: Any = None) -> None:
        try:
            self.layers = tuple(layers)
        except TypeError:
            raise TypeError(f"layers must be a sequence of nodes; found {layers!r}") from None
        if not self.layers:
            raise ValueError("layers must hold at least one node; found none")
        backend = getattr(self.layers[0], "backend", "numba")
        self.loss_layer = SoftmaxWithLoss(backend) if loss is None else loss
        _check_chain(self.layers, self.loss_layer)
        self._params = _Parameters(self.layers)

    @classmethod
    def mlp(
        cls, sizes: Sequence[int], activation: str = "relu", weight_init_std: float = 0.01,
        dtype: DTypeLike = "float64", backend: str = "numba",
        seed: int | np.random.Generator | None = None,
    ) -> Self:  # fmt: skip
        """Return a multi-layer perceptron: `Affine` layers, with activations between them.

        Parameters
        ----------
        sizes : sequence of int
            Neurons per layer, the inputs first: `[784, 50, 10]`.
        activation : {"relu", "sigmoid", "tanh", "identity"}
            Of the hidden layers.
        weight_init_std : float
            Weights start from a normal distribution with this standard deviation, biases at zero.
        dtype : {"float32", "float64"}
        backend : {"numba", "numpy"}
        seed : int or numpy.random.Generator, optional
            The same seed gives the start of a `Network` with `init=weight_init_std`.

        Returns
        -------
        Sequential

        Raises
        ------
        TypeError, ValueError
            For an argument of the wrong kind or value.

        Examples
        --------
        >>> Sequential.mlp([784, 50, 10], seed=0).params["W1"].shape
        (784, 50)
        """
        sizes = checks.layer_sizes(sizes)
        checks.one_of("activation", activation, activations.HIDDEN)
        std = checks.positive_float("weight_init_std", weight_init_std)
        dtype = checks.dtype_name(dtype)
        backend = backend_name(backend)
        try:
            rng = np.random.default_rng(seed)
        except (TypeError, ValueError) as error:
            message = f"seed must be a non-negative integer, a Generator or None; found {seed!r}"
            raise type(error)(message) from None
        layers: list[Any] = []
        for n_in, n_out in pairwise(sizes):
            if layers and activation in _ACTIVATIONS:
                layers.append(_ACTIVATIONS[activation](backend))
            W = std * rng.standard_normal((n_out, n_in)).T  # drawn as Network draws it
            layers.append(Affine(np.array(W, dtype, order="C"), np.zeros(n_out, dtype), backend))
        return cls(layers)

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}], {self.loss_layer!r})"

    @property
    def params(self) -> MutableMapping[str, np.ndarray]:
        """The parameters by name, `W1, b1, W2, b2, ...`; see the class."""
        return self._params

    def _samples(self, x: ArrayLike) -> np.ndarray:
        x = checks.numbers_array("x", x)
        if not x.ndim or not x.size:
            raise ValueError(f"x must hold at least one sample; found shape {x.shape}")
        dtype = next((array.dtype for array in self._params.values()), np.float64)
        return checks.finite("x", x, dtype)

    def _scores(self, x: np.ndarray) -> np.ndarray:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def predict(self, x: ArrayLike) -> np.ndarray:
        """Return the scores, before softmax, as the book does.

        Parameters
        ----------
        x : (..., n_in) array
            What the first layer takes.

        Returns
        -------
        (..., n_out) array
            The class is the index of the largest: `net.predict(x).argmax(axis=-1)`. (A `Network`
            has `feedforward` for its outputs, and `predict` for the class.)

        Raises
        ------
        TypeError, ValueError
            If x does not hold numbers, holds no sample, NaN or infinity, or its shape does not
            fit.
        """
        return self._scores(self._samples(x))

    def loss(self, x: ArrayLike, y: ArrayLike) -> float:
        """Return the mean loss over a batch.

        Parameters
        ----------
        x : (..., n_in) array
        y : (...) integer labels, or (..., n_out) targets

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If x or y does not fit.
        """
        return self.loss_layer.forward(self.predict(x), y)

    def accuracy(self, x: ArrayLike, labels: ArrayLike) -> float:
        """Return the share of samples classified right, 0 to 1.

        Parameters
        ----------
        x : (..., n_in) array
        labels : (...) integers, or (..., n_out) one-hot rows

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If x or labels do not fit, or labels are neither integers nor one-hot.
        """
        scores = self.predict(x)
        right = targets_of(labels, scores, "labels").labels
        if not right.size:
            raise ValueError(
                f"labels must be integers or one-hot rows; found shape {np.shape(labels)} "
                "of real values"
            )
        return float((scores.argmax(axis=-1).reshape(-1) == right).mean())

    def gradient(self, x: ArrayLike, y: ArrayLike) -> dict[str, np.ndarray]:
        """Return the gradient of the mean loss over a batch, by backward through the layers.

        Parameters
        ----------
        x : (..., n_in) array
        y : (...) integer labels, or (..., n_out) targets

        Returns
        -------
        dict of arrays
            With the names, order and shapes of `params`.

        Raises
        ------
        TypeError, ValueError
            If x or y does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> net = Sequential.mlp([3, 4, 2], seed=0)
        >>> list(net.gradient(np.ones((5, 3)), [0, 1, 0, 1, 0]))
        ['W1', 'b1', 'W2', 'b2']
        """
        self.loss(x, y)
        dout = self.loss_layer.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return self._params.gradients()

    def numerical_gradient(self, x: ArrayLike, y: ArrayLike) -> dict[str, np.ndarray]:
        """Return the gradient of the mean loss over a batch, by central differences.

        dC/dw = (C(w + h) - C(w - h)) / 2h, h near the cube root of the dtype's precision

        The independent witness for `gradient`. It costs two evaluations of the loss for every
        single parameter, and is worth comparing with in float64 only. At the kink of ReLU the
        derivative does not exist: a parameter whose step crosses it differs.

        Parameters
        ----------
        x : (..., n_in) array
            A few samples.
        y : (...) integer labels, or (..., n_out) targets

        Returns
        -------
        dict of arrays
            With the names, order and shapes of `params`, which are left as they were.

        Raises
        ------
        TypeError, ValueError
            If x or y does not fit.

        Examples
        --------
        >>> import numpy as np
        >>> net = Sequential.mlp([3, 4, 2], weight_init_std=0.5, seed=0)
        >>> X, y = np.eye(3), [0, 1, 0]
        >>> exact, numerical = net.gradient(X, y), net.numerical_gradient(X, y)
        >>> all(np.allclose(exact[key], numerical[key], atol=1e-9) for key in exact)
        True
        """
        x = self._samples(x)

        def loss() -> float:
            return self.loss_layer.forward(self._scores(x), y)

        return {key: _central_differences(loss, array) for key, array in self._params.items()}


def _check_chain(layers: Sequence[Any], loss: Any) -> None:
    """Raise if these are no nodes, or the widths of neighbours do not fit."""
    named = [(f"layers[{l}]", layer) for l, layer in enumerate(layers)] + [("loss", loss)]
    for name, node in named:
        for method in ("forward", "backward"):
            if isinstance(node, type) or not callable(getattr(node, method, None)):
                raise TypeError(f"{name} must be a node, with a method {method}; found {node!r}")
    if len({id(node) for _, node in named}) < len(named):
        raise ValueError("layers must be nodes of their own; found one node in two places")
    width = None  # unknown
    for name, layer in named:
        if isinstance(layer, Affine):
            if width not in (None, len(layer.W)):
                raise ValueError(
                    f"{name} must take {width} inputs, as the layer before it gives; "
                    f"found W {layer.W.shape}"
                )
            width = layer.W.shape[1]
        elif not isinstance(layer, Activation):
            width = None


def _central_differences(loss: Callable[[], float], array: np.ndarray) -> np.ndarray:
    """Return the numerical gradient of loss() in each entry of an array that it depends on."""
    numerical = np.empty(array.shape)
    base = np.cbrt(np.finfo(array.dtype).eps)
    for index in np.ndindex(array.shape):
        value = array[index]
        step = base * max(1.0, abs(value))
        try:
            array[index] = value + step
            above, high = loss(), array[index]
            array[index] = value - step
            below, low = loss(), array[index]
        finally:
            array[index] = value
        numerical[index] = (above - below) / (high - low)
    return numerical
