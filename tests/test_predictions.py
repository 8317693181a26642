"""What a network predicts and counts as right, and which targets it learns from."""

import contextlib
import math
import warnings

import numpy as np
import pytest

import fastbp
from fastbp import Network, cli
from fastbp.layers import Sequential, SoftmaxWithLoss

RNG = np.random.default_rng(20_261_126)
X = RNG.standard_normal((60, 4))
ONE, SEVERAL = (X[:, 0] > 0).astype(int), (X[:, :3] > 0).astype(int)
LABELS = X[:, :3].argmax(axis=1)
ONE_HOT = np.eye(3)[LABELS]

# Outputs, then loss, width, targets, what `predict` returns of the outputs, and how many are right.
PREDICTIONS = {
    "softmax": ("softmax", "cross-entropy", 3, LABELS, lambda a: a.argmax(axis=1)),
    "softmax, quadratic": ("softmax", "quadratic", 3, LABELS, lambda a: a.argmax(axis=1)),
    "the book's": ("sigmoid", "quadratic", 3, ONE_HOT, lambda a: a.argmax(axis=1)),
    "one sigmoid": ("sigmoid", "cross-entropy", 1, ONE, lambda a: (a > 0.5)[:, 0]),
    "one sigmoid, quadratic": ("sigmoid", "quadratic", 1, ONE, lambda a: (a > 0.5)[:, 0]),
    "sigmoids": ("sigmoid", "cross-entropy", 3, SEVERAL, lambda a: a > 0.5),
    "sigmoids of one-hot rows": ("sigmoid", "cross-entropy", 3, ONE_HOT, lambda a: a > 0.5),
    "identity": ("identity", "quadratic", 1, X[:, :1], None),
    "identities": ("identity", "quadratic", 2, X[:, :2], None),
    "tanh": ("tanh", "quadratic", 2, np.tanh(X[:, :2]), None),
    "counts": ("exp", "poisson", 1, ONE, None),
}


@pytest.fixture(params=PREDICTIONS)
def case(request):
    """A row of the table."""
    return PREDICTIONS[request.param]


def network(case, backend="numba", dtype="float32", sizes=(4, 5)):
    output, loss, n_out, *_ = case
    return Network([*sizes, n_out], output=output, loss=loss, seed=3, backend=backend, dtype=dtype)


def right_of(net, case):
    """How many samples are right, from the outputs alone."""
    *_, y, classes = case
    found = classes(net.feedforward(X)).astype(int)
    y = y if y.shape == found.shape else y.argmax(axis=1)
    return int((found == y).reshape(len(X), -1).all(axis=1).sum())


def test_predictions_follow_output_and_loss(case, backend, dtype):
    net = network(case, backend, dtype)
    outputs, classes = net.feedforward(X), case[-1]
    numbers = outputs[:, 0] if outputs.shape[1] == 1 else outputs  # shaped as y
    expected = numbers if classes is None else classes(outputs).astype(int)
    found = net.predict(X, threads=2)
    assert found.dtype.kind == ("i" if classes else "f")
    np.testing.assert_array_equal(found, expected)
    one = net.predict(X[7])
    assert np.shape(one) == np.shape(expected[7])
    np.testing.assert_allclose(one, expected[7], rtol=1e-5)
    assert isinstance(one, np.ndarray | np.number)
    assert net.predict(X[:1]).shape == (1, *expected.shape[1:])


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_what_is_right_is_counted_as_it_is_predicted(case, backend, dtype, batch_size):
    """By evaluate, accuracy, the history, both backends, any batch, dense or narrow."""
    net, (*_, y, classes) = network(case, backend, dtype), case
    twin = network(case, backend, dtype)
    history = net.fit(
        X, y, epochs=2, batch_size=batch_size, learning_rate=0.05, validation_data=(X, y), threads=2
    )
    if classes is None:
        assert all(map(math.isnan, history.accuracy + history.val_accuracy))
        for call in (net.accuracy, net.evaluate):
            with pytest.raises(ValueError, match=r"labels must be .* numbers, look at `loss`"):
                call(X, y)
        return
    assert net.evaluate(X, y) == right_of(net, case)
    assert history.val_accuracy[-1] == net.accuracy(X, y) == right_of(net, case) / 60
    if batch_size == 60:
        assert history.accuracy[0] == right_of(twin, case) / 60


