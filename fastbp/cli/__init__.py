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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 128 + signal.SIGINT  # the exit code that shells report


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run the command `fastbp` with the process's arguments, or these; return its exit code."""
    # The import takes most of a second, as long as little is imported above. A process that is ours
    # has nothing to lose meanwhile, and an exception might be lost in the modules of others.
    ours = argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        if ours:
            signal.signal(signal.SIGINT, _end)
            gc.set_threshold(100_000)  # more often, it takes 7 % of the time to compile
        from . import program

        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return program.run(argv)
    except KeyboardInterrupt:  # on the way in or out
        return INTERRUPTED


def _end(*_: object) -> None:
    try:
        os.write(2, b"fastbp: interrupted\n")
    finally:
        os._exit(INTERRUPTED)
