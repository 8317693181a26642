"""What a model remembers of its training, and how the other commands find its data by it."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp._support import notes as kept
from fastbp.cli import memory
from fastbp.cli.commands import COMMANDS
from fastbp.cli.options import parser

FAST = ["--hidden", "4", "--epochs", "2", "--backend", "numpy", "--quiet"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own for each test: that is where train leaves its files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTBP_DATA", raising=False)
    return tmp_path


def images(path="set.npz", seed=0):
    """Write images of two classes with a test part."""
    rng = np.random.default_rng(seed)
    y = np.arange(120) % 2
    X = (rng.random((120, 9)) + y[:, None]).astype("f4")
    np.savez(path, x_train=X[:90], y_train=y[:90], x_test=X[90:], y_test=y[90:])


def remembered(path):
    return kept.training(fastbp.load(path).notes)


def test_a_model_remembers_how_it_was_trained(run, folder):
    images()
    options = (
        "--data", "./set.npz", "--hidden", "5,4", "--optimizer", "adam", "--l2", "0.001",
        "--schedule", "step,every=1", "--no-bias", "--epochs", 3, "--seed", 7, "--backend", "numpy",
        "--batch-size", 9,
    )  # fmt: skip
    apart = "--threads", 2, "--output", "other", "--log", "log.csv", "--quiet", "--json"
    assert run("train", *options, *apart)[0] == 0
    found = remembered("other")
    assert found["version"] == fastbp.__version__
    assert (found["data"], found["data_path"]) == ("./set.npz", str(folder / "set.npz"))
    assert (found["label"], found["header"], found["separator"]) == (None, True, None)
    counts = [found[f"{name}samples"] for name in ("", "validation_", "test_")]
    assert counts == [81, 9, 30]
    assert found["epochs"] == 3
    settings = found["settings"]
    wanted = {
        "hidden": [5, 4], "optimizer": "adam", "learning_rate": 0.001, "l2": 0.001,
        "schedule": "step,every=1", "bias": False, "epochs": 3, "batch_size": 9, "seed": 7,
        "validation_split": 0.1, "clip_norm": None, "activation": "relu", "loss": "cross-entropy",
    }  # fmt: skip
    assert {name: settings.get(name) for name in wanted} == wanted
    assert not settings.keys() & {*apart, "threads", "output", "log", "json", "data"}


@pytest.mark.parametrize("more", [
    [""], ["4,3", "--activation", "gelu,silu", "--dropout", "0.2,0.5", "--label-smoothing", 0.1],
])  # fmt: skip
def test_the_remembered_command_trains_the_same_model_again(run, more):
    images()
    options = "--hidden", more[0], "--init", 0.3, "--clip-norm", 0.5, "--validation-split", 0
    given = *FAST, *options, *more[1:]
    code, _out, err = run("train", "--data", "set.npz", *given, "--output", "a", "--json")
    assert code == 0, err
    words = shlex.split(remembered("a")["command"])
    assert words[0] == "fastbp"
    assert "--hidden" in words
    assert not {"--quiet", "--output", "--json", "--learning-rate"} & set(words)
    assert run(*words[1:])[0] == 0
    assert Path("set.safetensors").read_bytes() == Path("a").read_bytes()


def test_each_option_is_remembered_as_it_was_typed():
    """Parsed again, the command gives the same options."""
    lines = (
        "train --data a.csv --label b --no-header --separator ; --decimal , --hidden 3,4 --no-bias "
        "--schedule cosine,end=0.1 --init 0.5 --distributed --sync-every 3 --early-stopping 2",
        "train --optimizer momentum --l2 0.5 --clip-norm 2 --validation-split 0.3 --init normal "
        "--batch-size 7 --learning-rate 0.3 --epochs 4 --dtype float64 --activation tanh --l1 0.1",
        "train --schedule cosine --by-step --warmup 0.5 --optimizer adamw --weight-decay 0.1",
        "train --hidden 3,4 --activation gelu,tanh --dropout 0.2,0.5 --loss huber,width=2",
        "train --activation silu --dropout 0.3 --label-smoothing 0.1",
    )
    for line in lines:
        words = parser(COMMANDS).parse_args(line.split())
        command = memory.as_typed(words)
        assert vars(parser(COMMANDS).parse_args(shlex.split(command)[1:])) == vars(words)
        assert len(shlex.split(command)) == 1 + len(line.split())


def test_the_other_commands_need_the_model_alone(run, folder, monkeypatch):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    images()
    trained = json.loads(run("train", "--data", "set.npz", *FAST, "--json")[1])
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    model = folder / "set.safetensors"
    found = json.loads(run("evaluate", model, "--json")[1])
    assert found["test_accuracy"] == trained["test_accuracy"]
    assert found["data_path"] == str(folder / "set.npz")
    assert len(run("predict", model)[1].splitlines()) == 30
    for argv, name in (
        (["report"], "set-report.html"), (["plot", "confusion"], "set-confusion.png"),
        (["plot", "curves"], "set-curves.png"),
    ):  # fmt: skip
        assert run(*argv, model)[0] == 0, name
        assert (folder / name).stat().st_size
    assert not os.listdir()


def test_data_that_are_gone_or_have_changed_are_one_line(run, folder):
    images()
    assert run("train", "--data", "set.npz", *FAST)[0] == 0
    images(seed=1)
    code, out, err = run("evaluate", "set.safetensors")
    assert (code, out) == (2, "")
    assert err == (
        "fastbp: error: the data have changed since the model was trained on them; to use them as "
        f"they are now, pass --data {folder / 'set.npz'}\n"
    )
    assert run("evaluate", "set.safetensors", "--data", "set.npz")[0] == 0
    os.rename("set.npz", "moved.npz")
    code, out, err = run("predict", "set.safetensors")
    assert (code, out) == (2, "")
    assert f"{folder / 'set.npz'}, on which the model was trained, is gone; pass --data" in err
    assert run("predict", "set.safetensors", "--data", "moved.npz")[0] == 0


def test_a_named_set_is_found_where_it_lies_now(run, folder, digits, monkeypatch):
    from corpora.idx import write_folder

    parts = [np.asarray(part, "u1") for part in digits]
    write_folder(folder / "here" / "mnist", parts)
    assert run("train", "--data", "mnist", "--data-dir", "here", *FAST)[0] == 0
    accuracy = run("evaluate", "mnist.safetensors")[1]
    os.rename("here", "there")
    monkeypatch.setenv("FASTBP_DATA", "there")
    assert run("evaluate", "mnist.safetensors")[:2] == (0, accuracy)


def test_a_model_named_by_nobody_replaces_none_of_other_data(run, folder):
    images()
    (folder / "other").mkdir()
    images("other/set.npz")
    assert run("train", "--data", "set.npz", *FAST)[0] == 0
    before = (folder / "set.safetensors").read_bytes()
    code, _, err = run("train", "--data", "other/set.npz", *FAST)
    assert code == 2
    assert err.startswith("fastbp: error: set.safetensors is there, and not a model of the same ")
    assert (folder / "set.safetensors").read_bytes() == before
    assert run("train", "--data", "set.npz", *FAST, "--seed", 1)[0] == 0  # of the same
    assert (folder / "set.safetensors").read_bytes() != before
    assert run("train", "--data", "other/set.npz", *FAST, "--output", "set.safetensors")[0] == 0
    for content in (b"of somebody", b""):
        (folder / "digits.safetensors").write_bytes(content)
        assert run("train", *FAST)[0] == 2
        assert (folder / "digits.safetensors").read_bytes() == content


@pytest.mark.parametrize(
    ("data", "name"),
    [("digits", "digits"), ("a/wine.csv", "wine"), ("wine.v2.tsv", "wine.v2"),
     ("x/mnist/", "mnist"), ("mnist.pkl.gz", "mnist"), ("e/emnist-letters", "emnist-letters"),
     ("a b.npz", "a b")],
)  # fmt: skip
def test_a_model_is_named_after_its_data(data, name):
    assert memory.model_of(data) == f"{name}.safetensors"


def test_exports_do_not_tell_where_the_data_lay(run, folder):
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    images()
    assert run("train", "--data", "set.npz", *FAST)[0] == 0
    for name in ("theirs.safetensors", "theirs.onnx"):
        assert run("export", "set.safetensors", name)[0] == 0
        assert os.fsencode(folder) not in Path(name).read_bytes()
        assert run("convert", name, "back.safetensors")[0] == 0
        assert fastbp.load("back.safetensors").notes == {"classes": [0, 1]}


def test_info_says_what_a_model_remembers(run, folder):
    images()
    run("train", "--data", "set.npz", *FAST)
    text = run("info", "set.safetensors")[1]
    assert (
        "\ntrained by   fastbp train --data set.npz --hidden 4 --epochs 2 --backend numpy\n" in text
    )
    assert f"\non           {folder / 'set.npz'}\n" in text
    assert "\nsamples      81 for training, 9 for validation, 30 for testing\n" in text


@pytest.mark.parametrize("training", [5, {"data": 3}, {"data": "digits", "header": "no"}, []])
def test_a_damaged_memory_is_one_line(run, training):
    net = fastbp.Network([64, 10], seed=0)
    net.notes = {"training": training}
    net.save("net")
    for command in ("evaluate", "info", "predict"):
        code, out, err = run(command, "net")
        assert (code, out) == (2, "")
        assert err.startswith("fastbp: error: notes['training'] must be as `fastbp train` leaves ")
