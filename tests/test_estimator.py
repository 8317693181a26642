"""The estimators beside scikit-learn's: the same numbers, attributes, words and complaints."""

import contextlib
import copy
import importlib
import inspect
import io
import pickle
import subprocess
import sys
import warnings
from itertools import product

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.9", reason="scikit-learn is an extra")

from joblib.externals.loky import get_reusable_executor
from scipy import sparse
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastbp
from cases import crossed
from fastbp import estimator as ours
from fastbp.kernels import machine
from fastbp.network import Network

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SOLVERS = ["sgd", "adam", "lbfgs"]
N, FEATURES = 95, 7
EXTRA = {"class_weight", "n_threads", "dropout"}
EXTRA_DATA = ["X_val", "y_val", "sample_weight_val"]


@pytest.fixture
def X(rng):
    return rng.standard_normal((N, FEATURES))


# What is learnt: the class, the targets, and parameters.
TASKS = {
    "binary": ("MLPClassifier", lambda rng: rng.integers(0, 2, N), {}),
    "multiclass": ("MLPClassifier", lambda rng: np.array(list("abcd"))[np.arange(N) % 4], {}),
    "multilabel": ("MLPClassifier", lambda rng: rng.integers(0, 2, (N, 3)), {}),
    "regression": ("MLPRegressor", lambda rng: rng.standard_normal(N), {}),
    "multi-output": ("MLPRegressor", lambda rng: rng.standard_normal((N, 2)), {}),
    "poisson": ("MLPRegressor", lambda rng: rng.poisson(2, (N, 2)), {"loss": "poisson"}),
}  # fmt: skip
COMMON = {"hidden_layer_sizes": (8, 5), "batch_size": 20, "random_state": 3}


def task_of(title, rng):
    """The class's name, y, and the parameters of a task."""
    name, make, options = TASKS[title]
    return name, make(rng), options


@pytest.fixture(params=TASKS)
def task(request, rng):
    """Each task in turn."""
    return task_of(request.param, rng)


def pair(name, **options):
    """Our estimator and scikit-learn's, of the same parameters."""
    return tuple(getattr(module, name)(**{**COMMON, **options}) for module in (ours, theirs))


def parameters(model):
    return [*model.coefs_, *model.intercepts_]


def predictions(model, X):
    return getattr(model, "predict_proba", model.predict)(X)


def assert_same(one, other, X, assert_close, kind="contraction"):
    """Weights, losses, scores and predictions of two fitted estimators agree."""
    for got, want in zip(parameters(one), parameters(other), strict=True):
        assert_close(got, want, kind)
        assert got.dtype == want.dtype
    for name in ("loss_", "loss_curve_", "best_loss_", "validation_scores_"):
        assert hasattr(one, name) == hasattr(other, name)
        if getattr(other, name, None) is not None:
            assert_close(getattr(one, name), getattr(other, name), kind)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(one, name) == getattr(other, name)
    assert_close(predictions(one, X), predictions(other, X), kind)
    got, want = one.predict(X), other.predict(X)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)


# -- equality --------------------------------------------------------------------------------------

# Two epochs of five steps.
OPTIONS = {
    "sgd": {"solver": "sgd"},
    "plain momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "no momentum": {"solver": "sgd", "momentum": 0},
    "all momentum": {"solver": "sgd", "momentum": 1},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 9, "n_iter_no_change": 1},
    "adam": {},
    "adam's numbers": {"beta_1": 0.5, "beta_2": 0.6, "epsilon": 0.1},
    "lbfgs": {"solver": "lbfgs", "max_iter": 10},
    "penalty": {"alpha": 3.0},
    "lbfgs with penalty": {"solver": "lbfgs", "max_iter": 10, "alpha": 3.0},
    "no penalty": {"alpha": 0},
    "tanh": {"activation": "tanh"},
    "logistic": {"activation": "logistic"},
    "identity": {"activation": "identity"},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "one hidden layer": {"hidden_layer_sizes": 6},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
    "whole batches": {"batch_size": N},
    "automatic batches": {"batch_size": "auto"},
}  # fmt: skip


@crossed(options=list(OPTIONS), task=list(TASKS), weighted=[False, True])
def test_ten_steps_are_scikit_learn_s(options, task, weighted, X, rng, assert_close):
    name, y, more = task_of(task, rng)
    weights = rng.random(N) * (rng.random(N) < 0.8) if weighted else None
    options = {"max_iter": 2, "shuffle": False, "learning_rate_init": 0.1, **OPTIONS[options]}
    one, other = pair(name, **options, **more)
    assert_same(one.fit(X, y, weights), other.fit(X, y, weights), X, assert_close)


@crossed(
    options=["sgd", "invscaling", "adaptive", "adam", "early stopping", "whole batches"],
    task=list(TASKS),
    weighted=[False, True],
)
def test_shuffled_epochs_are_scikit_learn_s(options, task, weighted, X, rng, assert_close):
    """Splits, start and orders draw the same random numbers, and leave the same ones."""
    name, y, more = task_of(task, rng)
    weights = rng.random(N) if weighted else None
    one, other = pair(name, max_iter=12, **OPTIONS[options], **more)
    one.random_state, other.random_state = (np.random.RandomState(5) for _ in range(2))
    for _ in range(2):
        assert_same(one.fit(X, y, weights), other.fit(X, y, weights), X, assert_close)
    assert one.random_state.randint(1 << 30) == other.random_state.randint(1 << 30)


