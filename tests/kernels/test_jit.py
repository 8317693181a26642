"""How kernels are cached: what a second process, an edited source or a damaged file leads to.

The processes here see a copy of the kernels alone, and a cache of their own.
"""

import compileall
import gc
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numba
import pytest
from llvmlite import ir
from numba.extending import intrinsic

from fastbp.kernels import cache, jit, machine, numba_link
from fastbp.kernels.walk import records

FOLDER = Path(cache.__file__).parent
SOURCES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py"))
ANNOUNCEMENT = (
    "compiling kernels for this CPU, for 2 to 7 s (40 s for all there are); "
    "later runs find them in the cache ..."
)
PROGRAMS = Path(__file__).parents[1] / "programs"


class House:
    """A copy of the kernels, and the cache that its processes use."""

    def __init__(self, folder):
        self.folder = folder
        self.cache = folder / "cache"
        self.package = folder / "fastbp"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").touch()
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(FOLDER, self.package / "kernels", ignore=ignore)
        beside = self.package / "reference"
        beside.mkdir()
        (beside / "__init__.py").touch()
        shutil.copy(FOLDER.parent / "reference" / "own_code.py", beside)

    def start(self, program="call_sigmoid.py", *arguments, **environment):
        """Start a process that calls one kernel."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_"))}
        env |= {"NUMBA_CACHE_DIR": str(self.cache), "PYTHONPATH": str(self.folder), **environment}
        return subprocess.Popen(
            [sys.executable, "-W", "error", PROGRAMS / program, *arguments],
            env=env, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    @staticmethod
    def end(process):
        """What it found, and the lines it wrote to standard error."""
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return json.loads(out), err.splitlines()

    def run(self, program="call_sigmoid.py", *arguments, right=True, **environment):
        found, lines = self.end(self.start(program, *arguments, **environment))
        assert (found["out"][1] == 0.5) == right
        return found, lines

    def edit(self, source, old, new):
        path = self.package / "kernels" / source
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def pack(self, kind):
        """Let processes find the package as a zip, or as byte code alone."""
        root = self.folder / kind
        shutil.copytree(self.package, root / "fastbp", dirs_exist_ok=True)
        if "pyc" in kind:
            compileall.compile_dir(root, quiet=1, legacy=True, force=True)
            for path in root.rglob("*.py"):
                path.unlink()
        if "zip" in kind:
            root = shutil.make_archive(str(root), "zip", root)
        return {"PYTHONPATH": str(root)}

    def files(self, pattern):
        found = [path for path in self.cache.rglob("*") if re.search(pattern, path.name)]
        assert found
        return found


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A house whose cache is warm; for reading only."""
    house = House(tmp_path_factory.mktemp("warm"))
    found, lines = house.run()
    assert not found["before"], "import touches no disk"
    assert lines == [ANNOUNCEMENT]
    assert found["hits"] == 0
    return house


@pytest.fixture
def house(warm, tmp_path):
    """A house of one's own, with a warm cache."""
    house = House(tmp_path / "house")
    shutil.copytree(warm.cache, house.cache)
    return house


# -- the cache at work -----------------------------------------------------------------------------


def test_a_second_process_compiles_nothing(house):
    """Nor does one that finds the same sources in another folder: `warm` compiled for this one."""
    found, lines = house.run()
    assert found["hits"] == 1
    assert lines == []


def test_what_only_compiling_needs_is_not_imported_before(house):
    """A kernel from the cache makes do without it; what is compiled afterwards finds it."""
    found, lines = house.run("call_sigmoid_then_compile.py")
    assert found["hits"] == 1
    assert lines == [ANNOUNCEMENT]  # of tanh


def test_a_helper_edited_in_another_file_is_not_answered_by_an_old_binary(house):
    """Numba's own key is the file of the kernel: sigmoid's, which stays as it was."""
    old, _ = house.run()
    house.edit("ir/vectors.py", '_operator("fdiv")', '_operator("fmul")')
    new, lines = house.run(right=False)
    assert new["hits"] == 0
    assert lines == [ANNOUNCEMENT]
    assert new["folder"] != old["folder"]


