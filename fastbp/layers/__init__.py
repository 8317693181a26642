"""Nodes of a computational graph, each with `forward` and `backward`.

`forward` computes a node's value; `backward(dout)` takes the gradient of the end of the graph in
that value and returns its gradient in the inputs. Activations, products and losses run on the
kernels, or the reference, that `get_backend` offers: the equations stand there.

A node remembers the last `forward`, so each place in a graph needs a node of its own. What was
passed to `forward` is remembered without a copy by `Mul` and `Affine`: leave it, and the weights,
as they are until `backward` is done. No node ever changes what it is given.

Examples
--------
Two apples at 100 each, and a tax of 10 %; what is the price, and what does it depend on?

>>> apples, taxed = Mul(), Mul()
>>> price = taxed.forward(apples.forward(100, 2), 1.1)
>>> d_apples, d_tax = taxed.backward()
>>> d_apple, d_number = apples.backward(d_apples)
>>> [round(float(value), 9) for value in (price, d_apple, d_number, d_tax)]
[220.0, 2.2, 110.0, 200.0]

References
----------
Saito, *Deep Learning from Scratch*, ch. 5.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from ..engines import get_backend
from ..reference import Targets

# -- what nodes are made of ------------------------------------------------------------------------


def _floats(name: str, value: ArrayLike) -> np.ndarray:
    """Return value as a float32 or float64 array; what holds integers becomes float64."""
    array = checks.numbers_array(name, value)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def _incoming(dout: ArrayLike, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return dout in the shape and dtype of the node's value; a number stands for all entries."""
    dout = checks.numbers_array("dout", dout)
    if dout.shape not in ((), shape):
        raise ValueError(
            f"dout must be a number or of the shape that forward returned, {shape}; "
            f"found {dout.shape}"
        )
    return np.broadcast_to(dout.astype(dtype, copy=False), shape)


def _summed_to(gradient: np.ndarray, like: np.ndarray) -> Any:
    """Return the gradient summed over the axes along which `like` was broadcast; a new array."""
    added = gradient.ndim - like.ndim
    repeated = tuple(
        axis + added for axis, n in enumerate(like.shape) if n == 1 != gradient.shape[axis + added]
    )
    total = gradient.sum(axis=(*range(added), *repeated), dtype=gradient.dtype)
    return np.array(total.reshape(like.shape), like.dtype)[()]


def _product(backend: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the matrix product left @ right, by the backend's `affine` with no bias."""
    none = np.zeros(right.shape[1], right.dtype)
    return get_backend(backend).affine(left, right.T, none)


def targets_of(y: ArrayLike, scores: np.ndarray, name: str = "y") -> Targets:
    """Return the targets of scores (..., n_out): labels (...), or values of the same shape."""
    y = checks.numbers_array(name, y)
    leading, n_out = scores.shape[:-1], scores.shape[-1]
    if y.shape not in (leading, scores.shape):
        raise ValueError(
            f"{name} must be integer labels of shape {leading} or targets of shape "
            f"{scores.shape}; found {y.shape}"
        )
    rows = y.reshape(-1, n_out) if y.ndim == scores.ndim else y.reshape(-1)
    return checks.targets(rows, len(rows), n_out, scores.dtype, name)


def backend_name(backend: str) -> str:
    """Return the name of a backend, checked."""
    return get_backend(backend if isinstance(backend, str) else repr(backend)).name


class _Node:
    """Remembers what `forward` saw, for `backward`."""

    parameters: tuple[str, ...] = ()  # attributes that are learnt; gradients are `d` + name
    _seen: Any = None

    def _recall(self) -> Any:
        if self._seen is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward needs what forward has seen: call forward first"
            )
        return self._seen


class _BackendNode(_Node):
    """A node that runs on a backend."""

    def __init__(self, backend: str = "numba") -> None:
        self.backend = backend_name(backend)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(backend={self.backend!r})"


# -- arithmetic ------------------------------------------------------------------------------------


