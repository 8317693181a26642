"""Samples from memory maps and from chunks: the same steps as from arrays, in little memory."""

import copy
import sys
import tracemalloc
import types

import numpy as np
import pytest

import fastbp
from cases import crossed
from fastbp import DivergenceError, Network, callbacks, schedules
from fastbp._support import checks
from fastbp.training import loop as training
from fastbp.training import progress
from fastbp.training import sources as streaming

OPTIONS = {"epochs": 3, "batch_size": 4, "learning_rate": 0.1}


def network(sizes=(12, 7, 3), **options):
    return Network(
        sizes,
        **{"loss": "cross-entropy", "dtype": "float64", "seed": 1, "init": "normal"} | options,
    )


def samples_of(rng, n=53, density=0.3, kind="float64"):
    X = rng.integers(1, 9, (n, 12)) * (rng.random((n, 12)) < density)
    return X.astype(kind), rng.integers(0, 3, n)


def state(net, history):
    """All that a training leaves, but for its times."""
    seen = history.loss, history.accuracy, history.penalty, history.val_loss, history.learning_rate
    rng = str(net.rng.bit_generator.state)
    return net.to_vector().tobytes(), np.array(seen[:3]).tobytes(), seen[3:], rng


def mapped(array, folder, name="X", order="C", offset=0):
    """The array in a file."""
    out = np.memmap(folder / name, array.dtype, "w+", offset, array.shape, order)
    out[...] = array
    out.flush()
    return np.memmap(folder / name, array.dtype, "r", offset, array.shape, order)


# How many bytes of the samples are read at a time: those of a batch, of some, of all.
WINDOWS = {"batch": 1, "some": 700, "all": 2**20}
BACKENDS = ["numba", "numpy"]


@pytest.fixture
def read_by(monkeypatch):
    """read_by(window): read so much at a time."""
    monkeypatch.setattr(streaming, "WINDOW_COPIES", 0)
    return lambda window: monkeypatch.setattr(streaming, "WINDOW_BYTES", WINDOWS[window])


@pytest.fixture
def loads(monkeypatch):
    """How many samples are loaded at a time."""
    counts = []
    load = fastbp.engines.numba_trainer.NumbaTrainer.load

    def counted(self, X, targets):
        counts.append(X.shape[0])
        load(self, X, targets)

    monkeypatch.setattr(fastbp.engines.numba_trainer.NumbaTrainer, "load", counted)
    return counts


# -- memory maps -----------------------------------------------------------------------------------


@crossed(
    kind=["uint8", "float32", "float64", "float16", ">f4", ">i2", "bool"],
    window=list(WINDOWS),
    backend=BACKENDS,
)
def test_a_map_trains_as_its_array(kind, window, backend, read_by, tmp_path, rng):
    read_by(window)
    X, y = samples_of(rng, kind=kind)
    ends = []
    for samples in (X, mapped(X, tmp_path)):
        net = network(backend=backend)
        history = net.fit(samples, y, **OPTIONS, validation_data=(samples, y))
        ends.append(state(net, history))
        assert len(set(history.loss)) == 3
    assert ends[0] == ends[1]


@crossed(layout=["columns", "offset", "backwards", "every other"], window=list(WINDOWS))
def test_rows_may_lie_in_any_way(layout, window, read_by, tmp_path, rng):
    read_by(window)
    step = {"backwards": -1, "every other": 2}.get(layout, 1)
    how = {"columns": {"order": "F"}, "offset": {"offset": 3}}.get(layout, {})
    X, y = samples_of(rng)
    found, expected = network(), network()
    ends = [
        state(net, net.fit(samples[::step], y[::step], **OPTIONS))
        for net, samples in ((found, mapped(X, tmp_path, **how)), (expected, X))
    ]
    assert ends[0] == ends[1]


