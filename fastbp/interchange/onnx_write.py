"""To ONNX: a graph of `Gemm` nodes and activations. The package `onnx` is an extra."""

import os
from typing import Any, NamedTuple

import numpy as np

from .._support import checks, files
from ..network import Network

OPERATORS = {
    "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "exp": "Exp", "softmax": "Softmax",
}  # fmt: skip
INPUTS = ("float", "uint8")
# Old enough for any onnxruntime since 1.12 (2022); these operators have not changed since.
OPSET, IR_VERSION = 17, 8
MOST_BYTES = 2**31 - 2**20  # of weights: a file is one protobuf message, of less than 2 GiB


def imported_onnx() -> Any:
    """Return the package, or say how to install it."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            "ONNX files need onnx, install it with: pip install 'fastbp[onnx]'"
        ) from error
    return onnx


def write_onnx(net: Network, path: str | os.PathLike[str], *, inputs: str = "float") -> None:
    """Write a network as an ONNX model.

    The graph takes `X`, (batch, n_in), and gives `outputs`, (batch, n_out): what `feedforward`
    returns. It has a `Gemm` for each layer, z = a W^T + b, and its activation; in front of them a
    `Mul` by `input_scale`, and a `Cast` where X holds bytes. The batch may have any size.

    Parameters
    ----------
    net : Network
    path : path-like
        Replaced atomically if it exists.
    inputs : {"float", "uint8"}
        What X holds: numbers of the network's dtype, or bytes, as images come.

    Raises
    ------
    ImportError
        If onnx is missing.
    OSError
        If the file cannot be written.
    ValueError
        If `inputs` is neither, or the weights exceed the 2 GiB that an ONNX file can hold.

    References
    ----------
    https://onnx.ai/onnx/operators

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> from fastbp.interchange import read_onnx
    >>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
    >>> net = fastbp.Network([3, 4, 2], loss="cross-entropy", input_scale=1 / 255, seed=0)
    >>> write_onnx(net, path, inputs="uint8")
    >>> read_onnx(path).config["output"]
    'softmax'
    """
    checks.one_of("inputs", inputs, INPUTS)
    onnx, size = imported_onnx(), net.to_vector().nbytes
    if size > MOST_BYTES:
        raise ValueError(
            f"net must have at most {MOST_BYTES:,} bytes of weights for ONNX; found {size:,}"
        )
    files.write_bytes(path, _model(onnx, net, inputs).SerializeToString())


class _Step(NamedTuple):
    """A node on what the one before it gives."""

    operator: str
    constants: dict[str, np.ndarray]
    attributes: dict[str, Any]


def _steps(net: Network, given: int, computed: int) -> list[_Step]:
    steps = [] if given == computed else [_Step("Cast", {}, {"to": computed})]
    if net.config["input_scale"] != 1:
        scale = np.array(net.config["input_scale"], net.dtype)
        steps.append(_Step("Mul", {"input_scale": scale}, {}))
    hidden = [net.config["activation"]] * (net.num_layers - 2)
    for l, (W, name) in enumerate(zip(net.weights, [*hidden, net.config["output"]], strict=True)):
        arrays = {f"layers.{l}.weight": np.ascontiguousarray(W)}
        if net.biases:
            arrays[f"layers.{l}.bias"] = net.biases[l]
        steps.append(_Step("Gemm", arrays, {"transB": 1}))
        if name in OPERATORS:
            steps.append(_Step(OPERATORS[name], {}, {"axis": 1} if name == "softmax" else {}))
    return steps


def _model(onnx: Any, net: Network, inputs: str) -> Any:
    make = onnx.helper
    computed = make.np_dtype_to_tensor_dtype(net.dtype)
    given = onnx.TensorProto.UINT8 if inputs == "uint8" else computed
    steps = _steps(net, given, computed)
    ends = ["X", *(f"{step.operator}_{i}" for i, step in enumerate(steps[:-1])), "outputs"]
    nodes = [
        make.make_node(s.operator, [below, *s.constants], [end], name=end, **s.attributes)
        for s, below, end in zip(steps, ends, ends[1:], strict=False)
    ]
    constants = {name: array for step in steps for name, array in step.constants.items()}
    graph = make.make_graph(
        nodes, "fastbp",
        [make.make_tensor_value_info("X", given, ["batch", net.sizes[0]])],
        [make.make_tensor_value_info("outputs", computed, ["batch", net.sizes[-1]])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    model = make.make_model(
        graph, producer_name="fastbp", ir_version=IR_VERSION,
        opset_imports=[make.make_opsetid("", OPSET)],
    )  # fmt: skip
    make.set_model_props(model, {"loss": net.config["loss"]})
    return model
