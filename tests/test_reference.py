"""The specification itself: against finite differences and against what is known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp import reference

OUTPUTS = sorted(reference.LOSSES)
HIDDEN = list(reference.DERIVATIVES)


def gradient(net, X, y):
    """Flat gradient and losses of the reference."""
    grads = net.layout.zeros()
    losses = reference.gradient(
        net.model, *net.layout.views(net.params), X, y, *net.layout.views(grads)
    )
    return grads, losses


def rows(net, targets):
    return targets.rows(slice(None), net.model.sizes[-1])


# -- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("output", OUTPUTS, ids="-".join)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_backprop_is_the_slope_of_the_mean_loss(
    hidden, output, bias, make_net, make_data, assert_close
):
    """(BP1) to (BP4) against central differences, parameter by parameter."""
    net = make_net((3, 5, 4, 3), output, hidden, bias=bias)
    X, targets = make_data(net, 4, labels=False, density=1)
    y = rows(net, targets)
    analytic, _ = gradient(net, X, y)
    numeric = net.layout.zeros()
    step = 1e-5
    for part, slope in zip(flat_parts(net, net.params), flat_parts(net, numeric), strict=True):
        for i in np.ndindex(part.shape):
            old = part[i]
            losses = []
            for part[i] in (old - step, old + step):
                found, _ = reference.evaluate(net.model, *net.layout.views(net.params), X, y)
                losses.append(found.mean())
            part[i] = old
            slope[i] = (losses[1] - losses[0]) / (2 * step)
    for mine, theirs in zip(flat_parts(net, numeric), flat_parts(net, analytic), strict=True):
        assert theirs.any()
        assert_close(mine, theirs, "differences")


def flat_parts(net, flat):
    """All arrays of a buffer that are learnt."""
    weights, biases = net.layout.views(flat)
    return [*weights, *biases] if net.model.bias else list(weights)


@pytest.mark.parametrize("output", OUTPUTS, ids="-".join)
def test_a_batch_gradient_is_the_mean_over_its_samples(
    output, make_net, make_data, assert_close, dtype
):
    net = make_net((6, 5, 4), output, "tanh", dtype)
    X, targets = make_data(net, 7)
    y = rows(net, targets)
    whole, losses = gradient(net, X, y)
    single = [gradient(net, X[i : i + 1], y[i : i + 1]) for i in range(7)]
    assert_close(np.mean([grads for grads, _ in single], axis=0, dtype=dtype), whole)
    assert_close(np.concatenate([loss for _, loss in single]), losses, dtype=dtype)


def test_the_order_inside_a_batch_does_not_matter(make_net, make_data, assert_close, rng, dtype):
    net = make_net((6, 5, 4), dtype=dtype)
    X, targets = make_data(net, 9)
    y = rows(net, targets)
    turn = rng.permutation(9)
    assert_close(gradient(net, X[turn], y[turn])[0], gradient(net, X, y)[0])


def test_without_biases_their_gradient_is_zero(make_net, make_data):
    net = make_net((6, 5, 4), bias=False)
    X, targets = make_data(net, 3)
    grads = net.layout.zeros()
    grads[:] = np.nan
    weights, biases = net.layout.views(grads)
    y = rows(net, targets)
    reference.gradient(net.model, *net.layout.views(net.params), X, y, weights, biases)
    assert not any(b.any() for b in biases)


# -- activations -----------------------------------------------------------------------------------

# name: values at -inf, -1000, 0, 1000, inf
LIMITS = {
    "sigmoid": [0, 0, 0.5, 1, 1],
    "tanh": [-1, -1, 0, 1, 1],
    "relu": [0, 0, 0, 1000, np.inf],
    "identity": [-np.inf, -1000, 0, 1000, np.inf],
    "elu": [-1, -1, 0, 1000, np.inf],
    "silu": [0, 0, 0, 1000, np.inf],
    "silu_prime": [0, 0, 0.5, 1, 1],
    "gelu": [0, 0, 0, 1000, np.inf],
    "gelu_prime": [0, 0, 0.5, 1, 1],
}


@pytest.mark.parametrize("name", LIMITS)
def test_saturated_inputs_give_the_limits(name, dtype):
    z = np.array([-np.inf, -1000, 0, 1000, np.inf], dtype)
    out = np.full_like(z, np.nan)
    getattr(reference, name)(z, out)
    assert out.tolist() == LIMITS[name]


@pytest.mark.parametrize("name", HIDDEN)
def test_the_derivative_from_z_and_from_a_agree_with_differences(name, assert_close):
    z = np.linspace(-4, 4, 40)  # not at the kink
    step = 1e-6
    high, low, a = np.empty_like(z), np.empty_like(z), np.empty_like(z)
    from_z, from_a = np.empty_like(z), np.empty_like(z)
    value, slope = reference.ACTIVATIONS[name], reference.DERIVATIVES[name]
    value(z + step, high)
    value(z - step, low)
    value(z, a)
    slope(a, from_a)
    getattr(reference, f"{name}_prime")(z, from_z)
    assert_close((high - low) / (2 * step), from_z, "differences")
    assert_close(from_a, from_z, "elementwise")


@settings(max_examples=50, deadline=None, database=None, derandomize=True)
@given(
    z=st.lists(st.floats(-50, 50), min_size=1, max_size=9),
    shift=st.floats(-1000, 1000),
)
def test_softmax_sums_to_one_and_ignores_a_shift(z, shift):
    z = np.array([z])
    out, shifted = np.empty_like(z), np.empty_like(z)
    reference.softmax(z, out)
    reference.softmax(z + shift, shifted)
    assert out.sum() == pytest.approx(1, rel=1e-14)
    assert np.allclose(out, shifted, rtol=1e-9, atol=1e-12)


# -- losses ----------------------------------------------------------------------------------------

BIG = 1000.0
# loss, activation, z, y: the loss and the delta, exactly
SATURATED = [
    ("cross-entropy", "sigmoid", [BIG], [1], 0, [0]),
    ("cross-entropy", "sigmoid", [BIG], [0], BIG, [1]),
    ("cross-entropy", "sigmoid", [-BIG], [0], 0, [0]),
    ("cross-entropy", "sigmoid", [-BIG], [1], BIG, [-1]),
    ("cross-entropy", "sigmoid", [BIG, -BIG], [0, 1], 2 * BIG, [1, -1]),
    ("cross-entropy", "softmax", [BIG, 0, -BIG], [1, 0, 0], 0, [0, 0, 0]),
    ("cross-entropy", "softmax", [BIG, 0, -BIG], [0, 1, 0], BIG, [1, -1, 0]),
    ("cross-entropy", "softmax", [BIG, 0, -BIG], [0, 0, 1], 2 * BIG, [1, 0, -1]),
    ("quadratic", "sigmoid", [BIG, -BIG], [0, 0], 0.5, [0, 0]),
    ("quadratic", "tanh", [BIG, -BIG], [1, 1], 2, [0, 0]),
    ("quadratic", "relu", [BIG, -BIG], [BIG - 2, 1], 2.5, [2, 0]),
    ("quadratic", "identity", [BIG, -BIG], [BIG - 2, -BIG], 2, [2, 0]),
    ("quadratic", "softmax", [BIG, -BIG], [0, 1], 1, [0, 0]),
]


@pytest.mark.parametrize(("loss", "activation", "z", "y", "value", "delta"), SATURATED)
def test_losses_stay_exact_in_saturation(loss, activation, z, y, value, delta, dtype):
    z, y = np.array([z], dtype), np.array([y], dtype)
    a, found, losses = np.full_like(z, np.nan), np.full_like(z, np.nan), np.full(1, np.nan)
    reference.output_delta(loss, activation, z, y, a, found, losses)
    assert losses[0] == value
    assert found[0].tolist() == delta


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_small_losses_keep_their_digits(activation):
    """Where a is 1 to the last bit, the loss is still exp(-z), not 0."""
    z, y = np.array([[45.0, 0.0]]), np.array([[1.0, 0.5]])
    if activation == "softmax":
        y[:] = [[1, 0]]
    a, delta, losses = np.empty_like(z), np.empty_like(z), np.empty(1)
    reference.output_delta("cross-entropy", activation, z, y, a, delta, losses)
    expected = np.exp(-45.0) + (np.log(2) if activation == "sigmoid" else 0)
    assert a[0, 0] == 1
    assert losses[0] == pytest.approx(expected, rel=1e-15)


# -- learning --------------------------------------------------------------------------------------


def test_a_step_subtracts_the_gradient(make_net, make_data, assert_close, dtype):
    net = make_net((6, 5, 4), dtype=dtype)
    X, targets = make_data(net, 3)
    y = rows(net, targets)
    grads, losses = gradient(net, X, y)
    params = net.copy_params()
    seen, outputs = reference.sgd_step(net.model, *net.layout.views(params), X, y, 0.5)
    assert_close(params, net.params - net.params.dtype.type(0.5) * grads)
    assert np.array_equal(seen, losses)
    assert outputs.shape == (3, 4)


def test_one_sample_and_a_batch_of_one_learn_alike(make_net, assert_close, dtype):
    net = make_net((6, 5), dtype=dtype)
    a_prev = np.linspace(-1, 1, 6, dtype=dtype)
    delta = np.linspace(2, 1, 5, dtype=dtype)
    one, many = ([part[0].copy() for part in net.layout.views(net.params)] for _ in range(2))
    reference.outer_update(*one, a_prev, delta, 0.3)
    reference.batch_update(*many, a_prev[None], delta[None], 0.3)
    for mine, theirs in zip(one, many, strict=True):
        assert_close(mine, theirs)


def test_an_epoch_is_its_steps_with_a_smaller_last_batch(make_net, make_data):
    net = make_net((6, 5, 4))
    X, targets = make_data(net, 7)
    order = np.array([6, 0, 5, 1, 4, 2, 3])
    params, expected = net.copy_params(), net.copy_params()
    steps = reference.sgd_epoch(
        net.model, *net.layout.views(params), X, lambda i: targets.rows(i, 4), order, 3, 0.5
    )
    assert [batch.tolist() for batch, _, _ in steps] == [[6, 0, 5], [1, 4, 2], [3]]
    for batch in ([6, 0, 5], [1, 4, 2], [3]):
        y = targets.rows(np.array(batch), 4)
        reference.sgd_step(net.model, *net.layout.views(expected), X[batch], y, 0.5)
    assert np.array_equal(params, expected)


@pytest.mark.parametrize("bad", [np.nan, 1e200])  # whose square is infinite
def test_an_epoch_ends_before_a_step_whose_loss_is_not_finite(bad, make_net, make_data):
    net = make_net((6, 4), ("quadratic", "identity"))
    X, targets = make_data(net, 6)
    X[3] = bad
    params, expected = net.copy_params(), net.copy_params()
    args = net.model, *net.layout.views(params), X, lambda i: targets.rows(i, 4)
    with np.errstate(over="ignore"):
        seen = list(reference.sgd_epoch(*args, np.arange(6), 2, 0.5))
    y = targets.rows(np.arange(2), 4)
    reference.sgd_step(net.model, *net.layout.views(expected), X[:2], y, 0.5)
    assert [batch.tolist() for batch, _, _ in seen] == [[0, 1], [2, 3]]
    assert np.array_equal(params, expected)


def test_without_biases_they_are_not_learnt(make_net, make_data):
    net = make_net((6, 5, 4), bias=False)
    X, targets = make_data(net, 3)
    params = net.copy_params()
    reference.sgd_step(net.model, *net.layout.views(params), X, rows(net, targets), 0.5)
    weights, biases = net.layout.views(params)
    assert not any(b.any() for b in biases)
    assert not np.array_equal(weights[0], net.layout.views(net.params)[0][0])
