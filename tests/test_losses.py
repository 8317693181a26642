"""Losses with a setting: what they are given, their equations, and networks that learn by them."""

import copy
import json
import pickle
from fractions import Fraction

import numpy as np
import pytest

import fastbp
from fastbp import Network, losses, reference
from fastbp.losses import CrossEntropy, Huber, Quantile

KINDS = {"huber": (Huber, "width", 2.5), "quantile": (Quantile, "q", 0.9)}
KINDS["cross-entropy"] = (CrossEntropy, "label_smoothing", 0.2)
BAD = {
    Huber: (0, -1, np.inf, np.nan, 1e-320, 1e39, "1", None, True, [1]),
    Quantile: (0, 1, -0.1, np.nan, "0.5", None, True),
    CrossEntropy: (1, -0.1, np.nan, "0.1", None, True, 1 + 1j),
}


# -- what they are given ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_setting_has_a_name_a_default_and_one_form(name):
    kind, setting, value = KINDS[name]
    assert reference.SETTINGS[name] == (setting, kind().setting)
    loss = kind(value)
    assert (loss.name, loss.setting, getattr(loss, setting)) == (name, value, value)
    assert loss == kind(**{setting: np.float32(value)} if value == 2.5 else {setting: value})
    assert loss != kind()
    assert hash(loss) == hash(copy.deepcopy(loss)) == hash(pickle.loads(pickle.dumps(loss)))
    assert repr(loss) == f"{kind.__name__}({setting}={value})"
    assert losses.plain(loss) is loss
    assert losses.plain(kind()) == losses.plain(name) == name
    assert losses.in_parts(loss) == (name, value)
    assert losses.in_parts(name) == (name, None)
    with pytest.raises(AttributeError):
        setattr(loss, setting, value)


@pytest.mark.parametrize("name", KINDS)
def test_they_come_back_from_json(name):
    kind, setting, value = KINDS[name]
    text = json.dumps(kind(value).in_file())
    assert json.loads(text) == {"name": name, setting: value}
    assert losses.from_file(json.loads(text)) == kind(value)


@pytest.mark.parametrize(
    "entry",
    [{}, {"name": "huber"}, {"name": "poisson", "width": 1}, {"name": "huber", "q": 0.5},
     {"name": ["huber"], "width": 1}, {"name": "huber", "width": 1.0, "more": 1}],
)  # fmt: skip
def test_what_is_none_does_not_come_back(entry):
    with pytest.raises(
        ValueError, match="must be huber with width, quantile with q, cross-entropy"
    ):
        losses.from_file(entry)
    for bad in BAD[Huber][:4]:
        with pytest.raises(ValueError, match="width must be"):
            losses.from_file({"name": "huber", "width": bad})


@pytest.mark.parametrize(("kind", "value"), [(kind, bad) for kind in BAD for bad in BAD[kind]])
def test_settings_that_do_not_fit_are_refused(kind, value):
    setting = reference.SETTINGS[kind.name][0]
    with pytest.raises((TypeError, ValueError), match=f"{setting} must be .*; got"):
        kind(value)


def test_any_number_will_do():
    assert Huber(3).width == Huber(np.float64(3)).width == Huber(Fraction(3)).width == 3.0
    assert {type(loss.setting) for loss in (Huber(3), Quantile(Fraction(1, 2)))} == {float}
    assert type(CrossEntropy(np.float32(0)).label_smoothing) is float


# -- equations -------------------------------------------------------------------------------------


def output_delta(loss, activation, z, y, setting=None):
    """Call the reference; a, delta and losses."""
    a, delta, found = np.empty_like(z), np.empty_like(z), np.empty(len(z))
    reference.output_delta(loss, activation, z, y, a, delta, found, setting)
    return a, delta, found


def test_values_by_hand():
    z, y = np.array([[-2.0, 0.5, 3.0]]), np.array([[1.0, 0.5, 2.5]])  # rests -3, 0, 0.5
    expected = {
        ("absolute", None): (3.5, [-1, 0, 1]),
        ("huber", None): (3 - 0.5 + 0.125, [-1, 0, 0.5]),
        ("huber", 0.25): (0.25 * (3 - 0.125) + 0.25 * (0.5 - 0.125), [-0.25, 0, 0.25]),
        ("huber", 10.0): (4.5 + 0.125, [-3, 0, 0.5]),
        ("quantile", None): (1.75, [-0.5, 0, 0.5]),
        ("quantile", 0.75): (0.75 * 3 + 0.25 * 0.5, [-0.75, 0, 0.25]),
    }
    for (loss, setting), (total, slopes) in expected.items():
        a, delta, found = output_delta(loss, "identity", z, y, setting)
        assert np.array_equal(a, z)
        assert found.tolist() == [total], loss
        assert delta.tolist() == [slopes], loss


