"""Pictures of a network's predictions and weights: confusion matrix, mistakes, first layer."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from ..network import Network
from . import figures, metrics, norms, tables
from .figures import MaybePath
from .tables import SIGNED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARES, DARK_SHARE = "Blues", 43  # %: above it, white has more contrast than black
RECALL = "#9ECAE1"
_SCALE = "share of the true class's samples (%)\n(the colours spread out small shares)"
MOST_MISTAKES, MOST_NEURONS = 25, 100
MOST_WRITTEN, MOST_NAMED = 20, 60  # classes with counts in the matrix; with all names beside it


def confusion_matrix(
    net: Network, X: ArrayLike, labels: ArrayLike, path: MaybePath = None, title: str | None = None
) -> Figure:
    """Draw how many samples of each class are predicted as which.

    The colour is the share of the true class's samples, on a scale that spreads out small shares;
    for up to 20 classes, counts are written. Beside it stands the recall: the share of each class's
    samples that is right. `net.notes["classes"]` names the classes.

    Parameters
    ----------
    net : fastbp.Network
        With 2 to 1000 outputs.
    X : (batch, n_in) array
    labels : (batch,) integers, or (batch, n_out) one-hot rows
    path, title : optional
        As for `learning_curves`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError, ValueError
        As for `learning_curves`.
    TypeError, ValueError
        If samples or labels do not fit the network, or are no classes.

    Examples
    --------
    >>> import fastbp
    >>> *_, X, y = fastbp.datasets.load("digits")
    >>> confusion_matrix(fastbp.Network([64, 10], seed=0), X, y).axes[0].get_xlabel()
    'predicted class'
    """
    figures.check(path)
    from matplotlib.colors import PowerNorm

    counts = metrics.confusion(net, X, labels)
    classes, samples = len(counts), counts.sum(axis=1, keepdims=True)
    side = min(max(4.5, 0.5 * classes), 9.0)
    figure = figures.new_figure((side + 2.6, side + 0.6), title)
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=[side, 0.9])
    shares = 100 * counts / np.maximum(samples, 1)
    # The scale spreads out the small shares, where mistakes are.
    image = axes.imshow(shares, cmap=SHARES, norm=PowerNorm(0.4, 0, 100), aspect="auto")
    bar = figure.colorbar(image, ax=[axes, beside], label=_SCALE)
    bar.set_ticks([0, 0.1, 1, 5, 10, 25, 50, 100], labels="0 0.1 1 5 10 25 50 100".split())
    for (true, predicted), count in np.ndenumerate(counts) if classes <= MOST_WRITTEN else ():
        ink = "white" if shares[true, predicted] > DARK_SHARE else "black"
        words: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        axes.text(predicted, true, count or "·", fontsize=9 if classes <= 12 else 7, **words)
    step = _step(classes)
    names = [figures.plain(name, 20) for name in metrics.output_names(net)[::step]]
    ticks, total = range(0, classes, step), counts.sum()
    small = {"fontsize": 9 if classes <= MOST_WRITTEN else 7}
    axes.set_xticks(ticks, names, rotation=90 if max(map(len, names)) > 3 else 0, **small)
    axes.set_yticks(ticks, names, **small)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{100 * counts.trace() / total:.2f} % of {total:,} samples are right")
    _recalls(
        beside,
        np.where(samples > 0, 100 * counts.diagonal()[:, None] / np.maximum(samples, 1), np.nan)[
            :, 0
        ],
    )
    return figures.save(figure, path)


def _step(classes: int) -> int:
    """Return of how many classes one is named at the axes: of all up to 60."""
    return 1 if classes <= MOST_NAMED else 10 ** math.floor(math.log10(classes / 5))


def _recalls(axes: Axes, recalls: np.ndarray) -> None:
    """Draw a bar for the share of each class's samples that is classified right."""
    places = range(len(recalls))
    axes.barh(
        places,
        np.nan_to_num(recalls),
        height=0.9 if len(recalls) <= MOST_NAMED else 1,
        color=RECALL,
    )
    for place, recall in zip(places, recalls, strict=True) if len(recalls) <= MOST_NAMED else ():
        words = f"{recall:.1f}" if math.isfinite(recall) else "none"
        axes.text(4, place, words, va="center", fontsize=8 if len(recalls) <= 20 else 6)
    axes.set(xlim=(0, 100), xlabel="%")
    axes.set_title("recall", fontsize=10)
    axes.tick_params(left=False, labelleft=False)


