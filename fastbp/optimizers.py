"""How weights follow the gradient: SGD, with momentum if wanted, and Adam."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._support import checks
from ._support.signals import Exclusive
from .model.layout import Layout
from .rules import Memory, Rule, new_memory


def _share(name: str, value: Any, closed: bool = False) -> float:
    """Return value as a float from 0 to below 1, or, if closed, to 1."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and (0 <= value < 1 or (closed and value == 1))):
        below = "" if closed else "below "
        raise ValueError(f"{name} must be a number from 0 to {below}1; found {value!r}")
    return float(value)


def _none_or_positive(name: str, value: Any) -> float:
    """Return value as a float, 0 for None and 0."""
    return 0.0 if value is None or value == 0 else checks.positive_float(name, value)


class Optimizer:
    """What `SGD` and `Adam` share: the penalty, clipping, and a memory.

    An optimiser remembers: handed to `fit` again, for the same network, it goes on where it was. It
    begins anew where its settings were changed so that it has other things to remember.
    """

    l2: float
    clip_norm: float | None
    l2_over_sum: bool

    def __post_init__(self) -> None:
        self.rule()  # refuses what does not fit
        self._memory: Memory | None = None
        self._shape: Any = None
        self.alone = Exclusive("this optimizer's network")

    def rule(self) -> Rule:
        """Return it as reference and kernels take it."""
        raise NotImplementedError

    def _common(self) -> dict[str, Any]:
        l2 = _none_or_positive("l2", self.l2)
        return {
            "l2": l2,
            "over_sum": checks.flag("l2_over_sum", self.l2_over_sum) and l2 > 0,
            "clip": _none_or_positive("clip_norm", self.clip_norm),
        }

    @property
    def steps(self) -> int:
        """How many steps it has taken."""
        return int(self._memory.clock[0]) if self._memory else 0

    def memory(self, layout: Layout, params: np.ndarray) -> Memory:
        """Return what it remembers of this network's parameters, for a trainer to go on from.

        Raises
        ------
        ValueError
            If it has trained a network of other sizes or another dtype.
        """
        shape, rule = (layout.sizes, layout.dtype, layout.bias), self.rule()
        if self._memory is None or len(self._memory.slots) != rule.slots:
            self._memory, self._shape = new_memory(rule, params), shape
        if shape != self._shape:
            raise ValueError(
                f"optimizer remembers a network of sizes {list(self._shape[0])} and dtype "
                f"{self._shape[1]}; found {list(layout.sizes)} and {layout.dtype}: make a new one"
            )
        return self._memory

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of what it remembers: arrays by name, for `set_state`."""
        if self._memory is None:
            return {}
        return {name: array.copy() for name, array in self._memory._asdict().items()}

    def set_state(self, layout: Layout, state: dict[str, np.ndarray]) -> None:
        """Go on from what `state` returned for a network of this layout.

        Raises
        ------
        ValueError
            If another optimiser's state, or one of another network, is given.
        """
        found = {name: np.shape(array) for name, array in state.items()}
        wanted = {"slots": (self.rule().slots, layout.size), "clock": (1,)}
        if found != wanted:
            raise ValueError(f"state must hold arrays of the shapes {wanted}; found {found}")
        self._shape = layout.sizes, layout.dtype, layout.bias
        self._memory = Memory(**{name: array.copy() for name, array in state.items()})


@dataclass(eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent.

    v = momentum v - learning_rate g;  W += v, or with Nesterov W += momentum v - learning_rate g

    Parameters
    ----------
    momentum : float
        From 0, which is plain SGD, to 1, where nothing slows down.
    nesterov : bool
    l2 : float
        Adds l2 / 2 * sum(W**2) to the mean loss of a batch; biases are free.
    clip_norm : float, optional
        The gradient is shortened to this norm, over all parameters, before the penalty's is added.
    l2_over_sum : bool
        Whether the penalty is added to the sum of a batch's losses rather than to their mean, as
        scikit-learn's `alpha` is.

    References
    ----------
    Sutskever et al., *On the importance of initialization and momentum in deep learning*, 2013.

    Examples
    --------
    >>> import fastbp
    >>> X, y, X_test, y_test = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> rule = fastbp.SGD(momentum=0.9, nesterov=True, l2=1e-4)
    >>> history = net.fit(X, y, epochs=5, batch_size=32, learning_rate=0.1, optimizer=rule)
    >>> net.accuracy(X_test, y_test) > 0.9
    True
    """

    momentum: float = 0.0
    nesterov: bool = False
    l2: float = 0.0
    clip_norm: float | None = None
    l2_over_sum: bool = False

    def rule(self) -> Rule:
        """Return it as reference and kernels take it."""
        momentum = _share("momentum", self.momentum, closed=True)
        name = "nesterov" if checks.flag("nesterov", self.nesterov) else "momentum"
        return Rule(name if momentum else "sgd", momentum, **self._common())


@dataclass(eq=False)
class Adam(Optimizer):
    """Adam: each parameter's step follows the running mean of its gradient, in units of its size.

    m = beta_1 m + (1 - beta_1) g;  v = beta_2 v + (1 - beta_2) g**2
    W -= learning_rate m' / (sqrt(v') + epsilon);  m' = m / (1 - beta_1**t), v' likewise

    Parameters
    ----------
    beta_1, beta_2 : float
        From 0 to below 1.
    epsilon : float
    l2, clip_norm, l2_over_sum
        As for `SGD`.
    epsilon_corrected : bool
        Whether epsilon stands beside the corrected root, as in the paper's algorithm 1 and in
        PyTorch; else beside sqrt(v), as at the end of its section 2 and in scikit-learn.

    References
    ----------
    Kingma and Ba, *Adam: A Method for Stochastic Optimization*, 2015.

    Examples
    --------
    >>> import fastbp
    >>> X, y, X_test, y_test = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> history = net.fit(X, y, epochs=5, batch_size=32, learning_rate=0.01, optimizer="adam")
    >>> net.accuracy(X_test, y_test) > 0.9
    True
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    l2: float = 0.0
    clip_norm: float | None = None
    l2_over_sum: bool = False
    epsilon_corrected: bool = True

    def rule(self) -> Rule:
        """Return it as reference and kernels take it."""
        return Rule(
            "adam", _share("beta_1", self.beta_1), _share("beta_2", self.beta_2),
            checks.positive_float("epsilon", self.epsilon),
            checks.flag("epsilon_corrected", self.epsilon_corrected), **self._common(),
        )  # fmt: skip


# What `fit(optimizer=)` takes for a name.
NAMES: dict[str, Callable[[], Optimizer]] = {
    "sgd": SGD,
    "momentum": lambda: SGD(momentum=0.9),
    "nesterov": lambda: SGD(momentum=0.9, nesterov=True),
    "adam": Adam,
}


def optimizer(value: Any) -> Optimizer:
    """Return an optimiser: a new one for a name, or the one given."""
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, str) and value in NAMES:
        return NAMES[value]()
    raise ValueError(
        f"optimizer must be one of {', '.join(NAMES)}, or fastbp.SGD(...) or fastbp.Adam(...); "
        f"found {value!r}"
    )
