"""The first layer on zero-skipping input: only weights of inputs that are not zero are touched.

A data set becomes compressed rows once (`epochs.index_rows`), each cut into blocks of inputs.
Forward and update go block by block through the batch, and wide layers by panels of columns: the
weights of one block and panel stay in the caches for all samples of the batch. (Regrouping the
batch by input instead, so that each row of W is loaded once, cost 600 ns a sample at batch 10, more
than the rest.) Equal to the dense result for finite weights.
"""

from .. import machine
from ..ir.entries import gather_bias, pack_nonzeros, scatter_axpy
from ..ir.memory import (
    at,
    count_bits,
    lowest_bit,
    nonzero_bits,
    nonzero_mask,
    prefetch,
    put,
    vector_lanes,
)
from ..jit import inner
from ..machine import ENTRY_GROUP, MASK_BITS
from . import lists
from .records import NUM, SCALE, Columns, Store
from .stores import columns


@inner
def index_block(x, i, last, scale, position, value, k):
    """Write the entries of inputs i to last from place k on; return the place after their group."""
    k = _write_entries(x, i, last, scale, position, value, k)
    # Always as many zeros, with room for a group more: how many fill it up cannot be foreseen.
    for s in range(ENTRY_GROUP - 1):
        put(position, k + s, last - 1)
        put(value, k + s, 0)
    return (k + ENTRY_GROUP - 1) // ENTRY_GROUP * ENTRY_GROUP


@inner
def _mask(x, i, last):
    """Return a bit for each of the inputs from i on that is not zero, MASK_BITS at most."""
    if last - i >= MASK_BITS:
        return nonzero_bits(at(x, i))
    return nonzero_mask(at(x, i), last - i)


@inner
def _write_each(x, i, last, scale, position, value, k):
    """Write the entries of inputs i to last from place k on; return the next place."""
    while i < last:
        mask = _mask(x, i, last)
        while mask:
            j = i + lowest_bit(mask)
            put(position, k, j)
            put(value, k, x[j] * scale)
            k += 1
            mask &= mask - 1
        i += MASK_BITS
    return k


_write_entries = pack_nonzeros if machine.AVX512 else _write_each


@inner
def fill_group(position, value, k, j):
    """Write zeros at input j from place k on, up to the end of the group; return that place."""
    while k % ENTRY_GROUP:
        put(position, k, j)
        put(value, k, 0)
        k += 1
    return k


@inner
def _fetch(data, blocks, ahead, later, part, parts):
    """Ask for a part of a sample's entries ahead of time: shuffled, they come from main memory."""
    # Where they start must be known by then: a branch that waits for it costs 60 ns. So that is
    # asked for one batch earlier, and always for as many entries: a loop as long as the sample has
    # entries would be mispredicted. Part by part, as a CPU waits where it asks for many lines at
    # once: 784-100-10 at batch 200 takes 1 to 2 % less than with all in the first of six (Zen 4).
    size = data.fetched // parts + 1
    k = data.start[ahead * blocks] + part * size
    prefetch(at(data.position, k), size)
    prefetch(at(data.value, k), size)
    if part == 0:
        prefetch(at(data.start, later * blocks), 1)


@inner
def _entries(data, blocks, j, now, r):
    """Return where the entries of a sample in a block begin, and their number."""
    # Both are asked for one sample ahead: the end of a loop over entries is mispredicted nearly
    # always, and what follows would then wait for the second level cache as well. It gave 4 %.
    place = now[r] * blocks + j
    k = data.start[place]
    return k, data.start[place + 1] - k


