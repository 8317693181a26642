"""What users choose as activations, loss and dropout: its one form, in networks and in files."""

import copy
import hashlib
import json
import pickle
import re

import numpy as np
import pytest

import fastbp
from fastbp import ModelFileError, Network, callbacks, losses, lr_finder
from fastbp.cli import main
from fastbp.model import choices
from fastbp.model.config import Config
from fastbp.report import tables

DEEP, FLAT = [3, 5, 4, 2], [3, 2]
OPTIONS = {"epochs": 2, "batch_size": 4, "learning_rate": 0.01}


def softsign(z):
    return z / (1.0 + abs(z))


def softsign_slope(z):
    return 1.0 / (1.0 + abs(z)) ** 2


def cosh(a, y):
    return np.log(np.cosh(a - y)) - 0.5


def cosh_slope(a, y):
    return np.tanh(a - y)


SOFTSIGN = fastbp.Activation(softsign, softsign_slope)
CUBE = fastbp.Activation(lambda z: z * z * z, lambda z: 3.0 * z * z, name="cube")
COSH = fastbp.Loss(cosh, cosh_slope)
OWN = SOFTSIGN, CUBE, COSH


def network(sizes=DEEP, **options):
    return Network(sizes, **{"backend": "numpy", "seed": 0, **options})


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((20, 3)), rng.standard_normal((20, 2))


# --- One form each --------------------------------------------------------------------------------

FORMS = [
    ({"activation": ["relu", "relu"]}, {"activation": "relu"}),
    ({"activation": ("relu", "silu")}, {"activation": ["relu", "silu"]}),
    ({"activation": [SOFTSIGN] * 2}, {"activation": SOFTSIGN}),
    ({"activation": ["gelu", SOFTSIGN]}, {"activation": ["gelu", SOFTSIGN]}),
    ({"dropout": [0.3, 0.3]}, {"dropout": 0.3}),
    ({"dropout": (0, 0.5)}, {"dropout": [0.0, 0.5]}),
    ({"dropout": [0, 0.0]}, {"dropout": 0.0}),
    ({"loss": losses.Huber(1)}, {"loss": "huber"}),
    ({"loss": losses.Huber(2)}, {"loss": losses.Huber(2.0)}),
    ({"loss": losses.Quantile(0.5)}, {"loss": "quantile"}),
    ({"loss": losses.CrossEntropy()}, {"loss": "cross-entropy", "output": "softmax"}),
    ({"loss": COSH, "output": CUBE}, {"loss": COSH, "output": CUBE}),
    ({"sizes": FLAT, "activation": [], "dropout": []}, {"activation": "sigmoid", "dropout": 0.0}),
]


@pytest.mark.parametrize(("given", "kept"), FORMS, ids=[str(given) for given, _ in FORMS])
def test_each_choice_has_one_form(given, kept):
    net = network(**given)
    assert kept.items() <= net.config.items()
    again = Network(**net.config)
    assert again.config == net.config
    assert hash(again._config) == hash(net._config)


def test_what_is_derived_of_a_configuration():
    config = network(activation=["relu", CUBE], loss=losses.Huber(2), dropout=[0, 0.5])._config
    assert config.hidden == ("relu", CUBE)
    assert config.rates == (0.0, 0.5)
    assert (config.loss_name, config.setting, config.kind) == ("huber", 2.0, ("huber", "identity"))
    assert config.model()[1:3] == (("relu", CUBE, "identity"), "huber")
    assert config.model()[5:] == (2.0, (0.0, 0.5))
    plain = network()._config
    assert (plain.hidden, plain.rates, plain.setting) == (("sigmoid", "sigmoid"), (), None)
    own = network(loss=COSH, output=CUBE)._config
    assert (own.kind, own.own, own.model().loss) == (("own", "own"), (CUBE, COSH), COSH)
    assert network(FLAT, dropout=0.0)._config.hidden == ()


DEFAULTS = [
    ("sigmoid", "quadratic", "sigmoid"),
    (["sigmoid", "sigmoid"], "quadratic", "sigmoid"),
    (["tanh", "sigmoid"], "quadratic", "identity"),
    (["sigmoid", "tanh"], "quadratic", "identity"),
    ("silu", "quadratic", "identity"),
    ("sigmoid", "absolute", "identity"),
    ("sigmoid", "huber", "identity"),
    ("sigmoid", losses.Quantile(0.1), "identity"),
    ("sigmoid", COSH, "identity"),
    (SOFTSIGN, "quadratic", "identity"),
    ("gelu", losses.CrossEntropy(0.1), "softmax"),
    ("gelu", "poisson", "exp"),
]


