"""PyTorch: the `state_dict` of a `torch.nn.Sequential`, in a safetensors file."""

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from .._support import checks
from .._support.texts import said
from ..model import choices
from ..model.config import Config
from ..model.file import notes_in, read_arrays, with_notes, write_arrays
from ..network import Network
from .parts import (
    ALLOWED,
    Parts,
    as_text,
    check_given,
    check_matrix,
    folded,
    from_metadata,
    functions_of_layers,
    has_biases,
    in_metadata,
    naming,
    network,
)  # fmt: skip

MODULES = {
    "sigmoid": "torch.nn.Sigmoid()",
    "tanh": "torch.nn.Tanh()",
    "relu": "torch.nn.ReLU()",
    "identity": "torch.nn.Identity()",
    "leaky_relu": "torch.nn.LeakyReLU()",
    "elu": "torch.nn.ELU()",
    # By default it is the identity from 20 on, which is not exact in float64.
    "softplus": "torch.nn.Softplus(threshold=40)",
    "silu": "torch.nn.SiLU()",
    "gelu": "torch.nn.GELU()",
    "softmax": "torch.nn.Softmax(dim=1)",
    "exp": "Exp()",
}
# Which torch.nn lacks.
_EXP = "class Exp(torch.nn.Module):\n    def forward(self, z):\n        return z.exp()\n"
_MARK = {"producer": "fastbp"}  # not in files of 0.2.0
MOST_TIED = 64  # layers of the same array: a small file must not become a vast network
MOST_TRIED, MOST_ORDERS = 64, 5_000  # layers, and orders of layers with equally many inputs
_NORM = ("running_mean", "running_var", "num_batches_tracked")
_Arrays: TypeAlias = dict[str, np.ndarray]
_Functions: TypeAlias = dict[str, Any]


def write_torch(net: Network, path: str | os.PathLike[str]) -> None:
    """Write a network as the `state_dict` of a `torch.nn.Sequential`, in a safetensors file.

    The modules are `Linear`, activation, `Linear`, ..., and the arrays `0.weight, 0.bias,
    2.weight, ...`; `torch_code` returns the program that loads them. Dropout is a module too,
    behind an activation, so that the numbers of those above it are larger. Inputs are those of the
    network, as floats: `input_scale` is multiplied into the first weights, and `scale` into first
    weights and biases, which all layers then have. There float32 costs a column whose mean is a
    thousand times its deviation three of its seven digits. PyTorch is not needed.

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
        If a parameter is not finite, the scaled first weights are too large for the network's
        dtype, or its scale is not known yet.

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
    places = [place for place, *_ in _modules(net)]
    arrays = {f"{place}.weight": W for place, W in zip(places, weights, strict=True)}
    arrays |= {f"{place}.bias": b for place, b in zip(places, biases, strict=bool(biases))}
    functions = in_metadata(net, *ALLOWED)
    write_arrays(path, arrays, with_notes({"format": "pt"} | _MARK | functions, net.notes))


def _modules(net: Network) -> Iterator[tuple[int, np.ndarray, Any, float]]:
    """Yield each layer's place in a Sequential, weights, activation and dropout behind it."""
    place, rates = 0, (*Config.checked(**net.config).rates, 0.0)
    for l, (W, activation) in enumerate(functions_of_layers(net)):
        rate = rates[l] if len(rates) > 1 else 0.0
        yield place, W, activation, rate
        place += 3 if rate else 2


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

    Raises
    ------
    ValueError
        If an activation is of your own: PyTorch has no module for it.

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
    options = "" if has_biases(net) else ", bias=False"
    options += ", dtype=torch.float64" if net.dtype == np.float64 else ""
    modules = "".join(
        f"    torch.nn.Linear({W.shape[1]}, {W.shape[0]}{options}), {_module(activation)},"
        f"{f' torch.nn.Dropout({rate!r}),' if rate else ''}\n"
        for _, W, activation, rate in _modules(net)
    )
    return (
        "import torch, safetensors.torch\n"
        f"{_EXP if net.config['output'] == 'exp' else ''}"
        f"model = torch.nn.Sequential(\n{modules})\n"
        f"model.load_state_dict(safetensors.torch.load_file({os.fspath(path)!r}))"
        f"{chr(10) + 'model.eval()  # no dropout' if net.config['dropout'] else ''}"
    )


