"""# A table: three kinds of wine

The wine table of scikit-learn has 178 wines of three growers, with 13 measured quantities each,
from 0.1 to 1,680. The network standardises the columns itself, and keeps that with the model.
"""

# %%
# ## The table as a file
#
# Two lines write it as a CSV file, whose last column is the grower.
from sklearn.datasets import load_wine

wine = load_wine(as_frame=True)
wine.frame.assign(target=wine.target_names[wine.target]).to_csv("wine.csv", index=False)
wine.frame.describe().loc[["mean", "std", "min", "max"]].iloc[:, :5].round(2)

# %%
# `load` holds every fifth row of each class out for testing.
import fastbp

data = fastbp.datasets.load("wine.csv", label="target")
X, y, X_test, y_test = data
print(X.shape, X_test.shape, data.notes["classes"])

# %%
# ## Training
#
# `validation_split=0.1` holds a tenth of the training rows out and evaluates it after each epoch.
net = fastbp.Network([13, 20, 3], loss="cross-entropy", scale="standard", seed=0)
net.notes = dict(data.notes)  # names of columns and classes, for pictures and the command line
history = net.fit(X, y, epochs=60, batch_size=10, learning_rate=0.1, validation_split=0.1)
history.plot()

# %%
# ## The result
#
# The largest class makes up 40 % of the wines. This is the share that is classified right:
print(f"test accuracy {net.accuracy(X_test, y_test):.3f}")

# %%
fastbp.plots.confusion_matrix(net, X_test, y_test)

# %%
# Which quantities speak for which neuron? The columns are standardised, so that the weights of
# different columns can be compared.
fastbp.plots.first_layer(net)

# %%
# ## Keeping the model
#
# Mean and deviation are saved with the network. So whoever loads it passes raw columns.
net.save("wine.safetensors")
print(fastbp.load("wine.safetensors").predict(X_test[:5]), y_test[:5])
