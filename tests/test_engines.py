"""The same operations from either backend, on logical arrays of any shape and memory order."""

import inspect
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastbp import kernels, reference
from fastbp.engines import get_backend
from fastbp.engines.numba_engine import NumbaEngine
from fastbp.kernels.walk import records
from fastbp.model import config
from fastbp.reference import ELEMENTWISE, Targets

SIZES = (1, 2, 7, 17, 64, 100)
BATCHES = (1, 6)


def numba_and_numpy():
    return get_backend("numba"), get_backend("numpy")


# -- operations by name ----------------------------------------------------------------------------


def _elementwise(name):
    def arguments(random, batch, n, m):
        z = 3 * random(batch, n)
        return [np.tanh(z) if name.endswith("from_a") else z]

    return arguments


# Operation: its arguments for (random, batch, n, m), and how many of the first are written to.
# Those with a choice of loss or activation stand once for each.
OPERATIONS = {name: (name, _elementwise(name), 0) for name in ELEMENTWISE}
OPERATIONS |= {
    "softmax": ("softmax", lambda r, b, n, m: [r(b, n)], 0),
    "affine": ("affine", lambda r, b, n, m: [r(b, m), r(n, m), r(n)], 0),
    "weight_gradient": ("weight_gradient", lambda r, b, n, m: [r(b, m), r(b, n)], 0),
    "bias_gradient": ("bias_gradient", lambda r, b, n, m: [r(b, n)], 0),
    "outer_update": ("outer_update", lambda r, b, n, m: [r(n, m), r(n), r(m), r(n), 0.3], 2),
    "batch_update": ("batch_update", lambda r, b, n, m: [r(n, m), r(n), r(b, m), r(b, n), 0.3], 2),
    "adam_update": (
        "adam_update",
        lambda r, b, n, m: [r(n), r(n), abs(r(n)), r(n), 0.3, 0.9, 0.999, 1e-8, 1 + m],
        3,
    ),
}
OPERATIONS["rmsprop_update"] = (
    "rmsprop_update", lambda r, b, n, m: [r(n), abs(r(n)), r(n), 0.3, 0.99, 1e-8], 2
)  # fmt: skip
for _name in ("momentum_update", "nesterov_update"):
    OPERATIONS[_name] = (_name, lambda r, b, n, m: [r(n, m), r(n, m), r(n, m), 0.3, 0.9], 2)
for _activation in ("sigmoid", "tanh", "relu", "identity"):
    OPERATIONS[f"backprop_delta-{_activation}"] = (
        "backprop_delta",
        lambda r, b, n, m, f=_activation: [r(m, n), r(b, m), np.tanh(r(b, n)), f],
        0,
    )
for _output in reference.LOSSES:
    OPERATIONS["output_delta-" + "-".join(_output)] = (
        "output_delta",
        lambda r, b, n, m, output=_output: [*output, r(b, n), abs(r(b, n))],
        0,
    )


def as_it_is(x):
    return x.copy()


def fortran(x):
    return np.array(x, order="F")


