"""Every asv benchmark runs once, at its first parameters; every operation has one."""

import importlib
import inspect
import itertools
import pkgutil
import subprocess
import sys

import benchmarks
import numpy as np
import pytest
from benchmarks import kernels, network

import fastbp
from fastbp import reference
from fastbp.numba_engine import NumbaBackend

MODULES = [
    importlib.import_module(f"benchmarks.{module.name}")
    for module in pkgutil.iter_modules(benchmarks.__path__)
]
KINDS = ("time_", "track_", "timeraw_")
COMPILES = "timeraw_first_step_compiled"  # tens of seconds; test_jit compiles in fresh processes


def _owners():
    """Each class of benchmarks, and each module for its functions."""
    for module in MODULES:
        yield module
        for _, owner in inspect.getmembers(module, inspect.isclass):
            if owner.__module__ == module.__name__:
                yield owner


def _benchmarks():
    for owner in _owners():
        for name, member in vars(owner).items():
            if name.startswith(KINDS) and callable(member) and name != COMPILES:
                yield pytest.param(owner, name, id=f"{owner.__name__}.{name}")


def _first_parameters(owner):
    params = getattr(owner, "params", ())
    if params and not isinstance(params[0], (list, tuple)):
        params = (params,)
    return next(itertools.product(*params))


@pytest.mark.parametrize(("owner", "name"), list(_benchmarks()))
def test_benchmark_runs(owner, name):
    """Set up, run and tear down once."""
    instance = owner() if inspect.isclass(owner) else owner
    parameters = _first_parameters(owner)
    getattr(instance, "setup", lambda *_: None)(*parameters)
    try:
        result = getattr(instance, name)(*parameters)
    finally:
        getattr(instance, "teardown", lambda *_: None)(*parameters)
    if name.startswith("track_"):
        assert np.isfinite(result)
        assert result > 0
    if name.startswith("timeraw_"):
        subprocess.run([sys.executable, "-c", result], check=True, timeout=300)


def test_every_operation_has_a_benchmark():
    """An operation added to the backend needs a row."""
    methods = {n for n in vars(NumbaBackend) if not n.startswith("_")} - {"name", "engine"}
    assert methods | set(reference.ELEMENTWISE) == set(kernels.CALLS)


def test_every_network_method_has_a_benchmark():
    """A method added to Network needs a row; `fit` and its face `SGD` are in training.py."""
    methods = {n for n, f in vars(fastbp.Network).items() if callable(f) and n[0] != "_"}
    elsewhere = {"fit", "SGD", "backprop", "to_vector", "from_vector", "save"}
    assert methods == set(network.CALLS) | elsewhere
