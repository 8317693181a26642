"""What two commits' results say: which kernels got slower or faster, and how sure that is.

Instruction counts come first: they have no noise. Then ratios to the base itself, taken in turns,
which a busy machine shifts by a few percent, and rarely the same way twice: what counts do not
explain must be seen each time of three. Ratios to the NumPy reference and to the FMA peak, which it
shifts more, are printed for what has changed, and judged where the base cannot run beside the head.
Plain times are printed, and decide nothing.
"""

import ast
import math
import re
from itertools import product
from pathlib import Path
from typing import NamedTuple

from asv.results import Results
from asv.util import human_time
from reports import table

COUNTED, BESIDE, REFERENCE, PEAK, TIMES = "instructions", "beside", "reference", "peak", "times"
KINDS = {
    "counts.Instructions.track_instructions": COUNTED,
    "beside.Base.track_base": BESIDE,
    "ratios.Reference.track_reference": REFERENCE,
    "ratios.Peak.track_peak": PEAK,
    "training.Epoch.time_epoch": TIMES,
}
RATIOS = (REFERENCE, PEAK)
JUDGED = (COUNTED, BESIDE, *RATIOS)
MORE_INSTRUCTIONS = 1.03  # the same code gives the same count, so this is a matter of taste
MORE_TIME = 1.15  # the same code was seen to differ by 11 %, by where its data happened to lie
BAD = ("slower", "failed")


class Value(NamedTuple):
    """A median and the interval that holds it with 99 %; NaN where a benchmark failed."""

    median: float
    low: float
    high: float


class Finding(NamedTuple):
    """What became of a kernel."""

    subject: str
    verdict: str  # "slower", "faster", "same", "failed"
    confidence: str


# -- reading ---------------------------------------------------------------------------------------


def read(folder, commit):
    """Return asv's results of a commit: {kind: {subject: Value}}."""
    found = {kind: {} for kind in KINDS.values()}
    for path in Path(folder).glob(f"*/{commit[:8]}*.json"):
        results = Results.load(str(path))
        for name in set(results.get_all_result_keys()) & set(KINDS):
            found[KINDS[name]] |= values(results, name)
    return found


def values(results, name):
    """Return the values of a benchmark by its first parameter; without those left out."""
    params = results.get_result_params(name)
    columns = (results.get_result_value(name, params), results.get_result_stats(name, params))
    found = {}
    for words, median, stats in zip(product(*params), *columns, strict=True):
        if median is None:
            found[ast.literal_eval(words[0])] = Value(math.nan, math.nan, math.nan)
        elif not math.isnan(median):
            bounds = (stats or {}).get("ci_99_a"), (stats or {}).get("ci_99_b")
            low, high = (median if bound is None else bound for bound in bounds)
            found[ast.literal_eval(words[0])] = Value(median, low, high)
    return found


# -- judging ---------------------------------------------------------------------------------------


def fine(side, kind, subject):
    """Return whether a benchmark gave a value."""
    return subject in side[kind] and not math.isnan(side[kind][subject].median)


def change(pair, kind, subject):
    """Return head / base with its interval; None where one of them has no value."""
    if not all(fine(side, kind, subject) for side in pair):
        return None
    base, head = (side[kind][subject] for side in pair)
    return Value(head.median / base.median, head.low / base.high, head.high / base.low)


def direction(ratio, least):
    """Return 1 for more by this factor, -1 for less, 0 for neither."""
    return (ratio >= least) - (ratio <= 1 / least)


def counted(runs, subject):
    """Return what the counts say: 1 more, -1 less, 0 the same, None without."""
    found = change(runs[0], COUNTED, subject)
    return None if found is None else direction(found.median, MORE_INSTRUCTIONS)


def times(runs, subject):
    """Return the changes of the ratios that are judged, a list for each run that has some."""
    kinds = (BESIDE,) if change(runs[0], BESIDE, subject) else RATIOS
    found = [[change(pair, kind, subject) for kind in kinds] for pair in runs]
    return [some for each in found if (some := list(filter(None, each)))]


def timed(runs, subject):
    """Return what the ratios say: 1 slower or -1 faster, if all runs say so; else 0."""
    found = [one for each in times(runs, subject) for one in each]
    said = {direction(one.median, MORE_TIME) for one in found}
    return said.pop() if len(said) == 1 else 0


