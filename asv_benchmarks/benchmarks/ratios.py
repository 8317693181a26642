"""Ratios taken inside one process, in turns: they stay the same on a busy or slower machine.

Less is better. Each benchmark hands asv all its ratios; asv keeps their median and its interval.
"""

import gc
import time
from contextlib import contextmanager
from itertools import repeat

from .common import DTYPES
from .peak import spinning
from .subjects import AT_PEAK, SUBJECTS

# Time that this thread spent computing: what others do on the core meanwhile does not count.
FINE = time.get_clock_info("thread_time").resolution < 1e-6
clock = time.thread_time if FINE else time.perf_counter
SLICE = 1e-3  # seconds at least that each side computes at a stretch
LAYOUTS = 2  # sets of arrays: where they happen to lie in memory makes kernels faster or slower
SECONDS, FEWEST, MOST = 0.1, 5, 25  # of a layout; rounds of it
SPIN_ROUNDS = 5_000


def seconds_of(call, n):
    """Return what a call takes, as a mean over n."""
    started = clock()
    for _ in repeat(None, n):
        call()
    return (clock() - started) / n


def calls_in(call):
    """Return how many calls fill a slice."""
    quickest = min(seconds_of(call, 1) for _ in range(3))
    return max(1, round(SLICE / max(quickest, 1e-7)))


def ratios(call, other):
    """Return what `call` takes as a multiple of what `other` took just before and just after."""
    n, m = calls_in(call), calls_in(other)
    found, end = [], time.perf_counter() + SECONDS
    before = seconds_of(other, m)
    while len(found) < FEWEST or (len(found) < MOST and time.perf_counter() < end):
        here = seconds_of(call, n)
        after = seconds_of(other, m)
        found.append(2 * here / (before + after))
        before = after
    return found


@contextmanager
def no_garbage_collection():
    """Collect no garbage meanwhile: it would be counted as work of the call that it interrupts."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def samples(pairs):
    """Return the ratios of all pairs of calls, in the form that asv makes statistics of."""
    with no_garbage_collection():
        return {"samples": [ratio for pair in pairs for ratio in ratios(*pair)], "number": 1}


class Reference:
    """A kernel beside the NumPy reference."""

    params = (list(SUBJECTS), DTYPES)
    param_names = ("kernel", "dtype")
    timeout = 300

    def track_reference(self, kernel, dtype):
        made = [SUBJECTS[kernel](dtype) for _ in range(LAYOUTS)]
        return samples((s.kernel, s.reference) for s in made)

    track_reference.pretty_name = "Kernel: time as a multiple of the NumPy reference's"
    track_reference.unit = "x the reference's time (less is better)"


class Peak:
    """A kernel beside a loop of nothing but FMAs."""

    params = (AT_PEAK, DTYPES)
    param_names = ("kernel", "dtype")
    timeout = 300

    def track_peak(self, kernel, dtype):
        made = [SUBJECTS[kernel](dtype) for _ in range(LAYOUTS)]
        spin, operations = spinning(dtype, SPIN_ROUNDS)
        found = samples((s.kernel, spin) for s in made)
        scale = operations / made[0].operations
        return {**found, "samples": [ratio * scale for ratio in found["samples"]]}

    track_peak.pretty_name = "Kernel: time as a multiple of that at the FMA peak"
    track_peak.unit = "x the time at the FMA peak (less is better)"
