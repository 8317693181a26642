"""ONNX, by its package, which is an extra: a graph that is a chain of dense layers."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._support import checks, extras, files
from .._support.texts import said
from ..model import choices
from ..model.file import check_finite, check_head, check_regular, notes_in, with_notes
from ..model.scaling import known
from ..network import Network
from .graphs import layers
from .operators import DOUBLE, EXPRESSIONS, Expression, Z
from .parts import (
    check_given,
    from_metadata,
    functions_of_layers,
    in_metadata,
    naming,
    network,
)  # fmt: skip
from .traced import traced

# Old enough for any onnxruntime since 1.12 (2022); these operators have not changed since.
OPSET, IR_VERSION = 17, 8
MAX_BYTES = 2**31 - 2**20  # of weights: a file is one protobuf message, of less than 2 GiB
_REQUIRED = ("onnx", "onnx", "ONNX files")
PRODUCER = "fastbp"
# Outputs of graphs for which a loss, or a caller, may name the function that a network ends in.
_LOGITS = "identity", "log-softmax"


def write_onnx(net: Network, path: str | os.PathLike[str], *, inputs: str = "float") -> None:
    """Write a network as an ONNX model.

    The graph takes `X`, (batch, n_in), and gives `outputs`, (batch, n_out), as `feedforward`
    does. It has a `Gemm` for each layer, z = a W^T + b, and its activation, of one operator or of
    several: SiLU is a `Sigmoid` and a `Mul`, and GELU is made of `Erf`. An `Activation` of your own
    becomes the operators that its f is made of, whose conditionals become `Where`. Before the first
    layer stands a `Mul` by `input_scale`, or `Sub` and `Div` by the `scaling` in float64, where
    large means cost no digits, and a `Cast` if X holds bytes. The batch may have any size. There is
    no dropout, as in all predictions.

    In float64, `Erf` is computed in float32, as onnxruntime knows no other: outputs of networks
    with "gelu" agree to 1e-7. "leaky_relu", "elu" and "softplus" are made of simpler operators.

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
        If `inputs` is neither of these, a parameter is not finite, the weights exceed the 2 GiB
        that an ONNX file can hold, the network's scale is not known yet, or an activation of your
        own is made of other operators.

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
    check_finite(net.weights, net.biases)
    known(net.config["scale"], net.scaling)
    onnx, size = extras.required(*_REQUIRED), net.to_vector().nbytes
    if size > MAX_BYTES:
        raise ValueError(f"net must have at most {MAX_BYTES:,} bytes for ONNX; got {size:,}")
    files.write_bytes(path, _model(onnx, net, inputs).SerializeToString())


def _model(onnx: Any, net: Network, inputs: str) -> Any:
    make, computed = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(net.dtype)
    given = onnx.TensorProto.UINT8 if inputs == "uint8" else computed
    graph = _Graph(onnx, net.dtype)
    if net.scaling is not None:  # in float64, as the network does
        if given != onnx.TensorProto.DOUBLE:
            graph.add("Cast", {}, to=onnx.TensorProto.DOUBLE)
        graph.add("Sub", {"inputs.mean": net.scaling.mean})
        graph.add("Div", {"inputs.deviation": net.scaling.divisor})
        if computed != onnx.TensorProto.DOUBLE:
            graph.add("Cast", {}, to=computed)
    elif given != computed:
        graph.add("Cast", {}, to=computed)
    if net.config["input_scale"] != 1:
        graph.add("Mul", {"input_scale": np.array(net.config["input_scale"], net.dtype)})
    for l, (W, activation) in enumerate(functions_of_layers(net)):
        arrays = {f"layers.{l}.weight": np.ascontiguousarray(W)}
        if net.biases:
            arrays[f"layers.{l}.bias"] = net.biases[l]
        graph.add("Gemm", arrays, transB=1)
        if activation == "softmax":
            graph.add("Softmax", {}, axis=1)
        elif activation != "identity":
            graph.activate(activation)
    graph.nodes[-1].name = graph.nodes[-1].output[0] = "outputs"
    proto = make.make_graph(
        graph.nodes, "fastbp",
        [make.make_tensor_value_info("X", given, ["batch", net.sizes[0]])],
        [make.make_tensor_value_info("outputs", computed, ["batch", net.sizes[-1]])],
        [onnx.numpy_helper.from_array(array, name) for name, array in graph.arrays.items()],
    )  # fmt: skip
    versions = {"ir_version": IR_VERSION, "opset_imports": [make.make_opsetid("", OPSET)]}
    model = make.make_model(proto, producer_name=PRODUCER, **versions)
    make.set_model_props(model, with_notes(in_metadata(net, "loss"), net.notes))
    return model


