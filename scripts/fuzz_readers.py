"""Feed damaged files to every reader of files that may be hostile, guided by coverage (atheris).

    scripts/fuzz                          each reader in turn, a minute in all
    scripts/fuzz --seconds 3600 pickle    one of them, for an hour
    scripts/fuzz --runs 1000 pickle       a thousand inputs, however long they take
    scripts/fuzz --again .fuzz/pickle/crash-...     an input once more

A reader may take a file, or refuse it with the errors that its docstring names. Any other error is
a defect, and so is an attempt to start a process, open a socket, run code, change any file, or ask
for more than `ROOM` bytes of address space. Inputs begin with one byte that says how the rest is
wrapped: mutations would hardly ever hit a checksum.
"""

import argparse
import gzip
import io
import os
import resource
import struct
import subprocess
import sys
import tempfile
import types
import zipfile
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))  # its `corpora`
KEPT = ROOT / ".fuzz"
LONGEST = 1 << 14  # bytes of an input: deflate makes at most 17 MB of them
ROOM = 1 << 29  # bytes of address space above the start: the fuzzer's own notes need some
# Numba cannot compile what is instrumented, and what computes reads no files.
NOT_INSTRUMENTED = ["fastbp.kernels", "fastbp.engines"]
PLAIN, PACKED, BUILT = range(3)  # how an input is wrapped


class Reader(NamedTuple):
    """What reads a kind of file."""

    name: str  # of the file
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...]  # documented
    seeds: Callable[[], Iterable[bytes]]  # genuine files
    build: Callable[[bytes], bytes] = lambda rest: rest  # a file with the right sums around it


def readers() -> dict[str, Reader]:
    """Return the readers by name. Imported here: the fuzzer instruments what is imported."""
    import numpy as np

    import fastbp
    from fastbp import datasets, interchange
    from fastbp.cli import inputs, records
    from fastbp.datasets import DataError, arrays
    from fastbp.errors import DivergenceError, ModelFileError

    own = [_Square()]

    def model(path):
        return fastbp.load(path, "numpy", own)  # which compiles nothing

    def torch(path):
        return interchange.read(path, activation="relu", loss="cross-entropy", input_scale=0.5)

    net = fastbp.Network([4, 2], backend="numpy", seed=0)

    def samples(path):
        X = inputs.load_samples(net, argparse.Namespace(data=str(path), data_dir=None, json=True))
        return net.loss(X, np.zeros(len(X), int))

    def labelled(path):
        return datasets.load(path, label="class")

    refused = (ModelFileError,)
    return {
        "model": Reader("net.safetensors", model, refused, _models, _safetensors),
        "training": Reader(
            "run.safetensors",
            lambda path: _fit(2, resume=path),
            (ModelFileError, ValueError, DivergenceError),
            _trainings,
            _safetensors,
        ),
        "torch": Reader("theirs.safetensors", torch, refused, _states, _safetensors),
        "onnx": Reader("net.onnx", interchange.read_onnx, refused, _graphs),
        "idx": Reader(
            "train-images-idx3-ubyte", _blamed(arrays.read_idx), (DataError,), _idx_files
        ),
        "npz": Reader("data.npz", datasets.load, (DataError,), _archives, _archive),
        "pickle": Reader("data.pkl", datasets.load_pickle, (DataError,), _pickles),
        "csv": Reader("data.csv", labelled, (DataError,), _tables),
        "history": Reader("net.history.jsonl", records.read, (DataError,), _histories),
        "rates": Reader("rates.json", records.read_rates, (DataError,), _rates),
        "npy": Reader("X.npy", samples, (ValueError,), _npy_files),
    }


def _blamed(read):
    """As `datasets.load` calls a reader."""
    from fastbp.datasets.untrusted import blaming

    def call(path):
        with blaming(path):
            return read(path)

    return call


# -- genuine files ---------------------------------------------------------------------------------


def _written(write: Callable[[str], object], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"file{suffix}")
        write(path)
        return Path(path).read_bytes()


def _networks():
    import fastbp

    yield fastbp.Network([3, 2], seed=0)
    yield fastbp.Network([2, 3, 2], "relu", loss="cross-entropy", dtype="float64", seed=0)
    yield fastbp.Network([2, 2, 2, 1], "tanh", bias=False, input_scale=0.5, seed=0)


class _Square:
    """What files are told of a `fastbp.Activation`, which would be compiled."""

    name, reference = "square", "fuzz:square"

    def value(self, z, out):
        out[...] = z * z

    def prime(self, z, out):
        out[...] = 2 * z


def _models():
    import fastbp

    chosen = fastbp.Network(
        [2, 3, 3, 1], [_Square(), "silu"], loss=fastbp.losses.Huber(2), dropout=[0, 0.5],
        backend="numpy", seed=0,
    )  # fmt: skip
    return [_written(net.save, "") for net in (*_networks(), chosen)]


