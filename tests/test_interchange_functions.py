"""Activations, losses and dropout in files of other packages; own functions where they may be."""

import functools
import json
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

import fastbp
from cases import crossed
from fastbp import interchange, losses
from fastbp.errors import ModelFileError
from fastbp.interchange import operators
from fastbp.interchange.traced import traced
from fastbp.model import config

NEW = ["leaky_relu", "elu", "softplus", "silu", "gelu"]


def made(sizes=(5, 4, 6, 3), activation="relu", **options):
    net = fastbp.Network(sizes, activation, seed=1, **{"backend": "numpy", "init": 1.0, **options})
    for b in net.biases:
        b[...] = np.linspace(-0.7, 0.9, len(b))
    return net


def inputs_for(net, n=50):
    return np.random.default_rng(3).standard_normal((n, net.sizes[0])).astype(net.dtype) * 3


def run(ort, path, X):
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"X": X})[0]


def assert_same_network(found, expected):
    assert found.config == expected.config
    np.testing.assert_array_equal(found.to_vector(), expected.to_vector())


# -- ONNX ------------------------------------------------------------------------------------------


@crossed(
    activation=[*config.HIDDEN, ["gelu", "tanh"], ["silu", "elu"]], dtype=["float32", "float64"]
)
def test_onnx_computes_the_same_and_comes_back(
    onnx, ort, tmp_path, activation, dtype, assert_close
):
    output = activation if isinstance(activation, str) else activation[0]
    net = made(activation=activation, dtype=dtype, output=output, dropout=[0.5, 0.0])
    path = tmp_path / "net.onnx"
    interchange.write_onnx(net, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    X = inputs_for(net)
    found, expected = run(ort, path, X), net.feedforward(X)
    if "gelu" in (activation, *activation) and dtype == "float64":  # its Erf is in float32
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()
    else:
        assert_close(found, expected)
    assert_same_network(interchange.read(path, backend="numpy"), net)


@pytest.mark.parametrize(
    "loss", ["absolute", losses.Huber(0.25), losses.Quantile(0.9), losses.CrossEntropy(0.1)]
)
@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_the_loss_goes_along(onnx, tmp_path, loss, suffix):
    net, path = made(loss=loss, dropout=0.25), tmp_path / f"net{suffix}"
    (interchange.write_onnx if suffix == ".onnx" else interchange.write_torch)(net, path)
    assert_same_network(interchange.read(path, backend="numpy"), net)
    assert interchange.read(path, loss="quadratic").config["loss"] == "quadratic"


W = np.arange(6, dtype="float32").reshape(2, 3) / 7 - 0.3
ROOT2, HALF = np.float32(math.sqrt(2)), np.float32(0.5)
CONSTANTS = {
    "W": W, "root2": ROOT2, "half": HALF, "one": np.float32(1), "zero": np.float32(0),
    "leak": np.float32(0.01), "limit": np.float32(20), "third": np.float32(0.044715),
    "factor": np.float32(math.sqrt(2 / math.pi)), "three": np.float32(3),
    "pair": np.float32([1, 2]),
}  # fmt: skip
ERF = [("Div", ["z", "root2"], "d"), ("Erf", ["d"], "e"), ("Add", ["e", "one"], "p")]
# What other programs make of an activation of z: nodes of an operator, inputs, output, attributes.
WRITTEN = {
    "SiLU by PyTorch": ("silu", [("Sigmoid", ["z"], "s"), ("Mul", ["z", "s"], "a")]),
    "SiLU the other way round": ("silu", [("Sigmoid", ["z"], "s"), ("Mul", ["s", "z"], "a")]),
    "Swish": ("silu", [("Swish", ["z"], "a")]),
    "GELU by PyTorch": (
        "gelu", [*ERF, ("Mul", ["z", "p"], "m"), ("Mul", ["m", "half"], "a")],
    ),
    "GELU by Keras": ("gelu", [*ERF, ("Mul", ["z", "half"], "h"), ("Mul", ["h", "p"], "a")]),
    "Gelu": ("gelu", [("Gelu", ["z"], "a")]),
    "Gelu, exact": ("gelu", [("Gelu", ["z"], "a", {"approximate": "none"})]),
    "leaky ReLU": ("leaky_relu", [("LeakyRelu", ["z"], "a", {"alpha": 0.01})]),
    "leaky ReLU by Max": ("leaky_relu", [("Mul", ["z", "leak"], "l"), ("Max", ["l", "z"], "a")]),
    "leaky ReLU by Where": (
        "leaky_relu",
        [
            ("Mul", ["z", "leak"], "l"), ("Greater", ["z", "zero"], "g"),
            ("Where", ["g", "z", "l"], "a"),
        ],
    ),
    "ELU": ("elu", [("Elu", ["z"], "a")]),
    "softplus": ("softplus", [("Softplus", ["z"], "a")]),
    "softplus with a limit": (
        "softplus",
        [
            ("Greater", ["z", "limit"], "g"), ("Softplus", ["z"], "s"),
            ("Where", ["g", "z", "s"], "a"),
        ],
    ),
    "ReLU by Where": (
        "relu",
        [("GreaterOrEqual", ["z", "zero"], "g"), ("Where", ["g", "z", "zero"], "a")],
    ),
}  # fmt: skip
WRONG = {
    "another slope": (
        [("LeakyRelu", ["z"], "a", {"alpha": 0.2})], "LeakyRelu must have alpha 0.01; got 0.2",
    ),
    "another ELU": ([("Elu", ["z"], "a", {"alpha": 2.0})], "Elu must have alpha 1.0; got 2.0"),
    "GELU by tanh": ([("Gelu", ["z"], "a", {"approximate": "tanh"})], "Gelu must have approximate"),
    "GELU by its tanh": (
        [
            ("Pow", ["z", "three"], "c"), ("Mul", ["c", "third"], "t"), ("Add", ["z", "t"], "u"),
            ("Mul", ["u", "factor"], "v"), ("Tanh", ["v"], "w"), ("Add", ["w", "one"], "p"),
            ("Mul", ["z", "p"], "m"), ("Mul", ["m", "half"], "a"),
        ],
        "after layer 0 must make an activation that a Network has",
    ),
    "GELU without its half": (
        [*ERF, ("Mul", ["z", "p"], "a")], "after layer 0 must make an activation",
    ),
    "a branch that is left": (
        [("Sigmoid", ["z"], "s"), ("Mul", ["z", "s"], "a"), ("Add", ["a", "z"], "b")],
        "after layer 0 must make an activation",
    ),
    "two ends": (
        [("Sigmoid", ["z"], "s"), ("Relu", ["z"], "a"), ("Gemm", ["a", "V"], "y"),
         ("Add", ["y", "s"], "b")],
        "must be a chain; it has a branch",
    ),
    "rows in a branch": (
        [("Sigmoid", ["z"], "s"), ("Mul", ["z", "pair"], "t"), ("Mul", ["t", "s"], "a")],
        r"of an activation must have a number; got array 'pair' of shape \(2,\)",
    ),
    "an array from nowhere": (
        [("Sigmoid", ["z"], "s"), ("Mul", ["z", "none"], "a"), ("Mul", ["a", "s"], "b")],
        "must be a chain; node 'Mul' breaks it",
    ),
    "a name twice": (
        [("Sigmoid", ["z"], "s"), ("Mul", ["z", "s"], "s")], "must give its output a new name",
    ),
    "too few inputs": ([("Sigmoid", ["z"], "s"), ("Where", ["z", "s"], "a")], "must have 3 inputs"),
}  # fmt: skip


def graph_of(onnx, nodes, opset=17):
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    arrays = {**CONSTANTS, "V": np.eye(2, dtype="float32")}
    every = [("Gemm", ["x", "W"], "z", {"transB": 1}), *nodes]
    made = [
        helper.make_node(op, ins, [out], **(more[0] if more else {}))
        for op, ins, out, *more in every
    ]
    graph = helper.make_graph(
        made, "g",
        [helper.make_tensor_value_info("x", kind, (None, 3))],
        [helper.make_tensor_value_info(nodes[-1][2], kind, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    versions = {"opset_imports": [helper.make_opsetid("", opset)], "ir_version": 8}
    return helper.make_model(graph, **versions)


@pytest.mark.parametrize("case", WRITTEN)
def test_activations_of_several_operators_are_read(onnx, ort, tmp_path, case, assert_close):
    name, nodes = WRITTEN[case]
    opset = {"Swish": 24, "Gelu": 20}.get(case.partition(",")[0], 17)
    model, path = graph_of(onnx, nodes, opset), tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    net = interchange.read(path, backend="numpy")
    assert (net.config["output"], net.sizes) == (name, (3, 2))
    if opset < 24:
        X = np.random.default_rng(0).standard_normal((30, 3)).astype("float32") * 9
        session = ort.InferenceSession(model.SerializeToString())
        assert_close(net.feedforward(X), session.run(None, {"x": X})[0])


@pytest.mark.parametrize("case", WRONG)
def test_other_functions_are_one_clear_error(onnx, tmp_path, case):
    nodes, words = WRONG[case]
    opset = 20 if nodes[0][0] == "Gelu" else 17
    path = tmp_path / "a.onnx"
    path.write_bytes(graph_of(onnx, nodes, opset).SerializeToString())
    with pytest.raises(ModelFileError, match=words):
        interchange.read(path)


def test_all_that_is_written_is_known():
    """Both tables of expressions have the values of the reference."""
    for table in (operators.EXPRESSIONS, operators.DOUBLE):
        assert set(table) == set(config.OUTPUT) - {"identity", "softmax"}
        for name, expression in table.items():
            assert operators.recognised(operators.values(expression)) == name


# -- functions of one's own ------------------------------------------------------------------------


def steep(z):
    return math.tanh(2.0 * z) / 2.0


def steep_slope(z):
    return 1.0 - math.tanh(2.0 * z) ** 2


def helped(z):
    return 0.5 * steep(z) if z < 0 else z / (1.0 + abs(z))


def helped_slope(z):
    return 0.5 * steep_slope(z) if z < 0 else 1.0 / (1.0 + abs(z)) ** 2


STEEP = fastbp.Activation(steep, steep_slope)
# f, its slope, and whether ONNX has the operators.
OWN = {
    "tanh": (math.tanh, lambda z, a: 1.0 - a * a),
    "of math": (steep, steep_slope),
    "with a conditional": (helped, helped_slope),
    "of NumPy": (
        lambda z: np.where(z > 0, z, 0.2 * z), lambda z: np.where(z > 0, 1.0, 0.2),
    ),
    "by comparisons": (
        lambda z: (z > 1) * (z - 1.0) + min(z, 0.0), lambda z: 1.0 if z > 1 or z < 0 else 0.0,
    ),
    "by max of three": (
        lambda z: max(-1.0, min(z, 1.0), z / 10.0),
        lambda z: 1.0 if 0 <= z < 1 else 0.1 if z > 10 or -10 < z < 0 else 0.0,
    ),
    "log1p": (
        lambda z: math.log1p(z * z), lambda z: 2.0 * z / (1.0 + z**2),
    ),
    "erfc": (
        lambda z: -math.erfc(z), lambda z: 2.0 / math.sqrt(math.pi) * math.exp(-z * z),
    ),
}  # fmt: skip


@crossed(case=list(OWN), dtype=["float32", "float64"])
def test_own_activations_in_onnx(onnx, ort, tmp_path, case, dtype, assert_close):
    own = fastbp.Activation(*OWN[case], name="own")
    net, path = made(activation=["relu", own], dtype=dtype), tmp_path / "net.onnx"
    interchange.write_onnx(net, path)
    X = inputs_for(net)
    found, expected = run(ort, path, X), net.feedforward(X)
    if (case, dtype) == ("erfc", "float64"):
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()
    else:
        assert_close(found, expected)
    if case != "tanh":  # which is an activation of a Network
        assert_same_network(interchange.read(path, functions=[own], backend="numpy"), net)
    with pytest.raises(ModelFileError) if case != "tanh" else warnings.catch_warnings():
        interchange.read(path)


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda z: math.atan(z), "must be real number"),
        (lambda z: z * [1.0, 2.0][z > 0], "indices must be"),
        (lambda z: sum(z if z > k else 0.0 for k in range(12)), "more than 8 comparisons"),
        (lambda z: np.asarray([z, z])[0] * math.gamma(2 + z * 0), "must be real number"),
    ],
)
def test_own_activations_that_onnx_cannot_say(onnx, tmp_path, f, words):
    class Own:  # as `fastbp.Activation`, which some of these cannot be
        roles = (SimpleNamespace(call=f),)

        def value(self, z, out):
            out[...] = [f(x) for x in z]

        def __repr__(self):
            return "Activation(f, slope)"

    pattern = rf"^Activation\(f, slope\) cannot be written in ONNX, .*{words}.* must be made of \+"
    with pytest.raises(ValueError, match=pattern) as caught:
        traced(Own())
    assert "\n" not in str(caught.value)


def test_an_own_activation_that_onnx_cannot_say_is_in_no_file(onnx, tmp_path):
    own = fastbp.Activation(math.atan, lambda z: 1.0 / (1.0 + z * z))
    with pytest.raises(ValueError, match=r"^Activation\(atan, .*cannot be written in ONNX"):
        interchange.write_onnx(made(activation=own), tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_own_functions_of_a_state_dict(tmp_path):
    loss = fastbp.Loss(lambda a, y: (a - y) ** 2, lambda a, y: 2.0 * (a - y), "squares")
    net, path = made(activation=[STEEP, "gelu"], loss=loss), tmp_path / "net.safetensors"
    interchange.write_torch(net, path)
    both = interchange.read(path, functions=[STEEP, loss], backend="numpy")
    assert_same_network(both, net)
    with pytest.raises(ModelFileError, match=r"takes the function '.*:steep'.*functions=\["):
        interchange.read(path)
    given = interchange.read(path, activation=["relu", STEEP], loss="huber", output="identity")
    assert given.config["activation"] == ["relu", STEEP]
    with pytest.raises(ValueError, match=r"no module for Activation\(steep, steep_slope\)"):
        interchange.torch_code(net, path)


def test_an_own_loss_of_an_onnx_file(onnx, tmp_path):
    loss = fastbp.Loss(lambda a, y: (a - y) ** 2, lambda a, y: 2.0 * (a - y), "squares")
    net, path = made(loss=loss), tmp_path / "net.onnx"
    interchange.write_onnx(net, path)
    assert_same_network(interchange.read(path, functions=[loss], backend="numpy"), net)
    with pytest.raises(ModelFileError, match=r"takes the function '.*:squares'"):
        interchange.read(path)
    assert interchange.read(path, loss="absolute").config["loss"] == "absolute"


# -- PyTorch ---------------------------------------------------------------------------------------


def test_dropout_is_a_module_of_the_program(tmp_path):
    net, path = made((3, 4, 5, 2), ["silu", "relu"], dropout=[0.2, 0.0]), tmp_path / "a.safetensors"
    assert interchange.torch_code(net, "a.safetensors").splitlines()[1:] == [
        "model = torch.nn.Sequential(",
        "    torch.nn.Linear(3, 4), torch.nn.SiLU(), torch.nn.Dropout(0.2),",
        "    torch.nn.Linear(4, 5), torch.nn.ReLU(),",
        "    torch.nn.Linear(5, 2), torch.nn.Identity(),",
        ")",
        "model.load_state_dict(safetensors.torch.load_file('a.safetensors'))",
        "model.eval()  # no dropout",
    ]
    interchange.write_torch(net, path)
    assert sorted(safetensors.numpy.load_file(path)) == sorted(
        f"{place}.{part}" for place in (0, 3, 5) for part in ("weight", "bias")
    )
    assert_same_network(interchange.read(path, backend="numpy"), net)


def test_gaps_between_the_numbers_of_layers(tmp_path, assert_close):
    net = made((3, 4, 4, 4, 2), ["elu", "relu", "gelu"])
    arrays = {}
    for place, W, b in zip((1, 4, 7, 11), net.weights, net.biases, strict=True):
        arrays |= {f"{place}.weight": W.copy(), f"{place}.bias": b.copy()}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
    told = {"activation": ["elu", "relu", "gelu"], "loss": "quadratic"}
    found = interchange.read(tmp_path / "a.safetensors", **told, backend="numpy")
    assert_same_network(found, net)
    with pytest.raises(ModelFileError, match="an entry for each of the 3 hidden layers; got 2"):
        interchange.read(tmp_path / "a.safetensors", **told | {"activation": ["elu", "relu"]})
    with pytest.raises(ModelFileError, match=r"activation\[1\] must be one of .*got 'x'"):
        interchange.read(tmp_path / "a.safetensors", **told | {"activation": ["elu", "x", "elu"]})
    with pytest.raises(ValueError, match=r"^activation must be one of .*; got 3$"):
        interchange.read(tmp_path / "a.safetensors", **told | {"activation": 3})


BAD_TEXTS = {
    "a list of nothing known": ("activation", '["relu", "x"]', r"activation\[1\] must be one of"),
    "no JSON": ("activation", '["relu"', "its activation is damaged"),
    "deep": ("activation", "[" * 100_000, "its activation is damaged"),
    "no loss": ("loss", '{"name": "huber"}', "a loss with a setting must be .*huber with width"),
    "a width of nothing": ("loss", '{"name": "huber", "width": -1}', "width must be"),
    "no function": ("loss", '{"function": "os:system"}', "takes the function 'os:system'"),
    "a vast dropout": ("dropout", "3", "dropout must be"),
    "no dropout": ("dropout", '{"a": 1}', "dropout must be"),
    "by name": ("dropout", "half", "its dropout must be"),
    "nothing": ("loss", "", "its loss is damaged"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_metadata_are_not_trusted(tmp_path, case):
    key, text, words = BAD_TEXTS[case]
    path = tmp_path / "a.safetensors"
    interchange.write_torch(made(), path)
    told = {"format": "pt", "producer": "fastbp", "activation": "relu", "output": "identity"}
    told |= {"loss": "quadratic", key: text}
    safetensors.numpy.save_file(safetensors.numpy.load_file(path), path, told)
    with pytest.raises(ModelFileError, match=words) as caught:
        interchange.read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 400


def in_torch(net, path):
    interchange.write_torch(net, path)
    names = {}
    exec(interchange.torch_code(net, path), names)
    return names["model"]


@crossed(activation=[*config.HIDDEN, ["gelu", "tanh"]], dtype=["float32", "float64"])
def test_torch_computes_the_same(torch, tmp_path, activation, dtype, assert_close):
    net = made(activation=activation, dtype=dtype, dropout=[0.0, 0.5])
    model, X = in_torch(net, tmp_path / "a.safetensors"), inputs_for(net)
    with torch.no_grad():
        assert_close(model(torch.from_numpy(X)).numpy(), net.feedforward(X))


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("name", NEW)
def test_torch_s_exporters_are_read(torch, tmp_path, monkeypatch, name, dynamo, assert_close):
    pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # else it stays set
    nn = torch.nn
    kind = {"leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "softplus": nn.Softplus, "silu": nn.SiLU,
            "gelu": nn.GELU}[name]  # fmt: skip
    model = nn.Sequential(nn.Linear(3, 4), kind(), nn.Dropout(), nn.Linear(4, 2), nn.Tanh()).eval()
    X, path = torch.randn(20, 3) * 5, tmp_path / "a.onnx"
    free = {"dynamic_shapes": ({0: "batch"},)} if dynamo else {"dynamic_axes": {"x": {0: "batch"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (X,), path, dynamo=dynamo, input_names=["x"], **free)
    net = interchange.read(path, backend="numpy")
    assert (net.config["activation"], net.config["output"]) == (name, "tanh")
    with torch.no_grad():
        assert_close(net.feedforward(X.numpy()), model(X).numpy())


# -- scikit-learn ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sklearn():
    return pytest.importorskip(
        "sklearn.neural_network", reason="the extra sklearn is not installed"
    )


@pytest.mark.parametrize("activation", [*NEW, ["relu", "tanh"], STEEP])
def test_what_scikit_learn_has_not(sklearn, activation):
    net = made(activation=activation)
    shown = {"['relu', 'tanh']": "relu, tanh"}.get(str(activation), str(activation))
    with pytest.raises(
        ValueError, match=r"one activation of sigmoid, .* for scikit-learn"
    ) as caught:
        interchange.to_sklearn(net)
    assert str(caught.value).endswith(f"got {shown}")


def test_without_hidden_layers_no_activation_counts(sklearn, assert_close):
    net = made((3, 2), "gelu", loss="huber")
    X = inputs_for(net)
    assert_close(interchange.to_sklearn(net).predict(X), net.feedforward(X))


@pytest.mark.parametrize(
    "options",
    [
        {"activation": ["gelu", "logistic"], "loss": losses.Huber(0.5), "dropout": 0.2},
        {"activation": "silu", "loss": "absolute_error"},
        {"activation": STEEP, "loss": "quantile", "dropout": [0.0, 0.3]},
    ],
)
def test_our_estimators_come_over(sklearn, monkeypatch, options, assert_close):
    from fastbp import estimator

    slow = functools.partial(fastbp.Network, backend="numpy")
    monkeypatch.setattr("fastbp.estimator.perceptron.Network", slow)
    X = np.random.default_rng(0).standard_normal((40, 3))
    model = estimator.MLPRegressor(hidden_layer_sizes=[4, 5], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge
        model.fit(X, X[:, 0])
    net = interchange.from_sklearn(model)
    assert_close(net.feedforward(X)[:, 0], model.predict(X))
    assert net.config["dropout"] == options.get("dropout", 0.0)
    ours = {"absolute_error": "absolute"}
    assert net.config["loss"] == ours.get(options["loss"], options["loss"])
    assert json.dumps(net.config["activation"], default=str).count("logistic") == 0