def subjects(runs):
    """Return the names of all kernels that were measured on the head, or on both."""
    base, head = runs[0]
    return list(dict.fromkeys(name for kind in JUDGED for name in (*head[kind], *base[kind])))


def doubtful(runs, subject):
    """Return whether the time has changed, each time so far, without counts to explain it."""
    return bool(timed(runs, subject)) and timed(runs, subject) != counted(runs, subject)


def open_questions(runs):
    """Return the kernels to measure again: first all that changed, or had no base beside them."""

    def asked(subject):
        if len(runs) > 1:
            return doubtful(runs, subject)
        beside = change(runs[0], BESIDE, subject)
        return not beside or finding(runs, subject).verdict != "same"

    return [subject for subject in subjects(runs) if asked(subject)]


def patterns(names):
    """Return what chooses the ratios of these kernels."""
    return [rf"^(beside|ratios)\..*\('{re.escape(name)}'(, 'float32')?\)" for name in names]


def failed(runs, subject):
    """Return whether the head has no value where the base has one, or none at all."""
    base, head = runs[0]
    here = {kind for kind in JUDGED if fine(head, kind, subject)}
    there = {kind for kind in JUDGED if fine(base, kind, subject)}
    return not here or bool(there - here)


# What counts and times say, together: verdict and confidence.
WORDS = {1: "slower", -1: "faster", 0: "same"}


def finding(runs, subject):
    """Return the verdict on a kernel."""
    if failed(runs, subject):
        return Finding(subject, "failed", "no result; the log says why")
    by_count, by_time = counted(runs, subject), timed(runs, subject)
    if by_time and by_time == by_count:
        return Finding(subject, WORDS[by_time], "certain: counted and timed")
    if by_time:  # still, after all runs
        n = len(times(runs, subject))
        return Finding(subject, WORDS[by_time], f"high: timed, {n} of {n} runs")
    if by_count:
        return Finding(subject, WORDS[by_count], "certain: counted; in time below the noise")
    return Finding(subject, "same", "")


def judge(runs):
    """Return a finding for each kernel, the worst first."""
    order = ("failed", "slower", "faster", "same")
    found = [finding(runs, subject) for subject in subjects(runs)]
    return sorted(found, key=lambda one: order.index(one.verdict))


# -- telling ---------------------------------------------------------------------------------------

HEADER = (
    "", "kernel", "instructions", "time", "time, to NumPy's", "time, to FMA peak", "confidence",
)  # fmt: skip


def percent(found, digits=0, interval=True):
    """Return a change in words."""
    if found is None:
        return "-"
    middle, low, high = (100 * (x - 1) for x in found)
    around = f" ({low:+.0f} to {high:+.0f})" if interval else ""
    return f"{middle:+.{digits}f} %{around}"


def row(one, runs):
    """Return a line of the table: the count, and the times of the last run that has them."""

    def last(kind):
        found = [change(pair, kind, one.subject) for pair in runs]
        return next((each for each in reversed(found) if each), None)

    return (
        one.verdict, one.subject, percent(last(COUNTED), 1, interval=False),
        *(percent(last(kind)) for kind in (BESIDE, REFERENCE, PEAK)), one.confidence,
    )  # fmt: skip


def hints(pair):
    """Return the plain times in words."""
    base, head = (side[TIMES] for side in pair)
    return [
        f"{name} {human_time(base[name].median)} to {human_time(head[name].median)}"
        for name in head
        if name in base
    ]


def text(findings, runs, base, head):
    """Return all that is to be said."""
    changed = [one for one in findings if one.verdict != "same"]
    same = len(findings) - len(changed)
    lines = [f"Base: {base}", f"Head: {head}", ""]
    if changed:
        lines += [*table([HEADER, *(row(one, runs) for one in changed)]), ""]
    lines.append(f"{same} of {len(findings)} kernels are as fast as before.")
    if all(counted(runs, one.subject) is None for one in findings):
        lines.append("Instructions were not counted, which takes valgrind on an x86-64 machine.")
    if words := hints(runs[0]):
        lines += ["", f"Plain times of an epoch, which decide nothing: {'; '.join(words)}."]
    return "\n".join(lines)
