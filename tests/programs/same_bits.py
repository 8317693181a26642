"""Print the digests of trainings that must all be equal, by kind; argv: seconds of a time slice."""

import json
import sys

from digits_training import X_test, train, y_test

import fastbp
from fastbp.training import loop as training

KINDS = {
    "online": {"batch_size": 1},
    "online float64": {"batch_size": 1, "dtype": "float64", "sizes": (64, 20, 30, 10)},
    "batches": {"batch_size": 32},
    "adam": {"batch_size": 10, "optimizer": "adam"},
    "large": {"batch_size": 300, "optimizer": {"momentum": 0.9, "l2": 1e-4, "clip_norm": 1.0}},
    "narrow": {"batch_size": 100, "sizes": (64, 5, 10), "dtype": "float64"},
    "reference": {"batch_size": 10, "backend": "numpy"},
}


def ways():
    """Yield what must not show: more threads, and each kind of onlooker."""
    yield {"threads": 1}
    yield {"threads": 2, "progress": True}
    yield {"threads": 3, "callbacks": [fastbp.callbacks.StopOnDivergence()]}
    yield {"threads": 4, "validation_data": (X_test, y_test)}


def digests(optimizer="sgd", **kind):
    """Train in each way, each time with an optimizer that remembers nothing."""
    for way in ways():
        fresh = fastbp.SGD(**optimizer) if isinstance(optimizer, dict) else optimizer
        yield train(optimizer=fresh, **kind, **way)


training.SLICE_SECONDS = float(sys.argv[1])
print(json.dumps({name: sorted(set(digests(**kind))) for name, kind in KINDS.items()}))
