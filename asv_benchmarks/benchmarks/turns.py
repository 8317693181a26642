"""One side of a comparison; a program that `beside.py` runs twice, as no benchmark.

    python -m benchmarks.turns

It computes only between a line on standard input and its answer. A subject's name has it made ready
and answers how many calls fill a slice, 0 if it cannot be made; a number has it called so often,
and answers the seconds that a call took. An empty line ends it.
"""

import gc
import os
import sys

from .ratios import calls_in, seconds_of
from .subjects import made_ready


def keep_to_one_core():
    """Bind this process to the last core that it may use: another core may be busier."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def serve(lines, answer):
    """Do what the lines ask for."""
    made = []  # those before keep their memory, so that each lies elsewhere
    for line in lines:
        word = line.strip()
        if not word:
            return
        if word.isdecimal():
            answer(seconds_of(made[-1].kernel, int(word)))
            continue
        made = [*made[-2:], made_ready(word)]
        answer(calls_in(made[-1].kernel) if made[-1] else 0)


if __name__ == "__main__":
    keep_to_one_core()
    gc.disable()
    serve(sys.stdin, lambda number: print(number, flush=True))
