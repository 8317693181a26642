"""Output, delta, loss and hit of the last layer, row by row and with lanes over the batch."""

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp import kernels, reference
from fastbp.kernels.functions import activation_code
from fastbp.kernels.ir.losses import FACTORS
from fastbp.kernels.ir.memory import at, pointer
from fastbp.kernels.losses import loss_code
from fastbp.kernels.walk.losses import output_lanes, output_rows
from fastbp.kernels.walk.records import Matrix, TargetArrays
from fastbp.model.layout import stride
from fastbp.reference.losses import setting_of

# Loss, activation and setting: all that are written out together, and of the others, which go
# together in any way, a few.
KINDS = [
    *((loss, activation, None) for loss, activation in sorted(reference.LOSSES)
      if loss in ("cross-entropy", "poisson")),
    *(("quadratic", name, None) for name in ("sigmoid", "tanh", "relu", "identity", "softmax")),
    ("quadratic", "silu", None), ("absolute", "identity", None), ("absolute", "sigmoid", None),
    ("huber", "identity", None), ("huber", "sigmoid", 0.3), ("huber", "softplus", 0.05),
    ("quantile", "identity", None), ("quantile", "sigmoid", 0.2), ("quantile", "elu", 0.9),
    ("cross-entropy", "softmax", 0.2), ("cross-entropy", "sigmoid", 0.1),
]  # fmt: skip
ANY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
EXACT = "sigmoid", "tanh", "relu", "identity", "softmax", "exp"  # by both twins, at +-1000
SMALL_LOSSES = {  # output: loss of z against y = 1 for the first, 0 for the others
    "sigmoid": lambda mpmath, z: sum(
        mpmath.log1p(mpmath.exp(-x if j == 0 else x)) for j, x in enumerate(z)
    ),
    "softmax": lambda mpmath, z: mpmath.log1p(sum(mpmath.exp(x - z[0]) for x in z[1:])),
}
WIDTHS = (1, 2, 7, 17, 64, 100)
GUARD = -77.0
PROPERTY = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def codes(kind, dtype):
    """The codes that a plan has; a setting that is the default makes no table."""
    loss, activation, setting = kind
    code = loss_code(loss, activation, setting_of(loss, setting), dtype)
    return code, activation_code(activation, dtype)


def storage(rows, n, dtype):
    """Storage rows full of NaN, between guards; and the array around them."""
    around = np.full((rows + 2, stride(n, dtype)), GUARD, dtype)
    around[1:-1] = np.nan
    return around[1:-1], around


def assert_within(around, n):
    """What lies around was not touched, and pads are zero: in all samples without a NaN."""
    assert (around[[0, -1]] == GUARD).all()
    rows = around[1:-1]
    assert not rows[np.isfinite(rows[:, :n]).all(axis=1), n:].any()


def right_sides(activation, a, y):
    """Which samples have sigmoids all on the side of 1/2 of their targets, values."""
    return (activation == "sigmoid") & ((a > 0.5) == (y > 0.5)).all(axis=1)


def output_delta(kind, z, y):
    """Call the kernel; what it writes starts as NaN."""
    batch, n = z.shape
    z, y = z.copy(), y.copy()
    z.flags.writeable = y.flags.writeable = False
    (a, around_a), (delta, around_delta) = storage(batch, n, z.dtype), storage(batch, n, z.dtype)
    losses = np.full(2 * batch + 1, np.nan)
    losses[-1] = GUARD
    kernels.output_delta(*codes(kind, z.dtype), z, y, np.arange(batch), a, delta, losses)
    assert_within(around_a, n)
    assert_within(around_delta, n)
    assert losses[-1] == GUARD
    assert np.array_equal(losses[batch:-1], right_sides(kind[1], a[:, :n], y))
    return a[:, :n].copy(), delta[:, :n].copy(), losses[:batch].copy()


def expected_output(kind, z, y):
    loss, activation, setting = kind
    a, delta, losses = np.empty_like(z), np.empty_like(z), np.empty(len(z))
    reference.output_delta(loss, activation, z, y, a, delta, losses, setting)
    return a, delta, losses


def one_hot(n, classes, dtype):
    return np.eye(n, dtype=dtype)[classes]


def targets_of(rng, batch, n, dtype):
    """Rows of many kinds: one-hot, shares, any real values, and nothing at all."""
    yield one_hot(n, rng.integers(0, n, batch), dtype)
    yield rng.random((batch, n)).astype(dtype)
    yield (3 * rng.standard_normal((batch, n))).astype(dtype)
    yield np.zeros((batch, n), dtype)


