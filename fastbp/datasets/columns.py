"""What the columns of a table hold: the inputs' numbers, and the target's classes or numbers."""

import re
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._support.texts import said
from .dialect import MISSING, has_decimal_commas

CLASSIFICATION, REGRESSION = TASKS = "classification", "regression"
MAX_NAME = 100  # characters of a class's name: what is longer is a text, not a class
# Whole numbers are classes if there are so few of them, or not too many with rows enough for each.
FEW, MANY, ROWS_EACH = 10, 100, 10
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_OTHER_NUMBER = re.compile(r"\s*[+-]?\d+([., '’]\d+)+\s*")  # 1.234,56 or 2,5


def inputs(frame: Any, where: str) -> np.ndarray:
    """Return the columns of a frame as an array, if they hold nothing but numbers."""
    columns = {name: frame[name] for name in frame.columns}
    gaps = {name: column.isna() for name, column in columns.items()}
    fill = "fill in what is missing, or leave the row or the column out"
    _refuse(gaps, "has no value", "lack values, the first", fill, where)
    _refuse_text(columns, where)
    values = {name: column.to_numpy() for name, column in columns.items()}
    infinite = {name: ~np.isfinite(found) for name, found in values.items()}
    _refuse(infinite, "is infinite", "are infinite, the first", "leave it out", where)
    # Unsigned is what int64 cannot hold.
    kinds = {"b": np.uint8, "u": np.float64}
    return np.stack([v.astype(kinds.get(v.dtype.kind, v.dtype)) for v in values.values()], axis=1)


def _refuse(marked: Mapping[str, Any], one: str, several: str, advice: str, where: str) -> None:
    """Raise if rows of columns are marked: name all these columns, and the first such row."""
    found = [name for name, rows in marked.items() if rows.any()]
    if not found:
        return
    which = f"column {found[0]!r} {one}"
    if len(found) > 1:
        which = f"columns {said(', '.join(map(repr, found)), 200)} {several}"
    row = int(np.asarray(marked[found[0]]).argmax()) + 1
    raise ValueError(f"{which} in row {row}{where}; {advice}")


def _refuse_text(columns: Mapping[str, Any], where: str) -> None:
    """Raise if columns hold text; say what to do with categories, and with a slip of the pen."""
    import pandas

    marked: dict[str, Any] = {}
    for name, column in columns.items():
        if column.dtype.kind not in "biuf":
            text = pandas.to_numeric(column, errors="coerce").isna()
            marked[name] = text if text.any() else ~text  # whole numbers of a hundred digits
    if not marked:
        return
    name, rows = next(iter(marked.items()))
    found = str(columns[name][rows].iloc[0])
    names = repr(list(marked)) if len(repr(list(marked))) < 80 else "[...]"
    advice = (
        f"make numbers of them, pandas.get_dummies(table, columns={names}, dtype=int), "
        "or leave them out"
    )
    if _OTHER_NUMBER.fullmatch(found):
        advice = "write numbers with one decimal mark, the same in all, and nothing else"
    elif len(marked) == 1 and rows.mean() < 0.5:
        advice = "most values are numbers: make all of them numbers, or leave the column out"
        if rows.sum() == 1:
            advice = "all other values are numbers: make it one, or leave the row out"
    shown = reprlib.repr(found)
    _refuse(marked, f"holds text, {shown}", f"hold text, such as {shown}", advice, where)


