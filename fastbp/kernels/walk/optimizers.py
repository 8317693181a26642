"""Optimisers: the gradient goes to a buffer, and from there, in one pass, to the weights.

A pass reads gradient, weights and state once, writes what changes, and leaves zeros for the next
gradient; L2, clipping and AdamW's decay are factors in it, and L1 is a pass of its own before it.
Denormal numbers are taken for zeros. Padding stays zero, since its gradient and state are.

The parameters are cut into blocks: the weights of each block of inputs, those of each layer above,
and each layer's biases. A step takes weights in STEP_PIECES pieces, which threads share out, but
for columns of the first layer that are a thread's own. Sums are of each piece's vectors of
columns, and added up in one order: they have the same bits for any number of threads.
"""

import math
from typing import NamedTuple

import numpy as np

from ..ir.denormals import flush_denormals, restore_denormals
from ..ir.memory import at, number, put, sum_of_sizes, sum_of_squares, vector_lanes
from ..jit import inner, unit
from ..machine import STEP_PIECES
from . import first
from .batch import learn_upper
from .records import NUM, ONE, Store, Team, fill, size_of, with_target
from .stores import as_stored, columns, gradient_store, memory_store
from .team import barrier, share

CLIP_SLACK = 1e-6  # as in PyTorch: no division by zero


class RuleArrays(NamedTuple):
    """An optimiser at work."""

    numbers: np.ndarray  # float64, by the names below
    clock: np.ndarray  # float64, (1,): the steps taken
    state: np.ndarray  # what it remembers of each parameter: velocities, or moments
    sums: np.ndarray  # float64: of squares, for the norm, then for L2; behind them of sizes, for L1
    count: int  # of the sums of a kind: for each piece of each block
    vectors: int  # so many
    slots: int  # numbers that are remembered of each parameter


# Behind them stands for each layer whether it is frozen.
KIND, FIRST, SECOND, EPSILON, CORRECTED, L2, OVER_SUM, CLIP, L1, SHRINK, FROZEN = range(11)
PLAIN, MOMENTUM, NESTEROV, ADAM, RMSPROP = range(5)
KINDS = {
    "sgd": PLAIN, "momentum": MOMENTUM, "nesterov": NESTEROV, "adam": ADAM, "rmsprop": RMSPROP,
}  # fmt: skip


class StepFactors(NamedTuple):
    """What a step multiplies: p -= rate * (factor * g + decay * p), and variations on it."""

    rate: float
    factor: float
    decay: float
    l1: float
    shrink: float  # of Adam: rate times weight_decay, for p -= shrink * p


class AdamFactors(NamedTuple):
    """The numbers of a step of Adam: its size, the factor of the root, and those of the rule.

    RMSprop has some of them: epsilon, and beta_2 of its mean of squares.
    """

    step: float
    root: float
    epsilon: float
    beta_1: float
    beta_2: float


@inner
def _plain(p, g, low, high, s):
    for i in range(low, high):
        put(p, i, p[i] - s.rate * (s.factor * g[i] + s.decay * p[i]))
        put(g, i, 0)


@inner
def step_momentum(p, velocity, g, low, high, s, momentum):
    """v = momentum * v - step; p += v."""
    for i in range(low, high):
        v = momentum * velocity[i] - s.rate * (s.factor * g[i] + s.decay * p[i])
        put(velocity, i, v)
        put(p, i, p[i] + v)
        put(g, i, 0)


@inner
def step_nesterov(p, velocity, g, low, high, s, momentum):
    """v = momentum * v - step; p += momentum * v - step."""
    for i in range(low, high):
        step = s.rate * (s.factor * g[i] + s.decay * p[i])
        v = momentum * velocity[i] - step
        put(velocity, i, v)
        put(p, i, p[i] + (momentum * v - step))
        put(g, i, 0)


@inner
def step_adam(p, moments, g, low, high, s, adam):
    """One step of Adam; `moments` are the pointers to the first and the second."""
    first, second = moments
    # Complements in double: 1 minus the rounded 0.999 is off by 1.3e-5 in float32.
    old_1, new_1 = number(p, adam.beta_1), number(p, 1 - adam.beta_1)
    old_2, new_2 = number(p, adam.beta_2), number(p, 1 - adam.beta_2)
    for i in range(low, high):
        x = s.factor * g[i] + s.decay * p[i]
        m = old_1 * first[i] + new_1 * x
        v = old_2 * second[i] + new_2 * (x * x)
        put(first, i, m)
        put(second, i, v)
        step = adam.step * m / (adam.root * number(p, math.sqrt(v)) + adam.epsilon)
        put(p, i, p[i] - (step + s.shrink * p[i]))
        put(g, i, 0)


