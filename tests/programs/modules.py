"""Prints the names of all modules that importing one brings: modules.py MODULE."""

import importlib
import sys

importlib.import_module(sys.argv[1])
print(*sorted(sys.modules))
