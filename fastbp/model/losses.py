"""Which losses there are, and the output activations each is defined for."""

from .. import reference

NAMES = tuple(dict.fromkeys(loss for loss, _ in reference.LOSSES))


def outputs(loss):
    """Return the names of the output activations that this loss is defined for."""
    return tuple(output for name, output in reference.LOSSES if name == loss)
