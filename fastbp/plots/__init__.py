"""Pictures, drawn by matplotlib, which is an extra: `pip install 'fastbp[plot]'`.

Each public function returns a `matplotlib.figure.Figure` and, given a path, writes it there.
"""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from . import metrics as assessment
from .figures import (
    MANY_EPOCHS,
    FilePath,
    check,
    curve,
    epoch_axis,
    image_grid,
    legend_aside,
    log_scale,
    loss_scale,
    one_panel,
    panels,
    save,
    square_side,
    words_on_gaps,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..history import History
    from ..network import Network

__all__ = [
    "check",
    "confusion_matrix",
    "first_layer",
    "layer_norms",
    "learning_curves",
    "learning_rates",
    "mistakes",
]

# Okabe and Ito's colours: told apart with every kind of colour blindness, and in grey. Their
# yellow is left out: on white it can hardly be seen.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
COLOURS = {"training": OKABE_ITO[0], "validation": OKABE_ITO[1]}
MARKERS = {"training": "o", "validation": "s"}
# One of each for every time that the colours are used up.
SIGNS = "os^Dv"
DASHES = ("-", "--", ":", "-.", (0, (6, 2, 1, 2, 1, 2)))
DEPTH = "viridis"  # for what has an order, as layers have; without its yellow end
SHARES, DARK_SHARE = "Blues", 43  # %: above it, white has more contrast than black
SIGNED = "PuOr_r"  # white is zero
MOST_MISTAKES, MOST_NEURONS = 25, 100
MOST_WRITTEN = 20  # classes whose counts are written into the matrix


class LayerNorms(Protocol):
    """What `fastbp.Norms` records: one entry an epoch, in it one norm a layer."""

    activations: Any
    deltas: Any


class FoundRates(Protocol):
    """What a learning-rate finder returns."""

    rates: Any
    losses: Any
    suggestion: Any


class _Quantity(NamedTuple):
    """What is drawn over the epochs."""

    title: str
    label: str
    name: str  # in History; with "val_" before it, on the validation data
    factor: int


_LOSS = _Quantity("Loss", "mean loss per sample", "loss", 1)
_ACCURACY = _Quantity("Accuracy", "accuracy (% of the samples)", "accuracy", 100)
_PARTS = {  # prefix in History: role, words
    "": ("training", "as seen during the epoch"),
    "val_": ("validation", "after the epoch"),
}

# -- learning curves -----------------------------------------------------------------------------


def learning_curves(
    history: "History | Mapping[str, History]", path: FilePath | None = None,
    title: str | None = None,
) -> "Figure":  # fmt: skip
    """Draw loss and accuracy over the epochs, side by side.

    Parameters
    ----------
    history : fastbp.History, or dict of str to fastbp.History
        With at least one epoch. Without classes there is no accuracy, and one panel. Several runs
        by their names, up to 35, share the panels: training above, validation below. A value that
        is not finite leaves a gap, which the legend tells.
    path : str or os.PathLike, optional
        Where to write the picture; the suffix (`.png`, `.svg`, `.pdf`) says how.
    title : str, optional
        Stands above the panels; by default the name, if there is one run that has a name.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If a history is empty, there are too many to be told apart, or matplotlib does not know the
        suffix.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastbp
    >>> history = fastbp.History(loss=[0.9, 0.4], accuracy=[0.7, 0.9])
    >>> figure = learning_curves(history, title="digits")
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['mean loss per sample', 'accuracy (% of the samples)']
    >>> figure = learning_curves({"rate 0.1": history, "rate 0.5": history})
    """
    runs: dict[Any, History] = dict(history) if isinstance(history, Mapping) else {None: history}
    _check_runs(runs)
    quantities = [_LOSS]
    if not all(_all_nan(run.accuracy) for run in runs.values()):
        quantities.append(_ACCURACY)
    if len(runs) > 1:
        return save(_several_runs(runs, quantities, title, path), path)
    ((name, run),) = runs.items()
    title = str(name) if title is None and name is not None else title
    return save(_one_run(run, quantities, title, path), path)


def _check_runs(runs: "dict[Any, History]") -> None:
    most = len(OKABE_ITO) * len(DASHES)
    if not 0 < len(runs) <= most:
        raise ValueError(f"history must be 1 to {most} runs, to be told apart; found {len(runs)}")
    for name, run in runs.items():
        if not run.loss:
            where = "" if name is None else f" in {name!r}"
            raise ValueError(f"history must hold at least one epoch; found none{where}")


def _all_nan(values: Iterable[float]) -> bool:
    return all(map(math.isnan, values))


def _one_run(
    run: "History", quantities: list[_Quantity], title: str | None, path: FilePath | None
) -> "Figure":
    figure, (axes,) = panels(len(quantities), title, path)
    for place, quantity in zip(axes, quantities, strict=True):
        for prefix, (role, words) in _PARTS.items():
            values = getattr(run, prefix + quantity.name)
            if values and not (prefix and _all_nan(values)):
                style = {"color": COLOURS[role], "marker": MARKERS[role]}
                curve(place, values, f"{role}, {words}", style, quantity.factor)
        epoch_axis(place, len(run.loss))
        loss_scale(place)
        place.set(title=quantity.title, ylabel=quantity.label)
        place.legend()
    return figure


def _several_runs(
    runs: "dict[Any, History]", quantities: list[_Quantity], title: str | None,
    path: FilePath | None,
) -> "Figure":  # fmt: skip
    parts = {p: v for p, v in _PARTS.items() if any(getattr(r, p + "loss") for r in runs.values())}
    figure, rows = panels(len(quantities), title, path, rows=len(parts))
    epochs = max(len(run.loss) for run in runs.values())
    for places, (prefix, (role, words)) in zip(rows, parts.items(), strict=True):
        for place, quantity in zip(places, quantities, strict=True):
            for number, (name, run) in enumerate(runs.items()):
                values = getattr(run, prefix + quantity.name)
                style, marked = _run_style(number), len(runs) <= len(OKABE_ITO)
                curve(place, values, name, style, quantity.factor, marked=marked)
            epoch_axis(place, epochs)
            loss_scale(place)
            title = f"{role.capitalize()} {quantity.title.lower()}, {words}"
            place.set(title=title, ylabel=quantity.label)
    legend_aside(figure, "run")
    return figure


def _run_style(number: int) -> dict[str, Any]:
    turn, colour = divmod(number, len(OKABE_ITO))
    return {"color": OKABE_ITO[colour], "linestyle": DASHES[turn], "marker": SIGNS[turn]}


# -- what is right and what is wrong -------------------------------------------------------------


def confusion_matrix(
    net: "Network", X: ArrayLike, labels: ArrayLike, path: FilePath | None = None,
    title: str | None = None,
) -> "Figure":  # fmt: skip
    """Draw how many samples of each class are taken for which.

    The colour is the share of the true class's samples; up to 20 classes, the counts are written.

    Parameters
    ----------
    net : fastbp.Network
        With 2 to 1000 outputs.
    X : (batch, n_in) array
    labels : (batch,) integers, or (batch, n_out) one-hot rows
    path : str or os.PathLike, optional
        Where to write the picture.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError, ValueError
        If samples or labels do not fit the network, or matplotlib does not know the suffix.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastbp
    >>> *_, X, y = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 10], input_scale=1 / 16, seed=0)
    >>> figure = confusion_matrix(net, X, y)
    >>> figure.axes[0].get_xlabel()
    'predicted class'
    """
    check(path)
    counts = assessment.confusion(net, X, labels)
    classes, samples = len(counts), counts.sum(axis=1, keepdims=True)
    side = min(max(4.5, 0.5 * classes), 9.0)
    figure, axes = one_panel((side + 1.5, side + 0.6), title, path)
    shares = 100 * counts / np.maximum(samples, 1)
    _share_bar(figure, axes, axes.imshow(shares, cmap=SHARES, norm=_share_scale()))
    if classes <= MOST_WRITTEN:
        _write_counts(axes, counts, shares)
    right, total = counts.trace(), counts.sum()
    axes.set(
        xlabel="predicted class", ylabel="true class",
        title=f"{100 * right / total:.2f} % of {total:,} samples are right",
    )  # fmt: skip
    _class_ticks(axes, classes)
    return save(figure, path)


def _share_scale() -> Any:
    """Spread out the small shares, where mistakes are."""
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.4, 0, 100)


