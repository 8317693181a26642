"""The package as a whole: what it offers, that its examples run, and what it does not import."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import fastbp

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = {
    "matplotlib", "mpi4py", "onnx", "onnxruntime", "pandas", "pooch", "scipy", "sklearn", "torch",
    "tqdm",
}  # fmt: skip
MODULES = ["fastbp", *(module.name for module in pkgutil.walk_packages(fastbp.__path__, "fastbp."))]
MODULES.remove("fastbp.__main__")  # runs the program when imported


def test_all_is_sorted_and_each_name_is_there():
    assert fastbp.__all__ == sorted(set(fastbp.__all__))
    assert all(hasattr(fastbp, name) for name in fastbp.__all__)


def test_all_is_complete():
    public = {
        name
        for name, value in ((name, getattr(fastbp, name)) for name in dir(fastbp))
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("fastbp")
    }
    modules = {
        name for name in fastbp.__all__ if isinstance(getattr(fastbp, name), types.ModuleType)
    }
    assert public | modules == set(fastbp.__all__)


def test_what_training_does_not_need_is_imported_when_asked_for():
    code = "import fastbp, sys; print(sorted(m for m in sys.modules if m in sys.argv))"
    later = [f"fastbp.{name}" for name in ("gradients", "layers", "sequential", "verification")]
    found = subprocess.run(
        [sys.executable, "-c", code, *later], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
    assert "verify" in dir(fastbp)
    with pytest.raises(AttributeError, match="no attribute 'verified'"):
        fastbp.verified  # noqa: B018


@pytest.mark.parametrize("name", fastbp.__all__)
def test_whatever_is_public_says_what_it_is(name):
    assert getattr(fastbp, name).__doc__


def imported(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is optional, and not installed")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name):
    module = imported(name)
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failures = []
    for test in found:
        test.globs = dict(test.globs)
        runner.run(test, out=failures.append)
    assert not failures, "".join(failures)


def test_the_main_entrances_have_examples():
    finder = doctest.DocTestFinder()
    objects = [fastbp, fastbp.Network, fastbp.Network.fit, fastbp.Network.save, fastbp.gradcheck]
    for thing in objects:
        assert any(test.examples for test in finder.find(thing, "it", module=False)), thing


def in_a_fresh_process(code):
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_leaves_optional_packages_alone():
    """But for what Numba looks for by itself."""
    names = "{name.split('.')[0] for name in sys.modules}"
    code = f"import numba, sys; before = {names}; import fastbp; print(*{names} - before)"
    modules = set(in_a_fresh_process(code))
    assert "fastbp" in modules
    assert not modules & OPTIONAL


def test_it_trains_where_no_optional_package_is():
    code = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(OPTIONAL - {"scipy"})!r}))
import fastbp
X, y, *rest = fastbp.datasets.load("digits")
net = fastbp.Network([64, 10], input_scale=1 / 16, seed=0)
print(len(net.fit(X, y, epochs=2, batch_size=10, learning_rate=0.5, progress=True)))
"""  # SciPy is not fastbp's affair: Numba looks for it
    assert in_a_fresh_process(code) == ["2"]


def test_import_changes_no_global_state():
    code = """
import logging, warnings, signal
import numpy as np
def state():
    filters = list(warnings.filters)
    return str(np.geterr()), signal.getsignal(signal.SIGINT), logging.getLogger().handlers[:]
before = state()
import fastbp
assert state() == before
np.random.seed(0)
first = np.random.random()
np.random.seed(0)
fastbp.Network([3, 2], seed=1).fit([[1, 2, 3]], [0], epochs=1, batch_size=1, learning_rate=1)
assert np.random.random() == first
print("fine")
"""
    assert in_a_fresh_process(code) == ["fine"]


def test_the_version_is_one():
    assert all(part.isdigit() for part in fastbp.__version__.split("."))
