"""fastbp through its public API, on either backend; and its activations alone."""

import numpy as np

import fastbp
from fastbp.engines import get_backend

from . import Done, Job, estimators_
from .work import ROUND

ACTIVATION_VALUES = 2**14  # at once: calls cost little then, and all lies in the second level cache


def build(task, variant):
    """Return the job; "activations" is that of evaluating them and nothing else."""
    if variant == "activations":
        return activations(task)
    work = task.work
    if work.kind == "fit":
        from fastbp import estimator

        return estimators_.build(task, estimator.MLPClassifier)
    net = fastbp.Network(
        work.sizes, activation=work.activation, loss=work.loss, bias=work.bias, dtype=work.dtype,
        backend=variant, seed=0,
    )  # fmt: skip
    for arrays, first in ((net.weights, task.weights), (net.biases, task.biases)):
        for array, values in zip(arrays, first, strict=False):  # without biases there are none
            array[...] = values
    return {"train": train, "gradient": gradient, "predict": predict}[work.kind](task, net)


def train(task, net):
    """One call of `fit` a slice: its wall time holds the checks, the index, the shuffling."""
    y = task.labels if task.labels.size else task.targets
    start = net.to_vector()

    def run(epochs):
        history = net.fit(
            task.X, y, epochs=epochs, batch_size=task.work.batch, shuffle=task.shuffle,
            learning_rate=task.work.learning_rate, threads=task.threads,
        )  # fmt: skip
        return Done(history.loss[0], max(history.samples_per_second))

    return Job(run, lambda: net.from_vector(start), len(task.X))


def gradient(task, net):
    """Calls of `gradient`, with targets as values."""
    X, y = task.X, task.targets

    def run(calls):
        for _ in range(calls):
            found = net.gradient(X, y)
        return Done(float(np.linalg.norm(found.to_vector())))

    return Job(run)


def predict(task, net):
    """Calls of `feedforward`; a single sample is another one each time."""
    if task.work.samples > 1:

        def run(calls):
            for _ in range(calls):
                out = net.feedforward(task.X, task.threads)
            return Done(float(np.linalg.norm(out)))

        return Job(run)
    rows = list(task.X)

    def run_one(calls):
        for i in range(calls):
            net.feedforward(rows[i % ROUND])
        return Done(float(np.linalg.norm(net.feedforward(rows[0]))))

    return Job(run_one)


def activations(task):
    """The activations that one item takes, alone: one count is one item."""
    backend, rng = get_backend("numba"), np.random.default_rng(0)
    hidden, last = sum(task.work.sizes[1:-1]), task.work.sizes[-1]
    calls = []
    for name, width in ((task.work.activation, hidden), (task.work.output, last)):
        if not width:
            continue
        rows = max(1, ACTIVATION_VALUES // width)
        z = rng.standard_normal((rows, width)).astype(task.work.dtype)
        calls.append((getattr(backend, name), z, rows))
    samples = 1 if task.work.kind in ("train", "fit") else task.work.samples

    def run(n):
        for call, z, rows in calls:
            for _ in range(max(1, round(n * samples / rows))):
                call(z)
        return Done(0.0)

    return Job(run)
