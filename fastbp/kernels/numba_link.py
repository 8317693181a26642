"""How kernels become machine code: what is linked into each of them, and what they share.

Numba makes machine code of each function together with all that it calls, and so again and again on
the way up to a kernel. Here a *part*, which only kernels call, stays as it was emitted until it is
linked into a kernel, which is optimised once, as a whole. A *routine*, such as the register tiles
of a product, is machine code of its own: compiled once for each dtype, kept in a file of its own,
and called by its name. On an EPYC (Zen 4) training on float32 compiles in 33 s so, and took 76 s.

All private names of Numba's code generator that fastbp uses stand here. Where they are not as
expected, importing this file raises an ImportError, and kernels are linked as Numba does it.
"""

import ctypes
import gc
import hashlib
import os
import pickle
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from inspect import signature
from types import SimpleNamespace

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.core.cpu_options import FastMathOptions
from numba.core.datamodel.manager import DataModelManager
from numba.core.datamodel.models import TupleModel
from numba.core.fastmathpass import rewrite_module
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

from .cache import cache_folders

# Where Python calls a part: with its arguments (the function, ...) it says that it is no callable.
_NOT_CALLABLE = ctypes.cast(ctypes.pythonapi.PyObject_Call, ctypes.c_void_p).value
# Of Numba's passes those that kernels need: none of them has closures, generators or arithmetic of
# whole arrays, or branches that depend on types.
PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.GenericRewrites,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.IRLegalization,
    typed_passes.AnnotateTypes,
    typed_passes.NativeLowering,
    typed_passes.NoPythonBackend,
)
FLAT = 8  # fields of a record that are passed one by one; of larger ones, the address
_ROUTINES: dict = {}  # by name, those in memory
_FUNCTIONS: dict = {}  # by name, symbols and libraries of those called by address


class _Library(JITCodeLibrary):
    def _optimize_functions(self, ll_module):
        # Not one by one: what is optimised is the whole. A tenth of the time to compile.
        ll_module.data_layout = self._codegen._data_layout


class _Part(_Library):
    """A function that waits to be linked into kernels."""

    # Numba tells each function in memory its environment, which is for calls back to Python.
    codegen = SimpleNamespace(set_env=lambda name, env: None)

    def finalize(self):
        self._finalized = True

    def _get_module_for_linking(self):
        # For what is no kernel, such as a function of a test.
        whole = _Kernel(self._codegen, self.name)
        whole.add_linking_library(self)
        whole.link_all()
        for function in whole._final_module.functions:
            if not function.is_declaration:
                function.linkage = "linkonce_odr"
        return whole._final_module

    def get_pointer_to_function(self, name):
        return _NOT_CALLABLE


class _Routine(_Library):
    """Machine code that kernels call by its name."""

    def _optimize_final_module(self):
        # Its vectors, and the loops that are worth unrolling, are emitted as they should be.
        codegen = self._codegen
        passes, options = codegen._module_pass_manager(loop_vectorize=False, slp_vectorize=False)
        passes.run(self._final_module, options)

    def _get_module_for_linking(self):
        return llvm.parse_assembly("")


class _Kernel(_Library):
    """A kernel and all its parts."""

    def add_linking_library(self, library):
        if library in self._linking_libraries:
            return
        if isinstance(library, _Part | _Unit):
            for part in library._linking_libraries:  # first: in this order they are loaded
                self.add_linking_library(part)
        super().add_linking_library(library)

    def finalize(self):
        self._own = [f.name for f in self._final_module.functions if not f.is_declaration]
        self.link_all()
        super().finalize()

    def link_all(self):
        """Link all parts, then what they call: of others LLVM drops what nobody calls yet."""
        parts = [one for one in self._linking_libraries if isinstance(one, _Part)]
        others = [one for one in self._linking_libraries if not isinstance(one, _Part)]
        for part in parts:
            self._final_module.link_in(part._final_module, preserve=True)
        for other in others:
            self._final_module.link_in(other._get_module_for_linking(), preserve=True)
        # What is left is linked already; a kernel is asked for the routines among it.
        self._linking_libraries = [one for one in others if isinstance(one, _Routine)]

    def _optimize_final_module(self):
        for function in self._final_module.functions:
            if not function.is_declaration and function.name not in self._own:
                function.linkage = "internal"
        passes, options = self._codegen._module_pass_manager()
        passes.run(self._final_module, options)

    def _get_module_for_linking(self):
        # It is kept beside the machine code, for the names of what that defines. Nobody links it.
        functions = [f'define void @"{name}"() {{ ret void }}' for name in self._own]
        return llvm.parse_assembly("\n".join(functions))


