"""Training: throughput per workload, the speed-up over NumPy, the accuracy that a budget buys."""

import time

import numpy as np

import fastbp

from .common import BACKENDS, DENSITY, DTYPES, WORKLOADS, images

INPUTS = {"zeros": DENSITY, "dense": 1.0}
NUMPY_SHARE = 20  # the reference trains on a twentieth of the samples
ROUNDS = 5


def _fit(net, work, X, y, samples, threads=1):
    return net.fit(
        X[:samples],
        y[:samples],
        epochs=1,
        batch_size=work.batch_size,
        learning_rate=work.learning_rate,
        threads=threads,
    )


class Epoch:
    """Times `fit` over one epoch."""

    params = (list(WORKLOADS), list(INPUTS), BACKENDS, DTYPES, [1, 2])
    param_names = ("workload", "inputs", "backend", "dtype", "threads")
    number, warmup_time = 1, 0.0
    repeat = (3, 10, 2.0)

    def setup(self, workload, inputs, backend, dtype, threads):
        if backend == "numpy" and threads > 1:
            raise NotImplementedError("the reference has no threads")
        self.work = WORKLOADS[workload]
        self.samples = self.work.samples // (NUMPY_SHARE if backend == "numpy" else 1)
        self.X, self.y = images(self.samples, density=INPUTS[inputs])
        self.net = self.work.network(backend, dtype)
        _fit(self.net, self.work, self.X, self.y, self.work.batch_size, threads)

    def time_epoch(self, workload, inputs, backend, dtype, threads):
        _fit(self.net, self.work, self.X, self.y, self.samples, threads)


class SpeedUp:
    """Ratio of throughputs, kernels to reference, taken in turns in one process."""

    params = (list(WORKLOADS), list(INPUTS))
    param_names = ("workload", "inputs")
    unit = "x"

    def setup(self, workload, inputs):
        self.work = WORKLOADS[workload]
        self.X, self.y = images(self.work.samples, density=INPUTS[inputs])
        self.nets = {backend: self.work.network(backend) for backend in BACKENDS}
        self.samples = {"numba": self.work.samples, "numpy": self.work.samples // NUMPY_SHARE}
        for net in self.nets.values():
            _fit(net, self.work, self.X, self.y, self.work.batch_size)

    def _throughput(self, backend):
        started = time.perf_counter()
        _fit(self.nets[backend], self.work, self.X, self.y, self.samples[backend])
        return self.samples[backend] / (time.perf_counter() - started)

    def track_speed_up(self, workload, inputs):
        """Median over rounds of the ratio."""
        ratios = [self._throughput("numba") / self._throughput("numpy") for _ in range(ROUNDS)]
        return float(np.median(ratios))


class Accuracy:
    """What ten epochs on the digits buy: the same on any machine, whatever its speed."""

    params = (BACKENDS, DTYPES)
    param_names = ("backend", "dtype")
    unit = "share of the test set"

    def track_accuracy(self, backend, dtype):
        """Test accuracy after a fixed budget."""
        X_train, y_train, X_test, y_test = fastbp.datasets.load("digits")
        net = fastbp.Network(
            [64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0,
            backend=backend, dtype=dtype,
        )  # fmt: skip
        net.fit(X_train, y_train, epochs=10, batch_size=10, learning_rate=0.5)
        return net.accuracy(X_test, y_test)
