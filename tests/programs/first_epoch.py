"""Print the seconds of processor time that a first small epoch takes, its import left out."""

import time

import numpy as np

import fastbp

X, y = np.ones((8, 4)), np.array([0, 1] * 4)
started = time.process_time()
fastbp.Network([4, 3, 2], seed=0).fit(X, y, epochs=1, batch_size=2, learning_rate=0.1)
print(time.process_time() - started)
