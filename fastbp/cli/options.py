"""The options of all commands in one table, their parser, and the data and models they name."""

import argparse
import errno
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import datasets
from ..callbacks import Callback, CSVLog, JSONLog, check_place
from ..engines import versions
from ..model import config
from ..model.config import INITS
from ..network import Network, load
from ..schedules import Cosine, Exponential, OnPlateau, Schedule, Step

MODEL, CURVES = "fastbp-model.safetensors", "fastbp-curves.png"
KINDS = "curves", "confusion", "mistakes", "weights", "norms", "learning-rate"
SCHEDULES: dict[str, type[Schedule]] = {
    "step": Step, "exponential": Exponential, "cosine": Cosine, "plateau": OnPlateau,
}  # fmt: skip
LOGS: dict[str, Callable[[str], Callback]] = {".csv": CSVLog, ".jsonl": JSONLog}


class Result(NamedTuple):
    """What a command prints: `facts` with --json, otherwise `text`; not `ok` is exit code 1."""

    facts: Mapping[str, Any] = {}
    text: str = ""
    ok: bool = True


Run = Callable[[argparse.Namespace], Result]


class Command(NamedTuple):
    """A function that is a command; its docstring is the text of `fastbp COMMAND --help`."""

    name: str
    run: Run
    options: list[str]
    changes: Mapping[str, dict[str, Any]]  # in the declarations of single options


def command(options: str, **changes: dict[str, Any]) -> Callable[[Run], Command]:
    """Make a function a command with these options; `changes` by `data` for --data, and so on."""
    return lambda run: Command(run.__name__.replace("_", "-"), run, options.split(), changes)


def _widths(text: str) -> list[int]:
    try:
        return [int(width) for width in text.split(",")] if text else []
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected widths such as 100,100; got {text!r}") from None


def _names(text: str) -> list[str]:
    return text.split(",")


def _number(text: str) -> float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _schedule(text: str) -> tuple[type[Schedule], dict[str, Any]]:
    name, *pairs = text.split(",")
    if name not in SCHEDULES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(SCHEDULES)}; got {name!r}")
    known = list(inspect.signature(SCHEDULES[name]).parameters)[1:]
    found: dict[str, Any] = {}
    for key, equals, value in (pair.partition("=") for pair in pairs):
        if key not in known or not equals:
            expected = " or ".join(f"{option}=..." for option in known)
            raise argparse.ArgumentTypeError(f"{name} takes {expected}; got {key + equals!r}")
        if key in found:
            raise argparse.ArgumentTypeError(f"{key}= is given more than once")
        found[key] = _number(value)
    return SCHEDULES[name], found


def _log(path: str) -> Callback:
    suffix = os.path.splitext(path)[1]
    if suffix not in LOGS:
        raise argparse.ArgumentTypeError(f"expected a file {' or '.join(LOGS)}; got {path!r}")
    return LOGS[suffix](path)


def _value(metavar: str, help: str, default: Any = None, type: Any = str) -> dict[str, Any]:
    return {"metavar": metavar, "help": help, "default": default, "type": type}


def _choice(choices: Iterable[str], help: str, default: str | None = None) -> dict[str, Any]:
    return {"choices": choices, "help": help, "default": default}


