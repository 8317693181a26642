"""Writing files whole or not at all: all that this package writes for keeps goes through here.

The bytes go to a temporary file in the same folder, which is synchronised and then renamed: whoever
looks, after a crash or a power cut too, finds the old file or the new one, never a part. A process
that is killed on the way may leave its temporary file, `.fastbp-*.tmp`; it may be deleted.
"""

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path

from .signals import interrupts_wait


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text to a file, as UTF-8, whole or not at all; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], blob: bytes) -> None:
    """Write bytes to a file, whole or not at all.

    If anything fails on the way, what lay at `path` before still lies there. Ctrl-C and SIGTERM are
    answered once the file is whole.

    Parameters
    ----------
    path : str or os.PathLike
        Where to write. An existing file is replaced and its permissions are kept; through a
        symbolic link, the file that it points to. A device or a pipe is written to.
    blob : bytes

    Raises
    ------
    OSError
        If the folder is missing or not writable, or the disk is full.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "notes")
    >>> write_bytes(path, b"new")
    >>> Path(path).read_bytes()
    b'new'
    """
    target = Path(os.path.realpath(path))
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            # /dev/null and its like: there is nothing to keep, nor to rename
            Path(path).write_bytes(blob)
        else:
            with interrupts_wait():  # one between opening and `with` would leave the file open
                _replace(target, blob)
    except OSError as error:
        reason = error.strerror or str(error)
        if not target.parent.is_dir():
            reason = "its folder does not exist"
        raise OSError(error.errno, f"cannot write the file, {reason}", os.fspath(path)) from error


def _replace(target: Path, blob: bytes) -> None:
    """Put the bytes where `target` is, in one step."""
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
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
