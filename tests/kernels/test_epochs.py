"""The heart of the promise: what the fused path learns is the reference's gradient.

The fused path keeps no gradient, so (W before - W after) / learning_rate is compared, for every
activation, loss, dtype, kind of input, batch and number of threads.
"""

import math
from itertools import product

import numpy as np
import pytest

import cases
import fastbp
from cases import crossed
from fastbp import kernels, reference
from fastbp.engines import numba_data, numba_trainer
from fastbp.engines.numba_engine import NumbaEngine
from fastbp.engines.numpy_engine import NumpyEngine
from fastbp.kernels import machine
from fastbp.kernels.machine import DENSITY_SAMPLE, PACKED_ROWS, PASS_SAMPLES, ROUND
from fastbp.kernels.walk import records
from fastbp.kernels.walk.team import ASKED
from fastbp.reference.records import PLAIN, Rule

OUTPUTS = [*cases.OUTPUTS, ("poisson", "exp")]  # for the others see `test_walk_losses`
HIDDEN = list(reference.PRIMES)
# Those of a trainer; and the dense one with the first layer's weights output by output.
PATHS = ("dense", "sparse", "narrow", "turned")
TEAMS = (1, 2, 3, 4)
# Batches with biases or without: single samples are fused with the next, others go through tiles.
BATCHES_AND_BIASES = [*product((1, 33), (True, False)), (2, True), (3, False), (8, True)]
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

ENGINES = (NumbaEngine, NumpyEngine)


@pytest.fixture
def all_take_part(all_take_part, monkeypatch):
    """Blocks of zero-skipping input are of a few inputs each, too."""
    monkeypatch.setattr(machine, "BLOCK_BYTES", 512)


@pytest.fixture(params=["sigmoid", "gelu"])
def hidden(request):
    """Slopes that follow from the activations, and such as are kept from the forward pass on."""
    return request.param


@pytest.fixture
def small_chunks(monkeypatch):
    """Let the scratch hold eight samples; larger batches then go through a gradient buffer.

    With lanes over the batch, a vector of samples.
    """
    monkeypatch.setattr(machine, "SCRATCH_BYTES", 1)
    monkeypatch.setattr(machine, "FEWEST_CHUNK", 8)
    monkeypatch.setattr(machine, "MOST_CHUNK", 8)
    monkeypatch.setattr(machine, "NARROW_VECTORS", 1)


@pytest.fixture(params=["dense", "narrow"])
def any_lanes(request, monkeypatch):
    """Gradients outside training, by the one and by the other kernel."""
    right = NumbaEngine.gradient
    monkeypatch.setattr(NumbaEngine, "gradient", lambda *args: right(*args, path=request.param))


@pytest.fixture
def zeros_behind_integers(monkeypatch):
    """Let a kernel that counts too far meet sample 0, not memory that is not its own."""
    aligned = numba_data.aligned

    def with_room(size, dtype, *unit):
        return aligned(size + 10_000 * (dtype is np.int64), dtype, *unit)

    monkeypatch.setattr(numba_data, "aligned", with_room)


@pytest.fixture(params=[0x00, 0xFF])
def filled_memory(request, monkeypatch):
    """Fill all memory that kernels are given to work in: 0xff is NaN, and no index."""

    def fill(array):
        array.view(np.uint8)[...] = request.param
        return array

    def filling(name):
        right = getattr(kernels, name)

        def call(*args):
            fill(args[-1])
            return right(*args)

        monkeypatch.setattr(kernels, name, call)

    aligned, trainer = numba_data.aligned, NumbaEngine.trainer
    acquire = numba_data.Workspace.acquire
    for module in (numba_data, numba_trainer):
        monkeypatch.setattr(module, "aligned", lambda *args: fill(aligned(*args)))
    for name in ("gradient", "narrow_gradient", "feedforward"):  # what they return
        filling(name)

    def acquired(space):
        piece = acquire(space)
        fill(piece.work.sums)
        return piece

    def filled(*args, **kwargs):
        made = trainer(*args, **kwargs)
        fill(made.work.sums[records.TOTALS :])
        return made

    monkeypatch.setattr(NumbaEngine, "trainer", filled)
    monkeypatch.setattr(numba_data.Workspace, "acquire", acquired)


def unpacked(table):
    """The plan that a table was made from."""
    return records.Plan(
        *table[: records.NUMBERS].tolist(), *table[records.NUMBERS :].reshape(-1, table[0] + 1)
    )


