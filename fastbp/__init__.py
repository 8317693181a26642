"""Back-propagation at the speed of the hardware: Numba kernels, a NumPy reference, one `Network`.

>>> import fastbp
>>> X_train, y_train, X_test, y_test = fastbp.datasets.load("digits")
>>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=1)
>>> history = net.fit(X_train, y_train, epochs=20, batch_size=10, learning_rate=0.5)
>>> net.accuracy(X_test, y_test) > 0.9
True
"""

from . import datasets
from .backend import get_backend
from .errors import DivergenceError, ModelFileError
from .gradients import gradcheck
from .layers import Add, Affine, Mul, ReLU, Sigmoid, SoftmaxWithLoss, Tanh
from .network import Gradient, Network, load
from .sequential import Sequential
from .training import History
from .verification import verify

__version__ = "0.1.0"

__all__ = [
    "Add",
    "Affine",
    "DivergenceError",
    "Gradient",
    "History",
    "ModelFileError",
    "Mul",
    "Network",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SoftmaxWithLoss",
    "Tanh",
    "datasets",
    "get_backend",
    "gradcheck",
    "load",
    "verify",
]