class Target:
    """The column that is to be predicted, as texts: the classes or the numbers in it."""

    def __init__(self, column: Any, dialect: Any, where: str) -> None:
        import pandas

        self.name, self._where = column.name, where
        self._codes, found = pandas.factorize(column.str.strip())  # of each row; in order of rows
        self._texts = list(map(str, found))
        self._values = [_value(text, dialect.decimal) for text in self._texts]
        for k, text in enumerate(self._texts):
            if wrong := self._wrong(k, dialect.header and text == self.name):
                raise self._error(k, wrong)
        if dialect.decimal is None and self._kind is float:
            has_decimal_commas(column.to_frame())  # raises for 1,234, which may be thousands

    @property
    def _kind(self) -> type:
        """What the values are: text, whole numbers, or numbers with a fraction among them."""
        kinds = set(map(type, self._values))
        return kinds.pop() if len(kinds) == 1 else float

    def task(self) -> str:
        """Return what the column is taken for where nobody says: `load` states the rule."""
        if self._kind is not int:
            return REGRESSION if self._kind is float else CLASSIFICATION
        n = len(set(self._values))
        few = n <= FEW or (n <= MANY and len(self._codes) >= ROWS_EACH * n)
        return CLASSIFICATION if few else REGRESSION

    def as_it_stands(self) -> np.ndarray:
        """Return texts, whole numbers or numbers."""
        kind = {str: object, int: np.int64}.get(self._kind, np.float64)
        found: np.ndarray = np.array(self._values, kind).take(self._codes)
        return found

    def numbers(self, training: bool) -> np.ndarray:
        """Return the targets of a regression."""
        for k, value in enumerate(self._values):
            if isinstance(value, str):
                advice = f"a regression takes numbers; for classes pass --task {CLASSIFICATION}"
                raise self._error(k, f"it holds text, {said(value, 40)!r}; {advice} (task=)")
            if not np.isfinite(value):
                raise self._error(k, f"a target must be finite; got {self._texts[k]:.40}")
        y = self.as_it_stands().astype(np.float64)
        if training and y.min() == y.max():
            only = f"column {self.name!r} holds one number alone, {y[0]:g}"
            raise ValueError(f"{only}: there is nothing to learn")
        return y

    def classes(self, known: list[Any] | None) -> tuple[np.ndarray, list[Any]]:
        """Return the number of each row's class among those that are known; if None, of all."""
        for k, value in enumerate(self._values):
            if isinstance(value, float):
                advice = f"for a regression pass --task {REGRESSION} (task=)"
                got = f"a class must be a whole number or a text; got {self._texts[k]:.40}"
                raise self._error(k, f"{got}; {advice}")
        names = sorted(set(self._values)) if known is None else known
        number = {name: k for k, name in enumerate(names)}
        if unknown := [value for value in self._values if value not in number]:
            what = f"column {self.name!r} holds classes that the model was not trained on"
            it_knows = f"it knows {reprlib.repr(names)}"
            raise ValueError(f"{what}, {reprlib.repr(unknown)}; {it_knows}")
        y = np.array([number[value] for value in self._values], np.int64).take(self._codes)
        if known is None:
            self._check_counts(y, names)
        return y, names

    def _check_counts(self, y: np.ndarray, names: list[Any]) -> None:
        """Raise for classes that cannot be trained."""
        if len(names) < 2:
            only = f"column {self.name!r} holds one class alone, {names[0]!r}"
            raise ValueError(f"{only}; to train takes two or more")
        if np.bincount(y).max() < 5:
            numbers = isinstance(names[0], int)
            advice = f"; for a regression pass --task {REGRESSION} (task=)" if numbers else ""
            raise ValueError(
                f"column {self.name!r} holds {len(names):,} classes in {len(y):,} rows: a class "
                f"must have five samples or more: every fifth is for testing{advice}"
            )

    def unnamed(self) -> np.ndarray:
        """Return the classes for a model that knows no names: 0, 1, 2, ..."""
        if self._kind is not int:
            got = f"column {self.name!r} must hold classes 0, 1, 2, ...; got {self._values[0]!r}"
            raise ValueError(f"{got}, of which the model knows nothing")
        return self.as_it_stands()

    def _error(self, k: int, words: str) -> ValueError:
        row = int(np.argmax(self._codes == k)) + 1
        return ValueError(f"column {self.name!r}, row {row}{self._where}: {words}")

    def _wrong(self, k: int, is_name: bool) -> str:
        """Say what is wrong with a value, whatever the task, if anything."""
        text, value, first = self._texts[k], self._values[k], self._values[0]
        if text in MISSING:
            return f"the label is missing; got {text!r}"
        if is_name:
            return "the column's name is one of its values; without a header, pass --no-header"
        if len(text) > MAX_NAME or not text.isprintable():
            return f"a label must be the name of a class; got {reprlib.repr(text)}"
        if isinstance(value, str) is not isinstance(first, str):
            return f"labels must be either numbers or texts; got {first!r:.40} and {value!r:.40}"
        return ""


def _value(text: str, decimal: str | None) -> int | float | str:
    """Return the number that a text is, or else the text."""
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        number = float(text if decimal == "." else text.replace(",", "."))
    except ValueError:
        return text
    if "_" in text:  # which Python takes for a number
        return text
    whole = number.is_integer() and abs(number) < 2**53 and "," not in text
    return int(number) if whole else number
