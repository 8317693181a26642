"""What `fastbp train` does where nothing is said: what suits the data, and the optimiser."""

import argparse
from typing import Any

# What learns the digits and MNIST well, in a second and in a minute.
USUAL: dict[str, Any] = {"hidden": [100], "epochs": 30, "batch_size": 10}
# Momentum of 0.9 makes steps ten times as long; Adam's rate is its paper's.
RATES = {"sgd": 0.05, "momentum": 0.005, "nesterov": 0.005, "adam": 0.001}
# Of 500 standardised columns, and of numbers to be predicted, sgd diverges at a rate that suits
# images; adam learns all of scikit-learn's tables at one rate.
IMAGES, TABLE = "images", "table"
OPTIMIZERS = {IMAGES: "sgd", TABLE: "adam"}
LOSSES = {"classification": "cross-entropy", "regression": "quadratic"}


def settle(args: argparse.Namespace, kind: str, task: str) -> None:
    """Set the options that were not given, for images or a table, and for what is predicted."""
    found = {**USUAL, "optimizer": OPTIMIZERS[kind], "loss": LOSSES[task]}
    found["learning_rate"] = RATES[args.optimizer or found["optimizer"]]
    for name, value in found.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)


def in_words(name: str) -> str:
    """Return the default of an option for its help."""
    value = USUAL[name]
    return f"(default: {','.join(map(str, value)) if isinstance(value, list) else value})"


def rates_in_words() -> str:
    """Return the rates of all optimisers for the help."""
    named: dict[float, list[str]] = {}
    for optimizer, rate in RATES.items():
        named.setdefault(rate, []).append(optimizer)
    return ", ".join(f"{rate:g} for {' and '.join(names)}" for rate, names in named.items())
