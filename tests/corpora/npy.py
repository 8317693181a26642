"""npy files that no samples are read from."""

import struct

import numpy as np


def npy(text, body=b"", size=None, version=1):
    header = text if isinstance(text, bytes) else text.encode()
    length = len(header) if size is None else size
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", length) + header + body


def fields(descr="'<f4'", shape="(2, 4)", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


NPY = {
    "nothing": b"",
    "no npy": b"1,2,3,4\n",
    "a header longer than the file": npy(fields(), size=65_535),
    "terabytes": npy(fields(shape=f"({10**6}, {10**6})"), bytes(32)),
    "an overflow": npy(fields(shape=f"({2**62}, 4)"), bytes(32)),
    "a shape of many digits": npy(fields(shape=f"({'9' * 4000},)")),
    "negative": npy(fields(shape="(-2, -4)"), bytes(32)),
    "a scalar": npy(fields(shape="()"), bytes(4)),
    "no rows": npy(fields(shape="(0, 4)")),
    "five axes": npy(fields(shape="(1, 1, 1, 2, 4)"), bytes(32)),
    "cut off": npy(fields(), bytes(31)),
    "one byte more": npy(fields(), bytes(33)),
    "NaN": npy(fields(), np.full(8, np.nan, "<f4").tobytes()),
    "objects": npy(fields("'|O'"), bytes(64)),
    "text of a gigabyte": npy(fields(f"'<U{2**28}'"), bytes(32)),
    "fields": npy(fields("[('a', '<f4', (9999, 9999))]"), bytes(32)),
    "dates": npy(fields("'<M8[s]'"), bytes(64)),
    "complex": npy(fields("'<c8'"), bytes(64)),
    "code": npy(fields("__import__('os').system('true')"), bytes(32)),
    "a NUL in the header": npy(fields("'\0'"), bytes(32)),
    "brackets": npy("(" * 60_000),
    "minuses": npy("-" * 60_000 + "1"),
    "nine thousand minuses": npy("-" * 9_000 + "1"),
    "an open bracket": npy("["),
    "a lambda": npy("(lambda: 1)()"),
    "version 2": npy(fields(), bytes(32), version=2),
    "version 255": npy(fields(), bytes(32), version=255),
}
