"""Checking gradients, yours included, and checking this machine.

## A network, a layer, a function of your own

`gradcheck` compares a gradient with central differences, (f(p + h) - f(p - h)) / 2h, in float64.
It takes a `Network`, a `Sequential`, a single layer with `forward` and `backward`, or a pair of
functions:

>>> import fastbp, numpy as np
>>> rng = np.random.default_rng(0)
>>> X, y, W = rng.normal(size=(5, 3)), rng.normal(size=(5, 2)), rng.normal(size=(3, 2))
>>> def f(p): return ((X @ p["W"] - y) ** 2).sum() / 2
>>> def df(p): return {"W": X.T @ (X @ p["W"] - y)}
>>> fastbp.gradcheck((f, df), {"W": W}).verdict
'ok'

Where a gradient is wrong, the report names the parameter, the entry, and both values:

>>> def wrong(p): return {"W": X.T @ (X @ p["W"] - y) * [1, 2]}
>>> report = fastbp.gradcheck((f, wrong), {"W": W})
>>> report.verdict, report.failures[0].name
('NOT ok', 'W')
>>> analytic, numerical = report.failures[0].analytic, report.failures[0].numerical
>>> round(analytic / numerical, 6)
2.0

The third verdict, "undecided at a kink", is for functions such as ReLU whose slope jumps where
they are checked: differences cannot decide there. Functions that are random are refused.

To check a layer, write `forward(x)` and `backward(dout)`, which returns dx; each attribute `W`
that has a partner `dW` is a parameter:

>>> class Scale:
...     def __init__(self): self.a = np.array([2.0, 3.0])
...     def forward(self, x):
...         self.x = x
...         return self.a * x
...     def backward(self, dout):
...         self.da = (dout * self.x).sum(axis=0)
...         return dout * self.a
>>> fastbp.gradcheck(Scale(), X[:, :2]).ok
True

From the shell, `fastbp gradcheck --sizes 4,5,3` checks networks of fastbp; of one with dropout a
step with neurons left out, always the same.

## A fast implementation against its reference

Every operation of fastbp exists twice, with the same name, order and arguments: `fastbp.reference`
says what is computed, in plain NumPy, and `fastbp.kernels` computes it. `Network(...,
backend="numpy")` runs a whole network on the reference, and `get_backend` gives the operations of
either. `verify`, or `fastbp verify` from the shell, compares every kernel, dtype, path and number
of threads with the reference on your machine, with all activations, losses and dropout, and the
reference with finite differences. It prints
the largest error beside the one that is allowed; the exit code is 1 if one is larger.

## How exact the kernels are

The compiled activations are branch-free polynomials. Over all 2**32 float32 bit patterns
(`scripts/exhaustive_ulp.py`), sigmoid errs by at most 1.52 units in the last place where its
result is a normal number, tanh by 1.58 (1.05 with AVX-512), exp by 1.08, ELU by 0.92, softplus by
1.66, SiLU by 2.42, and GELU by 2.7 above zero and 5.6 in its left tail. Sigmoid and tanh are
monotone, on CPUs with FMA. All reach their limits and pass NaN on. `tests/README.md` lists what
else is promised, with the tests that prove it.

The classic programs that people learn back-propagation from stand in `scripts/classics`, each of
which prints what it measured beside what is known.
"""

import time

import llvmlite.binding as llvm
import numpy as np

from .._support import checks
from ..losses import KINDS
from ..network import Network
from .cases import DTYPES, FULL, QUICK, Rng, models, words
from .comparisons import COMPARISONS, compare_threads
from .gradients import TOLERANCE, GradientReport, gradcheck
from .tolerances import Comparisons, VerificationReport

__all__ = ["GradientReport", "VerificationReport", "gradcheck", "verify"]


@np.errstate(all="ignore")
def verify(quick: bool = False, seed: int = 0) -> VerificationReport:
    """Check, on this machine, that the kernels compute what the reference says.

    Run it on a new CPU, or after an update of Numba; put its table into a bug report. It compares:

    - Every operation on a layer, over shapes, memory layouts and saturated values.
    - Whole networks, for all activations, losses, biases on and off, layers of different kinds and
      functions of the user's: feedforward, evaluate, gradient, and the fused step, (W_before -
      W_after) / learning_rate, on dense and zero-skipping input, with dropout too. Teams of up to
      four threads (as many as there are cores) must agree to the last bit.
    - The reference itself, against finite differences.

    Parameters
    ----------
    quick : bool, default False
        Fewer shapes, and those activations and losses that are compiled when a network first uses
        them, and dropout, in networks of float32 alone: a few seconds, once the kernels are
        compiled.
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
        compare_threads(matrix, scope, dtype, rng)
    compare_reference(matrix, rng)
    rows = tuple(sorted(matrix.rows.values(), key=lambda row: row.kernel == "reference"))
    seconds = time.perf_counter() - started
    return VerificationReport(rows, quick, llvm.get_host_cpu_name(), seconds)


def compare_reference(matrix: Comparisons, rng: Rng) -> None:
    """Compare back-propagation in the reference with central differences."""
    row = matrix.row("reference", "float64")
    for model in models((4, 3, 3, 2)):
        *hidden, output = model.activations
        loss = model.loss if model.setting is None else KINDS[model.loss](model.setting)
        how = hidden, output, loss, model.bias
        net = Network(model.sizes, *how, "float64", "numpy", "normal", seed=7)
        error = gradcheck(net, rng.standard_normal((3, 4)), rng.random((3, 2))).max_error
        row.note(words(model), error, TOLERANCE)
