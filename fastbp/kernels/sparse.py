"""The first layer on zero-skipping input: only the weights of inputs that are not zero are touched.

`index_rows` turns a data set into compressed rows once; forward reads a sample's row, update goes
through the batch input by input, so that a row of W is loaded and stored once for all the samples
that light it. Equal to the dense result for finite weights.
"""

import numpy as np

from ._jit import inner, kernel
from .simd import at, gather_axpy, gather_bias, scatter_axpy


@kernel
def count_rows(X, start):
    """Write the running count of non-zero inputs: row s has start[s + 1] - start[s] of them."""
    n, n_in = X.shape
    start[0] = 0
    for s in range(n):
        found = 0
        for i in range(n_in):
            found += X[s, i] != 0
        start[s + 1] = start[s] + found


@kernel
def index_rows(X, scale, start, index, value):
    """Write position and scaled value of each non-zero input, row by row."""
    n, n_in = X.shape
    for s in range(n):
        k = start[s]
        for i in range(n_in):
            x = X[s, i]
            if x != 0:
                index[k] = i
                value[k] = x * scale
                k += 1


@inner
def forward(rows, start, index, value, order, first, width, W, stride, z, z_row, bias):
    """z[r] = bias + sum of the weights of the inputs lit in sample order[first + r]."""
    for r in range(rows):
        s = order[first + r]
        k = start[s]
        gather_bias(
            width, start[s + 1] - k, at(value, k), at(index, k), W, stride, at(z, r * z_row), bias
        )


@inner
def update_one(start, index, value, s, width, delta, target, stride, alpha):
    """target[i] += alpha x[i] delta for the inputs lit in sample s."""
    k = start[s]
    scatter_axpy(width, start[s + 1] - k, at(value, k), at(index, k), alpha, delta, target, stride)


@inner
def transpose_batch(start, index, value, order, first, m, low, high, ends, samples, values):
    """Regroup the batch's entries by input, for the inputs low <= i < high; return their begin.

    Input i's entries then end at ends[i - low], where those of input i + 1 begin, in the order of
    the samples. Each thread regroups its own inputs into its own part of the arrays: `begin` counts
    the entries of the inputs below.
    """
    begin = 0
    for i in range(high - low):
        ends[i] = 0
    for r in range(m):
        s = order[first + r]
        for k in range(start[s], start[s + 1]):
            i = np.int64(index[k])
            if i < low:
                begin += 1
            elif i < high:
                ends[i - low] += 1
    place = begin
    for i in range(high - low):
        count = ends[i]
        ends[i] = place
        place += count
    for r in range(m):
        s = order[first + r]
        for k in range(start[s], start[s + 1]):
            i = np.int64(index[k])
            if low <= i < high:
                place = ends[i - low]
                samples[place] = r
                values[place] = value[k]
                ends[i - low] = place + 1
    return begin


@inner
def update_batch(
    low, high, begin, ends, samples, values, width, delta, delta_row, target, stride, alpha
):
    """target[i] += alpha * (sum over the samples that light i of x[i] delta), low <= i < high."""
    for i in range(low, high):
        end = ends[i - low]
        if end > begin:
            gather_axpy(
                width, end - begin, at(values, begin), at(samples, begin), delta, delta_row,
                at(target, i * stride), alpha,
            )  # fmt: skip
        begin = end
