"""Threads that meet inside one kernel: a spinning barrier, and who owns which share of the work.

The threads are plain Python threads inside a kernel that has released the GIL. A barrier costs
50 to 65 ns on two cores, where a parallel region of a threading layer costs microseconds.

`sync` is the beginning of `Work.integers`: a few counters, each on a cache line of its own.
"""

from ..ir.atomics import (
    atomic_add,
    atomic_read,
    atomic_write,
    nanoseconds,
    offer_core,
    pause,
    sleep,
)
from ..jit import inner
from ..machine import MOST_SPINNING, MOST_YIELDING, PAUSES

_ARRIVED, _GENERATION, STOPPED, ASKED, _NEXT = 0, 8, 16, 24, 32
SYNC_SIZE = 40
# Samples are shared out in units of this many. Tiles of so many rows or more add up in one order
# (see K_SPLIT), and fewer are left over at the end of a batch only: the order of an element's
# additions is then the same for any number of threads.
SAMPLES_UNIT = 4


@inner
def barrier(sync, team):
    """Wait until all `team` threads have arrived."""
    if team == 1:
        return
    generation = atomic_read(sync, _GENERATION)
    if atomic_add(sync, _ARRIVED, 1) == team - 1:
        atomic_write(sync, _ARRIVED, 0)
        atomic_write(sync, _GENERATION, generation + 1)
        return
    pauses, since = 0, 0
    while atomic_read(sync, _GENERATION) == generation:
        pause()
        pauses += 1
        if pauses % PAUSES == 0:
            now = nanoseconds()
            since = since or now
            if now - since > MOST_YIELDING:
                sleep()
            elif now - since > MOST_SPINNING:
                offer_core()


@inner
def next_number(sync):
    """Return the next number, from 0 on, that no other thread gets."""
    return atomic_add(sync, _NEXT, 1)


@inner
def restart_numbers(sync, team):
    """Let the numbers begin at 0 again; between two barriers."""
    if team.thread == 0:
        atomic_write(sync, _NEXT, 0)


@inner
def stop(sync):
    """Tell all threads, from their next barrier on, that this step must not be taken."""
    atomic_write(sync, STOPPED, 1)


@inner
def asked_to_stop(sync):
    """Return whether the caller wants an end; one thread asks, and stops all."""
    return atomic_read(sync, ASKED) != 0


@inner
def stopped(sync):
    """Return whether a step was refused."""
    return atomic_read(sync, STOPPED) != 0


@inner
def share(count, unit, thread, team):
    """Return a thread's share of `count` things in whole units: the first, and one past."""
    units = (count + unit - 1) // unit
    first = units * thread // team * unit
    last = min(count, units * (thread + 1) // team * unit)
    return first, last
