"""Losses as nodes at the end of a computational graph; see `fastbp.layers`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from ..engines import get_backend
from ..model import choices
from ..reference import SETTINGS, TERMS, Targets
from .nodes import BackendNode, Node, floats

KIND = "cross-entropy", "softmax"  # of the first loss below


def targets_of(
    y: ArrayLike, scores: np.ndarray, name: str = "y", kind: tuple[str, str] = KIND
) -> Targets:
    """Return the targets of scores (..., n_out): labels (...), or values of the same shape."""
    y = checks.numbers_array(name, y)
    leading, n_out = scores.shape[:-1], scores.shape[-1]
    if y.shape not in (leading, scores.shape):
        wanted = f"integer labels of shape {leading} or targets of shape {scores.shape}"
        raise ValueError(f"{name} must be {wanted}; got {y.shape}")
    rows = y.reshape(-1, n_out) if y.ndim == scores.ndim else y.reshape(-1)
    return checks.targets(rows, len(rows), n_out, scores.dtype, name, kind=kind)


class SoftmaxWithLoss(BackendNode[np.ndarray]):
    """Softmax of the scores, then the mean cross-entropy.

    out = mean over the samples of -sum(y log softmax(x));  dx = (softmax(x) - y) / batch

    This gradient is for targets that sum to 1, as labels do; for others it is
    (softmax(x) sum(y) - y) / batch. The loss is computed from x, and is exact in saturation too.

    Examples
    --------
    >>> node = SoftmaxWithLoss()
    >>> round(node.forward([[0.0, 0.0], [0.0, 0.0]], [0, 1]), 6)
    0.693147
    >>> print(*node.backward())
    [-0.25  0.25] [ 0.25 -0.25]
    """

    @np.errstate(all="ignore")
    def forward(self, x: ArrayLike, y: ArrayLike) -> float:
        """Return the mean loss of scores x, before softmax, against y.

        x is (..., n_out): a row for each sample, in any leading shape, or one sample, of two scores
        or more: softmax of a single one is always 1. y are (...) integer labels in range(n_out), or
        (..., n_out) finite targets of at least 0, one-hot or real.
        """
        x = floats("x", x)
        if not x.size or x.shape[-1:] in ((), (1,)):
            wanted = "(..., n_out), at least one sample and two scores of each"
            raise ValueError(f"x must be {wanted}; got {x.shape}")
        n_out = x.shape[-1]
        y = targets_of(y, x).rows(slice(None), n_out)
        rows = checks.finite("x", x.reshape(-1, n_out))
        backend = get_backend(self.backend)
        _, delta, losses = backend.output_delta(*KIND, rows, y)
        self._out, self._seen = ((), np.float64), ((delta / len(delta)).reshape(x.shape),)
        return float(losses.mean())

    def _gradient(self, dout: np.ndarray, delta: np.ndarray) -> Any:
        return float(dout) * delta


class MeanLoss(Node[np.ndarray]):
    """A loss that is a sum over the outputs, as its mean over the samples.

    out = mean over the samples of C(x, y);  dx = dC/dx / batch

    Parameters
    ----------
    loss : "quadratic", "absolute", "huber" or "quantile", `fastbp.losses.Huber`,
        `fastbp.losses.Quantile`, or a `fastbp.Loss`; default "quadratic"
        See `fastbp.losses` for the equations.

    Examples
    --------
    >>> import fastbp
    >>> node = MeanLoss(fastbp.losses.Huber(width=2.0))
    >>> node.forward([[1.0], [9.0]], [[0.0], [0.0]])  # 1/2 and 2 (9 - 1)
    8.25
    >>> node.backward()
    array([[0.5],
           [1. ]])
    """

    def __init__(self, loss: Any = "quadratic") -> None:
        self.loss = choices.loss(loss)
        # Its name, "own" for a user's, beside that of the output; and its setting or the default.
        self.kind = choices.kind(self.loss, "identity")
        checks.one_of("loss", self.kind[0], (*TERMS, choices.OWN))
        self._terms = getattr(self.loss, "terms", None) or TERMS[self.kind[0]]
        given = choices.setting(self.loss)
        self.setting = SETTINGS.get(self.kind[0], ("", 0.0))[1] if given is None else given

    def __repr__(self) -> str:
        return f"MeanLoss({self.loss!r})"

    @np.errstate(all="ignore")
    def forward(self, x: ArrayLike, y: ArrayLike) -> float:
        """Return the mean loss of outputs x, (..., n_out), against y of this shape.

        y may be integer labels (...), too, which stand for one-hot rows.
        """
        x = floats("x", x)
        if not x.ndim or not x.size:
            raise ValueError(f"x must be (..., n_out), at least one sample; got {x.shape}")
        n_out = x.shape[-1]
        targets = targets_of(y, x, kind=self.kind).rows(slice(None), n_out)
        rows = checks.finite("x", x.reshape(-1, n_out))
        losses, slopes = self._terms(rows, targets, self.setting)
        self._out, self._seen = ((), np.float64), ((slopes / len(rows)).reshape(x.shape),)
        return float(losses.sum(axis=1).mean())

    def _gradient(self, dout: np.ndarray, slopes: np.ndarray) -> Any:
        return (float(dout) * slopes).astype(slopes.dtype)
