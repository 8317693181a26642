import builtins
import math

import pytest

from fastbp import plots
from fastbp.training import History

pytest.importorskip("matplotlib")


def history(epochs, validation=True, accuracy=True):
    falling = [1 / k for k in range(1, epochs + 1)]
    rising = [1 - x / 2 if accuracy else math.nan for x in falling]
    return History(
        loss=falling,
        accuracy=rising,
        val_loss=[0.1 + x for x in falling] if validation else [],
        val_accuracy=[x - 0.1 for x in rising] if validation else [],
    )


def texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("epochs", [1, 2, 30, 200])
def test_curves_show_what_the_history_holds(epochs):
    h = history(epochs)
    figure = plots.learning_curves(h, title="digits")
    loss, accuracy = figure.axes
    assert figure.get_suptitle() == "digits"
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Accuracy"]
    assert loss.get_ylabel() == "mean loss per sample"
    assert accuracy.get_ylabel() == "accuracy (% of the samples)"
    for axes, values in (
        (loss, [h.loss, h.val_loss]),
        (accuracy, [[100 * x for x in h.accuracy], [100 * x for x in h.val_accuracy]]),
    ):
        assert axes.get_xlabel() == "epoch"
        assert [list(line.get_ydata()) for line in axes.lines] == values
        assert [list(line.get_xdata()) for line in axes.lines] == [[*range(1, epochs + 1)]] * 2
        assert [text.split(",")[0] for text in texts(axes)] == ["training", "validation"]
        assert [line.get_color() for line in axes.lines] == ["#0072B2", "#D55E00"]


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 1000])
def test_ticks_are_whole_epochs(epochs):
    figure = plots.learning_curves(history(epochs))
    figure.canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)


def test_without_validation_there_is_one_curve_a_panel():
    figure = plots.learning_curves(history(5, validation=False))
    assert [len(axes.lines) for axes in figure.axes] == [1, 1]


def test_without_classes_there_is_no_accuracy():
    figure = plots.learning_curves(history(5, accuracy=False))
    assert [axes.get_title() for axes in figure.axes] == ["Loss"]


@pytest.mark.parametrize(
    ("name", "magic"),
    [("a.png", b"\x89PNG"), ("a.PNG", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF"),
     ("a", b"\x89PNG")],
)  # fmt: skip
def test_the_suffix_says_the_format(tmp_path, name, magic):
    plots.learning_curves(history(3), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_picture_is_drawn_and_not_blank(tmp_path):
    from matplotlib.image import imread

    plots.learning_curves(history(20), tmp_path / "a.png", "title")
    pixels = imread(tmp_path / "a.png")
    assert pixels.shape[:2] == (570, 1500)
    blue = abs(pixels[..., :3] - [0, 0x72 / 255, 0xB2 / 255]).max(axis=-1) < 0.02
    red = abs(pixels[..., :3] - [0xD5 / 255, 0x5E / 255, 0]).max(axis=-1) < 0.02
    for half in (slice(0, 750), slice(750, 1500)):
        assert blue[:, half].sum() > 500
        assert red[:, half].sum() > 500


def test_a_title_is_no_formula(tmp_path):
    plots.learning_curves(history(2), tmp_path / "a.png", "no $\\formula{$")


def test_pyplot_is_left_alone():
    plots.learning_curves(history(2))
    pyplot = pytest.importorskip("matplotlib.pyplot")
    assert pyplot.get_fignums() == []


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="history must hold at least one epoch"):
        plots.learning_curves(History())
    with pytest.raises(ValueError, match=r"path must end in \..*\.png.*found .*a\.foo"):
        plots.learning_curves(history(2), tmp_path / "a.foo")
    with pytest.raises(FileNotFoundError):
        plots.learning_curves(history(2), tmp_path / "nowhere" / "a.png")


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    for call in (plots.check, lambda: plots.learning_curves(history(2))):
        with pytest.raises(ImportError, match=r"pip install 'fastbp\[plot\]'"):
            call()
