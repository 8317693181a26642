"""What a model remembers of its training, by which the other commands find its data again.

The form of these notes stands in `_support/notes.py`.
"""

import os
import shlex
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from .. import __version__, datasets
from .._support import notes as kept
from ..history import History
from ..network import Network
from ..training import state
from .options import declared

DIALECT = "label", "header", "separator", "decimal"
OF_DATA = ("data", "data_dir", "task", *DIALECT)
# Options of `train` that say where and how fast, not what is trained.
APART = (
    "threads", "output", "checkpoint", "resume", "checkpoint_every", "plot", "log", "json", "quiet",
)  # fmt: skip


def remember(args: Namespace, net: Network, data: datasets.Dataset, **counts: int) -> None:
    """Let a network remember what it is to be trained on, and how."""
    options = {dest for _, dest, _ in declared(args.command)} - {*OF_DATA, *APART}
    settings = {name: getattr(args, name) for name in sorted(options)}
    net.notes["training"] = {
        "command": args.as_typed, "version": __version__, "data": args.data,
        "data_path": args.data_path, **{name: getattr(args, name) for name in DIALECT},
        "settings": str(settings), **counts, "test_samples": len(data.X_test),
        "test_digest": digest(data), "epochs": 0,
    }  # fmt: skip
    kept.text(net.notes)  # now, not when it is saved; what is wrong with settings, `fit` says
    net.notes["training"]["settings"] = settings


class CountEpochs:
    """The callback by which a network remembers for how many epochs it was trained."""

    def on_fit_begin(self, net: Network, history: History) -> None:
        """Count those of a training that is resumed."""
        net.notes["training"]["epochs"] = len(history)

    on_epoch_end = on_fit_begin


def as_typed(args: Namespace) -> str:
    """Return the command line that trains the same: without files to write, and threads."""
    words = ["fastbp", args.command.name]
    for name, dest, declaration in declared(args.command):
        value = getattr(args, dest)
        if dest in APART or value == declaration["default"]:
            continue
        words.append(name)
        if "action" not in declaration:
            words.append(",".join(map(str, value)) if isinstance(value, list) else str(value))
    return shlex.join(words)


def model_of(data: str) -> str:
    """Return the name of the model of a data set, where the user gives none: its own."""
    name = os.path.basename(os.path.abspath(os.path.expanduser(data)))
    for suffix in (".gz", ".pkl", ".csv", ".tsv", ".npz"):
        name = name.removesuffix(suffix)
    return f"{name}.safetensors"


def is_of(args: Namespace, notes: Mapping[str, Any]) -> bool:
    """Return whether a model was trained on the data and the label that the options name."""
    found = kept.training(notes) or {}
    same = all(found.get(name) == getattr(args, name) for name in ("data_path", "label"))
    return bool(found) and same


def digest(data: datasets.Dataset) -> str:
    """Return a hash of the test samples."""
    return state.digest(data.X_test, data.y_test)


def recall(net: Network, args: Namespace) -> Mapping[str, Any] | None:
    """Set the options of the data as the model remembers them, unless --data names some."""
    if args.data is not None:
        return None
    found = kept.training(net.notes)
    if found is None:
        raise ValueError("the model does not say what it was trained on; name data by --data")
    args.data = path = found["data_path"] or found["data"]
    if not os.path.exists(path):
        args.data = found["data"]  # digits; or mnist, which may lie elsewhere now
    if args.data not in datasets.NAMES and not os.path.exists(path):
        raise FileNotFoundError(f"{path}, on which the model was trained, is gone; pass --data")
    for name in DIALECT:
        if getattr(args, name) in (None, True):  # it was not given
            setattr(args, name, found[name])
    return found


def in_words(net: Network) -> str:
    """Return what a network remembers, in lines; nothing if no command trained it."""
    found = kept.training(net.notes)
    if found is None:
        return ""
    counts = {
        "training": found["samples"], "validation": found["validation_samples"],
        "testing": found["test_samples"],
    }  # fmt: skip
    return "\n".join([
        "\n",
        f"trained by   {found['command']}",
        f"on           {found['data_path'] or found['data']}",
        f"samples      {', '.join(f'{n:,} for {part}' for part, n in counts.items())}",
        f"epochs       {found['epochs']:,}",
        f"fastbp       {found['version']}",
    ])  # fmt: skip
