"""`Network`: construction, parameters, forward, gradients, files, and what it refuses."""

import copy
import gc
import json
import logging
import pickle
import struct
import weakref
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fastbp
from cases import OUTPUTS, crossed
from fastbp import Adam, Network
from fastbp.callbacks import EarlyStopping
from fastbp.engines import predictor
from fastbp.model import config
from fastbp.schedules import Cosine

DTYPES = ["float32", "float64"]
HIDDEN = ["sigmoid", "tanh", "relu", "identity"]
SIZES = [
    [5, 1],
    [1, 3],
    [3, 4, 2],
    [17, 8, 9, 3],
    [6, 5, 4, 3, 2],
    [2, 65, 33, 7],
    [784, 30, 10],
]


# --- The same mathematics, written down a third time ----------------------------------------------

ACTIVATE = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "identity": lambda z: z,
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
}
COST = {  # of each sample, from outputs and targets
    ("quadratic", None): lambda a, y: ((a - y) ** 2).sum(axis=1) / 2,
    ("cross-entropy", "softmax"): lambda a, y: -(y * np.log(a)).sum(axis=1),
    ("cross-entropy", "sigmoid"): lambda a, y: -(
        y * np.log(a) + (1 - y) * np.log(1 - a)
    ).sum(axis=1),
}  # fmt: skip


def forward_by_hand(net, X):
    """Outputs, and all weighted inputs, in float64."""
    c = net.config
    a, zs = np.asarray(X, np.float64) * c["input_scale"], []
    for l, W in enumerate(net.weights):
        b = net.biases[l] if net.biases else 0
        zs.append(a @ W.T.astype(np.float64) + b)
        last = l == len(net.weights) - 1
        a = ACTIVATE[c["output"] if last else c["activation"]](zs[-1])
    return a, zs


def loss_by_hand(net, X, y):
    c = net.config
    output = None if c["loss"] == "quadratic" else c["output"]
    return COST[c["loss"], output](forward_by_hand(net, X)[0], y).mean()


def one_hot(labels, n):
    return np.eye(n)[labels]


def state(net):
    """All that a refused call must leave alone, as bytes."""
    return net.to_vector().tobytes(), pickle.dumps(net.rng.bit_generator.state)


# --- Construction ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "loss", "output"),
    [
        ("sigmoid", "quadratic", "sigmoid"),
        ("tanh", "quadratic", "identity"),
        ("relu", "quadratic", "identity"),
        ("identity", "quadratic", "identity"),
        *((activation, "cross-entropy", "softmax") for activation in HIDDEN),
    ],
)
def test_the_default_output_suits_activation_and_loss(activation, loss, output):
    assert Network([3, 4, 2], activation=activation, loss=loss).config["output"] == output


def test_defaults_are_those_of_the_book():
    net = Network([3, 2])
    assert net.config == {
        "sizes": [3, 2], "activation": "sigmoid", "output": "sigmoid", "loss": "quadratic",
        "bias": True, "dtype": "float32", "input_scale": 1.0, "scale": None, "dropout": 0.0,
    }  # fmt: skip
    assert net.backend == "numba"


def test_the_configuration_is_read_only_and_describes_another_network(backend):
    net = Network([3, 2], loss="cross-entropy", input_scale=0.5, backend=backend)
    with pytest.raises(TypeError):
        net.config["input_scale"] = 1.0
    net.config["sizes"].append(4)  # of a copy
    assert net.config["sizes"] == [3, 2]
    assert json.loads(json.dumps(dict(net.config))) == net.config
    assert Network(**net.config).config == net.config


@pytest.mark.parametrize("name", ["config", "backend", "dtype", "sizes", "num_layers"])
def test_what_is_made_once_cannot_be_set(name, backend):
    net = Network([3, 2], backend=backend)
    with pytest.raises(AttributeError, match=name):
        setattr(net, name, getattr(net, name))


@pytest.mark.parametrize("sizes", SIZES)
def test_attributes_say_what_the_network_is(sizes, backend, dtype):
    net = Network(np.array(sizes), dtype=dtype, backend=backend)
    assert net.sizes == tuple(sizes)
    assert net.num_layers == len(sizes)
    assert [W.shape for W in net.weights] == list(zip(sizes[1:], sizes, strict=False))
    assert [b.shape for b in net.biases] == [(n,) for n in sizes[1:]]
    assert {a.dtype.name for a in (*net.weights, *net.biases, net.params)} == {dtype}
    assert net.params.ndim == 1
    assert net.params.ctypes.data % 64 == 0


def test_dtype_may_be_a_type(dtype):
    assert Network([3, 2], dtype=np.dtype(dtype)).dtype == dtype
    assert Network([3, 2], dtype=np.dtype(dtype).type).dtype == dtype


def test_without_bias_there_are_none(backend, make):
    net = make([3, 4, 2], bias=False, init="normal", backend=backend)
    assert net.biases == ()
    assert len(net.to_vector()) == 3 * 4 + 4 * 2
    assert net.gradient(np.ones((2, 3)), [0, 1]).biases == ()
    before = net.to_vector()
    net.fit(np.ones((6, 3)), [0, 1] * 3, epochs=2, batch_size=2, learning_rate=0.5)
    assert (net.to_vector() != before).all()
    np.testing.assert_allclose(
        net.feedforward(np.zeros((1, 3))), forward_by_hand(net, [[0.0] * 3])[0]
    )


def test_repr_says_what_it_is():
    assert repr(Network([3, 2], loss="cross-entropy", backend="numpy")) == (
        "Network([3, 2], activation='sigmoid', output='softmax', loss='cross-entropy', bias=True, "
        "dtype='float32', backend='numpy')"
    )


# --- Start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init", "weight_std", "bias_std"),
    [
        ("lecun_normal", 1 / np.sqrt(400), 0),
        ("he", np.sqrt(2 / 400), 0),
        ("glorot", np.sqrt(2 / (400 + 300)), 0),
        ("normal", 1, 1),
        ("uniform", 1 / np.sqrt(3), 1 / np.sqrt(3)),
        (0.01, 0.01, 0),
        (2, 2, 0),
    ],
)
def test_the_start_has_the_mean_and_spread_it_says(init, weight_std, bias_std):
    net = Network([400, 300, 500], init=init, seed=5)
    W, b = net.weights[0], net.biases[1]
    assert abs(W.mean()) < 4 * weight_std / np.sqrt(W.size)
    assert W.std() == pytest.approx(weight_std, rel=0.02)
    assert b.std() == pytest.approx(bias_std, rel=0.15)
    if init == "uniform":
        assert 0.99 < np.abs(W).max() <= 1
        assert 0.9 < np.abs(b).max() <= 1
    elif init == "lecun_normal":
        assert net.weights[1].std() == pytest.approx(1 / np.sqrt(300), rel=0.02)


@pytest.mark.parametrize(
    "init", ["lecun_normal", "he", "glorot", "normal", "uniform", 0.3, ["he", 0.3]]
)
def test_the_same_seed_gives_the_same_start_in_every_backend_and_dtype(init, make):
    starts = [
        make(dtype=dtype, backend=backend, init=init).to_vector()
        for backend in ("numba", "numpy")
        for dtype in ("float64", "float32")
    ]
    np.testing.assert_array_equal(starts[0], starts[2])
    np.testing.assert_array_equal(starts[1], starts[3])
    np.testing.assert_array_equal(starts[0].astype(np.float32), starts[1])


@pytest.mark.parametrize(
    ("init", "theirs", "options"),
    [
        ("he", "kaiming_normal_", {"nonlinearity": "relu"}),
        ("glorot", "xavier_uniform_", {}),
    ],
)
def test_starts_are_spread_as_pytorch_s(init, theirs, options):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency, nor of the tests")
    torch.manual_seed(0)
    W = torch.empty(300, 400, dtype=torch.float64)
    getattr(torch.nn.init, theirs)(W, **options)
    V = Network([400, 300, 500], init=init, dtype="float64", seed=5).weights[0]
    assert V.std() == pytest.approx(float(W.std()), rel=0.01)
    if init == "glorot":
        assert abs(V).max() == pytest.approx(float(abs(W).max()), rel=1e-3)