class _Arithmetic(_Node):
    """A node of two inputs, numbers or arrays, broadcast as NumPy does."""

    _value: Callable[[np.ndarray, np.ndarray], Any]
    _gradients: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def forward(self, x: ArrayLike, y: ArrayLike) -> Any:
        """Return the node's value.

        Parameters
        ----------
        x, y : numbers or arrays
            Integers are taken as float64. Shapes are broadcast.

        Returns
        -------
        float or array

        Raises
        ------
        TypeError
            If an input does not hold numbers.
        ValueError
            If the shapes cannot be broadcast.
        """
        x, y = _floats("x", x), _floats("y", y)
        try:
            shape = np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            raise ValueError(
                f"x and y must have shapes that broadcast; found {x.shape} and {y.shape}"
            ) from None
        self._seen = x, y, shape
        return self._value(x, y)

    def backward(self, dout: ArrayLike = 1) -> tuple[Any, Any]:
        """Return the gradients in x and y.

        Parameters
        ----------
        dout : number, or array of the shape that `forward` returned
            Gradient in the node's value.

        Returns
        -------
        dx, dy : floats or arrays
            New, of the shapes and dtypes of x and y: summed where an input was broadcast.

        Raises
        ------
        RuntimeError
            If nothing went forward yet.
        TypeError, ValueError
            If dout does not fit.
        """
        x, y, shape = self._recall()
        dout = _incoming(dout, shape, np.result_type(x, y))
        dx, dy = self._gradients(dout, x, y)
        return _summed_to(dx, x), _summed_to(dy, y)


