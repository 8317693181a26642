"""Functions of the user's as kernels call them: equal to the reference, vectors, and kept."""

import math
import os
import re
import subprocess
import sys

import numba
import numpy as np
import pytest

from fastbp import Activation, Loss, reference
from fastbp.engines.numba_engine import NumbaEngine
from fastbp.engines.numpy_engine import NumpyEngine
from fastbp.kernels import jit, own
from fastbp.kernels.cpu import vector_bytes
from fastbp.kernels.own import activation_entries
from fastbp.model.layout import stride

SCALE = 0.7
GUARD = -77.0


def scaled(z):
    return SCALE * z


def hardly(z):
    return min(max(z, -1), 1)


ACTIVATIONS = {
    "where": Activation(lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01)),
    "a conditional": Activation(
        lambda z: z if z > 0 else math.exp(z) - 1, lambda z: 1.0 if z > 0 else math.exp(z)
    ),
    "tanh": Activation(math.tanh, lambda z, a: 1 - a * a),
    "another function": Activation(
        lambda z: scaled(z) / (1 + abs(z)) ** 2 * (1 + abs(z)),
        lambda z: SCALE / (1 + abs(z)) ** 2,
    ),
    "powers": Activation(lambda z: z / (1 + z**4), lambda z: (1 - 3 * z**4) / (1 + z**4) ** 2),
    "libm": Activation(math.atan, lambda z: 1 / (1 + z**2)),
    "clipped": Activation(lambda z: np.clip(z, -1, 1), lambda z: 1.0 if -1 < z < 1 else 0.0),
    "extremes": Activation(hardly, lambda z: np.where(abs(z) < 1, 1.0, 0.0)),
}
LOSSES = {
    "log-cosh": Loss(
        lambda a, y: abs(a - y) + math.log1p(math.exp(-2 * abs(a - y))) - math.log(2),
        lambda a, y: math.tanh(a - y),
    ),
    "half": Loss(lambda a, y: 0.5 * (a - y) ** 2, lambda a, y: a - y),
}


def call(address, *arguments):
    own._call(address, *arguments)


# -- twins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_its_twin(name, dtype, rng, assert_close):
    activation = ACTIVATIONS[name]
    rows, one = activation_entries(activation, dtype)
    width = 2 * stride(100, dtype)
    for n in (1, 2, 7, 17, 64, 100):
        z = (3 * rng.standard_normal((5, width))).astype(dtype)
        z[0, 0] = 1e3
        wanted, slopes = np.empty_like(z), np.empty_like(z)
        reference.activate(activation, z, wanted)
        reference.slope(activation, z, slopes)
        for out in (np.full((5, width + 32), GUARD, dtype), z.copy()):
            before = out.copy()
            call(rows, 5, n, z if out[0, 0] == GUARD else out, width, out, out.shape[1])
            assert_close(out[:, :n], wanted[:, :n], where=f"n={n}")
            assert np.array_equal(out[:, n:], before[:, n:])
        a, slope = (np.full(width, GUARD, dtype) for _ in range(2))
        call(one, n, z[1], a, slope)
        lanes = vector_bytes() // z.itemsize
        whole = -(-n // lanes) * lanes
        assert_close(a[:n], wanted[1, :n], where=f"n={n}")
        assert_close(slope[:n], slopes[1, :n], where=f"n={n}", extra=4 * np.finfo(dtype).eps)
        for found in (a, slope):
            assert not found[n:whole].any()
            assert (found[whole:] == GUARD).all()


LEARNING_RATE = 1024.0


def step(net, X, targets, threads, path):
    """The gradient by which training moves, and its loss; and the bits of all that it leaves."""
    params, engine = net.copy_params(), NumbaEngine(net.model, net.layout)
    with engine.trainer(params, X, targets, len(X), threads, path) as trainer:
        trainer.run(np.arange(len(X)), 0, len(X), LEARNING_RATE)
        loss, hits, _ = trainer.totals[0].tolist()
    moved = (net.params.astype(np.float64) - params) / LEARNING_RATE
    return moved, loss / len(X), (params.tobytes(), loss, hits)


@pytest.mark.parametrize("path", ["dense", "sparse", "narrow"])
@pytest.mark.parametrize("labels", [True, False])
def test_training_is_the_reference(
    path, labels, dtype, make_net, make_data, assert_close, all_take_part
):
    hidden = [ACTIVATIONS["tanh"], ACTIVATIONS["another function"]]
    outputs = [(LOSSES["log-cosh"], ACTIVATIONS["another function"]), (LOSSES["half"], "identity")]
    for output in outputs:
        for batch in (1, 33):
            net = make_net((20, 17, 9, 4), output, hidden, dtype)
            X, targets = make_data(net, batch, labels)
            grads, loss, _ = NumpyEngine(net.model, net.layout).gradient(net.params, X, targets)
            moved, found, bits = step(net, X, targets, 1, path)
            extra = np.finfo(dtype).eps * np.abs(net.params).max() / LEARNING_RATE
            assert_close(moved, grads, dtype=dtype, extra=extra, where=f"batch {batch}")
            assert_close(found, loss, dtype=dtype)
            assert step(net, X, targets, 3, path)[2] == bits


def test_numbers_in_the_code_are_of_the_networks_precision(dtype):
    """In float32 they would otherwise make all that they meet float64, as fast as half a vector."""
    number = own.from_dtype(np.dtype(dtype))
    for name in ("where", "extremes", "another function"):
        for role in ACTIVATIONS[name].roles:
            assert own._compiled(role, number).signature.return_type == number


PARTS = 0.25, 2.0


def test_integers_that_count_stay_integers(rng, assert_close):
    own_one = Activation(lambda z: PARTS[1] * z + PARTS[0], lambda z: PARTS[1])
    _, one = activation_entries(own_one, np.float32)
    z, a, slope = rng.standard_normal((3, 64)).astype(np.float32)
    call(one, 64, z, a, slope)
    assert_close(a, 2 * z + np.float32(0.25))
    assert (slope == 2).all()


# -- what is refused -------------------------------------------------------------------------------


def test_what_cannot_be_compiled_is_refused_with_the_compilers_reason():
    table = {"x": 1.0}
    with pytest.raises(TypeError, match=r"f cannot be compiled: .*dict") as caught:
        Activation(lambda z: z * table["x"], lambda z: 1.0)
    assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match=r"delta cannot be compiled"):
        Loss(lambda a, y: 0.5 * (a - y) ** 2, lambda a, y: float(str(a - y)))