@crossed(
    how=["as they lie", "adam", "penalised", "threads", "weights"],
    sizes=[(12, 40, 3), (12, 4, 3)],
    batch_size=[1, 6, 53],
    density=[0.05, 1.0],
    window=list(WINDOWS),
)
def test_on_each_path_with_each_option(
    how, sizes, batch_size, density, window, read_by, tmp_path, rng, all_take_part
):
    read_by(window)
    X, y = samples_of(rng, density=density, kind="float32")
    how = {
        "as they lie": {"shuffle": False}, "adam": {"optimizer": "adam"}, "threads": {"threads": 2},
        "penalised": {"optimizer": fastbp.SGD(0.9, l2=0.01, clip_norm=1)},
        "weights": {"sample_weight": rng.random(len(X))},
    }[how]  # fmt: skip
    ends = []
    for samples in (X, mapped(X, tmp_path)):
        net = network(sizes, dtype="float32")
        options = {**OPTIONS, **copy.deepcopy(how), "batch_size": batch_size}
        ends.append(state(net, net.fit(samples, y, **options)))
    assert ends[0] == ends[1]


@crossed(
    kind=["float32", "float64", "float16", ">f8", "uint8"], window=list(WINDOWS), backend=BACKENDS
)
def test_targets_may_lie_in_a_file_too(kind, window, backend, read_by, tmp_path, rng):
    read_by(window)
    X, _ = samples_of(rng)
    y = rng.integers(0, 9, (53, 3)).astype(kind)
    for samples, targets in ((X, y), (X, y == 1)):
        ends = []
        lying = mapped(targets, tmp_path, "y")
        for first, second in (
            (samples, targets), (mapped(samples, tmp_path), lying), (samples, lying),
        ):  # fmt: skip
            net = network(loss="quadratic", output="identity", backend=backend)
            rate = {**OPTIONS, "learning_rate": 1e-4}
            ends.append(state(net, net.fit(first, second, **rate)))
        assert ends[0] == ends[1] == ends[2]


def test_only_what_is_larger_than_a_window_is_read_by_windows(loads, tmp_path, rng, monkeypatch):
    X, y = samples_of(rng)
    X = mapped(X, tmp_path)
    monkeypatch.setattr(streaming, "WINDOW_BYTES", X.nbytes)
    network().fit(X, y, **OPTIONS)
    assert loads == [53]
    loads.clear()
    monkeypatch.setattr(streaming, "WINDOW_BYTES", X.nbytes - 1)
    monkeypatch.setattr(training, "SLICE_SECONDS", 1e9)
    network().fit(X, y, **OPTIONS, shuffle=False)
    assert loads[0] == 53  # by which the path is chosen
    assert sum(loads) == 53 + 3 * 53
    assert loads[1:] == 3 * [52, 1]  # a window has whole batches
    loads.clear()
    network().fit(np.array(X), y, **OPTIONS)
    assert loads == [53]


@crossed(seconds=[0, 1e9], window=list(WINDOWS), backend=BACKENDS)
def test_a_map_diverges_at_the_same_step_to_the_same_weights(
    seconds, window, backend, read_by, tmp_path, rng, monkeypatch
):
    read_by(window)
    monkeypatch.setattr(training, "SLICE_SECONDS", seconds)
    X, y = 100 * rng.standard_normal((53, 12)), 100 * rng.standard_normal((53, 3))
    said, ends = [], []
    for samples in (X, mapped(X, tmp_path)):
        net = network(loss="quadratic", output="identity", activation="relu", backend=backend)
        with pytest.raises(DivergenceError) as caught:
            net.fit(samples, y, **{**OPTIONS, "learning_rate": 5.0})
        said.append(str(caught.value))
        ends.append(net.to_vector().tobytes())
    assert said[0] == said[1]
    assert "step 1," not in said[0]
    assert ends[0] == ends[1]


