"""What a notebook shows: tables, pictures and bars, by a kernel that runs offline."""

import re
import warnings

import pytest

import fastbp

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")
pytest.importorskip("pandas")

SETUP = """
import fastbp
data = fastbp.datasets.load("digits")
X, y, X_test, y_test = data
options = {"loss": "cross-entropy", "input_scale": 1 / 16, "backend": "numpy", "seed": 0}
net = fastbp.Network([64, 10], **options)
"""
FIT = "epochs=3, batch_size=50, learning_rate=0.5, validation_split=0.2"
TABLES = {
    "data": "X_train",
    "net": "FLOPs",
    "net.summary()": "FLOPs",
    "history": "val_accuracy",
    "net.gradient(X[:9], y[:9])": "weights[0]",
    "fastbp.gradcheck(net, X[:3], y[:3])": "numerical",
    "fastbp.find_learning_rate(fastbp.Network([64, 10], **options), X, y, batch_size=99)": "rate",
    "history.to_frame()": "samples_per_second",
}
PICTURES = {
    "history.plot()": (960, 365),
    "fastbp.plots.confusion_matrix(net, X_test, y_test)": None,
    "fastbp.plots.first_layer(net)": None,
}
INLINE = """
%matplotlib inline
import matplotlib.pyplot as plt
history.plot()
"""


def outputs(client, *sources):
    """Run cells in the kernel; return the outputs of the last one."""
    for source in sources:
        cell = nbformat.v4.new_code_cell(source)
        client.nb.cells.append(cell)
        client.execute_cell(cell, len(client.nb.cells) - 1)
    return cell.outputs


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A notebook's client, whose kernel has a trained network."""
    folder = str(tmp_path_factory.mktemp("kernel"))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the packages around the kernel
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, folder)
        patch.setenv("PYTHONPATH", str(fastbp.__file__).removesuffix("/fastbp/__init__.py"))
        patch.delenv("MPLBACKEND", raising=False)
        client = nbclient.NotebookClient(nbformat.v4.new_notebook(), timeout=60)
        with client.setup_kernel():
            outputs(client, SETUP, f"history = net.fit(X, y, {FIT}, progress=True)")
            yield client


def test_a_training_shows_a_bar_for_each_epoch(kernel):
    shown = "".join(out.get("text", "") for out in kernel.nb.cells[1].outputs)
    bars = [line for line in re.split(r"[\r\n]+", shown) if "100%" in line]
    for number in (1, 2, 3):
        assert any(f"epoch {number}/3: 100%" in bar and "(val " in bar for bar in bars), shown
    assert "Warning" not in shown
    try:
        import ipywidgets  # noqa: F401  # with it, bars are drawn by the browser
    except ImportError:  # text on stderr would stand on red
        assert {out.name for out in kernel.nb.cells[1].outputs} == {"stdout"}


@pytest.mark.parametrize("source", TABLES)
def test_objects_show_a_table(source, kernel):
    (found,) = outputs(kernel, source)
    text = found.data["text/plain"]
    assert "<table" in found.data["text/html"]
    assert TABLES[source] in found.data["text/html"]
    assert "color" not in found.data["text/html"]  # a notebook may be dark
    assert len(text.splitlines()) < 15
    assert max(map(len, text.splitlines())) < 130


@pytest.mark.parametrize("source", [*PICTURES, INLINE])
def test_a_figure_shows_itself_once(source, kernel):
    (found,) = outputs(kernel, source)
    assert found.data["image/png"]
    assert found.data["text/plain"].startswith("<")
    if PICTURES.get(source):
        size = found.metadata["image/png"]
        assert (size["width"], size["height"]) == PICTURES[source]


def test_a_training_can_be_interrupted_and_goes_on(kernel):
    stop = "import os, signal, threading\nthreading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))"
    stop += ".start()\ntry:\n    net.fit(X, y, epochs=10**6, batch_size=50, learning_rate=0.5)\n"
    stop += "except KeyboardInterrupt:\n    print('interrupted')"
    (found,) = outputs(kernel, stop)
    assert found.text == "interrupted\n"
    (found,) = outputs(kernel, f"net.fit(X, y, {FIT})")
    assert "History of 3 epochs" in found.data["text/plain"]


# --- What the prompt shows ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inspector():
    from IPython.core.interactiveshell import InteractiveShell

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shell = InteractiveShell(colors="NoColor")
        yield lambda thing, name: shell.inspector._get_info(thing, name)["text/plain"]


def test_what_is_asked_of_fit_fits_on_a_screen(inspector):
    net = fastbp.Network([3, 2], backend="numpy")
    lines = inspector(net.fit, "net.fit").splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    "name",
    ["Network", "Network.gradient", "gradcheck", "find_learning_rate", "Affine", "Sequential.loss",
     "Norms", "plots.mistakes", "report.write", "Network.predict"],
)  # fmt: skip
def test_signatures_name_arrays_by_one_word(name, inspector):
    thing = fastbp
    for part in name.split("."):
        thing = getattr(thing, part)
    shown = inspector(thing, name)
    assert "_array_like" not in shown
    assert max(map(len, shown.splitlines())) <= 100
