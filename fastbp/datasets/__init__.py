"""Images, tables and what is to be predicted, for training and testing.

===================  ===========================================================================
`load`               a data set by its name, or from a folder or file
`load_pickle`        all three parts of ``mnist.pkl.gz``
`read_csv`           a table
`map_npy`            an array that stays in its file
`hold_out`           divides samples into those for training and those for validation
===================  ===========================================================================

``load("digits")`` needs no other file. MNIST and Fashion-MNIST are downloaded if they are not on
the machine. No file can run code or make a reader allocate much more than the file holds; a
damaged file raises `DataError`, which names it.

Examples
--------
>>> from fastbp import datasets
>>> X, y, X_test, y_test = datasets.load("digits")
>>> X, y, X_val, y_val = datasets.hold_out(X, y)
>>> X.shape, X_val.shape, X_test.shape
((1298, 64), (144, 64), (355, 64))
"""

from .arrays import map_npy
from .csv import read_csv
from .loading import MAX_LABEL, NAMES, Dataset, hold_out, load, load_pickle
from .untrusted import MAX_UNPACKED, DataError

__all__ = [
    "MAX_LABEL",
    "MAX_UNPACKED",
    "NAMES",
    "DataError",
    "Dataset",
    "hold_out",
    "load",
    "load_pickle",
    "map_npy",
    "read_csv",
]
