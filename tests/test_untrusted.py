"""Files of strangers: attacks on every reader, in a process with a limit on its address space.

IDX, npz and pickle have their corpus in test_datasets.py, damaged safetensors theirs in
test_checkpoint.py; here are those of networks, ONNX, CSV, histories and npy, and all of them meet
the readers as `scripts/fuzz_readers.py` calls them: any error but the documented ones fails, and so
does a process started, a socket opened, a file changed, or code run.
"""

import json
import os
import runpy
import struct
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from fastbp import Network

ROOT = Path(__file__).resolve().parents[1]
FUZZER = ROOT / "scripts" / "fuzz_readers.py"
MIB = 1 << 20
pytest.importorskip("resource", reason="this system has no limits on address space")
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="no word of how much address space is used"
)
fuzzer = runpy.run_path(str(FUZZER), run_name="fuzzer")
checkpoints = runpy.run_path(str(ROOT / "tests" / "test_checkpoint.py"), run_name="corpus")
file_of, metadata, tensor = (checkpoints[name] for name in ("file_of", "metadata", "tensor"))


# -- networks in safetensors -----------------------------------------------------------------------

CONFIG = {**Network([3, 2], seed=0).config}


def model(arrays=None, config=None, **changes):
    """A model file that is right but for what is changed."""
    config = {**CONFIG, **(config or {}), **changes}
    arrays = arrays or {"layers.0.weight": np.ones((2, 3), "f4"), "layers.0.bias": np.ones(2, "f4")}
    return state(arrays, metadata(config=json.dumps(config)))


def state(arrays, said=None):
    header, data = {"__metadata__": said or {}}, b""
    for name, array in arrays.items():
        kind = {"f4": "F32", "f8": "F64"}[array.dtype.str[1:]]
        places = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": places}
        data += array.tobytes()
    return file_of(header, data)


def weights(value):
    array = np.ones((2, 3), "f4")
    array[1, 2] = value
    return {"layers.0.weight": array, "layers.0.bias": np.ones(2, "f4")}


MODELS = {
    **checkpoints["DAMAGED"],
    **{
        title: file_of(header, bytes(header["a"]["data_offsets"][1]))
        for title, (header, _) in checkpoints["WRONG"].items()
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
    "an activation of another kind": model(activation="__import__('os').system('true')"),
    "scale NaN": model(input_scale="nan"),
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
    "config deep in lists": file_of({"__metadata__": metadata(config="[" * MIB)}),
    "config deep in objects": file_of({"__metadata__": metadata(config='{"a":' * 99_999)}),
}  # fmt: skip
STATES = {
    **checkpoints["DAMAGED"],
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
    "an activation that is code": state(
        {"1.weight": np.ones((2, 2), "f4")}, {"activation": "__import__('os')", "loss": "x"}
    ),
}


# -- ONNX ------------------------------------------------------------------------------------------


def graph(tensor_of=lambda t: None, nodes=None, count=1):
    """An ONNX model of one layer, of which the weights, or the nodes, are changed."""
    onnx = pytest.importorskip("onnx")
    make, kinds = onnx.helper, onnx.TensorProto
    W = onnx.numpy_helper.from_array(np.ones((2, 3), "f4"), "W")
    tensor_of(W)
    nodes = nodes(make) if nodes else [make.make_node("Gemm", ["X", "W"], ["out"], transB=1)]
    shape = ["batch", 3]
    body = make.make_graph(
        nodes, "attack",
        [make.make_tensor_value_info("X", kinds.FLOAT, shape)],
        [make.make_tensor_value_info("out", kinds.FLOAT, ["batch", 2])],
        [W] * count,
    )  # fmt: skip
    return make.make_model(body).SerializeToString()


def sets(**fields):
    def change(tensor):
        for name, value in fields.items():
            if name == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)
            else:
                setattr(tensor, name, value)

    return change


def elsewhere(tensor):
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="/etc/passwd")


def as_floats(tensor):
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0] * 5)


def chain(make, operator="Identity", count=20_000):
    names = ["X", *map(str, range(count)), "out"]
    return [make.make_node(operator, [a], [b]) for a, b in pairwise(names)]


