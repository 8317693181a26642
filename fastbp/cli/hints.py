"""What to try when a training has led to nothing."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..history import History
from ..network import Network

LARGE = 10  # inputs beyond it are of another order than the weights are made for
CHANCE = 0.05  # a skill that guesses may have


def hint(
    net: Network, start: np.ndarray, history: History, scores: Mapping[str, Any], X: np.ndarray
) -> str:
    """Return a line on why a network has learnt nothing, and what to try; "" if it has.

    `start` are the first layer's weights before the training; `scores` are those on the test
    samples X, by the names that `tasks.scores` gives them.
    """
    first, last, rate = history.loss[0], history.loss[-1], history.learning_rate[-1]
    fall, gain = first - last, skill(scores)
    steady = fall > 0.02 * abs(first) or len(history) == 1
    if gain > (CHANCE if steady else 0.5):
        return ""
    largest = float(np.abs(X).max()) * net.config["input_scale"]
    learnt, moved = (
        _learnt(history, scores),
        np.linalg.norm(net.weights[0] - start) / np.linalg.norm(start),
    )
    smaller = f"try a smaller --learning-rate, such as {rate / 10:g}"
    search = "`fastbp find-learning-rate` suggests one"
    if fall < -0.1 * abs(first):
        why, advice = f"the loss has grown from {first:.3g} to {last:.3g}", f"{smaller}; {search}"
    elif net.scaling is None and largest > LARGE:
        why = f"the inputs reach {largest:.4g}"
        advice = f"scale them to about 1 before, or {smaller}"
    elif moved > 1 and (not learnt or not np.ptp(net.predict(X), axis=0).any()):
        why, advice = "neurons are dead or saturated after too long steps", f"{smaller}; {search}"
    elif steady and learnt:
        why = "what was learnt does not carry over to the test samples"
        advice = "try fewer neurons, --l2 0.01 or --early-stopping 5, or other columns"
    else:
        why = f"the loss has hardly fallen, from {first:.4g} to {last:.4g}"
        advice = f"try a larger --learning-rate, such as {10 * rate:g}, or more --epochs; {search}"
    useless = "" if gain > CHANCE else "hardly better than a constant answer: "
    return f"{useless}{why}; {advice}"


def skill(scores: Mapping[str, Any]) -> float:
    """Return how much of a constant answer's error is avoided: 1 is all, 0 or less is none."""
    if "baseline_loss" in scores:  # of a quantile, from which squares are far
        return 1 - float(scores["test_loss"] / scores["baseline_loss"])
    if "test_r2" in scores:
        return float(scores["test_r2"])
    return _above(scores["test_accuracy"], scores["baseline_accuracy"])


def _above(accuracy: float, base: float) -> float:
    return (accuracy - base) / (1 - base) if base < 1 else float(accuracy == 1)


def _learnt(history: History, scores: Mapping[str, Any]) -> bool:
    """Return whether the training samples were learnt, if not the test samples."""
    if "test_r2" in scores or math.isnan(history.accuracy[-1]):
        return history.loss[-1] < 0.8 * history.loss[0]
    return _above(history.accuracy[-1], scores["baseline_accuracy"]) > 0.1
