"""What `verify` compares: operations on one layer, whole networks, steps of training, the index."""

from collections.abc import Callable, Iterator
from itertools import cycle, product
from typing import Any

import numpy as np

from .. import reference
from ..engines import get_backend
from ..losses import KINDS
from ..reference import ELEMENTWISE, Model
from ..reference.records import Memory, Rule
from .cases import (
    BACKENDS,
    HIDDEN,
    MORE_OUTPUTS,
    OUTPUTS,
    PATHS,
    ROUNDINGS,
    WIDE,
    Case,
    Rng,
    Scope,
    models,
    with_dropout,
)  # fmt: skip
from .tolerances import Comparisons, Row

# Where sigmoid, tanh and exp saturate or overflow, in both dtypes.
SATURATED = np.array([-1e3, -746, -709, -104, -89, -37, -1e-30, 0, 1e-30, 37, 89, 709, 1e3])


def _operations(
    rng: Rng, b: int, n: int, m: int, by_address: int
) -> Iterator[tuple[str, list[Any]]]:
    """Yield the name and arguments of each operation, for a batch of b on a layer from m to n."""
    names = reference.PRIMES if by_address > 1 else HIDDEN

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    for z in (3 * draw(b, n), np.tile(SATURATED, (b, 1))):
        yield "softmax", [z]
        for name, suffix in product(names, ("", "_prime")):
            yield name + suffix, [z]
    yield "exp", [9 * draw(b, n)]
    for name in HIDDEN:
        yield f"{name}_prime_from_a", [np.tanh(draw(b, n))]
        yield "backprop_delta", [draw(m, n), draw(b, m), np.tanh(draw(b, n)), name]
    yield "affine", [draw(b, m), draw(n, m), draw(n)]
    yield "weight_gradient", [draw(b, m), draw(b, n)]
    yield "bias_gradient", [draw(b, n)]
    yield "outer_update", [draw(n, m), draw(n), draw(m), draw(n), 0.3]
    yield "batch_update", [draw(n, m), draw(n), draw(b, m), draw(b, n), 0.3]
    yield "momentum_update", [draw(n), draw(n), draw(n), 0.3, 0.9]
    yield "nesterov_update", [draw(n), draw(n), draw(n), 0.3, 0.9]
    moments = draw(n), np.abs(draw(n))
    yield "adam_update", [draw(n), *moments, draw(n), 0.3, 0.9, 0.999, 1e-8, 1.0 + m]
    yield "rmsprop_update", [draw(n), np.abs(draw(n)), draw(n), 0.3, 0.99, 1e-8]
    for (loss, output), size in product(OUTPUTS, (1, 300)):
        if (output, size) != ("exp", 300):  # infinite, and so is everything after it
            yield "output_delta", [loss, output, size * draw(b, n), np.abs(draw(b, n))]
    for loss, output, setting in MORE_OUTPUTS if by_address > 1 else ():
        told = loss if setting is None else KINDS[loss](setting)
        yield "output_delta", [told, output, draw(b, n), draw(b, n)]


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
}


def compare_operations(matrix: Comparisons, scope: Scope, dtype: str, rng: Rng) -> None:
    """Compare every operation; numbers of inputs and memory layouts take turns."""
    layouts = cycle(LAYOUTS.items())
    for (batch, n), m in zip(product(scope.batches, scope.widths), cycle((1, 17, 5)), strict=False):
        for name, arguments in _operations(rng, batch, n, m, scope.by_address[dtype]):
            layout, arrange = next(layouts)
            args = [arrange(x.astype(dtype)) if isinstance(x, np.ndarray) else x for x in arguments]
            kind = "elementwise" if name in (*ELEMENTWISE, "softmax") else "contraction"
            # Of a (1 - a), and of (a - y) a (1 - a), saturation leaves only the rounding of 1.
            cancels = name.endswith(("_prime", "_from_a")) or name == "output_delta"
            slack = ROUNDINGS * np.finfo(dtype).eps if cancels else 0.0
            # Updates change their first arguments: what is learnt, and what belongs to it.
            written = 3 if name == "adam_update" else 2 if name.endswith("_update") else 0
            where, results = f"batch {batch}, {m} to {n}, {layout}", []
            with matrix.row(name, dtype).attempt(where) as row:
                for backend in BACKENDS:
                    changed = [x.copy() for x in args[:written]]
                    out = getattr(get_backend(backend), name)(*changed, *args[len(changed) :])
                    results.append(changed or (out if isinstance(out, tuple) else [out]))
                for want, got in zip(*results, strict=True):
                    row.compare(where, got, want, kind, slack)


