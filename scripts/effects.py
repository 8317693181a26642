"""Measure on real data what dropout, losses, class weights and activations change.

    python scripts/effects.py [--seeds N] [--backend numpy] [--data-dir DIR] [--print]

Each effect is a training without an option and one with it, on the same samples from the same
start, for several seeds, which also choose the samples. The table in tests/README.md has the means
of what is measured on samples that were not trained on, and their mean difference with its standard
error. The exit code is 1 if a difference has another direction than it should, or lies within two
standard errors. Needs MNIST and scikit-learn; takes minutes.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

import fastbp
import marks
from fastbp import losses
from measure import data_folder

PROMISES = marks.ROOT / "tests" / "README.md"
FIFTH = "a fifth of the labels wrong"


@cache
def mnist(data_dir):
    return fastbp.datasets.load("mnist", data_folder(data_dir))


@cache
def table(name):
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")(return_X_y=True)


# -- what is trained, and measured -----------------------------------------------------------------


def images(seed, options, args, hidden=(512, 512), n=1000, wrong=0.0, epochs=50, rate=0.2):
    """Return accuracy, loss and calibration error of MNIST's test images, from few for training."""
    X, y, X_test, y_test = mnist(args.data_dir)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(X))[:n]
    y = np.where(rng.random(n) < wrong, rng.integers(10, size=n), y[chosen])
    options = {"activation": "relu", "loss": "cross-entropy", "init": "he", **options}
    net = fastbp.Network(
        [784, *hidden, 10], input_scale=1 / 255, seed=seed, backend=args.backend, **options
    )
    net.fit(X[chosen], y, epochs=epochs, batch_size=50, learning_rate=rate)
    outputs = net.feedforward(X_test)
    sure, right = outputs.max(axis=1), outputs.argmax(axis=1) == y_test
    tenth = np.minimum((10 * sure).astype(int), 9)
    gaps = [abs((sure - right)[tenth == k].sum()) for k in range(10)]
    of_right = outputs[np.arange(len(y_test)), y_test]
    loss = -np.log(np.maximum(of_right, np.finfo(np.float32).tiny)).mean()
    return {"accuracy": right.mean(), "loss": loss, "calibration error": sum(gaps) / len(y_test)}


