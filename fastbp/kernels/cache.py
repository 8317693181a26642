"""Where the machine code of kernels is kept: a folder for each state of what is compiled.

Numba's own key covers the file of the kernel alone. A helper edited in another file would be
answered by the old machine code.
"""

import hashlib
import logging
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numba
from llvmlite.binding import llvm_version_info
from numba.core import config

from ..reference import own_code
from . import machine
from .cpu import vector_bytes

logger = logging.getLogger("fastbp")
CACHES_KEPT = 8
PACKAGE = __name__.rpartition(".")[0]
CODE = f"{own_code.__name__}."
NOT_KEPT = "kernels are compiled anew in each process; {}"
# Switches of Numba that change machine code, and are in no key of its cache.
SWITCHES = "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT"


@cache
def stamp():
    """Return a digest of the kernels' code and of how it is compiled; "" where no code is shown.

    Of what Python runs, not of files: in a zip, among `.pyc` files alone or in a frozen program
    there may be no sources, and others than those that are running. The first call is at the end
    of the import, before anybody can edit much.
    """
    switches = [str(getattr(config, name, None)) for name in SWITCHES]
    how = f"{numba.__version__} {llvm_version_info} {vector_bytes()} {machine.ROW} {switches}"
    digest = hashlib.sha256(how.encode())
    try:
        for name in sorted(n for n in sys.modules if f"{n}.".startswith((f"{PACKAGE}.", CODE))):
            digest.update(name.encode())
            for part in own_code.texts(sys.modules[name].__spec__.loader.get_code(name)):
                digest.update(part.encode())
    except Exception:  # a loader of any kind, which may find its archive gone
        return ""
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
def cache_folders():
    """Return the folders to read this version's kernels from, and the one to write to, or None.

    The first root that can be written is the last one that counts; before it stand finished caches
    that cannot, as in an image or of another user.
    """
    readable = []
    for root in cache_roots() if stamp() else ():
        folder = root / f"kernels-{stamp()[:16]}"
        try:
            fresh = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            if os.path.isdir(folder):
                readable.append(folder)
            continue
        if fresh:
            prune(root)
        return [*readable, folder], folder
    return readable, None


def cache_dir():
    """Return the folder of this version's kernels, or None."""
    readable, writable = cache_folders()
    return writable or next(iter(readable), None)


def news():
    """Return what to tell when kernels must be compiled."""
    if cache_folders()[1]:
        return (
            "compiling kernels for this CPU, for 2 to 7 s (40 s for all there are); "
            "later runs find them in the cache ..."
        )
    if not stamp():
        return NOT_KEPT.format("their code cannot be read, and so not be told from that of others")
    return f"no writable cache folder: {NOT_KEPT.format('set NUMBA_CACHE_DIR to a writable one')}"


def prune(root):
    """Keep the newest caches: each edit of a kernel makes a new one."""
    with suppress(OSError):  # another process may do the same
        folders = sorted(root.glob("kernels-*"), key=lambda p: p.stat().st_mtime, reverse=True)
        for folder in folders[CACHES_KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def numba_config(**values):
    """Set Numba's configuration for a while."""
    before = {name: getattr(config, name, None) for name in values}
    try:
        vars(config).update(values)
        yield
    finally:
        vars(config).update(before)


def keep_by_numba(dispatchers):
    """Keep machine code in Numba's own cache, by public means, in the folder of this version."""
    folder = cache_folders()[1]
    # Of a file that is not there Numba keeps code in a folder of its own, for all versions.
    if folder is None or not all(os.path.exists(d.__code__.co_filename) for d in dispatchers):
        logger.warning("%s", news() if folder is None else NOT_KEPT.format("they have no sources"))
        return
    with numba_config(CACHE_DIR=str(folder), CACHE_LOCATOR_CLASSES=""):
        for dispatcher in dispatchers:
            dispatcher.enable_caching()
