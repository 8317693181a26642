"""The first layer, where W is large, and inputs are rows or compressed rows (`first_sparse`).

Rows may be bytes, or wait to be scaled. A thread owns columns of W through forward and update, so
that W stays in its cache.
"""

from ..ir.memory import at, prefetch, put
from ..ir.tiles import pack, update_and_forward
from ..jit import by_type, inner
from . import first_sparse
from .products import add_packed, add_product, multiply_bias, packed_at
from .records import NUM, SCALE, Matrix, Rows, is_dense, kind, numbers
from .stores import columns
from .team import SAMPLES_UNIT, barrier, share


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
def _samples(job, which, ahead):
    plan, in_order = job.plan, numbers(job.work)
    if _converts(job):
        return Rows(at(job.work.scratch, plan.a[0]), plan.strides[0], in_order, in_order)
    return Rows(_originals(job), plan.sizes[0], which, ahead)


@inner
def _sample(job, s, slot):
    """Return where sample number s is multiplied; a copy lies in one of two slots."""
    plan = job.plan
    if _converts(job):
        return at(job.work.scratch, plan.a[0] + slot * plan.strides[0])
    return at(_originals(job), s * plan.sizes[0])


def _forward(job, batch):
    plan, upper = job.plan, job.upper
    if _converts(job):
        barrier(job.work.integers, upper)  # others may still read the copies before
        r0, r1 = share(batch.size, SAMPLES_UNIT, upper.thread, upper.size)
        _convert(plan, job.data.X, batch.now, r0, r1, job.work.scratch, NUM(0))
        barrier(job.work.integers, upper)
    x = _samples(job, batch.now, batch.ahead)
    c, store = columns(job, batch.turn), job.params
    w, z = Matrix(store.W, store.row), Matrix(c.z, c.row)
    multiply_bias(batch.size, c.width, plan.sizes[0], x, w, z, store.bias)
    if plan.packed:  # for the update, which begins after a barrier
        barrier(job.work.integers, upper)  # others may still read what was packed before
        packed = packed_at(plan, job.work.scratch, plan.packed, NUM(0))
        r0, r1 = share(batch.size, SAMPLES_UNIT, upper.thread, upper.size)
        pack(r0, r1, plan.sizes[0], x.start, x.row, x.which, packed.start, packed.row)


def _update(job, batch):
    x = _samples(job, batch.now, batch.now)
    c, store = columns(job, batch.turn), batch.target
    d, w = Matrix(c.delta, c.row), Matrix(store.W, store.row)
    n_in = job.plan.sizes[0]
    if job.plan.packed:
        packed = packed_at(job.plan, job.work.scratch, job.plan.packed, NUM(0))
        add_packed(n_in, c.width, batch.size, packed, x, d, w, batch.alpha)
    else:
        add_product(n_in, c.width, batch.size, x, d, w, batch.alpha)


@inner
def _update_and_forward(depth, before, after, c, store, alpha):
    """The update of one sample and the forward pass of the next, in one pass over W."""
    update_and_forward(
        c.width, depth, before, alpha, c.delta, after, store.W, store.row, c.z, store.bias
    )


def _forward_one(job, batch, slot, fresh):
    """The update of the sample before is still due, unless `fresh`: one pass over W does both."""
    plan, work, store = job.plan, job.work, job.params
    n_in = plan.sizes[0]
    if _converts(job):
        _convert(plan, job.data.X, batch.now, NUM(0), NUM(1), work.scratch, slot)
    prefetch(at(job.data.X, batch.ahead[0] * n_in), n_in)
    x = _sample(job, batch.now[0], slot)
    c = columns(job, slot)
    if not fresh:
        before = _sample(job, at(batch.now, -1)[0], 1 - slot)
        _update_and_forward(n_in, before, x, c, store, batch.alpha)
        return
    rows = Rows(x, NUM(0), numbers(work), numbers(work))
    w, z = Matrix(store.W, store.row), Matrix(c.z, NUM(0))
    multiply_bias(NUM(1), c.width, n_in, rows, w, z, store.bias)


def _update_last(job, s, slot, alpha):
    x = _sample(job, s, slot)
    # The z that nobody asked for go where no other thread still reads.
    c = columns(job, 1 - slot)
    _update_and_forward(job.plan.sizes[0], x, x, c, job.params, alpha)


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


# Batches of one. The update of a sample waits for the forward pass of the next.


@by_type
def forward_one(job, batch, slot, fresh):
    """Take the update still due, unless `fresh`; then write the first layer's weighted inputs."""
    return _forward_one if is_dense(job) else first_sparse.forward_one


@by_type
def update_last(job, s, slot, alpha):
    """Take the update of sample s that is still due."""
    return _update_last if is_dense(job) else first_sparse.update_last
