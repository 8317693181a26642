import sys

import numpy as np
import pytest

from fastbp.datasets.csv import read_csv
from fastbp.datasets.untrusted import DataError

pytest.importorskip("pandas", reason="the extra csv is not installed")


@pytest.fixture
def table(tmp_path):
    """table(text): the path of a CSV file."""

    def write(text):
        path = tmp_path / "t.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("text", "X", "dtype"),
    [
        ("a,b,y\n0,255,1\n3,4,0\n", [[0, 255], [3, 4]], "uint8"),
        ("a,b,y\n0,256,1\n3,4,0\n", [[0, 256], [3, 4]], "int64"),
        ("a,b,y\n-1,2,1\n3,4,0\n", [[-1, 2], [3, 4]], "int64"),
        ("a,b,y\n0.5,2,1\n3,4e2,0\n", [[0.5, 2], [3, 400]], "float64"),
        ("a,b,y\nTrue,2,1\nFalse,4,0\n", [[1, 2], [0, 4]], "uint8"),
        ("a,b,y\n18446744073709551615,2,1\n3,4,0\n", [[2**64, 2], [3, 4]], "float64"),
        ('"a","b, c","y"\r\n1,2,1\r\n3,4,0\r\n', [[1, 2], [3, 4]], "uint8"),
        ("\ufeffa,b,y\n1,2,1\n\n3,4,0\n\n", [[1, 2], [3, 4]], "uint8"),
        ("a,b,y\n 1, 2, 1\n3,4,0", [[1, 2], [3, 4]], "uint8"),
        ("a,b,y\n1,2,1.0\n3,4,0.0", [[1, 2], [3, 4]], "uint8"),
        ("Größe,β,y\n1,2,1\n3,4,0", [[1, 2], [3, 4]], "uint8"),
    ],
)
def test_numbers_are_read(table, text, X, dtype):
    found, y = read_csv(table(text), "y")
    np.testing.assert_array_equal(found, np.array(X, dtype))
    assert (found.dtype, y.dtype) == (dtype, "int64")
    assert y.tolist() == [1, 0]
    assert found.flags.c_contiguous


def test_the_label_may_stand_anywhere_or_nowhere(table):
    path = table("y,a\n1,2\n0,3\n")
    X, y = read_csv(path, "y")
    assert (X.tolist(), y.tolist()) == ([[2], [3]], [1, 0])
    X, y = read_csv(path)
    assert X.tolist() == [[1, 2], [0, 3]]
    assert y is None


BAD = {
    "no such label": ("a,b\n1,2\n", r"label .*\['a', 'b'\]"),
    "no header": ("1,2\n3,4\n", "label .*got 'y'"),
    "missing value": ("a,y\n1,0\n2,1\n,1\n", "column 'a' has no value in row 3"),
    "NA": ("a,y\n1,0\nNA,1\n", "column 'a' has no value in row 2"),
    "missing label": ("a,y\n1,0\n2,\n", "column 'y' has no value in row 2"),
    "short row": ("a,b,y\n1,2,0\n2,1\n", "column 'y' has no value in row 2"),
    "long row": ("a,y\n1,0\n2,1,3\n", "not a CSV file"),
    "all rows long": ("a,y\n1,0,5\n2,1,3\n", "not a CSV file"),
    "text": ("a,y\n1,0\nred,1\n", "column 'a' holds text, 'red' in row 2"),
    "text in quotes": ('a,y\n"x,\ny",0\n2,1\n', "column 'a' holds text"),
    "text as label": ("a,y\n1,cat\n2,dog\n", "column 'y' holds text, 'cat' in row 1"),
    "semicolons": ("a;y\n1;0\n", r"label .*\['a;y'\]"),
    "dates": ("a,y\n2024-01-01,0\n", "column 'a' holds text, '2024-01-01' in row 1"),
    "a hundred digits": (f"a,y\n{'9' * 100},0\n{'9' * 100}x,0", "column 'a' holds text"),
    "infinite": ("a,y\n1,0\n-inf,1\n", "column 'a' is infinite in row 2"),
    "half a class": ("a,y\n1,0\n1,0.5\n", r"column 'y' .*0, 1, 2.*got 0\.5"),
    "negative class": ("a,y\n1,-1\n", "column 'y' .*0, 1, 2.*got -1"),
    "vast class": ("a,y\n1,1e300\n", r"column 'y' .*0, 1, 2.*got 1e\+300"),
    "a name twice": ("a,a,y\n1,2,0\n", "two columns are named 'a'"),
    "the label twice": ("a,y,y\n1,2,0\n", "two columns are named 'y'"),
    "no rows": ("a,y\n", "one row, and one column"),
    "no columns": ("y\n1\n", "one row, and one column"),
    "empty": ("", "not a CSV file"),
    "blank": ("\n\n\n", "not a CSV file"),
    "binary": (bytes(range(256)) * 9, r"t\.csv"),
    "Latin-1": ("a,y\né,0\n".encode("latin-1"), "not a CSV file.*utf-8"),
    "zeros": (bytes(1000), r"t\.csv"),
    "an open quote": ('a,y\n"1,0\n2,1\n', "not a CSV file"),
}


@pytest.mark.parametrize(("text", "part"), BAD.values(), ids=BAD)
def test_each_fault_is_one_clear_error(table, text, part):
    path = table(text)
    with pytest.raises(DataError, match=part) as caught:
        read_csv(path, "y")
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 400 + len(str(path))


def test_no_address_is_fetched_and_no_folder_read(tmp_path):
    for source in ("http://127.0.0.1:9/t.csv", tmp_path / "t.csv"):
        with pytest.raises(FileNotFoundError):
            read_csv(source)
    with pytest.raises(DataError, match="not a regular file"):
        read_csv(tmp_path)


def test_without_pandas_the_error_says_what_to_install(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    from fastbp import datasets

    for call in (lambda path: read_csv(path), lambda path: datasets.load(path, label="y")):
        with pytest.raises(ImportError, match=r"pip install 'fastbp\[csv\]'"):
            call(table("a,y\n1,0\n"))
