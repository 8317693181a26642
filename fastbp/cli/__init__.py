"""The command `fastbp`: parses, calls, prints; computes nothing.

What is wrong with the input becomes one line on stderr and exit code 2. Exit code 1 says that a
check did not hold, 130 that Ctrl-C was pressed, 143 that SIGTERM came. Anything else is a defect
and shows its traceback.
"""

import argparse
import errno
import inspect
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import callbacks, datasets, interchange, kernels, plots, report, schedules
from .. import engines as backend
from .._support import files
from .._support.signals import TERMINATED, dropped_interrupts_return, termination_raises
from ..engines import versions
from ..lr_finder import find_learning_rate
from ..model import activations, losses
from ..model import summary as summaries
from ..network import INITS, Network, load
from ..plots.norms import Norms
from ..training import ranks as distributed
from ..training.progress import EpochLines
from ..verification import verify
from ..verification.gradients import gradcheck
from . import records

MODEL = "fastbp-model.safetensors"
CURVES, REPORT = "fastbp-curves.png", "fastbp-report.html"
PROBE = 256  # samples on which the norms of each layer are recorded
FAILED, WRONG, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
# What a user's input can lead to. All else is a defect of ours.
EXPECTED = (ValueError, TypeError, OSError, ImportError, MemoryError)


def main(argv=None):
    """Run the command `fastbp`.

    Parameters
    ----------
    argv : list of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        Exit code: 0, 1 (a check did not hold), 2 (wrong input), 130 (Ctrl-C), 143 (SIGTERM).

    Examples
    --------
    >>> main(["gradcheck", "--sizes", "3,2", "--json"])  # doctest: +ELLIPSIS
    {"ok": true, "max_error": ...}
    0
    """
    with termination_raises(), _log_to_stderr() as logs:
        try:
            if "--distributed" in (sys.argv if argv is None else argv):
                _hush_other_ranks(logs)
            with dropped_interrupts_return():
                args = _parser().parse_args(argv)
                code = args.run(args) or 0
                sys.stdout.flush()
        except Stopped as stop:
            return _complain(str(stop), stop.code)
        except KeyboardInterrupt:
            return _complain("interrupted", INTERRUPTED)
        except SystemExit as end:
            if end.code != TERMINATED:  # --help
                raise
            return _complain("terminated", TERMINATED)
        except BrokenPipeError:  # as in `fastbp predict | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        except EXPECTED as error:
            return _complain(f"error: {_one_line(error)}", WRONG)
    return code


class Stopped(Exception):
    """A training was stopped by a signal; says what is left of it."""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


def _complain(message, code):
    print(f"fastbp: {message}", file=sys.stderr)
    return code


def _one_line(error):
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"out of memory: {text}" if isinstance(error, MemoryError) else text


