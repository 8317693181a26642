"""The features of fastbp's estimators and of scikit-learn's, by the same calls."""

from functools import partial

import numpy as np
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp
from fastbp import optimizers, schedules

from . import MANY, NEW, NUMBERS, X_VAL, Y_VAL, X, Y, differ, same_bits

COMMON = {"hidden_layer_sizes": (4, 5), "max_iter": 3, "random_state": 0}


class Library:
    """The estimators of a module; `network` trains a network, where there is one."""

    def __init__(self, module, network=None):
        self.module, self.network = module, network

    def classifier(self, **options):
        return self.module.MLPClassifier(**{**COMMON, **options})

    def weights(self, *, weigh=None, **options):
        return weights(self.classifier(**options).fit(X, Y, weigh))

    def of_numbers(self, **options):
        return weights(self.module.MLPRegressor(**{**COMMON, **options}).fit(X, NUMBERS))

    def trained(self, **options):
        """Train by what the estimators lack: fastbp has it in `Network`."""
        if self.network:
            return self.network(**options)
        return self.weights(**{{"optimizer": "solver"}.get(k, k): v for k, v in options.items()})


def weights(model):
    return [*model.coefs_, *model.intercepts_]


def network(init="lecun_normal", loss="cross-entropy", **options):
    net = fastbp.Network([3, 4, 5, 2], "tanh", loss=loss, init=init, seed=0, backend="numpy")
    before = net.weights[0].copy()
    net.fit(X, Y, **{"epochs": 3, "batch_size": 20, "learning_rate": 0.1, **options})
    return [*net.weights, np.array([np.array_equal(before, net.weights[0])])]


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


def searched(library):
    grid = {"mlpclassifier__alpha": [0.1, 1.0]}
    model = clone(make_pipeline(StandardScaler(), library.classifier()))
    return GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, Y).best_score_ > 0


def scikit_learn_s_weights(library):
    return not differ(library.weights(), weights(theirs.MLPClassifier(**COMMON).fit(X, Y)))


def own_activation(library):
    own = fastbp.Activation(lambda z: z / (1.0 + abs(z)), lambda z: 1.0 / (1.0 + abs(z)) ** 2)
    return differ(library.weights(activation=own), library.weights())


def own_loss(library):
    own = fastbp.Loss(lambda a, y: (a - y) ** 4, lambda a, y: 4.0 * (a - y) ** 3)
    return differ(library.of_numbers(loss=own), library.of_numbers())


def changes(library, *several, **options):
    """Whether a training changes by what a network is told: all of several, or these options."""
    several = several or (options,)
    return all(differ(library.trained(**one), library.trained()) for one in several)


def threads(library):
    target = MANY[:, 0] > 0
    one, two = (
        library.classifier(n_threads=n, hidden_layer_sizes=[10, 30], batch_size=len(MANY)).fit(
            MANY, target
        )
        for n in (1, 2)
    )
    return same_bits(weights(one), weights(two))


def regressor(loss):
    return lambda library: differ(library.of_numbers(loss=loss), library.of_numbers())


STOPS = {"early_stopping": True}
FEATURES = {
    "pipelines, searches and `clone` of scikit-learn": searched,
    "the weights of `MLPClassifier` for a `random_state`": scikit_learn_s_weights,
    "leaky ReLU, ELU, softplus, SiLU and GELU by name": lambda library: all(
        differ(library.weights(activation=name), library.weights()) for name in NEW
    ),
    "an activation for each layer": lambda library: differ(
        library.weights(activation=["relu", "tanh"]), library.weights()
    ),
    "an activation of your own": own_activation,
    "the absolute loss": regressor("absolute_error"),
    "Huber's loss": regressor("huber"),
    "the quantile loss": regressor("quantile"),
    "a loss of your own": own_loss,
    "label smoothing": partial(changes, loss=fastbp.losses.CrossEntropy(label_smoothing=0.1)),
    "sample weights": lambda library: differ(
        library.weights(weigh=1 + X[:, 0] ** 2), library.weights()
    ),
    "class weights": lambda library: differ(
        library.weights(class_weight={0: 1, 1: 9}), library.weights()
    ),
    "dropout": lambda library: differ(library.weights(dropout=0.5), library.weights()),
    "an L1 penalty": partial(changes, optimizer=optimizers.SGD(l1=0.1)),
    "AdamW and RMSprop": lambda library: changes(
        library, {"optimizer": "adamw"}, {"optimizer": "rmsprop"}
    ),
    "learning rates that warm up": partial(changes, learning_rate=schedules.Warmup(0.1, 6)),
    "initial weights by He and by Glorot": lambda library: changes(
        library, {"init": "he"}, {"init": "glorot"}
    ),
    "frozen layers": lambda library: library.trained(train_layers=[-1])[-1].all(),
    "a validation set of your own": lambda library: library.classifier(**STOPS).fit(
        X, Y, X_val=X_VAL, y_val=Y_VAL
    ),
    "validation score of each epoch": lambda library: (
        len(library.classifier(**STOPS).fit(X, Y).validation_scores_) == 3
    ),
    "validation loss of each epoch": lambda library: (
        len(library.classifier(**STOPS).fit(X, Y).validation_loss_curve_) == 3
    ),
    "callbacks that see each epoch, and end the training": lambda library: (
        library.classifier().set_callbacks(Stop()).fit(X, Y).n_iter_ == 1
    ),
    "curves in one call": lambda library: library.classifier().fit(X, Y).history_.plot(),
    "threads that share a batch, with the same bits": threads,
}
