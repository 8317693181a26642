"""The command line: `fastbp COMMAND`, or `python -m fastbp COMMAND`.

Exit codes: 0; 1 if a check failed; 2 if an argument or a file is wrong, after one line on stderr
that says why; 130 after Ctrl-C; 143 after SIGTERM. Any other error is a bug and shows a traceback.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .._support.signals import TERMINATED, dropped_interrupts_return, termination_raises
from ..training.ranks import world
from . import options, train, use

__all__ = ["main"]

FOUND = [*vars(train).values(), *vars(use).values()]
COMMANDS = [command for command in FOUND if isinstance(command, options.Command)]
FAILED, WRONG, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
# What wrong input leads to. Any other error is a bug.
EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `fastbp` with the process's arguments, or these; return its exit code."""
    with termination_raises(), _log_to_stderr() as handler:
        try:
            if "--distributed" in (sys.argv if argv is None else argv) and world().Get_rank():
                # Rank 0 prints; the others only log the error for which they end all ranks.
                handler.setLevel(logging.ERROR)
                sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")
            with dropped_interrupts_return():
                args = options.parser(COMMANDS).parse_args(argv)
                result = args.run(args)
                if text := json.dumps(result.facts) if vars(args).get("json") else result.text:
                    print(text)
                sys.stdout.flush()
        except KeyboardInterrupt as stop:
            message, code = _how("interrupted", stop), INTERRUPTED
        except SystemExit as stop:
            if stop.code != TERMINATED:  # --help
                raise
            message, code = _how("terminated", stop), TERMINATED
        except BrokenPipeError:  # as in `fastbp predict | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        except EXPECTED as error:
            notes = getattr(error, "__notes__", [])  # by a training that ended
            message, code = "; ".join([f"error: {_one_line(error)}", *notes]), WRONG
        else:
            return 0 if result.ok else FAILED
        print(f"fastbp: {message}", file=sys.stderr)
    return code


def _how(word: str, stop: BaseException) -> str:
    saved = getattr(stop, "__notes__", None)  # by a training
    return f"training was {word}; {saved[0]}" if saved else word


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"out of memory: {text}" if isinstance(error, MemoryError) else text


@contextmanager
def _log_to_stderr() -> Iterator[logging.Handler]:
    """Show what the library logs, such as the first compilation."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("fastbp: %(message)s"))
    logger = logging.getLogger("fastbp")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
