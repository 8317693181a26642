"""The table of features in the guide of the estimators: what it says is what happens."""

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.9", reason="scikit-learn is an extra")
pytest.importorskip("matplotlib", reason="matplotlib is an extra")

from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp import estimator as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

COMMON = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}
RNG = np.random.default_rng(0)
X, X_VAL = RNG.standard_normal((60, 3)), RNG.standard_normal((20, 3))
Y, Y_VAL = (X[:, 0] > 0.4).astype(int), (X_VAL[:, 0] > 0.4).astype(int)


class Stop:
    """A callback that ends the training after its first epoch."""

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        return context.task_name == "epoch"

    def teardown(self, estimator, context):
        pass


def weights(model):
    return [*model.coefs_, *model.intercepts_]


def differ(one, other):
    return not np.allclose(one.coefs_[0], other.coefs_[0])


def searched(make):
    grid = {"mlpclassifier__alpha": [0.1, 1.0]}
    model = clone(make_pipeline(StandardScaler(), make()))
    return GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, Y).best_score_ > 0


def same_weights(make):
    pairs = zip(weights(make().fit(X, Y)), weights(scikit_learn_s().fit(X, Y)), strict=True)
    return all(np.allclose(*pair) for pair in pairs)


def same_bits(make):
    one, two = (make(n_threads=n).fit(X, Y) for n in (1, 2))
    return all(np.array_equal(*pair) for pair in zip(weights(one), weights(two), strict=True))


def scikit_learn_s(**options):
    return theirs.MLPClassifier(**{**COMMON, **options})


def fastbp_s(**options):
    return ours.MLPClassifier(**{**COMMON, **options})


# By the rows of the table: whether estimators that a function makes can do it.
FEATURES = {
    "pipelines, searches and `clone`": searched,
    "the weights of `MLPClassifier` for a `random_state`": same_weights,
    "sample weights": lambda make: differ(make().fit(X, Y, 1 + X[:, 0] ** 2), make().fit(X, Y)),
    "class weights": lambda make: differ(
        make(class_weight={0: 1, 1: 9}).fit(X, Y), make().fit(X, Y)
    ),
    "a validation set of your own": lambda make: make(early_stopping=True).fit(
        X, Y, X_val=X_VAL, y_val=Y_VAL
    ),
    "validation score of each epoch": lambda make: (
        len(make(early_stopping=True).fit(X, Y).validation_scores_) == 3
    ),
    "validation loss of each epoch": lambda make: (
        len(make(early_stopping=True).fit(X, Y).validation_loss_curve_) == 3
    ),
    "callbacks that see each epoch, and end the training": lambda make: (
        make().set_callbacks(Stop()).fit(X, Y).n_iter_ == 1
    ),
    "curves in one call": lambda make: make().fit(X, Y).history_.plot(),
    "threads that share a batch, with the same bits": same_bits,
}


def table():
    """The rows of the guide: cells by the name of a feature, without the heading."""
    lines = [line for line in ours.__doc__.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return rows[0][1:], {name: cells for name, *cells in rows[1:]}


def found(feature, make):
    try:
        return "yes" if FEATURES[feature](make) else "no"
    except (TypeError, AttributeError):  # there is no such parameter, method or attribute
        return "no"


@pytest.mark.parametrize("feature", FEATURES)
def test_the_table_says_what_happens(feature):
    cells = table()[1][feature]
    assert [found(feature, fastbp_s), found(feature, scikit_learn_s)] == cells


def test_the_table_has_these_rows_and_columns():
    libraries, rows = table()
    assert libraries == ["fastbp", "scikit-learn"]
    assert list(rows) == list(FEATURES)