def test_all_forms_of_flags_count_alike(backend):
    net = network(PREDICTIONS["one sigmoid"], backend)
    right = (net.predict(X) == ONE).sum()
    for y in (ONE, ONE.tolist(), ONE[:, None], ONE > 0, ONE.astype("float32"), ONE.astype("uint8")):
        assert net.evaluate(X, y) == right
        assert net.fit(X, y, epochs=1, batch_size=60, learning_rate=1e-9).accuracy == [right / 60]
    several = network(PREDICTIONS["sigmoids"], backend)
    right = (several.predict(X) == SEVERAL).all(axis=1).sum()
    for y in (SEVERAL, SEVERAL > 0, SEVERAL.tolist(), np.asfortranarray(SEVERAL, "float32")):
        assert several.evaluate(X, y) == right
    # Labels are one class of each sample, whatever the loss.
    assert several.evaluate(X, LABELS) == (several.feedforward(X).argmax(axis=1) == LABELS).sum()


def test_targets_that_are_no_classes_have_no_accuracy(backend):
    for name, y, place in (("one sigmoid", ONE * 0.9, ""), ("sigmoids", SEVERAL * 0.9, ", ")):
        net = network(PREDICTIONS[name], backend)
        history = net.fit(X, y, epochs=1, batch_size=7, learning_rate=0.1)
        assert math.isnan(history.accuracy[0])
        message = rf"labels must be 0 or 1; got 0.9 at labels\[\d+{place}"
        with pytest.raises(ValueError, match=message):
            net.accuracy(X, y)
    one = network(PREDICTIONS["one sigmoid"], backend)
    parts = [(X[:30], ONE[:30]), (X[30:], 0.9 * ONE[30:])]
    assert math.isnan(one.fit(parts, epochs=1, batch_size=5, learning_rate=0.1).accuracy[0])
    parts[1] = X[30:], ONE[30:]
    history = one.fit(parts, epochs=1, batch_size=30, learning_rate=1e-9)
    assert history.accuracy == [pytest.approx(one.accuracy(X, ONE))]


def test_classes_learnt_with_numbers_count_as_before():
    """The largest output, where the targets name classes."""
    net = Network([4, 6, 3], activation="relu", seed=0)
    history = net.fit(X, LABELS, epochs=30, batch_size=6, learning_rate=0.1)
    assert history.accuracy[-1] > 0.7
    assert net.predict(X).shape == (60, 3)
    assert net.accuracy(X, LABELS) == (net.predict(X).argmax(axis=-1) == LABELS).mean()
    assert net.accuracy(X, LABELS) == net.accuracy(X, ONE_HOT)


def test_an_output_of_one_half_is_class_0(backend, dtype):
    net = network(PREDICTIONS["one sigmoid"], backend, dtype)
    net.from_vector(np.zeros(net.to_vector().size))
    assert net.predict(X).tolist() == [0] * 60
    assert net.evaluate(X, np.zeros(60, int)) == 60
    assert net.fit(X, ONE * 0, epochs=1, batch_size=60, learning_rate=1e-9).accuracy == [1.0]


def test_memory_maps_sparse_matrices_and_ranks_of_one_count_alike(tmp_path):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is an extra")
    for name in ("one sigmoid", "sigmoids"):
        *_, y, _ = case = PREDICTIONS[name]
        np.save(tmp_path / "y.npy", y)
        mapped = np.load(tmp_path / "y.npy", mmap_mode="r")
        ends = {
            tuple(network(case).fit(*data, epochs=3, batch_size=7, learning_rate=0.5).accuracy)
            for data in ((X, y), (X, mapped), (sparse.csr_array(X), y))
        }
        assert len({np.round(end, 3) for (*_, end) in ends}) == 1


def test_early_stopping_follows_the_accuracy_of_one_sigmoid():
    net, stop = network(PREDICTIONS["one sigmoid"]), fastbp.callbacks.EarlyStopping
    data = {"validation_data": (X, ONE), "callbacks": [stop(patience=3, monitor="val_accuracy")]}
    history = net.fit(X, ONE, epochs=200, batch_size=6, learning_rate=1.0, **data)
    assert history.stopped
    assert net.accuracy(X, ONE) == max(history.val_accuracy) > 0.9


