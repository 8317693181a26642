"""The checks of what users pass: what comes through, and what each error says."""

import decimal
import fractions

import numpy as np
import pytest

from fastbp._support import checks


def message_of(error, call, *arguments):
    """The message of exactly this error."""
    with pytest.raises(error) as caught:
        call(*arguments)
    assert type(caught.value) is error
    return str(caught.value)


def says(message, *parts):
    """Whether a message holds all of these: the argument's name, what would do, what was found."""
    return [part for part in parts if str(part) not in message] == []


def test_one_of_returns_what_is_allowed():
    assert checks.one_of("loss", "quadratic", ("quadratic", "cross-entropy")) == "quadratic"


@pytest.mark.parametrize("value", ["c", "", None, 1, ["a"], {"a"}, np.array(["a", "b"])])
def test_one_of_names_all_that_would_do(value):
    message = message_of(ValueError, checks.one_of, "letter", value, ("a", "b"))
    assert message == f"letter must be one of a, b; got {value!r}"


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_flags_come_back_as_bools(value):
    assert checks.flag("bias", value) is bool(value)


@pytest.mark.parametrize("value", [0, 1, "True", None, np.array(True)])
def test_what_is_no_flag(value):
    message = message_of(TypeError, checks.flag, "bias", value)
    assert says(message, "bias", "True or False", repr(value)), message


@pytest.mark.parametrize("value", [1, 7, np.int8(7), np.uint64(2**63), 10**30])
def test_positive_ints_come_back_as_ints(value):
    assert checks.positive_int("epochs", value) == value
    assert type(checks.positive_int("epochs", value)) is int


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError), (-1, ValueError), (np.int64(-5), ValueError),
        (1.0, TypeError), (True, TypeError), (np.True_, TypeError), ("1", TypeError),
        (None, TypeError), (np.ones(1, int), TypeError), (1 + 0j, TypeError),
    ],
)  # fmt: skip
def test_what_is_no_positive_int(value, error):
    message = message_of(error, checks.positive_int, "epochs", value)
    assert says(message, "epochs", "positive integer", value), message


def test_a_batch_is_at_most_the_set():
    assert checks.batch_size("batch_size", np.int64(5), 5) == 5
    with pytest.warns(UserWarning, match="^batch_size is 6, more than the 5 samples: a batch h"):
        assert checks.batch_size("batch_size", 6, 5) == 5
    assert "positive integer" in message_of(ValueError, checks.batch_size, "batch_size", 0, 5)


@pytest.mark.parametrize(
    "value", [1, 0.5, np.float32(0.5), np.int8(3), fractions.Fraction(1, 255), 1e-30, 1e30]
)
def test_positive_floats_come_back_as_floats(value, dtype):
    assert checks.positive_float("init", value, dtype) == float(value)
    assert type(checks.positive_float("init", value, dtype)) is float


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError), (-0.0, ValueError), (-1e-9, ValueError), (np.nan, ValueError),
        (np.inf, ValueError), (-np.inf, ValueError), (np.float32("nan"), ValueError),
        (10**400, ValueError), ("1", TypeError), (None, TypeError), (True, TypeError),
        (1j, TypeError), ([1.0], TypeError), (np.ones(1), TypeError),
    ],
)  # fmt: skip
def test_what_is_no_positive_float(value, error, dtype):
    message = message_of(error, checks.positive_float, "init", value, dtype)
    assert says(message, "init", "positive number", value), message


@pytest.mark.parametrize("check", [checks.positive_int, checks.positive_float, checks.fraction])
def test_a_duration_is_no_number(check):
    with pytest.raises((TypeError, ValueError), match=r"must be a .*; got np.timedelta64"):
        check("epochs", np.timedelta64(3, "s"))


@pytest.mark.parametrize("value", [1e39, 1e-39, 1e300])
def test_a_positive_float_is_one_in_its_dtype(value):
    assert checks.positive_float("init", value, np.float64) == value
    message = message_of(ValueError, checks.positive_float, "init", value, np.float32)
    assert says(message, "init", "finite in float32", value), message


