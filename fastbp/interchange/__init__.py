"""Networks to and from PyTorch, ONNX and scikit-learn.

| format | export | import | needs |
|---|---|---|---|
| PyTorch: a `state_dict` in safetensors | `write_torch`, `torch_code` | `read_torch` | nothing |
| ONNX | `write_onnx` | `read_onnx` | the extra `onnx` |
| scikit-learn's multi-layer perceptrons | `to_sklearn` | `from_sklearn` | the extra `sklearn` |

>>> import fastbp, os, tempfile
>>> folder = tempfile.mkdtemp()
>>> path = os.path.join(folder, "net.onnx")
>>> net = fastbp.Network([784, 30, 10], loss="cross-entropy", input_scale=1 / 255, seed=0)
>>> fastbp.interchange.write_onnx(net, path, inputs="uint8")  # or "float", the network's dtype
>>> fastbp.interchange.read(path).sizes
(784, 30, 10)

From the shell, the suffix decides the format: `fastbp export net.safetensors net.onnx`, `fastbp
convert theirs.onnx mine.safetensors`.

## Outputs stay the same

Outputs agree to rounding, for the same inputs. An ONNX graph scales and standardises its inputs as
the network does. For PyTorch and scikit-learn, `input_scale` and `scale` are folded into the first
weights and biases. So raw columns and bytes go in, wherever the network runs.

## Activations, losses, dropout

Each layer may have another activation, in ONNX and PyTorch; scikit-learn has one of four for all.
ONNX graphs of others may make an activation of several operators, as PyTorch and Keras make SiLU
and GELU: it is recognised by its values. Losses and dropout go along in what fastbp writes, and
`torch_code` has a `Dropout` for each.

An `Activation` of your own is written in ONNX if its f is made of arithmetic, comparisons and the
commonest functions; to read it, pass it again, as to `fastbp.load`:

>>> own = fastbp.Activation(
...     lambda z: z if z > 0 else 0.2 * z, lambda z: 1.0 if z > 0 else 0.2, name="leaky"
... )
>>> fastbp.interchange.write_onnx(fastbp.Network([3, 4, 2], own, backend="numpy"), path)
>>> fastbp.interchange.read(path, functions=[own], backend="numpy").config["activation"]
Activation(lambda, lambda, name='leaky')

## PyTorch

`torch_code` returns the program that builds the module in PyTorch and loads the file:

>>> path = os.path.join(folder, "net-torch.safetensors")
>>> fastbp.interchange.write_torch(net, path)
>>> "torch.nn.Linear(784, 30)" in fastbp.interchange.torch_code(net, path)
True

A `state_dict` does not say which functions stand between its arrays. Unless fastbp wrote it, you
have to: `read(path, activation="relu", loss="cross-entropy")`.

## Files of others

Files are read as untrusted ones. Pickles are never read: a `.pt` or `.joblib` file can run any
code. `Network.save` and `fastbp.load` are for fastbp's own files.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    activation: Any = None,
    output: Any = None,
    loss: Any = None,
    input_scale: float | None = None,
    order: Sequence[str] | None = None,
    backend: str = "numba",
    functions: Sequence[Any] = (),
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
    functions : sequence of `fastbp.Activation` and `fastbp.Loss`, default ()
        Of your own, that the file may have.

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
            backend=backend, functions=functions,
        )  # fmt: skip
    if suffix != ".onnx":
        raise ModelFileError(
            f"{os.fspath(path)}: the name must end in .safetensors (PyTorch) or .onnx"
        )
    given = {"activation": activation, "input_scale": input_scale, "order": order}
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} must not be given, as ONNX files say it; got {value!r}")
    return read_onnx(path, output=output, loss=loss, backend=backend, functions=functions)
