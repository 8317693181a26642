"""scripts/compare_peers.py: what is counted and compared, missing and dying peers, a small race."""

import json
import platform
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import compare_peers
import marks
import peers
from peers import chart, keep, race, report, work

PROGRAMS = Path(__file__).parent / "programs"


def entry(name, rate, threads=1, check=1.0, status="ok"):
    piece = {"rate": rate, "seconds": 1.0, "cpu_seconds": 1.0, "n": 1, "check": check}
    return {
        "name": name, "status": status, "reason": "" if status == "ok" else f"why {name}",
        "threads": threads, "rate": rate, "median": rate, "check": check, "steady": None,
        "slices": [piece] if status == "ok" else [],
    }  # fmt: skip


@pytest.fixture
def result():
    """result(entries, ...): what a race of `nielsen` would give; each entry is its arguments."""

    def make(*entries, name="nielsen", cores=(1,)):
        fields = json.loads(json.dumps(work.WORKLOADS[name]._asdict()))
        entries = [entry(*values) for values in entries]
        return {
            "name": name, "work": fields, "data": "made up", "cores": list(cores), "pinned": True,
            "asked": list(dict.fromkeys(e["name"] for e in entries)),
            "gauges": ["fma-peak", "activations"],
            "entries": [*entries, entry("fma-peak", 2e11), entry("activations", 4e7)],
        }  # fmt: skip

    return make


# -- tables and counts -----------------------------------------------------------------------------


def test_figures_are_those_to_reach():
    """As issue 19 has them: must, aim; of two cores, what the second gains; shares of the peak."""
    assert {name: tuple(f for f in row if f) for name, row in work.FIGURES.items()} == {
        "online": (12, 16),
        "deep1": (4, 6),
        "nielsen": (4.5, 6, 5, 6.5, 1.1),
        "twolayer": (2.7, 3.5, 2.8, 3.5, 1.5),
        "wide": (1.35, 1.7, 1.3, 1.6, 1.6),
        "online-dense": (4, 6),
        "deep1-dense": (2.2, 3),
        "nielsen-dense": (3, 4, 3, 4, 1.1),
        "twolayer-dense": (1.4, 1.8, 1.5, 2, 1.5),
        "wide-dense": (1.05, 1.15, 1.05, 1.2, 1.75, 0.8, 0.88),
        "surrogate": (1.9, 2.5, 2.4, 3, 1.8),
        "gradient64": (2, 2.5),
        "predict1": (2, 3),
        "predict10000": (1.2, 1.35, 1.05, 1.2, 1.6),
        "estimator-adam": (4, 6),
        "estimator-sgd": (4, 6),
        "estimator-digits": (3.5, 4.5),
    }
    assert work.HELD_FIGURES == {
        "online": (10, None),
        "nielsen": (4, None),
        "twolayer": (2.5, None),
        "twolayer-dense": (1.2, None),
        "wide-dense": (0.95, 0.85),
    }
    assert set(work.FIGURES) | set(work.HELD_FIGURES) <= set(work.WORKLOADS)


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        # 784 x 30 + 30 x 10 weights forward and in the update, 30 x 10 in the delta
        ("nielsen", 2 * 23_820 + 2 * 23_820 + 2 * 300),
        ("deep1-dense", 4 * (78_400 + 10_000 + 1_000) + 2 * 11_000),
        ("wide", 4 * 668_672 + 2 * 267_264),
        ("gradient64", 200 * (4 * (192 + 16) + 2 * 16)),
        ("predict1", 2 * 23_820),
        ("predict10000", 10_000 * 2 * 23_820),
    ],
)
def test_operations(name, flops):
    assert work.WORKLOADS[name].flops == flops


