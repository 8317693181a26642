"""Measure this CPU's row of the table of constants (`fastbp/kernels/machine.py`), and print it.

    python scripts/tune.py [--parts facts,shapes,costs] [--cores 0,1]

facts: the FMA peak, and what a barrier and a line of 64 bytes cost between two cores. shapes: tiles
and other shapes that are compiled in, by trying them, each in a process of its own, in turns.
costs: nanoseconds of the paths, from trainings of many shapes, and the size of blocks.

Takes a few minutes, on a quiet machine. The row is ready to paste: please send it, with the lines
above it, if `fastbp info` calls your CPU neutral, or if it beats the row that is there.

Exit code: 0; 1 if other programs held the cores meanwhile; 2 for an unusable command line.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from threading import Thread
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "asv_benchmarks")]

import numba  # noqa: E402
from benchmarks.peak import spinning  # noqa: E402

import fastbp  # noqa: E402
from fastbp import kernels  # noqa: E402
from fastbp.engines import get_backend  # noqa: E402
from fastbp.engines.numba_engine import NumbaEngine  # noqa: E402
from fastbp.kernels import machine  # noqa: E402
from fastbp.kernels.ir.memory import pointer, put  # noqa: E402
from fastbp.kernels.walk.records import NUM, Team  # noqa: E402
from fastbp.kernels.walk.team import SYNC_SIZE, barrier  # noqa: E402
from measure import cpu  # noqa: E402
from quiet import Others  # noqa: E402

PARTS = "facts", "shapes", "costs"
BUSY = 0.15  # cores of others, above which nothing counts
GAIN = 0.98  # a candidate takes a constant's place if it takes no more than so much of its time
ROUNDS, SECONDS = 7, 0.1  # of a slice, and how many of them

# -- facts -----------------------------------------------------------------------------------------


@numba.njit(nogil=True)
def meet(sync, thread, rounds, lines):
    """Cross a barrier twice a round; between them one thread writes lines and the other reads."""
    total = 0
    at, to, team = pointer(sync), pointer(lines), Team(NUM(thread), NUM(2))
    for i in range(rounds):
        if thread == 0:
            for line in range(0, len(lines), 8):
                put(to, line, i)
        barrier(at, team)
        if thread == 1:
            for line in range(0, len(lines), 8):
                total += to[line]
        barrier(at, team)
    return total


def on_core(core, call):
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})  # of this thread
    call()


def together(cores, calls):
    """Return the seconds of calls at once, each on its core."""
    threads = [Thread(target=on_core, args=pair) for pair in zip(cores, calls, strict=True)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def nanoseconds_of_a_round(cores, lines, rounds):
    """Return what a round of two barriers takes in which so many lines cross."""
    sync, place = np.zeros(SYNC_SIZE, np.int64), np.zeros(8 * lines, np.int64)
    meet(sync, 0, 0, place)  # compiles
    calls = [partial(meet, sync, thread, rounds, place) for thread in range(2)]
    return min(together(cores, calls) for _ in range(5)) / rounds * 1e9


def facts(cores, size):
    """Print the FMA peak; return what a team's threads cost each other."""
    spin, operations = spinning("float32", int(2e6 * size))
    for some in (cores[:1], cores):
        seconds = min(together(some, [spin] * len(some)) for _ in range(5))
        rate = operations * len(some) / seconds / 1e9
        say(f"FMA peak of {len(some)} core(s): {rate:.0f} GFLOP/s in float32")
    if len(cores) < 2:
        say("one core: nothing crosses")
        return {}
    few, many, rounds = 1, 64, int(20_000 * size)
    least = nanoseconds_of_a_round(cores, few, rounds)
    most = nanoseconds_of_a_round(cores, many, rounds)
    line = max(0.0, (most - least) / (many - few))
    say(f"a barrier of two threads: {least / 2:.0f} ns; a line that crosses: {line:.1f} ns")
    return {"BARRIER_COST": round(least / 2), "CROSSING_COST": round(line, 1)}


# -- shapes ----------------------------------------------------------------------------------------


class Trial(NamedTuple):
    """Constants that are tried together: their values, and the task that is timed."""

    names: tuple
    task: str
    values: tuple


