"""Training checkpoints: stopped after any step, a training goes on to the same bits."""

import collections
import copy
import functools
import json
import random
import shutil
import threading

import numpy as np
import pytest

import fastbp
from cases import crossed
from fastbp import ModelFileError, Network, callbacks, schedules
from fastbp.engines.numba_trainer import NumbaTrainer
from fastbp.engines.numpy_engine import NumpyTrainer
from fastbp.model import file as checkpoint
from fastbp.training import loop as training
from fastbp.training import resume as resuming

N, BATCH, EPOCHS = 40, 16, 4  # three steps an epoch, the last of them on a smaller batch
STEPS = EPOCHS * 3

OPTIMIZERS = {
    "sgd": lambda: "sgd",
    "momentum": lambda: "momentum",
    "nesterov": lambda: "nesterov",
    "adam": lambda: "adam",
    "l2 and clipping": lambda: fastbp.SGD(momentum=0.5, l2=1e-3, clip_norm=0.1),
    "adamw": lambda: fastbp.AdamW(weight_decay=0.1, l1=1e-3),
    "rmsprop": lambda: "rmsprop",
    "uncorrected": lambda: fastbp.Adam(epsilon_corrected=False),
}
SCHEDULES = {
    "constant": lambda: 0.3,
    "step": lambda: schedules.Step(0.4, every=2),
    "exponential": lambda: schedules.Exponential(0.4, 0.8),
    "cosine": lambda: schedules.Cosine(0.4, EPOCHS),
    "plateau": lambda: schedules.OnPlateau(0.4, patience=1, min_delta=0.3),
    "warm-up": lambda: schedules.Warmup(SCHEDULES["plateau"](), epochs=0.8),
    "by step": lambda: schedules.ByStep(schedules.Cosine(0.4, EPOCHS)),
}


@pytest.fixture(scope="module")
def samples():
    """Samples and labels for training and for validation."""
    rng = np.random.default_rng(5)
    return rng.random((N, 6)), rng.integers(0, 3, N), rng.random((9, 6)), rng.integers(0, 3, 9)


def network(**options):
    return Network([6, 9, 8, 3], **{"seed": 1, "loss": "cross-entropy", **options})


@pytest.fixture
def one_by_one(monkeypatch, all_take_part):
    """Slices of one step, by all threads."""
    monkeypatch.setattr(training.Slices, "_pace", lambda self, seconds: None)


@pytest.fixture
def stopping(monkeypatch):
    """stopping(steps, call): Ctrl-C right after so many steps; returns whether it came so far."""

    def stop(steps, call):
        left = [steps]
        with monkeypatch.context() as patch:
            for trainer in (NumbaTrainer, NumpyTrainer):

                def run(self, order, first, last, *rest, run=trainer.run):
                    run(self, order, first, last, *rest)
                    left[0] -= last > 0
                    if last and left[0] == 0:
                        raise KeyboardInterrupt

                patch.setattr(trainer, "run", run)
            try:
                call()
            except KeyboardInterrupt:
                return True
        return False

    return stop


def bits(net, history):
    """All that must be equal; times are not."""
    series = {name: getattr(history, name) for name in fastbp.history.NAMES if "second" not in name}
    return (
        net.to_vector().tobytes(),
        json.dumps(series),
        history.stopped,
        net.rng.random(3).tobytes(),
    )


def stop_at_every_step(fit, path, stopping, steps=STEPS):
    """Compare each training that is stopped and resumed with one that never was."""
    whole = bits(*fit())
    for step in range(1, steps + 1):
        assert stopping(step, lambda: fit(checkpoint=path)), step
        assert bits(*fit(resume=path)) == whole, step
    assert not stopping(steps + 1, lambda: fit(checkpoint=path))
    assert bits(*fit(resume=path)) == whole  # of one that was done


