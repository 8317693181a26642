"""Optimisers: kernels against the reference and PyTorch, memory, penalty, clipping, weights."""

import copy
import itertools
import pickle
from fractions import Fraction

import numpy as np
import pytest

from cases import crossed
from fastbp import SGD, Adam, AdamW, DivergenceError, Network, RMSprop
from fastbp.engines import get_backend
from fastbp.kernels import machine
from fastbp.kernels.ir.denormals import X86
from fastbp.optimizers import NAMES
from fastbp.reference import Targets
from fastbp.reference.records import Rule, new_memory
from fastbp.training import loop as training

RULES = {
    "plain": Rule(),
    "L2": Rule(l2=0.01),
    "clipped": Rule(clip=0.05),
    "momentum": Rule("momentum", 0.9, l2=0.1, over_sum=True),
    "nesterov": Rule("nesterov", 0.9, clip=0.2),
    "adam": Rule("adam", 0.9, 0.999, 1e-8, l2=0.01),
    "adam as scikit-learn's": Rule("adam", 0.9, 0.99, 1e-3, False, 0.1, True, 0.5),
    "adamw": Rule("adam", 0.9, 0.999, 1e-8, weight_decay=0.5),
    "rmsprop": Rule("rmsprop", second=0.9, epsilon=0.1),
    "L1": Rule(l1=0.01, l2=0.01, clip=0.05),
    "L1 over the sum": Rule("momentum", 0.9, l1=0.1, over_sum=True),
}
# Sizes, samples, and the share of inputs that are not zero.
NETS = {
    "small": ((20, 9, 4), 50, 1.0),
    "sparse": ((100, 30, 4), 50, 0.1),
    "narrow": ((4, 6, 3), 400, 1.0),
    "wide": ((30, 200, 40, 5), 300, 1.0),
}
# Adam divides by the gradient's own size, so that rounding grows where it is nearly zero.
TOLERANCE = {"float64": 1e-9, "float32": 2e-3}


# Path, dtype, and whether samples have weights; lanes over the batch know none.
WAYS = [
    *itertools.product(("dense", "sparse", "narrow"), ("float32", "float64"), [False]),
    ("dense", "float64", True),
    ("sparse", "float32", True),
]
MORE_WAYS = [("dense", "float32", True), ("sparse", "float64", True)]


@pytest.fixture(autouse=True)
def several_blocks(all_take_part, monkeypatch):
    """Zero-skipping rows are in several blocks."""
    monkeypatch.setattr(machine, "BLOCK_BYTES", 2_000)


def problem(kind, dtype, weighted, rng):
    sizes, n, density = NETS[kind]
    X = np.where(rng.random((n, sizes[0])) < density, rng.standard_normal((n, sizes[0])), 0)
    weights = (np.arange(n) % 3).astype(float) if weighted else np.empty(0)
    labels = rng.integers(0, sizes[-1], n)
    return sizes, X.astype(dtype), Targets(labels, np.empty((0, sizes[-1]), dtype), weights)


def trained(backend, sizes, X, targets, batch_size, rule, dtype, **how):
    net = Network(sizes, "tanh", loss="cross-entropy", dtype=dtype, seed=1, backend=backend)
    args = net.params, X, targets, batch_size
    with net._engine.trainer(*args, rule=rule, **how) as trainer:
        trainer.run(np.arange(len(X)), 0, len(X), 0.01)
    return net, trainer