def test_each_layer_has_a_start_of_its_own():
    W, b = np.arange(12.0).reshape(4, 3), [1, 2, 3, 4]
    init = [(W, b), "he", 0.01, (np.ones((2, 5)), None)]
    net = Network([3, 4, 300, 5, 2], init=init, seed=1)
    np.testing.assert_array_equal(net.weights[0], W)
    np.testing.assert_array_equal(net.biases[0], b)
    assert net.weights[1].std() == pytest.approx(np.sqrt(2 / 4), rel=0.1)
    assert net.weights[2].std() == pytest.approx(0.01, rel=0.1)
    assert (net.weights[3] == 1).all()
    assert not any(b.any() for b in net.biases[1:])
    W[:] = 0  # the network has a copy
    assert net.weights[0].any()
    alike = Network([3, 4, 300, 5], init=["lecun_normal"] * 3, seed=1).to_vector()
    np.testing.assert_array_equal(alike, Network([3, 4, 300, 5], seed=1).to_vector())
    kin = {"activation": ["gelu", "tanh"], "output": "relu", "seed": 1}
    alike = Network([3, 4, 300, 5], init=["he", "lecun_normal", "lecun_normal"], **kin)
    np.testing.assert_array_equal(alike.to_vector(), Network([3, 4, 300, 5], **kin).to_vector())
    again = Network([3, 4, 2], init=[(net.weights[0], net.biases[0]), "he"], seed=0)
    np.testing.assert_array_equal(again.biases[0], b)
    without = Network([3, 4], init=[(np.ones((4, 3)), None)], bias=False)
    assert (without.to_vector() == 1).all()


