"""Each LLVM-IR intrinsic on its own, against NumPy.

Matrices hold small integers, so that sums are exact in any order and compared with ==. Each output
stands in a larger array: what lies around it must not be touched.
"""

import ctypes
import mmap
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import types
from numba.extending import intrinsic, overload

from fastbp.kernels import machine
from fastbp.kernels.cpu import vector_bytes
from fastbp.kernels.ir.activations import (
    EXP,
    IDENTITY,
    RELU,
    SIGMOID,
    TANH,
    activate,
    activate_one,
    scale_by_slope,
    slopes,
)
from fastbp.kernels.ir.along import add_samples, dots_axpy, dots_bias
from fastbp.kernels.ir.entries import gather_axpy, gather_bias, pack_nonzeros, scatter_axpy
from fastbp.kernels.ir.memory import (
    add_row,
    at,
    count_bits,
    like,
    lowest_bit,
    nonzero_bits,
    nonzero_mask,
    pointer,
    prefetch,
    put,
    vector_lanes,
)
from fastbp.kernels.ir.single import (
    delta_and_update,
    delta_and_update_one,
    multiply_one,
    products_of_rows,
    update_and_forward,
)
from fastbp.kernels.ir.tiles import (
    add_by_steps,
    gemm_axpy,
    gemm_bias,
    gemm_packed,
    gemm_row_bias,
    gemm_sloped,
    gemm_store,
    pack,
)
from fastbp.kernels.ir.transpose import transpose, transpose_few, transpose_samples
from fastbp.kernels.ir.vectors import I64, Emitter, Vec, emitted, lanes
from fastbp.kernels.jit import inner
from fastbp.kernels.machine import (
    ENTRY_GROUP,
    FEW_COLUMNS,
    FORMULA_VECTORS,
    LINE,
    LIST_SPLIT,
    MASK_BITS,
    PACKED_ROWS,
    PASS_SAMPLES,
)

DEPTHS = (1, 2, 3, 4, 5, 8, 31)
GUARD = -77.0


def num_lanes(dtype):
    return vector_bytes() // np.dtype(dtype).itemsize


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
def run_gemm_bias(rows, width, depth, a, a_row, table, ahead, b, b_row, c, start, c_row, extra):
    gemm_bias(
        rows, width, depth, pointer(a), a_row, pointer(table), pointer(ahead), pointer(b), b_row,
        at(pointer(c), start), c_row, pointer(extra), like(pointer(c), 0),
    )  # fmt: skip


@numba.njit
def run_gemm_row_bias(rows, width, depth, a, a_row, table, ahead, b, b_row, c, start, c_row, extra):
    gemm_row_bias(
        rows, width, depth, pointer(a), a_row, pointer(table), pointer(ahead), pointer(b), b_row,
        at(pointer(c), start), c_row, pointer(extra), None,
    )  # fmt: skip


@numba.njit
def run_gemm_store(rows, width, depth, a, a_row, table, ahead, b, b_row, c, start, c_row, extra):
    gemm_store(
        rows, width, depth, pointer(a), a_row, pointer(table), pointer(ahead), pointer(b), b_row,
        at(pointer(c), start), c_row, extra, like(pointer(c), 0),
    )  # fmt: skip


@numba.njit
def run_gemm_axpy(rows, width, depth, a, a_row, table, ahead, b, b_row, c, start, c_row, extra):
    gemm_axpy(
        rows, width, depth, pointer(a), a_row, pointer(table), pointer(ahead), pointer(b), b_row,
        at(pointer(c), start), c_row, extra, None,
    )  # fmt: skip


@numba.njit
def run_unnumbered(rows, width, depth, a, a_row, b, b_row, c, start, c_row):
    gemm_store(
        rows, width, depth, pointer(a), a_row, None, None, pointer(b), b_row,
        at(pointer(c), start), c_row, 0.0, like(pointer(c), 0),
    )  # fmt: skip


# By epilogue: what calls it, and whether it takes A transposed.
GEMM = {
    "bias": (run_gemm_bias, False),
    "row_bias": (run_gemm_row_bias, True),
    "store": (run_gemm_store, False),
    "axpy": (run_gemm_axpy, True),
}


def gemm(epilogue, A, B, C, around, extra, rng=None):
    """Call an intrinsic on A, the rows of B, and C inside `around`.

    Rows of A, as it is stored, are shuffled among others that are NaN, and found by their numbers;
    without a generator they lie in order.
    """
    run, transposed = GEMM[epilogue]
    (rows, depth), width = A.shape, B.shape[1]
    lying = A.T if transposed else A
    table = np.arange(len(lying)) if rng is None else rng.permutation(len(lying) + 5)[: len(lying)]
    memory = np.full((len(lying) + 5, lying.shape[1] + 3), np.nan, A.dtype)
    memory[table, : lying.shape[1]] = lying
    ahead = table[::-1].copy()  # never read from
    run(
        rows, width, depth, memory, memory.shape[1], table, ahead, B, B.shape[1], around,
        around.shape[1], around.shape[1], extra,
    )  # fmt: skip


@pytest.mark.parametrize("vectors", range(1, 8))
@pytest.mark.parametrize("epilogue", GEMM)
def test_gemm_is_the_product(epilogue, vectors, dtype, rng):
    """Every number of rows and every remainder of the depth; rows of A by number."""
    width = vectors * num_lanes(dtype)
    for rows in range(1, 18):
        for depth in DEPTHS:
            A, B = integers(rng, dtype, rows, depth), integers(rng, dtype, depth, width)
            C, around = guarded(rows, width, dtype)
            extra = {
                "bias": integers(rng, dtype, width),
                "row_bias": integers(rng, dtype, rows),
                "store": dtype_of(dtype, 0),
                "axpy": dtype_of(dtype, -2),
            }[epilogue]
            C[:] = integers(rng, dtype, rows, width) if epilogue == "axpy" else np.nan
            expected = {
                "bias": lambda product, C, bias: product + bias,
                "row_bias": lambda product, C, bias: product + bias[:, None],
                "store": lambda product, C, _: product,
                "axpy": lambda product, C, alpha: C + alpha * product,
            }[epilogue](A @ B, C.copy(), extra)
            gemm(epilogue, A, B, C, around, extra, rng)
            assert np.array_equal(C, expected), (rows, depth)
            assert_guards(around, rows, width)


@numba.njit
def run_copying(rows, width, depth, a, b, bias, z, delta, panel):
    gemm_bias(
        rows, width, depth, pointer(a), depth, None, None, pointer(b), width, pointer(z), width,
        pointer(bias), pointer(panel),
    )  # fmt: skip
    gemm_store(
        rows, width, depth, pointer(a), depth, None, None, pointer(b), width, pointer(delta), width,
        0.0, pointer(panel),
    )  # fmt: skip


