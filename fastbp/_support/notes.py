"""What a model remembers of its data: a dict of JSON values, with which nothing computes.

A table leaves `columns`, the names of the inputs in order; `label`, the column of the targets;
`task`, "classification" or "regression"; and `classes`, the labels in the order of the outputs.
`fastbp train` adds to a regression `target`, {"mean", "deviation"} of the training targets: the
losses in its history are of (y - mean) / deviation.

`fastbp train` leaves `training`, a dict, the same for the same training wherever it is saved, on
any number of threads, resumed or not, and so without a date:

- `command`: the command line that trains it again, without files to write and threads;
- `version` of fastbp;
- `data`, as given by --data, and `data_path`, its absolute path, None for what is bundled;
- `label`, `header`, `separator`, `decimal`: the options by which a table was read;
- `settings`: the values of the options that say how to train, by their names: `hidden`,
  `activation`, `loss`, `epochs`, `batch_size`, `learning_rate`, `schedule`, `optimizer`, `l2`,
  `clip_norm`, `class_weight`, `early_stopping`, `validation_split`, `bias`, `init`, `dtype`,
  `backend`, `seed`;
- `samples`, `validation_samples`, `test_samples`: their counts;
- `test_digest`: a hash of the test samples, by which they are known again;
- `epochs`: how many were trained.
"""

import json
from collections.abc import Mapping
from typing import Any

from .texts import said

MOST = 2**20  # characters as JSON


def text(notes: Any) -> str:
    """Return notes as JSON; raise, and name the entry, if JSON does not give them back as given."""
    if not isinstance(notes, dict):
        raise TypeError(f"notes must be a dict; got {type(notes).__name__}")
    for name, value in notes.items():
        try:
            if json.loads(json.dumps({name: value}, allow_nan=False)) != {name: value}:
                raise TypeError("JSON gives it back as something else, such as a tuple as a list")
        except (TypeError, ValueError, RecursionError) as error:
            wanted = "must be what JSON holds, with texts as names"
            raise TypeError(f"notes: {said(repr(name), 60)} {wanted}: {said(error)}") from None
    written = json.dumps(notes)
    if len(written) > MOST:
        raise ValueError(f"notes must take at most {MOST:,} characters; got {len(written):,}")
    return written


def listed(notes: Mapping[str, Any], name: str) -> list[Any] | None:
    """Return the distinct names or integers that an entry lists, None if there is no such entry."""
    found = notes.get(name)
    if found is None:
        return None
    if not (isinstance(found, list) and all(type(one) in (str, int) for one in found)):
        raise ValueError(f"notes[{name!r}] must be a list of texts or integers; got {found!r:.60}")
    if len(set(found)) < len(found):
        raise ValueError(f"notes[{name!r}] must not hold anything twice")
    return found


# What commands read in `training`: of these kinds.
_TRAINING: dict[str, Any] = {
    **dict.fromkeys(("command", "version", "data", "test_digest"), str),
    **dict.fromkeys(("data_path", "label", "separator", "decimal"), str | None),
    **dict.fromkeys(("samples", "validation_samples", "test_samples", "epochs"), int),
    "header": bool, "settings": dict,
}  # fmt: skip


def training(notes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a model remembers of its training; None if no command trained it."""
    found = notes.get("training")
    if found is None:
        return None
    for name, kind in _TRAINING.items():
        if not isinstance(found, dict) or not isinstance(found.get(name, ()), kind):
            raise ValueError(f"notes['training'] must be as `fastbp train` leaves it; see {name!r}")
    return dict(found)


def classes(notes: Mapping[str, Any], n_out: int) -> list[Any]:
    """Return what the outputs of a network stand for: its classes, or else 0, 1, 2, ..."""
    found = listed(notes, "classes")
    if found is None:
        return list(range(n_out))
    if len(found) != n_out:
        raise ValueError(f"notes['classes'] must name all {n_out} outputs; it has {len(found)}")
    return found
