"""Every asv benchmark runs once, at its first parameters; every operation has one."""

import gc
import importlib
import inspect
import itertools
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import benchmarks
import numpy as np
import pytest
from benchmarks import (
    beside,
    common,
    counts,
    kernels,
    network,
    ratios,
    subjects,
    training,
    turns,
)

import fastbp
from fastbp import reference
from fastbp.engines.operations import Operations
from fastbp.kernels import KERNELS, machine

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {"counting", "turns"}  # which a benchmark starts
MODULES = [
    importlib.import_module(f"benchmarks.{module.name}")
    for module in pkgutil.iter_modules(benchmarks.__path__)
    if module.name not in PROGRAMS
]
KINDS = ("time_", "track_", "timeraw_", "peakmem_")
COMPILES = "timeraw_first_step_compiled"  # tens of seconds; test_jit compiles in fresh processes
SLOW = {"Base.track_base", "Instructions.track_instructions"}  # processes; valgrind


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
                where = f"{owner.__name__}.{name}"
                marks = [pytest.mark.slow] if where in SLOW else []
                yield pytest.param(owner, name, id=where, marks=marks)


def _parameters(owner):
    params = getattr(owner, "params", ())
    if params and not isinstance(params[0], (list, tuple)):
        params = (params,)
    return itertools.product(*params)


def _set_up(instance, owner, cache):
    """Set up with the first parameters that are applicable, as asv does; return them."""
    reason = None
    for parameters in _parameters(owner):
        try:
            getattr(instance, "setup", lambda *_: None)(*cache, *parameters)
        except NotImplementedError as error:
            reason = error
            continue
        return parameters
    return pytest.skip(f"not applicable on this machine: {reason}")


def _values(result):
    """What a track_ benchmark returns: a number, or samples, which asv makes statistics of."""
    return result["samples"] if isinstance(result, dict) else [result]


@pytest.fixture
def small(monkeypatch):
    """The benchmarks at a size that shows that they run; what they keep between calls is freed."""
    for owner in (counts.Instructions, beside.Base):
        monkeypatch.setattr(owner, "params", (["sigmoid"],))
    monkeypatch.setattr(training.Memory, "images", 600)
    for name, work in list(common.ALL.items()):
        monkeypatch.setitem(common.ALL, name, work._replace(samples=1_000))
    with mock.patch.dict(os.environ):  # importing scikit-learn adds to it
        yield
    for module in MODULES:
        for member in vars(module).values():
            getattr(member, "cache_clear", lambda: None)()


@pytest.mark.parametrize(("owner", "name"), list(_benchmarks()))
def test_benchmark_runs(owner, name, small, tmp_path, monkeypatch):
    """Set up, run and tear down once, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(beside.BASE, str(ROOT))
    instance = owner() if inspect.isclass(owner) else owner
    cache = [instance.setup_cache()] if hasattr(instance, "setup_cache") else []
    cache = [found for found in cache if found is not None]
    parameters = _set_up(instance, owner, cache)
    try:
        result = getattr(instance, name)(*cache, *parameters)
    finally:
        getattr(instance, "teardown", lambda *_: None)(*cache, *parameters)
    if name.startswith("track_"):
        assert np.isfinite(_values(result)).all()
        assert min(_values(result)) > 0
    if name.startswith("timeraw_"):
        subprocess.run([sys.executable, "-c", result], check=True, timeout=300)


def test_a_chart_of_each_benchmark_says_what_it_shows():
    for owner, name in (param.values for param in _benchmarks()):
        benchmark = getattr(owner, name)
        assert getattr(benchmark, "pretty_name", ""), name
        assert not name.startswith("track_") or "less" in benchmark.unit or "more" in benchmark.unit


def test_every_operation_has_a_benchmark():
    """An operation added to the backend needs a row."""
    methods = {n for n in vars(Operations) if not n.startswith("_")}
    assert methods | set(reference.ELEMENTWISE) == set(kernels.CALLS)


def test_every_kernel_is_counted_and_compared():
    """A kernel added needs a subject, whose name begins with the kernel's."""
    assert {name.split()[0] for name in subjects.SUBJECTS} == set(KERNELS)


def test_every_network_method_has_a_benchmark():
    """A method added to Network needs a row; `fit` and its face `SGD` are in training.py."""
    methods = {
        n for n in dir(fastbp.Network) if n[0] != "_" and callable(getattr(fastbp.Network, n))
    }
    elsewhere = {"fit", "SGD", "backprop", "summary", "to_vector", "from_vector", "save"}
    assert methods == set(network.CALLS) | elsewhere


# -- subjects and ratios ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(subjects.SUBJECTS))
def test_a_subject_calls_the_kernel_it_is_named_for(name, monkeypatch):
    """Both sides run, and the kernel's is a call of that kernel, again and again."""
    called = []
    kernel = fastbp.kernels.KERNELS[name.split()[0]]

    def spy(*arguments):
        called.append(name)
        return kernel(*arguments)

    monkeypatch.setattr(fastbp.kernels, name.split()[0], spy)
    subject = subjects.SUBJECTS[name]("float32")
    made = len(called)
    subject.kernel()
    subject.kernel()
    subject.reference()
    assert made == 1
    assert len(called) == 3
    assert subject.operations > 0 or name not in subjects.AT_PEAK


