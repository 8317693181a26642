"""A peer's worker that dies or hangs: failing_worker.py dies|hangs ANSWERS.

It answers so many questions, and fails on the next.
"""

import sys
import time

for _ in range(int(sys.argv[2])):
    sys.stdin.readline()
    print('{"ready": true}', flush=True)
sys.stdin.readline()
if sys.argv[1] == "hangs":
    time.sleep(60)
sys.exit("a line before\nno memory left")
