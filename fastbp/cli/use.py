"""What is done with a model: evaluated, used, drawn, reported, exchanged."""

import io
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from .. import interchange, plots
from .. import report as reports
from .._support import files
from .._support import notes as kept
from ..network import Network
from . import inputs, pictures, records, tasks
from .inputs import load_data_for, load_model, named_after
from .options import Result


def evaluate(args: Namespace) -> Result:
    """Print how well a model predicts test samples."""
    net = load_model(args.model, args.backend)
    _, _, *test = load_data_for(net, args)
    loss, (scores, line) = net.loss(*test), tasks.scores(net, *test)
    facts = {
        **scores, "test_loss": loss, "samples": len(test[0]), "data": args.data,
        "data_path": args.data_path, "model": os.path.abspath(args.model),
    }  # fmt: skip
    return Result(facts, f"{line}\ntest loss     {loss:.8g}")


def predict(args: Namespace) -> Result:
    """Print the class of each image, one per line; or numbers, if the model predicts these."""
    inputs.check_writable(args.output, read=(args.model, args.data))
    if args.output:
        files.check_name(args.output, ".csv", ".txt")
    net = load_model(args.model, args.backend)
    X = inputs.load_samples(net, args)
    inputs.check_writable(args.output, read=(args.data_path,))  # as the model remembers it
    named = "classes" in net.notes and not args.proba
    rows: Any = net.feedforward(X) if args.proba or named else net.predict(X)
    fmt = "%d" if rows.dtype.kind == "i" else "%.9g"
    if named:
        rows, fmt = _names(net, rows), "%s"
    text = io.StringIO()
    np.savetxt(text, rows, fmt, delimiter=",")
    if args.output is None:
        return Result(text=text.getvalue().removesuffix("\n"))
    files.write_text(args.output, text.getvalue())
    return Result()


def _names(net: Network, outputs: np.ndarray) -> np.ndarray:
    """Return the name of the class of each row of outputs."""
    names = np.array(kept.classes(net.notes, max(2, net.sizes[-1])), object)
    one = net.sizes[-1] == 1
    found: np.ndarray = names[(outputs[:, 0] > 0.5).astype(int) if one else outputs.argmax(axis=1)]
    return found


FORMATS = {".onnx": "ONNX", ".safetensors": "PyTorch's state_dict"}


def _check_new(path: str, source: str, *suffixes: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes:
        known = " or ".join(f"{one} ({FORMATS[one]})" for one in suffixes)
        raise ValueError(f"OUT must end in {known}; got {path}")
    if os.path.exists(path) and os.path.samefile(path, source):
        raise ValueError(f"OUT must be another file than {source}, which it would replace")
    return suffix


def export(args: Namespace) -> Result:
    """Write a model in the format of another program, by the suffix of its file."""
    suffix = _check_new(args.out, args.model, *FORMATS)
    net = load_model(args.model, "numpy")  # nothing is computed
    net.notes.pop("training", None)  # paths of this machine are not for those who get the file
    if suffix == ".onnx":
        interchange.write_onnx(net, args.out, inputs=args.inputs)
        kind = "uint8" if args.inputs == "uint8" else net.dtype
        program = (
            "import onnxruntime\n"
            f"session = onnxruntime.InferenceSession({args.out!r})\n"
            f"(outputs,) = session.run(None, {{'X': X}})  # X: (batch, {net.sizes[0]}), {kind}"
        )
    elif args.inputs == "float":
        interchange.write_torch(net, args.out)
        program = interchange.torch_code(net, args.out)
    else:
        raise ValueError("--inputs is for ONNX; PyTorch's modules take floats")
    wrote = f"wrote {os.path.abspath(args.out)}, {FORMATS[suffix]}"
    return Result(text=f"{wrote}. To use it:\n\n{program}")


def convert(args: Namespace) -> Result:
    """Read a model of another program, write one of fastbp."""
    _check_new(args.out, args.file, ".safetensors")
    loss = tasks.loss(args.loss) if args.loss else None
    net = interchange.read(
        args.file, activation=args.activation, output=args.output_activation, loss=loss,
        input_scale=args.input_scale, order=args.order, backend="numpy",  # nothing is computed
    )  # fmt: skip
    net.save(args.out)
    scale = net.config["input_scale"]
    return Result(text=f"wrote {os.path.abspath(args.out)}: {net}, input_scale {scale:g}")


def plot(args: Namespace) -> Result:
    """Draw a picture of a model, or of its training."""
    name, *others = args.files
    if others and args.kind != "curves":
        raise ValueError(f"plot {args.kind} takes one file; got {' '.join(args.files)}")
    stems = "-".join(os.path.basename(named_after(other, "")) for other in others)
    end = f"-{stems}-{args.kind}.png" if others else f"-{args.kind}.png"
    path = args.output or named_after(name, end)
    inputs.check_writable(path, read=(*args.files, args.data))
    plots.check(path)
    pictures.draw(args, path)
    path = os.path.abspath(path)
    return Result({"kind": args.kind, "plot": path}, f"{args.kind}: {path}")


def report(args: Namespace) -> Result:
    """Write one HTML page about a model: figures of each class, all pictures."""
    path = args.output or named_after(args.model, "-report.html")
    inputs.check_writable(path, read=(args.model, args.data))
    files.check_name(path, ".html", ".htm")
    net = load_model(args.model, args.backend)
    given, data = args.data, load_data_for(net, args)
    history = norms = None
    if records.beside(args.model).exists():
        run = records.read(args.model)
        history, norms = run.history, run if run.deltas else None
    reports.write(
        path, net, data.X_test, data.y_test, history=history, norms=norms,
        title=pictures.heading(net, given),
    )  # fmt: skip
    path = os.path.abspath(path)
    return Result({"report": path}, f"report: {path}")
