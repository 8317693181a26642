"""The trainer: what learns samples that are loaded, many steps in one call.

Two classes implement it: one on the reference, one on the kernels.
"""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from .. import reference
from ..reference import Targets
from ..reference.records import Memory

# Numbers behind the gradient in a message: sums of losses, hits and weights; interrupts.
TAIL = 4


class Trainer(AbstractContextManager[Any], Protocol):
    """Trains the parameters of one network on the samples that are loaded."""

    engine: Any  # with the network's `model` and `layout`
    # Sums of losses, hits and penalties of each epoch that one `run` takes, (epochs, 3) float64;
    # those of the first add to what is there.
    totals: np.ndarray
    memory: Memory  # what the optimiser goes on from
    surely_finite: bool  # X was looked at on the way, and holds neither NaN nor infinity
    unit: int  # steps that are taken together: whoever cuts an epoch does it by so many
    stopped: bool  # a batch was refused because its loss is not finite
    # Where batches are shared among ranks, what they sum up: the gradient of a batch, then the sums
    # of the samples' losses, hits and weights, then interrupts.
    message: np.ndarray
    grads: np.ndarray
    tail: np.ndarray
    # By what masks are drawn, where there is dropout; see `draw_masks`.
    key: int = 0
    numbers: int | np.ndarray = 0

    def load(self, X: Any, targets: Targets) -> None:
        """Take other samples, on the same path."""

    def forget(self) -> None:
        """Release the samples, to make room for others."""

    def rows(self, which: Any) -> Any:
        """Return some of the loaded samples, (n, n_in), which may be sparse."""

    def draw_masks(self, key: int, numbers: int | np.ndarray = 0) -> None:
        """Let masks follow from this key, of 64 bits, and from the numbers of the loaded samples.

        These are an array, (n,) int64, or count on from the number of the first.
        """
        self.key, self.numbers = key, numbers

    def masks(self, which: np.ndarray) -> reference.Masks:
        """Return the masks of some of the loaded samples."""
        numbers = which + self.numbers if isinstance(self.numbers, int) else self.numbers[which]
        return reference.masks(self.engine.model, self.key, numbers, self.engine.layout.dtype)

    def run(
        self, order: np.ndarray, first: int, last: int, learning_rate: float, epochs: int = 1
    ) -> None:
        """Train on the batches that start at first <= position < last, in each of the epochs."""

    def end(self) -> None:
        """End a stretch that an interrupt has left under way."""

    # Where batches are shared among ranks, a step has two halves.

    def part(self, order: np.ndarray, first: int, last: int, share: float) -> None:
        """Put the sum of the gradients of samples, each times `share`, into the message."""

    def step(self, samples: int, share: float, learning_rate: float) -> float:
        """Step along the gradient of a batch of so many samples; return the penalty."""

    def clear(self) -> None:
        """Leave a gradient that is not followed."""
