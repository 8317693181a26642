"""What `fastbp train` does where nothing is said: what suits the data, and the optimiser."""

import argparse
from typing import Any

# What learns the digits and MNIST well, in a second and in a minute; and small tables.
USUAL: dict[str, Any] = {"hidden": [100], "batch_size": 10}
# Momentum of 0.9 makes steps ten times as long; Adam's rate is its paper's, and for its kin.
RATES = {
    "sgd": 0.05, "momentum": 0.005, "nesterov": 0.005, "adam": 0.001, "adamw": 0.001,
    "rmsprop": 0.001,
}  # fmt: skip
# At one rate Adam learns tables of 2 to 500 columns, of classes and of numbers; sgd diverges at
# that of images. After 50 epochs iris is learnt, and diabetes, of as many rows, hardly overfitted:
# means over 15 splits of 0.95 and of R2 0.48 (30 epochs: 0.93 and 0.50; 100: 0.95 and 0.45).
IMAGES, TABLE = "images", "table"
BY_KIND: dict[str, dict[str, Any]] = {
    IMAGES: {"optimizer": "sgd", "epochs": 30},
    TABLE: {"optimizer": "adam", "epochs": 50},
}
LOSSES = {"classification": "cross-entropy", "regression": "quadratic"}


def settle(args: argparse.Namespace, kind: str, task: str) -> None:
    """Set the options that were not given, for images or a table, and for what is predicted."""
    found = {**USUAL, **BY_KIND[kind], "loss": LOSSES[task]}
    found["learning_rate"] = RATES[args.optimizer or found["optimizer"]]
    for name, value in found.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)


def in_words(name: str) -> str:
    """Return the default of an option for its help."""
    value = {**USUAL, **BY_KIND[IMAGES]}[name]
    words = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    of_tables = BY_KIND[TABLE].get(name)
    return f"(default: {words})" if of_tables is None else f"(default: {words}; tables {of_tables})"


def rates_in_words() -> str:
    """Return the rates of all optimisers for the help."""
    named: dict[float, list[str]] = {}
    for optimizer, rate in RATES.items():
        named.setdefault(rate, []).append(optimizer)
    return ", ".join(f"{rate:g} for {_listed(names)}" for rate, names in named.items())


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
