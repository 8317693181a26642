"""Output, delta and loss of the last layer."""

import numpy as np
import pytest

from fastbp import kernels, reference

OUTPUTS = sorted(reference.LOSSES)
SMALL_LOSSES = {  # output: loss of z against y = 1 for the first, 0 for the others
    "sigmoid": lambda mpmath, z: sum(
        mpmath.log1p(mpmath.exp(-x if j == 0 else x)) for j, x in enumerate(z)
    ),
    "softmax": lambda mpmath, z: mpmath.log1p(sum(mpmath.exp(x - z[0]) for x in z[1:])),
}


def output_delta(loss, activation, z, y):
    """Call the kernel; what it writes starts as NaN."""
    z, y = z.copy(), y.copy()
    z.flags.writeable = y.flags.writeable = False
    a, delta, losses = np.full_like(z, np.nan), np.full_like(z, np.nan), np.full(len(z), np.nan)
    codes = kernels.LOSS_CODES[loss], kernels.ACTIVATION_CODES[activation]
    kernels.output_delta(*codes, z, y, a, delta, losses)
    return a, delta, losses


def expected_output(loss, activation, z, y):
    a, delta, losses = np.empty_like(z), np.empty_like(z), np.empty(len(z))
    reference.output_delta(loss, activation, z, y, a, delta, losses)
    return a, delta, losses


def one_hot(n, classes, dtype):
    return np.eye(n, dtype=dtype)[classes]


@pytest.mark.parametrize("n", [1, 2, 7, 17, 64, 100])
@pytest.mark.parametrize(("loss", "activation"), OUTPUTS)
def test_the_kernel_is_its_twin(loss, activation, n, dtype, rng, assert_close):
    for scale in (0.1, 3):
        z = (scale * rng.standard_normal((6, n))).astype(dtype)
        for y in (one_hot(n, rng.integers(0, n, 6), dtype), rng.random((6, n)).astype(dtype)):
            expected = expected_output(loss, activation, z, y)
            found = output_delta(loss, activation, z, y)
            for mine, theirs in zip(found, expected, strict=True):
                assert_close(mine, theirs, dtype=dtype, extra=4 * np.finfo(dtype).eps)
            assert np.any(found[2] != 0) or n == 1


@pytest.mark.parametrize(("loss", "activation"), OUTPUTS)
def test_saturated_inputs_are_exact(loss, activation, dtype):
    """z = +-1000: outputs are 0 or 1, losses whole, and both twins agree to the last bit."""
    z = np.array([[1000, -1000, 0], [-1000, 1000, -1000]], dtype)
    for target in range(3):
        y = one_hot(3, [target, target], dtype)
        found, expected = (
            output_delta(loss, activation, z, y),
            expected_output(loss, activation, z, y),
        )
        for mine, theirs in zip(found, expected, strict=True):
            assert np.array_equal(mine, theirs)
        if activation == "softmax" and loss == "cross-entropy":
            assert np.array_equal(found[2], z.max(axis=1) - z[:, target])


@pytest.mark.parametrize("activation", SMALL_LOSSES)
def test_small_losses_keep_their_digits(activation, dtype):
    """From z, where a is 1 to the last bit: log(a) would be 0."""
    mpmath = pytest.importorskip("mpmath")
    for high in (5, 20, 40, 55):  # differences below 87: exp is a normal float32
        z = np.array([[high, -0.5 * high, -high]], dtype)
        _, _, losses = output_delta("cross-entropy", activation, z, one_hot(3, [0], dtype))
        with mpmath.workdps(40):
            exact = float(SMALL_LOSSES[activation](mpmath, [mpmath.mpf(x) for x in z[0].tolist()]))
        assert 0 < losses[0] == pytest.approx(exact, rel=1e-14 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize(("loss", "activation"), OUTPUTS)
def test_a_nan_gives_a_loss_of_nan(loss, activation, dtype):
    for place in range(3):
        z = np.zeros((1, 3), dtype)
        z[0, place] = np.nan
        for target in range(3):
            _, _, losses = output_delta(loss, activation, z, one_hot(3, [target], dtype))
            assert np.isnan(losses[0])
