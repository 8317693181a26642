"""Where reference and kernels meet: the same operations on logical arrays, from either.

`get_backend("numba")` or `get_backend("numpy")` offers

- every operation of one layer as a function that takes logical arrays and returns new ones, and
- an engine for a whole network: feedforward, evaluate, gradient, and a trainer whose calls each
  run a stretch of an epoch.

Storage, padding and scratch are settled here, once; nothing above knows of them.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import NamedTuple

import numpy as np

from . import kernels, reference
from .storage import Layout, aligned, stride

ELEMENTWISE = tuple(
    name + suffix
    for name in ("sigmoid", "tanh", "relu", "identity")
    for suffix in ("", "_prime", "_prime_from_a")
)
# A batch that fits the scratch is learnt in one fused step. Half a megabyte stays in the second
# level cache of any CPU of the last ten years; below 128 samples the tiles would starve.
SCRATCH_BYTES = 2**19
FEWEST_CHUNK, MOST_CHUNK = 128, 1024
# A team costs three barriers a batch; each thread wants at least this many weights x samples.
WORK_PER_THREAD = 2**17
DENSITY_SAMPLE = 512  # rows looked at to choose a path


class Targets(NamedTuple):
    """What is to be learnt: class labels, or rows of values; the other of the two is empty."""

    labels: np.ndarray  # (n,) int64
    values: np.ndarray  # (n, n_out)

    def rows(self, indices, n_out):
        """Return the targets of these samples as rows, one-hot where there are labels."""
        if not self.labels.size:
            return self.values[indices]
        return np.eye(n_out, dtype=self.values.dtype)[self.labels[indices]]


# -- operations of one layer -----------------------------------------------------------------------


def _padded(x, dtype, width=None):
    """Return the rows of x in storage rows."""
    x = np.atleast_2d(x)
    out = np.zeros((len(x), width or stride(x.shape[1], dtype)), dtype)
    out[:, : x.shape[1]] = x
    return out


class NumpyBackend:
    """Operations on the reference."""

    name = "numpy"

    def __getattr__(self, name):
        if name not in ELEMENTWISE:
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

    def output_delta(self, loss, activation, z, y):
        """Return output, delta and losses of the last layer."""
        a, delta, losses = np.empty_like(z), np.empty_like(z), np.empty(len(z))
        reference.output_delta(loss, activation, z, y, a, delta, losses)
        return a, delta, losses

    def engine(self, model, layout):
        """Return what computes a whole network."""
        return NumpyEngine(model, layout)


class NumbaBackend:
    """Operations on the kernels."""

    name = "numba"

    def __getattr__(self, name):
        if name not in ELEMENTWISE:
            raise AttributeError(name)
        return partial(self._map, getattr(kernels, name))

    def _map(self, kernel, z):
        z = np.ascontiguousarray(z)
        out = np.empty_like(z)
        kernel(_read_only(z).reshape(-1), out.reshape(-1))
        return out

    def softmax(self, z):
        """Return softmax of each row."""
        z = np.ascontiguousarray(z)
        out = np.empty_like(z)
        kernels.softmax(_read_only(z), out)
        return out

    def affine(self, x, W, b):
        """Return x W^T + b."""
        storage = _padded(W.T, W.dtype)
        out = np.empty((len(x), storage.shape[1]), W.dtype)
        bias = _padded(b, W.dtype)[0]
        kernels.affine(_read_only(np.ascontiguousarray(x)), storage, bias, out)
        return out[:, : len(W)].copy()

    def backprop_delta(self, W_next, delta_next, a, activation):
        """Return the delta of the layer below."""
        dtype = W_next.dtype
        storage, deltas = _padded(W_next.T, dtype), _padded(delta_next, dtype)
        below = _padded(a, dtype)
        out = np.empty_like(below)
        scratch = aligned(storage.shape[1] * below.shape[1], dtype)
        code = kernels.ACTIVATION_CODES[activation]
        kernels.backprop_delta(storage, deltas, below, code, out, scratch)
        return out[:, : a.shape[1]].copy()

    def weight_gradient(self, a_prev, delta):
        """Return delta^T a_prev / batch."""
        deltas = _padded(delta, delta.dtype)
        dW = np.empty((a_prev.shape[1], deltas.shape[1]), delta.dtype)
        kernels.weight_gradient(_read_only(np.ascontiguousarray(a_prev)), deltas, dW)
        return dW[:, : delta.shape[1]].T.copy()

    def bias_gradient(self, delta):
        """Return the mean of delta over the batch."""
        db = np.empty(delta.shape[1], delta.dtype)
        kernels.bias_gradient(_read_only(np.ascontiguousarray(delta)), db)
        return db

    def _update(self, kernel, W, b, a_prev, delta, learning_rate):
        storage, bias = _padded(W.T, W.dtype), _padded(b, W.dtype)[0]
        kernel(storage, bias, a_prev, delta, W.dtype.type(learning_rate))
        W[...], b[...] = storage[:, : len(W)].T, bias[: len(W)]

    def outer_update(self, W, b, a_prev, delta, learning_rate):
        """Learn from one sample, in place."""
        a_prev = _read_only(np.ascontiguousarray(a_prev))
        self._update(kernels.outer_update, W, b, a_prev, _padded(delta, W.dtype)[0], learning_rate)

    def batch_update(self, W, b, a_prev, delta, learning_rate):
        """Learn from the mean over a batch, in place."""
        a_prev = _read_only(np.ascontiguousarray(a_prev))
        self._update(kernels.batch_update, W, b, a_prev, _padded(delta, W.dtype), learning_rate)

    def output_delta(self, loss, activation, z, y):
        """Return output, delta and losses of the last layer."""
        z, y = np.ascontiguousarray(z), np.ascontiguousarray(y)
        a, delta, losses = np.empty_like(z), np.empty_like(z), np.empty(len(z))
        kernels.output_delta(
            kernels.LOSS_CODES[loss], kernels.ACTIVATION_CODES[activation],
            _read_only(z), _read_only(y), a, delta, losses,
        )  # fmt: skip
        return a, delta, losses

    def engine(self, model, layout):
        """Return what computes a whole network."""
        return NumbaEngine(model, layout)


def _read_only(array):
    """Return a read-only view: kernels then see one type for all inputs, memory maps included."""
    view = array.view(np.ndarray)
    view.flags.writeable = False
    return view


_BACKENDS = {"numba": NumbaBackend, "numpy": NumpyBackend}


@cache
def get_backend(name):
    """Return the backend of this name, "numba" or "numpy".

    Raises
    ------
    ValueError
        If there is no such backend.

    Examples
    --------
    >>> import numpy as np
    >>> get_backend("numba").sigmoid(np.zeros(2))
    array([0.5, 0.5])
    """
    if name not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(_BACKENDS)}; found {name!r}")
    return _BACKENDS[name]()


def warmup(dtypes=("float32", "float64")):
    """Compile the kernels of training and prediction, or load them from the cache.

    Parameters
    ----------
    dtypes : sequence of str

    Examples
    --------
    >>> warmup(["float32"])
    """
    model = reference.Model((2, 2, 2), ("sigmoid", "sigmoid"), "quadratic", True, 1.0)
    for dtype in dtypes:
        layout = Layout(model.sizes, dtype)
        engine, params = get_backend("numba").engine(model, layout), layout.zeros()
        targets = Targets(np.zeros(2, np.int64), np.empty((0, 2), dtype))
        for X in (np.zeros((2, 2), dtype), np.zeros((2, 2), np.uint8)):
            engine.feedforward(params, X)
            engine.evaluate(params, X, targets)
            engine.gradient(params, X, targets)
            for path in ("dense", "sparse"):
                with engine.trainer(params, X, targets, 1, path=path) as trainer:
                    trainer.run(np.arange(2), 0, 2, 0.1)


def compiled():
    """Return whether the kernels that train are in this machine's cache."""
    folder = kernels.cache_dir()
    return folder is not None and any(folder.glob("sgd.sgd_epoch-*.nbc"))


