"""Training: what `Network.fit` is made of.

To follow it takes nine words. A *recipe* holds the options, checked. A *source* brings samples to a
*trainer*, which learns them many steps in a call. The *state* is what a step changes. The *loop*
runs the epochs, tells *callbacks*, asks the *schedule* for learning rates, and writes the
*history*. A *rule* says how weights follow the gradient. Several ranks run the same loop; one rank
is a communicator of size one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .._support import checks, signals
from ..engines import predictor
from ..history import History
from ..model.scaling import Scaling, check, standardised
from . import mpi, progress, resume
from .loop import Loop, Slices
from .ranks import Ranks, joined
from .recipe import VALIDATION, Data, Given, Learner, Recipe, checked
from .sources import Arrays, Chunks, Source, Stretch, part, warn_out_of_reach
from .steps import Steps, steps_of

__all__ = ["Learner", "fit", "take_step"]


def fit(learner: Learner, X: Any, y: Any, given: Given) -> History:
    """Train as `Network.fit` says; `given` are its options by name."""
    comm = given["comm"]
    with (
        signals.guarded(terminable=given["checkpoint"] is not None) as interrupts,
        joined(comm, interrupts.waiting) as ranks,
    ):
        with ranks.agreed():
            recipe = checked(learner, ranks, X, y, given)
        mpi.check_agreement(learner, ranks, recipe)
        learner = resume.with_its_scaling(learner, ranks, recipe)
        with learner.alone, recipe.optimizer.alone, interrupts.held(comm is not None):
            source: Source = (Chunks if recipe.data is None else Arrays)(learner, ranks, recipe)
            with source.trainer:
                return _run(learner, ranks, recipe, source, interrupts)


def _run(
    learner: Learner, ranks: Ranks, recipe: Recipe, source: Source, interrupts: signals.Interrupts
) -> History:
    callbacks = recipe.callbacks
    tqdm = progress.tqdm_class() if recipe.progress and ranks.rank == 0 else None
    if recipe.verbose and ranks.rank == 0:
        callbacks = (progress.EpochLines(recipe.epochs, progress.say, tqdm is not None), *callbacks)
    if not ranks.alone:
        callbacks = (mpi.OnFirst(learner, ranks, recipe, callbacks),)
    share, validate = _validation(learner, ranks, recipe.validation, source.scaling)
    slices = Slices(learner.params, ranks, steps_of(ranks, recipe, source, learner.params))
    loop = Loop(learner, recipe, source, slices, validate, callbacks, interrupts)
    resumed = resume.prepare(loop, ranks, share)
    if tqdm:
        loop.own.append(progress.ProgressBar(loop, tqdm))
    learner.keep_scaling(source.scaling)
    return loop.run(resumed)


def _validation(
    learner: Learner, ranks: Ranks, data: Data | None, scaling: Scaling | None
) -> tuple[Any, Callable[[], tuple[float, float]] | None]:
    """Return this rank's share of the validation data, checked, and what evaluates all shares."""
    if data is None:
        return None, None
    rows, share, dtype = ranks.share(data.n), None, learner.params.dtype
    with ranks.agreed():
        if rows.start < rows.stop:
            share = X, targets = part(data, rows, learner.config, VALIDATION)
            name = VALIDATION[0] if ranks.alone else f"{VALIDATION[0]}[{rows.start}:{rows.stop}]"
            if scaling is not None and checks.is_mapped(X):  # standardised when it is read
                check(scaling, X, dtype, name)
            else:
                X, scaling = standardised(scaling, X, dtype, name), None

    @np.errstate(all="ignore")
    def validate() -> tuple[float, float]:
        sums = np.zeros(3)  # of losses and hits, and of shares that hold no classes
        if share is not None:
            engine, params = learner.engine, learner.params
            loss, hits = predictor.evaluate(engine, params, X, targets, scaling)
            sums[:] = loss, hits, not targets.classes
        ranks.reduce(sums)
        return float(sums[0] / data.n), float("nan") if sums[2] else float(sums[1] / data.n)

    return share, validate


def take_step(learner: Learner, X: Any, y: Any, learning_rate: float) -> None:
    """Take one step of plain SGD on a batch; go back if something is then not finite."""
    rows, targets = checks.batch(X, y, learner.config)
    rows = standardised(learner.scaling, rows, learner.params.dtype)
    warn_out_of_reach(learner, targets.values, "y", ranks := Ranks())
    n = rows.shape[0]
    learner.engine.layout.clear_padding(learner.params)
    with learner.alone, learner.engine.trainer(learner.params, rows, targets, n) as trainer:
        slices = Slices(learner.params, ranks, Steps(trainer))
        for _ in slices.run(0, Stretch(np.arange(n), n, 0, 1, n, n), learning_rate, 0.0):
            pass
