"""kernels/machine.py: which CPU has which constants."""

import json
import os
import subprocess
import sys

import pytest

from fastbp.kernels import machine
from fastbp.kernels.cpu import Cpu

WIDE, LAPTOP, ARM = (64, 32), (32, 16), (16, 32)


def cpu(name, shape, l1=32, l2=1024):
    return Cpu(name, *shape, l1 * 2**10, l2 * 2**10)


@pytest.fixture(autouse=True)
def not_forced(monkeypatch):
    for name in ("FASTBP_CPU_KIND", "FASTBP_CONSTANTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("kind", "name", "shape"),
    [
        ("zen4", "znver4", WIDE),
        ("zen5", "znver5", WIDE),
        ("intel", "emeraldrapids", WIDE),
        ("intel", "sapphirerapids", WIDE),
        ("intel", "icelake-server", WIDE),
        ("intel", "skylake-avx512", WIDE),
        ("avx2", "znver4", LAPTOP),  # held to it
        ("avx2", "alderlake", LAPTOP),
        ("avx2", "x86-64-v3", LAPTOP),
        ("neon", "apple-m1", ARM),
        ("neon", "generic", ARM),
        ("neutral", "znver6", WIDE),  # nobody has seen it
        ("neutral", "x86-64-v4", WIDE),
        ("neutral", "haswell", WIDE),  # wider vectors forced on it than it has
        ("neutral", "generic", (16, 16)),
    ],
)
def test_a_cpu_has_the_constants_of_its_kind(kind, name, shape):
    assert machine.kind_of(cpu(name, shape)) == kind
    assert machine.kind_of(cpu(name, shape, 128, 16384)) == kind, "its caches do not matter"


def test_a_kind_can_be_forced(monkeypatch):
    monkeypatch.setenv("FASTBP_CPU_KIND", "neon")
    assert machine.kind_of(cpu("znver4", WIDE)) == "neon"
    monkeypatch.setenv("FASTBP_CPU_KIND", "486")
    with pytest.raises(ValueError, match=r"FASTBP_CPU_KIND must be one of neutral, .*; got '486'"):
        machine.kind_of(cpu("znver4", WIDE))


def test_this_machine_has_its_row():
    assert machine.KIND == machine.kind_of(machine.CPU)
    for name, value in machine.KINDS[machine.KIND].items():
        assert machine.ROW[name] == getattr(machine, name) == value


def test_constants_can_be_forced():
    assert machine.changes("") == {}
    words = "TILE_ROWS=6 DENSE_COSTS=((1,0.5),(8,0.25))"
    assert machine.changes(words) == {"TILE_ROWS": 6, "DENSE_COSTS": ((1, 0.5), (8, 0.25))}
    found = constants_on("avx2", FASTBP_CONSTANTS="BLOCK_BYTES=12345")
    assert (found["KIND"], found["BLOCK_BYTES"]) == ("avx2", 12345)


@pytest.mark.parametrize("words", ["TILE_ROW=6", "changes=1", "os=2"])
def test_what_is_no_constant_is_refused(words):
    with pytest.raises(ValueError, match=r"FASTBP_CONSTANTS takes constants of .*; got '"):
        machine.changes(words)


def constants_on(kind, **environment):
    """The constants of a process on another kind of CPU."""
    program = "import json; from fastbp.kernels import machine; print(json.dumps(machine.ROW))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"FASTBP_CPU_KIND": kind, **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.skipif(
    "FASTBP_VECTOR_BYTES" in os.environ, reason="rows are for the vectors that their CPUs have"
)
def test_rows_change_constants_that_exist_and_are_different():
    """What the neutral row says is not said again, unless it follows the sizes of caches there."""
    neutral = constants_on("neutral")
    of_caches = {"BLOCK_BYTES", "LARGE_BYTES", "SCRATCH_BYTES", "STEP_BYTES"}
    for kind, row in machine.KINDS.items():
        assert set(row) <= set(neutral), kind
        assert constants_on(kind)["KIND"] == kind
        for name in set(row) - of_caches:
            assert json.loads(json.dumps(row[name])) != neutral[name], (kind, name)
