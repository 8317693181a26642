"""The fit loop: history, order, slices, threads, Ctrl-C and divergence, through `Network.fit`."""

import copy
import inspect
import os
import pickle
import signal
import sys
import threading
import time

import numpy as np
import pytest

from cases import crossed
from fastbp import DivergenceError, History, Network, datasets
from fastbp._support.split import held_out
from fastbp.engines.numba_trainer import NumbaTrainer
from fastbp.kernels.walk.records import MOST_EPOCHS
from fastbp.reference.records import PLAIN, new_memory
from fastbp.training import loop as training
from fastbp.training import recipe, sources
from fastbp.training.ranks import Ranks
from fastbp.training.sources import Stretch
from fastbp.training.steps import Steps

RATE = 0.5
FIELDS = [
    "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds",
    "samples_per_second",
]  # fmt: skip


def train_by_steps(net, X, y, epochs, batch_size, learning_rate, shuffle=True):
    """What `fit` does, step by step; yields epoch, step and the batch's indices before each."""
    rng = copy.deepcopy(net.rng)
    for epoch in range(epochs):
        order = np.arange(len(X))
        if shuffle and batch_size < len(X):  # a batch of all samples has no order
            order = rng.permutation(len(X))
        for step, first in enumerate(range(0, len(X), batch_size)):
            batch = order[first : first + batch_size]
            yield epoch, step, batch
            net.update_mini_batch(X[batch], y[batch], learning_rate)


class Calls:
    """A callback that keeps what it was called with."""

    def __init__(self):
        self.calls = []

    def on_epoch_end(self, net, history):
        self.calls.append((net, history, len(history), net.to_vector()))


# --- Many epochs in one call ----------------------------------------------------------------------


@pytest.fixture
def spans(monkeypatch):
    """How many epochs each call of a trainer took; calls may take any time."""
    monkeypatch.setattr(training, "SLICE_SECONDS", 1e9)
    found, run = [], NumbaTrainer.run

    def counted(self, order, first, last, learning_rate, epochs=1):
        found.append(epochs)
        run(self, order, first, last, learning_rate, epochs)

    monkeypatch.setattr(NumbaTrainer, "run", counted)
    return found


# Dense, zero-skipping and narrow; the last one in several chunks.
KINDS = {
    "dense": ((30, 70, 40, 3), 1.0, 40),
    "sparse": ((100, 40, 3), 0.1, 40),
    "narrow": ((4, 6, 3), 1.0, 800),
}


@crossed(kind=list(KINDS), batch_size=[1, 7, "n"], threads=[1, 2], dtype=["float32", "float64"])
def test_epochs_on_one_order_run_in_one_call_and_it_does_not_show(
    kind, batch_size, threads, dtype, rng, spans, make, all_take_part
):
    """With a callback each epoch is a call of its own."""
    sizes, density, n = KINDS[kind]
    X = np.where(rng.random((n, sizes[0])) < density, rng.standard_normal((n, sizes[0])), 0)
    y = rng.integers(0, 3, n)
    batch_size = n if batch_size == "n" else batch_size
    ends = []
    for callbacks in ([], [Calls()]):
        net = make(sizes, dtype=dtype, activation="tanh")
        history = net.fit(
            X, y, epochs=20, batch_size=batch_size, learning_rate=0.01, shuffle=False,
            callbacks=callbacks, threads=threads,
        )  # fmt: skip
        ends.append((net.to_vector().tobytes(), history.loss, history.accuracy))
        assert len(history.seconds) == len(history.samples_per_second) == 20
        assert (max(spans) > 1) == (not callbacks)
        spans.clear()
    assert ends[0] == ends[1]


def test_more_epochs_than_a_call_has_totals_for(spans, make, data):
    X, y = data()
    one, two = make(), make()
    history = one.fit(X, y, epochs=1500, batch_size=22, learning_rate=RATE)
    assert max(spans) == MOST_EPOCHS
    assert history.loss == two.fit(
        X, y, epochs=1500, batch_size=22, learning_rate=RATE, callbacks=[Calls()]
    ).loss  # fmt: skip
    np.testing.assert_array_equal(one.to_vector(), two.to_vector())