@pytest.mark.parametrize("activation", reference.PRIMES)
@pytest.mark.parametrize(
    ("loss", "setting"), [("absolute", None), ("huber", 0.3), ("quantile", 0.8)]
)
def test_deltas_are_slopes_of_the_loss(loss, setting, activation, rng, assert_close):
    z, y, step = rng.standard_normal((5, 4)), rng.standard_normal((5, 4)), 1e-6
    _, delta, _ = output_delta(loss, activation, z, y, setting)
    for j in range(4):
        ends = (z + way * step * (np.arange(4) == j) for way in (1, -1))
        high, low = (output_delta(loss, activation, end, y, setting)[2] for end in ends)
        assert_close((high - low) / (2 * step), delta[:, j], "differences")


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_smoothing_is_cross_entropy_of_smoothed_targets(activation, rng, assert_close):
    z, y = 3 * rng.standard_normal((6, 5)), np.eye(5)[rng.integers(5, size=6)]
    even = 0.2 if activation == "softmax" else 0.5
    found = output_delta("cross-entropy", activation, z, y, 0.3)
    expected = output_delta("cross-entropy", activation, z, 0.7 * y + 0.3 * even)
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs)
    a, plain = found[0], output_delta("cross-entropy", activation, z, y)
    logs = np.log(a) if activation == "softmax" else np.log(a) + np.log(1 - a)
    assert_close(found[2], 0.7 * plain[2] - 0.3 * even * logs.sum(axis=1))
    for mine, theirs in zip(
        output_delta("cross-entropy", activation, z, y, 0.0), plain, strict=True
    ):
        assert np.array_equal(mine, theirs)


def test_a_least_loss_is_at_the_median_the_quantile_and_between():
    y = np.array([0.0, 1, 2, 3, 100])[:, None]
    places = np.linspace(-1, 101, 1021)

    def best(loss, setting=None):
        totals = [
            output_delta(loss, "identity", np.full((5, 1), place), y, setting)[2].sum()
            for place in places
        ]
        return places[np.argmin(totals)]

    assert best("absolute") == best("quantile", 0.5) == pytest.approx(2)
    assert best("quantile", 0.9) == pytest.approx(100)
    assert best("quantile", 0.1) == pytest.approx(0)
    assert best("huber", 1000.0) == pytest.approx(y.mean(), abs=0.1)
    assert 1.5 < best("huber", 1.0) < 2.5


@pytest.mark.parametrize("loss", ["absolute", "huber", "quantile", "quadratic"])
def test_what_is_not_a_number_shows(loss, dtype):
    """In the loss and in delta; a target that is infinite, in the loss."""
    z, y = np.zeros((3, 2), dtype), np.ones((3, 2), dtype)
    y[1, 1], z[2, 0] = np.nan, np.nan
    _, delta, found = output_delta(loss, "identity", z, y)
    assert np.isnan(found).tolist() == [False, True, True]
    assert np.isnan(delta).tolist() == [[False, False], [False, True], [True, False]]
    for value in (np.inf, -np.inf):
        y[0, 0] = value
        assert output_delta(loss, "identity", z, y)[2][0] == np.inf


# -- networks --------------------------------------------------------------------------------------


def test_a_configuration_keeps_a_setting_once():
    for name, (kind, _, value) in KINDS.items():
        assert Network([4, 3], loss=kind()).config["loss"] == name
        assert Network([4, 3], loss=kind(value)).config["loss"] == kind(value)
        net = Network(**Network([4, 3], loss=kind(value)).config)
        assert net.config["loss"] == kind(value)


