"""This commit's kernels beside those of another commit, in turns on one core.

Ratios to the NumPy reference shift by a third when other programs take caches and memory away: they
slow two different programs differently. Two versions of one kernel suffer alike.

`scripts/bench compare` puts the sources of its base where $FASTBP_BENCH_BASE says; without that
there is nothing to stand beside.
"""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from .subjects import SUBJECTS

BASE = "FASTBP_BENCH_BASE"
BENCHMARKS = str(Path(__file__).resolve().parents[1])
LAYOUTS, ROUNDS = 3, 12  # sets of arrays, and ratios taken with each


class Side:
    """A process that calls the kernels of the package in a folder, or of that which runs here.

    It binds itself to one core, the same for both sides; this process, which waits, stays free.
    """

    def __init__(self, *folders):
        path = [*folders, BENCHMARKS, os.environ.get("PYTHONPATH")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.turns"],
            cwd=BENCHMARKS,  # which goes before all others, and holds no package of that name
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.communicate("\n")

    def ask(self, word):
        """Return the number that a word is answered with."""
        print(word, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a process ended over {word!r}; its message is above")
        return float(answer)


def beside(base, here, name):
    """Return what a subject takes here, as multiples of what it takes there."""
    found = []
    for _ in range(LAYOUTS):
        n = int(min(side.ask(name) for side in (base, here)))
        if not n:
            return []
        before = base.ask(n)
        for _ in range(ROUNDS):
            seconds = here.ask(n)
            after = base.ask(n)
            found.append(2 * seconds / (before + after))
            before = after
    return found


def measured(folder, names):
    """Return the ratios of subjects to those of the package in a folder."""
    with ExitStack() as stack:
        base, here = (stack.enter_context(side) for side in (Side(folder), Side()))
        found = {name: beside(base, here, name) for name in names}
    return {name: ratios for name, ratios in found.items() if ratios}


class Base:
    """A kernel beside that of the commit compared with."""

    params = (list(SUBJECTS),)
    param_names = ("kernel",)

    def setup_cache(self):
        folder = os.environ.get(BASE)
        return measured(folder, self.params[0]) if folder else {}

    setup_cache.timeout = 900

    def setup(self, found, kernel):
        if kernel not in found:
            raise NotImplementedError(f"takes {BASE}, as scripts/bench compare sets it")

    def track_base(self, found, kernel):
        return {"samples": found[kernel], "number": 1}

    track_base.pretty_name = "Kernel: time as a multiple of the base commit's"
    track_base.unit = "x the base's time (less is better)"
