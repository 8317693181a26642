"""Print what the process holds before and after trainings and predictions; argv: rounds, a file.

In use, that is: what the allocator keeps beside comes and goes by megabytes.
"""

import contextlib
import ctypes
import gc
import json
import os
import sys
import threading

from digits_training import X, X_test, train, y, y_test
from numba.core.runtime import rtsys

import fastbp

KINDS = [
    {"optimizer": "sgd", "threads": 2},
    {"optimizer": "adam", "threads": 2},
    {"optimizer": "momentum", "validation_data": (X_test, y_test), "checkpoint": sys.argv[2]},
    {"backend": "numpy", "callbacks": [fastbp.callbacks.EarlyStopping("loss", 1)]},
    {"learning_rate": 1e30},
]


class Heap(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Heap


def level():
    gc.collect()
    stats, heap = rtsys.get_allocation_stats(), libc.mallinfo2()
    return {
        "memory": heap.uordblks + heap.hblkhd,
        "objects": sys.getallocatedblocks(),
        "blocks": stats.alloc - stats.free,
        "infos": stats.mi_alloc - stats.mi_free,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "python": threading.active_count(),
    }


def work(fits, predictions):
    for count in range(fits):
        with contextlib.suppress(fastbp.DivergenceError):
            train(batch_size=50, epochs=1, **KINDS[count % len(KINDS)])
    net = fastbp.Network([64, 20, 10], input_scale=1 / 16, seed=0)
    for count in range(predictions):
        net.predict(X[count % 300])
    for _ in range(predictions // 1000):
        net.predict(X, threads=2)
        net.loss(X, y)
        net.gradient(X, y)


work(200, 20_000)
before = level()
for _ in range(int(sys.argv[1])):
    work(1000, 100_000)
print(json.dumps([before, level()]))
