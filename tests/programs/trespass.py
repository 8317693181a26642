"""A test whose kernel reads or writes one number, at TRESPASS="DTYPE PLACE read|write"."""

import os

import fences
import numba
import numpy as np

from fastbp import kernels
from fastbp.kernels.ir.memory import at, pointer

dtype, place, how = os.environ["TRESPASS"].split()


@numba.njit
def trespass(x, place, write):
    p = at(pointer(x), place)
    if write:
        p[0] = 1
    return p[0]


kernels.KERNELS["trespass"] = trespass
kernels.trespass = None
if how == "write" and int(place) < 0:
    fences.SIDES = (True,)  # the call on arrays at the start would be killed


def test_it():
    kernels.trespass(np.ones(5, dtype), int(place), how == "write")
