"""# A layer of your own, and its gradient checked

`Sequential` chains layers. A layer of your own has `forward` and `backward`, and `gradcheck` finds
where its gradient is wrong.
"""

# %%
# ## The layer
#
# A residual connection: what comes in is added to what a dense layer with tanh makes of it.
import numpy as np

import fastbp


class Residual:
    """x + tanh(x W + b)."""

    def __init__(self, width, seed):
        rng = np.random.default_rng(seed)
        self.W, self.b = rng.normal(size=(width, width)) / np.sqrt(width), np.zeros(width)

    def forward(self, x):
        self.x, self.a = x, np.tanh(x @ self.W + self.b)
        return x + self.a

    def backward(self, dout):
        dz = dout * (1 - self.a**2)
        self.dW, self.db = self.x.T @ dz, dz.sum(axis=0)
        return dout + dz @ self.W.T


rng = np.random.default_rng(0)
X = rng.normal(size=(4, 6))
print(fastbp.gradcheck(Residual(6, seed=0), X))


# %%
# ## A mistake, found
#
# This one forgets that x also reaches the output directly.
class Forgetful(Residual):
    def backward(self, dout):
        return super().backward(dout) - dout


print(fastbp.gradcheck(Forgetful(6, seed=0), X))

# %%
# ## Training with it
#
# Between two dense layers, on the digits. `parameters` tells `Sequential` what to train; the step
# of gradient descent is written by hand.
Residual.parameters = ("W", "b")


def dense(n_in, n_out):
    return fastbp.Affine(rng.normal(size=(n_in, n_out)) / np.sqrt(n_in), np.zeros(n_out))


X, y, X_test, y_test = fastbp.datasets.load("digits")
net = fastbp.Sequential([dense(64, 32), fastbp.Tanh(), Residual(32, seed=1), dense(32, 10)])
for _ in range(20):
    for rows in np.array_split(rng.permutation(len(X)), len(X) // 20):
        for name, slope in net.gradient(X[rows] / 16, y[rows]).items():
            net.params[name] -= 0.2 * slope
print(f"test accuracy {net.accuracy(X_test / 16, y_test):.3f}")

# %%
# The whole chain can be checked as well:
fastbp.gradcheck(net, X[:3] / 16, y[:3])