def nested(depth):
    """A message in a message in a message: an attribute that is a graph, of nodes with one."""
    blob = b""
    for field in (b"\x0a", b"\x2a", b"\x32") * depth:  # node, attribute, graph
        length, size = b"", len(blob)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        blob = field + length + bytes([size]) + blob
    return b"\x3a\x80\x80\x04" + blob


def graphs():
    nan = np.full(6, np.nan, "f4").tobytes()
    yield "nothing", b""
    yield "text", b"import os"
    yield "a length of exabytes", b"\x3a" + b"\xff" * 8 + b"\x7f"
    yield "a length of 2 GiB", b"\x3a\xff\xff\xff\xff\x07" + bytes(64)
    yield "deep graphs", nested(5_000)
    yield "an unclosed group", b"\x0b" * 10_000
    yield "terabytes", graph(sets(dims=[2**20, 2**20]))
    yield "an overflow", graph(sets(dims=[2**32, 2**32]))
    yield "an overflow to the right size", graph(sets(dims=[2**62 + 2, 3]))
    yield "the largest", graph(sets(dims=[2**63 - 1, 1]))
    yield "negative", graph(sets(dims=[-2, -3]))
    yield "unknown", graph(sets(dims=[-1, 3]))
    yield "no rows", graph(sets(dims=[0, 3], raw_data=b""))
    yield "a thousand axes", graph(sets(dims=[1] * 1000))
    yield "too little data", graph(sets(raw_data=bytes(20)))
    yield "too much data", graph(sets(raw_data=bytes(MIB)))
    yield "NaN weights", graph(sets(raw_data=nan))
    yield "strings", graph(sets(data_type=8))
    yield "complex", graph(sets(data_type=14))
    yield "no such type", graph(sets(data_type=99))
    yield "another file", graph(elsewhere)
    yield "five floats for six", graph(as_floats)
    yield "the same name thrice", graph(count=3)
    yield "twenty thousand nodes of nothing", graph(nodes=chain)
    yield "a loop", graph(nodes=lambda make: [make.make_node("Gemm", ["out", "W"], ["out"])])
    yield "an operator of Python's", graph(nodes=lambda m: [m.make_node("PyOp", ["X"], ["out"])])
    whole = graph()
    for end in range(1, len(whole), 7):
        yield f"cut off after {end}", whole[:end]


# -- tables, histories, rates, npy -----------------------------------------------------------------

