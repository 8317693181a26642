"""Checks of what users pass: each error names the argument, what was found, what was expected."""

import contextlib
import mmap
import numbers
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import DTypeLike

from ..reference import Targets

NO_LABELS = np.empty(0, np.int64)
ROWS_AT_ONCE = 4096  # finite checks make no temporary as large as the data


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return value if it is one of the allowed ones."""
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; found {value!r}")
    return value


def flag(name: str, value: Any) -> bool:
    """Return value as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; found {value!r}")
    return bool(value)


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype that networks come in."""
    if isinstance(dtype, (type, np.dtype)):
        dtype = np.dtype(dtype).name
    return one_of("dtype", dtype, ("float32", "float64"))


def positive_int(name: str, value: Any) -> int:
    """Return value as an int, at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a positive integer; found {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be a positive integer; found {value}")
    return int(value)


def batch_size(name: str, value: Any, n: int) -> int:
    """Return value as an int, from 1 to the n samples there are."""
    if positive_int(name, value) > n:
        raise ValueError(f"{name} must be at most the {n} samples; found {value}")
    return int(value)


def positive_float(name: str, value: Any, dtype: DTypeLike = np.float64) -> float:
    """Return value as a float that is above zero and finite, in dtype too."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a positive number; found {value!r}")
    with contextlib.suppress(OverflowError):  # an int beyond float64 is too large as it is
        value = float(value)
    info = np.finfo(dtype)
    if not float(info.tiny) <= value <= float(info.max):
        raise ValueError(f"{name} must be a positive number, finite in {info.dtype}; found {value}")
    return value


def not_negative_float(name: str, value: Any, dtype: DTypeLike = np.float64) -> float:
    """Return value as a float that is at least zero and finite, in dtype too."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, at least 0; found {value!r}")
    with contextlib.suppress(OverflowError):  # an int beyond float64 is too large as it is
        value = float(value)
    if not 0 <= value <= float(np.finfo(dtype).max):
        raise ValueError(f"{name} must be a finite number, at least 0; found {value}")
    return value


def fraction(name: str, value: Any) -> float:
    """Return value as a float between zero and one, neither of them."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and 0.0 < float(value) < 1.0):
        raise ValueError(f"{name} must be a number above 0 and below 1; found {value!r}")
    return float(value)


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """Return value as two parts, samples and their labels or targets."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        found = type(value).__name__
        if isinstance(value, (tuple, list)):
            found += f" of {len(value)}"
        raise TypeError(f"{name} must be a pair (X, y); found {found}")
    return value[0], value[1]


def layer_sizes(sizes: Any) -> tuple[int, ...]:
    """Return the sizes as a tuple of at least two positive ints."""
    try:
        sizes = tuple(sizes)
    except TypeError:
        raise TypeError(
            f"sizes must be a sequence such as [784, 30, 10]; found {sizes!r}"
        ) from None
    if len(sizes) < 2:
        raise ValueError(
            f"sizes needs at least the inputs and one layer, as [784, 10]; found {list(sizes)}"
        )
    return tuple(positive_int(f"sizes[{l}]", n) for l, n in enumerate(sizes))


# In native byte order: a dtype in the other one equals none of them.
_USUAL = tuple(np.dtype(kind) for kind in (np.float32, np.float64, np.uint8, np.int64))


def numbers_array(name: str, value: Any) -> np.ndarray:
    """Return value as an array of bools, integers or floats in native byte order."""
    if type(value) is np.ndarray and value.dtype in _USUAL:
        return value  # at once: a call on one sample takes 2 us in all
    if np.ma.is_masked(value):  # asarray would uncover what lies below the mask
        raise ValueError(f"{name} must not be masked; fill the gaps, or leave their samples out")
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged lists
        raise ValueError(f"{name} must be a rectangular array: {error}") from None
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold numbers; found dtype {array.dtype}")
    if is_mapped(array):
        return array  # what reads it converts it, part by part
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        with np.errstate(over="ignore"):  # `finite` reports what is too large
            array = array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def is_mapped(array: Any) -> bool:
    """Return whether the values lie in a file: those of a `numpy.memmap`, or of a view into one."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def is_sparse(X: Any) -> bool:
    """Return whether X is one of SciPy's sparse matrices or arrays."""
    return type(X) is not np.ndarray and hasattr(X, "tocsr")


def samples(X: Any, n_in: int, name: str = "X") -> np.ndarray:
    """Return X as `(batch, n_in)`, with at least one row; sparse ones as CSR."""
    if is_sparse(X):
        X = X.tocsr()
        if X.dtype.kind not in "buif":
            raise TypeError(f"{name} must hold numbers; found dtype {X.dtype}")
    else:
        X = numbers_array(name, X)
    if X.ndim == 2 and X.shape[1] == n_in and X.shape[0]:
        return X
    if X.ndim == 2 and X.shape[1] == 1 != n_in and X.shape[0] == n_in:
        raise ValueError(
            f"{name} must be (batch, {n_in}): samples are rows; found a column vector {X.shape}: "
            f"pass {name}.T"
        )
    if X.ndim != 2 or X.shape[1] != n_in:
        raise ValueError(f"{name} must be (batch, {n_in}): samples are rows; found {X.shape}")
    if not X.shape[0]:
        raise ValueError(f"{name} must hold at least one sample; found shape {X.shape}")
    return X


