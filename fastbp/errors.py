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
    """A file is damaged, or is no model of fastbp.

    Examples
    --------
    >>> import fastbp, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> with open(path, "wb") as file:
    ...     _ = file.write(b"hello")
    >>> try:
    ...     fastbp.load(path)
    ... except fastbp.ModelFileError as error:
    ...     print("damaged" in str(error))
    True
    """


class RankError(ValueError):
    """Of several ranks that train together, one met an error, or they do not agree.

    Every rank raises it, so that none waits for another.

    Examples
    --------
    >>> import fastbp
    >>> issubclass(fastbp.RankError, ValueError)
    True
    """
