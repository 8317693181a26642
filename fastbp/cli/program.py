"""What the command line does around each command: signals, streams, errors, the log."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from .._support.signals import TERMINATED, dropped_interrupts_return, termination_raises
from . import INTERRUPTED, loading, options
from .commands import COMMANDS
from .streams import drop, say, usable

FAILED, WRONG, BROKEN_PIPE = 1, 2, 141
# What wrong input leads to. Any other error is a bug.
EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError)


def run(argv: Sequence[str] | None, ours: bool = False) -> int:
    """Run a command; return its exit code. The process is `ours` to end while modules load."""
    with termination_raises(), usable(), _warnings_as_lines(), _log_to_stderr() as handler:
        try:
            if "--distributed" in (sys.argv if argv is None else argv):
                _silence_other_ranks(handler, ours)
            with dropped_interrupts_return():
                args = options.parser(COMMANDS).parse_args(argv)
                result = _function(args.command, ours)(args)
                return _printed(result, vars(args).get("json"))
        except KeyboardInterrupt as stop:
            message, code = _how("interrupted", stop), INTERRUPTED
        except SystemExit as stop:
            if stop.code != TERMINATED:  # --help
                raise
            message, code = _how("terminated", stop), TERMINATED
        except EXPECTED as error:
            notes = getattr(error, "__notes__", [])  # by a training that ended
            message, code = "; ".join([f"error: {_one_line(error)}", *notes]), WRONG
        say(f"fastbp: {message}", sys.stderr)
    return code


def _function(command: options.Command, ours: bool) -> Any:
    """Return the function of a command; what it needs is imported now, not for --help."""
    module, _, name = command.function.partition(".")
    with loading(ours):
        return getattr(import_module(f"{__package__}.{module}"), name)


def _silence_other_ranks(handler: logging.Handler, ours: bool) -> None:
    """Let rank 0 print, and the others only log the error for which they end all ranks."""
    with loading(ours):
        from ..training.ranks import world
    if world().Get_rank():
        handler.setLevel(logging.ERROR)
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")


def _printed(result: options.Result, as_json: bool | None) -> int:
    text = json.dumps(result.facts) if as_json else result.text
    try:
        if text:
            print(text)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `fastbp predict | head`
        drop(sys.stdout)
        return BROKEN_PIPE
    except OSError as error:
        drop(sys.stdout)
        raise OSError(error.errno, f"cannot print the result, {error.strerror}", "stdout") from None
    return 0 if result.ok else FAILED


def _how(word: str, stop: BaseException) -> str:
    saved = getattr(stop, "__notes__", None)  # by a training
    return f"training was {word}; {saved[0]}" if saved else word


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"out of memory: {text}" if isinstance(error, MemoryError) else text


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Show the library's warnings without the place in its code."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if category is UserWarning:
                say(f"fastbp: warning: {_one_line(message)}", sys.stderr)
            else:
                others(message, category, *place, **more)

        warnings.showwarning = show
        yield


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
