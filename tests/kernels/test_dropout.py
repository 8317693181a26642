"""The routines that draw masks: bit by bit those of the reference."""

import numba
import numpy as np
import pytest

from fastbp import reference
from fastbp.kernels.ir.dropout import FIRST, KEY, TABLE, drop_lanes, drop_rows
from fastbp.kernels.ir.memory import at, pointer
from fastbp.kernels.machine import CPU
from fastbp.model.layout import stride
from fastbp.reference import Model, dropout

EPOCH = 0xFEDC_BA98_7654_3210
LAYER = 3


@numba.njit
def by_rows(by, l, threshold, n, v, which, a, slope):
    row, other = a.shape[1], slope.shape[1]
    place, beside = at(pointer(a), v), pointer(slope)
    drop_rows(
        pointer(by), l, threshold, len(which), n, v, pointer(which), place, row, beside, other
    )


@numba.njit
def by_lanes(by, l, threshold, m, which, a, slope):
    n, row = a.shape
    drop_lanes(pointer(by), l, threshold, n, m, pointer(which), pointer(a), pointer(slope), row)


def drawn_by(key=EPOCH, first=0, table=None):
    by = np.zeros(3, np.uint64)
    by[KEY], by[FIRST], by[TABLE] = key, first, 0 if table is None else table.ctypes.data
    return by.view(np.int64)


def expected(n, samples, p, dtype, key=EPOCH):
    """The reference's mask of a layer of n neurons."""
    sizes, rates = (1,) * LAYER + (n, 1), (0.0,) * (LAYER - 1) + (p,)
    model = Model(sizes, ("tanh",) * (LAYER + 1), "quadratic", True, 1.0, dropout=rates)
    return reference.masks(model, key, samples, np.dtype(dtype))[-1]


@pytest.mark.parametrize("n", [1, 15, 16, 17, 32, 33, 100])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_have_the_masks_of_the_reference(n, dtype, rng):
    which = np.array([4, 0, 2**31 + 1, 9])
    a = np.zeros((4, stride(n, dtype)), dtype)
    a[:, :n] = rng.standard_normal((4, n))
    slope = 2 * a
    mask = expected(n, which, 0.4, dtype)
    wanted = a[:, :n] * mask
    by_rows(drawn_by(), LAYER, dropout.threshold(0.4), n, 0, which, a, slope)
    assert (a[:, :n] == wanted).all()
    assert (slope == 2 * a).all()
    assert not a[:, n:].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_columns_of_a_team_have_their_part_of_the_masks(dtype, rng):
    """From any vector on, as many as there are: nothing else is touched."""
    n, which = 100, np.arange(3)
    lanes = CPU.vector_bytes // np.dtype(dtype).itemsize
    mask = expected(n, which, 0.4, dtype)
    for v in range(0, n, lanes):
        for width in {lanes, 3 * lanes, n - v}:
            width = min(width, n - v)
            a = np.ones((3, stride(n, dtype)), dtype)
            slope = np.ones((3, stride(width, dtype)), dtype)
            by_rows(drawn_by(), LAYER, dropout.threshold(0.4), width, v, which, a, slope)
            end = v + width
            whole = -(-end // lanes) * lanes
            assert (a[:, v:end] == mask[:, v:end]).all()
            assert (slope[:, :width] == mask[:, v:end]).all()
            assert (a[:, :v] == 1).all()
            assert (a[:, whole:] == 1).all()


@pytest.mark.parametrize("m", [1, 4, 16, 37])
@pytest.mark.parametrize("n", [1, 16, 21, 32, 70])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lanes_have_the_masks_of_the_reference(n, m, dtype, rng):
    lanes = CPU.vector_bytes // np.dtype(dtype).itemsize
    which = rng.permutation(m)
    width = -(-m // lanes) * lanes
    a = np.ones((n, width + lanes), dtype)
    slope = np.full_like(a, 3)
    by_lanes(drawn_by(), LAYER, dropout.threshold(0.7), m, which, a, slope)
    mask = expected(n, which, 0.7, dtype).T
    assert (a[:, :m] == mask).all()
    assert (slope[:, :m] == 3 * mask).all()
    assert (a[:, width:] == 1).all()


def test_numbers_of_samples_count_on_or_stand_in_a_table():
    which, table = np.array([3, 0, 2]), np.array([70, 80, 90, 2**33 + 5])
    for by, numbers in (
        (drawn_by(first=1000), 1000 + which),
        (drawn_by(table=table), table[which]),
        (drawn_by(first=7, table=table), 7 + table[which]),
    ):
        a, b = np.ones((3, 64)), np.ones((64, 16))
        by_rows(by, LAYER, dropout.threshold(0.5), 64, 0, which, a, a.copy())
        by_lanes(by, LAYER, dropout.threshold(0.5), 3, which, b, b.copy())
        mask = expected(64, numbers, 0.5, "float64")
        assert (a == mask).all()
        assert (b[:, :3].T == mask).all()


def test_the_layer_counts_in_the_upper_word_of_the_key():
    """It runs over without touching the lower word."""
    key, which, a = 2**64 - 1, np.arange(5), np.ones((5, 64))
    by_rows(drawn_by(key), LAYER, dropout.threshold(0.5), 64, 0, which, a, a.copy())
    assert (a == expected(64, which, 0.5, "float64", key)).all()


def test_what_is_not_finite_stays_so():
    """As in the reference: a loss that diverges is not hidden."""
    a = np.full((1, 64), np.inf)
    by_rows(drawn_by(), LAYER, dropout.threshold(0.5), 64, 0, np.arange(1), a, np.ones((1, 64)))
    assert np.isnan(a).any()
    assert not np.isfinite(a).any()
