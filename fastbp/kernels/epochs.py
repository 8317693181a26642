"""Training: a whole stretch of it in one call, or the halves of a step that ranks share.

Each thread of a team makes the same call, but for `team`. A batch whose loss is not finite is not
learnt: training stops before it, with the flag STOPPED in work.integers. Shapes: `walk.records`.
"""

from .ir.memory import at, call_address, pointer, pointers, prefetch, put
from .jit import inner, kernel
from .machine import ENTRY_GROUP, ROWS_AHEAD, UPDATE_UNIT
from .walk import first_sparse, narrow, optimizers, records, stores
from .walk.batch import learn_chunk, learn_chunks, shares
from .walk.records import LEARN_ONES, NUM, POSITION, VALUE
from .walk.team import barrier, share, stopped


@kernel
def index_rows(X, scale, blocks, rows, start, position, value):
    """Index rows[0] <= s of X as far as there is room; rows[0] becomes the first one left."""
    # X is (samples, n_in); rows (2,); start (samples * blocks + 1,); position and value (room,).
    # rows[1] counts the samples that hold NaN or infinity once they are multiplied by `scale`.
    # The entries of sample s in block j stand at start[s * blocks + j] and before the next start:
    # the inputs that are not zero, then zeros that fill up the group, so that no loop over them has
    # a remainder. Values are multiplied by `scale`, or, where X holds bytes, kept as they are.
    n, n_in = X.shape
    block = (n_in + blocks - 1) // blocks
    worst = n_in + blocks * ENTRY_GROUP
    s = rows[0]
    k = start[s * blocks]
    positions, values = pointer(position), pointer(value)
    while s < n and k + worst <= position.size:
        # Which inputs are zero cannot be foreseen: a branch should not wait for main memory, too.
        prefetch(at(pointer(X), (s + ROWS_AHEAD) * n_in), n_in)
        first = k
        for j in range(blocks):
            last = min((j + 1) * block, n_in)
            x = at(pointer(X), s * n_in)
            k = first_sparse.index_block(x, j * block, last, scale, positions, values, k)
            start[s * blocks + j + 1] = k
        # A look at what is still in the cache: one at all of X beforehand took 10 ms for MNIST.
        rows[1] += not records.all_finite(at(values, first), k - first)
        s += 1
    rows[0] = s


@kernel
def index_entries(first, column, entry, scale, n_in, start, position, value):
    """Index rows that are compressed already, as `index_rows` does; return whether all is finite.

    Without padding, the entries of row s stand at first[s] and before first[s + 1]: their columns,
    in ascending order, and their values. There is room for all. start[0] says where to begin.
    """
    # first: (samples + 1,); column, entry: (entries,); start: (samples * blocks + 1,).
    samples = first.size - 1
    blocks = (start.size - 1) // samples
    block = (n_in + blocks - 1) // blocks
    positions, values, k, fine = pointer(position), pointer(value), start[0], True
    for s in range(samples):
        e, begun = first[s], k
        for j in range(blocks):
            last = min((j + 1) * block, n_in)
            while e < first[s + 1] and column[e] < last:
                if entry[e] != 0:
                    put(positions, k, column[e])
                    put(values, k, entry[e] * scale)
                    k += 1
                e += 1
            k = first_sparse.fill_group(positions, values, k, last - 1)
            start[s * blocks + j + 1] = k
        fine &= records.all_finite(at(values, begun), k - begun)
    return fine


@inner
def _learn_batches(job, order, n, span):
    plan, rate = job.plan, span.learning_rate
    for p in range(span.first, span.last, span.batch):
        m, which = min(span.batch, n - p), at(order, p)
        share_of_each, share_of_loss = shares(job.targets, which, m)
        if m <= plan.chunk:
            alpha, turn = -rate * share_of_each, (p - span.first) // span.batch & 1
            batch = records.batch_at(order, p, m, n, alpha, share_of_loss, job.params, turn)
            if not learn_chunk(job, batch, job.plan.blocks):
                return
        else:
            grads = stores.gradient_store(job)
            stores.clear(job, grads)
            if not learn_chunks(job, which, m, share_of_each, share_of_loss):
                return
            stores.add(job, -rate, grads)
            barrier(job.work.integers, job.team)


@kernel
def sgd_epoch(plan, params, inputs, targets, order, span, work, team):
    """Twin of `reference.sgd_epoch`, for the batches that start in span.first <= p < span.last."""
    stored, which = stores.job_of(plan, params, inputs, targets, work, team), pointer(order)
    job = stores.take_columns(stored)
    for epoch in range(span.epochs):
        barrier(job.work.integers, team)  # sums and turns begin anew
        here = records.in_epoch(job, epoch)
        if span.batch == 1 and not targets.weighted:
            t = here.inputs
            call_address(t[LEARN_ONES], (t[VALUE], t[POSITION], here, which, order.size, span))
        else:
            _learn_batches(here, which, order.size, span)
        if stopped(job.work.integers):
            break
    stores.return_columns(stored, job)


