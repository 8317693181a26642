"""Instructions of fixed work, counted by valgrind: the same on a busy machine as on an idle one.

valgrind 3.19 knows no AVX-512, so kernels are compiled for a lesser CPU, in a cache of their own.
That CPU has no FMA either: valgrind calls a function for each, and one step of the widest network
took 94 s instead of 0.8.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import llvmlite.binding as llvm

from fastbp import kernels

from .subjects import SUBJECTS

LESSER = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+cx8,+f16c,-fma,+fxsr,+lzcnt,"
    "+mmx,+movbe,+popcnt,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave",
}
BENCHMARKS = Path(__file__).resolve().parents[1]
X86 = ("x86_64", "amd64")
NAMED = re.compile(r"^desc: Trigger: Client Request: (.+)$", re.MULTILINE)
TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def environment():
    """Return that of a process which counts."""
    folder = kernels.cache_dir()  # where this machine keeps kernels, unless that is nowhere
    root = folder.parent if folder else Path(tempfile.gettempdir(), "fastbp")
    return {
        **os.environ,
        **LESSER,
        "NUMBA_CACHE_DIR": str(root / "counted"),
        "PYTHONHASHSEED": "0",
    }


def program(how, names):
    """Return the command that counts, or that compiles what will be counted."""
    return [sys.executable, "-m", "benchmarks.counting", how, *names]


def parsed(folder):
    """Return the counts that callgrind wrote to the files of a folder, by subject."""
    counts = {}
    for path in Path(folder).glob("callgrind.out.*"):
        text = path.read_text()
        if named := NAMED.search(text):
            counts[named[1]] = int(TOTAL.search(text)[1])
    return counts


def able():
    """Return whether instructions can be counted here."""
    x86 = platform.machine().lower() in X86 and llvm.get_host_cpu_features().get("avx2")
    return bool(x86 and shutil.which("valgrind"))


def count(names):
    """Return the instructions of subjects, or nothing where they cannot be counted."""
    if not able():
        return {}
    run = {"check": True, "env": environment(), "cwd": BENCHMARKS, "stdout": subprocess.DEVNULL}
    subprocess.run(program("load", names), **run)  # under valgrind compiling would take minutes
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={folder}/callgrind.out"
        command = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", out]
        subprocess.run([*command, *program("count", names)], **run)
        return parsed(folder)


class Instructions:
    """Instructions of one call of a kernel, compiled for AVX2 without FMA."""

    params = (list(SUBJECTS),)
    param_names = ("kernel",)

    def setup_cache(self):
        return count(self.params[0])

    setup_cache.timeout = 900

    def setup(self, counts, kernel):
        if kernel not in counts:
            raise NotImplementedError(
                "counting takes the kernel, AVX2, and valgrind (apt install valgrind)"
            )

    def track_instructions(self, counts, kernel):
        return counts[kernel]

    track_instructions.pretty_name = "Kernel: instructions of one call, for AVX2 without FMA"
    track_instructions.unit = "instructions (less is better)"
