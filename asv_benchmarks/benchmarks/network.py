"""A whole network: forward, loss, gradient, files; and the loaders of data."""

import gzip
import pickle
import struct
from functools import cache, partial
from pathlib import Path

import numpy as np

import fastbp

from .common import ALL, BACKENDS, DTYPES, WORKLOADS, Timed, images

# Method of Network: the arguments it is called with.
CALLS = {
    "feedforward": lambda X, y: (X,),
    "predict": lambda X, y: (X,),
    "loss": lambda X, y: (X, y),
    "accuracy": lambda X, y: (X, y),
    "evaluate": lambda X, y: (X, y),
    "gradient": lambda X, y: (X, y),
    "update_mini_batch": lambda X, y: (X, y, 1e-6),
}


@cache
def _method(method, batch, backend, dtype):
    net = WORKLOADS["online"].network(backend, dtype)
    call = partial(getattr(net, method), *CALLS[method](*images(batch)))
    call()  # compile
    return call


class Methods(Timed):
    """Times one call on [784, 30, 10]."""

    params = (list(CALLS), [1, 10, 1000], BACKENDS, DTYPES)
    param_names = ("method", "batch", "backend", "dtype")

    def setup(self, method, batch, backend, dtype):
        self.call = _method(method, batch, backend, dtype)

    def time_method(self, method, batch, backend, dtype):
        self.call()

    time_method.pretty_name = "Network: one call on 784-30-10"


@cache
def _predict(threads):
    net, X = WORKLOADS["online"].network("numba"), images(10_000)[0]
    return partial(net.predict, X, threads)


class ManySamples(Timed):
    """Classes of 10,000 images."""

    params = ([1, 2],)
    param_names = ("threads",)

    def setup(self, threads):
        self.call = _predict(threads)
        self.call()

    def time_predict(self, threads):
        self.call()

    time_predict.pretty_name = "Network: predict 10,000 samples on 784-30-10"


@cache
def _regression(backend, dtype):
    work = ALL["regression"]
    call = partial(work.network(backend, dtype).gradient, *work.data(work.batch_size))
    call()
    return call


class NarrowGradient(Timed):
    """A fit of a curve: a small network, lanes over its 200 samples."""

    params = (BACKENDS, DTYPES)
    param_names = ("backend", "dtype")

    def setup(self, backend, dtype):
        self.call = _regression(backend, dtype)

    def time_gradient(self, backend, dtype):
        self.call()

    time_gradient.pretty_name = "Network: gradient of 24-8-2, tanh, 200 samples"


@cache
def _one_sample(backend):
    X, y = images(1)
    net = WORKLOADS["online"].network(backend)
    net.backprop(X[0], y[0])
    return net, X[0], y[0]


class OneSample(Timed):
    """The book's face: one sample at a time."""

    params = BACKENDS
    param_names = ("backend",)

    def setup(self, backend):
        self.net, self.x, self.label = _one_sample(backend)

    def time_backprop(self, backend):
        self.net.backprop(self.x, self.label)

    def time_feedforward(self, backend):
        self.net.feedforward(self.x)

    def time_summary(self, backend):
        self.net.summary()

    time_summary.pretty_name = "Network: summary of 784-30-10"
    time_backprop.pretty_name = "Network: backprop of one sample on 784-30-10"
    time_feedforward.pretty_name = "Network: feedforward of one sample on 784-30-10"


# asv gives each process an empty folder to stand in, and removes it afterwards.
@cache
def _saved(folder):
    net = WORKLOADS["wide"].network("numba")
    path = folder / "net.safetensors"
    net.save(path)
    return net, path, net.to_vector()


class Parameters(Timed):
    """Copies and files of the parameters of 784-512-512-10."""

    def setup(self):
        self.net, self.path, self.vector = _saved(Path.cwd())

    def time_to_vector(self):
        self.net.to_vector()

    def time_from_vector(self):
        self.net.from_vector(self.vector)

    def time_save(self):
        self.net.save(self.path)

    def time_load(self):
        fastbp.load(self.path)

    time_to_vector.pretty_name = "Network: to_vector of 784-512-512-10"
    time_from_vector.pretty_name = "Network: from_vector of 784-512-512-10"
    time_save.pretty_name = "Network: save 784-512-512-10"
    time_load.pretty_name = "Network: load 784-512-512-10"


# -- data sets -------------------------------------------------------------------------------------

IMAGES = 10_000


def _write_idx(folder, opened, suffix):
    X, y = images(IMAGES)
    folder.mkdir()
    for part in ("train", "t10k"):
        with opened(folder / f"{part}-images-idx3-ubyte{suffix}", "wb") as file:
            file.write(struct.pack(">4B3I", 0, 0, 8, 3, IMAGES, 28, 28))
            file.write((255 * X).astype(np.uint8).tobytes())
        with opened(folder / f"{part}-labels-idx1-ubyte{suffix}", "wb") as file:
            file.write(struct.pack(">4BI", 0, 0, 8, 1, IMAGES) + y.astype(np.uint8).tobytes())


def _write_npz(path):
    X, y = images(IMAGES)
    X = (255 * X).astype(np.uint8).reshape(-1, 28, 28)
    np.savez_compressed(path, x_train=X, y_train=y, x_test=X, y_test=y)


def _write_pickle(path):
    with gzip.open(path, "wb") as file:
        pickle.dump((images(IMAGES),) * 3, file, protocol=2)


# Kind of data set: where it is found, and what writes it there.
DATA_SETS = {
    "digits": ("digits", lambda path: None),
    "IDX": ("plain", lambda path: _write_idx(path, open, "")),
    "IDX, gzip": ("packed", lambda path: _write_idx(path, gzip.open, ".gz")),
    "npz": ("mnist.npz", _write_npz),
    "pickle, gzip": ("mnist.pkl.gz", _write_pickle),
}


@cache
def _written(kind, folder):
    place, write = DATA_SETS[kind]
    write(folder / place)
    return place if kind == place else folder / place


class Loaders(Timed):
    """Data sets of 20,000 images in each format, and the bundled digits."""

    params = (list(DATA_SETS),)
    param_names = ("kind",)
    repeat = (3, 50, 0.3)

    def setup(self, kind):
        self.place = _written(kind, Path.cwd())

    def time_load(self, kind):
        fastbp.datasets.load(self.place)

    time_load.pretty_name = "Data: load 20,000 images, or the bundled digits"
