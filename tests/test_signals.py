"""One thread at a time, and signals that end a program, as guards of training."""

import copy
import os
import pickle
import signal
import threading

import pytest

from fastbp._support.signals import TERMINATED, Exclusive, interrupts_wait, termination_raises

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def in_thread(call):
    """Run it in another thread; return what it raised."""
    raised = []

    def run():
        try:
            call()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=30)
    assert not thread.is_alive()
    return raised[0] if raised else None


def enter(alone):
    with alone:
        pass


def test_another_thread_is_refused_at_once_and_the_same_one_is_not():
    alone = Exclusive("this network")
    with alone, alone:
        error = in_thread(lambda: enter(alone))
        assert isinstance(error, RuntimeError)
        assert "this network is being trained by another thread" in str(error)
    assert in_thread(lambda: enter(alone)) is None


def test_copies_are_free():
    alone = Exclusive("this network")
    with alone:
        for twin in (copy.deepcopy(alone), pickle.loads(pickle.dumps(alone))):
            assert in_thread(lambda twin=twin: enter(twin)) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_not_kept_out_by_a_thread_it_does_not_have():
    alone, held, done = Exclusive("this network"), threading.Event(), threading.Event()

    def hold():
        with alone:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = os.fork()
    if child == 0:
        try:
            enter(alone)
            os._exit(0)
        except BaseException:
            os._exit(1)
    done.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


@pytest.fixture
def handlers():
    """Ctrl-C as in a program of its own; both handlers are put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_termination_is_an_exit_meanwhile(handlers):
    with pytest.raises(SystemExit) as caught, termination_raises():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == TERMINATED == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_programs_own_handler_stays(handlers):
    came = []
    signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    with termination_raises():
        signal.raise_signal(signal.SIGTERM)
    assert came == [signal.SIGTERM]


def test_no_handler_is_changed_outside_the_main_thread(handlers):
    def look():
        with termination_raises(), interrupts_wait():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    assert in_thread(look) is None


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_signals_wait_for_the_end(number, error, handlers):
    steps = []

    def work():
        with interrupts_wait():
            signal.raise_signal(number)
            steps.append("whole")
        steps.append("too late")

    with termination_raises():
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(error):
            work()
        assert signal.getsignal(signal.SIGTERM) is before
    assert steps == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_fails_inside_is_raised_and_handlers_are_put_back(handlers):
    with pytest.raises(ZeroDivisionError), interrupts_wait():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
