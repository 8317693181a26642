"""The matrix of a verification: one row for each kernel, dtype, path and number of threads.

It holds what was compared, not what is computed; and the one table of tolerances.
"""

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# What a result may differ from the reference: (relative to each value, as a part of the array's
# largest value), by kind of result and dtype. a (1 - a) cancels: its last digits are those of 1.
# The rounding of a sum of products goes with its largest terms.
TOLERANCES = {
    "elementwise": {"float64": (1e-12, 1e-15), "float32": (1e-5, 5e-7)},
    "contraction": {"float64": (1e-10, 1e-12), "float32": (1e-5, 1e-5)},
}


@dataclass
class Row:
    """One cell of the matrix.

    Attributes
    ----------
    kernel : str
        What was run; "reference" where the reference itself is checked.
    against : str
        What it was held against.
    dtype, path : str
    threads : int
    cases : int
        How many comparisons; 0 if it was not run, because what it stands on is broken.
    error : float
        The largest, in the measure of `allowed`; infinite where NaN, a wrong shape, or an
        exception came instead.
    allowed : float
    worst : str
        The case of the largest error.
    """

    kernel: str
    against: str
    dtype: str
    path: str
    threads: int
    cases: int = 0
    error: float = 0.0
    allowed: float = 0.0
    worst: str = ""

    @property
    def ok(self) -> bool:
        """Whether the largest error is within what is allowed."""
        return self.error <= self.allowed


@dataclass(frozen=True)
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
        """Whether every row is."""
        return not self.failures

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that are not ok."""
        return tuple(row for row in self.rows if not row.ok)

    @property
    def comparisons(self) -> int:
        """How many there were."""
        return sum(row.cases for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as numbers, strings, lists and dicts; an infinite error is None."""
        rows = [asdict(row) | {"ok": row.ok} for row in self.rows]
        for row in rows:
            row["error"] = row["error"] if np.isfinite(row["error"]) else None
        return {
            "ok": self.ok, "quick": self.quick, "cpu": self.cpu, "seconds": self.seconds,
            "comparisons": self.comparisons, "rows": rows,
        }  # fmt: skip

    def __str__(self) -> str:
        """Return a table, one line per row, and a line of summary."""
        lines = [
            f"{'kernel':<23}{'against':<15}{'dtype':<9}{'path':<8}{'threads':>7}{'cases':>7}"
            f"{'largest error':>15}{'allowed':>9}"
        ]
        for r in self.rows:
            note = "" if r.ok else f"  <-- FAILS: {r.worst}"
            error = f"{r.error:.1e}" if r.cases else "not run"
            allowed = f"{r.allowed:.0e}" if r.allowed else "exact"
            lines.append(
                f"{r.kernel:<23}{r.against:<15}{r.dtype:<9}{r.path:<8}{r.threads:>7}{r.cases:>7}"
                f"{error:>15}{allowed:>9}{note}"
            )
        broken = ", ".join(dict.fromkeys(row.kernel for row in self.failures))
        lines.append(
            f"{f'NOT ok, {broken}' if broken else 'ok'}: {self.comparisons:,} comparisons "
            f"in {self.seconds:.1f} s on {self.cpu}"
        )
        return "\n".join(lines)


class Matrix:
    """Collects comparisons into rows.

    Examples
    --------
    >>> matrix = Matrix()
    >>> row = matrix.row("tanh", "float64")
    >>> matrix.compare(row, "three zeros", np.zeros(3), np.tanh(np.zeros(3)), "elementwise")
    >>> row.ok, row.cases
    (True, 1)
    """

    def __init__(self):
        self.rows = {}

    def row(self, kernel, dtype, path="-", threads=1, against="reference"):
        """Return the row of a cell."""
        key = kernel, against, dtype, path, threads
        return self.rows.setdefault(key, Row(*key))

    @staticmethod
    def note(row, where, error, allowed):
        """Note an error that was found, in the case `where`."""
        row.cases += 1
        row.allowed = allowed
        if not error <= row.error or row.cases == 1:
            row.error, row.worst = (np.inf if np.isnan(error) else float(error)), where

    def compare(self, row, where, got, want, kind="contraction", slack=0.0):
        """Note the relative error of an array; `slack` is allowed to each value beside that."""
        relative, part = TOLERANCES[kind][row.dtype]
        floor = part / relative, slack / relative
        self.note(row, where, _error(got, want, *floor), relative)

    @staticmethod
    def same(row, where, got, want):
        """Note whether two arrays are equal, value by value."""
        row.cases += 1
        row.worst = row.worst or where
        if not np.array_equal(got, want):
            row.error, row.worst = np.inf, where

    @contextmanager
    def attempt(self, row, where):
        """Note an exception as a failure."""
        try:
            yield
        except Exception as error:  # a kernel may fail in any way, and the others still count
            message = f"{where}: {type(error).__name__}: {error}".splitlines()[0]
            self.note(row, message, np.inf, row.allowed)


def _error(got, want, part, slack):
    """Return the largest |got - want| / (|want| + part * max|want| + slack); infinite for NaN."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return np.inf
    scale = np.abs(want) + part * np.abs(want).max(initial=0) + slack
    difference = np.abs(got - want)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(difference == 0, 0, difference / scale).max(initial=0))