# --- Order and history ----------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 22])
def test_fit_takes_every_sample_once_an_epoch_batch_by_batch(
    batch_size, shuffle, backend, assert_close, make, data
):
    """22 samples in fours: the last batch has two, and follows the mean over two."""
    X, y = data()
    fitted, stepped = make(backend=backend), make(backend=backend)
    seen = [i for _, _, b in train_by_steps(stepped, X, y, 3, batch_size, RATE, shuffle) for i in b]
    assert sorted(seen) == sorted(list(range(22)) * 3)
    fitted.fit(X, y, epochs=3, batch_size=batch_size, learning_rate=RATE, shuffle=shuffle)
    assert_close(fitted.to_vector(), stepped.to_vector())


def test_the_order_is_new_each_epoch_and_goes_on_in_the_next_fit(make, data):
    X, y = data()
    one, two = make(), make()
    one.fit(X, y, epochs=4, batch_size=4, learning_rate=RATE)
    for _ in range(2):
        two.fit(X, y, epochs=2, batch_size=4, learning_rate=RATE)
    np.testing.assert_array_equal(one.to_vector(), two.to_vector())
    orders = [b for _, step, b in train_by_steps(make(), X, y, 2, 21, RATE) if step == 0]
    assert (orders[0] != orders[1]).any()


@pytest.mark.parametrize(("batch_size", "shuffle"), [(4, False), (22, True)])
def test_where_there_is_no_order_no_random_number_is_drawn(batch_size, shuffle, make, data):
    net = make()
    before = pickle.dumps(net.rng.bit_generator.state)
    net.fit(*data(), epochs=2, batch_size=batch_size, learning_rate=RATE, shuffle=shuffle)
    assert pickle.dumps(net.rng.bit_generator.state) == before


@pytest.mark.parametrize("batch_size", [4, 22])
def test_orders_may_come_from_the_caller(batch_size, backend, rng, make, data):
    """Each epoch asks for one, also where a batch holds all samples; no random number is drawn."""
    X, y = data()
    orders = [rng.permutation(22).astype(np.uint8) for _ in range(3)]
    given, asked, net, twin = iter(orders), [], make(backend=backend), make(backend=backend)
    before = pickle.dumps(net.rng.bit_generator.state)

    def order(n):
        asked.append(n)
        return next(given)

    net.fit(X, y, epochs=3, batch_size=batch_size, learning_rate=RATE, order=order)
    for samples in orders:
        twin.fit(
            X[samples], y[samples], epochs=1, batch_size=batch_size, learning_rate=RATE,
            shuffle=False,
        )  # fmt: skip
    assert asked == [22, 22, 22]
    np.testing.assert_array_equal(net.to_vector(), twin.to_vector())
    assert pickle.dumps(net.rng.bit_generator.state) == before


