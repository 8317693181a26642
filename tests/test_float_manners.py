"""Floating-point manners: nobody finds the processor or NumPy in another state after us.

That is, for each thread: whether subnormal numbers are flushed to zero, the rounding mode, what
traps, and NumPy's errstate.
"""

import importlib
import platform
import sys
import threading

import numpy as np
import pytest

from fastbp import Network, layers, load, verify
from fastbp.engines import get_backend
from fastbp.engines.numba_engine import NumbaEngine
from fastbp.engines.numba_trainer import NumbaTrainer
from fastbp.kernels import machine

X86 = platform.machine() == "x86_64" and sys.platform != "win32"
unit = importlib.import_module("programs.mxcsr") if X86 else None
needs_x86 = pytest.mark.skipif(not X86, reason="the register that is read here is x86-64's")
FLUSHING = X86 and unit.DEFAULT | unit.FLUSH_TO_ZERO | unit.DENORMALS_ARE_ZERO
UPWARDS = X86 and unit.DEFAULT | unit.UPWARDS
STATES = {"usual": X86 and unit.DEFAULT, "flushing": FLUSHING, "rounding upwards": UPWARDS}


@pytest.fixture(params=STATES)
def state(request):
    """A state that the caller is in."""
    unit.set_state(STATES[request.param])
    yield STATES[request.param]
    unit.set_state(unit.DEFAULT)


def _fit(net, X, y, threads=3, **options):
    how = {"epochs": 2, "batch_size": 16, "learning_rate": 0.1, "threads": threads} | options
    net.fit(X, y, **how)


def _files(net, X, y, folder):
    net.save(folder / "net.safetensors")
    load(folder / "net.safetensors")


ENTRANCES = {
    "construct": lambda net, X, y, folder: Network([4, 3, 2], seed=0),
    "fit": lambda net, X, y, folder: _fit(net, X, y),
    "fit alone": lambda net, X, y, folder: _fit(net, X, y, threads=1),
    "fit sample by sample": lambda net, X, y, folder: _fit(net, X, y, batch_size=1),
    "fit with Adam": lambda net, X, y, folder: _fit(net, X, y, optimizer="adam"),
    "fit sparse": lambda net, X, y, folder: _fit(net, X * (X > 0.9), y),
    "validate": lambda net, X, y, folder: _fit(net, X, y, validation_data=(X, y)),
    "weighted": lambda net, X, y, folder: _fit(net, X, y, sample_weight=np.ones(len(X))),
    "update_mini_batch": lambda net, X, y, folder: net.update_mini_batch(X, y, 0.1),
    "gradient": lambda net, X, y, folder: net.gradient(X, y),
    "feedforward": lambda net, X, y, folder: net.feedforward(X, threads=3),
    "feedforward of others": lambda net, X, y, folder: net.feedforward(X * np.longdouble(1e-3)),
    "weighted gradient": lambda net, X, y, folder: net.gradient(X, y, np.geomspace(1e-300, 1, 64)),
    "tiny targets": lambda net, X, y, folder: net.gradient(X, np.full((64, 3), 1e-300)),
    "from_vector": lambda net, X, y, folder: net.from_vector(np.full(147, 1e-300)),
    "evaluate": lambda net, X, y, folder: (net.evaluate(X, y), net.loss(X, y)),
    "files": _files,
}


@pytest.fixture
def tiny_data(rng):
    """Samples and labels; subnormal numbers among the inputs."""
    X = rng.random((64, 12)).astype(np.float32)
    X[::3] *= 1e-39
    return X, rng.integers(0, 3, 64)


def tiny_net(backend="numba"):
    net = Network([12, 9, 3], "relu", loss="cross-entropy", backend=backend, seed=0)
    net.params[::2] *= 1e-39  # so that products of subnormal numbers are taken
    return net


@needs_x86
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_call_leaves_the_unit_as_it_was(
    entrance, state, backend, tiny_data, tmp_path, all_take_part
):
    net = tiny_net(backend)
    assert unit.state() == state
    ENTRANCES[entrance](net, *tiny_data, tmp_path)
    assert unit.state() == state


