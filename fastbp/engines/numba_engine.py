"""The kernels behind the face that both backends share: operations, and whole networks.

Logical arrays in, new arrays out. Storage, padding, scratch, the choice of path and the team of
threads are settled here, once; nothing above knows of them.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property, partial
from itertools import pairwise
from threading import Lock

import numpy as np

from .. import kernels
from ..model.layout import aligned, parts_of, stride
from ..rules import PLAIN, new_memory

# A batch that fits the scratch is learnt in one fused step. Half a megabyte stays in the second
# level cache of any CPU of the last ten years; below 128 samples the tiles would starve.
SCRATCH_BYTES = 2**19
FEWEST_CHUNK, MOST_CHUNK, CHUNK_UNIT = 128, 1024, 8
# Lanes over the batch: a chunk of so many vectors of samples stays near the first cache level.
NARROW_VECTORS = 12
# A team costs three barriers a batch; each thread wants at least this many weights x samples.
WORK_PER_THREAD = 2**17
# To wake threads for a single call takes 0.05 ms.
CALL_PER_THREAD = 2**25
PARTS_PER_THREAD = 8  # a thread that starts late, or has a slow core, takes fewer
# Zero-skipping input: the weights of one block of inputs and one panel of columns, in bytes: about
# a first level cache. Smaller blocks pay for their loops, larger ones go to the second level.
BLOCK_BYTES = 80 * 2**10
# What a vector of the first layer's weights costs on dense input, by the largest batch: batches of
# one are fused with the sample before, those below 16 leave tiles half empty.
_DENSE_COSTS = ((1, 0.53), (4, 0.64), (8, 0.44), (16, 0.34), (np.inf, 0.29))
_WIDE = 24  # vectors of a layer, and samples of a batch, from which tiles reach their best
_LARGE, _LINE = 2**20, 64  # bytes of weights that no second level cache holds; of a vector
LONG_BATCH = 2**28  # weights x samples: about 5 ms
ROWS_AT_ONCE = 4096  # of a sparse matrix are made dense and indexed
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
        out = np.empty((len(z), stride(z.shape[1], z.dtype)), z.dtype)
        kernels.softmax(_read_only(np.ascontiguousarray(z)), out)
        return out[:, : z.shape[1]].copy()

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

    def _step(self, kernel, written, *numbers):
        """Take a step on copies of the arrays, which are written back but for the gradient."""
        flat = [array.flatten() for array in written]
        kernel(*flat, *numbers)
        for array, new in zip(written[:-1], flat, strict=False):
            array[...] = new.reshape(array.shape)

    def momentum_update(self, p, velocity, g, learning_rate, momentum):
        """Take a step with momentum, in place."""
        self._step(kernels.momentum_update, (p, velocity, g), learning_rate, momentum)

    def nesterov_update(self, p, velocity, g, learning_rate, momentum):
        """Take a step with Nesterov's momentum, in place."""
        self._step(kernels.nesterov_update, (p, velocity, g), learning_rate, momentum)

    def adam_update(self, p, first, second, g, learning_rate, beta_1, beta_2, epsilon, t):
        """Take a step of Adam, in place."""
        numbers = learning_rate, beta_1, beta_2, epsilon, float(t)
        self._step(kernels.adam_update, (p, first, second, g), *numbers)

    def output_delta(self, loss, activation, z, y):
        """Return output, delta and losses of the last layer."""
        batch, n = z.shape
        a = np.empty((batch, stride(n, z.dtype)), z.dtype)
        delta, losses = np.empty_like(a), np.empty(2 * batch)
        kernels.output_delta(
            kernels.LOSS_CODES[loss], kernels.ACTIVATION_CODES[activation],
            _read_only(np.ascontiguousarray(z)), _read_only(np.ascontiguousarray(y)),
            np.arange(batch), a, delta, losses,
        )  # fmt: skip
        return a[:, :n].copy(), delta[:, :n].copy(), losses[:batch]

    def engine(self, model, layout):
        """Return what computes a whole network."""
        return NumbaEngine(model, layout)