class _Unit(_Kernel, _Routine):
    """A part that is a routine: kernels call it, so that none of them optimises it again."""

    def finalize(self):
        super().finalize()
        self._name = f"unit.{hashlib.sha256(' '.join(self._own).encode()).hexdigest()[:24]}"
        _ROUTINES[self._name] = self
        _keep(self._name, self._get_compiled_object())

    _optimize_final_module = _Kernel._optimize_final_module
    _get_module_for_linking = _Routine._get_module_for_linking


class _Record(TupleModel):
    """How a NamedTuple is passed from kernel to kernel: by its address, if it is large."""

    # Numba takes each apart and puts it together again, at each call and in each function. Whoever
    # calls such a function is compiled by a compiler from below, too.

    def __init__(self, *of):
        super().__init__(*of)
        self._by_address = _leaves(super().get_argument_type()) > FLAT

    def get_argument_type(self):
        if self._by_address:
            return self.get_value_type().as_pointer()
        return super().get_argument_type()

    def as_argument(self, builder, value):
        if not self._by_address:
            return super().as_argument(builder, value)
        if (place := _still_at(builder, value)) is None:
            place = cgutils.alloca_once(builder, value.type)
            builder.store(value, place)
        return place

    def from_argument(self, builder, value):
        if self._by_address:
            return builder.load(value)
        return super().from_argument(builder, value)


def _leaves(kinds):
    return sum(map(_leaves, kinds)) if isinstance(kinds, tuple) else 1


def _still_at(builder, value):
    """Return the address that a value was loaded from, if it is there yet, or None."""
    if isinstance(value, ir.LoadInstr):
        (place,) = value.operands
        if isinstance(place, ir.Argument):  # a record that was passed, which nobody changes
            return place
        for one in reversed(builder.block.instructions):
            if one is value:
                return place
            if isinstance(one, ir.StoreInstr) and one.operands[1] is place:
                break
    return None


_MODELS = DataModelManager({types.NamedTuple: _Record})
_MODELS = _MODELS.chain(cpu_target.target_context.data_model_manager)


@cache
def _passes():
    manager = PassManager("fastbp")
    for one in PASSES:
        manager.add_pass(one, one._name)
    manager.finalize()
    manager._ENFORCING = False  # each pass that needs an analysis makes it: all made all anew
    return manager


@contextmanager
def _no_collection():
    """Keep Python from looking for garbage, which took a tenth of the time to compile."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Compiler(CompilerBase):
    """Numba's, less what kernels do not need: a third of the time of what is before LLVM."""

    def __init__(self, *of):
        super().__init__(*of)
        self.state.targetctx.data_model_manager = _MODELS

    def define_pipelines(self):
        return [_passes()]

    def compile_extra(self, function):
        with _no_collection():
            return super().compile_extra(function)


class UserCompiler(Compiler):
    """Compiles functions of the user's, which may need all of Numba, as parts."""

    def __init__(self, typingctx, targetctx, library, *others):
        library = library or _Part(targetctx.codegen(), "part")
        super().__init__(typingctx, targetctx, library, *others)


class PartCompiler(_Compiler):
    """Compiles what only kernels call."""

    def __init__(self, typingctx, targetctx, library, *others):
        library = library or _Part(targetctx.codegen(), "part")
        super().__init__(typingctx, targetctx, library, *others)


class UnitCompiler(_Compiler):
    """Compiles parts that are routines."""

    def __init__(self, typingctx, targetctx, library, *others):
        library = library or _new(_Unit, "unit")
        super().__init__(typingctx, targetctx, library, *others)


class KernelCompiler(_Compiler):
    """Compiles what Python calls."""

    def __init__(self, typingctx, targetctx, library, *others):
        library = library or _new(_Kernel, "kernel")
        super().__init__(typingctx, targetctx, library, *others)


# -- routines --------------------------------------------------------------------------------------


def routine(name, emit, fastmath):
    """Return the library of a routine, which `emit(module)` emits if it is not compiled yet."""
    if name not in _ROUTINES:
        _ROUTINES[name] = _loaded(name) or _compiled(name, emit, fastmath)
    return _ROUTINES[name]


def routines_of(library):
    """Return the names of the routines that a kernel calls."""
    return [part.name for part in library._linking_libraries if isinstance(part, _Routine)]


