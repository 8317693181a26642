"""No kernel touches memory that is not its own: tests run again with a fence beside each array.

What the fences are, and that they hold, is in `fences.py`.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
LONG = pytest.mark.skipif(
    not os.environ.get("FASTBP_LONG"), reason="takes minutes; FASTBP_LONG=1 asks for it"
)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="no mprotect")

# All shapes, losses, activations, densities, paths, teams and optimisers.
MATRIX = ["test_dense.py", "test_losses.py", "test_activations.py", "test_sparse.py", "test_sgd.py"]
OPTIMISERS = ["../test_optimizers.py"]
# At other widths, one test for each way through the kernels.
SELECTION = [
    *MATRIX[:4],
    *(f"test_sgd.py::test_{name}" for name in (
        "topologies_and_widths",
        "inputs_of_any_density",
        "every_kind_of_input",
        "a_batch_in_chunks_learns_what_the_fused_one_does",
        "walks_over_a_set_are_the_reference",
        "ten_steps_and_a_smaller_last_batch",
    )),
    "../test_optimizers.py::test_an_epoch_is_the_reference_s_on_any_path_with_any_team",
]  # fmt: skip

SOME = [*MATRIX[:4], "test_sgd.py::test_topologies_and_widths"]


def fenced(tests, *options, **environment):
    """Run tests in a process of their own, which a touched fence may kill."""
    return subprocess.run(
        [
            sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-x",
            "-p", "no:cacheprovider", "-p", "fences", *options, *(str(FOLDER / t) for t in tests),
        ],
        env=os.environ | {"PYTHONPATH": str(FOLDER), **environment},
        cwd=ROOT, capture_output=True, text=True, timeout=880,
    )  # fmt: skip


def calls(done):
    """How many calls stood between fences."""
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return int(re.search(r"fences: calls (\d+)", done.stdout)[1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_some_of_each_between_fences():
    assert calls(fenced(SOME)) > 5_000


@LONG
@pytest.mark.timeout(900)
def test_the_matrix_between_fences():
    assert calls(fenced(MATRIX)) > 50_000


@LONG
@pytest.mark.timeout(900)
def test_optimisers_between_fences():
    assert calls(fenced(OPTIMISERS)) > 5_000


@LONG
@pytest.mark.timeout(900)
@pytest.mark.parametrize("width", [16, 32, 64])
def test_a_selection_between_fences_at_any_vector_width(width):
    assert calls(fenced(SELECTION, FASTBP_VECTOR_BYTES=str(width))) > 10_000


TRESPASS = """
import numba, numpy as np
from fastbp import kernels
from fastbp.kernels.simd import at, pointer

@numba.njit
def trespass(x, place, write):
    p = at(pointer(x), place)
    if write:
        p[0] = 1
    return p[0]

kernels.KERNELS["trespass"] = trespass
kernels.trespass = None

def test_it():
    kernels.trespass(np.ones(5, {dtype!r}), {place}, {write})
"""


@pytest.mark.parametrize("place", [-1, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_a_fence_holds_off_a_reader(tmp_path, place, dtype):
    (tmp_path / "test_it.py").write_text(TRESPASS.format(dtype=dtype, place=place, write=False))
    done = fenced([tmp_path / "test_it.py"])
    assert done.returncode == -signal.SIGSEGV, done.stdout
    assert "test_it" in done.stderr  # faulthandler says where


@pytest.mark.parametrize("place", [-1, 0, 5])
def test_canaries_tell_of_a_writer_on_the_other_side(tmp_path, place):
    """A fence would kill it; the first call's canaries lie behind, the second's in front."""
    program = TRESPASS.format(dtype="float32", place=place, write=True)
    if place == -1:  # the call at the start would be killed
        program += "\nimport fences\nfences.SIDES = (True,)\n"
    (tmp_path / "test_it.py").write_text(program)
    done = fenced([tmp_path / "test_it.py"])
    assert done.returncode == (0 if place == 0 else 1), done.stdout + done.stderr
    assert place == 0 or "trespass: bytes beside an array were written" in done.stdout
