"""Files and objects of other packages: what is written computes the same there, and comes back."""

import itertools
import json
import math
import os
import struct
import sys
import warnings
from collections import namedtuple

import numpy as np
import pytest
import safetensors.numpy

import fastbp
from cases import crossed
from fastbp import interchange
from fastbp.errors import ModelFileError
from fastbp.model import config

# Each loss once, and each output once.
PAIRS = [(loss, output) for loss in config.LOSSES for output in config.outputs(loss)]
OUTPUTS = sorted(
    {*{loss: (loss, out) for loss, out in PAIRS}.values()}
    | {*{out: (loss, out) for loss, out in PAIRS}.values()}
)
FUNCTIONS = [("relu", *function) for function in OUTPUTS]
FUNCTIONS += [(hidden, "cross-entropy", "softmax") for hidden in config.HIDDEN if hidden != "relu"]


@pytest.fixture(scope="module")
def images(mnist):
    """Real images, not all of which are dark at the same places."""
    return mnist.X_test[:500]


@pytest.fixture(scope="module")
def sklearn():
    reason = "the extra sklearn is not installed"
    return pytest.importorskip("sklearn.neural_network", reason=reason)


def random_net(sizes, activation="relu", output=None, loss="cross-entropy", **options):
    """A network whose biases count, and whose layers have all different widths."""
    net = fastbp.Network(sizes, activation, output, loss, seed=1, **options)
    rng = np.random.default_rng(2)
    for b in net.biases:
        b[...] = rng.standard_normal(b.shape) / 4
    return net


def assert_same_network(found, expected):
    assert found.config == expected.config
    np.testing.assert_array_equal(found.to_vector(), expected.to_vector())


# -- ONNX: what is written -------------------------------------------------------------------------


@pytest.mark.parametrize(("hidden", "loss", "output"), FUNCTIONS)
def test_onnxruntime_gives_the_same_outputs_on_mnist(
    onnx, ort, images, tmp_path, hidden, loss, output, assert_close
):
    path = tmp_path / "net.onnx"
    net = random_net([784, 30, 17, 10], hidden, output, loss, input_scale=1 / 255)
    expected = net.feedforward(images)
    for inputs, X in (("float", images.astype("float32")), ("uint8", images)):
        interchange.write_onnx(net, path, inputs=inputs)
        onnx.checker.check_model(onnx.load(path), full_check=True)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        (found,) = session.run(["outputs"], {"X": X})
        assert_close(found, expected)
        (one,) = session.run(None, {"X": X[:1]})  # a batch of any size
        assert_close(one, expected[:1])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(5, 3), (5, 1), (5, 4, 3, 2)])
def test_onnx_in_double_precision_without_biases_and_without_layers(
    ort, tmp_path, rng, sizes, bias, assert_close
):
    net = random_net(sizes, "tanh", "sigmoid", bias=bias, dtype="float64", input_scale=0.3)
    interchange.write_onnx(net, tmp_path / "net.onnx")
    X = rng.standard_normal((7, 5))
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"X": X})
    assert_close(found, net.feedforward(X))


