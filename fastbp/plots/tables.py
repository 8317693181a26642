"""Pictures of a network whose inputs are the columns of a table, not the pixels of an image."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from .._support import notes as kept
from ..network import Network
from . import figures, metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIGNED = "PuOr_r"  # white is zero
MOST_NEURONS, MOST_COLUMNS = 40, 60  # of a heat map
MOST_WRITTEN = 12  # columns of a mistake
SMALLEST_IMAGE = 4  # pixels a side: the four columns of iris are no image
# Names that tables of images give to their columns, as Kaggle's MNIST: pixel0, 1x28, px-3.
_PIXEL = re.compile(r"p(ixel|x)?[-_ ]?\d+([-_ x]\d+)?|\d+x\d+", re.IGNORECASE)


def columns(net: Network) -> list[str] | None:
    """Return the names of the columns that a network takes; None if it takes square images.

    The notes of a network name the columns of its table; without, what is square is an image. So
    are columns in a square that are named as pixels, or scaled by one number, as pixels are.
    """
    names, n_in = kept.listed(net.notes, "columns"), net.sizes[0]
    side = math.isqrt(n_in)
    square = side**2 == n_in and side >= SMALLEST_IMAGE
    if names is None:
        return None if square else [str(column) for column in range(n_in)]
    if len(names) != n_in:
        raise ValueError(f"notes['columns'] must name all {n_in} inputs; it has {len(names)}")
    found = [str(name) for name in names]
    pixels = net.config["input_scale"] != 1 or all(map(_PIXEL.fullmatch, found))
    return None if square and pixels else found


def heat_map(
    net: Network, names: list[str], dead: np.ndarray, title: str | None, neurons: list[str]
) -> Figure:
    """Draw the first layer's weights: a row for each neuron, a column for each of the table."""
    W = net.weights[0]
    rows, shown = largest(W, MOST_NEURONS), largest(W.T, MOST_COLUMNS)
    words = heading(rows, dead)
    if len(shown) < len(names):
        words += f"; {which(shown, len(names), 'column')}"
    # Ticks are letters of some 0.07 inches.
    below = 0.07 * max(min(len(names[j]), figures.LONGEST_NAME) for j in shown)
    size = 2.6 + 0.28 * max(len(shown), 8), 1.2 + 0.22 * max(len(rows), 5) + below
    figure = figures.new_figure(size, figures.heading(title, words))
    axes, part = figure.subplots(), W[np.ix_(rows, shown)]
    most = span(part)
    image = axes.imshow(part, cmap=SIGNED, vmin=-most, vmax=most, aspect="auto")
    named = [f"{figures.plain(neurons[i], 24)}{' (dead)' * bool(dead[i])}" for i in rows]
    axes.set_yticks(range(len(rows)), named, fontsize=8)
    axes.set_xticks(
        range(len(shown)), [figures.plain(names[j]) for j in shown], rotation=90, fontsize=8
    )
    for place, i in enumerate(rows):
        if dead[i]:
            axes.axhspan(place - 0.5, place + 0.5, fill=False, hatch="////", edgecolor="#888")
    standard = " of the standardised column" * (net.config["scale"] == "standard")
    axes.set_ylabel("neuron" if net.num_layers > 2 else "output")
    tall: dict[str, Any] = {"shrink": min(1.0, 4 / size[1]), "aspect": 15}
    figure.colorbar(image, ax=axes, extend="both", label=f"weight{standard}", **tall)
    return figure


def mistake_rows(
    net: Network, X: ArrayLike, found: metrics.Mistakes, names: list[str]
) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table of mistakes, in words.

    Of more than 12 columns, those are written which move the first layer most: by their weights,
    and by how much they vary.
    """
    rows: Any = checks.samples(X, net.sizes[0])
    chosen = rows[found.indices]
    values = np.asarray(chosen.toarray() if checks.is_sparse(chosen) else chosen, np.float64)
    classes = metrics.output_names(net)
    shown = np.arange(len(names))
    if len(names) > MOST_WRITTEN:
        W = net.weights[0].astype(np.float64)
        spread = np.ones(len(names)) if checks.is_sparse(rows) else np.std(rows, axis=0)
        if net.config["scale"] == "standard":
            spread = spread > 0
        shown = np.sort(np.argsort(-np.linalg.norm(W, axis=0) * spread)[:MOST_WRITTEN])
    head = ["row", "true class", "predicted", "its output", "output of the true class"]
    body = [
        [f"{index}", classes[label], classes[guess], metrics.output_in_words(net, sure),
         metrics.output_in_words(net, other), *(f"{value:.4g}" for value in line[shown])]
        for index, label, guess, sure, other, line in zip(*found[:5], values, strict=True)
    ]  # fmt: skip
    return [*head, *(names[j] for j in shown)], body


def text_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], title: str | None, words: str
) -> Figure:
    """Draw a table of texts, with the names of its columns written upwards."""
    cut = [[figures.plain(cell, 24) for cell in line] for line in (head, *rows)]
    letters = [max(map(len, column)) for column in zip(*cut[1:], strict=True)] or [8] * len(head)
    widths = [0.085 * max(count, 5) + 0.15 for count in letters]
    top = 0.08 * max(map(len, cut[0])) + 0.2
    height = top + 0.24 * max(1, len(rows))
    figure = figures.new_figure((sum(widths) + 0.4, height + 0.6), figures.heading(title, words))
    if not rows:
        return figure
    axes = figure.subplots()
    axes.set(xlim=(0, sum(widths)), ylim=(height, 0))
    axes.axis("off")
    for right, *column in zip(np.cumsum(widths), *cut, strict=True):
        style: dict[str, Any] = {"fontsize": 9, "ha": "right"}
        axes.text(right, top, column[0], rotation=90, va="bottom", weight="bold", **style)
        for place, cell in enumerate(column[1:]):
            axes.text(right, top + 0.24 * (place + 0.5), cell, va="center", **style)
    for place in range(len(rows) + 1):
        axes.axhline(top + 0.24 * place, color="#ccc", linewidth=0.7)
    return figure


def largest(W: np.ndarray, most: int) -> np.ndarray:
    """Return the indices of the rows with the largest norms, at most so many, in their order."""
    norms = np.linalg.norm(W.astype(np.float64), axis=1)
    found: np.ndarray = np.sort(np.argsort(-norms, kind="stable")[:most])
    return found


def heading(shown: np.ndarray, dead: np.ndarray) -> str:
    """Return in words which neurons are shown, and how many of all are dead."""
    words = f"Weights of the first layer, {which(shown, len(dead), 'neuron')}"
    return f"{words}; {dead.sum():,} dead" if dead.any() else words


def which(shown: np.ndarray, count: int, what: str) -> str:
    """Return in words which neurons or columns are shown."""
    if len(shown) < count:
        return f"the {len(shown)} of {count:,} {what}s with the largest norms"
    return f"{what}s 0 to {count - 1}" if count > 1 else f"the only {what}"


def span(W: np.ndarray) -> float:
    """Return the end of the scale of weights: a single extreme one does not fade all others."""
    return float(np.quantile(np.abs(W), 0.995)) or float(np.abs(W).max()) or 1.0
