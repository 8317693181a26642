"""Leaky ReLU, ELU, softplus, SiLU, GELU: vector formulas of the value and the slope.

All are near zero on one side and near z on the other. Each takes z, as the slopes of most do not
follow from the value.
"""

import math

from llvmlite import ir

from .activations import (
    EXP_PARTS,
    exponential,
    lowest,
    map_one,
    map_row,
    power,
    quotient,
    reduced,
    sigmoid,
    split,
)
from .vectors import Vec, emitted

LEAK = 0.01


def leaky_relu(z):
    """z above zero, else 0.01 z."""
    return z.where(">", 0.0, z, z * LEAK), z.where(">", 0.0, 1.0, LEAK)


def elu(z):
    """z above zero, else exp(z) - 1."""
    x = z.where(">", 0.0, 0.0, z)  # NaN passes
    p, s = reduced(x)
    below = s.fma(p, s - 1.0)  # where s is 1, p is all that counts
    slope = x.where("<", lowest(x), 0.0, s.fma(p, s))
    return z.where(">", 0.0, z, below), slope


# Terms of log(1 + f) = 2 s + 2 s**3 / 3 + ..., s = f / (2 + f), after the first, for |s| <= 0.2:
# the others come to 6e-10 (float32) and 6e-19 (float64) of it.
_LOG_TERMS = {"float": 6, "double": 12}


def _log1p(x):
    """log(1 + x) for 0 <= x <= 1."""
    # Above 1/2 it is log 2 + log(1 + f), 1 + f being (1 + x) / 2.
    kind = str(x.value.type.element)
    f = x.where(">", 0.5, (x - 1.0) * 0.5, x)
    high, low = (x.where(">", 0.5, part, 0.0) for part in EXP_PARTS[kind][3])
    s, half = f / (f + 2.0), f * f * 0.5
    square = s * s
    rest = square * _polynomial(square, [2 / (2 * k + 3) for k in range(_LOG_TERMS[kind])])
    return high - ((half - s.fma(half + rest, low)) - f)


def _polynomial(x, coefficients):
    """Return the sum of coefficients[k] * x**k."""
    # Pairs of terms, then powers of the square: half the latency of one power after the other.
    pairs = list(zip(coefficients[::2], [*coefficients[1::2], 0.0], strict=False))
    square, total = x * x, None
    for even, odd in reversed(pairs):
        pair = x.const(odd).fma(x, x.const(even)) if odd else x.const(even)
        total = pair if total is None else total.fma(square, pair)
    return total


def softplus(z):
    """max(z, 0) + log(1 + exp(-|z|)); its slope is the sigmoid."""
    return z.where("<", 0.0, 0.0, z) + _log1p(exponential(-abs(z))), sigmoid(z)


# The exponentials of SiLU and GELU are raised by 2**16: where they are no normal numbers, their
# products with z still may be.
_RAISED = 16


def _raised_exponential(x, left=None):
    """2**16 exp(x + left) for x <= 0; zero where it would be subnormal. `left` is a rounding's."""
    low = lowest(x) - 11.0
    inside = x.where("<", low, low, x)  # NaN passes
    k, p = split(inside)
    if left is not None:
        p = left.fma(p + 1.0, p)
    s = power(inside, x.builder.add(k, k.type([_RAISED] * k.type.count)))
    return x.where("<", low, 0.0, s.fma(p, s))


def silu(z):
    """z sigma(z), and sigma(z) (1 + z (1 - sigma(z)))."""
    t = _raised_exponential(-abs(z))
    e = t * 2.0**-_RAISED
    d = e + 1.0
    low = e - (d - 1.0)
    large, small = quotient(z.const(1.0), d, low), quotient(t, d, low)
    scale, sigma = z.where("<", 0.0, 2.0**-_RAISED, 1.0), z.where("<", 0.0, small, large)
    rest = z.where("<", 0.0, large, small * 2.0**-_RAISED)
    # Of infinities, which 0 must not be multiplied by, the limits.
    end = 11.0 - lowest(z)  # from which t is zero
    above = z.where("<", -end, -end, z)
    inside = above.where(">", end, end, above)
    return above * sigma * scale, sigma * inside.fma(rest, z.const(1.0)) * scale


