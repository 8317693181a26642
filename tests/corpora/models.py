"""Models, state_dicts and checkpoints that are whole safetensors files, and wrong all the same."""

import json

import numpy as np

from corpora import MIB
from corpora.checkpoints import DAMAGED, WRONG, file_of, metadata, tensor
from fastbp import Network

CONFIG = {**Network([3, 2], seed=0).config}


def model(arrays=None, config=None, more=None, **changes):
    """A model file that is right but for what is changed."""
    config = {**CONFIG, **(config or {}), **changes}
    arrays = arrays or {"layers.0.weight": np.ones((2, 3), "f4"), "layers.0.bias": np.ones(2, "f4")}
    return state(arrays, metadata(config=json.dumps(config), **(more or {})))


def state(arrays, said=None):
    header, data = {"__metadata__": said or {}}, b""
    for name, array in arrays.items():
        kind = {"f4": "F32", "f8": "F64"}[array.dtype.str[1:]]
        places = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": places}
        data += array.tobytes()
    return file_of(header, data)


def nested(depth):
    return [nested(depth - 1)] if depth else 0.5


def weights(value):
    array = np.ones((2, 3), "f4")
    array[1, 2] = value
    return {"layers.0.weight": array, "layers.0.bias": np.ones(2, "f4")}


def scaled(mean, deviation):
    return weights(1) | {"inputs.mean": mean, "inputs.deviation": deviation}


MODELS = {
    **DAMAGED,
    **{
        title: file_of(header, bytes(header["a"]["data_offsets"][1]))
        for title, (header, _) in WRONG.items()
    },
    "NaN weights": model(weights(np.nan)),
    "infinite weights": model(weights(-np.inf)),
    "sizes of terabytes": model(sizes=[10**6, 10**6]),
    "sizes beyond 64 bits": model(sizes=[2**64, 2**64]),
    "sizes that overflow": model(sizes=[2**32, 2**32]),
    "a hundred thousand layers": model(sizes=[1] * 100_000),
    "sizes of bools": model(sizes=[True, True]),
    "sizes of text": model(sizes="32"),
    "no sizes": model(sizes=[]),
    "negative sizes": model(sizes=[3, -2]),
    "unknown words": model(words=1),
    "a list for an activation": model(activation=["relu"]),
    "a function that is code": model(activation={"function": "os:system"}, sizes=[3, 2]),
    "a function of no name": model(loss={"function": {"function": ["x"]}}),
    "a loss that is code": model(loss={"name": "__import__('os').system('true')", "width": 1}),
    "a loss of infinite width": model(loss={"name": "huber", "width": 1e300}),
    "a loss with a list for a width": model(loss={"name": "huber", "width": [1]}),
    "dropout without a hidden layer": model(dropout=0.5),
    "dropout of each neuron": model(dropout=1),
    **{f"dropout in {n} lists": model(dropout=nested(n)) for n in (2, 100, 900)},
    "an activation of another kind": model(activation="__import__('os').system('true')"),
    "scale NaN": model(input_scale="nan"),
    "columns scaled in another way": model(scale="minmax"),
    "columns scaled by numbers": model(scale=[[0, 0, 0], [1, 1, 1]]),
    "columns scaled by too few": model(scaled(np.zeros(2), np.ones(2)), scale="standard"),
    "columns scaled by NaN": model(scaled(np.full(3, np.nan), np.ones(3)), scale="standard"),
    "columns scaled below zero": model(scaled(np.zeros(3), -np.ones(3)), scale="standard"),
    "columns scaled beside a factor": model(scale="standard", input_scale=0.5),
    "scale beyond all": file_of({"__metadata__": metadata(config='{"input_scale": 1e999}')}),
    "dtype of objects": model(dtype="object"),
    "float64 said, float32 held": model(dtype="float64"),
    "bias that is no bool": model(bias=2),
    "transposed": model(
        {"layers.0.weight": np.ones((3, 2), "f4"), "layers.0.bias": np.ones(2, "f4")}
    ),
    "one array too many": model(weights(1) | {"extra": np.ones(1, "f4")}),
    "one array too few": model({"layers.0.weight": np.ones((2, 3), "f4")}),
    "names like paths": model({"../../layers.0.weight": np.ones((2, 3), "f4")}),
    "ten thousand arrays": state({f"{k}": np.ones(1, "f4") for k in range(10_000)}, metadata()),
    "notes that are no object": model(more={"notes": "5"}),
    "notes of text without end": model(more={"notes": '{"classes": ["' + "x" * MIB}),
    "notes deep in lists": model(more={"notes": '{"a": ' + "[" * 99_999}),
    "notes deep in objects": model(more={"notes": '{"a":' * 99_999}),
    "notes of many digits": model(more={"notes": '{"a": ' + "9" * 5000 + "}"}),
    "config deep in lists": file_of({"__metadata__": metadata(config="[" * MIB)}),
    "config deep in objects": file_of({"__metadata__": metadata(config='{"a":' * 99_999)}),
}  # fmt: skip
STATES = {
    **DAMAGED,
    "a model of ours": model(),
    "NaN weights": state({"1.weight": np.full((2, 2), np.nan, "f4")}),
    "no arrays": state({}),
    "an empty matrix": state({"1.weight": np.ones((0, 2), "f4")}),
    "vast, yet empty": file_of({"1.weight": tensor(shape=(0, 2**62), end=0)}),
    "a cube": state({"1.weight": np.ones((2, 2, 2), "f4")}),
    "no chain": state({"1.weight": np.ones((2, 3), "f4"), "2.weight": np.ones((2, 3), "f4")}),
    "two numbers in a name": state(
        {"1.2.weight": np.ones((2, 2), "f4"), "2.1.weight": np.ones((2, 2), "f4")}
    ),
    "ten thousand layers that do not fit": state(
        {f"{k}.weight": np.ones((k % 2 + 1, 3), "f4") for k in range(10_000)}
    ),
    "an output that is code": state(
        {"1.weight": np.ones((2, 2), "f4")},
        {"producer": "fastbp", "loss": "cross-entropy", "output": "__import__('os')"},
    ),
    "a matrix of a thousand names": state(
        {"0.weight": np.ones((2, 2), "f4")}, {f"{k}.weight": "0.weight" for k in range(1, 1000)}
    ),
}


