"""What a network gets right and wrong: counts by class, and its most confident mistakes."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks

if TYPE_CHECKING:
    from ..network import Network

MOST_CLASSES = 1000  # a matrix of more takes memory in GiB, and nobody could read it


def confusion(net: "Network", X: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Count the samples by class and by prediction.

    counts[i, j] = how many samples of class i the network takes for class j

    Parameters
    ----------
    net : fastbp.Network
        With two outputs or more.
    X : (batch, n_in) array
    labels : (batch,) integers, or (batch, n_out) one-hot rows

    Returns
    -------
    (n_out, n_out) int64 array

    Raises
    ------
    TypeError, ValueError
        If samples or labels do not fit the network, or it has more than 1000 outputs.

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> net = fastbp.Network([2, 2], loss="cross-entropy", seed=0)
    >>> net.from_vector([1, 0, 0, 1, 0, 0])  # the larger input is the class
    >>> confusion(net, [[1, 0], [0, 1], [1, 0]], [0, 1, 1])
    array([[1, 0],
           [1, 1]])
    """
    classes = net.sizes[-1]
    if classes > MOST_CLASSES:
        raise ValueError(f"a confusion matrix shows up to {MOST_CLASSES} classes; found {classes}")
    outputs, found = _outputs(net, X, labels)
    pairs = found * classes + outputs.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


class PerClass(NamedTuple):
    """Figures of each class; NaN where there is nothing to divide by.

    Attributes
    ----------
    samples, right : (n,) int64 arrays
        How many samples the class has, and how many of them are classified right.
    precision : (n,) float64 array
        Right ones among what is taken for the class.
    recall : (n,) float64 array
        Right ones among the class's samples.
    f1 : (n,) float64 array
        The harmonic mean of both, 2 right / (samples + taken for the class).
    """

    samples: np.ndarray
    right: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def per_class(counts: np.ndarray) -> PerClass:
    """Return the figures of each class.

    Parameters
    ----------
    counts : (n, n) int array
        As `confusion` returns them.

    Returns
    -------
    PerClass

    Examples
    --------
    >>> per_class(np.array([[1, 0], [1, 1]])).precision
    array([0.5, 1. ])
    """
    samples, taken, right = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    with np.errstate(invalid="ignore"):
        return PerClass(
            samples, right, right / taken, right / samples, 2 * right / (samples + taken)
        )


class Mistakes(NamedTuple):
    """The samples that a network is most confidently wrong about, the worst first.

    Attributes
    ----------
    indices : (k,) int64 array
        Of rows of X.
    labels, predicted : (k,) int64 arrays
        What they are, and what they are taken for.
    confidence : (k,) float array
        The output of the class they are taken for: with softmax, its probability.
    total : int
        How many mistakes there are in all.
    """

    indices: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    total: int


def mistakes(net: "Network", X: ArrayLike, labels: ArrayLike, most: int) -> Mistakes:
    """Find the samples that are classified wrong with the largest output.

    Parameters
    ----------
    net : fastbp.Network
        With two outputs or more.
    X : (batch, n_in) array
    labels : (batch,) integers, or (batch, n_out) one-hot rows
    most : int
        How many to return at most.

    Returns
    -------
    Mistakes

    Raises
    ------
    TypeError, ValueError
        If samples or labels do not fit the network.

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> net = fastbp.Network([2, 2], loss="cross-entropy", seed=0)
    >>> net.from_vector([1, 0, 0, 1, 0, 0])  # the larger input is the class
    >>> found = mistakes(net, [[1, 0], [0, 1], [9, 0]], [1, 1, 1], most=1)
    >>> found.indices, found.predicted, found.total
    (array([2]), array([0]), 2)
    """
    outputs, found = _outputs(net, X, labels)
    predicted = outputs.argmax(axis=1)
    confidence = outputs[np.arange(len(outputs)), predicted]
    wrong = np.flatnonzero(predicted != found)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    return Mistakes(worst, found[worst], predicted[worst], confidence[worst], len(wrong))


def _outputs(net: "Network", X: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's outputs, and the labels, checked."""
    X = checks.samples(X, net.sizes[0])
    targets = checks.targets(labels, X.shape[0], net.sizes[-1], net.dtype, "labels")
    return net.feedforward(X), checks.classes(targets, labels, "labels").labels
