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

from .records import Array, Arrays, Rule
from .records import Model as Model
from .records import Targets as Targets


def exp(z: Array, out: Array) -> None:
    """Exponential, out = exp(z); the output of a Poisson regression.

    In double precision, because NumPy's float32 exp errs by up to 2.4 units in the last place. The
    compiled twin errs by at most 1.08 over all float32, and by less than 1.1 in float64, subnormal
    results included.
    """
    with np.errstate(over="ignore", under="ignore"):
        out[...] = np.exp(z, dtype=np.float64)


def sigmoid(z: Array, out: Array) -> None:
    """Logistic function, out = 1 / (1 + exp(-z)).

    Evaluated as exp(-|z|) / (1 + exp(-|z|)) for negative z, so that nothing overflows.

    The compiled twins of sigmoid and tanh are monotone, and err by at most 1.523 and 1.577 units in
    the last place over all float32, tanh by 1.046 with AVX-512, sigmoid by at most 2**-126 where
    its result is not a normal number (`scripts/exhaustive_ulp.py`, on a CPU with FMA; without, 2.2
    and 2.0 units). In float64, dense samples stay below 1.5 units.

    >>> sigmoid(np.array([0.0, 1000.0, -1000.0]), out := np.empty(3))
    >>> out
    array([0.5, 1. , 0. ])
    """
    t = np.exp(-np.abs(z))
    out[...] = np.where(z < 0, t, 1) / (1 + t)


def sigmoid_prime_from_a(a: Array, out: Array) -> None:
    """Derivative of the sigmoid from its value, out = a (1 - a)."""
    out[...] = a * (1 - a)


def sigmoid_prime(z: Array, out: Array) -> None:
    """Derivative of the sigmoid, out = sigma(z) (1 - sigma(z))."""
    sigmoid(z, out)
    sigmoid_prime_from_a(out.copy(), out)


def tanh(z: Array, out: Array) -> None:
    """Hyperbolic tangent, out = tanh(z); for the accuracy of the compiled twin see `sigmoid`."""
    out[...] = np.tanh(z)


def tanh_prime_from_a(a: Array, out: Array) -> None:
    """Derivative of tanh from its value, out = 1 - a**2."""
    out[...] = 1 - a * a


def tanh_prime(z: Array, out: Array) -> None:
    """Derivative of tanh, out = 1 - tanh(z)**2."""
    tanh(z, out)
    tanh_prime_from_a(out.copy(), out)


def relu(z: Array, out: Array) -> None:
    """Rectified linear unit, out = max(z, 0)."""
    out[...] = np.maximum(z, 0)


def relu_prime_from_a(a: Array, out: Array) -> None:
    """Derivative of ReLU from its value: 1 where a > 0, else 0 (also at the kink)."""
    out[...] = a > 0


relu_prime = relu_prime_from_a  # a > 0 where z > 0


def identity(z: Array, out: Array) -> None:
    """Identity, out = z."""
    out[...] = z


def identity_prime_from_a(a: Array, out: Array) -> None:
    """Derivative of the identity, out = 1."""
    out[...] = 1


identity_prime = identity_prime_from_a


def softmax(z: Array, out: Array) -> None:
    """Softmax of each row, out = exp(z - max z) / sum(exp(z - max z))."""
    t = np.exp(z - z.max(axis=1, keepdims=True))
    out[...] = t / t.sum(axis=1, keepdims=True)


Elementwise = Callable[[Array, Array], None]
_ALL = (sigmoid, tanh, relu, identity, exp, softmax)
ACTIVATIONS: dict[str, Elementwise] = {function.__name__: function for function in _ALL}
# From the activation itself. Activations without a derivative are for outputs only.
_SLOPES = (sigmoid_prime_from_a, tanh_prime_from_a, relu_prime_from_a, identity_prime_from_a)
DERIVATIVES: dict[str, Elementwise] = {f.__name__.partition("_")[0]: f for f in _SLOPES}
# The names of all functions that work element by element.
_FORMS = ("", "_prime", "_prime_from_a")
ELEMENTWISE = (*(name + form for name in DERIVATIVES for form in _FORMS), "exp")


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


def _quadratic(z: Array, y: Array, a: Array) -> Any:
    return 0.5 * np.square(a - y, dtype=np.float64).sum(axis=1)


def _softmax_cross_entropy(z: Array, y: Array, a: Array) -> Any:
    below = z.max(axis=1, keepdims=True) - z
    rest = np.exp(-below)
    np.put_along_axis(rest, below.argmin(axis=1)[:, None], 0, axis=1)
    return (y * below).sum(axis=1) + y.sum(axis=1) * np.log1p(rest.sum(axis=1))


