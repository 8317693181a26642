import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

import fastbp
from fastbp import report

pytest.importorskip("matplotlib")
from matplotlib.image import imread

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PICTURES = [
    "Learning curves", "Confusion matrix", "Most confident mistakes", "First-layer weights",
    "Norms of activations and deltas",
]  # fmt: skip
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What is on a page: headings, cells of its tables row by row, images, other text."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.rows, self.images, self.attributes = [], [], [], []
        self.open, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag == "tr":
            self.rows.append([])
        if tag == "img":
            self.images.append(dict(attributes))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag  # well nested

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)

    def facts(self):
        return {row[0]: row[1] for row in self.rows if len(row) == 2}


@pytest.fixture(scope="module")
def trained(digits):
    """A network that has learnt the digits, how it did, and the test images."""
    X_train, y_train, X, y = digits
    net = fastbp.Network([64, 20, 10], loss="cross-entropy", input_scale=1 / 16, seed=1)
    norms = fastbp.Norms(X_train[:100], y_train[:100])
    history = net.fit(
        X_train, y_train, epochs=4, batch_size=10, learning_rate=0.5, validation_data=(X, y),
        callbacks=[norms],
    )  # fmt: skip
    return SimpleNamespace(net=net, norms=norms, history=history, X=X, y=y)


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    """The page with everything on it."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    rates = SimpleNamespace(rates=[0.01, 0.1, 1.0], losses=[2.0, 1.0, 9.0], suggestion=0.1)
    report.write(
        path, trained.net, trained.X, trained.y, history=trained.history, norms=trained.norms,
        rates=rates, title="digits & <friends>",
    )  # fmt: skip
    return path


def test_everything_is_on_the_page(whole, trained):
    page = Page(whole.read_text(encoding="utf-8"))
    assert page.open == []
    assert page.headings == [
        "digits & <friends>", "Configuration", "Training", "Learning curves", "Classes",
        *PICTURES[1:],
        "Learning-rate finder",
    ]  # fmt: skip
    accuracy = trained.net.accuracy(trained.X, trained.y)
    assert f"{100 * accuracy:.2f} % of 355 samples are classified right" in page.text
    assert f"mean loss {trained.net.loss(trained.X, trained.y):.6g}" in page.text
    facts = page.facts()
    assert "Settings" not in page.headings  # no command trained it
    assert facts["neurons per layer, the inputs first"] == "64 - 20 - 10"
    assert facts["parameters"] == "1,510"
    assert facts["hidden activation"] == "sigmoid"
    assert facts["output"] == "softmax"
    assert facts["inputs are"] == "multiplied by 0.0625"
    assert facts["epochs"] == "4"
    assert (
        facts["validation accuracy after it"] == f"{100 * trained.history.val_accuracy[-1]:.2f} %"
    )
    best = min(trained.history.val_loss)
    epoch = trained.history.val_loss.index(best) + 1
    share = f"{100 * trained.history.val_accuracy[epoch - 1]:.2f} %"
    expected = f"{best:.6g}, accuracy {share}, after epoch {epoch}"
    assert facts["smallest validation loss"] == expected
    assert "Not shown" not in page.text


def test_the_figures_of_each_class_are_right(whole, trained):
    page = Page(whole.read_text(encoding="utf-8"))
    head, *rows, macro = [row for row in page.rows if len(row) >= 6]
    assert head == [
        "class", "samples", "right", "precision", "recall", "F1", "most often taken for",
    ]  # fmt: skip
    predicted = trained.net.predict(trained.X)
    assert len(rows) == 10
    for label, row in enumerate(rows):
        is_it, taken = trained.y == label, predicted == label
        right = (is_it & taken).sum()
        precision, recall = right / taken.sum(), right / is_it.sum()
        f1 = 2 * precision * recall / (precision + recall)
        shares = [f"{100 * share:.2f} %" for share in (precision, recall, f1)]
        assert row[:6] == [str(label), str(is_it.sum()), str(right), *shares]
        others = np.bincount(predicted[is_it & ~taken], minlength=10)
        most = f"{others.argmax()} ({others.max()} times)" if others.any() else "–"
        assert row[6] == most
    assert macro[:3] == ["macro average", "355", str((trained.y == predicted).sum())]
    for column, share in enumerate(macro[3:6], start=3):
        means = np.mean([float(row[column].split()[0]) for row in rows])
        assert abs(float(share.split()[0]) - means) < 0.01


def test_the_images_are_inside_and_are_the_pictures(whole):
    page = Page(whole.read_text(encoding="utf-8"))
    assert len(page.images) == 6
    for image in page.images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        pixels = imread(io.BytesIO(base64.b64decode(data, validate=True)))
        assert pixels.std() > 0.05
        assert pixels.shape[1] / pixels.shape[0] == pytest.approx(
            int(image["width"]) / int(image["height"]), rel=0.01
        )
        assert len(image["alt"]) > 20


def test_the_page_loads_nothing(whole):
    text = whole.read_text(encoding="utf-8")
    page = Page(text)
    addresses = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    assert len(addresses) == 6
    assert all(address.startswith("data:image/png") for address in addresses)
    assert "<script" not in text
    assert "<link" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'; img-src data:" in text


def test_what_is_missing_is_said_and_what_to_do(trained, tmp_path):
    report.write(tmp_path / "a.html", trained.net, trained.X, trained.y)
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert len(page.images) == 3
    assert page.text.count("Not shown: no history: `fastbp train` leaves one beside its model") == 2
    assert page.text.count("callbacks=[fastbp.Norms]") == 1
    assert "Learning-rate finder" not in page.headings


def test_inputs_that_are_no_images_and_classes_without_samples(tmp_path):
    net = fastbp.Network([5, 3], loss="cross-entropy", seed=0)
    net.from_vector([9, *[0] * 17])
    history = fastbp.History(loss=[1.0], accuracy=[float("nan")])
    report.write(tmp_path / "a.html", net, np.ones((4, 5)), [0, 0, 0, 1], history=history)
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "Not shown" not in page.text.replace("Not shown: no norms", "")
    assert page.facts()["hidden activation"] == "no hidden layer"
    assert "accuracy in the last epoch" not in page.facts()
    *_, third = [row for row in page.rows if len(row) == 7]
    assert third == ["2", "0", "0", "–", "–", "–", "–"]


def test_sparse_samples_make_the_same_page(trained, tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    pages = []
    for X in (trained.X, sparse.csr_array(trained.X)):
        report.write(tmp_path / "a.html", trained.net, X, trained.y)
        page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
        pages.append([page.rows, [image["src"] for image in page.images]])
    assert pages[0] == pages[1]


def test_more_classes_than_a_matrix_shows(tmp_path):
    net = fastbp.Network([4, 1001], loss="cross-entropy", seed=0)
    report.write(tmp_path / "a.html", net, np.ones((4, 4)), [0, 1, 2, 1000])
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert page.text.count("Not shown: a confusion matrix shows up to 1000 classes") == 2


def written(tmp_path, *arguments, **more):
    report.write(tmp_path / "a.html", *arguments, **more)
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_a_regression_has_its_figures_beside_a_constant_s(tmp_path):
    net = fastbp.Network([2, 2], loss="quadratic", output="identity", seed=0)
    net.from_vector([1, 0, 0, 1, 0, 0])
    net.notes |= {"label": ["price", "age"], "target": {"mean": 1.0, "deviation": 2.0}}
    X, y = np.array([[0.0, 1], [2, 3], [4, 5]]), np.array([[0.0, 1], [2, 2], [7, 5]])
    page = written(tmp_path, net, X, y, history=fastbp.History(loss=[1.0], accuracy=[np.nan]))
    assert page.headings[4:8] == [
        "Predictions", "Predicted against true", "Residuals", "First-layer weights",
    ]  # fmt: skip
    assert len(page.images) == 4  # with the curves
    head, price, age, mean = [row for row in page.rows if len(row) == 5]
    assert head == [
        "output", "R²", "mean absolute error", "that of a constant", "root of mean square error",
    ]  # fmt: skip
    errors = np.abs(X - y)
    for row, part in ((price, [0]), (age, [1])):
        expected = [errors[:, part].mean(), np.abs(y[:, part] - 1).mean()]
        assert row[2:4] == [f"{value:.5g}" for value in expected]
        assert row[4] == f"{np.sqrt((errors[:, part] ** 2).mean()):.5g}"
    assert (price[0], age[0], mean[0]) == ("price", "age", "mean of all")
    assert mean[2] == f"{errors.mean():.5g}"
    assert f"mean absolute error {errors.mean():.4g} on 3 samples" in page.text
    assert "accuracy" not in " ".join(page.facts())
    one = fastbp.Network([2, 1], loss="quadratic", output="identity", seed=0)
    page = written(tmp_path, one, X, y[:, 0])
    assert [row[0] for row in page.rows if len(row) == 5] == ["output", "output"]
    assert "the mean of these samples’ targets" in page.text


def test_several_labels_have_figures_each(tmp_path):
    net = fastbp.Network([2, 2], output="sigmoid", loss="cross-entropy", seed=0)
    net.from_vector([1, 0, 0, 1, -0.5, -0.5])
    net.notes["classes"] = ["even", "<prime>"]
    X, y = np.array([[1, 0], [1, 1], [0, 1]]), np.array([[1, 0], [1, 0], [0, 1]])
    page = written(tmp_path, net, X, y)
    assert page.headings[4:6] == ["Labels", "Labels in a picture"]
    head, *rows = [row for row in page.rows if len(row) == 7]
    assert head == ["label", "samples", "right", "precision", "recall", "F1", "wrongly found"]
    assert rows == [
        ["even", "2", "2", "100.00 %", "100.00 %", "100.00 %", "0"],
        ["<prime>", "1", "1", "50.00 %", "100.00 %", "66.67 %", "1"],
    ]
    assert "66.67 % of 3 samples have all labels right; mean loss" in page.text
    assert "over all labels, of" in page.text


def test_a_table_has_its_names_and_its_mistakes_in_words(tmp_path):
    net = fastbp.Network([2, 2], loss="cross-entropy", seed=0)
    net.from_vector([1, 0, 0, 1, 0, 0])
    net.notes |= {"columns": ["<a>", "b"], "classes": ["cat", "dog & co"]}
    page = written(tmp_path, net, np.array([[1, 0], [0, 1], [3, 1]]), [0, 1, 1])
    assert [row[0] for row in page.rows if len(row) == 7][1:3] == ["cat", "dog & co"]
    head, line = [row for row in page.rows if row[0] in ("row", "2")]
    assert head[-2:] == ["<a>", "b"]
    assert line == ["2", "dog & co", "cat", "88.08 %", "11.92 %", "3", "1"]
    assert "The only mistake in 3 samples. Rows are counted from 0." in page.text
    page = written(tmp_path, net, np.array([[1, 0]]), [0])
    assert "No mistakes in 1 sample." in page.text


def test_what_a_model_remembers_of_its_training_is_shown(trained, tmp_path):
    net = fastbp.Network([64, 10], loss="cross-entropy", seed=0)
    net.notes["training"] = {
        "command": "fastbp train --data <x>", "version": "9.8", "data": "x", "data_path": "/d/x",
        "label": None, "header": True, "separator": None, "decimal": None, "test_digest": "",
        "samples": 1234, "validation_samples": 56, "test_samples": 78, "epochs": 3,
        "settings": {"hidden": [5, 6], "bias": True, "l2": 0.5, "schedule": None},
    }  # fmt: skip
    page = written(tmp_path, net, trained.X, trained.y)
    facts = page.facts()
    assert facts["command"] == "fastbp train --data <x>"
    assert facts["fastbp"] == "9.8"
    assert facts["data"] == "/d/x"
    assert facts["samples"] == "1,234 for training, 56 for validation, 78 for testing"
    assert "Settings" in page.headings
    for words in ("hidden 5, 6", "bias yes", "l2 0.5", "schedule none"):
        assert words in " ".join(page.text.split()), words
    net.notes["training"] = "long ago"
    with pytest.raises(ValueError, match=r"notes\['training'\] must be as"):
        written(tmp_path, net, trained.X, trained.y)


def test_bad_input_is_one_error_and_no_page(trained, tmp_path):
    path = tmp_path / "a.html"
    for X, y, part in (
        (trained.X[:, :9], trained.y, r"X must be \(batch, 64\)"),
        (trained.X, trained.y[:3], "labels must have one entry per sample"),
    ):
        with pytest.raises(ValueError, match=part):
            report.write(path, trained.net, X, y)
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        report.write(tmp_path / "nowhere" / "a.html", trained.net, trained.X, trained.y)


# -- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """browse(path, *options): open a page in headless Chromium; return its stdout and stderr."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} to open the page in: apt install chromium")

    def run(path, *options):
        profile = tmp_path_factory.mktemp("profile")
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-background-networking", f"--user-data-dir={profile}",
            "--enable-logging=stderr", "--window-size=1200,5000", "--hide-scrollbars",
            *options, path.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=240, check=True, cwd=profile)
        return done.stdout.decode(), done.stderr.decode(errors="replace")

    return run