@inner
def step_rmsprop(p, second, g, low, high, s, adam):
    """One step of RMSprop; `second` is the mean of squares."""
    old, new = number(p, adam.beta_2), number(p, 1 - adam.beta_2)
    for i in range(low, high):
        x = s.factor * g[i] + s.decay * p[i]
        v = old * second[i] + new * (x * x)
        put(second, i, v)
        put(p, i, p[i] - s.rate * x / (number(p, math.sqrt(v)) + adam.epsilon))
        put(g, i, 0)


@inner
def _add_l1(p, g, count, s):
    """g = factor * g + l1 * sign(p)."""
    for i in range(count):
        sign = number(p, p[i] > 0) - number(p, p[i] < 0)
        put(g, i, s.factor * g[i] + s.l1 * sign)


@inner
def adam_numbers(p, rate, beta_1, beta_2, epsilon, corrected, t):
    """Return the numbers of step t, in which the moments are corrected for their start at zero."""
    root = 1 / math.sqrt(1 - beta_2**t)
    if not corrected:  # epsilon stands beside the root as it is: in all, it grows as the root does
        epsilon *= root
    step = number(p, rate / (1 - beta_1**t))
    return AdamFactors(step, number(p, root), number(p, epsilon), beta_1, beta_2)


class Step(NamedTuple):
    """A step of an optimiser: what all its parameters are multiplied by."""

    rule: RuleArrays
    factors: StepFactors
    adam: AdamFactors


@inner
def _step_of(rule, p, rate, factor, share_of_each):
    """Return a step, with numbers of the pointer's type."""
    # Once a step: two powers for each stretch of parameters took 3 % of 64-100-10 at batch 200.
    numbers = rule.numbers
    factors = StepFactors(
        rate, number(p, factor), number(p, _penalty(rule, L2, share_of_each)),
        number(p, _penalty(rule, L1, share_of_each)), number(p, rate * numbers[SHRINK]),
    )  # fmt: skip
    adam = adam_numbers(
        p, rate, numbers[FIRST], numbers[SECOND], numbers[EPSILON],
        numbers[CORRECTED] != 0, rule.clock[0] + 1,
    )  # fmt: skip
    return Step(rule, factors, adam)


@inner
def _undecayed(step, p):
    """Return the step of biases, without penalties and decay."""
    s, none = step.factors, number(p, 0)
    return Step(step.rule, StepFactors(s.rate, s.factor, none, none, none), step.adam)


@inner
def _after_l1(step, p):
    """Return the step that is left after `_add_l1`, which clips the gradient already."""
    # One call of `_pass` for both: with a second one steps of 784-30-10 took 10 % more.
    s = step.factors
    factor = number(p, 1) if s.l1 != 0 else s.factor
    return Step(step.rule, StepFactors(s.rate, factor, s.decay, s.l1, s.shrink), step.adam)


@inner
def _pass(step, size, stretch, count):
    numbers, s, p, g, state = (
        step.rule.numbers, step.factors, stretch.p, stretch.g, stretch.state,
    )  # fmt: skip
    kind, first = numbers[KIND], number(p, numbers[FIRST])
    if kind == MOMENTUM:
        step_momentum(p, state, g, 0, count, s, first)
    elif kind == NESTEROV:
        step_nesterov(p, state, g, 0, count, s, first)
    elif kind == ADAM:
        step_adam(p, (state, at(state, size)), g, 0, count, s, step.adam)
    elif kind == RMSPROP:
        step_rmsprop(p, state, g, 0, count, s, step.adam)
    else:
        _plain(p, g, 0, count, s)


# -- what is stepped -------------------------------------------------------------------------------


class Held(NamedTuple):
    """What a thread takes steps of, and with whom it shares it."""

    params: Store
    grads: Store
    state: Store
    first: int  # of its columns of the first layer
    width: int
    columns: Team  # who shares the rows of these: where they are the thread's own, it alone
    above: Team  # who shares what is above the first layer


class Stretch(NamedTuple):
    """Rows of a layer's weights, or its biases, where they lie."""

    l: int
    p: np.ndarray
    g: np.ndarray
    state: np.ndarray
    row: int
    rows: int
    first: int  # the columns that count
    width: int


