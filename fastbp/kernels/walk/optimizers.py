"""Optimisers: the gradient goes to a buffer, and from there, in one pass, to the weights.

A pass reads gradient, weights and state once, writes what changes, and leaves zeros for the next
gradient; L2 and clipping are factors in it. Padding stays zero, since its gradient and state are.
"""

import math

import numpy as np

from ..epochs import learn_chunks
from ..ir.vectors import at, number, pointer, sum_of_squares
from ..jit import inlined, inner, kernel
from .batch import learn_chunk, learn_upper, shares, size_of
from .first import in_blocks, samples_at, update_first_block
from .records import (
    ADAM,
    CLIP,
    CORRECTED,
    EPSILON,
    FIRST,
    KIND,
    L2,
    MOMENTUM,
    NESTEROV,
    OVER_SUM,
    PIECES,
    SECOND,
    SEGMENTS,
    fill,
    lean,
    ledger,
    read,
)
from .team import barrier, share, stopped

CLIP_SLACK = 1e-6  # as in PyTorch: no division by zero
UNIT = 16  # parameters are dealt out in whole lines


# -- one pass over a stretch -----------------------------------------------------------------------


@inner
def _plain(p, g, low, high, rate, factor, decay):
    for i in range(low, high):
        p[i] -= rate * (factor * g[i] + decay * p[i])
        g[i] = 0


@inner
def _momentum(p, velocity, g, low, high, rate, factor, decay, momentum):
    for i in range(low, high):
        v = momentum * velocity[i] - rate * (factor * g[i] + decay * p[i])
        velocity[i] = v
        p[i] += v
        g[i] = 0


@inner
def _nesterov(p, velocity, g, low, high, rate, factor, decay, momentum):
    for i in range(low, high):
        step = rate * (factor * g[i] + decay * p[i])
        v = momentum * velocity[i] - step
        velocity[i] = v
        p[i] += momentum * v - step
        g[i] = 0


@inner
def _adam(p, first, second, g, low, high, factor, decay, step, root, beta_1, beta_2, epsilon):
    # Complements in double: 1 minus the rounded 0.999 is off by 1.3e-5 in float32.
    old_1, new_1 = number(p, beta_1), number(p, 1 - beta_1)
    old_2, new_2 = number(p, beta_2), number(p, 1 - beta_2)
    for i in range(low, high):
        x = factor * g[i] + decay * p[i]
        m = old_1 * first[i] + new_1 * x
        v = old_2 * second[i] + new_2 * (x * x)
        first[i] = m
        second[i] = v
        p[i] -= step * m / (root * number(p, math.sqrt(v)) + epsilon)
        g[i] = 0


@inner
def _adam_factors(p, rate, beta_1, beta_2, epsilon, corrected, t):
    """Return the step and the factor of the root in step t, and epsilon, as Adam corrects them."""
    root = 1 / math.sqrt(1 - beta_2**t)
    if not corrected:  # epsilon stands beside the root as it is: in all, it grows as the root does
        epsilon *= root
    return number(p, rate / (1 - beta_1**t)), number(p, root), number(p, epsilon)


@inner
def _pass(rule, p, g, size, low, high, rate, factor, decay):
    """Take the step in a stretch of the parameters."""
    numbers, kind = rule.numbers, rule.numbers[KIND]
    first = number(p, numbers[FIRST])
    factor, decay = number(p, factor), number(p, decay)
    if kind == MOMENTUM:
        _momentum(p, rule.state, g, low, high, rate, factor, decay, first)
    elif kind == NESTEROV:
        _nesterov(p, rule.state, g, low, high, rate, factor, decay, first)
    elif kind == ADAM:
        step, root, epsilon = _adam_factors(
            p, rate, numbers[FIRST], numbers[SECOND], numbers[EPSILON], numbers[CORRECTED] != 0,
            rule.clock[0] + 1,
        )  # fmt: skip
        _adam(
            p, rule.state, at(rule.state, size), g, low, high, factor, decay, step, root,
            numbers[FIRST], numbers[SECOND], epsilon,
        )  # fmt: skip
    else:
        _plain(p, g, low, high, rate, factor, decay)


