"""Prints the kernels that training lacks after `fastbp warmup`, one per line."""

import contextlib
import os

from fastbp import engines, kernels
from fastbp.cli import main


def known():
    """The types that each kernel is compiled for, or loaded."""
    return {(name, sig) for name, kernel in kernels.KERNELS.items() for sig in kernel.signatures}


engines.warmup(["float32"])
before = known()
RUNS = "", "--batch-size 1", "--hidden 3 --batch-size 500", "--activation tanh --loss quadratic"
with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    for options in RUNS:
        assert main(["train", "--quiet", "--epochs", "1", "--plot", "a.svg", *options.split()]) == 0
        assert main(["evaluate"]) == 0
for name, signature in known() - before:
    print(name, signature)
