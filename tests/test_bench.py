"""scripts/bench: what is measured, read from asv's files, judged and said; and the proof."""

import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
TOOLS = SCRIPTS / "benchtools"
PROOF_SECONDS = 3600


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The programs import what lies beside them."""
    folders = [str(TOOLS), str(SCRIPTS)]
    sys.path[:0] = folders
    yield
    for folder in folders:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def verdict():
    return import_module("verdict")


@pytest.fixture(scope="module")
def commits():
    return import_module("commits")


@pytest.fixture(scope="module")
def quick():
    return import_module("quick")


@pytest.fixture(scope="module")
def bench():
    """The command line; the name `__main__` is taken, so it is loaded by another one."""
    spec = importlib.util.spec_from_file_location("bench_commands", TOOLS / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def proof():
    return import_module("prove_bench")


@pytest.fixture
def run(verdict):
    """run(instructions=1.3, beside=1.0, ...): results of base and head for a kernel `k`."""

    def make(name="k", **changes):
        sides = []
        for head in (False, True):
            side = {kind: {} for kind in verdict.KINDS.values()}
            for kind, change in changes.items():
                if change is not None:
                    value = 2.0 * (change if head else 1)
                    side[kind][name] = verdict.Value(value, 0.98 * value, 1.02 * value)
            sides.append(side)
        return tuple(sides)

    return make


def _only(verdict, runs):
    (one,) = verdict.judge(runs)
    return one


# -- judging ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counted", "timed", "expected"),
    [
        (1.0, 1.0, "same"),
        (1.3, 1.3, "slower"),
        (1.3, 1.0, "slower"),  # counts have no noise
        (1.04, 1.0, "slower"),
        (1.02, 1.1, "same"),
        (0.5, 0.5, "faster"),
        (0.9, 1.0, "faster"),
        (1.0, 1.3, "slower"),  # where data lies may cost time
        (1.0, 0.7, "faster"),
        (1.2, 0.7, "faster"),  # more instructions that take less time
        (0.8, 1.4, "slower"),
        (None, 1.3, "slower"),
        (None, 1.1, "same"),
    ],
)
def test_counts_and_times_together_make_the_verdict(verdict, run, counted, timed, expected):
    runs = [run(instructions=counted, beside=timed)] * 3
    assert _only(verdict, runs).verdict == expected


def test_what_times_alone_say_must_be_said_each_time(verdict, run):
    noisy, quiet = run(instructions=1.0, beside=1.4), run(instructions=None, beside=1.05)
    again = run(instructions=None, beside=1.4)
    assert verdict.open_questions([noisy]) == ["k"]
    assert verdict.open_questions([noisy, quiet]) == []
    assert verdict.open_questions([noisy, again]) == ["k"]
    assert _only(verdict, [noisy, quiet]).verdict == "same"
    assert _only(verdict, [noisy, again, quiet]).verdict == "same"
    slower = _only(verdict, [noisy, again, again])
    assert slower.verdict == "slower"
    assert slower.confidence == "high: timed, 3 of 3 runs"


def test_slower_and_then_faster_is_the_same(verdict, run):
    assert _only(verdict, [run(beside=1.4), run(beside=0.6)]).verdict == "same"


def test_the_base_itself_is_the_better_yardstick(verdict, run):
    assert _only(verdict, [run(beside=1.0, reference=1.4, peak=1.4)]).verdict == "same"
    assert _only(verdict, [run(beside=1.4, reference=1.0)]).verdict == "slower"


def test_without_a_base_that_runs_both_other_ratios_must_say_so(verdict, run):
    assert _only(verdict, [run(reference=1.4)]).verdict == "slower"
    assert _only(verdict, [run(reference=1.4, peak=1.0)]).verdict == "same"
    assert _only(verdict, [run(reference=1.4, peak=1.3)]).verdict == "slower"
    assert _only(verdict, [run(reference=1.4, peak=0.6)]).verdict == "same"


@pytest.mark.parametrize(
    ("counted", "timed", "once", "twice"),
    [
        (1.0, 1.0, [], []),
        (1.3, 1.3, ["k"], []),  # once more, for the ratios that are printed beside it
        (1.3, 1.0, ["k"], []),
        (1.3, 0.7, ["k"], ["k"]),
        (None, 1.3, ["k"], ["k"]),
        (1.0, None, ["k"], []),  # no base beside it: other ratios are asked
    ],
)
def test_what_is_measured_again(verdict, run, counted, timed, once, twice):
    runs = [run(instructions=counted, beside=timed)]
    assert verdict.open_questions(runs) == once
    assert verdict.open_questions(runs * 2) == twice


def test_a_failed_benchmark_is_reported(verdict, run):
    base, head = run(instructions=1.0, beside=1.0)
    missing = (base, {kind: {} for kind in head})
    assert _only(verdict, [missing]).verdict == "failed"
    head["beside"]["k"] = verdict.Value(*[math.nan] * 3)
    failed = _only(verdict, [(base, head)])
    assert failed.verdict == "failed"
    assert failed.verdict in verdict.BAD


def test_a_new_kernel_is_no_change(verdict, run):
    base, head = run(instructions=1.0, beside=1.0)
    new = ({kind: {} for kind in base}, head)
    assert _only(verdict, [new]).verdict == "same"


def test_a_kernel_that_no_benchmark_could_measure_is_reported(verdict, run):
    base, head = run(instructions=1.0)
    for side in (base, head):
        side["instructions"]["k"] = verdict.Value(*[math.nan] * 3)
    assert _only(verdict, [(base, head)]).verdict == "failed"


def test_where_the_base_cannot_run_beside_the_head_other_ratios_are_asked(verdict, run):
    base, head = run(beside=1.0, reference=1.4)
    del base["beside"]["k"], head["beside"]["k"]
    assert _only(verdict, [(base, head)]).verdict == "slower"


def test_a_kernel_that_failed_before_is_no_failure_now(verdict, run):
    base, head = run(instructions=1.0, beside=1.0)
    base["beside"]["k"] = verdict.Value(*[math.nan] * 3)
    assert _only(verdict, [(base, head)]).verdict == "same"


def test_the_worst_comes_first(verdict, run):
    base, head = run("a")
    for name, change in {"a": 1.0, "b": 0.5, "c": 2.0}.items():
        for side, factor in ((base, 1), (head, change)):
            side["instructions"][name] = verdict.Value(*[8 * factor] * 3)
    assert [one.subject for one in verdict.judge([(base, head)])] == ["c", "b", "a"]


# -- reading ---------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path):
    """results(commit, {benchmark: (params, values)}): a file as asv writes it."""
    from asv.results import Results
    from asv.runner import BenchmarkResult

    def write(commit, found):
        made = Results({"machine": "m"}, {}, commit, 0, "3.11", "env", {})
        for name, (params, values, samples) in found.items():
            benchmark = {"name": name, "version": "1", "params": params, "type": "track"}
            number = [1 if one else None for one in samples]
            made.add_result(
                benchmark, BenchmarkResult(values, samples, number, 0, "", None),
                record_samples=True,
            )  # fmt: skip
        made.save(str(tmp_path))
        return tmp_path

    return write


def test_asv_s_own_files_are_read(verdict, results):
    params = [["'sigmoid'", "'sgd_epoch wide dense'"], ["'float32'", "'float64'"]]
    samples = [[1.0, 2.0, 3.0], None, None, None]
    folder = results(
        "abcdef0123" * 4,
        {
            "ratios.Reference.track_reference": (params, [True, math.nan, None, math.nan], samples),
            "counts.Instructions.track_instructions": ([["'sigmoid'"]], [1234], [None]),
            "network.time_something": ([["'sigmoid'"]], [1.0], [None]),
        },
    )
    found = verdict.read(folder, "abcdef0123" * 4)
    assert found["instructions"] == {"sigmoid": (1234, 1234, 1234)}
    assert found["reference"]["sigmoid"].median == 2
    assert found["reference"]["sigmoid"].low < 2 < found["reference"]["sigmoid"].high
    assert math.isnan(found["reference"]["sgd_epoch wide dense"].median)  # failed
    assert found["peak"] == {}
    assert verdict.read(folder, "0" * 40)["reference"] == {}


def test_compare_asks_for_what_it_reads(commits, verdict):
    """First for counts, for the base and for one plain time; for a kernel's ratios by its name."""
    name = "sgd_epoch online dense"
    first = {
        f"counts.Instructions.track_instructions('{name}')": True,
        f"beside.Base.track_base('{name}')": True,
        "training.Epoch.time_epoch('online', 'zeros', 'numba', 'float32', 1)": True,
        "training.Epoch.time_epoch('online', 'zeros', 'numba', 'float32', 2)": False,
        "training.SpeedUp.track_speed_up('online', 'zeros')": False,
        f"ratios.Reference.track_reference('{name}', 'float32')": False,
    }
    again = {
        f"beside.Base.track_base('{name}')": True,
        f"ratios.Reference.track_reference('{name}', 'float32')": True,
        f"ratios.Peak.track_peak('{name}', 'float32')": True,
        f"ratios.Peak.track_peak('{name}', 'float64')": False,
        "beside.Base.track_base('sgd_epoch online')": False,
        f"counts.Instructions.track_instructions('{name}')": False,
    }
    asked = set()
    for patterns, expected in ((commits.FIRST, first), (verdict.patterns([name]), again)):
        assert {n: any(re.search(p, n) for p in patterns) for n in expected} == expected
        asked |= {n.split("(")[0] for n, chosen in expected.items() if chosen}
    assert asked == set(verdict.KINDS)


