"""What others say, cut to a length that fits into an error message."""


def said(text: object, most: int = 300) -> str:
    """Return a text, or that of an error, on one line: either may hold all of a file."""
    return " ".join(str(text).split())[:most]


def writable(text: object) -> str:
    """Return a text that UTF-8 can write: a file's name may hold bytes that are no characters."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")