@pytest.mark.parametrize(
    ("order", "error", "message"),
    [
        (np.arange(22), TypeError, "order must be a function of the number of samples; got"),
        (lambda n: np.arange(n - 1), ValueError, r"order\(n\) must be a perm.* of range\(22\)"),
        (lambda n: np.arange(n) + 1, ValueError, "must be a permutation"),
        (lambda n: np.arange(n) - 1, ValueError, "must be a permutation"),
        (lambda n: np.arange(n) // 2 * 2, ValueError, "must be a permutation"),
        (lambda n: np.maximum(np.arange(n), 1), ValueError, "must be a permutation"),
        (lambda n: np.arange(n) * 1.0, ValueError, "must be a permutation"),
        (lambda n: [], ValueError, "must be a permutation"),
        (lambda n: None, TypeError, r"order\(n\) must hold numbers"),
    ],
)
def test_what_is_no_order_is_named_before_it_is_used(order, error, message, make, data):
    net = make()
    before = net.to_vector()
    with pytest.raises(error, match=message):
        net.fit(*data(), epochs=1, batch_size=4, learning_rate=RATE, order=order)
    np.testing.assert_array_equal(net.to_vector(), before)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_history_holds_what_was_seen_before_each_step(
    batch_size, backend, assert_close, make, data
):
    X, y = data()
    Xv, yv = data(9)
    twin, losses, hits = make(backend=backend), np.zeros(2), np.zeros(2)
    for epoch, _, batch in train_by_steps(twin, X, y, 2, batch_size, RATE):
        losses[epoch] += twin.loss(X[batch], y[batch]) * len(batch)
        hits[epoch] += twin.evaluate(X[batch], y[batch])
    net, calls = make(backend=backend), Calls()
    history = net.fit(
        X, y, epochs=2, batch_size=batch_size, learning_rate=RATE, validation_data=(Xv, yv),
        callbacks=(c for c in [calls]),
    )  # fmt: skip
    assert isinstance(history, History)
    assert len(history) == 2
    assert {len(getattr(history, field)) for field in FIELDS} == {2}
    assert {type(value) for field in FIELDS for value in getattr(history, field)} == {float}
    assert_close(history.loss, losses / 22)
    np.testing.assert_array_equal(history.accuracy, hits / 22)
    for epoch, (_, _, _, vector) in enumerate(calls.calls):
        twin.from_vector(vector)
        assert history.val_loss[epoch] == twin.loss(Xv, yv)
        assert history.val_accuracy[epoch] == twin.accuracy(Xv, yv)
    assert min(history.seconds) > 0
    np.testing.assert_allclose(
        np.multiply(history.samples_per_second, history.seconds), [22, 22], rtol=1e-12
    )


def test_without_validation_its_fields_are_empty(make, data):
    history = make().fit(*data(), epochs=3, batch_size=4, learning_rate=RATE)
    assert history.val_loss == history.val_accuracy == []
    assert len(history.loss) == len(history.seconds) == 3


def test_real_targets_have_losses_but_no_accuracy(backend, rng, make):
    X, y = rng.random((6, 4)), rng.random((6, 3))
    history = make(backend=backend).fit(
        X, y, epochs=2, batch_size=4, learning_rate=RATE, validation_data=(X, y)
    )
    assert np.isnan([*history.accuracy, *history.val_accuracy]).all()
    assert np.isfinite([*history.loss, *history.val_loss]).all()


def test_validation_does_not_change_the_training(backend, make, data):
    X, y = data()
    nets = make(backend=backend), make(backend=backend)
    nets[0].fit(X, y, epochs=2, batch_size=4, learning_rate=RATE)
    nets[1].fit(X, y, epochs=2, batch_size=4, learning_rate=RATE, validation_data=(X, y))
    np.testing.assert_array_equal(nets[0].to_vector(), nets[1].to_vector())


# --- Callbacks ------------------------------------------------------------------------------------


def test_callbacks_are_called_in_turn_after_each_epoch(make, data):
    net, first, second = make(), Calls(), Calls()
    history = net.fit(
        *data(), epochs=3, batch_size=4, learning_rate=RATE, callbacks=[first, second]
    )
    for calls in (first.calls, second.calls):
        assert [call[2] for call in calls] == [1, 2, 3]
        assert all(call[0] is net and call[1] is history for call in calls)
        np.testing.assert_array_equal(calls[-1][3], net.to_vector())


def test_a_callback_may_end_the_training(backend, make, data):
    class Enough(Exception):
        pass

    class Stop:
        def on_epoch_end(self, net, history):
            raise Enough

    X, y = data()
    net, twin = make(backend=backend), make(backend=backend)
    with pytest.raises(Enough):
        net.fit(X, y, epochs=9, batch_size=4, learning_rate=RATE, callbacks=[Stop()])
    twin.fit(X, y, epochs=1, batch_size=4, learning_rate=RATE)
    np.testing.assert_array_equal(net.to_vector(), twin.to_vector())


# --- Same bits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 600])
def test_time_slices_do_not_show(batch_size, backend, digits, monkeypatch):
    X, y = digits[0][:700], digits[1][:700]
    found = []
    for seconds in (0, training.SLICE_SECONDS, 1e9):
        monkeypatch.setattr(training, "SLICE_SECONDS", seconds)
        net = Network([64, 20, 10], input_scale=1 / 16, seed=1, backend=backend)
        history = net.fit(X, y, epochs=2, batch_size=batch_size, learning_rate=RATE)
        found.append((net.to_vector().tobytes(), history.loss, history.accuracy))
    assert found[0] == found[1] == found[2]


def test_slices_grow_to_their_time_and_shrink_when_they_take_longer(monkeypatch):
    """A clock by which each sample takes one millisecond, ten from the 3000th on."""
    now, stretches = [0.0], []

    class Trainer:
        totals, stopped, memory = np.zeros((1, 3)), False, new_memory(PLAIN, np.zeros(1))
        unit = 1

        def run(self, order, first, last, learning_rate, epochs):
            stretches.append(last - first)
            now[0] += sum(0.001 if i < 3000 else 0.01 for i in range(first, last))

    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])
    slices = training.Slices(np.zeros(1), Ranks(), Steps(Trainer()))
    stretch = Stretch(np.arange(6000), 2, 0, 3000, 6000, 2)
    assert sum(slices.run(0, stretch, 0.1, 0.0)) == sum(stretches) == 6000
    assert stretches[:3] == [2, 16, 32]
    assert max(stretches) == 32  # 0.032 s: twice that would be over SLICE_SECONDS
    assert set(stretches[-50:-1]) <= {2, 4}


