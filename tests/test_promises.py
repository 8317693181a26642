"""Promises that hold: the same bits in any process, interrupts at any moment, nothing left behind.

What comes at random comes ten times as often with `-m long`.
"""

import ctypes
import hashlib
import json
import os
import signal
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest

import fastbp
from fastbp import Network
from fastbp._support import signals as guards
from fastbp.engines import predictor
from fastbp.training import loop as training

POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and processes")
SIGNALS = 24  # that tests send, or ten times as many


@pytest.fixture(scope="session")
def printed(run_program):
    """printed(name, ...): run a program; return its last line, read as JSON."""
    return lambda *args, **how: json.loads(run_program(*args, **how).stdout.splitlines()[-1])


# --- 1: the same bits -----------------------------------------------------------------------------


def test_the_same_bits_in_fresh_processes_for_any_threads_and_onlookers(printed):
    """And for time slices of any length: one step at a time in one process, all in the other."""
    found = [printed("same_bits.py", slices) for slices in ("0", "1e9")]
    assert found[0] == found[1]
    assert {name: len(bits) for name, bits in found[0].items()} == dict.fromkeys(found[0], 1)


# --- 7: threads and processes ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def few(digits):
    """As many samples as are soon learnt."""
    return digits.X_train[:300], digits.y_train[:300]


@pytest.mark.parametrize(("backend", "threads"), [("numba", 1), ("numba", 2), ("numpy", 1)])
def test_networks_trained_at_once_in_threads(backend, threads, few, all_take_part):
    def trained(seed):
        net = Network([64, 20, 10], input_scale=1 / 16, backend=backend, seed=seed)
        options = {"threads": threads, "optimizer": "adam", "epochs": 5}
        net.fit(*few, batch_size=10, learning_rate=0.1, **options)
        return net.to_vector().tobytes()

    alone = [trained(seed) for seed in range(4)]
    found, start = [None] * 4, threading.Barrier(4)

    def work(seed):
        start.wait()
        found[seed] = trained(seed)

    team = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join(timeout=120)
        assert not thread.is_alive()
    assert found == alone


class Waiting:
    """A callback that holds a training up until it is let go on."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def on_epoch_end(self, net, history):
        self.reached.set()
        assert self.go_on.wait(60)


def test_a_shared_network_has_one_trainer_and_any_number_of_readers(backend, few):
    X, y = few
    options = {"batch_size": 10, "learning_rate": 0.1}
    net, waiting = Network([64, 20, 10], input_scale=1 / 16, backend=backend, seed=0), Waiting()
    twin = Network([64, 20, 10], input_scale=1 / 16, backend=backend, seed=0)
    rule = fastbp.SGD(momentum=0.9)
    first = threading.Thread(
        target=lambda: net.fit(X, y, epochs=2, callbacks=[waiting], optimizer=rule, **options)
    )
    first.start()
    assert waiting.reached.wait(60)
    before = net.to_vector()
    for refused in (
        lambda: net.fit(X, y, epochs=1, **options),
        lambda: net.update_mini_batch(X[:5], y[:5], 0.1),
        lambda: net.from_vector(before),
        lambda: twin.fit(X, y, epochs=1, optimizer=rule, **options),
    ):
        with pytest.raises(RuntimeError, match="is being trained by another thread"):
            refused()
    np.testing.assert_array_equal(net.to_vector(), before)
    assert 0 <= net.accuracy(X, y) <= 1  # read while it is trained
    waiting.go_on.set()
    first.join(timeout=60)
    net.fit(X, y, epochs=1, **options)
    twin.fit(X, y, epochs=2, optimizer=fastbp.SGD(momentum=0.9), **options)
    twin.fit(X, y, epochs=1, **options)
    np.testing.assert_array_equal(net.to_vector(), twin.to_vector())


# What a program finds, by how its children were started; "here" is the process itself.
CHILDREN = {
    "pools": ["fork", "here", "fork after threads", "spawn", "forkserver"],
    "joblib": ["here", "loky", "threading"],
    "one core": ["here", "one core"],
}


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("how", CHILDREN)
def test_children_train_and_predict_to_the_same_bits(how, printed):
    """Forked before any thread was at work, and after; started anew, or bound to one core."""
    if how == "joblib":
        pytest.importorskip("joblib")
    if how == "one core" and not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not bind processes to cores")
    found = printed("in_processes.py", how)
    assert found == dict.fromkeys(found, found["here"])
    assert len(set(found["here"])) == 4
    assert found.keys() >= set(CHILDREN[how])


# --- 8: interrupts --------------------------------------------------------------------------------

CASES = {
    "one thread": ({}, {"optimizer": "sgd", "threads": 1}),
    "a team": ({}, {"optimizer": "momentum", "threads": 2}),
    "the reference": ({"backend": "numpy"}, {"optimizer": "adam"}),
}


@pytest.fixture
def signalled():
    """signalled(number, delay, call): its outcome, or "interrupted"."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread is interrupted")

    def end(number, frame):
        raise SystemExit(guards.TERMINATED)

    mine = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: end}
    before = {number: signal.signal(number, handler) for number, handler in mine.items()}

    def send(number, delay, call):
        timer = threading.Timer(delay, os.kill, (os.getpid(), number))
        try:
            timer.start()
            found = call()
            timer.join()
            time.sleep(0.001)  # it may have come late
        except (KeyboardInterrupt, SystemExit):
            timer.join()
            return "interrupted"
        return found

    yield send
    for number, handler in before.items():
        signal.signal(number, handler)


