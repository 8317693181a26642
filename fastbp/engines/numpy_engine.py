"""The reference as a backend: the operations of one layer, and whole networks."""

from collections.abc import Callable, Iterator
from functools import partialmethod
from typing import Any

import numpy as np

from .. import reference
from .._support.checks import NO_LABELS, is_sparse
from ..model.layout import Layout
from ..reference import Model, Targets
from ..reference.records import PLAIN, Memory, Rule, new_memory
from .operations import Operations
from .trainer import TAIL, Trainer

Array = np.ndarray
_quiet = np.errstate(all="ignore")  # whatever the caller has: kernels have no such state


def _hits(model: Model, outputs: Array, targets: Targets, indices: Any) -> int:
    """Return how many samples have their label, or sigmoids all on their targets' side of 1/2."""
    if targets.labels.size:
        return int((outputs.argmax(axis=1) == targets.labels[indices]).sum())
    if model.activations[-1] != "sigmoid":
        return 0
    return int(((outputs > 0.5) == (targets.values[indices] > 0.5)).all(axis=1).sum())


class NumpyTrainer(Trainer):
    """The `Trainer` on the reference, one epoch at a time."""

    surely_finite, unit = False, 1

    def __init__(
        self, engine: "NumpyEngine", params: Array, X: Any, targets: Targets, batch_size: int,
        threads: int = 1, rule: Rule = PLAIN, memory: Memory | None = None, shared: bool = False,
    ) -> None:  # fmt: skip
        self.engine, self.params, self.batch_size, self.rule = engine, params, batch_size, rule
        self.memory = memory or new_memory(rule, params)
        self.load(X, targets)
        self.totals, self.stopped = np.zeros((1, 3)), False
        if shared:
            self.message = np.zeros(params.size + TAIL, params.dtype)
            self.grads, self.tail = np.split(self.message, [params.size])

    def __exit__(self, *exception: object) -> None:
        pass

    def load(self, X: Any, targets: Targets) -> None:
        """Take other samples."""
        self.X, self.targets = X, targets

    def forget(self) -> None:
        """Release the samples."""
        del self.X, self.targets

    def rows(self, which: Any) -> Any:
        """Return some of the samples."""
        return self.X[which]

    def run(self, order: Array, first: int, last: int, rate: float, epochs: int = 1) -> None:
        """Train on the batches that start at first <= position < last of the order, once."""
        batches = -(-(min(len(order), last) - first) // self.batch_size)
        order = order[first : first + batches * self.batch_size]
        with np.errstate(all="ignore"):  # the loop reports divergence
            for batch, losses, outputs, penalty in self._steps(order, rate):
                if not np.isfinite(losses.sum()):
                    self.stopped = True
                    return
                hits = _hits(self.engine.model, outputs, self.targets, batch)
                self.totals[0] += losses.sum(), hits, len(batch) * penalty
                self.memory.clock[0] += 1

    def end(self) -> None:
        """End a stretch that an interrupt has left under way: here it leaves none."""

    def _steps(self, order: Array, rate: float) -> Iterator[Any]:
        views, n_out = self.engine.layout.views, self.engine.model.sizes[-1]
        args = (
            self.engine.model, *views(self.params), self.X,
            lambda batch: self.targets.rows(batch, n_out), order, self.batch_size, rate,
        )  # fmt: skip
        weights = self.targets.weights
        if self.rule == PLAIN and not weights.size:
            return ((*step, 0.0) for step in reference.sgd_epoch(*args, self.masks))
        return reference.optimizer_epoch(
            *args, self.rule, [views(slot) for slot in self.memory.slots],
            int(self.memory.clock[0]), weights if weights.size else None, self.masks,
        )  # fmt: skip

    def part(self, order: Array, first: int, last: int, share: float) -> None:
        """Put the sum of the gradients of samples, each times `share`, into the message."""
        batch = order[first:last]
        self.tail[:3] = 0
        if not len(batch):
            return
        model, views = self.engine.model, self.engine.layout.views
        weights = self.targets.weights[batch] if self.targets.weights.size else None
        y = self.targets.rows(batch, model.sizes[-1])
        args = model, *views(self.params), self.X[batch], y
        with np.errstate(all="ignore"):  # the loop reports divergence
            masks = self.masks(batch)
            outputs = reference.evaluate(*args, masks)[1]
            losses = reference.gradient(*args, *views(self.grads), weights, masks)
            weight = len(batch) if weights is None else weights.sum(dtype=np.float64)
            self.grads *= self.grads.dtype.type(share * weight)
            hits = _hits(model, outputs, self.targets, batch)
            self.tail[:3] = losses.mean() * weight, hits, weight

    def step(self, samples: int, share: float, learning_rate: float) -> float:
        """Step along the gradient of a batch of so many samples; return the penalty."""
        views, clock = self.engine.layout.views, self.memory.clock
        clock[0] += 1
        with np.errstate(all="ignore"):
            penalty: float = reference.optimizer_step(
                self.rule, int(clock[0]), *views(self.params), *views(self.grads),
                [views(slot) for slot in self.memory.slots], 1 / share if share else 0.0,
                learning_rate,
            )  # fmt: skip
        self.grads[:] = 0
        return samples * penalty

    def clear(self) -> None:
        """Leave a gradient that is not followed."""
        self.grads[:] = 0


class NumpyEngine:
    """A network on the reference."""

    def __init__(self, model: Model, layout: Layout) -> None:
        self.model, self.layout = model, layout

    def feedforward(self, params: Array, X: Array, threads: int = 1) -> tuple[Array, bool]:
        """Return the outputs of rows X, and whether all inputs are finite."""
        out = np.empty((X.shape[0], self.model.sizes[-1]), self.layout.dtype)
        with np.errstate(all="ignore"):  # callers check X if it is not finite
            fine = self._is_finite(X)
            reference.feedforward(self.model, *self.layout.views(params), X, out)
        return out, fine

    def feedforward_one(self, params: Array, x: Array) -> tuple[Array, bool]:
        """Return the outputs of one sample, (n_in,), and whether it is finite."""
        out, fine = self.feedforward(params, x[None])
        return out[0], fine

    def _is_finite(self, X: Any) -> bool:
        dtype, X = self.layout.dtype, X.data if is_sparse(X) else X
        return bool(np.isfinite(X.astype(dtype) * np.asarray(self.model.scale, dtype)).all())

    def evaluate(self, params: Array, X: Array, targets: Targets) -> tuple[float, int]:
        """Return the sum of the losses and the count of right classes."""
        y = targets.rows(slice(None), self.model.sizes[-1])
        with np.errstate(all="ignore"):
            losses, outputs = reference.evaluate(self.model, *self.layout.views(params), X, y)
            return losses.sum(), _hits(self.model, outputs, targets, slice(None))

    def gradient(self, params: Array, X: Array, targets: Targets) -> tuple[Array, float, bool]:
        """Return the gradient of the mean loss, that loss, and whether X and targets are finite."""
        grads = self.layout.zeros()
        y = targets.rows(slice(None), self.model.sizes[-1])
        with np.errstate(all="ignore"):  # callers check X if it is not finite
            fine = self._is_finite(X) and bool(np.isfinite(y).all())
            losses = reference.gradient(
                self.model, *self.layout.views(params), X, y, *self.layout.views(grads),
                targets.weights if targets.weights.size else None,
            )  # fmt: skip
            return grads, losses.mean(), fine

    def gradient_of_values(self, params: Array, X: Array, y: Array) -> tuple[Array, float, bool]:
        """Do as `gradient` does, for rows and targets of this dtype, both C-contiguous."""
        return self.gradient(params, X, Targets(NO_LABELS, y))

    trainer = partialmethod(NumpyTrainer)  # on this engine


class NumpyBackend(Operations):
    """Operations on the reference."""

    name, engine = "numpy", NumpyEngine
    # In place as they are: (W, b, a_prev, delta, learning_rate), (p, velocity, g, ...) and so on.
    _outer_update = staticmethod(_quiet(reference.outer_update))
    _batch_update = staticmethod(_quiet(reference.batch_update))
    _momentum_update = staticmethod(_quiet(reference.momentum_update))
    _nesterov_update = staticmethod(_quiet(reference.nesterov_update))
    _adam_update = staticmethod(_quiet(reference.adam_update))
    _rmsprop_update = staticmethod(_quiet(reference.rmsprop_update))

    def _elementwise(self, name: str, z: Array) -> Array:
        return self._fill(np.empty_like(z, order="C"), getattr(reference, name), z)

    @_quiet
    def _fill(self, out: Array, function: Callable[..., None], *arguments: Any) -> Array:
        function(*arguments, out)
        return out

    def _softmax(self, z: Array) -> Array:
        return self._elementwise("softmax", z)

    def _affine(self, x: Array, W: Array, b: Array) -> Array:
        return self._fill(np.empty((len(x), len(W)), W.dtype), reference.affine, x, W, b)

    def _backprop_delta(self, W_next: Array, delta_next: Array, a: Array, activation: str) -> Array:
        out, back = np.empty_like(a, order="C"), reference.backprop_delta
        return self._fill(out, back, W_next, delta_next, a, activation)

    def _weight_gradient(self, a_prev: Array, delta: Array) -> Array:
        dW = np.empty((delta.shape[1], a_prev.shape[1]), delta.dtype)
        return self._fill(dW, reference.weight_gradient, a_prev, delta)

    def _bias_gradient(self, delta: Array) -> Array:
        return self._fill(np.empty(delta.shape[1], delta.dtype), reference.bias_gradient, delta)

    @_quiet
    def _output_delta(
        self, z: Array, y: Array, loss: Any, activation: Any, setting: float | None
    ) -> tuple[Array, Array, Array]:
        a, delta, losses = np.empty_like(z), np.empty_like(z), np.empty(len(z))
        reference.output_delta(loss, activation, z, y, a, delta, losses, setting)
        return a, delta, losses
