"""MNIST and Fashion-MNIST from the network, by pooch, which is an extra.

A file is put in its place only if its SHA-256 is the known one. Mirrors are tried in order.
"""

import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from .._support import extras
from .._support.texts import said
from . import arrays

logger = logging.getLogger("fastbp")

TIMEOUT = 30.0  # seconds without a byte
PIECE = 1 << 16  # bytes
# The mirrors of a data set; and SHA-256 and bytes of its files, in the order of arrays.FILES.
SOURCES = {
    "mnist": (
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        (
            ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
            ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
            ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
            ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
        ),
    ),
    "fashion-mnist": (
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        (
            ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
            ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
            ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
            ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
        ),
    ),
}


class DownloadError(OSError):
    """A data set could not be downloaded; the message says from where, and why."""


def fetch(
    name: str, folder: str | os.PathLike[str], stems: Sequence[str], progress: bool = False
) -> None:
    """Download these files of a data set into a folder, which is made."""
    pooch = extras.required("pooch", "pooch", "downloads")
    extras.required("tqdm", "tqdm", "downloads")
    mirrors, files = SOURCES[name]
    wanted = {s: file for s, file in zip(arrays.FILES, files, strict=True) if s in stems}
    total = sum(size for _, size in wanted.values()) / 1e6
    logger.warning("downloading %s, %.3g MB, to %s ...", name, total, os.fspath(folder))
    log = pooch.get_logger()
    level = log.level
    log.setLevel(logging.WARNING)  # it would name each file and folder
    try:
        for stem, (sha256, size) in wanted.items():
            download = partial(_download, f"{stem}-ubyte.gz", size, progress)
            _retrieve(mirrors, f"{stem}-ubyte.gz", sha256, folder, download)
    finally:
        log.setLevel(level)


def _retrieve(mirrors: Sequence[str], name: str, sha256: str, folder: Any, download: Any) -> None:
    import pooch

    reasons = []
    for mirror in mirrors:
        try:
            pooch.retrieve(mirror + name, f"sha256:{sha256}", name, folder, downloader=download)
            return
        except (OSError, ValueError) as error:
            reasons.append(f"{mirror}: {_reason(error)}")
    raise DownloadError(f"no mirror gave {name}; {'; '.join(reasons)}")


def _download(name: str, size: int, progress: bool, url: str, path: str, _: Any) -> None:
    import requests
    from tqdm.auto import tqdm

    headers = {"Accept-Encoding": "identity"}  # else .gz files may come unpacked
    options = {"desc": name, "unit": "B", "unit_scale": True, "leave": False}
    with (
        requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response,
        tqdm(total=size, disable=not progress, **options) as bar,
        open(path, "wb") as file,
    ):
        response.raise_for_status()
        for piece in response.iter_content(PIECE):
            if file.tell() + len(piece) > size:
                raise ValueError(f"more than the known {size:,} bytes")
            file.write(piece)
            bar.update(len(piece))


def _reason(error: Exception) -> str:
    from requests import exceptions

    if "timed out" in str(error):  # a timeout within the file raises a ConnectionError
        return f"no answer for {TIMEOUT:g} s"
    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, (exceptions.ChunkedEncodingError, exceptions.ConnectionError)):
        return "no connection, or broken off"
    if isinstance(error, ValueError) and "hash" in str(error):
        return "damaged or changed on the way: its SHA-256 is not the known one"
    return said(error)