def _share_bar(figure: "Figure", axes: "Axes", image: Any) -> None:
    bar = figure.colorbar(image, ax=axes, label="share of the true class's samples (%)")
    bar.set_ticks([0, 0.1, 1, 5, 10, 25, 50, 100], labels="0 0.1 1 5 10 25 50 100".split())


def _write_counts(axes: "Axes", counts: np.ndarray, shares: np.ndarray) -> None:
    size = 9 if len(counts) <= 12 else 7
    for (true, predicted), count in np.ndenumerate(counts):
        ink = "white" if shares[true, predicted] > DARK_SHARE else "black"
        words: dict[str, Any] = {"ha": "center", "va": "center", "color": ink, "fontsize": size}
        axes.text(predicted, true, f"{count}" if count else "·", **words)


def _class_ticks(axes: "Axes", classes: int) -> None:
    step = 1 if classes <= MOST_WRITTEN else 10 ** math.floor(math.log10(classes / 2))
    ticks = range(0, classes, step)
    axes.set(xticks=ticks, yticks=ticks)


def mistakes(
    net: "Network", X: ArrayLike, labels: ArrayLike, path: FilePath | None = None,
    title: str | None = None,
) -> "Figure":  # fmt: skip
    """Draw the 25 images that the network is most confidently wrong about.

    Parameters
    ----------
    net : fastbp.Network
        Of square images, with two outputs or more.
    X : (batch, n_in) array
    labels : (batch,) integers, or (batch, n_out) one-hot rows
    path : str or os.PathLike, optional
        Where to write the picture.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError, ValueError
        If samples or labels do not fit the network, its inputs are no square images, or matplotlib
        does not know the suffix.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastbp
    >>> *_, X, y = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 10], input_scale=1 / 16, seed=0)
    >>> figure = mistakes(net, X, y)
    >>> len(figure.axes)
    25
    """
    check(path)
    side = square_side(net.sizes[0])
    found = assessment.mistakes(net, X, labels, MOST_MISTAKES)
    rows: Any = checks.samples(X, net.sizes[0])[found.indices]
    images = np.asarray(rows.toarray() if checks.is_sparse(rows) else rows).reshape(-1, side, side)
    captions = [
        f"{label} taken for {predicted}\n{_confidence(net, value)}"
        for label, predicted, value in zip(*found[1:4], strict=True)
    ]
    words = _words_on_mistakes(len(images), found.total, np.shape(X)[0])
    figure, places = image_grid(captions, 1.45, title, words, path)
    for axes, image in zip(places, images, strict=True):
        axes.imshow(image, cmap="gray", vmin=images.min(), vmax=images.max())
    return save(figure, path)


