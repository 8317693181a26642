"""A user's program, as `mypy --strict` has to take it: scripts/check runs that, a test runs this.

Each `assert_type` says what a reader of the code may rely on.
"""

import os
import tempfile
from collections.abc import Mapping, MutableMapping
from typing import Any, assert_type

import numpy as np

import fastbp
from fastbp import callbacks, datasets, interchange, plots, report, schedules


class Watch:
    """A callback."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_epoch_end(self, net: fastbp.Network, history: fastbp.History) -> None:
        self.losses.append(history.loss[-1])


def train(folder: str) -> fastbp.Network:
    data = datasets.load("digits")
    assert_type(data, datasets.Dataset)
    assert_type(data.X_train, np.ndarray)
    net = fastbp.Network([64, 8, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    fastbp.Network([64, 8, 10], ["silu"], loss=fastbp.losses.Huber(0.5), dropout=[0.1])
    watch = Watch()
    history = net.fit(
        data.X_train, data.y_train, epochs=2, batch_size=10, learning_rate=0.5,
        validation_data=(data.X_test, data.y_test), callbacks=[watch], threads=1,
    )  # fmt: skip
    assert_type(history, fastbp.History)
    chunks = [(data.X_train[:700], data.y_train[:700]), (data.X_train[700:], data.y_train[700:])]
    assert_type(net.fit(chunks, epochs=1, batch_size=10, learning_rate=0.1), fastbp.History)
    assert len(history) == len(watch.losses) == 2
    assert_type(history.to_frame(), Any)  # a frame of pandas
    print(history.plot(), net.summary().splitlines())
    net.update_mini_batch(data.X_train[:3], [0, 1, 2], 0.1)
    assert_type(net.SGD((data.X_train, data.y_train), 1, 10, 0.1), fastbp.History)
    assert_type(net.accuracy(data.X_test, data.y_test), float)
    assert_type(net.evaluate(data.X_test, data.y_test), int)
    assert_type(net.loss(data.X_test, data.y_test), float)
    assert_type(net.feedforward(data.X_test), np.ndarray)
    predicted = net.predict(data.X_test[0].tolist())
    assert_type(predicted, np.ndarray | np.number[Any])
    assert_type(net.weights, tuple[np.ndarray, ...])
    assert_type(net.biases, tuple[np.ndarray, ...])
    assert_type(net.params, np.ndarray)
    assert_type(net.sizes, tuple[int, ...])
    assert_type(net.config, Mapping[str, Any])
    gradient = net.gradient(data.X_train[:2], data.y_train[:2])
    assert_type(gradient, fastbp.Gradient)
    assert_type(gradient.weights, tuple[np.ndarray, ...])
    assert_type(gradient.loss, float)
    assert_type(gradient.to_vector(), np.ndarray)
    nabla_b, nabla_w = net.backprop(data.X_train[0], 3)
    assert_type((*nabla_b, *nabla_w), tuple[np.ndarray, ...])
    net.from_vector(net.to_vector())
    run = os.path.join(folder, "run.safetensors")
    options = data.X_train, data.y_train
    net.fit(*options, epochs=1, batch_size=10, learning_rate=0.5, checkpoint=run)
    more = net.fit(*options, epochs=2, batch_size=10, learning_rate=0.5, resume=run)
    assert_type(more, fastbp.History)
    path = os.path.join(folder, "net.safetensors")
    net.save(path)
    assert_type(fastbp.load(path), fastbp.Network)
    return net


def check(net: fastbp.Network) -> None:
    report = fastbp.gradcheck(fastbp.Network([3, 2], dtype=np.float64), np.eye(3), [0, 1, 0])
    assert_type(report.ok, bool)
    assert_type(report.max_error, float)
    for array in report.layers:
        assert_type(array.index, tuple[int, ...] | None)
    X = np.zeros((1, net.sizes[0]))
    assert_type(fastbp.get_backend("numpy").softmax(net.feedforward(X)), Any)


def graph() -> None:
    price = fastbp.Mul().forward(100, 2) + fastbp.Add().forward([1.0], 2)
    assert_type(price, Any)  # a number or an array, as what went in
    affine = fastbp.Affine(np.ones((3, 2)), np.zeros(2))
    assert_type(affine.forward([[1, 2, 3]]), np.ndarray)
    assert_type(affine.backward(), np.ndarray)
    assert_type(affine.dW, np.ndarray | None)
    model = fastbp.Sequential([affine, fastbp.ReLU(), fastbp.Sigmoid(), fastbp.Tanh()])
    assert_type(model, fastbp.Sequential)
    assert_type(model.params, MutableMapping[str, np.ndarray])
    assert_type(model.gradient([[1, 2, 3]], [1]), dict[str, np.ndarray])
    assert_type(fastbp.Sequential.mlp([3, 2]).loss(np.eye(3), [0, 1, 0]), float)
    assert_type(fastbp.SoftmaxWithLoss().forward([[1, 2]], [0]), float)


class Halving:
    """A schedule."""

    def rate(self, epoch: int, history: fastbp.History) -> float:
        return 0.5 ** (1 + epoch)


def steer(folder: str) -> None:
    X, y, *_ = datasets.load("digits")
    net = fastbp.Network([64, 8, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
    found = fastbp.find_learning_rate(net, X, y, batch_size=10)
    assert_type(found.suggestion, float)
    assert_type(found.losses, np.ndarray)
    stopping = callbacks.EarlyStopping("loss", patience=2)
    log = callbacks.CSVLog(os.path.join(folder, "log.csv"))
    rules: list[schedules.Schedule] = [schedules.Cosine(found.suggestion, epochs=2), Halving()]
    for rule in rules:
        net.fit(X, y, epochs=2, batch_size=10, learning_rate=rule, callbacks=[stopping, log])
    assert_type(stopping.best.epoch, int)


def export(net: fastbp.Network, folder: str) -> None:
    path = os.path.join(folder, "theirs.safetensors")
    interchange.write_torch(net, path)
    assert_type(interchange.read(path, activation="relu"), fastbp.Network)
    assert_type(interchange.torch_code(net, path), str)
    try:
        interchange.write_onnx(net, os.path.join(folder, "net.onnx"), inputs="uint8")
        assert_type(interchange.from_sklearn(interchange.to_sklearn(net)), fastbp.Network)
    except ImportError:
        pass  # extras


def look(net: fastbp.Network, folder: str) -> None:
    X, y, X_test, y_test = datasets.load("digits")
    norms = fastbp.Norms(X[:50], y[:50])
    history = net.fit(X, y, epochs=1, batch_size=10, learning_rate=0.1, callbacks=[norms])
    assert_type(norms.deltas, list[tuple[float, ...]])
    try:
        plots.check("curves.svg")
    except ImportError:
        return  # an extra
    plots.learning_curves({"first": history, "second": history}, title="twice")
    plots.layer_norms(norms, os.path.join(folder, "norms.png"))
    plots.first_layer(net, X=X)
    numbers = fastbp.Network([64, 1], output="identity", input_scale=1 / 16)
    plots.residuals(numbers, X_test, y_test, title=plots.predicted(numbers, X, y).get_suptitle())
    path = os.path.join(folder, "report.html")
    report.write(path, net, X_test, y_test, history=history, norms=norms, title="digits")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        net = train(folder)
        check(net)
        graph()
        steer(folder)
        export(net, folder)
        look(net, folder)
    try:
        fastbp.load("nowhere")
    except (OSError, fastbp.ModelFileError, fastbp.DivergenceError):
        pass
    fastbp.show_versions()


if __name__ == "__main__":
    main()
