"""The first layer, where W is large, and inputs are rows or compressed rows (`first_sparse`).

Rows may be bytes, or wait to be scaled. A thread owns columns of W through forward and update, so
that W stays in its cache.
"""

from ..ir.memory import at, prefetch, put, vector_lanes
from ..ir.tiles import pack
from ..jit import by_type, inner
from ..machine import CPU, PASS_SAMPLES, STEP_BYTES
from . import first_sparse
from .products import (
    add_packed,
    add_product,
    add_product_by_steps,
    multiply_bias,
    update_and_multiply,
)  # fmt: skip
from .records import NUM, SCALE, Matrix, Rows, is_dense, kind, numbers
from .stores import columns
from .team import SAMPLES_UNIT, barrier, share

_STEP_VECTORS = STEP_BYTES // CPU.vector_bytes


def _same_dtype(job):
    """Return, of the type of a job, whether inputs are numbers as the parameters are."""
    return kind(job, "data", "X").dtype == kind(job, "memory").dtype


@by_type
def _converts(job):
    if _same_dtype(job):
        return lambda job: job.work.scratch[SCALE] != 1
    return lambda job: True


@by_type
def _originals(job):
    """Return X; where it has another type than the parameters, copies are multiplied anyway."""
    return (lambda job: job.data.X) if _same_dtype(job) else (lambda job: job.work.scratch)


@inner
def _convert(plan, X, which, r0, r1, scratch, slot):
    """Copy samples into the scratch from row `slot` on, scaled."""
    n = plan.sizes[0]
    for r in range(r0, r1):
        row = at(scratch, plan.a[0] + (slot + r) * plan.strides[0])
        sample = at(X, which[r] * n)
        for i in range(n):
            put(row, i, sample[i])
        for i in range(n):
            put(row, i, row[i] * scratch[SCALE])


@inner
def _samples(job, which, ahead, slot):
    """Return samples where they are multiplied; copies lie in the scratch from row `slot` on."""
    plan, in_order = job.plan, numbers(job.work)
    if _converts(job):
        row = plan.strides[0]
        return Rows(at(job.work.scratch, plan.a[0] + slot * row), row, in_order, in_order)
    return Rows(_originals(job), plan.sizes[0], which, ahead)


def _forward(job, batch):
    plan, upper = job.plan, job.upper
    if _converts(job):
        barrier(job.work.integers, upper)  # others may still read the copies before
        r0, r1 = share(batch.size, SAMPLES_UNIT, upper.thread, upper.size)
        _convert(plan, job.data.X, batch.now, r0, r1, job.work.scratch, NUM(0))
        barrier(job.work.integers, upper)
    # Where the update goes by steps, it asks for the next batch, at half the pace: 784-30-10 at
    # batches of ten takes 5 % less (Zen 4).
    ahead = batch.now if _by_steps(job) else batch.ahead
    x = _samples(job, batch.now, ahead, NUM(0))
    c, store = columns(job, batch.turn), job.params
    w, z = Matrix(store.W, store.row), Matrix(c.z, c.row)
    multiply_bias(batch.size, c.width, plan.sizes[0], x, w, z, store.bias)
    if plan.packed:  # for the update, which begins after a barrier
        barrier(job.work.integers, upper)  # others may still read what was packed before
        packed = _packed(plan, job.work.scratch)
        r0, r1 = share(batch.size, SAMPLES_UNIT, upper.thread, upper.size)
        pack(r0, r1, plan.sizes[0], x.start, x.row, x.which, packed.start, packed.row)


@inner
def _packed(plan, scratch):
    """Return the place of the batch's inputs packed for tiles."""
    # An odd number of groups of a tile's rows apart: 4 KiB would be the same sets of the cache.
    return Matrix(at(scratch, plan.packed), plan.chunk | 1)


@inner
def _by_steps(job):
    """Return whether W is updated some samples at a time: the same for any number of threads."""
    plan = job.plan
    return plan.sizes[0] * plan.strides[1] <= _STEP_VECTORS * vector_lanes(job.memory)


def _update(job, batch):
    x = _samples(job, batch.now, batch.ahead, NUM(0))
    c, store = columns(job, batch.turn), batch.target
    d, w = Matrix(c.delta, c.row), Matrix(store.W, store.row)
    n_in = job.plan.sizes[0]
    if job.plan.packed:
        packed = _packed(job.plan, job.work.scratch)
        add_packed(n_in, c.width, batch.size, packed, x, d, w, batch.alpha)
    elif _by_steps(job):
        add_product_by_steps(n_in, c.width, batch.size, x, d, w, batch.alpha)
    else:
        add_product(n_in, c.width, batch.size, x, d, w, batch.alpha)


@inner
def block(job, which, ahead, count, turn):
    """Return some samples that are learnt one by one; copies lie in two places, in turns."""
    plan, slot = job.plan, turn * PASS_SAMPLES
    n_in = plan.sizes[0]
    if _converts(job):
        _convert(plan, job.data.X, which, NUM(0), count, job.work.scratch, slot)
        for r in range(count):
            prefetch(at(job.data.X, ahead[r] * n_in), n_in)
    return _samples(job, which, ahead, slot)


@inner
def update_and_forward(job, old, due, x, count, turn, alpha):
    """The update of a block of samples and the forward pass of the next, in one pass over W."""
    c, store, n_in = columns(job, turn), job.params, job.plan.sizes[0]
    delta, z = Matrix(c.delta, c.row), Matrix(c.z, c.row)
    w = Matrix(store.W, store.row)
    update_and_multiply(c.width, n_in, alpha, due, old, x, count, delta, w, z, store.bias)


@by_type
def in_blocks(job):
    """Return whether input is zero-skipping, and in more than one block."""
    return (lambda job: False) if is_dense(job) else (lambda job: job.plan.blocks > 1)


@by_type
def forward(job, batch):
    """Write this thread's columns of the first layer's weighted inputs."""
    return _forward if is_dense(job) else first_sparse.forward


@by_type
def update(job, batch):
    """Add alpha * gradient to this thread's columns of the first layer's weights in the target."""
    return _update if is_dense(job) else first_sparse.update


@by_type
def update_block(job, j, batch):
    """Add alpha * gradient to the weights of one block of inputs; zero-skipping input alone."""
    if is_dense(job):
        return lambda job, j, batch: None
    return first_sparse.update_block