def _read_only(array):
    """Return a read-only view: kernels then see one type for all inputs, memory maps included."""
    view = array.view() if type(array) is np.ndarray else array.view(np.ndarray)
    view.setflags(write=False)
    return view


_INT64 = np.dtype(np.int64)


def _writable(array, dtype):
    """Return the array if it is as kernels take targets, else a copy that is."""
    if array.dtype == dtype and array.flags.carray:
        return array
    return np.array(array, dtype, order="C")


# -- whole networks --------------------------------------------------------------------------------


def available_cores():
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def team_size(threads, weights, batch_size, share=WORK_PER_THREAD):
    """Return how many of the threads asked for take part; the result has the same bits anyway."""
    worth = weights * batch_size // share
    return max(1, min(threads, available_cores(), worth))


@cache
def _helpers():
    """Return threads for single calls; they are kept, for to start one takes 0.1 ms."""
    return ThreadPoolExecutor(os.cpu_count(), "fastbp")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # where the threads are gone


def _is_sparse(X):
    """Return whether X is a sparse matrix of SciPy's."""
    return hasattr(X, "tocsr")


def _stretches(X):
    """Yield the first row, and the rows, of stretches of X: a sparse matrix in many."""
    if not _is_sparse(X):
        yield 0, X
        return
    for first in range(0, X.shape[0], ROWS_AT_ONCE):
        yield first, _read_only(np.ascontiguousarray(X[first : first + ROWS_AT_ONCE].toarray()))


