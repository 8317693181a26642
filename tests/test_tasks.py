import json
import os
import warnings
from argparse import Namespace

import numpy as np
import pytest

import fastbp
from fastbp import callbacks, datasets, losses
from fastbp.cli import hints, tasks
from fastbp.cli.tasks import Unit
from fastbp.datasets import read_csv


@pytest.fixture
def given():
    """given(...): the options of `fastbp train` of which tasks knows."""
    usual = {
        "hidden": [4], "activation": "relu", "loss": "quadratic", "bias": True, "init": 0.5,
        "dtype": "float64", "backend": "numpy", "seed": 0, "dropout": 0.0, "label_smoothing": 0.0,
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


def test_the_width_of_huber_s_loss_is_in_the_unit_too(table, rng, given):
    """Its loss in that of y is the loss in this unit, times the square of the deviation."""
    y = 1000 + 50 * rng.standard_cauchy(50)
    data = table(rng.random((50, 2)), y)
    for loss, width in (("huber", 1.0), ("huber,width=0.5", 0.5)):
        net = tasks.network(given(loss=loss), data, 1.0)
        unit = tasks.unit(net, y)
        net.fit(data.X_train, unit.of(y), epochs=3, batch_size=10, learning_rate=0.01)
        before, predicted = net.loss(data.X_train, unit.of(y)), net.predict(data.X_train)
        found = unit.restore(net)
        assert found.config["loss"] == losses.Huber(width * unit.deviation)
        assert found.loss(data.X_train, y) == pytest.approx(before * unit.deviation**2)
        expected = predicted * unit.deviation + unit.mean
        np.testing.assert_allclose(found.predict(data.X_train), expected)
        assert found.notes == net.notes


def test_a_quantile_is_scored_by_what_lies_below_it(table, rng, given):
    X, y = rng.random((400, 2)), rng.exponential(5, 400)
    data = table(X, y)
    net = tasks.network(given(loss="quantile,q=0.9", hidden=[]), data, 1.0)
    unit = tasks.unit(net, y)
    net.fit(X, unit.of(y), epochs=60, batch_size=40, learning_rate=0.05)
    found, line = tasks.scores(unit.restore(net), X, y)
    assert found["test_below"] == pytest.approx(0.9, abs=0.03)
    assert found["test_loss"] == pytest.approx(found["baseline_loss"], rel=0.05)
    assert hints.skill(found) == pytest.approx(0, abs=0.05)
    assert line.startswith(f"test targets below the predictions {found['test_below']:.4f}, for q =")


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


# -- from the shell ------------------------------------------------------------------------------


@pytest.fixture
def run(run, tmp_path, monkeypatch):
    """The shared one, in a folder of its own."""
    pytest.importorskip("pandas", reason="the extra csv is not installed")
    monkeypatch.chdir(tmp_path)
    return run


def numbers(path, mean=500, n=60):
    """Write a table whose y is a number."""
    rng = np.random.default_rng(0)
    rows = [(a, b, mean + 90 * a - 50 * b) for a, b in rng.normal(size=(n, 2)).round(3)]
    path.write_text("\n".join(["a,b,y", *(",".join(map(str, row)) for row in rows)]))
    return np.array(rows)


SMALL = "--data t.csv --label y --hidden 4 --backend numpy --learning-rate 0.01".split()


@pytest.mark.parametrize(("options", "mean"), [([], 500), (["--no-bias", "--dtype", "float64"], 0)])
def test_a_regression_from_the_shell(run, tmp_path, options, mean):
    rows = numbers(tmp_path / "t.csv", mean)
    code, out, _ = run("train", *SMALL, *options, "--json", "--quiet", "--plot", "t.png")
    found = json.loads(out)
    assert (code, found["task"], found["sizes"]) == (0, "regression", [2, 4, 1])
    assert found["test_r2"] > 0.9
    assert found["test_mae"] < found["baseline_mae"] / 3
    lines = (tmp_path / "t.history.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines[1:]]  # the first is of the start
    assert all(0 < epoch["loss"] < 1 and 0 < epoch["val_loss"] < 1 for epoch in epochs)
    used = "t.safetensors", "--backend", "numpy"
    line, loss = run("evaluate", *used)[1].splitlines()
    assert line.startswith(f"test R2 {found['test_r2']:.4f}, MAE {found['test_mae']:.4g}; mean of")
    again = json.loads(run("evaluate", *used, "--json")[1])
    for name in ("test_r2", "test_mae", "test_rmse", "baseline_mae", "data_path"):
        assert again[name] == found[name]
    assert float(loss.split()[-1]) == pytest.approx(found["test_rmse"] ** 2 / 2, rel=1e-4)
    predicted = np.array(run("predict", *used)[1].split(), float)
    assert len(predicted) == len(rows)
    assert 1 - ((predicted - rows[:, 2]) ** 2).mean() / rows[:, 2].var() > 0.9


def test_a_regression_that_is_stopped_goes_on_and_its_checkpoints_predict(run, tmp_path):
    numbers(tmp_path / "t.csv")
    whole = *SMALL, "--epochs", 6, "--output", "whole.safetensors", "--plot", "w.png"
    assert run("train", *whole, "--checkpoint-every", 3)[0] == 0
    part = *SMALL, "--output", "part.safetensors", "--checkpoint", "run.safetensors"
    assert run("train", *part, "--epochs", 4)[0] == 0
    assert run("train", *part, "--epochs", 6, "--resume", "run.safetensors")[0] == 0
    nets = [fastbp.load(f"{name}.safetensors", "numpy") for name in ("whole", "part", "whole-0006")]
    for net in nets[1:]:
        np.testing.assert_array_equal(net.to_vector(), nets[0].to_vector())
        assert net.notes["target"] == nets[0].notes["target"]
    X = read_csv(tmp_path / "t.csv", "y")[0]
    assert 300 < fastbp.load("whole-0003.safetensors", "numpy").predict(X).mean() < 700


def test_the_task_decides_what_is_predicted(run, tmp_path):
    rows = ["a,y", *(f"{k % 7},{k % 3 + 1}" for k in range(60))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    small = *SMALL, "--epochs", 1
    assert "classification: 'y' holds 3 classes, 1, 2, 3" in run("train", *small)[1]
    assert set(run("predict", "t.safetensors", *SMALL[6:8])[1].split()) <= {"1", "2", "3"}
    out = run("train", *small, "--task", "regression")[1]
    assert "regression: 'y' holds 3 different numbers, 1 to 3\n" in out
    assert "test R2 " in out
    assert "." in run("predict", "t.safetensors", *SMALL[6:8])[1].split()[0]
    assert "--task regression" in fastbp.load("t.safetensors").notes["training"]["command"]
    found = json.loads(run("find-learning-rate", *SMALL[:-2], "--task", "regression", "--json")[1])
    assert found["losses"][0] < 1  # of standardised targets
    for options, part in (
        (["--task", "both"], "invalid choice: 'both'"),
        (["--task", "regression", "--loss", "cross-entropy"], "cross-entropy is for classes"),
        (["--task", "regression", "--class-weight", "balanced"], "--class-weight is for classes"),
    ):
        code, _, err = run("train", *small, *options)
        assert (code, err.count("\n"), part in err) == (2, 1, True)


def test_a_model_of_numbers_that_has_no_notes_is_evaluated_on_a_table(run, tmp_path):
    numbers(tmp_path / "t.csv")
    net = fastbp.Network([2, 1], output="identity", backend="numpy", seed=0)
    net.from_vector([90, -50, 500])
    net.save("net.safetensors")
    out = run(
        "evaluate", "net.safetensors", "--data", "t.csv", "--label", "y", *SMALL[6:8], "--json"
    )[1]
    assert json.loads(out)["test_r2"] == pytest.approx(1)


def test_all_rows_of_another_table_are_for_testing(run, tmp_path):
    numbers(tmp_path / "t.csv")
    run("train", *SMALL, "--epochs", 1)

    def tested(path):
        used = "t.safetensors", "--data", path, *SMALL[6:8], "--json"
        return json.loads(run("evaluate", *used)[1])["samples"]

    lines = (tmp_path / "t.csv").read_text().splitlines()
    for name, rows in (("same", lines), ("others", lines[:-1]), ("few", lines[:4])):
        (tmp_path / f"{name}.csv").write_text("\n".join(rows))
    assert [tested(f"{name}.csv") for name in ("t", "same", "others", "few")] == [12, 12, 59, 3]


def test_the_library_trains_what_the_command_trains(run, tmp_path):
    numbers(tmp_path / "t.csv")
    found = json.loads(run("train", *SMALL, "--json", "--quiet", "--validation-split", 0)[1])
    data = datasets.load("t.csv", label="y")
    y, mean = data.y_train, data.y_train.mean()
    net = fastbp.Network([2, 4, 1], "relu", "identity", scale="standard", backend="numpy", seed=0)
    net.fit(
        data.X_train, (y - mean) / y.std(), epochs=50, batch_size=10, learning_rate=0.01,
        optimizer="adam",
    )  # fmt: skip
    predicted = net.predict(data.X_test) * y.std() + mean
    assert abs(predicted - data.y_test).mean() == pytest.approx(found["test_mae"], rel=1e-4)


REAL = {
    "wine": "classification", "iris": "classification", "breast_cancer": "classification",
    "diabetes": "regression",
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_the_bare_command_reaches_what_sklearn_reaches(run, tmp_path, name):
    """Over three splits, as each has 30 to 113 test samples; with column names and text labels."""
    sklearn = pytest.importorskip("sklearn")
    from sklearn import compose, neural_network, pipeline, preprocessing
    from sklearn import datasets as theirs

    bunch = getattr(theirs, f"load_{name}")(as_frame=True)
    table = bunch.data.copy()
    table["the target"] = [
        bunch.target_names[t] if "target_names" in bunch else t for t in bunch.target
    ]
    scores = []
    for seed in range(3):
        table.sample(frac=1, random_state=seed).to_csv(f"{name}.csv", index=False)
        how = "--data", f"{name}.csv", "--label", "the target", "--seed", seed
        found = json.loads(run("train", *how, "--quiet", "--json", "--output", os.devnull)[1])
        assert found["task"] == REAL[name]
        data = datasets.load(f"{name}.csv", label="the target")
        kind = "MLPClassifier" if "target_names" in bunch else "MLPRegressor"
        model = getattr(neural_network, kind)(random_state=seed)
        if REAL[name] == "regression":  # without it, R2 is -1
            scaler = preprocessing.StandardScaler()
            model = compose.TransformedTargetRegressor(model, transformer=scaler)
        pipe = pipeline.make_pipeline(preprocessing.StandardScaler(), model)
        with warnings.catch_warnings(
            action="ignore", category=sklearn.exceptions.ConvergenceWarning
        ):
            pipe.fit(data.X_train, data.y_train)
        ours = found["test_r2" if REAL[name] == "regression" else "test_accuracy"]
        scores.append([ours, pipe.score(data.X_test, data.y_test)])
    ours, theirs = np.mean(scores, axis=0)
    assert ours > theirs - 0.03
    assert ours > (0.4 if REAL[name] == "regression" else 0.93)
