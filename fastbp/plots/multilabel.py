"""A picture of several labels for each sample, each of which is there or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..network import Network
from . import figures, metrics
from .curves import OKABE_ITO
from .figures import MaybePath

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 40
# Name, colour and marker of each share; name and colour of each count.
_SHARES = (("precision", OKABE_ITO[0], "o"), ("recall", OKABE_ITO[1], "s"), ("F1", "black", "|"))
_COUNTS = ("found", OKABE_ITO[2]), ("missed", OKABE_ITO[1]), ("wrongly found", OKABE_ITO[3])


def labels(
    net: Network, X: ArrayLike, y: ArrayLike, path: MaybePath = None, title: str | None = None
) -> Figure:
    """Draw for each of several labels how many of its samples are found, missed, wrongly found.

    Beside it, precision = found / (found + wrongly found), recall = found / (found + missed), and
    F1, their harmonic mean. Of more than 40 labels, those with the lowest F1 are shown.

    Parameters
    ----------
    net : fastbp.Network
        With several sigmoids and the loss cross-entropy. `net.notes["classes"]` names them.
    X : (batch, n_in) array
    y : (batch, n_out) array of 0 and 1
    path, title : optional
        As for `learning_curves`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError, ValueError
        As for `learning_curves`; also if there are no several labels: of one class for each sample,
        draw the `confusion_matrix`.
    TypeError, ValueError
        If samples or labels do not fit the network.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([2, 2], output="sigmoid", loss="cross-entropy", seed=0)
    >>> net.notes["classes"] = ["cat", "dog"]
    >>> figure = labels(net, [[0, 1], [1, 1], [2, 0]], [[0, 0], [1, 1], [0, 1]])
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['cat', 'dog']
    """
    figures.check(path)
    found, wrong, all_right, samples = metrics.per_label(net, X, y)
    names = metrics.output_names(net)
    shown = np.arange(len(names))
    words = f"{100 * all_right / samples:.2f} % of {samples:,} samples have all labels right"
    if len(names) > MOST_LABELS:
        shown = np.sort(np.argsort(np.nan_to_num(found.f1, nan=2))[:MOST_LABELS])
        words += f"; the {MOST_LABELS} of {len(names):,} labels of lowest F1"
    figure = figures.new_figure((10.0, 1.6 + 0.3 * len(shown)), figures.heading(title, words))
    left, right_axes = figure.subplots(1, 2, sharey=True)
    start = np.zeros(len(shown))
    for (name, color), counts in zip(
        _COUNTS, (found.right, found.samples - found.right, wrong), strict=True
    ):
        left.barh(range(len(shown)), counts[shown], left=start, color=color, label=name)
        start += counts[shown]
    for (name, color, marker), shares in zip(
        _SHARES, (found.precision, found.recall, found.f1), strict=True
    ):
        style = {"color": color, "marker": marker, "linestyle": "", "markersize": 7}
        right_axes.plot(100 * shares[shown], range(len(shown)), label=name, **style)
    left.set_yticks(range(len(shown)), [figures.plain(names[k], 30) for k in shown])
    left.set(xlabel="samples", ylim=(len(shown) - 0.5, -0.5))
    right_axes.set(xlabel="%", xlim=(-3, 103))
    for axes in (left, right_axes):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    return figures.save(figure, path)
