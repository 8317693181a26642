"""One HTML page about a network, with its images inside."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from datetime import datetime
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .. import plots
from .._support import files
from .._support import notes as kept
from .._support.texts import writable
from ..plots import figures, metrics
from ..plots.curves import FoundRates, LayerNorms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..history import History
    from ..network import Network

__all__ = ["write"]

_PAGE = resources.files(__name__) / "page.html"  # also in a zip
_NO_HISTORY = "no history: `fastbp train` leaves one beside its model, fit returns one"
_NO_NORMS = "no norms: `fastbp train` records them, and so does fit(..., callbacks=[fastbp.Norms])"
_COLUMNS = ("class", "samples", "right", "precision", "recall", "F1", "most often taken for")
_MEANINGS = (
    "Precision: right ones among the samples predicted as the class. Recall: right ones among "
    "the class’s samples. F1: their harmonic mean."
)
_CAPTIONS = {
    "Learning curves": "Loss and accuracy over the epochs.",
    "Confusion matrix": "How many samples of each class (rows) are taken for which (columns).",
    "Most confident mistakes": "The images that are classified wrong with the largest outputs.",
    "First-layer weights": "The weights between the inputs and each neuron, as images: where a "
    "neuron’s weights are positive (orange), light excites it; where negative (purple), inhibits.",
    "Norms of activations and deltas": "On a fixed probe batch. Where the deltas lie ever lower "
    "from the output towards layer 1, gradients vanish.",
    "Learning-rate finder": "The loss over growing learning rates.",
}


def write(
    path: figures.FilePath, net: Network, X: ArrayLike, labels: ArrayLike, *,
    history: History | None = None, norms: LayerNorms | None = None,
    rates: FoundRates | None = None, title: str = "A network",
) -> None:  # fmt: skip
    """Write one self-contained HTML page about a network: facts, figures of each class, pictures.

    The page loads nothing, and its content security policy forbids it. Where a picture cannot be
    drawn, for instance of inputs that are not square images, a line says why.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write; replaced atomically if it exists.
    net : fastbp.Network
        One that predicts classes: `Network.evaluate` says which do.
    X, labels
        As for `plots.confusion_matrix`; of samples that the network was not trained on.
    history, norms, rates : optional
        For `plots.learning_curves`, `plots.layer_norms` and `plots.learning_rates`.
    title : str, default "A network"

    Raises
    ------
    ImportError, OSError
        If matplotlib is missing, or the file cannot be written.
    TypeError, ValueError
        If samples or labels do not fit the network, or the file is named as another format.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> X_train, y_train, X, y = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> history = net.fit(X_train, y_train, epochs=5, batch_size=10, learning_rate=0.5)
    >>> path = os.path.join(tempfile.mkdtemp(), "report.html")
    >>> fastbp.report.write(path, net, X, y, history=history, title="digits")
    """
    files.check_name(path, ".html", ".htm")
    figures.check()
    right, loss, samples = net.evaluate(X, labels), net.loss(X, labels), np.shape(X)[0]
    sections: dict[str, Callable[[], str | Figure]] = {
        "Configuration": lambda: _facts(_configuration(net)),
        "Training": lambda: _facts(_training(_given(history, _NO_HISTORY))),
        "Classes": lambda: _classes(net, X, labels),
        "Learning curves": lambda: plots.learning_curves(_given(history, _NO_HISTORY)),
        "Confusion matrix": lambda: plots.confusion_matrix(net, X, labels),
        "Most confident mistakes": lambda: plots.mistakes(net, X, labels),
        "First-layer weights": lambda: plots.first_layer(net),
        "Norms of activations and deltas": lambda: plots.layer_norms(_given(norms, _NO_NORMS)),
    }
    if rates is not None:
        sections["Learning-rate finder"] = lambda: plots.learning_rates(rates)
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(writable(title)),
        sections="\n".join(map(_section, sections, sections.values())),
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        lead=f"{100 * right / samples:.2f} % of {samples:,} samples are classified right; "
        f"mean loss {loss:.6g}.",
    )  # fmt: skip
    files.write_text(path, page)


def _section(heading: str, draw: Callable[[], str | Figure]) -> str:
    try:
        found = draw()
        body = found if isinstance(found, str) else _picture(found, escape(_CAPTIONS[heading]))
    except ValueError as error:
        body = f'<p class="note">Not shown: {escape(str(error))}.</p>'
    return f"<section>\n<h2>{heading}</h2>\n{body}\n</section>"


def _given(value: Any, why_not: str) -> Any:
    if value is None:
        raise ValueError(why_not)
    return value


def _facts(facts: dict[str, str]) -> str:
    rows = (f"<tr><th>{escape(k)}</th><td>{escape(fact)}</td></tr>\n" for k, fact in facts.items())
    return f'<table class="facts">\n{"".join(rows)}</table>'


def _configuration(net: Network) -> dict[str, str]:
    c = net.config
    return {
        "neurons per layer, the inputs first": " - ".join(f"{size:,}" for size in net.sizes),
        "parameters": f"{net.to_vector().size:,}",
        "hidden activation": c["activation"] if net.num_layers > 2 else "no hidden layer",
        "output": c["output"],
        "loss": c["loss"],
        "biases": "yes" if c["bias"] else "no",
        "precision": c["dtype"],
        "inputs are multiplied by": f"{c['input_scale']:.6g}",
    }


def _training(history: History) -> dict[str, str]:
    shares, speeds, best = history.val_accuracy, history.samples_per_second, ""
    if any(map(math.isfinite, shares)):
        epoch = int(np.nanargmax(shares))
        best = f"{_percent(shares[epoch])}, after epoch {epoch + 1:,}"
    facts = {
        "epochs": f"{len(history):,}",
        "loss in the last epoch": f"{history.loss[-1]:.6g}",
        "accuracy in the last epoch": "".join(map(_percent, history.accuracy[-1:])),
        "validation accuracy after it": "".join(map(_percent, shares[-1:])),
        "best validation accuracy": best,
        "training time": f"{sum(history.seconds):.3g} s" if history.seconds else "",
        "speed, the median epoch": f"{np.median(speeds):,.0f} samples/s" if speeds else "",
    }
    return {name: fact for name, fact in facts.items() if fact}


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if math.isfinite(share) else "–"


def _classes(net: Network, X: ArrayLike, labels: ArrayLike) -> str:
    counts = metrics.confusion(net, X, labels)
    wrong = counts - np.diag(counts.diagonal())
    rows, names = [], [escape(str(name)) for name in kept.classes(net.notes, len(counts))]
    for label, (samples, right, *shares) in enumerate(zip(*metrics.per_class(counts), strict=True)):
        other = int(wrong[label].argmax())
        most = f"{names[other]} ({wrong[label, other]:,} times)" if wrong[label, other] else "–"
        cells = "</td><td>".join([f"{samples:,}", f"{right:,}", *map(_percent, shares), most])
        rows.append(f'<tr><th scope="row">{names[label]}</th><td>{cells}</td></tr>\n')
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    table = f"<table>\n<tr>{head}</tr>\n{''.join(rows)}</table>"
    return f'<div class="wide">{table}</div>\n<p class="note">{_MEANINGS}</p>'


def _picture(figure: Figure, caption: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    # The size that its letters were made for.
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    image = f'<img width="{width}" height="{height}" alt="{caption}" src="{source}">'
    return f"<figure>{image}\n<figcaption>{caption}</figcaption></figure>"
