"""Each operation of one layer, on either backend."""

import numpy as np

from fastbp.backend import get_backend
from fastbp.reference import ELEMENTWISE

from .common import BACKENDS, DTYPES

BATCH, N_IN, N_OUT = 100, 300, 100


def _arrays(dtype):
    rng = np.random.default_rng(0)
    shapes = {"z": (BATCH, N_OUT), "x": (BATCH, N_IN), "W": (N_OUT, N_IN), "b": (N_OUT,)}
    shapes |= dict.fromkeys(("velocity", "g", "g2"), (N_OUT, N_IN))
    arrays = {name: rng.random(shape).astype(dtype) for name, shape in shapes.items()}
    arrays["y"] = np.eye(N_OUT, dtype=dtype)[rng.integers(0, N_OUT, BATCH)]
    return arrays


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
    "momentum_update": lambda d: (d["W"], d["velocity"], d["g"], 1e-6, 0.9),
    "nesterov_update": lambda d: (d["W"], d["velocity"], d["g"], 1e-6, 0.9),
    "adam_update": lambda d: (d["W"], d["velocity"], d["g2"], d["g"], 1e-6, 0.9, 0.999, 1e-8, 9),
    "output_delta": lambda d: ("cross-entropy", "softmax", d["z"], d["y"]),
}


class Operations:
    """Times one call; the compiled ones include the conversion to storage and back."""

    params = (list(CALLS), BACKENDS, DTYPES)
    param_names = ("operation", "backend", "dtype")

    def setup(self, operation, backend, dtype):
        self.arguments = CALLS[operation](_arrays(dtype))
        self.call = getattr(get_backend(backend), operation)
        self.call(*self.arguments)  # compile

    def time_operation(self, operation, backend, dtype):
        self.call(*self.arguments)
