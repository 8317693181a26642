"""SciPy's sparse matrices as samples: the same numbers as the dense ones give."""

import numpy as np
import pytest

from cases import crossed
from fastbp.engines import predictor
from fastbp.kernels import machine

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


def test_the_gradient_adds_up_over_stretches(backend, rng, monkeypatch, assert_close, net_of_40):
    """Weights of samples are shared out; a stretch in which none counts adds nothing."""
    monkeypatch.setattr(predictor, "SPARSE_ROWS", 20)
    X, y = mostly_zero(rng)
    weights = rng.random(90)
    weights[20:40] = 0
    net = net_of_40(backend)
    for counts in (None, weights):
        found = net.gradient(sparse.csr_matrix(X), y, counts)
        expected = net.gradient(X, y, counts)
        assert_close(found.to_vector(), expected.to_vector())
        assert found.loss == pytest.approx(expected.loss, rel=1e-12)


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


def test_no_dense_copy_of_the_whole_is_made(rng, monkeypatch, net_of_40):
    X = sparse.random(5000, 40, 0.05, format="csr", rng=0)
    made, toarray = [], sparse.csr_matrix.toarray

    def counted(self, *args, **kwargs):
        made.append(self.shape[0])
        return toarray(self, *args, **kwargs)

    monkeypatch.setattr(type(X), "toarray", counted)
    net = net_of_40()
    net.fit(X, rng.integers(0, 3, 5000), epochs=1, batch_size=10, learning_rate=0.1)
    net.feedforward(X)
    assert max(made) <= 4096