def strided(x):
    wide = np.ones([2 * n for n in x.shape], x.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def backwards(x):
    return x[::-1].copy()[::-1]


ARRANGEMENTS = [as_it_is, fortran, strided, backwards]


def call(backend, operation, arguments, arrange):
    """Call an operation on rearranged, read-only inputs; return all that it returns or writes."""
    name, _, written = OPERATIONS[operation]
    arrays = [arrange(x) if isinstance(x, np.ndarray) else x for x in arguments]
    for x in arrays[written:]:
        if isinstance(x, np.ndarray):
            x.flags.writeable = False
    found = getattr(backend, name)(*arrays)
    for before, after in zip(arguments[written:], arrays[written:], strict=True):
        assert np.array_equal(before, after), "an input was modified"
    if written:
        assert found is None
        return arrays[:written]
    return found if isinstance(found, tuple) else (found,)


@pytest.fixture
def random(rng, dtype):
    return lambda *shape: rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_is_the_same_from_both_backends(operation, random, dtype, assert_close):
    """All pairs of widths, one sample and several."""
    eps = np.finfo(dtype).eps  # of values near 1 that cancel: a - y, 1 - a, sums of deltas
    for n in SIZES:
        for m in SIZES:
            for batch in BATCHES:
                arguments = OPERATIONS[operation][1](random, batch, n, m)
                fast, slow = (call(b, operation, arguments, as_it_is) for b in numba_and_numpy())
                for mine, theirs in zip(fast, slow, strict=True):
                    assert mine.dtype == theirs.dtype
                    assert_close(
                        mine,
                        theirs,
                        dtype=dtype,
                        extra=8 * eps,
                        where=f"n {n}, m {m}, batch {batch}",
                    )
                    assert mine.any() or n * batch < 7


@pytest.mark.parametrize("operation", OPERATIONS)
def test_inputs_of_any_memory_order_are_taken_and_left_alone(operation, backend, random, dtype):
    """Bit for bit what C-ordered ones give."""
    chosen = get_backend(backend)
    arguments = OPERATIONS[operation][1](random, 5, 7, 17)
    expected = call(chosen, operation, arguments, as_it_is)
    for arrange in ARRANGEMENTS:
        found = call(chosen, operation, arguments, arrange)
        for mine, theirs in zip(found, expected, strict=True):
            if backend == "numba":
                assert np.array_equal(mine, theirs), arrange
            else:  # BLAS adds in another order
                assert np.allclose(mine, theirs, rtol=1e-5, atol=1e-6), arrange


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if OPERATIONS[o][2] == 0])
def test_results_are_new_and_writable(operation, backend, random):
    arguments = OPERATIONS[operation][1](random, 5, 7, 17)
    for found in call(get_backend(backend), operation, arguments, as_it_is):
        assert found.flags.writeable
        assert found.flags.c_contiguous
        assert not any(np.shares_memory(found, x) for x in arguments if isinstance(x, np.ndarray))


def test_weights_that_are_views_learn_in_place(backend, random, make_net, dtype):
    """weights[l] is a transposed view of storage: rows of biases and pads beside it stay."""
    net = make_net((7, 5), dtype=dtype)
    (W,), (b,) = net.layout.views(net.params)
    old = W.copy(), b.copy()
    get_backend(backend).batch_update(W, b, random(3, 7), random(3, 5), 0.5)
    assert not np.array_equal(W, old[0])
    assert not np.array_equal(b, old[1])
    assert not net.params[net.padding()].any()


