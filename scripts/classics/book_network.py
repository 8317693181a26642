"""The book's Network: mini-batches, the four equations, and what saturation does.

After Nielsen, *Neural Networks and Deep Learning*. Three things are shown:

1. Back-propagation is four equations (chapter 2), each a function of `fastbp.reference`:

        (BP1)  delta_L = dC/da * f'(z_L)                  output_delta
        (BP2)  delta_l = (W_l+1.T delta_l+1) * f'(z_l)    backprop_delta
        (BP3)  dC/db_l = delta_l                          bias_gradient
        (BP4)  dC/dW_l = outer(delta_l, a_l-1)            weight_gradient

   Together they give what `Network.backprop` gives, and `update_mini_batch` steps against the mean.

2. A network of 784, 30 and 10 neurons learns MNIST by `SGD` (chapter 1): mini-batches of 10,
   learning rate 3, 30 epochs, the first 50,000 images.

3. One neuron, its input 1 and its target 0, starts with w = b = 2, so at an output of 0.98
   (chapter 3). There sigma' = a (1 - a) is small. With the quadratic cost it is a factor of the
   gradient, dC/dw = (a - y) sigma'(z) x, and the neuron hardly learns although it is badly wrong.
   With the cross-entropy it cancels, dC/dw = (a - y) x.
"""

import logging
import math

import numpy as np
from _common import BLUE, GREEN, VERMILLION, load_mnist, new_figure, parser, report, run, save

import fastbp
from fastbp import reference

SIZES = [784, 30, 10]
TRAINING_IMAGES = 50_000  # the other 10,000 are the book's validation data
EPOCHS, QUICK_EPOCHS = 30, 3
MINI_BATCH_SIZE = 10
LEARNING_RATE = 3.0

NEURON_RATE, NEURON_EPOCHS = 0.15, 300


# -- 1. the four equations -------------------------------------------------------------------------


def backprop(weights, biases, x, y):
    """Return nabla_b and nabla_w of one sample, equation by equation.

    x is a row (1, n_in), y a row (1, n_out); sigmoids, and C = sum((a - y)**2) / 2.
    """
    # Forward: z_l = W_l a_l-1 + b_l and a_l = sigma(z_l), all of them kept.
    a = [x]
    for W, b in zip(weights, biases, strict=True):
        z = np.empty((1, len(b)))
        reference.affine(a[-1], W, b, z)
        a.append(np.empty_like(z))
        reference.sigmoid(z, a[-1])

    # (BP1): the error of the output.
    delta, losses = np.empty_like(z), np.empty(1)
    reference.output_delta("quadratic", "sigmoid", z, y, a[-1], delta, losses)

    nabla_b, nabla_w = [np.empty_like(b) for b in biases], [np.empty_like(W) for W in weights]
    for l in reversed(range(len(weights))):
        reference.bias_gradient(delta, nabla_b[l])  # (BP3)
        reference.weight_gradient(a[l], delta, nabla_w[l])  # (BP4)
        if l > 0:
            below = np.empty_like(a[l])
            reference.backprop_delta(weights[l], delta, a[l], "sigmoid", below)  # (BP2)
            delta = below
    return nabla_b, nabla_w


def difference(found, expected):
    """Return the largest difference of two lists of arrays, relative to the largest value."""
    pairs = list(zip(found, expected, strict=True))
    return float(np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in pairs]))


def check_equations(X, y, seed):
    """Compare `backprop` and `update_mini_batch` of fastbp with the four equations."""
    net = fastbp.Network(SIZES, init="normal", input_scale=1 / 255, dtype="float64", seed=seed)
    batch = range(MINI_BATCH_SIZE)
    rows = [(X[i : i + 1] / 255, np.eye(10)[y[i : i + 1]]) for i in batch]
    nablas = [backprop(net.weights, net.biases, *row) for row in rows]

    nabla_b, nabla_w = net.backprop(X[0], y[0])
    print("nabla_b:", *(array.shape for array in nabla_b), end="; ")
    print("nabla_w:", *(array.shape for array in nabla_w))
    of_backprop = difference([*nabla_b, *nabla_w], [*nablas[0][0], *nablas[0][1]])

    # update_mini_batch: w -> w - rate * (mean of nabla over the mini-batch)
    before = [array.copy() for array in (*net.biases, *net.weights)]
    net.update_mini_batch(X[batch], y[batch], LEARNING_RATE)
    steps = [old - new for old, new in zip(before, (*net.biases, *net.weights), strict=True)]
    means = [np.mean(of_all, axis=0) for of_all in zip(*([*b, *w] for b, w in nablas), strict=True)]
    of_update = difference(steps, [LEARNING_RATE * mean for mean in means])
    return [
        ("backprop, from (BP1) to (BP4): difference", of_backprop, "< 1e-10", of_backprop < 1e-10),
        ("update_mini_batch, from their mean: difference", of_update, "< 1e-10",
         of_update < 1e-10),
    ]  # fmt: skip


