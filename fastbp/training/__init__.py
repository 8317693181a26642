"""Training in depth: everything that `Network.fit` can do, and what it is made of.

## A training with everything

>>> import fastbp, numpy as np
>>> X, y, X_test, y_test = fastbp.datasets.load("digits")
>>> X, y, X_val, y_val = fastbp.datasets.hold_out(X, y)
>>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
>>> found = fastbp.find_learning_rate(net, X, y, batch_size=10)
>>> history = net.fit(
...     X, y, epochs=100, batch_size=10,
...     learning_rate=fastbp.schedules.Cosine(found.suggestion, epochs=100),
...     validation_data=(X_val, y_val),
...     callbacks=[fastbp.callbacks.EarlyStopping(patience=5)],
... )
>>> history.stopped[:18], max(history.val_accuracy) > 0.95
('no better val_loss', True)

- `find_learning_rate` trains a copy at growing rates and suggests one.
- `fastbp.schedules` change the rate from epoch to epoch, or from step to step:
  `Warmup(Cosine(0.1, epochs=100), epochs=2)` lets it grow in the first two epochs, and
  `ByStep(Cosine(0.1, epochs=100))` follows the curve within epochs too. For chunks the rate changes
  between epochs only.
- `fastbp.callbacks.EarlyStopping` ends the training when the validation loss no longer falls, and
  restores the best weights. `StopOnDivergence` restores the best weights instead of raising;
  `Checkpoint` saves the network every few epochs, or the best one; `CSVLog` and `JSONLog` write a
  line for each epoch. A callback of your own has `on_epoch_end(net, history)`, and ends the
  training by setting `history.stopped` to its reason.
- `verbose=True` logs a line for each epoch to the logger "fastbp", or prints it where the program
  handles no logs. `progress=True` shows bars, in a terminal or a notebook (tqdm): up to 30 epochs
  have one each, and more share one.
- `fit` called again goes on from the weights that the network has, and returns a new history.
- `threads=2` lets two threads take part. The result has the same bits for any number.

## Samples, targets and batches

`X` is `(n, n_in)`, of any real dtype. Images of uint8 are taken as they are; a table of pandas and
a sparse matrix of SciPy, whose zeros are skipped, are taken too. `X` is never modified. `y` is
`(n,)` integer labels, or `(n, n_out)` targets.

A step follows the mean gradient of `batch_size` samples. A last, smaller batch is trained too, and
a `batch_size` larger than the number of samples is clipped to it, with a warning. The loss and
accuracy in the history are means over the samples of an epoch, each taken before its own step;
validation is evaluated after the epoch. `sample_weight` counts samples more or less: the loss of a
batch is the weighted mean.

`shuffle=True` draws a new order for each epoch, by the network's own generator, unless one batch
holds all samples. `order` is a function that returns the order of the next epoch instead, a
permutation of `range(n)`.

Targets that the output cannot reach, such as 3.0 with a sigmoid, bring a warning; regressions take
`output="identity"`.

## Classes of unlike size

`class_weight="balanced"` counts each class as much as any other, however few its samples are: those
of class c get the weight n / (classes * count(c)), as in scikit-learn. A dict gives weights of your
own; classes that it does not name have 1. Both multiply `sample_weight`, and hold for the training
alone: validation data count as they are. They need one class for each sample. For chunks, whose
classes nobody has counted before, pass a dict.

>>> rare = (y == 7) & (np.arange(len(y)) % 10 > 0)  # nine in ten sevens are gone
>>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
>>> history = net.fit(
...     X[~rare], y[~rare], epochs=10, batch_size=10, learning_rate=0.1, class_weight="balanced",
... )
>>> bool((net.predict(X_test[y_test == 7]) == 7).mean() > 0.8)
True

From the shell: `fastbp train --class-weight balanced`.

## Dropout

`Network(dropout=0.5)` leaves each neuron of the hidden layers out of a step with probability 0.5,
anew for each sample and epoch; a list has a probability for each hidden layer. What stays counts
1 / (1 - 0.5) times as much, so that predictions, which take all neurons, need no other weights.

>>> options = {"dropout": [0.5, 0.2], "loss": "cross-entropy", "input_scale": 1 / 16, "seed": 0}
>>> net = fastbp.Network([64, 100, 50, 10], "relu", **options)
>>> validation = {"validation_data": (X_val, y_val)}
>>> history = net.fit(X, y, epochs=10, batch_size=10, learning_rate=0.1, **validation)
>>> history.loss[-1] > history.val_loss[-1] == net.loss(X_val, y_val)
True

The history has losses and accuracies as samples were seen, with neurons left out. `fit`,
`update_mini_batch` and `find_learning_rate` leave out; `predict`, `evaluate`, `loss` and `gradient`
do not. `gradcheck` takes loss and gradient with the same neurons left out each time.

Which neurons these are follows from a key, which the network's generator draws for each epoch
behind the order, and from the numbers of sample, layer and neuron. So a training gives the same
bits for any number of threads, resumed or not, from an array or a memory map, and the neurons are
the same for any number of processes. Each chunk of an iterable has a key of its own.

From the shell: `fastbp train --dropout 0.5,0.2`.

## Label smoothing

`fastbp.losses.CrossEntropy(label_smoothing=0.1)` spreads a tenth of each target evenly over all
classes, so that outputs stop short of certainty. That helps where some labels are wrong:

>>> loss = fastbp.losses.CrossEntropy(label_smoothing=0.1)
>>> net = fastbp.Network([64, 200, 10], "relu", loss=loss, input_scale=1 / 16, seed=0)
>>> history = net.fit(X, y, epochs=20, batch_size=10, learning_rate=0.05)
>>> float(net.feedforward(X_test).max(axis=1).mean()) < 0.9  # 0.95 without
True

From the shell: `fastbp train --label-smoothing 0.1`.

## Losses for numbers

`loss="quadratic"` makes a network predict the mean, which a single gross error moves as far as it
likes. "absolute" predicts the median; "huber" is quadratic up to its width and grows by the
absolute difference beyond; "quantile" predicts what a share q of the targets lies below. Two
networks give a band:

>>> rng = np.random.default_rng(0)
>>> x = rng.uniform(-1, 1, (2000, 1))
>>> price = x + (1 + x) * rng.exponential(size=x.shape)
>>> band = []
>>> for q in (0.1, 0.9):
...     one = fastbp.Network([1, 20, 1], "tanh", loss=fastbp.losses.Quantile(q), seed=0)
...     history = one.fit(x, price, epochs=60, batch_size=20, learning_rate=0.05)
...     band.append(one.predict(x))
>>> inside = np.mean((band[0] < price.ravel()) & (price.ravel() < band[1]))
>>> 0.75 < float(inside) < 0.85
True

Widths and errors are in the unit of the targets. From the shell, where targets are divided by their
deviation: `fastbp train --loss huber,width=0.5` or `--loss quantile,q=0.9`.

## Validation

`validation_split=0.1` holds a tenth of X and y out of the training and evaluates it after each
epoch. Which rows these are is decided by `fastbp.datasets.hold_out`, by a seed of its own: each
class has its part, and the rows are the same in each call and when a training is resumed.
`sample_weight` stays with its samples, and a memory map stays in its file. For chunks and for
several processes, which `validation_split` does not go with, call `hold_out` yourself and pass
`validation_data=(X_val, y_val)`. Keep the test data for the end: what stops a training or chooses
a learning rate is no longer a test.

## Optimisers

>>> history = net.fit(X, y, epochs=2, batch_size=32, learning_rate=0.001, optimizer="adam")
>>> rule = fastbp.SGD(momentum=0.9, nesterov=True, l2=1e-4, clip_norm=1.0)
>>> history = net.fit(X, y, epochs=2, batch_size=32, learning_rate=0.1, optimizer=rule)

A name ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop") starts anew with each `fit`; an
object, `SGD`, `Adam`, `AdamW` or `RMSprop`, keeps its momenta and goes on from the `fit` before.
All take the penalties `l2` and `l1`, of which `history.penalty` tells. `AdamW` lets weights decay
beside the step, which is no penalty:

>>> rule, rate = fastbp.AdamW(weight_decay=0.01), fastbp.schedules.Warmup(0.001, epochs=1)
>>> history = net.fit(X, y, epochs=2, batch_size=32, learning_rate=rate, optimizer=rule)
>>> rule = fastbp.RMSprop(l1=1e-4)
>>> history = net.fit(X, y, epochs=2, batch_size=32, learning_rate=0.001, optimizer=rule)
>>> history.loss[0] > history.penalty[0] > 0
True

Plain SGD without penalties is fused with back-propagation; all else makes one more pass over all
weights after each batch, and `l1` two.

## How a network starts, and layers that stay as they are

`Network(init=...)` says how the weights are drawn, for all layers or, in a list, for each; there,
a pair of arrays (W, b) puts in what another network has learnt. `fit(train_layers=...)` names the
layers that learn, as indices into `net.weights`, -1 for the last. The others are frozen: they keep
their bits, and count neither in the penalty nor in the norm of the gradient.

>>> options = {"loss": "cross-entropy", "input_scale": 1 / 16, "seed": 0}
>>> known = fastbp.Network([64, 40, 10], "relu", **options)
>>> history = known.fit(X, y, epochs=20, batch_size=10, learning_rate=0.1)
>>> first = known.weights[0], known.biases[0]
>>> net = fastbp.Network([64, 40, 2], "relu", init=[first, "lecun_normal"], **options)
>>> few = X_val[:20], y_val[:20] % 2  # even or odd?
>>> history = net.fit(*few, epochs=60, batch_size=5, learning_rate=0.05, train_layers=[-1])
>>> bool((net.weights[0] == first[0]).all()), net.accuracy(X_test, y_test % 2) > 0.82
(True, True)

Frozen layers take the path of the optimisers, plain SGD too. An optimiser object that is passed on
to a `fit` of other layers starts anew.

By default hidden layers of relu, leaky_relu, elu, softplus, silu and gelu start by "he", all others
by "lecun_normal". With one or two layers it makes little difference; eight of gelu or softplus do
not begin to learn without it, as the table of `scripts/effects.py` in `tests/README.md` shows.

## Standardised columns

>>> table = X * np.logspace(0, 4, 64) + 100
>>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", scale="standard", seed=0)
>>> history = net.fit(table, y, epochs=5, batch_size=32, learning_rate=0.1)
>>> int((net.scaling.deviation == 0).sum())  # pixels that are 0 in all images
3

With `scale="standard"` the first `fit` takes mean and deviation of each column from the training
samples, each of which counts alike, and all after it keep them. They are computed in float64, and
so are the rows, before they become the network's dtype: columns with large means lose no digits.
A training that is resumed has those of its file. Chunks are read once more, before the first epoch;
an iterator that can be read only once needs `scale=(mean, deviation)`. Ranks join what each finds
in its own rows. Without, `fit` warns once if columns have unlike scales.

## When it diverges, and when it is interrupted

A loss, gradient or weight that becomes NaN or infinite ends the training with
`fastbp.DivergenceError`, which names epoch, step and layer. The network keeps the weights from
before the first such step. Ctrl-C is answered within 0.2 seconds and leaves the weights of a whole
step.

While one thread trains a network, others may predict with it; a second thread that would train it
gets a `RuntimeError`.

## Stopping and resuming

>>> import os, tempfile
>>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
>>> def network(): return fastbp.Network([64, 30, 10], input_scale=1 / 16, seed=0)
>>> settings = {"batch_size": 32, "learning_rate": 0.1}
>>> history = network().fit(X, y, epochs=3, checkpoint=path, **settings)
>>> resumed, whole = network(), network()
>>> len(resumed.fit(X, y, epochs=5, resume=path, **settings))
5
>>> history = whole.fit(X, y, epochs=5, **settings)
>>> bool((resumed.to_vector() == whole.to_vector()).all())
True

`checkpoint` keeps the state of the training in a file: at the start, every `checkpoint_every`
seconds (60), at Ctrl-C and SIGTERM, and at the end. The file is replaced whole or not at all.
`resume` goes on from it, mid-epoch too, and ends with the bits of a training that was never
stopped. Network, data and arguments must be those that the training began with, except for
`epochs`, `threads`, `progress` and `verbose`. A schedule or callback whose attributes a file
cannot hold is refused.

## More samples than memory holds

A `numpy.memmap`, such as `np.load("X.npy", mmap_mode="r")`, is read a few megabytes at a time, in
the order of the epoch, and gives the same bits as an array in memory. Or pass an iterable of
chunks `(X, y)` in place of X and y, which is gone through anew for each epoch:

>>> import pathlib
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> for day in range(3):
...     np.savez(folder / f"{day}.npz", X=X[day::3], y=y[day::3])
>>> class Days:
...     def __iter__(self):
...         for path in sorted(folder.glob("*.npz")):
...             day = np.load(path)
...             yield day["X"], day["y"]
>>> history = network().fit(Days(), epochs=5, batch_size=32, learning_rate=0.1)

One chunk is in memory at a time. Each batch comes from one chunk, and so does the order that
`shuffle` draws. The history holds whole epochs, and the optimiser goes on from chunk to chunk.
Where shuffled reading is slow, as on rotating disks, chunks are the better choice.

On a file of 4.7 GB (the bytes of MNIST a hundred times over), an epoch takes 138 MB more memory
than before it, of which 24 bytes a sample are the order and the label; in chunks of 39 MB it takes
170 MB. Pages of the file that stay in memory belong to the system, which takes them back when
needed.

## Several processes and machines

With mpi4py and an MPI (the extra `mpi` brings both), all processes of a program that `mpiexec`
starts call `fit` with the same arguments:

    from mpi4py import MPI

    X = np.load("X.npy", mmap_mode="r")  # each process reads its own rows alone
    net.fit(X, y, epochs=20, batch_size=2048, learning_rate=0.1, comm=MPI.COMM_WORLD)

From the shell: `mpiexec -n 4 fastbp train --distributed --data mnist --hidden 512,512 --batch-size
2048`.

The processes (ranks) share each batch and take the steps that one process would, up to rounding;
the same number of ranks gives the same bits. The data are cut into as many strips as a batch has
places, each strip is shuffled by itself, and a batch takes one sample of each strip. So each rank
always reads the same rows, and no batch depends on the number of ranks: a checkpoint can go on
with another number. Plain `fit` shuffles all samples together, so its steps are different ones.
With `shuffle=False` a batch takes one sample of each strip, in order.

`sync_every=k` lets ranks take k steps by themselves and average their weights then. That is
another training, for batches so small that a step takes less time than a message. `threads` is per
rank.

Rank 0 alone calls callbacks, prints and saves. Ranks with different data (of a memory map, a few
rows are compared), version, seed or configuration are refused before the first step; NaN on one
rank stops all; an error or a kill of one ends all. In a program that does more than `fit`, start
`mpiexec -n 4 python -m mpi4py program.py`, so that its own errors end all ranks too.

More ranks pay off where a rank's share of a batch takes longer than adding up the gradients. On
one machine, try `threads` first. Measured figures are in `asv_benchmarks/README.md`. To search for
settings with many processes, use the estimators with joblib, as `scripts/search.py` does.

## What it is made of

To follow `fit` in the source takes nine words. A *recipe* holds the options, checked. A *source*
brings samples to a *trainer*, which learns them many steps in a call. The *state* is what a step
changes. The *loop* runs the epochs, tells *callbacks*, asks the *schedule* for learning rates, and
writes the *history*. A *rule* says how weights follow the gradient. Several ranks run the same
loop; one rank is a communicator of size one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .._support import checks, signals
from ..engines import predictor
from ..history import History
from ..model.scaling import Scaling, check, standardised
from . import mpi, progress, resume
from .loop import Loop, Slices
from .ranks import Ranks, joined
from .recipe import VALIDATION, Data, Given, Learner, Recipe, checked
from .sources import Arrays, Chunks, Source, Stretch, key_of, part, warn_out_of_reach
from .steps import Steps, steps_of

__all__ = ["Learner", "fit", "take_step"]


def fit(learner: Learner, X: Any, y: Any, given: Given) -> History:
    """Train as `Network.fit` says; `given` are its options by name."""
    comm = given["comm"]
    with (
        signals.guarded(terminable=given["checkpoint"] is not None) as interrupts,
        joined(comm, interrupts.waiting) as ranks,
    ):
        with ranks.agreed():
            recipe = checked(learner, ranks, X, y, given)
        mpi.check_agreement(learner, ranks, recipe)
        learner = resume.with_its_scaling(learner, ranks, recipe)
        with learner.alone, recipe.optimizer.alone, interrupts.held(comm is not None):
            source: Source = (Chunks if recipe.data is None else Arrays)(learner, ranks, recipe)
            with source.trainer:
                return _run(learner, ranks, recipe, source, interrupts)


def _run(
    learner: Learner, ranks: Ranks, recipe: Recipe, source: Source, interrupts: signals.Interrupts
) -> History:
    callbacks = recipe.callbacks
    tqdm = progress.tqdm_class() if recipe.progress and ranks.rank == 0 else None
    if recipe.verbose and ranks.rank == 0:
        callbacks = (progress.EpochLines(recipe.epochs, progress.say, tqdm is not None), *callbacks)
    if not ranks.alone:
        callbacks = (mpi.OnFirst(learner, ranks, recipe, callbacks),)
    share, validate = _validation(learner, ranks, recipe.validation, source.scaling)
    slices = Slices(learner.params, ranks, steps_of(ranks, recipe, source, learner.params))
    loop = Loop(learner, recipe, source, slices, validate, callbacks, interrupts)
    resumed = resume.prepare(loop, ranks, share)
    if tqdm:
        loop.own.append(progress.ProgressBar(loop, tqdm))
    learner.keep_scaling(source.scaling)
    return loop.run(resumed)


def _validation(
    learner: Learner, ranks: Ranks, data: Data | None, scaling: Scaling | None
) -> tuple[Any, Callable[[], tuple[float, float]] | None]:
    """Return this rank's share of the validation data, checked, and what evaluates all shares."""
    if data is None:
        return None, None
    rows, share, dtype = ranks.share(data.n), None, learner.params.dtype
    with ranks.agreed():
        if rows.start < rows.stop:
            share = X, targets = part(data, rows, learner.config, VALIDATION)
            name = VALIDATION[0] if ranks.alone else f"{VALIDATION[0]}[{rows.start}:{rows.stop}]"
            if scaling is not None and checks.is_mapped(X):  # standardised when it is read
                check(scaling, X, dtype, name)
            else:
                X, scaling = standardised(scaling, X, dtype, name), None

    @np.errstate(all="ignore")
    def validate() -> tuple[float, float]:
        sums = np.zeros(3)  # of losses and hits, and of shares that hold no classes
        if share is not None:
            engine, params = learner.engine, learner.params
            loss, hits = predictor.evaluate(engine, params, X, targets, scaling)
            sums[:] = loss, hits, not targets.classes
        ranks.reduce(sums)
        return float(sums[0] / data.n), float("nan") if sums[2] else float(sums[1] / data.n)

    return share, validate


def take_step(learner: Learner, X: Any, y: Any, learning_rate: float) -> None:
    """Take one step of plain SGD on a batch; go back if something is then not finite."""
    rows, targets = checks.batch(X, y, learner.config)
    rows = standardised(learner.scaling, rows, learner.params.dtype)
    warn_out_of_reach(learner, targets.values, "y", ranks := Ranks())
    n = rows.shape[0]
    learner.engine.layout.clear_padding(learner.params)
    with learner.alone, learner.engine.trainer(learner.params, rows, targets, n) as trainer:
        slices = Slices(learner.params, ranks, Steps(trainer))
        trainer.draw_masks(key_of(learner)())
        for _ in slices.run(0, Stretch(np.arange(n), n, 0, 1, n, n), learning_rate, 0.0):
            pass