def test_an_onnx_file_describes_itself(onnx, tmp_path):
    net = random_net([784, 30, 10], input_scale=1 / 255)
    interchange.write_onnx(net, tmp_path / "net.onnx", inputs="uint8")
    model = onnx.load(tmp_path / "net.onnx")
    assert [node.op_type for node in model.graph.node] == [
        "Cast", "Mul", "Gemm", "Relu", "Gemm", "Softmax",
    ]  # fmt: skip
    (given,), (out,) = model.graph.input, model.graph.output
    assert (given.name, out.name) == ("X", "outputs")
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["batch", 784]
    assert model.producer_name == "fastbp"
    interchange.write_onnx(net, tmp_path / "again.onnx", inputs="uint8")
    assert (tmp_path / "net.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()


def test_what_onnx_cannot_hold(tmp_path, monkeypatch):
    net = random_net([3, 2])
    with pytest.raises(ValueError, match=r"inputs .*float, uint8; .*'int8'"):
        interchange.write_onnx(net, tmp_path / "a.onnx", inputs="int8")
    monkeypatch.setattr("fastbp.interchange.onnx.MAX_BYTES", 10)
    with pytest.raises(ValueError, match=r"10 bytes .*got 32"):
        interchange.write_onnx(net, tmp_path / "a.onnx")
    with pytest.raises(FileNotFoundError, match="folder does not exist"):
        interchange.write_torch(net, tmp_path / "nowhere" / "a.safetensors")


# -- ONNX: what is read ----------------------------------------------------------------------------


@crossed(function=OUTPUTS, dtype=["float32", "float64"], bias=[True, False])
def test_onnx_comes_back(onnx, tmp_path, function, dtype, bias):
    loss, output = function
    net = random_net([5, 4, 3], "tanh", output, loss, dtype=dtype, bias=bias, input_scale=1 / 16)
    interchange.write_onnx(net, tmp_path / "net.onnx", inputs="uint8")
    assert_same_network(interchange.read(tmp_path / "net.onnx"), net)


@pytest.fixture
def model_of(onnx):
    """model_of(nodes, arrays): an ONNX model; a node is (operator, inputs, output, attributes)."""

    def make(nodes, arrays, inputs=("x",), outputs=None, shape=(None, 3), opset=17):
        helper = onnx.helper
        made = [
            helper.make_node(op, ins, [out], **(rest[0] if rest else {}))
            for op, ins, out, *rest in nodes
        ]
        kind, ends = onnx.TensorProto.FLOAT, outputs or [nodes[-1][2]]
        graph = helper.make_graph(
            made, "g",
            [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
            [helper.make_tensor_value_info(name, kind, None) for name in ends],
            [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    return make


W1 = np.arange(12, dtype="float32").reshape(4, 3) / 7 - 0.5
W2 = np.arange(8, dtype="float32").reshape(2, 4) / 5 - 0.3
B1, B2 = np.arange(4, dtype="float32") / 3, np.arange(2, dtype="float32")
ARRAYS = {"W1": W1, "b1": B1, "W2": W2, "b2": B2}
GEMM = {"transB": 1}
NODES = [
    ("Gemm", ["x", "W1", "b1"], "z1", GEMM), ("Relu", ["z1"], "a1"),
    ("Gemm", ["a1", "W2", "b2"], "z2", GEMM), ("Softmax", ["z2"], "a2"),
]  # fmt: skip


def changed(place, *node):
    return [*NODES[:place], node, *NODES[place + 1 :]]


def without(*names):
    return {name: array for name, array in ARRAYS.items() if name not in names}


def flattened(*nodes):
    return [*nodes, ("Gemm", ["f", "W1", "b1"], "z1", GEMM), *NODES[1:]]


def standardised_by(name):
    return [("Gemm", [name, "W1", "b1"], "z1", GEMM), *NODES[1:]]


WIDE = ARRAYS | {"W1": np.arange(96, dtype="float32").reshape(4, 24) / 60 - 0.7}
HALF = GEMM | {"alpha": 0.5, "beta": -2.0}
VIEWED = [  # by `x.view(x.size(0), -1)`
    ("Shape", ["x"], "shape"), ("Gather", ["shape", "first"], "size", {"axis": 0}),
    ("Unsqueeze", ["size", "axes"], "row"), ("Concat", ["row", "all"], "view", {"axis": 0}),
]  # fmt: skip
Graph = namedtuple("Graph", "nodes arrays shape outputs", defaults=[(None, 3), None])
WRITTEN_BY_OTHERS = {
    "as usual": (NODES, ARRAYS),
    "untransposed": (
        [("Gemm", ["x", "W1", "b1"], "z1"), *NODES[1:]], ARRAYS | {"W1": W1.T}
    ),
    "MatMul and Add": (
        [
            ("MatMul", ["x", "W1"], "m1"), ("Add", ["b1", "m1"], "z1"), NODES[1],
            ("MatMul", ["a1", "W2"], "m2"), ("Add", ["m2", "b2"], "z2"), NODES[3],
        ],
        ARRAYS | {"W1": W1.T, "W2": W2.T, "b1": B1[None]},
    ),
    "scaled and flattened": (
        [
            ("Cast", ["x"], "c", {"to": 1}), ("Flatten", ["c"], "f"), ("Mul", ["s", "f"], "m"),
            ("Div", ["m", "d"], "i"), ("Identity", ["i"], "i2"),
            ("Gemm", ["i2", "W1", "b1"], "z1", GEMM), *NODES[1:],
        ],
        ARRAYS | {"s": np.float32(0.5), "d": np.float32([4])},
    ),
    "standardised": (
        [("Sub", ["x", "m"], "c"), ("Div", ["c", "d"], "s"), *standardised_by("s")],
        ARRAYS | {"m": np.float32([[1, -0.2, 0.3]]), "d": np.float32([4, 0.5, 1])},
    ),
    "shifted and scaled in another order": (
        [
            ("Mul", ["x", "d"], "c"), ("Add", ["m", "c"], "e"), ("Div", ["e", "d"], "f"),
            ("Mul", ["fifth", "f"], "s"), *standardised_by("s"),
        ],
        ARRAYS | {
            "m": np.float32([[1, -0.2, 0.3]]), "d": np.float32([4, 0.5, 1]),
            "fifth": np.float32(0.2),
        },
    ),
    "shifted by one number": (
        [("Sub", ["x", "m"], "c"), ("Div", ["c", "m"], "s"), *standardised_by("s")],
        ARRAYS | {"m": np.float32(0.5)},
    ),
    "some biases": (
        [*NODES[:2], ("Gemm", ["a1", "W2"], "z2", GEMM), NODES[3]],
        {k: v for k, v in ARRAYS.items() if k != "b2"},
    ),
    "alpha and beta": (changed(0, "Gemm", ["x", "W1", "b1"], "z1", HALF), ARRAYS),
    "biases in a row, and one for all": (NODES, ARRAYS | {"b1": B1[None], "b2": B2[1]}),
    "biases twice": (
        [*NODES[:3], ("Add", ["b2", "z2"], "s"), ("Softmax", ["s"], "a2")], ARRAYS,
    ),
    "not transposed before": (
        [("Transpose", ["W1"], "V1"), ("Gemm", ["x", "V1", "b1"], "z1"), *NODES[1:]], ARRAYS,
    ),
    "arrays of which nothing comes": (
        [*NODES, ("Sin", ["z1"], "y"), ("Identity", ["none"], "z")],
        ARRAYS | {"none": np.array(["text"]), "W3": W1}, (None, 3), ["a2"],
    ),
    "constants that are renamed": (
        [("Identity", ["W"], "W1"), ("Cast", ["h"], "b1", {"to": 1}), *NODES],
        without("W1", "b1") | {"W": W1, "h": B1.astype("f2")},
    ),
    "a constant of a number": (
        [
            ("Constant", [], "s", {"value_float": 255.0}), ("Div", ["x", "s"], "i"),
            ("Gemm", ["i", "W1", "b1"], "z1", GEMM), *NODES[1:],
        ],
        ARRAYS,
    ),
    "constants of numbers": (
        [("Constant", [], "b1", {"value_floats": [1.0, 2, 3, 4]}), *NODES], without("b1"),
    ),
    "dropout": (
        [
            ("Dropout", ["x"], "d"), ("Gemm", ["d", "W1", "b1"], "z1", GEMM), ("Relu", ["z1"], "r"),
            ("Dropout", ["r", "half", "off"], "a1"), NODES[2], ("Dropout", ["z2", "", "off"], "e"),
            ("Softmax", ["e"], "a2"),
        ],
        ARRAYS | {"half": np.float32(0.5), "off": np.array(False)},
    ),
    "normalised": (
        [
            NODES[0], ("BatchNormalization", ["z1", "g", "b", "m", "v"], "n", {"epsilon": 0.1}),
            ("Relu", ["n"], "a1"), *NODES[2:],
        ],
        ARRAYS | {"g": B1 - 1, "b": B1 / 2, "m": B1 + 3, "v": B1},
    ),
    "normalised without biases": (
        [
            ("Gemm", ["x", "W1"], "z1", GEMM),
            ("BatchNormalization", ["z1", "g", "b", "m", "v"], "n"),
            ("Relu", ["n"], "a1"), *NODES[2:],
        ],
        without("b1") | {"g": B1 - 1, "b": B1 / 2, "m": B1 + 3, "v": B1 + 1},
    ),
    "as Keras normalises": (
        [
            ("Mul", ["x", "s"], "i"), ("Add", ["i", "zero"], "j"),
            ("Gemm", ["j", "W1", "b1"], "z1", GEMM), ("Cast", ["z1"], "c", {"to": 1}),
            ("Sub", ["c", "m"], "p"), ("Mul", ["p", "g"], "q"), ("Div", ["q", "d"], "r"),
            ("Relu", ["r"], "a1"), *NODES[2:],
        ],
        ARRAYS | {"m": B1[None] + 1, "g": B1[None] - 2, "d": B1 + 1, "s": np.float32(1 / 255),
                  "zero": np.float32(0)},
    ),
    "an output before the end": ([*NODES, ("Tanh", ["a2"], "t")], ARRAYS, (None, 3), ["a2"]),
    "a batch of one size": (NODES, ARRAYS, (3, 3)),
    "images": (flattened(("Flatten", ["x"], "f")), WIDE, (None, 2, 3, 4)),
    "images, from behind": (
        flattened(("Flatten", ["x"], "f", {"axis": -2})), WIDE, (None, 6, 4),
    ),
    "images by PyTorch, old": (
        flattened(*VIEWED, ("Reshape", ["x", "view"], "f")),
        WIDE | {"first": np.int64(0), "axes": np.array([0]), "all": np.array([-1])},
        (None, 2, 3, 4),
    ),
    **{
        f"images reshaped to {shape} of {given}": (
            flattened(("Reshape", ["x", "shape"], "f", {"allowzero": int(0 not in shape)})),
            WIDE | {"shape": np.array(shape)}, given,
        )
        for shape, given in (
            ((-1, 24), (None, 2, 3, 4)), ((0, -1), (None, 2, 3, 4)), ((3, -1), (3, 24, 1)),
            ((3, 24), (3, 2, 12)), ((0, 24), (None, 24)), ((1, 24), (1, 2, 12)),
        )
    },
    "images of rows": (
        flattened(
            ("Reshape", ["x", "image"], "i"), ("Mul", ["s", "i"], "m"), ("Flatten", ["m"], "f"),
        ),
        WIDE | {"image": np.array([-1, 2, 3, 4]), "s": np.float32([2])}, (None, 24),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRITTEN_BY_OTHERS.values(), ids=WRITTEN_BY_OTHERS)
def test_graphs_of_other_programs_are_read(onnx, ort, model_of, tmp_path, rng, case, assert_close):
    nodes, arrays, shape, outputs = Graph(*case)
    model = model_of(nodes, arrays, shape=shape, outputs=outputs)
    onnx.save(model, tmp_path / "a.onnx")
    net = interchange.read(tmp_path / "a.onnx")
    width = math.prod(shape[1:])
    assert (net.sizes, net.config["activation"], net.config["output"]) == (
        (width, 4, 2), "relu", "softmax",
    )  # fmt: skip
    assert net.config["loss"] == "cross-entropy"
    session = ort.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for batch in [shape[0]] if shape[0] else [1, 3, 6]:
        X = rng.standard_normal((batch, *shape[1:])).astype("float32")
        assert_close(net.feedforward(X.reshape(batch, -1)), session.run(None, {"x": X})[0])


def test_constants_may_be_nodes(onnx, model_of, tmp_path):
    constants = [
        onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(array))
        for name, array in ARRAYS.items()
    ]
    model = model_of(NODES, {})
    for node in constants:
        model.graph.node.insert(0, node)
    onnx.save(model, tmp_path / "a.onnx")
    net = interchange.read_onnx(tmp_path / "a.onnx", loss="quadratic")
    np.testing.assert_array_equal(net.weights[1], W2)
    assert net.config["loss"] == "quadratic"


UNFIT_GRAPHS = {
    "unknown operator": (changed(1, "Celu", ["z1"], "a1"), ARRAYS, "operator .*got 'Celu'"),
    "convolution": (changed(0, "Conv", ["x", "W1"], "z1"), ARRAYS, "operator .*got 'Conv'"),
    "operator of others": (
        changed(1, "Relu", ["z1"], "a1", {"domain": "evil"}), ARRAYS, "operator .*got 'evil.Relu'",
    ),
    "a constant of others": (
        [("Constant", [], "W1", {"domain": "evil", "value_float": 1.0}), *NODES], without("W1"),
        "operator .*got 'evil.Constant'",
    ),
    "a constant without an array": (
        [("Constant", [], "W1"), *NODES], without("W1"), "'Constant' must hold one array",
    ),
    "a constant of text": (
        [("Constant", [], "W1", {"value_string": "1"}), *NODES], without("W1"),
        "attribute of Constant .*got 'value_string'",
    ),
    "a constant of a taken name": (
        [("Constant", [], "W1", {"value_float": 1.0}), *NODES], ARRAYS, "a new name",
    ),
    "missing array": (NODES, without("W2"), "array 'W2' is missing"),
    "shapes that do not fit": (
        NODES, ARRAYS | {"W2": W2[:, :3]}, "layer 1 takes 3 .* 4",
    ),
    "bias of another length": (
        NODES, ARRAYS | {"b1": B2}, r"biases .* one row of 4.*'b1' of shape \(2,\)",
    ),
    "a bias as weights": (changed(0, "Gemm", ["x", "b1"], "z1"), without("W1"), "matrix of w"),
    "three axes": (NODES, ARRAYS | {"W1": W1[None]}, "must be a matrix"),
    "empty": (NODES, ARRAYS | {"W1": W1[:0]}, "must be a matrix"),
    "integers": (NODES, ARRAYS | {"W1": W1.astype(int)}, "'W1' must be float32 or float64"),
    "half": (NODES, ARRAYS | {"W1": W1.astype("f2")}, "'W1' must be float32 or float64"),
    "two dtypes": (
        NODES, ARRAYS | {"W2": W2.astype("f8")}, "all arrays .*float32.*float64",
    ),
    "NaN": (NODES, ARRAYS | {"b2": B2 * np.nan}, "layer 1 must be finite"),
    "softmax inside": (
        changed(1, "Softmax", ["z1"], "a1"), ARRAYS, r"activation\[0\] must be one of",
    ),
    "activation twice": (
        [*NODES, ("Relu", ["a2"], "a3")], ARRAYS, "Relu must follow a layer",
    ),
    "activation first": ([("Relu", ["x"], "a")], {}, "Relu must follow a layer"),
    "softmax of columns": (
        changed(3, "Softmax", ["z2"], "a2", {"axis": 0}), ARRAYS, "axis 1 or -1; got 0",
    ),
    "transposed input": (
        changed(0, "Gemm", ["x", "W1"], "z1", {"transA": 1}), ARRAYS, "transA 0; got 1",
    ),
    "a branch": (
        [*NODES[:2], ("Gemm", ["z1", "W2"], "b", GEMM), ("Add", ["b", "a1"], "y")], ARRAYS,
        "must be a chain",
    ),
    "a branch around": (
        [*NODES[:2], ("Add", ["z1", "a1"], "y")], ARRAYS, "after layer 0 must make an activation",
    ),
    "with itself": (
        changed(1, "Mul", ["z1", "z1"], "a1"), ARRAYS, "after layer 0 must make an activation",
    ),
    "weights first": (changed(0, "MatMul", ["W1", "x"], "z1"), ARRAYS, "must be the layer below"),
    "scaled after its activation": (
        [*NODES[:2], ("Mul", ["a1", "s"], "y")],
        ARRAYS | {"s": np.float32(2)}, "follow a layer, before its activation",
    ),
    "negative scale": (
        [("Mul", ["x", "s"], "i"), ("Gemm", ["i", "W1"], "z1", GEMM)],
        {"s": np.float32(-2), "W1": W1}, "above zero",
    ),
    "divided by zero": (
        [("Div", ["x", "s"], "i"), ("Gemm", ["i", "W1"], "z1", GEMM)],
        {"s": np.float32(0), "W1": W1}, "above zero",
    ),
    "scaled below zero": (
        [("Mul", ["x", "s"], "i"), ("Gemm", ["i", "W1"], "z1", GEMM)],
        {"s": np.float32([1, -2, 3]), "W1": W1}, "above zero",
    ),
    "scaled beyond all numbers": (
        [("Mul", ["x", "s"], "i"), ("Gemm", ["i", "W1"], "z1", GEMM)],
        {"s": np.float32([1, np.inf, 3]), "W1": W1}, "factors of the inputs must be finite",
    ),
    "shifted beyond all numbers": (
        [("Add", ["x", "s"], "i"), ("Gemm", ["i", "W1"], "z1", GEMM)],
        {"s": np.float32(np.inf), "W1": W1}, "the scaling: mean must be finite",
    ),
    "a row of another width first": (
        [("Add", ["x", "s"], "i"), ("Gemm", ["i", "W1"], "z1", GEMM)],
        {"s": np.float32([1, 2]), "W1": W1}, "inputs meet in Add must be one row of 3",
    ),
    "a row of unknown width first": (
        [("Sub", ["x", "s"], "i"), ("Gemm", ["i", "W1"], "z1", GEMM)],
        {"s": np.float32([1, 2]), "W1": W1}, "layer 0 takes 3 inputs, but they are scaled",
        (None, None),
    ),
    "a matrix first": (
        [("Sub", ["x", "s"], "i"), ("Gemm", ["i", "W1"], "z1", GEMM)],
        {"s": np.ones((2, 3), "f4"), "W1": W1}, "inputs meet in Sub must be one row of 3",
    ),
    "cast inside": (changed(1, "Cast", ["z1"], "a1", {"to": 10}), ARRAYS, "to 1 or 11; got 10"),
    "cast to integers": (
        [("Cast", ["x"], "i", {"to": 6}), ("Gemm", ["i", "W1"], "z1", GEMM)], {"W1": W1},
        "to 1 or 11; got 6",
    ),
    "no layers": ([("Identity", ["x"], "y")], {}, "no layer"),
    "two outputs": ((NODES, ["a2", "z1"]), ARRAYS, "must have one output"),
    "biases in a column": (
        NODES, ARRAYS | {"W1": W1[:3], "b1": B1[:3, None], "W2": W2[:, :3]},
        r"biases .* one row of 3.* \(3, 1\)",
    ),
    "biases in a column, added": (
        [("MatMul", ["x", "W1"], "m1"), ("Add", ["m1", "b1"], "z1"), *NODES[1:]],
        ARRAYS | {"W1": W1.T, "b1": B1[:, None]}, r"biases .* one row of 4.* \(4, 1\)",
    ),
    "biases for each sample": (
        NODES, ARRAYS | {"b1": np.stack([B1, B1])}, r"biases .* one row of 4.* \(2, 4\)",
    ),
    "biases that widen one output": (
        [("MatMul", ["x", "W"], "m"), ("Add", ["m", "b1"], "y")],
        {"W": W1[:1].T, "b1": B1}, r"biases .* one row of 1.* \(4,\)",
    ),
    "an input that is no gap": (changed(0, "Gemm", ["x", "", "W1"], "z1"), ARRAYS, "array ''"),
    "an unknown attribute": (
        changed(1, "Relu", ["z1"], "a1", {"limit": 6.0}), ARRAYS, "attribute of Relu .*'limit'",
    ),
    "samples that become one": (
        flattened(("Flatten", ["x"], "f", {"axis": 0})), WIDE, "must have axis 1; got 0",
        (None, 24),
    ),
    "rows that become samples": (
        flattened(("Flatten", ["x"], "f", {"axis": 2})), WIDE, "must have axis 1; got 2",
        (None, 2, 24),
    ),
    **{
        f"reshaped to {shape} of {given}": (
            flattened(("Reshape", ["x", "shape"], "f")), WIDE | {"shape": np.array(shape)},
            "Reshape must keep samples apart", given,
        )
        for shape, given in (
            ((-1, 24), (None, 2, 24)), ((1, -1), (None, 24)), ((-1, 24), (None, None, 24)),
            ((2, -1), (3, 16)),
        )
    },
    "outputs that become samples": (
        [*NODES[:3], ("Reshape", ["z2", "shape"], "y")], ARRAYS | {"shape": np.array([-1, 1])},
        "Reshape must keep samples apart",
    ),
    "outputs without an axis": (
        [*NODES[:3], ("Reshape", ["z2", "shape"], "y")], ARRAYS | {"shape": np.array([0, 2, 1])},
        r"output must have rows.*\(batch, 2, 1\)",
    ),
    "softmax of three axes": (
        [
            ("MatMul", ["x", "W1"], "m1"), ("Add", ["m1", "b1"], "z1"),
            ("Softmax", ["z1"], "y", {"axis": 1}),
        ],
        ARRAYS | {"W1": W1.T}, r"MatMul must have rows.*got \(batch, 5, 3\)", (None, 5, 3),
    ),
    "a single axis": (NODES, ARRAYS, "must have rows.*got 1 axes", (3,)),
    "another width": (NODES, ARRAYS, "layer 0 takes 3 inputs, but is given 5", (None, 5)),
    "dropout in training": (
        [*NODES[:2], ("Dropout", ["a1", "r", "on"], "d"), ("Gemm", ["d", "W2", "b2"], "y", GEMM)],
        ARRAYS | {"r": np.float32(0.5), "on": np.array(True)}, "training_mode on: .*eval",
    ),
    "normalised by the batch": (
        [
            NODES[0], ("BatchNormalization", ["z1", *"bbbb"], "n", {"training_mode": 1}),
            ("Relu", ["n"], "a1"), *NODES[2:],
        ],
        ARRAYS | {"b": B1}, "training_mode 0; got 1",
    ),
    "normalised activations": (
        [*NODES[:2], ("BatchNormalization", ["a1", *"bbbb"], "n"), ("Identity", ["n"], "y")],
        ARRAYS | {"b": B1}, "BatchNormalization must follow a layer, before its activation",
    ),
    "a negative variance": (
        [NODES[0], ("BatchNormalization", ["z1", *"bbbv"], "n"), ("Relu", ["n"], "y")],
        ARRAYS | {"b": B1, "v": -B1}, "must be finite",
    ),
    "of scikit-learn": (
        [*NODES, ("ZipMap", ["a2"], "y", {"domain": "ai.onnx.ml"})], ARRAYS, "from_sklearn",
    ),
    "log-probabilities": (
        changed(3, "LogSoftmax", ["z2"], "a2"), ARRAYS, "logarithms .*name output='softmax'",
    ),
    "a shape taken for numbers": (
        [("Shape", ["x"], "s"), ("Cast", ["s"], "d", {"to": 1}), ("Div", ["x", "d"], "y")], {},
        "'s' is missing, or not a constant",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT_GRAPHS.values(), ids=UNFIT_GRAPHS)
def test_an_unfit_graph_is_one_clear_error(onnx, model_of, tmp_path, case):
    nodes, arrays, part, *shape = case
    nodes, outputs = nodes if isinstance(nodes, tuple) else (nodes, None)
    path, options = tmp_path / "a.onnx", {"shape": shape[0]} if shape else {}
    path.write_bytes(model_of(nodes, arrays, outputs=outputs, **options).SerializeToString())
    with pytest.raises(ModelFileError, match=part) as caught:
        interchange.read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 400


def redefined(model, onnx):
    helper, own = onnx.helper, [onnx.helper.make_opsetid("", 17)]
    nodes = [helper.make_node("Tanh", ["a"], ["b"])]
    model.functions.append(helper.make_function("", "Relu", ["a"], ["b"], nodes, own))


def of_texts(model, onnx):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING


def of_layers(model, onnx):
    """A hundred layers of one matrix; the file would grow to a hundred times its size."""
    helper, names = onnx.helper, ["x", *map(str, range(100)), "a2"]
    square = onnx.numpy_helper.from_array(np.eye(200, dtype="f4"), "W1")
    model.graph.initializer[0].CopyFrom(square)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 200
    nodes = [helper.make_node("MatMul", [a, "W1"], [b]) for a, b in itertools.pairwise(names)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@pytest.mark.parametrize(
    ("change", "options", "part"),
    [
        (None, {"inputs": ("x", "y")}, "must have one input; got 2"),
        (None, {"opset": 6}, "opset must be 7 to 28; got 6"),
        (None, {"opset": 99}, "opset must be 7 to 28; got 99"),
        (redefined, {}, "operator must be one of .*got '.Relu'"),
        (of_texts, {}, "array of numbers"),
        (of_layers, {}, "at most 64 times"),
    ],
)
def test_a_model_that_means_something_else(onnx, model_of, tmp_path, change, options, part):
    model = model_of(NODES, ARRAYS, **options)
    if change:
        change(model, onnx)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=part):
        interchange.read(tmp_path / "a.onnx")


LOGITS = [  # arguments, what the graph ends in, and the configuration
    ({"loss": "cross-entropy"}, "z2", ("softmax", "cross-entropy")),
    ({"output": "softmax"}, "z2", ("softmax", "cross-entropy")),
    ({"output": "sigmoid", "loss": "cross-entropy"}, "z2", ("sigmoid", "cross-entropy")),
    ({"loss": "poisson"}, "z2", ("exp", "poisson")),
    ({"loss": "quadratic"}, "z2", ("identity", "quadratic")),
    ({}, "z2", ("identity", "quadratic")),
    ({"loss": "cross-entropy"}, "log", ("softmax", "cross-entropy")),
    ({"output": "softmax"}, "log", ("softmax", "cross-entropy")),
    ({"output": "softmax"}, "a2", ("softmax", "cross-entropy")),
]


@pytest.mark.parametrize(("given", "end", "functions"), LOGITS)
def test_logits_take_the_output_of_their_loss(model_of, tmp_path, rng, given, end, functions):
    nodes = [*NODES, ("LogSoftmax", ["z2"], "log")]
    model = model_of(nodes, ARRAYS, outputs=[end])
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    config = interchange.read(tmp_path / "a.onnx", **given).config
    assert (config["output"], config["loss"]) == functions


def test_one_logit_is_that_of_a_sigmoid(model_of, tmp_path):
    model = model_of([("MatMul", ["x", "W"], "y")], {"W": W1[:1].T})
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    assert interchange.read(tmp_path / "a.onnx", loss="cross-entropy").config["output"] == "sigmoid"


def test_a_graph_keeps_its_own_output(model_of, tmp_path):
    for end, output in (("a2", "sigmoid"), ("log", "sigmoid"), ("log", "identity")):
        model = model_of([*NODES, ("LogSoftmax", ["z2"], "log")], ARRAYS, outputs=[end])
        (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match=f"output, .* must be one of softmax; got '{output}'"):
            interchange.read(tmp_path / "a.onnx", output=output)


@pytest.fixture
def beside(onnx, model_of, tmp_path):
    """A model whose weights lie in `a.onnx.data`, as torch.onnx.export writes it by default."""
    folder = tmp_path / "models"
    folder.mkdir()
    options = {"location": "a.onnx.data", "size_threshold": 0, "save_as_external_data": True}
    onnx.save(model_of(NODES, ARRAYS), folder / "a.onnx", **options)
    return folder / "a.onnx"


def test_weights_may_lie_beside_the_model(beside, monkeypatch):
    np.testing.assert_array_equal(interchange.read(beside).weights[1], W2)
    monkeypatch.chdir(beside.parent)
    np.testing.assert_array_equal(interchange.read("a.onnx").biases[0], B1)


def moved(location):
    def change(entries):
        entries["location"].value = location

    return change


def key(name, value):
    return lambda entries: setattr(entries[name], "value", value)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (moved("none.data"), "'none.data', which is not beside the model.*external_data=False"),
        (moved("../secret"), "'../secret', outside the model's folder"),
        (moved("../models/a.onnx.data"), "outside the model's folder"),
        (moved("link"), "'link', outside the model's folder"),
        (moved("pointer"), "pointer is a Git LFS pointer"),
        (moved("pipe"), "'pipe', which is not beside"),
        (moved("."), "which is not beside"),
        (moved("a\0b"), "'W1' is damaged"),
        (moved("x" * 5000), "'W1' is damaged"),
        (key("offset", "1000"), "'W1' is damaged: .*48 bytes at 1000"),
        (key("offset", "-1"), "'W1' is damaged"),
        (key("offset", "one"), "'W1' is damaged"),
        (key("length", "47"), "'W1' is damaged: .*48 bytes"),
        (key("length", "9" * 5000), "'W1' is damaged"),
    ],
)
def test_no_file_elsewhere_is_read(onnx, beside, change, part):
    folder = beside.parent
    (folder.parent / "secret").write_bytes(bytes(10_000))
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "pointer").write_bytes(POINTER)
    os.mkfifo(folder / "pipe")
    model = onnx.load(beside, load_external_data=False)
    change({entry.key: entry for entry in model.graph.initializer[0].external_data})
    beside.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=part):
        interchange.read(beside)


def tampered(model, tensor):
    """Changes of one array of a model that no library would write."""
    first = model.graph.initializer[0]
    assert first.name == "W1"
    tensor(first)
    return model


def lies_elsewhere(tensor):
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="../../etc/passwd")


