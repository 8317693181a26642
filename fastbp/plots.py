"""Pictures, drawn by matplotlib, which is an extra: `pip install fastbp[plot]`.

Each public function returns a `matplotlib.figure.Figure` and, given a path, writes it there. The
figures are made without pyplot: no window, no global state, no need for a display.
"""

import math
import os

# Okabe and Ito's colours: told apart with every kind of colour blindness, and in grey.
COLOURS = {"training": "#0072B2", "validation": "#D55E00"}
MARKERS = {"training": "o", "validation": "s"}
DOTS_PER_INCH = 150
PANEL_INCHES = (5.0, 3.8)


def learning_curves(history, path=None, title=None):
    """Draw loss and accuracy over the epochs, side by side.

    Parameters
    ----------
    history : fastbp.History
        With at least one epoch. Without classes there is no accuracy, and one panel.
    path : str or os.PathLike, optional
        Where to write the picture; the suffix (`.png`, `.svg`, `.pdf`) says how.
    title : str, optional
        Stands above both panels.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the history is empty, or matplotlib does not know the suffix.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastbp
    >>> history = fastbp.History(loss=[0.9, 0.4], accuracy=[0.7, 0.9])
    >>> figure = learning_curves(history, title="digits")
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['mean loss per sample', 'accuracy (% of the samples)']
    """
    if not history.loss:
        raise ValueError("history must hold at least one epoch; found none")
    panels = [("Loss", "mean loss per sample", history.loss, history.val_loss, 1)]
    if not all(map(math.isnan, history.accuracy)):
        panels.append(
            ("Accuracy", "accuracy (% of the samples)", history.accuracy, history.val_accuracy, 100)
        )
    figure, axes = _panels(len(panels), title)
    for place, (name, label, training, validation, factor) in zip(axes, panels, strict=True):
        _curve(place, training, factor, "training", "training, as seen during the epoch")
        if validation:
            _curve(place, validation, factor, "validation", "validation, after the epoch")
        _epoch_axis(place, len(history.loss))
        place.set(title=name, ylabel=label)
        place.legend()
    return _save(figure, path)


def check(path=None):
    """Raise now what drawing to `path` would raise after an hour of training.

    Parameters
    ----------
    path : str or os.PathLike, optional

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If matplotlib does not know the suffix of `path`.

    Examples
    --------
    >>> check("curves.png")
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib, install it with: pip install 'fastbp[plot]'"
        ) from error
    known = Figure().canvas.get_supported_filetypes()
    if path is not None and _format(path) not in known:
        raise ValueError(f"path must end in .{', .'.join(sorted(known))}; found {os.fspath(path)}")


def _format(path):
    """Return what to write by the suffix; PNG where there is none, as in /dev/null."""
    return os.path.splitext(path)[1][1:].lower() or "png"


def _panels(count, title):
    """Return a figure and its axes, side by side."""
    check()
    from matplotlib.figure import Figure

    width, height = PANEL_INCHES
    figure = Figure(figsize=(count * width, height), dpi=DOTS_PER_INCH, layout="constrained")
    if title is not None:
        figure.suptitle(title, parse_math=False)
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _curve(axes, values, factor, role, label):
    epochs = range(1, len(values) + 1)
    marker = MARKERS[role] if len(values) <= 40 else ""  # more would hide the line
    scaled = [factor * value for value in values]
    axes.plot(epochs, scaled, color=COLOURS[role], marker=marker, markersize=4, label=label)


def _epoch_axis(axes, epochs):
    """Whole epochs as ticks, also where there is one only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    margin = max(0.5, 0.02 * epochs)
    axes.set(xlabel="epoch", xlim=(1 - margin, epochs + margin))
    axes.grid(alpha=0.3)


def _save(figure, path):
    if path is not None:
        check(path)
        figure.savefig(os.fspath(path), format=_format(path))
    return figure
