"""Choices of path, chunk, blocks and team: arithmetic on shapes, for which nothing is compiled."""

import numpy as np
import pytest

from fastbp.engines import planning
from fastbp.engines.planning import Planner, Task
from fastbp.kernels import machine
from fastbp.kernels.machine import BLOCK_BYTES, SPARSE_COLUMNS
from fastbp.model.layout import Layout

WIDTHS = (16, 32, 64)  # bytes of a vector


@pytest.fixture(params=WIDTHS)
def plan_of(request, dtype):
    """plan_of(sizes): the planner of a network, at each width of vectors."""

    def make(sizes, kind=dtype):
        lanes = request.param // np.dtype(kind).itemsize
        return Planner(Layout(sizes, kind), lanes, logarithms=True)

    return make


def planner(*sizes):
    """The planner of a network in float32, on a CPU with AVX-512."""
    return Planner(Layout(sizes, "float32"), 16, logarithms=True)


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(planning, "available_cores", lambda: 8)


@pytest.fixture
def prices(monkeypatch):
    """Of a machine on which little passes between cores for nothing."""
    monkeypatch.setattr(machine, "BARRIER_COST", 100)
    monkeypatch.setattr(machine, "CROSSING_COST", 3)


@pytest.mark.parametrize(
    ("threads", "weights", "samples", "expected"),
    [
        (1, 10**9, 1000, 1),
        (4, 10**9, 1000, 4),
        (16, 10**9, 1000, 8),  # no more than cores
        (8, 2**22, 24, 3),  # than are worth it
        (8, 2**22, 23, 2),
        (8, 10, 1000, 1),
    ],
)
def test_a_call_takes_no_more_threads_than_pay(threads, weights, samples, expected, eight_cores):
    assert planning.threads_of_call(threads, weights, samples) == expected


@pytest.mark.parametrize(
    ("threads", "sizes", "path", "batch", "expected"),
    [
        (1, (784, 512, 10), "dense", 100, 1),
        (2, (784, 512, 10), "dense", 100, 2),
        (16, (784, 512, 512, 10), "dense", 128, 8),  # no more than cores
        (16, (784, 2000, 10), "dense", 128, 8),
        (8, (784, 16, 10), "dense", 100, 1),  # one vector of columns is not shared
        (8, (784, 64, 10), "sparse", 100, 4),  # nor are four among more than four
        (2, (4, 16, 3), "dense", 100, 1),  # too little to do
        (2, (4, 32, 16, 4), "narrow", 10_000, 2),
        (2, (4, 32, 16, 4), "narrow", 100, 1),  # one chunk
    ],
)
def test_a_team_is_no_larger_than_it_pays(
    threads, sizes, path, batch, expected, eight_cores, prices
):
    assert planner(*sizes).team(threads, Task(path, batch, 0.2)).size == expected


def test_who_does_what_follows_from_what_passes_between_cores(eight_cores, prices, monkeypatch):
    """Little is done by each thread on a copy of its own, much is shared."""
    assert planner(784, 64, 10).team(2, Task("dense", 1)) == (2, True)
    assert planner(784, 512, 512, 10).team(2, Task("dense", 128)) == (2, False)
    assert planner(784, 100, 10).team(2, Task("dense", 100)) == (2, False)
    monkeypatch.setattr(machine, "BARRIER_COST", 3000)
    assert planner(784, 100, 10).team(2, Task("dense", 100)) == (2, False)
    assert planner(784, 100, 10).team(2, Task("dense", 33)) == (2, True)
    assert planner(784, 100, 10).team(2, Task("dense", 200, plain=False)) == (2, False)
    assert planner(784, 100, 10).team(2, Task("dense", 1)) == (1, False)


# -- paths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "density", "batch", "path"),
    [
        ((784, 30, 10), 0.0, 1, "sparse"),
        ((784, 30, 10), 0.2, 1, "sparse"),
        ((784, 30, 10), 0.2, 10, "sparse"),
        ((784, 30, 10), 1.0, 1, "dense"),
        ((784, 30, 10), 1.0, 10, "dense"),
        ((784, 300, 10), 1.0, 100, "dense"),
        ((784, 300, 10), 0.05, 100, "sparse"),
        ((24, 8, 2), 1.0, 200, "narrow"),
        ((4, 3, 2), 1.0, 1000, "narrow"),
    ],
)
def test_the_path_follows_density_and_shape(sizes, density, batch, path, plan_of):
    assert plan_of(sizes, "float32").path(density, batch) == path


def test_a_single_sample_has_no_other_lanes(plan_of):
    for sizes in ((4, 3, 2), (784, 30, 10), (1, 1)):
        for density in (0.0, 0.5, 1.0):
            assert plan_of(sizes).path(density, 1) in ("dense", "sparse")
        assert not plan_of(sizes).is_narrow(1)