TAMPERED = {
    "another file": (lies_elsewhere, "'../../etc/passwd', outside the model's folder"),
    "terabytes": (lambda t: t.dims.__setitem__(0, 2**40), "'W1' is damaged"),
    "negative": (lambda t: t.dims.__setitem__(0, -1), "must be a matrix"),
    "cut off": (lambda t: setattr(t, "raw_data", t.raw_data[:-1]), "'W1' is damaged"),
    "no data": (lambda t: t.ClearField("raw_data"), "'W1' is damaged"),
    "no such dtype": (lambda t: setattr(t, "data_type", 99), "must be float32 or float64"),
    "its name twice": (lambda t: setattr(t, "name", "b1"), "two arrays have the same name"),
}


@pytest.mark.parametrize(("change", "part"), TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_array_is_refused(model_of, tmp_path, change, part):
    model = tampered(model_of(NODES, ARRAYS), change)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=part):
        interchange.read(tmp_path / "a.onnx")


def test_damaged_onnx_files(onnx, model_of, tmp_path, rng):
    path = tmp_path / "a.onnx"
    for blob in (b"hello, world", bytes(100), b"\xff" * 100):
        path.write_bytes(blob)
        with pytest.raises(ModelFileError, match="damaged, or not an ONNX file"):
            interchange.read(path)
    blob = model_of(NODES, ARRAYS).SerializeToString()
    for place in range(0, len(blob), 7):
        path.write_bytes(blob[:place])
        with pytest.raises(ModelFileError):
            interchange.read(path)
    for place in rng.integers(len(blob), size=300):
        broken = bytearray(blob)
        broken[place] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        try:
            interchange.read(path)
        except ModelFileError:
            pass


