"""What kernels call by address: tables of activations, and the product that multiplies slopes."""

import numba
import numpy as np
import pytest

from fastbp import kernels
from fastbp.kernels import functions
from fastbp.kernels.ir.activations import ACTIVATION_CODES
from fastbp.kernels.ir.linear_units import FORMULAS
from fastbp.kernels.ir.memory import pointer
from fastbp.kernels.walk.activations import activate, activate_one
from fastbp.kernels.walk.products import multiply_slopes
from fastbp.kernels.walk.records import Matrix

GUARD = -77


def num_lanes(dtype):
    return kernels.vector_bytes() // np.dtype(dtype).itemsize


@numba.njit
def run_activate(code, rows, n, z, z_row, out, out_row):
    activate(code, rows, n, pointer(z), z_row, pointer(out), out_row)


@numba.njit
def run_activate_one(code, n, z, a, slope):
    activate_one(code, n, pointer(z), pointer(a), pointer(slope))


@pytest.mark.parametrize("name", FORMULAS)
def test_a_table_activates_rows(name, dtype, rng):
    code = functions.activation_code(name, dtype)
    for rows, n in ((1, 1), (3, 17), (2, 100)):
        z, out = (np.full((rows, n + more), GUARD, dtype) for more in (3, 5))
        z[:, :n] = 3 * rng.standard_normal((rows, n))
        expected = np.empty((rows, n), dtype)
        getattr(kernels, name)(z[:, :n].reshape(-1), expected.reshape(-1))
        for target in (out, z):  # also in place
            run_activate(code, rows, n, z, z.shape[1], target, target.shape[1])
            assert target[:, :n].tobytes() == expected.tobytes()
            assert (target[:, n:] == GUARD).all()


@pytest.mark.parametrize("name", FORMULAS)
def test_a_table_activates_one_sample_in_whole_vectors(name, dtype, rng):
    """As the kernels do, to the bit; zeros from the last neuron to the end of its vector."""
    code, lanes = functions.activation_code(name, dtype), num_lanes(dtype)
    for n in (1, lanes - 1, lanes, 3 * lanes + 1):
        whole = -(-n // lanes) * lanes
        z = (3 * rng.standard_normal(whole + 8)).astype(dtype)
        expected = np.empty((2, n), dtype)
        getattr(kernels, name)(z[:n], expected[0])
        getattr(kernels, f"{name}_prime")(z[:n], expected[1])
        z[n:] = np.nan
        for a in (np.full(whole + 8, GUARD, dtype), z):  # also in place
            slope = np.full(whole + 8, GUARD, dtype)
            run_activate_one(code, n, z, a, slope)
            for found, wanted in zip((a, slope), expected, strict=True):
                assert found[:n].tobytes() == wanted.tobytes()
                assert not found[n:whole].any()
            assert (slope[whole:] == GUARD).all()


def test_codes_of_the_first_are_small_and_others_stay_where_they_are(dtype):
    for name, code in ACTIVATION_CODES.items():
        assert functions.activation_code(name, dtype) == code
    codes = [functions.activation_code(name, dtype) for name in FORMULAS]
    assert codes == [functions.activation_code(name, np.dtype(dtype)) for name in FORMULAS]
    assert len({*codes}) == len(FORMULAS)
    assert min(codes) > max(ACTIVATION_CODES.values())


@numba.njit
def run_times(address, rows, width, depth, a, b, c):
    def matrix(x):
        return Matrix(pointer(x), x.shape[1])

    multiply_slopes(address, rows, width, depth, matrix(a), matrix(b), matrix(c))


@pytest.mark.parametrize("narrow", [False, True])
def test_a_product_is_multiplied_by_what_was_in_its_place(narrow, dtype, rng):
    address, lanes = functions.times(dtype, narrow), num_lanes(dtype)
    for rows, vectors, depth in ((1, 1, 1), (2, 3, 5), (7, 2, 17), (13, 5, 33)):
        width = vectors * lanes
        shapes = (rows, depth + 1), (depth, width + 3), (rows, width + 5)
        a, b, c = (rng.integers(-3, 4, shape).astype(dtype) for shape in shapes)
        expected = c.copy()
        expected[:, :width] *= a[:, :depth] @ b[:, :width]
        run_times(address, rows, width, depth, a, b, c)
        assert np.array_equal(c, expected)