@inner
def _forward(data, blocks, batch, c, store):
    """z[r] = bias + sum of the weights of the inputs of each sample that are not zero."""
    most = machine.SPARSE_COLUMNS * vector_lanes(store.W)
    part, parts = 0, blocks * ((c.width + most - 1) // most)
    for v in range(0, c.width, most):
        width, W, bias = min(most, c.width - v), at(store.W, v), at(store.bias, v)
        for j in range(blocks):
            after, rest = _entries(data, blocks, j, batch.now, 0)
            for r in range(batch.size):
                _fetch(data, blocks, batch.ahead[r], batch.later[r], part, parts)
                k, count = after, rest
                after, rest = _entries(data, blocks, j, batch.now, min(r + 1, batch.size - 1))
                z = at(c.z, r * c.row + v)
                gather_bias(
                    width, count, at(data.value, k), data.palette, at(data.position, k),
                    W, store.row, z, bias if j == 0 else z,
                )  # fmt: skip
            part += 1


@inner
def _update(data, blocks, first, last, batch, c):
    """W[i] += alpha * (sum of x[i] delta over the batch), for the inputs i of some blocks."""
    store = batch.target
    most = machine.SPARSE_COLUMNS * vector_lanes(store.W)
    for v in range(0, c.width, most):
        width, W = min(most, c.width - v), at(store.W, v)
        for j in range(first, last):
            after, rest = _entries(data, blocks, j, batch.now, 0)
            for r in range(batch.size):
                k, count = after, rest
                after, rest = _entries(data, blocks, j, batch.now, min(r + 1, batch.size - 1))
                scatter_axpy(
                    width, count, at(data.value, k), data.palette, at(data.position, k),
                    batch.alpha, at(c.delta, r * c.row + v), W, store.row,
                )  # fmt: skip


@inner
def forward(data, job, batch):
    """Write this thread's columns of the weighted inputs."""
    _forward(data, job.plan.blocks, batch, columns(job, batch.turn), job.params)


@inner
def update(data, job, batch, first, last):
    """Add alpha * gradient to this thread's columns of the weights of some blocks of inputs."""
    c = columns(job, batch.turn)
    if job.plan.lists:
        lists.update(data, job, first, last, batch, c)
    else:
        _update(data, job.plan.blocks, first, last, batch, c)


@inner
def _learn_entries(data, s, alpha, c, store):
    """W[i] += alpha * x[i] delta, for some columns and a sample in a single block."""
    k = data.start[s]
    scatter_axpy(
        c.width, data.start[s + 1] - k, at(data.value, k), data.palette, at(data.position, k),
        alpha, c.delta, store.W, store.row,
    )  # fmt: skip


@inner
def _part(c, store, v, most):
    """Return the columns from v on, so many at most, and where their weights are."""
    width = min(most, c.width - v)
    weights = Store(store.flat, at(store.W, v), at(store.bias, v), store.row)
    return Columns(c.first + v, width, c.row, at(c.z, v), at(c.delta, v)), weights


@inner
def learn_one(data, job, batch, slot, fresh):
    """Write this thread's columns of a sample's weighted inputs, after the update still due."""
    # Panel by panel, so that weights of inputs that both samples have are still in the first level:
    # on Zen 4 `deep1` takes 4 % less.
    c = columns(job, slot)
    _fetch(data, NUM(1), batch.ahead[0], batch.later[0], NUM(0), NUM(1))
    k, count = _entries(data, NUM(1), NUM(0), batch.now, NUM(0))
    most = machine.SPARSE_COLUMNS * vector_lanes(job.memory)
    for v in range(0, c.width, most):
        part, store = _part(c, job.params, v, most)
        if not fresh:
            _learn_entries(data, at(batch.now, -1)[0], batch.alpha, part, store)
        gather_bias(
            part.width, count, at(data.value, k), data.palette, at(data.position, k),
            store.W, store.row, part.z, store.bias,
        )  # fmt: skip


@inner
def update_last(data, job, s, slot, alpha):
    """Take the update of sample s that is still due."""
    _learn_entries(data, s, alpha, columns(job, slot), job.params)


@inner
def forward_row(data, job, value, position):
    """Do as `forward` does for one row that nobody has indexed, if that pays; return whether."""
    # `value` and `position` are room for an entry of each input, in whole groups.
    x, n_in, c, store = data.X, job.plan.sizes[0], columns(job, NUM(0)), job.params
    vectors, nonzeros = c.width // vector_lanes(store.W), 0
    for i in range(0, n_in, MASK_BITS):
        nonzeros += count_bits(_mask(x, i, n_in))
    if nonzeros * (machine.ENTRY_COST + vectors) > n_in * vectors:
        return False
    k = index_block(x, 0, n_in, job.work.scratch[SCALE], position, value, 0)
    gather_bias(c.width, k, value, None, position, store.W, store.row, c.z, store.bias)
    return True
