"""The tables of a report, as HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .._support import notes as kept
from ..model import choices
from ..plots import metrics

if TYPE_CHECKING:
    from ..history import History
    from ..network import Network

_SHARES = "samples", "right", "precision", "recall", "F1"
_MEANINGS = (
    "Precision: right ones among the samples predicted as the {0}. Recall: right ones among the "
    "{0}’s samples. F1: their harmonic mean. Macro average: the mean over all {0}s, of whatever "
    "size; where nothing is predicted, precision counts as 0."
)


def facts(found: Mapping[str, str]) -> str:
    """Return a table of names and what they say."""
    rows = (f"<tr><th>{escape(k)}</th><td>{escape(fact)}</td></tr>\n" for k, fact in found.items())
    return f'<table class="facts">\n{"".join(rows)}</table>'


def short_facts(found: Mapping[str, str]) -> str:
    """Return names and what they say, side by side, for facts of a word."""
    items = (f"<li><span>{escape(k)}</span> {escape(fact)}</li>\n" for k, fact in found.items())
    return f'<ul class="short">\n{"".join(items)}</ul>'


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], note: str, last: Sequence[str] = ()
) -> str:
    """Return a table whose first column names the rows; the last row stands apart."""
    body = [_row(row) for row in rows]
    foot = f"<tfoot>{_row(last)}</tfoot>" if last else ""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    table = f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>{''.join(body)}</tbody>{foot}</table>"
    return f'<div class="wide">{table}</div>\n<p class="note">{escape(note)}</p>'


def _row(cells: Sequence[str]) -> str:
    first, *others = map(escape, cells)
    return f'<tr><th scope="row">{first}</th><td>{"</td><td>".join(others)}</td></tr>\n'


def configuration(net: Network) -> dict[str, str]:
    """Return what a network is."""
    c = net.config
    inputs = f"multiplied by {c['input_scale']:.6g}"
    if c["scale"] is not None:
        inputs = "standardised by mean and deviation of each column"
    *hidden, output = choices.by_layer(c)
    hidden = hidden if len(set(hidden)) > 1 else hidden[:1]
    return {
        "neurons per layer, the inputs first": " - ".join(f"{size:,}" for size in net.sizes),
        "parameters": f"{net.to_vector().size:,}",
        "hidden activation": " - ".join(hidden) or "no hidden layer",
        "output": output,
        "loss": choices.called(c["loss"]),
        "biases": "yes" if c["bias"] else "no",
        "precision": c["dtype"],
        "inputs are": inputs,
    }


def training(net: Network, history: History | None) -> dict[str, str]:
    """Return how a network was trained, as far as it remembers and a history says."""
    return {**_of_history(history), **_of_notes(net)}


def _of_history(history: History | None) -> dict[str, str]:
    if history is None:
        return {}
    best = ""
    if any(map(math.isfinite, history.val_loss)):
        epoch = int(np.nanargmin(history.val_loss))
        share = "".join(f", accuracy {_percent(x)}" for x in history.val_accuracy[epoch:][:1]
                        if math.isfinite(x))  # fmt: skip
        best = f"{history.val_loss[epoch]:.6g}{share}, after epoch {epoch + 1:,}"
    found = {
        "epochs": f"{len(history):,}",
        "loss in the last epoch": f"{history.loss[-1]:.6g}",
        "accuracy in the last epoch": _last(history.accuracy),
        "validation loss after it": "".join(f"{loss:.6g}" for loss in history.val_loss[-1:]),
        "validation accuracy after it": _last(history.val_accuracy),
        "smallest validation loss": best,
        "weights": f"of epoch {history.restored:,}, restored" if history.restored else "",
        "training time": f"{sum(history.seconds):.3g} s" if history.seconds else "",
        "speed, the median epoch": "".join(
            f"{np.median(speeds):,.0f} samples/s"
            for speeds in [history.samples_per_second]
            if speeds
        ),
    }
    return {name: fact for name, fact in found.items() if fact}


def _of_notes(net: Network) -> dict[str, str]:
    found = kept.training(net.notes)
    if found is None:
        return {}
    counts = {
        "training": found["samples"], "validation": found["validation_samples"],
        "testing": found["test_samples"],
    }  # fmt: skip
    unit = {}
    if (target := net.notes.get("target")) and (of := target.get("deviation", 1)) != 1:
        unit = {"unit of the loss": f"targets are divided by {of:.5g}, their deviation"}
    return {
        **unit,
        "command": found["command"],
        "data": found["data_path"] or found["data"],
        "samples": ", ".join(f"{n:,} for {part}" for part, n in counts.items()),
        "fastbp": found["version"],
    }


def settings(net: Network) -> dict[str, str]:
    """Return the options of the training that a network remembers, by their names; {} if none."""
    found = kept.training(net.notes)
    return {name.replace("_", " "): _said(value) for name, value in found["settings"].items()
            } if found else {}  # fmt: skip


def _said(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def classes(net: Network, counts: np.ndarray) -> str:
    """Return the figures of each class, from its row of the confusion matrix."""
    wrong = counts - np.diag(counts.diagonal())
    names, others = metrics.output_names(net), wrong.argmax(axis=1)
    most = [
        f"{names[other]} ({row[other]:,} times)" if row[other] else "–"
        for row, other in zip(wrong, others, strict=True)
    ]
    return _of_each("class", names, metrics.per_class(counts), "most often taken for", most)


def labels(net: Network, found: metrics.PerLabel) -> str:
    """Return the figures of each of several labels."""
    wrong = [f"{count:,}" for count in found.wrong]
    return _of_each("label", metrics.output_names(net), found.figures, "wrongly found", wrong)


def _of_each(
    what: str, names: list[str], found: metrics.PerClass, more: str, cells: list[str]
) -> str:
    rows = [
        [name, f"{samples:,}", f"{right:,}", *map(_percent, shares), cell]
        for name, (samples, right, *shares), cell in zip(
            names, zip(*found, strict=True), cells, strict=True
        )
    ]
    sums = f"{found.samples.sum():,}", f"{found.right.sum():,}"
    macro = ["macro average", *sums, *map(_percent, metrics.macro(found)), ""]
    plural = {"class": "classe"}.get(what, what)
    note = _MEANINGS.replace("{0}s", f"{plural}s").replace("{0}", what)
    return _table([what, *_SHARES, more], rows, note, macro)


def numbers(
    net: Network, true: np.ndarray, predicted: np.ndarray, mean: float | None = None
) -> str:
    """Return the figures of each output that is a number."""
    head = "output", "R²", "mean absolute error", "that of a constant", "root of mean square error"
    names, rows = metrics.output_names(net), []
    parts = [[k] for k in range(len(names))] + ([list(range(len(names)))] if len(names) > 1 else [])
    for part in parts:
        found = metrics.compared(true[:, part], predicted[:, part], mean)
        name = names[part[0]] if len(part) == 1 else "mean of all"
        figures = f"{found.r2:.4f}", found.mae, found.baseline_mae, found.rmse
        rows.append([name, *(x if isinstance(x, str) else f"{x:.5g}" for x in figures)])
    of = "these samples’ targets" if mean is None else "the training targets"
    note = (
        "R² = 1 − Σ(y − a)² / Σ(y − mean of y)²: 1 is perfect, 0 is a constant’s. Errors are in "
        f"the unit of the target. The constant is the mean of {of}."
    )
    last = rows.pop() if len(names) > 1 else ()
    return _table(head, rows, note, last)


def mistakes(head: Sequence[str], rows: Sequence[Sequence[str]], words: str) -> str:
    """Return the rows of a table that are classified wrong, the most confident first."""
    if not rows:
        return f'<p class="note">{escape(words)}.</p>'
    return _table(head, rows, f"{words}. Rows are counted from 0.")


def _last(series: list[float]) -> str:
    return "".join(_percent(share) for share in series[-1:] if math.isfinite(share))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if math.isfinite(share) else "–"
