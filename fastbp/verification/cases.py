"""Random networks with data, what the reference makes of them, and how far rounding carries it."""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import cycle, product
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .. import reference
from .._support import checks
from ..engines import get_backend
from ..functions import Activation, Loss
from ..model import choices
from ..model.layout import Layout
from ..reference import Model

BACKENDS = ("numpy", "numba")
DTYPES = ("float32", "float64")
PATHS = ("dense", "sparse", "narrow")
# All of these together: activations whose slopes follow from a, pairs (loss, output).
HIDDEN = tuple(reference.DERIVATIVES)
OUTPUTS = (
    *(("quadratic", output) for output in (*HIDDEN, "softmax")),
    ("cross-entropy", "softmax"), ("cross-entropy", "sigmoid"), ("poisson", "exp"),
)  # fmt: skip
# Others take turns: (loss, output, setting), below hidden layers of several kinds.
MORE_HIDDEN = tuple(name for name in reference.PRIMES if name not in HIDDEN)
TURNS = "leaky_relu", "tanh", "elu", "softplus", "relu", "silu", "gelu"
SETTINGS = {"huber": 0.3, "quantile": 0.9}
MORE_OUTPUTS = (
    *(
        (loss, output, SETTINGS.get(loss) if k % 2 else None)
        for loss in reference.TERMS
        for k, output in enumerate(reference.PRIMES)
        if (loss, output) not in OUTPUTS
    ),
    ("cross-entropy", "softmax", 0.1),
    ("cross-entropy", "sigmoid", 0.3),
)
WIDE = (300, 130, 17)  # several blocks of inputs and panels of columns where zeros are skipped
FLAT = (200, 13, 4)  # its weights lie output by output while it trains
ROUNDINGS = 8  # standard errors that two correct programs may be apart
KINK = 1e-4  # a ReLU nearer to zero might fall to either side by rounding
BENT = "relu", "leaky_relu"  # at zero
JUMPING = "absolute", "quantile"  # at a = y
# At most how much an error of a moves the slope that is computed from a, or one of z from z.
BENDS = {
    "sigmoid": 1, "tanh": 2, "relu": 0, "identity": 0,
    "leaky_relu": 0, "elu": 1, "softplus": 0.25, "silu": 0.5, "gelu": 0.8, "exp": 0, "softmax": 0,
}  # fmt: skip
OWN_BENDS = 2  # of the user's below
KEY = 2**63 + 12345  # of dropout

SLOW = get_backend("numpy")

Rng: TypeAlias = np.random.Generator
_Arrays: TypeAlias = Sequence[np.ndarray]
_Views: TypeAlias = tuple[_Arrays, _Arrays]  # weights and biases


class Scope(NamedTuple):
    """How much is compared."""

    widths: tuple[int, ...]  # of single layers
    batches: tuple[int, ...]
    networks: tuple[Any, ...]  # (sizes, batch) for every activation, loss and bias
    large: tuple[Any, ...]  # likewise, for a few: wide ones, and batches larger than the scratch
    both_targets: bool  # labels and real values for each network, instead of in turns
    # How much of what comes by address, dropout among it, by dtype, as each costs a compilation of
    # its own: nothing, networks with functions in turns, also operations, or all in `models`.
    by_address: dict[str, int]


_FEW = (((17, 7, 3), 6), ((5, 3, 2, 2), 1))
_LARGE = (((7, 5, 3), 1030), (WIDE, 20), (FLAT, 20))
QUICK = Scope((1, 7, 17, 64), (1, 6), _FEW, _LARGE, False, {"float32": 1, "float64": 0})
FULL = Scope(
    (1, 2, 7, 17, 64, 100), (1, 2, 6, 33),
    (*_FEW, ((1, 1, 1), 1), ((64, 100, 17), 33), ((100, 2), 7), ((7, 64, 1, 17, 100, 2), 9)),
    (*_LARGE, ((100, 17, 4), 2100), ((70_000, 2), 3)), True, dict.fromkeys(DTYPES, 3),
)  # fmt: skip


def _softsign(z: float) -> float:
    return z / (1.0 + abs(z))


def _softsign_slope(z: float) -> float:
    return 1.0 / (1.0 + abs(z)) ** 2


def _log_cosh(a: float, y: float) -> float:
    return abs(a - y) + math.log1p(math.exp(-2.0 * abs(a - y))) - math.log(2.0)