@contextmanager
def _log_to_stderr():
    """Show what the library logs: the first compilation, for one."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("fastbp: %(message)s"))
    logger = logging.getLogger("fastbp")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


# -- train ---------------------------------------------------------------------------------------


def _hush_other_ranks(logs):
    """Let rank 0 alone speak; the others say no more than why they end all."""
    if distributed.world().Get_rank():
        logs.setLevel(logging.ERROR)
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")


def _train(args):
    if args.distributed:
        _train_together(args)
        return
    if args.sync_every is not None:
        raise ValueError("--sync-every is for several ranks; add --distributed")
    _check_paths(args)
    data = _data(args)
    _finish(args, *_trained(args, *_prepared(args, data, _input_scale(data.X_train))))


def _train_together(args):
    """Train on all ranks; the first one reports."""
    ranks = distributed.Ranks(distributed.world())
    with ranks.ended_together(Stopped):
        ranks.call_first(lambda: _check_paths(args))
        ranks.call_first(lambda: _data(args, mapped=True) and None)  # one downloads what is missing
        with ranks.agreed():
            data = _data(args, mapped=True)
            scale = _input_scale(data.X_train[ranks.share(len(data.X_train))])
        scale = min(ranks.gather(scale))
        with ranks.agreed():
            _rate(args), list(_callbacks(args))  # what they refuse, they refuse here
            prepared = _prepared(args, data, scale)
        sync_every = 1 if args.sync_every is None else args.sync_every
        trained = _trained(args, *prepared, comm=distributed.world(), sync_every=sync_every)
        ranks.call_first(lambda: _finish(args, *trained))


def _prepared(args, data, scale):
    """Return the data, the network, and the samples for training and for validation."""
    net = _network(args, data, scale)
    X, y, *validation = _held_out(args, data)
    return data, net, (X, y), tuple(validation)


def _trained(args, data, net, samples, validation, **together):
    """Train; return what `_finish` reports."""
    (X, y), say = samples, _sayer(args)
    if not args.quiet:
        validated = (
            "" if validation[0] is data.X_test else f"{len(validation[0]):,} for validation, "
        )
        say(
            f"{args.data}: {len(X):,} samples for training, {validated}{len(data.X_test):,} for "
            f"testing; {_title(net)}; {net.dtype}, {net.backend}"
        )
    norms = _norms(X, y)
    history = _fit(net, X, y, validation, args, say, norms, **together)
    return data, net, len(X), history, norms


def _finish(args, data, net, n, history, norms):
    """Evaluate, save and draw."""
    say = _sayer(args)
    correct = net.evaluate(data.X_test, data.y_test)
    result = {
        "test_accuracy": correct / len(data.X_test),
        "train_seconds": sum(history.seconds),
        "samples_per_second": n * len(history) / sum(history.seconds),
        "epochs": len(history), "seed": args.seed, "loss": history.loss[-1],
        "sizes": list(net.sizes), "data": args.data, "backend": net.backend,
        "threads": args.threads, "dtype": str(net.dtype),
        "learning_rate": history.learning_rate[-1], "stopped": history.stopped,
    }  # fmt: skip
    say(f"test accuracy {result['test_accuracy']:.4f} ({correct:,} of {len(data.X_test):,})")
    net.save(args.output)
    result["model"] = os.path.abspath(args.output)
    say(f"model:  {result['model']}")
    result["history"] = _record(history, norms, args, say)
    result["plot"] = _draw(history, f"{args.data}: {_title(net)}", args, say)
    _print_json(args, result)


def _check_paths(args):
    """Say now, not after the training, that its result would have no place."""
    places = args.output, os.fspath(records.beside(args.output)), args.plot or CURVES
    _check_writable(*places, *filter(None, (args.log, args.checkpoint)))
    if args.plot:
        plots.check(args.plot)


def _check_writable(*paths):
    for path in paths:
        folder = Path(path).parent
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "its folder does not exist", path)
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, "a file was expected, not a folder", path)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "its folder is not writable", path)


def _data(args, mapped=False):
    """Return the data set that was asked for; downloading it may show a progress bar."""
    progress = not getattr(args, "quiet", False) and sys.stderr.isatty()
    return datasets.load(
        args.data, args.data_dir, label=args.label, progress=progress, mapped=mapped
    )


def _network(args, data, scale):
    classes = int(max(data.y_train.max(), data.y_test.max())) + 1
    return Network(
        [data.X_train.shape[1], *args.hidden, classes], activation=args.activation, loss=args.loss,
        bias=args.bias, dtype=args.dtype, backend=args.backend, init=args.init,
        input_scale=scale, seed=args.seed,
    )  # fmt: skip


def _input_scale(X):
    """Bring integers to [0, 1]: 1/16 for the digits, 1/255 for images of bytes."""
    return 1 / max(int(X.max()), 1) if X.dtype.kind in "iu" else 1.0


def _title(net):
    sizes = "-".join(map(str, net.sizes))
    return f"{sizes}, {net.config['activation']}, {net.config['loss']}"


def _sayer(args):
    """Return what prints a line: beside the JSON, lines go to stderr, or nowhere if quiet."""
    if args.json and args.quiet:
        return lambda line: None
    return partial(print, file=sys.stderr if args.json else sys.stdout, flush=True)


def _norms(X, y):
    """Return a recorder of norms on samples from all over the training data."""
    probe = slice(None, None, -(-len(X) // PROBE))
    return Norms(X[probe], y[probe])


def _held_out(args, data):
    """Return samples for training and for validation: the test images, if nothing is chosen."""
    monitor = args.schedule[1].get("monitor", "") if args.schedule else ""
    if args.early_stopping is not None or str(monitor).startswith("val_"):
        return datasets.hold_out(data.X_train, data.y_train, seed=args.seed)
    return data


def _fit(net, X, y, validation, args, say, norms, **together):
    progress = not args.quiet and sys.stderr.isatty()
    lines = [] if args.quiet else [EpochLines(args.epochs, say, progress)]
    try:
        return net.fit(
            X, y, epochs=args.epochs, batch_size=args.batch_size, learning_rate=_rate(args),
            validation_data=validation, callbacks=[norms, *lines, *_callbacks(args)],
            progress=progress, threads=args.threads, checkpoint=args.checkpoint,
            resume=args.resume, **together,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise Stopped(f"training was interrupted; {_left(args)}", INTERRUPTED) from None
    except SystemExit:
        raise Stopped(f"training was terminated; {_left(args)}", TERMINATED) from None


def _left(args):
    """Say what a training that was stopped leaves behind."""
    if args.checkpoint is None:
        return "nothing was saved"
    if not os.path.exists(args.checkpoint):
        return "nothing was saved, it had not begun"
    return f"to go on, run it again with --resume {args.checkpoint}"


def _rate(args):
    """Return the learning rate, or its schedule."""
    if args.schedule is None:
        return args.learning_rate
    schedule, options = args.schedule
    if schedule is schedules.Cosine:
        options = {"epochs": args.epochs, **options}
    with _naming("--schedule"):
        return schedule(args.learning_rate, **options)


@contextmanager
def _naming(option):
    """Say which option it is whose value does not fit; the library calls it by another name."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"{option}: {error}") from None


