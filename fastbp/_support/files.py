"""Files are written whole or not at all: all files that this package writes go through here.

The bytes go to a temporary file in the same folder, which is synchronised and then renamed: even
after a power cut, there is the old file or the new one. Ctrl-C and SIGTERM wait meanwhile. A
process that is killed may leave its temporary file, `.fastbp-*.tmp`; delete it by hand.
"""

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path

from .signals import interrupts_wait


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