def _log_cosh_slope(a: float, y: float) -> float:
    return math.tanh(a - y)


@cache
def own() -> tuple[Activation, Loss]:
    """Return an activation and a loss as users make them."""
    return Activation(_softsign, _softsign_slope), Loss(_log_cosh, _log_cosh_slope)


def models(sizes: Sequence[int], by_address: int = 1) -> Iterator[Model]:
    """Yield the model for every activation, loss, output and bias; every third takes bytes.

    Of those whose functions come by address none (0); a half of the outputs for networks of any
    depth, below hidden layers in turns; or all, and each of these activations with each output (3).
    """
    scales, depth = cycle((1.0, 1 / 256, 1.0)), len(sizes) - 2
    turns, biases = cycle(TURNS), cycle((True, False))
    combined = product(HIDDEN, OUTPUTS, (True, False))
    found: list[tuple[list[Any], tuple[Any, ...], bool]]  # hidden layers, output, bias
    found = [([hidden] * depth, (*pair, None), bias) for hidden, pair, bias in combined]
    if by_address > 2:
        found += [
            ([hidden] * depth, (*pair, None), next(biases))
            for hidden, pair in product(MORE_HIDDEN, OUTPUTS)
        ]
    if by_address:
        more = MORE_OUTPUTS if by_address > 2 else MORE_OUTPUTS[depth % 2 :: 2]
        found += [([next(turns) for _ in range(depth)], output, next(biases)) for output in more]
        activation, own_loss = own()
        found += [
            ([activation] * depth, ("cross-entropy", "softmax", None), True),
            ([activation] * depth, (own_loss, activation, None), False),
        ]
    for hidden, (loss, output, setting), bias in found:
        # The softmax of a single output is constant: its gradient would consist of rounding.
        if sizes[-1] > 1 or output != "softmax":
            yield Model(tuple(sizes), (*hidden, output), loss, bias, next(scales), setting)


def with_dropout(sizes: Sequence[int], by_address: int = 1) -> Iterator[Model]:
    """Yield models whose training leaves out neurons: of some layers, and of all."""
    depth = len(sizes) - 2
    if depth and by_address:
        shares = (0.5, 0.0, 0.25)
        for names, output, loss in ((HIDDEN[1:], "softmax", "cross-entropy"),
                                    (MORE_HIDDEN[::-1], "identity", "huber")):  # fmt: skip
            hidden = [name for name, _ in zip(cycle(names), range(depth), strict=False)]
            dropout = tuple(share for share, _ in zip(cycle(shares), range(depth), strict=False))
            activations = (*hidden, output if sizes[-1] > 1 else "identity")
            loss = loss if sizes[-1] > 1 else "huber"
            yield Model(tuple(sizes), activations, loss, True, 1.0, None, dropout)


def rounding(
    model: Model, views: _Views, X: np.ndarray, y: np.ndarray, masks: reference.Masks = None
) -> dict[str, Any]:
    """Return the standard errors of outputs, loss and gradient, in units of the dtype's epsilon."""
    # Where terms cancel, two correct programs may differ by more than any fixed fraction of the
    # result: Higham, *Accuracy and Stability of Numerical Algorithms*, ch. 2.8 and 3.3. Every term
    # is rounded once. The variance v(x) of a quantity x passes through each operation by the square
    # of its derivative, and the operation adds the squares of its own terms:
    # v(W a + b) = W^2 (v(a) + a^2) + b^2, and so on, forward and backward, in float64.
    a, v_a, zs, v_zs = _forward(model, views, X, masks)
    y, batch = y.astype(np.float64), len(X)  # (batch, n_out), one-hot where there are labels
    delta, losses, slopes = _of_output(model, zs[-1], a[-1], y)
    v_loss = (delta**2 * v_zs[-1]).sum() / batch**2 + losses.mean() ** 2
    total = np.maximum(1, np.abs(y).sum(axis=1, keepdims=True))  # the factor of a in a sum(y) - y
    v_delta = (v_a[-1] + a[-1] ** 2 + y**2) * total**2
    v_delta += _bent(model.activations[-1], v_a[-1], v_zs[-1]) * slopes**2
    errors = {"outputs": np.sqrt(v_a[-1]), "loss": float(np.sqrt(v_loss))}
    for l in reversed(range(len(model.activations))):
        square, terms = delta**2, delta**2 + v_delta
        v_W = SLOW.weight_gradient(a[l] ** 2, terms) + SLOW.weight_gradient(v_a[l], square)
        errors[f"W{l + 1}"] = np.sqrt(v_W / batch)
        errors[f"b{l + 1}"] = np.sqrt(SLOW.bias_gradient(terms) / batch)
        if l:
            name, W_T = model.activations[l - 1], views[0][l].T.astype(np.float64)
            mask, no_bias = _mask(masks, l - 1), np.zeros(len(W_T))
            slope = _slope(name, zs[l - 1]) * mask
            back = SLOW.affine(delta, W_T, no_bias)
            v_back = SLOW.affine(terms, W_T**2, no_bias)
            v_delta = v_back * slope**2 + back**2 * _bent(name, v_a[l], v_zs[l - 1]) * mask**2
            delta = back * slope
    return errors


