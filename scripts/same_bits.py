"""Digests of what fastbp computes: two versions of the code must print the same ones.

    python scripts/same_bits.py > old.txt            one line a case: its name, a digest
    python scripts/same_bits.py --against old.txt    prints what differs, is missing or is new
    python scripts/same_bits.py --only ranks/        the cases whose names contain this text

The digest is of all weights after a training and of its history, without times, or of the arrays
that a call returned. Only public names are used, so that the script runs on any version: set
PYTHONPATH to the version to run. The digests depend on the CPU, on the versions of NumPy and Numba
and on FASTBP_VECTOR_BYTES; comments at the top of the output name them. The exit code is 1 if a
case differs or raised an error, and 2 if the file cannot be read.
"""

import argparse
import contextlib
import copy
import functools
import hashlib
import io
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # sums of `numpy` in one order on any machine
for cores in ("sched_getaffinity", "process_cpu_count"):  # a team of three on any machine
    if hasattr(os, cores):
        setattr(os, cores, lambda *_: {0, 1, 2, 3} if _ else 4)

import numpy as np  # noqa: E402

import fastbp  # noqa: E402
from fastbp import callbacks, interchange, schedules  # noqa: E402

Case = tuple[str, Callable[[], Any]]
HISTORY = ("loss", "accuracy", "penalty", "val_loss", "val_accuracy", "learning_rate")
DTYPES = ("float32", "float64")
N = 900  # samples; a multiple of none of the batches but 1, 10 and 100
BATCHES = (1, 10, 100, 400)  # the last is done in several chunks on every path
RATE = 0.02


class Shape(NamedTuple):
    """A network and inputs that take one of the paths, at every width of vectors."""

    sizes: tuple[int, ...]
    density: float


PATHS = {
    "dense": Shape((300, 48, 10), 1.0),
    "sparse": Shape((784, 100, 10), 0.08),
    "narrow": Shape((8, 6, 5, 3), 1.0),
}
RULES: dict[str, Callable[[], Any]] = {
    "sgd": lambda: "sgd",
    "momentum": lambda: "momentum",
    "nesterov": lambda: "nesterov",
    "adam": lambda: "adam",
    "sgd,l2,clip": lambda: fastbp.SGD(l2=1e-2, clip_norm=0.1),
    "momentum,l2-over-sum": lambda: fastbp.SGD(momentum=0.5, l2=1e-2, l2_over_sum=True),
    "nesterov,clip": lambda: fastbp.SGD(momentum=0.9, nesterov=True, clip_norm=0.1),
    "adam,l2,uncorrected": lambda: fastbp.Adam(l2=1e-2, epsilon_corrected=False),
    "adamw": lambda: fastbp.AdamW(weight_decay=0.1),
    "rmsprop": lambda: "rmsprop",
    "sgd,l1": lambda: fastbp.SGD(l1=1e-3, clip_norm=0.1),
    "adam,clip": lambda: fastbp.Adam(beta_1=0.8, beta_2=0.99, clip_norm=0.1),
}
LOSSES = [
    *(("quadratic", output) for output in ("sigmoid", "tanh", "relu", "identity", "softmax")),
    ("cross-entropy", "softmax"), ("cross-entropy", "sigmoid"), ("poisson", "exp"),
]  # fmt: skip
ACTIVATIONS = ("sigmoid", "tanh", "relu", "identity")


# -- digests ---------------------------------------------------------------------------------------


def parts(thing: Any) -> Iterator[bytes]:
    """Yield the bytes of a result: networks, histories, arrays, and collections of them."""
    if isinstance(thing, fastbp.Network):
        yield from parts(thing.to_vector())
    elif isinstance(thing, fastbp.History):
        yield from parts({name: np.array(getattr(thing, name), float) for name in HISTORY})
    elif isinstance(thing, fastbp.Gradient):
        yield from parts((thing.to_vector(), thing.loss))
    elif isinstance(thing, Mapping):
        yield from parts(list(thing.items()))
    elif isinstance(thing, (list, tuple, Iterator)):
        for part in thing:
            yield from parts(part)
    elif thing is None or isinstance(thing, str):
        yield repr(thing).encode()
    else:
        array = np.asarray(thing)
        if array.dtype.hasobject:
            raise TypeError(f"results must be numbers; found {type(thing).__name__}")
        yield f"{array.dtype.str} {array.shape}".encode()
        yield array.tobytes()