# -- 2. the network --------------------------------------------------------------------------------


class EpochLines(logging.Handler):
    """Prints what `SGD` logs, such as `Epoch 0: 9129 / 10000`, and keeps the counts."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.logger, self.right = logging.getLogger("fastbp"), []

    def emit(self, record):
        print(record.getMessage(), flush=True)
        if record.msg.startswith("Epoch"):
            self.right.append(record.args[1])

    def __enter__(self):
        self.level = self.logger.level
        self.logger.setLevel(logging.INFO)
        self.logger.addHandler(self)
        return self

    def __exit__(self, *exception):
        self.logger.removeHandler(self)
        self.logger.setLevel(self.level)


def train(data, seed, epochs):
    """Learn by the book's `SGD`; return the test accuracies and the history, epoch by epoch."""
    X, y, X_test, y_test = data
    net = fastbp.Network(SIZES, init="normal", input_scale=1 / 255, seed=seed)
    with EpochLines() as lines:
        history = net.SGD(
            (X[:TRAINING_IMAGES], y[:TRAINING_IMAGES]),
            epochs, MINI_BATCH_SIZE, LEARNING_RATE, test_data=(X_test, y_test),
        )  # fmt: skip
    return [right / len(y_test) for right in lines.right], history


def check_training(accuracies, quick=False):
    """Return the rows on the accuracies after each epoch.

    Some starts leave a digit or two unlearnt in the first epoch. After 30 epochs the seeds 0 to 8
    reach 0.944 to 0.954, so two of them end just below the range; with float32 the order of
    additions alone moves the end by half a percent.
    """
    rows = [("accuracy after epoch 0", accuracies[0], "0.60 to 0.93 (the book: 0.9129)",
             0.60 <= accuracies[0] <= 0.93)]  # fmt: skip
    lowest, highest = (0.92, 0.95) if quick else (0.945, 0.960)
    last = accuracies[-1]
    rows.append((f"accuracy after epoch {len(accuracies) - 1}", last,
                 f"{lowest:.3f} to {highest:.3f}", lowest <= last <= highest))  # fmt: skip
    return rows


# -- 3. saturation ---------------------------------------------------------------------------------


class Outputs:
    """Callback that keeps the neuron's output after each epoch."""

    def __init__(self, net):
        self.values = []
        self.on_epoch_end(net)

    def on_epoch_end(self, net, history=None):
        self.values.append(float(net.feedforward([1.0])[0]))


def neuron(loss, start):
    """Train one neuron to answer 1 with 0, from start = (w, b).

    Returns its first dC/dw, and its outputs from the start to after the last epoch.
    """
    net = fastbp.Network([1, 1], output="sigmoid", loss=loss, dtype="float64")
    net.weights[0][...], net.biases[0][...] = start
    first = net.gradient([[1.0]], [0.0]).weights[0].item()
    outputs = Outputs(net)
    net.fit(
        [[1.0]], [0.0],
        epochs=NEURON_EPOCHS, batch_size=1, learning_rate=NEURON_RATE, callbacks=[outputs],
    )  # fmt: skip
    return first, outputs.values


def neuron_by_hand(loss, start):
    """Return the outputs that `neuron` has to return, in plain floats."""
    (w, b), outputs = start, []
    for _ in range(NEURON_EPOCHS + 1):
        a = 1 / (1 + math.exp(-(w + b)))
        outputs.append(a)
        delta = a * a * (1 - a) if loss == "quadratic" else a  # (a - y) sigma'(z), or a - y
        w, b = w - NEURON_RATE * delta, b - NEURON_RATE * delta
    return outputs


