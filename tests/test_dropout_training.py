"""Training with dropout: which neurons are left out, and that nothing else shows."""

import copy

import numpy as np
import pytest

import fastbp
from cases import crossed
from fastbp import Network, reference
from fastbp.errors import DivergenceError
from fastbp.training import loop, sources

RATES = [0.3, 0.5]


@pytest.fixture
def samples(rng):
    return rng.standard_normal((60, 4)), np.arange(60) % 3


def network(backend="numpy", sizes=(4, 18, 9, 3), **options):
    options = {"loss": "cross-entropy", "dtype": "float64", "dropout": RATES, "seed": 0, **options}
    return Network(sizes, "tanh", backend=backend, **options)


def fitted(X, y=None, net=None, backend="numpy", epochs=2, **options):
    net = net or network(backend)
    options = {"batch_size": 7, "learning_rate": 0.1, **options}
    history = net.fit(X, y, epochs=epochs, **options)
    return net, history


def bits(net, history):
    """All that a training leaves: parameters, what it drew, losses."""
    state = repr(net.rng.bit_generator.state)
    return net.params.tobytes(), state, history.loss, history.accuracy


# -- what is drawn ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_takes_the_masks_of_the_key_drawn_behind_its_order(shuffle, samples, backend):
    X, y = samples
    net, history = fitted(X, y, backend=backend, shuffle=shuffle)
    twin, rng = network(), np.random.default_rng()
    rng.bit_generator.state = copy.deepcopy(network().rng.bit_generator.state)
    model, losses = twin._config.model(), []
    for _ in range(2):
        order = rng.permutation(60) if shuffle else np.arange(60)
        key = int(rng.integers(2**64, dtype=np.uint64))
        steps = reference.sgd_epoch(
            model, *twin._layout.views(twin.params), X, lambda batch: np.eye(3)[y[batch]], order,
            7, 0.1, lambda batch, key=key: reference.masks(model, key, batch, twin.dtype),
        )  # fmt: skip
        losses.append(sum(found.sum() for _, found, _ in steps) / 60)
    np.testing.assert_allclose(net.to_vector(), twin.to_vector(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-10)
    assert net.rng.bit_generator.state == rng.bit_generator.state


def test_with_a_rate_of_zero_nothing_is_drawn_and_the_bits_are_those_without(samples, backend):
    without = bits(*fitted(*samples, net=network(backend, dropout=0.0)))
    assert bits(*fitted(*samples, net=network(backend, dropout=[0.0, 0.0]))) == without
    plain, _ = fitted(*samples, net=network(backend, dropout=0.0), shuffle=False)
    assert repr(plain.rng.bit_generator.state) == repr(network().rng.bit_generator.state)
    tiny, _ = fitted(
        *samples, net=network(backend, dropout=1e-12), shuffle=False
    )  # of 32 bits none
    np.testing.assert_allclose(tiny.params, plain.params, rtol=1e-9, atol=1e-11)


def test_what_does_not_train_leaves_nobody_out(samples, backend):
    X, y = samples
    net, without = network(backend), network(backend, dropout=0.0)
    before = repr(net.rng.bit_generator.state)
    for call in (
        lambda net: net.feedforward(X),
        lambda net: net.feedforward(X[0]),
        lambda net: net.loss(X, y),
        lambda net: net.accuracy(X, y),
        lambda net: net.gradient(X, y).to_vector(),
        lambda net: net.gradient(X[:1], y[:1]).to_vector(),
        lambda net: net.backprop(X[0], y[0])[1][0],
    ):
        np.testing.assert_allclose(call(net), call(without), rtol=1e-12)
    assert repr(net.rng.bit_generator.state) == before


def test_validation_counts_all_neurons(samples, backend):
    X, y = samples
    net, history = fitted(X, y, backend=backend, epochs=1, validation_data=(X, y))
    assert history.val_loss[0] == pytest.approx(net.loss(X, y), rel=1e-12)


def test_a_step_by_hand_leaves_out_too(samples, backend):
    X, y = samples
    net, twin = network(backend), network()
    net.update_mini_batch(X, y, 0.1)
    key = int(twin.rng.integers(2**64, dtype=np.uint64))
    model = twin._config.model()
    masks = reference.masks(model, key, np.arange(60), twin.dtype)
    views = twin._layout.views(twin.params)
    reference.sgd_step(model, *views, X, np.eye(3)[y], 0.1, masks)
    np.testing.assert_allclose(net.to_vector(), twin.to_vector(), rtol=1e-9, atol=1e-12)
    assert repr(net.rng.bit_generator.state) == repr(twin.rng.bit_generator.state)


# -- the same bits ---------------------------------------------------------------------------------


@crossed(batch_size=[1, 7, 60], optimizer=["sgd", "adam"], kind=["dense", "weighted"])
def test_slices_do_not_show(batch_size, optimizer, kind, samples, backend, monkeypatch):
    options = {"batch_size": batch_size, "optimizer": optimizer, "learning_rate": 0.01}
    if kind == "weighted":
        options["sample_weight"] = np.linspace(0.1, 2, 60)
    whole = bits(*fitted(*samples, backend=backend, **options))
    monkeypatch.setattr(loop, "SLICE_SECONDS", 0)
    assert bits(*fitted(*samples, backend=backend, **options)) == whole


def test_many_epochs_on_one_order_have_a_key_each(samples, backend):
    """Without dropout, a call takes many of them where nobody looks between."""

    class Looks:
        def on_epoch_end(self, net, history):
            pass

    options = {"backend": backend, "shuffle": False, "epochs": 40}
    assert bits(*fitted(*samples, callbacks=[Looks()], **options)) == bits(
        *fitted(*samples, **options)
    )


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_resumed_after_any_step_it_ends_with_the_same_bits(
    optimizer, samples, backend, monkeypatch, tmp_path
):
    monkeypatch.setattr(loop, "SLICE_SECONDS", 0)
    path, options = tmp_path / "state", {"optimizer": optimizer, "backend": backend}
    whole = bits(*fitted(*samples, **options))
    right = loop.Loop._end_slice
    for steps in range(1, 19):
        left = [steps]

        def stop(self, count, left=left):
            right(self, count)
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        monkeypatch.setattr(loop.Loop, "_end_slice", stop)
        with pytest.raises(KeyboardInterrupt):
            fitted(*samples, checkpoint=path, **options)
        monkeypatch.setattr(loop.Loop, "_end_slice", right)
        assert bits(*fitted(*samples, resume=path, **options)) == whole, steps


def test_a_checkpoint_is_of_its_dropout(samples, tmp_path):
    path = tmp_path / "state"
    fitted(*samples, epochs=1, checkpoint=path)
    with pytest.raises(ValueError, match="dropout"):
        fitted(*samples, net=network(dropout=0.2), resume=path)


@pytest.mark.parametrize("seconds", [0, 10])
def test_a_divergence_is_found_where_it_is_with_the_same_masks(
    seconds, samples, backend, monkeypatch
):
    """Going back and forth to the bad step, the network keeps the weights from before it."""
    X = samples[0]
    Y = np.ones((60, 1)) * [1, 2, 3]
    X[41] = Y[41] = 1e200
    monkeypatch.setattr(loop, "SLICE_SECONDS", seconds)
    net, twin = (network(backend, loss="quadratic", output="identity") for _ in range(2))
    options = {"batch_size": 1, "shuffle": False, "learning_rate": 1e-3}
    with pytest.raises(DivergenceError, match="step 42, layer 3 of 3"):
        fitted(X, Y, net=net, **options)
    key = int(twin.rng.integers(2**64, dtype=np.uint64))
    model = twin._config.model()
    for i in range(41):
        masks = reference.masks(model, key, np.array([i]), twin.dtype)
        views = twin._layout.views(twin.params)
        reference.sgd_step(model, *views, X[i : i + 1], Y[i : i + 1], 1e-3, masks)
    np.testing.assert_allclose(net.to_vector(), twin.to_vector(), rtol=1e-9, atol=1e-12)


def test_a_divergence_by_what_stays_counting_more_is_in_that_layer(backend):
    """Activations are infinite with the mask alone: 32 times what they are without."""
    net = Network(
        [2, 64, 2], "relu", output="identity", dropout=1 - 2**-5, backend=backend, seed=0
    )  # fmt: skip
    net.weights[0][:], net.weights[1][:] = 1.5e37, 0
    with pytest.raises(DivergenceError, match=r"activations were .* layer 1 of 2"):
        net.update_mini_batch(np.ones((8, 2)), np.ones((8, 2)), 0.1)


# -- where samples come from -----------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 3])
def test_a_memory_map_trains_as_its_array(window, samples, backend, monkeypatch, tmp_path):
    X, y = samples
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    row = X[:1].nbytes + np.zeros((1, 3)).nbytes
    whole = bits(*fitted(X, y, backend=backend, validation_split=0.2))
    monkeypatch.setattr(sources, "WINDOW_COPIES", 0)
    monkeypatch.setattr(sources, "WINDOW_BYTES", 7 * window * row)
    assert bits(*fitted(mapped, y, backend=backend, validation_split=0.2)) == whole


def test_each_chunk_has_a_key_of_its_own(samples, backend):
    """Twice the same chunk: other neurons are left out."""
    X, y = samples
    net, _ = fitted([(X, y), (X, y)], backend=backend, epochs=1, batch_size=60)
    twin = network()
    for _ in range(2):
        twin.update_mini_batch(X, y, 0.1)
    np.testing.assert_allclose(net.to_vector(), twin.to_vector(), rtol=1e-9, atol=1e-12)


def test_chunks_draw_their_keys_behind_their_orders(samples, backend):
    X, y = samples
    net, _ = fitted([(X, y)], backend=backend)
    whole, _ = fitted(X, y, backend=backend)
    np.testing.assert_allclose(net.to_vector(), whole.to_vector(), rtol=1e-12)


# -- what else trains ------------------------------------------------------------------------------


def test_the_finder_compares_losses_with_dropout(digits):
    """A network that knows its data: with dropout its losses are far above those without."""
    X, y = digits[0][:300], digits[1][:300]
    net = Network(
        [64, 20, 10], "relu", loss="cross-entropy", input_scale=1 / 16, seed=0, dropout=0.5,
    )  # fmt: skip
    net.fit(X, y, epochs=15, batch_size=10, learning_rate=0.1)
    before = net.to_vector().tobytes(), repr(net.rng.bit_generator.state)
    options = {"batch_size": 10, "start": 1e-4, "end": 10}
    found, again = (fastbp.find_learning_rate(net, X, y, **options) for _ in range(2))
    assert 1e-3 < found.suggestion < 1
    np.testing.assert_array_equal(found.losses, again.losses)
    assert (net.to_vector().tobytes(), repr(net.rng.bit_generator.state)) == before


def test_frozen_layers_keep_their_bits(samples, backend):
    start = network(backend)
    net, _ = fitted(*samples, backend=backend, train_layers=[1])
    same = [(net.weights[l] == start.weights[l]).all() for l in range(3)]
    assert same == [True, False, True]
    twin, _ = fitted(*samples, train_layers=[1])
    np.testing.assert_allclose(net.to_vector(), twin.to_vector(), rtol=1e-9, atol=1e-11)


# -- beside PyTorch --------------------------------------------------------------------------------


@pytest.fixture
def twins():
    """A network, and PyTorch's of the same weights, both with dropout."""
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency, nor of the tests")
    net = network("numba", sizes=(5, 24, 12, 3), output="identity", loss="quadratic")
    layers = [torch.nn.Linear(*pair) for pair in ((5, 24), (24, 12), (12, 3))]
    tanh, drops = torch.nn.Tanh(), [torch.nn.Dropout(p) for p in RATES]
    model = torch.nn.Sequential(
        layers[0], tanh, drops[0], layers[1], tanh, drops[1], layers[2]
    ).double()
    with torch.no_grad():
        for layer, W, b in zip(layers, net.weights, net.biases, strict=True):
            layer.weight.copy_(torch.from_numpy(W.copy()))
            layer.bias.copy_(torch.from_numpy(b.copy()))
    torch.manual_seed(0)
    return net, torch, model, layers


def assert_alike(mine, theirs):
    """Of draws, (n, ...), means and variances are alike as far as chance allows."""
    for x, y in ((mine, theirs), ((mine - mine.mean(0)) ** 2, (theirs - theirs.mean(0)) ** 2)):
        apart = x.mean(0) - y.mean(0)
        errors = np.sqrt((x.var(0) + y.var(0)) / len(x))
        assert (np.abs(apart) <= 5 * errors).all(), np.abs(apart / errors).max()


def test_activations_are_distributed_as_pytorch_s(twins):
    net, torch, model, _ = twins
    x, n = np.linspace(-1, 1, 5), 20_000
    same = np.tile(x, (n, 1))
    masks = reference.masks(net._config.model(), 77, np.arange(n), net.dtype)
    found, _ = reference.forward(net._config.model(), net.weights, net.biases, same, masks)
    model.train()
    theirs = torch.from_numpy(same)
    with torch.no_grad():
        for number, module in enumerate(model):
            theirs = module(theirs)
            if number in (2, 5, 6):
                assert_alike(found[{2: 1, 5: 2, 6: 3}[number]], theirs.numpy())


def test_gradients_are_distributed_as_pytorch_s(twins, rng):
    """Those of steps that `update_mini_batch` takes."""
    net, torch, model, layers = twins
    X, y, start = rng.standard_normal((4, 5)), rng.standard_normal((4, 3)), net.to_vector()
    mine, theirs = [[], [], []], [[], [], []]
    model.train()
    for _ in range(600):
        before = [W.copy() for W in net.weights]
        net.update_mini_batch(X, y, 2**-10)
        for grads, old, new in zip(mine, before, net.weights, strict=True):
            grads.append((old - new) * 2**10)
        net.from_vector(start)
        model.zero_grad()
        loss = ((model(torch.from_numpy(X)) - torch.from_numpy(y)) ** 2).sum(1).mean() / 2
        loss.backward()
        for grads, layer in zip(theirs, layers, strict=True):
            grads.append(layer.weight.grad.numpy().copy())
    for ours, others in zip(mine, theirs, strict=True):
        assert_alike(np.array(ours), np.array(others))
