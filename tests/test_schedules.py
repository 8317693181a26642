"""Schedules: their formulas, PyTorch's and scikit-learn's twins, and what `fit` makes of them."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest

import fastbp
from fastbp import Network, schedules
from fastbp.history import History
from fastbp.schedules import ByStep, Constant, Cosine, Exponential, OnPlateau, Step, Warmup
from fastbp.training import loop as training
from fastbp.training import sources

ALL = [
    Constant(0.3), Step(0.3, every=2, factor=0.5), Exponential(0.3, 0.9), Cosine(0.3, 5, 0.01),
    OnPlateau(0.3, 0.5, 1),
]  # fmt: skip


def rates(schedule, losses):
    """The rates of as many epochs, each of which had this loss."""
    history = History()
    for epoch, loss in enumerate(losses):
        history.learning_rate.append(schedule.rate(epoch, history))
        history.loss.append(loss)
    return history.learning_rate


# --- Formulas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(2), [2, 2, 2, 2, 2, 2]),
        (Step(8, every=1, factor=0.5), [8, 4, 2, 1, 0.5, 0.25]),
        (Step(8, every=3, factor=0.25), [8, 8, 8, 2, 2, 2]),
        (Exponential(8, factor=0.5), [8, 4, 2, 1, 0.5, 0.25]),
        (Cosine(3, epochs=4, end=1), [3, 2 + 0.5**0.5, 2, 2 - 0.5**0.5, 1, 1]),
        (Cosine(1, epochs=1), [1, 0, 0, 0, 0, 0]),
    ],
)
def test_the_rate_of_an_epoch(schedule, expected):
    assert rates(schedule, [1.0] * 6) == pytest.approx(expected, rel=1e-15, abs=1e-15)


@pytest.mark.parametrize(
    ("patience", "min_delta", "losses", "expected"),
    [
        (1, 0.0, [5, 5, 5, 4, 4, 4], [8, 8, 4, 2, 2, 1]),
        (2, 0.0, [5, 5, 5, 4, 4, 4], [8, 8, 8, 4, 4, 4]),
        (2, 0.0, [5, 6, 6, 6, 6, 6], [8, 8, 8, 4, 4, 2]),
        (2, 0.0, [6, 5, 4, 3, 2, 1], [8, 8, 8, 8, 8, 8]),
        (2, 1.5, [6, 5, 4, 3, 2, 1], [8, 8, 8, 8, 8, 8]),
        (1, 1.5, [6, 5, 4, 3, 2, 1], [8, 8, 4, 4, 2, 2]),
    ],
)
def test_on_a_plateau_the_rate_sinks(patience, min_delta, losses, expected):
    schedule = OnPlateau(8, 0.5, patience, min_delta=min_delta)
    assert rates(schedule, losses) == expected
    assert rates(schedule, losses) == expected  # anew from epoch 0 on


def test_the_plateau_may_be_any_quantity_s(make, data):
    history = make().fit(
        *data(), epochs=4, batch_size=4, validation_data=data(9),
        learning_rate=OnPlateau(1e-9, 0.5, 1, monitor="val_accuracy"),
    )  # fmt: skip
    assert len(set(history.val_accuracy)) == 1
    assert history.learning_rate == [1e-9, 1e-9, 5e-10, 2.5e-10]


# --- Twins ----------------------------------------------------------------------------------------

LOSSES = np.round(np.random.default_rng(3).random(60) + np.linspace(1, 0, 60), 2).tolist()


def test_pytorch_s_schedulers_are_the_same():
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency, nor of the tests")
    twins = torch.optim.lr_scheduler
    pairs = [
        (Step(0.7, 7, 0.3), lambda o: twins.StepLR(o, 7, 0.3)),
        (Exponential(0.7, 0.9), lambda o: twins.ExponentialLR(o, 0.9)),
        (Cosine(0.7, 60, 0.1), lambda o: twins.CosineAnnealingLR(o, 60, 0.1)),
        *(
            (
                OnPlateau(0.7, 0.5, patience, min_delta=delta),
                # which waits for one epoch more than its patience
                lambda o, p=patience, d=delta: twins.ReduceLROnPlateau(
                    o, factor=0.5, patience=p - 1, threshold=d, threshold_mode="abs", eps=0
                ),
            )
            for patience, delta in ((1, 0.0), (3, 0.0), (2, 0.25))
        ),
    ]
    for ours, twin in pairs:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.7)
        theirs, found = twin(optimizer), []
        for loss in LOSSES:
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            theirs.step(loss) if isinstance(ours, OnPlateau) else theirs.step()
        assert rates(ours, LOSSES) == pytest.approx(found, rel=1e-9)


class InverseScaling:
    """scikit-learn's "invscaling", in the words of a schedule: t counts the samples seen."""

    def __init__(self, learning_rate, power_t, n, t=0):
        self.learning_rate, self.power_t, self.n, self.t = learning_rate, power_t, n, t

    def rate(self, epoch, history):
        t = self.t + epoch * self.n
        return self.learning_rate / (t + 1) ** self.power_t if t else self.learning_rate


