"""Pickles of plain numeric arrays, such as `mnist.pkl.gz`, read without running any code."""

import codecs
import os
import pickle
import reprlib
import struct
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from .untrusted import PIECE, Damage, as_array, expect_end, plain_dtype, read_exactly, unpacked

_MAX_READS = 10_000  # mnist.pkl.gz takes some 600


class _Array:  # for an ndarray: empty, whatever shape _reconstruct asks for
    def __init__(self, *_: object) -> None:
        self.array: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if type(dtype) is not _Dtype or type(data) is not bytearray:
            raise ValueError("the pickle holds an array of objects")
        self.array = as_array(data, dtype.dtype, shape, bool(fortran))


class _Dtype:
    def __init__(self, code: Any, *_: object) -> None:
        self.code = _text(code)
        self.dtype = plain_dtype(self.code, "=")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *structure = state[:5]  # then itemsize, alignment and flags, of no use here
        if structure != [None, None, None]:
            raise ValueError("the pickle holds an array with fields")
        self.dtype = plain_dtype(self.code, _text(order))


def _text(value: Any) -> str:  # which Python 2 wrote as bytes
    return value if type(value) is str else bytes(memoryview(value)[:9]).decode("ascii")


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:  # of protocol 5
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _encode(text: Any, _encoding: Any) -> bytearray:  # Python 3 writes bytes so, below protocol 3
    return text if type(text) is bytearray else bytearray(text, "latin-1")


# What a pickle may ask for, by the names of NumPy 1, and what it gets.
_STAND_INS: dict[str, Callable[..., Any] | None] = {
    "numpy.ndarray": None,  # only ever an argument of _reconstruct
    "numpy.dtype": _Dtype,
    "_codecs.encode": _encode,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy.core.numeric._frombuffer": _frombuffer,
}
# No lists, dicts or sets, and no other way to make or call an object than REDUCE and BUILD below.
_OPCODES = """PROTO STOP MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG1
    BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES SHORT_BINUNICODE GLOBAL STACK_GLOBAL
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE""".split()
_Unpickler: Any = pickle._Unpickler  # private by name; joblib relies on it, too


class _Dispatch(dict[int, Callable[..., None]]):
    def __missing__(self, code: int) -> NoReturn:
        raise ValueError(f"a pickle of plain numeric arrays must not hold opcode {chr(code)!r}")


class _PickleStream:
    # Bounds the file in bytes, and in reads. Each opcode costs one: the second bound stops files of
    # which each byte makes an object, as "(" makes a list of 56 bytes.
    def __init__(self, stream: Any, limit: int) -> None:
        self.stream, self.limit, self.reads = stream, limit, 0

    def read(self, size: int) -> bytearray:
        self.reads += 1
        if self.reads > _MAX_READS:
            raise ValueError("the pickle has far more parts than six arrays need")
        data = read_exactly(self.stream, size, self.limit)
        self.limit -= size
        return data

    def readline(self) -> bytes:
        line: bytes = self.stream.readline(min(256, self.limit))
        self.limit -= len(line)
        if not line.endswith(b"\n"):
            raise Damage("the pickle has a name or number without an end")
        return line


class _ArrayUnpickler(_Unpickler):  # type: ignore[misc]
    # From the unpickler written in Python, not the one in C: its table of opcodes can be cut down,
    # so that no second parser, which might see another pickle, checks the stream. Its memo is a
    # dict; C allocates an array as long as the largest index in the file. It takes strings as the
    # stream gives them; C allocates the declared length.
    dispatch = _Dispatch(
        (code, _Unpickler.dispatch[code])
        for code in b"".join(getattr(pickle, name) for name in _OPCODES)
    )

    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if asked not in _STAND_INS:
            shown = reprlib.repr(asked)
            raise ValueError(f"the pickle asks for {shown}; only plain numeric arrays are read")
        return _STAND_INS[asked]

    def _reduce(self) -> None:
        args = self.stack.pop()
        if type(args) is not tuple:  # inherited: f(*args), which makes an object of each byte
            raise ValueError("the pickle makes a call without a tuple of arguments")
        self.stack[-1] = self.stack[-1](*args)

    def _build(self) -> None:
        state = self.stack.pop()
        if type(state) is not tuple or type(self.stack[-1]) not in (_Array, _Dtype):
            raise ValueError("the pickle sets the state of something that is not an array")
        self.stack[-1].__setstate__(state)

    def _binunicode(self) -> None:
        # Long text can only be bytes on their way to _encode: turned into bytes at once, in pieces,
        # because one character beyond latin-1 makes a str take four bytes for each.
        (size,) = struct.unpack("<I", self.read(4))
        data = self.read(size)
        if size < 256:
            self.append(data.decode("utf-8"))
            return
        self.append(bytearray())
        pieces = (data[start : start + PIECE] for start in range(0, size, PIECE))
        for text in codecs.iterdecode(pieces, "utf-8"):
            self.stack[-1].extend(text.encode("latin-1"))

    def _bytearray8(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))  # inherited: allocates, then reads

    dispatch |= {
        pickle.REDUCE[0]: _reduce,
        pickle.BUILD[0]: _build,
        pickle.BINUNICODE[0]: _binunicode,
        pickle.BYTEARRAY8[0]: _bytearray8,
        pickle.FRAME[0]: lambda self: self.read(8),  # only a hint for reading ahead
    }


def read_pickle(path: str | os.PathLike[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the three pairs (X, y) that a file holds, whatever their shapes."""
    with unpacked(path) as (stream, limit):
        root = _ArrayUnpickler(_PickleStream(stream, limit), encoding="bytes").load()
        expect_end(stream)
        match root:
            case (_Array(), _Array()), (_Array(), _Array()), (_Array(), _Array()):
                return [(X.array, y.array) for X, y in root]
        raise ValueError("the pickle must hold three tuples (X, y) of arrays")
