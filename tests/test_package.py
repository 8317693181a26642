"""The package as a whole: what it offers, that its examples run, and what it does not import."""

import ast
import doctest
import importlib
import inspect
import json
import pkgutil
import re
import runpy
import shutil
import types
from pathlib import Path

import pytest

import fastbp

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = {
    "matplotlib", "mpi4py", "onnx", "onnxruntime", "pandas", "pooch", "scipy", "sklearn", "torch",
    "tqdm",
}  # fmt: skip
MODULES = ["fastbp", *(module.name for module in pkgutil.walk_packages(fastbp.__path__, "fastbp."))]
MODULES.remove("fastbp.__main__")  # runs the program when imported


def test_all_is_sorted_and_each_name_is_there():
    assert fastbp.__all__ == sorted(set(fastbp.__all__), key=lambda n: (not n.isupper(), n))
    assert all(hasattr(fastbp, name) for name in fastbp.__all__)


def test_all_is_complete():
    public = {
        name
        for name, value in ((name, getattr(fastbp, name)) for name in {*vars(fastbp), *dir(fastbp)})
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("fastbp")
    }
    modules = {
        name for name in fastbp.__all__ if isinstance(getattr(fastbp, name), types.ModuleType)
    }
    assert public | modules == set(fastbp.__all__)


def test_dir_shows_what_is_public_alone():
    shown = {name for name in dir(fastbp) if not name.startswith("__")}
    assert shown == {*fastbp.__all__, "estimator", "layers"}
    assert {"__doc__", "__file__", "__version__"} <= set(dir(fastbp))


@pytest.mark.parametrize("name", ["estimator", "layers", "callbacks", "interchange", "plots"])
def test_public_modules_are_there_after_a_bare_import(name, run_program):
    if name == "estimator":
        pytest.importorskip("sklearn")
    assert f"fastbp.{name}" in run_program("attribute.py", name).stdout


@pytest.fixture
def words_of(run_program):
    """words_of(name, *arguments): what a program prints where warnings are errors."""
    return lambda *words: run_program(*words, PYTHONWARNINGS="error").stdout.split()


def test_what_training_does_not_need_is_imported_when_asked_for(words_of):
    names = "callbacks cli estimator interchange layers lr_finder plots report verification".split()
    modules = words_of("modules.py", "fastbp.network")
    assert "fastbp.training.loop" in modules
    assert not {f"fastbp.{name}" for name in names} & set(modules)
    assert not {"numpy", "numba", "typing"} & set(words_of("modules.py", "fastbp.cli"))
    assert "verify" in dir(fastbp)
    with pytest.raises(AttributeError, match="no attribute 'verified'"):
        fastbp.verified  # noqa: B018


def test_whatever_is_public_says_what_it_is():
    assert [name for name in fastbp.__all__ if not getattr(fastbp, name).__doc__] == []


