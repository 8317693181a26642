"""Gives files to the fuzzer's readers with little memory: `read_attacks.py FOLDER READER ...`.

The files are FOLDER/READER/0, 1, ... It prints what became of them as JSON, by reader.
"""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

import fuzz_readers

ROOM = 64 << 20  # bytes above the start; the largest file has two mebibytes


def outcome(trial, blob):
    """Return "taken", "refused", or the error that is neither."""
    taken = trial.taken
    try:
        trial.file(blob)
    except BaseException as error:
        return f"{type(error).__name__} {str(error)[:300]}"
    return "taken" if trial.taken > taken else "refused"


def main(folder, *names):
    readers, watch = fuzz_readers.readers(), fuzz_readers.Watch()
    trials = {name: fuzz_readers.warmed_up(readers[name], folder, watch) for name in names}
    fuzz_readers.limit_memory(ROOM)
    found = {}
    for name, trial in trials.items():
        files = sorted((folder / name).iterdir(), key=lambda path: int(path.name))
        found[name] = [outcome(trial, path.read_bytes()) for path in files]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