def _mask(masks: reference.Masks, l: int) -> Any:
    mask = masks[l] if masks and l < len(masks) else None
    return 1.0 if mask is None else mask.astype(np.float64)


def _bent(name: Any, v_a: np.ndarray, v_z: np.ndarray) -> Any:
    """Return the variance of a slope, from that of what it is computed from."""
    return BENDS.get(name, OWN_BENDS) ** 2 * ((v_a if name in HIDDEN else v_z) + 1)


def _of_output(model: Model, z: np.ndarray, a: np.ndarray, y: np.ndarray) -> _Arrays:
    """Return delta and losses, and dC/da where delta is made of it, else 0."""
    loss, activation = model.loss, model.activations[-1]
    delta, losses = np.empty_like(z), np.empty(len(z))
    reference.output_delta(loss, activation, z, y, a.copy(), delta, losses, model.setting)
    if isinstance(loss, str) and (loss not in reference.TERMS or activation == "softmax"):
        return delta, losses, np.zeros_like(z)
    terms = reference.TERMS[loss] if isinstance(loss, str) else loss.terms
    setting = reference.losses.setting_of(loss, model.setting)
    return delta, losses, np.asarray(terms(a, y, setting)[1])


def _forward(
    model: Model, views: _Views, X: np.ndarray, masks: reference.Masks = None
) -> tuple[_Arrays, _Arrays, _Arrays, _Arrays]:
    """Return activations and their variances, and z of each layer with its variance."""
    zs, v_zs, a = [], [], [X.astype(np.float64) * model.scale]
    v_a = [a[0] ** 2]
    for l, (W, b, name) in enumerate(zip(*views, model.activations, strict=True)):
        W, b = W.astype(np.float64), b.astype(np.float64)
        zs.append(SLOW.affine(a[-1], W, b))
        v_z = SLOW.affine(v_a[-1] + a[-1] ** 2, W**2, b**2)
        v_zs.append(v_z)
        a.append(np.empty_like(v_z))
        reference.activate(name, zs[-1], a[-1])
        a[-1] *= (mask := _mask(masks, l))
        if name == "softmax":
            from_z = v_z + (a[-1] ** 2 * v_z).sum(axis=1, keepdims=True) + 1
            v_a.append(a[-1] ** 2 * (from_z + 1))
        else:
            v_a.append((_slope(name, zs[-1]) * mask) ** 2 * v_z + a[-1] ** 2)
    return a, v_a, zs, v_zs


def _slope(name: Any, z: np.ndarray) -> np.ndarray:
    out = np.empty_like(z)
    # exp is its own slope
    reference.exp(z, out) if name == "exp" else reference.slope(name, z, out)
    return out


def named(weights: _Arrays, biases: _Arrays) -> dict[str, np.ndarray]:
    """Return the arrays of all layers by name: W1, W2, ..., b1, b2, ..."""
    parts = {"W": weights, "b": biases}
    return {f"{k}{l}": array for k, arrays in parts.items() for l, array in enumerate(arrays, 1)}


def words(model: Model) -> str:
    """Return what a model is, apart from its sizes."""
    *hidden, output = map(str, model.activations)
    found = [*dict.fromkeys(hidden), output, str(model.loss), f"bias {model.bias}"]
    more = {"setting": model.setting, "dropout": model.dropout}
    return ", ".join([*found, *(f"{name} {value}" for name, value in more.items() if value)])


