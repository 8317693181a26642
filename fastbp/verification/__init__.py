"""`verify`: on this machine, the compiled kernels against the reference, and that against theory.

Every comparison belongs to a cell of the matrix kernel x dtype x path x threads; the report has one
row a cell, with the largest error seen beside the one allowed.
"""

import time
from itertools import chain, cycle, product
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np

from .._support import checks
from ..engines import get_backend, part_trainer
from ..model import activations, losses
from ..network import Network
from ..reference import Model
from ..rules import PLAIN, Memory, Rule
from .cases import ROUNDINGS, Case
from .gradients import TOLERANCE, gradcheck
from .matrix import Matrix, VerificationReport

DTYPES = ("float32", "float64")
PATHS = ("dense", "sparse", "narrow")
# Lanes over the batch have kernels of their own.
EPOCHS = {"dense": "sgd_epoch", "sparse": "sgd_epoch", "narrow": "narrow_epoch"}
OPTIMIZED = {
    "dense": "optimizer_epoch", "sparse": "optimizer_epoch", "narrow": "narrow_optimizer_epoch"
}  # fmt: skip
GRADIENTS = {"dense": "gradient", "narrow": "narrow_gradient"}
PARTS = {"dense": "part_gradient", "sparse": "part_gradient", "narrow": "narrow_part_gradient"}
RULES = (
    Rule(l2=0.01, clip=0.1),
    Rule("momentum", 0.9, l2=0.3, over_sum=True),
    Rule("nesterov", 0.9, clip=0.1),
    Rule("adam", 0.9, 0.999, 1e-8),
    Rule("adam", 0.9, 0.999, 1e-8, corrected=False, l2=0.01),
)
THREADS = (1, 2, 3, 4)
OUTPUTS = [(loss, output) for loss in losses.NAMES for output in losses.outputs(loss)]
# Where sigmoid, tanh and exp saturate or end, in both dtypes.
SATURATED = np.array([-1e3, -746, -709, -104, -89, -37, -1e-30, 0, 1e-30, 37, 89, 709, 1e3])


# Wide enough for several blocks of inputs and panels of columns where zeros are skipped.
WIDE = (300, 130, 17)
NARROW, MANY = (9, 7, 5), 1100  # samples enough for a team with lanes over the batch


_TANH = ("tanh",) * 9 + ("identity",)
RULE_RATE = 2.0**-4


class Scope(NamedTuple):
    """How much is looked at."""

    widths: tuple  # of single layers
    batches: tuple
    networks: tuple  # (sizes, batch) for every activation, loss and bias
    large: tuple  # the same, for a few: wide ones, and batches larger than the scratch
    both_targets: bool  # labels and real values for each, not in turns


QUICK = Scope(
    (1, 7, 17, 64),
    (1, 6),
    (((17, 7, 3), 6), ((5, 3, 2, 2), 1)),
    (((7, 5, 3), 1030), (WIDE, 20)),
    False,
)
FULL = Scope(
    (1, 2, 7, 17, 64, 100), (1, 2, 6, 33),
    (
        ((17, 7, 3), 6), ((5, 3, 2, 2), 1), ((1, 1, 1), 1), ((64, 100, 17), 33), ((100, 2), 7),
        ((7, 64, 1, 17, 100, 2), 9),
    ),
    (((7, 5, 3), 1030), (WIDE, 20), ((100, 17, 4), 2100), ((70_000, 2), 3)),
    True,
)  # fmt: skip


