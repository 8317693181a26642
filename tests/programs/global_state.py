"""Fails where importing fastbp, or training, changes what belongs to the whole process."""

import logging
import signal
import warnings

import numpy as np


def state():
    handlers = logging.getLogger().handlers[:]
    return str(np.geterr()), signal.getsignal(signal.SIGINT), handlers, warnings.filters[:]


def drawn(between=lambda: None):
    """A number from NumPy's global generator, after a seed and something between."""
    np.random.seed(0)  # noqa: NPY002
    between()
    return np.random.random()  # noqa: NPY002


before = state()
import fastbp  # noqa: E402

assert state() == before


def train():
    net = fastbp.Network([3, 2], seed=1)
    net.fit([[1, 2, 3]], [0], epochs=1, batch_size=1, learning_rate=1)


assert drawn(train) == drawn()
print("fine")
