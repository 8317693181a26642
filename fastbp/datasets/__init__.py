r"""Data: tables from CSV files, images, and what is held out for validation and testing.

| function | what it returns |
|---|---|
| `load` | a data set, by its name or from a folder or file: X, y, X_test, y_test |
| `read_csv` | the inputs and labels of a table |
| `hold_out` | samples divided into those for training and those for validation |
| `map_npy` | an array that stays in its file |
| `load_pickle` | all three parts of `mnist.pkl.gz` |

## A table

`load` reads a CSV file whose first line names the columns (by pandas, the extra `csv`). `label`
names the column to predict; all other columns are inputs, and must hold numbers:

>>> import pathlib, tempfile
>>> from fastbp import datasets
>>> path = pathlib.Path(tempfile.mkdtemp(), "plants.csv")
>>> rows = [f"{30 + k % 7},{k % 5},{'oak' if k % 2 else 'ash'}" for k in range(20)]
>>> _ = path.write_text("\n".join(["height,leaves,kind", *rows]))
>>> data = datasets.load(path, label="kind")
>>> X, y, X_test, y_test = data
>>> X.shape, X_test.shape, y_test.tolist()
((16, 2), (4, 2), [0, 1, 0, 1])
>>> data.notes["columns"], data.notes["classes"]
(['height', 'leaves'], ['ash', 'oak'])

- Every fifth row of each class is for testing.
- Labels may be texts or integers. Sorted, they are the classes 0, 1, 2, ... of y. A numeric column
  of many values is a regression, and y holds the numbers; `task` decides where that is guessed
  wrong.
- Columns of different units need `Network(..., scale="standard")`, which learns mean and deviation
  of each column from the training data, and applies them to whatever comes after. So `predict`
  takes raw columns, and so do the exported formats. A constant column counts as 0.
- Assign a copy of `data.notes` to `Network.notes`, and the commands of the shell put the columns
  of other files in the order of the model, and write classes by their names.
- A missing value, or a word where a number should be, is an error that names column and row.
  Columns of text become numbers by `pandas.get_dummies`.
- Separators (comma, semicolon, tab, "|") and decimal commas are found by themselves;
  `header=False` is for files without names.

A data frame of pandas can be passed to `Network.fit` as it is.

From the shell: `fastbp train --data plants.csv --label kind` and `fastbp predict
plants.safetensors --data new.csv`; see `fastbp.cli`.

## Images

`digits` (1,797 images of 8 x 8 pixels, 0 to 16) comes with the package:

>>> X, y, X_test, y_test = datasets.load("digits")
>>> X, y, X_val, y_val = datasets.hold_out(X, y)
>>> X.shape, X_val.shape, X_test.shape
((1298, 64), (144, 64), (355, 64))

`mnist` and `fashion-mnist` are looked for in `$FASTBP_DATA`, in the user's cache folder, and, for
the latter, in Debian's package `dataset-fashion-mnist`; with `data_dir`, there alone. Where they
are not found, they are downloaded to the cache folder (by pooch, the extra `data`), and kept only
if their SHA-256 is the known one. Without a network, the error says which files to put where.

A path may also be a folder of IDX files (plain or .gz, as of MNIST, EMNIST and KMNIST), an `.npz`
as of Keras or KMNIST, or the classic `mnist.pkl.gz`. Pixels keep their dtype: pass `input_scale=1
/ 255` to the `Network`, which scales bytes as it reads them.

## Untrusted files

No file can run code or make a reader allocate much more than the file holds. A damaged file raises
`DataError`, which names it.
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
