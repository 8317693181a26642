r"""The command line: `fastbp COMMAND`, or `python -m fastbp COMMAND`.

## A first session

    fastbp train                                   # digits -> digits.safetensors
    fastbp plot mistakes digits.safetensors        # the samples it is most confidently wrong about
    fastbp report digits.safetensors               # one HTML page with all figures and pictures
    fastbp export digits.safetensors digits.onnx --inputs uint8
    fastbp train --data wine.csv --label class     # a table -> wine.safetensors
    fastbp evaluate wine.safetensors
    fastbp predict wine.safetensors --data new.csv
    fastbp info wine.safetensors                   # layers, and what it was trained on

The first training compiles the kernels for this CPU; later processes load them from a cache.

## Commands

| command | what it does |
|---|---|
| `train` | trains a network on a data set, a table or a folder of images |
| `find-learning-rate` | tries growing learning rates and suggests one |
| `evaluate` | loss and scores of a model on its test part |
| `predict` | the class or number of each row |
| `plot KIND` | one picture, see `fastbp.plots` |
| `report` | one HTML page |
| `export`, `convert` | a model for ONNX or PyTorch, and a model of theirs for fastbp |
| `info` | versions and CPU; with a model, its layers and what it was trained on |
| `gradcheck`, `verify` | gradients against differences, kernels against the reference |
| `warmup` | compiles all kernels now rather than at their first use |

`fastbp COMMAND --help` lists the options. With `--json` the last line of the output is one JSON
object.

## Training

The model is named after its data, and lies in the current folder; `--output` names another file.
Files that belong to it are named after it: `wine.history.jsonl`, `wine-curves.png`,
`wine-report.html`. A model of a default name is replaced only by a training on the same data and
label.

A tenth of the training samples is held out for validation (`--validation-split`); it is what `val`
means in the line of an epoch. The test part is evaluated once, at the end. A baseline stands
beside the result: the share of the most frequent class, or the error of the mean.

A table is standardised, and trained by Adam. Its label column holds classes, as texts or integers,
or numbers to be predicted, which makes it a regression: `--task classification` or `--task
regression` decides where that is guessed wrong. Numbers are trained in units of their deviation, in
which Huber's width is meant, too; the saved model is in their own. Of a quantile the result tells
which share of the test targets lies below the predictions. A training that has led to nothing ends
with a line on what to try.

    fastbp train --data mnist --hidden 100 --activation relu --loss cross-entropy
    fastbp train --epochs 200 --early-stopping 10 --schedule cosine --log epochs.csv
    fastbp train --optimizer adam --l2 1e-4 --clip-norm 1
    fastbp train --data mnist --hidden 512,512 --activation gelu,relu --dropout 0.2,0.5
    fastbp train --data noisy.csv --label class --label-smoothing 0.1
    fastbp train --data prices.csv --label price --loss huber,width=0.5
    fastbp train --data prices.csv --label price --loss quantile,q=0.9
    fastbp train --checkpoint run.safetensors      # and --resume run.safetensors to go on
    fastbp find-learning-rate --json > rates.json  # then: fastbp plot learning-rate rates.json
    mpiexec -n 4 fastbp train --distributed --data mnist --hidden 512,512 --batch-size 2048

A model remembers its data, settings and command, so that `evaluate`, `plot`, `report` and
`predict` need only the model; `--data` names other data.

## Exit codes

0; 1 if a check failed; 2 if an argument or a file is wrong, after one line on stderr that says
why; 130 after Ctrl-C; 143 after SIGTERM. Any other error is a bug and shows a traceback.

What a command says on its way never stops its work: lines that cannot be shown, on a full disk or
to a reader that has left, are lost, and characters that a terminal lacks are written as ``\xe9``.
Only a result that cannot be printed is an error, once everything else is done.
"""

import os
import signal
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

__all__ = ["main"]

INTERRUPTED = 128 + signal.SIGINT  # the exit code that shells report


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run the command `fastbp` with the process's arguments, or these; return its exit code."""
    ours = argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        with loading(ours):
            from . import program

        return program.run(argv, ours)
    except KeyboardInterrupt:  # on the way in or out
        return INTERRUPTED


@contextmanager
def loading(ours: bool) -> "Iterator[None]":
    """Let signals end the process at once inside, if it is ours: it has nothing to lose yet.

    Imports take most of a second, and an exception might be lost in the modules of others.
    """
    ends: dict[int, Any] = {signal.SIGINT: _end, signal.SIGTERM: signal.SIG_DFL} if ours else {}
    before = [(number, signal.signal(number, end)) for number, end in ends.items()]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _end(*_: object) -> None:
    try:
        os.write(2, b"fastbp: interrupted\n")
    finally:
        os._exit(INTERRUPTED)