def test_the_finder_takes_a_map(digits, read_by, tmp_path):
    read_by("some")
    X, y, *_ = digits
    net = network((64, 20, 10), input_scale=1 / 16)
    found, expected = (
        fastbp.find_learning_rate(net, samples, y, batch_size=10)
        for samples in (mapped(X, tmp_path), X)
    )
    assert found.suggestion == expected.suggestion
    np.testing.assert_array_equal(found.losses, expected.losses)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_value_that_is_not_finite_is_found_before_the_training(window, read_by, tmp_path, rng):
    read_by(window)
    X, y = samples_of(rng)
    X[41, 3] = np.inf
    net = network()
    before = net.to_vector()
    with pytest.raises(ValueError, match=r"X must be finite.*; got inf at X\[41, 3\]"):
        net.fit(mapped(X, tmp_path), y, **OPTIONS)
    targets = rng.random((53, 3))
    targets[50, 2] = np.nan
    with pytest.raises(ValueError, match=r"got nan at y\[50, 2\]"):
        net.fit(np.zeros((53, 12)), mapped(targets, tmp_path, "y"), **OPTIONS)
    np.testing.assert_array_equal(net.to_vector(), before)


@pytest.mark.parametrize("layout", ["plain", "columns", "misaligned", "big-endian"])
def test_some_rows_are_copied_and_no_others(layout):
    X = {
        "plain": np.zeros((1000, 1000)), "columns": np.zeros((1000, 1000), order="F"),
        "misaligned": np.zeros(8_000_001, "u1")[1:].view(float).reshape(1000, 1000),
        "big-endian": np.zeros((1000, 1000), ">f8"),
    }[layout]  # fmt: skip
    tracemalloc.start()
    try:
        rows = streaming._rows(X, np.array([3, 999, 3]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows.shape == (3, 1000)
    assert peak < 10 * rows.nbytes


def test_what_lies_in_a_file(tmp_path):
    X = mapped(np.ones((3, 4)), tmp_path)
    for array in (
        X,
        np.asarray(X),
        X[1:],
        X.T,
        np.asarray(X)[:, 1].view(np.int64),
        X.reshape(4, 3),
    ):
        assert checks.is_mapped(array)
    for array in (np.array(X), X.copy(), X + 1, X[[0, 1]], np.ones(3), np.ones(9)[3:], [1.0], None):
        assert not checks.is_mapped(array)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts maps on Linux only")
@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("samples", "uint8"),
        ("samples", "float64"),
        ("targets", "float32"),
        ("chunks", "uint8"),
        pytest.param("samples", "float32", marks=pytest.mark.long),
    ],
)
def test_memory_stays_small_beside_the_file(kind, stored, tmp_path, mnist, run_program):
    """Where 32 MB more may be taken, a file of 96 MB is trained on; y may lie in it, too."""
    X, y = mnist.X_train, mnist.y_train
    n = 96 * 2**20 // (784 * np.dtype(stored).itemsize)
    path, labels = tmp_path / "X.npy", tmp_path / "y.npy"
    out = np.lib.format.open_memmap(path, "w+", stored, (n, 784))
    for first in range(0, n, len(X)):
        out[first : first + len(X)] = X[: n - first] / (255 if kind == "targets" else 1)
    out.flush()
    np.save(labels, np.resize(y, n))
    try:
        done = run_program("limited_memory.py", kind, path, labels, 32 * 2**20)
    finally:
        path.unlink()
    loss, taken = done.stdout.split()
    assert float(loss) < (40 if kind == "targets" else 2)
    assert int(taken) < 32 * 2**20


@pytest.mark.slow
def test_images_in_a_file_are_learnt(mnist, tmp_path):
    X = mapped(mnist.X_train, tmp_path)
    assert X.nbytes > 2 * streaming.WINDOW_BYTES
    net = Network([784, 30, 10], loss="cross-entropy", input_scale=1 / 255, seed=0)
    net.fit(X, mnist.y_train, epochs=3, batch_size=10, learning_rate=0.3)
    assert net.accuracy(mnist.X_test, mnist.y_test) > 0.94


