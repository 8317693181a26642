"""How objects show themselves: lines at a prompt, tables in a notebook."""

import re

import numpy as np
import pytest

import fastbp
from fastbp import callbacks, datasets, schedules
from fastbp._support.shown import html, number
from fastbp.history import Best
from fastbp.lr_finder import RateSearch
from fastbp.verification import VerificationReport
from fastbp.verification.tolerances import Row


def cells(text):
    """The rows of a table."""
    rows = re.findall("<tr>(.*?)</tr>", text)
    return [re.findall(r"<t[hd] [^>]*>(.*?)</t[hd]>", row) for row in rows]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (0.25, "0.2500"),
        (0.001, "1.00e-03"),
        (-3e6, "-3.00e+06"),
        (12.0, "12.0000"),
    ],
)
def test_numbers_have_few_digits(value, text):
    assert number(value) == text


def test_a_table_is_plain_and_what_stands_in_it_is_no_markup():
    text = html(("a", "<b>"), [("&", 1), ("x", "")], above="1 < 2", below="'")
    assert cells(text) == [["a", "&lt;b&gt;"], ["&amp;", "1"], ["x", ""]]
    assert "<div>1 &lt; 2</div><table>" in text
    assert text.endswith("</table><div>&#x27;</div></div>")
    assert text.count("left") == 3
    assert text.count("right") == 3


def test_of_many_rows_both_ends_are_shown():
    rows = [(number,) for number in range(13)]
    shown = [row[0] for row in cells(html(("n",), rows))]
    assert shown == ["n", *"01234", "…", "8", "9", "10", "11", "12"]
    assert len(cells(html(("n",), rows[1:]))) == 13


def test_a_column_of_nothing_is_left_out():
    assert cells(html(("a", ""), [(0, ""), (1, "")])) == [["a"], ["0"], ["1"]]
    assert cells(html(("a", ""), [(0, ""), (1, "!")])) == [["a", ""], ["0", ""], ["1", "!"]]


X = np.zeros((5, 4), np.uint8)


class Mine(callbacks.Callback):
    """A user's, which keeps one of its arguments."""

    def __init__(self, where, *more, limit=3, **others):
        self.limit = limit


@pytest.mark.parametrize(
    "text",
    [
        "Constant(learning_rate=0.5)",
        "Step(learning_rate=0.5, every=10, factor=0.5)",
        "Exponential(learning_rate=0.5, factor=0.95)",
        "Cosine(learning_rate=0.5, epochs=9, end=0.0)",
        "OnPlateau(learning_rate=0.5, factor=0.5, patience=5, monitor='val_loss', min_delta=0.1)",
        "Warmup(learning_rate=Constant(learning_rate=0.5), epochs=2.0, start=0.1)",
        "ByStep(schedule=Exponential(learning_rate=0.5, factor=0.95))",
        "EarlyStopping(monitor='loss', patience=3, min_delta=0.5)",
        "StopOnDivergence(factor=2.0)",
        "Checkpoint(path='net-{epoch:02d}', every=2, monitor='val_loss')",
        "Checkpoint(path='net', every=1, monitor=None)",
        "CSVLog(path='log.csv')",
        "JSONLog(path='log.jsonl')",
        "SGD(momentum=0.9, nesterov=True, l2=0.0, clip_norm=None, l2_over_sum=False, l1=0.0)",
    ],
)
def test_what_is_made_by_a_call_shows_it(text):
    names = {**vars(schedules), **vars(callbacks), "SGD": fastbp.SGD}
    assert repr(eval(text, names)) == text


def test_arrays_are_shown_by_their_shape_and_what_is_not_kept_not_at_all():
    assert repr(fastbp.Norms(X, [0] * 5)) == "Norms(X=<(5, 4) uint8>, y=<(5,) int64>)"
    assert repr(Mine("here", 1, a=2)) == "Mine(limit=3)"
    assert repr(callbacks.Callback()) == "Callback()"


def test_the_best_says_where_it_is():
    best = Best("loss")
    best.improves(fastbp.History(loss=[0.5]))
    assert repr(best) == "<Best loss: 0.5000 in epoch 1>"


