"""What the ranks of test_distributed.py do: `mpiexec -n N python ranks.py FOLDER TASK ...`.

Each start costs seconds, so that one start does several tasks. A task that succeeded on all ranks
leaves the file TASK.N in the folder.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

import fastbp
from fastbp.training import ranks as distributed
from fastbp.training import sources as streaming
from fastbp.training import state, steps

COMM = MPI.COMM_WORLD
RANK, SIZE = COMM.Get_rank(), COMM.Get_size()
RATE, EPOCHS = 0.1, 2
# Name: samples, batch, sizes, optimiser, backend, weights of the samples, share of zeros. Samples
# divide neither by batches nor by ranks; two epochs are ten steps and more.
CASES = {
    "plain": (53, 10, [12, 9, 4], "sgd", "numba", False, 0.0),
    "sparse": (53, 10, [64, 9, 4], "momentum", "numba", False, 0.9),
    "weighted": (53, 10, [12, 9, 4], "adam", "numpy", True, 0.0),
    "weighted, compiled": (53, 10, [12, 9, 4], "sgd", "numba", True, 0.0),
    "narrow": (5_300, 1_000, [4, 8, 6, 3], "nesterov", "numba", False, 0.0),
    "standardised": (53, 10, [12, 9, 4], "momentum", "numba", False, 0.0),
    "reference": (41, 7, [5, 3, 2], "adam", "numpy", False, 0.0),
    "dropout": (53, 10, [12, 20, 4], "momentum", "numba", False, 0.0),
    "dropout, reference": (53, 10, [12, 20, 4], "sgd", "numpy", True, 0.0),
}


class Falling:
    """A rate that falls from step to step, in each epoch alike."""

    def rate(self, epoch, history):
        return RATE

    def step_rates(self, epoch, steps, history):
        return np.linspace(RATE, RATE / 4, steps)


# The learning rates of some cases; of others it is RATE.
SCHEDULES = dict.fromkeys(("sparse", "weighted", "narrow"), Falling())


def data(case):
    """Samples, labels and their weights."""
    n, _, sizes, *_, weighted, zeros = CASES[case]
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, sizes[0])) * (rng.random((n, sizes[0])) >= zeros)
    weights = rng.random(n) if weighted else None
    if case == "standardised":
        X = X * np.logspace(0, 3, sizes[0]) + 10
    return X, rng.integers(0, sizes[-1], n), weights


def network(case, seed=3):
    """The network of a case."""
    _, _, sizes, _, backend, *_ = CASES[case]
    return fastbp.Network(
        sizes, "tanh", loss="cross-entropy", dtype="float64", backend=backend, seed=seed,
        scale="standard" if case == "standardised" else None,
        dropout=0.3 if case.startswith("dropout") else 0.0,
    )  # fmt: skip


def fit(net, case, **options):
    """Train it; return the history."""
    X, y, weights = data(case)
    known = {
        "epochs": EPOCHS, "batch_size": CASES[case][1], "comm": COMM,
        "learning_rate": SCHEDULES.get(case, RATE),
        "optimizer": CASES[case][3], "sample_weight": weights,
        "validation_data": (X[:30], y[:30]),
    }  # fmt: skip
    X, y = options.pop("X", X), options.pop("y", y)
    return net.fit(X, y, **{**known, **options})


def records(net, history):
    """What a training leaves, by name."""
    series = {name: getattr(history, name) for name in ("loss", "accuracy", "val_loss")}
    series |= net.scaling._asdict() if net.scaling else {}
    return {"vector": net.to_vector(), **{name: np.array(x) for name, x in series.items()}}


def everywhere(records):
    """Return whether all ranks have the same bits."""
    mine = {name: array.tobytes() for name, array in records.items()}
    return all(theirs == mine for theirs in COMM.allgather(mine))


# -- tasks -----------------------------------------------------------------------------------------


def equal(folder):
    """Train every case twice; rank 0 leaves what came out."""
    found = {}
    for case in CASES:
        runs = []
        for _ in range(2):
            net = network(case)
            runs.append(records(net, fit(net, case)))
        assert everywhere(runs[0])
        assert all((runs[0][name] == runs[1][name]).all() for name in runs[0])
        found |= {f"{case}.{name}": array for name, array in runs[0].items()}
    for every in (1, 2, 100):
        net = network("sparse")
        local = records(net, fit(net, "sparse", sync_every=every))
        assert everywhere(local)
        found |= {f"every{every}.{name}": array for name, array in local.items()}
    # With plain SGD and one step, averages of weights are steps along averaged gradients.
    net = network("plain")
    with one_step_at_a_time():
        fit(net, "plain", sync_every=2)
    found["averaged.vector"] = net.to_vector()
    for every in (1, 2):
        net = network("narrow")
        before = net.weights[0].copy(), net.biases[2].copy()
        local = records(net, fit(net, "narrow", sync_every=every, train_layers=[1]))
        assert everywhere(local)
        assert (net.weights[0] == before[0]).all()
        assert (net.biases[2] == before[1]).all()
        found |= {f"frozen{every}.{name}": array for name, array in local.items()}
    if RANK == 0:
        np.savez(Path(folder) / f"equal{SIZE}.npz", **found)


@contextlib.contextmanager
def one_step_at_a_time():
    """Average after every step, though as many are asked for as are not done so."""
    made = steps.AveragedWeights.__init__

    def init(self, ranks, trainer, params, sync_every, frozen):
        made(self, ranks, trainer, params, 1, frozen)

    steps.AveragedWeights.__init__ = init
    yield
    steps.AveragedWeights.__init__ = made


def refuse(folder):
    """Meet each kind of error on all ranks; rank 0 leaves the messages."""
    X, y, _ = data("plain")
    other = X.copy()
    other[-1, -1] += RANK == SIZE - 1
    holed = X.copy()
    holed[-1, 3] = np.nan
    faults = {
        "seed": dict(net=network("plain", seed=3 + (RANK == 1))),
        "data": dict(X=other),
        "labels": dict(y=np.where(RANK == 1, y[::-1], y)),
        "configuration": dict(batch_size=10 + (RANK == 1)),
        "rate": dict(learning_rate=0.1 + 0.1 * (RANK == 1)),
        "many": dict(X=X[: SIZE - 1], y=y[: SIZE - 1], batch_size=1, validation_data=None),
        "batch": dict(batch_size=SIZE - 1),
        "nan in X": dict(X=holed, validation_data=None),
        "sync_every": dict(sync_every=0),
        "callback": dict(callbacks=[Raises()]),
    }
    said = {}
    for name, options in faults.items():
        net = options.pop("net", None) or network("plain")
        before = net.to_vector()
        try:
            fit(net, "plain", **options)
        except (ValueError, ZeroDivisionError) as error:
            said[name] = f"{type(error).__name__}: {error}"
        unchanged = (net.to_vector() == before).all()
        assert unchanged or name == "callback", name
    versions = distributed.Ranks.same

    def other_version(self, facts):
        versions(self, {**facts, "version": f"0.{self.rank}"} if "version" in facts else facts)

    distributed.Ranks.same = other_version
    with contextlib.suppress(fastbp.RankError):
        fit(network("plain"), "plain")
        said["version"] = "not refused"
    distributed.Ranks.same = versions
    assert len(set(COMM.allgather(len(said)))) == 1
    said["nan on one rank"] = poisoned()
    if RANK == 0:
        lines = [f"{name}: {text}" for name, text in said.items()]
        Path(folder, "refused.txt").write_text("\n".join(lines), encoding="utf-8")


class Raises:
    """A callback with a defect."""

    def on_epoch_end(self, net, history):
        raise ZeroDivisionError("in a callback")


def poisoned():
    """Let the loss of the last rank, and of no other, be NaN in the third step."""
    step = steps.SharedGradients._step

    def poison(self, slice_, number):
        if number == 2 and RANK == SIZE - 1:
            self.trainer.params[:] = np.nan
        return step(self, slice_, number)

    steps.SharedGradients._step = poison
    net = network("plain")
    try:
        fit(net, "plain", callbacks=[])
    except fastbp.DivergenceError as error:
        return f"DivergenceError: {error}"
    finally:
        steps.SharedGradients._step = step
    return "not noticed"


def resume(folder):
    """Go on from a checkpoint, and from one that other ranks left; leave checkpoints to others."""
    whole = network("sparse")
    history = fit(whole, "sparse", epochs=4)
    name = str(Path(folder) / f"kept{SIZE}")
    fit(network("sparse"), "sparse", checkpoint=name)
    again = network("sparse", seed=3)
    again_history = fit(again, "sparse", epochs=4, resume=name)
    assert (again.to_vector() == whole.to_vector()).all()
    assert again_history.loss == history.loss
    others = Path(folder) / "kept2"
    from_others = network("sparse")
    fit(from_others, "sparse", epochs=4, resume=str(others))
    if RANK == 0:
        vectors = {"whole": whole.to_vector(), "from_others": from_others.to_vector()}
        np.savez(Path(folder) / f"resumed{SIZE}.npz", **vectors)


def lose_one(folder):
    """Lose rank 1 in the middle of the second epoch, after checkpoints."""
    Path(folder, f"pid{RANK}").write_text(str(os.getpid()), encoding="utf-8")
    with at_call(9, 1, signal.SIGKILL):
        fit(network("plain"), "plain", **kept_often(folder))


def kept_often(folder):
    """How `lose_one` and `go_on` train."""
    return dict(epochs=4, checkpoint=str(Path(folder) / "of_the_lost"), checkpoint_every=1e-6)


def go_on(folder):
    """Go on from what `lose_one` left, to the bits of a training that lost nobody."""
    net, whole, options = network("plain"), network("plain"), kept_often(folder)
    fit(net, "plain", **options, resume=options["checkpoint"])
    fit(whole, "plain", epochs=4)
    assert (net.to_vector() == whole.to_vector()).all()


def interrupted(folder):
    """Let Ctrl-C come to the last rank alone, and then SIGTERM; go on from what rank 0 kept."""
    name = str(Path(folder) / "stopped")
    whole = network("plain")
    fit(whole, "plain")
    for number, kind in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)):
        with at_call(8, SIZE - 1, number):
            with pytest.raises(kind):
                fit(network("plain"), "plain", checkpoint=name)
        net = network("plain")
        assert len(fit(net, "plain", resume=name)) == EPOCHS
        assert (net.to_vector() == whole.to_vector()).all()


@contextlib.contextmanager
def at_call(count, rank, number):
    """Send a signal to a rank at its so many-th step."""
    step, calls = steps.SharedGradients._step, []

    def marked(self, *args):
        calls.append(args)
        if len(calls) == count and RANK == rank:
            os.kill(os.getpid(), number)
        return step(self, *args)

    steps.SharedGradients._step = marked
    yield
    steps.SharedGradients._step = step


def uncaught(folder):
    """Fail on all ranks alike, and let the error out."""
    fit(network("plain"), "plain", batch_size=0)


def broken(folder):
    """Fail on one rank in a way that nobody foresaw."""
    if RANK == 1:
        steps.SharedGradients._step = None
    fit(network("plain"), "plain")


def mapped(folder):
    """Train on a mapped file of which each rank may read its own rows and the probe, no more.

    A row is a page of memory; those of others are closed, so that a look at one of them kills.
    """
    page, n, batch = 4096, 400, 50
    X = np.memmap(Path(folder) / "X", np.float32, "r", shape=(n, page // 4))
    open_rows = set(np.linspace(0, n - 1, state.SAMPLED).astype(int))
    rows = distributed.Shard(n, batch, RANK, SIZE).rows
    open_rows |= set(range(rows.start, rows.stop))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    window, streaming.WINDOW_BYTES = streaming.WINDOW_BYTES, 20 * page  # less than a rank's rows
    for row in set(range(n)) - open_rows:
        assert protect(ctypes.c_void_p(X[row].ctypes.data), page, 0) == 0
    vectors = []
    for samples in (X, np.random.default_rng(5).random(X.shape, dtype=np.float32)):
        for every in (1, 3):
            net = fastbp.Network([X.shape[1], 2], seed=0, loss="cross-entropy")
            net.fit(
                samples, np.arange(n) % 2, epochs=2, batch_size=batch, learning_rate=0.1,
                comm=COMM, sync_every=every,
            )  # fmt: skip
            vectors.append(net.to_vector())
    streaming.WINDOW_BYTES = window
    assert (vectors[0] == vectors[2]).all()
    assert (vectors[1] == vectors[3]).all()
    assert not (vectors[0] == vectors[1]).all()


if __name__ == "__main__":
    folder, *tasks = sys.argv[1:]
    for task in tasks:
        globals()[task](folder)
        COMM.Barrier()
        if RANK == 0:
            Path(folder, f"{task}.{SIZE}").touch()
