"""What the texts of options stand for.

The names of functions are those of the library, which is not imported here: a test compares them.
"""

import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

HIDDEN = (
    "sigmoid", "tanh", "relu", "identity", "leaky_relu", "elu", "softplus", "silu", "gelu",
)  # fmt: skip
OUTPUT = *HIDDEN, "exp", "softmax"
LOSSES = "quadratic", "absolute", "huber", "quantile", "cross-entropy", "poisson"
SETTINGS = {"huber": "width", "quantile": "q"}  # of --loss
INITS = "lecun_normal", "he", "glorot", "normal", "uniform"
SCHEDULES = {
    "step": "Step",
    "exponential": "Exponential",
    "cosine": "Cosine",
    "plateau": "OnPlateau",
}
LOGS = {".csv": "CSVLog", ".jsonl": "JSONLog"}


def widths(text: str) -> list[int]:
    """Return the numbers of neurons."""
    try:
        return [int(width) for width in text.split(",")] if text else []
    except ValueError:
        raise ArgumentTypeError(f"expected widths such as 100,100; got {text!r}") from None


def names(text: str) -> list[str]:
    """Return names."""
    return text.split(",")


def activations(text: str) -> str | list[str]:
    """Return the name of an activation, or a list of several."""
    found = [_one_of(HIDDEN, name) for name in names(text)]
    return found if found[1:] else found[0]


def shares(text: str) -> float | list[float]:
    """Return a number, or a list of several."""
    try:
        found = [float(share) for share in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"expected shares such as 0.3 or 0.2,0.5; got {text!r}") from None
    return found if found[1:] else found[0]


def number(text: str) -> float | str:
    """Return a number if it is one; what is wrong with others, the library says."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


class Choice(str):
    """A choice with settings, as typed: its name, and its settings by their names."""

    name: str
    settings: dict[str, Any]


def schedule(text: str) -> Choice:
    """Return a schedule."""

    def keys(name: str) -> Iterable[str]:
        import inspect

        from .. import schedules

        return list(inspect.signature(getattr(schedules, SCHEDULES[name])).parameters)[1:]

    return _choice(text, SCHEDULES, keys)


def loss(text: str) -> Choice:
    """Return a loss."""
    return _choice(text, LOSSES, lambda name: [SETTINGS[name]] if name in SETTINGS else [])


def log(path: str) -> str:
    """Return the file of a log."""
    if os.path.splitext(path)[1] not in LOGS:
        raise ArgumentTypeError(f"expected a file {' or '.join(LOGS)}; got {path!r}")
    return path


def _choice(text: str, known: Collection[str], keys: Callable[[str], Iterable[str]]) -> Choice:
    """Return what NAME,KEY=VALUE,... says; `keys` returns those that a name has."""
    name, *pairs = text.split(",")
    options = keys(_one_of(known, name))
    found = Choice(text)
    found.name, found.settings = name, {}
    for key, equals, value in (pair.partition("=") for pair in pairs):
        if key not in options or not equals:
            expected = " or ".join(f"{option}=..." for option in options) or "no settings"
            raise ArgumentTypeError(f"{name} takes {expected}; got {key + equals!r}")
        if key in found.settings:
            raise ArgumentTypeError(f"{key}= is given more than once")
        found.settings[key] = number(value)
    return found


def _one_of(known: Collection[str], name: str) -> str:
    if name not in known:
        raise ArgumentTypeError(f"expected one of {', '.join(known)}; got {name!r}")
    return name
