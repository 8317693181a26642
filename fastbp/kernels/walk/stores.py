"""Where each thread's columns of the first layer lie, and what is its own above it.

While a team trains, the columns of each thread lie in a panel of its own, and so do their weighted
inputs and deltas: CPUs fetch the lines beside those that are asked for, and so take columns away
from the thread that writes them. On Emerald Rapids a team of two took up to 1.9 times as long as
one thread for that. The panels are filled when a call begins, and copied back at its end: no sum
changes its order. So do their gradients, and what an optimiser remembers of them. Of narrow dense
layers the weights lie output by output there, also where one thread works alone (see `ir.along`).

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
def _unit(plan, p):
    """Return in units of how many columns threads share the first layer."""
    # Output by output no vectors are cut: 784-50-10 is 24 and 26 columns, where it was 32 and 18.
    # Slopes that are kept come in whole vectors, with activations, and so do the masks of both.
    halves = plan.turned and not plan.kept[1]
    return vector_lanes(p) // 2 if halves else vector_lanes(p)


@inner
def columns_of(job, thread, turn):
    """Return a thread's columns of the first layer."""
    plan = job.plan
    v, end = share(plan.widths[1], _unit(plan, job.memory), thread, job.team.size)
    place = at(job.memory, thread * plan.thread_scratch)
    z = at(place, plan.z + turn * plan.turn)
    return Columns(v, end - v, plan.row, z, at(place, plan.columns_delta))


@inner
def columns(job, turn):
    """Return this thread's columns of the first layer."""
    return columns_of(job, job.team.thread, turn)


@inner
def outputs(job):
    """Return how many neurons of the first layer are this thread's: none of nothing but padding."""
    c = columns(job, NUM(0))
    return max(NUM(0), min(c.width, job.plan.sizes[1] - c.first))


@inner
def own_scratch(job):
    """Return this thread's part of the scratch, whoever shares what is above the first layer."""
    return at(job.memory, job.team.thread * job.plan.thread_scratch)


@inner
def panel(job):
    """Return where this thread's products may copy columns side by side, or null."""
    if not job.plan.panel:
        return like(job.memory, 0)
    return at(own_scratch(job), job.plan.panel)


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
    v, _ = share(plan.widths[1], _unit(plan, flat), team.thread, team.size)
    return Store(flat, at(flat, plan.w[1] + v), at(flat, plan.b[1] + v), plan.strides[1])


@inner
def _panel(plan, flat, memory, team, number):
    """Return what a thread has to itself: parameters, their gradient, what is remembered."""
    skip = plan.local + number * plan.local_size
    own = at(memory, team.thread * plan.thread_scratch + skip)
    above, bias = own if plan.whole else flat, at(own, plan.b[1])
    if plan.turned:
        return Store(above, at(own, size_of(plan)), bias, plan.turned)
    return Store(above, at(own, plan.w[1]), bias, plan.row)


@inner
def gradient_store(job):
    """Return where the gradients of a batch are added up."""
    plan, team, flat = job.plan, job.team, job.work.grads
    if plan.local:
        return _panel(plan, flat, job.memory, team, NUM(1))
    return as_stored(plan, flat, team)


@inner
def memory_store(job, flat):
    """Return where an optimiser remembers; further numbers are `size_of` elements apart."""
    if job.plan.local:
        return _panel(job.plan, flat, job.memory, job.team, NUM(2))
    return as_stored(job.plan, flat, job.team)


@inner
def behind(store, count):
    """Return a store so many elements behind another."""
    return Store(at(store.flat, count), at(store.W, count), at(store.bias, count), store.row)


@inner
def whole_width(job, c):
    """Return the width of a thread's columns in whole units: sums are of whole vectors."""
    unit = _unit(job.plan, job.memory)
    return (c.width + unit - 1) // unit * unit


@inner
def _own_width(job):
    """Return the width of this thread's columns in whole units."""
    return whole_width(job, columns(job, NUM(0)))


@inner
def _copy_weights(job, width, p, q):
    """Copy this thread's columns of the first layer's weights from store q to p."""
    for i in range(job.plan.sizes[0]):
        copy(at(p.W, i * p.row), at(q.W, i * q.row), width)


@inner
def _copy_rest(job, width, p, q, above):
    """Copy biases of this thread's columns, and what is `above` the first layer."""
    plan = job.plan
    copy(p.bias, q.bias, width)
    if above:
        start = plan.b[1] + plan.strides[1]
        copy(at(p.flat, start), at(q.flat, start), size_of(plan) - start)


@inner
def _turn_back(job, p, q):
    """Copy weights that lie output by output in store q to the rows of storage."""
    # Whole squares of vectors, and what is left of inputs and outputs: beside are others' columns.
    n_in, count, lanes = job.plan.sizes[0], outputs(job), vector_lanes(job.memory)
    rows, cols = n_in - n_in % lanes, count - count % lanes
    transpose(cols, rows, q.W, q.row, p.W, p.row)
    for i in range(n_in):
        for j in range(cols if i < rows else 0, count):
            put(p.W, i * p.row + j, q.W[j * q.row + i])


@inner
def take_columns(job):
    """Return the job with the parameters where this thread trains them; `return_columns` after."""
    plan, team, stored, width = job.plan, job.team, job.params, _own_width(job)
    if not plan.local:
        return job
    own = _panel(plan, stored.flat, job.memory, team, NUM(0))
    if plan.turned:
        transpose(plan.sizes[0], width, stored.W, stored.row, own.W, own.row)
    else:
        _copy_weights(job, width, own, stored)
    _copy_rest(job, width, own, stored, plan.whole)
    return Job(plan, own, job.inputs, job.targets, job.work, team, job.upper, job.memory)


@inner
def return_columns(job, trained):
    """Copy the parameters back from where this thread has trained them."""
    if not job.plan.local:
        return
    width, above = columns(job, NUM(0)).width, job.plan.whole and job.team.thread == 0
    if job.plan.turned:
        _turn_back(job, job.params, trained.params)
    else:
        _copy_weights(job, width, job.params, trained.params)
    _copy_rest(job, width, job.params, trained.params, above)


@inner
def _move(job, width, p, q, above):
    """Copy what is this thread's from store q to p."""
    _copy_weights(job, width, p, q)
    _copy_rest(job, width, p, q, above)


@inner
def move_memory(job, flat, count, back):
    """Copy so many numbers of each parameter to where a thread keeps them, or back."""
    size, whole = size_of(job.plan), job.plan.whole
    for k in range(count if job.plan.local else 0):
        own = behind(memory_store(job, flat), k * size)
        stored = behind(as_stored(job.plan, flat, job.team), k * size)
        if back:
            _move(job, columns(job, NUM(0)).width, stored, own, whole and job.team.thread == 0)
        else:
            _move(job, _own_width(job), own, stored, whole)


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
    return job.plan.sizes[0], _own_width(job)


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
    plan, width = job.plan, _own_width(job)
    rows, length = _rows(job)
    for i in range(rows):
        fill(at(store.W, i * store.row), 0, length, 0)
    fill(store.bias, 0, width, 0)
    low, high = upper_share(plan, job.upper)
    fill(store.flat, low, high, 0)