def digest(thing: Any) -> str:
    """Return the start of the SHA-256 of a result."""
    found = hashlib.sha256()
    for part in parts(thing):
        found.update(part)
    return found.hexdigest()[:16]


def answer(call: Callable[[], Any]) -> str:
    """Return the digest of a case; "skipped" if a library is missing, or the error's kind."""
    try:
        return digest(call())
    except ImportError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return "skipped"
    except Exception as error:
        traceback.print_exc()
        return f"error:{type(error).__name__}"


# -- data ------------------------------------------------------------------------------------------


@functools.cache
def folder() -> Path:
    """Return a folder for files; it goes when the process ends."""
    folder.made = tempfile.TemporaryDirectory()  # type: ignore[attr-defined]
    return Path(folder.made.name)  # type: ignore[attr-defined]


def samples(n: int, n_in: int, density: float = 1.0, kind: str = "float64") -> Any:
    """Return inputs of a kind: the name of a dtype, or one of "csr", "bytes-csr", "fortran"."""
    rng = np.random.default_rng([n, n_in])
    X = rng.standard_normal((n, n_in)) * (rng.random((n, n_in)) < density)
    if kind.startswith(("uint8", "bytes")):
        X = np.minimum(np.ceil(np.abs(X) * 80), 255).astype(np.uint8)
    if kind.endswith("csr"):
        from scipy.sparse import csr_matrix

        return csr_matrix(X)
    return np.asfortranarray(X) if kind == "fortran" else X.astype(kind.replace("bytes", "uint8"))


def answers(n: int, n_out: int, loss: str = "quadratic", rows: bool = False) -> np.ndarray:
    """Return labels, or rows of targets that fit the loss."""
    rng = np.random.default_rng([n, n_out, 1])
    if not rows:
        return rng.integers(0, n_out, n)
    y = rng.random((n, n_out))
    return np.floor(3 * y) if loss == "poisson" else y / y.sum(axis=1, keepdims=True)


def network(path: str, dtype: str = "float32", **options: Any) -> fastbp.Network:
    """Return the network of a path."""
    known = {"activation": "tanh", "loss": "cross-entropy", "dtype": dtype, "seed": 3}
    return fastbp.Network(PATHS[path].sizes, **{**known, **options})


def fitted(
    path: str, dtype: str = "float32", kind: str = "", rule: str = "sgd", rows: bool = False,
    n: int = N, weighted: bool = False, net: Any = None, backend: str = "numba", **options: Any,
) -> Any:  # fmt: skip
    """Train the network of a path; return it and the history."""
    sizes, density = PATHS[path]
    scale = 1 / 255 if kind.startswith(("uint8", "bytes")) else 1.0
    net = net or network(path, dtype, input_scale=scale, backend=backend)
    X = samples(n, sizes[0], density, kind or dtype)
    y = answers(n, sizes[-1], rows=rows)
    weights = np.random.default_rng(2).random(n) if weighted else None
    known = {"epochs": 2, "batch_size": 10, "learning_rate": RATE, "optimizer": RULES[rule]()}
    return net, net.fit(X, y, sample_weight=weights, **{**known, **options})


def grid(group: str, call: Callable[..., Any], **axes: Iterable[Any]) -> Iterator[Case]:
    """Yield a case for each combination of arguments; lists of sizes are written with dashes."""
    for values in itertools.product(*axes.values()):
        words = ("-".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values)
        named = dict(zip(axes, values, strict=True))
        yield f"{group}/{'/'.join(words)}", functools.partial(call, **named)


# -- training --------------------------------------------------------------------------------------


def losses(sizes: tuple[int, ...], activation: str, pair: tuple[str, str], dtype: str) -> Any:
    """Train with a loss, with and without biases, on labels and on rows of targets."""
    loss, output = pair
    for bias, rows in itertools.product((True, False), (False, True)):
        net = fastbp.Network(sizes, activation, output, loss, bias=bias, dtype=dtype, seed=1)
        X, y = samples(150, sizes[0]), answers(150, sizes[-1], loss, rows)
        yield net, net.fit(X, y, epochs=2, batch_size=16, learning_rate=0.01), net.loss(X, y)
        yield net.gradient(X, y), net.feedforward(X)


def shapes(sizes: tuple[int, ...], dtype: str) -> Any:
    """Train an odd network with several batches."""
    for batch, kind, rule in itertools.product((1, 7, 64), ("float64", "uint8"), ("sgd", "adam")):
        scale = 1 / 255 if kind == "uint8" else 1.0
        net = fastbp.Network(sizes, dtype=dtype, input_scale=scale, seed=2, init="normal")
        X, y = samples(130, sizes[0], 0.7, kind), answers(130, sizes[-1])
        yield net, net.fit(X, y, epochs=2, batch_size=batch, learning_rate=0.1, optimizer=rule)


