"""Training on several ranks: real ones, started by mpiexec; what each does is in ranks.py."""

import os
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp import cli
from fastbp.training import ranks as distributed
from fastbp.training.ranks import Ranks, Shard
from fastbp.training.sources import Stretch

pytest.importorskip("mpi4py")
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
PROGRAM = Path(__file__).parent / "programs" / "ranks.py"
LIMIT = 240  # seconds: compiling all kernels in several processes on one core takes two minutes
# Each rank notes its exit code, which mpiexec does not show.
SHELL = '"$@"; code=$?; echo $code > "$FOLDER/code$PMI_RANK"; exit $code'
CASES = ("plain", "sparse", "weighted", "weighted, compiled", "narrow", "standardised",
         "reference", "dropout", "dropout, reference")  # fmt: skip
# What one start of so many ranks does; three go on from checkpoints that two left.
TASKS = {
    2: ("equal", "resume", "interrupted"),
    3: ("equal", "resume", "mapped", "refuse", "go_on"),
    4: ("equal",),
}

pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")


def start(ranks, folder, *command):
    """Run a command on so many ranks; return what mpiexec did and the exit codes."""
    for old in Path(folder).glob("code*"):
        old.unlink()
    done = subprocess.run(
        [MPIEXEC, "-n", str(ranks), "sh", "-c", SHELL, "sh", sys.executable, *map(str, command)],
        env={**os.environ, "FOLDER": str(folder)}, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    codes = [int(path.read_text()) for path in sorted(Path(folder).glob("code*"))]
    return done, codes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def lost(folder):
    """What mpiexec did where a rank was killed, and the seconds that it took."""
    begun = time.monotonic()
    done = subprocess.run(  # no shell between: mpiexec itself loses its child
        [MPIEXEC, "-n", "3", sys.executable, PROGRAM, folder, "lose_one"],
        capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    return done, time.monotonic() - begun


@pytest.fixture(scope="module")
def succeeds(folder, request):
    """succeeds(ranks, task): start so many ranks, once for all of their tasks."""
    np.random.default_rng(5).random((400, 1024), dtype=np.float32).tofile(folder / "X")

    def left(ranks, task):
        return (folder / f"{task}.{ranks}").exists()

    @cache
    def started(ranks):
        if ranks == 3:
            started(2)
            request.getfixturevalue("lost")
        return start(ranks, folder, PROGRAM, folder, *TASKS[ranks])

    def check(ranks, task):
        done, codes = started(ranks)
        said = done.stdout + done.stderr
        assert left(ranks, task), f"{task} failed, or one before it: {said}"
        if all(left(ranks, name) for name in TASKS[ranks]):
            assert codes == [0] * ranks, said

    return check


# -- who learns what -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "batch"), [(11, 4), (10, 5), (7, 7), (100, 7), (13, 6), (97, 10), (1, 1), (300, 299)]
)
def test_batches_do_not_depend_on_the_number_of_ranks(n, batch, rng):
    drawn = rng.permutation(n)
    alone = Shard(n, batch, 0, 1)
    whole = alone.order(drawn)
    np.testing.assert_array_equal(np.sort(whole), np.arange(n))
    for size in range(1, min(4, batch) + 1):
        shards = [Shard(n, batch, rank, size) for rank in range(size)]
        ends = [shard.rows.stop for shard in shards]
        assert [shard.rows.start for shard in shards] == [0, *ends[:-1]]
        orders = [shard.order(drawn) for shard in shards]
        for step in range(alone.steps):
            parts = [
                order[step * shard.places : (step + 1) * shard.places] + shard.rows.start
                for shard, order in zip(shards, orders, strict=True)
            ]
            expected = whole[step * batch : (step + 1) * batch]
            np.testing.assert_array_equal(np.concatenate(parts), expected)
            stretch = Stretch(whole, batch, 0, alone.steps, n, batch)
            assert stretch.samples_of(step, step + 1) == len(expected)
            if len(expected) == batch:
                assert np.ptp([len(part) for part in parts]) <= 1


def test_each_stretch_is_shuffled_by_itself(rng):
    """Every sample of a stretch comes first as often as any other."""
    shard = Shard(12, 3, 0, 1)
    firsts = np.array([shard.order(rng.permutation(12))[:3] for _ in range(4000)])
    for place, column in enumerate(firsts.T):
        values, counts = np.unique(column, return_counts=True)
        np.testing.assert_array_equal(values, np.arange(4 * place, 4 * place + 4))
        assert np.abs(counts - 1000).max() < 150


# -- the same result -------------------------------------------------------------------------------


class Lone(Ranks):
    """One rank that is its own company: no messages, and the same code."""

    def __init__(self, comm, interrupts=()):
        self.rank, self.size, self.alone, self._interrupts = 0, 1, comm is None, interrupts

    def reduce(self, buffer):
        pass

    def first(self, value):
        return value

    def overwrite(self, buffer):
        pass

    def gather(self, value):
        return [value]

    def close(self):
        pass


@pytest.fixture(scope="module")
def program():
    """The program of the ranks; importing it starts MPI in this process, for one rank."""
    from programs import ranks

    return ranks


def expected(program, case, **more):
    """What one rank comes to, by plain `fit` on the same order."""
    _, batch, _, name, *_ = program.CASES[case]
    (X, y, weights), net = program.data(case), program.network(case)
    history = net.fit(
        X, y, epochs=program.EPOCHS, batch_size=batch,
        learning_rate=program.SCHEDULES.get(case, program.RATE),
        order=lambda n: Shard(n, batch, 0, 1).order(net.rng.permutation(n)),
        optimizer=name, sample_weight=weights, validation_data=(X[:30], y[:30]), **more,
    )  # fmt: skip
    found = {name: getattr(history, name) for name in ("loss", "accuracy", "val_loss")}
    return {"vector": net.to_vector(), **{name: np.array(x) for name, x in found.items()}}


@pytest.fixture(scope="module")
def whole(program):
    return {case: expected(program, case) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_one_rank_equals_plain_fit(case, program, whole, monkeypatch, assert_close):
    monkeypatch.setattr(distributed, "Ranks", Lone)
    net = program.network(case)
    found = program.records(net, program.fit(net, case))
    for name, values in whole[case].items():
        assert_close(found[name], values, where=f"{case}, {name}")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, pytest.param(4, marks=pytest.mark.long)])
