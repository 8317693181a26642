"""The set-up of scripts/train and scripts/test, and what a wheel and an sdist hold.

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
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ["bash", "basename", "dirname", "env", "grep", "head", "mkdir", "rm", "sed", "sort"]

# Makes .venv as `python -m venv` does, but with a pip that only writes down what it was asked.
STAND_IN_PYTHON = """\
#!/bin/sh
if [ "$1" = -m ] && [ "$2" = venv ]; then
    echo venv >>{calls}
    {python} -m venv --without-pip "$3" && cp -r {pip} "$3"/lib/python*/site-packages/
else
    exec {python} "$@"
fi
"""
STAND_IN_PIP = """\
import os, pathlib, signal, sys
with open({calls!r}, "a") as file:
    print("pip", *sys.argv[1:], file=file)
if os.environ.get("PIP_IS") == "killed":
    os.killpg(0, signal.SIGKILL)
if os.environ.get("PIP_IS") == "failing":
    sys.exit("a lot of output\\nERROR: No matching distribution found for hatchling\\nmore of it")
program = pathlib.Path(sys.prefix, "bin", "fastbp")
program.write_text('#!/bin/sh\\nprintf "<%s>" "$@"')
program.chmod(0o755)
(pathlib.Path(sys.prefix, "bin", "pytest")).write_text("")
package = pathlib.Path(sys.prefix, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
(package / "pytest.py").write_text("import sys; print(sys.argv[1:])")
"""


class House:
    """A copy of what the scripts need, with a stand-in for pip."""

    def __init__(self, folder):
        self.root = folder / "a house"  # a blank in the path is nothing special
        self.calls_file = folder / "calls"
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        shutil.copy(ROOT / "pyproject.toml", self.root)
        (self.root / "fastbp").mkdir()
        (self.root / "fastbp" / "__init__.py").write_text('__version__ = "0"\n')
        pip = folder / "pip"
        pip.mkdir()
        (pip / "__init__.py").touch()
        (pip / "__main__.py").write_text(STAND_IN_PIP.format(calls=str(self.calls_file)))
        (folder / "bin").mkdir()
        self.python = folder / "bin" / "python3"
        words = {"python": sys.executable, "pip": pip, "calls": self.calls_file}
        text = STAND_IN_PYTHON.format(**{k: shlex.quote(str(v)) for k, v in words.items()})
        self.python.write_text(text)
        self.python.chmod(0o755)

    def run(self, script="train", *arguments, **environment):
        """Start a script from another folder; also gives how long it took."""
        env = {"PATH": os.environ["PATH"], "PYTHON": str(self.python), **environment}
        start = time.perf_counter()
        done = subprocess.run(
            [self.root / "scripts" / script, *arguments],
            env=env,
            cwd=self.root.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            start_new_session=True,
        )
        done.seconds = time.perf_counter() - start
        return done

    def calls(self):
        """What was called since the last time: "venv", "pip"."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return [line.split()[0] for line in lines]


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_the_first_start_sets_up_and_the_second_does_not(house):
    first = house.run("train", "--data", "two words", "")
    assert (first.returncode, first.stdout) == (0, "<train><--data><two words><>")
    assert "making .venv" in first.stderr
    assert house.calls() == ["venv", "pip"]
    again = house.run("train")
    assert (again.returncode, again.stdout, again.stderr) == (0, "<train>", "")
    assert house.calls() == []


@pytest.mark.timing
def test_a_second_start_spends_under_a_second_on_set_up(house):
    assert house.run().returncode == 0
    assert min(house.run().seconds for _ in range(3)) < 1


def test_the_sets_do_not_undo_each_other(house):
    house.run("train")
    tested = house.run("test", "-k", "some thing")
    assert (tested.returncode, tested.stdout) == (0, "['-k', 'some thing']\n")
    assert house.calls() == ["venv", "pip", "pip"]
    assert house.run("train").returncode == house.run("test").returncode == 0
    assert house.calls() == []
    wanted = (house.root / ".venv" / "fastbp-dev.txt").read_text()
    assert "pytest" in wanted
    assert "asv" in wanted
    assert "ruff" in wanted
    assert "torch" not in wanted


def test_the_large_set_holds_the_small_one(house):
    house.run("test")
    assert house.run("train").returncode == 0
    assert house.calls() == ["venv", "pip"]


def test_new_requirements_are_installed_into_the_same_venv(house):
    house.run()
    with open(house.root / "pyproject.toml", "a") as file:
        file.write("\n# changed\n")
    assert house.run().returncode == 0
    assert house.calls() == ["venv", "pip", "pip"]


def test_two_starts_at_once_make_one_set_up(house):
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(house.run, ["train", "train"]))
    assert [d.stdout for d in done] == ["<train>", "<train>"]
    assert house.calls() == ["venv", "pip"]


def test_an_interrupted_set_up_is_made_anew(house):
    assert house.run(PIP_IS="killed").returncode < 0
    house.calls()
    done = house.run()
    assert (done.returncode, done.stdout) == (0, "<train>")
    assert "interrupted: making .venv anew" in done.stderr
    assert house.calls() == ["venv", "pip"]


def test_a_venv_without_its_python_is_made_anew(house):
    house.run()
    house.calls()
    for link in (house.root / ".venv" / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/nowhere/python")
    done = house.run()
    assert (done.returncode, done.stdout) == (0, "<train>")
    assert "the Python of .venv is gone or too old: making .venv anew" in done.stderr
    assert house.calls() == ["venv", "pip"]


def test_a_moved_house_is_set_up_anew(house):
    house.run()
    house.root = house.root.rename(house.root.with_name("elsewhere"))
    done = house.run()
    assert (done.returncode, done.stdout) == (0, "<train>")
    assert "the folder has moved: making .venv anew" in done.stderr


def test_a_failing_pip_gives_one_line(house):
    done = house.run(PIP_IS="failing")
    assert done.returncode == 1
    assert done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert line.startswith("train: pip could not install the packages: No matching distribution")
    assert "a lot of output" not in done.stderr
    assert house.run().stdout == "<train>"  # and the next start tries again
    assert house.calls() == ["venv", "pip", "pip"]


def only_tools(folder):
    """A PATH with what POSIX gives and no Python."""
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def test_no_python_gives_one_line(house, tmp_path):
    done = house.run(PATH=str(only_tools(tmp_path / "tools")), PYTHON="")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("train: no Python of version 3.11 or newer found; install one")
    assert not (house.root / ".venv").exists()


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("#!/bin/sh\necho old 3.9", "no Python of version 3.11 or newer found, only 3.9;"),
        ("#!/bin/sh\necho bare 3.12", "on Debian and Ubuntu: apt install python3.12-venv"),
    ],
)
def test_a_python_that_will_not_do_gives_one_line(house, tmp_path, python, message):
    tools = only_tools(tmp_path / "tools")
    (tools / "python3").write_text(python)
    (tools / "python3").chmod(0o755)
    done = house.run(PATH=str(tools), PYTHON="")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert message in line


def test_a_named_python_that_is_none_gives_one_line(house):
    done = house.run(PYTHON="/nowhere/python3")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "PYTHON=/nowhere/python3 is not a Python of version 3.11 or newer" in line


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
    assert "fastbp/data/digits.npz" in names
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
        "tests/test_floors.py",
        "tests/test_scripts.py",
    }
    assert wanted <= set(members)
    assert members["scripts/train"].mode & 0o111
    unwanted = (".venv", "asv_benchmarks/env", "asv_benchmarks/results", "asv_benchmarks/html")
    assert not [name for name in members if name.startswith(unwanted)]