# -- chunks ----------------------------------------------------------------------------------------


class Parts:
    """Gives the chunks anew each time."""

    def __init__(self, X, y, *ends):
        self.X, self.y, self.ends, self.times = X, y, (*ends, X.shape[0]), 0

    def __iter__(self):
        self.times += 1
        for first, last in zip((0, *self.ends[:-1]), self.ends, strict=True):
            yield self.X[first:last], self.y[first:last]


@crossed(
    ends=[(), (8, 12), (4,), (52,)],
    optimizer=["sgd", "adam", fastbp.SGD(0.9, l2=0.01)],
    kind=[list, tuple, lambda parts: parts],
    backend=BACKENDS,
)
def test_chunks_of_whole_batches_train_as_all_in_one(ends, optimizer, kind, backend, rng):
    X, y = samples_of(rng)
    found, expected = (network(backend=backend) for _ in range(2))
    how = {**OPTIONS, "shuffle": False, "validation_data": (X[:9], y[:9])}
    chunks = kind(Parts(X, y, *ends))
    ends = [
        state(found, found.fit(chunks, optimizer=copy.deepcopy(optimizer), **how)),
        state(expected, expected.fit(X, y, optimizer=copy.deepcopy(optimizer), **how)),
    ]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_and_orders_are_of_one_chunk(shuffle, backend, rng, assert_close):
    X, y = samples_of(rng)
    net, steps = network(backend=backend), network(backend=backend)
    history = net.fit(Parts(X, y, 10, 13, 20), **OPTIONS, shuffle=shuffle)
    drawn, losses = steps.rng, []
    for _ in range(3):
        loss = 0.0
        for rows in np.split(np.arange(53), (10, 13, 20)):
            # A batch of a whole chunk has no order.
            order = rows[drawn.permutation(len(rows))] if shuffle and len(rows) > 4 else rows
            for first in range(0, len(order), 4):
                batch = order[first : first + 4]
                loss += steps.loss(X[batch], y[batch]) * len(batch)
                steps.update_mini_batch(X[batch], y[batch], 0.1)
        losses.append(loss / 53)
    assert_close(net.to_vector(), steps.to_vector())
    assert_close(np.array(history.loss), np.array(losses))
    assert net.rng.random() == drawn.random()


def test_an_iterator_is_gone_through_once(rng):
    X, y = samples_of(rng)
    net, twin = network(), network()
    history = net.fit(iter(Parts(X, y, 20)), **{**OPTIONS, "epochs": 1})
    twin.fit(Parts(X, y, 20), **{**OPTIONS, "epochs": 1})
    assert len(history) == 1
    np.testing.assert_array_equal(net.to_vector(), twin.to_vector())
    parts = Parts(X, y, 20)
    net.fit(parts, **OPTIONS)
    assert parts.times == 3


def test_one_chunk_is_in_the_trainer_at_a_time(loads, rng):
    X, y = samples_of(rng)
    network().fit(Parts(X, y, 20, 30), **OPTIONS)
    assert loads == [20, *[20, 10, 23] * 3]


def test_chunks_may_differ_in_kind(backend, rng, assert_close):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = samples_of(rng)
    one_hot = np.eye(3)[y]
    for first in (X[:20], sparse.csr_matrix(X[:20])):
        chunks = [
            (first, y[:20]), (sparse.csc_matrix(X[20:40]), one_hot[20:40]),
            (X[40:].astype("uint8"), y[40:].tolist()),
        ]  # fmt: skip
        net, twin = network(backend=backend), network(backend=backend)
        history = net.fit(chunks, **OPTIONS, shuffle=False)
        expected = twin.fit(X, y, **OPTIONS, shuffle=False)
        assert_close(net.to_vector(), twin.to_vector())
        assert history.accuracy == expected.accuracy


