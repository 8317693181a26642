"""Standardised inputs: mean and deviation of columns, found by `fit`, kept, used where X is read.

A network that standardises is compared with one that was trained on what StandardScaler made.
"""

import copy
import json
import pickle
import tracemalloc

import numpy as np
import pytest

import fastbp
from cases import crossed
from fastbp import ModelFileError, Network, callbacks
from fastbp.model import file as model_file
from fastbp.model import scaling
from fastbp.training import columns

pytest.importorskip("sklearn")
scipy_sparse = pytest.importorskip("scipy.sparse")
from sklearn import datasets  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

BACKENDS = ["numba", "numpy"]
N, N_IN = 53, 6
OPTIONS = {"epochs": 3, "batch_size": 10, "learning_rate": 0.3}
MEAN, DEVIATION = np.array([1.0, -2, 0, 5, 1e6, 3]), np.array([2.0, 0.5, 1, 0, 1e3, 1])


@pytest.fixture
def table(rng):
    """Columns of unlike scales, whole numbers, of which one is constant, and classes."""
    X = np.round(MEAN + DEVIATION * rng.normal(0, 20, (N, N_IN)))
    return X, rng.integers(0, 3, N)


def network(scale="standard", backend="numpy", **options):
    known = {"loss": "cross-entropy", "dtype": "float64", "seed": 1}
    return Network([N_IN, 5, 3], scale=scale, backend=backend, **known | options)


def mapped(array, folder):
    path = folder / "X.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


class Chunks:
    """X and y, in chunks of unlike lengths; `made` counts how often they were asked for."""

    def __init__(self, X, y, kinds=(np.asarray,)):
        self.parts, self.made = [slice(0, 1), slice(1, 30), slice(30, N)], 0
        self.X, self.y, self.kinds = X, y, kinds

    def __iter__(self):
        self.made += 1
        for number, part in enumerate(self.parts):
            yield self.kinds[number % len(self.kinds)](self.X[part]), self.y[part]


# -- mean and deviation ----------------------------------------------------------------------------