@pytest.mark.parametrize("sizes", [[784, 10], (784, 10), np.array([784, 10]), range(1, 3)])
def test_sizes_come_back_as_a_tuple_of_ints(sizes):
    assert checks.layer_sizes(sizes) == tuple(sizes)
    assert {type(n) for n in checks.layer_sizes(sizes)} == {int}


@pytest.mark.parametrize(
    ("value", "found"), [(np.ones(2), "ndarray"), ((1,), "tuple of 1"), ([1, 2, 3], "list of 3")]
)
def test_a_pair_has_two_parts(value, found):
    assert checks.pair("data", (1, 2)) == (1, 2)
    message = message_of(TypeError, checks.pair, "data", value)
    assert says(message, "data", "pair (X, y)", found), message


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("f2", "f4"), ("f4", "f4"), ("f8", "f8"), ("g", "f8"), (">f4", "f4"), (">f8", "f8"),
        (">f2", "f4"), ("u1", "u1"), (">i4", "i4"), ("?", "?"),
    ],
)  # fmt: skip
def test_numbers_come_back_in_a_native_dtype(dtype, expected):
    array = checks.numbers_array("X", np.array([0, 1], dtype))
    assert array.dtype == np.dtype(expected)
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, [0, 1])


class Table:
    """What Polars and Arrow have in common: columns by name, and objects where these differ."""

    def __init__(self, **columns):
        self.columns, self._found = list(columns), columns

    def __getitem__(self, name):
        return self._found[name]

    def __array__(self, dtype=None, copy=None):
        return np.array([*map(list, self._found.values())], object).T


def table(**columns):
    return pytest.importorskip("pandas").DataFrame(columns)


def column(values, dtype=None):
    return pytest.importorskip("pandas").Series(values, dtype=dtype)


MADE_NUMBERS = {
    "bools beside floats": (lambda: table(a=[0.1, 2], b=[True, False]), [[0.1, 1], [2, 0]]),
    "bools beside bytes": (
        lambda: table(a=np.array([3, 4], "u1"), b=[True, False]),
        np.array([[3, 1], [4, 0]], "u1"),
    ),
    "bools alone": (lambda: table(a=[True], b=[False]), [[True, False]]),
    "nullable": (
        lambda: table(a=column([1, 2], "Int8"), b=column([0.1, 2], "Float64")),
        [[1, 0.1], [2, 2.0]],
    ),
    "one name twice": (
        lambda: table(a=[0.5], b=[True]).set_axis(["a", "a"], axis=1),
        [[0.5, 1]],
    ),
    "categories of numbers": (lambda: column([3, 5, 3], "category"), [3, 5, 3]),
    "nullable integers": (lambda: column([3, 5], "Int64"), [3, 5]),
    "objects beside floats": (
        lambda: table(a=[0.1, 2], b=column([1, 2], object)),
        [[0.1, 1], [2, 2]],
    ),
    "a table of others": (lambda: Table(a=[0.5, 2], b=[True, False]), [[0.5, 1], [2, 0]]),
    "floats": (lambda: np.array([[0.1, 2], [3, True]], object), [[0.1, 2], [3, 1]]),
    "integers": (lambda: np.array([2**53 + 1, 3], object), [2**53 + 1, 3]),
    "long integers": (lambda: np.array([10**30, 0], object), [1e30, 0]),
    "fractions": (
        lambda: [decimal.Decimal("0.1"), fractions.Fraction(1, 3), True],
        [0.1, 1 / 3, 1],
    ),
    "NumPy's scalars": (
        lambda: np.array([np.float32(0.1), np.True_], object),
        np.array([0.1, 1], "f4"),
    ),
    "a list of both": (lambda: [[1, True], [0.5, np.int8(3)]], [[1, 1], [0.5, 3]]),
}


@pytest.mark.parametrize("kind", MADE_NUMBERS)
def test_what_holds_numbers_is_the_array_of_these(kind):
    make, expected = MADE_NUMBERS[kind]
    found, expected = checks.numbers_array("X", make()), np.array(expected)
    assert (found.tobytes(), found.shape) == (expected.tobytes(), expected.shape)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize("kind", ["int64", "double", "bool"])
