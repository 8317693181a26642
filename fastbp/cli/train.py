"""Training, and the search for its learning rate."""

import os
import reprlib
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .. import callbacks, datasets, lr_finder, plots
from .._support import checks
from .._support import notes as kept
from ..history import History
from ..model import file as model_file
from ..network import Network
from ..plots.norms import Norms
from ..schedules import Cosine
from ..training.progress import EpochLines
from ..training.ranks import Ranks, joined, world
from . import options, records
from .options import CURVES, TABLE, Result, command, load_data, title
from .streams import say

PROBE = 256  # samples on which the norms of each layer are recorded


@command(
    f"--data --data-dir {TABLE} --hidden --activation --loss --epochs --batch-size "
    "--learning-rate --schedule --early-stopping --no-bias --init --dtype --threads --seed "
    "--backend --distributed --sync-every --output --checkpoint --resume --checkpoint-every --plot "
    "--log --json --quiet"
)
def train(args: Namespace) -> Result:
    r"""Train a network, save it, draw its curves.

    Integer inputs are scaled by 1/max of the training images (1/16 for the digits, 1/255 for images
    of bytes); the model stores the scale. The test images are the validation data: they are
    evaluated after each epoch, and nothing is chosen by them. Where validation makes a choice, as
    with --early-stopping, its images are held out of the training images.

    shell examples:
      fastbp train                                  the bundled digits, a second
      fastbp train --data mnist --hidden 100,100 --threads 2
      fastbp train --data mnist --hidden 30 --activation sigmoid --loss quadratic \
          --init normal --learning-rate 3.0         the network of Nielsen's book
      fastbp train --data points.csv --label class --hidden 10
      fastbp train --epochs 200 --early-stopping 10 --schedule cosine --log epochs.csv
      fastbp train --epochs 9999 --checkpoint run.safetensors   stop it with Ctrl-C, and continue:
      fastbp train --epochs 9999 --checkpoint run.safetensors --resume run.safetensors
      mpiexec -n 4 fastbp train --distributed --data mnist --hidden 512,512 --batch-size 512
      fastbp train --quiet --json | jq .test_accuracy
    """
    if args.sync_every != 1 and not args.distributed:
        raise ValueError("--sync-every is for several ranks; add --distributed")
    comm = world() if args.distributed else None
    with joined(comm, []) as ranks:
        ranks.call_first(lambda: _check_places(args))
        if not ranks.alone:
            ranks.call_first(lambda: load_data(args, mapped=True) and None)  # one rank downloads
        with ranks.agreed():
            data = load_data(args, mapped=args.distributed)
            scale = _input_scale(data.X_train[ranks.share(len(data.X_train))])
        return _train(args, data, min(ranks.gather(scale)), ranks, comm)


