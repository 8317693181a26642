"""Tables from CSV files, by pandas, which is an extra."""

import os
import re
import reprlib
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .._support import extras
from .._support import notes as kept
from .._support.texts import said
from .dialect import MISSING, Dialect, has_decimal_commas
from .untrusted import DataError, blaming, opened

MAX_NAME = 100  # characters of a class's name: what is longer is a text, not a class
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_OTHER_NUMBER = re.compile(r"\s*[+-]?\d+([., '’]\d+)+\s*")  # 1.234,56 or 2,5
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
        The column that holds the classes: whole numbers, or texts.
    header : bool, default True
        The first line names the columns; if False, it is a sample, and they are "1", "2", "3", ...
    separator : str, optional
        The character between values. By default it is found out: comma, semicolon, tab or "|".
    decimal : {".", ","}, optional
        By default a comma if there are numbers such as ``3,14``, else a point.
    notes : dict, optional
        The notes of a model, `Network.notes`: columns are put in the order of its inputs by name,
        without a header as they stand, and labels become the numbers of its outputs.

    Returns
    -------
    X : (n, n_in) array
        All other columns: uint8 for whole numbers from 0 to 255, int64 for others, else float64.
    y : (n,) array, or None without a label
        The labels as they stand, int64 or texts; with `notes` int64. `load` numbers them.

    Raises
    ------
    ImportError
        If pandas is missing.
    FileNotFoundError, PermissionError, DataError
        If there is no such file or column, a value is missing, text or infinite, a label is a
        fraction, lines differ in length or exceed 32,768 columns, all names are numbers, one is
        missing or repeats, or columns or classes are not those of `notes`.
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
        return X, None if label is None else table.labels() if notes is None else table.outputs()


def read_samples(path: _Path, label: str | None, dialect: Dialect, notes: _Notes) -> np.ndarray:
    """Return the inputs of a model; the column of the classes may be missing, or hold anything."""
    with blaming(path, advice=""):
        return _Table(path, label, dialect.checked(), notes).inputs()


