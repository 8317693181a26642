"""From ONNX: a graph is walked from its input to its output, and must be a chain of dense layers.

The graph is taken for hostile. No other file is opened, no operator run, and arrays are checked
against their shapes before they are used.
"""

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .._support import checks
from ..errors import ModelFileError
from ..model import file as checkpoint
from ..model import losses
from ..network import Network
from .onnx_write import OPERATORS, imported_onnx
from .parts import Parts, network


def read_onnx(path: str | os.PathLike[str], *, loss: str | None = None) -> Network:
    """Read a network from an ONNX model that is a chain of dense layers.

    Layers are `Gemm`, or `MatMul` with or without an `Add`; activations are `Sigmoid`, `Tanh`,
    `Relu`, the same for all hidden layers, and at the end also `Softmax` or `Exp`. In front of
    them may stand `Cast`, `Flatten`, and `Mul` or `Div` by one number, which becomes
    `input_scale`. What PyTorch exports of a `torch.nn.Sequential` of linear layers is of this
    kind.

    Parameters
    ----------
    path : path-like
    loss : {"quadratic", "cross-entropy", "poisson"}, optional
        What training would go on with. By default what the file says, if fastbp wrote it, else
        cross-entropy after a softmax, poisson after exp, and quadratic after any other output.

    Returns
    -------
    Network

    Raises
    ------
    ImportError
        If onnx is missing.
    FileNotFoundError
    ModelFileError
        If the file is damaged, has an operator that is none of these, keeps its weights in other
        files, lacks an array or has one too many, or its arrays do not fit.
    ValueError
        If there is no such loss.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
    >>> net = fastbp.Network([3, 2], activation="tanh", seed=0)
    >>> fastbp.interchange.write_onnx(net, path)
    >>> bool((read_onnx(path).to_vector() == net.to_vector()).all())
    True
    """
    if loss is not None:
        checks.one_of("loss", loss, losses.NAMES)
    onnx, path = imported_onnx(), os.fspath(path)
    model = _parsed(onnx, path)
    chain = _Chain(onnx, path, model.graph)
    chain.walk()
    activation, output = chain.functions()
    said = {prop.key: prop.value for prop in model.metadata_props}.get("loss")
    usual = {"softmax": "cross-entropy", "exp": "poisson"}.get(output, "quadratic")
    return network(
        path, Parts(chain.weights, chain.all_biases()), activation=activation, output=output,
        loss=loss or said or usual, input_scale=chain.scale,
    )  # fmt: skip


def _parsed(onnx: Any, path: str) -> Any:
    checkpoint.check_regular(path)
    blob = Path(path).read_bytes()
    try:
        model = onnx.ModelProto.FromString(blob)
    except Exception as error:  # protobuf's own, of which there are several
        raise ModelFileError(f"{path} is damaged, or is no ONNX file: {error!s:.300}") from error
    if not _is_text(model):
        raise ModelFileError(f"{path} is damaged, or is no ONNX file: a name in it is no text")
    if not model.graph.node:
        raise ModelFileError(f"{path} is damaged, or is no ONNX file: it has no graph of nodes")
    return model


