from argparse import Namespace

import numpy as np
import pytest

import fastbp
from fastbp import callbacks, datasets
from fastbp.cli import tasks
from fastbp.cli.tasks import Unit


@pytest.fixture
def given():
    """given(...): the options of `fastbp train` of which tasks knows."""
    usual = {
        "hidden": [4], "activation": "relu", "loss": "quadratic", "bias": True, "init": 0.5,
        "dtype": "float64", "backend": "numpy", "seed": 0,
    }  # fmt: skip
    return lambda **options: Namespace(**usual | options)


@pytest.fixture
def table(rng):
    """table(X, y): a data set as of a table; numbers of type float are a regression."""

    def make(X, y):
        X, y = np.asarray(X), np.asarray(y)
        data = datasets.Dataset(X, y, X[:3], y[:3])
        columns = [f"x{k}" for k in range(X.shape[1])]
        task = "regression" if y.dtype.kind == "f" else "classification"
        data.notes = {"columns": columns, "label": "y", "task": task}
        if task == "classification":
            data.notes["classes"] = list("abcdefghij"[: y.max() + 1])
        return data

    return make


def bytes_of(rng, columns, low=256):
    return rng.integers(0, low, (50, columns)).astype(np.uint8)


def test_columns_are_standardised_but_pixels_are_scaled_together(table, rng, given, digits):
    y = np.arange(50) % 3
    few, many = table(bytes_of(rng, 63), y), table(bytes_of(rng, 64), y)
    counts = bytes_of(rng, 64, 2)  # 0 or 1, as of pandas.get_dummies
    counts[:, :10] = bytes_of(rng, 10)
    mixed, floats = table(counts, y), table(rng.random((50, 64)), y)
    assert list(map(tasks.kind, (few, many, mixed, floats, datasets.load("digits")))) == [
        "table", "images", "table", "table", "images",
    ]  # fmt: skip
    assert tasks.prepared(many) is many
    assert tasks.prepared(few).X_train.dtype == tasks.prepared(few).X_test.dtype == "float64"
    assert tasks.prepared(few).notes == few.notes
    nets = [tasks.network(given(), tasks.prepared(data), 1 / 255) for data in (few, many)]
    assert [(net.config["scale"], net.config["input_scale"]) for net in nets] == [
        ("standard", 1), (None, 1 / 255),
    ]  # fmt: skip


def test_a_table_of_bytes_is_centred(table, rng, given):
    data = tasks.prepared(table(200 + bytes_of(rng, 3, 9), np.arange(50) % 3))
    net = tasks.network(given(), data, 1.0)
    net.fit(data.X_train, data.y_train, epochs=1, batch_size=10, learning_rate=0.1)
    np.testing.assert_allclose(net.scaling.mean, data.X_train.mean(axis=0))


def test_the_network_of_a_regression_has_one_output_for_numbers(table, rng, given):
    data = table(rng.random((50, 2)), rng.random(50))
    net = tasks.network(given(activation="sigmoid"), data, 1.0)
    assert net.sizes == (2, 4, 1)
    assert net.config["output"] == "identity"  # not sigmoid, as Network has it by default
    assert net.notes == data.notes
    assert tasks.network(given(loss="poisson"), data, 1.0).config["output"] == "exp"
    with pytest.raises(ValueError, match=r"cross-entropy is for classes; .* --task classification"):
        tasks.network(given(loss="cross-entropy"), data, 1.0)
    fine = table(rng.random((50, 2)), 1e9 + 10 * rng.random(50))
    tasks.network(given(), fine, 1.0)
    with pytest.raises(ValueError, match="float32 rounds them to 64; pass --dtype float64"):
        tasks.network(given(dtype="float32"), fine, 1.0)
    far = table(rng.random((50, 2)), np.linspace(0, 1e300))
    with pytest.raises(ValueError, match=r"column 'y' must be finite, at most 3.4e.38"):
        tasks.network(given(dtype="float32"), far, 1.0)


@pytest.mark.parametrize("bias", [True, False])
def test_a_network_predicts_in_the_unit_of_y_when_it_is_restored(table, rng, given, bias):
    y = 1000 + 50 * rng.standard_normal(50)
    data = table(rng.random((50, 2)), y)
    net = tasks.network(given(bias=bias), data, 1.0)
    unit = tasks.unit(net, y)
    trained = unit.of(y)
    assert np.mean(trained**2) == pytest.approx(1)
    assert np.mean(trained) == (pytest.approx(0, abs=1e-9) if bias else pytest.approx(1, rel=0.01))
    assert net.notes["target"] == {"mean": y.mean(), "deviation": unit.deviation}
    net.fit(data.X_train, trained, epochs=3, batch_size=10, learning_rate=0.01)
    before = net.predict(data.X_train)
    assert unit.restore(net) is net
    np.testing.assert_allclose(net.predict(data.X_train), before * unit.deviation + unit.mean)


def test_classes_and_counts_are_trained_as_they_are(table, rng, given):
    y = np.arange(50) % 3
    net = tasks.network(given(loss="cross-entropy"), table(rng.random((50, 2)), y), 1.0)
    assert tasks.unit(net, y) == Unit()
    assert Unit().of(y) is y
    assert "target" not in net.notes
    net = tasks.network(given(loss="poisson"), table(rng.random((50, 2)), y * 1.0), 1.0)
    assert tasks.unit(net, y * 1.0) == Unit()  # an exp output could not be put back
    assert net.notes["target"] == {"mean": y.mean(), "deviation": 1}
    before = net.to_vector()
    Unit().restore(net)
    assert (net.to_vector() == before).all()


