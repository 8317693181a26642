"""Prints an attribute of fastbp after a bare `import fastbp`: its name is the argument."""

import sys

import fastbp

print(getattr(fastbp, sys.argv[1]))
