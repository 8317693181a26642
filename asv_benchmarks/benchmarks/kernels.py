"""Each operation of one layer, on either backend."""

from functools import cache, partial

import numpy as np

from fastbp.engines import get_backend
from fastbp.reference import ELEMENTWISE

from .common import BACKENDS, DTYPES, Timed

BATCH, N_IN, N_OUT = 100, 300, 100
PARAMETERS = 2_304  # of an optimiser's step: all its arrays fit into the first cache


def arrays(dtype):
    """Return a layer's arrays, by the names that the operations give them."""
    rng = np.random.default_rng(0)
    shapes = {"z": (BATCH, N_OUT), "x": (BATCH, N_IN), "W": (N_OUT, N_IN), "b": (N_OUT,)}
    shapes |= dict.fromkeys(("p", "first", "second", "g"), (PARAMETERS,))
    found = {name: rng.random(shape).astype(dtype) for name, shape in shapes.items()}
    found["y"] = np.eye(N_OUT, dtype=dtype)[rng.integers(0, N_OUT, BATCH)]
    return found


# Operation: the arguments it is called with.
CALLS = {
    **{name: lambda d: (d["z"],) for name in ELEMENTWISE},
    "softmax": lambda d: (d["z"],),
    "affine": lambda d: (d["x"], d["W"], d["b"]),
    "backprop_delta": lambda d: (d["W"], d["z"], d["x"], "sigmoid"),
    "weight_gradient": lambda d: (d["x"], d["z"]),
    "bias_gradient": lambda d: (d["z"],),
    "outer_update": lambda d: (d["W"], d["b"], d["x"][0], d["z"][0], 1e-6),
    "batch_update": lambda d: (d["W"], d["b"], d["x"], d["z"], 1e-6),
    "momentum_update": lambda d: (d["p"], d["first"], d["g"], 1e-6, 0.9),
    "nesterov_update": lambda d: (d["p"], d["first"], d["g"], 1e-6, 0.9),
    "rmsprop_update": lambda d: (d["p"], d["second"], d["g"], 1e-6, 0.99, 1e-8),
    "adam_update": lambda d: (d["p"], d["first"], d["second"], d["g"], 1e-6, 0.9, 0.999, 1e-8, 9),
    "output_delta": lambda d: ("cross-entropy", "softmax", d["z"], d["y"]),
}


@cache
def _prepared(operation, backend, dtype):
    call = partial(getattr(get_backend(backend), operation), *CALLS[operation](arrays(dtype)))
    call()  # compile
    return call


class Operations(Timed):
    """Times one call; the compiled ones include the conversion to storage and back."""

    params = (list(CALLS), BACKENDS, DTYPES)
    param_names = ("operation", "backend", "dtype")

    def setup(self, operation, backend, dtype):
        self.call = _prepared(operation, backend, dtype)

    def time_operation(self, operation, backend, dtype):
        self.call()

    time_operation.pretty_name = "One operation of a layer"
