"""The reference behind the face that both backends share: operations, and whole networks.

Logical arrays in, new arrays out.
"""

from functools import partial

import numpy as np

from .. import reference
from ..rules import PLAIN, new_memory

# Numbers behind the gradient in a message: sums of losses, hits and weights; interrupts.
TAIL = 4


class NumpyBackend:
    """Operations on the reference."""

    name = "numpy"

    def __getattr__(self, name):
        if name not in reference.ELEMENTWISE:
            raise AttributeError(name)
        return partial(self._map, getattr(reference, name))

    def _map(self, function, z):
        out = np.empty_like(z, order="C")
        function(z, out)
        return out

    def softmax(self, z):
        """Return softmax of each row."""
        return self._map(reference.softmax, z)

    def affine(self, x, W, b):
        """Return x W^T + b."""
        out = np.empty((len(x), len(W)), W.dtype)
        reference.affine(x, W, b, out)
        return out

    def backprop_delta(self, W_next, delta_next, a, activation):
        """Return the delta of the layer below."""
        out = np.empty_like(a, order="C")
        reference.backprop_delta(W_next, delta_next, a, activation, out)
        return out

    def weight_gradient(self, a_prev, delta):
        """Return delta^T a_prev / batch."""
        dW = np.empty((delta.shape[1], a_prev.shape[1]), delta.dtype)
        reference.weight_gradient(a_prev, delta, dW)
        return dW

    def bias_gradient(self, delta):
        """Return the mean of delta over the batch."""
        db = np.empty(delta.shape[1], delta.dtype)
        reference.bias_gradient(delta, db)
        return db

    def outer_update(self, W, b, a_prev, delta, learning_rate):
        """Learn from one sample, in place."""
        reference.outer_update(W, b, a_prev, delta, learning_rate)

    def batch_update(self, W, b, a_prev, delta, learning_rate):
        """Learn from the mean over a batch, in place."""
        reference.batch_update(W, b, a_prev, delta, learning_rate)

    def momentum_update(self, p, velocity, g, learning_rate, momentum):
        """Take a step with momentum, in place."""
        reference.momentum_update(p, velocity, g, learning_rate, momentum)

    def nesterov_update(self, p, velocity, g, learning_rate, momentum):
        """Take a step with Nesterov's momentum, in place."""
        reference.nesterov_update(p, velocity, g, learning_rate, momentum)

    def adam_update(self, p, first, second, g, learning_rate, beta_1, beta_2, epsilon, t):
        """Take a step of Adam, in place."""
        reference.adam_update(p, first, second, g, learning_rate, beta_1, beta_2, epsilon, t)

    def output_delta(self, loss, activation, z, y):
        """Return output, delta and losses of the last layer."""
        a, delta, losses = np.empty_like(z), np.empty_like(z), np.empty(len(z))
        reference.output_delta(loss, activation, z, y, a, delta, losses)
        return a, delta, losses

    def engine(self, model, layout):
        """Return what computes a whole network."""
        return NumpyEngine(model, layout)


