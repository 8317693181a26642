"""The set-up that the scripts share, their help, and what a wheel and an sdist hold.

The set-up is tested on a copy of the scripts with a stand-in for pip, so that no test needs
a network; that the real one works is shown by scripts/test having come this far.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = ROOT / "tests" / "programs" / "stand_in_python.py"
TOOLS = ["bash", "dirname", "env", "grep", "head", "sed"]
TRAIN, DEV = ["pip>=25.1", ".[cli]"], ["pip>=25.1", "dev"]  # the last word of each call of pip


def executable(path, *lines):
    path.write_text("\n".join(["#!/bin/sh", *lines]))
    path.chmod(0o755)
    return path


class House:
    """A copy of what the scripts need, with a stand-in for pip."""

    def __init__(self, folder):
        self.root = folder / "a house"  # a blank in the path is nothing special
        self.noted = folder / "calls"
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        (self.root / "fastbp").mkdir()
        for name in ("pyproject.toml", "fastbp/__init__.py"):
            shutil.copy(ROOT / name, self.root / name)
        command = shlex.join([sys.executable, str(STAND_IN)])
        self.python = executable(folder / "python 3", f'exec {command} "$@"')

    def run(self, script="train", *words, **environment):
        """Start a script from another folder, in a process group of its own."""
        env = {"PATH": os.environ["PATH"], "PYTHON": str(self.python), "CALLS": str(self.noted)}
        return subprocess.run(
            [self.root / "scripts" / script, *words],
            cwd=self.root.parent, env=env | environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, start_new_session=True,
        )  # fmt: skip

    def calls(self):
        """What was called since the last time: "venv", or the last word to pip."""
        lines = self.noted.read_text().splitlines() if self.noted.exists() else []
        self.noted.unlink(missing_ok=True)
        return lines


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


@pytest.fixture
def ready(house):
    """A house that is set up for training."""
    assert house.run().returncode == 0
    assert house.calls() == ["venv", *TRAIN]
    return house


def test_the_first_start_sets_up_and_the_second_does_not(house):
    first = house.run("train", "--data", "two words", "")
    assert (first.returncode, first.stdout) == (0, "<train><--data><two words><>")
    assert "train: installing fastbp and what it needs into .venv" in first.stderr
    assert house.calls() == ["venv", *TRAIN]
    again = house.run("train", "--help")
    assert (again.returncode, again.stdout, again.stderr) == (0, "<train><--help>", "")
    assert house.calls() == []


def test_the_large_set_is_added_to_the_small_one(ready):
    tested = ready.run("test", "-k", "some thing")
    assert (tested.returncode, tested.stdout) == (0, "['-k', 'some thing']\n")
    assert ready.calls() == DEV
    assert ready.run("train").returncode == ready.run("test", "-q").returncode == 0
    assert ready.calls() == []


def test_new_requirements_are_installed_into_the_same_venv(ready):
    with open(ready.root / "pyproject.toml", "a") as file:
        file.write("\n# changed\n")
    assert ready.run("test", "-q").returncode == 0
    assert ready.calls() == DEV
    assert ready.run("train").returncode == 0  # the large set holds the small one
    assert ready.calls() == []


def test_two_starts_at_once_make_one_set_up(house):
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda script: house.run(script, PIP_IS="slow"), ["train"] * 2))
    assert [d.stdout for d in done] == ["<train>", "<train>"]
    assert house.calls() == ["venv", *TRAIN]


def interrupt(house):
    assert house.run("test", PIP_IS="killed").returncode < 0
    house.calls()


def lose_python(house):
    for link in (house.root / ".venv" / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/nowhere/python")


def move(house):
    house.root = house.root.rename(house.root.with_name("elsewhere"))


@pytest.mark.parametrize("accident", [interrupt, lose_python, move])
def test_an_unusable_venv_is_made_anew(ready, accident):
    accident(ready)
    done = ready.run()
    assert (done.returncode, done.stdout) == (0, "<train>")
    assert "making it anew" in done.stderr
    assert ready.calls() == ["venv", *TRAIN]


def test_a_failing_pip_gives_one_line_and_leaves_what_there_was(ready):
    done = ready.run("test", PIP_IS="failing")
    assert (done.returncode, done.stdout) == (1, "")
    log = ready.root / ".venv" / "fastbp-setup.log"
    assert done.stderr.splitlines()[1:] == [
        f"test: set-up failed: No matching distribution for hatchling (network? see {log})"
    ]
    assert "a lot of output" in log.read_text()
    assert ready.run("train").stdout == "<train>"
    assert ready.run("test", "-q").returncode == 0  # which tries again
    assert ready.calls() == ["pip>=25.1", *DEV]


def refused(house, *words, **environment):
    """What a script says in one line and exits with, when it installs nothing."""
    done = house.run(*words, **environment)
    assert done.stdout == ""
    assert not (house.root / ".venv").exists()
    (line,) = done.stderr.splitlines()
    return done.returncode, line


def test_no_python_gives_one_line(house, tmp_path):
    tools = tmp_path / "tools"  # a PATH with a Python that is too old
    tools.mkdir()
    program = '"import sys; sys.version_info = (3, 10); $3"'
    executable(tools / "python3", f"exec {shlex.quote(sys.executable)} -c {program}")
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool))
    code, line = refused(house, PATH=str(tools), PYTHON="")
    assert code == 1
    assert "no Python 3.11 or newer with venv and ensurepip in the PATH;" in line


def test_no_other_python_is_taken_than_the_one_named(house):
    code, line = refused(house, PYTHON="/nowhere/python3")
    assert code == 1
    assert "no Python 3.11 or newer with venv and ensurepip in /nowhere/python3;" in line


HELP = {
    "train": "the arguments given.",
    "test": "Arguments go to pytest",
    "check": "names what failed.",
    "bench": "scripts/bench compare [BASE]",
    "docs": "scripts/docs --output DIR",
    "fuzz": "scripts/fuzz --seconds 3600 pickle",
    "soak": "scripts/soak --seconds 60",
}


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("script", HELP)
def test_help_installs_nothing(house, script, option):
    done = house.run(script, option)
    assert (done.returncode, done.stderr) == (0, "")
    assert HELP[script] in done.stdout
    assert not re.search(r'^(#|set|import)|"""', done.stdout, flags=re.MULTILINE)  # the text alone
    assert not (house.root / ".venv").exists()