@pytest.mark.parametrize("words", ["Gemm", "W1", "z1", "transB", "quadratic", "the end of all"])
def test_onnx_names_that_are_no_text(onnx, model_of, tmp_path, words):
    """Protobuf's parser takes them, and hands them out as bytes."""
    model = model_of(NODES, ARRAYS)
    model.graph.node[0].doc_string = "the end of all"
    onnx.helper.set_model_props(model, {"loss": "quadratic"})
    blob = model.SerializeToString()
    assert words.encode() in blob
    (tmp_path / "a.onnx").write_bytes(blob.replace(words.encode(), b"\xff" * len(words)))
    with pytest.raises(ModelFileError, match="a name in it is not text"):
        interchange.read(tmp_path / "a.onnx")


@pytest.mark.parametrize("words", ["hinge", "0.0312", "quadratic"])
def test_the_loss_that_an_onnx_file_names_is_ours_or_none(onnx, model_of, tmp_path, words):
    model, path = model_of(NODES, ARRAYS), tmp_path / "a.onnx"
    onnx.helper.set_model_props(model, {"loss": words, "activation": "ReLU", "output": "1"})
    path.write_bytes(model.SerializeToString())
    assert interchange.read(path).config["loss"] == "cross-entropy"
    model.producer_name = "fastbp"
    path.write_bytes(model.SerializeToString())
    assert interchange.read(path, loss="cross-entropy").config["loss"] == "cross-entropy"
    if words == "quadratic":
        assert interchange.read(path).config["loss"] == "quadratic"
    else:
        with pytest.raises(ModelFileError, match="loss must be one of"):
            interchange.read(path)