def trainings(genuine):
    """Checkpoints of a training, each like the genuine one but for one thing."""
    size = int.from_bytes(genuine[:8], "little")
    header = json.loads(genuine[8 : 8 + size])
    said = header["__metadata__"]

    def changed(old, new):
        assert old in said["config"], old
        config = said["config"].replace(old, new, 1)
        return file_of({**header, "__metadata__": {**said, "config": config}}, genuine[8 + size :])

    yield "a model", model()
    yield "nothing but metadata", file_of({"__metadata__": said})
    for title, old, new in (
        ("epochs of the end of time", '"done": 1', f'"done": {2**52}'),
        ("more epochs than numbers", '"done": 1', f'"done": {"9" * 4000}'),
        ("an epoch and a half", '"done": 1', '"done": 1.5'),
        ("a position far beyond", '"position": 0', f'"position": {2**62}'),
        ("a position of many digits", '"position": 0', f'"position": {"9" * 4000}'),
        ("a position before", '"position": 0', '"position": -2'),
        ("a batch of nothing", '"batch_size": 2', '"batch_size": 0'),
        ("a batch of half a mebibyte", '"batch_size": 2', f'"batch_size": "{"x" * (MIB // 2)}"'),
        ("another generator", '"PCG64"', '"SFC64"'),
        ("a generator that is code", '"PCG64"', '"__import__"'),
        ("a vast state", '"state": {"state": ', '"state": {"state": ' + "9" * 400),
        ("seconds that are NaN", '"seconds": ', '"seconds": "nan", "_": '),
        ("seconds beyond all", '"seconds": ', '"seconds": 1e999, "_": '),
        ("a reason that is a list", '"stopped": ""', '"stopped": [[]]'),
        ("deep facts", '"facts": {', '"facts": ' + "[" * 50_000),
        ("facts of half a mebibyte", '"facts": {', '"facts": {"' + "x" * (MIB // 2) + '": 1, '),
    ):
        yield title, changed(old, new)