def tumours(seed, options, args):
    """Return the share that is found of each class, where one malignant tumour in 30 is kept."""
    X, benign = table("breast_cancer")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    test, rest = order[::2], order[1::2]
    malignant = rest[benign[rest] == 0]
    rest = np.concatenate([rest[benign[rest] == 1], malignant[: -(-len(malignant) // 30)]])
    net = fastbp.Network(
        [30, 10, 2], "relu", loss="cross-entropy", scale="standard", seed=seed, backend=args.backend
    )
    net.fit(X[rest], benign[rest], epochs=20, batch_size=10, learning_rate=0.02, **options)
    right = net.predict(X[test]) == benign[test]
    return {name: right[benign[test] == k].mean() for k, name in enumerate(("rare", "other"))}


def patients(seed, options, args, wrong=0.0):
    """Return the error on diabetes, of which some training targets lack their decimal point."""
    X, y = table("diabetes")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    test, rest = order[:150], order[150:]
    given = np.where(rng.random(len(rest)) < wrong, 10 * y[rest], y[rest])
    low, middle, high = np.quantile(given, (0.25, 0.5, 0.75))
    unit = (high - low) / 1.349  # of a normal distribution the deviation
    net = fastbp.Network(
        [10, 20, 1], "tanh", "identity", scale="standard", seed=seed, backend=args.backend,
        **options,
    )  # fmt: skip
    net.fit(
        X[rest], (given - middle) / unit, epochs=60, batch_size=10, learning_rate=0.001,
        optimizer="adam",
    )  # fmt: skip
    predicted = middle + unit * net.predict(X[test])
    return {"error": abs(predicted - y[test]).mean(), "below": np.mean(y[test] < predicted)}


# -- the effects -----------------------------------------------------------------------------------


class Effect(NamedTuple):
    option: str
    on: str  # which data
    quantity: str  # of what is measured
    rises: bool | None  # None: it is told, and may go either way
    measure: Callable
    given: dict  # the option
    settings: Mapping = MappingProxyType({})  # of what is measured
    plain: Mapping = MappingProxyType({})  # in place of the option


FEW = "MNIST, 1,000 training images"
SLIPS = "diabetes, a tenth of the training targets ten times too large"
DEEP = {"hidden": (30,) * 6, "n": 5000, "rate": 0.1, "epochs": 30}
EFFECTS = [
    Effect("dropout=0.5", f"{FEW}, 784-512-512-10", "accuracy", True, images, {"dropout": 0.5}),
    Effect(
        "dropout=0.5", f"{FEW}, {FIFTH}, 784-512-512-10", "accuracy", True, images,
        {"dropout": 0.5}, {"wrong": 0.2},
    ),
    Effect(
        "CrossEntropy(label_smoothing=0.3)", f"{FEW}, {FIFTH}, 784-100-10", "accuracy", True,
        images, {"loss": losses.CrossEntropy(0.3)}, {"hidden": (100,), "wrong": 0.2},
    ),
    *(
        Effect(
            "CrossEntropy(label_smoothing=0.02)", f"{FEW}, 784-100-10", quantity, rises, images,
            {"loss": losses.CrossEntropy(0.02)}, {"hidden": (100,), "epochs": 200},
        )
        for quantity, rises in (("calibration error", False), ("accuracy", None))
    ),
    *(
        Effect(
            'fit(class_weight="balanced")', "breast cancer, one malignant tumour in 30 kept",
            quantity, rises, tumours, {"class_weight": "balanced"},
        )
        for quantity, rises in (("rare", True), ("other", None))
    ),
    *(
        Effect(f'loss="{name}"', SLIPS, "error", False, patients, {"loss": name}, {"wrong": 0.1})
        for name in ("huber", "absolute")
    ),
    *(
        Effect(
            f"Quantile({q})", "diabetes", "below", q > 0.5, patients, {"loss": losses.Quantile(q)}
        )
        for q in (0.1, 0.9)
    ),
    *(
        Effect(
            f'activation="{name}"', "MNIST, 5,000 training images, 784-30-30-30-30-30-30-10, "
            "beside sigmoid", "accuracy", True, images, {"activation": name}, DEEP,
            {"activation": "sigmoid", "init": "glorot"},
        )
        for name in ("tanh", "relu", "leaky_relu", "elu", "softplus", "silu", "gelu")
    ),
    *(
        Effect(
            "init=None", f"MNIST, 20,000 training images, 784-(8 layers of 50, {name})-10, beside "
            '"lecun_normal"', "accuracy", True, images, {"activation": name, "init": None},
            {"hidden": (50,) * 8, "n": 20_000, "rate": 0.02, "epochs": 4},
            {"activation": name, "init": "lecun_normal"},
        )
        for name in ("relu", "gelu", "softplus")
    ),
]  # fmt: skip
QUANTITIES = {
    "accuracy": "accuracy", "calibration error": "expected calibration error",
    "rare": "share of the malignant tumours that is found",
    "other": "share of the benign ones that is found", "error": "mean absolute error",
    "below": "share of the targets below the prediction",
}  # fmt: skip


class Found(NamedTuple):
    effect: Effect
    plain: np.ndarray  # one value for each seed
    given: np.ndarray

    @property
    def difference(self):
        """The mean difference and its standard error."""
        each = self.given - self.plain
        return each.mean(), each.std(ddof=1) / np.sqrt(len(each))

    @property
    def ok(self):
        """Whether it has the direction that it should have, beyond chance."""
        if self.effect.rises is None:
            return True
        mean, error = self.difference
        return (mean if self.effect.rises else -mean) > 2 * error


def measured(effect, seeds, args):
    values = [
        [
            effect.measure(seed, how, args, **effect.settings)[effect.quantity]
            for seed in range(seeds)
        ]
        for how in (effect.plain, effect.given)
    ]
    return Found(effect, *map(np.array, values))


def text(found, seeds):
    """Return the table, in Markdown."""
    lines = [
        f"By `scripts/effects.py`, for {seeds} seeds each, fastbp {fastbp.__version__}.",
        "",
        "| option | data | measured | without | with | difference |",
        "|---|---|---|---|---|---|",
    ]
    for effect, plain, given in found:
        mean, error = Found(effect, plain, given).difference
        cells = (
            f"`{effect.option}`", effect.on, QUANTITIES[effect.quantity], f"{plain.mean():.4g}",
            f"{given.mean():.4g}", f"{mean:+.3g} ± {error:.2g}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,  # an error is one line
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=10, help="trainings of each kind")
    parser.add_argument("--backend", choices=("numba", "numpy"), default="numba")
    parser.add_argument("--data-dir", help="where MNIST is looked for")
    parser.add_argument("--print", action="store_true", help="print the table, write no file")
    args = parser.parse_args()
    found = []
    for effect in EFFECTS:
        found.append(measured(effect, args.seeds, args))
        mean, error = found[-1].difference
        print(f"{effect.option}, {effect.on}: {mean:+.3g} ± {error:.1g}", file=sys.stderr)
    if args.print:
        print(text(found, args.seeds), end="")
    else:
        marks.write(PROMISES, "effects", text(found, args.seeds))
    wrong = [one.effect.option for one in found if not one.ok]
    if wrong:
        print(f"not as it should be: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
