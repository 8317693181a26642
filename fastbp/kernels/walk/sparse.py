"""The first layer on zero-skipping input: only weights of inputs that are not zero are touched.

`index_rows` turns a data set into compressed rows once, each cut into blocks of inputs. Forward and
update go block by block through the batch, and wide layers by panels of columns: the weights of one
block and panel stay in the caches for all samples of the batch. (Regrouping the batch by input
instead, so that each row of W is loaded once, cost 600 ns a sample at batch 10, more than the
rest.) Equal to the dense result for finite weights.
"""

from ..ir.tiles import GROUP, SPARSE_COLUMNS, gather_bias, scatter_axpy
from ..ir.vectors import (
    LINE,
    MASK_BITS,
    at,
    bits,
    lowest_bit,
    nonzero_mask,
    pointer,
    prefetch,
    vector_lanes,
)
from ..jit import inner, kernel, vector_bytes
from .records import all_finite

ROWS_AHEAD = 8
# Panels of a team, in vectors: two lines, where its share of W is so narrow that all panels lie
# close to another thread's columns, which CPUs fetch, too, after three lines in a row. One thread
# alone is 10 % faster over wider ones. With 784-100-10 at batches of 10 and 33, two threads were
# 0.8 to 1.05 times as fast as one, and are 1.5 and 1.6 times as fast so.
TEAM_COLUMNS = min(SPARSE_COLUMNS, 2 * LINE // vector_bytes())
NARROW_SHARE = 6 * TEAM_COLUMNS
ENTRY = 2  # what it costs to index an entry for a single use, in vectors of weights


@kernel
def index_rows(X, scale, blocks, rows, start, position, value):
    """Index rows[0] <= s of X as far as there is room; rows[0] becomes the first one left.

    rows[1] counts the samples that hold NaN or infinity once they are multiplied by `scale`.

    The entries of sample s in block j stand at start[s * blocks + j] and before the next start:
    the inputs that are not zero, then zeros that fill up the group, so that no loop over them has a
    remainder. Values are multiplied by `scale`, or, where X holds bytes, kept as they are.
    """
    n, n_in = X.shape
    block = (n_in + blocks - 1) // blocks
    worst = n_in + blocks * GROUP
    s = rows[0]
    k = start[s * blocks]
    positions, values = pointer(position), pointer(value)
    while s < n and k + worst <= position.size:
        # Which inputs are zero is not foreseen: a branch had better not wait for main memory, too.
        prefetch(at(pointer(X), (s + ROWS_AHEAD) * n_in), n_in)
        first = k
        for j in range(blocks):
            last = min((j + 1) * block, n_in)
            k = _index_block(at(pointer(X), s * n_in), j * block, last, scale, positions, values, k)
            start[s * blocks + j + 1] = k
        # A look at what is still in the cache: one at all of X beforehand took 10 ms for MNIST.
        rows[1] += not all_finite(at(values, first), k - first)
        s += 1
    rows[0] = s


@inner
def _index_block(x, i, last, scale, position, value, k):
    """Write the entries of inputs i to last from place k on; return the place after their group."""
    while i < last:
        mask = nonzero_mask(at(x, i), last - i)
        while mask:
            j = i + lowest_bit(mask)
            position[k] = j
            value[k] = x[j] * scale
            k += 1
            mask &= mask - 1
        i += MASK_BITS
    while k % GROUP:
        position[k] = last - 1
        value[k] = 0
        k += 1
    return k


@inner
def _fetch(data, blocks, ahead, later):
    """Ask for a sample's entries ahead of time: in shuffled order they come from main memory.

    Where they start had better be known by then: a branch that waits for it costs 60 ns. So that is
    asked for one batch earlier, and always for as many entries: a loop as long as the sample has
    entries would be mispredicted.
    """
    k = data.start[ahead * blocks]
    prefetch(at(data.position, k), data.typical)
    prefetch(at(data.value, k), data.typical)
    prefetch(at(data.start, later * blocks), 1)


@inner
def _entries(data, blocks, j, samples, r):
    """Return where the entries of a sample in a block begin, and their number.

    Both are asked for one sample ahead: the end of a loop over entries is mispredicted nearly
    always, and what follows would then wait for the second level cache as well. It gave 4 %.
    """
    place = samples.now[r] * blocks + j
    k = data.start[place]
    return k, data.start[place + 1] - k


@inner
def _panel(width, lanes, team):
    """Return how many columns are taken at once."""
    close = team > 1 and width <= NARROW_SHARE * lanes
    return (TEAM_COLUMNS if close else SPARSE_COLUMNS) * lanes


@inner
def forward(data, blocks, samples, rows, width, W, stride, z, bias, team):
    """z[r] = bias + sum of the weights of the inputs lit in each sample."""
    panel = _panel(width, vector_lanes(W), team)
    for v in range(0, width, panel):
        columns = min(panel, width - v)
        for j in range(blocks):
            after, rest = _entries(data, blocks, j, samples, 0)
            for r in range(rows):
                if v == 0 and j == 0:
                    _fetch(data, blocks, samples.ahead[r], samples.later[r])
                k, count = after, rest
                after, rest = _entries(data, blocks, j, samples, min(r + 1, rows - 1))
                row = at(z, r * stride + v)
                gather_bias(
                    columns, count, at(data.value, k), data.palette, at(data.position, k),
                    at(W, v), stride, row, at(bias, v) if j == 0 else row,
                )  # fmt: skip


@inner
def forward_row(x, n_in, factor, width, W, stride, z, bias, value, position):
    """Do as `forward` does for one row that nobody has indexed, if that pays; return whether.

    `value` and `position` are room for an entry of each input, in whole groups.
    """
    vectors, lit = width // vector_lanes(W), 0
    for i in range(0, n_in, MASK_BITS):
        lit += bits(nonzero_mask(at(x, i), n_in - i))
    if lit * (ENTRY + vectors) > n_in * vectors:
        return False
    k = _index_block(x, 0, n_in, factor, position, value, 0)
    gather_bias(width, k, value, None, position, W, stride, z, bias)
    return True


@inner
def update(data, blocks, samples, rows, width, delta, target, stride, alpha, team):
    """target[i] += alpha * (sum of x[i] delta over the batch)."""
    panel = _panel(width, vector_lanes(target), team)
    for v in range(0, width, panel):
        columns = min(panel, width - v)
        for j in range(blocks):
            _update_panel(
                data, blocks, j, samples, rows, columns, at(delta, v), at(target, v), stride, alpha
            )


@inner
def update_block(data, blocks, j, samples, rows, width, delta, target, stride, alpha):
    """The update of the inputs of one block."""
    panel = SPARSE_COLUMNS * vector_lanes(target)
    for v in range(0, width, panel):
        columns = min(panel, width - v)
        _update_panel(
            data, blocks, j, samples, rows, columns, at(delta, v), at(target, v), stride, alpha
        )


@inner
def _update_panel(data, blocks, j, samples, rows, columns, delta, target, stride, alpha):
    after, rest = _entries(data, blocks, j, samples, 0)
    for r in range(rows):
        k, count = after, rest
        after, rest = _entries(data, blocks, j, samples, min(r + 1, rows - 1))
        scatter_axpy(
            columns, count, at(data.value, k), data.palette, at(data.position, k), alpha,
            at(delta, r * stride), target, stride,
        )  # fmt: skip
