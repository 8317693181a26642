"""The data and models that options name, and the places of files to write."""

import errno
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .. import datasets
from .._support import notes as kept
from ..callbacks import check_place
from ..datasets import arrays, loading
from ..datasets.csv import read_numbered, read_samples
from ..datasets.dialect import Dialect
from ..model import choices
from ..network import Network, load
from . import memory, tasks


def load_data(
    args: Namespace, mapped: bool = False, notes: Mapping[str, Any] | None = None
) -> datasets.Dataset:
    """Return the data set that --data names; a download shows a progress bar in a terminal."""
    return tasks.prepared(datasets.load(
        find_data(args), label=args.label, task=getattr(args, "task", None), mapped=mapped,
        header=args.header, separator=args.separator, decimal=args.decimal, notes=notes,
    ))  # fmt: skip


def find_data(args: Namespace) -> str | Path:
    """Return the path that --data names, also as `args.data_path`; for the digits, their name."""
    args.data_path = None
    if args.data == "digits" and args.data_dir is None:
        return "digits"
    path = loading.locate(args.data, args.data_dir, shows_progress(args))
    args.data_path = os.path.abspath(path)
    return path


def shows_progress(args: Namespace) -> bool:
    """Return whether somebody follows in a terminal."""
    return not getattr(args, "quiet", False) and sys.stderr.isatty()


def load_data_for(net: Network, args: Namespace) -> datasets.Dataset:
    """Return the data that --data names, or else those of the training; they fit the network."""
    known, notes = memory.recall(net, args), {"task": tasks.of_network(net), **net.notes}
    data = _another_table(net, args, notes) or load_data(args, notes=notes)
    if (n_in := data.X_test.shape[1]) != net.sizes[0]:
        sizes = f"samples of {net.sizes[0]} numbers, those of {args.data} have {n_in}"
        raise ValueError(f"the model takes {sizes}; pass the data it was trained on as --data")
    if known and known["test_digest"] != memory.digest(data):
        advice = f"to use them as they are now, pass --data {args.data}"
        raise ValueError(f"the data have changed since the model was trained on them; {advice}")
    return data


def _another_table(
    net: Network, args: Namespace, notes: Mapping[str, Any]
) -> datasets.Dataset | None:
    """Return a table other than that of the training, of which all rows are for testing."""
    trained = kept.training(net.notes)
    if trained is None or not loading.is_table(args.data):
        return None
    path, dialect = find_data(args), Dialect(args.header, args.separator, args.decimal)
    if args.data_path == trained["data_path"]:
        return None
    X, y, noted = read_numbered(Path(path), args.label, dialect, notes, None)
    data = datasets.Dataset(X, y, X, y)
    data.notes = noted
    data = tasks.prepared(data)
    with suppress(ValueError):  # too few rows for a part of them to be for testing
        test = arrays.testing(y)
        part = datasets.Dataset(X, y, data.X_test[test], y[test])
        if memory.digest(part) == trained["test_digest"]:  # it is in another place now
            return None
    return data


def load_samples(net: Network, args: Namespace) -> np.ndarray:
    """Return all rows of a .npy or .csv file, or the test samples of a data set."""
    if args.data is None:
        memory.recall(net, args)
    if loading.is_table(args.data):
        dialect = Dialect(args.header, args.separator, args.decimal)
        return read_samples(find_data(args), args.label, dialect, net.notes)
    if args.data.lower().endswith(".npy"):
        X = datasets.map_npy(find_data(args))
        return X.reshape(len(X), -1)
    return load_data_for(net, args).X_test


_NO_MODELS = {
    ".onnx": "an ONNX file; `fastbp convert` makes a model of it",
    **dict.fromkeys((".csv", ".tsv", ".npz", ".npy"), "no model, but data, which go to --data"),
}


def load_model(path: str, backend: str = "numba") -> Network:
    """Load a model file."""
    if not os.path.exists(path):
        reason = "there is no such file; `fastbp train` writes one, `fastbp convert` others"
        raise FileNotFoundError(errno.ENOENT, reason, path)
    for suffix, advice in _NO_MODELS.items():
        if path.lower().endswith(suffix):
            raise ValueError(f"{path} is {advice}")
    return load(path, backend=backend)


def new_network(args: Namespace, sizes: list[int], **more: Any) -> Network:
    """Return a new network as the options say."""
    return Network(
        sizes, activation=args.activation, loss=tasks.loss(args.loss, args.label_smoothing),
        dropout=args.dropout, bias=args.bias, backend=args.backend, seed=args.seed, **more,
    )  # fmt: skip


def title(net: Network) -> str:
    """Return sizes, activations, loss and dropout in a few words."""
    config, sizes = net.config, "-".join(map(str, net.sizes))
    words = [sizes, choices.called(config["activation"]), choices.called(config["loss"])]
    if share := config["dropout"]:
        shares = share if isinstance(share, list) else [share]
        words.append(f"dropout {', '.join(f'{share:g}' for share in shares)}")
    return ", ".join(words)


def check_writable(*paths: str | None, read: Iterable[str | None] = ()) -> None:
    """Raise now, not after an hour of training, if a file cannot be written, or is one of others.

    Those are the other files to be written, and those that are `read`.
    """
    taken = {os.path.realpath(path) for path in filter(None, read) if path not in datasets.NAMES}
    for path in filter(None, paths):
        check_place(path)
        device = os.path.exists(path) and not os.path.isfile(path)  # such as /dev/null
        if not os.access(path if device else Path(path).parent, os.W_OK):
            raise PermissionError(errno.EACCES, "its folder is not writable", path)
        place = os.path.realpath(path)
        if place in taken:
            raise ValueError(f"{path}: the command uses this file already; name another")
        if os.path.isfile(place) or not os.path.exists(place):  # no device such as /dev/null
            taken.add(place)


def named_after(path: str, end: str) -> str:
    """Return the file beside a model that has its name and this end, as net-curves.png."""
    folder, name = os.path.split(path)
    stem = name.removesuffix(".jsonl").removesuffix(".history").removesuffix(".safetensors")
    return os.path.join(folder, stem.removesuffix(".json") + end)