@pytest.mark.parametrize(
    ("init", "error", "message"),
    [
        ("zeros", ValueError, "init must be one of lecun_normal, he, glorot, .* got 'zeros'"),
        (["he", "zeros"], ValueError, r"init\[1\] must be one of .* got 'zeros'"),
        (["he", -1], ValueError, r"init\[1\] must be a positive number"),
        (["he"], ValueError, "an entry for each of the 2 layers; got 1"),
        (b"he", TypeError, r"or a list with .* \(W, b\) for each layer; got b'he' as init"),
        (np.ones((4, 3)), TypeError, r"got array\(.* as init"),
        ([np.ones((4, 3)), "he"], TypeError, r"\(W, b\) for each .* got array\(.* as init\[0\]"),
        ([(np.ones((3, 4)), None), 1], ValueError, r"init\[0\]\[0\] .*\(4, 3\).* got \(3, 4\)"),
        ([(np.ones((4, 3)), [1]), 1], ValueError, r"init\[0\]\[1\] must .*\(4,\).* got \(1,\)"),
        ([(np.full((4, 3), np.nan), None), 1], ValueError, r"init\[0\]\[0\] must be finite"),
        ([(np.full((4, 3), 1e300), None), 1], ValueError, r"init\[0\]\[0\] must be finite"),
        ([("a", None), 1], TypeError, r"init\[0\]\[0\] must hold numbers"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused(init, error, message):
    with pytest.raises(error, match=message):
        Network([3, 4, 2], init=init)


def test_a_network_without_biases_takes_none():
    with pytest.raises(ValueError, match=r"init\[0\]\[1\] must be None: the network has no bi"):
        Network([3, 2], init=[(np.ones((2, 3)), [0, 0])], bias=False)


def test_other_seeds_and_no_seed_give_other_starts(make):
    starts = [make(seed=seed).to_vector() for seed in (1, 2, None, None)]
    assert len({start.tobytes() for start in starts}) == 4


def test_the_bias_does_not_change_the_weights_of_the_start(make):
    with_bias, without = make(init="normal"), make(init="normal", bias=False)
    for W, V in zip(with_bias.weights, without.weights, strict=True):
        np.testing.assert_array_equal(W, V)


# --- Parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES)
def test_weights_and_biases_are_views_that_write_through(sizes, backend, dtype):
    net = Network(sizes, backend=backend, dtype=dtype, seed=0)
    for part in (*net.weights, *net.biases):
        assert np.shares_memory(part, net.params)
        part[...] = 0.5
    assert (net.to_vector() == 0.5).all()
    net.params[:] = 0
    assert not any(part.any() for part in (*net.weights, *net.biases))


def test_what_is_written_into_the_views_is_computed_with(backend, make):
    net = make([2, 1], output="identity", backend=backend)
    net.weights[0][...] = [[3, 4]]
    net.biases[0][0] = 5
    assert net.feedforward([[1, 10]]) == 48


def test_tuples_refuse_what_a_list_would_silently_drop(make):
    net = make()
    with pytest.raises(TypeError):
        net.weights[0] = np.zeros((6, 4))
    with pytest.raises(TypeError):
        net.biases[0] = np.zeros(6)


def test_the_vector_holds_rows_then_biases_layer_by_layer(dtype):
    net = Network([3, 2, 1], dtype=dtype)
    net.from_vector(np.arange(11))
    np.testing.assert_array_equal(net.weights[0], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(net.biases[0], [6, 7])
    np.testing.assert_array_equal(net.weights[1], [[8, 9]])
    np.testing.assert_array_equal(net.biases[1], [10])
    assert net.to_vector().dtype == dtype


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_vector_round_trip(sizes, bias, dtype, rng):
    net = Network(sizes, bias=bias, dtype=dtype)
    v = rng.standard_normal(len(net.to_vector())).astype(dtype)
    net.from_vector(v)
    np.testing.assert_array_equal(net.to_vector(), v)


def test_the_vector_is_a_copy(make):
    net = make()
    before = net.to_vector()
    net.to_vector()[:] = 0
    np.testing.assert_array_equal(net.to_vector(), before)


@crossed(sizes=SIZES, batch=[1, 3, 33], dtype=DTYPES)
def test_padding_stays_zero(sizes, batch, backend, dtype, rng):
    net = Network(sizes, dtype=dtype, backend=backend, init="normal", seed=1)
    X = rng.standard_normal((66, sizes[0]))
    y = rng.random((66, sizes[-1]))
    net.fit(X, y, epochs=1, batch_size=batch, learning_rate=0.1)
    net.update_mini_batch(X, y, 0.1)
    net.from_vector(net.to_vector())
    for part in (*net.weights, *net.biases):
        assert part.all()
        part[...] = 0
    assert not net.params.any()


COPIES = {
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda net, protocol=protocol: pickle.loads(
            pickle.dumps(net, protocol)
        )
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_stand_on_their_own(kind, backend, dtype, rng):
    net = Network([4, 5, 3], dtype=dtype, backend=backend, activation="tanh", bias=False, seed=2)
    net.fit(rng.random((8, 4)), [0, 1] * 4, epochs=1, batch_size=2, learning_rate=0.1)
    twin = COPIES[kind](net)
    assert (twin.config, twin.backend) == (net.config, net.backend)
    assert state(twin) == state(net)
    X, y = rng.random((8, 4)), [0, 1, 2, 1] * 2
    before = net.to_vector()
    twin.fit(X, y, epochs=2, batch_size=3, learning_rate=0.1)
    np.testing.assert_array_equal(net.to_vector(), before)
    net.fit(X, y, epochs=2, batch_size=3, learning_rate=0.1)
    assert state(twin) == state(net)
    twin.weights[0][...] = 7
    assert (twin.to_vector()[:20] == 7).all()
    assert np.shares_memory(twin.weights[1], twin.params)


def test_a_copy_holds_what_was_written_even_if_not_finite(make):
    net = make()
    net.weights[0][0, 0] = np.nan
    np.testing.assert_array_equal(copy.deepcopy(net).to_vector(), net.to_vector())


# --- Forward --------------------------------------------------------------------------------------


@crossed(sizes=SIZES, batch=[1, 5, 130, 1100], dtype=DTYPES)
def test_feedforward_is_the_equation(sizes, batch, backend, dtype, rng, assert_close):
    net = Network(sizes, activation="tanh", dtype=dtype, backend=backend, seed=1)
    X = rng.standard_normal((batch, sizes[0])).astype(dtype)
    out = net.feedforward(X)
    assert out.dtype == dtype
    assert_close(out, forward_by_hand(net, X)[0], dtype=dtype)


@crossed(activation=HIDDEN, loss_output=OUTPUTS, dtype=DTYPES)
def test_loss_is_the_equation(activation, loss_output, backend, dtype, rng, assert_close):
    loss, output = loss_output
    net = Network([4, 6, 3], activation, output, loss, dtype=dtype, backend=backend, seed=1)
    X, y = rng.random((7, 4)).astype(dtype), rng.random((7, 3)).astype(dtype)
    assert isinstance(net.loss(X, y), float)
    assert_close(net.loss(X, y), loss_by_hand(net, X, y), dtype=dtype)
    assert_close(net.gradient(X, y).loss, loss_by_hand(net, X, y), dtype=dtype)


def test_one_flat_sample_gives_a_flat_answer(backend, rng, make):
    net = make(backend=backend)
    X = rng.random((3, 4))
    out, classes = net.feedforward(X), net.predict(X)
    for i, x in enumerate(X):
        assert net.feedforward(x).shape == (3,)
        np.testing.assert_allclose(net.feedforward(x), out[i], rtol=1e-12)
        assert net.feedforward(list(x)).shape == (3,)
        assert net.predict(x) == classes[i]
        assert np.ndim(net.predict(x)) == 0


@crossed(
    sizes=[(1, 1), (4, 30, 3), (37, 13, 2), (99, 129), (784, 300, 10)],
    density=[0, 0.05, 0.3, 0.7, 1], dtype=DTYPES,
)  # fmt: skip
def test_one_sample_with_zeros(sizes, density, backend, dtype, rng, assert_close):
    """Zeros are skipped where there are enough: as floats, or as bytes to be scaled."""
    net = Network(sizes, activation="tanh", dtype=dtype, backend=backend, input_scale=1 / 64)
    x = (rng.integers(1, 256, sizes[0]) * (rng.random(sizes[0]) < density)).astype(np.uint8)
    expected = forward_by_hand(net, x.astype(dtype)[None])[0][0]
    for kind in ("uint8", dtype):
        assert_close(net.feedforward(x.astype(kind)), expected, dtype=dtype)
        assert_close(net.feedforward(x.astype(kind)[None])[0], expected, dtype=dtype)


@pytest.mark.parametrize("place", [0, 31, 63, 64, 98])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_sample_with_zeros_must_be_finite(value, place, backend):
    x = np.zeros(99, np.float32)
    x[place] = value
    with pytest.raises(ValueError, match=rf"got .* at X\[0, {place}\]"):
        Network([99, 30, 3], backend=backend, seed=0).feedforward(x)


def test_zeros_of_one_sample_are_skipped(rng):
    """Weights of inputs that are zero are not looked at."""
    net = Network([99, 30, 3], seed=0)
    x = np.zeros(99, np.float32)
    x[::10] = 1
    expected = net.feedforward(x)
    net.weights[0][:, 1] = np.inf
    np.testing.assert_array_equal(net.feedforward(x), expected)


def test_a_single_input_may_be_flat_too(backend, make):
    net = make([1, 2], backend=backend)
    assert net.feedforward([3.0]).shape == (2,)
    assert net.feedforward([[3.0], [4.0]]).shape == (2, 2)


def test_predictions_and_counts_agree(backend, dtype, rng):
    net = Network([4, 5, 3], init="normal", dtype=dtype, backend=backend, seed=3)
    X, labels = rng.standard_normal((200, 4)), rng.integers(0, 3, 200)
    predicted = net.predict(X)
    np.testing.assert_array_equal(predicted, net.feedforward(X).argmax(axis=1))
    right = int((predicted == labels).sum())
    assert 0 < right < 200
    assert net.evaluate(X, labels) == right
    assert isinstance(net.evaluate(X, labels), int)
    assert net.accuracy(X, labels) == right / 200
    assert net.accuracy(X.tolist(), one_hot(labels, 3)) == right / 200


@pytest.mark.parametrize("labels", [True, False], ids=["labels", "targets"])
def test_evaluation_in_parts_does_not_show(labels, backend, rng, monkeypatch, assert_close, make):
    net = make(backend=backend)
    X, y = rng.random((300, 4)), rng.integers(0, 3, 300) if labels else rng.random((300, 3))
    found = []
    for at_once in (2**30, 1):  # all; 128 + 128 + 44
        monkeypatch.setattr(predictor, "WORK", at_once)
        found.append([net.loss(X, y), net.evaluate(X, y) if labels else 0])
    assert_close(*found)


def test_a_tie_goes_to_the_first_class(backend, make):
    net = make([2, 3], backend=backend)
    net.params[:] = 0
    assert net.predict([1.0, 1.0]) == 0
    assert net.evaluate(np.ones((3, 2)), [0, 1, 2]) == 1


@pytest.mark.parametrize("batch", [1, 3])
def test_bytes_scaled_on_the_fly_are_the_floats(batch, backend, dtype, rng, assert_close):
    pixels = rng.integers(0, 256, (12, 20), dtype=np.uint8)
    pixels[rng.random(pixels.shape) < 0.6] = 0
    floats, labels = pixels.astype(dtype) / 255, rng.integers(0, 3, 12)
    options = {"loss": "cross-entropy", "dtype": dtype, "backend": backend, "seed": 1}
    scaled, plain = (
        Network([20, 5, 3], input_scale=1 / 255, **options),
        Network([20, 5, 3], **options),
    )
    kind = "contraction"
    assert_close(scaled.feedforward(pixels), plain.feedforward(floats), kind)
    assert_close(scaled.loss(pixels, labels), plain.loss(floats, labels), kind, dtype=dtype)
    assert_close(
        scaled.gradient(pixels, labels).to_vector(),
        plain.gradient(floats, labels).to_vector(),
        kind,
    )
    for net, X in ((scaled, pixels), (plain, floats)):
        net.fit(X, labels, epochs=1, batch_size=batch, learning_rate=0.5)
    assert_close(scaled.to_vector(), plain.to_vector(), kind)


# --- Gradient -------------------------------------------------------------------------------------


def central_differences(net, X, y, step=6e-6):
    v = net.to_vector()
    slopes = np.empty_like(v)
    for i in range(len(v)):
        losses = []
        for sign in (1, -1):
            moved = v.copy()
            moved[i] += sign * step
            net.from_vector(moved)
            losses.append(net.loss(X, y))
        slopes[i] = (losses[0] - losses[1]) / (2 * step)
    net.from_vector(v)
    return slopes


@crossed(activation=HIDDEN, loss_output=OUTPUTS, bias=[True, False])
def test_three_routes_to_a_gradient_agree(
    activation, loss_output, bias, rng, inputs_clear_of_kinks, assert_close, make
):
    """Kernels, reference, and differences of the reference's loss."""
    loss, output = loss_output
    nets = {
        backend: make(
            [3, 4, 3, 2], activation=activation, output=output, loss=loss, bias=bias,
            backend=backend, input_scale=0.5,
        )
        for backend in ("numba", "numpy")
    }  # fmt: skip
    v = 0.6 * rng.standard_normal(len(nets["numpy"].to_vector()))
    for net in nets.values():
        net.from_vector(v)
    X, y = inputs_clear_of_kinks(nets["numpy"], 3), rng.random((3, 2))
    kernels, reference = (nets[name].gradient(X, y).to_vector() for name in ("numba", "numpy"))
    numerical = central_differences(nets["numpy"], X, y)
    assert np.abs(reference).max() > 1e-4
    assert_close(kernels, reference, "contraction")
    assert_close(reference, numerical, "differences")
    assert_close(kernels, numerical, "differences")


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    batch=st.integers(1, 40),
    activation=st.sampled_from(["sigmoid", "tanh", "identity"]),  # no kinks
    loss_output=st.sampled_from([pair for pair in OUTPUTS if pair[1] != "relu"]),
    bias=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 9),
)
def test_backends_agree_for_any_sizes(
    assert_close, sizes, batch, activation, loss_output, bias, dtype, seed
):
    loss, output = loss_output
    assume(sizes[-1] > 1 or output != "softmax")
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((batch, sizes[0])), rng.random((batch, sizes[-1]))
    results = []
    for backend in ("numba", "numpy"):
        net = Network(sizes, activation, output, loss, bias, dtype, backend, init=0.4, seed=seed)
        gradient = net.gradient(X, y)
        net.update_mini_batch(X, y, 0.1)
        results.append((gradient.to_vector(), gradient.loss, net.to_vector(), net.feedforward(X)))
    for a, b in zip(*results, strict=True):
        assert_close(a, b, dtype=dtype)


def test_a_gradient_is_shaped_as_the_network(backend, dtype):
    net = Network([4, 5, 3], dtype=dtype, backend=backend, seed=0)
    gradient = net.gradient(np.ones((2, 4)), [0, 1])
    assert isinstance(gradient, fastbp.Gradient)
    assert isinstance(gradient.loss, float)
    for ours, theirs in ((gradient.weights, net.weights), (gradient.biases, net.biases)):
        assert isinstance(ours, tuple)
        assert [(g.shape, g.dtype) for g in ours] == [(p.shape, p.dtype) for p in theirs]
    v = gradient.to_vector()
    assert v.shape == net.to_vector().shape
    np.testing.assert_array_equal(v[:20].reshape(5, 4), gradient.weights[0])
    np.testing.assert_array_equal(v[20:25], gradient.biases[0])
    np.testing.assert_array_equal(v[-3:], gradient.biases[1])


def outcome(function, *args):
    """What a call returns or raises, to compare."""
    try:
        gradient = function(*args)
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return gradient.to_vector().tobytes(), gradient.loss


@crossed(loss_output=OUTPUTS, batch=[1, 200], dtype=DTYPES)
def test_plain_arrays_have_the_gradient_and_the_messages_of_any_others(
    loss_output, batch, backend, dtype, rng
):
    """Which take more checks: of NaN, of the loss's domain, of classes, of shapes."""
    loss, output = loss_output
    net = Network([5, 4, 3], "tanh", output, loss, dtype=dtype, backend=backend, seed=0)
    X = rng.standard_normal((batch, 5)).astype(dtype)
    y = rng.uniform(0.1, 0.9, (batch, 3)).astype(dtype)
    changed = []
    for place, value in ((0, -1), (-1, np.nan), (-1, np.inf), (-1, -1), (0, 0), (0, 1)):
        y_here, X_here = y.copy(), X.copy()
        y_here[place, place] = X_here[place, place] = value
        changed += [(X, y_here), (X_here, y)]
    one_hot, flags = np.eye(3, dtype=dtype)[rng.integers(0, 3, batch)], np.ones_like(y)
    shapes = [(X[:, :4].copy(), y), (X, y[:, :2].copy()), (X[:0], y[:0]), (X[0], y), (X, y[0])]
    fits = [(X, y), (np.asfortranarray(X), y), (X, np.asfortranarray(y)), (X, one_hot), (X, flags)]
    for rows, values in (*fits, *changed, *shapes):
        found = outcome(net.gradient, rows, values)
        # A sub-class takes all of the checks.
        others = (np.array(a).view(type("Other", (np.ndarray,), {})) for a in (rows, values))
        assert found == outcome(net.gradient, *others), (rows, values)


def test_a_gradient_leaves_the_network_alone(backend, make):
    net = make(backend=backend)
    before = state(net)
    net.gradient(np.ones((2, 4)), [0, 1])
    net.backprop(np.ones(4), 1)
    assert state(net) == before


def test_a_batch_gradient_is_the_mean_of_its_samples(backend, rng, assert_close, make):
    net = make(backend=backend)
    X, y = rng.random((6, 4)), rng.random((6, 3))
    singles = [net.gradient(X[i : i + 1], y[i : i + 1]).to_vector() for i in range(6)]
    assert_close(net.gradient(X, y).to_vector(), np.mean(singles, axis=0))


@pytest.mark.parametrize("shape", [(4,), (1, 4)])
@pytest.mark.parametrize("target", [2, np.array([0.2, 0.5, 0.1])], ids=["label", "targets"])
def test_backprop_is_the_gradient_of_one_sample(target, shape, backend, rng, make):
    net = make(backend=backend)
    x = rng.random(shape)
    nabla_b, nabla_w = net.backprop(x, target)
    gradient = net.gradient(x.reshape(1, 4), np.array([target]))
    for ours, expected in ((nabla_b, gradient.biases), (nabla_w, gradient.weights)):
        assert isinstance(ours, tuple)
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@crossed(loss_output=OUTPUTS, batch=[1, 2, 33], bias=[True, False], dtype=DTYPES)
def test_a_step_goes_against_the_gradient(
    loss_output, bias, batch, backend, dtype, rng, assert_close
):
    loss, output = loss_output
    net = Network([4, 6, 5, 3], "tanh", output, loss, bias, dtype, backend, seed=1)
    X, y = rng.random((batch, 4)), rng.random((batch, 3))
    before, gradient = net.to_vector(), net.gradient(X, y).to_vector()
    assert net.update_mini_batch(X, y, 0.5) is None
    assert_close((before - net.to_vector()) / 0.5, gradient, extra=4 * np.finfo(dtype).eps)


# --- Targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_output", OUTPUTS, ids="-".join)
def test_labels_one_hot_rows_and_real_targets_agree(loss_output, backend, rng, assert_close, make):
    loss, output = loss_output
    net = make(loss=loss, output=output, backend=backend)
    X, labels = rng.random((6, 4)), rng.integers(0, 3, 6)
    real = one_hot(labels, 3)
    real[0] *= 1 - 1e-14  # no longer one-hot
    results = []
    for y in (labels, labels.tolist(), one_hot(labels, 3), real):
        trained = copy.deepcopy(net)
        trained.fit(X, y, epochs=1, batch_size=2, learning_rate=0.1)
        gradient = net.gradient(X, y).to_vector()
        results.append(np.concatenate([[net.loss(X, y)], gradient, trained.to_vector()]))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    assert_close(results[0], results[3])


@pytest.mark.parametrize("kind", ["i1", "u1", ">i4", "u8", "i8"])
def test_labels_of_any_integer_type(kind, backend, rng, make):
    net = make(backend=backend)
    X, labels = rng.random((6, 4)), np.array([0, 2, 1, 0, 2, 2])
    assert net.loss(X, labels.astype(kind)) == net.loss(X, labels)
    wide = np.zeros(12, kind)
    wide[::2] = labels
    wide.flags.writeable = False
    assert net.loss(X, wide[::2]) == net.loss(X, labels)


def test_a_single_output_takes_flat_targets(backend, make):
    net = make([2, 1], backend=backend)
    X, y = np.eye(2), np.array([0.25, 1.0])
    assert net.loss(X, y) == net.loss(X, y[:, None])
    assert net.loss(X, [0, 1]) == net.loss(X, [[0.0], [1.0]])
    np.testing.assert_array_equal(net.backprop(X[0], 0.25)[0], net.backprop(X[0], [0.25])[0])
    history = net.fit(X, y, epochs=1, batch_size=1, learning_rate=0.1)
    assert np.isnan(history.accuracy).all()


# --- What is accepted as input --------------------------------------------------------------------


def _strided(X, tmp_path):
    wide = np.full((2 * len(X), X.shape[1]), 9.0)
    wide[::2] = X
    return wide[::2]


def _memory_mapped(X, tmp_path):
    X.astype(np.float32).tofile(tmp_path / "X")
    return np.memmap(tmp_path / "X", np.float32, "r", shape=X.shape)


def _read_only(X, tmp_path):
    X = X.copy()
    X.flags.writeable = False
    return X


ACCEPTED = {
    "read-only": _read_only,
    "memory-mapped": _memory_mapped,
    "Fortran-ordered": lambda X, tmp_path: np.asfortranarray(X),
    "every second row": _strided,
    "columns reversed": lambda X, tmp_path: X[:, ::-1].copy()[:, ::-1],
    "rows repeated by stride 0": lambda X, tmp_path: np.broadcast_to(X[:1], X.shape),
    "nested lists": lambda X, tmp_path: X.tolist(),
    **{
        f"dtype {kind}": lambda X, tmp_path, kind=kind: X.astype(kind)
        for kind in (">f4", ">f8", "f2", "f4", "g", "i8", ">i2", "u1", "u8", "?")
    },
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_any_array_of_numbers_gives_the_same_and_is_left_alone(
    kind, backend, dtype, rng, tmp_path, assert_close
):
    """All numbers are 0 or 1 here, which every dtype holds."""
    plain = (rng.random((6, 4)) < 0.5).astype(np.float64)
    X = ACCEPTED[kind](plain, tmp_path)
    plain = np.array(X, np.float64)
    before = np.array(X).tobytes(), getattr(X, "flags", None) and X.flags.writeable
    labels = np.array([0, 1, 2, 2, 1, 0])
    labels.flags.writeable = False
    results = []
    for inputs in (X, plain):
        net = Network([4, 5, 3], dtype=dtype, backend=backend, seed=1)
        found = [
            net.feedforward(inputs), net.feedforward(inputs[1]), net.loss(inputs, labels),
            net.evaluate(inputs, labels), net.gradient(inputs, labels).to_vector(),
            *(part.ravel() for parts in net.backprop(inputs[2], 1) for part in parts),
        ]  # fmt: skip
        net.update_mini_batch(inputs, labels, 0.5)
        history = net.fit(
            inputs, labels, epochs=1, batch_size=2, learning_rate=0.5,
            validation_data=(inputs, labels),
        )  # fmt: skip
        results.append([*found, net.to_vector(), history.loss, history.val_loss])
    for ours, expected in zip(*results, strict=True):
        assert_close(ours, expected, dtype=dtype)
    assert (np.array(X).tobytes(), getattr(X, "flags", None) and X.flags.writeable) == before


@pytest.mark.parametrize(
    "change", [np.asfortranarray, lambda y: y[::-1].copy()[::-1], lambda y: y.astype(">f2")]
)
def test_targets_of_any_layout_are_accepted_and_left_alone(change, backend, rng, make):
    net = make(backend=backend)
    X, y = rng.random((6, 4)), rng.integers(0, 5, (6, 3)) / 4
    changed = change(y)
    changed.flags.writeable = False
    before = changed.tobytes()
    assert net.loss(X, changed) == net.loss(X, y)
    net.fit(X, changed, epochs=1, batch_size=2, learning_rate=0.1)
    assert changed.tobytes() == before


# --- The words of the book ------------------------------------------------------------------------


def test_sgd_is_fit_and_logs_as_the_book_prints(backend, rng, caplog, make):
    X, y = rng.random((20, 4)), rng.integers(0, 3, 20)
    book, plain = make(backend=backend), make(backend=backend)
    right = []

    class Count:
        def on_epoch_end(self, net, history):
            right.append(net.evaluate(X, y))

    with caplog.at_level(logging.INFO, logger="fastbp"):
        history = book.SGD((X, y), 3, 4, 0.5, test_data=(X, y))
    plain.fit(X, y, epochs=3, batch_size=4, learning_rate=0.5, callbacks=[Count()])
    assert state(book) == state(plain)
    assert isinstance(history, fastbp.History)
    lines = [f"Epoch {epoch}: {n} / 20" for epoch, n in enumerate(right)]
    assert [record.getMessage() for record in caplog.records] == lines
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_sgd_without_test_data_is_silent(rng, caplog, make):
    with caplog.at_level(logging.INFO, logger="fastbp"):
        make().SGD((rng.random((4, 4)), [0, 1, 2, 0]), 2, 2, 0.5)
    assert not caplog.records


# --- Files ----------------------------------------------------------------------------------------


@crossed(sizes=[[5, 1], [3, 4, 2], [17, 8, 9, 3]], bias=[True, False], dtype=DTYPES)
def test_save_and_load_give_the_same_network(
    sizes, bias, dtype, backend, tmp_path, rng, assert_close
):
    net = Network(
        sizes, "tanh", "softmax" if sizes[-1] > 1 else "sigmoid", "cross-entropy", bias, dtype,
        input_scale=1 / 3, init="normal", seed=1,
    )  # fmt: skip
    path = tmp_path / "net.safetensors"
    net.save(path)
    loaded = fastbp.load(str(path), backend=backend)
    assert loaded.config == net.config
    assert loaded.backend == backend
    np.testing.assert_array_equal(loaded.to_vector(), net.to_vector())
    assert np.shares_memory(loaded.weights[0], loaded.params)
    X = rng.random((3, sizes[0]))
    assert_close(loaded.feedforward(X), net.feedforward(X))


def rewrite(path, change):
    """Write the file again with another header and body; change(header, config, body)."""
    blob = path.read_bytes()
    end = 8 + struct.unpack("<Q", blob[:8])[0]
    header, body = json.loads(blob[8:end]), bytearray(blob[end:])
    config = json.loads(header["__metadata__"]["config"])
    change(header, config, body)
    header["__metadata__"]["config"] = json.dumps(config)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def _nan(header, config, body):
    body[:4] = struct.pack("<f", np.nan)


def _rename(header, config, body):
    header["layers.0.wight"] = header.pop("layers.0.weight")


def _transpose(header, config, body):
    header["layers.0.weight"]["shape"].reverse()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, c, b: c.update(sizes=[3, 2, 2]), r"layers\.0\.bias must have shape \(2,\)"),
        (lambda h, c, b: c.update(sizes=[10**6] * 9), r"must have shape \(1000000,\)"),
        (lambda h, c, b: c.update(sizes=[10**40] * 9), "must have shape"),
        (lambda h, c, b: c.update(sizes=[3]), "sizes must hold .* at least"),
        (lambda h, c, b: c.update(sizes="3,4,2"), "sizes"),
        (lambda h, c, b: c.update(bias=False), r"bias must have shape None"),
        (lambda h, c, b: c.update(bias="yes"), "bias must be True or False"),
        (lambda h, c, b: c.update(dtype="float64"), "must hold finite float64"),
        (lambda h, c, b: c.update(dtype="object"), "dtype must be one of"),
        (lambda h, c, b: c.update(activation="gauss"), "activation must be one of"),
        (lambda h, c, b: c.update(activation=["gauss"]), r"activation\[0\] must be one of"),
        (lambda h, c, b: c.update(output="relu", loss="cross-entropy"), "output"),
        (lambda h, c, b: c.update(input_scale=-1), "input_scale must be"),
        (lambda h, c, b: c.update(backend="numpy"), "unexpected keyword"),
        (lambda h, c, b: c.pop("loss"), "missing.*loss"),
        (_nan, r"must hold finite float32 values"),
        (_rename, r"array layers\.0\.w.*ght must have shape"),
        (_transpose, r"layers\.0\.weight must have shape \(4, 3\).*got \(3, 4\)"),
    ],
)
def test_a_file_that_is_no_network_is_refused_before_it_is_built(change, message, tmp_path):
    path = tmp_path / "net.safetensors"
    Network([3, 4, 2], seed=0).save(path)
    rewrite(path, change)
    with pytest.raises(fastbp.ModelFileError, match=message) as caught:
        fastbp.load(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_what_is_loaded_or_copied_draws_no_weights(tmp_path, monkeypatch):
    net = Network([3, 4, 2], seed=0)
    net.save(tmp_path / "net")

    def draw(*args):
        raise AssertionError("weights were drawn")

    for name in config.INITS:
        monkeypatch.setitem(config.INITS, name, draw)
    with pytest.raises(AssertionError, match="drawn"):
        Network([3, 4, 2])
    found = [fastbp.load(tmp_path / "net"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for other in found:
        np.testing.assert_array_equal(other.to_vector(), net.to_vector())


@pytest.mark.parametrize("content", [b"", b"no model", bytes(100)], ids=["empty", "text", "zeros"])
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(fastbp.ModelFileError, match=r"is empty|damaged, or not a safetensors"):
        fastbp.load(tmp_path / "x")


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    Network([3, 4, 2]).save(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(fastbp.ModelFileError):
        fastbp.load(path)


def test_missing_files_and_folders_are_named(tmp_path, make):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fastbp.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make().save(tmp_path / "nowhere" / "net.safetensors")


def test_an_unknown_backend_is_named_before_the_file_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"backend must be .*'torch'"):
        fastbp.load(tmp_path / "nowhere", backend="torch")


# --- Bad input ------------------------------------------------------------------------------------


def refuses(net, call, error, *parts):
    """Check that the call raises this error, says these parts, and changes nothing."""
    before, message = state(net), "no error"
    try:
        call()
    except Exception as found:
        message = f"{type(found).__name__}: {found}"
    for part in (f"{error.__name__}: ", *parts):
        assert part in message, f"{part!r} is missing from {message!r}; all are {parts}"
    assert state(net) == before


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"sizes": 3}, TypeError, ("sizes must be a sequence", "3")),
        ({"sizes": [3]}, ValueError, ("sizes must hold", "at least one layer", "[3]")),
        ({"sizes": []}, ValueError, ("sizes must hold", "at least one layer", "[]")),
        ({"sizes": [3, 0]}, ValueError, ("sizes[1] must be a positive integer", "0")),
        ({"sizes": [-3, 2]}, ValueError, ("sizes[0] must be a positive integer", "-3")),
        ({"sizes": [3, 2.0]}, TypeError, ("sizes[1] must be a positive integer", "2.0")),
        ({"sizes": [3, True]}, TypeError, ("sizes[1] must be a positive integer", "True")),
        ({"sizes": "32"}, TypeError, ("sizes[0] must be a positive integer", "'3'")),
        ({"sizes": [[3], 2]}, TypeError, ("sizes[0] must be a positive integer", "[3]")),
        ({"sizes": None}, TypeError, ("sizes must be a sequence", "None")),
        ({"activation": "gauss"}, ValueError, ("activation must be", "sigmoid, tanh", "'gauss'")),
        ({"activation": "softmax"}, ValueError, ("activation must be", "relu", "'softmax'")),
        ({"activation": None}, ValueError, ("activation must be", "None")),
        ({"activation": np.ones(3)}, ValueError, ("activation must be", "array")),
        ({"output": "gauss"}, ValueError, ("output must be", "softmax", "'gauss'")),
        ({"output": ""}, ValueError, ("output must be", "''")),
        (
            {"output": "tanh", "loss": "cross-entropy"}, ValueError,
            ("output", "with loss 'cross-entropy'", "softmax, sigmoid", "'tanh'"),
        ),
        ({"loss": "hinge"}, ValueError, ("loss must be", "quadratic, absolute", "'hinge'")),
        ({"bias": "no"}, TypeError, ("bias must be True or False", "'no'")),
        ({"bias": 1}, TypeError, ("bias must be True or False", "1")),
        ({"dtype": "float16"}, ValueError, ("dtype must be", "float32, float64", "'float16'")),
        ({"dtype": int}, ValueError, ("dtype must be", "float32, float64", "'int64'")),
        ({"dtype": None}, ValueError, ("dtype must be", "None")),
        ({"backend": "torch"}, ValueError, ("backend must be", "numba, numpy", "'torch'")),
        ({"backend": ["numba"]}, TypeError, ("backend must be", "['numba']")),
        ({"init": "zeros"}, ValueError, ("init must be", "normal, uniform", "'zeros'")),
        ({"init": "or a number"}, ValueError, ("init must be", "'or a number'")),
        ({"init": 0}, ValueError, ("init must be a positive number", "0")),
        ({"init": np.nan}, ValueError, ("init must be a positive number", "nan")),
        ({"init": 1e39}, ValueError, ("init must be", "finite in float32", "1e+39")),
        ({"init": b"he"}, TypeError, ("init must be one of", "a number", "got b'he' as init")),
        ({"init": True}, TypeError, ("init must be one of", "a number", "got True as init")),
        ({"input_scale": 0}, ValueError, ("input_scale must be a positive number", "0")),
        ({"input_scale": -1.0}, ValueError, ("input_scale must be a positive number", "-1.0")),
        ({"input_scale": np.inf}, ValueError, ("input_scale must be", "inf")),
        ({"input_scale": 1e-50}, ValueError, ("input_scale must be", "1e-50")),
        ({"input_scale": 10**400}, ValueError, ("input_scale must be", "float32")),
        ({"input_scale": "1/255"}, TypeError, ("input_scale must be", "'1/255'")),
        ({"seed": -1}, ValueError, ("seed must be a non-negative integer", "-1")),
        ({"seed": 1.5}, ValueError, ("seed must be a non-negative integer", "1.5")),
        ({"seed": "1"}, ValueError, ("seed must be a non-negative integer", "'1'")),
    ],
)  # fmt: skip
def test_the_constructor_refuses(options, error, parts):
    with pytest.raises(error) as caught:
        Network(**{"sizes": [3, 2], **options})
    assert type(caught.value) is error
    assert all(part in str(caught.value) for part in parts), str(caught.value)


