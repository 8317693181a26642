"""Sigmoid, tanh, ReLU, identity and exp: vector formulas, and how rows are mapped by them.

Inside formulas and losses, exponentials have arguments <= 0, so that nothing overflows. Each is a
branch-free polynomial: LLVM would call the scalar libm once per element, 5 to 10 times slower.
"""

import math
from functools import partial

from llvmlite import ir

from .. import machine
from ..machine import FORMULA_VECTORS
from .tanh import tanh
from .vectors import I64, Vec, emitted

LN2 = math.log(2)

# Per width of the float: the bits of the fraction, the exponent's bias, the smallest argument whose
# exp is a normal number, ln 2 in parts of which the first is exact times k, and how many terms of
# expm1(r) = r + r**2 / 2 + ... follow the first: for |r| <= ln 2 / 2 the others come to 5e-9
# (float32) and 4e-18 (float64).
EXP_PARTS = {
    "float": (23, 127, -87.33654, (0.693359375, -2.12194440e-4), 6),
    "double": (52, 1023, -708.3964, (0.693147180369123816490, 1.90821492927058770002e-10), 12),
}
# Arguments from which on exp is zero, below, and infinite, above.
_ENDS = {"float": (-104.0, 89.0), "double": (-746.0, 710.0)}


def split(x, ln2=None):
    """Return k, p with exp(x) = 2**k * (1 + p), |p| < 0.42; k in the lowest bits of integers."""
    # `ln2` are the parts of ln 2; one suffices where an error that grows as x exp(x) does not show.
    shift, _, _, parts, terms = EXP_PARTS[str(x.value.type.element)]
    # Adding 1.5 * 2**shift rounds x / ln 2 to an integer k and leaves k in the lowest bits.
    magic = 1.5 * 2.0**shift
    shifted = x.fma(x.const(1 / LN2), x.const(magic))
    k, r = shifted - magic, x
    for part in ln2 or parts:
        r = k.fma(k.const(-part), r)
    square, t = r * r, None
    # Pairs of terms, then powers of the square: half the latency of one power after the other.
    for n in range(terms, 1, -2):
        pair = r.const(1 / math.factorial(n + 1)).fma(r, r.const(1 / math.factorial(n)))
        t = pair if t is None else t.fma(square, pair)
    integer = ir.VectorType(ir.IntType(32 if shift == 23 else 64), x.value.type.count)
    return x.builder.bitcast(shifted.value, integer), square.fma(t, r)


def power(x, k):
    """Return 2**k, of the type of x, for integers k whose lowest bits count."""
    shift, bias, *_ = EXP_PARTS[str(x.value.type.element)]
    b, n = x.builder, k.type.count
    bits = b.add(b.shl(k, k.type([shift] * n)), k.type([bias << shift] * n))
    return Vec(b, b.bitcast(bits, x.value.type))


def reduced(x, ln2=None):
    """Return p, s with exp(x) = s * (1 + p), s a power of two, |p| < 0.42, for x <= 0."""
    # Arguments below the smallest are taken for it.
    low = lowest(x)
    x = x.where("<", low, low, x)  # NaN passes
    k, p = split(x, ln2)
    return p, power(x, k)


def lowest(x):
    """Return the smallest argument whose exp is a normal number."""
    return EXP_PARTS[str(x.value.type.element)][2]


def exponential(x):
    """exp(x) for x <= 0; zero where it would be subnormal."""
    p, s = reduced(x)
    return x.where("<", lowest(x), 0.0, s.fma(p, s))


def _exp(z):
    """exp(z) for all z: the power of two in halves, as at both ends it is no number of its own."""
    low, high = _ENDS[str(z.value.type.element)]
    z = z.where("<", low, low, z)  # NaN passes
    z = z.where(">", high, high, z)
    k, p = split(z)
    shift, bias, *_ = EXP_PARTS[str(z.value.type.element)]
    b, n = z.builder, k.type.count
    # Less what 1.5 * 2**shift has above the lowest bits, for the sign of k.
    k = b.sub(k, k.type([(bias + shift) << shift | 1 << (shift - 1)] * n))
    half = b.ashr(k, k.type([1] * n))
    s = power(z, half)
    return s.fma(p, s) * power(z, b.sub(k, half))


def quotient(n, d, d_low, n_low=None):
    """(n + n_low) / (d + d_low), where the low parts are what rounding took from n and d."""
    # One division, and a Newton step that takes care of its rounding and of the low parts. Without,
    # the sigmoid would lose 2.3 units in the last place, and neighbours their order.
    inverse = d.const(1.0) / d
    q = n * inverse
    rest = (-q).fma(d, n)
    rest = (-q).fma(d_low, rest if n_low is None else rest + n_low)
    return rest.fma(inverse, q)


def sigmoid(z):
    """t / (1 + t) or 1 / (1 + t), with t = exp(-|z|)."""
    p, s = reduced(-abs(z))
    t = s.fma(p, s)
    d = t + 1.0
    q = quotient(z.where("<", 0.0, t, 1.0), d, t - (d - 1.0))
    return z.where("<", lowest(z), 0.0, q)


