"""The recipe: all options of `Network.fit`, checked once; and what is trained."""

import numbers
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import optimizers, schedules
from .._support import checks, split
from ..model import file as model_file
from ..reference.records import Memory, Rule
from . import class_weights
from .ranks import Ranks

Draw = Callable[[int], np.ndarray]  # returns the order of so many samples
Given = dict[str, Any]  # the options of `fit` as the user gave them

# Options that mean something beside another one alone: their default, the other, and its absence.
_NEEDS = {"sync_every": (1, "comm"), "checkpoint_every": (60.0, "checkpoint")}
VALIDATION = "validation_data[0]", "validation_data[1]"
_NOT_WITH_CHUNKS = ("sample_weight", "order", "checkpoint", "resume", "comm")


class Learner(NamedTuple):
    """What is trained, as a network hands it over."""

    net: Any  # what callbacks get
    config: Any  # model.config.Config
    backend: str
    engine: Any
    params: np.ndarray  # (layout.size,)
    rng: np.random.Generator
    alone: Any  # held while weights are written
    scaling: Any  # model.scaling.Scaling; None without, and where it is to be found
    keep_scaling: Any  # takes the one that is found


class Data(NamedTuple):
    """Samples and targets of all ranks; none of the values has been looked at."""

    n: int  # samples
    X: Any  # (n, n_in)
    y: np.ndarray  # (n,) or (n, n_out)
    weights: np.ndarray | None = None  # (n,)
    names: list[Any] | None = None  # of the columns of a table
    rows: np.ndarray | None = None  # int64, those to train on, where not all are

    @property
    def trained(self) -> int:
        """The number of samples to train on."""
        return self.n if self.rows is None else len(self.rows)


@dataclass(frozen=True)
class Recipe:
    """How to train; `Network.fit` says what the options mean."""

    data: Data | None
    chunks: Any  # in place of data
    validation: Data | None
    epochs: int
    batch_size: int
    schedule: schedules.Schedule
    shuffle: bool
    order: Draw | None
    optimizer: optimizers.Optimizer
    rule: Rule
    memory: Memory
    class_weight: Any  # see `class_weights.checked`
    callbacks: tuple[Any, ...]
    threads: int
    sync_every: int
    progress: bool
    verbose: bool
    checkpoint: Any
    checkpoint_every: float
    resume: Any


@np.errstate(all="ignore")
def checked(learner: Learner, ranks: Ranks, X: Any, y: Any, given: Given) -> Recipe:
    """Return the recipe for what `Network.fit` was given; the network is left as it is."""
    _refuse_what_does_not_apply(y, given)
    options = {name: check(name, given[name]) for check, names in _CHECKS.items() for name in names}
    data, chunks, validation, dtype = None, None, None, learner.params.dtype
    by_class = class_weights.checked(given["class_weight"], learner.config)
    if y is None:
        find = learner.config.scale is not None and learner.scaling is None
        chunks = _chunks(X, options["epochs"], find)
        batch_size = checks.positive_int("batch_size", given["batch_size"])
    else:
        data = _pair(learner, X, y, ("X", "y"))
        if (weights := given["sample_weight"]) is not None:
            checked_weights = checks.sample_weight("sample_weight", weights, data.n, dtype)
            data = data._replace(weights=checked_weights)
        if share := checks.share("validation_split", given["validation_split"]):
            data, validation = _divided(data, share)
        if by_class is not None:
            data = _weighted(learner, data, by_class)
        batch_size = ranks.batch_size(given["batch_size"], data.trained)
    if (pair := given["validation_data"]) is not None:
        validation = _pair(learner, *checks.pair("validation_data", pair), VALIDATION)
    schedule = schedules.schedule("learning_rate", given["learning_rate"], dtype)
    if y is None and schedules.by_step(schedule):
        raise TypeError(
            f"learning_rate {schedule!r:.200} changes from step to step, and needs X and y: how "
            "many steps an epoch of chunks has is not known before"
        )
    optimizer = optimizers.optimizer(given["optimizer"])
    frozen = _frozen(given["train_layers"], len(learner.config.sizes) - 1)
    return Recipe(
        data=data,
        chunks=chunks,
        validation=validation,
        batch_size=batch_size,
        schedule=schedule,
        optimizer=optimizer,
        rule=optimizer.rule()._replace(frozen=frozen),
        memory=optimizer.memory(learner.engine.layout, learner.params, frozen),
        class_weight=by_class,
        callbacks=checks.callbacks(given["callbacks"]),
        **options,
    )


