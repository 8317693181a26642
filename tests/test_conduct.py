"""What a run leaves out, and that a test which changes the process is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import _conduct
import quiet

pytest_plugins = ["pytester"]

MARKED = Path(__file__).parent / "programs" / "marked.py"
MARKERS = """
[pytest]
markers =
  timing: asserts a time
  long: takes minutes
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """run(source, *options): run a test file of its own under these rules."""
    folders = (os.path.dirname(module.__file__) for module in (_conduct, quiet))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    pytester.makeini(MARKERS)

    def go(source, *options):
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess("-p", "_conduct", "-p", "no:cacheprovider", *options)

    return go


@pytest.mark.parametrize(
    ("options", "passed", "line"),
    [
        ((), 2, "left out: 2 marked long (scripts/test -m long)"),
        (("-m", "long"), 2, None),
        (("-m", "not timing"), 1, "left out: 2 marked long (scripts/test -m long)"),
        (("-n", "2"), 1, "left out: 2 marked long (scripts/test -m long), 1 marked timing*"),
    ],
)
def test_what_is_left_out_is_named(options, passed, line, run):
    if "-n" in options:
        pytest.importorskip("xdist")
    done = run(MARKED.read_text(), *options)
    done.assert_outcomes(passed=passed, deselected=None)
    if line:
        done.stdout.fnmatch_lines([line])
    else:
        done.stdout.no_fnmatch_line("left out*")


LEAVES = {
    "environment": "os.environ['LEFT'] = '1'",
    "working directory": "os.chdir('/')",
    "thread": "threading.Thread(target=time.sleep, args=(30,), daemon=True).start()",
}
if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
    LEAVES["cores"] = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"


@pytest.mark.parametrize("what", LEAVES)
def test_a_test_that_leaves_the_process_changed_is_an_error(what, run, monkeypatch):
    done = run(f"import os, threading, time\ndef test_it():\n    {LEAVES[what]}\n")
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines([f"*the test leaves a*{what}*"])


def test_what_ends_by_itself_is_no_fault(run):
    program = "threading.Thread(target=time.sleep, args=(0.2,)).start()"
    run(f"import threading, time\ndef test_it():\n    {program}\n").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("before", "after", "cores"),
    [
        ((10.0, 4.0, 0.0), (14.0, 7.0, 2.0), 0.5),  # of 4 seconds of work 3 were our own
        ((10.0, 4.0, 0.0), (13.0, 7.1, 2.0), 0.0),
        (None, None, 0.0),  # a system that does not say
    ],
)
def test_only_the_work_of_other_programs_counts(before, after, cores, monkeypatch):
    monkeypatch.setattr(_conduct.Others, "_now", staticmethod(iter([before, after]).__next__))
    assert _conduct.Others().cores() == cores


def test_own_work_is_known(others):
    """Of this process and of the children it has waited for."""
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    if others._before is None:
        pytest.skip("this system does not say how busy its cores are")
    assert others._now()[1] > others._before[1]
