"""Computes each sigmoid twice; a test appends this to the `__init__.py` of a copy of fastbp."""

from fastbp import kernels

once = kernels.sigmoid


def twice(z, out):
    once(z, out)
    once(z, out)


kernels.sigmoid = twice
