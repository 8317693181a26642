"""Train with and without `verbose`; argv: the level of the program's own logs, if it has any."""

import logging
import sys

import numpy as np

import fastbp


def as_found():
    logger = logging.getLogger("fastbp")
    return (logger.handlers, logger.level) == ([], logging.NOTSET)


if len(sys.argv) > 1:
    logging.basicConfig(level=sys.argv[1], format="program: %(message)s", stream=sys.stdout)
net = fastbp.Network([2, 2], backend="numpy", seed=0)
for verbose in (True, False):
    net.fit(np.eye(2), [0, 1], epochs=2, batch_size=1, learning_rate=1.0, verbose=verbose)
assert as_found()
net = fastbp.Network([2, 2], output="identity", backend="numpy", seed=0)
try:
    net.fit(1e9 * np.eye(2), [0, 1], epochs=2, batch_size=1, learning_rate=1e30, verbose=True)
except fastbp.DivergenceError:
    print("diverged")
assert as_found()