@pytest.mark.parametrize(("activation", "loss", "output"), DEFAULTS, ids=str)
def test_the_default_output_suits_activations_and_loss(activation, loss, output):
    assert network(activation=activation, loss=loss).config["output"] == output


NAMES = "one of sigmoid, tanh, relu, identity, leaky_relu, elu, softplus, silu, gelu"
REFUSED = [
    ({"activation": ["relu"]}, ValueError, "activation must have an entry for each of the 2 hid"),
    ({"activation": ["relu"] * 3}, ValueError, "each of the 2 hidden layers; got 3: ['relu', 're"),
    ({"activation": ["relu", "swish"]}, ValueError, f"activation[1] must be {NAMES}; got 'swish'"),
    ({"activation": ["relu", ["tanh"]]}, ValueError, f"activation[1] must be {NAMES}; got ['tanh"),
    ({"activation": "exp"}, ValueError, f"activation must be {NAMES}; got 'exp'"),
    ({"activation": np.tanh}, TypeError, "or fastbp.Activation(f, slope); got <ufunc 'tanh'>"),
    ({"activation": fastbp.Activation}, TypeError, "activation must be an object, such as Activat"),
    ({"activation": COSH}, ValueError, "activation must be one of sigmoid"),
    ({"sizes": FLAT, "activation": ["relu"]}, ValueError, "the network has no hidden one; got 1"),
    ({"sizes": [3, 4, 2], "activation": []}, ValueError, "entry for the hidden layer; got 0: []"),
    ({"output": COSH}, ValueError, "output must be one of sigmoid"),
    ({"output": "exp", "loss": "huber"}, ValueError, f"output, with loss 'huber', must be {NAMES}"),
    ({"output": "softmax", "loss": losses.Huber(3)}, ValueError, "with loss 'huber (width 3)'"),
    ({"output": "softmax", "loss": COSH}, ValueError, f"with loss 'cosh', must be {NAMES}"),
    ({"output": CUBE, "loss": "poisson"}, ValueError, "with loss 'poisson', must be one of exp"),
    (
        {"loss": "mae"},
        ValueError,
        "loss must be one of quadratic, absolute, huber, quantile, cross",
    ),
    ({"loss": losses.Huber}, TypeError, "loss must be an object, such as Huber(...)"),
    ({"loss": SOFTSIGN}, ValueError, "loss must be one of quadratic"),
    ({"loss": cosh}, TypeError, "or fastbp.Loss(value, delta); got <function cosh"),
    ({"dropout": 1}, ValueError, "dropout must be a number from 0 to below 1; got 1"),
    ({"dropout": -0.1}, ValueError, "dropout must be a number from 0 to below 1; got -0.1"),
    ({"dropout": "0.5"}, ValueError, "dropout must be a number from 0 to below 1; got '0.5'"),
    ({"dropout": 1 - 1e-12}, ValueError, "dropout must be at most 1 - 2**-32"),
    ({"dropout": [0.1, np.nan]}, ValueError, "dropout[1] must be a number from 0 to below 1"),
    ({"dropout": [0.1]}, ValueError, "dropout must have an entry for each of the 2 hidden layers"),
    ({"sizes": FLAT, "dropout": 0.5}, ValueError, "dropout must be 0: the network has no hidden l"),
    ({"sizes": FLAT, "dropout": [0.5]}, ValueError, "the network has no hidden one; got 1: [0.5]"),
]


def _name(value):
    """Return what names a test: the same in each process."""
    return re.sub(" at 0x[0-9a-f]+", "", str(value))[:60]


@pytest.mark.parametrize(("options", "error", "part"), REFUSED, ids=_name)
def test_what_fits_no_network_is_named(options, error, part):
    with pytest.raises(error) as caught:
        network(**options)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


# --- In words -------------------------------------------------------------------------------------