@pytest.mark.parametrize(
    ("name", "rate", "figure"),
    [
        ("nielsen", 1234.0, "1,234"),  # samples a second
        ("surrogate", 2e7, "500"),  # samples a second; microseconds a step of 10,000
        ("gradient64", 8e4, "12.5"),  # calls a second; microseconds
        ("predict10000", 400, "2.5"),  # calls a second; milliseconds
    ],
)
def test_units(name, rate, figure):
    assert report.shown(work.WORKLOADS[name], rate) == figure


def test_dense_inputs_have_no_zeros_and_others_the_share_asked_for(rng):
    w = work.Workload((40, 3), data="gauss", samples=500)
    assert np.count_nonzero(work.inputs(w, None, rng)) == 20_000
    few = work.inputs(w._replace(density=0.25), None, rng)
    assert np.count_nonzero(few) / few.size == pytest.approx(0.25, abs=0.02)


# -- ratios and verdicts ---------------------------------------------------------------------------


def test_the_better_number_of_threads_counts(result):
    found = result(("fastbp", 90, 1), ("fastbp", 120, 2), ("jax", 40, 1), ("jax", 30, 2))
    assert report.standing(found)["fastbp"]["threads"] == 2
    assert report.standing(found)["jax"]["threads"] == 1
    assert report.ratio(found, "fastbp", "jax") == 3


def test_the_best_peer_is_another_and_no_gauge(result):
    assert report.best_peer(result(("fastbp", 90), ("torch", 5), ("jax", 40))) == "jax"
    assert report.best_peer(result(("fastbp", 90))) is None
    died = result(("fastbp", 90), ("jax", 40, 1, 1.0, "failed"), ("torch", 5))
    assert report.best_peer(died) == "torch"
    assert report.ratio(died, "fastbp", "jax") is None


def test_shares(result):
    found = result(("fastbp", 1e6, 1), ("jax", 1e5))
    assert report.peak(found) == pytest.approx(200)
    assert report.share_of_peak(found, "fastbp") == pytest.approx(95.88 / 200)
    assert report.activation_share(found) == pytest.approx(1e6 / 4e7)
    spread = result(("fastbp", 1e6, 2), ("jax", 1e5), cores=(0, 1))
    assert report.activation_share(spread) == pytest.approx(1e6 / 4e7 / 2)


def test_verdicts(result):
    found = result(("fastbp", 50), ("jax", 10))
    assert report.verdicts(found) == [(True, "to jax", 5.0, 4.5), (False, "to jax", 5.0, 6)]
    columns = result(("fastbp", 50), ("jax-columns", 25), ("jax", 10), name="surrogate")
    assert report.verdicts(columns)[0] == (True, "to jax-columns", 2.0, 1.9)
    shares = report.verdicts(result(("fastbp", 5e4), ("jax", 1e4), name="wide-dense"))
    share = 5e4 * 3_209_216 / 2e11
    assert shares[2] == (True, "of the FMA peak", pytest.approx(share), 0.8)
    assert report.verdicts({**found, "name": "custom"}) == []


def test_verdicts_on_two_cores(result):
    two = result(("fastbp", 40, 1), ("fastbp", 50, 2), ("jax", 10), cores=(0, 1))
    words = "with the second core to without"
    assert report.verdicts(two) == [
        (True, "to jax", 5.0, 5), (False, "to jax", 5.0, 6.5), (True, words, 1.25, 1.1)
    ]  # fmt: skip
    slower = result(("fastbp", 50, 1), ("fastbp", 40, 2), ("jax", 10), cores=(0, 1))
    assert report.verdicts(slower)[2] == (True, words, 0.8, 1.1)
    alone = result(("fastbp", 50, 1), ("jax", 10), cores=(0, 1))
    assert report.verdicts(alone)[2] == (True, words, None, 1.1)


def test_verdicts_of_what_is_held_to_avx2(result):
    found = {**result(("fastbp", 5e4), ("jax", 4e4), name="wide-dense"), "held": "avx2"}
    share = pytest.approx(5e4 * 3_209_216 / 2e11)
    rows = [(True, "to jax", 1.25, 0.95), (True, "of the FMA peak", share, 0.85)]
    assert report.verdicts(found) == rows
    assert report.cores_words(found) == "one core, held to AVX2"
    assert report.verdicts({**found, "name": "surrogate"}) == []