GOOD_X = np.arange(24.0).reshape(6, 4) / 24
GOOD_Y = np.array([0, 1, 2, 0, 1, 2])
FIT = {"epochs": 1, "batch_size": 2, "learning_rate": 0.1}


def _fit(net, X=GOOD_X, y=GOOD_Y, **options):
    return net.fit(X, y, **{**FIT, **options})


def _validated_by(net, X, y):
    return _fit(net, validation_data=(X, y))


def _sgd(net, X, y):
    return net.SGD((X, y), 1, 2, 0.1)


def _sgd_tested_by(net, X, y):
    return net.SGD((GOOD_X, GOOD_Y), 1, 2, 0.1, test_data=(X, y))


# Each call that takes samples: what it calls them, what it calls their targets, and the call.
CALLS_WITH_X = {
    "feedforward": ("X", None, lambda net, X, y: net.feedforward(X)),
    "predict": ("X", None, lambda net, X, y: net.predict(X)),
    "loss": ("X", "y", Network.loss),
    "accuracy": ("X", "labels", Network.accuracy),
    "evaluate": ("X", "labels", Network.evaluate),
    "gradient": ("X", "y", Network.gradient),
    "update_mini_batch": ("X", "y", lambda net, X, y: net.update_mini_batch(X, y, 0.1)),
    "fit": ("X", "y", _fit),
    "validation_data": ("validation_data[0]", "validation_data[1]", _validated_by),
    "SGD": ("training_data[0]", "training_data[1]", _sgd),
    "test_data": ("test_data[0]", "test_data[1]", _sgd_tested_by),
}


