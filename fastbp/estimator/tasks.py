"""scikit-learn's callbacks: what they are told of a training, beside what they get of `fit`."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import DivergenceError
from ..history import History
from ..network import Network
from .epochs import Watch

STOPPED = "a callback of the estimator ended the training"
CURVES = "loss_curve_", "validation_loss_curve_", "validation_scores_"


@dataclass
class Tasks:
    """Each epoch or iteration as a task below that of `fit`, which callbacks see begin and end.

    See `sklearn.callback.FitCallback`. It is a callback of `Network.fit` too, behind `watch`.
    """

    context: Any  # of `fit`, a `sklearn.callback.CallbackContext`
    name: str
    most: int  # tasks
    data: dict[str, Any]  # estimator, X, y and metadata, as the hooks take them
    watch: Watch | None = None
    bind: Callable[[Any], Network] | None = (
        None  # lets an estimator's weights be views of a network
    )
    task: Any = None  # the one that was begun

    def begin(self) -> None:
        """Begin the next task, if there can be one."""
        if self.most:
            self.most -= 1
            self.task = self.context.subcontext(task_name=self.name)
            self.task.call_on_fit_task_begin(**self.data, reconstruction_attributes=self._now)

    def end(self) -> bool:
        """End the task; return whether a callback wants the training to stop."""
        task, self.task = self.task, None
        found = task.call_on_fit_task_end(**self.data, reconstruction_attributes=self._now)
        return bool(found)

    def close(self) -> None:
        """End the task that was begun, but never run, as `LogisticRegression` does."""
        if self.task is not None:
            self.task.call_on_fit_task_end(estimator=self.data["estimator"])

    def on_fit_begin(self, net: Network, history: History) -> None:
        """Begin the first epoch."""
        self.begin()

    def on_epoch_end(self, net: Network, history: History) -> None:
        """End an epoch, and begin the next."""
        if self.end() and not history.stopped:
            history.stopped = STOPPED
        if not history.stopped:
            self.begin()

    def on_divergence(self, net: Network, history: History, error: DivergenceError) -> None:
        """End the epoch, if the training ends without an error."""
        if history.stopped:
            self.end()

    def _now(self) -> dict[str, Any]:
        """Return what a copy of the estimator has if training ends here, beside what it copies."""
        m = self.data["estimator"]
        found = {name: list(getattr(m, name)) for name in CURVES if getattr(m, name, None)}
        if self.watch is not None and self.bind is not None and self.watch.best is not None:
            copied = copy.copy(m)  # with a network of its own
            self.bind(copied).from_vector(self.watch.best)
            found |= {"coefs_": copied.coefs_, "intercepts_": copied.intercepts_}
        return found