class Adaptive:
    """scikit-learn's "adaptive", which is a callback as well: it may end the training."""

    def __init__(self, learning_rate, tol, n_iter_no_change):
        self.now, self.tol, self.patience = learning_rate, tol, n_iter_no_change
        self.best, self.count = math.inf, 0

    def rate(self, epoch, history):
        return self.now

    def on_epoch_end(self, net, history):
        loss = history.loss[-1]
        self.count = self.count + 1 if loss > self.best - self.tol else 0
        self.best = min(loss, self.best)
        if self.count > self.patience:
            if self.now <= 1e-6:
                history.stopped = "learning rate too small"
            self.now, self.count = self.now / 5, 0


@pytest.fixture(scope="module")
def theirs():
    """Imported before a test begins: scikit-learn changes the environment."""
    return pytest.importorskip("sklearn.neural_network")


@pytest.mark.parametrize("kind", ["invscaling", "adaptive"])
def test_scikit_learn_s_schedules_fit_the_same_face(kind, theirs, monkeypatch, digits):
    """From the same weights, in the same order: rates and loss curves are the same, and the end."""
    from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

    X, y = digits.X_train[:200] / 16, digits.y_train[:200]
    options = {
        "hidden_layer_sizes": (8,), "activation": "logistic", "solver": "sgd", "alpha": 0,
        "batch_size": 50, "learning_rate": kind, "max_iter": 300, "shuffle": False, "momentum": 0,
        "random_state": 0, "tol": 1e-3, "n_iter_no_change": 2, "power_t": 0.3,
    }  # fmt: skip
    start = theirs.MLPClassifier(**options, learning_rate_init=1e-300).fit(X, y)
    net = Network([64, 8, 10], loss="cross-entropy", dtype="float64")
    for W, b, coefs, intercepts in zip(
        net.weights, net.biases, start.coefs_, start.intercepts_, strict=True
    ):
        W[...], b[...] = coefs.T, intercepts

    seen, ends = [], SGDOptimizer.iteration_ends

    def noted(self, t):
        seen.append(self.learning_rate)
        ends(self, t)

    monkeypatch.setattr(SGDOptimizer, "iteration_ends", noted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more epochs than "invscaling" is given would change less
        twin = theirs.MLPClassifier(**options, learning_rate_init=2.0).fit(X, y)
    ours = InverseScaling(2.0, 0.3, 200) if kind == "invscaling" else Adaptive(2.0, 1e-3, 2)
    history = net.fit(
        X, y, epochs=twin.n_iter_ if kind == "invscaling" else 300, batch_size=50,
        learning_rate=ours, shuffle=False, callbacks=[ours] if kind == "adaptive" else [],
    )  # fmt: skip
    assert (history.stopped != "") == (kind == "adaptive")
    np.testing.assert_allclose(history.learning_rate, seen, rtol=1e-12)
    np.testing.assert_allclose(history.loss, twin.loss_curve_, rtol=1e-8)


# --- In fit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ALL, ids=lambda schedule: type(schedule).__name__)
def test_each_epoch_is_trained_at_its_rate(schedule, backend, make, data):
    X, y = data()
    net, stepped = make(backend=backend), make(backend=backend)
    history = net.fit(X, y, epochs=5, batch_size=4, learning_rate=schedule)
    assert len(history.learning_rate) == 5
    assert {type(rate) for rate in history.learning_rate} == {float}
    for rate in history.learning_rate:
        stepped.fit(X, y, epochs=1, batch_size=4, learning_rate=rate)
    np.testing.assert_array_equal(net.to_vector(), stepped.to_vector())
    assert history.learning_rate == rates(schedule, history.loss)


def test_a_number_is_the_same_rate_for_all_epochs_however_many_run_at_once(make, data):
    X, y = data()
    history = make().fit(X, y, epochs=300, batch_size=22, learning_rate=0.25)
    assert history.learning_rate == [0.25] * 300


def test_where_nothing_is_drawn_a_schedule_has_its_turn_too(make, data):
    """A batch of all samples: many epochs would run in one call."""
    X, y = data()
    history = make().fit(X, y, epochs=300, batch_size=22, learning_rate=Exponential(1.0, 0.9))
    np.testing.assert_allclose(history.learning_rate, 0.9 ** np.arange(300), rtol=1e-12)


def test_a_schedule_sees_the_epochs_that_are_done(make, data):
    seen = []

    class Watches:
        def rate(self, epoch, history):
            seen.append((epoch, len(history), len(history.val_loss), len(history.learning_rate)))
            return np.float32(0.5)

    X, y = data()
    history = make().fit(
        X, y, epochs=3, batch_size=4, learning_rate=Watches(), validation_data=(X, y)
    )
    assert seen == [(0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2)]
    assert history.learning_rate == [0.5] * 3
    assert type(history.learning_rate[0]) is float


def test_a_rate_may_sink_to_zero(backend, make, data):
    X, y = data()
    nets = make(backend=backend), make(backend=backend)
    nets[0].fit(X, y, epochs=1, batch_size=22, learning_rate=0.5)
    nets[1].fit(X, y, epochs=5, batch_size=22, learning_rate=Cosine(0.5, epochs=1))
    np.testing.assert_array_equal(nets[0].to_vector(), nets[1].to_vector())


@pytest.mark.parametrize("schedule", ALL, ids=lambda schedule: type(schedule).__name__)
def test_schedules_can_be_pickled_in_the_middle(schedule):
    losses = [3.0, 3.0, 2.0, 2.0, 2.0, 2.0]
    schedule, history = copy.deepcopy(schedule), History()
    for epoch, loss in enumerate(losses):
        schedule = pickle.loads(pickle.dumps(schedule))
        history.learning_rate.append(schedule.rate(epoch, history))
        history.loss.append(loss)
    assert history.learning_rate == rates(schedule, losses)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schedule", "gain"),
    [
        pytest.param(Step(0.5, every=4, factor=0.3), 0.5, marks=pytest.mark.long),
        pytest.param(Exponential(0.5, 0.75), 0.5, marks=pytest.mark.long),
        (Cosine(0.5, epochs=20), 0.5),
        (OnPlateau(0.5, 0.3, 1), 0.5),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_on_real_images_a_rate_that_sinks_ends_lower(schedule, gain, mnist):
    """A rate that is large for this batch size leaves the training loss high: it jumps about."""
    ends = []
    for learning_rate in (0.5, schedule):
        net = Network([784, 30, 10], "tanh", loss="cross-entropy", input_scale=1 / 255, seed=0)
        net.fit(mnist[0][:10_000], mnist[1][:10_000], epochs=20, batch_size=10,
                learning_rate=learning_rate)  # fmt: skip
        ends.append(net.loss(mnist[0][:10_000], mnist[1][:10_000]))
    assert ends[1] < gain * ends[0], ends


# --- From step to step ----------------------------------------------------------------------------

BY_STEP = {
    "warm-up": (lambda: Warmup(0.5, epochs=1.5, start=0.2), [0.1 + 0.4 * i / 9 for i in range(9)]),
    "by step": (lambda: ByStep(Exponential(0.5, 0.3)), [0.5 * 0.3 ** (i / 6) for i in range(18)]),
    "both": (
        lambda: Warmup(ByStep(Exponential(0.5, 0.3)), epochs=1 / 2),
        [0.5 * 0.3 ** (i / 6) * min(1, 0.1 + 0.9 * i / 3) for i in range(18)],
    ),
    "both, the other way round": (
        lambda: ByStep(Warmup(Exponential(0.5, 0.3), epochs=1 / 2)),
        [0.5 * 0.3 ** (i / 6) * min(1, 0.1 + 0.9 * i / 3) for i in range(18)],
    ),
    "of epochs": (
        lambda: Warmup(Step(0.5, every=1), epochs=1),
        [0.5 * (0.1 + 0.9 * i / 6) for i in range(6)] + [0.25] * 6 + [0.125] * 6,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_STEP)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_each_step_has_its_rate(name, optimizer, backend, make, data):
    """As if each were an epoch of its own; six steps make one, and the last is smaller."""
    (made, known), (X, y) = BY_STEP[name], data()
    known = known + [0.5] * (18 - len(known))
    net, stepped = make(backend=backend), make(backend=backend)
    history = net.fit(
        X, y, epochs=3, batch_size=4, learning_rate=made(), optimizer=optimizer, shuffle=False
    )
    np.testing.assert_allclose(history.learning_rate, known[5::6], rtol=1e-12)
    rule = fastbp.optimizers.optimizer(optimizer)
    for i, rate in enumerate(known):
        rows = slice(4 * (i % 6), 4 * (i % 6) + 4)
        stepped.fit(X[rows], y[rows], epochs=1, batch_size=len(X[rows]), learning_rate=rate,
                    optimizer=rule)  # fmt: skip
    np.testing.assert_allclose(net.to_vector(), stepped.to_vector(), rtol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_slices_and_threads_do_not_show_where_rates_change(
    optimizer, batch_size, backend, monkeypatch, make, data
):
    """Batches of one are learned some at a time; the warm-up ends amid of them."""
    X, y = data(60)
    for made in (lambda: ByStep(Cosine(0.5, 3)), lambda: Warmup(0.5, epochs=0.55)):
        ends = []
        for seconds, threads in ((0, 1), (1e-4, 1), (1e9, 2)):
            monkeypatch.setattr(training, "SLICE_SECONDS", seconds)
            net = make(backend=backend)
            net.fit(X, y, epochs=3, batch_size=batch_size, learning_rate=made(), threads=threads,
                    optimizer=optimizer)  # fmt: skip
            ends.append(net.to_vector().tobytes())
        assert len(set(ends)) == 1


def test_windows_of_a_file_do_not_show_where_rates_change(
    backend, monkeypatch, tmp_path, make, data
):
    monkeypatch.setattr(sources, "WINDOW_BYTES", 1)
    X, y = data(400)
    np.save(tmp_path / "X.npy", X)
    ends = []
    for samples in (X, np.load(tmp_path / "X.npy", mmap_mode="r")):
        net = make(backend=backend)
        net.fit(samples, y, epochs=2, batch_size=4, learning_rate=ByStep(Cosine(0.5, 2)),
                shuffle=False)  # fmt: skip
        ends.append(net.to_vector())
    np.testing.assert_allclose(*ends, rtol=1e-9)


def test_pytorch_s_warm_up_is_the_same():
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency, nor of the tests")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.7)
    theirs = torch.optim.lr_scheduler.LinearLR(optimizer, 0.25, total_iters=15)
    found = []
    for _ in range(30):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = Warmup(0.7, epochs=1.5, start=0.25)
    got = np.concatenate([ours.step_rates(epoch, 10, History()) for epoch in range(3)])
    assert got == pytest.approx(found, rel=1e-9)


def test_what_a_warm_up_is_for(make, data):
    """A plateau is asked once an epoch, and remembered."""
    X, y = data()
    schedule = Warmup(OnPlateau(1e-9, 0.5, 1), epochs=2)
    history = make().fit(X, y, epochs=4, batch_size=4, learning_rate=schedule)
    np.testing.assert_allclose(history.learning_rate[2:], [1e-9 / 2**i for i in (0, 0)], rtol=1)
    assert schedule.state().keys() == {"best", "now"}
    assert Warmup(0.1).state() == {}


class Wrong:
    def __init__(self, found):
        self.found = found

    def rate(self, epoch, history):
        raise AssertionError

    def step_rates(self, epoch, steps, history):
        return self.found


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([0.1] * 5, r"learning_rate, the schedule's for epoch 1, must have shape \(6,\).* \(5,\)"),
        (0.1, r"must have shape \(6,\), one per step; got \(\)"),
        ([0.1] * 5 + [-1], "for epoch 1, step 6, must be .*; got -1"),
        ([0.1, math.nan] * 3, "for epoch 1, step 2, must be .*; got nan"),
        ([0.1, 1e300] * 3, "for epoch 1, step 2, must be .*; got 1e[+]300"),
        (["a"] * 6, "for epoch 1, must "),
    ],
)
def test_rates_that_do_not_fit_are_named(found, message, make, data):
    net = make(dtype="float32", backend="numpy")
    before = net.to_vector()
    with pytest.raises((TypeError, ValueError), match=message):
        net.fit(*data(), epochs=1, batch_size=4, learning_rate=Wrong(found))
    np.testing.assert_array_equal(net.to_vector(), before)


@pytest.mark.parametrize("seconds", [0, 1e9], ids=["steps", "one slice"])
def test_the_step_that_diverges_is_named_with_its_rate(seconds, backend, monkeypatch, data, make):
    monkeypatch.setattr(training, "SLICE_SECONDS", seconds)
    X, y = data()
    net, twin = (make(dtype="float32", output="identity", backend=backend) for _ in range(2))
    rates = np.array([0.01, 0.02, 0.03, 3e38, 0.01, 0.02])
    options = {"epochs": 1, "batch_size": 4, "shuffle": False}
    with pytest.raises(fastbp.DivergenceError, match=r"epoch 1, step 4,.* rate 3e\+38;"):
        net.fit(X, 1000 * y[:, None] * [1, 1, 1], learning_rate=Wrong(rates), **options)
    assert np.isfinite(net.to_vector()).all()
    fine = Wrong(rates[[0, 1, 2]])
    twin.fit(X[:12], 1000 * y[:12, None] * [1, 1, 1], learning_rate=fine, **options)
    np.testing.assert_allclose(net.to_vector(), twin.to_vector(), rtol=1e-5)


def test_chunks_take_no_rates_of_steps(make, data):
    X, y = data()
    with pytest.raises(TypeError, match=r"learning_rate Warmup\(.* and needs X and y: how many"):
        make().fit([(X, y)], epochs=1, batch_size=4, learning_rate=Warmup(0.1))


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Step(0), ValueError, "learning_rate must be a positive number"),
        (lambda: Constant("a"), TypeError, "learning_rate must be"),
        (lambda: Exponential(math.nan), ValueError, "learning_rate must be"),
        (lambda: OnPlateau(True), TypeError, "learning_rate must be"),
        (lambda: Step(1, every=0), ValueError, "every must be a positive integer; got 0"),
        (lambda: Step(1, every=1.5), TypeError, "every must be .*; got 1.5"),
        (lambda: Step(1, factor=1), ValueError, "factor must be .* above 0 and below 1"),
        (lambda: Exponential(1, factor=0), ValueError, "factor must be"),
        (lambda: OnPlateau(1, factor=math.nan), ValueError, "factor must be .*; got nan"),
        (lambda: OnPlateau(1, factor="x"), ValueError, "factor must be .*; got 'x'"),
        (lambda: OnPlateau(1, patience=0), ValueError, "patience must be a positive integer"),
        (lambda: OnPlateau(1, monitor="x"), ValueError, "monitor must be one of"),
        (lambda: OnPlateau(1, min_delta=-1), ValueError, "min_delta must be"),
        (lambda: Warmup("a"), TypeError, "learning_rate must be"),
        (lambda: Warmup(0.1, epochs=0), ValueError, "epochs must be a positive number.*; got 0"),
        (lambda: Warmup(0.1, start=1.0), ValueError, "start must be .*below 1.* 1.0"),
        (lambda: ByStep(OnPlateau(0.1)), TypeError, "must have no memory.*; got OnPlateau"),
        (lambda: Cosine(1, epochs=0), ValueError, "epochs must be a positive integer"),
        (lambda: Cosine(1, 5, end=-1), ValueError, "end must be .* at least 0"),
        (lambda: Cosine(1, 5, end=2), ValueError, "end must be at most the learning_rate"),
    ],
)
def test_arguments_that_do_not_fit(build, error, message):
    with pytest.raises(error, match=message):
        build()


