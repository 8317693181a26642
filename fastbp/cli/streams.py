"""Standard streams that are closed, full, left by their reader, or of few characters."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def usable() -> Iterator[None]:
    """Make stdout and stderr take any text inside; what they cannot write at the end is lost."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed, and the next file that is opened would stand in its place
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    streams = [(stream, getattr(stream, "errors", None)) for stream in (sys.stdout, sys.stderr)]
    for stream, _ in streams:
        _escape(stream, "backslashreplace")
    try:
        yield
    finally:
        for stream, errors in streams:
            try:
                stream.flush()
            except OSError:
                drop(stream)
            _escape(stream, errors)


def _escape(stream: Any, errors: str | None) -> None:
    if hasattr(stream, "reconfigure"):  # no StringIO
        stream.reconfigure(errors=errors)


def say(line: str, stream: Any) -> None:
    """Print a line on which no work depends: where it cannot be shown, it is lost."""
    try:
        print(line, file=stream, flush=True)
    except OSError:
        drop(stream)


def drop(stream: Any) -> None:
    """Let whatever a stream still gets, and what waits in its buffer, go nowhere."""
    with suppress(OSError):  # there may be no file beneath, as in a notebook
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
