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
`mistakes`              the images that the network is most confidently wrong about
`first_layer`           the weights of the first layer, as images
`layer_norms`           how large activations and deltas are in each layer, over the epochs
`learning_rates`        what `fastbp.find_learning_rate` found
======================  ==========================================================================

Each function returns a `matplotlib.figure.Figure` and, given a path, writes it there. The figures
are made without pyplot: no window, no global state, no need for a display.
"""

from .curves import layer_norms, learning_curves, learning_rates
from .figures import check
from .images import confusion_matrix, first_layer, mistakes

__all__ = [
    "check",
    "confusion_matrix",
    "first_layer",
    "layer_norms",
    "learning_curves",
    "learning_rates",
    "mistakes",
]
