"""The output layer: activation, loss and delta of one sample, from the weighted input z.

Losses start from z, not from a: log(a) of a saturated output is lost, log1p of the rest is not.
Sums are carried in double precision whatever the dtype.
"""

import math

import numpy as np

from ._jit import inner, kernel
from .activations import SIGMOID, SOFTMAX, activate, scale_by_slope, softmax_row
from .simd import at, pointer

QUADRATIC, CROSS_ENTROPY = range(2)
CODES = {"quadratic": QUADRATIC, "cross-entropy": CROSS_ENTROPY}


@inner
def _target(label, y, j):
    """Return the j-th target: one-hot where there is a label, else as given."""
    if label < 0:
        return np.float64(y[j])
    return 1.0 if j == label else 0.0


@inner
def apply_output(code, n, z):
    """Replace z by the output's activation."""
    if code == SOFTMAX:
        softmax_row(n, z, z)
    else:
        activate(code, 1, n, z, 0, z, 0)


@inner
def _quadratic(code, n, z, label, y, delta):
    apply_output(code, n, z)
    loss = 0.0
    along = 0.0
    for j in range(n):
        difference = z[j] - _target(label, y, j)
        loss += difference * difference
        along += difference * z[j]
        delta[j] = difference
    if code == SOFTMAX:
        for j in range(n):
            delta[j] = z[j] * (delta[j] - along)
    else:
        scale_by_slope(code, 1, n, z, 0, delta, 0)
    return 0.5 * loss


@inner
def _softmax_cross_entropy(n, z, label, y, delta):
    largest = z[0]
    for j in range(1, n):
        largest = max(largest, z[j])
    below = 0.0
    total = 0.0
    for j in range(n):
        t = _target(label, y, j)
        total += t
        below += t * (np.float64(largest) - z[j])
    _, rest = softmax_row(n, z, z)
    for j in range(n):
        delta[j] = z[j] * total - _target(label, y, j)
    return below + total * math.log1p(rest)


@inner
def _sigmoid_cross_entropy(n, z, label, y, delta):
    loss = 0.0
    for j in range(n):
        x = np.float64(z[j])
        loss += max(x, 0.0) - _target(label, y, j) * x + math.log1p(math.exp(-abs(x)))
    activate(SIGMOID, 1, n, z, 0, z, 0)
    for j in range(n):
        delta[j] = z[j] - _target(label, y, j)
    return loss


@inner
def output_row(loss, code, n, width, z, label, y, delta):
    """Turn z into a, write delta (padded with zeros to `width`), return the sample's loss."""
    for j in range(n, width):
        delta[j] = 0.0
    if loss == QUADRATIC:
        return _quadratic(code, n, z, label, y, delta)
    if code == SOFTMAX:
        return _softmax_cross_entropy(n, z, label, y, delta)
    return _sigmoid_cross_entropy(n, z, label, y, delta)


@inner
def largest_at(n, a):
    """Return the index of the first largest element."""
    best = 0
    for j in range(1, n):
        if a[j] > a[best]:
            best = j
    return best


@kernel
def output_delta(loss, activation, z, y, a, delta, losses):
    """Twin of `reference.output_delta`."""
    n = z.shape[1]
    for r in range(z.shape[0]):
        for j in range(n):
            a[r, j] = z[r, j]
        row = at(pointer(a), r * n)
        target = at(pointer(y), r * n)
        losses[r] = output_row(loss, activation, n, n, row, -1, target, at(pointer(delta), r * n))