# -- telling ---------------------------------------------------------------------------------------


def test_the_table_names_what_changed_and_nothing_else(verdict, run):
    runs = [run(instructions=1.3, beside=1.25)]
    for side in runs[0]:
        side["beside"]["other"] = verdict.Value(1, 1, 1)
    text = verdict.text(verdict.judge(runs), runs, "b1 Base", "h1 Head")
    rows = [line for line in text.splitlines() if line.startswith("| slower")]
    (row,) = rows
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "slower", "k", "+30.0 %", "+25 % (+20 to +30)", "-", "-", "certain: counted and timed",
    ]  # fmt: skip
    assert "1 of 2 kernels are as fast as before." in text
    assert "valgrind" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1  # columns stand below each other


def test_without_counts_the_reader_is_told(verdict, run):
    runs = [run(beside=1.0)]
    assert "takes valgrind" in verdict.text(verdict.judge(runs), runs, "b", "h")


# -- the command line ------------------------------------------------------------------------------


@pytest.fixture
def measuring(commits, monkeypatch, run, tmp_path):
    """measuring(runs): `compare` finds these instead of running asv; returns what was asked for."""

    def pretend(*runs):
        asked, left = [], list(runs)

        def measured(base, head, patterns):
            asked.append(patterns)
            return left.pop(0)

        monkeypatch.setattr(commits, "measured", measured)
        monkeypatch.setattr(commits, "ready", lambda: None)
        monkeypatch.setattr(commits, "sources", lambda name, folder: folder)
        monkeypatch.setenv(commits.SOURCES, "")  # and take it away again
        monkeypatch.setattr(commits, "LOG", tmp_path / "compare.log")
        monkeypatch.setattr(commits, "git", lambda *words: words[-1])
        monkeypatch.setattr(commits, "commit", lambda name: name)
        return asked

    return pretend