@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_stays_as_long_as_it_does_in_scikit_learn(solver, task, X):
    """scikit-learn's lbfgs leaves double precision, if after steps in single precision."""
    name, y, more = task
    X = X.astype(np.float32)
    one, other = (m.fit(X, y) for m in pair(name, solver=solver, max_iter=10, **more))
    for got, want in zip(parameters(one), parameters(other), strict=True):
        assert got.dtype == want.dtype
        if solver != "lbfgs":
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())
    assert one.loss_ == pytest.approx(other.loss_, rel=1e-3)
    for kind in (np.float32, np.float64, np.int64, np.int8):
        assert predictions(one, X.astype(kind)).dtype == predictions(other, X.astype(kind)).dtype


@crossed(form=[sparse.csr_matrix, sparse.csc_array], solver=SOLVERS, task=list(TASKS))
def test_sparse_matrices(form, solver, task, X, rng, assert_close, monkeypatch):
    """Also those of which only some rows are made dense at a time."""
    monkeypatch.setattr(machine, "ROWS_AT_ONCE", 30)
    name, y, more = task_of(task, rng)
    X = np.where(rng.random(X.shape) < 0.3, X, 0)
    weights = rng.random(N)
    one, other = pair(name, solver=solver, max_iter=4, **more)
    one.fit(form(X), y, weights)
    assert_same(one, other.fit(form(X), y, weights), form(X), assert_close)
    assert_close(predictions(one, form(X)), predictions(one, X))


@pytest.mark.slow
def test_mnist(mnist, assert_close):
    """Real images, in float32 and as sparse matrices: the accuracy is scikit-learn's."""
    X, y, X_test, y_test = mnist[0][:6000] / np.float32(255), mnist[1][:6000], *mnist[2:]
    X_test = X_test / np.float32(255)
    one, other = pair("MLPClassifier", hidden_layer_sizes=(30,), max_iter=3, batch_size=100)
    one.fit(X, y)
    other.fit(X, y)
    found = one.score(X_test, y_test)
    assert found > 0.88
    assert found == pytest.approx(other.score(X_test, y_test), abs=0.003)
    assert one.loss_curve_ == pytest.approx(other.loss_curve_, rel=1e-3)
    again = clone(one).fit(sparse.csr_matrix(X), y)
    assert again.loss_curve_ == pytest.approx(one.loss_curve_, rel=1e-3)


# -- the face --------------------------------------------------------------------------------------


# "sgd" and "adam" are one loop; "lbfgs" is another.
CHECKED = [("MLPClassifier", "adam"), ("MLPRegressor", "lbfgs")]
OTHERS = [case for case in product(ours.__all__, SOLVERS) if case not in CHECKED]


def checks_of(cases):
    """scikit-learn's own checks of these classes with these solvers."""
    return parametrize_with_checks(
        [getattr(ours, name)(solver=solver, max_iter=100) for name, solver in cases]
    )


@checks_of(CHECKED)
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)


@pytest.mark.long
@checks_of(OTHERS)
def test_scikit_learn_s_checks_of_the_other_solvers(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", ours.__all__)
def test_parameters_and_methods_are_scikit_learn_s(name):
    one, other = (getattr(module, name) for module in (ours, theirs))
    got, want = (inspect.signature(cls).parameters for cls in (one, other))
    assert list(want) == [p for p in got if p not in EXTRA]
    for p in want:
        assert (got[p].default, got[p].kind) == (want[p].default, want[p].kind)
    shown = {n for n in dir(other) if not n.startswith("_")}
    assert shown <= {n for n in dir(one) if not n.startswith("_")} | {"loss"}
    for method in ("fit", "partial_fit", "predict", "score"):
        found, wanted = (inspect.signature(getattr(m(), method)).parameters for m in (one, other))
        assert list(found) == [*wanted, *(EXTRA_DATA if "fit" in method else [])]
    assert repr(one(alpha=2, tol=3)) == repr(other(alpha=2, tol=3))
    assert one().__sklearn_tags__() == other().__sklearn_tags__()


@pytest.mark.parametrize("options", ["sgd", "adam", "lbfgs", "early stopping"])
def test_attributes_are_scikit_learn_s(options, task, X):
    name, y, more = task
    one, other = (m.fit(X, y) for m in pair(name, **{"max_iter": 3, **OPTIONS[options], **more}))
    got, want = ({n for n in vars(m) if n.endswith("_")} for m in (one, other))
    assert got - {"validation_loss_curve_"} == want
    for attribute in want:
        assert type(getattr(one, attribute)) is type(getattr(other, attribute)) or isinstance(
            getattr(one, attribute), float
        )
    assert [W.shape for W in parameters(one)] == [W.shape for W in parameters(other)]


def test_names_of_features(X):
    pandas = pytest.importorskip("pandas", reason="pandas is an extra")
    frame = pandas.DataFrame(X, columns=list("abcdefg"))
    model = ours.MLPRegressor(max_iter=2, early_stopping=True).fit(frame, X[:, 0])
    assert list(model.feature_names_in_) == list("abcdefg")
    model.predict(frame)
    with pytest.warns(UserWarning, match="X does not have valid feature names, but MLPRegressor"):
        model.predict(X)


def test_whoever_imports_fastbp_does_not_import_scikit_learn():
    code = "import fastbp, sys; print('sklearn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("fastbp.estimator")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'scikit-learn>="):
        importlib.import_module("fastbp.estimator")


# -- weights that are written to -------------------------------------------------------------------


