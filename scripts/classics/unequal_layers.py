"""Layers of different sizes, and which output weights the error travels back through.

The network has 784, 30 and 10 neurons, sigmoids, and starts at U(-1, 1), weights and biases. In
each of 5,000 rounds it sees 20 random images; the weights learn after every single one, the biases
never do. The cost of an image is C = sum((a - y)**2), and each round reports its mean.

With delta2 = dC/dz2 = 2 (a2 - y) a2 (1 - a2), the two layers learn

    W2 -= rate * outer(delta2, a1)        delta1 = (W2.T @ delta2) * a1 * (1 - a1)
                                          W1 -= rate * outer(delta1, x)

and delta1 has to be computed from the output weights *before* they learn: the gradient is taken at
one point. It is a common slip to update W2 first, and to go back through the new one. The delta1
of the slip is off by -rate * sum(delta2**2) * a1 * a1 * (1 - a1), in proportion to the learning
rate. So it is hard to see in the cost, and easy in a comparison with finite differences.

fastbp's quadratic cost is sum((a - y)**2) / 2, half of C, so that its gradient has no factor 2:
rate = 0.05 here is fastbp's learning_rate = 0.1. As `Network.fit` updates biases too, this program
is made from the backend's operations, layer by layer.

Images come from the classic mnist.pkl.gz (50,000 for training, 10,000 for validation, 10,000 for
testing), if --data-dir holds one, else from the IDX files, which hold the same images.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _common import (
    BLACK,
    BLUE,
    GREEN,
    PURPLE,
    VERMILLION,
    load_mnist,
    new_figure,
    parser,
    report,
    run,
    save,
)

import fastbp
from fastbp import datasets

SIZES = [784, 30, 10]
RATE = 0.05  # on C = sum((a - y)**2)
ROUNDS, QUICK_ROUNDS = 5_000, 300
IMAGES_PER_ROUND = 20
SEEDS = 3
TRAINING_IMAGES = 50_000
RULES = ("right", "slip")
BACKEND = fastbp.get_backend("numba")


class Data(NamedTuple):
    """Images, 0 to 1, one per row; labels 0 to 9."""

    X: np.ndarray
    labels: np.ndarray
    X_test: np.ndarray
    labels_test: np.ndarray


# -- the images ------------------------------------------------------------------------------------


def find_pickle(data_dir=None):
    """Return the path of mnist.pkl.gz in the folder, or its subfolder mnist; None without."""
    folder = Path(data_dir or os.environ.get("FASTBP_DATA") or ".")
    paths = [folder / "mnist.pkl.gz", folder / "mnist" / "mnist.pkl.gz"]
    return next((path for path in paths if path.is_file()), None)


def load(data_dir=None):
    """Return the training and the test images, from either kind of file, as float64."""
    path = find_pickle(data_dir)
    if path:
        print(f"images: {path.name}, read without trusting the pickle")
        (X, labels), _, (X_test, labels_test) = datasets.load_pickle(path)
    else:
        print("images: no mnist.pkl.gz here; the IDX files hold the same ones")
        X, labels, X_test, labels_test = load_mnist(data_dir)
        # The classic file has the first 50,000 for training, and pixels divided by 256.
        X, labels = X[:TRAINING_IMAGES] / 256, labels[:TRAINING_IMAGES]
        X_test = X_test / 256
    if X.shape[1] != SIZES[0] or labels.max() >= SIZES[-1]:
        raise ValueError(
            f"images of {SIZES[0]} pixels and labels 0 to 9 are expected; found {X.shape[1]} "
            f"pixels and labels up to {labels.max()}"
        )
    return Data(X.astype(np.float64), labels, X_test.astype(np.float64), labels_test)


# -- one sample ------------------------------------------------------------------------------------


def learn(net, x, y, rate, rule):
    """Learn from one image, in place; return its cost from before.

    Parameters
    ----------
    net : Network
        Its weights learn, its biases do not.
    x, y : (1, 784) and (1, 10) arrays
    rate : float
        On C = sum((a - y)**2).
    rule : {"right", "slip"}
    """
    (W1, W2), (b1, b2) = net.weights, net.biases

    # Forward.
    a1 = BACKEND.sigmoid(BACKEND.affine(x, W1, b1))
    z2 = BACKEND.affine(a1, W2, b2)

    # delta = (a2 - y) a2 (1 - a2) is that of half the cost: the missing 2 goes into the steps.
    _, delta2, half_cost = BACKEND.output_delta("quadratic", "sigmoid", z2, y)

    if rule == "right":  # through the old W2
        delta1 = BACKEND.backprop_delta(W2, delta2, a1, "sigmoid")
        update(W2, a1, delta2, 2 * rate)
    else:  # through the updated W2: two lines in the other order
        update(W2, a1, delta2, 2 * rate)
        delta1 = BACKEND.backprop_delta(W2, delta2, a1, "sigmoid")
    update(W1, x, delta1, 2 * rate)
    return 2 * half_cost[0]


def update(W, a_prev, delta, step):
    """W -= step * outer(delta, a_prev); no bias learns."""
    BACKEND.outer_update(W, np.zeros(len(W)), a_prev[0], delta[0], step)


# -- gradients -------------------------------------------------------------------------------------


def network(seed):
    """Return the network at its start, U(-1, 1)."""
    return fastbp.Network(SIZES, init="uniform", dtype="float64", seed=seed)


def first_layer_gradient(seed, x, y, rate, rule):
    """Return the dC/dW1 by which a step at the start went: (before - after) / rate."""
    net = network(seed)
    before = net.weights[0].copy()
    learn(net, x, y, rate, rule)
    return (before - net.weights[0]) / rate


def finite_differences(seed, x, y, places, step=1e-5):
    """Return dC/dW1 at some places (j, i): (C(w + step) - C(w - step)) / (2 step)."""
    net, slopes = network(seed), []
    for place in places:
        w = net.weights[0][place]
        net.weights[0][place] = w + step
        above = np.sum((net.feedforward(x) - y) ** 2)
        net.weights[0][place] = w - step
        below = np.sum((net.feedforward(x) - y) ** 2)
        net.weights[0][place] = w
        slopes.append((above - below) / (2 * step))
    return np.array(slopes)


def gradient_error(data, seed, rate, rule, samples=5, places=60):
    """Return the error of dC/dW1 against finite differences, relative to its largest entry.

    It is the mean over some images; for each, some weights of pixels that are not black.
    """
    rng, errors = np.random.default_rng(seed), []
    for k in rng.integers(len(data.X), size=samples):
        x, y = data.X[k : k + 1], np.eye(10)[data.labels[k : k + 1]]
        pixels = rng.choice(np.flatnonzero(x[0]), places)
        where = list(zip(rng.integers(SIZES[1], size=places), pixels, strict=True))
        numerical = finite_differences(seed, x, y, where)
        of_rule = first_layer_gradient(seed, x, y, rate, rule)[tuple(np.transpose(where))]
        errors.append(np.abs(of_rule - numerical).max() / np.abs(numerical).max())
    return float(np.mean(errors))


# -- training --------------------------------------------------------------------------------------


def train(data, rule, seed, rounds=ROUNDS):
    """Return the network and the mean cost of each round.

    Both rules start at the same weights and see the same images.
    """
    net = network(seed)
    picks = np.random.default_rng([seed, 1]).integers(len(data.X), size=(rounds, IMAGES_PER_ROUND))
    Y = np.eye(10)
    started = time.perf_counter()
    costs = np.array([
        np.mean([
            learn(net, data.X[k : k + 1], Y[data.labels[k : k + 1]], RATE, rule) for k in picked
        ])
        for picked in picks
    ])  # fmt: skip
    print(f"{rule}: {rounds:,} rounds in {time.perf_counter() - started:.1f} s")
    return net, costs


class Result(NamedTuple):
    """What a run of one rule showed."""

    costs: np.ndarray  # (rounds,)
    final_cost: float  # mean over the last tenth of the rounds
    accuracy: float  # on the test images
    weights: tuple  # at the end
    bias_change: float  # the largest


def learn_all(data, seeds, rounds):
    """Return the results of all seeds, by rule."""
    results = {}
    for rule in RULES:
        results[rule] = []
        for seed in seeds:
            net, costs = train(data, rule, seed, rounds)
            pairs = zip(net.biases, network(seed).biases, strict=True)
            results[rule].append(Result(
                costs, float(costs[-rounds // 10 :].mean()),
                net.accuracy(data.X_test, data.labels_test), net.weights,
                float(np.max([np.abs(b - start).max() for b, start in pairs])),
            ))  # fmt: skip
    return results


# -- what is expected ------------------------------------------------------------------------------


def spread(values, form):
    """Return the values of all seeds as text."""
    low, high = (format(f(values), form) for f in (np.min, np.max))
    return low if low == high else f"{low} to {high}"


def check_gradients(data, seed):
    """Return the rows that tell the rules apart: their dC/dW1 against finite differences."""
    right = gradient_error(data, seed, RATE, "right")
    slip = gradient_error(data, seed, RATE, "slip")
    steep = gradient_error(data, seed, 10 * RATE, "slip")
    return [
        ("right: error of dC/dW1", f"{right:.1e}", "< 1e-7", right < 1e-7),
        ("slip: error of dC/dW1", f"{slip:.4f}", "0.005 to 0.08", 0.005 < slip < 0.08),
        ("slip: its error at 10 times the rate, ratio", f"{steep / slip:.4f}", "9.99 to 10.01",
         9.99 < steep / slip < 10.01),
    ]  # fmt: skip


def check_training(results, quick=False):
    """Return the rows on what training came to; the ranges are those of eight seeds, widened."""
    cost_low, cost_high = (0.30, 0.60) if quick else (0.10, 0.16)
    accuracy_low, accuracy_high = (0.60, 0.85) if quick else (0.91, 0.94)
    rows = []
    for rule in RULES:
        costs = [result.final_cost for result in results[rule]]
        accuracies = [result.accuracy for result in results[rule]]
        moved = float(np.max([result.bias_change for result in results[rule]]))
        rows += [
            (f"{rule}: cost, last tenth of the rounds", spread(costs, ".4f"),
             f"{cost_low:.2f} to {cost_high:.2f}",
             cost_low < np.min(costs) and np.max(costs) < cost_high),
            (f"{rule}: accuracy", spread(accuracies, ".4f"),
             f"{accuracy_low:.2f} to {accuracy_high:.2f}",
             accuracy_low < min(accuracies) and max(accuracies) < accuracy_high),
            (f"{rule}: largest change of a bias", moved, "0", moved == 0),
        ]  # fmt: skip
    pairs = list(zip(results["right"], results["slip"], strict=True))
    cost = [slip.final_cost - right.final_cost for right, slip in pairs]
    accuracy = [slip.accuracy - right.accuracy for right, slip in pairs]
    apart = [
        float(np.linalg.norm(right.weights[1] - slip.weights[1]) / np.linalg.norm(right.weights[1]))
        for right, slip in pairs
    ]
    rows += [
        ("slip - right: cost", spread(cost, "+.4f"), "-0.02 to 0.02", np.abs(cost).max() < 0.02),
        ("slip - right: accuracy", spread(accuracy, "+.4f"), "-0.02 to 0.02",
         np.abs(accuracy).max() < 0.02),
        ("slip and right: W2 apart, relative", spread(apart, ".3f"), "> 0.01",
         min(apart) > 0.01),
    ]  # fmt: skip
    return rows


def running_mean(costs, width):
    """Return the means over `width` rounds, and the rounds that they end in."""
    return np.arange(width, len(costs) + 1), np.convolve(costs, np.ones(width) / width, "valid")


def draw(results, seeds, path):
    rounds = len(results["right"][0].costs)
    width = rounds // 50
    figure, (left, right) = new_figure(2, "784-30-10, one sample at a time: which output weights?")
    left.plot(
        np.arange(1, rounds + 1), results["right"][0].costs, ".", color=BLACK, ms=2, alpha=0.25,
        label="right, each round",
    )  # fmt: skip
    looks = {
        "right": (BLUE, "-", "old weights: right"),
        "slip": (VERMILLION, "--", "updated: slip"),
    }
    for rule, (colour, line, label) in looks.items():
        left.plot(
            *running_mean(results[rule][0].costs, width), line, color=colour,
            label=f"{label}, mean of {width} rounds",
        )  # fmt: skip
    left.set(
        title=f"Cost (seed {seeds[0]})", xlabel="round (20 images each)", ylim=(0, None),
        ylabel="sum((a - y)**2), mean of the round",
    )  # fmt: skip
    wide = rounds // 10
    looks = ((GREEN, "-"), (PURPLE, "--"), (BLACK, ":"))
    pairs = zip(seeds, results["right"], results["slip"], strict=True)
    for (colour, line), (seed, of_right, of_slip) in zip(looks, pairs, strict=False):
        means = running_mean(of_slip.costs - of_right.costs, wide)
        right.plot(*means, line, color=colour, label=f"seed {seed}")
    right.axhline(0, color="grey", lw=1)
    right.set(
        title="What the slip costs", xlabel="round (20 images each)",
        ylabel=f"cost, slip - right, mean of {wide} rounds",
    )  # fmt: skip
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, path)


def main(argv=None):
    args = parser(__doc__, "cost_over_epoch.png").parse_args(argv)
    data = load(args.data_dir)
    seeds = range(args.seed, args.seed + (1 if args.quick else SEEDS))
    rows = check_gradients(data, args.seed)
    results = learn_all(data, seeds, QUICK_ROUNDS if args.quick else ROUNDS)
    draw(results, seeds, args.output)
    return report([*rows, *check_training(results, args.quick)])


if __name__ == "__main__":
    run(main)
