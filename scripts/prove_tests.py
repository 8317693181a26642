"""Prove the power of the test suite: break one line, and the tests that ought to see it must fail.

    python scripts/prove_tests.py [--only TEXT] [--jobs N] [--output FILE] [--compare OLD]

scripts/mutations.toml lists the faults, each with its tests. They are put into copies of the
project, one after the other. A line of the table is a fault and the test that killed it, or the
word SURVIVED: then a test is missing, or the table names the wrong ones. For a fault that no test
can see the table says why. Exit code 1 if another survived, or one was killed that no test was to
see; with --compare, also if one survived that was killed when OLD was written. A kernel cache that
$NUMBA_CACHE_DIR names is copied, and saves minutes.
"""

import argparse
import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TABLE = "scripts/mutations.toml"
CACHE = "NUMBA_CACHE_DIR"
SECONDS = 240  # tests that hang are ended, and have seen the fault
VERDICTS = ("killed", "equivalent", "SURVIVED")
# Whatever the project sets by default: one process, and neither the long matrix nor what asserts a
# time, which other work on this machine could fail.
PYTEST = (
    "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", "-o", "addopts=",
    "--import-mode=importlib", "-m", "not long and not timing",
)  # fmt: skip
FAILURE = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


class Unusable(Exception):
    """What is wrong with the command or the table, in a line."""


class Mutation(NamedTuple):
    """An entry of the table."""

    area: str
    fault: str
    file: str
    old: str
    new: str
    tests: list[str]
    equivalent: str = ""  # why no test can see it

    @property
    def name(self):
        """What stays the same when files move."""
        return f"{self.area}: {self.fault}"


def read_table(path):
    """Return the mutations in a table."""
    try:
        areas = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Unusable(f"{path}: {error}") from error
    return [_entry(area, fields) for area, entries in areas.items() for fields in entries]


def _entry(area, fields):
    try:
        return Mutation(area, **fields)
    except TypeError as error:
        raise Unusable(f"{TABLE}, '{area}: {fields.get('fault')}': {error}") from error


def mutated(tree, mutation):
    """Return a file's text with a fault in it, the line's number, and what the line was and is."""
    entry = f"{TABLE}, {mutation.name!r}"
    try:
        text = (tree / mutation.file).read_text("utf-8")
    except OSError as error:
        raise Unusable(f"{entry}: there is no {mutation.file}") from error
    count = text.count(mutation.old)
    if count != 1:
        raise Unusable(f"{entry}: old stands {count} times in {mutation.file}, not once")
    changed = text.replace(mutation.old, mutation.new)
    pairs = enumerate(zip(text.splitlines(), changed.splitlines(), strict=False), 1)
    lines = [(number, old.strip(), new.strip()) for number, (old, new) in pairs if old != new]
    if len(lines) != 1 or text.count("\n") != changed.count("\n"):
        raise Unusable(f"{entry}: new must change one line of old")
    return changed, *lines[0]


