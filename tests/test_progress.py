"""The bar and the lines by which a person follows a training."""

import logging
import math
import re
import sys

import pytest

from fastbp.history import History
from fastbp.training import loop as training
from fastbp.training import progress
from fastbp.training.progress import EpochLines, epoch_line

RATE = 0.5
OPTIONS = {"epochs": 3, "batch_size": 4, "learning_rate": RATE}


@pytest.fixture(autouse=True, scope="module")
def compiled(make):
    """Kernels are ready: a line says so where they are compiled first."""
    make().fit([[0.0] * 4], [0], epochs=1, batch_size=1, learning_rate=RATE)


# --- Lines ----------------------------------------------------------------------------------------


def test_a_line_says_all_that_was_measured():
    history = History(
        [0.9, 0.61239], [0.1, 0.8123], [0.0, 0.0], [0.8, 0.71], [0.2, 0.79], [0.5, 0.05],
        [1.0, 0.5], [1e3, 1234567.8],
    )  # fmt: skip
    assert epoch_line(history, 30) == (
        "epoch  2/30: loss 0.6124 (val 0.7100), accuracy 0.8123 (val 0.7900), rate 0.05, 0.500 s, "
        "1,234,568 samples/s"
    )


def test_a_line_leaves_out_what_there_is_not():
    history = History(loss=[3.2e-5], accuracy=[math.nan], learning_rate=[1e-3])
    assert epoch_line(history, 1) == "epoch 1/1: loss 3.20e-05, rate 0.001"
    history = History(loss=[0.0], accuracy=[math.nan], val_loss=[1e7], val_accuracy=[math.nan])
    assert epoch_line(history, 1) == "epoch 1/1: loss 0.0000 (val 1.00e+07)"


def test_lines_of_a_training_have_one_length_so_that_columns_stand_below_each_other(
    caplog, make, data
):
    with caplog.at_level(logging.INFO, logger="fastbp"):
        make().fit(*data(), epochs=12, batch_size=4, learning_rate=RATE, verbose=True)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in lines] == [f"epoch {i:2}/12" for i in range(1, 13)]
    assert len({line.index("rate") for line in lines}) == 1


def test_why_a_training_ended_early_is_the_last_line(caplog, make, data):
    class Enough:
        def on_epoch_end(self, net, history):
            history.stopped = "enough is enough"

    with caplog.at_level(logging.INFO, logger="fastbp"):
        make().fit(*data(), **OPTIONS, verbose=True, callbacks=[Enough()])
    assert [record.getMessage() for record in caplog.records][1:] == [
        "ended after epoch 1: enough is enough"
    ]
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_without_verbose_nothing_is_said(caplog, capsys, make, data):
    with caplog.at_level(logging.INFO, logger="fastbp"):
        make().fit(*data(), **OPTIONS)
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def test_where_the_program_handles_logs_no_level_or_handler_changes(caplog, make, data):
    """Here caplog's handler is the program's; its logger is at WARNING, and shows lines anyway."""
    logger = logging.getLogger("fastbp")
    before = logger.level, logger.handlers[:]
    make().fit(*data(), **OPTIONS, verbose=True)
    assert sum("epoch" in record.getMessage() for record in caplog.records) == 3
    assert (logger.level, logger.handlers) == before


@pytest.mark.parametrize("level", [None, "INFO", "WARNING"])
def test_in_a_program_each_line_is_shown_once(level, run_program):
    done = run_program("epoch_lines.py", *([level] if level else []))
    lines = done.stdout.splitlines()
    start = "program: epoch 1/2: loss" if level else "epoch 1/2: loss"
    assert lines[0].startswith(start)
    assert [line.partition("epoch ")[2][:3] for line in lines[:2]] == ["1/2", "2/2"]
    assert lines[2:] == ["diverged"]
    assert "epoch" not in done.stderr


