"""Pickles of plain numeric arrays, such as `mnist.pkl.gz`, read without running any code.

`_ArrayUnpickler` knows a few opcodes and names, and builds stand-ins only.
"""

import codecs
import pickle
import reprlib
import struct
from typing import Any

from .untrusted import PIECE, as_array, expect_end, plain_dtype, read_exactly, unpacked

_MAX_READS = 10_000  # mnist.pkl.gz takes some 600


class _Array:
    """What a pickle builds for an ndarray: empty, whatever shape _reconstruct asks for."""

    def __init__(self, *_):
        self.array = None

    def __setstate__(self, state):
        _, shape, dtype, fortran, data = state
        if type(dtype) is not _Dtype or type(data) is not bytearray:
            raise ValueError("the pickle holds an array of objects")
        self.array = as_array(data, dtype.dtype, shape, "F" if fortran else "C")


class _Dtype:
    """What a pickle builds for a dtype."""

    def __init__(self, code, *_):
        self.code = _text(code)
        self.dtype = plain_dtype(self.code, "=")

    def __setstate__(self, state):
        _, order, *structure = state[:5]  # then itemsize, alignment and flags, of no use here
        if structure != [None, None, None]:
            raise ValueError("the pickle holds an array with fields")
        self.dtype = plain_dtype(self.code, _text(order))


def _text(value):
    """Short text, which Python 2 wrote as bytes."""
    return value if type(value) is str else bytes(memoryview(value)[:9]).decode("ascii")


def _frombuffer(data, dtype, shape, order):
    """Stand in for NumPy's, by which protocol 5 makes arrays."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _encode(text, _encoding):
    """Stand in for codecs.encode, by which Python 3 writes bytes below protocol 3."""
    return text if type(text) is bytearray else bytearray(text, "latin-1")


_STAND_INS = {  # the names that a pickle may ask for, and what it gets
    ("numpy", "ndarray"): None,  # only ever an argument of _reconstruct
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): _Array,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # NumPy 2
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
}
# No lists, dicts or sets, and no other way to make or call an object than REDUCE and BUILD below.
_OPCODES = """PROTO STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG1
    BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES SHORT_BINUNICODE GLOBAL STACK_GLOBAL
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE""".split()
_Unpickler: Any = pickle._Unpickler  # private by name; joblib relies on it, too


class _Dispatch(dict):
    def __missing__(self, code):
        raise ValueError(f"opcode {chr(code)!r} has no place in a pickle of plain numeric arrays")


class _PickleStream:
    """The file for the unpickler: bounded in bytes, and in the number of reads.

    Every opcode costs a read, so the second bound stops files whose bytes each make an object:
    a byte of ``(`` makes a list of 56.
    """

    def __init__(self, stream, limit):
        self.stream, self.limit, self.reads = stream, limit, 0

    def read(self, size):
        self.reads += 1
        if self.reads > _MAX_READS:
            raise ValueError("the pickle has far more parts than six arrays need")
        data = read_exactly(self.stream, size, self.limit)
        self.limit -= size
        return data

    def readline(self):
        line = self.stream.readline(min(256, self.limit))
        self.limit -= len(line)
        if not line.endswith(b"\n"):
            raise ValueError("the pickle has a name or number without an end")
        return line


class _ArrayUnpickler(_Unpickler):
    """Unpickler of plain numeric arrays in tuples.

    It is the one written in Python, for three reasons. Its table of opcodes can be cut down: what
    is not in the table does not exist, and no second parser, which might see another pickle than
    the first, has to look the stream over. Its memo is a dict, where the one in C allocates an
    array as long as the largest index in the file. And it takes strings as the stream gives them,
    where the one in C allocates the declared length.
    """

    dispatch = _Dispatch(
        (code, _Unpickler.dispatch[code])
        for code in b"".join(getattr(pickle, name) for name in _OPCODES)
    )

    def find_class(self, module, name):
        if (module, name) not in _STAND_INS:
            asked = reprlib.repr(f"{module}.{name}")
            raise ValueError(f"the pickle asks for {asked}; only plain numeric arrays are read")
        return _STAND_INS[module, name]

    def _reduce(self):
        args = self.stack.pop()
        if type(args) is not tuple:  # inherited: f(*args), which makes an object of each byte
            raise ValueError("the pickle makes a call without a tuple of arguments")
        self.stack[-1] = self.stack[-1](*args)

    def _build(self):
        state = self.stack.pop()
        if type(state) is not tuple or type(self.stack[-1]) not in (_Array, _Dtype):
            raise ValueError("the pickle sets the state of something that is no array")
        self.stack[-1].__setstate__(state)

    def _binunicode(self):
        """Long text can only be bytes on their way to _encode: make them here, and only once.

        By pieces, as a single character beyond latin-1 makes a str take four bytes for each.
        """
        (size,) = struct.unpack("<I", self.read(4))
        data = self.read(size)
        if size < 256:
            self.append(data.decode("utf-8"))
            return
        self.append(bytearray())
        pieces = (data[start : start + PIECE] for start in range(0, size, PIECE))
        for text in codecs.iterdecode(pieces, "utf-8"):
            self.stack[-1].extend(text.encode("latin-1"))

    def _bytearray8(self):
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))  # inherited: allocates, then reads

    def _frame(self):
        self.read(8)  # only a hint for reading ahead

    dispatch |= {
        pickle.REDUCE[0]: _reduce,
        pickle.BUILD[0]: _build,
        pickle.BINUNICODE[0]: _binunicode,
        pickle.BYTEARRAY8[0]: _bytearray8,
        pickle.FRAME[0]: _frame,
    }


def read_pickle(path):
    """Return the three raw pairs (X, y) that the file holds."""
    with unpacked(path) as (stream, limit):
        root = _ArrayUnpickler(_PickleStream(stream, limit), encoding="bytes").load()
        expect_end(stream)
        if type(root) is not tuple or len(root) != 3 or not all(map(_is_array_pair, root)):
            raise ValueError("the pickle is something else than three tuples (X, y) of arrays")
        return [(X.array, y.array) for X, y in root]


def _is_array_pair(value):
    return type(value) is tuple and [type(part) for part in value] == [_Array, _Array]