def _callbacks(args):
    """Return what the options ask for beside the training."""
    if args.early_stopping is not None:
        with _naming("--early-stopping"):
            yield callbacks.EarlyStopping(patience=args.early_stopping)
    if args.checkpoint_every is not None:
        stem, suffix = os.path.splitext(args.output)
        folder, stem = os.path.split(stem.replace("{", "{{").replace("}", "}}"))
        folder = folder.replace("{{", "{").replace("}}", "}")
        pattern = os.path.join(folder, stem + "-{epoch:04d}" + suffix)
        with _naming("--checkpoint-every"):
            yield callbacks.Checkpoint(pattern, args.checkpoint_every)
    if args.log is not None:
        yield LOGS[os.path.splitext(args.log)[1]](args.log)


def _draw(history, title, args, say):
    """Draw the curves and return where; without matplotlib nothing, unless they were asked for."""
    if not args.plot:
        try:
            plots.check()
        except ImportError as error:
            say(f"curves: none; {error}")
            return None
    path = args.plot or CURVES
    plots.learning_curves(history, path, title)
    say(f"curves: {os.path.abspath(path)}")
    return os.path.abspath(path)


def _record(history, norms, args, say):
    """Write the history beside the model and return where; beside /dev/null there is no place."""
    if not os.path.isfile(args.output):
        return None
    path = os.path.abspath(records.beside(args.output))
    records.write(path, history, norms)
    say(f"history: {path}")
    return path


def _print_json(args, result):
    if args.json:
        print(json.dumps(result))


# -- find-learning-rate ---------------------------------------------------------------------------


def _find_learning_rate(args):
    data = _data(args)
    net = _network(args, data, _input_scale(data.X_train))
    found = find_learning_rate(
        net, data.X_train, data.y_train, batch_size=args.batch_size, threads=args.threads
    )
    if args.json:
        rates, losses, suggestion = found
        facts = {"rates": rates.tolist(), "losses": losses.tolist(), "suggestion": suggestion}
        return _print_json(args, facts)
    print(f"{args.data}: {_title(net)}, batches of {args.batch_size}")
    print(f"tried   {found.rates[0]:.3g} to {found.rates[-1]:.3g}")
    print(f"suggest --learning-rate {found.suggestion:.3g}")


# -- evaluate, predict ---------------------------------------------------------------------------


def _evaluate(args):
    net = _model(args)
    data = _data_for(net, args)
    loss, correct = net.loss(data.X_test, data.y_test), net.evaluate(data.X_test, data.y_test)
    samples = len(data.X_test)
    result = {
        "test_accuracy": correct / samples, "test_loss": loss, "correct": correct,
        "samples": samples, "data": args.data, "model": os.path.abspath(args.model),
    }  # fmt: skip
    if args.json:
        return _print_json(args, result)
    print(f"test accuracy {correct / samples:.4f} ({correct:,} of {samples:,})")
    print(f"test loss     {loss:.6f}")


def _predict(args):
    net = _model(args)
    X = _samples(net, args)
    rows, fmt = (net.feedforward(X), "%.9g") if args.proba else (net.predict(X), "%d")
    if args.output is None:
        np.savetxt(sys.stdout, rows, fmt, delimiter=",")
    else:
        text = io.StringIO()
        np.savetxt(text, rows, fmt, delimiter=",")
        files.write_text(args.output, text.getvalue())


def _model(args):
    return _load(args.model, getattr(args, "backend", "numba"))


def _load(path, backend="numba"):
    if not os.path.exists(path):
        reason = "there is no such file; `fastbp train` writes one, `fastbp convert` others"
        raise FileNotFoundError(errno.ENOENT, reason, path)
    if path.lower().endswith(".onnx"):
        raise ValueError(f"{path} is of another layout; `fastbp convert` makes a model of it")
    return load(path, backend=backend)


def _data_for(net, args):
    """Return the data set that was asked for, if the model takes such samples."""
    data = _data(args)
    n_in, expected = data.X_test.shape[1], net.sizes[0]
    if n_in != expected:
        raise ValueError(
            f"the model takes samples of {expected} numbers, those of {args.data} have {n_in}; "
            "name by --data what it was trained on"
        )
    return data