WRONG_SHAPES = {
    "a velocity of 2": ("momentum_update", lambda r: [r(50), r(2), r(50), 0.1, 0.9], "velocity"),
    "a gradient of 2": ("nesterov_update", lambda r: [r(50), r(50), r(2), 0.1, 0.9], "g must"),
    "a moment of 2": ("adam_update", lambda r: [r(9), r(9), r(2), r(9), 0.1, 0.9, 0.9, 1e-8, 1],
                      r"second must be of the shape of p, \(9,\); got \(2,\)"),
    "b of affine": ("affine", lambda r: [r(5, 3), r(4, 3), r(2)],
                    r"b must be \(n_out,\), with n_out 4 as in W; got \(2,\)"),
    "W of affine": ("affine", lambda r: [r(5, 3), r(4, 7), r(4)], "W must .* n_in 3 as in x"),
    "W flat": ("affine", lambda r: [r(5, 3), r(3), r(4)], r"W must be \(n_out, n_in\)"),
    "b a number": ("affine", lambda r: [r(5, 3), r(4, 3), 2.0], r"b must .*got \(\)"),
    "x a row": ("affine", lambda r: [r(3), r(4, 3), r(4)], "x must"),
    "no sample": ("affine", lambda r: [r(0, 3), r(4, 3), r(4)], "x must .*none of them 0"),
    "deltas": ("weight_gradient", lambda r: [r(5, 3), r(4, 2)], "delta must .* batch 5 as in"),
    "no delta": ("bias_gradient", lambda r: [r(0, 3)], "delta must"),
    "flat deltas": ("bias_gradient", lambda r: [r(3)], "delta must"),
    "one sample's": ("outer_update", lambda r: [r(4, 3), r(4), r(3), r(5), 0.1], "delta must"),
    "a batch": ("outer_update", lambda r: [r(4, 3), r(4), r(1, 3), r(4), 0.1], "a_prev must"),
    "inputs": ("batch_update", lambda r: [r(4, 3), r(4), r(5, 9), r(5, 4), 0.1], "a_prev must"),
    "biases": ("batch_update", lambda r: [r(4, 3), r(9), r(5, 3), r(5, 4), 0.1], "b must"),
    "targets": ("output_delta", lambda r: ["quadratic", "sigmoid", r(5, 3), r(5, 2)], "y must"),
    "fewer targets": ("output_delta", lambda r: ["quadratic", "tanh", r(5, 3), r(4, 3)], "y must"),
    "weights above": ("backprop_delta", lambda r: [r(2, 4), r(5, 3), r(5, 4), "relu"], "delta_n"),
    "activations": ("backprop_delta", lambda r: [r(2, 4), r(5, 2), r(5, 3), "relu"], "a must"),
    "scores": ("softmax", lambda r: [r(3)], "z must"),
    "a reading that is not the kernel's": (
        "output_delta", lambda r: ["poisson", "softmax", r(5, 3), r(5, 3)], "must be one of"),
    "a slope that there is not": (
        "backprop_delta", lambda r: [r(2, 4), r(5, 2), r(5, 4), "exp"], "activation must be one"),
    "step 0": ("adam_update", lambda r: [r(9), r(9), r(9), r(9), 0.1, 0.9, 0.9, 1e-8, 0],
               "t must be a finite number, from 1; got 0"),
    "beta 1": ("adam_update", lambda r: [r(9), r(9), r(9), r(9), 0.1, 1.0, 0.9, 1e-8, 1], "beta_1"),
    "no rate": ("momentum_update", lambda r: [r(9), r(9), r(9), np.nan, 0.9], "learning_rate"),
    "momentum in words": ("momentum_update", lambda r: [r(9), r(9), r(9), 0.1, "0.9"], "momentum"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_SHAPES)
def test_what_an_operation_cannot_take_is_refused_alike(case, random):
    """Kernels read and wrote what lies behind an array."""
    name, arguments, message = WRONG_SHAPES[case]
    said, given = [], arguments(random)
    before = [str(x) for x in given]
    for backend in numba_and_numpy():
        with pytest.raises(ValueError, match=message) as refused:
            getattr(backend, name)(*given)
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    assert [str(x) for x in given] == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_numbers_of_other_kinds_are_converted_or_refused_alike(operation, random, dtype):
    """As inputs; what is changed in place cannot be converted."""
    name, make, written = OPERATIONS[operation]
    arguments = make(random, 5, 7, 17)
    arrays = [i for i, x in enumerate(arguments) if isinstance(x, np.ndarray)]
    other = np.float64 if dtype == "float32" else np.float32
    for i in arrays:
        changes = {
            "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
            "a list": lambda x: x.tolist(),
            "integers": lambda x: x.astype(int),
            "complex": lambda x: x.astype(complex),
            "objects": lambda x: x.astype(object),
            "the other precision": lambda x: x.astype(other),
            "half precision": lambda x: x.astype(np.float16),
        }
        for change in changes.values():
            outcomes = []
            for backend in numba_and_numpy():
                given = [x.copy() if isinstance(x, np.ndarray) else x for x in arguments]
                given[i] = change(given[i])
                try:
                    found = getattr(backend, name)(*given)
                except (TypeError, ValueError) as error:
                    outcomes.append(str(error))
                else:
                    found = given[:written] if written else found
                    outcomes.append(found if isinstance(found, (tuple, list)) else (found,))
            fast, slow = outcomes
            if isinstance(slow, str):
                assert fast == slow
                assert "\n" not in slow
            else:
                for mine, theirs in zip(fast, slow, strict=True):
                    assert mine.dtype == theirs.dtype
                    assert np.allclose(mine, theirs, rtol=1e-4, atol=1e-5)


UPDATES = [o for o in OPERATIONS if OPERATIONS[o][2]]


@pytest.mark.parametrize("operation", UPDATES)
def test_what_is_changed_in_place_is_writable_floats_of_its_own(operation, backend, random):
    name, make, written = OPERATIONS[operation]
    for i in range(written):
        for change, error, message in [
            (lambda x: x.astype(int), TypeError, "in place.* got int64"),
            (lambda x: x.astype(x.dtype.newbyteorder(">")), TypeError, "in place.* got >f"),
            (lambda x: x.tolist(), TypeError, "in place.* got list"),
            (np.ndarray.view, ValueError, "writable"),
        ]:
            given = make(random, 5, 5, 5)
            given[i] = change(given[i])
            if error is ValueError:
                given[i].flags.writeable = False
            with pytest.raises(error, match=message):
                getattr(get_backend(backend), name)(*given)
    given = make(random, 5, 5, 5)
    given[1] = given[written] if given[1].shape == given[written].shape else given[0][0]
    with pytest.raises(ValueError, match="must be different arrays"):
        getattr(get_backend(backend), name)(*given)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_operations_keep_every_shape(name, random):
    for shape in [(), (0,), (3, 0), (2, 3, 4)]:
        z = np.asarray(random(*shape))
        fast, slow = (getattr(b, name)(z) for b in numba_and_numpy())
        assert fast.shape == slow.shape == shape
        assert np.allclose(fast, slow)


def test_every_operation_of_the_reference_is_tested_and_has_a_kernel():
    """By name: what is public in the reference is a kernel, and stands in the table above."""
    # Through the engines.
    whole_network = {"feedforward", "evaluate", "gradient", "sgd_epoch", "optimizer_epoch"}
    # Steps that the kernels fuse.
    only_there = {"forward", "backprop", "sgd_step", "optimizer_step"}
    only_there |= {"standardise"}  # before rows reach either backend
    only_there |= {"activate", "slope"}  # which call others of these, by name
    only_there |= {"masks", "no_masks"}  # which kernels draw where activations lie
    # What zero-skipping needs, and more twins for lanes over the batch.
    only_here = {
        "index_rows",
        "index_entries",
        "narrow_epoch",
        "narrow_gradient",
        "narrow_optimizer_epoch",
    }
    only_here |= {"part_gradient", "narrow_part_gradient", "rule_step"}  # training in halves
    public = {
        name
        for name, value in inspect.getmembers(reference, inspect.isfunction)
        if not name.startswith("_") and value.__module__.startswith(reference.__name__)
    }
    assert public - only_there == set(kernels.KERNELS) - only_here
    assert public - only_there - whole_network == {name for name, *_ in OPERATIONS.values()}


# -- choices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cuda", "Numba", None, 1])
def test_an_unknown_backend_is_named_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"backend .*numba, numpy"):
        get_backend(name)


