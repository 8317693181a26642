"""The specification: every operation and the SGD epoch in plain NumPy.

The compiled kernels are held equal to these functions, argument by argument. Inputs come first,
`out` arrays last; they are fully overwritten and must not alias an input. Samples are rows, weights
are `(n_out, n_in)`, a batch gradient is the mean over the batch.

Nothing here is fast on purpose; everything is meant to be read.

References
----------
Nielsen, *Neural Networks and Deep Learning*, ch. 2 and 3: the equations (BP1) to (BP4).
"""

from typing import NamedTuple

import numpy as np


class Model(NamedTuple):
    """What a network computes, apart from its parameters."""

    sizes: tuple  # neurons per layer, the inputs being layer 0
    activations: tuple  # names, of the layers above the inputs
    loss: str
    bias: bool
    scale: float  # inputs are multiplied by it


class Targets(NamedTuple):
    """What is to be learnt: class labels, or rows of values; the other of the two is empty."""

    labels: np.ndarray  # (n,) int64
    values: np.ndarray  # (n, n_out)
    weights: np.ndarray = np.empty(0)  # (n,), or empty: all samples count alike

    def rows(self, indices, n_out):
        """Return the targets of these samples as rows, one-hot where there are labels."""
        if not self.labels.size:
            return self.values[indices]
        return np.eye(n_out, dtype=self.values.dtype)[self.labels[indices]]


# The element-wise operations, by name.
ELEMENTWISE = (
    *(
        name + suffix
        for name in ("sigmoid", "tanh", "relu", "identity")
        for suffix in ("", "_prime", "_prime_from_a")
    ),
    "exp",
)


# -- activations -----------------------------------------------------------------------------------


def exp(z, out):
    """Exponential, out = exp(z); the output of a Poisson regression."""
    with np.errstate(over="ignore"):
        out[...] = np.exp(z)


def sigmoid(z, out):
    """Logistic function, out = 1 / (1 + exp(-z)).

    Evaluated as exp(-|z|) / (1 + exp(-|z|)) for negative z, so that nothing overflows.

    The compiled twin errs by at most 1.523 units in the last place, and is monotone, over all
    float32 whose result is a normal number; below that, the error is at most 2**-126
    (`scripts/exhaustive_ulp.py`, on a CPU with FMA; without, 2.2 units). In float64, dense samples
    stay below 1.5 units.

    Parameters
    ----------
    z : float array
        Weighted input.
    out : float array of the same shape
        Overwritten.

    Examples
    --------
    >>> z, out = np.array([0.0, 1000.0, -1000.0]), np.empty(3)
    >>> sigmoid(z, out)
    >>> out
    array([0.5, 1. , 0. ])
    """
    t = np.exp(-np.abs(z))
    out[...] = np.where(z < 0, t, 1) / (1 + t)


def sigmoid_prime_from_a(a, out):
    """Derivative of the sigmoid from its value, out = a (1 - a)."""
    out[...] = a * (1 - a)


def sigmoid_prime(z, out):
    """Derivative of the sigmoid, out = sigma(z) (1 - sigma(z))."""
    sigmoid(z, out)
    sigmoid_prime_from_a(out.copy(), out)


def tanh(z, out):
    """Hyperbolic tangent, out = tanh(z).

    The compiled twin errs by at most 1.577 units in the last place, and is monotone, over all
    float32 (`scripts/exhaustive_ulp.py`, on a CPU with FMA; without, 2.0 units). In float64, dense
    samples stay below 1.5 units.
    """
    out[...] = np.tanh(z)


def tanh_prime_from_a(a, out):
    """Derivative of tanh from its value, out = 1 - a**2."""
    out[...] = 1 - a * a


def tanh_prime(z, out):
    """Derivative of tanh, out = 1 - tanh(z)**2."""
    tanh(z, out)
    tanh_prime_from_a(out.copy(), out)


def relu(z, out):
    """Rectified linear unit, out = max(z, 0)."""
    out[...] = np.maximum(z, 0)


