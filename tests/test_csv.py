import gzip
import sys

import numpy as np
import pytest

from fastbp.datasets import DataError, load, read_csv

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
        ("a, b, y\n1, 2, 1\n3,4,0", [[1, 2], [3, 4]], "uint8"),
        (' a,"b" , y \n"1", "2",1\n3,4,0', [[1, 2], [3, 4]], "uint8"),
        ("2019,2020,y\n1,2,1\n3,4,0", [[1, 2], [3, 4]], "uint8"),  # some names are numbers
        ("a;b;y\n1;2;1\n3;4;0\n", [[1, 2], [3, 4]], "uint8"),
        ("a\tb\ty\n1\t2\t1\n3\t4\t0\n", [[1, 2], [3, 4]], "uint8"),
        ("a|b|y\r\n1|2|1\r\n3|4|0", [[1, 2], [3, 4]], "uint8"),
        ('"a";"b, c";"y"\n"1,5";"2";"1"\n3;4,25;0', [[1.5, 2], [3, 4.25]], "float64"),
        ("a;b;y\n1;2;1\n3,5;,5;0", [[1, 2], [3.5, 0.5]], "float64"),
        ("a;b;y\n1.5;2;1\n3;4;0", [[1.5, 2], [3, 4]], "float64"),  # of wine-quality.csv
        ("a\tb\ty\n-1,5e2\t2\t1\n3\t4\t0", [[-150, 2], [3, 4]], "float64"),
        ('a,b,y\n"1,5","2,5",1\n"3,0","4,0",0', [[1.5, 2.5], [3, 4]], "float64"),
        ("a;b;y\n0,123;2;1\n0,456;4;0", [[0.123, 2], [0.456, 4]], "float64"),
        ("a,b,y\n1,2,1,\n3,4,0,", [[1, 2], [3, 4]], "uint8"),  # only below the header
    ],
)
def test_numbers_are_read(table, text, X, dtype):
    found, y = read_csv(table(text), "y")
    np.testing.assert_array_equal(found, np.array(X, dtype))
    assert (found.dtype, y.dtype) == (dtype, "int64")
    assert y.tolist() == [1, 0]
    assert found.flags.c_contiguous


@pytest.mark.parametrize(
    ("text", "options", "X"),
    [
        ("1,2,1\n3,4,0\n", {"header": False}, [[1, 2], [3, 4]]),
        ("1,5;2;1\n3;4,5;0\n", {"header": False}, [[1.5, 2], [3, 4.5]]),
        ("a:b:3\n1:2:1\n3:4:0", {"separator": ":"}, [[1, 2], [3, 4]]),
        ("a b 3\n1 2 1\n3 4 0", {"separator": " "}, [[1, 2], [3, 4]]),
        ("a;b;3\n1,234;2;1\n3;4;0", {"decimal": ","}, [[1.234, 2], [3, 4]]),
        ("a;b,3\n1,1\n", {"separator": ","}, [[1]]),
    ],
)
def test_how_a_table_is_written_may_be_said(table, text, options, X):
    assert read_csv(table(text), "3", **options)[0].tolist() == X


LABELS = {
    "years": (["2019", "2021", "2019"], [2019, 2021, 2019]),
    "text": (["yes", " no ", "yes"], ["yes", "no", "yes"]),
    "whole floats": (["1.0", "2.0", "1"], [1, 2, 1]),
    "negative": (["-1", "+1", "-1"], [-1, 1, -1]),
    "bools": (["True", "False", "True"], ["True", "False", "True"]),
    "None, which is a class": (["None", "Mild", "None"], ["None", "Mild", "None"]),
    "Na, sodium": (["Na", "K", "Na"], ["Na", "K", "Na"]),
    "quoted": (['"a, b"', "c", '"a, b"'], ["a, b", "c", "a, b"]),
}