def test_a_must_missed_is_a_problem_only_when_checked(result):
    short, enough = (result(("fastbp", rate), ("jax", 10)) for rate in (44, 46))
    assert report.problems([short], check=False) == []
    assert report.problems([enough], check=True) == []  # the aim may be missed
    (line,) = report.problems([enough, short], check=True)
    assert line == "nielsen: must be 4.5 to jax; 4.40"


@pytest.mark.parametrize("status", ["missing", "failed"])
def test_a_ratio_without_all_peers_proves_nothing(result, status):
    found = result(("fastbp", 100), ("torch", 10), ("jax", 0, 1, 0.0, status))
    assert report.problems([found], check=False) == []
    (line,) = report.problems([found], check=True)
    assert line == "nielsen: not proven without jax"


def test_a_peer_without_such_work_is_no_problem(result):
    found = result(("fastbp", 100), ("torch", 10), ("sklearn", 0, 1, 0.0, "not applicable"))
    assert report.problems([found], check=True) == []
    assert "NOT APPLICABLE: why sklearn" in report.text(found)


def test_fastbp_that_fails_is_a_problem(result):
    found = result(("fastbp", 0, 1, 0.0, "failed"), ("torch", 10))
    assert report.problems([found], check=False) == ["nielsen: fastbp did not run"]
    assert "FAILED: why fastbp" in report.text(found)


@pytest.mark.parametrize(("other", "agree"), [(1.04, True), (1.06, False), (float("nan"), False)])
def test_losses_must_agree(result, other, agree):
    found = result(("fastbp", 100, 1, 1.0), ("torch", 10, 1, other), ("jax", 10, 1, 1.0))
    assert (report.problems([found], check=False) == []) == agree
    assert ("DO NOT DO THE SAME WORK" in report.text(found)) != agree


def test_cores_that_others_used_are_named(result):
    found = result(("fastbp", 100), ("torch", 10))
    assert "OTHER PROGRAMS" not in report.text(found)
    for one in found["entries"]:
        for piece in one["slices"]:
            piece["cpu_seconds"] = 0.6
    assert "OTHER PROGRAMS RAN ON THE SAME CORES: the peers had them 60%" in report.text(found)


# -- command line ----------------------------------------------------------------------------------


@pytest.fixture
def staged(result, monkeypatch):
    """staged(rate): `main` on a race in which jax has rate 10."""
    monkeypatch.setattr(compare_peers, "images_for", lambda workloads: None)

    def stage(rate):
        found = result(("fastbp", rate), ("jax", 10))
        monkeypatch.setattr(compare_peers, "run", lambda name, *_: {**found, "name": name})

    return stage


