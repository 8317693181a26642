"""Versions, CPU, vector width, threads and kernel cache: what a bug report should say."""

import importlib.metadata
import platform
import sys
from typing import Any

from .._support.cores import available_cores

PACKAGES = (
    "fastbp", "numpy", "numba", "llvmlite", "safetensors", "matplotlib", "tqdm", "onnx", "pandas",
    "pooch", "scikit-learn", "mpi4py",
)  # fmt: skip
# What a kind of CPU was chosen by.
BY = {
    "": "by name, bytes and number of vector registers",
    "neutral": "this CPU has not been measured yet: scripts/tune.py does",
}


def version(name: str) -> str:
    """Return the version of an installed package, or "not installed"."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def build() -> str:
    """Return the version of fastbp, and a digest of its kernels and their compiler."""
    try:
        from ..kernels.cache import stamp
    except ImportError:  # no compiler
        return f"{version('fastbp')} (no kernels)"
    return f"{version('fastbp')} (kernels {stamp()[:8]})"


def facts() -> dict[str, Any]:
    """Return the facts of a bug report by name; each can be written as JSON."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "threads": available_cores(),
        **_of_kernels(),
    }


def _of_kernels() -> dict[str, Any]:
    try:
        # Here, and not above: what needs no kernels does without a compiler, and starts sooner.
        from ..kernels.cache import cache_folders
        from ..kernels.machine import CPU, KIND
    except ImportError as error:
        return {"kernels": f"none: {error}"}
    readable, writable = cache_folders()
    folders = [f"{path}{'' if path == writable else ' (read-only)'}" for path in readable]
    return {
        "cpu": CPU.name,
        "cpu_kind": KIND,
        **{name: fact for name, fact in CPU._asdict().items() if name != "name"},
        "cache_folder": ", ".join(folders) or "none, no folder is writable",
        "compiled": any(f for path in readable for f in path.glob("epochs.sgd_epoch-*.nbc")),
    }


def table() -> str:
    """Return the facts as a table, one per line."""
    found = facts()
    found["threads"] = f"{found['threads']} (cores that this process may use)"
    if width := found.get("vector_bytes"):
        found["vector_bytes"] = f"{width} ({width // 4} float32, {width // 8} float64)"
        found["cpu_kind"] += f" ({BY.get(found['cpu_kind'], BY[''])})"
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