TILES = {32: ((8, 3), (6, 4)), 16: ((4, 3), (6, 2), (5, 2))}[machine.CPU.registers]
TRIALS = (
    Trial(("TILE_ROWS", "TILE_COLUMNS"), "forward", TILES),
    Trial(("UPDATE_ROWS", "UPDATE_COLUMNS"), "update", TILES),
    Trial(("HALF_TAILS",), "update", ((False,), (True,))),
    Trial(("DOT_ROWS", "DOT_COLUMNS"), "delta", ((2, 8), (2, 4), (4, 4), (3, 4))),
    Trial(("FORMULA_VECTORS",), "tanh", ((1,), (2,), (4,))),
)
SHAPES = (128, 784, 512), (100, 784, 50)  # samples, inputs, outputs


def tasks(size):
    """Return a call of each task, on arrays of the sizes of `wide` and `twolayer`."""
    backend, rng = get_backend("numba"), np.random.default_rng(0)

    def made(*shape):
        return rng.standard_normal(shape, np.float32)

    def each(call, arguments):
        found = [arguments(*(max(4, int(n * size)) for n in shape)) for shape in SHAPES]
        return lambda: [call(*some) for some in found]

    return {
        "forward": each(backend.affine, lambda n, p, q: (made(n, p), made(q, p), made(q))),
        "update": each(backend.weight_gradient, lambda n, p, q: (made(n, p), made(n, q))),
        "delta": each(
            lambda *arrays: backend.backprop_delta(*arrays, "relu"),
            lambda n, p, q: (made(q, q), made(n, q), made(n, q)),
        ),
        "tanh": partial(backend.tanh, made(2**13)),
    }


def seconds_of(call, seconds):
    """Return the seconds of a call, the mean over a slice of about so many."""
    started, n = time.perf_counter(), 0
    while (took := time.perf_counter() - started) < seconds or n == 0:
        call()
        n += 1
    return took / n