def _sigmoid_cross_entropy(z: Array, y: Array, a: Array) -> Any:
    return (np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z)))).sum(axis=1)


# C of each sample from z in float64, y and a, by the names of loss and output activation.
LOSSES: dict[tuple[str, str], Callable[[Array, Array, Array], Any]] = {
    **{("quadratic", name): _quadratic for name in ACTIVATIONS if name != "exp"},
    ("cross-entropy", "softmax"): _softmax_cross_entropy,
    ("cross-entropy", "sigmoid"): _sigmoid_cross_entropy,
    ("poisson", "exp"): lambda z, y, a: (a.astype(np.float64) - y * z).sum(axis=1),
}


# Where a loss has a least value: targets from the first to the second.
DOMAINS = {
    ("cross-entropy", "softmax"): (0.0, np.inf),  # counts of classes, or a distribution
    ("cross-entropy", "sigmoid"): (0.0, 1.0),
    ("poisson", "exp"): (0.0, np.inf),
}
# What an output comes to at most, where it does not come to every number.
REACH = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, np.inf)}


def output_delta(
    loss: str, activation: str, z: Array, y: Array, a: Array, delta: Array, losses: Array
) -> None:
    """Output, error and losses of the last layer, from its weighted input (BP1).

    ================  ===========  =========================================  =================
    loss              activation   C of one sample                            delta = dC/dz
    ================  ===========  =========================================  =================
    quadratic         any          sum((a - y)**2) / 2                        (a - y) f'(z)
    cross-entropy     softmax      -sum(y log a)                              a sum(y) - y
    cross-entropy     sigmoid      -sum(y log a + (1 - y) log(1 - a))         a - y
    poisson           exp          sum(a - y log a)                           a - y
    ================  ===========  =========================================  =================

    Losses are computed from z, in float64, and stay exact where a is 0 or 1 to the last bit.
    """
    ACTIVATIONS[activation](z, a)
    losses[...] = LOSSES[loss, activation](z.astype(np.float64), y, a)
    difference = a - y
    if loss != "quadratic":
        softmaxed = activation == "softmax"
        delta[...] = a * y.sum(axis=1, keepdims=True) - y if softmaxed else difference
    elif activation == "softmax":
        delta[...] = a * (difference - (difference * a).sum(axis=1, keepdims=True))
    else:
        DERIVATIVES[activation](a, delta)
        delta *= difference


def momentum_update(
    p: Array, velocity: Array, g: Array, learning_rate: float, momentum: float
) -> None:
    """Momentum: velocity = momentum velocity - learning_rate g; p += velocity. In place.

    Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964.
    """
    velocity *= momentum
    velocity -= learning_rate * g
    p += velocity


def nesterov_update(
    p: Array, velocity: Array, g: Array, learning_rate: float, momentum: float
) -> None:
    """Nesterov's momentum: as `momentum_update`, but p += momentum velocity - learning_rate g.

    Sutskever et al., *On the importance of initialization and momentum in deep learning*, 2013.
    """
    velocity *= momentum
    velocity -= learning_rate * g
    p += momentum * velocity - learning_rate * g


def adam_update(
    p: Array, first: Array, second: Array, g: Array,
    learning_rate: float, beta_1: float, beta_2: float, epsilon: float, t: int,
) -> None:  # fmt: skip
    """Adam, step t = 1, 2, ...: p -= learning_rate m / (sqrt(v) + epsilon), in place.

    m and v are the running means of g and g**2, `first` and `second`, divided by 1 - beta**t.
    Kingma and Ba, *Adam: A Method for Stochastic Optimization*, 2015, algorithm 1.
    """
    first *= beta_1
    first += (1 - beta_1) * g
    second *= beta_2
    second += (1 - beta_2) * g**2
    m, v = first / (1 - beta_1**t), second / (1 - beta_2**t)
    p -= learning_rate * m / (np.sqrt(v) + epsilon)


def rmsprop_update(
    p: Array, second: Array, g: Array, learning_rate: float, rho: float, epsilon: float
) -> None:
    """RMSprop: p -= learning_rate g / (sqrt(second) + epsilon), in place.

    `second` is the running mean of g**2: rho second + (1 - rho) g**2. Tieleman and Hinton, *Lecture
    6.5, rmsprop: Divide the gradient by a running average of its recent magnitude*, 2012.
    """
    second *= rho
    second += (1 - rho) * g**2
    p -= learning_rate * g / (np.sqrt(second) + epsilon)


