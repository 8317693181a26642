"""The options of all commands in one table, and their parser.

Nothing here imports NumPy, so that `--help` and `--version` answer at once.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from .. import __version__
from . import values
from .defaults import LOSSES as LOSS_OF
from .defaults import RATES, in_words, rates_in_words
from .values import HIDDEN, INITS, LOSSES, OUTPUT

KINDS = (
    "curves", "confusion", "mistakes", "predicted", "residuals", "weights", "norms",
    "learning-rate",
)  # fmt: skip
Declaration = dict[str, Any]


class Result(NamedTuple):
    """What a command prints: `facts` with --json, otherwise `text`; not `ok` is exit code 1."""

    facts: Mapping[str, Any] = {}
    text: str = ""
    ok: bool = True


class Command(NamedTuple):
    """A command: where its function is, the options that it takes, and the text of its help."""

    function: str  # module.function, below this package; the command has the function's name
    options: str
    text: str
    changes: Mapping[str, Declaration] = {}  # by `data` for --data, and so on

    @property
    def name(self) -> str:
        """What users call it by."""
        return self.function.partition(".")[2].replace("_", "-")


def _value(metavar: str, help: str, default: Any = None, type: Any = str) -> Declaration:
    return {"metavar": metavar, "help": help, "default": default, "type": type}


def _choice(choices: Iterable[str], help: str, default: str | None = None) -> Declaration:
    return {"choices": choices, "help": help, "default": default}


_switch = partial(dict[str, Any], action="store_true", default=False)
_count = partial(_value, "N", type=int)
SETS = (
    "digits (bundled), mnist or fashion-mnist (downloaded if missing), a folder of IDX files, a "
    "Keras-style .npz, mnist.pkl.gz, or a .csv"
)
# How each option is declared, unless a command changes it, by the headings of the help.
GROUPS: dict[str, dict[str, Declaration]] = {
    "files": {
        "model": _value("MODEL", "a model that train or convert wrote"),
        "kind": {"metavar": "KIND", "choices": KINDS, "help": ", ".join(KINDS)},
        "files": {"nargs": "+", **_value("FILE", "a model that train wrote, or more for curves; "
            "for learning-rate, the output of find-learning-rate --json",
        )},
        "file": {"metavar": "FILE", "help": "a .safetensors (a state_dict of PyTorch) or .onnx"},
        "out": {"metavar": "OUT", "help": "the file to write: its suffix says the format, .onnx or "
            ".safetensors (a state_dict of PyTorch)",
        },
    },
    "data": {
        "--data": _value("DATA", SETS),
        "--data-dir": _value(
            "FOLDER", "that holds mnist or fashion-mnist, also as torchvision's MNIST/raw; by "
            "default $FASTBP_DATA, then the caches of the user and the system"
        ),
        "--label": _value(
            "NAME", "the column of a .csv that is to be predicted; a model knows it"
        ),
        "--task": _choice(
            LOSS_OF, "whether that column holds classes or numbers (default: classes if it holds "
            "texts, at most 10 different whole numbers, or at most 100 with ten rows for each)"
        ),
        "--no-header": {
            "dest": "header", "action": "store_false", "default": True,
            "help": "the first line of a .csv is a sample; its columns are named 1, 2, 3, ...",
        },
        "--separator": _value(
            "CHAR", "between the values of a .csv, such as ';' or tab (default: found out)",
            type=lambda text: "\t" if text in ("tab", r"\t") else text,
        ),
        "--decimal": {
            **_choice(".,", "the decimal point of a .csv, . or , (default: found out)"),
            "metavar": "CHAR",
        },
        "--validation-split": _value(
            "SHARE", "the part of the training samples that is held out of the training, and "
            "evaluated after each epoch as `val`; 0 for none, as in Network.fit, which leaves it "
            "to its caller", 0.1, float,
        ),
    },
    "network": {
        "--hidden": _value(
            "N,N", f"widths of hidden layers, as 100,100; '' for none {in_words('hidden')}",
            type=values.widths,
        ),
        "--sizes": _value("N,N", "neurons per layer, inputs first", "4,5,3", values.widths),
        "--activation": _value(
            "NAME[,NAME]", f"of the hidden layers, or of each, as relu,tanh: {', '.join(HIDDEN)}; "
            "Network has sigmoid, the classic one, but relu learns faster", "relu",
            values.activations,
        ),
        "--output-activation": _choice(OUTPUT, "of the output layer (default: as in train)"),
        "--loss": _value(
            "NAME[,KEY=VALUE]", f"{', '.join(LOSSES)}. cross-entropy has a softmax output; "
            "quadratic, Network's default, has a sigmoid output after sigmoid layers, otherwise "
            "identity, as for all regressions. Gross errors in the targets do less harm to "
            "absolute, and to huber,width=1, which is quadratic below the width, in deviations of "
            "the targets; quantile,q=0.9 predicts what nine of ten targets stay below "
            "(default: cross-entropy, by which classes are learnt better; for a regression "
            "quadratic)", type=values.loss,
        ),
        "--label-smoothing": _value(
            "SHARE", "of --loss cross-entropy: the share of each target that is spread evenly over "
            "the classes, so that outputs do not grow too certain; 0.1 is usual", 0.0, float,
        ),
        "--dropout": _value(
            "SHARE[,SHARE]", "leave out this share of the hidden neurons at random in each step of "
            "the training, against overfitting; or a share for each hidden layer, as 0.2,0.5", 0.0,
            values.shares,
        ),
        "--no-bias": {
            "dest": "bias", "action": "store_false", "default": True, "help": "weights only",
        },
        "--init": _value(
            "INIT", f"{', '.join(INITS)} or standard deviation; by default as suits the activation",
            type=values.number,
        ),
        "--dtype": _choice(("float32", "float64"), "precision", "float32"),
        "--input-scale": _value(
            "SCALE", "factor for the inputs, such as 0.00392157 if PyTorch was given pixels from 0 "
            "to 1 and the model will be given bytes", type=float,
        ),
        "--order": _value("NAME,NAME", "layers of a state_dict, inputs first", type=values.names),
    },
    "training": {
        "--epochs": _count(f"passes over the training samples {in_words('epochs')}"),
        "--batch-size": _count(
            f"samples per step; 1 is online learning {in_words('batch_size')}"
        ),
        "--learning-rate": _value(
            "RATE", "step size; sigmoid layers with the quadratic loss need 0.3 to 3; "
            f"find-learning-rate suggests one (default: {rates_in_words()})", type=float,
        ),
        "--optimizer": _choice(
            RATES, "how weights follow the gradient; Network.fit has sgd, which needs another rate "
            f"for each table {in_words('optimizer')}",
        ),
        "--l2": _value(
            "STRENGTH", "weight decay: adds STRENGTH / 2 times the sum of all squared weights to "
            "the loss; 0.0001 is usual", 0.0, float,
        ),
        "--l1": _value(
            "STRENGTH", "adds STRENGTH times the sum of the sizes of all weights to the loss, "
            "which leaves many of them about zero", 0.0, float,
        ),
        "--weight-decay": _value(
            "STRENGTH", "of --optimizer adamw: by how much of themselves, times the learning rate, "
            "weights shrink in each step (default: 0.01)", type=float,
        ),
        "--class-weight": _choice(
            ("balanced",), "let each class count as much as any other in the loss: samples of a "
            "rare one more, by the inverse of its share"
        ),
        "--clip-norm": _value(
            "NORM", "shorten longer gradients to this norm (default: no limit)", type=float
        ),
        "--schedule": _value(
            "NAME[,KEY=VALUE]", "how the learning rate changes from epoch to epoch: "
            "step,every=10,factor=0.5; exponential,factor=0.95; cosine; "
            "plateau,patience=5,factor=0.5", type=values.schedule,
        ),
        "--by-step": _switch(
            help="the rate follows the curve of the schedule, exponential or cosine, from step to "
            "step instead"
        ),
        "--warmup": _value(
            "EPOCHS", "the rate grows from a tenth, step by step, for so many epochs, which may be "
            "a fraction, as 0.5", type=float,
        ),
        "--early-stopping": _count(
            "stop after N epochs without a smaller validation loss, and keep the best weights"
        ),
    },
    "computation": {
        "--seed": _count("of initial weights and order; Network has none by default, but a "
            "command that is repeated gives the same model", 0),
        "--threads": _count("number of threads; the result has the same bits for any number", 1),
        "--backend": _choice(
            ("numba", "numpy"), "compiled kernels or the NumPy reference", "numba"
        ),
        "--distributed": _switch(
            help="share each batch among the ranks that mpiexec started; each rank keeps a copy of "
            "the training samples, but with --validation-split 0 IDX files stay on disk"
        ),
        "--sync-every": _count(
            "with --distributed: average the ranks' weights every N steps instead of the gradients "
            "of each step, for batches so small that a message takes longer than a step", 1,
        ),
        "--samples": _count("number of random samples", 5),
    },
    "output": {
        "--output": _value(
            "FILE", "the model; history and pictures lie beside it and have its name (default: "
            "named after the data, as mnist.safetensors)"
        ),
        "--checkpoint": _value(
            "FILE", "save the training's state every minute, at Ctrl-C or SIGTERM, and at the end"
        ),
        "--resume": _value(
            "FILE", "continue this training; only --epochs and --threads may differ"
        ),
        "--checkpoint-every": _count("also save the model after every N epochs"),
        "--plot": _value(
            "FILE", "the curves (default: MODEL-curves.png, if matplotlib is installed)"
        ),
        "--log": _value(
            "FILE", "file that gets a line for each epoch: .csv or .jsonl", type=values.log
        ),
        "--inputs": _choice(
            ("float", "uint8"), "inputs of an ONNX model: numbers or bytes", "float"
        ),
        "--proba": _switch(help="print the outputs, comma-separated, not the class"),
        "--quick": _switch(help="fewer shapes: seconds, not minutes"),
        "--json": _switch(help="print the result as one JSON object, the last line of stdout"),
        "--quiet": _switch(help="print only the result"),
    },
}  # fmt: skip


def declared(command: Command) -> Iterator[tuple[str, str, Declaration]]:
    """Yield name, key and declaration of each option that a command takes."""
    wanted = command.options.split()
    for name, usual in ((name, one) for group in GROUPS.values() for name, one in group.items()):
        if name in wanted:
            key = name.lstrip("-").replace("-", "_")
            declaration = usual | command.changes.get(key, {})
            yield name, declaration.get("dest", key), declaration


def _places(command: Command) -> Iterator[str]:
    """Yield how the usage shows what stands by its place."""
    shapes = {None: "{}", "?": "[{}]", "+": "{} ..."}
    for name, _, declaration in declared(command):
        if name[0] != "-":
            yield shapes[declaration.get("nargs")].format(declaration["metavar"])


class _Parser(argparse.ArgumentParser):
    several_files = False  # before and after options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if not self.several_files:
            return super().parse_known_args(args, namespace)
        self.several_files = False  # the next line calls this method again
        return self.parse_known_intermixed_args(args, namespace)

    def error(self, message: str) -> Any:
        found = message.removeprefix("unrecognized arguments: ")
        if found != message and found[0] != "-":
            message += "; data are named by --data"
        raise ValueError(f"{message} (see {self.prog} --help)")


class _Help(argparse.RawDescriptionHelpFormatter):  # keeps the lines of the examples
    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, argparse.SUPPRESS) or isinstance(action.default, bool)
        return action.help if silent else f"{action.help} (default: %(default)s)"


def parser(commands: Iterable[Command]) -> argparse.ArgumentParser:
    """Return the parser of all commands; what it parses has the command in `command`."""
    parser = _Parser(
        prog="fastbp", formatter_class=_Help, allow_abbrev=False,
        description="Train multi-layer perceptrons by back-propagation, fast; check gradients, "
        "draw and report what was learned, exchange models with other programs.",
        epilog="""\
first steps:
  fastbp train                       1,797 handwritten digits, a second; writes digits.safetensors
  fastbp report digits.safetensors   one HTML page about the model, with all pictures
  fastbp export digits.safetensors digits.onnx
  fastbp train --data wine.csv --label class     a table of yours; writes wine.safetensors

Pictures need matplotlib, tables pandas, ONNX files onnx: pip install matplotlib pandas onnx.
`fastbp COMMAND --help` shows options and examples.""",
    )  # fmt: skip
    version = f"fastbp {__version__}"
    parser.add_argument("--version", action="version", version=version, help="show the version")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for one in commands:
        description, _, more = one.text.partition("\n\n")
        sub = subparsers.add_parser(
            one.name, help=description[:1].lower() + description[1:-1], description=description,
            epilog=more, formatter_class=_Help, allow_abbrev=False,
            usage=" ".join(["fastbp", one.name, "[options]", *_places(one)]),
        )  # fmt: skip
        for title, options in GROUPS.items():
            group = sub.add_argument_group(title)
            for name, dest, declaration in declared(one):
                if name in options:
                    group.add_argument(name, **declaration)
                    sub.several_files |= dest == "files"
        sub.set_defaults(command=one)
    return parser