def _density(X):
    """Return the share of inputs that are not zero, of a sample of rows."""
    if _is_sparse(X):
        return X.nnz / (X.shape[0] * X.shape[1])
    sample = X[:: max(1, len(X) // DENSITY_SAMPLE)][:DENSITY_SAMPLE]
    return np.count_nonzero(sample) / sample.size


def _sparse_input(X, blocks, scale, dtype):
    """Return X as compressed rows, cut into blocks, and whether all of it is finite."""
    n, n_in = X.shape
    coded = X.dtype == np.uint8  # bytes stay bytes: a third of the memory to fetch
    palette = np.arange(256, dtype=dtype) * scale if coded else None
    start = np.zeros(n * blocks + 1, np.int64)
    position_kind = np.uint16 if n_in <= np.iinfo(np.uint16).max else np.uint32
    padding = blocks * kernels.GROUP
    worst = n_in + padding  # entries of one sample
    room = int(1.05 * n * (_density(X) * n_in + padding)) + worst
    position, value = np.empty(0, position_kind), np.empty(0, X.dtype if coded else dtype)
    scale, fine = X.dtype.type(1) if coded else scale, True
    for first, rows in _stretches(X):
        done = np.zeros(2, np.int64)
        while done[0] < len(rows):
            if start[(first + done[0]) * blocks] + worst > position.size:
                # Pages that are never written cost no memory.
                position, value = (_grown(array, room) for array in (position, value))
                room = room * 5 // 4 + worst
            kernels.index_rows(rows, scale, blocks, done, start[first * blocks :], position, value)
        fine &= not done[1]
    return kernels.Sparse(start, position, value, palette, int(1.1 * start[-1] / n)), fine


def _grown(array, size):
    """Return a longer copy."""
    longer = np.empty(size, array.dtype)
    longer[: array.size] = array
    return longer


class NumbaEngine:
    """A network on the kernels."""

    GROUP = kernels.GROUP  # entries of zero-skipping rows come in whole groups

    def __init__(self, model, layout):
        self.model, self.layout = model, layout
        self.dtype, self.n_out = layout.dtype, layout.sizes[-1]
        self.lanes = kernels.vector_bytes() // self.dtype.itemsize

    def _plan(self, batch_size, blocks=1):
        """Return the plan for batches of this size, and the size of the scratch."""
        chunk = min(self._most_chunk, batch_size)
        layout, model = self.layout, self.model
        widths = [-(-n // self.lanes) * self.lanes for n in layout.sizes]
        place = stride(kernels.SCALE + 1, self.dtype)  # after the constants
        places = {"a": [], "delta": [], "flipped": []}
        for l, row in enumerate(layout.strides):
            # Only above the first layer does a delta go down through transposed weights; inputs
            # have no delta, and two places even for batches of one.
            flipped = widths[l] * layout.strides[l - 1] if l > 1 else 0
            sizes = {"a": max(2, chunk) * row, "delta": chunk * row if l else 0, "flipped": flipped}
            for name, size in sizes.items():
                places[name].append(place)
                place += size
        plan = kernels.Plan(
            last=len(layout.sizes) - 1, loss=kernels.LOSS_CODES[model.loss], bias=model.bias,
            chunk=chunk, blocks=blocks, scratch=0, sizes=layout.sizes, strides=layout.strides,
            widths=widths, w=layout.w, b=layout.b, **places,
            activations=[0, *(kernels.ACTIVATION_CODES[name] for name in model.activations)],
        )  # fmt: skip
        return plan, place

    def _narrow_plan(self):
        """Return the plan for lanes over the batch, where every matrix has a row per neuron."""
        layout, lanes = self.layout, self.lanes
        chunk = NARROW_VECTORS * lanes
        place = stride(kernels.SCALE + 1, self.dtype)
        places = {"a": [], "delta": [], "flipped": []}
        for l, n in enumerate(layout.sizes):
            # A row of ones for the biases; samples and targets arrive in whole squares.
            whole = -(-n // lanes) * lanes
            target = whole if l == len(layout.sizes) - 1 else 0
            for name, rows in (("a", whole + 1), ("delta", n), ("flipped", target)):
                places[name].append(place)
                place += rows * chunk
        plan, _ = self._plan(chunk)
        return plan._replace(chunk=chunk, scratch=place, **places), place

    def blocks(self, batch_size):
        """Return into how many blocks of inputs zero-skipping rows are cut."""
        if batch_size == 1:
            return 1
        n_in, n_out = self.layout.sizes[:2]
        panel = min(kernels.SPARSE_COLUMNS * self.lanes, n_out)
        return -(-n_in // max(1, BLOCK_BYTES // (panel * self.dtype.itemsize)))

    @cached_property
    def _most_chunk(self):
        """How many samples the scratch should hold at most."""
        row = 2 * sum(self.layout.strides) * self.dtype.itemsize
        chunk = min(max(SCRATCH_BYTES // row, FEWEST_CHUNK), MOST_CHUNK)
        return chunk - chunk % CHUNK_UNIT

    def choose_path(self, X, batch_size, weighted=False):
        """Return the path that costs least for these inputs: "sparse", "narrow" or "dense"."""
        if _is_sparse(X):
            return "sparse"
        costs = self.costs(batch_size, _density(X))
        if weighted:  # lanes over the batch add up losses before they have weights
            costs.pop("narrow", None)
        return min(costs, key=costs.get)

    def costs(self, batch_size, density=1.0):
        """Return what a sample costs on each path, in nanoseconds of one machine.

        Only the ratios count. They were measured for layers of 3 to 512 neurons, batches of 1 to
        1,000 and inputs of which 5 to 100 % are not zero; where two paths meet, the choice loses
        at most about 15 %.
        """
        sizes, lanes = self.layout.sizes, self.lanes
        vectors = [-(-n // lanes) for n in sizes]
        first = sizes[0] * vectors[1]
        upper = sum(2 * p * v for p, v in zip(sizes[1:], vectors[2:], strict=False))
        upper += sum(n * v for n, v in zip(sizes[2:], vectors[1:], strict=False))
        logarithms = self.model.loss != "quadratic"
        rest = 0.18 * upper + 38 + 20 * logarithms
        per_vector = next(cost for most, cost in _DENSE_COSTS if batch_size <= most)
        if vectors[1] >= _WIDE and batch_size >= _WIDE:
            per_vector *= 0.85  # more work for each load
        costs = {
            "dense": per_vector * first + rest,
            "sparse": (1.2 if first * _LINE > _LARGE else 1.05) * density * first + rest,
        }
        if batch_size > 1:
            weights = sum(p * q for p, q in pairwise(sizes))
            down = sum(p * q for p, q in pairwise(sizes[1:]))
            padded = -(-batch_size // lanes) * lanes / batch_size
            full = 0.205 * (2.35 * weights + down) / lanes * padded
            costs["narrow"] = full + 0.3 * weights / batch_size + 8 + 10 * logarithms
        return costs

    @cached_property
    def _desk(self):
        """For calls with lanes over the neurons."""
        return _Desk(self, *self._plan(self._most_chunk))

    @cached_property
    def _narrow_desk(self):
        """For calls with lanes over the batch."""
        return _Desk(self, *self._narrow_plan())

    @cached_property
    def _narrow_batches(self):
        return {}

    def _is_narrow(self, batch_size):
        """Return whether lanes over the batch are the better choice for a gradient."""
        if batch_size not in self._narrow_batches:
            costs = self.costs(batch_size)
            self._narrow_batches[batch_size] = costs.get("narrow", np.inf) < costs["dense"]
        return self._narrow_batches[batch_size]

    def rows(self, X):
        """Return X as kernels take it: contiguous, uint8 or the network's dtype."""
        if X.dtype is not self.dtype and X.dtype not in (self.dtype, np.uint8):
            with np.errstate(over="ignore"):  # callers look at X if the kernels saw infinity
                X = X.astype(self.dtype)
        if type(X) is np.ndarray and X.flags.carray:
            return X  # at once: a call on one sample takes 2 us in all
        flags = X.flags
        if not (flags.c_contiguous and flags.aligned):
            X = np.array(X, order="C")
        return X.view(np.ndarray)

    def sparse(self, X):
        """Return a CSR matrix as its stretches are taken."""
        return X if X.dtype in (self.dtype, np.uint8) else X.astype(self.dtype)

    def targets(self, targets):
        """Return the targets as kernels take them."""
        labels = _writable(targets.labels, _INT64)
        values, weights = _writable(targets.values, self.dtype), self.weights(targets)
        return kernels.Targets(labels, values, bool(labels.size), weights)

    def weights(self, targets):
        """Return the weights of the samples as kernels take them, or None."""
        return _writable(targets.weights, self.dtype) if targets.weights.size else None

    def feedforward(self, params, X, threads=1):
        """Return the outputs of rows X, and whether all inputs were surely finite."""
        X, out = self.rows(X), np.empty((len(X), self.n_out), self.dtype)
        team = team_size(threads, self.layout.size, len(X), CALL_PER_THREAD) if threads > 1 else 1
        if team == 1:
            return out, self._forward(params, X, out)
        # Of whole tiles: the bits of a row do not depend on the part it is in.
        rows = -(-len(X) // (team * PARTS_PER_THREAD))
        parts = iter(parts_of(len(X), rows + -rows % kernels.TILE_ROWS))

        def forward():
            return all([self._forward(params, X[part], out[part]) for part in parts])

        # This thread takes parts like any other: were there one more, two would begin on one core.
        others = [_helpers().submit(forward) for _ in range(1, team)]
        return out, all([forward(), *(other.result() for other in others)])

    def _forward(self, params, X, out):
        desk = self._desk
        work = desk.take()
        fine = kernels.feedforward(desk.plan, params, X, work.scratch, work.marks, out)
        desk.give_back(work)
        return fine

    def evaluate(self, params, X, targets):
        """Return the sum of the losses and the count of right classes."""
        labels = _writable(targets.labels, _INT64)
        values = _writable(targets.values, self.dtype)
        desk = self._desk
        work = desk.take()
        kernels.evaluate(
            desk.plan, params, self.rows(X), labels, values, work.scratch, work.sums, work.marks
        )
        totals = work.sums[0], int(work.sums[1])
        desk.give_back(work)
        return totals

    def gradient(self, params, X, targets, path=None):
        """Return the gradient of the mean loss like `params`, that loss, and whether all is finite.

        That is: whether X and the targets surely are. `path` forces "dense" or "narrow".
        """
        labels = _writable(targets.labels, _INT64)
        values = _writable(targets.values, self.dtype)
        weights = self.weights(targets)
        narrow = path == "narrow" if path else weights is None and self._is_narrow(len(X))
        desk = self._narrow_desk if narrow else self._desk
        work, grads = desk.take(), np.empty(self.layout.size, self.dtype)
        kernel, extra = (kernels.narrow_gradient, ()) if narrow else (kernels.gradient, (weights,))
        fine = kernel(
            desk.plan, params, self.rows(X), labels, values, *extra, work.scratch, work.sums,
            work.marks, grads,
        )  # fmt: skip
        loss = work.sums[0] / len(X)
        desk.give_back(work)
        return grads, loss, fine

    def trainer(
        self, params, X, targets, batch_size, threads=1, path=None, rule=PLAIN, memory=None
    ):
        """Return a trainer of `params`; `path` forces "dense", "sparse" or "narrow"."""
        return NumbaTrainer(self, params, X, targets, batch_size, threads, path, rule, memory)


class _Desk:
    """A plan, and memory to work on, one piece for each thread that is at it."""

    def __init__(self, engine, plan, size):
        # No reference to the engine, which holds its desk: both are freed when the network is.
        self.dtype, self.scale, self.n_in = engine.dtype, engine.model.scale, engine.layout.sizes[0]
        self.size = size
        self.chunk = max(plan.chunk, 2)
        self.plan = kernels.pack(plan)
        self._idle = []

    def make(self, grads=None, team=1):
        """Return memory for a team."""
        scratch = aligned(self.size * team, self.dtype)
        for thread in range(team):
            scratch[thread * self.size + kernels.ONE] = 1
            scratch[thread * self.size + kernels.SCALE] = self.scale
        numbers = np.arange(self.chunk + kernels.TILE_ROWS)
        room = self.n_in + kernels.GROUP
        marks = np.concatenate(
            [np.zeros(kernels.SYNC_SIZE, np.int64), numbers, np.zeros(room, np.int64)]
        )
        totals = kernels.TOTALS * kernels.MOST_EPOCHS
        sums = np.zeros(totals + 2 * max(self.chunk, kernels.ROUND))
        return kernels.Work(scratch, sums, marks, scratch if grads is None else grads)

    def take(self):
        """Return memory that no other thread uses; `give_back` it."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.make()

    def give_back(self, work):
        """Keep memory for the next call."""
        self._idle.append(work)


# By path and whether plain SGD is fused, without a gradient buffer.
_EPOCHS = {
    (False, True): "sgd_epoch",
    (True, True): "narrow_epoch",
    (False, False): "optimizer_epoch",
    (True, False): "narrow_optimizer_epoch",
}


class NumbaTrainer:
    """Runs stretches of epochs on the kernels, on a team of threads."""

    def __init__(self, engine, params, X, targets, batch_size, threads, path, rule, memory):
        if _is_sparse(X):
            path = "sparse"
        path = path or engine.choose_path(X, batch_size, bool(targets.weights.size))
        self.params, self.batch_size, self.engine, self.path = params, batch_size, engine, path
        self.memory = memory or new_memory(rule, params)
        self.team = team_size(threads, engine.layout.size, batch_size)
        plain = rule == PLAIN
        self._kernel = getattr(kernels, _EPOCHS[path == "narrow", plain])
        self.load(X, targets)
        blocks = self._blocks
        self._rule = () if plain else (_kernel_rule(rule, self.memory, blocks),)
        plan, size = engine._narrow_plan() if path == "narrow" else engine._plan(batch_size, blocks)
        if path == "narrow":
            self.team = min(self.team, -(-batch_size // plan.chunk))  # a chunk is one thread's
        desk = _Desk(engine, plan, size)
        unfused = batch_size > plan.chunk or not plain
        buffers = 1 + kernels.ROUND if path == "narrow" else 1
        grads = aligned(engine.layout.size * buffers, engine.dtype) if unfused else params
        self.plan = desk.plan
        self.work = desk.make(grads, self.team if path == "narrow" else 1)
        totals = self.work.sums[: kernels.TOTALS * kernels.MOST_EPOCHS]
        self.totals = totals.reshape(-1, kernels.TOTALS)
        # The main thread is no member of the team: it only waits, and Ctrl-C reaches it. So it
        # does where a batch may take seconds.
        waits = self.team > 1 or engine.layout.size * batch_size > LONG_BATCH
        self._pool = ThreadPoolExecutor(self.team + 1) if waits else None
        self._busy = Lock()  # while a stretch is under way there

    @property
    def _blocks(self):
        return self.engine.blocks(self.batch_size) if self.path == "sparse" else 1

    def forget(self):
        """Let go of the samples."""
        self.X = self.data = self.targets = None

    def rows(self, which):
        """Return some samples as kernels take them."""
        X = self.X[which]
        return self.engine.rows(X.toarray() if _is_sparse(X) else X)

    def load(self, X, targets):
        """Take other samples, on the same path."""
        engine = self.engine
        self.X, self.targets = X, engine.targets(targets)
        if _is_sparse(X):
            X = engine.sparse(X) if self.path == "sparse" else X.toarray()
        if not _is_sparse(X):
            X = _read_only(engine.rows(X))
        if self.path == "sparse":
            scale = engine.dtype.type(engine.model.scale)
            self.data, self.surely_finite = _sparse_input(X, self._blocks, scale, engine.dtype)
        else:
            self.data, self.surely_finite = kernels.Dense(X), False  # nobody has looked at X

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._pool:
            if exception[0]:
                self.end()
            self._pool.shutdown()

    @property
    def stopped(self):
        """Whether a batch was refused because its loss is not finite."""
        return bool(self.work.marks[kernels.STOPPED])

    @stopped.setter
    def stopped(self, value):
        self.work.marks[kernels.STOPPED] = value

    def run(self, order, first, last, learning_rate, epochs=1):
        """Train on the batches that start at first <= position < last, in each of the epochs."""
        rate = self.params.dtype.type(learning_rate)
        span = kernels.Span(first, min(len(order), last), self.batch_size, rate, epochs)
        if self._pool is None:
            self._run_thread(order, span, 0)
        else:
            self._pool.submit(self._run_team, order, span).result()

    def ask_to_stop(self):
        """End the stretch before its next update, and refuse all that come."""
        self.work.marks[kernels.ASKED] = 1

    def end(self):
        """End a stretch that an interrupt of the main thread has left under way."""
        self.ask_to_stop()
        with self._busy:
            pass

    def _run_team(self, order, span):
        with self._busy:
            others = [
                self._pool.submit(self._run_thread, order, span, thread)
                for thread in range(1, self.team)
            ]
            self._run_thread(order, span, 0)
            for other in others:
                other.result()

    def _run_thread(self, order, span, thread):
        self._kernel(
            self.plan, self.params, self.data, self.targets, order, span, self.work, *self._rule,
            kernels.Team(thread, self.team),
        )  # fmt: skip


def _kernel_rule(rule, memory, blocks):
    """Return a rule as kernels take it, for rows in so many blocks."""
    numbers = np.array([kernels.KINDS[rule.name], *rule[1:]], np.float64)
    parts = np.zeros(kernels.SEGMENTS + (blocks + 1) * kernels.PIECES)
    return kernels.Rule(numbers, memory.clock, memory.slots.reshape(-1), parts)