@crossed(density=[1.0, 0.2], batch_size=[1, 33, 200], dtype=["float32", "float64"])
def test_any_number_of_threads_gives_the_same_bits(batch_size, density, dtype, rng, all_take_part):
    sizes = [150, 120, 110, 10]
    X = rng.random((200, 150)) * (rng.random((200, 150)) <= density)
    y = rng.integers(0, 10, 200)
    found = []
    for threads in (1, 2, 3, 7):
        net = Network(sizes, dtype=dtype, seed=1)
        history = net.fit(
            X, y, epochs=2, batch_size=batch_size, learning_rate=RATE, threads=threads
        )
        found.append((net.to_vector().tobytes(), history.loss, history.accuracy))
    assert all(bits == found[0] for bits in found[1:])


def test_the_same_seed_trains_to_the_same_bits(backend, dtype, make, data):
    X, y = data()
    nets = [make(backend=backend, dtype=dtype) for _ in range(2)]
    for net in nets:
        net.fit(X, y, epochs=2, batch_size=4, learning_rate=RATE)
    np.testing.assert_array_equal(nets[0].to_vector(), nets[1].to_vector())


@crossed(loss=["quadratic", "cross-entropy"], batch_size=[1, 10], dtype=["float32", "float64"])
def test_backends_agree_after_an_epoch(batch_size, loss, dtype, digits, assert_close):
    X, y, X_test, y_test = digits
    found = []
    for backend in ("numba", "numpy"):
        net = Network(
            [64, 30, 10], loss=loss, dtype=dtype, backend=backend, input_scale=1 / 16, seed=1
        )
        history = net.fit(
            X, y, epochs=1, batch_size=batch_size, learning_rate=RATE / (11 - batch_size),
            validation_data=(X_test, y_test),
        )  # fmt: skip
        found.append((net.to_vector(), history))
    (kernels, ours), (reference, theirs) = found
    assert np.abs(reference - Network([64, 30, 10], dtype=dtype, seed=1).to_vector()).max() > 0.1
    if dtype == "float64":
        assert_close(kernels, reference, "epoch")
    for field in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert getattr(ours, field) == pytest.approx(getattr(theirs, field), abs=0.005)


# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images():
    """As many pixels as MNIST has, as many of them zero; no file needed."""
    rng = np.random.default_rng(0)
    X = rng.integers(1, 256, (60_000, 784), dtype=np.uint8)
    X[:, rng.random(784) < 0.81] = 0
    return X, rng.integers(0, 10, 60_000)