def _samples(net, args):
    """Return the rows of a .npy or .csv file, or the test images of a data set."""
    if args.data.lower().endswith(".csv"):
        return datasets.read_csv(args.data, args.label)[0]
    if not args.data.endswith(".npy"):
        return _data_for(net, args).X_test
    X = datasets.map_npy(args.data)
    return X.reshape(len(X), -1)


# -- export, convert -----------------------------------------------------------------------------


def _export(args):
    layout = LAYOUTS[args.to]
    _check_new(args.out, args.model, layout.suffix)
    lines = list(layout.write(_model(args), args))
    print(f"wrote {os.path.abspath(args.out)}. To use it:\n", *lines, sep="\n")


def _check_new(path, source, suffix):
    """Say what would be lost, or not be found again."""
    if not path.lower().endswith(suffix):
        raise ValueError(f"OUT must end in {suffix}; found {path}")
    if os.path.exists(path) and os.path.samefile(path, source):
        raise ValueError(f"OUT must be another file than {source}, which it would replace")


def _export_torch(net, args):
    if args.inputs != "float":
        raise ValueError("--inputs is for ONNX; PyTorch's modules take floats")
    interchange.write_torch(net, args.out)
    return [interchange.torch_code(net, args.out)]


def _export_onnx(net, args):
    interchange.write_onnx(net, args.out, inputs=args.inputs)
    kind = "uint8" if args.inputs == "uint8" else net.dtype
    return [
        "import onnxruntime",
        f"session = onnxruntime.InferenceSession({args.out!r})",
        f"(outputs,) = session.run(None, {{'X': X}})  # X: (batch, {net.sizes[0]}), {kind}",
    ]


class _Layout(NamedTuple):
    write: Callable
    suffix: str


LAYOUTS = {"torch": _Layout(_export_torch, ".safetensors"), "onnx": _Layout(_export_onnx, ".onnx")}


def _convert(args):
    _check_new(args.out, args.file, ".safetensors")
    net = interchange.read(
        args.file, activation=args.activation, output=args.output_activation, loss=args.loss,
        input_scale=args.input_scale,
    )  # fmt: skip
    net.save(args.out)
    print(f"wrote {os.path.abspath(args.out)}: {net}, input_scale {net.config['input_scale']:g}")


# -- plot, report --------------------------------------------------------------------------------


def _plot(args):
    path = args.output or f"fastbp-{args.kind}.png"
    _check_writable(path)
    plots.check(path)
    PICTURES[args.kind](args, path)
    path = os.path.abspath(path)
    if args.json:
        return _print_json(args, {"kind": args.kind, "plot": path})
    print(f"{args.kind}: {path}")


def _one_file(args):
    if len(args.files) > 1:
        raise ValueError(f"plot {args.kind} takes one file; found {' '.join(args.files)}")
    return args.files[0] if args.files else MODEL


def _plot_curves(args, path):
    runs = {name: records.read(name).history for name in args.files or [MODEL]}
    plots.learning_curves(runs, path)


def _plot_norms(args, path):
    name = _one_file(args)
    plots.layer_norms(records.read(name), path, title=name)


def _plot_weights(args, path):
    net = _load(_one_file(args))
    plots.first_layer(net, path, _title(net))


def _plot_rates(args, path):
    if not args.files:
        raise ValueError(
            "plot learning-rate needs the file that "
            "`fastbp find-learning-rate --json > rates.json` writes"
        )
    name = _one_file(args)
    plots.learning_rates(records.read_rates(name), path, title=name)


def _plot_on_data(draw, args, path):
    net = _load(_one_file(args))
    data = _data_for(net, args)
    draw(net, data.X_test, data.y_test, path, f"{args.data}: {_title(net)}")


PICTURES = {
    "curves": _plot_curves,
    "confusion": partial(_plot_on_data, plots.confusion_matrix),
    "mistakes": partial(_plot_on_data, plots.mistakes),
    "weights": _plot_weights,
    "norms": _plot_norms,
    "learning-rate": _plot_rates,
}


def _report(args):
    _check_writable(args.output)
    net = _model(args)
    data = _data_for(net, args)
    run = records.read(args.model) if records.beside(args.model).exists() else None
    report.write(
        args.output, net, data.X_test, data.y_test, history=run and run.history,
        norms=run if run and run.deltas else None, title=f"{args.data}: {_title(net)}",
    )  # fmt: skip
    path = os.path.abspath(args.output)
    if args.json:
        return _print_json(args, {"report": path})
    print(f"report: {path}")


