"""Draw what a training sample costs by the number of weights and by the depth of a network.

    python scripts/scaling.py [FILE]

One thread, float32, dense Gaussian inputs, batches of 1 and of 100. Past the cache sizes the cost
should grow along the dashed line, in proportion. Prints the figures; the picture goes to
.github/scaling.svg unless another file is named.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np

from fastbp import Network

PICTURE = Path(__file__).resolve().parents[1] / ".github" / "scaling.svg"
WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024)  # of two hidden layers
DEPTHS = (1, 2, 4, 8, 16, 32)  # hidden layers of 128
BATCHES = {1: "#d55e00", 100: "#0072b2"}  # colours that colour-blind readers tell apart
MULTIPLY_ADDS = 1.5e9  # per measurement


def weights(sizes):
    return sum(n_in * n_out for n_in, n_out in pairwise(sizes))


def microseconds(sizes, batch_size):
    """Return the time of a sample: the best of five epochs."""
    rng = np.random.default_rng(0)
    n = int(np.clip(MULTIPLY_ADDS / weights(sizes) / 3, 400, 20_000)) // 100 * 100
    X = rng.standard_normal((n, sizes[0]), np.float32)
    y = rng.integers(0, sizes[-1], n)
    net = Network(sizes, "relu", loss="cross-entropy", seed=1)
    history = net.fit(X, y, epochs=5, batch_size=batch_size, learning_rate=1e-4)
    return min(history.seconds) / n * 1e6


def measure(title, networks):
    """Return one series per batch size, and print it."""
    print(f"\n{title:<28} {'weights':>9} " + "".join(f"{f'batch {b}, us':>16}" for b in BATCHES))
    series = {batch: [] for batch in BATCHES}
    for label, sizes in networks.items():
        for batch in BATCHES:
            series[batch].append(microseconds(sizes, batch))
        row = "".join(f"{series[batch][-1]:16.3f}" for batch in BATCHES)
        print(f"{label:<28} {weights(sizes):9,} {row}")
    return series


def draw(axes, x, series, label):
    for batch, times in series.items():
        axes.loglog(x, times, "o-", color=BATCHES[batch], label=f"batches of {batch}")
        axes.loglog(x, times[-1] * np.array(x) / x[-1], "--", color=BATCHES[batch], alpha=0.4)
    axes.set_xlabel(label)
    axes.set_ylabel("training, microseconds per sample")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()


def main(picture):
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    wide = {f"100-{n}-{n}-10": [100, n, n, 10] for n in WIDTHS}
    deep = {f"100-{d} x 128-10": [100, *[128] * d, 10] for d in DEPTHS}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    draw(left, [weights(s) for s in wide.values()], measure("two hidden layers", wide), "weights")
    left.set_title("wider: two hidden layers of 8 to 1,024")
    draw(right, list(DEPTHS), measure("hidden layers of 128", deep), "hidden layers")
    right.set_title("deeper: layers of 128")
    figure.suptitle("Cost of a sample, one thread, float32; dashed: in proportion")
    figure.savefig(picture, metadata={"Date": None})
    print(f"\ndrawn: {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], usage=argparse.SUPPRESS)
    parser.add_argument("file", nargs="?", type=Path, default=PICTURE, help="the picture")
    main(parser.parse_args().file)
