"""The FMA peak, as a gauge of the race; the loop is that of the asv benchmarks."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import Done, Job

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "asv_benchmarks"))
from benchmarks.peak import spinning

ROUNDS = 2_000_000  # of the loop in one count: 0.02 s


def build(task, variant):
    """Items are operations: two an FMA and lane, on as many threads as there are cores."""
    spin, operations = spinning(task.work.dtype, ROUNDS)
    threads = ThreadPoolExecutor(task.threads)

    def run(n):
        list(threads.map(lambda _: [spin() for _ in range(n)], range(task.threads)))
        return Done(0.0)

    return Job(run, count=operations * task.threads)
