"""Sigmoid, tanh, ReLU, identity and softmax: vector formulas, and the kernels that apply them.

All exponentials here have arguments <= 0, so nothing overflows. Each is a branch-free polynomial:
LLVM would call the scalar libm once per element, 5 to 10 times slower.
"""

import math

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..jit import KERNELS, inner, kernel
from .vectors import I64, Vec, loop, map_row, pointer

LN2 = math.log(2)


# Per width of the float: the bits of the fraction, the exponent's bias, the smallest argument whose
# exp is a normal number, ln 2 in parts of which the first is exact times k, and how many terms of
# expm1(r) = r + r**2 / 2 + ... follow the first: for |r| <= ln 2 / 2 the others come to 5e-9
# (float32) and 4e-18 (float64).
_EXP = {
    "float": (23, 127, -87.33654, (0.693359375, -2.12194440e-4), 6),
    "double": (52, 1023, -708.3964, (0.693147180369123816490, 1.90821492927058770002e-10), 12),
}


def _reduced(x, ln2=None):
    """Return p, s with exp(x) = s * (1 + p), s a power of two, |p| < 0.42, for x <= 0.

    Arguments below the smallest are taken for it. `ln2` are the parts of ln 2; one will do where an
    error that grows as x exp(x) does not show.
    """
    shift, bias, low, parts, terms = _EXP[str(x.value.type.element)]
    x = x.where("<", low, low, x)  # NaN passes
    # Adding 1.5 * 2**shift rounds x / ln 2 to an integer k and leaves k in the lowest bits.
    magic = 1.5 * 2.0**shift
    shifted = x.fma(x.const(1 / LN2), x.const(magic))
    k, r = shifted - magic, x
    for part in ln2 or parts:
        r = k.fma(k.const(-part), r)
    square, t = r * r, None
    # Pairs of terms, then powers of the square: half the latency of one power after the other.
    for power in range(terms, 1, -2):
        pair = r.const(1 / math.factorial(power + 1)).fma(r, r.const(1 / math.factorial(power)))
        t = pair if t is None else t.fma(square, pair)
    integer = ir.VectorType(ir.IntType(32 if shift == 23 else 64), x.value.type.count)
    b = x.builder
    bits = b.shl(b.bitcast(shifted.value, integer), _ints(integer, shift))
    bits = b.add(bits, _ints(integer, bias << shift))
    return square.fma(t, r), Vec(b, b.bitcast(bits, x.value.type))


def _ints(kind, value):
    return ir.Constant(kind, [value] * kind.count)


def _lowest(x):
    return _EXP[str(x.value.type.element)][2]


def exponential(x):
    """exp(x) for x <= 0; zero where it would be subnormal."""
    p, s = _reduced(x)
    return x.where("<", _lowest(x), 0.0, s.fma(p, s))


def _exp(z):
    """exp(z); above zero (1 / exp(-z / 2))**2, which overflows where exp(z) does."""
    half = z.where(">", 0.0, z * -0.5, z)
    e = exponential(half)
    root = e.const(1.0) / e
    return z.where(">", 0.0, root * root, e)


def _sigmoid(z):
    """t / (1 + t) or 1 / (1 + t), with t = exp(-|z|).

    One division; a Newton step takes care of what it lost and of the rounding of 1 + t. Without,
    2.3 units in the last place would be lost, and the order of neighbours.
    """
    p, s = _reduced(-abs(z))
    t = s.fma(p, s)
    n, d = z.where("<", 0.0, t, 1.0), t + 1.0
    inverse = d.const(1.0) / d
    q = n * inverse
    rest = (-q).fma(t - (d - 1.0), (-q).fma(d, n))
    return z.where("<", _lowest(z), 0.0, rest.fma(inverse, q))


def _tanh(z):
    """v / (2 - v) with v = 1 - exp(-2 |z|).

    As in the sigmoid, and v has its rounding taken care of, too: it counts in both places.
    """
    x = abs(z)
    p, s = _reduced(-(x + x), [LN2])
    whole = s.const(1.0) - s
    v = (-s).fma(p, whole)
    v_low = (-s).fma(p, whole - v)
    d = v.const(2.0) - v
    d_low = ((d.const(2.0) - d) - v) - v_low
    inverse = d.const(1.0) / d
    q = v * inverse
    rest = (-q).fma(d_low, (-q).fma(d, v) + v_low)
    return rest.fma(inverse, q).call("copysign", z)


def _relu(z):
    return z.where("<", 0.0, 0.0, z)  # NaN passes


def _identity(z):
    return z


def _sigmoid_slope(a):
    return a * (a.const(1.0) - a)


def _tanh_slope(a):
    return a.const(1.0) - a * a


def _relu_slope(a):
    return a.where(">", 0.0, 1.0, 0.0)


def _identity_slope(a):
    return a.const(1.0)


