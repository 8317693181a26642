"""How well a network predicts: each class, several labels, or numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from .._support import notes as kept
from ..model import choices
from ..network import Network
from ..reference import Targets
from ..reference.records import NUMBERS, predicts

MOST_CLASSES = 1000  # a larger matrix takes GiB of memory, and nobody could read it


def confusion(net: Network, X: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return counts[i, j]: how many samples of class i the network predicts as class j."""
    classes = max(2, net.sizes[-1])
    outputs, true = _outputs(net, X, labels, "a confusion matrix")
    if classes > MOST_CLASSES:
        raise ValueError(f"a confusion matrix shows up to {MOST_CLASSES} classes; got {classes}")
    pairs = true * classes + outputs.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


class PerClass(NamedTuple):
    """Figures of each class; NaN where there is nothing to divide by."""

    samples: np.ndarray  # (n,) int64: samples of the class
    right: np.ndarray  # (n,) int64: those of them that are classified right
    precision: np.ndarray  # (n,) float64: right / predicted as the class
    recall: np.ndarray  # (n,) float64: right / samples
    f1: np.ndarray  # (n,) float64: harmonic mean, 2 right / (samples + predicted)


def per_class(counts: np.ndarray) -> PerClass:
    """Return the figures of each class, from what `confusion` returns."""
    return _shares(counts.sum(axis=1), counts.sum(axis=0), counts.diagonal())


def macro(found: PerClass) -> tuple[float, float, float]:
    """Return the means of precision, recall and F1 over the classes that occur, as scikit-learn.

    A class occurs if it has samples, or is predicted; what is divided by zero counts as 0.
    """
    occurs = np.isfinite(found.f1)
    shares = [np.nan_to_num(share)[occurs] for share in found[2:]]
    precision, recall, f1 = (float(share.mean()) if occurs.any() else np.nan for share in shares)
    return precision, recall, f1


class PerLabel(NamedTuple):
    """Figures of each of several labels, whose samples are those with a 1 in its column of y."""

    figures: PerClass
    wrong: np.ndarray  # (n,) int64: samples that are said to have the label, and have not
    all_right: int  # samples with all labels right
    samples: int


def per_label(net: Network, X: ArrayLike, y: ArrayLike) -> PerLabel:
    """Return the figures of each of several labels."""
    rows = checks.samples(X, net.sizes[0])
    need(LABELS, "a picture of labels", net, y)
    true, predicted = targets_of(net, y, rows.shape[0], "labels").values > 0, net.predict(rows) > 0
    right = (true & predicted).sum(axis=0)
    each = _shares(true.sum(axis=0), predicted.sum(axis=0), right)
    all_right = int((true == predicted).all(axis=1).sum())
    return PerLabel(each, predicted.sum(axis=0) - right, all_right, len(true))


def _shares(samples: np.ndarray, predicted: np.ndarray, right: np.ndarray) -> PerClass:
    with np.errstate(all="ignore"):
        f1 = 2 * right / (samples + predicted)
        return PerClass(samples, right, right / predicted, right / samples, f1)


class Mistakes(NamedTuple):
    """The samples that a network is most confidently wrong about, the worst first."""

    indices: np.ndarray  # (k,) int64: rows of X
    labels: np.ndarray  # (k,) int64: true classes
    predicted: np.ndarray  # (k,) int64: predicted classes
    # (k,) float: output of the predicted class; a probability with softmax and with one sigmoid
    confidence: np.ndarray
    confidence_of_true: np.ndarray  # (k,) float: the same, of the true class
    total: int  # number of all mistakes
    samples: int

    def __str__(self) -> str:
        """Return in words which mistakes these are."""
        shown, all_of_them = (
            len(self.indices),
            f"in {self.samples:,} sample{'s' * (self.samples != 1)}",
        )
        if self.total == 0:
            return f"No mistakes {all_of_them}"
        if self.total == 1:
            return f"The only mistake {all_of_them}"
        which = "All" if shown == self.total else f"The {shown} most confident of"
        return f"{which} {self.total:,} mistakes {all_of_them}"


def mistakes(net: Network, X: ArrayLike, labels: ArrayLike, most: int) -> Mistakes:
    """Return up to `most` samples that are classified wrong with the largest outputs."""
    outputs, true = _outputs(net, X, labels, "a picture of mistakes")
    predicted, confidence = outputs.argmax(axis=1), outputs.max(axis=1)
    wrong = np.flatnonzero(predicted != true)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    known = outputs[worst, true[worst]]
    found = worst, true[worst], predicted[worst], confidence[worst], known
    return Mistakes(*found, len(wrong), len(true))


def output_in_words(net: Network, value: float) -> str:
    """Return an output of a class: in %, if it is a probability."""
    probable = net.config["output"] == "softmax" or net.sizes[-1] == 1
    return f"{100 * value:.2f} %" if probable else f"{value:.3f}"


class Regression(NamedTuple):
    """How near predicted numbers come to the true ones; of several outputs, the means."""

    r2: float  # 1 - sum((y - a)**2) / sum((y - mean(y))**2): 1 is perfect, 0 is a constant's
    mae: float  # mean of |y - a|, in the unit of y
    rmse: float  # root of the mean of (y - a)**2, in the unit of y
    baseline_mae: float  # the MAE of a constant: the mean of the targets that were trained on
    samples: int