_switch = partial(dict[str, Any], action="store_true")
_count = partial(_value, "N", type=int)
# How each option is declared, unless a command changes it.
OPTIONS: dict[str, dict[str, Any]] = {
    "model": {"nargs": "?", **_value("MODEL", "a file that train wrote", MODEL)},
    "kind": {"metavar": "KIND", "choices": KINDS, "help": ", ".join(KINDS)},
    "files": {"nargs": "*", **_value("FILE", f"a model that train wrote (default: {MODEL}), or "
        "more for curves; for learning-rate, the output of find-learning-rate --json",
    )},
    "file": {"metavar": "FILE", "help": "a .safetensors (a state_dict of PyTorch) or .onnx file"},
    "out": {"metavar": "OUT", "help": "the file to write: .safetensors, or .onnx for ONNX"},
    "--data": _value(
        "DATA", "digits (bundled), mnist or fashion-mnist (downloaded if missing), a folder of IDX "
        "files, a Keras-style .npz, mnist.pkl.gz, or a .csv with a header", "digits",
    ),
    "--data-dir": _value(
        "FOLDER", "of mnist and fashion-mnist, before $FASTBP_DATA, the user's and system's caches"
    ),
    "--label": _value("NAME", "the column of a .csv that holds the classes, 0, 1, 2, ..."),
    "--hidden": _value("N,N", "widths of hidden layers, as 100,100; '' for none", "100", _widths),
    "--sizes": _value("N,N", "neurons per layer, inputs first", "4,5,3", _widths),
    "--activation": _choice(config.HIDDEN, "of the hidden layers", "relu"),
    "--output-activation": _choice(config.OUTPUT, "of the output layer (default: as in train)"),
    "--order": _value("NAME,NAME", "layers of a state_dict, inputs first", type=_names),
    "--loss": _choice(
        config.LOSSES, "cross-entropy has a softmax output; quadratic has a sigmoid output after "
        "sigmoid layers, otherwise identity", "cross-entropy",
    ),
    "--no-bias": {"dest": "bias", "action": "store_false", "help": "weights only"},
    "--epochs": _count("passes over the training samples", 30),
    "--batch-size": _count("samples per step; 1 is online learning", 10),
    "--learning-rate": _value("RATE", "step size; sigmoid layers need 0.3 to 3", 0.05, float),
    "--schedule": _value(
        "NAME[,KEY=VALUE]", "how the learning rate changes from epoch to epoch: "
        "step,every=10,factor=0.5; exponential,factor=0.95; cosine; plateau,patience=5,factor=0.5",
        type=_schedule,
    ),
    "--early-stopping": _count(
        "stop after N epochs without a smaller validation loss, and keep the best weights; a tenth "
        "of the training images becomes the validation data"
    ),
    "--checkpoint-every": _count("also save the model after every N epochs"),
    "--checkpoint": _value(
        "FILE", "save the training's state every minute, at Ctrl-C or SIGTERM, and at the end"
    ),
    "--resume": _value("FILE", "continue this training; only --epochs and --threads may differ"),
    "--log": _value("FILE", "file that gets a line for each epoch: .csv or .jsonl", type=_log),
    "--init": _value("INIT", f"{', '.join(INITS)} or standard deviation", "lecun_normal", _number),
    "--dtype": _choice(("float32", "float64"), "precision", "float32"),
    "--threads": _count("number of threads; the result has the same bits for any number", 1),
    "--distributed": _switch(help="share each batch among the ranks that mpiexec started"),
    "--sync-every": _count(
        "with --distributed: average the ranks' weights every N steps instead of the gradients of "
        "each step, for batches so small that a message takes longer than a step", 1,
    ),
    "--seed": _count("of the initial weights and of the samples", 0),
    "--samples": _count("number of random samples", 5),
    "--backend": _choice(("numba", "numpy"), "compiled kernels or the NumPy reference", "numba"),
    "--output": _value("FILE", "the model", MODEL),
    "--to": {"required": True, "choices": ("torch", "onnx"), "help": "the format"},
    "--inputs": _choice(("float", "uint8"), "inputs of an ONNX model: numbers or bytes", "float"),
    "--input-scale": _value(
        "SCALE", "factor for the inputs, such as 0.00392157 if PyTorch was given pixels from 0 to "
        "1 and the model will be given bytes", type=float,
    ),
    "--plot": _value("FILE", f"the curves (default: {CURVES}, if matplotlib is installed)"),
    "--proba": _switch(help="print the outputs, comma-separated, not the class"),
    "--quick": _switch(help="fewer shapes: seconds, not minutes"),
    "--json": _switch(help="print the result as one JSON object, the last line of stdout"),
    "--quiet": _switch(help="print only the result"),
}  # fmt: skip
TEST_DATA = {"help": f"test images: {OPTIONS['--data']['help']}"}


class _Parser(argparse.ArgumentParser):
    several_files = False  # before and after options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if not self.several_files:
            return super().parse_known_args(args, namespace)
        self.several_files = False  # the next line calls this method again
        return self.parse_known_intermixed_args(args, namespace)

    def error(self, message: str) -> Any:
        raise ValueError(f"{message} (see {self.prog} --help)")


