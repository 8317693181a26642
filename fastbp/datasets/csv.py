"""Tables from CSV files, by pandas, which is an extra.

The first line names the columns. Every value has to be a number: what is missing or text is an
error that names column and row, and nothing is made up for it.
"""

import io
import os
import reprlib
import warnings
from typing import Any

import numpy as np

from .untrusted import DataError, opened

MOST_COLUMNS = 2**15  # a comma is a byte, a column of pandas's takes 800: here, 26 MB


def read_csv(
    path: str | os.PathLike[str], label: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    r"""Read a CSV file with a header.

    Parameters
    ----------
    path : path-like
        Commas between values, UTF-8, one line a sample.
    label : str, optional
        The column that holds the classes, 0, 1, 2, ...

    Returns
    -------
    X : (n, n_in) array
        All other columns: uint8 if they hold whole numbers from 0 to 255, as images do, int64 if
        they hold other whole numbers, else float64.
    y : (n,) int64 array, or None without a label

    Raises
    ------
    ImportError
        If pandas is missing.
    FileNotFoundError, PermissionError
    DataError
        If there is no such column, a value is missing, text or infinite, a label is no whole
        number, lines are of unequal length or of more than 32,768 columns, or two columns have the
        same name.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "points.csv")
    >>> with open(path, "w") as file:
    ...     _ = file.write("x,y,class\n0.5,1.5,0\n2.5,3.5,1\n")
    >>> X, y = read_csv(path, label="class")
    >>> X.tolist(), y.tolist()
    ([[0.5, 1.5], [2.5, 3.5]], [0, 1])
    """
    frame = _frame(path)
    if not len(frame) or set(frame.columns) <= {label}:
        raise DataError(f"{path}: it must hold a header, and one row and one column of X at least")
    if label is not None and label not in frame.columns:
        raise DataError(
            f"{path}: there is no column {label!r} to take as label; its header names "
            f"{_listed(frame.columns)}"
        )
    values = {name: _numbers(path, name, frame[name]) for name in frame.columns}
    y = None if label is None else _labels(path, label, values.pop(label))
    return _matrix(list(values.values())), y


def _frame(path: str | os.PathLike[str]) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "CSV files need pandas, install it with: pip install 'fastbp[csv]'"
        ) from error
    options: dict[str, Any] = {"encoding": "utf-8-sig", "compression": None}
    with opened(path) as file, warnings.catch_warnings():
        if _most_commas(file) >= MOST_COLUMNS:
            raise DataError(
                f"{path}: a line has more than {MOST_COLUMNS:,} columns; split the file"
            )
        warnings.simplefilter("error")  # lines that are longer than the header: only a warning
        try:
            header = pandas.read_csv(path, header=None, nrows=1, dtype=str, **options).iloc[0]
            frame = pandas.read_csv(path, low_memory=False, index_col=False, **options)
        except MemoryError:
            raise
        except Exception as error:  # pandas raises a dozen kinds on damaged input
            raise DataError(
                f"{path}: this is no CSV file with a header: {' '.join(str(error).split())}"
            ) from error
    twice = header[header.duplicated()]
    if len(twice):
        raise DataError(f"{path}: two columns are named {twice.iloc[0]!r}; rename one")
    return frame


def _most_commas(file: Any) -> int:
    """Return how many commas a line has at most; lines end as pandas ends them."""
    text = io.TextIOWrapper(file, "latin-1")
    try:
        return max((line.count(",") for line in text), default=0)
    finally:
        text.detach()  # `file` is another's to close


def _listed(names: Any) -> str:
    return reprlib.repr(list(map(str, names)))


def _numbers(path: str | os.PathLike[str], name: str, column: Any) -> np.ndarray:
    """Return a column as an array, if it holds nothing but numbers."""
    if column.isna().any():
        raise DataError(
            f"{path}: column {name!r} has no value in {_row(column.isna())}; fill it in, or leave "
            "the row or the column out"
        )
    if column.dtype.kind not in "biuf":
        text = _is_text(column)
        raise DataError(
            f"{path}: column {name!r} holds text, {reprlib.repr(str(column[text].iloc[0]))} in "
            f"{_row(text)}; turn it into numbers (classes into 0, 1, 2, ..., as by "
            "pandas.factorize), or leave it out"
        )
    values = column.to_numpy()
    if not np.isfinite(values).all():
        raise DataError(
            f"{path}: column {name!r} is infinite in {_row(~np.isfinite(values))}; leave it out"
        )
    return values.astype(_PLAIN.get(values.dtype.kind, values.dtype))


_PLAIN = {"b": np.uint8, "u": np.float64}  # unsigned is what int64 cannot hold


def _is_text(column: Any) -> Any:
    import pandas

    found = pandas.to_numeric(column, errors="coerce").isna()
    return found if found.any() else ~found  # whole numbers of a hundred digits


def _row(marked: Any) -> str:
    return f"row {int(np.asarray(marked).argmax()) + 1} below the header"


def _labels(path: str | os.PathLike[str], name: str, values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # what int64 cannot hold differs, below
        labels = values.astype(np.int64)
    if (labels != values).any() or labels.min(initial=0) < 0:
        wrong = values[(labels != values) | (labels < 0)][0]
        raise DataError(
            f"{path}: column {name!r} must number the classes 0, 1, 2, ...; found {wrong}"
        )
    return labels


def _matrix(columns: list[np.ndarray]) -> np.ndarray:
    X = np.stack(columns, axis=1)
    if X.dtype.kind == "f":
        return X.astype(np.float64)
    return X.astype(np.uint8 if X.min() >= 0 and X.max() <= 255 else np.int64)