def finite(
    name: str, array: np.ndarray, dtype: DTypeLike = np.float64, scale: float = 1.0
) -> np.ndarray:
    """Return the array if all values are finite, in dtype and multiplied by scale too."""
    if is_sparse(array):
        finite(f"{name}.data", np.asarray(array.data), dtype, scale)
        return array
    if array.dtype.kind == "f":
        limit = min(float(np.finfo(kind).max) for kind in (dtype, array.dtype)) / max(1.0, scale)
        for first in range(0, len(array), ROWS_AT_ONCE):
            part = array[first : first + ROWS_AT_ONCE]
            with np.errstate(invalid="ignore"):
                fine = part.size == 0 or (part.min() >= -limit and part.max() <= limit)
            if not fine:
                _report_not_finite(name, array, first, ~(np.abs(part) <= limit), limit)
    return array


def _report_not_finite(
    name: str, array: np.ndarray, first: int, bad: np.ndarray, limit: float
) -> NoReturn:
    place = np.argwhere(bad)[0]
    place[0] += first
    where = tuple(int(i) for i in place)
    raise ValueError(
        f"{name} must be finite, at most {limit:.3g} in size; "
        f"found {array[where]:g} at {name}[{', '.join(map(str, where))}]"
    )


def targets(
    y: Any, n: int, n_out: int, dtype: DTypeLike, name: str = "y", look: bool = True
) -> Targets:
    """Return the targets of n samples: integer labels, or rows of n_out values.

    One-hot rows become labels. Values in a file stay there. With a single output, a flat y holds
    one value per sample. Without `look`, for a single call, values are neither checked for NaN and
    infinity nor copied.
    """
    y = numbers_array(name, y)
    if len(y) != n if y.ndim else True:
        raise ValueError(f"{name} must have one entry per sample, {n}; found shape {y.shape}")
    if y.ndim == 1 and n_out == 1:
        y = y[:, None]
    if y.ndim == 1:
        return Targets(labels(y, n_out, name), np.empty((0, n_out), dtype))
    if y.shape != (n, n_out):
        raise ValueError(
            f"{name} must be ({n},) integer labels or ({n}, {n_out}) targets; found {y.shape}"
        )
    if n_out > 1 and _is_one_hot(y):
        return Targets(y.argmax(axis=1).astype(np.int64), np.empty((0, n_out), dtype))
    if look:
        finite(name, y, dtype)
    if is_mapped(y):
        return Targets(NO_LABELS, y)
    if y.dtype == dtype:
        return Targets(NO_LABELS, y.copy() if look else y)
    with np.errstate(over="ignore"):  # who does not look now looks later
        return Targets(NO_LABELS, y.astype(dtype))


def classes(targets: Targets, y: Any, name: str = "labels") -> Targets:
    """Return the targets, made of y, if they are classes."""
    if not targets.labels.size:
        raise ValueError(
            f"{name} must be integers or one-hot rows, for two outputs or more; found shape "
            f"{np.shape(y)} for {targets.values.shape[1]}"
        )
    return targets


def _is_one_hot(y: np.ndarray) -> bool:
    if y.item(0) not in (0, 1):  # nearly always enough
        return False
    parts = (y[first : first + ROWS_AT_ONCE] for first in range(0, len(y), ROWS_AT_ONCE))
    return all(
        ((part == 0) | (part == 1)).all() and (np.count_nonzero(part, axis=1) == 1).all()
        for part in parts
    )


def labels(y: Any, n_out: int, name: str = "labels") -> np.ndarray:
    """Return class labels as int64, each in range(n_out)."""
    y = numbers_array(name, y)
    if y.ndim != 1:
        raise ValueError(f"{name} must be one integer per sample; found shape {y.shape}")
    if y.dtype.kind not in "ui":
        raise TypeError(f"{name} must be integer labels; found dtype {y.dtype}")
    wrong = (y < 0) | (y >= n_out)
    if wrong.any():
        where = int(wrong.argmax())
        raise ValueError(
            f"{name} must be labels from 0 to {n_out - 1}, one per output; "
            f"found {y[where]} at {name}[{where}]"
        )
    return y.astype(np.int64)


def permutation(name: str, value: Any, n: int) -> np.ndarray:
    """Return value as int64: each of range(n), once."""
    places = numbers_array(name, value)
    fine = places.shape == (n,) and places.dtype.kind in "ui" and places.min() >= 0
    if not (fine and places.max() < n and (np.bincount(places.astype(np.int64)) == 1).all()):
        raise ValueError(
            f"{name} must be a permutation of range({n}); found shape {places.shape} of "
            f"{places.dtype}"
        )
    return places.astype(np.int64)


def sample_weight(name: str, value: Any, n: int, dtype: DTypeLike) -> np.ndarray:
    """Return the weights of n samples: finite, none below zero, not all zero."""
    weights = finite(name, numbers_array(name, value), dtype)
    if weights.shape != (n,):
        raise ValueError(f"{name} must hold one number per sample, ({n},); found {weights.shape}")
    if (weights < 0).any() or not weights.any():
        where = int((weights < 0).argmax())
        raise ValueError(
            f"{name} must be at least 0, and not all of it 0; found {weights[where]} at "
            f"{name}[{where}]"
        )
    return weights.astype(dtype)


def callbacks(callbacks: Any) -> tuple[Any, ...]:
    """Return callbacks as a tuple."""
    try:
        callbacks = tuple(callbacks)
    except TypeError:
        raise TypeError(f"callbacks must be a sequence; found {callbacks!r}") from None
    for callback in callbacks:
        if not callable(getattr(callback, "on_epoch_end", None)):
            raise TypeError(
                f"callbacks must have a method on_epoch_end(net, history); found {callback!r}"
            )
    return callbacks
