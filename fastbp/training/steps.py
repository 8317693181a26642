"""How steps are taken: by one rank alone, or by several that share each batch."""

import math

import numpy as np

from ..engines.trainer import Trainer
from .ranks import Ranks
from .recipe import Recipe
from .sources import Slice, Source


class Steps:
    """Takes steps with a trainer, alone."""

    together = 1  # steps from one meeting of the ranks to the next; they are run in multiples of it

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.totals = trainer.totals  # those of all ranks; see `Trainer`
        self.unit = self.together * trainer.unit  # slices are whole multiples of it

    def run(self, slice_: Slice) -> None:
        """Take the steps of a slice; stop the trainer where a loss is not finite on any rank."""
        self._run(slice_, slice_.first, slice_.last)

    def _run(self, slice_: Slice, first: int, last: int) -> None:
        """Take some of a slice's steps, by the trainer alone."""
        for begin, end, rate in slice_.runs(first, last, self.trainer.unit):
            span = slice_.stretch.span(begin, end)
            self.trainer.run(slice_.stretch.order, *span, rate, slice_.epochs)
            if self.trainer.stopped:
                return

    def load_kernels(self) -> None:
        """Load the kernels, before a clock starts."""
        self.trainer.run(np.arange(0), 0, 0, 0.0)


class _SharedSteps(Steps):
    def __init__(self, ranks: Ranks, trainer: Trainer, together: int) -> None:
        super().__init__(trainer)
        self.unit = together
        self.ranks, self.totals, self.together = ranks, np.zeros((1, 3)), together

    def run(self, slice_: Slice) -> None:
        for step in range(slice_.first, slice_.last, self.together):
            if not self._step(slice_, step):
                self.trainer.stopped = True
                return

    def _step(self, slice_: Slice, step: int) -> bool:
        """Take the steps to the next meeting of the ranks; return whether all losses are finite."""
        raise NotImplementedError


class SharedGradients(_SharedSteps):
    """Adds up the ranks' gradients in every step."""

    # One Allreduce over the flat buffer, which brings the sums of losses along: a loss that is not
    # finite on one rank is so for all. One message per layer, sent while the layers below are still
    # at work, was slower (`scripts/measure_mpi.py --overlap`): MPI moves data when it is called.

    def __init__(self, ranks: Ranks, trainer: Trainer, weighted: bool) -> None:
        super().__init__(ranks, trainer, 1)
        self._weighted = weighted

    def load_kernels(self) -> None:
        """Load the kernels, before a clock starts."""
        self.trainer.part(np.arange(0), 0, 0, 0.0)

    def _step(self, slice_: Slice, step: int) -> bool:
        trainer, stretch = self.trainer, slice_.stretch
        samples = stretch.samples_of(step, step + 1)
        share = 1.0 if self._weighted else 1 / samples
        trainer.part(stretch.order, *stretch.span(step, step + 1), share)
        self.ranks.meet(trainer.message)
        losses, hits, weight, _ = trainer.tail.tolist()
        if not math.isfinite(losses):
            trainer.clear()
            return False
        if self._weighted:  # where no sample counts, nothing is learned
            share = 1 / weight if weight else 0.0
            trainer.grads *= trainer.grads.dtype.type(share)
            losses *= samples * share
        self.totals[0] += losses, hits, trainer.step(samples, share, slice_.rate_at(step))
        return True


class AveragedWeights(_SharedSteps):
    """Lets each rank take steps by itself, and averages weights and memory after every so many.

    McMahan et al., *Communication-Efficient Learning of Deep Networks from Decentralized Data*,
    2017; Stich, *Local SGD Converges Fast and Communicates Little*, 2019.
    """

    def __init__(
        self, ranks: Ranks, trainer: Trainer, params: np.ndarray, sync_every: int,
        frozen: tuple[int, ...],
    ) -> None:  # fmt: skip
        super().__init__(ranks, trainer, sync_every)
        self._learns = np.ones(params.shape, bool)
        for l in frozen:  # whose mean is theirs up to rounding only
            for part in (trainer.engine.layout.matrix, trainer.engine.layout.row):
                part(self._learns, l + 1)[...] = False
        self._arrays = [params, *trainer.memory.slots]
        self._message = np.zeros(len(self._arrays) * params.size + 4, params.dtype)

    def _step(self, slice_: Slice, step: int) -> bool:
        stretch = slice_.stretch
        last = min(stretch.steps, step + self.together)
        trainer, (start, end) = self.trainer, stretch.span(step, last)
        trainer.totals[0] = 0
        if start < end:
            self._run(slice_, step, last)
        finite = self._average((end - start) / stretch.samples_of(step, last))
        if finite and last == stretch.steps and stretch.last:  # a rank may have had one step less
            trainer.memory.clock[0] = max(self.ranks.gather(trainer.memory.clock[0]))
        return finite

    def _average(self, share: float) -> bool:
        """Replace the arrays by their mean, by samples learned; return if losses are finite."""
        message = self._message
        places = message[:-4].reshape(len(self._arrays), -1)
        np.stack(self._arrays, out=places)
        with np.errstate(all="ignore"):  # the loop reports divergence
            places *= message.dtype.type(share)
        message[-4:-1] = np.nan if self.trainer.stopped else self.trainer.totals[0]
        self.ranks.meet(message)
        for array, place in zip(self._arrays, places, strict=True):
            np.copyto(array, place, where=self._learns)
        self.totals[0] += message[-4:-1]
        return math.isfinite(message[-4])


def steps_of(ranks: Ranks, recipe: Recipe, source: Source, params: np.ndarray) -> Steps:
    """Return how the steps of a recipe are taken."""
    if recipe.data is None or ranks.alone:
        return Steps(source.trainer)
    if recipe.sync_every == 1:
        return SharedGradients(ranks, source.trainer, recipe.data.weights is not None)
    frozen = recipe.rule.frozen
    return AveragedWeights(ranks, source.trainer, params, recipe.sync_every, frozen)
