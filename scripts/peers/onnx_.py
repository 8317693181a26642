"""onnxruntime: prediction from a graph of Gemm nodes."""

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from . import Done, Job

NODES = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softmax": "Softmax"}


def graph(task):
    """Return the model: Gemm and activation, layer by layer, the batch size left open."""
    work = task.work
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(work.dtype))
    nodes, constants, last = [], [], len(task.weights) - 1
    name = "x"
    for l, (W, b) in enumerate(zip(task.weights, task.biases, strict=True)):
        constants += [
            numpy_helper.from_array(np.ascontiguousarray(W.T), f"W{l}"),
            numpy_helper.from_array(b, f"b{l}"),
        ]
        nodes.append(helper.make_node("Gemm", [name, f"W{l}", f"b{l}"], [f"z{l}"]))
        name, op = f"z{l}", NODES.get(work.output if l == last else work.activation)
        if op:
            nodes.append(helper.make_node(op, [name], [f"a{l}"]))
            name = f"a{l}"
    ends = [
        [helper.make_tensor_value_info(end, kind, [None, width])]
        for end, width in (("x", work.sizes[0]), (name, work.sizes[-1]))
    ]
    made = helper.make_graph(nodes, "mlp", *ends, constants)
    # Operator set 21 is old enough for any onnxruntime of the last years.
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def build(task, variant):
    """One session, whose output is bound to an array; the input as well, where it is always one.

    Tried with a sample after another, in microseconds: `run` (5.1 to 5.3), `run` of the inner
    session (4.4), OrtValues (32), binding each sample anew (6.3), copying it into a bound array
    (4.0), spinning or not and the memory arena (no change).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = task.threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    model = graph(task)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    rows = [task.X] if task.work.samples > 1 else [task.X[i : i + 1] for i in range(len(task.X))]
    x = rows[0].copy()
    out = np.empty((len(x), task.work.sizes[-1]), x.dtype)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, x.dtype, x.shape, x.ctypes.data)
    name = session.get_outputs()[0].name
    binding.bind_output(name, "cpu", 0, out.dtype, out.shape, out.ctypes.data)

    def run(calls):
        for i in range(calls):
            if len(rows) > 1:
                np.copyto(x, rows[i % len(rows)])
            session.run_with_iobinding(binding)
        np.copyto(x, rows[0])
        session.run_with_iobinding(binding)
        return Done(float(np.linalg.norm(out)))

    return Job(run)
