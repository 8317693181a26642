"""Random training jobs, for as long as one likes: no wrong bit, and no growing memory.

    scripts/soak                     an hour
    scripts/soak --seconds 60        a minute, as CI does
    scripts/soak --seed 7 --job 123  one job again

A job is a network, data and a way to train, all drawn at random: sizes, batches, threads,
optimisers, schedules, dropout, weights of samples, validation, either backend, and constants of the
CPU's kind that lead to other paths. It is trained undisturbed by one thread. Then it is trained
with threads, and stopped by Ctrl-C at a random moment, again and again, each time going on from
its checkpoint in a new network, until it comes to its end; meanwhile it is saved and loaded, and
another thread may train a network of its own. Both must end with the same bits, of weights and
history. In the end some jobs are run again, and must leave no memory behind.
"""

import argparse
import ctypes
import gc
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import fastbp  # noqa: E402
from fastbp import callbacks, schedules  # noqa: E402
from fastbp.engines import planning  # noqa: E402
from fastbp.kernels import machine  # noqa: E402

RULES = [
    lambda: "sgd",
    lambda: "momentum",
    lambda: "nesterov",
    lambda: "adam",
    lambda: "rmsprop",
    lambda: fastbp.SGD(l2=1e-3),
    lambda: fastbp.AdamW(l1=1e-4),
    lambda: fastbp.SGD(momentum=0.5, clip_norm=0.5),
    lambda: fastbp.Adam(l2=1e-3, epsilon_corrected=False),
]
RATES = [
    lambda rate, epochs: rate,
    lambda rate, epochs: schedules.Step(rate, every=2),
    lambda rate, epochs: schedules.Exponential(rate),
    lambda rate, epochs: schedules.Cosine(rate, epochs),
    lambda rate, epochs: schedules.OnPlateau(rate, patience=1, min_delta=0.05),
]
SIZES = 3, 7, 16, 20, 30, 64, 100, 150  # below a vector, whole ones, and vectors and a half
# Constants that lead to what small jobs would not take: chunks, blocks, lists, packed tiles,
# weights output by output, never lanes over samples. Of each a job has this, or the CPU's own.
CONSTANTS = {
    "FEWEST_CHUNK": 8, "MOST_CHUNK": 8, "BLOCK_BYTES": 512, "LIST_BYTES": 1, "LIST_ENTRIES": 0,
    "PACKED_WIDTH": 1, "PACKED_BATCH": 2, "TURNED_VECTORS": 0, "TURNED_BATCH": 2, "TURNED_SHARE": 1,
    "NARROW_COST": 99,
}  # fmt: skip
FEW, AGAIN = 10, 3  # jobs run once more for what they leave behind, and how often
LEFT = 2**17  # bytes that they may leave: fewer than one network with its data


class Job:
    """A training, drawn at random."""

    def __init__(self, seed, number):
        rng = np.random.default_rng([seed, number])
        self.rng, self.seed = rng, number
        self.sizes = [int(n) for n in rng.choice(SIZES, rng.integers(2, 6))]
        self.n = int(rng.integers(2, 1500))
        self.batch_size = int(min(self.n, rng.choice([1, 2, 10, 33, 128, 1000])))
        self.epochs = int(rng.integers(1, 12))
        self.threads = int(rng.integers(1, 5))
        self.loss = str(rng.choice(["quadratic", "cross-entropy"]))
        self.network = {
            "activation": str(rng.choice(["sigmoid", "tanh", "relu", "gelu"])), "loss": self.loss,
            "dropout": 0.3 if len(self.sizes) > 2 and rng.random() < 0.3 else 0.0,
            "bias": bool(rng.random() < 0.8), "dtype": str(rng.choice(["float32", "float64"])),
            "backend": "numpy" if rng.random() < 0.15 else "numba", "seed": number,
        }  # fmt: skip
        lit = rng.random((self.n, self.sizes[0])) < rng.choice([0.1, 0.5, 1.0])
        self.X = rng.standard_normal(lit.shape) * lit
        self.y = rng.integers(0, self.sizes[-1], self.n)
        if self.loss == "quadratic" and rng.random() < 0.5:
            self.y = rng.random((self.n, self.sizes[-1]))
        self.rule, self.rate = RULES[rng.integers(len(RULES))], RATES[rng.integers(len(RATES))]
        self.options = {"batch_size": self.batch_size, "shuffle": bool(rng.random() < 0.7)}
        if rng.random() < 0.3:
            self.options["sample_weight"] = rng.random(self.n) + 0.1
        self.validated, self.stops = rng.random() < 0.5, rng.random() < 0.5
        self.constants = {
            name: forced if rng.random() < 0.5 else getattr(machine, name)
            for name, forced in CONSTANTS.items()
        }

    def __str__(self):
        return (
            f"{'-'.join(map(str, self.sizes))} {self.network['dtype']} {self.network['backend']}, "
            f"{self.n} samples in batches of {self.batch_size}, {self.epochs} epochs, "
            f"{self.threads} threads, {self.rule()}, {type(self.rate(0.1, 1)).__name__}"
        )

    def make(self):
        return fastbp.Network(self.sizes, **self.network)

    def train(self, net, threads, **more):
        if self.validated:
            more["validation_data"] = self.X[:50], self.y[:50]
        if self.stops:
            more["callbacks"] = [
                callbacks.EarlyStopping("loss", 3), callbacks.StopOnDivergence(1e6),
            ]  # fmt: skip
        return net.fit(
            self.X, self.y, epochs=self.epochs, learning_rate=self.rate(0.05, self.epochs),
            optimizer=self.rule(), threads=threads, **self.options, **more,
        )  # fmt: skip


