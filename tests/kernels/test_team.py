"""The barrier, and who owns which share."""

import threading
import time
from types import SimpleNamespace

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from llvmlite import ir

from fastbp.kernels.ir.atomics import emit_pause
from fastbp.kernels.ir.memory import pointer
from fastbp.kernels.machine import K_SPLIT, TILE_ROWS
from fastbp.kernels.walk.records import Team
from fastbp.kernels.walk.team import (
    SAMPLES_UNIT,
    SYNC_SIZE,
    barrier,
    next_number,
    restart_numbers,
    share,
    stop,
    stopped,
)

TEAMS = (1, 2, 3, 4, 7, 16)
UNITS = (1, 4, 8, 16)


@numba.njit(nogil=True)
def meet(sync, thread, size, rounds, arrived):
    """Count own arrivals; return how many others were found at another round."""
    astray, team = 0, Team(thread, size)
    for i in range(rounds):
        arrived[thread, 0] = i + 1
        barrier(pointer(sync), team)
        for other in range(size):
            astray += arrived[other, 0] != i + 1
        barrier(pointer(sync), team)
    return astray


@numba.njit(nogil=True)
def take(sync, team, taken):
    """Count in each round who takes a number: nobody, or one."""
    for i in range(len(taken)):
        number = next_number(pointer(sync))
        while number < taken.shape[1]:
            taken[i, number] += 1
            number = next_number(pointer(sync))
        barrier(pointer(sync), team)
        restart_numbers(pointer(sync), team)
        barrier(pointer(sync), team)


@numba.njit
def stop_and_look(sync):
    before = stopped(pointer(sync))
    stop(pointer(sync))
    return before, stopped(pointer(sync))


@numba.njit
def share_of(count, unit, thread, team):
    return share(count, unit, thread, team)


def together(team, enter):
    threads = [threading.Thread(target=enter, args=(i,)) for i in range(team)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("team", [1, 2, 3, 8])
def test_no_thread_passes_a_barrier_before_all_have_come(team):
    """Also with more threads than cores, where spinning alone would take a time slice a round."""
    sync, arrived = np.zeros(SYNC_SIZE, np.int64), np.zeros((team, 8), np.int64)
    meet(sync.copy(), 0, 1, 1, arrived)  # compiled once, here
    astray = [None] * team

    def enter(thread):
        astray[thread] = meet(sync, thread, team, 200, arrived)

    together(team, enter)
    assert astray == [0] * team


def test_who_waits_long_sleeps():
    """A quota that one thread uses up while it waits is one that the others lack."""
    resource = pytest.importorskip("resource")
    sync, arrived = np.zeros(SYNC_SIZE, np.int64), np.zeros((2, 8), np.int64)
    meet(sync.copy(), 0, 1, 1, arrived)  # compiled once, here
    found = []

    def wait():
        meet(sync, 0, 2, 1, arrived)
        found.append(resource.getrusage(resource.RUSAGE_THREAD))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.5)
    meet(sync, 1, 2, 1, arrived)
    waiting.join()
    assert found[0].ru_utime + found[0].ru_stime < 0.1
    assert found[0].ru_nvcsw > 20  # one that only offers its core leaves it when others want it


@pytest.mark.parametrize(
    ("triple", "instruction"),
    [
        ("x86_64-unknown-linux-gnu", "pause"),
        ("aarch64-unknown-linux-gnu", "isb"),
        ("arm64-apple-macosx14", "isb"),
        ("powerpc64le-unknown-linux-gnu", None),
    ],
)
def test_each_cpu_pauses_in_its_own_way(triple, instruction):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = ir.Module()
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "spin")
    builder = ir.IRBuilder(function.append_basic_block())
    emit_pause(SimpleNamespace(builder=builder))
    builder.ret_void()
    target = llvm.Target.from_triple(triple).create_target_machine()
    code = target.emit_assembly(llvm.parse_assembly(str(module)))
    found = [word for word in ("pause", "isb") if f"\t{word}" in code]
    assert found == [instruction] * (instruction is not None)


@pytest.mark.parametrize("team", [1, 2, 3, 8])
def test_each_number_goes_to_one_thread_in_each_round(team):
    sync, taken = np.zeros(SYNC_SIZE, np.int64), np.zeros((100, 37), np.int64)
    take(sync.copy(), Team(0, 1), taken[:0])  # compiled once, here
    together(team, lambda thread: take(sync, Team(thread, team), taken))
    assert (taken == 1).all()


def test_what_only_kernels_call_refuses_python():
    with pytest.raises(TypeError, match="not callable"):
        share(100, 4, 0, 2)


def test_stop_is_seen():
    assert stop_and_look(np.zeros(SYNC_SIZE, np.int64)) == (False, True)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("team", TEAMS)
def test_shares_cover_all_things_once_in_whole_units(team, unit):
    for count in [*range(70), 100, 784, 1000]:
        shares = [share_of(count, unit, thread, team) for thread in range(team)]
        covered = [thing for first, last in shares for thing in range(first, last)]
        assert covered == list(range(count))
        assert all(first % unit == 0 for first, last in shares if last > first)
        assert all(first <= last <= count for first, last in shares if last > first)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("team", TEAMS)
def test_shares_are_fair(team, unit):
    """No share is more than one unit larger than another, but for a last unit that is cut short."""
    for count in (64, 100, 784):
        sizes = [
            last - first for first, last in (share_of(count, unit, t, team) for t in range(team))
        ]
        assert max(sizes) - min(sizes) <= 2 * unit - 1


def test_samples_are_shared_out_in_units_whose_tiles_add_up_in_one_order():
    """Tiles of fewer rows than a unit split their sums; those of a unit and more do not."""
    assert max(K_SPLIT) < SAMPLES_UNIT
    assert TILE_ROWS % SAMPLES_UNIT == 0
