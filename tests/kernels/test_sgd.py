"""The heart of the promise: what the fused path learns is the reference's gradient.

The fused path keeps no gradient, so (W before - W after) / learning_rate is compared, for every
activation, loss, dtype, kind of input, batch and number of threads.
"""

import numpy as np
import pytest

from fastbp import numba_engine as backends
from fastbp import reference
from fastbp.numpy_engine import NumpyEngine

OUTPUTS = sorted(reference.LOSSES)
HIDDEN = [name for name, (_, slope) in reference.ACTIVATIONS.items() if slope]
PATHS = ("dense", "sparse")
TEAMS = (1, 2, 3, 4)
BATCHES = (1, 2, 3, 8, 33)
# From the smallest up; widths around a vector, a line, the panels of columns and eight lines.
TOPOLOGIES = [
    (1, 1),
    (1, 1, 1),
    (5, 3),
    (2, 13, 1),
    (64, 100, 10),
    (129, 13, 100, 3),
    (17, 300, 1),
    (300, 129, 7),
]
# One step from here lands where all weights are learning_rate * gradient, so that rounding W after
# the step costs no more than rounding the gradient. A power of two: dividing by it is exact.
LEARNING_RATE = 1024.0

ENGINES = (backends.NumbaEngine, NumpyEngine)


@pytest.fixture
def all_take_part(monkeypatch):
    """Let every thread asked for take part, however little there is to do.

    Blocks of zero-skipping input are those threads' shares: here they are of a few inputs each.
    """
    monkeypatch.setattr(backends, "team_size", lambda threads, weights, batch_size: threads)
    monkeypatch.setattr(backends, "BLOCK_BYTES", 512)


@pytest.fixture
def small_chunks(monkeypatch):
    """Let the scratch hold eight samples; larger batches then go through a gradient buffer."""
    monkeypatch.setattr(backends, "SCRATCH_BYTES", 1)
    monkeypatch.setattr(backends, "FEWEST_CHUNK", 8)
    monkeypatch.setattr(backends, "MOST_CHUNK", 8)


@pytest.fixture(params=[0x00, 0xFF])
def filled_memory(request, monkeypatch):
    """Fill all memory that kernels are given to work in: 0xff is NaN, and no index."""
    work = backends.NumbaEngine._work

    def filled(*args, **kwargs):
        made = work(*args, **kwargs)
        for array in (made.scratch[1:], made.losses, made.hits, made.grads):
            array.view(np.uint8)[:] = request.param
        return made

    monkeypatch.setattr(backends.NumbaEngine, "_work", filled)


class Trained:
    """Parameters after training a copy, with the loss, the hits and the flag."""

    def __init__(self, net, X, targets, batch_size, threads=1, path=None, **how):
        self.params = net.copy_params()
        engine = how.get("engine", backends.NumbaEngine)(net.model, net.layout)
        order = how.get("order", np.arange(len(X)))
        rate = how.get("learning_rate", 0.1)
        paths = () if isinstance(engine, NumpyEngine) else (path,)
        with engine.trainer(self.params, X, targets, batch_size, threads, *paths) as trainer:
            for first, last in how.get("slices", [(0, len(order))]):
                trainer.run(order, first, last, rate)
            self.loss, self.hits = trainer.totals.tolist()
            self.stopped = trainer.stopped
            self.trainer = trainer

    def bits(self):
        return self.params.tobytes(), self.loss, self.hits, self.stopped


def train_reference(net, X, targets, batch_size, **how):
    return Trained(net, X, targets, batch_size, engine=NumpyEngine, **how)


def parts(net, flat):
    """Name and array of all weights and biases in a buffer."""
    for name, arrays in zip("Wb", net.layout.views(flat), strict=True):
        for l, array in enumerate(arrays, 1):
            yield f"{name}{l}", array


