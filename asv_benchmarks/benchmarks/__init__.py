"""The benchmarks of fastbp, run by asv from the folder above."""

import os

# The reference computes on one core, as the kernels do. NumPy reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
