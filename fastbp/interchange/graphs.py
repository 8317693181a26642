"""The graph of an ONNX model, followed as a chain of dense layers.

Whatever is not exactly such a chain is refused: each operator, attribute, axis and shape is known
here or an error. A graph may be hostile: no operator is run but on constants and lengths of axes.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._support import checks
from .._support.texts import said
from ..errors import ModelFileError
from ..model.file import check_head
from ..model.scaling import Scaling, checked
from .operators import AFFINE, POINTWISE, POWERS, STANDARDISED, Curve
from .parts import Parts

_ACTIVATIONS = {
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Exp": "exp", "LeakyRelu": "leaky_relu",
    "Elu": "elu", "Softplus": "softplus", "Gelu": "gelu", "Swish": "silu", "Softmax": "softmax",
    "LogSoftmax": "log-softmax",
}  # fmt: skip
OPSETS = range(7, 29)  # whose operators mean what is said here
MOST_TIMES = 64  # the bytes of its files, for all arrays: a matrix may serve several layers
_DOMAINS = "", "ai.onnx"  # names of one
# Lengths of axes, beside those above zero and the -1 of Reshape.
BATCH, UNKNOWN = -2, -3
_Lengths = list[int]
# Names of TensorProto: what arrays may hold, and what inputs must not.
_KINDS = "FLOAT", "DOUBLE", "FLOAT16", "INT32", "INT64", "BOOL"
_NO_NUMBERS = "UNDEFINED", "STRING", "COMPLEX64", "COMPLEX128"
_ONE_FILE = (
    "put both into one folder, or save one file, in PyTorch by "
    "torch.onnx.export(..., external_data=False)"
)


class Layers(NamedTuple):
    """What a graph computes; an activation is None where there is none."""

    parts: Parts
    activations: list[Any]  # a name, or an `Activation` of the user's
    input_scale: float
    scaling: Scaling | None


def layers(onnx: Any, model: Any, folder: Path, own: Sequence[Any] = ()) -> Layers:
    """Return the layers of an ONNX model that lies in this folder.

    `own` are activations of the user's that it may have.
    """
    versions = [o.version for o in model.opset_import if o.domain in _DOMAINS]
    if any(version not in OPSETS for version in versions):
        known = f"{OPSETS[0]} to {OPSETS[-1]}"
        raise ValueError(f"the opset must be {known}; got {versions[0]}; export with another")
    if any(node.domain == "ai.onnx.ml" for node in model.graph.node):
        advice = "pass the estimator itself to fastbp.interchange.from_sklearn"
        raise ValueError(f"it was made of a scikit-learn estimator: {advice}")
    chain = _Chain(onnx, model, folder, own)
    with np.errstate(all="ignore"):  # layers that are not finite are refused later
        chain.follow()
    # Where only some layers have biases, those of others are zero.
    pairs = zip(chain.weights, chain.biases, strict=True)
    biases = [np.zeros(len(W), W.dtype) if b is None else b for W, b in pairs]
    some = any(b is not None for b in chain.biases)
    parts = chain.weights, biases if some else []
    return Layers(parts, chain.activations, *chain.input_scaling())


class _Node(NamedTuple):
    operator: str
    names: list[str]  # of inputs, without the one that the layer below gives
    attributes: dict[str, Any]


class _Chain:
    def __init__(self, onnx: Any, model: Any, folder: Path, own: Sequence[Any]) -> None:
        self.onnx, self.graph, self.folder = onnx, model.graph, folder.resolve()
        self.redefined = {f.name for f in model.functions if f.domain in _DOMAINS}
        self.room, self.files = MOST_TIMES * model.ByteSize(), set[Path]()
        # A TensorProto until it is used, then an array; or a list, of lengths of axes.
        self.constants: dict[str, Any] = {t.name: t for t in self.graph.initializer}
        self.end, self.batch = "", UNKNOWN
        self.shapes: dict[str, _Lengths] = {}  # of the samples on their way to `end`
        self.weights: list[np.ndarray] = []
        self.biases: list[np.ndarray | None] = []
        self.activations: list[Any] = []
        self.own, self.dense_by = own, ""  # the operator of the newest layer
        # Where several nodes make an activation: what is followed of it, and how often each output
        # is still to be used.
        self.curve: Curve | None = None
        self.uses = Counter[str]()
        # What is done to inputs before the first layer, x -> (x - mean) / divisor.
        self.mean, self.divisor = np.zeros(1), np.ones(1)
        self.scale: float | None = 1.0  # the same as one factor; None if it is not

    def follow(self) -> None:
        graph, wanted = self.graph, list[Any]()
        if len(self.constants) < len(graph.initializer):
            raise ValueError("two arrays have the same name")
        inputs = [i for i in graph.input if i.name not in self.constants]
        for kind, found in (("input", inputs), ("output", graph.output)):
            if len(found) != 1:
                raise ValueError(f"the graph must have one {kind}; got {len(found)}")
        self._begin(inputs[0])
        needed = {graph.output[0].name}
        for node in reversed(graph.node):
            if needed.intersection(filter(None, node.output)):
                needed.update(node.input)
                wanted.append(node)
        self.uses.update({graph.output[0].name: 1})
        for node in wanted:
            self.uses.update(node.input if node.op_type != "Shape" else [])
        for node in reversed(wanted):
            self._take(node)
        self._end_curve()
        if graph.output[0].name != self.end:
            raise ValueError("the output of the graph must be that of its last layer")
        self._width("the output")

    def _begin(self, given: Any) -> None:
        tensor = given.type.tensor_type
        if tensor.elem_type in map(self.onnx.TensorProto.DataType.Value, _NO_NUMBERS):
            raise ValueError("the input of the graph must be an array of numbers")
        # Of no declared shape: rows, which are all that a network takes.
        lengths = [_known(axis.dim_value) for axis in tensor.shape.dim]
        lengths = lengths if tensor.HasField("shape") else [UNKNOWN, UNKNOWN]
        if len(lengths) < 2:
            raise ValueError(f"the input must have rows, (batch, n); got {len(lengths)} axes")
        self.batch, *row = lengths
        self.end, self.shapes = given.name, {given.name: [BATCH, *row]}

    def _take(self, node: Any) -> None:
        own = node.domain in _DOMAINS and node.op_type not in self.redefined
        operator = node.op_type if own else f"{node.domain}.{node.op_type}"
        label, names = repr(said(node.name or operator, 40)), [*node.input]
        while names and not names[-1]:  # optional
            names.pop()
        constant = operator == "Shape" or all(name in self.constants for name in names)
        bends = not constant and self._bends(operator, names)
        table = _FOLDED if constant else _BENT if bends else _TAKEN
        rule = table[checks.one_of("operator", operator, table)]
        attributes = self._attributes(node, rule.attributes)
        gives = [name for name in node.output if name]
        if len(gives) not in (1, 1 + (operator == "Dropout")) or not node.output[0]:
            raise ValueError(f"node {label} must have one output; got {len(gives)}")
        known = self.constants, self.shapes, self.curve.values if self.curve else {}
        if any(gives[0] in names for names in known):
            raise ValueError(f"node {label} must give its output a new name")
        if not rule.least <= len(names) <= rule.most:
            raise ValueError(f"node {label} must have {rule.least} inputs; got {len(names)}")
        if constant:
            self.constants[gives[0]] = rule.take(self, _Node(operator, names, attributes))
            return
        if bends:
            self._bend(operator, label, names, gives[0])
            return
        self._end_curve()
        self.uses.subtract(names)
        if names.count(self.end) != 1:
            raise ValueError(f"the graph must be a chain; node {label} breaks it")
        if names[0] != self.end and operator not in ("Add", "Mul"):
            raise ValueError(f"the first input of {operator} must be the layer below")
        names.remove(self.end)
        shape = rule.take(self, _Node(operator, names, attributes))
        self.shapes[gives[0]] = shape or self.shapes[self.end]
        self.end = gives[0]

    # Activations that several nodes make, as Mul and Sigmoid make SiLU.

    def _bends(self, operator: str, names: list[str]) -> bool:
        """Return whether a node is part of an activation of several."""
        if self.curve is not None or operator not in POINTWISE:
            return self.curve is not None and operator in POINTWISE
        before = bool(self.weights) and self.activations[-1] is None and self.end in names
        # What MatMul gives still lacks its biases, which may be one number.
        own = bool(self.own) and not (operator in AFFINE and self.dense_by == "MatMul")
        own = own and all(self._array(name).size == 1 for name in names if name in self.constants)
        return before and (own or self.uses[self.end] > 1)

    def _bend(self, operator: str, label: str, names: list[str], gives: str) -> None:
        self.curve = self.curve or Curve(self.end)
        inputs: list[Any] = [name for name in names if name in self.curve.values]
        for i, name in enumerate(names):
            if name in self.constants:
                array = self._array(name)
                if array.size != 1:
                    got = f"array {said(name, 40)!r} of shape {array.shape}"
                    raise ValueError(f"node {label} of an activation must have a number; got {got}")
                inputs.insert(i, float(array.ravel()[0]))
        if len(inputs) < len(names):
            raise ValueError(f"the graph must be a chain; node {label} breaks it")
        self.curve.take(operator, inputs, gives)
        self.uses.subtract(names)

    def _end_curve(self) -> None:
        """Take what was followed since the newest layer as its activation."""
        if self.curve is None:
            return
        name, found = self.curve.end(self.uses, self.own)
        if found is None:
            wanted = "an activation that a Network has, or one of functions=[...]"
            raise ValueError(f"the nodes after layer {len(self.weights) - 1} must make {wanted}")
        self.activations[-1], self.curve = found, None
        self.shapes[name], self.end = self.shapes[self.end], name

    def _attributes(self, node: Any, allowed: dict[str, Any]) -> dict[str, Any]:
        try:
            found = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        except ValueError as error:  # a reference to another attribute, or of no known type
            raise ValueError(f"{node.op_type} has a damaged attribute") from error
        for name, value in found.items():
            checks.one_of(f"attribute of {node.op_type}", name, allowed)
            values = allowed[name]
            # Numbers are kept in float32.
            near = float(str(np.float32(value))) if isinstance(value, float) else value
            if not (isinstance(value, values) if isinstance(values, type) else near in values):
                wanted = getattr(values, "__name__", "") or " or ".join(map(str, values))
                raise ValueError(f"{node.op_type} must have {name} {wanted}; got {said(value, 40)}")
        return found

    # Arrays of the file.

    def _array(self, name: str) -> np.ndarray:
        array, tensor = f"array {said(name, 40)!r}", self.constants.get(name)
        if isinstance(tensor, np.ndarray):
            return tensor
        if tensor is None or isinstance(tensor, list):
            raise ValueError(f"{array} is missing, or not a constant")
        kinds = self.onnx.TensorProto
        if tensor.data_type not in map(kinds.DataType.Value, _KINDS):
            raise ValueError(f"{array} must be float32 or float64")
        if len(tensor.dims) > 2 or min(tensor.dims, default=1) < 1:
            shape = list(tensor.dims)[:4]
            raise ValueError(f"{array} must be a matrix, a row or a number; got shape {shape}")
        outside = tensor.data_location == kinds.EXTERNAL or tensor.external_data
        try:
            read = self._beside if outside else self.onnx.numpy_helper.to_array
            self.constants[name] = found = np.asarray(read(tensor))
        except FileNotFoundError as error:
            raise ValueError(f"{array} lies in {error}; {_ONE_FILE}") from None
        except ModelFileError:
            raise
        except Exception as error:  # whatever NumPy raises on shapes that do not fit
            raise ValueError(f"{array} is damaged: {said(error)}") from error
        return self._charged(found)

    def _beside(self, tensor: Any) -> np.ndarray:
        """Return the array that a file in the model's folder, or below it, holds."""
        fields = {entry.key: entry.value for entry in tensor.external_data}
        place = Path(fields.get("location", ""))
        path, shown = (self.folder / place).resolve(), repr(said(place, 60))
        if ".." in place.parts or not path.is_relative_to(self.folder):
            raise FileNotFoundError(f"{shown}, outside the model's folder")
        if not path.is_file():
            raise FileNotFoundError(f"{shown}, which is not beside the model")
        check_head(path)
        dtype = self.onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")
        size, start = math.prod(tensor.dims) * dtype.itemsize, int(fields.get("offset", 0))
        with open(path, "rb") as file:
            end = file.seek(0, 2)
            if int(fields.get("length", size)) != size or not 0 <= start <= end - size:
                raise ValueError(f"{shown} must have {size} bytes at {start}")
            self.room += 0 if path in self.files else MOST_TIMES * end
            self.files.add(path)
            file.seek(start)
            found = np.frombuffer(file.read(size), dtype).reshape(tensor.dims)
        return np.asarray(found, dtype.name)

    def _charged(self, array: np.ndarray) -> np.ndarray:
        self.room -= array.nbytes
        if self.room < 0:  # a small file must not become a vast network
            raise ValueError(f"arrays must take at most {MOST_TIMES} times the size of the file")
        return array

    def _floats(self, name: str) -> np.ndarray:
        array = self._array(name)
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"array {said(name, 40)!r} must be float32 or float64")
        return array

    def _row(self, name: str, n: int, what: str = "biases") -> np.ndarray:
        """Return an array as a number for each of n outputs, the same for all samples."""
        array = self._floats(name)
        try:
            row: np.ndarray = np.broadcast_to(array, (1, n))[0]
        except ValueError:
            got = f"array {said(name, 40)!r} of shape {array.shape}"
            raise ValueError(f"{what} must be one row of {n}, for all samples; got {got}") from None
        return row

    # Constants made of others.

    def lengths(self, name: str) -> _Lengths:
        if isinstance(self.constants.get(name), list):
            return list(self.constants[name])
        array = self._array(name)
        if array.dtype.kind != "i":
            raise ValueError(f"array {said(name, 40)!r} must hold integers")
        return [int(length) for length in array.ravel()]

    def constant(self, node: _Node) -> Any:
        kinds = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
        ((kind, value),) = node.attributes.items() if len(node.attributes) == 1 else [("", None)]
        if kind in kinds:
            return np.array(value, kinds[kind])
        if not isinstance(value, self.onnx.TensorProto):
            raise ValueError("operator 'Constant' must hold one array")
        return value

    def cast(self, node: _Node) -> Any:
        dtype = self.onnx.helper.tensor_dtype_to_np_dtype(node.attributes.get("to", 1))
        if dtype.kind == "i":
            return self.lengths(node.names[0])
        return self._charged(self._array(node.names[0]).astype(dtype))

    def transposed(self, node: _Node) -> Any:
        if node.attributes.get("perm", [1, 0]) != [1, 0]:
            raise ValueError(f"Transpose must have perm [1, 0]; got {node.attributes['perm']}")
        return self._array(node.names[0]).T

    def measured(self, node: _Node) -> Any:
        if node.names[0] not in self.shapes:
            raise ValueError("Shape must be that of the samples")
        first, end = node.attributes.get("start", 0), node.attributes.get("end")
        return self.shapes[node.names[0]][first:end]

    def picked(self, node: _Node) -> Any:
        lengths, index = (self.lengths(name) for name in node.names)
        return [lengths[i] for i in index if -len(lengths) <= i < len(lengths)]

    def joined(self, node: _Node) -> Any:
        return [length for name in node.names for length in self.lengths(name)]

    def single(self, node: _Node) -> Any:
        lengths = self.lengths(node.names[0])
        if len(lengths) != 1:
            raise ValueError(f"{node.operator} must be of the samples, or of one length")
        return lengths

    # The way of the samples. Each method returns their new shape, or None where it stays.

    def _width(self, what: str) -> int:
        shape = self.shapes[self.end]
        if len(shape) != 2:
            shown = ", ".join({BATCH: "batch", UNKNOWN: "?"}.get(n, str(n)) for n in shape)
            raise ValueError(f"{what} must have rows, (batch, n), as networks do; got ({shown})")
        return shape[1]

    def _above(self, operator: str) -> int:
        """Return the width of the layer just below, which has no activation yet."""
        if not self.weights or self.activations[-1]:
            raise ValueError(f"{operator} must follow a layer, before its activation")
        return self._width(f"the input of {operator}")

    def dense(self, node: _Node) -> _Lengths:
        n_in, W = self._width(f"the input of {node.operator}"), self._floats(node.names[0])
        if W.ndim != 2:
            raise ValueError(f"{node.operator} must have a matrix of weights; got {W.shape}")
        W = W if node.attributes.get("transB") else W.T
        if n_in not in (UNKNOWN, W.shape[1]):
            layer = len(self.weights)
            raise ValueError(f"layer {layer} takes {W.shape[1]} inputs, but is given {n_in}")
        alpha, beta = (node.attributes.get(name, 1.0) for name in ("alpha", "beta"))
        self.dense_by = node.operator
        self.weights.append(self._charged(W if alpha == 1 else W * alpha))
        rows = [self._row(name, len(W)) * beta for name in node.names[1:]]
        self.biases.append(rows[0] if rows else None)
        self.activations.append(None)
        return [BATCH, len(W)]

    def affine(self, node: _Node) -> None:
        if self.weights:
            row = self._row(node.names[0], self._above(node.operator)).astype(np.float64)
            return self._fold(*AFFINE[node.operator](row))
        array = self._floats(node.names[0])
        if array.size > 1:
            n = self._width(f"the input of {node.operator}")
            n = array.size if n == UNKNOWN else n
            array = self._row(node.names[0], n, f"what inputs meet in {node.operator}")
        row = array.astype(np.float64).reshape(-1)
        if node.operator in POWERS and not (row > 0).all():
            raise ValueError(f"{node.operator} of the inputs must be by numbers above zero")
        if len(row) > 1 or (node.operator not in POWERS and row[0]):
            self.scale = None
        elif self.scale is not None and node.operator in POWERS:
            self.scale *= float(row[0]) ** POWERS[node.operator]
        self.mean, self.divisor = STANDARDISED[node.operator](self.mean, self.divisor, row)

    def input_scaling(self) -> tuple[float, Scaling | None]:
        """Return by what inputs are multiplied, or else standardised, before the first layer."""
        if self.scale is not None or not self.weights:
            return self.scale or 1.0, None
        n = self.weights[0].shape[1]
        if {len(self.mean), len(self.divisor)} - {1, n}:
            raise ValueError(f"layer 0 takes {n} inputs, but they are scaled as another number")
        mean, divisor = np.broadcast_to(self.mean, n), np.broadcast_to(self.divisor, n)
        if not divisor.all():  # 0 would stand for a constant column
            raise ValueError("factors of the inputs must be finite")
        return 1.0, checked("the scaling", (mean, np.where(divisor == np.inf, 0, divisor)), n)

    def normalized(self, node: _Node) -> None:
        n = self._above(node.operator)
        gain, shift, mean, var = (self._row(name, n).astype(np.float64) for name in node.names)
        factor = gain / np.sqrt(var + node.attributes.get("epsilon", 1e-5))
        self._fold(factor, shift - mean * factor)

    def _fold(self, factor: np.ndarray | None, shift: np.ndarray | float) -> None:
        W, b = self.weights[-1], self.biases[-1]
        b = np.zeros(len(W)) if b is None else b
        if factor is not None:
            self.weights[-1], b = (W * factor[:, None]).astype(W.dtype), b * factor
        self.biases[-1] = (b + shift).astype(W.dtype)

    def activated(self, node: _Node) -> None:
        self._above(node.operator)
        self.activations[-1] = _ACTIVATIONS[node.operator]

    def unchanged(self, node: _Node) -> None:
        if len(node.names) == 2 and self._array(node.names[1]).any():
            raise ValueError("Dropout must not have training_mode on: export after model.eval()")

    def flattened(self, node: _Node) -> _Lengths:
        shape, axis = self.shapes[self.end], node.attributes.get("axis", 1)
        if axis not in (1, 1 - len(shape)):
            raise ValueError(f"Flatten must have axis 1; got {axis}")
        return [BATCH, _product(shape[1:])]

    def reshaped(self, node: _Node) -> _Lengths:
        shape, wanted = self.shapes[self.end], self.lengths(node.names[0])
        if not node.attributes.get("allowzero"):
            copied = zip(wanted, [*shape, *[UNKNOWN] * len(wanted)], strict=False)
            wanted = [old if new == 0 else new for new, old in copied]
        first, *rest = wanted or [UNKNOWN]
        row = _product(shape[1:])
        # Samples stay apart if their number stays, or the length of each.
        same = first == BATCH or first == self.batch > 0 or _product(rest) == row > 0
        if not rest or BATCH in rest or not same:
            raise ValueError(f"Reshape must keep samples apart, as (0, -1) does; got {wanted}")
        return [BATCH, *([row] if len(rest) == 1 and row > 0 else map(_known, rest))]


