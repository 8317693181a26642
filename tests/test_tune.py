"""scripts/tune.py: what is fitted, compared and printed; each part at its smallest."""

import ast
import os

import numpy as np
import pytest

import tune
from fastbp.engines.numba_engine import NumbaEngine
from fastbp.kernels import machine

SMALLEST = 0.002


@pytest.fixture
def planner():
    import fastbp

    return fastbp.Network((784, 100, 10), loss="cross-entropy", seed=0)._engine.planner


def test_what_the_planner_says_is_linear_in_the_costs(planner):
    """So that costs can be solved for; and all constants are as before."""
    before = {name: getattr(machine, name) for name in tune.COSTS}
    works = [("dense", 1, 1.0), ("dense", 100, 1.0), ("sparse", 10, 0.2), ("narrow", 100, 1.0)]
    measured = [tune.Measured(planner, path, batch, share, 1.0) for path, batch, share in works]
    numbers = []
    for name, place in tune.unknowns():
        now = before[name]
        numbers.append(now[place][1] if isinstance(now, tuple) else now)
    expected = [planner.costs(batch, share)[path] for path, batch, share in works]
    np.testing.assert_allclose(tune.coefficients(measured) @ numbers, expected, rtol=1e-12)
    assert {name: getattr(machine, name) for name in tune.COSTS} == before


def test_costs_are_found_again(rng):
    """None is below zero, and what no training has is no unknown."""
    table = rng.random((20, 4))
    table[:, 2] = 0
    numbers = np.array([0.5, 3.0, 0.0, 20.0])
    np.testing.assert_allclose(tune.fitted(table, table @ numbers), numbers, rtol=1e-9)
    assert (tune.fitted(table, np.abs(table @ [0.5, -3.0, 0, 20.0])) >= 0).all()


def test_a_candidate_must_be_clearly_better():
    assert tune.better({"now": 1.0, "other": 0.99}, "now") == "now"
    assert tune.better({"now": 1.0, "other": 0.97, "third": 0.5}, "now") == "third"
    with pytest.raises(RuntimeError, match="does not run"):
        tune.better({"other": 1.0}, "now")


def test_the_row_can_be_pasted(monkeypatch):
    """It says what is otherwise than in the neutral row, and Python reads it."""
    costs = tuple((most, 2.0) for most, _ in machine.DENSE_COSTS)
    row = {"BLOCK_BYTES": 123, "MASK_BITS": machine.MASK_BITS, "DENSE_COSTS": costs, "NO_SUCH": 1}
    text = tune.shown(row)
    assert text.startswith(f'    "{machine.KIND}": {{')
    found = ast.parse("{" + text + "}", mode="eval")
    (kind,) = eval(compile(found, "row", "eval")).values()
    assert kind == {"BLOCK_BYTES": 123, "DENSE_COSTS": costs}


@pytest.mark.slow
def test_facts(capsys):
    row = tune.facts([0, 0], SMALLEST)  # two threads on a core wait long, and come to an end
    assert set(row) == {"BARRIER_COST", "CROSSING_COST"}
    assert row["BARRIER_COST"] > 0
    assert "FMA peak of 1 core(s)" in capsys.readouterr().out
    assert tune.facts([0], SMALLEST) == {}


@pytest.mark.slow
def test_shapes_are_tried_each_in_a_process(monkeypatch, capsys):
    """One that does not run is left out."""
    trial = tune.Trial(("FORMULA_VECTORS",), "tanh", ((2,), ("no number",)))
    monkeypatch.setattr(tune, "TRIALS", (trial, tune.Trial(("NO_SUCH",), "tanh", ((1,),))))
    row = tune.shapes([0], SMALLEST)
    assert row["FORMULA_VECTORS"] in (machine.FORMULA_VECTORS, 2)
    out = capsys.readouterr().out
    assert f"({machine.FORMULA_VECTORS},): " in out
    assert "(2,): " in out
    assert "no number" not in out
    assert all(callable(task) for task in tune.tasks(SMALLEST).values())
    assert {trial.task for trial in tune.TRIALS} <= set(tune.tasks(SMALLEST))


@pytest.mark.slow
def test_costs(monkeypatch):
    """The path is the one asked for, and only there."""
    asked, trained = [], NumbaEngine.trainer

    def noting(engine, *arguments, **options):
        found = trained.__get__(engine)(*arguments, **options)
        asked.append(found.path)
        return found

    monkeypatch.setattr(NumbaEngine, "trainer", noting)
    few = [("dense", (784, 10, 3), 4), ("sparse", (784, 10, 3), 4), ("narrow", (4, 3, 2), 16)]
    monkeypatch.setattr(tune, "trainings", lambda: [(*work, 0.5, "quadratic") for work in few])
    monkeypatch.setattr(tune, "BLOCKS", (64,))
    choose, cores = NumbaEngine.choose_path, os.sched_getaffinity(0)
    try:
        row = tune.costs(sorted(cores)[:1], SMALLEST)
    finally:
        os.sched_setaffinity(0, cores)
    assert asked[:3] == ["dense", "sparse", "narrow"]
    assert NumbaEngine.choose_path is choose
    assert set(row) == {*tune.COSTS, "BLOCK_BYTES"}
    assert row["LARGE_SPARSE_COST"] == machine.LARGE_SPARSE_COST, "nothing large was trained"


@pytest.mark.parametrize(("busy", "code"), [(0.0, 0), (1.0, 1)])
def test_other_programs_are_noticed(busy, code, monkeypatch, capsys):
    monkeypatch.setattr(tune.Others, "cores", lambda self: busy)
    monkeypatch.setattr(tune, "facts", lambda *_: {"BLOCK_BYTES": 123})
    assert tune.main(["--parts", "facts"]) == code
    out = capsys.readouterr().out
    assert '"BLOCK_BYTES": 123,' in out
    assert ("OTHER PROGRAMS HELD 1.0 CORES" in out) == bool(code)


@pytest.mark.parametrize("words", ["--parts other", "--cores 9999"])
def test_unusable_options(words, capsys):
    with pytest.raises(SystemExit) as stop:
        tune.options_of(words.split())
    assert stop.value.code == 2
    assert "takes some of" in capsys.readouterr().err