def _train(
    args: Namespace, data: datasets.Dataset, scale: float, ranks: Ranks, comm: Any
) -> Result:
    progress = options.shows_progress(args)
    with ranks.agreed():
        X, y, X_val, y_val = _hold_out(args, data)
        net = _network(args, data, scale)
        if X_val is not data.X_test:  # what is wrong with it is found now, not after an hour
            net.evaluate(data.X_test, data.y_test)
        probe = slice(None, None, -(-len(X) // PROBE))
        norms = Norms(X[probe], y[probe])
        learning_rate, called = _learning_rate(args), [norms, *_callbacks(args, progress)]
    if not args.quiet:
        held_out = "" if X_val is data.X_test else f"{len(X_val):,} for validation, "
        counts = f"{len(X):,} samples for training, {held_out}{len(data.X_test):,} for testing"
        named = args.data_path and args.data in datasets.NAMES
        where = f"{args.data} in {args.data_path}" if named else args.data
        _say(args, f"{where}: {counts}; {title(net)}; {net.dtype}, {net.backend}")
        if (classes := net.notes.get("classes", [])) != list(range(len(classes))):
            _say(args, f"classes: {reprlib.repr(classes)[1:-1]}")
    try:
        history = net.fit(
            X, y, epochs=args.epochs, batch_size=args.batch_size, learning_rate=learning_rate,
            validation_data=(X_val, y_val), callbacks=called, progress=progress,
            threads=args.threads, checkpoint=args.checkpoint, resume=args.resume, comm=comm,
            sync_every=args.sync_every,
        )  # fmt: skip
    except (KeyboardInterrupt, SystemExit) as stop:
        saved = args.checkpoint is not None and os.path.exists(args.checkpoint)
        nothing = "nothing was saved" + (", it had not begun" if args.checkpoint else "")
        go_on = f"to continue, run it again with --resume {args.checkpoint}"
        stop.add_note(go_on if saved else nothing)
        raise
    result: Result = ranks.call_first(lambda: _saved(args, data, net, history, norms, len(X)))
    return result


def _saved(args: Namespace, data: datasets.Dataset, net: Network, *trained: Any) -> Result:
    """Save the network, then evaluate, record and draw, where something may fail."""
    net.save(args.output)
    try:
        return _finish(args, data, net, *trained)
    except BaseException as stop:
        stop.add_note(f"the model is saved: {os.path.abspath(args.output)}")
        raise


def _check_places(args: Namespace) -> None:
    history, log = os.fspath(records.beside(args.output)), args.log and args.log.path
    checkpoint = args.checkpoint
    read = args.data, None if args.resume == checkpoint else args.resume
    for path in filter(None, (args.output, checkpoint)):
        model_file.check_name(path)
    options.check_writable(args.output, history, args.plot or CURVES, log, checkpoint, read=read)
    if args.plot:
        plots.check(args.plot)


def _say(args: Namespace, line: str) -> None:
    """Print a line; with --json to stderr, or nowhere if --quiet is given too."""
    if not (args.json and args.quiet):
        say(line, sys.stderr if args.json else sys.stdout)


def _hold_out(args: Namespace, data: datasets.Dataset) -> tuple[np.ndarray, ...]:
    """Return samples for training and validation; test images validate if they choose nothing."""
    monitor = args.schedule[1].get("monitor", "") if args.schedule else ""
    if args.early_stopping is not None or str(monitor).startswith("val_"):
        checks.finite("X", data.X_train, args.dtype)  # here, where rows are the user's
        return datasets.hold_out(data.X_train, data.y_train, seed=args.seed)
    return data


def _network(args: Namespace, data: datasets.Dataset, scale: float) -> Network:
    classes = int(max(data.y_train.max(), data.y_test.max())) + 1
    sizes = [data.X_train.shape[1], *args.hidden, classes]
    net = options.new_network(args, sizes, dtype=args.dtype, init=args.init, input_scale=scale)
    net.notes = {"classes": list(range(classes)), **data.notes}
    kept.text(net.notes)  # now, not when it is saved
    return net


def _input_scale(X: np.ndarray) -> float:
    """Return what brings integers to [0, 1]: 1/16 for the digits, 1/255 for images of bytes."""
    return 1 / max(int(X.max()), 1) if X.dtype.kind in "iu" else 1.0


def _learning_rate(args: Namespace) -> Any:
    if args.schedule is None:
        return args.learning_rate
    schedule, settings = args.schedule
    usual = {"epochs": args.epochs} if schedule is Cosine else {}
    return _made("--schedule", schedule, args.learning_rate, **usual | settings)


def _made(option: str, kind: Callable[..., Any], *values: Any, **more: Any) -> Any:
    try:
        return kind(*values, **more)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{option}: {error}") from None


def _callbacks(args: Namespace, progress: bool) -> Iterator[Any]:
    if not args.quiet:
        yield EpochLines(args.epochs, partial(_say, args), progress)
    if args.early_stopping is not None:
        yield _made("--early-stopping", callbacks.EarlyStopping, patience=args.early_stopping)
    if args.checkpoint_every is not None:
        folder, name = os.path.split(args.output)
        stem, suffix = os.path.splitext(name.replace("{", "{{").replace("}", "}}"))
        path = os.path.join(folder, stem + "-{epoch:04d}" + suffix)
        yield _made("--checkpoint-every", callbacks.Checkpoint, path, args.checkpoint_every)
    if args.log is not None:
        yield args.log


def _finish(
    args: Namespace, data: datasets.Dataset, net: Network, history: History, norms: Norms, n: int
) -> Result:
    model, recorded = os.path.abspath(args.output), None
    if os.path.isfile(args.output):  # not beside a device such as /dev/null
        recorded = os.path.abspath(records.beside(args.output))
        records.write(recorded, history, norms)
    correct, tested = net.evaluate(data.X_test, data.y_test), len(data.X_test)
    _say(args, f"test accuracy {correct / tested:.4f} ({correct:,} of {tested:,})")
    _say(args, f"model:  {model}")
    if recorded:
        _say(args, f"history: {recorded}")
    seconds, epochs = sum(history.seconds), len(history)
    return Result({
        "test_accuracy": correct / tested, "train_seconds": seconds,
        "samples_per_second": n * epochs / seconds, "epochs": epochs, "seed": args.seed,
        "loss": history.loss[-1], "sizes": list(net.sizes), "data": args.data,
        "data_path": args.data_path,
        "backend": net.backend, "threads": args.threads, "dtype": str(net.dtype),
        "learning_rate": history.learning_rate[-1], "stopped": history.stopped, "model": model,
        "history": recorded, "plot": _draw(args, history, title(net)),
    })  # fmt: skip


def _draw(args: Namespace, history: History, net: str) -> str | None:
    if not args.plot:  # then without matplotlib there are none
        try:
            plots.check()
        except ImportError as error:
            _say(args, f"curves: none; {error}")
            return None
    path = os.path.abspath(args.plot or CURVES)
    plots.learning_curves(history, path, f"{args.data}: {net}")
    _say(args, f"curves: {path}")
    return path


@command(
    f"--data --data-dir {TABLE} --hidden --activation --loss --batch-size --no-bias --init "
    "--dtype --threads --seed --backend --json"
)
def find_learning_rate(args: Namespace) -> Result:
    """Suggest a learning rate for a network, data and batch size.

    Trains a copy at growing rates until the loss explodes, which takes about a second. Pass the
    options that `fastbp train` will get.

    shell examples:
      fastbp find-learning-rate --activation sigmoid --loss quadratic
      fastbp find-learning-rate --data mnist --batch-size 100 --json > rates.json
    """
    data = load_data(args)
    net = _network(args, data, _input_scale(data.X_train))
    rates, losses, suggestion = lr_finder.find_learning_rate(
        net, data.X_train, data.y_train, batch_size=args.batch_size, threads=args.threads
    )
    return Result(
        {"rates": rates.tolist(), "losses": losses.tolist(), "suggestion": suggestion},
        f"{args.data}: {title(net)}, batches of {args.batch_size}\n"
        f"tried   {rates[0]:.3g} to {rates[-1]:.3g}\n"
        f"suggest --learning-rate {suggestion:.3g}",
    )
