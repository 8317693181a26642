"""Checks of users' arguments: each returns its value, converted; errors say what was given."""

import contextlib
import decimal
import inspect
import mmap
import numbers
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..reference import DOMAINS, Targets
from ..reference.records import FLAGS, LABEL, NUMBERS, predicts
from .texts import said

NO_LABELS = np.empty(0, np.int64)
ROWS_AT_ONCE = 4096  # so that checks make no temporary as large as the data
ROUNDING = 1e-6  # by which values computed as targets may pass a limit: sums of float32, say

Kind = tuple[str, str]  # of outputs: the loss and the activation


def warn(message: str) -> None:
    """Warn at the line of the user's program that led here."""
    frame, level = inspect.currentframe(), 1
    inside = __name__.partition(".")[0], "numpy"  # whose errstate decorates what users call
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in inside:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, level)


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")
    return value


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {value!r}")
    return bool(value)


def dtype_name(dtype: Any) -> str:
    if isinstance(dtype, (type, np.dtype)):
        dtype = np.dtype(dtype).name
    return one_of("dtype", dtype, ("float32", "float64"))


def positive_int(name: str, value: Any) -> int:
    if not is_real(value, numbers.Integral):
        raise TypeError(f"{name} must be a positive integer; got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be a positive integer; got {value}")
    return int(value)


def batch_size(name: str, value: Any, n: int) -> int:
    """Return the size of a batch: at most all n samples, with a warning if more were wanted."""
    if positive_int(name, value) > n:
        warn(f"{name} is {value}, more than the {n} samples: a batch holds them all")
    return min(int(value), n)


def positive_float(name: str, value: Any, dtype: DTypeLike = np.float64) -> float:
    wanted = f"a positive number, finite in {np.dtype(dtype)}"
    return _real(name, value, wanted, float(np.finfo(dtype).tiny), dtype)


def not_negative_float(name: str, value: Any, dtype: DTypeLike = np.float64) -> float:
    return _real(name, value, "a finite number, at least 0", 0.0, dtype)


def is_real(value: Any, kind: type = numbers.Real) -> bool:
    """Return whether value is a number of Python's or NumPy's, and no bool."""
    # NumPy counts its timedelta64 among the integers.
    return isinstance(value, kind) and not isinstance(value, (bool, np.timedelta64))


def _real(name: str, value: Any, wanted: str, lowest: float, dtype: DTypeLike) -> float:
    if not is_real(value):
        raise TypeError(f"{name} must be {wanted}; got {value!r}")
    with contextlib.suppress(OverflowError):  # of an int beyond float64
        if lowest <= (number := float(value)) <= float(np.finfo(dtype).max):
            return number
    raise ValueError(f"{name} must be {wanted}; got {value}")


def fraction(name: str, value: Any) -> float:
    if not (is_real(value) and 0.0 < float(value) < 1.0):
        raise ValueError(f"{name} must be a number above 0 and below 1; got {value!r}")
    return float(value)


def share(name: str, value: Any, most: str = "below 1") -> float:
    if not (is_real(value) and (0 <= value < 1 or (most == "1" and value == 1))):
        raise ValueError(f"{name} must be a number from 0 to {most}; got {value!r}")
    return float(value)


