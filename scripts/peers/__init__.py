"""The peers of `scripts/compare_peers.py`, and the race between them.

`work` says what is computed, `race` runs the peers in turns, `report` compares them. Each other
module drives one library in a process of its own, by `build(task, variant) -> Job`; it raises
`NotApplicable` where the library has no such work.
"""

from collections.abc import Callable
from typing import NamedTuple

INSTALL = "pip install --group peers"


class Peer(NamedTuple):
    """A peer: the module that drives it, what must be installed, and the argument of `build`."""

    module: str
    needs: tuple = ()
    variant: str = ""
    kinds: tuple = ("train", "gradient", "predict")
    held: bool = True  # whether something keeps it from wider vectors than others may use


class Job(NamedTuple):
    """Work made ready.

    `run(n)` does n epochs, or n calls, and returns `Done`; `reset()` goes back to the first weights
    and is not timed. `count` is how many items (samples or calls) one of the n is.
    """

    run: Callable
    reset: Callable = lambda: None
    count: int = 1


class Done(NamedTuple):
    """What a run tells: a number that all peers share, and the best epoch's items a second.

    The number is the mean loss of the first epoch as the samples were seen, or the norm of the
    gradient, or that of the outputs.
    """

    check: float
    steady: float | None = None


class NotApplicable(Exception):
    """The library has no such work; the message says why."""


ALL = ("train", "gradient", "predict", "fit")
PEERS = {
    "fastbp": Peer("fastbp_", variant="numba", kinds=ALL),
    "numpy": Peer("fastbp_", variant="numpy"),
    "numpy-by-hand": Peer("by_hand"),
    "torch": Peer("torch_", ("torch",), "eager"),
    "torch-compiled": Peer("torch_", ("torch",), "compiled"),
    "jax": Peer("jax_", ("jax", "jaxlib"), "rows"),
    "jax-columns": Peer("jax_", ("jax", "jaxlib"), "columns", ("train", "gradient")),
    "sklearn": Peer("sklearn_", ("sklearn",), kinds=ALL),
    "onnxruntime": Peer("onnx_", ("onnx", "onnxruntime"), kinds=("predict",), held=False),
}
# They run in turns with the peers and are no peers: what the figures are set against.
GAUGES = {"fma-peak": Peer("peak"), "activations": Peer("fastbp_", variant="activations")}
