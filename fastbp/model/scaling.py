"""How the columns of a table are standardised: by the mean and deviation of the training data.

Rows are standardised where they come in, in float64, and then cast to the network's dtype: columns
with large offsets, such as years or times, lose no digits. Engines take the results as any rows.
"""

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from .. import reference
from .._support import checks
from .._support.texts import said

NAME = "standard"  # of the one way there is
WANTED = f"{NAME!r} or a pair (mean, deviation)"
# Of a part of dense rows, whose copies in float64 then stay in a cache, and in memory that is used
# again: with 2**18 the moments of MNIST took 0.6 s instead of 0.19 (Zen 4).
VALUES = 2**13
# A column is constant if it deviates from its mean by no more than so many units in the last place:
# sums of rounded numbers that should be equal differ by one or two.
ROUNDINGS = 4


class Scaling(NamedTuple):
    """What the columns of X are standardised by: a_0 = (x - mean) / deviation.

    Attributes
    ----------
    mean : (n_in,) float64 array, read-only
        0 if the training data were sparse or bytes, so that zeros stay zeros.
    deviation : (n_in,) float64 array, read-only
        0 marks a column that is constant in the training data: its input counts as 0.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([2, 1], scale=([1.0, 0.0], [2.0, 1.0]))
    >>> net.scaling.mean
    array([1., 0.])
    """

    mean: np.ndarray
    deviation: np.ndarray

    @property
    def divisor(self) -> np.ndarray:
        """The deviation, infinite where it is 0."""
        return np.where(self.deviation == 0, np.inf, self.deviation)

    def folded(self, W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights for raw columns, and what their biases are to be increased by, in float64.

        W ((x - mean) / deviation) + b = W' x + (b - W' mean), where W' = W / deviation.
        """
        raw = W / self.divisor
        return raw, -(raw @ self.mean)


def checked(name: str, pair: Any, n_in: int) -> Scaling:
    """Return a user's or a file's pair of vectors, copied."""
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise TypeError(f"{name} must be {WANTED}; got {said(repr(pair), 80)}")
    arrays = []
    for part, value in zip(Scaling._fields, pair, strict=True):
        vector = f"{name}: {part}"
        array = checks.finite(vector, checks.numbers_array(vector, value))
        if array.shape != (n_in,):
            wanted = f"must hold a number for each of the {n_in} inputs"
            raise ValueError(f"{vector} {wanted}; got shape {array.shape}")
        arrays.append(array)
    if (low := arrays[1].min()) < 0:
        raise ValueError(f"{name}: deviation must be at least 0; got {low:g}")
    return frozen(*arrays)


def frozen(mean: Any, deviation: Any) -> Scaling:
    """Return the pair in read-only arrays of its own."""
    pair = Scaling(np.array(mean, np.float64), np.array(deviation, np.float64))
    for array in pair:
        array.setflags(write=False)
    return pair


def known(scale: str | None, scaling: Scaling | None) -> Scaling | None:
    """Return a network's scaling; raise if it has a scale that is not known yet."""
    if scale is not None and scaling is None:
        raise ValueError(
            "scale='standard' is not known yet: `fit` finds the mean and deviation of each column. "
            "Call fit first, or pass scale=(mean, deviation) to Network"
        )
    return scaling


# Standardising rows.


