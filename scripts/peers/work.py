"""What is computed: the workloads, their data, and how many operations they take."""

import json
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

MNIST_DENSITY = 0.19  # the share of pixels that are not zero, for images made up
MNIST_SAMPLES = 60_000
IMAGES = "mnist", "digits"  # data that is real


class Workload(NamedTuple):
    """A network and its data; what is done with them, and the unit of its figure."""

    sizes: tuple
    activation: str = "sigmoid"
    loss: str = "quadratic"
    batch: int = 1
    learning_rate: float = 0.0  # 0: from the length of the inputs
    bias: bool = True
    dtype: str = "float32"
    kind: str = "train"
    data: str = "mnist"
    density: float = 1.0
    samples: int = MNIST_SAMPLES
    unit: str = "samples/s"
    solver: str = ""  # of an estimator; "" for a network

    @property
    def output(self):
        """The output's activation, by fastbp's rule."""
        if self.loss == "cross-entropy":
            return "softmax"
        return "sigmoid" if self.activation == "sigmoid" else "identity"

    @property
    def flops(self):
        """Operations of one item, which is a sample in training and a call elsewhere.

        A weight takes a multiplication and an addition in the forward pass; in training also in the
        update and, above the first layer, in the delta. Padding is not counted.
        """
        layers = [n_in * n_out for n_in, n_out in pairwise(self.sizes)]
        passes = 2 * sum(layers)
        if self.kind != "predict":
            passes += 2 * sum(layers) + 2 * sum(layers[1:])
        return passes * (1 if self.kind in ("train", "fit") else self.samples)

    @property
    def items(self):
        """How many items one figure of the unit `us/step` or the like is about."""
        return self.batch if self.kind == "train" else 1

    def words(self):
        """Return the workload in words."""
        bias = "" if self.bias else ", no biases"
        kind = {
            "train": f"batch {self.batch:,}", "gradient": "gradient", "predict": "prediction",
            "fit": f"MLPClassifier's {self.solver}, batch {self.batch:,}",
        }  # fmt: skip
        return (
            f"{'-'.join(map(str, self.sizes))}, {self.activation}, {self.loss}{bias}, "
            f"{kind[self.kind]}, {self.dtype}, {self.samples:,} sample{'s' * (self.samples != 1)}"
        )


DIGITS, DEEP, WIDE = (784, 30, 10), (784, 100, 100, 10), (784, 512, 512, 10)
RELU = {"activation": "relu", "loss": "cross-entropy"}
VALUES = {"activation": "tanh", "data": "values"}
ESTIMATOR = Workload((784, 100, 10), **RELU, batch=200, kind="fit")
_MNIST = {
    "online": Workload(DIGITS, learning_rate=0.3),
    "deep1": Workload(DEEP, learning_rate=0.1, bias=False),
    "nielsen": Workload(DIGITS, batch=10, learning_rate=3.0),
    "twolayer": Workload((784, 50, 10), **RELU, batch=100, learning_rate=0.1),
    "wide": Workload(WIDE, **RELU, batch=128, learning_rate=0.1),
    "predict1": Workload(DIGITS, kind="predict", samples=1, unit="us/call"),
    "predict10000": Workload(DIGITS, kind="predict", samples=10_000, unit="ms/call"),
}
WORKLOADS = {
    **{name: work for name, work in _MNIST.items() if work.kind == "train"},
    **{
        f"{name}-dense": work._replace(data="gauss", learning_rate=0.0)
        for name, work in _MNIST.items()
    },
    "surrogate": Workload(
        (4, 32, 16, 4), **VALUES, batch=10_000, learning_rate=0.1, samples=10_000, unit="us/step"
    ),
    "gradient64": Workload(
        (24, 8, 2), **VALUES, kind="gradient", dtype="float64", samples=200, unit="us/call"
    ),
    **{name: work for name, work in _MNIST.items() if work.kind == "predict"},
    "estimator-adam": ESTIMATOR._replace(solver="adam"),
    "estimator-sgd": ESTIMATOR._replace(solver="sgd"),
    # By default, to the end: it stops when the loss does.
    "estimator-digits": ESTIMATOR._replace(
        sizes=(64, 100, 10), solver="adam", data="digits", samples=1797
    ),
}


class Figures(NamedTuple):
    """What fastbp has to reach: ratios to the best peer on the same cores in the same run.

    `must` and `aim` are those on one core, `must_two` and `aim_two` on two; `gain` is what the
    second core must gain; the peaks are shares of the FMA peak.
    """

    must: float
    aim: float
    must_two: float | None = None
    aim_two: float | None = None
    gain: float | None = None
    must_peak: float | None = None
    aim_peak: float | None = None


