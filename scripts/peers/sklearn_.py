"""scikit-learn: MLPClassifier and MLPRegressor."""

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from . import Done, Job, NotApplicable, estimators_

NAMES = {"sigmoid": "logistic", "tanh": "tanh", "relu": "relu", "identity": "identity"}


def build(task, variant):
    work = task.work
    if work.kind == "fit":
        return estimators_.build(task, MLPClassifier)
    if work.kind == "gradient":
        raise NotApplicable("scikit-learn has no public gradient")
    if not work.bias:
        raise NotApplicable("scikit-learn's networks always have biases")
    if work.kind == "train" and (work.loss, work.output) == ("quadratic", "sigmoid"):
        raise NotApplicable("scikit-learn has no quadratic loss on a sigmoid output")
    return train(task) if work.kind == "train" else predict(task)


def network(task):
    """Return the network with the given weights, and what it is trained on.

    One-hot rows would make a classifier's output a sigmoid: that is what predict wants, while
    training with softmax takes labels.
    """
    work = task.work
    kind = MLPRegressor if work.output == "identity" else MLPClassifier
    y = task.labels if work.output == "softmax" else task.targets
    net = kind(
        hidden_layer_sizes=work.sizes[1:-1], activation=NAMES[work.activation], solver="sgd",
        alpha=0, momentum=0, batch_size=min(work.batch, len(task.X)),
        learning_rate_init=work.learning_rate, shuffle=task.shuffle, random_state=0,
    )  # fmt: skip
    options = {"classes": np.arange(work.sizes[-1])} if kind is MLPClassifier else {}
    few = slice(0, net.batch_size)
    net.partial_fit(task.X[few], y[few], **options)
    return net, y


def reset(net, task):
    """Put the first weights in place: the optimiser keeps the arrays it was given."""
    for l, (W, b) in enumerate(zip(task.weights, task.biases, strict=True)):
        net.coefs_[l][...], net.intercepts_[l][...] = W.T, b


def train(task):
    """`partial_fit` is one epoch."""
    net, y = network(task)
    scale = task.work.sizes[-1] if task.work.output == "identity" else 1  # its loss is a mean

    def run(epochs):
        losses = []
        for _ in range(epochs):
            net.partial_fit(task.X, y)
            losses.append(net.loss_)
        return Done(float(losses[0]) * scale)

    return Job(run, lambda: reset(net, task), len(task.X))


def predict(task):
    net, _ = network(task)
    call = getattr(net, "predict_proba", net.predict)
    rows = [task.X] if task.work.samples > 1 else [task.X[i : i + 1] for i in range(len(task.X))]

    def run(calls):
        for i in range(calls):
            call(rows[i % len(rows)])
        return Done(float(np.linalg.norm(call(rows[0]))))

    return Job(run, lambda: reset(net, task))
