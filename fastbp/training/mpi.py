"""Training by several ranks that share each batch: the same steps as one rank would take.

Each rank learns its places of a batch (`distributed.Shard`). With `sync_every=1` their gradients
are added up in one Allreduce, and each takes the same step; else each goes on by itself for so many
steps, and their weights are averaged then.

Rank 0 alone calls callbacks, prints and saves; all go on with what it then has.
"""

import hashlib
import json
import math
import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from .. import optimizers, schedules
from .._support import checks
from .._support.signals import interrupts_wait, termination_raises
from ..engines import kernel_stamp, part_trainer
from ..errors import DivergenceError
from ..history import History
from ..reference import Targets
from ..rules import Memory
from . import divergence as faults
from . import loop as training
from . import resume as resuming
from . import sources as streaming
from .progress import logged_lines
from .ranks import Ranks, Shard

SAMPLED = 64  # rows of a mapped file that are looked at before the training
TERMINATION = 2.0**20  # of SIGTERM, where an interrupt counts as one
VALIDATION = "validation_data[0]", "validation_data[1]"


# -- trainers --------------------------------------------------------------------------------------


class _Trainer:
    """What both trainers share; see `numpy_engine.NumpyTrainer` for their face.

    `run` is told of positions in the order of all samples, and `totals` are those of all ranks.
    """

    steps_together: int  # from one meeting of the ranks to the next

    def __init__(self, ranks: Ranks, shard: Shard, inner: Any, came: list[int]) -> None:
        self.ranks, self.shard, self.inner, self._came = ranks, shard, inner, came
        self.totals, self.memory = np.zeros((1, 3)), inner.memory
        self._stopped, self._ran = False, (0, 0)
        self._drawn = self._mine = np.empty(0, np.int64)

    def __enter__(self) -> "_Trainer":
        self.inner.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.inner.__exit__(*exception)

    @property
    def stopped(self) -> bool:
        """Whether a step was refused, on whatever rank, because its loss is not finite."""
        return self._stopped

    @stopped.setter
    def stopped(self, value: bool) -> None:
        self._stopped = self.inner.stopped = value

    @property
    def engine(self) -> Any:
        """The engine of the trainer beneath."""
        return self.inner.engine

    def rows(self, which: object) -> Any:
        """Return this rank's samples of the steps that were run last."""
        return self.inner.rows(self._mine[slice(*self.shard.span(*self._ran))])

    def end(self) -> None:
        """End a stretch that an interrupt has left under way."""
        self.inner.end()

    def run(
        self, order: np.ndarray, first: int, last: int, learning_rate: float, epochs: int = 1
    ) -> None:
        """Train on the batches that start at first <= position < last of the order.

        On all until the ranks meet, of those of which the last is one.
        """
        if order is not self._drawn and len(order):
            self._drawn, self._mine = order, self.shard.order(order)
        batch, together = self.shard.batch, self.steps_together
        end = -(-last // (batch * together)) * together
        self._ran = first // batch, min(end, -(-len(order) // batch))
        self._run(self._mine, range(*self._ran), learning_rate)

    def _run(self, order: np.ndarray, steps: range, learning_rate: float) -> None:
        raise NotImplementedError

    def _meet(self, message: np.ndarray) -> None:
        """Add a message up over the ranks; its last number tells of interrupts that came to any.

        Then all are interrupted here, at the same step.
        """
        terminated = signal.SIGTERM in self._came
        message[-1] = TERMINATION if terminated else bool(self._came)
        self.ranks.reduce(message)
        if message[-1]:
            self._came.clear()
            raise self.ranks.interrupt(message[-1] >= TERMINATION)


class GradientTrainer(_Trainer):
    """Adds up the ranks' gradients in every step.

    One Allreduce over the flat buffer, which brings the sums of losses along: a loss that is not
    finite on one rank is so for all. One message per layer, sent while the layers below are still
    at work, was slower (`scripts/measure_mpi.py --overlap`): MPI moves data when it is called.
    """

    steps_together = 1

    def __init__(
        self, ranks: Ranks, shard: Shard, inner: Any, came: list[int], weighted: bool
    ) -> None:
        super().__init__(ranks, shard, inner, came)
        self._weighted = weighted

    def _run(self, order: np.ndarray, steps: range, learning_rate: float) -> None:
        if not steps:  # loads the kernels
            self.inner.part(order, 0, 0, 0.0)
        for step in steps:
            if not self._step(order, step, learning_rate):
                self.stopped = True
                return

    def _step(self, order: np.ndarray, step: int, learning_rate: float) -> bool:
        inner, samples = self.inner, self.shard.samples(step, step + 1)
        share = 1.0 if self._weighted else 1 / samples
        inner.part(order, *self.shard.span(step, step + 1), share)
        self._meet(inner.message)
        losses, hits, weight, _ = inner.tail.tolist()
        if not math.isfinite(losses):
            inner.clear()
            return False
        if self._weighted:  # where no sample counts, nothing is learnt
            share = 1 / weight if weight else 0.0
            inner.grads *= inner.grads.dtype.type(share)
            losses *= samples * share
        self.totals[0] += losses, hits, inner.step(samples, share, learning_rate)
        return True


class PartWindows(streaming.Windows):
    """A trainer of parts of batches that lie in a file, of which it copies a window at a time."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._order, self._start = np.empty(0, np.int64), -1
        self._places = np.arange(self._size)
        for name in ("message", "grads", "tail", "step", "clear"):
            setattr(self, name, getattr(self._trainer, name))

    def part(self, order: np.ndarray, first: int, last: int, share: float) -> None:
        """Put the sum of the gradients of samples, each times `share`, into the message."""
        start = first // self._size * self._size
        if last > first and (order is not self._order or start != self._start):
            self._order, self._start = order, start
            self.load(order[start : start + self._size])
        self._trainer.part(self._places, first - start, last - start, share)


class AveragingTrainer(_Trainer):
    """Lets each rank take steps by itself, and averages weights and memory after every so many.

    Each counts by the samples that it has learnt since.

    McMahan et al., *Communication-Efficient Learning of Deep Networks from Decentralized Data*,
    2017; Stich, *Local SGD Converges Fast and Communicates Little*, 2019.
    """

    def __init__(
        self, ranks: Ranks, shard: Shard, inner: Any, came: list[int], params: np.ndarray,
        sync_every: int,
    ) -> None:  # fmt: skip
        super().__init__(ranks, shard, inner, came)
        self.params, self.steps_together = params, sync_every
        self._arrays = [params, *inner.memory.slots]
        self._message = np.zeros(len(self._arrays) * params.size + 4, params.dtype)

    def _run(self, order: np.ndarray, steps: range, learning_rate: float) -> None:
        if not steps:  # loads the kernels
            self.inner.run(order[:0], 0, 0, 0.0)
        for step in steps[:: self.steps_together]:
            last = min(steps.stop, step + self.steps_together)
            self.inner.totals[0] = 0
            start, end = self.shard.span(step, last)
            if start < end:
                self.inner.run(order, start, end, learning_rate)
            if not self._average((end - start) / self.shard.samples(step, last)):
                self.stopped = True
                return
            if last == self.shard.steps:  # of which a rank may have had one less
                clock = self.memory.clock
                clock[0] = max(self.ranks.gather(clock[0]))

    def _average(self, share: float) -> bool:
        """Replace the arrays by their weighted mean; return whether all losses are finite."""
        message, size = self._message, self.params.size
        factor = message.dtype.type(share)
        with np.errstate(over="ignore", invalid="ignore"):  # the fit loop reports divergence
            for i, array in enumerate(self._arrays):
                np.multiply(array, factor, out=message[i * size : (i + 1) * size])
        message[-4:-1] = np.nan if self.inner.stopped else self.inner.totals[0]
        self._meet(message)
        for i, array in enumerate(self._arrays):
            array[:] = message[i * size : (i + 1) * size]
        self.totals[0] += message[-4:-1]
        return math.isfinite(message[-4])


class Epochs(training.Epochs):
    """Runs epochs in time slices that are the same on all ranks."""

    def __init__(self, trainer: Any, params: np.ndarray, batch_size: int) -> None:
        self._together = trainer.steps_together
        super().__init__(trainer, params, batch_size * self._together)

    def _pace(self, seconds: float) -> None:
        super()._pace(self.trainer.ranks.first(seconds))

    def _rewind(self, *args: Any) -> int:
        return super()._rewind(*args) * self._together

    def _fault(self, order: np.ndarray, first: int, learning_rate: float) -> tuple[str, int, int]:
        """Return what the rank found that saw most of it."""
        found = super()._fault(order, first // self._together, learning_rate)
        return min(self.trainer.ranks.gather(found), key=lambda one: one[0] == faults.LOSS)


# -- callbacks -------------------------------------------------------------------------------------


class FirstCalls:
    """Calls callbacks on rank 0, and brings to the others what they did to network and history."""

    def __init__(self, ranks: Ranks, callbacks: tuple[Any, ...], any_at_all: bool) -> None:
        self.ranks, self.callbacks = ranks, callbacks if ranks.is_first else ()
        self._any = any_at_all

    def on_fit_begin(self, net: Any, history: History) -> None:
        """Tell the callbacks."""
        self._tell("on_fit_begin", net, history)

    def on_epoch_end(self, net: Any, history: History) -> None:
        """Look whether all ranks have the same weights, and tell the callbacks."""
        names = "seconds", "samples_per_second"
        for name in names:  # schedules may look at them
            getattr(history, name)[-1] = self.ranks.first(getattr(history, name)[-1])
        name = f"weights or order after epoch {len(history)}"
        self.ranks.same({name: _short(net.params, _generator(net))})
        self._tell("on_epoch_end", net, history)

    def on_divergence(self, net: Any, history: History, error: ValueError) -> None:
        """Tell the callbacks."""
        self._tell("on_divergence", net, history, error)

    def on_fit_end(self, net: Any, history: History) -> None:
        """Tell the callbacks."""
        self._tell("on_fit_end", net, history)

    def _tell(self, event: str, net: Any, *args: Any) -> None:
        if not self._any:
            return
        self.ranks.call_first(lambda: training._tell(self.callbacks, event, net, *args))
        args[0].stopped = self.ranks.first(args[0].stopped)
        self.ranks.overwrite(net.params)

    # What a training checkpoint keeps of them.

    def state(self) -> dict[str, np.ndarray]:
        """Return what the callbacks remember."""
        found = {
            f"{i}.{name}": array
            for i, remembers in enumerate(training.remembering(None, self.callbacks))
            for name, array in remembers.state().items()
        }
        return {"any": np.ones(1), **found}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Let them go on from that."""
        for i, remembers in enumerate(training.remembering(None, self.callbacks)):
            start = f"{i}."
            remembers.set_state(
                {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
            )


# -- what all ranks must have in common ------------------------------------------------------------


def _version() -> str:
    from importlib import metadata  # which takes a while

    try:
        found = metadata.version("fastbp")
    except metadata.PackageNotFoundError:  # run from its sources
        found = "not installed"
    return f"{found} (kernels {kernel_stamp()[:8]})"


def _generator(net: Any) -> np.ndarray:
    """Return the state of the generator that draws the order, as bytes."""
    return np.frombuffer(repr(net.rng.bit_generator.state).encode(), np.uint8)


def _short(*arrays: Any) -> str:
    """Return a digest of arrays that is short enough for an error message."""
    return resuming.digest(*map(_looked_at, arrays))[:12]


def _samples(*arrays: Any) -> str:
    """Return a digest of samples and what belongs to them, and their shape."""
    return f"{_short(*arrays)} {arrays[0].shape} {arrays[0].dtype}"


def _looked_at(array: Any) -> Any:
    """Return an array, or a few rows of one that is mapped: no rank reads a whole file."""
    if not checks.is_mapped(array):
        return array
    return array[np.linspace(0, len(array) - 1, min(SAMPLED, len(array))).astype(int)]


# -- the training ----------------------------------------------------------------------------------


class _Job(NamedTuple):
    """The arguments of a training, checked; samples, targets and weights are those of all ranks."""

    X: Any
    y: np.ndarray
    weights: np.ndarray
    validation: tuple[Any, np.ndarray] | None
    epochs: int
    batch_size: int
    schedule: Any
    shuffle: bool
    sync_every: int
    optimizer: Any
    memory: Memory
    callbacks: tuple[Any, ...]
    threads: int
    progress: bool
    verbose: bool
    checkpoint: Any
    checkpoint_every: Any
    resume: Any

    @property
    def n(self) -> int:
        """Samples in all."""
        return self.X.shape[0]


def fit(net: Any, comm: Any, X: Any, y: Any, **options: Any) -> History:
    """Do what `Network.fit` does, on all ranks of an MPI communicator; see there."""
    ranks = Ranks(comm)
    try:
        with ranks.ended_together(DivergenceError):
            with ranks.agreed():
                job = _checked(net, ranks.size, X, y, **options)
            ranks.same(_facts(net, job))
            return _run(net, ranks, job)
    finally:
        ranks.close()


def _checked(
    net: Any, size: int, X: Any, y: Any, *, epochs: Any, batch_size: Any, learning_rate: Any,
    shuffle: Any, validation_data: Any, callbacks: Any, progress: Any, threads: Any,
    optimizer: Any, sample_weight: Any, verbose: Any, checkpoint: Any, checkpoint_every: Any,
    resume: Any, sync_every: Any,
) -> _Job:  # fmt: skip
    """Check what needs no look at samples."""
    X, y = _pair(net, X, y, ("X", "y"))
    weights = np.empty(0, net.dtype)
    if sample_weight is not None:
        weights = checks.sample_weight("sample_weight", sample_weight, len(y), net.dtype)
    validation = None
    if validation_data is not None:
        validation = _pair(net, *checks.pair("validation_data", validation_data), VALIDATION)
    optimizer = optimizers.optimizer(optimizer)
    return _Job(
        X, y, weights, validation, checks.positive_int("epochs", epochs),
        _batch_size(batch_size, len(y), size),
        schedules.schedule("learning_rate", learning_rate, net.dtype),
        checks.flag("shuffle", shuffle), checks.positive_int("sync_every", sync_every),
        optimizer, optimizer.memory(net._layout, net.params), checks.callbacks(callbacks),
        checks.positive_int("threads", threads), progress, checks.flag("verbose", verbose),
        checkpoint, checkpoint_every, resume,
    )  # fmt: skip


def _pair(net: Any, X: Any, y: Any, names: tuple[str, str]) -> tuple[Any, np.ndarray]:
    X, y = checks.samples(X, net.sizes[0], names[0]), checks.numbers_array(names[1], y)
    if y.shape[:1] != X.shape[:1]:
        raise ValueError(
            f"{names[1]} must have one entry per sample, {X.shape[0]}; found shape {y.shape}"
        )
    return X, y


def _batch_size(value: Any, n: int, size: int) -> int:
    if n < size:
        raise ValueError(f"there are more ranks, {size}, than samples, {n}: start fewer")
    batch_size = checks.batch_size("batch_size", value, n)
    if batch_size < size:
        raise ValueError(
            f"batch_size must be at least the {size} ranks, which share each batch; found "
            f"{batch_size}"
        )
    return batch_size


def _facts(net: Any, job: _Job) -> dict[str, str]:
    """Return what must be the same on all ranks, in words or as digests."""
    same = {
        "epochs": job.epochs, "batch_size": job.batch_size, "shuffle": job.shuffle,
        "sync_every": job.sync_every, "optimizer": job.optimizer.rule(),
        "learning_rate": resuming.settings(job.schedule), "callbacks": len(job.callbacks),
        "verbose": job.verbose, "checkpoint": job.checkpoint is not None,
        "resume": job.resume is not None,
    }  # fmt: skip
    return {
        "version": _version(),
        "network": f"{json.dumps(net.config)}, backend {net.backend}",
        **{name: str(value) for name, value in same.items()},
        "seed, by weights and generator,": _short(net.params, _generator(net)),
        "memory of the optimizer": _short(*job.memory),
        "data": _samples(job.X, job.y, job.weights),
        "validation data": _samples(*job.validation) if job.validation else "none",
    }


def _run(net: Any, ranks: Ranks, job: _Job) -> History:
    """Train; all ranks are known to have the same job."""
    shard = Shard(job.n, job.batch_size, ranks.rank, ranks.size)
    with ranks.agreed():
        X, targets = _part(net, shard.rows, (job.X, job.y), ("X", "y"))
        if job.weights.size:
            targets = targets._replace(weights=job.weights[shard.rows])
        validate = job.validation and _validator(net, ranks, job.validation)
    classes = all(ranks.gather(bool(targets.labels.size)))
    draw = net.rng.permutation if job.shuffle and job.batch_size < job.n else None
    terminable = nullcontext() if job.checkpoint is None else termination_raises()
    with (
        net._alone, job.optimizer.alone, terminable, interrupts_wait() as came,
        _trainer(net, ranks, shard, job, X, targets, came) as trainer,
        logged_lines(job.verbose and ranks.is_first, job.epochs, job.progress) as lines,
    ):  # fmt: skip
        calls = FirstCalls(ranks, (*lines, *job.callbacks), bool(job.verbose or job.callbacks))
        keeper, resumed = _files(net, ranks, shard, job, calls, (X, *targets))
        return training.fit(
            net, trainer, params=net.params, n=job.n, epochs=job.epochs, batch_size=job.batch_size,
            learning_rate=job.schedule, rng=net.rng, order=draw, classes=classes,
            validate=validate, callbacks=(calls,), progress=job.progress and ranks.is_first,
            keeper=keeper, resumed=resumed, runner=Epochs(trainer, net.params, job.batch_size),
        )  # fmt: skip


def _part(
    net: Any, rows: slice, pair: tuple[Any, Any], names: tuple[str, str]
) -> tuple[Any, Targets]:
    """Return some samples and their targets, checked."""
    where = f"[{rows.start}:{rows.stop}]"
    return net._batch(pair[0][rows], pair[1][rows], (names[0] + where, names[1] + where))


def _validator(
    net: Any, ranks: Ranks, pair: tuple[Any, Any]
) -> Callable[[], tuple[float, float]]:  # fmt: skip
    """Return a function that gives loss and accuracy; each rank looks at its share."""
    n = len(pair[1])
    rows = ranks.share(n)
    part = _part(net, rows, pair, VALIDATION) if rows.start < rows.stop else None

    def validate() -> tuple[float, float]:
        sums = np.zeros(3)
        if part:
            loss, hits = net._evaluate(*part)
            sums[:] = loss * part[0].shape[0], hits, not part[1].labels.size
        ranks.reduce(sums)
        return sums[0] / n, float("nan") if sums[2] else sums[1] / n

    return validate


def _trainer(
    net: Any, ranks: Ranks, shard: Shard, job: _Job, X: Any, targets: Targets, came: list[int]
) -> _Trainer:  # fmt: skip
    by = {
        "params": net.params, "batch_size": shard.places, "threads": job.threads,
        "rule": job.optimizer.rule(), "memory": job.memory,
    }  # fmt: skip
    if job.sync_every == 1:
        make = partial(_made, partial(part_trainer(net.backend), net._engine), by)
        inner = streaming.trainer(make, X, targets, shard.places, PartWindows)
        return GradientTrainer(ranks, shard, inner, came, bool(job.weights.size))
    inner = streaming.trainer(partial(_made, net._engine.trainer, by), X, targets, shard.places)
    return AveragingTrainer(ranks, shard, inner, came, net.params, job.sync_every)


def _made(make: Any, by: dict[str, Any], X: Any, targets: Targets) -> Any:
    return make(X=X, targets=targets, **by)


def _files(
    net: Any, ranks: Ranks, shard: Shard, job: _Job, calls: FirstCalls, data: tuple[Any, ...]
) -> tuple[Any, Any]:  # fmt: skip
    """Return what keeps checkpoints, on rank 0, and from where to go on, which rank 0 reads."""
    if job.checkpoint is None and job.resume is None:
        return None, None
    digest = _data_digest(ranks, shard, data)
    keepers: list[Any] = [None]

    def opened() -> Any:
        facts = resuming.facts(
            net.config, net.backend, job.optimizer.rule(), job.batch_size, job.shuffle,
            job.schedule, job.callbacks, (), None,
        )  # fmt: skip
        facts |= {
            "data": digest, "order": "by stretches", "sync_every": job.sync_every,
            "validation_data": job.validation and _short(*job.validation),
        }  # fmt: skip
        if job.checkpoint is not None:
            file = resuming.File(job.checkpoint, job.checkpoint_every, net._layout, facts)
            keepers[0] = file
        if job.resume is None:
            return None
        states = training.remembering(job.schedule, (calls,))
        return resuming.read(job.resume, net._layout, facts, job.n, net.rng, states)

    resumed = ranks.call_first(opened)
    return keepers[0], resumed


def _data_digest(ranks: Ranks, shard: Shard, data: tuple[Any, ...]) -> str:
    """Return a digest of all samples, of which each rank looks at its own.

    It is one of the digests of the stretches, so that it does not depend on how many ranks there
    are.
    """
    found = [
        resuming.digest(*(array[low:high] if array.shape[0] else array for array in data))
        for low, high in shard.stretches()
    ]
    return hashlib.sha256("".join(chain(*ranks.gather(found))).encode()).hexdigest()
