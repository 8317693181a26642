"""Ten kernels of the working tree beside the NumPy reference, in this process: a table, a verdict.

The ratios are those of the asv benchmarks, taken without asv, so that nothing has to be committed.
"""

import sys
from pathlib import Path
from statistics import median
from typing import NamedTuple

from reports import say, table

ROOT = Path(__file__).resolve().parents[2]
# One of each way to walk a network, and the two operations of a layer that cost most.
KERNELS = (
    "affine",
    "backprop_delta",
    "feedforward online 1",
    "gradient twolayer 1000",
    "sgd_epoch online sparse",
    "sgd_epoch nielsen sparse",
    "sgd_epoch nielsen dense",
    "sgd_epoch wide dense",
    "optimizer_epoch nielsen sparse",
    "narrow_epoch surrogate narrow",
)
HEADER = ("kernel", "us a call", "times faster than NumPy", "% of the FMA peak")


class Figures(NamedTuple):
    """What was measured of a kernel."""

    kernel: str
    seconds: float  # of a call
    times_faster: float  # than the reference
    of_peak: float | None  # share of the FMA peak, where matrix products make nearly all


def quick(options):
    """Measure, print the table and the verdict; return 1 if a kernel is slower than NumPy."""
    say(f"measuring {len(KERNELS)} kernels; those not in the cache are compiled first")
    sys.path[:0] = [str(ROOT), str(ROOT / "asv_benchmarks")]  # the working tree before all others
    found = [measured(name) for name in KERNELS]
    print(text(found))
    return int(bool(slower(found)))


def measured(name):
    """Return the figures of a kernel."""
    from benchmarks.ratios import Peak, Reference, calls_in, seconds_of
    from benchmarks.subjects import AT_PEAK, COMPARED, SUBJECTS

    kernel = SUBJECTS[name](COMPARED).kernel
    n = calls_in(kernel)
    seconds = median(seconds_of(kernel, n) for _ in range(5))
    of_reference = median(Reference().track_reference(name, COMPARED)["samples"])
    of_peak = 1 / median(Peak().track_peak(name, COMPARED)["samples"]) if name in AT_PEAK else None
    return Figures(name, seconds, 1 / of_reference, of_peak)


def slower(found):
    """Return the names of those that are slower than the reference."""
    return [one.kernel for one in found if one.times_faster < 1]


def row(one):
    """Return a line of the table; without matrix products, the last cell is blank."""
    of_peak = "" if one.of_peak is None else f"{100 * one.of_peak:.0f}"
    numbers = f"{1e6 * one.seconds:.1f}", f"{one.times_faster:.1f}", of_peak
    return one.kernel, *map(str.rjust, numbers, map(len, HEADER[1:]))


def text(found):
    """Return the table and the verdict."""
    names = slower(found)
    verdict = (
        f"slower than the NumPy reference: {', '.join(names)}"
        if names
        else f"ok: all {len(found)} kernels are faster than the NumPy reference"
    )
    return "\n".join([*table([HEADER, *map(row, found)]), "", verdict])
