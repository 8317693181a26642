"""The attacks on each reader, by its name in `scripts/fuzz_readers.py`."""

from corpora import idx, models, npy, npz, pickles, tables


def _contents(attacks):
    return {title: content for title, (content, _) in attacks.items()}


def _graphs(_):
    from corpora.graphs import graphs  # onnx is an extra

    return dict(graphs())


# Reader: attacks by title, or what makes them of a genuine file.
ATTACKS = {
    "model": models.MODELS,
    "training": lambda genuine: dict(models.trainings(genuine)),
    "torch": models.STATES,
    "onnx": _graphs,
    "idx": _contents(idx.IDX_ATTACKS),
    "npz": _contents(npz.NPZ_ATTACKS),
    "pickle": _contents(pickles.PICKLES),
    "csv": tables.TABLES,
    "history": tables.HISTORIES,
    "rates": tables.RATES,
    "npy": npy.NPY,
}


def attacks(name, genuine):
    """Return the attacks on a reader by title; `genuine` is a file that it reads."""
    table = ATTACKS[name]
    return table(genuine) if callable(table) else table
