"""The learning-rate finder: its suggestions train well, and it leaves everything as it was."""

import copy
import pickle

import numpy as np
import pytest

import fastbp
from cases import crossed
from fastbp import SGD, Adam, Network, find_learning_rate
from fastbp import lr_finder as finder


def network(sizes=(64, 30, 10), **options):
    return Network(sizes, **{
        "loss": "cross-entropy", "input_scale": 1 / 16, "seed": 0, **options,
    })  # fmt: skip


# --- What it suggests -----------------------------------------------------------------------------


@crossed(
    activation=["relu", "sigmoid", "tanh"],
    optimizer=["sgd", "momentum", "adam"],
    batch_size=[1, 10, 100],
)
def test_on_digits_the_suggestion_trains_as_well_as_the_best_rate(
    activation, optimizer, batch_size, digits
):
    """Five epochs at the suggestion, against each of eight rates over five decades."""
    X, y, X_test, y_test = digits
    options = {"epochs": 5, "batch_size": batch_size, "optimizer": optimizer}
    found = find_learning_rate(
        network(activation=activation), X, y, batch_size=batch_size, optimizer=optimizer
    )
    scores = []
    for rate in [found.suggestion, *np.geomspace(3e-4, 3, 8)]:
        net = network(activation=activation)
        net.fit(
            X, y, learning_rate=float(rate), callbacks=[fastbp.callbacks.StopOnDivergence(1e9)],
            **options,
        )  # fmt: skip
        scores.append(net.accuracy(X_test, y_test))
    assert scores[0] > max(scores[1:]) - 0.04, (found.suggestion, scores)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "batch_size", "optimizer", "least"),
    [
        ({"activation": "relu"}, 10, "sgd", 0.95),
        pytest.param({"activation": "relu"}, 128, "adam", 0.95, marks=pytest.mark.long),
        ({"activation": "sigmoid", "loss": "quadratic"}, 10, "sgd", 0.93),
        pytest.param({"activation": "tanh"}, 1, "sgd", 0.93, marks=pytest.mark.long),
    ],
)
def test_on_mnist_the_suggestion_trains_well(options, batch_size, optimizer, least, mnist):
    X, y, X_test, y_test = mnist
    net = network([784, 100, 10], **{**options, "input_scale": 1 / 255})
    found = find_learning_rate(net, X, y, batch_size=batch_size, optimizer=optimizer)
    net.fit(
        X, y, epochs=2, batch_size=batch_size, optimizer=optimizer, learning_rate=found.suggestion
    )
    assert net.accuracy(X_test, y_test) >= least, found.suggestion


def test_larger_inputs_want_smaller_rates(digits):
    X, y, *_ = digits
    found = [
        find_learning_rate(network(input_scale=scale / 16), X, y, batch_size=10).suggestion
        for scale in (1, 100)
    ]
    assert 0 < found[1] < found[0] / 10


def test_regression_too(rng):
    X = rng.standard_normal((500, 8))
    y = np.sin(X @ rng.standard_normal((8, 2)))
    net = Network([8, 40, 2], "tanh", output="identity", seed=0)
    start = net.loss(X, y)
    found = find_learning_rate(net, X, y, batch_size=20)
    net.fit(X, y, epochs=100, batch_size=20, learning_rate=found.suggestion)
    assert net.loss(X, y) < start / 3


