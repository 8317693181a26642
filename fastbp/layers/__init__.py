"""Nodes of a computational graph, each with `forward` and `backward`, and `Sequential` of them.

`forward` computes the value of a node. `backward(dout)` takes the gradient of the end of the graph
with respect to that value, and returns the gradient with respect to the node's inputs. Activations,
products and losses run on the backend of `get_backend`, the kernels or the reference; the reference
states their equations.

A node remembers its last `forward`, so each place in a graph needs its own node. `Mul` and `Affine`
remember their inputs without a copy: do not change these, or the weights, before `backward`. No
node changes its inputs.

All nodes but `Add`, `Mul`, `Dropout` and `MeanLoss` take a `backend`, "numba" (the default) or
"numpy". Arguments that do not hold numbers raise TypeError; shapes that do not fit, and scores,
weights or targets that are not finite, raise ValueError.

Examples
--------
Two apples cost 100 each, the tax is 10 %. What is the price, and what does it depend on?

>>> apples, taxed = Mul(), Mul()
>>> price = taxed.forward(apples.forward(100, 2), 1.1)
>>> d_apples, d_tax = taxed.backward()
>>> d_apple, d_number = apples.backward(d_apples)
>>> [round(float(value), 9) for value in (price, d_apple, d_number, d_tax)]
[220.0, 2.2, 110.0, 200.0]

References
----------
Saito, *Deep Learning from Scratch*, ch. 5: 5.6 for `Affine`, 5.6.3 and appendix A for
`SoftmaxWithLoss`, 5.7 for `Sequential`.
"""

from .activations import ELU, GELU, Activation, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .dropout import Dropout
from .losses import MeanLoss, SoftmaxWithLoss
from .nodes import Add, Affine, Mul
from .sequential import Sequential

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "Add",
    "Affine",
    "Dropout",
    "LeakyReLU",
    "MeanLoss",
    "Mul",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SoftmaxWithLoss",
    "Softplus",
    "Tanh",
]