@crossed(optimizer=list(OPTIMIZERS), shuffle=[True, False], backend=["numba", "numpy"])
def test_stopped_after_any_step_it_ends_with_the_same_bits(
    optimizer, shuffle, backend, samples, tmp_path, one_by_one, stopping
):
    X, y, Xv, yv = samples

    def fit(**options):
        net = network(backend=backend)
        return net, net.fit(
            X, y, epochs=EPOCHS, batch_size=BATCH, learning_rate=0.1, shuffle=shuffle,
            optimizer=OPTIMIZERS[optimizer](), validation_data=(Xv, yv), **options,
        )  # fmt: skip

    stop_at_every_step(fit, tmp_path / "run", stopping)


@pytest.mark.parametrize(
    ("schedule", "threads"),
    [
        ("constant", 2),
        ("step", 3),
        ("exponential", 1),
        ("cosine", 2),
        ("plateau", 1),
        ("warm-up", 1),
        ("by step", 2),
    ],
)
def test_schedules_and_threads_do_not_show(
    schedule, threads, samples, tmp_path, one_by_one, stopping
):
    """The one that goes on may have another number of threads."""
    X, y, *_ = samples

    def fit(threads=threads, **options):
        net = network()
        if "resume" in options:
            threads = 1 + threads % 3
        return net, net.fit(
            X, y, epochs=EPOCHS, batch_size=BATCH, learning_rate=SCHEDULES[schedule](),
            threads=threads, **options,
        )  # fmt: skip

    assert len(set(fit()[1].learning_rate)) > (schedule != "constant")
    stop_at_every_step(fit, tmp_path / "run", stopping)


def all_callbacks(folder):
    return [
        callbacks.EarlyStopping(patience=2, min_delta=0.5),
        callbacks.StopOnDivergence(),
        callbacks.Checkpoint(folder / "best", monitor="loss"),
        callbacks.CSVLog(folder / "log.csv"),
        callbacks.JSONLog(folder / "log.jsonl"),
        fastbp.Norms(np.eye(6), [0, 1, 2, 0, 1, 2]),
    ]


def test_early_stopping_and_its_fellows_remember(samples, backend, tmp_path, one_by_one, stopping):
    """The best weights are put back, and the logs hold each epoch once."""
    X, y, Xv, yv = samples
    kept = {}

    def fit(**options):
        net, found = network(backend=backend), all_callbacks(tmp_path)
        history = net.fit(
            X, y, epochs=9, batch_size=BATCH, learning_rate=0.3, validation_data=(Xv, yv),
            callbacks=found, **options,
        )  # fmt: skip
        assert len(history) == 3
        assert "no better val_loss" in history.stopped
        stopped, _, best, _, _, norms = found
        rows = (tmp_path / "log.csv").read_text().splitlines()
        lines = (tmp_path / "log.jsonl").read_text().splitlines()
        facts = (
            stopped.best.state().tolist(), best.best.state().tolist(), norms.deltas,
            norms.activations, [row.split(",")[:6] for row in rows],
            [json.loads(line)["val_loss"] for line in lines], (tmp_path / "best").read_bytes(),
        )  # fmt: skip
        assert kept.setdefault("facts", facts) == facts
        return net, history

    stop_at_every_step(fit, tmp_path / "run", stopping, steps=9)


@pytest.mark.parametrize("found_before", [False, True])
def test_standardised_inputs_are_kept(
    found_before, samples, backend, tmp_path, one_by_one, stopping
):
    """Those of the training that is resumed: a new network knows nothing of a fit before it."""
    X, y, Xv, yv = samples[0] * [1, 10, 100, 1e3, 1e4, 1e5] + 7, *samples[1:]
    options = {"batch_size": BATCH, "learning_rate": 0.1}

    def fit(resume=None, **more):
        net = network(backend=backend, scale="standard")
        if found_before and resume is None:
            net.fit(X[::2] * 2, y[::2], epochs=1, **options)
        history = net.fit(
            X, y, epochs=2, validation_data=(Xv, yv), resume=resume, **options, **more
        )
        scalings.add((net.scaling.mean.tobytes(), net.scaling.deviation.tobytes()))
        return net, history

    scalings, path = set(), tmp_path / "run"
    if found_before:
        whole = bits(*fit())
        assert stopping(2 + 4, lambda: fit(checkpoint=path))
        assert bits(*fit(resume=path)) == whole
    else:
        stop_at_every_step(fit, path, stopping, steps=6)
    assert len(scalings) == 1