def assert_are(found, expected, y, assert_close, where=""):
    """a, delta and losses: 1 and y cancel in a - y, and in slopes 1 does, times y."""
    extra = 4 * np.finfo(y.dtype).eps * np.abs(y).max(initial=1)
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs, dtype=str(y.dtype), extra=extra, where=where)


# -- row by row ------------------------------------------------------------------------------------


@ANY_KIND
def test_the_kernel_is_its_twin(kind, dtype, rng, assert_close):
    for n in WIDTHS:
        for scale in (0.1, 3):
            z = (scale * rng.standard_normal((6, n))).astype(dtype)
            for y in targets_of(rng, 6, n, dtype):
                expected = expected_output(kind, z, y)
                found = output_delta(kind, z, y)
                assert_are(found, expected, y, assert_close, f"n {n}")
                assert np.any(found[2] != 0) or n == 1 or not y.any(), n


@ANY_KIND
def test_any_number_of_outputs_near_zero(kind, dtype, rng, assert_close):
    """Where 1,024 factors 1 + exp(-|z|), each nearly 2, have no finite product."""
    for n in (FACTORS - 1, FACTORS, FACTORS + 1, 600, 2 * FACTORS, 1100, 1300):
        z = (1e-3 * rng.standard_normal((3, n))).astype(dtype)
        for y in targets_of(rng, 3, n, dtype):
            found = output_delta(kind, z, y)
            assert np.isfinite(found[2]).all(), n
            assert_are(found, expected_output(kind, z, y), y, assert_close, f"n {n}")
        if kind == ("cross-entropy", "sigmoid", None):
            zeros = np.zeros((1, n), dtype)
            _, _, (total,) = output_delta(kind, zeros, zeros)
            assert total == pytest.approx(n * np.log(2), rel=1e-13), n


@ANY_KIND
def test_saturated_inputs_are_exact(kind, dtype, assert_close):
    """z = +-1000: outputs are 0 or 1, losses whole, and both twins agree to the last bit."""
    exact = kind[1] in EXACT and kind[2] is None
    z = np.array([[1000, -1000, 0], [-1000, 1000, -1000]], dtype)
    for target in range(3):
        y = one_hot(3, [target, target], dtype)
        found, expected = (
            output_delta(kind, z, y),
            expected_output(kind, z, y),
        )
        assert_are(found, expected, y, assert_close)
        for mine, theirs in zip(found, expected, strict=True):
            assert np.array_equal(mine, theirs) or not exact
        if kind == ("cross-entropy", "softmax", None):
            assert np.array_equal(found[2], z.max(axis=1) - z[:, target])


@ANY_KIND
def test_saturated_lanes_among_others(kind, dtype, rng, assert_close):
    for n in (3, 17, 40):
        for scale in (40, 300):
            z = (scale * rng.standard_normal((5, n))).astype(dtype)
            z[0, rng.integers(n)] = 1000
            z[1] = -1000
            z[2] = 1000
            for y in targets_of(rng, 5, n, dtype):
                expected = expected_output(kind, z, y)
                assert_are(output_delta(kind, z, y), expected, y, assert_close, f"n {n}")


@pytest.mark.parametrize("activation", SMALL_LOSSES)
def test_small_losses_keep_their_digits(activation, dtype):
    """From z, where a is 1 to the last bit: log(a) would be 0."""
    mpmath = pytest.importorskip("mpmath")
    for high in (5, 20, 40, 55):  # differences below 87: exp is a normal float32
        z = np.array([[high, -0.5 * high, -high]], dtype)
        _, _, losses = output_delta(("cross-entropy", activation, None), z, one_hot(3, [0], dtype))
        with mpmath.workdps(40):
            exact = float(SMALL_LOSSES[activation](mpmath, [mpmath.mpf(x) for x in z[0].tolist()]))
        assert 0 < losses[0] == pytest.approx(exact, rel=1e-14 if dtype == "float64" else 1e-6)


@ANY_KIND
def test_a_nan_gives_a_loss_of_nan(kind, dtype):
    """Wherever it stands in its vector, and in its sample only."""
    for n in (3, 40):
        for place in range(n):
            z = np.zeros((3, n), dtype)
            z[1, place] = np.nan
            for target in (0, 1, n - 1):
                y = one_hot(n, [target] * 3, dtype)
                _, _, losses = output_delta(kind, z, y)
                assert np.isnan(losses).tolist() == [False, True, False]


@ANY_KIND
def test_an_infinite_input_has_a_finite_loss_only_where_the_reference_has(kind, dtype):
    for value in (np.inf, -np.inf):
        for target in range(3):
            z = np.zeros((1, 3), dtype)
            z[0, 1] = value
            y = one_hot(3, [target], dtype)
            _, _, losses = output_delta(kind, z, y)
            with np.errstate(invalid="ignore"):
                _, _, expected = expected_output(kind, z, y)
            assert np.array_equal(np.isfinite(losses), np.isfinite(expected))


