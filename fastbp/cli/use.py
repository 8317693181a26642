"""What can be done with a model; checks of gradients, of this machine, of what is installed."""

import io
import os
import time
from argparse import Namespace
from typing import Any

import numpy as np

from .. import engines, interchange, plots, verification
from .. import report as reports
from .._support import files
from .._support import notes as kept
from ..engines import versions
from ..model import summary
from ..network import Network
from . import options, records
from .options import MODEL, TABLE, TEST_DATA, Result, command, load_data_for, load_model, title

REPORT = "fastbp-report.html"


@command(f"model --data --data-dir {TABLE} --backend --json", data=TEST_DATA)
def evaluate(args: Namespace) -> Result:
    """Print a model's loss and accuracy on test images.

    shell examples:
      fastbp evaluate                               the model that `fastbp train` wrote
      fastbp evaluate mnist.safetensors --data mnist --json
    """
    net = load_model(args.model, args.backend)
    _, _, *test = load_data_for(net, args)
    loss, correct, samples = net.loss(*test), net.evaluate(*test), len(test[0])
    facts = {
        "test_accuracy": correct / samples, "test_loss": loss, "correct": correct,
        "samples": samples, "data": args.data, "data_path": args.data_path,
        "model": os.path.abspath(args.model),
    }  # fmt: skip
    accuracy = f"test accuracy {correct / samples:.4f} ({correct:,} of {samples:,})"
    return Result(facts, f"{accuracy}\ntest loss     {loss:.6f}")


@command(
    f"model --data --data-dir {TABLE} --backend --proba --output",
    data={"help": f"all rows of a .npy or .csv file, or {TEST_DATA['help']}"},
    label={"help": "a column of a .csv to leave out; that of the classes is, if it is there"},
    output={"default": None, "help": "the file to write (default: stdout)"},
)
def predict(args: Namespace) -> Result:
    """Print the class of each image, one per line; or numbers, if the model predicts these.

    Of several sigmoids with cross-entropy each is a class, 0 or 1. Models whose output is identity,
    tanh, relu or exp predict numbers. Several in a line are separated by commas.

    shell examples:
      fastbp predict | head
      fastbp predict mnist.safetensors --data images.npy --proba --output outputs.csv
      fastbp predict points.safetensors --data points.csv --label class
    """
    options.check_writable(args.output, read=(args.model, args.data))
    if args.output:
        files.check_name(args.output, ".csv", ".txt")
    net = load_model(args.model, args.backend)
    X = options.load_samples(net, args)
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


def _check_new(path: str, source: str, suffix: str) -> None:
    if not path.lower().endswith(suffix):
        raise ValueError(f"OUT must end in {suffix}; got {path}")
    if os.path.exists(path) and os.path.samefile(path, source):
        raise ValueError(f"OUT must be another file than {source}, which it would replace")


@command("model out --to --inputs", model={"nargs": None, "default": None})
def export(args: Namespace) -> Result:
    """Write a model in the format of another program.

    The outputs are equal to rounding, for the same inputs: the scale of a model's inputs is part of
    the ONNX graph, and multiplied into the first weights for PyTorch. For scikit-learn, see
    fastbp.interchange.to_sklearn.

    shell examples:
      fastbp export fastbp-model.safetensors digits.onnx --to onnx --inputs uint8
      fastbp export fastbp-model.safetensors digits-torch.safetensors --to torch
    """
    _check_new(args.out, args.model, ".onnx" if args.to == "onnx" else ".safetensors")
    net = load_model(args.model, "numpy")  # nothing is computed
    if args.to == "onnx":
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
    return Result(text=f"wrote {os.path.abspath(args.out)}. To use it:\n\n{program}")


@command(
    "file out --activation --output-activation --loss --input-scale --order",
    out={"help": "the file to write: .safetensors"},
    activation={"default": None, "help": "of the hidden layers; missing in a state_dict"},
    loss={"default": None, "help": "for further training; missing in a state_dict"},
)
def convert(args: Namespace) -> Result:
    """Read a model of another program, write one of fastbp.

    In PyTorch, write the file with safetensors.torch.save_file(model.state_dict(), FILE). Of an
    ONNX graph, dense layers and their activations are understood. For scikit-learn, see
    fastbp.interchange.from_sklearn.

    shell examples:
      fastbp convert theirs.safetensors mine.safetensors --activation relu --loss cross-entropy
      fastbp convert theirs.onnx mine.safetensors
    """
    _check_new(args.out, args.file, ".safetensors")
    net = interchange.read(
        args.file, activation=args.activation, output=args.output_activation, loss=args.loss,
        input_scale=args.input_scale, order=args.order, backend="numpy",  # nothing is computed
    )  # fmt: skip
    net.save(args.out)
    scale = net.config["input_scale"]
    return Result(text=f"wrote {os.path.abspath(args.out)}: {net}, input_scale {scale:g}")


