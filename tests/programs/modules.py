"""Prints the names of all modules that importing some brings: modules.py MODULE ..."""

import importlib
import sys

for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sorted(sys.modules))
