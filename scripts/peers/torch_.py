"""PyTorch, eager and compiled, by hand-written steps under `no_grad`.

Tried for eager, in samples/s of `online`, `nielsen` and `twolayer`: autograd with the optimiser,
fused or not (7 k, 60 k, 258 k); `autograd.grad` with a foreach update (10 k, 81 k, 297 k); the
gradient by hand, new arrays for results (31 k, 194 k, 359 k); by hand with samples as columns, a
row of ones for the biases and `out=` (42 k, 205 k, 365 k), which is what stands here.

Tried for compiled: autograd around a compiled loss (8 k, 58 k, 243 k); one compiled step by hand
(29 k, 154 k, 342 k), with the C++ wrapper (33 k, 172 k, 358 k); many steps in one compiled call, 20
of them (118 k, 303 k, 386 k) or 50 (136 k, 337 k, 374 k). Columns are quicker only for a full batch
(surrogate 1.4 ms rather than 1.7; eager 1.9 ms rather than 2.9).
"""

import numpy as np
import torch

from . import Done, Job

# Of one compiled call: more steps take minutes to compile; long ones gain nothing from company.
MOST_STEPS, MOST_FLOPS = 50, 2e8
OPTIONS = {"cpp_wrapper": True}
aten = torch.ops.aten
# In place: the activation; and the product of what comes from above with its derivative.
ACTIVATIONS = {
    "sigmoid": (torch.sigmoid_, lambda d, a: aten.sigmoid_backward.grad_input(d, a, grad_input=d)),
    "tanh": (torch.tanh_, lambda d, a: aten.tanh_backward.grad_input(d, a, grad_input=d)),
    "relu": (torch.relu_, lambda d, a: aten.threshold_backward.grad_input(d, a, 0, grad_input=d)),
    "identity": (lambda z: z, lambda d, a: d),
}
# The same as formulas, for the compiler.
FORMULAS = {
    "sigmoid": (torch.sigmoid, lambda a: a * (1 - a)),
    "tanh": (torch.tanh, lambda a: 1 - a * a),
    "relu": (torch.relu, lambda a: (a > 0).to(a.dtype)),
    "identity": (lambda z: z, lambda a: 1.0),
}


def build(task, variant):
    torch.set_num_threads(task.threads)
    torch.set_grad_enabled(False)
    return MAKERS[task.work.kind, variant](task)


# -- eager -----------------------------------------------------------------------------------------


class Net:
    """Weights (n_out, n_in + 1), biases last, and the arrays of one size of batch."""

    def __init__(self, task, batch, weights=None):
        work = self.work = task.work
        self.activate, self.times_slope = ACTIVATIONS[work.activation]
        pairs = zip(task.weights, task.biases, strict=True)
        self.W = weights or [
            torch.from_numpy(np.column_stack([W, b]) if work.bias else W.copy()) for W, b in pairs
        ]
        self.plain = [W[:, :n].t() for W, n in zip(self.W, work.sizes, strict=False)]
        self.dW = [torch.empty_like(W) for W in self.W]
        dtype = self.W[0].dtype
        self.a = [torch.ones(W.shape[1], batch, dtype=dtype) for W in self.W[1:]]
        self.z = [a[:n] for a, n in zip(self.a, work.sizes[1:], strict=False)]
        self.z.append(torch.empty(work.sizes[-1], batch, dtype=dtype))
        self.delta = [torch.empty(z.shape, dtype=dtype) for z in self.z]

    def forward(self, x):
        for W, z, a in zip(self.W[:-1], self.z, self.a, strict=False):
            torch.mm(W, x, out=z)
            self.activate(z)
            x = a
        return torch.mm(self.W[-1], x, out=self.z[-1])

    def finish(self, z):
        """Apply the output's activation in place."""
        if self.work.output == "softmax":
            return torch.softmax(z, 0, out=z)
        return ACTIVATIONS[self.work.output][0](z)

    def loss_and_delta(self, y, total):
        """Add the loss summed over the batch to `total`; leave the last delta."""
        z, delta = self.z[-1], self.delta[-1]
        if self.work.loss == "quadratic":
            self.finish(z)
            torch.sub(z, y, out=delta)
            flat = delta.view(-1)
            total.add_(torch.dot(flat, flat), alpha=0.5)
            ACTIVATIONS[self.work.output][1](delta, z)
        else:
            logarithm = torch.log_softmax(z, 0)
            total.sub_(torch.mul(logarithm, y, out=delta).sum())
            torch.exp(logarithm, out=delta).sub_(y)

    def backward(self, x, y, total):
        """Yield layer and input, the last layer first, when its delta is there."""
        self.loss_and_delta(y, total)
        for l in reversed(range(len(self.W))):
            if l:
                torch.mm(self.plain[l], self.delta[l], out=self.delta[l - 1])
                self.times_slope(self.delta[l - 1], self.z[l - 1])
            yield l, self.a[l - 1] if l else x

    def step(self, x, y, rate, total):
        self.forward(x)
        for l, below in self.backward(x, y, total):
            self.W[l].addmm_(self.delta[l], below.t(), alpha=-rate / x.shape[1])


