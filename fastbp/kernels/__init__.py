"""The compiled twins of `fastbp.reference`."""

from ._jit import KERNELS, cache_dir, kernel_sources, stamp, vector_bytes
from .activations import CODES as ACTIVATION_CODES
from .activations import (
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
from .calls import evaluate, feedforward, gradient
from .dense import (
    affine,
    backprop_delta,
    batch_update,
    bias_gradient,
    outer_update,
    weight_gradient,
)
from .losses import CODES as LOSS_CODES
from .losses import output_delta, softmax
from .narrow import ROUND, narrow_epoch, narrow_gradient, narrow_optimizer_epoch
from .optimizers import adam_update, momentum_update, nesterov_update, optimizer_epoch
from .parallel import ASKED, BLOCK, STOPPED, SYNC_SIZE
from .parts import narrow_part_gradient, part_gradient, rule_step
from .plan import (
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
from .sgd import sgd_epoch
from .sparse import index_rows
from .tiles import GROUP, SPARSE_COLUMNS, TILE_ROWS