def test_what_is_written_into_the_weights_is_what_predicts(task, X, assert_close):
    name, y, more = task
    models = [m.fit(X, y) for m in pair(name, max_iter=2, **more)]
    before = predictions(models[0], X)
    for m in models:
        m.coefs_[0][2] += 1.0  # a row of a view
        m.intercepts_[1] *= 2
        m.coefs_[1] = m.coefs_[1] + 0.5  # another array
    first = predictions(models[0], X)
    assert not np.allclose(first, before)
    assert_close(first, predictions(models[1], X))
    for m in models:
        m.coefs_[1][...] = 0.25  # which is now written to
        m.intercepts_ = [b + 1 for b in m.intercepts_]
    assert_close(predictions(models[0], X), predictions(models[1], X))
    for m in models:
        m.partial_fit(X, y)
    assert_same(*models, X, assert_close)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("again", ["fit", "partial_fit", "warm start"])
def test_arrays_that_a_user_keeps_change_where_scikit_learn_s_do(again, solver, X, assert_close):
    if (again, solver) == ("partial_fit", "lbfgs"):
        again = "warm start"
    kept = []
    for m in pair("MLPRegressor", solver=solver, max_iter=2, warm_start=again == "warm start"):
        kept.append(m.fit(X, X[:, 0]).coefs_[0])
        before = kept[-1].copy()
        (m.partial_fit if again == "partial_fit" else m.fit)(X, X[:, 1])
        changes = again != "fit" and solver != "lbfgs"
        assert np.array_equal(before, kept[-1]) != changes
        assert not np.array_equal(before, m.coefs_[0])
    assert_close(*kept)


def test_weights_of_other_shapes_are_another_network(X, assert_close):
    models = [m.fit(X, X[:, :2]) for m in pair("MLPRegressor", max_iter=2)]
    for m in models:
        m.coefs_ = [m.coefs_[0][:, :6], m.coefs_[1][:6], m.coefs_[2]]
        m.intercepts_[0] = m.intercepts_[0][:6]
        m.activation = "tanh"
    assert_close(*(m.predict(X) for m in models))


@crossed(
    copied=[lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy],
    solver=["sgd", "adam"],
    task=list(TASKS),
)
def test_copies_go_on_by_themselves(copied, solver, task, X, rng, assert_close):
    """Weights, the optimiser's memory and its rate go with them."""
    name, y, more = task_of(task, rng)
    one, other = pair(name, solver=solver, learning_rate="invscaling", max_iter=3, **more)
    one.fit(X, y)
    other.fit(X, y).partial_fit(X, y)
    kept = one.predict(X)
    again = copied(one)
    for part in parameters(again):  # views, as the first's are: to predict copies no weights
        assert np.shares_memory(part, again._synced().params)
    again.partial_fit(X, y)
    assert_same(again, other, X, assert_close)
    if copied is not copy.copy:
        np.testing.assert_array_equal(one.predict(X), kept)


def test_a_pickle_holds_the_weights_once(X):
    model = ours.MLPRegressor(hidden_layer_sizes=[500], solver="lbfgs", max_iter=1).fit(X, X[:, 0])
    assert len(pickle.dumps(model)) < 1.5 * sum(part.nbytes for part in parameters(model))


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["sgd", "invscaling", "adaptive", "adam", "all momentum"])
def test_partial_fit_goes_on_where_it_was(options, task, X, rng, assert_close):
    name, y, more = task
    one, other = pair(name, **OPTIONS[options], **more)
    weights = rng.random(N)
    for first in (0, 30, 60, 20):
        part = slice(first, first + 30)
        labels = np.unique(y) if y.ndim == 1 else range(y.shape[1])
        classes = {"classes": labels} if name == "MLPClassifier" else {}
        for m in (one, other):
            m.partial_fit(X[part], y[part], sample_weight=weights[part], **classes)
        assert_same(one, other, X, assert_close)
    if options != "adam":  # whose correction scikit-learn writes into the rate
        assert one._optimizer.learning_rate == pytest.approx(other._optimizer.learning_rate)


def test_a_batch_that_lacks_classes(X, assert_close):
    one, other = pair("MLPClassifier")
    for m in (one, other):
        m.partial_fit(X[:20], np.arange(20) % 2, classes=[0, 1, 2])
        m.partial_fit(X[20:40], np.arange(20) % 2 + 1)
    assert_same(one, other, X, assert_close)


@pytest.mark.parametrize("options", ["sgd", "adam", "lbfgs", "early stopping"])
def test_a_warm_start_goes_on(options, task, X, assert_close):
    name, y, more = task
    one, other = pair(name, warm_start=True, **{"max_iter": 4, **OPTIONS[options], **more})
    for _ in range(3):
        coefs = one.coefs_[0].copy() if hasattr(one, "coefs_") else None
        one.fit(X, y)
        other.fit(X, y)
        assert one.n_iter_ == other.n_iter_
        assert_same(one, other, X, assert_close, "epoch")
        assert coefs is None or not np.array_equal(coefs, one.coefs_[0])


def test_early_stopping_ends_with_the_best_weights(X, assert_close):
    y = X[:, 0] + X[:, 1] > 0
    one, other = pair(
        "MLPClassifier", early_stopping=True, learning_rate_init=0.01, max_iter=300,
        n_iter_no_change=5, validation_fraction=0.2,
    )  # fmt: skip
    one.fit(X, y)
    assert_same(one, other.fit(X, y), X, assert_close)
    assert 6 < one.n_iter_ < 300
    assert one.best_validation_score_ == max(one.validation_scores_) > one.validation_scores_[0]


# -- what is said ----------------------------------------------------------------------------------


