"""Measure what several ranks gain on this machine, and write them into asv_benchmarks/README.md.

    python scripts/measure_mpi.py [--data-dir DIR] [--print]
    python scripts/measure_mpi.py --overlap

A step of one rank is plain `fit`; a step of two is split into computing, waiting for the other and
adding up gradients, for which each reduction is timed behind a barrier in runs of their own. Each
rank is bound to a core. Best epochs of several; one thread a rank; float32. `--overlap` compares
one message a step with two, of which the upper layers' is under way while the first layer is still
at work.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import fastbp
import marks
from fastbp._support import checks
from fastbp.training import ranks as distributed
from measure import training_images

sys.path.insert(0, str(marks.ROOT / "asv_benchmarks"))
from benchmarks.common import ALL

RANKS, EVERY, TOGETHER = 2, "every step", "every 64 steps"
# Workload, batch of all ranks, how often they meet.
CASES = [
    *((name, 2 * ALL[name].batch_size, TOGETHER) for name in ("online", "deep1", "nielsen")),
    *(("nielsen", batch, EVERY) for batch in (10, 100, 1_000)),
    *(("twolayer", batch, EVERY) for batch in (100, 1_000)),
    *(("wide", batch, EVERY) for batch in (128, 512, 2_048)),
    *(("surrogate", batch, EVERY) for batch in (1_000, 10_000)),
]
MOST_STEPS, LEAST_STEPS = 500, 8
EPOCHS, ROUNDS = 3, 2
# An estimate for ranks on two machines: bytes a second and seconds a message of 10 Gbit Ethernet.
WIRE, LATENCY = 1.1e9, 30e-6


# -- one process -----------------------------------------------------------------------------------


def data(name, batch, images):
    """Return samples and targets for some steps."""
    work = ALL[name]
    most = max(LEAST_STEPS * batch, min(60_000, MOST_STEPS * batch))
    if work.sizes[0] != images[0].shape[1]:
        return work.data(most)
    times = -(-most // len(images[0]))
    return tuple(np.concatenate([array] * times)[:most] for array in images[:2])


def seconds_of_step(name, batch, samples, **together):
    """Return the time of a step, the best of several epochs."""
    X, y = samples
    history = (
        ALL[name]
        .network("numba")
        .fit(X, y, epochs=EPOCHS, batch_size=batch, learning_rate=1e-3, **together)
    )
    return min(history.seconds) / -(-len(X) // batch)


class Split:
    """Times each reduction, the waiting before it and the computing before that."""

    def __init__(self):
        self.reduce, self.done = distributed.Ranks.reduce, time.perf_counter()
        self.computing, self.waiting, self.adding = [], [], []

    def __call__(self, ranks, buffer):
        begun = time.perf_counter()
        ranks._comm.Barrier()
        met = time.perf_counter()
        self.reduce(ranks, buffer)
        self.computing.append(begun - self.done)
        self.done = time.perf_counter()
        self.waiting.append(met - begun)
        self.adding.append(self.done - met)


def split_of_step(name, batch, samples, **together):
    """Return the parts of a step, as medians."""
    split = Split()
    distributed.Ranks.reduce = lambda ranks, buffer: split(ranks, buffer)
    try:
        seconds_of_step(name, batch, samples, **together)
    finally:
        distributed.Ranks.reduce = split.reduce
    parts = ("computing", "waiting", "adding")
    steps = together["sync_every"]
    return {part: float(np.median(getattr(split, part))) / steps for part in parts}


def measured(name, batch, meet, images, comm):
    """Return the times of a step of these ranks."""
    samples = data(name, batch, images)
    if comm is None:
        alone = batch // RANKS if meet == TOGETHER else batch
        return {"step": min(seconds_of_step(name, alone, samples) for _ in range(ROUNDS))}
    together = {"comm": comm, "sync_every": 1 if meet == EVERY else int(meet.split()[1])}
    step = min(seconds_of_step(name, batch, samples, **together) for _ in range(ROUNDS))
    return {"step": step, **split_of_step(name, batch, samples, **together)}


def bind(rank):
    """Keep a rank on a core of its own, where there are enough."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})


