"""Dropout: masks that the same numbers always bring, right in their statistics."""

import numpy as np
import pytest

from fastbp import reference
from fastbp.reference import Model, dropout

# "threefry2x32" of tests/kat_vectors in Random123 1.14: rounds, counter, key, both words.
PI = 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344
ONES = (0xFFFFFFFF,) * 4
VECTORS = [
    (13, (0,) * 4, (0x9D1C5EC6, 0x8BD50731)),
    (13, ONES, (0xFD36D048, 0x2D17272C)),
    (13, PI, (0xBA3E4725, 0xF27D669E)),
    (20, (0,) * 4, (0x6B200159, 0x99BA4EFE)),
    (20, ONES, (0x1CB996FC, 0xBB002BE7)),
    (20, PI, (0xC4923A9C, 0x483DF7A0)),
    (32, (0,) * 4, (0xCEE3D47E, 0xA23DFD5C)),
    (32, ONES, (0x6E2FE0D0, 0xB1B76F82)),
    (32, PI, (0xE2827716, 0xC3C05CDF)),
]
KEY = 0x0123_4567_89AB_CDEF


def model_of(sizes, rates):
    return Model(sizes, ("tanh",) * (len(sizes) - 1), "quadratic", True, 1.0, dropout=rates)


def masks(sizes, rates, n, key=KEY, dtype="float64"):
    return reference.masks(model_of(sizes, rates), key, np.arange(n), np.dtype(dtype))


@pytest.mark.parametrize(("rounds", "words", "expected"), VECTORS)
def test_threefry_gives_the_published_vectors(rounds, words, expected):
    counter = np.array([words[0]]), np.array([words[1]])
    found = dropout.threefry(words[2:], counter, rounds)
    assert [int(word[0]) for word in found] == list(expected)