def verify(quick: bool = False, seed: int = 0) -> VerificationReport:
    """Check, on this machine, that the kernels compute what the reference says.

    - Every operation on a layer, over shapes, memory layouts and saturated values: kernel against
      reference.
    - Whole networks, for all activations, losses, biases on and off: feedforward, evaluate,
      gradient, and the fused step, (W_before - W_after) / learning_rate against the reference's
      gradient, on dense and zero-skipping input, by teams of one to four threads (as many as there
      are cores), which must agree to the last bit.
    - The reference against finite differences.

    Parameters
    ----------
    quick : bool
        Fewer shapes: a few seconds, once the kernels are compiled.
    seed : int
        Of the random numbers that are computed with.

    Returns
    -------
    VerificationReport
        With `ok`, `rows`, `failures` and `to_dict()`; `str()` gives a table.

    Examples
    --------
    >>> import fastbp
    >>> report = fastbp.verify(quick=True)
    >>> report.ok
    True
    """
    started, quick = time.perf_counter(), checks.flag("quick", quick)
    matrix, rng = Matrix(), np.random.default_rng(seed)
    scope = QUICK if quick else FULL
    for dtype in DTYPES:
        _verify_operations(matrix, scope, dtype, rng)
        _verify_index(matrix, scope, dtype, rng)
        _verify_networks(matrix, scope, dtype, rng)
        _verify_optimizers(matrix, scope, dtype, rng)
        _verify_threads(matrix, dtype, rng)
    _verify_reference(matrix, rng)
    rows = tuple(sorted(matrix.rows.values(), key=lambda row: row.kernel == "reference"))
    cpu = llvm.get_host_cpu_name()
    return VerificationReport(rows, quick, cpu, time.perf_counter() - started)


# -- operations of one layer -----------------------------------------------------------------------


def _elementwise():
    """Yield name, kind, arguments (from draw, batch, n, m), and how many of them are written to."""
    for name, suffix in product(activations.HIDDEN, ("", "_prime")):
        yield name + suffix, "elementwise", lambda draw, b, n, m: [3 * draw(b, n)], 0
        yield name + suffix, "elementwise", lambda draw, b, n, m: [SATURATED + 0 * draw(1)], 0
    for name in activations.HIDDEN:
        from_a = name + "_prime_from_a"
        yield from_a, "elementwise", lambda draw, b, n, m: [np.tanh(draw(b, n))], 0
    yield "exp", "elementwise", lambda draw, b, n, m: [9 * draw(b, n)], 0
    yield "softmax", "elementwise", lambda draw, b, n, m: [3 * draw(b, n)], 0
    yield "softmax", "elementwise", lambda draw, b, n, m: [SATURATED + 0 * draw(b, 1)], 0


def _contractions():
    """Yield the like for sums of products."""
    yield "affine", "contraction", lambda draw, b, n, m: [draw(b, m), draw(n, m), draw(n)], 0
    yield "weight_gradient", "contraction", lambda draw, b, n, m: [draw(b, m), draw(b, n)], 0
    yield "bias_gradient", "contraction", lambda draw, b, n, m: [draw(b, n)], 0
    yield (
        "outer_update", "contraction",
        lambda draw, b, n, m: [draw(n, m), draw(n), draw(m), draw(n), 0.3], 2,
    )  # fmt: skip
    yield (
        "batch_update", "contraction",
        lambda draw, b, n, m: [draw(n, m), draw(n), draw(b, m), draw(b, n), 0.3], 2,
    )  # fmt: skip
    for name in activations.HIDDEN:
        yield (
            "backprop_delta", "contraction",
            lambda draw, b, n, m, f=name: [draw(m, n), draw(b, m), np.tanh(draw(b, n)), f], 0,
        )  # fmt: skip
    for name in ("momentum_update", "nesterov_update"):
        yield (
            name, "contraction",
            lambda draw, b, n, m: [draw(n), draw(n), draw(n), 0.3, 0.9], 2,
        )  # fmt: skip
    yield (
        "adam_update", "contraction",
        lambda draw, b, n, m: [
            draw(n), draw(n), np.abs(draw(n)), draw(n), 0.3, 0.9, 0.999, 1e-8, 1.0 + m
        ], 3,
    )  # fmt: skip
    for pair, size in product(OUTPUTS, (1, 300)):
        if (pair[1], size) == ("exp", 300):
            continue  # infinite, and so is everything after it
        yield (
            "output_delta", "contraction",
            lambda draw, b, n, m, p=pair, s=size: [*p, s * draw(b, n), np.abs(draw(b, n))], 0,
        )  # fmt: skip


