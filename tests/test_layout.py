"""The places of parameters in the flat buffer."""

import numpy as np
import pytest

from cases import crossed
from fastbp import SGD, Adam, Network
from fastbp.model.layout import LINE, Layout, aligned, stride

SIZES = [(1, 1), (3, 2), (7, 17, 1), (64, 100, 13, 10), (2, 128, 129)]


def arange_views(layout):
    """A buffer whose parameters are numbered, and its views."""
    flat = layout.zeros()
    layout.from_vector(np.arange(1.0, layout.num_parameters + 1), flat)
    return flat, *layout.views(flat)


def test_a_row_is_whole_lines_and_an_odd_number_of_many(dtype):
    for n in (1, 2, 7, 8, 15, 16, 17, 100, 128, 129, 784, 1024):
        row = stride(n, dtype)
        lines, rest = divmod(row * np.dtype(dtype).itemsize, LINE)
        assert rest == 0, n
        assert row >= n
        assert lines < 4 or lines % 2, n
        assert row - n < 2 * LINE // np.dtype(dtype).itemsize  # and no waste


def test_buffers_start_on_a_line(dtype):
    for size in (0, 1, 5, 1000):
        buffers = [aligned(size, dtype) for _ in range(8)]
        assert all(b.ctypes.data % LINE == 0 for b in buffers if size), size
        assert all((b.size, b.dtype) == (size, np.dtype(dtype)) for b in buffers), size
        assert all(b.flags.writeable and b.flags.c_contiguous for b in buffers), size


@pytest.mark.parametrize("sizes", SIZES)
def test_views_have_the_shapes_of_the_layers(sizes, dtype):
    layout = Layout(sizes, dtype)
    weights, biases = layout.views(layout.zeros())
    assert [W.shape for W in weights] == list(zip(sizes[1:], sizes, strict=False))
    assert [b.shape for b in biases] == [(n,) for n in sizes[1:]]


@pytest.mark.parametrize("sizes", SIZES)
def test_views_are_writable_and_do_not_overlap(sizes, dtype):
    layout = Layout(sizes, dtype)
    flat, weights, biases = arange_views(layout)
    found = np.concatenate([part.ravel() for part in (*weights, *biases)])
    assert sorted(found) == list(range(1, layout.num_parameters + 1))
    assert np.count_nonzero(flat) == layout.num_parameters  # all the rest is padding, and zero
    weights[0][-1, -1] = -5
    assert np.count_nonzero(flat == -5) == 1


@pytest.mark.parametrize("sizes", SIZES)
def test_each_layer_starts_on_a_line_and_is_input_major(sizes, dtype):
    layout = Layout(sizes, dtype)
    flat, weights, biases = arange_views(layout)
    for l in range(1, len(sizes)):
        assert layout.w[l] * flat.itemsize % LINE == 0
        matrix = layout.matrix(flat, l)
        assert np.array_equal(matrix[:, : sizes[l]], weights[l - 1].T)
        assert np.array_equal(layout.row(flat, l)[: sizes[l]], biases[l - 1])


@crossed(sizes=SIZES, bias=[True, False], dtype=["float32", "float64"])
def test_the_vector_goes_row_by_row_and_layer_by_layer(sizes, bias, dtype):
    layout = Layout(sizes, dtype, bias)
    flat, weights, biases = arange_views(layout)
    vector = layout.to_vector(flat)
    assert vector.dtype == dtype
    assert np.array_equal(vector, np.arange(1, layout.num_parameters + 1))
    assert np.array_equal(weights[0].ravel(), vector[: weights[0].size])
    if bias:
        assert np.array_equal(biases[-1], vector[-biases[-1].size :])
    else:
        assert not any(b.any() for b in biases)


@pytest.mark.parametrize("noise", [1e3, 1e38, np.inf, np.nan])
@pytest.mark.parametrize("bias", [True, False])
def test_what_is_written_into_the_padding_is_not_heard(bias, noise, backend, dtype, rng):
    """In outputs, losses, gradients, penalties, norms, steps; biases that are none are padding."""
    X, y = rng.standard_normal((60, 12)).astype(dtype), rng.integers(0, 3, 60)
    ends = []
    for fill in (None, noise):
        net = Network([12, 9, 3], loss="cross-entropy", bias=bias, dtype=dtype, backend=backend,
                      activation="relu", seed=0)  # fmt: skip
        marks = np.zeros_like(net.params)
        for part in sum(net._layout.views(marks), ()):
            part[...] = 1
        for b in net._layout.views(marks)[1]:
            b[...] = bias

        def write(net, *_, marks=marks, fill=fill):
            if fill is not None:
                net.params[marks == 0] = fill

        class Noise:
            on_epoch_end = on_fit_begin = staticmethod(write)

        write(net)
        found = [net.feedforward(X), net.feedforward(X[0]), [net.loss(X, y), net.accuracy(X, y)]]
        for n in (1, 60):
            write(net)
            gradient = net.gradient(X[:n], y[:n])
            found += [gradient.to_vector(), [gradient.loss]]
        write(net)
        net.update_mini_batch(X, y, 0.01)
        for rule in (SGD(l2=0.1), SGD(0.9, l2=0.1, clip_norm=0.5), Adam(l2=0.1)):
            history = net.fit(
                X, y, epochs=3, batch_size=16, learning_rate=0.01, optimizer=rule,
                validation_data=(X, y), callbacks=[Noise()],
            )  # fmt: skip
            found += [history.loss, history.penalty, history.val_loss, net.to_vector()]
        ends.append(found)
    for quiet, loud in zip(*ends, strict=True):
        assert np.array_equal(quiet, loud)