# -- gradcheck, verify, warmup, info ------------------------------------------------------------


def _gradcheck(args):
    if args.model:
        net = _model(args)
    else:
        net = Network(
            args.sizes, activation=args.activation, loss=args.loss, bias=args.bias,
            dtype="float64", backend=args.backend, seed=args.seed,
        )  # fmt: skip
    rng = np.random.default_rng(args.seed)
    X = rng.random((args.samples, net.sizes[0])) / net.config["input_scale"]
    report = gradcheck(net, X, rng.integers(net.sizes[-1], size=args.samples))
    if args.json:
        _print_json(args, {"ok": report.ok, "max_error": report.max_error})
    else:
        print(f"{net}\n{report}")
    return 0 if report.ok else FAILED


def _verify(args):
    report = verify(quick=args.quick)
    if args.json:
        _print_json(args, report.to_dict())
    else:
        print(report)
    return 0 if report.ok else FAILED


def _warmup(args):
    started = time.perf_counter()
    backend.warmup(("float32", "float64") if args.dtype == "both" else (args.dtype,))
    seconds = time.perf_counter() - started
    print(f"kernels are ready after {seconds:.1f} s")
    print(f"cache: {kernels.cache_dir() or 'none, no folder is writable'}")


def _info(args):
    if args.model:
        return _summary(args)
    if args.json:
        return _print_json(args, versions.facts())
    versions.show_versions()


def _summary(args):
    net = _load(args.model)
    if args.json:
        layers = [layer._asdict() for layer in summaries.layers(net.config)]
        return _print_json(args, {**net.config, "layers": layers})
    print(net.summary())


# -- arguments -----------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and takes many files before options as well as after."""

    many_files = False

    def parse_known_args(self, args=None, namespace=None):
        """Parse by argparse's intermixed way where there are many files; it calls this again."""
        if not self.many_files:
            return super().parse_known_args(args, namespace)
        self.many_files = False
        return self.parse_known_intermixed_args(args, namespace)

    def error(self, message):
        raise ValueError(f"{message} (see {self.prog} --help)")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the examples, and shows defaults, but not that of a switch."""

    def _get_help_string(self, action):
        silent = action.default in (None, argparse.SUPPRESS) or isinstance(action.default, bool)
        return action.help if silent else f"{action.help} (default: %(default)s)"


def _widths(text):
    try:
        return [int(width) for width in text.split(",")] if text else []
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected widths such as 100,100; found {text!r}"
        ) from None


def _init(text):
    try:
        return float(text)
    except ValueError:
        return text  # a name; Network knows which


def _schedule(text):
    """Return the class of a schedule and its options, from such as step,every=10,factor=0.5."""
    name, *pairs = text.split(",")
    if name not in SCHEDULES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(SCHEDULES)}; found {name!r}")
    known = list(inspect.signature(SCHEDULES[name]).parameters)[1:]
    options = {}
    for key, equals, value in (pair.partition("=") for pair in pairs):
        if key not in known or not equals:
            expected = " or ".join(f"{option}=..." for option in known)
            raise argparse.ArgumentTypeError(f"{name} takes {expected}; found {key + equals!r}")
        if key in options:
            raise argparse.ArgumentTypeError(f"{key}= stands there twice")
        options[key] = _number(value)
    return SCHEDULES[name], options


def _number(text):
    """Return a number, or the text itself if it is none."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _log(text):
    if os.path.splitext(text)[1] not in LOGS:
        raise argparse.ArgumentTypeError(f"expected a file {' or '.join(LOGS)}; found {text!r}")
    return text