@pytest.fixture
def ctrl_c():
    """ctrl_c(call, delays): interrupts a call; returns the seconds until it has ended.

    A slow answer may be the machine's fault: then the call is interrupted after the next delay.
    """
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread is interrupted")
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    timers = []

    def interrupt(delay, call):
        sent = []

        def send():
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)

        def send_again():  # to a hang, which says nothing of itself
            lost.append(signal.getsignal(signal.SIGINT))
            print("Ctrl-C lost; handled by", lost[-1], file=sys.__stderr__, flush=True)
            send()

        lost = []
        timers[:] = threading.Timer(delay, send), threading.Timer(delay + 30, send_again)
        for timer in timers:
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            call()
        timers[1].cancel()
        assert not lost
        return time.perf_counter() - sent[0]

    def in_turn(call, delays):
        seconds = []
        for delay in delays:
            seconds.append(interrupt(delay, call))
            if seconds[-1] < 0.2:
                break
        return seconds

    yield in_turn
    for timer in timers:
        timer.cancel()
        timer.join()
    signal.signal(signal.SIGINT, handler)


@pytest.mark.timing
@pytest.mark.skipif(os.name == "nt", reason="os.kill sends no Ctrl-C on Windows")
@pytest.mark.parametrize(
    ("sizes", "batch_size", "threads"), [([784, 30, 10], 1, 1), ([784, 100, 10], 100, 2)]
)
def test_ctrl_c_is_answered_and_leaves_the_network_usable(
    sizes, batch_size, threads, backend, images, ctrl_c
):
    net = Network(sizes, input_scale=1 / 255, backend=backend, seed=1)
    before = net.to_vector()
    options = {"batch_size": batch_size, "learning_rate": 0.01, "threads": threads}
    seconds = ctrl_c(lambda: net.fit(*images, epochs=10**6, **options), (0.3, 0.65, 0.8))
    assert min(seconds) < 0.2, seconds
    assert np.isfinite(net.to_vector()).all()
    assert (net.to_vector() != before).any()
    few = images[0][:200], images[1][:200]
    assert len(net.fit(*few, epochs=1, **options)) == 1
    assert 0 <= net.accuracy(*few) <= 1


# --- Divergence -----------------------------------------------------------------------------------


def diverging(kind, n=12):
    """Samples of zeros, which teach nothing, and one from which the weights or loss overflow.

    In float32: `rate` is above what the squares of float32 can hold.
    """
    X, y = np.zeros((n, 2)), np.zeros((n, 1))
    weights, rate = [1.0, 1.0], 0.5
    if kind == "weights":  # the loss is finite, but rate * gradient is not
        X[7], rate = 1e10, 1e25
    elif kind == "infinite loss":  # z = 2e40
        X[7], weights = 1e20, [1e20, 1e20]
    elif kind == "NaN loss":  # z = inf - inf
        X[7], weights = 1e20, [1e20, -1e20]
    return X, y, weights, rate


@crossed(
    kind=["weights", "infinite loss", "NaN loss"],
    batch_size=[1, 2, 5, 12],
    seconds=[0, 1e9],
    backend=["numba", "numpy"],
)
def test_divergence_names_the_step_and_undoes_it(kind, batch_size, seconds, backend, monkeypatch):
    monkeypatch.setattr(training, "SLICE_SECONDS", seconds)
    X, y, weights, rate = diverging(kind)
    net = Network([2, 1], output="identity", bias=False, backend=backend)
    net.from_vector(weights)
    before = net.to_vector()
    with pytest.raises(DivergenceError) as caught:
        net.fit(X, y, epochs=3, batch_size=batch_size, learning_rate=rate, shuffle=False)
    message = str(caught.value)
    assert f"epoch 1, step {7 // batch_size + 1}, layer 1 of 1," in message
    assert f"learning rate {rate:g}" in message
    assert isinstance(caught.value, ValueError)
    np.testing.assert_array_equal(net.to_vector(), before)


def runaway(rng):
    """A regression of large numbers by ReLU, which no learning rate above 1e-6 can follow."""
    return 100 * rng.standard_normal((40, 4)), 100 * rng.standard_normal((40, 3))


