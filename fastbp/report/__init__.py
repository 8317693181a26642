"""One page about a network: configuration, accuracy, figures of each class, and the pictures.

The page is a single HTML file that loads nothing: images are inside, and its content security
policy forbids all else.
"""

import base64
import io
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import plots
from .._support import files
from ..plots import figures
from ..plots import metrics as assessment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..history import History
    from ..network import Network

__all__ = ["write"]

_PAGE = Path(__file__).parent / "page.html"
_NO_HISTORY = "no history: `fastbp train` leaves one beside its model, History is what fit returns"
_NO_NORMS = "no norms: `fastbp train` records them, and so does fit(..., callbacks=[fastbp.Norms])"


class _Picture(NamedTuple):
    """A picture of the page: what draws it, and what stands below it."""

    heading: str
    caption: str
    draw: Callable[[], "Figure"]


def write(
    path: figures.FilePath, net: "Network", X: ArrayLike, labels: ArrayLike, *,
    history: "History | None" = None, norms: plots.LayerNorms | None = None,
    rates: plots.FoundRates | None = None, title: str = "A network",
) -> None:  # fmt: skip
    """Write one self-contained HTML page about a network.

    A picture that cannot be drawn, as of inputs that are no square images, leaves a line that says
    why.

    Parameters
    ----------
    path : str or os.PathLike
        Of the page; replaced atomically if it exists.
    net : fastbp.Network
        With two outputs or more.
    X : (batch, n_in) array
        Samples that the network has not learnt from.
    labels : (batch,) integers, or (batch, n_out) one-hot rows
    history : fastbp.History, optional
        For the learning curves.
    norms : fastbp.Norms, optional
        For the norms of each layer.
    rates : object, optional
        What a learning-rate finder returned, `rates`, `losses` and `suggestion`, for its picture.
    title : str

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError, ValueError
        If samples or labels do not fit the network.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> X_train, y_train, X, y = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> norms = fastbp.Norms(X_train[:200], y_train[:200])
    >>> history = net.fit(
    ...     X_train, y_train, epochs=5, batch_size=10, learning_rate=0.5, callbacks=[norms]
    ... )
    >>> path = os.path.join(tempfile.mkdtemp(), "report.html")
    >>> fastbp.report.write(path, net, X, y, history=history, norms=norms, title="digits")
    """
    figures.check()
    right, loss = net.evaluate(X, labels), net.loss(X, labels)
    samples = np.shape(X)[0]
    sections = [
        _section("Configuration", _facts(_configuration(net))),
        _section("Training", _training(history)),
        _section("Classes", _drawn_or_why(lambda: _classes(net, X, labels))),
        *map(_picture, _pictures(net, X, labels, history, norms, rates)),
    ]
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title), sections="\n".join(sections),
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        lead=f"{100 * right / samples:.2f} % of {samples:,} samples are classified right; "
        f"mean loss {loss:.6g}.",
    )  # fmt: skip
    files.write_text(path, page)


# -- sections ------------------------------------------------------------------------------------


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n{body}\n</section>"


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _drawn_or_why(draw: Callable[[], str]) -> str:
    """Return what `draw` returns, or a line that says why it could not be drawn."""
    try:
        return draw()
    except ValueError as error:
        return _note(f"Not shown: {error}.")


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(str(fact))}</td></tr>" for name, fact in rows)
    return f'<table class="facts">\n{_lines(cells)}\n</table>'


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)


def _configuration(net: "Network") -> list[tuple[str, str]]:
    c = net.config
    return [
        ("neurons per layer, the inputs first", " - ".join(f"{size:,}" for size in net.sizes)),
        ("parameters", f"{net.to_vector().size:,}"),
        ("hidden activation", c["activation"] if net.num_layers > 2 else "no hidden layer"),
        ("output", c["output"]),
        ("loss", c["loss"]),
        ("biases", "yes" if c["bias"] else "no"),
        ("precision", c["dtype"]),
        ("inputs are multiplied by", f"{c['input_scale']:.6g}"),
    ]