def test_a_checkpoint_without_a_scale_is_of_another_network(samples, tmp_path):
    X, y, *_ = samples
    options = {"epochs": 1, "batch_size": BATCH, "learning_rate": 0.1}
    for kept, other in ((None, "standard"), ("standard", None)):
        network(scale=kept, backend="numpy").fit(X, y, checkpoint=tmp_path / "run", **options)
        assert checkpoint_version(tmp_path / "run") == (1 if kept is None else 2)
        described = checkpoint.read(tmp_path / "run", checkpoint.TRAINING)[1]["facts"]["network"]
        assert ("scale" in described) == (kept is not None)  # older files say nothing of it
        net = network(scale=other, backend="numpy")
        with pytest.raises(ValueError, match="is of a training with network"):
            net.fit(X, y, resume=tmp_path / "run", **options)
        assert net.scaling is None


def checkpoint_version(path):
    blob = path.read_bytes()
    text = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    return int(text["__metadata__"]["format_version"])


def test_a_training_that_is_stopped_again_and_again(samples, tmp_path, one_by_one, stopping):
    """After each step a new Ctrl-C; the file is the one that is gone on from."""
    X, y, *_ = samples
    path = tmp_path / "run"

    def fit(**options):
        net = network()
        return net, net.fit(
            X, y, epochs=EPOCHS, batch_size=BATCH, learning_rate=0.1, optimizer="adam", **options
        )

    whole = bits(*fit())
    assert stopping(1, lambda: fit(checkpoint=path))
    count = 0
    while stopping(2, lambda: fit(checkpoint=path, resume=path)):
        count += 1
    assert count == STEPS - 1  # the step that Ctrl-C came in is taken again
    assert bits(*fit(resume=path)) == whole


def test_many_epochs_in_one_call_go_on_too(samples, tmp_path, stopping):
    X, y, *_ = samples

    def fit(**options):
        net = network()
        return net, net.fit(X, y, epochs=800, batch_size=N, learning_rate=0.1, **options)

    whole = bits(*fit())
    for calls in (2, 3, 5):
        assert stopping(calls, lambda: fit(checkpoint=tmp_path / "run"))
        assert bits(*fit(resume=tmp_path / "run")) == whole


def test_more_epochs_may_be_asked_for_later(samples, tmp_path):
    X, y, *_ = samples
    whole, parts = network(), network()
    options = {"batch_size": BATCH, "learning_rate": 0.1, "optimizer": "momentum"}
    history = whole.fit(X, y, epochs=5, **options)
    path = tmp_path / "run"
    parts.fit(X, y, epochs=2, checkpoint=path, **options)
    other = network(seed=9)  # its weights and its generator are replaced
    again = other.fit(X, y, epochs=5, resume=path, checkpoint=path, **options)
    assert bits(whole, history) == bits(other, again)


def test_an_optimizer_object_goes_on_from_the_file(samples, tmp_path):
    X, y, *_ = samples
    options = {"batch_size": BATCH, "learning_rate": 0.01}
    whole, rule = network(), fastbp.Adam()
    whole.fit(X, y, epochs=4, optimizer=rule, **options)
    network().fit(X, y, epochs=2, optimizer=fastbp.Adam(), checkpoint=tmp_path / "run", **options)
    used = fastbp.Adam()
    network().fit(X, y, epochs=1, optimizer=used, **options)
    net = network()
    net.fit(X, y, epochs=4, optimizer=used, resume=tmp_path / "run", **options)
    assert used.steps == rule.steps == STEPS
    np.testing.assert_array_equal(used.state()["slots"], rule.state()["slots"])
    np.testing.assert_array_equal(net.to_vector(), whole.to_vector())


def test_sparse_samples_and_weights_go_on_too(tmp_path, one_by_one, stopping, rng):
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.random(N, 6, 0.4, format="csr", random_state=1)
    y, weights = rng.random((N, 3)), rng.random(N)

    def fit(**options):
        net = network(loss="quadratic")
        history = net.fit(
            X, y, epochs=2, batch_size=BATCH, learning_rate=0.1, sample_weight=weights,
            validation_data=(X, y), **options,
        )  # fmt: skip
        return net, history

    stop_at_every_step(fit, tmp_path / "run", stopping, steps=6)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 10, 64])
