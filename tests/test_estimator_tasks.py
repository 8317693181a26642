"""scikit-learn's callbacks on the estimators: what they see, and what they may do."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.9", reason="scikit-learn is an extra")

from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cases import crossed
from fastbp import estimator as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, EPOCHS = 60, 4
COMMON = {"hidden_layer_sizes": (5,), "batch_size": 20, "random_state": 1, "max_iter": EPOCHS}
SOLVERS = {
    "sgd": {"solver": "sgd"},
    "adam": {},
    "early stopping": {"early_stopping": True, "learning_rate_init": 0.05},
    "lbfgs": {"solver": "lbfgs"},
}


class Record:
    """A callback that writes down what it is told, and may stop or fail."""

    def __init__(self, stop_after=None, fail_after=None):
        self.events, self.told = [], []
        self.stop_after, self.fail_after = stop_after, fail_after

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        self.events.append(f"begin {context.task_name}")
        if context.task_name in ("epoch", "lbfgs-iter"):
            assert fitted_estimator.predict(X).shape == y.shape

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self.events.append(f"end {context.task_name}")
        self.told.append((context, X, y, metadata, fitted_estimator))
        if context.parent is not None:
            if self.fail_after == context.task_id:
                raise RuntimeError("a callback fails")
            return self.stop_after == context.task_id
        return False


@pytest.fixture
def samples(rng):
    X = rng.standard_normal((N, 4))
    return X, np.where(X[:, 0] + 0.3 * rng.standard_normal(N) > 0, "yes", "no")


def made(**options):
    return ours.MLPClassifier(**{**COMMON, **options})


def assert_same_bits(one, other):
    for got, want in zip(
        [*one.coefs_, *one.intercepts_], [*other.coefs_, *other.intercepts_], strict=True
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("solver", SOLVERS)
def test_each_epoch_is_a_task_with_an_estimator_that_ends_there(solver, samples):
    """Its weights are those of a training of so many epochs; the training itself is as without."""
    X, y = samples
    record = Record()
    model = made(**SOLVERS[solver]).set_callbacks(record).fit(X, y)
    assert_same_bits(model, made(**SOLVERS[solver]).fit(X, y))
    task = "lbfgs-iter" if solver == "lbfgs" else "epoch"
    steps = [f"begin {task}", f"end {task}"] * EPOCHS
    assert record.events == ["setup", "begin fit", *steps, "end fit", "teardown"]
    assert record.told[-1][0].max_subtasks == EPOCHS
    for epochs, (_, X_seen, y_seen, metadata, fitted) in enumerate(record.told[:-1], start=1):
        alone = made(**SOLVERS[solver], max_iter=epochs).fit(X, y)
        assert_same_bits(fitted, alone)
        np.testing.assert_array_equal(fitted.predict(X), alone.predict(X))
        assert getattr(fitted, "loss_curve_", None) == getattr(alone, "loss_curve_", None)
        assert fitted.n_iter_ == epochs
        assert metadata is None
        if solver == "early stopping":
            assert len(X_seen) == len(y_seen) == 54
        else:
            np.testing.assert_array_equal(X_seen, X)
            np.testing.assert_array_equal(y_seen, y)
    np.testing.assert_array_equal(record.told[-1][2], y)
    assert_same_bits(record.told[-1][4], model)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_callback_ends_the_training(solver, samples):
    X, y = samples
    record = Record(stop_after=1)
    model = made(**SOLVERS[solver]).set_callbacks(record)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(X, y)
    assert model.n_iter_ == 2
    assert_same_bits(model, made(**SOLVERS[solver], max_iter=2).fit(X, y))
    assert record.events[-3:-1] == [record.events[3].replace("begin", "end"), "end fit"]
    assert model.loss_ == made(**SOLVERS[solver], max_iter=2).fit(X, y).loss_


def test_iterations_that_converge_end_their_last_task(samples):
    """L-BFGS begins a task that it may not need, as scikit-learn's LogisticRegression does."""
    X, _ = samples
    record = Record()
    model = ours.MLPRegressor(
        hidden_layer_sizes=[], solver="lbfgs", activation="identity", random_state=0
    )
    model.set_callbacks(record).fit(X, X[:, 0])
    assert model.n_iter_ < model.max_iter
    begun, ended = (record.events.count(f"{word} lbfgs-iter") for word in ("begin", "end"))
    assert begun == ended == model.n_iter_ + 1
    assert record.told[-2][4] is None


