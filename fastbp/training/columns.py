"""Columns of the training data: what they are standardised by, or a warning that they should be."""

import math
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import numpy as np

from .._support import checks
from ..model import scaling
from ..model.scaling import Moments, Scaling
from .ranks import Ranks
from .recipe import Learner

SAMPLES = 1000  # from all over, at most, by which columns are compared: 0.7 ms for those of MNIST
# Columns that are nonzero in fewer of them are not compared: the pixels at the edge of images. Of a
# few samples nothing is known.
NONZERO, LEAST = 0.1, 10
APART = 100  # times as large in root mean square: columns of one unit stay below
# The networks whose columns were compared, or are not to be: those of scikit-learn's estimators.
compared: WeakSet[Any] = WeakSet()


def moments(X: Any, name: str, rows: np.ndarray | None = None) -> Moments:
    """Return the moments of checked rows, all or some; raise for a value that is not finite."""
    found = scaling.moments(X, rows)
    if not scaling.is_finite(found):
        # Squares overflow in float64 alone: there, values are to be 1e-2 of the root of what fits.
        room = 100 * math.sqrt(found.n) * math.sqrt(np.finfo(np.float64).max)
        checks.finite(name, X, np.float64, room if X.dtype == np.float64 else 1.0)
    return found


def fitted(parts: Iterable[Moments], ranks: Ranks | None = None) -> Scaling:
    """Return the scaling by the samples of all ranks, the same bits on each."""
    ranks = ranks or Ranks()
    with ranks.agreed():
        own = scaling.joined(parts)
    every = ranks.gather(own)
    with ranks.agreed():
        found = scaling.fitted(scaling.joined(every))
    return found


def warn_unlike(learner: Learner, X: Any, names: Any, ranks: Ranks) -> None:
    """Warn, once for each network, of columns of unlike scales that are taken as they are."""
    if learner.config.scale is not None or learner.net in compared:
        return
    compared.add(learner.net)
    found = max(ranks.gather(_unlike(X, names)))
    if found and ranks.rank == 0:
        checks.warn(
            f"the columns of X have unlike scales: {found} in root mean square. Pass "
            "scale='standard' to Network, which standardises them"
        )


@np.errstate(all="ignore")
def _unlike(X: Any, names: Any) -> str:
    """Return in words the smallest and the largest column, if they are too far apart."""
    if checks.is_sparse(X) or X.dtype == np.uint8:
        return ""
    rows = X[:: -(-len(X) // SAMPLES)]
    rows = rows if rows.dtype.kind == "f" else rows.astype(np.float64)
    sizes = np.sqrt(np.einsum("ij,ij->j", rows, rows) / len(rows))
    often = np.count_nonzero(rows, axis=0) >= max(LEAST, NONZERO * len(rows))
    compared = np.flatnonzero(often & (sizes > 0) & np.isfinite(sizes))  # squares may overflow
    sizes = sizes[compared]
    if not (len(sizes) and sizes.max() >= APART * sizes.min()):
        return ""
    ends = [(compared[place], sizes[place]) for place in (sizes.argmin(), sizes.argmax())]
    return " and ".join(f"{size:.3g} of {_named(column, names)}" for column, size in ends)


def _named(column: int, names: Any) -> str:
    return f"column {column}" if names is None else f"{names[column]!r}"