def relu_prime_from_a(a, out):
    """Derivative of ReLU from its value: 1 where a > 0, else 0 (also at the kink)."""
    out[...] = a > 0


def relu_prime(z, out):
    """Derivative of ReLU: 1 where z > 0, else 0 (also at the kink)."""
    out[...] = z > 0


def identity(z, out):
    """Identity, out = z."""
    out[...] = z


def identity_prime_from_a(a, out):
    """Derivative of the identity, out = 1."""
    out[...] = 1


def identity_prime(z, out):
    """Derivative of the identity, out = 1."""
    out[...] = 1


def softmax(z, out):
    """Softmax of each row, out = exp(z - max z) / sum(exp(z - max z)).

    Parameters
    ----------
    z : (batch, n) float array
    out : (batch, n) float array
        Overwritten; rows sum to 1.
    """
    t = np.exp(z - z.max(axis=1, keepdims=True))
    out[...] = t / t.sum(axis=1, keepdims=True)


# Activation by name, and its derivative from the activation; without one it is an output only.
ACTIVATIONS = {
    "sigmoid": (sigmoid, sigmoid_prime_from_a),
    "tanh": (tanh, tanh_prime_from_a),
    "relu": (relu, relu_prime_from_a),
    "identity": (identity, identity_prime_from_a),
    "exp": (exp, None),
    "softmax": (softmax, None),
}


# -- one layer -------------------------------------------------------------------------------------


def affine(x, W, b, out):
    """Weighted input of a layer, out = x W^T + b.

    Parameters
    ----------
    x : (batch, n_in) float array
    W : (n_out, n_in) float array
    b : (n_out,) float array
    out : (batch, n_out) float array
        Overwritten.
    """
    out[...] = x @ W.T + b


def backprop_delta(W_next, delta_next, a, activation, out):
    """Propagate the error one layer back (BP2).

    out = (delta_next W_next) f'(z), the derivative taken from a = f(z).

    Parameters
    ----------
    W_next : (n_next, n) float array
        Weights of the layer above, before their update.
    delta_next : (batch, n_next) float array
    a : (batch, n) float array
        This layer's activation.
    activation : str
        Name of this layer's activation.
    out : (batch, n) float array
        Overwritten; must not alias an input.

    References
    ----------
    Nielsen, *Neural Networks and Deep Learning*, ch. 2, (BP2).
    """
    ACTIVATIONS[activation][1](a, out)
    out *= delta_next @ W_next


def weight_gradient(a_prev, delta, dW):
    """Gradient of the mean cost in the weights (BP4), dW = delta^T a_prev / batch."""
    dW[...] = delta.T @ a_prev / len(delta)


def bias_gradient(delta, db):
    """Gradient of the mean cost in the biases (BP3), db = mean of delta over the batch."""
    db[...] = delta.mean(axis=0)


def outer_update(W, b, a_prev, delta, learning_rate):
    """Learn from one sample, in place.

    W -= learning_rate * outer(delta, a_prev); b -= learning_rate * delta

    Parameters
    ----------
    W : (n_out, n_in) float array
    b : (n_out,) float array
    a_prev : (n_in,) float array
    delta : (n_out,) float array
    learning_rate : float
    """
    W -= learning_rate * np.outer(delta, a_prev)
    b -= learning_rate * delta


def batch_update(W, b, a_prev, delta, learning_rate):
    """Learn from the mean over a batch, in place.

    W -= learning_rate * delta^T a_prev / batch; b -= learning_rate * mean(delta)
    """
    W -= (learning_rate / len(delta)) * (delta.T @ a_prev)
    b -= learning_rate * delta.mean(axis=0)


# -- losses ----------------------------------------------------------------------------------------