MODERATE, SATURATED = (0.6, 0.9), (2.0, 2.0)
NEURONS = {
    # (cost, start): output at the start, first dC/dw, output at the end.
    # The outputs under the quadratic cost are the book's, in its two digits.
    ("quadratic", MODERATE): (0.82, 0.1219, 0.09),
    ("quadratic", SATURATED): (0.98, 0.0173, 0.20),
    ("cross-entropy", SATURATED): (0.98, 0.9820, 0.01),
}


def below_half(outputs):
    """Return after how many epochs the output is below 1/2."""
    return next(epoch for epoch, a in enumerate(outputs) if a < 0.5)


def check_neurons(neurons):
    """Return the rows on saturation, of what `neuron` returned by cost and start."""
    rows = []
    for key, (first, outputs) in neurons.items():
        loss, (w, b) = key
        at_start, slope, at_end = NEURONS[key]
        by_hand = neuron_by_hand(*key)
        apart = float(np.max(np.abs(np.subtract(outputs, by_hand))))
        name = f"neuron at w={w:g} b={b:g}, {loss}"
        rows += [
            (f"{name}: output at the start", outputs[0], f"{at_start:.2f}",
             abs(outputs[0] - at_start) <= 0.005),
            (f"{name}: first dC/dw", first, f"{slope:.4f}", abs(first - slope) <= 6e-5),
            (f"{name}: output after {NEURON_EPOCHS} epochs", outputs[-1], f"{at_end:.2f}",
             abs(outputs[-1] - at_end) <= 0.005),
            (f"{name}: off from plain floats", apart, "< 1e-12", apart < 1e-12),
        ]  # fmt: skip
    slow, quick = (below_half(neurons[key][1]) for key in list(NEURONS)[1:])
    rows.append(("epochs until below 1/2 from w=2 b=2, quadratic : cross-entropy",
                 f"{slow} : {quick}", "232 : 17", (slow, quick) == (232, 17)))  # fmt: skip
    return rows


# -- all of it -------------------------------------------------------------------------------------


def draw(accuracies, history, neurons, path):
    figure, (left, right) = new_figure(2, "The book's Network, and one neuron that is badly wrong")
    epochs = range(len(accuracies))
    left.plot(epochs, [100 * a for a in accuracies], "o-", ms=4, color=BLUE, label="test images")
    left.plot(epochs, [100 * a for a in history.accuracy], "s--", ms=4, color=VERMILLION,
              label="training images, as seen during the epoch")  # fmt: skip
    left.set(title="784-30-10, mini-batches of 10, learning rate 3", xlabel="epoch",
             ylabel="accuracy (%)")  # fmt: skip
    left.xaxis.get_major_locator().set_params(integer=True)
    looks = ((GREEN, ":"), (BLUE, "-"), (VERMILLION, "--"))
    for (colour, line), (key, (_, outputs)) in zip(looks, neurons.items(), strict=True):
        loss, (w, b) = key
        right.plot(outputs, line, color=colour, label=f"{loss}, w = {w:g}, b = {b:g}")
    right.set(title=f"One neuron, target 0, learning rate {NEURON_RATE}", ylim=(0, 1),
              xlabel="epoch (one step each)", ylabel="output a (no unit)")  # fmt: skip
    left.legend()
    right.legend(title="cost, start", fontsize=8, loc="center", bbox_to_anchor=(0.42, 0.55))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save(figure, path)


def main(argv=None):
    args = parser(__doc__, "book_network.png").parse_args(argv)
    data = load_mnist(args.data_dir)
    rows = check_equations(*data[:2], args.seed)
    accuracies, history = train(data, args.seed, QUICK_EPOCHS if args.quick else EPOCHS)
    print(f"{sum(history.seconds):.1f} s of training")
    rows += check_training(accuracies, args.quick)
    neurons = {key: neuron(*key) for key in NEURONS}
    rows += check_neurons(neurons)
    draw(accuracies, history, neurons, args.output)
    return report(rows)


if __name__ == "__main__":
    run(main)