@pytest.mark.slow
def test_chromium_opens_the_page_without_a_complaint(whole, browse):
    text, log = browse(whole, "--dump-dom")
    page = Page(text)
    assert page.headings[1:4] == ["Configuration", "Training", "Learning curves"]
    assert len(page.images) == 6
    assert not re.findall(r".*(?:CONSOLE|Refused to).*", log)


@pytest.mark.slow
def test_chromium_shows_every_picture(whole, browse, tmp_path):
    browse(whole, f"--screenshot={tmp_path / 'page.png'}")
    screen = imread(tmp_path / "page.png")[..., :3]
    assert screen.shape[:2] == (5000, 1200)

    def pixels(colour):
        return int((abs(screen - np.array(colour) / 255).max(axis=-1) < 0.02).sum())

    curves, borders = pixels([0xD5, 0x5E, 0x00]), pixels([0, 0x72, 0xB2])
    assert curves > 500  # vermillion: learning curves and finder
    assert borders > 5000  # the lines below headings, and curves
    assert pixels([8, 48, 107]) > 1000  # the matrix at 100 %
    assert pixels([0, 0, 0]) > 50_000  # images of digits
    assert pixels([127, 59, 8]) + pixels([45, 0, 75]) > 50  # the ends of the scale of weights
    assert pixels([68, 1, 84]) > 50  # the first layer's norms


@pytest.mark.slow
def test_a_page_that_asks_for_the_network_is_noticed(whole, browse, tmp_path):
    """The check above can fail: the browser does complain about what the page forbids."""
    path = tmp_path / "worse.html"
    text = whole.read_text(encoding="utf-8")
    path.write_text(text.replace("</body>", '<img src="file:///nowhere.png"></body>'))
    assert re.findall(r".*(?:CONSOLE|Refused to).*", browse(path, "--dump-dom")[1])