def load_routines(names):
    """Load routines, before code that calls them; return whether all were found."""
    for name in names:
        if name not in _ROUTINES:
            if (library := _loaded(name)) is None:
                return False
            _ROUTINES[name] = library
    return True


def _new(kind, name):
    library = kind(cpu_target.target_context.codegen(), name)
    library.enable_object_caching()
    return library


def _compiled(name, emit, fastmath):
    library = _new(_Routine, name)
    module = library.create_ir_module(name)
    emit(module)
    rewrite_module(module, FastMathOptions(fastmath))
    library.add_ir_module(module)
    library.finalize()
    _keep(name, library._get_compiled_object())
    return library


def _with_digest(code):
    return hashlib.sha256(code).digest() + code


def _keep(name, code):
    """Write machine code to a file, whole or not at all."""
    if (folder := cache_folders()[1]) is None:
        return
    with suppress(OSError):  # the kernel, which is written next, tells of a full disk
        file = tempfile.NamedTemporaryFile(dir=folder, delete=False)
        try:
            with file:
                file.write(_with_digest(code))
            os.replace(file.name, folder / f"{name}.o")
        except OSError:
            os.unlink(file.name)
            raise


def _kept(name):
    """Return what `_keep` wrote under this name, or None."""
    for folder in cache_folders()[0]:
        with suppress(OSError):
            kept = (folder / f"{name}.o").read_bytes()
            code = kept[hashlib.sha256().digest_size :]
            if kept == _with_digest(code):  # LLVM would end the process over a damaged one
                return code
    return None


def _library(name, code):
    library = _new(_Routine, name)
    library._set_compiled_object(code)
    library._finalize_final_module()
    return library


def _loaded(name):
    """Return the library of a routine from its file, or None."""
    code = _kept(name)
    return None if code is None else _library(name, code)


def kept_functions(name, compiled):
    """Return the addresses of functions kept under a name, or of what `compiled()` yields.

    That is for each its symbol, by which no other code may be known, and its library.
    """
    if name not in _FUNCTIONS:
        rtsys.initialize(cpu_target.target_context)
        if (kept := _kept(name)) is not None:
            found = [(symbol, _library(name, code)) for symbol, code in pickle.loads(kept)]
        else:
            found = [*compiled()]
            _keep(name, pickle.dumps([(s, one._get_compiled_object()) for s, one in found]))
        _FUNCTIONS.setdefault(name, found)  # of two threads' code, that which is used stays
    # Numba would look for symbols among those of modules, of which code from files has none.
    engine = cpu_target.target_context.codegen()._engine
    return tuple(engine.get_function_address(symbol) for symbol, _ in _FUNCTIONS[name])


def check_parameters(counts):
    """Raise ImportError where a method of Numba has not as many parameters as expected."""
    for method, count in counts.items():
        found = len(signature(method).parameters)
        if found != count:
            raise ImportError(f"{method.__qualname__} has {found} parameters, not {count}")


def _check():
    """Raise ImportError where a private part of Numba is not what this file was written for."""
    try:
        parameters = {  # how many each method has
            JITCodeLibrary.__init__: 3,
            JITCodeLibrary.add_linking_library: 2,
            JITCodeLibrary.finalize: 1,
            JITCodeLibrary.get_pointer_to_function: 2,
            JITCodeLibrary._optimize_functions: 2,
            JITCodeLibrary._optimize_final_module: 1,
            JITCodeLibrary._finalize_final_module: 1,
            JITCodeLibrary._get_module_for_linking: 1,
            JITCodeLibrary._get_compiled_object: 1,
            JITCodeLibrary._set_compiled_object: 2,
            CompilerBase.__init__: 8,
            CompilerBase.define_pipelines: 1,
            CompilerBase.compile_extra: 2,
            PassManager.add_pass: 3,
            DataModelManager.chain: 2,
            TupleModel.__init__: 3,
            TupleModel.get_argument_type: 1,
            TupleModel.as_argument: 3,
            TupleModel.from_argument: 3,
            rewrite_module: 2,
            rtsys.initialize: 1,
        }
        check_parameters(parameters)
        _ = _passes(), PassManager._ENFORCING, cpu_target.target_context.data_model_manager
        library = _new(_Kernel, "check")
        _ = library._final_module.functions, library._linking_libraries, library._finalized
        _ = library._codegen._data_layout, library._codegen._module_pass_manager
        _ = library.codegen.set_env, library._codegen._engine.get_function_address
    except (AttributeError, TypeError) as error:
        raise ImportError(str(error)) from error


_check()
