"""Pickles: genuine ones, and attacks."""

import base64
import os
import pickle
import struct

from corpora import MIB, TERA

# What CPython 2.7.18 with NumPy 1.16.6 writes: cPickle.dumps((pair(3), pair(1), pair(2)), 2)
# where pair(n) is (-np.arange(3 * n, dtype="f4").reshape(n, 3) / 8, np.arange(n, dtype="i8")).
PYTHON2_PICKLE = base64.b64decode(
    "gAJjbnVtcHkuY29yZS5tdWx0aWFycmF5Cl9yZWNvbnN0cnVjdApxAWNudW1weQpuZGFycmF5CnECSwCFVQFi"
    "h1JxAyhLAUsDSwOGY251bXB5CmR0eXBlCnEEVQJmNEsASwGHUnEFKEsDVQE8Tk5OSv////9K/////0sAdGKJ"
    "VSQAAACAAAAAvgAAgL4AAMC+AAAAvwAAIL8AAEC/AABgvwAAgL90YmgBaAJLAIVVAWKHUnEGKEsBSwOFaARV"
    "Amk4SwBLAYdScQcoSwNVATxOTk5K/////0r/////SwB0YolVGAAAAAAAAAAAAQAAAAAAAAACAAAAAAAAAHRi"
    "hmgBaAJLAIVVAWKHUnEIKEsBSwFLA4ZoBYlVDAAAAIAAAAC+AACAvnRiaAFoAksAhVUBYodScQkoSwFLAYVo"
    "B4lVCAAAAAAAAAAAdGKGaAFoAksAhVUBYodScQooSwFLAksDhmgFiVUYAAAAgAAAAL4AAIC+AADAvgAAAL8A"
    "ACC/dGJoAWgCSwCFVQFih1JxCyhLAUsChWgHiVUQAAAAAAAAAAABAAAAAAAAAHRihocu"
)


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def integer(value):
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def text(content):
    return b"U" + bytes([len(content)]) + content


def blob(content):
    return b"B" + struct.pack("<I", len(content)) + content


def shape_of(*sizes):
    return b"(" + b"".join(integer(size) for size in sizes) + b"t"


def dtype_of(code=b"f4", structure=b"NNN", order=b"<"):
    new = name("numpy", "dtype") + b"(" + text(code) + b"K\0K\1tR"
    return new + b"(K\3" + text(order) + structure + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"


SHAPE, DTYPE, DATA = shape_of(2, 2), dtype_of(), blob(bytes(16))


def array_of(shape=SHAPE, dtype=DTYPE, data=DATA, first=b"K\0\x85"):
    new = name("numpy.core.multiarray", "_reconstruct") + b"(" + name("numpy", "ndarray")
    new += first + text(b"b") + b"tR"
    return new + b"(K\1" + shape + dtype + b"\x89" + data + b"tb"


IMAGES, LABELS = array_of(), array_of(shape_of(2), dtype_of(b"i8"))


def three(X=IMAGES, y=LABELS):
    """A whole pickle; genuine, if its X and y are."""
    return b"\x80\x02" + (X + y + b"\x86") * 3 + b"\x87."


class Call:
    def __init__(self, function, *args):
        self.args = function, args

    def __reduce__(self):
        return self.args


CANARY = "fastbp-canary"  # a file that hostile pickles would make in the working folder
TOUCH = pickle.dumps(Call(os.mkdir, CANARY), 2)[2:-1]
MAKE = b"(" + text(CANARY.encode()) + b"t"
TOUCH_BY_INST = b"(" + text(CANARY.encode()) + b"iposix\nmkdir\n"
TOUCH_BY_OBJ = b"(" + name("posix", "mkdir") + text(CANARY.encode()) + b"o"
ENCODE = name("_codecs", "encode")
BIG_TEXT = b"X" + struct.pack("<I", MIB) + b"a" * MIB