# -- whole networks on the reference ---------------------------------------------------------------


class NumpyEngine:
    """A network on the reference."""

    def __init__(self, model, layout):
        self.model, self.layout = model, layout

    def feedforward(self, params, X):
        """Return the outputs of rows X, or None if an input is not finite."""
        if not np.isfinite(X).all():
            return None
        out = np.empty((len(X), self.model.sizes[-1]), self.layout.dtype)
        reference.feedforward(self.model, *self.layout.views(params), X, out)
        return out

    def evaluate(self, params, X, targets):
        """Return the sum of the losses and the count of right classes."""
        y = targets.rows(slice(None), self.model.sizes[-1])
        losses, outputs = reference.evaluate(self.model, *self.layout.views(params), X, y)
        return losses.sum(), _hits(outputs, targets, slice(None))

    def gradient(self, params, X, targets):
        """Return the gradient of the mean loss in a buffer like `params`, and that loss."""
        grads = self.layout.zeros()
        y = targets.rows(slice(None), self.model.sizes[-1])
        losses = reference.gradient(
            self.model, *self.layout.views(params), X, y, *self.layout.views(grads)
        )
        return grads, losses.mean()

    def trainer(self, params, X, targets, batch_size, threads=1):
        """Return a trainer of `params`."""
        return NumpyTrainer(self, params, X, targets, batch_size)


