"""What the CPU says of itself: the one that Numba compiles for, which may be a lesser one.

Nothing here is measured, so that the same machine always gives the same answer.
"""

import ctypes
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm
from numba.core import config
from numba.core.registry import cpu_target

WIDTHS = {"zmm": 64, "ymm": 32}  # by x86's names of vector registers; other CPUs have 16 bytes
PROBE = """
target triple = "{}"
define void @probe(ptr %p) {{
  %x = load <16 x float>, ptr %p
  %y = fadd <16 x float> %x, %x
  store <16 x float> %y, ptr %p
  ret void
}}"""
CACHES = "sys/devices/system/cpu/cpu0/cache"  # always of the first core: hybrid CPUs have two kinds
# Where the system does not say: no CPU of the last ten years has a smaller first level, and laptops
# of the first half of them have half as much of the second.
USUAL_CACHES = {1: 32 * 2**10, 2: 2**19}
UNITS = {"K": 2**10, "M": 2**20}


class Cpu(NamedTuple):
    """What constants are chosen by."""

    name: str  # as LLVM calls it: znver4, emeraldrapids, haswell, apple-m1
    vector_bytes: int
    registers: int  # that hold a vector
    l1_bytes: int  # of data, of a core
    l2_bytes: int


@cache
def vector_bytes():
    """Return the bytes of the vectors that Numba compiles for; `FASTBP_VECTOR_BYTES` forces others.

    Wider ones than the CPU has are made of several of its own: right, and slow.
    """
    forced = os.environ.get("FASTBP_VECTOR_BYTES")
    if forced:
        if forced not in ("16", "32", "64"):
            raise ValueError(f"FASTBP_VECTOR_BYTES must be 16, 32 or 64; got {forced!r}")
        return int(forced)
    return native_bytes()


@cache
def native_bytes():
    """Return the bytes of the CPU's own vectors."""
    # With NUMBA_ENABLE_AVX=0 Numba leaves FMA on, with which LLVM takes AVX for allowed.
    if config.CPU_FEATURES is None and not config.ENABLE_AVX:
        return 16
    # Features imply others, and a name of a CPU stands for many: LLVM knows what it all comes to.
    triple, name, features = _target()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=name, features=features)
    code = machine.emit_assembly(llvm.parse_assembly(PROBE.format(triple)))
    return next((width for register, width in WIDTHS.items() if register in code), 16)


def _target():
    """Return triple, name and features of the CPU that Numba compiles for."""
    return cpu_target.target_context.codegen().magic_tuple()


@cache
def this_cpu() -> Cpu:
    """Return what is known of this CPU."""
    triple, name, _ = _target()
    width = vector_bytes()
    # A forced width stands for a CPU of that width: AVX-512 brought x86 from 16 registers to 32.
    many = width == 64 or triple.startswith(("aarch64", "arm64"))
    return Cpu(name, width, 32 if many else 16, cache_bytes(1), cache_bytes(2))


def cache_bytes(level, root="/"):
    """Return the bytes of a core's cache of data."""
    found = _by_sysctl(level) if sys.platform == "darwin" else _by_sysfs(level, Path(root))
    return found or USUAL_CACHES[level]


def _by_sysfs(level, root):
    """Return what Linux says, or None; a virtual machine may not know, or have no such folder."""
    for folder in sorted((root / CACHES).glob("index*")):
        with suppress(OSError, ValueError, KeyError):
            found, kind, size = ((folder / name).read_text().strip() for name in _FILES)
            if int(found) == level and kind in ("Data", "Unified"):
                return int(size[:-1]) * UNITS[size[-1]]
    return None


_FILES = "level", "type", "size"


def _by_sysctl(level):
    """Return what macOS says, of its fast cores first, or None."""
    read = ctypes.CDLL(None).sysctlbyname
    name = {1: "l1dcachesize", 2: "l2cachesize"}[level]
    for key in (f"hw.perflevel0.{name}", f"hw.{name}"):
        value, size = ctypes.c_int64(0), ctypes.c_size_t(8)
        if not read(key.encode(), ctypes.byref(value), ctypes.byref(size), None, 0):
            return value.value
    return None
