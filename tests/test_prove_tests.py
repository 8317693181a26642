"""scripts/prove_tests.py: its table fits the code and the tests, and it tells what tests see."""

import ast
import importlib.util
import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
AREAS = {
    "kernels": 16, "engines": 6, "reference": 6, "training": 12, "checks": 5, "verification": 4,
    "loaders": 7, "interchange": 6, "files": 6, "estimator": 5, "command_line": 5, "pictures": 4,
}  # fmt: skip
PRODUCT = "def product(a, b):\n    return a * b\n"
TEST = "from tiny import product\n\n\ndef test_product():\n    assert product(2, 3) == 6\n"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("prove", ROOT / "scripts" / "prove_tests.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table(script):
    return script.read_table(ROOT / script.TABLE)


# -- the table -------------------------------------------------------------------------------------


def test_each_area_has_its_faults(table):
    assert len(table) >= 60
    areas = [mutation.area for mutation in table]
    assert set(areas) == set(AREAS)
    assert {area: areas.count(area) for area in AREAS if areas.count(area) < AREAS[area]} == {}
    assert len({mutation.name for mutation in table}) == len(table)


def test_each_fault_stands_once_in_its_file_and_can_be_parsed(script, table):
    for mutation in table:
        text, number, old, new = script.mutated(ROOT, mutation)
        ast.parse(text, mutation.name)
        assert text.splitlines()[number - 1].strip() == new != old


def test_each_test_that_is_named_is_there(table):
    """A file, or a function in it: no single case, whose name changes with its parameters."""
    wanted = {tuple(test.partition("::")[::2]) for mutation in table for test in mutation.tests}
    files = {name for name, _ in wanted}
    functions = {
        (name, node.name)
        for name in files
        for node in ast.parse((ROOT / name).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert wanted - functions == {(name, "") for name in files if (name, "") in wanted}


# -- the program, on a project of two files --------------------------------------------------------


@pytest.fixture
def project(script, tmp_path, monkeypatch):
    """project(entries): a project with a table of such mutations; `main` then takes it."""

    def make(*entries):
        for name, text in {"tiny.py": PRODUCT, "test_tiny.py": TEST, ".gitignore": "out\n"}.items():
            (tmp_path / name).write_text(text)
        (tmp_path / "out").mkdir()
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
        lines = []
        for fault, old, new, more in entries:
            values = {"fault": fault, "file": "tiny.py", "old": old, "new": new, **more}
            entry = {"tests": ["test_tiny.py::test_product"], **values}
            lines += ["[[sums]]", *(f"{key} = {json.dumps(value)}" for key, value in entry.items())]
        (tmp_path / "table.toml").write_text("\n".join(lines))
        return tmp_path

    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "TABLE", "table.toml")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # which takes longer than the tests
    return make


WRONG = ("a sum", "a * b", "a + b", {})
OTHER = ("the other way round", "a * b", "b * a", {})
EQUIVALENT = ("by the factors' order", "a * b", "b * a", {"equivalent": "a product has no order"})
HANGS = ("for ever", "return a * b", "while True: pass", {})


def test_what_is_killed_and_what_survives(script, project, tmp_path, capsys):
    tree = project(WRONG, OTHER, EQUIVALENT)
    found = tmp_path / "out" / "found.json"
    assert script.main(["--jobs", "2", "--output", str(found)]) == 1
    rows = {row["name"].removeprefix("sums: "): row for row in json.loads(found.read_text())}
    assert {fault: (row["verdict"], row["by"]) for fault, row in rows.items()} == {
        WRONG[0]: ("killed", "test_tiny.py::test_product"),
        OTHER[0]: ("SURVIVED", ""),
        EQUIVALENT[0]: ("equivalent", "a product has no order"),
    }
    assert (tree / "tiny.py").read_text() == PRODUCT
    lines = capsys.readouterr().out.splitlines()
    start = "sums: a sum | tiny.py:2 | return a * b -> return a + b | killed | test_tiny.py::test_"
    assert sum(line.startswith(start) for line in lines) == 1
    assert lines[-1] == "3 mutations: 1 killed, 1 equivalent, 1 survived"


def test_what_hangs_is_ended_and_killed(script, project, tmp_path, monkeypatch):
    project(HANGS)
    monkeypatch.setattr(script, "SECONDS", 2)
    (mutation,) = script.read_table(tmp_path / "table.toml")
    row = script.Copy(tmp_path, tmp_path / "out").trial(mutation, tmp_path / "out")
    assert (row["verdict"], row["by"]) == ("killed", "no end after 2 s")


def test_the_end_of_a_table(script, project, tmp_path, capsys):
    project((*WRONG[:3], {"equivalent": "so it is said"}), OTHER, EQUIVALENT)
    table = script.read_table(tmp_path / "table.toml")

    def code(*verdicts, before=()):
        rows, old = (
            [{"name": m.name, "verdict": verdict} for m, verdict in zip(table, found, strict=False)]
            for found in (verdicts, before)
        )
        return script.conclude(rows, table, old)

    assert code("equivalent", "killed", "equivalent") == 0
    assert code("equivalent", "SURVIVED", "equivalent") == 1
    assert code("killed", "killed", "equivalent") == 1
    said = f"killed, and called equivalent in table.toml: sums: {WRONG[0]}"
    assert said in capsys.readouterr().out
    same = "equivalent", "killed", "equivalent"
    assert code(*same, before=["SURVIVED", "SURVIVED", "equivalent"]) == 0
    assert code(*same, before=["equivalent", "killed", "killed"]) == 1
    assert f"killed before, and not now: sums: {EQUIVALENT[0]}" in capsys.readouterr().out


def test_tests_that_fail_as_it_is_prove_nothing(script, project, tmp_path, capsys):
    project(WRONG)
    (tmp_path / "test_tiny.py").write_text(TEST.replace("6", "7"))
    assert script.main([]) == 2
    assert "without any fault there is a failure: test_tiny.py::test_product" in error(capsys)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (("gone", "a / b", "a + b", {}), "'sums: gone': old stands 0 times in tiny.py, not once"),
        (("twice", "a", "b", {}), "'sums: twice': old stands"),
        (("moved", "a * b", "a + b", {"file": "large.py"}), "'sums: moved': there is no large.py"),
        (("same", "a * b", "a * b", {}), "'sums: same': new must change one line"),
        (("long", "a * b", "a +\\\n b", {}), "'sums: long': new must change one line"),
        (
            ("odd", "a * b", "a + b", {"test": "x"}),
            "'sums: odd': Mutation.__new__() got an unexpected",
        ),
    ],
)
def test_an_entry_that_does_not_fit_is_named_before_anything_runs(
    script, project, entry, words, monkeypatch, capsys
):
    project(entry)
    monkeypatch.setattr(script, "prove", None)
    assert script.main([]) == 2
    assert words in error(capsys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--jobs", "0"], "--jobs must be 1 or more; found 0"),
        (["--jobs", "x"], "--jobs"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["--only", "nothing"], "no fault has 'nothing'"),
        (["--tree", "nowhere"], "there is no tiny.py"),
        (["--compare", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(script, project, options, words, capsys):
    project(WRONG)
    assert script.main(options) == 2
    assert words in error(capsys)


def error(capsys):
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("prove_tests: ")
    return line