def test_verbose_is_true_or_false(make, data):
    with pytest.raises(TypeError, match="verbose must be True or False; got 2"):
        make().fit(*data(), **OPTIONS, verbose=2)


# --- Bar ------------------------------------------------------------------------------------------


def test_a_bar_for_each_epoch_stays_with_its_loss_and_accuracy(backend, capsys, make, data, tqdm):
    X, y = data()
    history = make(backend=backend).fit(X, y, **OPTIONS, validation_data=(X, y), progress=True)
    shown = capsys.readouterr()
    lines = [line.rpartition("\r")[2] for line in shown.err.strip().split("\n")]
    for number, line in enumerate(lines, start=1):
        row = history.row(number - 1)
        assert re.fullmatch(rf"epoch {number}/3: 100%\|.*\| 00:00<00:00, [\d.k]+/s, (.*)", line)
        assert line.endswith(
            f"loss {row['loss']:.4f} (val {row['val_loss']:.4f}), "
            f"accuracy {row['accuracy']:.4f} (val {row['val_accuracy']:.4f})"
        )
    assert len(lines) == 3
    assert shown.out == ""
    make(backend=backend).fit(*data(), **OPTIONS)
    assert capsys.readouterr().err == ""


class Bar:
    """What stands in for tqdm's."""

    def __init__(self, total, initial, desc, **options):
        self.total, self.n, self.said, self.counted, self.names = total, initial, [], [], [desc]
        self.closed = 0
        assert options.get("leave", True)
        Bar.made.append(self)

    def close(self):
        self.closed += 1

    def update(self, samples):
        self.counted.append(samples)
        self.n += samples

    def set_postfix_str(self, text, refresh):
        assert not refresh  # at most as often as tqdm itself
        self.said.append(text)

    def set_description_str(self, text, refresh):
        assert not refresh
        self.names.append(text)


