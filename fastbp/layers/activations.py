"""Activations as nodes of a computational graph; see `fastbp.layers`."""

from __future__ import annotations

import operator
from typing import Any

from numpy.typing import ArrayLike

from ..engines import get_backend
from ..reference import DERIVATIVES
from .nodes import BackendNode, floats


class Activation(BackendNode[Any]):
    """out = f(x), element by element, where f is an activation of the backend."""

    _function = ""

    def forward(self, x: ArrayLike) -> Any:
        """Return f(x) for a number or an array of any shape: a float, or a new array of this shape.

        float32 and float64 keep their precision; integers are converted to float64.
        """
        x, backend = floats("x", x), get_backend(self.backend)
        a = getattr(backend, self._function)(x)
        # Keep the slope rather than a, because the caller may write into a.
        form, of = ("_prime_from_a", a) if self._function in DERIVATIVES else ("_prime", x)
        slope = getattr(backend, self._function + form)(of)
        self._out, self._seen = (x.shape, x.dtype), (slope,)
        return a[()]

    _gradient = staticmethod(operator.mul)  # dout * slope


class ReLU(Activation):
    """The rectified linear unit: out = max(x, 0);  dx = dout where x > 0, else 0, also at the kink.

    Examples
    --------
    >>> node = ReLU()
    >>> print(node.forward([-1.0, 2.0]), node.backward([5.0, 5.0]))
    [0. 2.] [0. 5.]
    """

    _function = "relu"


class Sigmoid(Activation):
    """The logistic function: out = 1 / (1 + exp(-x));  dx = dout * out * (1 - out).

    Examples
    --------
    >>> node = Sigmoid()
    >>> print(node.forward([0.0, 1000.0]), node.backward())
    [0.5 1. ] [0.25 0.  ]
    """

    _function = "sigmoid"


class Tanh(Activation):
    """The hyperbolic tangent: out = tanh(x);  dx = dout * (1 - out**2).

    Examples
    --------
    >>> node = Tanh()
    >>> print(node.forward([0.0, -1000.0]), node.backward())
    [ 0. -1.] [1. 0.]
    """

    _function = "tanh"


class LeakyReLU(Activation):
    """The leaky rectified linear unit: out = x where x > 0, else 0.01 x;  dx = dout or 0.01 dout.

    Examples
    --------
    >>> node = LeakyReLU()
    >>> print(node.forward([-1.0, 2.0]), node.backward([5.0, 5.0]))
    [-0.01  2.  ] [0.05 5.  ]
    """

    _function = "leaky_relu"


class ELU(Activation):
    """The exponential linear unit: out = x where x > 0, else exp(x) - 1;  dx = dout or dout exp(x).

    Examples
    --------
    >>> node = ELU()
    >>> print(node.forward([-1000.0, 2.0]), node.backward([5.0, 5.0]))
    [-1.  2.] [0. 5.]
    """

    _function = "elu"


class Softplus(Activation):
    """A smooth ReLU: out = log(1 + exp(x));  dx = dout * sigmoid(x).

    Examples
    --------
    >>> node = Softplus()
    >>> print(node.forward([-1000.0, 1000.0]), node.backward())
    [   0. 1000.] [0. 1.]
    """

    _function = "softplus"


class SiLU(Activation):
    """The sigmoid linear unit, or swish: out = x s;  dx = dout * s (1 + x (1 - s)), s = sigmoid(x).

    Examples
    --------
    >>> node = SiLU()
    >>> print(node.forward([0.0, 1000.0]), node.backward())
    [   0. 1000.] [0.5 1. ]
    """

    _function = "silu"


class GELU(Activation):
    """The Gaussian error linear unit: out = x P(x);  dx = dout * (P(x) + x p(x)).

    P is the distribution function of the normal distribution, p its density.

    Examples
    --------
    >>> node = GELU()
    >>> print(node.forward([0.0, 1000.0]), node.backward())
    [   0. 1000.] [0.5 1. ]
    """

    _function = "gelu"
