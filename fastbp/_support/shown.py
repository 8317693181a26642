"""How objects show themselves: at a prompt by a line, in a notebook by a table."""

import inspect
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any, TypeVar

_CELL = "white-space: nowrap; padding: 0.1em 0.6em"
Row = TypeVar("Row")
MOST_ROWS, EDGE = 12, 5  # of more rows than that, so many are shown at either end


def number(value: float) -> str:
    """Return four digits behind the point, or three significant ones where those would be zeros."""
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 1e6 else f"{value:.2e}"


class Called:
    """Shown as the call that makes it, of the arguments that are kept under their names."""

    def __repr__(self) -> str:
        arguments = (f"{name}={_short(value)}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({', '.join(arguments)})"

    def _arguments(self) -> dict[str, Any]:
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names if hasattr(self, name)}


def _short(value: Any) -> str:
    array = hasattr(value, "shape") and hasattr(value, "dtype")
    return f"<{value.shape} {value.dtype}>" if array else repr(value)


def ends(rows: Sequence[Row]) -> Iterable[Row | None]:
    """Return the rows; of many those at either end, with None between them."""
    many = len(rows) > MOST_ROWS
    return [*rows[:EDGE], None, *rows[-EDGE:]] if many else rows


def html(
    head: Sequence[str], rows: Iterable[Sequence[object] | None], above: str = "", below: str = "",
    words: int = 1,
) -> str:  # fmt: skip
    """Return a table, of whose columns the first ones hold words; without colours of its own.

    A column without a heading is left out where nothing stands in it; None is a row of dots.
    """
    from html import escape  # its table of entities takes milliseconds that no training needs

    rows = [*rows]
    kept = [any(column) for column in zip(head, *filter(None, rows), strict=True)]
    # A notebook's own style gives its colours, light or dark, and puts all cells to the right.
    ways = ["left"] * words + ["right"] * (sum(kept) - words)

    def line(tag: str, cells: Sequence[object]) -> str:
        parts = (
            f'<{tag} style="text-align: {way}; {_CELL}">{escape(str(cell))}</{tag}>'
            for way, cell in zip(ways, compress(cells, kept), strict=True)
        )
        return f"<tr>{''.join(parts)}</tr>"

    lines = [line("td", ["…"] * len(head) if row is None else row) for row in ends(rows)]
    table = f"<table><thead>{line('th', head)}</thead><tbody>{''.join(lines)}</tbody></table>"
    around = [f"<div>{escape(text)}</div>" if text else "" for text in (above, below)]
    return f"<div>{around[0]}{table}{around[1]}</div>"
