"""How a CSV file is written: its separator, its decimal point, and the names in its first line."""

import csv
import io
import re
import reprlib
from itertools import islice, repeat
from typing import Any, NamedTuple

from .._support import checks

MAX_COLUMNS = 2**15  # a comma is a byte, a column of pandas takes 800: here, 26 MB
SAMPLE = 100  # lines, by which the separator is found out
SEPARATORS = ",;\t|"
MISSING = ["", *"? NA N/A #N/A <NA> NaN nan -nan NULL null".split()]  # None may be a class
OTHER_KINDS = {
    b"sep=": "its first line, sep=, is for Excel alone; remove it",
    b"\x1f\x8b": "it is compressed by gzip; unpack it first",
    b"PK\x03\x04": "it is an archive or a workbook; unpack it, or save the sheet as CSV",
    b"\xff\xfe": "it is in UTF-16; save it as UTF-8",
    b"\xfe\xff": "it is in UTF-16; save it as UTF-8",
}
_NAMELESS = re.compile(r"(Unnamed: \d+(_level_\d+)?)?")
_DECIMAL_COMMA = r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*"
_THOUSANDS = r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*"  # 1,234 fits both


class Dialect(NamedTuple):
    """How a file is written, as `read_csv` says; None is found out."""

    header: bool = True
    separator: str | None = None
    decimal: str | None = None

    def checked(self) -> "Dialect":
        """Return this, if it is what users may give."""
        checks.flag("header", self.header)
        if self.decimal is not None:
            checks.one_of("decimal", self.decimal, (".", ","))
        char = self.separator
        one = isinstance(char, str) and len(char) == 1 and char.isascii() and not char.isalnum()
        if char is not None and (not one or char in "\"'+-.\r\n\0"):
            raise ValueError(f"separator must be one character such as ';'; got {char!r:.20}")
        return self

    def found(self, file: Any) -> tuple[str, list[str]]:
        """Return the separator of a file, and the names of its columns."""
        for start, words in OTHER_KINDS.items():
            if file.peek(4).startswith(start):
                raise ValueError(words)
        with io.TextIOWrapper(file, "latin-1") as text:  # it ends lines as pandas ends them
            raw = [line.encode("latin-1") for line in islice(filter(str.strip, text), SAMPLE)]
            lines = [line.decode("utf-8-sig", "surrogateescape") for line in raw]
            if not lines:
                raise ValueError("it is empty")
            separator = self.separator or _separator(lines)
            text.seek(0)
            if max(line.count(separator) for line in text) >= MAX_COLUMNS:
                raise ValueError(f"a line has more than {MAX_COLUMNS:,} columns; split it")
        first, *rows = _split(lines, separator)
        longest = max(rows, key=len, default=[])
        if any(longest[len(first) :]):
            counts = f"its first line has {len(first)} values, another {len(longest)}"
            raise ValueError(f"not a CSV file{' with a header' * self.header}: {counts}")
        if self.header:
            return separator, _names(first, rows)
        return separator, [str(k) for k in range(1, len(first) + 1)]


def has_decimal_commas(frame: Any) -> bool:
    """Return whether texts in a frame are numbers such as 3,14."""
    sure, unsure = False, ""
    for name in (name for name in frame.columns if frame[name].dtype.kind not in "biuf"):
        column = frame[name].astype(str)
        thousands = column.str.fullmatch(_THOUSANDS)
        sure |= bool((column.str.fullmatch(_DECIMAL_COMMA) & ~thousands).any())
        if thousands.any():
            unsure = f"column {name!r} holds {column[thousands].iloc[0]!r}"
    if unsure and not sure:
        advice = "pass --decimal ',' (decimal=) if it has decimals, else write it without comma"
        raise ValueError(f"{unsure}; {advice}")
    return sure


def _split(lines: list[str], separator: str) -> list[list[str]]:
    return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _separator(lines: list[str]) -> str:
    """Return what divides all lines into the same number of values, most of which are numbers."""
    few = [char for char in SEPARATORS if max(map(str.count, lines, repeat(char))) < MAX_COLUMNS]
    tables = {char: _split(lines, char) for char in few}
    several = {char: rows for char, rows in tables.items() if len(rows[0]) > 1}
    even = [char for char, rows in several.items() if len(set(map(len, rows))) == 1]
    if not even:  # a fault, of which the reader speaks
        return max(several, key=lambda char: len(several[char][0]), default=",")
    if len(even) > 1:
        shares = {char: _share_of_numbers(several[char]) for char in even}
        even = [char for char in even if shares[char] == max(shares.values())]
    if len(even) > 1:
        found = " or ".join(map(repr, even))
        raise ValueError(f"its separator may be {found}; say which, by --separator (separator=)")
    return even[0]


def _share_of_numbers(rows: list[list[str]]) -> float:
    values = [value for row in rows[1:] or rows for value in row]
    return sum(map(_is_number, values)) / len(values)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _names(first: list[str], rows: list[list[str]]) -> list[str]:
    names = [name.strip() for name in first]
    values = [name for name in names if name not in (*MISSING, "True", "False")]
    if any(names) and all(map(_is_number, values)):
        raise ValueError(
            f"its first line holds nothing but numbers, {reprlib.repr(names)}: if it is a sample, "
            "pass --no-header (header=False); if it is a header, give the columns names"
        )
    for k, name in enumerate(names):
        if not _NAMELESS.fullmatch(name):
            continue
        if k == len(names) - 1 and not any("".join(row[k:]).strip() for row in rows):
            raise ValueError("its lines end with a separator, after which nothing comes; remove it")
        raise ValueError(
            f"column {k + 1} has no name, got {name!r}: give it one, or leave it out; if pandas "
            "wrote the number of each row there, by to_csv(..., index=False)"
        )
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise ValueError(f"two columns are named {twice!r}; rename one")
    return names
