"""A network whose loss and gradient are those of a step of training, always with one mask."""

from typing import Any

import numpy as np

from .. import reference
from .._support import checks
from ..engines import get_backend
from ..model.config import Config
from ..model.layout import Gradient, Layout
from ..model.scaling import standardised
from ..network import Network
from .cases import KEY


class Masked:
    """Loss and gradient of a network with dropout on a batch; they follow its parameters."""

    def __init__(self, net: Network, X: Any, y: Any) -> None:
        config = Config.checked(**net.config)
        rows, targets = checks.batch(X, y, config)
        rows = standardised(net.scaling, rows, net.dtype)
        self._layout = Layout(config.sizes, net.dtype, config.bias)
        engine = get_backend(net.backend).engine(config.model(), self._layout)
        self._n = rows.shape[0]
        self._trainer = engine.trainer(net.params, rows, targets, self._n, shared=True)
        self._trainer.draw_masks(KEY)
        self.masks: reference.Masks = self._trainer.masks(np.arange(self._n))

    def gradient(self) -> Gradient:
        """Return the gradient of the mean loss, and that loss."""
        trainer, n = self._trainer, self._n
        trainer.clear()
        trainer.part(np.arange(n), 0, n, 1 / n)
        return Gradient(self._layout, trainer.grads.copy(), float(trainer.tail[0]) / n)

    def loss(self) -> float:
        """Return the mean loss."""
        return self.gradient().loss
