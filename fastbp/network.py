"""`Network`: a multi-layer perceptron in one flat buffer, trained by back-propagation."""

import logging
import os
import reprlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import optimizers, schedules
from ._support import checks
from ._support.signals import Exclusive, dropped_interrupts_return, termination_raises
from .engines import get_backend
from .errors import ModelFileError
from .history import History
from .model import activations, losses
from .model import file as checkpoint
from .model import summary as summaries
from .model.layout import Layout, parts_of
from .reference import Model, Targets
from .training import loop as training
from .training import mpi as data_parallel
from .training import resume as resuming
from .training import sources as streaming
from .training.progress import logged_lines

logger = logging.getLogger("fastbp")

ROWS_AT_ONCE = 4096  # of a sparse matrix are made dense
EVALUATED_AT_ONCE = 2**30  # weights x samples: a few hundredths of a second, for Ctrl-C
VALUES_AT_ONCE = 2**24  # inputs that are evaluated at once, which may need a copy of another dtype


def _dense(X: Any) -> np.ndarray:
    """Return rows of a sparse matrix as an array; other rows as they are."""
    return X.toarray() if checks.is_sparse(X) else X


def _lecun_normal(rng: np.random.Generator, W: np.ndarray, b: np.ndarray) -> None:
    W[...] = rng.standard_normal(W.shape) / np.sqrt(W.shape[1])


def _normal(rng: np.random.Generator, W: np.ndarray, b: np.ndarray) -> None:
    W[...] = rng.standard_normal(W.shape)
    b[...] = rng.standard_normal(b.shape)


def _uniform(rng: np.random.Generator, W: np.ndarray, b: np.ndarray) -> None:
    W[...] = rng.uniform(-1, 1, W.shape)
    b[...] = rng.uniform(-1, 1, b.shape)


INITS = {"lecun_normal": _lecun_normal, "normal": _normal, "uniform": _uniform}


def _initializer(
    init: str | float, dtype: str
) -> Callable[[np.random.Generator, np.ndarray, np.ndarray], None]:
    if isinstance(init, str):
        if init not in INITS:
            raise ValueError(f"init must be one of {', '.join(INITS)}, or a number; found {init!r}")
        return INITS[init]
    std = checks.positive_float("init", init, dtype)

    def scaled_normal(rng: np.random.Generator, W: np.ndarray, b: np.ndarray) -> None:
        W[...] = std * rng.standard_normal(W.shape)

    return scaled_normal