def _confidence(net: "Network", value: float) -> str:
    return (
        f"{100 * value:.2f} % sure" if net.config["output"] == "softmax" else f"output {value:.3f}"
    )


def _words_on_mistakes(shown: int, total: int, samples: int) -> str:
    if not total:
        return f"No mistakes in {samples:,} samples"
    which = "All" if shown == total else f"The {shown} most confident of"
    return f"{which} {total:,} mistakes in {samples:,} samples"


# -- what the network has learnt -----------------------------------------------------------------


def first_layer(net: "Network", path: FilePath | None = None, title: str | None = None) -> "Figure":
    """Draw the first layer's weights as images, one for each neuron.

    Of more than 100 neurons, the 100 with the largest norms. All share one scale.

    Parameters
    ----------
    net : fastbp.Network
        Of square images.
    path : str or os.PathLike, optional
        Where to write the picture.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the network's inputs are no square images, or matplotlib does not know the suffix.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastbp
    >>> figure = first_layer(fastbp.Network([64, 30, 10], seed=0))
    >>> len(figure.axes)  # the last one is the scale
    31
    """
    check(path)
    side, W = square_side(net.sizes[0]), net.weights[0]
    norms = np.linalg.norm(W.astype(np.float64), axis=1)
    neurons = np.sort(np.argsort(-norms, kind="stable")[:MOST_NEURONS])
    words = f"Weights of the first layer, {_which_neurons(len(neurons), len(W))}"
    figure, places = image_grid([str(neuron) for neuron in neurons], 0.8, title, words, path)
    most = (
        float(np.quantile(np.abs(W[neurons]), 0.995)) or 1.0
    )  # single wild weights would fade all
    for axes, neuron in zip(places, neurons, strict=True):
        image = W[neuron].reshape(side, side)
        shown = axes.imshow(image, cmap=SIGNED, vmin=-most, vmax=most)
    bar = figure.colorbar(shown, ax=figure.axes, extend="both", shrink=0.8, aspect=30)
    bar.set_label("weight")
    return save(figure, path)


def _which_neurons(shown: int, all_of_them: int) -> str:
    if shown == all_of_them:
        return f"neurons 0 to {shown - 1}" if shown > 1 else "the only neuron"
    return f"the {shown} of {all_of_them:,} neurons with the largest norms"


