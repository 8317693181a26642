"""Save networks until killed, one child for each line of standard input; argv: the file.

A child saves networks whose parameters are all k, for k = 0, 1, 2, ... Its end comes by an alarm
that nobody handles, so that the kernel ends it between any two instructions, as SIGKILL does; the
alarm is set right before a save, for a moment within the time that the save before took.
Prints a line for each child: the signal that ended it.
"""

import itertools
import os
import random
import signal
import sys
import time

import numpy as np

import fastbp


def save_until_killed(net, path):
    random.seed()  # other moments each time
    size, seconds = net.to_vector().size, 0.0
    for k in itertools.count():
        net.from_vector(np.full(size, k % 1000, np.float32))
        started = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0, seconds))  # the first time: none
        net.save(path)
        signal.setitimer(signal.ITIMER_REAL, 0)
        seconds = time.perf_counter() - started


signal.signal(signal.SIGALRM, signal.SIG_DFL)
network = fastbp.Network([256, 256, 256, 10], seed=0)
network.save(sys.argv[1])  # all is imported that children need
for _ in sys.stdin:
    child = os.fork()
    if not child:
        save_until_killed(network, sys.argv[1])
    print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