def assert_step_is_gradient(net, X, targets, after, assert_close, where):
    """The step of one batch, per array; allowed beside the table: half a unit of W, over the rate.

    W after = round(W - rate * g): the rounding is at most eps / 2 * |W after|, where |W after| <=
    |W| + rate * |g|. Divided by the rate that is eps / 2 * |W| / rate, and eps / 2 * |g|, which the
    table's relative part covers.
    """
    grads, loss = NumpyEngine(net.model, net.layout).gradient(net.params, X, targets)
    eps = np.finfo(net.layout.dtype).eps
    step = (net.params.astype(np.float64) - after.params) / LEARNING_RATE
    rounding = eps / 2 * np.abs(net.params) / LEARNING_RATE
    arrays = (parts(net, flat) for flat in (step, grads, rounding))
    for (name, mine), (_, theirs), (_, extra) in zip(*arrays, strict=True):
        assert_close(
            mine, theirs, dtype=str(net.layout.dtype), extra=extra, where=f"in {name}, {where}"
        )
    assert_close(after.loss / len(X), loss, dtype=str(net.layout.dtype), where=where)


# -- one step --------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", OUTPUTS, ids="-".join)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_fused_step_is_the_reference_gradient(
    hidden, output, dtype, make_net, make_data, assert_close, all_take_part
):
    """Every path, batch, number of threads, with and without biases: one gradient, one pattern."""
    for bias in (True, False):
        net = make_net((20, 17, 9, 4), output, hidden, dtype, bias=bias)
        for batch in BATCHES:
            X, targets = make_data(net, batch)
            for path in PATHS:
                where = f"{path}, batch {batch}, bias {bias}"
                one, *more = (
                    Trained(net, X, targets, batch, threads, path, learning_rate=LEARNING_RATE)
                    for threads in TEAMS
                )
                assert path == "dense" or batch == 1 or one.trainer.plan.blocks > 2
                assert not one.stopped
                assert not np.array_equal(one.params, net.params)
                assert_step_is_gradient(net, X, targets, one, assert_close, where)
                for threads, other in enumerate(more, 2):
                    assert other.bits() == one.bits(), f"{where}, {threads} threads"
                if not bias:
                    assert not any(b.any() for b in net.layout.views(one.params)[1])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sizes", TOPOLOGIES, ids=str)
def test_topologies_and_widths(
    sizes, path, dtype, make_net, make_data, assert_close, all_take_part
):
    net = make_net(sizes, ("cross-entropy", "softmax"), "tanh", dtype)
    for batch in (1, 2, 33):
        X, targets = make_data(net, batch, labels=sizes[-1] > 1)
        one, four = (
            Trained(net, X, targets, batch, threads, path, learning_rate=LEARNING_RATE)
            for threads in (1, 4)
        )
        assert_step_is_gradient(net, X, targets, one, assert_close, f"batch {batch}")
        assert four.bits() == one.bits()


def test_each_layer_has_its_own_activation(dtype, make_net, make_data, assert_close):
    net = make_net((9, 8, 7, 6, 5), ("quadratic", "tanh"), ["relu", "sigmoid", "identity"], dtype)
    for batch in (1, 5):
        X, targets = make_data(net, batch, labels=False)
        for path in PATHS:
            after = Trained(net, X, targets, batch, 1, path, learning_rate=LEARNING_RATE)
            assert_step_is_gradient(net, X, targets, after, assert_close, f"{path}, batch {batch}")


@pytest.mark.parametrize("density", [0, 0.01, 1])
def test_inputs_of_any_density(density, dtype, make_net, make_data, assert_close, all_take_part):
    """Also a set of nothing but zeros, whose compressed rows are all empty."""
    net = make_net((30, 9, 4), dtype=dtype)
    for batch in (1, 2, 9):
        X, targets = make_data(net, batch, density=density)
        for path in PATHS:
            for threads in (1, 3):
                after = Trained(net, X, targets, batch, threads, path, learning_rate=LEARNING_RATE)
                where = f"{path}, batch {batch}"
                assert_step_is_gradient(net, X, targets, after, assert_close, where)


def test_more_inputs_than_16_bits_count(make_net, make_data, assert_close):
    net = make_net((70_000, 2), dtype="float32")
    X, targets = make_data(net, 3)
    after = Trained(net, X, targets, 3, 1, "sparse", learning_rate=LEARNING_RATE)
    assert after.trainer.data.position.dtype == np.uint32
    assert_step_is_gradient(net, X, targets, after, assert_close, "sparse")


