"""Where reference and kernels meet: operations of one layer, engines of whole networks."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import reference
from ..model.layout import Layout
from ..reference import Targets
from .numpy_engine import NumpyBackend


@cache
def get_backend(name: str) -> Any:
    """Return the backend of this name, "numba" or "numpy".

    Its operations, those of `fastbp.reference` by name, take arrays of float32 or float64 in any
    memory order, and refuse what does not fit together with TypeError or ValueError.

    Raises
    ------
    ValueError
        If there is no such backend.

    Examples
    --------
    >>> import numpy as np
    >>> get_backend("numba").sigmoid(np.zeros(2))
    array([0.5, 0.5])
    """
    if name == "numpy":
        return NumpyBackend()
    if name != "numba":
        raise ValueError(f"backend must be one of numba, numpy; got {name!r}")
    # Numba is imported when it is asked for: `import fastbp` took twice as long.
    from .numba_engine import NumbaBackend

    return NumbaBackend()


def warmup(dtypes: Sequence[str] = ("float32", "float64")) -> None:
    """Compile the kernels of training and prediction, or load them from the cache."""
    model = reference.Model((2, 2, 2), ("sigmoid", "sigmoid"), "quadratic", True, 1.0)
    for dtype in dtypes:
        layout = Layout(model.sizes, dtype)
        engine, params = get_backend("numba").engine(model, layout), layout.zeros()
        targets = Targets(np.zeros(2, np.int64), np.empty((0, 2), dtype))
        for X in (np.zeros((2, 2), dtype), np.zeros((2, 2), np.uint8)):
            engine.feedforward(params, X)
            engine.evaluate(params, X, targets)
            engine.gradient(params, X, targets)
            for path in ("dense", "sparse"):
                with engine.trainer(params, X, targets, 1, path=path) as trainer:
                    trainer.run(np.arange(2), 0, 2, 0.1)
