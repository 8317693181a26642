"""# Handwritten digits: MNIST

60,000 images of 28 x 28 pixels for training, 10,000 for testing. Where MNIST is neither on the
machine nor can be downloaded, the 1,797 digits that come with the package take its place.
"""

# %%
import fastbp

try:
    X, y, X_test, y_test = fastbp.datasets.load("mnist")
except (OSError, ImportError):  # no network, or no pooch
    X, y, X_test, y_test = fastbp.datasets.load("digits")
print(X.shape, X.dtype, X_test.shape)

# %%
# ## Training
#
# The bytes are taken as they are: `input_scale` is applied on the fly, and zeros are skipped.
net = fastbp.Network(
    [X.shape[1], 100, 10],
    activation="relu",
    loss="cross-entropy",
    input_scale=1 / int(X.max()),
    seed=0,
)
history = net.fit(X, y, epochs=6, batch_size=32, learning_rate=0.1, validation_split=0.1, threads=2)
history

# %%
print(f"test accuracy {net.accuracy(X_test, y_test):.4f}")
print(f"{max(history.samples_per_second):,.0f} images per second")

# %%
# ## Which images are wrong?
fastbp.plots.mistakes(net, X_test, y_test)

# %%
fastbp.plots.confusion_matrix(net, X_test, y_test)

# %%
# ## What the first layer looks at
#
# The weights between the pixels and each hidden neuron, as images.
fastbp.plots.first_layer(net)
