"""Activations, losses and their settings, alone and together, beside PyTorch, in float64."""

import copy

import numpy as np
import pytest

from fastbp import SGD, Adam, AdamW, Network, RMSprop, losses, reference

torch = pytest.importorskip("torch", reason="PyTorch is no dependency, nor of the tests")
F = torch.nn.functional

CLOSE = {"rtol": 1e-9, "atol": 1e-12}

# By the names of fastbp.
ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "identity": lambda z: z,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softplus": lambda z: F.softplus(z, threshold=500),  # theirs is the identity from 20 on
    "silu": F.silu,
    "gelu": F.gelu,
}
OUTPUT = ACTIVATIONS | {"softmax": lambda z: F.softmax(z, dim=1), "exp": torch.exp}


def quantile(a, y, q):
    return torch.maximum(q * (y - a), (q - 1) * (y - a))


def smoothed(y, s, even):
    return (1 - s) * y + s * even


# By loss: its settings, and the loss of each sample from z, the output's activation, y and one.
LOSSES = {
    "quadratic": ([None], lambda z, f, y, _: (f(z) - y).square().sum(1) / 2),
    "absolute": ([None], lambda z, f, y, _: F.l1_loss(f(z), y, reduction="none").sum(1)),
    "huber": (
        [1.0, 0.3], lambda z, f, y, d: F.huber_loss(f(z), y, delta=d, reduction="none").sum(1)
    ),
    "quantile": ([0.5, 0.9], lambda z, f, y, q: quantile(f(z), y, q).sum(1)),
    "cross-entropy, softmax": (
        [0.0, 0.1],
        lambda z, f, y, s: F.cross_entropy(z, y, label_smoothing=s, reduction="none"),
    ),
    "cross-entropy, sigmoid": (
        [0.0, 0.1],
        lambda z, f, y, s: F.binary_cross_entropy_with_logits(
            z, smoothed(y, s, 0.5), reduction="none"
        ).sum(1),
    ),
    "poisson": (
        [None], lambda z, f, y, _: F.poisson_nll_loss(z, y, reduction="none").sum(1)
    ),
}  # fmt: skip
FIXED = {"cross-entropy, softmax": "softmax", "cross-entropy, sigmoid": "sigmoid", "poisson": "exp"}
# Loss, setting, output, and what takes PyTorch's part.
CASES = [
    (loss.partition(",")[0], setting, output, of)
    for loss, (settings, of) in LOSSES.items()
    for setting in settings
    for output in ([FIXED[loss]] if loss in FIXED else ACTIVATIONS)
]
CASES.append(("quadratic", None, "softmax", LOSSES["quadratic"][1]))
NAMES = [f"{loss}-{setting}-{output}" for loss, setting, output, _ in CASES]