@pytest.fixture
def bars(monkeypatch):
    Bar.made = []
    module = type(sys)("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    return Bar.made


@pytest.fixture
def one_for_all(monkeypatch):
    """A training of more epochs than have a bar each."""
    monkeypatch.setattr(progress, "MOST_BARS", 2)


def test_each_of_a_few_epochs_has_a_bar(bars, make, data):
    make().fit(*data(), **OPTIONS, progress=True)
    assert [bar.names[0] for bar in bars] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert {(bar.total, bar.n, sum(bar.counted), bar.closed) for bar in bars} == {(22, 22, 22, 1)}


def test_many_epochs_share_a_bar_that_counts_them(bars, one_for_all, make, data):
    make().fit(*data(), **OPTIONS, progress=True)
    (bar,) = bars
    assert list(dict.fromkeys(bar.names)) == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert bar.total == bar.n == sum(bar.counted) == 66
    assert bar.closed == 1


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("classes", [True, False])
def test_beside_the_bar_stands_what_was_seen_of_the_epoch(
    classes, each, bars, rng, monkeypatch, backend, make, data
):
    """Slices of two batches, as if each took its time; the last word is the epoch's own."""
    monkeypatch.setattr(training, "SLICE_SECONDS", 0)
    monkeypatch.setattr(progress, "MOST_BARS", 3 if each else 2)
    X, y = data()
    y = y if classes else rng.random((22, 3))
    net, twin = make(backend=backend), make(backend=backend)
    history = net.fit(X, y, **OPTIONS, shuffle=False, progress=True, validation_data=(X, y))
    said = [text for bar in bars for text in bar.said]
    assert len(said) == 3 * 6
    loss = twin.loss(X[:4], y[:4])
    hits = f", accuracy {twin.accuracy(X[:4], y[:4]):.4f}" if classes else ""
    assert said[0] == f"loss {loss:.4f}{hits}"
    row = history.row(0)
    end = f", accuracy {row['accuracy']:.4f} (val {row['val_accuracy']:.4f})" if classes else ""
    assert said[5] == f"loss {row['loss']:.4f} (val {row['val_loss']:.4f}){end}"
    # Beside many epochs the last validation stays in sight.
    assert (f"(val {row['val_loss']:.4f})" in said[6]) == (not each)


@pytest.mark.parametrize("epochs", [30, 1000])
def test_of_epochs_in_one_call_the_last_is_shown(epochs, bars, make, data, monkeypatch):
    monkeypatch.setattr(training, "SLICE_SECONDS", 1e9)  # however long they take
    X, y = data()
    history = make().fit(X, y, epochs=epochs, batch_size=22, learning_rate=RATE, progress=True)
    assert sum(bar.n for bar in bars) == sum(bar.total for bar in bars) == 22 * epochs
    assert max(max(bar.counted) for bar in bars) > 22
    assert all(bar.closed for bar in bars)
    end = f"loss {history.loss[-1]:.4f}, accuracy {history.accuracy[-1]:.4f}"
    assert (bars[-1].said[-1], bars[-1].names[-1]) == (end, f"epoch {epochs}/{epochs}")


@pytest.mark.parametrize("most", [0, 9])
def test_samples_of_chunks_are_known_once_they_were_counted(most, bars, make, data, monkeypatch):
    monkeypatch.setattr(progress, "MOST_BARS", most)
    make().fit([data(), data(5)], **OPTIONS, progress=True)
    assert {(bar.total, bar.n) for bar in bars} == {(27, 27) if most else (81, 81)}


@pytest.mark.parametrize("most", [0, 9])
def test_a_training_that_goes_on_counts_on(most, bars, make, data, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "MOST_BARS", most)
    monkeypatch.setattr(training, "SLICE_SECONDS", 0)

    options = {**OPTIONS, "checkpoint": tmp_path / "state", "checkpoint_every": 1e-9}
    X, y = data()
    make().fit(X, y, **{**options, "epochs": 1})
    make().fit(X, y, **options, resume=tmp_path / "state", progress=True)
    assert bars[0].names[0] == "epoch 2/3"
    assert (bars[0].n - sum(bars[0].counted), bars[0].total) == ((0, 22) if most else (22, 66))
    assert sum(bar.closed for bar in bars) == len(bars) == (2 if most else 1)


@pytest.mark.parametrize("most", [0, 9])
def test_the_bar_of_a_training_that_ended_early_is_full(most, bars, make, data, monkeypatch):
    class Enough:
        def on_epoch_end(self, net, history):
            history.stopped = "enough"

    monkeypatch.setattr(progress, "MOST_BARS", most)
    make().fit(*data(), **OPTIONS, progress=True, callbacks=[Enough()])
    (bar,) = bars
    assert bar.closed == 1
    assert bar.n == bar.total == 22


def test_a_bar_is_closed_where_a_training_fails(bars, one_for_all, make, data):
    class Fails:
        def on_epoch_end(self, net, history):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        make().fit(*data(), **OPTIONS, progress=True, callbacks=[Fails()])
    assert bars[0].closed == 1
    assert bars[0].n < bars[0].total


def test_without_tqdm_training_goes_on_and_says_so(monkeypatch, caplog, make, data):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with caplog.at_level(logging.WARNING, logger="fastbp"):
        history = make().fit(*data(), **OPTIONS, progress=True, verbose=True)
    assert len(history) == 3
    assert "no progress bar: tqdm is missing (pip install tqdm)" in caplog.text


def test_lines_stand_above_the_bar(capsys, one_for_all, make, data, tqdm):
    """The bar is wiped from its line before a line is written; else the two would be one."""

    def say(line):
        print(line, file=sys.stderr)

    for above, wiped in ((tqdm.tqdm, 3), (None, 0)):
        make().fit(*data(), **OPTIONS, progress=True, callbacks=[EpochLines(3, say, above)])
        shown = capsys.readouterr().err
        assert shown.count(" rate ") == 3
        assert len(re.findall(r"\repoch \d/3: loss .* rate ", shown)) == wiped
