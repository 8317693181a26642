"""Calls one kernel; prints what it gives, and what the cache was and is."""

import json
import os

import numpy as np

from fastbp import kernels

z, out = np.array([-1.0, 0.0, 3.0]), np.empty(3)
z.flags.writeable = False


def call():
    before = os.path.exists(os.environ["NUMBA_CACHE_DIR"])
    kernels.sigmoid(z, out)
    folder = kernels.cache_dir()
    found = {
        "out": out.tolist(),
        "hits": sum(kernels.sigmoid._cache_hits.values()),
        "folder": folder and str(folder),
        "before": before,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    call()