def tensor(array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def targets(rng, loss, output, shape):
    """What a loss learns: distributions, shares, or numbers about the outputs."""
    if output == "softmax":
        return np.eye(shape[1])[rng.integers(shape[1], size=shape[0])]
    return rng.random(shape) if output in ("sigmoid", "exp", "gelu") else rng.standard_normal(shape)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_slopes_are_pytorch_s(name, rng):
    z = np.concatenate([4 * rng.standard_normal((5, 40)), np.linspace(-30, 30, 200).reshape(5, 40)])
    value, slope, at = np.empty_like(z), np.empty_like(z), tensor(z)
    reference.activate(name, z, value)
    reference.slope(name, z, slope)
    expected = ACTIVATIONS[name](at)
    expected.sum().backward()
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(slope, at.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("loss", "setting", "output", "theirs"), CASES, ids=NAMES)
def test_losses_and_errors_are_pytorch_s(loss, setting, output, theirs, rng):
    z = 2 * rng.standard_normal((30, 4))
    y, at = targets(rng, loss, output, z.shape), tensor(z)
    a, delta, found = np.empty_like(z), np.empty_like(z), np.empty(30)
    reference.output_delta(loss, output, z, y, a, delta, found, setting)
    expected = theirs(at, OUTPUT[output], torch.from_numpy(y), setting)
    expected.sum().backward()
    np.testing.assert_allclose(a, OUTPUT[output](at).detach().numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found, expected.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(delta, at.grad.numpy(), **CLOSE)


# -- whole networks --------------------------------------------------------------------------------


class Twin:
    """PyTorch's part: the same network, from the same start."""

    def __init__(self, net):
        self.layers = [torch.nn.Linear(n, m).double() for m, n in (W.shape for W in net.weights)]
        for layer, W, b in zip(self.layers, net.weights, net.biases, strict=True):
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(W.copy()))
                layer.bias.copy_(torch.from_numpy(b.copy()))
        self.parameters = [p for layer in self.layers for p in (layer.weight, layer.bias)]

    def last(self, X, activations, masks=()):
        """The output layer's z."""
        a = torch.from_numpy(X)
        for l, (layer, name) in enumerate(zip(self.layers[:-1], activations, strict=True)):
            a = ACTIVATIONS[name](layer(a))
            if masks:
                a = a * torch.from_numpy(masks[l])
        return self.layers[-1](a)

    def same(self, weights, biases, grad=False):
        for layer, W, b in zip(self.layers, weights, biases, strict=True):
            for ours, theirs in ((W, layer.weight), (b, layer.bias)):
                expected = theirs.grad if grad else theirs.detach()
                np.testing.assert_allclose(ours, expected.numpy(), **CLOSE)


MADE = {"huber": losses.Huber, "quantile": losses.Quantile, "cross-entropy": losses.CrossEntropy}
LISTS = (
    ["gelu", "tanh", "leaky_relu"], ["relu", "silu", "softplus"], ["elu", "sigmoid", "identity"],
)  # fmt: skip


def made(loss, setting):
    return loss if setting is None else MADE[loss](setting)


def network(hidden, loss, setting, output, backend="numpy"):
    return Network(
        [6, 5, 7, 4, 3], activation=hidden, output=output, loss=made(loss, setting),
        dtype="float64", backend=backend, seed=2,
    )  # fmt: skip


@pytest.mark.parametrize(("loss", "setting", "output", "theirs"), CASES, ids=NAMES)
def test_gradients_of_networks_are_pytorch_s(loss, setting, output, theirs, rng, backend):
    if backend == "numba" and output not in ("identity", *FIXED.values()):
        pytest.skip("each pair would be compiled: `fastbp verify` compares them with the reference")
    hidden = LISTS[len(loss + output) % 3]
    net = network(hidden, loss, setting, output, backend)
    X = rng.standard_normal((12, 6))
    y = targets(rng, loss, output, (12, 3))
    twin, found = Twin(net), net.gradient(X, y)
    expected = theirs(twin.last(X, hidden), OUTPUT[output], torch.from_numpy(y), setting).mean()
    expected.backward()
    assert net.loss(X, y) == pytest.approx(expected.item(), rel=1e-9)
    twin.same(found.weights, found.biases, grad=True)


OPTIMIZERS = {
    "sgd": (SGD(), "SGD", {}),
    "momentum": (SGD(0.9, nesterov=True), "SGD", {"momentum": 0.9, "nesterov": True}),
    "adam": (Adam(), "Adam", {}),
    "adamw": (AdamW(weight_decay=0.1), "AdamW", {"weight_decay": 0.1}),
    "rmsprop": (RMSprop(), "RMSprop", {}),
}
TRAINED = [
    ("huber", 0.3, "identity"), ("absolute", None, "identity"), ("quantile", 0.9, "gelu"),
    ("cross-entropy", 0.1, "softmax"), ("cross-entropy", 0.2, "sigmoid"),
]  # fmt: skip


@pytest.mark.parametrize("which", range(len(TRAINED)), ids=[f"{a}-{c}" for a, _, c in TRAINED])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps_are_pytorch_s(name, which, rng, backend, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # else it stays set
    loss, setting, output = TRAINED[which]
    if backend == "numba" and list(OPTIMIZERS).index(name) != which:
        pytest.skip("each optimiser meets one loss")
    of = LOSSES.get(loss) or LOSSES[f"{loss}, {output}"]
    hidden = LISTS[which % 3]
    net = network(hidden, loss, setting, output, backend)
    X, y = rng.standard_normal((24, 6)), targets(rng, loss, output, (24, 3))
    ours, kind, options = OPTIMIZERS[name]
    twin, options = Twin(net), dict(options)
    decay = options.pop("weight_decay", 0.0)
    groups = [
        {"params": twin.parameters[::2], "weight_decay": decay},
        {"params": twin.parameters[1::2], "weight_decay": 0.0},
    ]
    theirs = getattr(torch.optim, kind)(groups, lr=0.02, **options)
    for _ in range(10):
        theirs.zero_grad()
        z = twin.last(X, hidden)
        of[1](z, OUTPUT[output], torch.from_numpy(y), setting).mean().backward()
        theirs.step()
    start = net.to_vector()
    net.fit(X, y, epochs=10, batch_size=24, learning_rate=0.02, optimizer=copy.deepcopy(ours))
    twin.same(net.weights, net.biases)
    assert abs(net.to_vector() - start).max() > 0.001


def test_gradients_with_a_mask_are_pytorch_s(rng):
    """Of dropout one mask, drawn here: what it draws itself is compared in distribution."""
    hidden = LISTS[0]
    net = network(hidden, "huber", 0.3, "identity")
    X, y = rng.standard_normal((12, 6)), rng.standard_normal((12, 3))
    masks = [(rng.random((12, n)) < 0.7) / 0.7 for n in net.sizes[1:-1]]
    twin = Twin(net)
    model = reference.Model(net.sizes, (*hidden, "identity"), "huber", True, 1.0, 0.3)
    dW, db = ([np.empty_like(p) for p in params] for params in (net.weights, net.biases))
    reference.gradient(model, net.weights, net.biases, X, y, dW, db, masks=masks)
    LOSSES["huber"][1](
        twin.last(X, hidden, masks), OUTPUT["identity"], torch.from_numpy(y), 0.3
    ).mean().backward()
    twin.same(dW, db, grad=True)
