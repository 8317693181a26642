"""What all pictures consist of: figures, panels, grids, curves, legends; made without pyplot."""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._support import extras, files
from .._support.texts import writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FilePath = str | os.PathLike[str]
MaybePath = FilePath | None

MANY_EPOCHS = 40  # more markers would hide the line
LOGARITHMIC_FROM = 10  # times the median: a linear axis would flatten all other values
FEW_EPOCHS, MOST_SAID = 4, 3  # so few show all of them; so many values are written in a word
PANEL_INCHES = 5.0, 3.8
LETTERS_PER_INCH, TITLE_INCHES = 11, 0.22  # of a line of the title
# Of a legend: letters of a name, lines that are written in a larger font, lines of one point.
LONGEST_NAME, FEW_LINES, LINES_PER_INCH = 44, 16, 44


def check(path: MaybePath = None) -> None:
    """Raise the errors of drawing to `path` now, not after an hour of training.

    Parameters
    ----------
    path : str or os.PathLike, optional

    Raises
    ------
    ImportError, ValueError
        If matplotlib is missing, or does not know the suffix of `path`.

    Examples
    --------
    >>> check("curves.png")
    """
    extras.required("matplotlib", "matplotlib", "pictures")
    known = new_figure(PANEL_INCHES, None).canvas.get_supported_filetypes()
    if path is not None and _format(path) not in known:
        raise ValueError(f"path must end in .{', .'.join(sorted(known))}; got {os.fspath(path)}")


def _format(path: FilePath) -> str:
    return os.path.splitext(path)[1][1:].lower() or "png"  # where there is none, as in /dev/null


def new_figure(size: tuple[float, float], title: str | None) -> Figure:
    """Return an empty figure of a size in inches; `$` in the title starts no formula."""
    from .picture import SCREEN, Picture

    (width, height), lines = size, []
    for line in writable(title or "").splitlines():
        lines += textwrap.wrap(line, int(width * LETTERS_PER_INCH))
    height += TITLE_INCHES * max(0, len(lines) - 1)
    figure = Picture((width, height), SCREEN, layout="constrained")
    if lines:
        figure.suptitle("\n".join(lines), parse_math=False)
    return figure


def panels(columns: int, title: str | None, rows: int = 1) -> tuple[Figure, Any]:
    """Return a figure and its axes, as an array of rows and columns."""
    figure = new_figure((columns * PANEL_INCHES[0], rows * PANEL_INCHES[1]), title)
    return figure, figure.subplots(rows, columns, squeeze=False)


def heading(title: str | None, words: str) -> str:
    """Return a title with words about the picture below it, or these alone."""
    return words if title is None else f"{title}\n{words}"


def image_grid(captions: list[str], inches: float, title: str | None, words: str) -> Figure:
    """Return a figure and one axes without ticks for each caption, in a square."""
    columns = max(5, math.ceil(math.sqrt(len(captions))))
    rows = math.ceil(len(captions) / columns)
    height = inches + 0.16 * max((1 + text.count("\n") for text in captions), default=0)
    figure = new_figure((columns * inches + 1, rows * height + 0.6), heading(title, words))
    if not captions:
        return figure
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places[len(captions) :]:
        axes.remove()
    for axes, caption in zip(figure.axes, captions, strict=True):
        axes.set(xticks=[], yticks=[])
        axes.set_title(caption, fontsize=8, pad=3)
    return figure


def curve(
    axes: Axes, values: Sequence[float], label: object, style: dict[str, Any], factor: int = 1,
    *, positive: bool = False, marked: bool = True, first: int = 1,
) -> None:  # fmt: skip
    """Draw a curve over the epochs; what cannot be drawn leaves a gap, named in the legend."""
    epochs = range(first, len(values) + first)
    found = np.asarray(values, float)
    drawn = np.isfinite(found) & ((found > 0) | (not positive))
    near = np.pad(drawn, 1)
    alone = np.flatnonzero(drawn & ~near[:-2] & ~near[2:]).tolist()  # no line would show them
    marks = None if marked and len(values) <= MANY_EPOCHS else alone
    label = plain(label) + gaps_in_words(found[~drawn], f"{len(values)} epochs")
    scaled = np.where(drawn, factor * found, np.nan)
    axes.plot(epochs, scaled, markersize=4, markevery=marks, label=label, **style)


