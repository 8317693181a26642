"""The kernels as a backend: the operations of one layer, and whole networks."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property, partialmethod
from typing import Any

import numpy as np

from .. import kernels
from .._support.checks import NO_LABELS, is_sparse
from ..kernels import functions, machine
from ..kernels.ir.activations import ACTIVATION_CODES, SOFTMAX
from ..kernels.losses import loss_code
from ..kernels.walk import records
from ..model.layout import Layout, aligned, parts_of, stride
from ..reference import Model, Targets
from ..reference.dropout import threshold
from ..reference.losses import setting_of
from . import planning
from .numba_data import (
    Workspace,
    contiguous,
    dense_rows,
    density,
    inputs,
    kernel_targets,
    part_of,
)  # fmt: skip
from .numba_trainer import NumbaTrainer
from .operations import Operations

Array = np.ndarray


@cache
def _helpers() -> ThreadPoolExecutor:
    """Return threads for single calls; they are kept, for to start one takes 0.1 ms."""
    return ThreadPoolExecutor(os.cpu_count(), "fastbp")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # where the threads are gone


LOGARITHMS = "cross-entropy", "poisson"  # losses that cost more


def _loss_code(loss: Any, activation: Any, setting: float | None, dtype: Any) -> int:
    return loss_code(loss, activation, setting_of(loss, setting), dtype)


class NumbaEngine:
    """A network on the kernels; each call is given the parameters as one flat array."""

    GROUP = machine.ENTRY_GROUP  # entries of zero-skipping rows come in whole groups

    def __init__(self, model: Model, layout: Layout) -> None:
        self.model, self.layout = model, layout
        self.dtype, self.n_out = layout.dtype, layout.sizes[-1]
        lanes = machine.CPU.vector_bytes // self.dtype.itemsize
        self.planner = planning.Planner(layout, lanes, model.loss in LOGARITHMS)

    def workspace(
        self, batch_size: int, path: str = "any", blocks: int = 1, lists: int = 0,
        team: planning.Team = planning.ALONE, panels: int = 0, turned: int = 0,
        dropout: Sequence[float] = (),
    ) -> Workspace:  # fmt: skip
        """Return the plan for batches of this size, and memory for it.

        A thread has so many `panels` of what is as long as the parameters; weights in them may be
        `turned`, see `Planner.turned`.

        `dropout` has a probability for each hidden layer, or none: outside of training.
        """
        layout, model, planner = self.layout, self.model, self.planner
        narrow = path == "narrow"
        rows = path != "sparse"
        places = planner.narrow_places() if narrow else planner.places(batch_size, rows, lists)
        # What takes samples one by one, or zero-skipping, works on whole vectors, padding included.
        tiled = path == "dense" and batch_size > 1
        widths = planner.widths if narrow else planner.tile_widths
        packed, inputs, hidden = places.size, *(planner.packed(places.chunk) if tiled else (0, 0))
        panel = planning.rounded_up(packed + inputs + hidden, machine.LINE)
        room = 0 if narrow else planner.panel(places.chunk)
        places = places._replace(size=panel + room)
        if not narrow:
            places = planner.columns(places, team)
            places = planner.panels(places, team, turned, panels)
        plan = records.Plan(
            last=len(layout.sizes) - 1, bias=model.bias,
            chunk=places.chunk, blocks=blocks, lists=lists, packed=packed if inputs else 0,
            packed_above=packed + inputs if hidden else 0, panel=panel if room else 0,
            thread_scratch=places.size,
            thread_sums=places.thread_sums, whole=places.whole, row=places.row, z=places.z,
            turn=places.turn, columns_delta=places.columns_delta, local=places.local,
            local_size=places.local_size, turned=places.turned,
            sizes=layout.sizes, strides=layout.strides, widths=widths,
            w=layout.w, b=layout.b,
            a=places.a, delta=places.delta, transposed=places.transposed,
            **self._functions(narrow, dropout),
        )  # fmt: skip
        return Workspace(plan, places.size, model.scale, self.dtype)

    def _functions(self, narrow: bool, dropout: Sequence[float]) -> dict[str, Any]:
        """Return the plan's codes and addresses of functions."""
        layers = self.model.activations
        codes = [0, *(functions.activation_code(layer, self.dtype) for layer in layers)]
        below = [threshold(p) for p in dropout] or [0] * len(layers[1:])
        below = [0, *below, 0]
        kept = [n > 0 or code > SOFTMAX for code, n in zip(codes[:-1], below[:-1], strict=True)]
        return {
            "loss": _loss_code(self.model.loss, layers[-1], self.model.setting, self.dtype),
            "activations": codes, "kept": [*kept, False], "threshold": below,
            "keep": functions.keep(self.dtype, narrow) if any(kept) else 0,
            "times": functions.times(self.dtype, narrow) if any(kept) else 0,
            "drop": functions.drop(self.dtype, narrow) if any(below) else 0,
        }  # fmt: skip

    @cached_property
    def _workspace(self) -> Workspace:  # for calls with lanes over the neurons
        return self.workspace(self.planner.most_chunk)

    @cached_property
    def _narrow_workspace(self) -> Workspace:  # for calls with lanes over the batch
        return self.workspace(0, "narrow")

    def choose_path(self, X: Any, batch_size: int, weighted: bool = False) -> str:
        """Return the path that costs least for these inputs: "sparse", "narrow" or "dense"."""
        if is_sparse(X):
            return "sparse"
        return self.planner.path(density(X), batch_size, weighted)

    def feedforward(self, params: Array, X: Array, threads: int = 1) -> Any:
        """Return the outputs of rows X, and whether all inputs were surely finite."""
        n = X.shape[0]
        out = np.empty((n, self.n_out), self.dtype)
        # A shortcut for rows: a call on one sample takes 2 us in all.
        plain = type(X) is np.ndarray
        X = dense_rows(X, self.dtype) if plain else inputs(X, self.model.scale, self.dtype)
        if threads != 1:
            threads = planning.threads_of_call(threads, self.layout.size, n)
        if threads == 1:
            return out, self._forward(params, X.reshape(-1) if plain else X, out.reshape(-1))
        # Of whole tiles: the bits of a row do not depend on the part it is in.
        rows = -(-n // (threads * machine.PARTS_PER_THREAD))
        parts = iter(parts_of(n, planning.rounded_up(rows, machine.TILE_UNIT)))

        def forward() -> bool:
            return all([self._part(params, X, part, out) for part in parts])

        # This thread takes parts like any other: were there one more, two would begin on one core.
        others = [_helpers().submit(forward) for _ in range(1, threads)]
        return out, all([forward(), *(other.result() for other in others)])

    def _part(self, params: Array, X: Any, part: slice, out: Array) -> bool:
        some = part_of(X, part)
        some = some.reshape(-1) if isinstance(some, np.ndarray) else some
        return self._forward(params, some, out[part].reshape(-1))

    def feedforward_one(self, params: Array, x: Array) -> tuple[Array, bool]:
        """Return the outputs of one sample, (n_in,) of this dtype, and whether it was finite."""
        # Without the steps that only batches need: 784-30-10 took 2.7 us a call, 1.1 in the kernel.
        out = np.empty(self.n_out, self.dtype)
        return out, self._forward(params, x, out)

    def _forward(self, params: Array, X: Any, out: Array) -> bool:
        space = self._workspace
        piece = space.acquire()
        fine: bool = kernels.feedforward(piece.table, params, X, out)
        space.release(piece)
        return fine

    def evaluate(self, params: Array, X: Array, targets: Targets) -> tuple[float, int]:
        """Return the sum of the losses and the count of right classes."""
        space, (labels, values, *_) = self._workspace, kernel_targets(targets, self.dtype)
        X, piece = inputs(X, self.model.scale, self.dtype), space.acquire()
        kernels.evaluate(piece.table, params, X, labels, values)
        totals = piece.work.sums[0], int(piece.work.sums[1])
        space.release(piece)
        return totals

    def gradient(
        self, params: Array, X: Array, targets: Targets, path: str | None = None
    ) -> tuple[Array, float, bool]:
        """Return the gradient of the mean loss, that loss, and whether X and targets are finite."""
        labels, values, _, weights, weighted = kernel_targets(targets, self.dtype)
        n, rows = X.shape[0], not is_sparse(X)
        chosen = rows and not weighted and self.planner.is_narrow(n)
        narrow = path == "narrow" if path else chosen
        counts = () if narrow else (weights,)
        X = inputs(X, self.model.scale, self.dtype)
        return self._gradient(narrow, n, params, X, labels, values, *counts)

    def gradient_of_values(self, params: Array, X: Array, y: Array) -> tuple[Array, float, bool]:
        """Do as `gradient` does, for rows and targets of this dtype, both C-contiguous."""
        # Without the steps that only others need: of 24-8-2 and 200 samples they took 3 us of 13.
        n = len(X)
        if self.planner.is_narrow(n):
            return self._gradient(True, n, params, X, NO_LABELS, y)
        return self._gradient(False, n, params, X, NO_LABELS, y, params[:0])

    def _gradient(self, narrow: bool, n: int, *arrays: Any) -> tuple[Array, float, bool]:
        space = self._narrow_workspace if narrow else self._workspace
        kernel = kernels.narrow_gradient if narrow else kernels.gradient
        grads, piece = np.empty(self.layout.size, self.dtype), space.acquire()
        loss: float = kernel(piece.table, *arrays, grads)
        fine = loss == loss  # not NaN
        if not fine:
            loss = piece.work.sums.item(0) / n
        space.release(piece)
        return grads, loss, fine

    trainer = partialmethod(NumbaTrainer)  # on this engine


def _padded(x: Array, dtype: np.dtype) -> Array:
    """Return the rows of x in storage rows."""
    x = np.atleast_2d(x)
    out = np.zeros((len(x), stride(x.shape[1], dtype)), dtype)
    out[:, : x.shape[1]] = x
    return out


class NumbaBackend(Operations):
    """Operations on the kernels."""

    name, engine = "numba", NumbaEngine

    def _elementwise(self, name: str, z: Array) -> Array:
        out = np.empty(z.shape, z.dtype)
        getattr(kernels, name)(contiguous(z).reshape(-1), out.reshape(-1))
        return out

    def _softmax(self, z: Array) -> Array:
        out = np.empty((len(z), stride(z.shape[1], z.dtype)), z.dtype)
        kernels.softmax(contiguous(z), out)
        return out[:, : z.shape[1]].copy()

    def _affine(self, x: Array, W: Array, b: Array) -> Array:
        storage, bias = _padded(W.T, W.dtype), _padded(b, W.dtype)[0]
        out = np.empty((len(x), len(bias)), W.dtype)
        kernels.affine(contiguous(x), storage, bias, np.arange(len(x)), out)
        return out[:, : len(W)].copy()

    def _backprop_delta(self, W_next: Array, delta_next: Array, a: Array, activation: str) -> Array:
        storage, deltas, below = (_padded(x, W_next.dtype) for x in (W_next.T, delta_next, a))
        out, scratch = np.empty_like(below), aligned(storage.shape[1] * below.shape[1], below.dtype)
        code = ACTIVATION_CODES[activation]
        kernels.backprop_delta(storage, deltas, below, code, out, scratch)
        return out[:, : a.shape[1]].copy()

    def _weight_gradient(self, a_prev: Array, delta: Array) -> Array:
        deltas = _padded(delta, delta.dtype)
        dW = np.empty((a_prev.shape[1], deltas.shape[1]), delta.dtype)
        kernels.weight_gradient(contiguous(a_prev), deltas, np.arange(len(deltas)), dW)
        return dW[:, : delta.shape[1]].T.copy()

    def _bias_gradient(self, delta: Array) -> Array:
        db = np.empty(delta.shape[1], delta.dtype)
        kernels.bias_gradient(contiguous(delta), db)
        return db

    def _output_delta(
        self, z: Array, y: Array, loss: Any, activation: Any, setting: float | None
    ) -> tuple[Array, Array, Array]:
        batch, n = z.shape
        a = np.empty((batch, stride(n, z.dtype)), z.dtype)
        delta, losses = np.empty_like(a), np.empty(2 * batch)
        code = _loss_code(loss, activation, setting, z.dtype)
        codes, rows = (code, functions.activation_code(activation, z.dtype)), np.arange(batch)
        kernels.output_delta(*codes, contiguous(z), contiguous(y), rows, a, delta, losses)
        return a[:, :n].copy(), delta[:, :n].copy(), losses[:batch]

    # Steps in place, which the kernels take on copies in storage rows.

    @np.errstate(all="ignore")  # of the rate
    def _learn(
        self, name: str, W: Array, b: Array, a_prev: Array, delta: Array, learning_rate: float
    ) -> None:
        storage, bias = _padded(W.T, W.dtype), _padded(b, W.dtype)[0]
        deltas = _padded(delta, W.dtype).reshape(*delta.shape[:-1], -1)
        rate = W.dtype.type(learning_rate)
        rows = np.arange(np.atleast_2d(a_prev).shape[0])
        getattr(kernels, name)(storage, bias, contiguous(a_prev), deltas, rows, rate)
        W[...], b[...] = storage[:, : len(W)].T, bias[: len(W)]

    _outer_update = partialmethod(_learn, "outer_update")
    _batch_update = partialmethod(_learn, "batch_update")

    def _follow(self, name: str, count: int, *arguments: Any) -> None:
        arrays = arguments[:count]
        flat = [array.flatten() for array in arrays]
        getattr(kernels, name)(*flat, *arguments[count:])
        for array, new in zip(arrays[:-1], flat[:-1], strict=True):  # all but the gradient
            array[...] = new.reshape(array.shape)

    _momentum_update = partialmethod(_follow, "momentum_update", 3)
    _nesterov_update = partialmethod(_follow, "nesterov_update", 3)
    _adam_update = partialmethod(_follow, "adam_update", 4)
    _rmsprop_update = partialmethod(_follow, "rmsprop_update", 3)