def test_a_regression_is_exit_code_1(bench, commits, measuring, run, capsys):
    asked = measuring(*[run(instructions=1.3, beside=1.3)] * 2)
    assert bench.main(["compare"]) == 1
    assert asked[0] == commits.FIRST
    assert len(asked) == 2
    assert "| slower | k" in capsys.readouterr().out


def test_an_improvement_is_exit_code_0(bench, measuring, run, capsys):
    measuring(*[run(instructions=0.5, beside=0.5)] * 2)
    assert bench.main(["compare", "other"]) == 0
    out = capsys.readouterr().out
    assert "| faster | k" in out
    assert "Base: other" in out


def test_doubts_are_measured_again_and_only_they(bench, commits, verdict, measuring, run, capsys):
    asked = measuring(run(instructions=1.0, beside=1.4), run(beside=1.0))
    assert bench.main(["compare"]) == 0
    assert asked == [commits.FIRST, verdict.patterns(["k"])]
    asked = measuring(run(beside=1.4), run(beside=1.4), run(beside=1.4))
    assert bench.main(["compare"]) == 1
    assert len(asked) == commits.MOST_RUNS
    assert "3 of 3 runs" in capsys.readouterr().out


def test_nothing_measured_is_no_success(bench, measuring, run, capsys):
    measuring(run())
    assert bench.main(["compare"]) == 2
    assert "compare.log" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["compare", "--upload-pack=x"], "--upload-pack"),
        (["quick", "main"], "takes no commit"),
        (["fast"], "invalid choice"),
        (["compare", "HEAD"], "name another"),
        (["compare", "no-such-commit"], "no-such-commit"),
    ],
)
def test_an_unusable_command_line_is_one_line_and_exit_code_2(
    bench, commits, words, part, tmp_path, monkeypatch, capfd
):
    """On a repository of its own, as the sources may come without one."""
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        who = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
        subprocess.run(["git", *who, *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(commits, "ROOT", tmp_path)
    try:
        code = bench.main(words)
    except SystemExit as end:
        code = end.code
    out, err = capfd.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert part in err


def test_help_needs_nothing_installed():
    """Nor does it read what is: -S leaves all packages out."""
    command = [sys.executable, "-I", "-S", str(TOOLS), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "scripts/bench compare" in done.stdout


# -- asv -------------------------------------------------------------------------------------------


def test_results_of_a_comparison_go_elsewhere(commits, tmp_path):
    """The kept results are those of whole runs; all other folders stay the project's."""
    config = commits.elsewhere(tmp_path)
    assert config["results_dir"].startswith(str(tmp_path))
    assert config["env_dir"] == str(commits.BENCHMARKS / "env")
    assert Path(config["benchmark_dir"]).is_dir()
    assert config["launch_method"] == "forkserver"
    assert "--no-deps" in config["build_command"][0]
    json.dumps(config)


def test_asv_has_nothing_to_ask(commits, monkeypatch, tmp_path, capsys):
    """Without a description of the machine it asks for one, or gives up."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(commits, "git", lambda *words: "")
    commits.ready()
    known = commits.Machine.load(interactive=True)
    assert known.machine == commits.Machine.get_unique_machine_name()
    assert capsys.readouterr().out == ""


def test_git_ignores_all_that_asv_writes(commits, tmp_path):
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    config = commits.Config.load(str(commits.BENCHMARKS / "asv.conf.json"))
    places = [
        f"asv_benchmarks/{folder}/file"
        for folder in (config.env_dir, config.results_dir, config.html_dir)
    ]
    command = ["git", "check-ignore", *places]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == places


# -- quick -----------------------------------------------------------------------------------------


def test_a_kernel_slower_than_numpy_is_named_and_exit_code_1(bench, quick, monkeypatch, capsys):
    made_up = {"sigmoid": (1.5, None), "affine": (0.9, 0.456), "sgd_epoch wide dense": (0.5, 0.3)}
    monkeypatch.setattr(quick, "KERNELS", tuple(made_up))
    monkeypatch.setattr(quick, "measured", lambda name: quick.Figures(name, 2e-6, *made_up[name]))
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert bench.main(["quick"]) == 1
    *table, empty, verdict = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert cells[2:] == [
        ["sigmoid", "2.0", "1.5", ""],
        ["affine", "2.0", "0.9", "46"],
        ["sgd_epoch wide dense", "2.0", "0.5", "30"],
    ]
    assert len({len(line) for line in table}) == 1  # columns stand below each other
    assert empty == ""
    assert "slower" in verdict
    assert "affine, sgd_epoch wide dense" in verdict
    assert "sigmoid" not in verdict
    made_up |= {"affine": (1.1, 0.5), "sgd_epoch wide dense": (1.1, 0.5)}
    assert bench.main(["quick"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("ok: all 3 kernels")


@pytest.mark.slow
def test_quick_prints_a_table_and_a_verdict_and_leaves_nothing(quick, tmp_path):
    """On a copy of the sources: neither git nor asv is needed, and the copy stays as it is."""
    parts = ("fastbp", "scripts/benchtools", "asv_benchmarks/benchmarks")
    for part in parts:
        leave_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=leave_out)
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "scripts/benchtools", "quick"], cwd=tmp_path, text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, stdin=subprocess.DEVNULL,
        capture_output=True,
    )  # fmt: skip
    *table, empty, verdict = done.stdout.splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == list(quick.KERNELS)
    assert len(table) <= 12
    assert "n/a" not in done.stdout
    assert empty == ""
    # How fast the kernels are is no matter here.
    assert verdict.startswith("ok: " if done.returncode == 0 else "slower than")
    assert done.returncode in (0, 1)
    assert sorted(tmp_path.rglob("*")) == before


# -- the proof -------------------------------------------------------------------------------------


def test_every_mutant_finds_its_function(proof):
    """Renamed, it must be renamed there too."""
    for mutant in [*proof.SLOWER, proof.FASTER]:
        path = ROOT / proof.KERNELS / mutant.file
        source = path.read_text(encoding="utf-8")
        mutated = proof.slowed(source, mutant, 3)
        compile(mutated, mutant.file, "exec")
        assert mutated.count("_wasted_pass") == 2  # one made, one called
        assert f"_wasted_pass({mutant.data})" in mutated
    assert len({mutant.kernel for mutant in proof.SLOWER}) == 3


def test_a_mutant_of_nothing_is_an_error(proof):
    mutant = proof.SLOWER[0]._replace(function="gone")
    with pytest.raises(ValueError, match="has no function gone"):
        proof.slowed("def here():\n    pass\n", mutant, 3)


@pytest.mark.long
@pytest.mark.timing
@pytest.mark.timeout(PROOF_SECONDS)
def test_the_proof(proof, capsys):
    """Ten times no change, three regressions by name, one improvement."""
    with capsys.disabled():
        assert proof.main([]) == 0