def serve(task, core, size):
    """Answer each line of standard input by the seconds of a call of the task."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    call = tasks(size)[task]
    call()  # compiles
    print("ready", flush=True)
    for line in sys.stdin:
        print(seconds_of(call, float(line)), flush=True)


def candidate(trial, values, core, size, folder):
    """Start a process in which the trial's constants are these."""
    words = [
        f"{name}={value!r}".replace(" ", "")
        for name, value in zip(trial.names, values, strict=True)
    ]
    env = {**os.environ, "FASTBP_CONSTANTS": " ".join(words), "NUMBA_CACHE_DIR": folder}
    command = [
        sys.executable,
        __file__,
        "--serve",
        trial.task,
        "--cores",
        str(core),
        "--size",
        str(size),
    ]
    return subprocess.Popen(
        command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def ask(process, line=None):
    """Return the next line of a process, after sending it one; "" where it has died."""
    try:
        if line is not None:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
        return process.stdout.readline().strip()
    except OSError:
        return ""


def race(trial, core, size, folder):
    """Return the median seconds of each candidate's calls, in turns, by its values."""
    now = tuple(getattr(machine, name) for name in trial.names)
    values = list(dict.fromkeys([now, *trial.values]))
    running = {value: candidate(trial, value, core, size, folder) for value in values}
    # One that does not compile, or whose shapes do not fit, says nothing.
    ready = {value: p for value, p in running.items() if ask(p) == "ready"}
    times = {value: [] for value in ready}
    for _ in range(ROUNDS):
        for value, process in ready.items():
            times[value].append(float(ask(process, SECONDS * size) or "inf"))
    for process in running.values():
        process.stdin.close()
        process.wait()
        process.stdout.close()
    return now, {value: median(some) for value, some in times.items()}


def shapes(cores, size, folder=None):
    """Return the constants whose candidates beat those of now; compiled code goes to the folder."""
    if folder is None:
        with tempfile.TemporaryDirectory() as folder:
            return shapes(cores, size, folder)
    row = {}
    for trial in TRIALS:
        if all(hasattr(machine, name) for name in trial.names):
            now, found = race(trial, cores[0], size, f"{folder}/{'-'.join(trial.names)}")
            best = better(found, now)
            times = ", ".join(f"{value}: {1e6 * t:.1f} us" for value, t in found.items())
            say(f"{' and '.join(trial.names)} by {trial.task}: {times}; best {best}")
            row |= dict(zip(trial.names, best, strict=True))
    return row


def better(times, now):
    """Return the candidate that takes least, that of now unless another is clearly better."""
    if now not in times:
        raise RuntimeError(f"it does not run with {now}, as it is")
    best = min(times, key=times.get)
    return best if times[best] < GAIN * times[now] else now


# -- costs -----------------------------------------------------------------------------------------

# The constants that `planning.Planner.costs` is linear in; a tuple has several.
COSTS = (
    "DENSE_COSTS", "SPARSE_COST", "LARGE_SPARSE_COST", "UPPER_COST", "SAMPLE_COST",
    "LOGARITHM_COST", "NARROW_COST", "NARROW_BATCH_COST", "NARROW_SAMPLE_COST",
    "NARROW_LOGARITHM_COST",
)  # fmt: skip
NETWORKS = (784, 30, 10), (784, 100, 10), (784, 100, 100, 10), (784, 512, 10)
NARROW = (4, 32, 16, 4), (10, 8, 2), (24, 8, 2)
DENSITIES = 0.1, 0.25
BLOCKS = (48, 64, 80, 112, 160)  # candidates for BLOCK_BYTES, in KiB


def trainings():
    """Yield path, sizes, batch size, density and loss of what is timed."""
    for sizes, batch in product(NETWORKS, (1, 4, 8, 10, 100)):
        yield "dense", sizes, batch, 1.0, "quadratic"
    for sizes, batch, density in product(NETWORKS, (1, 10, 100), DENSITIES):
        yield "sparse", sizes, batch, density, "quadratic"
    for path, batch in (("dense", 1), ("dense", 100), ("sparse", 10)):
        yield path, NETWORKS[0], batch, 0.2, "cross-entropy"
    for sizes, batch in product(NARROW, (16, 100, 1000)):
        yield "narrow", sizes, batch, 1.0, "quadratic"
    yield "narrow", NARROW[0], 100, 1.0, "cross-entropy"


class Measured(NamedTuple):
    """A training: its planner, and nanoseconds of a sample in the best epoch."""

    planner: object
    path: str
    batch: int
    density: float
    nanoseconds: float


def trained(path, sizes, batch, density, loss, size):
    """Train and return what it took."""
    rng = np.random.default_rng(0)
    n = max(batch, int(min(4000, 4e6 // sizes[0] // sizes[1]) * size))
    X = rng.standard_normal((n, sizes[0]), np.float32)
    X[rng.random(X.shape) >= density] = 0
    net = fastbp.Network(sizes, "sigmoid", loss=loss, seed=0)
    choose = NumbaEngine.choose_path
    NumbaEngine.choose_path = lambda *_: path
    try:
        history = net.fit(
            X, rng.integers(sizes[-1], size=n), epochs=6, batch_size=batch, learning_rate=1e-4
        )
    finally:
        NumbaEngine.choose_path = choose
    engine = net._engine
    return Measured(engine.planner, path, batch, density, 1e9 * min(history.seconds) / n)


def unknowns():
    """Yield name and place of each number in the constants of `COSTS`."""
    for name in COSTS:
        many = isinstance(getattr(machine, name), tuple)
        yield from ((name, i) for i in range(len(getattr(machine, name)) if many else 1))


def with_number(name, place, number):
    """Return the constant with one number in it, and zeros elsewhere."""
    now = getattr(machine, name)
    if not isinstance(now, tuple):
        return number
    return tuple((most, number if i == place else 0.0) for i, (most, _) in enumerate(now))


def coefficients(measured):
    """Return how much of each unknown the planner says that each training takes."""
    before = {name: getattr(machine, name) for name in COSTS}
    table = np.zeros((len(measured), len(list(unknowns()))))
    try:
        for column, (name, place) in enumerate(unknowns()):
            for other in COSTS:
                setattr(machine, other, with_number(other, place, 1.0 if other == name else 0.0))
            for line, one in enumerate(measured):
                table[line, column] = one.planner.costs(one.batch, one.density)[one.path]
    finally:
        vars(machine).update(before)
    return table


def fitted(table, wanted):
    """Return the numbers, none below zero, whose relative errors are least; 0 of what none has."""
    table, used = table / wanted[:, None], table.any(axis=0)
    while True:
        found = np.linalg.lstsq(table[:, used], np.ones(len(wanted)), rcond=None)[0]
        if (found >= 0).all():
            break
        used[np.flatnonzero(used)[found < 0]] = False
    numbers = np.zeros(table.shape[1])
    numbers[used] = found
    return numbers


def best_blocks(size):
    """Return the bytes of a block of zero-skipping input, those of now if none is much better."""
    now = machine.BLOCK_BYTES
    times = {}
    for kib in dict.fromkeys([now // 2**10, *BLOCKS]):
        machine.BLOCK_BYTES = kib * 2**10
        works = ((784, 100, 10), 100), ((784, 512, 10), 128)
        some = [trained("sparse", *work, 0.19, "quadratic", size).nanoseconds for work in works]
        times[kib] = float(np.sqrt(np.prod(some)))
    machine.BLOCK_BYTES = now
    say("BLOCK_BYTES: " + ", ".join(f"{kib} KiB {t:.0f} ns" for kib, t in times.items()))
    return better(times, now // 2**10) * 2**10


def costs(cores, size):
    """Return what the paths cost, and the size of blocks."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores[0]})
    measured = [trained(*training, size) for training in trainings()]
    table, wanted = coefficients(measured), np.array([m.nanoseconds for m in measured])
    numbers = fitted(table, wanted)
    errors = np.abs(table @ numbers / wanted - 1)
    say(
        f"{len(measured)} trainings, explained to {median(errors):.0%}, at worst {errors.max():.0%}"
    )
    row = {}
    for (name, place), number in zip(unknowns(), numbers, strict=True):
        now, number = getattr(machine, name), float(f"{number:.3g}")
        row[name] = row.get(name, now)
        if isinstance(now, tuple):
            some = list(row[name])
            some[place] = some[place][0], number
            row[name] = tuple(some)
        elif number:  # nothing measured says that it costs nothing
            row[name] = number
    return {**row, "BLOCK_BYTES": best_blocks(size)}


# -- the row ---------------------------------------------------------------------------------------


def neutral():
    """Return the constants of a kind that nobody has measured."""
    program = "import json; from fastbp.kernels import machine; print(json.dumps(machine.ROW))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "FASTBP_CPU_KIND": "neutral"},
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def shown(row):
    """Return the table's row, with what is otherwise than in the neutral one."""
    usual = neutral()
    kind = machine.KIND if machine.KIND != "neutral" else machine.CPU.name
    lines = [f"    {kind!r}: {{".replace("'", '"')]
    for name, value in row.items():
        if name in usual and json.loads(json.dumps(value)) != usual[name]:
            words = repr(value).replace("inf", 'float("inf")')
            lines.append(f'        "{name}": {words},')
    return "\n".join([*lines, "    },"])


def say(words):
    print(f"    # {words}", flush=True)


def parser():
    p = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,  # an error is one line
    )
    p.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)} (all)")
    p.add_argument("--cores", help="two of them, such as 0,1 (the first allowed)")
    p.add_argument(
        "--size", type=float, default=1.0, help="of the work; smaller ones are tests (1)"
    )
    p.add_argument("--cache", help="folder of what shapes compiles (a temporary one)")
    p.add_argument("--serve", help=argparse.SUPPRESS)
    return p


def options_of(argv):
    """Return the command line's options, checked."""
    p = parser()
    options = p.parse_args(argv)
    options.parts = options.parts.split(",")
    if not set(options.parts) <= set(PARTS):
        p.error(f"--parts takes some of {', '.join(PARTS)}")
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0, 1]
    options.cores = [int(c) for c in options.cores.split(",")] if options.cores else allowed[:2]
    if not set(options.cores) <= set(allowed):
        p.error(f"--cores takes some of {', '.join(map(str, allowed))}")
    return options


def main(argv=None):
    """Measure and print; return the exit code."""
    options = options_of(argv)
    if options.serve:
        serve(options.serve, options.cores[0], options.size)
        return 0
    about = {**machine.CPU._asdict(), "kind": machine.KIND, "system": cpu()}
    say(f"scripts/tune.py, fastbp {fastbp.__version__}, kernels {kernels.stamp()[:8]}")
    say(", ".join(f"{name} {value}" for name, value in about.items()))
    others, row = Others(), {}
    for part in PARTS:
        if part in options.parts:
            extra = (options.cache,) if part == "shapes" else ()
            row |= globals()[part](options.cores, options.size, *extra)
    print(shown(row))
    busy = others.cores()
    if busy > BUSY:
        say(f"OTHER PROGRAMS HELD {busy:.1f} CORES MEANWHILE: measure again")
    return int(busy > BUSY)


if __name__ == "__main__":
    sys.exit(main())