def read_numbered(
    path: Path, label: str | None, dialect: Dialect, notes: _Notes
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return X, the numbers of the classes, and the notes of a model that is trained on them."""
    dialect.checked()
    with blaming(path, advice=""):
        label = (notes or {}).get("label") if label is None else label
        if label is None:
            raise ValueError("name the column that holds the classes, by --label (label=)")
        table = _Table(path, label, dialect, notes)
        X, y = table.inputs(), table.outputs()
        if notes is None and len(table.classes) < 2:
            only = f"column {label!r} holds one class alone, {table.classes[0]!r}"
            raise ValueError(f"{only}; to train takes two or more")
        return X, y, {"columns": table.names, "label": label, "classes": table.classes}


class _Table:
    def __init__(self, path: _Path, label: str | None, dialect: Dialect, notes: _Notes) -> None:
        self.label, self.notes, self.header = label, notes, dialect.header
        self.where = " below the header" if dialect.header else ""
        self.classes = kept.listed(notes or {}, "classes") or []  # in order of outputs, once known
        with opened(path) as file, blaming(path, advice=""):
            separator, columns = dialect.found(file)
        if label is not None and label not in columns:
            shown = reprlib.repr(columns)
            raise ValueError(f"label must be one of the columns {shown}; got {label!r}")
        names = [name for name in columns if name != label]
        self.names = _in_order(names, notes or {}, self.header)  # of inputs
        self.frame = _frame(path, dialect._replace(separator=separator), columns, self.names)
        if not len(self.frame) or not self.names:
            raise ValueError("it must hold a header, at least one row, and one column of X")

    def inputs(self) -> np.ndarray:
        """Return X."""
        columns = [_numbers(name, self.frame[name], self.where) for name in self.names]
        X = np.stack(columns, axis=1)
        whole = np.uint8 if X.min() >= 0 and X.max() <= 255 else np.int64
        return X.astype(np.float64 if X.dtype.kind == "f" else whole)

    def labels(self) -> np.ndarray:
        """Return the label of each row, as it stands."""
        codes, values = self._found()
        return np.array(values, object if type(values[0]) is str else np.int64).take(codes)

    def outputs(self) -> np.ndarray:
        """Return the number of each row's class, among those of the notes or of the table."""
        codes, values = self._found()
        if not self.classes and self.notes is not None:  # a model that knows no names
            if type(values[0]) is str:
                got = f"column {self.label!r} must hold classes 0, 1, 2, ...; got {values[0]!r}"
                raise ValueError(f"{got}, of which the model knows nothing")
            return self.labels()
        self.classes = self.classes or sorted(set(values))
        number = {name: k for k, name in enumerate(self.classes)}
        if unknown := [value for value in values if value not in number]:
            what = f"column {self.label!r} holds classes that the model was not trained on"
            known = f"it knows {reprlib.repr(self.classes)}"
            raise ValueError(f"{what}, {reprlib.repr(unknown)}; {known}")
        return np.array([number[value] for value in values], np.int64).take(codes)

    def _found(self) -> tuple[np.ndarray, list[Any]]:
        """Return the place of each row's class among those of the column, and these."""
        import pandas

        codes, found = pandas.factorize(self.frame[self.label].str.strip())
        texts = list(map(str, found))
        values = [_class(text) for text in texts]
        for k, (text, value) in enumerate(zip(texts, values, strict=True)):
            if wrong := self._wrong(text, value, values[0]):
                row = f"row {int(np.argmax(codes == k)) + 1}{self.where}"
                raise ValueError(f"column {self.label!r}, {row}: {wrong}")
        return codes, values

    def _wrong(self, text: str, value: int | float | str, first: int | float | str) -> str:
        """Say what is wrong with a label, if anything."""
        if text in MISSING:
            return f"the label is missing; got {text!r}"
        if self.header and text == self.label:
            return "the column's name is one of its values; without a header, pass --no-header"
        if isinstance(value, float):
            return f"a label must be a whole number or a text; got {text:.40}"
        if len(text) > MAX_NAME or not text.isprintable():
            return f"a label must be the name of a class; got {reprlib.repr(text)}"
        if type(value) is not type(first):
            return f"labels must be either numbers or texts; got {first!r:.40} and {value!r:.40}"
        return ""


def _class(text: str) -> int | float | str:
    """Return the class of a label; a float is none."""
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return text
    if "_" in text:  # which Python takes for a number
        return text
    whole = number.is_integer() and abs(number) < 2**53 and "," not in text
    return int(number) if whole else number


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
    words = [f"{what} {reprlib.repr(names)}" for what, names in faults.items() if names]
    if words:
        it = "its columns must be those that the model was trained on; it"
        raise ValueError(f"{it} {' and '.join(words)}")
    return wanted


def _frame(path: _Path, dialect: Dialect, columns: list[str], numbers: list[str]) -> Any:
    """Return a table; of columns that are no numbers, the texts."""
    pandas = extras.required("pandas", "pandas", "CSV files", "csv")
    gaps = [*MISSING, "None"]
    read = partial(
        pandas.read_csv, path, sep=dialect.separator, header=0 if dialect.header else None,
        names=columns, index_col=False, skipinitialspace=True, low_memory=False,
        dtype=dict.fromkeys({*columns}.difference(numbers), str), keep_default_na=False,
        na_values={name: gaps for name in numbers}, encoding="utf-8-sig", compression=None,
    )  # fmt: skip
    with warnings.catch_warnings():
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


def _numbers(name: str, column: Any, where: str) -> np.ndarray:
    """Return a column as an array, if it holds nothing but numbers."""

    def allow_none(marked: Any, what: str, advice: str) -> None:
        if marked.any():
            row = f"row {int(np.asarray(marked).argmax()) + 1}{where}"
            raise ValueError(f"column {name!r} {what} in {row}; {advice}")

    allow_none(column.isna(), "has no value", "fill it in, or leave the row or the column out")
    if column.dtype.kind not in "biuf":
        import pandas

        text = pandas.to_numeric(column, errors="coerce").isna()
        text |= not text.any()  # whole numbers of a hundred digits
        found = str(column[text].iloc[0])
        advice = "make it numbers (by pandas.factorize: 0, 1, ...)"
        if _OTHER_NUMBER.fullmatch(found):
            advice = "write numbers with one decimal mark, the same in all, and nothing else"
        allow_none(text, f"holds text, {reprlib.repr(found)}", advice)
    values: np.ndarray = column.to_numpy()
    allow_none(~np.isfinite(values), "is infinite", "leave it out")
    # Unsigned is what int64 cannot hold.
    return values.astype({"b": np.uint8, "u": np.float64}.get(values.dtype.kind, values.dtype))
