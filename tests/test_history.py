"""What a training saw, and which of its epochs was the best."""

import math
import pickle
import sys

import pytest

import fastbp
from fastbp.history import NAMES, Best, History


def test_names_are_the_fields_in_order():
    assert NAMES == (
        "loss", "accuracy", "penalty", "val_loss", "val_accuracy", "learning_rate", "seconds",
        "samples_per_second",
    )  # fmt: skip
    assert fastbp.History is History


def test_the_newest_entries():
    history = History(loss=[3.0, 2.0], accuracy=[0.1, math.nan], seconds=[1.0, 4.0])
    last = history.last()
    assert list(last) == ["loss", "accuracy", "seconds"]
    assert (last["loss"], last["seconds"]) == (2.0, 4.0)
    assert math.isnan(last["accuracy"])


def test_why_it_stopped_is_kept_by_pickle_and_is_each_history_s_own():
    history = History(loss=[1.0])
    history.stopped = "enough"
    assert pickle.loads(pickle.dumps(history)).stopped == "enough"
    assert History().stopped == ""


HISTORY = History(
    [0.9, 0.61239], [0.1, 0.8123], [0.0, 0.0], [0.8, 0.71], [0.2, 0.79], [0.5, 0.05],
    [1.0, 0.5], [1e3, 1234567.8],
)  # fmt: skip


def test_a_history_shows_itself_by_a_line():
    assert repr(HISTORY) == (
        "<History of 2 epochs: loss 0.6124, accuracy 0.8123, val_loss 0.7100, val_accuracy 0.7900>"
    )
    assert repr(History()) == "<History of 0 epochs>"
    one = History(loss=[3e-5], accuracy=[math.nan])
    assert repr(one) == "<History of 1 epoch: loss 3.00e-05>"


def test_a_history_shows_a_table_of_what_was_measured():
    shown = HISTORY._repr_html_()
    for text in (">epoch<", ">val_accuracy<", ">0.6124<", ">1,234,568<", ">0.05<", ">0.500<"):
        assert text in shown
    assert "penalty" not in shown  # all zero
    stopped = History(loss=[1.0], accuracy=[math.nan], penalty=[0.5])
    stopped.stopped = "enough & more"
    shown = stopped._repr_html_()
    assert "penalty" in shown
    assert "accuracy" not in shown
    assert shown.endswith("<div>enough &amp; more</div></div>")


def test_of_a_long_history_only_what_is_shown_is_looked_at():
    looked = []

    class Losses(list):
        def __getitem__(self, place):
            looked.append(place)
            return super().__getitem__(place)

    shown = History(loss=Losses([0.5] * 10**5))._repr_html_()
    assert shown.count("0.5000") == len(looked) == 10
    assert ">100000<" in shown


def test_a_history_becomes_a_table_of_pandas():
    pandas = pytest.importorskip("pandas")
    frame = HISTORY.to_frame()
    assert list(frame.columns) == list(NAMES)
    assert (frame.index.name, list(frame.index)) == ("epoch", [1, 2])
    assert frame.loc[2].to_dict() == HISTORY.last()
    frame = History(loss=[1.0]).to_frame()
    pandas.testing.assert_frame_equal(
        frame, pandas.DataFrame({"loss": [1.0]}, pandas.Index([1], name="epoch"))
    )
    assert len(History().to_frame()) == 0


def test_without_pandas_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"tables need pandas: pip install pandas"):
        HISTORY.to_frame()


def test_a_history_draws_its_curves(tmp_path):
    pytest.importorskip("matplotlib")
    figure = HISTORY.plot(tmp_path / "curves.png", title="digits")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert figure.get_suptitle() == "digits"
    assert len(figure.axes) == 2


def epochs_that_improve(best, values):
    history, found = History(), []
    for epoch, value in enumerate(values, start=1):
        history.loss.append(0.0)
        if best.monitor != "loss":
            getattr(history, best.monitor).append(value)
        else:
            history.loss[-1] = value
        if best.improves(history):
            found.append(epoch)
            assert (best.value, best.epoch) == (value, epoch)
    return found


@pytest.mark.parametrize(
    ("monitor", "min_delta", "values", "expected"),
    [
        ("loss", 0.0, [3, 4, 3, 2, 2, 1], [1, 4, 6]),
        ("loss", 0.5, [3, 2.6, 2.5, 2.4, 1], [1, 4, 5]),
        ("val_loss", 0.0, [1, 2, 0.5], [1, 3]),
        ("val_loss", 0.0, [math.inf, math.nan, 7, math.nan, 6], [1, 3, 5]),
        ("accuracy", 0.0, [0.5, 0.4, 0.5, 0.6], [1, 4]),
        ("val_accuracy", 0.1, [0.5, 0.55, 0.65], [1, 3]),
        ("samples_per_second", 0.0, [5, 4, 6], [1, 3]),
        ("seconds", 0.0, [5, 4, 6], [1, 2]),
        ("learning_rate", 0.0, [5, 4, 6], [1, 2]),
    ],
)
def test_the_best_is_the_largest_or_the_smallest(monitor, min_delta, values, expected):
    best = Best(monitor, min_delta)
    assert math.isnan(best.value)
    assert best.epoch == 0
    assert epochs_that_improve(best, values) == expected
    best.forget()
    assert epochs_that_improve(best, values) == expected


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (("vall_loss",), ValueError, "monitor must be one of .*; got 'vall_loss'"),
        (("stopped",), ValueError, "monitor must be"),
        ((None,), ValueError, "monitor must be"),
        (("loss", -1), ValueError, "min_delta must be .* at least 0; got -1"),
        (("loss", math.nan), ValueError, "min_delta must be"),
        (("loss", math.inf), ValueError, "min_delta must be"),
        (("loss", "1"), TypeError, "min_delta must be .*; got '1'"),
        (("loss", True), TypeError, "min_delta must be"),
    ],
)
def test_arguments_that_do_not_fit(args, error, message):
    with pytest.raises(error, match=message):
        Best(*args)


def test_what_the_history_does_not_hold_is_named():
    with pytest.raises(ValueError, match="monitor 'val_loss' needs validation_data"):
        Best("val_loss").improves(History(loss=[1.0]))
    for monitor in ("accuracy", "val_accuracy"):
        history = History(loss=[1.0], accuracy=[math.nan], val_accuracy=[math.nan])
        with pytest.raises(ValueError, match=f"monitor '{monitor}' needs targets that are classes"):
            Best(monitor).improves(history)
