"""Optimisers: the gradient goes to a buffer, and from there, in one pass, to the weights.

A pass reads gradient, weights and state once, writes what changes, and leaves zeros for the next
gradient; L2, clipping and AdamW's decay are factors in it, and L1 is a pass of its own before it.
Denormal numbers are taken for zeros. Padding stays zero, since its gradient and state are.

The parameters are cut into blocks: those of each block of inputs, and one of all the others. A step
takes each block in STEP_PIECES pieces, which the threads share out; a norm takes all parameters in
NORM_PIECES. What is summed over the pieces has the same bits for any number of threads.
"""

import math
from typing import NamedTuple

import numpy as np

from ..ir.denormals import flush_denormals, restore_denormals
from ..ir.memory import at, number, put, sum_of_sizes, sum_of_squares
from ..jit import inner, unit
from ..machine import NORM_PIECES, STEP_PIECES
from . import first
from .batch import learn_upper
from .records import NUM, ONE, fill, size_of, with_target
from .stores import as_stored
from .team import barrier, share

CLIP_SLACK = 1e-6  # as in PyTorch: no division by zero
UNIT = 16  # parameters are shared out in whole lines


class RuleArrays(NamedTuple):
    """An optimiser at work."""

    numbers: np.ndarray  # float64, by the names below
    clock: np.ndarray  # float64, (1,): the steps taken
    state: np.ndarray  # what it remembers of each parameter: velocities, or moments
    # float64: sums of squares of each piece, for the norm, then for L2; of sizes, for L1.
    squares: np.ndarray


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
def _pass(step, p, g, size, low, high):
    numbers, state, s = step.rule.numbers, step.rule.state, step.factors
    kind, first = numbers[KIND], number(p, numbers[FIRST])
    if kind == MOMENTUM:
        step_momentum(p, state, g, low, high, s, first)
    elif kind == NESTEROV:
        step_nesterov(p, state, g, low, high, s, first)
    elif kind == ADAM:
        step_adam(p, (state, at(state, size)), g, low, high, s, step.adam)
    elif kind == RMSPROP:
        step_rmsprop(p, state, g, low, high, s, step.adam)
    else:
        _plain(p, g, low, high, s)


@inner
def _squares(p, count):
    """Return the sum of the squares; where they overflow in float32, as of 1e20, in float64."""
    total = np.float64(sum_of_squares(p, count))
    if total < np.inf:
        return total
    total = 0.0
    for i in range(count):
        total += np.float64(p[i]) * np.float64(p[i])
    return total


@inner
def _sum(squares, count):
    total = 0.0
    for i in range(count):
        total += squares[i]
    return total


@inner
def is_frozen(rule, l):
    """Return whether layer l, from 1 on, stays as it is."""
    return rule.numbers[FROZEN + l - 1] != 0


@inner
def learning_blocks(plan, rule):
    """Return how many blocks of inputs have weights that learn: all or none."""
    return NUM(0) if is_frozen(rule, 1) else plan.blocks


@inner
def _clear_frozen(plan, rule, l, g, low, high):
    """If layer l is frozen, set what lies of its gradient from low to high to zero."""
    if is_frozen(rule, l):
        fill(g, max(low, plan.w[l]), min(high, plan.b[l] + plan.strides[l]), 0)


@inner
def _norm(plan, rule, g, work, team):
    first, last = share(NORM_PIECES, 1, team.thread, team.size)
    for piece in range(first, last):
        low, high = share(size_of(plan), UNIT, piece, NORM_PIECES)
        for l in range(1, plan.last + 1):
            _clear_frozen(plan, rule, l, g, low, high)
        put(rule.squares, piece, _squares(at(g, low), high - low))
    barrier(work.integers, team)
    return math.sqrt(_sum(rule.squares, NORM_PIECES))


@inner
def _step_stretch(plan, step, params, g, low, high):
    """Take the step from low to high; return sums over the weights from before, squared and not."""
    # They are summed while in the first level cache: a pass of its own cost 10 % of a step.
    squares, sizes, size = 0.0, 0.0, size_of(plan)
    rest, undecayed = _after_l1(step, params), _undecayed(step, params)
    for l in range(1, plan.last + 1):
        if is_frozen(step.rule, l):
            _clear_frozen(plan, step.rule, l, g, low, high)
            continue
        start, end = max(low, plan.w[l]), min(high, plan.b[l])
        if start < end and step.factors.decay != 0:
            squares += _squares(at(params, start), end - start)
        if start < end and step.factors.l1 != 0:
            sizes += np.float64(sum_of_sizes(at(params, start), end - start))
            _add_l1(at(params, start), at(g, start), end - start, step.factors)
        _pass(rest, params, g, size, start, end)
        start, end = max(low, plan.b[l]), min(high, plan.b[l] + plan.strides[l])
        _pass(undecayed, params, g, size, start, end)
    return squares, sizes