class NumpyEngine:
    """A network on the reference."""

    def __init__(self, model, layout):
        self.model, self.layout = model, layout

    def feedforward(self, params, X, threads=1):
        """Return the outputs of rows X, and whether all inputs are finite."""
        dtype = self.layout.dtype
        out = np.empty((len(X), self.model.sizes[-1]), dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # callers look at X if it is not finite
            fine = np.isfinite(X.astype(dtype) * dtype.type(self.model.scale)).all()
            reference.feedforward(self.model, *self.layout.views(params), X, out)
        return out, bool(fine)

    def evaluate(self, params, X, targets):
        """Return the sum of the losses and the count of right classes."""
        y = targets.rows(slice(None), self.model.sizes[-1])
        losses, outputs = reference.evaluate(self.model, *self.layout.views(params), X, y)
        return losses.sum(), _hits(outputs, targets, slice(None))

    def gradient(self, params, X, targets):
        """Return the gradient of the mean loss like `params`, that loss, and whether all is finite.

        That is: whether X and the targets are.
        """
        grads = self.layout.zeros()
        y = targets.rows(slice(None), self.model.sizes[-1])
        with np.errstate(over="ignore", invalid="ignore"):  # callers look at X if it is not finite
            scaled = X.astype(self.layout.dtype) * self.layout.dtype.type(self.model.scale)
            fine = np.isfinite(scaled).all() and np.isfinite(y).all()
            losses = reference.gradient(
                self.model, *self.layout.views(params), X, y, *self.layout.views(grads),
                targets.weights if targets.weights.size else None,
            )  # fmt: skip
        return grads, losses.mean(), bool(fine)

    def trainer(self, params, X, targets, batch_size, threads=1, rule=PLAIN, memory=None):
        """Return a trainer of `params`."""
        return NumpyTrainer(self, params, X, targets, batch_size, rule, memory)


def _hits(outputs, targets, indices):
    if not targets.labels.size:
        return 0
    return int((outputs.argmax(axis=1) == targets.labels[indices]).sum())


class NumpyTrainer:
    """Runs stretches of epochs on the reference. Both trainers have the same face.

    `totals` has a row for each epoch that `run` takes at once, with the sums of losses, hits and
    penalties; those of the first add to what is there. Here it is one epoch. `memory` is what the
    optimiser goes on from. `stopped` is true once a batch was refused because its loss is not
    finite; `surely_finite`, if X was looked at on the way and holds neither NaN nor infinity.
    """

    surely_finite = False

    def __init__(self, engine, params, X, targets, batch_size, rule, memory):
        self.engine, self.params = engine, params
        self.batch_size, self.rule = batch_size, rule
        self.load(X, targets)
        self.memory = memory or new_memory(rule, params)
        self.totals = np.zeros((1, 3))
        self.stopped = False

    def forget(self):
        """Let go of the samples."""
        self.X = self.targets = None

    def rows(self, which):
        """Return some samples."""
        return self.X[which]

    def load(self, X, targets):
        """Take other samples."""
        self.X = X.toarray() if hasattr(X, "toarray") else X  # sparse matrices of SciPy's
        self.targets = targets

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def run(self, order, first, last, learning_rate, epochs=1):
        """Train on the batches that start at first <= position < last of the order, once."""
        batches = -(-(min(len(order), last) - first) // self.batch_size)
        order = order[first : first + batches * self.batch_size]
        with np.errstate(over="ignore", invalid="ignore"):  # the fit loop reports divergence
            for batch, losses, outputs, penalty in self._steps(order, learning_rate):
                if not np.isfinite(losses.sum()):
                    self.stopped = True
                    return
                hits = _hits(outputs, self.targets, batch)
                self.totals[0] += losses.sum(), hits, len(batch) * penalty
                self.memory.clock[0] += 1

    def end(self):
        """End a stretch that an interrupt has left under way: here it leaves none."""

    def _steps(self, order, learning_rate):
        """Yield what is seen of each batch."""
        views, n_out = self.engine.layout.views, self.engine.model.sizes[-1]
        args = (
            self.engine.model, *views(self.params), self.X,
            lambda batch: self.targets.rows(batch, n_out), order, self.batch_size, learning_rate,
        )  # fmt: skip
        weights = self.targets.weights
        if self.rule == PLAIN and not weights.size:
            return ((*step, 0.0) for step in reference.sgd_epoch(*args))
        return reference.optimizer_epoch(
            *args, self.rule, [views(slot) for slot in self.memory.slots],
            int(self.memory.clock[0]), weights if weights.size else None,
        )  # fmt: skip


class NumpyPartTrainer(NumpyTrainer):
    """Takes a step in two halves: the gradient of a part of a batch, a step along the whole's.

    Both trainers of parts have the same face. Between the halves, `message` is added up over the
    ranks: `grads`, then the `tail`, which begins with the sums of the samples' losses, hits and
    weights. `batch_size` is that of a part.
    """

    def __init__(self, engine, params, X, targets, batch_size, threads, rule, memory):
        super().__init__(engine, params, X, targets, batch_size, rule, memory)
        layout = engine.layout
        self.message = np.zeros(layout.size + TAIL, layout.dtype)
        self.grads, self.tail = np.split(self.message, [layout.size])

    def part(self, order, first, last, share):
        """Put the sum of the gradients of samples, each times `share`, into the message."""
        batch = order[first:last]
        losses = hits = weight = 0.0
        if len(batch):
            losses, hits, weight = self._part(batch, share)
        self.tail[:3] = losses, hits, weight

    def _part(self, batch, share):
        model, views = self.engine.model, self.engine.layout.views
        weights = self.targets.weights[batch] if self.targets.weights.size else None
        y = self.targets.rows(batch, model.sizes[-1])
        args = model, *views(self.params), self.X[batch], y
        with np.errstate(over="ignore", invalid="ignore"):  # the fit loop reports divergence
            outputs = reference.evaluate(*args)[1]
            losses = reference.gradient(*args, *views(self.grads), weights)
            weight = len(batch) if weights is None else weights.sum(dtype=np.float64)
            self.grads *= self.grads.dtype.type(share * weight)
        return losses.mean() * weight, _hits(outputs, self.targets, batch), weight

    def step(self, samples, share, learning_rate):
        """Step along the gradient of a batch of so many samples; return the penalty."""
        views, clock = self.engine.layout.views, self.memory.clock
        clock[0] += 1
        with np.errstate(over="ignore", invalid="ignore"):
            penalty = reference.optimizer_step(
                self.rule, int(clock[0]), *views(self.params), *views(self.grads),
                [views(slot) for slot in self.memory.slots], 1 / share if share else 0.0,
                learning_rate,
            )  # fmt: skip
        self.grads[:] = 0
        return samples * penalty

    def clear(self):
        """Leave a gradient that is not followed."""
        self.grads[:] = 0