def test_it_says_what_it_is():
    net = network(activation=["relu", CUBE], loss=losses.Huber(2), dropout=[0, 0.5])
    assert repr(net) == (
        "Network([3, 5, 4, 2], activation=['relu', Activation(lambda, lambda, name='cube')], "
        "output='identity', loss=Huber(width=2.0), bias=True, dtype='float32', backend='numpy', "
        "dropout=[0.0, 0.5])"
    )
    lines = str(net.summary()).splitlines()
    assert lines[0] == "huber (width 2) loss, float32, backend numpy"
    found = [line.split("  ") for line in lines[4:7]]
    words = [[part.strip() for part in line if part][3] for line in found]
    assert words == ["relu", "cube, dropout 0.5", "identity"]


def test_a_report_says_what_it_is():
    rows = tables.configuration(network(activation=["relu", CUBE], loss=losses.Huber(2)))
    assert (rows["hidden activation"], rows["loss"]) == ("relu - cube", "huber (width 2)")
    rows = tables.configuration(network(dropout=0.5, loss=COSH))
    assert (rows["hidden activation"], rows["loss"]) == ("sigmoid, dropout 0.5", "cosh")
    assert tables.configuration(network(FLAT))["hidden activation"] == "no hidden layer"


# --- Files, copies --------------------------------------------------------------------------------

KINDS = {
    "plain": ({}, 1),
    "equal entries": ({"activation": ["tanh"] * 2, "dropout": [0, 0]}, 1),
    "scale": ({"scale": ([1, 2, 3], [1, 1, 1])}, 2),
    "activation": ({"activation": "elu"}, 3),
    "activations": ({"activation": ["tanh", "sigmoid"]}, 3),
    "output": ({"output": "softplus"}, 3),
    "loss": ({"loss": "absolute"}, 3),
    "setting": ({"loss": losses.Quantile(0.25)}, 3),
    "smoothing": ({"loss": losses.CrossEntropy(0.1), "scale": ([1, 2, 3], [1, 1, 1])}, 3),
    "dropout": ({"dropout": [0.25, 0.5]}, 3),
    "own activation": ({"activation": [SOFTSIGN, "tanh"], "output": CUBE}, 3),
    "own loss": ({"loss": COSH, "dropout": 0.5}, 3),
}


def header(path):
    blob = path.read_bytes()
    return json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])["__metadata__"]


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_copies_hold_it(kind, tmp_path):
    options, version = KINDS[kind]
    net, path = network(**options), tmp_path / "net.safetensors"
    net.save(path)
    assert header(path)["format_version"] == str(version)
    loaded = fastbp.load(path, "numpy", functions=OWN)
    for other in (loaded, copy.deepcopy(net), *([] if CUBE in net._config.own else [pickled(net)])):
        assert other.config == net.config
        X, y = data()
        y = np.abs(y) if "smoothing" in kind else y
        assert other.loss(X, y) == net.loss(X, y)
    again = tmp_path / "again.safetensors"
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()


def pickled(net):
    return pickle.loads(pickle.dumps(net))


def test_files_of_networks_that_use_nothing_new_are_as_they_were(tmp_path):
    layers = [([[1, 2], [3, 4], [5, 6]], [7, 8, 9]), ([[1, 2, 3], [4, 5, 6]], None)]
    digests = {
        None: "0295c2e3e6c2800d4437f50d4e3b1568a6cac29e5d46d5b9ae8eb802f2b1e75f",
        ((1, 2), (3, 4)): "43396eac148a14cc8cb4b4d45c1c8f1bec8ef548b46dbd1d3b6726ecdea014b7",
    }
    for scale, digest in digests.items():
        net = network(
            [2, 3, 2], activation=["tanh"], loss="cross-entropy", dtype="float64", init=layers,
            scale=scale,
        )  # fmt: skip
        net.save(tmp_path / "net.safetensors")
        found = hashlib.sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest()
        assert found == digest


def test_states_of_older_versions_are_restored():
    net = network(activation="tanh")
    state = net.__getstate__()
    del state["config"]["dropout"], state["config"]["scale"]
    old = Network.__new__(Network)
    old.__setstate__(state)
    assert old.config == net.config
    assert (old.to_vector() == net.to_vector()).all()


# Another function of the same name, as of a module that another program imports.
TWIN = fastbp.Activation(lambda z: z * z, lambda z: 2.0 * z, name="cube")
UNNAMED = [
    ((), f"it takes the function '{__name__}:softsign', which a file only names: pass it to"),
    ((CUBE, COSH), f"'{__name__}:softsign', which a file only names: pass it to fastbp.load, f"),
    ((SOFTSIGN, COSH), f"the function '{__name__}:cube'"),
    ((SOFTSIGN, CUBE), f"the function '{__name__}:cosh', .* functions=.fastbp.Loss.value, delta"),
    ((*OWN, TWIN), f"the function '{__name__}:cube', which a file only names: pass one of that"),
]


