"""PyTorch's layout: the `state_dict` of a `torch.nn.Sequential`, in a safetensors file."""

import os
import re
from typing import Any

import numpy as np

from .._support import checks
from ..errors import ModelFileError
from ..model import activations, losses
from ..model import file as checkpoint
from ..network import Network
from .parts import Parts, folded, network

MODULES = {
    "sigmoid": "torch.nn.Sigmoid()",
    "tanh": "torch.nn.Tanh()",
    "relu": "torch.nn.ReLU()",
    "identity": "torch.nn.Identity()",
    "softmax": "torch.nn.Softmax(dim=1)",
    "exp": "Exp()",
}
# What torch.nn lacks.
DEFINITIONS = {
    "exp": "class Exp(torch.nn.Module):\n    def forward(self, z):\n        return z.exp()",
}
# What the metadata of a file of ours say, and what each may be.
_ALLOWED = {
    "activation": activations.HIDDEN,
    "output": activations.OUTPUT,
    "loss": losses.NAMES,
}
_NAME = re.compile(r"(?:(?P<layer>.+)\.)?(?P<part>weight|bias)")


def write_torch(net: Network, path: str | os.PathLike[str]) -> None:
    """Write a network as the `state_dict` of a `torch.nn.Sequential`, in a safetensors file.

    The modules are `Linear`, activation, `Linear`, activation, ..., so that the arrays are named
    `0.weight, 0.bias, 2.weight, ...`; `torch_code` gives the program that makes them and loads the
    file. PyTorch is not needed to write it. The modules take the inputs that the network takes, as
    floats: `input_scale` is multiplied into the first weights.

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
        If the scaled first weights are beyond the network's dtype.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Sequential.html,
    https://huggingface.co/docs/safetensors

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> net = fastbp.Network([3, 4, 2], loss="cross-entropy", seed=0)
    >>> write_torch(net, path)
    >>> bool((read_torch(path).to_vector() == net.to_vector()).all())
    True
    """
    weights, biases = folded(net)
    arrays = {f"{2 * l}.weight": W for l, W in enumerate(weights)}
    arrays |= {f"{2 * l}.bias": b for l, b in enumerate(biases)}
    described = {key: str(net.config[key]) for key in _ALLOWED}
    checkpoint.write_arrays(path, arrays, {"format": "pt", **described})


