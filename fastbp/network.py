"""`Network`: a multi-layer perceptron, trained by back-propagation."""

from __future__ import annotations  # signatures say ArrayLike, and not all that it stands for

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import optimizers, schedules, training
from ._support import checks
from .engines import get_backend
from .engines.predictor import Predictor
from .history import History
from .model import choices, file, scaling, summary
from .model.config import Config, initializers
from .model.scaling import Scaling
from .training.progress import BookLines
from .training.state import EpochCallback

if TYPE_CHECKING:
    from .functions import Activation, Loss
    from .losses import Adjusted


class Network(Predictor):
    """A multi-layer perceptron.

    a_0 = input_scale * x, or (x - mean) / deviation;  z_l = W_l a_(l-1) + b_l;  a_l = f_l(z_l)

    Parameters
    ----------
    sizes : sequence of int
        Neurons per layer, the inputs first: `[784, 30, 10]`.
    activation : str, `fastbp.Activation`, or list with one for each hidden layer
        Of the hidden layers: "sigmoid" (the default), "tanh", "relu", "identity", "leaky_relu",
        "elu", "softplus", "silu", "gelu", or a function of your own.
    output : str or `fastbp.Activation`, optional
        Activation of the output: one of these, "softmax" or "exp". By default softmax for
        cross-entropy and exp for poisson; sigmoid for the quadratic loss if the hidden activation
        is sigmoid; else identity.
    loss : str, one of `fastbp.losses`, or `fastbp.Loss`, default "quadratic"
        "quadratic", `sum((a - y)**2) / 2`; "cross-entropy", `-sum(y log a)` with softmax, or its
        element-wise form `-sum(y log a + (1 - y) log(1 - a))` with a sigmoid output; "poisson",
        `sum(a - y log a)`, for counts, with exp. "absolute", "huber", "quantile", and losses that
        have a setting: see `fastbp.losses`. Or a function of your own.
    bias : bool, default True
        If False, the network has no biases and `biases` is empty.
    dtype : {"float32", "float64"}, default "float32"
    backend : {"numba", "numpy"}, default "numba"
        The compiled kernels, or the reference.
    init : {"lecun_normal", "he", "glorot", "normal", "uniform"}, float or list, optional
        Weights from N(0, 1/n_in), N(0, 2/n_in), U(-r, r) with r**2 = 6 / (n_in + n_out), N(0, 1),
        U(-1, 1), or a normal distribution with this standard deviation. Biases are drawn like the
        weights for "normal" and "uniform", else start at zero. Or a list that has one of these for
        each layer, or its initial arrays, a pair (W, b) as in `weights` and `biases`; b may be
        None for zeros. By default "he" for hidden layers of relu, leaky_relu, elu, softplus, silu
        and gelu, "lecun_normal" for others.
    input_scale : float, default 1.0
        Inputs are multiplied by it on the fly: 1/255 for images of type uint8.
    seed : int, optional
        Of the initial parameters, the order of samples and dropout. The same seed gives the same
        ones with either backend and dtype.
    scale : "standard" or (mean, deviation), optional
        Standardise each column of X by its mean and deviation, for tables whose columns have unlike
        scales: then everything takes raw columns, files and exports included. "standard" takes
        those of the training data, which the first `fit` finds, without regard to `sample_weight`,
        and all after it keep. Or give a pair of (n_in,) vectors. A column that is constant in the
        training data has deviation 0, and counts as 0. Where they are sparse or uint8, means are 0,
        so that zeros stay zeros. `fit` standardises a copy in `dtype`, window by window of a memory
        map; a sparse matrix becomes dense if there are means. Not together with `input_scale`.
    dropout : float, or list with one for each hidden layer, default 0.0
        The share of hidden neurons that `fit` leaves out, at random for each sample; the others
        count 1 / (1 - dropout) times as much. Predictions, and `gradient`, take all neurons.

    Attributes
    ----------
    sizes : tuple of int
    num_layers : int, the inputs included
    dtype : numpy.dtype
    backend : str
    weights : tuple of (n_out, n_in) arrays
        Views into `params`: write into them.
    biases : tuple of (n_out,) arrays
    params : flat array
        All parameters as stored, padding included. `to_vector` returns them without padding.
    scaling : Scaling(mean, deviation), or None
        By which inputs are standardised; None without `scale`, and before the first `fit`.
    config : mapping
        The constructor's arguments that describe the network, read-only: `Network(**net.config)`
        makes another one like it.
    rng : numpy.random.Generator
        Draws the order of samples.
    notes : dict, {} at first
        What the network remembers beside its numbers, in JSON values; `save` keeps it, nothing
        computes with it. With the `notes` of `datasets.load`, a model knows the columns and classes
        of its table.

    Raises
    ------
    TypeError, ValueError
        For an argument of the wrong kind or value.

    References
    ----------
    LeCun et al., *Efficient BackProp*, 1998; Glorot and Bengio, *Understanding the difficulty of
    training deep feedforward neural networks*, 2010, equation 16; He et al., *Delving Deep into
    Rectifiers*, 2015, equation 10; Srivastava et al., *Dropout: A Simple Way to Prevent Neural
    Networks from Overfitting*, 2014.

    Examples
    --------
    >>> import fastbp
    >>> X_train, y_train, X_test, y_test = fastbp.datasets.load("digits")
    >>> net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=1)
    >>> history = net.fit(X_train, y_train, epochs=20, batch_size=10, learning_rate=0.5)
    >>> net.accuracy(X_test, y_test) > 0.9
    True
    """

    @np.errstate(all="ignore")
    def __init__(
        self, sizes: Sequence[int],
        activation: str | Activation | Sequence[str | Activation] = "sigmoid",
        output: str | Activation | None = None, loss: str | Adjusted | Loss = "quadratic",
        bias: bool = True, dtype: DTypeLike = "float32", backend: str = "numba",
        init: str | float | Sequence[Any] | None = None,
        input_scale: float = 1.0, seed: int | None = None,
        scale: str | tuple[ArrayLike, ArrayLike] | None = None,
        dropout: float | Sequence[float] = 0.0,
    ) -> None:  # fmt: skip
        given = scale is not None and not isinstance(scale, str)
        kind = scaling.NAME if given else scale
        config = Config.checked(
            sizes, activation, output, loss, bias, dtype, input_scale, kind, dropout
        )
        pair = scaling.checked("scale", scale, config.sizes[0]) if given else None
        fills = initializers(init, config)
        rng = np.random.default_rng(checks.seed("seed", seed))
        self._build(config, _backend(backend), rng, pair)
        for fill, W, b in zip(fills, *self._layout.views(self.params), strict=True):
            fill(self.rng, W, b)
            if not config.bias:
                b[...] = 0

    def _build(
        self, config: Config, backend: str, rng: np.random.Generator, pair: Scaling | None
    ) -> None:
        """Make a network whose parameters are zero."""
        super().__init__(config, backend, pair)
        self.rng = rng
        self.notes: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        state = {"config": self._config.as_dict(), "backend": self.backend, "rng": self.rng}
        pair = self._scaling and tuple(self._scaling)
        return {**state, "vector": self.to_vector(), "notes": self.notes, "scaling": pair}

    def __setstate__(self, state: dict[str, Any]) -> None:
        config, pair = Config.checked(**state["config"]), state.get("scaling")
        pair = pair and scaling.checked("scaling", pair, config.sizes[0])
        self._build(config, state["backend"], state["rng"], pair)
        self._layout.from_vector(state["vector"], self.params)
        self.notes = state.get("notes", {})

    def __repr__(self) -> str:
        c = {**self.config, "backend": self.backend}
        names = ["activation", "output", "loss", "bias", "dtype", "backend"]
        names += [name for name in ("scale", "dropout") if c[name]]
        return f"Network({c['sizes']}, {', '.join(f'{name}={c[name]!r}' for name in names)})"

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
        learning_rate = checks.positive_float("learning_rate", learning_rate, self.dtype)
        scaling.known(self._config.scale, self._scaling)
        training.take_step(self._learner, X, y, learning_rate)

    def fit(
        self, X: ArrayLike | Iterable[tuple[ArrayLike, ArrayLike]], y: ArrayLike | None = None, *,
        epochs: int, batch_size: int, learning_rate: float | schedules.Schedule,
        shuffle: bool = True, validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        validation_split: float = 0.0, callbacks: Iterable[EpochCallback] = (),
        progress: bool = False, threads: int = 1,
        optimizer: str | optimizers.Optimizer = "sgd", sample_weight: ArrayLike | None = None,
        verbose: bool = False, order: Callable[[int], ArrayLike] | None = None,
        checkpoint: str | os.PathLike[str] | None = None, checkpoint_every: float = 60.0,
        resume: str | os.PathLike[str] | None = None, comm: Any = None, sync_every: int = 1,
        class_weight: str | Mapping[int, float] | None = None,
        train_layers: Sequence[int] | None = None,
    ) -> History:  # fmt: skip
        """Train by stochastic gradient descent, from the weights that the network has.

        Parameters
        ----------
        X : (n, n_in) array, table, sparse matrix or memory map; or an iterable of chunks (X, y)
        y : (n,) integer labels or (n, n_out) targets; not with chunks
        epochs, batch_size : int; a batch larger than the data is clipped, with a warning
        learning_rate : float, or one of `fastbp.schedules`
        shuffle : bool, default True; `order(n)` returns a permutation in place of a random one
        validation_data : (X, y), evaluated after each epoch; or `validation_split` of X and y is
        callbacks : sequence of `fastbp.callbacks`, or of objects with `on_epoch_end(net, history)`
        progress : bool, default False: bars of tqdm; `verbose`: a line for each epoch, logged
        threads : int, default 1; the result has the same bits for any number
        optimizer : {"sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"}, or an object
        sample_weight : (n,) array; class_weight : "balanced", {class: weight}; a weighted mean
        train_layers : indices of the layers that learn, [-1] for the last alone; default all
        checkpoint, resume : path, to keep the state every `checkpoint_every` seconds, and to go on
        comm : mpi4py communicator, whose ranks share each batch, and meet every `sync_every` steps

        Returns
        -------
        History
            Of all epochs. Raises TypeError, ValueError, DivergenceError; see help(fastbp.training)

        Examples
        --------
        >>> import fastbp
        >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
        >>> net = fastbp.Network([2, 8, 2], loss="cross-entropy", seed=0)
        >>> net.fit(X, y, epochs=2000, batch_size=4, learning_rate=1.0).accuracy[-1]
        1.0
        """
        given = {
            "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
            "shuffle": shuffle, "validation_data": validation_data,
            "validation_split": validation_split, "callbacks": callbacks,
            "progress": progress, "threads": threads, "optimizer": optimizer,
            "sample_weight": sample_weight, "verbose": verbose, "order": order,
            "checkpoint": checkpoint, "checkpoint_every": checkpoint_every, "resume": resume,
            "comm": comm, "sync_every": sync_every, "class_weight": class_weight,
            "train_layers": train_layers,
        }  # fmt: skip
        return training.fit(self._learner, X, y, given)

    @property
    def _learner(self) -> training.Learner:
        """What the training is handed of this network."""
        return training.Learner(
            self, self._config, self._backend, self._engine, self._params, self.rng, self._alone,
            self._scaling, self._keep_scaling,
        )  # fmt: skip

    def _keep_scaling(self, pair: Scaling | None) -> None:
        """Keep what a training standardises its inputs by, before its first step."""
        self._scaling = pair

    def SGD(
        self, training_data: tuple[ArrayLike, ArrayLike], epochs: int, mini_batch_size: int,
        eta: float, test_data: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> History:  # fmt: skip
        """Train in the words of the book; a thin face of `fit`.

        Parameters
        ----------
        training_data : (X, y)
        epochs, mini_batch_size : int
        eta : float, the learning rate
        test_data : (X, labels), optional, as for `evaluate`
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
        rows, _ = checks.batch(X, y, self._config, ("training_data[0]", "training_data[1]"))
        size = checks.batch_size("mini_batch_size", mini_batch_size, rows.shape[0])
        checks.positive_float("eta", eta, self.dtype)
        lines = []
        if test_data is not None:
            X_test, labels = checks.pair("test_data", test_data)
            names = "test_data[0]", "test_data[1]"
            targets = checks.batch(X_test, labels, self._config, names)[1]
            checks.classes(targets, labels, self._kind, names[1])
            lines.append(BookLines(X_test, labels))
        return self.fit(X, y, epochs=epochs, batch_size=size, learning_rate=eta, callbacks=lines)

    def _repr_html_(self) -> str:
        return self.summary().html

    def summary(self) -> summary.Summary:
        """Return a table of the layers: widths, activations, parameters, bytes and work.

        FLOPs are those of one sample. A product and its addition count as two, an activation as
        none. A forward pass takes 2 n_in n_out + n_out for each layer. Training takes the forward
        pass, as much again for the gradient of the weights, and 2 n_in n_out for the delta of the
        layer below, unless that is the inputs. A step takes two for each parameter, for a batch of
        any size. It is a string; a prompt and a notebook show it as a table.

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
        return summary.summary(self.config, self.backend, self.params.nbytes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file: dense arrays, configuration and notes.

        Parameters
        ----------
        path : path-like
            If the file exists, it is replaced in one step.

        Raises
        ------
        OSError
            If the file cannot be written. After any error, what was there is still there.
        TypeError, ValueError
            If a parameter is NaN or infinite, which `load` would refuse; if the name is that of
            another format, such as ``net.onnx``; if JSON cannot hold the notes, or they take more
            than 2**20 characters.

        Examples
        --------
        >>> import fastbp, os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
        >>> fastbp.Network([3, 2], seed=0).save(path)
        >>> os.path.exists(path)
        True
        """
        arrays = *self.weights, *self.biases
        file.write_model(path, self._config, arrays, self.notes, self._scaling)


def load(
    path: str | os.PathLike[str], backend: str = "numba",
    functions: Iterable[Activation | Loss] = (),
) -> Network:  # fmt: skip
    """Read a network that `Network.save` wrote.

    Parameters
    ----------
    path : path-like
    backend : {"numba", "numpy"}, default "numba"
    functions : sequence of `fastbp.Activation` and `fastbp.Loss`, default none
        Those of the user's that the network was made with: the file only names them. Nothing that
        is in a file is run or imported.

    Returns
    -------
    Network, with a random state of its own, as without a seed.

    Raises
    ------
    FileNotFoundError
    ModelFileError
        If the file is damaged, or not a model of fastbp, or names a function that is not passed.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> fastbp.Network([3, 2], seed=0).save(path)
    >>> fastbp.load(path).sizes
    (3, 2)
    """
    backend = _backend(backend)
    config, arrays, notes, pair = file.read_model(path, choices.own_functions(functions))
    net = from_arrays(config, arrays, backend, pair=pair)
    net.notes = notes
    return net


def from_arrays(
    config: Config, arrays: Iterable[np.ndarray], backend: str = "numba", seed: int | None = None,
    pair: Scaling | None = None,
) -> Network:  # fmt: skip
    """Return a network with these parameters: all weights, then all biases; none are drawn."""
    net = Network.__new__(Network)
    net._build(config, backend, np.random.default_rng(seed), pair)
    for target, array in zip((*net.weights, *net.biases), arrays, strict=True):
        target[...] = array
    return net


def _backend(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"backend must be a name; got {name!r}")
    return str(get_backend(name).name)
