"""Trains on every kind of input; prints how often the kernels of training were compiled.

And the names of what they call by its address.
"""

import json
from itertools import product

import numpy as np

from fastbp import kernels
from fastbp.kernels.jit import ADDRESSED
from fastbp.network import Network
from fastbp.reference import Targets
from fastbp.reference.records import PLAIN, Rule

net = Network([5, 4, 3], seed=0)
rows = np.eye(6, 5, dtype=np.float32)
labels, none = np.arange(6) % 3, np.empty((0, 3), np.float32)
for path, kind, weighted, rule in product(
    ("dense", "sparse", "narrow"), ("f4", "u1"), (False, True), (PLAIN, Rule("momentum"))
):
    if path == "narrow" and (weighted or rule != PLAIN):
        continue
    weights = np.ones(6 if weighted else 0, np.float32)
    arguments = net.params, rows.astype(kind), Targets(labels, none, weights), 3
    with net._engine.trainer(*arguments, path=path, rule=rule) as trainer:
        trainer.run(np.arange(6), 0, 6, 0.1)
names = "sgd_epoch", "optimizer_epoch", "narrow_epoch"
counts = {name: len(getattr(kernels, name).signatures) for name in names}
print(json.dumps([counts, sorted({d.__name__ for d in ADDRESSED if d.signatures})]))