def _with(value, dtype=np.float64, at=(2, 1)):
    X = GOOD_X.astype(dtype)
    X[at] = value
    return X


BAD_SAMPLES = [
    (np.ones((6, 3)), ValueError, (" must be (batch, 4)", "(6, 3)")),
    (np.ones((6, 4, 1)), ValueError, (" must be (batch, 4)", "(6, 4, 1)")),
    (np.ones((4, 1)), ValueError, (" must be (batch, 4)", "column vector (4, 1)", ".T")),
    (np.ones(5), ValueError, (" must be (batch, 4)", "(5,)")),
    (np.float64(1), ValueError, (" must be (batch, 4)", "()")),
    ([], ValueError, (" must be (batch, 4)", "(0,)")),
    (np.ones((0, 4)), ValueError, (" must hold at least one sample", "(0, 4)")),
    (_with(np.nan), ValueError, (" must be finite", "nan at ", "[2, 1]")),
    (_with(np.inf), ValueError, (" must be finite", "inf at ", "[2, 1]")),
    (_with(-np.inf, "f4"), ValueError, (" must be finite", "-inf at ", "[2, 1]")),
    (_with(np.nan, "f2"), ValueError, (" must be finite", "nan at ", "[2, 1]")),
    (_with(np.nan, ">f8"), ValueError, (" must be finite", "nan at ", "[2, 1]")),
    ([[1, 2, 3, 4], [1, 2]], ValueError, (" must be a rectangular array", "inhomogeneous")),
    (np.full((6, 4), "1", object), TypeError, (" must hold numbers", "'1' at ", "[0, 0]")),
    (GOOD_X.astype(str), TypeError, (" must hold numbers", "<U")),
    (GOOD_X.astype(complex), TypeError, (" must hold numbers", "complex128")),
    (GOOD_X.astype("M8[s]"), TypeError, (" must hold numbers", "datetime64")),
    (None, TypeError, (" must hold numbers", "None")),
]