def test_a_backend_knows_its_name_and_refuses_what_it_has_not(backend):
    chosen = get_backend(backend)
    assert chosen.name == backend
    assert chosen is get_backend(backend)
    with pytest.raises(AttributeError, match="swish"):
        chosen.swish  # noqa: B018


@pytest.mark.parametrize(("density", "path"), [(0.05, "sparse"), (1.0, "dense")])
def test_the_path_follows_the_density_of_the_whole_set(density, path, make_net, rng):
    """Not of its first rows: the first tenth is the opposite."""
    X = (rng.random((3000, 784)) < density).astype(np.uint8)
    X[:300] = density < 0.5
    net = make_net((784, 300, 10), dtype="float32")
    assert NumbaEngine(net.model, net.layout).choose_path(X, 100) == path


def test_the_chosen_path_is_the_one_taken(make_net, make_data):
    def trainer(sizes, density, batch):
        net = make_net(sizes, dtype="float32")
        X, targets = make_data(net, 300, density=density)
        return NumbaEngine(net.model, net.layout).trainer(net.copy_params(), X, targets, batch)

    assert isinstance(trainer((784, 30, 10), 0.1, 10).data, records.Sparse)
    dense, narrow = trainer((784, 300, 10), 1, 10), trainer((4, 3, 2), 1, 300)
    assert isinstance(dense.data, records.Dense)
    assert isinstance(narrow.data, records.Dense)
    assert (dense.path, narrow.path) == ("dense", "narrow")
    assert dense._kernel is kernels.sgd_epoch
    assert narrow._kernel is kernels.narrow_epoch


# -- engines ---------------------------------------------------------------------------------------


@pytest.fixture
def engine(backend, make_net, dtype):
    """An engine of either backend, and its network."""
    net = make_net((20, 9, 4), ("cross-entropy", "softmax"), dtype=dtype, scale=0.5)
    return get_backend(backend).engine(net.model, net.layout), net


def results(engine, net, X, targets):
    """All that an engine computes of a set."""
    params = net.copy_params()
    with engine.trainer(params, X, targets, 4) as trainer:
        trainer.run(np.arange(len(X)), 0, len(X), 0.5)
    return [
        *engine.feedforward(net.params, X),
        *engine.evaluate(net.params, X, targets),
        *engine.gradient(net.params, X, targets),
        params,
        trainer.totals[0],
    ]


