"""One peer in a process of its own, told by lines on standard input what to do.

The first line is the task; it is answered by {"ready": ...}. Each later one, {"seconds": s}, is
answered by a slice of about so many seconds. All lines are JSON.
"""

import json
import os
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # so that `peers` is found, and its parts
GROWTH = 100  # a first call may be a thousand times slower than the next


def slice_of(job, seconds, n):
    """Run whole epochs, or calls, for about this time; return what was measured, and the next n."""
    while True:
        job.reset()
        started, worked = time.perf_counter(), time.process_time()
        done = job.run(n)
        took, worked = time.perf_counter() - started, time.process_time() - worked
        wanted = max(1, min(round(n * seconds / took), GROWTH * n))
        if took > seconds / 2 or wanted == n:
            break
        n = wanted  # the first slice is for finding the right size
    measured = {"seconds": took, "cpu_seconds": worked, "n": n, "rate": n * job.count / took}
    return {**measured, **done._asdict()}, wanted


def serve(lines, answer):
    """Do what the lines ask for."""
    spec = json.loads(next(lines))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec["cores"])  # before any library counts the cores
    from peers import NotApplicable
    from peers.work import read_task

    module = import_module(f"peers.{spec['module']}")
    try:
        job = module.build(read_task(spec["folder"], spec["threads"]), spec["variant"])
    except NotApplicable as reason:
        return answer({"not_applicable": str(reason)})
    job.reset()
    job.run(1)  # compiles
    answer({"ready": True})
    n = 1
    for line in lines:
        measured, n = slice_of(job, json.loads(line)["seconds"], n)
        answer(measured)


def main():
    """Serve on the pipes; what libraries print goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(message):
        print(json.dumps(message), file=channel, flush=True)

    try:
        serve(iter(sys.stdin.readline, ""), answer)
    except Exception as error:  # whatever a library raises is for the parent to report
        traceback.print_exc()
        answer({"failed": f"{type(error).__name__}: {error}".splitlines()[0]})


if __name__ == "__main__":
    main()