@inner
def _block(plan, j):
    """Return where block j of the parameters lies: a block of inputs, or, after them, the rest."""
    if j == plan.blocks:
        return plan.b[1], size_of(plan)
    rows, row = -(-plan.sizes[0] // plan.blocks), plan.strides[1]
    end = min((j + 1) * rows, plan.sizes[0])
    return plan.w[1] + min(j * rows, end) * row, plan.w[1] + end * row


@inner
def _step_piece(plan, step, params, g, piece):
    """Take the step in a piece of a block, and note what its weights sum up to."""
    start, end = _block(plan, piece // STEP_PIECES)
    low, high = share(end - start, UNIT, piece % STEP_PIECES, STEP_PIECES)
    mode = flush_denormals()
    squares, sizes = _step_stretch(plan, step, params, g, start + low, start + high)
    restore_denormals(mode)
    put(step.rule.squares, NORM_PIECES + piece, squares)
    put(step.rule.squares, NORM_PIECES + _pieces(plan) + piece, sizes)


@inner
def _pieces(plan):
    """Return how many pieces a step is taken in."""
    return (plan.blocks + 1) * STEP_PIECES


@inner
def _penalty(rule, which, share_of_each):
    """Return the strength of L1 or L2 beside the mean loss of a batch."""
    strength = rule.numbers[which]
    return strength * share_of_each if rule.numbers[OVER_SUM] != 0 else strength


@inner
def _end_step(plan, work, rule, m, share_of_each, team):
    barrier(work.integers, team)
    if team.thread == 0:
        decay, l1 = _penalty(rule, L2, share_of_each), _penalty(rule, L1, share_of_each)
        pieces = _pieces(plan)
        squares = _sum(at(rule.squares, NORM_PIECES), pieces)
        put(work.sums, 2, work.sums[2] + m * 0.5 * decay * squares)
        if l1 != 0:
            sizes = _sum(at(rule.squares, NORM_PIECES + pieces), pieces)
            put(work.sums, 2, work.sums[2] + m * l1 * sizes)
        put(rule.clock, 0, rule.clock[0] + 1)
    barrier(work.integers, team)


@unit
def take_step(plan, params, work, team, rule, rate, m, share_of_each):
    """Take one step along work.grads, the mean gradient of a batch of m samples, and zero them."""
    factor, clip = 1.0, rule.numbers[CLIP]
    if clip > 0:
        factor = min(1.0, clip / (_norm(plan, rule, work.grads, work, team) + CLIP_SLACK))
    step = _step_of(rule, params, rate, factor, share_of_each)
    first, last = share(_pieces(plan), 1, team.thread, team.size)
    for piece in range(first, last):
        _step_piece(plan, step, params, work.grads, piece)
    _end_step(plan, work, rule, m, share_of_each, team)


@inner
def learn_by_blocks(job, batch, rule, rate):
    """Take one step, the first layer's block by block; one thread alone."""
    # All blocks have their gradient in one place, the buffer's beginning, which stays in the cache:
    # with it, weights and velocities of 784-100-10 fit into a megabyte. A tenth of a step's time at
    # batch 10. One thread's alone, as threads own columns of the gradient, and rows of the step.
    first.forward(job, batch)
    if not learn_upper(job, batch):
        return False
    plan, params, work = job.plan, job.params.flat, job.work
    # From memory: where LLVM saw that it is 1, sums were rounded once where a team's are twice.
    step = _step_of(rule, params, rate, np.float64(work.scratch[ONE]), batch.alpha)
    learning = learning_blocks(plan, rule)
    for j in range(plan.blocks + 1):
        start, _ = _block(plan, j)
        g = at(work.grads, plan.w[1] - start) if j < plan.blocks else work.grads
        if j < learning:
            target = as_stored(plan, g, job.team)
            first.update(job, with_target(batch, target), j, j + 1)
        for piece in range(j * STEP_PIECES, (j + 1) * STEP_PIECES):
            _step_piece(plan, step, params, g, piece)
    _end_step(plan, work, rule, batch.size, batch.alpha, job.team)
    return True