def test_real_images_at_random_steps(batch_size, times, mnist, tmp_path, rng, stopping):
    X, y = mnist[0][:10_000], mnist[1][:10_000]

    def fit(**options):
        net = Network([784, 30, 10], loss="cross-entropy", input_scale=1 / 255, seed=0)
        return net, net.fit(
            X, y, epochs=2, batch_size=batch_size, learning_rate=0.05, optimizer="momentum",
            validation_data=mnist[2:], **options,
        )  # fmt: skip

    whole = bits(*fit())
    assert stopping(1, lambda: fit(checkpoint=tmp_path / "run"))  # slices grow by their time
    assert bits(*fit(resume=tmp_path / "run")) == whole
    for slices in rng.integers(2, 12, 2 * times):  # or the training ends before
        stopping(int(slices), lambda: fit(checkpoint=tmp_path / "run"))
        assert bits(*fit(resume=tmp_path / "run")) == whole, slices


def test_the_file_is_there_from_the_start_and_each_so_many_seconds(samples, tmp_path, monkeypatch):
    X, y, *_ = samples
    path, now, kept = tmp_path / "run", [0.0], []
    write = checkpoint.write

    def noted(*args):
        kept.append(args[2]["done"])
        write(*args)

    class Clock:
        def on_epoch_end(self, net, history):
            now[0] += 1

    monkeypatch.setattr(resuming.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint, "write", noted)
    options = {"batch_size": N, "learning_rate": 0.1, "checkpoint": path, "callbacks": [Clock()]}
    network().fit(X, y, epochs=10, checkpoint_every=4, **options)
    assert kept == [0, 4, 8, 10]
    with pytest.raises(OSError, match="its folder does not exist"):
        network().fit(X, y, epochs=10, **(options | {"checkpoint": tmp_path / "no" / "run"}))
    with pytest.raises(ValueError, match="checkpoint_every must be a positive number"):
        network().fit(X, y, epochs=10, checkpoint_every=0, **options)