@pytest.mark.parametrize("kind", ["zip", "pyc", pytest.param("zip of pyc", marks=pytest.mark.long)])
def test_where_no_sources_lie_an_edit_shows_too(kind, house):
    """Unedited, it is the same code as anywhere else."""
    found, lines = house.run(**house.pack(kind))
    assert (found["hits"], lines) == (1, [])
    house.edit("ir/vectors.py", '_operator("fdiv")', '_operator("fmul")')
    new, lines = house.run(right=False, **house.pack(kind))
    assert (new["hits"], lines) == (0, [ANNOUNCEMENT])


def test_sources_edited_while_a_process_runs_are_not_taken_for_its_code(house):
    shutil.rmtree(house.cache)
    path = house.package / "kernels" / "ir" / "vectors.py"
    found, _ = house.run("call_sigmoid_edited_meanwhile.py", str(path))
    assert found["hits"] == 0
    found, _ = house.run(right=False)
    assert found["hits"] == 0


def test_byte_code_that_python_does_not_compare_with_its_source_is_what_counts(house):
    """It is run whatever the source says; the source is run where it is made anew."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(house.package, quiet=1, invalidation_mode=mode)
    house.edit("ir/vectors.py", '_operator("fdiv")', '_operator("fmul")')
    old, _ = house.run()
    compileall.compile_dir(house.package, quiet=1, invalidation_mode=mode, force=True)
    new, _ = house.run(right=False)
    assert (old["hits"], new["hits"]) == (1, 0)


def test_a_closure_is_known_by_its_numbers_not_by_its_intrinsics():
    """Whose pickles Numba makes different in each process."""
    numba_cache = pytest.importorskip("fastbp.kernels.numba_cache")
    intrinsics = [intrinsic(lambda typingctx, x: None) for _ in range(2)]
    codegen = SimpleNamespace(magic_tuple=lambda: ("a CPU",))

    def key(emit, code):
        return numba_cache._KernelCache(lambda x: emit(code, x))._index_key("signature", codegen)

    assert key(intrinsics[0], 1) == key(intrinsics[1], 1) != key(intrinsics[0], 2)


def test_two_processes_that_compile_at_once_spoil_no_code(tmp_path):
    """One writes while the other does, and knows nothing of it."""
    numba_cache = pytest.importorskip("fastbp.kernels.numba_cache")
    one, other = (numba_cache._File(str(tmp_path), "kernel", "stamp") for _ in range(2))
    other._load_index, write = dict, one._save_data

    def write_amid(*args):
        other.save("float64", "code of float64")
        write(*args)

    one._save_data = write_amid
    one.save("float32", "code of float32")
    found = numba_cache._File(str(tmp_path), "kernel", "stamp")
    codes = {kind: found.load(kind) for kind in ("float32", "float64")}
    assert codes == {kind: f"code of {kind}" for kind in codes}


def test_the_users_choice_of_numbas_locators_makes_no_code_stale(house):
    locators = {"NUMBA_CACHE_LOCATOR_CLASSES": "InTreeCacheLocator"}
    house.run(**locators)
    house.edit("ir/vectors.py", '_operator("fdiv")', '_operator("fmul")')
    house.run(right=False, **locators)


# For each source: an edit, and the call of call_kernels.py in which it must show.
EDITS = {
    "machine.py": ("ENTRY_GROUP, ENTRY_SUMS = 4, ", "ENTRY_GROUP, ENTRY_SUMS = 2, ", "index"),
    "operations.py": ("db[j] /= delta.shape[0]", "db[j] /= delta.shape[0] + 1", "bias_gradient"),
    "epochs.py": ("turn = -rate * share_of_each", "turn = rate * share_of_each", "fit"),
    "inference.py": ("grads, 1.0 / n, work", "grads, 2.0 / n, work", "narrow gradient"),
    "ir/activations.py": ('z.where("<", 0.0, 0.0, z)', 'z.where("<", 0.0, 1.0, z)', "relu"),
    "functions.py": ("emit(n, z, a, slope)", "emit(n, z, slope, a)", "leaky"),
    "losses.py": ("code, bits_of(setting), rows", "code - 1, bits_of(setting), rows", "huber"),
    "ir/linear_units.py": ("LEAK = 0.01", "LEAK = 0.02", "leaky"),
    "ir/atomics.py": (
        'return e.builder.load_atomic(e.at(counters, slot), "acquire", 8)',
        "return ir.IntType(64)(1)",
        "fit",
    ),
    "ir/dropout.py": ("= 13, (13, 15,", "= 12, (13, 15,", "dropout"),
    "ir/entries.py": ('emit_tile(t, "axpy", 1,', 'emit_tile(t, "store", 1,', "lists"),
    "ir/losses.py": ('.const(float("-inf"))], body)', ".const(1.0)], body)", "softmax"),
    "ir/memory.py": (
        "return context.cast(builder, args[1], x, ptr.dtype)",
        "return builder.fneg(context.cast(builder, args[1], x, ptr.dtype))",
        "momentum",
    ),
    "ir/along.py": ("factor.fma(found", "factor.fma(found + 1.0", "narrow gradient"),
    "ir/single.py": (
        "(e.load(place) * scale).keep(",
        "(e.load(place) * scale * 2.0).keep(",
        "fit ones",
    ),
    "ir/samples.py": (
        "values.const(1.0).keep(at_label, values)",
        "values.const(2.0).keep(at_label, values)",
        "loss",
    ),
    "inputs.py": (
        "first.update_from(_data",
        "first.update_from(_data(value, position, job), job, some, first_block, last_block)\n"
        "    first.update_from(_data",
        "part",
    ),
    "ir/denormals.py": ("_ZERO_RESULTS | _ZERO_OPERANDS", "0", "denormals"),
    "ir/tanh.py": ("return [rounded, c[1] +", "return [rounded, 2 * c[1] +", "loss"),
    "ir/tables.py": (
        "return _number(builder, table, place)",
        "return _number(builder, table, place) if place != 1 else I64(0)",
        "loss",
    ),
    "ir/terms.py": ("near * 0.5), near", "near * 0.5), wide", "huber"),
    "ir/tiles.py": (
        "total.fma(e.splat(t.extra, columns[c]), ",
        "total.fma(e.splat(t.extra, columns[c]).const(0.0), ",
        "weight_gradient",
    ),
    "ir/transpose.py": ("rows[i], rows[i | s], high)", "rows[i], rows[i | s], low)", "delta"),
    "ir/vectors.py": ('_operator("fdiv")', '_operator("fmul")', "sigmoid"),
    "walk/activations.py": ("E_ONE], (n, z, a, slope)", "E_ONE], (n - 1, z, a, slope)", "leaky"),
    "walk/batch.py": ("loss, hits = 0.0, 0.0", "loss, hits = 1.0, 0.0", "loss"),
    "walk/dropout.py": ("r1 - r0, n, v", "r1 - r0 - 1, n, v", "dropout"),
    "walk/first.py": (
        "put(row, i, sample[i])",
        "put(row, i, sample[i] + 1)",
        "loss of bytes",
    ),
    "walk/first_sparse.py": ("put(value, k + s, 0)", "put(value, k + s, 1)", "index"),
    "walk/lists.py": ("at(data.position, first), r * row", "at(data.position, first), 0", "lists"),
    "walk/kept.py": ("at(slope.start, r * slope.row)", "at(a.start, r * row)", "leaky"),
    "walk/losses.py": ("doubles_at(table)[SETTING]", "doubles_at(table)[SETTING] + 1", "huber"),
    "walk/narrow.py": (
        "plan.sizes[l - 1] + plan.bias, pl",
        "plan.sizes[l - 1], pl",
        "narrow gradient",
    ),
    "walk/ones.py": ("+ job.plan.bias)", "+ 2 * job.plan.bias)", "fit ones"),
    "walk/optimizers.py": ("put(p, i, p[i] + v)", "put(p, i, p[i] + v + v)", "momentum"),
    "walk/products.py": ("rows, width, depth, a.start", "rows, width, depth - 1, a.start", "loss"),
    "walk/records.py": ("p[i] - p[i] == 0", "p[i] - p[i] == 1", "index"),
    "walk/stores.py": ("at(flat, plan.w[1] + v)", "at(flat, plan.w[1] + v + 1)", "fit"),
    "walk/team.py": ("last = min(count, units", "last = min(count - 1, units", "fit"),
    "walk/upper.py": (
        "activate(plan.activations[l], r1 - r0, n,",
        "activate(plan.activations[l], 1, n,",
        "loss",
    ),
}
# What compiles and passes on, and computes nothing.
WITHOUT_ARITHMETIC = {
    "jit.py", "cache.py", "numba_cache.py", "numba_link.py", "cpu.py", "own.py", "ir/scalars.py"
}  # fmt: skip
if not machine.AVX512:  # where it is not compiled
    WITHOUT_ARITHMETIC.add("ir/tanh.py")
    del EDITS["ir/tanh.py"]
CHEAP = "ir/activations.py"  # whose call compiles in a second; the stamp covers all by default


def call_kernels(call, root, cache):
    """What a process prints that has its package in `root` and its kernels in `cache`."""
    done = subprocess.run(
        [sys.executable, PROGRAMS / "call_kernels.py", call],
        env=os.environ | {"PYTHONPATH": str(root), "NUMBA_CACHE_DIR": str(cache)},
        cwd=root, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """compiled(call): what the kernels as they are give, and a cache that holds their code.

    Nobody else writes to that cache.
    """
    folder, known = tmp_path_factory.mktemp("compiled"), {}

    def get(call):
        if call not in known:
            root = FOLDER.parents[1]
            known[call] = call_kernels(call, root, folder).stdout
        return known[call], folder

    return get


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", [pytest.param(s, marks=[] if s == CHEAP else pytest.mark.long) for s in EDITS]
)
def test_an_edit_of_any_source_shows_in_the_next_process(source, tmp_path, compiled):
    """Nothing is cleared in between: the new process finds the old machine code in its cache."""
    old, new, call = EDITS[source]
    before, cache = compiled(call)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(FOLDER.parent, tmp_path / "fastbp", ignore=ignore)
    shutil.copytree(cache, tmp_path / "cache")

    def run():
        return call_kernels(call, tmp_path, tmp_path / "cache")

    same = run()
    assert (same.stdout, same.stderr) == (before, ""), "the cache is at work before the edit"
    path = tmp_path / "fastbp" / "kernels" / source
    text = path.read_text()
    assert text.count(old), f"the edit of {source} has nothing to change any more: find another"
    path.write_text(text.replace(old, new))
    edited = run()
    assert edited.stdout != before
    assert ANNOUNCEMENT in edited.stderr
    path.write_text(text)
    assert run().stdout == before


def test_every_source_with_arithmetic_has_an_edit():
    """That finds what it changes."""
    sources = {s for s in SOURCES if not s.endswith("__init__.py")}
    assert set(EDITS) == sources - WITHOUT_ARITHMETIC
    assert [s for s, (old, *_) in EDITS.items() if old not in (FOLDER / s).read_text()] == []


@pytest.mark.parametrize("call", ["fit", "lists", "part", "leaky"])
def test_training_is_loaded_by_a_second_process(call, tmp_path):
    """With the parts that kernels share, and what they call by address."""
    first, second = (call_kernels(call, FOLDER.parents[1], tmp_path) for _ in range(2))
    assert (second.stdout, second.stderr) == (first.stdout, "")


def test_training_is_compiled_once_for_all_kinds_of_input():
    """Rows, compressed rows and bytes, with weights and without: one kernel for each dtype."""
    done = subprocess.run(
        [sys.executable, PROGRAMS / "count_kernels.py"], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    counts, addressed = json.loads(done.stdout)
    assert counts == {"sgd_epoch": 1, "optimizer_epoch": 1, "narrow_epoch": 1}
    # Nothing of what the network does not use.
    assert addressed == ["forward", "narrow_load", "update"]


def test_first_starts_at_the_same_time(tmp_path):
    house = House(tmp_path)
    for found, lines in map(house.end, [house.start() for _ in range(3)]):
        assert found["hits"] == 0 or lines == []
        assert set(lines) <= {ANNOUNCEMENT}
    found, lines = house.run()
    assert found["hits"] == 1
    assert lines == []


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("nbi$", b""),
        ("nbc$", b"\x80\x05cut off"),
        pytest.param("nbi$", b"\x80\x05cut off", marks=pytest.mark.long),
        pytest.param("nb[ic]$", bytes(range(256)), marks=pytest.mark.long),
    ],
)
def test_a_damaged_cache_is_made_anew(house, kind, damage):
    """Index, machine code, or both: one line says so, and the next process finds it mended."""
    for path in house.files(kind):
        path.write_bytes(damage)
    found, lines = house.run()
    assert found["hits"] == 0
    assert len(lines) == 2
    assert "damaged" in lines[0]
    assert lines[1] == ANNOUNCEMENT
    found, lines = house.run()
    assert found["hits"] == 1
    assert lines == []


def test_a_cache_without_its_machine_code_is_made_anew(house):
    for path in house.files("nbc$"):
        path.unlink()
    found, lines = house.run()
    assert (found["hits"], lines) == (0, [ANNOUNCEMENT])


@pytest.mark.parametrize("damage", [None, b"", b"cut off"])
def test_a_routine_that_is_missing_or_damaged_is_compiled_with_its_kernel_anew(damage, house):
    """Machine code that kernels share lies in files of its own, each with its digest."""
    for path in house.files(r"^activate.*\.o$"):
        path.unlink() if damage is None else path.write_bytes(path.read_bytes()[:-9] + damage)
    found, lines = house.run()
    assert (found["hits"], lines) == (0, [ANNOUNCEMENT])
    found, lines = house.run()
    assert (found["hits"], lines) == (1, [])


def test_what_another_kernel_has_compiled_is_not_compiled_again(house):
    """Sigmoid and tanh call one routine."""
    (path,) = house.files(r"^activate.*\.o$")
    before = path.stat().st_mtime_ns
    house.run("call_sigmoid_then_compile.py")
    assert [p.stat().st_mtime_ns for p in house.files(r"^activate.*\.o$")] == [before]


# -- how kernels are compiled ----------------------------------------------------------------------


def test_large_records_are_passed_by_their_address_and_small_ones_field_by_field():
    job, _, span = records.job_kinds(numba.float32)
    model = numba_link._MODELS[job]
    assert model.get_argument_type() == model.get_value_type().as_pointer()
    assert isinstance(numba_link._MODELS[span].get_argument_type(), tuple)


def test_a_value_is_passed_where_it_lies_only_while_it_is_there():
    double = ir.DoubleType()
    kind = ir.FunctionType(ir.VoidType(), [double.as_pointer()])
    function = ir.Function(ir.Module(), kind, "f")
    builder = ir.IRBuilder(function.append_basic_block())
    place = builder.alloca(double)
    passed, value = builder.load(function.args[0]), builder.load(place)
    builder.store(double(1), function.args[0])
    assert numba_link._still_at(builder, value) is place
    builder.store(double(1), place)
    assert numba_link._still_at(builder, value) is None
    later = builder.load(place)
    builder.position_at_end(function.append_basic_block())
    assert numba_link._still_at(builder, later) is None
    assert numba_link._still_at(builder, passed) is function.args[0]
    assert numba_link._still_at(builder, double(1)) is None


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_after_compiling_if_it_was_before(enabled):
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with numba_link._no_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()


# -- no cache at all -------------------------------------------------------------------------------


def test_without_a_writable_folder_one_line_says_so(tmp_path):
    """A read-only install and no home: os.devnull stands for folders that cannot be made."""
    found, lines = House(tmp_path).run(
        NUMBA_CACHE_DIR=os.devnull, HOME=os.devnull, LOCALAPPDATA=os.devnull
    )
    assert found["folder"] is None
    (line,) = lines
    assert re.search("no writable cache folder.*NUMBA_CACHE_DIR", line)


def test_where_the_first_folder_is_closed_the_next_is_taken(tmp_path):
    found, lines = House(tmp_path).run(
        NUMBA_CACHE_DIR=os.devnull, LOCALAPPDATA=os.devnull, HOME=str(tmp_path / "home")
    )
    assert Path(found["folder"]).is_relative_to(tmp_path / "home")
    assert lines == [ANNOUNCEMENT]


def test_a_finished_cache_that_cannot_be_written_is_read(house):
    found, lines = house.run("read_only.py", "call_sigmoid.py", HOME=os.devnull)
    assert (found["hits"], lines) == (1, [])
    assert found["folder"].startswith(str(house.cache))


def test_what_it_lacks_is_compiled_and_kept_in_the_next_folder_if_any(house, tmp_path):
    program = "read_only.py", "call_sigmoid_then_compile.py"
    found, lines = house.run(*program, HOME=os.devnull)
    assert found["hits"] == 1
    (line,) = lines
    assert re.search("no writable cache folder.*NUMBA_CACHE_DIR", line)
    for expected in [ANNOUNCEMENT], []:
        found, lines = house.run(*program, HOME=str(tmp_path / "home"))
        assert (found["hits"], lines) == (1, expected)
    assert not any("sigmoid" in path.name for path in (tmp_path / "home").rglob("*"))


def test_a_damaged_cache_that_cannot_be_mended_stops_nobody(house):
    for path in house.files("nbi$"):
        path.write_bytes(b"")
    found, lines = house.run("read_only.py", "call_sigmoid.py", HOME=os.devnull)
    assert found["hits"] == 0
    assert "damaged" in lines[0]
    assert "no writable cache folder" in lines[1]


def test_a_full_disk_does_not_stop_training(tmp_path):
    """The kernel runs, and one line says what was not kept."""
    found, lines = House(tmp_path).run("call_sigmoid_on_a_full_disk.py")
    assert found["hits"] == 0
    assert lines[0] == ANNOUNCEMENT
    (line,) = lines[1:]
    assert re.search("cannot be kept in .*No space left on device", line)


# -- another Numba ---------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["_CacheLocator", "CompileResultCacheImpl", "load_overload"])
def test_without_a_private_part_of_numba_kernels_are_kept_by_public_means(part, tmp_path):
    """In the folder of this version; one warning says what that costs."""
    house = House(tmp_path)
    first, lines = house.run("call_sigmoid_on_another_numba.py", part)
    (line,) = lines
    assert re.search(rf"does not know Numba .*{part}.*Numba's own is used.*later", line)
    files = house.files("nbi$")
    assert all(path.is_relative_to(first["folder"]) for path in files)
    again, lines = house.run("call_sigmoid_on_another_numba.py", part)
    assert (first["hits"], again["hits"], len(lines)) == (0, 1, 1)


def test_without_it_an_edited_helper_is_not_answered_by_an_old_binary_either(tmp_path):
    house = House(tmp_path)
    house.run("call_sigmoid_on_another_numba.py", "CompileResultCacheImpl")
    house.edit("ir/vectors.py", '_operator("fdiv")', '_operator("fmul")')
    found, _ = house.run("call_sigmoid_on_another_numba.py", "CompileResultCacheImpl", right=False)
    assert found["hits"] == 0


def test_without_it_and_without_a_folder_nothing_is_kept(tmp_path):
    found, lines = House(tmp_path).run(
        "call_sigmoid_on_another_numba.py", "CompileResultCacheImpl",
        NUMBA_CACHE_DIR=os.devnull, HOME=os.devnull, LOCALAPPDATA=os.devnull,
    )  # fmt: skip
    assert found["folder"] is None
    assert len(lines) == 2
    assert "no writable cache folder" in lines[1]


# -- the stamp -------------------------------------------------------------------------------------


class Loader:
    """A loader of another text; None: one that shows no code."""

    def __init__(self, text):
        self.text = text

    def get_code(self, name):
        return self.text and compile(self.text, f"/another/{name}.py", "exec")


@pytest.fixture
def stamp_with(monkeypatch):
    """stamp_with(name, text): the stamp where a module's code is that of another text."""

    def stamp(name, text):
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[name].__spec__, "loader", Loader(text))
            return cache.stamp.__wrapped__()

    return stamp


