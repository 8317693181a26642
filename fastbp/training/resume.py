"""Training checkpoints: files from which a training goes on as if it had never stopped."""

import copy
import hashlib
import json
import math
import os
import time
from itertools import chain
from typing import Any

import numpy as np

from .._support import checks
from ..errors import ModelFileError
from ..history import NAMES, History
from ..model import file as model_file
from ..model.config import LATER
from ..model.layout import Layout
from ..model.scaling import Scaling, frozen
from ..reference.records import PLAIN, SLOTS, Rule
from . import state
from .loop import Loop
from .ranks import Ranks
from .recipe import Learner, Recipe
from .settings import settings

Facts = dict[str, Any]
DIGESTS = "functions", "data", "validation_data"  # what is compared by digests, after the rest


def prepare(loop: Loop, ranks: Ranks, validation: Any) -> tuple[state.Snapshot, History] | None:
    """Let the loop keep its state in the recipe's file; return what it is to go on from, if any."""
    recipe = loop.recipe
    if recipe.checkpoint is None and recipe.resume is None:
        return None
    data = _data_digest(ranks, loop.source)  # all ranks look at their samples

    def opened() -> tuple[state.Snapshot, History] | None:
        facts = _facts(loop, ranks, data, validation)
        if recipe.checkpoint is not None:
            loop.own.append(KeptInFile(loop, facts))
        return None if recipe.resume is None else read(os.fspath(recipe.resume), loop, facts)

    return ranks.call_first(opened)  # type: ignore[no-any-return]


def with_its_scaling(learner: Learner, ranks: Ranks, recipe: Recipe) -> Learner:
    """Return the learner with the scaling of the training that it resumes, if there is one."""
    path = recipe.resume
    if path is None or learner.config.scale is None:
        return learner

    def read() -> Scaling | None:  # `read` below looks at the rest
        arrays, _ = model_file.read(path, model_file.TRAINING)
        return model_file.take_scaling(path, arrays, learner.config.sizes[0])

    found = ranks.call_first(read)
    return learner if found is None else learner._replace(scaling=frozen(*found))


def _facts(loop: Loop, ranks: Ranks, data: str, validation: Any) -> Facts:
    learner, recipe = loop.learner, loop.recipe
    callbacks = state.remembering(recipe.callbacks)
    facts = {
        "network": learner.config.in_file(), "backend": learner.backend,
        "batch_size": recipe.batch_size, "shuffle": recipe.shuffle,
        "optimizer": _options(recipe.rule),
        "learning_rate": settings(recipe.schedule, "learning_rate", strict=True),
        "callbacks": [settings(one, type(one).__name__, strict=True) for one in callbacks],
        "data": data, "validation_data": None,
    }  # fmt: skip
    # Older files say nothing of these.
    if own := learner.config.own:
        facts["functions"] = [_code_digest(function) for function in own]
    if (weight := recipe.class_weight) is not None:
        facts["class_weight"] = weight if isinstance(weight, str) else weight.tolist()
    if frozen := recipe.rule.frozen:
        count = len(learner.config.sizes) - 1
        facts["train_layers"] = [l for l in range(count) if l not in frozen]
    if ranks.alone:
        if validation is not None:
            facts["validation_data"] = state.digest(validation[0], *validation[1].arrays)
        return facts
    facts |= {"order": "by stretches", "sync_every": recipe.sync_every}
    if recipe.sync_every > 1:  # how many take steps by themselves is part of the training
        facts["ranks"] = ranks.size
    if recipe.validation is not None:
        facts["validation_data"] = state.digest(recipe.validation.X, recipe.validation.y)[:12]
    return facts


def _code_digest(function: Any) -> str | None:
    """Return a digest of what a function of the user's does; None if nothing tells it."""
    from ..reference.own_code import key

    text = key(*(role.call for role in function.roles))
    return text and hashlib.sha256(text.encode()).hexdigest()


def _options(rule: Rule) -> Facts:
    """Return the settings of an optimiser; frozen layers are one of the training."""
    return {name: value for name, value in rule._asdict().items() if name != "frozen"}


def _data_digest(ranks: Ranks, source: Any) -> str:
    # Of several ranks it is one of the digests of strips: the same for any number of ranks.
    arrays = source.X, *source.targets.arrays
    if ranks.alone:
        return state.digest(*arrays)
    found = [
        state.digest(*(array[low:high] if array.shape[0] else array for array in arrays))
        for low, high in source.shard.strips()
    ]
    return hashlib.sha256("".join(chain(*ranks.gather(found))).encode()).hexdigest()


