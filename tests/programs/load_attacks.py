"""Loads data sets with little memory: `load_attacks.py PATH ...`; it prints a line for each."""

import sys

from read_attacks import ROOM, fuzz_readers

from fastbp import datasets


def outcome(path):
    """Return "refused", or what happened instead."""
    try:
        datasets.load(path)
    except datasets.DataError:
        return "refused"
    except BaseException as error:
        return f"{path} {type(error).__name__} {error}"
    return f"{path} is taken"


if __name__ == "__main__":
    fuzz_readers.limit_memory(ROOM)
    for path in sys.argv[1:]:
        print(outcome(path))
