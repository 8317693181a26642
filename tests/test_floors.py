"""The house is built by floors: imports of fastbp's modules point to a lower floor only.

This reads the sources with ``ast`` and imports nothing, so it runs without Numba, and in
milliseconds. An import inside a function counts like any other.
"""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fastbp"

# Module: (floor, order within the package kernels). A module imports what has a lower floor;
# inside kernels, what comes earlier. Siblings do not import each other.
FLOORS = {
    "errors": (-1, 0),  # below the ground floor, so that datasets and kernels can raise them
    "rules": (-1, 0),
    "guards": (-1, 0),
    "untrusted": (-1, 0),
    "files": (-0.8, 0),
    "pickles": (-0.5, 0),
    "tables": (-0.5, 0),
    "downloads": (-0.5, 0),
    "reference": (0, 0),
    "storage": (0, 0),
    "datasets": (0, 0),
    "faults": (0.5, 0),
    "kernels._jit": (0, 0),
    "kernels.simd": (0, 1),
    "kernels.parallel": (0, 1),
    "kernels.tiles": (0, 2),
    "kernels.turn": (0, 2),
    "kernels.activations": (0, 2),
    "kernels.plan": (0, 2),
    "kernels.dense": (0, 3),
    "kernels.sparse": (0, 3),
    "kernels.losses": (0, 3),
    "kernels.first": (0, 4),
    "kernels.stages": (0, 5),
    "kernels.sgd": (0, 6),
    "kernels.calls": (0, 6),
    "kernels.optimizers": (0, 7),
    "kernels.narrow": (0, 8),
    "kernels.parts": (0, 9),
    "kernels": (0, 10),
    "numpy_engine": (1, 0),
    "numba_engine": (1, 0),
    "numba_parts": (1.2, 0),
    "backend": (1.5, 0),
    "checks": (2, 0),
    "history": (2.5, 0),
    "activations": (2, 0),
    "losses": (2, 0),
    "distributed": (2, 0),
    "estimator.epochs": (5.6, 0),
    "estimator.perceptron": (5.8, 0),
    "estimator": (6, 0),
    "interchange.parts": (5.2, 0),
    "interchange.state_dicts": (5.4, 0),
    "interchange.onnx_write": (5.4, 0),
    "interchange.onnx_read": (5.6, 0),
    "interchange.estimators": (5.4, 0),
    "interchange": (6, 0),
    "layers": (3, 0),
    "sequential": (3.5, 0),
    "optimizers": (3, 0),
    "checkpoint": (3, 0),
    "schedules": (3, 0),
    "progress": (3, 0),
    "summaries": (3, 0),
    "training": (4, 0),
    "resuming": (4.5, 0),
    "streaming": (4.5, 0),
    "data_parallel": (4.8, 0),
    "network": (5, 0),
    "callbacks": (5.5, 0),
    "differences": (5.5, 0),
    "cases": (5.5, 0),
    "matrix": (5.5, 0),
    "gradients": (6, 0),
    "finder": (6, 0),
    "verification": (6.5, 0),
    "assessment": (5.5, 0),
    "figures": (5.5, 0),
    "norms": (5.5, 0),
    "records": (6, 0),
    "plots": (6, 0),
    "versions": (6, 0),
    "report": (6.5, 0),
    "cli": (7, 0),
    "__init__": (8, 0),
    "__main__": (8, 0),
}
# Packages that are extras: imported where they are used, never by `import fastbp`.
OPTIONAL = {
    "matplotlib", "mpi4py", "onnx", "onnxruntime", "pandas", "pooch", "scipy", "sklearn", "torch",
    "tqdm",
}  # fmt: skip


def module_name(path):
    """``kernels/simd.py`` is kernels.simd, ``kernels/__init__.py`` is kernels."""
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def imported_names(node, path):
    """Absolute dotted names that one syntax node imports, longest reading first."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = ["fastbp", *Path(path).parent.parts]
        base = package[: len(package) - node.level + 1] if node.level else []
        base = [*base, node.module] if node.module else base
        return [".".join([*base, alias.name]) for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = getattr(node.func, "attr", getattr(node.func, "id", None))
        name = node.args[0].value
        if function in {"import_module", "__import__"} and isinstance(name, str):
            return [f"fastbp.{name.lstrip('.')}" if name.startswith(".") else name]
    return []


def own_module(name, modules):
    """Which of fastbp's modules a dotted name means; None for a foreign one."""
    head, _, rest = name.partition(".")
    if head != "fastbp":
        return None
    parts = rest.split(".") if rest else []
    while parts and ".".join(parts) not in modules:
        parts.pop()  # a name inside a module, not a module
    return ".".join(parts) or "__init__"


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


def may_import(importer, imported):
    """The rule."""
    (floor, order), (other_floor, other_order) = FLOORS[importer], FLOORS[imported]
    if importer.split(".")[0] == imported.split(".")[0] == "kernels":
        return other_order < order
    return other_floor < floor


