"""What `fastbp train` does where nothing is said: what suits the data, and the optimiser."""

import argparse
from typing import Any

# By the kind of data: what learns the digits and MNIST well, in a second and in a minute.
IMAGES: dict[str, Any] = {"hidden": [100], "epochs": 30, "batch_size": 10}
# Momentum of 0.9 makes steps ten times as long; Adam's rate is its paper's.
RATES = {"sgd": 0.05, "momentum": 0.005, "nesterov": 0.005, "adam": 0.001}


def settle(args: argparse.Namespace) -> None:
    """Set the options that were not given."""
    rate = RATES[args.optimizer]
    for name, value in {**IMAGES, "learning_rate": rate}.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)


def in_words(name: str) -> str:
    """Return the default of an option for its help."""
    value = IMAGES[name]
    return f"(default: {','.join(map(str, value)) if isinstance(value, list) else value})"


def rates_in_words() -> str:
    """Return the rates of all optimisers for the help."""
    named: dict[float, list[str]] = {}
    for optimizer, rate in RATES.items():
        named.setdefault(rate, []).append(optimizer)
    return ", ".join(f"{rate:g} for {' and '.join(names)}" for rate, names in named.items())
