"""The compiled twins of `fastbp.reference`."""

from ._jit import KERNELS, cache_dir, kernel_sources, stamp, vector_bytes
from .activations import (
    CODES as ACTIVATION_CODES,
)
from .activations import (
    ELEMENTWISE,
    identity,
    identity_prime,
    identity_prime_from_a,
    relu,
    relu_prime,
    relu_prime_from_a,
    sigmoid,
    sigmoid_prime,
    sigmoid_prime_from_a,
    softmax,
    tanh,
    tanh_prime,
    tanh_prime_from_a,
)
from .dense import (
    affine,
    backprop_delta,
    batch_update,
    bias_gradient,
    outer_update,
    weight_gradient,
)
from .losses import CODES as LOSS_CODES
from .losses import output_delta
from .parallel import ASKED, BLOCK, STOPPED, SYNC_SIZE
from .sgd import (
    Dense,
    Plan,
    Span,
    Sparse,
    Targets,
    Team,
    Work,
    evaluate,
    feedforward,
    gradient,
    sgd_epoch,
)
from .simd import SPARSE_COLUMNS
from .sparse import count_rows, index_rows