@crossed(rule=list(RULES), kind=list(NETS), way=WAYS)
def test_an_epoch_is_the_reference_s_on_any_path_with_any_team(rule, kind, way, rng):
    path, dtype, weighted = way
    sizes, X, targets = problem(kind, dtype, weighted, rng)
    for batch_size in (1, 7, len(X)):
        args = sizes, X, targets, batch_size, RULES[rule], dtype
        want, there = trained("numpy", *args)
        bits = set()
        for threads in (1, 2, 3):
            got, here = trained("numba", *args, threads=threads, path=path)
            known = got.params, here.totals[0], here.memory.slots
            bits.add(tuple(array.tobytes() for array in known))
        assert len(bits) == 1
        error = np.abs(got.to_vector() - want.to_vector()).max()
        assert error < TOLERANCE[dtype]
        np.testing.assert_allclose(here.totals[0], there.totals[0], TOLERANCE[dtype])
        inside = got._layout.zeros()
        for part in itertools.chain(*got._layout.views(inside)):
            part[...] = 1
        assert not got.params[inside == 0].any()
        if RULES[rule] != Rule():
            assert here.memory.clock == there.memory.clock == -(-len(X) // batch_size)
            assert not here.memory.slots[:, inside == 0].any()


@pytest.mark.skipif(not X86, reason="other CPUs than x86 are not slow with denormal numbers")
@crossed(rule=["momentum", "nesterov", "adam"], dtype=["float32", "float64"])
def test_what_is_remembered_decays_to_zero(rule, dtype):
    """Rounding would keep denormal moments from it, and CPUs may be slow with them."""
    tiny = np.finfo(dtype).tiny
    net = Network([3, 4, 2], loss="cross-entropy", dtype=dtype, seed=1, backend="numba")
    rule = Rule(rule, 0.9, 0.999, 1e-8)
    memory = new_memory(rule, net.params)
    memory.slots[0, 0] = tiny  # of the weight of an input that is never lit
    X, targets = np.zeros((5, 3), dtype), Targets(np.zeros(5, np.int64), np.empty((0, 2), dtype))
    args = net.params, X, targets, 5
    with net._engine.trainer(*args, rule=rule, memory=memory, path="dense") as trainer:
        trainer.run(np.arange(5), 0, 5, 0.01)
    assert memory.slots[0, 0] == 0
    assert (np.full(9, tiny, dtype) / 2 > 0).all()  # for all others nothing changes


@pytest.mark.long
@pytest.mark.parametrize("way", MORE_WAYS, ids=str)
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("rule", RULES)
def test_an_epoch_with_weights_in_the_other_dtype(rule, kind, way, rng):
    """Where kernels would be compiled for this alone."""
    test_an_epoch_is_the_reference_s_on_any_path_with_any_team(rule, kind, way, rng)


# -- against PyTorch -------------------------------------------------------------------------------

PEERS = {
    "momentum": (SGD(momentum=0.9), "SGD", {"momentum": 0.9}),
    "nesterov": (SGD(momentum=0.9, nesterov=True), "SGD", {"momentum": 0.9, "nesterov": True}),
    "L2": (SGD(l2=0.1), "SGD", {"weight_decay": 0.1}),
    "all": (
        SGD(0.9, True, l2=0.1, clip_norm=0.3), "SGD",
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    "adam": (Adam(), "Adam", {}),
    "adamw": (AdamW(), "AdamW", {"weight_decay": 0.01}),
    "adamw, all": (
        AdamW(0.8, 0.99, 1e-4, weight_decay=0.3, clip_norm=0.3), "AdamW",
        {"betas": (0.8, 0.99), "eps": 1e-4, "weight_decay": 0.3},
    ),
    "rmsprop": (RMSprop(), "RMSprop", {}),
    "rmsprop, all": (
        RMSprop(0.9, 1e-4, l2=0.1, clip_norm=0.3), "RMSprop",
        {"alpha": 0.9, "eps": 1e-4, "weight_decay": 0.1},
    ),
    "L1": (SGD(l1=0.02), "SGD", {}),
    "adam, L1": (Adam(l1=0.02, l2=0.1), "Adam", {"weight_decay": 0.1}),
    "adam, all": (
        Adam(0.8, 0.99, 1e-4, l2=0.1, clip_norm=0.3), "Adam",
        {"betas": (0.8, 0.99), "eps": 1e-4, "weight_decay": 0.1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PEERS)
def test_ten_steps_are_pytorch_s(name, backend, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency, nor of the tests")
    optimizer, kind, options = PEERS[name]
    net = Network(
        [6, 5, 3], "tanh", output="identity", dtype="float64", seed=0, backend=backend
    )  # fmt: skip
    X, y = rng.standard_normal((40, 6)), rng.standard_normal((40, 3))
    layers = [torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)]
    model = torch.nn.Sequential(*layers).double()
    with torch.no_grad():
        for layer, W, b in zip(layers[::2], net.weights, net.biases, strict=True):
            layer.weight.copy_(torch.from_numpy(W.copy()))
            layer.bias.copy_(torch.from_numpy(b.copy()))
    options = dict(options)
    decay = options.pop("weight_decay", 0.0)
    groups = [
        {"params": [layer.weight for layer in layers[::2]], "weight_decay": decay},
        {"params": [layer.bias for layer in layers[::2]], "weight_decay": 0.0},
    ]
    theirs = getattr(torch.optim, kind)(groups, lr=0.05, **options)
    for _ in range(10):
        theirs.zero_grad()
        loss = ((model(torch.from_numpy(X)) - torch.from_numpy(y)) ** 2).sum(1).mean() / 2
        loss += optimizer.l1 * sum(layer.weight.abs().sum() for layer in layers[::2])
        loss.backward()
        if optimizer.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), optimizer.clip_norm)
        theirs.step()
    net.fit(X, y, epochs=10, batch_size=40, learning_rate=0.05, optimizer=copy.deepcopy(optimizer))
    for layer, W, b in zip(layers[::2], net.weights, net.biases, strict=True):
        np.testing.assert_allclose(W, layer.weight.detach().numpy(), rtol=1e-9)
        np.testing.assert_allclose(b, layer.bias.detach().numpy(), rtol=1e-9)


# -- through fit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_each_learns_the_digits(name, backend, digits):
    X, y, X_test, y_test = digits
    net = Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0, backend=backend)
    rate = 0.01 if name in ("adam", "adamw", "rmsprop") else 0.1
    net.fit(X, y, epochs=10, batch_size=16, learning_rate=rate, optimizer=name)
    assert net.accuracy(X_test, y_test) > 0.9


@pytest.mark.parametrize("made", [lambda: SGD(0.9, True), Adam, RMSprop])
def test_an_object_goes_on_and_a_name_starts_anew(made, backend, make, data):
    X, y = data(60)
    options = {"batch_size": 7, "learning_rate": 0.05, "shuffle": False}
    whole, parts, names = (make(backend=backend) for _ in range(3))
    whole.fit(X, y, epochs=6, optimizer=made(), **options)
    rule = made()
    for _ in range(3):
        parts.fit(X, y, epochs=2, optimizer=rule, **options)
        names.fit(X, y, epochs=2, optimizer=made(), **options)
    assert rule.steps == 6 * 9
    np.testing.assert_array_equal(parts.to_vector(), whole.to_vector())
    assert not np.allclose(names.to_vector(), whole.to_vector(), rtol=1e-6)


def test_its_memory_survives_copies_pickles_and_set_state(make, data):
    X, y = data(60)
    net, rule = make(), Adam()
    options = {"epochs": 2, "batch_size": 7, "learning_rate": 0.05, "shuffle": False}
    net.fit(X, y, optimizer=rule, **options)
    told, state = Adam(), rule.state()
    told.set_state(net._layout, state)
    ends = []
    for twin in (rule, copy.deepcopy(rule), pickle.loads(pickle.dumps(rule)), told):
        other = copy.deepcopy(net)
        other.fit(X, y, optimizer=twin, **options)
        ends.append(other.to_vector())
        assert twin.steps == 36
    for end in ends[1:]:
        np.testing.assert_array_equal(end, ends[0])
    assert Adam().state() == {}
    assert state["clock"] == 18 < rule.steps  # what was told stays


def test_an_object_belongs_to_one_shape_of_network(make, data):
    X, y = data(60)
    rule = SGD(momentum=0.5)
    options = {"epochs": 1, "batch_size": 7, "learning_rate": 0.05, "optimizer": rule}
    make().fit(X, y, **options)
    for other in (make(dtype="float32"), make(bias=False), make((4, 3))):
        before = other.to_vector()
        with pytest.raises(ValueError, match=r"optimizer .*\[4, 6, 3\]"):
            other.fit(X, y, **options)
        np.testing.assert_array_equal(other.to_vector(), before)


CHANGES = [
    (SGD, {}, {"momentum": 0.9}),
    (SGD, {"momentum": 0.9}, {"momentum": 0.0}),
    (SGD, {"momentum": 0.9}, {"momentum": 0.5}),
    (SGD, {"momentum": 0.9}, {"nesterov": True}),
    (Adam, {}, {"beta_2": 0.9}),
    (Adam, {}, {"epsilon_corrected": False}),
    (AdamW, {}, {"weight_decay": 0.5}),
    (RMSprop, {}, {"rho": 0.9}),
]


@pytest.mark.parametrize("when", ["between", "during"])
@pytest.mark.parametrize(("kind", "before", "after"), CHANGES)
def test_an_object_whose_settings_were_changed_does_not_go_on_with_the_old_memory(
    kind, before, after, when, backend, make, data
):
    """It once wrote outside of an array: plain SGD had nothing to remember."""
    X, y = data(60)
    rule, net, options = kind(**before), make(backend=backend), {"epochs": 2, "batch_size": 7}
    options["learning_rate"] = 0.05

    class Change:
        def on_epoch_end(self, net, history):
            vars(rule).update(after)

    changed = [Change()] if when == "during" else []
    net.fit(X, y, optimizer=rule, callbacks=changed, **options)
    vars(rule).update(after)
    steady = make(backend=backend)  # a training under way keeps the rule that it was begun with
    steady.fit(X, y, optimizer=kind(**before), **options)
    np.testing.assert_array_equal(net.to_vector(), steady.to_vector())
    twin = copy.deepcopy(net)
    net.fit(X, y, optimizer=rule, **options)
    twin.fit(X, y, optimizer=kind(**before | after), **options)
    np.testing.assert_array_equal(net.to_vector(), twin.to_vector())


def test_the_state_of_another_optimiser_is_refused(make, data):
    net, adam = make(), Adam()
    net.fit(*data(20), epochs=1, batch_size=5, learning_rate=0.05, optimizer=adam)
    for rule in (SGD(), SGD(0.9)):
        with pytest.raises(ValueError, match=r"state must hold .*slots.*got"):
            rule.set_state(net._layout, adam.state())
    with pytest.raises(ValueError, match=r"state must hold .*slots.*got"):
        Adam().set_state(make((4, 3))._layout, adam.state())
    with pytest.raises(ValueError, match=r"state must hold .*float32.*got .*float64"):
        Adam().set_state(make(dtype="float32")._layout, adam.state())


@pytest.mark.parametrize("beta", [0.999, 0.999999, 1 - 1e-8])
def test_complements_of_betas_near_one_are_exact(beta, make, data, assert_close):
    """In float32 too, where 1 - beta of the rounded beta is off by far more than rounding."""
    (X, y), ends = data(5), []
    for backend in ("numba", "numpy"):
        net = make(dtype="float32", backend=backend)
        start = net.to_vector()
        rule = Adam(beta_1=beta, beta_2=beta)
        net.fit(X, y, epochs=1, batch_size=5, learning_rate=0.05, optimizer=rule)
        ends.append(net.to_vector() - start)
    assert_close(*ends)


PENALISED = [
    SGD(l2=0.3),
    SGD(0.9, l2=0.3, l2_over_sum=True),
    Adam(l2=0.3),
    SGD(l1=0.3),
    AdamW(l1=0.1, l2=0.3, l2_over_sum=True),
    AdamW(weight_decay=0.3),
]


@pytest.mark.parametrize("rule", PENALISED, ids=str)
def test_the_loss_holds_the_penalty(rule, backend, make, data):
    """Of the weights from before the step, biases left out; a batch of all samples."""
    X, y = data(60)
    net = make(backend=backend)
    net.biases[0][...] = 5
    penalty = rule.l2 / 2 * sum((W**2).sum() for W in net.weights)
    penalty += rule.l1 * sum(abs(W).sum() for W in net.weights)
    penalty /= len(X) if rule.l2_over_sum else 1
    loss = net.loss(X, y)
    history = net.fit(
        X, y, epochs=2, batch_size=len(X), learning_rate=0.01, optimizer=copy.deepcopy(rule)
    )
    assert history.penalty[0] == pytest.approx(penalty, rel=1e-12)
    assert history.loss[0] == pytest.approx(loss + penalty, rel=1e-12)
    assert (history.penalty[1] != history.penalty[0]) == (penalty > 0)


def test_l1_leaves_weights_of_zero_alone_and_brings_small_ones_near(backend, make, data):
    """Of inputs that are always 0, weights have no gradient but the penalty's."""
    X, y = data(60)
    X[:, 0] = 0
    net = make(backend=backend)
    net.weights[0][:, 0] = 0, 0.5, -0.5, 0.03, -0.03, 0.0
    biases = net.biases[0].copy()
    net.fit(X, y, epochs=4, batch_size=60, learning_rate=0.1, optimizer=SGD(l1=0.2))
    np.testing.assert_allclose(
        net.weights[0][:, 0], [0, 0.42, -0.42, -0.01, 0.01, 0], atol=0.021
    )  # fmt: skip
    assert (net.weights[0][[0, 5], 0] == 0).all()
    assert not np.array_equal(net.biases[0], biases)


def test_on_real_images_l1_leaves_few_weights_and_decay_smaller_ones(digits):
    X, y, X_test, y_test = digits
    small, mean = {}, {}
    for name, rule in {"adam": Adam(), "l1": Adam(l1=1e-3), "adamw": AdamW(weight_decay=1)}.items():
        net = Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
        net.fit(X, y, epochs=30, batch_size=32, learning_rate=0.003, optimizer=rule)
        assert net.accuracy(X_test, y_test) > 0.9
        sizes = abs(net.weights[0])
        small[name], mean[name] = (sizes < 0.01).mean(), sizes.mean()
    assert small["adam"] < 0.1 < 0.4 < small["l1"]
    assert mean["adamw"] < 0.8 * mean["adam"]


@pytest.mark.parametrize("seconds", [0, 1e9], ids=["steps", "one slice"])
@pytest.mark.parametrize("name", ["nesterov", "adam"])
def test_time_slices_do_not_show(name, seconds, backend, monkeypatch, make, data):
    X, y = data(60)
    ends = []
    for slices in (0.05, seconds):
        monkeypatch.setattr(training, "SLICE_SECONDS", slices)
        net = make(backend=backend)
        net.fit(X, y, epochs=5, batch_size=7, learning_rate=0.01, optimizer=name)
        ends.append(net.to_vector())
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("seconds", [0, 1e9], ids=["steps", "one slice"])
def test_divergence_brings_back_the_memory_too(seconds, backend, monkeypatch, rng):
    """The seventh of twelve samples cannot be learnt."""
    monkeypatch.setattr(training, "SLICE_SECONDS", seconds)
    X, y = rng.random((12, 2)), rng.random((12, 1))
    fine, rule = SGD(momentum=0.5), SGD(momentum=0.5)
    nets = [Network([2, 1], output="identity", seed=0, backend=backend) for _ in range(2)]
    options = {"batch_size": 1, "learning_rate": 0.1, "shuffle": False, "epochs": 1}
    nets[0].fit(X[:6], y[:6], optimizer=fine, **options)
    X[6] = 1e30
    with pytest.raises(DivergenceError, match="epoch 1, step 7"):
        nets[1].fit(X, y, optimizer=rule, **options)
    np.testing.assert_array_equal(nets[0].to_vector(), nets[1].to_vector())
    for name, array in fine.state().items():
        np.testing.assert_array_equal(rule.state()[name], array)


# -- weights of samples ----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_weight_counts_as_so_many_samples(optimizer, backend, rng, make, data):
    X, y = data(60)
    counts = rng.integers(0, 4, len(X))
    again = np.repeat(np.arange(len(X)), counts)
    options = {"learning_rate": 0.05, "optimizer": optimizer, "epochs": 5}
    weighted, repeated = make(backend=backend), make(backend=backend)
    one = weighted.gradient(X, y, sample_weight=counts)
    other = repeated.gradient(X[again], y[again])
    np.testing.assert_allclose(one.to_vector(), other.to_vector(), rtol=1e-9, atol=1e-15)
    assert one.loss == pytest.approx(other.loss, rel=1e-12)
    seen = weighted.fit(X, y, batch_size=len(X), sample_weight=counts, **options)
    expected = repeated.fit(X[again], y[again], batch_size=len(again), **options)
    np.testing.assert_allclose(seen.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(weighted.to_vector(), repeated.to_vector(), rtol=1e-6)


def test_a_batch_in_which_nobody_counts_teaches_nothing(backend, make, data):
    X, y = data(20)
    counts = np.zeros(20)
    counts[:10] = 1
    one, two = make(backend=backend), make(backend=backend)
    options = {"epochs": 1, "learning_rate": 0.1, "batch_size": 5, "shuffle": False}
    one.fit(X, y, sample_weight=counts, **options)
    two.fit(X[:10], y[:10], **options)
    np.testing.assert_allclose(one.to_vector(), two.to_vector(), rtol=1e-12)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 19, r"sample_weight .*\(20,\); got \(19,\)"),
        ([1.0] * 19 + [-1], "sample_weight .*at least 0.* -1"),
        ([0.0] * 20, "sample_weight .*not all 0.* 0"),
        ([np.nan] * 20, "sample_weight must be finite"),
        ([1e300] * 20, "sample_weight must be finite"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, message, make, data):
    X, y = data(20)
    net = make(dtype="float32")
    with pytest.raises(ValueError, match=message):
        net.fit(X, y, epochs=1, batch_size=5, learning_rate=0.1, sample_weight=weights)
    with pytest.raises(ValueError, match=message):
        net.gradient(X, y, sample_weight=weights)


# -- what users pass -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: SGD(momentum=1.5), "momentum .*from 0 to 1.* 1.5"),
        (lambda: SGD(momentum=True), "momentum .* True"),
        (lambda: Adam(beta_1=1.0), "beta_1 .*below 1.* 1.0"),
        (lambda: SGD(l2=-1), "l2 .*positive"),
        (lambda: RMSprop(l1=-1), "l1 .*positive"),
        (lambda: RMSprop(rho=1.0), "rho .*below 1.* 1.0"),
        (lambda: AdamW(weight_decay=-1), "weight_decay .*positive"),
        (lambda: SGD(clip_norm=-1), "clip_norm .*positive"),
        (lambda: Adam(beta_1=-0.1), "beta_1 .*from 0.* -0.1"),
        (lambda: Adam(beta_2="x"), "beta_2 .* 'x'"),
        (lambda: Adam(epsilon=0), "epsilon .*positive"),
    ],
)
def test_arguments_that_do_not_fit_are_named(make_it, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_it()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.longdouble, Fraction])
def test_scalars_of_numpy_are_numbers(kind, make, data):
    X, y = data(60)
    rules = [
        (
            SGD(number(0.5), True, number(0.25), number(2)),
            Adam(number(0.5), number(0.75), number(2)),
        )
        for number in (float, kind)
    ]
    for pair in zip(*rules, strict=True):
        one, two = make(), make()
        for net, rule in zip((one, two), pair, strict=True):
            net.fit(X, y, epochs=2, batch_size=5, learning_rate=0.1, optimizer=rule)
        np.testing.assert_array_equal(one.to_vector(), two.to_vector())
    assert SGD(momentum=np.int64(1)).rule() == SGD(momentum=1).rule()
    assert Adam(beta_1=np.uint8(0)).rule() == Adam(beta_1=0).rule()


@pytest.mark.parametrize("value", [np.array([0.1, 0.2]), np.True_, "0.5", np.timedelta64(1, "s")])
@pytest.mark.parametrize("name", ["momentum", "l2", "clip_norm"])
def test_what_is_no_number_for_a_rule(name, value):
    with pytest.raises((TypeError, ValueError), match=f"{name} must be a .*number.*; got "):
        SGD(**{name: value})


@pytest.mark.parametrize("wrong", ["adagrad", None, 1, [SGD()]])
def test_an_unknown_optimizer_is_named_with_the_known_ones(wrong, make, data):
    X, y = data(60)
    with pytest.raises(ValueError, match=r"optimizer .*sgd, momentum, nesterov, adam"):
        make().fit(X, y, epochs=1, batch_size=5, learning_rate=0.1, optimizer=wrong)


def test_both_backends_offer_the_updates():
    for name in ("numba", "numpy"):
        p, v = np.ones((2, 3)), np.zeros((2, 3))
        get_backend(name).momentum_update(p, v, np.ones((2, 3)), 0.1, 0.9)
        np.testing.assert_allclose(p, 0.9)
        np.testing.assert_allclose(v, -0.1)