@pytest.mark.parametrize(("texts", "labels"), LABELS.values(), ids=LABELS)
def test_labels_are_read_as_they_stand_and_numbered_by_load(table, texts, labels):
    rows = [f"{k},{text}" for k, text in enumerate(texts * 5)]
    path = table("\n".join(["a,y", *rows]))
    y = read_csv(path, "y")[1]
    assert y.tolist() == labels * 5
    assert y.dtype == ("int64" if isinstance(labels[0], int) else "object")
    data = load(path, label="y")
    classes = sorted(set(labels))
    named = {"columns": ["a"], "label": "y", "classes": classes}
    assert data.notes == {"task": "classification", **named}
    numbers = [classes.index(label) for label in labels * 5]
    for X, found in (data[:2], data[2:]):
        assert found.tolist() == [numbers[k] for k in X[:, 0]]
        assert found.dtype == "int64"
    X_train, *_ = data  # it unpacks into four
    assert len(data) == 4
    assert X_train is data.X_train
    assert load("digits").notes == {}


NOTES = {"columns": ["a", "b"], "label": "y", "classes": ["no", "yes"]}


@pytest.mark.parametrize("rows", ["b,y,a\n4,yes,3\n2,no,1", "a,b,y\n3,4,yes\n1,2,no"])
def test_columns_and_classes_are_put_in_the_order_of_a_model(table, rows):
    path = table(rows)
    X, y = read_csv(path, "y", notes=NOTES)
    assert X.tolist() == [[3, 4], [1, 2]]
    assert y.tolist() == [1, 0]
    assert read_csv(path, notes=NOTES)[0].tolist() == X.tolist()


def test_a_subset_of_the_classes_keeps_their_numbers(table):
    path = table("\n".join(["y,b,a", *["yes,1,2"] * 6]))
    data = load(path, notes=NOTES)  # which name the label
    assert data.y_train.tolist() == [1] * 5
    assert data.X_test.tolist() == [[2, 1]]
    assert data.notes == {"task": "classification", **NOTES}
    path = table("\n".join(["a,y", *["1,3", "2,5"] * 5]))
    assert set(load(path, label="y", notes={}).y_train) == {3, 5}  # a model without names


def test_without_a_header_columns_go_by_position(table):
    for text, label in (("1,2,no\n3,4,yes", "3"), ("no,1,2\nyes,3,4", "1")):
        X, y = read_csv(table(text), label, header=False, notes=NOTES)
        assert X.tolist() == [[1, 2], [3, 4]]
        assert y.tolist() == [0, 1]
    numbered = {"columns": ["2", "3"], "label": "1"}
    for text in ("1,2\n", "x,1,2\n"):
        assert read_csv(table(text), header=False, notes=numbered)[0].tolist() == [[1, 2]]


WITH_NOTES = {
    "a column is missing": ("b,y\n1,no\n", {}, r"lacks columns \['a'\]"),
    "a column too many": ("a,b,c,y\n1,2,3,no\n", {}, r"has others \['c'\]"),
    "both": ("a,c,y\n1,2,no\n", {}, r"lacks columns \['b'\] and has others \['c'\]"),
    "an unknown class": ("a,b,y\n1,2,may\n", {}, r"not trained on, \['may'\]; it knows \['no', "),
    "no label": ("a,b\n1,2\n", {}, "label must be one of"),
    "counts": ("1,2,3,no\n", {"header": False, "label": "4"}, "takes 2 columns, it has 3"),
    "columns that are no list": ("a,y\n1,2\n", {"notes": {"columns": 5}}, "must be a list"),
    "columns twice": ("a,y\n1,2\n", {"notes": {"columns": ["a", "a"]}}, "anything twice"),
    "a label that is no text": (
        "a,y\n1,2\n",
        {"notes": {"columns": ["a"], "label": [5]}, "label": None},
        r"has others \['y'\]",
    ),
    "classes that are bools": ("a,y\n1,2\n", {"notes": {"classes": [True]}}, "must be a list"),
    "text for numbers": ("a,b,y\n1,2,no\n", {"notes": {}}, "'y' must hold classes 0, 1, 2"),
}


@pytest.mark.parametrize(("text", "options", "part"), WITH_NOTES.values(), ids=WITH_NOTES)
def test_a_table_that_does_not_fit_a_model_is_refused(table, text, options, part):
    with pytest.raises(DataError, match=part):
        read_csv(table(text), **{"label": "y", "notes": NOTES, **options})


def test_the_label_may_stand_anywhere_or_nowhere(table):
    path = table("y,a\n1,2\n0,3\n")
    X, y = read_csv(path, "y")
    assert (X.tolist(), y.tolist()) == ([[2], [3]], [1, 0])
    X, y = read_csv(path)
    assert X.tolist() == [[1, 2], [0, 3]]
    assert y is None