def with_ones(task):
    """Return the samples as rows, each with the 1 that carries the biases."""
    X = torch.from_numpy(task.X)
    return torch.hstack([X, torch.ones(len(X), 1, dtype=X.dtype)]) if task.work.bias else X


def epochs_job(n, epoch, weights):
    """Return the job of `epoch(total)`, which adds the losses of all samples to `total`."""
    first = [W.clone() for W in weights]

    def run(epochs):
        # One element rather than none: the compiler takes a float64 without axes for a constant.
        totals = [torch.zeros(1, dtype=first[0].dtype) for _ in range(epochs)]
        for total in totals:
            epoch(total)
        return Done(float(totals[0]) / n)

    def reset():
        for W, values in zip(weights, first, strict=True):
            W.copy_(values)

    return Job(run, reset, n)


def train(task):
    X, y, work, n = with_ones(task), torch.from_numpy(task.targets), task.work, len(task.X)
    size, rate, rng = min(work.batch, n), work.learning_rate, np.random.default_rng(0)
    net = Net(task, size)
    rest = Net(task, n % size, net.W) if n % size else None
    rows, wanted = torch.empty(size, X.shape[1], dtype=X.dtype), torch.empty_like(y[:size])
    columns, results = X.t().contiguous(), y.t().contiguous()

    def epoch(total):
        if not task.shuffle:
            net.step(columns, results, rate, total)
        elif size == 1:
            for i in rng.permutation(n).tolist():
                net.step(X[i : i + 1].t(), y[i : i + 1].t(), rate, total)
        else:
            for few in torch.from_numpy(rng.permutation(n)).split(size):
                x = torch.index_select(X, 0, few, out=rows[: len(few)])
                t = torch.index_select(y, 0, few, out=wanted[: len(few)])
                (net if len(few) == size else rest).step(x.t(), t.t(), rate, total)

    return epochs_job(n, epoch, net.W)


def gradient(task):
    net, x = Net(task, len(task.X)), with_ones(task).t().contiguous()
    y = torch.from_numpy(task.targets).t().contiguous()
    total = torch.zeros(1, dtype=x.dtype)

    def run(calls):
        for _ in range(calls):
            net.forward(x)
            for l, below in net.backward(x, y, total):
                torch.mm(net.delta[l], below.t(), out=net.dW[l]).div_(len(task.X))
        return Done(norm(net.dW))

    return Job(run)


def norm(arrays):
    return float(sum(torch.vdot(g.reshape(-1), g.reshape(-1)) for g in arrays)) ** 0.5


def calls_job(task, call, rows):
    """Return the job of `call` on one of the rows after another."""

    def run(calls):
        with torch.inference_mode():
            for i in range(calls):
                call(rows[i % len(rows)])
            return Done(norm([call(rows[0])]))

    return Job(run)


def predict(task):
    X = with_ones(task)
    rows = [X.t()] if task.work.samples > 1 else [X[i : i + 1].t() for i in range(len(X))]
    net = Net(task, rows[0].shape[1])
    return calls_job(task, lambda x: net.finish(net.forward(x)), rows)


# -- compiled --------------------------------------------------------------------------------------


