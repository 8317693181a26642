"""kernels/cpu.py: vectors, registers and caches of the CPU that Numba compiles for."""

import ctypes
import sys
from types import SimpleNamespace

import llvmlite.binding as llvm
import pytest

from fastbp.kernels import cpu


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    """What is asked once in a process."""
    monkeypatch.setattr(cpu, "native_bytes", cpu.native_bytes.__wrapped__)


# -- vector width ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", ["16", "32", "64"])
def test_the_vector_width_can_be_forced(width, monkeypatch):
    monkeypatch.setenv("FASTBP_VECTOR_BYTES", width)
    assert cpu.vector_bytes.__wrapped__() == int(width)


@pytest.mark.parametrize("width", ["8", "0", "128", "wide", "32.0", "-16", " "])
def test_another_width_is_refused(width, monkeypatch):
    monkeypatch.setenv("FASTBP_VECTOR_BYTES", width)
    with pytest.raises(ValueError, match=r"FASTBP_VECTOR_BYTES .*16, 32 or 64"):
        cpu.vector_bytes.__wrapped__()


X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"


@pytest.fixture
def numba_compiles_for(monkeypatch):
    """numba_compiles_for(triple, name, features): as Numba's code generator says it."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    monkeypatch.delenv("FASTBP_VECTOR_BYTES", raising=False)

    def compiles_for(*what):
        generator = SimpleNamespace(magic_tuple=lambda: what)
        context = SimpleNamespace(codegen=lambda: generator)
        monkeypatch.setattr(cpu, "cpu_target", SimpleNamespace(target_context=context))

    return compiles_for


@pytest.mark.parametrize(
    ("triple", "name", "features", "width"),
    [
        (X86, "znver4", "", 64),
        (X86, "haswell", "", 32),
        (X86, "haswell", "+avx512f", 64),
        (X86, "znver4", "-avx512f", 32),
        (X86, "znver4", "-avx", 16),
        (X86, "generic", "", 16),
        (X86, "generic", "+fma", 32),  # no FMA without AVX
        (ARM, "neoverse-v1", "", 16),
    ],
)
def test_the_vector_width_is_that_of_what_numba_compiles_for(
    triple, name, features, width, numba_compiles_for, monkeypatch
):
    numba_compiles_for(triple, name, features)
    monkeypatch.setattr(cpu.config, "CPU_FEATURES", features)
    assert cpu.vector_bytes.__wrapped__() == width


def test_with_avx_turned_off_vectors_are_those_of_sse(numba_compiles_for, monkeypatch):
    """Numba leaves FMA on, which LLVM takes for AVX2."""
    numba_compiles_for(X86, "znver4", "-avx,-avx2,-avx512f,+fma")
    monkeypatch.setattr(cpu.config, "CPU_FEATURES", None)
    monkeypatch.setattr(cpu.config, "ENABLE_AVX", 0)
    assert cpu.vector_bytes.__wrapped__() == 16


def test_the_host_has_vectors(monkeypatch):
    monkeypatch.delenv("FASTBP_VECTOR_BYTES", raising=False)
    monkeypatch.setattr(cpu.config, "CPU_FEATURES", None)
    assert cpu.vector_bytes.__wrapped__() in (16, 32, 64)


# -- registers and caches --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("triple", "name", "features", "forced", "registers"),
    [
        (X86, "znver4", "", "", 32),
        (X86, "znver4", "", "32", 16),  # stands for a CPU that has no wider ones
        (X86, "haswell", "", "", 16),
        (X86, "generic", "", "", 16),
        (ARM, "neoverse-v1", "", "", 32),
        ("arm64-apple-darwin23", "apple-m1", "", "", 32),
    ],
)
def test_registers(triple, name, features, forced, registers, numba_compiles_for, monkeypatch):
    numba_compiles_for(triple, name, features)
    monkeypatch.setenv("FASTBP_VECTOR_BYTES", forced)
    monkeypatch.setattr(cpu.config, "CPU_FEATURES", features)
    monkeypatch.setattr(cpu, "vector_bytes", cpu.vector_bytes.__wrapped__)
    found = cpu.this_cpu.__wrapped__()
    assert (found.name, found.registers) == (name, registers)


def cache_of(root, index, *facts):
    folder = root / cpu.CACHES / f"index{index}"
    folder.mkdir(parents=True)
    for name, fact in zip(("level", "type", "size"), facts, strict=False):
        (folder / name).write_text(f"{fact}\n")


@pytest.fixture
def linux(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")


def test_caches_are_those_that_linux_names(tmp_path, linux):
    cache_of(tmp_path, 0, 1, "Instruction", "64K")
    cache_of(tmp_path, 1, 1, "Data", "48K")
    cache_of(tmp_path, 2, 2, "Unified", "2M")
    cache_of(tmp_path, 3, 3, "Unified", "260M")
    assert cpu.cache_bytes(1, tmp_path) == 48 * 2**10
    assert cpu.cache_bytes(2, tmp_path) == 2 * 2**20


@pytest.mark.parametrize("size", ["", "many", "4G", "K"])
def test_where_the_system_does_not_say_caches_are_the_usual(size, tmp_path, linux):
    assert cpu.cache_bytes(1, tmp_path) == 32 * 2**10, "no such folder"
    cache_of(tmp_path, 0, 1, "Data")  # no size
    cache_of(tmp_path, 1, 1, "Data", size)
    assert cpu.cache_bytes(1, tmp_path) == 32 * 2**10
    assert cpu.cache_bytes(2, tmp_path) == 2**19


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"hw.perflevel0.l1dcachesize": 131072, "hw.l1dcachesize": 65536}, 131072),  # Apple's
        ({"hw.l1dcachesize": 32768}, 32768),  # a Mac with Intel's
        ({}, 32768),
    ],
)
def test_caches_are_those_that_macos_names(known, expected, monkeypatch):
    def sysctlbyname(name, value, size, *_):
        found = known.get(name.decode())
        if found is None:
            return -1
        value._obj.value = found
        return 0

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(sysctlbyname=sysctlbyname))
    assert cpu.cache_bytes(1) == expected
