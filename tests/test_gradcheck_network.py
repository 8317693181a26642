"""`gradcheck` of a Network: right ones pass, wrong ones are found where they are wrong."""

import numpy as np
import pytest

from cases import OUTPUTS, crossed
from fastbp import Network, gradcheck, losses
from fastbp.verification.masked import Masked


@pytest.fixture
def batch(rng):
    """Samples and targets for the network that `make` makes."""
    return rng.standard_normal((5, 4)), rng.random((5, 3))


@pytest.fixture
def spoil(monkeypatch):
    """spoil(change): the gradient that back-propagation returns is changed."""

    def spoil(change):
        right = Network.gradient

        def wrong(self, X, y):
            gradient = right(self, X, y)
            change(gradient)
            return gradient

        monkeypatch.setattr(Network, "gradient", wrong)

    return spoil


@crossed(
    activation=["sigmoid", "tanh", "relu", "identity"], loss_output=OUTPUTS, bias=[True, False],
    dtype=["float32", "float64"],
)  # fmt: skip
def test_a_right_gradient_passes(activation, loss_output, bias, dtype, backend, batch, make):
    loss, output = loss_output
    net = make(
        activation=activation, output=output, loss=loss, bias=bias, dtype=dtype, backend=backend
    )
    report = gradcheck(net, *batch)
    assert report.ok, report
    assert 0 < report.max_error < report.tolerance == 1e-7


@pytest.mark.parametrize("y", [[0, 1, 1, 0, 1], np.eye(3)[[0, 1, 1, 0, 1]]], ids=["labels", "rows"])
def test_labels_will_do(y, backend, batch, make):
    assert gradcheck(make(backend=backend, loss="cross-entropy"), batch[0], y).ok


def test_bytes_and_their_scale_are_checked_too(backend, rng, make):
    X = rng.integers(0, 256, (4, 4), dtype=np.uint8)
    assert gradcheck(make(backend=backend, input_scale=1 / 255), X, [0, 1, 1, 0]).ok


@pytest.mark.parametrize("bias", [True, False])
def test_every_array_has_its_line(bias, batch, make):
    net = make([4, 5, 6, 3], bias=bias)
    report = gradcheck(net, *batch)
    names = ["W1", "W2", "W3", *(["b1", "b2", "b3"] if bias else [])]
    assert [layer.name for layer in report.layers] == names
    assert sum(layer.size for layer in report.layers) == len(net.to_vector())
    lines = str(report).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == names
    assert lines[-1].startswith("ok: largest error ")
    for line, layer in zip(lines[1:-1], report.layers, strict=True):
        assert f"{layer.error:.2e}" in line
        assert f"{layer.analytic:.6e}" in line


@pytest.mark.parametrize(
    ("part", "layer", "index", "name"),
    [
        ("weights", 0, (3, 1), "W1"),
        ("weights", 1, (0, 2), "W2"),
        ("biases", 0, (2,), "b1"),
        ("biases", 1, (1,), "b2"),
    ],
)
def test_a_wrong_entry_is_found_where_it_is(part, layer, index, name, spoil, backend, batch, make):
    def change(gradient):
        getattr(gradient, part)[layer][index] += 1e-5

    spoil(change)
    report = gradcheck(make(backend=backend), *batch)
    assert not report.ok
    (wrong,) = [found for found in report.layers if found.error > report.tolerance]
    assert (wrong.name, wrong.index) == (name, index)
    assert wrong.analytic - wrong.numerical == pytest.approx(1e-5, rel=1e-3)
    assert wrong.error == report.max_error
    (line,) = [line for line in str(report).splitlines() if "<-- differs" in line]
    assert line.split()[0] == name
    assert "NOT ok: largest error" in str(report)


@pytest.mark.parametrize("factor", [0.0, -1.0, 1.001, np.nan, np.inf])
def test_a_wrong_factor_is_found(factor, spoil, batch, make):
    def change(gradient):
        gradient.weights[1][...] *= factor

    spoil(change)
    assert not gradcheck(make(), *batch).ok