# -- standardised inputs ---------------------------------------------------------------------------


def standardising(sizes, dtype="float32", mean=1e7, **options):
    """A network of raw columns with large means, one of which was constant."""
    rng = np.random.default_rng(4)
    pair = rng.normal(0, mean, sizes[0]), rng.uniform(1, 50, sizes[0]) * (np.arange(sizes[0]) != 2)
    return random_net(sizes, "tanh", dtype=dtype, scale=pair, **options)


def raw_rows(net, n=40):
    X = np.random.default_rng(5).normal(
        net.scaling.mean, net.scaling.deviation + 1, (n, net.sizes[0])
    )
    return X.astype(net.dtype)  # what float32 holds of large means is all that a graph is given


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_onnx_takes_raw_columns(onnx, ort, tmp_path, dtype, bias, assert_close):
    """Without losing digits; and the same comes back."""
    net, path = standardising([6, 4, 3], dtype, bias=bias), tmp_path / "net.onnx"
    interchange.write_onnx(net, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    X = raw_rows(net)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"X": X})
    assert_close(found, net.feedforward(X))
    assert not np.allclose(found, found[:1])
    back = interchange.read(path)
    assert_same_network(back, net)
    for one, two in zip(back.scaling, net.scaling, strict=True):
        np.testing.assert_array_equal(one, two)
    other = X.copy()
    other[:, 2] += 1000  # constant in the training data
    np.testing.assert_array_equal(session.run(None, {"X": other})[0], found)


def test_onnx_takes_raw_bytes(ort, tmp_path, rng, assert_close):
    net, path = random_net([6, 4, 3], scale=(np.zeros(6), np.arange(6) * 20.0)), tmp_path / "a.onnx"
    interchange.write_onnx(net, path, inputs="uint8")
    X = rng.integers(0, 256, (20, 6)).astype(np.uint8)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert_close(session.run(None, {"X": X})[0], net.feedforward(X))


@pytest.mark.parametrize("bias", [True, False])
def test_the_scaling_is_in_first_weights_and_biases(sklearn, tmp_path, bias, assert_close):
    net, path = standardising([6, 4, 3], "float64", 1e3, bias=bias), tmp_path / "net.safetensors"
    interchange.write_torch(net, path)
    X, expected = raw_rows(net), net.feedforward(raw_rows(net))
    back = interchange.read(path)
    assert (back.config["scale"], back.config["bias"]) == (None, True)
    assert_close(back.feedforward(X), expected)
    assert_close(interchange.to_sklearn(net).predict_proba(X), expected)
    assert "bias" not in interchange.torch_code(net, path)  # all layers have them
    shiftless = random_net([6, 4, 3], bias=bias, scale=(np.zeros(6), np.ones(6)))
    assert ("bias=False" in interchange.torch_code(shiftless, path)) is not bias
    interchange.write_torch(shiftless, path)
    assert interchange.read(path).config["bias"] is bias


@pytest.mark.parametrize("bias", [True, False])
def test_torch_takes_raw_columns(torch, tmp_path, bias, assert_close):
    net = standardising([6, 4, 3], "float64", 1e3, bias=bias)
    model, X = in_torch(net, tmp_path / "net.safetensors"), raw_rows(net)
    with torch.no_grad():
        assert_close(model(torch.from_numpy(X)).numpy(), net.feedforward(X))


def test_a_scaling_that_float32_cannot_hold_is_refused(tmp_path):
    for pair in ((np.zeros(6), np.full(6, 1e-300)), (np.full(6, 1e300), np.ones(6))):
        with pytest.raises(ValueError, match="standardising raw columns must be finite in float32"):
            interchange.write_torch(random_net([6, 3], scale=pair), tmp_path / "a.safetensors")


def test_a_scale_that_is_not_known_is_in_no_export(onnx, tmp_path):
    net = random_net([6, 3], scale="standard")
    with pytest.raises(ValueError, match="not known yet"):
        interchange.write_onnx(net, tmp_path / "a.onnx")


# -- PyTorch ---------------------------------------------------------------------------------------


def in_torch(net, path):
    """The module that the printed program leaves."""
    interchange.write_torch(net, path)
    names = {}
    exec(interchange.torch_code(net, path), names)
    return names["model"]


