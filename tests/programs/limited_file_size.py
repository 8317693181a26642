"""Save a network where a file may have 4 KiB; print the error's number and words; argv: a path."""

import resource
import sys

import fastbp

net = fastbp.Network([64, 64, 10], seed=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    net.save(sys.argv[1])
except OSError as error:
    print(error.errno, error)