def _update(rule: Rule, t: int, learning_rate: float, p: Array, g: Array, slots: Arrays) -> None:
    if rule.name == "adam":
        # Added to the uncorrected root, as in the paper's section 2, it is larger at first.
        epsilon = rule.epsilon / (1 if rule.corrected else np.sqrt(1 - rule.second**t))
        adam_update(p, slots[0], slots[1], g, learning_rate, rule.first, rule.second, epsilon, t)
    elif rule.name == "rmsprop":
        rmsprop_update(p, slots[0], g, learning_rate, rule.second, rule.epsilon)
    elif rule.name == "sgd":
        p -= learning_rate * g
    else:
        update = nesterov_update if rule.name == "nesterov" else momentum_update
        update(p, slots[0], g, learning_rate, rule.first)


CLIP_SLACK = 1e-6  # as in PyTorch: no division by zero
NONE = 0.0, 0.0, 0.0  # the penalties and the decay of biases


def optimizer_step(
    rule: Rule, t: int, weights: Arrays, biases: Arrays, dW: Arrays, db: Arrays,
    slots: Sequence[tuple[Arrays, Arrays]], total: float, learning_rate: float,
) -> float:  # fmt: skip
    """Step number t = 1, 2, ... along the mean gradient of a batch, in place.

    First the gradient is shortened to the norm `rule.clip`, over all parameters. Then the gradient
    of the penalty l1 sum(abs(W)) + l2 / 2 sum(W**2) is added, l1 sign(W) + l2 W, where sign(0) is
    0; biases have no penalty. With `rule.over_sum` the penalty is added to the sum of the batch's
    losses, not their mean: l1 and l2 are divided by `total`, the batch size or the sum of the
    samples' weights. Returns the penalty before the step.

    `rule.weight_decay` shrinks weights, but not biases, beside the gradient:
    W -= learning_rate weight_decay W. Loshchilov and Hutter, *Decoupled Weight Decay
    Regularization*, 2019.

    `slots`, pairs like (weights, biases), are the optimiser's memory; zeros at first.

    The layers in `rule.frozen` take no part in any of this: neither in the norm nor in the penalty,
    and their parameters and memory keep their bits.
    """
    learning = [l for l in range(len(weights)) if l not in rule.frozen]
    # If all weights are zero, nothing is learnt.
    l1, l2 = (x / (total or np.inf) if rule.over_sum else x for x in (rule.l1, rule.l2))
    parts = [gradients[l] for gradients in (dW, db) for l in learning]
    squares = sum(float((g.astype(np.float64) ** 2).sum()) for g in parts)
    shrink = min(1.0, rule.clip / (np.sqrt(squares) + CLIP_SLACK)) if rule.clip else 1.0
    learnt = [weights[l] for l in learning]
    penalty = l2 / 2 * sum(float((W.astype(np.float64) ** 2).sum()) for W in learnt)
    penalty += l1 * sum(float(np.abs(W, dtype=np.float64).sum()) for W in learnt)
    for kind, (params, gradients) in enumerate([(weights, dW), (biases, db)]):
        sizes, decay, shrunk = (l1, l2, learning_rate * rule.weight_decay) if kind == 0 else NONE
        for l in learning:
            p, g, number = params[l], gradients[l], params[l].dtype.type
            g = number(shrink) * g + number(decay) * p
            if sizes:
                g += number(sizes) * np.sign(p)
            if shrunk:
                p -= number(shrunk) * p
            _update(rule, t, number(learning_rate), p, g, [slot[kind][l] for slot in slots])
    return penalty


def forward(model: Model, weights: Arrays, biases: Arrays, X: Array) -> tuple[list[Array], Array]:
    """Return the activations of all layers and the output's weighted input.

    Here and below X may be a sparse matrix of SciPy's, which stays sparse.
    """
    dtype = weights[0].dtype
    a = [X.astype(dtype) * dtype.type(model.scale)]
    for W, b, activation in zip(weights, biases, model.activations, strict=True):
        z = np.empty((X.shape[0], len(W)), dtype)
        affine(a[-1], W, b, z)
        a.append(np.empty_like(z))
        ACTIVATIONS[activation](z, a[-1])
    return a, z


def feedforward(model: Model, weights: Arrays, biases: Arrays, X: Array, out: Array) -> None:
    """Output of the network."""
    out[...] = forward(model, weights, biases, X)[0][-1]


