"""Which samples are held out for validation."""

from typing import Any

import numpy as np


def held_out(y: Any, share: float, seed: int = 0) -> np.ndarray:
    """Return which of the samples with targets y are held out: a mask, at least one on either side.

    The samples are sorted by class, or by target, and one is drawn of each of as many equal runs as
    samples are to be held out: a class has its share of them, to within one.
    """
    n, rng = len(y), np.random.default_rng(seed)
    rows = np.asarray(y).reshape(n, -1)
    # Of several columns the place of the largest entry, which of one-hot rows is the class.
    keys = rows[:, 0] if rows.shape[1] == 1 else rows.argmax(axis=1)
    mixed = rng.permutation(n)
    order = mixed[np.argsort(keys[mixed], kind="stable")]
    ends = np.arange(min(max(1, round(share * n)), n - 1) + 1)
    ends = ends * n // ends[-1]
    mask = np.zeros(n, bool)
    mask[order[rng.integers(ends[:-1], ends[1:])]] = True
    return mask
