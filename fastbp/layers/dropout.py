"""Dropout as a node of a computational graph; see `fastbp.layers`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from ..model import choices
from ..reference import dropout
from .nodes import Node, floats


class Dropout(Node[np.ndarray]):
    """Inputs that are left out at random: out = x * mask;  dx = dout * mask.

    The mask is 0 with probability `rate`, else 1 / (1 - rate), for each neuron of each sample. It
    follows from `key` and their numbers alone, so that `forward` gives the same for the same key,
    and a gradient can be checked; set another key before each step of training, and None, which
    leaves out nothing, to predict.

    Parameters
    ----------
    rate : float from 0 to below 1, default 0.5
    key : int from 0 to below 2**64, or None, default 0
        Those of several nodes should differ.

    Examples
    --------
    >>> node = Dropout(0.5, key=1)
    >>> print(node.forward([[1.0, 2.0, 3.0, 4.0]]), node.backward())
    [[0. 4. 6. 8.]] [[0. 2. 2. 2.]]
    >>> node.key = None
    >>> print(node.forward([[1.0, 2.0, 3.0, 4.0]]))
    [[1. 2. 3. 4.]]
    """

    def __init__(self, rate: float = 0.5, key: int | None = 0) -> None:
        self.rate, self.key = choices.dropped("rate", rate), key

    def __repr__(self) -> str:
        return f"Dropout({self.rate!r}, key={self.key!r})"

    @np.errstate(all="ignore")
    def forward(self, x: ArrayLike) -> np.ndarray:
        """Return x, (..., n), without what is left out; float32 and float64 keep their precision.

        The samples of all leading dimensions are numbered from 0 on.
        """
        x = floats("x", x)
        if not x.ndim or not x.size:
            raise ValueError(f"x must be (..., n), at least one sample; got shape {x.shape}")
        self._out, self._seen = (x.shape, x.dtype), (mask := self._mask(x),)
        return np.asarray(x * mask)

    def _mask(self, x: np.ndarray) -> np.ndarray:
        key = checks.seed("key", self.key)
        if key is None:
            return np.ones_like(x)
        if key >= 2**64:
            raise ValueError(f"key must be below 2**64; got {key}")
        n = x.shape[-1]
        samples = np.arange(x.size // n)
        return dropout.mask(key, 0, samples, n, self.rate, x.dtype).reshape(x.shape)

    def _gradient(self, dout: np.ndarray, mask: np.ndarray) -> Any:
        return dout * mask
