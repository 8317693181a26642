"""The configuration of a network, a frozen record, and how its parameters start."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np

from .. import reference
from .._support import checks
from .._support.texts import said
from . import choices, scaling

# The names that users may give.
OUTPUT, HIDDEN, LOSSES = choices.OUTPUT, choices.HIDDEN, choices.LOSSES
outputs = choices.outputs

# What files do not say of networks without it.
LATER = {"scale": None, "dropout": 0.0}


@dataclass(frozen=True, slots=True)
class Config:
    """The constructor's arguments of `Network`, with `output` decided and `dtype` as a name.

    Each in one form: lists whose entries are equal are that entry, losses with settings as by
    default are their names.
    """

    sizes: tuple[int, ...]
    activation: Any  # a name or an `Activation`, or a tuple with one for each hidden layer
    output: Any
    loss: Any  # a name, an object of `fastbp.losses` or a `Loss`
    bias: bool
    dtype: str
    input_scale: float
    scale: str | None = None  # "standard": the pair of vectors is no part of it
    dropout: Any = 0.0  # or a tuple with one for each hidden layer

    @classmethod
    def checked(
        cls, sizes: Any, activation: Any, output: Any, loss: Any, bias: Any, dtype: Any,
        input_scale: Any, scale: Any = None, dropout: Any = 0.0,
    ) -> "Config":  # fmt: skip
        """Return the configuration that these arguments of `Network` describe."""
        widths = checks.layer_sizes(sizes)
        activation = choices.hidden(activation, len(widths) - 2)
        loss = choices.loss(loss)
        output = choices.output(output, loss, activation)
        dropout = choices.dropout(dropout, len(widths) - 2)
        if output == "softmax" and widths[-1] == 1:
            raise ValueError(
                "output 'softmax' needs two outputs or more: a single one is always 1. For two "
                f'classes pass output="sigmoid"; got sizes {list(widths)}'
            )
        dtype = checks.dtype_name(dtype)
        factor = checks.positive_float("input_scale", input_scale, dtype)
        if scale is not None:
            if scale != scaling.NAME:
                raise ValueError(f"scale must be {scaling.WANTED}; got {said(repr(scale), 80)}")
            if factor != 1:
                raise ValueError(
                    f"scale and input_scale exclude each other: got input_scale={factor:g}. "
                    "Leave out input_scale"
                )
        bias = checks.flag("bias", bias)
        return cls(widths, activation, output, loss, bias, dtype, factor, scale, dropout)

    @property
    def hidden(self) -> tuple[Any, ...]:
        """The activation of each hidden layer, a name or an `Activation`."""
        return choices.for_each(self.activation, len(self.sizes) - 2)

    @property
    def rates(self) -> tuple[float, ...]:
        """The share of neurons dropped from each hidden layer; empty without dropout."""
        return choices.for_each(self.dropout, len(self.sizes) - 2) if self.dropout else ()

    @property
    def loss_name(self) -> str:
        """The name of the loss, whatever its settings; "own" if it is the user's."""
        return choices.loss_name(self.loss)

    @property
    def setting(self) -> float | None:
        """What the loss is told, see `reference.SETTINGS`; None where it is as by default."""
        return choices.setting(self.loss)

    @property
    def own(self) -> tuple[Any, ...]:
        """The functions of the user's: each once, the activations first."""
        found = (f for f in (*self.hidden, self.output, self.loss) if choices.is_own(f))
        return tuple(dict.fromkeys(found))

    @property
    def kind(self) -> tuple[str, str]:
        """The names of loss and output, "own" for one of the user's."""
        return choices.kind(self.loss, self.output)

    def as_dict(self) -> dict[str, Any]:
        """Return the arguments of `Network`, with lists for tuples."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values}

    def in_file(self) -> dict[str, Any]:
        """Return the arguments as files keep them: of what is not used as older ones did."""
        found = choices.in_file(self.as_dict())
        return {k: v for k, v in found.items() if k not in LATER or v != LATER[k]}

    def model(self) -> reference.Model:
        """Return the description that the reference and the engines take."""
        activations = *self.hidden, self.output
        loss = self.loss if self.loss_name == choices.OWN else self.loss_name
        return reference.Model(
            self.sizes, activations, loss, self.bias, self.input_scale, self.setting, self.rates
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of weights, then biases, by their names in a file."""
        weights = {f"layers.{l}.weight": (m, n) for l, (n, m) in enumerate(pairwise(self.sizes))}
        biases = {f"layers.{l}.bias": (n,) for l, n in enumerate(self.sizes[1:]) if self.bias}
        return {**weights, **biases}