FIGURES = {
    "online": Figures(12, 16),
    "deep1": Figures(4, 6),
    "nielsen": Figures(4.5, 6, 5, 6.5, 1.1),
    "twolayer": Figures(2.7, 3.5, 2.8, 3.5, 1.5),
    "wide": Figures(1.35, 1.7, 1.3, 1.6, 1.6),
    "online-dense": Figures(4, 6),
    "deep1-dense": Figures(2.2, 3),
    "nielsen-dense": Figures(3, 4, 3, 4, 1.1),
    "twolayer-dense": Figures(1.4, 1.8, 1.5, 2, 1.5),
    "wide-dense": Figures(1.05, 1.15, 1.05, 1.2, 1.75, 0.80, 0.88),
    "surrogate": Figures(1.9, 2.5, 2.4, 3, 1.8),
    "gradient64": Figures(2, 2.5),
    "predict1": Figures(2, 3),
    "predict10000": Figures(1.2, 1.35, 1.05, 1.2, 1.6),
    "estimator-adam": Figures(4, 6),
    "estimator-sgd": Figures(4, 6),
    "estimator-digits": Figures(3.5, 4.5),
}
# Held to AVX2, on one core, with peers that can be held to it: must, and share of that peak.
HELD_FIGURES = {
    "online": (10, None),
    "nielsen": (4, None),
    "twolayer": (2.5, None),
    "twolayer-dense": (1.2, None),
    "wide-dense": (0.95, 0.85),
}
# Times a figure of the unit is read from items a second: seconds for one, times this. 0: a rate.
UNITS = {"samples/s": 0, "us/step": 1e6, "us/call": 1e6, "ms/call": 1e3}


class Task(NamedTuple):
    """A workload with its arrays, as a peer gets it."""

    work: Workload
    threads: int
    X: np.ndarray  # (samples, n_in); for predict1 a set of samples to go round
    labels: np.ndarray  # (samples,); empty where the targets are values
    targets: np.ndarray  # (samples, n_out): one-hot rows, or values
    weights: list  # (n_out, n_in) each
    biases: list

    @property
    def shuffle(self):
        """Whether the order matters: a batch of all samples is the same in any."""
        return self.work.batch < len(self.X)


ROUND = 256  # predict1: so many different samples in turn, for the branch predictor's sake


def inputs(work, images, rng):
    """Return the samples."""
    n = ROUND if work.samples == 1 else work.samples
    if work.data in IMAGES:
        return np.ascontiguousarray(images[:n], work.dtype)
    X = rng.standard_normal((n, work.sizes[0]), np.dtype(work.dtype))
    if work.density < 1:
        X[rng.random(X.shape, np.float32) >= work.density] = 0
    return X


def targets(work, X, classes, rng):
    """Return labels and targets; of Gaussian samples, those of a random linear map."""
    if work.data in IMAGES:
        labels = classes[: len(X)]
    else:
        values = X @ rng.standard_normal((X.shape[1], work.sizes[-1])).astype(X.dtype)
        if work.data == "values":
            return np.empty(0, np.int64), np.tanh(values)
        labels = values.argmax(axis=1)
    labels = labels.astype(np.int64)
    return labels, np.eye(work.sizes[-1], dtype=work.dtype)[labels]


def learning_rate(work, X):
    """Return the workload's, or one that is stable for inputs of this length."""
    squares = float(np.square(X[:1000]).sum(axis=1).mean())
    return work.learning_rate or round(min(0.1, 1 / max(squares, 1e-9)), 6)


def write_task(folder, work, images, classes):
    """Write a workload's data and first weights to files, for all peers alike."""
    rng = np.random.default_rng(4)
    X = inputs(work, images, rng)
    labels, wanted = targets(work, X, classes, rng)
    start = {}
    for l, (n_in, n_out) in enumerate(pairwise(work.sizes)):
        start[f"W{l}"] = rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)
        start[f"b{l}"] = rng.standard_normal(n_out) * (0.1 if work.bias else 0)
    work = work._replace(learning_rate=learning_rate(work, X))
    folder = Path(folder)
    np.savez(folder / "start.npz", **{k: v.astype(work.dtype) for k, v in start.items()})
    for name, array in (("X", X), ("labels", labels), ("targets", wanted)):
        np.save(folder / f"{name}.npy", array)
    (folder / "work.json").write_text(json.dumps(work._asdict()))
    return work


def read_task(folder, threads):
    """Return the task that `write_task` wrote."""
    folder = Path(folder)
    fields = json.loads((folder / "work.json").read_text())
    work = Workload(**{**fields, "sizes": tuple(fields["sizes"])})
    arrays = [np.load(folder / f"{name}.npy") for name in ("X", "labels", "targets")]
    with np.load(folder / "start.npz") as start:
        layers = range(len(work.sizes) - 1)
        parts = [[start[f"{part}{l}"] for l in layers] for part in "Wb"]
    return Task(work, threads, *arrays, *parts)
