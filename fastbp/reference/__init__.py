"""The specification: every operation and the SGD epoch in plain NumPy.

Tests hold the compiled kernels equal to these functions, argument by argument. Nothing here is
meant to be fast; everything is meant to be read.

Inputs come first, outputs last; outputs are fully overwritten and must not alias an input. These
are the arrays, of one float dtype unless a function says otherwise:

| arrays | shape | what they hold |
|---|---|---|
| x, a_prev | (batch, n_in) | inputs of a layer, a sample per row |
| W, dW | (n_out, n_in) | weights, and the gradient of the mean loss of a batch in them |
| b, db | (n_out,) | biases, and the same for them |
| z, a, y, delta, out | (batch, n_out) | weighted inputs, activations f(z), targets, errors dC/dz |
| losses | (batch,) | C of each sample, float64 |

A whole network takes X and y as (batch, ...) rows, and `weights`, `biases`, `dW`, `db` as sequences
of one array for each layer above the inputs.

References
----------
Nielsen, *Neural Networks and Deep Learning*, ch. 2 and 3: the equations (BP1) to (BP4).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .activations import (
    ACTIVATIONS,
    DERIVATIVES,
    ELEMENTWISE,
    PRIMES,
    activate,
    elu,
    elu_prime,
    exp,
    gelu,
    gelu_prime,
    identity,
    identity_prime,
    identity_prime_from_a,
    leaky_relu,
    leaky_relu_prime,
    relu,
    relu_prime,
    relu_prime_from_a,
    sigmoid,
    sigmoid_prime,
    sigmoid_prime_from_a,
    silu,
    silu_prime,
    slope,
    softmax,
    softplus,
    softplus_prime,
    tanh,
    tanh_prime,
    tanh_prime_from_a,
)  # fmt: skip
from .dropout import masks
from .losses import (
    DOMAINS,
    LOSSES,
    REACH,
    SETTINGS,
    TERMS,
    output_delta,
)  # fmt: skip
from .records import Array, Arrays, Model, Rule, Targets
from .rules import (
    CLIP_SLACK,
    adam_update,
    momentum_update,
    nesterov_update,
    optimizer_step,
    rmsprop_update,
)  # fmt: skip

__all__ = [
    "ACTIVATIONS", "CLIP_SLACK", "DERIVATIVES", "DOMAINS", "ELEMENTWISE", "LOSSES", "PRIMES",
    "REACH", "SETTINGS", "TERMS", "Model", "Targets", "activate", "adam_update", "affine",
    "backprop", "backprop_delta", "batch_update", "bias_gradient", "elu", "elu_prime", "evaluate",
    "exp", "feedforward", "forward", "gelu", "gelu_prime", "gradient", "identity", "identity_prime",
    "identity_prime_from_a", "leaky_relu", "leaky_relu_prime", "masks", "momentum_update",
    "nesterov_update",
    "optimizer_epoch", "optimizer_step", "outer_update", "output_delta", "relu", "relu_prime",
    "relu_prime_from_a", "rmsprop_update", "sgd_epoch", "sgd_step", "sigmoid", "sigmoid_prime",
    "sigmoid_prime_from_a", "silu", "silu_prime", "slope", "softmax", "softplus", "softplus_prime",
    "standardise", "tanh", "tanh_prime", "tanh_prime_from_a", "weight_gradient",
]  # fmt: skip

# For each hidden layer what its activations are multiplied by, (batch, n), or None.
Masks = Sequence[Array | None] | None
MasksOf = Callable[[Array], Masks]  # returns those of samples


def no_masks(samples: Array) -> Masks:
    """Return the masks of a training without dropout."""
    return None


def standardise(X: Array, mean: Any, deviation: Array, out: Array) -> None:
    """Standardised inputs, out = (X - mean) / deviation; 0 in a column whose deviation is 0.

    X is (batch, n_in) of any dtype, mean and deviation are (n_in,) float64. In float64 whatever out
    is, so that a large mean costs no digits. Rows are standardised so before either backend takes
    them: there is no compiled twin.

    >>> X, out = np.array([[1.0, 5.0], [3.0, 5.0]]), np.empty((2, 2))
    >>> standardise(X, np.array([2.0, 5.0]), np.array([1.0, 0.0]), out)
    >>> out
    array([[-1.,  0.],
           [ 1.,  0.]])
    """
    out[...] = (X - mean) / np.where(deviation == 0, np.inf, deviation)


def affine(x: Array, W: Array, b: Array, out: Array) -> None:
    """Weighted input of a layer, out = x W^T + b."""
    out[...] = x @ W.T + b


def backprop_delta(W_next: Array, delta_next: Array, a: Array, activation: str, out: Array) -> None:
    """Propagate the error one layer back (BP2), out = (delta_next W_next) f'(z).

    f'(z) is computed from a = f(z), where f is `activation`. `W_next`, (n_next, n_out), are the
    weights of the layer above before their update, `delta_next`, (batch, n_next), its errors.
    """
    DERIVATIVES[activation](a, out)
    out *= delta_next @ W_next


def weight_gradient(a_prev: Array, delta: Array, dW: Array) -> None:
    """Gradient of the mean cost in the weights (BP4), dW = delta^T a_prev / batch."""
    dW[...] = delta.T @ a_prev / len(delta)


def bias_gradient(delta: Array, db: Array) -> None:
    """Gradient of the mean cost in the biases (BP3), db = mean of delta over the batch."""
    db[...] = delta.mean(axis=0)


def outer_update(W: Array, b: Array, a_prev: Array, delta: Array, learning_rate: float) -> None:
    """Learn from one sample, a_prev (n_in,) and delta (n_out,), in place.

    W -= learning_rate * outer(delta, a_prev); b -= learning_rate * delta
    """
    W -= learning_rate * np.outer(delta, a_prev)
    b -= learning_rate * delta


def batch_update(W: Array, b: Array, a_prev: Array, delta: Array, learning_rate: float) -> None:
    """Learn from the mean over a batch, in place.

    W -= learning_rate * delta^T a_prev / batch; b -= learning_rate * mean(delta)
    """
    W -= (learning_rate / len(delta)) * (delta.T @ a_prev)
    b -= learning_rate * delta.mean(axis=0)


def forward(
    model: Model, weights: Arrays, biases: Arrays, X: Array, masks: Masks = None
) -> tuple[list[Array], list[Array]]:
    """Return the activations of all layers, and the weighted inputs of those above the inputs.

    Here and below X may be a sparse matrix of SciPy's, which stays sparse. `masks` are what the
    activations of hidden layers are multiplied by, see `dropout`; None outside of training.
    """
    dtype = weights[0].dtype
    a, zs = [X.astype(dtype) * dtype.type(model.scale)], []
    for l, (W, b, activation) in enumerate(zip(weights, biases, model.activations, strict=True)):
        z = np.empty((X.shape[0], len(W)), dtype)
        affine(a[-1], W, b, z)
        zs.append(z)
        a.append(np.empty_like(z))
        activate(activation, z, a[-1])
        if masks and l < len(masks) and masks[l] is not None:
            a[-1] *= masks[l]
    return a, zs


def feedforward(model: Model, weights: Arrays, biases: Arrays, X: Array, out: Array) -> None:
    """Output of the network."""
    out[...] = forward(model, weights, biases, X)[0][-1]


def evaluate(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Array, masks: Masks = None
) -> tuple[Array, Array]:
    """Return the losses and the outputs of a batch."""
    a, z = forward(model, weights, biases, X, masks)
    losses = _output(model, z[-1], y, a[-1], np.empty_like(z[-1]))
    return losses, a[-1]


def _output(model: Model, z: Array, y: Array, a: Array, delta: Array) -> Array:
    losses = np.empty(len(z))
    activation = model.activations[-1]
    output_delta(model.loss, activation, z, y, a, delta, losses, model.setting)
    return losses


def backprop(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Array,
    sample_weight: Array | None = None, masks: Masks = None,
) -> tuple[list[Array], list[Array], Array]:  # fmt: skip
    """Return the activations and deltas of all layers, and the losses, of a batch.

    With `sample_weight`, (batch,), deltas and losses are multiplied by weight / mean weight: their
    mean is the weighted mean. If all weights are zero, so are deltas and losses.
    """
    a, z = forward(model, weights, biases, X, masks)
    delta = [np.empty_like(z[-1])]
    losses = _output(model, z[-1], y, a[-1], delta[0])
    if sample_weight is not None:
        total = sample_weight.sum(dtype=np.float64)
        shares = sample_weight * (X.shape[0] / total if total else 0.0)
        losses *= shares
        delta[0] *= shares[:, None].astype(z[-1].dtype)
    for l in range(len(weights) - 2, -1, -1):
        below = np.empty_like(z[l])
        slope(model.activations[l], z[l], below)
        if masks and masks[l] is not None:
            below *= masks[l]
        below *= delta[0] @ weights[l + 1]
        delta.insert(0, below)
    return a, delta, losses


def gradient(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Array, dW: Arrays, db: Arrays,
    sample_weight: Array | None = None, masks: Masks = None,
) -> Array:  # fmt: skip
    """Gradient of the mean loss of a batch with respect to all parameters, (BP1) to (BP4).

    Returns the losses. `db` is zero if the model has no biases. For `sample_weight` see `backprop`.
    """
    a, delta, losses = backprop(model, weights, biases, X, y, sample_weight, masks)
    for l in range(len(weights)):
        weight_gradient(a[l], delta[l], dW[l])
        bias_gradient(delta[l], db[l]) if model.bias else db[l].fill(0)
    return losses


def sgd_step(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Array, learning_rate: float,
    masks: Masks = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Learn from one batch, in place, if its loss is finite; return losses and outputs before."""
    a, delta, losses = backprop(model, weights, biases, X, y, masks=masks)
    if np.isfinite(losses.sum()):
        for l in range(len(weights)):
            b = biases[l] if model.bias else np.zeros_like(biases[l])
            batch_update(weights[l], b, a[l], delta[l], learning_rate)
    return losses, a[-1]