def _fit(epochs, **files):
    import fastbp

    X, y = _arrays()
    return fastbp.Network([4, 3], input_scale=0.01, backend="numpy", seed=0).fit(
        X.reshape(6, 4), y, epochs=epochs, batch_size=2, optimizer="adam",
        learning_rate=fastbp.schedules.OnPlateau(0.1),
        callbacks=[fastbp.callbacks.EarlyStopping("loss", 5)], **files,
    )  # fmt: skip


def _trainings():
    return [_written(lambda p, n=n: _fit(n, checkpoint=p), "") for n in (1, 2)]


def _states():
    from fastbp import interchange

    return [_written(lambda p, n=net: interchange.write_torch(n, p), "") for net in _networks()]


def _graphs():
    from fastbp import interchange

    return [_written(lambda p, n=net: interchange.write_onnx(n, p), "") for net in _networks()]


def _arrays():
    import numpy as np

    X = (np.arange(6 * 4) % 101).astype("u1").reshape(6, 2, 2)
    return X, (np.arange(6) % 3).astype("u1")


def _idx_files():
    X, y = _arrays()
    yield struct.pack(">HBBIII", 0, 8, 3, *X.shape) + X.tobytes()
    yield struct.pack(">HBBI", 0, 8, 1, len(y)) + y.tobytes()


def _npy(array) -> bytes:
    import numpy as np

    return _written(lambda path: np.save(path, array), ".npy")


def _npy_files():
    X, _ = _arrays()
    for kind in ("u1", "<f4", ">f8", "f2", "i8", "?"):
        yield _npy(X.reshape(6, 4).astype(kind))


def _archives():
    import numpy as np

    X, y = _arrays()
    named = {"x_train": X, "y_train": y, "x_test": X, "y_test": y}
    yield _written(lambda path: np.savez(path, **named), ".npz")
    yield _written(lambda path: np.savez_compressed(path, **named), ".npz")


def _archive(rest: bytes) -> bytes:
    """Return an intact zip file, of which one member is these bytes."""
    X, y = _arrays()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", rest)
        for name, array in (("y_train", y), ("x_test", X), ("y_test", y)):
            archive.writestr(f"{name}.npy", _npy(array))
    return file.getvalue()


def _pickles():
    import pickle

    X, y = _arrays()
    for protocol in (2, 3, 4, 5):
        yield pickle.dumps(((X.reshape(6, 4), y.astype("i8")),) * 3, protocol)


def _tables():
    rows = "\n".join(f"{k},{k / 2},{k % 2}" for k in range(12))
    yield f"a,b,class\n{rows}\n".encode()
    yield f"\ufeffclass,b,c\r\n{rows}".encode()
    yield "\n".join(["a;b;class", *(f"{k},5;{k};c{k % 2}" for k in range(12))]).encode()
    yield b'a,"b ""c""",class\n1e300,,1\nnan,-inf,x\n'


def _histories():
    from fastbp.cli import records
    from fastbp.history import History

    yield _written(lambda path: records.write(path, History(loss=[0.5, float("nan")])), ".jsonl")
    yield b'{"epoch": 1, "loss": 1e3, "accuracy": null, "activations": [1, 2], "deltas": [0, 1]}\n'


def _rates():
    yield b'{"rates": [0.1, 1], "losses": [0.5, null], "suggestion": 0.1}'


def _safetensors(rest: bytes) -> bytes:
    """Return the header with its length in front; it goes up to the first byte that is no text."""
    end = next((place for place, byte in enumerate(rest) if byte in (0, 0xFF)), len(rest))
    return struct.pack("<Q", end) + rest


def wrapped(reader: Reader, data: bytes) -> bytes:
    """Return the file that an input stands for."""
    how, rest = (data[0] % 3, data[1:]) if data else (PLAIN, data)
    if how == PACKED:
        return gzip.compress(rest, 1)
    return reader.build(rest) if how == BUILT else rest


def seeds(name: str, reader: Reader) -> Iterable[bytes]:
    """Yield genuine inputs, and the attacks that the tests know."""
    genuine = list(reader.seeds())
    yield from (bytes([how]) + blob for blob in genuine for how in (PLAIN, PACKED))
    if reader.build is _safetensors:
        yield from (bytes([BUILT]) + blob[8:] for blob in genuine)
    if reader.build is _archive:
        yield from (bytes([BUILT]) + blob for blob in _npy_files())
    for blob in _known_attacks(name, genuine[0]):
        yield bytes([PLAIN]) + blob


def _known_attacks(name: str, genuine: bytes) -> Iterable[bytes]:
    from corpora.readers import attacks

    yield from (blob for blob in attacks(name, genuine).values() if len(blob) < LONGEST)


# -- what a file must not do -----------------------------------------------------------------------

