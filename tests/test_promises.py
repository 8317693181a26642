"""Promises that hold: the same bits in any process, interrupts at any moment, nothing left behind.

FASTBP_RUNS multiplies how often what comes at random comes: 10 for an hour's patience.
"""

import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import fastbp
from fastbp import Network, guards
from fastbp import numba_engine as engines

RUNS = int(os.environ.get("FASTBP_RUNS", "1"))
POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and processes")

# What the programs below begin with. Teams of up to four, whatever the machine has.
PRELUDE = """
import hashlib, json, os, sys
import numpy as np
import fastbp
from fastbp import numba_engine, training

numba_engine.WORK_PER_THREAD = 1
numba_engine.available_cores = lambda: 4
X, y, Xv, yv = fastbp.datasets.load("digits")
X, y = X[:300], y[:300]

def digest(net, history):
    facts = net.to_vector(), history.loss, history.accuracy
    return hashlib.sha256(b"".join(np.asarray(fact).tobytes() for fact in facts)).hexdigest()

def train(seed=0, sizes=(64, 20, 10), dtype="float32", backend="numba", **options):
    net = fastbp.Network(sizes, input_scale=1 / 16, dtype=dtype, backend=backend, seed=seed)
    return digest(net, net.fit(X, y, **{"learning_rate": 0.1, "epochs": 2} | options))
"""


