"""The graph's nodes and `Sequential`: against finite differences, known values, and `Network`."""

import copy
import math
import pickle

import numpy as np
import pytest

import fastbp
from cases import crossed
from fastbp import losses
from fastbp.layers import (
    ELU,
    GELU,
    Add,
    Affine,
    Dropout,
    LeakyReLU,
    MeanLoss,
    Mul,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    SoftmaxWithLoss,
    Softplus,
    Tanh,
)
from fastbp.model import config

ACTIVATIONS = {
    "relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh, "leaky_relu": LeakyReLU, "elu": ELU,
    "softplus": Softplus, "silu": SiLU, "gelu": GELU,
}  # fmt: skip
HIDDEN = list(config.HIDDEN)
LOSSES = ["quadratic", "absolute", "huber", "quantile", losses.Huber(0.3), losses.Quantile(0.2)]
STEP = 6e-6


def differences(function, array):
    """Central differences of function() in each entry of an array that it depends on."""
    slopes = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + STEP
        above = function()
        array[index] = value - STEP
        slopes[index] = (above - function()) / (2 * STEP)
        array[index] = value
    return slopes


def away_from_zero(rng, shape):
    """Random numbers that no step of a difference brings to the other side of zero."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.1, 2, shape)


@pytest.fixture
def affine(rng, backend):
    def make(n_in, n_out, dtype="float64"):
        W, b = rng.standard_normal((n_in, n_out)), rng.standard_normal(n_out)
        return Affine(W.astype(dtype), b.astype(dtype), backend)

    return make


# -- all nodes -------------------------------------------------------------------------------------


def check_node(node, inputs, parameters, assert_close, rng, *fixed):
    """Hold the gradients of a weighted sum of the node's outputs against differences."""
    weights = rng.uniform(0.5, 1.5, np.shape(node.forward(*inputs, *fixed)))

    def total():
        return np.sum(weights * node.forward(*inputs, *fixed))

    total()
    dx = node.backward(weights)
    analytic = [
        *(dx if isinstance(dx, tuple) else (dx,)),
        *(getattr(node, f"d{p}") for p in parameters),
    ]
    moved = [*inputs, *(getattr(node, p) for p in parameters)]
    for gradient, array in zip(analytic, moved, strict=True):
        assert np.any(gradient)
        assert_close(differences(total, array), gradient, "differences")


SHAPES = [(), (1,), (17,), (3, 5), (2, 3, 4)]
PAIRS = [((), ()), ((3,), (3,)), ((), (2, 3)), ((2, 3), ()), ((2, 3), (3,)), ((2, 1), (1, 3)),
         ((4, 1, 3), (2, 1)), ((1, 1), (1,)), ((1,), (5,))]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_the_slope_of_its_value(name, shape, backend, rng, assert_close):
    x = np.asarray(away_from_zero(rng, shape))
    check_node(ACTIVATIONS[name](backend), [x], (), assert_close, rng)


@pytest.mark.parametrize("shapes", PAIRS, ids=str)
@pytest.mark.parametrize("kind", [Add, Mul])
def test_arithmetic_has_the_slopes_of_its_value(kind, shapes, rng, assert_close):
    inputs = [np.asarray(rng.standard_normal(shape)) for shape in shapes]
    check_node(kind(), inputs, (), assert_close, rng)


