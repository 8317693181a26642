"""Vectors and loops as LLVM IR: what the other files of this folder are written in.

With `Vec`, code that emits a formula reads like the formula. `Emitter` emits loads, stores and
loops. `emitted` makes an intrinsic for kernels of a function that emits instructions.
"""

from contextlib import contextmanager
from functools import update_wrapper

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from ..cpu import vector_bytes
from ..jit import routine

I32, I64 = ir.IntType(32), ir.IntType(64)


def lanes(dtype):
    """Return how many elements of a Numba float type one vector holds."""
    return vector_bytes() * 8 // dtype.bitwidth


def element(dtype):
    """Return the LLVM type of a Numba float or integer type."""
    floats = {32: ir.FloatType(), 64: ir.DoubleType()}
    return floats[dtype.bitwidth] if isinstance(dtype, types.Float) else ir.IntType(dtype.bitwidth)


def _operator(instruction):
    """Return a method of `Vec` that emits an instruction of two operands."""

    def method(self, other):
        return Vec(self.builder, getattr(self.builder, instruction)(self.value, self._lift(other)))

    return method


class Vec:
    """An LLVM vector or scalar: Python's operators emit instructions."""

    __add__, __sub__ = _operator("fadd"), _operator("fsub")
    __mul__, __truediv__ = _operator("fmul"), _operator("fdiv")

    def __init__(self, builder, value):
        self.builder = builder
        self.value = value

    def _lift(self, other):
        if isinstance(other, Vec):
            return other.value
        kind = self.value.type
        return ir.Constant(kind, [other] * kind.count if hasattr(kind, "count") else other)

    def __neg__(self):
        return Vec(self.builder, self.builder.fneg(self.value))

    def __abs__(self):
        return self.call("fabs")

    def const(self, x):
        """Return the number x in every lane."""
        return Vec(self.builder, self._lift(x))

    def fma(self, factor, addend):
        """Return self * factor + addend, rounded once where the CPU can."""
        return self.call("fmuladd", factor, addend)

    def call(self, name, *others):
        """Call the LLVM intrinsic of this name on vectors of this type."""
        t = self.value.type
        kind = "f32" if isinstance(t.element, ir.FloatType) else "f64"
        args = [self.value, *map(self._lift, others)]
        return Vec(self.builder, call(self.builder, f"llvm.{name}.v{t.count}{kind}", t, args))

    def where(self, op, bound, yes, no):
        """Return `yes` in the lanes where `self op bound` holds (never for NaN), else `no`."""
        mask = self.builder.fcmp_ordered(op, self.value, self._lift(bound))
        return Vec(self.builder, self.builder.select(mask, self._lift(yes), self._lift(no)))

    def keep(self, mask, other):
        """Return self in the lanes of the mask, else `other`."""
        return Vec(self.builder, self.builder.select(mask, self.value, self._lift(other)))

    def in_register(self):
        """Return self, of which the optimiser knows no more than that it is in a register; x86."""
        kind = ir.FunctionType(self.value.type, [self.value.type])
        return Vec(self.builder, self.builder.asm(kind, "", "=v,0", [self.value], False))

    def part(self, size):
        """Return the first lanes of a vector, this share of all."""
        if size == 1:
            return self
        first = range(int(self.value.type.count * size))
        return Vec(self.builder, shuffle(self.builder, self.value, self.value, first))

    def fold(self, op):
        """Combine all lanes into a scalar by halves, always in the same order."""
        value, n = self.value, self.value.type.count
        while n > 1:
            n //= 2
            low = shuffle(self.builder, value, value, range(n))
            high = shuffle(self.builder, value, value, range(n, 2 * n))
            value = op(Vec(self.builder, low), Vec(self.builder, high)).value
        return Vec(self.builder, self.builder.extract_element(value, I32(0)))

    def sums_beside(self, others):
        """Return one vector of the sums of this vector's lanes and of each other vector's."""
        # Halves are added up as in `fold`, of all vectors at once: a fifth of the instructions.
        b, vecs = self.builder, [self.value, *(x.value for x in others)]
        span = self.value.type.count  # lanes that make up one sum

        def halved(pair):
            """Add the first half of each span to its second, over the vectors of `pair`."""
            n = pair[0].type.count
            places = [i * n + j for i in range(len(pair)) for j in range(n)]
            low = [j for j in places if j % span < span // 2]
            high = [j for j in places if j % span >= span // 2]
            return b.fadd(*(shuffle(b, pair[0], pair[-1], half) for half in (low, high)))

        while len(vecs) > 1:
            pairs = list(zip(vecs[::2], vecs[1::2], strict=True))
            if span > 1:
                vecs, span = [halved(pair) for pair in pairs], span // 2
            else:
                vecs = [join(b, x, y) for x, y in pairs]
        while span > 1:
            vecs, span = [halved(vecs)], span // 2
        return Vec(b, vecs[0])


def call(builder, name, result, args):
    """Call a function by its symbol, such as an intrinsic of LLVM."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def shuffle(builder, a, b, order):
    """Return the lanes of a and b, counted through, in this order."""
    mask = ir.Constant(ir.VectorType(I32, len(order)), list(order))
    return builder.shuffle_vector(a, b, mask)


def join(builder, a, b):
    """Return the lanes of a, then those of b."""
    return shuffle(builder, a, b, range(2 * a.type.count))


def spread(builder, scalar, count):
    """Return `count` lanes of a scalar of any type."""
    empty = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
    one = builder.insert_element(empty, scalar, I32(0))
    return shuffle(builder, one, one, [0] * count)


def first_of(builder, n, count):
    """Return the mask of the first n of `count` lanes: none where n < 0, all where n > count."""
    iota = ir.Constant(ir.VectorType(I32, count), list(range(count)))
    return builder.icmp_signed("<", iota, spread(builder, builder.trunc(n, I32), count))


def not_zero(builder, x):
    """Return the mask of the lanes that are not zero; NaN is not."""
    integers = isinstance(x.type.element, ir.IntType)
    differs = builder.icmp_unsigned if integers else builder.fcmp_unordered
    return differs("!=", x, ir.Constant(x.type, [0] * x.type.count))


class Emitter:
    """Emits instructions on elements of one `dtype`, a Numba type. Places are LLVM pointers."""

    def __init__(self, builder, dtype, vector=None, context=None):
        self.builder, self.dtype, self.vector = builder, dtype, vector
        self.context = context  # Numba's; not in what is compiled apart

    @property
    def lanes(self):
        """How many elements a vector holds."""
        return self.vector * 8 // self.dtype.bitwidth if self.vector else lanes(self.dtype)

    def with_vectors(self, size):
        """Return an emitter of vectors of so many bytes."""
        return Emitter(self.builder, self.dtype, size)

    def at(self, place, index):
        """Return the place `index` elements further on."""
        return self.builder.gep(place, [I64(index) if isinstance(index, int) else index])

    def row(self, matrix, i, stride):
        """Return the place of row i of a matrix whose rows are `stride` elements apart."""
        return self.at(matrix, self.builder.mul(i, stride))

    def beside(self, place, count):
        """Return the places of `count` vectors that lie side by side."""
        return [self.at(place, i * self.lanes) for i in range(count)]

    def _vector_at(self, place, vectors):
        kind = ir.VectorType(element(self.dtype), int(self.lanes * vectors))
        return self.builder.bitcast(place, kind.as_pointer())

    def vec(self, value):
        """Wrap an LLVM vector or scalar."""
        return Vec(self.builder, value)

    def load(self, place, vectors=1):
        """Load from any element's address."""
        place = self._vector_at(place, vectors)
        return self.vec(self.builder.load(place, align=self.dtype.bitwidth // 8))

    def store(self, place, vec, vectors=1):
        """Store at any element's address."""
        place = self._vector_at(place, vectors)
        self.builder.store(vec.value, place, align=self.dtype.bitwidth // 8)

    def first_lanes(self, n, vectors=1):
        """Return the mask of the first n lanes: none where n < 0, all where there are fewer."""
        return first_of(self.builder, n, self.lanes * vectors)

    def masked_load(self, place, mask, fill=0.0):
        """Load the lanes of the mask; no byte of the others is read, and they hold `fill`."""
        n, bits = mask.type.count, self.dtype.bitwidth
        kind = ir.VectorType(element(self.dtype), n)
        letter = "f" if isinstance(self.dtype, types.Float) else "i"
        place = self.builder.bitcast(place, kind.as_pointer())
        args = [place, I32(bits // 8), mask, ir.Constant(kind, [fill] * n)]
        return self.vec(call(self.builder, f"llvm.masked.load.v{n}{letter}{bits}.p0", kind, args))

    def masked_store(self, place, mask, vec):
        """Store the lanes of the mask; no byte of the others is written."""
        n = mask.type.count
        place = self._vector_at(place, n // self.lanes)
        name = f"llvm.masked.store.v{n}f{self.dtype.bitwidth}.p0"
        args = [vec.value, place, I32(self.dtype.bitwidth // 8), mask]
        call(self.builder, name, ir.VoidType(), args)

    def splat(self, scalar, vectors=1):
        """Return a vector of one number."""
        return self.vec(spread(self.builder, scalar, int(self.lanes * vectors)))

    def broadcast(self, place):
        """Return a vector of the number at a place."""
        return self.splat(self.builder.load(place))

    def zero(self, vectors=1):
        """Return a vector of zeros."""
        kind = ir.VectorType(element(self.dtype), int(self.lanes * vectors))
        return self.vec(ir.Constant(kind, [0.0] * kind.count))

    def loop(self, start, stop, step, carried, body):
        """Emit `for k in range(start, stop, step): carried = body(k, *carried)`; return the end."""
        # What is carried are phi nodes, so that sums stay in registers whatever the optimiser does.
        with self._counting(start, stop, step, carried) as (k, phis, new):
            new += body(k, *phis)
        return phis

    @contextmanager
    def over(self, stop, step=1, start=None):
        """Emit `for k in range(start or 0, stop, step)` around what is emitted inside; yields k."""
        with self._counting(start or I64(0), stop, step, []) as (k, _, _):
            yield k

    @contextmanager
    def _counting(self, start, stop, step, carried):
        b = self.builder
        before = b.block
        head, inside, after = (b.append_basic_block(n) for n in ("head", "body", "after"))
        b.branch(head)
        b.position_at_end(head)
        k = b.phi(I64)
        phis, new = [self.vec(b.phi(x.value.type)) for x in carried], []
        b.cbranch(b.icmp_signed("<", k, stop), inside, after)
        b.position_at_end(inside)
        yield k, phis, new
        following = b.add(k, I64(step) if isinstance(step, int) else step)
        end = b.block
        _never_unroll(b, b.branch(head))
        k.add_incoming(start, before)
        k.add_incoming(following, end)
        for phi, first, again in zip(phis, carried, new, strict=True):
            phi.value.add_incoming(first.value, before)
            phi.value.add_incoming(again.value, end)
        b.position_at_end(after)

    def switch(self, code, cases):
        """Emit `cases[code]()`; nothing where there is no such case."""
        b = self.builder
        after = b.append_basic_block("after_switch")
        switch = b.switch(code, after)
        for number, emit in cases.items():
            case = b.append_basic_block(f"case_{number}")
            switch.add_case(I64(number), case)
            b.position_at_end(case)
            emit()
            b.branch(after)
        b.position_at_end(after)


def _never_unroll(builder, branch):
    """Mark a loop's backward branch: what is worth unrolling is emitted unrolled."""
    # The optimiser would unroll every loop here by eight, for a third more to compile and no gain.
    module = builder.module
    word = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    # Such metadata must name itself, so that no two loops share it.
    metadata = ir.values.MDValue(module, [word], name=str(len(module.metadata)))
    metadata.operands = (metadata, word)
    branch.set_metadata("llvm.loop", metadata)


_ROUTINES = set()  # the names of functions that are compiled apart


def emitted(returns=types.void, apart=False):
    """Make an intrinsic, which kernels can call, of a function that emits instructions."""
    # The function takes an `Emitter` of what the first pointer to floats points to (or the first
    # pointer of all), then an LLVM value for each argument: integers as int64, floats in that
    # precision, None as None. `returns` is the type of the result; `float` is that precision.
    # What is compiled `apart` is a routine, see `numba_link`: what takes longer than a call, 2 ns.

    def decorate(emit):
        if apart:
            assert emit.__name__ not in _ROUTINES, "a routine's machine code is known by its name"
            _ROUTINES.add(emit.__name__)

        def typed(typingctx, *arguments):
            elements = [t.dtype for t in arguments if isinstance(t, types.CPointer)]
            floats = (t for t in elements if isinstance(t, types.Float))
            dtype = next(floats, elements[0] if elements else None)
            result = dtype if returns is float else returns
            kinds = [_passed_as(t, dtype) for t in arguments]

            def codegen(context, builder, signature, args):
                def emit_into(builder, args):
                    return emit(Emitter(builder, dtype, None, None if apart else context), *args)

                pairs = zip(args, kinds, strict=True)
                args = [None if isinstance(t, types.NoneType) else x for x, t in pairs]
                if apart:
                    name = f"{emit.__name__}.{''.join(map(_letters, kinds))}"
                    value = _call_routine(context, builder, name, result, args, emit_into)
                else:
                    value = emit_into(builder, args)
                return context.get_dummy_value() if value is None else value

            return result(*kinds), codegen

        # Numba reads the parameters' names off `emit`; it leaves out the first, as intended.
        return intrinsic(update_wrapper(typed, emit))

    return decorate


def _call_routine(context, builder, name, result, args, emit_into):
    """Emit a call of the routine of this name; return what it returns, or None."""
    given = [a for a in args if a is not None]
    nothing = result is types.void
    returned = ir.VoidType() if nothing else context.get_value_type(result)
    kind = ir.FunctionType(returned, [a.type for a in given])

    def emit_routine(module):
        function = ir.Function(module, kind, name)
        inside, passed = ir.IRBuilder(function.append_basic_block()), iter(function.args)
        value = emit_into(inside, [None if a is None else next(passed) for a in args])
        inside.ret_void() if nothing else inside.ret(value)

    library = routine(name, emit_routine)
    if library is None:
        return emit_into(builder, args)
    context.active_code_library.add_linking_library(library)
    value = call(builder, name, returned, given)
    return None if nothing else value


def _letters(kind):
    """Return a type as a name has it, such as i8 for int64, or pf4 for a pointer to float32."""
    if isinstance(kind, types.CPointer):
        return "p" + _letters(kind.dtype)
    return "n" if isinstance(kind, types.NoneType) else as_dtype(kind).str[1:]


def _passed_as(kind, dtype):
    if isinstance(kind, types.Integer):
        return types.int64
    return dtype if isinstance(kind, types.Float) else kind
