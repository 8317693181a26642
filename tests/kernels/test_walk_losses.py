"""Losses that come by address, in training: on every path, in every team, the reference's gradient.

Those that are written out with their outputs are trained in `test_epochs`.
"""

import numpy as np
import pytest

from cases import crossed
from fastbp.engines.numba_engine import NumbaEngine
from fastbp.engines.numpy_engine import NumpyEngine
from fastbp.kernels import machine
from fastbp.model.layout import Layout
from fastbp.reference import Model, Targets

RATE = 1024.0  # all weights then are the gradient's, and rounding W costs no more than its own
BATCHES = (1, 2, 33)
PATHS = ("dense", "sparse", "narrow")
LASTS = [
    ("quadratic", "silu", None), ("quadratic", "leaky_relu", None), ("absolute", "identity", None),
    ("absolute", "sigmoid", None), ("absolute", "softplus", None), ("huber", "identity", 0.2),
    ("huber", "relu", None), ("huber", "tanh", 0.05), ("quantile", "identity", 0.9),
    ("quantile", "elu", None), ("quantile", "gelu", 0.2), ("cross-entropy", "softmax", 0.2),
    ("cross-entropy", "sigmoid", 0.1),
]  # fmt: skip
DTYPES = ["float32", "float64"]


@pytest.fixture(autouse=True)
def several_blocks(all_take_part, monkeypatch):
    """Every thread takes part, and zero-skipping rows are in several blocks."""
    monkeypatch.setattr(machine, "BLOCK_BYTES", 512)


@pytest.fixture
def problem(rng):
    """problem(last, hidden, dtype, n): a model, its layout and parameters, samples and targets."""

    def make(last, hidden, dtype, n, labels, weighted=False):
        (loss, output, setting), sizes = last, (20, 17, 9, 4)
        model = Model(sizes, (hidden, hidden, output), loss, True, 1.0, setting)
        layout = Layout(sizes, dtype, True)
        params = layout.zeros()
        for W, b in zip(*layout.views(params), strict=True):
            W[...] = rng.standard_normal(W.shape) / np.sqrt(W.shape[1])
            b[...] = rng.standard_normal(b.shape) / 2
        X = (rng.standard_normal((n, 20)) * (rng.random((n, 20)) < 0.4)).astype(dtype)
        y = rng.integers(4, size=n), rng.random((n, 4)).astype(dtype)
        y = (y[0], y[1][:0]) if labels else (y[0][:0], y[1])
        weights = rng.random(n).astype(dtype) if weighted else np.empty(0, dtype)
        return model, layout, params, X, Targets(*y, weights, output == "sigmoid" and not labels)

    return make


def trained(model, layout, params, X, targets, *how):
    """Parameters, loss and hits after a step of one batch."""
    after = layout.zeros()
    after[:] = params
    engine = NumbaEngine(model, layout) if how else NumpyEngine(model, layout)
    with engine.trainer(after, X, targets, len(X), *how) as trainer:
        trainer.run(np.arange(len(X)), 0, len(X), RATE)
        return after, *trainer.totals[0, :2].tolist()


@crossed(last=LASTS, hidden=["tanh", "gelu"], dtype=DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_is_the_reference_gradient(last, hidden, dtype, weighted, problem, assert_close):
    """Labels and values; loss and hits; the same bits from any number of threads."""
    for n in BATCHES:
        for labels in (True, False):
            task = problem(last, hidden, dtype, n, labels, weighted)
            model, layout, params = task[:3]
            _, loss, hits = trained(*task)
            grads = NumpyEngine(model, layout).gradient(*task[2:])[0]
            for path in PATHS[: 2 if weighted else 3]:
                where = f"{path}, batch {n}, labels {labels}"
                one, *more = (trained(*task, threads, path) for threads in (1, 2, 3))
                step = (params.astype(np.float64) - one[0]) / RATE
                extra = np.finfo(dtype).eps / 2 * np.abs(params).max() / RATE
                assert_close(step, grads, dtype=dtype, extra=extra, where=where)
                assert_close(one[1], loss, dtype=dtype, where=where)
                assert one[2] == hits, where
                assert np.abs(grads).max() > 0
                for other in more:
                    assert other[0].tobytes() == one[0].tobytes(), where
                    assert other[1:] == one[1:], where


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("last", LASTS, ids=lambda last: "-".join(map(str, last)))
def test_walks_over_a_set_are_the_reference(last, dtype, problem, assert_close):
    """Gradients of either layout, sums of losses and hits, outputs."""
    for n in BATCHES:
        for labels in (True, False):
            model, layout, params, X, targets = problem(last, "tanh", dtype, n, labels)
            fast, slow = NumbaEngine(model, layout), NumpyEngine(model, layout)
            expected = slow.gradient(params, X, targets)
            for path in ("dense", "narrow"):
                found = fast.gradient(params, X, targets, path)
                assert_close(found[0], expected[0], where=path)
                assert_close(found[1], expected[1], dtype=dtype)
            found, expected = (engine.evaluate(params, X, targets) for engine in (fast, slow))
            assert_close(found[0], expected[0], dtype=dtype)
            assert found[1] == expected[1]
            assert_close(fast.feedforward(params, X)[0], slow.feedforward(params, X)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("path", PATHS)
def test_a_batch_in_chunks_learns_alike(path, dtype, problem, monkeypatch, assert_close):
    monkeypatch.setattr(machine, "SCRATCH_BYTES", 1)
    monkeypatch.setattr(machine, "FEWEST_CHUNK", 8)
    monkeypatch.setattr(machine, "MOST_CHUNK", 8)
    monkeypatch.setattr(machine, "NARROW_VECTORS", 1)
    for last in (("huber", "identity", 0.2), ("cross-entropy", "softmax", 0.2)):
        task = problem(last, "tanh", dtype, 77, False)
        grads = NumpyEngine(*task[:2]).gradient(*task[2:])[0]
        one, two = (trained(*task, threads, path) for threads in (1, 2))
        step = (task[2].astype(np.float64) - one[0]) / RATE
        extra = np.finfo(dtype).eps / 2 * np.abs(task[2]).max() / RATE
        assert_close(step, grads, dtype=dtype, extra=extra)
        assert two[0].tobytes() == one[0].tobytes()


@pytest.mark.parametrize("path", PATHS)
def test_a_target_that_is_not_finite_stops_before_its_batch(path, problem, dtype):
    """Also an infinite one, whose error is as small as any other's."""
    for last in (
        ("absolute", "identity", None),
        ("huber", "silu", None),
        ("quantile", "tanh", 0.9),
    ):
        for value in (np.nan, np.inf, -np.inf):
            model, layout, params, X, targets = problem(last, "tanh", dtype, 24, False)
            targets.values[13, 2] = value
            after = layout.zeros()
            after[:] = params
            engine = NumbaEngine(model, layout)
            with engine.trainer(after, X, targets, 8, 2, path) as trainer:
                trainer.run(np.arange(24), 0, 24, 0.1)
                assert trainer.stopped
            expected = layout.zeros()
            expected[:] = params
            with engine.trainer(expected, X[:8], targets.part(slice(8)), 8, 1, path) as trainer:
                trainer.run(np.arange(8), 0, 8, 0.1)
                assert not trainer.stopped
            assert after.tobytes() == expected.tobytes()
