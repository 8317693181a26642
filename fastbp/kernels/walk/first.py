"""The first layer, where W is large, and inputs are rows or compressed rows (`first_sparse`).

Rows may be bytes, or wait to be scaled. A thread owns columns of W through forward and update, so
that W stays in its cache.
"""

from ..ir.memory import at, call_address, prefetch, put
from ..ir.tiles import pack, update_and_forward
from ..jit import by_type, inner
from . import first_sparse
from .products import add_packed, add_product, multiply_bias, packed_at
from .records import (
    BOTH,
    FORWARD,
    NUM,
    POSITION,
    SCALE,
    UPDATE,
    UPDATE_ONLY,
    VALUE,
    Matrix,
    Rows,
    is_dense,
    job_kinds,
    kind,
    numbers,
)  # fmt: skip
from .stores import columns
from .team import SAMPLES_UNIT, barrier, share


def _same_dtype(data, job):
    """Return, of the types of rows and a job, whether inputs are numbers as the parameters are."""
    return kind(data, "X").dtype == kind(job, "memory").dtype


@by_type
def _converts(data, job):
    if _same_dtype(data, job):
        return lambda data, job: job.work.scratch[SCALE] != 1
    return lambda data, job: True


@by_type
def _originals(data, job):
    """Return X; where it has another type than the parameters, copies are multiplied anyway."""
    if _same_dtype(data, job):
        return lambda data, job: data.X
    return lambda data, job: job.work.scratch


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
def _samples(data, job, which, ahead):
    plan, in_order = job.plan, numbers(job.work)
    if _converts(data, job):
        return Rows(at(job.work.scratch, plan.a[0]), plan.strides[0], in_order, in_order)
    return Rows(_originals(data, job), plan.sizes[0], which, ahead)


@inner
def _sample(data, job, s, slot):
    """Return where sample number s is multiplied; a copy lies in one of two slots."""
    plan = job.plan
    if _converts(data, job):
        return at(job.work.scratch, plan.a[0] + slot * plan.strides[0])
    return at(_originals(data, job), s * plan.sizes[0])


def _forward(data, job, batch):
    plan, upper = job.plan, job.upper
    if _converts(data, job):
        barrier(job.work.integers, upper)  # others may still read the copies before
        r0, r1 = share(batch.size, SAMPLES_UNIT, upper.thread, upper.size)
        _convert(plan, data.X, batch.now, r0, r1, job.work.scratch, NUM(0))
        barrier(job.work.integers, upper)
    x = _samples(data, job, batch.now, batch.ahead)
    c, store = columns(job, batch.turn), job.params
    w, z = Matrix(store.W, store.row), Matrix(c.z, c.row)
    multiply_bias(batch.size, c.width, plan.sizes[0], x, w, z, store.bias)
    if plan.packed:  # for the update, which begins after a barrier
        barrier(job.work.integers, upper)  # others may still read what was packed before
        packed = packed_at(plan, job.work.scratch, plan.packed, NUM(0))
        r0, r1 = share(batch.size, SAMPLES_UNIT, upper.thread, upper.size)
        pack(r0, r1, plan.sizes[0], x.start, x.row, x.which, packed.start, packed.row)


def _update(data, job, batch, first, last):
    x = _samples(data, job, batch.now, batch.now)
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


def _learn_one(data, job, batch, slot, due):
    plan, work, store = job.plan, job.work, job.params
    n_in = plan.sizes[0]
    x = _sample(data, job, batch.now[0], slot)
    if due == UPDATE_ONLY:
        # The z that nobody asked for go where no other thread still reads.
        c = columns(job, 1 - slot)
        _update_and_forward(n_in, x, x, c, store, batch.alpha)
        return
    if _converts(data, job):
        _convert(plan, data.X, batch.now, NUM(0), NUM(1), work.scratch, slot)
    prefetch(at(data.X, batch.ahead[0] * n_in), n_in)
    c = columns(job, slot)
    if due == BOTH:
        before = _sample(data, job, at(batch.now, -1)[0], 1 - slot)
        _update_and_forward(n_in, before, x, c, store, batch.alpha)
        return
    rows = Rows(x, NUM(0), numbers(work), numbers(work))
    w, z = Matrix(store.W, store.row), Matrix(c.z, NUM(0))
    multiply_bias(NUM(1), c.width, n_in, rows, w, z, store.bias)


@by_type
def forward_from(data, job, batch):
    """Write this thread's columns of the first layer's weighted inputs."""
    return _forward if is_dense(data) else first_sparse.forward


@by_type
def update_from(data, job, batch, first, last):
    """Add alpha * gradient to this thread's columns of the first layer's weights in the target."""
    # Those of zero-skipping input: of the blocks first <= j < last.
    return _update if is_dense(data) else first_sparse.update


@by_type
def learn_one_from(data, job, batch, slot, due):
    """For a batch of one: take the update still due, then write the first layer's weighted inputs.

    The update of a sample waits for the forward pass of the next: one pass over W does both.
    """
    return _learn_one if is_dense(data) else first_sparse.learn_one


# The same by their addresses: who calls these is compiled once for all kinds of input.


@by_type
def forward(job, batch):
    """Do as `forward_from` does, with the input in the job's table."""
    _check(job, batch)

    def call(job, batch):
        t = job.inputs
        call_address(t[FORWARD], (t[VALUE], t[POSITION], job, batch))

    return call


@by_type
def update(job, batch, first, last):
    """Do as `update_from` does, with the input in the job's table."""
    _check(job, batch)

    def call(job, batch, first, last):
        t = job.inputs
        call_address(t[UPDATE], (t[VALUE], t[POSITION], job, batch, NUM(first), NUM(last)))

    return call


def _check(job, batch):
    """Raise TypeError where a caller would pass something else than what is compiled."""
    if (job, batch) != job_kinds(kind(job, "memory").dtype)[:2]:
        raise TypeError(f"the first layer is not called with {job}, {batch}")