class KeptInFile:
    """The callback that keeps the newest snapshot in a file, with history, settings and digests."""

    def __init__(self, loop: Loop, facts: Facts) -> None:
        self._loop, self._facts, self._next = loop, facts, -math.inf  # when it is time again

    def on_slice_end(self, net: Any, history: History) -> None:
        """Keep a snapshot if it is time for it."""
        if time.monotonic() >= self._next:
            self.keep(net, history)

    on_epoch_begin = on_slice_end

    def keep(self, net: Any, history: History) -> None:
        """Keep the newest snapshot."""
        snapshot, layout = self._loop.slices.snapshot, self._loop.learner.engine.layout
        if (start := snapshot.start) is None:
            return  # interrupted before the first snapshot: nothing was learned
        params, totals, slots, clock = snapshot.arrays
        model_file.check_finite(*layout.views(params))
        rows = [layout.to_vector(slot) for slot in slots]
        arrays = {
            "parameters": layout.to_vector(params), "totals": totals, "optimizer.clock": clock,
            "optimizer.slots": np.array(rows, params.dtype).reshape(-1, layout.num_parameters),
        }  # fmt: skip
        for name in NAMES:
            arrays[f"history.{name}"] = np.array(getattr(history, name)[: start.done], np.float64)
        arrays |= state.numbered(start.states, "states.")
        arrays |= model_file.scaling_arrays(self._loop.source.scaling)
        config = {
            "facts": self._facts, "rng": start.rng, "done": start.done,
            "position": snapshot.position, "seconds": snapshot.seconds,
            "stopped": str(start.stopped or ""),
        }  # fmt: skip
        recipe = self._loop.recipe
        version = model_file.version_of(self._loop.learner.config)
        model_file.write(recipe.checkpoint, arrays, config, model_file.TRAINING, version)
        self._next = time.monotonic() + recipe.checkpoint_every

    on_interrupt = on_fit_end = keep


def read(path: str, loop: Loop, facts: Facts) -> tuple[state.Snapshot, History]:
    """Return where the training of a file stands, and its history, for a loop to go on from."""
    arrays, config = model_file.read(path, model_file.TRAINING)
    found, wanted = config.get("facts"), json.loads(json.dumps(facts))
    if not isinstance(found, dict):
        raise ModelFileError(f"{path} is damaged: it does not say what was trained")
    if "ranks" not in found:  # a file of fastbp 0.2
        wanted.pop("ranks", None)
    if isinstance(rule := found.get("optimizer"), dict):  # in 0.2 it had fewer settings
        found["optimizer"] = _options(PLAIN) | rule
    found, wanted = _by_name(found), _by_name(wanted)
    for name in sorted(found | wanted, key=lambda name: name in DIGESTS):
        if found.get(name) != wanted.get(name):
            both = f"{name:.40} {found.get(name)!r:.300}; here it is {wanted.get(name)!r}"
            other = f"other {name}" if name in DIGESTS else both
            raise ValueError(
                f"resume: {path} is of a training with {other}. Go on with what it was begun with, "
                "or begin anew without resume"
            )
    try:
        return _snapshot(arrays, config, loop), _history(arrays, config)
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelFileError(f"{path} is damaged: {error!r:.300}") from error


def _by_name(facts: Facts) -> Facts:
    """Return facts with those of the network one by one, so that what differs can be named."""
    if not isinstance(network := facts.get("network"), dict):
        return facts
    rest = {name: fact for name, fact in facts.items() if name != "network"}
    return rest | {f"network {name}": fact for name, fact in (LATER | network).items()}


def _snapshot(arrays: dict[str, np.ndarray], config: Facts, loop: Loop) -> state.Snapshot:
    layout, states = loop.learner.engine.layout, loop.remembering
    params, slots = _flat(arrays["parameters"], layout), arrays["optimizer.slots"]
    count = SLOTS[config["facts"]["optimizer"]["name"]]
    shapes = (3,), (1,), (count, layout.num_parameters)
    for name, shape in zip(("totals", "optimizer.clock", "optimizer.slots"), shapes, strict=True):
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} must hold {shape} finite numbers")
    memory = np.array([_flat(row, layout) for row in slots], layout.dtype)
    kept = [state.below(f"states.{number}.", arrays) for number in range(len(states))]
    for thing, its in zip(states, kept, strict=True):
        thing.set_state(its)
    copy.deepcopy(loop.learner.rng).bit_generator.state = config["rng"]
    done = _whole("done", config["done"], 2**53)
    position = _whole("position", config["position"], loop.source.n - 1)
    if position % config["facts"]["batch_size"]:
        raise ValueError(f"position must be where a batch begins; got {position}")
    if not isinstance(stopped := config["stopped"], str):
        raise ValueError(f"stopped must be text; got {stopped!r:.40}")
    seconds = checks.not_negative_float("seconds", config["seconds"])
    start, flat = state.EpochStart(done, config["rng"], kept, stopped), (count, layout.size)
    step = [params, arrays["totals"], memory.reshape(flat), arrays["optimizer.clock"]]
    return state.Snapshot(start, position, seconds, step)


def _flat(vector: np.ndarray, layout: Layout) -> np.ndarray:
    """Return parameters, or what an optimiser remembers of each, as they are stored."""
    if vector.shape != (layout.num_parameters,) or vector.dtype != layout.dtype:
        raise ValueError(f"expected {layout.num_parameters} parameters of {layout.dtype}")
    if not np.isfinite(vector).all():
        raise ValueError("parameters must be finite")
    flat = layout.zeros()
    layout.from_vector(vector, flat)
    return flat


def _whole(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} must be a whole number up to {most}; got {value!r:.40}")
    return value


def _history(arrays: dict[str, np.ndarray], config: Facts) -> History:
    done = config["done"]
    found = {name: arrays[f"history.{name}"] for name in NAMES}
    for name, series in found.items():
        if series.shape != (done,) and not (name.startswith("val_") and series.shape == (0,)):
            raise ValueError(f"history.{name} must have {done} entries")
    return History(**{name: series.tolist() for name, series in found.items()})