@pytest.mark.parametrize(("hidden", "loss", "output"), FUNCTIONS)
def test_torch_gives_the_same_outputs_on_mnist(
    torch, images, tmp_path, hidden, loss, output, assert_close
):
    net = random_net([784, 30, 17, 10], hidden, output, loss, input_scale=1 / 255)
    model = in_torch(net, tmp_path / "net.safetensors")
    assert isinstance(model, torch.nn.Sequential)
    with torch.no_grad():
        found = model(torch.from_numpy(images.astype("float32"))).numpy()
    assert_close(found, net.feedforward(images))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_and_back(torch, tmp_path, rng, dtype, bias, assert_close):
    from safetensors.torch import save_file

    net = random_net([5, 4, 3, 2], "tanh", "sigmoid", bias=bias, dtype=dtype)
    model, path = in_torch(net, tmp_path / "net.safetensors"), tmp_path / "back.safetensors"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)  # trained on, over there
    save_file(model.state_dict(), path)
    back = interchange.read(
        path, activation="tanh", output="sigmoid", loss="cross-entropy", input_scale=0.25
    )
    X = rng.standard_normal((6, 5)).astype(dtype)
    with torch.no_grad():
        expected = model(torch.from_numpy(X / 4)).numpy()
    assert_close(back.feedforward(X), expected)
    assert back.dtype == dtype
    assert bool(back.biases) is bias


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_modules_of_torch_s_own_exporters_are_read(
    torch, tmp_path, monkeypatch, dynamo, fixed, assert_close
):
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # else it stays set
    nn, X = torch.nn, torch.rand(5, 1, 2, 3)
    layers = (
        nn.Flatten(),
        nn.Linear(6, 4),
        nn.BatchNorm1d(4),
        nn.Tanh(),
        nn.Dropout(),
        nn.Linear(4, 3),
    )
    model, path = nn.Sequential(*layers), tmp_path / "a.onnx"
    model(X)  # statistics of this batch
    model.eval()
    free = {"dynamic_shapes": ({0: "batch"},)} if dynamo else {"dynamic_axes": {"x": {0: "batch"}}}
    options = {"dynamo": dynamo, "input_names": ["x"]} | ({} if fixed else free)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (X,), path, **options)
    with torch.no_grad():
        assert_close(interchange.read(path).feedforward(X.numpy().reshape(5, 6)), model(X).numpy())


@crossed(function=OUTPUTS, dtype=["float32", "float64"], bias=[True, False])
def test_what_was_written_for_torch_comes_back(tmp_path, function, dtype, bias):
    loss, output = function
    sizes = [4, *range(5, 17), 3]  # more than nine layers: 10 comes after 2
    net = random_net(sizes, "sigmoid", output, loss, dtype=dtype, bias=bias)
    interchange.write_torch(net, tmp_path / "net.safetensors")
    assert_same_network(interchange.read(tmp_path / "net.safetensors"), net)


def test_the_scale_is_in_the_first_weights(tmp_path):
    net = random_net([4, 3, 2], input_scale=1 / 16)
    path = tmp_path / "net.safetensors"
    interchange.write_torch(net, path)
    arrays = safetensors.numpy.load_file(path)
    assert sorted(arrays) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    np.testing.assert_array_equal(arrays["0.weight"], net.weights[0] / 16)
    np.testing.assert_array_equal(arrays["2.weight"], net.weights[1])
    assert net.config["input_scale"] == 1 / 16
    net.weights[0][0, 0] = 3e38
    vast = fastbp.Network([4, 3], input_scale=1e30)
    vast.weights[0][...] = 1e30
    with pytest.raises(ValueError, match=r"weights\[0\].*input_scale.*finite"):
        interchange.write_torch(vast, path)


def save(path, arrays, metadata=None):
    safetensors.numpy.save_file(arrays, path, metadata)
    return path


FC = {"fc1.weight": W1, "fc1.bias": B1, "fc2.weight": W2, "fc2.bias": B2}
SAID = {"activation": "relu", "loss": "cross-entropy"}


@pytest.mark.parametrize("names", [
    "fc1 fc2", "0 2", "2 10", "layers.0 layers.1", "net.0.linear net.1.linear", "l1.part1 l1.part2",
])  # fmt: skip
def test_names_that_differ_in_one_number_give_the_order(tmp_path, names):
    first, second = names.split()
    arrays = {f"{second}.weight": W2, f"{second}.bias": B2, f"{first}.bias": B1}
    path = save(tmp_path / "a.safetensors", arrays | {f"{first}.weight": W1})
    net = interchange.read(path, **SAID)
    np.testing.assert_array_equal(net.weights[0], W1)
    np.testing.assert_array_equal(net.biases[1], B2)
    assert net.config["output"] == "softmax"
    assert interchange.read(path, **SAID, input_scale=0.5).config["input_scale"] == 0.5


def test_a_single_layer_needs_no_number_and_no_activation(tmp_path):
    path = save(tmp_path / "a.safetensors", {"weight": W1, "bias": B1})
    assert interchange.read(path, loss="quadratic", output="tanh").sizes == (3, 4)


def test_layers_without_biases_beside_others_have_zeros(tmp_path):
    path = save(tmp_path / "a.safetensors", {k: v for k, v in FC.items() if k != "fc1.bias"})
    net = interchange.read(path, **SAID)
    np.testing.assert_array_equal(net.biases[0], np.zeros(4))
    np.testing.assert_array_equal(net.biases[1], B2)


SQUARE = np.arange(16, dtype="float32").reshape(4, 4) / 9


@pytest.mark.parametrize("names", ["fc1 fc2 out", "z m a", "a1.b1 a1.b2 a2.b1", "module.x y z"])
def test_widths_give_the_order_where_names_do_not(tmp_path, names):
    arrays = {name: W for name, W in zip(names.split(), (W1, SQUARE, W2), strict=True)}
    arrays = {f"{name}.weight": arrays[name] for name in sorted(arrays)}
    net = interchange.read(save(tmp_path / "a.safetensors", arrays), **SAID)
    for found, W in zip(net.weights, (W1, SQUARE, W2), strict=True):
        np.testing.assert_array_equal(found, W)


def test_many_widths_give_the_order_too(tmp_path):
    names = [chr(97 + 7 * k % 26) for k in range(20)]
    arrays = {f"{name}.weight": np.ones((k + 3, k + 2), "f4") for k, name in enumerate(names)}
    path = save(tmp_path / "a.safetensors", {name: arrays[name] for name in sorted(arrays)})
    assert interchange.read(path, **SAID).sizes == tuple(range(2, 23))


@pytest.mark.parametrize("order", [["in", "mid", "out"], ("out", "in", "mid")])
def test_an_order_can_be_given(tmp_path, order):
    arrays = {f"{name}.weight": SQUARE + i for i, name in enumerate(("in", "mid", "out"))}
    net = interchange.read(save(tmp_path / "a.safetensors", arrays), order=order, **SAID)
    for found, name in zip(net.weights, order, strict=True):
        np.testing.assert_array_equal(found, arrays[f"{name}.weight"])


def test_tied_arrays_are_found_by_the_metadata(tmp_path):
    """`safetensors.torch.save_model` writes each array once."""
    arrays = {"0.weight": SQUARE, "0.bias": B1, "4.weight": W2}
    tied = {"2.weight": "0.weight", "2.bias": "0.bias", "title": "4.weight", "note.bias": "none"}
    net = interchange.read(save(tmp_path / "a.safetensors", arrays, tied), **SAID)
    assert net.sizes == (4, 4, 4, 2)
    np.testing.assert_array_equal(net.weights[1], SQUARE)
    np.testing.assert_array_equal(net.biases[1], B1)
    many = {f"{i}.weight": "0.weight" for i in range(1, 100)}
    with pytest.raises(ModelFileError, match="tied to at most 64 layers"):
        interchange.read(save(tmp_path / "b.safetensors", {"0.weight": SQUARE}, many), **SAID)


