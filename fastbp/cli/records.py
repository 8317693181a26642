"""The files that commands leave for each other: histories and learning rates.

`train` writes its history beside the model, one line of JSON for each epoch:

    {"epoch": 1, "loss": 0.31, "accuracy": 0.91, ..., "activations": [4.1, 1], "deltas": [0.2, 0.4]}

with null for NaN and infinity. Only the loss is required; readers ignore unknown names. A line of
epoch 0, the first, has nothing but the norms before training; that of the epoch whose weights the
model has got back has "restored": true.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from .._support import files
from ..callbacks import FilePath, json_line
from ..datasets.untrusted import blaming, opened
from ..history import NAMES, History
from ..lr_finder import RateSearch
from ..plots.curves import LayerNorms

MAX_LINE = 2**20  # bytes: norms of ten thousand layers
NORMS = "activations", "deltas"


@dataclass
class Run:
    """A recorded training; the norms are those of `fastbp.Norms`, or empty."""

    history: History
    activations: list[tuple[float, ...]]
    deltas: list[tuple[float, ...]]
    first_epoch: int = 1  # of the norms


def beside(model: FilePath) -> Path:
    """Return the file of a model's history; a history file is returned as it is."""
    path = Path(model)
    if path.name.endswith(".jsonl"):
        return path
    return path.parent / (path.name.removesuffix(".safetensors") + ".history.jsonl")


def write(path: FilePath, history: History, norms: LayerNorms | None = None) -> None:
    """Write a history, and the norms of the same epochs; the whole file or nothing."""
    first = getattr(norms, "first_epoch", 1)
    series = {name: getattr(norms, name) for name in NORMS if norms is not None}
    lines = [
        json_line(history, n, **{name: values[n + 1 - first] for name, values in series.items()})
        for n in range(len(history))
    ]
    if restored := history.restored:
        lines[restored - 1] = lines[restored - 1].replace("{", '{"restored": true, ', 1)
    if series and first == 0:
        lines.insert(0, json_line(History(), -1, **{k: values[0] for k, values in series.items()}))
    files.write_text(path, "".join(lines))


def read(path: FilePath) -> Run:
    """Read the history in a file, or beside a model; a damaged file is a `DataError`."""
    path = beside(path)
    if not path.exists():
        reason = "there is no such file; `fastbp train` writes the history beside its model"
        raise FileNotFoundError(f"{path}: {reason}")
    with opened(path) as file, blaming(path):
        epochs = [_object(line, f"line {n}") for n, line in enumerate(_lines(file), start=1)]
        before = len(epochs) > 0 and epochs[0].get("epoch") == 0 and "loss" not in epochs[0]
        if len(epochs) == before:
            raise ValueError("it holds no epoch")
        history = History(**{name: _column(epochs, name, int(before)) for name in NAMES})
        marked = [n for n, epoch in enumerate(epochs, 1 - before) if epoch.get("restored") is True]
        history.restored = marked[0] if marked else 0
        activations, deltas = (_column(epochs, name) for name in NORMS)
        return Run(history, activations, deltas, 1 - before)


def read_rates(path: FilePath) -> RateSearch:
    """Read the rates, losses and suggestion that `fastbp find-learning-rate --json` prints."""
    with opened(path) as file, blaming(path):
        found = _object(b"".join(_lines(file)), "the file")
        if missing := [name for name in RateSearch._fields if name not in found]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        rates, losses = (np.array(_numbers(found[name], name)) for name in ("rates", "losses"))
        return RateSearch(rates, losses, _number(found["suggestion"], "suggestion"))


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise ValueError(f"a line is longer than {MAX_LINE:,} bytes")
        yield line


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text.decode("utf-8"))  # json might take bytes for UTF-16
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error!s:.300}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{where} must be a JSON object")
    return found


def _column(epochs: list[dict[str, Any]], name: str, first: int = 0) -> list[Any]:
    reader: Callable[[object, str], Any] = _numbers if name in NORMS else _number
    lines = [(n, e) for n, e in enumerate(epochs, start=1) if n > first]
    values = [reader(e[name], f"line {n}: {name}") for n, e in lines if name in e]
    if len(values) < len(lines) and (values or name == "loss"):
        raise ValueError(f"{name} is in {len(values)} of {len(lines)} lines; expected all")
    if name in NORMS and len(set(map(len, values))) > 1:
        raise ValueError(f"{name} must have the same number of layers in each line")
    return values


def _numbers(values: object, what: str) -> tuple[float, ...]:
    if not isinstance(values, list):
        raise ValueError(f"{what} must be a list of numbers; got {values!r:.40}")
    return tuple(_number(value, what) for value in values)


def _number(value: object, what: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{what} must be a number or null; got {value!r:.40}")
    return float(value)
