"""Checks that users run themselves: `verify` for this machine, `gradcheck` for their gradients."""

import time
from itertools import product

import llvmlite.binding as llvm
import numpy as np

from .._support import checks
from ..network import Network
from .cases import DTYPES, FULL, HIDDEN, OUTPUTS, QUICK, Rng
from .comparisons import COMPARISONS, compare_threads
from .gradients import TOLERANCE, GradientReport, gradcheck
from .tolerances import Comparisons, VerificationReport

__all__ = ["GradientReport", "VerificationReport", "gradcheck", "verify"]


@np.errstate(all="ignore")
def verify(quick: bool = False, seed: int = 0) -> VerificationReport:
    """Check, on this machine, that the kernels compute what the reference says.

    Run it on a new CPU, or after an update of Numba; put its table into a bug report. It compares:

    - Every operation on a layer, over shapes, memory layouts and saturated values.
    - Whole networks, for all activations, losses, biases on and off: feedforward, evaluate,
      gradient, and the fused step, (W_before - W_after) / learning_rate, on dense and zero-skipping
      input. Teams of up to four threads (as many as there are cores) must agree to the last bit.
    - The reference itself, against finite differences.

    Parameters
    ----------
    quick : bool, default False
        Fewer shapes: a few seconds, once the kernels are compiled.
    seed : int, default 0
        Seed of the random numbers that are computed with.

    Returns
    -------
    VerificationReport
        With `ok`, `rows`, `failures` and `to_dict()`; `str()` gives a table.

    Raises
    ------
    TypeError
        If `quick` is not a bool.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.verify(quick=True).ok
    True
    >>> print(fastbp.verify(quick=True))  # doctest: +SKIP
    kernel                 against        dtype    path    threads  cases  largest error  allowed
    sigmoid                reference      float32  -             1     16        1.6e-07    1e-05
    ...
    ok: 14,344 comparisons in 6.2 s on skylake-avx512
    """
    started, quick = time.perf_counter(), checks.flag("quick", quick)
    matrix, rng = Comparisons(), np.random.default_rng(seed)
    scope = QUICK if quick else FULL
    for dtype in DTYPES:
        for compare in COMPARISONS:
            compare(matrix, scope, dtype, rng)
        compare_threads(matrix, dtype, rng)
    compare_reference(matrix, rng)
    rows = tuple(sorted(matrix.rows.values(), key=lambda row: row.kernel == "reference"))
    seconds = time.perf_counter() - started
    return VerificationReport(rows, quick, llvm.get_host_cpu_name(), seconds)


def compare_reference(matrix: Comparisons, rng: Rng) -> None:
    """Compare back-propagation in the reference with central differences."""
    row = matrix.row("reference", "float64")
    for hidden, (loss, output), bias in product(HIDDEN, OUTPUTS, (True, False)):
        model = hidden, output, loss, bias
        net = Network([4, 3, 3, 2], *model, "float64", "numpy", "normal", seed=7)
        error = gradcheck(net, rng.standard_normal((3, 4)), rng.random((3, 2))).max_error
        row.note(f"4-3-3-2, {hidden}, {output}, {loss}, bias {bias}", error, TOLERANCE)
