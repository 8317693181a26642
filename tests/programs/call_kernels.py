"""Calls kernels on fixed numbers; prints all bits of what they give: `call_kernels.py CALL`."""

import sys

import numpy as np

from fastbp import losses
from fastbp.engines import get_backend
from fastbp.engines.numba_data import sparse_rows
from fastbp.engines.numba_engine import NumbaEngine
from fastbp.kernels import machine
from fastbp.network import Network
from fastbp.reference import Targets
from fastbp.reference.records import Rule, new_memory

b = get_backend("numba")
rows = np.linspace(-1, 1, 40, dtype=np.float32).reshape(8, 5)
wide = np.linspace(-1, 2, 48, dtype=np.float32).reshape(8, 6)
W = wide[:6, :5].copy()
net = Network([5, 4, 3], "tanh", loss="cross-entropy", seed=0)
labels = np.arange(8) % 3
targets = Targets(labels, np.empty((0, 3), np.float32))


def momentum():
    p, v = rows.copy(), rows.copy()
    b.momentum_update(p, v, rows.copy(), 0.1, 0.9)
    return p


def index():
    sparse, fine = sparse_rows(rows, 1, 0.5, np.dtype("f4"))
    return sparse.value[: sparse.start[-1]], fine


def fit(batch_size=4):
    NumbaEngine.choose_path = lambda *_, **__: "dense"
    try:
        net.fit(rows, labels, epochs=2, batch_size=batch_size, learning_rate=0.5)
    except ValueError as error:
        return repr(error)
    return net.to_vector()


def rule_on_sparse_rows(small=0.0):
    """A step of momentum with lists of samples; velocities begin at a number."""
    rule = Rule("momentum", 0.5)
    memory = new_memory(rule, net.params)
    memory.slots[:] = small
    machine.LIST_BYTES = machine.LIST_ENTRIES = 0
    args = net.params, rows, targets, 4
    with net._engine.trainer(*args, path="sparse", rule=rule, memory=memory) as trainer:
        trainer.run(np.arange(8), 0, 8, 0.5)
    return net.to_vector(), memory.slots


def narrow_gradient():
    return net._engine.gradient(net.params, rows, targets, path="narrow")[0]


def leaky():
    bent = Network([5, 4, 3], "leaky_relu", loss="cross-entropy", seed=0)
    return bent._engine.gradient(bent.params, rows, targets, path="dense")[0]


def dropping():
    left = Network([5, 4, 3], "tanh", loss="cross-entropy", seed=0, dropout=0.5)
    with left._engine.trainer(left.params, rows, targets, 4, path="dense", shared=True) as trainer:
        trainer.draw_masks(1)
        trainer.part(np.arange(8), 0, 4, 0.25)
        return trainer.message.copy()


def huber():
    z = wide.astype(np.float64)
    return b.output_delta(losses.Huber(0.5), "identity", z, 2 * z)


def part():
    with net._engine.trainer(net.params, rows, targets, 4, path="dense", shared=True) as trainer:
        trainer.part(np.arange(8), 0, 4, 0.25)
        return trainer.message.copy()


CALLS = {
    "part": part,
    "sigmoid": lambda: b.sigmoid(rows),
    "relu": lambda: b.relu(rows),
    "weight_gradient": lambda: b.weight_gradient(rows, wide),
    "delta": lambda: b.backprop_delta(W, wide, rows, "tanh"),
    "bias_gradient": lambda: b.bias_gradient(wide),
    "softmax": lambda: b.softmax(wide * 40),
    "momentum": momentum,
    "index": index,
    "loss": lambda: net.loss(rows, labels),
    "loss of bytes": lambda: net.loss((rows > 0).astype(np.uint8), labels),
    "fit": fit,
    "fit ones": lambda: fit(1),
    "lists": rule_on_sparse_rows,
    "denormals": lambda: rule_on_sparse_rows(np.finfo(np.float32).tiny),
    "narrow gradient": narrow_gradient,
    "leaky": leaky,
    "dropout": dropping,
    "huber": huber,
}


def bits(value):
    if isinstance(value, (list, tuple)):
        return "".join(map(bits, value))
    return value.tobytes().hex() if isinstance(value, np.ndarray) else repr(value)


if __name__ == "__main__":
    print(bits(CALLS[sys.argv[1]]()))
