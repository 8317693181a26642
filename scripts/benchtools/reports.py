"""What all commands print: progress and tables."""

import sys


class NotMeasured(Exception):
    """There is nothing to judge; the message says what to do."""


def say(words):
    """Report progress where it does not mix with the table."""
    print(f"bench: {words}", file=sys.stderr, flush=True)


def table(rows):
    """Return the lines of a table, header first, that reads well as text and as Markdown."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"| {' | '.join(f'{word:{n}}' for word, n in zip(words, widths, strict=True))} |"
        for words in rows
    ]
    return [lines[0], f"|{'|'.join('-' * (n + 2) for n in widths)}|", *lines[1:]]