@pytest.mark.parametrize("arrange", ARRANGEMENTS)
def test_engines_take_inputs_of_any_memory_order(arrange, engine, make_data, assert_close, dtype):
    engine, net = engine
    for labels in (True, False):
        X, targets = make_data(net, 10, labels)
        other = Targets(arrange(targets.labels), arrange(targets.values))
        arranged = arrange(X)
        arranged.flags.writeable = other.values.flags.writeable = False
        expected = results(engine, net, X, targets)
        for mine, theirs in zip(results(engine, net, arranged, other), expected, strict=True):
            assert_close(mine, theirs, dtype=dtype)
        assert np.array_equal(arranged, X)


@pytest.mark.parametrize("kind", ["uint8", "int64", "bool", "float16", "float32", "float64"])
def test_engines_take_numbers_of_any_kind(kind, engine, rng, assert_close, dtype):
    engine, net = engine
    X = rng.integers(0, 2, (10, 20))
    targets = Targets(rng.integers(0, 4, 10), np.empty((0, 4), dtype))
    expected = results(engine, net, X.astype(dtype), targets)
    for mine, theirs in zip(results(engine, net, X.astype(kind), targets), expected, strict=True):
        assert_close(mine, theirs, dtype=dtype)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_feedforward_sees_what_is_not_finite(value, engine, make_data):
    """In any sample, also where the next ones or those before are sound."""
    engine, net = engine
    X, _ = make_data(net, 10)
    assert engine.feedforward(net.params, X)[1] is True
    for place in ((0, 0), (4, 7), (9, 19)):
        bad = X.copy()
        bad[place] = value
        out, fine = engine.feedforward(net.params, bad)
        assert fine is False
        others = np.arange(10) != place[0]
        assert np.isfinite(out[others]).all()


