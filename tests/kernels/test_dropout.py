"""The masks that kernels draw: bit by bit those of the reference, on every path."""

import numba
import numpy as np
import pytest

import cases
from cases import crossed
from fastbp import reference
from fastbp.engines.numba_engine import NumbaEngine
from fastbp.engines.numpy_engine import NumpyEngine
from fastbp.kernels import machine
from fastbp.kernels.ir.dropout import FIRST, KEY, TABLE, drop_lanes, drop_rows
from fastbp.kernels.ir.memory import at, pointer
from fastbp.kernels.machine import CPU
from fastbp.model.layout import stride
from fastbp.reference import Model, dropout
from fastbp.reference.records import PLAIN, Rule

EPOCH = 0xFEDC_BA98_7654_3210
LAYER = 3


@numba.njit
def by_rows(by, l, threshold, n, v, which, a, slope):
    row, other = a.shape[1], slope.shape[1]
    place, beside = at(pointer(a), v), pointer(slope)
    drop_rows(
        pointer(by), l, threshold, len(which), n, v, pointer(which), place, row, beside, other
    )


@numba.njit
def by_lanes(by, l, threshold, m, which, a, slope):
    n, row = a.shape
    drop_lanes(pointer(by), l, threshold, n, m, pointer(which), pointer(a), pointer(slope), row)


def drawn_by(key=EPOCH, first=0, table=None):
    by = np.zeros(3, np.uint64)
    by[KEY], by[FIRST], by[TABLE] = key, first, 0 if table is None else table.ctypes.data
    return by.view(np.int64)


def expected(n, samples, p, dtype, key=EPOCH):
    """The reference's mask of a layer of n neurons."""
    sizes, rates = (1,) * LAYER + (n, 1), (0.0,) * (LAYER - 1) + (p,)
    model = Model(sizes, ("tanh",) * (LAYER + 1), "quadratic", True, 1.0, dropout=rates)
    return reference.masks(model, key, samples, np.dtype(dtype))[-1]