def heard(call):
    """What a call prints, warns of and raises."""
    out, raised = io.StringIO(), None
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(out):
        warnings.simplefilter("always")
        try:
            call()
        except Exception as error:
            raised = type(error), str(error)
    words = [(w.category, str(w.message)) for w in caught if w.category is not RuntimeWarning]
    return out.getvalue(), words, raised


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        ({"solver": "sgd", "tol": 0.5}, "consecutive epochs. Stopping."),
        ({"tol": 0.5}, "Training loss did not improve more than tol=0.500000 for 2 consecutive"),
        ({"early_stopping": True}, "Validation score did not improve more than tol=0.000100 for 2"),
        (
            {"solver": "sgd", "learning_rate": "adaptive", "tol": 9, "max_iter": 60},
            "Learning rate too small. Stopping.",
        ),
        ({"max_iter": 3}, "Iteration 3, loss = "),
        ({"solver": "lbfgs", "max_iter": 3}, ""),
    ],
)
def test_verbose_lines_and_warnings(options, ends, task, X):
    name, y, more = task
    options = {"verbose": True, "n_iter_no_change": 2, "max_iter": 40, **options, **more}
    found, expected = (heard(lambda m=m: m.fit(X, y)) for m in pair(name, **options))
    assert found == expected
    assert found[2] is None
    if name == "MLPClassifier":  # scores of regressors may get better all the time
        assert ends in found[0]


def test_a_user_s_interrupt_ends_training_with_a_warning(X, monkeypatch):
    """Weights and curves are those of the epochs that were done."""
    found = []
    for module in (ours, theirs):
        scores = iter([0.1, 0.2])

        class Interrupted(module.MLPClassifier):
            def _score(self, X, y, sample_weight=None, scores=scores):
                for score in scores:
                    return score
                raise KeyboardInterrupt

        model = Interrupted([5], early_stopping=True, random_state=0)
        words = heard(lambda model=model: model.fit(X, X[:, 0] > 0))
        found.append((words, model.n_iter_, model.validation_scores_, model.coefs_[0].round(9)))
    (words, *rest), (their_words, *theirs_rest) = found
    assert words == their_words
    assert words[1] == [(UserWarning, "Training interrupted by user.")]
    assert [str(x) for x in rest] == [str(x) for x in theirs_rest]


NAN, INFINITE = np.full((5, 2), np.nan), np.full((5, 2), np.inf)
GOOD = np.arange(10.0).reshape(5, 2)
LABELS, NUMBERS = np.array([0, 1, 0, 1, 1]), np.arange(5.0)
BAD_PARAMETERS = [
    {"hidden_layer_sizes": (3, 0)}, {"hidden_layer_sizes": -1}, {"hidden_layer_sizes": (2, -1)},
    {"hidden_layer_sizes": "x"}, {"solver": "hadoken"}, {"alpha": -1},
    {"alpha": "x"}, {"batch_size": 0}, {"batch_size": 1.5}, {"batch_size": "all"},
    {"learning_rate": "cosine"}, {"learning_rate_init": 0}, {"power_t": -1}, {"max_iter": 0},
    {"max_iter": 2.5}, {"shuffle": "true"}, {"random_state": "x"}, {"tol": -1},
    {"verbose": "yes"}, {"warm_start": 3}, {"momentum": 2}, {"momentum": -0.5},
    {"nesterovs_momentum": "x"}, {"early_stopping": "x"}, {"validation_fraction": 1},
    {"beta_1": 1}, {"beta_2": -0.1}, {"epsilon": 0}, {"n_iter_no_change": 0}, {"max_fun": 0},
    {"early_stopping": True}, {"early_stopping": True, "validation_fraction": 0.99},
    {"early_stopping": True, "validation_fraction": 0.3},
]  # fmt: skip


@pytest.mark.parametrize("options", BAD_PARAMETERS, ids=str)
@pytest.mark.parametrize("name", ours.__all__)
def test_bad_parameters_get_scikit_learn_s_words(name, options):
    y = LABELS if name == "MLPClassifier" else NUMBERS
    found, expected = (heard(lambda m=m: m.fit(GOOD, y)) for m in pair(name, **options))
    assert found == expected
    assert found[2] or len(options) == 2


BAD_DATA = {
    "NaN": lambda m, y: m.fit(NAN, y),
    "infinity": lambda m, y: m.fit(INFINITE, y),
    "NaN in y": lambda m, y: m.fit(GOOD, np.full(5, np.nan)),
    "lengths": lambda m, y: m.fit(GOOD, y[:4]),
    "flat": lambda m, y: m.fit(GOOD[0], y),
    "three dimensions": lambda m, y: m.fit(GOOD[None], y),
    "no sample": lambda m, y: m.fit(GOOD[:0], y[:0]),
    "no feature": lambda m, y: m.fit(GOOD[:, :0], y),
    "words": lambda m, y: m.fit(np.full((5, 2), "x"), y),
    "complex": lambda m, y: m.fit(GOOD * 1j, y),
    "no y": lambda m, y: m.fit(GOOD, None),
    "words in y": lambda m, y: m.fit(GOOD, np.array(list("abcab"), object)),
    "y of columns": lambda m, y: m.fit(GOOD, y[:, None]),
    "coo": lambda m, y: m.fit(sparse.coo_matrix(GOOD), y),
    "sparse NaN": lambda m, y: m.fit(sparse.csr_matrix(NAN), y),
    "weights' length": lambda m, y: m.fit(GOOD, y, [1, 2]),
    "weights' shape": lambda m, y: m.fit(GOOD, y, GOOD),
    "NaN in weights": lambda m, y: m.fit(GOOD, y, np.full(5, np.nan)),
    "clipped batches": lambda m, y: m.set_params(batch_size=200).fit(GOOD, y),
    "clipped batches, partly": lambda m, y: m.set_params(batch_size=200).partial_fit(GOOD, y),
    "not fitted": lambda m, y: m.predict(GOOD),
    "features": lambda m, y: m.fit(GOOD, y).predict(GOOD[:, :1]),
    "flat to predict": lambda m, y: m.fit(GOOD, y).predict(GOOD[0]),
    "NaN to predict": lambda m, y: m.fit(GOOD, y).predict(NAN),
    "none to predict": lambda m, y: m.fit(GOOD, y).predict(GOOD[:0]),
    "one class": lambda m, y: m.fit(GOOD, y * 0),
    "part of other width": lambda m, y: m.fit(GOOD, y).partial_fit(GOOD[:, :1], y),
    "stopping of parts": lambda m, y: m.set_params(early_stopping=True).partial_fit(GOOD, y),
    "parts of lbfgs": lambda m, y: m.set_params(solver="lbfgs").partial_fit(GOOD, y),
    "warm classes": lambda m, y: m.set_params(warm_start=True).fit(GOOD, y).fit(GOOD, y + 1),
    "new classes": lambda m, y: m.fit(GOOD, y).partial_fit(GOOD, y + 1),
    "no classes": lambda m, y: m.partial_fit(GOOD, y, classes=None),
    "other classes": lambda m, y: m.partial_fit(GOOD, y, classes=[7, 8]),
    "changed classes": lambda m, y: m.partial_fit(GOOD, y, classes=[0, 1]).partial_fit(
        GOOD, y, classes=[0, 1, 2]
    ),
    "continuous": lambda m, y: m.fit(GOOD, y + 0.5),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_DATA)
