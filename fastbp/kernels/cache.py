"""Where the machine code of kernels is kept: a folder for each state of the sources.

Numba's own key covers the file of the kernel alone. A helper edited in another file would be
answered by the old machine code.
"""

import hashlib
import logging
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import numba
from numba.core import config

from .machine import vector_bytes

logger = logging.getLogger("fastbp")
CACHES_KEPT = 8


def kernel_sources():
    """Return the source files that compiled code depends on."""
    return sorted(Path(__file__).parent.rglob("*.py"))


@cache
def stamp():
    """Return a digest of all kernel sources, Numba's version and the vector width."""
    digest = hashlib.sha256(f"{numba.__version__} {vector_bytes()}".encode())
    for path in kernel_sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def cache_roots():
    """Yield the folders that may hold the cache, best first."""
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR) / "fastbp"
    if sys.platform == "win32" and "LOCALAPPDATA" in os.environ:
        yield Path(os.environ["LOCALAPPDATA"]) / "fastbp" / "cache"
    try:
        home = Path.home()
    except RuntimeError:
        return
    if sys.platform == "darwin":
        yield home / "Library" / "Caches" / "fastbp"
    yield Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "fastbp"


@cache
def cache_dir():
    """Return the folder of this version's kernels, or None (warning once) if none is writable."""
    for root in cache_roots():
        folder = root / f"kernels-{stamp()[:16]}"
        try:
            fresh = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        if fresh:
            prune(root)
        return folder
    logger.warning(
        "no writable cache folder: kernels are compiled anew in each process. "
        "Set NUMBA_CACHE_DIR to a writable folder."
    )
    return None


def prune(root):
    """Keep the newest caches: each edit of a kernel makes a new one."""
    with suppress(OSError):  # another process may do the same
        folders = sorted(root.glob("kernels-*"), key=lambda p: p.stat().st_mtime, reverse=True)
        for folder in folders[CACHES_KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)


def cached_by_numba(function, options):
    """Compile a function with Numba's own cache, by public means, in the folder of this version."""
    folder = cache_dir()
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)
    try:
        return numba.njit(cache=folder is not None, **options)(function)
    finally:
        config.CACHE_DIR = before