def _training(history: "History | None") -> str:
    if history is None:
        return _note(f"Not shown: {_NO_HISTORY}.")
    epochs = len(history)
    rows = [("epochs", f"{epochs:,}"), ("loss in the last epoch", f"{history.loss[-1]:.6g}")]
    last = (("accuracy in the last epoch", history.accuracy),
            ("validation accuracy after it", history.val_accuracy))  # fmt: skip
    rows += [(name, _percent(values[-1])) for name, values in last if values]
    if any(map(math.isfinite, history.val_accuracy)):
        best = int(np.nanargmax(history.val_accuracy))
        words = f"{_percent(history.val_accuracy[best])}, after epoch {best + 1:,}"
        rows.append(("best validation accuracy", words))
    if history.seconds:
        rows.append(("training time", f"{sum(history.seconds):.3g} s"))
    if history.samples_per_second:
        speed = float(np.median(history.samples_per_second))
        rows.append(("speed, the median epoch", f"{speed:,.0f} samples/s"))
    return _facts(rows)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if math.isfinite(share) else "–"


# -- classes -------------------------------------------------------------------------------------

_COLUMNS = ("class", "samples", "right", "precision", "recall", "F1", "most often taken for")


def _classes(net: "Network", X: ArrayLike, labels: ArrayLike) -> str:
    """Return the table of classes, and what its columns mean."""
    counts = assessment.confusion(net, X, labels)
    found = assessment.per_class(counts)
    shares = [map(_percent, part) for part in found[2:]]
    rows = zip(range(len(counts)), *found[:2], *shares, _confused(counts), strict=True)
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    body = _lines(map(_row, rows))
    words = (
        "Precision: right ones among what is taken for the class. Recall: right ones among the "
        "class’s samples. F1: their harmonic mean."
    )
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>\n{_note(words)}'


def _row(cells: Iterable[object]) -> str:
    name, *rest = (f"{cell:,}" if isinstance(cell, np.integer) else str(cell) for cell in cells)
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'


def _confused(counts: np.ndarray) -> Iterator[str]:
    """Yield for each class the one that it is most often taken for, and how often."""
    wrong = counts - np.diag(counts.diagonal())
    for row in wrong:
        other = int(row.argmax())
        yield f"{other} ({row[other]:,} times)" if row[other] else "–"


# -- pictures ------------------------------------------------------------------------------------


def _pictures(
    net: "Network", X: ArrayLike, labels: ArrayLike, history: "History | None",
    norms: plots.LayerNorms | None, rates: plots.FoundRates | None,
) -> list[_Picture]:  # fmt: skip
    """Return the pictures in order; that of the finder only if it was run."""
    pictures = [
        _Picture(
            "Learning curves", "Loss and accuracy over the epochs.",
            lambda: plots.learning_curves(_there(history, _NO_HISTORY)),
        ),
        _Picture(
            "Confusion matrix",
            "How many samples of each class (rows) are taken for which (columns).",
            lambda: plots.confusion_matrix(net, X, labels),
        ),
        _Picture(
            "Most confident mistakes",
            "The images that are classified wrong with the largest outputs.",
            lambda: plots.mistakes(net, X, labels),
        ),
        _Picture(
            "First-layer weights",
            "The weights between the inputs and each neuron, as images: where a neuron’s "
            "weights are positive (orange), light excites it; where negative (purple), inhibits.",
            lambda: plots.first_layer(net),
        ),
        _Picture(
            "Norms of activations and deltas",
            "On a fixed probe batch. Where the deltas lie ever lower from the output towards "
            "layer 1, gradients vanish.",
            lambda: plots.layer_norms(_there(norms, _NO_NORMS)),
        ),
    ]  # fmt: skip
    if rates is not None:
        words = "The loss over growing learning rates."
        draw = partial(plots.learning_rates, rates)
        pictures.append(_Picture("Learning-rate finder", words, draw))
    return pictures


def _there(thing: Any, why_not: str) -> Any:
    if thing is None:
        raise ValueError(why_not)
    return thing


def _picture(picture: _Picture) -> str:
    return _section(picture.heading, _drawn_or_why(lambda: _inline(picture)))


def _inline(picture: _Picture) -> str:
    """Return a figure with its image inside, of the size that its letters were made for."""
    figure, file = picture.draw(), io.BytesIO()
    figure.savefig(file, format="png")
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    data, caption = base64.b64encode(file.getvalue()).decode("ascii"), escape(picture.caption)
    return (
        f'<figure><img width="{width}" height="{height}" alt="{caption}" '
        f'src="data:image/png;base64,{data}">\n<figcaption>{caption}</figcaption></figure>'
    )