@pytest.mark.parametrize(("functions", "part"), UNNAMED, ids=lambda x: str(x)[:40])
def test_functions_of_ones_own_are_asked_for(functions, part, tmp_path):
    path = tmp_path / "net.safetensors"
    network(activation=[SOFTSIGN, "relu"], output=CUBE, loss=COSH).save(path)
    with pytest.raises(ModelFileError, match=part) as caught:
        fastbp.load(path, "numpy", functions)
    assert str(caught.value).startswith(f"{path}: it takes")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["info", "evaluate", "predict", "report", "plot confusion"])
def test_commands_end_with_a_line_where_a_function_is_needed(command, tmp_path, capsys):
    path = tmp_path / "net.safetensors"
    network([64, 3, 10], activation=CUBE).save(path)
    data = [] if command == "info" else ["--data", "digits"]
    assert main([*command.split(), str(path), *data]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"fastbp: error: {path}: it takes the function '{__name__}:cube'")
    assert said.err.count("\n") == 1


def test_a_function_of_another_module_is_known_by_its_name(tmp_path):
    path = tmp_path / "net.safetensors"
    network(activation=CUBE).save(path)
    path.write_bytes(path.read_bytes().replace(b"test_choices:cube", b"__main__1234:cube"))
    assert fastbp.load(path, "numpy", [SOFTSIGN, CUBE]).config["activation"] is CUBE


def test_a_function_of_the_same_module_comes_before_others_of_its_name(tmp_path):
    def elsewhere(z):
        return z * z

    elsewhere.__module__ = "elsewhere"
    other = fastbp.Activation(elsewhere, lambda z: 2.0 * z, name="cube")
    path = tmp_path / "net.safetensors"
    for one, two in ((CUBE, other), (other, CUBE)):
        network(activation=one).save(path)
        assert fastbp.load(path, "numpy", [one, two]).config["activation"] is one
        assert fastbp.load(path, "numpy", [two, one]).config["activation"] is one


@pytest.mark.parametrize(
    ("functions", "part"),
    [
        (CUBE, "functions must be a sequence"),
        ([losses.Huber()], r"functions must hold objects made by fastbp.Activation.*got Huber"),
        ([fastbp.Loss], "functions must hold objects"),
        ([softsign], "functions must hold objects"),
        ("cube", "functions must hold objects .* got 'c'"),
    ],
)
def test_what_is_no_function_of_ones_own_is_refused(functions, part, tmp_path):
    path = tmp_path / "net.safetensors"
    network().save(path)
    with pytest.raises(TypeError, match=part):
        fastbp.load(path, "numpy", functions)


