"""JAX: epochs as one jitted scan, weights donated, data on the device, the order handed in.

Tried: the gradient by hand (as quick as `value_and_grad` for one sample, a third slower for
batches, because it transposes what XLA contracts in place); gathering the epoch before the scan
(up to two times slower); unrolling by 16 (no gain on 4); weights input-major for batches, or
output-major for one sample (a quarter to a third slower); vectors of 512 bits, fast math (no gain).
The variant "columns" is fastbp's own trick carried over: where a batch holds all samples and they
lie as columns, narrow layers fill the vectors (surrogate 0.51 ms rather than 0.94).
"""

import jax
import jax.numpy as jnp
import numpy as np

from . import Done, Job, NotApplicable

ACTIVATIONS = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "identity": lambda z: z,
    "softmax": lambda z: z,  # the loss takes the logarithm of the softmax; predict adds it
}
UNROLL = 4


def layers(task, layout):
    """Return a function from samples to outputs, given the weights."""
    hidden, last = ACTIVATIONS[task.work.activation], ACTIVATIONS[task.work.output]
    product = {
        "columns": lambda W, b, a: W @ a + b[:, None],
        "output-major": lambda W, b, a: a @ W.T + b,
        "input-major": lambda W, b, a: a @ W + b,
    }[layout]

    def forward(parameters, a):
        for l, (W, b) in enumerate(parameters):
            a = (last if l == len(parameters) - 1 else hidden)(product(W, b, a))
        return a

    return forward


def mean_loss(task, layout):
    """Return the mean loss as a function of weights, samples and targets."""
    forward, axis = layers(task, layout), 0 if layout == "columns" else -1

    def loss(parameters, x, y):
        out = forward(parameters, x)
        if task.work.loss == "quadratic":
            return 0.5 * jnp.square(out - y).sum(axis=axis).mean()
        return -(y * jax.nn.log_softmax(out, axis=axis)).sum(axis=axis).mean()

    return loss


def build(task, variant):
    jax.config.update("jax_enable_x64", task.work.dtype == "float64")
    if task.work.kind == "predict":
        return predict(task)
    if task.work.kind == "gradient" or not task.shuffle:
        make = gradient if task.work.kind == "gradient" else train_full
        return make(task, "columns" if variant == "columns" else "output-major")
    if variant == "columns":
        raise NotApplicable("samples are taken as columns only where a batch holds all of them")
    return train_batches(task)


def parameters(task, layout):
    """Return new arrays of the first weights: donated ones are used up."""
    pairs = zip(task.weights, task.biases, strict=True)
    return [
        (jnp.array(W.T if layout == "input-major" else W), jnp.array(b, copy=True))
        for W, b in pairs
    ]


def learner(task, layout):
    """Return one step of SGD; without biases they stay at zero."""
    slope, work = jax.value_and_grad(mean_loss(task, layout)), task.work

    def step(held, x, y):
        loss, grads = slope(held, x, y)
        return [
            (W - work.learning_rate * dW, b - work.learning_rate * db if work.bias else b)
            for (W, b), (dW, db) in zip(held, grads, strict=True)
        ], loss

    return step


def train_batches(task):
    """One jitted call an epoch: a scan over the batches, and a last, smaller batch."""
    work, n = task.work, len(task.X)
    layout = "input-major" if work.batch == 1 else "output-major"
    step, whole = learner(task, layout), n // work.batch * work.batch
    X, y, rng = jnp.array(task.X), jnp.array(task.targets), np.random.default_rng(0)

    def epoch(held, X, y, order):
        def body(held, few):
            return step(held, X[few], y[few])

        rows = (
            order[:whole].reshape(-1) if work.batch == 1 else order[:whole].reshape(-1, work.batch)
        )
        held, losses = jax.lax.scan(body, held, rows, unroll=UNROLL)
        total = losses.sum() * work.batch
        if whole < n:
            held, loss = body(held, order[whole:])
            total += loss * (n - whole)
        return held, total / n

    epoch = jax.jit(epoch, donate_argnums=0)
    state = {}

    def reset():
        state["held"] = jax.block_until_ready(parameters(task, layout))

    def run(epochs):
        held, losses = state["held"], []
        for _ in range(epochs):
            held, loss = epoch(held, X, y, rng.permutation(n).astype(np.int32))
            losses.append(loss)
        state["held"] = jax.block_until_ready(held)
        return Done(float(losses[0]))

    return Job(run, reset, n)


def samples(task, layout):
    """Return all samples and their targets, as columns or rows."""
    pair = task.X, task.targets
    return [jnp.array(values.T if layout == "columns" else values) for values in pair]


def train_full(task, layout):
    """Many steps on all samples in one jitted call."""
    step, n = learner(task, layout), len(task.X)
    X, y = samples(task, layout)

    def steps(held, X, y, count):
        def body(_, carried):
            held, _ = carried
            return step(held, X, y)

        return jax.lax.fori_loop(0, count, body, (held, jnp.zeros((), X.dtype)))

    steps = jax.jit(steps, donate_argnums=0)
    state = {}

    def reset():
        state["held"] = jax.block_until_ready(parameters(task, layout))

    def run(epochs):
        held, loss = steps(state["held"], X, y, 1)
        if epochs > 1:
            held, _ = steps(held, X, y, epochs - 1)
        state["held"] = jax.block_until_ready(held)
        return Done(float(loss))

    return Job(run, reset, n)


def gradient(task, layout):
    """Calls of the jitted gradient; the arrays are on the device."""
    slope = jax.jit(jax.value_and_grad(mean_loss(task, layout)))
    held, (X, y) = parameters(task, layout), samples(task, layout)

    def run(calls):
        for _ in range(calls):
            grads = jax.block_until_ready(slope(held, X, y))[1]
        return Done(float(np.sqrt(sum(jnp.vdot(g, g) for pair in grads for g in pair))))

    return Job(run)


def predict(task):
    """Calls of the jitted network; outputs come back as NumPy arrays."""
    forward, held = layers(task, "output-major"), parameters(task, "output-major")
    finish = jax.nn.softmax if task.work.output == "softmax" else lambda z: z
    call = jax.jit(lambda x: finish(forward(held, x)))  # weights as constants
    rows = [task.X] if task.work.samples > 1 else list(task.X)
    rows = [jnp.array(row) for row in rows]

    def run(calls):
        for i in range(calls):
            np.asarray(call(rows[i % len(rows)]))
        return Done(float(np.linalg.norm(np.asarray(call(rows[0])))))

    return Job(run)
