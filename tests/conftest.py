"""Fixtures that all tests share, and the one table of tolerances."""

import importlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fastbp import downloads, matrix
from fastbp.reference import Model, Targets
from fastbp.storage import Layout

ROOT = Path(__file__).resolve().parents[1]

# (relative, absolute as a part of the array's largest value) by kind of result and dtype.
# "elementwise": one formula a value; a (1 - a) cancels, so its last digits are those of 1.
# "contraction": sums of products, whose rounding goes with the largest terms.
# "differences": max|analytic - numeric| / max|analytic|; entry by entry it could not hold.
# "epoch": after many steps.
TOLERANCES = {
    **matrix.TOLERANCES,
    "differences": {"float64": (0, 1e-7)},
    "epoch": {"float64": (1e-8, 1e-10)},
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test downloads anything: nobody listens where the mirrors are said to be."""
    nobody = {
        name: source._replace(mirrors=("http://127.0.0.1:9/",))
        for name, source in downloads.SOURCES.items()
    }
    monkeypatch.setattr(downloads, "SOURCES", nobody)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session", params=["numba", "numpy"])
def backend(request):
    """Name of a backend."""
    return request.param


@pytest.fixture(scope="session", params=["float32", "float64"])
def dtype(request):
    """Name of a dtype."""
    return request.param


@pytest.fixture(scope="session")
def classic():
    """classic(name): import a program of scripts/classics."""

    def load(name):
        folder = str(ROOT / "scripts" / "classics")
        sys.path.insert(0, folder)  # the programs import what lies beside them
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(folder)

    return load


@pytest.fixture
def rng():
    """Random numbers, the same in each run."""
    return np.random.default_rng(20_240_229)


def _assert_close(actual, expected, kind="contraction", *, dtype=None, extra=0.0, where=""):
    """Compare by the table; `extra` adds to what is allowed, `dtype` is where the values come from.

    Infinities and NaN must be at the same places.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{actual.shape} != {expected.shape} {where}"
    relative, part = TOLERANCES[kind][dtype or str(actual.dtype)]
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    size = np.abs(np.where(np.isfinite(expected), expected, 0))
    allowed = relative * size + part * size.max(initial=0) + extra
    with np.errstate(invalid="ignore"):
        error = np.abs(actual - expected)
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    bad = ~same & ~(error <= allowed)
    if bad.any():
        worst = np.unravel_index(np.argmax(np.where(bad, error, -1)), bad.shape)
        pytest.fail(
            f"{bad.sum()} of {bad.size} values differ {where}: "
            f"{actual[worst]!r}, expected {expected[worst]!r} at {tuple(map(int, worst))}; "
            f"allowed {np.broadcast_to(allowed, bad.shape)[worst]:.2g}"
        )


@pytest.fixture(scope="session")
def assert_close():
    """assert_close(actual, expected, kind): the comparison by the table of tolerances."""
    return _assert_close


class Net(NamedTuple):
    """A network as the engines take it."""

    model: Model
    layout: Layout
    params: np.ndarray

    def copy_params(self):
        """A copy, aligned as the engines want it."""
        params = self.layout.zeros()
        params[:] = self.params
        return params

    def padding(self):
        """True where the buffer holds no parameter."""
        mark = self.layout.zeros()
        for part in (part for parts in self.layout.views(mark) for part in parts):
            part[...] = 1
        return mark == 0


@pytest.fixture
def make_net(rng):
    """make_net(sizes, ...): a random network."""

    def make(sizes, output=("quadratic", "sigmoid"), hidden="sigmoid", dtype="float64", **options):
        loss, activation = output
        bias, scale = options.get("bias", True), options.get("scale", 1.0)
        if isinstance(hidden, str):
            hidden = [hidden] * (len(sizes) - 2)
        model = Model(tuple(sizes), (*hidden, activation), loss, bias, scale)
        layout = Layout(sizes, dtype, bias)
        params = layout.zeros()
        for W, b in zip(*layout.views(params), strict=True):
            W[...] = rng.standard_normal(W.shape) / np.sqrt(W.shape[1])
            b[...] = rng.standard_normal(b.shape) / 2 if bias else 0
        return Net(model, layout, params)

    return make


def _clear_of_kinks(net, X):
    """Whether no ReLU is so near to zero that the order of additions decides its sign."""
    a = X.astype(np.float64) * net.model.scale
    for W, b, name in zip(*net.layout.views(net.params), net.model.activations, strict=True):
        z = a @ W.T + b
        if name == "relu" and np.abs(z[z != 0]).min(initial=1) < 1e-5:
            return False
        a = np.maximum(z, 0) if name == "relu" else np.tanh(z) if name == "tanh" else z
        a = 1 / (1 + np.exp(-z)) if name == "sigmoid" else a
    return True


@pytest.fixture
def make_data(rng):
    """make_data(net, n): inputs, a good part of them zero, and targets for a network."""

    def make(net, n, labels=True, density=0.4, uint8=False):
        shape = n, net.model.sizes[0]
        for _ in range(100):
            lit = rng.random(shape) < density
            if uint8:
                X = (rng.integers(1, 256, shape) * lit).astype(np.uint8)
            else:
                X = (rng.standard_normal(shape) * lit).astype(net.layout.dtype)
            if _clear_of_kinks(net, X):
                break
        n_out = net.model.sizes[-1]
        if labels:
            empty = np.empty((0, n_out), net.layout.dtype)
            return X, Targets(rng.integers(0, n_out, n), empty)
        values = rng.random((n, n_out)).astype(net.layout.dtype)
        return X, Targets(np.empty(0, np.int64), values)

    return make


@pytest.fixture(scope="session")
def mnist():
    """Real MNIST, read-only; skips where the files are not."""
    from fastbp import datasets

    folder = Path(os.environ.get("FASTBP_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "mnist").is_dir():
        pytest.skip(f"no MNIST in {folder / 'mnist'}; $FASTBP_DATA may name the folder above it")
    data = datasets.load("mnist", data_dir=folder)
    for array in data:
        array.flags.writeable = False
    return data
