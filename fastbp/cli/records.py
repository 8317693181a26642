"""What a training run leaves beside its model: its history, one line of JSON an epoch.

    {"epoch": 1, "loss": 0.31, "accuracy": 0.91, ..., "activations": [4.1, 1], "deltas": [0.2, 0.4]}

The names are those of `History` and `Norms`; null stands for NaN and infinity. Lines may hold other
names too, and a file may lack all but the loss.
"""

import dataclasses
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from .._support import files
from ..datasets.untrusted import blaming, opened
from ..history import History

if TYPE_CHECKING:
    from ..plots.norms import Norms

MOST_LINE = 2**20  # bytes: norms of ten thousand layers
_MODEL_SUFFIX, _SUFFIX = ".safetensors", ".history.jsonl"
_SERIES = tuple(field.name for field in dataclasses.fields(History))
_NORMS = ("activations", "deltas")


class Run(NamedTuple):
    """A training run, as it was recorded.

    Attributes
    ----------
    history : fastbp.History
    activations, deltas : list of tuple of float
        As `Norms` records them; empty where nobody did.
    """

    history: History
    activations: list[tuple[float, ...]]
    deltas: list[tuple[float, ...]]


class Rates(NamedTuple):
    """What a learning-rate finder found.

    Attributes
    ----------
    rates, losses : list of float
    suggestion : float
    """

    rates: list[float]
    losses: list[float]
    suggestion: float


def beside(model: str | os.PathLike[str]) -> Path:
    """Return where the history of a model file belongs; a history file is its own.

    Examples
    --------
    >>> beside("mnist.safetensors").name
    'mnist.history.jsonl'
    """
    path = Path(model)
    if path.name.endswith(".jsonl"):
        return path
    return path.parent / (path.name.removesuffix(_MODEL_SUFFIX) + _SUFFIX)


def write(path: str | os.PathLike[str], history: History, norms: "Norms | None" = None) -> None:
    """Write a history, and the norms if there are any, one line an epoch; whole or not at all.

    Parameters
    ----------
    path : str or os.PathLike
    history : fastbp.History
    norms : fastbp.Norms, optional
        Of the same epochs.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.history.jsonl")
    >>> write(path, History(loss=[0.5, float("nan")]))
    >>> read(path).history.loss
    [0.5, nan]
    """
    series = {name: getattr(history, name) for name in _SERIES}
    if norms is not None:
        series |= {name: getattr(norms, name) for name in _NORMS}
    lines = [
        {"epoch": epoch + 1}
        | {name: _plain(values[epoch]) for name, values in series.items() if epoch < len(values)}
        for epoch in range(len(history))
    ]
    files.write_text(path, "".join(f"{json.dumps(line)}\n" for line in lines))


def _plain(value: float | tuple[float, ...]) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return float(value) if math.isfinite(value) else None


def read(path: str | os.PathLike[str]) -> Run:
    """Read what `write` wrote.

    Parameters
    ----------
    path : str or os.PathLike
        Of the history, or of the model beside it.

    Returns
    -------
    Run

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If it is damaged, or no history.
    """
    path = beside(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: there is no such file; `fastbp train` leaves the history beside its model"
        )
    with opened(path) as file, blaming(path):
        epochs = [_epoch(line, number) for number, line in enumerate(_lines(file), start=1)]
        if not epochs:
            raise ValueError("it holds no epoch")
        history = History(**{name: _series(epochs, name) for name in _SERIES})
        return Run(history, *(_series(epochs, name) for name in _NORMS))


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(MOST_LINE + 1):
        if len(line) > MOST_LINE:
            raise ValueError(f"a line is longer than {MOST_LINE:,} bytes")
        yield line


def _epoch(line: bytes, number: int) -> dict[str, Any]:
    """Return what is known of one epoch, checked."""
    where = f"line {number}"
    found = _object(line, where)
    epoch: dict[str, Any] = {
        name: _number(found[name], name, where) for name in _SERIES if name in found
    }
    if "loss" not in epoch:
        raise ValueError(f"{where} must have a loss")
    for name in _NORMS:
        if name in found:
            epoch[name] = tuple(_numbers(found[name], name, where))
    return epoch


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text.decode("utf-8"))  # bytes might be taken for UTF-16
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {error!s:.300}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{where} must be a JSON object")
    return found


def _number(value: object, name: str, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where}: {name} must be a number or null; found {value!r:.40}")
    return float(value)


def _series(epochs: list[dict[str, Any]], name: str) -> list[Any]:
    """Return one quantity over the epochs, which all have it or none has."""
    values = [epoch[name] for epoch in epochs if name in epoch]
    if len(values) not in (0, len(epochs)):
        raise ValueError(f"{name} is in {len(values)} of {len(epochs)} lines; expected all or none")
    if name in _NORMS and len({len(value) for value in values}) > 1:
        raise ValueError(f"{name} must hold as many layers in each line")
    return values


def read_rates(path: str | os.PathLike[str]) -> Rates:
    """Read what a learning-rate finder found: a JSON object of rates, losses and suggestion.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    Rates

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If it is damaged, or lacks one of the three.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "rates.json")
    >>> with open(path, "w") as file:
    ...     _ = file.write('{"rates": [0.1, 1], "losses": [0.5, null], "suggestion": 0.1}')
    >>> read_rates(path)
    Rates(rates=[0.1, 1.0], losses=[0.5, nan], suggestion=0.1)
    """
    with opened(path) as file, blaming(path):
        found = _object(b"".join(_lines(file)), "the file")
        missing = [name for name in Rates._fields if name not in found]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        rates, losses = (_numbers(found[name], name) for name in ("rates", "losses"))
        return Rates(rates, losses, _number(found["suggestion"], "suggestion", "the file"))


def _numbers(values: object, name: str, where: str = "the file") -> list[float]:
    if not isinstance(values, list):
        raise ValueError(f"{where}: {name} must be a list of numbers; found {values!r:.40}")
    return [_number(value, name, where) for value in values]