class _Graph:
    """Nodes, each of which takes what the one before gives, and their arrays."""

    def __init__(self, onnx: Any, dtype: Any) -> None:
        self.onnx, self.dtype = onnx, dtype
        self.end, self.nodes = "X", list[Any]()
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, operator: str, arrays: dict[str, np.ndarray], **attributes: int) -> None:
        self.arrays.update(arrays)
        self.end = self._node(operator, [self.end, *arrays], **attributes)

    def _node(self, operator: str, inputs: list[str], **attributes: int) -> str:
        end = f"{operator}_{len(self.nodes)}"
        node = self.onnx.helper.make_node(operator, inputs, [end], name=end, **attributes)
        self.nodes.append(node)
        return end

    def activate(self, activation: Any) -> None:
        table = DOUBLE if self.dtype == np.float64 else EXPRESSIONS
        known = isinstance(activation, str)
        expression = table[activation] if known else traced(activation)
        self.end = self._expression(expression, {Z: self.end})

    def _expression(self, expression: Expression, done: dict[Expression, str]) -> str:
        """Add the nodes of an expression that are not there yet; return where it ends."""
        if expression not in done:
            if isinstance(expression, tuple):
                operator, *parts = expression
                inputs = [self._expression(part, done) for part in parts]
                narrow = operator == "Erf" and self.dtype == np.float64  # see `operators.DOUBLE`
                if narrow:
                    inputs = [self._node("Cast", inputs, to=self.onnx.TensorProto.FLOAT)]
                found = self._node(operator, inputs)
                if narrow:
                    found = self._node("Cast", [found], to=self.onnx.TensorProto.DOUBLE)
            else:
                found = f"number {expression!r}"
                self.arrays[found] = np.array(expression, self.dtype)
            done[expression] = found
        return done[expression]


def read_onnx(
    path: str | os.PathLike[str], *, output: Any = None, loss: Any = None, backend: str = "numba",
    functions: Sequence[Any] = (),
) -> Network:  # fmt: skip
    """Read a network from an ONNX model that is a chain of dense layers.

    Layers are `Gemm`, or `MatMul` with or without an `Add`. Activations are `Sigmoid`, `Tanh`,
    `Relu`, `LeakyRelu` with alpha 0.01, `Elu`, `Softplus`, `Gelu`, `Swish`, or several operators
    that compute one of these, number by number; the output may also be `Softmax` or `Exp`. The
    first layer may follow `Mul` or `Div` by one number, which becomes `input_scale`, or any of
    `Sub`, `Add`, `Mul` and `Div` by a number for each column, which become `scaling`. What its
    outputs are multiplied by, and what is added to them, is part of a layer: `BatchNormalization`,
    `Mul`, `Add`. `Dropout`, `Identity`, `Cast`, `Flatten` and `Reshape` are left out where they
    change nothing but the shape of the inputs: a network takes images as rows of pixels. PyTorch
    (both exporters) and Keras write such graphs. Any other graph is refused.

    Parameters
    ----------
    path : path-like
        Weights may also lie in files beside it, as PyTorch writes them.
    output : {"sigmoid", "exp", "softmax"}, optional
        What the graph leaves out, if it ends in logits or log-probabilities: the function that the
        network then has, beyond the graph. By default the one that the given `loss` wants: softmax
        for "cross-entropy", sigmoid if there is one output, and exp for "poisson".
    loss : as for `Network`, optional
        The loss for further training. By default the one in the file, if fastbp wrote it, else
        cross-entropy for a softmax output, poisson for exp, and quadratic for any other.
    backend : {"numba", "numpy"}, default "numba"
    functions : sequence of `fastbp.Activation` and `fastbp.Loss`, default ()
        Activations of your own are recognised by their values, a loss of your own by its name.

    Returns
    -------
    Network

    Raises
    ------
    ImportError
        If onnx is missing.
    FileNotFoundError, ModelFileError
        If the file is missing or damaged, is not such a chain, lacks an array or has one in a file
        outside its folder, or its arrays do not fit.
    ValueError
        If there is no such output or loss, or the graph itself has another output.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
    >>> write_onnx(fastbp.Network([3, 2, 2], activation="tanh", seed=0), path)
    >>> read_onnx(path).config["activation"]
    'tanh'
    """
    check_given({"output": output, "loss": loss})
    own = choices.own_functions(functions)
    onnx = extras.required(*_REQUIRED)
    check_regular(path)
    check_head(path)
    with naming(path):
        model = _parsed(onnx, Path(path).read_bytes())
        activations = [one for one in own if hasattr(one, "prime")]
        found = layers(onnx, model, Path(path).parent, activations)
        *hidden, last = [name or "identity" for name in found.activations] or ["identity"]
        ours = model.producer_name == PRODUCER  # others may mean something else
        props = {prop.key: prop.value for prop in model.metadata_props if ours}
        wanted = {k: v for k, v in props.items() if k == "dropout" or (k, loss) == ("loss", None)}
        said_by_file = from_metadata(wanted, own)
        loss = said_by_file.get("loss") if loss is None else loss
        output = _output(last, output, loss, [len(W) for W in found.parts[0]][-1:] == [1])
        usual = {"softmax": "cross-entropy", "exp": "poisson"}.get(output, "quadratic")
        net = network(
            found.parts, input_scale=found.input_scale, scaling=found.scaling, backend=backend,
            activation=hidden or "sigmoid", output=output, loss=loss or usual,
            dropout=said_by_file.get("dropout", 0.0),
        )  # fmt: skip
        net.notes = notes_in(props, path)
        return net


def _output(last: Any, given: Any, loss: Any, one: bool) -> Any:
    """Return the output of a network for a graph that ends in `last`."""
    if choices.is_own(last):
        return last
    if given is None and last in _LOGITS:
        classes = "sigmoid" if one else "softmax"
        name = choices.loss_name(loss) if loss else ""
        given = {"cross-entropy": classes, "poisson": "exp"}.get(name)
    allowed = {"identity": choices.OUTPUT, "log-softmax": ("softmax",)}.get(last, (last,))
    if given is None and last == "log-softmax":
        wanted = "name output='softmax' (--output-activation) for the probabilities"
        raise ValueError(f"the graph gives logarithms of probabilities; {wanted}")
    return checks.one_of(f"output, of a graph that ends in {last},", given or last, allowed)


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