def _refuse_what_does_not_apply(y: Any, given: Given) -> None:
    for name, (default, needed) in _NEEDS.items():
        if given[needed] is None and given[name] != default:
            raise ValueError(f"{name} does nothing without {needed}; got {name}={given[name]!r}")
    for name in _NOT_WITH_CHUNKS if y is None else ():
        if given[name] is not None:
            raise TypeError(f"{name} needs X and y: it does not apply to chunks")
    if y is None and isinstance(given["class_weight"], str):
        raise TypeError(
            "class_weight='balanced' needs X and y, whose classes it counts: for chunks pass a dict"
        )
    others = {"chunks": y is None, **{k: given[k] is not None for k in ("validation_data", "comm")}}
    if given["validation_split"] and (found := [name for name, there in others.items() if there]):
        advice = "divide the samples by datasets.hold_out, and pass validation_data"
        raise TypeError(f"validation_split does not apply with {found[0]}: {advice}")
    ordered = given["order"] is not None
    if ordered and given["comm"] is not None:
        raise TypeError("order does not apply with comm: the ranks draw an order of their own")
    if ordered and not (given["checkpoint"] is None and given["resume"] is None):
        raise ValueError("order does not apply with checkpoint or resume: its state is not kept")


def _path(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path; got {value!r}")
    if value is not None and name == "checkpoint":
        model_file.check_name(value)
    return value


def _pair(learner: Learner, X: Any, y: Any, names: tuple[str, str]) -> Data:
    columns, X = checks.column_names(X), checks.samples(X, learner.config.sizes[0], names[0])
    y = checks.numbers_array(names[1], y)
    if y.shape[:1] != (n := X.shape[0],):
        raise ValueError(f"{names[1]} must have one entry per sample, {n}; got shape {y.shape}")
    return Data(n, X, y, names=columns)


def _divided(data: Data, share: float) -> tuple[Data, Data]:
    """Return the samples to train on and a copy of those held out, as `datasets.hold_out` does."""
    if data.n < 2:
        raise ValueError(f"validation_split needs two samples or more; got {data.n}")
    mask = split.held_out(data.y, share)
    held = np.flatnonzero(mask)
    # Training samples stay where they lie: a memory map is not read.
    return data._replace(rows=np.flatnonzero(~mask)), Data(len(held), data.X[held], data.y[held])


def _frozen(train_layers: Any, count: int) -> tuple[int, ...]:
    """Return the layers, from 0 on, that are not to learn."""
    if train_layers is None:
        return ()
    if not isinstance(train_layers, (list, tuple, range, np.ndarray)):
        raise TypeError(f"train_layers must be a list such as [-1]; got {train_layers!r}")
    learning = set()
    for l in train_layers:
        if not checks.is_real(l, numbers.Integral) or not -count <= l < count:
            known = f"indices of the {count} layers, 0 to {count - 1}, or -1 for the last"
            raise ValueError(f"train_layers must hold {known}; got {l!r}")
        learning.add(int(l) % count)
    if not learning:
        raise ValueError("train_layers must name at least one layer; got none")
    return tuple(l for l in range(count) if l not in learning)


def _weighted(learner: Learner, data: Data, by_class: Any) -> Data:
    """Return the samples with their weights times those of their classes."""
    config, rows = learner.config, slice(None) if data.rows is None else data.rows
    kind = config.kind
    targets = checks.targets(data.y, data.n, config.sizes[-1], config.dtype, kind=kind)
    if isinstance(by_class, str):
        by_class = class_weights.balanced(targets, rows, config)
    weights = class_weights.by_sample(by_class, targets, config)
    if data.weights is not None:
        weights *= data.weights
    what = "class_weight" if data.weights is None else "class_weight times sample_weight"
    return data._replace(weights=checks.sample_weight(what, weights, data.n, config.dtype))


def _own_order(name: str, order: Any) -> Draw | None:
    if order is None:
        return None
    if not callable(order):
        raise TypeError(f"{name} must be a function of the number of samples; got {order!r}")
    return lambda n: checks.permutation(f"{name}(n)", order(n), n)


_CHECKS: dict[Callable[[str, Any], Any], tuple[str, ...]] = {
    checks.positive_int: ("epochs", "threads", "sync_every"),
    checks.flag: ("shuffle", "progress", "verbose"),
    checks.positive_float: ("checkpoint_every",),
    _path: ("checkpoint", "resume"),
    _own_order: ("order",),
}


def _chunks(chunks: Any, epochs: int, find_scaling: bool) -> Any:
    """Return an iterable of chunks that can be gone through once for each epoch, and before."""
    if hasattr(chunks, "__array__") or checks.is_sparse(chunks):
        raise TypeError("y is missing: only an iterable of chunks (X, y) goes without it")
    try:
        iterator = iter(chunks)
    except TypeError:
        raise TypeError(
            "X must be an array, with y, or an iterable of chunks (X, y), such as a list or an "
            f"object whose __iter__ yields them; got {chunks!r}"
        ) from None
    if iterator is chunks and (epochs > 1 or find_scaling):
        wanted = "pass an object whose __iter__ starts anew each time"
        got = f"got epochs={epochs}: {wanted}"
        if find_scaling:
            got = (
                "scale='standard' reads all chunks before the first epoch: pass the fitted pair, "
                f"scale=(mean, deviation), to Network, or {wanted}"
            )
        raise ValueError(f"an iterator of chunks can be read only once; {got}")
    return chunks