def test_exit_codes(staged, capsys):
    staged(44)
    assert compare_peers.main(["--work", "nielsen"]) == 0
    assert compare_peers.main(["--work", "nielsen", "--check"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "nielsen: must be 4.5 to jax; 4.40"
    staged(46)
    assert compare_peers.main(["--work", "nielsen", "--check"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--work", "nielsen,nothing"], "'nielsen,nothing': take some of online"),
        (["--peers", "caffe"], "'caffe': take some of fastbp"),
        (["--batch", "3"], "--batch goes with --sizes"),
        (["--sizes", "784"], "two layers or more"),
        (["--sizes", "4,2", "--batch", "9", "--samples", "8"], "--batch goes up to --samples"),
        (["--sizes", "4,2", "--density", "1.5"], "--density up to 1"),
        (["--rounds", "0"], "not positive"),
        (["--cores", "9999"], "--threads 1 wants as many of the cores"),
    ],
)
def test_unusable_options(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        compare_peers.options_of(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_workload_of_ones_own():
    words = "--sizes 784,13,10 --batch 33 --density 0.5 --activation relu --loss cross-entropy"
    options = compare_peers.options_of([*words.split(), "--dtype", "float64", "--samples", "500"])
    (own,) = options.workloads.values()
    assert own[:4] == ((784, 13, 10), "relu", "cross-entropy", 33)
    assert (own.dtype, own.density, own.samples, own.data) == ("float64", 0.5, 500, "gauss")
    assert own.output == "softmax"


# -- what is kept, README and picture --------------------------------------------------------------

ABOUT = {
    "cpu": "a CPU", "cpu_name": "znver4", "kind": "zen4", "date": "2025-01-31T12:00:00",
    "versions": {"numpy": "9.9"},
}  # fmt: skip


BEGIN, END = "<!-- peers -->\n", "<!-- /peers -->\n"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """What is kept, and what is written from it, in a folder of its own."""
    for name, file in (("README", "README.md"), ("TABLES", "tables.md"), ("PICTURE", "peers.svg")):
        monkeypatch.setattr(keep, name, tmp_path / file)
    monkeypatch.setattr(keep, "KEPT", tmp_path / "kept")
    for file in (keep.README, keep.TABLES):
        file.write_text(f"before\n{BEGIN}old\n{END}behind\n")
    return tmp_path


def test_results_are_kept_by_kind_of_cpu(result, shelf):
    first = result(("fastbp", 50), ("jax", 10))
    two = result(("fastbp", 90), ("jax", 20), cores=(0, 1))
    held = {**first, "held": "avx2"}
    other = result(("fastbp", 7), ("jax", 10), name="online")
    own = {**first, "name": "custom"}
    keep.keep([first, two, own], ABOUT)
    keep.keep([held, other], {**ABOUT, "date": "2025-02-01T12:00:00"})
    keep.keep([result(("fastbp", 60), ("jax", 10))], ABOUT)  # once more: in place of the first
    keep.keep([other], {**ABOUT, "kind": "neon", "cpu": "another"})
    found = keep.kept()
    assert [keep.place(r) for r in found["zen4"]] == [
        ("online", 1, ""), ("nielsen", 1, ""), ("nielsen", 1, "avx2"), ("nielsen", 2, "")
    ]  # fmt: skip
    assert [report.standing(r)["fastbp"]["rate"] for r in found["zen4"]] == [7, 60, 50, 90]
    assert found["zen4"][0]["about"]["date"][:10] == "2025-02-01"
    assert [r["about"]["cpu"] for r in found["neon"]] == ["another"]
    assert "slices" not in found["neon"][0]["entries"][0]


def test_the_tables_say_what_was_measured_where(result, shelf):
    fields = ("fastbp", 50), ("jax", 10), ("torch", 0, 1, 0.0, "missing")
    two = result(("fastbp", 40, 1), ("fastbp", 42, 2), ("jax", 10), cores=(0, 1))
    keep.keep([result(*fields), result(("fastbp", 20), ("jax", 10), name="wide-dense"), two], ABOUT)
    text = keep.tables(keep.kept())
    assert "### zen4, one core\n\na CPU (znver4); 2025-01-31; numpy 9.9.\n" in text
    assert "| work | unit | fastbp | jax | ratio | FMA peak | must, aim |" in text
    assert "| nielsen | samples/s | 50 | 10 | 5.00 (jax) | – | 4.5, aim 6 |" in text
    assert "| 2.00 (jax) | 0% | 1.05, aim 1.15, 80%, aim 88% |" in text
    last = "| **4.20 (jax)** | – | 5, aim 6.5, second core **1.05** of 1.1 |"
    assert "\n### zen4, 2 cores\n" in text
    assert last in text
    assert "- `surrogate`: 4-32-16-4, tanh, quadratic, batch 10,000" in text


def test_the_readme_is_rewritten_between_its_marks(result, shelf):
    pytest.importorskip("matplotlib")
    found = result(("fastbp", 50), ("jax", 10))
    keep.keep([found, {**found, "name": "wide-dense"}], ABOUT)
    keep.keep([{**found, "name": "online"}], {**ABOUT, "kind": "neon", "cpu": "another"})
    for _ in range(2):
        assert compare_peers.main(["--readme"]) == 0
    text = keep.README.read_text()
    assert text.startswith(f"before\n{BEGIN}On one core (another, znver4), it trains 5 times ")
    assert "On one core (a CPU, znver4), it trains 5 times as fast as the best of\nJAX." in text
    assert text.endswith(f"{END}behind\n")
    assert "old" not in text
    tables = keep.tables(keep.kept())
    assert keep.TABLES.read_text() == f"before\n{BEGIN}{tables}{END}behind\n"
    drawn = keep.PICTURE.read_bytes()
    for words in (b">neon: another<", b">zen4: a CPU<", b">784-30-10, batch 10<", b"5\xc3\x97 JAX"):
        assert words in drawn
    compare_peers.main(["--readme"])
    assert keep.PICTURE.read_bytes() == drawn


@pytest.mark.skipif(not keep.KEPT.is_dir(), reason="an sdist has no results")
def test_the_pages_show_what_is_kept():
    found = keep.kept()
    for page, text in ((keep.README, keep.region(found)), (keep.TABLES, keep.tables(found))):
        head, tail = marks.split(page, keep.MARK)
        assert page.read_text(encoding="utf-8") == f"{head}{text}{tail}"


def test_bars_are_of_one_core_and_not_held(result):
    one, two = result(("fastbp", 50), ("jax", 10)), result(("fastbp", 9), ("jax", 1), cores=(0, 1))
    died = result(("fastbp", 0, 1, 0.0, "failed"), ("jax", 10), name="online")
    held = {**result(("fastbp", 30), ("jax", 10)), "held": "avx2"}
    assert list(chart.bars([two, one, held, died])) == [("nielsen", 5.0, "jax")]


def test_what_runs_elsewhere_wrote_is_merged(staged, shelf, capsys):
    """As `main` wrote it: the file is that of the CPU it ran on."""
    staged(46)
    file = shelf / "race.json"
    compare_peers.main(["--work", "nielsen,wide", "--json", str(file)])
    text = json.loads(file.read_text())
    text["about"]["kind"] = "intel"
    file.write_text(json.dumps(text))
    assert compare_peers.main(["--merge", str(file)]) == 0
    assert [r["name"] for r in keep.kept()["intel"]] == ["nielsen", "wide"]
    compare_peers.main(["--work", "nielsen", "--keep"])
    assert [r["name"] for r in keep.kept()[compare_peers.machine.KIND]] == ["nielsen"]


@pytest.mark.parametrize("text", ["", "{0}", "{1}", "{1}{0}", "{0}{0}{1}"])
def test_a_page_without_marks_is_refused(result, text, shelf):
    keep.keep([result(("fastbp", 50), ("jax", 10))], ABOUT)
    before = keep.README.read_text()
    keep.TABLES.write_text(text.format(BEGIN, END))
    with pytest.raises(ValueError, match=r"tables.md needs the lines <!-- peers --> and"):
        compare_peers.main(["--readme"])
    assert keep.README.read_text() == before
    assert keep.TABLES.read_text() == text.format(BEGIN, END)


def test_without_results_nothing_is_written(shelf):
    with pytest.raises(ValueError, match="nothing is kept"):
        compare_peers.main(["--readme"])


# -- processes -------------------------------------------------------------------------------------


def test_a_missing_peer_is_named_with_what_installs_it(result, monkeypatch):
    absent = peers.Peer("torch_", ("numpy", "no_such_package"))
    monkeypatch.setitem(race.PEERS, "torch", absent)
    said = []
    entries = race.entrants(["fastbp", "torch"], "train", [0, 1], said.append)
    (torch,) = (e for e in entries if e["name"] == "torch")
    words = "no_such_package not installed; to install: pip install --group peers"
    assert (torch["status"], torch["reason"]) == ("missing", words)
    assert said == [f"torch is missing: {words}"]
    assert [e["threads"] for e in entries if e["name"] == "fastbp"] == [1, 2]
    found = result(("fastbp", 10))
    found["entries"].append(torch)
    assert f"MISSING: {words}" in report.text(found)


def test_what_is_held_tells_every_library(monkeypatch):
    monkeypatch.setattr(race, "wider_features", lambda: "X86_V4")
    free, held = race.environment(1), race.environment(1, held=True)
    assert race.HELD.items() <= held.items()
    assert held["NPY_DISABLE_CPU_FEATURES"] == "X86_V4"
    assert held["XLA_FLAGS"] == free["XLA_FLAGS"] + " --xla_cpu_max_isa=AVX2"
    assert "avx2" not in str({name: free[name] for name in race.HELD if name in free}).lower()
    entries = race.entrants(["jax", "onnxruntime"], "predict", [0], str, held=True)
    found = {e["name"]: e["reason"] for e in entries}
    assert found["onnxruntime"] == "nothing holds onnxruntime to AVX2"
    assert found["jax"] != found["onnxruntime"]


def run_worker(*words, limit=30):
    """What becomes of a worker that fails."""

    class Failing(race.Worker):
        command = sys.executable, PROGRAMS / "failing_worker.py", *words

    worker = Failing(peers.PEERS["fastbp"], "", [0], 1)
    state = {"status": "ok"}
    race.attempt(state, lambda: worker.ask({}, limit))
    if state["status"] == "ok":
        race.attempt(state, lambda: worker.ask({"seconds": 1}, limit))
    worker.close()
    assert worker.process.poll() is not None
    return state


def test_a_worker_that_dies_is_reported_with_its_last_line():
    for answers in ("0", "1"):
        state = run_worker("dies", answers)
        assert state == {"status": "failed", "reason": "no memory left (exit code 1)"}


def test_a_worker_that_hangs_is_ended():
    state = run_worker("hangs", "0", limit=0.5)
    assert state == {"status": "failed", "reason": "no answer in 0.5 s"}


def small(*words):
    sizes = "--sizes 12,5,3 --batch 7 --samples 50 --rounds 2 --seconds 0.05".split()
    return [*sizes, *words]


def test_a_small_race(tmp_path, capsys):
    file = tmp_path / "race.json"
    names = ["fastbp", "numpy", "numpy-by-hand"]
    assert compare_peers.main(small("--peers", ",".join(names), "--json", str(file))) == 0
    found = json.loads(file.read_text())
    (result,) = found["results"]
    entries = {e["name"]: e for e in result["entries"]}
    assert list(entries) == [*names, "fma-peak", "activations"]
    for one in entries.values():
        assert (one["status"], one["reason"], len(one["slices"])) == ("ok", "", 2)
        assert one["rate"] == max(piece["rate"] for piece in one["slices"])
        assert all(0.02 < piece["seconds"] < 5 for piece in one["slices"])
    assert entries["fastbp"]["steady"] > entries["fastbp"]["rate"] > 0
    assert entries["fastbp"]["check"] == pytest.approx(entries["numpy"]["check"], rel=0.01)
    assert {"fastbp", "numpy", "Python"} <= set(found["about"]["versions"])
    out = capsys.readouterr().out
    assert "custom: 12-5-3, sigmoid, quadratic, batch 7, float32, 50 samples; Gaussian" in out
    assert all(f"\n  {name} " in out for name in names)
    assert "FMA peak" in out
    assert "activations take" in out


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86's names of vectors")
def test_held_to_avx2(tmp_path):
    """fastbp in its own process takes vectors of 32 bytes; so does the gauge."""
    file = tmp_path / "race.json"
    words = small("--peers", "fastbp,numpy-by-hand", "--held", "avx2", "--json", str(file))
    assert compare_peers.main(words) == 0
    (result,) = json.loads(file.read_text())["results"]
    assert result["held"] == "avx2"
    assert {e["status"] for e in result["entries"]} == {"ok"}
    program = "from fastbp.kernels.machine import CPU, KIND; print(CPU.vector_bytes, KIND)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=race.environment(1, held=True),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "32 avx2\n"


def test_a_peer_that_fails_leaves_the_others_running(monkeypatch, capsys):
    monkeypatch.setitem(race.PEERS, "jax", peers.Peer("no_such_module"))
    assert compare_peers.main(small("--peers", "numpy-by-hand,jax")) == 0
    out = capsys.readouterr().out
    assert "FAILED: ModuleNotFoundError: No module named 'peers.no_such_module'" in out
    assert "numpy-by-hand  " in out


# -- all do the same work --------------------------------------------------------------------------

TASKS = {
    "sigmoid": {"batch": 1, "samples": 60},
    "no biases": {"batch": 4, "samples": 60, "bias": False},
    "last batch smaller": {"batch": 7, "samples": 60},
    "relu, softmax": {"activation": "relu", "loss": "cross-entropy", "batch": 7, "samples": 60},
    "full batch": {"activation": "tanh", "data": "values", "batch": 60, "samples": 60},
    "gradient": {"activation": "tanh", "data": "values", "kind": "gradient", "samples": 60},
    "predict one": {"kind": "predict", "samples": 1},
    "predict": {"activation": "relu", "loss": "cross-entropy", "kind": "predict", "samples": 60},
}
FIT = {"kind": "fit", "activation": "relu", "loss": "cross-entropy", "batch": 20, "samples": 90}


@pytest.mark.parametrize("data", ["mnist", "digits"])
def test_the_estimators_do_the_same_work(data, tmp_path, rng):
    """Epochs of one call, or whole calls that end when the loss does."""
    pytest.importorskip("sklearn")
    w = work.Workload((12, 5, 3), data=data, solver="adam", **FIT)
    work.write_task(tmp_path, w, rng.random((90, 12)), rng.integers(3, size=90))
    task = work.read_task(tmp_path, 1)
    theirs, ours = (
        import_module(f"peers.{n}").build(task, "numba") for n in ("sklearn_", "fastbp_")
    )
    assert theirs.count == ours.count
    assert ours.count % 90 == 0
    assert (ours.count > 90) == (data == "digits")
    assert ours.run(2).check == pytest.approx(theirs.run(2).check, rel=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(
    "peer",
    [
        "fastbp",
        "numpy-by-hand",
        "torch",
        "torch-compiled",
        "jax",
        "jax-columns",
        "sklearn",
        "onnxruntime",
    ],
)
def test_a_peer_does_what_the_reference_does(peer, name, tmp_path, monkeypatch):
    who = peers.PEERS[peer]
    for package in who.needs:
        pytest.importorskip(package)
    if peer == "torch-compiled":
        # 50 take a minute to compile
        monkeypatch.setattr(import_module("peers.torch_"), "MOST_STEPS", 3)
    options = {"data": "gauss", "dtype": "float64", **TASKS[name]}
    w = work.Workload((12, 5, 4, 3), **options)
    if w.kind not in who.kinds:
        return
    work.write_task(tmp_path, w, None, None)
    task = work.read_task(tmp_path, 1)
    expected = import_module("peers.fastbp_").build(task, "numpy").run(1).check
    try:
        job = import_module(f"peers.{who.module}").build(task, who.variant)
    except peers.NotApplicable:
        assert peer in ("sklearn", "jax-columns")
        return
    job.reset()
    job.run(2)
    job.reset()  # back at the start
    # The mean loss of an epoch depends on the order, which each draws for itself.
    allowed = 0.01 if task.shuffle and w.kind == "train" else 1e-9
    assert job.run(1).check == pytest.approx(expected, rel=allowed)