@pytest.mark.parametrize("classes_first", [True, False])
def test_where_a_chunk_has_no_classes_an_epoch_has_no_accuracy(classes_first, backend, rng):
    """Real targets, of which those of one chunk happen to be one-hot rows."""
    X = rng.random((16, 12))
    y = np.vstack([np.eye(3)[rng.integers(0, 3, 8)], rng.random((8, 3))])
    if not classes_first:
        y = y[::-1]
    net, twin = network(backend=backend), network(backend=backend)
    history = net.fit(Parts(X, y, 8), **OPTIONS, shuffle=False)
    expected = twin.fit(X, y, **OPTIONS, shuffle=False)
    assert np.isnan(history.accuracy).all()
    assert history.loss == pytest.approx(expected.loss, rel=1e-12)
    np.testing.assert_allclose(net.to_vector(), twin.to_vector(), rtol=1e-10)


def test_schedules_callbacks_and_an_optimiser_s_memory_go_on_as_ever(tmp_path, rng):
    X, y = samples_of(rng)
    net, rule = network(), fastbp.Adam()
    stopping = callbacks.EarlyStopping("loss", patience=1, min_delta=10.0)
    log = callbacks.CSVLog(tmp_path / "log.csv")
    rate = schedules.Step(0.1, every=1, factor=0.5)
    history = net.fit(
        Parts(X, y, 20), epochs=9, batch_size=4, learning_rate=rate, optimizer=rule,
        callbacks=[stopping, log],
    )  # fmt: skip
    assert history.stopped.startswith("no better loss")
    assert history.learning_rate == [0.1, 0.05]
    assert rule.steps == 2 * (5 + 9)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert all(s > 0 for s in history.seconds)
    rates = [53 / seconds for seconds in history.seconds]
    assert history.samples_per_second == pytest.approx(rates)


def test_a_divergence_counts_the_steps_of_the_epoch(backend, rng):
    X, y = 100 * rng.standard_normal((53, 12)), 100 * rng.standard_normal((53, 3))
    said, ends = [], []
    for samples in ((Parts(X, y, 4, 8),), (X, y)):
        net = network(loss="quadratic", output="identity", activation="relu", backend=backend)
        with pytest.raises(DivergenceError) as caught:
            net.fit(*samples, **{**OPTIONS, "learning_rate": 5.0}, shuffle=False)
        said.append(str(caught.value))
        ends.append(net.to_vector())
    assert said[0] == said[1]
    assert int(said[0].partition("step ")[2].partition(",")[0]) > 2
    np.testing.assert_array_equal(*ends)
    five, y = np.zeros((5, 12)), np.zeros((5, 3))  # two steps in batches of four
    net = network(loss="quadratic", output="identity", backend=backend)
    with pytest.raises(DivergenceError, match="step 3,"):
        net.fit([(five, y), (five, y + 1e200)], **OPTIONS, shuffle=False)