# GELU's tail: (x + 4) exp(x**2 / 2) Phi(-x), a polynomial in (x - 4) / (x + 4) up to where exp
# ends, which is made to miss by 2e-9 (float32) and 4e-17 (float64): interpolation at Chebyshev's
# points in 45 digits. Before it, that end, and the bits below half of a fraction.
_CENTRE = 4.0
_TAILS = {
    "float": (15.0, 12, (
        0.755285130, -0.607896654, 0.387137412, -0.186521397, 0.0603967484, -0.00754501721,
        -0.00348489990, 0.00164838813, 0.000164328865, -0.000241976693, -5.53756720e-5,
    )),
    "double": (40.0, 27, (
        0.75528513041575148, -0.60789664197189176, 0.38713740074221874, -0.18652185795969435,
        0.060396574890706450, -0.0075401889655847182, -0.0034796923623777732,
        0.0016308184417281585, 0.00013334425533584468, -0.00023109481665833731,
        -1.9078737869042446e-6, 3.5144171266129508e-5, 7.1502930765637475e-7,
        -5.9188567547979939e-6, -6.2517761272205325e-7, 1.0197239060965834e-6,
        2.6372855184504462e-7, -1.5415337090279745e-7, -7.6393784945292457e-8,
        1.4496295587963517e-8, 1.3908604716549315e-8, 9.8832667969368481e-11,
        -9.5484062618311817e-10,
    )),
}  # fmt: skip


def _square(x, bits):
    """Return x * x, and what rounding took from it; `bits` are those of the lower half of x."""
    # Without fma, which not every CPU has.
    b, n = x.builder, x.value.type.count
    width = 32 if isinstance(x.value.type.element, ir.FloatType) else 64
    kind = ir.VectorType(ir.IntType(width), n)
    mask = ir.Constant(kind, [-1 << bits] * n)
    high = Vec(b, b.bitcast(b.and_(b.bitcast(x.value, kind), mask), x.value.type))
    low, square = x - high, x * x
    return square, ((high * high - square) + high * (low + low)) + low * low


def _tail(x, coefficients):
    """exp(x**2 / 2) Phi(-x) for x >= 0."""
    d = x + _CENTRE
    high = d - x
    low = (x - (d - high)) + (x.const(_CENTRE) - high)
    inverse = x.const(1.0) / d
    t = (inverse * (-2 * _CENTRE)) + 1.0
    # What the division's rounding took counts up to three times: so the inverse shows in the tail.
    rest = (-inverse).fma(low, (-inverse).fma(d, x.const(1.0)))
    counts = t.fma(t.const(0.3), t.const(-1.1)).fma(t, t.const(1.8))
    tail = _polynomial(t, coefficients) * inverse
    return (tail * counts).fma(rest, tail)


def gelu(z):
    """z Phi(z), and Phi(z) + z phi(z), phi being the normal distribution's density."""
    end, bits, coefficients = _TAILS[str(z.value.type.element)]
    size = abs(z)
    x = size.where(">", end, end, size)  # NaN passes
    tail, (square, left) = _tail(x, coefficients), _square(x, bits)
    bell = _raised_exponential(square * -0.5, left * -0.5)
    part = bell * (x * tail) * 2.0**-_RAISED
    slope = bell * (-x).fma(x.const(1 / math.sqrt(2 * math.pi)), tail) * 2.0**-_RAISED
    return z.where("<", 0.0, -part, z - part), z.where("<", 0.0, slope, slope.const(1.0) - slope)


FORMULAS = {f.__name__: f for f in (leaky_relu, elu, softplus, silu, gelu)}


# -- how rows are mapped by them -------------------------------------------------------------------


def rows_by(formula):
    """Return an intrinsic: out = formula(z) for matrices of (rows, n)."""

    def map_rows(e, rows, n, z, z_row, out, out_row):
        with e.over(rows) as r:
            map_row(e, n, formula, [e.row(z, r, z_row)], e.row(out, r, out_row))

    return emitted()(map_rows)


def one_by(both):
    """Return an intrinsic: a, slope = both(z), for one sample in whole vectors, see `map_one`."""

    def map_both(e, n, z, a, slope):
        map_one(e, n, both, z, a, slope)

    return emitted()(map_both)
