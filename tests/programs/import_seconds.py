"""Prints the CPU seconds that importing a module takes: import_seconds.py MODULE."""

import importlib
import sys
import time

begun = time.process_time()
importlib.import_module(sys.argv[1])
print(time.process_time() - begun)
