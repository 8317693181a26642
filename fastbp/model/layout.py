"""One flat buffer holds all parameters of a network; here is where each of them lies.

W of a layer is input-major, `(n_in, stride)`, one row of outputs per input, followed by the row of
biases. Rows are whole lines of 64 bytes on every CPU; what lies beyond n_out is zero and stays so.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

LINE = 64  # bytes


def stride(n, dtype):
    """Return the length of a storage row of n elements.

    Whole lines, from four on an odd number of them: rows at even distances share few cache sets. A
    thread that owned half of the columns of four lines had half of its first level cache for them,
    and took 14 % longer over 784-50-10.
    """
    lines = -(-n * np.dtype(dtype).itemsize // LINE)
    if lines >= 4:
        lines |= 1
    return lines * LINE // np.dtype(dtype).itemsize


def aligned(size, dtype):
    """Return an uninitialised array that starts on a line."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.empty(size * itemsize + LINE, np.uint8)
    skip = -raw.ctypes.data % LINE
    return raw[skip : skip + size * itemsize].view(dtype)


def parts_of(n, rows):
    """Return slices of so many of n rows, the last with one more rather than a row of its own.

    A row that comes alone may be taken another way, and its outputs have other bits then.
    """
    *firsts, last = range(0, max(1, n - 1), rows)
    return [*(slice(first, first + rows) for first in firsts), slice(last, n)]


class Layout:
    """Places of all weights and biases in the flat buffer, for given sizes and dtype."""

    def __init__(self, sizes: Sequence[int], dtype: DTypeLike, bias: bool = True) -> None:
        self.sizes = tuple(sizes)
        self.dtype = np.dtype(dtype)
        self.bias = bias
        self.strides = [stride(n, dtype) for n in self.sizes]
        self.w, self.b, place = [0], [0], 0  # layer 0, the inputs, has none
        for n_in, row in zip(self.sizes[:-1], self.strides[1:], strict=True):
            self.w.append(place)
            self.b.append(place + n_in * row)
            place += (n_in + 1) * row
        self.size = place
        # Where each layer's weights and biases lie, in bytes, as NumPy's constructor takes it.
        self._places = {item: list(self._bytes(item)) for item in (4, 8)}
        self.num_parameters = sum(
            (n_in + bias) * n_out for n_in, n_out in zip(self.sizes, self.sizes[1:], strict=False)
        )

    def zeros(self) -> np.ndarray:
        """Return a new buffer, padding included."""
        flat = aligned(self.size, self.dtype)
        flat[:] = 0
        return flat

    def matrix(self, flat, l):
        """Return layer l's weights as stored, `(n_in, stride)`."""
        return flat[self.w[l] : self.b[l]].reshape(self.sizes[l - 1], self.strides[l])

    def row(self, flat, l):
        """Return layer l's biases as stored, `(stride,)`."""
        return flat[self.b[l] : self.b[l] + self.strides[l]]

    def views(self, flat: np.ndarray) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Return the weights `(n_out, n_in)` and biases `(n_out,)` of all layers, as views."""
        kind, array = flat.dtype, np.ndarray  # four times as fast as slices of reshaped slices
        places = self._places[flat.itemsize]
        weights = tuple([array(shape, kind, flat, w, steps) for shape, w, steps, _ in places])
        return weights, tuple([array(shape[:1], kind, flat, b) for shape, _, _, b in places])

    def _bytes(self, item):
        """Yield shape, offset and strides of each layer's weights, and its biases' offset."""
        layers = zip(
            self.sizes, self.sizes[1:], self.w[1:], self.b[1:], self.strides[1:], strict=False
        )
        for n_in, n_out, w, b, row in layers:
            yield (n_out, n_in), w * item, (item, row * item), b * item

    def _parts(self, flat):
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