@pytest.mark.parametrize("name", ours.__all__)
def test_bad_data_get_scikit_learn_s_words(name, bad):
    y = LABELS if name == "MLPClassifier" else NUMBERS
    models = pair(name, batch_size="auto", max_iter=2)
    found, expected = (heard(lambda m=m: BAD_DATA[bad](m, y)) for m in models)
    strip = [(kind, words.split(" (")[0]) for kind, words in expected[1]]
    assert [(kind, words.split(" (")[0]) for kind, words in found[1]] == strip
    assert found[2] == expected[2]
    assert found[1] or found[2]


def test_the_error_for_nothing_fitted(X):
    with pytest.raises(NotFittedError, match="This MLPClassifier instance is not fitted yet"):
        ours.MLPClassifier().predict_proba(X)


@pytest.mark.parametrize("solver", SOLVERS)
def test_divergence_gets_scikit_learn_s_words(solver, rng):
    X = np.finfo(np.float64).max * rng.random((10, 2))
    found, expected = (
        heard(lambda m=m: m.fit(X, rng.random(10))) for m in pair("MLPRegressor", solver=solver)
    )
    assert found[2] == expected[2]
    if solver == "lbfgs":  # SciPy gives up before it takes a step
        assert found[1] == expected[1]
        assert found[1][0][0] is ConvergenceWarning
    else:  # scikit-learn first goes through all epochs, and says so
        assert found[2][0] is ValueError
        assert "non-finite parameter weights" in found[2][1]


def test_divergence_leaves_the_last_finite_weights(rng):
    model = ours.MLPRegressor(
        hidden_layer_sizes=[5],
        activation="identity",
        solver="sgd",
        learning_rate_init=1e3,
        random_state=0,
        batch_size=5,
    )
    with pytest.raises(ValueError, match="non-finite") as caught:
        model.fit(rng.random((50, 3)), rng.random(50))
    assert isinstance(caught.value.__cause__, fastbp.DivergenceError)
    assert all(np.isfinite(part).all() for part in parameters(model))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # scikit-learn's score, before it
def test_early_stopping_outlives_divergence(rng):
    X, y = rng.random((50, 3)), rng.random(50)
    model = ours.MLPRegressor(
        hidden_layer_sizes=[5], activation="identity", solver="sgd", learning_rate_init=1e3,
        random_state=0, early_stopping=True,
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning, match="non-finite parameter weights"):
        model.fit(X, y)
    assert np.isnan(model.validation_scores_[-1])
    assert np.isfinite(model.predict(X)).all()
    assert len(model.loss_curve_) == len(model.validation_scores_) == model.n_iter_ < 20


def test_weights_below_zero_are_refused(X):
    with pytest.raises(ValueError, match="sample_weight must be at least 0"):
        ours.MLPRegressor().fit(X, X[:, 0], np.full(N, -1.0))


# -- beside scikit-learn's -------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("task", "weight"),
    [
        ("binary", "balanced"), ("binary", {0: 1.0, 1: 5.0}), ("multiclass", "balanced"),
        ("multiclass", {"a": 3.0, "b": 0.5, "c": 1.0, "d": 1.0}), ("multilabel", "balanced"),
        ("multilabel", [{0: 1, 1: 2}, {0: 1, 1: 1}, {0: 3, 1: 1}]),
    ],
)  # fmt: skip
def test_class_weights_are_weights_of_samples(task, weight, solver, X, rng, assert_close):
    y = TASKS[task][1](rng)
    weights = rng.random(N)
    options = {**COMMON, "solver": solver, "max_iter": 4}
    one = ours.MLPClassifier(**options, class_weight=weight).fit(X, y, weights)
    other = theirs.MLPClassifier(**options)
    other.fit(X, y, weights * compute_sample_weight(weight, y))
    assert_same(one, other, X, assert_close)


def test_class_weights_of_parts(X, assert_close):
    """A part may lack classes that have a weight."""
    y, weight = np.arange(N) % 3, {0: 1.0, 2: 5.0}
    one, other = pair("MLPClassifier")
    one.class_weight = weight
    for part, by_class in ((slice(0, 30), weight), (y < 2, {0: 1.0})):
        one.partial_fit(X[part], y[part], classes=[0, 1, 2])
        counts = compute_sample_weight(by_class, y[part])
        other.partial_fit(X[part], y[part], sample_weight=counts, classes=[0, 1, 2])
    assert_same(one, other, X, assert_close)
    one.class_weight = "balanced"
    with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit"):
        one.partial_fit(X, y)