def mapped(
    path: str, dtype: str, kind: str, batch_size: int, shuffle: bool = True, comm: Any = None
) -> Any:  # fmt: skip
    """Train on a file that is larger than a window of 8 MB."""
    n_in = PATHS[path].sizes[0]
    X = samples(2**23 // (n_in * np.dtype(kind).itemsize) + 500, n_in, PATHS[path].density, kind)
    name = folder() / "X.npy"  # each rank has its own
    np.save(name, X)
    net = network(path, dtype, input_scale=1 / 255 if kind == "uint8" else 1.0)
    y = answers(len(X), net.sizes[-1])
    return net, net.fit(
        np.load(name, mmap_mode="r"), y, epochs=2, batch_size=batch_size, learning_rate=RATE,
        shuffle=shuffle, comm=comm,
    )  # fmt: skip


def chunked(path: str, dtype: str, kind: str, rule: str, batch_size: int) -> Any:
    """Train on chunks of several sizes."""
    net, (sizes, density) = network(path, dtype), PATHS[path]
    pairs = [
        (samples(n, sizes[0], density, kind), answers(n, sizes[-1])) for n in (500, 130, 7, 300)
    ]
    yield net, net.fit(pairs, epochs=2, batch_size=batch_size, learning_rate=RATE, optimizer=rule)
    yield net, net.fit(iter(pairs), epochs=1, batch_size=7, learning_rate=RATE, shuffle=False)


class Interrupt:
    """A callback that raises what Ctrl-C does, once."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_epoch_end(self, net: fastbp.Network, history: fastbp.History) -> None:
        if len(history) == self._epoch:
            raise KeyboardInterrupt


def resumed(path: str, rule: str, epoch: int, backend: str = "numba") -> Any:
    """Stop a training by Ctrl-C, in the first epoch or after it, and go on."""
    name = str(folder() / "resumed")
    X = samples(200, PATHS[path].sizes[0], PATHS[path].density)
    options: dict[str, Any] = {
        "n": 200, "rule": rule, "epochs": 4, "backend": backend, "threads": epoch,
        "validation_data": (X, answers(200, PATHS[path].sizes[-1])), "weighted": epoch == 2,
    }  # fmt: skip
    rate = functools.partial(schedules.OnPlateau, RATE, patience=1, min_delta=0.05)
    try:
        fitted(path, **options, learning_rate=rate(), checkpoint=name, callbacks=[Interrupt(epoch)])
    except KeyboardInterrupt:
        return fitted(path, **options, learning_rate=rate(), resume=name)
    raise AssertionError("no interrupt came")


def remembered(path: str, dtype: str, rule: str) -> Any:
    """Train twice with one optimiser."""
    optimizer = RULES[rule]()
    net, first = fitted(path, dtype, optimizer=optimizer)
    return first, *fitted(path, dtype, optimizer=optimizer, net=net, batch_size=100, kind="uint8")


def many_short_epochs(dtype: str, rule: str) -> Any:
    """Train for more epochs than one compiled call holds."""
    net = fastbp.Network([2, 8, 2], "tanh", loss="cross-entropy", dtype=dtype, seed=0)
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [0, 1, 1, 0]
    yield net, net.fit(X, y, epochs=700, batch_size=4, learning_rate=RATE, optimizer=rule)
    yield net, net.fit(X, y, epochs=300, batch_size=3, learning_rate=RATE, optimizer=rule)


def diverged(dtype: str, rule: str, **options: Any) -> Any:
    """Train until the weights overflow; the network keeps those from before."""
    net = fastbp.Network([8, 6, 3], "identity", dtype=dtype, seed=0)
    X, y, history = samples(50, 8), samples(50, 3), None
    try:
        history = net.fit(
            X, y, epochs=500, batch_size=10, learning_rate=0.9, optimizer=rule, **options
        )
    except fastbp.DivergenceError:
        pass
    return net, history


def clipped(dtype: str) -> Any:
    """Train with gradients whose squares overflow in float32."""
    net, rule = fastbp.Network([8, 6, 3], "tanh", dtype=dtype, seed=0), fastbp.SGD(clip_norm=1.0)
    X, y = samples(50, 8), 1e22 * samples(50, 3)
    return net, net.fit(X, y, epochs=3, batch_size=10, learning_rate=0.1, optimizer=rule)


def at_once(threads: int) -> list[Any]:
    """Train several networks at once, each in a thread."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda path: fitted(path, threads=threads, batch_size=100), PATHS))


def uneven() -> Any:
    """Train on inputs whose later half is much denser than the looks at it suggest; wide ones."""
    from scipy.sparse import csr_matrix, vstack

    X = vstack([csr_matrix((700, 784)), csr_matrix(samples(200, 784, 0.5))]).tocsr()
    for net, rows in (network("sparse"), X), (network("sparse"), X.toarray()):
        yield net, net.fit(rows, answers(N, 10), epochs=1, batch_size=10, learning_rate=RATE)
    wide, few = fastbp.Network([70_000, 8, 3], seed=0), csr_matrix(samples(30, 70_000, 0.01))
    yield wide, wide.fit(few, answers(30, 3), epochs=2, batch_size=4, learning_rate=RATE)


def scheduled(rate: Any, path: str) -> Any:
    """Train with a schedule, validated after each epoch."""
    X, y = samples(50, PATHS[path].sizes[0]), answers(50, PATHS[path].sizes[-1])
    return fitted(path, learning_rate=rate(), epochs=5, validation_data=(X, y))


def watched(path: str) -> Any:
    """Train under every callback; stop early."""
    X, y = samples(50, PATHS[path].sizes[0]), answers(50, PATHS[path].sizes[-1])
    norms, best = fastbp.Norms(X, y), folder() / "best"
    stopping = callbacks.EarlyStopping(monitor="val_loss", patience=2)
    kept = callbacks.Checkpoint(best, monitor="loss")
    found = fitted(
        path, epochs=40, rule="adam", validation_data=(X, y), shuffle=False,
        callbacks=[norms, kept, stopping, callbacks.StopOnDivergence()],
    )  # fmt: skip
    return found, norms.activations, norms.deltas, fastbp.load(best)


def ordered(path: str, batch_size: int) -> Any:
    """Train in an order of the caller's, and in none."""
    rng = np.random.default_rng(8)
    yield fitted(path, batch_size=batch_size, order=rng.permutation)
    yield fitted(path, batch_size=batch_size, shuffle=False)


RATES = {
    "step": lambda: schedules.Step(RATE, every=2), "cosine": lambda: schedules.Cosine(RATE, 5),
    "exponential": lambda: schedules.Exponential(RATE),
    "plateau": lambda: schedules.OnPlateau(RATE, patience=1, min_delta=0.1),
}  # fmt: skip
ODD = [
    (1, 1), (2, 3), (15, 16, 17), (33, 1, 5), (64, 20, 30, 10), (5,) * 12, (300, 130, 17),
    (784, 400, 10),
]  # fmt: skip


def trainings() -> Iterator[Case]:
    both = {"path": PATHS, "dtype": DTYPES}
    yield from grid("steps", fitted, **both, batch_size=BATCHES, rule=RULES)
    kinds = ("uint8", "float32", "float64", "csr", "bytes-csr", "fortran", ">f4", "int16")
    few = {"batch_size": (1, 10, 400), "rule": ("sgd", "adam")}
    yield from grid("inputs", fitted, **both, kind=kinds, **few)
    yield from grid("weighted", fitted, **both, **few, weighted=(True,))
    yield from grid("rows", fitted, **both, **few, rows=(True,))
    rules = ("sgd", "nesterov", "adam", "sgd,l2,clip")
    threads = {"threads": (1, 2, 3), "rule": rules}
    yield from grid("threads", fitted, **both, kind=("uint8", ">f4"), batch_size=(100, 400),
                    **threads)  # fmt: skip
    large = functools.partial(fitted, n=6400, batch_size=3000)
    yield from grid("large", large, **both, **threads)
    pairs = {"activation": ACTIVATIONS, "pair": LOSSES, "dtype": DTYPES}
    yield from grid("losses", losses, sizes=[(96, 48, 32, 16), (12, 9, 7)], **pairs)
    yield from grid("shapes", shapes, sizes=ODD, dtype=DTYPES)
    yield from grid("mapped", mapped, path=("dense", "sparse"), dtype=DTYPES,
                    kind=("uint8", "float32", "float64"), batch_size=(10, 400),
                    shuffle=(True, False))  # fmt: skip
    yield from grid("chunks", chunked, **both, kind=("float32", "csr"), rule=("sgd", "adam"),
                    batch_size=(1, 10, 100))  # fmt: skip
    yield from grid("resumed", resumed, path=PATHS, rule=RULES, epoch=(1, 2))
    yield from grid("remembered", remembered, **both, rule=("adam,clip", "momentum,l2-over-sum"))
    yield from grid("short", many_short_epochs, dtype=DTYPES, rule=("sgd", "momentum", "adam"))
    yield from grid("diverged", diverged, dtype=DTYPES, rule=("sgd", "momentum"))
    stop = [callbacks.StopOnDivergence()]
    yield from grid("stopped", functools.partial(diverged, callbacks=stop), dtype=DTYPES,
                    rule=("sgd",))  # fmt: skip
    yield from grid("clipped", clipped, dtype=DTYPES)
    yield from grid("at-once", at_once, threads=(1, 3))
    yield "uneven", uneven
    for name, rate in RATES.items():
        yield from grid(f"schedule/{name}", functools.partial(scheduled, rate), path=PATHS)
    yield from grid("watched", watched, path=PATHS)
    yield from grid("ordered", ordered, path=PATHS, batch_size=(1, 10, N))
    reference = functools.partial(fitted, backend="numpy", n=150)
    yield from grid("numpy", reference, **both, rule=RULES, weighted=(False, True))
    yield from grid("numpy-inputs", reference, path=PATHS, kind=("uint8", "csr"), batch_size=(1, 7))
    yield from grid("numpy-resumed", functools.partial(resumed, backend="numpy"), path=("narrow",),
                    rule=("sgd", "adam"), epoch=(1, 2))  # fmt: skip


# -- several ranks ---------------------------------------------------------------------------------


def gone_on(path: str, rule: str, comm: Any) -> Any:
    """Train on several ranks, and go on from a checkpoint."""
    name = comm.bcast(str(folder() / "ranks"))
    fitted(path, n=210, rule=rule, comm=comm, checkpoint=name)
    return fitted(path, n=210, rule=rule, comm=comm, epochs=4, resume=name)


def rank_cases(comm: Any) -> Iterator[Case]:
    """Yield what two ranks train together."""
    over = functools.partial(fitted, n=210, comm=comm)
    yield from grid("", over, path=PATHS, dtype=DTYPES, rule=("sgd", "adam,clip", "nesterov"),
                    batch_size=(10, 100), sync_every=(1, 3))  # fmt: skip
    yield from grid("weighted", functools.partial(over, weighted=True), path=PATHS, dtype=DTYPES)
    yield from grid("numpy", functools.partial(over, backend="numpy"), path=PATHS,
                    rule=("sgd", "adam"), weighted=(False, True))  # fmt: skip
    yield from grid("inputs", over, path=PATHS, kind=("uint8", "csr"), threads=(1, 2))
    yield from grid("large", functools.partial(over, n=2100, batch_size=900), path=PATHS,
                    dtype=DTYPES, threads=(1, 3))  # fmt: skip
    yield from grid("mapped", functools.partial(mapped, comm=comm), path=("dense", "sparse"),
                    dtype=("float32",), kind=("uint8", "float64"), batch_size=(400,))  # fmt: skip
    resumed_over = functools.partial(gone_on, comm=comm)
    yield from grid("resumed", resumed_over, path=PATHS, rule=("sgd", "adam"))


@functools.cache
def of_ranks() -> dict[str, str]:
    """Run the cases of two ranks in one start of mpiexec; return their digests by name."""
    import mpi4py  # noqa: F401

    mpiexec = Path(sys.executable).parent / "mpiexec"
    command = [mpiexec if mpiexec.exists() else "mpiexec", "-n", "2"]
    with open(folder() / "ranks.txt", "w+", encoding="utf-8") as output:
        try:
            words = [*command, sys.executable, __file__, "--as-rank"]
            subprocess.run(words, check=True, stdout=output, timeout=900)
        except subprocess.SubprocessError as error:  # the cases that are missing are errors
            print(f"ranks: {error}", file=sys.stderr)
        output.seek(0)
        return read(output.read())


def run_as_rank() -> None:
    """Run the cases on this rank; rank 0 prints."""
    from mpi4py import MPI

    for name, call in rank_cases(MPI.COMM_WORLD):
        found = set(MPI.COMM_WORLD.allgather(answer(call)))
        if MPI.COMM_WORLD.Get_rank() == 0:
            print(f"ranks/{name}", found.pop() if len(found) == 1 else "ranks-differ", flush=True)


def ranks() -> Iterator[Case]:
    for name, _ in rank_cases(None):
        yield f"ranks/{name}", functools.partial(lambda name: of_ranks()[name], f"ranks/{name}")


# -- calls -----------------------------------------------------------------------------------------


def called(path: str, dtype: str, kind: str, backend: str = "numba") -> Any:
    """Call all that looks at samples, with batches of several sizes."""
    (n_in, *_, n_out), density = PATHS[path]
    net = network(path, dtype, backend=backend, input_scale=1 / 255 if kind == "uint8" else 1.0)
    for n in (1, 5, 64, 1300):
        X, y = samples(n, n_in, density, kind), answers(n, n_out)
        yield net.feedforward(X), net.feedforward(X, threads=3), net.predict(X)
        yield net.evaluate(X, y), net.accuracy(X, y), net.loss(X, y)
        yield net.gradient(X, y), net.gradient(X, answers(n, n_out, rows=True))
        yield net.gradient(X, y, sample_weight=np.arange(n) + 0.5), net.gradient(X, y).weights


def single(path: str, dtype: str, density: float, backend: str = "numba") -> Any:
    """Call what takes one sample, and train in the words of the book."""
    n_in, *_, n_out = PATHS[path].sizes
    net, X, y = (
        network(path, dtype, backend=backend),
        samples(60, n_in, density),
        answers(60, n_out),
    )
    yield [(net.feedforward(x), net.predict(x)) for x in X[:8]], net.backprop(X[0], y[0])
    for size in (1, 10, 60):
        net.update_mini_batch(X[:size], y[:size], 0.1)
        yield net
    yield net.SGD((X, y), 3, 10, 0.1, test_data=(X, y)), net


def large_calls(dtype: str) -> Any:
    """Evaluate so many samples that they are taken in parts."""
    net = fastbp.Network([784, 400, 10], dtype=dtype, input_scale=1 / 255, seed=0)
    X, y = samples(5000, 784, 0.1, "uint8"), answers(5000, 10)
    sparse = samples(5000, 784, 0.1, "csr")
    yield net.feedforward(X, threads=3), net.evaluate(X, y), net.loss(X, y)
    yield net.feedforward(sparse), net.gradient(sparse, y), net.loss(sparse, y)


def searched(path: str, optimizer: str, batch_size: int) -> Any:
    sizes, density = PATHS[path]
    X, y = samples(N, sizes[0], density), answers(N, sizes[-1])
    X[np.arange(N), y] += 3  # something to learn
    return tuple(
        fastbp.find_learning_rate(
            network(path), X, y, batch_size=batch_size, optimizer=optimizer, threads=2
        )
    )


def checked(target: Any, *args: Any) -> Any:
    report = fastbp.gradcheck(target, *args)
    return [
        (c.name, c.size, c.status, c.error, c.index, c.analytic, c.numerical) for c in report.layers
    ]


def gradchecks(backend: str) -> Any:
    X, y = samples(3, 6), answers(3, 4)
    for activation, (loss, output) in itertools.product(ACTIVATIONS, LOSSES):
        net = fastbp.Network([6, 5, 4], activation, output, loss, backend=backend, seed=0)
        yield checked(net, X, y)
    yield checked(fastbp.Sequential.mlp([6, 5, 4], "tanh", 0.5, backend=backend, seed=0), X, y)
    yield checked(fastbp.Sigmoid(backend), X)
    yield checked((lambda p: np.sum(p["a"] ** 3), lambda p: {"a": 3 * p["a"]}), {"a": X})


def nodes(backend: str, dtype: str) -> Any:
    """Go forward and backward through each node of `fastbp.layers`."""
    X, y = samples(9, 7).astype(dtype), answers(9, 7)
    for made in (fastbp.ReLU, fastbp.Sigmoid, fastbp.Tanh):
        node = made(backend)
        yield node.forward(X), node.backward(X)
    for pair in (fastbp.Add(), fastbp.Mul()):
        yield pair.forward(X, X[0]), pair.backward(X)
    affine = fastbp.Affine(samples(7, 20).astype(dtype), samples(1, 20).astype(dtype)[0], backend)
    yield affine.forward(X), affine.backward(samples(9, 20).astype(dtype)), affine.dW, affine.db
    loss = fastbp.SoftmaxWithLoss(backend)
    yield loss.forward(X, y), loss.backward()


def sequential(backend: str, dtype: str, activation: str) -> Any:
    """Train a chain of nodes by hand."""
    net = fastbp.Sequential.mlp([20, 30, 9, 4], activation, 0.3, dtype, backend, seed=0)
    X, y = samples(100, 20), answers(100, 4)
    for step in range(20):
        part = slice(5 * step, 5 * step + 5)
        grads = net.gradient(X[part], y[part])
        for key in net.params:
            net.params[key] -= 0.1 * grads[key]
    yield dict(net.params), net.predict(X), net.loss(X, y), net.accuracy(X, y)
    yield net.numerical_gradient(X[:2], y[:2])


def operations(name: str, dtype: str) -> Any:
    """Call every operation that `get_backend` offers."""
    backend, rng = fastbp.get_backend(name), np.random.default_rng(0)
    z, W, y = (rng.standard_normal(s).astype(dtype) for s in ((37, 21), (21, 45), (37, 45)))
    b, rate = np.linspace(-1, 1, 45).astype(dtype), 0.1
    special = np.array([-1e3, -104, -37, -1e-30, 0, 1e-30, 37, 89, 709, 1e3], dtype)
    for f, end in itertools.product(ACTIVATIONS, ("", "_prime", "_prime_from_a")):
        yield getattr(backend, f + end)(z), getattr(backend, f + end)(special)
    yield backend.softmax(z), backend.affine(z, W.T, b), backend.weight_gradient(z, y)
    yield backend.bias_gradient(y), backend.backprop_delta(W.T, y, z, "sigmoid")
    for loss, output in LOSSES:
        yield backend.output_delta(loss, output, z, np.abs(z / np.abs(z).sum(1, keepdims=True)))
    new = W.T.copy(), b.copy()
    backend.outer_update(*new, z[0], y[0], rate)
    yield copy.deepcopy(new), backend.batch_update(*new, z, y, rate), new
    p, first, second = z.copy(), np.abs(z[::-1]).copy(), np.abs(z).copy()
    for call in (backend.momentum_update, backend.nesterov_update):
        yield call(p, first, z, rate, 0.9), p.copy(), first.copy()
    yield backend.adam_update(p, first, second, z, rate, 0.9, 0.999, 1e-8, 5), p, first, second


def files(dtype: str, bias: bool) -> Any:
    """Write a network, read it back; what any reader finds in its file."""
    from safetensors.numpy import load_file

    name = folder() / "net.safetensors"
    net = fastbp.Network([20, 9, 4], "relu", loss="cross-entropy", dtype=dtype, bias=bias, seed=4)
    net.save(name)
    yield sorted(load_file(name).items()), fastbp.load(name), net
    yield copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.params[:0]
    interchange.write_torch(net, name)
    yield sorted(load_file(name).items()), interchange.read(name)


def onnx_files(dtype: str, inputs: str) -> Any:
    import onnx

    name = folder() / "net.onnx"
    net = network("narrow", dtype, input_scale=1 / 255)
    interchange.write_onnx(net, name, inputs=inputs)
    arrays = onnx.load(name).graph.initializer
    yield {a.name: onnx.numpy_helper.to_array(a) for a in arrays}, interchange.read(name)


def sklearn_networks(loss: str, dtype: str) -> Any:
    net = fastbp.Network([8, 6, 3], "tanh", loss=loss, output=None, dtype=dtype, seed=0)
    theirs = interchange.to_sklearn(net)
    yield theirs.coefs_, theirs.intercepts_, interchange.from_sklearn(theirs)


def estimators(kind: str, solver: str, dtype: str, **options: Any) -> Any:
    """Fit an estimator, and once more a part; its attributes and predictions."""
    from fastbp import estimator

    X, y, X_test, _ = fastbp.datasets.load("digits")
    X, X_test = ((part[:400] / 16).astype(dtype) for part in (X, X_test))
    known = {"solver": solver, "random_state": 0, "max_iter": 6, "hidden_layer_sizes": [20]}
    model = getattr(estimator, kind)(**{**known, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y[:400])
        yield model.coefs_, model.intercepts_, model.predict(X_test), model.loss_
        if solver != "lbfgs":
            yield model.loss_curve_, getattr(model, "validation_scores_", None)
            if not options.get("early_stopping"):
                model.partial_fit(X, y[:400])
    yield model.coefs_, model.predict_proba(X_test) if kind == "MLPClassifier" else None


def digits() -> Any:
    X, y, *test = fastbp.datasets.load("digits")
    net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=1)
    history = net.fit(X, y, epochs=20, batch_size=10, learning_rate=0.5)
    yield X, y, test, fastbp.datasets.hold_out(X, y), net, history, net.evaluate(*test)


def commands() -> Any:
    """Train by the command line."""
    name, words = folder() / "trained.safetensors", "--epochs 3 --hidden 20 --threads 2 --seed 1"
    command = [sys.executable, "-m", "fastbp", "train", *words.split(), "--output", str(name)]
    subprocess.run(command, check=True, capture_output=True, cwd=folder())
    return fastbp.load(name)


def calls() -> Iterator[Case]:
    both = {"path": PATHS, "dtype": DTYPES}
    backends = {"backend": ("numba", "numpy")}
    yield from grid("calls", called, **both, kind=("float64", "uint8", "csr"), **backends)
    yield from grid("single", single, **both, density=(1.0, 0.1), **backends)
    yield from grid("large-calls", large_calls, dtype=DTYPES)
    yield from grid("searched", searched, path=PATHS, optimizer=("sgd", "adam"), batch_size=(1, 10))
    yield from grid("gradcheck", gradchecks, **backends)
    yield from grid("nodes", nodes, **backends, dtype=DTYPES)
    yield from grid("sequential", sequential, **backends, dtype=DTYPES, activation=ACTIVATIONS)
    yield from grid("operations", operations, name=("numba", "numpy"), dtype=DTYPES)
    yield from grid("files", files, dtype=DTYPES, bias=(True, False))
    yield from grid("onnx", onnx_files, dtype=DTYPES, inputs=("float", "uint8"))
    yield from grid("sklearn", sklearn_networks, loss=("cross-entropy", "quadratic"), dtype=DTYPES)
    models = {"kind": ("MLPClassifier", "MLPRegressor"), "solver": ("sgd", "adam", "lbfgs")}
    yield from grid("estimator", estimators, **models, dtype=DTYPES)
    for words in ({"early_stopping": True}, {"learning_rate": "adaptive"}, {"n_threads": 2},
                  {"learning_rate": "invscaling"}, {"activation": "tanh"}, {"batch_size": 1},
                  {"nesterovs_momentum": False}):  # fmt: skip
        of = functools.partial(estimators, "MLPClassifier", "sgd", "float64", **words)
        yield f"estimator/{'/'.join(f'{k}={v}' for k, v in words.items())}", of
    yield "digits", digits
    yield "command-line", commands


# -- the program -----------------------------------------------------------------------------------


def header() -> Iterator[str]:
    """Yield what the digests depend on, as comments."""
    with contextlib.redirect_stdout(io.StringIO()) as written:
        fastbp.show_versions()
    names = ("python", "numpy", "numba", "llvmlite", "scikit-learn", "cpu", "vector bytes")
    for line in written.getvalue().splitlines():
        if line.startswith(names):
            yield f"# {line}"
    cpu = Path("/proc/cpuinfo")
    for line in cpu.read_text().splitlines() if cpu.exists() else ():
        if line.startswith("model name"):
            yield f"# {line}"
            break
    yield f"# fastbp from {Path(fastbp.__file__).parent}"


def read(text: str) -> dict[str, str]:
    """Return digests by name; comments and blank lines say nothing."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return dict(line.split() for line in lines)


def compare(cases: Iterable[tuple[str, str]], kept: dict[str, str]) -> bool:
    """Print what differs from what was kept; return whether nothing does."""
    same, left = 0, dict(kept)
    for name, found in cases:
        before = left.pop(name, None)
        if before == found and not found.startswith("error:"):
            same += 1
        else:
            print(f"{'new' if before is None else 'differs'}: {name} {before or ''} {found}")
    for name in left:
        print(f"missing: {name}")
    print(f"{same} of {len(kept)} cases are the same")
    return same == len(kept) and bool(kept)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        usage=argparse.SUPPRESS,  # an error is one line
    )
    parser.add_argument("--against", metavar="FILE", help="compare with an output that was kept")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases whose names contain it")
    parser.add_argument("--as-rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_rank:
        run_as_rank()
        return 0
    kept = {}
    if options.against:
        try:
            kept = read(Path(options.against).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            print(f"{options.against}: cannot be read as digests: {error}", file=sys.stderr)
            return 2
        kept = {name: found for name, found in kept.items() if options.only in name}
    every = itertools.chain(trainings(), ranks(), calls())
    found = ((name, answer(call)) for name, call in every if options.only in name)
    if options.against:
        return 0 if compare(found, kept) else 1
    print(*header(), sep="\n", flush=True)
    failed = False
    for name, result in found:
        print(name, result, flush=True)
        failed |= result.startswith("error:")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
