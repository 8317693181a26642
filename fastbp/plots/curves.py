"""Curves over the epochs, and over learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle, product
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from .. import lr_finder
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
MANY_RATES = 2 * lr_finder.SMOOTHED  # means of so many around each leave something of fewer
USABLE_FROM = 0.1  # of the fall of the loss: below such rates, it hardly learns
DEPTH = "viridis"  # for what has an order, as layers have; without its yellow end


class LayerNorms(Protocol):
    """What `fastbp.Norms` records: one entry per epoch, with one norm per layer.

    It may have `first_epoch`, the epoch of the first entry, as 0 for before training; without, 1.
    """

    activations: Any
    deltas: Any


class Recorded(Protocol):
    """A fitted estimator of `fastbp.estimator`."""

    @property
    def history_(self) -> History:
        """What it recorded."""


class FoundRates(Protocol):
    """What a learning-rate finder returns."""

    rates: Any
    losses: Any
    suggestion: Any


_Quantity: TypeAlias = tuple[str, str, str, int]  # title, label, name in History, factor
_LOSS: _Quantity = "Loss", "mean loss per sample", "loss", 1
_ACCURACY: _Quantity = "Accuracy", "accuracy (% of the samples)", "accuracy", 100
_Runs: TypeAlias = "dict[Any, History]"  # by name
_Parts: TypeAlias = dict[str, tuple[str, str, dict[str, Any]]]


def _parts(held_out: str) -> _Parts:
    """Return by the prefix in `History`: role, words, style where there is one run."""
    return {
        "": ("training", "as seen during the epoch", {"color": OKABE_ITO[0], "marker": "o"}),
        "val_": (held_out, "after the epoch", {"color": OKABE_ITO[1], "marker": "s"}),
    }


def learning_curves(
    history: History | Recorded | Mapping[str, History | Recorded], path: MaybePath = None,
    title: str | None = None, held_out: str = "validation",
) -> Figure:  # fmt: skip
    """Draw loss and accuracy over the epochs, side by side.

    A ring marks the epoch with the smallest validation loss; if `EarlyStopping` or another callback
    gave the network the weights of an epoch back, that one. Where a few losses are far larger than
    the rest, the axis is logarithmic; a first epoch that would take most of it is written instead.

    Parameters
    ----------
    history : fastbp.History or estimator, or dict of them by name
        With an epoch or more; without classes there is no accuracy, and one panel. Up to 35 runs,
        by their names, share the panels: training above, validation below. Values that are not
        finite leave a gap, which the legend mentions. A fitted estimator of `fastbp.estimator`
        shows the loss of each epoch, and what it has of validation samples.
    path : str or os.PathLike, optional
        Where to write the picture; the suffix (`.png`, `.svg`, `.pdf`) selects the format.
    title : str, optional
        Title above the panels; default: the name, if there is one run that has a name.
    held_out : str, default "validation"
        What the validation data are: "test", if they are the test set.

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
    given: dict[Any, Any] = dict(history) if isinstance(history, Mapping) else {None: history}
    runs: _Runs = {
        name: run.history_ if hasattr(type(run), "history_") else run for name, run in given.items()
    }
    most = len(OKABE_ITO) * len(DASHES)
    if not 0 < len(runs) <= most:
        raise ValueError(f"history must hold 1 to {most} runs to distinguish; got {len(runs)}")
    for name in (name for name, run in runs.items() if not run.loss):
        where = "" if name is None else f" in {name!r}"
        raise ValueError(f"history must hold at least one epoch; got none{where}")
    classes = any(
        not all(map(math.isnan, [*run.accuracy, *run.val_accuracy])) for run in runs.values()
    )
    draw, parts = _one_run if len(runs) == 1 else _several_runs, _parts(held_out)
    return figures.save(draw(runs, [_LOSS, _ACCURACY][: 1 + classes], title, parts), path)


def _best(run: History) -> tuple[int, str]:
    """Return the epoch to mark, 0 for none, and what is to be said about it."""
    if restored := getattr(run, "restored", 0):
        return restored, "restored"
    if len(run) < 2 or not any(map(math.isfinite, run.val_loss)):
        return 0, ""
    return int(np.nanargmin(run.val_loss)) + 1, "smallest loss"


def _ring(axes: Axes, run: History, name: str, factor: int, words: bool) -> None:
    """Mark the best epoch, on the curve of a quantity if it has one."""
    epoch, why = _best(run)
    if epoch and (values := getattr(run, name)):
        value = factor * values[epoch - 1]
        label = f"{why}: epoch {epoch:,}, {value:.4g}" if words else None
        axes.scatter(
            [epoch], [value], s=110, facecolors="none", edgecolors="black", linewidths=1.5,
            zorder=3, label=label,
        )  # fmt: skip