@needs_x86
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("path", ["dense", "sparse", "narrow"])
@pytest.mark.parametrize("threads", [1, 3])
def test_workers_leave_their_unit_as_it_was(
    threads, path, optimizer, state, tiny_data, all_take_part, monkeypatch
):
    """Each thread of a team, before and after each stretch."""
    seen, run = [], NumbaTrainer._run_thread

    def look(*args):
        before = unit.state()
        run(*args)
        seen.append((threading.get_ident(), before, unit.state()))

    monkeypatch.setattr(NumbaTrainer, "_run_thread", look)
    monkeypatch.setattr(NumbaEngine, "choose_path", lambda *_: path)
    monkeypatch.setattr(machine, "NARROW_VECTORS", 1)
    _fit(tiny_net(), *tiny_data, batch_size=60, threads=threads, optimizer=optimizer)
    assert all(before == after for _, before, after in seen)
    assert len({thread for thread, *_ in seen}) == threads


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("wish", ["ignore", "warn", "raise"])
def test_a_call_leaves_numpy_s_errstate_as_it_was(entrance, wish, backend, tiny_data, tmp_path):
    """Nor does it reach in: warnings are errors here."""
    outcomes = []
    for state in (wish, "ignore"):
        net = tiny_net(backend)
        with np.errstate(all=state):
            before = np.geterr()
            ENTRANCES[entrance](net, *tiny_data, tmp_path)
            assert np.geterr() == before
        outcomes.append(net.to_vector().tobytes())
    assert outcomes[0] == outcomes[1]


def test_callbacks_have_the_errstate_of_their_caller(backend, tiny_data):
    seen = []

    class Look:
        def on_epoch_end(self, net, history):
            seen.append(np.geterr())

    net = tiny_net(backend)
    with np.errstate(all="raise"):
        _fit(net, *tiny_data, callbacks=[Look()])
        assert seen == [np.geterr()] * 2


def test_verify_heeds_no_errstate():
    with np.errstate(all="raise"):
        report = verify(quick=True)
    assert report.ok, report


NODES = {
    "Mul": lambda backend: layers.Mul(),
    "Sigmoid": layers.Sigmoid,
    "Tanh": layers.Tanh,
    "Affine": lambda backend: layers.Affine(
        np.full((12, 3), 1e-30, np.float32), np.zeros(3, np.float32), backend
    ),
}


@pytest.mark.parametrize("node", NODES)
def test_layers_heed_no_errstate(node, backend, tiny_data):
    X = tiny_data[0]
    outcomes = []
    for state in ("raise", "ignore"):
        with np.errstate(all=state):
            made = NODES[node](backend)
            out = made.forward(X, X) if node == "Mul" else made.forward(X)
            back = made.backward(np.full(np.shape(out), 1e-300))
        outcomes.append([np.asarray(out).tobytes(), np.asarray(back).tobytes()])
    assert outcomes[0] == outcomes[1]


@needs_x86
def test_importing_leaves_all_as_it_was(run_program):
    """Every module, in a process that has had nothing to do with them."""
    assert int(run_program("import_all_modules.py").stdout.split()[0]) > 40


@needs_x86
def test_the_unit_is_read_and_set():
    """Else all of the above would pass for nothing."""
    tiny = np.float64(5e-324)
    try:
        unit.set_state(FLUSHING)
        assert unit.state() == FLUSHING
        flushed = np.multiply(tiny, np.ones(1))[0]
    finally:
        unit.set_state(unit.DEFAULT)
    assert (flushed, np.multiply(tiny, np.ones(1))[0]) == (0, tiny)


@pytest.mark.parametrize("threads", [1, 3])
def test_subnormal_numbers_are_numbers(threads, backend, dtype, all_take_part):
    """Forward and back, in any thread: kernels flush nothing themselves."""
    tiny = np.finfo(dtype).smallest_subnormal
    net = Network([5, 1], output="identity", bias=False, dtype=dtype, backend=backend, seed=0)
    net.weights[0][...] = [[1, 2, 4, 8, 16]]
    X = np.full((64, 5), 3 * tiny, dtype)
    assert (net.feedforward(X, threads=threads) == 93 * tiny).all()
    y = net.feedforward(X) - 1  # every error is 1
    gradient = net.gradient(X, y).weights[0]
    assert gradient.min() > 0
    for batch in (1, 16, 64):
        net.from_vector(np.zeros(5))
        net.fit(X, np.full((64, 1), -1.0), epochs=1, batch_size=batch, learning_rate=1.0,
                threads=threads)  # fmt: skip
        assert (net.to_vector() < 0).all()


@pytest.mark.parametrize("name", ["identity", "relu", "tanh", "sigmoid_prime_from_a"])
def test_activations_of_subnormal_numbers(name, dtype):
    tiny = np.finfo(dtype).smallest_subnormal * np.arange(1, 100, dtype=dtype)
    found = getattr(get_backend("numba"), name)(tiny)
    expected = getattr(get_backend("numpy"), name)(tiny)
    assert np.array_equal(found, expected)
    assert (found > 0).all()
