"""Where a step of training went wrong: the layer in which a number was no longer finite."""

import numpy as np

from .. import reference

WEIGHTS, MEMORY, LOSS, PENALTY, ACTIVATIONS = (
    "weights were", "gradients were", "the loss was", "the penalty was", "activations were",
)  # fmt: skip


def find(model, layout, X, before, after):
    """Return what was not finite, in words, and its layer, counted from 1.

    Activations overflow from the inputs upwards, gradients from the output downwards: the layer is
    the first on that way.

    Parameters
    ----------
    model : Model
    layout : Layout
    X : (batch, n_in) array, or a sparse matrix
        The samples of the step.
    before, after : sequences of arrays
        The parameters, the totals and the optimiser's memory, from before and after the step.

    Examples
    --------
    >>> from fastbp.model.layout import Layout
    >>> model = reference.Model((1, 1, 1), ("relu", "identity"), "quadratic", True, 1.0)
    >>> layout = Layout(model.sizes, "float32")
    >>> flat = layout.zeros()
    >>> layout.from_vector(np.float32([1e30, 0, 1, 0]), flat)
    >>> find(model, layout, np.float32([[1e30]]), [flat], [flat, np.zeros(3)])
    ('activations were', 1)
    """
    last = len(model.sizes) - 1
    with np.errstate(over="ignore", invalid="ignore"):
        rows = X.toarray() if hasattr(X, "toarray") else X
        weights, biases = layout.views(before[0])
        a, z = reference.forward(model, weights, biases, rows)
        for l, values in enumerate([*a[1:-1], z], 1):
            if not np.isfinite(values).all():
                return ACTIVATIONS, l
        params, totals, *memory = after
        for l in range(last, 0, -1):
            for what, flats in ((WEIGHTS, [params]), (MEMORY, memory[0] if memory else [])):
                if not all(_finite(layout, flat, l) for flat in flats):
                    return what, l
        if not np.isfinite(totals[..., 2]).all():
            return PENALTY, 1 + int(np.argmax([np.abs(W).max() for W in weights]))
    return LOSS, last


def _finite(layout, flat, l):
    parts = layout.matrix(flat, l), layout.row(flat, l)
    return all(np.isfinite(part).all() for part in parts)
