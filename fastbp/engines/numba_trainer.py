"""Training on the kernels: stretches of epochs, each one call, on a team of threads."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from .. import kernels
from .._support.checks import is_sparse
from ..kernels import inputs, machine
from ..kernels.ir.dropout import FIRST, KEY, TABLE
from ..kernels.machine import LONG_BATCH, ROUND, STEP_PIECES
from ..kernels.walk import optimizers, records
from ..kernels.walk.team import ASKED, DRAW, STOPPED
from ..model.layout import aligned, stride
from ..reference import Targets
from ..reference.records import PLAIN, Memory, Rule, new_memory
from .numba_data import contiguous, dense_rows, density, in_order, kernel_targets, sparse_rows
from .planning import Task
from .trainer import TAIL, Trainer

Array = np.ndarray

# By whether the path is narrow, and whether SGD is plain.
_EPOCHS = ("optimizer_epoch", "sgd_epoch"), ("narrow_optimizer_epoch", "narrow_epoch")


class NumbaTrainer(Trainer):
    """The `Trainer` on the kernels."""

    data: Any  # the samples as compressed rows, or as `records.Dense`

    # By default the path is the one that costs least; a sparse matrix takes "sparse". Of the
    # threads as many take part as are worth it. If batches are `shared` among ranks, `batch_size`
    # is that of a part.
    def __init__(
        self, engine: Any, params: Array, X: Any, targets: Targets, batch_size: int,
        threads: int = 1, path: str | None = None, rule: Rule = PLAIN,
        memory: Memory | None = None, shared: bool = False,
    ) -> None:  # fmt: skip
        path = "sparse" if is_sparse(X) else path
        path = path or engine.choose_path(X, batch_size, bool(targets.weights.size))
        narrow, plain = path == "narrow", rule == PLAIN
        self.engine, self.params, self.batch_size, self.path = engine, params, batch_size, path
        self.memory = memory or new_memory(rule, params)
        self._one_by_one = batch_size == 1 and plain and not shared
        self.unit = machine.PASS_SAMPLES if path == "dense" and plain and batch_size == 1 else 1
        self._blocks = engine.planner.blocks(batch_size) if path == "sparse" else 1
        self._kernel = getattr(kernels, _EPOCHS[narrow][plain])
        self._gradient = kernels.narrow_part_gradient if narrow else kernels.part_gradient
        frozen = [l in rule.frozen for l in range(len(engine.model.activations))]
        numbers = np.array([optimizers.KINDS[rule.name], *rule[1:-1], *frozen], np.float64)
        vectors = max(engine.planner.widths[1:]) // engine.planner.lanes
        count = (self._blocks + 2 * len(frozen) - 1) * STEP_PIECES * vectors
        self._rule = optimizers.RuleArrays(
            numbers, self.memory.clock, self.memory.slots.reshape(-1), np.zeros(2 * count),
            count, vectors, rule.slots,
        )  # fmt: skip
        self._extra = () if plain else (self._rule,)
        self.load(X, targets)
        some = density(X) if path == "sparse" else 1.0
        lists = engine.planner.lists(some, batch_size) if path == "sparse" else 0
        team = engine.planner.team(threads, Task(path, batch_size, some, plain, shared))
        # Weights, gradients, and what is remembered.
        panels = 0 if shared else 2 + rule.slots
        turned = engine.planner.turned(path, batch_size) if plain and not shared else 0
        shape = batch_size, path, self._blocks, lists, team, panels, turned
        space = engine.workspace(*shape, engine.model.dropout)
        self.team, self.plan = team.size, space.plan
        fused = plain and batch_size <= space.chunk and not shared
        grads = params if fused else self._buffers(1 + ROUND if narrow else 1, shared)
        self.work = space.make(grads, self.team)
        totals = self.work.sums[: records.TOTALS * records.MOST_EPOCHS]
        self.totals = totals.reshape(-1, records.TOTALS)
        # The main thread is no member of the team: it only waits, and Ctrl-C reaches it. So it
        # does where a batch may take seconds.
        waits = self.team > 1 or engine.layout.size * batch_size > LONG_BATCH
        self._pool = ThreadPoolExecutor(self.team + 1) if waits else None
        self._busy = Lock()  # while a stretch is under way there

    def _buffers(self, count: int, shared: bool) -> Array:
        """Return the gradient of a batch, and those of chunks behind it."""
        size, dtype = self.engine.layout.size, self.engine.dtype
        if not shared:
            return aligned(size * count, dtype)
        # The message of ranks is the gradient as it is stored, then the tail: to leave out the
        # padding, a few hundredths of it, would cost two passes more than it saves. Gradients of
        # chunks are free by the time the tail is written.
        grads = aligned(size * count + stride(TAIL, dtype), dtype)
        grads[:] = 0
        self.message = grads[: size + TAIL]
        self.grads, self.tail = np.split(self.message, [size])
        return grads

    def forget(self) -> None:
        """Release the samples, to make room for others."""
        del self.X, self.data, self.targets, self.inputs

    def rows(self, which: Any) -> Any:
        """Return some samples; rows as kernels take them."""
        X = self.X[which]
        return X if is_sparse(X) else dense_rows(X, self.engine.dtype)

    def load(self, X: Any, targets: Targets) -> None:
        """Take other samples, on the same path."""
        dtype = self.engine.dtype
        self.X, self.targets = X, kernel_targets(targets, dtype)
        if self.path == "sparse":
            X = in_order(X, dtype) if is_sparse(X) else contiguous(dense_rows(X, dtype))
            scale = self.engine.model.scale
            self.data, self.surely_finite = sparse_rows(X, self._blocks, scale, dtype)
        else:  # these are not looked at
            X = X.toarray() if is_sparse(X) else X  # a chunk after one of dense rows
            self.data, self.surely_finite = records.Dense(contiguous(dense_rows(X, dtype))), False
        self.inputs = self._table()

    def draw_masks(self, key: int, numbers: int | Array = 0) -> None:
        """Let masks follow from this key and from the numbers of the loaded samples."""
        super().draw_masks(key, numbers)
        by = self.work.integers[DRAW:].view(np.uint64)
        first, table = (numbers, 0) if isinstance(numbers, int) else (0, numbers.ctypes.data)
        by[KEY], by[FIRST], by[TABLE] = key, first, table

    def _table(self) -> Array:
        """Return the samples as kernels of training take them."""
        if self.path == "narrow":
            return inputs.of_narrow(self.data, self.engine.dtype)
        ones = self._one_by_one and not self.targets.weighted
        return inputs.of_batches(self.data, self.engine.dtype, ones)

    def __exit__(self, *exception: object) -> None:
        if self._pool:
            if exception[0]:
                self.end()
            self._pool.shutdown()

    @property
    def stopped(self) -> bool:
        """Whether a batch was refused because its loss is not finite."""
        return bool(self.work.integers[STOPPED])

    @stopped.setter
    def stopped(self, value: bool) -> None:
        self.work.integers[STOPPED] = value

    def run(self, order: Array, first: int, last: int, rate: float, epochs: int = 1) -> None:
        """Train on the batches that start at first <= position < last, in each of the epochs."""
        rate, last = self.params.dtype.type(rate), min(len(order), last)
        span = records.Span(first, last, self.batch_size, rate, epochs)
        arguments = order, span, self.work, *self._extra
        self._call(self._kernel, self.plan, self.params, self.inputs, self.targets, *arguments)

    def part(self, order: Array, first: int, last: int, share: float) -> None:
        """Put the sum of the gradients of samples, each times `share`, into the message."""
        self.work.sums[: records.TOTALS] = 0
        span = records.Span(first, last, self.batch_size, float(share), 1)
        arguments = self.inputs, self.targets, order, span, self.work
        self._call(self._gradient, self.plan, self.params, *arguments)
        weights, weighted = self.targets.weights, self.targets.weighted
        weight = weights[order[first:last]].sum() if weighted else last - first
        losses = np.nan if self.stopped else self.work.sums[0]
        self.tail[:3] = losses, self.work.sums[1], weight

    def step(self, samples: int, share: float, learning_rate: float) -> float:
        """Step along the gradient of a batch of so many samples; return the penalty."""
        span = records.Span(0, 0, samples, self.params.dtype.type(learning_rate), 1)
        self.work.sums[: records.TOTALS] = 0
        arguments = span, self.work, self._rule, float(share)
        self._call(kernels.rule_step, self.plan, self.params, *arguments)
        return float(self.work.sums[2])

    def clear(self) -> None:
        """Leave a gradient that is not followed."""
        self.grads[:] = 0

    def end(self) -> None:
        """End a stretch that an interrupt of the main thread has left under way."""
        self.work.integers[ASKED] = 1  # it ends before its next update, and all that come
        with self._busy:
            pass

    def _call(self, kernel: Any, *arguments: Any) -> None:
        """Call a kernel on each thread of the team, which is its last argument."""
        if self._pool is None:
            self._run_thread(kernel, arguments, 0)
        else:
            self._pool.submit(self._run_team, kernel, arguments).result()

    def _run_team(self, kernel: Any, arguments: tuple[Any, ...]) -> None:
        assert self._pool
        with self._busy:
            run = partial(self._run_thread, kernel, arguments)
            others = [self._pool.submit(run, thread) for thread in range(1, self.team)]
            run(0)
            for other in others:
                other.result()

    def _run_thread(self, kernel: Any, arguments: tuple[Any, ...], thread: int) -> None:
        kernel(*arguments, records.Team(thread, self.team))
