"""Errors of fastbp's own. Each derives from the built-in error that a caller would expect."""


class DivergenceError(ValueError):
    """Training produced a loss, a gradient or a weight that is not finite.

    The error names epoch, step, layer (counted from 1, above the inputs) and learning rate. The
    network keeps the weights from before the first such step.

    Examples
    --------
    >>> import fastbp
    >>> net = fastbp.Network([1, 1], output="identity", seed=0)
    >>> try:
    ...     net.fit([[1e9]], [[0]], epochs=9, batch_size=1, learning_rate=1e9)
    ... except fastbp.DivergenceError as error:
    ...     print(str(error).split(";")[0])
    weights were no longer finite in epoch 2, step 1, layer 1 of 1, at learning rate 1e+09
    """


class ModelFileError(ValueError):
    """A file is damaged, or not a model of fastbp.

    Examples
    --------
    >>> import fastbp, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.safetensors")
    >>> _ = path.write_bytes(b"hello")
    >>> try:
    ...     fastbp.load(path)
    ... except fastbp.ModelFileError as error:
    ...     print("damaged" in str(error))
    True
    """


class RankError(ValueError):
    """One of several ranks that train together met an error, or the ranks do not agree.

    Every rank raises it, so that no rank waits for another.

    Examples
    --------
    >>> import fastbp
    >>> issubclass(fastbp.RankError, ValueError)
    True
    """