def test_masks_take_the_words_that_they_say():
    """Neuron by neuron, as the docstring has it; the upper word of the key runs over."""
    key, sizes, rates = 2**64 - 7, (3, 40, 5, 35, 2), (0.25, 0.0, 0.6)
    samples = np.array([5, 2**32 + 5, 77])
    found = reference.masks(model_of(sizes, rates), key, samples, np.dtype("float32"))
    assert found[1] is None
    for l in (1, 3):
        words = key % 2**32, ((key >> 32) + l) % 2**32
        p = rates[l - 1]
        for i, j in np.ndindex(3, sizes[l]):
            word = dropout.threefry(words, (np.array([j // 2]), samples[i : i + 1]))[j % 2]
            expected = 0 if word < round(p * 2**32) else np.float32(1 / (1 - p))
            assert found[l - 1][i, j] == expected
    assert found[0].dtype == np.float32
    assert (found[0][0] == found[0][1]).all()  # 32 bits of a sample's number count
    assert (found[0][0] != found[0][2]).any()


def test_no_dropout_has_no_masks():
    assert masks((3, 4, 2), (), 5) is None
    assert masks((3, 4, 2), (0.0,), 5) is None


def test_rates_close_to_their_ends():
    """The largest probability below 1 leaves something of 32 bits; a tiny one leaves out none."""
    assert dropout.threshold(np.nextafter(1, 0)) == 2**32 - 1
    assert dropout.factor(np.nextafter(1, 0)) == 2.0**32
    assert dropout.threshold(1e-12) == 0
    assert dropout.factor(1e-12) == 1.0
    assert dropout.factor(0.3) == pytest.approx(1 / 0.7, rel=1e-9)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_as_many_are_left_out_as_was_asked_for_in_each_neuron_and_sample(p):
    (mask,) = masks((3, 96, 2), (p,), 4000)
    dropped = mask == 0
    assert_like_chance(dropped.mean(), p, dropped.size)
    for axis in (0, 1):
        assert_like_chance(dropped.mean(axis=axis), p, dropped.shape[axis])
    assert np.unique(mask[~dropped]).tolist() == [dropout.factor(p)]
    assert abs(mask.mean() - 1) < 5 * np.sqrt(p / (1 - p) / mask.size)


def assert_like_chance(rates, p, n):
    """Shares of n draws lie about p as far as chance brings them, and no nearer."""
    away = (np.atleast_1d(rates) - p) / np.sqrt(p * (1 - p) / n)
    assert np.abs(away).max() < 4.5
    if away.size > 90:
        assert 0.7 < away.std() < 1.3


def test_neurons_samples_epochs_and_layers_do_not_follow_each_other():
    """Correlations of what is left out are those of chance: as large as 1 / sqrt(n)."""
    p, n, width = 0.5, 4096, 64
    first, second = masks((3, width, width, 2), (p, p), n)
    others = [masks((3, width, 2), (p,), n, key)[0] for key in (KEY + 1, ~KEY % 2**64)]
    signs = np.sign(first - 1)
    away = np.corrcoef(signs.T)[np.triu_indices(width, 1)] * np.sqrt(n)  # neuron by neuron
    assert np.abs(away).max() < 5
    assert 0.9 < away.std() < 1.1
    for other in (second, *others):  # each neuron with each
        together = (signs.T @ np.sign(other - 1)) / np.sqrt(n)
        assert np.abs(together).max() < 5
        assert 0.9 < together.std() < 1.1
    for lag in (1, 2, 3, 16, 32):  # sample by sample
        together = (signs[lag:] * signs[:-lag]).sum(axis=0) / np.sqrt(n - lag)
        assert np.abs(together).max() < 4.5


def test_each_pattern_of_neighbours_is_as_frequent():
    """Chi-squared of the 256 patterns of eight neurons in a row, 255 expected."""
    (mask,) = masks((3, 64, 2), (0.5,), 4000)
    codes = np.packbits((mask == 0).astype(np.uint8), axis=1)
    counts = np.bincount(codes.ravel(), minlength=256)
    expected = codes.size / 256
    chi = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi - 255) < 4 * np.sqrt(2 * 255)


# -- the reference's passes ------------------------------------------------------------------------


def test_backprop_with_a_mask_is_the_slope_of_the_loss_with_that_mask(make_net, rng, assert_close):
    net = make_net((3, 6, 5, 2), hidden=["tanh", "silu"], dropout=(0.4, 0.3))
    X, y = rng.standard_normal((4, 3)), rng.random((4, 2))
    left = reference.masks(net.model, KEY, np.array([3, 0, 8, 1]), np.dtype("float64"))
    views, grads = net.layout.views, net.layout.zeros()
    losses = reference.gradient(net.model, *views(net.params), X, y, *views(grads), masks=left)
    slopes, step = net.layout.zeros(), 1e-5
    for part, slope in zip(parts(net, net.params), parts(net, slopes), strict=True):
        for i in np.ndindex(part.shape):
            found, old = [], part[i]
            for part[i] in (old - step, old + step):
                found.append(
                    reference.evaluate(net.model, *views(net.params), X, y, left)[0].mean()
                )
            part[i] = old
            slope[i] = (found[1] - found[0]) / (2 * step)
    without = reference.evaluate(net.model, *views(net.params), X, y)[0]
    assert not np.allclose(losses, without)
    for mine, theirs in zip(parts(net, slopes), parts(net, grads), strict=True):
        assert theirs.any()
        assert_close(mine, theirs, "differences")


def parts(net, flat):
    weights, biases = net.layout.views(flat)
    return [*weights, *biases]


@pytest.mark.parametrize("by_rule", [False, True])
def test_each_batch_of_an_epoch_has_the_masks_of_its_samples(by_rule, make_net, rng):
    net = make_net((3, 8, 2), dropout=(0.5,))
    X, y, order = rng.standard_normal((7, 3)), rng.random((7, 2)), rng.permutation(7)
    asked, views = [], net.layout.views

    def masks_of(samples):
        asked.append(samples)
        return reference.masks(net.model, KEY, samples, np.dtype("float64"))

    params = net.copy_params()
    some = net.model, *views(params), X, lambda batch: y[batch], order, 3, 0.1
    if by_rule:
        more = reference.records.Rule("momentum"), [views(net.layout.zeros())], 0, None
        steps = reference.optimizer_epoch(*some, *more, masks_of)
    else:
        steps = reference.sgd_epoch(*some, masks_of)
    first = next(iter(steps))
    left = reference.masks(net.model, KEY, order[:3], np.dtype("float64"))
    expected = reference.evaluate(net.model, *views(net.params), X[order[:3]], y[order[:3]], left)
    assert (first[1] == expected[0]).all()
    assert (first[2] == expected[1]).all()
    grads = net.layout.zeros()
    given = X[order[:3]], y[order[:3]], *views(grads)
    reference.gradient(net.model, *views(net.params), *given, masks=left)
    np.testing.assert_allclose(params, net.params - 0.1 * grads, rtol=1e-12, atol=1e-14)
    list(steps)
    assert [list(samples) for samples in asked] == [list(order[i : i + 3]) for i in (0, 3, 6)]
