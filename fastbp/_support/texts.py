"""What others say, cut to a length that fits into an error message."""


def said(text: object, most: int = 300) -> str:
    """Return a text, or that of an error, on one line: either may hold all of a file."""
    return " ".join(str(text).split())[:most]
