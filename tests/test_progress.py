"""The bar and the lines by which a person follows a training."""

import logging
import math
import sys

import pytest

from fastbp.history import History
from fastbp.training import loop as training
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


def test_a_bar_shows_samples_their_rate_loss_and_accuracy(backend, capsys, make, data, tqdm):
    history = make(backend=backend).fit(*data(), **OPTIONS, progress=True)
    shown = capsys.readouterr()
    assert "/66" in shown.err  # samples of three epochs
    assert "samples/s" in shown.err
    assert shown.out == ""
    assert history.stopped == ""
    make(backend=backend).fit(*data(), **OPTIONS)
    assert capsys.readouterr().err == ""


class Bar:
    """What stands in for tqdm's."""

    def __init__(self, total, **options):
        self.total, self.said, self.counted, self.closed = total, [], [], False
        Bar.made.append(self)

    def close(self):
        self.closed = True

    def update(self, samples):
        self.counted.append(samples)

    def set_postfix_str(self, text, refresh):
        assert not refresh  # at most as often as tqdm itself
        self.said.append(text)


@pytest.fixture
def bars(monkeypatch):
    Bar.made = []
    module = type(sys)("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    return Bar.made


def test_the_bar_counts_every_sample_and_is_closed(bars, make, data):
    make().fit(*data(), **OPTIONS, progress=True)
    (bar,) = bars
    assert bar.total == sum(bar.counted) == 66
    assert bar.closed


@pytest.mark.parametrize("classes", [True, False])
def test_beside_the_bar_stands_what_was_seen_of_the_epoch(
    classes, bars, rng, monkeypatch, backend, make, data
):
    """Slices of two batches, as if each took its time; the last word is the epoch's own."""
    monkeypatch.setattr(training, "SLICE_SECONDS", 0)
    X, y = data()
    y = y if classes else rng.random((22, 3))
    net, twin = make(backend=backend), make(backend=backend)
    history = net.fit(X, y, **OPTIONS, shuffle=False, progress=True)
    said = bars[0].said
    assert len(said) == 3 * 6
    loss = twin.loss(X[:4], y[:4])
    hits = f", accuracy {twin.accuracy(X[:4], y[:4]):.4f}" if classes else ""
    assert said[0] == f"loss {loss:.4f}{hits}"
    end = f", accuracy {history.accuracy[0]:.4f}" if classes else ""
    assert said[5] == f"loss {history.loss[0]:.4f}{end}"


def test_many_epochs_in_one_call_show_the_last(bars, make, data, monkeypatch):
    monkeypatch.setattr(training, "SLICE_SECONDS", 1e9)  # however long they take
    X, y = data()
    history = make().fit(X, y, epochs=1000, batch_size=22, learning_rate=RATE, progress=True)
    (bar,) = bars
    assert sum(bar.counted) == 22000
    assert max(bar.counted) > 22
    assert bar.said[-1] == f"loss {history.loss[-1]:.4f}, accuracy {history.accuracy[-1]:.4f}"


def test_a_bar_is_closed_where_a_training_fails(bars, make, data):
    class Fails:
        def on_epoch_end(self, net, history):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        make().fit(*data(), **OPTIONS, progress=True, callbacks=[Fails()])
    assert bars[0].closed


def test_without_tqdm_training_goes_on_and_says_so(monkeypatch, caplog, make, data):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with caplog.at_level(logging.WARNING, logger="fastbp"):
        history = make().fit(*data(), **OPTIONS, progress=True, verbose=True)
    assert len(history) == 3
    assert "no progress bar: tqdm is missing (pip install 'fastbp[progress]')" in caplog.text


def test_lines_stand_above_the_bar(capsys, make, data, tqdm):
    """The bar is wiped from its line before a line is written; else the two would be one."""

    def say(line):
        print(line, file=sys.stderr)

    for above, wiped in ((tqdm.tqdm, 3), (None, 0)):
        make().fit(*data(), **OPTIONS, progress=True, callbacks=[EpochLines(3, say, above)])
        shown = capsys.readouterr().err
        assert shown.count("epoch ") == 3
        assert shown.count("\repoch ") == wiped
