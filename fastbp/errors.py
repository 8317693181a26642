"""Errors of fastbp's own. Each derives from the built-in error that a caller would expect."""


class DivergenceError(ValueError):
    """Training produced a loss or a weight that is not finite.

    The network keeps the weights from before the first such step.
    """


class ModelFileError(ValueError):
    """A file is damaged, or is no model of fastbp."""
