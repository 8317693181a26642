"""The pictures of `fastbp plot`: what each is drawn from, its title, and the names of runs."""

import os
from argparse import Namespace
from contextlib import nullcontext, suppress
from typing import Any

from .. import plots
from .._support import notes as kept
from ..errors import ModelFileError
from ..network import Network, load
from ..plots.figures import LONGEST_NAME
from . import records
from .inputs import load_data_for, load_model, named_after, title

OF_SAMPLES = {  # functions of `plots`
    "confusion": "confusion_matrix", "mistakes": "mistakes", "predicted": "predicted",
    "residuals": "residuals",
}  # fmt: skip


def draw(args: Namespace, path: str) -> None:
    """Draw what the options say."""
    name = args.files[0]
    match args.kind:
        case "curves":
            runs = [records.read(file).history for file in args.files]
            if len(runs) == 1:
                plots.learning_curves(runs[0], path, of_history(name))
            else:
                plots.learning_curves(dict(zip(names(args.files), runs, strict=True)), path)
        case "norms":
            plots.layer_norms(records.read(name), path, of_history(name))
        case "learning-rate":
            found: Any = records.read_rates(name)
            plots.learning_rates(found, path, title=name)
        case "weights":
            net = load_model(name, args.backend)
            plots.first_layer(net, path, heading(net), X=_trained_on(net, args))
        case kind:
            net = load_model(name, args.backend)
            given, data = args.data, load_data_for(net, args)
            picture = getattr(plots, OF_SAMPLES[kind])
            picture(net, data.X_test, data.y_test, path, heading(net, given))


def _trained_on(net: Network, args: Namespace) -> Any:
    """Return the training samples, by which dead neurons are found; None if they are not there."""
    if args.data is None and not kept.training(net.notes):
        return None
    with suppress(OSError, ValueError) if args.data is None else nullcontext():
        return load_data_for(net, args).X_train


def heading(net: Network, data: str | None = None) -> str:
    """Return the title of all pictures of a network: its data, and what it is.

    The data are those that the command names, or else those on which it was trained.
    """
    training = kept.training(net.notes)
    data = data or (training["data"] if training else None)
    return f"{data}: {title(net)}" if data else title(net)


def of_history(file: str) -> str:
    """Return the title of pictures of a history: that of its model, or else the file's name."""
    net = _model_of(file)
    return heading(net) if net else file


def names(files: list[str]) -> list[str]:
    """Return names of several runs: the settings that differ, or else the files.

    Settings are those that the models beside the histories remember, if all that differ fit into a
    legend and tell the runs apart.
    """
    nets = list(map(_model_of, files))
    known = [net and kept.training(net.notes) for net in nets]
    if all(known):
        settings = [{"data": one["data"], **one["settings"]} for one in known if one]
        differing = [
            name for name in settings[0] if len({str(one.get(name)) for one in settings}) > 1
        ]
        found = [
            ", ".join(_in_words(name, one.get(name)) for name in differing) for one in settings
        ]
        if len(set(found)) == len(found) and max(map(len, found)) <= LONGEST_NAME:
            return found
    stems = [os.path.basename(named_after(file, "")) for file in files]
    return stems if len(set(stems)) == len(stems) else files


def _in_words(name: str, value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{name.replace('_', ' ')} {text.lower() if value is None else text or 'none'}"


def _model_of(file: str) -> Network | None:
    """Return the model whose history is in a file, or which is that file, if it can be read."""
    stem = file.removesuffix(".history.jsonl")
    for path in (file,) if stem == file else (f"{stem}.safetensors", stem):
        with suppress(OSError, ModelFileError):
            return load(path, backend="numpy")
    return None
