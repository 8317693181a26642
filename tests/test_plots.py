import io
import math
import pickle
import struct
from types import SimpleNamespace

import numpy as np
import pytest

import fastbp
from fastbp import plots
from fastbp.history import History
from fastbp.plots import curves

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
        assert [text.split(",")[0] for text in texts(axes)[:2]] == ["training", "validation"]
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


# -- several runs, and values that are none ------------------------------------------------------


def ydata(axes):
    return [list(line.get_ydata()) for line in axes.lines]


def inside(figure):
    """Whether all that is written lies within the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(75)  # quicker
    FigureCanvasAgg(figure).draw()
    width, height = figure.get_size_inches() * figure.dpi
    legends = [*figure.legends, *filter(None, (axes.get_legend() for axes in figure.axes))]
    words = [part for a in figure.axes for part in (a.title, a.xaxis.label, a.yaxis.label)]
    words = [text for text in [*figure.texts, *words] if text.get_text()]
    boxes = [part.get_window_extent() for part in [*legends, *words]]
    return all(b.x0 > -1 and b.y0 > -1 and b.x1 < width + 1 and b.y1 < height + 1 for b in boxes)


@pytest.mark.parametrize("count", [2, 10, 30, 35])
def test_several_runs_share_the_panels_and_are_told_apart(count):
    runs = {f"run {number}": history(3 + number) for number in range(count)}
    figure = plots.learning_curves(runs)
    assert [axes.get_title() for axes in figure.axes] == [
        "Training loss, as seen during the epoch", "Training accuracy, as seen during the epoch",
        "Validation loss, after the epoch", "Validation accuracy, after the epoch",
    ]  # fmt: skip
    for axes, name, factor in zip(
        figure.axes, ["loss", "accuracy", "val_loss", "val_accuracy"], [1, 100, 1, 100], strict=True
    ):
        expected = [[factor * x for x in getattr(run, name)] for run in runs.values()]
        assert ydata(axes) == expected
        pairs = {(line.get_color(), line._unscaled_dash_pattern) for line in axes.lines}
        assert len(pairs) == count
        assert axes.get_xlim()[1] >= 2 + count
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(runs)
    assert inside(figure)


@pytest.mark.parametrize("name", ["run {}", "a very long folder/and a long name of run {}"])
def test_a_long_legend_takes_nothing_from_the_panels(name):
    figure = plots.learning_curves({name.format(number): history(5) for number in range(20)})
    assert inside(figure)
    for axes in figure.axes:
        width = axes.get_window_extent().width / figure.dpi
        assert 4 < width < 5


def test_more_runs_than_can_be_told_apart_are_refused():
    runs = {str(number): history(2) for number in range(36)}
    with pytest.raises(ValueError, match=r"1 to 35 runs.* 36"):
        plots.learning_curves(runs)
    with pytest.raises(ValueError, match="got 0"):
        plots.learning_curves({})


def test_one_named_run_has_its_name_for_title():
    figure = plots.learning_curves({"a $ name": history(2)})
    assert figure.get_suptitle() == "a $ name"
    assert len(figure.axes) == 2
    assert plots.learning_curves({0.5: history(2)}).get_suptitle() == "0.5"


def test_runs_without_validation_have_one_row():
    runs = {"a": history(3, validation=False), "b": history(3, validation=False)}
    assert len(plots.learning_curves(runs).axes) == 2
    runs["c"] = history(3)
    figure = plots.learning_curves(runs)
    assert [len(axis) for axis in ydata(figure.axes[2])] == [0, 0, 3]


def test_names_are_shown_whatever_they_are(tmp_path):
    names = ["_hidden", "$\\frac{", "", "x" * 100 + "end", 0.5, "two\nlines"]
    runs = {name: history(2) for name in names}
    figure = plots.learning_curves(runs, tmp_path / "a.png")
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(shown) == 6
    assert [shown[0], shown[2], shown[4], shown[5]] == [" _hidden", "(no name)", "0.5", "two lines"]
    assert shown[3].startswith("xxx")
    assert shown[3].endswith("xend")
    assert len(shown[3]) < 50


@pytest.mark.parametrize("epochs", [20, 100])
def test_what_is_not_finite_leaves_a_gap_and_a_word(epochs):
    h = history(epochs)
    h.loss[3], h.loss[5] = math.nan, math.inf
    figure = plots.learning_curves(h)
    training, validation = figure.axes[0].lines
    known = np.isfinite(training.get_ydata())
    assert list(np.flatnonzero(~known)) == [3, 5]
    assert np.isfinite(validation.get_ydata()).all()
    first, second, _ = texts(figure.axes[0])
    assert first.endswith(f"(not finite in 2 of {epochs} epochs)")
    assert "finite" not in second
    assert training.get_marker() == "o"
    assert training.get_markevery() == (None if epochs == 20 else [4])  # no line would show it
    assert inside(figure)


def test_a_gap_in_any_panel_is_told_in_the_one_legend():
    runs = {"a": history(3), "b": history(3)}
    runs["b"].val_loss[1] = math.nan
    figure = plots.learning_curves(runs)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["a", "b\n(not finite in 1 of 3 epochs)"]


def test_nothing_but_nan_is_a_picture_too(tmp_path):
    h = History(loss=[math.nan] * 3, accuracy=[math.nan] * 3)
    plots.learning_curves(h, tmp_path / "a.png")
    plots.learning_curves({"a": h, "b": h}, tmp_path / "b.png")


def test_a_loss_that_explodes_does_not_flatten_the_others():
    h = history(20)
    h.loss[9] = 1e6
    assert plots.learning_curves(h).axes[0].get_yscale() == "log"
    assert plots.learning_curves(history(8)).axes[0].get_yscale() == "linear"
    h.loss[1] = -1.0  # no loss of ours, but a logarithm would hide it
    assert plots.learning_curves(h).axes[0].get_yscale() == "linear"


def test_a_first_epoch_that_would_take_most_of_the_axis_leaves_it_with_a_word():
    h = history(20, validation=False)
    h.loss[0] = 1e6
    h.accuracy[:2] = 0.1, 0.8
    for axes, arrow, first in zip(plots.learning_curves(h).axes, "↑↓", (1e6, 10), strict=True):
        (words,) = (text.get_text() for text in axes.texts)
        assert words == f"{arrow} epoch 1: {first:.3g}"
        low, high = axes.get_ylim()
        others = axes.lines[0].get_ydata()[1:]
        assert low < min(others) < max(others) < high
        assert not low < first < high
    h.loss[0], h.accuracy[0] = 1e-6, 1.0  # the best stays, whatever it takes
    h.accuracy[1:] = [0.1] * 18 + [0.11]
    assert [len(axes.texts) for axes in plots.learning_curves(h).axes] == [0, 0]
    h = history(20, validation=False)
    h.loss[0], h.accuracy[:2] = 0.6, (0.7, 0.8)
    assert [len(axes.texts) for axes in plots.learning_curves(h).axes] == [0, 0]
    assert [len(axes.texts) for axes in plots.learning_curves(history(3)).axes] == [0, 0]


def rings(axes):
    return [tuple(ring.get_offsets()[0]) for ring in axes.collections]


def test_a_ring_marks_the_smallest_validation_loss_or_what_was_restored():
    h = history(9)
    h.val_loss[4] = 0.01
    figure = plots.learning_curves(h)
    assert [rings(axes) for axes in figure.axes] == [[(5, 0.01)], [(5, 100 * h.val_accuracy[4])]]
    assert texts(figure.axes[0])[2] == "smallest loss: epoch 5, 0.01"
    h.restored = 7
    figure = plots.learning_curves(h)
    assert [rings(axes)[0][0] for axes in figure.axes] == [7, 7]
    assert texts(figure.axes[0])[2].startswith("restored: epoch 7")
    assert plots.learning_curves(history(9, validation=False)).axes[0].collections[:] == []
    runs = plots.learning_curves({"a": h, "b": history(3)})
    assert [len(rings(axes)) for axes in runs.axes] == [0, 0, 2, 2]
    assert "ring" in runs.legends[0].get_title().get_text()


def test_callbacks_say_which_epoch_they_restore(digits):
    X, y, *test = digits
    net = network(backend="numpy")
    stop = fastbp.callbacks.EarlyStopping(patience=1)
    h = net.fit(
        X[:60], y[:60], epochs=200, batch_size=10, learning_rate=3.0, validation_data=test,
        callbacks=[stop],
    )  # fmt: skip
    assert h.restored == stop.best.epoch == len(h) - 1
    assert net.fit(X[:60], y[:60], epochs=1, batch_size=10, learning_rate=0.1).restored == 0


def test_validation_data_that_are_the_test_set_are_called_so():
    figure = plots.learning_curves(history(3), held_out="test")
    assert texts(figure.axes[0])[1] == "test, after the epoch"
    runs = plots.learning_curves({"a": history(3), "b": history(3)}, held_out="test")
    assert runs.axes[2].get_title() == "Test loss, after the epoch"


# -- confusion matrix ----------------------------------------------------------------------------


def network(sizes=(64, 30, 10), **options):
    options = {"loss": "cross-entropy", "input_scale": 1 / 16, "seed": 1} | options
    return fastbp.Network(sizes, **options)


@pytest.fixture(scope="module")
def learnt(digits):
    """A network that has learnt the digits a little, and the test images."""
    X_train, y_train, X, y = digits
    net = network()
    net.fit(X_train, y_train, epochs=2, batch_size=10, learning_rate=0.5)
    return net, X, y


def test_the_matrix_shows_counts_and_shares(learnt):
    net, X, y = learnt
    figure = plots.confusion_matrix(net, X, y, title="digits")
    axes, beside, bar = figure.axes
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (y, net.predict(X)), 1)
    written = [int(text.get_text().replace("·", "0")) for text in axes.texts]
    assert written == counts.ravel().tolist()
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert axes.get_title() == f"{100 * net.accuracy(X, y):.2f} % of 355 samples are right"
    words = "share of the true class's samples (%)\n(the colours spread out small shares)"
    assert bar.get_ylabel() == words
    recalls = [f"{share:.1f}" for share in 100 * counts.diagonal() / counts.sum(axis=1)]
    assert [text.get_text() for text in beside.texts] == recalls
    assert figure.get_suptitle() == "digits"
    assert inside(figure)


def contrast(ink, ground):
    """Contrast of two colours, by the rules of the web."""

    def luminance(colour):
        from matplotlib.colors import to_rgb

        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(ink), luminance(ground)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("first", [0, 20, 40, 60, 80])
def test_counts_can_be_read_on_every_shade(first):
    """Of class i, first + i % are right."""
    true = np.repeat(np.arange(20), 100)
    predicted = np.where(np.tile(np.arange(100), 20) < true + first, true, (true + 1) % 20)
    net = network([20, 20], loss="quadratic", output="identity", input_scale=1.0)
    net.from_vector(np.append(np.eye(20), np.zeros((1, 20))))
    axes = plots.confusion_matrix(net, np.eye(20)[predicted], true).axes[0]
    image = axes.images[0]
    np.testing.assert_allclose(image.get_array().diagonal(), np.arange(20) + first)
    ground = image.cmap(image.norm(image.get_array()))
    for text in axes.texts:
        column, row = map(int, text.get_position())
        assert contrast(text.get_color(), ground[row, column, :3]) > 4.5, (row, column)


@pytest.mark.parametrize(("classes", "written"), [(2, 4), (20, 400), (21, 0), (100, 0)])
def test_any_number_of_classes(classes, written):
    net = network([4, classes])
    X = np.random.default_rng(0).random((50, 4))
    figure = plots.confusion_matrix(net, X, np.arange(50) % classes)
    axes = figure.axes[0]
    assert len(axes.texts) == written
    assert 2 <= len(axes.get_xticks()) <= 60
    assert max(axes.get_xticks()) < classes
    assert axes.images[0].get_array().shape == (classes, classes)
    assert inside(figure)


def test_classes_have_their_names_and_one_without_samples_no_recall():
    net = network([4, 3])
    net.notes["classes"] = ["$\\frac{", "_hidden", "a class with a name that goes on and on"]
    figure = plots.confusion_matrix(net, np.zeros((2, 4)), [0, 1])
    axes, beside, _ = figure.axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[:2] == ["\\$\\frac{", " _hidden"]
    assert len(names[2]) < 25
    assert names[2].endswith("on and on")
    assert beside.texts[2].get_text() == "none"
    assert inside(figure)


# -- mistakes ------------------------------------------------------------------------------------


def captions(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_mistakes_show_the_images_in_order_of_confidence(learnt):
    net, X, y = learnt
    figure = plots.mistakes(net, X, y)
    outputs = net.feedforward(X)
    predicted, confidence = outputs.argmax(axis=1), outputs.max(axis=1)
    wrong = np.flatnonzero(predicted != y)
    worst = wrong[np.argsort(-confidence[wrong])]
    assert len(worst) > 25
    for axes, i in zip(figure.axes, worst[:25], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), X[i].reshape(8, 8))
        shares = [f"{100 * outputs[i, k]:.2f} %" for k in (y[i], predicted[i])]
        true, guess = f"true {y[i]}, {shares[0]}", f"taken for {predicted[i]}, {shares[1]}"
        assert axes.get_title() == f"#{i}\n{true}\n{guess}"
    words = f"The 25 most confident of {len(worst)} mistakes in 355 samples, by row"
    assert figure.get_suptitle() == words
    limits = {axes.images[0].get_clim() for axes in figure.axes}
    assert limits == {(0, 16)}


def test_fewer_mistakes_than_places(learnt):
    net, X, y = learnt
    wrong = net.predict(X) != y
    few = np.concatenate([np.flatnonzero(wrong)[:3], np.flatnonzero(~wrong)[:9]])
    figure = plots.mistakes(net, X[few], y[few], title="few")
    assert len(figure.axes) == 3
    assert figure.get_suptitle() == "few\nAll 3 mistakes in 12 samples, by row"
    figure = plots.mistakes(net, X[few[2:]], y[few[2:]])
    assert figure.get_suptitle() == "The only mistake in 10 samples, by row"


def test_no_mistakes_are_said(learnt, tmp_path):
    net, X, _ = learnt
    figure = plots.mistakes(net, X, net.predict(X), tmp_path / "a.png")
    assert figure.get_suptitle() == "No mistakes in 355 samples"
    assert figure.axes == []


def test_outputs_that_are_no_probabilities_are_not_called_so():
    net = network([16, 3], loss="quadratic", output="identity")
    X = np.random.default_rng(0).random((30, 16))
    figure = plots.mistakes(net, X, (net.feedforward(X).argmax(axis=1) + 1) % 3)
    assert len(captions(figure)) == 25
    assert not any("%" in caption for caption in captions(figure))


def written(figure):
    """The lines of a table of texts, by the places where they stand."""
    places = sorted((t.get_position()[1], t.get_position()[0], t.get_text()) for t in figure.texts)
    places = [p for a in figure.axes for p in sorted(
        (t.get_position()[1], t.get_position()[0], t.get_text()) for t in a.texts
    )]  # fmt: skip
    lines = {}
    for top, _, text in places:
        lines.setdefault(top, []).append(text)
    return list(lines.values())


def test_mistakes_in_a_table_are_rows_of_text():
    net = network([2, 3, 2], input_scale=1.0)
    net.notes |= {"columns": ["height", "weight"], "classes": ["cat", "dog"]}
    X = np.array([[1.5, 2], [0, 1], [3, 3]])
    wrong = 1 - net.predict(X)
    wrong[1] = 1 - wrong[1]
    figure = plots.mistakes(net, X, wrong, title="animals")
    head, *lines = written(figure)
    assert head == [
        "row", "true class", "predicted", "its output", "output of the true class", "height",
        "weight",
    ]  # fmt: skip
    outputs = net.feedforward(X)
    assert sorted(line[0] for line in lines) == ["0", "2"]
    for line in lines:
        i = int(line[0])
        sure, other = (f"{100 * share:.2f} %" for share in sorted(outputs[i])[::-1])
        classes = [("cat", "dog")[label] for label in (wrong[i], 1 - wrong[i])]
        assert line[1:] == [*classes, sure, other, f"{X[i, 0]:.4g}", f"{X[i, 1]:.4g}"]
    assert figure.get_suptitle() == "animals\nAll 2 mistakes in 3 samples"
    assert inside(figure)


def test_of_many_columns_those_are_written_that_move_the_network():
    net = network([30, 3, 2], input_scale=1.0)
    net.weights[0][:, :20] = 0
    X = np.random.default_rng(0).random((9, 30))
    X[:, 29] = 7  # which tells no samples apart
    head = written(plots.mistakes(net, X, 1 - net.predict(X)))[0]
    assert len(head) == 5 + 12
    assert set(map(str, range(20, 29))) < set(head)


# -- weights -------------------------------------------------------------------------------------


def tiles(figure, side):
    canvas = figure.axes[0].images[0].get_array()
    down, across = (size // side for size in canvas.shape)
    parts = canvas.reshape(down, side, across, side).swapaxes(1, 2).reshape(-1, side, side)
    return [part for part in parts if not np.isnan(part).all()]


def marks(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_weights_are_images_side_by_side_on_one_scale_around_white(learnt):
    net, *_ = learnt
    figure = plots.first_layer(net, title="digits")
    axes, bar = figure.axes
    np.testing.assert_array_equal(tiles(figure, 8), net.weights[0].reshape(-1, 8, 8))
    assert marks(figure) == [str(neuron) for neuron in range(30)]
    low, high = axes.images[0].get_clim()
    assert low == -high < 0
    red, green, blue, _ = axes.images[0].cmap(0.5)
    assert min(red, green, blue) > 0.95
    assert bar.get_ylabel() == "weight"
    assert figure.get_suptitle() == "digits\nWeights of the first layer, neurons 0 to 29"
    assert inside(figure)


def test_of_many_neurons_the_largest_are_shown_by_number():
    net = network([16, 150, 2])
    net.weights[0][7] *= 100
    net.weights[0][8] = 0
    figure = plots.first_layer(net)
    shown = list(map(int, marks(figure)))
    assert len(shown) == len(tiles(figure, 4)) == 100
    assert shown == sorted(shown)
    assert 7 in shown
    assert 8 not in shown
    assert "the 100 of 150 neurons with the largest norms" in figure.get_suptitle()


@pytest.mark.parametrize("sizes", [[16, 1, 2], [1, 2], [16, 2]])
def test_few_neurons(sizes, tmp_path):
    net = network(sizes)
    net.weights[0][...] = 0
    figure = plots.first_layer(net, tmp_path / "a.png")
    assert inside(figure)


@pytest.mark.parametrize("named", [False, True])
def test_dead_neurons_are_hatched_and_called_so(named):
    net = network([16, 4, 2], activation="relu", input_scale=1.0)
    if named:
        net.notes["columns"] = [f"column {number}" for number in range(16)]
    net.weights[0][1] = 0
    net.biases[0][2] = -1000
    X = np.random.default_rng(0).random((9, 16))

    def dead(*arguments, **more):
        figure = plots.first_layer(net, *arguments, **more)
        labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        hatched = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
        found = [text for text in (labels if named else marks(figure)) if "dead" in text]
        assert len(hatched) == len(found)
        assert figure.get_suptitle().endswith(f"; {len(found)} dead")
        return [int(text.split()[0]) for text in found]

    assert dead() == [1]
    assert dead(X=X) == [1, 2]


def test_a_table_has_a_heat_map_with_the_names_of_its_columns():
    net = network([16, 3, 2], input_scale=1.0)
    net.notes["columns"] = ["_a", "$x$", *(f"column {number}" for number in range(14))]
    figure = plots.first_layer(net, title="table")
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), net.weights[0])
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert names[:3] == [" _a", "\\$x\\$", "column 0"]
    assert axes.get_ylabel() == "neuron"
    assert inside(figure)
    net.notes["columns"] = [f"pixel{number}" for number in range(16)]
    assert len(tiles(plots.first_layer(net), 4)) == 3  # images in a .csv
    pixels = network([64, 3, 2])
    pixels.notes["columns"] = [f"a{number}" for number in range(64)]
    assert len(tiles(plots.first_layer(pixels), 8)) == 3  # scaled by one number, as pixels are
    net.notes["columns"] = ["a", "b"]
    with pytest.raises(ValueError, match=r"notes\['columns'\] must name all 16 inputs; it has 2"):
        plots.first_layer(net)


def test_of_many_columns_those_with_the_largest_weights_are_shown():
    net = network([784, 5, 2], input_scale=1.0)
    net.notes["columns"] = [f"gene {number}" for number in range(784)]
    net.weights[0][:, 700:730] *= 50
    figure = plots.first_layer(net)
    names = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert len(names) == 60
    assert {f"gene {number}" for number in range(700, 730)} < set(names)
    assert "the 60 of 784 columns with the largest norms" in figure.get_suptitle()
    assert inside(figure)


def test_without_hidden_layers_a_row_of_weights_is_an_output():
    net = network([3, 2])
    net.notes["classes"] = ["cat", "dog"]
    axes = plots.first_layer(net).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["cat", "dog"]
    assert axes.get_ylabel() == "output"


# -- norms ---------------------------------------------------------------------------------------


def recorded(layers, epochs, factor=0.1):
    rows = [tuple(factor ** (layers - l) for l in range(layers)) for _ in range(epochs)]
    return SimpleNamespace(activations=rows, deltas=list(rows))


@pytest.mark.parametrize(("layers", "epochs"), [(1, 1), (2, 1), (2, 60), (7, 5), (30, 1), (30, 60)])
def test_norms_of_each_layer_over_the_epochs(layers, epochs):
    norms = recorded(layers, epochs, 0.5)
    norms.activations[0] = tuple(3.0 for _ in range(layers))
    figure = plots.layer_norms(norms, title="deep")
    for axes, rows in zip(figure.axes, [norms.activations, norms.deltas], strict=True):
        assert ydata(axes) == [list(layer) for layer in zip(*rows, strict=True)]
        assert axes.get_xlabel() == "epoch"
    assert figure.axes[0].get_ylabel() == "mean |a| per sample"
    assert figure.axes[1].get_ylabel() == "mean |delta| per sample"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [*(str(l) for l in range(1, layers)), f"{layers} (output)"]
    brightness = [sum(line.get_color()[:3]) for line in figure.axes[0].lines]
    assert brightness == sorted(brightness)  # by depth
    assert len(set(brightness)) == layers
    assert inside(figure)


def test_vanishing_norms_are_on_a_logarithmic_axis_with_plain_numbers():
    figure = plots.layer_norms(recorded(4, 3))
    figure.canvas.draw()
    axes = figure.axes[1]
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    shown = [t.get_text() for t in axes.get_yticklabels() if low <= t.get_position()[1] <= high]
    assert {"0.1", "0.01", "0.001", "0.0001"} <= set(shown)
    alike = plots.layer_norms(recorded(4, 3, 0.9))
    alike.canvas.draw()
    assert alike.axes[1].get_yscale() == "log"
    low, high = alike.axes[1].get_ylim()
    assert sum(low <= tick <= high for tick in alike.axes[1].get_yticks()) > 2


def test_norms_before_training_are_those_of_epoch_0():
    norms = recorded(2, 3)
    norms.first_epoch = 0
    for axes in plots.layer_norms(norms).axes:
        assert [list(line.get_xdata()) for line in axes.lines] == [[0, 1, 2]] * 2
        assert axes.get_xlim()[0] < 0


def test_zero_and_infinity_leave_a_gap_and_a_word(tmp_path):
    norms = recorded(3, 4)
    norms.deltas[2] = (0.0, math.inf, 1.0)
    norms.deltas[3] = (0.0, 1.0, 1.0)
    figure = plots.layer_norms(norms, tmp_path / "a.png")
    assert np.isnan(figure.axes[1].lines[0].get_ydata()).tolist() == [False, False, True, True]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "1\n(zero in 2 of 4 epochs)", "2\n(not finite in 1 of 4 epochs)", "3 (output)",
    ]  # fmt: skip
    nothing = SimpleNamespace(activations=[(0.0,)], deltas=[(math.nan,)])
    plots.layer_norms(nothing, tmp_path / "a.png")


def test_norms_without_an_epoch_say_what_to_do():
    with pytest.raises(ValueError, match=r"at least one epoch.* pass it to fit"):
        plots.layer_norms(fastbp.Norms([[1.0, 2.0]], [0]))


# -- learning rates ------------------------------------------------------------------------------


def found(losses, rates=None, suggestion=0.1):
    rates = [10.0 ** (k - 4) for k in range(len(losses))] if rates is None else rates
    return SimpleNamespace(rates=rates, losses=losses, suggestion=suggestion)


def test_the_finder_shows_losses_and_its_suggestion():
    figure = plots.learning_rates(found([2.3, 2.2, 1.0, 0.5, 3e9, math.nan]), title="mnist")
    (axes,) = figure.axes
    loss, suggestion = axes.lines
    (usable,) = axes.patches
    assert (usable.get_x(), usable.get_x() + usable.get_width()) == pytest.approx((1e-2, 1e-1))
    assert list(loss.get_xdata()) == [1e-4, 1e-3, 1e-2, 0.1, 1, 10]
    assert list(loss.get_ydata())[:5] == [2.3, 2.2, 1.0, 0.5, 3e9]
    assert set(suggestion.get_xdata()) == {0.1}
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "mean loss per sample")
    low, high = axes.get_ylim()
    assert low < 0.5
    assert 2.3 < high < 3
    words = "loss\n(not finite in 1 of 6)", "usable: 0.01 to 0.1", "suggestion: 0.1"
    assert texts(axes) == list(words)
    assert inside(figure)


@pytest.mark.parametrize(
    "losses", [[2.0], [1.0, 2.0, 9.0], [3.0, 3.0], [0.0, 0.0], [math.nan, 1.0]]
)
def test_losses_of_any_shape_have_limits(losses, tmp_path):
    axes = plots.learning_rates(found(losses), tmp_path / "a.png").axes[0]
    low, high = axes.get_ylim()
    assert low < np.nanmin(losses) < high


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (found([1.0, 2.0], [0.1]), r"need one length; got \(1,\), \(2,\)"),
        (found([]), "losses must hold a finite value"),
        (found([math.nan]), "losses must hold a finite value"),
        (found([1.0], [0.0]), "must be positive and finite"),
        (found([1.0], [math.nan]), "must be positive and finite"),
        (found([1.0], suggestion=-1.0), "must be positive and finite"),
    ],
)
def test_a_finder_that_found_nothing_is_named(wrong, part):
    with pytest.raises(ValueError, match=part):
        plots.learning_rates(wrong)


# -- numbers -------------------------------------------------------------------------------------


def doubling(outputs=1):
    """A network that doubles its inputs."""
    net = network([outputs] * 2, loss="quadratic", output="identity", input_scale=1.0)
    net.from_vector([*(2 * np.eye(outputs)).ravel(), *[0] * outputs])
    return net


def points(collection):
    return np.asarray(collection.get_offsets())


def test_predicted_against_true_with_the_diagonal():
    net, X, y = doubling(), np.array([[0.0], [1], [2]]), np.array([0.0, 1, 6])
    net.notes["label"] = "price"
    figure = plots.predicted(net, X, y, title="houses")
    (axes,) = figure.axes
    np.testing.assert_array_equal(points(axes.collections[0]), [[0, 0], [1, 2], [6, 4]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true price", "predicted price")
    assert axes.get_xlim() == axes.get_ylim()
    x, y_line = axes.lines[0].get_data()
    assert list(x) == list(y_line) == list(axes.get_xlim())
    assert axes.get_title() == "R² 0.758, mean absolute error 1"
    assert figure.get_suptitle() == "houses\n3 samples"
    assert inside(figure)


def test_residuals_against_predictions_and_their_distribution():
    net, X, y = doubling(), np.array([[0.0], [1], [2]]), np.array([0.0, 1, 6])
    left, right = plots.residuals(net, X, y).axes
    np.testing.assert_array_equal(points(left.collections[0]), [[0, 0], [2, -1], [4, 2]])
    assert left.get_ylabel() == right.get_xlabel() == "true - predicted output"
    assert sum(patch.get_height() for patch in right.patches) == 3
    assert texts(right) == ["mean 0.333, deviation 1.25"]


def test_many_samples_are_counted_and_not_hidden():
    net, X = doubling(), np.random.default_rng(0).random((3000, 1))
    figure = plots.predicted(net, X, X)
    counts = figure.axes[0].collections[0].get_array()
    assert counts.sum() == 3000
    assert figure.axes[1].get_ylabel() == "samples (logarithmic)"
    assert inside(figure)
    assert plots.residuals(net, X, X).axes[0].collections[0].get_array().sum() == 3000


@pytest.mark.parametrize(("draw", "most", "panels"), [
    (plots.predicted, 12, 1), (plots.residuals, 4, 2),
])  # fmt: skip
def test_several_outputs_have_a_panel_each_up_to_the_worst_of_many(draw, most, panels):
    net, rng = doubling(15), np.random.default_rng(0)
    X = rng.random((20, 15))
    y = 2 * X + rng.random((20, 15)) * np.arange(15)  # the last ones are worst
    figure = draw(net, X, y)
    assert len(figure.axes) == most * panels
    assert f"the {most} of 15 outputs of lowest R²" in figure.get_suptitle()
    label = figure.axes[-panels].get_xlabel()
    assert label.endswith("output 14")
    three = doubling(3)
    three.notes["label"] = ["a", "$b$", "_c"]
    figure = draw(three, X[:, :3], y[:, :3])
    assert [axes.get_xlabel().split()[-1] for axes in figure.axes[::panels]] == [
        "a", "\\$b\\$", "_c",
    ]  # fmt: skip
    assert inside(figure)


@pytest.mark.parametrize("draw", [plots.predicted, plots.residuals])
def test_predictions_that_overflow_are_left_out_with_a_word(draw, tmp_path):
    net = doubling()
    net.from_vector([3e38, 0])
    figure = draw(net, [[1.0], [2.0], [0.5]], [1.0, 2.0, 3.0], tmp_path / "a.png")
    assert "(not finite in 1 of 3 samples)" in figure.axes[0].get_title()
    assert len(points(figure.axes[0].collections[0])) == 2
    draw(net, [[2.0]], [1.0], tmp_path / "a.png")


# -- several labels ------------------------------------------------------------------------------


def test_each_label_has_its_counts_and_shares():
    net = network([3, 3], output="sigmoid", input_scale=1.0)
    net.from_vector([*np.eye(3).ravel(), *[-0.5] * 3])  # a label where its input is 1
    net.notes["classes"] = ["even", "$prime$", "never"]
    X = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    y = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 1, 0]])
    figure = plots.labels(net, X, y, title="numbers")
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["even", "\\$prime\\$", "never"]
    bars = [[bar.get_width() for bar in bars] for bars in left.containers]
    assert bars == [[1, 2, 0], [1, 1, 0], [1, 0, 0]]  # found, missed, wrongly found
    precision, recall, f1 = (line.get_xdata() for line in right.lines)
    np.testing.assert_allclose(precision, [50, 100, np.nan])
    np.testing.assert_allclose(recall, [50, 200 / 3, np.nan])
    np.testing.assert_allclose(f1, [50, 80, np.nan])
    assert figure.get_suptitle() == "numbers\n50.00 % of 4 samples have all labels right"
    assert inside(figure)


def test_of_many_labels_the_worst_are_shown():
    net, rng = network([3, 50], output="sigmoid"), np.random.default_rng(0)
    figure = plots.labels(net, rng.random((30, 3)), rng.integers(0, 2, (30, 50)))
    assert len(figure.axes[0].get_yticks()) == 40
    assert "the 40 of 50 labels of lowest F1" in figure.get_suptitle()
    assert inside(figure)


# -- all of them ---------------------------------------------------------------------------------

NUMBERS = network([3, 1], loss="quadratic", output="identity"), np.eye(3), np.ones(3)
SEVERAL = network([3, 2], output="sigmoid"), np.eye(3), np.eye(3)[:, :2]
PICTURES = {
    "predicted": lambda *words: plots.predicted(*NUMBERS, *words),
    "residuals": lambda *words: plots.residuals(*NUMBERS, *words),
    "labels": lambda *words: plots.labels(*SEVERAL, *words),
    "rows": lambda *words: plots.mistakes(network([3, 2]), np.eye(3), [0, 1, 1], *words),
    "columns": lambda *words: plots.first_layer(network([3, 2]), *words),
    "curves": lambda path, title: plots.learning_curves(history(3), path, title),
    "runs": lambda path, title: plots.learning_curves({1: history(3), 2: history(3)}, path, title),
    "confusion": lambda *words: plots.confusion_matrix(*IMAGES, *words),
    "mistakes": lambda *words: plots.mistakes(*IMAGES, *words),
    "weights": lambda *words: plots.first_layer(IMAGES[0], *words),
    "norms": lambda *words: plots.layer_norms(recorded(2, 2), *words),
    "learning-rate": lambda *words: plots.learning_rates(found([2.0, 1.0]), *words),
}
IMAGES = network([16, 3]), np.random.default_rng(0).random((6, 16)), np.arange(6) % 3
TITLE = "no $\\formula{$ " + "and long " * 30


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_written_and_its_title_is_no_formula(draw, tmp_path):
    figure = draw(tmp_path / "a.png", TITLE)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert figure.get_suptitle().startswith("no $\\formula{$ and")
    assert inside(figure)


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_no_picture_is_drawn_where_it_cannot_be_written(draw, tmp_path):
    with pytest.raises(ValueError, match=r"path must end in .*got .*a\.foo"):
        draw(tmp_path / "a.foo", None)
    with pytest.raises(FileNotFoundError):
        draw(tmp_path / "nowhere" / "a.png", None)


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_says_what_to_install(draw, without_matplotlib):
    with pytest.raises(ImportError, match=r"pip install matplotlib"):
        draw("a.png", None)


WRONG = {  # what makes no sense: the network's task, the picture, what it says
    "confusion of numbers": (plots.confusion_matrix, "numbers", "draw predicted or residuals"),
    "mistakes of numbers": (plots.mistakes, "numbers", "draw predicted or residuals"),
    "labels of numbers": (plots.labels, "numbers", "draw predicted or residuals"),
    "confusion of labels": (plots.confusion_matrix, "labels", "draw labels"),
    "mistakes of labels": (plots.mistakes, "labels", "draw labels"),
    "predicted of labels": (plots.predicted, "labels", "draw labels"),
    "residuals of classes": (plots.residuals, "classes", "draw the confusion matrix or mistakes"),
    "labels of classes": (plots.labels, "classes", "draw the confusion matrix or mistakes"),
}


@pytest.mark.parametrize(("draw", "task", "words"), WRONG.values(), ids=WRONG)
def test_what_makes_no_sense_is_refused_and_says_what_does(draw, task, words, tmp_path):
    arguments = {"numbers": NUMBERS, "labels": SEVERAL, "classes": IMAGES}[task]
    with pytest.raises(ValueError, match=f"needs .*; got .*{words}$"):
        draw(*arguments, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_the_sigmoids_of_the_book_are_of_one_class():
    """Nielsen's networks: of several sigmoids, the largest is the class."""
    for net in (network([16, 3], loss="quadratic", output="sigmoid"),
                network([16, 3], output="sigmoid")):  # fmt: skip
        assert len(plots.confusion_matrix(net, *IMAGES[1:]).axes) == 3


