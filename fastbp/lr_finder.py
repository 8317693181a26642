"""`find_learning_rate`: one short training at growing rates, and what it says about the rate."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import optimizers
from ._support import checks
from ._support.shown import html, number
from .errors import DivergenceError
from .model import choices
from .network import Network
from .training import columns

PER_DECADE = 10  # rates
# Samples and batches at each rate: few, and chance hides the fall of the loss; many, and small
# rates have their effect before larger ones come.
SAMPLES, FEWEST_BATCHES = 700, 5
EXPLODED = 4  # times the loss of the start, both above the least that there can be
SMOOTHED = 7  # rates: the loss at a rate is the mean over so many around it
# The suggestion has so much of the fall behind it. Over 45 trainings of the digits (five networks,
# batches of 1, 10 and 100, three optimisers), where any of 14 rates led above an accuracy of 0.9 in
# five epochs, it lost 0.012 to the best of them, 0.035 at worst. 0.95 lost 0.011 and 0.144, a third
# of the rate with the lowest loss 0.017 and 0.173.
FALLEN = 0.9


class RateSearch(NamedTuple):
    """What `find_learning_rate` returns."""

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float

    def __repr__(self) -> str:
        first, last = self.rates[[0, -1]]
        tried = f"of {len(self.rates)} rates from {first:.3g} to {last:.3g}"
        return f"<RateSearch: suggestion {self.suggestion:.3g}, {tried}>"

    def _repr_html_(self) -> str:
        place = int(np.searchsorted(self.rates, self.suggestion))
        near = slice(max(0, place - 5), place + 6)
        rows = zip(self.rates[near].tolist(), self.losses[near].tolist(), strict=True)
        cells = [(f"{rate:.3g}", number(loss)) for rate, loss in rows]
        more = (
            f"Suggestion: {self.suggestion:.3g}. plots.learning_rates draws all {len(self.rates)}"
        )
        return html(("learning rate", "loss"), cells, below=f"{more}.", words=0)


def find_learning_rate(
    net: Network,
    X: ArrayLike,
    y: ArrayLike,
    *,
    batch_size: int,
    optimizer: str | optimizers.Optimizer = "sgd",
    start: float = 1e-6,
    end: float = 100.0,
    threads: int = 1,
) -> RateSearch:
    """Suggest a learning rate for this network, data, batch size and optimiser.

    A copy of the network is trained on a few batches at each of ten rates a decade, growing until
    the loss explodes. The suggestion is the rate at which the loss, smoothed, has fallen by nine
    tenths of all that it falls: a safe rate rather than the largest that would do.

    Parameters
    ----------
    net : Network
        Left as it is, its random numbers included; the same call finds the same.
    X, y, batch_size, optimizer, threads : as for `Network.fit`
        Those of the training to come. An optimiser is left as it is.
    start, end : float, default 1e-6 and 100.0
        The smallest and the largest rate; `end` is at least ten times `start`.

    Returns
    -------
    rates, losses : (n,) arrays
        The rates that were tried, and the mean loss of the batches at each.
    suggestion : float

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or no rate made the loss fall.

    References
    ----------
    Smith, *Cyclical Learning Rates for Training Neural Networks*, 2017, section 3.3.

    Examples
    --------
    >>> import fastbp
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> 0.1 < fastbp.find_learning_rate(net, X, y, batch_size=10).suggestion < 3
    True
    """
    start = checks.positive_float("start", start, net.dtype)
    end = checks.positive_float("end", end, net.dtype)
    if end < 10 * start:
        raise ValueError(f"end must be at least ten times start, {start:g}; got {end:g}")
    rates = np.geomspace(start, end, round(PER_DECADE * np.log10(end / start)) + 1)
    rows, targets = checks.samples(X, net.sizes[0]), checks.numbers_array("y", y)
    twin, rule = _twin(net, rows), copy.deepcopy(optimizers.optimizer(optimizer))
    twin.loss(rows, targets)  # which checks all samples and targets
    n = rows.shape[0]
    batch_size = checks.batch_size("batch_size", batch_size, n)
    before, losses, above = math.nan, list[float](), list[float]()  # above: the least loss
    for rate, order in zip(rates, _orders(twin.rng, n, batch_size), strict=False):
        least = _least(net, targets[order])
        if not losses:
            before = _before(twin, rows[order], targets[order], batch_size) - least
        try:
            history = twin.fit(
                rows[order], targets[order], epochs=1, batch_size=batch_size,
                learning_rate=float(rate), shuffle=False, optimizer=rule, threads=threads,
            )  # fmt: skip
        except DivergenceError:
            break
        losses.append(history.loss[-1])
        above.append(losses[-1] - least)
        if above[-1] > EXPLODED * before:
            break
    return RateSearch(rates[: len(losses)], np.array(losses), _suggestion(rates, above, before))


def _twin(net: Network, X: Any) -> Network:
    """Return a copy of a network that knows how to standardise X, and does not warn of it."""
    twin = copy.deepcopy(net)
    if net.config["scale"] and not net.scaling:
        pair = columns.fitted([columns.moments(X, "X")])
        twin = Network(**{**net.config, "scale": pair}, backend=net.backend)
        twin.from_vector(net.to_vector())
        twin.rng = copy.deepcopy(net.rng)
    columns.compared.add(twin)  # the training to come does
    return twin


def _before(net: Network, X: Any, y: np.ndarray, batch_size: int) -> float:
    """Return the mean loss of samples as a training sees it that has not begun to learn."""
    if not net.config["dropout"]:
        return net.loss(X, y)
    # With neurons left out it is another: of a trained network so much larger that it does not
    # fall below the one without. At this rate steps are lost in rounding.
    return net.fit(
        X, y, epochs=1, batch_size=batch_size, learning_rate=float(np.finfo(net.dtype).tiny),
        shuffle=False,
    ).loss[0]  # fmt: skip


def _least(net: Network, y: np.ndarray) -> float:
    """Return the mean loss of outputs that are right: for counts it may be below zero."""
    loss, n, n_out = net.config["loss"], len(y), net.sizes[-1]
    if loss != "poisson" and not choices.is_own(loss):
        return 0.0
    counts = checks.targets(y, n, n_out, np.float64).rows(slice(None), n_out)
    if choices.is_own(loss):
        least = float(loss.terms(counts, counts, None)[0].sum() / n)
        return least if math.isfinite(least) else 0.0
    return float((counts - counts * np.log(np.where(counts > 0, counts, 1))).sum() / n)


def _orders(rng: np.random.Generator, n: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the samples of each rate: whole batches, from one order after the other."""
    size = max(FEWEST_BATCHES, SAMPLES // batch_size) * batch_size
    order = np.empty(0, np.int64)
    while True:
        while len(order) < size:
            order = np.concatenate([order, rng.permutation(n)])
        yield order[:size]
        order = order[size:]


def smoothed(losses: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return at each rate the mean loss over the rates around it, fewer of them at both ends."""
    half = SMOOTHED // 2
    return np.array([np.mean(losses[max(0, i - half) : i + half + 1]) for i in range(len(losses))])


def _suggestion(rates: np.ndarray, losses: list[float], before: float) -> float:
    """Return the rate by which the loss has fallen by most of its fall."""
    smooth = smoothed(losses)
    lowest = int(smooth.argmin()) if losses else 0
    # What chance does from rate to rate; it does less to the means.
    chance = np.median(np.abs(np.diff(losses[: lowest + 1]))) if lowest else np.inf
    if not (losses and before - smooth[lowest] > chance):
        raise ValueError(
            f"at no learning rate from {rates[0]:g} to {rates[max(0, len(losses) - 1)]:g} did the "
            "loss fall, so that there is none to suggest: scale the inputs, choose another start "
            "and end, or train with what worked before if this network is trained already"
        )
    return float(rates[np.argmax(smooth <= before - FALLEN * (before - smooth[lowest]))])
