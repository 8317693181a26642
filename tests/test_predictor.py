"""SciPy's sparse matrices as samples: the same numbers as the dense ones give."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from cases import crossed
from fastbp import Network, find_learning_rate
from fastbp.engines import predictor
from fastbp.kernels import machine
from fastbp.plots.norms import Norms

sparse = pytest.importorskip("scipy.sparse", reason="SciPy is an extra")


def mostly_zero(rng, n=90, dtype=np.float64):
    X = np.where(rng.random((n, 40)) < 0.1, 9 * rng.standard_normal((n, 40)), 0).astype(dtype)
    return X, rng.integers(0, 3, n)


@pytest.fixture
def net_of_40(make):
    """net_of_40(backend): a network with 40 inputs."""
    return lambda backend="numba": make((40, 20, 3), loss="cross-entropy", backend=backend)


@crossed(
    form=["csr_matrix", "csc_matrix", "coo_matrix", "csr_array", "lil_matrix"],
    kind=[np.float32, np.float64, np.uint8, np.int64],
    rows_at_once=[7, 4096],
    backend=["numba", "numpy"],
)
def test_they_train_as_their_dense_twins(
    form, kind, rows_at_once, backend, rng, net_of_40, assert_close, monkeypatch
):
    monkeypatch.setattr(machine, "ROWS_AT_ONCE", rows_at_once)
    X, y = mostly_zero(rng, dtype=kind)
    ends = []
    for samples in (X, getattr(sparse, form)(X)):
        net = net_of_40(backend)
        history = net.fit(samples, y, epochs=3, batch_size=8, learning_rate=0.1)
        ends.append((net.to_vector(), history.loss, net.feedforward(samples), net.loss(samples, y)))
        assert net.gradient(samples, y).to_vector() == pytest.approx(
            net.gradient(X, y).to_vector(), rel=1e-12
        )
        assert net.accuracy(samples, y) == net.accuracy(X, y)
    for dense, same in zip(*ends, strict=True):
        assert_close(same, dense)


def _twice(X):
    """Halves of each entry, and stored zeros beside it, in no order."""
    coo = X.tocoo()
    rows, columns = np.tile(coo.row, 3), np.concatenate([coo.col, coo.col, (coo.col + 1) % 40])
    data = np.concatenate([coo.data / 2, coo.data / 2, 0 * coo.data])
    return sparse.coo_matrix((data, (rows, columns)), X.shape)


def _backwards(X):
    """The entries of each row from the last to the first."""
    order = np.concatenate([np.arange(a, b)[::-1] for a, b in pairwise(X.indptr)])
    return sparse.csr_matrix((X.data[order], X.indices[order], X.indptr), X.shape)


def _locked(X):
    for array in (X.data, X.indices, X.indptr):
        array.flags.writeable = False
    return X


STATES = {
    "twice": _twice,
    "backwards": _backwards,
    "read-only": _locked,
    "int64 indices": lambda X: sparse.csr_array(
        (X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64)), X.shape
    ),
    "big-endian": lambda X: sparse.csr_matrix((X.data.astype(">f8"), X.indices, X.indptr), X.shape),
    "long double": lambda X: X.astype(np.longdouble),
}


@pytest.mark.parametrize("state", STATES)
def test_entries_in_any_state_are_those_of_the_dense_matrix(
    state, backend, rng, net_of_40, assert_close
):
    """In each call, and none of them changes what it is given."""
    X, y = mostly_zero(rng)
    X[10:20] = 0
    samples = STATES[state](sparse.csr_matrix(X))
    before = samples.data.copy()
    ends = []
    for given in (X, samples):
        net = net_of_40(backend)
        found = net.gradient(given, y, np.arange(90) % 3)
        one = given[:1] if given is X else given.tocsr()[:1]
        nablas = net.backprop(one, y[0])
        net.update_mini_batch(given, y, 0.1)
        book = net.SGD((given, y), 1, 8, 0.1, test_data=(given, y))
        history = net.fit(
            given, y, epochs=2, batch_size=8, learning_rate=0.1, validation_data=(given, y),
            optimizer="adam",
        )  # fmt: skip
        losses = [found.loss, *book.loss, *history.loss, *history.val_loss]
        ends.append((found.to_vector(), nablas[1][0], net.to_vector(), losses))
    for dense, same in zip(*ends, strict=True):
        assert_close(np.asarray(same), np.asarray(dense))
    assert np.array_equal(samples.data, before)


def test_stretches_and_threads_do_not_show_in_the_outputs(
    backend, rng, net_of_40, monkeypatch, all_take_part
):
    X, _ = mostly_zero(rng, 700)
    samples, net = sparse.csr_matrix(X), net_of_40(backend)
    whole = net.feedforward(samples)
    for threads in (1, 2, 3):
        assert np.array_equal(net.feedforward(samples, threads=threads), whole)
        monkeypatch.setattr(predictor, "WORK", 1)
    assert np.array_equal(net.feedforward(samples[5]), whole[5:6]) or backend == "numpy"


def test_duplicates_and_stored_zeros_count_as_in_the_dense_matrix(rng, assert_close, net_of_40):
    rows, columns = np.array([0, 0, 1, 2, 2]), np.array([5, 5, 7, 0, 39])
    X = sparse.coo_matrix(([1.0, 2.0, 0.0, 4.0, 5.0], (rows, columns)), shape=(3, 40))
    one, two = net_of_40(), net_of_40()
    one.fit(X, [0, 1, 2], epochs=2, batch_size=1, learning_rate=0.1)
    two.fit(X.toarray(), [0, 1, 2], epochs=2, batch_size=1, learning_rate=0.1)
    assert_close(one.to_vector(), two.to_vector())


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (sparse.csr_matrix((5, 39)), ValueError, r"X .*\(batch, 40\)"),
        (sparse.csr_matrix((0, 40)), ValueError, "X .*at least one sample"),
        (sparse.csr_matrix(([np.nan], ([3], [4])), shape=(5, 40)), ValueError, r"X\.data .*finite"),
        (sparse.csr_matrix((5, 40), dtype=complex), TypeError, "X .*numbers.* complex"),
    ],
)
def test_what_does_not_fit_is_named(X, error, message, backend, net_of_40):
    with pytest.raises(error, match=message):
        net_of_40(backend).fit(X, [0] * X.shape[0], epochs=1, batch_size=1, learning_rate=0.1)


WIDE = 50_000  # inputs: 4,096 dense rows of them take 1.6 GB


def _predicted(net, X, y):
    net.predict(X), net.loss(X, y), net.accuracy(X, y)


CALLS = {
    "predict": _predicted,
    "gradient": lambda net, X, y: net.gradient(X, y),
    "a step": lambda net, X, y: net.update_mini_batch(X, y, 0.1),
    "fit": lambda net, X, y: net.fit(
        X, y, epochs=1, batch_size=512, learning_rate=0.1, validation_data=(X, y)
    ),
    "norms": lambda net, X, y: Norms(X, y).on_epoch_end(net, None),
    "find_learning_rate": lambda net, X, y: find_learning_rate(
        net, X, y, batch_size=1024, start=0.1, end=10.0
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_dense_copy_is_made_however_wide_the_samples(call, backend, rng):
    columns = rng.integers(0, WIDE, (4096, 100))
    columns[:, 0] = rng.integers(0, 3, 4096)
    X = sparse.csr_matrix((np.ones(409_600), columns.ravel(), np.arange(0, 409_601, 100)),
                          (4096, WIDE))  # fmt: skip
    y = columns[:, 0]
    net = Network([WIDE, 8, 3], loss="cross-entropy", backend=backend, seed=0)
    net.predict(X[:2])  # kernels are loaded before
    tracemalloc.start()
    try:
        CALLS[call](net, X, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_indices_beyond_the_columns_are_refused(backend, net_of_40):
    X = sparse.csr_matrix(np.eye(40))
    X.indices[7] = 10_000_000
    with pytest.raises(ValueError, match=r"ind.*40"):
        net_of_40(backend).predict(X)
