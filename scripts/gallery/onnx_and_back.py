"""# To ONNX and back

A network is trained here, runs elsewhere without fastbp, and comes back. An ONNX file contains the
scaling of the inputs, so that the other program passes raw bytes.
"""

# %%
import fastbp

X, y, X_test, y_test = fastbp.datasets.load("digits")
net = fastbp.Network([64, 30, 10], loss="cross-entropy", input_scale=1 / 16, seed=0)
net.fit(X, y, epochs=20, batch_size=10, learning_rate=0.5)
print(f"test accuracy {net.accuracy(X_test, y_test):.4f}")

# %%
# ## There
#
# onnxruntime knows nothing of fastbp.
import onnxruntime

fastbp.interchange.write_onnx(net, "digits.onnx", inputs="uint8")
session = onnxruntime.InferenceSession("digits.onnx")
(outputs,) = session.run(None, {"X": X_test})
print(f"test accuracy {(outputs.argmax(axis=1) == y_test).mean():.4f}")
print(f"largest difference of an output {abs(outputs - net.feedforward(X_test)).max():.1e}")

# %%
# ## And back
again = fastbp.interchange.read("digits.onnx")
print(again)
print(f"same classes: {bool((again.predict(X_test) == net.predict(X_test)).all())}")

# %%
# ## For PyTorch
#
# A `state_dict` holds arrays alone. `torch_code` returns the program that builds the module and
# loads them.
fastbp.interchange.write_torch(net, "digits-torch.safetensors")
print(fastbp.interchange.torch_code(net, "digits-torch.safetensors"))
