"""Data and workloads that the benchmarks share."""

from typing import NamedTuple

import numpy as np

import fastbp

BACKENDS = ["numba", "numpy"]
DTYPES = ["float32", "float64"]
DENSITY = 0.19  # the share of MNIST's pixels that are not zero
INPUTS = {"zeros": DENSITY, "dense": 1.0}


class Workload(NamedTuple):
    """A network and the way it is trained."""

    sizes: list
    batch_size: int
    learning_rate: float
    options: dict
    samples: int  # about a tenth of a second on the compiled kernels

    def network(self, backend, dtype="float32"):
        """Return the network, always from the same start."""
        return fastbp.Network(self.sizes, backend=backend, dtype=dtype, seed=0, **self.options)

    def data(self, n, density=DENSITY):
        """Return n samples and labels, or, for another width than that of images, targets."""
        if self.sizes[0] == PIXELS:
            return images(n, density=density)
        rng = np.random.default_rng(0)
        X = rng.standard_normal((n, self.sizes[0]), np.float32)
        return X, np.tanh(X @ rng.standard_normal((self.sizes[0], self.sizes[-1]), np.float32))


PIXELS = 784
RELU = {"activation": "relu", "loss": "cross-entropy"}
TANH = {"activation": "tanh", "output": "identity"}
WORKLOADS = {
    "online": Workload([784, 30, 10], 1, 0.3, {}, 50_000),
    "deep1": Workload([784, 100, 100, 10], 1, 0.1, {"bias": False}, 20_000),
    "nielsen": Workload([784, 30, 10], 10, 3.0, {"init": "normal"}, 50_000),
    "twolayer": Workload([784, 50, 10], 100, 0.1, RELU, 50_000),
    "wide": Workload([784, 512, 512, 10], 128, 0.1, RELU, 5_120),
}
# Lanes over the batch; these have no images.
NARROW = {
    "surrogate": Workload([4, 32, 16, 4], 10_000, 0.1, TANH, 10_000),
    "regression": Workload([24, 8, 2], 200, 0.1, TANH, 20_000),
}
ALL = WORKLOADS | NARROW


class Timed:
    """How the benchmarks of times are sampled.

    asv sets up anew before each call that it times, and then times single calls. So what is set up
    is made once a process (`functools.cache`), and many single calls make a median.
    """

    number, rounds, warmup_time = 1, 2, 0.02
    repeat = (5, 50, 0.1)
    timeout = 300  # a kernel may have to be compiled


def images(n, n_in=PIXELS, density=DENSITY, seed=0):
    """Return n made-up images with MNIST's share of zeros, and their labels."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, n_in), dtype=np.float32)
    X[rng.random((n, n_in)) >= density] = 0
    return X, rng.integers(0, 10, n)
