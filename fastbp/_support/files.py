"""Files are written whole or not at all, and what is no data and no model is called by its name.

All files that this package writes go through here. The bytes go to a temporary file in the same
folder, which is synchronised and then renamed: even after a power cut, there is the old file or the
new one. Ctrl-C and SIGTERM wait meanwhile. A
process that is killed may leave its temporary file, `.fastbp-*.tmp`; delete it by hand.
"""

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path

from .signals import interrupts_wait

# What often stands under the name of data or of a model, by its first bytes, in lower case; and
# what to do. None of these is a damaged copy.
_PAGE = "a page of a web site, not the file; download the file itself"
_PACKED = "compressed by {}, which is not read; unpack it"
_INSTEAD = {
    b"version https://git-lfs.github.com/": "a Git LFS pointer, not the file; run `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer, not the file; run `git annex get`",
    b"<!doctype html": _PAGE,
    b"<html": _PAGE,
    b"<?xml": _PAGE,
    b"404: not found": _PAGE,
    b"\xfd7zxz\0": _PACKED.format("xz"),
    b"\x28\xb5\x2f\xfd": _PACKED.format("Zstandard"),
    b"bzh91ay&sy": _PACKED.format("bzip2"),
    b"7z\xbc\xaf\x27\x1c": _PACKED.format("7-Zip"),
}


def instead(head: bytes) -> str | None:
    """Return what a file is that begins so, if it is no data and no model; and what to do."""
    head = head.lstrip().lower()
    if not head:
        return "empty; write or download it again"
    return next((words for start, words in _INSTEAD.items() if head.startswith(start)), None)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], blob: bytes) -> None:
    """Write bytes to a file, or to the one that a symbolic link points to; permissions stay."""
    target = Path(os.path.realpath(path))
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            Path(path).write_bytes(blob)  # a device such as /dev/null: no old file to keep
        else:
            with interrupts_wait():  # an interrupt between `open` and `with` would leave it open
                _replace(target, blob)
    except OSError as error:
        known = target.parent.is_dir()
        reason = error.strerror or str(error) if known else "its folder does not exist"
        raise OSError(error.errno, f"cannot write the file, {reason}", os.fspath(path)) from error


def _replace(target: Path, blob: bytes) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    temporary = target.parent / f".fastbp-{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:  # unlike mkstemp, this respects the umask
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    with contextlib.suppress(OSError):  # the rename survives a power cut, if the system can
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
