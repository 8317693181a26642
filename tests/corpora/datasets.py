"""All attacks on `datasets.load`: (file name, content, pattern of the error) by title."""

import gzip

import numpy as np

from corpora import MIB
from corpora.idx import IDX_ATTACKS, IDX_NAMES, LABEL_ATTACKS, arrays, idx_header, write_folder
from corpora.npz import NPZ_ATTACKS
from corpora.pickles import PICKLES, three


def corpus():
    for title, (content, pattern) in PICKLES.items():
        yield f"pickle: {title}", "a.pkl", content, pattern
        yield f"pkl.gz: {title}", "a.pkl.gz", gzip.compress(content, 1), pattern
    for title, (content, pattern) in IDX_ATTACKS.items():
        yield f"images: {title}", IDX_NAMES[0], content, pattern
        yield f"images.gz: {title}", f"{IDX_NAMES[0]}.gz", gzip.compress(content), pattern
    for title, (content, pattern) in LABEL_ATTACKS.items():
        yield f"labels: {title}", IDX_NAMES[1], content, pattern
    for title, (content, pattern) in NPZ_ATTACKS.items():
        yield f"npz: {title}", "a.npz", content, pattern
    damaged = bytearray(gzip.compress(three()))
    damaged[-6] ^= 1
    yield "gzip: checksum", "a.pkl.gz", bytes(damaged), "BadGzipFile|CRC"
    yield "gzip: cut off", "a.pkl.gz", gzip.compress(three())[:-9], "EOFError"
    yield "gzip: header alone", "a.pkl.gz", b"\x1f\x8b", "EOFError|BadGzipFile|ends"
    yield "gzip: garbage", "a.pkl.gz", b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 40, "error"
    bomb = idx_header(8, 2**20, 900) + bytes(4 * MIB)  # more than deflate can pack in so little
    yield "gzip: cannot hold so much", f"{IDX_NAMES[0]}.gz", gzip.compress(bomb), "can follow"
    noise = np.random.default_rng(0).bytes(MIB // 10)
    hollow = idx_header(8, 2**16, 1000) + noise
    yield "gzip: could, but does not", f"{IDX_NAMES[0]}.gz", gzip.compress(hollow), "ends after"


CORPUS = {title: rest for title, *rest in corpus()}


def write_attack(folder, filename, content):
    """Write a hostile file, and innocent ones around it if it is one of four; what to load."""
    folder.mkdir(exist_ok=True)
    if filename.startswith(IDX_NAMES[:2]):
        write_folder(folder, arrays())
        (folder / filename.removesuffix(".gz")).unlink()
    (folder / filename).write_bytes(content)
    return folder if filename.startswith(IDX_NAMES[:2]) else folder / filename
