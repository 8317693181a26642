"""Guards against what comes from outside a call: other threads, and signals that end a program."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

TERMINATED = 128 + signal.SIGTERM  # the exit code that shells give it


class Exclusive:
    """Lets one thread in at a time, as often as it likes; any other gets an error at once.

    Parameters
    ----------
    what : str
        What the error says is being trained.

    Raises
    ------
    RuntimeError
        On entering, if another thread is inside.

    Examples
    --------
    >>> alone = Exclusive("this network")
    >>> with alone, alone:
    ...     print("trained")
    trained
    """

    def __init__(self, what: str) -> None:
        self.what, self._lock, self._process = what, threading.RLock(), os.getpid()

    def __reduce__(self) -> tuple[type["Exclusive"], tuple[str]]:
        return Exclusive, (self.what,)

    def __enter__(self) -> None:
        if self._process != os.getpid():  # forked: the thread that held it is not in this process
            self._lock, self._process = threading.RLock(), os.getpid()
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"{self.what} is being trained by another thread: wait for its end, or train a "
                "copy (copy.deepcopy)"
            )

    def __exit__(self, *exception: Any) -> None:
        self._lock.release()


@contextmanager
def termination_raises() -> Iterator[None]:
    """Make SIGTERM raise `SystemExit` meanwhile, as Ctrl-C raises `KeyboardInterrupt`.

    Only in the main thread, where signals arrive, and where the program has no handler of its own.
    """
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: Any) -> None:
        raise SystemExit(TERMINATED)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def interrupts_wait() -> Iterator[list[int]]:
    """Hold Ctrl-C and SIGTERM back while inside, and let them raise what they raise at the end.

    Yields the list of those that came; what is taken from it does not raise.
    """
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        came.append(number)

    if threading.current_thread() is not threading.main_thread():  # they do not arrive here
        yield came
        return
    with _handled_by(note, signal.SIGTERM) as terminate, _handled_by(note, signal.SIGINT) as stop:
        yield came
    for number in came[:1]:
        (stop if number == signal.SIGINT else terminate)(number, None)


_noted: list[tuple[Any, int]] = []  # interrupts inside the block below, and their handlers


@contextmanager
def dropped_interrupts_return() -> Iterator[Callable[[], None]]:
    """Raise an interrupt that came inside and was dropped: at the end, or by what is yielded.

    Python ignores what is raised in a destructor or a callback of a weak reference, so that about
    one Ctrl-C in some hundred would be lost, and one in three while it collects what compiling has
    left. What Python says of that on stderr is held back: the interrupt is answered. Such blocks
    may lie in each other, and decorate a function.
    """
    if threading.current_thread() is not threading.main_thread():
        yield _raise_again
        return
    terminate, stop = (_noting(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGINT))
    with _handled_by(terminate, signal.SIGTERM), _handled_by(stop, signal.SIGINT):
        report = sys.unraisablehook
        sys.unraisablehook = partial(_report_others, report)
        try:
            yield _raise_again
        except BaseException:
            _noted.clear()  # answered
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
    if threading.current_thread() is threading.main_thread():
        while _noted:
            handler, number = _noted.pop()
            handler(number, None)


def _report_others(report: Callable[[Any], object], unraisable: Any) -> None:
    """Report what Python ignores, but for interrupts that will be raised again."""
    if not _noted or not issubclass(unraisable.exc_type, (KeyboardInterrupt, SystemExit)):
        report(unraisable)


@contextmanager
def _handled_by(handler: Callable[[int, Any], None], number: int) -> Iterator[Any]:
    """Handle a signal in another way, if the program handles it; yield what it is handled by."""
    before = signal.getsignal(number)
    if not callable(before):  # it ends the program at once, or is ignored
        yield before
        return
    try:
        signal.signal(number, handler)
        yield before
    finally:
        signal.signal(number, before)
