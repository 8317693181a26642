"""Callbacks: when they are called, how they end a training, what they keep and what they write."""

import copy
import csv
import json
import math
import os
import pickle

import numpy as np
import pytest

import fastbp
from fastbp import DivergenceError, Network, callbacks
from fastbp.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, JSONLog, StopOnDivergence
from fastbp.history import NAMES, History

RATE = 0.5


class Events(Callback):
    """Keeps what it was called with."""

    def __init__(self, name="", log=None, stop_after=None):
        self.name, self.log, self.stop_after = name, [] if log is None else log, stop_after

    def _note(self, event, net, history):
        self.log.append((self.name, event, len(history), net.to_vector()))

    def on_fit_begin(self, net, history):
        self._note("begin", net, history)

    def on_epoch_end(self, net, history):
        self._note("epoch", net, history)
        if len(history) == self.stop_after:
            history.stopped = f"{self.name} has enough"

    def on_divergence(self, net, history, error):
        self._note("divergence", net, history)

    def on_fit_end(self, net, history):
        self._note("end", net, history)

    def events(self):
        return [(event, epochs) for _, event, epochs, _ in self.log]


class Spoil(Callback):
    """Puts these values into the history's loss, as if they had been seen."""

    def __init__(self, losses, field="loss"):
        self.losses, self.field = losses, field

    def on_epoch_end(self, net, history):
        getattr(history, self.field)[-1] = self.losses[len(history) - 1]


# --- When -----------------------------------------------------------------------------------------


def test_all_are_called_in_turn_at_each_event(make, data):
    log = []
    net = make()
    before = net.to_vector()
    net.fit(
        *data(), epochs=2, batch_size=4, learning_rate=RATE,
        callbacks=[Events("a", log), Events("b", log)],
    )  # fmt: skip
    expected = [("begin", 0), ("epoch", 1), ("epoch", 2), ("end", 2)]
    assert [entry[:3] for entry in log] == [(c, *event) for event in expected for c in "ab"]
    np.testing.assert_array_equal(log[0][3], before)
    np.testing.assert_array_equal(log[-1][3], net.to_vector())


def test_the_base_class_does_nothing_and_changes_no_bit(make, data):
    X, y = data()
    nets = make(), make()
    for net, found in zip(nets, ([], [Callback()]), strict=True):
        net.fit(X, y, epochs=3, batch_size=4, learning_rate=RATE, callbacks=found)
    np.testing.assert_array_equal(nets[0].to_vector(), nets[1].to_vector())


def test_one_that_sets_stopped_ends_the_training_and_the_others_see_that_epoch(backend, make, data):
    X, y = data()
    net, twin, last = make(backend=backend), make(backend=backend), Events("last")
    history = net.fit(
        X, y, epochs=9, batch_size=4, learning_rate=RATE,
        callbacks=[Events("first", stop_after=2), last],
    )  # fmt: skip
    assert history.stopped == "first has enough"
    assert len(history) == 2
    assert last.events() == [("begin", 0), ("epoch", 1), ("epoch", 2), ("end", 2)]
    twin.fit(X, y, epochs=2, batch_size=4, learning_rate=RATE)
    np.testing.assert_array_equal(net.to_vector(), twin.to_vector())


def test_without_one_that_stops_the_history_says_nothing(make, data):
    assert make().fit(*data(), epochs=2, batch_size=4, learning_rate=RATE).stopped == ""


def test_a_divergence_is_told_and_raised_where_nobody_stops(rng, make):
    X = 100 * rng.standard_normal((40, 4))
    events = Events()
    with pytest.raises(DivergenceError):
        make(activation="relu").fit(
            X, X[:, :3], epochs=100, batch_size=40, learning_rate=1e-3, callbacks=[events]
        )
    assert [event for event, _ in events.events()][-2:] == ["epoch", "divergence"]


