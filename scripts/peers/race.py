"""The race: one process per peer, slices in turns on the same cores."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from . import GAUGES, INSTALL, PEERS, NotApplicable

WORKER = Path(__file__).with_name("worker.py")
# Compiling may take minutes, a slice about as long as it was told to; then the worker hangs.
START_SECONDS, SLICE_SECONDS = 1800, 600
SETTLE = 0.05  # until the threads of the peer before have gone to sleep
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip
# What keeps libraries from vectors wider than those of AVX2; XLA's is one of its flags.
HELD = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+popcnt",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
HELD_XLA = " --xla_cpu_max_isa=AVX2"


def wider_features():
    """Return NumPy's names of what it must not take from a CPU that has more than AVX2."""
    from numpy._core import _multiarray_umath as numpy

    wider = [name for name in numpy.__cpu_dispatch__ if name.startswith(("AVX512", "X86_V4"))]
    return " ".join(name for name in wider if numpy.__cpu_features__.get(name))


def environment(threads, held=False):
    """Return the environment of a worker, in which each library finds its number of threads."""
    many = str(threads > 1).lower()
    most = {**HELD, "NPY_DISABLE_CPU_FEATURES": wider_features()} if held else {}
    return {
        **os.environ,
        **most,
        **{name: str(threads) for name in THREAD_VARIABLES},
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={many} intra_op_parallelism_threads={threads}"
        + HELD_XLA * held,
        "JAX_PLATFORMS": "cpu",  # where there is a GPU, too
        "CUDA_VISIBLE_DEVICES": "",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # else a pool of processes stays beside the race
    }


class WorkerFailed(Exception):
    """A worker died, erred or hangs."""


class Worker:
    """A peer's process, at work only between a question and its answer."""

    command = sys.executable, str(WORKER)

    def __init__(self, peer, folder, cores, threads, held=False):
        self.errors = tempfile.TemporaryFile("w+")  # closed with the worker
        self.process = subprocess.Popen(
            self.command, env=environment(threads, held), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, text=True,
        )  # fmt: skip
        self.spec = {
            "module": peer.module, "variant": peer.variant, "folder": str(folder),
            "cores": cores, "threads": threads,
        }  # fmt: skip

    def start(self):
        """Import, build, compile; raise NotApplicable or WorkerFailed."""
        self.ask(self.spec, START_SECONDS)

    def ask(self, message, limit=SLICE_SECONDS):
        """Return the answer to a message."""
        alarm = threading.Timer(limit, self.process.kill)
        alarm.start()
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:  # a pipe that nobody reads any more
            line = ""
        hangs = not alarm.is_alive()
        alarm.cancel()
        if not line:
            raise WorkerFailed(f"no answer in {limit} s" if hangs else self.last_words())
        answer = json.loads(line)
        if "failed" in answer:
            raise WorkerFailed(answer["failed"])
        if "not_applicable" in answer:
            raise NotApplicable(answer["not_applicable"])
        return answer

    def last_words(self):
        """Return the last line of the errors of a process that has ended, and how it ended."""
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        return f"{lines[-1] if lines else 'died without a word'} (exit code {code})"

    def close(self):
        """End the process: it ends by itself when nothing more can be asked."""
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:
                pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


def missing(peer):
    """Return which of the packages that a peer needs are not installed."""
    return [name for name in peer.needs if importlib.util.find_spec(name) is None]


def entrants(names, kind, cores, say, held=False):
    """Return entries of the peers and gauges; those that cannot run have a status that says why.

    On several cores each peer enters with one thread and with one a core.
    """
    entries = []
    for name in names:
        lacking = missing(PEERS[name])
        entry = {"name": name, "peer": PEERS[name], "status": "ok", "reason": "", "slices": []}
        if lacking:
            words = f"{', '.join(lacking)} not installed; to install: {INSTALL}"
            entry |= {"status": "missing", "reason": words}
        elif kind not in PEERS[name].kinds:
            words = f"{name} takes part in {' and '.join(PEERS[name].kinds)} only"
            entry |= {"status": "not applicable", "reason": words}
        elif held and not PEERS[name].held:
            entry |= {"status": "not applicable", "reason": f"nothing holds {name} to AVX2"}
        counts = sorted({1, len(cores)}) if entry["status"] == "ok" else [1]
        entries += [{**entry, "threads": threads, "slices": []} for threads in counts]
    for name, peer in GAUGES.items():
        threads = 1 if name == "activations" else len(cores)
        entries.append(
            {"name": name, "peer": peer, "status": "ok", "reason": "", "threads": threads,
             "slices": []}
        )  # fmt: skip
    for entry in entries:
        if entry["status"] == "missing":
            say(f"{entry['name']} is missing: {entry['reason']}")
    return entries


def attempt(entry, call):
    """Call, and write into the entry how it failed."""
    try:
        return call()
    except WorkerFailed as error:
        entry |= {"status": "failed", "reason": str(error)}
    except NotApplicable as error:
        entry |= {"status": "not applicable", "reason": str(error)}
    return None


def race(entries, folder, options, say):
    """Start all, then let them run slices in turns; write what they did into the entries."""
    workers = []
    try:
        for entry in entries:
            if entry["status"] != "ok":
                continue
            say(f"starting {entry['name']}, {entry['threads']} thread(s)")
            worker = Worker(
                entry["peer"], folder, options.cores, entry["threads"], bool(options.held)
            )
            workers.append((entry, worker))
            attempt(entry, worker.start)
        for turn in range(options.rounds):
            say(f"round {turn + 1} of {options.rounds}")
            for entry, worker in workers:
                if entry["status"] == "ok":
                    time.sleep(SETTLE)
                    entry["slices"].append(
                        attempt(entry, lambda w=worker: w.ask({"seconds": options.seconds}))
                    )
    finally:
        for _, worker in workers:
            worker.close()
    for entry in entries:
        entry["slices"] = [s for s in entry["slices"] if s]
        if entry["status"] == "ok":
            rates = [s["rate"] for s in entry["slices"]]
            entry |= {"rate": max(rates), "median": median(rates)}
            entry["check"] = median(s["check"] for s in entry["slices"])
            steady = [s["steady"] for s in entry["slices"] if s["steady"]]
            entry["steady"] = max(steady, default=None)
        del entry["peer"]
    return entries