def test_checkpoints_predict_in_the_unit_of_y(table, rng, given, tmp_path):
    data = table(rng.random((50, 2)), 1000 + 50 * rng.standard_normal(50))
    net = tasks.network(given(), data, 1.0)
    unit = tasks.unit(net, data.y_train)
    saved = tasks.Checkpoint(tmp_path / "{epoch}.safetensors", 2, unit)
    net.fit(
        data.X_train, unit.of(data.y_train), epochs=4, batch_size=10, learning_rate=0.01,
        callbacks=[saved],
    )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.safetensors", "4.safetensors"]
    last = fastbp.load(tmp_path / "4.safetensors", backend="numpy").predict(data.X_train)
    assert abs(net.predict(data.X_train)).max() < 10  # it is trained on still
    np.testing.assert_array_equal(last, unit.restore(net).predict(data.X_train))
    assert isinstance(saved, callbacks.Checkpoint)


def test_a_baseline_stands_beside_each_score(table):
    data = table([[0.0], [1], [2], [3]], [0, 1, 1, 1])
    net = fastbp.Network([1, 2], loss="cross-entropy", backend="numpy", seed=0)
    net.from_vector([0, 1, 1, 0])  # class a below 1, then class b
    net.notes = dict(data.notes)
    facts, line = tasks.scores(net, np.array([[0.0], [0.5], [2], [3]]), np.array([0, 1, 1, 1]))
    assert facts == {"test_accuracy": 0.75, "correct": 3, "baseline_accuracy": 0.75}
    assert line == "test accuracy 0.7500 (3 of 4); majority class 'b': 0.7500"
    net.notes = {}
    assert "majority class 1: 0.7500" in tasks.scores(net, data.X_train, data.y_train)[1]


def test_the_baseline_of_numbers_is_the_mean_of_the_training():
    net = fastbp.Network([1, 1], output="identity", backend="numpy", seed=0)
    net.from_vector([2, 0])
    X, y = np.array([[0.0], [1], [2]]), np.array([0.0, 2, 5])
    net.notes = {"target": {"mean": 1.0, "deviation": 1.0}}
    facts, line = tasks.scores(net, X, y)
    assert facts == {
        "test_r2": pytest.approx(1 - 1 / (38 / 3)), "test_mae": 1 / 3, "test_rmse": 3**-0.5,
        "baseline_mae": 2,
    }  # fmt: skip
    assert line == "test R2 0.9211, MAE 0.3333; mean of the training targets: MAE 2"
    for notes in ({}, {"target": 5}, {"target": {"mean": "x"}}):  # of others, or none
        net.notes = notes
        assert tasks.scores(net, X, y)[1].endswith("mean of the test targets: MAE 1.778")


def test_the_task_of_a_network_that_does_not_remember_it():
    def of(sizes, **options):
        return tasks.of_network(fastbp.Network(sizes, backend="numpy", **options))

    assert of([2, 1], output="identity") == "regression"
    assert of([2, 1], output="exp", loss="poisson") == "regression"
    assert of([2, 1], output="sigmoid") == of([2, 3], output="identity") == "classification"


SAID = {
    "texts": (
        [0, 1, 2], {}, "classification: 'y' holds 3 classes, 'a', 'b', 'c'", None,
    ),
    "numbers": (
        [0, 1, 2], {"classes": [3, 4, 8]},
        "classification: 'y' holds 3 classes, 3, 4, 8 (for numbers pass --task regression)", None,
    ),
    "two numbers": ([0, 1], {"classes": [0, 1]}, "classification: 'y' holds 2 classes, 0, 1", None),
    "whole": (
        [5.0, 7, 9, 7], {},
        "regression: 'y' holds 3 different numbers, 5 to 9 "
        "(for classes pass --task classification)",
        "loss: of (y - 7) / 1.4142; that of the mean alone is 0.5",
    ),
    "fractions": (
        [0.5, 2.5], {}, "regression: 'y' holds 2 different numbers, 0.5 to 2.5",
        "loss: of (y - 1.5) / 1; that of the mean alone is 0.5",
    ),
    "negative": (
        [-0.5, -2.5], {}, "regression: 'y' holds 2 different numbers, -2.5 to -0.5",
        "loss: of (y + 1.5) / 1; that of the mean alone is 0.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("y", "notes", "task", "loss"), SAID.values(), ids=SAID)
def test_what_is_made_of_a_table_is_said(table, given, y, notes, task, loss):
    X = np.array([[k, 5.0] for k in range(len(y))])
    data = table(X, y)
    data.notes |= notes
    net = tasks.network(given(), data, 1.0)
    unit = tasks.unit(net, data.y_train)
    inputs = (
        "inputs: 2 columns, each standardised by its mean and deviation; constant, so ignored: 'x1'"
    )
    assert list(tasks.introduced(net, data, unit, False)) == [*filter(None, [task, loss]), inputs]
    assert next(tasks.introduced(net, data, unit, True)) == task.partition(" (for")[0]


def test_pixels_are_said_to_be_taken_for_such(table, rng, given):
    data = table(bytes_of(rng, 64), np.arange(50) % 3)
    net = tasks.network(given(), data, 1 / 255)
    assert list(tasks.introduced(net, data, Unit(), False))[-1] == (
        "inputs: 64 columns of bytes, taken for pixels: all scaled by 1/255"
    )
    assert not list(tasks.introduced(net, datasets.load("digits"), Unit(), False))