UNFIT_STATES = {
    "no functions": (FC, {}, "activation and loss; name activation="),
    "no loss": (FC, {"activation": "relu"}, "its loss; name loss="),
    "no activation": (FC, {"loss": "quadratic"}, "its activation; name activation="),
    "output without its loss": (
        FC, {**SAID, "output": "tanh"}, "output.* 'cross-entropy'.* must be one of",
    ),
    "empty": ({}, SAID, "no layer"),
    "missing weight": ({k: v for k, v in FC.items() if k != "fc2.weight"}, SAID,
        "array 'fc2.weight' is missing"),
    "batch norm": (FC | {"bn.weight": B1, "bn.running_mean": B1}, SAID,
        "'bn' is a batch norm.*fuse_linear_bn_eval"),
    "a counter of batches": (
        {"0.weight": W1, "1.weight": B1, "1.num_batches_tracked": np.array(7)}, SAID,
        "'1' is a batch norm",
    ),
    "surplus array": (FC | {"extra": B1}, SAID, "array 'extra'"),
    "surplus layer": (FC | {"fc3.weight": W2, "fc3.bias": B2}, SAID,
        "'fc3' takes 4 .*'fc2' gives 2"),
    "shapes that do not fit": (FC | {"fc2.weight": W2[:, :3].copy()}, SAID,
        "'fc2' takes 3 .*'fc1' gives 4"),
    "bias of another length": (FC | {"fc1.bias": B2}, SAID, r"'fc1' .*\(4,\); got"),
    "convolution": (FC | {"fc1.weight": W1[:, :, None].copy()}, SAID, "'fc1' must be a matrix"),
    "no inputs": (FC | {"fc1.weight": W1[:, :0].copy()}, SAID, "'fc1' must be a matrix"),
    "integers": (FC | {"fc1.weight": W1.astype("i8")}, SAID, "F32, F64; .*I64"),
    "half": (FC | {"fc1.weight": W1.astype("f2")}, SAID, r"F16.*`model\.float\(\)`"),
    "two dtypes": (FC | {"fc1.bias": B1.astype("f8")}, SAID, "all arrays .*float32.*float64"),
    "NaN": (FC | {"fc2.bias": B2 * np.nan}, SAID, "'fc2' must be finite"),
    "a number in one name": (
        {"linear.weight": SQUARE, "linear2.weight": SQUARE}, SAID, "order of layers",
    ),
    "words for numbers": ({"in.weight": SQUARE, "out.weight": SQUARE}, SAID, "order=.*--order"),
    "two numbers": (
        {"a1.b1.weight": SQUARE, "a2.b2.weight": SQUARE, "a3.b1.weight": W1}, SAID, "one number",
    ),
    "a circle": ({"down.weight": W1, "up.weight": W1.T.copy()}, SAID, "order=.*--order"),
    "twelve squares": ({f"{c}.weight": SQUARE for c in "abcdefghijkl"}, SAID, "order=.*--order"),
    "an order that lacks one": (FC, SAID | {"order": ["fc1"]}, "each layer once, 'fc1', 'fc2'"),
    "an order of others": (FC, SAID | {"order": ["fc1", "out"]}, "once.*got fc1, out"),
    "an order that does not fit": (FC, SAID | {"order": ["fc2", "fc1"]}, "must make a chain"),
    "two of three alike": (
        {"fc1.weight": W1, "fc01.weight": W2, "fc2.weight": W2}, SAID, "order of layers",
    ),
    "a number twice": ({"fc1.weight": SQUARE, "fc01.weight": SQUARE}, SAID, "order of layers"),
}  # fmt: skip


@pytest.mark.parametrize(("arrays", "said", "part"), UNFIT_STATES.values(), ids=UNFIT_STATES)
def test_an_unfit_state_dict_is_one_clear_error(tmp_path, arrays, said, part):
    path = save(tmp_path / "a.safetensors", arrays)
    with pytest.raises(ModelFileError, match=part) as caught:
        interchange.read(path, **said)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 400


OURS = {"activation": "relu", "output": "softmax", "loss": "cross-entropy", "format": "pt"}


@pytest.mark.parametrize("key", ["activation", "output", "loss"])
def test_metadata_are_not_trusted(tmp_path, key):
    described = OURS | {"producer": "fastbp", key: "x" * 999}
    path = save(tmp_path / "a.safetensors", FC, described)
    with pytest.raises(ModelFileError, match=f"its {key} must be one of .*; got 'xxx"):
        interchange.read(path)
    assert interchange.read(path, **SAID, output="softmax").config["loss"] == "cross-entropy"


def test_what_is_said_goes_before_what_the_file_says(tmp_path):
    path = save(tmp_path / "a.safetensors", FC, OURS)  # as 0.2.0 wrote it
    assert interchange.read(path).config["output"] == "softmax"
    net = interchange.read(path, activation="tanh", loss="quadratic")
    assert (net.config["activation"], net.config["output"]) == ("tanh", "identity")


@pytest.mark.parametrize(
    "foreign",
    [
        {"format": "pt", "loss": "0.0312", "activation": "ReLU"},
        {"format": "pt", "output": "3", "dtype": "bf16", "producer": "trainer"},
        OURS | {"epoch": "3"},
        OURS | {"activation": "LeakyReLU"},
        OURS | {"format": "np"},
    ],
)
def test_names_of_other_programs_mean_nothing_here(tmp_path, foreign):
    path = save(tmp_path / "a.safetensors", FC, foreign)
    config = interchange.read(path, activation="tanh", loss="quadratic").config
    assert (config["activation"], config["output"], config["loss"]) == (
        "tanh", "identity", "quadratic",
    )  # fmt: skip
    with pytest.raises(ModelFileError, match="does not say its activation and loss; name"):
        interchange.read(path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
HEADS = {
    "a Git LFS pointer": POINTER,
    "a page of a web site": b"<!DOCTYPE html><html lang='en'>",
    "empty": b"",
    r"a zip archive.*torch\.save.*save_file": b"PK\3\4" + bytes(90),
    r"a pickle.*save_file\(model": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19",
    "a pickle": b"\x80\x04\x95\x0c\0\0\0\0\0\0\0\x8c\x08builtins\x94.",
    "compressed by gzip": b"\x1f\x8b\x08\0" + bytes(90),
    "HDF5.*ONNX": b"\x89HDF\r\n\x1a\n" + bytes(90),
}


@pytest.mark.parametrize("suffix", ["safetensors", "onnx"])
@pytest.mark.parametrize(("words", "head"), HEADS.items(), ids=HEADS)
def test_what_is_no_model_is_named(onnx, tmp_path, suffix, words, head):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(head)
    with pytest.raises(ModelFileError, match=f"{suffix} is {words}"):
        interchange.read(path)
    if suffix == "safetensors":
        with pytest.raises(ModelFileError, match=f"{suffix} is {words}"):
            fastbp.load(path)


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ({"activation": "swish"}, "activation must be one of"),
        ({"output": "swish"}, "output must be one of"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"input_scale": 0}, "input_scale must be a positive number"),
        ({"order": "fc1"}, "order must be a list of names"),
        ({"order": [1, 2]}, "order must be a list of names"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, said, part):
    path = save(tmp_path / "a.safetensors", FC)
    with pytest.raises((TypeError, ValueError), match=part) as caught:
        interchange.read(path, **said)
    assert not isinstance(caught.value, ModelFileError)


def test_what_belongs_elsewhere_is_sent_there(tmp_path, onnx):
    net = random_net([3, 2])
    net.save(tmp_path / "own.safetensors")
    with pytest.raises(ModelFileError, match="a model of fastbp already"):
        interchange.read(tmp_path / "own.safetensors")
    interchange.write_torch(net, tmp_path / "theirs.safetensors")
    with pytest.raises(ModelFileError, match="`fastbp convert`"):
        fastbp.load(tmp_path / "theirs.safetensors")
    for name in ("net.pt", "net.pth", "net.joblib"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
        with pytest.raises(ModelFileError, match=r"any code.*safetensors\.torch\.save_f"):
            interchange.read(tmp_path / name)
    with pytest.raises(ModelFileError, match=r"must end in \.safetensors .* or \.onnx"):
        interchange.read(tmp_path / "net.h5")
    interchange.write_onnx(net, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"activation .*ONNX .*got 'relu'"):
        interchange.read(tmp_path / "net.onnx", activation="relu")
    for name in ("no.safetensors", "no.onnx"):
        with pytest.raises(FileNotFoundError, match="there is no such file"):
            interchange.read(tmp_path / name, **(SAID if name == "no.safetensors" else {}))
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(IsADirectoryError):
        interchange.read(tmp_path / "folder.onnx")


def test_a_vast_header_costs_nothing(tmp_path):
    header = json.dumps({"a.weight": {"dtype": "F32", "shape": [2**20, 2**20],
                                      "data_offsets": [0, 2**42]}}).encode()  # fmt: skip
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelFileError, match="damaged"):
        interchange.read(tmp_path / "a.safetensors", **SAID)


