"""How a run behaves: what it leaves out by default, and what a test may not leave behind."""

import os
import threading

import pytest

from quiet import Others

# Marker: what to run instead.
LEFT_OUT = {"long": "scripts/test -m long", "timing": "scripts/test -m timing"}
left_out: dict[str, int] = {}
# Files that take long, by measurement: begun early, they let both workers end at the same time. The
# first ones load all of MNIST, while the workers are small.
FIRST = (
    "classic_four_layer", "classic_unequal_layers", "mnist", "estimator", "optimizers", "sgd",
    "simd", "promises", "backend", "cli", "jit", "distributed", "verify", "benchmarks", "package",
    "plots", "fences", "report", "conduct", "scripts", "resuming", "inputs",
    "classic_two_layer_graph",
)  # fmt: skip


def _is_left_out(marker, config):
    """Whether tests of a marker stay out: unless asked for, or where they could not be true.

    What asserts a time does so alone: never beside other workers.
    """
    if marker == "timing" and hasattr(config, "workerinput"):
        return True
    return marker == "long" and "long" not in config.option.markexpr


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Leave out what is not asked for, or could not be true here; workers begin with `FIRST`."""
    for marker in (marker for marker in LEFT_OUT if _is_left_out(marker, config)):
        out = [item for item in items if item.get_closest_marker(marker)]
        if out:
            left_out[marker] = len(out)
            items[:] = [item for item in items if not item.get_closest_marker(marker)]
            config.hook.pytest_deselected(items=out)
    if hasattr(config, "workerinput"):
        places = {f"test_{name}.py": place for place, name in enumerate(FIRST)}
        items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Take over what a worker has left out; each worker collects all tests."""
    left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_sessionfinish(session):
    """Tell the process that started this worker."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = left_out


def pytest_terminal_summary(terminalreporter):
    """Name in one line what was left out."""
    if left_out:
        parts = (f"{n} marked {marker} ({LEFT_OUT[marker]})" for marker, n in left_out.items())
        terminalreporter.write_line(f"left out: {', '.join(parts)}")


# -- the process is left as it was found -----------------------------------------------------------


# pytest says which test runs; scikit-learn and joblib speak to OpenMP when they are imported.
NOT_OF_TESTS = ("PYTEST_", "KMP_")


def _process():
    """What tests have in common: whoever changes it changes the tests that follow."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(NOT_OF_TESTS)}
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return {"cores": cores, "environment": environment, "working directory": os.getcwd()}


def _threads():
    """The threads that tests started; those that are kept for later calls may stay."""
    return {t for t in threading.enumerate() if not t.name.startswith(("fastbp", "tqdm"))}


@pytest.fixture(autouse=True)
def process_as_found():
    """A test leaves cores, environment, working directory and threads as it found them."""
    before, threads = _process(), _threads()
    yield
    after = _process()
    for thread in _threads() - threads:
        thread.join(timeout=5)  # it may be about to end
        assert not thread.is_alive(), f"the test leaves a thread behind: {thread.name}"
    for name, value in before.items():
        assert after[name] == value, f"the test leaves another {name} than it found"


@pytest.fixture
def others():
    """What other programs do meanwhile: a time is not asserted where they hold the cores."""
    return Others()
