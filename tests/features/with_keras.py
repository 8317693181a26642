"""The features of Keras, with PyTorch beneath it: KERAS_BACKEND must be set before."""

import keras
import numpy as np
import torch
from keras import layers
from sklearn import neural_network as sklearn_s
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from . import MANY, NEW, NUMBERS, X_VAL, Y_VAL, X, Y, differ, same_bits

CLASSES, VALIDATION = np.eye(2)[Y], (X_VAL, np.eye(2)[Y_VAL])
DENSE = layers.Dense


def made(*hidden, loss="categorical_crossentropy", optimizer="sgd", outputs="softmax"):
    keras.utils.set_random_seed(0)
    end = DENSE(2, outputs) if outputs == "softmax" else DENSE(1)
    model = keras.Sequential([keras.Input((3,)), *(hidden or [DENSE(4, "relu")]), end])
    model.compile(optimizer, loss, metrics=["accuracy"] if outputs == "softmax" else [])
    return model


def trained(*hidden, fit=None, frozen=False, **options):
    """Return the weights after two steps."""
    model = made(*hidden, **options)
    model.layers[0].trainable = not frozen
    y = CLASSES if model.output_shape[-1] == 2 else NUMBERS
    model.fit(X, y, epochs=2, batch_size=60, verbose=0, shuffle=False, **(fit or {}))
    return model.get_weights()


def curves(**fit):
    made_ = made()
    return made_.fit(X, CLASSES, epochs=3, verbose=0, validation_data=VALIDATION, **fit)


def of_numbers(loss):
    return trained(loss=loss, outputs="numbers")


def searched():
    def build(X, y, units=4):
        return made(DENSE(units, "relu"))

    wrapped = keras.wrappers.SKLearnClassifier(build, fit_kwargs={"verbose": 0})
    model = make_pipeline(StandardScaler(), wrapped)
    grid = {"sklearnclassifier__model_kwargs": [{"units": 3}, {"units": 4}]}
    return GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, Y).best_score_ > 0


def scikit_learn_s_weights():
    model = sklearn_s.MLPClassifier([4], max_iter=3, random_state=0, batch_size=20).fit(X, Y)
    return np.allclose(trained(optimizer="adam")[0], model.coefs_[0])


def quantile():
    names = [n for n in dir(keras.losses) if "quantile" in n.lower() or "pinball" in n.lower()]
    return (
        differ(of_numbers(getattr(keras.losses, names[0])()), of_numbers("mse")) if names else False
    )


def warms_up():
    rate = keras.optimizers.schedules.CosineDecay(0.0, 9, warmup_target=0.1, warmup_steps=6)
    return changes(optimizer=keras.optimizers.SGD(rate))


def stops():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    return len(curves(callbacks=[Stop()]).history["loss"]) == 1


def threads():
    def learnt(n):
        torch.set_num_threads(n)
        keras.utils.set_random_seed(0)
        hidden = DENSE(10, "relu"), DENSE(30, "relu")
        model = keras.Sequential([keras.Input((30,)), *hidden, DENSE(1)])
        model.compile("sgd", "mse")
        model.fit(MANY, MANY[:, 0], epochs=3, batch_size=len(MANY), verbose=0)
        return model.get_weights()

    before = torch.get_num_threads()
    try:
        return same_bits(learnt(1), learnt(2))
    finally:
        torch.set_num_threads(before)


BASE = trained()


def changes(*hidden, **options):
    return differ(trained(*hidden, **options), BASE)


FEATURES = {
    "pipelines, searches and `clone` of scikit-learn": searched,
    "the weights of `MLPClassifier` for a `random_state`": scikit_learn_s_weights,
    "leaky ReLU, ELU, softplus, SiLU and GELU by name": lambda: all(
        changes(DENSE(4, name)) for name in NEW
    ),
    "an activation for each layer": lambda: len(trained(DENSE(4, "relu"), DENSE(4, "tanh"))) == 6,
    "an activation of your own": lambda: changes(DENSE(4, lambda z: z / (1 + keras.ops.abs(z)))),
    "the absolute loss": lambda: differ(of_numbers("mae"), of_numbers("mse")),
    "Huber's loss": lambda: differ(of_numbers("huber"), of_numbers("mse")),
    "the quantile loss": quantile,
    "a loss of your own": lambda: differ(of_numbers(lambda y, a: (a - y) ** 4), of_numbers("mse")),
    "label smoothing": lambda: changes(
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    ),
    "sample weights": lambda: changes(fit={"sample_weight": 1 + X[:, 0] ** 2}),
    "class weights": lambda: changes(fit={"class_weight": {0: 1, 1: 9}}),
    "dropout": lambda: changes(DENSE(4, "relu"), layers.Dropout(0.5)),
    "an L1 penalty": lambda: changes(DENSE(4, "relu", kernel_regularizer="l1")),
    "AdamW and RMSprop": lambda: changes(optimizer="adamw") and changes(optimizer="rmsprop"),
    "learning rates that warm up": warms_up,
    "initial weights by He and by Glorot": lambda: all(
        changes(DENSE(4, "relu", kernel_initializer=name))
        for name in ("he_normal", "glorot_normal")
    ),
    "frozen layers": lambda: not differ(trained(frozen=True)[:1], made().get_weights()[:1]),
    "a validation set of your own": lambda: curves(),
    "validation score of each epoch": lambda: len(curves().history["val_accuracy"]) == 3,
    "validation loss of each epoch": lambda: len(curves().history["val_loss"]) == 3,
    "callbacks that see each epoch, and end the training": stops,
    "curves in one call": lambda: curves().plot(),
    "threads that share a batch, with the same bits": threads,
}
