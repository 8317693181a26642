"""Losses with a setting, for `Network(loss=...)`: the width of Huber's loss, a quantile, smoothing.

Those without are known by their names alone: "quadratic", "absolute", "cross-entropy", "poisson";
so are these, with their default settings: "huber", "quantile". With a = f(z) the output, y the
target, C the loss of one sample, a sum over its outputs:

| loss | C |
|---|---|
| "quadratic" | (a - y)**2 / 2 |
| "absolute" | abs(a - y): half as far for outliers as the square, the median instead of the mean |
| `Huber` | the square near the target, the absolute difference beyond |
| `Quantile` | asymmetric: a share q of the targets comes to lie below the output |
| `CrossEntropy`, "cross-entropy" | -y log a, for classes and probabilities |
| "poisson" | a - y log a, for counts |

Whatever the network does with a loss, it does with the setting: what `fit` reports, `Network.loss`
and validation are the loss that is trained on, label smoothing included, as in PyTorch.

Quantile regression in three networks, which give a band that holds four in five of the targets::

    bands = [fastbp.Network(sizes, loss=fastbp.losses.Quantile(q)) for q in (0.1, 0.5, 0.9)]
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ._support import checks
from ._support.texts import said
from .reference import SETTINGS

__all__ = ["CrossEntropy", "Huber", "Quantile"]


def __dir__() -> list[str]:
    return __all__


class Adjusted:
    """What losses with a setting share."""

    name: ClassVar[str]  # of the loss, to `Network(loss=)`

    @property
    def setting(self) -> float:
        """The setting's value."""
        return float(getattr(self, SETTINGS[self.name][0]))

    def in_file(self) -> dict[str, Any]:
        """Return the loss as JSON can hold it, for `from_file`."""
        return {"name": self.name, SETTINGS[self.name][0]: self.setting}

    def _keep(self, value: float) -> None:
        """Keep the setting as it was checked: a float whatever number was given."""
        object.__setattr__(self, SETTINGS[self.name][0], value)


@dataclass(frozen=True)
class Huber(Adjusted):
    """Huber's loss: quadratic near the target, linear far from it.

        C = sum(h(a - y)),  h(r) = r**2 / 2 where abs(r) <= width, else width (abs(r) - width / 2)

    Outliers pull with a force of `width` at most, however far they lie. PyTorch's
    `HuberLoss(delta=width)` is the same, but a mean over outputs where this is their sum. Huber,
    *Robust Estimation of a Location Parameter*, 1964. Raises TypeError or ValueError for other
    widths.

    Parameters
    ----------
    width : positive float, default 1.0
        In units of the targets.

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> y = 2 * X + np.where(np.arange(200) % 10, 0, 50)[:, None]
    >>> net = fastbp.Network([1, 1], loss=fastbp.losses.Huber(0.1), seed=0)
    >>> _ = net.fit(X, y, epochs=200, batch_size=20, learning_rate=1.0)
    >>> bool(abs(net.feedforward([[0.0]]) - 0).max() < 0.1)  # the mean of y is 5
    True
    """

    name = "huber"
    width: float = 1.0

    def __post_init__(self) -> None:
        self._keep(checks.positive_float("width", self.width, np.float32))


@dataclass(frozen=True)
class Quantile(Adjusted):
    """The loss whose least value is at a quantile of the targets, also called pinball loss.

        C = sum(max(q (y - a), (q - 1) (y - a)))

    A share q of the targets comes to lie below the output; q = 0.5 is half the absolute loss, and
    gives the median. Koenker and Bassett, *Regression Quantiles*, 1978. Raises ValueError for
    other q.

    Parameters
    ----------
    q : float above 0 and below 1, default 0.5

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> y = np.random.default_rng(0).exponential(size=(2000, 1))
    >>> net = fastbp.Network([1, 1], loss=fastbp.losses.Quantile(0.9), seed=0)
    >>> _ = net.fit(0 * y, y, epochs=20, batch_size=50, learning_rate=0.1)
    >>> bool(abs(np.mean(y < net.feedforward([[0.0]])) - 0.9) < 0.02)
    True
    """

    name = "quantile"
    q: float = 0.5

    def __post_init__(self) -> None:
        self._keep(checks.fraction("q", self.q))


@dataclass(frozen=True)
class CrossEntropy(Adjusted):
    """Cross-entropy, with softmax or sigmoid outputs, and targets smoothed.

        C = -sum(t log a), with softmax;  C = -sum(t log a + (1 - t) log(1 - a)), with sigmoid
        t = (1 - label_smoothing) y + label_smoothing even

    where `even` is sum(y) / n_out, the same for all classes, with softmax, and 1 / 2 with sigmoid.
    Outputs then stop at 1 - label_smoothing (and an even share of it) instead of growing for ever.
    The loss that is reported has the smoothed targets in it, too, as that of PyTorch's
    `CrossEntropyLoss(label_smoothing)`: at its least it is not 0. Szegedy et al., *Rethinking the
    Inception Architecture for Computer Vision*, 2016, section 7. Raises ValueError for other
    smoothings.

    Parameters
    ----------
    label_smoothing : float from 0, none, to below 1; default 0.0

    Examples
    --------
    >>> import fastbp
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> smooth = fastbp.losses.CrossEntropy(label_smoothing=0.1)
    >>> net = fastbp.Network([64, 30, 10], loss=smooth, input_scale=1 / 16, seed=0)
    >>> net.fit(X, y, epochs=5, batch_size=32, learning_rate=0.5).accuracy[-1] > 0.8
    True
    """

    name = "cross-entropy"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        self._keep(checks.share("label_smoothing", self.label_smoothing))


KINDS: dict[str, Callable[[Any], Adjusted]] = {
    "huber": Huber, "quantile": Quantile, "cross-entropy": CrossEntropy
}  # fmt: skip


def plain(loss: Any) -> Any:
    """Return a loss in its one form: by its name alone where its setting is the default."""
    default = isinstance(loss, Adjusted) and loss.setting == SETTINGS[loss.name][1]
    return loss.name if default else loss


def in_parts(loss: Any) -> tuple[Any, float | None]:
    """Return the name of a loss, or what stands for it, and its setting, None for the default."""
    return (loss.name, loss.setting) if isinstance(loss, Adjusted) else (loss, None)


def from_file(entry: Mapping[str, Any]) -> Adjusted:
    """Return the loss that `in_file` described; TypeError or ValueError if it is none."""
    known = [(name, SETTINGS[name][0]) for name in KINDS]
    for name, setting in known:
        if entry.get("name") == name and set(entry) == {"name", setting}:
            return KINDS[name](entry[setting])
    wanted = ", ".join(f"{name} with {setting}" for name, setting in known)
    raise ValueError(f"a loss with a setting must be {wanted}; got {said(repr(entry), 80)}")