@pytest.mark.parametrize("call", CALLS_WITH_X)
def test_bad_samples_are_refused(call, backend, make):
    name, _, method = CALLS_WITH_X[call]
    net = make(backend=backend)
    for X, error, parts in BAD_SAMPLES:
        refuses(net, partial(method, net, X, GOOD_Y), error, name, *parts)


@pytest.mark.parametrize("zeros", [0.0, 0.9])
def test_the_first_bad_number_of_many_samples_is_named(zeros, backend, make):
    """On zero-skipping paths, too, which look for such numbers on their way."""
    X = np.ones((60, 40)) * (np.random.default_rng(1).random((60, 40)) >= zeros)
    X[[41, 50], 7] = np.inf
    net = make([40, 3], backend=backend)
    y = np.zeros(60, int)
    call = partial(net.fit, X, y, epochs=1, batch_size=1, learning_rate=0.1)
    refuses(net, call, ValueError, "X must be finite", "inf at X[41, 7]")


BAD_TARGETS = [
    ([0, 1], ValueError, (" must have one entry per sample, 6", "(2,)")),
    (np.ones((5, 3)), ValueError, (" must have one entry per sample, 6", "(5, 3)")),
    (1, ValueError, (" must have one entry per sample, 6", "()")),
    ([], ValueError, (" must have one entry per sample, 6", "(0,)")),
    (np.ones((6, 2)), ValueError, (" must be (6,) integer labels or (6, 3)", "(6, 2)")),
    (GOOD_Y[:, None], ValueError, (" must be (6,) integer labels or (6, 3)", "(6, 1)")),
    ([0, 1, 2, 3, 0, 0], ValueError, (" must be labels from 0 to 2", "3 at ", "[3]")),
    ([0, 1, 2, 0, -1, 0], ValueError, (" must be labels from 0 to 2", "-1 at ", "[4]")),
    (GOOD_Y.astype(float), TypeError, (" must be integer labels", "float64")),
    (GOOD_Y.astype(bool), TypeError, (" must be integer labels", "bool")),
    (np.full((6, 3), np.nan), ValueError, (" must be finite", "nan at ", "[0, 0]")),
    (np.full(6, "1", object), TypeError, (" must hold numbers", "'1' at ", "[0]")),
    (["a"] * 6, TypeError, (" must hold numbers", "<U1")),
    (GOOD_Y * 1j, TypeError, (" must hold numbers", "complex128")),
    ([[1], [1, 2], 0, 0, 0, 0], ValueError, (" must be a rectangular array", "inhomogeneous")),
    (None, TypeError, (" must hold numbers", "None")),
]


