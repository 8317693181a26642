"""The README as a newcomer reads it: what it says to do is done, step by step."""

import pathlib
import re
import runpy
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

import fastbp
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
    """The lines of shell blocks that call fastbp, without what is for the reader."""
    lines = "".join(blocks(text, "")).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("fastbp ")]


def test_the_first_steps_lead_to_a_trained_plotted_and_exported_network(
    tmp_path, monkeypatch, capsys
):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime runs what is exported")
    monkeypatch.chdir(tmp_path)
    text = SECTIONS["First steps"]
    steps = commands(text)
    assert [step[0] for step in steps] == ["train", "plot", "report", "export"]
    for step in steps:
        assert cli.main(step) == 0, step
    said = re.search(r"test accuracy (\S+)", capsys.readouterr().out)
    for name in re.findall(r"`(fastbp-\S+\.\w+)`", text):
        assert (tmp_path / name).stat().st_size, f"{name} was not written"
    (program,) = blocks(text, "python")
    (tmp_path / "use.py").write_text(program, encoding="utf-8")
    runpy.run_path(str(tmp_path / "use.py"))
    assert f"{float(capsys.readouterr().out):.4f}" == said.group(1)


def test_the_program_at_the_top_runs(tmp_path, capsys):
    (program, *_) = blocks(README, "python")
    (tmp_path / "top.py").write_text(program, encoding="utf-8")
    runpy.run_path(str(tmp_path / "top.py"))
    assert float(capsys.readouterr().out) > 0.9


def test_the_section_on_training_runs_and_prints_what_it_shows(
    tmp_path, monkeypatch, capsys, caplog, digits
):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", logger="fastbp")  # where nobody handles logs, they go to stdout
    X, y, *_ = digits
    np.save("X.npy", X)
    np.save("y.npy", y)
    Path("days").mkdir()
    for day in range(3):
        np.savez(f"days/{day}.npz", X=X[day::3], y=y[day::3])
    names = {"fastbp": fastbp, "np": np, "pathlib": pathlib}
    for program in blocks(SECTIONS["Training"], "python"):
        exec(program, names)
    (shown,) = blocks(SECTIONS["Training"], "")
    summary = capsys.readouterr().out
    assert shown.startswith(f"{summary}epoch   1/100: loss 1.7")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[-1].startswith("ended after epoch ")  # which of them depends on the CPU
    figures = re.compile(r"\d[\d,.]*")
    assert figures.sub("#", shown.splitlines()[-1]) == figures.sub("#", lines[-1])
    assert figures.sub("#", lines[0]) in figures.sub("#", shown)
    assert {path.name for path in tmp_path.iterdir()} == {"X.npy", "y.npy", "days", "log.csv"}


def test_every_command_is_one():
    found = commands(README)
    assert {command[0] for command in found} == {command.name for command in COMMANDS}
    for command in found:
        words = command[: command.index(">")] if ">" in command else command
        parser(COMMANDS).parse_args(words)


def test_every_link_within_leads_somewhere():
    heads = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


def test_every_extra_is_told():
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for extra in extras:
        assert f"`{extra}`" in SECTIONS["First steps"], extra


def test_each_promise_names_what_proves_it():
    rows = [line for line in SECTIONS["Promises"].splitlines() if line.startswith("| **")]
    assert len(rows) == 13
    for row in rows:
        proofs = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row)
        scripts = re.findall(r"`(scripts/\w+)`", row)
        assert proofs or scripts, f"a promise without a test is none: {row}"
        for name, test in proofs:
            assert f"\ndef {test}(" in (ROOT / "tests" / name).read_text(encoding="utf-8"), test
        assert all((ROOT / script).is_file() for script in scripts), row