def test_a_gradient_of_zeros_is_right_where_the_loss_is_flat(backend, make):
    net = make([2, 2], activation="relu", output="relu", init="normal", backend=backend)
    net.biases[0][...] = -9
    report = gradcheck(net, np.zeros((2, 2)), [[0.5, 0.5]] * 2)
    assert report.ok
    assert report.max_error == 0


SMALL = [6, 8, 4, 4, 4, 8, 4]


@pytest.mark.parametrize("loss", ["cross-entropy", "quadratic", "poisson"])
def test_kinks_nearer_than_any_step_are_decided(loss, backend, rng, spoil):
    """Small weights in many layers: all ReLUs are near zero, and what is wrong is still found."""
    X, y = rng.standard_normal((2, 6)), rng.integers(0, 9, (2, 4)).astype(float)
    y = [1, 3] if loss == "cross-entropy" else y
    net = Network(SMALL, "relu", loss=loss, init=0.05, backend=backend, seed=0)
    report = gradcheck(net, X, y)
    assert report.ok, report
    assert report.verdict == "ok"

    def change(gradient):
        gradient.biases[-2][np.abs(gradient.biases[-2]).argmax()] *= 1 + 1e-5

    spoil(change)
    assert gradcheck(net, X, y).verdict == "NOT ok"


# By how much targets lie above the outputs: near the places where a loss is cut into pieces.
PIECES = [
    ("leaky_relu", "quadratic", "identity", 1), ("elu", "quadratic", "elu", 1),
    ("relu", "quadratic", "relu", 1), ("gelu", "absolute", "identity", 0),
    ("relu", "absolute", "silu", 0), ("tanh", losses.Quantile(0.8), "leaky_relu", 0),
    ("silu", losses.Huber(0.5), "identity", 0.5),
    (["relu", "leaky_relu", "elu", "gelu", "tanh"], "huber", "softplus", 1),
]  # fmt: skip


@pytest.mark.parametrize(("activation", "loss", "output", "above"), PIECES)
def test_all_that_is_made_of_pieces_is_held_on_its_side(
    activation, loss, output, above, rng, spoil
):
    """So near to kinks that a step in any weight crosses some of them."""
    net = Network(SMALL, activation, output, loss, init=0.05, backend="numpy", seed=0)
    for b in net.biases:  # else, where all below are 0, so is what is above them
        b[...] = 1e-10 * rng.standard_normal(b.shape)
    X = rng.standard_normal((3, 6))
    y = net.feedforward(X).astype(np.float64) + 1e-7 * rng.standard_normal((3, 4)) + above
    report = gradcheck(net, X, y)
    assert report.verdict == "ok", report

    def change(gradient):
        for b in gradient.biases:
            b[np.abs(b).argmax()] *= 1 + 1e-5

    spoil(change)
    assert gradcheck(net, X, y).verdict == "NOT ok"