def _strided(array):
    """Return an equal array, every other element of a larger one."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


LAYOUTS = {"C": np.ascontiguousarray, "Fortran": np.asfortranarray, "strided": _strided}


def _verify_operations(matrix, scope, dtype, rng):
    def draw(*shape):
        return rng.standard_normal(shape)

    layouts, inputs = cycle(LAYOUTS.items()), cycle((1, 17, 5))
    for name, kind, arguments, written in chain(_elementwise(), _contractions()):
        for batch, n in product(scope.batches, scope.widths):
            m, (layout, arrange) = next(inputs), next(layouts)
            where = f"batch {batch}, {m} to {n}, {layout}"
            args = [
                arrange(x.astype(dtype)) if isinstance(x, np.ndarray) else x
                for x in arguments(draw, batch, n, m)
            ]
            _compare_operation(matrix, name, kind, dtype, where, args, written)


def _compare_operation(matrix, name, kind, dtype, where, args, written):
    results, row = {}, matrix.row(name, dtype)
    # Of a (1 - a), and of (a - y) a (1 - a), saturation leaves nothing but the rounding of 1.
    cancels = name.endswith(("_prime", "_from_a")) or name == "output_delta"
    slack = ROUNDINGS * np.finfo(dtype).eps if cancels else 0.0
    with matrix.attempt(row, where):
        for backend in ("numpy", "numba"):
            fresh = [*(np.array(x) for x in args[:written]), *args[written:]]
            out = getattr(get_backend(backend), name)(*fresh)
            results[backend] = fresh[:written] if written else out
        pairs = (x if isinstance(x, (tuple, list)) else [x] for x in results.values())
        for want, got in zip(*pairs, strict=True):
            matrix.compare(row, where, got, want, kind, slack)


# -- whole networks --------------------------------------------------------------------------------


def _models(sizes):
    """Yield the model for every activation, loss, output and bias; every third one takes bytes."""
    scales = cycle((1.0, 1 / 256, 1.0))
    # Softmax of a single output is constant: its gradient would be rounding and nothing else.
    outputs = [pair for pair in OUTPUTS if sizes[-1] > 1 or pair[1] != "softmax"]
    for hidden, (loss, output), bias in product(activations.HIDDEN, outputs, (True, False)):
        names = (*[hidden] * (len(sizes) - 2), output)
        yield Model(tuple(sizes), names, loss, bias, next(scales))


def _verify_networks(matrix, scope, dtype, rng):
    turns = cycle((True, False))
    for sizes, batch in scope.networks:
        for model in _models(sizes):
            for labels in (True, False) if scope.both_targets else (next(turns),):
                case = Case(rng, model, dtype, batch, labels)
                compare_engines(matrix, case)
                for path in PATHS:
                    compare_step(matrix, case, path)
    for sizes, batch in scope.large:
        for model in list(_models(sizes))[:: 3 * len(OUTPUTS)]:
            case = Case(rng, model, dtype, batch, labels=True)
            compare_engines(matrix, case)
            for path in PATHS:
                compare_step(matrix, case, path)
                compare_epoch(matrix, case, path)


def compare_engines(matrix, case):
    """Feedforward, evaluate and gradient of the two engines."""
    where, slack, args = case.where, case.slack, (case.params, case.X)
    row = matrix.row("feedforward", case.dtype, "dense")
    with matrix.attempt(row, where):
        (got, _), (want, _) = case.fast.feedforward(*args), case.slow.feedforward(*args)
        matrix.compare(row, where, got, want, slack=slack["outputs"])
    args, row = (*args, case.targets), matrix.row("evaluate", case.dtype, "dense")
    with matrix.attempt(row, where):
        _compare_totals(matrix, row, case, case.fast.evaluate(*args))
    for path, kernel in GRADIENTS.items():
        row = matrix.row(kernel, case.dtype, path)
        with matrix.attempt(row, where):
            grads, loss, fine = case.fast.gradient(*args, path=path)
            matrix.same(row, f"{where}, finite", fine, True)
            matrix.compare(row, f"{where}, loss", loss, case.loss, slack=slack["loss"])
            _compare_gradient(matrix, row, case, grads)


def _compare_totals(matrix, row, case, totals):
    """The sum of the losses, and how many classes were right."""
    loss = totals[0] / case.batch
    matrix.compare(row, f"{case.where}, loss", loss, case.loss, slack=case.slack["loss"])
    where = f"{case.where}, right classes: {totals[1]:.0f} for {case.right}"
    matrix.same(row, where, totals[1], case.right)


def _compare_gradient(matrix, row, case, grads, more=None):
    """Array by array; what is no parameter must stay zero. `more` adds to the slack."""
    want, more = case.parts(case.grads), case.parts(more) if more is not None else {}
    for name, got in case.parts(grads).items():
        slack = case.slack[name] + more.get(name, 0.0)
        matrix.compare(row, f"{case.where}, {name}", got, want[name], slack=slack)
    padding = grads.copy()
    for part in case.parts(padding).values():
        part[...] = 0
    matrix.same(row, f"{case.where}, padding", padding, np.zeros_like(padding))


def compare_step(matrix, case, path, threads=1, alone=None):
    """One fused step against the gradient; return the parameters after it.

    `alone` are those that one thread came to.
    """
    params, rate = case.copy(), case.rate()
    row = matrix.row(EPOCHS[path], case.dtype, path, threads)
    if not _runs(matrix, path, case.dtype):
        return params
    with matrix.attempt(row, case.where):
        args = params, case.X, case.targets, case.batch, threads
        with case.fast.trainer(*args, path=path) as trainer:
            trainer.run(np.arange(case.batch), 0, case.batch, rate)
        step = (case.params - params) / params.dtype.type(rate)
        # The weights are rounded too, perhaps once a sample: errors that add in squares.
        unit = np.finfo(case.dtype).eps * np.sqrt(case.batch) / rate
        more = unit * (np.abs(case.params) + np.abs(params))
        _compare_gradient(matrix, row, case, step, more)
        _compare_totals(matrix, row, case, trainer.totals[0])
        if alone is not None:
            matrix.same(row, f"{case.where}: other bits than one thread's", params, alone)
    return params


def _verify_optimizers(matrix, scope, dtype, rng):
    for sizes, batch in (*scope.networks, *scope.large):
        model = Model(tuple(sizes), _TANH[-len(sizes) + 1 :], "quadratic", True, 1.0)
        case = Case(rng, model, dtype, batch, labels=False)
        state = np.abs(rng.standard_normal((2, case.params.size))).astype(dtype)
        for row in state:  # what is no parameter is remembered as zero
            inside = case.layout.zeros()
            for part in case.parts(inside).values():
                part[...] = 1
            row *= inside
        for rule, path in product(RULES, PATHS):
            compare_rule(matrix, case, rule, path, state)
        for path in PATHS:
            compare_part(matrix, case, path)
        for rule in RULES:
            compare_half_step(matrix, case, rule, state)


def compare_rule(matrix, case, rule, path, state):
    """One step of an optimiser that remembers `state`, against the reference's."""
    row = matrix.row(OPTIMIZED[path], case.dtype, path)
    if not _runs(matrix, path, case.dtype):
        return
    where, ends = f"{case.where}, {rule.name}, L2 {rule.l2:g}, norm {rule.clip:g}", []
    with matrix.attempt(row, where):
        for engine, forced in ((case.slow, {}), (case.fast, {"path": path})):
            params = case.copy()
            memory = Memory(state[: rule.slots].copy(), np.full(1, 3.0))
            args = params, case.X, case.targets, case.batch
            with engine.trainer(*args, rule=rule, memory=memory, **forced) as trainer:
                trainer.run(np.arange(case.batch), 0, case.batch, RULE_RATE)
            ends.append((params, memory, trainer.totals[0].copy()))
        (want, there, sums), (got, here, totals) = ends
        # The weights are rounded once; the step errs as the gradient does.
        unit, found = ROUNDINGS * np.finfo(case.dtype).eps, case.parts(want)
        for name, part in case.parts(got).items():
            slack = RULE_RATE * case.slack[name] + unit * np.abs(found[name])
            matrix.compare(row, f"{where}, {name}", part, found[name], slack=slack)
        most = max(np.max(case.slack[name]) for name in found)
        matrix.compare(row, f"{where}, memory", here.slots, there.slots, slack=most + unit)
        matrix.same(row, f"{where}, steps", here.clock, there.clock)
        matrix.compare(
            row, f"{where}, loss and penalty", totals, sums, slack=case.batch * case.slack["loss"]
        )