@pytest.fixture
def no_listener(monkeypatch):
    """ScoringMonitor logs without the thread that listens to other processes, and never ends."""
    where = "sklearn.callback._scoring_monitor"
    monkeypatch.setattr(f"{where}.open_listener", lambda consumer, owner: consumer)
    monkeypatch.setattr(f"{where}.send", lambda consumer, message: consumer(message))


@pytest.mark.usefixtures("no_listener")
@crossed(target=["multilabel", "numbers", "columns"], weighted=[False, True])
def test_a_scoring_monitor_logs_the_score_of_each_epoch(target, weighted, samples, rng):
    """scikit-learn's own, with targets as the user passed them."""
    X, _ = samples
    y = {"multilabel": (X[:, :2] > 0).astype(int), "numbers": X[:, 0], "columns": X[:, :2]}[target]
    weights = rng.random(N) if weighted else None
    kind = ours.MLPClassifier if target == "multilabel" else ours.MLPRegressor
    model, scoring = kind(**COMMON), "accuracy" if target == "multilabel" else "r2"
    monitor = ScoringMonitor(scoring=scoring)
    model.set_callbacks(monitor).fit(X, y, weights)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in rows] == list(range(EPOCHS))
    assert rows[-1][scoring] == pytest.approx(model.score(X, y, weights))


def test_parts_are_trainings_of_one_epoch(samples):
    X, y = samples
    record = Record()
    model, plain = made().set_callbacks(record), made()
    for _ in range(2):
        model.partial_fit(X, y, np.ones(N), classes=["no", "yes"])
        plain.partial_fit(X, y, np.ones(N), classes=["no", "yes"])
    assert_same_bits(model, plain)
    one = ["setup", "begin fit", "begin epoch", "end epoch", "end fit", "teardown"]
    assert record.events == one * 2
    np.testing.assert_array_equal(record.told[0][3]["sample_weight"], np.ones(N))


def test_a_callback_that_fails_is_torn_down(samples):
    X, y = samples
    record = Record(fail_after=1)
    model = made().set_callbacks(record)
    with pytest.raises(RuntimeError, match="a callback fails"):
        model.fit(X, y)
    assert record.events[-1] == "teardown"
    record.fail_after = None
    assert model.fit(X, y).n_iter_ == EPOCHS


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_an_epoch_that_diverges_ends(rng):
    record = Record()
    X = 1e3 * rng.standard_normal((50, 3))
    model = ours.MLPRegressor(
        hidden_layer_sizes=[5], activation="identity", solver="sgd", learning_rate_init=1e3,
        random_state=0, early_stopping=True,
    )  # fmt: skip
    model.set_callbacks(record).fit(X, X[:, 0])
    begun, ended = (record.events.count(f"{word} epoch") for word in ("begin", "end"))
    assert begun == ended == model.n_iter_ < model.max_iter


def test_pipelines_and_searches_pass_callbacks_on(samples):
    X, y = samples

    class Passed(Record):
        max_propagation_depth = None

    record = Passed()
    model = make_pipeline(StandardScaler(), made()).set_callbacks(record).fit(X, y)
    assert record.events.count("end epoch") == EPOCHS
    path = next(told[0] for told in record.told if told[0].task_name == "epoch")
    assert (path.parent.estimator_name, path.parent.parent.estimator_name) == (
        "MLPClassifier", "Pipeline",
    )  # fmt: skip
    assert_same_bits(model[-1], made().fit(StandardScaler().fit_transform(X), y))
    own = Record()
    assert clone(made().set_callbacks(own)).fit(X, y).n_iter_ == EPOCHS
    assert own.events.count("end epoch") == EPOCHS
    search = GridSearchCV(made().set_callbacks(own), {"alpha": [0.1, 1]}, cv=2).fit(X, y)
    assert search.best_estimator_.n_iter_ == EPOCHS
    assert own.events.count("end epoch") == 6 * EPOCHS


def test_a_callback_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="FitCallback protocol"):
        made().set_callbacks(lambda: None)