class Add(_Arithmetic):
    """The sum of two inputs.

    out = x + y;  dx = dout;  dy = dout

    Examples
    --------
    >>> import numpy as np
    >>> node = Add()
    >>> node.forward(np.ones((2, 3)), [1, 2, 3])
    array([[2., 3., 4.],
           [2., 3., 4.]])
    >>> dx, dy = node.backward()
    >>> dy
    array([2., 2., 2.])
    """

    @staticmethod
    def _value(x: np.ndarray, y: np.ndarray) -> Any:
        return x + y

    @staticmethod
    def _gradients(dout: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return dout, dout


class Mul(_Arithmetic):
    """The product of two inputs, element by element.

    out = x * y;  dx = dout * y;  dy = dout * x

    Examples
    --------
    >>> node = Mul()
    >>> print(node.forward(100, 2))
    200.0
    >>> print(*node.backward(1.5))
    3.0 150.0
    """

    @staticmethod
    def _value(x: np.ndarray, y: np.ndarray) -> Any:
        return x * y

    @staticmethod
    def _gradients(dout: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return dout * y, dout * x


# -- activations -----------------------------------------------------------------------------------


class Activation(_BackendNode):
    """out = f(x), element by element, f being one of the backend's activations."""

    _function = ""

    def forward(self, x: ArrayLike) -> Any:
        """Return f(x), in a new array.

        Parameters
        ----------
        x : number or array, of any shape
            float32 and float64 keep their precision; integers are taken as float64.

        Returns
        -------
        float or array
            Of the shape of x.

        Raises
        ------
        TypeError
            If x does not hold numbers.
        """
        x, backend = _floats("x", x), get_backend(self.backend)
        a = getattr(backend, self._function)(x).reshape(x.shape)
        # The slope, rather than a, is what is remembered: the caller may write into a.
        slope = getattr(backend, f"{self._function}_prime_from_a")(a)
        self._seen = slope.reshape(x.shape)
        return a[()]

    def backward(self, dout: ArrayLike = 1) -> Any:
        """Return the gradient in x, dout * f'(x), in a new array.

        Parameters
        ----------
        dout : number, or array of the shape of x
            Gradient in what `forward` returned.

        Returns
        -------
        float or array
            Of the shape of x.

        Raises
        ------
        RuntimeError
            If nothing went forward yet.
        TypeError, ValueError
            If dout does not fit.
        """
        slope = self._recall()
        return _incoming(dout, slope.shape, slope.dtype) * slope


class ReLU(Activation):
    """The rectified linear unit.

    out = max(x, 0);  dx = dout where x > 0, else 0 (also at the kink)

    Parameters
    ----------
    backend : {"numba", "numpy"}

    Examples
    --------
    >>> node = ReLU()
    >>> node.forward([[-1.0, 2.0]])
    array([[0., 2.]])
    >>> node.backward([[5.0, 5.0]])
    array([[0., 5.]])
    """

    _function = "relu"


class Sigmoid(Activation):
    """The logistic function.

    out = 1 / (1 + exp(-x));  dx = dout * out * (1 - out)

    Parameters
    ----------
    backend : {"numba", "numpy"}

    Examples
    --------
    >>> node = Sigmoid()
    >>> node.forward([0.0, 1000.0])
    array([0.5, 1. ])
    >>> node.backward()
    array([0.25, 0.  ])
    """

    _function = "sigmoid"


class Tanh(Activation):
    """The hyperbolic tangent.

    out = tanh(x);  dx = dout * (1 - out**2)

    Parameters
    ----------
    backend : {"numba", "numpy"}

    Examples
    --------
    >>> node = Tanh()
    >>> node.forward([0.0, -1000.0])
    array([ 0., -1.])
    >>> node.backward()
    array([1., 0.])
    """

    _function = "tanh"


# -- the affine node -------------------------------------------------------------------------------


class Affine(_BackendNode):
    """A layer's weighted input.

    out = x @ W + b;  dx = dout @ W.T;  dW = x.T @ dout;  db = sum of dout over the samples

    dW and db are plain sums: the 1/batch of a mean loss is in the dout that the loss node sends.

    Parameters
    ----------
    W : (n_in, n_out) array
        As in the book; `Network.weights[l]` is the transpose. A float32 or float64 array is used
        itself, not copied, so that what is written into it is seen; anything else is copied, as
        float64 if it holds integers. Its dtype is that of all results.
    b : (n_out,) array
        Of W's dtype; used itself as W is.
    backend : {"numba", "numpy"}

    Attributes
    ----------
    W, b : arrays
    dW, db : arrays or None
        Gradients in W and b, new at each `backward`.

    Raises
    ------
    TypeError
        If W or b does not hold numbers, or their dtypes differ.
    ValueError
        If the shapes do not fit, or a value is not finite.

    References
    ----------
    Saito, *Deep Learning from Scratch*, ch. 5.6.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Affine(np.ones((3, 2)), np.array([0.0, 1.0]))
    >>> layer.forward([[1.0, 2.0, 3.0]])
    array([[6., 7.]])
    >>> layer.backward([[1.0, 10.0]])
    array([[11., 11., 11.]])
    >>> layer.dW
    array([[ 1., 10.],
           [ 2., 20.],
           [ 3., 30.]])
    >>> layer.db
    array([ 1., 10.])
    """

    parameters = ("W", "b")

    def __init__(self, W: ArrayLike, b: ArrayLike, backend: str = "numba") -> None:
        super().__init__(backend)
        W, b = _floats("W", W), checks.numbers_array("b", b)
        if W.ndim != 2 or not W.size:
            raise ValueError(f"W must be (n_in, n_out), with at least one of each; found {W.shape}")
        b = b if b.dtype.kind == "f" else b.astype(W.dtype)
        if b.shape != W.shape[1:]:
            raise ValueError(
                f"b must be ({W.shape[1]},), one for each column of W; found {b.shape}"
            )
        if b.dtype != W.dtype:
            raise TypeError(f"b must be of W's dtype, {W.dtype}; found {b.dtype}")
        self.W, self.b = checks.finite("W", W), checks.finite("b", b)
        self.dW: np.ndarray | None = None
        self.db: np.ndarray | None = None

    def __repr__(self) -> str:
        n_in, n_out = self.W.shape
        return f"Affine({n_in} to {n_out}, {self.W.dtype}, backend={self.backend!r})"

    def forward(self, x: ArrayLike) -> np.ndarray:
        """Return x @ W + b.

        Parameters
        ----------
        x : (..., n_in) array, or images: (batch, ...) whose pixels are n_in
            Samples in any leading shape, also none. Images of three or more dimensions whose last
            one is not n_in are flattened to (batch, n_in). Any real dtype.

        Returns
        -------
        (..., n_out) array, or (batch, n_out)
            Of W's dtype.

        Raises
        ------
        TypeError
            If x does not hold numbers.
        ValueError
            If its shape does not fit, or it holds no sample.
        """
        x = checks.numbers_array("x", x)
        n_in, n_out = self.W.shape
        leading = self._leading(x.shape)
        rows = x.astype(self.W.dtype, copy=False).reshape(-1, n_in)
        out = get_backend(self.backend).affine(rows, self.W.T, self.b)
        self._seen = rows, x.shape, (*leading, n_out)
        return out.reshape(*leading, n_out)

    def _leading(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in which the samples lie."""
        n_in = len(self.W)
        if 0 in shape:
            raise ValueError(f"x must hold at least one sample; found shape {shape}")
        if shape[-1:] == (n_in,):
            return shape[:-1]
        if len(shape) > 2 and math.prod(shape[1:]) == n_in:
            return shape[:1]
        hint = ": a column vector; pass x.T" if shape == (n_in, 1) else ""
        raise ValueError(
            f"x must be (..., {n_in}), or (batch, ...) with {n_in} pixels each; found {shape}{hint}"
        )

    def backward(self, dout: ArrayLike = 1) -> np.ndarray:
        """Return the gradient in x; leave those in W and b in `dW` and `db`.

        Parameters
        ----------
        dout : number, or array of the shape that `forward` returned
            Gradient in x @ W + b.

        Returns
        -------
        array of the shape of x
            From the W of now: update W after `backward`, not before.

        Raises
        ------
        RuntimeError
            If nothing went forward yet.
        TypeError, ValueError
            If dout does not fit.
        """
        x, x_shape, out_shape = self._recall()
        dout = _incoming(dout, out_shape, self.W.dtype).reshape(-1, out_shape[-1])
        # Sums as they are: the backend's weight_gradient and bias_gradient would divide them by
        # the batch, and to multiply back is not exact.
        self.dW = _product(self.backend, x.T, dout)
        self.db = _product(self.backend, np.ones((1, len(dout)), dout.dtype), dout)[0]
        return _product(self.backend, dout, self.W.T).reshape(x_shape)


# -- the loss node ---------------------------------------------------------------------------------


class SoftmaxWithLoss(_BackendNode):
    """Softmax of the scores, then the mean cross-entropy.

    out = mean over the samples of -sum(y log softmax(x));  dx = (softmax(x) - y) / batch

    The gradient holds for targets that sum to 1, as labels do; for others it is
    (softmax(x) sum(y) - y) / batch. The loss is computed from x, exact also in saturation.

    Parameters
    ----------
    backend : {"numba", "numpy"}

    References
    ----------
    Saito, *Deep Learning from Scratch*, ch. 5.6.3 and appendix A.

    Examples
    --------
    >>> node = SoftmaxWithLoss()
    >>> round(node.forward([[0.0, 0.0], [0.0, 0.0]], [0, 1]), 6)
    0.693147
    >>> node.backward()
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """

    def forward(self, x: ArrayLike, y: ArrayLike) -> float:
        """Return the mean loss.

        Parameters
        ----------
        x : (..., n_out) array
            Scores, before softmax: one row a sample, in any leading shape, also none.
        y : (...) integer labels, or (..., n_out) targets, one-hot or real
            Of the leading shape, or the shape, of x.

        Returns
        -------
        float

        Raises
        ------
        TypeError
            If x or y does not hold numbers, or labels are not integers.
        ValueError
            If the shapes do not fit, a label is not in range(n_out), or a value is not finite.
        """
        x = _floats("x", x)
        if not x.ndim or not x.size:
            raise ValueError(f"x must be (..., n_out), at least one sample; found {x.shape}")
        targets = targets_of(y, x)
        rows = checks.finite("x", x.reshape(-1, x.shape[-1]))
        y = targets.rows(slice(None), x.shape[-1])
        output = get_backend(self.backend).output_delta("cross-entropy", "softmax", rows, y)
        _, delta, losses = output
        self._seen = delta / len(delta), x.shape
        return float(losses.mean())

    def backward(self, dout: ArrayLike = 1) -> np.ndarray:
        """Return the gradient in the scores.

        Parameters
        ----------
        dout : number
            Gradient in the mean loss.

        Returns
        -------
        array of the shape of x

        Raises
        ------
        RuntimeError
            If nothing went forward yet.
        TypeError, ValueError
            If dout is not a number.
        """
        delta, shape = self._recall()
        return float(_incoming(dout, (), np.float64)) * delta.reshape(shape)
