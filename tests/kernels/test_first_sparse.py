"""Compressed rows, how they are cut into blocks, and how a set too large for the room is taken."""

import numpy as np
import pytest

from fastbp import kernels
from fastbp.engines.numba_data import density, sparse_rows
from fastbp.kernels.machine import DENSITY_SAMPLE, ENTRY_GROUP

GUARD = 99
ROOM = 4  # entries behind those that a kernel may write


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


class Index:
    """Room for an index, between guards, and the calls that fill it."""

    def __init__(self, X, scale, dtype, blocks=1, index_type="uint16", room=None):
        n, n_in = X.shape
        self.X, self.blocks = read_only(X), blocks
        kind = np.uint8 if X.dtype == np.uint8 else np.dtype(dtype)
        self.scale = kind(1) if kind is np.uint8 else kind.type(scale)
        room = n * (n_in + blocks * ENTRY_GROUP) if room is None else room
        self.room = room
        self.start = np.full(n * blocks + 1 + ROOM, GUARD, np.int64)
        self.start[0] = 0
        self.position = np.full(room + ROOM, GUARD, index_type)
        self.value = np.full(room + ROOM, GUARD, kind)
        self.rows = np.zeros(2, np.int64)

    def fill(self):
        """Index what there is room for; return how many samples are done."""
        before = self.position.copy(), self.value.copy()
        kernels.index_rows(
            self.X, self.scale, self.blocks, self.rows, self.start,
            self.position[: self.room], self.value[: self.room],
        )  # fmt: skip
        done = int(self.rows[0])
        assert (self.start[done * self.blocks + 1 :] == GUARD).all()
        for now, then in zip((self.position, self.value), before, strict=True):
            assert np.array_equal(now[self.room :], then[self.room :])
        return done

    def entries(self, s, j):
        """Positions and values of sample s in block j."""
        here = slice(*self.start[s * self.blocks + j : s * self.blocks + j + 2])
        return self.position[here].astype(int), self.value[here]


def compressed(X, scale, dtype, **options):
    index = Index(X, scale, dtype, **options)
    assert index.fill() == len(X)
    return index