class Trained:
    """Parameters after training a copy, with the loss, the hits and the flag."""

    def __init__(self, net, X, targets, batch_size, threads=1, path=None, **how):
        self.params = net.copy_params()
        engine = how.get("engine", NumbaEngine)(net.model, net.layout)
        order = how.get("order", np.arange(len(X)))
        rate = how.get("learning_rate", 0.1)
        with (
            cases.as_trainer_has_it(path) as name,
            engine.trainer(
                self.params, X, targets, batch_size, threads,
                *(() if isinstance(engine, NumpyEngine) else (name,)), rule=how.get("rule", PLAIN),
            ) as trainer,
        ):  # fmt: skip
            for first, last in how.get("slices", [(0, len(order))]):
                trainer.run(order, first, last, rate)
            self.loss, self.hits, self.penalty = trainer.totals[0].tolist()
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


def assert_step_is_gradient(net, X, targets, after, assert_close, where, slack=0.0):
    """The step of one batch, per array; allowed beside the table: half a unit of W, over the rate.

    W after = round(W - rate * g): the rounding is at most eps / 2 * |W after|, where |W after| <=
    |W| + rate * |g|. Divided by the rate that is eps / 2 * |W| / rate, and eps / 2 * |g|, which the
    table's relative part covers.
    """
    grads, loss, _ = NumpyEngine(net.model, net.layout).gradient(net.params, X, targets)
    info = np.finfo(net.layout.dtype)
    arrays = (parts(net, flat) for flat in (net.params, after.params, grads))
    for (name, W), (_, W_after), (_, theirs) in zip(*arrays, strict=True):
        step = (W.astype(np.float64) - W_after) / LEARNING_RATE
        extra = info.eps / 2 * np.abs(W) / LEARNING_RATE + slack
        assert_close(
            step, theirs, dtype=str(net.layout.dtype), extra=extra, where=f"{name}, {where}"
        )
    assert_close(  # exp ends at the smallest normal number
        after.loss / len(X), loss, dtype=str(net.layout.dtype), extra=info.tiny, where=where
    )


# -- one step --------------------------------------------------------------------------------------


@crossed(hidden=HIDDEN, output=OUTPUTS, dtype=["float32", "float64"])
def test_the_fused_step_is_the_reference_gradient(
    hidden, output, dtype, make_net, make_data, assert_close, all_take_part
):
    """Every path, batch, number of threads, with and without biases: one gradient, one pattern."""
    for batch, bias in BATCHES_AND_BIASES:
        net = make_net((20, 17, 9, 4), output, hidden, dtype, bias=bias)
        X, targets = make_data(net, batch)
        for path in PATHS:
            where = f"{path}, batch {batch}, bias {bias}"
            one, *more = (
                Trained(net, X, targets, batch, threads, path, learning_rate=LEARNING_RATE)
                for threads in TEAMS
            )
            plan = unpacked(one.trainer.plan)
            assert (path == "sparse" and batch > 1) == (plan.blocks > 2)
            assert (path == "turned" and batch > 1) == (plan.turned > 0)
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
    hidden = ["elu", "sigmoid", "gelu", "identity", "relu", "softplus"]
    net = make_net((9, 8, 7, 6, 5, 6, 17, 5), ("quadratic", "tanh"), hidden, dtype)
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


@pytest.mark.parametrize("batch", [1, 3])
def test_saturated_networks(batch, dtype, make_net, make_data, rng, assert_close, all_take_part):
    """z of +-1000 and more, or of zero, all of them exact: slopes and exponentials that end."""
    for hidden in ("sigmoid", "tanh", "relu"):
        for output in OUTPUTS:
            if output[1] == "exp":
                continue  # exp(1024) is no number
            net = make_net((9, 7, 5), output, hidden, dtype)
            for W, b in zip(*net.layout.views(net.params), strict=True):
                W[...] = 1024 * rng.integers(-1, 2, W.shape)
                b[...] = 1024 * rng.integers(-1, 2, b.shape)
            X = rng.integers(-1, 2, (batch, 9)).astype(dtype)
            for labels in (True, False):
                _, targets = make_data(make_net((9, 5), dtype=dtype), batch, labels)
                for path in PATHS:
                    after = Trained(net, X, targets, batch, 2, path, learning_rate=LEARNING_RATE)
                    where = f"{path}, {hidden}, {output}"
                    # Deltas of softmax are terms up to 1 that cancel; a ReLU or W multiplies them.
                    slack = 4 * np.finfo(dtype).eps * 1024 * 9
                    assert_step_is_gradient(net, X, targets, after, assert_close, where, slack)


@pytest.mark.parametrize("n_out", [600, 1300])
@pytest.mark.parametrize("labels", [True, False])
def test_many_outputs_near_zero(n_out, labels, dtype, make_net, make_data, assert_close):
    """More of them than factors 1 + exp(-|z|), nearly 2, have a finite product."""
    for output in (("cross-entropy", "sigmoid"), ("cross-entropy", "softmax")):
        net = make_net((5, n_out), output, dtype=dtype)
        net.params[:] /= 1000
        for batch in (1, 3):
            X, targets = make_data(net, batch, labels)
            for path in PATHS:
                after = Trained(net, X, targets, batch, 1, path, learning_rate=LEARNING_RATE)
                assert not after.stopped
                where = f"{path}, {output}, batch {batch}"
                assert_step_is_gradient(net, X, targets, after, assert_close, where)