def test_the_books_lines_and_the_command_line(tmp_path, capsys, caplog):
    caplog.set_level("INFO", "fastbp")
    net = network(PREDICTIONS["one sigmoid"])
    net.SGD((X, ONE), 1, 10, 0.5, test_data=(X, ONE))
    assert f"Epoch 0: {(net.predict(X) == ONE).sum()} / 60" in caplog.text
    for name in ("one sigmoid", "sigmoids", "identities"):
        net = network(PREDICTIONS[name])
        net.save(tmp_path / "net.safetensors")
        np.save(tmp_path / "X.npy", X)
        arguments = [str(tmp_path / "net.safetensors"), "--data", str(tmp_path / "X.npy")]
        assert cli.main(["predict", *arguments]) == 0
        lines = np.array([line.split(",") for line in capsys.readouterr().out.split()], float)
        found = lines[:, 0] if name == "one sigmoid" else lines
        np.testing.assert_allclose(found, net.predict(X.astype("float32")), rtol=1e-5)


# -- what cannot be learnt -------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross-entropy", "quadratic"])
def test_softmax_of_one_output_is_refused(loss):
    with pytest.raises(ValueError, match=r'softmax.*two outputs.*="sigmoid".*\[4, 1\]'):
        Network([4, 1], output="softmax", loss=loss)


def test_softmax_of_one_output_is_refused_by_layers_and_files(tmp_path):
    with pytest.raises(ValueError, match=r"x must be .* two scores"):
        SoftmaxWithLoss().forward(np.ones((3, 1)), [0, 0, 0])
    with pytest.raises(ValueError, match=r"x must be .* two scores"):
        Sequential.mlp([4, 1], seed=0).gradient(X, ONE)
    Network([4, 1], output="sigmoid", loss="cross-entropy", seed=0).save(tmp_path / "a")
    old, new = (rf"\"{name}\", \"loss".encode() for name in ("sigmoid", "softmax"))
    data = (tmp_path / "a").read_bytes()
    assert old in data
    (tmp_path / "b").write_bytes(data.replace(old, new))
    with pytest.raises(fastbp.ModelFileError, match='output="sigmoid"'):
        fastbp.load(tmp_path / "b")


REACH = {
    "sigmoid": ("sigmoid", [0.2, 3.0], "from 0 to 1"),
    "sigmoids": ("sigmoid", [[0.2, 1.0], [0.5, -0.1]], "from 0 to 1"),
    "softmax": ("softmax", [[0.2, 1.0], [0.5, 1.7]], "from 0 to 1"),
    "tanh": ("tanh", [-0.2, -1.2], "from -1 to 1"),
    "relu": ("relu", [0.2, -3.0], "at least 0"),
}
FITS = {
    "fit": lambda net, X, y: net.fit(X, y, epochs=3, batch_size=2, learning_rate=0.1),
    "chunks": lambda net, X, y: net.fit([(X, y)] * 3, epochs=3, batch_size=2, learning_rate=0.1),
    "a step": lambda net, X, y: [net.update_mini_batch(X, y, 0.1) for _ in range(3)],
    "SGD": lambda net, X, y: net.SGD((X, y), 3, 2, 0.1),
    "the finder": lambda net, X, y: fastbp.find_learning_rate(net, X, y, batch_size=2),
}


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("name", REACH)
def test_targets_out_of_reach_bring_one_warning_at_the_users_line(name, fit, backend, tmp_path):
    output, bad, limits = REACH[name]
    y = np.array([bad] * 30).reshape(60, -1)
    net = Network([4, y.shape[1]], output=output, seed=0, backend=backend)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(ValueError):  # of the finder, where no rate helps
            FITS[fit](net, X, y)
    (one,) = caught
    assert one.category is UserWarning
    assert limits in str(one.message)
    assert 'output="identity"' in str(one.message)
    assert f"{np.ravel(bad)[-1]:g} at y" in str(one.message).replace(" of chunk 1", "")
    assert one.filename == __file__


def test_a_memory_map_is_looked_at_as_well(tmp_path):
    np.save(tmp_path / "y.npy", np.linspace(0, 5, 60))
    y, net = np.load(tmp_path / "y.npy", mmap_mode="r"), Network([4, 1], seed=0)
    with pytest.warns(UserWarning, match="output 'sigmoid' is from 0 to 1, and y holds"):
        net.fit(X, y, epochs=1, batch_size=8, learning_rate=0.1)


# -- where a loss is defined -----------------------------------------------------------------------

