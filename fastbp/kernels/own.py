"""Functions of the user's, compiled: what stands in a plan's tables for those of fastbp's own.

Each is compiled for one number, and inlined into a loop over the lanes of a vector, of which LLVM
makes vector instructions where it can. Machine code is kept under a name that says what the
functions do, with all that they use: what is edited is compiled anew, and what cannot be told from
other things, in each process.
"""

import ctypes
import hashlib
from contextlib import suppress
from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.np.numpy_support import as_dtype

from ..reference import own_code
from .cpu import vector_bytes
from .ir.activations import map_one, map_row
from .ir.losses import add_lanes, each_row, store_loss
from .ir.samples import SampleLanes, double
from .ir.scalars import SCALARS
from .ir.terms import by_terms
from .ir.vectors import I64, element, emitted
from .jit import compiled_once, inlined
from .walk.losses import lanes_kinds, rows_kinds

ALIGNED = 64  # bytes: a vector, of any kind
REASON = 200  # characters of what Numba says
_ENTRIES: dict = {}  # the addresses of what is in memory


# -- one number ------------------------------------------------------------------------------------


def _compiled(role, number):
    """Return a function of the user's as Numba compiles it for arguments of this type."""
    # For Numba a number in the code is of double precision, and makes all that it meets so; for
    # NumPy it is of the precision of what it meets. Integers, too, unless they are counted with.
    if number == types.float32:
        with suppress(Exception):
            return _typed(role, number, (int, float))
    try:
        found = _typed(role, number, (float,))
    except Exception as error:  # not all of the compiler's own are errors of Numba
        raise TypeError(f"{role.name} cannot be compiled: {_reason(error)}") from error
    if not isinstance(found.signature.return_type, types.Float):
        kind = found.signature.return_type
        raise TypeError(f"{role.name} must return a float; compiled it returns {kind}")
    return found


def _typed(role, number, converted):
    """Return what Numba compiles, with numbers in the code of these types as those of arguments."""

    def constant(value):
        return as_dtype(number).type(value) if type(value) in converted else value

    def change(value):
        return constant(SCALARS.get(id(value), value))

    kinds = (number,) * role.count
    dispatcher = own_code.Copies(change, constant, inlined).of(role.call)
    dispatcher.compile(kinds)
    return dispatcher.overloads[kinds]


def _reason(error):
    """Return what Numba says, on one line."""
    lines = (line.strip() for line in str(error).splitlines())
    said = [x for x in lines if x and not x.startswith("Failed in nopython mode")]
    ends = (i for i, x in enumerate(said) if x.startswith(("File ", "During: ")))
    return " ".join(said[: next(ends, None)])[:REASON]


def _of_lanes(e, found, dtype, *vectors):
    """Emit a compiled function of the lanes of vectors; return a vector of a dtype."""
    # Through memory of its own: LLVM sees that loads and stores are of different places, and leaves
    # neither them nor the loop.
    b, count = e.builder, vectors[0].value.type.count
    kinds, result = found.signature.args, found.signature.return_type

    def room(kind):
        place = cgutils.alloca_once(b, ir.ArrayType(element(kind), count))
        place.align = ALIGNED
        return b.bitcast(place, element(kind).as_pointer())

    def whole(place):
        return b.bitcast(place, ir.VectorType(place.type.pointee, count).as_pointer())

    sources, target = [room(kind) for kind in kinds], room(dtype)
    for place, vector in zip(sources, vectors, strict=True):
        b.store(vector.value, whole(place), align=ALIGNED)
    e.context.active_code_library.add_linking_library(found.library)
    function = e.context.declare_function(b.module, found.fndesc)
    # On some CPUs LLVM would rather have vectors of half the size, for which there are no formulas.
    set.add(b.function.attributes, f'"prefer-vector-width"="{8 * vector_bytes()}"')
    with e.over(I64(count)) as i:
        numbers = [b.load(b.gep(place, [i])) for place in sources]
        _, value = e.context.call_conv.call_function(b, function, result, kinds, numbers)
        b.store(e.context.cast(b, value, result, dtype), b.gep(target, [i]))
    return e.vec(b.load(whole(target), align=ALIGNED))


# -- what is called by address ---------------------------------------------------------------------


