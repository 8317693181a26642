"""Norms of activations and deltas, as a callback records them."""

import itertools
import math

import numpy as np
import pytest

import fastbp
from fastbp import Norms, losses, reference
from fastbp.model.config import Config
from fastbp.plots import norms as recording

KINDS = {
    "sigmoid": {},
    "relu, softmax": {"activation": "relu", "loss": "cross-entropy"},
    "tanh, no biases": {"activation": "tanh", "bias": False},
    "sigmoid cross-entropy": {"loss": "cross-entropy", "output": "sigmoid"},
    "identity": {"activation": "identity", "output": "tanh"},
    "slopes of z": {"activation": ["silu", "elu"], "loss": "absolute", "output": "softplus"},
    "a setting": {"activation": ["relu", "gelu"], "loss": losses.Huber(0.1), "dropout": 0.5},
    "smoothing": {"activation": "leaky_relu", "loss": losses.CrossEntropy(0.2)},
    "own ones": {
        "activation": [
            fastbp.Activation(lambda z: z / (1.0 + abs(z)), lambda z: 1.0 / (1.0 + abs(z)) ** 2),
            "tanh",
        ],
        "loss": fastbp.Loss(lambda a, y: (a - y) ** 4, lambda a, y: 4.0 * (a - y) ** 3),
    },
}


@pytest.fixture(scope="session")
def probe(digits):
    """Samples and labels, few of them."""
    return digits.X_train[:50], digits.y_train[:50]


def network(sizes=(64, 12, 9, 10), **options):
    return fastbp.Network(sizes, input_scale=1 / 16, seed=3, **options)


def expected(net, X, y):
    """The norms by the reference's back-propagation, in float64."""
    model = Config.checked(**net.config).model()
    weights = [W.astype(float) for W in net.weights]
    biases = [b.astype(float) for b in net.biases] or [np.zeros(len(W)) for W in weights]
    found = reference.backprop(model, weights, biases, X, np.eye(10)[y])
    return [
        [np.sqrt((rows**2).sum(axis=1)).mean() for rows in part]
        for part in (found[0][1:], found[1])
    ]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_norms_are_those_of_the_reference(kind, backend, dtype, probe):
    net, recorder = network(**kind, backend=backend, dtype=dtype), Norms(*probe)
    recorder.on_epoch_end(net, None)
    activations, deltas = expected(net, *probe)
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    np.testing.assert_allclose(recorder.activations, [activations], rtol=tolerance)
    np.testing.assert_allclose(recorder.deltas, [deltas], rtol=tolerance)


def test_the_deltas_make_the_gradient(probe):
    """The mean over the probe of delta times input is what `gradient` returns."""
    net = network(dtype="float64")
    activations, deltas = recording.backprop(net, *probe)
    gradient = net.gradient(*probe)
    inputs = [probe[0] / 16, *activations]
    for l, delta in enumerate(deltas):
        np.testing.assert_allclose(delta.T @ inputs[l] / 50, gradient.weights[l], atol=1e-14)
        np.testing.assert_allclose(delta.mean(axis=0), gradient.biases[l], atol=1e-14)


def test_fit_records_one_entry_an_epoch_and_learns_the_same(probe, digits):
    with_norms, without, recorder = network(), network(), Norms(*probe)
    settings = {"epochs": 3, "batch_size": 10, "learning_rate": 0.5}
    with_norms.fit(*digits[:2], callbacks=[recorder], **settings)
    without.fit(*digits[:2], **settings)
    np.testing.assert_array_equal(with_norms.to_vector(), without.to_vector())
    assert [len(entry) for entry in recorder.deltas] == [3, 3, 3, 3]
    assert len(recorder.activations) == 4
    assert recorder.deltas[1] != recorder.deltas[3]
    before = Norms(*probe)
    before.on_epoch_end(network(), None)
    assert recorder.first_epoch == 0
    assert recorder.deltas[0] == before.deltas[0]
    np.testing.assert_allclose(recorder.deltas[-1], expected(with_norms, *probe)[1], rtol=1e-4)