class Copy:
    """A copy of a project, in which tests are run."""

    def __init__(self, tree, folder):
        self.tree, self.folder, self.root = tree, folder, folder / "project"
        command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
        if done.returncode:
            raise Unusable(f"{tree}: {' '.join(done.stderr.split())}")
        for name in filter(None, done.stdout.split("\0")):
            if (tree / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(tree / name, self.root / name)

    def pytest(self, arguments, cache, seconds=None):
        """Run tests with a kernel cache; return the exit code, None for a hang, and the output."""
        environment = {
            "FASTBP_DATA": str(self.tree.parent / "shared" / "data"),
            **os.environ,
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",  # two changes within a second have one time stamp
            CACHE: str(cache),
            "PYTEST_ADDOPTS": "",
        }
        with subprocess.Popen(
            [sys.executable, "-m", *PYTEST, *arguments], cwd=self.root, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate(timeout=seconds)
                return process.returncode, output
            except subprocess.TimeoutExpired:
                return None, f"no end after {seconds} s"
            finally:
                with contextlib.suppress(ProcessLookupError):  # also what the tests have started
                    os.killpg(process.pid, signal.SIGKILL)

    def unbroken(self, table, cache):
        """Make sure that each test that is named is there, and that all pass."""
        tests = dict.fromkeys(test for mutation in table for test in mutation.tests)
        found = self.pytest(["--collect-only", *tests], cache)[1].splitlines()
        found = {part for line in found for part in (line.split("::")[0], line.split("[")[0])}
        for mutation in table:
            for test in mutation.tests:
                if test not in found:
                    raise Unusable(f"{TABLE}, {mutation.name!r}: pytest selects nothing of {test}")
        failed = killer(*self.pytest(tests, cache))
        if failed:
            raise Unusable(f"without any fault there is a failure: {failed}")

    def trial(self, mutation, cache):
        """Run the tests of a mutation; return a row of the table."""
        changed, line, old, new = mutated(self.root, mutation)
        path, started = self.root / mutation.file, time.perf_counter()
        original = path.read_bytes()
        path.write_text(changed, "utf-8")
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as own:
                # Other kernels are compiled anew, and would crowd out those of the unbroken ones.
                cache = own if "/kernels/" in mutation.file else cache
                by = killer(*self.pytest(mutation.tests, cache, SECONDS))
        finally:
            path.write_bytes(original)
        return {
            "name": mutation.name, "place": f"{mutation.file}:{line}", "change": f"{old} -> {new}",
            "verdict": VERDICTS[0 if by else 1 if mutation.equivalent else 2],
            "by": by or mutation.equivalent, "seconds": round(time.perf_counter() - started, 1),
        }  # fmt: skip


def killer(code, output):
    """Name what failed in a run of pytest, if anything did."""
    if code == 0:
        return ""
    if code and code < 0:
        return f"ended by {signal.Signals(-code).name}"
    found = FAILURE.search(output)
    return found[1] if found else " ".join(output.split()[-12:])


def say(*words):
    """Print a line of the table."""
    print(*words, sep=" | ", flush=True)


def prove(tree, table, jobs):
    """Try all mutations in copies of a project; return the rows."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copies, cache, warm = queue.SimpleQueue(), Path(folder, "cache"), os.environ.get(CACHE)
        if warm and os.path.isdir(warm):
            shutil.copytree(warm, cache)
        for number in range(jobs):
            copies.put(Copy(tree, Path(folder, str(number))))

        def trial(mutation):
            copy = copies.get()
            try:
                row = copy.trial(mutation, cache)
            finally:
                copies.put(copy)
            say(*row.values())
            return row

        first = copies.get()
        first.unbroken(table, cache)
        copies.put(first)
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(trial, table))


def conclude(rows, table, before):
    """Print what the rows say; return the exit code."""
    verdicts = {row["name"]: row["verdict"] for row in rows}
    wrong = [m.name for m in table if m.equivalent and verdicts[m.name] == "killed"]
    killed = [row["name"] for row in before if row["verdict"] == "killed"]
    lost = [name for name in killed if verdicts.get(name, "killed") != "killed"]
    for name in wrong:
        say(f"killed, and called equivalent in {TABLE}: {name}")
    for name in lost:
        say(f"killed before, and not now: {name}")
    killed, equivalent, survived = (list(verdicts.values()).count(v) for v in VERDICTS)
    say(f"{len(rows)} mutations: {killed} killed, {equivalent} equivalent, {survived} survived")
    return 1 if wrong or lost or survived else 0


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        raise Unusable(message)


def arguments(argv):
    """Return the options, checked."""
    describe = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = Parser(description=__doc__, allow_abbrev=False, **describe)
    parser.add_argument("--tree", type=Path, default=ROOT, help="the project that is copied")
    parser.add_argument("--jobs", type=int, default=1, help="copies that are tested at once")
    parser.add_argument("--only", default="", help="faults with this text in area, fault or file")
    parser.add_argument("--output", type=Path, help="write the rows here, as JSON")
    parser.add_argument("--compare", type=Path, help="what --output has written before")
    options = parser.parse_args(argv)
    if options.jobs < 1:
        raise Unusable(f"--jobs must be 1 or more; found {options.jobs}")
    return options


def main(argv=None):
    """Print the table, line by line; return the exit code."""
    try:
        options = arguments(argv)
        before = json.loads(options.compare.read_text("utf-8")) if options.compare else []
        tree, table = options.tree.resolve(), read_table(ROOT / TABLE)
        for mutation in table:
            mutated(tree, mutation)  # whatever does not fit is named before anything runs
        table = [m for m in table if options.only in f"{m.name} {m.file}"]
        if not table:
            raise Unusable(f"no fault has {options.only!r} in its area, name or file")
        rows = prove(tree, table, options.jobs)
        if options.output:
            options.output.write_text(json.dumps(rows, indent=1), "utf-8")
        return conclude(rows, table, before)
    except (Unusable, OSError, ValueError) as error:
        print(f"prove_tests: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