def _tanh_by_exponential(z):
    """v / (2 - v) with v = 1 - exp(-2 |z|); the rounding of v counts in both places."""
    x = abs(z)
    p, s = reduced(-(x + x), [LN2])
    whole = s.const(1.0) - s
    v = (-s).fma(p, whole)
    v_low = (-s).fma(p, whole - v)
    d = v.const(2.0) - v
    d_low = ((d.const(2.0) - d) - v) - v_low
    return quotient(v, d, d_low, v_low).call("copysign", z)


# Of tanh in float32 without AVX-512: up to where it is x + x**3 (c[0] + c[1] x**2 + ...), and from
# where on it is 1 but for rounding. On Emerald Rapids 18.7 cycles for 16 values, by the formula for
# float64 23.5; on Zen 4 as long as that, and 1.08 units in the last place in place of 1.58.
_TANH_NEAR, _TANH_FAR = 0.7, 10.0
_TANH_NEAR_TERMS = (
    -0.3333319127559662, 0.1332911103963852, -0.053558893501758575, 0.02009204961359501,
    -0.005138729698956013,
)  # fmt: skip


def _tanh_in_two(z):
    """x + x**3 P(x**2) near zero, else 1 - 2 / (exp(2 x) + 1), with x = |z|."""
    x = abs(z)
    y = x.where(">", _TANH_FAR, _TANH_FAR, x)  # NaN passes
    k, p = split(y + y, [LN2])
    s = power(y, k)
    far = y.const(1.0) - y.const(2.0) / (s.fma(p, s) + 1.0)
    square, near = y * y, y.const(_TANH_NEAR_TERMS[-1])
    for term in reversed(_TANH_NEAR_TERMS[:-1]):
        near = near.fma(square, y.const(term))
    near = (square * y).fma(near, y)
    return y.where("<", _TANH_NEAR, near, far).call("copysign", z)


# Of tanh in float64: from where on it is 1 but for rounding, and c in
# x + x**3 (c[0] + c[1] x**2 + ...), which for |x| < ln 2 errs by 4e-18 of tanh(x) at most: the
# least that so many terms allow, by Remez' exchange.
_TANH_TOP = 20.0
_TANH_TERMS = (
    -0.33333333333333134, 0.13333333333304924, -0.053968253954116837, 0.021869488182440408,
    -0.0088632303270868520, 0.0035920791086562106, -0.0014555257475887172,
    0.00058868725100591071, -0.00023508514973401872, 0.000088480067749377935,
    -0.000027360235959531972, 4.9055664416195737e-6,
)  # fmt: skip


def _tanh_by_addition(z):
    """1 - (1 - t) / (C + (C - 1) t), with |z| = k ln 2 + r, t = tanh(r), C = (4**k + 1) / 2."""
    # That is tanh(k ln 2 + r) by the addition theorem; where k is 0, t itself. As r grows, 1 - t
    # falls and the divisor rises, however they are rounded: so tanh never falls. As r is not
    # negative, 1 - t has all digits, and where k is not 0 tanh is above 0.6.
    # 22 cycles for 8 values on Zen 4, by the exponential 29; vectors of 32 bytes took longer so.
    (shift, bias, *_), terms = EXP_PARTS["double"], _TANH_TERMS
    b, x = z.builder, abs(z)
    x = x.where(">", _TANH_TOP, _TANH_TOP, x)  # NaN passes
    # Adding 1.5 * 2**(shift + 1) rounds to even numbers, 2 k here, and leaves k in the lowest bits;
    # with the exponent of 1/2 added they make 4**k / 2. Were `less` 1, zero would be halfway to -2.
    magic = 1.5 * 2.0 ** (shift + 1) + (bias - 1)
    less = 1 - 0.5 ** (shift + 1)
    shifted = x.fma(x.const(2 / LN2), x.const(-less)) + magic
    integer = ir.VectorType(I64, x.value.type.count)
    bits = b.shl(b.bitcast(shifted.value, integer), integer([shift + 1] * integer.count))
    half, twice = Vec(b, b.bitcast(bits, x.value.type)), shifted - magic
    r = twice.fma(x.const(-LN2 / 2), x)
    square, p = r * r, r.const(terms[-1])
    for term in reversed(terms[:-1]):
        p = p.fma(square, r.const(term))
    t = (square * r).fma(p, r)
    q = (t.const(1.0) - t) / (half - 0.5).fma(t, half + 0.5)
    return twice.where(">", 0.0, q.const(1.0) - q, t).call("copysign", z)


def _tanh(z):
    if str(z.value.type.element) == "float":
        return tanh(z) if machine.AVX512 else _tanh_in_two(z)
    return _tanh_by_addition(z) if machine.AVX512 else _tanh_by_exponential(z)