# How the training data come: what is made of an array, and whether its mean is subtracted.
KINDS = {
    "float64": (np.asarray, True),
    "float32": (np.float32, True),
    "whole numbers": (np.int64, True),
    "Fortran-ordered": (np.asfortranarray, True),
    "a list": (lambda X: X.tolist(), True),
    "big-endian": (lambda X: X.astype(">f8"), True),
    "sparse": (scipy_sparse.csr_matrix, False),
    "sparse by columns": (scipy_sparse.csc_array, False),
    "bytes": (lambda X: X.astype(np.int64).astype(np.uint8), False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_fit_finds_the_mean_and_deviation_of_each_column(kind, table, monkeypatch):
    """In several parts, as those of large data."""
    monkeypatch.setattr(scaling, "VALUES", 10 * N_IN)
    monkeypatch.setattr("fastbp._support.checks.ROWS_AT_ONCE", 10)
    made, shifts = KINDS[kind]
    X, net = made(table[0]), network()
    net.fit(X, table[1], **OPTIONS)
    dense = X.toarray() if scipy_sparse.issparse(X) else np.asarray(X, np.float64)
    theirs = StandardScaler().fit(dense)
    np.testing.assert_allclose(net.scaling.mean, theirs.mean_ if shifts else 0, 1e-14, 1e-9)
    np.testing.assert_allclose(net.scaling.deviation, np.sqrt(theirs.var_), 1e-12)
    assert net.scaling.deviation[3] == 0
    for array in net.scaling:
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_large_offsets_cost_no_digits(rng):
    drawn = rng.integers(0, 1000, (5000, 1)).astype(np.float64)
    found = scaling.fitted(scaling.moments(drawn + 2.0**44))
    assert found.mean - 2.0**44 == pytest.approx(drawn.mean(), abs=0.005)  # a unit is 0.004
    np.testing.assert_allclose(found.deviation, drawn.std(), 1e-12)


def test_sparse_entries_may_be_in_any_state(rng):
    entries = rng.integers(0, 20, 40), rng.integers(0, 3, 40)
    X = scipy_sparse.csr_matrix((rng.integers(1, 250, 40).astype("u1"), entries), (20, 3))
    X.has_canonical_format = False
    parts = [X.indptr.copy(), np.repeat(X.indices, 2), np.repeat(X.data, 2)]
    twice = scipy_sparse.csr_matrix((parts[2], parts[1], parts[0] * 2), X.shape)
    found = scaling.moments(twice)
    np.testing.assert_allclose(found.mean, 2.0 * X.toarray().mean(axis=0))
    np.testing.assert_allclose(found.squares, 4.0 * X.toarray().var(axis=0) * 20)


@pytest.mark.parametrize(
    "column",
    [np.full(N, 0.1), np.full(N, -1e9), np.zeros(N), np.full(N, 0.1, "f4"),
     np.resize([0.1 + 0.2, 0.3], N), np.full(N, 3)],
    ids=["0.1", "large", "zeros", "float32", "rounded", "whole"],
)  # fmt: skip
def test_constant_columns_count_as_zero(column, backend, rng):
    """Also in predictions, where they may have another value."""
    X = np.column_stack([rng.standard_normal(N).astype(column.dtype), column])
    net = Network([2, 4, 1], "tanh", scale="standard", backend=backend, seed=0)
    net.fit(X, X[:, 0], **OPTIONS)
    assert net.scaling.deviation[1] == 0
    other = X.copy()
    other[:, 1] += 1000
    np.testing.assert_array_equal(net.feedforward(other), net.feedforward(X))
    other[7, 1] = np.nan if X.dtype.kind == "f" else 0
    if X.dtype.kind == "f":
        with pytest.raises(ValueError, match=r"nan at X\[7, 1\]"):
            net.predict(other)


@pytest.mark.parametrize("X", [np.ones((1, N_IN)), np.full((4, N_IN), 0.1), np.zeros((4, N_IN))])
def test_columns_that_are_all_constant_are_refused(X):
    net = network()
    before = net.to_vector()
    with pytest.raises(ValueError, match=f"all are constant over {len(X)} sample"):
        net.fit(X, np.zeros(len(X), int), **OPTIONS | {"batch_size": 1})
    assert net.scaling is None
    assert (net.to_vector() == before).all()


# -- training --------------------------------------------------------------------------------------


@crossed(kind=list(KINDS), backend=BACKENDS)
def test_training_is_that_on_standardised_data(kind, backend, table, assert_close):
    made, shifts = KINDS[kind]
    X, y = made(table[0]), table[1]
    net, other = network(backend=backend), network(None, backend)
    found = net.fit(X, y, validation_data=(X, y), **OPTIONS)
    dense = X.toarray() if scipy_sparse.issparse(X) else np.asarray(X, np.float64)
    Z = StandardScaler(with_mean=shifts).fit(dense).transform(dense)
    Z[:, 3] = 0  # constant
    expected = other.fit(Z, y, validation_data=(Z, y), **OPTIONS)
    assert_close(net.to_vector(), other.to_vector(), "epoch")
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        assert_close(getattr(found, name), getattr(expected, name), "epoch")
    assert_close(net.feedforward(X), other.feedforward(Z), "epoch")
    assert_close(net.feedforward(dense[5]), other.feedforward(Z[5]), "epoch")
    assert_close(net.gradient(X, y).to_vector(), other.gradient(Z, y).to_vector(), "epoch")
    assert net.loss(X, y) == pytest.approx(other.loss(Z, y))
    assert net.evaluate(X, y) == other.evaluate(Z, y)
    assert (net.predict(X) == other.predict(Z)).all()
    for b, c in zip(net.backprop(dense[0], y[0]), other.backprop(Z[0], y[0]), strict=True):
        assert_close(np.concatenate(b, None), np.concatenate(c, None), "epoch")


@pytest.mark.parametrize("window", [1, 700, 2**20])
def test_memory_maps_give_the_bits_of_arrays(window, backend, table, tmp_path, monkeypatch):
    monkeypatch.setattr("fastbp.training.sources.WINDOW_COPIES", 0)
    monkeypatch.setattr("fastbp.training.sources.WINDOW_BYTES", window)
    X, y = table
    net, other = network(backend=backend), network(backend=backend)
    in_file = mapped(X, tmp_path)
    found = net.fit(in_file, y, validation_data=(in_file, y), **OPTIONS)
    expected = other.fit(X, y, validation_data=(X, y), **OPTIONS)
    assert (net.to_vector() == other.to_vector()).all()
    assert (found.loss, found.val_loss) == (expected.loss, expected.val_loss)
    assert (net.scaling.mean == other.scaling.mean).all()


def test_chunks_are_read_once_more_before_the_first_epoch(table, backend, assert_close):
    chunks, net = Chunks(*table), network(backend=backend)
    net.fit(chunks, **OPTIONS)
    assert chunks.made == 1 + OPTIONS["epochs"]
    expected = StandardScaler().fit(table[0])
    assert_close(net.scaling.mean, expected.mean_, "epoch")
    other = network((net.scaling.mean, net.scaling.deviation), backend)
    other.fit(again := Chunks(*table), **OPTIONS)
    assert again.made == OPTIONS["epochs"]
    assert (net.to_vector() == other.to_vector()).all()


@pytest.mark.parametrize("kind", ["sparse", "bytes"])
def test_one_sparse_chunk_keeps_the_zeros_of_all(kind, table):
    X = np.abs(table[0]) % 200
    net = network()
    net.fit(Chunks(X, table[1], (np.asarray, KINDS[kind][0])), **OPTIONS)
    assert not net.scaling.mean.any()
    np.testing.assert_allclose(net.scaling.deviation, X.std(axis=0), 1e-12)


def test_an_iterator_of_chunks_needs_the_pair(table):
    net, other = network(), network((MEAN, DEVIATION))
    once = OPTIONS | {"epochs": 1}
    with pytest.raises(ValueError, match=r"read only once; .*scale=\(mean, deviation\)"):
        net.fit(iter(Chunks(*table)), **once)
    other.fit(iter(Chunks(*table)), **once)
    with pytest.raises(ValueError, match="got none"):
        net.fit([], **once)


@pytest.mark.parametrize("source", ["array", "sparse"])
def test_the_number_of_threads_does_not_show(source, table, all_take_part):
    X = KINDS["sparse"][0](table[0]) if source == "sparse" else table[0]
    vectors = []
    for threads in (1, 2):
        net = network(backend="numba", dtype="float32")
        net.fit(X, table[1], threads=threads, **OPTIONS)
        vectors.append([net.to_vector(), net.feedforward(X, threads)])
    for one, two in zip(*vectors, strict=True):
        assert (one == two).all()


def test_a_second_fit_keeps_the_scaling(table):
    net = network()
    net.fit(*table, **OPTIONS)
    before = net.scaling
    net.fit(table[0] + 100, table[1], **OPTIONS)
    assert net.scaling is before


def test_weights_of_samples_do_not_show_in_the_scaling(table, rng):
    net, other = network(), network()
    net.fit(*table, sample_weight=rng.random(N), **OPTIONS)
    other.fit(*table, **OPTIONS)
    assert (net.scaling.deviation == other.scaling.deviation).all()


def test_callbacks_see_a_network_that_predicts(table):
    class Look:
        def on_fit_begin(self, net, history):
            self.first = net.predict(table[0])

        def on_epoch_end(self, net, history):
            self.loss = net.loss(*table)

    net, look, stop = network(), Look(), callbacks.EarlyStopping("val_loss", patience=1)
    history = net.fit(*table, validation_data=table, callbacks=[look, stop], **OPTIONS)
    assert look.loss == pytest.approx(history.val_loss[-1])
    assert net.loss(*table) == pytest.approx(min(history.val_loss))


# -- before it is known ----------------------------------------------------------------------------

CALLS = {
    "feedforward": lambda net, X, y: net.feedforward(X),
    "one sample": lambda net, X, y: net.predict(X[0]),
    "predict": lambda net, X, y: net.predict(X),
    "loss": lambda net, X, y: net.loss(X, y),
    "accuracy": lambda net, X, y: net.accuracy(X, y),
    "gradient": lambda net, X, y: net.gradient(X, y),
    "plain gradient": lambda net, X, y: network(loss="quadratic").gradient(X, np.zeros((N, 3))),
    "backprop": lambda net, X, y: net.backprop(X[0], y[0]),
    "update_mini_batch": lambda net, X, y: net.update_mini_batch(X, y, 0.1),
    "gradcheck": lambda net, X, y: fastbp.gradcheck(net, X, y),
    "write_torch": lambda net, X, y: fastbp.interchange.write_torch(net, "no.safetensors"),
    "to_sklearn": lambda net, X, y: fastbp.interchange.to_sklearn(net),
    "norms": lambda net, X, y: fastbp.Norms(X, y).on_epoch_end(net, None),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_needs_the_scaling_says_how_it_is_found(call, table):
    with pytest.raises(ValueError, match=r"not known yet.*Call fit first, or pass scale=\(mean"):
        CALLS[call](network(), *table)


def test_a_pair_is_known_from_the_start(table, backend, assert_close):
    net, other = network((MEAN, DEVIATION), backend), network(None, backend)
    with np.errstate(all="ignore"):
        Z = (table[0] - MEAN) / DEVIATION
    Z[:, 3] = 0
    assert net.config["scale"] == "standard"
    assert_close(net.feedforward(table[0]), other.feedforward(Z))
    for one, X in ((net, table[0]), (other, Z)):
        one.update_mini_batch(X, table[1], 0.1)
        one.SGD((X, table[1]), 1, 10, 0.1)
    assert_close(net.to_vector(), other.to_vector(), "epoch")
    assert fastbp.gradcheck(net, table[0][:4], table[1][:4]).ok
    norms, theirs = (fastbp.Norms(X, table[1]) for X in (table[0], Z))
    norms.on_epoch_end(net, None)
    theirs.on_epoch_end(other, None)
    assert_close(norms.deltas, theirs.deltas, "epoch")


def test_gradcheck_holds_relus_on_their_sides(backend):
    """A sample of means alone lies on the kink of each."""
    net = network((MEAN, DEVIATION), backend, activation="relu")
    X = np.array([MEAN + 0.3 * DEVIATION, MEAN, MEAN - DEVIATION])
    report = fastbp.gradcheck(net, X, [0, 1, 2])
    assert report.verdict == "undecided at a kink"
    for array in report.layers:
        assert array.analytic == pytest.approx(array.numerical, rel=1e-6), str(report)


def test_a_learning_rate_is_found_before_the_scaling_is_known(table):
    X, y = table[0], (table[0][:, 0] > 0).astype(int)
    net = network()
    state = str(net.rng.bit_generator.state), net.to_vector().tobytes()
    found = fastbp.find_learning_rate(net, X, y, batch_size=10)
    assert (found.losses == fastbp.find_learning_rate(net, X, y, batch_size=10).losses).all()
    assert net.scaling is None
    assert state == (str(net.rng.bit_generator.state), net.to_vector().tobytes())
    net.fit(X, y, **OPTIONS | {"epochs": 1, "learning_rate": 1e-9})
    again = fastbp.find_learning_rate(net, X, y, batch_size=10)
    assert found.suggestion == pytest.approx(again.suggestion, rel=2)


# -- what is refused -------------------------------------------------------------------------------

REFUSED = {
    "minmax": (
        {"scale": "minmax"},
        r"scale must be 'standard' or a pair \(mean, deviation\); got 'minmax'",
    ),
    "number": ({"scale": 2.0}, r"scale must be 'standard' or a pair \(mean, deviation\); got 2.0"),
    "three": ({"scale": (MEAN, MEAN, MEAN)}, "or a pair"),
    "text": ({"scale": (MEAN, ["a"] * 6)}, "scale: deviation must hold numbers"),
    "width": ({"scale": (MEAN[:2], DEVIATION)}, r"scale: mean must hold .* the 6 inputs; .*\(2,\)"),
    "nan": ({"scale": (MEAN * np.nan, DEVIATION)}, "scale: mean must be finite"),
    "negative": ({"scale": (MEAN, -DEVIATION)}, "scale: deviation must be at least 0; got -1000"),
    "both": (
        {"scale": "standard", "input_scale": 0.5},
        "scale and input_scale exclude each other: got input_scale=0.5",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_scale(case):
    options, message = REFUSED[case]
    with pytest.raises((TypeError, ValueError), match=message):
        network(**options)


# Where a value is not finite, and how it is named there.
PLACES = {
    "predict": (lambda net, X, y: net.predict(X), "X"),
    "loss": (lambda net, X, y: net.loss(X, y), "X"),
    "gradient": (lambda net, X, y: net.gradient(X, y), "X"),
    "update_mini_batch": (lambda net, X, y: net.update_mini_batch(X, y, 0.1), "X"),
    "fit": (lambda net, X, y: net.fit(X, y, **OPTIONS), "X"),
    "validation": (
        lambda net, X, y: net.fit(MEAN + X[:9] * 0 + np.eye(9, 6), y[:9], validation_data=(X, y),
                                  **OPTIONS | {"batch_size": 3}),
        "validation_data[0]",
    ),
    "finder": (lambda net, X, y: fastbp.find_learning_rate(net, X, y, batch_size=5), "X"),
}  # fmt: skip


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e308])
@pytest.mark.parametrize(
    ("call", "known"),
    [*((call, True) for call in PLACES), *((call, False) for call in list(PLACES)[-3:])],
)
def test_the_row_that_is_not_finite_is_named(call, known, value, table, monkeypatch):
    monkeypatch.setattr(scaling, "VALUES", 10 * N_IN)
    X, y = table[0].copy(), table[1]
    net = network((MEAN, DEVIATION) if known else "standard", dtype="float32")
    X[37, 2] = value
    run, name = PLACES[call]
    before = net.to_vector()
    with pytest.raises(ValueError, match="must be finite") as caught:
        run(net, X, y)
    assert f"{value:g} at {name}[37, 2]" in str(caught.value)
    assert (net.to_vector() == before).all()
    assert known or net.scaling is None


def test_rows_of_a_sparse_matrix_are_named(table):
    X = scipy_sparse.csr_matrix(table[0])
    for mean in (MEAN, MEAN * 0):
        bad = X.copy()
        bad[31, 4] = np.inf
        with pytest.raises(ValueError, match=r"inf at X\[31, 4\]"):
            network((mean, DEVIATION)).predict(bad)
    with pytest.raises(ValueError, match=r"inf at X.data"):
        network().fit(bad, table[1], **OPTIONS)


def test_a_map_is_looked_at_before_it_is_learned(table, tmp_path, monkeypatch):
    monkeypatch.setattr("fastbp.training.sources.WINDOW_COPIES", 0)
    monkeypatch.setattr("fastbp.training.sources.WINDOW_BYTES", 700)
    monkeypatch.setattr("fastbp.training.sources.FEW", 2)
    net, X = network((MEAN, DEVIATION)), table[0].copy()
    X[50, 0] = np.nan
    before, bad = net.to_vector(), mapped(X, tmp_path)
    with pytest.raises(ValueError, match=r"nan at X\[50, 0\]"):
        net.fit(bad, table[1], **OPTIONS)
    with pytest.raises(ValueError, match=r"nan at validation_data\[0\]\[50, 0\]"):
        net.fit(*table, validation_data=(bad, table[1]), **OPTIONS)
    assert (net.to_vector() == before).all()


def test_a_bad_chunk_is_found_before_the_training(table):
    net, X = network(), table[0].copy()
    X[40, 1] = np.inf
    with pytest.raises(ValueError, match=r"inf at X of chunk 3\[10, 1\]"):
        net.fit(Chunks(X, table[1]), **OPTIONS)
    assert net.scaling is None


# -- copies and files ------------------------------------------------------------------------------


def alike(net, other, X):
    assert other.config == net.config
    for one, two in zip(net.scaling, other.scaling, strict=True):
        assert (one == two).all()
        assert not two.flags.writeable
    assert (other.feedforward(X) == net.feedforward(X)).all()


def test_copies_and_files_keep_the_scaling(table, tmp_path):
    net = network(dtype="float32")
    net.fit(*table, **OPTIONS)
    net.save(tmp_path / "net.safetensors")
    for other in (
        pickle.loads(pickle.dumps(net)),
        copy.deepcopy(net),
        fastbp.load(tmp_path / "net.safetensors", backend="numpy"),
    ):
        alike(net, other, table[0])
    arrays, config = model_file.read(tmp_path / "net.safetensors")
    assert config["scale"] == "standard"
    for name in ("inputs.mean", "inputs.deviation"):
        assert arrays[name].dtype == np.float64
    assert Network(**net.config).scaling is None  # another one like it, to be trained


def test_a_network_that_is_not_trained_is_kept_as_such(tmp_path):
    net = network()
    net.save(tmp_path / "net.safetensors")
    for other in (copy.deepcopy(net), fastbp.load(tmp_path / "net.safetensors", "numpy")):
        assert other.scaling is None
        assert other.config["scale"] == "standard"


def header(path):
    blob = path.read_bytes()
    return json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])["__metadata__"]


def test_files_without_a_scale_are_those_of_older_versions(tmp_path):
    path = tmp_path / "net.safetensors"
    network(None).save(path)
    found = header(path)
    assert found["format_version"] == "1"
    assert list(json.loads(found["config"])) == [
        "sizes", "activation", "output", "loss", "bias", "dtype", "input_scale",
    ]  # fmt: skip
    network().save(path)
    assert header(path)["format_version"] == "2"  # which older ones name as newer


ONES = np.ones(N_IN)
DAMAGED = {
    "one of two": ({"inputs.mean": ONES}, "or a pair"),
    "another width": ({"inputs.mean": ONES, "inputs.deviation": np.ones(3)}, "the 6 inputs"),
    "NaN": ({"inputs.mean": ONES * np.nan, "inputs.deviation": ONES}, "mean must be finite"),
    "negative": ({"inputs.mean": ONES, "inputs.deviation": -ONES}, "at least 0; got -1"),
    "float32": ({"inputs.mean": ONES, "inputs.deviation": np.float32(ONES)}, "must be float64"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_scaling_is_refused(case, tmp_path):
    path, (arrays, message) = tmp_path / "net.safetensors", DAMAGED[case]
    network().save(path)
    parts, config = model_file.read(path)
    model_file.write(path, parts | arrays, config, version=2)
    with pytest.raises(ModelFileError, match=f"net.safetensors: the scaling .*{message}"):
        fastbp.load(path)


def test_a_scaling_without_a_scale_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    network(None).save(path)
    parts, config = model_file.read(path)
    model_file.write(path, parts | {"inputs.mean": ONES, "inputs.deviation": ONES}, config)
    with pytest.raises(ModelFileError, match=r"array inputs\.deviation must have shape None"):
        fastbp.load(path)


def test_it_is_said_where_a_network_is_described():
    net = network()
    assert "scale='standard'" in repr(net)
    assert "inputs standardised" in net.summary().splitlines()[0]
    assert "scale" not in repr(network(None))
    assert "standardised" not in network(None).summary()


# -- memory ----------------------------------------------------------------------------------------


def test_sparse_rows_with_a_mean_are_predicted_in_bounded_parts(monkeypatch):
    monkeypatch.setattr("fastbp.engines.predictor.VALUES", 2**17)
    n, n_in = 20_000, 200
    X = scipy_sparse.random_array(
        (n, n_in), density=0.01, format="csr", rng=np.random.default_rng(0)
    )
    net = Network([n_in, 2], scale=(np.ones(n_in), np.ones(n_in)), backend="numpy", seed=0)
    tracemalloc.start()
    found = net.feedforward(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # all rows would take 16 MB, in float32
    rows = [0, 7_777, n - 1]
    np.testing.assert_allclose(found[rows], net.feedforward(X[rows].toarray()), 1e-5)
    assert net.loss(X, np.zeros(n, int)) > 0


# -- columns of unlike scales, taken as they are ---------------------------------------------------

WARNING = "the columns of X have unlike scales"


def fit_raw(X, y, net=None, **options):
    net = net or Network([X.shape[1], 3], loss="cross-entropy", backend="numpy", seed=0, **options)
    net.fit(X, y, epochs=1, batch_size=len(y), learning_rate=1e-9)
    return net


def test_raw_columns_of_unlike_scales_warn_once():
    X, y = datasets.load_wine(return_X_y=True)
    message = f"{WARNING}: 0.383 of column 7 and 810 of column 12 .*scale='standard'"
    with pytest.warns(UserWarning, match=message) as caught:
        net = fit_raw(X, y)
    assert caught[0].filename == __file__
    fit_raw(X, y, net)
    fit_raw(X, y, scale="standard")
    with pytest.warns(UserWarning, match=WARNING):
        Network([13, 3], loss="cross-entropy", backend="numpy").fit(
            [(X, y)], epochs=1, batch_size=9, learning_rate=1e-9
        )


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_a_table_are_named(library, monkeypatch):
    monkeypatch.setenv("_RJEM_MALLOC_CONF", "")  # the import of Polars sets it
    tables = pytest.importorskip(library)
    X, y = datasets.load_wine(return_X_y=True)
    names = datasets.load_wine().feature_names
    with pytest.warns(UserWarning, match="of 'nonflavanoid_phenols' and 810 of 'proline'"):
        fit_raw(tables.DataFrame(dict(zip(names, X.T, strict=True))), y)


def test_what_may_differ_does_not_warn(table, digits):
    X, y = datasets.load_wine(return_X_y=True)
    rare = np.where(np.arange(len(X)) % 11 == 0, 1e6, 0)  # nonzero in fewer than a tenth
    for quiet in (
        np.column_stack([np.ones(len(X)), rare]),
        np.column_stack([np.ones(len(X)), np.full(len(X), 99)]),
        np.column_stack([np.ones(len(X)), np.zeros(len(X))]),
        scipy_sparse.csr_matrix(X),
        np.minimum(X, 255).astype(np.uint8),
    ):
        fit_raw(quiet, y)
    fit_raw(X[:9], y[:9])  # so few tell nothing
    images, labels = digits[0], digits[1]
    for pixels in (
        images,
        images / 16,
        images.astype("f4"),
        StandardScaler().fit_transform(images),
    ):
        Network([64, 10], loss="cross-entropy", backend="numpy").fit(
            pixels, labels, epochs=1, batch_size=len(labels), learning_rate=1e-9
        )
    fastbp.find_learning_rate(
        Network([13, 3], loss="cross-entropy", backend="numpy", seed=0), X, y, batch_size=10
    )


def test_images_do_not_warn(mnist):
    for pixels in (mnist.X_train[:5000], mnist.X_test):
        for made in (
            pixels.astype("f4"),
            pixels.astype("i4"),
            pixels / 255,
            (pixels / 255 - 0.13) / 0.3,
        ):
            assert not columns._unlike(made, None)


def test_estimators_do_not_warn():
    X, y = datasets.load_wine(return_X_y=True)
    with np.errstate(all="ignore"):
        fastbp.estimator.MLPClassifier([3], max_iter=1, solver="sgd").partial_fit(
            X, y, classes=[0, 1, 2]
        )


# -- real tables -----------------------------------------------------------------------------------

CLASSES = {"wine": datasets.load_wine, "breast cancer": datasets.load_breast_cancer,
           "iris": datasets.load_iris}  # fmt: skip


def split(load):
    X, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    test, train = order[: len(X) // 4], order[len(X) // 4 :]
    return X[train], y[train], X[test], y[test]


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("name", CLASSES)
def test_classes_of_tables_are_learnt_as_by_a_pipeline(name):
    X, y, X_test, y_test = split(CLASSES[name])
    theirs = make_pipeline(StandardScaler(), MLPClassifier([30], max_iter=100, random_state=0))
    theirs.fit(X, y)
    net = Network(
        [X.shape[1], 30, y.max() + 1], "relu", loss="cross-entropy", scale="standard", seed=0
    )
    net.fit(X, y, epochs=100, batch_size=10, learning_rate=0.01, optimizer="adam")
    accuracy = net.accuracy(X_test, y_test)
    assert accuracy > (0.88 if name == "iris" else 0.94)
    assert accuracy >= theirs.score(X_test, y_test) - 1.5 / len(y_test)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_numbers_of_a_table_are_learnt_as_by_a_pipeline():
    X, y, X_test, y_test = split(datasets.load_diabetes)
    X = X * np.logspace(0, 4, X.shape[1]) + 1000  # which is scaled when it is loaded
    X_test = X_test * np.logspace(0, 4, X.shape[1]) + 1000
    theirs = make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=[10], max_iter=500, random_state=0)
    )
    theirs.fit(X, y)
    net = Network([10, 10, 1], "relu", scale="standard", seed=0, output="identity")
    net.fit(X, y / 100, epochs=60, batch_size=10, learning_rate=0.003, optimizer="adam")
    residues = y_test - 100 * net.predict(X_test)
    r2 = 1 - residues.var() / y_test.var()
    assert r2 > max(0.4, theirs.score(X_test, y_test) - 0.02)
