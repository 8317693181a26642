"""`gradcheck` of anybody's code: the known mistakes, and what else it is given."""

from itertools import count, pairwise

import numpy as np
import pytest

from fastbp import Network, layers, losses
from fastbp.layers.sequential import Sequential
from fastbp.verification.gradients import gradcheck


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))


# -- the known mistakes ----------------------------------------------------------------------------
# A user's three-layer network in plain NumPy: sigmoid, quadratic cost, the mean over the batch. The
# second layer is square, and the batch as large as the hidden layers, so that every mistake still
# has the right shapes. Each mistake replaces one step of back-propagation.

SIZES, BATCH = (4, 5, 5, 3), 5


@pytest.fixture
def batch(rng):
    return rng.standard_normal((BATCH, SIZES[0])), rng.random((BATCH, SIZES[-1]))


@pytest.fixture
def params(rng):
    found = {}
    for l, (n_in, n_out) in enumerate(pairwise(SIZES), start=1):
        found[f"W{l}"] = rng.standard_normal((n_out, n_in))
        found[f"b{l}"] = rng.standard_normal(n_out)
    return found


def forward(params, X):
    a, z = [X], []
    for l in (1, 2, 3):
        z.append(a[-1] @ params[f"W{l}"].T + params[f"b{l}"])
        a.append(sigmoid(z[-1]))
    return a, z


def cost(params, batch):
    X, y = batch
    return 0.5 * ((forward(params, X)[0][-1] - y) ** 2).sum() / len(X)


def back(delta, W):
    return delta @ W


def slope_from_z(z, a):
    return sigmoid_prime(z)


def mean_of_rows(delta):
    return delta.sum(axis=0) / len(delta)


def backprop(params, batch, slope=slope_from_z, back=back, bias=mean_of_rows, mean=True, ahead=0):
    """Back-propagation, step by step replaceable; `ahead` updates weights before using them."""
    X, y = batch
    a, z = forward(params, X)
    weights = {l: params[f"W{l}"].copy() for l in (1, 2, 3)}
    delta, grads = (a[3] - y) * sigmoid_prime(z[2]), {}
    for l in (3, 2, 1):
        grads[f"W{l}"] = delta.T @ a[l - 1] / (len(X) if mean else 1)
        grads[f"b{l}"] = bias(delta) if l < 3 else mean_of_rows(delta)
        grads[f"b{l}"] *= 1 if mean else len(X)
        weights[l] -= ahead * grads[f"W{l}"]
        if l > 1:
            delta = back(delta, weights[l]) * slope(z[l - 2], a[l - 1])
    return grads


def transposed_where_square(delta, W):
    return delta @ (W.T if W.shape[0] == W.shape[1] else W)


HIDDEN = {"W1", "b1", "W2", "b2"}
MISTAKES = {
    "sigma' dropped in the delta": ({"slope": lambda z, a: 1.0}, HIDDEN),
    "back-propagation through updated weights": ({"ahead": 0.1}, HIDDEN),
    "1/batch forgotten": ({"mean": False}, HIDDEN | {"W3", "b3"}),
    "bias gradient summed over the wrong axis": (
        {"bias": lambda delta: delta.sum(axis=1) / len(delta)}, {"b1", "b2"},
    ),
    "sigma'(a) taken for sigma'(z)": ({"slope": lambda z, a: sigmoid_prime(a)}, HIDDEN),
    "transposed weights in a square layer": ({"back": transposed_where_square}, {"W1", "b1"}),
}  # fmt: skip


def failed(report):
    return {check.name for check in report.failures}


def test_back_propagation_done_right_passes(params, batch):
    report = gradcheck((lambda p: cost(p, batch), lambda p: backprop(p, batch)), params)
    assert report.ok, report
    assert [check.name for check in report.layers] == list(params)
    assert 0 < report.max_error < 1e-8


