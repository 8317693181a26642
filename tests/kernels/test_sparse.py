"""Compressed rows, and how they are cut into blocks."""

import numpy as np
import pytest

from fastbp import kernels


def compressed(X, scale, dtype, index_type):
    X = X.copy()
    X.flags.writeable = False
    start = np.full(len(X) + 1, -1, np.int64)
    kernels.count_rows(X, 1, start)
    index = np.full(start[-1], 999, index_type)
    value = np.full(start[-1], np.nan, dtype)
    kernels.index_rows(X, np.dtype(dtype).type(scale), index, value)
    return start, index, value


def mostly_zero(rng, shape, dtype):
    X = rng.integers(1, 256, shape) * (rng.random(shape) < 0.3)
    X[1] = 0  # a sample without any light
    X[2] = 200  # and one with nothing but
    return X.astype(dtype)


@pytest.mark.parametrize("index_type", ["uint16", "uint32"])
@pytest.mark.parametrize("input_type", ["uint8", None])
def test_compressed_rows_hold_what_is_not_zero(input_type, index_type, dtype, rng):
    X = mostly_zero(rng, (9, 40), input_type or dtype)
    start, index, value = compressed(X, 1 / 255, dtype, index_type)
    again = np.zeros(X.shape, dtype)
    for s in range(len(X)):
        row = slice(start[s], start[s + 1])
        assert (np.diff(index[row].astype(int)) > 0).all()
        again[s, index[row]] = value[row]
    assert start[-1] == np.count_nonzero(X)
    assert np.array_equal(again, X.astype(dtype) * np.dtype(dtype).type(1 / 255))


def test_zeros_are_skipped_whatever_their_sign_and_nan_is_not(dtype):
    X = np.array([[0.0, -0.0, np.nan, 1.0]], dtype)
    start, index, value = compressed(X, 1, dtype, "uint16")
    assert start.tolist() == [0, 2]
    assert index.tolist() == [2, 3]
    assert np.isnan(value[0])


def test_a_set_of_zeros_has_no_entries(dtype):
    start, index, value = compressed(np.zeros((3, 5), dtype), 1, dtype, "uint16")
    assert start.tolist() == [0, 0, 0, 0]
    assert index.size == value.size == 0


@pytest.mark.parametrize("blocks", [2, 3, 7, 40])
def test_rows_are_cut_into_blocks_of_inputs(blocks, dtype, rng):
    X = mostly_zero(rng, (9, 40), dtype)
    start = np.full(9 * blocks + 1, -1, np.int64)
    X.flags.writeable = False
    kernels.count_rows(X, blocks, start)
    size = -(-40 // blocks)
    lit = [
        np.count_nonzero(X[s, j * size : (j + 1) * size]) for s in range(9) for j in range(blocks)
    ]
    assert np.diff(start).tolist() == lit


def test_a_count_that_is_too_small_sends_nothing_past_the_end(dtype):
    """`verify` may then name the broken count instead of crashing on it."""
    X = np.ones((2, 5), dtype)
    X.flags.writeable = False
    position, value = np.full(9, 999, np.uint16), np.full(9, np.nan, dtype)
    kernels.index_rows(X, np.dtype(dtype).type(1), position[:6], value[:6])
    assert position.tolist() == [0, 1, 2, 3, 4, 0, 999, 999, 999]
    assert np.isnan(value[6:]).all()
