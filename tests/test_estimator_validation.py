"""A validation set of one's own for the estimators, and the curves it leaves."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.9", reason="scikit-learn is an extra")

import sklearn
from scipy import sparse
from sklearn import metrics
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cases import crossed
from fastbp import estimator as ours
from fastbp.estimator import perceptron

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, N_VAL, FEATURES = 80, 40, 5
CURVES = "loss_curve_", "validation_loss_curve_", "validation_scores_"


def squared(y, outputs, weights):
    return metrics.mean_squared_error(y, outputs, sample_weight=weights) / 2


def log_loss(y, outputs, weights):
    return metrics.log_loss(y, outputs, sample_weight=weights)


def per_label(y, outputs, weights):
    parts = zip(y.T, outputs.T, strict=True)
    return sum(metrics.log_loss(*part, sample_weight=weights) for part in parts)


def half_deviance(y, outputs, weights):
    # Of all outputs: the sum over them.
    pairs = zip(y.T, outputs.T, strict=True)
    return sum(metrics.mean_poisson_deviance(*p, sample_weight=weights) / 2 for p in pairs)


# What is learnt: the class, the targets of n samples, parameters, and the loss by scikit-learn.
TASKS = {
    "binary": ("MLPClassifier", lambda rng, n: rng.integers(0, 2, n), {}, log_loss),
    "multiclass": (
        "MLPClassifier", lambda rng, n: np.array(list("abcd"))[np.arange(n) % 4], {},
        log_loss,
    ),
    "multilabel": ("MLPClassifier", lambda rng, n: rng.integers(0, 2, (n, 3)), {}, per_label),
    "regression": ("MLPRegressor", lambda rng, n: rng.standard_normal(n), {}, squared),
    "multi-output": ("MLPRegressor", lambda rng, n: rng.standard_normal((n, 2)), {}, squared),
    "poisson": (
        "MLPRegressor", lambda rng, n: rng.poisson(2, (n, 2)), {"loss": "poisson"}, half_deviance,
    ),
}  # fmt: skip
COMMON = {"hidden_layer_sizes": (6,), "batch_size": 20, "max_iter": 4, "random_state": 3}


def made(task, **options):
    """An estimator for a task."""
    name, _, more, _ = TASKS[task]
    return getattr(ours, name)(**{**COMMON, **more, **options})


def data(task, rng):
    """X and y for training and for validation."""
    X, X_val = rng.standard_normal((N, FEATURES)), rng.standard_normal((N_VAL, FEATURES))
    return X, TASKS[task][1](rng, N), X_val, TASKS[task][1](rng, N_VAL)


def parameters(model):
    return [*model.coefs_, *model.intercepts_]


def assert_same_bits(one, other):
    for got, want in zip(parameters(one), parameters(other), strict=True):
        np.testing.assert_array_equal(got, want)


def outputs(model, X):
    return getattr(model, "predict_proba", model.predict)(X)


@crossed(task=list(TASKS), solver=["adam", "lbfgs"], weighted=[False, True])
def test_losses_and_scores_are_those_of_scikit_learn_s_metrics(task, solver, weighted, rng):
    """And neither weights nor losses of the training are others than without."""
    X, y, X_val, y_val = data(task, rng)
    weights = rng.random(N_VAL) if weighted else None
    model = made(task, solver=solver)
    model.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weights)
    plain = made(task, solver=solver).fit(X, y)
    assert_same_bits(model, plain)
    assert plain.validation_loss_curve_ is None if solver == "adam" else True
    if solver == "adam":
        assert model.loss_curve_ == plain.loss_curve_
        assert model.best_loss_ == plain.best_loss_
    assert all(len(getattr(model, name)) == model.n_iter_ for name in CURVES)
    assert model.loss_ == model.loss_curve_[-1]
    loss = TASKS[task][3](y_val, outputs(model, X_val), weights)
    assert model.validation_loss_curve_[-1] == pytest.approx(loss, rel=1e-9)
    score = model.score(X_val, y_val, weights)
    if task == "multi-output" or task == "poisson":
        score = metrics.r2_score(y_val, model.predict(X_val), sample_weight=weights)
    assert model.validation_scores_[-1] == pytest.approx(score, rel=1e-9)
    assert model.best_validation_score_ == max(model.validation_scores_)


@pytest.mark.parametrize("task", TASKS)
def test_it_takes_the_place_of_the_samples_set_aside(task, rng, monkeypatch):
    """The same samples, passed or set aside, stop the training with the same weights."""
    X, y, _, _ = data(task, rng)
    splits, real = [], perceptron.train_test_split

    def split(*arrays, **options):
        splits.append(real(*arrays, **options))
        return splits[-1]

    monkeypatch.setattr(perceptron, "train_test_split", split)
    options = {"early_stopping": True, "shuffle": False, "max_iter": 30, "n_iter_no_change": 3}
    one = made(task, **options, learning_rate_init=0.02).fit(X, y)
    rows, rows_val = ([int((X == x).all(1).argmax()) for x in part] for part in splits[0][:2])
    other = clone(one).fit(X[rows], y[rows], X_val=X[rows_val], y_val=y[rows_val])
    assert len(splits) == 1
    assert_same_bits(one, other)
    for name in (*CURVES, "best_validation_score_", "n_iter_", "best_loss_"):
        assert getattr(one, name) == getattr(other, name)
    assert len(one.validation_loss_curve_) == one.n_iter_


def test_class_weights_do_not_count_in_it(rng):
    X, y, X_val, y_val = data("binary", rng)
    model = made("binary", class_weight={0: 1, 1: 9}).fit(X, y, X_val=X_val, y_val=y_val)
    loss = metrics.log_loss(y_val, model.predict_proba(X_val))
    assert model.validation_loss_curve_[-1] == pytest.approx(loss)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_array, np.float32, "frame"])
def test_kinds_of_tables(form, rng):
    X, y, X_val, y_val = data("multiclass", rng)
    model = made("multiclass")
    plain = clone(model).fit(X, y, X_val=X_val, y_val=y_val)
    if form == "frame":
        pandas = pytest.importorskip("pandas", reason="pandas is an extra")
        X, X_val = (pandas.DataFrame(x, columns=list("vwxyz")) for x in (X, X_val))
        y, y_val = pandas.Series(y), pandas.Series(y_val)
    else:
        X, X_val = form(X), form(X_val)
    model.fit(X, y, X_val=X_val, y_val=y_val)
    wanted = pytest.approx(plain.validation_loss_curve_, rel=1e-5)
    assert model.validation_loss_curve_ == wanted
    if form == "frame":
        with pytest.raises(ValueError, match="X_val, y_val: The feature names should match"):
            model.fit(X, y, X_val=X_val.rename(columns={"v": "q"}), y_val=y_val)


def test_parts_and_warm_starts_let_curves_go_on(rng):
    """Epochs without validation samples are NaN between the others, and missing at the end."""
    X, y, X_val, y_val = data("binary", rng)
    held_out = {"X_val": X_val, "y_val": y_val}
    model = made("binary").partial_fit(X, y, classes=[0, 1])
    assert model.validation_loss_curve_ is None
    model.partial_fit(X, y, **held_out).partial_fit(X, y).partial_fit(X, y, **held_out)
    model.partial_fit(X, y)
    assert len(model.loss_curve_) == 5
    assert np.isnan(model.validation_loss_curve_).tolist() == [True, False, True, False]
    assert len(model.history_.val_loss) == len(model.history_.val_accuracy) == 5
    plain = made("binary")
    for _ in range(5):
        plain.partial_fit(X, y, classes=[0, 1])
    assert_same_bits(model, plain)
    model.set_params(warm_start=True).fit(X, y, **held_out)
    assert len(model.validation_loss_curve_) == len(model.loss_curve_) == 9
    model.set_params(solver="lbfgs").fit(X, y, **held_out)
    assert len(model.validation_loss_curve_) == len(model.loss_curve_) == model.n_iter_
    assert model.fit(X, y).validation_loss_curve_ is None
    model.set_params(solver="adam", early_stopping=True).fit(X, y)  # goes on
    assert len(model.validation_scores_) == len(model.loss_curve_) == model.n_iter_


def test_copies_keep_the_curves(rng):
    X, y, X_val, y_val = data("regression", rng)
    model = made("regression").fit(X, y, X_val=X_val, y_val=y_val)
    again = pickle.loads(pickle.dumps(model))
    assert again.validation_loss_curve_ == model.validation_loss_curve_
    assert not hasattr(clone(model), "validation_loss_curve_")
    model.fit(X, y)
    assert model.validation_loss_curve_ is model.validation_scores_ is None


BAD = {
    "no y": (lambda X, y: {"X_val": X}, "X_val and y_val must be given together; got no y_val"),
    "no X": (lambda X, y: {"y_val": y}, "X_val and y_val must be given together; got no X_val"),
    "weights alone": (lambda X, y: {"sample_weight_val": y}, "together; got no X_val"),
    "features": (lambda X, y: {"X_val": X[:, :2], "y_val": y}, "X_val, y_val: X has 2 features"),
    "lengths": (lambda X, y: {"X_val": X, "y_val": y[:3]}, "X_val, y_val: Found input variables"),
    "NaN": (lambda X, y: {"X_val": X * np.nan, "y_val": y}, "X_val, y_val: Input X contains NaN"),
    "texts": (lambda X, y: {"X_val": X.astype(str), "y_val": y}, "X_val, y_val: X must hold numb"),
    "one sample": (lambda X, y: {"X_val": X[:1], "y_val": y[:1]}, "at least 2 samples; got 1"),
    "columns": (
        lambda X, y: {"X_val": X, "y_val": np.stack([y, y], axis=1)},
        "must hold classes, as y does|y must have 1 columns; got 2",
    ),
    "weights' length": (
        lambda X, y: {"X_val": X, "y_val": y, "sample_weight_val": [1, 2]},
        r"sample_weight_val must hold one number per sample, \(40,\)",
    ),
    "weights' sign": (
        lambda X, y: {"X_val": X, "y_val": y, "sample_weight_val": -np.ones(N_VAL)},
        "sample_weight_val must be at least 0",
    ),
}  # fmt: skip


@crossed(bad=list(BAD), task=["binary", "regression"])
def test_what_does_not_fit_is_refused(bad, task, rng):
    X, y, X_val, y_val = data(task, rng)
    make, words = BAD[bad]
    model = made(task, early_stopping=True)
    with pytest.raises((TypeError, ValueError), match=words):
        model.fit(X, y, **make(X_val, y_val))
    assert not hasattr(model, "coefs_")


def test_classes_that_do_not_fit_are_refused(rng):
    X, y, X_val, _ = data("multiclass", rng)
    others = np.array(list("abxy") * 10)
    with pytest.raises(ValueError, match=r"classes of y, \['a', .*\]; got \['x', 'y'\] too"):
        made("multiclass").fit(X, y, X_val=X_val, y_val=others)
    labels = TASKS["multilabel"][1](rng, N)
    with pytest.raises(ValueError, match="must hold rows of labels, as y does"):
        made("multilabel").fit(X, labels, X_val=X_val, y_val=np.arange(N_VAL) % 3)
    counts = rng.poisson(2, N)
    with pytest.raises(ValueError, match="X_val, y_val: y must be at least 0"):
        made("poisson").fit(X, counts, X_val=X_val, y_val=np.full(N_VAL, -1.0))
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        made("binary", early_stopping=True).partial_fit(
            X, counts > 2, classes=[0, 1], X_val=X_val, y_val=np.arange(N_VAL) % 2
        )


def test_a_pipeline_transforms_it(rng):
    """By scikit-learn's metadata routing, as for its gradient boosting; a search does it too."""
    X, y, X_val, y_val = data("binary", rng)
    X, X_val = 100 * X, 100 * X_val
    with sklearn.config_context(enable_metadata_routing=True):
        network = made("binary").set_fit_request(X_val=True, y_val=True)
        model = make_pipeline(StandardScaler(), network, transform_input=["X_val"])
        model.fit(X, y, X_val=X_val, y_val=y_val)
        scaler = StandardScaler().fit(X)
        plain = made("binary").fit(
            scaler.transform(X), y, X_val=scaler.transform(X_val), y_val=y_val
        )
        assert_same_bits(model[-1], plain)
        assert model[-1].validation_loss_curve_ == plain.validation_loss_curve_
        grid = {"mlpclassifier__early_stopping": [True]}
        search = GridSearchCV(model, grid, cv=2, error_score="raise")
        search.fit(X, y, X_val=X_val, y_val=y_val)
        best = search.best_estimator_[-1]
        assert len(best.validation_loss_curve_) == best.n_iter_


