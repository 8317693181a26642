"""MNIST and Fashion-MNIST from the network, by pooch, which is an extra.

A file is only put in its place when its SHA-256 is the known one; what breaks off, is damaged or
too long leaves nothing behind. Of the mirrors, the first that works is taken.
"""

import logging
import math
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

logger = logging.getLogger("fastbp")

TIMEOUT = 30.0  # seconds without a byte
PIECE = 1 << 16  # bytes


class _File(NamedTuple):
    size: int  # bytes
    sha256: str


class _Source(NamedTuple):
    mirrors: tuple[str, ...]
    files: dict[str, _File]  # by stem


SOURCES = {
    "mnist": _Source(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        {
            "train-images-idx3": _File(
                9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
            ),
            "train-labels-idx1": _File(
                28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
            ),
            "t10k-images-idx3": _File(
                1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
            ),
            "t10k-labels-idx1": _File(
                4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
            ),
        },
    ),
    "fashion-mnist": _Source(
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        {
            "train-images-idx3": _File(
                26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
            ),
            "train-labels-idx1": _File(
                29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
            ),
            "t10k-images-idx3": _File(
                4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
            ),
            "t10k-labels-idx1": _File(
                5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
            ),
        },
    ),
}


class DownloadError(OSError):
    """A data set could not be downloaded; the message says from where, and why."""


def fetch(
    name: str, folder: str | os.PathLike[str], stems: Iterable[str], progress: bool = False
) -> None:
    """Download files of a data set into a folder, which is made.

    Parameters
    ----------
    name : {"mnist", "fashion-mnist"}
    folder : path-like
    stems : sequence of str
        Which of the four IDX files, as "train-images-idx3".
    progress : bool
        Show a progress bar on stderr for each file.

    Raises
    ------
    DownloadError
        If pooch is missing, the folder cannot be written to, or no mirror gives the file: offline,
        no byte for 30 s, broken off, or with other contents.
    """
    try:
        import pooch
        import tqdm  # noqa: F401
    except ImportError as error:
        raise DownloadError(
            f"{error.name} is missing: pip install 'fastbp[data]' and fastbp downloads it"
        ) from error
    mirrors, files = SOURCES[name]
    wanted = {f"{stem}-ubyte.gz": files[stem] for stem in stems}
    size = math.fsum(file.size for file in wanted.values()) / 1e6
    logger.warning("downloading %s, %.3g MB, to %s ...", name, size, os.fspath(folder))
    log = pooch.get_logger()
    level = log.level
    log.setLevel(logging.WARNING)  # it would name each file and folder
    try:
        for filename, file in wanted.items():
            _from_any(mirrors, filename, file, folder, progress)
    finally:
        log.setLevel(level)


def _from_any(
    mirrors: Iterable[str],
    filename: str,
    file: _File,
    folder: str | os.PathLike[str],
    progress: bool,
) -> None:
    """Download a file from the first mirror that has it."""
    reasons = []
    for mirror in mirrors:
        try:
            return _download(mirror + filename, filename, file, folder, progress)
        except (OSError, ValueError) as error:
            reasons.append(f"{mirror}: {_reason(error)}")
    raise DownloadError(f"{filename} could not be downloaded; {'; '.join(reasons)}")


def _download(
    url: str, filename: str, file: _File, folder: str | os.PathLike[str], progress: bool
) -> None:
    import pooch
    from tqdm.auto import tqdm

    with tqdm(
        total=file.size, desc=filename, unit="B", unit_scale=True, leave=False,
        disable=not progress,
    ) as bar:  # fmt: skip
        downloader = pooch.HTTPDownloader(
            progressbar=_Watch(bar, file.size), chunk_size=PIECE, timeout=TIMEOUT,
            headers={"Accept-Encoding": "identity"},  # else .gz files may come unpacked
        )  # fmt: skip
        pooch.retrieve(
            url, f"sha256:{file.sha256}", fname=filename, path=folder, downloader=downloader
        )


class _Watch:
    """Hands on to a progress bar what has come, and ends a download that does not end."""

    total = 0  # set by pooch

    def __init__(self, bar: Any, size: int) -> None:
        self.bar, self.size, self.seen = bar, size, 0

    def update(self, count: int) -> None:
        self.seen += count
        if self.seen > self.size + PIECE:
            raise ValueError(f"more than the known {self.size:,} bytes")
        self.bar.update(min(count, self.size - self.bar.n))

    def reset(self) -> None:
        self.seen = 0

    def close(self) -> None:
        self.bar.close()


def _reason(error: Exception) -> str:
    """Return what went wrong, in a few words."""
    from requests import exceptions

    if "timed out" in str(error):  # within the file, a timeout has no kind of its own
        return f"no answer for {TIMEOUT:g} s"
    known = {
        exceptions.ChunkedEncodingError: "broken off",
        exceptions.HTTPError: "HTTP status "
        f"{getattr(getattr(error, 'response', None), 'status_code', 'unknown')}",
        exceptions.ConnectionError: "no connection, or broken off",
    }
    for kind, words in known.items():
        if isinstance(error, kind):
            return words
    if isinstance(error, ValueError) and "hash" in str(error):
        return "damaged or changed on the way: its SHA-256 is not the known one"
    return " ".join(str(error).split())
