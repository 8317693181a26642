"""The nodes of a computational graph; see `fastbp.layers`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._support import checks
from ..engines import get_backend
from ..engines.operations import numbers_of


def floats(name: str, value: ArrayLike) -> np.ndarray:
    """Return value as a float32 or float64 array; integers become float64."""
    array = numbers_of(name, value)
    return array if array.dtype.kind == "f" else array.astype(np.float64)


Dx = TypeVar("Dx")  # what `backward` returns


class Node(Generic[Dx]):
    """What all nodes share: `backward`, and what `forward` remembers for it."""

    parameters: tuple[str, ...] = ()  # names of learned attributes; gradients are named "d" + name
    _out: tuple[tuple[int, ...], DTypeLike] | None = None  # shape and dtype of the last value
    _seen: tuple[Any, ...] = ()  # what `_gradient` needs of the last forward
    _gradient: Callable[..., Dx]  # of dout and `_seen`

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @np.errstate(all="ignore")
    def backward(self, dout: ArrayLike = 1) -> Dx:
        """Return the gradient with respect to the inputs of the last `forward`: `dx`, `dy`.

        `dout` is the gradient with respect to what `forward` returned, an array of its shape or a
        number for all entries. What is returned, of `Add` and `Mul` a tuple of two, is new, in the
        shapes and dtypes of the inputs (`Affine`: in the dtype of W). Where an input was broadcast,
        its gradient is the sum over the copies. Without a `forward` before, raises RuntimeError.
        """
        if self._out is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs inputs: call forward first")
        shape, dtype = self._out
        dout = checks.numbers_array("dout", dout)
        if dout.shape not in ((), shape):
            wanted = f"a number or an array of the shape that forward returned, {shape}"
            raise ValueError(f"dout must be {wanted}; got {dout.shape}")
        return self._gradient(np.broadcast_to(dout.astype(dtype, copy=False), shape), *self._seen)


class BackendNode(Node[Dx]):
    """A node that computes on a backend."""

    def __init__(self, backend: str = "numba") -> None:
        self.backend = checks.one_of("backend", backend, ("numba", "numpy"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(backend={self.backend!r})"


class Arithmetic(Node[tuple[Any, Any]]):
    """A node of two inputs, numbers or arrays, which are broadcast as in NumPy."""

    _value: Callable[[np.ndarray, np.ndarray], Any]
    _partials: Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]  # d out / dx and d out / dy

    @np.errstate(all="ignore")
    def forward(self, x: ArrayLike, y: ArrayLike) -> Any:
        """Return the value of the node, a float or an array, for numbers or arrays x and y.

        Integers are converted to float64. Shapes are broadcast.
        """
        x, y = floats("x", x), floats("y", y)
        try:
            shape = np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            message = f"x and y must have shapes that broadcast; got {x.shape} and {y.shape}"
            raise ValueError(message) from None
        self._out, self._seen = (shape, np.result_type(x, y)), (x, y)
        return self._value(x, y)

    def _gradient(self, dout: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
        by_x, by_y = self._partials(x, y)
        return _summed_to(dout * by_x, x), _summed_to(dout * by_y, y)


def _summed_to(gradient: np.ndarray, like: np.ndarray) -> Any:
    """Return the gradient summed over the axes along which `like` was broadcast; a new array."""
    shape = (1,) * (gradient.ndim - like.ndim) + like.shape
    copies = tuple(np.flatnonzero(np.not_equal(gradient.shape, shape)))
    total = gradient.sum(axis=copies, dtype=gradient.dtype)
    return np.array(total.reshape(like.shape), like.dtype)[()]


class Add(Arithmetic):
    """The sum of two inputs: out = x + y;  dx = dout;  dy = dout.

    Examples
    --------
    >>> node = Add()
    >>> print(*node.forward([[1, 1, 1], [1, 1, 1]], [1, 2, 3]))
    [2. 3. 4.] [2. 3. 4.]
    >>> dx, dy = node.backward()
    >>> dy
    array([2., 2., 2.])
    """

    _value = staticmethod(operator.add)
    _partials = staticmethod(lambda x, y: (1, 1))


class Mul(Arithmetic):
    """The product of two inputs by element: out = x * y;  dx = dout * y;  dy = dout * x.

    Examples
    --------
    >>> node = Mul()
    >>> print(node.forward(100, 2))
    200.0
    >>> print(*node.backward(1.5))
    3.0 150.0
    """

    _value = staticmethod(operator.mul)
    _partials = staticmethod(lambda x, y: (y, x))


class Affine(BackendNode[np.ndarray]):
    """The weighted input of a layer.

    out = x @ W + b;  dx = dout @ W.T;  dW = x.T @ dout;  db = sum of dout over the samples

    dW and db are plain sums: the 1/batch of a mean loss is in the dout of the loss node. dx is
    computed from the W at the time of `backward`: update W afterwards. W and b are checked whenever
    they are used, so that others may be assigned, of another shape too, but not between `forward`
    and `backward`.

    Parameters
    ----------
    W : (n_in, n_out) array
        As in the book; `Network.weights[l]` is its transpose. A float32 or float64 array is used
        without a copy, so that `forward` sees what is written into it; anything else is copied,
        integers as float64. All results have the dtype of W. Values must be finite.
    b : (n_out,) array
        Of the dtype of W; not copied where W would not be.

    Attributes
    ----------
    W, b : arrays
    dW, db : arrays or None
        Gradients with respect to W and b, new for each `backward`.

    Examples
    --------
    >>> layer = Affine([[1.0, 1.0]] * 3, [0.0, 1.0])
    >>> print(layer.forward([[1.0, 2.0, 3.0]]), layer.backward([[1.0, 10.0]]))
    [[6. 7.]] [[11. 11. 11.]]
    >>> print(*layer.dW, layer.db)
    [ 1. 10.] [ 2. 20.] [ 3. 30.] [ 1. 10.]
    """

    parameters = ("W", "b")
    W: Any
    b: Any
    dW: np.ndarray | None = None
    db: np.ndarray | None = None

    def __init__(self, W: ArrayLike, b: ArrayLike, backend: str = "numba") -> None:
        super().__init__(backend)
        self.W, self.b = W, b
        self._check()
        checks.finite("W", self.W), checks.finite("b", self.b)

    def _check(self) -> None:
        """Check W and b, which may have been assigned; what are no floats yet become floats."""
        W, b = floats("W", self.W), numbers_of("b", self.b)
        if W.ndim != 2 or not W.size:
            raise ValueError(f"W must be (n_in, n_out), with at least one of each; got {W.shape}")
        b = b if b.dtype.kind == "f" else b.astype(W.dtype)
        if b.shape != W.shape[1:]:
            raise ValueError(f"b must be ({W.shape[1]},), one for each column of W; got {b.shape}")
        if b.dtype != W.dtype:
            raise TypeError(f"b must be of the dtype of W, {W.dtype}; got {b.dtype}")
        self.W, self.b = W, b

    def __repr__(self) -> str:
        self._check()
        n_in, n_out = self.W.shape
        return f"Affine({n_in} to {n_out}, {self.W.dtype}, backend={self.backend!r})"

    @np.errstate(all="ignore")
    def forward(self, x: ArrayLike) -> np.ndarray:
        """Return x @ W + b, a (..., n_out) array of the dtype of W.

        x is (..., n_in): samples of any real dtype in any leading shape, or one sample. Images,
        arrays (batch, ...) of three or more dimensions whose last one is not n_in, but of n_in
        pixels each, are flattened to (batch, n_in).
        """
        self._check()
        x = checks.numbers_array("x", x)
        n_in, n_out = self.W.shape
        out_shape = (*self._leading(x.shape), n_out)
        rows = x.astype(self.W.dtype, copy=False).reshape(-1, n_in)
        out: np.ndarray = get_backend(self.backend).affine(rows, self.W.T, self.b)
        self._out, self._seen = (out_shape, self.W.dtype), (rows, x.shape)
        return out.reshape(out_shape)

    def _leading(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the leading shape, that of the samples."""
        n_in = len(self.W)
        if 0 in shape:
            raise ValueError(f"x must hold at least one sample; got shape {shape}")
        if shape[-1:] == (n_in,):
            return shape[:-1]
        if len(shape) > 2 and math.prod(shape[1:]) == n_in:
            return shape[:1]
        hint = ": a column vector; pass x.T" if shape == (n_in, 1) else ""
        wanted = f"(..., {n_in}), or (batch, ...) with {n_in} pixels each"
        raise ValueError(f"x must be {wanted}; got {shape}{hint}")

    def _gradient(self, dout: np.ndarray, rows: np.ndarray, x_shape: tuple[int, ...]) -> np.ndarray:
        self._check()
        dout = dout.reshape(len(rows), -1)
        wanted = rows.shape[1], dout.shape[1]
        if (self.W.shape, self.W.dtype) != (wanted, dout.dtype):
            got = f"{self.W.shape} of {self.W.dtype}"
            raise ValueError(f"W must be as in forward, {wanted} of {dout.dtype}; got {got}")
        # Products, not the backend's weight_gradient and bias_gradient: those divide by the batch,
        # and multiplying by it again is not exact.
        self.dW = self._product(rows.T, dout)
        self.db = self._product(np.ones((1, len(dout)), dout.dtype), dout)[0]
        return self._product(dout, self.W.T).reshape(x_shape)

    def _product(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return left @ right, as the backend's `affine` without a bias."""
        zeros = np.zeros(right.shape[1], right.dtype)
        return np.asarray(get_backend(self.backend).affine(left, right.T, zeros))
