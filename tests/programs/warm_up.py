"""Compiles the kernels that the tests use, before the workers start that would do it side by side.

    python warm_up.py                all of them, in two processes
    python warm_up.py float32        those of one dtype, in this process

A process that compiles keeps what the compiler knew, some 5 MB a kernel; the workers only load.
"""

import subprocess
import sys
from itertools import product

import numpy as np

from fastbp.backend import get_backend, part_trainer
from fastbp.reference import Model, Targets
from fastbp.rules import PLAIN, Rule, new_memory
from fastbp.storage import Layout

DTYPES = ("float32", "float64")
SIZES, BATCH = (2, 2, 2), 2
MODEL = Model(SIZES, ("sigmoid", "sigmoid"), "quadratic", True, 1.0)
MOMENTUM = Rule("momentum", 0.9)


class Net:
    """A small network on the kernels, and targets with or without weights of the samples."""

    def __init__(self, dtype):
        self.layout = Layout(SIZES, dtype)
        self.engine = get_backend("numba").engine(MODEL, self.layout)
        self.params = self.layout.zeros()
        labels, values = np.zeros(BATCH, np.int64), np.empty((0, SIZES[-1]), dtype)
        self.targets = Targets(labels, values)
        self.weighted = Targets(labels, values, np.ones(BATCH))

    def calls(self, X):
        """What takes whole batches."""
        self.engine.feedforward(self.params, X)
        self.engine.evaluate(self.params, X, self.targets)
        for path in ("dense", "narrow"):
            self.engine.gradient(self.params, X, self.targets, path=path)

    def train(self, X, path, rule, weighted=False):
        """One step."""
        memory, targets = new_memory(rule, self.params), self.weighted if weighted else self.targets
        args = self.params, X, targets, BATCH
        with self.engine.trainer(*args, path=path, rule=rule, memory=memory) as trainer:
            trainer.run(np.arange(BATCH), 0, BATCH, 0.1)

    def part(self, X, path):
        """A rank's part of a step."""
        args = self.engine, self.params, X, self.targets, BATCH, 1, PLAIN
        trainer_of = part_trainer("numba")
        with trainer_of(*args, new_memory(PLAIN, self.params), path=path) as trainer:
            trainer.part(np.arange(BATCH), 0, BATCH, 1.0)


def inputs(dtype):
    """Samples of the dtype and bytes; what may be written to has kernels of its own."""
    for kind, writeable in product((dtype, "uint8"), (True, False)):
        X = np.zeros((BATCH, SIZES[0]), kind)
        X.flags.writeable = writeable
        yield X


def compile_all(dtype):
    """Call what the tests call most."""
    net = Net(dtype)
    for X in inputs(dtype):
        net.calls(X)
        if X.flags.writeable:
            continue
        for path in ("dense", "sparse", "narrow"):
            net.train(X, path, PLAIN)
            net.part(X, path)
            if X.dtype == dtype:
                net.train(X, path, MOMENTUM)
                if path != "narrow":
                    net.train(X, path, PLAIN, weighted=True)


def main(dtypes):
    """Compile, in a process for each dtype if there are several."""
    if len(dtypes) == 1:
        compile_all(*dtypes)
        return
    started = [subprocess.Popen([sys.executable, __file__, dtype]) for dtype in dtypes]
    sys.exit(max(process.wait() for process in started))


if __name__ == "__main__":
    main(sys.argv[1:] or DTYPES)
