"""What a bug report should say: versions, CPU, vector width, threads and kernel cache."""

import importlib.metadata
import platform
import sys
from typing import Any

import llvmlite.binding as llvm

from .. import engines as backend
from .. import kernels
from . import numba_engine

PACKAGES = (
    "fastbp", "numpy", "numba", "llvmlite", "safetensors", "matplotlib", "tqdm", "onnx", "pandas",
    "pooch", "scikit-learn", "mpi4py",
)  # fmt: skip


def version(name: str) -> str:
    """Return the version of an installed package, or "not installed"."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def facts() -> dict[str, Any]:
    """Return what there is, by name, fit for JSON.

    Examples
    --------
    >>> facts()["vector_bytes"] in (16, 32, 64)
    True
    """
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": llvm.get_host_cpu_name(),
        "vector_bytes": kernels.vector_bytes(),
        "threads": numba_engine.available_cores(),
        "cache_folder": str(kernels.cache_dir() or "none, no folder is writable"),
        "compiled": backend.compiled(),
    }


def table() -> str:
    """Return the facts as a table, one a line."""
    found = facts()
    width = found["vector_bytes"]
    found["vector_bytes"] = f"{width} ({width // 4} float32, {width // 8} float64)"
    found["threads"] = f"{found['threads']} (cores that this process may use)"
    found["compiled"] = "yes" if found["compiled"] else "no; `fastbp warmup` does it"
    return "\n".join(f"{name.replace('_', ' '):<14}{fact}" for name, fact in found.items())


def show_versions() -> None:
    """Write to stdout what a bug report should say, as `fastbp info` does.

    Versions of Python, fastbp and the packages it uses; platform, CPU, vector width, threads; the
    folder of compiled kernels.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.show_versions()  # doctest: +ELLIPSIS
    python        3...
    fastbp        ...
    """
    sys.stdout.write(f"{table()}\n")