@pytest.mark.parametrize("path", ["dense", "narrow"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", config.HIDDEN)
def test_a_gradient_sees_what_is_not_finite(activation, value, path, make_net, dtype, rng):
    """Infinity saturates a sigmoid: loss and deltas are finite, but not the gradient."""
    net = make_net((20, 9, 4), hidden=activation, dtype=dtype)
    engine = NumbaEngine(net.model, net.layout)
    arrays = {"X": rng.random((300, 20)).astype(dtype), "y": rng.random((300, 4)).astype(dtype)}

    def fine():
        targets = Targets(np.empty(0, np.int64), arrays["y"])
        return engine.gradient(net.params, arrays["X"], targets, path)[2]

    assert fine() is True
    for name, place in (("X", (0, 0)), ("X", (150, 19)), ("X", (299, 7)), ("y", (299, 3))):
        sound, arrays[name] = arrays[name], arrays[name].copy()
        arrays[name][place] = value
        assert fine() is False
        arrays[name] = sound


def test_a_gradient_leaves_the_parameters_alone(engine, make_data):
    engine, net = engine
    X, targets = make_data(net, 10)
    before = net.params.copy()
    grads, loss, fine = engine.gradient(net.params, X, targets)
    total, _ = engine.evaluate(net.params, X, targets)
    assert np.array_equal(net.params, before)
    assert not np.shares_memory(grads, net.params)
    assert loss == pytest.approx(total / 10, rel=1e-6)
    assert fine is True


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 40, 300])
def test_outputs_have_the_same_bits_for_any_number_of_threads(
    rows, make_net, make_data, dtype, all_take_part
):
    """And one that is not finite is seen in whichever part it lies."""
    net = make_net((20, 17, 4), ("cross-entropy", "softmax"), dtype=dtype, scale=0.5)
    engine = NumbaEngine(net.model, net.layout)
    X, _ = make_data(net, rows)
    X[X < 0.4] = 0  # a row that comes alone would skip them
    one, fine = engine.feedforward(net.params, X)
    assert fine is True
    for threads in (2, 3, 4, 8):
        out, fine = engine.feedforward(net.params, X, threads)
        assert out.tobytes() == one.tobytes()
        assert fine is True
        for row in {0, rows // 2, rows - 1}:
            bad = X.copy()
            bad[row, 3] = np.nan
            assert engine.feedforward(net.params, bad, threads)[1] is False


def test_calls_at_the_same_time_do_not_disturb_each_other(engine, make_data):
    """An engine keeps memory between calls: each call has its own."""
    engine, net = engine
    sets = [make_data(net, n) for n in (3, 10, 40, 200)]

    def walk(number):
        X, targets = sets[number % 4]
        out, _ = engine.feedforward(net.params, X)
        grads, *rest = engine.gradient(net.params, X, targets)
        total = engine.evaluate(net.params, X, targets)
        return out.tobytes(), grads.tobytes(), *rest, *total

    expected = [walk(number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(walk, range(400))):
            assert found == expected[number % 4]


def test_a_slice_ends_with_the_batch_that_begins_in_it(engine, make_data):
    """first <= start < last: a whole batch, also where `last` falls inside it."""
    engine, net = engine
    X, targets = make_data(net, 10)
    params = []
    for last in (5, 8):
        params.append(net.copy_params())
        with engine.trainer(params[-1], X, targets, 4) as trainer:
            trainer.run(np.arange(10), 0, last, 0.5)
    assert np.array_equal(*params)
    with engine.trainer(params[0], X, targets, 4) as trainer:
        trainer.run(np.arange(10), 8, 8, 0.5)  # none begins here
    assert np.array_equal(*params)


def test_totals_add_up_until_they_are_reset(engine, make_data):
    engine, net = engine
    X, targets = make_data(net, 10)
    with engine.trainer(net.copy_params(), X, targets, 4) as trainer:
        trainer.run(np.arange(10), 0, 10, 0.0)
        once = trainer.totals[0].copy()
        trainer.run(np.arange(10), 0, 10, 0.0)
        assert np.allclose(trainer.totals[0], 2 * once)
        trainer.totals[:] = 0
        trainer.run(np.arange(10), 0, 10, 0.0)
        assert np.array_equal(trainer.totals[0], once)


def test_a_trainer_that_stopped_goes_on_when_told_to(engine, make_data):
    engine, net = engine
    X, targets = make_data(net, 8)
    bad = X.copy()
    bad[0, 0] = np.nan
    params = net.copy_params()
    with engine.trainer(params, bad, targets, 4) as trainer:
        assert not trainer.stopped
        trainer.run(np.arange(8), 0, 8, 0.5)
        assert trainer.stopped
        assert np.array_equal(params, net.params)
        trainer.stopped = False
        trainer.run(np.arange(8), 4, 8, 0.5)
        assert not trainer.stopped
        assert not np.array_equal(params, net.params)


# -- interrupts ------------------------------------------------------------------------------------


def test_an_end_waits_for_the_team_that_an_interrupt_has_left(make_net, make_data, all_take_part):
    """None of the threads is left behind at a barrier, writing into the weights."""
    net = make_net((200, 300, 10))
    X, targets = make_data(net, 4000)
    trainer = NumbaEngine(net.model, net.layout).trainer(net.params, X, targets, 4000, threads=2)
    with trainer:
        trainer.run(np.arange(0), 0, 0, 0.0)
        span = records.Span(0, 4000, 4000, np.float32(0.1), 100)
        given = trainer.plan, trainer.params, trainer.inputs, trainer.targets
        given = *given, np.arange(4000), span, trainer.work
        left = trainer._pool.submit(trainer._run_team, trainer._kernel, given)
        while not trainer._busy.locked() and not left.done():
            time.sleep(0.001)
        trainer.end()
        assert not trainer._busy.locked()
        after = net.params.copy()
        left.result(timeout=9)
        trainer.run(np.arange(4000), 0, 4000, 0.1)  # too late
    np.testing.assert_array_equal(net.params, after)


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_a_team_is_raised(failing, make_net, make_data, monkeypatch, all_take_part):
    net = make_net((200, 300, 10))
    X, targets = make_data(net, 4000)
    with NumbaEngine(net.model, net.layout).trainer(
        net.params, X, targets, 4000, threads=2
    ) as trainer:

        def fail(kernel, arguments, thread):
            if thread == failing:
                raise RuntimeError("in a thread")

        monkeypatch.setattr(trainer, "_run_thread", fail)
        with pytest.raises(RuntimeError, match="in a thread"):
            trainer.run(np.arange(4000), 0, 4000, 0.1)
