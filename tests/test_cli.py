import contextlib
import csv
import errno
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastbp
from corpora.idx import write_folder
from fastbp import (
    callbacks,
    engines,
    kernels,
    losses,
    optimizers,
    plots,
    reference,
    schedules,
    verification,
)  # fmt: skip
from fastbp.cli import main, options, records, values
from fastbp.cli.commands import COMMANDS
from fastbp.model import config
from fastbp.model import file as checkpoint
from fastbp.verification import tolerances

FAST = ["--hidden", "8", "--epochs", "2", "--batch-size", "20"]
MODEL, HISTORY, CURVES, REPORT = (
    f"digits{end}" for end in (".safetensors", ".history.jsonl", "-curves.png", "-report.html")
)
kernels.cache_dir()  # found once, before tests change what home is
with contextlib.suppress(ImportError):
    plots.check()  # so it is with matplotlib's
# The tests run from anywhere; so do their children, with the same fastbp.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(fastbp.__file__))}
RESULT_KEYS = {
    "test_accuracy", "correct", "baseline_accuracy",
    "train_seconds", "samples_per_second", "epochs", "seed", "loss", "sizes",
    "model", "history", "plot", "data", "data_path", "backend", "threads", "dtype", "stopped",
    "learning_rate", "hint",
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own for each test: that is where train leaves its files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTBP_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody's data sets
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path


@pytest.fixture
def model(folder):
    """A small network for the digits, as train would have left it."""
    net = fastbp.Network([64, 8, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    net.save(MODEL)
    return net


def complaint(code, out, err):
    """The one line in which wrong input is reported."""
    assert code == 2
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("fastbp: error: ")
    assert "Traceback" not in out + err
    return lines[0]


def process(*argv, **settings):
    command = [sys.executable, "-m", "fastbp", *argv]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, **settings
    )


def fitted(monkeypatch):
    """What `fit` is called with from now on."""
    calls = []
    fit = fastbp.Network.fit

    def spy(self, *data, **options):
        calls.append((data, options))
        return fit(self, *data, **options)

    monkeypatch.setattr(fastbp.Network, "fit", spy)
    return calls


# -- train ---------------------------------------------------------------------------------------


def test_without_arguments_the_digits_are_learnt_and_both_files_are_left(run, folder):
    code, out, err = run("train")
    assert code == 0
    assert "Traceback" not in err
    lines = out.splitlines()
    assert lines[0].startswith(
        "digits: 1,298 samples for training, 144 for validation, 355 for testing; 64-100-10"
    )
    assert sum(line.startswith("epoch ") for line in lines) == 30
    epoch = lines[1]
    pattern = (
        r"epoch  1/30: loss \d\.\d{4} \(val \d\.\d{4}\), accuracy 0\.\d{4} \(val 0\.\d{4}\), "
        r"rate 0\.05, \d\.\d{3} s, [\d,]+ samples/s"
    )
    assert re.fullmatch(pattern, epoch)
    assert float(lines[-4].split()[2]) >= 0.95
    assert lines[-4].startswith("test accuracy 0.9")
    assert lines[-3] == f"model:   {folder / MODEL}"
    assert lines[-2] == f"history: {folder / HISTORY}"
    assert lines[-1] == f"curves:  {folder / CURVES}"
    assert (folder / CURVES).read_bytes().startswith(b"\x89PNG")
    net = fastbp.load(folder / MODEL)
    assert net.sizes == (64, 100, 10)
    assert net.config["input_scale"] == 1 / 16
    assert {path.name for path in folder.iterdir()} >= {MODEL, CURVES, HISTORY}


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 3, 4))])
def test_the_defaults_learn_the_digits_with_any_seed(run, seed):
    code, out, _ = run("train", "--seed", seed, "--quiet", "--json")
    assert code == 0
    assert json.loads(out)["test_accuracy"] >= 0.95


def test_json_is_the_only_line_on_stdout(run, folder):
    code, out, err = run("train", *FAST, "--json", "--seed", 3, "--threads", 2)
    assert code == 0
    (line,) = out.splitlines()
    result = json.loads(line)
    assert result.keys() == RESULT_KEYS
    assert result["epochs"] == 2
    assert result["seed"] == 3
    assert result["threads"] == 2
    assert result["sizes"] == [64, 8, 10]
    assert result["model"] == str(folder / MODEL)
    assert result["plot"] == str(folder / CURVES)
    assert result["history"] == str(folder / HISTORY)
    assert 0 <= result["test_accuracy"] <= 1
    assert result["samples_per_second"] == pytest.approx(2 * 1298 / result["train_seconds"])
    assert err.count("epoch ") == 2


def test_quiet_prints_the_result_only(run):
    out = run("train", *FAST, "--quiet")[1]
    assert [line.split()[0] for line in out.splitlines()] == [
        "test", "model:", "history:", "curves:",
    ]  # fmt: skip
    code, out, err = run("train", *FAST, "--quiet", "--json")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1


def test_the_same_seed_gives_the_same_file_on_any_number_of_threads(run, folder):
    for name, more in (
        ("a", ["--seed", 1]), ("b", ["--seed", 1, "--threads", 2]), ("c", ["--seed", 2]),
    ):  # fmt: skip
        assert run("train", *FAST, *more, "--output", name)[0] == 0
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    assert (folder / "a").read_bytes() != (folder / "c").read_bytes()


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_every_option_reaches_the_network(run, folder, monkeypatch, digits, engine):
    calls = fitted(monkeypatch)
    code, out, _ = run(
        "train", "--data", "digits", "--hidden", "6,5", "--activation",
        "tanh", "--loss", "quadratic", "--epochs", 1, "--batch-size", 7, "--learning-rate", 0.1,
        "--no-bias", "--init", 0.5, "--dtype", "float64", "--threads", 2, "--seed", 4,
        "--backend", engine, "--output", "m.safetensors", "--plot", "p.svg", "--json",
        "--optimizer", "adamw", "--l2", 0.01, "--l1", 0.02, "--clip-norm", 0.5,
        "--validation-split", 0.2, "--weight-decay", 0.1,
        "--class-weight", "balanced",
    )  # fmt: skip
    assert code == 0
    result = json.loads(out)
    assert (result["backend"], result["dtype"], result["epochs"]) == (engine, "float64", 1)
    assert [options["threads"] for _, options in calls] == [2]
    net = fastbp.load("m.safetensors")
    assert net.config == {
        "sizes": [64, 6, 5, 10], "activation": "tanh", "output": "identity", "loss": "quadratic",
        "bias": False, "dtype": "float64", "input_scale": 1 / 16, "scale": None, "dropout": 0.0,
    }  # fmt: skip
    expected = fastbp.Network(
        [64, 6, 5, 10], "tanh", loss="quadratic", bias=False, dtype="float64", init=0.5, seed=4,
        input_scale=1 / 16, backend=engine,
    )  # fmt: skip
    X, y, *_ = fastbp.datasets.hold_out(digits.X_train, digits.y_train, 0.2)
    rule = fastbp.AdamW(l2=0.01, clip_norm=0.5, l1=0.02, weight_decay=0.1)
    expected.fit(
        X, y, epochs=1, batch_size=7, learning_rate=0.1, optimizer=rule, class_weight="balanced"
    )
    np.testing.assert_array_equal(net.to_vector(), expected.to_vector())
    assert (folder / "p.svg").exists()


QUICKLY = "--epochs", 1, "--backend", "numpy", "--batch-size", 500


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--activation gelu", {"activation": "gelu"}),
        ("--hidden 6,5 --activation silu,tanh", {"activation": ["silu", "tanh"]}),
        ("--hidden 6,5 --activation relu,relu", {"activation": "relu"}),
        ("--dropout 0.25", {"dropout": 0.25}),
        ("--hidden 6,5 --dropout 0,0.5", {"dropout": [0.0, 0.5]}),
        ("--label-smoothing 0.1", {"loss": losses.CrossEntropy(0.1)}),
        ("--loss huber", {"loss": "huber", "output": "identity"}),
        ("--loss huber,width=2", {"loss": losses.Huber(2.0), "output": "identity"}),
        ("--loss huber,width=1", {"loss": "huber", "output": "identity"}),
        ("--loss quantile,q=0.9", {"loss": losses.Quantile(0.9), "output": "identity"}),
        ("--loss absolute", {"loss": "absolute", "output": "identity"}),
    ],
)
def test_the_network_is_as_named(run, given, meant):
    """Classes, as rows of zeros and a one, are learnt by every loss."""
    code, _, err = run("train", *QUICKLY, *given.split(), "--json")
    assert code == 0, err
    config = fastbp.load(MODEL, backend="numpy").config
    assert {name: config[name] for name in meant} == meant


def test_all_commands_know_layers_losses_and_dropout(run, folder):
    given = "--hidden 6,5 --activation gelu,leaky_relu --dropout 0.25,0 --label-smoothing 0.1"
    code, out, err = run("train", *QUICKLY, *given.split())
    assert code == 0, err
    words = "gelu, leaky_relu, cross-entropy (label smoothing 0.1), dropout 0.25, 0; sgd"
    assert words in out.splitlines()[0]
    assert json.loads(run("evaluate", MODEL, "--json")[1])["samples"] == 355
    code, out, _ = run("info", MODEL)
    assert code == 0
    typed = "--activation gelu,leaky_relu --label-smoothing 0.1 --dropout 0.25,0.0"
    for line in ("hidden 1  64    6  gelu, dropout 0.25", "hidden 2   6    5  leaky_relu", typed):
        assert line in out
    assert json.loads(run("info", MODEL, "--json")[1])["activation"] == ["gelu", "leaky_relu"]
    assert len(run("predict", MODEL)[1].splitlines()) == 355
    assert run("gradcheck", MODEL)[1].splitlines()[-1].startswith("ok: ")
    assert run("find-learning-rate", *QUICKLY[2:], *given.split())[0] == 0
    for kind in ("curves", "norms", "weights", "confusion"):
        assert run("plot", kind, MODEL)[0] == 0, kind
    assert run("report", MODEL)[0] == 0
    page = (folder / REPORT).read_text("utf-8")
    for cell in ("gelu, dropout 0.25 - leaky_relu", "cross-entropy (label smoothing 0.1)"):
        assert f"<td>{cell}</td>" in page


