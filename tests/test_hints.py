"""A training that has led to nothing ends with a line on what to try; no other does."""

import json

import numpy as np
import pytest

import fastbp
from fastbp.cli import hints, main
from fastbp.history import History

BOOK = ["--activation", "sigmoid", "--loss", "quadratic", "--hidden", "30"]
GOOD = {
    "the defaults": [],
    "one epoch": ["--epochs", "1"],
    "adam": ["--optimizer", "adam", "--epochs", "5"],
    "nesterov": ["--optimizer", "nesterov", "--epochs", "5"],
    "the book's": [*BOOK, "--learning-rate", "3", "--epochs", "10"],
    "slow": ["--learning-rate", "0.001", "--epochs", "10"],
    "with noise": ["--learning-rate", "0.5", "--epochs", "10"],
}
HOPELESS = {
    "a small rate": (
        ["--learning-rate", "1e-6"], "the loss has hardly fallen, from 2.3"
    ),
    "the rate of relu for the book's": (
        [*BOOK, "--learning-rate", "0.001"], "--learning-rate, such as 0.01, or more --epochs"
    ),
    "gradients that vanish": (
        ["--activation", "sigmoid", "--hidden", "30,30,30,30"], "a larger --learning-rate",
    ),
    "dead neurons": (
        ["--learning-rate", "5"], "dead or saturated after too long steps; try a small"
    ),
    "saturated neurons": ([*BOOK, "--learning-rate", "300"], "saturated after too long steps"),
    "a large rate for adam": (
        ["--optimizer", "adam", "--learning-rate", "10"], "a smaller --learning-rate, such as 1;",
    ),
}  # fmt: skip


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """train(*options): exit code, result and last line of a training on the digits."""
    monkeypatch.chdir(tmp_path)

    def train(*options):
        capsys.readouterr()
        code = main(["train", "--json", *options])
        out, err = capsys.readouterr()
        return code, json.loads(out), err.splitlines()[-1]

    return train


@pytest.mark.parametrize("options", GOOD.values(), ids=GOOD)
def test_a_good_training_gets_no_hint(train, options):
    code, result, line = train(*options)
    assert code == 0
    assert result["test_accuracy"] > 0.5
    assert result["hint"] is None
    assert line.startswith("curves")


@pytest.mark.parametrize(("options", "words"), HOPELESS.values(), ids=HOPELESS)
def test_a_hopeless_training_ends_with_a_hint(train, options, words):
    code, result, line = train("--epochs", "5", *options)
    assert code == 0
    assert words in result["hint"]
    assert line == f"hint: {result['hint']}"
    assert line.startswith("hint: hardly better than a constant answer: ")


NET = fastbp.Network([2, 3, 2], "relu", loss="cross-entropy", backend="numpy", seed=0)
X = np.random.default_rng(0).normal(size=(50, 2))
POOR = {"test_accuracy": 0.4, "baseline_accuracy": 0.5}


def hint(losses=(0.7, 0.3), scores=POOR, accuracy=0.9, X=X, net=NET):
    epochs = len(losses)
    history = History(loss=list(losses), accuracy=[accuracy] * epochs, learning_rate=[0.5] * epochs)
    return hints.hint(net, net.weights[0].copy(), history, scores, X)


def test_each_cause_has_its_advice():
    grown = hint((0.7, 3.0))
    assert "the loss has grown from 0.7 to 3; try a smaller --learning-rate, such as 0.05" in grown
    assert "the inputs reach 400; scale them to about 1 before" in hint(X=np.full((9, 2), -400.0))
    assert "does not carry over to the test samples; try fewer neurons" in hint()
    assert "hardly fallen" in hint((0.7, 0.69), accuracy=0.5)
    numbers = fastbp.Network([2, 1], output="identity", backend="numpy", seed=0)
    found = hint(scores={"test_r2": -0.1}, net=numbers, accuracy=np.nan)
    assert "does not carry over" in found


def test_what_was_learnt_by_halves_gets_a_hint_only_if_the_loss_stands_still_or_grows():
    some = {"test_accuracy": 0.6, "baseline_accuracy": 0.5}
    assert hint(scores=some) == ""
    assert hint((0.7, 0.9), scores=some).startswith("the loss has grown")
    assert hint((0.7, 0.699), scores=some, accuracy=0.5).startswith("the loss has hardly fallen")
    assert hint((0.7,), scores=some) == ""
    good = {"test_accuracy": 0.9, "baseline_accuracy": 0.5}
    assert hint((0.7, 0.9), scores=good) == ""
    for accuracy, given in ((1.0, False), (0.99, True)):  # of samples of one class
        only = {"test_accuracy": accuracy, "baseline_accuracy": 1.0}
        assert bool(hint(scores=only)) == given