BAD = {
    "no such label": ("a,b\n1,2\n", r"label .*\['a', 'b'\]"),
    "no header": ("1,2\n3,4\n", r"numbers, \['1', '2'\].* --no-header \(header=False\)"),
    "no header, decimal commas": ("5,1;3,5;0\n4,9;3,0;1\n", "nothing but numbers"),
    "no header, but bools and gaps": ("1.5,True,?,,0\n4,False,1,2,0\n", "nothing but numbers"),
    "a feature that is None": ("a,y\nNone,0\n", "column 'a' has no value in row 1"),
    "one column, no header": ("5\n4\n", "nothing but numbers"),
    "no header, text as label": ("1,y\n3,x\n4,y\n", "'y', row 2 .* --no-header"),
    "a header that pandas counted": ("0,1,2\n5,6,0\n", "nothing but numbers"),
    "an index": (",a,y\n0,5,0\n1,6,1\n", r"column 1 has no name.* to_csv\(\.\.\., index=False\)"),
    "an index, written twice": ("Unnamed: 0,a,y\n0,5,0\n", "column 1 has no name"),
    "a name of blanks": ("a,  ,y\n0,5,0\n", "column 2 has no name"),
    "trailing commas": ("a,y,\n1,0,\n2,1,\n", "lines end with a separator"),
    "trailing semicolons": ("a;y;\n1;0;\n2;1;\n", "lines end with a separator"),
    "named so by pandas": ("a,y,Unnamed: 2\n1,0,\n2,1,\n", "lines end with a separator"),
    "nameless at the end": ("a,y,\n1,0,5\n2,1,6\n", "column 3 has no name"),
    "names that differ in blanks": ("a,a ,y\n1,2,0\n", "two columns are named 'a'"),
    "two separators": ("a;b,c;y\np;q,r;s\n", "may be ',' or ';'.* --separator"),
    "thousands or decimals": ("a;y\n1,234;0\n", "column 'a' holds '1,234'.* --decimal"),
    "thousands in quotes": ('a,y\n"1,234",0\n', "column 'a' holds '1,234'"),
    "thousands and decimals": ("a;y\n1.234,56;0\n", "'1.234,56' .*one decimal mark"),
    "thousands in another column": ("a;b;y\n1,5;1.234;0\n", r"'1\.234' .*one decimal mark"),
    "both decimal marks": ("a;y\n1,5;0\n2.5;1\n", "'1,5' .*one decimal mark"),
    "a question mark": ("a,y\n?,0\n", "column 'a' has no value in row 1"),
    "percent": ("a,y\n50%,0\n", "column 'a' holds text, '50%'"),
    "Excel's first line": ("sep=;\na;y\n1;0\n", "sep=, is for Excel alone"),
    "a comment": ("# from 2020\na,y\n1,0\n", "first line has 1 values, another 2"),
    "gzip": (gzip.compress(b"a,y\n1,0\n"), "compressed by gzip; unpack"),
    "a workbook": (b"PK\3\4" + bytes(99), "a workbook"),
    "UTF-16": ("a,y\n1,0\n".encode("utf-16"), "UTF-16; save it as UTF-8"),
    "labels of both kinds": ("a,y\n1,K\n2,1\n", "row 2 .*either numbers or texts; got 'K' and 1"),
    "NA as label": ("a,y\n1,x\n2,NA\n", "'y', row 2 .*missing; got 'NA'"),
    "a long label": (f"a,y\n1,{'x' * 200}\n2,x\n", "the name of a class"),
    "a label of two lines": ('a,y\n1,"p\nq"\n2,x\n', "the name of a class"),
    "missing value": ("a,y\n1,0\n2,1\n,1\n", "column 'a' has no value in row 3"),
    "NA": ("a,y\n1,0\nNA,1\n", "column 'a' has no value in row 2"),
    "missing label": ("a,y\n1,0\n2,\n", "column 'y', row 2 below the header: .*missing"),
    "short row": ("a,b,y\n1,2,0\n2,1\n", "column 'y', row 2 below the header: .*missing"),
    "long row": ("a,y\n1,0\n2,1,3\n", "not a CSV file"),
    "all rows long": ("a,y\n1,0,5\n2,1,3\n", "not a CSV file"),
    "text": ("a,y\n1,0\nred,1\n", "column 'a' holds text, 'red' in row 2"),
    "text in quotes": ('a,y\n"x,\ny",0\n2,1\n', "column 'a' holds text"),
    "dates": ("a,y\n2024-01-01,0\n", "column 'a' holds text, '2024-01-01' in row 1"),
    "a hundred digits": (f"a,y\n{'9' * 100},0\n{'9' * 100}x,0", "column 'a' holds text"),
    "infinite": ("a,y\n1,0\n-inf,1\n", "column 'a' is infinite in row 2"),
    "two columns of text": ("a,b,y\n1,x,0\nu,v,1\n", "columns 'a', 'b' hold text, such as 'u' in"),
    "gaps in two columns": (
        "a,b,y\n1,,0\n,2,1\n",
        "columns 'a', 'b' lack values, the first in row 2",
    ),
    "two infinite": ("a,b,y\n1,inf,0\ninf,2,1\n", "'a', 'b' are infinite, the first in row 2"),
    "thousands as label": ('a,y\n1,"1,234"\n', "column 'y' holds '1,234'.* --decimal"),
    "a name twice": ("a,a,y\n1,2,0\n", "two columns are named 'a'"),
    "the label twice": ("a,y,y\n1,2,0\n", "two columns are named 'y'"),
    "no rows": ("a,y\n", "one row, and one column"),
    "no columns": ("y\n1\n", "one row, and one column"),
    "empty": ("", "empty"),
    "blank": ("\n\n\n", "empty"),
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


def test_what_to_do_with_text_depends_on_the_text(table):
    def advice(column):
        with pytest.raises(DataError) as caught:
            read_csv(table("\n".join(["a,y", *(f"{value},0" for value in column)])), "y")
        return str(caught.value).partition("header; ")[2]

    line = "pandas.get_dummies(table, columns=['a'], dtype=int), or leave them out"
    assert advice(["red", "blue", "red"]) == f"make numbers of them, {line}"
    assert "all other values are numbers: make it one" in advice(["red", "1", "2"])
    assert "make all of them numbers" in advice(["red", "blue", "1", "2", "3"])
    assert "one decimal mark" in advice(["1.234.567", "1"])


def test_a_hundred_columns_of_text_are_named_at_some_length(table):
    names = ",".join(f"a column of text {k}" for k in range(100))
    with pytest.raises(DataError, match=r"columns 'a column of text 0', .* hold text") as caught:
        read_csv(table(f"{names},y\n{'x,' * 100}0\n"), "y")
    assert "columns=[...]" in str(caught.value)
    assert len(str(caught.value)) < 600


# What a column of so many rows is taken for, by its values in turn.
TASKS = {
    "texts": (10, ["no", "yes"], "classification"),
    "two numbers": (10, [0, 1], "classification"),
    "signs": (10, [-1, 1], "classification"),
    "ten numbers": (60, range(10), "classification"),
    "eleven, few rows": (60, range(11), "regression"),
    "eleven, rows enough": (110, range(11), "classification"),
    "a hundred, rows enough": (1000, range(100), "classification"),
    "a hundred and one": (1010, range(101), "regression"),
    "fractions": (10, [0.5, 1], "regression"),
    "decimal commas": (10, ["0,5", "1,25"], "regression"),
    "whole, written as floats": (10, ["0.0", "1.0"], "classification"),
}


@pytest.mark.parametrize(("rows", "values", "task"), TASKS.values(), ids=TASKS)
def test_whether_a_column_holds_classes_or_numbers_is_seen(table, rows, values, task):
    values = [str(values[k % len(values)]) for k in range(rows)]
    path = table("\n".join(["a;y", *(f"{k % 7};{value}" for k, value in enumerate(values))]))
    data = load(path, label="y")
    assert data.notes["task"] == task
    assert ("classes" in data.notes) == (task == "classification")
    assert data.y_train.dtype == ("float64" if task == "regression" else "int64")
    assert len(data.y_train) + len(data.y_test) == rows


def test_a_regression_tests_every_fifth_number_by_size(table, caplog):
    y = [k**2 / 4 for k in range(20)]
    path = table("\n".join(["a,y", *(f"{-v},{v}" for v in y[::-1])]))
    data = load(path, label="y")
    assert sorted(data.y_test) == y[4::5]
    assert sorted([*data.y_train, *data.y_test]) == y
    for X, found in (data[:2], data[2:]):
        assert (X[:, 0] == -found).all()
    assert data.notes == {"columns": ["a"], "label": "y", "task": "regression"}
    again = load(path, notes=data.notes)  # which say label and task
    assert (again.notes, again.y_test.tolist()) == (data.notes, data.y_test.tolist())
    X, found = read_csv(path, "y", notes=data.notes)
    assert found.tolist() == read_csv(path, "y")[1].tolist() == y[::-1]
    assert not caplog.messages


def test_the_task_may_be_said(table):
    path = table("\n".join(["a,y", *["1,3", "2,5"] * 5]))
    data = load(path, label="y", task="regression")
    assert sorted(data.y_train) == [3, 3, 3, 3, 5, 5, 5, 5]
    assert data.y_train.dtype == "float64"
    path = table("\n".join(["a,y", *(f"1,{k // 5}" for k in range(60))]))
    assert load(path, label="y").notes["task"] == "regression"
    assert load(path, label="y", task="classification").notes["classes"] == list(range(12))
    with pytest.raises(ValueError, match="task must be one of classification, regression; got 'x'"):
        load(path, label="y", task="x")
    with pytest.raises(DataError, match="task must be one of"):
        load(path, label="y", notes={"columns": ["a"], "task": 5})
    with pytest.raises(ValueError, match=r"label and task are of a column of a \.csv file"):
        load("digits", task="regression")


TARGETS = {
    "text": (["x", "z"], "regression", "row 1 .* holds text, 'x'.* --task classification"),
    "text and numbers": (["1", "z"], None, "row 2 .*either numbers or texts"),
    "fractions": (["0", "0.5"], "classification", r"row 2 .*got 0\.5; .* --task regression"),
    "vast": (["0", "1e300"], "classification", "row 2 .*whole number or a text; got 1e300"),
    "infinite": (["0", "inf"], None, "row 2 .*must be finite; got inf"),
    "constant": (["2.5", "2.5"], None, "holds one number alone, 2.5: there is nothing to learn"),
    "one class": (["2", "2"], None, "holds one class alone, 2; to train takes two or more"),
    "no value": (["2.5", "NA"], None, "row 2 .*missing; got 'NA'"),
    "identifiers": ([*"abcdefghijkl"], None, "12 classes in 12 rows: a class must have five"),
    "few rows": (["1", "2"], None, "2 classes in 2 rows.* for a regression pass --task regression"),
    "few numbers": (["0.5", "2"], None, "a data set must have five samples or more"),
}


@pytest.mark.parametrize(("values", "task", "part"), TARGETS.values(), ids=TARGETS)
def test_a_target_that_cannot_be_trained_is_refused(table, values, task, part):
    path = table("\n".join(["a,y", *(f"{k},{value}" for k, value in enumerate(values))]))
    with pytest.raises(DataError, match=part) as caught:
        load(path, label="y", task=task)
    assert str(caught.value).count(str(path)) == 1


def test_a_column_that_counts_the_rows_is_pointed_out(table, caplog):
    path = table("\n".join(["a,id,y", *(f"{k % 3},{k + 7},{k % 2}" for k in range(20))]))
    data = load(path, label="y")
    assert [line.partition(": ")[2] for line in caplog.messages] == [
        "column 'id' counts the rows; leave it out if that is all"
    ]
    load(path, notes=data.notes)  # of a model: it is too late
    assert len(caplog.messages) == 1


def test_wrong_options_are_named(table):
    path = table("a,y\n1,0\n")
    for options, part in (
        ({"separator": "ab"}, "separator must be one character .*got 'ab'"),
        ({"separator": "x"}, "separator must be one character"),
        ({"decimal": ";"}, "decimal must be one of"),
        ({"header": 1}, "header must be True or False"),
    ):
        with pytest.raises((ValueError, TypeError), match=part):
            read_csv(path, "y", **options)
        with pytest.raises(ValueError, match=r"are of a \.csv file"):
            load("digits", **{**options, "header": False})


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
        with pytest.raises(ImportError, match=r"pip install pandas"):
            call(table("a,y\n1,0\n"))