class Bad:
    """A schedule that goes wrong in the second epoch."""

    def __init__(self, value):
        self.value = value

    def rate(self, epoch, history):
        return self.value if epoch else 0.5


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 1e39, 10**400, None, "1", True])
def test_a_schedule_that_goes_wrong_is_named_and_what_was_learnt_stays(value, make, data):
    X, y = data()
    net, twin = (make(dtype="float32") for _ in range(2))
    message = "learning_rate, .* epoch 2, must be .*at least 0"
    with pytest.raises((TypeError, ValueError), match=message):
        net.fit(X, y, epochs=3, batch_size=4, learning_rate=Bad(value))
    twin.fit(X, y, epochs=1, batch_size=4, learning_rate=0.5)
    np.testing.assert_array_equal(net.to_vector(), twin.to_vector())


@pytest.mark.parametrize("value", ["cosine", print, object(), [0.1], np.array([0.1, 0.2])])
def test_what_is_neither_number_nor_schedule_is_refused(value, make, data):
    message = "learning_rate must be a positive number, or a schedule"
    net = make()
    before = net.to_vector()
    with pytest.raises(TypeError, match=message):
        net.fit(*data(), epochs=1, batch_size=4, learning_rate=value)
    np.testing.assert_array_equal(net.to_vector(), before)


def test_what_a_plateau_watches_must_be_there(make, data):
    X, y = data()
    plateau = OnPlateau(0.5, monitor="val_loss")
    with pytest.raises(ValueError, match="monitor 'val_loss' needs validation_data"):
        make().fit(X, y, epochs=3, batch_size=4, learning_rate=plateau)


def test_the_module_names_what_it_holds():
    assert fastbp.schedules is schedules
    assert all(type(schedule).__doc__ for schedule in ALL)
