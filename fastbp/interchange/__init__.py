"""Networks to and from the layouts of others: PyTorch, ONNX, scikit-learn.

================  ===============================  ============================================
what              from here                        to here
================  ===============================  ============================================
PyTorch           `write_torch`, `torch_code`      `read_torch`
ONNX              `write_onnx`                     `read_onnx`
scikit-learn      `to_sklearn`                     `from_sklearn`
================  ===============================  ============================================

Outputs are the same to rounding. fastbp's own files are written by `Network.save` and read by
`fastbp.load`. No pickle is ever read: a `.pt` or `.joblib` file can run any code.

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
from pathlib import Path

from ..errors import ModelFileError
from ..network import Network
from .estimators import from_sklearn, to_sklearn
from .onnx_read import read_onnx
from .onnx_write import write_onnx
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

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".bin", ".ckpt")


def read(
    path: str | os.PathLike[str],
    *,
    activation: str | None = None,
    output: str | None = None,
    loss: str | None = None,
    input_scale: float | None = None,
) -> Network:
    """Read a network from a file of another program's, by the end of its name.

    Parameters
    ----------
    path : path-like
        `.onnx` is read by `read_onnx`, `.safetensors` by `read_torch`.
    activation, output, loss, input_scale : optional
        What the file does not say; see there. ONNX files say all but the loss.

    Returns
    -------
    Network

    Raises
    ------
    ModelFileError
        If the name ends in neither, or the file is damaged or unfit.
    ValueError
        If an argument is given that the file itself answers.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> write_torch(fastbp.Network([3, 2], seed=0), path)
    >>> read(path).sizes
    (3, 2)
    """
    suffix = Path(path).suffix.lower()
    if suffix in _PICKLES:
        raise ModelFileError(
            f"{os.fspath(path)}: a {suffix} file can run any code when it is read, so it is not. "
            "Write one that cannot: from PyTorch by safetensors.torch.save_file("
            "model.state_dict(), 'net.safetensors'); from scikit-learn, hand the estimator to "
            "fastbp.interchange.from_sklearn"
        )
    if suffix == ".safetensors":
        scale = 1.0 if input_scale is None else input_scale
        return read_torch(path, activation=activation, output=output, loss=loss, input_scale=scale)
    if suffix != ".onnx":
        raise ModelFileError(
            f"{os.fspath(path)}: cannot tell what kind of file this is; its name must end in "
            ".safetensors (a state_dict of PyTorch's) or .onnx"
        )
    given = {"activation": activation, "output": output, "input_scale": input_scale}
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is what an ONNX file says itself; found {value!r} beside it")
    return read_onnx(path, loss=loss)