def test_a_data_set_shows_its_shapes():
    data = datasets.Dataset(X, X[:, 0], X, X[:, 0])
    parts = "X_train (5, 4) uint8, y_train (5,) uint8, X_test (5, 4) uint8, y_test (5,) uint8"
    assert repr(data) == f"<Dataset: {parts}>"
    assert cells(data._repr_html_())[1] == ["X_train", "(5, 4)", "uint8"]
    data.notes = {"label": "kind"}
    assert "y: column kind" in data._repr_html_()


def test_a_gradient_shows_its_size():
    net = fastbp.Network([4, 3, 2], seed=0, backend="numpy")
    gradient = net.gradient(X + 1, [0, 1, 0, 1, 0])
    norm = np.linalg.norm(gradient.to_vector())
    assert repr(gradient) == f"<Gradient of 4-3-2: loss {gradient.loss:.4f}, norm {norm:.4f}>"
    rows = cells(gradient._repr_html_())
    assert [row[0] for row in rows[1:]] == ["weights[0]", "biases[0]", "weights[1]", "biases[1]"]
    largest = abs(gradient.biases[1]).max()
    assert rows[-1] == [
        "biases[1]", "(2,)", number(np.linalg.norm(gradient.biases[1])), number(largest)
    ]  # fmt: skip
    net = fastbp.Network([4, 2], seed=0, backend="numpy", bias=False)
    assert len(cells(net.gradient(X, [0] * 5)._repr_html_())) == 2


def test_a_network_and_its_summary_show_one_table():
    net = fastbp.Network([4, 3, 2], backend="numpy")
    summary = net.summary()
    assert isinstance(summary, str)
    assert repr(summary) == str(summary)
    assert net._repr_html_() == summary._repr_html_()
    rows = cells(summary._repr_html_())
    for row, line in zip(rows[1:], (summary.splitlines()[n] for n in (4, 5, 7)), strict=True):
        assert line.split() == " ".join(row).split()
    assert summary.splitlines()[0] in summary._repr_html_()


def test_a_gradient_check_shows_its_verdict():
    net = fastbp.Network([4, 2], backend="numpy", seed=0)
    report = fastbp.gradcheck(net, X + 1, [0, 1, 0, 1, 0])
    last = str(report).splitlines()[-1]
    assert repr(report) == f"<GradientReport of 2 arrays, {last}>"
    assert f"<div>{last}</div>" in report._repr_html_()
    rows = cells(report._repr_html_())
    assert ",".join(rows[0]) == "parameter,count,checked,error,worst at,analytic,numerical"
    assert [row[0] for row in rows[1:]] == ["W1", "b1"]


def test_a_gradient_that_is_wrong_is_pointed_at():
    pair = lambda p: float(p @ p), lambda p: 3 * p
    report = fastbp.gradcheck(pair, np.ones(3))
    assert "NOT ok" in repr(report)
    assert cells(report._repr_html_())[1][-1].startswith("&lt;--")


def test_a_verification_shows_first_what_fails():
    rows = tuple(Row(f"k{n}", "reference", "float32", "-", 1, 2, 1e-7, 1e-5) for n in range(20))
    report = VerificationReport(rows, True, "a CPU", 1.0)
    assert repr(report) == "<VerificationReport, ok: 40 comparisons in 1.0 s on a CPU>"
    assert len(cells(report._repr_html_())) == 12
    rows[9].error = 1.0
    assert "NOT ok, k9: 40 comparisons" in repr(report)
    shown = cells(report._repr_html_())
    assert (shown[1][0], shown[1][-1]) == ("k9", "  &lt;-- FAILS: ")


def test_a_search_shows_the_losses_around_its_suggestion():
    rates = 10.0 ** np.arange(-20, 1)
    found = RateSearch(rates, np.arange(21.0), 1e-8)
    assert repr(found) == "<RateSearch: suggestion 1e-08, of 21 rates from 1e-20 to 1>"
    rows = cells(found._repr_html_())
    assert [row[0] for row in rows[1:]] == [f"{10.0**n:.3g}" for n in range(-13, -2)]
    assert "1e-08. plots.learning_rates draws all 21." in found._repr_html_()