def _known(length: int) -> int:
    return length if length > 0 else UNKNOWN


def _product(lengths: _Lengths) -> int:
    return math.prod(lengths) if min(lengths, default=1) > 0 else UNKNOWN


class _Rule(NamedTuple):
    take: Callable[[_Chain, _Node], Any]
    least: int = 1  # inputs
    most: int = 1
    attributes: dict[str, Any] = {}  # noqa: RUF012  a type, or the allowed values


_AXIS, _AXES, _RESHAPE = {"axis": (1, -1)}, {"axes": list}, {"allowzero": (0, 1)}
_CAST = {"saturate": (0, 1), "to": (1, 11)}  # TensorProto.FLOAT, DOUBLE
_GEMM = {"alpha": float, "beta": float, "transA": (0,), "transB": (0, 1)}
_NORM = {"epsilon": float, "momentum": float, "spatial": (1,), "training_mode": (0,)}
_VALUES = "value", "value_float", "value_floats", "value_int", "value_ints"
_SHAPED: dict[str, dict[str, Any]] = {
    "LeakyRelu": {"alpha": (0.01,)}, "Elu": {"alpha": (1.0,)}, "Swish": {"alpha": (1.0,)},
    "Gelu": {"approximate": (b"none",)},
}  # fmt: skip
_TAKEN = {
    "Gemm": _Rule(_Chain.dense, 2, 3, _GEMM),
    "MatMul": _Rule(_Chain.dense, 2, 2),
    **dict.fromkeys(AFFINE, _Rule(_Chain.affine, 2, 2)),
    **{name: _Rule(_Chain.activated, attributes=_SHAPED.get(name, {})) for name in _ACTIVATIONS},
    **dict.fromkeys(("Softmax", "LogSoftmax"), _Rule(_Chain.activated, attributes=_AXIS)),
    "BatchNormalization": _Rule(_Chain.normalized, 5, 5, _NORM),
    "Identity": _Rule(_Chain.unchanged),
    "Cast": _Rule(_Chain.unchanged, attributes=_CAST),
    "Dropout": _Rule(_Chain.unchanged, 1, 3, {"ratio": float, "seed": int}),
    "Flatten": _Rule(_Chain.flattened, attributes={"axis": int}),
    "Reshape": _Rule(_Chain.reshaped, 2, 2, _RESHAPE),
}
_BENT = {
    name: _Rule(_Chain.activated, most, most, {**_SHAPED, "Cast": _CAST}.get(name, {}))
    for name, (_, most) in POINTWISE.items()
}
_FOLDED = {
    "Constant": _Rule(_Chain.constant, 0, 0, dict.fromkeys(_VALUES, object)),
    "Identity": _Rule(lambda chain, node: chain.constants[node.names[0]]),
    "Cast": _Rule(_Chain.cast, attributes=_CAST | {"to": (1, 11, 6, 7)}),  # and integers
    "Transpose": _Rule(_Chain.transposed, attributes={"perm": list}),
    "Shape": _Rule(_Chain.measured, attributes={"start": int, "end": int}),
    "Gather": _Rule(_Chain.picked, 2, 2, {"axis": (0,)}),
    "Concat": _Rule(_Chain.joined, 1, 8, {"axis": (0,)}),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _Rule(_Chain.single, 1, 2, _AXES)),
    "Reshape": _Rule(_Chain.single, 2, 2, _RESHAPE),
}