# Fills the weights and biases of a layer.
Initializer = Callable[[np.random.Generator, np.ndarray, np.ndarray], None]


def _filler(draw: Callable[[np.random.Generator, Any], np.ndarray], biases: bool) -> Initializer:
    def fill(rng: np.random.Generator, W: np.ndarray, b: np.ndarray) -> None:
        W[...] = draw(rng, W.shape)
        if biases:
            b[...] = draw(rng, b.shape)

    return fill


INITS = {
    "lecun_normal": _filler(lambda rng, n: rng.standard_normal(n) / np.sqrt(n[1]), False),
    "he": _filler(lambda rng, n: rng.standard_normal(n) * np.sqrt(2 / n[1]), False),
    "glorot": _filler(lambda rng, n: rng.uniform(-1, 1, n) * np.sqrt(6 / sum(n)), False),
    "normal": _filler(lambda rng, n: rng.standard_normal(n), True),
    "uniform": _filler(lambda rng, n: rng.uniform(-1, 1, n), True),
}


# Functions that let about half through: with weights larger by the root of 2 sizes stay alike.
_HALVING = {"relu", "leaky_relu", "elu", "softplus", "silu", "gelu"}


def initializers(init: Any, config: Config) -> list[Initializer]:
    """Return what fills each layer: all alike, each by its entry in a list or its activation."""
    layers = list(pairwise(config.sizes))
    if init is None:
        start = [name in _HALVING for name in config.hidden]
        return [INITS["he" if halving else "lecun_normal"] for halving in (*start, False)]
    if not isinstance(init, (list, tuple)):
        return [_drawn("init", init, config.dtype)] * len(layers)
    if len(init) != len(layers):
        wanted = f"init must have an entry for each of the {len(layers)} layers"
        raise ValueError(f"{wanted}; got {len(init)}: [(W, b)] for one layer from arrays")
    return [
        _given(f"init[{l}]", one, (n_out, n_in), config)
        if isinstance(one, (list, tuple)) and len(one) == 2
        else _drawn(f"init[{l}]", one, config.dtype)
        for l, (one, (n_in, n_out)) in enumerate(zip(init, layers, strict=True))
    ]


def _drawn(name: str, init: Any, dtype: str) -> Initializer:
    """Return what draws a layer, for a name or a standard deviation."""
    known = f"one of {', '.join(INITS)}, or a number"
    if isinstance(init, str):
        if init not in INITS:
            raise ValueError(f"{name} must be {known}; got {init!r}")
        return INITS[init]
    if not checks.is_real(init):
        wanted = f"{known}, or a list with one of these or a pair (W, b) for each layer"
        raise TypeError(f"init must be {wanted}; got {said(repr(init), 60)} as {name}")
    std = checks.positive_float(name, init, dtype)
    return _filler(lambda rng, n: std * rng.standard_normal(n), False)


def _given(name: str, pair: Any, shape: tuple[int, ...], config: Config) -> Initializer:
    """Return what copies W and b into a layer, checked; b may be None for zeros."""
    W, b = pair
    if b is not None and not config.bias:
        raise ValueError(f"{name}[1] must be None: the network has no biases")
    weights = _parameters(f"{name}[0]", W, shape, config.dtype)
    biases = 0 if b is None else _parameters(f"{name}[1]", b, shape[:1], config.dtype)

    def fill(rng: np.random.Generator, W: np.ndarray, b: np.ndarray) -> None:
        W[...], b[...] = weights, biases

    return fill


def _parameters(name: str, value: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    array = checks.numbers_array(name, value)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, outputs first; got {array.shape}")
    return checks.finite(name, array, dtype)
