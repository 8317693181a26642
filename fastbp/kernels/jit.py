"""How kernels are compiled and where the machine code is kept.

Two decorators: `kernel` for what Python calls (cached on disk), `inner` for what only kernels call.
`fastmath` is `contract` alone: anything more would break the range reduction of exp and make
`isfinite(nan)` true.
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

import llvmlite.binding as llvm
import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.runtime import rtsys

logger = logging.getLogger("fastbp")

OPTIONS = {
    "nogil": True,
    "fastmath": {"contract"},
    "error_model": "numpy",
    "boundscheck": False,
}
CACHES_KEPT = 8
_VECTOR_FEATURES = (("avx512f", 64), ("avx", 32))  # widest first; else SSE2 or NEON, 16 bytes


@cache
def vector_bytes():
    """Return the width of the host's vectors in bytes; `FASTBP_VECTOR_BYTES` forces another."""
    forced = os.environ.get("FASTBP_VECTOR_BYTES")
    if forced:
        if forced not in ("16", "32", "64"):
            raise ValueError(f"FASTBP_VECTOR_BYTES must be 16, 32 or 64, found {forced!r}")
        return int(forced)
    features = _target_features()
    return next((width for name, width in _VECTOR_FEATURES if name in features), 16)


def _target_features():
    if config.CPU_FEATURES is not None:  # the user compiles for another CPU
        return {f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")}
    return {name for name, present in llvm.get_host_cpu_features().items() if present}


def kernel_sources():
    """Return the source files that compiled code depends on."""
    return sorted(Path(__file__).parent.rglob("*.py"))


@cache
def stamp():
    """Return a digest of all kernel sources and the vector width.

    Numba's own key covers one file. A helper edited in another file would be answered by the old
    binary.
    """
    digest = hashlib.sha256(f"{numba.__version__} {vector_bytes()}".encode())
    for path in kernel_sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _cache_roots():
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
    for root in _cache_roots():
        folder = root / f"kernels-{stamp()[:16]}"
        try:
            fresh = not folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        if fresh:
            _prune(root)
        return folder
    logger.warning(
        "no writable cache folder: kernels are compiled anew in each process. "
        "Set NUMBA_CACHE_DIR to a writable folder."
    )
    return None


def _prune(root):
    """Keep the newest caches: each edit of a kernel makes a new one."""
    with suppress(OSError):  # another process may be at it too
        folders = sorted(root.glob("kernels-*"), key=lambda p: p.stat().st_mtime, reverse=True)
        for folder in folders[CACHES_KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)


class _Locator(_CacheLocator):
    def __init__(self, py_func, py_file):
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno

    def get_cache_path(self):
        return str(cache_dir())

    def get_source_stamp(self):
        return stamp()

    def get_disambiguator(self):
        return str(self._lineno)

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func, py_file)


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _KernelCache(FunctionCache):
    """Numba's cache, keyed on all kernel sources; a fault of the disk never stops training."""

    _impl_class = _CacheImpl

    def load_overload(self, sig, target_context):
        # Not super().load_overload: before it loads, it makes all of Numba's types and functions
        # known to the compiler, and imports SciPy where there is one. That takes 0.2 s, and only
        # compiling is in need of it, which does it again. Code that is loaded needs the runtime.
        try:
            rtsys.initialize(target_context)
            with self._guard_against_spurious_io_errors():
                found = self._load_overload(sig, target_context)
        except Exception as error:  # a damaged file may raise anything on its way out of pickle
            _warn_once(f"a damaged kernel cache file is compiled anew ({type(error).__name__})")
            found = None
            with suppress(OSError):
                self.flush()  # else saving stumbles over the same index
        if found is None:
            announce_compilation()
        return found

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_once(f"kernels cannot be kept in {self.cache_path} ({error.strerror})")


@cache
def announce_compilation():
    """Say, once a process, what the next seconds are for."""
    logger.warning("compiling kernels for this CPU; this happens once per machine ...")


@cache
def _warn_once(message):
    logger.warning("%s", message)


class _NoCache:
    """Stands in where nothing can be written; `cache_dir` has said so."""

    def load_overload(self, sig, target_context):
        return None

    def save_overload(self, sig, data):
        pass


def inner(function):
    """Compile a function that only kernels call."""
    return numba.njit(**OPTIONS)(function)


def inlined(function):
    """Compile a function into its callers.

    Each compiled function carries the machine code of all that it calls, compiled again: chains of
    functions around the tiles cost six seconds at first use. Such a function must not store through
    a pointer: after inlining, Numba takes the store for dead and drops it. A test holds this.
    """
    return numba.njit(inline="always", **OPTIONS)(function)


def kernel(function):
    """Compile a function that Python calls; its machine code is kept on disk."""
    dispatcher = numba.njit(**OPTIONS)(function)
    dispatcher._cache = _LazyCache(function)
    KERNELS[function.__name__] = dispatcher
    return dispatcher


KERNELS: dict = {}  # every compiled entry point by name


class _LazyCache:
    """Finds the cache folder at the first call, so that import touches no disk."""

    def __init__(self, function):
        self._function = function
        self._real = None

    @property
    def real(self):
        if self._real is None:
            self._real = _NoCache() if cache_dir() is None else _KernelCache(self._function)
        return self._real

    def load_overload(self, sig, target_context):
        return self.real.load_overload(sig, target_context)

    def save_overload(self, sig, data):
        self.real.save_overload(sig, data)
