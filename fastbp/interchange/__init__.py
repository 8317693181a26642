"""Networks to and from PyTorch, ONNX and scikit-learn.

================  ===============================  ============================================
format            export                           import
================  ===============================  ============================================
PyTorch           `write_torch`, `torch_code`      `read_torch`
ONNX              `write_onnx`                     `read_onnx`
scikit-learn      `to_sklearn`                     `from_sklearn`
================  ===============================  ============================================

Outputs agree to rounding. `Network.save` and `fastbp.load` are for fastbp's own files. Pickles are
never read: a `.pt` or `.joblib` file can run any code.

Examples
--------
>>> import fastbp, os, tempfile
>>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
>>> net = fastbp.Network([784, 30, 10], loss="cross-entropy", input_scale=1 / 255, seed=0)
>>> fastbp.interchange.write_onnx(net, path, inputs="uint8")
>>> fastbp.interchange.read(path).sizes
(784, 30, 10)
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import ModelFileError
from ..network import Network
from .estimators import from_sklearn, to_sklearn
from .onnx import read_onnx, write_onnx
from .state_dicts import read_torch, torch_code, write_torch

__all__ = [
    "from_sklearn",
    "read",
    "read_onnx",
    "read_torch",
    "to_sklearn",
    "torch_code",
    "write_onnx",
    "write_torch",
]


def read(
    path: str | os.PathLike[str],
    *,
    activation: str | None = None,
    output: str | None = None,
    loss: str | None = None,
    input_scale: float | None = None,
    order: Sequence[str] | None = None,
    backend: str = "numba",
) -> Network:
    """Read a network from a file of another program, by the end of its name.

    Parameters
    ----------
    path : path-like
        `.onnx` is read by `read_onnx`, `.safetensors` by `read_torch`.
    activation, output, loss, input_scale, order : optional, default None
        As for `read_torch`: what the file does not say. ONNX files say all but the loss, and the
        output after logits.
    backend : {"numba", "numpy"}, default "numba"

    Returns
    -------
    Network

    Raises
    ------
    ModelFileError
        If the name has another ending, or the file is damaged or does not hold such a network.
    ValueError
        If an argument is given that the file itself says.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> write_torch(fastbp.Network([3, 2], seed=0), path)
    >>> read(path).sizes
    (3, 2)
    """
    suffix = Path(path).suffix.lower()
    if suffix in (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".bin", ".ckpt"):
        raise ModelFileError(
            f"{os.fspath(path)}: a {suffix} file is not read, as it can run any code. Write one by "
            "safetensors.torch.save_file(model.state_dict(), 'net.safetensors'), or pass an "
            "estimator to fastbp.interchange.from_sklearn"
        )
    if suffix == ".safetensors":
        scale = 1.0 if input_scale is None else input_scale
        return read_torch(
            path, activation=activation, output=output, loss=loss, input_scale=scale, order=order,
            backend=backend,
        )  # fmt: skip
    if suffix != ".onnx":
        raise ModelFileError(
            f"{os.fspath(path)}: the name must end in .safetensors (PyTorch) or .onnx"
        )
    given = {"activation": activation, "input_scale": input_scale, "order": order}
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} must not be given, as ONNX files say it; got {value!r}")
    return read_onnx(path, output=output, loss=loss, backend=backend)
