"""What is learnt from data, classes or numbers; the network for it, and how well it predicts.

A regression is trained on (y - mean) / deviation, so that learning rates do not depend on the unit
of y. Its output layer is put back into that unit before the network is saved: for an identity
output, exactly but for rounding.
"""

import copy
import os
import reprlib
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import callbacks, datasets
from .._support import checks
from ..datasets.columns import CLASSIFICATION, REGRESSION
from ..engines import get_backend
from ..history import History
from ..model.config import Config
from ..network import Network, from_arrays
from ..plots import metrics
from . import defaults, values
from .defaults import IMAGES, TABLE

# So many columns of bytes are pixels, if at least half of them come near the largest value. Columns
# of other numbers have ranges of their own.
PIXELS = 64
_OF = {CLASSIFICATION: "classes", REGRESSION: "numbers"}


def kind(data: datasets.Dataset) -> str:
    """Return whether inputs are scaled together, as pixels are, or each column by itself."""
    X = data.X_train
    if "columns" not in data.notes:
        return IMAGES
    if X.dtype != np.uint8 or X.shape[1] < PIXELS:
        return TABLE
    return IMAGES if np.mean(X.max(axis=0) >= X.max() / 2) >= 0.5 else TABLE


def is_regression(data: datasets.Dataset) -> bool:
    """Return whether numbers are to be predicted."""
    return bool(data.notes.get("task") == REGRESSION)


def of_network(net: Network) -> str:
    """Return the task of a network that may not remember it."""
    one_number = net.sizes[-1] == 1 and metrics.predicts_numbers(net)
    return str(net.notes.get("task", REGRESSION if one_number else CLASSIFICATION))


def prepared(data: datasets.Dataset) -> datasets.Dataset:
    """Return data of which whole numbers in a table are floats: of bytes no mean is subtracted."""
    if kind(data) == IMAGES or data.X_train.dtype.kind == "f":
        return data
    X, y, X_test, y_test = data
    found = datasets.Dataset(X.astype(np.float64), y, X_test.astype(np.float64), y_test)
    found.notes = data.notes
    return found


def settle(args: Namespace, data: datasets.Dataset) -> None:
    """Set the options that were not given, as suits the data."""
    regression = is_regression(data)
    if regression and getattr(args, "class_weight", None):
        advice = f"leave it out, or pass --task {CLASSIFICATION}"
        raise ValueError(f"--class-weight is for classes, and this is a regression: {advice}")
    how = TABLE if regression else kind(data)  # also a regression of images is learnt by Adam
    defaults.settle(args, how, REGRESSION if regression else CLASSIFICATION)


def network(args: Namespace, data: datasets.Dataset, input_scale: float) -> Network:
    """Return a new network for the data, as the options say; `input_scale` is of images."""
    regression, output = is_regression(data), None
    if regression:
        _check_digits(data, args.dtype)
        if args.loss == "cross-entropy":
            advice = f"leave out --loss, or pass --task {CLASSIFICATION}"
            raise ValueError(f"--loss cross-entropy is for classes; for a regression {advice}")
        output = None if args.loss == "poisson" else "identity"
    n_out = 1 if regression else int(max(data.y_train.max(), data.y_test.max())) + 1
    scale: dict[str, Any] = {"input_scale": input_scale}
    if kind(data) == TABLE:
        scale = {"scale": "standard"}
    net = Network(
        [data.X_train.shape[1], *args.hidden, n_out], activation=args.activation, output=output,
        loss=loss(args.loss, args.label_smoothing), dropout=args.dropout, bias=args.bias,
        dtype=args.dtype, backend=args.backend, init=args.init, seed=args.seed, **scale,
    )  # fmt: skip
    known = {} if regression else {"classes": list(range(n_out))}
    net.notes = {**known, **data.notes}
    return net