def _hits(outputs, targets, indices):
    if not targets.labels.size:
        return 0
    return int((outputs.argmax(axis=1) == targets.labels[indices]).sum())


class NumpyTrainer:
    """Runs stretches of epochs on the reference. Both trainers have the same face.

    `totals` holds the sum of losses and the hits since it was last reset; `stopped` is true once a
    batch was refused because its loss is not finite.
    """

    def __init__(self, engine, params, X, targets, batch_size):
        self.engine, self.params, self.X, self.targets = engine, params, X, targets
        self.batch_size = batch_size
        self.totals = np.zeros(2)
        self.stopped = False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def run(self, order, first, last, learning_rate):
        """Train on the batches that start at first <= position < last of the order."""
        n_out = self.engine.model.sizes[-1]
        batches = -(-(min(len(order), last) - first) // self.batch_size)
        steps = reference.sgd_epoch(
            self.engine.model, *self.engine.layout.views(self.params), self.X,
            lambda batch: self.targets.rows(batch, n_out),
            order[first : first + batches * self.batch_size], self.batch_size, learning_rate,
        )  # fmt: skip
        with np.errstate(over="ignore", invalid="ignore"):  # the fit loop reports divergence
            for batch, losses, outputs in steps:
                if not np.isfinite(losses.sum()):
                    self.stopped = True
                else:
                    self.totals += losses.sum(), _hits(outputs, self.targets, batch)


# -- whole networks on the kernels -----------------------------------------------------------------


def available_cores():
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def team_size(threads, weights, batch_size):
    """Return how many of the threads asked for take part; the result has the same bits anyway."""
    blocks = -(-batch_size // kernels.BLOCK)
    worth = weights * batch_size // WORK_PER_THREAD
    return max(1, min(threads, available_cores(), blocks, worth))


def choose_path(X, batch_size):
    """Return "sparse" where skipping the zeros of X costs less than multiplying by them."""
    sample = X[:: max(1, len(X) // DENSITY_SAMPLE)][:DENSITY_SAMPLE]
    density = np.count_nonzero(sample) / sample.size
    return "sparse" if density < (0.7 if batch_size == 1 else 0.3) else "dense"


def _sparse_input(X, scale, dtype, chunk):
    start = np.empty(len(X) + 1, np.int64)
    kernels.count_rows(_read_only(X), start)
    small = max(X.shape[1], chunk) <= np.iinfo(np.uint16).max
    index = np.empty(start[-1], np.uint16 if small else np.uint32)
    value = np.empty(start[-1], dtype)
    kernels.index_rows(_read_only(X), scale, start, index, value)
    return kernels.Sparse(start, index, value)


class NumbaEngine:
    """A network on the kernels."""

    def __init__(self, model, layout):
        self.model, self.layout = model, layout
        self.dtype = layout.dtype

    def _plan(self, chunk):
        """Return the plan for a scratch of `chunk` samples, and the scratch's size."""
        layout, model = self.layout, self.model
        lanes = kernels.vector_bytes() // self.dtype.itemsize
        widths = [-(-n // lanes) * lanes for n in layout.sizes]
        place = layout.strides[0]  # its first element holds 1.0
        places = {"a": [], "delta": [], "flipped": []}
        for l, row in enumerate(layout.strides):
            # Only above the first layer does a delta go down through transposed weights.
            flipped = widths[l] * layout.strides[l - 1] if l > 1 else 0
            for name, size in (("a", chunk * row), ("delta", chunk * row), ("flipped", flipped)):
                places[name].append(place)
                place += size
        codes = [0, *(kernels.ACTIVATION_CODES[name] for name in model.activations)]
        arrays = [layout.sizes, layout.strides, widths, layout.w, layout.b, *places.values(), codes]
        plan = kernels.Plan(
            *(np.array(x, np.int64) for x in arrays),
            loss=kernels.LOSS_CODES[model.loss], bias=model.bias, chunk=chunk,
            scale=self.dtype.type(model.scale),
        )  # fmt: skip
        return plan, place

    def _chunk(self, batch_size):
        """Return how many samples the scratch should hold."""
        row = 2 * sum(self.layout.strides) * self.dtype.itemsize
        chunk = min(max(SCRATCH_BYTES // row, FEWEST_CHUNK), MOST_CHUNK)
        chunk -= chunk % kernels.BLOCK
        return min(chunk, batch_size)

    def _work(self, plan, size, grads=None, data=None, team=1):
        inputs, entries, small = 0, 0, np.uint16
        if isinstance(data, kernels.Sparse):
            inputs, small = self.model.sizes[0], data.position.dtype
            entries = int(np.diff(data.start).max(initial=0)) * plan.chunk
        scratch = aligned(size, self.dtype)
        scratch[0] = 1
        return kernels.Work(
            scratch,
            aligned(0, self.dtype) if grads is None else grads,
            losses=np.empty(plan.chunk), hits=np.empty(plan.chunk, np.int64),
            sync=np.zeros(kernels.SYNC_SIZE, np.int64), totals=np.zeros(2),
            ends=np.empty(inputs, np.int64),
            samples=np.empty(entries, small),
            values=np.empty(entries, self.dtype),
        )  # fmt: skip

    def _rows(self, X):
        """Return X as kernels take it: contiguous, uint8 or the network's dtype."""
        if X.dtype != np.uint8:
            X = X.astype(self.dtype, copy=False)
        return _read_only(np.ascontiguousarray(X))

    def _targets(self, targets):
        return kernels.Targets(
            _read_only(np.ascontiguousarray(targets.labels, np.int64)),
            _read_only(np.ascontiguousarray(targets.values, self.dtype)),
        )

    def feedforward(self, params, X):
        """Return the outputs of rows X, or None if an input is not finite."""
        plan, size = self._plan(self._chunk(len(X)))
        out = np.empty((len(X), self.model.sizes[-1]), self.dtype)
        data, order = kernels.Dense(self._rows(X)), np.arange(len(X))
        finite = kernels.feedforward(plan, params, data, order, self._work(plan, size), out)
        return out if finite else None

    def evaluate(self, params, X, targets):
        """Return the sum of the losses and the count of right classes."""
        plan, size = self._plan(self._chunk(len(X)))
        work = self._work(plan, size)
        data, order = kernels.Dense(self._rows(X)), np.arange(len(X))
        kernels.evaluate(plan, params, data, self._targets(targets), order, work)
        return work.totals[0], int(work.totals[1])

    def gradient(self, params, X, targets):
        """Return the gradient of the mean loss in a buffer like `params`, and that loss."""
        plan, size = self._plan(self._chunk(len(X)))
        work = self._work(plan, size, grads=self.layout.zeros())
        data, order = kernels.Dense(self._rows(X)), np.arange(len(X))
        kernels.gradient(plan, params, data, self._targets(targets), order, work)
        return work.grads, work.totals[0] / len(X)

    def trainer(self, params, X, targets, batch_size, threads=1, path=None):
        """Return a trainer of `params`; `path` forces "dense" or "sparse"."""
        return NumbaTrainer(self, params, X, targets, batch_size, threads, path)


class NumbaTrainer:
    """Runs stretches of epochs on the kernels, on a team of threads."""

    def __init__(self, engine, params, X, targets, batch_size, threads, path):
        chunk = engine._chunk(batch_size)
        self.plan, size = engine._plan(chunk)
        X = engine._rows(X)
        if (path or choose_path(X, batch_size)) == "sparse":
            self.data = _sparse_input(X, self.plan.scale, engine.dtype, chunk)
        else:
            self.data = kernels.Dense(X)
        self.params, self.batch_size = params, batch_size
        self.targets = engine._targets(targets)
        self.team = team_size(threads, engine.layout.size, batch_size)
        grads = engine.layout.zeros() if batch_size > chunk else None
        self.work = engine._work(self.plan, size, grads, self.data)
        self.totals = self.work.totals
        self._pool = ThreadPoolExecutor(self.team + 1) if self.team > 1 else None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._pool:
            self._pool.shutdown()

    @property
    def stopped(self):
        """Whether a batch was refused because its loss is not finite."""
        return bool(self.work.sync[kernels.STOPPED])

    @stopped.setter
    def stopped(self, value):
        self.work.sync[kernels.STOPPED] = value

    def run(self, order, first, last, learning_rate):
        """Train on the batches that start at first <= position < last of the order."""
        rate = self.params.dtype.type(learning_rate)
        span = kernels.Span(first, min(len(order), last), self.batch_size, rate)
        if self._pool is None:
            self._run_thread(order, span, 0)
        else:
            _uninterrupted(self._pool.submit(self._run_team, order, span))

    def _run_team(self, order, span):
        others = [
            self._pool.submit(self._run_thread, order, span, thread)
            for thread in range(1, self.team)
        ]
        self._run_thread(order, span, 0)
        for other in others:
            other.result()

    def _run_thread(self, order, span, thread):
        kernels.sgd_epoch(
            self.plan, self.params, self.data, self.targets, order, span, self.work,
            kernels.Team(thread, self.team),
        )  # fmt: skip


def _uninterrupted(future):
    """Wait for a stretch that is under way; an interrupt is raised when all its threads are done.

    Only the main thread is interrupted, and it is no member of the team: none waits at a barrier
    for one that has left.
    """
    interrupt = None
    while not future.done():
        try:
            future.result()
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt:
        raise interrupt
    future.result()