def _is_text(message: Any) -> bool:
    """Return whether all strings in a message are: protobuf hands out others as bytes."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            parts = [value] if hasattr(value, "ListFields") else value
            fine = all(map(_is_text, parts))
        elif field.type == field.TYPE_STRING:
            parts = [value] if isinstance(value, (str, bytes)) else value
            fine = all(isinstance(part, str) for part in parts)
        else:
            continue
        if not fine:
            return False
    return True


class _Chain:
    """What has been found of the network on the way through the graph."""

    def __init__(self, onnx: Any, path: str, graph: Any) -> None:
        self.onnx, self.path, self.graph = onnx, path, graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.unused = set(self.constants)
        self.weights: list[np.ndarray] = []
        self.biases: list[np.ndarray | None] = []
        self.activations: list[str | None] = []  # of each layer
        self.scale = 1.0

    def fault(self, message: str) -> ModelFileError:
        return ModelFileError(f"{self.path}: {message}")

    def walk(self) -> None:
        """Take in the nodes, each of which must stand on what the one before it gives."""
        end = self._input()
        for node in self.graph.node:
            own = node.domain in ("", "ai.onnx")
            if own and node.op_type == "Constant":
                self._constant(node)
                continue
            if not own or node.op_type not in _TAKE:
                raise self.fault(
                    f"operator {checkpoint.short(node.op_type)} is none that a network here has; "
                    f"they are {', '.join(_TAKE)}"
                )
            end = self._follow(node, end)
        if [output.name for output in self.graph.output] != [end]:
            raise self.fault("the graph must have one output, which the last node gives")
        if self.unused:
            name = checkpoint.short(min(self.unused))
            raise self.fault(f"array {name} is used by no node")

    def _input(self) -> str:
        names = [i.name for i in self.graph.input if i.name not in self.constants]
        if len(names) != 1:
            raise self.fault(f"the graph must have one input; found {len(names)}")
        if len(self.constants) < len(self.graph.initializer):
            raise self.fault("two arrays have the same name")
        return str(names[0])

    def _constant(self, node: Any) -> None:
        tensors = [a.t for a in node.attribute if a.name == "value"]
        if len(tensors) != 1 or len(node.output) != 1 or node.output[0] in self.constants:
            raise self.fault("operator 'Constant' must hold one array, with a name of its own")
        self.constants[node.output[0]] = tensors[0]

    def _follow(self, node: Any, end: str) -> str:
        """Take in one node; return the name of what it gives."""
        names = [name for name in node.input if name]
        places = [place for place, name in enumerate(names) if name == end]
        if len(places) != 1 or len(node.output) != 1 or node.output[0] in self.constants:
            raise self.fault(
                f"node {checkpoint.short(node.name or node.op_type)} does not stand on the one "
                "before it alone: the graph is no chain"
            )
        if places != [0] and node.op_type not in ("Add", "Mul"):
            raise self.fault(f"{node.op_type} must take what comes from below first")
        arrays = [self._array(name) for name in names if name != end]
        attributes = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        _TAKE[node.op_type](self, arrays, attributes)
        return str(node.output[0])

    def _array(self, name: str) -> np.ndarray:
        """Return a constant as an array of floats."""
        short = checkpoint.short(name)
        if name not in self.constants:
            raise self.fault(f"array {short} is missing, or no constant")
        tensor, kinds = self.constants[name], self.onnx.TensorProto
        if tensor.data_location == kinds.EXTERNAL or tensor.external_data:
            raise self.fault(
                f"array {short} lies in another file, which is not opened; save the model with its "
                "weights, in one file"
            )
        if tensor.data_type not in (kinds.FLOAT, kinds.DOUBLE):
            raise self.fault(f"array {short} must be float32 or float64")
        if len(tensor.dims) > 2 or min(tensor.dims, default=1) < 1:
            shape = list(tensor.dims)[:4]
            raise self.fault(f"array {short} must be a matrix, a row or a number; found {shape}")
        self.unused.discard(name)
        try:
            return np.array(self.onnx.numpy_helper.to_array(tensor))
        except Exception as error:  # whatever NumPy raises on shapes that do not fit
            raise self.fault(f"array {short} is damaged: {error!s:.300}") from error

    def layer(self, W: np.ndarray) -> None:
        """Begin a layer with these weights."""
        self.weights.append(W)
        self.biases.append(None)
        self.activations.append(None)

    def bias(self, b: np.ndarray) -> None:
        """Give the last layer its biases."""
        if not self.weights or self.biases[-1] is not None or self.activations[-1]:
            raise self.fault("Add must follow a MatMul: it is the bias of a layer")
        self.biases[-1] = b.reshape(-1)

    def functions(self) -> tuple[str, str]:
        """Return the activation of the hidden layers, and that of the output."""
        names = [name or "identity" for name in self.activations]
        for below, above in pairwise(names[:-1]):
            if below != above:
                raise self.fault(
                    f"hidden layers must have one activation in common; found {below} and {above}"
                )
        return (names[0] if len(names) > 1 else "sigmoid"), (names or ["identity"])[-1]

    def all_biases(self) -> list[np.ndarray]:
        """Return the biases; where only some layers have them, those of others are zero."""
        if all(b is None for b in self.biases):
            return []
        pairs = zip(self.weights, self.biases, strict=True)
        return [np.zeros(len(W), W.dtype) if b is None else b for W, b in pairs]


# -- what each operator means ----------------------------------------------------------------------

_Arrays: TypeAlias = list[np.ndarray]
_Attributes: TypeAlias = dict[str, Any]
_Take: TypeAlias = Callable[["_Chain", _Arrays, _Attributes], None]


def _must_be(chain: _Chain, operator: str, attributes: _Attributes, **wanted: Any) -> None:
    for name, values in wanted.items():
        if name in attributes and attributes[name] not in values:
            raise chain.fault(f"{operator} with {name} {attributes[name]} is no dense layer's")


def _matrix(chain: _Chain, operator: str, arrays: _Arrays, most: int) -> np.ndarray:
    if not 1 <= len(arrays) <= most or arrays[0].ndim != 2:
        raise chain.fault(f"{operator} must have a matrix of weights")
    return arrays[0]


def _gemm(chain: _Chain, arrays: _Arrays, attributes: _Attributes) -> None:
    _must_be(chain, "Gemm", attributes, alpha=[1], beta=[1], transA=[0], transB=[0, 1])
    W = _matrix(chain, "Gemm", arrays, most=2)
    chain.layer(W if attributes.get("transB") else W.T)
    for b in arrays[1:]:
        chain.bias(b)


def _matmul(chain: _Chain, arrays: _Arrays, attributes: _Attributes) -> None:
    chain.layer(_matrix(chain, "MatMul", arrays, most=1).T)


def _add(chain: _Chain, arrays: _Arrays, attributes: _Attributes) -> None:
    chain.bias(arrays[0] if arrays else np.empty(0))


def _scales(operator: str, power: int) -> _Take:
    def take(chain: _Chain, arrays: _Arrays, attributes: _Attributes) -> None:
        factor = float(arrays[0].item()) if [a.size for a in arrays] == [1] else 0.0
        if chain.weights or not factor > 0:
            raise chain.fault(
                f"{operator} must scale the inputs, before the first layer, by a number above zero"
            )
        chain.scale *= factor**power

    return take


def _activation(name: str) -> _Take:
    def take(chain: _Chain, arrays: _Arrays, attributes: _Attributes) -> None:
        _must_be(chain, OPERATORS[name], attributes, axis=[1, -1])
        if not chain.weights or chain.activations[-1] or arrays:
            raise chain.fault(f"{OPERATORS[name]} must follow a layer, as its only activation")
        chain.activations[-1] = name

    return take


def _nothing(chain: _Chain, arrays: _Arrays, attributes: _Attributes) -> None:
    """Leave the values as they are."""


def _in_front(operator: str, **wanted: Any) -> _Take:
    def take(chain: _Chain, arrays: _Arrays, attributes: _Attributes) -> None:
        _must_be(chain, operator, attributes, **wanted)
        if chain.weights:
            raise chain.fault(f"{operator} must stand before the first layer")

    return take


_TAKE: dict[str, _Take] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _add,
    **{operator: _activation(name) for name, operator in OPERATORS.items()},
    "Identity": _nothing,
    "Cast": _in_front("Cast", to=[1, 11]),  # TensorProto.FLOAT, DOUBLE
    "Flatten": _in_front("Flatten", axis=[1]),
    "Mul": _scales("Mul", 1),
    "Div": _scales("Div", -1),
}
