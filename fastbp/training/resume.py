"""Training checkpoints: a file from which a training goes on as if it had never stopped.

It holds a `training.Mark`, the history of the epochs before, and facts about the training, so that
one with other settings or other data is refused.
"""

import copy
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._support import checks
from ..errors import ModelFileError
from ..history import NAMES, Best, History
from ..model import file as checkpoint
from ..model.layout import Layout
from ..rules import SLOTS, Rule
from .loop import Begun, Mark, remembering

Facts = dict[str, Any]
DAMAGED = (LookupError, TypeError, ValueError, OverflowError, AttributeError)


# -- facts -----------------------------------------------------------------------------------------


def facts(
    network: Facts, backend: str, rule: Rule, batch_size: int, shuffle: bool, schedule: Any,
    callbacks: Sequence[Any], data: Sequence[Any], validation: Any,
) -> Facts:  # fmt: skip
    """Return what a training and one that goes on from it must have in common."""
    return {
        "network": network, "backend": backend, "batch_size": batch_size, "shuffle": shuffle,
        "optimizer": rule._asdict(), "learning_rate": settings(schedule),
        "callbacks": [settings(callback) for callback in remembering(None, callbacks)],
        "data": digest(*data),
        "validation_data": None if validation is None else digest(validation[0], *validation[1]),
    }  # fmt: skip


def settings(thing: Any) -> dict[str, Any]:
    """Return the class of a schedule or callback, and what it was made with.

    Examples
    --------
    >>> from fastbp import schedules
    >>> settings(schedules.Step(0.8, every=2))
    {'class': 'Step', 'learning_rate': 0.8, 'every': 2, 'factor': 0.5}
    """
    found = {name: _setting(value) for name, value in vars(thing).items() if name[0] != "_"}
    known = {name: value for name, value in found.items() if value is not None}
    return {"class": type(thing).__name__, **known}


def _setting(value: Any) -> Any:
    if isinstance(value, Best):
        return {"monitor": value.monitor, "min_delta": value.min_delta}
    return value if isinstance(value, (bool, int, float, str)) else None


def digest(*arrays: Any) -> str:
    """Return a hash of arrays and sparse matrices: their kinds, shapes and values.

    Examples
    --------
    >>> digest(np.zeros(2)) == digest(np.zeros(2)) != digest(np.zeros((1, 2)))
    True
    """
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape} {array.dtype}".encode())
        for part in _parts(array):
            found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()


def _parts(array: Any) -> Iterator[np.ndarray]:
    """Yield the values, so many rows at a time that a copy costs no memory to speak of."""
    if checks.is_sparse(array):
        yield from (array.data, array.indices.astype(np.int64), array.indptr.astype(np.int64))
        return
    for first in range(0, len(array), checks.ROWS_AT_ONCE):
        yield array[first : first + checks.ROWS_AT_ONCE]


# -- write -----------------------------------------------------------------------------------------


class File:
    """Keeps marks in a file, the newest instead of the one before; a `training.Keeper`.

    Parameters
    ----------
    path : path-like
    every : float
        Seconds from one mark to the next, while training.
    layout : Layout
    facts : dict
        What JSON can hold.
    """

    def __init__(
        self, path: str | os.PathLike[str], every: float, layout: Layout, facts: Facts
    ) -> None:
        self.path, self.layout, self.facts = path, layout, facts
        self.every = checks.positive_float("checkpoint_every", every)
        self._next = 0.0

    def look(self, mark: Mark, history: History) -> None:
        """Keep the mark if it is time for it."""
        if time.monotonic() >= self._next:
            self.keep(mark, history)

    def keep(self, mark: Mark, history: History) -> None:
        """Keep the mark, and of the history as many epochs as it has done."""
        begun, (params, totals, slots, clock) = mark.begun, mark.arrays
        rows = [self.layout.to_vector(slot) for slot in slots]
        arrays = {
            "parameters": self.layout.to_vector(params), "totals": totals, "optimizer.clock": clock,
            "optimizer.slots": np.array(rows, params.dtype).reshape(
                len(slots), self.layout.num_parameters
            ),
        }  # fmt: skip
        for name in NAMES:
            arrays[f"history.{name}"] = np.array(getattr(history, name)[: begun.done], np.float64)
        for number, state in enumerate(begun.states):
            arrays |= {f"states.{number}.{name}": array for name, array in state.items()}
        config = {
            "facts": self.facts, "rng": begun.rng, "done": begun.done, "position": mark.position,
            "seconds": mark.seconds, "stopped": begun.stopped,
        }  # fmt: skip
        checkpoint.write(self.path, arrays, config, checkpoint.TRAINING)
        self._next = time.monotonic() + self.every