def test_of_equal_outputs_the_first_one_counts(dtype, make_net, make_data, all_take_part):
    """All are, without weights: who is labelled 0 is a hit, and nobody else."""
    for output in OUTPUTS:
        net = make_net((6, 5, 20), output, dtype=dtype)
        net.params[:] = 0
        for batch in (1, 7):
            X, targets = make_data(net, 60)
            targets.labels[::9] = 0
            for path in PATHS:
                for threads in (1, 2):
                    after = Trained(net, X, targets, batch, threads, path, learning_rate=0.0)
                    assert after.hits == (targets.labels == 0).sum() > 0


def test_more_inputs_than_16_bits_count(make_net, make_data, assert_close):
    net = make_net((70_000, 2), dtype="float32")
    X, targets = make_data(net, 3)
    after = Trained(net, X, targets, 3, 1, "sparse", learning_rate=LEARNING_RATE)
    assert after.trainer.data.position.dtype == np.uint32
    assert_step_is_gradient(net, X, targets, after, assert_close, "sparse")


@pytest.mark.parametrize("path", PATHS)
def test_bytes_are_scaled_on_the_fly(
    path, dtype, make_net, make_data, rng, assert_close, all_take_part
):
    """And floats: one gradient, one pattern of bits, and inputs that stay as they were."""
    net = make_net((50, 9, 4), dtype=dtype, scale=1 / 255)
    for batch in (1, 5):
        X, targets = make_data(net, batch, uint8=True)
        before = X.copy()
        after = Trained(net, X, targets, batch, 1, path, learning_rate=LEARNING_RATE)
        assert_step_is_gradient(net, X, targets, after, assert_close, f"batch {batch}")
        X, targets = make_data(net, 23, uint8=True)
        order, before = rng.permutation(23), X.copy()
        bytes_ = Trained(net, X, targets, batch, 2, path, order=order)
        floats = Trained(net, X.astype(dtype), targets, batch, 3, path, order=order)
        assert floats.bits() == bytes_.bits()
        assert np.array_equal(X, before)


