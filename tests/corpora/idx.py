"""IDX files: genuine ones, and attacks."""

import gzip
import struct

import numpy as np

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
IDX_CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_header(code, *shape):
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)


def idx(array):
    kind = array.dtype.str[1:]
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    return idx_header(IDX_CODES[kind], *array.shape) + big_endian.tobytes()


def arrays(dtype="u1", rows=5, cols=4):
    """Images and labels of 6 training and 3 test samples; rows != cols, and no symmetry."""
    X = (np.arange(9 * rows * cols) % 101).astype(dtype).reshape(9, rows, cols)
    y = (np.arange(9) * 7 % 10).astype("u1")
    return X[:6], y[:6], X[6:], y[6:]


def write_folder(folder, four, names=IDX_NAMES, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, four, strict=True):
        content = array if isinstance(array, bytes) else idx(array)
        path = folder / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(content, 1) if packed else content)
    return folder


IDX_ATTACKS = {
    "nothing": (b"", "empty|ends after 0 of 4 "),
    "half a header": (idx_header(8, 6, 5, 4)[:9], "declares 12 bytes|ends after"),
    "no IDX": (b"hello, world", "magic number .*0x68656c6c"),
    "unknown dtype": (idx_header(10, 6, 5, 4) + bytes(120), "magic number .*0x00000a03"),
    "rank 0": (idx_header(8) + bytes(120), "magic number"),
    "rank 5": (idx_header(8, 6, 5, 2, 2, 1) + bytes(120), "magic number"),
    "rank 255": (b"\0\0\x08\xff" + bytes(2000), "magic number"),
    "rank 1": (idx_header(8, 6) + bytes(6), "must have shape"),
    "2**128 bytes": (idx_header(8, *4 * [2**32 - 1]), "can follow"),
    "overflows to nothing": (idx_header(8, 2**31, 2**31, 4) + bytes(120), "can follow"),
    "a terabyte": (idx_header(8, 2**20, 2**20), "can follow"),
    "a little less than a gibibyte": (idx_header(8, 2**20, 1000) + bytes(120), "can follow"),
    "cut off": (idx(arrays()[0])[:-1], "ends after 119 of 120|can follow"),
    "trailing byte": (idx(arrays()[0]) + b"\0", "after the end"),
    "no images": (idx_header(8, 0, 5, 4), "empty"),
    "no pixels": (idx_header(8, 6, 0, 4), "empty"),
    "too many images": (idx(np.zeros((7, 5, 4), "u1")), "(7, 5, 4).*(6,)|must have shape"),
    "images of another size": (idx(np.zeros((6, 5, 5), "u1")), "25 pixels.* 20"),
}
LABEL_ATTACKS = {
    "fractions for labels": (idx(np.full(6, 0.5, "f4")), "whole numbers; got 0.5 at sample 0"),
    "NaN for labels": (idx(np.full(6, np.nan, "f4")), "whole numbers; got nan"),
    "infinite labels": (idx(np.full(6, np.inf, "f4")), "got inf to inf"),
    "labels below zero": (idx(np.full(6, -1, "i1")), "got -1 to -1"),
    "a label of two milliards": (idx(np.full(6, 2**31 - 1, "i4")), "2147483647"),
    "images for labels": (
        idx(np.zeros((6, 2), "u1")),
        r"one-hot rows; got .6, 2., with row 0 .0, 0",
    ),
}