def run(program, *args, folder, **environment):
    """Run a program in a fresh process; return its last line, read as JSON."""
    path = folder / "program.py"
    path.write_text(PRELUDE + program)
    done = subprocess.run(
        [sys.executable, str(path), *args],
        capture_output=True, text=True, timeout=240, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# --- 1: the same bits -----------------------------------------------------------------------------

DETERMINED = """
training.SLICE_SECONDS = float(sys.argv[1])
kinds = {
    "online": {"batch_size": 1},
    "online float64": {"batch_size": 1, "dtype": "float64", "sizes": (64, 20, 30, 10)},
    "batches": {"batch_size": 32},
    "adam": {"batch_size": 10, "optimizer": "adam"},
    "large": {"batch_size": 300, "optimizer": fastbp.SGD(momentum=0.9, l2=1e-4, clip_norm=1.0)},
    "narrow": {"batch_size": 100, "sizes": (64, 5, 10), "dtype": "float64"},
    "reference": {"batch_size": 10, "backend": "numpy"},
}
extras = [
    {}, {"progress": True}, {"callbacks": [fastbp.callbacks.StopOnDivergence()]},
    {"validation_data": (Xv, yv)},
]
found = {}
for name, options in kinds.items():
    found[name] = set()
    for threads in (1, 2, 3, 4):
        for extra in extras:
            rule = options.get("optimizer", "sgd")
            fresh = type(rule)(**vars_of(rule)) if not isinstance(rule, str) else rule
            found[name].add(train(threads=threads, **options | extra | {"optimizer": fresh}))
print(json.dumps({name: sorted(bits) for name, bits in found.items()}))
"""
FRESH = """
import dataclasses

def vars_of(rule):
    return {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}
"""


def test_the_same_bits_in_fresh_processes_for_any_threads_and_onlookers(tmp_path):
    """And for time slices of any length: one step at a time in one process, all in the other."""
    found = [run(FRESH + DETERMINED, slices, folder=tmp_path) for slices in ("0", "1e9")]
    assert found[0] == found[1]
    assert {name: len(bits) for name, bits in found[0].items()} == dict.fromkeys(found[0], 1)


# --- 7: threads and processes ---------------------------------------------------------------------


def digits(n=300):
    X, y, *_ = fastbp.datasets.load("digits")
    return X[:n], y[:n]


def trained(seed, backend="numba", **options):
    net = Network([64, 20, 10], input_scale=1 / 16, backend=backend, seed=seed)
    options = {"epochs": 30, "batch_size": 10, "learning_rate": 0.1} | options
    net.fit(*digits(), **options)
    return net.to_vector().tobytes()


@pytest.mark.parametrize("threads", [1, 2])
def test_networks_trained_at_once_in_threads(threads, backend, monkeypatch):
    monkeypatch.setattr(engines, "WORK_PER_THREAD", 1)
    monkeypatch.setattr(engines, "available_cores", lambda: 4)
    options = {"backend": backend, "threads": threads, "optimizer": "adam", "epochs": 10}
    alone = [trained(seed, **options) for seed in range(4)]
    found, start = [None] * 4, threading.Barrier(4)

    def work(seed):
        start.wait()
        found[seed] = trained(seed, **options)

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


def test_a_shared_network_has_one_trainer_and_any_number_of_readers(backend):
    X, y = digits()
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


IN_PROCESSES = """
import multiprocessing

OPTIONS = {"batch_size": 10, "optimizer": "adam", "epochs": 5, "threads": 3}

numba_engine.CALL_PER_THREAD = 1  # threads take part in predictions, too

def work(seed):
    outputs = fastbp.Network([64, 20, 10], seed=seed).feedforward(X, threads=2)
    return train(seed, **OPTIONS) + hashlib.sha256(outputs.tobytes()).hexdigest()

if __name__ == "__main__":
    how = sys.argv[1]
    if how == "fork after threads":
        here = [work(seed) for seed in range(4)]  # teams of threads have been at work
        how = "fork"
    if how == "one core":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        found = [work(seed) for seed in range(4)]
    elif how == "joblib":
        from joblib import Parallel, delayed
        found = []
        for backend in ("loky", "threading"):
            found += Parallel(n_jobs=2, backend=backend)(delayed(work)(s) for s in range(4))
        assert found[:4] == found[4:], found
        found = found[:4]
    else:
        with multiprocessing.get_context(how).Pool(2) as pool:
            found = pool.map_async(work, range(4), chunksize=1).get(timeout=200)
    print(json.dumps([found, [work(seed) for seed in range(4)]]))
"""


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize(
    "how", ["fork", "fork after threads", "spawn", "forkserver", "joblib", "one core"]
)
def test_children_train_and_predict_to_the_same_bits(how, tmp_path):
    if how == "joblib":
        pytest.importorskip("joblib")
    if how == "one core" and not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not bind processes to cores")
    children, here = run(IN_PROCESSES, how, folder=tmp_path)
    assert children == here
    assert len(set(here)) == 4


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
    from fastbp import training

    found, learn = {}, training.Epochs._learn

    def noted(self, before, *args):
        fine = learn(self, before, *args)
        found.setdefault(hashed(net), len(found))
        return fine

    with monkeypatch.context() as patch:
        patch.setattr(training.Epochs, "_pace", lambda self, seconds: None)
        patch.setattr(training.Epochs, "_learn", noted)
        found[hashed(net)] = 0
        fit()
    return found


def hashed(net):
    return hashlib.md5(net.to_vector().tobytes()).digest()


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_signals_at_any_moment_leave_whole_updates(case, signalled, monkeypatch, tmp_path, rng):
    """70 signals each: the weights are those after some step, and the training goes on to its end.

    Every step of the uninterrupted training is known by its hash.
    """
    monkeypatch.setattr(engines, "WORK_PER_THREAD", 1)
    monkeypatch.setattr(engines, "available_cores", lambda: 2)
    kind, options = CASES[case]
    X, y = digits(320)
    path = tmp_path / "run"
    nets = [None]

    def make():
        nets[0] = Network([64, 100, 40, 10], "relu", input_scale=1 / 16, seed=0, **kind)
        return nets[0]

    def fit(**more):
        return nets[0].fit(
            X, y, epochs=20, batch_size=32, learning_rate=0.01, validation_data=(X[:50], y[:50]),
            **options, **more,
        )  # fmt: skip

    states = states_of(make(), fit, monkeypatch)
    end = hashed(nets[0])
    assert len(states) == 1 + 20 * 10
    make()
    started = time.perf_counter()
    fit(checkpoint=path)
    seconds, interrupted, places = time.perf_counter() - started, 0, set()
    for count in range(70 * RUNS):
        make()
        number = (signal.SIGINT, signal.SIGTERM)[count % 2]
        keep = {"checkpoint": path} if count % 3 else {}
        path.unlink(missing_ok=True)
        found = signalled(number, rng.uniform(0, seconds), lambda: fit(**keep))  # noqa: B023
        state = hashed(nets[0])
        assert state in states, f"{case}, signal {count}: a state between two steps"
        interrupted += found == "interrupted"
        places.add(states[state])
        if found != "interrupted":
            assert state == end
        if path.exists() and count % 3 == 1:
            make()
            fit(resume=path)
            assert hashed(nets[0]) == end
        elif count % 10 == 0:  # usable
            assert len(nets[0].fit(X, y, epochs=1, batch_size=32, learning_rate=0.01)) == 1
            assert 0 <= nets[0].accuracy(X, y) <= 1
    assert interrupted > 20 * RUNS
    assert len(places) > 5


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
def test_an_interrupt_that_python_drops_is_answered_nevertheless(place, signalled, backend):
    """And nothing is said of it: pytest would make an error of what Python says."""
    net, (X, y) = Network([64, 20, 10], backend=backend, seed=0), digits()
    rows, before = Dropping(place, X), sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        net.fit(rows, y, epochs=3, batch_size=10, learning_rate=0.01, callbacks=[rows])
    assert sys.unraisablehook is before
    assert len(net.fit(X, y, epochs=1, batch_size=10, learning_rate=0.01)) == 1


# A process that has loaded all, and forks a child for each signal: a start would take a second.
COMMAND_LINE = """
import random, signal, time
from fastbp import checkpoint, cli

random.seed(0)
signals, folder = int(sys.argv[1]), sys.argv[2]
os.chdir(folder)
parser = cli._parser
ARGV = "train --quiet --hidden 10 --batch-size 100 --seed 3 --output".split()

def begin():
    os.write(write, b"x")  # main is in charge of signals
    return parser()

def command(name, *more):
    return [*ARGV, f"{name}.safetensors", *more]

assert cli.main(command("warm", "--epochs", "2")) == 0
codes, tracebacks, resumed = {}, [], 0
for count in range(signals):
    number, code = ((signal.SIGINT, 130), (signal.SIGTERM, 143))[count % 2]
    kept = count % 4 < 2
    for name in ("run", "model.safetensors"):
        if os.path.exists(name):
            os.unlink(name)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open("stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        cli._parser = begin
        more = ["--checkpoint", "run"] if kept else []
        end = cli.main(command("model", "--epochs", "1000000", *more))
        sys.stderr.flush()
        os._exit(end)
    os.close(write)
    os.read(read, 1)
    os.close(read)
    time.sleep(random.random() ** 2 * 0.3)
    os.kill(child, number)
    found = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = open("stderr").read()
    codes[f"{code} {found}"] = codes.get(f"{code} {found}", 0) + 1
    lines = said.strip().splitlines()
    one_line = len(lines) == 1 and lines[0].startswith("fastbp: ")
    if not one_line or os.path.exists("model.safetensors"):
        tracebacks.append(said)
    if os.path.exists("run"):
        assert kept and "--resume run" in said, said
        done = checkpoint.read("run", checkpoint.TRAINING)[1]["done"]
        if resumed < 8:
            resumed += 1
            epochs = ["--epochs", str(done + 2)]
            assert cli.main(command("whole", *epochs)) == 0
            assert cli.main(command("parts", "--resume", "run", *epochs)) == 0
            whole, parts = (open(f"{n}.safetensors", "rb").read() for n in ("whole", "parts"))
            assert whole == parts, done
    elif kept:
        assert "it had not begun" in said or said == "fastbp: interrupted\\n" or (
            said == "fastbp: terminated\\n"), said
print(json.dumps([codes, tracebacks, resumed]))
"""


@POSIX
@pytest.mark.slow
def test_the_command_line_ends_with_its_code_and_a_checkpoint(tmp_path):
    """No traceback; what was kept goes on to the model of a training that was never stopped."""
    count = 40 * RUNS
    codes, tracebacks, resumed = run(
        COMMAND_LINE, str(count), str(tmp_path), folder=tmp_path, MPLBACKEND="agg"
    )
    assert tracebacks == []
    assert codes == {"130 130": count // 2, "143 143": count // 2}
    assert resumed >= 4


def test_predictions_of_many_rows_go_in_parts_of_the_same_bits(dtype, rng, monkeypatch):
    monkeypatch.setattr(engines, "CALL_PER_THREAD", 1)
    monkeypatch.setattr(engines, "available_cores", lambda: 2)
    net = Network([30, 70, 9], dtype=dtype, seed=0)
    for n in (1, 127, 128, 129, 257, 500, 1023, 1301):
        X = rng.standard_normal((n, 30)) * (rng.random((n, 30)) < 0.3)  # a lone row skips zeros
        whole = net.feedforward(X)
        for threads in (1, 2):
            with monkeypatch.context() as patch:
                patch.setattr(net, "_rows_at_once", 128)
                parts = net.feedforward(X, threads=threads)
            assert parts.tobytes() == whole.tobytes()


def test_the_place_of_what_is_not_finite_is_that_in_all_rows(monkeypatch):
    net, X = Network([30, 9], seed=0), np.zeros((500, 30))
    monkeypatch.setattr(net, "_rows_at_once", 128)
    X[300, 7] = np.nan
    with pytest.raises(ValueError, match=r"found nan at X\[300, 7\]"):
        net.feedforward(X)


@POSIX
@pytest.mark.timing
def test_ctrl_c_is_answered_while_predicting(signalled):
    X = np.zeros((40_000, 784), np.uint8)
    net = Network([784, 1024, 1024, 10], seed=0)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        assert isinstance(signalled(signal.SIGINT, 0.2, lambda: net.predict(X)), str)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.4, seconds


# --- 9: nothing is left behind --------------------------------------------------------------------

LEAKS = """
import ctypes, gc, threading
from numba.core.runtime import rtsys

class Heap(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap

def level():
    gc.collect()
    stats, heap = rtsys.get_allocation_stats(), libc.mallinfo2()
    return {
        # What is in use: what the allocator keeps beside comes and goes by megabytes.
        "memory": heap.uordblks + heap.hblkhd, "objects": sys.getallocatedblocks(),
        "blocks": stats.alloc - stats.free, "infos": stats.mi_alloc - stats.mi_free,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")), "python": threading.active_count(),
    }

kinds = [
    {"optimizer": "sgd", "threads": 2}, {"optimizer": "adam", "threads": 2},
    {"optimizer": "momentum", "validation_data": (Xv, yv), "checkpoint": sys.argv[2]},
    {"backend": "numpy", "callbacks": [fastbp.callbacks.EarlyStopping("loss", 1)]},
    {"learning_rate": 1e30},
]

def work(fits, predictions):
    for count in range(fits):
        try:
            train(batch_size=50, epochs=1, **kinds[count % len(kinds)])
        except fastbp.DivergenceError:
            pass
    net = fastbp.Network([64, 20, 10], input_scale=1 / 16, seed=0)
    for count in range(predictions):
        net.predict(X[count % 300])
    for count in range(predictions // 1000):
        net.predict(X, threads=2)
        net.loss(X, y)
        net.gradient(X, y)

rounds = int(sys.argv[1])
work(200, 20_000)
before = level()
for _ in range(rounds):
    work(1000, 100_000)
print(json.dumps([before, level()]))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.isdir("/proc/self/task") or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="needs Linux's /proc, and the account that glibc 2.33 gives of its heap",
)
def test_a_thousand_fits_and_a_hundred_thousand_predictions_leave_nothing(tmp_path):
    before, after = run(
        LEAKS, str(RUNS), str(tmp_path / "run"), folder=tmp_path, NUMBA_NRT_STATS="1"
    )
    grown = {name: after.pop(name) - before.pop(name) for name in ("memory", "objects")}
    assert grown["memory"] < 2**18, grown  # a network of this program has 7 KB
    assert grown["objects"] < 5000, grown
    assert after == before
