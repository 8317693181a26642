"""scripts/classics/two_layer_graph.py: its table on real MNIST, and what turns it red."""

import numpy as np
import pytest

from fastbp import Affine, Mul, ReLU, Sequential

PROGRAM = "two_layer_graph"


@pytest.fixture
def network(program):
    """A network of the program's kind, and six images, a part of them dark in all."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (6, 20)).astype(np.uint8)
    X[:, ::3] = 0
    net = Sequential.mlp([20, 7, 4], weight_init_std=0.5, seed=rng)
    return net, *program.three_images(net, X, rng.integers(0, 4, 6))


@pytest.mark.slow
def test_the_table_is_as_expected_after_a_shortened_run(start, capsys):
    code, picture = start("--quick")
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "13 of 13 rows as expected" in printed
    assert "test accuracy after 1200 steps" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_the_table_is_as_expected(start, capsys):
    code, _ = start()
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "0.965 to 0.975" in printed


@pytest.mark.slow
def test_a_row_that_is_off_is_the_exit_code(start, program, monkeypatch, capsys):
    monkeypatch.setattr(program, "LEARNING_RATE", 1e-6)
    code, picture = start("--steps", "600")
    assert code == 1
    assert "11 of 13 rows as expected" in capsys.readouterr().out
    assert picture.exists()  # one panel: nothing is above 90 %


def test_the_graph_is_as_in_the_book(program):
    assert len(program.graph_rows()) == 6
    assert all(ok for *_, ok in program.graph_rows())


def test_a_wrong_node_turns_the_graph_red(program, monkeypatch):
    monkeypatch.setattr(Mul, "_partials", staticmethod(lambda x, y: (x, y)))
    assert [ok for *_, ok in program.graph_rows()] == [True, *[False] * 5]


def test_the_check_covers_every_parameter(program, network):
    """The two parts together are the numerical gradient of the whole network."""
    net, X, y = network
    before = {key: array.copy() for key, array in net.params.items()}
    numerical, change = program.numerical_gradient(net, X, y)
    assert change == 0
    whole = net.numerical_gradient(X, y)
    for key, array in net.params.items():
        assert np.array_equal(array, before[key])
        assert numerical[key].shape == array.shape
        assert numerical[key] == pytest.approx(whole[key], abs=1e-9)
    assert not numerical["W1"][::3].any()
    assert numerical["W1"][1::3].any()


def wrong_slope(node, dout):
    return dout * 1.0


def batch_forgotten(node, dout=1):
    dx = AFFINE_BACKWARD(node, dout)
    node.dW /= 3
    return dx


def wrong_axis(node, dout=1):
    dx = AFFINE_BACKWARD(node, dout)
    node.db = np.resize(dout.sum(axis=1), node.db.shape)
    return dx


AFFINE_BACKWARD = Affine.backward


@pytest.mark.parametrize(
    ("kind", "backward", "rows"),
    [
        (ReLU, wrong_slope, ["W1", "b1"]),
        (Affine, batch_forgotten, ["W1", "W2"]),
        (Affine, wrong_axis, ["b1", "b2"]),
    ],
)
def test_a_wrong_backward_turns_the_check_red(kind, backward, rows, program, network, monkeypatch):
    net, X, y = network
    assert all(ok for *_, ok in program.gradient_rows(net, X, y))
    monkeypatch.setattr(kind, "backward", backward)
    off = [name.split(":")[0] for name, *_, ok in program.gradient_rows(net, X, y) if not ok]
    assert off == rows


def test_images_at_a_kink_are_not_checked(program):
    net = Sequential([Affine(np.eye(2), np.zeros(2)), ReLU(), Affine(np.eye(2), np.zeros(2))])
    X = np.array([[5, 5], [0, 5], [5, 0], [9, 9], [8, 8], [7, 7]], np.uint8)
    chosen, labels = program.three_images(net, X, np.arange(6))
    assert labels.tolist() == [0, 3, 4]
    assert np.array_equal(chosen, X[[0, 3, 4]] / 255)


@pytest.mark.parametrize(
    ("steps", "training", "test", "expected"),
    [
        (10_000, 0.980, 0.971, [True, True]),
        (10_000, 0.974, 0.971, [False, True]),
        (10_000, 0.980, 0.976, [True, False]),
        (20_000, 0.999, 0.978, [True, True]),
        (20_000, 0.960, 0.960, [False, False]),
        (5_000, 0.966, 0.960, [True, True]),
        (5_000, 0.900, 0.960, [False, True]),
        (600, 0.903, 0.905, [True, True]),
        (600, 0.930, 0.880, [False, False]),
    ],
)
def test_accuracy_is_held_to_the_number_of_steps(steps, training, test, expected, program):
    rows = program.accuracy_rows([(0, 0.1, 0.1), (1, training, test)], steps)
    assert [ok for *_, ok in rows] == expected


def test_accuracy_counts_all_images(program, monkeypatch, rng):
    net = Sequential.mlp([5, 4, 3], weight_init_std=1, seed=0)
    X, y = rng.integers(0, 256, (17, 5)).astype(np.uint8), rng.integers(0, 3, 17)
    monkeypatch.setattr(program, "IMAGES_AT_ONCE", 5)
    assert program.accuracy(net, X, y) == pytest.approx(net.accuracy(X / 255, y), rel=1e-12)


def test_it_runs_from_any_directory_and_names_bad_input(run_program, program, tmp_path):
    done = run_program(program.__file__, "--steps", "0", check=False, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("two_layer_graph.py: --steps must be ")
    assert line.endswith(" 0")
    assert not list(tmp_path.iterdir())
