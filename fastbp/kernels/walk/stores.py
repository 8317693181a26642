"""Where each thread's columns of the first layer lie, and what is its own above it.

While a team trains, the columns of each thread lie in a panel of its own, and so do their weighted
inputs and deltas: CPUs fetch the lines beside those that are asked for, and so take columns away
from the thread that writes them. On Emerald Rapids a team of two took up to 1.9 times as long as
one thread for that. The panels are filled when a call begins, and copied back at its end: no sum
changes its order.

Where what is above the first layer is small, each thread does it for all samples on a copy of its
own: the same sums in the same order, and only z crosses between cores. Its scratch and its sums
then are its own, too.
"""

from ..ir.memory import at, like, pointer, pointers, put, vector_lanes
from ..ir.transpose import transpose
from ..jit import inner
from ..machine import UPDATE_UNIT
from .records import (
    NUM,
    Columns,
    Job,
    Store,
    Team,
    Work,
    add_scaled,
    copy,
    fill,
    size_of,
    unpack,
)  # fmt: skip
from .team import share


@inner
def job_of(plan, params, inputs, targets, work, team):
    """Return the job that the records of a call describe."""
    net, memory = unpack(plan), pointers(work)
    own, upper = _thread_work(net, memory, team), _upper_team(net, team)
    store = as_stored(net, pointer(params), team)
    return Job(net, store, pointer(inputs), pointers(targets), own, team, upper, memory.scratch)


@inner
def lone_job(plan, params, targets, work):
    """Return the job of a thread that works alone, of pointers; its input is not in it."""
    team = Team(NUM(0), NUM(1))
    store = as_stored(plan, params, team)
    return Job(plan, store, work.integers, targets, work, team, team, work.scratch)


@inner
def _upper_team(plan, team):
    """Return who shares what is above the first layer."""
    return Team(NUM(0), NUM(1)) if plan.whole else team


@inner
def _thread_work(plan, work, team):
    """Return the memory for what is above the first layer: the team's, or the thread's own."""
    if not plan.whole:
        return work
    scratch = at(work.scratch, team.thread * plan.thread_scratch)
    sums = at(work.sums, team.thread * plan.thread_sums)
    return Work(scratch, sums, work.integers, work.grads)


@inner
def columns_of(job, thread, turn):
    """Return a thread's columns of the first layer."""
    plan = job.plan
    v, end = share(plan.widths[1], vector_lanes(job.memory), thread, job.team.size)
    place = at(job.memory, thread * plan.thread_scratch)
    z = at(place, plan.z + turn * plan.turn)
    return Columns(v, end - v, plan.row, z, at(place, plan.columns_delta))


@inner
def columns(job, turn):
    """Return this thread's columns of the first layer."""
    return columns_of(job, job.team.thread, turn)


@inner
def outputs(job):
    """Return how many neurons of the first layer are this thread's."""
    c = columns(job, NUM(0))
    return min(c.width, job.plan.sizes[1] - c.first)


@inner
def panel(job):
    """Return where this thread's products may copy columns side by side, or null."""
    plan, memory = job.plan, job.memory
    if not plan.panel:
        return like(memory, 0)
    return at(memory, job.team.thread * plan.thread_scratch + plan.panel)


@inner
def owners(job, l):
    """Return from which thread on to which layer l's deltas go: one, or those of its columns."""
    team = job.team
    if l > 1:
        return NUM(0), NUM(1)
    if job.plan.whole:
        return team.thread, team.thread + 1
    return NUM(0), team.size


# -- stores ----------------------------------------------------------------------------------------


@inner
def as_stored(plan, flat, team):
    """Return parameters, or a gradient, with this thread's columns in the rows of storage."""
    v, _ = share(plan.widths[1], vector_lanes(flat), team.thread, team.size)
    return Store(flat, at(flat, plan.w[1] + v), at(flat, plan.b[1] + v), plan.strides[1])


