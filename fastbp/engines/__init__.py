"""Where reference and kernels meet: the one file that names both.

`get_backend("numba")` or `get_backend("numpy")` offers

- every operation of one layer as a function that takes logical arrays and returns new ones, and
- an engine for a whole network: feedforward, evaluate, gradient, and a trainer whose calls each
  run a stretch of an epoch.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import reference
from ..model.layout import Layout
from ..reference import Targets
from .numpy_engine import NumpyBackend, NumpyPartTrainer


# Whatever stands on Numba is imported when it is asked for: `import fastbp` took twice as long.
def _numba() -> tuple[Any, Any]:
    from .numba_engine import NumbaBackend
    from .numba_parts import NumbaPartTrainer

    return NumbaBackend, NumbaPartTrainer


_BACKENDS = {"numba": _numba, "numpy": lambda: (NumpyBackend, NumpyPartTrainer)}


@cache
def get_backend(name: str) -> Any:
    """Return the backend of this name, "numba" or "numpy".

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
    if name not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(_BACKENDS)}; found {name!r}")
    return _BACKENDS[name]()[0]()


def part_trainer(name: str) -> Any:
    """Return the trainer of one rank among many, of the backend of this name: `data_parallel`."""
    return _BACKENDS[name]()[1]


def warmup(dtypes: Sequence[str] = ("float32", "float64")) -> None:
    """Compile the kernels of training and prediction, or load them from the cache.

    Parameters
    ----------
    dtypes : sequence of str

    Examples
    --------
    >>> warmup(["float32"])
    """
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


def compiled() -> bool:
    """Return whether the kernels that train are in this machine's cache."""
    from .. import kernels

    folder = kernels.cache_dir()
    return folder is not None and any(folder.glob("epochs.sgd_epoch-*.nbc"))


def kernel_stamp() -> str:
    """Return a digest of the kernels' sources, and of what they are compiled with."""
    from .. import kernels

    return kernels.stamp()