PICKLES = {
    "calls mkdir": (three(TOUCH), "asks for 'posix.mkdir'|asks for 'nt.mkdir'"),
    "calls mkdir by INST": (three(TOUCH_BY_INST), "opcode 'i'"),
    "calls mkdir by OBJ": (three(TOUCH_BY_OBJ), "asks for 'posix.mkdir'"),
    "calls by NEWOBJ": (three(name("numpy", "dtype") + b")\x81"), "opcode"),
    "calls eval": (three(pickle.dumps(Call(eval, "1"), 4)[2:-1]), "asks for 'builtins.eval'"),
    "names NumPy's loader": (three(name("numpy", "load")), "asks for 'numpy.load'"),
    "names by dots": (three(text(b"numpy") + text(b"ndarray.tofile") + b"\x93"), "must|requires"),
    "names by dots, protocol 4": (
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        "asks for 'numpy.ndarray.tofile'",
    ),
    "extension registry": (three(b"\x82\x01"), "opcode"),
    "persistent id": (three(b"Pid\n"), "opcode 'P'"),
    "out-of-band buffer": (three(b"\x97"), "opcode"),
    "state of a function": (three(ENCODE + b"N}\x86b"), "opcode"),
    "state of a function, tuple": (three(ENCODE + b"NN\x86b"), "not an array"),
    "call of an array": (three(array_of() + b")R"), "not callable"),
    "shape in state": (three(array_of(shape_of(TERA))), "do not make shape"),
    "shape in state overflows": (three(array_of(shape_of(2**32, 2**32, 4))), "do not make shape"),
    "shape overflows to the right size": (
        three(array_of(shape_of(2**62 + 4), dtype_of(), blob(bytes(16)))),
        "do not make shape",
    ),
    "shape of 600 digits": (three(array_of(shape_of(2**1999))), "do not make shape"),
    "negative shape": (three(array_of(shape_of(-2, -2))), "empty"),
    "unknown size": (three(array_of(shape_of(-1, 2))), "empty"),
    "empty shape": (three(array_of(shape_of(0, 2), data=blob(b""))), "empty"),
    "five dimensions": (
        three(array_of(shape_of(1, 1, 1, 1, 1), data=blob(bytes(4)))),
        "1 to 4 integers",
    ),
    "no shape": (three(array_of(shape_of(), data=blob(bytes(4)))), "1 to 4 integers"),
    "bools for a shape": (three(array_of(b"(\x88\x88t", data=blob(bytes(4)))), "1 to 4 integers"),
    "bytes for a shape": (three(array_of(blob(bytes(MIB)))), "1 to 4 integers"),
    "much data in a small shape": (three(array_of(shape_of(1, 1))), "do not make shape"),
    "objects": (three(array_of(dtype=dtype_of(b"O8"))), "'O8' is not a plain"),
    "void": (three(array_of(dtype=dtype_of(b"V4"))), "'V4' is not a plain"),
    "strings": (three(array_of(dtype=dtype_of(b"S4"))), "'S4' is not a plain"),
    "dates": (three(array_of(dtype=dtype_of(b"M8"))), "'M8' is not a plain"),
    "complex": (three(array_of(dtype=dtype_of(b"c8"))), "'c8' is not a plain"),
    "dtype of a terabyte": (three(array_of(dtype=dtype_of(b"(999999,999999)f4"))), "not a plain"),
    "dtype with a long code": (three(array_of(dtype=dtype_of(b"f4" * 99))), "not a plain"),
    "dtype with fields": (three(array_of(dtype=dtype_of(structure=b"N)N"))), "fields"),
    "dtype with a subarray": (three(array_of(dtype=dtype_of(structure=b")NN"))), "fields"),
    "dtype with a wild order": (three(array_of(dtype=dtype_of(order=b"f4,"))), "not a plain"),
    "no dtype": (three(array_of(dtype=b"N")), "array of objects"),
    "text for data": (three(array_of(data=b"\x8c\x04abcd")), "array of objects"),
    "list for data": (three(array_of(data=b"]")), "opcode"),
    "array never filled": (three(array_of()[: array_of().index(b"tR") + 2]), "None"),
    "endless binstring": (three(b"T" + struct.pack("<i", 2**31 - 1)), "can follow"),
    "negative binstring": (three(b"T" + struct.pack("<i", -1)), "negative"),
    "endless binbytes": (three(b"B" + struct.pack("<I", 2**32 - 1)), "can follow"),
    "endless binbytes8": (three(b"\x8e" + struct.pack("<Q", 2**62)), "opcode"),
    "endless bytearray8": (three(b"\x96" + struct.pack("<Q", 2**62)), "can follow"),
    "endless binunicode": (three(b"X" + struct.pack("<I", 2**32 - 1)), "can follow"),
    "endless binunicode8": (three(b"\x8d" + struct.pack("<Q", 2**62)), "opcode"),
    "endless long4": (three(b"\x8b" + struct.pack("<i", 2**31 - 1)), "opcode"),
    "endless frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.", "three tuples"),
    "endless name": (b"\x80\x02c" + b"a" * MIB, "without an end"),
    "endless integer": (b"\x80\x02I" + b"9" * MIB + b"\n.", "without an end"),
    "memo index of 2**32": (b"\x80\x02Nr\xff\xff\xff\xff.", "three tuples"),
    "memo index of 10**18": (b"\x80\x02Np1000000000000000000\n.", "opcode 'p'"),
    "memo never set": (b"\x80\x02h\x01.", "not found"),
    "marks without end": (b"\x80\x02" + b"(" * MIB, "far more parts"),
    "empty tuples without end": (b"\x80\x02(" + b")" * MIB + b"t.", "far more parts"),
    "lists without end": (b"\x80\x02" + b"]" * MIB, "opcode"),
    "duplicates without end": (b"\x80\x02N" + b"2" * MIB, "opcode"),
    "deep tuples": (b"\x80\x02N" + b"\x85" * 9_000 + b".", "three tuples"),
    "doubling tuples": (
        b"\x80\x02)q\0" + b"h\0h\0\x86q\0" * 1_000 + b".",
        "three tuples",
    ),
    "doubling tuples for a shape": (
        b"\x80\x02()q\0" + b"h\0h\0\x86q\0" * 400 + array_of(b"h\0"),
        "1 to 4 integers",
    ),
    "bytes for arguments": (b"\x80\x02" + ENCODE + blob(bytes(MIB)) + b"R.", "tuple of arg"),
    "bytes for a state": (three(array_of() + blob(bytes(MIB)) + b"b"), "not an array"),
    "text encoded again and again": (
        b"\x80\x02(" + ENCODE + b"q\0" + BIG_TEXT + b"q\1\x85\x85"
        b"" + b"h\0(h\1Nt R".replace(b" ", b"") * 100 + b"t.",
        "three tuples",
    ),
    "text that takes four bytes for each": (
        b"\x80\x02X" + struct.pack("<I", 4 * MIB) + b"a" * (4 * MIB - 4) + "\U0001f600".encode(),
        "latin-1",
    ),
    "two arrays": (b"\x80\x02" + (array_of() + LABELS + b"\x86") * 2 + b"\x86.", "three tuples"),
    "one tuple": (b"\x80\x02" + array_of() + LABELS + b"\x86.", "three tuples"),
    "pairs of three": (b"\x80\x02" + (array_of() + 2 * LABELS + b"\x87") * 3 + b"\x87.", "three"),
    "numbers for arrays": (three(b"K\1"), "three tuples"),
    "trailing bytes": (three() + b"N", "after the end"),
    "protocol of the future": (b"\x80\x63" + three()[2:], "protocol"),
    "fractions for labels": (
        three(y=array_of(shape_of(2), data=blob(struct.pack("<2f", 0, 0.5)))),
        "got 0.5 at sample 1",
    ),
    "no pickle": (b"world", "opcode 'w'"),
    "nothing": (b"", "empty|ends after 0 of 1 "),
}