def test_ranks_equal_one_and_repeat_their_bits(
    ranks, whole, succeeds, folder, program, assert_close
):
    """The program itself compares two runs, and all ranks, to the last bit."""
    succeeds(ranks, "equal")
    found = np.load(folder / f"equal{ranks}.npz")
    for case, values in whole.items():
        for name, value in values.items():
            assert_close(found[f"{case}.{name}"], value, where=f"{ranks} ranks, {case}, {name}")
    for name, value in expected(program, "narrow", train_layers=[1]).items():
        assert_close(found[f"frozen1.{name}"], value, where=f"{ranks} ranks, frozen, {name}")
    assert found["frozen2.loss"][-1] < found["frozen2.loss"][0]
    assert_close(found["averaged.vector"], whole["plain"]["vector"], where="averages")
    # One step before each average is another way to the same; many are not, but learn as well.
    np.testing.assert_array_equal(found["every1.vector"], found["sparse.vector"])
    for every in ("every2", "every100"):
        assert not np.array_equal(found[f"{every}.vector"], found["sparse.vector"])
        assert np.isfinite(found[f"{every}.loss"]).all()
        assert found[f"{every}.loss"][-1] < found[f"{every}.loss"][0]


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint(succeeds, folder, assert_close):
    """To the bits with as many ranks, which the program looks at; else to rounding."""
    for ranks in (2, 3):
        succeeds(ranks, "resume")
    found = np.load(folder / "resumed3.npz")
    assert not np.array_equal(found["from_others"], np.zeros_like(found["whole"]))
    assert_close(found["from_others"], found["whole"], where="from two ranks to three")


def test_checkpoints_of_one_and_of_several_are_kept_apart(program, monkeypatch, tmp_path):
    """Their orders differ."""
    monkeypatch.setattr(distributed, "Ranks", Lone)
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    program.fit(program.network("plain"), "plain", checkpoint=shared)
    program.fit(program.network("plain"), "plain", checkpoint=alone, comm=None)
    with pytest.raises(ValueError, match="order None; here it is 'by stretches'"):
        program.fit(program.network("plain"), "plain", resume=alone)
    with pytest.raises(ValueError, match="order 'by stretches'; here it is None"):
        program.fit(program.network("plain"), "plain", resume=shared, comm=None)


@pytest.mark.slow
def test_a_rank_reads_its_own_rows_alone(succeeds):
    """Pages of a mapped file that are not its own are closed; the bits are those of arrays."""
    succeeds(3, "mapped")


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_it_goes_on(lost, succeeds, folder):
    """SIGKILL in the middle of an epoch; then on from the last checkpoint, to the same bits."""
    done, seconds = lost
    assert done.returncode != 0
    assert "KILLED (SIGNAL 9)" in done.stdout.upper()
    assert seconds < 60
    pids = [int((folder / f"pid{rank}").read_text()) for rank in range(3)]
    assert not [pid for pid in pids if is_alive(pid)]
    succeeds(3, "go_on")


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[-1].split()[0] != "Z"


@pytest.mark.slow
def test_an_interrupt_of_one_rank_stops_all_and_keeps_a_checkpoint(succeeds):
    succeeds(2, "interrupted")