# --- EarlyStopping --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patience", "min_delta", "losses", "best", "epochs"),
    [
        (1, 0.0, [5, 4, 4, 3], 2, 3),
        (2, 0.0, [5, 4, 4, 3, 3, 3, 1], 4, 6),
        (3, 0.0, [1, 2, 2, 2, 2], 1, 4),
        (2, 1.5, [5, 4, 3, 2, 1, 1, 1], 5, 7),
        (9, 0.0, [5, 4, 6, 7], 2, 4),  # the epochs run out first
        (9, 0.0, [5, 4, 3], 3, 3),
    ],
)
def test_it_stops_after_so_many_epochs_and_puts_the_best_weights_back(
    patience, min_delta, losses, best, epochs, backend, make, data
):
    net, events = make(backend=backend), Events()
    stopping = EarlyStopping("loss", patience, min_delta)
    history = net.fit(
        *data(), epochs=len(losses), batch_size=4, learning_rate=RATE,
        callbacks=[Spoil(losses), events, stopping],
    )  # fmt: skip
    assert len(history) == epochs
    assert (stopping.best.epoch, stopping.best.value) == (best, losses[best - 1])
    np.testing.assert_array_equal(net.to_vector(), events.log[best][3])
    stopped = epochs - best >= patience
    expected = f"no better loss than {losses[best - 1]} since epoch {best}"
    assert history.stopped == (expected if stopped else "")


def test_the_padding_stays_zero_when_weights_are_put_back(make, data):
    net = make()
    net.fit(
        *data(), epochs=5, batch_size=4, learning_rate=RATE,
        callbacks=[EarlyStopping("loss", 1, min_delta=100.0)],
    )  # fmt: skip
    twin = make()
    twin.from_vector(net.to_vector())
    np.testing.assert_array_equal(net.params, twin.params)


def test_it_starts_anew_with_each_training(make, data):
    X, y = data()
    stopping = EarlyStopping("loss", 2)
    for losses, best in (([3, 2, 5, 5], 2), ([9, 8, 7, 8, 8], 3)):
        net = make()
        history = net.fit(
            X, y, epochs=9, batch_size=4, learning_rate=1e-9, shuffle=False,
            callbacks=[Spoil([*losses, 1, 1, 1, 1, 1]), stopping],
        )  # fmt: skip
        assert (len(history), stopping.best.epoch) == (best + 2, best)


@pytest.mark.slow
def test_on_real_images_it_keeps_the_weights_that_do_best_on_images_held_out(mnist):
    """Few images and a large network: it learns them by heart, and the validation loss rises."""
    X, y, X_test, y_test = mnist
    few, held = (X[:1000], y[:1000]), (X[1000:3000], y[1000:3000])
    ends = []
    for stopping in ([], [EarlyStopping("val_loss", 5)]):
        net = Network([784, 100, 10], "relu", loss="cross-entropy", input_scale=1 / 255, seed=0)
        history = net.fit(
            *few, epochs=60, batch_size=10, learning_rate=0.1, validation_data=held,
            callbacks=stopping,
        )  # fmt: skip
        ends.append(net.loss(X_test, y_test))
    best = int(np.argmin(history.val_loss))
    assert len(history) == best + 1 + 5 < 60
    assert net.loss(*held) == history.val_loss[best]
    assert ends[1] < 0.95 * ends[0], ends


# --- StopOnDivergence -----------------------------------------------------------------------------


def test_a_loss_far_above_the_smallest_ends_the_training(backend, make, data):
    net, events = make(backend=backend), Events()
    history = net.fit(
        *data(), epochs=9, batch_size=4, learning_rate=RATE,
        callbacks=[Spoil([3, 1, 2.9, 3.1, 1, 1, 1, 1, 1]), events, StopOnDivergence(3.0)],
    )  # fmt: skip
    assert len(history) == 4
    assert "loss 3.1 is above 3 times the smallest" in history.stopped
    np.testing.assert_array_equal(net.to_vector(), events.log[2][3])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_it_too(value, make, data):
    history = make().fit(
        *data(), epochs=9, batch_size=4, learning_rate=RATE,
        callbacks=[Spoil([3, 2, value]), StopOnDivergence(1e300)],
    )  # fmt: skip
    assert len(history) == 3