def assert_is_index_of(index, X, scale, dtype):
    """Each input that is not zero once, in order; then zeros, up to a whole group."""
    blocks, block = index.blocks, -(-X.shape[1] // index.blocks)
    again = np.zeros(X.shape, index.value.dtype)
    for s in range(len(X)):
        for j in range(blocks):
            position, value = index.entries(s, j)
            lit = np.flatnonzero(X[s, j * block : (j + 1) * block]) + j * block
            assert position.size == -(-lit.size // ENTRY_GROUP) * ENTRY_GROUP
            assert np.array_equal(position[: lit.size], lit)
            assert not value[lit.size :].any()
            filling = position[lit.size :]  # zeros are multiplied by weights of this block
            assert ((j * block <= filling) & (filling < min((j + 1) * block, X.shape[1]))).all()
            again[s, lit] = value[: lit.size]
    wanted = X if X.dtype == np.uint8 else X * np.dtype(dtype).type(scale)
    assert np.array_equal(again, wanted)


def mostly_zero(rng, shape, dtype):
    X = rng.integers(1, 256, shape) * (rng.random(shape) < 0.3)
    X[1] = 0  # a sample without any light
    X[2] = 200  # and one with nothing but
    return X.astype(dtype)


@pytest.mark.parametrize("index_type", ["uint16", "uint32"])
@pytest.mark.parametrize("input_type", ["uint8", None])
def test_compressed_rows_hold_what_is_not_zero(input_type, index_type, dtype, rng):
    """At widths around the number of inputs looked at together."""
    for n_in in (1, 3, 4, 5, 31, 32, 33, 40, 63, 64, 65):
        X = mostly_zero(rng, (9, n_in), input_type or dtype)
        index = compressed(X, 1 / 255, dtype, index_type=index_type)
        assert_is_index_of(index, X, 1 / 255, dtype)


@pytest.mark.parametrize("input_type", ["uint8", None])
@pytest.mark.parametrize("blocks", [2, 3, 4, 7, 40])
def test_rows_are_cut_into_blocks_of_inputs(blocks, input_type, dtype, rng):
    for n_in in (40, 64, 97):
        X = mostly_zero(rng, (9, n_in), input_type or dtype)
        assert_is_index_of(compressed(X, 0.3, dtype, blocks=blocks), X, 0.3, dtype)


def test_zeros_are_skipped_whatever_their_sign_and_nan_is_not(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    X = np.array([[0.0, -0.0, np.nan, 1.0, np.inf, tiny, 0.0]], dtype)
    index = compressed(X, 1, dtype)
    position, value = index.entries(0, 0)
    assert position[:4].tolist() == [2, 3, 4, 5]
    assert np.array_equal(value, [np.nan, 1, np.inf, tiny], equal_nan=True)
    assert position.size == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "large"])
def test_samples_that_are_not_finite_are_counted(bad, dtype, rng):
    """In whichever lane, and also where only scaling makes a number too large."""
    bad = np.finfo(dtype).max / 2 if bad == "large" else bad
    for i in (0, 1, 31, 32, 64):
        X = mostly_zero(rng, (9, 65), dtype)
        X[[3, 8], i] = bad
        with np.errstate(over="ignore"):
            assert compressed(X, 3, dtype, blocks=2).rows.tolist() == [9, 2]
    for n_in in range(1, 2 * ENTRY_GROUP + 1):  # with and without zeros that fill up a group
        X = np.ones((2, n_in), dtype)
        X[0, -1] = bad
        with np.errstate(over="ignore"):
            assert compressed(X, 3, dtype).rows.tolist() == [2, 1]
    assert compressed(mostly_zero(rng, (9, 65), "uint8"), 3, dtype).rows.tolist() == [9, 0]


def test_a_set_of_zeros_has_no_entries(dtype):
    index = compressed(np.zeros((3, 5), dtype), 1, dtype)
    assert index.start[:4].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("blocks", [1, 3])
def test_where_there_is_no_room_left_the_next_call_goes_on(blocks, density, dtype, rng):
    """No entry is written past the end, and the index is the one that a single call makes."""
    X = (rng.integers(1, 256, (9, 20)) * (rng.random((9, 20)) < density)).astype(dtype)
    whole = compressed(X, 0.3, dtype, blocks=blocks)
    worst = 20 + blocks * ENTRY_GROUP
    for room in (0, worst - 1, worst, worst + 1, 2 * worst, 5 * worst):
        index = Index(X, 0.3, dtype, blocks=blocks, room=room)
        done, calls = index.fill(), 1
        assert (done > 0) == (room >= worst)
        assert index.fill() == done  # a call without more room changes nothing
        while done < 9:
            more = np.full(worst, GUARD)
            index.room += worst
            index.position = np.append(index.position, more.astype(index.position.dtype))
            index.value = np.append(index.value, more.astype(index.value.dtype))
            before, done, calls = done, index.fill(), calls + 1
            assert done > before
        assert calls > 1 or room == 5 * worst or density == 0
        last = whole.start[9 * blocks]
        assert np.array_equal(index.start[: 9 * blocks + 1], whole.start[: 9 * blocks + 1])
        assert np.array_equal(index.position[:last], whole.position[:last])
        assert np.array_equal(index.value[:last], whole.value[:last])


@pytest.mark.parametrize("entries", [0, 1, 4, 6])
def test_entries_are_indexed_in_no_more_room_than_they_take(entries, dtype):
    """The last group is filled up, and nothing is written behind it."""
    first, column = np.array([0, 0, entries]), np.arange(entries)
    entry, start = np.ones(entries, dtype), np.zeros(3, np.int64)
    room = -(-entries // ENTRY_GROUP) * ENTRY_GROUP
    position, value = np.full(room + ROOM, GUARD, np.uint16), np.full(room + ROOM, GUARD, dtype)
    args = entry.dtype.type(2), 9, start, position[:room], value[:room]
    assert kernels.index_entries(first, column, entry, *args)
    assert start.tolist() == [0, 0, room]
    assert (position[room:] == GUARD).all()
    assert (value[room:] == GUARD).all()
    assert value[:room].tolist() == [2] * entries + [0] * (room - entries)


# -- as the engine makes it ------------------------------------------------------------------------


@pytest.mark.parametrize("coded", [False, True])
def test_an_estimate_that_is_too_small_is_mended(coded, dtype, rng, monkeypatch):
    """A set whose every other row is dark, the only ones that are looked at: the index grows."""
    n = 2 * DENSITY_SAMPLE
    X = rng.integers(1, 256, (n, 33)).astype(np.uint8 if coded else dtype)
    X[::2] = 0
    assert density(X) == 0
    calls, right = [], kernels.index_rows
    monkeypatch.setattr(kernels, "index_rows", lambda *args: (calls.append(1), right(*args)))
    for blocks in (1, 3):
        calls.clear()
        data, _ = sparse_rows(read_only(X), blocks, 0.3, np.dtype(dtype))
        assert len(calls) > 2
        whole = compressed(X, 0.3, dtype, blocks=blocks)
        last = data.start[-1]
        assert np.array_equal(data.start, whole.start[:-ROOM])
        assert np.array_equal(data.position[:last], whole.position[:last])
        assert np.array_equal(data.value[:last], whole.value[:last])
        counts = np.diff(data.start[::blocks])
        assert np.mean(counts <= data.fetched) > 0.9
        assert data.fetched <= 2 * counts.max()


def test_bytes_keep_their_size_and_a_palette_says_what_they_stand_for(dtype, rng):
    X = mostly_zero(rng, (20, 33), np.uint8)
    data, _ = sparse_rows(read_only(X), 1, 0.3, np.dtype(dtype))
    assert data.value.dtype == np.uint8
    assert data.palette.dtype == dtype
    assert np.array_equal(data.palette, np.arange(256).astype(dtype) * np.dtype(dtype).type(0.3))
    floats, _ = sparse_rows(read_only(X.astype(dtype)), 1, 0.3, np.dtype(dtype))
    assert floats.palette is None
    last = floats.start[-1]
    assert np.array_equal(data.palette[data.value[:last]], floats.value[:last])
