"""What several ranks share besides their batches: facts, and what callbacks do on rank 0."""

import json
from functools import partial
from typing import Any

import numpy as np

from ..history import History
from ..model import choices
from .ranks import Ranks
from .recipe import Data, Learner, Recipe
from .settings import code_digest, settings
from .state import PUBLIC_EVENTS, below, numbered, remembering, short_digest, tell


def check_agreement(learner: Learner, ranks: Ranks, recipe: Recipe) -> None:
    """Raise on all ranks, naming what differs, unless all train the same in the same way."""
    if ranks.alone or recipe.data is None:
        return
    from ..engines import versions  # takes a while

    facts = {
        "version": versions.build(),
        "network": f"{json.dumps(choices.in_file(learner.net.config))}, backend {learner.backend}",
        "functions": [code_digest(function) for function in learner.config.own],
        "epochs": recipe.epochs, "batch_size": recipe.batch_size, "shuffle": recipe.shuffle,
        "sync_every": recipe.sync_every, "optimizer": recipe.rule,
        "learning_rate": settings(recipe.schedule), "callbacks": len(recipe.callbacks),
        "verbose": recipe.verbose, "checkpoint": recipe.checkpoint is not None,
        "resume": recipe.resume is not None,
        "seed, by weights and generator,": short_digest(learner.params, _generator(learner)),
        "memory of the optimizer": short_digest(*recipe.memory),
        "scaling": short_digest(*(learner.scaling or ())),
        "data": _samples(recipe.data),
        "validation data": "none" if recipe.validation is None else _samples(recipe.validation),
    }  # fmt: skip
    ranks.same({name: str(value) for name, value in facts.items()})


def _generator(learner: Learner) -> np.ndarray:
    return np.frombuffer(repr(learner.rng.bit_generator.state).encode(), np.uint8)


def _samples(data: Data) -> str:
    weights = np.empty(0) if data.weights is None else data.weights
    return f"{short_digest(data.X, data.y, weights)} {data.X.shape} {data.X.dtype}"


class OnFirst:
    """Calls callbacks on rank 0, and brings to the others what they did to network and history."""

    def __init__(
        self, learner: Learner, ranks: Ranks, recipe: Recipe, callbacks: tuple[Any, ...]
    ) -> None:
        self._learner, self.ranks = learner, ranks
        self._any = bool(recipe.verbose or recipe.callbacks)  # the same on all ranks
        self.callbacks = callbacks if ranks.rank == 0 else ()

    def __getattr__(self, name: str) -> Any:
        if name not in PUBLIC_EVENTS:
            raise AttributeError(name)
        return partial(self._tell, name)

    def on_epoch_end(self, net: Any, history: History) -> None:
        """Look whether all ranks have the same weights, and tell the callbacks."""
        for name in ("seconds", "samples_per_second"):  # schedules may look at them
            getattr(history, name)[-1] = self.ranks.first(getattr(history, name)[-1])
        name = f"weights or order after epoch {len(history)}"
        self.ranks.same({name: short_digest(self._learner.params, _generator(self._learner))})
        self._tell("on_epoch_end", net, history)

    def _tell(self, event: str, net: Any, history: History, *args: Any) -> None:
        if self._any:
            self.ranks.call_first(lambda: tell(self.callbacks, event, net, history, *args))
            history.stopped = self.ranks.first(history.stopped)
            self.ranks.overwrite(self._learner.params)

    def state(self) -> dict[str, np.ndarray]:
        """Return what the callbacks remember, for a training checkpoint."""
        states = [thing.state() for thing in remembering(self.callbacks)]
        return {"any": np.ones(1), **numbered(states)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Let the callbacks go on from that."""
        for number, thing in enumerate(remembering(self.callbacks)):
            thing.set_state(below(f"{number}.", state))
