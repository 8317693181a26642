"""Curves over the epochs, and over learning rates."""

import math
from collections.abc import Mapping
from itertools import cycle, product
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from . import figures
from .figures import MaybePath

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..history import History

# Okabe and Ito's colours: distinct with every kind of colour blindness, and in grey. Their yellow
# is left out: it can hardly be seen on white.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# One marker and one line style for each time that the colours are used up.
MARKERS = "os^Dv"
DASHES = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))
DEPTH = "viridis"  # for what has an order, as layers have; without its yellow end


class LayerNorms(Protocol):
    """What `fastbp.Norms` records: one entry per epoch, with one norm per layer."""

    activations: Any
    deltas: Any


class FoundRates(Protocol):
    """What a learning-rate finder returns."""

    rates: Any
    losses: Any
    suggestion: Any


_Quantity: TypeAlias = tuple[str, str, str, int]  # title, label, name in History, factor
_LOSS: _Quantity = "Loss", "mean loss per sample", "loss", 1
_ACCURACY: _Quantity = "Accuracy", "accuracy (% of the samples)", "accuracy", 100
_Runs: TypeAlias = "dict[Any, History]"  # by name
_PARTS = {  # prefix in History: role, words, style where there is one run
    "": ("training", "as seen during the epoch", {"color": OKABE_ITO[0], "marker": "o"}),
    "val_": ("validation", "after the epoch", {"color": OKABE_ITO[1], "marker": "s"}),
}


def learning_curves(
    history: "History | Mapping[str, History]", path: MaybePath = None, title: str | None = None
) -> "Figure":
    """Draw loss and accuracy over the epochs, side by side.

    Parameters
    ----------
    history : fastbp.History, or dict of str to fastbp.History
        With an epoch or more; without classes there is no accuracy, and one panel. Up to 35 runs,
        by their names, share the panels: training above, validation below. Values that are not
        finite leave a gap, which the legend mentions.
    path : str or os.PathLike, optional
        Where to write the picture; the suffix (`.png`, `.svg`, `.pdf`) selects the format.
    title : str, optional
        Title above the panels; default: the name, if there is one run that has a name.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError
        If matplotlib is missing, or the file cannot be written.
    ValueError
        If a history is empty, there are too many runs, or matplotlib does not know the suffix.

    Examples
    --------
    >>> import fastbp
    >>> history = fastbp.History(loss=[0.9, 0.4], accuracy=[0.7, 0.9])
    >>> [axes.get_ylabel() for axes in learning_curves(history, title="digits").axes]
    ['mean loss per sample', 'accuracy (% of the samples)']
    >>> figure = learning_curves({"rate 0.1": history, "rate 0.5": history})
    """
    figures.check(path)
    runs: _Runs = dict(history) if isinstance(history, Mapping) else {None: history}
    most = len(OKABE_ITO) * len(DASHES)
    if not 0 < len(runs) <= most:
        raise ValueError(f"history must hold 1 to {most} runs to distinguish; got {len(runs)}")
    for name in (name for name, run in runs.items() if not run.loss):
        where = "" if name is None else f" in {name!r}"
        raise ValueError(f"history must hold at least one epoch; got none{where}")
    classes = any(not all(map(math.isnan, run.accuracy)) for run in runs.values())
    draw = _one_run if len(runs) == 1 else _several_runs
    return figures.save(draw(runs, [_LOSS, _ACCURACY][: 1 + classes], title), path)


def _one_run(runs: _Runs, quantities: list[_Quantity], title: str | None) -> "Figure":
    ((name, run),) = runs.items()
    title = str(name) if title is None and name is not None else title
    figure, (axes,) = figures.panels(len(quantities), title)
    for place, (heading, label, quantity, factor) in zip(axes, quantities, strict=True):
        for prefix, (role, words, style) in _PARTS.items():
            values = getattr(run, prefix + quantity)
            if values and not (prefix and all(map(math.isnan, values))):
                figures.curve(place, values, f"{role}, {words}", style, factor)
        figures.epoch_axis(place, len(run.loss), heading, label)
        figures.loss_scale(place)
        place.legend()
    return figure


def _several_runs(runs: _Runs, quantities: list[_Quantity], title: str | None) -> "Figure":
    parts = {p: v for p, v in _PARTS.items() if any(getattr(r, p + "loss") for r in runs.values())}
    figure, axes = figures.panels(len(quantities), title, rows=len(parts))
    epochs, marked = max(len(run.loss) for run in runs.values()), len(runs) <= len(OKABE_ITO)
    pairs = product(parts.items(), quantities)
    styles = [
        {"color": color, "linestyle": dashes, "marker": marker}
        for (dashes, marker), color in product(zip(DASHES, MARKERS, strict=True), OKABE_ITO)
    ]
    for place, ((prefix, (role, words, _)), quantity) in zip(axes.flat, pairs, strict=True):
        heading, label, attribute, factor = quantity
        for style, (name, run) in zip(styles, runs.items(), strict=False):
            values = getattr(run, prefix + attribute)
            figures.curve(place, values, name, style, factor, marked=marked)
        heading = f"{role.capitalize()} {heading.lower()}, {words}"
        figures.epoch_axis(place, epochs, heading, label)
        figures.loss_scale(place)
    figures.legend_aside(figure, "run")
    return figure