def test_arrow_dtypes_are_numbers(kind):
    pytest.importorskip("pyarrow")
    plain = table(a=[1, 0], b=[1, 1])
    found = checks.numbers_array("X", plain.astype(f"{kind}[pyarrow]"))
    np.testing.assert_array_equal(found, plain)
    gap = plain.astype(f"{kind}[pyarrow]").mask(plain == 0)
    assert "at X['a'][1]" in message_of(TypeError, checks.numbers_array, "X", gap)


def test_polars_tables_are_numbers(monkeypatch):
    monkeypatch.setenv("_RJEM_MALLOC_CONF", "")  # the import sets it
    polars = pytest.importorskip("polars")
    found = checks.numbers_array("X", polars.DataFrame({"a": [0.5, 2], "b": [True, False]}))
    np.testing.assert_array_equal(found, [[0.5, 1], [2, 0]])
    wrong = polars.DataFrame({"a": [0.5, 2], "b": ["x", "y"]})
    assert "X['b'] must hold" in message_of(TypeError, checks.numbers_array, "X", wrong)


NO_NUMBERS = {
    "texts": (lambda: table(a=[1.0, 2], city=["Rome", "Oslo"]), "X['city']", "'Rome' at", "[0]"),
    "digits": (lambda: table(a=[True, False], b=["1", "2"]), "X['b']", "'1' at X['b'][0]"),
    "categories": (lambda: table(a=column(["u", "v"], "category")), "X['a']", "'u' at"),
    "dates": (
        lambda: table(a=[1.0], when=np.array(["2020"], "M8[s]")), "X['when']", "datetime64",
    ),
    "dates alone": (lambda: table(when=np.array([3], "M8[s]")), "X['when']", "datetime64"),
    "durations": (lambda: table(a=[1.0], t=np.array([3], "m8[s]")), "X['t']", "timedelta64"),
    "complex": (lambda: table(a=[1.0], b=[1j]), "X['b']", "complex128"),
    "a gap": (lambda: table(a=[True], b=column([None], "Int64")), "None at X['b'][0]"),
    "a gap in a column": (lambda: column([1, None], "Int64"), "None at X[1]", "leave it out"),
    "text in a table of others": (lambda: Table(a=[0.5, 2], b=["x", "y"]), "X['b']", "<U1"),
    "None": (lambda: [[1, 2], [3, None]], "None at X[1, 1]"),
    "text among objects": (lambda: np.array([1, "2"], object), "'2' at X[1]"),
    "durations among objects": (
        lambda: np.array([np.timedelta64(1, "s"), 2], object), "timedelta64(1,'s') at X[0]"
    ),
    "complex among objects": (lambda: np.array([1, 1j], object), "1j at X[1]"),
    "lists among objects": (lambda: column([[1, 2], [3, 4]]), "[1, 2] at X[0]"),
    "lists of two lengths": (lambda: column([[1, 2], [3]]), "[1, 2] at X[0]"),
    "a generator": (lambda: (n for n in range(3)), "got <generator"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_shown_with_its_place(kind):
    make, *parts = NO_NUMBERS[kind]
    message = message_of(TypeError, checks.numbers_array, "X", make())
    assert says(message, "must hold numbers", *parts), message


def test_integers_that_no_float_holds():
    message = message_of(ValueError, checks.numbers_array, "X", [10**400])
    assert says(message, "X must hold finite numbers", "too large"), message


def test_a_column_may_have_any_name():
    """pandas makes attributes of names, and NumPy would take one of them for a mask."""
    found = checks.numbers_array("X", table(_mask=[1, 2]))
    np.testing.assert_array_equal(found, [[1], [2]])


def test_an_array_that_fits_is_not_copied():
    X = np.ones((2, 3))
    assert checks.numbers_array("X", X) is X
    assert checks.samples(X, 3) is X
    assert checks.finite("X", X) is X


def test_a_long_double_beyond_float64_is_not_finite():
    if np.finfo("g").max == np.finfo("f8").max:
        pytest.skip("long double is float64 here")
    X = checks.numbers_array("X", np.array([np.finfo("g").max]))
    assert "inf at X[0]" in message_of(ValueError, checks.finite, "X", X)


@pytest.mark.parametrize("rows", [1, 4095, 4096, 4097, 9000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_not_finite_is_named(value, rows, dtype):
    X = np.zeros((rows, 3), dtype)
    X[-1, 2] = value
    message = message_of(ValueError, checks.finite, "X", X)
    assert f"got {value} at X[{rows - 1}, 2]" in message
    X[0, 1] = value
    assert f"got {value} at X[0, 1]" in message_of(ValueError, checks.finite, "X", X)
    X = np.zeros(rows, dtype)
    X[-1] = value
    assert f"at X[{rows - 1}]" in message_of(ValueError, checks.finite, "X", X)


@pytest.mark.parametrize("found_in", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e8, 1.0, 1 / 255])
def test_finite_means_in_dtype_and_scaled(scale, found_in, dtype):
    """At both ends; a scale below one must not admit what is not finite before it is scaled."""
    limit = min(float(np.finfo(kind).max) for kind in (dtype, found_in)) / max(1, scale)
    for sign in (1, -1):
        fits = np.array([sign * limit * 0.999], found_in)
        assert checks.finite("X", fits, dtype, scale) is fits
        with np.errstate(over="ignore"):
            grows = np.array([sign * limit * 1.001], found_in)
        message = message_of(ValueError, checks.finite, "X", grows, dtype, scale)
        assert says(message, f"at most {limit:.3g}", f"{grows[0]:g} at X[0]"), message


@pytest.mark.parametrize("dtype", ["u1", "i8", "?"])
def test_integers_are_always_finite(dtype):
    X = np.ones((3, 2), dtype)
    assert checks.finite("X", X, np.float32, 1e30) is X


def test_targets_are_labels_where_they_can_be(dtype):
    for y in ([2, 0], np.array([2, 0], "u1"), [[0, 0, 1], [1, 0, 0]], np.eye(3)[[2, 0]]):
        found = checks.targets(y, 2, 3, dtype)
        np.testing.assert_array_equal(found.labels, [2, 0])
        assert found.labels.dtype == np.int64
        assert found.values.shape == (0, 3)
        assert found.values.dtype == dtype


@pytest.mark.parametrize(
    "y", [[[0, 1], [1, 1]], [[0, 0], [1, 0]], [[0.5, 0.5], [1, 0]], [[-1, 0], [0, 1]], [[2, 0]] * 2]
)
def test_targets_that_are_not_one_hot_stay_values(y, dtype):
    found = checks.targets(y, 2, 2, dtype)
    assert not found.labels.size
    np.testing.assert_array_equal(found.values, y)
    assert found.values.dtype == dtype


def test_targets_of_one_output_are_values(dtype):
    for y in ([0, 1], [[0], [1]], np.array([False, True])):
        found = checks.targets(y, 2, 1, dtype)
        assert not found.labels.size
        np.testing.assert_array_equal(found.values, [[0], [1]])


def test_targets_are_a_copy(dtype):
    y = np.full((2, 3), 0.5, dtype)
    assert not np.shares_memory(checks.targets(y, 2, 3, dtype).values, y)
    labels = np.array([0, 1])
    assert not np.shares_memory(checks.targets(labels, 2, 3, dtype).labels, labels)


def test_labels_may_not_wrap_around():
    wild = np.array([0, 2**64 - 1], "u8")  # -1 as an int64
    message = message_of(ValueError, checks.targets, wild, len(wild), 3, "float32", "labels")
    assert says(message, "labels from 0 to 2", f"{2**64 - 1} at labels[1]"), message


def test_what_to_do_with_names_and_with_labels_in_floats():
    message = message_of(TypeError, checks.targets, ["a", "b"], 2, 3, "float32")
    assert message.endswith("number classes from 0, as np.unique(y, return_inverse=True)[1] does")
    message = message_of(TypeError, checks.targets, [0.0, 1.0], 2, 3, "float32")
    assert message.endswith("dtype float64: if these are classes, pass y.astype(int)")