@kernel
def narrow_epoch(plan, params, inputs, targets, order, span, work, team):
    """Twin of `reference.sgd_epoch`, for narrow networks."""
    job, which = stores.job_of(plan, params, inputs, targets, work, team), pointer(order)
    for epoch in range(span.epochs):
        here = records.in_epoch(job, epoch)
        for p in range(span.first, span.last, span.batch):
            m = min(span.batch, order.size - p)
            if not narrow.learn_narrow(here, at(which, p), m, span.learning_rate):
                return


@inner
def _learn_by_rule(job, order, n, span, rule):
    plan, work, rate, held = job.plan, job.work, span.learning_rate, optimizers.held_by(job, rule)
    by_blocks = plan.blocks > 1 and rule.numbers[optimizers.CLIP] == 0
    for p in range(span.first, span.last, span.batch):
        m, which = min(span.batch, n - p), at(order, p)
        share_of_each, share_of_loss = shares(job.targets, which, m)
        grads, turn = held.grads, NUM(0)
        batch = records.batch_at(order, p, m, n, share_of_each, share_of_loss, grads, turn)
        if m <= plan.chunk and by_blocks:
            if not optimizers.learn_by_blocks(job, batch, held, rule, rate):
                return
            continue
        if m <= plan.chunk:
            fine = learn_chunk(job, batch, optimizers.learning_blocks(plan, rule))
            barrier(work.integers, job.upper)
        else:
            fine = learn_chunks(job, which, m, share_of_each, share_of_loss)
        if not fine:
            return
        optimizers.take_step(plan, held, work, job.team, rule, rate, m, share_of_each)


@kernel
def optimizer_epoch(plan, params, inputs, targets, order, span, work, rule, team):
    """Twin of `reference.optimizer_epoch`."""
    stored, optimizer = stores.job_of(plan, params, inputs, targets, work, team), pointers(rule)
    job = stores.take_columns(stored)
    stores.move_memory(stored, optimizer.state, optimizer.slots, False)
    low, high = share(records.size_of(job.plan), UPDATE_UNIT, team.thread, team.size)
    records.fill(job.work.grads, low, high, 0)  # with the padding
    stores.clear(job, stores.gradient_store(job))
    for epoch in range(span.epochs):
        _learn_by_rule(records.in_epoch(job, epoch), pointer(order), order.size, span, optimizer)
        if stopped(job.work.integers):
            break
    stores.return_columns(stored, job)
    stores.move_memory(stored, optimizer.state, optimizer.slots, True)


@kernel
def narrow_optimizer_epoch(plan, params, inputs, targets, order, span, work, rule, team):
    """Twin of `reference.optimizer_epoch`, for narrow networks."""
    job, optimizer = stores.job_of(plan, params, inputs, targets, work, team), pointers(rule)
    rate, held = span.learning_rate, optimizers.held_by(job, optimizer)
    for epoch in range(span.epochs):
        here = records.in_epoch(job, epoch)
        for p in range(span.first, span.last, span.batch):
            m = min(span.batch, order.size - p)
            if not narrow.learn_rounds(here, at(pointer(order), p), m):
                return
            optimizers.take_step(here.plan, held, here.work, here.team, optimizer, rate, m, 1 / m)


# A rank takes part of a batch. Between the halves the gradients are added up over the ranks; see
# `fastbp.training.mpi`.


@kernel
def part_gradient(plan, params, inputs, targets, order, span, work, team):
    """Add span.learning_rate * (sum of the gradients of a part of a batch) to work.grads."""
    # The sums of losses and hits go to the totals, the losses multiplied by their samples' weights.
    job = stores.job_of(plan, params, inputs, targets, work, team)
    which, m = at(pointer(order), span.first), span.last - span.first
    learn_chunks(job, which, m, span.learning_rate, 1.0)


@kernel
def narrow_part_gradient(plan, params, inputs, targets, order, span, work, team):
    """Do as `part_gradient` does, for narrow networks; work.grads is overwritten."""
    job = stores.job_of(plan, params, inputs, targets, work, team)
    which, m = at(pointer(order), span.first), span.last - span.first
    if m > 0 and narrow.learn_rounds(job, which, m):  # which makes a mean
        low, high = share(records.size_of(job.plan), UPDATE_UNIT, team.thread, team.size)
        records.scale(job.work.grads, low, high, span.learning_rate * m)


@kernel
def rule_step(plan, params, span, work, rule, share_of_each, team):
    """Twin of `reference.optimizer_step` along work.grads, which is zeroed."""
    # The penalty, times span.batch samples, goes to the totals.
    net, memory, optimizer = records.unpack(plan), pointers(work), pointers(rule)
    of_all = records.Team(NUM(team.thread), NUM(team.size))
    held = optimizers.held_as_stored(net, pointer(params), memory.grads, optimizer, of_all)
    optimizers.take_step(
        net, held, memory, of_all, optimizer, span.learning_rate, span.batch, share_of_each
    )
