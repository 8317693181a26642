"""Safetensors files that are damaged, or hold something else than a model."""

import json
import struct

from fastbp.model import file as checkpoint


def file_of(header, data=b"", length=None):
    """A safetensors file, as its format says: length of the header, header, data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def metadata(**changes):
    return {"format": "fastbp", "format_version": "1", "config": "{}"} | changes


def tensor(dtype="F32", shape=(2,), end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, end]}


DEEP = b"[" * 100_000 + b"]" * 100_000
DAMAGED = {
    "empty": b"",
    "short": b"abc",
    "zeros": bytes(1000),
    "text": b"import os; os.system('echo hello')\n" * 10,
    "pickle": b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94.",
    "header of 8 EiB": file_of({}, length=2**63),
    "header of 16 EiB": file_of({}, length=2**64 - 1),
    "header of 99 MB": file_of({}, length=99_000_000),
    "header one too long": file_of({"a": tensor()}, bytes(8), length=2**10),
    "deep header": file_of(b'{"a":' + DEEP + b"}"),
    "deep metadata": file_of(b'{"__metadata__":{"a":' + DEEP + b"}}"),
    "not UTF-8": file_of(b'{"\xff":1}'),
    "list": file_of([1]),
    "null": file_of(b"null"),
    "long kind": file_of({"a": tensor("F" * 9_999)}, bytes(8)),
    "overlap": file_of({"a": tensor(), "b": tensor()}, bytes(8)),
    "hole": file_of({"a": tensor() | {"data_offsets": [8, 16]}}, bytes(16)),
    "trailing": file_of({"a": tensor()}, bytes(9)),
    "truncated": file_of({"a": tensor()}, bytes(7)),
    "overflowing shape": file_of({"a": tensor(shape=(2**62, 2**62))}, bytes(8)),
    "declared terabytes": file_of({"a": tensor(shape=(2**40,), end=2**42)}, bytes(8)),
    "negative shape": file_of({"a": tensor(shape=(-2,))}, bytes(8)),
    "duplicate name": file_of(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8),
    ),
    "duplicate metadata": file_of(b'{"__metadata__":{},"__metadata__":{}}'),
}

HUGE = {"a": {"b": [1] * (checkpoint.MOST_CONFIG // 3)}}
FOREIGN = {
    "no metadata": ({"a": tensor()}, "got 'no format'"),
    "other format": ({"__metadata__": {"format": "pt"}, "a": tensor()}, "got 'pt'"),
    "long format": ({"__metadata__": {"format": "x" * 999}, "a": tensor()}, r"'x{40}'"),
    "no version": ({"__metadata__": {"format": "fastbp"}, "a": tensor()}, "not a format version"),
}
METADATA = {
    "newer version": ({"format_version": "4"}, "newer fastbp.* version 4"),
    "version 0": ({"format_version": "0"}, "'0' .*format version"),
    "version 1.5": ({"format_version": "1.5"}, r"'1\.5' .*format version"),
    "version minus": ({"format_version": "-1"}, "'-1' .*format version"),
    "version of digits": ({"format_version": "9" * 5000}, "format version"),
    "version Arabic": ({"format_version": "\u0661"}, "format version"),
    "config empty": ({"config": ""}, "not JSON"),
    "config list": ({"config": "[1]"}, "not a JSON object"),
    "config broken": ({"config": '{"a": '}, "not JSON"),
    "config deep": ({"config": "[" * 100_000}, "not JSON: .*recursion"),
    "config twice": ({"config": '{"a": 1, "a": 2}'}, "twice"),
    "config NaN": ({"config": '{"a": NaN}'}, "NaN"),
    "config infinite": ({"config": '{"a": -Infinity}'}, "-Infinity"),
    "config digits": ({"config": '{"a": ' + "9" * 5000 + "}"}, "not JSON"),
    "config long": ({"config": json.dumps(HUGE)}, "more than 1048576"),
    "notes empty": ({"notes": ""}, "notes is not JSON"),
    "notes list": ({"notes": "[1]"}, "notes is not a JSON object"),
    "notes deep": ({"notes": '{"a":' * 100_000}, "notes is not JSON: .*recursion"),
    "notes twice": ({"notes": '{"a": 1, "a": 2}'}, "twice"),
    "notes NaN": ({"notes": '{"a": NaN}'}, "NaN"),
    "notes long": ({"notes": json.dumps(HUGE)}, "notes has more than 1048576"),
}
METADATA = {
    name: ({"__metadata__": metadata(**changes), "a": tensor()}, part)
    for name, (changes, part) in METADATA.items()
}
TENSORS = {
    "bfloat16": (tensor("BF16", (4,)), "must be one of F32, F64; got BF16"),
    "integers": (tensor("I64", (1,)), "got I64"),
    "bool": (tensor("BOOL", (8,)), "got BOOL"),
    "four bits": (tensor("F4", (16,)), "got F4"),
    "empty, yet vast": (tensor(shape=(0, 2**62), end=0), "damaged: array 'a'"),
    "a hundred axes": (tensor(shape=(1,) * 99 + (2,)), "damaged: array 'a'"),
}
TENSORS = {
    name: ({"__metadata__": metadata(), "a": entry}, part)
    for name, (entry, part) in TENSORS.items()
}
WRONG = FOREIGN | METADATA | TENSORS