SCHEDULES = {
    "step": schedules.Step, "exponential": schedules.Exponential, "cosine": schedules.Cosine,
    "plateau": schedules.OnPlateau,
}  # fmt: skip
LOGS = {".csv": callbacks.CSVLog, ".jsonl": callbacks.JSONLog}
_WHOLE: dict = {"type": int, "metavar": "N"}
# How each option is declared; a command may change this, see COMMANDS.
OPTIONS: dict[str, dict] = {
    "model": {
        "nargs": "?", "metavar": "MODEL", "default": MODEL, "help": "a file that train wrote",
    },
    "kind": {"metavar": "KIND", "choices": PICTURES, "help": ", ".join(PICTURES)},
    "files": {
        "nargs": "*", "metavar": "FILE", "default": None,
        "help": f"a model that train wrote; for curves, any number of them (default: {MODEL}); for "
        "learning-rate, what find-learning-rate --json printed",
    },
    "--data": {
        "metavar": "DATA", "default": "digits",
        "help": "digits (bundled), mnist or fashion-mnist (downloaded if need be), a folder of IDX "
        "files, a Keras-style .npz, mnist.pkl.gz, or a .csv with a header",
    },
    "--data-dir": {
        "metavar": "FOLDER",
        "help": "look here first for mnist and fashion-mnist; then come $FASTBP_DATA, the user's "
        "cache and the system's",
    },
    "--label": {
        "metavar": "NAME", "help": "the column of a .csv that holds the classes, 0, 1, 2, ...",
    },
    "--hidden": {
        "type": _widths, "metavar": "N,N", "default": "100",
        "help": "widths of the hidden layers, as 100,100; '' for none",
    },
    "--sizes": {
        "type": _widths, "metavar": "N,N", "default": "4,5,3",
        "help": "neurons per layer, the inputs first",
    },
    "--activation": {
        "choices": activations.HIDDEN, "default": "relu", "help": "of hidden layers",
    },
    "--loss": {
        "choices": losses.NAMES, "default": "cross-entropy",
        "help": "cross-entropy has a softmax output; quadratic a sigmoid one after sigmoid "
        "layers, else identity",
    },
    "--no-bias": {
        "dest": "bias", "action": "store_false", "default": True, "help": "weights only",
    },
    "--epochs": {**_WHOLE, "default": 30, "help": "times each sample is seen"},
    "--batch-size": {**_WHOLE, "default": 10, "help": "samples per step; 1: online"},
    "--learning-rate": {
        "type": float, "metavar": "RATE", "default": 0.05,
        "help": "length of a step along a batch's mean gradient; sigmoid layers want 0.3 to 3",
    },
    "--schedule": {
        "type": _schedule, "metavar": "NAME[,KEY=VALUE]",
        "help": "how the learning rate changes from epoch to epoch: step,every=10,factor=0.5; "
        "exponential,factor=0.95; cosine; plateau,patience=5,factor=0.5",
    },
    "--early-stopping": {
        **_WHOLE,
        "help": "end after N epochs without a smaller validation loss, and keep the best weights; "
        "a tenth of the training images then serves for validation",
    },
    "--checkpoint-every": {**_WHOLE, "help": "save the model after every N epochs, too"},
    "--checkpoint": {
        "metavar": "FILE",
        "help": "keep the state of the training in this file: each minute, at Ctrl-C or SIGTERM, "
        "and at the end",
    },
    "--resume": {
        "metavar": "FILE",
        "help": "go on from the state in this file; the other options as they were, but for "
        "--epochs and --threads",
    },
    "--log": {
        "type": _log, "metavar": "FILE",
        "help": "write each epoch to this file, while training: .csv, or .jsonl (JSON lines)",
    },
    "--init": {
        "type": _init, "metavar": "INIT", "default": "lecun_normal",
        "help": f"start of the weights: {', '.join(INITS)}, or a standard deviation",
    },
    "--dtype": {
        "choices": ("float32", "float64"), "default": "float32", "help": "precision",
    },
    "--threads": {
        **_WHOLE, "default": 1,
        "help": "how many may take part; the result has the same bits for any number",
    },
    "--distributed": {
        "action": "store_true",
        "help": "share each batch among the ranks that mpiexec started",
    },
    "--sync-every": {
        **_WHOLE,
        "help": "with --distributed: let ranks go on by themselves for N steps and average their "
        "weights then, for batches so small that a message takes longer than a step (default: 1)",
    },
    "--seed": {**_WHOLE, "default": 0, "help": "of the start and of the samples' order"},
    "--samples": {**_WHOLE, "default": 5, "help": "how many, drawn at random"},
    "--backend": {
        "choices": ("numba", "numpy"), "default": "numba",
        "help": "compiled kernels, or the reference in NumPy",
    },
    "--output": {"metavar": "FILE", "default": MODEL, "help": "the model"},
    "file": {
        "metavar": "FILE", "help": "a .safetensors (a state_dict of PyTorch's) or .onnx file",
    },
    "out": {"metavar": "OUT", "help": "the file to write: .safetensors, or .onnx for ONNX"},
    "--to": {"choices": tuple(LAYOUTS), "required": True, "help": "whose layout"},
    "--inputs": {
        "choices": ("float", "uint8"), "default": "float",
        "help": "what an ONNX model takes: numbers of its own precision, or bytes",
    },
    "--output-activation": {
        "choices": activations.OUTPUT, "help": "of the output (default: by the loss, as of train)",
    },
    "--input-scale": {
        "type": float, "metavar": "SCALE",
        "help": "multiply inputs by it, as by 0.00392157 where PyTorch was given pixels from 0 "
        "to 1 and bytes are to come",
    },
    "--plot": {
        "metavar": "FILE",
        "help": "curves of loss and accuracy: .png, .svg or .pdf "
        f"(default: {CURVES}, if matplotlib is installed)",
    },
    "--proba": {
        "action": "store_true", "help": "print the outputs, comma-separated, not the class",
    },
    "--quick": {"action": "store_true", "help": "fewer shapes: seconds, not minutes"},
    "--json": {
        "action": "store_true",
        "help": "print the result as one JSON object, the last line of stdout",
    },
    "--quiet": {"action": "store_true", "help": "print the result only"},
}  # fmt: skip