def test_losses_below_what_the_dtype_resolves_are_no_divergence(make, data):
    losses = [1.0, 0.0, 1e-16, 2e-15, 1e-15]
    history = make().fit(
        *data(), epochs=5, batch_size=4, learning_rate=RATE,
        callbacks=[Spoil(losses), StopOnDivergence(10.0)],
    )  # fmt: skip
    assert history.stopped == ""


@pytest.mark.parametrize(
    ("losses", "stopped"),
    [
        ([5.0, 1.0, -0.01, 0.5, -0.3], ""),  # around zero, which means nothing there
        ([-60.0, -70.0, -69.0, -71.0], ""),
        ([5.0, -1.0, 80.0], "loss 80 is above 53, far above the smallest, -1"),
        ([-60.0, -70.0, 600.0], "loss 600 is above 560, far above the smallest, -70"),
    ],
)
def test_losses_that_may_be_negative_diverge_by_how_far_they_rise(losses, stopped, make, rng):
    net, X, y = make(loss="poisson"), rng.random((8, 4)), rng.poisson(3.0, (8, 3))
    history = net.fit(
        X, y, epochs=len(losses), batch_size=4, learning_rate=1e-6,
        callbacks=[Spoil(losses), StopOnDivergence()],
    )  # fmt: skip
    assert history.stopped == stopped


def test_without_divergence_the_weights_stay_those_of_the_last_epoch(make, data):
    X, y = data()
    nets = make(), make()
    nets[0].fit(X, y, epochs=3, batch_size=4, learning_rate=RATE)
    nets[1].fit(
        X, y, epochs=3, batch_size=4, learning_rate=RATE,
        callbacks=[Spoil([1, 2, 3]), StopOnDivergence()],
    )  # fmt: skip
    np.testing.assert_array_equal(nets[0].to_vector(), nets[1].to_vector())


def test_where_fit_would_raise_it_returns_with_the_best_weights(backend, dtype, rng, make):
    X, y = 100 * rng.standard_normal((40, 4)), 100 * rng.standard_normal((40, 3))
    net, events = make(activation="relu", backend=backend, dtype=dtype), Events()
    history = net.fit(
        X, y, epochs=1000, batch_size=40, learning_rate=1e-3,
        callbacks=[events, StopOnDivergence(1e300)],
    )  # fmt: skip
    assert 1 <= len(history) < 1000
    assert f"epoch {len(history) + 1} gave" in history.stopped
    best = int(np.argmin(history.loss)) + 1
    np.testing.assert_array_equal(net.to_vector(), events.log[best][3])
    assert [event for event, _ in events.events()][-2:] == ["divergence", "end"]


def test_in_the_first_epoch_the_network_gets_its_start_back(backend):
    net = Network([2, 1], output="identity", bias=False, backend=backend, seed=0)
    before = net.to_vector()
    X, y = np.zeros((12, 2)), np.zeros((12, 1))
    X[0], X[7] = 1.0, 1e10
    history = net.fit(
        X, y, epochs=3, batch_size=1, learning_rate=1e25, shuffle=False,
        callbacks=[StopOnDivergence()],
    )  # fmt: skip
    assert len(history) == 0
    assert "epoch 1 gave" in history.stopped
    np.testing.assert_array_equal(net.to_vector(), before)


def test_of_several_that_put_weights_back_the_last_has_the_last_word(make, data):
    X, y = data()
    losses, others = [4.0, 1.0, 2.0, 99.0], [1.0, 2.0, 0.5, 3.0]
    for order in (1, -1):
        net, events = make(), Events()
        both = [EarlyStopping("val_loss", 9), StopOnDivergence()][::order]
        history = net.fit(
            X, y, epochs=9, batch_size=4, learning_rate=RATE, validation_data=(X, y),
            callbacks=[Spoil(losses), Spoil(others, "val_loss"), events, *both],
        )  # fmt: skip
        assert len(history) == 4
        best = 2 if order == 1 else 3
        np.testing.assert_array_equal(net.to_vector(), events.log[best][3])