def _module(activation: Any) -> str:
    if not isinstance(activation, str):
        advice = "write ONNX, or a module of your own that load_state_dict fills"
        raise ValueError(f"PyTorch has no module for {activation!r}: {advice}")
    return MODULES[activation]


def read_torch(
    path: str | os.PathLike[str],
    *,
    activation: Any = None,
    output: Any = None,
    loss: Any = None,
    input_scale: float = 1.0,
    order: Sequence[str] | None = None,
    backend: str = "numba",
    functions: Sequence[Any] = (),
) -> Network:
    """Read a network from a `state_dict` of linear layers, in a safetensors file.

    PyTorch writes one by `safetensors.torch.save_file(model.state_dict(), path)`. It holds arrays
    only: the functions between them must be given, unless `write_torch` wrote the file.

    Parameters
    ----------
    path : path-like
        Holds `NAME.weight` (n_out, n_in) and `NAME.bias` (n_out,), all float32 or all float64.
        Where some layers have biases, those of others are zero. Tied arrays are found by the
        metadata that `safetensors.torch.save_model` leaves.
    activation : as for `Network`, optional
        Of the hidden layers, or a list with one for each; by default the one in the file. Those of
        PyTorch with other settings, as LeakyReLU(0.2), may be given as a `fastbp.Activation`.
    output : as for `Network`, optional
        By default the one in the file, or that of a `Network` with the given loss: a softmax for
        "cross-entropy", though models for `torch.nn.CrossEntropyLoss` end without one.
    loss : as for `Network`, optional
        The loss for further training; by default the one in the file.
    input_scale : float, default 1.0
        Factor of the inputs: 1/255 for uint8 images, if PyTorch was given pixels from 0 to 1.
    order : sequence of str, optional
        The names of the layers, as ["encoder", "middle", "out"]. By default the order of the one
        number in their names, as in `0, 2, 4`, `0, 3, 6` where dropout lies between, or `fc1, fc2,
        fc3`; without, the only order in which each layer takes as many inputs as the one before
        gives.
    backend : {"numba", "numpy"}, default "numba"
    functions : sequence of `fastbp.Activation` and `fastbp.Loss`, default ()
        Those of your own that a file of fastbp names.

    Returns
    -------
    Network

    Raises
    ------
    FileNotFoundError, ModelFileError
        If the file is missing or damaged, lacks an array, holds some that are not of linear layers
        or do not fit, or if a function or the order is neither in the file nor given.
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
    check_given(given)
    own = choices.own_functions(functions)
    checks.positive_float("input_scale", input_scale)
    if order is not None and (isinstance(order, str) or not all(isinstance(n, str) for n in order)):
        raise TypeError(f"order must be a list of names of layers; got {order!r}")
    with naming(path):
        arrays, metadata = read_arrays(path, _check_name)
        _tie(arrays, metadata)
        names, parts = _layers(arrays, order)
        found = _functions(metadata, given, len(names) > 1, own)
        net = network(parts, names, input_scale=input_scale, backend=backend, **found)
        net.notes = notes_in(metadata if _MARK.items() <= metadata.items() else {}, path)
        return net


def _functions(
    metadata: dict[str, str], given: _Functions, hidden: bool, own: Sequence[Any]
) -> _Functions:
    """Return activation, output, loss and dropout: as given, else as in the file, if it is ours."""
    if not (_MARK.items() <= metadata.items() or _of_old(metadata)):
        metadata = {}  # other programs mean something else by these names
    wanted = [key for key in (*ALLOWED, "dropout") if given.get(key) is None]
    if given["loss"] is not None and as_text(given["loss"]) != metadata.get("loss"):
        wanted = [key for key in wanted if key != "output"]  # the file's is for another loss
    found = given | from_metadata({k: metadata[k] for k in wanted if k in metadata}, own)
    for key, value in found.items():
        if isinstance(value, str):
            checks.one_of(f"its {key}", value, ALLOWED.get(key, ()))
    if not hidden:
        found["activation"] = found["activation"] or "sigmoid"  # of no layer
    missing = [key for key in ("activation", "loss") if found[key] is None]
    if missing:
        ways = [f"{key}= (--{key}), one of {', '.join(ALLOWED[key])}" for key in missing]
        names, by = " and ".join(missing), " and ".join(ways)
        raise ValueError(f"this state_dict does not say its {names}; name {by}")
    return found


def _of_old(metadata: dict[str, str]) -> bool:
    """Return whether `write_torch` of 0.2.0 may have written this."""
    known = all(metadata.get(key) in allowed for key, allowed in ALLOWED.items())
    return len(metadata) == 1 + len(ALLOWED) and metadata.get("format") == "pt" and known


def _check_name(name: str) -> None:
    layer, dot, part = name.rpartition(".")
    if part in _NORM:
        raise ValueError(
            f"{said(layer, 40)!r} is a batch normalisation, which a Network lacks; fold it into "
            "the layer below by torch.nn.utils.fusion.fuse_linear_bn_eval, or export ONNX"
        )
    if part not in ("weight", "bias") or (dot and not layer):
        got = f"array {said(name, 40)!r}"
        raise ValueError(f"arrays must be NAME.weight or .bias of torch.nn.Linear; got {got}")


def _tie(arrays: _Arrays, metadata: dict[str, str]) -> None:
    """Add the arrays that the file holds under another name."""
    ends = (".weight", ".bias")
    tied = {
        name: kept for name, kept in metadata.items()
        if kept in arrays and name not in arrays and name.endswith(ends) and kept.endswith(ends)
    }  # fmt: skip
    if max(Counter(tied.values()).values(), default=0) > MOST_TIED:
        raise ValueError(f"an array must be tied to at most {MOST_TIED} layers")
    arrays |= {name: arrays[kept] for name, kept in tied.items()}


def _layers(arrays: _Arrays, order: Sequence[str] | None) -> tuple[list[str], Parts]:
    """Return the names of the layers, in order, and their arrays."""
    kinds: dict[str, _Arrays] = {"weight": {}, "bias": {}}
    for name, array in arrays.items():
        layer, _, part = name.rpartition(".")
        kinds[part][layer] = array
    weights, biases = kinds.values()
    if missing := sorted(biases.keys() - weights.keys()):
        raise ValueError(f"array {said(f'{missing[0]}.weight'.lstrip('.'), 40)!r} is missing")
    for name, W in weights.items():
        check_matrix(repr(said(name, 40)), W)
    names = _in_order(weights, order)
    zeros = {name: np.zeros(len(W), W.dtype) for name, W in weights.items() if biases}
    row = [(zeros | biases)[name] for name in names if biases]
    return [repr(said(name, 40)) for name in names], ([weights[name] for name in names], row)


def _in_order(weights: _Arrays, order: Sequence[str] | None) -> list[str]:
    names = list(weights)
    if order is not None:
        if sorted(order) != sorted(names):
            got = ", ".join(said(name, 40) for name in order[:9])
            raise ValueError(f"order must name each layer once, {_shown(names)}; got {got}")
        return list(order)
    # By the one number in which they differ: a file has no order of its own, and layers of equal
    # width would fit in any.
    split = {name: re.split(r"([0-9]{1,9})", name) for name in names}
    stems = {(*parts[::2],) for parts in split.values()}
    numbers = {name: tuple(map(int, parts[1::2])) for name, parts in split.items()}
    varying = [len(set(column)) for column in zip(*numbers.values(), strict=False)]
    one = varying.count(1) == len(varying) - 1 and len(names) in varying
    if len(names) < 2 or (len(stems) == 1 and one):
        return sorted(names, key=numbers.__getitem__)
    alike = Counter(W.shape[1] for W in weights.values()).values()
    few = len(names) <= MOST_TRIED and math.prod(map(math.factorial, alike)) <= MOST_ORDERS
    chains = list(islice(_chains(weights, frozenset(names)), 2)) if few else []
    if len(chains) != 1:
        wanted = "one number in their names, as in 0, 2, 4 or fc1, fc2, or by their widths alone"
        raise ValueError(
            f"the order of layers must be clear by {wanted}; got {_shown(names)}; "
            "name order=[...] (--order), inputs first"
        )
    return chains[0]


def _chains(weights: _Arrays, left: frozenset[str], n_in: int = 0) -> Iterator[list[str]]:
    """Yield all orders in which each layer takes what the one before gives."""
    if not left:
        yield []
    for name in left:
        n_out, width = weights[name].shape
        if n_in in (0, width):
            yield from ([name, *rest] for rest in _chains(weights, left - {name}, n_out))


def _shown(names: list[str]) -> str:
    some = ", ".join(repr(said(name, 40)) for name in sorted(names)[:4])
    return some if len(names) <= 4 else f"{some}, ..."
