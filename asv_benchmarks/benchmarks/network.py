"""A whole network: forward, loss, gradient, files."""

import tempfile
from pathlib import Path

import fastbp

from .common import BACKENDS, DTYPES, WORKLOADS, images

# Method of Network: the arguments it is called with.
CALLS = {
    "feedforward": lambda X, y: (X,),
    "predict": lambda X, y: (X,),
    "loss": lambda X, y: (X, y),
    "accuracy": lambda X, y: (X, y),
    "evaluate": lambda X, y: (X, y),
    "gradient": lambda X, y: (X, y),
    "update_mini_batch": lambda X, y: (X, y, 1e-6),
}


class Methods:
    """Times one call on [784, 30, 10]."""

    params = (list(CALLS), [1, 10, 1000], BACKENDS, DTYPES)
    param_names = ("method", "batch", "backend", "dtype")

    def setup(self, method, batch, backend, dtype):
        self.arguments = CALLS[method](*images(batch))
        self.call = getattr(WORKLOADS["online"].network(backend, dtype), method)
        self.call(*self.arguments)

    def time_method(self, method, batch, backend, dtype):
        self.call(*self.arguments)


class OneSample:
    """The book's face: one sample at a time."""

    params = BACKENDS
    param_names = ("backend",)

    def setup(self, backend):
        self.net = WORKLOADS["online"].network(backend)
        X, y = images(1)
        self.x, self.label = X[0], y[0]
        self.net.backprop(self.x, self.label)

    def time_backprop(self, backend):
        self.net.backprop(self.x, self.label)

    def time_feedforward(self, backend):
        self.net.feedforward(self.x)


class Parameters:
    """Copies and files of a network's parameters."""

    def setup(self):
        self.net = WORKLOADS["wide"].network("numba")
        self.vector = self.net.to_vector()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "net.safetensors")
        self.net.save(self.path)

    def teardown(self):
        self.folder.cleanup()

    def time_to_vector(self):
        self.net.to_vector()

    def time_from_vector(self):
        self.net.from_vector(self.vector)

    def time_save(self):
        self.net.save(self.path)

    def time_load(self):
        fastbp.load(self.path)


def time_load_digits():
    """Read the bundled digits."""
    fastbp.datasets.load("digits")
