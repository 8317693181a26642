"""Pictures of a training and of a network, drawn by matplotlib: `pip install 'fastbp[plot]'`.

>>> import fastbp
>>> X, y, X_test, y_test = fastbp.datasets.load("digits")
>>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
>>> history = net.fit(X, y, epochs=3, batch_size=10, learning_rate=0.5)
>>> figure = fastbp.plots.learning_curves(history, title="digits")
>>> figure = fastbp.plots.confusion_matrix(net, X_test, y_test)

======================  ==========================================================================
`learning_curves`       loss and accuracy over the epochs, of one run or of several
`confusion_matrix`      how many samples of each class are predicted as which
`mistakes`              the images, or rows of a table, that are most confidently predicted wrong
`labels`                how many samples of each of several labels are found, missed, wrongly found
`predicted`             predicted against true numbers
`residuals`             what predictions leave, and how it is distributed
`first_layer`           the weights of the first layer, as images, or by the columns of a table
`layer_norms`           how large activations and deltas are in each layer, over the epochs
`learning_rates`        what `fastbp.find_learning_rate` found
======================  ==========================================================================

A picture that makes no sense for a network, as the confusion matrix of one that predicts numbers,
is a `ValueError` that says which does.

Each function returns a `matplotlib.figure.Figure` and, given a path, writes it there. The figures
are made without pyplot: no window, no global state, no need for a display.
"""

from .curves import layer_norms, learning_curves, learning_rates
from .figures import check
from .images import confusion_matrix, first_layer, mistakes
from .multilabel import labels
from .regression import predicted, residuals

__all__ = [
    "check",
    "confusion_matrix",
    "first_layer",
    "labels",
    "layer_norms",
    "learning_curves",
    "learning_rates",
    "mistakes",
    "predicted",
    "residuals",
]