def gaps_in_words(gaps: np.ndarray, of: str) -> str:
    """Return what a legend says about values that are not drawn."""
    counts = {"zero": (gaps == 0).sum(), "not finite": (~np.isfinite(gaps)).sum()}
    return "".join(f"\n({word} in {n} of {of})" for word, n in counts.items() if n)


def plain(label: object, most: int = LONGEST_NAME) -> str:
    """Return a name as it is shown: not too long, and neither hidden nor a formula."""
    # matplotlib hides names that begin with `_`, and shows what is between `$` as a formula.
    name = " ".join(writable(label).split()) or "(no name)"
    if len(name) > most:
        name = f"{name[: most // 3]}…{name[-most * 2 // 3 :]}"
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name


def legend_aside(figure: Figure, title: str) -> None:
    """Put one legend for all panels, which show the same lines, beside them; make room for it."""
    names = ([line.get_label() for line in axes.lines] for axes in figure.axes)
    labels = [max(alike, key=len) for alike in zip(*names, strict=True)]  # it names a gap anywhere
    size = 9 if len(labels) <= FEW_LINES else 7
    lines = sum(1 + label.count("\n") for label in labels)
    fitting = max(1, int(figure.get_figheight() * LINES_PER_INCH / size) - 4)
    legend = figure.legend(
        figure.axes[0].lines, labels, loc="outside right upper", title=title, handlelength=3.5,
        fontsize=size, ncols=-(-lines // fitting),
    )  # fmt: skip
    figure.set_figwidth(figure.get_figwidth() + legend.get_window_extent().width / figure.dpi)


def epoch_axis(axes: Axes, last: int, title: str, ylabel: str, first: int = 1) -> None:
    """Write title and labels; ticks are whole epochs, also where there is only one."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    margin = max(0.5, 0.02 * last)
    axes.set(title=title, ylabel=ylabel, xlabel="epoch", xlim=(first - margin, last + margin))
    axes.grid(alpha=0.3)


def fit_scale(axes: Axes, falling: bool) -> None:
    """Let single values that are far from all others not flatten these.

    The axis is logarithmic if a few values are far larger than the rest. If the first epoch alone
    would take more than half of the axis, with values that are worse than all others, above them
    or below, it leaves the picture, and a word says so.
    """
    curves = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    first, rest = (
        np.concatenate([[], *(curve[part] for curve in curves)])
        for part in (slice(0, 1), slice(1, None))
    )
    first, rest = first[np.isfinite(first)], rest[np.isfinite(rest)]
    values = np.append(first, rest)
    scaled: Callable[[Any], Any] = np.asarray
    if values.size and min(values) > 0 and max(values) > LOGARITHMIC_FROM * np.median(values):
        log_scale(axes)
        scaled = np.log10
    if max(map(len, curves), default=0) < FEW_EPOCHS or not rest.size or rest.min() == rest.max():
        return
    low, high = scaled(rest.min()), scaled(rest.max())
    beyond = scaled(first) > 2 * high - low if falling else scaled(first) < 2 * low - high
    if not beyond.any():
        return
    inside = scaled(np.append(first[~beyond], rest))
    margin = 0.06 * np.ptp(inside)
    ends = np.array([inside.min() - margin, inside.max() + margin])
    axes.set_ylim(*map(float, 10**ends if scaled is np.log10 else ends))
    words = ", ".join(f"{value:.3g}" for value in first[beyond][:MOST_SAID])
    words += ", …" if beyond.sum() > MOST_SAID else ""
    axes.text(
        0.02, 0.98 if falling else 0.02, f"{'↑' if falling else '↓'} epoch 1: {words}",
        fontsize=8, va="top" if falling else "bottom", transform=axes.transAxes,
        bbox={"color": "white", "alpha": 0.8, "pad": 1},
    )  # fmt: skip


def log_scale(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers at its ticks."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    steps = LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,))
    axes.yaxis.set_major_locator(MaxNLocator(6) if high < 8 * low else steps)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: MaybePath) -> Figure:
    """Write a figure, if there is a path; return it."""
    if path is not None:
        picture = io.BytesIO()
        figure.savefig(picture, format=_format(path))
        files.write_bytes(path, picture.getvalue())
    return figure
