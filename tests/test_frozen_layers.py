"""Frozen layers keep their bits; the others learn as the reference and PyTorch say."""

import copy

import numpy as np
import pytest

from cases import crossed
from fastbp import SGD, Adam, Network
from fastbp.kernels import machine
from fastbp.reference import Targets
from fastbp.reference.records import Rule, new_memory

RULES = {
    "plain": Rule(),
    "L2": Rule(l2=0.01),
    "all": Rule("nesterov", 0.9, l2=0.1, over_sum=True, clip=0.05),
    "adam": Rule("adam", 0.9, 0.999, 1e-8, l2=0.01, clip=0.5),
}
# Sizes, samples, and the share of inputs that are not zero.
NETS = {
    "small": ((20, 9, 5, 4), 50, 1.0),
    "sparse": ((100, 30, 8, 4), 50, 0.1),
    "narrow": ((4, 6, 5, 3), 400, 1.0),
}
TOLERANCE = {"float64": 1e-9, "float32": 2e-3}


@pytest.fixture
def several_blocks(all_take_part, monkeypatch):
    """Zero-skipping rows are in several blocks."""
    monkeypatch.setattr(machine, "BLOCK_BYTES", 2_000)


def trained(backend, kind, batch_size, rule, dtype, weighted, **how):
    sizes, n, density = NETS[kind]
    rng = np.random.default_rng(3)
    X = np.where(rng.random((n, sizes[0])) < density, rng.standard_normal((n, sizes[0])), 0)
    labels, values = rng.integers(0, sizes[-1], n), np.empty((0, sizes[-1]), dtype)
    targets = Targets(labels, values, rng.random(n).astype(dtype) if weighted else np.empty(0))
    net = Network(sizes, "tanh", loss="cross-entropy", dtype=dtype, seed=1, backend=backend)
    memory, start = new_memory(rule, net.params), net.params.copy()
    for slot in memory.slots:  # of a training in which they learned
        slot[:] = abs(start) / 100
    args = net.params, X.astype(dtype), targets, batch_size
    before = start, *memory.slots.copy()
    with net._engine.trainer(*args, rule=rule, memory=memory, **how) as trainer:
        trainer.run(np.arange(n), 0, n, 0.01)
    for flat, old in zip((net.params, *memory.slots), before, strict=True):
        for l in range(1, len(sizes)):
            same = [
                (part(flat, l) == part(old, l)).all()
                for part in (net._layout.matrix, net._layout.row)
            ]
            assert same == [l - 1 in rule.frozen] * 2, (l, same)
    if backend == "numba":  # for the next step
        assert not trainer.work.grads[: net.params.size].any()
    return net, trainer, memory