# --- Checkpoint -----------------------------------------------------------------------------------


def test_every_so_many_epochs_the_network_is_saved(backend, tmp_path, make, data):
    net, events = make(backend=backend), Events()
    net.fit(
        *data(), epochs=7, batch_size=4, learning_rate=RATE,
        callbacks=[events, Checkpoint(tmp_path / "net-{epoch:03d}.safetensors", every=3)],
    )  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == ["net-003.safetensors", "net-006.safetensors"]
    for epoch in (3, 6):
        loaded = fastbp.load(tmp_path / f"net-{epoch:03d}.safetensors")
        np.testing.assert_array_equal(loaded.to_vector(), events.log[epoch][3])


def test_only_the_best_and_one_file_after_the_other(tmp_path, make, data):
    net, events = make(), Events()
    losses = [5, 6, 4, 4, 3, 9]
    net.fit(
        *data(), epochs=6, batch_size=4, learning_rate=RATE,
        callbacks=[
            Spoil(losses), events, Checkpoint(tmp_path / "best", monitor="loss"),
            Checkpoint(tmp_path / "best-{epoch}", monitor="loss"),
            Checkpoint(tmp_path / "even-{epoch}", every=2, monitor="loss"),
            Checkpoint(tmp_path / "last"),
        ],
    )  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == [
        "best", "best-1", "best-3", "best-5", "even-2", "even-4", "last",
    ]  # fmt: skip
    for name, epoch in (("best", 5), ("best-5", 5), ("last", 6)):
        np.testing.assert_array_equal(
            fastbp.load(tmp_path / name).to_vector(), events.log[epoch][3]
        )


def test_a_training_goes_on_from_a_checkpoint_to_the_same_end(tmp_path, make, data):
    X, y = data()
    options = {"batch_size": 4, "learning_rate": RATE, "shuffle": False}
    whole = make()
    whole.fit(X, y, epochs=5, **options, callbacks=[Checkpoint(tmp_path / "{epoch}")])
    rest = fastbp.load(tmp_path / "2")
    rest.fit(X, y, epochs=3, **options)
    np.testing.assert_array_equal(rest.to_vector(), whole.to_vector())


def test_folders_may_have_braces_and_doubled_ones_stand_for_themselves(tmp_path):
    folder = tmp_path / "{a} {0}"
    folder.mkdir()
    assert Checkpoint(folder / "{{x}}-{epoch}").path(7) == folder / "{x}-7"
    assert Checkpoint("net").path(7).name == "net"


@pytest.mark.parametrize("name", ["{", "{}", "{0}", "{e}", "{epoch:q}", "{epoch.x}", "{epoch[0]}"])
def test_a_pattern_that_is_none_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"path must be .* with \{epoch\}"):
        Checkpoint(tmp_path / name)


def test_where_there_is_no_place_it_is_said_before_the_training(tmp_path, make, data):
    net = make()
    before = net.to_vector()
    for path, error, message in (
        (tmp_path / "no" / "net", FileNotFoundError, "its folder does not exist"),
        (tmp_path, IsADirectoryError, "expected a file, got a folder"),
    ):
        with pytest.raises(error, match=message) as caught:
            net.fit(
                *data(), epochs=1, batch_size=4, learning_rate=RATE, callbacks=[Checkpoint(path)]
            )
        assert caught.value.filename == str(path)
    np.testing.assert_array_equal(net.to_vector(), before)


def test_a_name_without_folder_lies_here(tmp_path, monkeypatch, make, data):
    monkeypatch.chdir(tmp_path)
    make().fit(*data(), epochs=1, batch_size=4, learning_rate=RATE, callbacks=[Checkpoint("net")])
    assert os.listdir() == ["net"]


