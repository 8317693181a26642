"""The table that a network's plan travels in, and how kernels store."""

import ast
from pathlib import Path

import numba
import numpy as np
import pytest

from fastbp.kernels.ir.memory import pointer
from fastbp.kernels.walk import records

ARRAYS = records.Plan._fields[records.NUMBERS :]


@numba.njit
def field(table, number, l):
    p = records.unpack(table)
    numbers = (
        p.last, p.loss, p.bias, p.chunk, p.blocks, p.lists, p.packed, p.packed_above,
        p.panel, p.thread_scratch, p.thread_sums, p.whole, p.row, p.z, p.turn, p.columns_delta,
        p.local, p.local_size, p.turned, p.keep, p.times, p.drop,
    )  # fmt: skip
    if number < len(numbers):
        return numbers[number]
    arrays = (
        p.sizes, p.strides, p.widths, p.w, p.b, p.a, p.delta, p.transposed, p.activations, p.kept,
        p.threshold,
    )  # fmt: skip
    return arrays[number - len(numbers)][l]


def test_a_plan_survives_its_journey():
    layers = 3
    values = iter(range(100, 200))
    numbers = [layers - 1, *(next(values) for _ in range(records.NUMBERS - 1))]
    arrays = [np.array([next(values) for _ in range(layers)]) for _ in ARRAYS]
    packed = records.pack(records.Plan(*numbers, *arrays))
    assert packed.dtype == np.int64
    for number, value in enumerate([*numbers, *arrays]):
        for l in range(layers):
            expected = value if number < records.NUMBERS else value[l]
            assert field(packed, number, l) == expected, records.Plan._fields[number]


@numba.njit
def finite(p, count):
    return records.all_finite(pointer(p), count)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_seen_wherever_it_lies(bad, dtype):
    x = np.full(100, np.finfo(dtype).max, dtype)
    assert finite(x, 100)
    for place in (0, 50, 99):
        y = x.copy()
        y[place] = bad
        assert not finite(y, 100)
    assert finite(y, 99)


# -- stores ----------------------------------------------------------------------------------------


def stores(source):
    """The elements that are assigned to, rather than `put`."""
    for node in ast.walk(ast.parse(source)):
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AugAssign) else targets
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Subscript):
                    yield ast.unparse(part)


def test_all_that_walks_a_network_stores_by_put():
    """Numba once dropped the zeroing of a gradient buffer: it took the store for dead."""
    sources = list(Path(records.__file__).parent.glob("*.py"))
    assert len(sources) > 8
    assert {path.name: list(stores(path.read_text(encoding="utf-8"))) for path in sources} == {
        path.name: [] for path in sources
    }


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("p[0] = 1", ["p[0]"]),
        ("work.sums[0] += 1", ["work.sums[0]"]),
        ("a, p[i] = b", ["p[i]"]),
        ("put(p, 0, p[1])", []),
        ("x = p[0]", []),
    ],
)
def test_the_test_above_can_fail(source, found):
    assert list(stores(source)) == found
