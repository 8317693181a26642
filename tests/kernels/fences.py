"""A plugin of pytest's that puts every array a kernel is given beside a page nobody may touch.

    PYTHONPATH=tests/kernels python -m pytest -p fences tests/kernels/test_epochs.py

Each call is made twice: on arrays that begin where memory does, and on arrays that end there. A
kernel that reads or writes one byte beyond kills the process; what lies on the other side, up to
the end of its page, is canaries, which are looked at after each call. The tests themselves need not
know: kernels called by name are wrapped, as are the stretches of a trainer, whose threads share
their arrays.
"""

import ctypes
import itertools
import mmap

import numpy as np
import pytest

from fastbp import kernels
from fastbp.engines.numba_trainer import NumbaTrainer

PAGE = mmap.PAGESIZE
CANARY = 0xA5
SIDES = (False, True)  # at the end or not; the results of the last are kept
count = {"calls": 0, "arrays": 0}
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


class Plot:
    """A copy of an array between two fences, at one of them."""

    def __init__(self, array, at_end):
        self.original = array
        room = -(-max(array.nbytes, 1) // PAGE) * PAGE
        memory = mmap.mmap(-1, room + 2 * PAGE)
        self.ground = np.frombuffer(memory, np.uint8)
        for fence in (0, PAGE + room):
            assert protect(self.ground.ctypes.data + fence, PAGE, 0) == 0
        self.ground = self.ground[PAGE : PAGE + room]
        first = room - array.nbytes if at_end else 0
        self.beside = self.ground[:first], self.ground[first + array.nbytes :]
        for part in self.beside:
            part[...] = CANARY
        place = self.ground[first : first + array.nbytes]
        self.copy = place.view(array.dtype).reshape(array.shape)
        self.copy[...] = array
        self.copy.flags.writeable = array.flags.writeable

    def look(self, where):
        for part in self.beside:
            assert (part == CANARY).all(), f"{where}: bytes beside an array were written"

    def give_back(self):
        if self.original.flags.writeable:
            self.original[...] = self.copy


class Yard:
    """The fenced copies of all arrays of a call; two names of one array stay so."""

    def __init__(self, where, at_end):
        self.where, self.at_end, self.plots = where, at_end, {}
        count["calls"] += 1

    def fence(self, value):
        """Return the value with fenced copies in place of arrays, in records too."""
        if isinstance(value, tuple):
            parts = map(self.fence, value)
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if not isinstance(value, np.ndarray):
            return value
        assert value.flags.c_contiguous, f"{self.where}: an array has gaps"
        key = value.ctypes.data, value.nbytes, value.dtype.str, value.flags.writeable
        if key not in self.plots:
            self.plots[key] = Plot(value, self.at_end)
            count["arrays"] += 1
        return self.plots[key].copy

    def close(self):
        """Look at the canaries; keep the results of the call at the end."""
        for plot in self.plots.values():
            plot.look(self.where)
            if self.at_end:
                plot.give_back()


def fenced_call(name, kernel):
    def call(*args):
        for at_end in SIDES:
            yard = Yard(name, at_end)
            result = kernel(*yard.fence(args))
            yard.close()
        return result

    return call


def fenced_team(call):
    """Fence what a trainer hands to all threads of its team at once."""

    def fenced(trainer, kernel, *args):
        for at_end in SIDES:
            yard = Yard("a trainer", at_end)
            call(trainer, kernel, *yard.fence(args))
            yard.close()

    return fenced


@pytest.fixture(autouse=True)
def fences():
    """Before all other fixtures, so that what these replace in turn stands before a fence.

    The test's own `monkeypatch` begins later, and ends before the look at what a test leaves.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, kernel in kernels.KERNELS.items():
            if "team" not in kernel.py_func.__code__.co_varnames:  # those that have are a trainer's
                patch.setattr(kernels, name, fenced_call(name, kernel))
        patch.setattr(NumbaTrainer, "_call", fenced_team(NumbaTrainer._call))
        yield


def pytest_terminal_summary(terminalreporter):
    figures = itertools.chain.from_iterable(count.items())
    terminalreporter.write_line("fences: " + " ".join(map(str, figures)))
