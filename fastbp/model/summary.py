"""What a network consists of, as a table for people."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np


class Layer(NamedTuple):
    """A layer above the inputs, counted."""

    name: str
    n_in: int
    n_out: int
    activation: str
    parameters: int
    size: int  # bytes, without padding
    forward: int  # FLOPs per sample
    training: int  # FLOPs per sample, without the step


def layers(config: dict[str, Any]) -> list[Layer]:
    """Return the layers of a network with this configuration, the one above the inputs first."""
    widths = list(pairwise(config["sizes"]))
    bias, itemsize = config["bias"], np.dtype(config["dtype"]).itemsize
    found = []
    for l, (n_in, n_out) in enumerate(widths, start=1):
        last = l == len(widths)
        parameters = n_in * n_out + bias * n_out
        forward = 2 * n_in * n_out + bias * n_out
        delta = 2 * n_in * n_out if l > 1 else 0  # nobody asks for the delta of the inputs
        found.append(Layer(
            "output" if last else f"hidden {l}", n_in, n_out,
            config["output" if last else "activation"], parameters, parameters * itemsize,
            forward, 2 * forward + delta,
        ))  # fmt: skip
    return found


def summary(config: dict[str, Any], backend: str, stored: int) -> str:
    """Return the table; `stored` is the size of the buffer, in bytes."""
    found = layers(config)
    rows = [_HEAD, *(_words(one) + _counts([one]) for one in found)]
    rows.append(("total", "", "", "", *_counts(found)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_cells(row, widths)).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    bias = "" if config["bias"] else ", no biases"
    scale = "" if config["input_scale"] == 1 else f", inputs x {config['input_scale']:.6g}"
    head = f"{config['loss']} loss, {config['dtype']}, backend {backend}{bias}{scale}"
    step = f"A step of plain SGD takes {2 * sum(one.parameters for one in found):,} FLOPs more."
    memory = f"In memory, padded, the parameters take {stored:,} bytes."
    over = "FLOPs per sample".center(widths[-2] + widths[-1] + 2).rstrip()
    above = " " * (len(rule) - widths[-2] - widths[-1] - 2) + over
    return "\n".join([head, above, lines[0], rule, *lines[1:-1], rule, lines[-1], step, memory])


_HEAD = ("layer", "in", "out", "activation", "parameters", "bytes", "forward", "training")


def _words(one: Layer) -> tuple[str, ...]:
    return one.name, f"{one.n_in:,}", f"{one.n_out:,}", one.activation


def _counts(found: list[Layer]) -> tuple[str, ...]:
    """Return parameters, bytes and FLOPs of these layers together."""
    return tuple(f"{sum(numbers):,}" for numbers in list(zip(*found, strict=True))[4:])


def _cells(row: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    """Words stand to the left, numbers to the right."""
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if place in (0, 3) else cell.rjust(width)