# -- softmax ---------------------------------------------------------------------------------------


def softmax(z):
    z = z.copy()
    z.flags.writeable = False
    out, around = storage(*z.shape, z.dtype)
    kernels.softmax(z, out)
    assert_within(around, z.shape[1])
    return out[:, : z.shape[1]].copy()


def test_softmax_is_its_twin(dtype, rng, assert_close):
    for n in (*WIDTHS, 600):
        for scale in (1, 30, 1000):
            z = (scale * rng.standard_normal((5, n))).astype(dtype)
            found, expected = softmax(z), np.empty_like(z)
            reference.softmax(z, expected)
            assert_close(found, expected, "contraction")
            assert_close(found.sum(axis=1), np.ones(5, dtype))


def test_softmax_of_a_nan_is_nan(dtype):
    """All of its row, and no other."""
    for n in (5, 40):
        for place in range(n):
            z = np.zeros((3, n), dtype)
            z[1, place] = np.nan
            assert np.isnan(softmax(z)).all(axis=1).tolist() == [False, True, False]
            assert np.isfinite(softmax(z)[[0, 2]]).all()


@PROPERTY
@given(
    z=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20),
    shift=st.integers(-500, 500),
)
def test_softmax_ignores_a_shift(dtype, z, shift):
    """To what rounding z + shift leaves: half a unit of 550 in the exponent."""
    z = np.array([z], dtype)
    found = [softmax(rows) for rows in (z, z + np.dtype(dtype).type(shift))]
    assert np.abs(found[0] - found[1]).max() <= 2 * 550 * np.finfo(dtype).eps


# -- rows of a batch, by number, and hits ----------------------------------------------------------


@numba.njit
def run_rows(loss, code, n, z, which, labels, values, labelled, delta, sums):
    rows = which.size
    targets = TargetArrays(pointer(labels), pointer(values), labelled, pointer(values), False)
    output_rows(
        (loss, code), rows, n, Matrix(pointer(z), z.shape[1]),
        Matrix(pointer(delta), delta.shape[1]), targets, pointer(which),
        (pointer(sums), at(pointer(sums), rows)),
    )  # fmt: skip