def test_the_index_is_made_anew_each_time(monkeypatch):
    """Else the second call would find nothing left to do."""
    kernel, found = fastbp.kernels.index_rows, []

    def spy(*arguments):
        before = int(arguments[3][0])
        kernel(*arguments)
        found.append((before, int(arguments[3][0])))

    subject = subjects.SUBJECTS["index_rows"]("float32")
    monkeypatch.setattr(fastbp.kernels, "index_rows", spy)
    subject.kernel()
    subject.kernel()
    assert found[0] == found[1]
    assert found[0][0] == 0 < found[0][1]


def test_garbage_is_collected_again_after_a_ratio():
    ratios.samples([(dict, dict)])
    assert gc.isenabled()


@pytest.mark.timing
def test_a_ratio_is_that_of_the_work():
    def work(n):
        return lambda: sum(range(n))

    found = ratios.samples([(work(60_000), work(20_000))])
    assert found["number"] == 1
    assert 2.4 < np.median(found["samples"]) < 3.6


def test_narrow_workloads_take_the_narrow_path():
    """Their subjects are named for it."""
    for name in common.NARROW:
        work = common.ALL[name]
        net = work.network("numba")
        X, _ = work.data(work.samples)
        assert net._engine.choose_path(X, work.batch_size) == "narrow"


# -- another commit's kernels ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timing
def test_the_kernel_of_another_folder_is_called(tmp_path):
    """Twice the work there is half the time here, and nothing changes for the others."""
    shutil.copytree(ROOT / "fastbp", tmp_path / "fastbp")
    with open(tmp_path / "fastbp" / "__init__.py", "a", encoding="utf-8") as file:
        file.write((ROOT / "tests" / "programs" / "sigmoid_twice.py").read_text(encoding="utf-8"))
    found = beside.measured(str(tmp_path), ["sigmoid", "affine"])
    assert 0.35 < np.median(found["sigmoid"]) < 0.65
    assert 0.85 < np.median(found["affine"]) < 1.15


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no process is bound to a core")
def test_both_sides_share_a_core_and_this_process_keeps_its_cores(monkeypatch):
    def cores_of(base, here, name):
        for side in (base, here):
            side.ask(name)  # it answers once it has begun
        return [os.sched_getaffinity(side.process.pid) for side in (base, here)]

    monkeypatch.setattr(beside, "beside", cores_of)
    before = os.sched_getaffinity(0)
    found = beside.measured(str(ROOT), ["sigmoid"])
    assert found["sigmoid"] == [{max(before)}] * 2
    assert os.sched_getaffinity(0) == before


@pytest.mark.slow
def test_a_side_that_ends_early_is_an_error():
    with beside.Side() as side, pytest.raises(RuntimeError, match="ended"):
        side.ask("")  # which is the word to end


class Answers:
    """A side without a process: how many calls fill a slice, and the seconds of one."""

    def __init__(self, calls, seconds):
        self.calls, self.seconds = calls, seconds

    def ask(self, word):
        return self.calls if isinstance(word, str) else self.seconds


def test_a_ratio_is_to_the_base():
    found = beside.beside(Answers(5, 2.0), Answers(3, 3.0), "sigmoid")
    assert found == [1.5] * beside.LAYOUTS * beside.ROUNDS


@pytest.mark.parametrize("calls", [(0, 3), (3, 0)])
def test_a_kernel_that_one_side_lacks_is_left_out(calls):
    assert beside.beside(*(Answers(n, 1.0) for n in calls), "sigmoid") == []


def test_a_side_answers_until_an_empty_line(capsys):
    """For a name the calls that fill a slice, 0 if it cannot be made; for a number the seconds."""
    answers = []
    turns.serve(["sigmoid\n", "3\n", "no_such_kernel\n", "\n", "sigmoid\n"], answers.append)
    calls, seconds, none = answers
    assert calls >= 1
    assert seconds > 0
    assert none == 0
    assert "no_such_kernel" in capsys.readouterr().err


def test_callgrind_s_files_are_read(tmp_path):
    """One file per request, named by it; the one at the end of the program has no name."""
    text = "version: 1\ndesc: Trigger: {}\nevents: Ir\nfn=(1)\n1 5\n\ntotals: {}\n"
    for number, (trigger, total) in enumerate(
        [("Client Request: sigmoid", 10), ("Client Request: sgd_epoch x", 20), ("Program end", 3)]
    ):
        path = tmp_path / f"callgrind.out.{number}"
        path.write_text(text.format(trigger, total))
    assert counts.parsed(tmp_path) == {"sigmoid": 10, "sgd_epoch x": 20}


PEAK = """
import re
from benchmarks import peak
peak.spinning("float32", 1)
code, = peak.spin.inspect_asm().values()
(loop,) = (block for block in re.split(r"\\n(?=\\.LBB)", code) if block.count("vfmadd") > 1)
print(len(re.findall(r"mm\\d+", loop)), len(re.findall(r"%[re]?[sb]p|\\(", loop)))
"""
HASWELL = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+bmi,+bmi2,+fma"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads x86's machine code")
@pytest.mark.parametrize("held", [{}, HASWELL], ids=["this CPU", "haswell"])
def test_the_peak_loop_stays_in_registers(held):
    """What is stored and loaded again takes time that the peak must not have."""
    if machine.CPU.vector_bytes < 32:
        pytest.skip("no FMA by these names")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "asv_benchmarks")])
    environment = {**os.environ, "PYTHONPATH": paths, **held}
    found = subprocess.run(
        [sys.executable, "-c", PEAK], env=environment, capture_output=True, text=True, check=True
    )
    registers, places = map(int, found.stdout.split())
    assert registers >= 24
    assert places == 0