def states_of(net, fit, monkeypatch):
    """Return the hashes of the weights after each step of a training, those from before first."""
    found, learn = {}, training.Slices._learn

    def noted(self, before, *args):
        fine = learn(self, before, *args)
        found.setdefault(hashed(net), len(found))
        return fine

    with monkeypatch.context() as patch:
        patch.setattr(training.Slices, "_pace", lambda self, seconds: None)
        patch.setattr(training.Slices, "_learn", noted)
        found[hashed(net)] = 0
        fit(net)
    return found


def hashed(net):
    return hashlib.md5(net.to_vector().tobytes()).digest()


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_signals_at_any_moment_leave_whole_updates(
    case, times, digits, signalled, all_take_part, monkeypatch, tmp_path, rng
):
    """The weights are those after some step, and the training goes on to its end.

    Every step of the uninterrupted training is known by its hash.
    """
    kind, options = CASES[case]
    X, y, path = digits.X_train[:320], digits.y_train[:320], tmp_path / "run"
    common = {"batch_size": 32, "learning_rate": 0.01}

    def make():
        return Network([64, 100, 40, 10], "relu", input_scale=1 / 16, seed=0, **kind)

    def fit(net, **more):
        held_out = X[:50], y[:50]
        net.fit(X, y, epochs=20, validation_data=held_out, **common, **options, **more)

    states = states_of(make(), fit, monkeypatch)
    end = list(states)[-1]
    assert len(states) == 1 + 20 * 10
    started = time.perf_counter()
    fit(make(), checkpoint=path)
    latest, interrupted, places = time.perf_counter() - started, 0, set()
    for count in range(3 * SIGNALS * times):
        net, number = make(), (signal.SIGINT, signal.SIGTERM)[count % 2]
        path.unlink(missing_ok=True)
        delay, keep = rng.uniform(0, latest), {"checkpoint": path} if count % 3 else {}
        came = signalled(number, delay, partial(fit, net, **keep))
        state = hashed(net)
        assert state in states, f"{case}, signal {count}: a state between two steps"
        places.add(states[state])
        if came == "interrupted":
            interrupted += 1
        else:
            assert state == end
            latest = delay  # a training takes less than that
        if path.exists() and count % 3 == 1:
            again = make()
            fit(again, resume=path)
            assert hashed(again) == end
        elif count % 10 == 0:  # usable
            assert len(net.fit(X, y, epochs=1, **common)) == 1
            assert 0 <= net.accuracy(X, y) <= 1
        if interrupted == SIGNALS * times:
            break
    assert interrupted == SIGNALS * times, "signals were lost"
    assert len(places) > 2, "all signals came at the same moment"


