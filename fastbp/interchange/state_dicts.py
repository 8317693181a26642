"""PyTorch: the `state_dict` of a `torch.nn.Sequential`, in a safetensors file."""

import os
import re
from typing import TypeAlias

import numpy as np

from .._support import checks
from .._support.texts import said
from ..model import config
from ..model.file import FORMAT, read_arrays, write_arrays
from ..network import Network
from .parts import Parts, folded, functions_of_layers, naming, network

MODULES = {
    "sigmoid": "torch.nn.Sigmoid()",
    "tanh": "torch.nn.Tanh()",
    "relu": "torch.nn.ReLU()",
    "identity": "torch.nn.Identity()",
    "softmax": "torch.nn.Softmax(dim=1)",
    "exp": "Exp()",
}
# Which torch.nn lacks.
_EXP = "class Exp(torch.nn.Module):\n    def forward(self, z):\n        return z.exp()\n"
# The metadata of files that `write_torch` writes, and their allowed values.
_ALLOWED = {"activation": config.HIDDEN, "output": config.OUTPUT, "loss": config.LOSSES}
_Functions: TypeAlias = dict[str, str | None]


def write_torch(net: Network, path: str | os.PathLike[str]) -> None:
    """Write a network as the `state_dict` of a `torch.nn.Sequential`, in a safetensors file.

    The modules are `Linear`, activation, `Linear`, ..., and the arrays `0.weight, 0.bias,
    2.weight, ...`; `torch_code` returns the program that loads them. Inputs are those of the
    network, as floats: `input_scale` is multiplied into the first weights. PyTorch is not needed.

    Parameters
    ----------
    net : Network
    path : path-like
        Replaced atomically if it exists.

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        If a parameter is not finite, or the scaled first weights are too large for the network's
        dtype.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Sequential.html,
    https://huggingface.co/docs/safetensors

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> write_torch(fastbp.Network([3, 4, 2], loss="cross-entropy", seed=0), path)
    >>> read_torch(path).sizes
    (3, 4, 2)
    """
    weights, biases = folded(net)
    arrays = {f"{2 * l}.weight": W for l, W in enumerate(weights)}
    arrays |= {f"{2 * l}.bias": b for l, b in enumerate(biases)}
    write_arrays(path, arrays, {"format": "pt"} | {key: str(net.config[key]) for key in _ALLOWED})


def torch_code(net: Network, path: str | os.PathLike[str]) -> str:
    """Return a program that loads in PyTorch what `write_torch` wrote.

    Parameters
    ----------
    net, path
        As for `write_torch`.

    Returns
    -------
    str
        Python code that leaves a `torch.nn.Sequential` in `model`.

    Examples
    --------
    >>> import fastbp
    >>> print(torch_code(fastbp.Network([3, 4, 2], loss="cross-entropy"), "net.safetensors"))
    import torch, safetensors.torch
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Sigmoid(),
        torch.nn.Linear(4, 2), torch.nn.Softmax(dim=1),
    )
    model.load_state_dict(safetensors.torch.load_file('net.safetensors'))
    """
    options = "" if net.config["bias"] else ", bias=False"
    options += ", dtype=torch.float64" if net.dtype == np.float64 else ""
    modules = (
        f"    torch.nn.Linear({W.shape[1]}, {W.shape[0]}{options}), {MODULES[name]},\n"
        for W, name in functions_of_layers(net)
    )
    return (
        "import torch, safetensors.torch\n"
        f"{_EXP if net.config['output'] == 'exp' else ''}"
        f"model = torch.nn.Sequential(\n{''.join(modules)})\n"
        f"model.load_state_dict(safetensors.torch.load_file({os.fspath(path)!r}))"
    )


