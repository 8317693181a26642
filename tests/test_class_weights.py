"""Weights of classes: as sample weights, as PyTorch's, and what a rare class gains by them."""

import numpy as np
import pytest

from fastbp import Network, datasets

RATE = {"batch_size": 6, "learning_rate": 0.3}
MULTI = {"loss": "cross-entropy"}
ONE = {"loss": "cross-entropy", "output": "sigmoid"}


@pytest.fixture
def rare(rng):
    """Samples of three classes: 30, 20 and 10 of them."""
    y = np.repeat([0, 1, 2], [30, 20, 10])
    return rng.standard_normal((60, 4)) + y[:, None], y


def trained(X, y=None, sizes=(4, 5, 3), options=MULTI, backend="numpy", epochs=3, **fit):
    net = Network(sizes, dtype="float64", seed=0, backend=backend, **options)
    net.fit(X, y, epochs=epochs, **RATE, **fit)
    return net


def balanced(y):
    return (len(y) / (len(np.unique(y)) * np.bincount(y)))[y]


FORMS = {
    "labels": ((4, 5, 3), MULTI, lambda y: y),
    "one-hot": ((4, 5, 3), MULTI, lambda y: np.eye(3)[y]),
    "two sigmoids": ((4, 5, 3), {"output": "sigmoid"}, lambda y: y),
    "a sigmoid": ((4, 5, 1), ONE, lambda y: y // 2),
    "a column": ((4, 5, 1), ONE, lambda y: (y // 2)[:, None].astype(float)),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_they_are_weights_of_samples(form, weighted, rare, rng):
    X, y = rare
    sizes, options, given = FORMS[form]
    labels = y // 2 if sizes[-1] == 1 else y
    own = rng.random(60) if weighted else np.ones(60)
    fit = {"sample_weight": own} if weighted else {}
    for by_class, weights in (
        ("balanced", balanced(labels)),
        ({1: 3, np.int64(0): 0.5}, np.array([0.5, 3, 1])[labels]),
    ):
        ours = trained(X, given(y), sizes, options, class_weight=by_class, **fit)
        theirs = trained(X, given(y), sizes, options, sample_weight=weights * own)
        np.testing.assert_allclose(ours.to_vector(), theirs.to_vector(), rtol=1e-12)
        plain = trained(X, given(y), sizes, options, **fit)
        assert np.abs(ours.to_vector() - plain.to_vector()).max() > 1e-3


def test_balanced_weights_are_scikit_learn_s(rare):
    found = pytest.importorskip("sklearn.utils.class_weight")
    X, y = rare
    weights = found.compute_sample_weight("balanced", y)
    ours, theirs = trained(X, y, class_weight="balanced"), trained(X, y, sample_weight=weights)
    np.testing.assert_array_equal(ours.to_vector(), theirs.to_vector())


def test_what_is_held_out_is_not_counted(rare):
    X, y = rare
    y = y[::-1].copy()  # the largest class has not the first rows
    X_train, y_train, *held_out = datasets.hold_out(X, y, 0.33)
    ours = trained(X, y, class_weight="balanced", validation_split=0.33)
    theirs = trained(X_train, y_train, class_weight="balanced", validation_data=held_out)
    np.testing.assert_array_equal(ours.to_vector(), theirs.to_vector())
    assert (balanced(y) != balanced(y_train)[0]).any()


def test_on_the_kernels_with_a_team(rare):
    X, y = rare
    want = trained(X, y, class_weight="balanced").to_vector()
    for threads in (1, 2):
        got = trained(X, y, backend="numba", class_weight="balanced", threads=threads)
        np.testing.assert_allclose(got.to_vector(), want, rtol=1e-9)


def test_chunks_take_a_dict(rare):
    X, y = rare
    chunks, fit = [(X[::2], y[::2]), (X[1::2], np.eye(3)[y[1::2]])], {"shuffle": False}
    order = np.r_[0:60:2, 1:60:2]
    ours = trained(chunks, class_weight={2: 4}, **fit)
    theirs = trained(X[order], y[order], class_weight={2: 4}, **fit)
    np.testing.assert_array_equal(ours.to_vector(), theirs.to_vector())
    with pytest.raises(TypeError, match=r"class_weight='balanced' needs X and y.* pass a dict"):
        trained(chunks, class_weight="balanced")


def test_steps_are_pytorch_s(rare):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency, nor of the tests")
    X, y = rare
    weights = {0: 0.5, 1: 2.0, 2: 7.0}
    net = Network([4, 5, 3], "tanh", dtype="float64", seed=0, backend="numpy", **MULTI)
    layers = [torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)]
    model = torch.nn.Sequential(*layers).double()
    with torch.no_grad():
        for layer, W, b in zip(layers[::2], net.weights, net.biases, strict=True):
            layer.weight.copy_(torch.from_numpy(W.copy()))
            layer.bias.copy_(torch.from_numpy(b.copy()))
    loss_of = torch.nn.CrossEntropyLoss(torch.tensor(list(weights.values()), dtype=torch.float64))
    theirs = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(10):
        for at in range(0, 60, 6):
            theirs.zero_grad()
            rows = slice(at, at + 6)
            loss_of(model(torch.from_numpy(X[rows])), torch.from_numpy(y[rows])).backward()
            theirs.step()
    net.fit(X, y, epochs=10, shuffle=False, class_weight=weights, **RATE)
    for layer, W, b in zip(layers[::2], net.weights, net.biases, strict=True):
        np.testing.assert_allclose(W, layer.weight.detach().numpy(), rtol=1e-9)
        np.testing.assert_allclose(b, layer.bias.detach().numpy(), rtol=1e-9)


def test_a_rare_class_is_found_more_often():
    """Breast cancer, of which one malignant tumour in 30 is kept."""
    sets = pytest.importorskip("sklearn.datasets")
    X, benign = sets.load_breast_cancer(return_X_y=True)
    test = np.arange(len(X)) % 2 == 1
    there = ~test & (benign == 1)
    there[np.flatnonzero(~test & (benign == 0))[::30]] = True
    found = {None: [], "balanced": []}
    for seed in range(3):
        for by_class, recalls in found.items():
            net = Network(
                [30, 10, 2], "relu", scale="standard", seed=seed, backend="numpy", **MULTI
            )
            net.fit(
                X[there], benign[there], epochs=20, batch_size=10, learning_rate=0.02,
                class_weight=by_class,
            )  # fmt: skip
            right = net.predict(X[test]) == benign[test]
            recalls.append([right[benign[test] == label].mean() for label in (0, 1)])
    plain, weighted = (np.mean(recalls, axis=0) for recalls in found.values())
    assert plain[0] < 0.4
    assert weighted[0] > 0.6
    assert weighted[1] > 0.98


def test_a_checkpoint_knows_them(rare, tmp_path):
    X, y = rare
    path = tmp_path / "state"
    trained(X, y, class_weight={1: 2}, epochs=1, checkpoint=path)
    whole = trained(X, y, class_weight={1: 2}, epochs=3)
    resumed = trained(X, y, class_weight={1: 2}, epochs=3, resume=path)
    np.testing.assert_array_equal(resumed.to_vector(), whole.to_vector())
    for other in ({1: 3}, "balanced", None):
        with pytest.raises(ValueError, match="is of a training with class_weight"):
            trained(X, y, class_weight=other, epochs=3, resume=path)


BAD = {
    "a list": ([1, 2, 3], TypeError, "class_weight must be 'balanced' or a dict"),
    "another name": ("auto", TypeError, "'balanced' or a dict such as .* got 'auto'"),
    "no class": ({3: 1}, ValueError, "must have classes, 0 to 2, as keys; got 3"),
    "a text": ({"a": 1}, ValueError, "classes, 0 to 2, as keys; got 'a'"),
    "a bool": ({True: 1}, ValueError, "as keys; got True"),
    "negative": ({0: -1}, ValueError, r"class_weight\[0\] must be .* at least 0; got -1"),
    "NaN": ({0: np.nan}, ValueError, r"class_weight\[0\] must be .*finite"),
    "all zero": (dict.fromkeys(range(3), 0), ValueError, "class_weight must be .* not all 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_refused(name, rare):
    by_class, error, message = BAD[name]
    with pytest.raises(error, match=message):
        trained(*rare, class_weight=by_class)


@pytest.mark.parametrize(
    ("sizes", "options", "y"),
    [
        ((4, 1), {"output": "identity"}, np.linspace(0, 1, 60)),
        ((4, 3), {"output": "identity"}, np.ones((60, 3))),
        ((4, 3), ONE, np.eye(3)[np.arange(60) % 3]),
        ((4, 1), ONE, np.full(60, 0.5)),
        ((4, 3), MULTI, np.full((60, 3), 1 / 3)),
    ],
)
def test_samples_of_no_single_class_are_refused(sizes, options, y, rare):
    for data in ((rare[0], y), ([(rare[0], y)],)):
        with pytest.raises(ValueError, match="class_weight needs one class for each sample"):
            trained(*data, sizes=sizes, options=options, class_weight={1: 2})
