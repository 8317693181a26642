"""What the pictures of `plots` are made of: figures, panels, grids, curves, legends.

The figures are made without pyplot: no window, no global state, no need for a display.
"""

import io
import math
import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._support import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FilePath = str | os.PathLike[str]

MANY_EPOCHS = 40  # more markers would hide the line
LOGARITHMIC_FROM = 50  # times the median: a linear axis would press all else flat
DOTS_PER_INCH = 150
PANEL_INCHES = (5.0, 3.8)
LETTERS_PER_INCH, TITLE_INCHES = 11, 0.22  # of a line of the title
LONGEST_NAME = 44  # letters of a legend
FEW_LINES = 16  # of a legend; more are written smaller
LINES_PER_INCH = 44  # of a legend, in letters of one point


def check(path: FilePath | None = None) -> None:
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


def _format(path: FilePath) -> str:
    """Return what to write by the suffix; PNG where there is none, as in /dev/null."""
    return os.path.splitext(path)[1][1:].lower() or "png"


def new_figure(size: tuple[float, float], title: str | None, path: FilePath | None) -> "Figure":
    """Return an empty figure, of so many inches; the title is text, no formula."""
    check(path)
    from matplotlib.figure import Figure

    (width, height), lines = size, []
    for line in (title or "").splitlines():
        lines += textwrap.wrap(line, int(width * LETTERS_PER_INCH))
    height += TITLE_INCHES * max(0, len(lines) - 1)
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    if lines:
        figure.suptitle("\n".join(lines), parse_math=False)
    return figure


def one_panel(
    size: tuple[float, float], title: str | None, path: FilePath | None
) -> "tuple[Figure, Axes]":
    """Return a figure of so many inches, and its axes."""
    figure = new_figure(size, title, path)
    return figure, figure.subplots()


def panels(
    columns: int, title: str | None, path: FilePath | None, rows: int = 1
) -> "tuple[Figure, Any]":
    """Return a figure and its axes, row by row."""
    width, height = PANEL_INCHES
    figure = new_figure((columns * width, rows * height), title, path)
    return figure, figure.subplots(rows, columns, squeeze=False)


def image_grid(
    captions: list[str], inches: float, title: str | None, words: str, path: FilePath | None
) -> "tuple[Figure, list[Axes]]":
    """Return a figure and one bare place for each caption, in a square."""
    columns = max(5, math.ceil(math.sqrt(len(captions))))
    captions_inches = 0.16 * max((1 + text.count("\n") for text in captions), default=0)
    rows = math.ceil(len(captions) / columns)
    size = (columns * inches + 1, rows * (inches + captions_inches) + 0.6)
    figure = new_figure(size, words if title is None else f"{title}\n{words}", path)
    if not captions:
        return figure, []
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places[len(captions) :]:
        axes.remove()
    for axes, caption in zip(places, captions, strict=False):
        axes.set(xticks=[], yticks=[])
        axes.set_title(caption, fontsize=8, pad=3)
    return figure, list(places[: len(captions)])


def square_side(pixels: int) -> int:
    """Return the width of a square image."""
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise ValueError(
            f"this picture shows square images, such as 784 inputs for 28x28; found {pixels} inputs"
        )
    return side


def curve(
    axes: "Axes", values: Sequence[float], label: object, style: dict[str, Any], factor: int = 1,
    *, positive: bool = False, marked: bool = True,
) -> None:  # fmt: skip
    """Draw a curve over the epochs; what cannot be drawn leaves a gap and a word in the legend."""
    scaled = [factor * value if _drawable(value, positive) else math.nan for value in values]
    gaps = [value for value in values if not _drawable(value, positive)]
    epochs = range(1, len(values) + 1)
    marks = None if marked and len(values) <= MANY_EPOCHS else _alone(scaled)
    label = _plain(label) + words_on_gaps(gaps, f"{len(values)} epochs")
    axes.plot(epochs, scaled, markersize=4, markevery=marks, label=label, **style)


def _drawable(value: float, positive: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not positive)


def _alone(values: list[float]) -> list[int]:
    """Return where a value has no neighbour, so that no line would show it."""
    known = [False, *(not math.isnan(value) for value in values), False]
    triples = zip(known, known[1:], known[2:], strict=False)
    return [i for i, triple in enumerate(triples) if triple == (False, True, False)]


def words_on_gaps(gaps: list[float], of: str) -> str:
    """Return what a legend says of values that are not drawn; nothing if there are none."""
    counts = {"zero": gaps.count(0), "not finite": sum(not math.isfinite(gap) for gap in gaps)}
    return "".join(f"\n({word} in {n} of {of})" for word, n in counts.items() if n)


def _plain(label: object) -> str:
    """Return a text that matplotlib takes for no formula, and shows in the legend."""
    name = " ".join(str(label).split()) or "(no name)"
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME // 3]}…{name[-LONGEST_NAME * 2 // 3 :]}"
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name


def legend_aside(figure: "Figure", title: str) -> None:
    """Put one legend for all panels, which show the same lines, beside them; make room for it.

    Of a line's labels the longest is shown: a gap in any panel is told.
    """
    handles = figure.axes[0].lines
    names = ([line.get_label() for line in axes.lines] for axes in figure.axes)
    labels = [max(alike, key=len) for alike in zip(*names, strict=True)]
    size = 9 if len(labels) <= FEW_LINES else 7
    lines = sum(1 + label.count("\n") for label in labels)
    fitting = max(1, int(figure.get_figheight() * LINES_PER_INCH / size) - 4)
    legend = figure.legend(
        handles, labels, loc="outside right upper", title=title, handlelength=3.5,
        fontsize=size, ncols=-(-lines // fitting),
    )  # fmt: skip
    legend_inches = legend.get_window_extent().width / figure.dpi
    figure.set_figwidth(figure.get_figwidth() + legend_inches)


def epoch_axis(axes: "Axes", epochs: int) -> None:
    """Whole epochs as ticks, also where there is one only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    margin = max(0.5, 0.02 * epochs)
    axes.set(xlabel="epoch", xlim=(1 - margin, epochs + margin))
    axes.grid(alpha=0.3)


def loss_scale(axes: "Axes") -> None:
    """Make the axis logarithmic where a few values dwarf all others."""
    values = np.concatenate([[], *(np.asarray(line.get_ydata(), float) for line in axes.lines)])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > LOGARITHMIC_FROM * np.median(values):
        log_scale(axes)


def log_scale(axes: "Axes") -> None:
    """Make the vertical axis logarithmic, with plain numbers at its ticks."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    few_decades = high < 1000 * low
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few_decades else (1,)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def save(figure: "Figure", path: FilePath | None) -> "Figure":
    """Write a figure, if there is a path; return it."""
    if path is not None:
        picture = io.BytesIO()
        figure.savefig(picture, format=_format(path))
        files.write_bytes(path, picture.getvalue())
    return figure
