"""Training with what is compiled when a network first uses it, beside a network like it without."""

from functools import cache, partial

import fastbp

from .common import ALL, Timed
from .ratios import ratios


def _leaky(z):
    return z if z > 0 else 0.01 * z


def _leaky_slope(z):
    return 1.0 if z > 0 else 0.01


IDENTITY = {"output": "identity"}
# What the network has, and what the other has: dropout or none, a loss by address or by code, an
# activation of one's own or its built-in equal. Both networks have the rest in common.
OPTIONS = {
    "dropout": ({"dropout": 0.5}, {}),
    "huber": ({**IDENTITY, "loss": "huber"}, {**IDENTITY, "loss": "quadratic"}),
    "own": ("own", {"activation": "leaky_relu"}),
}
WORKS = ["twolayer", "wide", "surrogate"]  # the last has lanes over the batch


LEARNING_RATE = 0.01  # at which none of them diverges


@cache
def _options(option, side):
    if OPTIONS[option][side] == "own":  # making one compiles it
        return {"activation": fastbp.Activation(_leaky, _leaky_slope)}
    return OPTIONS[option][side]


@cache
def _epoch(option, workload, side):
    """Return a call that trains for an epoch, warmed up."""
    work = ALL[workload]
    work = work._replace(options=work.options | _options(option, side))
    X, y = work.data(work.samples)
    fit = partial(
        work.network("numba").fit, X, y, epochs=1, batch_size=min(work.batch_size, len(X)),
        learning_rate=LEARNING_RATE,
    )  # fmt: skip
    fit()
    return fit


class Options(Timed):
    """Times `fit` over one epoch, and beside the network without."""

    params = (list(OPTIONS), WORKS)
    param_names = ("option", "workload")

    def setup(self, option, workload):
        self.calls = [_epoch(option, workload, side) for side in (0, 1)]

    def time_epoch_with_option(self, option, workload):
        self.calls[0]()

    time_epoch_with_option.pretty_name = "fit: an epoch with dropout, Huber's loss, an own function"

    def track_of_plain(self, option, workload):
        return {"samples": ratios(*self.calls), "number": 1}

    track_of_plain.pretty_name = "fit: an epoch with an option, as a part of the time without it"
    track_of_plain.unit = "x the time without it (less is better)"
