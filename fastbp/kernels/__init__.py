"""The compiled twins of `fastbp.reference`."""

from .epochs import sgd_epoch
from .inference import evaluate, feedforward, gradient
from .ir.activations import CODES as ACTIVATION_CODES
from .ir.activations import (
    ELEMENTWISE,
    exp,
    identity,
    identity_prime,
    identity_prime_from_a,
    relu,
    relu_prime,
    relu_prime_from_a,
    sigmoid,
    sigmoid_prime,
    sigmoid_prime_from_a,
    tanh,
    tanh_prime,
    tanh_prime_from_a,
)
from .ir.losses import CODES as LOSS_CODES
from .ir.losses import output_delta, softmax
from .ir.tiles import GROUP, SPARSE_COLUMNS, TILE_ROWS
from .jit import KERNELS, cache_dir, kernel_sources, stamp, vector_bytes
from .parts import narrow_part_gradient, part_gradient, rule_step
from .walk.dense import (
    affine,
    backprop_delta,
    batch_update,
    bias_gradient,
    outer_update,
    weight_gradient,
)
from .walk.lanes import ROUND, narrow_epoch, narrow_gradient, narrow_optimizer_epoch
from .walk.optimizers import adam_update, momentum_update, nesterov_update, optimizer_epoch
from .walk.records import (
    KINDS,
    MOST_EPOCHS,
    ONE,
    PIECES,
    SCALE,
    SEGMENTS,
    TOTALS,
    Dense,
    Plan,
    Rule,
    Span,
    Sparse,
    Targets,
    Team,
    Work,
    pack,
)
from .walk.sparse import index_rows
from .walk.team import ASKED, BLOCK, STOPPED, SYNC_SIZE
