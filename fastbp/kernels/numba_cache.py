"""Numba's cache, keyed on all kernel sources; a fault of the disk never stops training.

All private names of Numba's cache that fastbp uses stand here. Where they are not as expected,
importing this file raises an ImportError, and `jit.kernel` does with the public ones.
"""

import hashlib
import logging
from contextlib import suppress
from functools import cache, cached_property

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.caching import _CacheLocator as CacheLocator
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.extending import _Intrinsic

from .cache import cache_dir, cache_folders, news, numba_config, stamp
from .numba_link import check_parameters, load_routines, routines_of

logger = logging.getLogger("fastbp")


class _Locator(CacheLocator):
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

    def reduce(self, cres):
        return routines_of(cres.library), super().reduce(cres)

    def rebuild(self, target_context, payload):
        routines, kernel = payload
        return super().rebuild(target_context, kernel) if load_routines(routines) else None


class _File(IndexDataCacheFile):
    """The index of a kernel, and a file of machine code for each of its signatures."""

    def save(self, key, data):
        # Numba numbers the files. Of two processes that compile at once, one would name in the
        # index what the other writes: code for other types, called by its address, spoils memory.
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        name = f"{self._index_name.removesuffix('.nbi')}.{digest}.nbc"
        self._save_data(name, data)
        self._save_index(self._load_index() | {key: name})


class _KernelCache(FunctionCache):
    _impl_class = _CacheImpl

    def __init__(self, py_func):
        self._function = py_func

    @cached_property
    def _files(self):  # at the first call: import touches no disk
        """Files of this kernel, best first; where there is a writable folder, its is last."""
        readable, _ = cache_folders()
        if readable:
            with numba_config(CACHE_LOCATOR_CLASSES=""):  # the user's would choose other folders
                super().__init__(self._function)
        return [_File(str(p), self._impl.filename_base, stamp()) for p in readable]

    def _index_key(self, sig, codegen):
        # As Numba's, less what a closure holds of intrinsics: their pickles change from process to
        # process, and would never be found again. What they emit is in the stamp.
        cells = (cell.cell_contents for cell in self._function.__closure__ or ())
        held = dumps(tuple(x for x in cells if not isinstance(x, _Intrinsic)))
        return sig, codegen.magic_tuple(), hashlib.sha256(held).hexdigest()

    def load_overload(self, sig, target_context):
        # Not super().load_overload: before it loads, it makes all of Numba's types and functions
        # known to the compiler, and imports SciPy where there is one. That takes 0.2 s, and only
        # compiling needs it, which does it again. Code that is loaded needs the runtime.
        rtsys.initialize(target_context)
        for file in self._files:
            self._cache_file = file
            try:
                with self._guard_against_spurious_io_errors():
                    if found := self._load_overload(sig, target_context):
                        return found
            except Exception as error:  # a damaged file may raise anything on its way out of pickle
                kind = type(error).__name__
                _warn_once(f"a damaged kernel cache file is compiled anew ({kind})")
                with suppress(OSError):
                    self.flush()  # else saving stumbles over the same index
        _warn_once(news())
        return None

    def save_overload(self, sig, data):
        try:
            if cache_folders()[1]:
                super().save_overload(sig, data)
        except OSError as error:
            _warn_once(f"kernels cannot be kept in {self.cache_path} ({error.strerror})")


@cache
def _warn_once(message):
    logger.warning("%s", message)


def cached(function, options):
    """Compile a function whose machine code is kept in the cache."""
    dispatcher = numba.njit(**options)(function)
    dispatcher._cache = _KernelCache(function)
    return dispatcher


def _check():
    """Raise ImportError where a private part of Numba is not what this file was written for."""
    try:
        parameters = {  # how many each method has
            FunctionCache.__init__: 2,
            FunctionCache.load_overload: 3,
            FunctionCache._load_overload: 3,
            FunctionCache.save_overload: 3,
            FunctionCache.flush: 1,
            FunctionCache._index_key: 3,
            FunctionCache._guard_against_spurious_io_errors: 1,
            CacheLocator.from_function: 2,
            IndexDataCacheFile.__init__: 4,
            IndexDataCacheFile.save: 3,
            IndexDataCacheFile._save_data: 3,
            IndexDataCacheFile._save_index: 2,
            IndexDataCacheFile._load_index: 1,
            rtsys.initialize: 1,
        }
        check_parameters(parameters)
        _ = FunctionCache._impl_class._locator_classes, FunctionCache.cache_path
        _ = numba.njit(_check)._cache, _File("", "", "")._index_name
        _Locator(_check, __file__)
    except (AttributeError, TypeError) as error:
        raise ImportError(str(error)) from error


_check()
