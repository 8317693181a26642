"""How weights follow the gradient: SGD, with momentum if wanted, Adam, AdamW and RMSprop."""

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
    """What all optimisers share: penalties, clipping, and a memory.

    Passed to `fit` again, for the same network, an optimiser continues with its memory; with an
    empty one if its settings were changed, other than penalties and clipping, or if other layers
    are to learn.
    """

    l2: float
    clip_norm: float | None
    l2_over_sum: bool
    l1: float
    _rule: Callable[[], Rule]  # without what the optimisers share
    _memory: Memory | None = None
    _shape: Any = None
    _remembered: Rule | None = None  # the rule whose memory it is

    def __post_init__(self) -> None:
        self.rule()  # checks the settings
        self.alone = Exclusive("this optimizer's network")

    def rule(self) -> Rule:
        """Return the settings, checked, for the reference and the kernels."""
        rule = self._rule()
        l1, l2 = _positive_or_none("l1", self.l1), _positive_or_none("l2", self.l2)
        over_sum = checks.flag("l2_over_sum", self.l2_over_sum) and l1 + l2 > 0
        clip = _positive_or_none("clip_norm", self.clip_norm)
        return rule._replace(l1=l1, l2=l2, over_sum=over_sum, clip=clip)

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
        Shortens the gradient to this norm, over all parameters, before the penalties' is added.
    l2_over_sum : bool, default False
        Add penalties to the sum of a batch's losses instead, like scikit-learn's `alpha`.
    l1 : float, default 0.0
        Adds l1 * sum(abs(W)) to the mean loss of a batch; biases have no penalty. The gradient is
        l1 * sign(W), and 0 at 0: small weights go back and forth about 0, by a step at most.

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
    l1: float = 0.0

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
    l2, clip_norm, l2_over_sum, l1 : as for `SGD`
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
    l1: float = 0.0

    def _rule(self) -> Rule:
        betas = checks.share("beta_1", self.beta_1), checks.share("beta_2", self.beta_2)
        epsilon = checks.positive_float("epsilon", self.epsilon)
        corrected = checks.flag("epsilon_corrected", self.epsilon_corrected)
        return Rule("adam", *betas, epsilon, corrected)


@dataclass(eq=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: weights shrink beside the step, not through the gradient.

        W -= learning_rate weight_decay W, and the step of `Adam`

    A penalty's gradient, as of `l2`, is divided by its running size, so that weights with large
    gradients decay less; here all decay alike. The loss has no part of it. Biases do not decay;
    PyTorch's do unless they are in a group of their own. Loshchilov and Hutter, *Decoupled Weight
    Decay Regularization*, 2019. Raises as `SGD` does.

    Parameters
    ----------
    weight_decay : float, default 0.01
    beta_1, beta_2, epsilon, l2, clip_norm, l2_over_sum, epsilon_corrected, l1 : as for `Adam`

    Examples
    --------
    >>> import fastbp
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> rule = fastbp.AdamW(weight_decay=0.1)
    >>> net.fit(X, y, epochs=5, batch_size=32, learning_rate=0.01, optimizer=rule).loss[-1] < 0.5
    True
    """

    weight_decay: float = 0.01

    def _rule(self) -> Rule:
        decay = _positive_or_none("weight_decay", self.weight_decay)
        return super()._rule()._replace(weight_decay=decay)


@dataclass(eq=False)
class RMSprop(Optimizer):
    """RMSprop: each step is the gradient, divided by its running size.

        v = rho v + (1 - rho) g**2;  W -= learning_rate g / (sqrt(v) + epsilon)

    This is PyTorch's form, where v starts at zero and is not corrected for it: the first steps are
    long. Tieleman and Hinton, *Lecture 6.5, rmsprop: Divide the gradient by a running average of
    its recent magnitude*, 2012. Raises as `SGD` does.

    Parameters
    ----------
    rho : float from 0 to below 1, default 0.99
        PyTorch's `alpha`.
    epsilon : float, default 1e-8
    l2, clip_norm, l2_over_sum, l1 : as for `SGD`

    Examples
    --------
    >>> import fastbp
    >>> X, y, *_ = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    >>> rule = fastbp.RMSprop(l1=1e-4)
    >>> net.fit(X, y, epochs=5, batch_size=32, learning_rate=0.01, optimizer=rule).loss[-1] < 0.5
    True
    """

    rho: float = 0.99
    epsilon: float = 1e-8
    l2: float = 0.0
    clip_norm: float | None = None
    l2_over_sum: bool = False
    l1: float = 0.0

    def _rule(self) -> Rule:
        rho = checks.share("rho", self.rho)
        epsilon = checks.positive_float("epsilon", self.epsilon)
        return Rule("rmsprop", second=rho, epsilon=epsilon)


# The names that `fit(optimizer=)` takes.
NAMES: dict[str, Callable[[], Optimizer]] = {
    "sgd": SGD,
    "momentum": lambda: SGD(momentum=0.9),
    "nesterov": lambda: SGD(momentum=0.9, nesterov=True),
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
}


def optimizer(value: Any) -> Optimizer:
    """Return an optimiser: a new one for a name, or the one given."""
    if isinstance(checks.instance("optimizer", value), Optimizer):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str) and value in NAMES:
        return NAMES[value]()
    known = f"{', '.join(NAMES)}, or an object such as fastbp.Adam(...)"
    raise ValueError(f"optimizer must be one of {known}; got {value!r}")