def seed(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if not is_real(value, numbers.Integral) or value < 0:
        raise ValueError(f"{name} must be a non-negative integer or None; got {value!r}")
    return int(value)


def pair(name: str, value: Any) -> tuple[Any, Any]:
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return value[0], value[1]
    count = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    raise TypeError(f"{name} must be a pair (X, y); got {type(value).__name__}{count}")


def layer_sizes(sizes: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(sizes)
    except TypeError:
        raise TypeError(f"sizes must be a sequence such as [784, 30, 10]; got {sizes!r}") from None
    if len(sizes) < 2:
        raise ValueError(f"sizes must hold the inputs and at least one layer; got {list(sizes)}")
    return tuple(positive_int(f"sizes[{l}]", n) for l, n in enumerate(sizes))


# In native byte order; a dtype in the other byte order is not equal to any of them.
_USUAL = tuple(np.dtype(kind) for kind in (np.float32, np.float64, np.uint8, np.int64))


def numbers_array(name: str, value: Any) -> np.ndarray:
    """Return value as an array of bools, integers or floats in native byte order."""
    if type(value) is np.ndarray and value.dtype in _USUAL:
        return value  # a shortcut: a call on one sample takes 2 us in all
    not_masked(name, value)
    array = _asarray(name, value)
    if array.dtype.kind not in "buif":
        advice = f": number classes from 0, as np.unique({name}, return_inverse=True)[1] does"
        texts = advice if array.dtype.kind in "US" else ""
        raise TypeError(f"{name} must hold numbers; got dtype {array.dtype}{texts}")
    if is_mapped(array):
        return array  # its reader converts it, part by part
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        with np.errstate(all="ignore"):  # `finite` reports values that are too large
            array = array.astype(np.float32 if array.dtype.itemsize == 2 else np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def not_masked(name: str, value: Any) -> None:
    """Raise ValueError for masked entries: `numpy.asarray` would show the values below the mask."""
    rows = value if isinstance(value, (list, tuple)) else [value]
    maskable = any(issubclass(kind, np.ma.MaskedArray) for kind in set(map(type, rows)))
    if maskable and any(map(np.ma.is_masked, rows)):
        raise ValueError(f"{name} must not be masked: fill the gaps, or leave out their samples")


def _asarray(name: str, value: Any) -> np.ndarray:
    """Return what `numpy.asarray` does, but numbers where it makes objects of them."""
    if hasattr(value, "iloc"):  # of pandas; of bools beside floats NumPy makes objects, slowly
        dtypes = value.dtypes if value.ndim == 2 else [value.dtype]
        kinds = {dtype.kind if isinstance(dtype, np.dtype) else "pandas" for dtype in dtypes}
        if value.ndim == 2 and not (kinds <= set("uif") or kinds == {"b"}):
            return _by_columns(name, value.items())
        if "pandas" in kinds and (gaps := np.asarray(value.isna())).any():
            raise _no_number(name, None, (gaps.argmax(),))
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name} must be a rectangular array: {error}") from None
    if array.dtype.kind != "O":
        return array
    if array.ndim == 2 and hasattr(value, "columns"):  # of Polars or Arrow
        return _by_columns(name, ((label, value[label]) for label in column_names(value) or ()))
    return _of_objects(name, array)


def column_names(table: Any) -> list[Any] | None:
    """Return the names of the columns of a table of pandas, Polars or Arrow; else None."""
    names = getattr(table, "column_names", getattr(table, "columns", None))
    return None if names is None else list(names)


def _by_columns(name: str, columns: Iterable[tuple[Any, Any]]) -> np.ndarray:
    return np.column_stack([numbers_array(f"{name}[{label!r}]", part) for label, part in columns])


def _of_objects(name: str, objects: np.ndarray) -> np.ndarray:
    """Return an array of Python's numbers in the dtype that NumPy gives to a list of them."""
    with contextlib.suppress(ValueError):  # of lists of unequal lengths
        array = np.array(objects.tolist())
        if array.shape == objects.shape and array.dtype.kind in "buif":
            return array
    for place, value in np.ndenumerate(objects):
        if not (is_real(value) or isinstance(value, (bool, np.bool_, decimal.Decimal))):
            raise _no_number(name, value, place)
    try:
        return objects.astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"{name} must hold finite numbers: {error}") from None


def _no_number(name: str, value: Any, place: tuple[Any, ...]) -> TypeError:
    where = f" at {name}[{', '.join(map(str, place))}]: make it a number, or leave it out"
    got = f"{said(repr(value), 80)}{where if place else ''}"
    return TypeError(f"{name} must hold numbers; got {got}")


def is_mapped(array: Any) -> bool:
    """Return whether the values are in a file: array is a `numpy.memmap`, or a view into one."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def is_sparse(X: Any) -> bool:
    return type(X) is not np.ndarray and hasattr(X, "tocsr")


def samples(X: Any, n_in: int, name: str = "X") -> Any:
    """Return X as `(batch, n_in)`, with at least one row; a sparse X as CSR."""
    X = X.tocsr() if is_sparse(X) else numbers_array(name, X)
    if X.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold numbers; got dtype {X.dtype}")
    if X.ndim != 2 or X.shape[1] != n_in:
        got = f"a column vector {X.shape}: pass {name}.T" if X.shape == (n_in, 1) else X.shape
        raise ValueError(f"{name} must be (batch, {n_in}): samples are rows; got {got}")
    if not X.shape[0]:
        raise ValueError(f"{name} must hold at least one sample; got shape {X.shape}")
    if is_sparse(X):
        X.check_format()  # ValueError for indices beyond the columns, which nobody checks later
    return X


def finite(
    name: str, array: np.ndarray, dtype: DTypeLike = np.float64, scale: float = 1.0
) -> np.ndarray:
    """Return the array if all values are finite, also in dtype and when multiplied by scale."""
    if is_sparse(array):
        finite(f"{name}.data", np.asarray(array.data), dtype, scale)
        return array
    if array.dtype.kind != "f":
        return array
    limit = min(float(np.finfo(kind).max) for kind in (dtype, array.dtype)) / max(1.0, scale)
    if (place := outside(array, -limit, limit)) is not None:
        got = value_at(name, array, place)
        raise ValueError(f"{name} must be finite, at most {limit:.3g} in size; got {got}")
    return array


def outside(array: np.ndarray, low: float, high: float) -> tuple[int, ...] | None:
    """Return the place of the first value that is not from low to high, or NaN, if there is one."""
    for first in range(0, len(array), ROWS_AT_ONCE):
        part = array[first : first + ROWS_AT_ONCE]
        with np.errstate(all="ignore"):
            if part.size and not (part.min() >= low and part.max() <= high):
                place = np.argwhere(~((part >= low) & (part <= high)))[0]
                return first + int(place[0]), *map(int, place[1:])
    return None


def value_at(name: str, array: Any, place: tuple[int, ...]) -> str:
    """Return in words which value is where."""
    return f"{array[place]:g} at {name}[{', '.join(map(str, place))}]"


def in_domain(name: str, y: np.ndarray, kind: Kind, dtype: DTypeLike = np.float64) -> None:
    """Raise unless the loss is defined for all values, which are then finite."""
    low, high = DOMAINS[kind]
    if (place := outside(y, low - ROUNDING, high + ROUNDING)) is not None:
        finite(name, y, dtype)
        limits = f"at least {low:g}" + ("" if high == np.inf else f" and at most {high:g}")
        got = value_at(name, y, place)
        if y[place] == -1 and kind[0] == "cross-entropy":
            got += ". If -1 and 1 are classes, pass (y + 1) / 2"
        what = f"loss {kind[0]!r} with output {kind[1]!r}"
        raise ValueError(f"{name} must be {limits} for {what}; got {got}")


def targets(
    y: Any, n: int, n_out: int, dtype: DTypeLike, name: str = "y", look: bool = True,
    kind: Kind = ("", ""),
) -> Targets:  # fmt: skip
    """Return the targets of n samples: integer labels, also for one-hot rows, or rows of values."""
    # Without `look`, values are neither checked for NaN and infinity nor copied, if dtype allows.
    # Where each output answers for itself, one-hot rows are like any rows of 0 and 1.
    y = numbers_array(name, y)
    if len(y) != n if y.ndim else True:
        raise ValueError(f"{name} must have one entry per sample, {n}; got shape {y.shape}")
    given, flags = y, predicts(*kind, n_out) == FLAGS
    if y.ndim == 1 and n_out == 1:
        y = y[:, None]
    if y.ndim == 1:
        return Targets(_labels(y, n_out, name), np.empty((0, n_out), dtype))
    if y.shape != (n, n_out):
        raise ValueError(
            f"{name} must be ({n},) integer labels or ({n}, {n_out}) rows; got {y.shape}"
        )
    if n_out > 1 and not flags and _all(_is_one_hot, y):
        return Targets(y.argmax(axis=1).astype(np.int64), np.empty((0, n_out), dtype))
    if not (flags := flags and _all(_is_flags, y)):
        if look:
            finite(name, given, dtype)
        if kind in DOMAINS:
            in_domain(name, given, kind, dtype)
    if not look and y.dtype is dtype:  # without a context, which takes 0.7 us
        return Targets(NO_LABELS, y, flags=flags)
    with np.errstate(all="ignore"):  # without `look`, the caller checks later
        values = y if is_mapped(y) else y.astype(dtype, copy=look)
    return Targets(NO_LABELS, values, flags=flags)


def batch(
    X: Any, y: Any, config: Any, names: tuple[str, str] = ("X", "y"), look: bool = True
) -> tuple[Any, Targets]:
    """Return a batch that fits a `Config`; without `look`, X may hold NaN and infinity."""
    X = samples(X, config.sizes[0], names[0])
    if look and config.scale is None:  # else they are found where X is standardised
        finite(names[0], X, config.dtype, config.input_scale)
    n, n_out = X.shape[0], config.sizes[-1]
    return X, targets(y, n, n_out, config.dtype, names[1], kind=config.kind)


# By what a network predicts: what labels must be for it to be right or wrong.
_CLASSES = {
    LABEL: "integers or one-hot rows",
    FLAGS: "0 or 1",
    NUMBERS: "integers or one-hot rows, of two outputs or more (for numbers, look at `loss`)",
}


def classes(targets: Targets, y: Any, kind: Kind, name: str = "labels") -> Targets:
    """Return the targets, which were made of y, if they are classes."""
    if targets.classes:
        return targets
    values = targets.values
    predicted, got = predicts(*kind, values.shape[1]), f"{np.shape(y)}, output {kind[1]!r}"
    if predicted == FLAGS:
        wrong = np.argwhere((values != 0) & (values != 1))[0]
        got = value_at(name, values.reshape(np.shape(y)), tuple(wrong[: np.ndim(y)]))
    raise ValueError(f"{name} must be {_CLASSES[predicted]}; got {got}")


def _all(test: Callable[[np.ndarray], Any], y: np.ndarray) -> bool:
    """Return whether rows, a part of them at a time, pass a test of values 0 and 1."""
    if y.item(0) not in (0, 1):  # decides nearly always
        return False
    return all(test(y[first : first + ROWS_AT_ONCE]) for first in range(0, len(y), ROWS_AT_ONCE))


def _is_flags(rows: np.ndarray) -> Any:
    return ((rows == 0) | (rows == 1)).all()


def _is_one_hot(rows: np.ndarray) -> Any:
    return _is_flags(rows) and (np.count_nonzero(rows, axis=1) == 1).all()


def _labels(array: np.ndarray, n_out: int, name: str) -> np.ndarray:
    if array.dtype.kind not in "ui":
        advice = f"if these are classes, pass {name}.astype(int)"
        raise TypeError(f"{name} must be integer labels; got dtype {array.dtype}: {advice}")
    wrong = (array < 0) | (array >= n_out)
    if wrong.any():
        got = f"{array[wrong][0]} at {name}[{wrong.argmax()}]"
        raise ValueError(f"{name} must be labels from 0 to {n_out - 1}, one per output; got {got}")
    return array.astype(np.int64)


def permutation(name: str, value: Any, n: int) -> np.ndarray:
    places = numbers_array(name, value)
    fine = places.shape == (n,) and places.dtype.kind in "ui" and places.min() >= 0
    if not (fine and places.max() < n and (np.bincount(places.astype(np.int64)) == 1).all()):
        got = f"shape {places.shape} of {places.dtype}"
        raise ValueError(f"{name} must be a permutation of range({n}); got {got}")
    return places.astype(np.int64)


def sample_weight(name: str, value: Any, n: int, dtype: DTypeLike) -> np.ndarray:
    """Return the weights of n samples: finite, at least zero, and not all zero."""
    weights = finite(name, numbers_array(name, value), dtype)
    if weights.shape != (n,):
        raise ValueError(f"{name} must hold one number per sample, ({n},); got {weights.shape}")
    if (weights < 0).any() or not weights.any():
        at = (weights < 0).argmax()
        raise ValueError(f"{name} must be at least 0, not all 0; got {weights[at]} at {name}[{at}]")
    with np.errstate(all="ignore"):
        return weights.astype(dtype)


def instance(name: str, value: Any) -> Any:
    """Return value, if it is no class."""
    if isinstance(value, type):
        made = f"an object, such as {value.__name__}(...)"
        raise TypeError(f"{name} must be {made}; got {value!r}: call the class")
    return value


def callbacks(callbacks: Any) -> tuple[Any, ...]:
    try:
        found: tuple[Any, ...] = tuple(callbacks)
    except TypeError:
        advice = ": put it into a list" if hasattr(callbacks, "on_epoch_end") else ""
        raise TypeError(f"callbacks must be a sequence; got {callbacks!r}{advice}") from None
    for callback in found:
        if not callable(getattr(instance("a callback", callback), "on_epoch_end", None)):
            raise TypeError(f"callbacks must have a method on_epoch_end; got {callback!r}")
    return found
