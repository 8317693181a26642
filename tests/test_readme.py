"""The README as a newcomer reads it, and the pages it leads to: what they say is done and true."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from fastbp import cli
from fastbp.cli.options import parser
from fastbp.cli.program import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = {name: text for name, text in SECTION.findall(README)}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text, language):
    return [block for found, block in BLOCK.findall(text) if found == language]


def commands(text):
    """The words of each command in shell blocks, without what is for the reader."""
    command = ""
    for line in "".join(blocks(text, "")).splitlines():
        command += f"{line}\n"
        if command.count("'") % 2 == 0:  # not in the middle of a program
            if words := shlex.split(command, comments=True):
                yield words
            command = ""


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """shell(words): what a line of the README prints; it must succeed."""
    monkeypatch.chdir(tmp_path)

    def run(words):
        if words[:2] == ["python", "-c"]:
            exec(words[2], {})
        else:
            assert words[0] == "fastbp"
            assert cli.main(words[1:]) == 0, words
        return capsys.readouterr().out

    return run


@pytest.fixture
def printed(capsys):
    """printed(): what was printed since the last time."""
    return lambda: capsys.readouterr().out


def test_it_is_short():
    assert len(README.splitlines()) <= 140
    assert "pip install fastbp" not in README  # nobody has claimed the name yet


def test_it_leads_to_good_models_of_both_tables(shell, printed, tmp_path):
    """From the shell first, and then from Python, in the same folder."""
    for package in ("pandas", "sklearn", "matplotlib"):
        pytest.importorskip(package)
    said = {" ".join(words[1:4]): shell(words) for words in commands(SECTIONS["From the shell"])}
    assert float(re.search(r"test accuracy (\S+\d)", said["train --data wine.csv"])[1]) > 0.9
    assert float(re.search(r"test R2 (\S+\d)", said["train --data diabetes.csv"])[1]) > 0.35
    assert (tmp_path / "wine-report.html").stat().st_size > 100_000
    for line in said["predict diabetes.safetensors --data"].splitlines()[:3]:
        assert 0 < float(line) < 400
    names = {}
    for program in blocks(SECTIONS["From Python"], "python"):
        exec(program, names)
    wine, error, checked, searched = re.findall(r"^(?:[\d.]+|ok)\b", printed(), re.MULTILINE)
    assert float(wine) > 0.9
    assert float(error) < 50
    assert checked == "ok"
    assert float(searched) > 0.9


def test_every_command_of_the_guide_is_one():
    text = cli.__doc__
    found = [
        shlex.split(line, comments=True)
        for line in re.findall(r"^    (?:mpiexec -n 4 )?(fastbp .*)$", text, re.MULTILINE)
    ]
    for words in found:
        end = words.index(">") if ">" in words else None
        parser(COMMANDS).parse_args(words[1:end])
    (table,) = re.findall(r"\| command \|.*?\n\n", text, re.DOTALL)
    named = set(re.findall(r"`([a-z-]+)[` ]", table))
    assert {command.name for command in COMMANDS} == named


@pytest.mark.parametrize(
    "page",
    [
        "README.md", "asv_benchmarks/README.md", "tests/README.md",
        ".github/CONTRIBUTING.md", ".github/SECURITY.md", ".github/CHANGELOG.md",
    ],
)  # fmt: skip
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in heads}


def test_every_extra_is_told():
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for extra in extras:
        assert f"`{extra}`" in SECTIONS["Install"], extra


def test_each_promise_names_what_proves_it():
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    assert len(rows) == 15
    for row in rows:
        proofs = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row)
        scripts = re.findall(r"`(scripts/\w+)`", row)
        assert proofs or scripts, f"a promise without a test is none: {row}"
        for name, test in proofs:
            assert f"\ndef {test}(" in (ROOT / "tests" / name).read_text(encoding="utf-8"), test
        assert all((ROOT / script).is_file() for script in scripts), row