def read_torch(
    path: str | os.PathLike[str],
    *,
    activation: str | None = None,
    output: str | None = None,
    loss: str | None = None,
    input_scale: float = 1.0,
) -> Network:
    """Read a network from a `state_dict` of linear layers, in a safetensors file.

    PyTorch writes one by `safetensors.torch.save_file(model.state_dict(), path)`. It holds arrays
    only: the functions between them must be given, unless `write_torch` wrote the file.

    Parameters
    ----------
    path : path-like
        Holds `NAME.weight` (n_out, n_in) and `NAME.bias` (n_out,), all float32 or all float64.
        One number in the names, as in `0, 2, 4` or `fc1, fc2, fc3`, gives the order of layers.
    activation : {"sigmoid", "tanh", "relu", "identity"}, optional
        Of the hidden layers; by default the one in the file.
    output : {"sigmoid", "tanh", "relu", "identity", "exp", "softmax"}, optional
        By default the one in the file, or that of a `Network` with the given loss: a softmax for
        "cross-entropy", though models for `torch.nn.CrossEntropyLoss` end without one.
    loss : {"quadratic", "cross-entropy", "poisson"}, optional
        The loss for further training; by default the one in the file.
    input_scale : float, default 1.0
        Factor of the inputs: 1/255 for uint8 images, if PyTorch was given pixels from 0 to 1.

    Returns
    -------
    Network

    Raises
    ------
    FileNotFoundError, ModelFileError
        If the file is missing or damaged, lacks an array, holds some that are not of linear layers
        or do not fit, or if a function is neither in the file nor given.
    TypeError, ValueError
        If an argument is not one of those above.

    Examples
    --------
    >>> import os, safetensors.numpy, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "theirs.safetensors")
    >>> safetensors.numpy.save_file({"fc1.weight": np.eye(3), "fc2.weight": np.eye(3)}, path)
    >>> read_torch(path, activation="relu", loss="cross-entropy").sizes
    (3, 3, 3)
    """
    given = {"activation": activation, "output": output, "loss": loss}
    for key, value in given.items():
        if value is not None:
            checks.one_of(key, value, _ALLOWED[key])
    checks.positive_float("input_scale", input_scale)
    arrays, metadata = read_arrays(path)
    with naming(path):
        if metadata.get("format") == FORMAT:
            raise ValueError("a model of fastbp already; use fastbp.load, or `fastbp export`")
        names, parts = _layers(arrays)
        functions = _functions(metadata, given, hidden=len(names) > 1)
        return network(parts, names, input_scale=input_scale, **functions)


def _functions(metadata: dict[str, str], given: _Functions, hidden: bool) -> _Functions:
    """Return activation, output and loss: as given, else as in the file."""
    for key in (key for key in _ALLOWED if key in metadata):
        checks.one_of(f"its {key}", metadata[key], _ALLOWED[key])
    found = {key: given[key] or metadata.get(key) for key in _ALLOWED}
    if given["loss"] and not given["output"] and given["loss"] != metadata.get("loss"):
        found["output"] = None  # the file's is for another loss
    if not hidden:
        found["activation"] = found["activation"] or "sigmoid"  # of no layer
    missing = [key for key in ("activation", "loss") if not found[key]]
    if missing:
        ways = [f"{key}= (--{key}), one of {', '.join(_ALLOWED[key])}" for key in missing]
        names, by = " and ".join(missing), " and ".join(ways)
        raise ValueError(f"this state_dict does not say its {names}; name {by}")
    return found


def _layers(arrays: dict[str, np.ndarray]) -> tuple[list[str], Parts]:
    """Return the names of the layers, in order, and their arrays."""
    kinds: dict[str, dict[str, np.ndarray]] = {"weight": {}, "bias": {}}
    for name, array in arrays.items():
        layer, dot, part = name.rpartition(".")
        if part not in kinds or (dot and not layer):
            got = f"array {said(name, 40)!r}"
            raise ValueError(f"arrays must be NAME.weight or .bias of torch.nn.Linear; got {got}")
        kinds[part][layer] = array
    names = _in_order(list(kinds["weight"] | kinds["bias"]))
    for kind, layers in kinds.items():
        missing = [f"{name}.{kind}".lstrip(".") for name in names if name not in layers]
        if missing and (layers or kind == "weight"):
            raise ValueError(f"array {said(missing[0], 40)!r} is missing")
    weights, biases = ([kind[name] for name in names if kind] for kind in kinds.values())
    return [repr(said(name, 40)) for name in names], (weights, biases)


def _in_order(names: list[str]) -> list[str]:
    # By the one number in which they differ: a file has no order of its own, and layers of equal
    # width would fit in any.
    split = {name: re.split(r"([0-9]{1,9})", name) for name in names}
    stems = {(*parts[::2],) for parts in split.values()}
    numbers = {name: tuple(map(int, parts[1::2])) for name, parts in split.items()}
    varying = [len(set(column)) for column in zip(*numbers.values(), strict=False)]
    one = varying.count(1) == len(varying) - 1 and len(names) in varying
    if len(names) > 1 and not (len(stems) == 1 and one):
        shown = ", ".join(repr(said(name, 40)) for name in sorted(names)[:4])
        wanted = "one number in their names, as in 0, 2, 4 or fc1, fc2"
        raise ValueError(f"the order of layers must be {wanted}; got {shown}; rename them")
    return sorted(names, key=numbers.__getitem__)