class _Help(argparse.RawDescriptionHelpFormatter):  # keeps the lines of the examples
    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, argparse.SUPPRESS) or isinstance(action.default, bool)
        return action.help if silent else f"{action.help} (default: %(default)s)"


def parser(commands: Iterable[Command]) -> argparse.ArgumentParser:
    """Return the parser of all commands; what it parses has the function to call in `run`."""
    parser = _Parser(
        prog="fastbp", formatter_class=_Help, allow_abbrev=False,
        description="Train multi-layer perceptrons by back-propagation, fast; check gradients, "
        "draw and report what was learned, exchange models with other programs.",
        epilog="""\
first steps:
  fastbp train              1,797 handwritten digits, a second; writes a model and its history
  fastbp report             one HTML page about it, with all pictures
  fastbp export fastbp-model.safetensors digits.onnx --to onnx

Pictures need matplotlib, ONNX files need onnx: pip install 'fastbp[plot,onnx]'.
`fastbp COMMAND --help` shows options and examples.""",
    )  # fmt: skip
    version = f"fastbp {versions.version('fastbp')}"
    parser.add_argument("--version", action="version", version=version, help="show the version")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for one in commands:
        description, _, more = inspect.cleandoc(one.run.__doc__ or "").partition("\n\n")
        sub = subparsers.add_parser(
            one.name, help=description[:1].lower() + description[1:-1], description=description,
            epilog=more, formatter_class=_Help, allow_abbrev=False,
        )  # fmt: skip
        for option in one.options:
            change = one.changes.get(option.lstrip("-").replace("-", "_"), {})
            sub.add_argument(option, **OPTIONS[option] | change)
        sub.several_files = "files" in one.options
        sub.set_defaults(run=one.run)
    return parser


def load_data(args: argparse.Namespace, mapped: bool = False) -> datasets.Dataset:
    """Return the data set that --data names; a download shows a progress bar in a terminal."""
    shows = shows_progress(args)
    return datasets.load(args.data, args.data_dir, label=args.label, progress=shows, mapped=mapped)


def shows_progress(args: argparse.Namespace) -> bool:
    """Return whether somebody follows in a terminal."""
    return not getattr(args, "quiet", False) and sys.stderr.isatty()


def load_data_for(net: Network, args: argparse.Namespace) -> datasets.Dataset:
    """Return the data set that --data names, if its samples fit the network."""
    data = load_data(args)
    if (n_in := data.X_test.shape[1]) != net.sizes[0]:
        sizes = f"samples of {net.sizes[0]} numbers, those of {args.data} have {n_in}"
        raise ValueError(f"the model takes {sizes}; pass the data it was trained on as --data")
    return data


def load_samples(net: Network, args: argparse.Namespace) -> np.ndarray:
    """Return all rows of a .npy or .csv file, or the test images of a data set."""
    if args.data.lower().endswith(".csv"):
        return datasets.read_csv(args.data, args.label)[0]
    if args.data.endswith(".npy"):
        X = datasets.map_npy(args.data)
        return X.reshape(len(X), -1)
    return load_data_for(net, args).X_test


def load_model(path: str, backend: str = "numba") -> Network:
    """Load a model file."""
    if not os.path.exists(path):
        reason = "there is no such file; `fastbp train` writes one, `fastbp convert` others"
        raise FileNotFoundError(errno.ENOENT, reason, path)
    if path.lower().endswith(".onnx"):
        raise ValueError(f"{path} is an ONNX file; `fastbp convert` makes a model of it")
    return load(path, backend=backend)


def new_network(args: argparse.Namespace, sizes: list[int], **more: Any) -> Network:
    """Return a new network as the options say."""
    return Network(
        sizes, activation=args.activation, loss=args.loss, bias=args.bias, backend=args.backend,
        seed=args.seed, **more,
    )  # fmt: skip


def title(net: Network) -> str:
    """Return sizes, activation and loss in a few words."""
    return f"{'-'.join(map(str, net.sizes))}, {net.config['activation']}, {net.config['loss']}"


def check_writable(*paths: str | None) -> None:
    """Raise now, not after an hour of training, if a file cannot be written."""
    for path in filter(None, paths):
        check_place(path)
        if not os.access(Path(path).parent, os.W_OK):
            raise PermissionError(errno.EACCES, "its folder is not writable", path)