def compare_part(matrix, case, path, threads=1, alone=None):
    """Of a training in parts, the gradient of all samples in one part; return it.

    `alone` is what one thread came to.
    """
    row = matrix.row(PARTS[path], case.dtype, path, threads)
    found = case.layout.zeros()
    if not _runs(matrix, path, case.dtype):
        return found
    with matrix.attempt(row, case.where):
        args = case.copy(), case.X, case.targets, case.batch, threads, PLAIN, None
        with part_trainer("numba")(case.fast, *args, path=path) as trainer:
            trainer.part(np.arange(case.batch), 0, case.batch, 1 / case.batch)
        found[:], (losses, right, *_) = trainer.grads, trainer.tail
        _compare_gradient(matrix, row, case, found)
        _compare_totals(matrix, row, case, (losses, right))
        if alone is not None:
            matrix.same(row, f"{case.where}: other bits than one thread's", found, alone)
    return found


def compare_half_step(matrix, case, rule, state):
    """Of a training in parts, the step along a gradient that is given."""
    row = matrix.row("rule_step", case.dtype, "dense")
    where, ends = f"{case.where}, {rule.name}, L2 {rule.l2:g}, norm {rule.clip:g}", []
    with matrix.attempt(row, where):
        for name, engine in (("numpy", case.slow), ("numba", case.fast)):
            params, memory = case.copy(), Memory(state[: rule.slots].copy(), np.full(1, 3.0))
            args = params, case.X, case.targets, case.batch, 1, rule, memory
            with part_trainer(name)(engine, *args) as trainer:
                trainer.grads[:] = case.grads
                penalty = trainer.step(case.batch, 1 / case.batch, RULE_RATE)
            matrix.same(row, f"{where}, what is left", trainer.grads.any(), np.False_)
            ends.append([params, memory.slots, memory.clock, np.array(penalty)])
        for want, got in zip(*ends, strict=True):
            matrix.compare(row, where, got, want)