def bits(net, history):
    names = [name for name in fastbp.history.NAMES if "second" not in name]
    series = [np.array(getattr(history, name)).tobytes() for name in names]
    return net.to_vector().tobytes(), series, history.stopped


def interrupted(delay, call):
    """Call, and press Ctrl-C after so many seconds; None if it was in time."""
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    try:
        try:
            timer.start()
            return call()
        finally:
            timer.cancel()
            timer.join()
            time.sleep(0)
    except KeyboardInterrupt:
        return None


def disturbed(job, folder, seconds):
    """Train a job with whatever may come between; return the bits, and how often it was stopped."""
    path, model, stops = folder / "run", folder / "model", 0
    path.unlink(missing_ok=True)
    while True:
        net = job.make()
        more = {"checkpoint": path, "checkpoint_every": float(job.rng.uniform(0.001, 0.1))}
        if path.exists():
            more["resume"] = path
        delay = job.rng.uniform(0, 2 * seconds) if stops < 5 else 3600
        history = interrupted(delay, lambda: job.train(net, job.threads, **more))  # noqa: B023
        if history is not None:
            return bits(net, history), stops
        stops += 1
        net.save(model)  # of whatever epoch: it must be whole, and load
        assert (fastbp.load(model).to_vector() == net.to_vector()).all(), "a damaged model"


def run(job, folder):
    """Return what went wrong, or None, and how often the job was stopped."""
    with mock.patch.multiple(machine, **job.constants):
        return compared(job, folder)


def compared(job, folder):
    """Train a job undisturbed and disturbed; return what `run` does."""
    whole = job.make()
    started = time.perf_counter()
    try:
        expected = bits(whole, job.train(whole, 1))
    except fastbp.DivergenceError:
        return None, 0  # so it would with others; tests/test_faults.py is about that
    seconds = time.perf_counter() - started
    neighbour, other = fastbp.Network([9, 20, 4], seed=1), threading.Event()

    def keep_busy():
        X, y = np.ones((200, 9)), np.arange(200) % 4
        while not other.is_set():
            neighbour.fit(X, y, epochs=20, batch_size=10, learning_rate=0.1)

    thread = threading.Thread(target=keep_busy)
    if job.rng.random() < 0.3:
        thread.start()
    try:
        found, stops = disturbed(job, folder, seconds)
    finally:
        other.set()
        if thread.is_alive():
            thread.join()
    return ("other bits" if found != expected else None), stops


class Heap(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


def memory():
    """Return the bytes of the heap that are in use; where nobody counts them, the peak of all."""
    gc.collect()
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallinfo2"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    libc.mallinfo2.restype = Heap
    heap = libc.mallinfo2()
    return heap.uordblks + heap.hblkhd


def left_behind(seed, numbers, folder):
    """Run the same jobs again and again; return by how many bytes the memory in use grows.

    Other jobs need other kernels, which stay loaded; and so does one that is first needed when a
    job is stopped elsewhere than before. That grows once, what is left behind each time.
    """
    levels = []
    for _ in range(1 + AGAIN):
        for number in numbers:
            run(Job(seed, number), folder)
        levels.append(memory())
    return AGAIN * min(after - before for before, after in pairwise(levels))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,  # an error is one line
    )
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all jobs")
    parser.add_argument("--job", type=int, help="run this one only")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Small jobs take teams too, and more of them than there are cores.
    machine.TEAM_GAIN, planning.available_cores = float("inf"), lambda: 4
    started, jobs, stops, wrong = time.monotonic(), 0, 0, []
    numbers = [args.job] if args.job is not None else range(10**9)
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            if time.monotonic() - started > args.seconds:
                break
            job = Job(args.seed, number)
            error, stopped = run(job, Path(folder))
            jobs, stops = jobs + 1, stops + stopped
            if error:
                wrong.append(number)
                print(f"job {number}: {error}: {job}", flush=True)
        left = left_behind(args.seed, numbers[: min(FEW, jobs)], Path(folder))
    print(
        f"soak: seed {args.seed}, {jobs:,} jobs, stopped {stops:,} times, {len(wrong)} with other "
        f"bits, {left:,} bytes left behind, in {time.monotonic() - started:,.0f} s"
    )
    return 1 if wrong or left > LEFT else 0


if __name__ == "__main__":
    sys.exit(main())
