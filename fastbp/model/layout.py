"""One flat buffer holds all parameters of a network; here is where each of them lies.

W of a layer is input-major, `(n_in, stride)`, one row of outputs per input, followed by the row of
biases. Rows are whole lines of 64 bytes on every CPU; what lies beyond n_out is zero and stays so.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .._support.shown import html, number

LINE = 64  # bytes


def stride(n: int, dtype: DTypeLike) -> int:
    """Return the length of a storage row of n elements: a whole number of lines."""
    itemsize = np.dtype(dtype).itemsize
    lines = -(-n * itemsize // LINE)
    # Rows at even distances share few cache sets: with rows of four lines, a thread that owned half
    # of the columns could use half of its first-level cache, and 784-50-10 took 14 % longer.
    if lines >= 4:
        lines |= 1
    return lines * LINE // itemsize


def aligned(size: int, dtype: DTypeLike, unit: int = LINE) -> np.ndarray:
    """Return an uninitialised array that starts at a line of the cache, or at another unit."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.empty(size * itemsize + unit, np.uint8)
    skip = -int(raw.ctypes.data) % unit
    return raw[skip : skip + size * itemsize].view(dtype)


def parts_of(n: int, rows: int) -> list[slice]:
    """Return slices of n rows, each of `rows`; the last may be shorter, or one row longer."""
    # The last has two rows or more: a single one may take a path with other bits in its outputs.
    *firsts, last = range(0, max(1, n - 1), rows)
    return [*(slice(first, first + rows) for first in firsts), slice(last, n)]


class Layout:
    """The places of all weights and biases in the flat buffer, for given sizes and dtype."""

    def __init__(self, sizes: Sequence[int], dtype: DTypeLike, bias: bool = True) -> None:
        self.sizes, self.dtype, self.bias = tuple(sizes), np.dtype(dtype), bias
        self.strides = [stride(n, dtype) for n in self.sizes]
        self.w, self.b, place = [0], [0], 0  # of layer 0, the inputs, not used
        # By item size, in bytes: shape, offset and strides of weights, and the biases' offset.
        self._places: dict[int, list[tuple[Any, ...]]] = {4: [], 8: []}
        for n_in, n_out, row in zip(self.sizes, self.sizes[1:], self.strides[1:], strict=False):
            self.w.append(place)
            self.b.append(place + n_in * row)
            for item, places in self._places.items():
                places.append(((n_out, n_in), place * item, (item, row * item), self.b[-1] * item))
            place += (n_in + 1) * row
        self.size = place
        self.num_parameters = sum((n_in + bias) * n_out for n_in, n_out in pairwise(self.sizes))

    def zeros(self) -> np.ndarray:
        """Return a new buffer of zeros, padding included."""
        flat = aligned(self.size, self.dtype)
        flat[:] = 0
        return flat

    def matrix(self, flat: np.ndarray, l: int) -> np.ndarray:
        """Return layer l's weights as stored, `(n_in, stride)`."""
        return flat[self.w[l] : self.b[l]].reshape(self.sizes[l - 1], self.strides[l])

    def row(self, flat: np.ndarray, l: int) -> np.ndarray:
        """Return layer l's biases as stored, `(stride,)`."""
        return flat[self.b[l] : self.b[l] + self.strides[l]]

    def clear_padding(self, flat: np.ndarray) -> None:
        """Set all that is no parameter to zero, where somebody wrote into the buffer."""
        for l, n in enumerate(self.sizes[1:], start=1):
            self.matrix(flat, l)[:, n:] = 0
            self.row(flat, l)[n * self.bias :] = 0

    def views(self, flat: np.ndarray) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Return the weights `(n_out, n_in)` and biases `(n_out,)` of all layers, as views."""
        kind, array = flat.dtype, np.ndarray  # four times as fast as slices of reshaped slices
        places = self._places[flat.itemsize]
        weights = tuple([array(shape, kind, flat, w, steps) for shape, w, steps, _ in places])
        return weights, tuple([array(shape[:1], kind, flat, b) for shape, _, _, b in places])

    def _parts(self, flat: np.ndarray) -> Iterator[np.ndarray]:
        for W, b in zip(*self.views(flat), strict=True):
            yield W
            if self.bias:
                yield b

    def to_vector(self, flat: np.ndarray) -> np.ndarray:
        """Return the parameters without padding: W (row by row), then b, layer by layer."""
        return np.concatenate([part.ravel() for part in self._parts(flat)])

    def from_vector(self, vector: np.ndarray, flat: np.ndarray) -> None:
        """Fill the buffer from what `to_vector` returned."""
        done = 0
        for part in self._parts(flat):
            part[...] = vector[done : done + part.size].reshape(part.shape)
            done += part.size


class Gradient:
    """The gradient of the mean loss of a batch.

    Attributes
    ----------
    weights : tuple of (n_out, n_in) arrays
    biases : tuple of (n_out,) arrays
        Empty if the network has no biases.
    loss : float
        The mean loss.

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> gradient = fastbp.Network([3, 2], seed=0).gradient(np.eye(3), [0, 1, 0])
    >>> gradient.weights[0].shape, gradient.biases[0].shape, gradient.to_vector().shape
    ((2, 3), (2,), (8,))
    """

    def __init__(self, layout: Layout, flat: np.ndarray, loss: float) -> None:
        self._layout, self._flat, self.loss = layout, flat, loss

    # Made when asked for: they take a sixth of the time of a small network's gradient.
    @cached_property
    def _views(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        return self._layout.views(self._flat)

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """dC/dW of each layer."""
        return self._views[0]

    @property
    def biases(self) -> tuple[np.ndarray, ...]:
        """dC/db of each layer; empty without biases."""
        return self._views[1] if self._layout.bias else ()

    def to_vector(self) -> np.ndarray:
        """Return the gradient in the order of `Network.to_vector`."""
        return self._layout.to_vector(self._flat)

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self._layout.sizes))
        return f"<Gradient of {sizes}: loss {number(self.loss)}, norm {number(_norm(self._flat))}>"

    def _repr_html_(self) -> str:
        parts = [("weights", self.weights), ("biases", self.biases)]
        rows = [
            (f"{name}[{l}]", array.shape, number(_norm(array)), number(float(abs(array).max())))
            for l in range(len(self.weights))
            for name, arrays in parts
            for array in arrays[l : l + 1]
        ]
        return html(("gradient of", "shape", "norm", "largest"), rows, f"loss {number(self.loss)}")


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array))
