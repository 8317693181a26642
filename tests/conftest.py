"""Fixtures that all tests share, and the one table of tolerances.

What a run leaves out, and what a test may not leave behind, is in `_conduct.py`.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import fastbp
from fastbp import Network, cli
from fastbp.datasets import download as downloads
from fastbp.engines import planning
from fastbp.model.layout import Layout
from fastbp.reference import Model, Targets
from fastbp.verification import tolerances

pytest_plugins = ["_conduct"]
ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = Path(__file__).parent / "programs"

# (relative, absolute as a part of the array's largest value) by kind of result and dtype.
# "elementwise": one formula a value; a (1 - a) cancels, so its last digits are those of 1.
# "contraction": sums of products, whose rounding goes with the largest terms.
# "differences": max|analytic - numeric| / max|analytic|; entry by entry it could not hold.
# "epoch": after many steps.
TOLERANCES = {
    **tolerances.TOLERANCES,
    "differences": {"float64": (0, 1e-7)},
    "epoch": {"float64": (1e-8, 1e-10)},
}


@pytest.fixture(autouse=True)
def offline(process_as_found, monkeypatch):
    """No test downloads anything: nobody listens where the mirrors are said to be."""
    nobody = {
        name: (("http://127.0.0.1:9/",), files) for name, (_, files) in downloads.SOURCES.items()
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


@pytest.fixture
def run(capsys):
    """Run a command of the shell; return exit code, stdout, stderr."""

    def run(*argv):
        capsys.readouterr()
        code = cli.main([str(part) for part in argv])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def tqdm(monkeypatch):
    """The package, without the thread by which it watches bars; skips where it is missing."""
    package = pytest.importorskip("tqdm")
    monkeypatch.setattr(package.tqdm, "monitor_interval", 0)
    return package


@pytest.fixture(
    scope="session",
    params=[1, pytest.param(10, marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
)
def times(request):
    """How many times over to do what comes at random."""
    return request.param


@pytest.fixture
def without_matplotlib(monkeypatch):
    """matplotlib is as if it were not installed."""
    for name in {"matplotlib", *(name for name in sys.modules if name.startswith("matplotlib."))}:
        monkeypatch.setitem(sys.modules, name, None)


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


@pytest.fixture(scope="session")
def run_program():
    """run_program(name, *arguments, **environment): run tests/programs/`name` in a fresh process.

    The process must end with exit code 0, unless `check=False`.
    """

    def run(name, *arguments, check=True, cwd=ROOT, timeout=240, text=True, **environment):
        done = subprocess.run(
            [sys.executable, PROGRAMS / name, *map(str, arguments)],
            cwd=cwd, env=os.environ | environment, capture_output=True, text=text, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stderr
        return done

    return run


# -- other programs, where they are installed ------------------------------------------------------


@pytest.fixture(scope="session")
def ort():
    return pytest.importorskip("onnxruntime", reason="onnxruntime runs what is exported")


@pytest.fixture(scope="session")
def onnx():
    return pytest.importorskip("onnx", reason="the extra onnx is not installed")


@pytest.fixture(scope="session")
def torch():
    reason = "PyTorch is too large for the suite; run where it is (pip install --group peers)"
    return pytest.importorskip("torch", reason=reason)


# -- networks and data -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def digits():
    """The bundled digits, read-only: X_train, y_train, X_test, y_test."""
    data = fastbp.datasets.load("digits")
    for array in data:
        array.flags.writeable = False
    return data


@pytest.fixture(scope="session")
def make():
    """make(sizes, ...): a small network with a seed, in float64."""

    def network(sizes=(4, 6, 3), **options):
        return Network(sizes, **{"seed": 1, "dtype": "float64", **options})

    return network


@pytest.fixture
def data(rng):
    """data(n): samples and labels for the network that `make` makes."""
    return lambda n=22: (rng.random((n, 4)), rng.integers(0, 3, n))


@pytest.fixture(scope="module")
def program(request):
    """The module of scripts/classics that a test module names in PROGRAM."""
    folder = str(ROOT / "scripts" / "classics")
    sys.path.insert(0, folder)  # the programs import what lies beside them
    try:
        return importlib.import_module(request.module.PROGRAM)
    finally:
        sys.path.remove(folder)


@pytest.fixture
def start(program, monkeypatch, mnist, tmp_path):
    """start(*arguments): run that program on MNIST; its exit code and its picture."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(program, "load_mnist", lambda data_dir: mnist)

    def run(*arguments):
        picture = tmp_path / "picture.png"
        return program.main([*map(str, arguments), "--output", str(picture)]), picture

    return run


@pytest.fixture
def all_take_part(monkeypatch):
    """Every thread asked for takes part, however little there is to do and few the cores.

    In teams of odd size each does all that is above the first layer, where a team of two shares it.
    """

    def team(planner, threads, task):
        single = task.plain and task.batch_size == 1
        whole = not task.shared and threads > 1 and (single or threads % 2 == 1)
        return planning.Team(threads, whole)

    monkeypatch.setattr(planning.Planner, "team", team)
    monkeypatch.setattr(planning, "threads_of_call", lambda threads, *_: threads)


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
        dropout = options.get("dropout", ())
        model = Model(tuple(sizes), (*hidden, activation), loss, bias, scale, dropout=dropout)
        layout = Layout(sizes, dtype, bias)
        params = layout.zeros()
        for W, b in zip(*layout.views(params), strict=True):
            W[...] = rng.standard_normal(W.shape) / np.sqrt(W.shape[1])
            b[...] = rng.standard_normal(b.shape) / 2 if bias else 0
        return Net(model, layout, params)

    return make


def _relu_inputs(weights, biases, activations, X):
    """|z| of all ReLUs: where it is near zero, a rounding or a small step decides their side."""
    a, found = X.astype(np.float64), [np.empty(0)]
    for W, b, name in zip(weights, biases, activations, strict=True):
        z = a @ W.T + b
        if name == "relu":
            found.append(np.abs(z).ravel())
        a = np.maximum(z, 0) if name == "relu" else np.tanh(z) if name == "tanh" else z
        a = 1 / (1 + np.exp(-z)) if name == "sigmoid" else a
    return np.concatenate(found)


@pytest.fixture
def inputs_clear_of_kinks(rng):
    """inputs_clear_of_kinks(net, n): inputs of a `Network` whose ReLUs stay on their side."""

    def draw(net, n):
        hidden = [net.config["activation"]] * (net.num_layers - 2)
        parts = net.weights, net.biases or [0] * len(net.weights), [*hidden, net.config["output"]]
        for _ in range(1000):
            X = rng.standard_normal((n, net.sizes[0]))
            if (_relu_inputs(*parts, X * net.config["input_scale"]) > 1e-3).all():
                return X
        raise AssertionError("no such inputs were drawn")

    return draw


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
            parts = *net.layout.views(net.params), net.model.activations
            z = _relu_inputs(*parts, X * net.model.scale)
            if ((z == 0) | (z >= 1e-5)).all():
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
        pytest.skip(
            f"no MNIST in {folder / 'mnist'}; put its four files there, or into a folder mnist in "
            "one that $FASTBP_DATA names"
        )
    data = datasets.load("mnist", data_dir=folder)
    for array in data:
        array.flags.writeable = False
    return data
