"""Activations, losses and dropout beyond scikit-learn's, in the estimators."""

import copy
import functools
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.9", reason="scikit-learn is an extra")

from sklearn import metrics
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp import estimator as ours
from fastbp import losses
from fastbp.interchange import words

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, N_VAL = 60, 30
SIZES = [6, 5]
NEW = ["leaky_relu", "elu", "softplus", "silu", "gelu"]


@pytest.fixture(autouse=True)
def on_numpy(monkeypatch):
    """Train by the reference: what is tested here is what it is told."""
    slow = functools.partial(fastbp.Network, backend="numpy")
    monkeypatch.setattr("fastbp.estimator.perceptron.Network", slow)


@pytest.fixture
def X(rng):
    return rng.standard_normal((N, 4))


@pytest.fixture
def y(X):
    return X[:, 0] - X[:, 1] ** 2


def made(kind="MLPRegressor", module=ours, **options):
    common = {"hidden_layer_sizes": SIZES, "max_iter": 3, "random_state": 0, "batch_size": 20}
    return getattr(module, kind)(**{**common, **options})


def weights(model):
    return np.concatenate([part.ravel() for part in (*model.coefs_, *model.intercepts_)])


# -- what is trained is a Network of the same functions --------------------------------------------

HUBER, QUANTILE = losses.Huber(0.3), losses.Quantile(0.9)
# Parameters of an estimator, and what a Network is told.
SAME = {
    **{name: ({"activation": name}, {"activation": name}) for name in NEW},
    "a list": ({"activation": ["logistic", "gelu"]}, {"activation": ["sigmoid", "gelu"]}),
    "a tuple": ({"activation": ("elu", "relu")}, {"activation": ["elu", "relu"]}),
    "absolute error": ({"loss": "absolute_error"}, {"loss": "absolute"}),
    "huber": ({"loss": "huber"}, {"loss": "huber"}),
    "quantile": ({"loss": "quantile"}, {"loss": "quantile"}),
    "huber of a width": ({"loss": HUBER}, {"loss": HUBER}),
    "a quantile": (
        {"loss": QUANTILE, "activation": "silu"},
        {"loss": QUANTILE, "activation": "silu"},
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_the_training_is_that_of_a_network(case, X, y, assert_close):
    options, told = SAME[case]
    options = {**options, "solver": "sgd", "momentum": 0.0, "alpha": 0.0, "shuffle": False}
    start = made(**options, learning_rate_init=1e-30, max_iter=1).fit(X, y)
    told = {"activation": "relu", **told}
    net = fastbp.Network(
        [4, *SIZES, 1], dtype="float64", backend="numpy", output="identity", **told
    )
    for ones, others in ((net.weights, start.coefs_), (net.biases, start.intercepts_)):
        for one, other in zip(ones, others, strict=True):
            one[...] = other.T
    history = net.fit(X, y[:, None], epochs=3, batch_size=20, learning_rate=0.1, shuffle=False)
    model = made(**options, learning_rate_init=0.1).fit(X, y)
    assert_close(model.predict(X), net.feedforward(X)[:, 0])
    assert not np.allclose(model.predict(X), start.predict(X))
    assert_close(np.array(model.loss_curve_), np.array(history.loss))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_a_list_of_one_activation_is_scikit_learn_s(kind, activation, X, y, assert_close):
    y = y > 0 if kind == "MLPClassifier" else y
    one = made(kind, activation=[activation] * 2).fit(X, y)
    assert_close(weights(one), weights(made(kind, theirs, activation=activation).fit(X, y)))


def test_each_layer_begins_by_its_own_activation(X, y):
    options = {"learning_rate_init": 1e-30, "max_iter": 1}
    mixed = made(activation=["logistic", "tanh"], **options).fit(X, y)
    for layer, name in enumerate(["logistic", "tanh", "tanh"]):
        same = made(activation=name, **options).fit(X, y)
        np.testing.assert_array_equal(mixed.coefs_[layer], same.coefs_[layer])


def test_without_hidden_layers_a_list_is_empty(X, y, assert_close):
    found = made(hidden_layer_sizes=[], activation=[]).fit(X, y).predict(X)
    assert_close(found, made(hidden_layer_sizes=[]).fit(X, y).predict(X))


# -- losses ----------------------------------------------------------------------------------------


def huber(y, outputs, sample_weight, width=1.0):
    rest = np.abs(y - outputs)
    parts = np.where(rest <= width, rest**2 / 2, width * (rest - width / 2))
    return np.average(parts, weights=sample_weight, axis=0).sum()


def absolute(y, outputs, sample_weight):
    parts = {"sample_weight": sample_weight, "multioutput": "raw_values"}
    return metrics.mean_absolute_error(y, outputs, **parts).sum()


def pinball(y, outputs, sample_weight, q=0.5):
    parts = {"sample_weight": sample_weight, "multioutput": "raw_values"}
    return metrics.mean_pinball_loss(y, outputs, alpha=q, **parts).sum()


# The loss of an estimator, and the same by scikit-learn or by hand: the sum over the outputs.
LOSSES = {
    "absolute_error": ("absolute_error", absolute),
    "huber": ("huber", huber),
    "quantile": ("quantile", pinball),
    "huber of a width": (HUBER, functools.partial(huber, width=0.3)),
    "a quantile": (QUANTILE, functools.partial(pinball, q=0.9)),
}


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
@pytest.mark.parametrize("title", LOSSES)
def test_losses_and_curves_are_of_the_loss(title, solver, X, y, rng, assert_close):
    loss, by_hand = LOSSES[title]
    Y, W = np.stack([y, 3 * X[:, 2]], axis=1), rng.uniform(0.1, 2, N)
    X_val, Y_val, W_val = X[:N_VAL] * 1.5, Y[:N_VAL], W[:N_VAL]
    still = {"learning_rate_init": 1e-30, "batch_size": N, "alpha": 0.0, "max_iter": 1}
    still |= {"max_fun": 1} if solver == "lbfgs" else {}
    model = made(loss=loss, solver=solver, **still).fit(
        X, Y, W, X_val=X_val, y_val=Y_val, sample_weight_val=W_val
    )
    if solver == "sgd":
        assert_close(model.loss_, by_hand(Y, model.predict(X), W))
        assert model.loss_curve_ == [model.loss_]
    if model.validation_loss_curve_:
        assert_close(model.validation_loss_curve_[-1], by_hand(Y_val, model.predict(X_val), W_val))


@pytest.mark.parametrize("title", LOSSES)
def test_lbfgs_finds_the_least_of_the_loss(title, rng):
    loss, by_hand = LOSSES[title]
    X, y = np.zeros((200, 1)), rng.exponential(size=200)
    options = {"hidden_layer_sizes": [], "solver": "lbfgs", "max_iter": 200, "alpha": 0.0}
    level = made(loss=loss, **options).fit(X, y).predict(X[:1])[0]
    levels = np.linspace(0, 4, 2001)
    tried = [by_hand(y, np.full(200, one), None) for one in levels]
    assert abs(level - levels[np.argmin(tried)]) < 0.05


def test_outliers_move_huber_less(X, y):
    """The same outliers, two losses: Huber's fit stays at the others."""
    spoilt = y + np.where(np.arange(N) % 10, 0.0, 40.0)
    options = {"hidden_layer_sizes": [10], "max_iter": 200, "learning_rate_init": 0.01}
    scores = [
        made(loss=loss, **options).fit(X, spoilt).score(X, y) for loss in (HUBER, "squared_error")
    ]
    assert scores[0] > 0.5 > scores[1]


# -- the estimator's own manners -------------------------------------------------------------------

FULL = {"activation": ["gelu", "silu"], "loss": HUBER, "dropout": [0.5, 0.0]}


@pytest.mark.parametrize("copied", [clone, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_have_the_same_parameters(copied, X, y):
    model = made(**FULL)
    other = copied(model)
    assert other.get_params() == model.get_params()
    np.testing.assert_array_equal(weights(other.fit(X, y)), weights(model.fit(X, y)))


@pytest.mark.parametrize("again", ["partial_fit", "warm start"])
def test_training_goes_on(again, X, y):
    """Epoch by epoch is the same as at once, dropout included, and pickles go on too."""
    options = {**FULL, "shuffle": False, "solver": "sgd", "momentum": 0.0}
    whole = made(**options).fit(X, y)
    model = made(**options, warm_start=True)
    model.max_iter = 1
    for _ in range(3):
        model = pickle.loads(pickle.dumps(model))
        (model.fit if again == "warm start" else model.partial_fit)(X, y)
    np.testing.assert_array_equal(weights(model), weights(whole))


def test_searches_go_over_them(X, y):
    model = make_pipeline(StandardScaler(), made(max_iter=2))
    grid = {
        "mlpregressor__activation": ["gelu", ["relu", "tanh"]],
        "mlpregressor__dropout": [0.0, [0.2, 0.0]],
        "mlpregressor__loss": ["huber", losses.Quantile(0.3)],
    }
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 8


def test_early_stopping_by_samples_set_aside(X, y):
    model = made(**FULL, early_stopping=True, max_iter=5).fit(X, y)
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == model.n_iter_
    assert model.best_validation_score_ == max(model.validation_scores_)


def test_other_functions_after_a_training(X, y):
    model = made(activation="relu", warm_start=True).fit(X, y)
    before = model.predict(X)
    model.set_params(activation="gelu", loss="quantile", dropout=0.3)
    assert not np.allclose(model.predict(X), before)
    known = weights(model)
    assert not np.allclose(weights(model.fit(X, y)), known)


def test_a_network_is_made_once(X, y):
    model = made(**FULL).fit(X, y)
    net = model._net
    model.predict(X)
    model.partial_fit(X, y)
    assert model._net is net


@pytest.mark.parametrize("weight", [{"no": 1, "yes": 9}, "balanced"])
def test_class_weights_go_by_the_names_of_classes(weight, X, y, assert_close):
    names = np.where(y > 1, "yes", "no")
    ones = dict(zip(*np.unique(names, return_counts=True), strict=True))
    by_name = {k: N / 2 / n for k, n in ones.items()} if weight == "balanced" else weight
    found = made("MLPClassifier", class_weight=weight, activation="gelu", dropout=0.2).fit(X, names)
    each = np.array([by_name[name] for name in names])
    same = made("MLPClassifier", activation="gelu", dropout=0.2).fit(X, names, each)
    assert_close(weights(found), weights(same))
    with pytest.raises(ValueError, match="not in class_weight"):
        made("MLPClassifier", class_weight={"maybe": 2}).fit(X, names)


# -- dropout ---------------------------------------------------------------------------------------


def test_dropout_is_drawn_by_the_random_state(X, y):
    def trained(**options):
        return weights(made(**{"dropout": 0.5, "shuffle": False, **options}).fit(X, y))

    np.testing.assert_array_equal(trained(), trained())
    np.testing.assert_array_equal(trained(dropout=0.0), trained(dropout=[0.0, 0]))
    assert not np.allclose(trained(), trained(dropout=0.0))
    # From the same start: only the masks differ.
    start = made(max_iter=1, learning_rate_init=1e-30).fit(X, y)
    found = []
    for seed in (0, 1):
        model = copy.deepcopy(start).set_params(dropout=0.5, shuffle=False, random_state=seed)
        model._masks = None
        found.append(weights(model.set_params(warm_start=True, learning_rate_init=0.1).fit(X, y)))
    assert not np.allclose(*found)


def test_without_dropout_nothing_else_is_drawn(X, y, assert_close):
    one, other = (made(module=m, random_state=np.random.RandomState(5)) for m in (ours, theirs))
    assert_close(weights(one.fit(X, y)), weights(other.fit(X, y)))
    assert one.random_state.randint(1000) == other.random_state.randint(1000)


def test_predictions_are_without_dropout(X, y):
    model = made(dropout=0.5).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), model.predict(X))
    plain = copy.deepcopy(model).set_params(dropout=0.0)
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))