def _quadratic(activation, z, y, a, delta, losses):
    ACTIVATIONS[activation][0](z, a)
    difference = a - y
    losses[...] = 0.5 * np.square(difference, dtype=np.float64).sum(axis=1)
    if activation == "softmax":
        delta[...] = a * (difference - (difference * a).sum(axis=1, keepdims=True))
    else:
        ACTIVATIONS[activation][1](a, delta)
        delta *= difference


def _softmax_cross_entropy(activation, z, y, a, delta, losses):
    softmax(z, a)
    z = z.astype(np.float64)
    below = z.max(axis=1, keepdims=True) - z
    rest = np.exp(-below)
    np.put_along_axis(rest, below.argmin(axis=1)[:, None], 0, axis=1)
    losses[...] = (y * below).sum(axis=1) + y.sum(axis=1) * np.log1p(rest.sum(axis=1))
    delta[...] = a * y.sum(axis=1, keepdims=True) - y


def _sigmoid_cross_entropy(activation, z, y, a, delta, losses):
    sigmoid(z, a)
    z = z.astype(np.float64)
    losses[...] = (np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z)))).sum(axis=1)
    delta[...] = a - y


def _poisson(activation, z, y, a, delta, losses):
    exp(z, a)
    losses[...] = (a.astype(np.float64) - y * z.astype(np.float64)).sum(axis=1)
    delta[...] = a - y


_CROSS_ENTROPY = {"softmax": _softmax_cross_entropy, "sigmoid": _sigmoid_cross_entropy}
LOSSES = {
    **{("quadratic", name): _quadratic for name in ACTIVATIONS if name != "exp"},
    **{("cross-entropy", name): loss for name, loss in _CROSS_ENTROPY.items()},
    ("poisson", "exp"): _poisson,
}


def output_delta(loss, activation, z, y, a, delta, losses):
    """Output, error and loss of the last layer, from its weighted input (BP1).

    ================  ===========  =========================================  =================
    loss              activation   C of one sample                            delta = dC/dz
    ================  ===========  =========================================  =================
    quadratic         any          sum((a - y)**2) / 2                        (a - y) f'(z)
    cross-entropy     softmax      -sum(y log a)                              a sum(y) - y
    cross-entropy     sigmoid      -sum(y log a + (1 - y) log(1 - a))         a - y
    poisson           exp          sum(a - y log a)                           a - y
    ================  ===========  =========================================  =================

    Losses are computed from z, in float64, and stay exact where a is 0 or 1 to the last bit.

    Parameters
    ----------
    loss, activation : str
    z : (batch, n) float array
    y : (batch, n) float array
        Targets: one-hot or real.
    a, delta : (batch, n) float arrays
        Overwritten.
    losses : (batch,) float64 array
        Overwritten.
    """
    LOSSES[loss, activation](activation, z, y, a, delta, losses)


# -- optimisers ------------------------------------------------------------------------------------


def momentum_update(p, velocity, g, learning_rate, momentum):
    """Momentum: velocity = momentum velocity - learning_rate g; p += velocity. In place.

    Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964.
    """
    velocity *= momentum
    velocity -= learning_rate * g
    p += velocity


def nesterov_update(p, velocity, g, learning_rate, momentum):
    """Nesterov's momentum: as `momentum_update`, but p += momentum velocity - learning_rate g.

    Sutskever et al., *On the importance of initialization and momentum in deep learning*, 2013.
    """
    velocity *= momentum
    velocity -= learning_rate * g
    p += momentum * velocity - learning_rate * g


def adam_update(p, first, second, g, learning_rate, beta_1, beta_2, epsilon, t):
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


def _sgd(rule, t, learning_rate, p, g):
    p -= learning_rate * g


def _momentum(rule, t, learning_rate, p, g, velocity):
    momentum_update(p, velocity, g, learning_rate, rule.first)


def _nesterov(rule, t, learning_rate, p, g, velocity):
    nesterov_update(p, velocity, g, learning_rate, rule.first)