# -- curves ----------------------------------------------------------------------------------------


def test_a_history_of_a_fitted_estimator(rng):
    X, y, X_val, y_val = data("binary", rng)
    model = made("binary", early_stopping=True, max_iter=9).fit(X, y, X_val=X_val, y_val=y_val)
    history = model.history_
    assert (history.loss, history.val_loss) == (model.loss_curve_, model.validation_loss_curve_)
    assert history.val_accuracy == model.validation_scores_
    assert history.restored == 1 + int(np.argmax(model.validation_scores_))
    other = made("regression").fit(X, y, X_val=X_val, y_val=y_val).history_
    assert other.val_accuracy == []  # scores of a regressor are no accuracies
    assert (len(other), len(other.val_loss), other.restored) == (4, 4, 0)
    assert made("binary").fit(X, y).history_.val_loss == []
    with pytest.raises(AttributeError, match="'lbfgs' records curves only if fit gets X_val"):
        _ = made("binary", solver="lbfgs").fit(X, y).history_
    assert not hasattr(made("binary"), "history_")


def test_learning_curves_of_estimators(rng):
    pytest.importorskip("matplotlib", reason="matplotlib is an extra")
    from fastbp import plots

    X, y, X_val, y_val = data("binary", rng)
    model = made("binary").fit(X, y, X_val=X_val, y_val=y_val)
    figure = plots.learning_curves(model)
    left, right = figure.axes
    losses = [line.get_ydata().tolist() for line in left.lines]
    assert losses == [model.loss_curve_, model.validation_loss_curve_]
    (scores,) = right.lines
    assert scores.get_ydata() == pytest.approx(100 * np.array(model.validation_scores_))
    plain = made("binary", alpha=1.0).fit(X, y)
    both = plots.learning_curves({"alpha 0.0001": model, "alpha 1": plain})
    assert [axes.get_visible() for axes in both.axes] == [True, False, True, True]
    regressor = made("regression", solver="lbfgs").fit(X, y, X_val=X_val, y_val=y_val)
    assert len(plots.learning_curves(regressor).axes) == 1
