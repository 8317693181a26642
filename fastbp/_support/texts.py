"""What others say, cut to a length that fits into an error message."""

from collections.abc import Sequence


def said(text: object, most: int = 300) -> str:
    """Return a text, or that of an error, on one line: either may hold all of a file."""
    return " ".join(str(text).split())[:most]


def named(names: Sequence[object], most: int = 20) -> str:
    """Return a list of names; of many the first and the last, as labels often stand there."""
    shown = [said(repr(name), 60) for name in names]
    if len(shown) > most:
        shown = [*shown[: most - 5], "...", *shown[-5:]]
    return f"[{', '.join(shown)}]"


def writable(text: object) -> str:
    """Return a text that UTF-8 can write: a file's name may hold bytes that are no characters."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")