@command(
    f"kind files --data --data-dir {TABLE} --backend --output --json",
    data={"help": f"for confusion and mistakes: {TEST_DATA['help']}"},
    output={"default": None, "help": "a .png, .svg or .pdf (default: fastbp-KIND.png)"},
)
def plot(args: Namespace) -> Result:
    """Draw a picture of a model, or of its training.

    curves         loss and accuracy over the epochs; several runs in one picture
    confusion      how many test images of each class are taken for which
    mistakes       the test images that the model is most confidently wrong about
    weights        the first layer's weights as images
    norms          the size of activations and deltas in each layer: do gradients vanish?
    learning-rate  the loss over growing learning rates, as find-learning-rate tried them

    curves and norms read the history that train writes beside its model: MODEL.history.jsonl.

    shell examples:
      fastbp plot curves                            the model that `fastbp train` wrote
      fastbp plot curves a.safetensors b.safetensors --output both.svg
      fastbp plot mistakes mnist.safetensors --data mnist
      fastbp find-learning-rate --json > rates.json && fastbp plot learning-rate rates.json
    """
    path = args.output or f"fastbp-{args.kind}.png"
    options.check_writable(path, read=(*args.files, args.data))
    plots.check(path)
    if args.kind == "learning-rate" and not args.files:
        writer = "`fastbp find-learning-rate --json > rates.json`"
        raise ValueError(f"plot learning-rate needs the file that {writer} writes")
    if args.kind != "curves" and len(args.files) > 1:
        raise ValueError(f"plot {args.kind} takes one file; got {' '.join(args.files)}")
    name, *others = args.files or [MODEL]
    match args.kind:
        case "curves":
            runs = {name: records.read(name).history for name in (name, *others)}
            plots.learning_curves(runs, path)
        case "norms":
            plots.layer_norms(records.read(name), path, title=name)
        case "learning-rate":
            found: Any = records.read_rates(name)
            plots.learning_rates(found, path, title=name)
        case "weights":
            net = load_model(name, args.backend)
            plots.first_layer(net, path, title(net))
        case "confusion" | "mistakes":
            net = load_model(name, args.backend)
            data = load_data_for(net, args)
            draw = plots.mistakes if args.kind == "mistakes" else plots.confusion_matrix
            draw(net, data.X_test, data.y_test, path, f"{args.data}: {title(net)}")
    path = os.path.abspath(path)
    return Result({"kind": args.kind, "plot": path}, f"{args.kind}: {path}")


@command(
    f"model --data --data-dir {TABLE} --backend --output --json",
    data=TEST_DATA,
    output={"default": REPORT, "help": "the page"},
)
def report(args: Namespace) -> Result:
    """Write one HTML page about a model: figures of each class, all pictures.

    The page is one file, images included, and loads nothing. Learning curves and norms need the
    history that train writes beside its model.

    shell examples:
      fastbp report                                 the model that `fastbp train` wrote
      fastbp report mnist.safetensors --data mnist --output mnist.html
    """
    options.check_writable(args.output, read=(args.model, args.data))
    files.check_name(args.output, ".html", ".htm")
    net = load_model(args.model, args.backend)
    data = load_data_for(net, args)
    history = norms = None
    if records.beside(args.model).exists():
        run = records.read(args.model)
        history, norms = run.history, run if run.deltas else None
    reports.write(
        args.output, net, data.X_test, data.y_test, history=history, norms=norms,
        title=f"{args.data}: {title(net)}",
    )  # fmt: skip
    path = os.path.abspath(args.output)
    return Result({"report": path}, f"report: {path}")


@command(
    "model --sizes --activation --loss --no-bias --samples --seed --backend --json",
    model={"default": None, "help": "check this model, not a random network of these options"},
    activation={"default": "sigmoid"},
    loss={"default": "quadratic"},
)
def gradcheck(args: Namespace) -> Result:
    """Compare back-propagation with central differences; exit code 1 if they differ.

    The last line begins with the verdict: ok, NOT ok, or "undecided at a kink" if nothing differs
    but for entries, named in the table, at which differences cannot decide (exit code 0).

    shell examples:
      fastbp gradcheck --sizes 10,20,5 --activation tanh --loss cross-entropy
      fastbp gradcheck fastbp-model.safetensors
    """
    if args.model:
        net = load_model(args.model, args.backend)
    else:
        net = options.new_network(args, args.sizes, dtype="float64")
    rng = np.random.default_rng(args.seed)
    X = rng.random((args.samples, net.sizes[0])) / net.config["input_scale"]
    if net.scaling:
        X = net.scaling.mean + net.scaling.deviation * (2 * X - 1)
    found = verification.gradients.gradcheck(net, X, rng.integers(net.sizes[-1], size=args.samples))
    facts = {"ok": found.ok, "verdict": found.verdict, "max_error": found.max_error}
    return Result(facts, f"{net}\n{found}", found.ok)


@command("--quick --json")
def verify(args: Namespace) -> Result:
    """Check on this machine that the kernels equal the reference.

    Compares every kernel, dtype, path and number of threads with the reference, that with finite
    differences. Prints the largest errors and those allowed. Exit code 1 if any is larger.

    shell examples:
      fastbp verify --quick
      fastbp verify --json | jq .ok
    """
    found = verification.verify(quick=args.quick)
    return Result(found.to_dict(), str(found), found.ok)


@command("--dtype", dtype={"choices": ("float32", "float64", "both"), "default": "both"})
def warmup(args: Namespace) -> Result:
    """Compile the kernels, once per machine.

    Training compiles what it needs at its first use. In an image or on a cluster, do it beforehand,
    with NUMBA_CACHE_DIR set to a folder that all find there; it need not be writable later.
    """
    started = time.perf_counter()
    engines.warmup(("float32", "float64") if args.dtype == "both" else (args.dtype,))
    seconds = time.perf_counter() - started
    cache = versions.facts()["cache_folder"]
    return Result(text=f"kernels are ready after {seconds:.1f} s\ncache: {cache}")


@command(
    "model --json", model={"default": None, "help": "show the layers of this model, sizes and work"}
)
def info(args: Namespace) -> Result:
    """Show versions, CPU, vector width, threads and cache, for bug reports; or a model's layers."""
    if not args.model:
        return Result(versions.facts()) if args.json else Result(text=versions.table())
    net = load_model(args.model, "numpy")  # nothing is computed
    layers = [layer._asdict() for layer in summary.layers(net.config)]
    text = summary.summary(net.config, "numba", net.params.nbytes)  # as `load` has it by default
    return Result({**net.config, "layers": layers, "notes": net.notes}, text)
