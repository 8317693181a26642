"""Versions, CPU, vector width, threads and kernel cache: what a bug report should say."""

import importlib.metadata
import platform
import sys
from typing import Any

import llvmlite.binding as llvm

from ..kernels.cache import cache_dir, stamp
from ..kernels.machine import vector_bytes
from .planning import available_cores

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


def build() -> str:
    """Return the version of fastbp, and a digest of its kernels and their compiler."""
    return f"{version('fastbp')} (kernels {stamp()[:8]})"


def facts() -> dict[str, Any]:
    """Return the facts of a bug report by name; each can be written as JSON."""
    folder = cache_dir()
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": llvm.get_host_cpu_name(),
        "vector_bytes": vector_bytes(),
        "threads": available_cores(),
        "cache_folder": str(folder or "none, no folder is writable"),
        "compiled": folder is not None and any(folder.glob("epochs.sgd_epoch-*.nbc")),
    }


def table() -> str:
    """Return the facts as a table, one per line."""
    found = facts()
    width = found["vector_bytes"]
    found["vector_bytes"] = f"{width} ({width // 4} float32, {width // 8} float64)"
    found["threads"] = f"{found['threads']} (cores that this process may use)"
    found["compiled"] = "yes" if found["compiled"] else "no; `fastbp warmup` does it"
    return "\n".join(f"{name.replace('_', ' '):<14}{fact}" for name, fact in found.items())


def show_versions() -> None:
    """Print versions, platform, CPU, threads and the folder of kernels, as `fastbp info` does.

    Examples
    --------
    >>> import fastbp
    >>> fastbp.show_versions()  # doctest: +ELLIPSIS
    python        3...
    fastbp        ...
    """
    sys.stdout.write(f"{table()}\n")
