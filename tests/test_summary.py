"""The table of a network: counts against the arrays themselves, and how it looks."""

import numpy as np
import pytest

from fastbp import Network
from fastbp.model import summary as summaries

NETS = {
    "deep": {"sizes": [784, 100, 50, 10], "activation": "relu", "loss": "cross-entropy"},
    "no biases": {"sizes": [7, 5, 3], "bias": False, "dtype": "float64"},
    "one layer": {"sizes": [3, 1]},
    "wide": {"sizes": [1000, 2000, 2], "input_scale": 1 / 255},
}


def numbers(line):
    return [int(word.replace(",", "")) for word in line.split() if word[0].isdigit()]


@pytest.mark.parametrize("name", NETS)
def test_counts_are_those_of_the_arrays(name, backend):
    net = Network(**NETS[name], backend=backend)
    found = summaries.layers(net.config)
    biases = net.biases or [np.empty(0)] * len(net.weights)
    for l, (layer, W, b) in enumerate(zip(found, net.weights, biases, strict=True)):
        assert (layer.n_out, layer.n_in) == W.shape
        assert layer.parameters == W.size + b.size
        assert layer.size == W.nbytes + b.size * W.itemsize
        assert layer.forward == 2 * W.size + b.size  # a product and an addition; the bias
        delta = 2 * W.size if l else 0
        assert layer.training == layer.forward + (2 * W.size + b.size) + delta
    assert sum(layer.parameters for layer in found) == len(net.to_vector())


@pytest.mark.parametrize("name", NETS)
def test_the_table_holds_all_and_its_columns_are_aligned(name):
    net = Network(**NETS[name])
    lines = net.summary().splitlines()
    rule = lines[3]
    assert set(rule) == {"-"}
    assert lines[-4] == rule
    assert all(len(line) == len(rule) for line in (lines[2], *lines[4:-4], lines[-3]))
    assert len(lines[1]) <= len(rule) <= 100
    found = summaries.layers(net.config)
    rows = lines[4:-4]
    assert len(rows) == len(found)
    for layer, row in zip(found, rows, strict=True):
        counts = [layer.n_in, layer.n_out, *layer[4:]]
        assert numbers(row)[-6:] == counts
        assert layer.activation in row
    totals = [sum(values) for values in list(zip(*found, strict=True))[4:]]
    assert numbers(lines[-3]) == totals
    assert numbers(lines[-2]) == [2 * totals[0]]
    assert numbers(lines[-1]) == [net.params.nbytes]


def test_the_head_names_what_is_out_of_the_ordinary():
    net = Network([3, 2], bias=False, dtype="float64", input_scale=0.25, backend="numpy")
    assert net.summary().splitlines()[0] == (
        "quadratic loss, float64, backend numpy, no biases, inputs x 0.25"
    )
    plain = Network([3, 2]).summary().splitlines()[0]
    assert all(words in plain for words in ("quadratic", "float32", "numba"))
    assert not any(words in plain for words in ("biases", "inputs"))
