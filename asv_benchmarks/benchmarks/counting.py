"""Counts instructions; a program that `counts.py` runs under valgrind, as no benchmark.

    python -m benchmarks.counting (load | count) SUBJECT ...

A subject that cannot be made is left out: an older commit may lack its kernel.

`load` makes the subjects, by which their kernels are compiled and kept. `count` makes them with
callgrind not counting yet, which is four times as fast, then has it count one call of each kernel
and write a file for each, named by its trigger. Nothing but the call is counted, so there is no
need to count another number of calls and to subtract.
"""

import gc
import sys

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .subjects import made_ready

# The requests of callgrind.h, and how valgrind.h spells a request on x86-64: rotations that add up
# to nothing, then an exchange that does nothing. The CPU alone takes both for idle.
ZERO, DUMP_AT, START = 0x4354_0001, 0x4354_0003, 0x4354_0004
ASSEMBLY = "rolq $$3, %rdi; rolq $$13, %rdi; rolq $$61, %rdi; rolq $$51, %rdi; xchgq %rbx, %rbx"

llvm.initialize_native_asmparser()


@intrinsic
def _client_request(typingctx, block):
    def codegen(context, builder, signature, args):
        array = context.make_array(block)(context, builder, args[0])
        address = builder.ptrtoint(array.data, ir.IntType(64))
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)] * 2)
        constraints = "={rdx},{rax},0,~{cc},~{memory}"
        call = ir.InlineAsm(kind, ASSEMBLY, constraints, side_effect=True)
        return builder.call(call, [address, ir.IntType(64)(0)])

    return types.int64(block), codegen


@numba.njit(cache=True)
def _request(block):
    return _client_request(block)


def request(number, argument=0):
    """Ask valgrind for something."""
    _request(np.array([number, argument, 0, 0, 0, 0], np.int64))


def main(how, *names):
    """Make subjects, and count."""
    made = dict(zip(names, map(made_ready, names), strict=True))  # which calls each kernel once
    made = {name: subject for name, subject in made.items() if subject}
    triggers = {name: np.frombuffer(name.encode() + b"\0", np.uint8) for name in made}
    request(0)  # compile
    gc.disable()
    if how == "load":
        return
    request(START)
    for name, subject in made.items():
        subject.kernel()  # the first call goes through more of Numba's dispatcher
        request(ZERO)
        subject.kernel()
        request(DUMP_AT, triggers[name].ctypes.data)


if __name__ == "__main__":
    main(*sys.argv[1:])