@crossed(
    batch_size=[1, 3, 40],
    seconds=[0, 0.05, 1e9],
    backend=["numba", "numpy"],
    dtype=["float32", "float64"],
)
def test_divergence_keeps_what_was_learnt_up_to_the_last_good_step(
    seconds, batch_size, backend, dtype, rng, monkeypatch, make
):
    monkeypatch.setattr(training, "SLICE_SECONDS", seconds)
    X, y = runaway(rng)
    options = {"activation": "relu", "dtype": dtype, "backend": backend}
    rate = {1: 3e-5, 3: 1e-4, 40: 1e-3}[batch_size]
    stepped, fitted = make(**options), make(**options)
    walk, steps = train_by_steps(stepped, X, y, 1000, batch_size, rate), []
    with pytest.raises(DivergenceError):
        steps.extend(walk)
    assert len(steps) > 3
    epoch, step, _ = steps[-1]
    with pytest.raises(
        DivergenceError, match=f"epoch {epoch + 1}, step {step + 1}, layer . of 2, "
    ):
        fitted.fit(X, y, epochs=1000, batch_size=batch_size, learning_rate=rate)
    # Single dense samples are learnt some at a time; other batches step by step, to the same bits.
    off = 1e-3 if backend == "numba" and batch_size == 1 else 0
    np.testing.assert_allclose(fitted.to_vector(), stepped.to_vector(), rtol=off)
    assert np.isfinite(fitted.to_vector()).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_team_undoes_the_bad_step_too(threads, rng, all_take_part):
    X, y = rng.standard_normal((200, 150)), rng.standard_normal((200, 10))
    X[133] = 1e30
    net = Network([150, 120, 110, 10], "relu", seed=1)
    twin = copy.deepcopy(net)
    for _, step, _ in train_by_steps(twin, X, y, 1, 33, 0.001, shuffle=False):
        if step == 4:
            break
    with pytest.raises(DivergenceError, match="epoch 1, step 5,"):
        net.fit(X, y, epochs=1, batch_size=33, learning_rate=0.001, shuffle=False, threads=threads)
    np.testing.assert_array_equal(net.to_vector(), twin.to_vector())


def test_a_refused_step_leaves_the_network_as_it_was(backend):
    X, y, weights, rate = diverging("weights")
    net = Network([2, 1], output="identity", bias=False, backend=backend)
    net.from_vector(weights)
    with pytest.raises(DivergenceError, match=r"learning rate 1e\+25"):
        net.update_mini_batch(X, y, rate)
    np.testing.assert_array_equal(net.to_vector(), weights)


def test_after_divergence_a_smaller_rate_goes_on(backend, rng, make):
    X, y = runaway(rng)
    net = make(activation="relu", backend=backend)
    with pytest.raises(DivergenceError):
        net.fit(X, y, epochs=1000, batch_size=40, learning_rate=1e-3)
    net = make(activation="relu", backend=backend)
    history = net.fit(X, y, epochs=20, batch_size=40, learning_rate=1e-7)
    assert history.loss[-1] < history.loss[0]


def test_a_divergence_in_a_later_epoch_names_it(backend):
    """Each step multiplies w by -1024: (2**10)**12 is a float32, (2**10)**13 is not."""
    net = Network([1, 1], output="identity", bias=False, backend=backend)
    net.from_vector([1.0])
    with pytest.raises(DivergenceError) as caught:
        net.fit([[1.0]], [[0.0]], epochs=1000, batch_size=1, learning_rate=1025.0)
    assert "epoch 13, step 1, layer 1 of 1, at learning rate 1025;" in str(caught.value)
    assert net.to_vector() == 2.0**120