def compare_epoch(matrix, case, path):
    """Ten steps in one call, the last of them with a smaller batch, against the reference's."""
    row = matrix.row(EPOCHS[path], case.dtype, path)
    if not _runs(matrix, path, case.dtype):
        return
    ends, totals, n = [], [], min(case.batch, 95)
    with matrix.attempt(row, case.where):
        for engine, forced in ((case.slow, {}), (case.fast, {"path": path})):
            params = case.copy()
            with engine.trainer(params, case.X, case.targets, 10, **forced) as trainer:
                trainer.run(np.arange(n)[::-1].copy(), 0, n, 0.1)
            ends.append(case.parts(params))
            totals.append(trainer.totals[0])
        matrix.compare(row, f"{case.where}, an epoch, loss and right classes", *totals[::-1])
        for name, want in ends[0].items():
            matrix.compare(row, f"{case.where}, an epoch, {name}", ends[1][name], want)


def _verify_threads(matrix, dtype, rng):
    """Teams of one to four, as far as there are cores; their bits must be those of one thread."""
    for path in PATHS:
        # Enough work for a team of four.
        sizes, batch = (NARROW, MANY) if path == "narrow" else (WIDE, 50)
        for model in list(_models(sizes))[:: len(OUTPUTS) - 1]:
            case = Case(rng, model, dtype, batch, labels=True)
            alone = compare_step(matrix, case, path)
            part = compare_part(matrix, case, path)
            for threads in _teams(case, path)[1:]:
                compare_step(matrix, case, path, threads, alone)
                compare_part(matrix, case, path, threads, part)