class Gradient:
    """The gradient of the mean loss of a batch.

    Attributes
    ----------
    weights : tuple of (n_out, n_in) arrays
    biases : tuple of (n_out,) arrays
        Empty if the network has no biases.
    loss : float
        The mean loss.

    Examples
    --------
    >>> import fastbp, numpy as np
    >>> gradient = fastbp.Network([3, 2], seed=0).gradient(np.eye(3), [0, 1, 0])
    >>> gradient.weights[0].shape, gradient.biases[0].shape, gradient.to_vector().shape
    ((2, 3), (2,), (8,))
    """

    def __init__(self, layout: Layout, flat: np.ndarray, loss: float) -> None:
        self._layout, self._flat, self.loss = layout, flat, loss

    # Made when asked for: they cost as much as a sixth of the gradient of a small network.
    @cached_property
    def _views(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        return self._layout.views(self._flat)

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """dC/dW of each layer."""
        return self._views[0]

    @property
    def biases(self) -> tuple[np.ndarray, ...]:
        """dC/db of each layer; none without biases."""
        return self._views[1] if self._layout.bias else ()

    def to_vector(self) -> np.ndarray:
        """Return the gradient in the order of `Network.to_vector`."""
        return self._layout.to_vector(self._flat)

    def __repr__(self) -> str:
        return f"Gradient(weights={self.weights}, biases={self.biases}, loss={self.loss})"


class Callback(Protocol):
    """What `fit` calls after each epoch."""

    def on_epoch_end(self, net: Any, history: History) -> object:
        """Look at the network and at what was recorded so far."""


class Network:
    """A multi-layer perceptron.

    a_0 = input_scale * x;  z_l = W_l a_(l-1) + b_l;  a_l = f_l(z_l)

    Parameters
    ----------
    sizes : sequence of int
        Neurons per layer, the inputs first: `[784, 30, 10]`.
    activation : {"sigmoid", "tanh", "relu", "identity"}
        Of the hidden layers.
    output : {"sigmoid", "tanh", "relu", "identity", "exp", "softmax"}, optional
        By default softmax for cross-entropy and exp for poisson; for the quadratic loss sigmoid
        where the hidden activation is sigmoid, else identity.
    loss : {"quadratic", "cross-entropy", "poisson"}
        `sum((a - y)**2) / 2`; or `-sum(y log a)` with softmax, or its element-wise form
        `-sum(y log a + (1 - y) log(1 - a))` with a sigmoid output; or `sum(a - y log a)`, for
        counts, with exp.
    bias : bool
        Without, the network has no biases and `biases` is empty.
    dtype : {"float32", "float64"}
    backend : {"numba", "numpy"}
        The compiled kernels, or the reference.
    init : {"lecun_normal", "normal", "uniform"} or float
        Weights from N(0, 1/n_in), N(0, 1), U(-1, 1), or a normal distribution with this standard
        deviation. Biases start as the weights do for "normal" and "uniform", else at zero.
    input_scale : float
        Inputs are multiplied by it on the fly: 1/255 for images of type uint8.
    seed : int, optional
        Of the start and of the order of samples. The same seed gives the same start and order with
        either backend and dtype.

    Attributes
    ----------
    sizes : tuple of int
    num_layers : int
        The inputs included.
    weights : tuple of (n_out, n_in) arrays
        Views into `params`: write into them.
    biases : tuple of (n_out,) arrays
    params : flat array
        All parameters as stored, padding included. `to_vector` gives them without.
    config : dict
        The constructor's arguments that describe the network.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.

    Examples
    --------
    >>> import fastbp
    >>> X_train, y_train, X_test, y_test = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=1)
    >>> history = net.fit(X_train, y_train, epochs=20, batch_size=10, learning_rate=0.5)
    >>> net.accuracy(X_test, y_test) > 0.9
    True
    """

    def __init__(
        self, sizes: Sequence[int], activation: str = "sigmoid", output: str | None = None,
        loss: str = "quadratic", bias: bool = True, dtype: DTypeLike = "float32",
        backend: str = "numba", init: str | float = "lecun_normal", input_scale: float = 1.0,
        seed: int | None = None,
    ) -> None:  # fmt: skip
        self.config = _config(sizes, activation, output, loss, bias, dtype, input_scale)
        initializer = _initializer(init, self.config["dtype"])
        self.backend = _backend(backend)
        self.rng = np.random.default_rng(_seed(seed))
        self._build()
        for W, b in zip(*self._layout.views(self.params), strict=True):
            initializer(self.rng, W, b)
            if not self.config["bias"]:
                b[...] = 0

    def _build(self) -> None:
        """Make buffer, views and engine from `config` and `backend`."""
        c = self.config
        self.sizes: tuple[int, ...] = tuple(c["sizes"])
        self._single = self.sizes[:1]  # the shape of one sample
        self.num_layers = len(self.sizes)
        self.dtype = np.dtype(c["dtype"])
        hidden = [c["activation"]] * (self.num_layers - 2)
        model = Model(self.sizes, (*hidden, c["output"]), c["loss"], c["bias"], c["input_scale"])
        self._layout = Layout(self.sizes, self.dtype, c["bias"])
        self._params = self._layout.zeros()
        self._weights, biases = self._layout.views(self._params)
        self._biases = biases if c["bias"] else ()
        self._engine = get_backend(self.backend).engine(model, self._layout)
        self._alone = Exclusive("this network")  # for all that writes weights
        self._rows_at_once = max(1, EVALUATED_AT_ONCE // self._layout.num_parameters // 128) * 128

    def __getstate__(self) -> dict[str, Any]:
        return {
            "config": self.config, "backend": self.backend, "rng": self.rng,
            "vector": self.to_vector(),
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.config, self.backend, self.rng = state["config"], state["backend"], state["rng"]
        self._build()
        self._layout.from_vector(state["vector"], self.params)

    def __repr__(self) -> str:
        c = self.config
        words = ", ".join(
            f"{k}={c[k]!r}" for k in ("activation", "output", "loss", "bias", "dtype")
        )
        return f"Network({c['sizes']}, {words}, backend={self.backend!r})"

    # Properties, so that `net.weights = ...` is refused: it would leave the buffer as it is.
    @property
    def params(self) -> np.ndarray:
        """All parameters as stored, padding included."""
        return self._params

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """W of each layer, (n_out, n_in): views into `params`."""
        return self._weights

    @property
    def biases(self) -> tuple[np.ndarray, ...]:
        """b of each layer, (n_out,): views into `params`; none without biases."""
        return self._biases

    # -- parameters ------------------------------------------------------------------------------

    def to_vector(self) -> np.ndarray:
        """Return a copy of all parameters, without padding.

        W row by row, then b, layer by layer.

        Returns
        -------
        (n_parameters,) array
        """
        return self._layout.to_vector(self.params)

    def from_vector(self, v: ArrayLike) -> None:
        """Set all parameters from a vector in the order of `to_vector`.

        Parameters
        ----------
        v : (n_parameters,) array

        Raises
        ------
        ValueError
            If the length does not fit or a value is not finite; the network is left as it was.
        TypeError
            If v does not hold numbers.
        """
        v = checks.numbers_array("v", v)
        if v.shape != (self._layout.num_parameters,):
            raise ValueError(
                f"v must hold {self._layout.num_parameters} parameters; found shape {v.shape}"
            )
        flat = self._layout.zeros()
        self._layout.from_vector(checks.finite("v", v, self.dtype), flat)
        with self._alone:
            self.params[...] = flat  # at one stroke: an interrupt comes before or after it

    # -- forward ---------------------------------------------------------------------------------

    def _rows(self, X: Any) -> tuple[np.ndarray, bool]:
        """Return X as rows, and whether it was a single flat sample."""
        if type(X) is np.ndarray or not checks.is_sparse(X):
            X = checks.numbers_array("X", X)
            if X.shape == self._single:
                return X[None], True
        return checks.samples(X, self.sizes[0]), False

    def feedforward(self, X: ArrayLike, threads: int = 1) -> np.ndarray:
        """Return the network's outputs.

        Parameters
        ----------
        X : (batch, n_in) array, or (n_in,) for one sample
            Any real dtype; uint8 is taken as it is.
        threads : int
            Upper limit; large batches are shared out. The outputs have the same bits anyway.

        Returns
        -------
        (batch, n_out) array, or (n_out,)

        Raises
        ------
        ValueError
            If the shape does not fit, or X holds NaN or infinity.
        TypeError
            If X does not hold numbers.

        Examples
        --------
        >>> import fastbp, numpy as np
        >>> fastbp.Network([3, 2], seed=0).feedforward(np.zeros((1, 3)))
        array([[0.5, 0.5]], dtype=float32)
        """
        X, single = self._rows(X)
        if threads != 1:
            threads = checks.positive_int("threads", threads)
        if not single and (checks.is_sparse(X) or len(X) > self._rows_at_once):
            return self._feedforward_in_parts(X, threads)
        out = self._outputs(X, threads, X)
        return out[0] if single else out

    def _outputs(self, rows: np.ndarray, threads: int, X: Any) -> np.ndarray:
        """Return the outputs of some rows of X."""
        out, fine = self._engine.feedforward(self._params, rows, threads)
        if not fine:  # or the weights are so large that sums overflowed
            checks.finite("X", X, self.dtype, self.config["input_scale"])
        return out

    def _feedforward_in_parts(self, X: Any, threads: int) -> np.ndarray:
        """Take whole tiles of rows at once, for Ctrl-C and for memory."""
        rows = ROWS_AT_ONCE if checks.is_sparse(X) else self._rows_at_once
        parts = parts_of(X.shape[0], rows)
        return np.concatenate([self._outputs(_dense(X[part]), threads, X) for part in parts])

    def predict(self, X: ArrayLike, threads: int = 1) -> np.ndarray | np.int64:
        """Return the class of each sample: the index of the largest output.

        Takes what `feedforward` takes; returns (batch,) integers, or one integer for one sample.
        """
        return self.feedforward(X, threads).argmax(axis=-1)

    def _batch(
        self, X: Any, y: Any, names: tuple[str, str] = ("X", "y"), look: bool = True
    ) -> tuple[np.ndarray, Targets]:
        """Return samples and targets, checked; without `look` not for NaN and infinity in X."""
        X = checks.samples(X, self.sizes[0], names[0])
        if look:
            checks.finite(names[0], X, self.dtype, self.config["input_scale"])
        return X, checks.targets(y, X.shape[0], self.sizes[-1], self.dtype, names[1])

    def _classes(
        self, X: Any, labels: Any, names: tuple[str, str] = ("X", "labels")
    ) -> tuple[np.ndarray, Targets]:
        """Return samples and targets, checked, that are classes."""
        X, targets = self._batch(X, labels, names)
        return X, checks.classes(targets, labels, names[1])

    def _evaluate(self, X: np.ndarray, targets: Targets) -> tuple[float, int]:
        """Return the mean loss and the count of right classes."""
        rows, loss, hits = (
            min(self._rows_at_once, max(128, VALUES_AT_ONCE // self.sizes[0])),
            0.0,
            0,
        )
        for first in range(0, X.shape[0], rows):
            part = slice(first, first + rows)
            few = type(targets)(*(values[part] for values in targets))
            found = self._engine.evaluate(self.params, _dense(X[part]), few)
            loss, hits = loss + float(found[0]), hits + found[1]
        return loss / X.shape[0], hits

    def loss(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the mean loss over a batch.

        Parameters
        ----------
        X : (batch, n_in) array
        y : (batch,) integer labels, or (batch, n_out) targets
        """
        X, targets = self._batch(X, y)
        return self._evaluate(X, targets)[0]

    def evaluate(self, X: ArrayLike, labels: ArrayLike) -> int:
        """Return how many samples are classified right.

        Parameters
        ----------
        X : (batch, n_in) array
        labels : (batch,) integers, or (batch, n_out) one-hot rows
        """
        X, targets = self._classes(X, labels)
        return self._evaluate(X, targets)[1]

    def accuracy(self, X: ArrayLike, labels: ArrayLike) -> float:
        """Return the share of samples classified right, 0 to 1. Takes what `evaluate` takes."""
        X, targets = self._classes(X, labels)
        return self._evaluate(X, targets)[1] / X.shape[0]

    # -- backward --------------------------------------------------------------------------------

    def gradient(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Gradient:
        """Return the gradient of the mean loss over a batch.

        Parameters
        ----------
        X : (batch, n_in) array
        y : (batch,) integer labels, or (batch, n_out) targets
        sample_weight : (batch,) array, optional
            How much each sample counts, at least 0.

        Returns
        -------
        Gradient
            With `weights`, `biases`, `loss` and `to_vector()`.

        References
        ----------
        Nielsen, *Neural Networks and Deep Learning*, ch. 2, (BP1) to (BP4).

        Examples
        --------
        >>> import fastbp, numpy as np
        >>> net = fastbp.Network([3, 2], seed=0)
        >>> net.gradient(np.ones((4, 3)), [0, 1, 0, 1]).weights[0].shape
        (2, 3)
        """
        X = checks.samples(X, self.sizes[0])
        if checks.is_sparse(X):
            return self._sparse_gradient(X, y, sample_weight)
        return self._gradient(X, y, sample_weight=sample_weight)

    def _sparse_gradient(self, X: Any, y: Any, sample_weight: ArrayLike | None) -> Gradient:
        """Add up the gradients of stretches that are made dense."""
        X, targets = self._batch(X, y)
        n, counts = X.shape[0], np.ones(X.shape[0])
        if sample_weight is not None:
            counts = checks.sample_weight("sample_weight", sample_weight, n, self.dtype)
            targets = targets._replace(weights=counts)
        flat, loss, total = self._layout.zeros(), 0.0, counts.sum(dtype=np.float64)
        for first in range(0, n, ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            few = type(targets)(*(values[part] for values in targets))
            grads, mean, _ = self._engine.gradient(self.params, _dense(X[part]), few)
            share = counts[part].sum(dtype=np.float64) / total
            flat += self.dtype.type(share) * grads
            loss += share * float(mean)
        return Gradient(self._layout, flat, loss)

    def _gradient(
        self, X: np.ndarray, y: Any, names: tuple[str, str] = ("X", "y"),
        sample_weight: ArrayLike | None = None,
    ) -> Gradient:  # fmt: skip
        # The engine looks for NaN and infinity on its way: quicker than to look beforehand.
        y = checks.numbers_array(names[1], y)
        targets = checks.targets(y, len(X), self.sizes[-1], self.dtype, names[1], look=False)
        if sample_weight is not None:
            counts = checks.sample_weight("sample_weight", sample_weight, len(X), self.dtype)
            targets = targets._replace(weights=counts)
        grads, loss, fine = self._engine.gradient(self.params, X, targets)
        if not fine:
            checks.finite(names[0], X, self.dtype, self.config["input_scale"])
            checks.finite(names[1], y, self.dtype)
        return Gradient(self._layout, grads, float(loss))

    def backprop(
        self, x: ArrayLike, y: ArrayLike
    ) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Return the gradient of one sample's loss, as the book does.

        Parameters
        ----------
        x : (n_in,) array
        y : integer label, or (n_out,) targets

        Returns
        -------
        nabla_b, nabla_w : tuples of arrays
            Layer by layer, shaped as `biases` and `weights`.
        """
        x, y = checks.numbers_array("x", x), checks.numbers_array("y", y)
        rows = checks.samples(x[None] if x.shape == self.sizes[:1] else x, self.sizes[0], "x")
        if len(rows) > 1:
            raise ValueError(f"x must be one sample, ({self.sizes[0]},); found {x.shape}")
        gradient = self._gradient(rows, y[None], ("x", "y"))
        return gradient.biases, gradient.weights

    # -- training --------------------------------------------------------------------------------

    def update_mini_batch(self, X: ArrayLike, y: ArrayLike, learning_rate: float) -> None:
        """Take one step of gradient descent on the mean loss of a batch.

        Parameters
        ----------
        X : (batch, n_in) array
        y : (batch,) integer labels, or (batch, n_out) targets
        learning_rate : float

        Raises
        ------
        DivergenceError
            If loss or weights would not be finite; the network is left as it was.
        """
        X, targets = self._batch(X, y)
        learning_rate = checks.positive_float("learning_rate", learning_rate, self.dtype)
        with self._alone, self._engine.trainer(self.params, X, targets, len(X)) as trainer:
            epochs = training.Epochs(trainer, self.params, len(X))
            epochs.run(0, np.arange(len(X)), learning_rate, lambda samples: None)

    @dropped_interrupts_return()
    def fit(
        self, X: ArrayLike | Iterable[tuple[ArrayLike, ArrayLike]], y: ArrayLike | None = None, *,
        epochs: int, batch_size: int, learning_rate: float | schedules.Schedule,
        shuffle: bool = True, validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        callbacks: Iterable[Callback] = (), progress: bool = False, threads: int = 1,
        optimizer: str | optimizers.Optimizer = "sgd", sample_weight: ArrayLike | None = None,
        verbose: bool = False, order: Callable[[int], ArrayLike] | None = None,
        checkpoint: str | os.PathLike[str] | None = None, checkpoint_every: float = 60.0,
        resume: str | os.PathLike[str] | None = None, comm: Any = None, sync_every: int = 1,
    ) -> History:  # fmt: skip
        """Train by stochastic gradient descent.

        Parameters
        ----------
        X : (n, n_in) array
            Any real dtype; uint8 is taken as it is. Or a sparse matrix of SciPy's, whose zeros are
            skipped. Never modified. Of a `numpy.memmap`, a few MB are in memory at a time. Or,
            without y, an iterable of chunks (X, y), gone through anew for each epoch, with one
            chunk in memory at a time: each batch, and the order of `shuffle`, is of one chunk.
        y : (n,) integer labels, or (n, n_out) targets
        epochs : int
        batch_size : int
            Each step follows the mean gradient of this many samples; a last, smaller batch, of the
            epoch or of a chunk, is trained too.
        learning_rate : float, or a schedule
            A schedule, such as `fastbp.schedules.Cosine(0.5, epochs=30)`, is asked before each
            epoch.
        shuffle : bool
            Draw a new order for each epoch, unless a batch holds all samples; else take them as
            they lie.
        validation_data : (X, y), optional
            Evaluated after each epoch.
        callbacks : sequence
            Of `fastbp.callbacks`, or objects with `on_epoch_end(net, history)`, called after each
            epoch. One that sets `history.stopped` to its reason ends the training.
        progress : bool
            Show a progress bar, in a terminal or a notebook (needs tqdm).
        threads : int
            How many threads may take part; the result has the same bits for any number.
        optimizer : {"sgd", "momentum", "nesterov", "adam"}, `SGD` or `Adam`
            How weights follow the gradient. An object goes on from the `fit` before; a name starts
            anew.
        sample_weight : (n,) array, optional
            How much each sample counts, at least 0: the loss of a batch is the weighted mean.
        verbose : bool
            Log a line after each epoch, to the logger "fastbp" at level INFO; where the program
            handles no logs, on stdout.
        order : callable, optional
            In place of `shuffle`: `order(n)` returns the order of samples of the next epoch, a
            permutation of range(n).
        checkpoint : path-like, optional
            Keep the state of the training in this file: at the start, while training, at Ctrl-C or
            SIGTERM, and at the end. The file is replaced whole, or not at all.
        checkpoint_every : float
            Seconds from one state kept while training to the next.
        resume : path-like, optional
            Go on from what `checkpoint` kept, mid-epoch too, and end with the bits of a training
            that was never stopped. Network, data and all other arguments must be those that it was
            begun with, but for `epochs`, `threads`, `progress` and `verbose`; the network's own
            weights are replaced. It may be the file that `checkpoint` names.
        comm : mpi4py communicator, optional
            Share each batch among its ranks, all of which call `fit` with the same arguments, such
            as `comm=MPI.COMM_WORLD`. They take the steps that one rank would, but for rounding, on
            an order that depends on `batch_size` and not on their number (`distributed.Shard`);
            `shuffle=False` takes stretches of the data side by side. A rank reads its own part of
            X and y, which may be memory-mapped. Rank 0 alone calls callbacks, prints and saves; an
            error on one rank ends all.
        sync_every : int
            With `comm`: 1 adds up the gradients in each step. More lets ranks go on by themselves
            for so many steps and averages their weights then: another training, for batches so
            small that a step takes less time than a message.

        Returns
        -------
        History
            Of all epochs, those before `resume` included.

        Raises
        ------
        DivergenceError
            If loss, gradients or weights become NaN or infinite. The network keeps the weights
            from before the first such step.
        RuntimeError
            If another thread is training this network, or with this optimiser object. Predictions
            may be made meanwhile: they read the weights of the moment.
        TypeError, ValueError
            If an argument does not fit, or `resume` is of another training; the network is left as
            it was, but for what it learnt from the chunks before one that does not fit.
        ModelFileError
            If `resume` is damaged, or no training checkpoint.
        OSError
            If a file cannot be read or written.

        Examples
        --------
        >>> import fastbp, numpy as np
        >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [0, 1, 1, 0]
        >>> net = fastbp.Network([2, 8, 2], loss="cross-entropy", seed=0)
        >>> history = net.fit(X, y, epochs=2000, batch_size=4, learning_rate=1.0)
        >>> net.predict(X)
        array([0, 1, 1, 0])
        """
        if comm is not None:
            if y is None or order is not None:
                raise TypeError("comm needs X and y, and no order: the ranks have their own")
            return data_parallel.fit(
                self, comm, X, y, epochs=epochs, batch_size=batch_size, shuffle=shuffle,
                learning_rate=learning_rate, validation_data=validation_data, callbacks=callbacks,
                progress=progress, threads=threads, optimizer=optimizer, verbose=verbose,
                sample_weight=sample_weight, checkpoint=checkpoint, resume=resume,
                checkpoint_every=checkpoint_every, sync_every=sync_every,
            )  # fmt: skip
        epochs, rows = checks.positive_int("epochs", epochs), None
        chunks: Iterable[Any] = ()
        if y is None:
            chunks = streaming.chunks(X, epochs, sample_weight)
            if any(option is not None for option in (order, checkpoint, resume)):
                raise TypeError("order, checkpoint and resume need X and y: chunks come as they do")
            batch_size = checks.positive_int("batch_size", batch_size)
        else:
            rows, targets = self._batch(X, y, look=False)
            if sample_weight is not None:
                n = rows.shape[0]
                counts = checks.sample_weight("sample_weight", sample_weight, n, self.dtype)
                targets = targets._replace(weights=counts)
            batch_size = checks.batch_size("batch_size", batch_size, rows.shape[0])
        rule = optimizers.optimizer(optimizer)
        learning_rate = schedules.schedule("learning_rate", learning_rate, self.dtype)
        threads = checks.positive_int("threads", threads)
        shuffle, verbose = checks.flag("shuffle", shuffle), checks.flag("verbose", verbose)
        callbacks = checks.callbacks(callbacks)
        validation = self._validation(validation_data)
        make = partial(
            self._engine.trainer, self.params, batch_size=batch_size, threads=threads,
            rule=rule.rule(), memory=rule.memory(self._layout, self.params),
        )  # fmt: skip
        fit = partial(
            training.fit, self, params=self.params, epochs=epochs, batch_size=batch_size,
            learning_rate=learning_rate, rng=self.rng, progress=progress,
            validate=validation and partial(self._validate, *validation),
        )  # fmt: skip
        lines = logged_lines(verbose, epochs, progress)
        if rows is None:
            rng = self.rng if shuffle else None
            runner = streaming.Chunks(chunks, self._chunk, make, self.params, batch_size, rng)
            with self._alone, rule.alone, runner.trainer as trainer, lines as first:
                return fit(
                    trainer, n=None, order=None, classes=runner.classes,
                    callbacks=(*first, *callbacks), runner=runner,
                )  # fmt: skip
        draw = _order(order, self.rng if shuffle and batch_size < rows.shape[0] else None)
        keeper = resumed = None
        if checkpoint is not None or resume is not None:
            if order is not None:
                raise ValueError("order has a state of its own, which no checkpoint keeps")
            facts = resuming.facts(
                self.config, self.backend, rule.rule(), batch_size, shuffle, learning_rate,
                callbacks, (rows, *targets), validation,
            )  # fmt: skip
            if checkpoint is not None:
                keeper = resuming.File(checkpoint, checkpoint_every, self._layout, facts)
            if resume is not None:
                states = training.remembering(learning_rate, callbacks)
                resumed = resuming.read(
                    resume, self._layout, facts, rows.shape[0], self.rng, states
                )
        terminable = nullcontext() if keeper is None else termination_raises()
        with (
            self._alone, rule.alone, terminable,
            streaming.trainer(make, rows, targets, batch_size) as trainer, lines as first,
        ):  # fmt: skip
            if not trainer.surely_finite:
                checks.finite("X", rows, self.dtype, self.config["input_scale"])
            return fit(
                trainer, n=rows.shape[0], order=draw, classes=bool(targets.labels.size),
                callbacks=(*first, *callbacks), keeper=keeper, resumed=resumed,
            )  # fmt: skip

    def _chunk(self, number: int, chunk: Any) -> tuple[np.ndarray, Targets]:
        """Return the samples and targets of a chunk, checked."""
        X, y = checks.pair(f"chunk {number}", chunk)
        return self._batch(X, y, (f"X of chunk {number}", f"y of chunk {number}"))

    def _validation(self, data: Any) -> tuple[np.ndarray, Targets] | None:
        """Return samples and targets of the validation data, checked, or None."""
        if data is None:
            return None
        names = "validation_data[0]", "validation_data[1]"
        return self._batch(*checks.pair("validation_data", data), names)

    def _validate(self, X: np.ndarray, targets: Targets) -> tuple[float, float]:
        """Return loss and accuracy on validation data."""
        loss, hits = self._evaluate(X, targets)
        return loss, hits / X.shape[0] if targets.labels.size else float("nan")

    def SGD(
        self, training_data: tuple[ArrayLike, ArrayLike], epochs: int, mini_batch_size: int,
        eta: float, test_data: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> History:  # fmt: skip
        """Train in the words of the book; a thin face of `fit`.

        Parameters
        ----------
        training_data : (X, y)
        epochs, mini_batch_size : int
        eta : float
            The learning rate.
        test_data : (X, labels), optional
            After each epoch, a line such as `Epoch 0: 9129 / 10000` goes to the logger "fastbp" at
            level INFO.

        Returns
        -------
        History

        References
        ----------
        Nielsen, *Neural Networks and Deep Learning*, ch. 1.
        """
        X, y = checks.pair("training_data", training_data)
        X, _ = self._batch(X, y, ("training_data[0]", "training_data[1]"))
        checks.batch_size("mini_batch_size", mini_batch_size, len(X))
        checks.positive_float("eta", eta, self.dtype)
        if test_data is not None:
            names = "test_data[0]", "test_data[1]"
            self._classes(*checks.pair("test_data", test_data), names)
        return self.fit(
            X, y, epochs=epochs, batch_size=mini_batch_size, learning_rate=eta,
            callbacks=() if test_data is None else (_EpochLines(*test_data),),
        )  # fmt: skip

    # -- looks -----------------------------------------------------------------------------------

    def summary(self) -> str:
        """Return a table of the layers: widths, activations, parameters, bytes and work.

        FLOPs are those of one sample: a product and its addition are two, an activation is not
        counted. A forward pass takes 2 n_in n_out + n_out for each layer. Training takes the
        forward pass, as much again for the gradient of the weights, and 2 n_in n_out for the delta
        of the layer below, if that is not the inputs. A step costs the same for a batch of any
        size: two for each parameter.

        Examples
        --------
        >>> import fastbp
        >>> print(fastbp.Network([784, 30, 10], loss="cross-entropy", seed=0).summary())
        cross-entropy loss, float32, backend numba
                                                             FLOPs per sample
        layer      in  out  activation  parameters   bytes  forward  training
        ---------------------------------------------------------------------
        hidden 1  784   30  sigmoid         23,550  94,200   47,070    94,140
        output     30   10  softmax            310   1,240      610     1,820
        ---------------------------------------------------------------------
        total                               23,860  95,440   47,680    95,960
        A step of plain SGD takes 47,720 FLOPs more.
        In memory, padded, the parameters take 102,464 bytes.
        """
        return summaries.summary(self.config, self.backend, self.params.nbytes)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file: dense arrays and the configuration.

        Parameters
        ----------
        path : path-like
            Replaced atomically if it exists.

        Examples
        --------
        >>> import fastbp, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
        >>> net = fastbp.Network([3, 2], seed=0)
        >>> net.save(path)
        >>> bool((fastbp.load(path).to_vector() == net.to_vector()).all())
        True
        """
        checkpoint.write(path, self._named_arrays(), self.config)

    def _named_arrays(self) -> dict[str, np.ndarray]:
        """Return weights and biases by their names in a file."""
        parts = {"weight": self.weights, "bias": self.biases}
        return {
            f"layers.{l}.{part}": array
            for part, arrays in parts.items()
            for l, array in enumerate(arrays)
        }


class _EpochLines:
    """Reports each epoch as the book's program does."""

    def __init__(self, X: Any, labels: Any) -> None:
        self.X, self.labels = X, labels

    def on_epoch_end(self, net: Network, history: History) -> None:
        right = net.evaluate(self.X, self.labels)
        logger.info("Epoch %d: %d / %d", len(history) - 1, right, len(self.X))


def load(path: str | os.PathLike[str], backend: str = "numba") -> Network:
    """Read a network that `Network.save` wrote.

    Parameters
    ----------
    path : path-like
    backend : {"numba", "numpy"}

    Returns
    -------
    Network

    Raises
    ------
    FileNotFoundError
    ModelFileError
        If the file is damaged, or is no model of fastbp.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> fastbp.Network([3, 2], seed=0).save(path)
    >>> fastbp.load(path).sizes
    (3, 2)
    """
    backend = _backend(backend)
    arrays, config = checkpoint.read(path)
    try:
        config = _config(**config)
    except (TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path}: the configuration is not a network's: {error!s:.1000}"
        ) from None
    shapes = _array_shapes(config)
    for name in sorted(shapes.keys() | arrays.keys()):
        found = arrays[name].shape if name in arrays else None
        if found != shapes.get(name):  # before a network of that size takes its memory
            raise ModelFileError(
                f"{path}: array {name:.60} must have shape {shapes.get(name)}, for "
                f"sizes {reprlib.repr(config['sizes'])} and bias {config['bias']}; found {found}"
            )
        if arrays[name].dtype != config["dtype"] or not np.isfinite(arrays[name]).all():
            raise ModelFileError(f"{path}: array {name} must hold finite {config['dtype']} values")
    net = Network(**config, backend=backend)
    for name, target in net._named_arrays().items():
        target[...] = arrays[name]
    return net


def _array_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's arrays by their names in a file."""
    layers = list(enumerate(pairwise(config["sizes"])))
    shapes: dict[str, tuple[int, ...]] = {
        f"layers.{l}.weight": (n_out, n_in) for l, (n_in, n_out) in layers
    }
    if config["bias"]:
        shapes |= {f"layers.{l}.bias": (n_out,) for l, (_, n_out) in layers}
    return shapes


def _config(
    sizes: Any, activation: Any, output: Any, loss: Any, bias: Any, dtype: Any, input_scale: Any
) -> dict[str, Any]:
    """Return what describes a network, checked."""
    sizes = checks.layer_sizes(sizes)
    checks.one_of("activation", activation, activations.HIDDEN)
    checks.one_of("loss", loss, losses.NAMES)
    if output is None:
        output = activations.default_output(activation, loss)
    checks.one_of("output", output, activations.OUTPUT)
    checks.one_of(f"output, with loss {loss!r},", output, losses.outputs(loss))
    dtype = checks.dtype_name(dtype)
    return {
        "sizes": list(sizes), "activation": activation, "output": output, "loss": loss,
        "bias": checks.flag("bias", bias), "dtype": dtype,
        "input_scale": checks.positive_float("input_scale", input_scale, dtype),
    }  # fmt: skip


def _backend(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"backend must be a name; found {name!r}")
    return get_backend(name).name


def _order(order: Any, rng: np.random.Generator | None) -> Callable[[int], np.ndarray] | None:
    """Return what draws the order of an epoch: the user's own, looked at, or a generator."""
    if order is None:
        return None if rng is None else rng.permutation
    if not callable(order):
        raise TypeError(f"order must be a function of the number of samples; found {order!r}")
    return lambda n: checks.permutation("order(n)", order(n), n)


def _seed(seed: Any) -> int | None:
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer or None; found {seed!r}")
    return int(seed)