INPUTS = {  # (scale, bytes): rows multiplied as they lie, or copied first; values, or a palette
    "floats": (1.0, False),
    "floats_scaled": (0.3, False),
    "bytes": (1.0, True),
    "bytes_scaled": (1 / 255, True),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_every_kind_of_input(inputs, path, dtype, make_net, make_data, assert_close, all_take_part):
    """Gradient by gradient, and over steps in an order that repeats and leaves out samples."""
    scale, uint8 = INPUTS[inputs]
    for n_in in (5, 33, 50):
        net = make_net((n_in, 19, 4), ("cross-entropy", "softmax"), "tanh", dtype, scale=scale)
        if inputs == "bytes":
            net.params[:] /= 256
        for batch in (1, 2, 11, 33):
            X, targets = make_data(net, 40, uint8=uint8)
            which = np.arange(40)[::-1][:batch].copy()
            how = {"order": which, "learning_rate": LEARNING_RATE}
            after = Trained(net, X, targets, batch, 2, path, **how)
            chosen = reference.Targets(targets.labels[which], targets.values)
            where = f"{inputs}, batch {batch}"
            assert_step_is_gradient(net, X[which], chosen, after, assert_close, where)
            order = np.array([7, 39, 7, 7, 0, 12, 39, 39, 3, 21] * 4 + [5, 39])
            rate = 1e-3 if inputs == "bytes" else 0.1
            expected = train_reference(net, X, targets, batch, order=order, learning_rate=rate)
            found = Trained(net, X, targets, batch, 2, path, order=order, learning_rate=rate)
            assert_close(found.params, expected.params, where=where)
            assert_close(found.loss, expected.loss, dtype=dtype, where=where)
            assert found.hits == expected.hits


def test_an_index_that_outgrows_its_room(dtype, make_net, make_data, rng, assert_close):
    """Rows that are looked at are dark, the others are not."""
    n = 2 * DENSITY_SAMPLE
    for uint8 in (False, True):
        net = make_net((33, 9, 4), dtype=dtype, scale=1 / 255 if uint8 else 1.0)
        X, targets = make_data(net, n, density=1, uint8=uint8)
        X[::2] = 0
        assert numba_data.density(X) == 0
        order = rng.permutation(n)[:200]
        for batch in (1, 16):
            expected = train_reference(net, X, targets, batch, order=order)
            found = Trained(net, X, targets, batch, 1, "sparse", order=order)
            assert_close(found.params, expected.params, where=f"batch {batch}")
            assert found.hits == expected.hits


@pytest.fixture
def lists_pay(monkeypatch):
    """Zero-skipping batches are learned by lists, in parts of few samples: eight pairs of each."""
    samples = 9 - machine.LIST_SPLIT
    for name, value in (("LIST_BYTES", 0), ("LIST_ENTRIES", 0), ("LIST_SAMPLES", samples)):
        monkeypatch.setattr(machine, name, value)


@pytest.mark.parametrize("uint8", [False, True])
@pytest.mark.parametrize("batch", [2, 7, 8, 33])
def test_updates_by_lists_are_the_reference(
    batch, uint8, lists_pay, dtype, make_net, make_data, assert_close, all_take_part
):
    """Also of inputs that are lit always and never, in blocks and in one, by any team."""
    for sizes in ((45, 100, 10), (20, 17, 4)):
        net = make_net(sizes, dtype=dtype, scale=1 / 255 if uint8 else 1.0)
        X, targets = make_data(net, 40, density=0.3, uint8=uint8)
        X[:, 3], X[:, -1] = 1, 0
        expected = train_reference(net, X, targets, batch)
        one, *more = (Trained(net, X, targets, batch, threads, "sparse") for threads in TEAMS)
        assert unpacked(one.trainer.plan).lists == 8
        assert_close(one.params, expected.params, where=f"{sizes}")
        assert_close(one.loss, expected.loss, dtype=dtype, where=f"{sizes}")
        for other in more:
            assert other.bits() == one.bits()


# -- one and the same result -----------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sizes", [(40, 100, 33, 10), (130, 17, 3), (20, 24, 3), (20, 41, 3)])
def test_any_number_of_threads_gives_the_same_bits(
    sizes, path, hidden, dtype, make_net, make_data, rng, all_take_part
):
    """Over many steps, with a smaller last batch, also with more threads than blocks or cores."""
    net = make_net(sizes, ("cross-entropy", "softmax"), hidden, dtype)
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
    path, threads, hidden, dtype, make_net, make_data, rng, all_take_part
):
    net = make_net((20, 17, 4), hidden=hidden, dtype=dtype)
    X, targets = make_data(net, 50)
    order = rng.permutation(50)
    whole = Trained(net, X, targets, 8, threads, path, order=order)
    for slices in ([(0, 8), (8, 50)], [(0, 24), (24, 32), (32, 999)], [(0, 3), (8, 44), (48, 50)]):
        sliced = Trained(net, X, targets, 8, threads, path, order=order, slices=slices)
        assert sliced.bits() == whole.bits()


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("path", PATHS)
def test_slices_of_single_samples_do_not_show_in_the_result(
    path, inputs, dtype, make_net, make_data, rng, assert_close, all_take_part
):
    """An update waits for the next forward pass, unless the slice ends before it.

    On dense input some samples are learnt at once: there slices are of whole units.
    """
    scale, uint8 = INPUTS[inputs]
    net = make_net((20, 17, 4), dtype=dtype, scale=scale)
    X, targets = make_data(net, 30, uint8=uint8)
    order = rng.permutation(30)
    whole = Trained(net, X, targets, 1, 1, path, order=order)
    assert_close(whole.params, train_reference(net, X, targets, 1, order=order).params)
    unit = whole.trainer.unit
    assert unit == (PASS_SAMPLES if path in ("dense", "turned") else 1)
    for size in (unit, 3 * unit, 30 - 30 % unit):
        slices = [(first, min(first + size, 30)) for first in range(0, 30, size)]
        for threads in TEAMS:
            sliced = Trained(net, X, targets, 1, threads, path, order=order, slices=slices)
            assert sliced.bits() == whole.bits(), f"{size}, {threads} threads"
    empty = [(0, 0), (0, 12), (12, 12), (12, 999), (30, 30)]
    assert Trained(net, X, targets, 1, 2, path, order=order, slices=empty).bits() == whole.bits()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("inputs", INPUTS)
def test_single_samples_that_are_learnt_at_once_are_learnt_one_after_the_other(
    inputs, bias, dtype, make_net, make_data, assert_close, all_take_part
):
    """As by slices of one, to rounding; other samples do not show in the bits of those before."""
    scale, uint8 = INPUTS[inputs]
    # Of weighted inputs in the hundreds nothing is left behind a SiLU but roundings.
    first = "sigmoid" if uint8 and scale == 1 else "silu"
    net = make_net((20, 37, 9, 4), hidden=[first, "tanh"], dtype=dtype, scale=scale, bias=bias)
    X, targets = make_data(net, 2 * PASS_SAMPLES + 1, uint8=uint8)
    one_by_one = [(s, s + 1) for s in range(len(X))]
    for n in range(1, len(X) + 1):
        how = {"slices": [(0, n)]}
        found = Trained(net, X, targets, 1, 1, "dense", **how)
        expected = Trained(net, X, targets, 1, 1, "dense", slices=one_by_one[:n])
        assert_close(found.params, expected.params)
        for threads in TEAMS:
            assert Trained(net, X, targets, 1, threads, "dense", **how).bits() == found.bits()
        bad = X.astype(dtype)
        bad[n:] = np.nan
        if scale == 1:
            stopped = Trained(net, bad, targets, 1, 2, "dense")
            assert stopped.params.tobytes() == found.params.tobytes(), n