def _adam(rule, t, learning_rate, p, g, first, second):
    # Beside the root as it is, as at the end of the paper's section 2, it counts for more at first.
    epsilon = rule.epsilon / (1 if rule.corrected else np.sqrt(1 - rule.second**t))
    adam_update(p, first, second, g, learning_rate, rule.first, rule.second, epsilon, t)


UPDATES = {"sgd": _sgd, "momentum": _momentum, "nesterov": _nesterov, "adam": _adam}
CLIP_SLACK = 1e-6  # as in PyTorch: no division by zero


def optimizer_step(rule, t, weights, biases, dW, db, slots, total, learning_rate):
    """Step number t = 1, 2, ... along the mean gradient of a batch, in place.

    The gradient is first shortened to the norm `rule.clip`, over all parameters; then the gradient
    of the penalty l2 / 2 sum(W**2) is added, of weights but not of biases. With `rule.over_sum` the
    penalty is one on the sum of the batch's losses: l2 is divided by `total`.

    Parameters
    ----------
    rule : rules.Rule
    t : int
    weights, biases, dW, db : sequences of arrays
    slots : sequence of pairs like (weights, biases)
        What the optimiser remembers; zeros at first.
    total : float
        The batch size, or the sum of the weights of its samples.
    learning_rate : float

    Returns
    -------
    float
        The penalty, from before the step.
    """
    l2 = rule.l2
    if rule.over_sum:  # where no sample counts, nothing is learnt
        l2 = l2 / total if total else 0.0
    squares = sum(float((g.astype(np.float64) ** 2).sum()) for g in (*dW, *db))
    shrink = min(1.0, rule.clip / (np.sqrt(squares) + CLIP_SLACK)) if rule.clip else 1.0
    penalty = l2 / 2 * sum(float((W.astype(np.float64) ** 2).sum()) for W in weights)
    update = UPDATES[rule.name]
    for kind, (params, gradients) in enumerate([(weights, dW), (biases, db)]):
        decay = l2 if kind == 0 else 0
        for l, (p, g) in enumerate(zip(params, gradients, strict=True)):
            kind_of = p.dtype.type
            g = kind_of(shrink) * g + kind_of(decay) * p
            update(rule, t, kind_of(learning_rate), p, g, *(slot[kind][l] for slot in slots))
    return penalty


# -- the whole network -----------------------------------------------------------------------------


def forward(model, weights, biases, X):
    """Return the activations of all layers and the output's weighted input, of rows X."""
    dtype = weights[0].dtype
    a = [X.astype(dtype) * dtype.type(model.scale)]
    for W, b, activation in zip(weights, biases, model.activations, strict=True):
        z = np.empty((len(X), len(W)), dtype)
        affine(a[-1], W, b, z)
        a.append(np.empty_like(z))
        ACTIVATIONS[activation][0](z, a[-1])
    return a, z


def feedforward(model, weights, biases, X, out):
    """Network output of rows X.

    Parameters
    ----------
    model : Model
    weights, biases : sequences of arrays, one per layer above the inputs
    X : (batch, n_in) array
    out : (batch, n_out) float array
        Overwritten.
    """
    out[...] = forward(model, weights, biases, X)[0][-1]


def evaluate(model, weights, biases, X, y):
    """Return the losses and the outputs of a batch."""
    a, z = forward(model, weights, biases, X)
    losses = np.empty(len(X))
    output_delta(model.loss, model.activations[-1], z, y, a[-1], np.empty_like(z), losses)
    return losses, a[-1]


def backprop(model, weights, biases, X, y, sample_weight=None):
    """Return the activations and deltas of all layers, and the losses, of a batch.

    With weights of the samples, deltas and losses are multiplied by weight / mean weight: their
    mean over the batch is the weighted one. Where all weights are zero, so are they.
    """
    a, z = forward(model, weights, biases, X)
    losses = np.empty(len(X))
    delta = [np.empty_like(z)]
    output_delta(model.loss, model.activations[-1], z, y, a[-1], delta[0], losses)
    if sample_weight is not None:
        total = sample_weight.sum(dtype=np.float64)
        shares = sample_weight * (len(X) / total if total else 0.0)
        losses *= shares
        delta[0] *= shares[:, None].astype(z.dtype)
    for l in range(len(weights) - 1, 0, -1):
        delta.insert(0, np.empty_like(a[l]))
        backprop_delta(weights[l], delta[1], a[l], model.activations[l - 1], delta[0])
    return a, delta, losses