def test_the_stamp_covers_every_source(stamp_with):
    stamps = {cache.stamp.__wrapped__(), cache.stamp()}
    for source in SOURCES:
        text, name = (FOLDER / source).read_text(), source.removesuffix(".py").replace("/", ".")
        module = f"fastbp.kernels.{name}".removesuffix(".__init__")
        assert stamp_with(module, f"# elsewhere\n{text}") in stamps, "comments are no code"
        stamps.add(stamp_with(module, f"{text}\n_edited = {{'a', 'b'}}"))
    assert len(stamps) == 1 + len(SOURCES)


@pytest.mark.parametrize("name", cache.SWITCHES)
def test_the_stamp_covers_switches_of_numba(name, monkeypatch):
    monkeypatch.setattr(cache.config, name, 7)
    assert cache.stamp.__wrapped__() != cache.stamp()


def test_where_no_code_is_shown_nothing_is_kept(stamp_with, monkeypatch):
    nothing = stamp_with("fastbp.kernels.machine", None)
    monkeypatch.setattr(cache, "stamp", lambda: nothing)
    folders = cache.cache_folders.__wrapped__()
    assert folders == ([], None)
    monkeypatch.setattr(cache, "cache_folders", lambda: folders)
    assert "compiled anew in each process; their code cannot be read" in cache.news()


