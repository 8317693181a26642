"""Tables from CSV files, by pandas, which is an extra."""

import io
import os
import reprlib
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .._support import extras
from .._support.texts import said
from .untrusted import DataError, blaming, opened

MAX_COLUMNS = 2**15  # a comma is a byte, a column of pandas takes 800: here, 26 MB


def read_csv(
    path: str | os.PathLike[str], label: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    r"""Read a CSV file with a header.

    Parameters
    ----------
    path : path-like
        Commas between values, UTF-8, one line per sample. Every value must be a number.
    label : str, optional
        The column that holds the classes, 0, 1, 2, ...

    Returns
    -------
    X : (n, n_in) array
        All other columns: uint8 for whole numbers from 0 to 255, int64 for others, else float64.
    y : (n,) int64 array, or None without a label

    Raises
    ------
    ImportError
        If pandas is missing.
    FileNotFoundError, PermissionError, DataError
        If there is no such file or column, a value is missing, text or infinite, a label is not a
        whole number from 0, lines differ in length or exceed 32,768 columns, or names repeat.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "points.csv")
    >>> _ = path.write_text("x,y,class\n0.5,1.5,0\n2.5,3.5,1\n")
    >>> X, y = read_csv(path, label="class")
    >>> X.tolist(), y.tolist()
    ([[0.5, 1.5], [2.5, 3.5]], [0, 1])
    """
    frame = _frame(path)
    with blaming(path, advice=""):
        if not len(frame) or set(frame.columns) <= {label}:
            raise ValueError("it must hold a header, at least one row, and one column of X")
        if label is not None and label not in frame.columns:
            names = reprlib.repr(list(map(str, frame.columns)))
            raise ValueError(f"label must be one of the columns {names}; got {label!r}")
        values = {name: _numbers(name, frame[name]) for name in frame.columns}
        y = None if label is None else _labels(label, values.pop(label))
        X = np.stack(list(values.values()), axis=1)
        whole = np.uint8 if X.min() >= 0 and X.max() <= 255 else np.int64
        return X.astype(np.float64 if X.dtype.kind == "f" else whole), y


def read_and_split(path: Path, label: str | None) -> Sequence[np.ndarray]:
    """Read a table; every fifth line of each class is for testing, as for the digits."""
    if label is None:
        raise DataError(f"{path}: name the column that holds the classes, by --label (label=)")
    X, y = read_csv(path, label)
    assert y is not None
    fifths = [np.flatnonzero(y == k)[4::5] for k in np.unique(y)]
    test = np.isin(np.arange(len(y)), np.concatenate(fifths))
    if not test.any():
        raise DataError(f"{path}: a class must have five lines or more: every fifth is for testing")
    return X[~test], y[~test], X[test], y[test]


def _frame(path: str | os.PathLike[str]) -> Any:
    pandas = extras.required("pandas", "pandas", "CSV files", "csv")
    read = partial(pandas.read_csv, path, encoding="utf-8-sig", compression=None)
    with opened(path) as file, warnings.catch_warnings():
        with io.TextIOWrapper(file, "latin-1") as lines:  # it ends lines as pandas ends them
            if max((line.count(",") for line in lines), default=0) >= MAX_COLUMNS:
                raise DataError(f"{path}: a line has more than {MAX_COLUMNS:,} columns; split it")
        warnings.simplefilter("error")  # lines that are longer than the header: only a warning
        try:
            header = read(header=None, nrows=1, dtype=str).iloc[0]
            frame = read(low_memory=False, index_col=False)
        except MemoryError:
            raise
        except Exception as error:  # pandas raises a dozen kinds on damaged input
            raise DataError(f"{path}: not a CSV file with a header: {said(error)}") from error
    duplicates = header[header.duplicated()]
    if len(duplicates):
        raise DataError(f"{path}: two columns are named {duplicates.iloc[0]!r}; rename one")
    return frame


def _numbers(name: str, column: Any) -> np.ndarray:
    """Return a column as an array, if it holds nothing but numbers."""

    def allow_none(marked: Any, what: str, advice: str) -> None:
        if marked.any():
            row = f"row {int(np.asarray(marked).argmax()) + 1} below the header"
            raise ValueError(f"column {name!r} {what} in {row}; {advice}")

    allow_none(column.isna(), "has no value", "fill it in, or leave the row or the column out")
    if column.dtype.kind not in "biuf":
        import pandas

        text = pandas.to_numeric(column, errors="coerce").isna()
        text |= not text.any()  # whole numbers of a hundred digits
        shown = reprlib.repr(str(column[text].iloc[0]))
        allow_none(text, f"holds text, {shown}", "make it numbers (by pandas.factorize: 0, 1, ...)")
    values: np.ndarray = column.to_numpy()
    allow_none(~np.isfinite(values), "is infinite", "leave it out")
    # Unsigned is what int64 cannot hold.
    return values.astype({"b": np.uint8, "u": np.float64}.get(values.dtype.kind, values.dtype))


def _labels(name: str, values: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):  # what int64 cannot hold differs, below
        labels = values.astype(np.int64)
    wrong = (labels != values) | (labels < 0)
    if wrong.any():
        raise ValueError(f"column {name!r} must hold classes 0, 1, 2, ...; got {values[wrong][0]}")
    return labels