def test_a_second_fit_goes_on_and_a_resumed_one_keeps_what_was(probe, digits, tmp_path):
    settings = {"batch_size": 10, "learning_rate": 0.5}
    X, y = digits.X_train[:100], digits.y_train[:100]
    net, recorder = network(), Norms(*probe)
    net.fit(X, y, epochs=2, callbacks=[recorder], checkpoint=tmp_path / "c", **settings)
    resumed, again = network(), Norms(*probe)
    resumed.fit(X, y, epochs=3, callbacks=[again], resume=tmp_path / "c", **settings)
    assert again.deltas[:3] == recorder.deltas
    assert (again.first_epoch, len(again.deltas)) == (0, 4)
    net.fit(X, y, epochs=1, callbacks=[recorder], **settings)
    assert len(recorder.deltas) == 4
    old = {name: part for name, part in recorder.state().items() if name != "first_epoch"}
    recorder.set_state(old)
    assert recorder.first_epoch == 1


def test_norms_of_standardised_columns():
    X = np.random.default_rng(0).normal(5, [1, 100], (30, 2))
    raw, scaled = (fastbp.Network([2, 3, 1], output="identity", seed=0, scale=s)
                   for s in (None, (X.mean(axis=0), X.std(axis=0))))  # fmt: skip
    found = []
    for net, rows in ((raw, (X - X.mean(axis=0)) / X.std(axis=0)), (scaled, X)):
        recorder = Norms(rows, np.ones(30))
        recorder.on_epoch_end(net, None)
        found.append(recorder.deltas)
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_vanishing_gradients_are_seen(probe):
    net, recorder = network([64, *[20] * 5, 10]), Norms(*probe)
    recorder.on_epoch_end(net, None)
    (deltas,) = recorder.deltas
    assert all(below < above / 2 for below, above in itertools.pairwise(deltas))


def test_targets_may_be_real_and_outputs_one():
    net, recorder = fastbp.Network([2, 3, 1], seed=0), Norms([[1.0, 2.0]], [0.5])
    recorder.on_epoch_end(net, None)
    assert len(recorder.deltas[0]) == 2


def test_a_network_without_hidden_layers(probe):
    recorder = Norms(*probe)
    recorder.on_epoch_end(network([64, 10]), None)
    assert len(recorder.deltas[0]) == len(recorder.activations[0]) == 1


def test_the_probe_stays_as_it_was(probe):
    samples, labels = (part[:20].copy() for part in probe)
    first, second, net = Norms(samples, labels), Norms(samples, labels), network()
    first.on_epoch_end(net, None)
    samples[:], labels[:] = 0, 0
    second.on_epoch_end(net, None)
    assert first.deltas == second.deltas


def test_a_sparse_probe_is_as_good(probe):
    sparse = pytest.importorskip("scipy.sparse")
    first, second, net = Norms(*probe), Norms(sparse.csr_array(probe[0]), probe[1]), network()
    for recorder in (first, second):
        recorder.on_epoch_end(net, None)
    assert np.allclose(first.deltas, second.deltas, rtol=1e-5, atol=0)


def test_what_overflows_is_not_finite_and_no_error(probe):
    net, recorder = network(activation="identity"), Norms(*probe)
    net.from_vector(np.full(net.to_vector().shape, 1e20))
    recorder.on_epoch_end(net, None)
    assert not math.isfinite(recorder.deltas[0][0])


@pytest.mark.parametrize(
    ("samples", "labels", "error", "part"),
    [
        (np.ones(64), [0], ValueError, r"X must be \(batch, 64\)"),
        (np.ones((0, 64)), [], ValueError, "X must hold at least one sample"),
        (5, [0], ValueError, "X must be"),
        (np.ones((3, 64)), [0], ValueError, "y must have one entry per sample, 3"),
        (np.ones((3, 64)), 0, ValueError, "y must have one entry per sample, 3"),
        ([["a"]], [0], TypeError, "X must hold numbers"),
        (np.ones((1, 64)), ["a"], TypeError, "y must hold numbers"),
    ],
)
def test_a_probe_that_is_none_is_refused_at_once(samples, labels, error, part):
    with pytest.raises(error, match=part):
        Norms(samples, labels)


def test_a_probe_that_does_not_fit_the_network_is_named(probe):
    for other, part in (
        ((np.ones((2, 3)), [0, 1]), r"X must be \(batch, 64\)"),
        ((np.ones((2, 64)), [0, 10]), "y must be labels from 0 to 9"),
        ((np.full((1, 64), np.nan), [0]), "X must be finite"),
    ):
        with pytest.raises(ValueError, match=part):
            Norms(*other).on_epoch_end(network(), None)
    recorder = Norms(*probe)
    recorder.on_epoch_end(network(), None)
    with pytest.raises(ValueError, match="networks of 3 layers; got one of 1"):
        recorder.on_epoch_end(network([64, 10]), None)
    assert len(recorder.deltas) == len(recorder.activations) == 1