def layer_norms(norms: LayerNorms, path: MaybePath = None, title: str | None = None) -> "Figure":
    """Draw how large activations and deltas are in each layer, over the epochs.

    Where the deltas' curves lie ever lower from the output towards layer 1, gradients vanish.

    Parameters
    ----------
    norms : fastbp.Norms
        After training. Values that are zero or not finite leave a gap, which the legend mentions.
    path, title : optional
        As for `learning_curves`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError, ValueError
        As for `learning_curves`.

    Examples
    --------
    >>> import fastbp
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], input_scale=1 / 16, seed=0)
    >>> norms = fastbp.Norms(X[:200], y[:200])
    >>> _ = net.fit(X, y, epochs=2, batch_size=10, learning_rate=0.5, callbacks=[norms])
    >>> [axes.get_title() for axes in layer_norms(norms).axes]
    ['Norms of the activations', 'Norms of the deltas, dC/dz']
    """
    figures.check(path)
    if not norms.activations or not norms.deltas:
        raise ValueError("norms must hold at least one epoch; got none: pass it to fit")
    figure, ((left, right),) = figures.panels(2, title)
    _layer_curves(left, norms.activations, "Norms of the activations", "mean |a| per sample")
    _layer_curves(right, norms.deltas, "Norms of the deltas, dC/dz", "mean |delta| per sample")
    figures.legend_aside(figure, "layer")
    return figures.save(figure, path)


def _layer_curves(axes: "Axes", epochs: Any, title: str, label: str) -> None:
    from matplotlib import colormaps

    norms = np.array(epochs, float)
    shades = colormaps[DEPTH](np.linspace(0, 0.88, norms.shape[1]))
    for l, (values, shade, marker) in enumerate(zip(norms.T, shades, cycle(MARKERS)), start=1):
        name = f"{l} (output)" if l == norms.shape[1] else l
        figures.curve(axes, values, name, {"color": shade, "marker": marker}, positive=True)
    drawn = norms[(norms > 0) & np.isfinite(norms)]
    if drawn.size and drawn.max() > 10 * drawn.min():
        figures.log_scale(axes)
    figures.epoch_axis(axes, len(norms), title, label)


def learning_rates(found: FoundRates, path: MaybePath = None, title: str | None = None) -> "Figure":
    """Draw what a learning-rate finder found: the loss over growing learning rates.

    Parameters
    ----------
    found : object
        With `rates` and `losses`, of the same length, and `suggestion`. Losses that are not finite
        are not drawn; where the loss explodes, the curve leaves the picture.
    path, title : optional
        As for `learning_curves`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError, OSError, ValueError
        As for `learning_curves`; also if rates and losses differ in length, a rate or the
        suggestion is not positive, or no loss is finite.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> found = SimpleNamespace(rates=[0.01, 0.1, 1], losses=[2.3, 1.0, 9.0], suggestion=0.1)
    >>> learning_rates(found).axes[0].get_xlabel()
    'learning rate'
    """
    figures.check(path)
    rates, losses = np.asarray(found.rates, float), np.asarray(found.losses, float)
    if rates.shape != losses.shape or rates.ndim != 1:
        raise ValueError(f"rates and losses need one length; got {rates.shape}, {losses.shape}")
    if not all(0 < value < math.inf for value in (*rates, found.suggestion)):
        raise ValueError("rates and suggestion must be positive and finite; got other values")
    if not np.isfinite(losses).any():
        raise ValueError("losses must hold a finite value; got none")
    losses = np.where(np.isfinite(losses), losses, np.nan)
    figure = figures.new_figure((6.5, 4.2), title)
    axes = figure.subplots()
    marker = "o" if len(losses) <= figures.MANY_EPOCHS else ""
    label = "loss" + figures.gaps_in_words(losses[np.isnan(losses)], f"{len(losses)}")
    axes.plot(rates, losses, color=OKABE_ITO[0], marker=marker, markersize=4, label=label)
    label = f"suggestion: {found.suggestion:.3g}"
    axes.axvline(found.suggestion, color=OKABE_ITO[1], linestyle="--", label=label)
    axes.set(xscale="log", xlabel="learning rate", ylabel=_LOSS[1], ylim=_loss_limits(losses))
    axes.set_title("Learning-rate finder")
    axes.grid(alpha=0.3)
    axes.legend()
    return figures.save(figure, path)


def _loss_limits(losses: np.ndarray) -> tuple[float, float]:
    # From below the lowest loss to above what precedes it; later peaks are cut.
    lowest = np.nanargmin(losses)
    bottom, top = losses[lowest], np.nanmax(losses[: lowest + 1])
    margin = 0.25 * (top - bottom) or 0.5 * abs(bottom) or 0.5
    return bottom - margin / 3, top + margin
