"""python -m features keras: what a library has, as JSON, by the rows of the table."""

import importlib
import json
import sys
import warnings

from features import ROWS, found

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    module = importlib.import_module(f"features.with_{sys.argv[1]}")
    cells = {row: found(module.FEATURES[row]) for row in ROWS}
print("\n" + json.dumps(cells))  # behind the bars that Keras prints