def _parts(n: int, n_in: int, rows: int = 0) -> Iterator[slice]:
    """Yield slices of n rows, a bounded number of values each, or so many rows."""
    rows = rows or max(1, VALUES // n_in)
    return (slice(first, first + rows) for first in range(0, n, rows))


@np.errstate(all="ignore")  # what is not finite is found in the result
def standardised(
    scaling: Scaling | None, X: Any, dtype: np.dtype[Any], name: str = "X", first: int = 0
) -> Any:
    """Return checked rows as an engine takes them; without a scaling, as they are.

    A copy in the network's dtype; of a sparse matrix a sparse one, if no mean is subtracted.
    Raises a ValueError that names the row of X, counted from `first`, if a result is not finite.
    """
    if scaling is None:
        return X
    sparse = checks.is_sparse(X)
    if sparse and not scaling.mean.any():
        out = X.astype(np.float64)  # a copy
        reference.standardise(out.data, 0.0, scaling.deviation[out.indices], out.data)
        out.data = out.data.astype(dtype)
        if not (fine := np.isfinite(out.data)).all():
            entry = int(fine.argmin())
            row = int(np.searchsorted(X.indptr, entry, "right")) - 1
            raise _not_finite(name, X.data[entry], first + row, X.indices[entry], dtype)
        return out
    out = np.empty(X.shape, dtype)
    for part in _parts(*X.shape):
        rows = X[part].toarray() if sparse else X[part]
        reference.standardise(rows, *scaling, out[part])
        if not np.isfinite(out[part]).all():
            row, column = np.argwhere(~np.isfinite(out[part]))[0]
            place = first + part.start + row
            raise _not_finite(name, rows[row, column], place, column, dtype)
    return out


def _not_finite(name: str, value: Any, row: int, column: int, dtype: Any) -> ValueError:
    limit = np.finfo(dtype).max
    return ValueError(
        f"{name} must be finite, and at most {limit:.3g} in size when it is standardised; "
        f"got {value:g} at {name}[{row}, {column}]"
    )


def check(scaling: Scaling, X: Any, dtype: np.dtype[Any], name: str = "X") -> None:
    """Raise for the first row that is not finite when standardised, in bounded memory."""
    for part in _parts(*X.shape):
        standardised(scaling, X[part], dtype, name, part.start)


# Mean and deviation of the training data.


class Moments(NamedTuple):
    """Of the columns of some rows."""

    n: int
    mean: np.ndarray  # (n_in,)
    squares: np.ndarray  # (n_in,): the sums of squared differences from the mean
    rounding: float  # relative, of the values as they were given
    zeros_stay: bool  # whether some rows are sparse, or bytes

    def joined(self, other: "Moments") -> "Moments":
        """Return the moments of the rows of both.

        Chan, Golub and LeVeque, *Updating formulae and a pairwise algorithm for computing sample
        variances*, 1979: no digits are lost where the mean is large.
        """
        n = self.n + other.n
        apart = other.mean - self.mean
        return Moments(
            n,
            self.mean + apart * (other.n / n),
            self.squares + other.squares + apart**2 * (self.n * (other.n / n)),
            max(self.rounding, other.rounding),
            self.zeros_stay or other.zeros_stay,
        )


@np.errstate(all="ignore")  # what is not finite shows in them
def moments(X: Any, chosen: np.ndarray | None = None) -> Moments:
    """Return the moments of checked rows, or of the chosen ones, added up in parts in order."""
    sparse, of_part, rows = checks.is_sparse(X), _of_dense, 0
    if sparse:
        of_part, rows = _of_sparse, checks.ROWS_AT_ONCE
        if not X.has_canonical_format:
            X = X.astype(np.float64)  # a copy, in which sums of bytes are no bytes
            X.sum_duplicates()
    eps = np.finfo(X.dtype if X.dtype.kind == "f" else np.float64).eps
    common = float(eps), bool(sparse or X.dtype == np.uint8)
    n = X.shape[0] if chosen is None else len(chosen)
    places = _parts(n, X.shape[1], rows)
    parts = (X[place if chosen is None else chosen[place]] for place in places)
    return joined(Moments(part.shape[0], *of_part(part), *common) for part in parts)


def _of_dense(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = rows.mean(axis=0, dtype=np.float64)
    apart = rows - mean
    correction = apart.mean(axis=0)  # of what was rounded in the mean
    return mean + correction, (apart**2).sum(axis=0) - len(rows) * correction**2


def _of_sparse(rows: Any) -> tuple[np.ndarray, np.ndarray]:
    n, n_in = rows.shape
    columns, values = rows.indices, rows.data.astype(np.float64)
    mean = np.bincount(columns, values, n_in) / n
    squares = np.bincount(columns, (values - mean[columns]) ** 2, n_in)
    return mean, squares + (n - np.bincount(columns, minlength=n_in)) * mean**2


@np.errstate(all="ignore")
def joined(parts: Iterable[Moments]) -> Moments:
    """Return the moments of all parts, joined in their order."""
    return reduce(Moments.joined, parts)


def fitted(found: Moments) -> Scaling:
    """Return the scaling by these moments, which are finite; raise if all columns are constant."""
    deviation = np.sqrt(np.maximum(found.squares, 0) / found.n)
    deviation[deviation <= ROUNDINGS * found.rounding * np.abs(found.mean)] = 0
    if not deviation.any():
        samples = f"{found.n} sample" + "s" * (found.n > 1)
        raise ValueError(
            f"scale='standard' needs columns that differ between samples; all are constant over "
            f"{samples}. Pass more samples, or scale=(mean, deviation) to Network"
        )
    return frozen(np.zeros_like(found.mean) if found.zeros_stay else found.mean, deviation)


def is_finite(found: Moments) -> bool:
    """Return whether all values were finite, and not so large that their squares overflow."""
    return bool(np.isfinite(found.mean).all() and np.isfinite(found.squares).all())