def test_weighted_samples_never_take_the_narrow_path(plan_of):
    planner = plan_of((4, 3, 2))
    assert planner.path(1.0, 1000) == "narrow"
    assert planner.path(1.0, 1000, weighted=True) == "dense"


def test_narrow_gradients_are_those_of_narrow_networks_in_large_batches(plan_of):
    assert plan_of((4, 3, 2)).is_narrow(1000)
    assert not plan_of((784, 300, 10)).is_narrow(1000)


# -- blocks, chunks and places ---------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(784, 30, 10), (784, 300, 10), (5, 3), (70_000, 2), (1, 1000)])
def test_blocks_of_inputs_fit_the_first_level_cache(sizes, plan_of):
    planner = plan_of(sizes)
    blocks = planner.blocks(10)
    block = -(-sizes[0] // blocks)
    columns = min(SPARSE_COLUMNS * planner.lanes, sizes[1])
    assert block == 1 or block * columns * planner.itemsize <= BLOCK_BYTES
    assert (blocks - 1) * block < sizes[0]  # none is empty
    assert planner.blocks(1) == 1  # one sample passes the weights once anyway


def test_scratch_has_room_for_what_is_used_and_no_more(plan_of):
    """Weights of the first layer are never transposed: with many inputs that would be gigabytes."""
    planner = plan_of((5000, 16, 8))
    places = planner.places(8)
    assert places.size < 2 * 8 * sum(planner.strides) + 3 * max(planner.strides)
    for starts in (places.a, places.delta, places.transposed):
        assert not any(start * planner.itemsize % 64 for start in starts)  # each starts on a line


@pytest.mark.parametrize(
    ("sizes", "path", "batch", "turned"),
    [
        ((784, 50, 10), "dense", 100, True),
        ((784, 50, 10), "sparse", 100, False),
        ((784, 50, 10), "dense", 10, False),
        ((784, 64, 10), "dense", 100, False),  # no padding is saved
        ((100, 50, 10), "dense", 100, False),  # the sums over lanes would take too long
        ((2000, 500, 10), "dense", 100, False),  # weights leave the second level cache
    ],
)
def test_weights_lie_output_by_output_where_columns_would_be_padded(
    sizes, path, batch, turned, monkeypatch
):
    monkeypatch.setattr(machine, "TURNED_SHARE", 0.93)
    monkeypatch.setattr(machine, "TURNED_BYTES", 2**19)
    found = planner(*sizes)
    row = found.turned(path, batch)
    assert (row >= sizes[0]) == turned
    places = found.columns(found.places(batch), planning.ALONE)
    some = found.panels(places, planning.ALONE, row, 2)
    assert (some.local >= places.size) == (some.local_size >= found.size + row * sizes[1]) == turned
    assert some.size >= places.size + 2 * some.local_size


@pytest.mark.parametrize("batch", [1, 7, 8, 64, 10_000])
def test_places_in_the_scratch_do_not_overlap(batch, plan_of):
    """Nor do they reach into the constants, or beyond the end."""
    planner = plan_of((20, 17, 300, 4))
    for narrow, places in ((False, planner.places(batch)), (True, planner.narrow_places())):
        used = np.zeros(places.size, int)
        used[:2] += 1  # the constants
        for l, n in enumerate(planner.sizes):
            row = places.chunk if narrow else planner.strides[l]
            many = (
                {"a": n + 1, "delta": n} if narrow else {"a": places.chunk, "delta": places.chunk}
            )
            if not l:
                del many["delta"]
            for name, count in many.items():
                first = getattr(places, name)[l]
                assert first + count * row <= places.size
                used[first : first + count * row] += 1
            if l > 1 and not narrow:
                below, width = planner.strides[l - 1], planner.widths[l]
                used[places.transposed[l] : places.transposed[l] + width * below] += 1
        assert used.max() == 1


@pytest.mark.parametrize("batch", [1, 8, 128, 10_000])
def test_a_chunk_is_a_batch_or_as_much_as_the_scratch_holds(batch, plan_of):
    planner = plan_of((784, 100, 10))
    chunk = planner.places(batch).chunk
    assert chunk == (machine.PASS_SAMPLES if batch == 1 else min(batch, planner.most_chunk))
    assert 128 <= planner.most_chunk <= 1024
    vectors = planner.narrow_places().chunk // planner.lanes
    assert vectors % 2
    assert machine.NARROW_FEWEST <= vectors < machine.NARROW_VECTORS
    small = plan_of((4, 32, 16, 4))
    assert small.narrow_places().chunk == machine.NARROW_VECTORS * small.lanes