def test_products_of_samples_may_overflow(dtype, make_net, make_data, assert_close):
    """Such samples have no deltas, and change nothing: none is infinity times zero."""
    net = make_net((20, 17, 4), dtype=dtype)
    X, targets = make_data(net, 4 * PASS_SAMPLES)
    X[1::2] *= np.sqrt(np.finfo(dtype).max) * 1e3
    found, expected = Trained(net, X, targets, 1, 1, "dense"), train_reference(net, X, targets, 1)
    assert not found.stopped
    assert_close(found.params, expected.params)


@pytest.mark.parametrize("labels", [True, False])
def test_training_does_not_read_what_memory_held_before(
    labels, hidden, filled_memory, dtype, make_net, make_data, assert_close, all_take_part
):
    """Scratch full of zeros or of NaN: the reference's result, and pads that stay zero."""
    for sizes in ((20, 17, 9, 4), (3, 1)):
        net = make_net(sizes, hidden=hidden, dtype=dtype)
        X, targets = make_data(net, 21, labels)
        for batch in (1, 8, 20):
            expected = train_reference(net, X, targets, batch)
            for path in PATHS:
                for threads in (1, 2):
                    found = Trained(net, X, targets, batch, threads, path)
                    assert_close(found.params, expected.params, where=f"{path}, batch {batch}")
                    assert not found.params[net.padding()].any()


@crossed(last=[20, 33, 70, 136], above=[(), (3,)], path=["dense", "sparse"], batch=[1, 8])
def test_sums_of_parameters_do_not_read_what_memory_held_before(
    last, above, path, batch, hidden, filled_memory, dtype, make_net, make_data, assert_close,
    all_take_part,
):  # fmt: skip
    """The norm that clips, and penalties: they are of whole vectors, of each thread's columns."""
    net = make_net((20, last, *above), hidden=hidden, dtype=dtype)
    X, targets = make_data(net, 17, labels=False)
    rule = Rule("momentum", first=0.5, l2=0.1, l1=0.01, clip=0.1)
    expected = train_reference(net, X, targets, batch, rule=rule)
    for threads in (1, 2, 3):
        found = Trained(net, X, targets, batch, threads, path, rule=rule)
        assert_close(found.params, expected.params, where=f"{threads} threads")
        assert_close(found.penalty, expected.penalty, dtype=dtype, where=f"{threads} threads")


def assert_walks_agree(net, X, targets, assert_close):
    """What the engines compute of a whole set, without training."""
    engines = [kind(net.model, net.layout) for kind in ENGINES]
    mine, theirs = (engine.gradient(net.params, X, targets) for engine in engines)
    assert_close(mine[0], theirs[0])
    assert_close(mine[1], theirs[1], dtype=str(net.layout.dtype))
    assert mine[2] is True
    assert not mine[0][net.padding()].any()
    mine, theirs = (engine.feedforward(net.params, X) for engine in engines)
    assert_close(mine[0], theirs[0])
    assert mine[1] is True
    mine, theirs = (engine.evaluate(net.params, X, targets) for engine in engines)
    assert_close(mine[0], theirs[0], dtype=str(net.layout.dtype))
    assert mine[1] == theirs[1]


@pytest.mark.parametrize("labels", [True, False])
def test_other_walks_do_not_read_what_memory_held_before(
    labels, filled_memory, any_lanes, dtype, make_net, make_data, assert_close
):
    for sizes in ((20, 17, 9, 4), (3, 1)):
        net = make_net(sizes, dtype=dtype)
        assert_walks_agree(net, *make_data(net, 21, labels), assert_close)


def test_nor_what_the_call_before_left_there(any_lanes, dtype, make_net, make_data):
    """An engine keeps its memory: here that of a larger set, all NaN, or saturated."""
    net = make_net((20, 17, 9, 4), dtype=dtype)
    X, targets = make_data(net, 5, labels=False)
    large, others = make_data(net, 40, labels=False)

    def walks(engine):
        (grads, *rest), (out, fine) = (
            engine.gradient(net.params, X, targets),
            engine.feedforward(net.params, X),
        )
        return grads.tobytes(), *rest, out.tobytes(), fine, engine.evaluate(net.params, X, targets)

    expected = walks(NumbaEngine(net.model, net.layout))
    engine = NumbaEngine(net.model, net.layout)
    for value in (np.nan, np.inf, 1e3):
        bad = np.full_like(large, value)
        engine.gradient(net.params, bad, others)
        engine.feedforward(net.params, bad)
        engine.evaluate(net.params, bad, others)
        assert walks(engine) == expected


