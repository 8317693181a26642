"""Training in parts on the kernels: what a rank does that shares its batches with others."""

import numpy as np

from .. import kernels
from ..model.layout import aligned, stride
from .numba_engine import NumbaTrainer, _kernel_rule
from .numpy_engine import TAIL


class NumbaPartTrainer(NumbaTrainer):
    """Takes a step in two halves, each on a team of threads; see `NumpyPartTrainer`.

    A message is the gradient as it is stored: to leave out the padding, a few hundredths of it,
    would cost two passes more than it saves.
    """

    def __init__(
        self, engine, params, X, targets, batch_size, threads, rule, memory, path=None
    ):  # fmt: skip
        super().__init__(engine, params, X, targets, batch_size, threads, path, rule, memory)
        narrow, size = self.path == "narrow", engine.layout.size
        self._gradient = kernels.narrow_part_gradient if narrow else kernels.part_gradient
        # Behind the gradient, narrow networks have one for each chunk, which are free by then.
        buffers = 1 + kernels.ROUND if narrow else 1
        grads = aligned(size * buffers + stride(TAIL, engine.dtype), engine.dtype)
        grads[:] = 0
        self.work = self.work._replace(grads=grads)
        self.message = grads[: size + TAIL]
        self.grads, self.tail = np.split(self.message, [size])
        self._law = _kernel_rule(rule, self.memory, self._blocks)

    def part(self, order, first, last, share):
        """Put the sum of the gradients of samples, each times `share`, into the message."""
        self.work.sums[: kernels.TOTALS] = 0
        span = kernels.Span(first, last, self.batch_size, float(share), 1)
        self._share_out(
            lambda team: self._gradient(
                self.plan, self.params, self.data, self.targets, order, span, self.work, team
            )
        )
        weights = self.targets.weights
        weight = last - first if weights is None else weights[order[first:last]].sum()
        losses = np.nan if self.stopped else self.work.sums[0]
        self.tail[:3] = losses, self.work.sums[1], weight

    def step(self, samples, share, learning_rate):
        """Step along the gradient of a batch of so many samples; return the penalty."""
        rate = self.params.dtype.type(learning_rate)
        span = kernels.Span(0, 0, samples, rate, 1)
        self.work.sums[: kernels.TOTALS] = 0
        self._share_out(
            lambda team: kernels.rule_step(
                self.plan, self.params, span, self.work, self._law, float(share), team
            )
        )
        return self.work.sums[2]

    def clear(self):
        """Leave a gradient that is not followed."""
        self.grads[:] = 0

    def _share_out(self, task):
        """Run a task on each thread of the team."""
        if self._pool is None:
            self._run_thread(task, None, 0)
        else:
            self._pool.submit(self._run_team, task, None).result()

    def _run_thread(self, task, _, thread):
        task(kernels.Team(thread, self.team))