class Unheard:
    """Interrupts itself where Python ignores what is raised."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


class Dropping:
    """Rows, and a callback, that do so before the training, while it runs, or after it."""

    def __init__(self, place, X):
        self.place, self.X = place, X

    def __array__(self, dtype=None, copy=None):
        self.at("before")
        return self.X

    def on_epoch_end(self, net, history):
        assert len(history) == 1 or self.place == "after", "it was not heard"
        self.at("while it runs")

    def on_fit_end(self, net, history):
        self.at("after")

    def at(self, place):
        if place == self.place:
            Unheard()


@POSIX
@pytest.mark.parametrize("place", ["before", "while it runs", "after"])
def test_an_interrupt_that_python_drops_is_answered_nevertheless(place, signalled, backend, few):
    """And nothing is said of it: pytest would make an error of what Python says."""
    net, (X, y) = Network([64, 20, 10], backend=backend, seed=0), few
    rows, before = Dropping(place, X), sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        net.fit(rows, y, epochs=3, batch_size=10, learning_rate=0.01, callbacks=[rows])
    assert sys.unraisablehook is before
    assert len(net.fit(X, y, epochs=1, batch_size=10, learning_rate=0.01)) == 1


@POSIX
@pytest.mark.slow
def test_the_command_line_ends_with_its_code_and_a_checkpoint(times, printed, tmp_path):
    """No traceback; what was kept goes on to the model of a training that was never stopped."""
    count, how = SIGNALS * times, {"timeout": 240 * times, "MPLBACKEND": "agg"}
    codes, wrong, goes_on = printed("interrupted_commands.py", count, tmp_path, **how)
    assert wrong == []
    assert codes == {"130 130": count // 2, "143 143": count // 2}
    assert goes_on == [True] * (count // 4)


def test_predictions_of_many_rows_go_in_parts_of_the_same_bits(
    dtype, rng, monkeypatch, all_take_part
):
    net = Network([30, 70, 9], dtype=dtype, seed=0)
    for n in (1, 127, 128, 129, 257, 500, 1023, 1301):
        X = rng.standard_normal((n, 30)) * (rng.random((n, 30)) < 0.3)  # a lone row skips zeros
        whole = net.feedforward(X)
        for threads in (1, 2):
            with monkeypatch.context() as patch:
                patch.setattr(predictor, "WORK", 1)  # 128 rows at once
                parts = net.feedforward(X, threads=threads)
            assert parts.tobytes() == whole.tobytes()


def test_the_place_of_what_is_not_finite_is_that_in_all_rows(monkeypatch):
    net, X = Network([30, 9], seed=0), np.zeros((500, 30))
    monkeypatch.setattr(predictor, "WORK", 1)  # 128 rows at once
    X[300, 7] = np.nan
    with pytest.raises(ValueError, match=r"got nan at X\[300, 7\]"):
        net.feedforward(X)


@POSIX
@pytest.mark.timing
def test_ctrl_c_is_answered_while_predicting(signalled):
    X = np.zeros((40_000, 784), np.uint8)
    net = Network([784, 1024, 1024, 10], seed=0)
    seconds = [np.inf]
    while min(seconds) > 0.4 and len(seconds) < 4:
        started = time.perf_counter()
        assert isinstance(signalled(signal.SIGINT, 0.2, lambda: net.predict(X)), str)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.4, seconds


# --- 9: nothing is left behind --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.isdir("/proc/self/task") or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="needs Linux's /proc, and the account that glibc 2.33 gives of its heap",
)
def test_a_thousand_fits_and_a_hundred_thousand_predictions_leave_nothing(times, printed, tmp_path):
    how = {"timeout": 240 * times, "NUMBA_NRT_STATS": "1"}
    before, after = printed("leaks.py", times, tmp_path / "run", **how)
    grown = {name: after.pop(name) - before.pop(name) for name in ("memory", "objects")}
    assert grown["memory"] < 2**18, grown  # a network of this program has 7 KB
    assert grown["objects"] < 5000, grown
    assert after == before
