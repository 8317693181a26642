"""One HTML page about a network, with its images inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from datetime import datetime
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .. import plots
from .._support import files
from .._support.texts import writable
from ..plots import figures, metrics
from ..plots import tables as columns
from ..plots.curves import FoundRates, LayerNorms
from ..plots.images import MOST_MISTAKES
from ..reference.records import NUMBERS
from . import tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..history import History
    from ..network import Network

__all__ = ["write"]

_Draw: TypeAlias = "Callable[[], str | Figure]"
_PAGE = resources.files(__name__) / "page.html"  # also in a zip
_NO_HISTORY = "no history: `fastbp train` leaves one beside its model, fit returns one"
_NO_NORMS = "no norms: `fastbp train` records them, and so does fit(..., callbacks=[fastbp.Norms])"
_CAPTIONS = {
    "Learning curves": "Loss and accuracy over the epochs.",
    "Confusion matrix": "How many samples of each class (rows) are taken for which (columns), and "
    "the share of each class that is right.",
    "Most confident mistakes": "The images that are classified wrong with the largest outputs.",
    "Labels in a picture": "How many samples of each label are found, missed and wrongly found.",
    "Predicted against true": "On the diagonal, predictions are right.",
    "Residuals": "What predictions leave of the true numbers; a pattern on the left, such as a bow "
    "or a funnel, is something that the network has not learnt.",
    "First-layer weights": "The weights between the inputs and each neuron: where they are "
    "positive (orange), an input excites the neuron; where negative (purple), it inhibits it. Dead "
    "neurons, whose output is the same for all samples, are hatched.",
    "Norms of activations and deltas": "On a fixed probe batch. Where the deltas lie ever lower "
    "from the output towards layer 1, gradients vanish.",
    "Learning-rate finder": "The loss over growing learning rates.",
}


def write(
    path: figures.FilePath, net: Network, X: ArrayLike, labels: ArrayLike, *,
    history: History | None = None, norms: LayerNorms | None = None,
    rates: FoundRates | None = None, title: str = "A network",
) -> None:  # fmt: skip
    """Write one self-contained HTML page about a network: facts, figures of merit, pictures.

    Of one class for each sample: precision, recall and F1 of each class, confusion matrix,
    mistakes. Of several labels: the same of each label. Of numbers: R2, mean absolute error and
    that of a constant, predicted against true, residuals. What `fastbp train` notes in a model,
    its command, version and settings, is shown; so are the names of columns and classes. The page
    loads nothing, and its content security policy forbids it. Where something cannot be shown, as
    curves without a history, a line says why.

    Parameters
    ----------
    path : str or os.PathLike
        The file to write; replaced atomically if it exists.
    net : fastbp.Network
    X : (batch, n_in) array
        Samples that the network was not trained on.
    labels : (batch,) or (batch, n_out) array
        What is right: classes, a 0 or 1 for each of several labels, or numbers.
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
    middle, lead = _JUDGED[metrics.task(net, labels)](net, X, labels)
    sections: dict[str, _Draw] = {
        "Configuration": lambda: tables.facts(tables.configuration(net)),
        "Training": lambda: tables.facts(_given(tables.training(net, history), _NO_HISTORY)),
        "Settings": lambda: tables.short_facts(tables.settings(net)),
        "Learning curves": lambda: plots.learning_curves(_given(history, _NO_HISTORY)),
        **middle,
        "First-layer weights": lambda: plots.first_layer(net, X=X),
        "Norms of activations and deltas": lambda: plots.layer_norms(_given(norms, _NO_NORMS)),
    }
    if not tables.settings(net):
        del sections["Settings"]
    if rates is not None:
        sections["Learning-rate finder"] = lambda: plots.learning_rates(rates)
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        sections="\n".join(map(_section, sections, sections.values())),
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        lead=f"{lead}.",
    )  # fmt: skip
    files.write_text(path, writable(page))


_Judged: TypeAlias = tuple[dict[str, "_Draw"], str]  # the sections of a task, and what it comes to


def _of_classes(net: Network, X: ArrayLike, labels: ArrayLike) -> _Judged:
    right, samples = net.evaluate(X, labels), np.shape(X)[0]
    lead = f"{100 * right / samples:.2f} % of {samples:,} samples are classified right"
    lead += f"; mean loss {net.loss(X, labels):.6g}"
    return {
        "Classes": lambda: tables.classes(net, metrics.confusion(net, X, labels)),
        "Confusion matrix": lambda: plots.confusion_matrix(net, X, labels),
        "Most confident mistakes": lambda: _mistakes(net, X, labels),
    }, lead


def _mistakes(net: Network, X: ArrayLike, labels: ArrayLike) -> str | Figure:
    if (names := columns.columns(net)) is None:
        return plots.mistakes(net, X, labels)
    found = metrics.mistakes(net, X, labels, MOST_MISTAKES)
    return tables.mistakes(*columns.mistake_rows(net, X, found, names), str(found))


def _of_labels(net: Network, X: ArrayLike, labels: ArrayLike) -> _Judged:
    found = metrics.per_label(net, X, labels)
    share = 100 * found.all_right / found.samples
    return {
        "Labels": lambda: tables.labels(net, found),
        "Labels in a picture": lambda: plots.labels(net, X, labels),
    }, (
        f"{share:.2f} % of {found.samples:,} samples have all labels right; mean loss "
        f"{net.loss(X, labels):.6g}"
    )


def _of_numbers(net: Network, X: ArrayLike, y: ArrayLike) -> _Judged:
    mean = metrics.trained_mean(net)
    found = metrics.regression(net, X, y, mean)
    lead = f"R² {found.r2:.4f}, mean absolute error {found.mae:.4g} on {found.samples:,} samples"
    return {
        "Predictions": lambda: tables.numbers(net, *metrics.predictions(net, X, y), mean),
        "Predicted against true": lambda: plots.predicted(net, X, y),
        "Residuals": lambda: plots.residuals(net, X, y),
    }, f"{lead}; that of a constant is {found.baseline_mae:.4g}"


_JUDGED: dict[str, Callable[..., _Judged]] = {
    metrics.CLASSES: _of_classes, metrics.LABELS: _of_labels, NUMBERS: _of_numbers,
}  # fmt: skip


def _section(heading: str, draw: _Draw) -> str:
    try:
        found = draw()
        body = found if isinstance(found, str) else _picture(found, escape(_CAPTIONS[heading]))
    except ValueError as error:
        body = f'<p class="note">Not shown: {escape(str(error))}.</p>'
    return f"<section>\n<h2>{heading}</h2>\n{body}\n</section>"


def _given(value: Any, why_not: str) -> Any:
    if not value:
        raise ValueError(why_not)
    return value


def _picture(figure: Figure, caption: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    # The size that its letters were made for.
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    image = f'<img width="{width}" height="{height}" alt="{caption}" src="{source}">'
    return f"<figure>{image}\n<figcaption>{caption}</figcaption></figure>"
