"""The table of features in the guide of the estimators: how each library shows what it has.

Each module has FEATURES: by the rows of the table, a function that is true if the library does it.
Those of what it lacks try what its users would, and find that there is no such name or argument.
SimpleChains.jl runs in Julia: its column is read from its sources, see `simplechains.toml`.
"""

import numpy as np

# Rows, in the order of the table.
ROWS = (
    "pipelines, searches and `clone` of scikit-learn",
    "the weights of `MLPClassifier` for a `random_state`",
    "leaky ReLU, ELU, softplus, SiLU and GELU by name",
    "an activation for each layer",
    "an activation of your own",
    "the absolute loss",
    "Huber's loss",
    "the quantile loss",
    "a loss of your own",
    "label smoothing",
    "sample weights",
    "class weights",
    "dropout",
    "an L1 penalty",
    "AdamW and RMSprop",
    "learning rates that warm up",
    "initial weights by He and by Glorot",
    "frozen layers",
    "a validation set of your own",
    "validation score of each epoch",
    "validation loss of each epoch",
    "callbacks that see each epoch, and end the training",
    "curves in one call",
    "threads that share a batch, with the same bits",
)
# Errors by which a library says that it has no such name, argument or value.
LACKS = TypeError, AttributeError, ValueError, ImportError

RNG = np.random.default_rng(0)
X, X_VAL = RNG.standard_normal((60, 3)), RNG.standard_normal((20, 3))
Y, Y_VAL = (X[:, 0] > 0.4).astype(int), (X_VAL[:, 0] > 0.4).astype(int)
NUMBERS = X[:, 0] - X[:, 1] ** 2
MANY = RNG.standard_normal((60_000, 30))  # of which threads take parts
NEW = "leaky_relu", "elu", "softplus", "silu", "gelu"


def found(has, *arguments):
    """Return the cell of the table: what `has` shows."""
    try:
        return "yes" if has(*arguments) else "no"
    except LACKS:
        return "no"


def differ(one, other):
    """Whether two lists of arrays differ anywhere."""
    return not all(np.allclose(*pair) for pair in zip(one, other, strict=True))


def same_bits(one, two):
    return all(np.array_equal(*pair) for pair in zip(one, two, strict=True))
