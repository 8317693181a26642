"""scripts/measure.py: its tables go between their marks in the README, and nothing else changes."""

import re
import sys
from pathlib import Path

import pytest

import fastbp
import measure

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch, digits):
    """The script, on the digits, as quick as may be."""
    monkeypatch.setattr(fastbp.datasets, "load", lambda *_: digits)
    monkeypatch.setattr(measure, "TURNS", 1)
    return measure


def test_the_readme_has_the_marks_of_both_tables(script):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for mark in (script.BEGIN, script.END, script.BEGIN_ESTIMATORS, script.END_ESTIMATORS):
        assert text.count(mark) == 1


def test_the_estimators_table(script, monkeypatch, tmp_path, capsys):
    pytest.importorskip("sklearn", minversion="1.9", reason="scikit-learn is an extra")
    marks = script.BEGIN_ESTIMATORS, script.END_ESTIMATORS
    (tmp_path / "README.md").write_text(f"before\n{marks[0]}old\n{marks[1]}after\n")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    settings = [{**row, "batch_size": 50} for row in script.SETTINGS[-2:]]
    monkeypatch.setattr(script, "SETTINGS", settings)
    monkeypatch.setattr(sys, "argv", ["measure.py", "--estimators"])
    script.main()
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"before\n{marks[0]}By `scripts/measure.py --estimators`, on ")
    assert text.endswith(f"|\n{marks[1]}after\n")
    rows = re.findall(
        r"^\| (sgd|adam) \| 50 \| 10 \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| ([\d.]+), ([\d.]+) \|$",
        text, re.MULTILINE,
    )  # fmt: skip
    assert [row[0] for row in rows] == ["sgd", "adam"]
    for _, ratio, theirs, ours in rows:
        assert float(ratio) > 0
        assert float(ours) == pytest.approx(float(theirs), abs=0.01)
    assert rows[0][1] in capsys.readouterr().out
