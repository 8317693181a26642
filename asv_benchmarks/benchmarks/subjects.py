"""Fixed work for every compiled kernel, beside its twin: what is counted and compared.

A subject's name begins with that of its kernel, so that a change is reported by name. Kernels are
called directly, with the very arguments that the backend hands them: conversions around a kernel
would hide a part of its change.
"""

import traceback
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

import fastbp
from fastbp import kernels
from fastbp._support import checks
from fastbp.engines import get_backend
from fastbp.engines.numba_data import contiguous

from .common import ALL, INPUTS
from .kernels import BATCH, CALLS, N_IN, N_OUT, arrays

COMPARED = "float32"  # what commits are compared with
RATE = 1e-6  # steps so small that the work stays the same however often it is done


class Subject(NamedTuple):
    """A kernel's call and the reference's, on equal data."""

    kernel: Callable
    reference: Callable
    operations: int = 0  # floating-point ones of a call, where it is matrix products


def handed(name, make):
    """Return the arguments that the call which `make` returns hands to a kernel."""
    found, kernel = [], getattr(kernels, name)

    def recording(*arguments):
        found.append(arguments)
        return kernel(*arguments)

    setattr(kernels, name, recording)
    try:
        make()()
    finally:
        setattr(kernels, name, kernel)
    return found[0]


def direct(name, make):
    """Return a call of the kernel alone."""
    made = []

    def kept():
        made.append(make())
        return made[0]

    call = partial(getattr(kernels, name), *handed(name, kept))
    call.owner = made  # of the memory that addresses among the arguments point to
    return call


# Passes over the same data took up to 1.7 times as long by where the data happened to lie: numbers
# across two cache lines, arrays whole pages apart. So each array gets a place of its own in a page.
PAGE, LINE = 4096, 64
STEP = 17 * LINE  # from one array's place to the next one's


def placed(arguments):
    """Return the arguments with each array copied to its place."""
    return [_at(i * STEP % PAGE, x) if isinstance(x, np.ndarray) else x
            for i, x in enumerate(arguments)]  # fmt: skip


def _at(offset, array):
    memory = np.empty(array.nbytes + 2 * PAGE, np.uint8)
    start = -memory.ctypes.data % PAGE + offset
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    copy.flags.writeable = array.flags.writeable
    return copy


# -- one layer -------------------------------------------------------------------------------------

PRODUCTS = {"affine", "backprop_delta", "weight_gradient", "batch_update"}


def operation(name, dtype):
    """Make the subject of an operation of one layer."""

    def called(backend):
        return partial(getattr(get_backend(backend), name), *CALLS[name](arrays(dtype)))

    operations = 2 * BATCH * N_IN * N_OUT if name in PRODUCTS else 0
    arguments = placed(handed(name, partial(called, "numba")))
    return Subject(partial(getattr(kernels, name), *arguments), called("numpy"), operations)


# -- whole networks --------------------------------------------------------------------------------

# Kernel, workload, path, samples: a few milliseconds of the reference, or one step.
EPOCHS = [
    ("sgd_epoch", "online", "sparse", 100),
    ("sgd_epoch", "online", "dense", 100),
    ("sgd_epoch", "deep1", "sparse", 50),
    ("sgd_epoch", "nielsen", "sparse", 500),
    ("sgd_epoch", "nielsen", "dense", 500),
    ("sgd_epoch", "twolayer", "sparse", 1_000),
    ("sgd_epoch", "wide", "dense", 256),
    ("narrow_epoch", "surrogate", "narrow", 10_000),
    ("optimizer_epoch", "nielsen", "sparse", 500),
    ("narrow_optimizer_epoch", "surrogate", "narrow", 10_000),
]
# Kernel, workload, samples.
PASSES = [
    ("gradient", "nielsen", 10),
    ("gradient", "twolayer", 1_000),
    ("narrow_gradient", "regression", 200),
    ("feedforward", "online", 1),
    ("feedforward", "online", 1_000),
    ("evaluate", "online", 1_000),
]
FORCED = {"gradient": {"path": "dense"}, "narrow_gradient": {"path": "narrow"}}


def _data(work, samples, path):
    return work.data(samples, INPUTS["zeros" if path == "sparse" else "dense"])


def _operations(sizes, samples, passes):
    """Return those of forward pass, update (2 passes) and deltas (3); the inputs have no delta."""
    weights = [p * q for p, q in pairwise(sizes)]
    return 2 * samples * (min(passes, 2) * sum(weights) + (passes > 2) * sum(weights[1:]))