def layer_norms(
    norms: LayerNorms, path: FilePath | None = None, title: str | None = None
) -> "Figure":
    """Draw how large activations and deltas are in each layer, over the epochs.

    Where the deltas' curves lie ever lower from the output towards layer 1, gradients vanish.

    Parameters
    ----------
    norms : fastbp.Norms
        After training; or anything with its `activations` and `deltas`. What is zero or not finite
        leaves a gap, which the legend tells.
    path : str or os.PathLike, optional
        Where to write the picture.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there is no epoch, or matplotlib does not know the suffix.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastbp
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], input_scale=1 / 16, seed=0)
    >>> norms = fastbp.Norms(X[:200], y[:200])
    >>> _ = net.fit(X, y, epochs=2, batch_size=10, learning_rate=0.5, callbacks=[norms])
    >>> figure = layer_norms(norms)
    >>> [axes.get_title() for axes in figure.axes]
    ['Norms of the activations', 'Norms of the deltas, dC/dz']
    """
    if not norms.activations or not norms.deltas:
        raise ValueError("norms must hold at least one epoch; found none: pass it to fit")
    figure, (axes,) = panels(2, title, path)
    drawn = (
        ("Norms of the activations", "mean |a| per sample", norms.activations),
        ("Norms of the deltas, dC/dz", "mean |delta| per sample", norms.deltas),
    )
    for place, (name, label, epochs) in zip(axes, drawn, strict=True):
        _layer_curves(place, list(zip(*epochs, strict=True)))
        epoch_axis(place, len(epochs))
        place.set(title=name, ylabel=label)
    legend_aside(figure, "layer")
    return save(figure, path)


def _layer_curves(axes: "Axes", layers: list[tuple[float, ...]]) -> None:
    from matplotlib import colormaps

    shades = colormaps[DEPTH](np.linspace(0, 0.88, len(layers)))
    names = [*(str(number) for number in range(1, len(layers))), f"{len(layers)} (output)"]
    for number, (name, values) in enumerate(zip(names, layers, strict=True)):
        style = {"color": shades[number], "marker": SIGNS[number % len(SIGNS)]}
        curve(axes, values, name, style, positive=True)
    drawn = [value for values in layers for value in values if 0 < value < math.inf]
    if drawn and max(drawn) > 10 * min(drawn):
        log_scale(axes)


def learning_rates(
    found: FoundRates, path: FilePath | None = None, title: str | None = None
) -> "Figure":
    """Draw what a learning-rate finder found: the loss over growing learning rates.

    Parameters
    ----------
    found : object
        With `rates` and `losses`, of the same length, and `suggestion`. Losses that are not finite
        are not drawn; where the loss explodes, the curve leaves the picture.
    path : str or os.PathLike, optional
        Where to write the picture.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If rates and losses are not of one length, a rate or the suggestion is not positive, no
        loss is finite, or matplotlib does not know the suffix.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> found = SimpleNamespace(rates=[0.01, 0.1, 1], losses=[2.3, 1.0, 9.0], suggestion=0.1)
    >>> learning_rates(found).axes[0].get_xlabel()
    'learning rate'
    """
    check(path)
    rates, losses = _rates_and_losses(found)
    figure, axes = one_panel((6.5, 4.2), title, path)
    marker = "o" if len(losses) <= MANY_EPOCHS else ""
    gaps = words_on_gaps([*losses[np.isnan(losses)]], f"{len(losses)}")
    axes.plot(rates, losses, color=OKABE_ITO[0], marker=marker, markersize=4, label=f"loss{gaps}")
    axes.axvline(
        found.suggestion, color=OKABE_ITO[1], linestyle="--",
        label=f"suggestion: {found.suggestion:.3g}",
    )  # fmt: skip
    axes.set(xscale="log", xlabel="learning rate", ylabel=_LOSS.label, ylim=_loss_limits(losses))
    axes.set_title("Learning-rate finder")
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, path)


def _rates_and_losses(found: FoundRates) -> tuple[np.ndarray, np.ndarray]:
    rates, losses = np.asarray(found.rates, float), np.asarray(found.losses, float)
    if rates.shape != losses.shape or rates.ndim != 1:
        raise ValueError(
            f"rates and losses must be one for one; found shapes {rates.shape} and {losses.shape}"
        )
    positive = [*rates, found.suggestion]
    if not all(0 < value < math.inf for value in positive):
        raise ValueError("rates and suggestion must be positive and finite; found other values")
    if not np.isfinite(losses).any():
        raise ValueError("losses must hold a finite value; found none")
    return rates, np.where(np.isfinite(losses), losses, np.nan)


def _loss_limits(losses: np.ndarray) -> tuple[float, float]:
    """From below the lowest loss to above what came before it: what explodes leaves the picture."""
    lowest = np.nanargmin(losses)
    bottom, top = losses[lowest], np.nanmax(losses[: lowest + 1])
    margin = 0.25 * (top - bottom) or 0.5 * abs(bottom) or 0.5
    return bottom - margin / 3, top + margin