@inner
def held_by(job, rule):
    """Return what a thread holds of a network that is trained."""
    if not job.plan.local:
        return held_as_stored(job.plan, job.params.flat, job.work.grads, rule, job.team)
    c = columns(job, NUM(0))
    return Held(
        job.params, gradient_store(job), memory_store(job, rule.state), c.first, c.width,
        Team(NUM(0), NUM(1)), job.upper,
    )  # fmt: skip


@inner
def held_as_stored(plan, params, grads, rule, team):
    """Return what a thread holds where all share the rows of storage."""
    one = Team(NUM(0), NUM(1))
    return Held(
        as_stored(plan, params, one), as_stored(plan, grads, one),
        as_stored(plan, rule.state, one), NUM(0), plan.widths[1], team, team,
    )  # fmt: skip


@inner
def is_frozen(rule, l):
    """Return whether layer l, from 1 on, stays as it is."""
    return rule.numbers[FROZEN + l - 1] != 0


@inner
def learning_blocks(plan, rule):
    """Return how many blocks of inputs have weights that learn: all or none."""
    return NUM(0) if is_frozen(rule, 1) else plan.blocks


@inner
def _matrices(plan):
    """Return how many blocks have weights; behind them follow the layers' biases."""
    return plan.blocks + plan.last - 1


