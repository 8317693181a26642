"""Weights of classes: how much the samples of each count in a training."""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._support import checks
from ..reference import Targets

BALANCED = "balanced"


def checked(value: Any, config: Any) -> Any:
    """Return "balanced", or the weight of each class, (classes,), from a dict; None stays."""
    if value is None or (isinstance(value, str) and value == BALANCED):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(
            f"class_weight must be 'balanced' or a dict such as {{0: 1, 1: 5}}; got {value!r}"
        )
    weights = np.ones(_count(config))
    for label, weight in value.items():
        if not (checks.is_real(label, numbers.Integral) and 0 <= label < len(weights)):
            known = f"classes, 0 to {len(weights) - 1}"
            raise ValueError(f"class_weight must have {known}, as keys; got {label!r}")
        weights[label] = checks.not_negative_float(f"class_weight[{label}]", weight, config.dtype)
    return weights


def _count(config: Any) -> int:
    return max(2, int(config.sizes[-1]))  # one sigmoid stands for two classes


def by_sample(weights: np.ndarray, targets: Targets, config: Any, name: str = "y") -> np.ndarray:
    """Return the weights of samples, (n,), by their classes."""
    found: np.ndarray = weights[_labels(targets, config, name)].astype(config.dtype)
    return found


def balanced(targets: Targets, rows: Any, config: Any) -> np.ndarray:
    """Return weights by which each class of the samples in `rows` counts as much as any other.

    n / (classes * count), as in King and Zeng, *Logistic Regression in Rare Events Data*, 2001.
    """
    counts = np.bincount(_labels(targets, config, "y")[rows], minlength=_count(config))
    return counts.sum() / (np.count_nonzero(counts) * np.maximum(1, counts))  # type: ignore[no-any-return]


def _labels(targets: Targets, config: Any, name: str) -> np.ndarray:
    """Return the class of each sample."""
    if targets.labels.size:
        return targets.labels
    if not (targets.flags and config.sizes[-1] == 1):
        wanted = "integers or one-hot rows, or 0 and 1 for one sigmoid"
        raise ValueError(
            f"class_weight needs one class for each sample: {wanted}; got {name} of shape "
            f"{targets.values.shape} for {config.sizes[-1]} outputs, {config.kind[1]!r}. Leave it "
            "out; sample_weight may weigh such samples"
        )
    return np.asarray(targets.values[:, 0]).astype(np.int64)