@pytest.mark.parametrize("path", PATHS)
def test_bytes_are_scaled_on_the_fly(path, dtype, make_net, make_data, assert_close):
    net = make_net((50, 9, 4), dtype=dtype, scale=1 / 255)
    for batch in (1, 5):
        X, targets = make_data(net, batch, uint8=True)
        before = X.copy()
        after = Trained(net, X, targets, batch, 1, path, learning_rate=LEARNING_RATE)
        assert_step_is_gradient(net, X, targets, after, assert_close, f"batch {batch}")
        floats = Trained(net, X.astype(dtype), targets, batch, 1, path, learning_rate=LEARNING_RATE)
        assert floats.bits() == after.bits()
        assert np.array_equal(X, before)


# -- one and the same result -----------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sizes", [(40, 100, 33, 10), (130, 17, 3)])
def test_any_number_of_threads_gives_the_same_bits(
    sizes, path, dtype, make_net, make_data, rng, all_take_part
):
    """Over many steps, with a smaller last batch, also with more threads than blocks or cores."""
    net = make_net(sizes, ("cross-entropy", "softmax"), "tanh", dtype)
    X, targets = make_data(net, 60)
    order = rng.permutation(60)
    for batch in (1, 7, 45):
        one, *more = (
            Trained(net, X, targets, batch, threads, path, order=order) for threads in (*TEAMS, 7)
        )
        assert all(other.bits() == one.bits() for other in more), f"batch {batch}"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("path", PATHS)
def test_slices_do_not_show_in_the_result(
    path, threads, dtype, make_net, make_data, rng, all_take_part
):
    net = make_net((20, 17, 4), dtype=dtype)
    X, targets = make_data(net, 50)
    order = rng.permutation(50)
    whole = Trained(net, X, targets, 8, threads, path, order=order)
    for slices in ([(0, 8), (8, 50)], [(0, 24), (24, 32), (32, 999)], [(0, 3), (8, 44), (48, 50)]):
        sliced = Trained(net, X, targets, 8, threads, path, order=order, slices=slices)
        assert sliced.bits() == whole.bits()


@pytest.mark.parametrize("labels", [True, False])
def test_training_does_not_read_what_memory_held_before(
    labels, filled_memory, dtype, make_net, make_data, assert_close, all_take_part
):
    """Scratch full of zeros or of NaN: the reference's result, and pads that stay zero."""
    for sizes in ((20, 17, 9, 4), (3, 1)):
        net = make_net(sizes, dtype=dtype)
        X, targets = make_data(net, 21, labels)
        for batch in (1, 8, 20):
            expected = train_reference(net, X, targets, batch)
            for path in PATHS:
                for threads in (1, 2):
                    found = Trained(net, X, targets, batch, threads, path)
                    assert_close(found.params, expected.params, where=f"{path}, batch {batch}")
                    assert not found.params[net.padding()].any()


def assert_walks_agree(net, X, targets, assert_close):
    """What the engines compute of a whole set, without training."""
    engines = [kind(net.model, net.layout) for kind in ENGINES]
    mine, theirs = (engine.gradient(net.params, X, targets) for engine in engines)
    assert_close(mine[0], theirs[0])
    assert_close(mine[1], theirs[1], dtype=str(net.layout.dtype))
    assert not mine[0][net.padding()].any()
    mine, theirs = (engine.feedforward(net.params, X) for engine in engines)
    assert_close(mine, theirs)
    mine, theirs = (engine.evaluate(net.params, X, targets) for engine in engines)
    assert_close(mine[0], theirs[0], dtype=str(net.layout.dtype))
    assert mine[1] == theirs[1]


@pytest.mark.parametrize("labels", [True, False])
def test_other_walks_do_not_read_what_memory_held_before(
    labels, filled_memory, dtype, make_net, make_data, assert_close
):
    for sizes in ((20, 17, 9, 4), (3, 1)):
        net = make_net(sizes, dtype=dtype)
        assert_walks_agree(net, *make_data(net, 21, labels), assert_close)