DOMAINS = {
    "sigmoid": ("sigmoid", "cross-entropy", 3, (-1.0, 2.0), "at least 0 and at most 1"),
    "one sigmoid": ("sigmoid", "cross-entropy", 1, (-1.0, 2.0), "at least 0 and at most 1"),
    "softmax": ("softmax", "cross-entropy", 3, (-0.5, -1.0), "at least 0 for"),
    "counts": ("exp", "poisson", 3, (-1.0, -0.001), "at least 0 for"),
    "one count": ("exp", "poisson", 1, (-2, -7), "at least 0 for"),
}
WAYS = {
    "loss": lambda net, X, y: net.loss(X, y),
    "gradient": lambda net, X, y: net.gradient(X, y),
    "weighted gradient": lambda net, X, y: net.gradient(X, y, np.ones(len(X))),
    "backprop": lambda net, X, y: [net.backprop(*sample) for sample in zip(X, y, strict=True)],
    "evaluate": lambda net, X, y: net.evaluate(X, y),
    "accuracy": lambda net, X, y: net.accuracy(X, y),
    "a step": lambda net, X, y: net.update_mini_batch(X, y, 0.1),
    "SGD": lambda net, X, y: net.SGD((X, y), 1, 2, 0.1),
    "fit": lambda net, X, y: net.fit(X, y, epochs=1, batch_size=2, learning_rate=0.1),
    "chunks": lambda net, X, y: net.fit([(X, y)], epochs=1, batch_size=2, learning_rate=0.1),
    "validation": lambda net, X, y: net.fit(
        X, np.zeros_like(y), epochs=1, batch_size=2, learning_rate=0.1, validation_data=(X, y)
    ),
    "gradcheck": lambda net, X, y: fastbp.gradcheck(net, X, y),
    "the finder": lambda net, X, y: fastbp.find_learning_rate(net, X, y, batch_size=2),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", DOMAINS)
def test_targets_outside_the_domain_are_refused_by_value_and_place(name, way, backend):
    output, loss, n_out, values, limits = DOMAINS[name]
    net = Network([4, n_out], output=output, loss=loss, seed=0, backend=backend, dtype="float64")
    before = net.to_vector()
    for value in values:
        y = np.full((60, n_out), 0.5)
        y[41, n_out - 1] = value
        y, place = (y[:, 0], "41") if n_out == 1 and way != "backprop" else (y, f"41, {n_out - 1}")
        place = place.replace("41", "0") if way == "backprop" else place
        with pytest.raises(ValueError, match="must be") as caught:
            WAYS[way](net, X, y)
        message = str(caught.value)
        assert limits in message
        assert f"got {value:g} at " in message
        assert f"[{place}]" in message
        assert ("(y + 1) / 2" in message) == (value == -1 and loss == "cross-entropy")
    if way != "backprop":  # which learns the samples before
        np.testing.assert_array_equal(net.to_vector(), before)


def test_targets_inside_the_domain_are_none_the_worse(backend):
    """Limits, soft labels, rows of other sums, what rounding makes of 1, large counts."""
    good = {
        ("sigmoid", "cross-entropy"): [0.0, 1.0, 0.3, 1.0000001, -1e-9],
        ("softmax", "cross-entropy"): [0.0, 1.0, 0.3, 20.0, 1e-30],
        ("exp", "poisson"): [0.0, 3.0, 0.5, 1e6, 12.0],
    }
    for (output, loss), row in good.items():
        net = Network([4, 5], output=output, loss=loss, seed=0, backend=backend)
        y = np.array([row] * 60)
        assert np.isfinite(net.loss(X, y))
        assert np.isfinite(net.gradient(X, y).to_vector()).all()


def test_layers_refuse_negative_targets(backend):
    with pytest.raises(ValueError, match=r"y must be at least 0 .*got -0.5 at y\[1, 2\]"):
        SoftmaxWithLoss(backend).forward(np.zeros((2, 3)), [[0, 0, 1], [1, 0.5, -0.5]])


def test_regressors_of_counts_refuse_negative_ones():
    sklearn = pytest.importorskip("fastbp.estimator", reason="scikit-learn is an extra")
    for more in ({}, {"early_stopping": True}, {"solver": "lbfgs"}):
        y = np.ones(60)
        y[17] = -3
        with pytest.raises(ValueError, match=r"y must be at least 0 .*got -3 at y\[17\]"):
            sklearn.MLPRegressor(loss="poisson", **more).fit(X, y)
