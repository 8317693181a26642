"""Training in parts, for ranks that share a batch: a part's gradient, and a step along the whole.

Between the two, gradients are added up over the ranks; see `fastbp.training.mpi`.
"""

from .epochs import learn_chunks
from .ir.vectors import at, pointer
from .jit import kernel
from .walk.batch import UPDATE_ROWS, size_of
from .walk.lanes import _learn_rounds
from .walk.optimizers import take_step
from .walk.records import lean, read, scale
from .walk.team import share


@kernel
def part_gradient(plan, params, data, targets, order, span, work, team):
    """Add span.learning_rate * (sum of the gradients of a part of a batch) to work.grads.

    The sums of losses and hits go to the totals, the losses multiplied by their samples' weights.
    """
    which, m = at(pointer(order), span.first), span.last - span.first
    learn_chunks(
        read(plan), pointer(params), lean(data), lean(targets), which, m, lean(work),
        span.learning_rate, 1.0, team,
    )  # fmt: skip


@kernel
def narrow_part_gradient(plan, params, data, targets, order, span, work, team):
    """Do as `part_gradient` does, for narrow networks; work.grads is overwritten."""
    net, hands = read(plan), lean(work)
    which, m = at(pointer(order), span.first), span.last - span.first
    if m > 0 and _learn_rounds(
        net, pointer(params), lean(data), lean(targets), which, m, hands, team
    ):  # which makes a mean
        low, high = share(size_of(net), UPDATE_ROWS, team.thread, team.size)
        scale(hands.grads, low, high, span.learning_rate * m)


@kernel
def rule_step(plan, params, span, work, rule, share_of_each, team):
    """Twin of `reference.optimizer_step` along work.grads, which is zeroed.

    The penalty, times span.batch samples, goes to the totals.
    """
    take_step(
        read(plan), pointer(params), lean(work), lean(rule), span.learning_rate, span.batch,
        share_of_each, team,
    )  # fmt: skip