@pytest.mark.parametrize("call", [name for name, (_, y, _) in CALLS_WITH_X.items() if y])
def test_bad_targets_are_refused(call, backend, make):
    _, name, method = CALLS_WITH_X[call]
    net = make(backend=backend)
    for y, error, parts in BAD_TARGETS:
        if y is None and call == "fit":
            parts = (" is missing: only an iterable of chunks",)
        refuses(net, partial(method, net, GOOD_X, y), error, name, *parts)


@pytest.mark.parametrize("call", ["accuracy", "evaluate", "test_data"])
def test_counting_needs_classes(call, make):
    _, name, method = CALLS_WITH_X[call]
    net = make()
    parts = f"{name} must be integers or one-hot rows", "(6, 3)"
    refuses(net, lambda: method(net, GOOD_X, np.full((6, 3), 0.5)), ValueError, *parts)


@pytest.mark.parametrize("call", [name for name, (_, y, _) in CALLS_WITH_X.items() if y])
def test_what_float32_cannot_hold_is_refused(call, backend, make):
    x_name, y_name, method = CALLS_WITH_X[call]
    net = make(dtype="float32", backend=backend)
    huge = f"{x_name} must be finite, at most 3.4e+38", f"1e+300 at {x_name}[2, 1]"
    refuses(net, lambda: method(net, _with(1e300), GOOD_Y), ValueError, *huge)
    scaled = make(dtype="float32", backend=backend, input_scale=1e10)
    parts = f"{x_name} must be finite, at most 3.4e+28", f"1e+35 at {x_name}[2, 1]"
    refuses(scaled, lambda: method(scaled, _with(1e35, "f4"), GOOD_Y), ValueError, *parts)
    targets = np.full((6, 3), -1e300)
    parts = f"{y_name} must be finite", f"-1e+300 at {y_name}[0, 0]"
    refuses(net, lambda: method(net, GOOD_X, targets), ValueError, *parts)


def test_feedforward_refuses_what_float32_cannot_hold(make):
    net = make(dtype="float32")
    parts = "X must be finite, at most 3.4e+38", "1e+300 at X[2, 1]"
    refuses(net, lambda: net.feedforward(_with(1e300)), ValueError, *parts)


@pytest.mark.parametrize(
    ("x", "y", "error", "parts"),
    [
        (np.ones(3), 0, ValueError, ("x must be (batch, 4)", "(3,)")),
        (np.ones((4, 1)), 0, ValueError, ("x must be", "column vector (4, 1)", "x.T")),
        (np.ones((2, 4)), 0, ValueError, ("x must be one sample, (4,)", "(2, 4)")),
        (1.0, 0, ValueError, ("x must be", "()")),
        ([1, np.nan, 1, 1], 0, ValueError, ("x must be finite", "nan at x[0, 1]")),
        (["a"] * 4, 0, TypeError, ("x must hold numbers", "<U1")),
        (np.ones(4), 3, ValueError, ("y must be labels from 0 to 2", "3")),
        (np.ones(4), 1.0, TypeError, ("y must be integer labels", "float64")),
        (np.ones(4), [1.0, 0], ValueError, ("y must be", "(1, 3)", "(1, 2)")),
        (np.ones(4), [1.0, np.inf, 0], ValueError, ("y must be finite", "inf")),
        (np.ones(4), [[1], [1, 2]], ValueError, ("y must be a rectangular array",)),
        (np.ones(4), None, TypeError, ("y must hold numbers", "None")),
    ],
)
def test_backprop_refuses(x, y, error, parts, backend, make):
    net = make(backend=backend)
    refuses(net, lambda: net.backprop(x, y), error, *parts)


