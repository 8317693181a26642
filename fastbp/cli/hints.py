"""What to try when a training has led to nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..history import History
from ..network import Network

LARGE = 10  # inputs beyond it are of another order than the weights are made for


def hint(net: Network, history: History, scores: Mapping[str, Any], X: np.ndarray) -> str:
    """Return a line on why a network may have learnt nothing, and what to try; "" if it has.

    `scores` are those on the test samples X, by the names that `tasks.scores` gives them.
    """
    first, last = history.loss[0], history.loss[-1]
    gain, grew = skill(scores), last > 1.1 * first
    if gain > (0.5 if grew else 0):
        return ""
    rate = history.learning_rate[-1]
    smaller = f"try a smaller --learning-rate, such as {rate / 10:g}"
    search = "`fastbp find-learning-rate` suggests one"
    largest = float(np.abs(X).max()) * net.config["input_scale"]
    outputs = net.feedforward(X)
    if grew:
        why, advice = f"the loss has grown from {first:.3g} to {last:.3g}", f"{smaller}; {search}"
    elif net.scaling is None and largest > LARGE:
        why = f"the inputs reach {largest:.4g}"
        advice = f"scale them to about 1 before, or {smaller}"
    elif len(X) > 1 and np.ptp(outputs, axis=0).max() == 0:
        why = "all samples get the same output, from neurons that are dead or saturated"
        advice = f"{smaller}, or --activation tanh"
    elif first - last > 0.2 * abs(first):
        why = "what was learnt does not carry over to the test samples"
        advice = "try fewer neurons, --l2 0.01 or --early-stopping 5, or other columns"
    else:
        why = f"the loss has hardly fallen, from {first:.4g} to {last:.4g}"
        advice = f"try a larger --learning-rate, such as {10 * rate:g}, or more --epochs; {search}"
    useless = "" if gain > 0 else "no better than a constant answer: "
    return f"hint: {useless}{why}; {advice}"


def skill(scores: Mapping[str, Any]) -> float:
    """Return how much of a constant answer's error is avoided: 1 is all, 0 or less is none."""
    if "test_r2" in scores:
        return float(scores["test_r2"])
    accuracy, base = scores["test_accuracy"], scores["baseline_accuracy"]
    return float((accuracy - base) / (1 - base)) if base < 1 else float(accuracy == 1)
