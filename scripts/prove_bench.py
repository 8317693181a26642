"""Prove that `scripts/bench compare` finds what got slower or faster, and nothing else.

    python scripts/prove_bench.py

In a copy of the committed project, some forty minutes on two cores: a kernel that makes wasted
passes over its data until it is 1.3 times slower is reported by its name, for three kernels; a
kernel made 2 times faster, by taking such passes away, is reported as faster; and an empty commit
beside its parent is no change, ten times. Exit code 1 if a row of the table is not as expected.
"""

import argparse
import ast
import os
import re
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
NEAR, TRIALS = 0.04, 3  # of the factor wanted, and attempts to come near it
PASS = """\
from .jit import inner


@inner
def _wasted_pass(p, n):
    zero = p[0] - p[0]
    for i in range(n):
        p[i] += zero * p[i]


"""
MEASURE = """\
import statistics, sys
from benchmarks.beside import measured
subject, base = sys.argv[1:]
print(statistics.median(measured(base, [subject])[subject]))
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
    Mutant("softmax", "softmax", "operations.py", "softmax", "pointer(out), out.size"),
    Mutant("affine", "affine", "operations.py", "affine", "pointer(W), W.size"),
    Mutant(
        "sgd_epoch", "sgd_epoch nielsen sparse", "epochs.py", "_learn_batches",
        "params, records.size_of(plan)", ast.For,
    ),
]  # fmt: skip
FASTER = Mutant(
    "backprop_delta", "backprop_delta", "operations.py", "backprop_delta",
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
        self.environment = {**os.environ, "NUMBA_CACHE_DIR": str(Path(folder, "cache"))}
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.root)], check=True)
        self.plain = self.git("rev-parse", "HEAD")
        self.untouched = Path(folder, "untouched")
        self.git("worktree", "add", "--quiet", "--detach", str(self.untouched))

    def git(self, *words):
        """Run git as somebody; return what it prints."""
        who = ["-c", "user.name=proof", "-c", "user.email=proof@localhost"]
        command = ["git", *who, *words]
        return subprocess.run(
            command, cwd=self.root, check=True, capture_output=True, text=True
        ).stdout.strip()

    def write(self, mutant, passes):
        """Slow a kernel down in the working tree."""
        place = Path(KERNELS, mutant.file)
        source = (self.untouched / place).read_text(encoding="utf-8")
        (self.root / place).write_text(slowed(source, mutant, passes), encoding="utf-8")

    def commit(self, message):
        """Commit the working tree, changed or not; return the hash."""
        self.git("commit", "--quiet", "--all", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def reached(self, mutant, passes):
        """Return how much slower the kernel is with so many passes; leave it so."""
        self.write(mutant, passes)
        path = [str(self.root), str(self.root / "asv_benchmarks")]
        environment = {
            **self.environment,
            "PYTHONPATH": os.pathsep.join(path),
            "NUMBA_CACHE_DIR": self.environment["NUMBA_CACHE_DIR"] + "-of-trials",
        }
        command = [sys.executable, "-c", MEASURE, mutant.subject, str(self.untouched)]
        done = subprocess.run(
            command, cwd=self.root, env=environment, check=True, stdout=subprocess.PIPE
        )
        return float(done.stdout)

    def calibrated(self, mutant, factor):
        """Leave the kernel slower by about the factor; return the factor reached."""
        passes = TRIAL
        for _ in range(TRIALS):
            reached = self.reached(mutant, passes)
            if abs(reached - factor) <= NEAR * factor:
                break
            passes = max(1, round(passes * (factor - 1) / max(reached - 1, 1e-3)))
        else:
            reached = self.reached(mutant, passes)
        return reached

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
    for mutant in SLOWER:
        copy.git("checkout", "--quiet", "--force", copy.plain)
        reached = copy.calibrated(mutant, 1.3)
        copy.commit(f"{mutant.kernel}, slower")
        what = f"{mutant.kernel} {reached:.2f} times slower"
        yield Row(what, f"slower: {mutant.kernel}", *copy.compare(copy.plain))
    copy.git("checkout", "--quiet", "--force", copy.plain)
    reached = copy.calibrated(FASTER, 2)
    slow = copy.commit(f"{FASTER.kernel}, slower")
    copy.git("checkout", copy.plain, "--", KERNELS)
    copy.commit(f"{FASTER.kernel}, as it was")
    what = f"{FASTER.kernel} {reached:.2f} times faster"
    yield Row(what, f"faster: {FASTER.kernel}", *copy.compare(slow))
    for number in range(1, EMPTY_COMMITS + 1):
        copy.git("checkout", "--quiet", "--force", copy.plain)
        copy.commit(f"Empty commit {number}")
        yield Row(f"empty commit {number}", "no change", *copy.compare(copy.plain))


def main(argv=None):
    """Print the table, line by line; return the exit code."""
    describe = {"formatter_class": argparse.RawDescriptionHelpFormatter, "usage": argparse.SUPPRESS}
    argparse.ArgumentParser(description=__doc__, **describe).parse_args(argv)
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