def gradient(model, weights, biases, X, y, dW, db, sample_weight=None):
    """Gradient of the mean loss of a batch in all parameters, (BP1) to (BP4).

    Parameters
    ----------
    model : Model
    weights, biases : sequences of arrays, one per layer above the inputs
    X : (batch, n_in) array
    y : (batch, n_out) array
    dW, db : sequences of arrays, shaped as weights and biases
        Overwritten; db with zeros where the model has no bias.
    sample_weight : (batch,) array, optional
        See `backprop`.

    Returns
    -------
    losses : (batch,) float64 array
    """
    a, delta, losses = backprop(model, weights, biases, X, y, sample_weight)
    for l in range(len(weights)):
        weight_gradient(a[l], delta[l], dW[l])
        bias_gradient(delta[l], db[l]) if model.bias else db[l].fill(0)
    return losses


def sgd_step(model, weights, biases, X, y, learning_rate):
    """Learn from one batch, in place; return the losses and outputs from before the step.

    A batch whose loss is not finite is not learnt.
    """
    a, delta, losses = backprop(model, weights, biases, X, y)
    if np.isfinite(losses.sum()):
        for l in range(len(weights)):
            unused = np.zeros_like(biases[l])
            b = biases[l] if model.bias else unused
            batch_update(weights[l], b, a[l], delta[l], learning_rate)
    return losses, a[-1]


def sgd_epoch(model, weights, biases, X, y, order, batch_size, learning_rate):
    """Stochastic gradient descent over the samples of `order`, batch by batch, in place.

    Parameters
    ----------
    model : Model
    weights, biases : sequences of arrays, one per layer above the inputs
    X : (n, n_in) array
    y : callable
        y(indices) gives the targets of these samples, (batch, n_out).
    order : (m,) integer array
    batch_size : int
        The last batch may be smaller; its gradient is the mean over its own size.
    learning_rate : float

    Yields
    ------
    indices, losses, outputs
        Of each batch, as seen before its step. After a loss that is not finite nothing more comes.
    """
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        losses, outputs = sgd_step(model, weights, biases, X[batch], y(batch), learning_rate)
        yield batch, losses, outputs
        if not np.isfinite(losses.sum()):
            return


def optimizer_epoch(
    model, weights, biases, X, y, order, batch_size, learning_rate, rule, slots, t, sample_weight
):
    """`sgd_epoch` by another rule, and of samples that have weights.

    Parameters
    ----------
    model, weights, biases, X, y, order, batch_size, learning_rate
        As for `sgd_epoch`.
    rule, slots
        As for `optimizer_step`.
    t : int
        How many steps came before.
    sample_weight : (n,) array or None

    Yields
    ------
    indices, losses, outputs, penalty
        Of each batch, as seen before its step. After a loss that is not finite nothing more comes.
    """
    dW, db = ([np.empty_like(p) for p in params] for params in (weights, biases))
    for step, start in enumerate(range(0, len(order), batch_size)):
        batch = order[start : start + batch_size]
        counts = None if sample_weight is None else sample_weight[batch]
        outputs = evaluate(model, weights, biases, X[batch], y(batch))[1]
        losses = gradient(model, weights, biases, X[batch], y(batch), dW, db, counts)
        if not np.isfinite(losses.sum()):
            yield batch, losses, outputs, 0.0
            return
        total = len(batch) if counts is None else counts.sum(dtype=np.float64)
        penalty = optimizer_step(
            rule, t + step + 1, weights, biases, dW, db, slots, total, learning_rate
        )
        yield batch, losses, outputs, penalty