def test_stopped_before_the_first_snapshot_nothing_is_kept(samples, tmp_path, monkeypatch):
    def interrupted(state):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.State, "copy", interrupted)
    options = {"batch_size": N, "learning_rate": 0.1, "checkpoint": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        network().fit(*samples[:2], epochs=1, **options)
    assert not (tmp_path / "run").exists()


# --- What does not fit ----------------------------------------------------------------------------


@pytest.fixture
def run(samples, tmp_path):
    """A checkpoint after two epochs, and what it was begun with."""
    X, y, Xv, yv = samples
    options = {
        "epochs": 4, "batch_size": BATCH, "learning_rate": 0.1, "optimizer": "adam",
        "validation_data": (Xv, yv), "callbacks": [callbacks.EarlyStopping(patience=3)],
    }  # fmt: skip
    path = tmp_path / "run"
    network().fit(X, y, **(options | {"epochs": 2}), checkpoint=path)
    return path, X, y, options


def test_a_file_from_before_l1_and_decay_is_gone_on_from(run):
    path, X, y, options = run
    arrays, config = checkpoint.read(path, checkpoint.TRAINING)
    for name in ("l1", "weight_decay"):
        del config["facts"]["optimizer"][name]
    checkpoint.write(path, arrays, config, checkpoint.TRAINING)
    assert network().fit(X, y, **options, resume=path).loss
    with pytest.raises(ValueError, match="training with optimizer"):
        network().fit(X, y, **options | {"optimizer": fastbp.Adam(l1=0.1)}, resume=path)


OTHERS = {
    "batch_size": {"batch_size": 8},
    "shuffle": {"shuffle": False},
    "optimizer": {"optimizer": fastbp.Adam(beta_1=0.8)},
    "learning_rate": {"learning_rate": 0.2},
    "learning_rate ": {"learning_rate": schedules.Cosine(0.1, 4)},
    "callbacks": {"callbacks": []},
    "callbacks ": {"callbacks": [callbacks.EarlyStopping(patience=4)]},
    "callbacks  ": {"callbacks": [callbacks.EarlyStopping("loss", patience=3)]},
    "other validation_data": {"validation_data": None},
    "other data": {"sample_weight": np.ones(N)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_training_is_refused(name, run):
    path, X, y, options = run
    net, callback = network(seed=2), callbacks.EarlyStopping(patience=3)
    before = copy.deepcopy((net.to_vector(), net.rng.bit_generator.state))
    with pytest.raises(ValueError, match=f"^resume: .*run is of a training with {name.strip()}"):
        net.fit(X, y, **(options | {"callbacks": [callback]} | OTHERS[name]), resume=path)
    np.testing.assert_array_equal(net.to_vector(), before[0])
    assert net.rng.bit_generator.state == before[1]


class Table:
    """A user's schedule, with its rates and more in attributes of its own."""

    def __init__(self, rates, **more):
        self.rates = rates
        vars(self).update(more)

    def rate(self, epoch, history):
        return float(self.rates[epoch])


class Private:
    def __init__(self, rates):
        self._rates = rates

    def rate(self, epoch, history):
        return self._rates[epoch]


class Slots:
    __slots__ = ("rates",)

    def __init__(self, rates):
        self.rates = rates

    rate = Table.rate


class Pair(collections.namedtuple("Pair", "rates")):
    __slots__ = ()
    rate = Table.rate


def of_closure(rates):
    class Closure:
        def rate(self, epoch, history):
            return rates[epoch]

    return Closure()


def of_class(rates):
    return type("Shared", (), {"rates": rates, "rate": Table.rate})()


class Waits(callbacks.EarlyStopping):
    def __init__(self, table):
        super().__init__("loss", patience=5)
        self.table = table


RATES = [0.1, 0.1, 0.1], [0.1, 0.1, 3.0]


def both(make, *values):
    return [lambda value=value: make(value) for value in values]


def with_more(*values):
    return both(lambda value: Table([0.1] * 9, more=value), *values)


TABLES = {
    "list": both(Table, *RATES),
    "tuple": both(Table, *map(tuple, RATES)),
    "dict": both(Table, *(dict(enumerate(rates)) for rates in RATES)),
    "array": both(Table, *map(np.array, RATES)),
    "float32 array": both(Table, *map(np.float32, RATES)),
    "object array": both(Table, *(np.array(rates, object) for rates in RATES)),
    "long list": both(Table, [0.1] * 9000, [*[0.1] * 8999, 3.0]),
    "private list": both(Private, *RATES),
    "slots": both(Slots, *RATES),
    "named tuple": both(Pair, *RATES),
    "closure": both(of_closure, *RATES),
    "class": both(of_class, *RATES),
    "nested": with_more({"a": [1, {"b": np.ones(2)}]}, {"a": [1, {"b": np.zeros(2)}]}),
    "None": with_more(None, 0),
    "number of NumPy's": with_more(np.float32(1), np.float32(2)),
    "infinity": with_more(np.inf, -np.inf),
    "set": with_more({1, 2}, {1, 3}),
    "partial": with_more(functools.partial(pow, 2), functools.partial(pow, 3)),
    "lambda": with_more(lambda epoch: 0.1, lambda epoch: 0.2),
    "function": with_more(np.sin, np.cos),
    "method": with_more(schedules.Step(0.1).rate, schedules.Step(0.2).rate),
    "schedule": with_more(schedules.Cosine(0.1, 3), schedules.Cosine(0.1, 4)),
    "generator": both(lambda seed: Table([0.1] * 9, more=np.random.default_rng(seed)), 1, 2),
    "deque": with_more(collections.deque([1]), collections.deque([2])),
}


@pytest.mark.parametrize("kind", TABLES)
def test_what_a_schedule_was_made_with_is_compared_whatever_it_is(kind, samples, tmp_path):
    X, y, *_ = samples
    (made, other), path = TABLES[kind], tmp_path / "run"
    options = {"batch_size": BATCH, "resume": path}
    network().fit(X, y, epochs=2, batch_size=BATCH, learning_rate=made(), checkpoint=path)
    with pytest.raises(ValueError, match="of a training with learning_rate"):
        network().fit(X, y, epochs=3, learning_rate=other(), **options)
    assert len(network().fit(X, y, epochs=3, learning_rate=made(), **options)) == 3


def test_the_code_that_finds_a_rate_is_compared(samples, tmp_path):
    X, y, *_ = samples
    one, two = (
        type("Made", (), {"rate": rate})
        for rate in (lambda self, epoch, history: 0.1, lambda self, epoch, history: 0.2)
    )
    path = tmp_path / "run"
    network().fit(X, y, epochs=2, batch_size=BATCH, learning_rate=one(), checkpoint=path)
    with pytest.raises(ValueError, match="of a training with learning_rate"):
        network().fit(X, y, epochs=3, batch_size=BATCH, learning_rate=two(), resume=path)


def test_what_a_callback_was_made_with_is_compared_and_it_may_be_used_again(samples, tmp_path):
    X, y, *_ = samples
    path, options = tmp_path / "run", {"batch_size": BATCH, "learning_rate": 0.1}
    used = [Waits([1, 2]), fastbp.Norms(X, y)]
    network().fit(X, y, epochs=2, checkpoint=path, callbacks=used, **options)
    again = [Waits([1, 3]), used[1]]
    with pytest.raises(ValueError, match="of a training with callbacks"):
        network().fit(X, y, epochs=3, resume=path, callbacks=again, **options)
    assert len(network().fit(X, y, epochs=3, resume=path, callbacks=used, **options)) == 3


@pytest.mark.parametrize(
    "make", [lambda: iter([1]), threading.Lock, lambda: (i for i in [1]), random.Random]
)
def test_what_cannot_be_compared_is_refused_with_a_checkpoint_alone(make, samples, tmp_path):
    X, y, *_ = samples
    schedule, path = Table([0.1] * 9, inner={"deep": [make()]}), tmp_path / "run"
    net, options = network(), {"batch_size": BATCH, "learning_rate": schedule, "epochs": 1}
    before = net.to_vector()
    with pytest.raises(TypeError, match=r"learning_rate\.inner\['deep'\]\[0\] is .*without check"):
        net.fit(X, y, checkpoint=path, **options)
    assert not path.exists()
    np.testing.assert_array_equal(net.to_vector(), before)
    assert len(net.fit(X, y, **options)) == 1


def test_a_reason_that_is_no_text_is_kept_so_that_it_can_be_read(samples, tmp_path):
    class Stop(callbacks.Callback):
        def on_epoch_end(self, net, history):
            history.stopped = True

    X, y, *_ = samples
    options = {"batch_size": BATCH, "learning_rate": 0.1, "callbacks": [Stop()]}
    network().fit(X, y, epochs=2, checkpoint=tmp_path / "run", **options)
    assert len(network().fit(X, y, epochs=2, resume=tmp_path / "run", **options)) == 1


def test_nothing_is_kept_of_parameters_that_no_resume_takes(samples, tmp_path):
    X, y, *_ = samples
    net = network()
    net.weights[1][2, 3] = np.nan
    with pytest.raises(ValueError, match=r"weights\[1\]\[2, 3\] is nan: only finite"):
        net.fit(X, y, epochs=1, batch_size=BATCH, learning_rate=0.1, checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_data_and_networks_are_refused(run):
    path, X, y, options = run
    changed = X.copy()
    changed[-1, -1] = np.nextafter(changed[-1, -1], 2)
    for X_other, y_other in ((changed, y), (X, y[::-1]), (X[:-1], y[:-1]), (X.astype("f4"), y)):
        with pytest.raises(ValueError, match="other data"):
            network().fit(X_other, y_other, **options, resume=path)
    for other in ({"dtype": "float64"}, {"activation": "tanh"}, {"bias": False}):
        with pytest.raises(ValueError, match="of a training with network"):
            network(**other).fit(X, y, **options, resume=path)
    with pytest.raises(ValueError, match="backend 'numba'; here it is 'numpy'"):
        network(backend="numpy").fit(X, y, **options, resume=path)


def test_a_model_is_no_checkpoint_nor_the_other_way_round(run, tmp_path):
    path, X, y, options = run
    with pytest.raises(ModelFileError, match=r"training checkpoint: fit\(..., resume=...\)"):
        fastbp.load(path)
    network().save(tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"is not a training checkpoint .*It is a model"):
        network().fit(X, y, **options, resume=tmp_path / "model")
    with pytest.raises(FileNotFoundError, match="no such file"):
        network().fit(X, y, **options, resume=tmp_path / "none")


DAMAGE = {
    "no facts": lambda arrays, config: config.pop("facts"),
    "no position": lambda arrays, config: config.pop("position"),
    "a position beyond the data": lambda arrays, config: config.update(position=N + 8),
    "a position amid a batch": lambda arrays, config: config.update(position=1),
    "a position of text": lambda arrays, config: config.update(position="16"),
    "a negative count": lambda arrays, config: config.update(done=-1),
    "more epochs than history": lambda arrays, config: config.update(done=3),
    "another generator": lambda arrays, config: config["rng"].update(bit_generator="MT19937"),
    "no generator": lambda arrays, config: config.update(rng=None),
    "a generator of text": lambda arrays, config: config["rng"].update(state="x"),
    "seconds of text": lambda arrays, config: config.update(seconds="long"),
    "seconds before the start": lambda arrays, config: config.update(seconds=-1.0),
    "no reason, yet stopped": lambda arrays, config: config.update(stopped=7),
    "no parameters": lambda arrays, config: arrays.pop("parameters"),
    "too few parameters": lambda arrays, config: arrays.update(parameters=np.zeros(3, "f4")),
    "parameters of float64": lambda arrays, config: arrays.update(
        parameters=arrays["parameters"].astype(float)
    ),
    "NaN parameters": lambda arrays, config: arrays["parameters"].fill(np.nan),
    "NaN totals": lambda arrays, config: arrays["totals"].fill(np.nan),
    "an infinite moment": lambda arrays, config: arrays["optimizer.slots"].fill(np.inf),
    "one moment too few": lambda arrays, config: arrays.update(
        {"optimizer.slots": arrays["optimizer.slots"][:1]}
    ),
    "no clock": lambda arrays, config: arrays.pop("optimizer.clock"),
    "two clocks": lambda arrays, config: arrays.update({"optimizer.clock": np.zeros(2)}),
    "no loss": lambda arrays, config: arrays.pop("history.loss"),
    "a short loss": lambda arrays, config: arrays.update({"history.loss": np.zeros(1)}),
    "no best epoch": lambda arrays, config: arrays.pop("states.0.best"),
    "an empty best": lambda arrays, config: arrays.update({"states.0.best": np.zeros(0)}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_and_the_network_left_alone(damage, run):
    path, X, y, options = run
    arrays, config = checkpoint.read(path, checkpoint.TRAINING)
    DAMAGE[damage](arrays, config)
    checkpoint.write(path, arrays, config, checkpoint.TRAINING)
    net = network(seed=2)
    before = net.to_vector()
    with pytest.raises(ModelFileError, match="run is damaged: "):
        net.fit(X, y, **options, resume=path)
    np.testing.assert_array_equal(net.to_vector(), before)


def test_a_file_cut_anywhere_is_refused(run):
    path, X, y, options = run
    whole = path.read_bytes()
    for size in {*range(0, len(whole), len(whole) // 20), len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError):
            network().fit(X, y, **options, resume=path)


def test_the_same_training_gives_the_same_file_but_for_its_times(samples, tmp_path):
    X, y, *_ = samples
    for name in ("one", "two"):
        network().fit(
            X, y, epochs=2, batch_size=BATCH, learning_rate=0.1, checkpoint=tmp_path / name
        )
    (one, config), (two, same) = (
        checkpoint.read(tmp_path / name, checkpoint.TRAINING) for name in ("one", "two")
    )
    assert config == same
    for name in one.keys() - {"history.seconds", "history.samples_per_second"}:
        np.testing.assert_array_equal(one[name], two[name])
    shutil.copy(tmp_path / "one", tmp_path / "copy")
    network().fit(X, y, epochs=2, batch_size=BATCH, learning_rate=0.1, resume=tmp_path / "copy")
