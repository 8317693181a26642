"""Pictures of a network that predicts numbers: predicted against true, and residuals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..network import Network
from ..reference.records import NUMBERS
from . import figures, metrics
from .curves import OKABE_ITO
from .figures import MaybePath

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 2000  # more would hide each other: they are counted in hexagons
HEXAGONS, BINS = 40, 40  # across a panel
COUNTED = "viridis"
# Of more outputs, those with the lowest R2 are shown.
MOST_PANELS, MOST_ROWS, COLUMNS = 12, 4, 3
LONGEST_NAME = 28  # letters, beside "predicted" at a panel


class _Output(NamedTuple):
    name: str
    true: np.ndarray  # (n,) float64
    predicted: np.ndarray  # (n,) float64
    r2: float
    mae: float


def predicted(
    net: Network, X: ArrayLike, y: ArrayLike, path: MaybePath = None, title: str | None = None
) -> Figure:
    """Draw predicted against true numbers, with the diagonal on which they are equal.

    Both axes are in the unit of the target and have one scale. Of more than 2,000 samples, the
    colour of a hexagon says how many lie in it. Each of several outputs has its panel; of more than
    12 outputs, those with the lowest R2 are shown.

    Parameters
    ----------
    net : fastbp.Network
        One that predicts numbers. `net.notes["label"]` names what it predicts.
    X : (batch, n_in) array
    y : (batch,) array for one output, or (batch, n_out)
    path, title : optional
        As for `learning_curves`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError, ValueError
        As for `learning_curves`; also if the network predicts classes.
    TypeError, ValueError
        If samples or targets do not fit the network.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([1, 1], output="identity", seed=0)
    >>> net.notes["label"] = "price"
    >>> predicted(net, [[0], [1], [2]], [0.1, 0.9, 2.2]).axes[0].get_xlabel()
    'true price'
    """
    figures.check(path)
    found, words = _outputs(net, X, y, "predicted against true", MOST_PANELS)
    columns = min(COLUMNS, len(found))
    size, rows = 4.6 if columns > 1 else 5.6, math.ceil(len(found) / columns)
    bar = 1.0 if len(found[0].true) > MOST_POINTS else 0.0
    inches = columns * (size + bar), rows * (size - 0.1) + 0.5
    figure = figures.new_figure(inches, figures.heading(title, words))
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places[len(found) :]:
        axes.remove()
    for axes, one in zip(places, found, strict=False):
        points, gaps = _finite(one)
        _points(figure, axes, points.true, points.predicted)
        low, high = _limits(np.append(points.true, points.predicted))
        axes.plot([low, high], [low, high], color="black", linewidth=1, label="predicted = true")
        axes.set(xlim=(low, high), ylim=(low, high))
        _labelled(axes, f"true {one.name}", f"predicted {one.name}")
        axes.set_title(f"R² {one.r2:.3f}, mean absolute error {one.mae:.4g}{gaps}", fontsize=10)
        axes.legend(loc="upper left", fontsize=8)
    return figures.save(figure, path)


def residuals(
    net: Network, X: ArrayLike, y: ArrayLike, path: MaybePath = None, title: str | None = None
) -> Figure:
    """Draw residuals, true minus predicted: against the predictions, and how they are distributed.

    A pattern on the left, such as a bow or a funnel, is something that the network has not learnt.
    Each of several outputs has its row; of more than 4, those with the lowest R2 are shown.

    Parameters
    ----------
    net, X, y, path, title
        As for `predicted`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError, TypeError, ValueError
        As for `predicted`.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([1, 1], output="identity", seed=0)
    >>> [axes.get_xlabel() for axes in residuals(net, [[0], [1], [2]], [0.1, 0.9, 2.2]).axes]
    ['predicted output', 'true - predicted output']
    """
    figures.check(path)
    found, words = _outputs(net, X, y, "residuals", MOST_ROWS)
    figure, rows = figures.panels(2, figures.heading(title, words), rows=len(found))
    for (left, right), one in zip(rows, found, strict=True):
        points, gaps = _finite(one)
        rest = points.true - points.predicted
        low, high = _limits(rest)
        _points(figure, left, points.predicted, rest)
        for place in (left.axhline, right.axvline):
            place(0, color="black", linewidth=1)
        left.set_ylim(low, high)
        right.hist(rest, BINS, range=(low, high), color=OKABE_ITO[0])
        mean, deviation = (rest.mean(), rest.std()) if rest.size else (math.nan, math.nan)
        label = f"mean {mean:.3g}, deviation {deviation:.3g}"
        right.axvline(mean, color=OKABE_ITO[1], linestyle="--", label=label)
        difference = f"true - predicted {one.name}"
        _labelled(left, f"predicted {one.name}", difference)
        _labelled(right, difference, "samples")
        left.set_title(f"Residuals against predictions{gaps}")
        right.set_title("Distribution of the residuals")
        right.set_ylim(top=1.2 * right.get_ylim()[1])
        right.legend()
    return figures.save(figure, path)


def _outputs(
    net: Network, X: ArrayLike, y: ArrayLike, picture: str, most: int
) -> tuple[list[_Output], str]:
    """Return what each output predicts, at most so many of them, and words on what is shown."""
    if not metrics.predicts_numbers(net):
        metrics.need(NUMBERS, f"a picture of {picture}", net, y)
    true, outputs = metrics.predictions(net, X, y)
    found = []
    for name, one, other in zip(metrics.output_names(net), true.T, outputs.T, strict=True):
        figures_of = metrics.compared(one[:, None], other[:, None])
        found.append(
            _Output(figures.plain(name, LONGEST_NAME), one, other, figures_of.r2, figures_of.mae)
        )
    words = f"{len(true):,} samples"
    if len(found) <= most:
        return found, words
    worst = sorted(sorted(range(len(found)), key=lambda k: found[k].r2)[:most])
    return [found[k] for k in worst], f"{words}; the {most} of {len(found)} outputs of lowest R²"


def _finite(one: _Output) -> tuple[_Output, str]:
    """Return the points that can be drawn, and words about the others."""
    fine = np.isfinite(one.predicted)
    gaps = figures.gaps_in_words(one.predicted[~fine], f"{len(fine):,} samples")
    return one._replace(true=one.true[fine], predicted=one.predicted[fine]), gaps


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of an axis that shows all values."""
    low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
    margin = 0.04 * (high - low) or 0.04 * abs(high) or 0.5
    return float(low - margin), float(high + margin)


def _points(figure: Figure, axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Draw points; many of them as hexagons, coloured by how many points lie there."""
    if len(x) <= MOST_POINTS:
        alpha = 0.7 if len(x) < 200 else 0.4
        axes.scatter(x, y, s=18, color=OKABE_ITO[0], alpha=alpha, linewidths=0)
        return
    extent: Any = (*_limits(x), *_limits(y))
    drawn = axes.hexbin(x, y, gridsize=HEXAGONS, bins="log", mincnt=1, cmap=COUNTED, extent=extent)
    figure.colorbar(drawn, ax=axes, label="samples (logarithmic)", format="{x:g}", shrink=0.8)


def _labelled(axes: Axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