@pytest.mark.parametrize(
    ("v", "error", "parts"),
    [
        (np.ones(50), ValueError, ("v must hold 51 parameters", "(50,)")),
        (np.ones((51, 1)), ValueError, ("v must hold 51 parameters", "(51, 1)")),
        (1.0, ValueError, ("v must hold 51 parameters", "()")),
        (np.full(51, np.nan), ValueError, ("v must be finite", "nan at v[0]")),
        ([1.0] * 50 + [1e39], ValueError, ("v must be finite", "1e+39 at v[50]")),
        (["a"] * 51, TypeError, ("v must hold numbers", "<U1")),
        (None, TypeError, ("v must hold numbers", "None")),
    ],
)
def test_from_vector_refuses(v, error, parts, make):
    net = make(dtype="float32")
    refuses(net, lambda: net.from_vector(v), error, *parts)


BAD_RATES = [
    (0, ValueError, (" must be a positive number", "0")),
    (-0.5, ValueError, (" must be a positive number", "-0.5")),
    (np.nan, ValueError, (" must be a positive number", "nan")),
    (np.inf, ValueError, (" must be a positive number", "inf")),
    (10**400, ValueError, (" must be a positive number", "got 1000")),
    ("0.1", TypeError, (" must be a positive number", "'0.1'")),
    (None, TypeError, (" must be a positive number", "None")),
    (True, TypeError, (" must be a positive number", "True")),
    (1j, TypeError, (" must be a positive number", "1j")),
]
BAD_COUNTS = [
    (0, ValueError, (" must be a positive integer", "0")),
    (-1, ValueError, (" must be a positive integer", "-1")),
    (2.0, TypeError, (" must be a positive integer", "2.0")),
    ("2", TypeError, (" must be a positive integer", "'2'")),
    (None, TypeError, (" must be a positive integer", "None")),
    (True, TypeError, (" must be a positive integer", "True")),
]


def test_bad_learning_rates_are_refused(backend, make):
    net = make(backend=backend)
    for value, error, (what, *found) in BAD_RATES:
        rate, eta = f"learning_rate{what}", f"eta{what}"
        refuses(net, partial(_fit, net, learning_rate=value), error, rate, *found)
        update = partial(net.update_mini_batch, GOOD_X, GOOD_Y, value)
        refuses(net, update, error, rate, *found)
        refuses(net, partial(net.SGD, (GOOD_X, GOOD_Y), 1, 2, value), error, eta, *found)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "threads"])
def test_bad_counts_are_refused(name, backend, make):
    net = make(backend=backend)
    for value, error, (what, *found) in BAD_COUNTS:
        refuses(net, partial(_fit, net, **{name: value}), error, name + what, *found)


@pytest.mark.parametrize("place", [1, 2], ids=["epochs", "mini_batch_size"])
def test_sgd_refuses_bad_counts_by_its_own_names(place, make):
    arguments = [(GOOD_X, GOOD_Y), 1, 2, 0.1]
    name = ["", "epochs", "mini_batch_size"][place]
    net = make()
    for value, error, (what, *found) in BAD_COUNTS:
        arguments[place] = value
        refuses(net, partial(net.SGD, *arguments), error, name + what, *found)


class NoCallback:
    def __repr__(self):
        return "<no callback>"


class Tally:
    def on_epoch_end(self, net, history):
        """The class has this method too; called on it, it lacks self."""


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"shuffle": "no"}, TypeError, ("shuffle must be True or False", "'no'")),
        ({"callbacks": 3}, TypeError, ("callbacks must be a sequence", "3")),
        ({"callbacks": [NoCallback()]}, TypeError, ("callbacks must have", "<no callback>")),
        ({"callbacks": [print]}, TypeError, ("callbacks must have a method on_epoch_end",)),
        (
            {"callbacks": EarlyStopping()},
            TypeError,
            ("callbacks must be a seq", "put it into a list"),
        ),
        ({"callbacks": [EarlyStopping]}, TypeError, ("a callback must", "EarlyStopping(...)")),
        (
            {"callbacks": [Tally]},
            TypeError,
            ("a callback must be an object", "Tally(...)", "call the"),
        ),
        (
            {"learning_rate": Cosine},
            TypeError,
            ("learning_rate must be an", "Cosine(...)", "call the"),
        ),
        (
            {"optimizer": Adam},
            TypeError,
            ("optimizer must be an object", "Adam(...)", "call the class"),
        ),
        ({"validation_data": GOOD_X}, TypeError, ("validation_data must be a pair", "ndarray")),
        ({"validation_data": (GOOD_X,)}, TypeError, ("validation_data must be a pair", "1")),
        ({"validation_data": [1, 2, 3]}, TypeError, ("validation_data must be a pair", "3")),
    ],
)
def test_fit_refuses(options, error, parts, backend, make):
    net = make(backend=backend)
    refuses(net, lambda: _fit(net, **options), error, *parts)


@pytest.mark.parametrize(
    ("arguments", "error", "parts"),
    [
        ((GOOD_X, 1, 2, 0.1), TypeError, ("training_data must be a pair", "ndarray")),
        (((GOOD_X, GOOD_Y), 1, 2, 0.1, GOOD_X), TypeError, ("test_data must be a pair", "ndarray")),
    ],
)
def test_sgd_refuses(arguments, error, parts, make):
    net = make()
    refuses(net, lambda: net.SGD(*arguments), error, *parts)


def test_a_network_is_freed_when_nobody_has_it(backend, digits, make):
    """At once, not by the next collection of garbage: what it computes with takes much memory."""
    X, y = digits[0][:20], digits[1][:20]
    net = make((64, 5, 10), backend=backend)
    net.fit(X, y, epochs=1, batch_size=4, learning_rate=0.1)
    net.feedforward(X)
    net.gradient(X, y)
    found = weakref.ref(net), weakref.ref(net._engine)
    gc.disable()
    try:
        del net
        assert [reference() for reference in found] == [None, None]
    finally:
        gc.enable()


# -- notes ---------------------------------------------------------------------------------------

NOTES = {"columns": ["β", "b"], "classes": [1, "x"], "mine": {"a": [1.5, None, True, {}]}}


def test_notes_are_kept_and_nothing_computes_with_them(tmp_path):
    net = Network([2, 2], seed=0)
    assert net.notes == {}
    net.save(tmp_path / "without")
    net.notes = dict(NOTES)
    net.save(tmp_path / "with")
    copies = [fastbp.load(tmp_path / "with"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for other in copies:
        assert other.notes == NOTES
        np.testing.assert_array_equal(other.params, net.params)
        assert other.notes is not net.notes
    net.fit(np.eye(2), [0, 1], epochs=1, batch_size=1, learning_rate=0.1)
    assert net.notes == NOTES
    assert fastbp.load(tmp_path / "without").notes == {}
    assert b"notes" not in (tmp_path / "without").read_bytes()  # the file is that of 0.2.0
    state = net.__getstate__()
    del state["notes"]  # of an old pickle
    other = Network.__new__(Network)
    other.__setstate__(state)
    assert other.notes == {}


@pytest.mark.parametrize(
    ("notes", "part"),
    [
        ([1], "notes must be a dict; got list"),
        ({1: "a"}, "notes: 1 must be what JSON holds"),
        ({"a": (1, 2)}, "notes: 'a' .*a tuple"),
        ({"a": {1: 2}}, "notes: 'a' "),
        ({"a": float("nan")}, "notes: 'a' .*JSON compliant"),
        ({"a": np.int64(1)}, "notes: 'a' .*int64"),
        ({"a": "x" * 2**20}, "notes must take at most 1,048,576 characters"),
    ],
)
def test_notes_that_a_file_cannot_hold_are_named(tmp_path, notes, part):
    net = Network([2, 2], seed=0)
    net.notes = notes
    with pytest.raises((TypeError, ValueError), match=part):
        net.save(tmp_path / "net")
    assert not (tmp_path / "net").exists()
