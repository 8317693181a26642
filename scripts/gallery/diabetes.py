"""# A regression: the progression of diabetes

The diabetes table of scikit-learn has 442 patients with ten quantities each. The target is a
measure of how far the disease went a year later, a number from 25 to 346.
"""

# %%
from sklearn.datasets import load_diabetes

load_diabetes(as_frame=True, scaled=False).frame.to_csv("diabetes.csv", index=False)

import fastbp

data = fastbp.datasets.load("diabetes.csv", label="target")
X, y, X_test, y_test = data
print(data.notes["task"], X.shape, X_test.shape, y[:5])

# %%
# ## Training
#
# An output of numbers is `output="identity"`, and the loss is the quadratic one. The targets are
# brought to mean 0 and deviation 1, which makes the learning rate one of the usual size.
mean, deviation = y.mean(), y.std()
net = fastbp.Network([10, 20, 1], output="identity", scale="standard", seed=0)
stopping = fastbp.callbacks.EarlyStopping(patience=20)
history = net.fit(
    X,
    (y - mean) / deviation,
    epochs=300,
    batch_size=10,
    learning_rate=0.01,
    validation_split=0.1,
    callbacks=[stopping],
)
history.plot()

# %%
# ## The result
#
# To predict the mean for everybody is the baseline. R2 is the share of the variance that the
# network explains; about 0.5 is what other methods reach on this table.
predicted = mean + deviation * net.predict(X_test)
error, baseline = abs(predicted - y_test).mean(), abs(mean - y_test).mean()
r2 = 1 - ((predicted - y_test) ** 2).sum() / ((y_test - y_test.mean()) ** 2).sum()
print(f"mean absolute error {error:.1f} (baseline {baseline:.1f}), R2 {r2:.2f}")

# %%
# ## In the unit of the target
#
# The output layer can be put back into the unit of the target, since its activation is the
# identity. From then on the network predicts the numbers of the table.
net.weights[-1][...] *= deviation
net.biases[-1][...] = mean + deviation * net.biases[-1]
net.notes = dict(data.notes)
fastbp.plots.predicted(net, X_test, y_test)

# %%
# The errors should not depend on what is predicted:
fastbp.plots.residuals(net, X_test, y_test)
