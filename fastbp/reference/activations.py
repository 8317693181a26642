"""Activations and their derivatives, element by element; and softmax, which takes rows."""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .records import Array


def exp(z: Array, out: Array) -> None:
    """Exponential, out = exp(z); the output of a Poisson regression.

    In double precision, because NumPy's float32 exp errs by up to 2.4 units in the last place. The
    compiled twin errs by at most 1.08 over all float32, and by less than 1.1 in float64, subnormal
    results included.
    """
    with np.errstate(over="ignore", under="ignore"):
        out[...] = np.exp(z, dtype=np.float64)


def sigmoid(z: Array, out: Array) -> None:
    """Logistic function, out = 1 / (1 + exp(-z)).

    Evaluated as exp(-|z|) / (1 + exp(-|z|)) for negative z, so that nothing overflows.

    The compiled twins of sigmoid and tanh are monotone, and err by at most 1.523 and 1.079 units in
    the last place over all float32, tanh by 1.046 with AVX-512, sigmoid by at most 2**-126 where
    its result is not a normal number (`scripts/exhaustive_ulp.py`, on a CPU with FMA; without, 2.2
    and 1.1 units). In float64, dense samples stay below 1.5 units, tanh below 1.35 with AVX-512.

    >>> sigmoid(np.array([0.0, 1000.0, -1000.0]), out := np.empty(3))
    >>> out
    array([0.5, 1. , 0. ])
    """
    t = np.exp(-np.abs(z))
    out[...] = np.where(z < 0, t, 1) / (1 + t)


def sigmoid_prime_from_a(a: Array, out: Array) -> None:
    """Derivative of the sigmoid from its value, out = a (1 - a)."""
    out[...] = a * (1 - a)


def sigmoid_prime(z: Array, out: Array) -> None:
    """Derivative of the sigmoid, out = sigma(z) (1 - sigma(z))."""
    sigmoid(z, out)
    sigmoid_prime_from_a(out.copy(), out)


def tanh(z: Array, out: Array) -> None:
    """Hyperbolic tangent, out = tanh(z); for the accuracy of the compiled twin see `sigmoid`."""
    out[...] = np.tanh(z)


def tanh_prime_from_a(a: Array, out: Array) -> None:
    """Derivative of tanh from its value, out = 1 - a**2."""
    out[...] = 1 - a * a


def tanh_prime(z: Array, out: Array) -> None:
    """Derivative of tanh, out = 1 - tanh(z)**2."""
    tanh(z, out)
    tanh_prime_from_a(out.copy(), out)


def relu(z: Array, out: Array) -> None:
    """Rectified linear unit, out = max(z, 0)."""
    out[...] = np.maximum(z, 0)


def relu_prime_from_a(a: Array, out: Array) -> None:
    """Derivative of ReLU from its value: 1 where a > 0, else 0 (also at the kink)."""
    out[...] = a > 0


relu_prime = relu_prime_from_a  # a > 0 where z > 0


def identity(z: Array, out: Array) -> None:
    """Identity, out = z."""
    out[...] = z


def identity_prime_from_a(a: Array, out: Array) -> None:
    """Derivative of the identity, out = 1."""
    out[...] = 1


identity_prime = identity_prime_from_a


def softmax(z: Array, out: Array) -> None:
    """Softmax of each row, out = exp(z - max z) / sum(exp(z - max z))."""
    t = np.exp(z - z.max(axis=1, keepdims=True))
    out[...] = t / t.sum(axis=1, keepdims=True)


def _doubles(function: Callable[[Array], Any]) -> Callable[[Array, Array], None]:
    """Return an element-wise function that is computed in double precision, and rounded once."""

    @wraps(function)
    def rounded(z: Array, out: Array) -> None:
        with np.errstate(over="ignore", under="ignore"):
            out[...] = function(z.astype(np.float64))

    return rounded


LEAK = 0.01  # slope of leaky ReLU below zero
FAR = 1e3  # where exp(-z) is 0, which infinity must not be multiplied by
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def leaky_relu(z: Array, out: Array) -> None:
    """Leaky ReLU, out = z where z > 0, else 0.01 z.

    Maas, Hannun and Ng, *Rectifier Nonlinearities Improve Neural Network Acoustic Models*, 2013.
    """
    out[...] = np.where(z > 0, z, z.dtype.type(LEAK) * z)


def leaky_relu_prime(z: Array, out: Array) -> None:
    """Derivative of leaky ReLU: 1 where z > 0, else 0.01."""
    out[...] = np.where(z > 0, 1, LEAK)


@_doubles
def elu(z: Array) -> Any:
    """Exponential linear unit, out = z where z > 0, else exp(z) - 1.

    Clevert, Unterthiner and Hochreiter, *Fast and Accurate Deep Network Learning by Exponential
    Linear Units*, 2016, with alpha = 1. The compiled twin errs by at most 0.92 units in the last
    place over all float32, and by less than 1.2 in float64; its slope is zero where it is no normal
    number.
    """
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


