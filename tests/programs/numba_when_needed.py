"""Prints whether Numba is imported: after a network on the reference, and after one on kernels."""

import sys

import fastbp

for backend in ("numpy", "numba"):
    fastbp.Network([2, 2], backend=backend)
    print("numba" in sys.modules)
