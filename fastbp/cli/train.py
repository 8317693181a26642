"""Training, and the search for its learning rate."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .. import callbacks, datasets, lr_finder, optimizers, plots, schedules
from .._support import checks
from ..errors import ModelFileError
from ..history import History
from ..model import file as model_file
from ..network import Network
from ..plots.norms import Norms
from ..training.progress import EpochLines
from ..training.ranks import Ranks, joined, world
from . import hints, inputs, memory, records, tasks
from .inputs import load_data, named_after, title
from .options import Result
from .streams import say
from .values import LOGS, SCHEDULES

_Pair = tuple[np.ndarray, np.ndarray] | None
PROBE = 256  # samples on which the norms of each layer are recorded


def train(args: Namespace) -> Result:
    """Train a network, save it, draw its curves."""
    if args.sync_every != 1 and not args.distributed:
        raise ValueError("--sync-every is for several ranks; add --distributed")
    args.as_typed, args.named = memory.as_typed(args), args.output is not None
    args.output = args.output or memory.model_of(args.data)
    device = os.path.exists(args.output) and not os.path.isfile(args.output)  # such as /dev/null
    args.history = None if device else os.fspath(records.beside(args.output))
    args.curves = args.plot or (None if device else named_after(args.output, "-curves.png"))
    comm = world() if args.distributed else None
    with joined(comm, []) as ranks:
        ranks.call_first(lambda: _check_places(args))
        if not ranks.alone:
            ranks.call_first(lambda: load_data(args, mapped=True) and None)  # one rank downloads
        with ranks.agreed():
            data = load_data(args, mapped=args.distributed)
            tasks.settle(args, data)
            scale = _input_scale(data.X_train[ranks.share(len(data.X_train))])
        ranks.call_first(lambda: _check_replaced(args))
        return _train(args, data, min(ranks.gather(scale)), ranks, comm)


def _train(
    args: Namespace, data: datasets.Dataset, scale: float, ranks: Ranks, comm: Any
) -> Result:
    progress = inputs.shows_progress(args)
    with ranks.agreed():
        net = tasks.network(args, data, scale)
        X, y, held_out = _hold_out(args, data)
        if net.config["scale"] is None:  # what is wrong is found now, as readers find it in tables
            net.loss(data.X_test, data.y_test)
        unit = tasks.unit(net, y)
        y, held_out = unit.of(y), held_out and (held_out[0], unit.of(held_out[1]))
        counts = {"samples": len(X), "validation_samples": len(held_out[0]) if held_out else 0}
        memory.remember(args, net, data, **counts)
        probe = slice(None, None, -(-len(X) // PROBE))
        norms = Norms(X[probe], y[probe])
        learning_rate, called = _learning_rate(args), [norms, *_callbacks(args, progress, unit)]
        rule, start = _optimizer(args), net.weights[0].copy()
    if not args.quiet:
        _introduce(args, net, len(data.X_test), *counts.values())
        for line in tasks.introduced(net, data, unit, args.task is not None):
            _say(args, line)
    try:
        history = net.fit(
            X, y, epochs=args.epochs, batch_size=args.batch_size, learning_rate=learning_rate,
            validation_data=held_out, callbacks=called, progress=progress, threads=args.threads,
            optimizer=rule, checkpoint=args.checkpoint, resume=args.resume, comm=comm,
            sync_every=args.sync_every, class_weight=args.class_weight,
        )  # fmt: skip
    except (KeyboardInterrupt, SystemExit) as stop:
        saved = args.checkpoint is not None and os.path.exists(args.checkpoint)
        nothing = "nothing was saved" + (", it had not begun" if args.checkpoint else "")
        go_on = f"to continue, run it again with --resume {args.checkpoint}"
        stop.add_note(go_on if saved else nothing)
        raise
    net = unit.restore(net)
    trained = start, history, norms, len(X)
    result: Result = ranks.call_first(lambda: _saved(args, data, net, *trained))
    return result


def _introduce(args: Namespace, net: Network, tested: int, trained: int, validated: int) -> None:
    """Say what is trained, on what."""
    few = "none for validation, as a tenth of so few is none" if args.validation_split else ""
    held_out = f"{validated:,} for validation" if validated else few
    counts = [f"{trained:,} samples for training", held_out, f"{tested:,} for testing"]
    named = args.data_path and args.data in datasets.NAMES
    where = f"{args.data} in {args.data_path}" if named else args.data
    words = f"{title(net)}; {args.optimizer}, {net.dtype}, {net.backend}"
    _say(args, f"{where}: {', '.join(filter(None, counts))}; {words}")


def _saved(args: Namespace, data: datasets.Dataset, net: Network, *trained: Any) -> Result:
    """Save the network, then evaluate, record and draw, where something may fail."""
    net.save(args.output)
    try:
        return _finish(args, data, net, *trained)
    except BaseException as stop:
        stop.add_note(f"the model is saved: {os.path.abspath(args.output)}")
        raise


def _check_places(args: Namespace) -> None:
    checkpoint = args.checkpoint
    read = args.data, None if args.resume == checkpoint else args.resume
    for path in filter(None, (args.output, checkpoint)):
        model_file.check_name(path)
    inputs.check_writable(args.output, args.history, args.curves, args.log, checkpoint, read=read)
    if args.plot:
        plots.check(args.plot)


def _check_replaced(args: Namespace) -> None:
    """Raise if a model whose name nobody chose would replace one of other data."""
    if args.named or not os.path.exists(args.output):
        return
    try:
        notes = inputs.load_model(args.output, "numpy").notes
    except ModelFileError:
        notes = {}
    if not memory.is_of(args, notes):
        what = f"{args.output} is there, and not a model of the same data"
        raise ValueError(f"{what}; name the new one by --output, or remove it")


def _say(args: Namespace, line: str) -> None:
    """Print a line; with --json to stderr, or nowhere if --quiet is given too."""
    if not (args.json and args.quiet):
        say(line, sys.stderr if args.json else sys.stdout)


def _hold_out(args: Namespace, data: datasets.Dataset) -> tuple[np.ndarray, np.ndarray, _Pair]:
    """Return samples and targets for training, and for validation if there are to be any."""
    X, y, share = data.X_train, data.y_train, args.validation_split
    if not 0 <= share < 1:
        raise ValueError(f"--validation-split must be from 0 to below 1; got {share:g}")
    if len(X) < 2 or round(share * len(X)) == 0:
        monitor = str(args.schedule.settings.get("monitor", "")) if args.schedule else ""
        needs = {
            "--early-stopping": args.early_stopping is not None,
            f"--schedule with {monitor}": monitor.startswith("val_"),
        }
        for option in (option for option, needed in needs.items() if needed):
            raise ValueError(f"{option} needs validation samples; raise --validation-split")
        return X, y, None
    checks.finite("X", X, args.dtype)  # here, where rows are the user's
    X, y, *held_out = datasets.hold_out(X, y, share)
    return X, y, (held_out[0], held_out[1])


def _input_scale(X: np.ndarray) -> float:
    """Return what brings integers to [0, 1]: 1/16 for the digits, 1/255 for images of bytes."""
    return 1 / max(int(X.max()), 1) if X.dtype.kind in "iu" else 1.0


def _learning_rate(args: Namespace) -> Any:
    rate = args.learning_rate
    if args.schedule is not None:
        kind, settings = SCHEDULES[args.schedule.name], args.schedule.settings
        usual = {"epochs": args.epochs} if kind == "Cosine" else {}
        rate = _made("--schedule", getattr(schedules, kind), rate, **usual | settings)
    if args.by_step:
        if args.schedule is None:
            raise ValueError("--by-step needs --schedule, such as --schedule cosine")
        rate = _made("--by-step", schedules.ByStep, rate)
    if args.warmup is not None:
        rate = _made("--warmup", schedules.Warmup, rate, args.warmup)
    return rate


def _optimizer(args: Namespace) -> optimizers.Optimizer:
    rule = optimizers.optimizer(args.optimizer)
    rule.l2, rule.l1, rule.clip_norm = args.l2, args.l1, args.clip_norm
    if args.weight_decay is not None:
        if not isinstance(rule, optimizers.AdamW):
            advice = f"--optimizer is {args.optimizer}, for which there is --l2"
            raise ValueError(f"--weight-decay is of --optimizer adamw; {advice}")
        rule.weight_decay = args.weight_decay
    return rule


def _made(option: str, kind: Callable[..., Any], *values: Any, **more: Any) -> Any:
    try:
        return kind(*values, **more)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{option}: {error}") from None


def _callbacks(args: Namespace, progress: bool, unit: tasks.Unit) -> Iterator[Any]:
    yield memory.CountEpochs()  # before those that save
    if not args.quiet:
        yield EpochLines(args.epochs, partial(_say, args), progress)
    if args.early_stopping is not None:
        yield _made("--early-stopping", callbacks.EarlyStopping, patience=args.early_stopping)
    if args.checkpoint_every is not None:
        folder, name = os.path.split(args.output)
        stem, suffix = os.path.splitext(name.replace("{", "{{").replace("}", "}}"))
        path = os.path.join(folder, stem + "-{epoch:04d}" + suffix)
        yield _made("--checkpoint-every", tasks.Checkpoint, path, args.checkpoint_every, unit)
    if args.log is not None:
        yield getattr(callbacks, LOGS[os.path.splitext(args.log)[1]])(args.log)


def _finish(
    args: Namespace, data: datasets.Dataset, net: Network, start: np.ndarray, history: History,
    norms: Norms, n: int,
) -> Result:  # fmt: skip
    model, recorded = os.path.abspath(args.output), args.history and os.path.abspath(args.history)
    if recorded:
        records.write(recorded, history, norms)
    facts, line = tasks.scores(net, data.X_test, data.y_test)
    _say(args, line)
    _say(args, f"model:   {model}")
    if recorded:
        _say(args, f"history: {recorded}")
    seconds, epochs, plot = sum(history.seconds), len(history), _draw(args, history, title(net))
    if advice := hints.hint(net, start, history, facts, data.X_test):
        _say(args, f"hint: {advice}")
    return Result({
        **facts, **tasks.facts(net), "train_seconds": seconds,
        "samples_per_second": n * epochs / seconds, "epochs": epochs, "seed": args.seed,
        "loss": history.loss[-1], "sizes": list(net.sizes), "data": args.data,
        "data_path": args.data_path,
        "backend": net.backend, "threads": args.threads, "dtype": str(net.dtype),
        "learning_rate": history.learning_rate[-1], "stopped": history.stopped, "model": model,
        "history": recorded, "plot": plot, "hint": advice or None,
    })  # fmt: skip


def _draw(args: Namespace, history: History, net: str) -> str | None:
    if not args.curves:
        return None
    if not args.plot:  # then without matplotlib there are none
        try:
            plots.check()
        except ImportError as error:
            _say(args, f"curves:  none; {error}")
            return None
    path: str = os.path.abspath(args.curves)
    plots.learning_curves(history, path, f"{args.data}: {net}")
    _say(args, f"curves:  {path}")
    return path


def find_learning_rate(args: Namespace) -> Result:
    """Suggest a learning rate for a network, data and batch size."""
    data = load_data(args)
    tasks.settle(args, data)
    net = tasks.network(args, data, _input_scale(data.X_train))
    y = tasks.unit(net, data.y_train).of(data.y_train)
    rates, losses, suggestion = lr_finder.find_learning_rate(
        net, data.X_train, y, batch_size=args.batch_size, optimizer=_optimizer(args),
        threads=args.threads,
    )  # fmt: skip
    return Result(
        {"rates": rates.tolist(), "losses": losses.tolist(), "suggestion": suggestion},
        f"{args.data}: {title(net)}, {args.optimizer}, batches of {args.batch_size}\n"
        f"tried   {rates[0]:.3g} to {rates[-1]:.3g}\n"
        f"suggest --learning-rate {suggestion:.3g}",
    )
