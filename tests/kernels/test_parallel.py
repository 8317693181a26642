"""The barrier, and who owns which rows."""

import threading

import numba
import numpy as np
import pytest

from fastbp.kernels.parallel import BLOCK, SYNC_SIZE, barrier, share, stop, stopped
from fastbp.kernels.simd import pointer

TEAMS = (1, 2, 3, 4, 7, 16)


@numba.njit(nogil=True)
def meet(sync, thread, team, rounds, arrived):
    """Count own arrivals; return how many others were found at another round."""
    astray = 0
    for i in range(rounds):
        arrived[thread, 0] = i + 1
        barrier(pointer(sync), team)
        for other in range(team):
            astray += arrived[other, 0] != i + 1
        barrier(pointer(sync), team)
    return astray


@numba.njit
def stop_and_look(sync):
    before = stopped(pointer(sync))
    stop(pointer(sync))
    return before, stopped(pointer(sync))


@pytest.mark.parametrize("team", [1, 2, 3, 8])
def test_no_thread_passes_a_barrier_before_all_have_come(team):
    """Also with more threads than cores, where spinning alone would take a time slice a round."""
    sync, arrived = np.zeros(SYNC_SIZE, np.int64), np.zeros((team, 8), np.int64)
    meet(sync, 0, 1, 1, arrived)  # compiled once, here
    astray = [None] * team

    def enter(thread):
        astray[thread] = meet(sync, thread, team, 200, arrived)

    threads = [threading.Thread(target=enter, args=(i,)) for i in range(team)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert astray == [0] * team


def test_stop_is_seen():
    assert stop_and_look(np.zeros(SYNC_SIZE, np.int64)) == (False, True)


@pytest.mark.parametrize("team", TEAMS)
def test_shares_cover_all_rows_once_in_whole_blocks(team):
    for rows in [*range(70), 100, 784, 1000]:
        shares = [share(rows, thread, team) for thread in range(team)]
        covered = [row for first, last in shares for row in range(first, last)]
        assert covered == list(range(rows))
        assert all(first % BLOCK == 0 for first, last in shares if last > first)
        assert all(first <= last <= rows for first, last in shares)


@pytest.mark.parametrize("team", TEAMS)
def test_shares_are_fair(team):
    """No share is more than one block larger than another."""
    for rows in (64, 100, 784):
        sizes = [last - first for first, last in (share(rows, t, team) for t in range(team))]
        assert max(sizes) - min(sizes) <= 2 * BLOCK - 1
