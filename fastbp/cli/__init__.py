r"""The command line: `fastbp COMMAND`, or `python -m fastbp COMMAND`.

Exit codes: 0; 1 if a check failed; 2 if an argument or a file is wrong, after one line on stderr
that says why; 130 after Ctrl-C; 143 after SIGTERM. Any other error is a bug and shows a traceback.

What a command says on its way never stops its work: lines that cannot be shown, on a full disk or
to a reader that has left, are lost, and characters that a terminal lacks are written as ``\xe9``.
Only a result that cannot be printed is an error, when all else is done.
"""

import gc
import os
import signal
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

__all__ = ["main"]

INTERRUPTED = 128 + signal.SIGINT  # the exit code that shells report


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run the command `fastbp` with the process's arguments, or these; return its exit code."""
    ours = argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        if ours:
            gc.set_threshold(100_000)  # more often, it takes 7 % of the time to compile
        with loading(ours):
            from . import program

        return program.run(argv, ours)
    except KeyboardInterrupt:  # on the way in or out
        return INTERRUPTED


@contextmanager
def loading(ours: bool) -> "Iterator[None]":
    """Let signals end the process at once inside, if it is ours: it has nothing to lose yet.

    Imports take most of a second, and an exception might be lost in the modules of others.
    """
    ends: dict[int, Any] = {signal.SIGINT: _end, signal.SIGTERM: signal.SIG_DFL} if ours else {}
    before = [(number, signal.signal(number, end)) for number, end in ends.items()]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _end(*_: object) -> None:
    try:
        os.write(2, b"fastbp: interrupted\n")
    finally:
        os._exit(INTERRUPTED)
