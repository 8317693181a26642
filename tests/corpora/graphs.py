"""ONNX files that no network is read from."""

from itertools import pairwise

import numpy as np
import onnx

from corpora import MIB


def graph(tensor_of=lambda t: None, nodes=None, count=1):
    """An ONNX model of one layer, of which the weights, or the nodes, are changed."""
    make, kinds = onnx.helper, onnx.TensorProto
    W = onnx.numpy_helper.from_array(np.ones((2, 3), "f4"), "W")
    tensor_of(W)
    nodes = nodes(make) if nodes else [make.make_node("Gemm", ["X", "W"], ["out"], transB=1)]
    shape = ["batch", 3]
    body = make.make_graph(
        nodes, "attack",
        [make.make_tensor_value_info("X", kinds.FLOAT, shape)],
        [make.make_tensor_value_info("out", kinds.FLOAT, ["batch", 2])],
        [W] * count,
    )  # fmt: skip
    return make.make_model(body).SerializeToString()


def sets(**fields):
    def change(tensor):
        for name, value in fields.items():
            if name == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)
            else:
                setattr(tensor, name, value)

    return change


def elsewhere(tensor):
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="/etc/passwd")


def as_floats(tensor):
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0] * 5)


def chain(make, operator="Identity", count=20_000):
    names = ["X", *map(str, range(count)), "out"]
    return [make.make_node(operator, [a], [b]) for a, b in pairwise(names)]


def layers(make):
    names = ["X", *map(str, range(20_000)), "out"]
    return [make.make_node("Gemm", [a, "W"], [b], transB=1) for a, b in pairwise(names)]


def referring(make):
    node = make.make_node("Gemm", ["X", "W"], ["out"], transB=1)
    node.attribute[0].ref_attr_name = "other"
    return [node]


def nested(depth):
    """A message in a message in a message: an attribute that is a graph, of nodes with one."""
    blob = b""
    for field in (b"\x0a", b"\x2a", b"\x32") * depth:  # node, attribute, graph
        length, size = b"", len(blob)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        blob = field + length + bytes([size]) + blob
    return b"\x3a\x80\x80\x04" + blob


def graphs():
    nan = np.full(6, np.nan, "f4").tobytes()
    yield "nothing", b""
    yield "text", b"import os"
    yield "a length of exabytes", b"\x3a" + b"\xff" * 8 + b"\x7f"
    yield "a length of 2 GiB", b"\x3a\xff\xff\xff\xff\x07" + bytes(64)
    yield "deep graphs", nested(5_000)
    yield "an unclosed group", b"\x0b" * 10_000
    yield "terabytes", graph(sets(dims=[2**20, 2**20]))
    yield "an overflow", graph(sets(dims=[2**32, 2**32]))
    yield "an overflow to the right size", graph(sets(dims=[2**62 + 2, 3]))
    yield "the largest", graph(sets(dims=[2**63 - 1, 1]))
    yield "negative", graph(sets(dims=[-2, -3]))
    yield "unknown", graph(sets(dims=[-1, 3]))
    yield "no rows", graph(sets(dims=[0, 3], raw_data=b""))
    yield "a thousand axes", graph(sets(dims=[1] * 1000))
    yield "too little data", graph(sets(raw_data=bytes(20)))
    yield "too much data", graph(sets(raw_data=bytes(MIB)))
    yield "NaN weights", graph(sets(raw_data=nan))
    yield "strings", graph(sets(data_type=8))
    yield "complex", graph(sets(data_type=14))
    yield "no such type", graph(sets(data_type=99))
    yield "another file", graph(elsewhere)
    yield "five floats for six", graph(as_floats)
    yield "an attribute that refers to another", graph(nodes=referring)
    yield "the same name thrice", graph(count=3)
    yield "twenty thousand nodes of nothing", graph(nodes=chain)
    yield "one array for twenty thousand layers", graph(nodes=layers)
    yield "a shape of shapes", graph(nodes=lambda m: [m.make_node("Shape", ["X"], ["out"])])
    yield "a loop", graph(nodes=lambda make: [make.make_node("Gemm", ["out", "W"], ["out"])])
    yield "an operator of Python's", graph(nodes=lambda m: [m.make_node("PyOp", ["X"], ["out"])])
    whole = graph()
    for end in range(1, len(whole), 7):
        yield f"cut off after {end}", whole[:end]