def torch_code(net: Network, path: str | os.PathLike[str]) -> str:
    """Return the program that loads in PyTorch what `write_torch` wrote.

    Parameters
    ----------
    net : Network
    path : path-like

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
    options = ("" if net.config["bias"] else ", bias=False") + (
        ", dtype=torch.float64" if net.dtype == np.float64 else ""
    )
    hidden = [net.config["activation"]] * (net.num_layers - 2)
    lines = [
        f"    torch.nn.Linear({W.shape[1]}, {W.shape[0]}{options}), {MODULES[name]},"
        for W, name in zip(net.weights, [*hidden, net.config["output"]], strict=True)
    ]
    return "\n".join([
        "import torch, safetensors.torch",
        *(text for name, text in DEFINITIONS.items() if name == net.config["output"]),
        "model = torch.nn.Sequential(",
        *lines,
        ")",
        f"model.load_state_dict(safetensors.torch.load_file({os.fspath(path)!r}))",
    ])  # fmt: skip


def read_torch(
    path: str | os.PathLike[str],
    *,
    activation: str | None = None,
    output: str | None = None,
    loss: str | None = None,
    input_scale: float = 1.0,
) -> Network:
    """Read a network from a `state_dict` of linear layers, in a safetensors file.

    From PyTorch, write one by `safetensors.torch.save_file(model.state_dict(), path)`. A
    `state_dict` holds arrays only: which functions stand between them has to be said, but for a
    file that `write_torch` wrote.

    Parameters
    ----------
    path : path-like
        The arrays are `NAME.weight` (n_out, n_in) and `NAME.bias` (n_out,), all float32 or all
        float64. The layers' names differ in one number, which gives their order: `0, 2, 4` as of
        a `torch.nn.Sequential`, or `fc1, fc2, fc3`.
    activation : {"sigmoid", "tanh", "relu", "identity"}, optional
        Of the hidden layers.
    output : {"sigmoid", "tanh", "relu", "identity", "exp", "softmax"}, optional
        By default, that of a `Network` with this loss. Models for `torch.nn.CrossEntropyLoss` end
        without a softmax; with loss "cross-entropy" the network has it: the classes are the same,
        and the outputs are probabilities.
    loss : {"quadratic", "cross-entropy", "poisson"}, optional
        What training would go on with.
    input_scale : float
        Inputs are multiplied by it: 1/255 for images of type uint8, where PyTorch was given
        pixels from 0 to 1.

    Returns
    -------
    Network

    Raises
    ------
    FileNotFoundError
    ModelFileError
        If the file is damaged, holds other arrays than those of linear layers that fit together,
        lacks one, or does not say its functions and neither do you.
    TypeError, ValueError
        If an argument is none of those above.

    Examples
    --------
    >>> import os, safetensors.numpy, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "theirs.safetensors")
    >>> arrays = {"fc1.weight": np.ones((4, 3)), "fc2.weight": np.eye(4)}
    >>> safetensors.numpy.save_file(arrays, path)
    >>> read_torch(path, activation="relu", loss="cross-entropy").sizes
    (3, 4, 4)
    """
    given = {"activation": activation, "output": output, "loss": loss}
    for key, value in given.items():
        if value is not None:
            checks.one_of(key, value, _ALLOWED[key])
    checks.positive_float("input_scale", input_scale)
    arrays, metadata = checkpoint.read_arrays(path)
    if metadata.get("format") == checkpoint.FORMAT:
        raise ModelFileError(
            f"{os.fspath(path)} is a model of fastbp already: use it as it is, by fastbp.load, or "
            "turn it into another by `fastbp export`"
        )
    names, parts = _layers(path, arrays)
    config = _functions(path, metadata, given, hidden=len(names) > 1)
    return network(path, parts, names, input_scale=input_scale, **config)


def _functions(
    path: str | os.PathLike[str], metadata: dict[str, str], given: dict[str, Any], hidden: bool
) -> dict[str, Any]:
    """Return activation, output and loss: as given, else as the file says."""
    for key, allowed in _ALLOWED.items():
        if key in metadata and metadata[key] not in allowed:
            raise ModelFileError(
                f"{os.fspath(path)}: its {key} must be one of {', '.join(allowed)}; "
                f"found {checkpoint.short(metadata[key])}"
            )
    found = {key: given[key] or metadata.get(key) for key in _ALLOWED}
    if given["loss"] and not given["output"] and given["loss"] != metadata.get("loss"):
        found["output"] = None  # that of another loss
    if not hidden:
        found["activation"] = found["activation"] or "sigmoid"  # of no layer
    missing = [key for key in ("activation", "loss") if not found[key]]
    if missing:
        raise ModelFileError(
            f"{os.fspath(path)}: a state_dict holds arrays only, and this one does not say its "
            f"{' and '.join(missing)}; name "
            + " and ".join(
                f"{key}= (--{key}), one of {', '.join(_ALLOWED[key])}" for key in missing
            )
        )
    return found


def _layers(path: str | os.PathLike[str], arrays: dict[str, np.ndarray]) -> tuple[list[str], Parts]:
    """Return the names of the layers, in order, and their arrays."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        match = _NAME.fullmatch(name)
        if not match:
            raise ModelFileError(
                f"{os.fspath(path)}: array {checkpoint.short(name)} is of no torch.nn.Linear, "
                "whose arrays are NAME.weight and NAME.bias; networks here are made of these only"
            )
        layers.setdefault(match["layer"] or "", {})[match["part"]] = array
    names = _in_order(path, list(layers))
    with_bias = any("bias" in parts for parts in layers.values())
    for name, part in ((n, p) for n in names for p in ["weight"] + ["bias"] * with_bias):
        if part not in layers[name]:
            whole = f"{name}.{part}".lstrip(".")
            raise ModelFileError(f"{os.fspath(path)}: array {checkpoint.short(whole)} is missing")
    weights = [layers[name]["weight"] for name in names]
    biases = [layers[name]["bias"] for name in names if with_bias]
    return [checkpoint.short(name) for name in names], Parts(weights, biases)


def _in_order(path: str | os.PathLike[str], names: list[str]) -> list[str]:
    """Return the names by the one number in which they differ.

    A file has no order of its own, and layers of equal width would fit in any.
    """
    split = {name: re.split(r"([0-9]{1,9})", name) for name in names}
    stems = {(*parts[::2],) for parts in split.values()}
    numbers = {name: tuple(map(int, parts[1::2])) for name, parts in split.items()}
    varying = [len(set(column)) > 1 for column in zip(*numbers.values(), strict=False)]
    if len(names) > 1 and (
        len(stems) > 1 or sum(varying) != 1 or len(set(numbers.values())) < len(names)
    ):
        shown = ", ".join(checkpoint.short(name) for name in sorted(names)[:4])
        raise ModelFileError(
            f"{os.fspath(path)}: cannot tell the order of layers {shown}: their names must differ "
            "in one number, as 0, 2, 4 of a torch.nn.Sequential or fc1, fc2; rename them"
        )
    return sorted(names, key=numbers.__getitem__)