@pytest.mark.parametrize("output", OUTPUTS, ids="-".join)
def test_walks_over_a_set_are_the_reference(output, dtype, make_net, make_data, assert_close):
    for bias in (True, False):
        net = make_net((20, 17, 4), output, "tanh", dtype, bias=bias, scale=0.5)
        for n in (1, 2, 33):
            assert_walks_agree(net, *make_data(net, n), assert_close)
        assert_walks_agree(net, *make_data(net, 9, uint8=True), assert_close)


def test_labels_and_their_one_hot_rows_give_the_same_bits(dtype, make_net, make_data):
    for output in OUTPUTS:
        net = make_net((20, 9, 4), output, dtype=dtype)
        X, labels = make_data(net, 10)
        one_hot = labels.rows(slice(None), 4)
        values = reference.Targets(np.empty(0, np.int64), one_hot)
        for batch in (1, 5):
            by_label, by_value = (Trained(net, X, y, batch) for y in (labels, values))
            assert by_label.params.tobytes() == by_value.params.tobytes()
            assert by_label.loss == by_value.loss
            assert by_value.hits == 0  # values name no class


# -- a batch larger than the scratch ---------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_a_batch_in_chunks_learns_what_the_fused_one_does(
    path, dtype, make_net, make_data, assert_close, all_take_part, small_chunks
):
    """Chunks of 8, 8, .. and one of a single sample, whose stages are other ones."""
    net = make_net((20, 17, 9, 4), dtype=dtype)
    for batch in (9, 24, 33):
        X, targets = make_data(net, batch)
        one, *more = (
            Trained(net, X, targets, batch, threads, path, learning_rate=LEARNING_RATE)
            for threads in TEAMS
        )
        assert one.trainer.plan.chunk == 8
        assert one.trainer.work.grads.size == net.params.size
        assert_step_is_gradient(net, X, targets, one, assert_close, f"batch {batch}")
        assert all(other.bits() == one.bits() for other in more)
        assert not one.params[net.padding()].any()


def test_chunked_and_fused_batches_may_follow_each_other(
    dtype, make_net, make_data, assert_close, small_chunks
):
    """The last, smaller batch fits the scratch again; a gradient buffer holds nothing over."""
    net = make_net((20, 9, 4), dtype=dtype)
    X, targets = make_data(net, 45)
    for path in PATHS:
        found = Trained(net, X, targets, 20, 1, path)
        expected = train_reference(net, X, targets, 20)
        assert_close(found.params, expected.params)
        assert_close(found.loss, expected.loss, dtype=dtype)
        assert found.hits == expected.hits


def test_whole_sets_are_walked_in_chunks(dtype, make_net, make_data, assert_close, small_chunks):
    net = make_net((20, 9, 4), dtype=dtype)
    X, targets = make_data(net, 45)
    assert_walks_agree(net, X, targets, assert_close)