def mistakes(
    net: Network, X: ArrayLike, labels: ArrayLike, path: MaybePath = None, title: str | None = None
) -> Figure:
    """Draw the 25 samples that the network is most confidently wrong about.

    Each has its row of X, counted from 0, its true class and that which it is taken for, with their
    outputs. Square images are drawn; of a table, which `net.notes` knows by its columns, the values
    are written, of more than 12 columns those which move the network most.

    Parameters
    ----------
    net : fastbp.Network
        That predicts one class for each sample.
    X, labels, path, title
        As for `confusion_matrix`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError, TypeError, ValueError
        As for `confusion_matrix`.

    Examples
    --------
    >>> import fastbp
    >>> *_, X, y = fastbp.datasets.load("digits")
    >>> len(mistakes(fastbp.Network([64, 10], seed=0), X, y).axes)
    25
    """
    figures.check(path)
    found = metrics.mistakes(net, X, labels, MOST_MISTAKES)
    if (names := tables.columns(net)) is not None:
        head, lines = tables.mistake_rows(net, X, found, names)
        return figures.save(tables.text_table(head, lines, title, str(found)), path)
    side = math.isqrt(net.sizes[0])
    rows: Any = checks.samples(X, net.sizes[0])[found.indices]
    images = np.asarray(rows.toarray() if checks.is_sparse(rows) else rows).reshape(-1, side, side)
    classes = [figures.plain(name, 14) for name in metrics.output_names(net)]
    captions = [
        f"#{index}\ntrue {classes[label]}, {metrics.output_in_words(net, other)}\n"
        f"taken for {classes[guess]}, {metrics.output_in_words(net, sure)}"
        for index, label, guess, sure, other in zip(*found[:5], strict=True)
    ]
    words = f"{found}, by row" if captions else str(found)
    figure = figures.image_grid(captions, 1.6, title, words)
    for axes, image in zip(figure.axes, images, strict=True):
        axes.imshow(image, cmap="gray", vmin=images.min(), vmax=images.max())
    return figures.save(figure, path)


def first_layer(
    net: Network, path: MaybePath = None, title: str | None = None, X: ArrayLike | None = None
) -> Figure:
    """Draw the first layer's weights: images, or a heat map with the names of a table's columns.

    The weights of a neuron are an image if the inputs are square images: 16 or more of them, in a
    square, of which `net.notes` names no columns; or if these are named as pixels, or have an
    `input_scale`. Of many neurons, the 100 with the largest norms are shown, of a table 40; so are
    the 60 columns with the largest norms. All share one scale. Dead neurons are hatched: those
    whose output is the same for all samples of X, as of a relu that never fires; without X, those
    whose weights are all zero.

    Parameters
    ----------
    net : fastbp.Network
    path, title : optional
        As for `learning_curves`.
    X : (batch, n_in) array, optional
        Samples by which to find dead neurons.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError, ValueError
        As for `learning_curves`; also if X does not fit the network.

    Examples
    --------
    >>> import fastbp
    >>> len(first_layer(fastbp.Network([64, 30, 10], seed=0)).axes)  # the second one is the scale
    2
    >>> net = fastbp.Network([2, 3, 2], seed=0)
    >>> net.notes["columns"] = ["height", "weight"]
    >>> [text.get_text() for text in first_layer(net).axes[0].get_xticklabels()]
    ['height', 'weight']
    """
    figures.check(path)
    W, dead, names = net.weights[0], norms.dead(net, X), tables.columns(net)
    deep = net.num_layers > 2
    neurons = [str(i) for i in range(len(W))] if deep else metrics.output_names(net)[-len(W) :]
    draw = _mosaic if names is None else partial(tables.heat_map, names=names)
    return figures.save(draw(net, dead=dead, title=title, neurons=neurons), path)


def _mosaic(net: Network, dead: np.ndarray, title: str | None, neurons: list[str]) -> Figure:
    """Draw the weights of each neuron as an image, side by side."""
    from matplotlib.patheffects import withStroke

    W, side = net.weights[0], math.isqrt(net.sizes[0])
    shown = tables.largest(W, MOST_NEURONS)
    across = min(len(shown), max(5, math.ceil(math.sqrt(len(shown)))))
    down = math.ceil(len(shown) / across)
    canvas = np.full((down * side, across * side), np.nan, np.float32)
    words = tables.heading(shown, dead)
    size = 0.85 * max(across, 5) + 1.2, 0.85 * max(down, 2) + 0.7
    figure = figures.new_figure(size, figures.heading(title, words))
    axes, most = figure.subplots(), tables.span(W[shown])
    for place, i in enumerate(shown):
        top, left = side * (place // across), side * (place % across)
        canvas[top : top + side, left : left + side] = W[i].reshape(side, side)
        if dead[i]:
            axes.add_patch(_hatched(left - 0.5, top - 0.5, side))
        words = figures.plain(neurons[i], 8) + " dead" * bool(dead[i])
        axes.text(
            left - 0.5 + side / 30, top - 0.5 + side / 30, words, fontsize=7, va="top",
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
    image = axes.imshow(canvas, cmap=SIGNED, vmin=-most, vmax=most)
    for lines, count in ((axes.axvline, across), (axes.axhline, down)):
        for edge in range(1, count):
            lines(edge * side - 0.5, color="black", linewidth=0.6)
    axes.axis("off")
    figure.colorbar(image, ax=axes, extend="both", shrink=0.8, aspect=30, label="weight")
    return figure


def _hatched(left: float, top: float, side: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, top), side, side, fill=False, hatch="////", edgecolor="#888")
