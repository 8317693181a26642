"""`Predictor`: parameters in one flat buffer, and what a network computes with them.

A batch of any size, a memory map or a sparse matrix becomes a sequence of calls of an engine, each
short enough for Ctrl-C and with a bounded copy of its rows. It does not show in the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._support import checks
from .._support.signals import Exclusive
from ..model.config import Config
from ..model.layout import Gradient, Layout, parts_of
from ..model.scaling import Scaling, known, standardised
from ..reference import DOMAINS, Targets
from ..reference.records import FLAGS, LABEL, predicts
from . import get_backend

Array = np.ndarray
Arrays = tuple[Array, ...]

TILE = 128  # rows: stretches are whole tiles of the kernels
WORK = 2**30  # parameters x samples in a call: a few hundredths of a second
VALUES = 2**24  # inputs evaluated in a call, which may need a copy in another dtype


def _entries(X: Any) -> int:
    """Return how many inputs of a sample are looked at, on average."""
    n, n_in = X.shape
    return int(max(1, X.nnz // n) if checks.is_sparse(X) else n_in)


def _rows_at_once(engine: Any, X: Any) -> int:
    """Return how many samples make a call that is short enough for Ctrl-C."""
    layout = engine.layout
    parameters = int(layout.num_parameters - (X.shape[1] - _entries(X)) * layout.sizes[1])
    return max(1, WORK // parameters // TILE) * TILE


def evaluate(
    engine: Any, params: Array, X: Any, targets: Targets, scale: Scaling | None = None
) -> tuple[float, int]:
    """Return the sum of the losses of rows, and how many are classified right."""
    rows = min(_rows_at_once(engine, X), max(TILE, VALUES // _entries(X)))
    loss, hits = 0.0, 0
    for first in range(0, X.shape[0], rows):
        part = slice(first, first + rows)
        taken = standardised(scale, X[part], engine.layout.dtype, "X", first)
        found = engine.evaluate(params, taken, targets.part(part))
        loss, hits = loss + float(found[0]), hits + int(found[1])
    return loss, hits


class Predictor:
    """All of a `Network` but its construction, training and files."""

    def __init__(self, config: Config, backend: str, scaling: Scaling | None = None) -> None:
        self._config, self._backend = config, backend
        self._scaling, self._raw = scaling, config.scale is None
        self._layout = Layout(config.sizes, config.dtype, config.bias)
        self._params = self._layout.zeros()
        self._weights, biases = self._layout.views(self._params)
        self._biases = biases if config.bias else ()
        self._engine = get_backend(backend).engine(config.model(), self._layout)
        self._alone = Exclusive("this network")  # for all that writes parameters
        self._sample_shape, self._dtype = config.sizes[:1], self._layout.dtype
        self._raw_shape = self._sample_shape if self._raw else None  # of what is taken as it is
        self._kind = config.kind
        self._widths, self._in_domain = (config.sizes[0], config.sizes[-1]), self._kind in DOMAINS
        self._predicts = predicts(*self._kind, config.sizes[-1])

    # Read-only, as all of this is made once: to set another value would change nothing.
    @property
    def config(self) -> Mapping[str, Any]:
        """The constructor's arguments that describe the network: a read-only copy."""
        return MappingProxyType(self._config.as_dict())

    @property
    def scaling(self) -> Scaling | None:
        """Mean and deviation by which inputs are standardised; None without, and before `fit`."""
        return self._scaling

    @property
    def backend(self) -> str:
        """The name of the backend."""
        return self._backend

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters."""
        return self._layout.dtype

    @property
    def sizes(self) -> tuple[int, ...]:
        """Neurons per layer, the inputs first."""
        return self._config.sizes

    @property
    def num_layers(self) -> int:
        """The number of layers, the inputs included."""
        return len(self._config.sizes)

    @property
    def params(self) -> np.ndarray:
        """All parameters as stored, padding included."""
        return self._params

    @property
    def weights(self) -> Arrays:
        """W of each layer, (n_out, n_in): views into `params`."""
        return self._weights

    @property
    def biases(self) -> Arrays:
        """b of each layer, (n_out,): views into `params`; empty without biases."""
        return self._biases

    def to_vector(self) -> np.ndarray:
        """Return a copy of all parameters, without padding.

        Returns
        -------
        (n_parameters,) array: W row by row, then b, layer by layer.
        """
        return self._layout.to_vector(self.params)

    @np.errstate(all="ignore")
    def from_vector(self, v: ArrayLike) -> None:
        """Set all parameters from a vector in the order of `to_vector`.

        Parameters
        ----------
        v : (n_parameters,) array

        Raises
        ------
        TypeError, ValueError
            If v does not hold that many finite numbers; the network is left as it was.
        """
        v = checks.numbers_array("v", v)
        flat, n = self._layout.zeros(), self._layout.num_parameters
        if v.shape != (n,):
            raise ValueError(f"v must hold {n} parameters; got shape {v.shape}")
        self._layout.from_vector(checks.finite("v", v, self.dtype), flat)
        with self._alone:
            self.params[...] = flat  # in one instruction, so that no interrupt leaves half of it

    def feedforward(self, X: ArrayLike, threads: int = 1) -> np.ndarray:
        """Return the network's outputs.

        Parameters
        ----------
        X : (batch, n_in) array, or (n_in,) for one sample
            Any real dtype; uint8 is taken as it is. Or a table of numbers and bools, as of pandas.
        threads : int, default 1
            At most so many share a large batch. The outputs have the same bits for any number.

        Returns
        -------
        (batch, n_out) array, or (n_out,)

        Raises
        ------
        TypeError, ValueError
            If the shape does not fit, or X does not hold finite numbers.

        Examples
        --------
        >>> import fastbp, numpy as np
        >>> fastbp.Network([3, 2], seed=0).feedforward(np.zeros((1, 3)))
        array([[0.5, 0.5]], dtype=float32)
        """
        if type(X) is np.ndarray and X.dtype is self._dtype and X.shape == self._raw_shape:
            if threads == 1 and X.flags.carray:  # a shortcut: this takes 2 us in all
                out, fine = self._engine.feedforward_one(self._sound(), X)
                if fine:
                    return out  # type: ignore[no-any-return]
        rows: Any = X
        single = False
        if type(rows) is np.ndarray or not checks.is_sparse(rows):
            rows = checks.numbers_array("X", rows)
            single = rows.shape == self._sample_shape
        if threads != 1:
            threads = checks.positive_int("threads", threads)
        if single:
            rows = self._taken(rows[None])
            out, fine = self._engine.feedforward(self._sound(), rows, threads)
        else:
            rows = checks.samples(rows, self._sample_shape[0])
            out, fine = self._outputs(rows, threads)
        if not fine and self._raw:  # or the weights are so large that sums overflowed
            checks.finite("X", rows, self.dtype, self._config.input_scale)
        return out[0] if single else out  # type: ignore[no-any-return]

    def predict(self, X: ArrayLike, threads: int = 1) -> Array | np.number[Any]:
        """Return what the network predicts for each sample: classes, or numbers.

        Takes what `feedforward` takes. Returns, by output and loss; for one sample, an entry of it:

        - softmax, or several sigmoids with the quadratic loss: (batch,) integers, the index of the
          largest output. These are the classifiers of Nielsen's book, with one-hot targets;
        - one sigmoid: (batch,) integers, 1 for an output above 1/2, else 0;
        - several sigmoids with cross-entropy, its element-wise form: (batch, n_out) integers, the
          same for each output, as each answers for itself and several may be 1;
        - else numbers, those of `feedforward`: (batch,) floats of one output, of several
          (batch, n_out). Classes that were learnt so are `predict(X).argmax(axis=-1)`.

        Examples
        --------
        >>> import fastbp, numpy as np
        >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> net = fastbp.Network([2, 1], output="sigmoid", loss="cross-entropy", seed=0)
        >>> history = net.fit(X, [0, 0, 0, 1], epochs=500, batch_size=4, learning_rate=1.0)
        >>> net.predict(X)
        array([0, 0, 0, 1])
        """
        outputs = self.feedforward(X, threads)
        if self._predicts == LABEL:
            return outputs.argmax(axis=-1)  # type: ignore[no-any-return]
        found = (outputs > 0.5).astype(np.int64) if self._predicts == FLAGS else outputs
        # Of one output there is one entry a sample, as in y: (n, 1) less (n,) would be (n, n).
        return found[..., 0][()] if self.sizes[-1] == 1 else found

    def loss(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the mean loss over a batch; takes X and y as `gradient` does.

        It is the loss that is trained on, with its setting: label smoothing included.
        """
        scale = known(self._config.scale, self._scaling)
        rows, targets = checks.batch(X, y, self._config)
        return evaluate(self._engine, self._sound(), rows, targets, scale)[0] / int(rows.shape[0])

    def evaluate(self, X: ArrayLike, labels: ArrayLike) -> int:
        """Return the number of samples classified right.

        Parameters
        ----------
        X : (batch, n_in) array
        labels : (batch,) integers, or (batch, n_out) rows
            Of several outputs, integers or one-hot rows: the largest output is to be the label's.
            Of sigmoids, if there is one or the loss is cross-entropy, 0 or 1 for each output, as
            `predict` returns; of a row all have to be right.

        Raises
        ------
        ValueError
            If the labels are no classes: a network that predicts numbers is judged by `loss`.
        """
        return self._right(X, labels)[0]

    def accuracy(self, X: ArrayLike, labels: ArrayLike) -> float:
        """Return the share of samples classified right, 0 to 1; takes what `evaluate` takes."""
        right, n = self._right(X, labels)
        return right / n

    def gradient(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Gradient:
        """Return the gradient of the mean loss over a batch.

        Parameters
        ----------
        X : (batch, n_in) array
        y : (batch,) integer labels, or (batch, n_out) targets
            Of one output, (batch,) targets as well. With cross-entropy and sigmoid they are from 0
            to 1; with softmax, and with poisson, at least 0.
        sample_weight : (batch,) array, optional
            The weight of each sample in the mean, at least 0; by default all are equal.

        Returns
        -------
        Gradient, with `weights`, `biases`, `loss` and `to_vector()`.

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
        if sample_weight is None and self._raw and self._are_plain(X, y):
            found, loss, fine = self._engine.gradient_of_values(self._sound(), X, y)
            if fine:
                return Gradient(self._layout, found, float(loss))
        return self._gradient(X, y, ("X", "y"), sample_weight)

    def _gradient(self, X: Any, y: Any, names: tuple[str, str], counts: Any = None) -> Gradient:
        # The engine finds NaN and infinity on its way: faster than a check beforehand.
        X, y = checks.samples(X, self.sizes[0], names[0]), checks.numbers_array(names[1], y)
        X = self._taken(X, names[0])
        n, n_out = X.shape[0], self.sizes[-1]
        targets = checks.targets(y, n, n_out, self.dtype, names[1], False, self._kind)
        if counts is not None:
            weights = checks.sample_weight("sample_weight", counts, n, self.dtype)
            targets = targets._replace(weights=weights)
        grads, loss, fine = self._engine.gradient(self._sound(), X, targets)
        if not fine:
            checks.finite(names[0], X, self.dtype, self._config.input_scale)
            checks.finite(names[1], y, self.dtype)
            self._layout.clear_padding(self._params)  # infinity times zero is NaN there
            grads, loss, _ = self._engine.gradient(self._params, X, targets)
        return Gradient(self._layout, grads, float(loss))

    def _are_plain(self, X: Any, y: Any) -> bool:
        """Return whether rows and values fit as they are, with no check left but for NaN."""
        # All that `checks.samples` and `checks.targets` ask of such arrays, in a third of the time:
        # 24-8-2 and 200 samples take 9 us in all. Where the loss has a domain each value is looked
        # at; one-hot rows are classes, which have the same gradient.
        if not (type(X) is type(y) is np.ndarray and X.dtype is y.dtype is self._dtype):
            return False
        n_in, n_out = self._widths
        shape = X.shape
        return (
            len(shape) == 2 and shape[1] == n_in and y.shape == (shape[0], n_out)
            and shape[0] > 0 and not self._in_domain and X.flags.carray and y.flags.carray
        )  # fmt: skip

    def backprop(self, x: ArrayLike, y: ArrayLike) -> tuple[Arrays, Arrays]:
        """Return the gradient of one sample's loss, as the book does.

        Parameters
        ----------
        x : (n_in,) array
        y : integer label, or (n_out,) targets

        Returns
        -------
        nabla_b, nabla_w : tuples of arrays, shaped as `biases` and `weights`.
        """
        rows: Any = x if checks.is_sparse(x) else checks.numbers_array("x", x)
        y = checks.numbers_array("y", y)
        single = rows.shape == self.sizes[:1]
        rows = checks.samples(rows[None] if single else rows, self.sizes[0], "x")
        if rows.shape[0] > 1:
            raise ValueError(f"x must be one sample, ({self.sizes[0]},); got shape {rows.shape}")
        gradient = self._gradient(rows, y[None], ("x", "y"))
        return gradient.biases, gradient.weights

    def _right(self, X: Any, labels: Any) -> tuple[int, int]:
        """Return how many samples are classified right, and how many there are."""
        scale = known(self._config.scale, self._scaling)
        rows, targets = checks.batch(X, labels, self._config, ("X", "labels"))
        checks.classes(targets, labels, self._kind)
        return evaluate(self._engine, self._sound(), rows, targets, scale)[1], rows.shape[0]

    def _taken(self, X: Any, name: str = "X", first: int = 0) -> Any:
        """Return rows as the engine takes them; `first` is the place of the first, for errors."""
        if self._raw:
            return X
        return standardised(known(self._config.scale, self._scaling), X, self._dtype, name, first)

    def _sound(self) -> Array:
        """Return the parameters, without what was written where a network has no biases."""
        # Other padding does not show in outputs.
        if not self._config.bias:
            self._layout.clear_padding(self._params)
        return self._params

    def _outputs(self, X: Any, threads: int) -> tuple[Array, bool]:
        """Return the outputs of rows, and whether all inputs, and sums of them, are finite."""
        if type(X) is np.ndarray and len(X) <= TILE:  # a shortcut for small batches
            X = self._taken(X)
            return self._engine.feedforward(self._sound(), X, threads)  # type: ignore[no-any-return]
        call, rows = self._engine.feedforward, _rows_at_once(self._engine, X)
        if not self._raw:  # what is standardised is a copy
            rows = min(rows, max(1, VALUES // X.shape[1] // TILE) * TILE)
        found = [
            call(self._sound(), self._taken(X[part], "X", part.start), threads)
            for part in parts_of(X.shape[0], rows)
        ]
        outputs, fine = zip(*found, strict=True)
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs), all(fine)