def test_the_bar_learns_in_the_first_epoch_how_long_the_way_is(monkeypatch, rng):
    made = []

    class Bar:
        def __init__(self, total, initial, **options):
            self.total, self.n, self.counted = total, initial, []
            made.append(self)

        def update(self, samples):
            self.n += samples
            self.counted.append((self.total, samples))

        def set_description_str(self, text, refresh):
            assert text.startswith("epoch ")

        def set_postfix_str(self, text, refresh):
            assert "nan" not in text

        def close(self):
            pass

    module = types.ModuleType("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    monkeypatch.setattr(progress, "MOST_BARS", 2)  # so that one bar is for all epochs
    X, y = samples_of(rng)
    network().fit(Parts(X, y, 20), **OPTIONS, progress=True)
    (bar,) = made
    totals = [total for total, _ in bar.counted]
    assert sum(samples for _, samples in bar.counted) == bar.total == 3 * 53
    assert set(totals) == {None, 3 * 53}
    first = [samples for total, samples in bar.counted if total is None]
    assert sum(first) == 53


def test_real_digits_in_chunks_are_learnt_as_well(mnist):
    X, y = mnist.X_train[:20_000], mnist.y_train[:20_000]
    ends = []
    for samples in ((X, y), (Parts(X, y, *range(3000, 20_000, 3000)),)):
        net = Network([784, 30, 10], loss="cross-entropy", input_scale=1 / 255, seed=0)
        net.fit(*samples, epochs=3, batch_size=10, learning_rate=0.3)
        ends.append(net.accuracy(mnist.X_test, mnist.y_test))
    assert min(ends) > 0.92
    assert abs(ends[0] - ends[1]) < 0.01


class Once:
    """Has its chunks only every other time."""

    def __init__(self, chunks):
        self.chunks, self.times = chunks, 0

    def __iter__(self):
        self.times += 1
        yield from self.chunks if self.times % 2 else []


GOOD = np.ones((4, 12)), np.array([0, 1, 2, 1])
BAD = {
    "an array alone": (np.ones((4, 12)), TypeError, "y is missing: only an iterable of chunks"),
    "a list of rows": ([[0.0] * 12] * 4, TypeError, r"chunk 1 must be a pair \(X, y\); got list"),
    "a function": (lambda: iter([GOOD]), TypeError, r"an iterable of chunks \(X, y\), such as"),
    "a number": (3, TypeError, "X must be an array, with y, or an iterable of chunks"),
    "nothing": (None, TypeError, "X must be an array, with y, or an iterable of chunks"),
    "a path": ("X.npy", TypeError, "chunk 1 must be a pair"),
    "a generator": ((GOOD for _ in range(2)), ValueError, "read only once; got epochs=3"),
    "no chunks": ([], ValueError, "chunks must hold at least one pair"),
    "chunks once": (Once([GOOD]), ValueError, "anew for each epoch; got no chunk in epoch 2"),
    "no samples": ([(np.ones((0, 12)), [])], ValueError, "X of chunk 1 must hold at least one"),
    "another width": ([GOOD, (np.ones((4, 9)), GOOD[1])], ValueError, r"X of chunk 2 must be \(ba"),
    "labels beyond": ([GOOD, GOOD, (GOOD[0], [0, 1, 2, 3])], ValueError, "y of chunk 3 must be la"),
    "too few labels": ([(GOOD[0], [0])], ValueError, "y of chunk 1 must have one entry per sampl"),
    "NaN": ([GOOD, (GOOD[0] * np.nan, GOOD[1])], ValueError, r"got nan at X of chunk 2\[0, 0\]"),
    "three": ([(*GOOD, GOOD[1])], TypeError, r"chunk 1 must be a pair \(X, y\); got tuple of 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_chunks_that_do_not_fit_are_named(name, backend):
    chunks, error, message = BAD[name]
    net = network(backend=backend)
    before = net.to_vector()
    with pytest.raises(error, match=message):
        net.fit(chunks, **OPTIONS)
    learnt = any(word in message for word in ("chunk 2", "chunk 3", "epoch 2"))
    assert (net.to_vector() != before).any() == learnt
    assert np.isfinite(net.to_vector()).all()
    net.fit(*GOOD, **OPTIONS)


def test_arguments_are_checked_before_a_chunk_is_asked_for():
    def none():
        raise AssertionError
        yield

    for options in ({"epochs": 0}, {"batch_size": 0}, {"optimizer": "x"}, {"learning_rate": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            network().fit(none(), **{**OPTIONS, "epochs": 1, **options})
    with pytest.raises(TypeError, match="sample_weight needs X and y"):
        network().fit([GOOD], **OPTIONS, sample_weight=[1, 1, 1, 1])


def test_what_a_source_of_chunks_raises_comes_through():
    def broken():
        yield GOOD
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        network().fit(broken(), **{**OPTIONS, "epochs": 1})