def loss(text: str, label_smoothing: float = 0.0) -> Any:
    """Return the loss that the options name, with its setting if it has one."""
    chosen = values.loss(text)
    settings = list(chosen.settings.values())
    if label_smoothing:
        if chosen.name != "cross-entropy":
            raise ValueError(f"--label-smoothing is of --loss cross-entropy; --loss is {chosen}")
        settings = [label_smoothing]
    if not settings:
        return chosen.name
    from .. import losses

    return losses.KINDS[chosen.name](settings[0])


def _check_digits(data: datasets.Dataset, dtype: str) -> None:
    """Raise for targets that outputs of this dtype cannot tell apart."""
    y, column = data.y_train, f"column {data.notes['label']!r}"
    step = float(np.spacing(np.abs(checks.finite(column, y, dtype)).max().astype(dtype)))
    if step > y.std() / 100:
        found = f"{column} holds numbers around {y.mean():.4g} that differ by {y.std():.4g}"
        raise ValueError(f"{found}: {dtype} rounds them to {step:.2g}; pass --dtype float64")


class Unit(NamedTuple):
    """The unit in which targets are trained: (y - mean) / deviation."""

    mean: float = 0.0
    deviation: float = 1.0

    def of(self, y: np.ndarray) -> np.ndarray:
        """Return targets in this unit."""
        return y if self == Unit() else (y - self.mean) / self.deviation

    def restore(self, net: Network) -> Network:
        """Return a network that predicts in the unit of y as `net`, which it may be, does here."""
        if self == Unit():
            return net
        if net.config["loss"] == "huber" or hasattr(net.config["loss"], "width"):
            net = self._of_huber(net)
        net.weights[-1][...] *= self.deviation
        for b in net.biases[-1:]:
            b[...] = b * self.deviation + self.mean
        return net

    def _of_huber(self, net: Network) -> Network:
        """Return a copy whose loss has its width, a number of this unit, in that of y."""
        from ..losses import Huber

        width = self.deviation * getattr(net.config["loss"], "width", Huber.width)
        config = Config.checked(**{**net.config, "loss": Huber(width)})
        found = from_arrays(config, (*net.weights, *net.biases), net.backend, pair=net.scaling)
        found.notes = net.notes
        return found


def unit(net: Network, y: np.ndarray) -> Unit:
    """Return the unit for training targets; the network remembers it, and their mean."""
    if y.dtype.kind != "f":
        return Unit()
    mean, found = float(y.mean()), Unit()
    if net.config["output"] == "identity":  # the output layer can put it back, the mean by a bias
        center = mean if net.config["bias"] else 0.0
        found = Unit(center, float(np.sqrt(np.mean((y - center) ** 2))) or 1.0)
    net.notes["target"] = {"mean": mean, "deviation": found.deviation}
    return found


class Checkpoint(callbacks.Checkpoint):
    """Saves networks that predict in the unit of y, whatever the unit in which they are trained."""

    def __init__(self, path: str | os.PathLike[str], every: int, unit: Unit) -> None:
        super().__init__(path, every)
        self.unit = unit

    def on_epoch_end(self, net: Network, history: History) -> None:
        """Save the network if this epoch is due."""
        if self.unit != Unit() and len(history) % self.every == 0:
            net = self.unit.restore(copy.deepcopy(net))
        super().on_epoch_end(net, history)


def introduced(net: Network, data: datasets.Dataset, unit: Unit, said: bool) -> Iterator[str]:
    """Yield lines on what is made of a table; `said` is whether the user named the task."""
    notes = data.notes
    if "columns" not in notes:
        return
    label, classes = notes["label"], notes.get("classes")
    if classes is not None:
        found = f"{len(classes):,} classes, {reprlib.repr(classes)[1:-1]}"
        other = REGRESSION if len(classes) > 2 and isinstance(classes[0], int) else ""
    else:
        y = np.concatenate([data.y_train, data.y_test])
        found = f"{len(np.unique(y)):,} different numbers, {y.min():.10g} to {y.max():.10g}"
        other = CLASSIFICATION if (y == np.rint(y)).all() else ""
    advice = f" (for {_OF[other]} pass --task {other})" if other and not said else ""
    yield f"{notes['task']}: {label!r} holds {found}{advice}"
    if unit != Unit():
        unscaled = f"({label} {'+-'[unit.mean > 0]} {abs(unit.mean):.5g})" if unit.mean else label
        alone = _of_mean(net, unit.of(data.y_train))
        yield f"loss: of {unscaled} / {unit.deviation:.5g}; that of the mean alone is {alone:.3g}"
    yield f"inputs: {_inputs(net, data)}"


