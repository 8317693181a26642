"""Multi-layer perceptrons, trained by back-propagation on CPUs: Numba kernels, a NumPy reference.

## A first network

`fastbp.datasets` has 1,797 images of handwritten digits, 8 x 8 pixels of 0 to 16. A network of 64
inputs, 30 hidden neurons and 10 outputs learns to read them:

>>> import fastbp
>>> X, y, X_test, y_test = fastbp.datasets.load("digits")
>>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=1)
>>> history = net.fit(X, y, epochs=20, batch_size=10, learning_rate=0.5, validation_split=0.1)
>>> len(history), history.loss[-1] < history.loss[0]
(20, True)
>>> net.accuracy(X_test, y_test) > 0.9
True

Samples are rows of X. `y` holds a class for each, as an integer, or a row of targets.
`input_scale` is a factor that the network applies to its inputs. The first training compiles the
kernels, which takes some seconds; they are kept in a cache. The same `seed` gives the same
network, and on the same CPU the same bits, for any number of threads.

`fit` returns a `History`, a list of numbers for each quantity, with an entry for each epoch. In a
notebook, `history` shows a table and `history.plot()` the learning curves; see `fastbp.plots`.

## What a network is

>>> print(net.summary())
cross-entropy loss, float32, backend numba, inputs x 0.0625
                                                   FLOPs per sample
layer     in  out  activation  parameters  bytes  forward  training
-------------------------------------------------------------------
hidden 1  64   30  sigmoid          1,950  7,800    3,870     7,740
output    30   10  softmax            310  1,240      610     1,820
-------------------------------------------------------------------
total                               2,260  9,040    4,480     9,560
A step of plain SGD takes 4,520 FLOPs more.
In memory, padded, the parameters take 10,304 bytes.
>>> net.weights[0].shape, net.biases[0].shape
((30, 64), (30,))
>>> net.predict(X_test[:3]), net.feedforward(X_test[:3]).shape
(array([5, 0, 5]), (3, 10))
>>> net.gradient(X, y).to_vector().shape  # of the mean loss, as one vector
(2260,)

`weights` and `biases` are views: write into them to change the network. What `predict` returns
follows from the output and the loss: a class for softmax, a class 0 or 1 for one sigmoid, a class
for each of several sigmoids with cross-entropy, and numbers otherwise.

## A table

The columns of a table have different units. With `scale="standard"` the network learns mean and
deviation of each column from the training data, and takes raw columns ever after:

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> age, income = rng.uniform(20, 70, 500), rng.uniform(10_000, 90_000, 500)
>>> X, y = np.column_stack([age, income]), (income > 1_000 * age).astype(int)
>>> net = fastbp.Network([2, 10, 2], loss="cross-entropy", scale="standard", seed=0)
>>> history = net.fit(X, y, epochs=50, batch_size=10, learning_rate=0.5)
>>> net.accuracy(X, y) > 0.97
True
>>> net.scaling.deviation.shape
(2,)

`fastbp.datasets.load("table.csv", label="NAME")` reads a CSV file; see `fastbp.datasets`.

## Numbers instead of classes

A regression has an identity output and the quadratic loss, which is the default. Bring the targets
to a deviation near 1, and undo it after predicting:

>>> price = 3 * income + 500 * age
>>> mean, deviation = price.mean(), price.std()
>>> net = fastbp.Network([2, 10, 1], output="identity", scale="standard", seed=0)
>>> history = net.fit(X, (price - mean) / deviation, epochs=50, batch_size=10, learning_rate=0.05)
>>> error = np.abs(mean + deviation * net.predict(X) - price).mean()
>>> bool(error < 0.05 * deviation)
True

Where some targets are grossly wrong, `loss="huber"` or "absolute" lets them count less; with
`fastbp.losses.Quantile(0.9)` nine in ten targets lie below what is predicted. `fastbp.losses` has
the equations.

## Layers of several kinds, and dropout

`activation` is a name, or a list with one for each hidden layer. `dropout=0.3` leaves out three in
ten hidden neurons in each step of a training, others for each sample, which keeps a large network
from learning a few samples by heart; a list has a share for each hidden layer. Predictions take all
neurons:

>>> X, y, X_test, y_test = fastbp.datasets.load("digits")
>>> net = fastbp.Network(
...     [64, 100, 50, 10], activation=["gelu", "tanh"], dropout=[0.3, 0.1], loss="cross-entropy",
...     input_scale=1 / 16, seed=0,
... )
>>> history = net.fit(X, y, epochs=20, batch_size=10, learning_rate=0.1)
>>> net.accuracy(X_test, y_test) > 0.9
True

`tests/README.md` tells what these options change on real data. `fastbp.Activation` and
`fastbp.Loss` make functions of your own; see `fastbp.functions`.

## Keeping a network

>>> import os, tempfile
>>> path = os.path.join(tempfile.mkdtemp(), "prices.safetensors")
>>> net.save(path)
>>> bool((fastbp.load(path).predict(X) == net.predict(X)).all())
True

`fastbp.interchange` writes networks for PyTorch, ONNX and scikit-learn, and reads theirs.

## What there is

| kind | names |
|---|---|
| activations | sigmoid, tanh, relu, leaky_relu, elu, softplus, silu, gelu, identity; by layer |
| losses of numbers | quadratic, absolute, Huber's, of a quantile: with each of these as output |
| losses of classes | cross-entropy, with softmax or with sigmoids, element by element; quadratic |
| loss of counts | Poisson, with exp |
| of your own | activations and losses, compiled: `fastbp.functions` |
| against overfitting | dropout, label smoothing, early stopping, L1 and L2 penalties |
| optimisers | plain SGD, momentum, Nesterov's momentum, Adam, AdamW, RMSprop |
| with all of them | gradient clipping, frozen layers, weights of classes and samples |
| learning rates | constant, `fastbp.schedules`, `find_learning_rate` |
| during training | `fastbp.callbacks`: early stopping, checkpoints, logs; progress bar; resuming |
| input | arrays, uint8 images, data frames, sparse matrices, memory maps, chunks |
| data files | CSV, IDX (MNIST), npz, npy, `mnist.pkl.gz`: `fastbp.datasets` |
| other formats | PyTorch's state_dict, ONNX, scikit-learn: `fastbp.interchange` |
| parallel | threads; processes and machines by MPI |
| backends | "numba", and "numpy", which runs the reference |
| precision | float32 (the default), float64 |

There are no convolutions, no recurrence, no attention, no GPU and no automatic differentiation.

## In the words of Nielsen's book

Readers of [Neural Networks and Deep Learning](http://neuralnetworksanddeeplearning.com) find its
words as methods: `feedforward`, `backprop`, `update_mini_batch`, `evaluate` and `SGD`. Here
samples are rows; the book's column vectors are refused with a hint.

## Where to go on

| guide | about |
|---|---|
| `fastbp.training` | all of `fit`: optimisers, dropout, resuming, streaming, several machines |
| `fastbp.losses` | losses for numbers, quantiles and classes, and their settings |
| `fastbp.functions` | activations and losses of your own |
| `fastbp.datasets` | tables, images, and where they come from |
| `fastbp.plots` | pictures and notebooks |
| `fastbp.estimator` | in place of scikit-learn's networks |
| `fastbp.verification` | checking gradients, yours too, and this machine |
| `fastbp.interchange` | to PyTorch, ONNX and scikit-learn, and back |
| `fastbp.layers` | computational graphs of your own |
| `fastbp.cli` | the command line |
| `fastbp.reference` | every operation as an equation and in plain NumPy |
"""