def by_rows(kind, z, which, labels=None, values=None):
    """a, delta, losses and hits; the pads of z are NaN, and the other samples' targets too."""
    batch, n = z.shape
    dtype = z.dtype
    (a, around_a), (delta, around_delta) = storage(batch, n, dtype), storage(batch, n, dtype)
    a[:, :n] = z
    sums = np.full(2 * batch + 1, GUARD)
    none, empty = np.empty(0, np.int64), np.empty((0, n), dtype)
    run_rows(
        *codes(kind, dtype), n, a, which, none if labels is None else labels,
        empty if values is None else values, labels is not None, delta, sums,
    )  # fmt: skip
    used = -(-n // (kernels.vector_bytes() // dtype.itemsize))
    used *= kernels.vector_bytes() // dtype.itemsize
    for around in (around_a, around_delta):
        assert (around[[0, -1]] == GUARD).all()
        assert not around[1:-1, n:used].any()
        assert np.isnan(around[1:-1, used:]).all()
    assert sums[-1] == GUARD
    return a[:, :n], delta[:, :n], sums[:batch], sums[batch:-1]


@ANY_KIND
def test_targets_are_those_of_the_samples_numbers(kind, dtype, rng, assert_close):
    """By label and by value: the reference, one pattern of bits, and hits."""
    for n in (1, 3, 16, 17, 100):
        z = rng.standard_normal((6, n)).astype(dtype)
        which = rng.permutation(20)[:6]
        labels = np.full(20, 10**9)
        labels[which] = rng.integers(0, n, 6)
        values = np.full((20, n), np.nan, dtype)
        values[which] = one_hot(n, labels[which], dtype)
        *by_label, hits = by_rows(kind, z, which, labels=labels)
        *by_value, sides = by_rows(kind, z, which, values=values)
        expected = expected_output(kind, z, values[which])
        assert_are(by_label, expected, values[which], assert_close)
        for mine, theirs in zip(by_label, by_value, strict=True):
            assert np.array_equal(mine, theirs)
        assert np.array_equal(hits, expected[0].argmax(axis=1) == labels[which])
        assert np.array_equal(sides, right_sides(kind[1], expected[0], values[which]))
        values[which] = rng.standard_normal((6, n))
        *by_value, sides = by_rows(kind, z, which, values=values)
        expected = expected_output(kind, z, values[which])
        assert_are(by_value, expected, values[which], assert_close)
        assert np.array_equal(sides, right_sides(kind[1], expected[0], values[which]))


def ties(rng, n, dtype):
    """Outputs some of which are equally large; also all of them."""
    yield np.zeros((1, n), dtype)
    for top in (0.5, -0.25, 1000):
        z = np.full((4, n), -0.5, dtype)
        for row in z:
            row[rng.integers(0, n, 3)] = top
        yield z
    yield np.where(rng.random((4, n)) < 0.5, -0.0, 0.0).astype(dtype)  # which are equal


@pytest.mark.parametrize("layout", ["rows", "lanes"])
@ANY_KIND
def test_of_equal_outputs_the_first_one_counts(kind, layout, dtype, rng):
    """For every label, before, at and after the largest ones: as NumPy's argmax says."""
    for n in (2, 3, 16, 17, 40):
        for z in ties(rng, n, dtype):
            for label in range(n):
                labels = np.full(len(z), label)
                if layout == "rows":
                    a, *_, hits = by_rows(kind, z, np.arange(len(z)), labels=labels)
                    assert np.array_equal(hits, a.argmax(axis=1) == label)
                else:
                    a, _, _, hits = by_lanes(kind, z, one_hot(n, labels, dtype))
                    assert hits == (a.argmax(axis=1) == label).sum()


# -- lanes over the batch --------------------------------------------------------------------------


@numba.njit
def run_lanes(loss, code, n, m, row, z, target, labelled, delta, sums):
    targets = pointer(target), labelled
    output_lanes((loss, code), n, m, row, pointer(z), pointer(delta), targets, pointer(sums))


def by_lanes(kind, z, y, labelled=True):
    """a, delta, the sum of the losses and the sum of the hits; what is no sample is NaN."""
    (m, n), dtype = z.shape, z.dtype
    lanes = kernels.vector_bytes() // dtype.itemsize
    used = -(-m // lanes) * lanes
    row = used + lanes
    a, target, delta = (np.full((n + 1, row), np.nan, dtype) for _ in range(3))
    a[n], delta[n] = GUARD, GUARD
    a[:n, :m], target[:n, :m] = z.T, y.T
    sums = np.array([0, 0, GUARD])
    run_lanes(*codes(kind, dtype), n, m, row, a, target, labelled, delta, sums)
    assert sums[2] == GUARD
    for matrix in (a, delta):
        assert (matrix[n] == GUARD).all()
        assert np.isnan(matrix[:n, used:]).all()
    assert not delta[:n, m:used].any()
    return a[:n, :m].T.copy(), delta[:n, :m].T.copy(), sums[0], sums[1]


@ANY_KIND
def test_lanes_over_the_batch_are_the_reference(kind, dtype, rng, assert_close):
    for m in (1, 2, 7, 16, 17, 40):
        for n in (1, 2, 5, 17):
            for scale in (0.1, 3, 300):
                z = (scale * rng.standard_normal((m, n))).astype(dtype)
                for number, y in enumerate(targets_of(rng, m, n, dtype)):
                    found = by_lanes(kind, z, y, labelled=number == 0)
                    *expected, losses = expected_output(kind, z, y)
                    assert_are(found[:2], expected, y, assert_close, f"m {m}, n {n}")
                    assert_close(
                        found[2], losses.sum(), dtype=dtype, extra=4 * m * np.finfo(dtype).eps
                    )
                    # Its own outputs: of two that round to 1, one may lie below in the reference.
                    right = found[0].argmax(axis=1) == y.argmax(axis=1)
                    sides = right_sides(kind[1], found[0], y)
                    assert found[3] == (sides if number else right).sum(), (m, n)


def test_lanes_have_any_number_of_outputs(dtype, rng, assert_close):
    for n in (FACTORS, FACTORS + 1, 1100):
        z = (1e-3 * rng.standard_normal((3, n))).astype(dtype)
        for y in targets_of(rng, 3, n, dtype):
            found = by_lanes(("cross-entropy", "sigmoid", None), z, y)
            expected = expected_output(("cross-entropy", "sigmoid", None), z, y)[2].sum()
            assert_close(found[2], expected, dtype=dtype)


@ANY_KIND
def test_a_nan_in_a_lane_reaches_the_sum(kind, dtype):
    for place in (0, 1, 5, 16, 20):
        z = np.zeros((21, 3), dtype)
        z[place, 1] = np.nan
        a, delta, loss_sum, _ = by_lanes(kind, z, one_hot(3, [1] * 21, dtype))
        assert np.isnan(loss_sum)
        others = np.arange(21) != place
        assert np.isfinite(a[others]).all()
        assert np.isfinite(delta[others]).all()