# -- a step ----------------------------------------------------------------------------------------


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
def _norm(rule, g, size, work, team):
    """Return the norm of the gradient, the same bits for any number of threads."""
    first, last = share(SEGMENTS, 1, team.thread, team.size)
    for segment in range(first, last):
        low, high = share(size, UNIT, segment, SEGMENTS)
        rule.parts[segment] = _squares(at(g, low), high - low)
    barrier(work.marks, team.size)
    return math.sqrt(_sum(rule.parts, SEGMENTS))


@inner
def _sum(parts, count):
    total = 0.0
    for i in range(count):
        total += parts[i]
    return total


@inner
def _step_stretch(plan, rule, params, g, size, low, high, rate, factor, decay):
    """Take the step from low to high; return the sum of the squares of the weights from before.

    That is summed while they are in the first level cache: a pass of its own cost 10 % of a step.
    """
    squares = 0.0
    for l in range(1, plan.last + 1):
        start, end = max(low, plan.w[l]), min(high, plan.b[l])
        if start < end and decay != 0:
            squares += _squares(at(params, start), end - start)
        _pass(rule, params, g, size, start, end, rate, factor, decay)
        start, end = max(low, plan.b[l]), min(high, plan.b[l] + plan.strides[l])
        _pass(rule, params, g, size, start, end, rate, factor, 0.0)
    return squares


@inner
def _note(sums, clock, penalty):
    sums[2] += penalty
    clock[0] += 1