def test_arguments_of_a_script_that_takes_none_are_refused(house):
    code, line = refused(house, "check", "--nonsense")
    assert code == 2
    assert "--nonsense" in line


PROGRAMS = [p for p in sorted(ROOT.glob("scripts/*.py")) if "__main__" in p.read_text()]
PROGRAMS += [ROOT / "scripts" / "benchtools", ROOT / "scripts" / "doctools"]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_an_unknown_option_of_a_program_is_one_line(program):
    command = [sys.executable, program, "--nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "--nonsense" in line


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The sdist, and the wheel that is built from it."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def sources():
    """The package's own files, as they lie in the tree."""
    files = (p for p in (ROOT / "fastbp").rglob("*") if p.is_file())
    kept = {".py", ".npz", ".txt", ".md", ".typed"}
    return {str(p.relative_to(ROOT)) for p in files if p.suffix in kept or p.name == "py.typed"}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(dist):
    (path,) = dist.glob("fastbp-*-py3-none-any.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (wheel.read(n).decode() for n in names if n.endswith("/METADATA"))
        (scripts,) = (wheel.read(n).decode() for n in names if n.endswith("/entry_points.txt"))
    assert sources() <= names
    assert "fastbp/datasets/digits.npz" in names
    assert {name.split("/")[0] for name in names} == {"fastbp", f"{path.name[:-17]}.dist-info"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not any("__pycache__" in name or name.endswith((".nbi", ".nbc")) for name in names)
    assert "fastbp = fastbp.cli:main" in scripts
    assert "License-Expression: BSD-3-Clause" in metadata
    assert "Requires-Python: >=3.11" in metadata
    always = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, flags=re.MULTILINE)
    assert sorted(always) == ["numba", "numpy", "safetensors"]


@pytest.mark.slow
def test_the_sdist_holds_what_a_packager_needs(dist):
    (path,) = dist.glob("fastbp-*.tar.gz")
    with tarfile.open(path) as archive:
        members = {m.name.partition("/")[2]: m for m in archive.getmembers()}
    wanted = sources() | {
        "LICENSE",
        "README.md",
        "asv_benchmarks/asv.conf.json",
        "asv_benchmarks/benchmarks/__init__.py",
        "pyproject.toml",
        "scripts/_setup.sh",
        "scripts/train",
        "tests/test_wings.py",
        "tests/test_scripts.py",
    }
    assert wanted <= set(members)
    assert members["scripts/train"].mode & 0o111
    unwanted = (".venv", "asv_benchmarks/env", "asv_benchmarks/results", "asv_benchmarks/html")
    assert not [name for name in members if name.startswith(unwanted)]
