import numpy as np
import pytest

import fastbp
from fastbp.plots import metrics


@pytest.fixture
def largest():
    """A network whose class is the largest of three inputs."""
    net = fastbp.Network([3, 3], loss="quadratic", output="identity", seed=0)
    net.from_vector([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0])
    return net


X = np.array([[5, 1, 0], [0, 2, 1], [9, 1, 0], [1, 0, 7], [0, 1, 3], [3, 0, 1]], "float32")
LABELS = np.array([0, 1, 1, 0, 1, 0])
COUNTS = [[2, 0, 1], [1, 1, 1], [0, 0, 0]]


def test_counts_by_class_and_prediction(largest):
    counts = metrics.confusion(largest, X, LABELS)
    assert counts.tolist() == COUNTS
    assert metrics.confusion(largest, X, np.eye(3)[LABELS]).tolist() == COUNTS
    assert counts.trace() == largest.evaluate(X, LABELS)


def test_figures_of_each_class_and_nan_where_there_is_nothing_to_divide_by():
    found = metrics.per_class(np.array([*COUNTS[:2], [0, 0, 0]]))
    assert found.samples.tolist() == [3, 3, 0]
    assert found.right.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(found.precision, [2 / 3, 1, 0])
    np.testing.assert_array_equal(found.recall, [2 / 3, 1 / 3, np.nan])
    np.testing.assert_array_equal(found.f1, [2 / 3, 1 / 2, 0])
    nothing = metrics.per_class(np.zeros((2, 2), int))
    assert all(np.isnan(part).all() for part in nothing[2:])


def test_the_figures_are_scikit_learns():
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    counts = theirs.confusion_matrix(true, predicted)
    expected = theirs.precision_recall_fscore_support(true, predicted)
    found = metrics.per_class(counts)
    np.testing.assert_allclose([*found[2:], found.samples], expected, rtol=1e-12)


def test_mistakes_come_by_confidence(largest):
    found = metrics.mistakes(largest, X, LABELS, most=2)
    assert found.indices.tolist() == [2, 3]
    assert found.labels.tolist() == [1, 0]
    assert found.predicted.tolist() == [0, 2]
    assert found.confidence.tolist() == [9, 7]
    assert found.total == 3
    assert metrics.mistakes(largest, X, LABELS, most=99).indices.tolist() == [2, 3, 4]


def test_no_mistakes(largest):
    found = metrics.mistakes(largest, X[:2], LABELS[:2], most=5)
    assert found.total == 0
    assert len(found.indices) == 0


@pytest.mark.parametrize("function", [
    metrics.confusion, lambda *arguments: metrics.mistakes(*arguments, most=3),
])  # fmt: skip
def test_bad_input_is_named(largest, function):
    for samples, labels, part in (
        (X[:, :2], LABELS, r"X must be \(batch, 3\)"),
        (X * np.nan, LABELS, "X must be finite"),
        (X, LABELS[:2], "labels .*one entry per sample, 6"),
        (X, LABELS + 2, "labels .*from 0 to 2"),
        (X, X, "labels .*integers or one-hot"),
    ):
        with pytest.raises(ValueError, match=part):
            function(largest, samples, labels)
    several = fastbp.Network([3, 2], output="sigmoid", loss="cross-entropy", seed=0)
    numbers = fastbp.Network([3, 1], output="identity", seed=0)
    for net, labels, part in ((several, X[:, :2] > 1, "one class"), (numbers, LABELS, "numbers")):
        with pytest.raises(ValueError, match=f"labels must be .*{part}"):
            function(net, X, labels)


def test_one_sigmoid_is_of_two_classes():
    net = fastbp.Network([3, 1], loss="cross-entropy", output="sigmoid", seed=0)
    net.from_vector([1, 0, 0, -2])
    predicted = X[:, 0] > 2
    counts = metrics.confusion(net, X, LABELS)
    assert counts.tolist() == [[1, 2], [2, 1]]
    assert counts.trace() == net.evaluate(X, LABELS) == (predicted == LABELS).sum()
    found = metrics.mistakes(net, X, LABELS, 9)
    assert (found.labels.tolist(), found.predicted.tolist()) == ([0, 1, 1, 0], [1, 0, 0, 1])
    np.testing.assert_allclose(found.confidence, 1 / (1 + np.exp([-3, -2, -2, -1])), rtol=1e-6)


def test_a_matrix_nobody_could_read_is_refused_before_it_takes_memory():
    net = fastbp.Network([3, 1001], seed=0)
    with pytest.raises(ValueError, match="1000 classes; got 1001"):
        metrics.confusion(net, X, LABELS)