def test_any_number_of_threads_gives_the_same_bits(rng, monkeypatch):
    asked, fit = [], Network.fit

    def counted(self, *args, threads, **options):
        asked.append(threads)
        return fit(self, *args, threads=threads, **options)

    monkeypatch.setattr(Network, "fit", counted)
    X = rng.standard_normal((600, 50))
    models = [
        ours.MLPClassifier([64], n_threads=n, random_state=0, max_iter=3).fit(X, X[:, 0] > 0)
        for n in (1, 2)
    ]
    assert asked == [1, 2]
    for one, two in zip(*map(parameters, models), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_weight": "even"}, "The 'class_weight' parameter of MLPClassifier must be"),
        ({"n_threads": 0}, "The 'n_threads' parameter of MLPClassifier must be an int in"),
    ],
)
def test_bad_values_of_these_parameters(options, words, X):
    with pytest.raises(ValueError, match=words):
        ours.MLPClassifier(**options).fit(X, X[:, 0] > 0)


# -- subclasses ------------------------------------------------------------------------------------


class Mixed:
    def __init__(self, mixed=3, **more):
        super().__init__(**more)
        self.mixed = mixed


def subclasses(base):
    """Classes as users derive them."""

    class Added(base):
        def __init__(self, extra=1, alpha=0.1, max_iter=3, random_state=0):
            super().__init__(alpha=alpha, max_iter=max_iter, random_state=random_state)
            self.extra = extra

    class AnyMore(base):
        def __init__(self, extra=1, **more):
            super().__init__(**{"random_state": 0, "max_iter": 3, **more})
            self.extra = extra

    class Fixed(base):
        def __init__(self, hidden_layer_sizes=(5,), random_state=0):
            super().__init__(
                hidden_layer_sizes=hidden_layer_sizes, activation="tanh", max_iter=2,
                random_state=random_state,
            )  # fmt: skip

    class Bare(base):
        def __init__(self, extra=1):
            self.extra = extra
            super().__init__()
            self.max_iter, self.random_state = 2, 0

    class Second(Added):
        def __init__(self, more=2, extra=1, max_iter=3, random_state=0):
            super().__init__(extra=extra, max_iter=max_iter, random_state=random_state)
            self.more = more

    class WithMixin(Mixed, base):
        def __init__(self, mixed=3, max_iter=3, random_state=0):
            super().__init__(mixed=mixed, max_iter=max_iter, random_state=random_state)

    class Named(base):
        """By the names of what our constructors have inside."""

        def __init__(self, settings=None, name=1, max_iter=3, random_state=0):
            base.__init__(self, max_iter=max_iter, random_state=random_state)
            self.settings, self.name = settings, name

    class Computed(base):
        def __init__(self, level=0.1, max_iter=3, random_state=0):
            super().__init__(max_iter=max_iter, random_state=random_state)
            self.level = level

        @property
        def alpha(self):
            return self.level * 2

        @alpha.setter
        def alpha(self, value):
            """What the base class sets is not used."""

    found = Added, AnyMore, Fixed, Bare, Second, WithMixin, Named, Computed
    return {cls.__name__: cls for cls in found}


@pytest.mark.parametrize("kind", subclasses(object))
@pytest.mark.parametrize("name", ours.__all__)
def test_subclasses_have_parameters_of_their_own(name, kind, X, assert_close):
    one, other = (subclasses(getattr(module, name))[kind]() for module in (ours, theirs))
    y = X[:, 0] > 0
    assert one.get_params() == other.get_params()
    assert repr(one) == repr(other)
    assert_same(one.fit(X, y), other.fit(X, y), X, assert_close)
    params = {"extra": 5, "mixed": 5, "level": 0.5, "name": 5, "random_state": 1}
    changed = {k: value for k, value in params.items() if k in one.get_params()}
    if kind not in ("AnyMore", "Bare"):  # whose other parameters no clone keeps
        one, other = (clone(m.set_params(**changed)).fit(X, y) for m in (one, other))
        assert_same(one, other, X, assert_close)
        grid = {"random_state": [0, 1]}
        searches = [
            GridSearchCV(m, grid, cv=2, error_score="raise").fit(X, y) for m in (one, other)
        ]
        assert_close(*(search.cv_results_["mean_test_score"] for search in searches))
        assert searches[0].best_params_ == searches[1].best_params_
    assert one.get_params() == other.get_params()
    twin = copy.deepcopy(one)
    np.testing.assert_array_equal(twin.predict(X), one.predict(X))
    assert {k: getattr(twin, k) for k in changed} == {k: getattr(one, k) for k in changed}


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        ({"activation": "swish"}, "The 'activation' parameter of Fixed must be"),
        ({"loss": (5,)}, "The 'loss' parameter of Fixed must be"),
        ({"max_iter": 0}, "The 'max_iter' parameter of Fixed must be"),
    ],
)
def test_what_a_subclass_fixes_is_checked(fixed, words, X):
    class Fixed(ours.MLPRegressor):
        def __init__(self, alpha=1.0):
            super().__init__(alpha=alpha, **fixed)

    with pytest.raises(ValueError, match=words):
        Fixed().fit(X, X[:, 0])