class _Command(NamedTuple):
    run: object
    help: str
    options: str
    changes: dict  # of single options' declarations
    more: str  # examples


COMMANDS = {
    "train": _Command(
        _train, "train a network, save it, draw its curves",
        "--data --data-dir --label --hidden --activation --loss --epochs --batch-size "
        "--learning-rate --schedule --early-stopping --no-bias --init --dtype --threads --seed "
        "--backend --distributed --sync-every --output --checkpoint --resume --checkpoint-every "
        "--plot --log --json --quiet",
        {},
        """\
Inputs that are integers are scaled by 1/max of the training images (1/16 for the digits, 1/255
for images of bytes); the model keeps the scale. The test images serve as validation data: they
are evaluated after each epoch, and nothing is chosen by them. What is chosen by validation, as by
--early-stopping, is so on images held out of the training images.

examples:
  fastbp train                                  the bundled digits, a second
  fastbp train --data mnist --hidden 100,100 --threads 2
  fastbp train --data mnist --hidden 30 --activation sigmoid --loss quadratic \\
      --init normal --learning-rate 3.0         the network of Nielsen's book
  fastbp train --data points.csv --label class --hidden 10
  fastbp train --epochs 200 --early-stopping 10 --schedule cosine --log epochs.csv
  fastbp train --epochs 9999 --checkpoint run.safetensors     stop it by Ctrl-C, and go on:
  fastbp train --epochs 9999 --checkpoint run.safetensors --resume run.safetensors
  mpiexec -n 4 fastbp train --distributed --data mnist --hidden 512,512 --batch-size 512
  fastbp train --quiet --json | jq .test_accuracy""",
    ),
    "find-learning-rate": _Command(
        _find_learning_rate, "suggest a learning rate for a network, data and batch size",
        "--data --data-dir --label --hidden --activation --loss --batch-size --no-bias --init "
        "--dtype --threads --seed --backend --json",
        {},
        """Trains a copy at growing rates until the loss explodes, a second or so. Take the options
that `fastbp train` is to have.

examples:
  fastbp find-learning-rate --activation sigmoid --loss quadratic
  fastbp find-learning-rate --data mnist --batch-size 100 --json > rates.json""",
    ),
    "evaluate": _Command(
        _evaluate, "print a model's loss and accuracy on test images",
        "model --data --data-dir --label --backend --json",
        {"--data": {"help": f"test images: {OPTIONS['--data']['help']}"}},
        """examples:
  fastbp evaluate                               what `fastbp train` has just left
  fastbp evaluate mnist.safetensors --data mnist --json""",
    ),
    "predict": _Command(
        _predict, "print the class of each image, one a line",
        "model --data --data-dir --label --backend --proba --output",
        {
            "--data": {
                "help": "all rows of a .npy or .csv file, or test images: "
                f"{OPTIONS['--data']['help']}",
            },
            "--label": {"help": "a column of a .csv to leave out"},
            "--output": {"default": None, "help": "write here (default: stdout)"},
        },
        """examples:
  fastbp predict | head
  fastbp predict mnist.safetensors --data images.npy --proba --output outputs.csv
  fastbp predict points.safetensors --data points.csv --label class""",
    ),
    "export": _Command(
        _export, "write a model in the layout of another program",
        "model out --to --inputs",
        {"model": {"nargs": None, "default": None}},
        """The outputs there are the same to rounding, for the same inputs: where a model scales its
inputs, so does the ONNX graph; for PyTorch the scale is multiplied into the first weights. For
scikit-learn, see fastbp.interchange.to_sklearn.

examples:
  fastbp export fastbp-model.safetensors digits.onnx --to onnx --inputs uint8
  fastbp export fastbp-model.safetensors digits-torch.safetensors --to torch""",
    ),
    "convert": _Command(
        _convert, "read a model of another program, write one of fastbp's",
        "file out --activation --output-activation --loss --input-scale",
        {
            "out": {"help": "the file to write: .safetensors"},
            "--activation": {
                "default": None, "help": "of hidden layers; a state_dict does not say it",
            },
            "--loss": {
                "default": None,
                "help": "what training is to go on with; a state_dict does not say it",
            },
        },
        """From PyTorch, write the file by safetensors.torch.save_file(model.state_dict(), FILE). Of
an ONNX graph, dense layers and their activations are understood. For scikit-learn, see
fastbp.interchange.from_sklearn.

examples:
  fastbp convert theirs.safetensors mine.safetensors --activation relu --loss cross-entropy
  fastbp convert theirs.onnx mine.safetensors""",
    ),
    "plot": _Command(
        _plot, "draw a picture of a model, or of how it was trained",
        "kind files --data --data-dir --label --output --json",
        {
            "--data": {
                "help": f"test images for confusion and mistakes: {OPTIONS['--data']['help']}"
            },
            "--output": {
                "default": None,
                "help": "the picture: .png, .svg or .pdf (default: fastbp-KIND.png)",
            },
        },
        """\
curves         loss and accuracy over the epochs; several runs in one picture
confusion      how many test images of each class are taken for which
mistakes       the test images that the model is most confidently wrong about
weights        the first layer's weights as images
norms          how large activations and deltas are in each layer: do gradients vanish?
learning-rate  the loss over growing learning rates, as find-learning-rate tried them

curves and norms read the history that train leaves beside its model: MODEL.history.jsonl.

examples:
  fastbp plot curves                            what `fastbp train` has just left
  fastbp plot curves a.safetensors b.safetensors --output both.svg
  fastbp plot mistakes mnist.safetensors --data mnist
  fastbp find-learning-rate --json > rates.json && fastbp plot learning-rate rates.json""",
    ),
    "report": _Command(
        _report, "write one HTML page about a model: figures of each class, all pictures",
        "model --data --data-dir --label --output --json",
        {
            "--data": {"help": f"test images: {OPTIONS['--data']['help']}"},
            "--output": {"default": REPORT, "help": "the page"},
        },
        """The page is one file, images included, and loads nothing. Learning curves and norms need
the history that train leaves beside its model.

examples:
  fastbp report                                 what `fastbp train` has just left
  fastbp report mnist.safetensors --data mnist --output mnist.html""",
    ),
    "gradcheck": _Command(
        _gradcheck, "compare back-propagation with central differences",
        "model --sizes --activation --loss --no-bias --samples --seed --backend --json",
        {
            "model": {
                "default": None,
                "help": "check this one (default: a random network as the options say)",
            },
            "--activation": {"default": "sigmoid"}, "--loss": {"default": "quadratic"},
            "--seed": {"help": "of network and samples"},
        },
        """In float64, for every parameter. Exit code 1 if they differ.

examples:
  fastbp gradcheck --sizes 10,20,5 --activation tanh --loss cross-entropy
  fastbp gradcheck fastbp-model.safetensors""",
    ),
    "verify": _Command(
        _verify, "check on this machine that the kernels equal the reference",
        "--quick --json",
        {},
        """Every kernel, dtype, path and number of threads against the reference, and the reference
against finite differences: a table with the largest error beside the one allowed. Exit code 1 if
any is larger.

examples:
  fastbp verify --quick
  fastbp verify --json | jq .ok""",
    ),
    "warmup": _Command(
        _warmup, "compile the kernels, once per machine",
        "--dtype",
        {"--dtype": {"choices": ("float32", "float64", "both"), "default": "both"}},
        "Training does it by itself when it first needs them. In an image or on a cluster, do it "
        "beforehand.",
    ),
    "info": _Command(
        _info, "show versions, CPU, vector width, threads and kernel cache; or a model's layers",
        "model --json",
        {"model": {"default": None, "help": "show its layers, their sizes and work, instead"}},
        "Without a model: put its output into a bug report.",
    ),
}  # fmt: skip


def _parser():
    parser = _Parser(
        prog="fastbp", formatter_class=_Help, allow_abbrev=False,
        description="Train multi-layer perceptrons by back-propagation, fast; check gradients, "
        "look at what was learnt, take it elsewhere.",
        epilog="""\
to begin with:
  fastbp train              1,797 handwritten digits, a second; leaves a model and its history
  fastbp report             one HTML page about it, with all pictures
  fastbp export fastbp-model.safetensors digits.onnx --to onnx

Pictures need matplotlib, ONNX files onnx: pip install 'fastbp[plot,onnx]'.
`fastbp COMMAND --help` says more, with examples.""",
    )  # fmt: skip
    version = f"fastbp {versions.version('fastbp')}"
    parser.add_argument("--version", action="version", version=version, help="show the version")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=command.more, formatter_class=_Help, allow_abbrev=False,
        )  # fmt: skip
        for option in command.options.split():
            sub.add_argument(option, **(OPTIONS[option] | command.changes.get(option, {})))
        sub.many_files = "files" in command.options.split()
        sub.set_defaults(run=command.run)
    return parser