@pytest.mark.timing
@pytest.mark.skipif(os.name == "nt", reason="os.kill sends no Ctrl-C on Windows")
def test_ctrl_c_does_not_wait_for_the_end_of_a_huge_batch(images, ctrl_c):
    """A step over all images takes most of a second; it is given up, and teaches nothing."""
    net = Network([784, 512, 512, 10], activation="relu", input_scale=1 / 255, seed=1)
    options = {"batch_size": len(images[0]), "learning_rate": 1e-3, "threads": 2}
    seconds = ctrl_c(lambda: net.fit(*images, epochs=10**6, **options), (0.7, 0.8, 0.9))
    assert min(seconds) < 0.2, seconds
    assert np.isfinite(net.to_vector()).all()


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"sync_every": 4}, ValueError, "sync_every does nothing without comm; got sync_every=4"),
        ({"sync_every": "x"}, ValueError, "sync_every does nothing without comm"),
        ({"checkpoint_every": -5}, ValueError, "checkpoint_every does nothing without checkpoint"),
        ({"checkpoint_every": "x"}, ValueError, "checkpoint_every does nothing without checkpoint"),
        ({"checkpoint": "f", "checkpoint_every": -5}, ValueError, "must be a positive number"),
        ({"checkpoint": 5}, TypeError, "checkpoint must be a path; got 5"),
        ({"resume": 5}, TypeError, "resume must be a path; got 5"),
        ({"progress": "yes"}, TypeError, "progress must be True or False; got 'yes'"),
        ({"progress": 1}, TypeError, "progress must be True or False"),
        ({"verbose": None}, TypeError, "verbose must be True or False"),
        ({"shuffle": 0}, TypeError, "shuffle must be True or False"),
    ],
)
def test_options_that_do_not_apply_or_fit_are_refused(option, error, message, make, data, tmp_path):
    net = make()
    before = net.to_vector()
    if "checkpoint_every" in option and "checkpoint" in option:
        option = {**option, "checkpoint": tmp_path / "f"}
    with pytest.raises(error, match=message):
        net.fit(*data(), epochs=1, batch_size=5, learning_rate=RATE, **option)
    np.testing.assert_array_equal(net.to_vector(), before)


# --- Samples that are held out --------------------------------------------------------------------


@pytest.fixture
def divided(data):
    """Samples and labels, and the same divided by hand: training, then validation."""
    X, y = data(60)
    return (X, y), datasets.hold_out(X, y, 0.2)


def train(net, X, y, **options):
    options = {"epochs": 3, "batch_size": 7, "learning_rate": RATE, **options}
    history = net.fit(X, y, **options)
    return net.to_vector().tobytes(), *(getattr(history, name) for name in FIELDS[:5])


@crossed(
    backend=["numba", "numpy"], batch_size=[1, 7, 48],
    kind=["arrays", "one-hot", "sparse", "mapped", "weighted", "in a row", "standard"],
)  # fmt: skip
def test_what_is_held_out_is_not_trained_on_but_evaluated(
    kind, backend, batch_size, divided, rng, tmp_path, make
):
    (X, y), (X_train, y_train, *validation) = divided
    whole, part = {}, {}
    if kind == "one-hot":
        y, y_train = np.eye(3)[y], np.eye(3)[y_train]
    elif kind == "weighted":
        whole["sample_weight"] = rng.random(60)
        part["sample_weight"] = whole["sample_weight"][~held_out(y, 0.2)]
    elif kind == "in a row":
        whole["shuffle"] = part["shuffle"] = False
    elif kind == "sparse":
        sparse = pytest.importorskip("scipy.sparse")
        X, X_train, validation[0] = map(sparse.csr_array, (X, X_train, validation[0]))
    elif kind == "mapped":
        np.save(tmp_path / "X.npy", X)
        X = datasets.map_npy(tmp_path / "X.npy")
    nets = [make(backend=backend, scale=kind if kind == "standard" else None) for _ in range(2)]
    found = train(nets[0], X, y, batch_size=batch_size, validation_split=0.2, **whole)
    part |= {"validation_data": validation}
    expected = train(nets[1], X_train, y_train, batch_size=batch_size, **part)
    assert found == expected
    assert len(found[3]) == 3