def test_the_stamp_covers_the_vector_width(monkeypatch):
    stamps = set()
    for width in (16, 32, 64):
        monkeypatch.setattr(cache, "vector_bytes", lambda width=width: width)
        stamps.add(cache.stamp.__wrapped__())
    assert len(stamps) == 3


def test_the_stamp_covers_the_constants_of_this_kind_of_cpu(monkeypatch):
    """Kernels may be kept for machines of several kinds, in one folder of a cluster."""
    monkeypatch.setattr(cache.machine, "ROW", {**cache.machine.ROW, "KIND": "another"})
    assert cache.stamp.__wrapped__() != cache.stamp()


def test_all_kernel_sources_are_found():
    assert {"jit.py", "ir/vectors.py", "walk/team.py", "__init__.py"} <= set(SOURCES)


# -- folders ---------------------------------------------------------------------------------------


def test_old_caches_are_cleared_away(tmp_path):
    """Each edit of a kernel makes a new one; the newest are kept, and what else lies there."""
    for age in range(cache.CACHES_KEPT + 3):
        folder = tmp_path / f"kernels-{age:02}"
        folder.mkdir()
        (folder / "file").touch()
        os.utime(folder, (1e9 - age, 1e9 - age))
    (tmp_path / "mnist").mkdir()
    cache.prune(tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [*(f"kernels-{age:02}" for age in range(cache.CACHES_KEPT)), "mnist"]


def test_clearing_away_survives_another_that_does_the_same(tmp_path, monkeypatch):
    (tmp_path / "kernels-gone").symlink_to(tmp_path / "nowhere")
    cache.prune(tmp_path)


def test_the_users_choice_of_a_folder_comes_first(monkeypatch, tmp_path):
    monkeypatch.setattr(cache.config, "CACHE_DIR", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    roots = list(cache.cache_roots())
    assert roots[0] == tmp_path / "mine" / "fastbp"
    assert roots[-1] == tmp_path / "xdg" / "fastbp"
    monkeypatch.setattr(cache.config, "CACHE_DIR", "")
    assert next(cache.cache_roots()) != tmp_path / "mine" / "fastbp"


def test_a_user_without_a_home_has_no_folder_there(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(cache.config, "CACHE_DIR", "")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(cache.Path, "home", no_home)
    assert list(cache.cache_roots()) == []


# -- vector width ----------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", ["NUMBA_ENABLE_AVX=0", "NUMBA_CPU_FEATURES=-avx512f"])
def test_kernels_have_no_wider_registers_than_numba_compiles_for(switch, tmp_path):
    name, value = switch.split("=")
    found, _ = House(tmp_path).run("registers.py", **{name: value})
    assert found["width"] <= 32
    assert "zmm" not in found["registers"]


def test_no_option_breaks_the_range_reduction_of_exp():
    """`reassoc` folds it away, `nnan` makes isfinite(nan) true."""
    assert jit.OPTIONS["fastmath"] == {"contract"}
