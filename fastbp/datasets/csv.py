"""Tables from CSV files, by pandas, which is an extra."""

import logging
import os
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .._support import checks, extras
from .._support import notes as kept
from .._support.texts import named, said
from .columns import CLASSIFICATION, REGRESSION, TASKS, Target, inputs
from .dialect import MISSING, Dialect, has_decimal_commas
from .untrusted import DataError, blaming, opened

logger = logging.getLogger("fastbp")

_Path: TypeAlias = str | os.PathLike[str]
_Notes: TypeAlias = Mapping[str, Any] | None


def read_csv(
    path: _Path,
    label: str | None = None,
    *,
    header: bool = True,
    separator: str | None = None,
    decimal: str | None = None,
    notes: _Notes = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    r"""Read a CSV file.

    Parameters
    ----------
    path : path-like
        UTF-8, one line per sample. Every value must be a number, but for those of the label.
    label : str, optional
        The column that holds what is to be predicted: classes, whole numbers or texts; or numbers.
    header : bool, default True
        The first line names the columns; if False, it is a sample, and they are "1", "2", "3", ...
    separator : str, optional
        The character between values. By default it is found out: comma, semicolon, tab or "|".
    decimal : {".", ","}, optional
        By default a comma if there are numbers such as ``3,14``, else a point.
    notes : dict, optional
        The notes of a model, `Network.notes`: columns are put in the order of its inputs by name,
        without a header as they stand, and classes become the numbers of its outputs.

    Returns
    -------
    X : (n, n_in) array
        All other columns: uint8 for whole numbers from 0 to 255, int64 for others, else float64.
    y : (n,) array, or None without a label
        The label as it stands: int64, float64 with fractions, or texts. With `notes` what the model
        is to predict: int64, or float64 of a regression. `load` numbers classes.

    Raises
    ------
    ImportError
        If pandas is missing.
    FileNotFoundError, PermissionError, DataError
        If there is no such file or column, a value is missing, text or infinite, the label
        holds both texts and numbers, lines differ in length or exceed 32,768 columns, all names
        are numbers, one is missing or repeats, or columns or classes are not those of `notes`.
    TypeError, ValueError
        If another argument is not as above.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "points.csv")
    >>> _ = path.write_text("x;y;class\n0,5;1,5;0\n2,5;3,5;1\n")
    >>> X, y = read_csv(path, label="class")
    >>> X.tolist(), y.tolist()
    ([[0.5, 1.5], [2.5, 3.5]], [0, 1])
    """
    dialect = Dialect(header, separator, decimal).checked()
    with blaming(path, advice=""):
        table = _Table(path, label, dialect, notes)
        X = table.inputs()
        if label is None:
            return X, None
        return X, table.target().as_it_stands() if notes is None else table.outputs(None)[0]


def read_samples(path: _Path, label: str | None, dialect: Dialect, notes: _Notes) -> np.ndarray:
    """Return the inputs of a model; the column of the classes may be missing, or hold anything."""
    with blaming(path, advice=""):
        return _Table(path, label, dialect.checked(), notes).inputs()


def read_numbered(
    path: Path, label: str | None, dialect: Dialect, notes: _Notes, task: str | None
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return X; numbers of classes, or those of a regression; and the notes of a model."""
    dialect.checked()
    with blaming(path, advice=""):
        label = (notes or {}).get("label") if label is None else label
        if label is None:
            with opened(path) as file:
                columns = named(dialect.found(file)[1])
            what = "name the column that is to be predicted"
            raise ValueError(f"{what}, one of {columns}, by --label (label=)")
        table = _Table(path, label, dialect, notes)
        X, (y, task, classes) = table.inputs(), table.outputs(task)
        if notes is None and (counting := _counting(X)) is not None:
            name = table.names[counting]
            logger.warning("%s: column %r counts the rows; leave it out if that is all", path, name)
        known = {} if classes is None else {"classes": classes}
        return X, y, {"columns": table.names, "label": label, "task": task, **known}


def _counting(X: np.ndarray) -> int | None:
    """Return the column that numbers the rows, as an index or identifier does, if there is one."""
    return next((k for k, x in enumerate(X.T) if len(x) > 9 and (np.diff(x) == 1).all()), None)


class _Table:
    def __init__(self, path: _Path, label: str | None, dialect: Dialect, notes: _Notes) -> None:
        self.label, self.notes, self.dialect = label, notes, dialect
        self.where = " below the header" if dialect.header else ""
        with opened(path) as file, blaming(path, advice=""):
            separator, columns = dialect.found(file)
        if label is not None and label not in columns:
            shown = named(columns)
            raise ValueError(f"label must be one of the columns {shown}; got {label!r}")
        names = [name for name in columns if name != label]
        self.names = _in_order(names, notes or {}, dialect.header)  # of inputs
        self.frame = _frame(path, dialect._replace(separator=separator), columns, self.names)
        if not len(self.frame) or not self.names:
            raise ValueError("it must hold a header, at least one row, and one column of X")

    def inputs(self) -> np.ndarray:
        """Return X."""
        X = inputs(self.frame[self.names], self.where)
        whole = np.uint8 if X.min() >= 0 and X.max() <= 255 else np.int64
        return X.astype(np.float64 if X.dtype.kind == "f" else whole)

    def target(self) -> Target:
        """Return the column of the label."""
        return Target(self.frame[self.label], self.dialect, self.where)

    def outputs(self, task: str | None) -> tuple[np.ndarray, str, list[Any] | None]:
        """Return y as a network takes it, the task, and the names of the classes."""
        target, notes = self.target(), self.notes
        classes = kept.listed(notes or {}, "classes")
        if task is None:
            unsaid = target.task() if notes is None else CLASSIFICATION
            task = checks.one_of("task", (notes or {}).get("task", unsaid), TASKS)
        if task == REGRESSION:
            return target.numbers(training=notes is None), task, None
        if notes is not None and classes is None:  # a model that knows no names
            return target.unnamed(), task, None
        y, classes = target.classes(classes)
        return y, task, classes


def _in_order(found: list[str], notes: Mapping[str, Any], header: bool) -> list[str]:
    """Return the columns that are a model's inputs, in their order: by name, if there are names."""
    wanted, label = kept.listed(notes, "columns"), notes.get("label")
    if wanted is None:
        return found
    if not header:
        inputs = found if len(found) == len(wanted) else [name for name in found if name != label]
        if len(inputs) != len(wanted):
            got = f"{len(inputs)}; name that of the classes by --label (label=)"
            raise ValueError(f"the model takes {len(wanted)} columns, it has {got}")
        return inputs
    both = set(found) & set(wanted)
    faults = {
        "lacks columns": [name for name in wanted if name not in both],
        "has others": [name for name in found if name not in both and name != label],
    }
    words = [f"{what} {named(names)}" for what, names in faults.items() if names]
    if words:
        it = "its columns must be those that the model was trained on; it"
        raise ValueError(f"{it} {' and '.join(words)}")
    return wanted


def _frame(path: _Path, dialect: Dialect, columns: list[str], numbers: list[str]) -> Any:
    """Return a table; of columns that are no numbers, the texts."""
    pandas = extras.required("pandas", "pandas", "CSV files")
    gaps = [*MISSING, "None"]
    read = partial(
        pandas.read_csv, path, sep=dialect.separator, header=0 if dialect.header else None,
        names=columns, index_col=False, skipinitialspace=True, low_memory=False,
        dtype=dict.fromkeys({*columns}.difference(numbers), str), keep_default_na=False,
        na_values={name: gaps for name in numbers}, encoding="utf-8-sig", compression=None,
    )  # fmt: skip
    # With Arrow's texts pandas takes an empty column behind the last separator for a longer line.
    with warnings.catch_warnings(), pandas.option_context("mode.string_storage", "python"):
        warnings.simplefilter("error")  # lines that are longer than the header: only a warning
        try:
            frame = read(decimal=dialect.decimal or ".")
        except MemoryError:
            raise
        except Exception as error:  # pandas raises a dozen kinds on damaged input
            advice = "; save it as UTF-8" if isinstance(error, UnicodeError) else ""
            raise DataError(f"{path}: not a CSV file: {said(error)}{advice}") from error
        if dialect.decimal is None and has_decimal_commas(frame[numbers]):
            return read(decimal=",")
        return frame