def work_as_rank(data_dir, overlap):
    """Measure all cases, as one of the ranks; the first one prints them."""
    comm = distributed.world()
    rank = comm.Get_rank()
    bind(rank)
    if overlap:
        found = overlapped(comm)
    else:
        images = training_images(data_dir)
        alone = None if comm.Get_size() == 1 else comm
        found = [measured(*case, images, alone) for case in CASES]
        found = {"times": found, "what": images[2]}
    if rank == 0:
        print(json.dumps(found))


# -- one message or one a layer --------------------------------------------------------------------


def overlapped(comm):
    """Return the times of a step of `wide` with one message, and with two that overlap work."""
    work, places = ALL["wide"], 64
    X, y = work.data(places)
    first = fastbp.Network([784, 512], seed=0)  # as much work as the first layer
    batch = checks.batch(X, y, first._config)
    inner = first._engine.trainer(first.params, *batch, places, shared=True)
    size, low = work.network("numba").params.size, first.params.size
    upper, lower = np.zeros(size - low, np.float32), np.zeros(low, np.float32)
    whole, order = np.zeros(size, np.float32), np.arange(places)
    from mpi4py import MPI

    def one():
        inner.part(order, 0, places, 1 / places)
        comm.Allreduce(MPI.IN_PLACE, whole)

    def two():
        sent = comm.Iallreduce(MPI.IN_PLACE, upper)
        inner.part(order, 0, places, 1 / places)
        other = comm.Iallreduce(MPI.IN_PLACE, lower)
        MPI.Request.Waitall([sent, other])

    return {"one message": best(comm, one), "two messages": best(comm, two)}


def best(comm, step, times=60):
    """Return the least time of a step, of those that begin together."""
    found = []
    for _ in range(times):
        comm.Barrier()
        begun = time.perf_counter()
        step()
        found.append(time.perf_counter() - begun)
    return float(np.median(found))


# -- the table -------------------------------------------------------------------------------------


def started(ranks, arguments):
    """Run this program on so many ranks; return what the first one printed."""
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    command = [mpiexec, "-n", str(ranks), sys.executable, __file__, "--rank", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def row(case, one, two):
    """Return a line of the table."""
    name, batch, meet = case
    work, alone = ALL[name], one["step"] * (RANKS if meet == TOGETHER else 1)
    message = work.network("numba").params.nbytes
    wire = (message / WIRE + LATENCY) / (1 if meet == EVERY else int(meet.split()[1]))
    parts = " + ".join(micro(two[part]) for part in ("computing", "adding", "waiting"))
    apart = two["computing"] + two["waiting"] + wire
    return (
        f"| {name} | {'-'.join(map(str, work.sizes))} | {batch:,} | {meet} | {micro(alone)} | "
        f"{micro(two['step'])} | {parts} | **{alone / two['step']:.2f}** | {alone / apart:.2f} |"
    )


def micro(seconds):
    """Return microseconds, three digits of them."""
    number = 1e6 * seconds
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def section(data_dir):
    """Return the table."""
    arguments = ["--data-dir", data_dir] if data_dir else []
    ones, twos = (started(ranks, arguments) for ranks in (1, RANKS))
    lines = [
        row(case, one, two)
        for case, one, two in zip(CASES, ones["times"], twos["times"], strict=True)
    ]
    return (
        f"By `scripts/measure_mpi.py` on {os.cpu_count()} cores, {ones['what']}, float32, one "
        "thread a rank. Microseconds for a step of all ranks' batch; the gain is one rank's time "
        "over two's. The last column is an estimate: two machines with 10 Gbit/s between them "
        f"({1e6 * LATENCY:.0f} µs and {WIRE / 1e9:.1f} GB/s a message), all else as measured.\n\n"
        "| workload | network | batch | ranks meet | one rank | two ranks | computing + adding up "
        "+ waiting | gain, measured | gain, estimated for two machines |\n"
        "|---|---|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], usage=argparse.SUPPRESS)
    parser.add_argument("--data-dir", help="where mnist is")
    parser.add_argument("--print", action="store_true", help="write no file")
    parser.add_argument("--overlap", action="store_true", help="one message or one a layer")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank:
        work_as_rank(args.data_dir, args.overlap)
        return
    if args.overlap:
        for name, seconds in started(RANKS, ["--overlap"]).items():
            print(f"{name:<14}{1e6 * seconds:8,.0f} us a step")
        return
    text = section(args.data_dir)
    print(text)
    if not args.print:
        marks.write(marks.SPEED, "ranks", text)


if __name__ == "__main__":
    main()
