"""The first layer, where W is large, and inputs are rows or compressed rows (`first_sparse`).

Rows may be bytes, or wait to be scaled. A thread owns columns of W through forward and update, so
that W stays in its cache.
"""

from ..ir.memory import at, call_address, prefetch, put, vector_lanes
from ..ir.single import update_and_forward
from ..ir.tiles import pack
from ..jit import by_type, inner, unit
from ..machine import CPU, PASS_SAMPLES, STEP_BYTES
from . import first_sparse
from .products import (
    add_packed,
    add_product,
    add_product_by_steps,
    add_product_turned,
    multiply_bias,
    multiply_turned,
    packed_at,
)  # fmt: skip
from .records import (
    FORWARD,
    NUM,
    POSITION,
    SCALE,
    UPDATE,
    VALUE,
    Matrix,
    Rows,
    is_dense,
    job_kinds,
    kind,
    numbers,
)  # fmt: skip
from .stores import columns, outputs, panel
from .team import SAMPLES_UNIT, barrier, share

_STEP_VECTORS = STEP_BYTES // CPU.vector_bytes


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
def _samples(data, job, which, ahead, slot):
    """Return samples where they are multiplied; copies lie in the scratch from row `slot` on."""
    plan, in_order = job.plan, numbers(job.work)
    if _converts(data, job):
        row = plan.strides[0]
        return Rows(at(job.work.scratch, plan.a[0] + slot * row), row, in_order, in_order)
    return Rows(_originals(data, job), plan.sizes[0], which, ahead)


@unit
def _forward(data, job, batch):
    plan, upper = job.plan, job.upper
    if _converts(data, job):
        barrier(job.work.integers, upper)  # others may still read the copies before
        r0, r1 = share(batch.size, SAMPLES_UNIT, upper.thread, upper.size)
        _convert(plan, data.X, batch.now, r0, r1, job.work.scratch, NUM(0))
        barrier(job.work.integers, upper)
    # Where an update follows by steps, it asks for the next batch, at half the pace: 784-30-10 at
    # batches of ten takes 5 % less (Zen 4).
    ahead = batch.now if batch.alpha != 0 and _by_steps(job) else batch.ahead
    x = _samples(data, job, batch.now, ahead, NUM(0))
    c, store = columns(job, batch.turn), job.params
    w, z = Matrix(store.W, store.row), Matrix(c.z, c.row)
    if plan.turned:
        multiply_turned(batch.size, outputs(job), plan.sizes[0], x, w, z, store.bias)
        return
    multiply_bias(batch.size, c.width, plan.sizes[0], x, w, z, store.bias, panel(job))
    if plan.packed:  # for the update, which begins after a barrier
        barrier(job.work.integers, upper)  # others may still read what was packed before
        packed = packed_at(plan, job.work.scratch, plan.packed)
        r0, r1 = share(batch.size, SAMPLES_UNIT, upper.thread, upper.size)
        pack(r0, r1, plan.sizes[0], x.start, x.row, x.which, packed.start, packed.row)


@inner
def _by_steps(job):
    """Return whether W is updated some samples at a time: the same for any number of threads."""
    plan = job.plan
    return plan.sizes[0] * plan.strides[1] <= _STEP_VECTORS * vector_lanes(job.memory)


@unit
def _update(data, job, batch, first, last):
    x = _samples(data, job, batch.now, batch.ahead, NUM(0))
    c, store = columns(job, batch.turn), batch.target
    d, w = Matrix(c.delta, c.row), Matrix(store.W, store.row)
    n_in = job.plan.sizes[0]
    if job.plan.turned:
        add_product_turned(n_in, outputs(job), batch.size, x, d, w, batch.alpha)
    elif job.plan.packed:
        packed = packed_at(job.plan, job.work.scratch, job.plan.packed)
        add_packed(n_in, c.width, batch.size, packed, x, d, w, batch.alpha)
    elif _by_steps(job):
        add_product_by_steps(n_in, c.width, batch.size, x, d, w, batch.alpha)
    else:
        add_product(n_in, c.width, batch.size, x, d, w, batch.alpha)


@inner
def block(data, job, which, ahead, count, turn):
    """Return some samples that are learnt one by one; copies lie in two places, in turns."""
    plan, slot = job.plan, turn * PASS_SAMPLES
    n_in = plan.sizes[0]
    if _converts(data, job):
        _convert(plan, data.X, which, NUM(0), count, job.work.scratch, slot)
        for r in range(count):
            prefetch(at(data.X, ahead[r] * n_in), n_in)
    return _samples(data, job, which, ahead, slot)


@inner
def learn_and_forward(job, old, due, x, count, turn, alpha):
    """The update of a block of samples and the forward pass of the next, in one pass over W."""
    c, store = columns(job, turn), job.params
    update_and_forward(
        c.width, job.plan.sizes[0], alpha, due, old.start, old.which, x.start, x.which, x.ahead,
        count, x.row, c.delta, store.W, store.row, c.z, c.row, store.bias,
    )  # fmt: skip


@by_type
def forward_from(data, job, batch):
    """Write this thread's columns of the first layer's weighted inputs."""
    # Where zeros are skipped, inlined: as a unit, 784-30-10 at batches of ten took 1 % more.
    chosen = _forward if is_dense(data) else first_sparse.forward
    return lambda data, job, batch: chosen(data, job, batch)


@by_type
def update_from(data, job, batch, first, last):
    """Add alpha * gradient to this thread's columns of the first layer's weights in the target."""
    # Those of zero-skipping input: of the blocks first <= j < last.
    chosen = _update if is_dense(data) else first_sparse.update
    return lambda data, job, batch, first, last: chosen(data, job, batch, first, last)


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
