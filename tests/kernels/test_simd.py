"""Each LLVM-IR intrinsic on its own, against NumPy.

Matrices hold small integers, so that sums are exact in any order and compared with ==. Each output
stands in a larger array: what lies around it must not be touched.
"""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import types
from numba.extending import intrinsic

from fastbp.kernels import _jit
from fastbp.kernels.activations import IDENTITY, RELU, activate, scale_by_slope
from fastbp.kernels.simd import (
    LINE,
    Vec,
    at,
    delta_and_update,
    gather_bias,
    gemm_axpy,
    gemm_bias,
    gemm_store,
    lanes,
    load,
    pointer,
    scatter_axpy,
    transpose,
    vector_lanes,
)

DEPTHS = (1, 2, 3, 4, 5, 8, 31)
GUARD = -77.0


def num_lanes(dtype):
    return _jit.vector_bytes() // np.dtype(dtype).itemsize


def integers(rng, dtype, *shape):
    return rng.integers(-8, 9, shape).astype(dtype)


def guarded(rows, width, dtype):
    """An output of (rows, width), and the larger array around it, full of guards."""
    around = np.full((rows + 2, width + 2 * num_lanes(dtype)), GUARD, dtype)
    return around[1 : rows + 1, :width], around


def assert_guards(around, rows, width):
    around[1 : rows + 1, :width] = GUARD
    assert (around == GUARD).all(), "something was written beside the output"


# -- matrix products -------------------------------------------------------------------------------


@numba.njit
def run_gemm_bias(rows, width, depth, a, a_row, a_k, b, b_row, c, c_row, start, extra):
    gemm_bias(
        rows, width, depth, pointer(a), a_row, a_k, pointer(b), b_row, at(pointer(c), start), c_row,
        pointer(extra),
    )  # fmt: skip


@numba.njit
def run_gemm_store(rows, width, depth, a, a_row, a_k, b, b_row, c, c_row, start, extra):
    gemm_store(
        rows, width, depth, pointer(a), a_row, a_k, pointer(b), b_row, at(pointer(c), start), c_row,
        extra,
    )  # fmt: skip


@numba.njit
def run_gemm_axpy(rows, width, depth, a, a_row, a_k, b, b_row, c, c_row, start, extra):
    gemm_axpy(
        rows, width, depth, pointer(a), a_row, a_k, pointer(b), b_row, at(pointer(c), start), c_row,
        extra,
    )  # fmt: skip


GEMM = {"bias": run_gemm_bias, "store": run_gemm_store, "axpy": run_gemm_axpy}


def gemm(epilogue, A, B, C, around, extra):
    """Call an intrinsic on A, of any strides, rows of B, and C inside `around`."""
    (rows, depth), width = A.shape, B.shape[1]
    base = A if A.base is None else A.base
    a_row, a_k = (step // A.itemsize for step in A.strides)
    GEMM[epilogue](
        rows, width, depth, base, a_row, a_k, B, B.shape[1], around, around.shape[1],
        around.shape[1], extra,
    )  # fmt: skip


@pytest.mark.parametrize("vectors", range(1, 8))
@pytest.mark.parametrize("epilogue", GEMM)
def test_gemm_is_the_product(epilogue, vectors, dtype, rng):
    """Every number of rows and every remainder of the depth, A as it lies and transposed."""
    width = vectors * num_lanes(dtype)
    for rows in range(1, 18):
        for depth in DEPTHS:
            A = integers(rng, dtype, rows, depth)
            if (rows + depth) % 2:
                A = integers(rng, dtype, depth, rows).T
            B = integers(rng, dtype, depth, width)
            C, around = guarded(rows, width, dtype)
            extra = {"bias": integers(rng, dtype, width), "store": dtype_of(dtype, 0)}.get(
                epilogue, dtype_of(dtype, -2)
            )
            expected = A @ B
            if epilogue == "bias":
                expected += extra
            if epilogue == "axpy":
                C[:] = integers(rng, dtype, rows, width)
                expected = C + extra * expected
            else:
                C[:] = np.nan
            gemm(epilogue, A, B, C, around, extra)
            assert np.array_equal(C, expected), (rows, depth)
            assert_guards(around, rows, width)


def dtype_of(dtype, value):
    return np.dtype(dtype).type(value)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 13])
