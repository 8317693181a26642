"""Runs readers that do more than read: `rogue_readers.py FOLDER`; it prints how each is caught."""

import json
import os
import socket
import sys
from pathlib import Path

from read_attacks import ROOM, fuzz_readers, outcome


def main(folder):
    reader, watch = fuzz_readers.readers()["rates"], fuzz_readers.Watch()

    def long_message(path):
        raise reader.errors[0]("x" * 5000)

    deeds = {
        "code": lambda path: exec("1"),
        "process": lambda path: os.system("true"),
        "fork": lambda path: os.fork(),
        "socket": lambda path: socket.socket().connect(("127.0.0.1", 9)),
        "file": lambda path: open(f"{path}-more", "w"),
        "unlink": lambda path: path.unlink(),
        "memory": lambda path: bytearray(1 << 28),
        "error": lambda path: [][0],
        "message": long_message,
    }
    fuzz_readers.limit_memory(ROOM)
    trials = {
        deed: fuzz_readers.Trial(reader._replace(read=read), folder, watch)
        for deed, read in deeds.items()
    }
    json.dump({deed: outcome(trial, b"{}") for deed, trial in trials.items()}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