def test_of_a_memory_map_only_what_is_held_out_is_copied(tmp_path, monkeypatch, rng, make):
    monkeypatch.setattr(sources, "WINDOW_BYTES", 2000)
    monkeypatch.setattr(sources, "WINDOW_COPIES", 0)
    monkeypatch.setattr(sources, "FEW", 50)
    X, y = rng.random((400, 4)), rng.integers(0, 3, 400)
    np.save(tmp_path / "X.npy", X)
    loaded, load = [], sources._rows
    monkeypatch.setattr(sources, "_rows", lambda X, rows: loaded.append(len(rows)) or load(X, rows))
    nets = make(backend="numpy"), make(backend="numpy")
    found = train(nets[0], datasets.map_npy(tmp_path / "X.npy"), y, validation_split=0.1)
    assert max(loaded) < 400 // 4
    assert found == train(nets[1], X, y, validation_split=0.1)


def test_the_same_samples_are_held_out_in_each_fit_and_when_resumed(tmp_path, divided, make):
    (X, y), _ = divided
    options = {"validation_split": 0.25}
    twice = train(make(seed=5), X, y, epochs=4, **options)
    net, path = make(seed=5), tmp_path / "state"
    train(net, X, y, epochs=2, checkpoint=path, **options)
    net = make(seed=6)
    assert train(net, X, y, epochs=4, resume=path, **options) == twice
    with pytest.raises(ValueError, match="validation_data"):
        train(make(), X, y, epochs=4, resume=path, validation_split=0.5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"validation_split": 1.0}, ValueError, "must be a number from 0 to below 1; got 1.0"),
        ({"validation_split": -0.1}, ValueError, "must be a number from 0 to below 1; got -0.1"),
        ({"validation_split": "a"}, ValueError, "must be a number from 0 to below 1; got 'a'"),
        (
            {"validation_split": 0.1, "validation_data": ([[0] * 4], [0])}, TypeError,
            "validation_split does not apply with validation_data: divide .* datasets.hold_out",
        ),
        ({"validation_split": 0.1, "y": None}, TypeError, "does not apply with chunks: divide"),
        ({"validation_split": 0.1, "y": [0], "X": [[0] * 4]}, ValueError, "two samples or more"),
    ],
)  # fmt: skip
def test_splits_that_do_not_fit(options, error, message, data, make):
    X, y = data()
    options = {"X": [(X, y)] if "y" in options else X, "y": y, **options}
    with pytest.raises(error, match=message):
        train(make(backend="numpy"), **options)


def test_ranks_share_what_the_user_divides(data, make):
    net, (X, y) = make(backend="numpy"), data()
    given = dict.fromkeys(inspect.signature(net.fit).parameters)
    given |= {"comm": "two", "validation_split": 0.1, "sync_every": 1, "checkpoint_every": 60.0}
    with pytest.raises(TypeError, match="validation_split does not apply with comm: divide"):
        recipe.checked(net._learner, Ranks(), X, y, given)


def test_of_several_ranks_one_warns_of_a_clipped_batch():
    ranks = Ranks()
    ranks.rank, ranks.size = 1, 2
    assert ranks.batch_size(9, 5) == 5
    ranks.rank = 0
    with pytest.warns(UserWarning, match="more than the 5 samples"):
        assert ranks.batch_size(9, 5) == 5


def test_a_batch_larger_than_the_set_is_clipped(divided, make):
    (X, y), _ = divided
    expected = train(make(), X, y, batch_size=60)
    with pytest.warns(UserWarning, match="batch_size is 61, more than the 60 samples") as caught:
        assert train(make(), X, y, batch_size=61) == expected
    assert (len(caught), caught[0].filename) == (1, __file__)
    expected = train(make(), X, y, batch_size=48, validation_split=0.2)
    with pytest.warns(UserWarning, match="more than the 48 samples"):
        assert train(make(), X, y, batch_size=60, validation_split=0.2) == expected
    net, twin = make(), make()
    with pytest.warns(UserWarning, match="mini_batch_size is 100") as caught:
        net.SGD((X, y), 2, 100, RATE)
    assert len(caught) == 1
    twin.SGD((X, y), 2, 60, RATE)
    np.testing.assert_array_equal(net.to_vector(), twin.to_vector())
