"""Trains the digits where some packages cannot be imported: train_without.py PACKAGE ...

Prints how many epochs the history has.
"""

import sys

sys.modules.update(dict.fromkeys(sys.argv[1:]))

import fastbp  # noqa: E402

X, y, *_ = fastbp.datasets.load("digits")
net = fastbp.Network([64, 10], input_scale=1 / 16, seed=0)
print(len(net.fit(X, y, epochs=2, batch_size=10, learning_rate=0.5, progress=True)))
