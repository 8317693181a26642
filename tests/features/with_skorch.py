"""The features of skorch, with what PyTorch brings to it."""

import numpy as np
import skorch
import torch
from sklearn import neural_network as sklearn_s
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import callbacks, helper
from torch import nn

from . import MANY, NUMBERS, X_VAL, Y_VAL, differ, same_bits
from . import X as SAMPLES
from . import Y as CLASSES

X, Y = SAMPLES.astype("float32"), CLASSES.astype("int64")
VALIDATION = skorch.dataset.Dataset(X_VAL.astype("float32"), Y_VAL.astype("int64"))


def module(*hidden, outputs=2):
    return nn.Sequential(nn.Linear(3, 4), *(hidden or [nn.ReLU()]), nn.Linear(4, outputs))


def made(*hidden, kind=skorch.NeuralNetClassifier, outputs=2, **options):
    torch.manual_seed(0)
    told = {"max_epochs": 3, "lr": 0.1, "batch_size": 20, "verbose": 0, "train_split": None}
    told |= {"criterion": nn.CrossEntropyLoss} if kind is skorch.NeuralNetClassifier else {}
    return kind(module(*hidden, outputs=outputs), **{**told, **options})


def weights(net):
    return [p.detach().numpy() for p in net.module_.parameters()]


def trained(*hidden, fit=None, **options):
    return weights(made(*hidden, **options).fit(X, Y, **(fit or {})))


def of_numbers(criterion=nn.MSELoss):
    net = made(kind=skorch.NeuralNetRegressor, outputs=1, criterion=criterion)
    return weights(net.fit(X, NUMBERS.astype("float32")[:, None]))


def changes(*hidden, **options):
    return differ(trained(*hidden, **options), trained())


def curves(**options):
    split = helper.predefined_split(VALIDATION)
    return made(**{"train_split": split, **options}).fit(X, Y).history


def searched():
    grid = {"neuralnetclassifier__lr": [0.1, 1.0]}
    model = clone(make_pipeline(StandardScaler(), made()))
    return GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, Y).best_score_ > 0


def scikit_learn_s_weights():
    model = sklearn_s.MLPClassifier([4], max_iter=3, random_state=0, batch_size=20).fit(X, Y)
    return np.allclose(trained(optimizer=torch.optim.Adam, lr=1e-3)[0].T, model.coefs_[0])


class Softsign(nn.Module):
    def forward(self, z):
        return z / (1 + z.abs())


class Fourth(nn.Module):
    def forward(self, a, y):
        return ((a - y) ** 4).mean()


def quantile():
    names = [n for n in dir(nn) if "quantile" in n.lower() or "pinball" in n.lower()]
    return differ(of_numbers(getattr(nn, names[0])), of_numbers()) if names else False


def penalised():
    """As `optimizer__weight_decay` is an L2 penalty."""
    return changes(optimizer__l1=0.1)


def initial(fill):
    return changes(callbacks=[callbacks.Initializer("*weight", fn=fill)])


def frozen():
    net = made(callbacks=[callbacks.Freezer("0.*")])
    before = net.module[0].weight.detach().numpy().copy()
    return np.array_equal(net.fit(X, Y).module_[0].weight.detach().numpy(), before)


class Stop(callbacks.Callback):
    def on_epoch_end(self, net, **data):
        raise KeyboardInterrupt  # by which skorch's own `EarlyStopping` ends the training


def warms_up():
    rule = torch.optim.lr_scheduler.LinearLR
    slow = callbacks.LRScheduler(rule, start_factor=0.1, total_iters=6, step_every="batch")
    return changes(callbacks=[slow])


def threads():
    many, target = MANY.astype("float32"), MANY[:, :1].astype("float32")

    def learnt(n):
        torch.set_num_threads(n)
        torch.manual_seed(0)
        hidden = nn.Linear(30, 10), nn.ReLU(), nn.Linear(10, 30), nn.ReLU()
        layers = nn.Sequential(*hidden, nn.Linear(30, 1))
        net = skorch.NeuralNetRegressor(
            layers, max_epochs=3, lr=0.1, batch_size=len(many), verbose=0, train_split=None
        )
        return weights(net.fit(many, target))

    before = torch.get_num_threads()
    try:
        return same_bits(learnt(1), learnt(2))
    finally:
        torch.set_num_threads(before)


UNITS = nn.LeakyReLU, nn.ELU, nn.Softplus, nn.SiLU, nn.GELU
FEATURES = {
    "pipelines, searches and `clone` of scikit-learn": searched,
    "the weights of `MLPClassifier` for a `random_state`": scikit_learn_s_weights,
    "leaky ReLU, ELU, softplus, SiLU and GELU by name": lambda: all(
        changes(unit()) for unit in UNITS
    ),
    "an activation for each layer": lambda: (
        len(trained(nn.ReLU(), nn.Linear(4, 4), nn.Tanh())) == 6
    ),
    "an activation of your own": lambda: changes(Softsign()),
    "the absolute loss": lambda: differ(of_numbers(nn.L1Loss), of_numbers()),
    "Huber's loss": lambda: differ(of_numbers(nn.HuberLoss), of_numbers()),
    "the quantile loss": quantile,
    "a loss of your own": lambda: differ(of_numbers(Fourth), of_numbers()),
    "label smoothing": lambda: changes(criterion__label_smoothing=0.1),
    "sample weights": lambda: changes(fit={"sample_weight": 1 + X[:, 0] ** 2}),
    "class weights": lambda: changes(criterion__weight=torch.tensor([1.0, 9.0])),
    "dropout": lambda: changes(nn.ReLU(), nn.Dropout(0.5)),
    "an L1 penalty": penalised,
    "AdamW and RMSprop": lambda: (
        changes(optimizer=torch.optim.AdamW) and changes(optimizer=torch.optim.RMSprop)
    ),
    "learning rates that warm up": warms_up,
    "initial weights by He and by Glorot": lambda: (
        initial(nn.init.kaiming_normal_) and initial(nn.init.xavier_normal_)
    ),
    "frozen layers": frozen,
    "a validation set of your own": lambda: curves(),
    "validation score of each epoch": lambda: len(curves()[:, "valid_acc"]) == 3,
    "validation loss of each epoch": lambda: len(curves()[:, "valid_loss"]) == 3,
    "callbacks that see each epoch, and end the training": lambda: (
        len(curves(callbacks=[Stop()])) == 1
    ),
    "curves in one call": lambda: curves().plot(),
    "threads that share a batch, with the same bits": threads,
}