ROWS = b"\n1,0\n2,1\n3,0\n4,1\n5,0"
TABLES = {
    "nothing": b"",
    "a header alone": b"a,class\n",
    "NUL bytes": b"\0" * 1000,
    "a NUL among numbers": b"a,class\n1\0,0" + ROWS,
    "no text": bytes(range(256)) * 40,
    "UTF-16": "a,class\n1,0".encode("utf-16"),
    "packed": bytes.fromhex("1f8b0800") + bytes(100),
    "a quote that is never closed": b'a,class\n"1,0' + ROWS * 1000,
    "a name of a mebibyte": b"a" * MIB + b",klass" + ROWS,
    "fifty thousand columns of nothing": b"," * 50_000 + ROWS,
    "as many, in an old Macintosh's lines": b"a,class\r1,0\r" + b"," * 50_000 + b"\r",
    "a line longer than the header": b"a,class\n1,0,1" + ROWS,
    "the same name twice": b"a,a,class\n1,2,0" + ROWS,
    "a value of a mebibyte": b"a,class\n" + b"9" * MIB + b",0" + ROWS,
    "a text of a mebibyte": b"a,class\n" + b"x" * MIB + b",0" + ROWS,
    "a number beyond all": b"a,class\n1e999,0" + ROWS,
    "NaN": b"a,class\nnan,0" + ROWS,
    "infinity": b"a,class\n-inf,0" + ROWS,
    "a formula": b"a,class\n=cmd|'/c calc'!A0,0" + ROWS,
    "code": b"a,class\n__import__('os').system('true'),0" + ROWS,
    "complex numbers": b"a,class\n1+2j,0" + ROWS,
    "dates": b"a,class\n2020-01-01,0" + ROWS,
    "a class of millions": b"a,class\n" + b"1,9999999\n" * 6,
    "a class beyond 64 bits": b"a,class\n" + b"1,99999999999999999999\n" * 6,
    "a class below zero": b"a,class\n" + b"1,-1\n" * 6,
    "a class and a half": b"a,class\n" + b"1,0.5\n" * 6,
    "no classes": b"a,b\n1,2\n",
    "half a mebibyte of line ends": b"\n" * (MIB // 2),
    "half a mebibyte of commas": b"a,class\n" + b"," * (MIB // 2),
}
HISTORIES = {
    "nothing": b"",
    "no JSON": b"loss: 1\n",
    "deep": b'{"loss": ' + b"[" * 500_000 + b"\n",
    "deep objects": b'{"loss": ' * 100_000 + b"\n",
    "a line without end": b" " * (2 * MIB),
    "a list": b"[1]\n",
    "no loss": b"{}\n",
    "a loss of five thousand digits": b'{"loss": ' + b"9" * 5000 + b"}\n",
    "a loss beyond floats": b'{"loss": ' + b"9" * 400 + b"}\n",
    "a loss of text": b'{"loss": "' + b"1" * 1000 + b'"}\n',
    "a loss that is true": b'{"loss": true}\n',
    "norms of another kind": b'{"loss": 1, "deltas": {"a": 1}}\n',
    "norms in norms": b'{"loss": 1, "deltas": [[1]]}\n',
    "uneven": b'{"loss": 1, "deltas": [1]}\n{"loss": 1, "deltas": [1, 2]}\n',
    "no UTF-8": b'{"loss": 1, "\xff": 2}\n',
    "lone surrogates": b'{"loss": "\\ud800"}\n',
}
RATES = {
    "nothing": b"",
    "deep": b"[" * 500_000,
    "a list": b"[]",
    "a part": b'{"rates": [1]}',
    "text": b'{"rates": "1", "losses": [1], "suggestion": 1}',
    "text in a list": b'{"rates": ["1"], "losses": [1], "suggestion": 1}',
    "beyond floats": b'{"rates": [' + b"9" * 400 + b'], "losses": [1], "suggestion": 1}',
    "a line without end": b" " * (2 * MIB),
}


def npy(text, body=b"", size=None, version=1):
    header = text if isinstance(text, bytes) else text.encode()
    length = len(header) if size is None else size
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", length) + header + body


def fields(descr="'<f4'", shape="(2, 4)", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


NPY = {
    "nothing": b"",
    "no npy": b"1,2,3,4\n",
    "a header longer than the file": npy(fields(), size=65_535),
    "terabytes": npy(fields(shape=f"({10**6}, {10**6})"), bytes(32)),
    "an overflow": npy(fields(shape=f"({2**62}, 4)"), bytes(32)),
    "a shape of many digits": npy(fields(shape=f"({'9' * 4000},)")),
    "negative": npy(fields(shape="(-2, -4)"), bytes(32)),
    "a scalar": npy(fields(shape="()"), bytes(4)),
    "no rows": npy(fields(shape="(0, 4)")),
    "five axes": npy(fields(shape="(1, 1, 1, 2, 4)"), bytes(32)),
    "cut off": npy(fields(), bytes(31)),
    "one byte more": npy(fields(), bytes(33)),
    "NaN": npy(fields(), np.full(8, np.nan, "<f4").tobytes()),
    "objects": npy(fields("'|O'"), bytes(64)),
    "text of a gigabyte": npy(fields(f"'<U{2**28}'"), bytes(32)),
    "fields": npy(fields("[('a', '<f4', (9999, 9999))]"), bytes(32)),
    "dates": npy(fields("'<M8[s]'"), bytes(64)),
    "complex": npy(fields("'<c8'"), bytes(64)),
    "code": npy(fields("__import__('os').system('true')"), bytes(32)),
    "a NUL in the header": npy(fields("'\0'"), bytes(32)),
    "brackets": npy("(" * 60_000),
    "minuses": npy("-" * 60_000 + "1"),
    "a lambda": npy("(lambda: 1)()"),
    "version 2": npy(fields(), bytes(32), version=2),
    "version 255": npy(fields(), bytes(32), version=255),
}


def trainings():
    """Checkpoints of a training, each right but for one thing."""
    genuine = next(iter(fuzzer["readers"]()["training"].seeds()))
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


CORPORA = {
    "model": MODELS, "torch": STATES, "onnx": graphs, "csv": TABLES, "history": HISTORIES,
    "rates": RATES, "npy": NPY, "training": trainings,
}  # fmt: skip

# Reads all files of a folder in a process that can have `ROOM` more than at its start.
PROGRAM = """
import runpy, sys
from pathlib import Path
fuzzer = runpy.run_path(sys.argv[1], run_name="fuzzer")
folder, name, room = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
trial = fuzzer["warmed_up"](fuzzer["readers"]()[name], folder, fuzzer["Watch"]())
fuzzer["limit_memory"](room)
for number in range(int(sys.argv[5])):
    blob = (folder / str(number)).read_bytes()
    taken = trial.taken
    try:
        trial.file(blob)
        print("taken" if trial.taken > taken else "refused")
    except BaseException as error:
        print(type(error).__name__, str(error)[:300].replace(chr(10), " "))
"""
ROOM = 64 * MIB  # the largest file has one mebibyte


def met(name, blobs, folder, program=PROGRAM):
    """What became of each file."""
    for number, blob in enumerate(blobs):
        (folder / str(number)).write_bytes(blob)
    done = subprocess.run(
        [sys.executable, "-c", program, FUZZER, folder, name, str(ROOM), str(len(blobs))],
        capture_output=True, text=True, cwd=ROOT, timeout=240,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
    return done.stdout.splitlines()


NEEDS = {"onnx": "onnx", "csv": "pandas"}


@pytest.mark.parametrize("name", CORPORA)
def test_attacks_are_refused_within_little_memory(name, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    corpus = CORPORA[name]
    corpus = dict(corpus()) if callable(corpus) else corpus
    found = dict(zip(corpus, met(name, list(corpus.values()), tmp_path), strict=True))
    assert {title: how for title, how in found.items() if how != "refused"} == {}


def test_every_reader_has_its_attacks():
    elsewhere = {"idx", "npz", "pickle"}  # test_datasets.py
    assert set(fuzzer["readers"]()) == set(CORPORA) | elsewhere


# -- the watch itself ------------------------------------------------------------------------------

ROGUES = {
    "code": ("exec('1')", "Trespass exec"),
    "process": ("__import__('os').system('true')", "Trespass os.system"),
    "fork": ("__import__('os').fork()", "Trespass os.fork"),
    "socket": ("__import__('socket').socket().connect(('127.0.0.1', 9))", "Trespass socket."),
    "file": ("open(str(path) + '-more', 'w')", "Trespass open"),
    "unlink": ("path.unlink()", "Trespass os.remove"),
    "memory": ("bytearray(1 << 28)", "MemoryError"),
    "error": ("[][0]", "IndexError"),
    "message": ("exec_or('x' * 5000)", "Trespass an error message"),
}


@pytest.mark.parametrize("rogue", ROGUES)
def test_a_reader_that_does_more_than_read_is_caught(rogue, tmp_path):
    deed, outcome = ROGUES[rogue]
    program = PROGRAM.replace(
        'fuzzer["limit_memory"](room)\n',
        "def exec_or(text):\n    raise trial.reader.errors[0](text)\n"
        f"trial.reader = trial.reader._replace(read=lambda path: {deed})\n"
        "import socket\nfuzzer['limit_memory'](room)\n",
    )
    (found,) = met("rates", [b"{}"], tmp_path, program)
    assert found.startswith(outcome)


def test_inputs_of_the_fuzzer_stand_for_files():
    """Genuine ones are taken as they are, packed, and built."""
    for name, reader in fuzzer["readers"]().items():
        if name in NEEDS:
            pytest.importorskip(NEEDS[name])
        for seed in islice(reader.seeds(), 2):
            assert fuzzer["wrapped"](reader, bytes([0]) + seed) == seed
    model = fuzzer["readers"]()["model"]
    genuine = next(iter(model.seeds()))
    assert fuzzer["wrapped"](model, bytes([2]) + genuine[8:]) == genuine


@pytest.mark.slow
def test_the_fuzzer_runs(tmp_path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python or system")
    command = [sys.executable, FUZZER, "--runs", "200", "rates", "npy"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("inputs, no defect") == 2