def evaluate(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Array
) -> tuple[Array, Array]:
    """Return the losses and the outputs of a batch."""
    a, z = forward(model, weights, biases, X)
    losses = np.empty(X.shape[0])
    output_delta(model.loss, model.activations[-1], z, y, a[-1], np.empty_like(z), losses)
    return losses, a[-1]


def backprop(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Array,
    sample_weight: Array | None = None,
) -> tuple[list[Array], list[Array], Array]:  # fmt: skip
    """Return the activations and deltas of all layers, and the losses, of a batch.

    With `sample_weight`, (batch,), deltas and losses are multiplied by weight / mean weight: their
    mean is the weighted mean. If all weights are zero, so are deltas and losses.
    """
    a, z = forward(model, weights, biases, X)
    losses = np.empty(X.shape[0])
    delta = [np.empty_like(z)]
    output_delta(model.loss, model.activations[-1], z, y, a[-1], delta[0], losses)
    if sample_weight is not None:
        total = sample_weight.sum(dtype=np.float64)
        shares = sample_weight * (X.shape[0] / total if total else 0.0)
        losses *= shares
        delta[0] *= shares[:, None].astype(z.dtype)
    for l in range(len(weights) - 1, 0, -1):
        delta.insert(0, np.empty_like(a[l]))
        backprop_delta(weights[l], delta[1], a[l], model.activations[l - 1], delta[0])
    return a, delta, losses


def gradient(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Array, dW: Arrays, db: Arrays,
    sample_weight: Array | None = None,
) -> Array:  # fmt: skip
    """Gradient of the mean loss of a batch with respect to all parameters, (BP1) to (BP4).

    Returns the losses. `db` is zero if the model has no biases. For `sample_weight` see `backprop`.
    """
    a, delta, losses = backprop(model, weights, biases, X, y, sample_weight)
    for l in range(len(weights)):
        weight_gradient(a[l], delta[l], dW[l])
        bias_gradient(delta[l], db[l]) if model.bias else db[l].fill(0)
    return losses


def sgd_step(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Array, learning_rate: float
) -> tuple[Array, Array]:
    """Learn from one batch, in place, if its loss is finite; return losses and outputs before."""
    a, delta, losses = backprop(model, weights, biases, X, y)
    if np.isfinite(losses.sum()):
        for l in range(len(weights)):
            b = biases[l] if model.bias else np.zeros_like(biases[l])
            batch_update(weights[l], b, a[l], delta[l], learning_rate)
    return losses, a[-1]


def sgd_epoch(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Callable[[Array], Array],
    order: Array, batch_size: int, learning_rate: float,
) -> Iterator[tuple[Array, Array, Array]]:  # fmt: skip
    """Stochastic gradient descent over the samples of `order`, batch by batch, in place.

    X is (n, n_in), y(indices) gives the targets of these samples, and `order` is (m,) integers. The
    last batch may be smaller; its gradient is the mean over its own size. Yields the indices,
    losses and outputs of each batch, before its step, and ends after a loss that is not finite.
    """
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        losses, outputs = sgd_step(model, weights, biases, X[batch], y(batch), learning_rate)
        yield batch, losses, outputs
        if not np.isfinite(losses.sum()):
            return


def optimizer_epoch(
    model: Model, weights: Arrays, biases: Arrays, X: Array, y: Callable[[Array], Array],
    order: Array, batch_size: int, learning_rate: float, rule: Rule,
    slots: Sequence[tuple[Arrays, Arrays]], t: int, sample_weight: Array | None,
) -> Iterator[tuple[Array, Array, Array, float]]:  # fmt: skip
    """Run `sgd_epoch` with any rule, on samples that may have weights.

    `t` steps were taken before these; `rule` and `slots` are as for `optimizer_step`. The penalty
    of each batch is yielded too.
    """
    dW, db = ([np.empty_like(p) for p in params] for params in (weights, biases))
    for step, start in enumerate(range(0, len(order), batch_size), t + 1):
        batch = order[start : start + batch_size]
        counts = None if sample_weight is None else sample_weight[batch]
        outputs = evaluate(model, weights, biases, X[batch], y(batch))[1]
        losses = gradient(model, weights, biases, X[batch], y(batch), dW, db, counts)
        if not np.isfinite(losses.sum()):
            yield batch, losses, outputs, 0.0
            return
        total = len(batch) if counts is None else counts.sum(dtype=np.float64)
        penalty = optimizer_step(rule, step, weights, biases, dW, db, slots, total, learning_rate)
        yield batch, losses, outputs, penalty