# -- schedules, callbacks, the finder ------------------------------------------------------------


def json_lines(path):
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def csv_rows(path):
    return list(csv.DictReader(Path(path).read_text("utf-8").splitlines()))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("step,every=2,factor=0.1", schedules.Step(0.5, 2, 0.1)),
        ("step", schedules.Step(0.5)),
        ("exponential,factor=0.5", schedules.Exponential(0.5, 0.5)),
        ("cosine", schedules.Cosine(0.5, epochs=5)),
        ("cosine,epochs=3,end=0.1", schedules.Cosine(0.5, epochs=3, end=0.1)),
        (
            "cosine --by-step --warmup 1.5",
            schedules.Warmup(schedules.ByStep(schedules.Cosine(0.5, epochs=5)), 1.5),
        ),
        ("plateau,patience=1,factor=0.1,min_delta=9", schedules.OnPlateau(0.5, 0.1, 1, "loss", 9)),
    ],
)
def test_schedules_by_name_are_those_of_the_library(run, digits, option, expected):
    options = "--epochs", 5, "--learning-rate", 0.5, "--log", "log.jsonl"
    code, out, _ = run("train", *FAST, *options, "--json", "--schedule", *option.split())
    assert code == 0
    X, y, *validation = fastbp.datasets.hold_out(*digits[:2])
    net = fastbp.Network(
        [64, 8, 10], "relu", loss="cross-entropy", input_scale=1 / 16, seed=0,
    )  # fmt: skip
    history = net.fit(
        X, y, epochs=5, batch_size=20, learning_rate=expected, validation_data=tuple(validation)
    )
    rates = [line["learning_rate"] for line in json_lines("log.jsonl")]
    assert rates == history.learning_rate
    assert len(set(history.learning_rate)) > 1 or option == "step"
    assert json.loads(out)["learning_rate"] == history.learning_rate[-1]
    np.testing.assert_array_equal(fastbp.load(MODEL).to_vector(), net.to_vector())


