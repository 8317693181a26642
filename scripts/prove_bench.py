"""Prove that `scripts/bench compare` finds what got slower or faster, and nothing else.

    python scripts/prove_bench.py

In a copy of the committed project, some forty minutes on two cores: an empty commit beside its
parent, ten times, is no change; a kernel that makes wasted passes over its data until it is 1.3
times slower is reported by its name, for three kernels; and a kernel made 2 times faster, by taking
such passes away, is reported as faster. Exit code 1 if any row of the table is not as expected.
"""

import ast
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KERNELS = "fastbp/kernels"
EMPTY_COMMITS = 10
TRIAL = 8  # passes tried to see what one costs
TAKES, AGAIN = 0.05, 3  # how near to the factor wanted, in so many attempts
PASS = """\
@inner
def _wasted_pass(p, n):
    zero = p[0] - p[0]
    for i in range(n):
        p[i] += zero * p[i]


"""
MEASURE = """\
import statistics, sys
from benchmarks.ratios import Reference
print(statistics.median(Reference().track_reference(sys.argv[1], "float32")["samples"]))
"""
# `inside` is where the passes are made: at a function's start, or in its loop over the batches.


class Mutant(NamedTuple):
    """A kernel to be slowed down."""

    kernel: str
    subject: str  # of the benchmarks, by which the factor is measured
    file: str
    function: str
    data: str  # pointer and count of the numbers passed over
    inside: type = ast.FunctionDef


SLOWER = [
    Mutant("sigmoid", "sigmoid", "activations.py", "sigmoid", "pointer(out), out.size"),
    Mutant("affine", "affine", "dense.py", "affine", "pointer(W), W.size"),
    Mutant(
        "sgd_epoch", "sgd_epoch nielsen sparse", "sgd.py", "_learn_batches",
        "params, size_of(plan)", ast.For,
    ),
]  # fmt: skip
FASTER = Mutant(
    "backprop_delta", "backprop_delta", "dense.py", "backprop_delta",
    "pointer(W_next), W_next.size",
)  # fmt: skip


class Row(NamedTuple):
    """A line of the table."""

    what: str
    expected: str
    found: str
    seconds: float


def slowed(source, mutant, passes):
    """Return the source of a module with wasted passes."""
    functions = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == mutant.function
    ]
    if len(functions) != 1:
        raise ValueError(f"{mutant.file} has no function {mutant.function}: name another one here")
    places = [node for node in ast.walk(functions[0]) if isinstance(node, mutant.inside)]
    body = places[0].body
    first = body[1] if isinstance(body[0], ast.Expr) else body[0]  # after the docstring
    indent = " " * first.col_offset
    call = f"{indent}for _ in range({passes}):\n{indent}    _wasted_pass({mutant.data})\n"
    lines = source.splitlines(keepends=True)
    lines.insert(first.lineno - 1, call)
    lines.insert(functions[0].decorator_list[0].lineno - 1, PASS)
    return "".join(lines)


class Copy:
    """A clone of the project, in which kernels are slowed down."""

    def __init__(self, folder):
        self.root = Path(folder, "fastbp")
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.root), str(self.root / "asv_benchmarks")]),
            "NUMBA_CACHE_DIR": str(Path(folder, "cache")),
        }
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.root)], check=True)
        self.plain = self.git("rev-parse", "HEAD")

    def git(self, *words):
        """Run git as somebody; return what it prints."""
        who = ["-c", "user.name=proof", "-c", "user.email=proof@localhost"]
        command = ["git", *who, *words]
        return subprocess.run(
            command, cwd=self.root, check=True, capture_output=True, text=True
        ).stdout.strip()

    def write(self, mutant, passes):
        """Slow a kernel down in the working tree."""
        self.git("checkout", "--quiet", "--force", self.plain)
        path = self.root / KERNELS / mutant.file
        if passes:
            source = slowed(path.read_text(encoding="utf-8"), mutant, passes)
            path.write_text(source, encoding="utf-8")

    def commit(self, message):
        """Commit the working tree, changed or not; return the hash."""
        self.git("commit", "--quiet", "--all", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def ratio(self, mutant, passes):
        """Return what the kernel takes, as a multiple of what the reference takes."""
        self.write(mutant, passes)
        command = [sys.executable, "-c", MEASURE, mutant.subject]
        cache = {"NUMBA_CACHE_DIR": self.environment["NUMBA_CACHE_DIR"] + "-of-trials"}
        run = {"cwd": self.root, "env": {**self.environment, **cache}, "check": True}
        found = [subprocess.run(command, **run, stdout=subprocess.PIPE).stdout for _ in range(3)]
        return statistics.median(map(float, found))

    def calibrated(self, mutant, factor):
        """Leave the kernel slower by the factor in the working tree; return the factor reached."""
        plain = self.ratio(mutant, 0)
        passes = TRIAL
        for _ in range(AGAIN):
            reached = self.ratio(mutant, passes) / plain
            if abs(reached - factor) <= TAKES * factor:
                break
            passes = max(1, round(passes * (factor - 1) / max(reached - 1, 1e-3)))
        return self.ratio(mutant, passes) / plain

    def compare(self, base):
        """Return what is reported: {verdict: kernels}, and the seconds it took."""
        started = time.perf_counter()
        program = self.root / "scripts" / "benchtools"
        done = subprocess.run(
            [sys.executable, str(program), "compare", base], cwd=self.root, env=self.environment,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        print(done.stdout, file=sys.stderr, flush=True)
        if done.returncode > 1:
            raise RuntimeError("the comparison could not be made; its messages are above")
        found = re.findall(r"^\| (slower|faster|failed) *\| (\w+)", done.stdout, re.MULTILINE)
        if done.returncode != any(verdict != "faster" for verdict, _ in found):
            raise RuntimeError(f"exit code {done.returncode} for {found}")
        words = sorted({f"{verdict}: {kernel}" for verdict, kernel in found})
        return ", ".join(words) or "no change", time.perf_counter() - started


def rows(copy):
    """Yield the lines of the table."""
    for number in range(EMPTY_COMMITS):
        copy.git("checkout", "--quiet", "--force", copy.plain)
        copy.commit(f"Empty commit {number}")
        yield Row(f"empty commit {number + 1}", "no change", *copy.compare(copy.plain))
    for mutant in SLOWER:
        reached = copy.calibrated(mutant, 1.3)
        copy.commit(f"{mutant.kernel}, slower")
        what = f"{mutant.kernel} {reached:.2f} times slower"
        yield Row(what, f"slower: {mutant.kernel}", *copy.compare(copy.plain))
    reached = copy.calibrated(FASTER, 2)
    slow = copy.commit(f"{FASTER.kernel}, slower")
    copy.git("checkout", copy.plain, "--", KERNELS)
    copy.commit(f"{FASTER.kernel}, as it was")
    what = f"{FASTER.kernel} {reached:.2f} times faster"
    yield Row(what, f"faster: {FASTER.kernel}", *copy.compare(slow))


def main():
    """Print the table, line by line; return the exit code."""
    started, right = time.perf_counter(), True
    print("| what | expected | found | as expected | seconds |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Copy(folder)):
            fine = row.found == row.expected
            right &= fine
            words = f"{row.what} | {row.expected} | {row.found} | {'yes' if fine else 'NO'}"
            print(f"| {words} | {row.seconds:.0f} |", flush=True)
    print(f"\n{(time.perf_counter() - started) / 60:.0f} minutes in all")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
