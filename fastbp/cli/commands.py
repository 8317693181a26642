"""All commands: where their functions are, their options, and the texts of their help."""

from .options import SETS, Command

READ = "--data --data-dir --label --no-header --separator --decimal"  # how data are found and read
NETWORK = "--hidden --activation --loss --label-smoothing --dropout --no-bias --init --dtype"
STEPS = "--batch-size --optimizer --l2 --l1 --weight-decay --clip-norm --seed --threads --backend"
_OF_TRAINING = {"default": "digits"}
_OPTIONAL = {"nargs": "?"}


def _trained(help: str) -> dict[str, str]:
    return {"help": f"{help} (default: what the model was trained on)"}


COMMANDS = [
    Command(
        "train.train",
        f"{READ} --task --validation-split {NETWORK} {STEPS} --epochs --learning-rate --schedule "
        "--by-step --warmup --early-stopping --class-weight --distributed --sync-every --output "
        "--checkpoint --resume "
        "--checkpoint-every --plot --log --json --quiet",
        r"""Train a network, save it, draw its curves.

The test samples are evaluated once, at the end. A tenth of the training samples, of each class
alike, is held out of the training for validation and evaluated after each epoch.

Integer inputs are scaled by 1/max of the training images (1/16 for the digits, 1/255 for images of
bytes). The columns of a table are standardised, each by its mean and deviation, but for 64 or more
columns of bytes with one range, which are pixels. The model takes inputs as they are: it stores the
scales, and remembers its data and options for the other commands.

A column of texts, or of few different whole numbers, is learnt as classes, by name; another column
of numbers as numbers, with a loss in units of their standard deviation. Scores come with a
baseline: the share of the largest class, or the error of the mean of the training targets.

A model without --output is named after its data, and replaces one of the same data only.

shell examples:
  fastbp train                                  the bundled digits, a second
  fastbp train --data mnist --hidden 100,100 --threads 2
  fastbp train --data mnist --hidden 30 --activation sigmoid --loss quadratic \
      --init normal --learning-rate 3.0         the network of Nielsen's book
  fastbp train --data wine.csv --label cultivar
  fastbp train --data diabetes.csv --label progression --early-stopping 10
  fastbp train --data diabetes.csv --label progression --loss quantile,q=0.9
  fastbp train --data mnist --hidden 512,512 --activation gelu --dropout 0.3
  fastbp train --epochs 200 --early-stopping 10 --schedule cosine --log epochs.csv
  fastbp train --epochs 9999 --checkpoint run.safetensors   stop it with Ctrl-C, and continue:
  fastbp train --epochs 9999 --checkpoint run.safetensors --resume run.safetensors
  mpiexec -n 4 fastbp train --distributed --data mnist --hidden 512,512 --batch-size 512
  fastbp train --quiet --json | jq .test_accuracy""",
        {"data": _OF_TRAINING},
    ),
    Command(
        "train.find_learning_rate",
        f"{READ} --task {NETWORK} {STEPS} --json",
        """Suggest a learning rate for a network, data, optimizer and batch size.

Trains a copy at growing rates until the loss explodes, which takes about a second. Pass the
options that `fastbp train` will get.

shell examples:
  fastbp find-learning-rate --activation sigmoid --loss quadratic
  fastbp find-learning-rate --data mnist --batch-size 100 --json > rates.json""",
        {"data": _OF_TRAINING},
    ),
    Command(
        "use.evaluate",
        f"model {READ} --backend --json",
        """Print how well a model predicts test samples: accuracy or R2 and MAE, and loss.

Beside them stands what a constant answer gets: the largest class, or the mean of the training
targets. Of a table other than that of the training, all rows are test samples.

shell examples:
  fastbp evaluate digits.safetensors            on the test samples of what it was trained on
  fastbp evaluate mnist.safetensors --data other-images.npz --json""",
        {"data": _trained(f"test samples of {SETS}")},
    ),
    Command(
        "use.predict",
        f"model {READ} --backend --proba --output",
        """Print the class of each sample, one per line; or numbers, if the model predicts these.

Of several sigmoids with cross-entropy each is a class, 0 or 1. Models whose output is identity,
tanh, relu or exp predict numbers. Several in a line are separated by commas.

shell examples:
  fastbp predict digits.safetensors | head
  fastbp predict mnist.safetensors --data images.npy --proba --output outputs.csv
  fastbp predict wine.safetensors --data other-bottles.csv""",
        {
            "data": _trained(f"all rows of a .npy or .csv file, or test samples of {SETS}"),
            "label": {
                "help": "a column of a .csv to leave out; that of the classes is, if it is there"
            },
            "output": {"help": "the file to write (default: stdout)"},
        },
    ),
    Command(
        "use.export",
        "model out --inputs",
        """Write a model in the format of another program.

The suffix of OUT says which: .onnx is ONNX, .safetensors is a state_dict of PyTorch. The outputs
are equal to rounding, for the same inputs: the scale of a model's inputs is part of the ONNX graph,
and multiplied into the first weights for PyTorch. Columns and classes go with the model, what it
was trained on does not. For scikit-learn, see fastbp.interchange.to_sklearn.

shell examples:
  fastbp export digits.safetensors digits.onnx --inputs uint8
  fastbp export digits.safetensors digits-torch.safetensors""",
    ),
    Command(
        "use.convert",
        "file out --activation --output-activation --loss --input-scale --order",
        """Read a model of another program, write one of fastbp.

The suffix of FILE says its format. In PyTorch, write the file with
safetensors.torch.save_file(model.state_dict(), FILE). Of an ONNX graph, dense layers and their
activations are understood. For scikit-learn, see fastbp.interchange.from_sklearn.

shell examples:
  fastbp convert theirs.safetensors mine.safetensors --activation relu --loss cross-entropy
  fastbp convert theirs.onnx mine.safetensors""",
        {
            "out": {"help": "the model of fastbp to write: .safetensors"},
            "activation": {
                "default": None,
                "help": "of the hidden layers; missing in a state_dict",
            },
            "loss": {"default": None, "help": "for further training; missing in a state_dict"},
        },
    ),
    Command(
        "use.plot",
        f"kind files {READ} --backend --output --json",
        """Draw a picture of a model, or of its training.

curves         loss and accuracy over the epochs; of several runs, named by what differs
confusion      how many test samples of each class are taken for which
mistakes       the test samples that the model is most confidently wrong about
predicted      predicted against true numbers
residuals      what the predictions of numbers leave, and how it is distributed
weights        the first layer's weights: images, or a heat map of a table's columns
norms          the size of activations and deltas in each layer: do gradients vanish?
learning-rate  the loss over growing learning rates, as find-learning-rate tried them

curves and norms read the history that train writes beside its model: MODEL.history.jsonl.

shell examples:
  fastbp plot curves digits.safetensors
  fastbp plot curves a.safetensors b.safetensors --output both.svg
  fastbp plot mistakes mnist.safetensors
  fastbp find-learning-rate --json > rates.json && fastbp plot learning-rate rates.json""",
        {
            "data": _trained(f"for pictures of predictions: test samples of {SETS}"),
            "output": {"help": "a .png, .svg or .pdf (default: MODEL-KIND.png beside the model)"},
        },
    ),
    Command(
        "use.report",
        f"model {READ} --backend --output --json",
        """Write one HTML page about a model: figures of each class, all pictures.

The page is one file, images included, and loads nothing. Learning curves and norms need the
history that train writes beside its model.

shell examples:
  fastbp report digits.safetensors
  fastbp report mnist.safetensors --output page.html""",
        {
            "data": _trained(f"test samples of {SETS}"),
            "output": {"help": "the page (default: MODEL-report.html beside the model)"},
        },
    ),
    Command(
        "check.gradcheck",
        "model --sizes --activation --loss --label-smoothing --dropout --no-bias --samples --seed "
        "--backend --json",
        """Compare back-propagation with central differences; exit code 1 if they differ.

The last line begins with the verdict: ok, NOT ok, or "undecided at a kink" if nothing differs
but for entries, named in the table, at which differences cannot decide (exit code 0).

shell examples:
  fastbp gradcheck --sizes 10,20,5 --activation tanh --loss cross-entropy
  fastbp gradcheck digits.safetensors""",
        {
            "model": {
                **_OPTIONAL,
                "help": "check this model, not a random network of these options",
            },
            "activation": {"default": "sigmoid", "help": "of the hidden layers"},
            "loss": {"default": "quadratic"},
            "seed": {"help": "of weights and samples"},
        },
    ),
    Command(
        "check.verify",
        "--quick --json",
        """Check on this machine that the kernels equal the reference.

Compares every kernel, dtype, path and number of threads with the reference, that with finite
differences. Prints the largest errors and those allowed. Exit code 1 if any is larger.

shell examples:
  fastbp verify --quick
  fastbp verify --json | jq .ok""",
    ),
    Command(
        "check.warmup",
        "--dtype",
        """Compile the kernels, once per machine.

Training compiles what it needs at its first use. In an image or on a cluster, do it beforehand,
with NUMBA_CACHE_DIR set to a folder that all find there; it need not be writable later.""",
        {"dtype": {"choices": ("float32", "float64", "both"), "default": "both"}},
    ),
    Command(
        "check.info",
        "model --json",
        """Show versions, CPU, vector width, threads and cache, for bug reports; or a model.

Of a model: its layers, sizes and work, and what it was trained on.

shell examples:
  fastbp info
  fastbp info digits.safetensors""",
        {"model": {**_OPTIONAL, "help": "show this model"}},
    ),
]