@inner
def _group(plan, j):
    """Return where group j of the parameters lies: a block of inputs, or, after them, the rest."""
    if j == plan.blocks:
        return plan.b[1], size_of(plan)
    rows, row = -(-plan.sizes[0] // plan.blocks), plan.strides[1]
    end = min((j + 1) * rows, plan.sizes[0])
    return plan.w[1] + min(j * rows, end) * row, plan.w[1] + end * row


@inner
def _step_piece(plan, rule, params, g, piece, rate, factor, decay):
    """Take the step in a piece of a group, and note the sum of the squares of its weights."""
    start, end = _group(plan, piece // PIECES)
    low, high = share(end - start, UNIT, piece % PIECES, PIECES)
    rule.parts[SEGMENTS + piece] = _step_stretch(
        plan, rule, params, g, size_of(plan), start + low, start + high, rate, factor, decay
    )


@inner
def _decay(rule, share_of_each):
    decay = rule.numbers[L2]
    return decay * share_of_each if rule.numbers[OVER_SUM] != 0 else decay


@inner
def _end_step(plan, work, rule, m, decay, team):
    barrier(work.marks, team.size)
    if team.thread == 0:
        squares = _sum(at(rule.parts, SEGMENTS), (plan.blocks + 1) * PIECES)
        _note(work.sums, rule.clock, m * 0.5 * decay * squares)
    barrier(work.marks, team.size)


@inner
def take_step(plan, params, work, rule, rate, m, share_of_each, team):
    """Take one step along work.grads, the mean gradient of a batch of m samples, and zero them."""
    decay, factor, clip = _decay(rule, share_of_each), 1.0, rule.numbers[CLIP]
    if clip > 0:
        factor = min(1.0, clip / (_norm(rule, work.grads, size_of(plan), work, team) + CLIP_SLACK))
    first, last = share((plan.blocks + 1) * PIECES, 1, team.thread, team.size)
    for piece in range(first, last):
        _step_piece(plan, rule, params, work.grads, piece, rate, factor, decay)
    _end_step(plan, work, rule, m, decay, team)


@inlined
def _learn_by_blocks(
    plan, params, data, targets, samples, m, work, rule, rate, share_of_each, share_of_loss, team
):
    """Take one step, the first layer's block by block.

    All blocks have their gradient in one place, the buffer's beginning, which stays in the cache:
    with it, weights and velocities of 784-100-10 fit into a megabyte. A tenth of a step's time at
    batch 10. One thread's alone, as threads own columns of the gradient, and rows of the step.
    """
    if not learn_upper(
        plan, params, data, targets, samples, m, work, work.grads, share_of_each, share_of_loss,
        team,
    ):  # fmt: skip
        return False
    decay = _decay(rule, share_of_each)
    for j in range(plan.blocks + 1):
        start, _ = _group(plan, j)
        g = at(work.grads, plan.w[1] - start) if j < plan.blocks else work.grads
        if j < plan.blocks:
            update_first_block(plan, data, j, samples, m, g, share_of_each, work)
        for piece in range(j * PIECES, (j + 1) * PIECES):
            _step_piece(plan, rule, params, g, piece, rate, 1.0, decay)
    _end_step(plan, work, rule, m, decay, team)
    return True


@inlined
def _learn_batches(plan, params, data, targets, order, n, span, work, rule, team):
    alone = in_blocks(plan, data) and team.size == 1
    for p in range(span.first, span.last, span.batch):
        m, which = min(span.batch, n - p), at(order, p)
        share_of_each, share_of_loss = shares(targets, which, m)
        samples = samples_at(order, p, m, n)
        if m <= plan.chunk and alone and rule.numbers[CLIP] == 0:
            if not _learn_by_blocks(
                plan, params, data, targets, samples, m, work, rule, span.learning_rate,
                share_of_each, share_of_loss, team,
            ):  # fmt: skip
                return
            continue
        if m <= plan.chunk:
            fine = learn_chunk(
                plan, params, data, targets, samples, m, work, work.grads, share_of_each,
                share_of_loss, team,
            )  # fmt: skip
        else:
            fine = learn_chunks(
                plan, params, data, targets, which, m, work, share_of_each, share_of_loss, team
            )
        if not fine:
            return
        take_step(plan, params, work, rule, span.learning_rate, m, share_of_each, team)


@kernel
def optimizer_epoch(plan, params, data, targets, order, span, work, rule, team):
    """Twin of `reference.sgd_epoch` with an optimiser, as `sgd.sgd_epoch` is without."""
    net, x, y, hands, law = read(plan), lean(data), lean(targets), lean(work), lean(rule)
    low, high = share(size_of(net), UNIT, team.thread, team.size)
    fill(hands.grads, low, high, 0)
    for epoch in range(span.epochs):
        here = ledger(hands, epoch, team)
        _learn_batches(
            net, pointer(params), x, y, pointer(order), order.size, span, here, law, team
        )
        if stopped(hands.marks):
            return


# -- twins of the reference's updates --------------------------------------------------------------


# The gradient is used up.
@kernel
def momentum_update(p, velocity, g, learning_rate, momentum):
    """Twin of `reference.momentum_update`."""
    w = pointer(p)
    _momentum(
        w, pointer(velocity), pointer(g), 0, p.size, number(w, learning_rate), number(w, 1),
        number(w, 0), number(w, momentum),
    )  # fmt: skip


@kernel
def nesterov_update(p, velocity, g, learning_rate, momentum):
    """Twin of `reference.nesterov_update`."""
    w = pointer(p)
    _nesterov(
        w, pointer(velocity), pointer(g), 0, p.size, number(w, learning_rate), number(w, 1),
        number(w, 0), number(w, momentum),
    )  # fmt: skip


@kernel
def adam_update(p, first, second, g, learning_rate, beta_1, beta_2, epsilon, t):
    """Twin of `reference.adam_update`."""
    w = pointer(p)
    step, root, epsilon = _adam_factors(w, learning_rate, beta_1, beta_2, epsilon, True, t)
    _adam(
        w, pointer(first), pointer(second), pointer(g), 0, p.size, number(w, 1), number(w, 0),
        step, root, beta_1, beta_2, epsilon,
    )  # fmt: skip