def imported(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is optional, and not installed")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name):
    module = imported(name)
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failures = []
    for test in found:
        test.globs = dict(test.globs)
        runner.run(test, out=failures.append)
    assert not failures, "".join(failures)


def public_functions():
    """Yield every public function and class by its name, those of public modules included."""
    for name in fastbp.__all__:
        thing = getattr(fastbp, name)
        if isinstance(thing, types.ModuleType):
            parts = ((f"{name}.{part}", getattr(thing, part)) for part in thing.__all__)
            yield from ((path, part) for path, part in parts if callable(part))  # no constants
        else:
            yield name, thing


PUBLIC = dict(public_functions())
# Its example is that of the package: what `fit` returns is shown with it.
SHOWN_ELSEWHERE = {"History": fastbp}


def test_each_public_name_has_an_example():
    methods = {"Network.fit": fastbp.Network.fit, "Network.save": fastbp.Network.save}
    for name, thing in (PUBLIC | methods).items():
        shown = SHOWN_ELSEWHERE.get(name, thing)
        examples = doctest.DocTestParser().get_examples(shown.__doc__)
        assert examples, f"{name} shows no example"
        if shown is fastbp:
            assert any("history" in example.source for example in examples)


def methods_of(cls):
    """Yield the public methods and properties of a class of ours, by name."""
    for base in cls.__mro__:
        if not base.__module__.startswith("fastbp"):
            continue
        for name, member in vars(base).items():
            member = getattr(member, "fget", member)
            ours = getattr(member, "__module__", "fastbp").startswith("fastbp")
            if ours and (not name.startswith("_") or name == "__init__"):  # no protocol's __init__
                yield f"{cls.__name__}.{name}", member


def typed_functions():
    for name, thing in PUBLIC.items():
        if not inspect.isclass(thing):
            yield name, thing
        else:
            yield from methods_of(thing)


def test_the_public_face_is_annotated_in_full():
    for name, function in typed_functions():
        function = inspect.unwrap(getattr(function, "__func__", function))
        if not inspect.isfunction(function):
            continue  # an attribute of a class
        signature = inspect.signature(function)
        assert signature.return_annotation is not signature.empty, name
        for parameter in list(signature.parameters.values())["." in name and name[0].isupper() :]:
            assert parameter.annotation is not parameter.empty, f"{name}({parameter})"


def test_a_user_s_typed_program_runs(capsys):
    runpy.run_path(str(ROOT / "tests" / "typed_user.py"), run_name="__main__")
    assert "\nnumpy " in capsys.readouterr().out


def test_the_package_says_that_it_is_typed():
    assert (Path(fastbp.__file__).parent / "py.typed").read_bytes() == b""


# Who prints, and why: the command line does nothing else; versions, and the lines of a verbose
# training where nobody handles logs, are asked for to be seen; verbose estimators print as
# scikit-learn's do.
PRINTERS = {"cli", "estimator/epochs.py", "training/progress.py", "engines/versions.py"}


def test_the_library_logs_and_never_prints():
    package = Path(fastbp.__file__).parent
    for path in package.rglob("*.py"):
        place = path.relative_to(package)
        if {place.as_posix(), place.parts[0]} & PRINTERS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            printing = isinstance(node, ast.Name) and node.id == "print"
            writing = isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr")
            assert not printing, f"{path}:{node.lineno} prints; log to the logger fastbp"
            assert not writing, f"{path}:{node.lineno} writes to a standard stream"


def test_show_versions_says_what_info_says(capsys):
    fastbp.show_versions()
    shown = capsys.readouterr().out
    importlib.import_module("fastbp.cli").main(["info"])
    assert capsys.readouterr().out == shown
    for part in ("python ", "numba ", "onnx ", "cpu ", "vector bytes ", "compiled "):
        assert f"\n{part}" in f"\n{shown}"


def test_the_changes_begin_with_this_version():
    changes = (ROOT / ".github" / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\d+\.\d+\.\d+)$", changes, re.MULTILINE)
    assert versions[0] == fastbp.__version__
    assert versions == sorted(versions, key=lambda v: [*map(int, v.split("."))], reverse=True)


def test_import_leaves_optional_packages_alone(words_of):
    """But for what Numba looks for by itself."""
    theirs, modules = (set(words_of("modules.py", name)) for name in ("numba", "fastbp"))
    assert "fastbp" in modules
    assert not {name.split(".")[0] for name in modules - theirs} & OPTIONAL


def test_import_does_not_wait_for_numba(words_of):
    assert words_of("numba_when_needed.py") == ["False", "True"]


@pytest.fixture
def commands(run_program, tmp_path):
    """commands(commands, **environment): exit code and last line of each, in one process."""

    def run(commands, **environment):
        words = [json.dumps(command.split()) for command in commands]
        done = run_program("commands.py", *words, cwd=tmp_path, **environment)
        found = [line.partition(" ") for line in done.stdout.splitlines()]
        return [(int(code), text) for code, _, text in found]

    return run


MODEL, TRAIN = "digits.safetensors", "train --backend numpy --epochs 1"
OF_NUMPY = [
    TRAIN, f"evaluate {MODEL} --backend numpy", f"report {MODEL} --backend numpy",
    f"plot confusion {MODEL} --backend numpy", f"info {MODEL}", "info", "gradcheck --backend numpy",
    f"export {MODEL} theirs.safetensors",
    "convert theirs.safetensors mine.safetensors",
]  # fmt: skip
OF_NUMBA = [f"evaluate {MODEL}", f"report {MODEL}", "train --epochs 1", "warmup", "verify --quick"]


def test_without_a_compiler_the_numpy_backend_works(commands):
    pytest.importorskip("matplotlib")
    found = commands(OF_NUMPY + OF_NUMBA, NUMBA_DISABLE_JIT="1")
    assert found[: len(OF_NUMPY)] == [(0, "")] * len(OF_NUMPY)
    line = (
        "fastbp: error: the numba backend cannot be used: NUMBA_DISABLE_JIT is set, which turns "
        "the compiler off: unset it; the backend numpy needs no compiler"
    )
    assert found[len(OF_NUMPY) :] == [(2, line)] * len(OF_NUMBA)


def test_the_package_works_from_a_zip(commands, tmp_path):
    """But for kernels, of which tests/kernels/test_jit.py knows."""
    pytest.importorskip("matplotlib")
    (tmp_path / "root").mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(fastbp.__file__).parent, tmp_path / "root" / "fastbp", ignore=ignore)
    path = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "root")
    assert commands(OF_NUMPY, PYTHONPATH=path) == [(0, "")] * len(OF_NUMPY)


@pytest.mark.timing
def test_import_takes_no_longer_than_numba(words_of):
    """At most 1.15 times as long."""
    seconds = {
        name: min(float(*words_of("import_seconds.py", name)) for _ in range(5))
        for name in ("numba", "fastbp")
    }
    assert seconds["fastbp"] < 1.15 * seconds["numba"], seconds


def test_it_trains_where_no_optional_package_is(words_of):
    """But for SciPy, which is not fastbp's affair: Numba looks for it."""
    assert words_of("train_without.py", *OPTIONAL - {"scipy"}) == ["2"]


def test_import_changes_no_global_state(words_of):
    assert words_of("global_state.py") == ["fine"]


def test_the_version_is_one():
    assert all(part.isdigit() for part in fastbp.__version__.split("."))