# -- what is set by hand ---------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["identity", "logistic", "softmax", "tanh", "relu", "exp"])
@pytest.mark.parametrize("title", ["multiclass", "multilabel", "multi-output"])
def test_an_output_set_by_hand_is_what_predicts(title, output, X, rng, assert_close):
    name, y, more = task_of(title, rng)
    one, other = (m.fit(X, y) for m in pair(name, max_iter=3, **more))
    for model in (one, other):
        model.out_activation_ = output
    assert_close(predictions(one, X), predictions(other, X))
    np.testing.assert_array_equal(one.predict(X).shape, other.predict(X).shape)
    assert_close(predictions(pickle.loads(pickle.dumps(one)), X), predictions(other, X))


def test_other_names_set_by_hand_are_refused(X):
    model = ours.MLPRegressor(hidden_layer_sizes=[5], max_iter=2).fit(X, X[:, 0])
    model.out_activation_ = "sigmoid"
    with pytest.raises(ValueError, match=r"out_activation_ must be one of .*logistic.*'sigmoid'"):
        model.predict(X)
    model = (
        ours.MLPRegressor(hidden_layer_sizes=[5], max_iter=2)
        .fit(X, X[:, 0])
        .set_params(activation="swish")
    )
    with pytest.raises(ValueError, match=r"activation must be one of .*tanh.*'swish'"):
        model.predict(X)