@pytest.mark.parametrize("loss", ["absolute", "quantile"])
def test_a_loss_at_its_kink_is_undecided(loss):
    net = Network([3, 2], loss=loss, init=0.5, seed=0, dtype="float64", backend="numpy")
    X = np.eye(3)
    report = gradcheck(net, X, net.feedforward(X))
    assert (report.ok, report.verdict) == (True, "undecided at a kink")


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 24))]
)
def test_a_deep_network_of_small_weights(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((2, 15)), rng.integers(10, size=2)
    sizes = [15, 20, 10, 10, 10, 10, 10, 30, 10]
    net = Network(sizes, activation="relu", loss="cross-entropy", init=0.05, seed=seed)
    report = gradcheck(net, X, y)
    assert report.ok, report
    assert report.verdict == "ok"


def test_a_relu_at_zero_is_undecided(backend):
    net = Network([3, 4, 2], "relu", loss="cross-entropy", backend=backend, seed=0)
    report = gradcheck(net, np.zeros((2, 3)), [0, 0])
    assert (report.ok, report.verdict) == (True, "undecided at a kink")
    assert [(check.name, len(check.kinks)) for check in report.undecided] == [("b1", 4)]
    assert "undecided at a kink: (0,), (1,), (2,) and 1 more" in str(report)


def test_a_wrong_loss_is_not_taken_for_a_kink(backend, rng, monkeypatch):
    """The loss of the reference, with each ReLU held, decides only where it is the same loss."""
    loss = Network.loss
    monkeypatch.setattr(Network, "loss", lambda self, X, y: loss(self, X, y) ** 2)
    net = Network(SMALL, "relu", loss="quadratic", init=0.05, backend=backend, seed=0)
    assert gradcheck(net, rng.standard_normal((2, 6)), rng.random((2, 4))).verdict == "NOT ok"


def test_a_tolerance_of_ones_own(spoil, batch, make):
    def change(gradient):
        gradient.weights[0][0, 0] *= 1 + 1e-5

    spoil(change)
    assert not gradcheck(make(), *batch).ok
    report = gradcheck(make(), *batch, tolerance=1e-3)
    assert report.ok
    assert report.tolerance == 1e-3


def test_the_network_is_left_as_it_is(dtype, backend, batch, make):
    net = make(dtype=dtype, backend=backend)
    before = net.to_vector()
    gradcheck(net, *batch)
    np.testing.assert_array_equal(net.to_vector(), before)
    assert net.dtype == dtype


def test_the_copy_is_checked_in_float64_on_the_same_backend(backend, monkeypatch, batch, make):
    seen = []
    right = Network.gradient

    def gradient(self, X, y):
        seen.append((self.dtype.name, self.backend, self.config["loss"]))
        return right(self, X, y)

    monkeypatch.setattr(Network, "gradient", gradient)
    gradcheck(make(dtype="float32", backend=backend, loss="cross-entropy"), *batch)
    assert set(seen) == {("float64", backend, "cross-entropy")}


@pytest.mark.parametrize(
    ("change", "error", "parts"),
    [
        ({"target": "net"}, TypeError, ("target must be a fastbp.Network", "str")),
        ({"target": None}, TypeError, ("target must be a fastbp.Network", "NoneType")),
        ({"X": np.ones((5, 3))}, ValueError, ("X must be (batch, 4)", "(5, 3)")),
        ({"X": np.full((5, 4), np.nan)}, ValueError, ("X must be finite", "nan")),
        ({"y": [0, 1]}, ValueError, ("y must have one entry per sample, 5", "(2,)")),
        ({"y": [0, 1, 3, 0, 0]}, ValueError, ("y must be labels from 0 to 2", "3")),
        ({"tolerance": 0}, ValueError, ("tolerance must be a positive number", "0")),
        ({"tolerance": np.nan}, ValueError, ("tolerance must be a positive number", "nan")),
        ({"tolerance": "1e-7"}, TypeError, ("tolerance must be a positive number", "'1e-7'")),
    ],
)
def test_bad_input_is_refused(change, error, parts, batch, make):
    arguments = {"target": make(), "X": batch[0], "y": batch[1], **change}
    with pytest.raises(error) as caught:
        gradcheck(**arguments)
    assert type(caught.value) is error
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("activation", ["relu", "tanh", ["silu", "relu"]])
@pytest.mark.parametrize("rates", [0.5, [0.0, 0.3]])
def test_with_dropout_one_mask_is_for_loss_and_gradient(rates, activation, backend, batch, make):
    """The gradient is another than that of all neurons; kinks are held as ever."""
    options = {"activation": activation, "backend": backend, "loss": "cross-entropy"}
    net = make([4, 16, 9, 3], dropout=rates, **options)
    state = repr(net.rng.bit_generator.state)
    report = gradcheck(net, *batch)
    assert report.ok, report
    masked = Masked(net, *batch)
    assert masked.loss() != pytest.approx(net.loss(*batch), rel=1e-3)
    assert not np.allclose(masked.gradient().weights[0], net.gradient(*batch).weights[0])
    assert repr(net.rng.bit_generator.state) == state


def test_a_kink_is_decided_with_dropout_too(make):
    """Each ReLU is so near to zero that steps cross it."""
    net = make([2, 8, 2], activation="relu", dropout=0.5, backend="numpy")
    net.biases[0][:] = 1e-9
    report = gradcheck(net, np.zeros((1, 2)), np.ones((1, 2)))
    assert report.verdict == "ok", report