def test_an_element_has_the_same_bits_whatever_stands_beside_it(rows, dtype, rng):
    """Neither the width nor rows below, in whole blocks, change the order of a sum."""
    width, depth = 7 * num_lanes(dtype), 37
    A = rng.standard_normal((8 + rows, depth)).astype(dtype)
    B = rng.standard_normal((depth, width)).astype(dtype)
    whole, around = guarded(8 + rows, width, dtype)
    gemm("store", A, B, whole, around, dtype_of(dtype, 0))
    part, around = guarded(rows, width, dtype)
    gemm("store", A[8:].copy(), B, part, around, dtype_of(dtype, 0))
    assert np.array_equal(whole[8:], part)
    for v in range(0, width, num_lanes(dtype)):
        B_v = B[:, v : v + num_lanes(dtype)].copy()
        narrow, around = guarded(rows, num_lanes(dtype), dtype)
        gemm("store", A[8:].copy(), B_v, narrow, around, dtype_of(dtype, 0))
        assert np.array_equal(narrow, part[:, v : v + num_lanes(dtype)])


# -- products with an index ------------------------------------------------------------------------


@numba.njit
def run_gather_bias(width, a, index, b, b_row, c, extra):
    gather_bias(
        width, a.size, pointer(a), pointer(index), pointer(b), b_row, pointer(c), pointer(extra)
    )


@numba.njit
def run_scatter_axpy(width, a, index, alpha, b, c, c_row):
    scatter_axpy(width, a.size, pointer(a), pointer(index), alpha, pointer(b), pointer(c), c_row)


@pytest.mark.parametrize("index_type", ["uint16", "uint32"])
@pytest.mark.parametrize("vectors", range(1, 8))
def test_gather_adds_up_the_rows_that_the_index_names(vectors, index_type, dtype, rng):
    width, rows = vectors * num_lanes(dtype), 40
    B = integers(rng, dtype, rows, width)
    for depth in (0, *DEPTHS):
        a = integers(rng, dtype, depth)
        index = rng.integers(0, rows, depth).astype(index_type)
        bias = integers(rng, dtype, width)
        c = np.full(width + 8, GUARD, dtype)
        run_gather_bias(width, a, index, B, width, c, bias)
        assert np.array_equal(c[:width], bias + a @ B[index])
        assert (c[width:] == GUARD).all()


@pytest.mark.parametrize("index_type", ["uint16", "uint32"])
@pytest.mark.parametrize("vectors", range(1, 8))
def test_scatter_adds_to_the_rows_that_the_index_names(vectors, index_type, dtype, rng):
    width, rows = vectors * num_lanes(dtype), 40
    for count in (0, *DEPTHS):
        a, b = integers(rng, dtype, count), integers(rng, dtype, width)
        index = rng.choice(rows, count, replace=False).astype(index_type)
        C, around = guarded(rows, width, dtype)
        C[:] = integers(rng, dtype, rows, width)
        expected = C.copy()
        expected[index] += -2 * np.outer(a, b)
        run_scatter_axpy(
            width, a, index, dtype_of(dtype, -2), b, around[1:].reshape(-1), around.shape[1]
        )
        assert np.array_equal(C, expected)
        assert_guards(around, rows, width)


# -- one sample: delta and update ------------------------------------------------------------------


@numba.njit
def run_delta_and_update(rows, width, w, row, delta, a, target, alpha, out):
    delta_and_update(
        rows,
        width,
        pointer(w),
        row,
        pointer(delta),
        pointer(a),
        pointer(target),
        alpha,
        pointer(out),
    )


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("vectors", range(1, 8))
def test_the_delta_is_of_the_weights_before_their_update(vectors, in_place, dtype, rng):
    width = vectors * num_lanes(dtype)
    row = width + 3
    for rows in (1, 2, 5, 17):
        W = integers(rng, dtype, rows, row)
        old = W.copy()
        target = W if in_place else integers(rng, dtype, rows, row)
        expected = target.copy()
        a, delta = integers(rng, dtype, rows), integers(rng, dtype, width)
        expected[:, :width] += -2 * np.outer(a, delta)
        out = np.full(rows + 8, GUARD, dtype)
        run_delta_and_update(rows, width, W, row, delta, a, target, dtype_of(dtype, -2), out)
        assert np.array_equal(out[:rows], old[:, :width] @ delta)
        assert np.array_equal(target, expected)
        assert (out[rows:] == GUARD).all()


# -- transpose -------------------------------------------------------------------------------------


@numba.njit
def run_transpose(rows, cols, src, src_row, dst, dst_row):
    transpose(rows, cols, pointer(src), src_row, pointer(dst), dst_row)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 15, 16, 17, 33, 64])