# -- scikit-learn ----------------------------------------------------------------------------------

CLASSIFIERS = [("softmax", 10), ("softmax", 3), ("softmax", 2), ("sigmoid", 1), ("sigmoid", 4)]


@crossed(outputs=CLASSIFIERS, hidden=["sigmoid", "tanh", "relu", "identity"], bias=[True, False])
def test_a_classifier_gives_the_same_outputs(sklearn, images, outputs, hidden, bias, assert_close):
    output, n_out = outputs
    net = random_net([784, 12, 9, n_out], hidden, output, bias=bias, input_scale=1 / 255)
    estimator = interchange.to_sklearn(net)
    assert isinstance(estimator, sklearn.MLPClassifier)
    X = images[:100].astype("float32")
    expected = net.feedforward(X)
    proba = estimator.predict_proba(X)
    assert_close(proba[:, -1:] if n_out == 1 else proba, expected)
    if output == "softmax":
        np.testing.assert_array_equal(estimator.predict(X), net.predict(X))
    else:
        np.testing.assert_array_equal(estimator.predict(X).reshape(100, -1), expected > 0.5)
    back = interchange.from_sklearn(estimator).feedforward(X)
    assert_close(back[:, -1:] if n_out == 1 else back, expected)


@crossed(
    sizes=[(5,), (5, 4), (5, 4, 3)],
    n_out=[1, 3],
    dtype=["float32", "float64"],
    loss=["quadratic", "poisson"],
)
def test_a_regressor_gives_the_same_outputs(sklearn, rng, sizes, n_out, dtype, loss, assert_close):
    net = random_net([*sizes, n_out], "tanh", loss=loss, dtype=dtype)
    estimator = interchange.to_sklearn(net)
    assert isinstance(estimator, sklearn.MLPRegressor)
    X = rng.standard_normal((6, 5)).astype(dtype)
    assert_close(estimator.predict(X).reshape(6, n_out), net.feedforward(X))
    assert_same_network(interchange.from_sklearn(estimator), net)


@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu", "identity"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_trained_classifier_comes_over(sklearn, digits, activation, classes, assert_close):
    rows = digits.y_train < classes
    X, y = digits.X_train[rows] / 16, np.array(["zero", "one", "two"])[digits.y_train[rows]]
    estimator = sklearn.MLPClassifier(
        hidden_layer_sizes=[7], activation=activation, random_state=0, solver="lbfgs", max_iter=9
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nine steps are not enough to converge
        estimator.fit(X, y)
    net = interchange.from_sklearn(estimator)
    assert_close(net.feedforward(X), estimator.predict_proba(X))
    np.testing.assert_array_equal(estimator.classes_[net.predict(X)], estimator.predict(X))
    assert net.dtype == np.float64
    net.weights[0][...] = 0
    assert estimator.coefs_[0].any()  # copied


def test_several_labels_at_once(sklearn, rng, assert_close):
    X, y = rng.random((20, 3)), rng.integers(0, 2, (20, 2))
    estimator = sklearn.MLPClassifier(hidden_layer_sizes=[4], random_state=0).partial_fit(
        X, y, classes=[0, 1]
    )
    net = interchange.from_sklearn(estimator)
    assert net.config["output"] == "sigmoid"
    assert_close(net.feedforward(X), estimator.predict_proba(X))


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("derived", [True, False])
def test_our_own_estimators_come_over(sklearn, digits, kind, derived, assert_close):
    from fastbp import estimator as ours

    theirs, own = getattr(sklearn, kind), getattr(ours, kind)
    made = type("Mine", (own,), {}) if derived else own
    X, y = digits.X_train[:300] / 16, digits.y_train[:300]
    fitted = made(hidden_layer_sizes=[7], random_state=0).partial_fit(
        X, y, **({"classes": range(10)} if kind == "MLPClassifier" else {})
    )
    net = interchange.from_sklearn(fitted)
    predicted = getattr(fitted, "predict_proba", fitted.predict)(X)
    assert_close(net.feedforward(X).reshape(predicted.shape), predicted)
    assert isinstance(interchange.to_sklearn(net), theirs)
    net.weights[0][...] = 0
    assert fitted.coefs_[0].any()  # copied
    with pytest.raises(ValueError, match="estimator must be fitted"):
        interchange.from_sklearn(made())


def test_what_scikit_learn_has_not(sklearn):
    for output, sizes in (("tanh", [3, 2]), ("relu", [3, 2])):
        with pytest.raises(ValueError, match="output of softmax, sigmoid, identity"):
            interchange.to_sklearn(random_net(sizes, output=output, loss="quadratic"))
    other = sklearn.MLPRegressor(hidden_layer_sizes=[2]).partial_fit(np.eye(2), np.ones(2))
    other.activation = "swish"
    with pytest.raises(ValueError, match=r"activation must be one of logistic, .*got 'swish'"):
        interchange.from_sklearn(other)
    with pytest.raises(TypeError, match=r"MLPClassifier or MLPRegressor .* got dict"):
        interchange.from_sklearn({})
    with pytest.raises(ValueError, match="estimator must be fitted"):
        interchange.from_sklearn(sklearn.MLPClassifier())
    other = sklearn.MLPRegressor(hidden_layer_sizes=[2]).partial_fit(np.eye(2), np.ones(2))
    other.out_activation_ = "softplus"  # of some later version
    with pytest.raises(ValueError, match="identity, exp; got 'softplus'"):
        interchange.from_sklearn(other)
    spoilt = sklearn.MLPRegressor(hidden_layer_sizes=[2]).partial_fit(np.eye(2), np.ones(2))
    spoilt.coefs_[0][0, 0] = np.nan
    with pytest.raises(ModelFileError, match="MLPRegressor: layer 0 must be finite"):
        interchange.from_sklearn(spoilt)


# -- without the packages --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("onnx", lambda net, path: interchange.write_onnx(net, path)),
        ("onnx", lambda net, path: interchange.read_onnx(path)),
        ("sklearn", lambda net, path: interchange.to_sklearn(net)),
        ("sklearn", lambda net, path: interchange.from_sklearn(net)),
    ],
)
def test_a_missing_package_is_named(monkeypatch, tmp_path, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.neural_network", None)
    with pytest.raises(
        ImportError, match=f"pip install {package.replace('sklearn', 'scikit-learn')}"
    ):
        call(random_net([3, 2]), tmp_path / "a.onnx")


def test_every_layout_agrees_with_every_other(sklearn, onnx, tmp_path, rng, assert_close):
    net = random_net([6, 5, 4], "tanh", dtype="float64")
    interchange.write_torch(net, tmp_path / "a.safetensors")
    interchange.write_onnx(net, tmp_path / "a.onnx")
    net.save(tmp_path / "own")
    found = [
        interchange.read(tmp_path / "a.safetensors"), interchange.read(tmp_path / "a.onnx"),
        fastbp.load(tmp_path / "own"), interchange.from_sklearn(interchange.to_sklearn(net)),
    ]  # fmt: skip
    for one, other in itertools.pairwise(found):
        assert_same_network(one, other)


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_notes_go_along_and_come_back(tmp_path, suffix):
    if suffix == ".onnx":
        pytest.importorskip("onnx", reason="the extra onnx is not installed")
    net, path = fastbp.Network([2, 3], loss="cross-entropy", seed=0), tmp_path / f"net{suffix}"
    write = interchange.write_onnx if suffix == ".onnx" else interchange.write_torch
    write(net, path)
    assert interchange.read(path).notes == {}
    net.notes = {"columns": ["a", "β"], "classes": ["x", "y", "z"]}
    write(net, path)
    assert interchange.read(path).notes == net.notes
    path.write_bytes(path.read_bytes().replace(b"columns", b"classes"))
    with pytest.raises(ModelFileError, match="its text of notes is not JSON: a name appears twice"):
        interchange.read(path)