def sgd_epoch(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Callable[[Array], Array],
    order: Array, batch_size: int, learning_rate: float, masks: MasksOf = no_masks,
) -> Iterator[tuple[Array, Array, Array]]:  # fmt: skip
    """Stochastic gradient descent over the samples of `order`, batch by batch, in place.

    X is (n, n_in), y(indices) gives the targets of these samples and masks(indices) their masks,
    and `order` is (m,) integers. The last batch may be smaller; its gradient is the mean over its
    own size. Yields the indices, losses and outputs of each batch, before its step, and ends after
    a loss that is not finite.
    """
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        some = X[batch], y(batch), learning_rate, masks(batch)
        losses, outputs = sgd_step(model, weights, biases, *some)
        yield batch, losses, outputs
        if not np.isfinite(losses.sum()):
            return


def optimizer_epoch(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Callable[[Array], Array],
    order: Array, batch_size: int, learning_rate: float, rule: Rule,
    slots: Sequence[tuple[Arrays, Arrays]], t: int, sample_weight: Array | None,
    masks: MasksOf = no_masks,
) -> Iterator[tuple[Array, Array, Array, float]]:  # fmt: skip
    """Run `sgd_epoch` with any rule, on samples that may have weights.

    `t` steps were taken before these; `rule` and `slots` are as for `optimizer_step`. The penalty
    of each batch is yielded too.
    """
    dW, db = ([np.empty_like(p) for p in params] for params in (weights, biases))
    for step, start in enumerate(range(0, len(order), batch_size), t + 1):
        batch = order[start : start + batch_size]
        counts = None if sample_weight is None else sample_weight[batch]
        some, left = (model, weights, biases, X[batch], y(batch)), masks(batch)
        outputs = evaluate(*some, left)[1]
        losses = gradient(*some, dW, db, counts, left)
        if not np.isfinite(losses.sum()):
            yield batch, losses, outputs, 0.0
            return
        total = len(batch) if counts is None else counts.sum(dtype=np.float64)
        penalty = optimizer_step(rule, step, weights, biases, dW, db, slots, total, learning_rate)
        yield batch, losses, outputs, penalty