def test_colours_are_okabe_and_itos():
    assert set(curves.OKABE_ITO) < {
        "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
    }  # fmt: skip
    assert len(set(curves.OKABE_ITO)) == 7


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="history must hold at least one epoch"):
        plots.learning_curves(History())
    with pytest.raises(ValueError, match=r"path must end in \..*\.png.*got .*a\.foo"):
        plots.learning_curves(history(2), tmp_path / "a.foo")
    with pytest.raises(FileNotFoundError):
        plots.learning_curves(history(2), tmp_path / "nowhere" / "a.png")


def test_without_matplotlib_the_error_says_what_to_install(without_matplotlib):
    for call in (plots.check, lambda: plots.learning_curves(history(2))):
        with pytest.raises(ImportError, match=r"pip install matplotlib"):
            call()


def test_a_figure_is_one_of_matplotlib_s_and_can_be_copied():
    from matplotlib.figure import Figure

    figure = plots.learning_curves(History(loss=[1.0, 0.5]))
    assert isinstance(figure, Figure)
    for copied in (pickle.loads(pickle.dumps(figure)), figure):
        png, size = copied._repr_png_()
        assert png.startswith(b"\x89PNG")
        inches = figure.get_size_inches()
        assert [size["width"], size["height"]] == [round(96 * n) for n in inches]
    assert png[16:24] == struct.pack(">2I", *(150 * inches).astype(int))  # finer than the screen
    small = io.BytesIO()
    figure.savefig(small, dpi=50)
    assert small.getvalue()[16:24] == struct.pack(">2I", *(50 * inches).astype(int))
    assert figure.dpi == 96  # as which %matplotlib inline shows it