@pytest.mark.parametrize("output", OUTPUTS, ids="-".join)
def test_walks_over_a_set_are_the_reference(
    output, any_lanes, dtype, make_net, make_data, assert_close
):
    for bias in (True, False):
        for labels in (True, False):
            net = make_net((20, 17, 4), output, "tanh", dtype, bias=bias, scale=0.5)
            for n in (1, 2, 33):
                assert_walks_agree(net, *make_data(net, n, labels), assert_close)
            assert_walks_agree(net, *make_data(net, 9, labels, uint8=True), assert_close)
        net = make_net((20, 17, 4), output, "tanh", dtype, bias=bias)
        assert_walks_agree(net, *make_data(net, 9), assert_close)


@pytest.mark.parametrize("n_out", [600, 1300])
def test_walks_over_many_outputs_near_zero(
    n_out, any_lanes, dtype, make_net, make_data, assert_close
):
    net = make_net((5, n_out), ("cross-entropy", "sigmoid"), dtype=dtype)
    net.params[:] /= 1000
    for labels in (True, False):
        assert_walks_agree(net, *make_data(net, 3, labels), assert_close)


def test_equal_outputs_are_evaluated_as_numpy_does(dtype, make_net, make_data):
    net = make_net((5, 20), ("cross-entropy", "softmax"), dtype=dtype)
    net.params[:] = 0
    X, targets = make_data(net, 300)
    _, hits = NumbaEngine(net.model, net.layout).evaluate(net.params, X, targets)
    assert hits == (targets.labels == 0).sum() > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (8, 19), (20, 7), (3, 16)])
def test_a_gradient_tells_whether_inputs_and_targets_are_finite(
    place, value, any_lanes, dtype, make_net, make_data
):
    net = make_net((20, 17, 9), ("quadratic", "identity"), dtype=dtype)
    X, targets = make_data(net, 21, labels=False)
    for engine in (kind(net.model, net.layout) for kind in ENGINES):
        assert engine.gradient(net.params, X, targets)[2] is True
        bad = X.copy()
        bad[place] = value
        assert engine.gradient(net.params, bad, targets)[2] is False
        bad = targets.values.copy()
        bad[place[0], place[1] % 9] = value
        assert engine.gradient(net.params, X, targets._replace(values=bad))[2] is False
    net = make_net((20, 17, 9), dtype=dtype, scale=1e4)  # finite as it is, infinite once scaled
    bad = X.copy()
    bad[place] = np.finfo(dtype).max
    for engine in (kind(net.model, net.layout) for kind in ENGINES):
        assert engine.gradient(net.params, bad, targets)[2] is False


def test_labels_and_their_one_hot_rows_give_the_same_bits(dtype, make_net, make_data):
    for output in OUTPUTS:
        net = make_net((20, 9, 4), output, dtype=dtype)
        X, labels = make_data(net, 10)
        one_hot = labels.rows(slice(None), 4)
        values = reference.Targets(np.empty(0, np.int64), one_hot)
        for batch in (1, 5):
            for path in PATHS:
                by_label, by_value = (Trained(net, X, y, batch, 1, path) for y in (labels, values))
                assert by_label.params.tobytes() == by_value.params.tobytes()
                assert by_label.loss == by_value.loss
                if output[1] != "sigmoid":
                    assert by_value.hits == 0  # values name no class


# -- a batch larger than the scratch ---------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_a_batch_in_chunks_learns_what_the_fused_one_does(
    path, hidden, dtype, make_net, make_data, assert_close, all_take_part, small_chunks
):
    """Chunks of 8, 8, .. and one of a single sample, whose stages are other ones."""
    lanes = kernels.vector_bytes() // np.dtype(dtype).itemsize
    batches, chunk, buffers = (9, 24, 33), 8, 1
    if path == "narrow":  # whose chunks are a vector each, and go in rounds
        batches = (lanes + 1, 3 * lanes, (ROUND + 2) * lanes + 3)
        chunk, buffers = lanes, 1 + ROUND
    for bias in (True, False):
        net = make_net((20, 17, 9, 4), hidden=hidden, dtype=dtype, bias=bias)
        for batch in batches:
            X, targets = make_data(net, batch)
            one, *more = (
                Trained(net, X, targets, batch, threads, path, learning_rate=LEARNING_RATE)
                for threads in TEAMS
            )
            assert unpacked(one.trainer.plan).chunk == chunk
            assert one.trainer.work.grads.size == buffers * net.params.size
            assert_step_is_gradient(net, X, targets, one, assert_close, f"batch {batch}")
            assert all(other.bits() == one.bits() for other in more)
            assert not one.params[net.padding()].any()
            assert bias or not any(b.any() for b in net.layout.views(one.params)[1])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("labels", [True, False])
