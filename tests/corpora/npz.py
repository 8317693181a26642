"""Archives of NumPy, npz: genuine ones, and attacks."""

import io
import struct
import warnings
import zipfile

import numpy as np

from corpora import MIB, TERA
from corpora.idx import arrays


def npz(members, method=zipfile.ZIP_DEFLATED):
    """Bytes of a zip file of (name, content) pairs, a name as often as it is given."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content, method)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0))
    return file.getvalue()


def npy_header(text, version=1, length=None):
    text = text.encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


KEYS = ("x_train", "y_train", "x_test", "y_test")


def good_members(**replace):
    contents = dict(zip(KEYS, map(npy, arrays()), strict=True)) | replace
    return list(contents.items())


def header(descr="'|u1'", shape="(6, 5, 4)", order="False"):
    return npy_header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}")


def forged(content, key, **fields):
    """Change fields of a member's entry in a zip file's directory."""
    offsets = {"flags": (8, "<H"), "method": (10, "<H"), "packed": (20, "<I"), "size": (24, "<I")}
    content = bytearray(content)
    start = content.rindex(f"{key}.npy".encode()) - 46
    assert content[start : start + 4] == b"PK\x01\x02"
    for field, value in fields.items():
        offset, code = offsets[field]
        struct.pack_into(code, content, start + offset, value)
    return bytes(content)


def overlapping(count=10_000):
    """A zip file whose four entries all point at the same bytes."""
    content = bytearray(npz(good_members(x_train=npy(np.zeros((count, 5, 4), "u1")))))
    first = bytes(content[content.index(b"PK\x01\x02") :][:46])
    start = 0
    for _ in KEYS:
        start = content.index(b"PK\x01\x02", start + 1)
        content[start + 16 : start + 28] = first[16:28]  # checksum and sizes
        content[start + 42 : start + 46] = first[42:46]  # offset of the local header
    return bytes(content)


def big_directory():
    return npz([*good_members(), *((f"{i:04d}" + "a" * 60_000, b"") for i in range(20))])


def evil_npy(**members):
    return npz(good_members(**members))


BODY = bytes(120)
PLAIN = npz(good_members(), zipfile.ZIP_STORED)


def agreeing(size, method):
    """A zip file whose directory and npy header agree on a size that the file does not have."""
    npy = header(shape=f"({size // 10**6}, {10**6})")
    content = npz(good_members(x_train=npy + BODY), method)
    return forged(content, "x_train", size=len(npy) + size)


GOOD = npy(arrays()[0])
HUGE_HEADER = npy_header(" " * (4 * MIB), version=2)
NPZ_ATTACKS = {
    "nothing": (b"", "it is empty"),
    "no zip": (b"hello, world", "must begin with b'PK'; got b'he'"),
    "cut off": (evil_npy()[:-30], "BadZipFile"),
    "a terabyte": (evil_npy(x_train=header(shape=f"({TERA},)") + BODY), "bytes, not 1,000,0"),
    "overflow": (evil_npy(x_train=header(shape=f"({2**32}, {2**32}, 4)") + BODY), "bytes, not"),
    "shape of many digits": (
        evil_npy(x_train=header(shape=f"({'9' * 4000},)")),
        "not a numeric|not a plain",
    ),
    "negative shape": (evil_npy(x_train=header(shape="(-1, 4)") + BODY), "empty"),
    "no shape": (evil_npy(x_train=header(shape="()") + b"\0"), "1 to 4 integers"),
    "four gigabytes, twice": (agreeing(4 * 10**9, zipfile.ZIP_STORED), "can follow"),
    "four gigabytes, packed": (agreeing(4 * 10**9, zipfile.ZIP_DEFLATED), "unpacks to over"),
    "one gigabyte, packed": (agreeing(10**9, zipfile.ZIP_DEFLATED), "can follow"),
    "empty": (evil_npy(x_train=header(shape="(0, 5, 4)")), "empty"),
    "objects": (evil_npy(x_train=header("'|O'") + BODY), "'O' is not a plain"),
    "strings": (evil_npy(x_train=header("'<U1'") + BODY * 4), "'U1' is not a plain"),
    "fields": (evil_npy(x_train=header("[('a', '|u1')]") + BODY), "not a numeric|not a plain"),
    "code in the header": (
        evil_npy(x_train=header("__import__('os').getcwd()")),
        "not a numeric|not a plain",
    ),
    "a deep header": (evil_npy(x_train=npy_header("[" * 150 + "]" * 150)), "not a numeric"),
    "a header of minuses": (evil_npy(x_train=npy_header("-" * 9_000 + "1")), "not a numeric"),
    "a few minuses": (evil_npy(x_train=npy_header("-" * 900 + "1")), "not a numeric"),
    "an open bracket": (evil_npy(x_train=npy_header("[" * 9)), "TokenError|not a numeric"),
    "brackets in the header": (
        evil_npy(x_train=npy_header("(" * 60_000)),
        "not a numeric|not a plain",
    ),
    "minuses in the header": (
        evil_npy(x_train=npy_header("-" * 60_000 + "1")),
        "not a numeric|not a plain",
    ),
    "version 2, huge header": (evil_npy(x_train=HUGE_HEADER), "can follow|not a numeric"),
    "version 3": (evil_npy(x_train=GOOD.replace(b"Y\1\0", b"Y\3\0")), "not a numeric|not a plain"),
    "no npy": (evil_npy(x_train=GOOD.replace(b"NUMPY", b"MUMPS")), "not a numeric|not a plain"),
    "cut off array": (evil_npy(x_train=GOOD[:-1]), "247 bytes, not 248"),
    "cut off header": (evil_npy(x_train=GOOD[:50]), "not a numeric"),
    "trailing byte": (evil_npy(x_train=GOOD + b"\0"), "249 bytes, not 248"),
    "twice the same name": (
        npz([*good_members(), good_members()[0]]),
        "one array 'x_train'; got 2",
    ),
    "missing": (npz(good_members()[:3]), "one array 'y_test' .*; got ..x_train"),
    "lzma": (npz(good_members(), zipfile.ZIP_LZMA), "must be stored or deflated"),
    "bzip2": (npz(good_members(), zipfile.ZIP_BZIP2), "must be stored or deflated"),
    "encrypted": (forged(evil_npy(), "x_train", flags=1), "RuntimeError|encrypted"),
    "packed size beyond the file": (forged(evil_npy(), "x_train", packed=2**31), "overlap"),
    "size larger than the data": (forged(PLAIN, "x_train", size=2**32 - 2), "bytes, not 248"),
    "size smaller than the data": (forged(PLAIN, "x_train", size=130), "bytes, not|CRC"),
    "damaged": (PLAIN.replace(GOOD[-20:], bytes(20)), "BadZipFile.*CRC"),
    "overlapping": (overlapping(), "overlap"),
    "big directory": (big_directory(), "bytes at once"),
    "fractions for labels": (evil_npy(y_test=npy(np.arange(3) / 2)), "got 0.5 at sample 1"),
    "too few labels": (evil_npy(y_test=npy(np.zeros(2, "u1"))), "must have shape"),
    "two ones in a row": (evil_npy(y_test=npy(np.tri(3, dtype="u1"))), "one-hot rows; got .*row 1"),
    "a two in a row": (
        evil_npy(y_test=npy(np.eye(3) + 2 * np.eye(3, k=1))),
        "with row 0 .1.0, 2.0",
    ),
    "flat images": (evil_npy(x_test=npy(np.zeros(3, "u1"))), "must have shape"),
}