@pytest.mark.slow
def test_kernels_give_the_same(X, y, monkeypatch, assert_close):
    slow = weights(made(**FULL).fit(X, y))
    monkeypatch.setattr("fastbp.estimator.perceptron.Network", fastbp.Network)
    found = [weights(made(**FULL, n_threads=n).fit(X, y)) for n in (1, 2)]
    assert_close(found[0], slow, "contraction")
    np.testing.assert_array_equal(*found)


# -- what is refused -------------------------------------------------------------------------------

BAD = {
    "no such activation": (
        {"activation": "swish"},
        r"'activation' parameter of MLPRegressor must .*'gelu'.*functions\.Activation'.*'swish'",
    ),
    "fastbp's word": ({"activation": "sigmoid"}, "'activation' parameter of MLPRegressor must"),
    "no such entry": (
        {"activation": ["relu", "swish"]},
        r"activation\[1\] must be one of .*'swish'",
    ),
    "too few": (
        {"activation": ["relu"]},
        "activation must have an entry for each of the 2 .*got 1",
    ),
    "a function": ({"activation": np.tanh}, "'activation' parameter of MLPRegressor must"),
    "no such loss": ({"loss": "quadratic"}, "'loss' parameter of MLPRegressor must"),
    "for classes": ({"loss": losses.CrossEntropy(0.1)}, "'loss' parameter of MLPRegressor must"),
    "all dropped": ({"dropout": 1.0}, "'dropout' parameter of MLPRegressor must"),
    "dropped by name": ({"dropout": "0.5"}, "'dropout' parameter of MLPRegressor must"),
    "dropout of more": ({"dropout": [0.1]}, "dropout must have an entry for each of the 2 .*got 1"),
    "a share of one layer": ({"dropout": [0.1, 2]}, r"dropout\[1\] must be .*got 2"),
    "dropout by lbfgs": (
        {"dropout": 0.1, "solver": "lbfgs"},
        "dropout must be 0 with solver 'lbfgs'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_one_clear_line(case, X, y):
    options, words_of_it = BAD[case]
    model = made(**options)
    with pytest.raises(ValueError, match=words_of_it) as caught:
        model.fit(X, y)
    assert "\n" not in str(caught.value)
    assert not hasattr(model, "coefs_")


def test_the_words_are_all_there():
    assert set(words.HIDDEN.values()) == set(fastbp.model.choices.HIDDEN)
    assert set(words.LOSSES.values()) == set(fastbp.reference.TERMS)
