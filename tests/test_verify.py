"""`verify`: green here, red by name for each kernel broken on purpose; and any network at all."""

import ctypes
import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp import get_backend, kernels, reference, verification
from fastbp.kernels.walk import records
from fastbp.reference import Model
from fastbp.verification import comparisons as whole
from fastbp.verification import verify
from fastbp.verification.cases import (
    DTYPES,
    HIDDEN,
    MORE_HIDDEN,
    MORE_OUTPUTS,
    OUTPUTS,
    PATHS,
    Case,
    Scope,
)  # fmt: skip
from fastbp.verification.comparisons import LAYOUTS
from fastbp.verification.tolerances import Comparisons

# Operations that `quick` leaves to networks with these activations.
BY_ADDRESS = {name + end for name in MORE_HIDDEN for end in ("", "_prime")}
SMALL = Scope((7,), (6,), (((5, 3, 2), 6),), (((5, 3), 1030),), False, dict.fromkeys(DTYPES, 2))


@pytest.fixture
def small(monkeypatch):
    """Verify in a fraction of a second: few shapes, one thread, not the reference."""
    monkeypatch.setattr(verification, "QUICK", SMALL)
    monkeypatch.setattr(verification, "compare_threads", lambda *args: None)
    monkeypatch.setattr(verification, "compare_reference", lambda *args: None)
    return partial(verify, quick=True)


def broken(report):
    return {row.kernel for row in report.failures}


# -- as it is --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick():
    return verify(quick=True)


def test_it_is_green_here(quick):
    assert quick.ok, quick
    assert not quick.failures


@pytest.mark.long
def test_all_of_it_is_green_here():
    report = verify(seed=1)
    assert report.ok, report
    assert report.comparisons > 20_000


@pytest.mark.timing
def test_quick_is_quick(quick):
    """Once its kernels are compiled, which `quick` may have had to do."""
    assert verify(quick=True).seconds < 15


def test_every_kernel_has_its_rows_in_both_dtypes(quick):
    for dtype in ("float32", "float64"):
        rows = {row.kernel for row in quick.rows if row.dtype == dtype}
        assert set(kernels.KERNELS) - BY_ADDRESS <= rows
    for row in quick.rows:
        assert row.cases > 0
        assert row.worst


@pytest.fixture
def verify_threads(all_take_part, monkeypatch, rng):
    """verify_threads(dtype): what teams of one to four come to, for two networks on each path."""
    models = whole.models
    few = len(OUTPUTS)  # of which the first and the last are taken
    monkeypatch.setattr(whole, "models", lambda *args: list(models(*args))[:few])

    def run(dtype):
        matrix = Comparisons()
        verification.compare_threads(matrix, SMALL, dtype, rng)
        return matrix

    return run


def test_every_path_and_team_has_its_row(quick, verify_threads):
    rows = {(r.dtype, r.path, r.threads) for r in quick.rows if r.kernel.endswith("_epoch")}
    assert {(d, p) for d, p, _ in rows} == {(d, p) for d in DTYPES for p in PATHS}
    matrix = verify_threads("float32")
    assert {(r.path, r.threads) for r in matrix.rows.values()} == {
        (path, threads) for path in PATHS for threads in (1, 2, 3, 4)
    }
    assert all(row.ok for row in matrix.rows.values())


def test_the_table_names_everything(quick):
    lines = str(quick).splitlines()
    assert len(lines) == len(quick.rows) + 2
    for line, row in zip(lines[1:-1], quick.rows, strict=True):
        for word in (row.kernel, row.against, row.dtype, row.path, f"{row.error:.1e}"):
            assert word in line
    assert lines[-1].startswith("ok: ")
    assert quick.cpu in lines[-1]


def test_the_report_is_fit_for_json(quick):
    found = json.loads(json.dumps(quick.to_dict(), allow_nan=False))
    assert found["ok"] is True
    assert found["quick"] is True
    assert found["comparisons"] == quick.comparisons
    assert len(found["rows"]) == len(quick.rows)
    keys = {"kernel", "against", "dtype", "path", "threads", "cases", "error", "allowed", "worst"}
    assert set(found["rows"][0]) == keys | {"ok"}