# --- Logs -----------------------------------------------------------------------------------------


@pytest.fixture
def logged(make, tmp_path):
    """logged(X=..., y=..., ...): train; return the history, and what both logs say of it."""

    def train(**options):
        csv_log, json_log = tmp_path / "log.csv", tmp_path / "log.jsonl"
        history = make().fit(
            **{"epochs": 3, "batch_size": 4, "learning_rate": 0.1, **options},
            callbacks=[CSVLog(csv_log), JSONLog(str(json_log))],
        )
        with open(csv_log, newline="") as file:
            rows = list(csv.DictReader(file))
        lines = json_log.read_text().splitlines()
        return history, rows, [json.loads(line, parse_constant=pytest.fail) for line in lines]

    return train


def test_both_logs_hold_the_history_to_the_last_bit(logged, data):
    X, y = data()
    history, rows, lines = logged(X=X, y=y, validation_data=(X, y))
    assert [row.pop("epoch") for row in rows] == ["1", "2", "3"]
    assert [line.pop("epoch") for line in lines] == [1, 2, 3]
    for found in (rows, lines):
        assert all(tuple(row) == NAMES for row in found)
        for name in NAMES:
            assert [float(row[name]) for row in found] == getattr(history, name)


def test_what_was_not_measured_is_empty_and_what_is_no_number_is_null(logged, rng):
    history, rows, lines = logged(X=rng.random((6, 4)), y=rng.random((6, 3)))
    assert {row["val_loss"] for row in rows} == {""}
    assert {row["accuracy"] for row in rows} == {"nan"}
    assert [float(row["loss"]) for row in rows] == history.loss
    assert all("val_loss" not in line and line["accuracy"] is None for line in lines)


def test_a_log_is_complete_after_each_epoch_and_begins_anew(tmp_path, make, data):
    X, y = data()
    paths = tmp_path / "log.csv", tmp_path / "log.jsonl"
    for path in paths:
        path.write_text("old\n")
    counts = []

    class Count(Callback):
        def on_fit_begin(self, net, history):
            self.on_epoch_end(net, history)

        def on_epoch_end(self, net, history):
            counts.append([len(path.read_text().splitlines()) for path in paths])

    net = make()
    for _ in range(2):
        net.fit(
            X, y, epochs=2, batch_size=4, learning_rate=RATE,
            callbacks=[CSVLog(paths[0]), JSONLog(paths[1]), Count()],
        )  # fmt: skip
    assert counts == [[1, 0], [2, 1], [3, 2]] * 2


@pytest.mark.parametrize("log", [CSVLog, JSONLog])
def test_a_log_without_a_place_is_said_before_the_training(log, tmp_path, make, data):
    net = make()
    before = net.to_vector()
    with pytest.raises(FileNotFoundError) as caught:
        net.fit(
            *data(), epochs=1, batch_size=4, learning_rate=RATE,
            callbacks=[log(tmp_path / "no" / "log")],
        )  # fmt: skip
    assert caught.value.filename == str(tmp_path / "no" / "log")
    np.testing.assert_array_equal(net.to_vector(), before)


# --- Together -------------------------------------------------------------------------------------


def everything(folder):
    return [
        CSVLog(folder / "log.csv"), Checkpoint(folder / "net-{epoch}", every=2),
        EarlyStopping("val_accuracy", 3), StopOnDivergence(50.0), JSONLog(folder / "log.jsonl"),
    ]  # fmt: skip


def test_all_together_on_real_digits_stop_and_leave_the_best(tmp_path, digits):
    X, y, *_ = digits
    train, held = (X[:400], y[:400]), (X[400:800], y[400:800])
    net = Network([64, 20, 10], loss="cross-entropy", input_scale=1 / 16, seed=1)
    history = net.fit(
        *train, epochs=200, batch_size=10, learning_rate=0.5, validation_data=held,
        callbacks=everything(tmp_path),
    )  # fmt: skip
    best = int(np.argmax(history.val_accuracy)) + 1
    assert len(history) == best + 3 < 200
    assert net.accuracy(*held) == max(history.val_accuracy) > 0.85
    assert len((tmp_path / "log.csv").read_text().splitlines()) == len(history) + 1
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(history)
    assert len(list(tmp_path.glob("net-*"))) == len(history) // 2