@pytest.mark.parametrize("leading", [(), (1,), (7,), (2, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("sizes", [(1, 1), (5, 3), (4, 4), (17, 9)], ids=str)
def test_affine_has_the_slopes_of_its_value(sizes, leading, affine, rng, assert_close):
    x = rng.standard_normal((*leading, sizes[0]))
    check_node(affine(*sizes), [x], ("W", "b"), assert_close, rng)


TARGETS = ["labels", "one-hot", "real"]
POLAR = lambda a, y: (a - y) ** 2 / 3.0, lambda a, y: 2.0 * (a - y) / 3.0


@pytest.mark.parametrize("leading", [(), (1,), (7,), (2, 3)], ids=str)
@pytest.mark.parametrize("targets", TARGETS)
def test_softmax_with_loss_has_the_slope_of_its_value(targets, leading, backend, rng, assert_close):
    y = rng.integers(0, 4, leading)
    if targets != "labels":
        y = np.eye(4)[y]
    if targets == "real":
        y = rng.uniform(0.1, 1, (*leading, 4))  # sums to anything
    x = np.asarray(rng.standard_normal((*leading, 4)))
    check_node(SoftmaxWithLoss(backend), [x], (), assert_close, rng, y)


@pytest.mark.parametrize("leading", [(), (1,), (7,), (2, 3)], ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_mean_loss_has_the_slope_of_its_value(loss, leading, rng, assert_close):
    y = np.asarray(rng.standard_normal((*leading, 4)))
    x = y + away_from_zero(rng, y.shape)
    check_node(MeanLoss(loss), [x], (), assert_close, rng, y)


@pytest.mark.parametrize("shape", [(5,), (7, 40), (2, 3, 4)], ids=str)
def test_dropout_has_the_slope_of_its_value(shape, rng, assert_close):
    check_node(Dropout(0.3, key=1), [rng.standard_normal(shape)], (), assert_close, rng)


def node_runs(dtype, rng):
    """Every node that has a backend, with inputs in a dtype: (node of a backend, inputs)."""
    x, scores = (rng.standard_normal(shape).astype(dtype) for shape in ((7, 17), (7, 10)))
    W, b = rng.standard_normal((17, 9)).astype(dtype), rng.standard_normal(9).astype(dtype)
    return [
        *((kind, (x,)) for kind in ACTIVATIONS.values()),
        (lambda backend: Affine(W, b, backend), (x,)),
        (SoftmaxWithLoss, (scores, rng.integers(0, 10, 7))),
    ]


def test_nodes_agree_on_kernels_and_reference_and_keep_the_dtype(dtype, rng, assert_close):
    for make, inputs in node_runs(dtype, rng):
        results = []
        for backend in ("numba", "numpy"):
            node = make(backend)
            out = node.forward(*inputs)
            dx = node.backward()
            results.append([dx, *(getattr(node, f"d{name}") for name in node.parameters)])
            if not isinstance(out, float):
                results[-1].append(out)
            assert node.backend == backend
            assert all(result.dtype == dtype for result in results[-1]), node
        for kernel, reference in zip(*results, strict=True):
            assert_close(kernel, reference)


ARRANGEMENTS = [np.array, np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2]]


def frozen(array):
    array.flags.writeable = False
    return array


def test_no_node_changes_what_it_is_given(dtype, backend, rng, assert_close):
    """Inputs and dout may be read-only, strided, or in Fortran's order."""
    x = rng.standard_normal((7, 17)).astype(dtype)
    for make, inputs in [*node_runs(dtype, rng), (lambda backend: Mul(), (x, -x))]:
        results = []
        for arrange in ARRANGEMENTS:
            node, given = make(backend), [frozen(arrange(array)) for array in inputs]
            out = node.forward(*given)
            dout = np.arange(np.size(out), dtype=dtype).reshape(np.shape(out)) + 1
            dx = node.backward(frozen(arrange(dout)) if dout.ndim else dout)
            results.append((out, *(dx if isinstance(dx, tuple) else (dx,))))
            assert all(np.array_equal(a, b) for a, b in zip(given, inputs, strict=True))
        for result in results[1:]:
            for found, expected in zip(result, results[0], strict=True):
                assert_close(found, expected, dtype=dtype)


def test_results_are_arrays_of_their_own(backend, rng):
    """What a caller writes into an output or a gradient spoils nothing."""
    x = away_from_zero(rng, (4, 3))
    for node in (
        *(kind(backend) for kind in ACTIVATIONS.values()),
        Affine(np.eye(3), [0] * 3, backend),
    ):
        expected = node.forward(x), node.backward(x)
        out = node.forward(x)
        out[...] = 99
        dout = x.copy()
        dx = node.backward(dout)
        assert np.array_equal(dx, expected[1])
        dx[...] = 99
        assert np.array_equal(dout, x)
        assert np.array_equal(node.forward(x), expected[0])
    for node in (Add(), Mul()):
        node.forward(x, x)
        dout = np.ones((4, 3))
        dx, dy = node.backward(dout)
        dx[...] = 99
        assert (dout == 1).all()
        assert not (dy == 99).any()


@pytest.mark.parametrize("make", [Add, Mul, Dropout, MeanLoss, SoftmaxWithLoss, ReLU, GELU,
                                  lambda: Affine(np.eye(2), np.zeros(2))])  # fmt: skip
def test_backward_before_forward_says_what_to_do(make):
    node = make()
    with pytest.raises(
        RuntimeError, match=rf"{type(node).__name__}\.backward .*call forward first"
    ):
        node.backward()


def test_a_node_shows_what_it_is():
    assert repr(Mul()) == "Mul()"
    assert repr(ReLU("numpy")) == "ReLU(backend='numpy')"
    layer = Affine(np.ones((3, 2), np.float32), np.zeros(2, np.float32))
    assert repr(layer) == "Affine(3 to 2, float32, backend='numba')"


# -- known values ----------------------------------------------------------------------------------


def test_the_shopping_graph():
    """Saito, ch. 5.4.2: two apples at 100, three oranges at 150, and a tax of 10 %."""
    apples, oranges, both, taxed = Mul(), Mul(), Add(), Mul()
    price = taxed.forward(both.forward(apples.forward(100, 2), oranges.forward(150, 3)), 1.1)
    d_both, d_tax = taxed.backward(1)
    d_apples, d_oranges = both.backward(d_both)
    found = [price, *apples.backward(d_apples), *oranges.backward(d_oranges), d_tax]
    assert found == pytest.approx([715, 2.2, 110, 3.3, 165, 650], rel=1e-12)
    assert all(isinstance(value, float) for value in found)


def test_activations_at_known_places(backend):
    x = np.array([[-1e3, -1.0, 0.0], [1.0, 2.0, 1e3]])
    s, t = 1 / (1 + math.exp(-1)), math.tanh(1)
    known = {
        Sigmoid: ([[0, 1 - s, 0.5], [s, 1 / (1 + math.exp(-2)), 1]], 0.25),
        Tanh: ([[-1, -t, 0], [t, math.tanh(2), 1]], 1),
        ReLU: ([[0, 0, 0], [1, 2, 1e3]], 0),  # at the kink
        ELU: ([[-1, math.expm1(-1), 0], [1, 2, 1e3]], 1),
        Softplus: ([[0, math.log1p(math.exp(-1)), math.log(2)],
                    [1 + math.log1p(math.exp(-1)), 2 + math.log1p(math.exp(-2)), 1e3]], 0.5),
        SiLU: ([[0, s - 1, 0], [s, 2 / (1 + math.exp(-2)), 1e3]], 0.5),
        GELU: ([[0, -math.erfc(math.sqrt(0.5)) / 2, 0],
                [1 - math.erfc(math.sqrt(0.5)) / 2, 2 - math.erfc(math.sqrt(2)), 1e3]], 0.5),
    }  # fmt: skip
    for kind, (values, slope_at_zero) in known.items():
        node = kind(backend)
        assert node.forward(x) == pytest.approx(np.array(values), rel=1e-15)
        slopes = node.backward()
        assert slopes[0, 2] == slope_at_zero
        assert slopes[0, 0] == 0  # saturated
        assert slopes[1, 2] == (kind not in (Sigmoid, Tanh))
    for kind in (Sigmoid, Tanh):
        assert np.isnan(kind(backend).forward(np.nan))


def test_integers_are_taken_as_float64(backend):
    for node, inputs in [(Sigmoid(backend), ([0, 1],)), (Mul(), (np.uint8(200), np.uint8(2)))]:
        assert np.asarray(node.forward(*inputs)).dtype == np.float64
    assert Mul().forward(np.uint8(200), np.uint8(2)) == 400


def test_gradients_of_arithmetic_have_the_dtypes_of_the_inputs():
    node = Mul()
    assert node.forward(np.ones(3, np.float32), np.ones(3)).dtype == np.float64
    assert [d.dtype for d in node.backward()] == [np.float32, np.float64]


# -- Affine ----------------------------------------------------------------------------------------


def test_affine_sums_over_the_samples_exactly(dtype, backend, rng):
    """Sums, not means: and of whole numbers exact, where 1/batch is not."""
    for batch in (1, 3, 7, 49, 100):
        W, x, dout = (
            rng.integers(-9, 10, shape).astype(dtype)
            for shape in ((17, 5), (batch, 17), (batch, 5))
        )
        layer = Affine(W, np.arange(5, dtype=dtype), backend)
        assert np.array_equal(layer.forward(x), x @ W + np.arange(5))
        assert np.array_equal(layer.backward(dout), dout @ W.T)
        assert np.array_equal(layer.dW, x.T @ dout)
        assert np.array_equal(layer.db, dout.sum(axis=0))


def test_affine_keeps_the_leading_shape(affine, rng, assert_close):
    layer, x = affine(12, 5), rng.standard_normal((6, 12))
    out = layer.forward(x)
    dx = layer.backward(out)
    dW, db = layer.dW, layer.db
    for shape, leading in [((6, 12), (6,)), ((2, 3, 12), (2, 3)), ((1, 6, 1, 12), (1, 6, 1)),
                           ((6, 3, 4), (6,)), ((6, 3, 2, 2), (6,))]:  # fmt: skip
        again = layer.forward(x.reshape(shape))
        assert again.shape == (*leading, 5)
        assert layer.backward(again).shape == shape
        assert_close(again.reshape(6, 5), out)
        assert_close(layer.dW, dW)
        assert_close(layer.db, db)
    assert_close(layer.forward(x[0]), out[0])
    assert_close(layer.backward(out[0]), dx[0])
    assert_close(layer.db, out[0])


def test_affine_computes_with_the_arrays_it_was_given(backend):
    W, b = np.ones((2, 3)), np.zeros(3)
    layer = Affine(W, b, backend)
    assert layer.W is W
    assert layer.b is b
    W *= 2
    b += 1
    assert layer.forward([1, 1]).tolist() == [5, 5, 5]
    layer.backward()
    assert layer.W is W
    layer.W = np.zeros((2, 3))
    assert layer.forward([1, 1]).tolist() == [1, 1, 1]


def test_affine_takes_weights_in_any_memory_order(dtype, backend, rng, assert_close):
    W, x = rng.standard_normal((5, 3)).astype(dtype), rng.standard_normal((4, 5)).astype(dtype)
    results = []
    for arrange in ARRANGEMENTS:
        layer = Affine(arrange(W), np.zeros(3, dtype), backend)
        results.append((layer.forward(x), layer.backward(1.0), layer.dW))
    for result in results[1:]:
        for found, expected in zip(result, results[0], strict=True):
            assert_close(found, expected)


def test_affine_takes_lists_and_integers(backend):
    layer = Affine([[1, 2]], [3, 4], backend)
    assert layer.W.dtype == layer.b.dtype == np.float64
    assert layer.forward(np.uint8([[255]])).tolist() == [[258, 514]]


# -- SoftmaxWithLoss -------------------------------------------------------------------------------


def test_the_loss_of_even_scores_is_log_n(dtype, backend):
    node = SoftmaxWithLoss(backend)
    assert node.forward(np.zeros((5, 10), dtype), [0, 1, 2, 3, 9]) == pytest.approx(math.log(10))
    assert node.backward().sum(axis=1) == pytest.approx(0, abs=1e-6)


def test_labels_and_one_hot_rows_are_the_same(dtype, backend, rng):
    x, labels = rng.standard_normal((7, 4)).astype(dtype), rng.integers(0, 4, 7)
    node = SoftmaxWithLoss(backend)
    results = [(node.forward(x, y), node.backward()) for y in (labels, np.eye(4)[labels])]
    assert results[0][0] == results[1][0]
    assert np.array_equal(results[0][1], results[1][1])


def test_softmax_minus_targets_over_the_batch(backend, rng, assert_close):
    x, labels = rng.standard_normal((3, 4)), [0, 3, 1]
    softmax = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    node = SoftmaxWithLoss(backend)
    loss = node.forward(x, labels)
    assert loss == pytest.approx(-np.log(softmax[range(3), labels]).mean(), rel=1e-12)
    assert_close(node.backward(), (softmax - np.eye(4)[labels]) / 3)
    assert_close(node.backward(-2.5), -2.5 * (softmax - np.eye(4)[labels]) / 3)


def test_the_loss_is_exact_in_saturation(backend):
    node = SoftmaxWithLoss(backend)
    assert node.forward([[1000.0, 0.0]], [1]) == 1000
    assert node.backward().tolist() == [[1, -1]]
    assert node.forward([[40.0, 0.0]], [0]) == pytest.approx(math.exp(-40), rel=1e-12)


# -- bad input -------------------------------------------------------------------------------------


def forward_then_backward(node, *inputs, dout):
    node.forward(*inputs)
    node.backward(dout)


def run_affine(x):
    return Affine(np.ones((3, 2)), np.zeros(2)).forward(x)


def run_loss(x, y):
    return SoftmaxWithLoss().forward(x, y)


def mlp():
    return Sequential.mlp([3, 4, 2], seed=0)


def set_item(key, value):
    mlp().params[key] = value


X3 = np.ones((5, 3))
BAD = {
    "a name for a number": (lambda: ReLU().forward("one"), TypeError, "x must hold numbers"),
    "complex": (lambda: Mul().forward(1, 1j), TypeError, "y must hold numbers"),
    "ragged": (lambda: Tanh().forward([[1], [1, 2]]), ValueError, "x must be a rectangular"),
    "no broadcast": (lambda: Add().forward([1, 2], [1, 2, 3]), ValueError,
                     r"x and y .* broadcast.*\(2,\) and \(3,\)"),
    "dout of ReLU": (lambda: forward_then_backward(ReLU(), X3, dout=np.ones(3)), ValueError,
                     r"dout must be .*\(5, 3\); got \(3,\)"),
    "dout of Add": (lambda: forward_then_backward(Add(), 1, 2, dout=[1]), ValueError,
                    r"dout must be a number .*\(\); got \(1,\)"),
    "dout of Affine": (
        lambda: forward_then_backward(Affine(np.eye(3), np.zeros(3)), X3, dout=X3.T),
        ValueError, r"dout must be .*\(5, 3\); got \(3, 5\)"),
    "dout of the loss": (
        lambda: forward_then_backward(SoftmaxWithLoss(), X3, np.arange(5) % 3, dout=X3),
        ValueError, r"dout must be a number .*got \(5, 3\)"),
    "dout no number": (lambda: forward_then_backward(Add(), 1, 2, dout="1"), TypeError, "dout"),
    "backend": (lambda: ReLU("cuda"), ValueError, "backend must be one of .*'cuda'"),
    "backend no name": (lambda: Sigmoid([]), ValueError, "backend must be one of"),
    "W flat": (lambda: Affine(np.ones(3), np.ones(3)), ValueError, r"W must be \(n_in, n_out\)"),
    "W empty": (lambda: Affine(np.ones((3, 0)), np.ones(0)), ValueError, "at least one of each"),
    "b": (lambda: Affine(np.ones((3, 2)), np.ones(3)), ValueError, r"b must be \(2,\).*\(3,\)"),
    "b's dtype": (lambda: Affine(np.ones((3, 2)), np.ones(2, np.float32)), TypeError,
                  "b must be of the dtype of W.*float32"),
    "W infinite": (lambda: Affine([[np.inf]], [0]), ValueError, r"W must be finite.*W\[0, 0\]"),
    "W text": (lambda: Affine([["a"]], [0]), TypeError, "W must hold numbers"),
    "x too wide": (lambda: run_affine(np.ones((5, 4))), ValueError,
                   r"x must be \(\.\.\., 3\).*got \(5, 4\)"),
    "x a column": (lambda: run_affine(np.ones((3, 1))), ValueError, r"column vector; pass x\.T"),
    "x a number": (lambda: run_affine(1.0), ValueError, r"x must be \(\.\.\., 3\).*got \(\)"),
    "x empty": (lambda: run_affine(np.ones((0, 3))), ValueError, "at least one sample"),
    "scores a number": (lambda: run_loss(1.0, 0), ValueError, r"x must be \(\.\.\., n_out\)"),
    "scores empty": (lambda: run_loss(np.ones((0, 3)), []), ValueError, "at least one sample"),
    "scores nan": (lambda: run_loss([[1, np.nan]], [0]), ValueError, r"finite.*x\[0, 1\]"),
    "label too large": (lambda: run_loss(X3, [0, 1, 2, 3, 0]), ValueError,
                        r"y must be labels from 0 to 2.*3 at y\[3\]"),
    "label negative": (lambda: run_loss(X3, [0, 1, -1, 2, 0]), ValueError, r"-1 at y\[2\]"),
    "labels real": (lambda: run_loss(X3, np.zeros(5)), TypeError, "y must be integer labels"),
    "labels too few": (lambda: run_loss(X3, [0, 1]), ValueError,
                       r"y must be integer labels .*\(5,\).*\(2,\)"),
    "targets nan": (lambda: run_loss(X3, X3 * np.nan), ValueError, "y must be finite"),
    "targets text": (lambda: run_loss(X3, ["a"] * 5), TypeError, "y must hold numbers"),
    "no layers": (lambda: Sequential([]), ValueError, "layers must hold at least one"),
    "one layer": (lambda: Sequential(ReLU()), TypeError, "layers must be a sequence"),
    "a class": (lambda: Sequential([ReLU]), TypeError, r"layers\[0\] must be a node"),
    "a function": (lambda: Sequential([ReLU(), np.tanh]), TypeError, r"layers\[1\] .* forward"),
    "loss": (lambda: Sequential([ReLU()], "quadratic"), TypeError, "loss must be a node"),
    "a node twice": (lambda: Sequential([mlp().layers[1]] * 2), ValueError, "in two places"),
    "widths": (
        lambda: Sequential([Affine(X3, np.zeros(3)), ReLU(), Affine(X3, np.zeros(3))]),
        ValueError, r"layers\[2\] must take 3 inputs.*got W .*\(5, 3\)"),
    "sizes": (lambda: Sequential.mlp([3]), ValueError, "sizes must"),
    "activation": (lambda: Sequential.mlp([3, 2], "softmax"), ValueError, "activation must be"),
    "activations": (lambda: Sequential.mlp([3, 2, 2], ["relu"] * 2), ValueError,
                    "activation must have an entry for the hidden layer; got 2"),
    "rate": (lambda: Dropout(1.0), ValueError, "rate must be a number from 0 to below 1; got 1.0"),
    "a key below 0": (lambda: Dropout(key=-1).forward(X3), ValueError, "key must be .*got -1"),
    "a large key": (lambda: Dropout(key=2**64).forward(X3), ValueError, "key must be below 2"),
    "dropout of nothing": (lambda: Dropout().forward([]), ValueError, "at least one sample"),
    "a loss of softmax": (lambda: MeanLoss("cross-entropy"), ValueError, "loss must be one of"),
    "outputs nan": (lambda: MeanLoss().forward(X3 * np.nan, X3), ValueError, "x must be finite"),
    "targets of a mean loss": (lambda: MeanLoss().forward(X3, X3[:2]), ValueError, "y must be"),
    "std": (lambda: Sequential.mlp([3, 2], weight_init_std=0), ValueError, "weight_init_std"),
    "dtype": (lambda: Sequential.mlp([3, 2], dtype="int8"), ValueError, "dtype must be one of"),
    "mlp's backend": (lambda: Sequential.mlp([3, 2], backend=None), ValueError, "backend must be"),
    "seed": (lambda: Sequential.mlp([3, 2], seed=-1), ValueError, "seed must be .*got -1"),
    "seed's kind": (lambda: Sequential.mlp([3, 2], seed="a"), TypeError, "seed must be"),
    "key": (lambda: set_item("W3", 0), KeyError, "W1, b1, W2, b2; got 'W3'"),
    "item's shape": (lambda: set_item("W1", np.ones((4, 3))), ValueError,
                     r"W1 must keep its shape, \(3, 4\); got \(4, 3\)"),
    "item nan": (lambda: set_item("b1", np.full(4, np.nan)), ValueError, "b1 must be finite"),
    "item text": (lambda: set_item("b2", ["a", "b"]), TypeError, "b2 must hold numbers"),
    "removal": (lambda: mlp().params.pop("W1"), TypeError, "cannot be removed"),
    "another params": (lambda: setattr(mlp(), "params", {}), AttributeError, "params"),
    "samples nan": (lambda: mlp().predict(X3 * np.nan), ValueError, r"x must be finite.*x\[0, 0\]"),
    "samples too wide": (lambda: mlp().loss(np.ones((5, 4)), [0] * 5), ValueError, "x must be"),
    "no samples": (lambda: mlp().loss(np.ones((0, 3)), []), ValueError, "at least one sample"),
    "samples text": (lambda: mlp().gradient([["a"] * 3], [0]), TypeError, "x must hold numbers"),
    "labels": (lambda: mlp().gradient(X3, [2] * 5), ValueError, "y must be labels from 0 to 1"),
    "accuracy": (lambda: mlp().accuracy(X3, [2] * 5), ValueError, "labels must be labels from 0"),
    "accuracy of reals": (lambda: mlp().accuracy(X3, np.full((5, 2), 0.5)), ValueError,
                          "labels must be integers or one-hot"),
    "differences": (lambda: mlp().numerical_gradient(X3, [2] * 5), ValueError, "from 0 to 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


ASSIGNED = {
    "W of other outputs": ("W", np.ones((3, 7)), ValueError, r"b must be \(7,\).*got \(2,\)"),
    "W of other inputs": ("W", np.ones((4, 2)), ValueError, r"x must be .*got \(5, 3\)"),
    "W flat": ("W", np.ones(3), ValueError, r"W must be \(n_in, n_out\)"),
    "W a shape": ("W", (3, 2), ValueError, r"W must be \(n_in, n_out\)"),
    "W complex": ("W", np.ones((3, 2), complex), TypeError, "W must hold numbers"),
    "W of the other dtype": ("W", np.ones((3, 2), np.float32), TypeError, "b must be of the dtype"),
    "b a number": ("b", 2.0, ValueError, r"b must be \(2,\), .*got \(\)"),
    "b too short": ("b", np.ones(1), ValueError, r"b must be \(2,\), .*got \(1,\)"),
    "b two rows": ("b", np.ones((1, 2)), ValueError, r"b must be \(2,\), .*got \(1, 2\)"),
    "b None": ("b", None, TypeError, "b must hold numbers"),
    "b of the other dtype": ("b", np.ones(2, np.float32), TypeError, "b must be of the dtype of W"),
    "backend": ("backend", "cuda", ValueError, "backend must be one of"),
}


@pytest.mark.parametrize("case", ASSIGNED)
def test_what_is_assigned_to_a_layer_is_checked_when_it_is_used(case, backend):
    """It was checked by the constructor alone: kernels then read behind the biases."""
    attribute, value, error, message = ASSIGNED[case]
    layer = Affine(np.ones((3, 2)), np.zeros(2), backend)
    layer.forward(X3)
    setattr(layer, attribute, value)
    with pytest.raises(error, match=message):
        layer.forward(X3)
    if attribute != "backend" and "inputs" not in case:
        with pytest.raises(error, match=message):
            layer.backward(np.ones((5, 2)))


@pytest.mark.parametrize("kind", ["int64", ">f8", "list", "Fortran", "read-only"])
def test_what_is_assigned_to_a_layer_and_can_be_used_is(kind, backend, rng):
    W, b, x = rng.integers(-5, 5, (3, 2)).astype(float), np.array([1.0, -2.0]), rng.random((5, 3))
    change = {
        "list": np.ndarray.tolist, "Fortran": np.asfortranarray, "read-only": frozen,
    }.get(kind, lambda array: array.astype(kind))  # fmt: skip
    layer = Affine(np.zeros((3, 2)), np.zeros(2), backend)
    layer.W, layer.b = change(W.copy()), change(b.copy())
    assert layer.forward(x) == pytest.approx(x @ W + b)
    assert layer.backward(np.ones((5, 2))) == pytest.approx(np.ones((5, 2)) @ W.T)
    assert layer.dW.dtype == layer.W.dtype == np.float64
    net = Sequential([layer])
    layer.W, layer.b = (change(W), change(b)) if kind != "read-only" else (W, b)
    numerical = net.numerical_gradient(x, [0, 1, 0, 1, 0])["W1"]
    assert numerical == pytest.approx(net.gradient(x, [0, 1, 0, 1, 0])["W1"], abs=1e-6)


@pytest.mark.parametrize("W", [np.ones((3, 4)), np.ones((2, 2)), np.ones((3, 2), np.float32)])
def test_weights_stay_of_one_kind_from_forward_to_backward(W, backend):
    layer = Affine(np.ones((3, 2)), np.zeros(2), backend)
    layer.forward(X3)
    layer.W, layer.b = W, np.zeros(W.shape[1], W.dtype)
    with pytest.raises(ValueError, match=r"W must be as in forward, \(3, 2\) of float64; got"):
        layer.backward(np.ones((5, 2)))


def test_parameters_are_those_of_the_layers_that_a_chain_has_now(rng):
    net, other = mlp(), Sequential.mlp([3, 4, 2], seed=1, weight_init_std=0.5)
    net.layers = other.layers
    x = rng.random((5, 3))
    gradients = net.gradient(x, [0, 1, 0, 1, 0])
    assert net.params["W1"] is other.params["W1"]
    for key, expected in other.gradient(x, [0, 1, 0, 1, 0]).items():
        assert np.array_equal(gradients[key], expected)


def test_what_overflows_float32_is_refused(backend):
    net = Sequential.mlp([3, 2], dtype="float32", backend=backend, seed=0)
    with pytest.raises(ValueError, match="x must be finite"):
        net.predict(np.full((1, 3), 1e39))
    with pytest.raises(ValueError, match="W1 must be finite"):
        net.params["W1"] = np.full((3, 2), 1e39)
    assert np.abs(net.params["W1"]).max() < 1


# -- Sequential ------------------------------------------------------------------------------------


def test_parameters_are_named_in_order():
    net = Sequential.mlp([5, 4, 3, 2], seed=0)
    shapes = {key: array.shape for key, array in net.params.items()}
    assert list(shapes.items()) == [
        ("W1", (5, 4)), ("b1", (4,)), ("W2", (4, 3)), ("b2", (3,)), ("W3", (3, 2)), ("b3", (2,)),
    ]  # fmt: skip
    assert list(net.gradient(np.ones((2, 5)), [0, 1])) == list(shapes)
    assert "W4" not in net.params
    with pytest.raises(KeyError):
        net.params["W4"]


def test_parameters_are_the_arrays_of_the_layers(backend, rng):
    """To write into one and to assign to it are both seen, by whoever holds the array."""
    net, x = Sequential.mlp([3, 4, 2], backend=backend, seed=0), rng.standard_normal((5, 3))
    held = net.params["W1"]
    assert held is net.layers[0].W
    before = net.predict(x)
    net.params["W1"][...] = 7
    after = net.predict(x)
    assert not np.array_equal(before, after)
    net.params["W1"] = np.full((3, 4), 7, np.float32)
    assert np.array_equal(net.predict(x), after)
    net.params["W1"] = new = rng.standard_normal((3, 4))
    assert net.params["W1"] is held is net.layers[0].W
    assert np.array_equal(held, new)
    new[...] = 0  # a copy was taken
    assert held.any()
    net.params["b1"] -= 1
    assert net.layers[0].b.tolist() == [-1] * 4
    net.params.update(b2=[3, 4])
    assert net.layers[2].b.tolist() == [3, 4]


def test_copies_have_parameters_of_their_own(rng):
    net, x = Sequential.mlp([3, 4, 2], seed=0), rng.standard_normal((5, 3))
    before = net.predict(x)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert np.array_equal(twin.predict(x), before)
        twin.params["W1"] += 1
        assert not np.array_equal(twin.predict(x), before)
        assert twin.params["W1"] is twin.layers[0].W
    assert np.array_equal(net.predict(x), before)


@crossed(activation=[*HIDDEN, ["relu", "silu"]], targets=TARGETS, dtype=["float32", "float64"])
def test_agrees_with_network(targets, activation, backend, dtype, rng, assert_close):
    """The same weights, transposed, give the same outputs, losses and gradients."""
    sizes = [17, 9, 8, 5]
    network = fastbp.Network(
        sizes, activation, loss="cross-entropy", dtype=dtype, backend=backend, seed=3
    )
    net = Sequential.mlp(sizes, activation, dtype=dtype, backend=backend)
    for l, (W, b) in enumerate(zip(network.weights, network.biases, strict=True), start=1):
        b[...] = rng.standard_normal(b.shape)
        net.params[f"W{l}"], net.params[f"b{l}"] = W.T, b
    x, y = rng.standard_normal((7, 17)).astype(dtype), rng.integers(0, 5, 7)
    if targets != "labels":
        y = np.eye(5)[y]
    if targets == "real":
        y = rng.uniform(0, 1, (7, 5))
    else:
        assert net.accuracy(x, y) == network.accuracy(x, y)

    assert net.loss(x, y) == pytest.approx(
        network.loss(x, y), rel=1e-5 if dtype == "float32" else 1e-12
    )
    assert np.array_equal(net.predict(x).argmax(axis=1), network.predict(x))
    theirs, mine = network.gradient(x, y), net.gradient(x, y)
    for l, (dW, db) in enumerate(zip(theirs.weights, theirs.biases, strict=True), start=1):
        assert dW.any()
        assert_close(mine[f"W{l}"], dW.T, dtype=dtype)
        assert_close(mine[f"b{l}"], db, dtype=dtype)
        assert mine[f"W{l}"].dtype == dtype


@pytest.mark.parametrize("loss", [*LOSSES, fastbp.Loss(*POLAR)], ids=str)
def test_a_chain_with_dropout_and_another_loss_agrees_with_network(loss, dtype, rng, assert_close):
    """The masks are those that the epoch of this key draws, the losses those of `Network`."""
    sizes, key = [17, 9, 40, 5], 5**20
    network = fastbp.Network(
        sizes, ["gelu", "elu"], loss=loss, dtype=dtype, backend="numpy", seed=3, dropout=[0.3, 0.6]
    )
    layers = []
    for l, (W, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        if l:
            layers += [(GELU, ELU)[l - 1]("numpy"), Dropout((0.3, 0.6)[l - 1], key + (l << 32))]
        layers.append(Affine(W.T.copy(), b.copy(), "numpy"))
    net, x = Sequential(layers, MeanLoss(loss)), rng.standard_normal((7, 17)).astype(dtype)
    y = rng.standard_normal((7, 5)).astype(dtype)

    model = network._config.model()
    masks = fastbp.reference.dropout.masks(model, key, np.arange(7), np.dtype(dtype))
    dW, db = ([np.empty_like(p) for p in params] for params in (network.weights, network.biases))
    parameters = network.weights, network.biases
    fastbp.reference.gradient(model, *parameters, x, y, dW, db, masks=masks)
    mine = net.gradient(x, y)
    for l in range(3):
        assert_close(mine[f"W{l + 1}"], dW[l].T, dtype=dtype)
        assert_close(mine[f"b{l + 1}"], db[l], dtype=dtype)
    for layer in net.layers[2::3]:
        layer.key = None
    theirs = network.loss(x, y)
    assert net.loss(x, y) == pytest.approx(theirs, rel=1e-5 if dtype == "float32" else 1e-12)


def test_dropout_leaves_out_its_share_and_keeps_the_mean(rng):
    node, x = Dropout(0.25, key=7), np.ones((2000, 50))
    out = node.forward(x)
    assert set(np.unique(out)) == {0, 4 / 3}
    assert abs((out == 0).mean() - 0.25) < 0.01
    assert np.array_equal(node.forward(x), out)  # of the same key
    node.key += 1
    assert abs((node.forward(x) == out).mean() - (0.25**2 + 0.75**2)) < 0.01
    assert np.array_equal(Dropout(key=None).forward(x), x)


def test_the_same_seed_starts_as_network_does(dtype):
    network = fastbp.Network([5, 4, 3], loss="cross-entropy", init=0.1, dtype=dtype, seed=7)
    net = Sequential.mlp([5, 4, 3], weight_init_std=0.1, dtype=dtype, seed=7)
    for l in (1, 2):
        assert np.array_equal(net.params[f"W{l}"], network.weights[l - 1].T)
        assert not net.params[f"b{l}"].any()


@pytest.mark.parametrize("activation", HIDDEN)
def test_gradient_is_the_numerical_gradient(activation, backend, rng, assert_close):
    net = Sequential.mlp([6, 5, 4, 3], activation, weight_init_std=0.7, backend=backend, seed=2)
    x, y = rng.standard_normal((2, 2, 6)), rng.integers(0, 3, (2, 2))
    before = {key: array.copy() for key, array in net.params.items()}
    exact, numerical = net.gradient(x, y), net.numerical_gradient(x, y)
    assert list(numerical) == list(exact)
    for key in exact:
        assert exact[key].any()
        assert_close(numerical[key], exact[key], "differences")
        assert np.array_equal(net.params[key], before[key])


def test_an_interrupted_numerical_gradient_restores_the_parameter(monkeypatch):
    net = mlp()
    before = net.params["W1"].copy()
    calls = iter(range(9))

    def forward(scores, y):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return 0.0

    monkeypatch.setattr(net.loss_layer, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        net.numerical_gradient(X3, [0] * 5)
    assert np.array_equal(net.params["W1"], before)


def test_gradients_of_a_batch_are_the_mean_of_its_samples(backend, rng, assert_close):
    net = Sequential.mlp([4, 3, 2], "tanh", weight_init_std=1, backend=backend, seed=0)
    x, y = rng.standard_normal((7, 4)), rng.integers(0, 2, 7)
    single = [net.gradient(*sample) for sample in zip(x, y, strict=True)]
    for key, whole in net.gradient(x, y).items():
        assert_close(whole, np.mean([gradients[key] for gradients in single], axis=0))


def test_gradients_are_new_each_time(rng):
    net, x = mlp(), rng.standard_normal((5, 3))
    first = net.gradient(x, [0] * 5)
    kept = {key: gradient.copy() for key, gradient in first.items()}
    second = net.gradient(-x, [1] * 5)
    for key in first:
        assert np.array_equal(first[key], kept[key])
        assert not np.shares_memory(first[key], second[key])


def test_one_sample_and_images(backend, rng, assert_close):
    net, x = Sequential.mlp([12, 2], backend=backend, seed=0), rng.standard_normal((4, 12))
    y = [0, 1, 1, 0]
    scores = net.predict(x)
    assert_close(net.predict(x[0]), scores[0])
    assert_close(net.predict(x.reshape(4, 3, 4)), scores)
    assert net.loss(x.reshape(4, 3, 4), y) == pytest.approx(net.loss(x, y), rel=1e-12)
    assert net.loss(x[0], 0) == pytest.approx(net.loss(x[:1], [0]), rel=1e-12)
    right = scores.argmax(axis=1) == y
    assert net.accuracy(x, y) == net.accuracy(x.reshape(2, 2, 12), np.reshape(y, (2, 2)))
    assert net.accuracy(x, y) == net.accuracy(x, np.eye(2)[y]) == right.mean()
    assert net.accuracy(x[0], 0) == right[0]


def test_uint8_images_are_taken_as_they_are(backend):
    net = Sequential.mlp([4, 2], backend=backend, seed=0)
    x = np.array([[0, 255, 128, 1]], np.uint8)
    assert np.array_equal(net.predict(x), net.predict(x.astype(float)))


class Scale:
    """A layer as a user might write one, with a parameter of its own."""

    parameters = ("factor",)

    def __init__(self, n):
        self.factor = np.ones(n)

    def forward(self, x):
        self.x = x
        return x * self.factor

    def backward(self, dout):
        self.dfactor = (dout * self.x).sum(axis=0)
        return dout * self.factor


def test_layers_of_ones_own(backend, rng, assert_close):
    parts = [Affine(rng.standard_normal((3, 4)), np.zeros(4), backend), Scale(4), Tanh(backend),
             Affine(rng.standard_normal((4, 2)), np.zeros(2), backend)]  # fmt: skip
    net = Sequential(parts)
    assert list(net.params) == ["W1", "b1", "factor2", "W3", "b3"]
    assert net.loss_layer.backend == backend
    x, y = rng.standard_normal((5, 3)), [0, 1, 0, 1, 1]
    exact, numerical = net.gradient(x, y), net.numerical_gradient(x, y)
    for key in exact:
        assert_close(numerical[key], exact[key], "differences")


def test_it_learns_the_digits(backend, digits):
    X_train, y_train, X_test, y_test = digits
    rng = np.random.default_rng(0)
    net = Sequential.mlp([64, 30, 10], weight_init_std=0.1, backend=backend, seed=rng)
    for _ in range(400):
        batch = rng.choice(len(X_train), 50)
        gradients = net.gradient(X_train[batch] / 16, y_train[batch])
        for key in net.params:
            net.params[key] -= 0.5 * gradients[key]
    assert net.accuracy(X_test / 16, y_test) > 0.93