def violations(sources):
    """What is wrong with ``{path within fastbp/: source}``, one line each."""
    modules = {module_name(path) for path in sources} | set(FLOORS)
    graph, found = {}, []
    for path, source in sorted(sources.items()):
        importer = module_name(path)
        tree = ast.parse(source, filename=path)
        names = [name for node in ast.walk(tree) for name in imported_names(node, path)]
        own = {own_module(name, modules) for name in names} - {None}
        graph[importer] = own
        if importer not in FLOORS:
            found.append(f"{path} has no floor: add it to FLOORS, and to the map in the README")
            continue
        found += [
            f"{path} imports {imported}, which is not on a lower floor"
            for imported in sorted(own & set(FLOORS))
            if not may_import(importer, imported)
        ]
        if importer != "backend" and {"reference", "kernels"} <= {m.split(".")[0] for m in own}:
            found.append(f"{path} names both reference and kernels: only backend.py may")
        if importer.split(".")[0] != "estimator":
            eager = [name for node in at_import(tree) for name in imported_names(node, path)]
            found += [
                f"{path} imports {name} at module level: it is optional"
                for name in sorted({name.split(".")[0] for name in eager} & OPTIONAL)
            ]
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found.append(f"imports go in a circle: {' -> '.join(error.args[1])}")
    return found


def test_fastbp_keeps_to_its_floors():
    paths = sorted(PACKAGE.rglob("*.py"))
    assert paths, f"no sources under {PACKAGE}"
    sources = {str(p.relative_to(PACKAGE)): p.read_text(encoding="utf-8") for p in paths}
    assert violations(sources) == []


@pytest.mark.parametrize(
    ("path", "source", "part"),
    [
        ("losses.py", "from .network import Network", "losses.py imports network"),
        ("losses.py", "from fastbp import network", "losses.py imports network"),
        ("losses.py", "import fastbp.network as n", "losses.py imports network"),
        ("losses.py", "from fastbp import Network", "losses.py imports __init__"),
        ("losses.py", "import fastbp", "losses.py imports __init__"),
        ("losses.py", "from . import activations", "losses.py imports activations"),
        ("losses.py", "def f():\n    from .network import Network", "losses.py imports network"),
        ("losses.py", "import importlib\nimportlib.import_module('fastbp.cli')", "imports cli"),
        ("reference.py", "from .kernels import dense", "reference.py imports kernels.dense"),
        ("kernels/simd.py", "from . import dense", "kernels/simd.py imports kernels.dense"),
        ("kernels/simd.py", "from .sgd import epoch", "kernels/simd.py imports kernels.sgd"),
        ("kernels/dense.py", "from . import sparse", "kernels/dense.py imports kernels.sparse"),
        ("kernels/sgd.py", "from .narrow import f", "kernels/sgd.py imports kernels.narrow"),
        ("kernels/plan.py", "from . import losses", "kernels/plan.py imports kernels.losses"),
        ("kernels/dense.py", "from ..reference import f", "kernels/dense.py imports reference"),
        ("layers.py", "from . import kernels, reference", "layers.py names both"),
        ("layers.py", "from . import reference\nfrom .kernels.sgd import epoch", "names both"),
        ("attic.py", "", "attic.py has no floor"),
        ("kernels/avx.py", "", "kernels/avx.py has no floor"),
        ("plots.py", "import matplotlib.pyplot as plt", "plots.py imports matplotlib"),
        ("plots.py", "try:\n    from tqdm import tqdm\nexcept ImportError:\n    pass", "tqdm"),
        ("plots.py", "class A:\n    import scipy.special", "plots.py imports scipy"),
    ],
)
def test_a_violation_is_caught(path, source, part):
    (line,) = violations({path: source})
    assert part in line


def test_a_circle_is_caught():
    sources = {"losses.py": "from . import layers", "layers.py": "from . import losses"}
    assert any(line.startswith("imports go in a circle: ") for line in violations(sources))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("datasets.py", "from .errors import DataError"),
        ("kernels/sgd.py", "from . import _jit, dense\nfrom ..errors import CompilationError"),
        ("kernels/__init__.py", "from .sgd import epoch"),
        ("backend.py", "from . import kernels, reference"),
        ("network.py", "from fastbp.training import fit\nfrom .backend import get_backend"),
        ("plots.py", "def curves():\n    import matplotlib.pyplot as plt"),
        ("plots.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import matplotlib"),
        ("estimator/__init__.py", "from sklearn.base import BaseEstimator"),
        ("estimator/perceptron.py", "from scipy.optimize import minimize"),
        ("__init__.py", "from .network import Network\nfrom . import datasets"),
        ("__main__.py", "from .cli import main"),
    ],
)
def test_what_is_allowed_passes(path, source):
    assert violations({path: source}) == []