@pytest.mark.parametrize("batch_size", [1, 4, 22])
def test_what_watches_changes_no_bit(batch_size, backend, tmp_path, tqdm, capsys, make, data):
    X, y = data()
    nets = make(backend=backend), make(backend=backend)
    options = {"epochs": 6, "batch_size": batch_size, "learning_rate": RATE}
    plain = nets[0].fit(X, y, **options)
    watched = nets[1].fit(
        X, y, **options, verbose=True, progress=True, validation_data=(X, y),
        callbacks=[
            CSVLog(tmp_path / "a"), JSONLog(tmp_path / "b"), StopOnDivergence(1e9),
            Checkpoint(tmp_path / "{epoch}"),
        ],
    )  # fmt: skip
    np.testing.assert_array_equal(nets[0].to_vector(), nets[1].to_vector())
    assert (plain.loss, plain.accuracy) == (watched.loss, watched.accuracy)
    assert nets[0].rng.bit_generator.state == nets[1].rng.bit_generator.state


def test_all_can_be_pickled_before_and_after_a_training(tmp_path, make, data):
    X, y = data()
    ends = []
    for _ in range(2):
        found = pickle.loads(pickle.dumps(ends[-1][1] if ends else everything(tmp_path)))
        net = make()
        net.fit(
            X, y, epochs=5, batch_size=4, learning_rate=RATE, validation_data=(X, y),
            callbacks=copy.deepcopy(found),
        )  # fmt: skip
        net.fit(
            X, y, epochs=5, batch_size=4, learning_rate=RATE, validation_data=(X, y),
            callbacks=found,
        )  # fmt: skip
        ends.append((net.to_vector().tobytes(), found))
    assert ends[0][0] == ends[1][0]


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: EarlyStopping("val"), ValueError, "monitor must be one of .*'val'"),
        (lambda: EarlyStopping(patience=0), ValueError, "patience must be a positive integer"),
        (lambda: EarlyStopping(patience=1.5), TypeError, "patience must be"),
        (lambda: EarlyStopping(min_delta=-1), ValueError, "min_delta must be"),
        (lambda: EarlyStopping(min_delta=None), TypeError, "min_delta must be"),
        (lambda: StopOnDivergence(1), ValueError, "factor must be above 1; got 1"),
        (lambda: StopOnDivergence(math.inf), ValueError, "factor must be"),
        (lambda: StopOnDivergence("2"), TypeError, "factor must be"),
        (lambda: Checkpoint(3), TypeError, "path must be .*; got 3"),
        (lambda: Checkpoint(""), TypeError, "path must be"),
        (lambda: Checkpoint("a", every=0), ValueError, "every must be a positive integer"),
        (lambda: Checkpoint("a", monitor="x"), ValueError, "monitor must be one of"),
        (lambda: CSVLog(None), TypeError, "path must be .* str or os.PathLike"),
        (lambda: JSONLog(b"log"), TypeError, "path must be"),
    ],
)
def test_arguments_that_do_not_fit(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("build", [EarlyStopping, lambda: Checkpoint("a", monitor="val_accuracy")])
def test_what_is_monitored_must_be_there(build, make, data):
    with pytest.raises(ValueError, match=r"monitor 'val_.*' needs validation_data"):
        make().fit(*data(), epochs=3, batch_size=4, learning_rate=RATE, callbacks=[build()])


def test_the_module_is_there_when_asked_for():
    assert fastbp.callbacks is callbacks
    assert History().stopped == ""


def test_completion_offers_what_is_for_users():
    for module in (fastbp.callbacks, fastbp.schedules):
        assert dir(module) == sorted(module.__all__)
