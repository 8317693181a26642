"""scripts/classics/unequal_layers.py: old output weights against updated ones; mnist.pkl.gz."""

import gzip
import io
import pickle
import struct

import numpy as np
import pytest

PROGRAM = "unequal_layers"


def _bytes(data):
    return b"T" + struct.pack("<i", len(data)) + data  # BINSTRING, which Python 2 wrote


def _array(array):
    """Opcodes by which an old Python wrote an array, protocol 2."""
    code = _bytes(array.dtype.str[1:].encode())
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in array.shape) + b"t"
    dtype = b"cnumpy\ndtype\n" + code + b"K\x00K\x01\x87R(K\x03" + _bytes(b"<") + b"NNN"
    dtype += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _bytes(b"b")
    return made + b"\x87R(K\x01" + shape + dtype + b"\x89" + _bytes(array.tobytes()) + b"tb"


def write_old_pickle(path, pairs):
    """Write ((X, y), (X, y), (X, y)) as Python 2 did: protocol 2, old names, strings of bytes."""
    parts = b"".join(_array(X) + _array(y) + b"\x86" for X, y in pairs)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"\x80\x02" + parts + b"\x87.")


@pytest.fixture
def old_file(mnist, tmp_path):
    """A shortened mnist.pkl.gz, and what it holds."""
    X, y = (mnist.X_train / 256).astype(np.float32), mnist.y_train
    X_test = (mnist.X_test / 256).astype(np.float32)
    pairs = (X[:2000], y[:2000]), (X[2000:2100], y[2000:2100]), (X_test[:500], mnist.y_test[:500])
    write_old_pickle(tmp_path / "mnist.pkl.gz", pairs)
    return tmp_path, pairs


def test_the_old_file_is_one_that_pickle_itself_reads(old_file):
    """The writer of this test is right: NumPy's own names rebuild the arrays."""
    folder, pairs = old_file
    data = gzip.decompress((folder / "mnist.pkl.gz").read_bytes())
    data = data.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")  # NumPy 2 warns
    loaded = pickle.load(io.BytesIO(data), encoding="bytes")
    for (X, y), (found_X, found_y) in zip(pairs, loaded, strict=True):
        assert np.array_equal(X, found_X)
        assert np.array_equal(y, found_y)


def test_the_classic_file_is_read(program, old_file, capsys):
    folder, ((X, y), _, (X_test, y_test)) = old_file
    data = program.load(str(folder))
    assert "mnist.pkl.gz" in capsys.readouterr().out
    for found, expected in zip(data, (X, y, X_test, y_test), strict=True):
        assert np.array_equal(found, expected)


def test_without_the_classic_file_the_idx_files_serve(program, mnist, monkeypatch, tmp_path):
    monkeypatch.setattr(program, "load_mnist", lambda data_dir: mnist)
    data = program.load(str(tmp_path))
    assert data.X.shape == (50_000, 784)
    assert data.X.max() == 255 / 256


def sigma(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("rule", ["right", "slip"])
def test_one_sample_by_hand(program, rng, rule):
    """Both layers' steps with plain matrices; no bias moves; the cost is the one from before."""
    net, rate = program.network(seed=4), 0.3
    x, y = rng.random((1, 784)), np.eye(10)[[3]]
    (W1, W2), (b1, b2) = ([array.copy() for array in part] for part in (net.weights, net.biases))
    a1 = sigma(W1 @ x[0] + b1)
    a2 = sigma(W2 @ a1 + b2)
    delta2 = 2 * (a2 - y[0]) * a2 * (1 - a2)
    new_W2 = W2 - rate * np.outer(delta2, a1)
    delta1 = ((W2 if rule == "right" else new_W2).T @ delta2) * a1 * (1 - a1)
    cost = program.learn(net, x, y, rate, rule)
    assert cost == pytest.approx(((a2 - y[0]) ** 2).sum(), rel=1e-12)
    np.testing.assert_allclose(net.weights[1], new_W2, rtol=1e-10)
    np.testing.assert_allclose(net.weights[0], W1 - rate * np.outer(delta1, x), rtol=1e-10)
    assert all(np.array_equal(b, old) for b, old in zip(net.biases, (b1, b2), strict=True))


def test_the_slip_is_told_from_the_right_rule_by_finite_differences(program, old_file):
    data = program.load(str(old_file[0]))
    rows = program.check_gradients(data, seed=0)
    assert len(rows) == 3
    assert all(row[3] for row in rows), rows


def test_a_slip_taken_for_right_is_seen(program, old_file, monkeypatch):
    data = program.load(str(old_file[0]))
    learn = program.learn
    monkeypatch.setattr(program, "learn", lambda *args: learn(*args[:4], "slip"))
    assert not program.check_gradients(data, seed=0)[0][3]


def test_a_short_run_from_the_classic_file(start, old_file):
    """300 rounds: the table is as expected, and the cost is drawn."""
    code, picture = start("--quick", "--data-dir", old_file[0])
    assert code == 0
    assert picture.stat().st_size > 10_000
