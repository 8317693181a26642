"""scripts/classics/four_layer.py: both rules against formulas, and the contrast on real MNIST."""

import numpy as np
import pytest

PROGRAM = "four_layer"


@pytest.fixture
def sample(program, mnist):
    """Weights at their start, one image as a row, its one-hot target, and its label."""
    weights = [np.array(W, order="C") for W in program.network(seed=3).weights]
    return weights, program.scaled(mnist.X_train[7:8]), np.eye(10)[mnist.y_train[7:8]]


def sigma(z):
    return 1 / (1 + np.exp(-z))


def by_hand(weights, x, y, wrong):
    """The steps of one sample divided by the learning rate, and e1, with plain matrices."""
    a0 = x[0]
    a1 = sigma(weights[0] @ a0)
    a2 = sigma(weights[1] @ a1)
    a3 = sigma(weights[2] @ a2)
    e3 = a3 - y[0]
    slope1, slope2, slope3 = (a * (1 - a) for a in (a1, a2, a3))
    e2 = weights[2].T @ (e3 if wrong else e3 * slope3)
    e1 = weights[1].T @ (e2 if wrong else e2 * slope2)
    steps = np.outer(e1 * slope1, a0), np.outer(e2 * slope2, a1), np.outer(e3 * slope3, a2)
    return steps, e1


def steps_of(program, weights, x, y, wrong, rate=1e-3):
    W = [array.copy() for array in weights]
    norm = program.train(*W, x, y, rate, wrong)
    return [(before - after) / rate for before, after in zip(weights, W, strict=True)], norm


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, pytest.param(3, marks=pytest.mark.long)])
def test_the_contrast_on_three_seeds(start, program, monkeypatch, seeds, capsys):
    """Orderings, ratios of norms, and that `train` comes to the weights of `Network.fit`."""
    monkeypatch.setattr(program, "SEEDS", seeds)
    code, picture = start("--quick")
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "6,000 images, in their order; seeds 0" in printed
    assert "7 of 7 rows as expected" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_the_table_at_full_length(program, mnist, monkeypatch):
    """The figures that plain NumPy gave, on all 30,000 images, where they differ most."""
    monkeypatch.setattr(program, "load_mnist", lambda data_dir: mnist)
    data = program.load()
    for rule in program.RULES:
        curve = program.learn(data, rule, 0.5, seed=4, points=2)
        (_, *accuracy), (_, *norm) = program.TABLE[0.5, rule]
        assert accuracy[0] < curve.accuracy[-1] < accuracy[1]
        assert norm[0] < curve.mean_norm < norm[1]
        assert curve.images == [15_000, 30_000]


@pytest.mark.parametrize("wrong", [False, True])
def test_both_rules_are_as_written(program, sample, wrong, assert_close):
    steps, norm = steps_of(program, *sample, wrong)
    expected, e1 = by_hand(*sample, wrong)
    for step, value in zip(steps, expected, strict=True):
        assert_close(step, value, extra=1e-11)  # of the subtraction before - after
    assert norm == pytest.approx(np.linalg.norm(e1), rel=1e-12)


def test_the_norm_is_a_mean_over_the_samples(program, mnist):
    X, Y = program.scaled(mnist.X_train[:4]), np.eye(10)[mnist.y_train[:4]]
    one, all_at_once = (
        [np.array(W, order="C") for W in program.network(seed=0).weights] for _ in range(2)
    )
    norms = [program.train(*one, X[i : i + 1], Y[i : i + 1], 0.1, False) for i in range(4)]
    assert program.train(*all_at_once, X, Y, 0.1, False) == pytest.approx(np.mean(norms), rel=1e-12)


def test_only_the_right_rule_follows_the_gradient(program, sample):
    _, x, y = sample
    net = program.network(seed=3)
    gradient = net.gradient(x, y).weights
    right, wrong = (steps_of(program, *sample, rule)[0] for rule in (False, True))
    for l in range(3):
        size = np.abs(gradient[l]).max()
        assert np.abs(right[l] - gradient[l]).max() < 1e-9 * size
        is_off = np.abs(wrong[l] - gradient[l]).max() > size
        assert is_off == (l < 2)  # the output layer is the same in both


def test_two_rules_taken_for_each_other_turn_the_table_red(start, program, monkeypatch, capsys):
    train = program.train
    monkeypatch.setattr(program, "train", lambda *a: train(*a[:-1], not a[-1]))
    monkeypatch.setattr(program, "QUICK_IMAGES", 1000)
    monkeypatch.setattr(program, "SEEDS", 1)
    code, _ = start("--quick")
    rows = [line for line in capsys.readouterr().out.splitlines() if "NO  <--" in line]
    assert code == 1
    assert sum("wrong / right" in row for row in rows) == 3
    assert any("`train` and of `fit`" in row for row in rows)


def test_the_wrong_rule_corrected_turns_the_table_red(start, program, monkeypatch, capsys):
    train = program.train
    monkeypatch.setattr(program, "train", lambda *a: train(*a[:-1], False))
    monkeypatch.setattr(program, "QUICK_IMAGES", 1000)
    monkeypatch.setattr(program, "SEEDS", 1)
    code, _ = start("--quick")
    rows = [line for line in capsys.readouterr().out.splitlines() if "NO  <--" in line]
    assert code == 1
    assert sum("wrong / right" in row for row in rows) == 3
    assert not any("`train` and of `fit`" in row for row in rows)


def test_one_seed_out_of_range_turns_a_row_red(program):
    *_, ok = program.row("accuracy", [0.35, 0.36], 0.3, 0.4, 0.348)
    assert ok
    for low, high in ((0.29, 0.35), (0.35, 0.41), (float("nan"), 0.35), (0.35, float("nan"))):
        *_, ok = program.row("accuracy", [low, high], 0.3, 0.4)
        assert not ok


def test_missing_data_are_one_line(run_program, program, tmp_path):
    """From a foreign folder, with nothing but the installed package."""
    words = program.__file__, "--quick", "--data-dir", tmp_path / "none"
    done = run_program(*words, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("four_layer.py: data_dir must be a folder")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