FORBIDDEN = (
    "exec", "marshal.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "os.spawn",
    "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink",
    "os.truncate", "pty.", "shutil.", "socket.", "subprocess.", "ctypes.dlopen", "webbrowser.",
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Trespass(BaseException):
    """A file made its reader do what no reader does."""


class Watch:
    """Raises Trespass at what Python says it is about to do, while a reader is at work."""

    def __init__(self):
        self.on = False
        sys.addaudithook(self.look)

    def look(self, event, arguments):
        if self.on and (event.startswith(FORBIDDEN) or _opens_for_writing(event, arguments)):
            self.on = False
            raise Trespass(f"{event} {arguments!r:.200}")


def _opens_for_writing(event, arguments):
    return event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING


def limit_memory(room: int) -> None:
    """Let this process have so many bytes of address space more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class Trial:
    """Gives inputs to a reader."""

    def __init__(self, reader: Reader, folder: Path, watch: Watch) -> None:
        self.reader, self.path, self.watch = reader, folder / reader.name, watch
        self.taken = self.refused = 0

    def __call__(self, data: bytes) -> None:
        """Let the reader read; whatever it raises but documented errors goes up."""
        self.file(wrapped(self.reader, data))

    def file(self, blob: bytes) -> None:
        """As of the input that stands for this file."""
        self.path.write_bytes(blob)
        self.watch.on, long = True, False
        try:
            self.reader.read(self.path)
            self.taken += 1
        except self.reader.errors as error:
            self.refused += 1
            long = len(str(error)) > 2000
        finally:
            self.watch.on = False
        if long:
            raise Trespass("an error message as long as a file")


def warmed_up(reader: Reader, folder: Path, watch: Watch) -> Trial:
    """Return a trial whose reader has read genuine files: lazy imports are done."""
    trial, right = Trial(reader, folder, watch), 0
    for blob in reader.seeds():
        trial.path.write_bytes(blob)
        try:
            reader.read(trial.path)
            right += 1
        except reader.errors:
            pass
    if not right:
        raise SystemExit(f"{reader.name}: not one genuine file is read; nothing would be tested")
    return trial


# -- the fuzzer ------------------------------------------------------------------------------------


def fuzz(name: str, options: list[str]) -> None:
    """Run libFuzzer on one reader, in this process, which ends with it."""
    import pickle

    import atheris

    with atheris.instrument_imports(include=["fastbp"], exclude=NOT_INSTRUMENTED):
        reader = readers()[name]
    for function in vars(pickle._Unpickler).values():
        if isinstance(function, types.FunctionType):
            atheris.instrument_func(function)
    corpus = KEPT / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, blob in enumerate(seeds(name, reader)):
        (corpus / f"seed-{number:03}").write_bytes(blob)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        trial = warmed_up(reader, Path(folder), Watch())
        limit_memory(ROOM)
        quiet = redirect_stdout(io.StringIO())
        atheris.Setup(
            [sys.argv[0], *options, f"-max_len={LONGEST}", "-timeout=10", "-rss_limit_mb=0",
             "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={corpus}/", str(corpus)],
            trial,
        )  # fmt: skip
        with quiet:
            atheris.Fuzz()


def main() -> int:
    """Run the readers one after the other, each in a process of its own; 1 if any has a defect."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,  # an error is one line
    )
    parser.add_argument("names", nargs="*", metavar="READER", help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for all of them")
    parser.add_argument("--runs", type=int, help="inputs for each, instead of a time")
    parser.add_argument("--again", type=Path, help="an input to give to its reader once more")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    known = readers() if not args.in_this_process else dict.fromkeys(args.names)
    if args.again:
        name = args.again.resolve().parent.name
        with tempfile.TemporaryDirectory() as folder:
            warmed_up(known[name], Path(folder), Watch())(args.again.read_bytes())
        return 0
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("fuzz: there is no atheris for this Python or system; nothing is run")
        return 0
    names = args.names or list(known)
    unknown = set(names) - set(known)
    if unknown:
        parser.error(f"no reader {', '.join(unknown)}; there are {', '.join(known)}")
    seconds = max(1, args.seconds // len(names))
    limit = f"-runs={args.runs}" if args.runs else f"-max_total_time={seconds}"
    if args.in_this_process:
        fuzz(names[0], [limit])
    return max(_one(name, args) for name in names)


def _one(name: str, args: argparse.Namespace) -> int:
    """Fuzz a reader in a process of its own; say how it went in a line, or all of a defect."""
    count = len(args.names) or len(readers())
    share = max(1, args.seconds // count)
    command = [sys.executable, __file__, "--in-this-process", name, "--seconds", str(share)]
    command += ["--runs", str(args.runs)] if args.runs else []
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=ROOT)
    said = done.stdout + done.stderr
    stats = dict(
        line.removeprefix("stat::").split(":", 1)
        for line in said.splitlines() if line.startswith("stat::")
    )  # fmt: skip
    runs = int(stats.get("number_of_executed_units", 0))
    if done.returncode == 0 and runs:
        print(f"{name:8} {runs:>9,} inputs, no defect", flush=True)
        return 0
    print(f"{name:8} DEFECT\n{said[-6000:]}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