# -- read ------------------------------------------------------------------------------------------


def read(
    path: str | os.PathLike[str], layout: Layout, facts: Facts, n: int, rng: np.random.Generator,
    states: Sequence[Any],
) -> tuple[Mark, History]:  # fmt: skip
    """Return where the training of a file stands, and its history.

    Parameters
    ----------
    path : path-like
    layout : Layout
    facts : dict
        Those of the training that is to go on.
    n : int
        Number of samples.
    rng : Generator
        Of the kind whose state the file holds; left as it is.
    states : sequence
        What remembers: each is given what it has to remember.

    Raises
    ------
    FileNotFoundError
    ModelFileError
        If the file is damaged, or is no training checkpoint.
    ValueError
        If it is that of another training.
    """
    arrays, config = checkpoint.read(path, checkpoint.TRAINING)
    try:
        found = dict(config["facts"])
    except DAMAGED as error:
        raise _damaged(path, error) from error
    _compare(path, found, json.loads(json.dumps(facts)))
    try:
        return _mark(arrays, config, layout, n, rng, states), _history(arrays, config)
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path: str | os.PathLike[str], error: Exception) -> ModelFileError:
    return ModelFileError(f"{os.fspath(path)} is damaged: {error!r:.300}")


def _compare(path: str | os.PathLike[str], found: Facts, wanted: Facts) -> None:
    for name in sorted(found | wanted, key=lambda name: name in ("data", "validation_data")):
        if found.get(name) != wanted.get(name):
            said = f"{name:.40} {found.get(name)!r:.300}; here it is {wanted.get(name)!r}"
            if name in ("data", "validation_data"):
                said = f"other {name}"
            raise ValueError(
                f"resume: {os.fspath(path)} is of a training with {said}. Go on with what it was "
                "begun with, or begin anew without resume"
            )


def _mark(
    arrays: dict[str, np.ndarray], config: Facts, layout: Layout, n: int,
    rng: np.random.Generator, states: Sequence[Any],
) -> Mark:  # fmt: skip
    params, slots = _flat(arrays["parameters"], layout), arrays["optimizer.slots"]
    count = SLOTS[config["facts"]["optimizer"]["name"]]
    parts = {
        "totals": (arrays["totals"], (3,)), "optimizer.clock": (arrays["optimizer.clock"], (1,)),
        "optimizer.slots": (slots, (count, layout.num_parameters)),
    }  # fmt: skip
    for name, (array, shape) in parts.items():
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} must hold {shape} finite numbers")
    memory = np.array([_flat(row, layout) for row in slots], layout.dtype)
    kept = [_state(arrays, f"states.{number}.") for number in range(len(states))]
    for remembers, state in zip(states, kept, strict=True):
        remembers.set_state(state)
    copy.deepcopy(rng).bit_generator.state = config["rng"]
    done = _whole("done", config["done"], 2**53)
    position = _whole("position", config["position"], n - 1)
    if position % config["facts"]["batch_size"]:
        raise ValueError(f"position must be where a batch begins; found {position}")
    begun = Begun(done, config["rng"], kept, _text(config["stopped"]))
    flat = memory.reshape(count, layout.size)
    totals, clock = arrays["totals"], arrays["optimizer.clock"]
    seconds = checks.not_negative_float("seconds", config["seconds"])
    return Mark(begun, position, seconds, [params, totals, flat, clock])


def _flat(vector: np.ndarray, layout: Layout) -> np.ndarray:
    """Return parameters, or what an optimiser remembers of each, as they are stored."""
    if vector.shape != (layout.num_parameters,) or vector.dtype != layout.dtype:
        raise ValueError(f"expected {layout.num_parameters} parameters of {layout.dtype}")
    if not np.isfinite(vector).all():
        raise ValueError("parameters must be finite")
    flat = layout.zeros()
    layout.from_vector(vector, flat)
    return flat


def _state(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _whole(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} must be a whole number up to {most}; found {value!r:.40}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"stopped must be text; found {value!r:.40}")
    return value


def _history(arrays: dict[str, np.ndarray], config: Facts) -> History:
    done = config["done"]
    found = {name: arrays[f"history.{name}"] for name in NAMES}
    for name, series in found.items():
        if series.shape != (done,) and not (name.startswith("val_") and series.shape == (0,)):
            raise ValueError(f"history.{name} must have {done} entries")
    return History(**{name: series.tolist() for name, series in found.items()})