def test_functions_that_files_cannot_tell_apart_are_refused(tmp_path):
    one, other = (fastbp.Activation(softsign, softsign_slope, name="one"), TWIN)
    same = fastbp.Activation(lambda z: z * z, lambda z: 2.0 * z, name="one")
    path = tmp_path / "net.safetensors"
    network(activation=[one, other]).save(path)
    with pytest.raises(ValueError, match=f"several functions '{__name__}:one': give each a name"):
        network(activation=[one, same]).save(tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


WRONG = [
    ({"activation": {"name": "relu"}}, "a loss with a setting must be"),
    ({"activation": {"function": ["os", "system"]}}, "it takes the function \"['os', 'system']\""),
    ({"activation": [{"function": "os:system"}, "relu"]}, "the function 'os:system', which"),
    ({"activation": ["relu"] * 3}, "each of the 2 hidden layers"),
    ({"activation": ["relu", ["relu"]]}, "activation[1] must be one of"),
    ({"activation": {"function": "x:cosh"}}, "the function 'x:cosh'"),  # that of a loss
    ({"loss": {"name": "huber", "width": -1}}, "width must be a positive number"),
    ({"loss": {"name": "huber", "width": 1, "q": 0.5}}, "a loss with a setting must be"),
    ({"loss": {"name": ["huber"]}}, "a loss with a setting must be"),
    ({"loss": [{"name": "huber", "width": 2}]}, "loss must be one of"),
    ({"dropout": [0.5]}, "dropout must have an entry"),
    ({"dropout": {"p": 0.5}}, "dropout must be a number"),
    ({"dropouts": 0.5}, "unexpected keyword argument 'dropouts'"),
]


@pytest.mark.parametrize(("changes", "part"), WRONG, ids=lambda x: str(x)[:50])
def test_files_that_describe_no_network_are_refused(changes, part, tmp_path):
    path = tmp_path / "net.safetensors"
    net = network()
    config = net._config.in_file() | changes
    arrays = zip(net._config.shapes(), (*net.weights, *net.biases), strict=True)
    fastbp.model.file.write(path, dict(arrays), config, version=3)
    with pytest.raises(ModelFileError) as caught:
        fastbp.load(path, "numpy", OWN)
    assert part in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


# --- Training -------------------------------------------------------------------------------------

OTHERS = [
    ({"activation": ["tanh", "silu"]}, "network activation .*; here it is .'tanh', 'silu'"),
    ({"activation": "tanh"}, r"network activation \[.*'relu'\]; here it is 'tanh'"),
    ({"loss": "huber"}, "network loss .*'width': 2.0.; here it is 'huber'"),
    ({"loss": losses.Huber(3)}, "network loss .*'width': 2.0.; here it is .*'width': 3.0"),
    ({"dropout": 0.0}, r"network dropout \[0.25, 0.5\]; here it is 0.0"),
    ({"output": SOFTSIGN}, "network output .*cube.*; here it is .*softsign"),
    ({"output": TWIN}, "other functions"),
]


@pytest.fixture
def kept():
    return {"activation": ["tanh", "relu"], "loss": losses.Huber(2), "output": CUBE,
            "dropout": [0.25, 0.5]}  # fmt: skip


@pytest.mark.parametrize(("change", "part"), OTHERS, ids=lambda x: str(x)[:40])
def test_a_checkpoint_of_another_network_is_refused(change, part, kept, tmp_path):
    path, (X, y) = tmp_path / "run", data()
    network(**kept).fit(X, y, **OPTIONS, checkpoint=path)
    assert header(path)["format_version"] == "3"
    with pytest.raises(ValueError, match=f"run is of a training with {part}") as caught:
        network(**kept | change).fit(X, y, **OPTIONS, resume=path)
    assert "\n" not in str(caught.value)


def test_a_training_is_gone_on_from(kept, tmp_path):
    path, (X, y) = tmp_path / "run", data()
    whole, part, rest = (network(**kept) for _ in range(3))
    whole.fit(X, y, **OPTIONS)
    part.fit(X, y, **OPTIONS | {"epochs": 1}, checkpoint=path)
    rest.fit(X, y, **OPTIONS, resume=path)
    assert (rest.to_vector() == whole.to_vector()).all()


def test_targets_beyond_the_output_are_warned_of(backend):
    X, y = data()
    net = network(output="sigmoid", loss="huber", backend="numpy")
    with pytest.warns(UserWarning, match="targets out of reach: output 'sigmoid' is from 0 to 1"):
        net.fit(X, y, **OPTIONS)


def test_a_loss_below_zero_is_no_divergence():
    X, y = data()
    net = network(activation="tanh", loss=COSH)
    net.fit(X, net.feedforward(X), **OPTIONS)
    assert net.loss(X, net.feedforward(X)) == pytest.approx(-1.0)  # of two outputs
    stop, history = callbacks.StopOnDivergence(), fastbp.History()
    stop.on_fit_begin(net, history)
    for loss, stopped in ((-0.9, False), (-1.0, False), (0.5, False), (8.1, True)):
        history.loss.append(loss)
        stop.on_epoch_end(net, history)
        assert bool(history.stopped) == stopped
    assert lr_finder._least(net, y) == pytest.approx(-1.0)


# --- Derived --------------------------------------------------------------------------------------


def test_outputs_of_each_loss():
    assert choices.outputs("cross-entropy") == ("softmax", "sigmoid")
    assert choices.outputs("huber") == choices.outputs("own") == choices.HIDDEN
    assert choices.outputs("quadratic") == (*choices.HIDDEN, "softmax")


def test_arguments_as_json_are_those_of_the_same_network():
    net = network(activation=[CUBE, "relu"], loss=losses.Quantile(0.1), dropout=0.5)
    text = json.dumps(choices.in_file(net.config))
    found = choices.from_file(json.loads(text), OWN)
    assert Config.checked(**found) == net._config