class Case:
    """A random network with data, as the engines take it."""

    def __init__(self, rng: Rng, model: Model, dtype: str, batch: int, labels: bool) -> None:
        self.model, self.layout = model, Layout(model.sizes, dtype, model.bias)
        self.dtype, self.batch, self.params = dtype, batch, self.layout.zeros()
        views, n_out = self.layout.views(self.params), model.sizes[-1]
        for W, b in zip(*views, strict=True):
            W[...] = rng.standard_normal(W.shape) / np.sqrt(W.shape[1])
            b[...] = rng.standard_normal(b.shape) / 2 if model.bias else 0
        y = rng.integers(n_out, size=batch) if labels and n_out > 1 else rng.random((batch, n_out))
        outputs = choices.kind(model.loss, model.activations[-1])
        self.targets = checks.targets(y, batch, n_out, dtype, kind=outputs)
        rows = self.targets.rows(slice(None), n_out)
        self.masks = reference.masks(model, KEY, np.arange(batch), self.layout.dtype)
        self.X = self._inputs(rng, rows)
        self.engines = {name: get_backend(name).engine(model, self.layout) for name in BACKENDS}
        self.both = self.slow, self.fast = [self.engines[name] for name in BACKENDS]
        if self.masks:
            self._with_masks()
        else:
            self.grads, self.loss, _ = self.slow.gradient(self.params, self.X, self.targets)
            self.right = self.slow.evaluate(self.params, self.X, self.targets)[1]
        # What rounding explains.
        unit = ROUNDINGS * np.finfo(dtype).eps
        errors = rounding(model, views, self.X, rows, self.masks)
        self.slack = {name: unit * error for name, error in errors.items()}
        self.where = f"{'-'.join(map(str, model.sizes))}, {words(model)}, batch {batch}"

    def _with_masks(self) -> None:
        """Set gradient, loss and right classes to those with neurons left out."""
        with self.trainer("numpy", self.params, shared=True) as trainer:
            trainer.part(np.arange(self.batch), 0, self.batch, 1 / self.batch)
            self.grads, totals = np.array(trainer.grads), np.array(trainer.tail)
        self.loss, self.right = totals[0] / self.batch, totals[1]

    def _inputs(self, rng: Rng, y: np.ndarray) -> np.ndarray:
        """Return random inputs, some zero, none of which brings a function near its kink."""
        model, dtype = self.model, np.uint8 if self.model.scale != 1 else self.dtype
        bent = [l for l, name in enumerate(model.activations) if name in BENT]

        def draw(rows: int) -> np.ndarray:
            nonzero = rng.random((rows, model.sizes[0])) < 0.4
            return (nonzero * rng.standard_normal(nonzero.shape) / model.scale).astype(dtype)

        X = draw(self.batch)
        for _ in range(100 if bent or model.loss in JUMPING else 0):
            a, _, zs, _ = _forward(model, self.layout.views(self.params), X, self.masks)
            rests = [zs[l] for l in bent] + [a[-1] - y] * (model.loss in JUMPING)
            near = np.any([((np.abs(z) < KINK) & (z != 0)).any(axis=1) for z in rests], axis=0)
            if not near.any():
                break
            X[near] = draw(int(near.sum()))
        return X

    def parts(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays of a buffer that are learnt, by name."""
        weights, biases = self.layout.views(flat)
        return named(weights, biases if self.model.bias else ())

    def padding(self, flat: np.ndarray) -> np.ndarray:
        """Return a copy of a buffer, with zeros for all that is learnt."""
        flat = flat.copy()
        for part in self.parts(flat).values():
            part[...] = 0
        return flat

    def copy(self) -> np.ndarray:
        """Return a copy of the parameters, aligned."""
        params = self.layout.zeros()
        params[:] = self.params
        return params

    def rate(self) -> float:
        """Return a learning rate, a power of two, whose step is as large as the weights."""
        step = np.abs(self.grads).max()
        return 2.0 ** round(np.log2(np.abs(self.params).max() / step)) if step else 1.0

    def trainer(self, backend: str, params: np.ndarray, size: int = 0, **options: Any) -> Any:
        """Return a trainer of `params` on the data of this case; by default, in one batch."""
        if backend == "numpy":
            options.pop("path", None)
        args = params, self.X, self.targets, size or self.batch
        trainer = self.engines[backend].trainer(*args, **options)
        if self.masks:
            trainer.draw_masks(KEY)
        return trainer
