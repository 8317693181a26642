"""Train on a mapped file in little memory; print the loss and the bytes that it took.

argv: "samples", "targets" or "chunks", the files of X and y, and how many bytes more it may take.
"""

import resource
import sys

import numpy as np

import fastbp

OPTIONS = {"batch_size": 50, "learning_rate": 0.1}


def kept(*names):
    """Return bytes of memory, by what /proc calls them."""
    with open("/proc/self/status") as file:
        words = dict(line.split(":", 1) for line in file)
    return sum(2**10 * int(words[name].split()[0]) for name in names)


class Parts:
    """Reads the samples in chunks, anew each time."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __iter__(self):
        for first in range(0, len(self.X), 5000):
            rows = slice(first, first + 5000)
            yield np.array(self.X[rows]), self.y[rows]


def main(kind, path, labels, more):
    X, y = np.load(path, mmap_mode="r"), np.load(labels, mmap_mode="r")
    n_out, scale, loss = 10, 1 / 255, "cross-entropy"
    if kind == "targets":
        y, n_out, scale, loss = X, 784, 1, "quadratic"
    net = fastbp.Network([784, 16, n_out], input_scale=scale, loss=loss, seed=0)
    few = X[:50], y[:50]
    net.fit(*few, epochs=1, validation_data=few, **OPTIONS)  # loads the kernels
    before = kept("RssAnon")
    limit = kept("VmData") + int(more)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    samples = (Parts(X, y),) if kind == "chunks" else (X, y)
    history = net.fit(*samples, epochs=1, validation_data=few, **OPTIONS)
    print(history.loss[0], kept("RssAnon", "RssShmem") - before)


main(*sys.argv[1:])
