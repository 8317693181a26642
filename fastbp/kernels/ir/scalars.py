"""Functions of one number, as code of users' calls them, of which LLVM makes vectors.

What Numba makes of `math.exp` is a call of libm for each number, which takes 5 to 10 times as long
as the formulas of kernels do. Here it is a function that computes such a formula, and that says how
it is called for whole vectors: LLVM's vectoriser takes that, where it makes a loop one of vectors.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..jit import inlined
from .activations import EXP, FORMULAS, TANH
from .vectors import I32, Vec, element, lanes, spread

KEPT = "llvm.compiler.used"


@inlined
def _where(condition, x, y):
    return x if condition else y


@inlined
def _clip(x, low, high):
    return min(max(x, low), high)


def _by_formula(name, formula):
    """Return a function for kernels of one number, of which LLVM knows how to take a vector."""

    @intrinsic
    def function(typingctx, x):
        number = x if isinstance(x, types.Float) else types.float64

        def codegen(context, builder, signature, args):
            return builder.call(_in_module(builder.module, name, formula, number), args)

        return number(number), codegen

    return function


def _in_module(module, name, formula, number):
    """Return the function of a formula of vectors, for one number of this type, in a module."""
    name = f"fastbp.{name}.{number}"
    if name in module.globals:
        return module.globals[name]
    kind, count = element(number), lanes(number)
    vector, mask = ir.VectorType(kind, count), ir.VectorType(ir.IntType(1), count)

    def define(name, kinds, body, *marks):
        function = ir.Function(module, ir.FunctionType(kinds[0], kinds), name)
        function.linkage = "linkonce_odr"
        # Past llvmlite, which knows no attributes with values.
        set.update(function.attributes, ("nounwind", "willreturn", "memory(none)", *marks))
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(body(builder, function.args[0]))
        return function

    def of_vector(builder, x):
        return formula(Vec(builder, x)).value

    def of_number(builder, x):
        found = of_vector(builder, spread(builder, x, count))
        return builder.extract_element(found, I32(0))

    # N and M are LLVM's letters; behind a condition it passes a mask.
    forms = {
        "N": define(f"{name}.all", [vector], of_vector),
        "M": define(f"{name}.some", [vector, mask], of_vector),
    }
    names = (f"_ZGV_LLVM_{letter}{count}v_{name}({f.name})" for letter, f in forms.items())
    known = f'"vector-function-abi-variant"="{",".join(names)}"'
    _keep(module, [f.bitcast(ir.IntType(8).as_pointer()) for f in forms.values()])
    return define(name, [kind], of_number, "noinline", known)


def _keep(module, functions):
    """Keep functions that nobody calls before LLVM makes vectors."""
    if (kept := module.globals.get(KEPT)) is None:
        kept = ir.GlobalVariable(module, ir.ArrayType(functions[0].type, 0), KEPT)
        kept.linkage, kept.section = "appending", "llvm.metadata"
    else:
        functions = [*kept.initializer.constant, *functions]
    kept.value_type = ir.ArrayType(functions[0].type, len(functions))
    kept.initializer = kept.value_type(functions)


_EXP, _TANH = _by_formula("exp", FORMULAS[EXP][0]), _by_formula("tanh", FORMULAS[TANH][0])
# What stands for functions of Python's and NumPy's, by their ids. Of the first two, Numba would
# make arrays of no dimensions.
SCALARS = {
    id(np.where): _where, id(np.clip): _clip, id(math.exp): _EXP, id(np.exp): _EXP,
    id(math.tanh): _TANH, id(np.tanh): _TANH,
}  # fmt: skip
