"""Pictures of a network's predictions and weights: confusion matrix, mistakes, first layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from .._support import notes as kept
from ..network import Network
from . import figures, metrics
from .figures import MaybePath

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES, DARK_SHARE = "Blues", 43  # %: above it, white has more contrast than black
SIGNED = "PuOr_r"  # white is zero
MOST_MISTAKES, MOST_NEURONS = 25, 100
MOST_WRITTEN = 20  # classes whose counts are written into the matrix


def confusion_matrix(
    net: Network, X: ArrayLike, labels: ArrayLike, path: MaybePath = None, title: str | None = None
) -> Figure:
    """Draw how many samples of each class are predicted as which.

    The colour is the share of the true class's samples; for up to 20 classes, counts are written.

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
        If samples or labels do not fit the network.

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
    figure = figures.new_figure((side + 1.5, side + 0.6), title)
    axes, shares = figure.subplots(), 100 * counts / np.maximum(samples, 1)
    # The scale spreads out the small shares, where mistakes are.
    image = axes.imshow(shares, cmap=SHARES, norm=PowerNorm(0.4, 0, 100))
    bar = figure.colorbar(image, ax=axes, label="share of the true class's samples (%)")
    bar.set_ticks([0, 0.1, 1, 5, 10, 25, 50, 100], labels="0 0.1 1 5 10 25 50 100".split())
    for (true, predicted), count in np.ndenumerate(counts) if classes <= MOST_WRITTEN else ():
        ink = "white" if shares[true, predicted] > DARK_SHARE else "black"
        words: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
        axes.text(predicted, true, count or "·", fontsize=9 if classes <= 12 else 7, **words)
    step = 1 if classes <= MOST_WRITTEN else 10 ** math.floor(math.log10(classes / 2))
    ticks, total = range(0, classes, step), counts.sum()
    names = [f"{name!s:.20}" for name in kept.classes(net.notes, classes)[::step]]
    written: dict[str, Any] = {"labels": names, "parse_math": False}
    axes.set_xticks(ticks, rotation=90 if max(map(len, names)) > 4 else 0, **written)
    axes.set_yticks(ticks, **written)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{100 * counts.trace() / total:.2f} % of {total:,} samples are right")
    return figures.save(figure, path)


def mistakes(
    net: Network, X: ArrayLike, labels: ArrayLike, path: MaybePath = None, title: str | None = None
) -> Figure:
    """Draw the 25 images that the network is most confidently wrong about.

    Parameters
    ----------
    net : fastbp.Network
        Of square images, with two outputs or more.
    X, labels, path, title
        As for `confusion_matrix`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError, TypeError, ValueError
        As for `confusion_matrix`; also if the inputs are not square images.

    Examples
    --------
    >>> import fastbp
    >>> *_, X, y = fastbp.datasets.load("digits")
    >>> len(mistakes(fastbp.Network([64, 10], seed=0), X, y).axes)
    25
    """
    figures.check(path)
    side = figures.square_side(net.sizes[0])
    found = metrics.mistakes(net, X, labels, MOST_MISTAKES)
    rows: Any = checks.samples(X, net.sizes[0])[found.indices]
    images = np.asarray(rows.toarray() if checks.is_sparse(rows) else rows).reshape(-1, side, side)
    softmax, total, samples = net.config["output"] == "softmax", found.total, np.shape(X)[0]
    names = kept.classes(net.notes, max(2, net.sizes[-1]))
    captions = [
        f"{names[label]!s:.20} taken for {names[predicted]!s:.20}\n".replace("$", r"\$")
        + (f"{100 * value:.2f} % sure" if softmax else f"output {value:.3f}")
        for label, predicted, value in zip(*found[1:4], strict=True)
    ]
    which = "All" if len(images) == total else f"The {len(images)} most confident of"
    words = f"{which} {total:,} mistakes" if total else "No mistakes"
    figure = figures.image_grid(captions, 1.45, title, f"{words} in {samples:,} samples")
    for axes, image in zip(figure.axes, images, strict=True):
        axes.imshow(image, cmap="gray", vmin=images.min(), vmax=images.max())
    return figures.save(figure, path)


def first_layer(net: Network, path: MaybePath = None, title: str | None = None) -> Figure:
    """Draw the first layer's weights as images, one for each neuron.

    Of more than 100 neurons, the 100 with the largest norms are shown. All share one scale.

    Parameters
    ----------
    net : fastbp.Network
        Of square images.
    path, title : optional
        As for `learning_curves`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError, ValueError
        As for `learning_curves`; also if the inputs are not square images.

    Examples
    --------
    >>> import fastbp
    >>> len(first_layer(fastbp.Network([64, 30, 10], seed=0)).axes)  # the last one is the scale
    31
    """
    figures.check(path)
    side, W = figures.square_side(net.sizes[0]), net.weights[0]
    norms = np.linalg.norm(W.astype(np.float64), axis=1)
    neurons = np.sort(np.argsort(-norms, kind="stable")[:MOST_NEURONS])
    which = f"neurons 0 to {len(W) - 1}" if len(W) > 1 else "the only neuron"
    if len(neurons) < len(W):
        which = f"the {len(neurons)} of {len(W):,} neurons with the largest norms"
    words = f"Weights of the first layer, {which}"
    figure = figures.image_grid(list(map(str, neurons)), 0.8, title, words)
    # Not the maximum: a single extreme weight would fade all others.
    most = float(np.quantile(np.abs(W[neurons]), 0.995)) or 1.0
    for axes, neuron in zip(figure.axes, neurons, strict=True):
        shown = axes.imshow(W[neuron].reshape(side, side), cmap=SIGNED, vmin=-most, vmax=most)
    figure.colorbar(shown, ax=figure.axes, extend="both", shrink=0.8, aspect=30, label="weight")
    return figures.save(figure, path)
