"""Threads that meet inside one kernel: a spinning barrier, and who owns which share of the work.

The threads are plain Python threads inside a kernel that has released the GIL. A barrier costs
50 to 65 ns on two cores of Zen, where a parallel region of a threading layer costs microseconds.

`sync` is the beginning of `Work.integers`: counters, each on lines of its own.
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
from ..machine import APART, BARE_LOOKS, MOST_SPINNING, MOST_THREADS, MOST_YIELDING, PAUSES

# Counters of different threads lie as far apart as CPUs fetch neighbouring lines on their own.
_APART = APART // 8
STOPPED, ASKED, _NEXT, _LAST = range(0, 4 * _APART, _APART)
DRAW = STOPPED + 1  # by what masks are drawn, see `ir.dropout`: it changes as rarely
_CAME = 4 * _APART  # the barriers that the first thread has come to; then those of the others
SYNC_SIZE = _CAME + MOST_THREADS * _APART
# Samples are shared out in units of this many. Tiles of so many rows or more add up in one order
# (see K_SPLIT), and fewer are left over at the end of a batch only: the order of an element's
# additions is then the same for any number of threads.
SAMPLES_UNIT = 4


@inner
def barrier(sync, team):
    """Wait until all threads have come; return how many barriers they have passed."""
    # Each writes a counter of its own, and looks at those of the others: where all have come, that
    # is one line to fetch. A common counter would pass twice between the cores, and then a flag.
    if team.size == 1:  # who does a share whole is no member of the team there
        return 0
    mine = _CAME + team.thread * _APART
    passed = atomic_read(sync, mine) + 1
    atomic_write(sync, mine, passed)
    for other in range(team.size):
        _wait(sync, _CAME + other * _APART, passed)
    return passed


@inner
def _wait(sync, counter, passed):
    """Wait until a counter has come so far."""
    pauses, since = 0, 0
    while atomic_read(sync, counter) < passed:
        pauses += 1
        if pauses > BARE_LOOKS:
            pause()
        if pauses % PAUSES == 0:
            now = nanoseconds()
            since = since or now
            if now - since > MOST_YIELDING:
                sleep()
            elif now - since > MOST_SPINNING:
                offer_core()


@inner
def meet(sync, team, refused):
    """Wait for all; return whether the first of them refused to go on."""
    # By the number of the barrier, since threads may be one apart: a flag could be up already for
    # the next one when the last thread looks, which would leave the others alone there.
    if team.size == 1:
        return refused
    if team.thread == 0 and refused:
        atomic_write(sync, _LAST, atomic_read(sync, _CAME) + 1)
    passed = barrier(sync, team)
    return atomic_read(sync, _LAST) == passed


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
    """Tell the caller, and all threads from their next barrier on, that a step was refused."""
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
