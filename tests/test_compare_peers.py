"""scripts/compare_peers.py: what is counted and compared, missing and dying peers, a small race."""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import compare_peers
import peers
from peers import race, report, work

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
    table = {
        name: (w.must, w.aim, w.must_two)
        for name, w in work.WORKLOADS.items()
        if (w.must, w.aim, w.must_two) != (None, None, None)
    }
    assert table == {
        "online": (10, 14, None),
        "deep1": (3.5, 6, None),
        "nielsen": (4, 6, 5),
        "twolayer": (2.5, 3.5, 3),
        "wide": (1.3, 1.7, 1.4),
        "online-dense": (3, 5, None),
        "nielsen-dense": (2, 3, 2.5),
        "twolayer-dense": (1.3, 1.7, 1.7),
        "wide-dense": (1, 1.1, 1.1),
        "surrogate": (2.5, 3, 3),
        "gradient64": (2, 3, None),
        "predict1": (1.5, 3, None),
        "predict10000": (0.95, 1.15, 1),
    }
    dense = work.WORKLOADS["wide-dense"]
    assert (dense.must_peak, dense.aim_peak) == (0.78, 0.9)


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
    assert report.verdicts(found) == [(True, "to jax", 5.0, 4), (False, "to jax", 5.0, 6)]
    two = result(("fastbp", 50), ("jax", 10), cores=(0, 1))
    assert report.verdicts(two) == [(True, "to jax", 5.0, 5)]
    named = result(("fastbp", 50), ("onnxruntime", 25), ("torch", 40), name="predict1")
    assert report.verdicts(named)[0] == (True, "to onnxruntime", 2.0, 1.5)
    shares = report.verdicts(result(("fastbp", 5e4), ("jax", 1e4), name="wide-dense"))
    share = 5e4 * 3_209_216 / 2e11
    assert shares[2] == (True, "of the FMA peak", pytest.approx(share), 0.78)


def test_a_must_missed_is_a_problem_only_when_checked(result):
    short, enough = (result(("fastbp", rate), ("jax", 10)) for rate in (39, 41))
    assert report.problems([short], check=False) == []
    assert report.problems([enough], check=True) == []  # the aim may be missed
    (line,) = report.problems([enough, short], check=True)
    assert line == "nielsen: must be 4 to jax; 3.90"


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
    staged(39)
    assert compare_peers.main(["--work", "nielsen"]) == 0
    assert compare_peers.main(["--work", "nielsen", "--check"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "nielsen: must be 4 to jax; 3.90"
    staged(41)
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


# -- README and picture ----------------------------------------------------------------------------

ABOUT = {"cpu": "a CPU", "date": "2025-01-31T12:00:00", "rounds": 5, "versions": {"numpy": "9.9"}}


def test_the_readme_is_rewritten_between_its_marks(result, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}old\n{report.END}behind\n")
    found = result(("fastbp", 50), ("jax", 10), ("torch", 0, 1, 0.0, "missing"))
    for _ in range(2):
        report.write_readme(readme, report.region([found], ABOUT))
    text = readme.read_text()
    assert text.startswith(
        f"before\n{report.BEGIN}By `scripts/compare_peers.py`, one core of a CPU"
    )
    assert text.endswith(f"{report.END}behind\n")
    assert "old" not in text
    assert "| nielsen | samples/s | 50 | 10 | – | 5.00 (jax) |" in text
    assert "- torch, missing: why torch." in text


@pytest.mark.parametrize("text", ["", "{0}", "{1}", "{1}{0}", "{0}{0}{1}"])
def test_a_readme_without_marks_is_refused_before_the_race(staged, text, tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    readme.write_text(text.format(report.BEGIN, report.END))
    monkeypatch.setattr(compare_peers, "README", readme)
    monkeypatch.setattr(compare_peers, "run", lambda *_: pytest.fail("raced"))
    with pytest.raises(ValueError, match=r"README.md needs the lines <!-- peers --> and"):
        compare_peers.main(["--readme", "--work", "nielsen"])
    assert readme.read_text() == text.format(report.BEGIN, report.END)


def test_readme_and_picture_are_written_by_the_program(staged, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    readme, picture = tmp_path / "README.md", tmp_path / "peers.svg"
    readme.write_text(f"{report.BEGIN}{report.END}")
    monkeypatch.setattr(compare_peers, "README", readme)
    monkeypatch.setattr(compare_peers, "PICTURE", picture)
    staged(41)
    assert compare_peers.main(["--readme", "--work", "nielsen,wide"]) == 0
    assert "| wide | samples/s | 41 | 10 | 4.10 (jax) |" in readme.read_text()
    drawn = picture.read_bytes()
    for words in (b"fastbp and its peers on one core", b">nielsen, samples/s<", b">jax<", b">41<"):
        assert words in drawn
    compare_peers.main(["--readme", "--work", "nielsen,wide"])
    assert picture.read_bytes() == drawn


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


def run_worker(*words, limit=30):
    """What becomes of a worker that fails."""
    command = sys.executable, PROGRAMS / "failing_worker.py", *words
    worker = race.Worker(peers.PEERS["fastbp"], "", [0], 1, command=command)
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
