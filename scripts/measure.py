"""Measure fastbp on this machine and write the figures into asv_benchmarks/README.md.

    python scripts/measure.py [--estimators] [--data-dir DIR] [--print]

Throughput is that of the best of several epochs of `Network.fit`, the two backends in turns. It
includes shuffling, dispatch and loss, but not what `fit` does once before: checking the input and
indexing what is not zero. MNIST is used where it is found, else made-up images with its share of
zeros; the table says which.

With --estimators, instead, the estimators beside scikit-learn's of the same names and settings:
whole calls of `fit`, in turns, and the accuracy of each. Needs scikit-learn; takes minutes.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import fastbp
import marks
from fastbp import kernels

sys.path.insert(0, str(marks.ROOT / "asv_benchmarks"))
from benchmarks.common import WORKLOADS, images
from benchmarks.startup import FIRST_STEP

# Settings of MLPClassifier, beside hidden_layer_sizes=[100]; all others as scikit-learn has them.
SETTINGS = (
    {"solver": "sgd", "batch_size": 1, "learning_rate_init": 0.001, "max_iter": 1},
    {"solver": "sgd", "batch_size": 10, "learning_rate_init": 0.01, "max_iter": 10},
    {"solver": "sgd", "batch_size": 200, "learning_rate_init": 0.1, "max_iter": 10},
    {"solver": "adam", "batch_size": 200, "learning_rate_init": 0.001, "max_iter": 10},
)
TURNS = 3
SLICES = 5
NUMPY_SHARE = 20
# Where CI has its data, too: beside the checkout.
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def data_folder(data_dir):
    """Return where MNIST is looked for."""
    if data_dir is None and not os.environ.get("FASTBP_DATA") and BESIDE.is_dir():
        return BESIDE
    return data_dir


def training_images(data_dir):
    """Return real or made-up images and labels, and what they are."""
    try:
        X, y, _, _ = fastbp.datasets.load("mnist", data_folder(data_dir))
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
    """Return the table of the two backends."""
    X, y, what = training_images(data_dir)
    lines = [
        f"By `scripts/measure.py`, on {cpu()}, one thread, float32, {what}, best epoch of several; "
        f"Python {platform.python_version()}, fastbp {fastbp.__version__}, vectors of "
        f"{kernels.vector_bytes()} bytes. Other CPUs give other figures, and other ratios.",
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
    starts = "from fastbp import Network", "import numba", FIRST_STEP
    package, numba, step = (seconds_of(code) - empty for code in starts)
    lines += [
        "",
        f"`from fastbp import Network` takes {package:.2f} s; `import numba`, which the first "
        f"network with kernels does, {numba:.2f} s. From the start of both to the end of the first "
        f"step, with kernels from the cache, {step:.2f} s.",
    ]
    return "\n".join(lines) + "\n"


def fitted(module, settings, X, y):
    """Return a fitted classifier of a module, and the seconds that took."""
    model = module.MLPClassifier([100], random_state=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few epochs are no convergence, nor meant to be
        started = time.perf_counter()
        model.fit(X, y)
        return model, time.perf_counter() - started


def beside_scikit_learn(settings, data):
    """Return seconds and accuracy of scikit-learn and of fastbp, measured in turns."""
    from sklearn import neural_network
    from threadpoolctl import threadpool_limits

    from fastbp import estimator

    X, y, X_test, y_test = data
    modules = {"scikit-learn": neural_network, "fastbp": estimator}
    seconds, models = dict.fromkeys(modules, np.inf), {}
    fitted(estimator, {**settings, "max_iter": 1}, X[:1000], y[:1000])  # loads the kernels
    with threadpool_limits(1):
        for _ in range(TURNS):
            for name, module in modules.items():
                models[name], took = fitted(module, settings, X, y)
                seconds[name] = min(seconds[name], took)
    return {name: (seconds[name], models[name].score(X_test, y_test)) for name in modules}


def estimator_figures(data_dir):
    """Return the table of the estimators."""
    import sklearn

    X, y, X_test, y_test = fastbp.datasets.load("mnist", data_folder(data_dir))
    data = X / np.float32(255), y, X_test / np.float32(255), y_test
    lines = [
        f"By `scripts/measure.py --estimators`, on {cpu()}, one thread, float32, 60,000 images of "
        f"MNIST, 784-100-10, momentum and penalty as by default: the best of {TURNS} calls of "
        f"`fit`, in turns. fastbp {fastbp.__version__}, scikit-learn {sklearn.__version__}, NumPy "
        f"{np.__version__}.",
        "",
        "| solver | batch | epochs | scikit-learn, s | fastbp, s | ratio | test accuracy of each |",
        "|---|---|---|---|---|---|---|",
    ]
    for settings in SETTINGS:
        found = beside_scikit_learn(settings, data)
        (theirs, their_score), (ours, score) = found["scikit-learn"], found["fastbp"]
        lines.append(
            f"| {settings['solver']} | {settings['batch_size']} | {settings['max_iter']} | "
            f"{theirs:.2f} | {ours:.2f} | {theirs / ours:.1f} | {their_score:.4f}, {score:.4f} |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


TABLES = {"figures": figures, "estimators": estimator_figures}


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], usage=argparse.SUPPRESS)
    parser.add_argument(
        "--estimators", action="store_true", help="the table beside scikit-learn's estimators"
    )
    parser.add_argument("--data-dir", help="where MNIST lies")
    parser.add_argument("--print", action="store_true", help="write no file")
    options = parser.parse_args()
    name = "estimators" if options.estimators else "figures"
    section = TABLES[name](options.data_dir)
    print(section)
    if not options.print:
        marks.write(marks.SPEED, name, section)


if __name__ == "__main__":
    main()