def _one_run(runs: _Runs, quantities: list[_Quantity], title: str | None, parts: _Parts) -> Figure:
    ((name, run),) = runs.items()
    title = str(name) if title is None and name is not None else title
    figure, (axes,) = figures.panels(len(quantities), title)
    for place, (heading, label, quantity, factor) in zip(axes, quantities, strict=True):
        for prefix, (role, words, style) in parts.items():
            values = getattr(run, prefix + quantity)
            if values and not (prefix and all(map(math.isnan, values))):
                figures.curve(place, values, f"{role}, {words}", style, factor)
        figures.epoch_axis(place, len(run.loss), heading, label)
        figures.fit_scale(place, quantity == "loss")
        _ring(place, run, ("val_" if run.val_loss else "") + quantity, factor, words=True)
        place.legend()
    return figure


def _several_runs(
    runs: _Runs, quantities: list[_Quantity], title: str | None, parts: _Parts
) -> Figure:
    parts = {p: v for p, v in parts.items() if any(getattr(r, p + "loss") for r in runs.values())}
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
        if not any(getattr(run, prefix + attribute) for run in runs.values()):
            place.set_visible(False)  # estimators have no training accuracy
        heading = f"{role.capitalize()} {heading.lower()}, {words}"
        figures.epoch_axis(place, epochs, heading, label)
        figures.fit_scale(place, attribute == "loss")
        if prefix:
            for run in runs.values():
                _ring(place, run, prefix + attribute, factor, words=False)
    ring = "\n(ring: epoch of the\nsmallest validation loss)" if len(parts) > 1 else ""
    figures.legend_aside(figure, f"run{ring}")
    return figure


def layer_norms(norms: LayerNorms, path: MaybePath = None, title: str | None = None) -> Figure:
    """Draw how large activations and deltas are in each layer, over the epochs.

    Epoch 0 is the state before training; the axes are logarithmic. Where the deltas' curves lie
    ever lower from the output towards layer 1, gradients vanish.

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
    first, words = (
        getattr(norms, "first_epoch", 1),
        ("Norms of the activations", "mean |a| per sample"),
    )
    _layer_curves(left, norms.activations, *words, first)
    words = "Norms of the deltas, dC/dz", "mean |delta| per sample"
    _layer_curves(right, norms.deltas, *words, first)
    figures.legend_aside(figure, "layer")
    return figures.save(figure, path)


def _layer_curves(axes: Axes, epochs: Any, title: str, label: str, first: int) -> None:
    from matplotlib import colormaps

    norms = np.array(epochs, float)
    shades = colormaps[DEPTH](np.linspace(0, 0.88, norms.shape[1]))
    for l, (values, shade, marker) in enumerate(zip(norms.T, shades, cycle(MARKERS)), start=1):
        name = f"{l} (output)" if l == norms.shape[1] else l
        style = {"color": shade, "marker": marker}
        figures.curve(axes, values, name, style, positive=True, first=first)
    if ((norms > 0) & np.isfinite(norms)).any():
        figures.log_scale(axes)
    figures.epoch_axis(axes, len(norms) + first - 1, title, label, first)


def learning_rates(found: FoundRates, path: MaybePath = None, title: str | None = None) -> Figure:
    """Draw what a learning-rate finder found: the loss over growing learning rates.

    The usable range is shaded: from the rate at which the loss, smoothed, has fallen by a tenth of
    all that it falls, to that of its minimum; where it does not fall, there is none.

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
    if usable := _usable(rates, losses):
        label = f"usable: {usable[0]:.2g} to {usable[1]:.2g}"
        axes.axvspan(*usable, color=OKABE_ITO[2], alpha=0.15, linewidth=0, label=label)
    label = f"suggestion: {found.suggestion:.3g}"
    axes.axvline(found.suggestion, color=OKABE_ITO[1], linestyle="--", label=label)
    axes.set(xscale="log", xlabel="learning rate", ylabel=_LOSS[1], ylim=_loss_limits(losses))
    axes.set_title("Learning-rate finder")
    axes.grid(alpha=0.3)
    axes.legend()
    return figures.save(figure, path)


def _usable(rates: np.ndarray, losses: np.ndarray) -> tuple[float, float] | None:
    """Return the rates from which and to which the loss falls, if it does."""
    losses = losses[: np.argmax(np.append(np.isnan(losses), True))]
    if not losses.size:
        return None
    losses = np.minimum(losses, losses[0])  # where it explodes, it would spoil the means before
    smooth = lr_finder.smoothed(losses) if len(losses) > MANY_RATES else losses
    if not (fall := smooth[0] - smooth.min()) > 0:
        return None
    lowest = int(smooth.argmin())
    return rates[np.argmax(smooth <= smooth[0] - USABLE_FROM * fall)], rates[lowest]


def _loss_limits(losses: np.ndarray) -> tuple[float, float]:
    # From below the lowest loss to above what precedes it; later peaks are cut.
    lowest = np.nanargmin(losses)
    bottom, top = losses[lowest], np.nanmax(losses[: lowest + 1])
    margin = 0.25 * (top - bottom) or 0.5 * abs(bottom) or 0.5
    return bottom - margin / 3, top + margin