RULES = (
    Rule(l2=0.01, clip=0.1),
    Rule("momentum", 0.9, l2=0.3, over_sum=True),
    Rule("nesterov", 0.9, clip=0.1),
    Rule("adam", 0.9, 0.999, 1e-8, l2=0.01, clip=0.1, frozen=(0,)),
    Rule("adam", 0.9, 0.999, 1e-8),
    Rule("adam", 0.9, 0.999, 1e-8, corrected=False, l2=0.01),
    Rule("adam", 0.9, 0.999, 1e-8, weight_decay=0.1, l1=0.01),
    Rule("rmsprop", second=0.99, epsilon=1e-8, l1=0.3, over_sum=True, clip=0.1),
)
RULE_RATE = 2.0**-4


def _named(rule: Rule) -> str:
    """Return a rule in words: its name, penalties, clipping and decay."""
    others = {name: getattr(rule, name) for name in ("l2", "l1", "clip", "weight_decay")}
    return ", ".join([rule.name, *(f"{name} {x:g}" for name, x in others.items() if x)])


# By path, sizes and batch with enough work for a team of four.
TEAMWORK = {"dense": (WIDE, 50), "sparse": (WIDE, 50), "narrow": ((9, 7, 5), 1100)}


def _comparison(kernel: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make compare(matrix, case, path, threads=1, ...) of compare(row, case, ...)."""

    def decorate(compare: Callable[..., Any]) -> Callable[..., Any]:
        def run(matrix: Comparisons, case: Case, path: str, threads: int = 1, *args: Any) -> Any:
            # On the narrow path, lanes over the batch have kernels of their own.
            name = f"narrow_{kernel.removeprefix('sgd_')}" if path == "narrow" else kernel
            row = matrix.row(name, case.dtype, path, threads)
            # A wrong index would make kernels read and write outside their arrays.
            if path != "sparse" or matrix.row("index_rows", case.dtype, "sparse").ok:
                with row.attempt(case.where):
                    return compare(row, case, *args)
            return None

        return run

    return decorate


def compare_engines(matrix: Comparisons, case: Case) -> None:
    """Compare feedforward, evaluate, gradient and single steps of the two engines."""
    if not case.masks:
        _compare_calls(matrix, case)
    for path in PATHS:
        compare_step(matrix, case, path)


def _compare_calls(matrix: Comparisons, case: Case) -> None:
    data, slack = (case.params, case.X, case.targets), case.slack
    with matrix.row("feedforward", case.dtype, "dense").attempt(case.where) as row:
        want, got = (engine.feedforward(*data[:2])[0] for engine in case.both)
        row.compare(case.where, got, want, slack=slack["outputs"])
    with matrix.row("evaluate", case.dtype, "dense").attempt(case.where) as row:
        _compare_totals(row, case, case.fast.evaluate(*data))
    for path, kernel in (("dense", "gradient"), ("narrow", "narrow_gradient")):
        with matrix.row(kernel, case.dtype, path).attempt(case.where) as row:
            grads, loss, finite = case.fast.gradient(*data, path=path)
            row.same(f"{case.where}, finite", finite, True)
            row.compare(f"{case.where}, loss", loss, case.loss, slack=slack["loss"])
            _compare_arrays(row, case, grads)


def _compare_totals(row: Row, case: Case, totals: Any) -> None:
    loss, where = totals[0] / case.batch, case.where
    row.compare(f"{where}, loss", loss, case.loss, slack=case.slack["loss"])
    row.same(f"{where}, right classes: {totals[1]:.0f} for {case.right}", totals[1], case.right)


def _compare_arrays(row: Row, case: Case, grads: np.ndarray, more: Any = 0) -> None:
    """Compare the gradient array by array; padding must be zero. `more` adds to the slack."""
    more = case.parts(np.zeros_like(grads) + more)
    for name, got in case.parts(grads).items():
        want, slack = case.parts(case.grads)[name], case.slack[name] + more[name]
        row.compare(f"{case.where}, {name}", got, want, slack=slack)
    padding = case.padding(grads)
    row.same(f"{case.where}, padding", padding, np.zeros_like(padding))


@_comparison("sgd_epoch")
def compare_step(row: Row, case: Case, single: np.ndarray | None = None) -> np.ndarray:
    """Compare a fused step with the gradient; return the parameters, `single` by one thread."""
    params, rate = case.copy(), case.rate()
    with case.trainer("numba", params, threads=row.threads, path=row.path) as trainer:
        trainer.run(np.arange(case.batch), 0, case.batch, rate)
    step = (case.params - params) / params.dtype.type(rate)
    # The weights are rounded too, perhaps once a sample: errors that add in squares.
    unit = np.finfo(case.dtype).eps * np.sqrt(case.batch) / rate
    _compare_arrays(row, case, step, unit * (np.abs(case.params) + np.abs(params)))
    _compare_totals(row, case, trainer.totals[0])
    if single is not None:
        row.same(f"{case.where}: other bits than one thread's", params, single)
    return params


@_comparison("sgd_epoch")
def _compare_epoch(row: Row, case: Case) -> None:
    """Compare ten steps in one call, the last of them with a smaller batch."""
    ends, n = [], min(case.batch, 95)
    for backend in BACKENDS:
        params = case.copy()
        with case.trainer(backend, params, 10, path=row.path) as trainer:
            trainer.run(np.arange(n)[::-1].copy(), 0, n, 0.1)
        ends.append({"loss and right classes": trainer.totals[0], **case.parts(params)})
    for name, want in ends[0].items():
        row.compare(f"{case.where}, an epoch, {name}", ends[1][name], want)


@_comparison("optimizer_epoch")
def _compare_rule(row: Row, case: Case, rule: Rule, state: np.ndarray) -> None:
    """Compare one step of an optimiser that goes on from `state`."""
    ends = []
    for backend in BACKENDS:
        params, memory = case.copy(), Memory(state[: rule.slots].copy(), np.full(1, 3.0))
        with case.trainer(backend, params, path=row.path, rule=rule, memory=memory) as trainer:
            trainer.run(np.arange(case.batch), 0, case.batch, RULE_RATE)
        ends.append((case.parts(params), memory, trainer.totals[0].copy()))
    (want, (slots, clock), totals), (got, (got_slots, got_clock), got_totals) = ends
    where = f"{case.where}, {_named(rule)}"
    # The weights are rounded once; the step errs as the gradient does.
    unit = ROUNDINGS * np.finfo(case.dtype).eps
    for name, part in got.items():
        slack = RULE_RATE * case.slack[name] + unit * np.abs(want[name])
        row.compare(f"{where}, {name}", part, want[name], slack=slack)
    slack = unit + max(np.max(case.slack[name]) for name in want)
    row.compare(f"{where}, memory", got_slots, slots, slack=slack)
    row.same(f"{where}, steps", got_clock, clock)
    slack = case.batch * case.slack["loss"]
    row.compare(f"{where}, loss and penalty", got_totals, totals, slack=slack)


@_comparison("part_gradient")
def compare_share(row: Row, case: Case, single: np.ndarray | None = None) -> np.ndarray:
    """Compare the gradient of a rank with all samples; return it, `single` by one thread."""
    options: dict[str, Any] = {"threads": row.threads, "path": row.path, "shared": True}
    with case.trainer("numba", case.copy(), **options) as trainer:
        trainer.part(np.arange(case.batch), 0, case.batch, 1 / case.batch)
    grads = np.array(trainer.grads)
    _compare_arrays(row, case, grads)
    _compare_totals(row, case, trainer.tail)
    if single is not None:
        row.same(f"{case.where}: other bits than one thread's", grads, single)
    return grads


@_comparison("rule_step")
def _compare_shared_step(row: Row, case: Case, rule: Rule, state: np.ndarray) -> None:
    """Compare a rank's step along a given gradient."""
    where, ends = f"{case.where}, {_named(rule)}", []
    for backend in BACKENDS:
        params, memory = case.copy(), Memory(state[: rule.slots].copy(), np.full(1, 3.0))
        with case.trainer(backend, params, rule=rule, memory=memory, shared=True) as trainer:
            trainer.grads[:] = case.grads
            penalty = trainer.step(case.batch, 1 / case.batch, RULE_RATE)
        row.same(f"{where}, what is left", trainer.grads.any(), False)
        ends.append([params, *memory, penalty])
    for want, got in zip(*ends, strict=True):
        row.compare(where, got, want)


def compare_networks(matrix: Comparisons, scope: Scope, dtype: str, rng: Rng) -> None:
    """Compare results, gradients and single steps, for every activation, loss and bias."""
    turns, by_address = cycle((True, False)), scope.by_address[dtype]
    for sizes, batch in scope.networks:
        for model in models(sizes, by_address):
            for labels in (True, False) if scope.both_targets else (next(turns),):
                compare_engines(matrix, Case(rng, model, dtype, batch, labels))
    for sizes, batch in scope.large:
        for model in list(models(sizes, min(by_address, 1)))[:: 3 * len(OUTPUTS)]:
            case = Case(rng, model, dtype, batch, labels=True)
            compare_engines(matrix, case)
            for path in PATHS:
                _compare_epoch(matrix, case, path)
    for sizes, batch in (*scope.networks, *(scope.large if by_address > 1 else ())):
        for model in with_dropout(sizes, by_address):
            compare_engines(matrix, case := Case(rng, model, dtype, batch, labels=True))
            for path in PATHS:
                _compare_epoch(matrix, case, path)


def compare_optimizers(matrix: Comparisons, scope: Scope, dtype: str, rng: Rng) -> None:
    """Compare steps of all rules, and those that ranks share."""
    for sizes, batch in (*scope.networks, *scope.large):
        names = (*["tanh"] * (len(sizes) - 2), "identity")
        model = Model(tuple(sizes), names, "quadratic", True, 1.0)
        case = Case(rng, model, dtype, batch, labels=False)
        state = np.abs(rng.standard_normal((2, case.params.size))).astype(dtype)
        for slot in state:
            slot -= case.padding(slot)
        for rule in RULES:
            for path in PATHS:
                _compare_rule(matrix, case, path, 1, rule, state)
            _compare_shared_step(matrix, case, "dense", 1, rule, state)
        for path in PATHS:
            compare_share(matrix, case, path)


def compare_threads(matrix: Comparisons, scope: Scope, dtype: str, rng: Rng) -> None:
    """Compare teams of one to four, as far as there are cores, with one thread, bit by bit."""
    by_address = min(scope.by_address[dtype], 1)
    for path, (sizes, batch) in TEAMWORK.items():
        few = list(models(sizes, by_address))[:: len(OUTPUTS) - 1]
        for model in (*few, *with_dropout(sizes, by_address)):
            case, teams = Case(rng, model, dtype, batch, labels=True), set()
            for threads in (2, 3, 4):
                with case.trainer("numba", case.copy(), threads=threads, path=path) as trainer:
                    teams.add(trainer.team)
            for compare in (compare_step, compare_share):
                single = compare(matrix, case, path)
                for threads in sorted(teams - {1}):
                    compare(matrix, case, path, threads, single)


def compare_index(matrix: Comparisons, scope: Scope, dtype: str, rng: Rng) -> None:
    """Compare the compressed rows of zero-skipping paths with the samples they are made of."""
    row, widths = matrix.row("index_rows", dtype, "sparse"), (*scope.widths, WIDE[0])
    for batch, n, scale in product(scope.batches, widths, (1.0, 1 / 256)):
        if not row.ok:
            return
        model = Model((n, WIDE[1]), ("sigmoid",), "quadratic", True, scale)
        case = Case(rng, model, dtype, batch, labels=True)
        with row.attempt(f"{batch} rows of {n}, {case.X.dtype}"):
            with case.trainer("numba", case.copy(), path="sparse") as trainer:
                data, group = trainer.data, case.fast.GROUP
            where = f"{case.where}, {case.X.dtype}"
            # Rows are cut into blocks, each filled up with zeros to whole groups of entries.
            blocks = (data.start.size - 1) // batch
            width = -(-n // blocks)
            padded = np.pad(case.X, [(0, 0), (0, blocks * width - n)])
            nonzeros = np.count_nonzero(padded.reshape(-1, width), axis=1)
            starts = np.cumsum([0, *(nonzeros + -nonzeros % group)])
            row.same(f"{where}, starts", data.start, starts)
            if not np.array_equal(data.start, starts):
                return
            owner = np.repeat(np.arange(batch * blocks), np.diff(starts))
            position, values = data.position[: starts[-1]], data.value[: starts[-1]]
            values = values if data.palette is None else data.palette[values]
            row.same(f"{where}, blocks", position // width, owner % blocks)
            found = np.zeros(case.X.shape, case.dtype)
            np.add.at(found, (owner // blocks, position), values)
            expected = case.X.astype(case.dtype) * np.dtype(case.dtype).type(case.model.scale)
            row.compare(f"{where}, values", found, expected, "elementwise")
        entries = matrix.row("index_entries", dtype, "sparse")
        if row.ok:
            with entries.attempt(where):
                _compare_entries(entries, where, case, data)


def _compare_entries(row: Row, where: str, case: Case, data: Any) -> None:
    """Compare the index of the entries of samples with that of their rows."""
    from .. import kernels
    from ..engines.numba_data import contiguous

    (rows, columns), end = case.X.nonzero(), data.start[-1]
    first = np.searchsorted(rows, np.arange(len(case.X) + 1))
    scale = 1 if data.palette is not None else case.model.scale
    given = map(contiguous, (first, columns, case.X[rows, columns]))
    expected = data.start, data.position[:end], data.value[:end]
    found = [np.zeros_like(array) for array in expected]
    kernels.index_entries(*given, data.value.dtype.type(scale), case.X.shape[1], *found)
    for name, mine, theirs in zip(("starts", "positions", "values"), found, expected, strict=True):
        row.same(f"{where}, {name}", mine, theirs)


# The index before the networks: zero-skipping kernels are not run if it is wrong.
COMPARISONS = compare_operations, compare_index, compare_networks, compare_optimizers