@pytest.mark.parametrize("mean", [1, 30, 300])
def test_losses_below_zero_are_no_explosion(mean):
    """Poisson's loss lacks a constant: of counts it is soon negative."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((800, 6))
        y = rng.poisson(mean * np.exp(0.2 * X @ rng.standard_normal(6)))[:, None]
        net = Network([6, 20, 1], "tanh", loss="poisson", seed=seed)
        start = net.loss(X, y)
        found = find_learning_rate(net, X, y, batch_size=20)
        net.fit(X, y, epochs=3, batch_size=20, learning_rate=found.suggestion)
        assert net.loss(X, y) < start, seed


# --- How ------------------------------------------------------------------------------------------


def test_rates_grow_geometrically_and_losses_are_theirs(backend, digits):
    X, y, *_ = digits
    found = find_learning_rate(network(backend=backend), X, y, batch_size=30, start=1e-4, end=1e2)
    assert found.rates[0] == 1e-4
    assert len(found.rates) == len(found.losses) <= 61
    np.testing.assert_allclose(np.diff(np.log10(found.rates)), 0.1, rtol=1e-9)
    assert found.suggestion in found.rates
    assert type(found.suggestion) is float
    assert np.isfinite(found.losses).all()


def test_each_rate_trains_on_the_next_batches_as_fit_would(backend, digits):
    X, y, *_ = digits
    net = network(backend=backend, dtype="float64")
    found = find_learning_rate(net, X, y, batch_size=50, start=0.01, end=1.0)
    twin = copy.deepcopy(net)
    orders = np.concatenate([twin.rng.permutation(len(X)) for _ in range(20)])
    for i, loss in enumerate(found.losses):
        part = orders[i * 700 : (i + 1) * 700]  # 14 batches
        history = twin.fit(
            X[part], y[part], epochs=1, batch_size=50, learning_rate=found.rates[i], shuffle=False
        )
        assert history.loss == [pytest.approx(loss, rel=1e-8)]


@pytest.mark.parametrize("batch_size", [1, 7, 400, 1437, 1442])
def test_any_batch_size_up_to_all_samples(batch_size, digits):
    X, y, *_ = digits
    found = find_learning_rate(network(), X, y, batch_size=batch_size)
    assert 1e-3 < found.suggestion < 30


def test_it_stops_where_the_loss_explodes(digits):
    X, y, *_ = digits
    found = find_learning_rate(network(activation="relu"), X, y, batch_size=10, end=1e6)
    assert len(found.rates) < 121
    assert found.losses[-1] > finder.EXPLODED * found.losses[0]
    assert (found.losses[:-1] <= finder.EXPLODED * found.losses[0]).all()


def test_it_survives_divergence(backend, rng):
    """Each step is larger than the one before by far: from some rate on, nothing is finite."""
    X = rng.standard_normal((200, 4))
    y = X @ rng.standard_normal((4, 1))
    net = Network([4, 1], output="identity", seed=0, backend=backend)
    found = find_learning_rate(net, X, y, batch_size=100, end=1e9)
    assert len(found.rates) < 151
    assert np.isfinite(found.losses).all()
    net.fit(X, y, epochs=100, batch_size=100, learning_rate=found.suggestion)
    assert net.loss(X, y) < 1e-3


@pytest.mark.parametrize(
    ("backend", "optimizer"),
    [("numba", "adam"), ("numba", SGD(momentum=0.9)), ("numba", Adam()), ("numpy", Adam())],
)
def test_all_is_left_as_it_was_and_the_same_call_finds_the_same(backend, optimizer, digits):
    X, y = digits[0][:300], digits[1][:300]
    net = network(backend=backend)
    net.fit(X, y, epochs=1, batch_size=50, learning_rate=1e-3, optimizer=optimizer)

    def state():
        return pickle.dumps((
            net.to_vector(), net.rng.bit_generator.state, X, y,
            None if isinstance(optimizer, str) else optimizer.state(),
        ))  # fmt: skip

    before = state()
    found = [
        find_learning_rate(
            net, X, y, batch_size=50, optimizer=optimizer, threads=threads, start=1e-3, end=1.0
        )
        for threads in (1, 2)
    ]
    assert state() == before
    assert found[0].losses.tobytes() == found[1].losses.tobytes()
    assert found[0].suggestion == found[1].suggestion


# --- Bad input ------------------------------------------------------------------------------------


def test_where_no_rate_helps_it_says_so(digits):
    X, y, *_ = digits
    trained = network()
    trained.fit(X, y, epochs=200, batch_size=10, learning_rate=0.5)
    message = "at no learning rate from .* did the loss fall"
    with pytest.raises(ValueError, match=message):
        find_learning_rate(trained, X, y, batch_size=10)
    with pytest.raises(ValueError, match=message):
        find_learning_rate(network(), X, y, batch_size=10, start=1e-12, end=1e-11)
    with pytest.raises(ValueError, match=message):  # explodes at once
        find_learning_rate(network(activation="relu"), X, y, batch_size=10, start=1e6, end=1e9)
    huge = Network([64, 10], output="identity", seed=0)
    with pytest.raises(ValueError, match=message):  # nothing is finite from the first step on
        find_learning_rate(huge, X * 1e15, y, batch_size=10, start=1e25, end=1e30)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be a positive integer"),
        ({"start": 0}, ValueError, "start must be a positive number"),
        ({"end": "1"}, TypeError, "end must be a positive number"),
        ({"start": 1.0, "end": 5.0}, ValueError, "end must be at least ten times start, 1; got"),
        ({"end": 1e39}, ValueError, "end must be a positive number, finite in float32"),
        ({"optimizer": "sgdd"}, ValueError, "optimizer must be one of"),
        ({"threads": 0}, ValueError, "threads must be a positive integer"),
        ({"X": np.ones((3, 3))}, ValueError, r"X must be \(batch, 64\)"),
        ({"y": [0, 1]}, ValueError, "y must have one entry per sample"),
    ],
)
def test_arguments_that_do_not_fit(change, error, message, digits):
    options = {"X": digits[0], "y": digits[1], "batch_size": 10, **change}
    with pytest.raises(error, match=message):
        find_learning_rate(network(), **options)


def test_a_batch_larger_than_the_set_is_clipped(digits):
    X, y = (part[:50] for part in digits[:2])
    found = find_learning_rate(network(backend="numpy"), X, y, batch_size=50)
    with pytest.warns(UserWarning, match="batch_size is 51, more than the 50 samples"):
        again = find_learning_rate(network(backend="numpy"), X, y, batch_size=51)
    np.testing.assert_array_equal(found.losses, again.losses)