TYPE_CHECKING = False  # that of `typing`, which takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from . import callbacks, datasets, interchange, losses, plots, report, schedules
    from .engines import get_backend
    from .engines.versions import show_versions
    from .errors import DivergenceError, ModelFileError, RankError
    from .functions import Activation, Loss
    from .history import History
    from .layers import Add, Affine, Mul, ReLU, Sigmoid, SoftmaxWithLoss, Tanh
    from .layers.sequential import Sequential
    from .lr_finder import find_learning_rate
    from .model.layout import Gradient
    from .network import Network, load
    from .optimizers import SGD, Adam, AdamW, RMSprop
    from .plots.norms import Norms
    from .verification import verify
    from .verification.gradients import gradcheck

__version__ = "0.2.0"

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "Add",
    "Affine",
    "DivergenceError",
    "Gradient",
    "History",
    "Loss",
    "ModelFileError",
    "Mul",
    "Network",
    "Norms",
    "RMSprop",
    "RankError",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SoftmaxWithLoss",
    "Tanh",
    "callbacks",
    "datasets",
    "find_learning_rate",
    "get_backend",
    "gradcheck",
    "interchange",
    "load",
    "losses",
    "plots",
    "report",
    "schedules",
    "show_versions",
    "verify",
]

# Imported at first use, as all modules are: a program waits for what it needs alone, and the
# command line is there to answer Ctrl-C before anything else is loaded.
_LAZY = {
    "engines": ["get_backend"],
    "engines.versions": ["show_versions"],
    "errors": ["DivergenceError", "ModelFileError", "RankError"],
    "functions": ["Activation", "Loss"],
    "history": ["History"],
    "layers": ["Add", "Affine", "Mul", "ReLU", "Sigmoid", "SoftmaxWithLoss", "Tanh"],
    "layers.sequential": ["Sequential"],
    "lr_finder": ["find_learning_rate"],
    "model.layout": ["Gradient"],
    "network": ["Network", "load"],
    "optimizers": ["SGD", "Adam", "AdamW", "RMSprop"],
    "plots.norms": ["Norms"],
    "verification": ["verify"],
    "verification.gradients": ["gradcheck"],
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    for path, names in _LAZY.items():
        if name in names:
            return getattr(import_module(f".{path}", __name__), name)
    if name[:2] != "__":
        try:
            return import_module(f".{name}", __name__)
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":  # an extra
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Modules that need an extra, or whose names are in `__all__`, are public but not in `__all__`.
    return sorted({*__all__, "estimator", "layers", *(n for n in globals() if n[:2] == "__")})
