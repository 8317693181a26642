"""Signals that end a program, held back and never lost; and a lock that does not wait."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

TERMINATED = 128 + signal.SIGTERM  # the exit code that shells report for it


def _in_main_thread() -> bool:  # where alone signals arrive
    return threading.current_thread() is threading.main_thread()


def termination_raises() -> AbstractContextManager[Any]:
    """Make SIGTERM raise `SystemExit` inside the block, as Ctrl-C raises `KeyboardInterrupt`."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(TERMINATED)

    # A program may have a handler of its own.
    return _handled_by(end, signal.SIGTERM, lambda before: before is signal.SIG_DFL)


@contextmanager
def interrupts_wait(came: list[int] | None = None) -> Iterator[list[int]]:
    """Hold Ctrl-C and SIGTERM back inside the block; call their handlers at its end."""
    # Of the signals that arrived, what is removed from the list is not handled.
    came = [] if came is None else came

    def note(number: int, frame: Any) -> None:
        came.append(number)

    with _handled_by(note, signal.SIGTERM) as terminate, _handled_by(note, signal.SIGINT) as stop:
        yield came
    for number in came[:1]:
        (stop if number == signal.SIGINT else terminate)(number, None)


class Interrupts:
    """What a guarded training knows of Ctrl-C and SIGTERM."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look = look  # raises an interrupt that came and was dropped
        self.waiting: list[int] = []  # signals that came while they were held

    def held(self, wanted: bool) -> AbstractContextManager[Any]:
        """Hold interrupts back inside, if wanted: what takes them from the list answers."""
        return interrupts_wait(self.waiting) if wanted else nullcontext()


@contextmanager
def guarded(terminable: bool) -> Iterator[Interrupts]:
    """Let no interrupt of a training be lost, and, if `terminable`, let SIGTERM raise as well."""
    with termination_raises() if terminable else nullcontext(), dropped_interrupts_return() as look:
        yield Interrupts(look)


_noted: list[tuple[Any, int]] = []  # handlers and numbers of signals inside the block below


@contextmanager
def dropped_interrupts_return() -> Iterator[Callable[[], None]]:
    """Raise an interrupt that Python dropped: at the end, or when the yielded function runs."""
    # Python ignores exceptions in destructors and in callbacks of weak references. Without this,
    # about one Ctrl-C in a hundred is lost, and one in three while Python collects what compilation
    # has left. Its message on stderr about the ignored interrupt is suppressed.
    if not _in_main_thread():
        yield _raise_again
        return
    report = sys.unraisablehook

    def report_others(unraisable: Any) -> None:
        if not _noted or not issubclass(unraisable.exc_type, (KeyboardInterrupt, SystemExit)):
            report(unraisable)

    terminate, stop = (_noting(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGINT))
    with _handled_by(terminate, signal.SIGTERM), _handled_by(stop, signal.SIGINT):
        sys.unraisablehook = report_others
        try:
            yield _raise_again
        except BaseException:
            _noted.clear()  # the interrupt has arrived
            raise
        finally:
            sys.unraisablehook = report
    _raise_again()


def _noting(handler: Any) -> Callable[[int, Any], None]:
    def note(number: int, frame: Any) -> None:
        _noted.append((handler, number))
        handler(number, frame)

    return note


def _raise_again() -> None:
    while _noted and _in_main_thread():
        handler, number = _noted.pop()
        handler(number, None)


@contextmanager
def _handled_by(
    handler: Callable[[int, Any], None], number: int, wanted: Callable[[Any], bool] = callable
) -> Iterator[Any]:
    """Replace the handler of a signal, if it is a wanted one; yield the handler before."""
    before = signal.getsignal(number)
    if not (_in_main_thread() and wanted(before)):
        yield before
        return
    try:
        signal.signal(number, handler)
        yield before
    finally:
        signal.signal(number, before)


class Exclusive:
    """Admits one thread at a time, which may enter again; `what` names the object in the error."""

    def __init__(self, what: str) -> None:
        self.what, self._lock, self._process = what, threading.RLock(), os.getpid()

    def __reduce__(self) -> tuple[type["Exclusive"], tuple[str]]:
        return Exclusive, (self.what,)

    def __enter__(self) -> None:
        if self._process != os.getpid():  # forked: the thread that held the lock is not here
            self._lock, self._process = threading.RLock(), os.getpid()
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"{self.what} is being trained by another thread: wait for its end, or train a "
                "copy (copy.deepcopy)"
            )

    def __exit__(self, *exception: Any) -> None:
        self._lock.release()