def _of_mean(net: Network, y: np.ndarray) -> float:
    """Return the loss of a network of numbers that answers 0, the mean, to everything."""
    outputs, y = np.zeros((len(y), 1)), y.reshape(-1, 1)
    of, losses = net.config["loss"], get_backend("numpy").output_delta
    return float(losses(of, "identity", outputs, y)[2].mean())


def _inputs(net: Network, data: datasets.Dataset) -> str:
    X, names = data.X_train, data.notes["columns"]
    if net.config["scale"] is None:
        scale = 1 / net.config["input_scale"]
        return f"{len(names):,} columns of bytes, taken for pixels: all scaled by 1/{scale:g}"
    columns = f"{len(names):,} columns, each" if len(names) > 1 else "1 column,"
    words = f"{columns} standardised by its mean and deviation"
    constant = [
        name for name, low, high in zip(names, X.min(0), X.max(0), strict=True) if low == high
    ]
    return f"{words}; constant, so ignored: {reprlib.repr(constant)[1:-1]}" if constant else words


def scores(net: Network, X: np.ndarray, y: np.ndarray) -> tuple[dict[str, Any], str]:
    """Return how well a network predicts test samples, beside a baseline: facts, and a line."""
    n = len(y)
    if y.dtype.kind == "f":
        mean = metrics.trained_mean(net)
        found = metrics.regression(net, X, y, mean)
        facts = {
            "test_r2": found.r2, "test_mae": found.mae, "test_rmse": found.rmse,
            "baseline_mae": found.baseline_mae,
        }  # fmt: skip
        if Config.checked(**net.config).loss_name == "quantile":
            below, line = _of_quantile(net, X, y)
            return facts | below, line
        of = "test targets" if mean is None else "training targets"
        return facts, (
            f"test R2 {found.r2:.4f}, MAE {found.mae:.4g}; mean of the {of}: MAE "
            f"{found.baseline_mae:.4g}"
        )
    correct, counts = net.evaluate(X, y), np.bincount(y)
    facts = {
        "test_accuracy": correct / n,
        "correct": correct,
        "baseline_accuracy": counts.max() / n,
    }
    names = net.notes.get("classes") or range(len(counts))
    return facts, (
        f"test accuracy {correct / n:.4f} ({correct:,} of {n:,}); majority class "
        f"{names[counts.argmax()]!r}: {counts.max() / n:.4f}"
    )


def _of_quantile(net: Network, X: np.ndarray, y: np.ndarray) -> tuple[dict[str, Any], str]:
    """Return how many targets lie below the predictions, and the loss beside a constant's."""
    q = getattr(net.config["loss"], "q", 0.5)
    below, loss = float(np.mean(y.ravel() < net.predict(X).ravel())), net.loss(X, y)
    rest = y - np.quantile(y, q)
    base = float(np.maximum(q * rest, (q - 1) * rest).mean())
    facts = {"test_below": below, "test_loss": loss, "baseline_loss": base}
    return facts, (
        f"test targets below the predictions {below:.4f}, for q = {q:g}; loss {loss:.4g}; "
        f"quantile of the test targets: loss {base:.4g}"
    )


def facts(net: Network) -> dict[str, Any]:
    """Return what --json says of a training beside its scores: the unit of a regression's loss."""
    return {name: net.notes[name] for name in ("task", "target") if name in net.notes}
