"""Acceptance on real images: what the network learns of them, and how fast."""

import time
from itertools import count

import numpy as np
import pytest

from fastbp import Network, datasets
from fastbp.engines.planning import available_cores
from fastbp.kernels import machine

PIXEL = 1 / 255


@pytest.mark.slow
def test_the_network_of_the_book(mnist):
    """The book's first network and settings; plain NumPy gets 0.951 and 0.953."""
    X_train, y_train, X_test, y_test = mnist
    net = Network([784, 30, 10], init="normal", input_scale=PIXEL, seed=0)
    history = net.fit(
        X_train[:50_000], y_train[:50_000], epochs=30, batch_size=10, learning_rate=3.0
    )
    assert 0.945 <= net.accuracy(X_test, y_test) <= 0.96
    assert history.loss[-1] < history.loss[0] / 3


@pytest.mark.slow
def test_sample_by_sample(mnist):
    X_train, y_train, X_test, y_test = mnist
    net = Network([784, 30, 10], input_scale=PIXEL, seed=0)
    net.fit(X_train[:50_000], y_train[:50_000], epochs=5, batch_size=1, learning_rate=0.3)
    assert net.accuracy(X_test, y_test) >= 0.95


@pytest.mark.slow
def test_both_backends_learn_the_same_of_real_images(mnist, assert_close):
    """One epoch of 10,000 images, in float64, through the zero-skipping path."""
    X, y, X_test, y_test = (part[:10_000] for part in mnist)
    nets = []
    for backend in ("numba", "numpy"):
        net = Network([784, 30, 10], dtype="float64", backend=backend, input_scale=PIXEL, seed=0)
        net.fit(X, y, epochs=1, batch_size=10, learning_rate=3.0)
        nets.append(net)
    assert_close(nets[0].to_vector(), nets[1].to_vector(), "epoch")
    assert nets[0].evaluate(X_test, y_test) == nets[1].evaluate(X_test, y_test) > 8_000


@pytest.mark.slow
def test_fashion_mnist():
    try:
        X_train, y_train, X_test, y_test = datasets.load("fashion-mnist")
    except FileNotFoundError:
        pytest.skip("no Fashion-MNIST here; Debian has it: apt install dataset-fashion-mnist")
    net = Network([784, 30, 10], loss="cross-entropy", input_scale=PIXEL, seed=0)
    net.fit(X_train, y_train, epochs=3, batch_size=10, learning_rate=0.3)
    assert net.accuracy(X_test, y_test) > 0.80


@pytest.mark.timing
def test_kernels_are_twenty_times_the_reference(mnist):
    """The work "online": 784-30-10, sample by sample; in turns, since the machine may be busy."""
    best = {"numpy": 0.0, "numba": 0.0}
    for _ in range(3):
        for backend, n in (("numpy", 2_000), ("numba", 60_000)):
            net = Network([784, 30, 10], backend=backend, input_scale=PIXEL, seed=0)
            history = net.fit(mnist[0][:n], mnist[1][:n], epochs=1, batch_size=1, learning_rate=0.3)
            best[backend] = max(best[backend], history.samples_per_second[0])
    assert best["numba"] >= 20 * best["numpy"], best


@pytest.mark.timing
@pytest.mark.xfail(
    machine.KIND != "zen4",
    reason="no training of a team was seen with the prices of other kinds: by those of Zen 4 "
    "dense 784-30-10 in batches of 100 takes 1.25 times as long on Emerald Rapids, one of 41",
    raises=AssertionError,
    strict=False,
)
@pytest.mark.parametrize("kind", ["digits", "Gaussian"])
@pytest.mark.parametrize("batch_size", [1, 10, 33, 200])
@pytest.mark.parametrize("hidden", [10, 16, 30, 50, 100, 128, 300, 600])
def test_two_threads_are_never_slower(hidden, batch_size, kind, mnist, others, rng):
    """By more than 3 %; in turns until it shows: both may begin on one core."""
    # One network for both: two of one shape were 4 % apart where one thread trained each.
    if available_cores() < 2:
        pytest.skip("there is one core")
    X, y = (part[:2_000] for part in mnist[:2])
    if kind == "Gaussian":
        X = rng.standard_normal(X.shape, np.float32)
    scale = PIXEL if kind == "digits" else 1
    net = Network([784, hidden, 10], input_scale=scale, seed=0)
    best = {1: np.inf, 2: np.inf}
    end = time.perf_counter() + 8
    for turn in count():
        for n in best:
            history = net.fit(
                X, y, epochs=3, batch_size=batch_size, learning_rate=0.01, threads=n, shuffle=False
            )
            best[n] = min(best[n], *history.seconds)
        if turn >= 2 and (best[2] <= 1.03 * best[1] or time.perf_counter() > end):
            break
    if best[2] > 1.03 * best[1] and others.cores() > 0.2:
        pytest.skip("other programs hold the second core")
    assert best[2] <= 1.03 * best[1], best


@pytest.mark.timing
def test_a_second_process_starts_training_at_once(run_program):
    """From import to the first epoch, in processor time: other processes may keep it waiting."""
    kept = {"PYTHONDONTWRITEBYTECODE": ""}  # byte code, as in any installation
    run_program("first_epoch.py", **kept)  # may have to compile
    seconds = [np.inf]
    while min(seconds) >= 0.5 and len(seconds) < 4:
        seconds.append(float(run_program("first_epoch.py", **kept).stdout))
    assert min(seconds) < 0.5, seconds


def test_the_pixels_are_taken_as_they_are(mnist):
    """Bytes and their scale give the floats that everybody else computes by hand."""
    X, y = mnist[0][:100], mnist[1][:100]
    net = Network([784, 30, 10], input_scale=PIXEL, seed=0)
    plain = Network([784, 30, 10], seed=0)
    assert X.dtype == np.uint8
    assert net.loss(X, y) == pytest.approx(plain.loss(X / 255, y), rel=1e-5)
