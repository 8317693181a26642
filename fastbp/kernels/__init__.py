"""The compiled twins of `fastbp.reference`.

`ir` emits machine code: vectors, tiles, formulas; it knows no network. `walk` says how a network is
walked, and emits none. What is called from Python stands beside them: `operations` (one layer),
`epochs` (training) and `inference`. `jit` compiles, `cache` says where machine code is kept,
`machine` holds what was measured, by kinds of CPU, `cpu` what a CPU says of itself.

What the words mean here, from small to large:

- lane, vector: a vector is a register's worth of elements, one in each lane.
- line: a cache line, 64 bytes. Rows in storage are whole lines.
- tile: the part of a matrix product that is summed in registers.
- panel: neighbouring columns that are taken at once, so that their weights stay in a cache.
- entry, group: an input that is not zero, with its position. Zeros fill up groups of entries.
- block: a range of inputs, or their weights. The entries of a sample are cut into blocks.
- piece: a stretch of parameters whose squares are summed by one thread.
- batch, chunk: the samples of a step; as many of them as the scratch holds.
- round: chunks whose gradients are kept apart, each by its thread, until they are added up.
- span: the batches that one call trains on.
- part: what a rank takes of a batch that it shares with others.
- narrow: of networks with layers narrower than a vector; lanes then hold samples, not neurons.
"""

from typing import TYPE_CHECKING, Any

from . import epochs, functions, inference, inputs, losses, operations
from .cache import cache_dir, stamp
from .cpu import vector_bytes
from .ir.activations import ACTIVATION_CODES
from .ir.losses import LOSS_CODES
from .jit import KERNELS, all_defined
from .operations import ELEMENTWISE

# What Python calls, by its name, which is that of its twin. Attributes: a `__getattr__` would cost
# each call 0.4 us, where one on a single sample takes 0.4 to 2.
globals().update(KERNELS)
all_defined()

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
