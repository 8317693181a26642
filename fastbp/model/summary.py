"""A table of a network's layers, for people."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .._support.shown import html
from . import choices


class Layer(NamedTuple):
    """A layer above the inputs, and what it costs."""

    name: str
    n_in: int
    n_out: int
    activation: str
    parameters: int
    size: int  # bytes, without padding
    forward: int  # FLOPs per sample
    training: int  # FLOPs per sample, without the step


def layers(config: Mapping[str, Any]) -> list[Layer]:
    """Return the layers of a network with this configuration, from the inputs upwards."""
    widths = list(pairwise(config["sizes"]))
    activations = choices.by_layer(config)
    bias, itemsize = config["bias"], np.dtype(config["dtype"]).itemsize
    found = []
    for l, (n_in, n_out) in enumerate(widths, start=1):
        last = l == len(widths)
        parameters = n_in * n_out + bias * n_out
        forward = 2 * n_in * n_out + bias * n_out
        delta = 2 * n_in * n_out if l > 1 else 0  # training needs no delta of the inputs
        found.append(Layer(
            "output" if last else f"hidden {l}", n_in, n_out,
            activations[l - 1], parameters, parameters * itemsize,
            forward, 2 * forward + delta,
        ))  # fmt: skip
    return found


class Summary(str):
    """A table as text, which a prompt and a notebook show as a table."""

    html: str

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.html


def summary(config: Mapping[str, Any], backend: str, stored: int) -> Summary:
    """Return the table; `stored` is the size of the parameters' buffer, in bytes."""
    found = layers(config)
    rows = [(l.name, f"{l.n_in:,}", f"{l.n_out:,}", l.activation, *_counts([l])) for l in found]
    rows = [_HEAD, *rows, ("total", "", "", "", *_counts(found))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # Words go to the left, numbers to the right.
    ways = [f"{side}{width}" for side, width in zip("<>><>>>>", widths, strict=True)]
    lines = ["  ".join(map(format, row, ways)).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    bias = "" if config["bias"] else ", no biases"
    scale = "" if config["input_scale"] == 1 else f", inputs x {config['input_scale']:.6g}"
    scale = ", inputs standardised" if config["scale"] else scale
    head = (
        f"{choices.called(config['loss'])} loss, {config['dtype']}, backend {backend}{bias}{scale}"
    )
    step = f"A step of plain SGD takes {2 * sum(layer.parameters for layer in found):,} FLOPs more."
    memory = f"In memory, padded, the parameters take {stored:,} bytes."
    last = widths[-2] + widths[-1] + 2
    above = " " * (len(rule) - last) + "FLOPs per sample".center(last).rstrip()
    text = Summary(
        "\n".join([head, above, lines[0], rule, *lines[1:-1], rule, lines[-1], step, memory])
    )
    names = *_HEAD[:-2], *(f"{name} FLOPs" for name in _HEAD[-2:])
    text.html = html(names, rows[1:], head, f"FLOPs are per sample. {step} {memory}")
    return text


_HEAD = ("layer", "in", "out", "activation", "parameters", "bytes", "forward", "training")


def _counts(found: Sequence[Layer]) -> tuple[str, ...]:
    return tuple(f"{sum(column):,}" for column in list(zip(*found, strict=True))[4:])
