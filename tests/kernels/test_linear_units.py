"""ELU, softplus, SiLU and GELU: how many units in the last place value and slope miss by."""

import numpy as np
import pytest

from fastbp import get_backend

mpmath = pytest.importorskip("mpmath")

# Where the result is a normal number, from the left tail on.
ENDS = {
    "elu": ((-120, 20), (-800, 40)),
    "softplus": ((-87, 30), (-708, 60)),
    "silu": ((-91, 30), (-714, 60)),
    "gelu": ((-13.1, 8), (-37.4, 10)),
}


def logistic(z):
    return 1 / (1 + mpmath.exp(-z))


def normal(z):
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


# Value and slope; the units that they may miss by, of the slope in multiples of epsilon, which is
# half a unit of one: the slopes of SiLU and GELU have a zero.
EXACT = {
    "elu": (lambda z: z if z > 0 else mpmath.expm1(z), lambda z: mpmath.exp(min(z, 0)), 1.2, 0.5),
    "softplus": (lambda z: mpmath.log1p(mpmath.exp(z)), logistic, 1.6, 0.5),
    "silu": (lambda z: z * logistic(z), lambda z: logistic(z) * (1 + z * logistic(-z)), 2.1, 1.5),
    "gelu": (
        lambda z: z * normal(z),
        lambda z: normal(z) + z * mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi),
        5.6,
        1.2,
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_and_slopes_are_within_their_units(name, dtype, rng):
    """Against 40 digits: evenly from end to end, densely around zero, down to tiny arguments."""
    low, high = ENDS[name][dtype == "float64"]
    tiny = np.exp(rng.uniform(-60, 0, 500)) * rng.choice([-1, 1], 500)
    z = [np.linspace(low, high, 1500), rng.uniform(-2, 2, 1000), rng.uniform(-10, 0, 500), tiny]
    z = np.concatenate(z).astype(dtype)
    *exact, most_units, most_eps = EXACT[name]
    for of, form, end in zip(exact, (name, f"{name}_prime"), (most_units, most_eps), strict=True):
        found = getattr(get_backend("numba"), form)(z)
        with mpmath.workdps(40):
            wanted = [of(mpmath.mpf(x)) for x in z.tolist()]
            missed = [abs(mpmath.mpf(f) - w) for f, w in zip(found.tolist(), wanted, strict=True)]
        units = np.finfo(dtype).eps
        if form == name:
            units = np.spacing(np.abs([float(w) for w in wanted]).astype(dtype))
        worst = np.array([float(m) for m in missed]) / units.astype(np.float64)
        assert worst.max() < end, f"{form} at {z[worst.argmax()]}"


def test_the_left_tail_ends_where_results_are_no_normal_numbers(dtype):
    """Not where an exponential does, of which a result is a multiple."""
    info = np.finfo(dtype)
    for name in ("silu", "gelu"):
        low = -95.0 if dtype == "float32" else -720.0
        z = np.linspace(low if name == "silu" else -40, -5, 5000).astype(dtype)
        found, (of, *_) = getattr(get_backend("numba"), name)(z), EXACT[name]
        with mpmath.workdps(30):
            wanted = np.array([float(of(mpmath.mpf(x))) for x in z.tolist()])
        size, missed = np.abs(wanted), np.abs(found - wanted)
        assert (missed <= np.where(size < info.tiny, info.tiny / 16, 5 * info.eps * size)).all()


def test_a_rising_input_never_gives_a_falling_elu(dtype):
    z = np.concatenate([np.linspace(-40, 10, 300_000), np.linspace(-2, 2, 300_000)])
    assert (np.diff(get_backend("numba").elu(np.sort(z.astype(dtype)))) >= 0).all()


def test_leaky_relu_is_the_reference_to_the_bit(dtype, rng):
    z = np.concatenate([rng.standard_normal(1000), [0.0, -0.0, 1e30, -1e30]]).astype(dtype)
    for name in ("leaky_relu", "leaky_relu_prime"):
        fast, slow = (getattr(get_backend(b), name)(z) for b in ("numba", "numpy"))
        assert fast.tobytes() == slow.tobytes()
