"""Histories and learning rates in files: what was written is read, and nothing else."""

import json
import math
import os
from types import SimpleNamespace

import pytest

from fastbp.cli import records
from fastbp.datasets.untrusted import DataError
from fastbp.history import History

HISTORY = History(
    loss=[0.5, 0.25], accuracy=[0.75, math.nan], val_loss=[0.5, math.inf], val_accuracy=[0.5, 1.0],
    seconds=[1.0, 2.0], samples_per_second=[100.0, 50.0],
)  # fmt: skip
NORMS = SimpleNamespace(activations=[(1.0, 2.0), (3.0, 4.0)], deltas=[(0.5, math.nan), (0.25, 0.0)])


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "a.history.jsonl"
    records.write(path, HISTORY, NORMS)
    run = records.read(path)
    assert run.activations == NORMS.activations
    assert run.deltas[1] == NORMS.deltas[1]
    assert math.isnan(run.deltas[0][1])
    for name in ("loss", "seconds", "samples_per_second", "val_accuracy"):
        assert getattr(run.history, name) == getattr(HISTORY, name)
    assert run.history.accuracy[0] == 0.75
    assert math.isnan(run.history.accuracy[1])
    assert math.isnan(run.history.val_loss[1])  # JSON knows no infinity


def test_the_epoch_that_was_restored_is_known_again(tmp_path):
    history = History(loss=[3.0, 1.0, 2.0])
    history.restored = 2
    for norms in (None, SimpleNamespace(**dict.fromkeys(("activations", "deltas"), [(1.0,)] * 4),
                                        first_epoch=0)):  # fmt: skip
        records.write(tmp_path / "a.jsonl", history, norms)
        assert records.read(tmp_path / "a.jsonl").history.restored == 2
        lines = (tmp_path / "a.jsonl").read_text().splitlines()
        assert [json.loads(line).get("restored") for line in lines][-3:] == [None, True, None]
    records.write(tmp_path / "a.jsonl", HISTORY)
    assert records.read(tmp_path / "a.jsonl").history.restored == 0


def test_norms_before_training_have_a_line_of_their_own(tmp_path):
    path = tmp_path / "a.jsonl"
    entries = [(9.0, 9.0), *NORMS.activations]
    norms = SimpleNamespace(activations=entries, deltas=entries, first_epoch=0)
    records.write(path, HISTORY, norms)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"epoch": 0, "activations": [9.0, 9.0], "deltas": [9.0, 9.0]}
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert lines[1]["activations"] == [1.0, 2.0]
    run = records.read(path)
    assert (run.first_epoch, run.activations, run.deltas) == (0, entries, entries)
    assert run.history.loss == HISTORY.loss
    path.write_text('{"epoch": 0, "loss": 2}\n')  # of another program, which counts so
    assert records.read(path).history.loss == [2.0]
    path.write_text('{"epoch": 0, "deltas": [1]}\n{"epoch": 1, "loss": "low"}\n')
    with pytest.raises(DataError, match="line 2: loss"):
        records.read(path)
    path.write_text('{"epoch": 0, "deltas": [1]}\n')
    with pytest.raises(DataError, match="no epoch"):
        records.read(path)


def test_each_line_is_strict_json_of_one_epoch(tmp_path):
    records.write(tmp_path / "a.jsonl", HISTORY, NORMS)
    lines = (tmp_path / "a.jsonl").read_text().splitlines()

    def refuse(constant):
        raise AssertionError(constant)

    first, second = (json.loads(line, parse_constant=refuse) for line in lines)
    assert first == {
        "epoch": 1, "loss": 0.5, "accuracy": 0.75, "val_loss": 0.5, "val_accuracy": 0.5,
        "seconds": 1.0, "samples_per_second": 100.0, "activations": [1.0, 2.0],
        "deltas": [0.5, None],
    }  # fmt: skip
    assert second["epoch"] == 2
    assert second["accuracy"] is None