# By code: the activation of z and its derivative from a. Softmax, which is not element-wise, is
# the code after the last. The exponential is for outputs alone.
FORMULAS = (
    (sigmoid, lambda a: a * (a.const(1.0) - a)),
    (_tanh, lambda a: a.const(1.0) - a * a),
    (lambda z: z.where("<", 0.0, 0.0, z), lambda a: a.where(">", 0.0, 1.0, 0.0)),  # NaN passes
    (lambda z: z, lambda a: a.const(1.0)),
    (_exp, lambda a: a),
)
SIGMOID, TANH, RELU, IDENTITY, EXP, SOFTMAX = range(6)
ACTIVATION_NAMES = ("sigmoid", "tanh", "relu", "identity", "exp", "softmax")
ACTIVATION_CODES = {name: code for code, name in enumerate(ACTIVATION_NAMES)}


def map_row(e, n, formula, sources, target):
    """Emit `target[j] = formula(source[j], ...)` for j < n; nothing beyond is read or written."""
    # FORMULA_VECTORS vectors are taken at once as far as they are whole. The rest is masked.
    b = e.builder
    step = e.lanes * FORMULA_VECTORS

    def masked(first, vectors):
        mask = e.first_lanes(b.sub(n, first), vectors)
        xs = [e.masked_load(e.at(p, first), mask) for p in sources]
        e.masked_store(e.at(target, first), mask, formula(*xs))

    whole = b.sub(n, b.srem(n, I64(step)))
    with e.over(whole, step) as j:
        xs = [e.load(e.at(p, j), FORMULA_VECTORS) for p in sources]
        e.store(e.at(target, j), formula(*xs), FORMULA_VECTORS)

    def rest(vectors):
        """Emit the smallest of 1, 2, 4, ... vectors that takes what is left."""
        if vectors == FORMULA_VECTORS:
            return masked(whole, vectors)
        enough = b.icmp_signed("<=", b.sub(n, whole), I64(e.lanes * vectors))
        with b.if_else(enough) as (then, otherwise):
            with then:
                masked(whole, vectors)
            with otherwise:
                rest(2 * vectors)

    with b.if_then(b.icmp_signed("<", whole, n)):
        rest(1)


def _map_rows(e, formulas, code, rows, n, sources, target):
    """Emit `map_row` for each row of matrices, given as (place, stride), by the code's formula."""

    def case(formula):
        with e.over(rows) as r:
            *places, last = (e.row(place, r, stride) for place, stride in (*sources, target))
            map_row(e, n, formula, places, last)

    e.switch(code, {number: partial(case, f) for number, f in enumerate(formulas)})


@emitted(apart=True)
def activate(e, code, rows, n, z, z_row, out, out_row):
    """out = f(z) for matrices of (rows, n)."""
    _map_rows(e, [f for f, _ in FORMULAS], code, rows, n, [(z, z_row)], (out, out_row))


@emitted(apart=True)
def activate_one(e, code, n, z, a, slope):
    """a = f(z), slope = f'(z), for one sample, in whole vectors: both are zero from n on."""

    # z, a, slope: (n,), in rows of whole vectors; a may be z. The next layer waits for a: what is
    # stored under a mask has to reach the cache before it can be loaded again.
    def case(formula, derivative):
        def both(z):
            found = formula(z)
            return found, derivative(found)

        map_one(e, n, both, z, a, slope)

    e.switch(code, {number: partial(case, *pair) for number, pair in enumerate(FORMULAS)})


def map_one(e, n, both, z, a, slope):
    """Emit `a[j], slope[j] = both(z[j])` in whole vectors: both are zero from n on."""
    b = e.builder
    vectors = b.sdiv(b.add(n, I64(e.lanes - 1)), I64(e.lanes))
    pairs = b.sdiv(vectors, I64(2))

    def some(i, vectors):
        j = b.mul(i, I64(e.lanes * vectors))
        inside = e.first_lanes(b.sub(n, j), vectors)
        for place, found in zip((a, slope), both(e.load(e.at(z, j), vectors)), strict=True):
            e.store(e.at(place, j), found.keep(inside, 0.0), vectors)

    with e.over(pairs) as i:
        some(i, 2)
    with e.over(vectors, 1, b.mul(pairs, I64(2))) as i:
        some(i, 1)


@emitted(apart=True)
def slopes(e, code, rows, n, a, a_row, out, out_row):
    """out = f'(z), computed from a = f(z)."""
    _map_rows(e, [slope for _, slope in FORMULAS], code, rows, n, [(a, a_row)], (out, out_row))


@emitted(apart=True)
def scale_by_slope(e, code, rows, n, a, a_row, delta, delta_row):
    """delta *= f'(z), computed from a = f(z)."""

    def times(slope):
        return lambda a, delta: delta * slope(a)

    formulas, target = [times(slope) for _, slope in FORMULAS], (delta, delta_row)
    _map_rows(e, formulas, code, rows, n, [(a, a_row), target], target)