# -- many steps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("output", OUTPUTS, ids="-".join)
def test_ten_steps_and_a_smaller_last_batch(
    output, path, dtype, make_net, make_data, rng, assert_close, all_take_part
):
    net = make_net((20, 17, 9, 4), output, "sigmoid", dtype)
    for batch in (1, 3, 16):
        n = 9 * batch + max(1, batch // 2)
        X, targets = make_data(net, n)
        order = rng.permutation(n)
        expected = train_reference(net, X, targets, batch, order=order)
        found = Trained(net, X, targets, batch, 2, path, order=order)
        arrays = zip(parts(net, found.params), parts(net, expected.params), strict=True)
        for (name, mine), (_, theirs) in arrays:
            assert_close(mine, theirs, where=f"in {name}, batch {batch}")
        assert_close(found.loss, expected.loss, dtype=dtype)
        assert found.hits == expected.hits
        assert not found.params[net.padding()].any()


@pytest.mark.parametrize("bias", [True, False])
def test_padding_stays_zero(bias, dtype, make_net, make_data):
    """sigmoid(0) is 0.5: an unguarded pad would learn."""
    net = make_net((7, 5, 3, 1), bias=bias, dtype=dtype)
    X, targets = make_data(net, 40, labels=False)
    for path in PATHS:
        for batch in (1, 4):
            after = Trained(net, X, targets, batch, 1, path, learning_rate=1.0)
            assert not after.params[net.padding()].any()
    grads, _ = backends.NumbaEngine(net.model, net.layout).gradient(net.params, X, targets)
    assert not grads[net.padding()].any()


@pytest.mark.parametrize("path", PATHS)
def test_pads_of_activations_and_deltas_are_zero(path, filled_memory, dtype, make_net, make_data):
    """In the scratch, as far as tiles reach; its rows were full of something else."""
    net = make_net((7, 5, 3, 1), dtype=dtype)
    for batch in (1, 4):
        X, targets = make_data(net, batch, labels=False)
        trainer = Trained(net, X, targets, batch, 1, path).trainer
        plan, scratch = trainer.plan, trainer.work.scratch
        for l in range(1, 4):
            for start in (plan.a[l], plan.delta[l]):
                rows = scratch[start : start + batch * plan.strides[l]].reshape(batch, -1)
                assert np.isfinite(rows[:, : plan.sizes[l]]).all()
                assert not rows[:, plan.sizes[l] : plan.widths[l]].any()


# -- losses that are not finite --------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("batch", [1, 4, 20])
def test_training_stops_before_a_step_whose_loss_is_not_finite(
    batch, path, value, dtype, make_net, make_data, all_take_part, small_chunks
):
    """Every thread stops, whose sample it ever was; parameters and totals are those from before."""
    net = make_net((20, 9, 4), ("quadratic", "identity"), "identity", dtype)
    X, targets = make_data(net, 60)
    bad = X.copy()
    bad[43, 7] = value
    sound = 43 // batch * batch
    slices = [(0, sound)]
    expected = Trained(net, X, targets, batch, 1, path, slices=slices)
    for threads in TEAMS:
        found = Trained(net, bad, targets, batch, threads, path)
        assert found.stopped
        assert found.params.tobytes() == expected.params.tobytes()
        if batch <= 8:  # of a batch in chunks, the sound ones before are in the totals
            assert (found.loss, found.hits) == (expected.loss, expected.hits)


@pytest.mark.parametrize("batch", [1, 4, 33])
@pytest.mark.parametrize("path", PATHS)
def test_training_stops_before_the_next_step_when_asked_to(
    batch, path, dtype, make_net, make_data, all_take_part, small_chunks
):
    """Ctrl-C: all threads leave, within a chunk of the batch, and that batch is not learnt."""
    net = make_net((20, 9, 4), dtype=dtype)
    X, targets = make_data(net, 33)
    engine = backends.NumbaEngine(net.model, net.layout)
    for threads in TEAMS:
        params = net.copy_params()
        with engine.trainer(params, X, targets, batch, threads, path) as trainer:
            trainer._ask_to_stop()
            trainer.run(np.arange(33), 0, 33, 0.1)
            assert trainer.stopped
            assert trainer.totals.tolist() == [0, 0]
        assert params.tobytes() == net.params.tobytes()


# -- real data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 10, 100])
def test_steps_on_mnist(batch, dtype, mnist, make_net, assert_close):
    """Both paths and the one that is chosen; float32 weights drift apart over more steps."""
    X, y, _, _ = mnist
    net = make_net((784, 30, 10), dtype=dtype, scale=1 / 255)
    targets = reference.Targets(y[:1000], np.empty((0, 10), dtype))
    n = 20 * batch if batch < 100 else 500
    expected = train_reference(net, X[:n], reference.Targets(y[:n], targets.values), batch)
    for path in (*PATHS, None):
        found = Trained(net, X[:n], reference.Targets(y[:n], targets.values), batch, 2, path)
        assert_close(found.params, expected.params, where=f"{path}")
        assert found.hits == expected.hits


def test_an_epoch_on_mnist(mnist, make_net, assert_close):
    """3,000 images in float64: equal to 1e-8 after 300 steps."""
    X, y, _, _ = mnist
    net = make_net((784, 30, 10), scale=1 / 255)
    targets = reference.Targets(y[:3000], np.empty((0, 10)))
    how = {"learning_rate": 3.0}
    expected = train_reference(net, X[:3000], targets, 10, **how)
    found = Trained(net, X[:3000], targets, 10, **how)
    assert_close(found.params, expected.params, "epoch")
    assert found.hits == expected.hits > 1000