def test_without_norms_and_validation_there_is_less(tmp_path):
    path = tmp_path / "a.jsonl"
    records.write(path, History(loss=[1.0], accuracy=[0.5], seconds=[1.0]))
    run = records.read(path)
    assert run == records.Run(History(loss=[1.0], accuracy=[0.5], seconds=[1.0]), [], [])


def test_other_names_are_left_alone(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"epoch": 1, "loss": 2, "weather": "fine"}\n')
    assert records.read(tmp_path / "a.jsonl").history == History(loss=[2.0])


@pytest.mark.parametrize(
    ("model", "history"),
    [
        ("m.safetensors", "m.history.jsonl"),
        ("net.1", "net.1.history.jsonl"),
        ("net.2", "net.2.history.jsonl"),
        ("m", "m.history.jsonl"),
        ("any.jsonl", "any.jsonl"),
    ],
)
def test_the_history_lies_beside_its_model(tmp_path, model, history):
    assert records.beside(tmp_path / model) == tmp_path / history


BAD = {
    "empty": (b"", "it is empty"),
    "no JSON": (b"loss 0.5\n", "line 1 is not JSON"),
    "cut off": (b'{"loss": 1}\n{"lo', "line 2 is not JSON"),
    "no text": (b"\xff\xfe\x00\x01", "line 1 is not JSON"),
    "no object": (b"[1]\n", "line 1 must be a JSON object"),
    "no loss": (b'{"epoch": 1}\n', "loss is in 0 of 1 lines; expected all"),
    "loss of text": (b'{"loss": "low"}', "line 1: loss must be a number or null; got 'low'"),
    "loss of truth": (b'{"loss": true}', "loss must be a number or null; got True"),
    "vast": (b'{"loss": ' + b"9" * 400 + b"}", "OverflowError"),
    "some accuracies": (
        b'{"loss": 1, "accuracy": 1}\n{"loss": 1}\n', "accuracy is in 1 of 2 lines"
    ),
    "norms no list": (b'{"loss": 1, "deltas": 3}', "deltas must be a list of numbers; got 3"),
    "norms of text": (b'{"loss": 1, "deltas": ["a"]}', "deltas must be a number or null"),
    "other layers": (
        b'{"loss": 1, "deltas": [1]}\n{"loss": 1, "deltas": [1, 2]}\n', "same number of layers"
    ),
    "deep": (b'{"loss": ' + b"[" * 100_000, "line 1 is not JSON"),
    "a long line": (b'{"loss": 1}' + b" " * 2**20 + b"\n", "a line is longer than 1,048,576"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "part"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_history_is_named(tmp_path, content, part):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        records.read(path)
    assert part in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_history_says_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"m\.history\.jsonl.*fastbp train"):
        records.read(tmp_path / "m.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_pipe_does_not_make_us_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="not a regular file"):
        records.read(tmp_path / "pipe.jsonl")


# -- learning rates ------------------------------------------------------------------------------


def test_rates_are_read(tmp_path):
    path = tmp_path / "rates.json"
    path.write_text('{"rates": [0.1, 1],\n "losses": [2, null],\n "suggestion": 0.1, "more": []}')
    found = records.read_rates(path)
    assert found.rates.tolist() == [0.1, 1.0]
    assert found.losses[0] == 2
    assert math.isnan(found.losses[1])
    assert found.suggestion == 0.1


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{}", "it lacks rates, losses, suggestion"),
        ('{"rates": 1, "losses": [], "suggestion": 1}', "rates must be a list of numbers; got 1"),
        ('{"rates": [], "losses": ["a"], "suggestion": 1}', "losses must be a number or null"),
        ('{"rates": [], "losses": [], "suggestion": "x"}', "suggestion must be a number or null"),
        ("", "it is empty"),
    ],
)
def test_a_file_that_holds_no_rates_is_named(tmp_path, content, part):
    path = tmp_path / "rates.json"
    path.write_text(content)
    with pytest.raises(DataError, match=part):
        records.read_rates(path)
    with pytest.raises(FileNotFoundError):
        records.read_rates(tmp_path / "nowhere.json")