def _activations(activation, dtype):
    """Return what does as `activate` and `activate_one`, each with the types of its arguments."""
    number = from_dtype(dtype)
    n, p = types.int64, types.CPointer(number)
    value, slope = (_compiled(role, number) for role in activation.roles)

    def both(e, z):
        a = _of_lanes(e, value, number, z)
        return a, _of_lanes(e, slope, number, *(z, a)[: activation.roles[1].count])

    @emitted()
    def map_rows(e, rows, n, z, z_row, out, out_row):
        def formula(z):
            return _of_lanes(e, value, number, z)

        with e.over(rows) as r:
            map_row(e, n, formula, [e.row(z, r, z_row)], e.row(out, r, out_row))

    @emitted()
    def map_both(e, n, z, a, slope):
        map_one(e, n, lambda z: both(e, z), z, a, slope)

    def activate(rows, n, z, z_row, out, out_row):
        map_rows(rows, n, z, z_row, out, out_row)

    def activate_one(n, z, a, slope):
        map_both(n, z, a, slope)

    return (activate, (n, n, p, n, p, n)), (activate_one, (n, p, p, p))


def _losses(loss, dtype):
    """Return what does as `rows` and `lanes` of `losses`, each with the types of its arguments."""
    number = from_dtype(dtype)
    # Losses are summed up in double precision: so are their terms.
    value, delta = _compiled(loss.roles[0], types.float64), _compiled(loss.roles[1], number)

    def terms_of(e):
        def terms(a, y, _):
            part = _of_lanes(e, value, types.float64, double(a), double(y))
            return part, _of_lanes(e, delta, number, a, y)

        return lambda row: by_terms(terms, None, row)

    @emitted()
    def term_rows(
        e, rows, n, a, a_row, which, labels, values, labelled, delta, delta_row, losses, hits
    ):
        targets = which, labels, values, labelled
        with each_row(e, rows, n, (a, a_row), targets, (delta, delta_row)) as (r, sample):
            store_loss(e, terms_of(e), sample, r, labelled, losses, hits)

    @emitted()
    def term_lanes(e, n, m, row, a, targets, labelled, delta, sums):
        matrices = a, delta, targets
        add_lanes(e, n, m, row, matrices, terms_of(e), e.at(sums, 0))
        with e.builder.if_then(labelled):
            add_lanes(e, n, m, row, matrices, SampleLanes.hit, e.at(sums, 1))

    def rows(
        setting, rows, n, a, a_row, which, labels, values, labelled, delta, delta_row, losses, hits
    ):
        term_rows(
            rows, n, a, a_row, which, labels, values, labelled, delta, delta_row, losses, hits
        )

    def lanes(setting, n, m, row, a, targets, labelled, delta, sums):
        term_lanes(n, m, row, a, targets, labelled, delta, sums)

    return (rows, rows_kinds(dtype)), (lanes, lanes_kinds(dtype))


def _entries(pair, dtype, define):
    """Return the addresses of both functions that `define(pair, dtype)` defines, compiled."""
    dtype = np.dtype(dtype)
    if (pair, dtype) not in _ENTRIES:
        said = own_code.key(*(role.call for role in pair.roles))
        text = f"{define.__name__} {dtype} {[role.count for role in pair.roles]}\n{said}"
        name = said and f"own.{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        _ENTRIES[pair, dtype] = compiled_once(name, lambda: define(pair, dtype))
    return _ENTRIES[pair, dtype]


def activation_entries(activation, dtype):
    """Return the addresses of an `Activation`'s functions, see `functions`."""
    return _entries(activation, dtype, _activations)


def loss_entries(loss, dtype):
    """Return the addresses of a `Loss`'s functions, see `losses`."""
    return _entries(loss, dtype, _losses)


# -- from Python -----------------------------------------------------------------------------------


def _call(address, *arguments):
    """Call a compiled function, which takes arrays and integers."""
    numbers = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
    kinds = [ctypes.c_double if isinstance(n, float) else ctypes.c_int64 for n in numbers]
    # Numba's functions first take where to put what they return, and an error.
    nothing = ctypes.c_int64()
    call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *kinds)(address)
    call(ctypes.byref(nothing), ctypes.byref(nothing), *numbers)


def compiled_values(pair: Any, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of both functions of a pair at places, float64, as compiled code has them.

    Places are rows: z of an `Activation`, a and y of a `Loss`.
    """
    count, lanes = len(places), ALIGNED // 8
    if places.shape[1] == 1:
        z, a, slope = np.zeros((3, count + lanes))
        z[:count] = places[:, 0]
        _call(activation_entries(pair, np.float64)[1], count, z, a, slope)
        return a[:count], slope[:count]
    a, delta, losses, y = np.zeros((count, lanes)), np.ones((count, lanes)), *np.zeros((2, count))
    a[:, 0], y[:] = places.T
    which, labelled = np.arange(count), 0
    given, results = (a, lanes, which, which, y, labelled), (delta, lanes, losses, losses.copy())
    _call(loss_entries(pair, np.float64)[0], 0.0, count, 1, *given, *results)
    return losses, delta[:, 0]
