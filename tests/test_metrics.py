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
    predicted[:] = predicted % 3  # two classes are never predicted
    macro = theirs.precision_recall_fscore_support(
        true, predicted, average="macro", zero_division=0
    )
    found = metrics.macro(metrics.per_class(theirs.confusion_matrix(true, predicted)))
    np.testing.assert_allclose(found, macro[:3], rtol=1e-12)


def test_figures_of_labels_are_scikit_learns():
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    net = fastbp.Network([4, 4], output="sigmoid", loss="cross-entropy", seed=0)
    X, y = rng.normal(size=(50, 4)), rng.integers(0, 2, (50, 4))
    found = metrics.per_label(net, X, y)
    counts = theirs.multilabel_confusion_matrix(y, net.predict(X))
    np.testing.assert_array_equal(found.wrong, counts[:, 0, 1])
    np.testing.assert_array_equal(found.figures.right, counts[:, 1, 1])
    expected = theirs.precision_recall_fscore_support(y, net.predict(X))
    np.testing.assert_allclose([*found.figures[2:], found.figures.samples], expected, rtol=1e-12)
    assert found.all_right == net.evaluate(X, y)


def test_mistakes_come_by_confidence(largest):
    found = metrics.mistakes(largest, X, LABELS, most=2)
    assert found.indices.tolist() == [2, 3]
    assert found.labels.tolist() == [1, 0]
    assert found.predicted.tolist() == [0, 2]
    assert found.confidence.tolist() == [9, 7]
    assert found.confidence_of_true.tolist() == [1, 1]
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
        (X, X, "integers or one-hot rows; got numbers: draw predicted or residuals"),
    ):
        with pytest.raises(ValueError, match=part):
            function(largest, samples, labels)
    several = fastbp.Network([3, 2], output="sigmoid", loss="cross-entropy", seed=0)
    numbers = fastbp.Network([3, 1], output="identity", seed=0)
    for net, labels, part in ((several, X[:, :2] > 1, "labels"), (numbers, LABELS, "numbers")):
        with pytest.raises(ValueError, match=f"needs one class .*; got .*draw .*{part}|residuals"):
            function(net, X, labels)
    classes = fastbp.Network([3, 3], loss="cross-entropy", seed=0)
    with pytest.raises(ValueError, match="labels must be integers or one-hot rows"):
        function(classes, X, X)


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


def numbers(*weights, sizes=(1, 1)):
    """A network of one layer that predicts numbers."""
    net = fastbp.Network(sizes, output="identity", dtype="float64", backend="numpy", seed=0)
    net.from_vector(weights)
    return net


def test_r2_and_errors_are_those_of_sklearn(rng):
    theirs = pytest.importorskip("sklearn.metrics")
    net, x = numbers(2, 0.5, -1, 3, sizes=(1, 2)), rng.normal(size=(30, 1))
    y = np.hstack([2 * x, 1 - x]) + rng.normal(size=(30, 2))
    found, predicted = metrics.regression(net, x, y), net.predict(x)
    assert found.r2 == pytest.approx(theirs.r2_score(y, predicted))
    assert found.mae == pytest.approx(theirs.mean_absolute_error(y, predicted))
    assert found.rmse == pytest.approx(theirs.root_mean_squared_error(y, predicted))
    mean = [0.5, 2]
    assert metrics.regression(net, x, y, mean).baseline_mae == pytest.approx(abs(y - mean).mean())
    constant = np.hstack([np.full((30, 1), 7), y[:, 1:]])  # an output that does not vary
    assert metrics.regression(net, x, constant).r2 == pytest.approx(
        theirs.r2_score(constant, predicted)
    )


def test_the_baseline_is_the_mean_and_a_constant_is_met_or_not():
    net = numbers(2, 0)
    found = metrics.regression(net, [[0], [1], [2]], [0, 2, 5])
    assert found == (pytest.approx(1 - 1 / (38 / 3)), 1 / 3, 3**-0.5, pytest.approx(16 / 9), 3)
    assert metrics.regression(net, [[1], [1]], [2, 2]).r2 == 1
    assert metrics.regression(net, [[1], [1]], [3, 3]).r2 == 0
    assert np.isnan(metrics.regression(net, [[1]], [3]).r2)


def test_errors_of_targets_far_from_zero_keep_their_digits():
    net = fastbp.Network([1, 1], output="identity", backend="numpy", seed=0)  # float32
    net.from_vector([1, 1e6])
    assert metrics.regression(net, [[0], [2]], [1e6, 1e6 + 2.01]).mae == pytest.approx(0.005)


def test_r2_of_classes_or_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match="for a network that predicts numbers; got Network"):
        metrics.regression(fastbp.Network([1, 2], loss="cross-entropy"), [[0]], [0])
    with pytest.raises(ValueError, match=r"y must have shape \(2, 1\); got \(3,\)"):
        metrics.regression(numbers(2, 0), [[0], [1]], [0, 1, 2])