def regression(
    net: Network, X: ArrayLike, y: ArrayLike, mean: float | ArrayLike | None = None
) -> Regression:
    """Compare the numbers that a network predicts with the true ones.

    Parameters
    ----------
    net : Network
        One that predicts numbers.
    X : (n, n_in) array
    y : (n,) array for one output, or (n, n_out)
    mean : float or (n_out,) array, optional
        What the baseline predicts: the mean of the training targets; by default that of y.

    Returns
    -------
    Regression
        R2 as of scikit-learn's `r2_score`: where all of y is equal, 1 if the predictions are
        exact, else 0; NaN for a single sample.

    Raises
    ------
    ValueError
        If the network predicts classes, or the shapes do not fit.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([1, 1], output="identity", seed=0)
    >>> net.from_vector([2, 0])  # a = 2 x
    >>> regression(net, [[0], [1], [2]], [0, 2, 5]).mae
    0.3333333333333333
    """
    return compared(*predictions(net, X, y), mean)


def predictions(net: Network, X: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the true numbers and those that a network predicts, each (n, n_out) float64."""
    if not predicts_numbers(net):
        raise ValueError(f"R2 and MAE are for a network that predicts numbers; got {net}")
    rows = checks.samples(X, net.sizes[0])
    # As float64: in a network's float32, the squares of a target around 1e6 lose its deviation.
    y = checks.finite("y", checks.numbers_array("y", y)).astype(np.float64)
    outputs = net.feedforward(rows).astype(np.float64)
    if y.shape != outputs.shape and y.shape != (outputs.size,):
        raise ValueError(f"y must have shape {outputs.shape}; got {y.shape}")
    return y.reshape(outputs.shape), outputs


@np.errstate(all="ignore")
def compared(
    y: np.ndarray, outputs: np.ndarray, mean: float | ArrayLike | None = None
) -> Regression:
    """Return the figures of what `predictions` returns, or of some of its columns."""
    error, spread = outputs - y, y - y.mean(axis=0)
    squares, total = (error**2).sum(axis=0), (spread**2).sum(axis=0)
    constant = total == 0
    r2 = np.where(constant, squares == 0, 1 - squares / np.where(constant, 1, total))
    base = spread if mean is None else y - np.asarray(mean, np.float64)
    n = len(y)
    return Regression(
        float(r2.mean()) if n > 1 else float("nan"), float(np.abs(error).mean()),
        float(np.sqrt((error**2).mean(axis=0)).mean()), float(np.abs(base).mean()), n,
    )  # fmt: skip


def trained_mean(net: Network) -> float | None:
    """Return the mean of the targets that a network was trained on, if it remembers it."""
    target = net.notes.get("target")
    mean = target.get("mean") if isinstance(target, dict) else None
    return float(mean) if mean is not None and checks.is_real(mean) else None


def predicts_numbers(net: Network) -> bool:
    """Return whether a network predicts numbers, not classes."""
    return predicts(*_kind(net), net.sizes[-1]) == NUMBERS


def _kind(net: Network) -> tuple[str, str]:
    return choices.kind(net.config["loss"], net.config["output"])


# What a network is judged by: one class for each sample, several labels, or numbers.
CLASSES, LABELS = "classes", "labels"
_NEEDED = {
    CLASSES: "one class for each sample, as integers or one-hot rows",
    LABELS: "0 or 1 for each of several sigmoids, with the loss cross-entropy",
    NUMBERS: "a network that predicts numbers",
}
_INSTEAD = {
    CLASSES: "one class for each sample: draw the confusion matrix or mistakes",
    LABELS: "0 or 1 for each of several labels: draw labels",
    NUMBERS: "numbers: draw predicted or residuals",
}


def task(net: Network, y: ArrayLike) -> str:
    """Return what the network is judged by: `CLASSES`, `LABELS` or `NUMBERS`."""
    y = checks.numbers_array("labels", y)
    targets = targets_of(net, y, y.shape[0] if y.ndim else 1, "labels")
    if predicts_numbers(net) and not targets.classes:
        return NUMBERS
    checks.classes(targets, y, _kind(net))
    return LABELS if targets.flags and net.sizes[-1] > 1 else CLASSES


def need(wanted: str, picture: str, net: Network, y: ArrayLike) -> None:
    """Raise ValueError, which says what to draw instead, if a picture shows another task."""
    if (found := task(net, y)) != wanted:
        raise ValueError(f"{picture} needs {_NEEDED[wanted]}; got {_INSTEAD[found]}")


def _outputs(
    net: Network, X: ArrayLike, labels: ArrayLike, picture: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return an output for each class, and the labels; one sigmoid is of the classes 0 and 1."""
    rows = checks.samples(X, net.sizes[0])
    targets = targets_of(net, labels, rows.shape[0], "labels")
    need(CLASSES, picture, net, labels)
    outputs = net.feedforward(rows)
    if net.sizes[-1] == 1:
        return np.hstack([1 - outputs, outputs]), targets.values[:, 0].astype(np.int64)
    return outputs, targets.labels


def targets_of(net: Network, y: ArrayLike, n: int, name: str) -> Targets:
    """Return what n samples are to be, as labels or as rows, if it fits the network."""
    return checks.targets(y, n, net.sizes[-1], net.dtype, name, kind=_kind(net))


def output_names(net: Network) -> list[str]:
    """Return what the outputs of a network stand for: classes, labels, or the numbers predicted."""
    n_out, label = net.sizes[-1], net.notes.get("label")
    if not predicts_numbers(net) or "classes" in net.notes:
        return [str(name) for name in kept.classes(net.notes, max(2, n_out))]
    names = label if isinstance(label, list) else [label or "output"]
    return [str(names[k]) if len(names) == n_out else f"output {k}" for k in range(n_out)]