@_doubles
def elu_prime(z: Array) -> Any:
    """Derivative of ELU: 1 where z > 0, else exp(z)."""
    return np.exp(np.minimum(z, 0))


@_doubles
def softplus(z: Array) -> Any:
    """Softplus, out = log(1 + exp(z)), as max(z, 0) + log1p(exp(-|z|)).

    Glorot, Bordes and Bengio, *Deep Sparse Rectifier Neural Networks*, 2011. The compiled twin errs
    by at most 1.66 units in the last place over all float32, by less than 1.7 in float64, and by at
    most 2**-126 (2**-1022) where the result is no normal number.
    """
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


@_doubles
def softplus_prime(z: Array) -> Any:
    """Derivative of softplus, the sigmoid."""
    return _logistic(z)


@_doubles
def silu(z: Array) -> Any:
    """Sigmoid linear unit, or swish, out = z sigma(z).

    Elfwing, Uchibe and Doya, *Sigmoid-Weighted Linear Units for Neural Network Function
    Approximation in Reinforcement Learning*, 2018. The compiled twin errs by at most 2.42 units in
    the last place over all float32, and by less than 2.5 in float64; its slope, which is zero at
    z = -1.278, by at most 1.3 times epsilon.
    """
    return np.maximum(z, -FAR) * _logistic(z)


@_doubles
def silu_prime(z: Array) -> Any:
    """Derivative of SiLU, sigma(z) (1 + z (1 - sigma(z)))."""
    s = _logistic(z)
    return s * (1 + np.clip(z, -FAR, FAR) * _logistic(-z))


@_doubles
def gelu(z: Array) -> Any:
    """Gaussian error linear unit, out = z Phi(z), with Phi(z) = (1 + erf(z / sqrt 2)) / 2.

    Hendrycks and Gimpel, *Gaussian Error Linear Units (GELUs)*, 2016; not their approximation. The
    compiled twin errs by at most 2.7 units in the last place for z > 0 and 5.6 in the left tail,
    over all float32 (by less in samples of float64); its slope, which is zero at z = -0.752, by at
    most epsilon. Here, in float64, the rounding of z / sqrt(2) counts z**2 times in that tail.
    """
    return np.maximum(z, -FAR) * _normal(z)


@_doubles
def gelu_prime(z: Array) -> Any:
    """Derivative of GELU, Phi(z) + z phi(z), with phi(z) = exp(-z**2 / 2) / sqrt(2 pi)."""
    return _normal(z) + np.clip(z, -FAR, FAR) * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _logistic(z: Array) -> Any:
    t = np.exp(-np.abs(z))
    return np.where(z < 0, t, 1) / (1 + t)


def _normal(z: Array) -> Any:
    """The normal distribution's function; by erfc, as 1 + erf is lost in the left tail."""
    return _erfc(-z / math.sqrt(2)) / 2


Elementwise = Callable[[Array, Array], None]
_ALL = (
    sigmoid, tanh, relu, identity, leaky_relu, elu, softplus, silu, gelu, exp, softmax,
)  # fmt: skip
ACTIVATIONS: dict[str, Elementwise] = {function.__name__: function for function in _ALL}
# f'(z) from z, of all that hidden layers may have. The others are for outputs only.
_PRIMES = (
    sigmoid_prime, tanh_prime, relu_prime, identity_prime, leaky_relu_prime, elu_prime,
    softplus_prime, silu_prime, gelu_prime,
)  # fmt: skip
PRIMES: dict[str, Elementwise] = dict(zip(ACTIVATIONS, _PRIMES, strict=False))
# From the activation itself, where it follows.
_FROM_A = (sigmoid_prime_from_a, tanh_prime_from_a, relu_prime_from_a, identity_prime_from_a)
DERIVATIVES: dict[str, Elementwise] = {f.__name__.partition("_")[0]: f for f in _FROM_A}
# The names of all functions that work element by element.
ELEMENTWISE = (
    *(name + form for name in DERIVATIVES for form in ("", "_prime", "_prime_from_a")),
    *(name + form for name in PRIMES if name not in DERIVATIVES for form in ("", "_prime")),
    "exp",
)


def activate(activation: Any, z: Array, out: Array) -> None:
    """out = f(z), for the name of f or an `Activation` of the user's."""
    ACTIVATIONS[activation](z, out) if isinstance(activation, str) else activation.value(z, out)


def slope(activation: Any, z: Array, out: Array) -> None:
    """out = f'(z), for the name of f or an `Activation` of the user's."""
    PRIMES[activation](z, out) if isinstance(activation, str) else activation.prime(z, out)
