"""Data and workloads that the benchmarks share."""

from typing import NamedTuple

import numpy as np

import fastbp

BACKENDS = ["numba", "numpy"]
DTYPES = ["float32", "float64"]
DENSITY = 0.19  # the share of MNIST's pixels that are not zero


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


RELU = {"activation": "relu", "loss": "cross-entropy"}
WORKLOADS = {
    "online": Workload([784, 30, 10], 1, 0.3, {}, 50_000),
    "deep1": Workload([784, 100, 100, 10], 1, 0.1, {"bias": False}, 20_000),
    "nielsen": Workload([784, 30, 10], 10, 3.0, {"init": "normal"}, 50_000),
    "twolayer": Workload([784, 50, 10], 100, 0.1, RELU, 50_000),
    "wide": Workload([784, 512, 512, 10], 128, 0.1, RELU, 5_120),
}


def images(n, n_in=784, density=DENSITY, seed=0):
    """Return n made-up images with MNIST's share of zeros, and their labels."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, n_in), dtype=np.float32)
    X[rng.random((n, n_in)) >= density] = 0
    return X, rng.integers(0, 10, n)
