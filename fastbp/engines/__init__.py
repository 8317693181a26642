"""Where reference and kernels meet: operations of one layer, engines of whole networks."""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from .. import reference
from ..model.layout import Layout
from ..reference import Targets
from ..reference.records import PLAIN, Rule
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
    ImportError
        If Numba cannot be imported, or ``NUMBA_DISABLE_JIT`` turns it off.

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
    try:
        from .numba_engine import NumbaBackend
    except ImportError as error:
        other = "the backend numpy needs no compiler"
        raise ImportError(f"the numba backend cannot be used: {error}; {other}") from error

    return NumbaBackend()


def warmup(dtypes: Sequence[str] = ("float32", "float64")) -> None:
    """Compile the kernels of training and prediction, or load them from the cache."""
    model = reference.Model((2, 2, 2), ("sigmoid", "sigmoid"), "quadratic", True, 1.0)
    backend = get_backend("numba")
    for dtype in dtypes:
        layout = Layout(model.sizes, dtype)
        engine, params = backend.engine(model, layout), layout.zeros()
        targets = Targets(np.zeros(2, np.int64), np.empty((0, 2), dtype))
        for X in (np.zeros((2, 2), dtype), np.zeros((2, 2), np.uint8)):
            engine.feedforward(params, X)
            engine.evaluate(params, X, targets)
            for path in ("dense", "narrow"):
                engine.gradient(params, X, targets, path=path)
            for path, rule in product(("dense", "sparse", "narrow"), (PLAIN, Rule("momentum"))):
                with engine.trainer(params, X, targets, 1, path=path, rule=rule) as trainer:
                    trainer.run(np.arange(2), 0, 2, 0.1)
        for name in reference.PRIMES.keys() - reference.DERIVATIVES:  # called by address
            engine = backend.engine(model._replace(activations=(name, "sigmoid")), layout)
            for path in ("dense", "narrow"):
                engine.gradient(params, X, targets, path=path)
        z = np.zeros((2, 2), dtype)  # as for the norms that `fastbp train` records
        for name in reference.PRIMES:
            getattr(backend, name)(z)
        backend.affine(z, z, z[0])
        backend.output_delta("quadratic", "sigmoid", z, z)
        backend.backprop_delta(z, z, z, "relu")
