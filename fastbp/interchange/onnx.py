"""ONNX, by its package, which is an extra: a graph that is a chain of dense layers.

A graph that is read may be hostile: no other file is opened, and no operator is run.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .._support import checks, extras, files
from .._support.texts import said
from ..model import config
from ..model.file import check_regular
from ..network import Network
from .parts import Parts, functions_of_layers, naming, network

OPERATORS = {
    "sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "exp": "Exp", "softmax": "Softmax",
}  # fmt: skip
# Old enough for any onnxruntime since 1.12 (2022); these operators have not changed since.
OPSET, IR_VERSION = 17, 8
MAX_BYTES = 2**31 - 2**20  # of weights: a file is one protobuf message, of less than 2 GiB
_REQUIRED = ("onnx", "onnx", "ONNX files", "onnx")
_Arrays: TypeAlias = list[np.ndarray]
_Attributes: TypeAlias = dict[str, Any]


def write_onnx(net: Network, path: str | os.PathLike[str], *, inputs: str = "float") -> None:
    """Write a network as an ONNX model.

    The graph takes `X`, (batch, n_in), and gives `outputs`, (batch, n_out), as `feedforward`
    does. It has a `Gemm` for each layer, z = a W^T + b, and its activation; before the first layer
    a `Mul` by `input_scale`, and a `Cast` if X holds bytes. The batch may have any size.

    Parameters
    ----------
    net : Network
    path : path-like
        Replaced atomically if it exists.
    inputs : {"float", "uint8"}, default "float"
        What X holds: numbers of the network's dtype, or bytes, as images do.

    Raises
    ------
    ImportError
        If onnx is missing.
    OSError
        If the file cannot be written.
    ValueError
        If `inputs` is neither of these, or the weights exceed the 2 GiB that an ONNX file can hold.

    References
    ----------
    https://onnx.ai/onnx/operators

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
    >>> net = fastbp.Network([3, 4, 2], loss="cross-entropy", input_scale=1 / 255, seed=0)
    >>> write_onnx(net, path, inputs="uint8")
    >>> read_onnx(path).config["output"]
    'softmax'
    """
    checks.one_of("inputs", inputs, ("float", "uint8"))
    files.check_name(path, ".onnx")
    onnx, size = extras.required(*_REQUIRED), net.to_vector().nbytes
    if size > MAX_BYTES:
        raise ValueError(f"net must have at most {MAX_BYTES:,} bytes for ONNX; got {size:,}")
    files.write_bytes(path, _model(onnx, net, inputs).SerializeToString())


def _model(onnx: Any, net: Network, inputs: str) -> Any:
    make = onnx.helper
    computed = make.np_dtype_to_tensor_dtype(net.dtype)
    given = onnx.TensorProto.UINT8 if inputs == "uint8" else computed
    nodes: list[Any] = []
    constants: dict[str, np.ndarray] = {}

    def add(operator: str, arrays: dict[str, np.ndarray], **attributes: int) -> None:
        below, end = nodes[-1].name if nodes else "X", f"{operator}_{len(nodes)}"
        nodes.append(make.make_node(operator, [below, *arrays], [end], name=end, **attributes))
        constants.update(arrays)

    if given != computed:
        add("Cast", {}, to=computed)
    if net.config["input_scale"] != 1:
        add("Mul", {"input_scale": np.array(net.config["input_scale"], net.dtype)})
    for l, (W, name) in enumerate(functions_of_layers(net)):
        arrays = {f"layers.{l}.weight": np.ascontiguousarray(W)}
        if net.biases:
            arrays[f"layers.{l}.bias"] = net.biases[l]
        add("Gemm", arrays, transB=1)
        if name in OPERATORS:
            add(OPERATORS[name], {}, **({"axis": 1} if name == "softmax" else {}))
    nodes[-1].name = nodes[-1].output[0] = "outputs"
    graph = make.make_graph(
        nodes, "fastbp",
        [make.make_tensor_value_info("X", given, ["batch", net.sizes[0]])],
        [make.make_tensor_value_info("outputs", computed, ["batch", net.sizes[-1]])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    versions = {"ir_version": IR_VERSION, "opset_imports": [make.make_opsetid("", OPSET)]}
    model = make.make_model(graph, producer_name="fastbp", **versions)
    make.set_model_props(model, {"loss": net.config["loss"]})
    return model


def read_onnx(path: str | os.PathLike[str], *, loss: str | None = None) -> Network:
    """Read a network from an ONNX model that is a chain of dense layers.

    Layers are `Gemm`, or `MatMul` with or without an `Add`. Activations are `Sigmoid`, `Tanh`,
    `Relu`, the same for all hidden layers; the output may also be `Softmax` or `Exp`. The first
    layer may follow `Cast`, `Flatten`, and `Mul` or `Div` by one number, which becomes
    `input_scale`. PyTorch exports a `torch.nn.Sequential` of linear layers in this form.

    Parameters
    ----------
    path : path-like
    loss : {"quadratic", "cross-entropy", "poisson"}, optional
        The loss for further training. By default the one in the file, if fastbp wrote it, else
        cross-entropy for a softmax output, poisson for exp, and quadratic for any other.

    Returns
    -------
    Network

    Raises
    ------
    ImportError
        If onnx is missing.
    FileNotFoundError, ModelFileError
        If the file is missing or damaged, has another operator, keeps weights in other files,
        lacks an array or has one that is not used, or its arrays do not fit.
    ValueError
        If there is no such loss.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
    >>> write_onnx(fastbp.Network([3, 2, 2], activation="tanh", seed=0), path)
    >>> read_onnx(path).config["activation"]
    'tanh'
    """
    if loss is not None:
        checks.one_of("loss", loss, config.LOSSES)
    onnx = extras.required(*_REQUIRED)
    check_regular(path)
    with naming(path):
        model = _parsed(onnx, Path(path).read_bytes())
        chain = _Chain(onnx, model.graph)
        chain.follow()
        *hidden, output = [name or "identity" for name in chain.activations] or ["identity"]
        if len(set(hidden)) > 1:
            got = " and ".join(dict.fromkeys(hidden))
            raise ValueError(f"hidden layers must have the same activation; got {got}")
        written = {prop.key: prop.value for prop in model.metadata_props}.get("loss")
        usual = {"softmax": "cross-entropy", "exp": "poisson"}.get(output, "quadratic")
        functions = {"activation": (hidden or ["sigmoid"])[0], "output": output}
        functions["loss"] = loss or written or usual
        return network(chain.parts(), input_scale=chain.scale, **functions)


def _parsed(onnx: Any, blob: bytes) -> Any:
    try:
        model = onnx.ModelProto.FromString(blob)
        if not all(isinstance(text, str) for text in _texts(model)):
            raise ValueError("a name in it is not text")
        if not model.graph.node:
            raise ValueError("it has no graph of nodes")
        return model
    except Exception as error:  # protobuf's own, of which there are several
        raise ValueError(f"damaged, or not an ONNX file: {said(error)}") from error


def _texts(message: Any) -> Iterator[Any]:
    """Yield all strings in a message; protobuf gives those that are not UTF-8 as bytes."""
    for field, value in message.ListFields():
        single = isinstance(value, (str, bytes)) or hasattr(value, "ListFields")
        parts = [value] if single else value
        if field.type == field.TYPE_STRING:
            yield from parts
        elif field.type == field.TYPE_MESSAGE:
            for part in parts:
                yield from _texts(part)


class _Chain:
    # The way through a graph, on which every node must take what the one before it gives. A method
    # for each kind of operator takes one node into the layers so far.
    def __init__(self, onnx: Any, graph: Any) -> None:
        self.onnx, self.graph = onnx, graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.unused = set(self.constants)
        self.weights: list[np.ndarray] = []
        self.biases: list[np.ndarray | None] = []
        self.activations: list[str | None] = []
        self.scale = 1.0

    def follow(self) -> None:
        inputs = [i.name for i in self.graph.input if i.name not in self.constants]
        if len(inputs) != 1:
            raise ValueError(f"the graph must have one input; got {len(inputs)}")
        if len(self.constants) < len(self.graph.initializer):
            raise ValueError("two arrays have the same name")
        end = inputs[0]
        for node in self.graph.node:
            own = node.domain in ("", "ai.onnx")
            operator = node.op_type if own else f"{node.domain}.{node.op_type}"
            if operator == "Constant":
                self._constant(node)
                continue
            checks.one_of("operator", operator, _TAKE)
            arrays = [self._array(name) for name in self._others(node, end)]
            _TAKE[operator](self, operator, arrays, self._attributes(node))
            end = node.output[0]
        if [output.name for output in self.graph.output] != [end]:
            raise ValueError("the graph must have one output, which the last node gives")
        if self.unused:
            raise ValueError(f"array {said(min(self.unused), 40)!r} is not used by any node")

    def _constant(self, node: Any) -> None:
        tensors = [a.t for a in node.attribute if a.name == "value"]
        if len(tensors) != 1 or len(node.output) != 1 or node.output[0] in self.constants:
            raise ValueError("operator 'Constant' must hold one array, with a name of its own")
        self.constants[node.output[0]] = tensors[0]

    def _others(self, node: Any, end: str) -> list[str]:
        names: list[str] = [name for name in node.input if name]
        if names.count(end) != 1 or len(node.output) != 1 or node.output[0] in self.constants:
            name = said(node.name or node.op_type, 40)
            raise ValueError(f"the graph must be a chain; node {name!r} breaks it")
        if names[0] != end and node.op_type not in ("Add", "Mul"):
            raise ValueError(f"the first input of {node.op_type} must be the layer below")
        return [name for name in names if name != end]

    def _array(self, name: str) -> np.ndarray:
        array = f"array {said(name, 40)!r}"
        if name not in self.constants:
            raise ValueError(f"{array} is missing, or not a constant")
        tensor, kinds = self.constants[name], self.onnx.TensorProto
        if tensor.data_location == kinds.EXTERNAL or tensor.external_data:
            raise ValueError(f"{array} lies in another file, not opened; save all in one file")
        if tensor.data_type not in (kinds.FLOAT, kinds.DOUBLE):
            raise ValueError(f"{array} must be float32 or float64")
        if len(tensor.dims) > 2 or min(tensor.dims, default=1) < 1:
            shape = list(tensor.dims)[:4]
            raise ValueError(f"{array} must be a matrix, a row or a number; got shape {shape}")
        self.unused.discard(name)
        try:
            return np.array(self.onnx.numpy_helper.to_array(tensor))
        except Exception as error:  # whatever NumPy raises on shapes that do not fit
            raise ValueError(f"{array} is damaged: {said(error)}") from error

    def _attributes(self, node: Any) -> _Attributes:
        try:
            found = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        except ValueError as error:  # a reference to another attribute, or of no known type
            raise ValueError(f"{node.op_type} has a damaged attribute") from error
        for name, values in _ALLOWED.get(node.op_type, {}).items():
            if found.get(name, values[0]) not in values:
                wanted, got = " or ".join(map(str, values)), said(found[name], 40)
                raise ValueError(f"{node.op_type} must have {name} {wanted}; got {got}")
        return found

    def dense(self, operator: str, arrays: _Arrays, attributes: _Attributes) -> None:
        if not 1 <= len(arrays) <= 1 + (operator == "Gemm") or arrays[0].ndim != 2:
            raise ValueError(f"{operator} must have a matrix of weights")
        self.weights.append(arrays[0] if attributes.get("transB") else arrays[0].T)
        self.biases.append(arrays[1].reshape(-1) if len(arrays) > 1 else None)
        self.activations.append(None)

    def add(self, operator: str, arrays: _Arrays, _: _Attributes) -> None:
        if not arrays or not self.weights or self.biases[-1] is not None or self.activations[-1]:
            raise ValueError("Add must follow a MatMul: it is the bias of a layer")
        self.biases[-1] = arrays[0].reshape(-1)

    def scaled(self, operator: str, arrays: _Arrays, _: _Attributes) -> None:
        factor = float(arrays[0].item()) if [a.size for a in arrays] == [1] else 0.0
        if self.weights or not factor > 0:
            raise ValueError(f"{operator} must be before the first layer, of one number above zero")
        self.scale *= factor ** {"Mul": 1, "Div": -1}[operator]

    def activated(self, operator: str, arrays: _Arrays, _: _Attributes) -> None:
        if not self.weights or self.activations[-1] or arrays:
            raise ValueError(f"{operator} must follow a layer, as its only activation")
        self.activations[-1] = _ACTIVATIONS[operator]

    def unchanged(self, operator: str, arrays: _Arrays, _: _Attributes) -> None:
        if self.weights and operator != "Identity":
            raise ValueError(f"{operator} must stand before the first layer")

    def parts(self) -> Parts:
        # Where only some layers have biases, those of others are zero.
        pairs = zip(self.weights, self.biases, strict=True)
        biases = [np.zeros(len(W), W.dtype) if b is None else b for W, b in pairs]
        return self.weights, biases if any(b is not None for b in self.biases) else []


_ACTIVATIONS = {operator: name for name, operator in OPERATORS.items()}
_TAKE: dict[str, Callable[[_Chain, str, _Arrays, _Attributes], None]] = {
    **dict.fromkeys(["Gemm", "MatMul"], _Chain.dense),
    "Add": _Chain.add,
    **dict.fromkeys(["Mul", "Div"], _Chain.scaled),
    **dict.fromkeys(_ACTIVATIONS, _Chain.activated),
    **dict.fromkeys(["Identity", "Cast", "Flatten"], _Chain.unchanged),
}
_ALLOWED = {  # values of attributes
    "Gemm": {"alpha": [1], "beta": [1], "transA": [0], "transB": [0, 1]},
    "Softmax": {"axis": [1, -1]},
    "Flatten": {"axis": [1]},
    "Cast": {"to": [1, 11]},  # TensorProto.FLOAT, DOUBLE
}