# By code: the activation of z and its derivative from a. Softmax, which is not element-wise, is
# the code after the last. The exponential is for outputs alone.
TABLE = (
    (_sigmoid, _sigmoid_slope),
    (_tanh, _tanh_slope),
    (_relu, _relu_slope),
    (_identity, _identity_slope),
    (_exp, _identity),
)
SIGMOID, TANH, RELU, IDENTITY, EXP, SOFTMAX = range(6)
CODES = {
    "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU, "identity": IDENTITY, "exp": EXP,
    "softmax": SOFTMAX,
}  # fmt: skip


def _by_code(formulas, inputs):
    """Make an intrinsic that maps rows by a formula chosen once per call, by code.

    (code, rows, n, source, source_row, ..., target, target_row)
    """

    def emit(builder, dtype, code, rows, n, matrices):
        after = builder.append_basic_block("after_activation")
        switch = builder.switch(code, after)
        for number, formula in enumerate(formulas):
            case = builder.append_basic_block(f"activation_{number}")
            switch.add_case(I64(number), case)
            builder.position_at_end(case)

            def row(r, _, formula=formula):
                places = [builder.gep(p, [builder.mul(r, step)]) for p, step in matrices]
                map_row(builder, dtype, n, formula, places[:-1], places[-1])
                return []

            loop(builder, I64(0), rows, I64(1), [], row)
            builder.branch(after)
        builder.position_at_end(after)

    i64 = types.int64

    if inputs == 1:

        @intrinsic
        def mapped(typingctx, code, rows, n, source, source_row, target, target_row):
            def codegen(context, builder, signature, args):
                code, rows, n, source, source_row, target, target_row = args
                matrices = [(source, source_row), (target, target_row)]
                emit(builder, target_type, code, rows, n, matrices)
                return context.get_dummy_value()

            target_type = target.dtype
            return types.void(i64, i64, i64, source, i64, target, i64), codegen

        return mapped

    @intrinsic
    def scaled(typingctx, code, rows, n, a, a_row, delta, delta_row):
        def codegen(context, builder, signature, args):
            code, rows, n, a, a_row, delta, delta_row = args
            matrices = [(a, a_row), (delta, delta_row), (delta, delta_row)]
            emit(builder, delta_type, code, rows, n, matrices)
            return context.get_dummy_value()

        delta_type = delta.dtype
        return types.void(i64, i64, i64, a, i64, delta, i64), codegen

    return scaled


def _times(slope):
    return lambda a, delta: delta * slope(a)


activate = _by_code([value for value, _ in TABLE], 1)  # target = f(source)
slopes = _by_code([slope for _, slope in TABLE], 1)  # target = f'(a)
scale_by_slope = _by_code([_times(slope) for _, slope in TABLE], 2)  # delta *= f'(a)


@inner
def _apply(code, z, out):
    activate(code, 1, z.size, pointer(z), 0, pointer(out), 0)


@inner
def _slope_from_a(code, a, out):
    slopes(code, 1, a.size, pointer(a), 0, pointer(out), 0)


@inner
def _slope_from_z(code, z, out):
    _apply(code, z, out)
    _slope_from_a(code, out, out)


@kernel
def exp(z, out):
    """Twin of `reference.exp`."""
    _apply(EXP, z, out)


@kernel
def sigmoid(z, out):
    """Twin of `reference.sigmoid`."""
    _apply(SIGMOID, z, out)


@kernel
def sigmoid_prime(z, out):
    """Twin of `reference.sigmoid_prime`."""
    _slope_from_z(SIGMOID, z, out)


@kernel
def sigmoid_prime_from_a(a, out):
    """Twin of `reference.sigmoid_prime_from_a`."""
    _slope_from_a(SIGMOID, a, out)


@kernel
def tanh(z, out):
    """Twin of `reference.tanh`."""
    _apply(TANH, z, out)


@kernel
def tanh_prime(z, out):
    """Twin of `reference.tanh_prime`."""
    _slope_from_z(TANH, z, out)


@kernel
def tanh_prime_from_a(a, out):
    """Twin of `reference.tanh_prime_from_a`."""
    _slope_from_a(TANH, a, out)


@kernel
def relu(z, out):
    """Twin of `reference.relu`."""
    _apply(RELU, z, out)


@kernel
def relu_prime(z, out):
    """Twin of `reference.relu_prime`."""
    _slope_from_z(RELU, z, out)


@kernel
def relu_prime_from_a(a, out):
    """Twin of `reference.relu_prime_from_a`."""
    _slope_from_a(RELU, a, out)


@kernel
def identity(z, out):
    """Twin of `reference.identity`."""
    _apply(IDENTITY, z, out)


@kernel
def identity_prime(z, out):
    """Twin of `reference.identity_prime`."""
    _slope_from_z(IDENTITY, z, out)


@kernel
def identity_prime_from_a(a, out):
    """Twin of `reference.identity_prime_from_a`."""
    _slope_from_a(IDENTITY, a, out)


# The element-wise operations, by name.
ELEMENTWISE = tuple(name for name, made in KERNELS.items() if made.__module__ == __name__)