@pytest.mark.parametrize("n", [1, 15, 16, 17, 32, 33, 100])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_have_the_masks_of_the_reference(n, dtype, rng):
    which = np.array([4, 0, 2**31 + 1, 9])
    a = np.zeros((4, stride(n, dtype)), dtype)
    a[:, :n] = rng.standard_normal((4, n))
    slope = 2 * a
    mask = expected(n, which, 0.4, dtype)
    wanted = a[:, :n] * mask
    by_rows(drawn_by(), LAYER, dropout.threshold(0.4), n, 0, which, a, slope)
    assert (a[:, :n] == wanted).all()
    assert (slope == 2 * a).all()
    assert not a[:, n:].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_columns_of_a_team_have_their_part_of_the_masks(dtype, rng):
    """From any vector on, as many as there are: nothing else is touched."""
    n, which = 100, np.arange(3)
    lanes = CPU.vector_bytes // np.dtype(dtype).itemsize
    mask = expected(n, which, 0.4, dtype)
    for v in range(0, n, lanes):
        for width in {lanes, 3 * lanes, n - v}:
            width = min(width, n - v)
            a = np.ones((3, stride(n, dtype)), dtype)
            slope = np.ones((3, stride(width, dtype)), dtype)
            by_rows(drawn_by(), LAYER, dropout.threshold(0.4), width, v, which, a, slope)
            end = v + width
            whole = -(-end // lanes) * lanes
            assert (a[:, v:end] == mask[:, v:end]).all()
            assert (slope[:, :width] == mask[:, v:end]).all()
            assert (a[:, :v] == 1).all()
            assert (a[:, whole:] == 1).all()


@pytest.mark.parametrize("m", [1, 4, 16, 37])
@pytest.mark.parametrize("n", [1, 16, 21, 32, 70])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lanes_have_the_masks_of_the_reference(n, m, dtype, rng):
    lanes = CPU.vector_bytes // np.dtype(dtype).itemsize
    which = rng.permutation(m)
    width = -(-m // lanes) * lanes
    a = np.ones((n, width + lanes), dtype)
    slope = np.full_like(a, 3)
    by_lanes(drawn_by(), LAYER, dropout.threshold(0.7), m, which, a, slope)
    mask = expected(n, which, 0.7, dtype).T
    assert (a[:, :m] == mask).all()
    assert (slope[:, :m] == 3 * mask).all()
    assert (a[:, width:] == 1).all()


def test_numbers_of_samples_count_on_or_stand_in_a_table():
    which, table = np.array([3, 0, 2]), np.array([70, 80, 90, 2**33 + 5])
    for by, numbers in (
        (drawn_by(first=1000), 1000 + which),
        (drawn_by(table=table), table[which]),
        (drawn_by(first=7, table=table), 7 + table[which]),
    ):
        a, b = np.ones((3, 64)), np.ones((64, 16))
        by_rows(by, LAYER, dropout.threshold(0.5), 64, 0, which, a, a.copy())
        by_lanes(by, LAYER, dropout.threshold(0.5), 3, which, b, b.copy())
        mask = expected(64, numbers, 0.5, "float64")
        assert (a == mask).all()
        assert (b[:, :3].T == mask).all()


def test_the_layer_counts_in_the_upper_word_of_the_key():
    """It runs over without touching the lower word."""
    key, which, a = 2**64 - 1, np.arange(5), np.ones((5, 64))
    by_rows(drawn_by(key), LAYER, dropout.threshold(0.5), 64, 0, which, a, a.copy())
    assert (a == expected(64, which, 0.5, "float64", key)).all()


def test_what_is_not_finite_stays_so():
    """As in the reference: a loss that diverges is not hidden."""
    a = np.full((1, 64), np.inf)
    by_rows(drawn_by(), LAYER, dropout.threshold(0.5), 64, 0, np.arange(1), a, np.ones((1, 64)))
    assert np.isnan(a).any()
    assert not np.isfinite(a).any()


# -- training --------------------------------------------------------------------------------------

RULES = {"plain": PLAIN, "momentum": Rule("momentum", 0.9, l2=0.01, frozen=(1,))}


def trained(engine, net, X, targets, batch_size, path=None, **how):
    """All that an epoch leaves, in an order of its own."""
    params, order = net.copy_params(), np.arange(len(X))[::-1].copy()
    with cases.as_trainer_has_it(path) as name:
        how = {"rule": PLAIN, **how, **({"path": name} if name else {})}
        trainer = engine(net.model, net.layout).trainer(params, X, targets, batch_size, **how)
    with trainer:
        trainer.draw_masks(EPOCH, 1000)
        trainer.run(order, 0, len(order), 0.05)
        return params, trainer.totals[0].copy()


def assert_is_the_reference_s(net, X, targets, batch_size, assert_close, path, rule=PLAIN):
    """The same bits for any team, and up to rounding those of the reference."""
    wanted, there = trained(NumpyEngine, net, X, targets, batch_size, rule=rule)
    one, *more = (
        trained(NumbaEngine, net, X, targets, batch_size, path=path, threads=threads, rule=rule)
        for threads in (1, 2, 3)
    )
    for found in more:
        assert [x.tobytes() for x in found] == [x.tobytes() for x in one]
    where = f"{path}, batches of {batch_size}"
    views = zip(net.layout.views(one[0]), net.layout.views(wanted), strict=True)
    for mine, theirs in views:
        for p, q in zip(mine, theirs, strict=True):
            assert_close(p, q, where=where)
    assert_close(one[1][[0, 2]], there[[0, 2]], dtype=str(net.layout.dtype), where=where)
    assert one[1][1] == there[1]


@pytest.fixture
def small(all_take_part, monkeypatch):
    """Blocks of inputs are small, and lists of samples are made early."""
    monkeypatch.setattr(machine, "BLOCK_BYTES", 512)


@crossed(
    batch_size=[1, 2, 7, 33], rule=list(RULES), dtype=["float64", "float32"],
    hidden=[("sigmoid", "relu"), ("leaky_relu", "tanh")],
    rates=[(0.4, 0.2), (0.3, 0.0), (0.0, 0.6)],
)  # fmt: skip
def test_what_is_learnt_is_what_the_reference_learns(
    batch_size, rule, dtype, hidden, rates, make_net, make_data, assert_close, small
):
    options = {"dropout": rates, "dtype": dtype, "bias": batch_size != 7}
    net = make_net((20, 17, 40, 4), ("cross-entropy", "softmax"), list(hidden), **options)
    X, targets = make_data(net, 33)
    if batch_size == 2:
        targets = targets._replace(weights=np.linspace(0.5, 2, 33, dtype=dtype))
    for path in ("dense", "sparse", "narrow", "turned"):
        if path == "narrow" and (batch_size == 1 or targets.weights.size):
            continue
        rounding = (1, 33) if dtype == "float64" else (33,)  # float32 drifts from step to step
        if batch_size in rounding or dtype == "float64":
            args = X, targets, batch_size, assert_close, path, RULES[rule]
            assert_is_the_reference_s(net, *args)


@pytest.mark.parametrize("path", ["dense", "sparse", "narrow"])
@pytest.mark.parametrize("rule", list(RULES))
def test_chunks_of_a_batch_take_their_own_samples(
    rule, path, make_net, make_data, assert_close, monkeypatch, all_take_part
):
    """The scratch holds eight samples, or a vector of them: batches go through it in chunks."""
    for name, value in (("SCRATCH_BYTES", 1), ("FEWEST_CHUNK", 8), ("MOST_CHUNK", 8)):
        monkeypatch.setattr(machine, name, value)
    monkeypatch.setattr(machine, "NARROW_VECTORS", 1)
    net = make_net((6, 17, 9, 3), ("cross-entropy", "softmax"), "tanh", dropout=(0.4, 0.4))
    X, targets = make_data(net, 120)
    assert_is_the_reference_s(net, X, targets, 50, assert_close, path, RULES[rule])


def test_samples_in_lanes_block_by_block(make_net, make_data, assert_close, all_take_part):
    net = make_net((6, 17, 9, 3), ("cross-entropy", "softmax"), "tanh", dropout=(0.4, 0.4))
    X, targets = make_data(net, 1000)
    assert_is_the_reference_s(net, X, targets, 1000, assert_close, "narrow")


def test_lists_of_samples(make_net, make_data, assert_close, monkeypatch, all_take_part):
    monkeypatch.setattr(machine, "LIST_BYTES", 0)
    monkeypatch.setattr(machine, "LIST_ENTRIES", 0)
    net = make_net((30, 33, 3), ("cross-entropy", "softmax"), "tanh", dropout=(0.5,))
    X, targets = make_data(net, 40)
    assert_is_the_reference_s(net, X, targets, 20, assert_close, "sparse")


def test_wide_layers_of_a_team(make_net, make_data, assert_close, all_take_part):
    """Columns of a thread begin amid what the words of a counter are for."""
    net = make_net((10, 300, 130, 3), ("cross-entropy", "softmax"), "relu", dropout=(0.5, 0.3))
    X, targets = make_data(net, 40)
    for path in ("dense", "sparse", "turned"):
        for batch_size in (1, 40):
            assert_is_the_reference_s(net, X, targets, batch_size, assert_close, path)


@pytest.mark.parametrize("path", ["dense", "sparse", "narrow"])
def test_a_part_of_a_batch_has_the_masks_of_its_samples(path, make_net, make_data, assert_close):
    """What ranks share; numbers of samples stand in a table."""
    net = make_net((6, 17, 9, 3), ("cross-entropy", "softmax"), "tanh", dropout=(0.4, 0.4))
    X, targets = make_data(net, 30)
    numbers, found = np.arange(100, 130)[::-1].copy(), []
    for engine, how in ((NumbaEngine, {"path": path}), (NumpyEngine, {})):
        args = net.copy_params(), X, targets, 30
        with engine(net.model, net.layout).trainer(*args, shared=True, **how) as trainer:
            trainer.draw_masks(EPOCH, numbers)
            trainer.part(np.arange(30), 4, 27, 0.5)
            found.append(trainer.message[:-1].copy())  # but for interrupts
    assert_close(found[0], found[1])
