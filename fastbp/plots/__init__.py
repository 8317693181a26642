"""Pictures of trainings and networks, and how things look in a notebook.

Pictures are drawn by matplotlib (the extra `plot`).

>>> import fastbp
>>> X, y, X_test, y_test = fastbp.datasets.load("digits")
>>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
>>> norms = fastbp.Norms(X[:256], y[:256])  # a callback, which records on this probe batch
>>> history = net.fit(X, y, epochs=3, batch_size=10, learning_rate=0.5, callbacks=[norms])
>>> figure = fastbp.plots.learning_curves(history, title="digits")
>>> figure = fastbp.plots.confusion_matrix(net, X_test, y_test)
>>> figure = fastbp.plots.layer_norms(norms)

| function | `fastbp plot` | shows |
|---|---|---|
| `learning_curves` | `curves A B ...` | loss and accuracy over the epochs, of up to 35 runs |
| `confusion_matrix` | `confusion` | how many samples of each class are predicted as which |
| `mistakes` | `mistakes` | the images, or rows of a table, most confidently predicted wrong |
| `labels` | | of each of several labels, how many samples are found or missed |
| `predicted` | `predicted` | predicted against true numbers |
| `residuals` | `residuals` | what predictions of numbers leave, and how it is distributed |
| `first_layer` | `weights` | the weights of the first layer, as images or as a heat map |
| `layer_norms` | `norms` | norms of activations and deltas of each layer: do gradients vanish? |
| `learning_rates` | `learning-rate` | the losses over growing learning rates, and the suggestion |

A picture that makes no sense for a network, as the confusion matrix of one that predicts numbers,
is a `ValueError` that says which does.

Each function returns a `matplotlib.figure.Figure` and, given a path, also writes it there. Figures
are made without pyplot: there is no window, no global state, and no need for a display.
`fastbp.report.write` puts all of them, with the figures of each class and the settings, into one
HTML page that loads nothing from elsewhere.

## In a notebook

A figure at the end of a cell shows itself, whatever backend matplotlib has. So do a `Network`, a
`History`, `net.summary()`, the report of `gradcheck` and the result of `find_learning_rate`, as
tables.

>>> history = net.fit(X, y, epochs=3, batch_size=10, learning_rate=0.5, validation_split=0.1)
>>> figure = history.plot()  # the learning curves
>>> frame = history.to_frame()  # a pandas.DataFrame, an epoch in each row
>>> list(frame.columns[:2]), len(frame)
(['loss', 'accuracy'], 3)

`fit(..., progress=True)` shows a bar for each epoch (tqdm), which stays with the loss and the
validation loss. Interrupting the kernel ends a training within 0.2 seconds; the network keeps the
weights of the last step. `net.fit?` shows all arguments; `fastbp.training` explains them.
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
