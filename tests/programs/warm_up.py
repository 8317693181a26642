"""Compiles the kernels that the tests use, before the workers start that would do it side by side.

    python warm_up.py                all of them, in a process for each dtype
    python warm_up.py float32        those of one dtype, in this process

A process that compiles keeps what the compiler knew, some 5 MB a kernel; workers that only load
their kernels stay small. A kernel that is missing here is compiled by the test that needs it.
"""

import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np

from fastbp.engines import get_backend
from fastbp.model.layout import Layout
from fastbp.reference import Model, Targets
from fastbp.reference.records import PLAIN, Rule, new_memory

sys.path.append(str(Path(__file__).parents[2] / "asv_benchmarks"))
from benchmarks.kernels import CALLS, arrays

DTYPES = ("float32", "float64")
PATHS = ("dense", "sparse", "narrow")
RULES = (PLAIN, Rule("momentum", 0.9))
BATCH, FEW, MANY = 2, 2, 70_000  # samples; inputs, and more of them than 16 bits count


def operations(dtype):
    """Call each operation of a layer."""
    backend, layer = get_backend("numba"), arrays(dtype)
    for name, arguments in CALLS.items():
        getattr(backend, name)(*arguments(layer))


class Net:
    """A small network on the kernels, with samples and targets."""

    def __init__(self, dtype, n_in=FEW):
        sizes = n_in, 2, 2
        model = Model(sizes, ("sigmoid", "sigmoid"), "quadratic", True, 1.0)
        self.dtype, self.n_in, layout = dtype, n_in, Layout(sizes, dtype)
        self.engine, self.params = get_backend("numba").engine(model, layout), layout.zeros()
        labels, values = np.zeros(BATCH, np.int64), np.empty((0, 2), dtype)
        self.targets = Targets(labels, values)
        self.weighted = Targets(labels, values, np.ones(BATCH))

    def samples(self, kind, writeable=False):
        """Return samples; what may be written to has kernels of its own in calls."""
        X = np.zeros((BATCH, self.n_in), kind)
        X.flags.writeable = writeable
        return X

    def call(self, X):
        """Call what takes a batch."""
        self.engine.feedforward(self.params, X)
        self.engine.evaluate(self.params, X, self.targets)
        for path in ("dense", "narrow"):
            self.engine.gradient(self.params, X, self.targets, path=path)

    def train(self, X, path, rule, weighted=False):
        """Do a step."""
        memory, targets = new_memory(rule, self.params), self.weighted if weighted else self.targets
        args = self.params, X, targets, BATCH
        with self.engine.trainer(*args, path=path, rule=rule, memory=memory) as trainer:
            trainer.run(np.arange(BATCH), 0, BATCH, 0.1)

    def share(self, X, path):
        """Do a rank's part of a step."""
        args, rule = (self.params, X, self.targets, BATCH), RULES[1]
        with self.engine.trainer(*args, path=path, rule=rule, shared=True) as trainer:
            trainer.part(np.arange(BATCH), 0, BATCH, 1.0)
            trainer.step(BATCH, 1.0, 0.1)


def compile_all(dtype):
    """Call what the tests call, with the dtype's own samples, bytes, and very many inputs."""
    operations(dtype)
    net = Net(dtype)
    for kind, writeable in product((dtype, "uint8"), (True, False)):
        net.call(net.samples(kind, writeable))
    X, coded = net.samples(dtype), net.samples("uint8")
    for path in PATHS:
        net.share(X, path)
        net.train(coded, path, PLAIN)
        for rule in RULES:
            net.train(X, path, rule)
            if path != "narrow":
                net.train(X, path, rule, weighted=True)
    net.engine.gradient(net.params, net.samples(dtype, writeable=True), net.weighted)
    if dtype == "float32":  # bytes are trained on in single precision but for a few tests
        for path in PATHS:
            net.train(coded, path, RULES[1])
            net.share(coded, path)
        many = Net(dtype, MANY)
        many.train(many.samples(dtype), "sparse", PLAIN)


def main(dtypes):
    """Compile, in a process for each dtype if there are several."""
    if len(dtypes) == 1:
        compile_all(*dtypes)
        return
    started = [subprocess.Popen([sys.executable, __file__, dtype]) for dtype in dtypes]
    sys.exit(max(process.wait() for process in started))


if __name__ == "__main__":
    main(sys.argv[1:] or DTYPES)