def outputs(work, W, b, x, columns):
    """Return all layers' activations, samples as rows or as columns; the last without softmax."""
    activations = [x]
    for l in range(len(W)):
        z = W[l] @ activations[-1] if columns else activations[-1] @ W[l].t()
        if work.bias:
            z = z + (b[l][:, None] if columns else b[l])
        name = work.activation if l < len(W) - 1 else work.output
        activations.append(FORMULAS[name][0](z) if name != "softmax" else z)
    return activations


def gradients(work, W, b, x, y, columns):
    """Return the loss summed over the batch, and its gradient in weights and biases."""
    a = outputs(work, W, b, x, columns)
    if work.loss == "quadratic":
        delta = a[-1] - y
        loss = 0.5 * (delta * delta).sum()
        delta = delta * FORMULAS[work.output][1](a[-1])
    else:
        logarithm = torch.log_softmax(a[-1], 0 if columns else 1)
        loss, delta = -(logarithm * y).sum(), logarithm.exp() - y
    dW, db = [None] * len(W), [None] * len(W)
    for l in reversed(range(len(W))):
        if columns:
            dW[l], db[l] = delta @ a[l].t(), delta.sum(1)
        elif len(x) == 1:  # an outer product, which then is one loop with the update
            dW[l], db[l] = delta.view(-1, 1) * a[l], delta[0]
        else:
            dW[l], db[l] = delta.t() @ a[l], delta.sum(0)
        if l:
            delta = W[l].t() @ delta if columns else delta @ W[l]
            delta = delta * FORMULAS[work.activation][1](a[l])
    return loss, dW, db


def update(work, W, b, x, y, total, columns):
    """Take one step in place."""
    loss, dW, db = gradients(work, W, b, x, y, columns)
    scale = work.learning_rate / x.shape[1 if columns else 0]
    total.add_(loss)
    for l in range(len(W)):
        W[l].sub_(scale * dW[l])
        if work.bias:
            b[l].sub_(scale * db[l])


def arrays(task):
    return [[torch.from_numpy(p.copy()) for p in parts] for parts in (task.weights, task.biases)]


def compiled(function):
    return torch.compile(function, options=OPTIONS, dynamic=False)


def train_compiled(task):
    work, n, (W, b) = task.work, len(task.X), arrays(task)
    X, y, rng = torch.from_numpy(task.X), torch.from_numpy(task.targets), np.random.default_rng(0)
    columns, results = X.t().contiguous(), y.t().contiguous()
    at_once = work.batch * max(1, min(MOST_STEPS, int(MOST_FLOPS / work.flops / work.batch)))

    def steps(W, b, X, y, order, total):
        for few in order.split(work.batch):
            update(work, W, b, X[few], y[few], total, columns=False)

    def full(W, b, x, y, total):
        update(work, W, b, x, y, total, columns=True)

    steps, full = compiled(steps), compiled(full)

    def epoch(total):
        if not task.shuffle:
            full(W, b, columns, results, total)
            return
        for part in torch.from_numpy(rng.permutation(n)).split(at_once):
            steps(W, b, X, y, part, total)  # a last, smaller part is compiled on its own

    return epochs_job(n, epoch, W + b)


def gradient_compiled(task):
    work, (W, b) = task.work, arrays(task)
    x, y = (torch.from_numpy(a).t().contiguous() for a in (task.X, task.targets))

    def mean(W, b, x, y):
        loss, dW, db = gradients(work, W, b, x, y, columns=True)
        return loss / x.shape[1], [g / x.shape[1] for g in dW + db]

    call = compiled(mean)

    def run(calls):
        for _ in range(calls):
            _, grads = call(W, b, x, y)
        return Done(norm(grads))

    return Job(run)


def predict_compiled(task):
    work, (W, b) = task.work, arrays(task)

    def forward(x):
        out = outputs(work, W, b, x, columns=False)[-1]
        return torch.softmax(out, 1) if work.output == "softmax" else out

    X = torch.from_numpy(task.X)
    rows = [X] if work.samples > 1 else list(X.split(1))
    return calls_job(task, compiled(forward), rows)


MAKERS = {
    ("train", "eager"): train,
    ("train", "compiled"): train_compiled,
    ("gradient", "eager"): gradient,
    ("gradient", "compiled"): gradient_compiled,
    ("predict", "eager"): predict,
    ("predict", "compiled"): predict_compiled,
}