def test_what_is_reported_is_what_is_trained_on(backend, digits):
    """The loss of `Network.loss`, `evaluate`, history and validation has the setting in it."""
    X, y = digits[0][:300], digits[1][:300]
    nets = [
        Network([64, 10], loss=loss, input_scale=1 / 16, seed=0, backend=backend)
        for loss in ("cross-entropy", CrossEntropy(0.2))
    ]
    z = np.log(nets[1].feedforward(X))
    expected = -(0.8 * z[np.arange(300), y] + 0.02 * z.sum(axis=1)).mean()
    assert nets[1].loss(X, y) == pytest.approx(expected, rel=1e-5)
    assert nets[1].loss(X, y) != nets[0].loss(X, y)
    assert nets[0].accuracy(X, y) == nets[1].accuracy(X, y)
    history = nets[1].fit(
        X, y, epochs=1, batch_size=300, learning_rate=1e-3, validation_data=(X, y)
    )
    assert history.loss[0] == pytest.approx(expected, rel=1e-5)
    assert history.val_loss[0] == pytest.approx(nets[1].loss(X, y), rel=1e-6)


def test_outliers_pull_no_further_than_the_width(backend):
    """The median stays where it is, whatever one target in ten is; the mean goes."""
    X, y = np.zeros((20, 1)), np.ones((20, 1))
    y[::10] = 1000
    found = {}
    for loss in ("quadratic", "absolute", Huber(0.5), Quantile(0.5)):
        net = Network([1, 1], loss=loss, output="identity", seed=0, backend=backend)
        net.fit(X, y, epochs=600, batch_size=20, learning_rate=0.02)
        found[losses.in_parts(loss)[0]] = net.feedforward([[0.0]]).item()
    assert found["quadratic"] > 90
    assert found["absolute"] == pytest.approx(1, abs=0.03)
    assert found["quantile"] == pytest.approx(1, abs=0.03)
    assert found["huber"] == pytest.approx(1 + 0.5 / 9, abs=0.01)  # 18 near pulls against 2 full


@pytest.mark.parametrize("output", [*reference.PRIMES, "exp"])
def test_targets_out_of_reach_of_any_loss_of_numbers_warn(output):
    y = np.full((8, 1), -1.5)
    for loss in ("absolute", Huber(2.0), Quantile(0.9), "quadratic"):
        if output == "exp":
            with pytest.raises(ValueError, match="exp"):
                Network([2, 1], loss=loss, output=output)
            continue
        net = Network([2, 1], loss=loss, output=output, backend="numpy", seed=0)
        fit = {"epochs": 1, "batch_size": 8, "learning_rate": 0.1}
        if output in ("identity", "leaky_relu"):
            net.fit(np.ones((8, 2)), y, **fit)
        else:
            with pytest.warns(UserWarning, match=f"output '{output}' is .*, and y holds -1.5 at y"):
                net.fit(np.ones((8, 2)), y, **fit)


def test_smoothing_is_defined_where_cross_entropy_is():
    y = np.full((8, 3), 0.5)
    y[5, 2] = -0.25
    for output in ("softmax", "sigmoid"):
        net = Network([2, 3], loss=CrossEntropy(0.1), output=output, backend="numpy")
        with pytest.raises(ValueError, match=r"at least 0.* for loss 'cross-entropy'.*y\[5, 2\]"):
            net.loss(np.ones((8, 2)), y)


def test_labels_for_a_loss_of_numbers_are_one_hot_rows(backend):
    """As of the quadratic loss: hits are counted by the largest output."""
    X, labels = np.random.default_rng(0).random((9, 4)), np.arange(9) % 3
    for loss in ("absolute", Huber(0.2), Quantile(0.7)):
        net = Network([4, 3], loss=loss, output="softplus", seed=0, backend=backend)
        assert net.loss(X, labels) == pytest.approx(net.loss(X, np.eye(3)[labels]))
        right = net.feedforward(X).argmax(axis=1) == labels
        assert net.accuracy(X, labels) == right.mean()


# -- the operation of one layer --------------------------------------------------------------------


def test_an_operation_takes_what_a_network_takes(backend, rng):
    z, y = rng.standard_normal((3, 4)), rng.random((3, 4))
    operations = fastbp.get_backend(backend)
    for loss, activation in ((Huber(0.3), "gelu"), (CrossEntropy(0.1), "softmax")):
        found = operations.output_delta(loss, activation, z, y)
        expected = output_delta(loss.name, activation, z, y, loss.setting)
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(
        operations.output_delta(Huber(), None, z, y),
        operations.output_delta("huber", "identity", z, y),
        strict=True,
    ):
        assert np.array_equal(mine, theirs)
    for bad in ((Huber(), "softmax"), ("huber", "exp"), (Huber, "tanh"), ("hubert", "tanh")):
        with pytest.raises((TypeError, ValueError), match="must be"):
            operations.output_delta(*bad, z, y)