def _teams(case, path):
    """Return the sizes of the teams that come together here."""
    teams = []
    for threads in THREADS:
        args = case.copy(), case.X, case.targets, case.batch, threads
        with case.fast.trainer(*args, path=path) as trainer:
            teams.append(trainer.team)
    return sorted(set(teams))


# -- zero-skipping input ---------------------------------------------------------------------------


def _index_row(matrix, dtype):
    return matrix.row("index_rows", dtype, "sparse", against="numpy.nonzero")


def _runs(matrix, path, dtype):
    """Return whether a path may be taken: a wrong index would lead kernels astray in memory."""
    return path != "sparse" or _index_row(matrix, dtype).ok


def _verify_index(matrix, scope, dtype, rng):
    """The compressed rows against NumPy's own `nonzero`."""
    row = _index_row(matrix, dtype)
    widths = (*scope.widths, WIDE[0])
    for batch, n, scale in product(scope.batches, widths, (1.0, 1 / 256)):
        model = Model((n, WIDE[1]), ("sigmoid",), "quadratic", True, scale)
        case = Case(rng, model, dtype, batch, labels=True)
        where = f"{batch} rows of {n}, {case.X.dtype}"
        with matrix.attempt(row, where):
            args = case.copy(), case.X, case.targets, batch
            with case.fast.trainer(*args, path="sparse") as trainer:
                data = trainer.data
            blocks = (data.start.size - 1) // batch  # of inputs, into which each row is cut
            starts, position, x = _expected_index(case.X, blocks, case.fast.GROUP)
            matrix.same(row, f"{where}, starts", data.start, starts)
            if not row.ok:
                return
            matrix.same(row, f"{where}, positions", data.position[: starts[-1]], position)
            values = data.value[: starts[-1]]
            if data.palette is not None:
                values = data.palette[values]
            expected = x.astype(dtype) * np.dtype(dtype).type(scale)
            matrix.compare(row, f"{where}, values", values, expected, "elementwise")


def _expected_index(X, blocks, group):
    """Return starts, positions and inputs of rows cut into blocks, in whole groups."""
    starts, position, values, block = [0], [], [], -(-X.shape[1] // blocks)
    for row in X:
        for j in range(blocks):
            last = min((j + 1) * block, X.shape[1])
            lit = np.arange(j * block, last)[row[j * block : last] != 0]
            fill = -lit.size % group
            position += [*lit, *[last - 1] * fill]
            values += [*row[lit], *[0] * fill]
            starts.append(len(position))
    return np.array(starts), np.array(position, np.int64), np.array(values, X.dtype)


# -- the reference itself --------------------------------------------------------------------------


def _verify_reference(matrix, rng):
    """Back-propagation in the reference against central differences."""
    row = matrix.row("reference", "float64", against="differences")
    for hidden, (loss, output), bias in product(activations.HIDDEN, OUTPUTS, (True, False)):
        net = Network(
            [4, 3, 3, 2], hidden, output, loss, bias, "float64", "numpy", "normal", seed=7
        )  # fmt: skip
        report = gradcheck(net, rng.standard_normal((3, 4)), rng.random((3, 2)))
        where = f"4-3-3-2, {hidden}, {output}, {loss}, bias {bias}"
        matrix.note(row, where, report.max_error, TOLERANCE)
