"""Which activations there are, where they may stand, and what the output is by default."""

from .. import reference

OUTPUT = tuple(reference.ACTIVATIONS)
HIDDEN = tuple(name for name, (_, slope) in reference.ACTIVATIONS.items() if slope)


_OUTPUTS = {"cross-entropy": "softmax", "poisson": "exp"}


def default_output(activation, loss):
    """Return the output's activation where the user named none."""
    if loss in _OUTPUTS:
        return _OUTPUTS[loss]
    return "sigmoid" if activation == "sigmoid" else "identity"