def test_a_part_of_the_training_images_is_held_out_for_validation(run, monkeypatch, digits):
    """So that no test image is seen before the end."""
    calls = fitted(monkeypatch)
    for share in (0.1, 0.25):
        out = run("train", *FAST, "--validation-split", share, "--backend", "numpy")[1]
        expected = fastbp.datasets.hold_out(*digits[:2], share)
        counts = f"{len(expected[0]):,} samples for training, {len(expected[2])} for validation"
        assert out.startswith(f"digits: {counts}, 355 for testing")
        (samples, options) = calls.pop()
        for found, wanted in zip((*samples, *options["validation_data"]), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    out = run("train", *FAST, "--validation-split", 0, "--backend", "numpy")[1]
    assert out.startswith("digits: 1,442 samples for training, 355 for testing")
    assert "(val " not in out
    assert calls.pop()[1]["validation_data"] is None


def test_of_a_few_samples_none_are_held_out(run):
    X = np.ones((4, 3), "float32")
    np.savez("d.npz", x_train=X, y_train=[0, 1, 0, 1], x_test=X, y_test=[0, 1, 0, 1])
    options = "--data", "d.npz", "--batch-size", 2, "--hidden", 2, "--backend", "numpy"
    code, out, _ = run("train", *options, "--epochs", 2)
    assert code == 0
    assert "4 samples for training, none for validation, as a tenth of so few is none, 4" in out
    for more, word in (
        (["--early-stopping", 3], "--early-stopping needs validation samples"),
        (["--schedule", "plateau,monitor=val_loss"], "with val_loss needs valid"),
    ):
        assert word in complaint(*run("train", *options, *more))
    assert run("train", *options, "--early-stopping", 3, "--validation-split", 0.5)[0] == 0


def test_early_stopping_ends_and_leaves_the_best_weights(run, digits):
    options = "--hidden", 8, "--learning-rate", 0.5, "--epochs", 300, "--early-stopping", 4
    code, out, err = run("train", *options, "--log", "log.csv", "--json")
    assert code == 0
    result = json.loads(out)
    assert re.fullmatch(r"no better val_loss than 0\.\d+ since epoch \d+", result["stopped"])
    assert f"\nended after epoch {result['epochs']}: no better val_loss" in err
    losses = [float(row["val_loss"]) for row in csv_rows("log.csv")]
    assert len(losses) == result["epochs"] == int(np.argmin(losses)) + 1 + 4 < 300
    *_, X, y = fastbp.datasets.hold_out(digits.X_train, digits.y_train)
    net = fastbp.load(MODEL)
    assert net.loss(X, y) == min(losses)
    assert net.accuracy(digits.X_test, digits.y_test) == result["test_accuracy"]


def test_on_real_images_early_stopping_and_a_schedule_together(run, mnist):
    X, y, X_test, y_test = (part[:10_000] for part in mnist)
    np.savez("images.npz", x_train=X, y_train=y, x_test=X_test, y_test=y_test)
    code, out, _ = run(
        "train", "--data", "images.npz", "--hidden", 30, "--epochs", 40, "--early-stopping", 2,
        "--schedule", "exponential,factor=0.8", "--json", "--quiet",
    )  # fmt: skip
    result = json.loads(out)
    # Over six seeds it is 0.926 to 0.934.
    assert (code, result["epochs"] < 40, result["test_accuracy"] > 0.92) == (0, True, True)
    assert result["learning_rate"] == pytest.approx(0.05 * 0.8 ** (result["epochs"] - 1))


CHECKPOINTS = {  # by --output
    "m.safetensors": "m-{}.safetensors", "m": "m-{}",
    "{a}.b": "{{a}}-{}.b", "{c}/{d}.e": "{{c}}/{{d}}-{}.e",
}  # fmt: skip


def test_checkpoints_stand_beside_the_model(run, folder):
    (folder / "{c}").mkdir()
    twins = {}
    for epochs in (2, 4):
        assert run("train", *FAST, "--epochs", epochs, "--output", f"twin {epochs}")[0] == 0
        twins[epochs] = fastbp.load(f"twin {epochs}")
    for output, name in CHECKPOINTS.items():
        options = "--epochs", 5, "--checkpoint-every", 2, "--output", output, "--quiet"
        assert run("train", *FAST, *options)[0] == 0
        for epochs in (2, 4):
            path = folder / name.format(f"{epochs:04}")
            net = fastbp.load(path)
            np.testing.assert_array_equal(net.to_vector(), twins[epochs].to_vector())
            remembered = net.notes["training"]
            assert (remembered["epochs"], remembered["settings"]["epochs"]) == (epochs, 5)
            path.unlink()
        assert not list(folder.rglob("*-000*")), output


def test_both_logs_say_what_the_lines_say(run):
    for log in ("log.csv", "log.jsonl"):
        assert run("train", *FAST, "--log", log)[0] == 0
    objects = json_lines("log.jsonl")
    assert [one["epoch"] for one in objects] == [1, 2]
    for row, one in zip(csv_rows("log.csv"), objects, strict=True):
        for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
            assert float(row[name]) == one[name]


def test_the_finder_s_suggestion_learns_the_digits(run, folder, digits):
    options = "--hidden", "20", "--activation", "sigmoid", "--loss", "quadratic"
    code, out, err = run("find-learning-rate", *options, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    (folder / "rates.json").write_text(out)
    net = fastbp.Network([64, 20, 10], "sigmoid", input_scale=1 / 16, seed=0)
    X, y, *_ = digits
    expected = fastbp.find_learning_rate(net, X, y, batch_size=10)
    assert found["suggestion"] == expected.suggestion
    assert found["rates"] == expected.rates.tolist()
    assert found["losses"] == expected.losses.tolist()
    rate = f"{found['suggestion']:.3g}"
    lines = run("find-learning-rate", *options)[1].splitlines()
    assert lines[0] == "digits: 64-20-10, sigmoid, quadratic, sgd, batches of 10"
    assert lines[1].startswith("tried   1e-06 to ")
    assert lines[2] == f"suggest --learning-rate {rate}"
    assert run("plot", "learning-rate", "rates.json")[0] == 0
    assert (folder / "rates-learning-rate.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads(run("train", *options, "--learning-rate", rate, "--json", "--quiet")[1])
    assert result["test_accuracy"] > 0.9


def test_info_of_a_model_is_its_summary(run, model):
    assert run("info", MODEL) == (0, fastbp.load(MODEL).summary() + "\n", "")
    facts = json.loads(run("info", MODEL, "--json")[1])
    assert {**facts, "layers": None} == {**model.config, "layers": None, "notes": {}}
    assert [layer["parameters"] for layer in facts["layers"]] == [64 * 8 + 8, 8 * 10 + 10]


def test_no_hidden_layer(run):
    code, out, _ = run("train", *FAST, "--hidden", "", "--json")
    assert code == 0
    assert json.loads(out)["sizes"] == [64, 10]


@pytest.mark.parametrize(
    ("dtype", "top", "scale"),
    [("uint8", 255, 1 / 255), ("uint8", 16, 1 / 16), ("int32", 1000, 1 / 1000),
     ("uint8", 0, 1.0), ("float32", 200, 1.0)],
)  # fmt: skip
def test_integers_are_scaled_by_their_maximum(run, folder, dtype, top, scale):
    X, y = np.zeros((4, 3), dtype), np.arange(4) % 2
    X[0, 0] = top
    np.savez("d.npz", x_train=X, y_train=y, x_test=X, y_test=y)
    assert run("train", *FAST, "--batch-size", 2, "--data", folder / "d.npz", "--quiet")[0] == 0
    assert fastbp.load("d.safetensors").config["input_scale"] == scale


def test_a_class_that_only_the_test_set_has_gets_an_output(run, folder):
    X = np.ones((4, 3), "float32")
    np.savez("d.npz", x_train=X, y_train=[0, 1, 0, 1], x_test=X, y_test=[0, 1, 2, 2])
    out = run("train", *FAST, "--batch-size", 2, "--data", folder / "d.npz", "--json")[1]
    assert json.loads(out)["sizes"] == [3, 8, 3]


def test_without_matplotlib_there_is_a_note_and_a_model(run, folder, without_matplotlib):
    code, out, _ = run("train", *FAST)
    assert code == 0
    assert "pip install matplotlib" in out.splitlines()[-1]
    assert not (folder / CURVES).exists()
    assert (folder / MODEL).exists()
    assert json.loads(run("train", *FAST, "--json")[1])["plot"] is None


def test_without_matplotlib_an_explicit_plot_is_an_error_before_training(
    run, folder, without_matplotlib
):
    assert "pip install matplotlib" in complaint(*run("train", *FAST, "--plot", "a.png"))
    assert not (folder / MODEL).exists()


def test_the_progress_bar_is_for_terminals(run, monkeypatch):
    tqdm = pytest.importorskip("tqdm", reason="the extra progress is not installed")
    monkeypatch.setattr(tqdm.std.tqdm, "monitor_interval", 0)  # else its thread stays
    seen = []
    fit = fastbp.Network.fit

    def spy(self, *arguments, progress, **keywords):
        seen.append(progress)
        return fit(self, *arguments, progress=progress, **keywords)

    monkeypatch.setattr(fastbp.Network, "fit", spy)
    run("train", *FAST)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    code, out, _ = run("train", *FAST)
    assert code == 0
    assert out.count("epoch ") == 2
    run("train", *FAST, "--quiet")
    assert seen == [False, True, False]


# -- bad input -----------------------------------------------------------------------------------

BAD = {
    "no command": ([], "required: COMMAND"),
    "unknown command": (["fly"], "invalid choice: 'fly'"),
    "unknown option": (["train", "--fast"], "unrecognized arguments: --fast"),
    "data without their option": (["train", "a.csv"], "arguments: a.csv; data are named by --data"),
    "abbreviated option": (["train", "--epoch", "3"], "unrecognized arguments: --epoch"),
    "words for widths": (["train", "--hidden", "a,b"], "--hidden: expected widths such as 100,100"),
    "a hole in the widths": (["train", "--hidden", "3,,3"], "got '3,,3'"),
    "no neurons": (["train", "--hidden", "0"], "sizes[1] must be a positive integer"),
    "negative neurons": (["train", "--hidden", "5,-3"], "sizes[2] must be a positive integer"),
    "too many neurons": (["train", "--hidden", "1" + "0" * 12], "out of memory"),
    "far too many neurons": (["train", "--hidden", "1" + "0" * 40], "fastbp: error"),
    "activation": (
        ["train", "--activation", "swish"],
        "--activation: expected one of sigmoid, tanh, relu, identity, leaky_relu, elu, softplus, "
        "silu, gelu; got 'swish'",
    ),
    "softmax inside": (["train", "--activation", "softmax"], "gelu; got 'softmax'"),
    "one of two activations": (["train", "--activation", "relu,swish"], "gelu; got 'swish'"),
    "more activations than layers": (
        ["train", "--activation", "relu,tanh"],
        "activation must have an entry for the hidden layer; got 2: ['relu', 'tanh']",
    ),
    "loss": (
        ["train", "--loss", "hinge"],
        "--loss: expected one of quadratic, absolute, huber, quantile, cross-entropy, poisson; "
        "got 'hinge'",
    ),
    "a setting of a loss that has none": (
        ["train", "--loss", "absolute,width=2"], "absolute takes no settings; got 'width='",
    ),
    "another loss's setting": (
        ["train", "--loss", "huber,q=0.9"], "--loss: huber takes width=...; got 'q='",
    ),
    "no width": (
        ["train", "--loss", "huber,width=0"], "width must be a positive number, finite in float32",
    ),
    "a width in words": (["train", "--loss", "huber,width=wide"], "width must be a"),
    "no quantile": (["train", "--loss", "quantile,q=90"], "q must be "),
    "all smooth": (["train", "--label-smoothing", "1"], "label_smoothing must be"),
    "smoothing of numbers": (
        ["train", "--loss", "huber,width=2", "--label-smoothing", "0.1"],
        "--label-smoothing is of --loss cross-entropy; --loss is huber,width=2",
    ),
    "all dropped": (["train", "--dropout", "1"], "dropout must be "),
    "dropout in words": (
        ["train", "--dropout", "half"], "--dropout: expected shares such as 0.3 or 0.2,0.5; got",
    ),
    "more shares than layers": (
        ["train", "--dropout", "0.2,0.5"], "dropout must have an entry for the hidden layer",
    ),
    "dropout of no layer": (["train", "--hidden", "", "--dropout", "0.5"], "dropout must be 0: "),
    "init": (["train", "--init", "zeros"], "init must be one of lecun_normal, he, glorot,"),
    "init zero": (["train", "--init", "0"], "init must be a positive"),
    "init NaN": (["train", "--init", "nan"], "init must be a positive"),
    "dtype": (["train", "--dtype", "float16"], "--dtype: invalid choice: 'float16'"),
    "backend": (["train", "--backend", "cuda"], "--backend: invalid choice: 'cuda'"),
    "no epochs": (["train", "--epochs", "0"], "epochs must be a positive integer"),
    "half an epoch": (["train", "--epochs", "0.5"], "--epochs: invalid int value: '0.5'"),
    "empty batch": (["train", "--batch-size", "0"], "batch_size must be a positive integer"),
    "no learning rate": (["train", "--learning-rate", "0"], "learning_rate must be a positive"),
    "by step without a schedule": (["train", "--by-step"], "--by-step needs --schedule, such as"),
    "a plateau by step": (
        ["train", "--schedule", "plateau", "--by-step"], "--by-step: schedule must have no memory",
    ),
    "no warm-up": (["train", "--warmup", "0"], "--warmup: epochs must be a positive number"),
    "a decay of sgd": (
        ["train", "--weight-decay", "0.1"],
        "--weight-decay is of --optimizer adamw; --optimizer is sgd, for which there is --l2",
    ),
    "AdamW's decay below zero": (
        ["train", "--optimizer", "adamw", "--weight-decay", "-1"],
        "weight_decay must be a positive number",
    ),
    "L1 below zero": (["train", "--l1", "-1"], "l1 must be a positive number"),
    "no such optimizer": (
        ["train", "--optimizer", "lbfgs"],
        "--optimizer: invalid choice: 'lbfgs' (choose from 'sgd', 'momentum', 'nesterov', 'adam', "
        "'adamw', 'rmsprop')",
    ),
    "decay below zero": (["train", "--l2", "-1"], "l2 must be a positive number"),
    "decay NaN": (["find-learning-rate", "--l2", "nan"], "l2 must be a positive number"),
    "decay in words": (["train", "--l2", "much"], "--l2: invalid float value: 'much'"),
    "norm below zero": (["train", "--clip-norm", "-2"], "clip_norm must be a positive number"),
    "all for validation": (
        ["train", "--validation-split", "1"], "--validation-split must be from 0 to below 1; got 1",
    ),
    "validation below zero": (["train", "--validation-split", "-0.1"], "to below 1; got -0.1"),
    "validation NaN": (["train", "--validation-split", "nan"], "to below 1; got nan"),
    "infinite rate": (["train", "--learning-rate", "inf"], "learning_rate must be a positive"),
    "rate NaN": (["train", "--learning-rate", "nan"], "learning_rate must be a positive"),
    "divergence": (
        ["train", "--learning-rate", "1e20"],
        "epoch 1, step 2, layer 2 of 2, at learning rate 1e+20",
    ),
    "unknown schedule": (
        ["train", "--schedule", "steps"],
        "--schedule: expected one of step, exponential, cosine, plateau; got 'steps'",
    ),
    "no schedule": (["train", "--schedule", ""], "plateau; got ''"),
    "another schedule's": (
        ["train", "--schedule", "step,patience=3"],
        "step takes every=... or factor=...; got 'patience='",
    ),
    "a rate twice": (["train", "--schedule", "step,learning_rate=3"], "got 'learning_rate='"),
    "no value": (["train", "--schedule", "cosine,end"], "epochs=... or end=...; got 'end'"),
    "a key twice": (["train", "--schedule", "step,every=2,every=3"], "every= is given more"),
    "a word for epochs": (
        ["train", "--schedule", "step,every=a"],
        "--schedule: every must be a positive integer",
    ),
    "steps of no epoch": (["train", "--schedule", "step,every=0"], "every must be a positive int"),
    "a rate that grows": (["train", "--schedule", "exponential,factor=2"], "factor must be a numb"),
    "an end above": (["train", "--schedule", "cosine,end=9"], "--schedule: end must be at most"),
    "a plateau of what": (["train", "--schedule", "plateau,monitor=x"], "monitor must be one of l"),
    "no patience": (
        ["train", "--early-stopping", "0"],
        "--early-stopping: patience must be a positive integer",
    ),
    "half a patience": (["train", "--early-stopping", "0.5"], "--early-stopping: invalid int val"),
    "a gap, by its row in the file": (
        ["train", "--data", "gap.npz", "--early-stopping", "3"], "got nan at X[37, 2]",
    ),
    "none to hold out": (
        ["train", "--data", "one.npz", "--batch-size", "1", "--early-stopping", "3"],
        "--early-stopping needs validation samples; raise --validation-split",
    ),
    "no checkpoints": (
        ["train", "--checkpoint-every", "0"],
        "--checkpoint-every: every must be a positive integer",
    ),
    "log of another kind": (
        ["train", "--log", "log.txt"], "--log: expected a file .csv or .jsonl; got 'log.txt'",
    ),
    **{
        f"model named {end}": (
            ["train", "--output", f"m{end}"], f"m{end}: the name must end in .safetensors, as that",
        )
        for end in (".onnx", ".ONNX", ".npz", ".pt", ".pth", ".pkl", ".h5", ".csv", ".jsonl")
    },
    "checkpoint named npz": (["train", "--checkpoint", "c.npz"], "c.npz: the name must end"),
    "page named pdf": (["report", "small", "--output", "r.pdf"], "must end in .html or .htm, as"),
    "rows named npy": (
        ["predict", "small", "--data", "three.npy", "--output", "p.npy"], "must end in .csv or",
    ),
    "log over the table": (
        ["train", "--data", "t.csv", "--label", "a", "--log", "./t.csv"], "uses this file already",
    ),
    "one file twice": (["train", "--output", "m", "--checkpoint", "./m"], "./m: the command uses"),
    "history as the log": (
        ["train", "--output", "m", "--log", "m.history.jsonl"], "jsonl: the command uses this file",
    ),
    "model over its checkpoint": (
        ["train", "--resume", "small", "--output", "small"], "small: the command uses this file",
    ),
    "rows over the table": (
        ["predict", "small", "--data", "t.csv", "--output", "t.csv"], "t.csv: the command uses",
    ),
    "rows over the model": (["predict", "small", "--output", "small"], "small: the command uses"),
    "page over the model": (["report", "small", "--output", "small"], "small: the command uses"),
    "log nowhere": (["train", "--log", "no/log.csv"], "no/log.csv: its folder does not exist"),
    "log a folder": (["train", "--log", "folder.csv"], "folder.csv: expected a file"),
    "finder of nothing": (["find-learning-rate", "--data", "nope"], "no data set 'nope'"),
    "finder of epochs": (["find-learning-rate", "--epochs", "3"], "unrecognized arguments"),
    "finder in no threads": (["find-learning-rate", "--threads", "0"], "threads must be a posit"),
    "nothing to find": (
        ["find-learning-rate", "--data", "dark.npz", "--batch-size", "2"],
        "did the loss fall, so that there is none to suggest: scale the inputs",
    ),
    "layers of nothing": (["info", "m"], "m: there is no such file; `fastbp train` writes one"),
    "layers of damage": (["info", "damaged"], "damaged is a zip archive"),
    "no threads": (["train", "--threads", "0"], "threads must be a positive integer"),
    "negative seed": (["train", "--seed", "-1"], "seed must be a non-negative integer"),
    "unknown data": (["train", "--data", "nope"], "no data set 'nope'"),
    "missing data": (["train", "--data", "no/data.npz"], "no/data.npz: no such file or folder"),
    "data folder": (["train", "--data", "mnist", "--data-dir", "x"], "data_dir must be a folder"),
    "damaged data": (["train", "--data", "damaged.npz"], "damaged.npz"),
    "NaN in the data": (["train", "--data", "nan.npz", "--batch-size", "2"], "nan at X[0, 0]"),
    "output nowhere": (["train", "--output", "no/m"], "no/m: its folder does not exist"),
    "output a folder": (["train", "--output", "."], ".: expected a file, got a folder"),
    "checkpoint nowhere": (["train", "--checkpoint", "no/c"], "no/c: its folder does not exist"),
    "no checkpoint": (["train", "--resume", "none"], "none: there is no such file"),
    "a model as checkpoint": (["train", "--resume", "small"], "small is not a training checkpoint"),
    "plot nowhere": (["train", "--plot", "no/p.png"], "no/p.png: its folder does not exist"),
    "plot of another kind": (["train", "--plot", "p.foo"], "path must end in "),
    "missing model": (["evaluate", "m"], "m: there is no such file; `fastbp train` writes one"),
    "no model": (["evaluate"], "the following arguments are required: MODEL"),
    "a model that does not remember": (["evaluate", "small"], "on; name data by --data"),
    "damaged model": (["predict", "damaged"], "damaged is a zip archive"),
    "data as the model": (["evaluate", "t.csv"], "t.csv is no model, but data, which go to --data"),
    "foreign model": (["gradcheck", "foreign"], "foreign is not a model of fastbp"),
    "odd configuration": (["evaluate", "odd"], "odd: the configuration is not a network's"),
    "missing arrays": (["evaluate", "hollow"], "hollow: "),
    "model with NaN": (["evaluate", "sick"], "layers.0.weight must hold finite"),
    "model of another width": (["evaluate", "small", "--data", "digits"], "samples of 3 num"),
    "images to predict": (
        ["predict", "small", "--data", "digits"], "takes samples of 3 numbers, those of digits",
    ),
    "another layout": (["evaluate", "other.onnx"], "`fastbp convert` makes a model of it"),
    "a folder for the digits": (["train", "--data-dir", "."], "is for mnist and fashion-mnist"),
    "a folder for rows": (
        ["predict", "small", "--data", "three.npy", "--data-dir", "."], "is for mnist and fashion",
    ),
    "a folder without mnist": (
        ["train", "--data", "mnist", "--data-dir", "."], "mnist was not found in .; put train-im",
    ),
    "rows of another width": (["predict", "small", "--data", "rows.npy"], "X must be (batch, 3)"),
    "rows of text": (["predict", "small", "--data", "text.npy"], "'U1' is not a plain bool"),
    "rows of objects": (["predict", "small", "--data", "objects.npy"], "'O' is not a plain bool"),
    "rows of terabytes": (["predict", "small", "--data", "vast.npy"], "vast.npy: it has 176"),
    "a scalar": (["predict", "small", "--data", "scalar.npy"], "an array's shape must be a"),
    "no rows": (["predict", "small", "--data", "empty.npy"], "an array of shape (0, 3) is empty"),
    "missing rows": (["predict", "small", "--data", "no.npy"], "no.npy: no such file"),
    "rows that are text": (["predict", "small", "--data", "fake.npy"], "it is not a numeric array"),
    "no folder": (["predict", "small", "--data", "three.npy", "--output", "no/c"], "no/c: its fo"),
    "history a folder": (["train", "--output", "taken"], "taken.history.jsonl: expected a file"),
    "a folder's history": (["plot", "curves", "."], ".history.jsonl: there is no such file"),
    "no kind": (["plot"], "the following arguments are required: KIND"),
    "unknown kind": (["plot", "loss"], "argument KIND: invalid choice: 'loss'"),
    "two models": (["plot", "weights", "small", "odd"], "takes one file; got small odd"),
    "picture nowhere": (["plot", "weights", "small", "--output", "no/p.png"], "no/p.png: its"),
    "picture a folder": (["plot", "weights", "small", "--output", "."], "expected a file"),
    "picture of another kind": (["plot", "weights", "small", "--output", "p.foo"], "must end in"),
    "model without history": (["plot", "curves", "small"], "small.history.jsonl: there is no such"),
    "norms without history": (["plot", "norms", "small"], "small.history.jsonl: there is no such"),
    "history of nothing": (["plot", "curves", "empty.jsonl"], "empty.jsonl: it is empty"),
    "history without norms": (["plot", "norms", "plain.jsonl"], "norms must hold at least one"),
    "images of another width": (
        ["plot", "mistakes", "small", "--data", "digits"], "of digits have 64; pass the data",
    ),
    "matrix of another width": (
        ["plot", "confusion", "small", "--data", "digits"], "pass the data it was trained on",
    ),
    "rates that are none": (["plot", "learning-rate", "plain.jsonl"], "it lacks rates, losses"),
    "rates of nobody": (["plot", "learning-rate"], "arguments are required: FILE"),
    "no rates": (["plot", "learning-rate", "none.json"], "none.json: No such file"),
    "page nowhere": (["report", "small", "--output", "no/r.html"], "no/r.html: its folder does"),
    "page a folder": (["report", "small", "--output", "."], ".: expected a file, got a folder"),
    "page of another width": (["report", "small", "--data", "digits"], "have 64; pass the data"),
    "page of no model": (["report", "nothing"], "nothing: there is no such file"),
    "one layer": (["gradcheck", "--sizes", "5"], "sizes must hold the inputs and at least one"),
    "no samples": (["gradcheck", "--samples", "0"], "X must hold at least one sample"),
    "negative samples": (["gradcheck", "--samples", "-1"], "negative dimensions"),
    "no suffix": (["export", "small", "o"], "OUT must end in .onnx (ONNX) or .safetensors (PyT"),
    "export of nothing": (["export", "m", "o.onnx"], "m: there is no such file"),
    "export nowhere": (
        ["export", "small", "no/o.onnx"], "no/o.onnx: cannot write the file, its f",
    ),
    "export by another name": (
        ["export", "small", "o.pt"], "(PyTorch's state_dict); got o.pt",
    ),
    "bytes for PyTorch": (
        ["export", "small", "o.safetensors", "--inputs", "uint8"],
        "--inputs is for ONNX",
    ),
    "export over itself": (
        ["export", "m.safetensors", "./m.safetensors"], "OUT must be another file",
    ),
    "convert over itself": (
        ["convert", "m.safetensors", "m.safetensors"], "OUT must be another file than m.safetens",
    ),
    "convert of its own": (
        ["convert", "m.safetensors", "o.safetensors"], "a model of fastbp already",
    ),
    "convert of a pickle": (["convert", "m.pt", "o.safetensors"], "it can run any code"),
    "convert of no kind": (["convert", "m.h5", "o.safetensors"], "m.h5: the name must end in"),
    "convert of nothing": (
        ["convert", "no.onnx", "o.safetensors"], "no.onnx: there is no such file",
    ),
    "convert without functions": (
        ["convert", "foreign.safetensors", "o.safetensors"], "torch.nn.Linear; got array 'a'",
    ),
    "convert of damage": (["convert", "damaged.onnx", "o.safetensors"], "or not an ONNX file"),
    "scale of zero": (
        ["convert", "foreign.safetensors", "o.safetensors", "--input-scale", "0"],
        "input_scale must be a positive number",
    ),
    "no label": (["train", "--data", "t.csv"], "to be predicted, one of ['a', 'b'], by --la"),
    "no such label": (["train", "--data", "t.csv", "--label", "z"], "label must be one of the"),
    "label of images": (["train", "--label", "z"], "label and task are of a column of a .csv file"),
    "text in a table": (["train", "--data", "t.csv", "--label", "a"], "column 'b' holds text"),
    "text to predict": (["predict", "small", "--data", "t.csv"], "column 'b' holds text, 'x' in r"),
    "separator of images": (["train", "--separator", ";"], "separator, decimal are of a .csv file"),
    "separator of two": (
        ["train", "--data", "t.csv", "--label", "a", "--separator", ";;"], "must be one character",
    ),
    "one class": (["train", "--data", "one.csv", "--label", "b"], "'b' holds one class alone, 7"),
    "no header": (["train", "--data", "n.csv", "--label", "b"], "pass --no-header"),
    "warmup": (["warmup", "--dtype", "int8"], "--dtype: invalid choice: 'int8'"),
}  # fmt: skip


@pytest.fixture
def bad_files(folder):
    """Files that are not what they should be, each by its name in BAD."""
    good = fastbp.Network([3, 2], seed=0)
    good.save("small")
    arrays, config = checkpoint.read("small")
    checkpoint.write("hollow", {}, config)
    checkpoint.write("odd", arrays, {"sizes": "many"})
    checkpoint.write("sick", arrays | {"layers.0.weight": np.full((2, 3), np.nan, "f4")}, config)
    import safetensors.numpy

    good.save("m.safetensors")
    (folder / "t.csv").write_text("a,b\n0,x\n1,2\n")
    (folder / "one.csv").write_text("a,b\n" + "1,7\n" * 9)
    (folder / "n.csv").write_text("1,0\n2,1\n" * 9)
    (folder / "m.pt").write_bytes(b"\x80\x04.")
    (folder / "damaged.onnx").write_bytes(bytes(99))
    safetensors.numpy.save_file({"a": np.zeros(2)}, "foreign")
    safetensors.numpy.save_file({"a": np.zeros(2)}, "foreign.safetensors")
    X, y = np.full((4, 3), np.nan), np.arange(4) % 2
    np.savez("nan.npz", x_train=X, y_train=y, x_test=np.zeros((4, 3)), y_test=y)
    X, y = np.zeros((60, 3)), np.arange(60) % 2
    X[37, 2] = np.nan
    np.savez("gap.npz", x_train=X, y_train=y, x_test=X[:4], y_test=y[:4])
    X, y = np.ones((1, 3), "f4"), np.zeros(1, int)
    np.savez("one.npz", x_train=X, y_train=y, x_test=X, y_test=y + 1)
    X, y = np.zeros((4, 3), "f4"), np.arange(4) % 2  # with as many of each class
    np.savez("dark.npz", x_train=X, y_train=y, x_test=X, y_test=y)
    (folder / "folder.csv").mkdir()
    for name in ("damaged", "damaged.npz"):
        (folder / name).write_bytes(b"PK\x03\x04" + bytes(100))
    (folder / "taken.history.jsonl").mkdir()
    (folder / "other.onnx").touch()
    (folder / "empty.jsonl").touch()
    (folder / "plain.jsonl").write_text('{"loss": 1}')
    np.save("rows.npy", np.zeros((2, 4)))
    np.save("three.npy", np.zeros((2, 3)))
    np.save("text.npy", np.array([["a", "b", "c"]]))
    np.save("objects.npy", np.array([{}, {}, {}], object), allow_pickle=True)
    np.save("scalar.npy", np.array(1.0))
    np.save("empty.npy", np.zeros((0, 3)))
    (folder / "fake.npy").write_text("1,2,3\n")
    blob = (folder / "three.npy").read_bytes()
    vast = b"(9999999999, 3), }"
    (folder / "vast.npy").write_bytes(blob.replace(b"(2, 3), }" + b" " * (len(vast) - 9), vast, 1))
    assert (folder / "vast.npy").stat().st_size == len(blob)
    return folder


@pytest.mark.parametrize(("argv", "part"), BAD.values(), ids=BAD)
def test_wrong_input_is_one_line_and_exit_code_2(run, bad_files, argv, part):
    before = sorted(os.listdir(bad_files))
    code, out, err = run(*argv)
    assert part in complaint(code, out, err)
    assert not {MODEL, CURVES} & set(os.listdir(bad_files))
    assert sorted(os.listdir(bad_files)) == before  # nor anything else


def test_a_full_disk_is_one_line(run, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "m")

    monkeypatch.setattr(fastbp.Network, "save", full)
    code, out, err = run("train", *FAST, "--quiet")
    assert complaint(code, out, err) == "fastbp: error: m: No space left on device"


@pytest.mark.parametrize("command", [["train"], ["evaluate", MODEL], ["predict", MODEL]])
def test_offline_mnist_is_announced_and_then_one_line(run, model, command):
    pytest.importorskip("pooch", reason="the extra data is not installed")
    code, out, err = run(*command, "--data", "mnist")
    announced, error = err.splitlines()
    assert announced.startswith("fastbp: downloading mnist, 11.6 MB, to ")
    assert "mnist was not found, and could not be downloaded: " in complaint(code, out, error)
    assert "--data-dir" in error


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_noticed_before_training(run, folder):
    folder.chmod(0o555)
    assert "its folder is not writable" in complaint(*run("train", *FAST))


def test_a_defect_shows_its_traceback(monkeypatch):
    def defect(*arguments, **keywords):
        raise RuntimeError("a defect")

    monkeypatch.setattr(fastbp.datasets, "load", defect)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["train"])


# -- plot, report --------------------------------------------------------------------------------

ONE_PICTURE = {
    "curves": "learning_curves", "confusion": "confusion_matrix", "mistakes": "mistakes",
    "weights": "first_layer", "norms": "layer_norms",
}  # fmt: skip


@pytest.fixture(scope="module")
def left_by_train(tmp_path_factory):
    """A folder with what train leaves."""
    left = tmp_path_factory.mktemp("train")
    files = "--output", str(left / MODEL), "--plot", str(left / CURVES)
    assert main(["train", *FAST, "--quiet", *files]) == 0
    return left


@pytest.fixture
def trained(left_by_train, folder):
    """What train leaves, here."""
    shutil.copytree(left_by_train, folder, dirs_exist_ok=True)


@pytest.mark.parametrize("kind", ONE_PICTURE)
def test_plot_draws_what_train_has_just_left(run, folder, trained, kind):
    (folder / f"digits-{kind}.png").unlink(missing_ok=True)
    code, out, err = run("plot", kind, MODEL)
    assert (code, err) == (0, "")
    assert out == f"{kind}: {folder / f'digits-{kind}.png'}\n"
    assert (folder / f"digits-{kind}.png").read_bytes().startswith(b"\x89PNG")


def test_plot_hands_over_what_belongs_to_the_kind(run, trained, digits, monkeypatch):
    seen = []
    for name in ONE_PICTURE.values():
        monkeypatch.setattr(plots, name, lambda *words, name=name, **more: seen.append(words))
    for kind in ONE_PICTURE:
        assert run("plot", kind, MODEL, "--output", "p.svg")[0] == 0
    curves, confusion, mistakes, weights, norms = seen
    history = records.read(MODEL)
    title = "digits: 64-8-10, relu, cross-entropy"
    assert curves == (history.history, "p.svg", title)
    assert norms == (history, "p.svg", title)
    assert weights[1:] == ("p.svg", title)
    for words in (confusion, mistakes):
        np.testing.assert_array_equal(words[1], digits.X_test)
        np.testing.assert_array_equal(words[2], digits.y_test)
        assert words[3:] == ("p.svg", title)


def test_pictures_that_make_no_sense_say_which_do(run, trained, folder):
    for kind in ("predicted", "residuals"):
        said = complaint(*run("plot", kind, MODEL))
        assert said.endswith("draw the confusion matrix or mistakes"), kind
        assert not (folder / f"digits-{kind}.png").exists()


def test_several_runs_are_named_by_what_differs_between_them(run, folder):
    for name, rate in (("a", "0.5"), ("b", "0.05")):
        run("train", *FAST, "--learning-rate", rate, "--output", name)
    run("train", *"--epochs 1 --hidden 9,8 --optimizer adam --batch-size 9 --output other".split())
    (folder / "c").mkdir()
    shutil.copy("a.history.jsonl", "c/alone.history.jsonl")  # without its model
    for files, names in (
        (["a", "b"], ["learning rate 0.5", "learning rate 0.05"]),
        (["a.history.jsonl", "c/alone.history.jsonl"], ["a", "alone"]),
        (["a", "./a"], ["a", "./a"]),
        (["a", "other"], ["a", "other"]),  # so much differs that it fits into no legend
    ):
        assert run("plot", "curves", *files, "--output", "p.svg")[0] == 0
        drawn = (folder / "p.svg").read_text()
        assert all(f"<!-- {name} -->" in drawn for name in names), files


def test_files_may_stand_anywhere_among_the_options(run, folder):
    for name, epochs in (("a", 2), ("b", 3)):
        run("train", *FAST, "--epochs", epochs, "--output", f"{folder / name}")
    for words in (
        "a b --output p.svg --json", "--output p.svg --json a b", "a --output p.svg b --json",
        "a.history.jsonl b --json --output=p.svg",
    ):  # fmt: skip
        code, out, err = run("plot", "curves", *words.split())
        assert (code, err) == (0, "")
        assert json.loads(out) == {"kind": "curves", "plot": str(folder / "p.svg")}
        drawn = (folder / "p.svg").read_text()
        assert drawn.count("<!-- Validation loss, after the epoch -->") == 1
        assert "<!-- epochs 3 -->" in drawn
        (folder / "p.svg").unlink()


def test_rates_are_drawn_from_a_file(run, folder):
    (folder / "rates.json").write_text('{"rates": [0.1, 1], "losses": [2, 1], "suggestion": 0.5}')
    assert run("plot", "learning-rate", "rates.json", "--output", "r.svg")[0] == 0
    assert "<!-- suggestion: 0.5 -->" in (folder / "r.svg").read_text()


def test_train_records_history_and_norms(run, folder, digits):
    run("train", *FAST, "--hidden", "8,7", "--output", "m.safetensors")
    recorded = records.read(folder / "m.safetensors")
    assert len(recorded.history) == len(recorded.history.val_accuracy) == 2
    assert [len(norms) for norms in recorded.deltas] == [3, 3, 3]  # before the training, too
    X, y, *_ = fastbp.datasets.hold_out(*digits[:2])
    norms = fastbp.Norms(X[::6], y[::6])
    norms.on_epoch_end(fastbp.load("m.safetensors"), None)
    assert norms.deltas == recorded.deltas[-1:]


@pytest.mark.skipif(os.name == "nt", reason="no /dev/null")
def test_nothing_is_recorded_beside_a_device(run, folder):
    out = run("train", *FAST, "--output", "/dev/null", "--json", "--quiet")[1]
    assert json.loads(out)["history"] is None
    assert not os.path.exists("/dev/null.history.jsonl")


def test_report_holds_history_and_norms_if_there_are_any(run, folder, trained):
    code, out, err = run("report", MODEL)
    assert (code, err) == (0, "")
    assert out == f"report: {folder / REPORT}\n"
    page = (folder / REPORT).read_text(encoding="utf-8")
    assert "<h1>digits: 64-8-10, relu, cross-entropy</h1>" in page
    assert page.count("data:image/png;base64,") == 5
    assert "Not shown" not in page
    (folder / HISTORY).unlink()
    out = run("report", MODEL, "--output", "r.html", "--json")[1]
    assert json.loads(out) == {"report": str(folder / "r.html")}
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert page.count("Not shown: no history") == 1


def test_a_report_from_a_damaged_history_is_refused(run, folder, trained):
    (folder / HISTORY).write_text("loss 0.5")
    assert "line 1 is not JSON" in complaint(*run("report", MODEL))
    assert not (folder / REPORT).exists()


def test_without_matplotlib_pictures_say_what_to_install(run, trained, without_matplotlib):
    for argv in (["plot", "weights", MODEL], ["plot", "curves", MODEL], ["report", MODEL]):
        assert "pip install matplotlib" in complaint(*run(*argv)), argv


# -- the other commands --------------------------------------------------------------------------


def test_evaluate_prints_loss_and_accuracy(run, model, digits):
    test = digits.X_test, digits.y_test
    correct = model.evaluate(*test)
    code, out, err = run("evaluate", MODEL, "--data", "digits")
    assert (code, err) == (0, "")
    accuracy, loss = out.splitlines()
    right = f"test accuracy {correct / 355:.4f} ({correct} of 355)"
    assert accuracy == f"{right}; majority class 1: 0.1014"
    assert float(loss.split()[-1]) == pytest.approx(model.loss(*test), abs=1e-6)
    result = json.loads(
        run("evaluate", MODEL, "--data", "digits", "--json", "--backend", "numpy")[1]
    )
    assert result["correct"] == correct
    assert result["samples"] == 355
    assert result["test_accuracy"] == correct / 355
    assert result["test_loss"] == pytest.approx(model.loss(*test), rel=1e-5)


def test_evaluate_agrees_with_what_train_said(run):
    trained = json.loads(run("train", *FAST, "--json")[1])
    evaluated = json.loads(run("evaluate", MODEL, "--json")[1])
    assert evaluated["test_accuracy"] == trained["test_accuracy"]


def test_predict_prints_classes_or_outputs(run, model, digits):
    X = digits.X_test
    code, out, err = run("predict", MODEL, "--data", "digits")
    assert (code, err) == (0, "")
    assert [int(line) for line in out.splitlines()] == model.predict(X).tolist()
    assert run("predict", MODEL, "--data", "digits", "--proba", "--output", "p.csv")[1] == ""
    outputs = np.loadtxt("p.csv", delimiter=",", dtype="float32")
    np.testing.assert_array_equal(outputs, model.feedforward(X))


@pytest.mark.parametrize("shape", [(5, 64), (5, 8, 8)])
def test_predict_reads_npy(run, model, shape):
    X = np.random.default_rng(0).integers(0, 17, shape, dtype="uint8")
    np.save("x.npy", X)
    out = run("predict", MODEL, "--data", "x.npy")[1]
    assert [int(line) for line in out.splitlines()] == model.predict(X.reshape(5, 64)).tolist()


def test_a_table_is_trained_on_evaluated_and_predicted(run, digits):
    pytest.importorskip("pandas", reason="the extra csv is not installed")
    X, y = np.concatenate(digits[::2]), np.concatenate(digits[1::2])
    rows = np.column_stack([X[:, :30], y, X[:, 30:]])
    header = ",".join(["digit" if k == 30 else f"pixel {k}" for k in range(65)])
    np.savetxt("d.csv", rows, "%d", delimiter=",", header=header, comments="")
    table = "--data", "d.csv", "--label", "digit"
    trained = json.loads(
        run("train", *table, "--quiet", "--json", "--epochs", 9, "--output", MODEL)[1]
    )
    assert trained["sizes"] == [64, 100, 10]
    assert trained["test_accuracy"] > 0.9
    net = fastbp.load(MODEL)
    assert net.config["input_scale"] == 1 / 16
    evaluated = json.loads(run("evaluate", MODEL, *table, "--json")[1])
    assert evaluated["test_accuracy"] == trained["test_accuracy"]
    assert evaluated["samples"] == 355
    classes = [int(line) for line in run("predict", MODEL, *table)[1].splitlines()]
    assert classes == net.predict(X).tolist()  # all rows, in their order
    names = ",".join(name for name in header.split(",") if name != "digit")
    np.savetxt("x.csv", X, "%d", delimiter=",", header=names, comments="")
    assert run("predict", MODEL, "--data", "x.csv")[1] == run("predict", MODEL, *table)[1]


def points(path, columns="a b cls", separator=",", header=True, names=("hi", "lo", "mid")):
    """Write 150 points; the largest of three sums is their class."""
    a, b = np.random.default_rng(0).normal(size=(2, 150)).round(3)
    sums = np.column_stack([a + b, -a, a - b])
    found = {"a": a, "b": b, "cls": [names[k] for k in sums.argmax(axis=1)], "rows": range(150)}
    columns = columns.split()
    lines = [separator.join(columns)] if header else []
    lines += [separator.join(map(str, row)) for row in zip(*map(found.get, columns), strict=True)]
    text = "\n".join(lines)
    Path(path).write_text(text if separator == "," else text.replace(".", ","), "utf-8")
    return found["cls"]


OF_POINTS = ["--hidden", "8", "--epochs", "40", "--quiet", "--json", "--output", MODEL]


@pytest.fixture
def of_table(run, folder):
    """What training on a table says; the model knows its columns and classes."""
    pytest.importorskip("pandas", reason="the extra csv is not installed")
    points("t.csv")
    code, out, err = run("train", "--data", "t.csv", "--label", "cls", *OF_POINTS)
    assert code == 0, err
    return json.loads(out)


def test_a_model_knows_the_columns_and_classes_of_its_table(run, of_table):
    assert of_table["sizes"] == [2, 8, 3]
    assert of_table["test_accuracy"] > 0.8
    notes = {"columns": ["a", "b"], "label": "cls", "classes": ["hi", "lo", "mid"]}
    notes["task"] = "classification"
    found = fastbp.load(MODEL).notes
    assert json.loads(run("info", MODEL, "--json")[1])["notes"] == found
    del found["training"]
    assert found == notes
    classes = run("predict", MODEL, "--data", "t.csv")[1].split()
    truth = points("other.csv", "b cls a")  # in another order
    assert np.mean([a == b for a, b in zip(classes, truth, strict=True)]) > 0.8
    points("semicolons.csv", "b a", ";")
    for path in ("other.csv", "semicolons.csv"):
        assert run("predict", MODEL, "--data", path)[1].split() == classes
    for path in ("t.csv", "other.csv"):
        found = json.loads(run("evaluate", MODEL, "--data", path, "--json")[1])
        assert found["test_accuracy"] == of_table["test_accuracy"]
    points("no-header.csv", header=False)
    options = "--data", "no-header.csv", "--no-header"
    assert run("predict", MODEL, *options, "--label", 3)[1].split() == classes
    assert json.loads(run("evaluate", MODEL, *options, "--label", 3, "--json")[1])["samples"] == 29


def test_pictures_and_reports_put_columns_in_order_and_name_classes(run, of_table, folder):
    plots.check()
    points("other.csv", "b cls a", "\t", names=("hi", "lo", "mid"))
    share = f"{100 * of_table['test_accuracy']:.2f} %"
    assert run("report", MODEL, "--data", "other.csv")[0] == 0
    page = (folder / REPORT).read_text("utf-8")
    assert f"{share} of" in page
    assert '<th scope="row">mid</th>' in page
    assert run("plot", "confusion", MODEL, "--data", "other.csv", "--output", "c.svg")[0] == 0
    assert share in (folder / "c.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("names", "classes"),
    [((2019, 2020, 2021), [2019, 2020, 2021]), ((0, 1, 2), [0, 1, 2]), ((-1, 7, 7), [-1, 7])],
)
def test_the_labels_of_a_table_by_value_are_the_outputs(run, folder, names, classes):
    pytest.importorskip("pandas", reason="the extra csv is not installed")
    points("n.csv", "cls a b", header=False, names=names)
    table = "--data", "n.csv", "--no-header", "--label", "1"
    out = run("train", *table, *OF_POINTS)[1]
    assert json.loads(out)["sizes"] == [2, 8, len(classes)]
    assert set(map(int, run("predict", MODEL, *table)[1].split())) == set(classes)
    points("x.csv", "a b", header=False)
    assert (
        run("predict", MODEL, "--data", "x.csv", "--no-header")[1]
        == run("predict", MODEL, *table)[1]
    )
    holds = f"classification: '1' holds {len(classes)} classes, {str(classes)[1:-1]}"
    assert holds in run("train", *table, "--epochs", 1)[1]
    assert json.loads(run("find-learning-rate", *table, "--hidden", 8, "--json")[1])["suggestion"]


def test_a_model_of_classes_predicts_them_whatever_its_outputs_are(run, folder):
    assert run("train", *FAST, "--loss", "quadratic", "--quiet")[0] == 0
    assert fastbp.load(MODEL).config["output"] == "identity"
    assert set(map(int, run("predict", MODEL)[1].split("\n")[:-1])) <= set(range(10))


NOT_OF_THE_MODEL = {
    "surplus": ("a rows b cls", {}, "has others ['rows']"),
    "missing": ("b cls", {}, "lacks columns ['a']"),
    "no header": ("a b cls", {"header": False}, "label must be one of the columns"),
    "a new class": ("a b cls", {"names": ("hi", "lo", "new")}, "not trained on, ['new']"),
}


@pytest.mark.parametrize(
    ("columns", "written", "part"), NOT_OF_THE_MODEL.values(), ids=NOT_OF_THE_MODEL
)
def test_a_table_of_other_columns_or_classes_is_one_line(run, of_table, columns, written, part):
    points("o.csv", columns, **written)
    plots.check()
    for command in (["evaluate", MODEL], ["report", MODEL], ["plot", "confusion", MODEL]):
        assert part in complaint(*run(*command, "--data", "o.csv"))
    if "new" not in part:  # which predict does not look at
        part = "lacks columns ['a', 'b'] and has others" if "label" in part else part
        assert part in complaint(*run("predict", MODEL, "--data", "o.csv"))


def test_samples_without_a_header_are_not_predicted_as_if_they_had_one(run, of_table, folder):
    (folder / "x.csv").write_text("0.1,0.2\n" * 5)
    line = complaint(*run("predict", MODEL, "--data", "x.csv"))
    assert "nothing but numbers" in line
    assert "--no-header" in line
    assert run("predict", MODEL, "--data", "x.csv", "--no-header")[1].count("\n") == 5


def test_notes_that_do_not_fit_are_one_line(run, model):
    for notes in ({"classes": ["a"]}, {"classes": 5}, {"classes": [[]]}):
        model.notes = notes
        model.save(MODEL)
        line = complaint(*run("predict", MODEL, "--data", "digits"))
        assert "notes['classes'] must " in line


@pytest.mark.parametrize("raised", [MemoryError, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("at", ["evaluate", "write", "learning_curves"])
def test_what_fails_after_the_training_loses_no_model(run, folder, monkeypatch, raised, at):
    owner = {"evaluate": fastbp.Network, "write": records, "learning_curves": plots}[at]

    def fails(*_, **__):
        raise raised("no room")

    monkeypatch.setattr(owner, at, fails)
    if at == "learning_curves":
        plots.check()
    code, _, err = run("train", "--quiet", *FAST)
    assert code == (130 if raised is KeyboardInterrupt else 2)
    assert len(err.splitlines()) == 1
    assert err.endswith(f"the model is saved: {folder / MODEL}\n")
    assert fastbp.load(MODEL).sizes == (64, 8, 10)


def test_the_test_part_is_checked_before_the_training(run, folder, monkeypatch):
    X, y = np.ones((20, 3)), np.arange(20) % 2
    np.savez("d.npz", x_train=X, y_train=y, x_test=np.full((4, 3), np.nan), y_test=y[:4])
    monkeypatch.setattr(fastbp.Network, "fit", lambda *_, **__: pytest.fail("it was trained"))
    complaint(*run("train", "--data", "d.npz", "--early-stopping", 3))
    monkeypatch.setattr(fastbp.Network, "feedforward", lambda *_: pytest.fail("it was computed"))
    fastbp.Network([64, 2], seed=0).save(MODEL)
    assert "its folder does not exist" in complaint(*run("predict", MODEL, "--output", "no/p.csv"))


def test_export_to_onnx_prints_a_program_that_runs(run, model, folder, digits):
    pytest.importorskip("onnxruntime", reason="onnxruntime runs what is exported")
    X = digits.X_test
    for inputs, kind in (("float", "float32"), ("uint8", "uint8")):
        code, out, err = run("export", MODEL, "o.onnx", "--inputs", inputs)
        assert (code, err) == (0, "")
        first, program = out.split("\n\n")
        assert first == f"wrote {folder / 'o.onnx'}, ONNX. To use it:"
        assert f"# X: (batch, 64), {kind}" in program
        names = {"X": X.astype(kind)}
        exec(program, names)
        np.testing.assert_allclose(names["outputs"], model.feedforward(X), atol=1e-6)
        code, out, err = run("convert", "o.onnx", "back.safetensors")
        assert (code, err) == (0, "")
        assert out.startswith(f"wrote {folder / 'back.safetensors'}: Network([64, 8, 10], activat")
        assert out.endswith(", input_scale 0.0625\n")
        back = fastbp.load("back.safetensors")
        assert back.config == model.config
        np.testing.assert_array_equal(back.to_vector(), model.to_vector())


def test_export_to_torch_and_back(run, model, digits):
    code, out, err = run("export", MODEL, "t.safetensors")
    assert (code, err) == (0, "")
    assert "torch.nn.Linear(64, 8), torch.nn.Sigmoid()," in out
    assert out.endswith("load_state_dict(safetensors.torch.load_file('t.safetensors'))\n")
    assert run("convert", "t.safetensors", "back.safetensors")[0] == 0
    X = digits.X_test
    back = fastbp.load("back.safetensors")
    np.testing.assert_array_equal(back.feedforward(X), model.feedforward(X))  # 1/16 is exact
    arrays = fastbp.model.file.read_arrays("t.safetensors", str)[0]
    checkpoint.write_arrays("bare.safetensors", arrays, {})
    said = "--activation", "tanh", "--output-activation", "sigmoid", "--loss", "quadratic"
    assert run("convert", "bare.safetensors", "b.safetensors", *said, "--input-scale", 0.5)[0] == 0
    config = fastbp.load("b.safetensors").config
    assert (config["activation"], config["output"], config["loss"], config["input_scale"]) == (
        "tanh", "sigmoid", "quadratic", 0.5,
    )  # fmt: skip
    said = "--activation", "tanh", "--loss", "huber,width=2"
    assert run("convert", "bare.safetensors", "h.safetensors", *said)[0] == 0
    assert fastbp.load("h.safetensors").config["loss"] == fastbp.losses.Huber(width=2)
    squares = {f"{name}.weight": np.eye(3) + k for k, name in enumerate(("in", "out"))}
    checkpoint.write_arrays("words.safetensors", squares, {"loss": "0.3"})
    code, _, err = run("convert", "words.safetensors", "c.safetensors", *said)
    assert code == 2
    assert "--order" in err
    assert run("convert", "words.safetensors", "c.safetensors", *said, "--order", "out,in")[0] == 0
    np.testing.assert_array_equal(fastbp.load("c.safetensors").weights[0], squares["out.weight"])


@pytest.mark.parametrize("options", [
    [], ["--activation", "tanh", "--loss", "cross-entropy"], ["--no-bias", "--sizes", "7,1"],
    ["--activation", "relu", "--seed", 2, "--samples", 9, "--backend", "numpy"],
])  # fmt: skip
def test_gradcheck_agrees(run, options):
    code, out, err = run("gradcheck", *options)
    assert (code, err) == (0, "")
    assert out.startswith("Network([")
    assert out.splitlines()[-1].startswith("ok: largest error")


def test_gradcheck_of_a_model(run, model):
    code, out, _ = run("gradcheck", MODEL, "--json", "--samples", 2)
    assert code == 0
    assert json.loads(out)["ok"] is True
    assert json.loads(out)["max_error"] < 1e-7


def test_gradcheck_of_a_model_that_standardises(run, folder):
    """At inputs as those of its training, where neurons are not saturated."""
    pair = np.array([1e6, -5.0, 0.0]), np.array([1e3, 0.01, 0.0])
    net = fastbp.Network([3, 4, 2], scale=pair, seed=0)
    net.save("table.safetensors")
    code, out, _ = run("gradcheck", "table.safetensors")
    assert code == 0
    (line,) = re.findall("^W1 .*", out, re.M)
    assert abs(float(line.split()[-2])) > 1e-4, out  # the analytic gradient


def test_gradcheck_says_where_it_is_undecided(run, folder):
    net = fastbp.Network([3, 4, 2], "relu", loss="cross-entropy", seed=0)
    net.weights[0][...] = 0  # each ReLU is at zero
    net.save("dead")
    code, out, err = run("gradcheck", "dead")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("undecided at a kink: largest error")
    found = json.loads(run("gradcheck", "dead", "--json")[1])
    assert (found["ok"], found["verdict"]) == (True, "undecided at a kink")


def test_gradcheck_exits_with_1_where_gradients_differ(run, monkeypatch):
    gradient = fastbp.Network.gradient

    def wrong(self, X, y):
        found = gradient(self, X, y)
        found.weights[0][0, 0] += 1e-3
        return found

    monkeypatch.setattr(fastbp.Network, "gradient", wrong)
    code, out, err = run("gradcheck")
    assert (code, err) == (1, "")
    assert "NOT ok" in out
    assert run("gradcheck", "--json")[0] == 1


@pytest.mark.long
def test_after_warmup_training_lacks_no_kernel(run_program, tmp_path):
    """So that a folder that cannot be written later, as in an image, is enough."""
    pytest.importorskip("matplotlib")
    assert run_program("after_warmup.py", cwd=tmp_path).stdout == ""


def test_warmup_compiles_what_is_asked_for(run, monkeypatch):
    asked = []
    monkeypatch.setattr(engines, "warmup", asked.append)
    code, out, _ = run("warmup")
    assert code == 0
    assert out.startswith("kernels are ready after 0.0 s\ncache: ")
    run("warmup", "--dtype", "float64")
    assert asked == [("float32", "float64"), ("float64",)]


def test_info_says_what_there_is(run):
    code, out, _ = run("info", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["numpy"] == np.__version__
    assert facts["vector_bytes"] in (16, 32, 64)
    assert facts["threads"] >= 1
    assert isinstance(facts["compiled"], bool)
    text = run("info")[1]
    for name in facts:
        assert f"\n{name.replace('_', ' ')} " in f"\n{text}"


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_help_has_examples_and_defaults(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert f"usage: fastbp {command}" in text
    assert "default: None" not in text
    assert "default: True" not in text
    assert "SUPPRESS" not in text
    if command not in ("warmup", "info"):
        assert "examples:\n" in text
        assert f"\n  fastbp {command}" in text


def test_help_of_train_names_every_option_and_default(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for option in (
        "data data-dir label task no-header separator decimal hidden activation loss epochs "
        "batch-size learning-rate schedule early-stopping no-bias init dtype threads seed backend "
        "output checkpoint-every plot log json quiet optimizer l2 l1 clip-norm validation-split "
        "weight-decay by-step warmup class-weight dropout label-smoothing"
    ).split():
        assert f" --{option} " in text
    for default in (
        "digits", "100", "relu", "30; tables 50", "10", "float32", "0.1", "sgd; tables adam",
        "cross-entropy, by which classes are learnt better; for a regression quadratic",
        "0.05 for sgd, 0.005 for momentum and nesterov, 0.001 for adam, adamw and rmsprop",
    ):  # fmt: skip
        assert f"(default: {default})" in text


def test_the_names_that_options_take_are_those_of_the_library():
    assert (values.HIDDEN, values.OUTPUT) == (config.HIDDEN, config.OUTPUT)
    assert (values.LOSSES, values.INITS) == (config.LOSSES, tuple(config.INITS))
    assert values.SETTINGS | {"cross-entropy": "label_smoothing"} == {
        name: setting for name, (setting, _) in reference.SETTINGS.items()
    }
    assert tuple(options.RATES) == tuple(optimizers.NAMES)
    assert all(hasattr(schedules, name) for name in values.SCHEDULES.values())
    assert all(hasattr(callbacks, name) for name in values.LOGS.values())


@pytest.mark.parametrize("argv", ["--version", "--help", "train --help", "plot --help", "fly"])
def test_help_and_version_answer_without_numba_and_numpy(argv):
    program = (
        "import sys; from fastbp.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, *argv.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    modules = set(done.stderr.split())
    assert "fastbp.cli.commands" in modules
    assert not modules & {"numba", "numpy", "llvmlite", "safetensors", "matplotlib", "inspect"}


def test_version_and_overview(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("fastbp ")
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"    {command.name}" in text for command in COMMANDS)


# -- manners -------------------------------------------------------------------------------------


def test_the_log_goes_to_stderr_and_leaves_no_handler(run, monkeypatch):
    logger = logging.getLogger("fastbp")
    before = list(logger.handlers)
    monkeypatch.setattr(engines, "warmup", lambda dtypes: logger.warning("compiling ..."))
    for _ in range(2):
        _, out, err = run("warmup")
        assert err == "fastbp: compiling ...\n"
        assert "compiling" not in out
    assert logger.handlers == before


def test_ctrl_c_in_training_is_one_line_and_130(run, monkeypatch, folder):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(fastbp.Network, "fit", interrupted)
    code, out, err = run("train", "--quiet")
    assert (code, out, err) == (130, "", "fastbp: training was interrupted; nothing was saved\n")
    assert not (folder / MODEL).exists()
    monkeypatch.setattr(engines, "warmup", interrupted)
    assert run("warmup") == (130, "", "fastbp: interrupted\n")


def test_a_training_goes_on_from_its_checkpoint(run, folder):
    """To the model of one that took all its epochs at once; of other options it will not hear."""
    argv = ["train", "--quiet", "--early-stopping", "9", "--schedule", "cosine,epochs=4"]
    assert run(*argv, "--epochs", "2", "--checkpoint", "run")[0] == 0
    assert run(*argv, "--epochs", "4", "--resume", "run", "--output", "parts")[0] == 0
    assert run(*argv, "--epochs", "4", "--output", "whole")[0] == 0
    assert (folder / "parts").read_bytes() == (folder / "whole").read_bytes()
    code, _, err = run(*argv, "--batch-size", "20", "--resume", "run")
    assert code == 2
    assert re.search(r"run .*batch_size 10.* 20", err)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_ctrl_c_ends_the_process_with_130_and_no_traceback(folder, engine):
    argv = ["train", "--json", "--epochs", "10000000", "--backend", engine]
    # A suite run in the background of a shell has Ctrl-C ignored, and children inherit that.
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with process(*argv, cwd=folder, preexec_fn=heeded) as child:
        assert any(line.startswith("epoch ") for line in child.stderr)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "fastbp: training was interrupted; nothing was saved"
    assert not (folder / MODEL).exists()


POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX shells, signals and file names")
SMALL = "train --hidden 4 --epochs 2 --backend numpy"


def shell(folder, line, **variables):
    """Exit code, stdout and stderr of a line in which $F is the command; no traceback ever."""
    line = f"F='{sys.executable} -m fastbp'; set -o pipefail; {line}"
    environment = {**ENVIRONMENT, **variables}
    command = ["bash", "-c", os.fsencode(line)]
    done = subprocess.run(command, capture_output=True, cwd=folder, env=environment, timeout=120)
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@POSIX
@pytest.mark.parametrize("streams", [
    ">&-", "2>&- >/dev/null", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full --json", "| head -1",
    "--json 2>&1 >/dev/null | head -1",
])  # fmt: skip
def test_a_training_ends_well_whatever_becomes_of_its_words(folder, streams):
    code, _, err = shell(folder, f"$F {SMALL} {streams}")
    assert (code, err) == (0, b"")
    assert fastbp.load(folder / MODEL).sizes == (64, 4, 10)
    assert len(records.read(folder / MODEL).history) == 2
    assert (folder / CURVES).read_bytes().startswith(b"\x89PNG")


@POSIX
@pytest.mark.parametrize(("line", "code"), [
    ("$F info >&-", 0), ("$F info >&- 2>&-", 0), ("$F --help >&-", 0), ("$F info --json 2>&-", 0),
    ("$F fly >&- 2>&-", 2), ("$F fly 2>/dev/full", 2),
    ("$F info >/dev/full", 2), (f"$F {SMALL} --output other --quiet --json >/dev/full", 2),
    (f"$F predict {MODEL} --data digits | true", 141),
])  # fmt: skip
def test_closed_and_full_streams(folder, model, line, code):
    """Only a result that cannot be printed is an error, of one line."""
    found, _, err = shell(folder, line)
    assert found == code
    full = b"fastbp: error: stdout: cannot print the result, No space left on device\n"
    assert err == (full if ">/dev/full" in line.replace("2>", "") else b"")
    assert (folder / MODEL).exists()


@POSIX
def test_a_reader_that_leaves_ends_no_training(folder):
    with process(*SMALL.split(), "--epochs", "200", cwd=folder) as child:
        assert child.stdout.readline().startswith("digits: ")
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 0
    assert len(records.read(folder / MODEL).history) == 200


COMMANDS_IN_A_ROW = """
import sys
from fastbp.cli import main
sys.exit(max(main(line.split()) for line in sys.argv[1:]))
"""


@POSIX
@pytest.mark.parametrize("name", [b"\xff\xe9", "\N{GREEK SMALL LETTER ALPHA}\N{SNOWMAN}".encode()])
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_name_of_a_file_is_written_and_shown(folder, digits, encoding, name):
    """Of bytes that are no UTF-8, and of letters that the terminal lacks."""
    name = os.fsdecode(name)
    with open(f"{name}.npz", "wb") as file:
        np.savez(file, x_train=digits[0], y_train=digits[1], x_test=digits[2], y_test=digits[3])
    data = f"--data {name}.npz"
    lines = (
        f"{SMALL} {data} --output {name}.model --plot {name}.svg --log {name}.csv "
        f"--checkpoint {name}.run", f"evaluate {name}.model {data} --json",
        f"predict {name}.model {data} --output {name}.txt", f"info {name}.model",
        f"report {name}.model {data} --output {name}.html",
        f"plot curves {name}.model {name}.model --output {name}.png",
        f"plot confusion {name}.model {data}",
        f"export {name}.model {name}.safetensors",
    )  # fmt: skip
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", COMMANDS_IN_A_ROW]
    run = partial(subprocess.run, capture_output=True, env=environment, timeout=120)
    done = run([*command, *lines])
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"/" + name.encode(encoding, "backslashreplace") + b".model" in done.stdout
    assert Path(f"{name}.html").read_text("utf-8").startswith("<!")
    assert fastbp.load(f"{name}.model").sizes == (64, 4, 10)
    done = run([*command, f"info no{name}"])
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@POSIX
def test_ctrl_c_while_modules_load_is_one_line_and_130(folder):
    """At any time once `main` runs; before, it is Python that answers."""
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    slow = folder / "numpy.py"  # in the place of the first large module
    slow.write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    path = f"{folder}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"
    for program in ("-m fastbp", "-c 'import sys, fastbp.cli as c; sys.exit(c.main())'"):
        command = ["bash", "-c", f"exec {sys.executable} {program} info"]
        environment = {**ENVIRONMENT, "PYTHONPATH": path}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, env=environment, preexec_fn=heeded, **pipes) as child:
            assert child.stdout.readline() == b"loading\n"
            child.send_signal(signal.SIGINT)
            assert child.communicate(timeout=60)[1] == b"fastbp: interrupted\n"
        assert child.returncode == 130


def test_the_path_of_a_named_data_set_is_said(run, folder, digits):
    raw = folder / "MNIST" / "raw"
    write_folder(raw, [np.asarray(part, "u1") for part in digits])
    code, out, _ = run("train", *FAST, "--data", "mnist", "--data-dir", folder)
    assert code == 0
    assert out.startswith(f"mnist in {raw}: 1,298 samples for training, 144 for")
    for command in (["train", *FAST, "--quiet"], ["evaluate", "mnist.safetensors"]):
        out = run(*command, "--json", "--data", "mnist", "--data-dir", folder)[1]
        assert json.loads(out)["data_path"] == str(raw)
    run("train", *FAST)
    assert json.loads(run("evaluate", MODEL, "--json")[1])["data_path"] is None


def test_import_brings_no_extras(run_program):
    modules = run_program("modules.py", "fastbp.cli.train", "fastbp.cli.use").stdout.split()
    assert "fastbp.cli.train" in modules
    assert not {"matplotlib", "onnx", "pandas", "pooch", "sklearn", "tqdm"} & set(modules)


def test_plots_are_only_checked_where_they_are_asked_for(run, monkeypatch):
    asked = []
    monkeypatch.setattr(plots, "check", lambda path=None: asked.append(path))
    monkeypatch.setattr(plots, "learning_curves", lambda *arguments: None)
    run("train", *FAST, "--plot", "a.png")
    assert asked == ["a.png"]


# -- verify --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "code"), [(1e-13, 0), (1e-3, 1)])
def test_verify_prints_the_table_and_its_exit_code_tells(run, monkeypatch, error, code):
    checked = tolerances.Comparisons()
    checked.row("tanh", "float64").note("three zeros", error, 1e-12)
    asked = []

    def verified(quick):
        asked.append(quick)
        rows = tuple(checked.rows.values())
        return tolerances.VerificationReport(rows, quick, "a CPU", 1.0)

    monkeypatch.setattr(verification, "verify", verified)
    found, out, _ = run("verify", "--quick")
    assert found == code
    assert "tanh" in out
    assert ("FAILS: three zeros" in out) == bool(code)
    found, out, _ = run("verify", "--json")
    assert found == code
    assert json.loads(out.splitlines()[-1])["ok"] is (code == 0)
    assert asked == [True, False]


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line(run):
    code, _, err = run("train", *FAST, "--batch-size", "2000", "--quiet", "--backend", "numpy")
    assert code == 0
    lines = [line for line in err.splitlines() if "warning" in line.lower()]
    assert len(lines) == 1
    assert re.fullmatch(
        r"fastbp: warning: batch_size is 2000, more than the \d+ samples: a batch holds them all",
        lines[0],
    )
