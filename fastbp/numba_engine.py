"""The kernels behind the face that both backends share: operations, and whole networks.

Logical arrays in, new arrays out. Storage, padding, scratch, the choice of path and the team of
threads are settled here, once; nothing above knows of them.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from . import kernels
from .storage import aligned, stride

# A batch that fits the scratch is learnt in one fused step. Half a megabyte stays in the second
# level cache of any CPU of the last ten years; below 128 samples the tiles would starve.
SCRATCH_BYTES = 2**19
FEWEST_CHUNK, MOST_CHUNK = 128, 1024
# A team costs three barriers a batch; each thread wants at least this many weights x samples.
WORK_PER_THREAD = 2**17
# Zero-skipping input: the weights of one block of inputs and one panel of columns, in bytes: about
# a first level cache. Smaller blocks pay for their loops, larger ones go to the second level.
BLOCK_BYTES = 48 * 2**10
DENSITY_SAMPLE = 512  # rows looked at to choose a path


def _padded(x, dtype, width=None):
    """Return the rows of x in storage rows."""
    x = np.atleast_2d(x)
    out = np.zeros((len(x), width or stride(x.shape[1], dtype)), dtype)
    out[:, : x.shape[1]] = x
    return out


class NumbaBackend:
    """Operations on the kernels."""

    name = "numba"

    def __getattr__(self, name):
        if name not in kernels.ELEMENTWISE:
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


# -- whole networks --------------------------------------------------------------------------------


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


def _sparse_input(X, plan, dtype):
    """Return X as compressed rows, cut into the plan's blocks."""
    start = np.empty(len(X) * plan.blocks + 1, np.int64)
    kernels.count_rows(X, plan.blocks, start)
    small = X.shape[1] <= np.iinfo(np.uint16).max
    position = np.empty(start[-1], np.uint16 if small else np.uint32)
    value = np.empty(start[-1], dtype)
    kernels.index_rows(X, plan.scale, position, value)
    return kernels.Sparse(start, position, value)


class NumbaEngine:
    """A network on the kernels."""

    def __init__(self, model, layout):
        self.model, self.layout = model, layout
        self.dtype = layout.dtype

    def _plan(self, batch_size):
        """Return the plan for batches of this size, and the size of the scratch."""
        chunk = self._chunk(batch_size)
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
        blocks, panel = self._blocks(batch_size, lanes)
        codes = [0, *(kernels.ACTIVATION_CODES[name] for name in model.activations)]
        arrays = [layout.sizes, layout.strides, widths, layout.w, layout.b, *places.values(), codes]
        plan = kernels.Plan(
            *(np.array(x, np.int64) for x in arrays),
            last=len(layout.sizes) - 1,
            loss=kernels.LOSS_CODES[model.loss], bias=model.bias, chunk=chunk,
            blocks=blocks, panel=panel, scale=self.dtype.type(model.scale),
        )  # fmt: skip
        return plan, place

    def _blocks(self, batch_size, lanes):
        """Return into how many blocks of inputs zero-skipping rows are cut, and panels' width."""
        n_in, n_out = self.layout.sizes[:2]
        panel = kernels.SPARSE_COLUMNS * lanes
        if batch_size == 1:
            return 1, panel
        block = max(1, BLOCK_BYTES // (min(panel, n_out) * self.dtype.itemsize))
        return -(-n_in // block), panel

    def _chunk(self, batch_size):
        """Return how many samples the scratch should hold."""
        row = 2 * sum(self.layout.strides) * self.dtype.itemsize
        chunk = min(max(SCRATCH_BYTES // row, FEWEST_CHUNK), MOST_CHUNK)
        chunk -= chunk % kernels.BLOCK
        return min(chunk, batch_size)

    def _work(self, plan, size, grads=None):
        scratch = aligned(size, self.dtype)
        scratch[0] = 1
        return kernels.Work(
            scratch,
            aligned(0, self.dtype) if grads is None else grads,
            losses=np.empty(plan.chunk), hits=np.empty(plan.chunk, np.int64),
            sync=np.zeros(kernels.SYNC_SIZE, np.int64), totals=np.zeros(2),
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
            bool(targets.labels.size),
        )

    def feedforward(self, params, X):
        """Return the outputs of rows X, or None if an input is not finite."""
        plan, size = self._plan(len(X))
        out = np.empty((len(X), self.model.sizes[-1]), self.dtype)
        data, order = kernels.Dense(self._rows(X)), np.arange(len(X))
        finite = kernels.feedforward(plan, params, data, order, self._work(plan, size), out)
        return out if finite else None

    def evaluate(self, params, X, targets):
        """Return the sum of the losses and the count of right classes."""
        plan, size = self._plan(len(X))
        work = self._work(plan, size)
        data, order = kernels.Dense(self._rows(X)), np.arange(len(X))
        kernels.evaluate(plan, params, data, self._targets(targets), order, work)
        return work.totals[0], int(work.totals[1])

    def gradient(self, params, X, targets):
        """Return the gradient of the mean loss in a buffer like `params`, and that loss."""
        plan, size = self._plan(len(X))
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
        self.plan, size = engine._plan(batch_size)
        X = engine._rows(X)
        if (path or choose_path(X, batch_size)) == "sparse":
            self.data = _sparse_input(X, self.plan, engine.dtype)
        else:
            self.data = kernels.Dense(X)
        self.params, self.batch_size = params, batch_size
        self.targets = engine._targets(targets)
        self.team = team_size(threads, engine.layout.size, batch_size)
        grads = engine.layout.zeros() if batch_size > self.plan.chunk else None
        self.work = engine._work(self.plan, size, grads)
        self.totals = self.work.totals
        # A batch beyond the scratch may take seconds: then the main thread only waits, too, so that
        # Ctrl-C reaches it.
        waits = self.team > 1 or batch_size > self.plan.chunk
        self._pool = ThreadPoolExecutor(self.team + 1) if waits else None

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
            stretch = self._pool.submit(self._run_team, order, span)
            _uninterrupted(stretch, self._ask_to_stop)

    def _ask_to_stop(self):
        """End the stretch before its next update."""
        self.work.sync[kernels.ASKED] = 1

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


def _uninterrupted(future, ask_to_stop):
    """Wait for a stretch under way; after an interrupt, ask for its end and wait for that.

    Only the main thread is interrupted, and it is no member of the team: none waits at a barrier
    for one that has left.
    """
    interrupt = None
    while not future.done():
        try:
            future.result()
        except KeyboardInterrupt as error:
            interrupt = error
            ask_to_stop()
    if interrupt:
        raise interrupt
    future.result()