def test_what_is_other_numbers_when_compiled_is_refused():
    big = 2**62
    with pytest.raises(ValueError, match="f must give the same numbers compiled; it gives"):
        Activation(lambda z: z + (big * 4 - big * 4 + 1.0 if big * 4 > 0 else 0.0), lambda z: 1.0)


# -- machine code ----------------------------------------------------------------------------------


def llvm_code(activation, dtype):
    """What LLVM made of an activation's functions, a text for each."""
    options = jit.WHOLE | jit.OPTIONS | {"no_cpython_wrapper": True}
    for function, kinds in own._activations(activation, np.dtype(dtype)):
        found = numba.njit(**options)(function).get_compile_result(numba.void(*kinds))
        parts = re.split(r"\n(?=define )", found.library.get_llvm_str())
        name = found.fndesc.llvm_func_name
        yield next(part for part in parts if name in part.partition("\n")[0])


@pytest.mark.parametrize("name", ["where", "a conditional", "tanh", "powers"])
def test_loops_are_vectors(name, dtype):
    """No number is computed alone, and no formula is called for one."""
    for code in llvm_code(ACTIVATIONS[name], dtype):
        assert re.search(r"(= fmul|= fcmp|call)[a-z ]* <\d+ x (float|double)>", code)
        assert not re.search(r"= (fmul|fadd|fsub|fdiv|fcmp)[a-z ]* (float|double)", code)
        assert not re.search(r"call[a-z ]* (float|double)", code)
        # Of these LLVM makes calls for each number in the end.
        assert not re.search(r"@llvm\.(pow|exp|log|tanh)", code)


# -- what is kept ----------------------------------------------------------------------------------

PROGRAM = """
import sys, math
import numpy as np
import numba
from fastbp import Activation, Loss
from fastbp.kernels import own
SCALE = {scale}
compiled = []
right = own._typed
own._typed = lambda *args: compiled.append(1) or right(*args)
a = Activation(lambda z: SCALE * z, lambda z: SCALE, "scaled")
loss = Loss(lambda a, y: SCALE * (a - y) ** 2, lambda a, y: 2.0 * SCALE * (a - y))
own.activation_entries(a, "float32")
z = np.ones(64)
print(len(compiled), own.compiled_values(a, z[:, None])[0][0])
"""


def run(program, tmp_path, **environment):
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **environment},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


def test_a_second_process_compiles_nothing_and_an_edited_function_is_compiled_anew(tmp_path):
    first = run(PROGRAM.format(scale=2.0), tmp_path)
    assert first == ["6", "2.0"]
    assert run(PROGRAM.format(scale=2.0), tmp_path) == ["0", "2.0"]
    assert run(PROGRAM.format(scale=3.0), tmp_path) == ["6", "3.0"]


WITHOUT = """
import sys
sys.modules["fastbp.kernels.numba_link"] = None
import math
from fastbp import Activation
from fastbp.kernels import jit
assert jit.numba_link is None
Activation(math.tanh, lambda z, a: 1 - a * a)  # compiled and compared
"""


def test_without_private_parts_of_numba_they_are_compiled_in_each_process(tmp_path):
    run(WITHOUT, tmp_path)
    assert not list(tmp_path.rglob("own.*"))