def test_chunked_and_fused_batches_may_follow_each_other(
    labels, path, dtype, make_net, make_data, rng, assert_close, all_take_part, small_chunks
):
    """The last, smaller batch fits the scratch again; a gradient buffer holds nothing over."""
    net = make_net((20, 9, 4), dtype=dtype)
    batch = 20 if path != "narrow" else 2 * (kernels.vector_bytes() // np.dtype(dtype).itemsize)
    n = 2 * batch + 5
    X, targets = make_data(net, n, labels)
    order = rng.permutation(n)
    expected = train_reference(net, X, targets, batch, order=order)
    for threads in (1, 3):
        found = Trained(net, X, targets, batch, threads, path, order=order)
        assert_close(found.params, expected.params)
        assert_close(found.loss, expected.loss, dtype=dtype)
        assert found.hits == expected.hits


@pytest.mark.parametrize("path", PATHS)
def test_chunks_do_not_read_what_memory_held_before(
    path, filled_memory, dtype, make_net, make_data, assert_close, all_take_part, small_chunks
):
    net = make_net((20, 9, 4), dtype=dtype)
    X, targets = make_data(net, 45)
    expected = train_reference(net, X, targets, 40)
    for threads in (1, 2):
        found = Trained(net, X, targets, 40, threads, path)
        assert_close(found.params, expected.params)
        assert_close(found.loss, expected.loss, dtype=dtype)
        assert not found.params[net.padding()].any()


def test_whole_sets_are_walked_in_chunks(
    any_lanes, hidden, dtype, make_net, make_data, assert_close, small_chunks, zeros_behind_integers
):
    net = make_net((20, 9, 4), hidden=hidden, dtype=dtype)
    for n in (8, 9, 45, 300):
        assert_walks_agree(net, *make_data(net, n), assert_close)
        assert_walks_agree(net, *make_data(net, n, labels=False), assert_close)


# -- many steps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("output", OUTPUTS, ids="-".join)
def test_ten_steps_and_a_smaller_last_batch(
    output, path, dtype, make_net, make_data, rng, assert_close, all_take_part
):
    net = make_net((20, 17, 9, 4), output, "sigmoid", dtype)
    for batch, labels in ((1, True), (1, False), (3, True), (16, False), (16, True)):
        n = 9 * batch + max(1, batch // 2)
        X, targets = make_data(net, n, labels)
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
def test_padding_stays_zero(bias, any_lanes, dtype, make_net, make_data):
    """sigmoid(0) is 0.5: an unguarded pad would learn."""
    net = make_net((7, 5, 3, 1), bias=bias, dtype=dtype)
    X, targets = make_data(net, 40, labels=False)
    for path in PATHS:
        for batch in (1, 4):
            after = Trained(net, X, targets, batch, 1, path, learning_rate=1.0)
            assert not after.params[net.padding()].any()
    grads, *_ = NumbaEngine(net.model, net.layout).gradient(net.params, X, targets)
    assert not grads[net.padding()].any()


@pytest.mark.parametrize("path", ["dense", "sparse"])
def test_pads_of_activations_and_deltas_are_zero(
    path, hidden, filled_memory, dtype, make_net, make_data
):
    """In the scratch, as far as tiles reach; its rows were full of something else."""
    net = make_net((7, 5, 3, 1), hidden=hidden, dtype=dtype)
    for batch in (1, 4):
        X, targets = make_data(net, batch, labels=False)
        trainer = Trained(net, X, targets, batch, 1, path).trainer
        plan, scratch = unpacked(trainer.plan), trainer.work.scratch
        for l in range(1, 4):
            for start in (plan.a[l], plan.delta[l]):
                rows = scratch[start : start + batch * plan.strides[l]].reshape(batch, -1)
                assert np.isfinite(rows[:, : plan.sizes[l]]).all()
                assert not rows[:, plan.sizes[l] : plan.widths[l]].any()


def test_lanes_without_a_sample_learn_nothing(hidden, filled_memory, dtype, make_net, make_data):
    """With lanes over the batch their deltas are zero."""
    net = make_net((7, 5, 3, 2), hidden=hidden, dtype=dtype)
    lanes = kernels.vector_bytes() // np.dtype(dtype).itemsize
    for batch in (2, lanes - 1, lanes + 1):
        X, targets = make_data(net, batch)
        trainer = Trained(net, X, targets, batch, 1, "narrow").trainer
        plan, scratch = unpacked(trainer.plan), trainer.work.scratch
        for l in range(1, 4):
            size = plan.sizes[l] * plan.chunk
            rows = scratch[plan.delta[l] : plan.delta[l] + size].reshape(-1, plan.chunk)
            assert np.isfinite(rows[:, :batch]).all()
            assert rows[:, :batch].any()
            assert not rows[:, batch : -(-batch // lanes) * lanes].any()


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
    bad[57, 7] = value  # of the batch of 20 the last chunk
    sound = 57 // batch * batch
    slices = [(0, sound)]
    expected = Trained(net, X, targets, batch, 1, path, slices=slices)
    for threads in TEAMS:
        found = Trained(net, bad, targets, batch, threads, path)
        assert found.stopped
        assert found.params.tobytes() == expected.params.tobytes()
        assert (found.loss, found.hits) == (expected.loss, expected.hits)


@pytest.mark.parametrize("batch", [1, 4, 33])
@pytest.mark.parametrize("path", PATHS)
def test_training_stops_before_the_next_step_when_asked_to(
    batch, path, dtype, make_net, make_data, all_take_part, small_chunks
):
    """Ctrl-C: all threads leave, within a chunk of the batch, and that batch is not learnt."""
    net = make_net((20, 9, 4), dtype=dtype)
    X, targets = make_data(net, 33)
    engine = NumbaEngine(net.model, net.layout)
    for threads in TEAMS:
        params = net.copy_params()
        with (
            cases.as_trainer_has_it(path) as name,
            engine.trainer(params, X, targets, batch, threads, name) as trainer,
        ):
            trainer.work.integers[ASKED] = 1
            trainer.run(np.arange(33), 0, 33, 0.1)
            assert trainer.stopped
            assert trainer.totals[0].tolist() == [0, 0, 0]
        assert params.tobytes() == net.params.tobytes()


# -- real data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 10, 100])
def test_steps_on_mnist(batch, dtype, mnist, make_net, assert_close):
    """All paths and the one that is chosen; float32 weights drift apart over more steps."""
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


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_packed_rows_change_no_bit(threads, rng, monkeypatch, all_take_part):
    """Tiles add up as those that read rows where they lie; each thread packs its share."""
    n_in = machine.STEP_BYTES // (240 * 4) + 37  # smaller layers are not updated by tiles
    X, y = rng.standard_normal((50, n_in)).astype(np.float32), rng.integers(0, 3, 50)
    monkeypatch.setattr(machine, "PACKED_BATCH", 2)
    monkeypatch.setattr(NumbaEngine, "choose_path", lambda *_, **__: "dense")

    def trained(least, threads):
        monkeypatch.setattr(machine, "PACKED_WIDTH", least)
        net = fastbp.Network([n_in, 240, 19, 3], dtype="float32", seed=0)
        assert all(n > 0 for n in net._engine.planner.packed(16)) == (least == 1)
        options = {"epochs": 2, "batch_size": 16, "learning_rate": 0.3, "shuffle": False}
        net.fit(X, y, threads=threads, **options)
        return net.to_vector()

    assert np.array_equal(trained(2**20, 1), trained(1, threads))


@pytest.mark.parametrize("filled_memory", [0xFF], indirect=True)
def test_each_thread_packs_in_a_place_of_its_own(
    filled_memory, dtype, make_net, make_data, monkeypatch, all_take_part
):
    """One may be at the next layer, of another size, while the others are at this one."""
    monkeypatch.setattr(machine, "PACKED_BATCH", 2)
    monkeypatch.setattr(machine, "PACKED_WIDTH", 1)
    net = make_net((20, 40, 24, 3), dtype=dtype)
    trainer = Trained(net, *make_data(net, 16), 16, 2, "dense").trainer
    plan, size = unpacked(trainer.plan), PACKED_ROWS * 16
    for part in trainer.work.scratch.reshape(2, plan.thread_scratch):
        assert np.isfinite(part[plan.packed_above : plan.packed_above + size]).all()


@pytest.mark.skipif(machine.PANEL_BYTES is None, reason="no panels are copied on this CPU")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_copied_panels_change_no_bit(threads, dtype, rng, monkeypatch, all_take_part):
    """Each thread of a team has a place of its own for them."""
    batch, n = 3 * machine.PANEL_BATCH, math.isqrt(machine.PANEL_BYTES // 4) + 1
    X = rng.standard_normal((2 * batch + 5, 3 * n)).astype(dtype)
    y = rng.integers(0, 3, len(X))
    monkeypatch.setattr(NumbaEngine, "choose_path", lambda *_, **__: "dense")

    def trained(least, threads):
        monkeypatch.setattr(machine, "PANEL_BYTES", least)
        net = fastbp.Network([3 * n, n, n, 3], dtype=dtype, seed=0)
        assert (net._engine.planner.panel(batch) > 0) == (least < 2**30)
        net.fit(X, y, epochs=2, batch_size=batch, learning_rate=0.3, shuffle=False, threads=threads)
        return net.to_vector()

    copied = trained(machine.PANEL_BYTES, threads)
    assert np.array_equal(trained(2**30, 1), copied)