REFUSED = {
    "seed": "RankError: the ranks disagree: rank 1 has seed",
    "data": "RankError: the ranks disagree: rank 2 has data",
    "labels": "RankError: the ranks disagree: rank 1 has data",
    "configuration": "RankError: the ranks disagree: rank 1 has batch_size 11, rank 0 has 10",
    "rate": "RankError: the ranks disagree: rank 1 has learning_rate",
    "many": "ValueError: there are more ranks, 3, than samples, 2",
    "batch": "ValueError: batch_size must be at least the 3 ranks",
    "nan in X": "RankError: rank 2 of 3: X[31:53] must be finite",
    "sync_every": "ValueError: sync_every must be a positive integer",
    "callback": "ZeroDivisionError: in a callback",
    "nan on one rank": "DivergenceError: weights were no longer finite in epoch 1, step 3,",
}


@pytest.mark.slow
def test_ranks_refuse_together(succeeds, folder):
    """Each of the errors is raised by all ranks, or the program would hang."""
    succeeds(3, "refuse")
    lines = (folder / "refused.txt").read_text().splitlines()
    said = dict(line.split(": ", 1) for line in lines)
    assert said.keys() == REFUSED.keys()
    for name, start_of in REFUSED.items():
        assert said[name].startswith(start_of), said[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "error"),
    [
        ("uncaught", "ValueError: batch_size must be a positive integer"),
        ("broken", "TypeError: 'NoneType' object is not callable; all ranks are ended"),
    ],
)
def test_an_error_that_nobody_catches_is_shown_once(task, error, folder):
    done, codes = start(2, folder, PROGRAM, folder, task)
    assert done.returncode != 0
    assert 0 not in codes
    assert done.stderr.count("Traceback (most recent call last)") == 1, done.stderr
    assert error in done.stderr


# -- the command line ------------------------------------------------------------------------------


def test_without_mpi_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert cli.main(["train", "--distributed"]) == 2
    assert "pip install mpi4py mpich" in capsys.readouterr().err


def test_one_rank_alone_is_refused(tmp_path, capsys):
    output = tmp_path / "net"
    assert cli.main(["train", "--distributed", "--output", str(output)]) == 2
    assert capsys.readouterr().err.startswith("fastbp: error: there is one rank only: start sev")
    assert not output.exists()


def test_steps_between_averages_are_for_several_ranks(capsys):
    assert cli.main(["train", "--sync-every", "4"]) == 2
    assert "add --distributed" in capsys.readouterr().err


def test_fit_wants_a_communicator_of_several_ranks(program):
    for comm, error, words in (
        ("world", TypeError, "comm must be mpi4py's, such as MPI.COMM_WORLD; got 'world'"),
        (program.MPI.COMM_SELF, ValueError, "there is one rank only"),
    ):
        with pytest.raises(error, match=words):
            program.fit(program.network("plain"), "plain", comm=comm)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "x"], "fastbp: error: argument --epochs: invalid int value: 'x'"),
        (["--batch-size", "1"], "fastbp: error: batch_size must be at least the 2 ranks"),
    ],
)
def test_the_shell_shows_one_error_and_all_ranks_fail(options, words, folder):
    command = ["-m", "fastbp", "train", "--distributed", "--output", folder / "net", *options]
    done, codes = start(2, folder, *command)
    assert done.returncode != 0
    assert codes == [2, 2]
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(words)
    assert not (folder / "net").exists()


@pytest.mark.slow
def test_the_shell_trains_and_rank_0_alone_speaks(folder, tmp_path, digits):
    options = ["--hidden", "20", "--epochs", "3", "--batch-size", "32", "--learning-rate", "0.2"]
    output = tmp_path / "net.safetensors"
    done, codes = start(
        2, folder, "-m", "fastbp", "train", "--distributed", "--output", output,
        "--plot", tmp_path / "curves.png", "--log", tmp_path / "log.csv", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert codes == [0, 0]
    assert done.stdout.count("epoch 3/3: ") == done.stdout.count("test accuracy ") == 1
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
    assert (tmp_path / "curves.png").exists()
    assert fastbp.load(output).accuracy(digits.X_test, digits.y_test) > 0.85


# -- pieces ----------------------------------------------------------------------------------------


def test_errors_that_cannot_travel_are_told_in_words():
    class Local(Exception):
        def __reduce__(self):
            raise TypeError("stays here")

    carried = distributed._carried(Local("lost"))
    assert isinstance(carried, fastbp.RankError)
    assert "lost" in str(carried)
    assert distributed._carried(error := KeyError("x")) is error


@pytest.mark.parametrize("interrupt", [True, False])
def test_an_error_of_one_rank_ends_all(interrupt, caplog, monkeypatch):
    """With the code of an interrupt where it is one."""
    ended = []

    class Comm:
        Abort = ended.append

    ranks = Lone("lone")
    ranks._comm = Comm
    error = KeyboardInterrupt() if interrupt else MemoryError("of one")
    monkeypatch.setattr(distributed, "Ranks", lambda comm, interrupts: ranks)
    with distributed.joined(Comm, []):
        raise error
    assert ended == [130 if interrupt else 1]
    assert ("interrupted" if interrupt else "of one") in caplog.text
    with pytest.raises(fastbp.DivergenceError), distributed.joined(Comm, []):
        raise fastbp.DivergenceError("all met it")