@inner
def _first_row(plan, j):
    """Return the first row of block j of inputs."""
    return min(j * -(-plan.sizes[0] // plan.blocks), plan.sizes[0])


@inner
def _stretch(plan, held, grads, j, piece):
    """Return a piece of block j of the parameters."""
    l = max(1, j - plan.blocks + 2) if j < _matrices(plan) else j - _matrices(plan) + 1
    params, state, row, start, end = held.params, held.state, plan.strides[l], NUM(0), NUM(1)
    first, width = NUM(0), plan.widths[l]
    if l == 1:
        row, first, width = params.row, held.first, held.width
    if j >= _matrices(plan):
        p, g, memory = params.bias, grads.bias, state.bias
        if l > 1:
            b = plan.b[l]
            p, g, memory = at(params.flat, b), at(grads.flat, b), at(state.flat, b)
        return Stretch(l, p, g, memory, row, end, first, width)
    p, g, memory = params.W, grads.W, state.W
    if l > 1:
        w, end = plan.w[l], plan.sizes[l - 1]
        p, g, memory = at(params.flat, w), at(grads.flat, w), at(state.flat, w)
    else:
        start, end = _first_row(plan, j), _first_row(plan, j + 1)
    low, high = share(end - start, 1, piece, STEP_PIECES)
    skip = (start + low) * row
    place = at(p, skip), at(g, skip), at(memory, skip)
    return Stretch(l, place[0], place[1], place[2], row, high - low, first, width)


@inner
def _pieces(plan, held, j):
    """Return which pieces of block j this thread takes."""
    weights = j < _matrices(plan)
    by_columns = j < plan.blocks or j == _matrices(plan)
    team = held.columns if by_columns else held.above
    return share(STEP_PIECES if weights else NUM(1), 1, team.thread, team.size)


# -- sums ------------------------------------------------------------------------------------------


@inner
def _squares(p, row, rows):
    """Return the sum of a vector's squares; where they overflow in float32, in float64."""
    total = np.float64(sum_of_squares(p, row, rows))
    if total < np.inf:
        return total
    total = 0.0
    for r in range(rows):
        for i in range(vector_lanes(p)):
            total += np.float64(p[r * row + i]) * np.float64(p[r * row + i])
    return total


@inner
def _note(rule, j, piece, s, p, sizes):
    """Note what each vector of columns of a stretch sums up to: its squares, or its sizes."""
    lanes = vector_lanes(p)
    slot = (j * STEP_PIECES + piece) * rule.vectors + s.first // lanes
    for v in range(0, s.width, lanes):
        if sizes:
            put(rule.sums, rule.count + slot, np.float64(sum_of_sizes(at(p, v), s.row, s.rows)))
        else:
            put(rule.sums, slot, _squares(at(p, v), s.row, s.rows))
        slot += 1


@inner
def _sum(sums, count):
    # Their number is a multiple of four: one sum would wait for each addition.
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for i in range(0, count, 4):
        a, b, c, d = a + sums[i], b + sums[i + 1], c + sums[i + 2], d + sums[i + 3]
    return (a + b) + (c + d)


@inner
def _norm(plan, rule, held, work, team):
    """Return the norm of the gradient, without layers that are frozen."""
    sums = rule.sums
    for j in range(_matrices(plan) + plan.last):
        first, last = _pieces(plan, held, j)
        for piece in range(first, last):
            s = _stretch(plan, held, held.grads, j, piece)
            if is_frozen(rule, s.l):
                fill(s.g, 0, s.rows * s.row, 0)
            _note(rule, j, piece, s, s.g, False)
    barrier(work.integers, team)
    norm = math.sqrt(_sum(sums, rule.count))
    barrier(work.integers, team)  # the sums of the weights go to the same place
    return norm


# -- a step ----------------------------------------------------------------------------------------


@inner
def _step_piece(plan, step, held, grads, j, piece):
    """Take the step in a piece, and note what its weights sum up to before."""
    # They are summed while in the first level cache: a pass of its own cost 10 % of a step.
    s = _stretch(plan, held, grads, j, piece)
    count, rule, chosen = s.rows * s.row, step.rule, _undecayed(step, s.p)
    if is_frozen(rule, s.l):
        fill(s.g, 0, count, 0)
        return
    mode = flush_denormals()
    if j < _matrices(plan):
        if step.factors.decay != 0:
            _note(rule, j, piece, s, s.p, False)
        if step.factors.l1 != 0:
            _note(rule, j, piece, s, s.p, True)
            _add_l1(s.p, s.g, count, step.factors)
        chosen = _after_l1(step, s.p)
    _pass(chosen, size_of(plan), s, count)
    restore_denormals(mode)


@inner
def _step_block(plan, step, held, grads, j):
    """Take the step in this thread's pieces of block j."""
    first, last = _pieces(plan, held, j)
    for piece in range(first, last):
        _step_piece(plan, step, held, grads, j, piece)


@inner
def _penalty(rule, which, share_of_each):
    """Return the strength of L1 or L2 beside the mean loss of a batch."""
    strength = rule.numbers[which]
    return strength * share_of_each if rule.numbers[OVER_SUM] != 0 else strength


@inner
def _end_step(plan, work, rule, m, share_of_each, team):
    # Threads meet again before any takes the next step.
    barrier(work.integers, team)
    if team.thread == 0:
        decay, l1 = _penalty(rule, L2, share_of_each), _penalty(rule, L1, share_of_each)
        count = _matrices(plan) * STEP_PIECES * rule.vectors
        if decay != 0:
            put(work.sums, 2, work.sums[2] + m * 0.5 * decay * _sum(rule.sums, count))
        if l1 != 0:
            put(work.sums, 2, work.sums[2] + m * l1 * _sum(at(rule.sums, rule.count), count))
        put(rule.clock, 0, rule.clock[0] + 1)


@unit
def take_step(plan, held, work, team, rule, rate, m, share_of_each):
    """Take one step along the mean gradient of a batch of m samples, and zero it."""
    factor, clip = 1.0, rule.numbers[CLIP]
    if clip > 0:
        factor = min(1.0, clip / (_norm(plan, rule, held, work, team) + CLIP_SLACK))
    step = _step_of(rule, held.params.flat, rate, factor, share_of_each)
    for j in range(_matrices(plan) + plan.last):
        _step_block(plan, step, held, held.grads, j)
    _end_step(plan, work, rule, m, share_of_each, team)


@inner
def learn_by_blocks(job, batch, held, rule, rate):
    """Take one step, the first layer's block by block."""
    # All blocks have their gradient in one place, the beginning of its own, which stays in the
    # cache: with it, weights and velocities of 784-100-10 fit into a megabyte. A tenth of a step's
    # time at batch 10.
    first.forward(job, batch)
    if not learn_upper(job, batch):
        return False
    plan, work, g = job.plan, job.work, held.grads
    # From memory: where LLVM saw that it is 1, sums were rounded once where a team's are twice.
    one = np.float64(work.scratch[ONE])
    step = _step_of(rule, held.params.flat, rate, one, batch.alpha)
    learning = learning_blocks(plan, rule)
    for j in range(_matrices(plan) + plan.last):
        grads = g
        if j < plan.blocks:
            grads = Store(g.flat, at(g.W, -_first_row(plan, j) * g.row), g.bias, g.row)
        if j < learning:
            first.update(job, with_target(batch, grads), j, j + 1)
        if j == plan.blocks:
            barrier(work.integers, job.upper)
        _step_block(plan, step, held, grads, j)
    _end_step(plan, work, rule, batch.size, batch.alpha, job.team)
    return True
