"""The control register of a thread's floating-point unit, on x86-64; imports no package."""

import ctypes
import mmap

_code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
_code.write(bytes.fromhex("0fae1fc3 0fae17c3"))  # stmxcsr [rdi]; ret; ldmxcsr [rdi]; ret
_start = ctypes.addressof(ctypes.c_char.from_buffer(_code))
_call = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint32))
_store, _load = _call(_start), _call(_start + 4)

HAPPENED = 0x3F  # flags of what has happened, not of what shall
DENORMALS_ARE_ZERO, FLUSH_TO_ZERO, UPWARDS = 1 << 6, 1 << 15, 2 << 13
DEFAULT = 0x1F80  # to nearest, nothing is flushed, nothing traps


def state():
    """Return what this thread's arithmetic is told."""
    value = ctypes.c_uint32()
    _store(value)
    return value.value & ~HAPPENED


def set_state(value):
    """Tell this thread's arithmetic."""
    _load(ctypes.c_uint32(value))
