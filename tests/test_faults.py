"""Divergence: whatever overflows stops training, names its layer, and is undone."""

import re

import numpy as np
import pytest

import fastbp
from cases import crossed
from fastbp import DivergenceError, Network

RULES = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "adam": {},
    "clipped": {"clip_norm": 1.0},
    "l2": {"l2": 1e-3},
}
N, BAD = 24, 17  # the sample that overflows


def rule(name):
    return (fastbp.Adam if name == "adam" else fastbp.SGD)(**RULES[name])


def network(backend):
    """Three layers, without biases: samples of zeros teach nothing, whatever the weights."""
    return Network([3, 5, 4, 2], "relu", "identity", bias=False, backend=backend, seed=0)


def blow_up(kind, net):
    """Return samples and targets; one sample makes float32 overflow, as `WHERE` says."""
    X, y = np.zeros((N, 3)), np.zeros((N, 2))
    X[BAD] = 1e30
    if kind == "activations of layer 2":
        net.weights[0][...], net.weights[1][...] = 0.1, 1e15
    elif kind == "activations of layer 1":
        net.weights[0][0] = 1e13
    elif kind == "NaN in layer 1":
        net.weights[0][0] = 1e13, -1e13, 0
    elif kind == "gradients":  # the products of activations and deltas
        for W in net.weights:
            W[...] = 1e-3
        y[BAD] = 1e25
    return X, y, 1e-3


WHERE = {
    "activations of layer 1": ("activations were", 1),
    "activations of layer 2": ("activations were", 2),
    "NaN in layer 1": ("activations were", 1),
    "gradients": (None, 3),
}


@crossed(kind=list(WHERE), name=list(RULES), batch_size=[1, 5, N], backend=["numba", "numpy"])
def test_what_overflows_is_named_and_undone(kind, name, batch_size, backend, all_take_part):
    """For every optimiser; threads and chunks of a batch included."""
    net, twin = network(backend), network(backend)
    X, y, rate = blow_up(kind, net)
    twin.from_vector(net.to_vector())
    optimizer, sound = rule(name), BAD // batch_size * batch_size
    options = {"batch_size": batch_size, "learning_rate": rate, "shuffle": False}
    if sound:
        twin.fit(X[:sound], y[:sound], epochs=1, optimizer=rule(name), **options)
    with pytest.raises(DivergenceError) as caught:
        net.fit(X, y, epochs=2, optimizer=optimizer, threads=2, **options)
    step = sound // batch_size + 1
    found = re.match(
        rf"(.* were|the .* was) no longer finite in epoch 1, step {step}, layer (\d) of 3, "
        rf"at learning rate {rate:g}; the network keeps",
        str(caught.value),
    )
    assert found, str(caught.value)
    what, layer = WHERE[kind]
    assert int(found[2]) == layer, str(caught.value)
    assert what in (found[1], None)
    np.testing.assert_array_equal(net.to_vector(), twin.to_vector())
    if name != "sgd":  # which remembers nothing
        assert optimizer.steps == step - 1


def test_an_overflow_that_would_only_stop_adam_is_divergence(backend):
    """A gradient of 1e25 has no square in float32; its weight would never move again."""
    net = Network([1, 1], output="identity", backend=backend, seed=0)
    before = net.to_vector()
    with pytest.raises(DivergenceError, match=r"gradients were .* layer 1 of 1"):
        net.fit([[1.0]], [[1e25]], epochs=1, batch_size=1, learning_rate=0.1, optimizer="adam")
    np.testing.assert_array_equal(net.to_vector(), before)


@pytest.mark.parametrize("norm", [1.0, 1e10])
def test_a_gradient_without_a_square_in_float32_is_clipped(norm, backend):
    """Its norm was infinite, and the step zero: training stood still without a word."""
    net = Network([1, 1], output="identity", backend=backend, seed=0)
    before, rule = net.to_vector(), fastbp.SGD(clip_norm=norm)
    net.fit([[1.0]], [[1e25]], epochs=1, batch_size=1, learning_rate=0.1, optimizer=rule)
    np.testing.assert_allclose(net.to_vector() - before, 0.1 * norm / np.sqrt(2), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_penalty_that_overflows_is_divergence(dtype, backend):
    """In float64, in which penalties are: those of weights of float32 have a sum in any case."""
    net = Network([1, 2, 1], "relu", "identity", backend=backend, dtype=dtype, seed=0)
    net.weights[0][...] = -1e25 if dtype == "float32" else -1e200
    before, rule = net.to_vector(), fastbp.SGD(l2=1e-3)
    options = {"epochs": 1, "batch_size": 1, "learning_rate": 1e-9, "optimizer": rule}
    if dtype == "float32":
        history = net.fit([[1.0]], [[0.0]], **options)
        assert history.penalty == pytest.approx([1e-3 * 1e50], rel=1e-5)
    else:
        with pytest.raises(DivergenceError, match=r"the penalty was .* layer 1 of 2"):
            net.fit([[1.0]], [[0.0]], **options)
        np.testing.assert_array_equal(net.to_vector(), before)


def test_a_step_in_chunks_leaves_no_totals(backend):
    """A batch beyond the scratch, of which the last chunk is bad."""
    net = Network([3, 300, 2], "relu", "identity", backend=backend, seed=0)
    X, y = np.ones((3000, 3)), np.zeros((3000, 2))
    X[-1] = 1e38
    before = net.to_vector()
    with pytest.raises(DivergenceError, match="step 1, layer"):
        net.update_mini_batch(X, y, 0.1)
    np.testing.assert_array_equal(net.to_vector(), before)
    rule = fastbp.SGD(momentum=0.5)
    with pytest.raises(DivergenceError):
        net.fit(X, y, epochs=1, batch_size=3000, learning_rate=0.1, optimizer=rule)
    assert rule.steps == 0
    assert not rule.state()["slots"].any()
