"""scripts/classics/book_network.py: the four equations, the network on MNIST, saturation."""

import numpy as np
import pytest

from fastbp import reference

PROGRAM, STEP = "book_network", 1e-5


@pytest.fixture
def net(rng):
    """Weights and biases of [5, 4, 3], four samples and their targets."""
    weights = [rng.standard_normal((4, 5)), rng.standard_normal((3, 4))]
    biases = [rng.standard_normal(4), rng.standard_normal(3)]
    return weights, biases, rng.random((4, 5)), rng.random((4, 3))


def sigma(z):
    return 1 / (1 + np.exp(-z))


def cost(z, y):
    """Sum over the samples of C, written anew, from the output's weighted input."""
    return ((sigma(z) - y) ** 2).sum() / 2


def slope(function, array):
    """dfunction/darray by central differences."""
    out = np.empty_like(array)
    for place in np.ndindex(array.shape):
        moved = array.copy()
        moved[place] += STEP
        above = function(moved)
        moved[place] -= 2 * STEP
        out[place] = (above - function(moved)) / (2 * STEP)
    return out


def assert_slope(found, numerical):
    assert np.abs(found - numerical).max() < 1e-7 * np.abs(numerical).max()


@pytest.fixture
def passed(net):
    """Layer by layer: z1, a1, z2 and the output's delta."""
    (W1, W2), (b1, b2), X, y = net
    z1 = X @ W1.T + b1
    z2 = sigma(z1) @ W2.T + b2
    return z1, sigma(z1), z2, (sigma(z2) - y) * sigma(z2) * (1 - sigma(z2))


def test_bp1_is_the_error_of_the_output(net, passed):
    y, z2 = net[3], passed[2]
    a, delta, losses = np.full_like(z2, np.nan), np.full_like(z2, np.nan), np.full(4, np.nan)
    reference.output_delta("quadratic", "sigmoid", z2, y, a, delta, losses)
    assert_slope(delta, slope(lambda z: cost(z, y), z2))
    assert losses.sum() == pytest.approx(cost(z2, y), rel=1e-12)


def test_bp2_is_the_error_one_layer_back(net, passed):
    (_, W2), (_, b2), _, y = net
    z1, a1, _, delta2 = passed
    delta1 = np.full_like(z1, np.nan)
    reference.backprop_delta(W2, delta2, a1, "sigmoid", delta1)
    assert_slope(delta1, slope(lambda z: cost(sigma(z) @ W2.T + b2, y), z1))


def test_bp3_is_the_slope_in_the_biases(net, passed):
    (_, W2), (_, b2), _, y = net
    _, a1, _, delta2 = passed
    db = np.full_like(b2, np.nan)
    reference.bias_gradient(delta2, db)
    assert_slope(db, slope(lambda b: cost(a1 @ W2.T + b, y) / 4, b2))


def test_bp4_is_the_slope_in_the_weights(net, passed):
    (_, W2), (_, b2), _, y = net
    _, a1, _, delta2 = passed
    dW = np.full_like(W2, np.nan)
    reference.weight_gradient(a1, delta2, dW)
    assert_slope(dW, slope(lambda W: cost(a1 @ W.T + b2, y) / 4, W2))


def test_the_equations_together_are_backprop(program, net):
    (W1, W2), (b1, b2), X, y = net
    nabla_b, nabla_w = program.backprop([W1, W2], [b1, b2], X[:1], y[:1])

    def of(W=W1, b=b1):
        return cost(sigma(X[:1] @ W.T + b) @ W2.T + b2, y[:1])

    assert_slope(nabla_w[0], slope(lambda W: of(W=W), W1))
    assert_slope(nabla_b[0], slope(lambda b: of(b=b), b1))


def ok(rows):
    return {name: good for name, _, _, good in rows}


def test_network_agrees_with_the_equations(program, mnist):
    rows = program.check_equations(mnist.X_train, mnist.y_train, seed=0)
    assert len(rows) == 2
    assert all(ok(rows).values()), rows


def test_a_wrong_equation_is_seen(program, mnist, monkeypatch):
    def without_slope(W_next, delta_next, a, activation, out):
        out[...] = delta_next @ W_next

    monkeypatch.setattr(reference, "backprop_delta", without_slope)
    rows = program.check_equations(mnist.X_train, mnist.y_train, seed=0)
    assert not any(ok(rows).values())


def test_saturation_is_slow_under_the_quadratic_cost_and_not_under_cross_entropy(program):
    neurons = {key: program.neuron(*key) for key in program.NEURONS}
    rows = program.check_neurons(neurons)
    assert all(ok(rows).values()), rows
    slow, quick = (
        program.below_half(neurons[loss, program.SATURATED][1])
        for loss in ("quadratic", "cross-entropy")
    )
    assert slow > 10 * quick


def test_swapped_costs_are_seen(program):
    swap = {"quadratic": "cross-entropy", "cross-entropy": "quadratic"}
    neurons = {(loss, at): program.neuron(swap[loss], at) for loss, at in program.NEURONS}
    assert not all(ok(program.check_neurons(neurons)).values())


def test_three_epochs_on_mnist(start, capsys):
    code, picture = start("--quick")
    assert code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("Epoch")] == [
        "Epoch 0", "Epoch 1", "Epoch 2",
    ]  # fmt: skip
    assert all(line.endswith("/ 10000") for line in lines if line.startswith("Epoch"))
    assert picture.stat().st_size > 10_000