@inner
def _panel(plan, flat, memory, team, skip):
    """Return what a thread has of parameters to itself, or behind it (`skip`) of a gradient."""
    own = at(memory, team.thread * plan.thread_scratch + plan.local + skip)
    above, bias = own if plan.whole else flat, at(own, plan.b[1])
    if plan.turned:
        return Store(above, at(own, size_of(plan)), bias, plan.turned)
    return Store(above, at(own, plan.w[1]), bias, plan.row)


@inner
def gradient_store(job):
    """Return where the gradients of a batch are added up."""
    plan, team, flat = job.plan, job.team, job.work.grads
    if plan.local:
        return _panel(plan, flat, job.memory, team, plan.local_size)
    return as_stored(plan, flat, team)


@inner
def _take_weights(plan, width, p, q):
    """Copy this thread's columns of stored weights to where they are trained."""
    if plan.turned:
        transpose(plan.sizes[0], width, q.W, q.row, p.W, p.row)
        return
    for i in range(plan.sizes[0]):
        copy(at(p.W, i * p.row), at(q.W, i * q.row), width)


@inner
def _return_weights(job, width, p, q):
    """Copy this thread's columns of weights back to where they are stored."""
    n_in = job.plan.sizes[0]
    if not job.plan.turned:
        for i in range(n_in):
            copy(at(p.W, i * p.row), at(q.W, i * q.row), width)
        return
    count, whole = outputs(job), n_in - n_in % vector_lanes(job.memory)
    transpose(count, whole, q.W, q.row, p.W, p.row)
    for i in range(whole, n_in):
        for j in range(count):
            put(p.W, i * p.row + j, q.W[j * q.row + i])


@inner
def _upper_copy(plan, p, q):
    """Copy all that is above the first layer."""
    start = plan.b[1] + plan.strides[1]
    copy(at(p.flat, start), at(q.flat, start), size_of(plan) - start)


@inner
def take_columns(job):
    """Return the job with the parameters where this thread trains them; `return_columns` after."""
    plan, team, stored = job.plan, job.team, job.params
    if not plan.local:
        return job
    own = _panel(plan, stored.flat, job.memory, team, 0)
    width = columns(job, NUM(0)).width
    _take_weights(plan, width, own, stored)
    copy(own.bias, stored.bias, width)
    if plan.whole:
        _upper_copy(plan, own, stored)
    return Job(plan, own, job.inputs, job.targets, job.work, team, job.upper, job.memory)


@inner
def return_columns(job, trained):
    """Copy the parameters back from where this thread has trained them."""
    plan, team = job.plan, job.team
    if not plan.local:
        return
    width = columns(job, NUM(0)).width
    _return_weights(job, width, job.params, trained.params)
    copy(job.params.bias, trained.params.bias, width)
    if plan.whole and team.thread == 0:
        _upper_copy(plan, job.params, trained.params)


@inner
def upper_share(plan, upper):
    """Return this thread's share of the parameters above the first layer."""
    start = plan.b[1] + plan.strides[1]
    low, high = share(size_of(plan) - start, UPDATE_UNIT, upper.thread, upper.size)
    return start + low, start + high


@inner
def _rows(job):
    """Return the rows of this thread's weights of the first layer, and how long they are."""
    if job.plan.turned:
        return outputs(job), job.plan.turned
    return job.plan.sizes[0], columns(job, NUM(0)).width


@inner
def add(job, alpha, gradient):
    """Add alpha * gradient to this thread's share of the parameters."""
    plan, params, width = job.plan, job.params, columns(job, NUM(0)).width
    rows, length = _rows(job)
    for i in range(rows):
        add_scaled(at(params.W, i * params.row), 0, length, alpha, at(gradient.W, i * gradient.row))
    add_scaled(params.bias, 0, width, alpha, gradient.bias)
    low, high = upper_share(plan, job.upper)
    add_scaled(params.flat, low, high, alpha, gradient.flat)


@inner
def clear(job, store):
    """Set this thread's share of a gradient to zero."""
    plan, width = job.plan, columns(job, NUM(0)).width
    rows, length = _rows(job)
    for i in range(rows):
        fill(at(store.W, i * store.row), 0, length, 0)
    fill(store.bias, 0, width, 0)
    low, high = upper_share(plan, job.upper)
    fill(store.flat, low, high, 0)
