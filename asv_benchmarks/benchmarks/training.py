"""Training: throughput per workload, the speed-up over NumPy, memory, what a budget buys."""

from functools import cache, partial

import numpy as np

import fastbp

from .common import ALL, BACKENDS, DTYPES, INPUTS, WORKLOADS, Timed, images
from .ratios import ratios

NUMPY_SHARE = 20  # the reference trains on a twentieth of the samples
SPEED_UPS = 15
ESTIMATOR_STEPS = 50


def _fit(net, work, X, y, threads=1):
    return net.fit(
        X, y, epochs=1, batch_size=min(work.batch_size, len(X)), learning_rate=work.learning_rate,
        threads=threads,
    )  # fmt: skip


@cache
def _epoch(workload, inputs, backend, dtype, threads=1):
    """Return a call that trains for an epoch, warmed up."""
    work = ALL[workload]
    samples = work.samples // (NUMPY_SHARE if backend == "numpy" else 1)
    X, y = work.data(samples, INPUTS[inputs])
    net = work.network(backend, dtype)
    _fit(net, work, X[: work.batch_size], y[: work.batch_size], threads)
    return partial(_fit, net, work, X, y, threads)


def _applicable(workload, inputs):
    if workload not in WORKLOADS and inputs != "dense":
        raise NotImplementedError("only images have zeros to skip")


class Epoch(Timed):
    """Times `fit` over one epoch."""

    params = (list(ALL), list(INPUTS), BACKENDS, DTYPES, [1, 2])
    param_names = ("workload", "inputs", "backend", "dtype", "threads")
    rounds, repeat = 1, (3, 10, 0.5)

    def setup(self, workload, inputs, backend, dtype, threads):
        _applicable(workload, inputs)
        if backend == "numpy" and threads > 1:
            raise NotImplementedError("the reference has no threads")
        self.call = _epoch(workload, inputs, backend, dtype, threads)

    def time_epoch(self, workload, inputs, backend, dtype, threads):
        self.call()

    time_epoch.pretty_name = "fit: one epoch (the reference: a twentieth of it)"


class SpeedUp:
    """Ratio of throughputs, kernels to reference, taken in turns in one process.

    More is better here, so asv's own comparisons read it the wrong way round; `ratios` holds what
    they read rightly.
    """

    params = (list(ALL), list(INPUTS))
    param_names = ("workload", "inputs")
    timeout = 300

    def setup(self, workload, inputs):
        _applicable(workload, inputs)
        make = partial(_epoch, workload, inputs, dtype="float32")
        self.calls = {backend: make(backend=backend) for backend in BACKENDS}

    def track_speed_up(self, workload, inputs):
        found = ratios(self.calls["numpy"], self.calls["numba"])[:SPEED_UPS]
        return {"samples": [NUMPY_SHARE * ratio for ratio in found], "number": 1}

    track_speed_up.pretty_name = "fit: samples per second, as a multiple of the NumPy reference's"
    track_speed_up.unit = "x the reference's speed (more is better)"


class Memory:
    """A process that trains on as many images as MNIST has."""

    images = 60_000
    params = (["nielsen", "wide"], ["uint8", "float32"], BACKENDS)
    param_names = ("workload", "inputs", "backend")
    timeout = 300

    def setup_cache(self):
        """Make the images in a process of their own: making them takes more than training."""
        X, y = images(self.images)
        np.save("float32.npy", X)
        np.save("uint8.npy", (255 * X).astype(np.uint8))
        np.save("labels.npy", y)

    def setup(self, workload, inputs, backend):
        self.work = WORKLOADS[workload]
        scale = 1 / 255 if inputs == "uint8" else 1
        self.net = self.work._replace(options={**self.work.options, "input_scale": scale})
        self.net = self.net.network(backend)
        self.X, self.y = np.load(f"{inputs}.npy"), np.load("labels.npy")

    def peakmem_epoch(self, workload, inputs, backend):
        _fit(self.net, self.work, self.X, self.y)

    peakmem_epoch.pretty_name = "fit: peak memory of training on 60,000 images"


class Accuracy:
    """What ten epochs on the digits buy: the same on any machine, whatever its speed."""

    params = (BACKENDS, DTYPES)
    param_names = ("backend", "dtype")

    def track_test_error(self, backend, dtype):
        """Share of the test set that is classified wrongly: less is better, as asv has it."""
        X_train, y_train, X_test, y_test = fastbp.datasets.load("digits")
        net = fastbp.Network(
            [64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0,
            backend=backend, dtype=dtype,
        )  # fmt: skip
        net.fit(X_train, y_train, epochs=10, batch_size=10, learning_rate=0.5)
        return 100 * (1 - net.accuracy(X_test, y_test))

    track_test_error.pretty_name = "Digits: test error after ten epochs"
    track_test_error.unit = "% of the test set (less is better)"


class Estimator:
    """`fit` of `MLPClassifier` beside scikit-learn's of the same settings, on made-up images."""

    params = (["sgd", "adam"], [1, 10, 200])
    param_names = ("solver", "batch_size")
    timeout = 300

    def setup(self, solver, batch_size):
        try:
            from sklearn import neural_network

            from fastbp import estimator
        except ImportError as error:
            raise NotImplementedError("scikit-learn is not installed") from error
        X, y = images(ESTIMATOR_STEPS * batch_size)
        models = [
            module.MLPClassifier(
                [100], solver=solver, batch_size=batch_size, max_iter=1, random_state=0
            )
            for module in (estimator, neural_network)
        ]
        self.calls = [partial(model.partial_fit, X, y, classes=np.arange(10)) for model in models]
        for call in self.calls:
            call()

    def track_of_scikit_learn(self, solver, batch_size):
        return {"samples": ratios(*self.calls), "number": 1}

    track_of_scikit_learn.pretty_name = "MLPClassifier: an epoch, as a part of scikit-learn's time"
    track_of_scikit_learn.unit = "x scikit-learn's time (less is better)"
