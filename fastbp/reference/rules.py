"""How weights follow their gradient: the optimisers' rules, and the step of a whole network."""

from collections.abc import Sequence

import numpy as np

from .records import Array, Arrays, Rule


def momentum_update(
    p: Array, velocity: Array, g: Array, learning_rate: float, momentum: float
) -> None:
    """Momentum: velocity = momentum velocity - learning_rate g; p += velocity. In place.

    Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964.
    """
    velocity *= momentum
    velocity -= learning_rate * g
    p += velocity


def nesterov_update(
    p: Array, velocity: Array, g: Array, learning_rate: float, momentum: float
) -> None:
    """Nesterov's momentum: as `momentum_update`, but p += momentum velocity - learning_rate g.

    Sutskever et al., *On the importance of initialization and momentum in deep learning*, 2013.
    """
    velocity *= momentum
    velocity -= learning_rate * g
    p += momentum * velocity - learning_rate * g


def adam_update(
    p: Array, first: Array, second: Array, g: Array,
    learning_rate: float, beta_1: float, beta_2: float, epsilon: float, t: int,
) -> None:  # fmt: skip
    """Adam, step t = 1, 2, ...: p -= learning_rate m / (sqrt(v) + epsilon), in place.

    m and v are the running means of g and g**2, `first` and `second`, divided by 1 - beta**t.
    Kingma and Ba, *Adam: A Method for Stochastic Optimization*, 2015, algorithm 1.
    """
    first *= beta_1
    first += (1 - beta_1) * g
    second *= beta_2
    second += (1 - beta_2) * g**2
    m, v = first / (1 - beta_1**t), second / (1 - beta_2**t)
    p -= learning_rate * m / (np.sqrt(v) + epsilon)


def rmsprop_update(
    p: Array, second: Array, g: Array, learning_rate: float, rho: float, epsilon: float
) -> None:
    """RMSprop: p -= learning_rate g / (sqrt(second) + epsilon), in place.

    `second` is the running mean of g**2: rho second + (1 - rho) g**2. Tieleman and Hinton, *Lecture
    6.5, rmsprop: Divide the gradient by a running average of its recent magnitude*, 2012.
    """
    second *= rho
    second += (1 - rho) * g**2
    p -= learning_rate * g / (np.sqrt(second) + epsilon)


def _update(rule: Rule, t: int, learning_rate: float, p: Array, g: Array, slots: Arrays) -> None:
    if rule.name == "adam":
        # Added to the uncorrected root, as in the paper's section 2, it is larger at first.
        epsilon = rule.epsilon / (1 if rule.corrected else np.sqrt(1 - rule.second**t))
        adam_update(p, slots[0], slots[1], g, learning_rate, rule.first, rule.second, epsilon, t)
    elif rule.name == "rmsprop":
        rmsprop_update(p, slots[0], g, learning_rate, rule.second, rule.epsilon)
    elif rule.name == "sgd":
        p -= learning_rate * g
    else:
        update = nesterov_update if rule.name == "nesterov" else momentum_update
        update(p, slots[0], g, learning_rate, rule.first)


CLIP_SLACK = 1e-6  # as in PyTorch: no division by zero
NONE = 0.0, 0.0, 0.0  # the penalties and the decay of biases


def optimizer_step(
    rule: Rule, t: int, weights: Arrays, biases: Arrays, dW: Arrays, db: Arrays,
    slots: Sequence[tuple[Arrays, Arrays]], total: float, learning_rate: float,
) -> float:  # fmt: skip
    """Step number t = 1, 2, ... along the mean gradient of a batch, in place.

    First the gradient is shortened to the norm `rule.clip`, over all parameters. Then the gradient
    of the penalty l1 sum(abs(W)) + l2 / 2 sum(W**2) is added, l1 sign(W) + l2 W, where sign(0) is
    0; biases have no penalty. With `rule.over_sum` the penalty is added to the sum of the batch's
    losses, not their mean: l1 and l2 are divided by `total`, the batch size or the sum of the
    samples' weights. Returns the penalty before the step.

    `rule.weight_decay` shrinks weights, but not biases, beside the gradient:
    W -= learning_rate weight_decay W. Loshchilov and Hutter, *Decoupled Weight Decay
    Regularization*, 2019.

    `slots`, pairs like (weights, biases), are the optimiser's memory; zeros at first.

    The layers in `rule.frozen` take no part in any of this: neither in the norm nor in the penalty,
    and their parameters and memory keep their bits.
    """
    learning = [l for l in range(len(weights)) if l not in rule.frozen]
    # If all weights are zero, nothing is learnt.
    l1, l2 = (x / (total or np.inf) if rule.over_sum else x for x in (rule.l1, rule.l2))
    parts = [gradients[l] for gradients in (dW, db) for l in learning]
    squares = sum(float((g.astype(np.float64) ** 2).sum()) for g in parts)
    shrink = min(1.0, rule.clip / (np.sqrt(squares) + CLIP_SLACK)) if rule.clip else 1.0
    learnt = [weights[l] for l in learning]
    penalty = l2 / 2 * sum(float((W.astype(np.float64) ** 2).sum()) for W in learnt)
    penalty += l1 * sum(float(np.abs(W, dtype=np.float64).sum()) for W in learnt)
    for kind, (params, gradients) in enumerate([(weights, dW), (biases, db)]):
        sizes, decay, shrunk = (l1, l2, learning_rate * rule.weight_decay) if kind == 0 else NONE
        for l in learning:
            p, g, number = params[l], gradients[l], params[l].dtype.type
            g = number(shrink) * g + number(decay) * p
            if sizes:
                g += number(sizes) * np.sign(p)
            if shrunk:
                p -= number(shrunk) * p
            _update(rule, t, number(learning_rate), p, g, [slot[kind][l] for slot in slots])
    return penalty