SCALARS = {
    "hidden_layer_sizes": np.array([5, 4], "u1"), "alpha": np.float32(0.5),
    "batch_size": np.int16(10), "learning_rate_init": np.float32(0.5), "power_t": np.float16(0.5),
    "max_iter": np.int64(3), "shuffle": np.False_, "random_state": np.uint8(3),
    "tol": np.float32(0.25), "momentum": np.float32(0.5), "nesterovs_momentum": np.True_,
    "early_stopping": np.True_, "validation_fraction": np.float32(0.25), "beta_1": np.float32(0.5),
    "beta_2": np.float32(0.5), "epsilon": np.float64(0.5), "n_iter_no_change": np.int8(2),
    "verbose": np.False_, "warm_start": np.True_, "n_threads": np.int64(1), "max_fun": np.int64(5),
}  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ours.__all__)
def test_scalars_of_numpy_are_parameters(name, solver, X):
    plain = {key: value.tolist() for key, value in SCALARS.items()}
    one, two = (
        getattr(ours, name)(solver=solver, **options).fit(X, X[:, 0] > 0)
        for options in (SCALARS, plain)
    )
    for got, want in zip(parameters(one), parameters(two), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("before", ["sgd", "adam", "lbfgs", "early stopping"])
@pytest.mark.parametrize("after", ["sgd", "lbfgs", "early stopping"])
@pytest.mark.parametrize("again", ["partial_fit", "warm start"])
def test_another_solver_goes_on(before, after, again, X):
    if again == "partial_fit" and after != "sgd":
        pytest.skip("partial_fit has neither")
    y = X[:, 0]
    first, then = ({"early_stopping": False, **OPTIONS[key]} for key in (before, after))
    model = ours.MLPRegressor(**{**COMMON, "max_iter": 3, **first})
    start = [part.copy() for part in parameters(model.fit(X, y))]
    model.set_params(**{"solver": "adam", **then}, warm_start=True)
    getattr(model, "partial_fit" if again == "partial_fit" else "fit")(X, y)
    moved = max(np.abs(a - b).max() for a, b in zip(start, parameters(model), strict=True))
    assert moved > 0
    assert after == "lbfgs" or (model.best_loss_ is None) == (after == "early stopping")


# -- data that scikit-learn takes ------------------------------------------------------------------


def texts(x):
    return np.asarray(x).astype(int).astype(str)


NO_NUMBERS = {
    "texts": (texts, TypeError, "must hold numbers; got dtype <U"),
    "texts in objects": (lambda x: texts(x).astype("O"), TypeError, "must hold .* at "),
    "texts in lists": (lambda x: texts(x).tolist(), TypeError, "must hold numbers; got dtype <U"),
    "bytes": (lambda x: texts(x).astype("S"), TypeError, r"must hold numbers; got dtype \|S"),
    "dates": (lambda x: np.asarray(x, int).astype("M8[s]"), TypeError, "must hold .* datetime64"),
    "masked": (lambda x: np.ma.masked_greater(x, 0.5), ValueError, "must not be masked"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_refused(kind, X):
    """Where scikit-learn takes it for numbers, or fails in NumPy's words."""
    make, error, words = NO_NUMBERS[kind]
    X, y = np.round(X), (X[:, 0] > 0).astype(float)
    model = ours.MLPRegressor(hidden_layer_sizes=[3], max_iter=2).fit(X, y)
    calls = [
        ("X", lambda: ours.MLPRegressor(hidden_layer_sizes=[3]).fit(make(X), y)),
        ("X", lambda: ours.MLPClassifier([3]).partial_fit(make(X), y, classes=[0, 1])),
        ("y", lambda: ours.MLPRegressor(hidden_layer_sizes=[3]).fit(X, make(y))),
        ("y", lambda: ours.MLPRegressor(hidden_layer_sizes=[3]).partial_fit(X, make(y))),
        (
            "y",
            lambda: ours.MLPRegressor(hidden_layer_sizes=[3]).fit(
                X, make(np.stack([y, y], axis=1))
            ),
        ),
        ("y", lambda: model.score(X, make(y))),
        ("sample_weight", lambda: model.fit(X, y, make(y))),
        ("sample_weight", lambda: model.score(X, y, make(y))),
    ]
    if "objects" in kind or kind == "masked":  # others scikit-learn refuses
        calls.append(("X", lambda: model.predict(make(X))))
    if kind == "masked":
        calls.append(("y", lambda: ours.MLPClassifier([3]).fit(X, make(y))))
    for name, call in calls:
        with pytest.raises(error, match=f"^{name} {words}"):
            call()


def test_tables_of_several_kinds_are_numbers(X):
    pandas = pytest.importorskip("pandas")
    plain = pandas.DataFrame(np.round(X), columns=list("abcdefg"))
    plain["b"] = plain["b"] > 0
    y = pandas.Series(X[:, 0] > 0).astype("Int64")
    kinds = {"a": "Int64", "c": "Float64", "d": object, "e": "category"}
    for name in ours.__all__:
        one, two = (
            getattr(ours, name)(hidden_layer_sizes=[4], max_iter=3, random_state=0)
            for _ in range(2)
        )
        one.fit(plain.astype(kinds), y)
        two.fit(plain.astype(float), y.astype(int))
        for got, want in zip(parameters(one), parameters(two), strict=True):
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(one.predict(plain.astype(kinds)), two.predict(plain))
    with pytest.raises(TypeError, match=r"X\['b'\] must hold numbers; got '1' at X\['b'\]\[0\]"):
        one.fit(plain.assign(b="1"), y)
    dates = plain.assign(b=np.full(N, "2020", "M8[s]"))[["b"]]
    with pytest.raises(TypeError, match=r"X\['b'\] must hold numbers; got dtype datetime64"):
        one.fit(dates, y)


# -- before samples are set aside ------------------------------------------------------------------


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("name", ours.__all__)
def test_a_weight_is_reported_at_the_user_s_row(name, stops, X):
    """Wherever the split would bring it."""
    for row in range(0, N, 7):
        weights = np.ones(N)
        weights[row] = -1
        model = getattr(ours, name)(
            hidden_layer_sizes=[3], early_stopping=stops, max_iter=1, random_state=row
        )
        with pytest.raises(ValueError, match=rf"got -1.0 at sample_weight\[{row}\]"):
            model.fit(X, X[:, 0] > 0, weights)
        if not stops:
            with pytest.raises(ValueError, match=rf"got -1.0 at sample_weight\[{row}\]"):
                model.partial_fit(X, X[:, 0] > 0, weights, **CLASSES.get(name, {}))


CLASSES = {"MLPClassifier": {"classes": [False, True]}}


@pytest.mark.parametrize("row", [0, 30, 61, 94])
@pytest.mark.parametrize("columns", [1, 2])
def test_a_target_is_reported_at_the_user_s_row(columns, row, X):
    """One that float32 does not hold, in which a network of such X is."""
    y = np.zeros((N, columns)) if columns > 1 else np.zeros(N)
    y[row] = 1e100
    place = rf"y\[{row}(, 0)?\]"
    model = ours.MLPRegressor(
        hidden_layer_sizes=[3], early_stopping=True, max_iter=1, random_state=row
    )
    with pytest.raises(
        ValueError, match=rf"y must be finite, at most 3.4e\+38.*1e\+100 at {place}"
    ):
        model.fit(X.astype("f4"), y)


@pytest.mark.parametrize("seed", range(4))
def test_a_side_of_the_split_without_weight(seed, X):
    """All weight on one sample, which falls to one side."""
    weights = np.zeros(N)
    weights[seed] = 1
    model = ours.MLPRegressor(
        hidden_layer_sizes=[3], early_stopping=True, max_iter=1, random_state=seed
    )
    with pytest.raises(ValueError, match="sample_weight is 0 for all samples of the validation"):
        model.fit(X, X[:, 0], weights)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ({0: 1, 1: -1}, r"class_weight must be at least 0.*got -1.0 at class_weight\[1\]"),
        ({0: 0, 1: 0}, "class_weight must be at least 0, not all 0"),
        ({0: 1, 1: np.nan}, r"class_weight must be finite.*nan at class_weight\[1\]"),
    ],
)
@pytest.mark.parametrize("stops", [True, False])
def test_weights_of_classes_are_named(weight, words, stops, X):
    model = ours.MLPClassifier([3], class_weight=weight, early_stopping=stops, max_iter=1)
    with pytest.raises(ValueError, match=words):
        model.fit(X, (X[:, 0] > 0).astype(int))


def test_columns_of_later_targets(X):
    """Which scikit-learn broadcasts to those of the first."""
    model = ours.MLPRegressor(hidden_layer_sizes=[3]).partial_fit(X, X[:, :3])
    for y in (X[:, 0], (X[:, 0] > 0).astype(int), X[:, :2]):
        with pytest.raises(ValueError, match=r"y must have 3 columns, as before; got [12]"):
            model.partial_fit(X, y)


@pytest.fixture
def no_processes_stay():
    """joblib would keep its processes, and a thread that waits for them."""
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.mark.slow
def test_a_grid_search_over_a_pipeline_on_two_processes(digits, no_processes_stay):
    """Processes get the data as read-only memory maps, and send pickles back."""
    X, y, X_test, y_test = digits
    model = ours.MLPClassifier([20], max_iter=15, learning_rate_init=0.01, random_state=0)
    searches = [
        GridSearchCV(
            make_pipeline(MinMaxScaler(), model),
            {"mlpclassifier__alpha": [1e-4, 30.0], "mlpclassifier__solver": ["adam", "sgd"]},
            cv=2,
            n_jobs=jobs,
            error_score="raise",
        ).fit(X, y)
        for jobs in (1, 2)
    ]
    one, two = (search.cv_results_["mean_test_score"] for search in searches)
    np.testing.assert_array_equal(one, two)
    assert searches[1].best_params_ == {
        "mlpclassifier__alpha": 1e-4,
        "mlpclassifier__solver": "adam",
    }
    assert searches[1].score(X_test, y_test) > 0.9
