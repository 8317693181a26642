"""The dense kernels, called as backend.py calls them: storage rows, outputs full of NaN."""

import numpy as np
import pytest

from fastbp import kernels, reference
from fastbp.model.layout import aligned, stride

WIDTHS = (1, 2, 7, 17, 64, 100)
BATCHES = (1, 2, 5, 33)


def stored(x, dtype):
    """Rows of x as storage rows, the padding zero."""
    x = np.atleast_2d(x)
    out = np.zeros((len(x), stride(x.shape[1], dtype)), dtype)
    out[:, : x.shape[1]] = x
    return out


def read_only(x):
    x = np.ascontiguousarray(x)
    x.flags.writeable = False
    return x


def empty(rows, width, dtype):
    """Storage rows full of NaN, between guards; the array and the check of its guards."""
    row = stride(width, dtype)
    around = np.full((rows + 2, row), -77, dtype)
    around[1:-1] = np.nan
    return around[1:-1], lambda: bool((around[[0, -1]] == -77).all())


@pytest.fixture(params=WIDTHS)
def layer(request, rng, dtype):
    """For one width and all others: (batch, n_in, n_out, random(...))."""
    n_out = request.param

    def random(*shape):
        return rng.standard_normal(shape).astype(dtype)

    return [(batch, n_in, n_out, random) for n_in in WIDTHS for batch in BATCHES]


def test_affine(layer, dtype, assert_close):
    for batch, n_in, n_out, random in layer:
        x, W, b = random(batch, n_in), random(n_out, n_in), random(n_out)
        expected = np.empty((batch, n_out), dtype)
        reference.affine(x, W, b, expected)
        out, untouched = empty(batch, n_out, dtype)
        rows = np.arange(len(x))
        kernels.affine(read_only(x), stored(W.T, dtype), stored(b, dtype)[0], rows, out)
        assert_close(out[:, :n_out], expected, where=f"{n_in} -> {n_out}, batch {batch}")
        assert not out[:, n_out:].any()
        assert untouched()


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "identity"])
def test_backprop_delta(activation, layer, dtype, assert_close):
    for batch, n, n_next, random in layer:
        W, delta, a = random(n_next, n), random(batch, n_next), np.tanh(random(batch, n))
        expected = np.empty((batch, n), dtype)
        reference.backprop_delta(W, delta, a, activation, expected)
        out, untouched = empty(batch, n, dtype)
        scratch = aligned(stride(n_next, dtype) * stride(n, dtype), dtype)
        scratch[:] = np.nan
        code = kernels.ACTIVATION_CODES[activation]
        kernels.backprop_delta(
            stored(W.T, dtype), stored(delta, dtype), stored(a, dtype), code, out, scratch
        )
        assert_close(out[:, :n], expected, where=f"{n_next} -> {n}, batch {batch}")
        assert untouched()


def test_weight_gradient(layer, dtype, assert_close):
    for batch, n_in, n_out, random in layer:
        a, delta = random(batch, n_in), random(batch, n_out)
        expected = np.empty((n_out, n_in), dtype)
        reference.weight_gradient(a, delta, expected)
        dW, untouched = empty(n_in, n_out, dtype)
        kernels.weight_gradient(read_only(a), stored(delta, dtype), np.arange(len(a)), dW)
        assert_close(dW[:, :n_out].T, expected, where=f"{n_in} -> {n_out}, batch {batch}")
        assert not dW[:, n_out:].any()
        assert untouched()


def test_bias_gradient(layer, dtype, assert_close):
    for batch, _, n_out, random in layer:
        delta = random(batch, n_out)
        expected, db = np.empty(n_out, dtype), np.full(n_out, np.nan, dtype)
        reference.bias_gradient(delta, expected)
        kernels.bias_gradient(read_only(delta), db)
        assert_close(db, expected, extra=np.finfo(dtype).eps * np.abs(delta).max())


@pytest.mark.parametrize("name", ["batch_update", "outer_update"])
def test_updates(name, layer, dtype, assert_close):
    rate = np.dtype(dtype).type(0.3)
    for batch, n_in, n_out, random in layer:
        a, delta, W, b = (
            random(batch, n_in),
            random(batch, n_out),
            random(n_out, n_in),
            random(n_out),
        )
        storage, bias, deltas = stored(W.T, dtype), stored(b, dtype)[0], stored(delta, dtype)
        if name == "outer_update":  # of one sample
            a, delta, deltas = a[0], delta[0], deltas[0]
        getattr(kernels, name)(storage, bias, read_only(a), deltas, np.arange(batch), rate)
        getattr(reference, name)(W, b, a, delta, rate)
        where = f"{n_in} -> {n_out}, batch {batch}"
        assert_close(storage[:, :n_out].T, W, where=where)
        assert_close(bias[:n_out], b, where=where)
        assert not storage[:, n_out:].any()
        assert not bias[n_out:].any()
