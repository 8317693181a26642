"""Measure fastbp on this machine and write the figures into the README.

    python scripts/measure.py [--data-dir DIR] [--print]

Throughput is that of the best of several epochs of `Network.fit`, the two backends in turns. It
includes shuffling, dispatch and loss, but not what `fit` does once before: checking the input and
indexing what is not zero. MNIST is used where it is found, else made-up images with its share of
zeros; the table says which.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import fastbp
from fastbp import kernels

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "asv_benchmarks"))
from benchmarks.common import WORKLOADS, images  # noqa: E402

BEGIN = "<!-- figures: written by scripts/measure.py; do not edit by hand -->\n"
END = "<!-- end of figures -->\n"
SLICES = 5
NUMPY_SHARE = 20
# Where CI has its data, too: beside the checkout.
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def training_images(data_dir):
    """Return real or made-up images and labels, and what they are."""
    if data_dir is None and not os.environ.get("FASTBP_DATA") and BESIDE.is_dir():
        data_dir = BESIDE
    try:
        X, y, _, _ = fastbp.datasets.load("mnist", data_dir)
    except FileNotFoundError:
        return *images(60_000), "made-up images, 19 % not zero"
    return (X / 255).astype(np.float32), y, "MNIST"


def throughput(net, work, X, y):
    """Samples per second of the best of a few epochs."""
    epochs = 1 if net.backend == "numpy" else 3
    history = net.fit(
        X, y, epochs=epochs, batch_size=work.batch_size, learning_rate=work.learning_rate
    )
    return max(history.samples_per_second)


def measure(work, X, y):
    """Return the best throughput of each backend, measured in turns."""
    best = {"numba": 0.0, "numpy": 0.0}
    nets = {backend: work.network(backend) for backend in best}
    samples = {"numba": len(X), "numpy": work.samples // NUMPY_SHARE}
    throughput(nets["numba"], work, X[: work.batch_size], y[: work.batch_size])
    for _ in range(SLICES):
        for backend, n in samples.items():
            found = throughput(nets[backend], work, X[:n], y[:n])
            best[backend] = max(best[backend], found)
    return best


def seconds_of(code):
    """Return the best time of a fresh process."""
    times = []
    for _ in range(SLICES):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - started)
    return min(times)


def figures(data_dir):
    """Return the section of the README."""
    X, y, what = training_images(data_dir)
    lines = [
        f"By `scripts/measure.py`, on {cpu()}, one thread, float32, {what}, best epoch of several; "
        f"Python {platform.python_version()}, fastbp {fastbp.__version__}, vectors of "
        f"{kernels.vector_bytes()} bytes. Ratios carry to other machines better than figures do.",
        "",
        "| workload | network | batch | fastbp, samples/s | its NumPy reference | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, work in WORKLOADS.items():
        best = measure(work, X, y)
        sizes = "-".join(map(str, work.sizes))
        lines.append(
            f"| {name} | {sizes} | {work.batch_size} | {best['numba']:,.0f} | "
            f"{best['numpy']:,.0f} | {best['numba'] / best['numpy']:.1f} |"
        )
    empty = seconds_of("pass")
    imported = {name: seconds_of(f"import {name}") - empty for name in ("fastbp", "numba")}
    lines += [
        "",
        f"`import fastbp` takes {imported['fastbp']:.2f} s, of which Numba is "
        f"{imported['numba']:.2f} s.",
    ]
    return "\n".join(lines) + "\n"


def cpu():
    """Return the CPU's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="where MNIST lies")
    parser.add_argument("--print", action="store_true", help="leave the README as it is")
    options = parser.parse_args()
    section = figures(options.data_dir)
    print(section)
    if not options.print:
        readme = ROOT / "README.md"
        head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
        tail = rest.split(END)[1]
        readme.write_text(f"{head}{BEGIN}{section}{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
