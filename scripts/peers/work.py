"""What is computed: the workloads, their data, and how many operations they take."""

import json
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

MNIST_DENSITY = 0.19  # the share of pixels that are not zero, for images made up
MNIST_SAMPLES = 60_000


class Workload(NamedTuple):
    """A network, its data, and the figures it has to reach.

    `must` and `aim` are ratios to the peer `against` ("" is the best one) on one core, `must_two`
    on two; `must_peak` and `aim_peak` are shares of the FMA peak.
    """

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
    must: float | None = None
    aim: float | None = None
    must_two: float | None = None
    must_peak: float | None = None
    aim_peak: float | None = None
    against: str = ""

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
        return passes * (1 if self.kind == "train" else self.samples)

    @property
    def items(self):
        """How many items one figure of the unit `us/step` or the like is about."""
        return self.batch if self.kind == "train" else 1

    def words(self):
        """Return the workload in words."""
        bias = "" if self.bias else ", no biases"
        kind = {"train": f"batch {self.batch:,}", "gradient": "gradient", "predict": "prediction"}
        return (
            f"{'-'.join(map(str, self.sizes))}, {self.activation}, {self.loss}{bias}, "
            f"{kind[self.kind]}, {self.dtype}, {self.samples:,} sample{'s' * (self.samples != 1)}"
        )


DIGITS, DEEP, WIDE = (784, 30, 10), (784, 100, 100, 10), (784, 512, 512, 10)
RELU = {"activation": "relu", "loss": "cross-entropy"}
_MNIST = {
    "online": Workload(DIGITS, learning_rate=0.3, must=10, aim=14),
    "deep1": Workload(DEEP, learning_rate=0.1, bias=False, must=3.5, aim=6),
    "nielsen": Workload(DIGITS, batch=10, learning_rate=3.0, must=4, aim=6, must_two=5),
    "twolayer": Workload(
        (784, 50, 10), **RELU, batch=100, learning_rate=0.1, must=2.5, aim=3.5, must_two=3
    ),
    "wide": Workload(WIDE, **RELU, batch=128, learning_rate=0.1, must=1.3, aim=1.7, must_two=1.4),
    "predict1": Workload(
        DIGITS, kind="predict", samples=1, unit="us/call", must=1.5, aim=3, against="onnxruntime"
    ),
    "predict10000": Workload(
        DIGITS, kind="predict", samples=10_000, unit="ms/call", must=0.95, aim=1.15, must_two=1,
        against="onnxruntime",
    ),
}  # fmt: skip
# Figures where no input is zero.
_DENSE = {
    "online": {"must": 3, "aim": 5},
    "nielsen": {"must": 2, "aim": 3, "must_two": 2.5},
    "twolayer": {"must": 1.3, "aim": 1.7, "must_two": 1.7},
    "wide": {"must": 1, "aim": 1.1, "must_two": 1.1, "must_peak": 0.78, "aim_peak": 0.9},
}
_NO_FIGURES = {"must": None, "aim": None, "must_two": None}
_VALUES = {"activation": "tanh", "data": "values"}
WORKLOADS = {
    **{name: work for name, work in _MNIST.items() if work.kind == "train"},
    **{
        f"{name}-dense": work._replace(
            **{**_NO_FIGURES, "data": "gauss", "learning_rate": 0.0, **_DENSE.get(name, {})}
        )
        for name, work in _MNIST.items()
    },
    "surrogate": Workload(
        (4, 32, 16, 4), **_VALUES, batch=10_000, learning_rate=0.1, samples=10_000, unit="us/step",
        must=2.5, aim=3, must_two=3,
    ),
    "gradient64": Workload(
        (24, 8, 2), **_VALUES, kind="gradient", dtype="float64", samples=200, unit="us/call",
        must=2, aim=3, against="numpy-by-hand",
    ),
    **{name: work for name, work in _MNIST.items() if work.kind == "predict"},
}  # fmt: skip
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
    if work.data == "mnist":
        return np.ascontiguousarray(images[:n], work.dtype)
    X = rng.standard_normal((n, work.sizes[0]), np.dtype(work.dtype))
    if work.density < 1:
        X[rng.random(X.shape, np.float32) >= work.density] = 0
    return X


def targets(work, X, classes, rng):
    """Return labels and targets; of Gaussian samples, those of a random linear map."""
    if work.data == "mnist":
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
