"""Runs a program where nothing below $NUMBA_CACHE_DIR can be written: read_only.py PROGRAM."""

import errno
import os
import runpy
import sys
from pathlib import Path

FOLDER = os.environ["NUMBA_CACHE_DIR"]


def refuse(event, arguments):
    """Raise what such a file system raises."""
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event in ("os.mkdir", "os.remove", "os.rename"):
        if str(arguments[0]).startswith(FOLDER):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))


sys.addaudithook(refuse)
folder = Path(__file__).parent
sys.path.insert(0, str(folder))
runpy.run_path(str(folder / sys.argv[1]), run_name="__main__")
