"""What asv measures: the whole suite on the current commit, two commits side by side, the pages."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import verdict
from asv.config import Config
from asv.machine import Machine, MachineCollection
from asv.util import UserError
from reports import NotMeasured, say

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "asv_benchmarks"
LOG = BENCHMARKS / "env" / "compare.log"  # a folder that asv makes, and git ignores
# What is judged first, and a plain time beside it.
FIRST = [
    r"^counts\.",
    r"^beside\.",
    r"^training\.Epoch.*\('online', 'zeros', 'numba', 'float32', 1\)",
]
SOURCES = "FASTBP_BENCH_BASE"  # where the benchmarks look for the base's package
MOST_RUNS = 3  # what only times say must be said so often


def asv(*arguments, **output):
    """Run asv, its output where progress goes and no input; return its exit code."""
    command = [sys.executable, "-m", "asv", *arguments]
    streams = {"stdin": subprocess.DEVNULL, "stdout": sys.stderr, **output}
    return subprocess.run(command, cwd=BENCHMARKS, **streams).returncode


def git(*arguments):
    """Return what git prints."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise NotMeasured(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def commit(name):
    """Return the hash of a commit."""
    return git("rev-parse", "--verify", f"{name}^{{commit}}")


def ready():
    """Describe this machine to asv, which would ask for it; say what will not be measured."""
    name = Machine.get_unique_machine_name()
    try:
        MachineCollection.load(name)
    except UserError:  # asv does not know this machine yet
        MachineCollection.save(name, Machine.get_defaults())
    if git("status", "--porcelain", "--untracked-files=no"):
        say("what is not committed is not measured")


# -- commands --------------------------------------------------------------------------------------


def run(options):
    """Run all benchmarks on the current commit."""
    ready()
    return asv("run", "HEAD^!", "--show-stderr")


def publish(options):
    """Build the pages."""
    if code := asv("publish"):
        return code
    print(
        f"The pages are in {BENCHMARKS / 'html'}; a browser needs a server for them:\n"
        f"  cd {BENCHMARKS} && {sys.executable} -m asv preview"
    )
    return 0


def compare(options):
    """Measure two commits and judge."""
    base, head = commit(options.base), commit("HEAD")
    if base == head:
        raise NotMeasured(f"{options.base} is the current commit: name another, such as HEAD~1")
    ready()
    say(f"measuring two commits takes some minutes; asv writes to {LOG}")
    LOG.parent.mkdir(exist_ok=True)
    runs, patterns = [], FIRST
    with tempfile.TemporaryDirectory() as folder:
        os.environ[SOURCES] = sources(base, folder)
        while patterns and len(runs) < MOST_RUNS:
            if runs:
                say(f"once more, where something has changed: {len(patterns)} kernels")
            runs.append(measured(base, head, patterns))
            patterns = verdict.patterns(verdict.open_questions(runs))
    findings = verdict.judge(runs)
    if not findings:
        raise NotMeasured(f"no benchmark gave a result; {LOG} says why")
    print(verdict.text(findings, runs, git("log", "-1", "--format=%h %s", base),
                       git("log", "-1", "--format=%h %s", head)))  # fmt: skip
    return int(any(finding.verdict in verdict.BAD for finding in findings))


def sources(name, folder):
    """Put a commit's package into a folder; return the folder."""
    archive = Path(folder, "package.tar")
    git("archive", f"--output={archive}", name, "fastbp")
    shutil.unpack_archive(archive, folder)
    return folder


def measured(base, head, patterns):
    """Return what asv found out about two commits: (base, head)."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "asv.conf.json")
        config.write_text(json.dumps(elsewhere(folder)))
        # asv's own verdict, its exit code, is read from plain times as well: not of interest.
        command = ["--config", str(config), "continuous", "--show-stderr", base, head]
        chosen = [word for pattern in patterns for word in ("--bench", pattern)]
        with open(LOG, "a", encoding="utf-8") as log:
            asv(*command, *chosen, stdout=log, stderr=log)
        return tuple(verdict.read(Path(folder, "results"), name) for name in (base, head))


def elsewhere(folder):
    """Return asv's configuration with results in another folder."""
    path = BENCHMARKS / "asv.conf.json"
    config = {k: v for k, v in vars(Config.load(str(path))).items() if v is not None}
    for name in ("benchmark_dir", "env_dir"):
        config[name] = str(BENCHMARKS / config[name])
    return {**config, "repo": str(ROOT), "results_dir": str(Path(folder, "results")), "version": 1}
