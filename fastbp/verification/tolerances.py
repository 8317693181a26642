"""How closely results must agree, and the report of what was compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._support.shown import html

# What a result may differ from the reference: (relative to each value, as a fraction of the array's
# largest value), by kind of result and dtype. a (1 - a) cancels: its last digits are those of 1.
# The rounding of a sum of products grows with its largest terms.
TOLERANCES = {
    "elementwise": {"float64": (1e-12, 1e-15), "float32": (1e-5, 5e-7)},
    "contraction": {"float64": (1e-10, 1e-12), "float32": (1e-5, 1e-5)},
}
AGAINST = {"reference": "differences", "index_rows": "numpy.nonzero"}  # others: the reference
_HEAD = "kernel", "against", "dtype", "path", "threads", "cases", "largest error", "allowed"
_LINE = "{:<23}{:<15}{:<9}{:<8}{:>7}{:>7}{:>15}{:>9}{}"


@dataclass
class Row:
    """One row of a report: the comparisons of one kernel."""

    kernel: str  # what was run; "reference" where the reference itself is checked
    against: str  # what it was compared with
    dtype: str
    path: str
    threads: int
    cases: int = 0  # comparisons; 0 if it was not run because what it depends on is broken
    error: float = 0.0  # the largest; infinite for NaN, a wrong shape, or an exception
    allowed: float = 0.0  # in the same measure
    worst: str = ""  # the case of the largest error

    @property
    def ok(self) -> bool:
        """Whether the largest error is allowed."""
        return self.error <= self.allowed

    def note(self, where: str, error: float, allowed: float) -> None:
        """Record an error that was found in the case `where`."""
        self.cases += 1
        self.allowed = allowed
        if not error <= self.error or self.cases == 1:
            self.error, self.worst = (np.inf if np.isnan(error) else float(error)), where

    def compare(
        self, where: str, got: ArrayLike, want: ArrayLike, kind: str = "contraction",
        slack: ArrayLike = 0.0,
    ) -> None:  # fmt: skip
        """Record the relative error of an array; each value may differ by `slack` more."""
        relative, part = TOLERANCES[kind][self.dtype]
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        if got.shape != want.shape:
            error = np.inf
        else:
            part_of_largest = part / relative * np.abs(want).max(initial=0)
            scale = np.abs(want) + part_of_largest + np.asarray(slack) / relative
            difference = np.abs(got - want)
            with np.errstate(all="ignore"):
                error = np.where(difference == 0, 0, difference / scale).max(initial=0)
        self.note(where, error, relative)

    def same(self, where: str, got: ArrayLike, want: ArrayLike) -> None:
        """Record whether two arrays are equal, value by value."""
        self.note(where, 0.0 if np.array_equal(got, want) else np.inf, self.allowed)

    @contextmanager
    def attempt(self, where: str) -> Iterator["Row"]:
        """Record an exception as a failure."""
        try:
            yield self
        except Exception as error:  # a kernel may fail in any way, and the others still count
            message = f"{where}: {type(error).__name__}: {error}".splitlines()[0]
            self.note(message, np.inf, self.allowed)


@dataclass
class Comparisons:
    """The rows of a report, by what they compare."""

    rows: dict[tuple[Any, ...], Row] = field(default_factory=dict)

    def row(self, kernel: str, dtype: str, path: str = "-", threads: int = 1) -> Row:
        """Return the row of a kernel, dtype, path and number of threads."""
        key = kernel, AGAINST.get(kernel, "reference"), dtype, path, threads
        return self.rows.setdefault(key, Row(*key))


@dataclass(frozen=True, repr=False)
class VerificationReport:
    """What `verify` found; print it for a table.

    Attributes
    ----------
    rows : tuple of Row
    quick : bool
    cpu : str
    seconds : float
    """

    rows: tuple[Row, ...]
    quick: bool
    cpu: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every row is ok."""
        return not self.failures

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that are not ok."""
        return tuple(row for row in self.rows if not row.ok)

    @property
    def comparisons(self) -> int:
        """Number of comparisons of all rows."""
        return sum(row.cases for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as numbers, strings, lists and dicts; an infinite error is None."""
        rows = [asdict(row) | {"ok": row.ok} for row in self.rows]
        for row in rows:
            row["error"] = row["error"] if np.isfinite(row["error"]) else None
        names = "ok", "quick", "cpu", "seconds", "comparisons"
        return {name: getattr(self, name) for name in names} | {"rows": rows}

    def __str__(self) -> str:
        """Return a table, one line per row, and a line of summary."""
        lines = [_LINE.format(*cells) for cells in [(*_HEAD, ""), *map(_cells, self.rows)]]
        return "\n".join([*lines, self._result()])

    def __repr__(self) -> str:
        return f"<VerificationReport, {self._result()}>"

    def _repr_html_(self) -> str:
        # Of the rows that are ok some will do.
        rows = [*self.failures, *(row for row in self.rows if row.ok)]
        return html((*_HEAD, ""), map(_cells, rows), below=self._result(), words=4)

    def _result(self) -> str:
        broken = ", ".join(dict.fromkeys(row.kernel for row in self.failures))
        found = f"{self.comparisons:,} comparisons in {self.seconds:.1f} s on {self.cpu}"
        return f"{f'NOT ok, {broken}' if broken else 'ok'}: {found}"


def _cells(r: Row) -> tuple[object, ...]:
    error = f"{r.error:.1e}" if r.cases else "not run"
    allowed = f"{r.allowed:.0e}" if r.allowed else "exact"
    return *astuple(r)[:6], error, allowed, "" if r.ok else f"  <-- FAILS: {r.worst}"