def epoch(kernel, workload, path, samples, dtype):
    """Make the subject of a stretch of training."""
    work = ALL[workload]
    data = _data(work, samples, path)

    def trained(backend, **options):
        net = work.network(backend, dtype)
        if "optimizer" in kernel:
            options["rule"] = fastbp.Adam().rule()
        trainer = net._engine.trainer(net.params, *batch_of(net, *data), work.batch_size, **options)
        return partial(trainer.run, np.arange(samples), 0, samples, RATE)

    operations = _operations(work.sizes, samples, 3) if path == "dense" else 0
    fast = direct(kernel, partial(trained, "numba", path=path))
    return Subject(fast, trained("numpy"), operations)


def network_pass(kernel, workload, samples, dtype):
    """Make the subject of a gradient, a forward pass or an evaluation."""
    work = ALL[workload]

    def called(backend):
        net = work.network(backend, dtype)
        data = batch_of(net, *_data(work, samples, "dense"))
        method = kernel.removeprefix("narrow_")
        options = FORCED.get(kernel, {}) if backend == "numba" else {}
        arguments = data[:1] if method == "feedforward" else data
        return partial(getattr(net._engine, method), net.params, *arguments, **options)

    operations = _operations(work.sizes, samples, 3 if "gradient" in kernel else 1)
    return Subject(direct(kernel, partial(called, "numba")), called("numpy"), operations)


# Kernel, workload, path, samples of a part.
PARTS = [
    ("part_gradient", "nielsen", "sparse", 10),
    ("part_gradient", "wide", "dense", 64),
    ("narrow_part_gradient", "surrogate", "narrow", 5_000),
    ("rule_step", "wide", "dense", 64),
]


def batch_of(net, X, y):
    """Return samples and targets as trainers take them."""
    return checks.batch(X, y, net._config)


def in_parts(kernel, workload, path, samples, dtype):
    """Make the subject of a half of a step, of ranks that share their batches."""
    work = ALL[workload]
    data = _data(work, samples, path)

    def halves(backend, **options):
        net = work.network(backend, dtype)
        trainer = net._engine.trainer(
            net.params, *batch_of(net, *data), samples, rule=fastbp.Adam().rule(), shared=True,
            **options,
        )  # fmt: skip
        if kernel == "rule_step":
            return partial(trainer.step, samples, 1 / samples, RATE)
        return partial(trainer.part, np.arange(samples), 0, samples, 1 / samples)

    operations = _operations(work.sizes, samples, 3) if path == "dense" else 0
    fast = direct(kernel, partial(halves, "numba", path=path))
    return Subject(fast, halves("numpy"), 0 if kernel == "rule_step" else operations)


def indexing(dtype):
    """Make the subject of the index of zero-skipping input; its twin is NumPy's own."""
    work = ALL["nielsen"]
    X, y = _data(work, 1_000, "sparse")
    net = work.network("numba", dtype)
    rows = batch_of(net, X.astype(dtype), y)
    make = partial(net._engine.trainer, net.params, *rows, work.batch_size, path="sparse")
    arguments = handed("index_rows", lambda: make)
    done = arguments[3]  # how far the index has come: from the start each time

    def index():
        done[0] = 0
        kernels.index_rows(*arguments)

    return Subject(index, rows[0].nonzero)


def indexing_entries(dtype):
    """Make the subject of the index of a sparse matrix; its twin finds the entries."""
    X = _data(ALL["nielsen"], 1_000, "sparse")[0].astype(dtype)
    rows, columns = X.nonzero()
    first = np.searchsorted(rows, np.arange(len(X) + 1))
    room = len(rows) + 3 * len(X)
    out = np.zeros(len(X) + 1, np.int64), np.empty(room, np.uint16), np.empty(room, dtype)
    given = [contiguous(x) for x in (first, columns, X[rows, columns])]
    arguments = *given, X.dtype.type(1), X.shape[1], *out
    fast = direct("index_entries", lambda: lambda: kernels.index_entries(*arguments))
    return Subject(fast, X.nonzero)


SUBJECTS = {
    **{name: partial(operation, name) for name in CALLS},
    **{" ".join(map(str, row[:3])): partial(epoch, *row) for row in EPOCHS},
    **{" ".join(map(str, row)): partial(network_pass, *row) for row in PASSES},
    **{" ".join(map(str, row[:3])): partial(in_parts, *row) for row in PARTS},
    "index_rows": indexing,
    "index_entries": indexing_entries,
}


def made_ready(name):
    """Return a subject, or None, saying why: another commit may lack the kernel."""
    try:
        return SUBJECTS[name](COMPARED)
    except Exception:  # whatever it raises, the others are to be measured
        traceback.print_exc()
        return None


# Those of which the matrix products make nearly all; batches of one wait for memory instead.
AT_PEAK = [
    *sorted(PRODUCTS),
    "sgd_epoch nielsen dense",
    "sgd_epoch wide dense",
    "gradient twolayer 1000",
    "feedforward online 1000",
]