@crossed(
    rule=list(RULES), kind=list(NETS), frozen=[(0,), (1,), (2,), (0, 2)],
    way=[("dense", "float64", False), ("sparse", "float32", False), ("narrow", "float64", False),
         ("dense", "float64", True)],
)  # fmt: skip
def test_an_epoch_is_the_reference_s_and_they_keep_their_bits(
    rule, kind, frozen, way, several_blocks
):
    path, dtype, weighted = way
    for batch_size in (1, 7, NETS[kind][1]):
        args = kind, batch_size, RULES[rule]._replace(frozen=frozen), dtype, weighted
        want, there, memory = trained("numpy", *args)
        bits = set()
        for threads in (1, 2, 3):
            got, here, ours = trained("numba", *args, threads=threads, path=path)
            bits.add((got.params.tobytes(), here.totals[0].tobytes(), ours.slots.tobytes()))
        assert len(bits) == 1
        assert np.abs(got.to_vector() - want.to_vector()).max() < TOLERANCE[dtype]
        np.testing.assert_allclose(ours.slots, memory.slots, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(here.totals[0], there.totals[0], TOLERANCE[dtype])


PEERS = {
    "plain": (SGD(), "SGD", {}),
    "all": (
        SGD(0.9, True, l2=0.1, clip_norm=0.3), "SGD",
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    "adam": (Adam(l2=0.1, clip_norm=0.3), "Adam", {"weight_decay": 0.1}),
}  # fmt: skip


@pytest.mark.parametrize("frozen", [0, 1, 2])
@pytest.mark.parametrize("name", PEERS)
def test_ten_steps_are_pytorch_s(name, frozen, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency, nor of the tests")
    optimizer, kind, options = PEERS[name]
    net = Network(
        [6, 5, 4, 3], "tanh", output="identity", dtype="float64", seed=0, backend="numpy"
    )  # fmt: skip
    X, y = rng.standard_normal((40, 6)), rng.standard_normal((40, 3))
    layers = [torch.nn.Linear(*pair) for pair in ((6, 5), (5, 4), (4, 3))]
    tanh = torch.nn.Tanh()
    model = torch.nn.Sequential(layers[0], tanh, layers[1], tanh, layers[2]).double()
    with torch.no_grad():
        for layer, W, b in zip(layers, net.weights, net.biases, strict=True):
            layer.weight.copy_(torch.from_numpy(W.copy()))
            layer.bias.copy_(torch.from_numpy(b.copy()))
    layers[frozen].requires_grad_(False)
    decay, learning = options.get("weight_decay", 0.0), [0, 1, 2]
    learning.remove(frozen)
    groups = [
        {"params": [layers[l].weight for l in learning], "weight_decay": decay},
        {"params": [layers[l].bias for l in learning], "weight_decay": 0.0},
    ]
    theirs = getattr(torch.optim, kind)(groups, lr=0.05, **options)
    for _ in range(10):
        theirs.zero_grad()
        loss = ((model(torch.from_numpy(X)) - torch.from_numpy(y)) ** 2).sum(1).mean() / 2
        loss.backward()
        if optimizer.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), optimizer.clip_norm)
        theirs.step()
    net.fit(
        X, y, epochs=10, batch_size=40, learning_rate=0.05, optimizer=copy.deepcopy(optimizer),
        train_layers=learning,
    )  # fmt: skip
    for layer, W, b in zip(layers, net.weights, net.biases, strict=True):
        np.testing.assert_allclose(W, layer.weight.detach().numpy(), rtol=1e-9)
        np.testing.assert_allclose(b, layer.bias.detach().numpy(), rtol=1e-9)


@pytest.fixture
def samples(rng):
    return rng.standard_normal((60, 4)), np.arange(60) % 3


def fitted(X, y=None, seed=0, backend="numpy", sizes=(4, 6, 5, 3), epochs=2, net=None, **options):
    net = net or Network(sizes, loss="cross-entropy", seed=seed, backend=backend)
    options = {"batch_size": 7, "learning_rate": 0.1, **options}
    net.fit(X, y, epochs=epochs, **options)
    return net


def parts(net, l):
    return net.weights[l].tobytes() + net.biases[l].tobytes()


@pytest.mark.parametrize("layers", [[-1], [2], (-1, 2), range(2, 3), np.array([2])])
def test_layers_are_named_as_items_are(layers, samples):
    start, net = Network([4, 6, 5, 3], seed=0), fitted(*samples, train_layers=layers)
    assert [parts(net, l) == parts(start, l) for l in range(3)] == [True, True, False]


def test_all_layers_are_the_default(samples, backend):
    for batch_size in (1, 7):
        options = {"backend": backend, "batch_size": batch_size}
        one, two = (fitted(*samples, train_layers=x, **options) for x in (None, [0, 1, -1]))
        np.testing.assert_array_equal(one.params, two.params)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_on_the_kernels_fit_is_the_reference_s(optimizer, batch_size, samples):
    X, y = samples
    options = {"optimizer": optimizer, "batch_size": batch_size, "learning_rate": 0.01}
    for layers in ([1, 2], [0]):
        want, got = (
            fitted(X, y, backend=backend, train_layers=layers, **options)
            for backend in ("numpy", "numba")
        )
        np.testing.assert_allclose(got.to_vector(), want.to_vector(), atol=1e-5)
        start = Network([4, 6, 5, 3], seed=0)
        assert [parts(got, l) != parts(start, l) for l in range(3)] == [
            l in layers for l in range(3)
        ]


def test_in_chunks_it_is_the_same(samples):
    X, y = samples
    options = {"train_layers": [1], "shuffle": False, "batch_size": 10}
    whole = fitted(X, y, **options)
    chunks = fitted([(X[:30], y[:30]), (X[30:], y[30:])], **options)
    np.testing.assert_array_equal(whole.params, chunks.params)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_checkpoint_knows_them(optimizer, samples, tmp_path, backend):
    path, options = tmp_path / "state", {"optimizer": optimizer, "backend": backend}
    fitted(*samples, epochs=1, train_layers=[-1], checkpoint=path, **options)
    whole = fitted(*samples, epochs=3, train_layers=[2], **options)
    resumed = fitted(*samples, epochs=3, train_layers=[2], resume=path, **options)
    np.testing.assert_array_equal(resumed.params, whole.params)
    for other in (None, [1, 2]):
        with pytest.raises(ValueError, match=r"training with train_layers \[2\]; here it is"):
            fitted(*samples, epochs=3, train_layers=other, resume=path, **options)


def test_an_optimizer_starts_anew_with_other_layers(samples):
    """Adam corrects its moments for the steps taken, which a frozen layer did not take."""
    rule, options = Adam(), {"learning_rate": 0.001, "shuffle": False}
    net = fitted(*samples, optimizer=rule, train_layers=[-1], **options)
    assert rule.steps == 18
    again = copy.deepcopy(net)
    fitted(*samples, net=again, optimizer=rule, train_layers=[2], **options)
    assert rule.steps == 36
    fitted(*samples, net=net, optimizer=rule, **options)
    assert rule.steps == 18


def test_what_was_learnt_before_helps_with_few_samples(digits):
    """A first layer that has learnt the digits tells even from odd ones, after 20 samples."""
    X, y, X_test, y_test = digits
    options = {"input_scale": 1 / 16, "loss": "cross-entropy", "backend": "numpy"}
    known = Network([64, 40, 10], "relu", seed=0, **options)
    known.fit(X[:700], y[:700], epochs=20, batch_size=10, learning_rate=0.1)
    first = known.weights[0], known.biases[0]

    def accuracy(init, layers, seed):
        few = slice(700 + 20 * seed, 720 + 20 * seed)
        net = Network([64, 40, 2], "relu", init=init, seed=seed, **options)
        net.fit(
            X[few], y[few] % 2, epochs=60, batch_size=5, learning_rate=0.05,
            train_layers=layers,
        )  # fmt: skip
        assert (net.weights[0] == first[0]).all() == (layers is not None)
        return net.accuracy(X_test, y_test % 2)

    kept = np.mean([accuracy([first, "lecun_normal"], [-1], seed) for seed in range(6)])
    new = np.mean([accuracy("lecun_normal", None, seed) for seed in range(6)])
    assert kept > new + 0.02, (kept, new)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "train_layers must name at least one layer"),
        ([3], ValueError, "indices of the 3 layers, 0 to 2, or -1 for the last; got 3"),
        ([-4], ValueError, "got -4"),
        ([0.0], ValueError, "got 0.0"),
        ([True], ValueError, "got True"),
        (["last"], ValueError, "got 'last'"),
        (-1, TypeError, r"train_layers must be a list such as \[-1\]; got -1"),
        ("last", TypeError, "must be a list such as .* got 'last'"),
    ],
)
def test_what_names_no_layers_is_refused(layers, error, message, samples):
    with pytest.raises(error, match=message):
        fitted(*samples, train_layers=layers)