def test_the_same_seed_gives_the_same_errors(small):
    errors = [[row.error for row in small(seed=seed).rows] for seed in (1, 1, 2)]
    assert errors[0] == errors[1] != errors[2]


def test_quick_is_a_flag():
    with pytest.raises(TypeError, match="quick must be True or False"):
        verify(quick="yes")


# -- broken on purpose -----------------------------------------------------------------------------


def last(*args):
    return args[-1]


# By kernel: which of its arguments is spoilt; the last one unless it stands here.


def totals_of(table):
    """The sums of a walk over samples, by the table of addresses that its kernel is given."""
    addresses = np.ctypeslib.as_array((ctypes.c_int64 * 5).from_address(table))
    sums = (ctypes.c_double * records.TOTALS).from_address(int(addresses[records.SUMS]))
    return np.ctypeslib.as_array(sums)


SPOILT = {
    "backprop_delta": lambda *args: args[4],
    "outer_update": lambda W, *rest: W,
    "batch_update": lambda W, *rest: W,
    "output_delta": lambda *args: args[5],
    "sgd_epoch": lambda plan, params, *rest: params,
    "narrow_epoch": lambda plan, params, *rest: params,
    "optimizer_epoch": lambda plan, params, *rest: params,
    "narrow_optimizer_epoch": lambda plan, params, *rest: params,
    "momentum_update": lambda p, *rest: p,
    "nesterov_update": lambda p, *rest: p,
    "adam_update": lambda p, *rest: p,
    "rmsprop_update": lambda p, *rest: p,
    "evaluate": lambda table, *rest: totals_of(table),
    "part_gradient": lambda *args: args[6].grads,
    "narrow_part_gradient": lambda *args: args[6].grads,
    "rule_step": lambda plan, params, *rest: params,
}


def break_kernel(monkeypatch, name, spoil):
    """Replace a kernel with one whose result is spoilt afterwards."""
    right, find = getattr(kernels, name), SPOILT.get(name, last)

    def wrong(*args):
        result = right(*args)
        spoil(find(*args))
        return result

    monkeypatch.setattr(kernels, name, wrong)


def nudge(out):
    """Change the first of the results by a thousandth of the largest."""
    out[(0,) * out.ndim] += out.dtype.type(1e-3 * max(1, np.abs(out).max()))


def one_more(start):
    start[-1] += 1


def starts(*args):
    return args[4]


def test_the_small_scope_is_green(small):
    """What the tests below find broken, they broke."""
    assert small().ok


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_a_kernel_broken_on_purpose_is_caught_and_named(name, small, monkeypatch):
    break_kernel(monkeypatch, name, nudge)
    report = small()
    assert broken(report) == {name}, report
    assert {row.dtype for row in report.failures} == {"float32", "float64"}
    line = str(report).splitlines()[-1]
    assert line.startswith(f"NOT ok, {name}: ")
    assert str(report).count("<-- FAILS: ") == len(report.failures)
    assert not report.to_dict()["ok"]
    json.dumps(report.to_dict(), allow_nan=False)


def test_what_stands_on_a_broken_index_is_not_run(small, monkeypatch):
    """A wrong index would send kernels through memory that is not theirs."""
    monkeypatch.setitem(SPOILT, "index_rows", starts)
    break_kernel(monkeypatch, "index_rows", one_more)
    report = small()
    idle = {(row.kernel, row.path) for row in report.rows if not row.cases}
    kernels_on_it = ("sgd_epoch", "optimizer_epoch", "part_gradient")
    assert idle == {(name, "sparse") for name in kernels_on_it}
    assert "not run" in str(report)