@pytest.mark.parametrize("large", [False, True], ids=["every entry", "directions"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_known_mistake_is_caught_and_its_place_named(mistake, large, params, batch):
    change, places = MISTAKES[mistake]
    pair = (lambda p: cost(p, batch), lambda p: backprop(p, batch, **change))
    report = gradcheck(pair, params, max_entries=8 if large else 1000)
    assert failed(report) == places, f"{mistake}\n{report}"
    right, wrong = backprop(params, batch), pair[1](params)
    for check in report.failures:
        assert check.status == "differs"
        assert check.analytic == wrong[check.name][check.index]
        assert check.numerical == pytest.approx(right[check.name][check.index], rel=1e-5, abs=1e-9)
        (line,) = [line for line in str(report).splitlines() if line.startswith(check.name)]
        assert str(check.index) in line
        assert "<-- differs" in line


def relu_backward_in_place(dout, z):
    dout[z <= 0] = 0
    return dout


def relu_backward(dout, z):
    return np.where(z > 0, dout, 0)


@pytest.mark.parametrize("backward", [relu_backward, relu_backward_in_place])
def test_a_relu_that_overwrites_its_input_is_caught(backward, rng):
    """dout goes two ways, through the ReLU and past it: what comes second finds it spoilt."""
    X, y = rng.standard_normal((6, 4)), rng.standard_normal((6, 3))
    params = {"W1": rng.standard_normal((5, 4)), "W2": rng.standard_normal((3, 5))}

    def function(p):
        z = X @ p["W1"].T
        return 0.5 * (((np.maximum(z, 0) + z) @ p["W2"].T - y) ** 2).sum()

    def gradient(p):
        z = X @ p["W1"].T
        a = np.maximum(z, 0) + z
        delta = a @ p["W2"].T - y
        dout = delta @ p["W2"]
        dz = backward(dout, z) + dout
        return {"W1": dz.T @ X, "W2": delta.T @ a}

    report = gradcheck((function, gradient), params)
    assert failed(report) == (set() if backward is relu_backward else {"W1"}), report


class Relu:
    def __init__(self, backward):
        self.how = backward

    def forward(self, x):
        self.x = x
        return np.maximum(x, 0)

    def backward(self, dout):
        return self.how(dout, self.x)


def test_a_layer_that_overwrites_its_input_is_caught_though_its_gradient_is_right(rng):
    x = rng.standard_normal((3, 4))
    assert gradcheck(Relu(relu_backward), x).ok
    report = gradcheck(Relu(relu_backward_in_place), x)
    (check,) = report.failures
    assert (check.name, check.status) == ("dout", "overwritten")
    assert x[check.index] <= 0
    assert check.analytic != 0 == check.numerical
    assert "<-- overwritten" in str(report)


def test_a_layer_that_overwrites_its_output_is_caught(rng):
    class Sigmoid:
        def forward(self, x):
            self.out = 1 / (1 + np.exp(-x))
            return self.out

        def backward(self, dout):
            self.out *= 1 - self.out
            return dout * self.out

    report = gradcheck(Sigmoid(), rng.standard_normal((3, 4)))
    assert {(c.name, c.status) for c in report.failures} == {("out", "overwritten")}


def test_a_forward_that_overwrites_its_input_is_caught(rng):
    class InPlace(Relu):
        def forward(self, x):
            self.x = x.copy()
            return np.maximum(x, 0, out=x)

    report = gradcheck(InPlace(relu_backward), rng.standard_normal((3, 4)))
    assert {(c.name, c.status) for c in report.failures} == {("x", "overwritten")}


def test_a_backward_that_overwrites_what_forward_returned_is_caught(rng):
    class Reuses(Relu):
        def forward(self, x):
            self.out = super().forward(x)
            return self.out

        def backward(self, dout):
            dx = super().backward(dout)
            self.out[...] = dx
            return dx

    report = gradcheck(Reuses(relu_backward), rng.standard_normal((3, 4)))
    assert {(c.name, c.status) for c in report.failures} == {("out", "overwritten")}


def test_a_gradient_that_updates_what_it_is_given_is_caught(params, batch):
    """The in-place form of going through updated weights: what was spoilt, and what it spoilt."""

    def gradient(p):
        grads = backprop(p, batch)
        p["W3"] -= 0.1 * grads["W3"]
        return backprop(p, batch) | {"W3": grads["W3"], "b3": grads["b3"]}

    report = gradcheck((lambda p: cost(p, batch), gradient), params)
    assert {c.name: c.status for c in report.failures} == {
        "W3": "overwritten", **dict.fromkeys(HIDDEN, "differs"),
    }  # fmt: skip


# -- targets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_a_sequential(activation, backend, dtype, rng):
    net = Sequential.mlp([4, 5, 3], activation, 0.7, dtype, backend, seed=1)
    before = {name: array.copy() for name, array in net.params.items()}
    report = gradcheck(net, rng.standard_normal((6, 4)), rng.integers(3, size=6))
    assert report.ok, report
    assert [check.name for check in report.layers] == ["W1", "b1", "W2", "b2"]
    for name, array in net.params.items():
        np.testing.assert_array_equal(array, before[name])
        assert array.dtype == dtype


def test_a_wrong_layer_in_a_sequential_is_found(rng):
    class Wrong(layers.Sigmoid):
        def backward(self, dout=1):
            return 2 * super().backward(dout)

    def affine(n_in, n_out):
        return layers.Affine(rng.standard_normal((n_in, n_out)), np.zeros(n_out))

    net = Sequential([affine(4, 5), Wrong(), affine(5, 3)])
    report = gradcheck(net, rng.standard_normal((6, 4)), rng.integers(3, size=6))
    assert failed(report) == {"W1", "b1"}


NODES = {
    "Add": (layers.Add, ((2, 3), (3,)), ["x", "y"]),
    "Mul": (layers.Mul, ((2, 3), (2, 1)), ["x", "y"]),
    "ReLU": (layers.ReLU, ((2, 3),), ["x"]),
    "Sigmoid": (layers.Sigmoid, ((3,),), ["x"]),
    "Tanh": (layers.Tanh, ((2, 1, 3),), ["x"]),
}


@pytest.mark.parametrize("name", NODES)
def test_a_node(name, rng):
    make, shapes, names = NODES[name]
    inputs = tuple(rng.standard_normal(shape) for shape in shapes)
    report = gradcheck(make(), inputs if len(inputs) > 1 else inputs[0])
    assert report.ok, report
    assert [check.name for check in report.layers] == names


def test_a_node_of_numbers():
    """Two apples at 100 each."""
    report = gradcheck(layers.Mul(), (100, 2))
    assert report.ok
    assert [check.analytic for check in report.layers] == [2, 100]


def test_a_node_with_parameters(rng):
    node = layers.Affine(rng.standard_normal((4, 3)), rng.standard_normal(3))
    report = gradcheck(node, rng.standard_normal((5, 4)))
    assert report.ok, report
    assert [check.name for check in report.layers] == ["x", "W", "b"]
    assert node.dW is None


def test_a_loss_node_with_labels(rng):
    report = gradcheck(layers.SoftmaxWithLoss(), rng.standard_normal((5, 4)), [0, 1, 2, 3, 0])
    assert report.ok, report


class Dense:
    """A user's layer, in single precision, with caches by the names of gradients."""

    def __init__(self, rng, axis=0):
        self.W, self.b = np.float32(rng.standard_normal((4, 3))), np.zeros(3, np.float32)
        self.axis = axis

    def forward(self, inputs):
        self.x, self.out = inputs, inputs @ self.W + self.b
        return self.out

    def backward(self, dout):
        self.dout, self.dW, self.db = dout, self.x.T @ dout, dout.sum(axis=self.axis)
        self.dx = dout @ self.W.T
        return self.dx


def test_a_layer_of_ones_own(rng):
    report = gradcheck(Dense(rng), rng.standard_normal((3, 4)))
    assert report.ok, report
    assert [check.name for check in report.layers] == ["inputs", "W", "b"]
    assert failed(gradcheck(Dense(rng, axis=1), rng.standard_normal((3, 4)))) == {"b"}


STRUCTURES = {
    "array": (np.arange(6.0).reshape(2, 3), lambda p: p, ["params"]),
    "numbers": ([1.0, 2.0], lambda p: p, ["params"]),
    "a number": (3.0, lambda p: p, ["params"]),
    "list": ([np.ones(2), np.eye(2)], lambda p: [2 * x for x in p], ["[0]", "[1]"]),
    "tuple": ((np.ones(2), np.eye(2)), lambda p: (p[0], p[1]), ["[0]", "[1]"]),
    "dict": ({"u": np.ones(2), 7: np.eye(2)}, lambda p: dict(p.items()), ["u", "7"]),
    "Fortran": (np.asfortranarray(np.arange(6.0).reshape(2, 3)), lambda p: p, ["params"]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_pair_of_functions_over(name):
    """The cost is half the sum of squares, whose gradient is the parameters themselves."""
    params, gradient, names = STRUCTURES[name]

    def function(p):
        assert isinstance(p, type(params)) or name in ("numbers", "a number")
        parts = p.values() if isinstance(p, dict) else p if isinstance(p, (list, tuple)) else [p]
        return 0.5 * sum(np.sum(np.square(part)) for part in parts)

    report = gradcheck((function, gradient), params)
    assert [check.name for check in report.layers] == names
    assert report.ok == (name != "list"), report


# -- large problems --------------------------------------------------------------------------------


def large_pair(change):
    def gradient(p):
        grads = {name: 1 - np.tanh(array) ** 2 for name, array in p.items()}
        change(grads)
        return grads

    return lambda p: sum(np.tanh(array).sum() for array in p.values()), gradient


FACTORS = [1.001, 2, -1, 0]


@pytest.mark.parametrize(
    ("factor", "seed"),
    [
        pytest.param(FACTORS[k], seed, marks=[pytest.mark.long] if k != seed else [])
        for k in range(4) for seed in range(4)
    ],
)  # fmt: skip
def test_one_wrong_entry_of_thirty_thousand_is_found_and_named(factor, seed, rng):
    def change(grads):
        grads["u"][77, 3] *= factor

    params = {"u": rng.standard_normal((300, 100)), "v": rng.standard_normal(20_000)}
    report = gradcheck(large_pair(change), params, seed=seed)
    (check,) = report.failures
    assert (check.name, check.index) == ("u", (77, 3))
    assert check.numerical == pytest.approx(1 - np.tanh(params["u"][77, 3]) ** 2, rel=1e-5)
    assert gradcheck(large_pair(lambda grads: None), params, seed=seed).ok


def test_a_large_network(rng, backend):
    net = Network([784, 30, 10], "relu", loss="cross-entropy", backend=backend, seed=1)
    X, y = rng.random((20, 784)), rng.integers(10, size=20)
    report = gradcheck(net, X, y)
    assert report.ok, report
    assert [check.checked for check in report.layers] == ["10 directions, 8", "all", "all", "all"]


def test_directions_are_random_by_their_seed(rng):
    params = {"u": rng.standard_normal((300, 100))}
    errors = {
        seed: gradcheck(large_pair(lambda grads: None), params, seed=seed % 2).max_error
        for seed in range(4)
    }
    assert errors[0] == errors[2] != errors[1] == errors[3]


def test_how_much_is_checked_can_be_chosen(rng):
    counted = 0

    def function(p):
        nonlocal counted
        counted += 1
        return 0.5 * (p**2).sum()

    params = rng.standard_normal(40)
    gradcheck((function, lambda p: p), params, max_entries=40)
    assert 80 <= counted < 110  # with calls to see whether the values stay the same
    counted = 0
    report = gradcheck((function, lambda p: p), params, max_entries=39, directions=3)
    assert counted < 50
    assert report.layers[0].checked == "3 directions, 8"


# -- rounding and kinks ----------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1e3, -1e6])
def test_a_large_constant_in_the_function_does_no_harm(offset, rng):
    params = {"u": rng.standard_normal(50), "tiny": 1e-6 * rng.standard_normal(50)}
    pair = (
        lambda p: offset + np.sin(p["u"]).sum() + (p["tiny"] ** 2).sum(),
        lambda p: {"u": np.cos(p["u"]), "tiny": 2 * p["tiny"]},
    )
    assert gradcheck(pair, params).ok


def relu_sum(p):
    return 3 * np.maximum(p, 0).sum() + (p**2).sum()


def relu_slope(p, at_zero=0.0):
    return 3 * np.where(p == 0, at_zero, p > 0) + 2 * p


@pytest.mark.parametrize("at_zero", [0, 1, 0.5])
def test_kinks_are_reported_or_avoided(at_zero):
    p = np.array([1.0, 0.0, -2.0, 1e-6, -3e-6, 4e-8, -1e-9])
    report = gradcheck((relu_sum, lambda p: relu_slope(p, at_zero)), p)
    (check,) = report.layers
    assert report.ok, report
    assert report.max_error < 1e-7
    assert set(check.kinks) <= {(1,), (3,), (4,), (5,), (6,)}
    if at_zero != 0.5:  # half is the central difference itself
        assert (1,) in check.kinks
        assert check.status == "undecided at a kink"
        assert "undecided at a kink: (1,)" in str(report)


@pytest.mark.parametrize("at_zero", [-0.5, 1.5, 10])
def test_beyond_both_sides_of_a_kink_is_wrong(at_zero):
    report = gradcheck((relu_sum, lambda p: relu_slope(p, at_zero)), np.array([1.0, 0.0, -2.0]))
    assert report.failures[0].index == (1,)


def test_a_kink_does_not_hide_a_mistake_elsewhere():
    def wrong(p):
        return relu_slope(p) + np.array([0, 0, 1e-5])

    report = gradcheck((relu_sum, wrong), np.array([1.0, 0.0, -2.0]))
    assert report.failures[0].index == (2,)


def test_a_dead_layer_at_its_kink(rng):
    """All inputs are zero, and so is every z of the first layer: only its biases could tell."""
    net = Network([3, 4, 2], "relu", loss="cross-entropy", seed=0)
    report = gradcheck(net, np.zeros((2, 3)), [0, 0])
    assert report.ok
    kinks = {check.name: len(check.kinks) for check in report.layers}
    assert kinks == {"W1": 0, "W2": 0, "b1": 4, "b2": 0}


@pytest.mark.parametrize("loss", ["absolute", "quantile", losses.Huber(0.5)], ids=str)
def test_nodes_that_are_made_of_pieces_are_held_on_their_sides(loss, rng):
    """With every x and every rest within a step of a kink."""
    affine = [layers.Affine(0.05 * rng.standard_normal((4, 4)), np.zeros(4)) for _ in range(4)]
    bent = layers.LeakyReLU("numpy"), layers.ELU("numpy"), layers.ReLU("numpy")
    chain = [
        node for pair in zip(affine, (*bent, layers.Tanh("numpy")), strict=True) for node in pair
    ]
    for node in affine:
        node.b[...] = 1e-10 * rng.standard_normal(4)
    net = Sequential(chain[:-1], layers.MeanLoss(loss))
    X = rng.standard_normal((3, 4))
    y = net.predict(X) + 1e-7 * rng.standard_normal((3, 4)) + 0.5 * (not isinstance(loss, str))
    report = gradcheck(net, X, y)
    assert report.verdict == "ok", report
    if isinstance(loss, str):
        assert gradcheck(net, X, net.predict(X)).verdict == "undecided at a kink"


def test_directions_avoid_kinks(rng):
    p = rng.standard_normal(3000)
    p[17] = 0
    report = gradcheck((relu_sum, relu_slope), p)
    assert report.ok, report

    def wrong(p):
        slope = relu_slope(p)
        slope[100] += 1
        return slope

    assert failed(gradcheck((relu_sum, wrong), np.delete(p, 17))) == {"params"}


DEEP = [8, 10, 6, 6, 6, 12, 5]


def deep_pair(seed, X, y):
    """The cross-entropy of a user's ReLU network in plain NumPy, and its gradient."""
    rng, params = np.random.default_rng(seed), {}
    for l, (n_in, n_out) in enumerate(pairwise(DEEP)):
        params[f"W{l}"] = 0.05 * rng.standard_normal((n_out, n_in))
        params[f"b{l}"] = np.zeros(n_out)
    last = len(DEEP) - 2

    def forward(p):
        a, z = [X], []
        for l in range(last + 1):
            z.append(a[-1] @ p[f"W{l}"].T + p[f"b{l}"])
            a.append(np.maximum(z[-1], 0) if l < last else z[-1])
        return a, z

    def function(p):
        scores = forward(p)[0][-1]
        return (np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]).mean()

    def gradient(p, slope=lambda z: z > 0):
        (a, z), grads = forward(p), {}
        delta = np.exp(z[-1]) / np.exp(z[-1]).sum(axis=1)[:, None]
        delta[np.arange(len(y)), y] -= 1
        delta /= len(y)
        for l in range(last, -1, -1):
            grads[f"W{l}"], grads[f"b{l}"] = delta.T @ a[l], delta.sum(axis=0)
            delta = (delta @ p[f"W{l}"]) * slope(z[l - 1]) if l else None
        return grads

    return function, gradient, params


def test_right_gradients_beside_many_kinks_are_not_called_wrong(rng):
    function, gradient, params = deep_pair(1, rng.standard_normal((2, 8)), [3, 4])
    report = gradcheck((function, gradient), params)
    assert report.ok, report
    assert report.verdict == "undecided at a kink"
    assert not report.failures
    assert {check.status for check in report.undecided} == {"undecided at a kink"}
    assert str(report).splitlines()[-1].startswith("undecided at a kink: largest error ")
    wrong = gradcheck((function, lambda p: gradient(p, slope=lambda z: 1.0)), params)
    assert wrong.verdict == "NOT ok"


@pytest.mark.parametrize("distance", [1e-15, 1e-12, -1e-9, 1e-7, -4e-6])
@pytest.mark.parametrize("factor", [1, 1 + 1e-5, 2, -1, 0])
def test_beside_one_kink_right_is_not_wrong_and_wrong_not_right(distance, factor):
    p = np.array([distance, 1.5])
    report = gradcheck((lambda p: np.abs(p).sum(), lambda p: np.sign(p) * [factor, 1]), p)
    assert report.ok or factor != 1
    if factor == 1:
        assert report.verdict in ("ok", "undecided at a kink")
        return
    # Rounding hides little from all steps that do not cross the kink, between its sides all.
    hidden = abs(distance) <= (1e-9 if factor == 1 + 1e-5 else 1e-15) and factor < 2
    assert report.verdict == ("undecided at a kink" if hidden else "NOT ok")


@pytest.mark.parametrize("std", [0.05, 0.01])
def test_nodes_are_decided_beside_kinks(std, backend, rng):
    net = Sequential.mlp([15, 6, 6, 6, 5], weight_init_std=std, backend=backend, seed=0)
    X, y = rng.standard_normal((2, 15)), [3, 4]
    assert gradcheck(net, X, y).verdict == "ok"
    assert gradcheck(layers.ReLU(backend), 1e-10 * X).verdict == "ok"
    at_zero = gradcheck(layers.ReLU(backend), np.array([0.0, 1.0]))
    assert (at_zero.verdict, at_zero.undecided[0].kinks) == ("undecided at a kink", ((0,),))


# -- functions that are random, or jump ------------------------------------------------------------


class Dropout:
    def forward(self, x):
        self.mask = np.random.default_rng().random(x.shape) > 0.5
        return x * self.mask

    def backward(self, dout):
        return dout * self.mask


class Accumulates(layers.Affine):
    def backward(self, dout=1):
        before = 0 if self.dW is None else self.dW
        dx = super().backward(dout)
        self.dW = self.dW + before
        return dx


def some(p):
    return p**2 * (np.random.default_rng().random(p.shape) > 0.5)


def counting(function):
    calls = count()
    return lambda p: function(p, next(calls))


UNSTEADY = {
    "noise": (lambda p: some(p).sum(), lambda p: -50 * p),
    "noise that is zero there": (lambda p: some(p - 1).sum(), lambda p: 0 * p),
    "a counter": (counting(lambda p, k: p.sum() + k), np.ones_like),
    "every other call": (counting(lambda p, k: p.sum() + k % 2), np.ones_like),
    "a slow drift": (counting(lambda p, k: p.sum() + 1e-9 * k), np.ones_like),
}


@pytest.mark.parametrize("name", UNSTEADY)
def test_a_function_of_more_than_its_parameters_is_refused(name):
    for _ in range(20):
        with pytest.raises(ValueError, match="gives different values for the same parameters"):
            gradcheck(UNSTEADY[name], np.ones(3))


def test_random_layers_and_gradients_are_refused(rng):
    with pytest.raises(ValueError, match="gives different values for the same parameters"):
        gradcheck(Dropout(), np.ones((4, 5)))
    net = Sequential([layers.Affine(rng.standard_normal((4, 3)), np.zeros(3)), Dropout()])
    for check in (gradcheck, Sequential.numerical_gradient):
        with pytest.raises(ValueError, match="gives different values for the same parameters"):
            check(net, np.ones((4, 4)), [0, 1, 2, 0])
    with pytest.raises(ValueError, match="gradient of params is different for the same param"):
        gradcheck((np.sum, lambda p: p + 1e-9 * np.random.default_rng().random(3)), np.ones(3))
    with pytest.raises(ValueError, match="gradient of W is different for the same parameters"):
        gradcheck(Accumulates(rng.standard_normal((4, 3)), np.zeros(3)), np.ones((2, 4)))


def test_a_gradient_that_changes_the_function_is_refused():
    factor = [1.0]

    def gradient(p):
        factor[0] = 2.0
        return 2 * p

    with pytest.raises(ValueError, match="gives different values for the same parameters"):
        gradcheck((lambda p: factor[0] * (p**2).sum(), gradient), np.ones(3))


def test_sums_in_another_order_are_the_same_value(rng):
    """As of programs with several threads."""
    p = rng.standard_normal(50)
    pair = (lambda p: np.square(p[np.random.default_rng().permutation(50)]).sum(), lambda p: 2 * p)
    assert gradcheck(pair, p).verdict == "ok"


def test_functions_that_jump_or_know_fewer_digits_are_refused(rng):
    p = rng.standard_normal(3)

    def scattered(p):
        return (p**2).sum() + 1e-3 * np.random.default_rng(list(p.tobytes())).random()

    with pytest.raises(ValueError, match=r"the function jumps, by .* where params"):
        gradcheck((scattered, lambda p: -50 * p), p)
    with pytest.raises(TypeError, match="no more digits than float32"):
        gradcheck((lambda p: float((p.astype(np.float32) ** 2).sum()), lambda p: 2 * p), p)


# -- bad input -------------------------------------------------------------------------------------


def square(p):
    return float((p["u"] ** 2).sum())


def slope(p):
    return {"u": 2 * p["u"]}


class NoGradient:
    params, loss = None, None


class Single:
    """A model that keeps to float32."""

    params = {"w": np.ones(2, np.float32)}  # noqa: RUF012
    loss = gradient = None


class SingleLayer:
    parameters = ("w",)

    @property
    def w(self):
        return np.ones(2, np.float32)

    @w.setter
    def w(self, new):
        pass

    def forward(self, x):
        return x * self.w

    def backward(self, dout):
        self.dw = dout
        return dout * self.w


U = {"u": np.ones((2, 3))}
BAD = {
    "no target": (None, U, TypeError, "target must be a fastbp.Network, "),
    "a single function": (square, U, TypeError, "got function"),
    "three functions": ((square, slope, slope), U, TypeError, "got tuple"),
    "a class": (layers.Tanh, np.ones(2), TypeError, "got type"),
    "no gradient": (NoGradient(), U, TypeError, "got NoGradient"),
    "no parameters": ((square, slope), {}, ValueError, "nothing to check"),
    "parameters of nothing": ((square, slope), None, TypeError, "X must hold the parameters"),
    "text": ((square, slope), {"u": ["a"]}, TypeError, "u must hold numbers"),
    "objects": ((square, slope), {"u": np.array([None])}, TypeError, "u must hold numbers"),
    "complex": ((square, slope), {"u": np.array([1j])}, TypeError, "u must hold numbers"),
    "ragged": ((square, slope), {"u": [[1], [2, 3]]}, ValueError, "u must be a rectangular"),
    "no entries": ((square, slope), {"u": np.ones((0, 3))}, ValueError, "u has no entries: "),
    "NaN": ((square, slope), {"u": np.array([1, np.nan])}, ValueError, "u must be finite"),
    "vector": ((lambda p: p["u"][0], slope), U, ValueError, "got shape (3,)"),
    "of one": ((lambda p: p["u"][:1, 0], slope), U, ValueError, "got shape (1,)"),
    "nothing": ((lambda p: None, slope), U, TypeError, "must return a real number; got None"),
    "complex value": ((lambda p: 1j, slope), U, TypeError, "must return a real number"),
    "float32": ((lambda p: np.float32(1), slope), U, TypeError, "returned float32"),
    "infinite": ((lambda p: np.inf, slope), U, ValueError, "must be finite; got inf"),
    "missing": ((square, lambda p: {}), U, ValueError, "missing: u, unknown: none"),
    "unknown": ((square, lambda p: slope(p) | {"v": 1}), U, ValueError, "unknown: v"),
    "not a dict": ((square, lambda p: 2 * p["u"]), U, ValueError, "missing: u, unknown: params"),
    "transposed": (
        (square, lambda p: {"u": p["u"].T}), U, ValueError,
        "gradient of u must have its shape (2, 3); got (3, 2)",
    ),
    "gradient of text": ((square, lambda p: {"u": "steep"}), U, TypeError, "gradient of u must"),
    "float32 model": (Single(), np.ones(2), TypeError, "params['w'] must be a float64 array"),
    "float32 layer": (SingleLayer(), np.ones(2), TypeError, "w must be float64; got float32"),
    "no input": (layers.Tanh(), None, TypeError, "X must hold numbers"),
    "no labels": (Network([2, 2]), np.ones((1, 2)), TypeError, "y must hold numbers"),
    "one gradient for two": (
        type("Two", (layers.Mul,), {"backward": lambda self, dout: dout})(), (1, 2), ValueError,
        "backward must return 2 gradients; got 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_as_such(name):
    target, X, error, part = BAD[name]
    with pytest.raises(error) as caught:
        gradcheck(target, X)
    assert type(caught.value) is error
    assert part in str(caught.value), str(caught.value)


def test_labels_of_a_pair_are_refused():
    with pytest.raises(TypeError, match="y must be None with a pair"):
        gradcheck((square, slope), U, [1])


@pytest.mark.parametrize("change", [{"max_entries": 0}, {"directions": 1.5}, {"tolerance": -1}])
def test_settings_are_checked(change):
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(change))} must be a positive"):
        gradcheck((square, slope), U, **change)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("large", [False, True])
def test_a_gradient_that_is_not_finite_is_reported_as_such(value, large):
    def gradient(p):
        found = slope(p)
        found["u"][1, 2] = value
        return found

    report = gradcheck((square, gradient), U, max_entries=2 if large else 100)
    (check,) = report.failures
    assert (check.name, check.status, check.index) == ("u", "not finite", (1, 2))
    assert check.numerical == pytest.approx(2)
    assert report.max_error == np.inf
    assert "<-- not finite" in str(report)


def test_a_function_that_ends_nearby_is_named_with_the_place():
    def function(p):
        return float(np.sum(p)) if p[1] <= 1 else np.nan

    with pytest.raises(ValueError, match=r"got nan with params\[1\] moved by 6\.0e-06"):
        gradcheck((function, np.ones_like), np.ones(3))


def test_what_is_checked_is_left_as_it_was(params, batch):
    before = {name: array.copy() for name, array in params.items()}
    for change in ({}, MISTAKES["1/batch forgotten"][0]):
        gradcheck((lambda p: cost(p, batch), lambda p, c=change: backprop(p, batch, **c)), params)
    for name, array in params.items():
        np.testing.assert_array_equal(array, before[name])
