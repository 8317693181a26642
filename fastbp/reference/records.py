"""What the operations are told about: a network, its targets, a rule and its memory."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
Arrays = Sequence[Array]  # one for each layer above the inputs


class Model(NamedTuple):
    """What a network computes, apart from its parameters."""

    sizes: tuple[int, ...]  # neurons per layer, the inputs being layer 0
    activations: tuple[Any, ...]  # for each layer above the inputs a name, or an `Activation`
    loss: Any  # a name, or a `Loss`
    bias: bool
    scale: float  # inputs are multiplied by it
    setting: float | None = None  # of the loss, see `losses.SETTINGS`; None: the default
    dropout: tuple[float, ...] = ()  # probability for each hidden layer; empty: none anywhere


# What outputs stand for: the place of the largest; a class 1 or 0 for each, by its side of 1/2.
LABEL, FLAGS, NUMBERS = "label", "flags", "numbers"


def predicts(loss: str, activation: str, n_out: int) -> str:
    """Return what outputs stand for; see `Network.predict`."""
    if activation == "sigmoid":
        return FLAGS if n_out == 1 or loss == "cross-entropy" else LABEL
    return LABEL if activation == "softmax" else NUMBERS


class Targets(NamedTuple):
    """What is to be learnt: either class labels or rows of values; the other array is empty."""

    labels: Array  # (n,) int64
    values: Array  # (n, n_out)
    weights: Array = np.empty(0)  # (n,), or empty: all samples count alike
    flags: bool = False  # whether values are classes, 0 or 1 for each output

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """What a training learns from, apart from X."""
        return self[:3]

    @property
    def classes(self) -> bool:
        """Whether a sample may be classified right or wrong."""
        return self.flags or self.labels.size > 0

    def part(self, which: slice) -> "Targets":
        """Return the targets of some samples."""
        return Targets(self.labels[which], self.values[which], self.weights[which], self.flags)

    def rows(self, indices: Array | slice, n_out: int) -> Array:
        """Return the targets of these samples as rows, one-hot where there are labels."""
        rows = self.values
        if self.labels.size:
            indices, rows = self.labels[indices], np.eye(n_out, dtype=rows.dtype)
        return rows[indices]


# Numbers kept for each parameter.
SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "rmsprop": 1}


class Rule(NamedTuple):
    """How the weights follow the gradient; see `reference.optimizer_step`."""

    name: str = "sgd"  # of SLOTS
    first: float = 0.0  # momentum, or beta_1
    second: float = 0.0  # beta_2, or rho
    epsilon: float = 0.0
    corrected: bool = True  # whether Adam's epsilon is added to the corrected root
    l2: float = 0.0
    over_sum: bool = False  # whether penalties are added to the sum of a batch's losses
    clip: float = 0.0  # largest norm of the gradient; 0 for no limit
    l1: float = 0.0
    weight_decay: float = 0.0  # of Adam, beside the gradient
    frozen: tuple[int, ...] = ()  # the layers, from 0 on, that stay as they are

    @property
    def slots(self) -> int:
        """How many numbers it keeps for each parameter."""
        return SLOTS[self.name]


PLAIN = Rule()


class Memory(NamedTuple):
    """The state of an optimiser between two steps."""

    slots: Array  # (rule.slots, n): a row for each number it keeps for each parameter
    clock: Array  # (1,) float64: the steps taken


def new_memory(rule: Rule, params: Array) -> Memory:
    """Return the memory of an optimiser before its first step."""
    return Memory(np.zeros((rule.slots, params.size), params.dtype), np.zeros(1))