def test_nan_is_no_small_error(small, monkeypatch):
    def to_nan(out):
        out[...] = np.nan

    break_kernel(monkeypatch, "tanh", to_nan)
    report = small()
    assert broken(report) == {"tanh"}
    assert {row.error for row in report.failures} == {np.inf}
    assert {row["error"] for row in report.to_dict()["rows"] if not row["ok"]} == {None}
    # Nor is it after a case that was right, nor is a result of another shape.
    for wrong in (np.full(3, np.nan), np.ones((3, 1))):
        matrix = Comparisons()
        row = matrix.row("tanh", "float64")
        row.compare("right", np.ones(3), np.ones(3))
        row.compare("wrong", wrong, np.ones(3))
        assert (row.error, row.worst) == (np.inf, "wrong")


@pytest.mark.parametrize("wrong", [[1.0, np.nan], [1.0, np.inf], [1.0], [[1.0, 2.0]]], ids=str)
def test_nan_and_another_shape_are_errors_after_good_cases_too(wrong):
    matrix = Comparisons()
    row = matrix.row("tanh", "float64")
    for where, got in (("first", [1.0, 2.0]), ("second", wrong), ("third", [1.0, 2.0])):
        row.compare(where, np.array(got), np.array([1.0, 2.0]))
    assert (row.ok, row.error, row.worst, row.cases) == (False, np.inf, "second", 3)


def test_a_kernel_that_raises_is_a_failure(small, monkeypatch):
    def wrong(*args):
        raise RuntimeError("no such instruction\nmore")

    monkeypatch.setattr(kernels, "gradient", wrong)
    report = small()
    assert broken(report) == {"gradient"}
    assert "RuntimeError: no such instruction" in report.failures[0].worst
    assert len(str(report).splitlines()) == len(report.rows) + 2


def test_padding_that_learns_is_caught(small, monkeypatch):
    """Five inputs and three outputs: the last element of the buffer is no parameter."""

    def touch(params):
        params[-1] += 1

    break_kernel(monkeypatch, "sgd_epoch", touch)
    report = small()
    assert broken(report) == {"sgd_epoch"}
    assert all("padding" in row.worst for row in report.failures)


@pytest.mark.parametrize(
    ("name", "totals"),
    [
        ("evaluate", lambda table, *rest: totals_of(table)),
        ("sgd_epoch", lambda *args: args[6].sums),
        ("narrow_epoch", lambda *args: args[6].sums),
    ],
)
def test_a_class_counted_twice_is_caught(name, totals, small, monkeypatch):
    def count(sums):
        sums[1] += 1

    monkeypatch.setitem(SPOILT, name, totals)
    break_kernel(monkeypatch, name, count)
    report = small()
    assert broken(report) == {name}
    assert "right classes" in report.failures[0].worst


def test_other_bits_with_more_threads_are_caught(verify_threads, monkeypatch):
    """An error far below the tolerance, but in one team only."""
    right = kernels.sgd_epoch

    def wrong(plan, params, *rest):
        right(plan, params, *rest)
        if rest[-1].size == 3 and rest[-1].thread == 0:
            params[0] = np.nextafter(params[0], params.dtype.type(np.inf))

    monkeypatch.setattr(kernels, "sgd_epoch", wrong)
    failed = [row for row in verify_threads("float64").rows.values() if not row.ok]
    assert {(row.path, row.threads) for row in failed} == {("dense", 3), ("sparse", 3)}
    assert all("other bits than one thread's" in row.worst for row in failed)


def test_a_wrong_reference_is_caught(monkeypatch):
    """sigma' dropped in the delta, in the reference itself: finite differences tell."""
    monkeypatch.setattr(verification, "QUICK", SMALL)
    monkeypatch.setattr(verification, "compare_threads", lambda *args: None)

    monkeypatch.setattr(reference, "slope", lambda activation, z, out: out.fill(1))
    assert {"reference", "gradient", "sgd_epoch"} <= broken(verify(quick=True))


# -- any network at all ----------------------------------------------------------------------------

WIDTHS = st.one_of(st.integers(1, 8), st.integers(1, 130))


