"""scripts/measure.py: its tables go between their marks, and nothing else changes."""

import re
import sys

import pytest

import fastbp
import marks
import measure


@pytest.fixture
def script(monkeypatch, digits):
    """The script, on the digits, as quick as may be."""
    monkeypatch.setattr(fastbp.datasets, "load", lambda *_: digits)
    monkeypatch.setattr(measure, "TURNS", 1)
    return measure


@pytest.mark.parametrize("name", ["peers", "figures", "estimators", "ranks"])
def test_the_page_has_the_marks_of_each_table(name):
    head, tail = marks.split(marks.SPEED, name)
    assert head.startswith("# How fast it is\n")
    assert tail


def test_the_estimators_table(script, monkeypatch, tmp_path, capsys):
    pytest.importorskip("sklearn", minversion="1.9", reason="scikit-learn is an extra")
    begin, end = "<!-- estimators: written so -->\n", "<!-- /estimators -->\n"
    page = tmp_path / "README.md"
    page.write_text(f"before\n{begin}old\n{end}after\n")
    monkeypatch.setattr(marks, "SPEED", page)
    settings = [{**row, "batch_size": 50} for row in script.SETTINGS[-2:]]
    monkeypatch.setattr(script, "SETTINGS", settings)
    monkeypatch.setattr(sys, "argv", ["measure.py", "--estimators"])
    script.main()
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{begin}By `scripts/measure.py --estimators`, on ")
    assert text.endswith(f"|\n{end}after\n")
    rows = re.findall(
        r"^\| (sgd|adam) \| 50 \| 10 \| [\d.]+ \| [\d.]+ \| ([\d.]+) \| ([\d.]+), ([\d.]+) \|$",
        text, re.MULTILINE,
    )  # fmt: skip
    assert [row[0] for row in rows] == ["sgd", "adam"]
    for _, ratio, theirs, ours in rows:
        assert float(ratio) > 0
        assert float(ours) == pytest.approx(float(theirs), abs=0.01)
    assert rows[0][1] in capsys.readouterr().out