@pytest.mark.skipif(machine.PANEL_BYTES is None, reason="no panels are copied on this CPU")
def test_copied_panels_change_no_bit(dtype, rng):
    """They have room for one panel, and are copied where there is enough of A and B alone."""
    width = 1024 + num_lanes(dtype)  # panels of all widths
    deep = -(-machine.PANEL_BYTES // np.dtype(dtype).itemsize // width)
    few, many = machine.PANEL_BATCH - 1, machine.PANEL_BATCH + 7
    for rows, depth in (few, deep), (many, deep - 1), (many, deep), (many + 4, deep):
        A, B = (rng.standard_normal(n).astype(dtype) for n in ((rows, depth), (depth, width)))
        bias = rng.standard_normal(width).astype(dtype)
        expected = [guarded(rows, width, dtype) for _ in range(2)]
        for epilogue, extra, (C, around) in zip(
            ("bias", "store"), (bias, dtype_of(dtype, 0)), expected, strict=True
        ):
            gemm(epilogue, A, B, C, around, extra)
        z, delta = (np.full((rows, width), np.nan, dtype) for _ in range(2))
        room = depth * machine.TILE_COLUMNS * num_lanes(dtype)
        panel = np.full(room + 64, GUARD, dtype)
        run_copying(rows, width, depth, A, B, bias, z, delta, panel)
        assert np.array_equal(z, expected[0][0])
        assert np.array_equal(delta, expected[1][0])
        assert (panel[room:] == GUARD).all()
        copies = rows >= machine.PANEL_BATCH and depth == deep
        assert (panel[:room] != GUARD).all() if copies else (panel == GUARD).all()


@pytest.mark.skipif(not machine.HALF_TAILS, reason="columns are whole vectors on this CPU")
@pytest.mark.parametrize("epilogue", ["bias", "axpy"])
def test_the_last_vector_may_be_half_of_one(epilogue, dtype, rng):
    """The bits of whole vectors, and nothing is written beyond."""
    for vectors in range(2, 7):
        whole, half = vectors * num_lanes(dtype), (2 * vectors - 1) * num_lanes(dtype) // 2
        for rows, depth in product((1, 2, 5, 8, 13), DEPTHS):
            A = rng.standard_normal((rows, depth)).astype(dtype)
            B, bias = (rng.standard_normal(n).astype(dtype) for n in ((depth, whole), whole))
            wide, narrow = guarded(rows, whole, dtype), guarded(rows, half, dtype)
            for (C, around), n in ((wide, whole), (narrow, half)):
                C[:] = 1
                extra = bias if epilogue == "bias" else dtype_of(dtype, 0.3)
                gemm(epilogue, A, B[:, :n].copy(), C, around, extra)
                assert_guards(around.copy(), rows, n)
            assert np.array_equal(wide[0][:, :half], narrow[0]), (vectors, rows, depth)


@numba.njit
def run_packed(cols, width, depth, x, table, packed, b, c, alpha):
    row = depth | 1
    pack(0, depth // 2, cols, pointer(x), cols, pointer(table), pointer(packed), row)
    pack(depth // 2, depth, cols, pointer(x), cols, pointer(table), pointer(packed), row)
    rows = cols - cols % PACKED_ROWS
    gemm_packed(
        rows, width, depth, pointer(packed), row, pointer(b), width, pointer(c), width, alpha
    )


def test_packed_tiles_add_what_others_do(dtype, rng):
    """The same bits, for the rows that fill tiles; those left over are not touched."""
    for cols, depth, vectors in product((3, 8, 37), (1, 2, 7, 64), (1, 2, 3, 5)):
        width, alpha = vectors * num_lanes(dtype), dtype_of(dtype, 0.3)
        X, B = (rng.standard_normal((depth, n)).astype(dtype) for n in (cols, width))
        expected, around = guarded(cols, width, dtype)
        expected[:] = 1
        gemm("axpy", X.T.copy(), B, expected, around, alpha)
        found, packed = np.ones((cols, width), dtype), np.full((depth | 1) * 40, np.nan, dtype)
        table = rng.permutation(depth)
        run_packed(cols, width, depth, X[np.argsort(table)], table, packed, B, found, alpha)
        whole = cols - cols % PACKED_ROWS
        assert np.array_equal(found[:whole], expected[:whole]), (cols, depth, vectors)
        assert (found[whole:] == 1).all()


def dtype_of(dtype, value):
    return np.dtype(dtype).type(value)


def test_rows_without_a_table_are_taken_as_they_lie(dtype, rng):
    """The same bits as with a table that says so."""
    for rows in (1, 2, 3, 5, 8, 13):
        width, depth = 4 * num_lanes(dtype), 37
        A, B = rng.standard_normal((rows, depth)).astype(dtype), rng.standard_normal((depth, width))
        B = B.astype(dtype)
        numbered, around = guarded(rows, width, dtype)
        gemm("store", A, B, numbered, around, dtype_of(dtype, 0))
        plain, around = guarded(rows, width, dtype)
        run_unnumbered(
            rows, width, depth, A, depth, B, width, around, around.shape[1], around.shape[1]
        )
        assert np.array_equal(plain, numbered), rows
        assert_guards(around, rows, width)


@pytest.mark.parametrize("epilogue", GEMM)
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 13])
def test_an_element_has_the_same_bits_whatever_stands_beside_it(rows, epilogue, dtype, rng):
    """Neither the width nor rows above, in whole tiles, change the order of a sum."""
    width, depth = 7 * num_lanes(dtype), 37
    A = rng.standard_normal((8 + rows, depth)).astype(dtype)
    B = rng.standard_normal((depth, width)).astype(dtype)
    bias = rng.standard_normal(max(width, 8 + rows)).astype(dtype)

    def product(A, B, extra, which):
        C, around = guarded(len(A), B.shape[1], dtype)
        C[:] = 1
        vector = {"bias": extra, "row_bias": bias[which:]}.get(epilogue)
        gemm(epilogue, A, B, C, around, dtype_of(dtype, 0.3) if vector is None else vector)
        return C

    whole, part = product(A, B, bias, 0), product(A[8:], B, bias, 8)
    assert np.array_equal(whole[8:], part)
    for v in range(0, width, num_lanes(dtype)):
        columns = slice(v, v + num_lanes(dtype))
        narrow = product(A[8:], B[:, columns].copy(), bias[columns].copy(), 8)
        assert np.array_equal(narrow, part[:, columns])


def test_blocks_of_four_rows_have_the_bits_of_larger_ones(dtype, rng):
    """Threads share batches by such blocks: a tile of four adds up as one of eight does."""
    for rows in (4, 5, 7, 8, 9, 12, 15):
        width, depth = 3 * num_lanes(dtype), 37
        A = rng.standard_normal((rows, depth)).astype(dtype)
        B = rng.standard_normal((depth, width)).astype(dtype)
        whole, around = guarded(rows, width, dtype)
        gemm("store", A, B, whole, around, dtype_of(dtype, 0))
        for first in range(0, rows, 4):
            part, around = guarded(min(4, rows - first), width, dtype)
            gemm("store", A[first : first + 4], B, part, around, dtype_of(dtype, 0))
            assert np.array_equal(part, whole[first : first + 4]), (rows, first)


# -- products of rows ------------------------------------------------------------------------------


@numba.njit
def run_dots_axpy(rows, columns, depth, a, a_row, b, b_row, c, start, c_row, alpha):
    dots_axpy(
        rows, columns, depth, pointer(a), a_row, pointer(b), b_row, at(pointer(c), start), c_row,
        alpha,
    )  # fmt: skip


@pytest.mark.parametrize("vectors", [0, 1, 2, 5])
def test_dots_are_the_product_of_rows(vectors, dtype, rng):
    """Any number of rows and columns; nothing is written beside them."""
    depth = vectors * num_lanes(dtype)
    for rows in range(6):
        for columns in (*range(18), 33):
            A, B = integers(rng, dtype, rows, depth + 3), integers(rng, dtype, columns, depth + 2)
            C, around = guarded(rows, columns, dtype)
            C[:] = integers(rng, dtype, rows, columns)
            expected = C - 2 * A[:, :depth] @ B[:, :depth].T
            run_dots_axpy(
                rows, columns, depth, A, depth + 3, B, depth + 2, around, around.shape[1],
                around.shape[1], dtype_of(dtype, -2),
            )  # fmt: skip
            assert np.array_equal(C, expected), (rows, columns)
            assert_guards(around, rows, columns)


@numba.njit
def run_dots_bias(rows, columns, depth, a, a_row, table, b, b_row, c, start, c_row, bias):
    dots_bias(
        rows, columns, depth, pointer(a), a_row, pointer(table), pointer(b), b_row,
        at(pointer(c), start), c_row, pointer(bias),
    )  # fmt: skip


def among_others(rng, samples, others=5):
    """Samples, shuffled among others that are NaN, as are the ends of the rows; their numbers."""
    count, n = samples.shape
    table = rng.permutation(count + others)[:count]
    memory = np.full((count + others, n + 3), np.nan, samples.dtype)
    memory[table, :n] = samples
    return memory, table


def as_long_as_vectors(x):
    """The rows of x, with zeros up to whole vectors."""
    lanes = num_lanes(x.dtype)
    out = np.zeros((len(x), -(-x.shape[1] // lanes) * lanes), x.dtype)
    out[:, : x.shape[1]] = x
    return out


@pytest.mark.parametrize("depth", [1, 3, 15, 16, 17, 37, 64])
def test_sums_over_the_lanes_are_the_product(depth, dtype, rng):
    """Rows end within a vector, and nothing behind them counts."""
    for rows, columns in product((1, 2, 3, 4, 5, 9, 11), (1, 2, 3, 4, 5, 11, 33)):
        A, B = integers(rng, dtype, rows, depth), integers(rng, dtype, columns, depth)
        bias, (C, around) = integers(rng, dtype, columns), guarded(rows, columns, dtype)
        (memory, table), weights = among_others(rng, A), as_long_as_vectors(B)
        run_dots_bias(
            rows, columns, depth, memory, depth + 3, table, weights, weights.shape[1], around,
            around.shape[1], around.shape[1], bias,
        )  # fmt: skip
        assert np.array_equal(C, A @ B.T + bias), (rows, columns)
        assert_guards(around, rows, columns)


def test_such_a_sum_has_the_same_bits_whatever_stands_beside_it(dtype, rng):
    """Threads have columns of their own, and batches any number of samples."""
    A, B = (rng.standard_normal((n, 37)).astype(dtype) for n in (11, 11))
    bias, weights = rng.standard_normal(11).astype(dtype), as_long_as_vectors(B)

    def products(rows, columns):
        C, around = guarded(rows, columns, dtype)
        run_dots_bias(
            rows, columns, 37, A, 37, np.arange(rows), weights, weights.shape[1], around,
            around.shape[1], around.shape[1], bias,
        )  # fmt: skip
        return C

    whole = products(11, 11)
    for rows, columns in product(range(1, 11), range(1, 11)):
        assert np.array_equal(products(rows, columns), whole[:rows, :columns]), (rows, columns)


@numba.njit
def run_add_samples(rows, width, depth, a, a_row, b, b_row, table, ahead, c, c_row, alpha):
    add_samples(
        rows, width, depth, pointer(a), a_row, pointer(b), b_row, pointer(table), pointer(ahead),
        pointer(c), c_row, alpha,
    )  # fmt: skip


@pytest.mark.parametrize("width", [1, 3, 16, 17, 37, 64])
@pytest.mark.parametrize("depth", [1, 5, 32, 33, 70])
def test_samples_are_added_to_the_weights_of_outputs(width, depth, dtype, rng):
    """What fills up the rows of weights does not change, whatever follows a sample."""
    for rows in (1, 2, 3, 5, 10, 13, 21):
        A, B = integers(rng, dtype, depth, rows + 2), integers(rng, dtype, depth, width)
        C = integers(rng, dtype, rows, width)
        (memory, table), weights = among_others(rng, B), as_long_as_vectors(C)
        A[:, rows:] = np.nan
        run_add_samples(
            rows, width, depth, A, rows + 2, memory, width + 3, table, table[::-1].copy(), weights,
            weights.shape[1], dtype_of(dtype, -2),
        )  # fmt: skip
        assert np.array_equal(weights[:, :width], C - 2 * A[:, :rows].T @ B), rows
        assert not weights[:, width:].any()


def test_what_fills_up_weights_stays_zero_where_deltas_overflow(dtype, rng):
    weights, table = np.zeros((1, num_lanes(dtype)), dtype), np.zeros(1, np.int64)
    infinite, sample = np.full((1, 1), np.inf, dtype), np.ones((1, 1), dtype)
    run_add_samples(
        1, 1, 1, infinite, 1, sample, 1, table, table, weights, weights.size, dtype_of(dtype, 1)
    )
    assert weights[0, 0] == np.inf
    assert not weights[0, 1:].any()


# -- lanes over the batch --------------------------------------------------------------------------


@numba.njit
def run_sloped(code, rows, width, depth, a, a_row, b, b_row, c, start, c_row, act, act_row):
    gemm_sloped(
        code, rows, width, depth, pointer(a), a_row, pointer(b), b_row, at(pointer(c), start),
        c_row, pointer(act), act_row,
    )  # fmt: skip


@pytest.mark.parametrize("code", [SIGMOID, TANH, RELU, IDENTITY])
def test_sloped_products_are_those_of_two_passes(code, dtype, rng):
    """Every number of rows and of columns; rows longer than what is in them."""
    for rows, vectors, depth in product((*range(1, 18), 33), range(1, 6), (1, 2, 3, 8)):
        width = vectors * num_lanes(dtype)
        A, B = integers(rng, dtype, rows, depth), integers(rng, dtype, depth, width + 3)
        C, around = guarded(rows, width, dtype)
        act = rng.uniform(-1, 1, (rows, width + 5)).astype(dtype)
        expected = A @ B[:, :width]
        run_scale(code, rows, width, act, width + 5, expected, width)
        lying = np.pad(A, ((0, 0), (0, 2)))
        run_sloped(
            code, rows, width, depth, lying, depth + 2, B, width + 3, around, around.shape[1],
            around.shape[1], act, width + 5,
        )  # fmt: skip
        assert np.array_equal(C, expected), (rows, width, depth)
        assert_guards(around, rows, width)


# -- products with an index ------------------------------------------------------------------------


@numba.njit
def gather_coded(width, depth, a, palette, index, b, b_row, c, extra):
    gather_bias(
        width, depth, pointer(a), pointer(palette), pointer(index), pointer(b), b_row, pointer(c),
        pointer(extra),
    )  # fmt: skip


@numba.njit
def gather_plain(width, depth, a, palette, index, b, b_row, c, extra):
    gather_bias(
        width, depth, pointer(a), None, pointer(index), pointer(b), b_row, pointer(c),
        pointer(extra),
    )  # fmt: skip


@numba.njit
def scatter_coded(width, count, a, palette, index, alpha, b, c, c_row):
    scatter_axpy(
        width, count, pointer(a), pointer(palette), pointer(index), alpha, pointer(b), pointer(c),
        c_row,
    )  # fmt: skip


@numba.njit
def scatter_plain(width, count, a, palette, index, alpha, b, c, c_row):
    scatter_axpy(
        width, count, pointer(a), None, pointer(index), alpha, pointer(b), pointer(c), c_row
    )


def widths_of_gathers(dtype):
    """Whole vectors, and where the CPU takes half of one, those and a half."""
    halves = 2 if machine.HALF_TAILS else 1
    return [n * num_lanes(dtype) // halves for n in range(halves, 9 * halves + 1)]


GATHER, SCATTER = (gather_plain, gather_coded), (scatter_plain, scatter_coded)
COUNTS = tuple(ENTRY_GROUP * n for n in (0, 1, 2, 3, 8))
WITH_AND_WITHOUT = pytest.mark.parametrize("coded", [False, True])


def entries(rng, dtype, count, coded):
    """What a kernel takes for `count` values: them or their places in a palette; and the values.

    Behind them stands what must not be taken for values.
    """
    if not coded:
        a = np.full(count + ENTRY_GROUP, np.nan, dtype)
        a[:count] = integers(rng, dtype, count)
        return a, None, a[:count]
    palette, places = integers(rng, dtype, 256), rng.integers(0, 256, count + ENTRY_GROUP)
    return places.astype(np.uint8), palette, palette[places[:count]]


@WITH_AND_WITHOUT
@pytest.mark.parametrize("index_type", ["uint16", "uint32"])
def test_gather_adds_up_the_rows_that_the_index_names(index_type, coded, dtype, rng):
    for width in widths_of_gathers(dtype):
        rows = 40
        B = integers(rng, dtype, rows, width + 3)
        for count in COUNTS:
            a, palette, values = entries(rng, dtype, count, coded)
            index = rng.integers(0, rows, count + ENTRY_GROUP).astype(index_type)
            bias = integers(rng, dtype, width)
            c = np.full(width + 8, GUARD, dtype)
            GATHER[coded](width, count, a, palette, index, B, width + 3, c, bias)
            expected = bias + values @ B[index[:count], :width]
            assert np.array_equal(c[:width], expected), (width, count)
            assert (c[width:] == GUARD).all(), (width, count)


@WITH_AND_WITHOUT
@pytest.mark.parametrize("index_type", ["uint16", "uint32"])
def test_scatter_adds_to_the_rows_that_the_index_names(index_type, coded, dtype, rng):
    """Also where the index names a row twice, as the entries that fill up a group do."""
    for width in widths_of_gathers(dtype):
        rows = 40
        for count in COUNTS:
            a, palette, values = entries(rng, dtype, count, coded)
            b = integers(rng, dtype, width)
            index = rng.choice(rows, count + ENTRY_GROUP, replace=False).astype(index_type)
            index[1:count:7] = index[:count:7][: len(index[1:count:7])]
            C, around = guarded(rows, width, dtype)
            C[:] = integers(rng, dtype, rows, width)
            expected = C.copy()
            np.add.at(expected, index[:count], -2 * np.outer(values, b))
            SCATTER[coded](
                width, count, a, palette, index, dtype_of(dtype, -2), b, around[1:].reshape(-1),
                around.shape[1],
            )  # fmt: skip
            assert np.array_equal(C, expected), (width, count)
            assert_guards(around, rows, width)


@numba.njit
def gather_list(width, depth, pairs, b, c, alpha):
    gather_axpy(width, depth, pointer(pairs), pointer(b), pointer(c), alpha)


def test_gather_adds_up_the_rows_that_a_list_names(dtype, rng):
    for width in widths_of_gathers(dtype):
        rows, row = 40, width + 3
        B = integers(rng, dtype, rows, row)
        for count in (LIST_SPLIT * n for n in (0, 1, 2, 7)):
            values, numbers = integers(rng, dtype, count), rng.integers(0, rows, count)
            pairs = np.empty((count + LIST_SPLIT, 2), dtype)  # the last are not asked for
            pairs[:count, 0] = values
            pairs.view(f"i{pairs.itemsize}")[:count, 1] = numbers * row
            c = np.full(width + 8, GUARD, dtype)
            c[:width] = integers(rng, dtype, width)
            expected = c[:width] - 2 * (values @ B[numbers, :width])
            gather_list(width, count, pairs.ravel(), B, c, dtype_of(dtype, -2))
            assert np.array_equal(c[:width], expected), (width, count)
            assert (c[width:] == GUARD).all(), (width, count)


def test_a_palette_and_its_values_give_the_same_bits(dtype, rng):
    width, rows, count = 3 * num_lanes(dtype), 40, 8 * ENTRY_GROUP
    B, c, b = (rng.standard_normal(s).astype(dtype) for s in ((rows, width), width, width))
    palette, places = rng.standard_normal(256).astype(dtype), rng.integers(0, 256, count)
    index, alpha = rng.integers(0, rows, count).astype(np.uint16), dtype_of(dtype, 0.3)
    plain, coded = (palette[places], None), (places.astype(np.uint8), palette)
    found = []
    for a, colours in (plain, coded):
        out, C = np.empty_like(c), B.copy()
        GATHER[colours is palette](width, count, a, colours, index, B, width, out, c)
        SCATTER[colours is palette](width, count, a, colours, index, alpha, b, C, width)
        found.append((out, C))
    for mine, theirs in zip(*found, strict=True):
        assert np.array_equal(mine, theirs)


# -- the update of a first layer, some samples at a time -------------------------------------------


@numba.njit
def run_add_by_steps(rows, width, depth, a, a_row, table, ahead, b, b_row, c, start, c_row, alpha):
    add_by_steps(
        rows, width, depth, pointer(a), a_row, pointer(table), pointer(ahead), pointer(b), b_row,
        at(pointer(c), start), c_row, alpha,
    )  # fmt: skip


def test_add_by_steps_in_whole_numbers(dtype, rng):
    """Against NumPy, in any width that tiles take; nothing is written beside the output."""
    half = num_lanes(dtype) // 2
    widths = [n * half for n in range(2, 19) if machine.HALF_TAILS or n % 2 == 0]
    for width, depth, rows in product(widths, (1, 2, 4, 5, 7, 13), (1, 16, 37)):
        a, b = integers(rng, dtype, depth + 1, rows), integers(rng, dtype, depth, width)
        table = rng.permutation(depth + 1)[:depth]
        c, around = guarded(rows, width, dtype)
        c[...] = integers(rng, dtype, rows, width)
        expected = c - 2 * a[table].T @ b
        run_add_by_steps(
            rows, width, depth, a, rows, table, table[::-1].copy(), b, width, around,
            around.shape[1], around.shape[1], dtype_of(dtype, -2),
        )  # fmt: skip
        assert np.array_equal(c, expected), (width, depth, rows)
        assert_guards(around, rows, width)


# -- a few samples: update, and forward pass of the next ones --------------------------------------


@numba.njit
def run_update_and_forward(
    width, depth, alpha, due, old, x, which, count, delta, w, row, out, bias
):
    numbers = pointer(which)
    update_and_forward(
        width, depth, alpha, due, pointer(old), numbers, pointer(x), numbers, numbers, count, depth,
        pointer(delta), pointer(w), row, pointer(out), row, pointer(bias),
    )  # fmt: skip


def counts():
    """How many samples are due, and how many are asked for."""
    return product(range(PASS_SAMPLES + 1), range(1, PASS_SAMPLES + 1))


def test_update_and_forward_in_whole_numbers(dtype, rng):
    """Against NumPy. Samples are found by number, and none is read but those that count."""
    n = PASS_SAMPLES
    for (due, count), vectors, depth in product(counts(), range(1, 6), (1, 3, 17, 64)):
        width = vectors * num_lanes(dtype)
        old, x = integers(rng, dtype, n + 1, depth), integers(rng, dtype, n + 1, depth)
        which = rng.permutation(n + 1)[:n]
        old[which[max(due, 1) :]] = x[which[count:]] = np.nan
        delta, bias = integers(rng, dtype, n, width + 3), integers(rng, dtype, width)
        delta[due:] = np.nan
        W = integers(rng, dtype, depth, width + 3)
        expected = W.copy()
        expected[:, :width] -= 2 * old[which[:due]].T @ delta[:due, :width]
        out = np.full((n + 1, width + 3), GUARD, dtype)
        numbers = np.append(which[: max(due, count)], [-(10**9)] * n)  # an address of nothing
        run_update_and_forward(
            width,
            depth,
            dtype_of(dtype, -2),
            due,
            old,
            x,
            numbers,
            count,
            delta,
            W,
            width + 3,
            out,
            bias,
        )
        assert np.array_equal(W, expected), (due, count, vectors, depth)
        wanted = bias + x[which[:count]] @ expected[:, :width]
        assert np.array_equal(out[:count, :width], wanted), (due, count, vectors, depth)
        out[:n, :width] = GUARD
        assert (out == GUARD).all(), (due, count, vectors, depth)


def test_a_samples_sums_do_not_depend_on_its_neighbours(dtype, rng):
    """Blocks are cut at the end of a span, and where a loss is not finite."""
    n, width, depth = PASS_SAMPLES, 3 * num_lanes(dtype), 37
    x, delta = (rng.standard_normal((n, size)).astype(dtype) for size in (depth, width))
    W, bias = rng.standard_normal((depth, width)).astype(dtype), np.ones(width, dtype)
    found = []
    for count in range(1, n + 1):
        new, out = W.copy(), np.empty((n, width), dtype)
        run_update_and_forward(
            width,
            depth,
            dtype_of(dtype, 0.3),
            n,
            x,
            x,
            np.arange(n),
            count,
            delta,
            new,
            width,
            out,
            bias,
        )
        found.append((new, out))
        assert np.array_equal(new, found[0][0])
        assert np.array_equal(out[: count - 1], found[count - 2][1][: count - 1]) or count == 1


@numba.njit
def run_products_of_rows(depth, x, which, count, out):
    products_of_rows(depth, pointer(x), depth, pointer(which), count, pointer(out))


def test_products_of_rows_in_whole_numbers(dtype, rng):
    n = PASS_SAMPLES
    for depth, count in product((1, 5, 16, 31, 67), range(1, n + 1)):
        x, which = integers(rng, dtype, n + 1, depth), rng.permutation(n + 1)[:n]
        out, expected = np.zeros((n, n), dtype), (x @ x.T)[np.ix_(which, which)]
        x[np.setdiff1d(np.arange(n + 1), which[:count])] = np.nan
        numbers = np.append(which[:count], [-(10**9)] * n)
        run_products_of_rows(depth, x, numbers, count, out)
        above = np.triu(np.ones((count, count), bool), 1)
        assert np.array_equal(out[:count, :count][above], expected[:count, :count][above])


# -- one sample: delta and update ------------------------------------------------------------------


@numba.njit
def run_delta_and_update(rows, width, w, row, delta, a, alpha, out):
    delta_and_update(
        rows, width, pointer(w), row, pointer(delta), pointer(a), alpha, pointer(out)
    )  # fmt: skip


def test_the_delta_is_of_the_weights_before_their_update(dtype, rng):
    for vectors in range(1, 8):
        width = vectors * num_lanes(dtype)
        row = width + 3
        for rows in (1, 2, 5, 7, 8, 17):
            W = integers(rng, dtype, rows, row)
            old, expected = W.copy(), W.copy()
            a, delta = integers(rng, dtype, rows), integers(rng, dtype, width)
            expected[:, :width] += -2 * np.outer(a, delta)
            out, slopes = np.full(rows + 8, GUARD, dtype), integers(rng, dtype, rows)
            out[:rows] = slopes
            run_delta_and_update(rows, width, W, row, delta, a, dtype_of(dtype, -2), out)
            assert np.array_equal(out[:rows], slopes * (old[:, :width] @ delta)), (vectors, rows)
            assert np.array_equal(W, expected), (vectors, rows)
            assert (out[rows:] == GUARD).all(), (vectors, rows)


@numba.njit
def run_multiply_one(rows, width, w, w_row, a, bias, z):
    multiply_one(rows, width, pointer(w), w_row, pointer(a), pointer(bias), pointer(z))


@numba.njit
def run_delta_and_update_one(rows, width, w, w_row, delta, a, alpha, out):
    delta_and_update_one(
        rows, width, pointer(w), w_row, pointer(delta), pointer(a), alpha, pointer(out)
    )


def test_one_sample_on_weights_that_lie_by_their_outputs(dtype, rng):
    """Forward; delta of the weights before their update; update. Whole vectors, and no further."""
    lanes_ = num_lanes(dtype)
    for rows, vectors in product((1, 2, lanes_ - 1, lanes_, lanes_ + 1, 3 * lanes_), range(1, 7)):
        whole, width = -(-rows // lanes_) * lanes_, vectors * lanes_
        W, around = guarded(whole, width, dtype)
        W[:] = 0
        W[:rows] = integers(rng, dtype, rows, width)
        a, slopes, delta = (integers(rng, dtype, n) for n in (width, width, rows))
        bias, z = np.zeros(whole, dtype), np.full(whole + 8, GUARD, dtype)
        bias[:rows] = integers(rng, dtype, rows)
        inside, row = around[1:].reshape(-1), around.shape[1]
        run_multiply_one(rows, width, inside, row, a, bias, z)
        assert np.array_equal(z[:rows], bias[:rows] + W[:rows] @ a), (rows, width)
        assert (z[whole:] == GUARD).all(), (rows, width)
        old, out = W.copy(), np.full(width + 8, GUARD, dtype)
        out[:width] = slopes
        run_delta_and_update_one(rows, width, inside, row, delta, a, dtype_of(dtype, -2), out)
        assert np.array_equal(out[:width], slopes * (delta @ old[:rows])), (rows, width)
        assert (out[width:] == GUARD).all(), (rows, width)
        assert np.array_equal(W[:rows], old[:rows] - 2 * np.outer(delta, a)), (rows, width)
        assert_guards(around, whole, width)


@numba.njit
def run_slopes(code, n, a, out):
    slopes(code, 1, n, pointer(a), n, pointer(out), n)


@numba.njit
def run_activate_one(code, n, z, a, slope):
    activate_one(code, n, pointer(z), pointer(a), pointer(slope))


@pytest.mark.parametrize("code", [SIGMOID, TANH, RELU, IDENTITY, EXP])
def test_one_sample_is_activated_in_whole_vectors(code, dtype, rng):
    """As rows are, to the bit; zeros from the last neuron to the end of its vector, no further."""
    lanes_ = num_lanes(dtype)
    for n in range(1, 5 * lanes_ + 2):
        z, whole = (rng.standard_normal(n + 8 * lanes_) * 3).astype(dtype), -(-n // lanes_) * lanes_
        z[n:] = np.nan
        wanted, slope = np.zeros(n + 8, dtype), np.zeros(n + 8, dtype)
        run_activate(code, n, z, wanted, 0)
        run_slopes(code, n, wanted, slope)
        for out in (np.full(whole + 8, GUARD, dtype), z):
            found = np.full(whole + 8, GUARD, dtype)
            run_activate_one(code, n, z, out, found)
            for mine, theirs in ((out, wanted), (found, slope)):
                assert np.array_equal(mine[:n], theirs[:n]), n
                assert not mine[n:whole].any(), n
            assert (found[whole:] == GUARD).all(), n
            assert out is z or (out[whole:] == GUARD).all(), n


@numba.njit
def run_add_row(width, alpha, x, y):
    add_row(width, alpha, pointer(x), pointer(y))


def test_a_row_is_added_in_whole_vectors(dtype, rng):
    for width in widths_of_gathers(dtype):
        x, y = integers(rng, dtype, width), integers(rng, dtype, width + 8)
        expected = y.copy()
        expected[:width] -= 2 * x
        run_add_row(width, dtype_of(dtype, -2), x, y)
        assert np.array_equal(y, expected), width


# -- transpose -------------------------------------------------------------------------------------


@numba.njit
def run_transpose(rows, cols, src, src_row, dst, dst_row):
    transpose(rows, cols, pointer(src), src_row, pointer(dst), dst_row)


@pytest.mark.parametrize("vectors", [1, 2, 5])
def test_transpose_by_squares(vectors, dtype, rng):
    """Ragged rows: what lies beyond them in the last square is written as zero, and no more."""
    for rows in (1, 2, 3, 7, 8, 15, 16, 17, 33, 64):
        n = num_lanes(dtype)
        cols = vectors * n
        whole = -(-rows // n) * n
        src = rng.standard_normal((rows, cols + 5)).astype(dtype)
        dst = np.full((cols + 1, whole + 5), GUARD, dtype)
        run_transpose(rows, cols, src, src.shape[1], dst, dst.shape[1])
        assert np.array_equal(dst[:cols, :rows], src[:, :cols].T), rows
        assert not dst[:cols, rows:whole].any(), rows
        assert (dst[:cols, whole:] == GUARD).all(), rows
        assert (dst[cols:] == GUARD).all(), rows


@numba.njit
def run_transpose_samples(rows, cols, src, table, scale, dst, dst_row):
    transpose_samples(rows, cols, pointer(src), pointer(table), scale, pointer(dst), dst_row)


@numba.njit
def run_transpose_few(rows, cols, src, table, scale, dst, dst_row):
    transpose_few(rows, cols, pointer(src), pointer(table), scale, pointer(dst), dst_row)


@pytest.mark.parametrize("cols", [1, 2, 3, 4, 5, 16, 17, 31])
def test_samples_are_transposed_by_number(cols, dtype, rng):
    """Dense rows, the last of them at the very end of the data; zeros fill up the last vector."""
    for rows in (1, 2, 3, 7, 8, 15, 16, 17, 33):
        n = num_lanes(dtype)
        whole, squares = -(-rows // n) * n, -(-cols // n) * n
        memory = np.full(60 * cols + 8 * n, np.nan, dtype)
        src = memory[: 60 * cols].reshape(60, cols)
        src[:] = rng.standard_normal((60, cols))
        table = rng.permutation(60)[:rows]
        table[-1] = 59
        scale = dtype_of(dtype, 0.3)
        for run, height in [(run_transpose_samples, squares), (run_transpose_few, cols)]:
            if run is run_transpose_few and cols > FEW_COLUMNS:
                continue
            dst = np.full((height + 1, whole + 5), GUARD, dtype)
            run(rows, cols, src, table, scale, dst, dst.shape[1])
            assert np.array_equal(dst[:cols, :rows], (src[table] * scale).T), (run, rows)
            assert not dst[:cols, rows:whole].any(), (run, rows)
            assert (dst[:, whole:] == GUARD).all(), (run, rows)
            assert (dst[height:] == GUARD).all(), (run, rows)


# -- rows of any length ----------------------------------------------------------------------------


@numba.njit
def run_activate(code, n, z, out, start):
    activate(code, 1, n, pointer(z), 0, at(pointer(out), start), 0)


@numba.njit
def run_scale(code, rows, n, a, a_row, delta, delta_row):
    scale_by_slope(code, rows, n, pointer(a), a_row, pointer(delta), delta_row)


@pytest.mark.parametrize(
    "vectors", [0, 1, 2, 3, FORMULA_VECTORS, FORMULA_VECTORS + 2, 2 * FORMULA_VECTORS]
)
def test_a_row_of_any_length_touches_nothing_beyond(vectors, dtype, rng):
    """Every length of the masked tail, at every offset within a line; whole groups before it."""
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


@pytest.fixture
def at_a_wall():
    """at_a_wall(dtype): the last of a page's memory, before one that nobody may touch."""
    if os.name == "nt":
        pytest.skip("no mprotect")
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    address = np.frombuffer(memory, np.uint8).ctypes.data + page
    mprotect = ctypes.CDLL(None).mprotect
    mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    assert mprotect(address, page, 0) == 0
    yield lambda dtype: np.frombuffer(memory, dtype, page // np.dtype(dtype).itemsize)
    assert mprotect(address, page, mmap.PROT_READ | mmap.PROT_WRITE) == 0


def test_a_row_may_end_where_memory_does(dtype, at_a_wall):
    """As a source, and as a target."""
    page = at_a_wall(dtype)
    for length in range(1, 3 * FORMULA_VECTORS * num_lanes(dtype)):
        row, out = page[-length:], np.full(length + 8, GUARD, dtype)
        row[:] = 0.5
        run_activate(TANH, length, row, out, 0)
        assert (out[:length] == out[0]).all()
        run_activate(RELU, length, np.full(length, 0.25, dtype), row, 0)
        assert (row == 0.25).all()


def test_samples_may_end_where_memory_does(dtype, at_a_wall):
    page = at_a_wall(dtype)
    for cols in range(1, 2 * num_lanes(dtype)):
        src = page[-5 * cols :]
        src[:] = np.arange(5 * cols)
        for run in (run_transpose_samples, run_transpose_few)[: 1 + (cols <= FEW_COLUMNS)]:
            dst = np.zeros((3 * num_lanes(dtype), 2 * num_lanes(dtype)), dtype)
            table = np.array([4, 0, 4])
            run(3, cols, src, table, dtype_of(dtype, 1), dst, dst.shape[1])
            assert np.array_equal(dst[:cols, :3], src.reshape(5, cols)[table].T)


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_inputs_may_end_where_memory_does(kind, at_a_wall):
    page = at_a_wall(kind)
    page[:] = 1
    for count in range(MASK_BITS):
        assert run_nonzero_mask(page, page.size - count, count) == (1 << count) - 1
        place, value = np.zeros(count, np.uint16), np.zeros(count, kind)
        assert run_pack_nonzeros(page[page.size - count :], count, kind, place, value) == count
        assert np.array_equal(place, np.arange(count))
        assert np.array_equal(value, np.ones(count))


# -- vectors ---------------------------------------------------------------------------------------


@intrinsic
def _fold(typingctx, source):
    dtype = source.dtype

    def codegen(context, builder, signature, args):
        return Emitter(builder, dtype).load(args[0]).fold(Vec.__add__).value

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


def _sums_of(count):
    """A function that writes the sums of `count` vectors, `row` elements apart."""

    @emitted()
    def sums(e, source, row, out):
        first, *others = (e.load(e.row(source, I64(j), row)) for j in range(count))
        found = first.sums_beside(others).value
        place = e.builder.bitcast(out, found.type.as_pointer())
        e.builder.store(found, place, align=e.dtype.bitwidth // 8)

    @numba.njit
    def run(x, row, out):
        sums(pointer(x), row, pointer(out))

    return run


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_sums_stand_beside_each_other(count, dtype, rng):
    n = num_lanes(dtype)
    run = _sums_of(count)
    for _ in range(10):
        x = integers(rng, dtype, count, n + 1)
        out = np.full(count + 4, GUARD, dtype)
        run(x, n + 1, out)
        assert np.array_equal(out[:count], x[:, :n].sum(axis=1))
        assert (out[count:] == GUARD).all()


@emitted()
def _copy_first(e, source, target, n):
    """Copy the first n lanes of two vectors; the others are loaded as 7, and stay."""
    mask = e.first_lanes(n, 2)
    x = e.masked_load(source, mask, fill=7.0)
    e.masked_store(target, mask, x)
    e.store(e.at(target, 2 * e.lanes), x, 2)


@numba.njit
def run_copy_first(source, target, n):
    _copy_first(pointer(source), pointer(target), n)


def test_masks_take_the_first_lanes(dtype, rng):
    """None where the count is negative, all where it is more than there are."""
    n = 2 * num_lanes(dtype)
    x = rng.standard_normal(n).astype(dtype)
    for count in (-5, -1, *range(n + 1), n + 9, 10**6):
        target = np.full(3 * n, GUARD, dtype)
        run_copy_first(x, target, count)
        k = min(max(count, 0), n)
        assert np.array_equal(target[:k], x[:k])
        assert (target[k:n] == GUARD).all()
        assert np.array_equal(target[n : n + k], x[:k])
        assert (target[n + k : 2 * n] == 7).all()
        assert (target[2 * n :] == GUARD).all()


# -- stores ----------------------------------------------------------------------------------------


def double_of(x):
    """Twice a number."""


@overload(double_of, inline="always")
def _double_of(x):
    """An overload that is inlined makes Numba remove dead code."""
    return lambda x: x + x


@numba.njit(inline="always")
def put_twice(p, i):
    put(p, i, double_of(0.5))
    put(at(p, 1), i, 2.5)


@numba.njit(inline="always")
def set_twice(p, i):
    p[i] = double_of(0.5)
    at(p, 1)[i] = 2.5


@numba.njit
def run_put(x):
    put_twice(pointer(x), 0)


@numba.njit
def run_set(x):
    set_twice(pointer(x), 0)


def test_a_store_survives_where_an_overload_is_inlined(dtype):
    x = np.zeros(3, dtype)
    run_put(x)
    assert x.tolist() == [1, 2.5, 0]


@pytest.mark.skipif(not numba.__version__.startswith("0.68."), reason="said of Numba 0.68")
def test_a_plain_store_does_not_survive_there(dtype):
    """Why there is `put`: Numba takes for dead what is stored last through a pointer."""
    x = np.zeros(3, dtype)
    run_set(x)
    assert x.tolist() == [1, 0, 0]


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int64", "float32", "float64"])
def test_what_is_put_is_converted_to_the_pointers_type(kind):
    x = np.zeros(2, kind)
    run_put(x)
    assert x.tolist() == np.array([1, 2.5]).astype(kind).tolist()


@inner
def _scale(p, n, factor):
    for i in range(n):
        put(p, i, p[i] * factor)


@numba.njit
def run_scale_by_put(x, factor):
    _scale(pointer(x), x.size, factor)


def test_loops_of_stores_are_compiled_to_vectors(dtype):
    """As those of plain stores are."""
    x = np.arange(100, dtype=dtype)
    run_scale_by_put(x, dtype_of(dtype, 2))
    assert np.array_equal(x, 2 * np.arange(100))
    code = run_scale_by_put.inspect_llvm(run_scale_by_put.signatures[-1])
    kind = {"float32": "float", "float64": "double"}[dtype]
    assert re.search(rf"store <\d+ x {kind}>", code)


# -- masks of inputs -------------------------------------------------------------------------------


@numba.njit
def run_nonzero_mask(x, start, count):
    return nonzero_mask(at(pointer(x), start), count)


@numba.njit
def _pack_nonzeros(x, count, scale, place, value):
    return pack_nonzeros(pointer(x), 0, count, scale, pointer(place), pointer(value), 0)


def run_pack_nonzeros(x, count, kind, place, value):
    return _pack_nonzeros(x, count, np.dtype(kind).type(1), place, value)


@numba.njit
def run_nonzero_bits(x, start):
    return nonzero_bits(at(pointer(x), start))


@numba.njit
def run_count_bits(mask):
    return count_bits(mask)


@numba.njit
def run_lowest_bit(mask):
    return lowest_bit(mask)


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_a_bit_for_each_input_that_is_not_zero(kind, rng):
    """As far as there are inputs; -0.0 is zero, NaN, infinity and subnormals are not."""
    for _ in range(20):
        x = (rng.integers(1, 256, 80) * (rng.random(80) < 0.4)).astype(kind)
        if kind != "uint8":
            x[rng.integers(0, 80, 12)] = [np.nan, -0.0, np.inf, -1e-310, 5e-324, -np.nan] * 2
            x[rng.integers(0, 80, 4)] = np.finfo(kind).smallest_subnormal
        for count in (0, 1, 5, MASK_BITS - 1, MASK_BITS, MASK_BITS + 1, 70):
            k = min(count, MASK_BITS)
            expected = sum(1 << j for j in range(k) if x[7 + j] != 0)
            assert run_nonzero_mask(x, 7, count) % 2**64 == expected  # the last bit is the sign
            assert run_count_bits(run_nonzero_mask(x, 7, count)) == expected.bit_count()
            if k == MASK_BITS:
                assert run_nonzero_bits(x, 7) % 2**64 == expected


def test_the_lowest_bit_is_found():
    for place in range(MASK_BITS):
        for mask in (1 << place, -1 << place):
            assert run_lowest_bit(np.uint64(mask % 2**64).view(np.int64)) == place


@numba.njit
def run_prefetch(x, offset, count):
    prefetch(at(pointer(x), offset), count)


def test_what_is_asked_for_ahead_of_time_may_lie_anywhere(dtype):
    x = np.ones(4, dtype)
    for offset in (0, -(10**12), 10**12):
        for count in (0, 1, 1000):
            run_prefetch(x, offset, count)
    assert (x == 1).all()


# -- other widths ----------------------------------------------------------------------------------

OTHER_WIDTHS = [width for width in (16, 32, LINE) if width != vector_bytes()]
# What is cached on disk, and of the rest what depends most on the width.
SELECTION = [
    "test_operations.py",
    "test_activations.py::test_elementwise_kernels_are_their_twins",
    "test_losses.py::test_the_kernel_is_its_twin",
    "test_first_sparse.py::test_compressed_rows_hold_what_is_not_zero",
    "test_simd.py::test_copied_panels_change_no_bit",
    "test_simd.py::test_transpose_by_squares",
    "test_simd.py::test_fold_adds_by_halves",
    "test_simd.py::test_masks_take_the_first_lanes",
]
WHOLE = [
    "test_simd.py",
    "test_activations.py",
    "test_epochs.py::test_topologies_and_widths",
    "test_epochs.py::test_training_does_not_read_what_memory_held_before",
    "test_epochs.py::test_a_batch_in_chunks_learns_what_the_fused_one_does",
    "test_epochs.py::test_ten_steps_and_a_smaller_last_batch",
    "test_epochs.py::test_copied_panels_change_no_bit",
]


@pytest.mark.parametrize(
    "tests",
    [pytest.param(SELECTION, id="few"), pytest.param(WHOLE, id="all", marks=pytest.mark.long)],
)
@pytest.mark.parametrize("width", OTHER_WIDTHS)
def test_a_selection_passes_at_another_vector_width(width, tests):
    """As on another CPU. One dtype: that is half the compilation."""
    folder = Path(__file__).parent
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
            *(folder / test for test in tests), "-k", "float32 and not another_vector_width",
        ],
        env={**os.environ, "FASTBP_VECTOR_BYTES": str(width)},
        cwd=folder.parents[1],
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
