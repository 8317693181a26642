"""The table that a network's plan travels in, and what may be compiled into its callers."""

import ast

import numba
import numpy as np
import pytest

from fastbp import kernels
from fastbp.kernels.ir.vectors import pointer
from fastbp.kernels.jit import kernel_sources
from fastbp.kernels.walk import records as plan

ARRAYS = kernels.Plan._fields[plan.NUMBERS :]


@numba.njit
def field(table, number, l):
    p = plan.read(table)
    numbers = (p.last, p.loss, p.bias, p.chunk, p.blocks, p.scratch)
    if number < len(numbers):
        return numbers[number]
    arrays = (p.sizes, p.strides, p.widths, p.w, p.b, p.a, p.delta, p.flipped, p.activations)
    return arrays[number - len(numbers)][l]


def test_a_plan_survives_its_journey():
    layers = 3
    values = iter(range(100, 200))
    numbers = [layers - 1, *(next(values) for _ in range(plan.NUMBERS - 1))]
    arrays = [np.array([next(values) for _ in range(layers)]) for _ in ARRAYS]
    packed = kernels.pack(kernels.Plan(*numbers, *arrays))
    assert packed.dtype == np.int64
    for number, value in enumerate([*numbers, *arrays]):
        for l in range(layers):
            expected = value if number < plan.NUMBERS else value[l]
            assert field(packed, number, l) == expected, kernels.Plan._fields[number]


@numba.njit
def finite(p, count):
    return plan.all_finite(pointer(p), count)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_seen_wherever_it_lies(bad, dtype):
    x = np.full(100, np.finfo(dtype).max, dtype)
    assert finite(x, 100)
    for place in (0, 50, 99):
        y = x.copy()
        y[place] = bad
        assert not finite(y, 100)
    assert finite(y, 99)


# -- functions that are compiled into their callers ------------------------------------------------


def stores(function):
    """The names whose elements a function assigns to."""
    for node in ast.walk(function):
        targets = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Subscript):
                    yield ast.unparse(part.value)


def dropped_stores(source, inlined):
    """Stores that Numba may take for dead, once other functions are compiled into this one.

    A function that is inlined must not store at all; one that inlines others, only into its own
    arguments.
    """
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        called = {
            node.func.id
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        own = {argument.arg for argument in function.args.args}
        for name in stores(function):
            if function.name in inlined or (called & inlined and name not in own):
                yield f"{function.name}: {name}"


def names_inlined(source):
    return {
        function.name
        for function in ast.walk(ast.parse(source))
        if isinstance(function, ast.FunctionDef)
        for decorator in function.decorator_list
        if "inlined" in ast.unparse(decorator) or "inline='always'" in ast.unparse(decorator)
    }


def test_nothing_that_is_compiled_into_its_callers_stores_through_a_pointer():
    """Numba once dropped the zeroing of a gradient buffer so: it took the store for dead."""
    sources = [path.read_text(encoding="utf-8") for path in kernel_sources()]
    inlined = set().union(*map(names_inlined, sources))
    assert {"learn_chunks", "_learn_one"} <= inlined
    assert [found for source in sources for found in dropped_stores(source, inlined)] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("@inlined\ndef f(p):\n p[0] = 1", ["f: p"]),
        ("@inlined\ndef f(w):\n w.sums[0] += 1", ["f: w.sums"]),
        ("@inlined\ndef f(p): return p\n@kernel\ndef g(p):\n q = f(p)\n q[0] = 1", ["g: q"]),
        ("@inlined\ndef f(p): return p\n@kernel\ndef g(p):\n f(p)\n p[0] = 1", []),
        ("@inner\ndef f(p):\n p[0] = 1", []),
    ],
)
def test_the_test_above_can_fail(source, found):
    assert list(dropped_stores(source, names_inlined(source))) == found