@st.composite
def networks(draw):
    """A model of one to six layers, each hidden one with an activation of its own."""
    pairs = [(*pair, None) for pair in OUTPUTS] + list(MORE_OUTPUTS)
    loss, output, setting = draw(st.sampled_from(pairs))
    depth = draw(st.integers(1, 6))
    sizes = draw(st.tuples(*[WIDTHS] * depth))
    n_out = draw(st.integers(2 if output == "softmax" else 1, 130))
    hidden = draw(st.tuples(*[st.sampled_from(HIDDEN + MORE_HIDDEN)] * (depth - 1)))
    scale = draw(st.sampled_from([1.0, 1 / 256]))
    shares = draw(st.one_of(st.just(()), st.tuples(*[st.sampled_from([0.0, 0.5])] * (depth - 1))))
    how = (*hidden, output), loss, draw(st.booleans()), scale, setting, shares
    return Model((*sizes, n_out), *how)


def any_networks(count):
    """Run a test with any network, any data, path and team."""
    given_any = given(
        model=networks(), dtype=st.sampled_from(DTYPES), batch=WIDTHS, labels=st.booleans(),
        layout=st.sampled_from(sorted(LAYOUTS)), path=st.sampled_from(PATHS),
        threads=st.integers(1, 4), seed=st.integers(0, 2**32 - 1),
    )  # fmt: skip
    setting = settings(max_examples=count, deadline=None, derandomize=True)
    return lambda test: setting(given_any(test))


@any_networks(30)
def test_any_network_learns_what_the_reference_says(
    model, dtype, batch, labels, layout, path, threads, seed
):
    case = Case(np.random.default_rng(seed), model, dtype, batch, labels)
    case.X = LAYOUTS[layout](case.X)
    case.X.flags.writeable = False
    found = Comparisons()
    whole.compare_engines(found, case)
    alone = whole.compare_step(found, case, path)
    whole.compare_step(found, case, path, threads, alone)
    for row in found.rows.values():
        assert row.ok, f"{row} {model}"


@pytest.mark.long
def test_many_networks_learn_what_the_reference_says():
    any_networks(1000)(test_any_network_learns_what_the_reference_says.hypothesis.inner_test)()


def test_rounding_is_not_underrated(rng):
    """The reference in float32 against itself in float64: eight standard errors are enough.

    Nor are they far too many, or a comparison by them would see nothing.
    """
    shares = []
    hidden, outputs = HIDDEN + MORE_HIDDEN, [(*pair, None) for pair in OUTPUTS] + [*MORE_OUTPUTS]
    for seed in range(90):
        sizes = tuple(int(n) for n in rng.integers(1, 9, 4))
        loss, output, setting = outputs[seed % len(outputs)]
        if output == "softmax":
            sizes = (*sizes[:-1], sizes[-1] + 1)
        activations = hidden[seed % 9], hidden[(seed + 4) % 9], output
        model = Model(sizes, activations, loss, True, 1.0, setting)
        case = Case(np.random.default_rng(seed), model, "float32", 5, False)
        wide = [[p.astype(np.float64) for p in ps] for ps in case.layout.views(case.params)]
        exact = [[np.empty_like(p) for p in ps] for ps in wide]
        y = case.targets.rows(slice(None), sizes[-1]).astype(np.float64)
        reference.gradient(model, *wide, case.X.astype(np.float64), y, *exact)
        named = {
            f"{k}{l}": g for k, gs in zip("Wb", exact, strict=True) for l, g in enumerate(gs, 1)
        }
        for name, got in case.parts(case.grads).items():
            with np.errstate(invalid="ignore"):
                share = np.abs(got - named[name]) / case.slack[name]
            shares.append(float(np.nanmax(share, initial=0)))
    assert max(shares) < 1
    assert np.median(shares) > 0.01


def test_the_operations_are_all_that_a_backend_offers(small):
    """A new operation of the backends needs a line in `verification`."""
    backend = get_backend("numpy")
    methods = {name for name in dir(backend) if not name.startswith("_")} - {"name", "engine"}
    assert methods <= {row.kernel for row in small().rows}
