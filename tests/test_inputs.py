"""Every kind of array: the right result in any call, or an error that names the argument.

Whatever happens, the bytes of what was passed, its flags and its dtype are the same afterwards. The
values are whole numbers from 0 to 1, which all dtypes hold, so that kinds that are accepted have to
give the bits of a plain array of the same numbers in the network's dtype.
"""

import decimal
import functools
import itertools
import mmap

import numpy as np
import pytest

from fastbp import Network
from fastbp.engines import get_backend

SIZES = [4, 5, 3]
N = 6


class Refused(str):
    """Part of the message of a kind that is refused."""


NUMBERS, RECTANGLE = Refused("must hold numbers"), Refused("must be a rectangular array")


# -- kinds of arrays: how to make one of a plain one of float64, and whether it is refused ---------


def _view(x, **change):
    """x as every second entry, or backwards, in all directions of a larger array."""
    step = change["step"]
    wide = np.zeros([n * abs(step) for n in x.shape], x.dtype)
    view = wide[(slice(None, None, step),) * x.ndim]
    view[...] = x
    return view


def _misaligned(x):
    raw = bytearray(x.nbytes + 1)
    view = np.frombuffer(raw, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    assert not view.flags.aligned or x.size == 0
    return view


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def _mapped(x, mode, tmp_path):
    x.tofile(tmp_path / "x")
    return np.memmap(tmp_path / "x", x.dtype, mode, shape=x.shape)


def _anonymous(x):
    """In pages that the kernel may only read: a write would be a crash."""
    memory = mmap.mmap(-1, max(x.nbytes, 1))
    memory.write(x.tobytes())
    return np.frombuffer(memory, x.dtype, x.size).reshape(x.shape)


def _pandas(x, kind, mixed=False):
    """A table or a column; the table's second column perhaps of bools."""
    pandas = pytest.importorskip("pandas")
    made = pandas.DataFrame(x) if x.ndim == 2 else pandas.Series(x)
    made = made.astype(kind)
    return made.astype({1: bool}) if mixed and x.ndim == 2 else made


def _nullable(x):
    """In pandas' own dtypes."""
    return _pandas(x, "Float64" if x.dtype.kind == "f" else "Int64")


def _decimals(x):
    return np.array([decimal.Decimal(int(value)) for value in x.flat], object).reshape(x.shape)


def _structured(x):
    out = np.zeros(x.shape, [("a", "f4")])
    out["a"] = x
    return out


class Like:
    """Not an array, but can be made into one."""

    def __init__(self, x):
        self.x = x

    def __array__(self, dtype=None, copy=None):
        return np.array(self.x, dtype)


MEMORY = {  # keeps the dtype
    "plain": lambda x, tmp_path: x.copy(),
    "read-only": lambda x, tmp_path: _read_only(x),
    "memory-mapped, to read": lambda x, tmp_path: _mapped(x, "r", tmp_path),
    "memory-mapped, to write": lambda x, tmp_path: _mapped(x, "r+", tmp_path),
    "memory-mapped, private": lambda x, tmp_path: _mapped(x, "c", tmp_path),
    "in pages of its own": lambda x, tmp_path: _anonymous(x),
    "Fortran-ordered": lambda x, tmp_path: np.asfortranarray(x),
    "every second": lambda x, tmp_path: _view(x, step=2),
    "backwards": lambda x, tmp_path: _view(x, step=-1),
    "every third, backwards": lambda x, tmp_path: _view(x, step=-3),
    "misaligned": lambda x, tmp_path: _misaligned(x),
    "a subclass": lambda x, tmp_path: x.view(type("Sub", (np.ndarray,), {})),
    "array-like": lambda x, tmp_path: Like(x),
    "nested lists": lambda x, tmp_path: x.tolist(),
    "nested tuples": lambda x, tmp_path: tuple(map(tuple, x)) if x.ndim == 2 else tuple(x.tolist()),
    "a masked array without a mask": lambda x, tmp_path: np.ma.array(x),
    "a pandas object": lambda x, tmp_path: _pandas(x, x.dtype),
    "a pandas table with bools": lambda x, tmp_path: _pandas(x, x.dtype, mixed=True),
    "a pandas table of objects": lambda x, tmp_path: _pandas(x, object),
    "a pandas table, nullable": lambda x, tmp_path: _nullable(x),
}
TABLES = {name for name in MEMORY if "pandas" in name}
WHOLE = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i2", ">i8", ">u4")
FLOATS = ("f2", "f4", "f8", "g", ">f2", ">f4", ">f8", ">g", "O")
FOREIGN = {
    **{f"dtype {kind}": kind for kind in ("F", "D", "U4", "S4", "M8[s]", "m8[s]")},
    "dtype with fields": None,
}  # fmt: skip


def _foreign(x, kind):
    if kind is None:
        return _structured(x)
    return x.astype(np.int64).astype(kind) if kind[0] in "Mm" else x.astype(kind)


def kinds():
    """Name, and how to make it; of whole numbers too."""
    for name, make in MEMORY.items():
        yield name, make
    for kind in WHOLE + FLOATS:
        yield f"dtype {kind}", lambda x, tmp_path, kind=kind: x.astype(kind)
    for name, kind in FOREIGN.items():
        yield name, lambda x, tmp_path, kind=kind: _foreign(x, kind)
    yield "decimals", lambda x, tmp_path: _decimals(x)
    yield "of text objects", lambda x, tmp_path: x.astype(int).astype(str).astype(object)
    yield "masked in a list", lambda x, tmp_path: list(np.ma.masked_equal(np.atleast_2d(x), 1))
    yield "masked", lambda x, tmp_path: np.ma.masked_equal(x, 1)
    yield "of strings in lists", lambda x, tmp_path: x.astype(str).tolist()
    yield "None", lambda x, tmp_path: None
    yield "ragged", lambda x, tmp_path: [[1, 2], [3]]
    yield "a generator", lambda x, tmp_path: (row for row in x)
    yield "a set", lambda x, tmp_path: {1, 2}
    yield "a string", lambda x, tmp_path: "0 1 0"


KINDS = dict(kinds())
NO_NUMBERS = {
    *FOREIGN,
    "of strings in lists",
    "of text objects",
    "None",
    "a generator",
    "a set",
    "a string",
}


def verdict(kind, place):
    """What is to become of a kind in a place: None if it is accepted, else a message."""
    if kind.startswith("masked"):
        return Refused("must not be masked")
    if kind == "ragged":
        return RECTANGLE
    if kind == "None":  # by which `fit` knows an iterable of chunks
        return f"{NUMBERS}|y is missing"
    if kind in NO_NUMBERS:
        return NUMBERS
    if place == "labels" and kind.removeprefix("dtype ") in ("?", *FLOATS, "decimals"):
        return Refused("must be integer labels")
    return None


# -- calls: each takes X, y and a network, and returns all that can be seen ------------------------


def _trained(net, **how):
    net.fit(**{"epochs": 2, "batch_size": 4, "learning_rate": 0.5, "shuffle": False} | how)
    return net.to_vector()


def _updated(net, X, y):
    net.update_mini_batch(X, y, 0.5)
    return net.to_vector()


def _validated(net, X, y, plain):
    how = {"epochs": 1, "batch_size": 4, "learning_rate": 0.5}
    return net.fit(*plain, validation_data=(X, y), **how).val_loss


def _loaded(net, v):
    net.from_vector(v)
    return net.to_vector()


X_CALLS = {
    "feedforward": lambda net, x, X, y: net.feedforward(x),
    "feedforward of one": lambda net, x, X, y: net.feedforward(x[0]),
    "predict": lambda net, x, X, y: net.predict(x),
    "loss": lambda net, x, X, y: net.loss(x, y),
    "evaluate": lambda net, x, X, y: net.evaluate(x, y),
    "accuracy": lambda net, x, X, y: net.accuracy(x, y),
    "gradient": lambda net, x, X, y: net.gradient(x, y).to_vector(),
    "update_mini_batch": lambda net, x, X, y: _updated(net, x, y),
    "fit": lambda net, x, X, y: _trained(net, X=x, y=y),
    "validation": lambda net, x, X, y: _validated(net, x, y, (X, np.ones(N, int))),
}
Y_CALLS = {
    "loss": lambda net, t, X: net.loss(X, t),
    "gradient": lambda net, t, X: net.gradient(X, t).to_vector(),
    "update_mini_batch": lambda net, t, X: _updated(net, X, t),
    "fit": lambda net, t, X: _trained(net, X=X, y=t),
    "validation": lambda net, t, X: _validated(net, X, t, (X, np.zeros((N, 3)))),
}
CLASS_CALLS = {
    "evaluate": lambda net, t, X: net.evaluate(X, t),
    "accuracy": lambda net, t, X: net.accuracy(X, t),
}
WEIGHT_CALLS = {
    "fit": lambda net, w, X, y: _trained(net, X=X, y=y, sample_weight=w),
    "gradient": lambda net, w, X, y: net.gradient(X, y, sample_weight=w).to_vector(),
}


def snapshot(value):
    """All that must not change: bytes, dtype, shape, steps, flags."""
    if isinstance(value, Like):
        value = value.x
    if isinstance(value, np.ndarray):
        flags = value.flags.writeable, value.flags.aligned
        return value.tobytes(), value.dtype, value.shape, value.strides, flags
    if hasattr(value, "to_numpy"):
        return repr((value, value.to_numpy()))
    return repr(value) if isinstance(value, (list, tuple, set, str, type(None))) else None


def _made(kind, array, tmp_path):
    """An array of the kind; each file has a folder of its own."""
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    return KINDS[kind](array, folder)


def meet(call, kind, place, plain, backend, dtype, tmp_path):
    """Make the call with an array of the kind; hold it to the verdict."""
    given = _made(kind, plain, tmp_path)
    before, results = snapshot(given), []
    refusal = verdict(kind, place)
    net = Network(SIZES, dtype=dtype, backend=backend, seed=1)
    start = net.to_vector()
    if refusal:
        with pytest.raises((TypeError, ValueError), match=refusal):
            call(net, given)
        assert np.array_equal(net.to_vector(), start), "what is refused leaves the network alone"
        assert snapshot(given) == before
        return
    for value in (given, plain.astype(np.int64 if place == "labels" else dtype)):
        net = Network(SIZES, dtype=dtype, backend=backend, seed=1)
        results.append(np.asarray(call(net, value)))
    assert snapshot(given) == before
    # Bytes and floats go through kernels of their own; what NumPy's products round to depends on
    # where their operands lie.
    if place == "X" or backend == "numpy":
        tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
        np.testing.assert_allclose(*results, rtol=tolerance, atol=tolerance)
    else:
        assert results[0].tobytes() == results[1].tobytes()


@pytest.fixture
def plain(rng):
    """X, labels, real targets and weights, all of 0 and 1."""
    X = (rng.random((N, 4)) < 0.5).astype(np.float64)
    labels = np.array([0, 1, 1, 0, 1, 0], np.float64)
    return X, labels, (rng.random((N, 3)) < 0.5).astype(np.float64), labels.copy()


# What has no rows of numbers by x[0], or another thing there.
NO_FIRST_ROW = NO_NUMBERS | TABLES | {"ragged", "masked", "masked in a list", "array-like"}
# Each kind in two calls, so that each call meets several kinds; all kinds in all calls are long.
HOW_MANY = pytest.mark.parametrize("calls_each", [2, pytest.param(99, marks=pytest.mark.long)])


def some(calls, calls_each, kind):
    """So many of the calls, others for each kind."""
    start, names = list(KINDS).index(kind), list(calls)
    names = [names[(start + step) % len(names)] for step in range(min(calls_each, len(names)))]
    return {name: calls[name] for name in names}


def meet_all(calls, kind, place, plain, others, tmp_path, dtypes=("float32", "float64")):
    """Make the calls, with the other arguments, on both backends; a failure says in which."""
    for (name, run), backend, dtype in itertools.product(calls.items(), ("numba", "numpy"), dtypes):
        try:
            call = functools.partial(_with, run, others)
            meet(call, kind, place, plain, backend, dtype, tmp_path)
        except BaseException as failure:
            failure.add_note(f"{kind}, in {name}, {backend}, {dtype}")
            raise


def _with(run, others, net, given):
    return run(net, given, *others)


@HOW_MANY
@pytest.mark.parametrize("kind", KINDS)
def test_samples(kind, calls_each, plain, tmp_path):
    X, y = plain[0], plain[1].astype(np.int64)
    left_out = {"feedforward of one"} if kind in NO_FIRST_ROW else set()
    calls = {name: call for name, call in X_CALLS.items() if name not in left_out}
    meet_all(some(calls, calls_each, kind), kind, "X", X, (X, y), tmp_path)


@HOW_MANY
@pytest.mark.parametrize("kind", KINDS)
def test_targets(kind, calls_each, plain, tmp_path):
    X, _, y, _ = plain
    meet_all(some(Y_CALLS, calls_each, kind), kind, "y", y, (X,), tmp_path)


@HOW_MANY
@pytest.mark.parametrize("kind", KINDS)
def test_labels(kind, calls_each, plain, tmp_path):
    X, labels, _, _ = plain
    whole = labels if kind.startswith("dtype") else labels.astype(np.int64)
    calls = some(Y_CALLS | CLASS_CALLS, calls_each, kind)
    meet_all(calls, kind, "labels", whole, (X,), tmp_path, dtypes=["float32"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "None"])  # the default
def test_sample_weights(kind, plain, tmp_path):
    X, labels, _, weights = plain
    meet_all(WEIGHT_CALLS, kind, "w", weights, (X, labels.astype(np.int64)), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_parameters(kind, rng, tmp_path):
    v = (rng.random(Network(SIZES).to_vector().size) < 0.5).astype(np.float64)
    meet_all({"from_vector": _loaded}, kind, "v", v, (), tmp_path)


# -- sizes and magnitudes --------------------------------------------------------------------------

SHAPES = {
    "0-d": (np.float64(1), "got"), "no samples": (np.zeros((0, 4)), "at least one sample"),
    "no inputs": (np.zeros((N, 0)), "samples are rows"),
    "nothing": (np.zeros(0), "samples are rows"),
    "three axes": (np.zeros((N, 4, 1)), "samples are rows"),
    "64 axes": (np.zeros((1,) * 64), "samples are rows"),
    "a column": (np.zeros((4, 1)), r"pass X\.T"),
}  # fmt: skip


@pytest.mark.parametrize("call", [name for name in X_CALLS if name != "feedforward of one"])
def test_shapes_that_do_not_fit(call, backend, plain):
    name = r"validation_data\[0\]" if call == "validation" else "X"
    for X, message in SHAPES.values():
        y = np.zeros(len(X) if X.ndim else 1, int)
        with pytest.raises(ValueError, match=message.replace("X", name)):
            X_CALLS[call](Network(SIZES, backend=backend, seed=0), X, plain[0], y)


@pytest.mark.parametrize("call", X_CALLS)
@pytest.mark.parametrize("size", ["tiny", "smallest_subnormal", "max"])
def test_magnitudes_at_the_ends(size, call, backend, dtype, plain):
    """Sums of the largest numbers overflow; then there is an error, or outputs in their range."""
    X = plain[0] * float(getattr(np.finfo(dtype), size))
    net = Network(SIZES, dtype=dtype, backend=backend, seed=0)
    before = X.tobytes()
    try:
        with np.errstate(all="ignore"):
            found = X_CALLS[call](net, X, plain[0], plain[1].astype(int))
    except (ValueError, ArithmeticError) as error:
        found = str(error)
    if size != "max":
        assert np.isfinite(found).all()
    assert X.tobytes() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_finite_is_refused_in_every_dtype(value, backend):
    for kind in ("f4", "f8", "g", ">f4", ">f8"):
        with np.errstate(over="ignore"):
            X = np.full((N, 4), value).astype(kind)
        net = Network(SIZES, backend=backend, seed=0)
        for name in ("loss", "gradient", "evaluate"):
            with pytest.raises(ValueError, match="X must be finite"):
                getattr(net, name)(X, np.zeros(N, int))
        with pytest.raises(ValueError, match="v must be finite"):
            net.from_vector(np.resize(X.ravel(), net.to_vector().size))


# -- operations of the backends --------------------------------------------------------------------

LAYOUTS = ["plain", "read-only", "Fortran-ordered", "every second", "backwards", "misaligned",
           "memory-mapped, to read", "in pages of its own"]  # fmt: skip


@pytest.mark.parametrize("kind", LAYOUTS)
def test_operations_take_any_memory(kind, backend, dtype, rng, tmp_path, assert_close):
    """Inputs alone; what an operation updates in place is its caller's array."""
    b, draw = get_backend(backend), lambda *shape: rng.standard_normal(shape).astype(dtype)
    x, W, bias, delta, z = draw(N, 4), draw(5, 4), draw(5), draw(N, 5), draw(N, 5)
    y = np.abs(draw(N, 5))
    calls = {
        "sigmoid": (z,), "tanh": (z,), "relu": (z,), "softmax": (z,), "affine": (x, W, bias),
        "weight_gradient": (x, delta), "bias_gradient": (delta,),
    }  # fmt: skip
    for name, arguments in calls.items():
        odd = [_made(kind, array, tmp_path) for array in arguments]
        before = [a.tobytes() for a in odd]
        assert_close(getattr(b, name)(*odd), getattr(b, name)(*arguments), where=name)
        assert [a.tobytes() for a in odd] == before
    found = b.backprop_delta(_made(kind, W, tmp_path), delta, np.abs(x), "sigmoid")
    assert_close(found, b.backprop_delta(W, delta, np.abs(x), "sigmoid"))
    found = b.output_delta("quadratic", "sigmoid", z[:, ::-1], y[:, ::-1])
    for mine, theirs in zip(found, b.output_delta("quadratic", "sigmoid", z, y), strict=True):
        assert_close(mine[..., ::-1] if mine.ndim == 2 else mine, theirs)
