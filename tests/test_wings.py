"""The house: its wings, in what order they import each other, and what each keeps to itself."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fastbp"
SOURCES = {
    str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")
}
# Packages that are extras: imported where they are used, never by `import fastbp`.
OPTIONAL = {
    "matplotlib", "mpi4py", "onnx", "onnxruntime", "pandas", "pooch", "scipy", "sklearn", "torch",
    "tqdm",
}  # fmt: skip
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


def lint(folder):
    """What import-linter says of the package in a folder, by the contracts of pyproject.toml."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", ""),
        ("model/layout.py", "from ..network import Network"),
        ("callbacks.py", "def f():\n    from . import lr_finder"),
        ("kernels/ir/tiles.py", "from ..walk import batch"),
        ("training/loop.py", "from ..kernels import machine"),
        ("attic.py", '"""A wing that no contract names."""'),
    ],
)
def test_wings_import_downwards(path, line, tmp_path):
    """import-linter passes on the package as it is, and fails with a line that points upwards."""
    pytest.importorskip("importlinter", reason="import-linter is in the group lint")
    shutil.copytree(PACKAGE, tmp_path / "fastbp", ignore=shutil.ignore_patterns("__pycache__"))
    if path:
        with (tmp_path / "fastbp" / path).open("a", encoding="utf-8") as file:
            file.write(f"\n\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == bool(path), done.stdout + done.stderr


def test_the_root_has_few_entries():
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert len(entries) <= 26, sorted(entries)


def at_import(tree):
    """Yield the nodes that run at import: no function bodies, nothing for type checkers only."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes.extend(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes.extend(ast.iter_child_nodes(node))


def eager_extras(source):
    """Which extras a module imports as it is imported itself."""
    names = []
    for node in at_import(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module)
    return sorted({name.split(".")[0] for name in names} & OPTIONAL)


def reached_into(source):
    """Which private names a module uses that it does not define: imported, or as attributes."""
    found, tree = [], ast.parse(source)
    own_names = {getattr(node, "name", "") for node in ast.walk(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found += [a.name for a in node.names if node.level and is_private(a.name)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value
            own = ast.unparse(owner) in ("self", "cls", "other", "type(self)")
            own |= isinstance(owner, ast.Call) and getattr(owner.func, "id", "") == "super"
            if not own and node.attr not in own_names:
                found.append(ast.unparse(node))
    return [name for name in found if name.rpartition(".")[2] not in OF_NAMED_TUPLES]


def is_private(name):
    public = name.startswith("__") or name in ("_support", "_exit")  # os._exit is documented
    return name.startswith("_") and not public


# What belongs to libraries, which have no public name for it; each module says why.
FOREIGN = {
    "datasets/pickle.py",
    "estimator/sklearn_private.py",
    "kernels/jit.py",
    "kernels/numba_cache.py",
    "kernels/numba_link.py",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(SOURCES))
def test_no_module_reaches_into_another(path):
    if path not in FOREIGN:
        assert reached_into(SOURCES[path]) == []


@pytest.mark.parametrize("path", sorted(SOURCES))
def test_extras_are_imported_where_they_are_used(path):
    # Classes made of an extra's stand in modules that are imported when they are needed.
    if not path.startswith(("estimator/", "plots/picture.py")):
        assert eager_extras(SOURCES[path]) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from .layout import _hidden", ["_hidden"]),
        ("from . import layout\nlayout._hidden()", ["layout._hidden"]),
        ("net._engine.trainer()", ["net._engine"]),
        ("class A:\n    def f(self):\n        return self._x, super()._y, rule._replace(a=1)", []),
        ("from .._support import checks", []),
    ],
)
def test_a_private_name_of_another_is_seen(source, found):
    assert reached_into(source) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import matplotlib.pyplot as plt", ["matplotlib"]),
        ("try:\n    from tqdm import tqdm\nexcept ImportError:\n    pass", ["tqdm"]),
        ("class A:\n    import scipy.special", ["scipy"]),
        ("def f():\n    import onnx", []),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import matplotlib", []),
    ],
)
def test_an_eager_extra_is_seen(source, found):
    assert eager_extras(source) == found


def test_no_function_of_the_walk_takes_a_row_of_arguments():
    """What belongs together travels in a record."""
    long = [
        f"{path}: {getattr(node, 'name', 'lambda')}"
        for path, source in SOURCES.items()
        if path.startswith("kernels/walk/")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.Lambda) and len(node.args.args) > 8
    ]
    assert long == []