@pytest.mark.parametrize("vectors", [1, 2, 5])
def test_transpose_by_squares(rows, vectors, dtype, rng):
    """Ragged rows: what lies beyond them in the last square is written as zero, and no more."""
    n = num_lanes(dtype)
    cols = vectors * n
    whole = -(-rows // n) * n
    src = rng.standard_normal((rows, cols + 5)).astype(dtype)
    dst = np.full((cols + 1, whole + 5), GUARD, dtype)
    run_transpose(rows, cols, src, src.shape[1], dst, dst.shape[1])
    assert np.array_equal(dst[:cols, :rows], src[:, :cols].T)
    assert not dst[:cols, rows:whole].any()
    assert (dst[:cols, whole:] == GUARD).all()
    assert (dst[cols:] == GUARD).all()


# -- rows of any length ----------------------------------------------------------------------------


@numba.njit
def run_activate(code, n, z, out, start):
    activate(code, 1, n, pointer(z), 0, at(pointer(out), start), 0)


@numba.njit
def run_scale(code, rows, n, a, a_row, delta, delta_row):
    scale_by_slope(code, rows, n, pointer(a), a_row, pointer(delta), delta_row)


@pytest.mark.parametrize("vectors", [0, 1, 3])
def test_a_row_of_any_length_touches_nothing_beyond(vectors, dtype, rng):
    """Every length of the masked tail, at every offset within a line."""
    n = num_lanes(dtype)
    for length in range(vectors * n, (vectors + 1) * n):
        z = rng.standard_normal(length + n).astype(dtype)
        for start in range(n):
            out = np.full(length + 3 * n, GUARD, dtype)
            run_activate(RELU, length, z, out, start)
            assert np.array_equal(out[start : start + length], np.maximum(z[:length], 0))
            assert (np.delete(out, slice(start, start + length)) == GUARD).all()


def test_rows_of_a_matrix_are_mapped_one_by_one(dtype, rng):
    n = num_lanes(dtype)
    for length in range(1, 2 * n + 1):
        a = rng.standard_normal((3, length + 2)).astype(dtype)
        delta = np.full((3, length + 4), GUARD, dtype)
        delta[:, :length] = rng.standard_normal((3, length))
        expected = delta[:, :length] * (a[:, :length] > 0)
        run_scale(RELU, 3, length, a, length + 2, delta, length + 4)
        assert np.array_equal(delta[:, :length], expected)
        assert (delta[:, length:] == GUARD).all()
        run_scale(IDENTITY, 3, length, a, length + 2, delta, length + 4)
        assert np.array_equal(delta[:, :length], expected)


# -- vectors ---------------------------------------------------------------------------------------


@intrinsic
def _fold(typingctx, source):
    dtype = source.dtype

    def codegen(context, builder, signature, args):
        return load(builder, dtype, args[0]).fold(Vec.__add__)

    return dtype(source), codegen


@numba.njit
def run_fold(x, start):
    return _fold(at(pointer(x), start)), vector_lanes(pointer(x))


def test_fold_adds_by_halves(dtype, rng):
    """At any address, and always in the same order: bit for bit what NumPy gives by halves."""
    n = num_lanes(dtype)
    assert n == lanes(getattr(types, dtype))
    x = rng.standard_normal(4 * n).astype(dtype)
    for start in range(2 * n):
        total, found_lanes = run_fold(x, start)
        expected = x[start : start + n]
        while expected.size > 1:
            low, high = np.split(expected, 2)
            expected = low + high
        assert dtype_of(dtype, total) == expected[0]
        assert found_lanes == n


# -- other widths ----------------------------------------------------------------------------------

OTHER_WIDTHS = [width for width in (16, 32, LINE) if width != _jit.vector_bytes()]
SELECTION = [
    "test_simd.py",
    "test_activations.py",
    "test_sgd.py::test_topologies_and_widths",
    "test_sgd.py::test_training_does_not_read_what_memory_held_before",
    "test_sgd.py::test_a_batch_in_chunks_learns_what_the_fused_one_does",
    "test_sgd.py::test_ten_steps_and_a_smaller_last_batch",
]


@pytest.mark.parametrize("width", OTHER_WIDTHS)
def test_a_selection_passes_at_another_vector_width(width):
    """As on another CPU. One dtype: that is half the compilation."""
    folder = Path(__file__).parent
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
            *(folder / test for test in SELECTION),
            "-k", "float32 and not another_vector_width",
        ],
        env={**os.environ, "FASTBP_VECTOR_BYTES": str(width)},
        cwd=folder.parents[1],
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
