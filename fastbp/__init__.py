"""Back-propagation at the speed of the hardware: Numba kernels, a NumPy reference, one `Network`.

>>> import fastbp
>>> X_train, y_train, X_test, y_test = fastbp.datasets.load("digits")
>>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=1)
>>> history = net.fit(X_train, y_train, epochs=20, batch_size=10, learning_rate=0.5)
>>> net.accuracy(X_test, y_test) > 0.9
True
>>> len(history), history.loss[-1] < history.loss[0]
(20, True)
"""

TYPE_CHECKING = False  # that of `typing`, which takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from . import callbacks, datasets, interchange, plots, report, schedules
    from .engines import get_backend
    from .engines.versions import show_versions
    from .errors import DivergenceError, ModelFileError, RankError
    from .history import History
    from .layers import Add, Affine, Mul, ReLU, Sigmoid, SoftmaxWithLoss, Tanh
    from .layers.sequential import Sequential
    from .lr_finder import find_learning_rate
    from .model.layout import Gradient
    from .network import Network, load
    from .optimizers import SGD, Adam
    from .plots.norms import Norms
    from .verification import verify
    from .verification.gradients import gradcheck

__version__ = "0.2.0"

__all__ = [
    "SGD",
    "Adam",
    "Add",
    "Affine",
    "DivergenceError",
    "Gradient",
    "History",
    "ModelFileError",
    "Mul",
    "Network",
    "Norms",
    "RankError",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SoftmaxWithLoss",
    "Tanh",
    "callbacks",
    "datasets",
    "find_learning_rate",
    "get_backend",
    "gradcheck",
    "interchange",
    "load",
    "plots",
    "report",
    "schedules",
    "show_versions",
    "verify",
]

# Imported at first use, as all modules are: a program waits for what it needs alone, and the
# command line is there to answer Ctrl-C before anything else is loaded.
_LAZY = {
    "engines": ["get_backend"],
    "engines.versions": ["show_versions"],
    "errors": ["DivergenceError", "ModelFileError", "RankError"],
    "history": ["History"],
    "layers": ["Add", "Affine", "Mul", "ReLU", "Sigmoid", "SoftmaxWithLoss", "Tanh"],
    "layers.sequential": ["Sequential"],
    "lr_finder": ["find_learning_rate"],
    "model.layout": ["Gradient"],
    "network": ["Network", "load"],
    "optimizers": ["SGD", "Adam"],
    "plots.norms": ["Norms"],
    "verification": ["verify"],
    "verification.gradients": ["gradcheck"],
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    for path, names in _LAZY.items():
        if name in names:
            return getattr(import_module(f".{path}", __name__), name)
    if name[:2] != "__":
        try:
            return import_module(f".{name}", __name__)
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":  # an extra
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Modules that need an extra, or whose names are in `__all__`, are public but not in `__all__`.
    return sorted({*__all__, "estimator", "layers", *(n for n in globals() if n[:2] == "__")})
