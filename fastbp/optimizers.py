"""How weights follow the gradient: SGD, with momentum if wanted, and Adam."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._support import checks
from ._support.signals import Exclusive
from .model.layout import Layout
from .reference.records import Memory, Rule, new_memory


def _positive_or_none(name: str, value: Any) -> float:
    nothing = value is None or (np.ndim(value) == 0 and value == 0)
    return 0.0 if nothing else checks.positive_float(name, value)


class Optimizer:
    """What `SGD` and `Adam` share: the penalty, clipping, and a memory.

    Passed to `fit` again, for the same network, an optimiser continues with its memory; with an
    empty one if its settings were changed, other than the penalty and clipping, or if other layers
    are to learn.
    """

    l2: float
    clip_norm: float | None
    l2_over_sum: bool
    _rule: Callable[[], Rule]  # without what the optimisers share
    _memory: Memory | None = None
    _shape: Any = None
    _remembered: Rule | None = None  # the rule whose memory it is

    def __post_init__(self) -> None:
        self.rule()  # checks the settings
        self.alone = Exclusive("this optimizer's network")

    def rule(self) -> Rule:
        """Return the settings, checked, for the reference and the kernels."""
        rule, l2 = self._rule(), _positive_or_none("l2", self.l2)
        over_sum = checks.flag("l2_over_sum", self.l2_over_sum) and l2 > 0
        clip = _positive_or_none("clip_norm", self.clip_norm)
        return rule._replace(l2=l2, over_sum=over_sum, clip=clip)

    @property
    def steps(self) -> int:
        """The number of steps taken."""
        return int(self._memory.clock[0]) if self._memory else 0

    def memory(self, layout: Layout, params: np.ndarray, frozen: tuple[int, ...] = ()) -> Memory:
        """Return the memory for this network's parameters, from which a trainer continues."""
        # Of a layer that was frozen Adam would correct the moments for steps that it did not take.
        shape = layout.sizes, layout.dtype, layout.bias
        rule = self._rule()._replace(frozen=frozen)
        if self._memory is None or rule != self._remembered:
            self._memory, self._shape = new_memory(rule, params), shape
            self._remembered = rule
        if shape != self._shape:
            known = f"a network of sizes {list(self._shape[0])} and dtype {self._shape[1]}"
            got = f"{list(layout.sizes)} and {layout.dtype}"
            raise ValueError(f"optimizer has trained {known}; got {got}: make a new one")
        return self._memory

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of the memory: arrays by name, for `set_state`."""
        memory = self._memory._asdict() if self._memory else {}
        return {name: array.copy() for name, array in memory.items()}

    def set_state(self, layout: Layout, state: dict[str, np.ndarray]) -> None:
        """Continue from what `state` returned for a network of this layout."""
        rule = self._rule()
        got = {name: (np.shape(x), str(np.asarray(x).dtype)) for name, x in state.items()}
        slots = (rule.slots, layout.size), str(layout.dtype)
        wanted = {"slots": slots, "clock": ((1,), "float64")}
        if got != wanted:
            raise ValueError(f"state must hold arrays of the shapes {wanted}; got {got}")
        self._remembered, self._shape = rule, (layout.sizes, layout.dtype, layout.bias)
        self._memory = Memory(**{name: np.array(x, order="C") for name, x in state.items()})
        for slot in self._memory.slots:
            layout.clear_padding(slot)


@dataclass(eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent.

        v = momentum v - learning_rate g
        W += v, or with Nesterov W += momentum v - learning_rate g

    Sutskever et al., *On the importance of initialization and momentum in deep learning*, 2013.
    Raises TypeError or ValueError if an argument does not fit.

    Parameters
    ----------
    momentum : float from 0, plain SGD, to 1, where nothing slows down; default 0.0
    nesterov : bool, default False
    l2 : float, default 0.0
        Adds l2 / 2 * sum(W**2) to the mean loss of a batch; biases have no penalty.
    clip_norm : float, optional
        Shortens the gradient to this norm, over all parameters, before the penalty's is added.
    l2_over_sum : bool, default False
        Add the penalty to the sum of a batch's losses instead, like scikit-learn's `alpha`.

    Examples
    --------
    >>> import fastbp
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> rule = fastbp.SGD(momentum=0.9, nesterov=True, l2=1e-4)
    >>> net.fit(X, y, epochs=5, batch_size=32, learning_rate=0.1, optimizer=rule).loss[-1] < 0.5
    True
    """

    momentum: float = 0.0
    nesterov: bool = False
    l2: float = 0.0
    clip_norm: float | None = None
    l2_over_sum: bool = False

    def _rule(self) -> Rule:
        momentum = checks.share("momentum", self.momentum, most="1")
        name = "nesterov" if checks.flag("nesterov", self.nesterov) else "momentum"
        return Rule(name if momentum else "sgd", momentum)


@dataclass(eq=False)
class Adam(Optimizer):
    """Adam: each step follows the running mean of the gradient, divided by its running size.

        m = beta_1 m + (1 - beta_1) g;  v = beta_2 v + (1 - beta_2) g**2
        W -= learning_rate m' / (sqrt(v') + epsilon);  m' = m / (1 - beta_1**t), v' likewise

    Kingma and Ba, *Adam: A Method for Stochastic Optimization*, 2015. Raises as `SGD` does.

    Parameters
    ----------
    beta_1, beta_2, epsilon : float, defaults 0.9, 0.999 and 1e-8; betas are from 0 to below 1
    l2, clip_norm, l2_over_sum : as for `SGD`
    epsilon_corrected : bool, default True
        Whether epsilon is added to the corrected root, as in the paper's algorithm 1 and in
        PyTorch, or to sqrt(v), as at the end of its section 2 and in scikit-learn.

    Examples
    --------
    >>> import fastbp
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> net.fit(X, y, epochs=5, batch_size=32, learning_rate=0.01, optimizer="adam").loss[-1] < 0.5
    True
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    l2: float = 0.0
    clip_norm: float | None = None
    l2_over_sum: bool = False
    epsilon_corrected: bool = True

    def _rule(self) -> Rule:
        betas = checks.share("beta_1", self.beta_1), checks.share("beta_2", self.beta_2)
        epsilon = checks.positive_float("epsilon", self.epsilon)
        corrected = checks.flag("epsilon_corrected", self.epsilon_corrected)
        return Rule("adam", *betas, epsilon, corrected)


# The names that `fit(optimizer=)` takes.
NAMES: dict[str, Callable[[], Optimizer]] = {
    "sgd": SGD,
    "momentum": lambda: SGD(momentum=0.9),
    "nesterov": lambda: SGD(momentum=0.9, nesterov=True),
    "adam": Adam,
}


def optimizer(value: Any) -> Optimizer:
    """Return an optimiser: a new one for a name, or the one given."""
    if isinstance(checks.instance("optimizer", value), Optimizer):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str) and value in NAMES:
        return NAMES[value]()
    known = f"{', '.join(NAMES)}, or fastbp.SGD(...) or fastbp.Adam(...)"
    raise ValueError(f"optimizer must be one of {known}; got {value!r}")
