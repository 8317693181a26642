"""What an optimiser is, for the reference and the kernels alike."""

from typing import NamedTuple

import numpy as np

# How many numbers each remembers of a parameter.
SLOTS = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2}


class Rule(NamedTuple):
    """How the weights follow the gradient; see `reference.optimizer_step`."""

    name: str = "sgd"  # of SLOTS
    first: float = 0.0  # momentum, or beta_1
    second: float = 0.0  # beta_2
    epsilon: float = 0.0
    corrected: bool = True  # whether Adam's epsilon stands beside the corrected root
    l2: float = 0.0
    over_sum: bool = False  # whether the penalty is added to the sum of a batch's losses
    clip: float = 0.0  # largest norm of the gradient; 0: any

    @property
    def slots(self) -> int:
        """How many numbers it remembers of each parameter."""
        return SLOTS[self.name]


PLAIN = Rule()


class Memory(NamedTuple):
    """What an optimiser goes on from."""

    slots: np.ndarray  # a row for each number it remembers of each parameter
    clock: np.ndarray  # (1,) float64: the steps taken


def new_memory(rule: Rule, params: np.ndarray) -> Memory:
    """Return the memory of an optimiser that has not begun."""
    return Memory(np.zeros((rule.slots, params.size), params.dtype), np.zeros(1))
